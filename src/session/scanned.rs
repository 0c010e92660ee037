//! What a scan of one side's root brought, and the hashes made since.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::task::{JoinHandle, spawn_blocking};

use super::error::SessionError;
use super::local::{Local, unusable};
use super::progress::{Event, Progress};
use crate::core::age::Timestamp;
use crate::core::digest::Digest;
use crate::core::path::RelPath;
use crate::core::snapshot::{Node, Snapshot, Unknown};
use crate::protocol::message::Unhashed;
use crate::replica::filter::{Filter, Rules};
use crate::replica::hash::{HashError, Wanted, hash_all};
use crate::replica::identity::Id;
use crate::replica::index::{self, Change, Entry};
use crate::replica::scan::{ScanOptions, scan_telling};

/// Threads that scan or hash at once.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).min(8)
}

/// A snapshot, what it was taken with, and what the index is to learn from it.
pub(crate) struct Scanned {
    pub(crate) snapshot: Snapshot,
    pub(crate) filter: Arc<Filter>,
    /// When the scan began, on this system's clock.
    pub(crate) started: Timestamp,
    /// Paths that could not be scanned, and why.
    pub(crate) problems: Vec<(RelPath, String)>,
    /// What the user should hear about.
    pub(crate) notices: Vec<String>,
    /// Index rows to write.
    pub(crate) changes: Vec<Change>,
    /// The last write to the index that the scan knew of.
    pub(crate) since: i64,
    /// What rounds of a watch hand on to each other.
    pub(crate) round: Round,
}

/// What one round of a watch did to its side, and what those before it did.
#[derive(Default)]
pub(crate) struct Round {
    /// Where it acted: nobody but the next look says what stands there now.
    pub(crate) acted: Vec<RelPath>,
    /// Entries that it deleted.
    pub(crate) deleted: u64,
    /// Entries that were deleted lately, before it: many small rounds must not delete what one run may not.
    pub(crate) lately: u64,
}

/// A scan that goes on while the caller does something else.
pub(crate) struct Scanning(JoinHandle<Result<Scanned, SessionError>>);

impl Scanning {
    /// Its result.
    pub(crate) async fn done(self) -> Result<Scanned, SessionError> {
        self.0.await.map_err(|_| SessionError::Root("the scan of the root failed".into()))?
    }
}

impl Local {
    /// The exclude rules of this side: those at its root, then the command line's, which win.
    pub(crate) fn rules(&self, options: &Rules) -> Result<(Rules, Vec<String>), SessionError> {
        let (rules, notices) = Rules::of_root(&self.root).map_err(unusable)?;
        Ok((rules.then(options.clone()).map_err(unusable)?, notices))
    }

    /// Begins to scan, hiding what any side's rules exclude. `distrust`: the index's hashes are not used.
    pub(crate) fn scan(
        self: &Arc<Self>,
        rules: Vec<Rules>,
        distrust: bool,
        progress: Arc<dyn Progress>,
    ) -> Scanning {
        self.scan_telling(rules, distrust, progress, |_| {})
    }

    /// As [`scan`](Local::scan); `on_folder` is told of every folder before it is listed.
    pub(crate) fn scan_telling(
        self: &Arc<Self>,
        rules: Vec<Rules>,
        distrust: bool,
        progress: Arc<dyn Progress>,
        on_folder: impl Fn(&RelPath) + Send + Sync + 'static,
    ) -> Scanning {
        let local = self.clone();
        Scanning(spawn_blocking(move || local.scan_now(&rules, distrust, &*progress, &on_folder)))
    }

    fn scan_now(
        &self,
        rules: &[Rules],
        distrust: bool,
        progress: &dyn Progress,
        on_folder: &(dyn Fn(&RelPath) + Sync),
    ) -> Result<Scanned, SessionError> {
        let (filter, mut notices) = Filter::new(rules).map_err(unusable)?;
        let index = match self.state() {
            Some(state) => Some(index::load(state.db()).map_err(unusable)?),
            None => None,
        };
        let options = ScanOptions { checksum: distrust, ..ScanOptions::default() };
        let told = |entries| progress.event(&Event::Scanned { entries });
        let result = scan_telling(&self.root, &filter, index.as_ref(), options, &told, on_folder);
        let result = result.map_err(unusable)?;
        notices.extend(result.notices);
        let (mut snapshot, mut changes) = (result.snapshot, result.changes);
        let since = index.as_ref().map_or(0, |index| index.written);
        if let (Some(state), Some(index)) = (self.state(), &index) {
            changes.extend(state.date(&mut snapshot, index, result.started).map_err(unusable)?);
        }
        snapshot.digest_all();
        let filter = Arc::new(filter);
        let problems =
            result.problems.into_iter().map(|(path, problem)| (path, problem.to_string())).collect();
        Ok(Scanned {
            snapshot,
            filter,
            started: result.started,
            problems,
            notices,
            changes,
            since,
            round: Round::default(),
        })
    }

