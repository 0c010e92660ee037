//! What one side's half of a plan leaves behind: for the index, and for the next round of a watch.

use super::work::Work;
use crate::core::digest::Digest;
use crate::core::path::RelPath;
use crate::core::plan::Act;
use crate::core::snapshot::{File, Node};
use crate::replica::index::{Change, Entry};

impl Work {
    /// Where this side acts.
    pub(crate) fn acted(&self) -> Vec<RelPath> {
        let items = self.plan.items.iter().filter(|item| *item.act.of(self.side) != Act::Nothing);
        let moves = self.arrangement().moves.iter().chain(&self.arrangement().folder_moves);
        let ends = moves.flat_map(|moved| [moved.from.clone(), moved.to.clone()]);
        items.map(|item| item.path.clone()).chain(ends).collect()
    }

    /// What the index is to learn of a run: what the scan saw, what was sent, and what was `placed`.
    pub(crate) fn learned(&self, placed: Vec<Change>) -> Vec<Change> {
        let seen = self.scanned.changes.iter().cloned();
        seen.chain(self.sent_rows()).chain(placed).collect()
    }

    /// What the index is to learn of the files that this side sent: no file is read again only to be hashed.
    pub(crate) fn sent_rows(&self) -> Vec<Change> {
        let mut sent: Vec<(u32, Digest)> = std::mem::take(&mut self.state().sent).into_iter().collect();
        // In path order they are found, and written, side by side.
        sent.sort_unstable_by_key(|(item, _)| *item);
        let row = |(item, digest)| {
            let path = self.source_path(item)?;
            let Some(Node::File(file)) = self.scanned.snapshot.find(path) else { return None };
            let hashed = Node::File(File { sha256: Some(digest), ..file.clone() });
            Entry::of(&hashed, self.scanned.started).map(|entry| Change::Put(path.clone(), entry))
        };
        sent.into_iter().filter_map(row).collect()
    }
}
