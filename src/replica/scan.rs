//! Takes the snapshot of a root: lists every folder, stats every member, reads no file.
//!
//! Threads share a stack of folders to list. A folder that was listed has a number greater than its parent's, so
//! the tree is put together by going through the numbers backwards.

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use thiserror::Error;

use super::filter::Filter;
use super::index::{Change, Index};
use super::list::Lister;
pub(crate) use super::list::is_nested_state;
use super::pool::{Listed, Pool};
use super::root::Root;
use crate::core::age::Timestamp;
use crate::core::path::RelPath;
use crate::core::snapshot::{Folder, Node, Snapshot};

/// The most notices a scan keeps; the rest is counted.
pub const MAX_NOTICES: usize = 100;

/// How to scan.
#[derive(Clone, Copy, Debug)]
pub struct ScanOptions {
    /// How many threads list folders.
    pub threads: NonZeroUsize,
    /// Take no hash from the index (`--checksum`); moments of edit are still taken.
    pub checksum: bool,
    /// Makes listing fail: asked with each folder and the number of members listed so far.
    #[cfg(test)]
    pub(crate) fault: Option<fn(&RelPath, usize) -> Option<rustix::io::Errno>>,
}

impl Default for ScanOptions {
    fn default() -> ScanOptions {
        ScanOptions {
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            checksum: false,
            #[cfg(test)]
            fault: None,
        }
    }
}

/// Why there is no snapshot at all.
#[derive(Debug, Error)]
#[error("cannot list the root {root}: {problem}")]
pub struct ScanError {
    root: String,
    problem: ScanProblem,
}

/// Why a path is unknown that need not be. The path is told apart.
#[derive(Debug, Error)]
pub enum ScanProblem {
    /// The folder could not be opened, or not be listed to its end.
    #[error("cannot be listed: {0}; check its permissions and its disk")]
    Unlistable(io::Error),
    /// The entry could not be looked at.
    #[error("cannot be looked at: {0}; check the permissions of its folder and its disk")]
    Unseen(io::Error),
    /// The folder holds members whose paths are more than can be carried.
    #[error("holds members whose paths are longer than 4095 bytes or deeper than 256 folders; move it up")]
    TooDeep,
}

/// What a scan found.
#[derive(Debug, Default)]
pub struct Scan {
    /// Everything below the root. No folder has a digest yet.
    pub snapshot: Snapshot,
    /// Paths that are unknown and should not be, in path order.
    pub problems: Vec<(RelPath, ScanProblem)>,
    /// One line each, at most [`MAX_NOTICES`] and one that counts the rest.
    pub notices: Vec<String>,
    /// What the index must learn: rows of what is gone, and of files that were found under another path.
    pub changes: Vec<Change>,
    /// When the scan began, by this system's clock: what [`Entry::of`](super::index::Entry::of) asks for.
    pub started: Timestamp,
}

/// Scans everything below `root`. `on_progress` is told how many entries have been seen, now and then, from any thread.
///
/// A folder that cannot be listed to its end is unknown; so nothing in the snapshot is absent without having been
/// looked for. Hashes and moments of edit come from `index`; a file that it does not know has no hash.
pub fn scan(
    root: &Root,
    filter: &Filter,
    index: Option<&Index>,
    options: ScanOptions,
    on_progress: &(dyn Fn(u64) + Sync),
) -> Result<Scan, ScanError> {
    scan_telling(root, filter, index, options, on_progress, &|_| {})
}

/// As [`scan`]; `on_folder` is told of every folder just before it is opened to be listed, from any thread.
pub fn scan_telling(
    root: &Root,
    filter: &Filter,
    index: Option<&Index>,
    options: ScanOptions,
    on_progress: &(dyn Fn(u64) + Sync),
    on_folder: &(dyn Fn(&RelPath) + Sync),
) -> Result<Scan, ScanError> {
    let started = now();
    let from = From { root, filter, index, options, started };
    let (top, mut found) = from.list_below(RelPath::root(), on_progress, on_folder);
    found.problems.sort_by(|a, b| a.0.cmp(&b.0));
    let Some(Node::Folder(snapshot)) = top else {
        let problem = found.problems.into_iter().next().map(|(_, problem)| problem);
        let problem = problem.unwrap_or_else(|| ScanProblem::Unlistable(io::ErrorKind::NotFound.into()));
        return Err(ScanError { root: super::root::shown(root.path()), problem });
    };
    if let Some(index) = index {
        forget_gone_folders(index, &snapshot, &mut found.changes);
    }
    let notices = found.bounded_notices();
    Ok(Scan { snapshot, problems: found.problems, notices, changes: found.changes, started })
}

