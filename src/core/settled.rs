//! What both sides hold alike: it is left out of the decision, and the base's rows are brought up to date without one.

use std::collections::HashMap;

use super::age::Timestamp;
use super::base::{Base, BaseEntry, BaseMember, members_of};
use super::digest::Digest;
use super::kept::looks_kept;
use super::merge::Fork;
use super::path::RelPath;
use super::snapshot::{Folder, Node, Snapshot};
use super::version::{Content, Standing};

/// Takes out of a tree what is certainly equal on both sides, and adds it to `settled`. What stays is decided as it
/// would be in the whole tree: see [`reconcile`](super::reconcile::reconcile).
pub fn leave_out(tree: &mut Fork, settled: &mut Vec<RelPath>) {
    leave_out_below(tree, &RelPath::root(), settled);
}

fn leave_out_below(tree: &mut Fork, path: &RelPath, settled: &mut Vec<RelPath>) {
    tree.members.retain_mut(|(name, fork)| {
        let Ok(inner) = path.join(name) else { return true };
        leave_out_below(fork, &inner, settled);
        let equal = fork.one.version().is_some() && fork.one.same(&fork.two);
        if !fork.members.is_empty() || !equal || looks_kept(name) {
            return true;
        }
        // A folder's row is its own; what was below it has been settled path by path.
        match fork.one.version().map(|version| &version.content) {
            Some(Content::Folder) => fork.base != agreed(&fork.one),
            Some(_) => {
                settled.push(inner);
                false
            }
            None => true,
        }
    });
}

fn agreed(standing: &Standing) -> Option<BaseEntry> {
    let version = standing.version()?;
    BaseEntry::of(&version.content, version.bits)
}

/// Folders below which the base is known to be exactly what a tree with this digest holds.
pub type Whole = HashMap<RelPath, Digest>;

/// What the base must learn of what both sides hold alike.
#[derive(Debug, Default)]
pub struct Settled {
    /// The rows that change.
    pub rows: Vec<(RelPath, Option<BaseEntry>)>,
    /// What more is [`Whole`] once these rows are in it.
    pub walked: Vec<(RelPath, Digest)>,
}

/// What the base must learn of what both sides hold alike, which is what stands in `own`: at and below the paths
/// `settled`, and below the folders `settled_below`. Rows of paths about which nothing is known, or that are `excluded`
/// (`true`: as a folder), stay. What is below a folder of `whole` is not looked at again.
pub fn settled_rows(
    own: &Snapshot,
    base: &Base,
    settled: &[RelPath],
    settled_below: &[RelPath],
    excluded: &dyn Fn(&RelPath, bool) -> bool,
    whole: &Whole,
) -> Settled {
    let mut settling = Settling { excluded, whole, found: Settled::default() };
    for path in settled_below {
        match own.find(path) {
            Some(Node::Folder(folder)) => settling.members(path, folder, base.within(path)),
            _ if path.is_root() => settling.members(path, own, base.rows()),
            _ => {}
        }
    }
    for path in settled {
        if let Some(node) = own.find(path) {
            let rows = base.within(path);
            let (row, below) = match rows.split_first() {
                Some(((first, row), below)) if first == path => (Some(row), below),
                _ => (None, rows),
            };
            settling.path(path, node, row, below);
        }
    }
    settling.found
}

/// Brings the base's rows up to what both sides hold, which is what System 2 holds.
struct Settling<'a> {
    excluded: &'a dyn Fn(&RelPath, bool) -> bool,
    whole: &'a Whole,
    found: Settled,
}

impl Settling<'_> {
    /// The rows at and below `path`, where System 2 holds `node`; the base has `row` there, and the rows `below` it.
    fn path(&mut self, path: &RelPath, node: &Node, row: Option<&BaseEntry>, below: &[(RelPath, BaseEntry)]) {
        let Some(entry) = agreed(&node.standing(Timestamp(0))) else { return };
        if row != Some(&entry) {
            self.found.rows.push((path.clone(), Some(entry)));
        }
        let empty = Folder::default();
        self.members(path, if let Node::Folder(folder) = node { folder } else { &empty }, below);
    }

    /// The rows below `path`, where System 2 holds `folder`, and the base has `rows`.
    fn members(&mut self, path: &RelPath, folder: &Folder, rows: &[(RelPath, BaseEntry)]) {
        if folder.digest.is_some() && self.whole.get(path) == folder.digest.as_ref() {
            return;
        }
        // Both are in name order.
        let mut based = members_of(rows, path.depth()).peekable();
        for (name, node) in &folder.members {
            while let Some(gone) = based.next_if(|member| member.name < *name) {
                self.forget(path, &gone);
            }
            let member = based.next_if(|member| member.name == *name);
            let (row, below) = member.map_or((None, &[][..]), |member| (member.entry, member.below));
            if let Ok(inner) = path.join(name) {
                self.path(&inner, node, row, below);
            }
        }
        based.for_each(|gone| self.forget(path, &gone));
        self.found.walked.extend(folder.digest.map(|digest| (path.clone(), digest)));
    }

    /// Both sides have nothing there: its rows go, unless the rules hide it.
    fn forget(&mut self, folder: &RelPath, gone: &BaseMember<'_>) {
        if let (Some(entry), Ok(path)) = (gone.entry, folder.join(&gone.name)) {
            self.forget_row(&path, entry);
        }
        gone.below.iter().for_each(|(path, entry)| self.forget_row(path, entry));
    }

    fn forget_row(&mut self, path: &RelPath, entry: &BaseEntry) {
        if !(self.excluded)(path, entry.as_content().is_folder()) {
            self.found.rows.push((path.clone(), None));
        }
    }
}