    /// The SHA-256 of files of the snapshot, in their order; what is known is not made again. A file that cannot be
    /// hashed becomes an unknown: nothing may be concluded about it.
    pub(crate) async fn hash(
        &self,
        scanned: &mut Scanned,
        paths: &[RelPath],
    ) -> Result<Vec<Result<Digest, Unhashed>>, SessionError> {
        // Each once, however often a peer names it.
        let each: BTreeSet<&RelPath> = paths.iter().collect();
        let wanted: Vec<Wanted> =
            each.into_iter().filter_map(|path| wanted(&scanned.snapshot, path)).collect();
        if !wanted.is_empty() {
            let root = self.root.clone();
            let made = spawn_blocking(move || hash_all(&root, &wanted, threads())).await;
            for (path, result) in made.map_err(|_| SessionError::Root("hashing failed".into()))? {
                scanned.learn(&path, result);
            }
            scanned.snapshot.digest_missing();
        }
        Ok(paths.iter().map(|path| scanned.hash_of(path)).collect())
    }

    /// Hashes every file whose hash is not known.
    pub(crate) async fn hash_whole(&self, scanned: &mut Scanned) -> Result<(), SessionError> {
        let mut paths = Vec::new();
        unhashed(&scanned.snapshot, &RelPath::root(), &mut paths);
        self.hash(scanned, &paths).await?;
        for path in paths {
            if let Err(why) = scanned.hash_of(&path) {
                scanned.problems.push((path, why.to_string()));
            }
        }
        Ok(())
    }

    /// Writes what the index is to learn from a scan that knew it as it was after the write `since`, and from the run
    /// that put things in place.
    pub(crate) async fn store_index(
        self: &Arc<Self>,
        changes: Vec<Change>,
        since: i64,
        run: Option<Id>,
    ) -> Result<Vec<Change>, SessionError> {
        let local = self.clone();
        super::blocking(move || {
            if let Some(state) = local.state().filter(|_| !local.is_look()) {
                state.store_index(&changes, since, run).map_err(unusable)?;
            }
            Ok(changes)
        })
        .await
    }
}

impl Scanned {
    /// Takes what the index has learnt since of the very files that the scan saw.
    pub(crate) fn recall(&mut self) {
        for change in std::mem::take(&mut self.changes) {
            let Change::Put(path, entry) = change else { continue };
            let Some(Node::File(file)) = self.snapshot.find_mut(&path) else { continue };
            if (file.seen, file.size, file.modified) == (entry.seen, entry.size, entry.modified) {
                file.sha256 = file.sha256.or(entry.sha256);
            }
        }
    }

    fn learn(&mut self, path: &RelPath, result: Result<Digest, HashError>) {
        let Some(node) = self.snapshot.find_mut(path) else { return };
        match (result, node) {
            (Ok(digest), Node::File(file)) => {
                file.sha256 = Some(digest);
                let entry = Entry::of(&Node::File(file.clone()), self.started);
                self.changes.extend(entry.map(|entry| Change::Put(path.clone(), entry)));
            }
            (Err(error), node) => {
                *node = Node::Unknown(match error {
                    HashError::Unreadable(_) => Unknown::Unreadable,
                    HashError::Changed | HashError::Vanished => Unknown::Changed,
                });
            }
            _ => {}
        }
    }

    fn hash_of(&self, path: &RelPath) -> Result<Digest, Unhashed> {
        match self.snapshot.find(path) {
            Some(Node::File(file)) if file.size == 0 => Ok(Digest::of(b"")),
            Some(Node::File(file)) => file.sha256.ok_or(Unhashed::Unreadable),
            Some(Node::Unknown(Unknown::Unreadable)) => Err(Unhashed::Unreadable),
            _ => Err(Unhashed::Changed),
        }
    }
}

/// The files below `folder` that have no hash yet.
fn unhashed(folder: &Snapshot, path: &RelPath, paths: &mut Vec<RelPath>) {
    for (name, node) in &folder.members {
        let Ok(path) = path.join(name) else { continue };
        match node {
            Node::Folder(folder) => unhashed(folder, &path, paths),
            Node::File(file) if file.sha256.is_none() && file.size > 0 => paths.push(path),
            _ => {}
        }
    }
}

/// A file of the snapshot whose hash is not known yet.
fn wanted(snapshot: &Snapshot, path: &RelPath) -> Option<Wanted> {
    match snapshot.find(path)? {
        Node::File(file) if file.sha256.is_none() && file.size > 0 => {
            Some(Wanted { path: path.clone(), file: file.clone() })
        }
        _ => None,
    }
}