/// What a scan goes by.
#[derive(Clone, Copy)]
pub(crate) struct From<'a> {
    pub(crate) root: &'a Root,
    pub(crate) filter: &'a Filter,
    pub(crate) index: Option<&'a Index>,
    pub(crate) options: ScanOptions,
    pub(crate) started: Timestamp,
}

impl<'a> From<'a> {
    /// One thread's lister.
    pub(crate) fn lister(self) -> Lister<'a> {
        Lister::new(self.root, self.filter, self.index, self.options, self.started)
    }

    /// Lists `top` and every folder below it: what it turned out to be, nothing if it vanished.
    pub(crate) fn list_below(
        self,
        top: RelPath,
        on_progress: &(dyn Fn(u64) + Sync),
        on_folder: &(dyn Fn(&RelPath) + Sync),
    ) -> (Option<Node>, Findings) {
        let pool = Pool::new(top);
        let entries = AtomicU64::new(0);
        let work = || {
            let mut lister = self.lister();
            while let Some((id, path)) = pool.next() {
                on_folder(&path);
                let (node, folders) = lister.list(&path);
                let seen =
                    if let Some(Node::Folder(folder)) = &node { folder.members.len() as u64 } else { 0 };
                pool.done(id, node, folders);
                on_progress(entries.fetch_add(seen, Ordering::Relaxed) + seen);
            }
            lister.findings
        };
        let found = std::thread::scope(|scope| {
            // A thread that the system refuses is one fewer; this one does the work all the same.
            let spawn = || std::thread::Builder::new().name("scan".into()).spawn_scoped(scope, work);
            let others: Vec<_> = (1..self.options.threads.get()).filter_map(|_| spawn().ok()).collect();
            let mut found = work();
            others.into_iter().filter_map(|other| other.join().ok()).for_each(|other| found.add(other));
            found
        });
        (assemble(pool.into_listed()), found)
    }
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_parts(since.as_secs().try_into().unwrap_or(i64::MAX), since.subsec_nanos())
}

/// Puts the folders into their parents, last found first; the root is number 0.
fn assemble(mut folders: Vec<Listed>) -> Option<Node> {
    while let Some(mut last) = folders.pop() {
        if let Some(Node::Folder(folder)) = &mut last.node {
            // Places count from the front, so the hindmost goes first.
            last.vanished.sort_unstable_by(|a, b| b.cmp(a));
            for at in last.vanished {
                folder.members.remove(at);
            }
        }
        let Some(parent) = folders.get_mut(last.parent) else { return last.node };
        match (last.node, &mut parent.node) {
            (Some(node), Some(Node::Folder(folder))) => folder.members[last.at].1 = node,
            _ => parent.vanished.push(last.at),
        }
    }
    None
}

/// Rows of folders that are no longer there. What is unknown may come back, and its rows stay.
fn forget_gone_folders(index: &Index, snapshot: &Folder, changes: &mut Vec<Change>) {
    for (folder, rows) in index.folders().filter(|(folder, _)| !folder.is_empty()) {
        let Ok(path) = RelPath::parse(folder) else { continue };
        if !matches!(snapshot.find(&path), Some(Node::Folder(_) | Node::Unknown(_))) {
            changes.extend((0..rows.len()).filter_map(|at| rows.path(at)).map(Change::Remove));
        }
    }
}

/// What a thread found besides the entries themselves.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) problems: Vec<(RelPath, ScanProblem)>,
    pub(crate) changes: Vec<Change>,
    notices: Vec<String>,
    more: usize,
}

impl Findings {
    /// Keeps a notice while there is room.
    pub(crate) fn notice(&mut self, path: &RelPath, text: &str) {
        if self.notices.len() < MAX_NOTICES {
            self.notices.push(format!("skipped {path}: {text}"));
        } else {
            self.more += 1;
        }
    }

    pub(crate) fn add(&mut self, other: Findings) {
        self.problems.extend(other.problems);
        self.changes.extend(other.changes);
        self.notices.extend(other.notices);
        self.more += other.more;
    }

    pub(crate) fn bounded_notices(&mut self) -> Vec<String> {
        let mut notices = std::mem::take(&mut self.notices);
        notices.sort();
        let more = self.more + notices.len().saturating_sub(MAX_NOTICES);
        notices.truncate(MAX_NOTICES);
        if more > 0 {
            notices.push(format!("skipped {more} more of the same kinds"));
        }
        notices
    }
}

#[cfg(test)]
mod tests;
