//! Brings a snapshot up to date by looking again at a few paths, instead of at everything.
//!
//! What is looked at is treated as a scan would treat it: absent is only what its folder was asked for by name and did not
//! have. Wherever the paths do not tell enough, nothing is guessed: the whole root has to be scanned.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use rusqlite::Connection;
use rustix::io::Errno;

use super::filter::Filter;
use super::index::{self, Change, IndexError};
use super::list::Member;
use super::root::{Root, stat_of};
use super::scan::{Findings, From, ScanOptions, now};
use crate::core::age::Timestamp;
use crate::core::path::RelPath;
use crate::core::snapshot::{Folder, Node, Snapshot};

/// How to look again.
#[derive(Clone, Copy)]
pub struct Refresh<'a> {
    /// The root.
    pub root: &'a Root,
    /// What is hidden, as when the snapshot was taken.
    pub filter: &'a Filter,
    /// Where the index is; none where there is none.
    pub db: Option<&'a Connection>,
    /// Told of every folder just before it is listed.
    pub on_folder: &'a (dyn Fn(&RelPath) + Sync),
}

/// What looking again found, besides what now is in the snapshot.
#[derive(Debug, Default)]
pub struct Refreshed {
    /// When it began.
    pub started: Timestamp,
    /// One line each.
    pub notices: Vec<String>,
    /// What the index must learn.
    pub changes: Vec<Change>,
    /// The last write to the index that was known.
    pub since: i64,
}

impl Refresh<'_> {
    /// Looks at `paths` again. Problems at and below them are replaced by those that there are now.
    ///
    /// `None` where only a scan of the whole root can tell; the snapshot is then of no use any more.
    pub fn look(
        self,
        snapshot: &mut Snapshot,
        problems: &mut Vec<(RelPath, String)>,
        paths: &BTreeMap<RelPath, bool>,
    ) -> Result<Option<Refreshed>, IndexError> {
        let started = now();
        let near: Vec<RelPath> = paths.keys().cloned().collect();
        let index = self.db.map(|db| index::load_near(db, &near)).transpose()?;
        let options = ScanOptions::default();
        let from = From { root: self.root, filter: self.filter, index: index.as_ref(), options, started };
        let (findings, looked) = (Findings::default(), BTreeSet::new());
        let mut again = Again { of: self, from, snapshot, findings, looked, listed: BTreeSet::new() };
        if !paths.iter().all(|(path, whole)| again.look_at(path, *whole).is_some()) {
            return Ok(None);
        }
        again.look_above();
        let Again { mut findings, looked, .. } = again;
        problems.retain(|(path, _)| !is_below(&looked, path));
        problems.extend(findings.problems.drain(..).map(|(path, problem)| (path, problem.to_string())));
        problems.sort();
        problems.dedup();
        let notices = findings.bounded_notices();
        let since = index.as_ref().map_or(0, |index| index.written);
        Ok(Some(Refreshed { started, notices, changes: findings.changes, since }))
    }
}

struct Again<'a> {
    of: Refresh<'a>,
    from: From<'a>,
    snapshot: &'a mut Snapshot,
    findings: Findings,
    /// Paths that were looked at, and those of them that were listed with everything below.
    looked: BTreeSet<RelPath>,
    listed: BTreeSet<RelPath>,
}

impl Again<'_> {
    /// Looks at one path; `None` where that cannot tell.
    fn look_at(&mut self, path: &RelPath, whole: bool) -> Option<()> {
        let path = self.reachable(path)?;
        if is_below(&self.listed, &path) {
            return Some(());
        }
        let mut lister = self.from.lister();
        let member = match lister.look_at(&path) {
            Ok(member) => member,
            // Its folder is no folder any more: that is where to look.
            Err(error) if is_gone(&error) => return self.look_at(&path.parent()?, true),
            Err(_) => return None,
        };
        self.findings.add(lister.findings);
        let node = match member {
            Member::Gone => None,
            Member::Is(node) => Some(node),
            Member::Folder if !whole && self.is_same_folder(&path) => return Some(()),
            Member::Folder => {
                let (node, found) = self.from.list_below(path.clone(), &|_| {}, self.of.on_folder);
                self.findings.add(found);
                self.listed.insert(path.clone());
                node
            }
        };
        self.looked.insert(path.clone());
        self.snapshot.put(&path, node).then_some(())
    }

    /// `path`, or what above it is no folder in the snapshot: nothing below that is known.
    fn reachable(&self, path: &RelPath) -> Option<RelPath> {
        let mut reached = RelPath::root();
        let mut folder: &Folder = self.snapshot;
        for component in path.components() {
            reached = reached.join(&crate::core::path::Name::parse(component).ok()?).ok()?;
            match folder.member(component) {
                Some(Node::Folder(inner)) => folder = inner,
                _ => return Some(reached),
            }
        }
        (!reached.is_root()).then_some(reached)
    }

    /// Whether the folder at `path` is the one of the snapshot: then only what it says of itself may have changed, as its
    /// members are told of one by one.
    fn is_same_folder(&mut self, path: &RelPath) -> bool {
        let Some(Node::Folder(known)) = self.snapshot.find(path) else { return false };
        let Ok(stat) = self.of.root.folder(path).and_then(stat_of) else { return false };
        if stat.seen.inode != known.seen.inode {
            return false;
        }
        let Some(folder) = self.snapshot.folder_mut(path) else { return false };
        (folder.bits, folder.modified, folder.seen) = (stat.bits, stat.modified, stat.seen);
        true
    }

    /// A folder's own times change with its members.
    fn look_above(&mut self) {
        let above: BTreeSet<RelPath> = self.looked.iter().filter_map(RelPath::parent).collect();
        for path in above {
            if path.is_root() {
                if let Ok(stat) = self.of.root.stat_self() {
                    (self.snapshot.modified, self.snapshot.seen) = (stat.modified, stat.seen);
                }
            } else {
                self.is_same_folder(&path);
            }
        }
    }
}

/// Whether `path`, or what it is in, is among `paths`.
fn is_below(paths: &BTreeSet<RelPath>, path: &RelPath) -> bool {
    std::iter::successors(Some(path.clone()), RelPath::parent).any(|above| paths.contains(&above))
}

fn is_gone(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::digest::Digest;
    use crate::replica::filter::Rules;
    use crate::replica::index::Entry;
    use crate::replica::scan::scan;
    use crate::replica::state::State;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::sync::Mutex;

    struct Tree {
        temp: tempfile::TempDir,
        root: Root,
        filter: Filter,
        state: State,
        snapshot: Snapshot,
        problems: Vec<(RelPath, String)>,
        told: Mutex<Vec<RelPath>>,
    }

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    impl Tree {
        fn new() -> Tree {
            let temp = tempfile::tempdir().unwrap();
            let root = Root::open(temp.path()).unwrap();
            let rules = Rules::try_from(vec!["*.o".to_owned(), "target/".to_owned()]).unwrap();
            let filter = Filter::new(&[rules]).unwrap().0;
            let state = State::open(&root).unwrap();
            for folder in ["a/deep", "b", "target"] {
                fs::create_dir_all(temp.path().join(folder)).unwrap();
            }
            for file in ["a/f", "a/deep/g", "b/h", "b/skip.o", "top", "target/t"] {
                fs::write(temp.path().join(file), file).unwrap();
            }
            let (snapshot, problems, told) = Default::default();
            let mut tree = Tree { temp, root, filter, state, snapshot, problems, told };
            (tree.snapshot, tree.problems) = tree.scan();
            tree
        }

        fn at(&self, name: &str) -> std::path::PathBuf {
            self.temp.path().join(name)
        }

        fn scan(&self) -> (Snapshot, Vec<(RelPath, String)>) {
            let index = index::load(self.state.db()).unwrap();
            let found =
                scan(&self.root, &self.filter, Some(&index), ScanOptions::default(), &|_| {}).unwrap();
            let problems = found.problems.into_iter().map(|(path, problem)| (path, problem.to_string()));
            let mut snapshot = found.snapshot;
            snapshot.digest_all();
            (snapshot, problems.collect())
        }

        /// Looks again; whether that could tell.
        fn look(&mut self, paths: &[(&str, bool)]) -> Option<Refreshed> {
            let paths = paths.iter().map(|(text, whole)| (path(text), *whole)).collect();
            let told = &self.told;
            let refresh = Refresh {
                root: &self.root,
                filter: &self.filter,
                db: Some(self.state.db()),
                on_folder: &|path| told.lock().unwrap().push(path.clone()),
            };
            let found = refresh.look(&mut self.snapshot, &mut self.problems, &paths).unwrap();
            self.snapshot.digest_missing();
            found
        }

        /// Looks again, and has what a scan has.
        #[track_caller]
        fn sees(&mut self, paths: &[(&str, bool)]) -> Refreshed {
            let found = self.look(paths).expect("a scan was asked for");
            let (snapshot, problems) = self.scan();
            assert_eq!(self.snapshot, snapshot, "{paths:?}");
            assert_eq!(self.problems, problems);
            found
        }
    }

    #[test]
    fn what_was_looked_at_again_is_as_a_scan_sees_it() {
        let mut tree = Tree::new();
        fs::write(tree.at("a/f"), "another").unwrap();
        tree.sees(&[("a/f", false)]);
        fs::remove_file(tree.at("b/h")).unwrap();
        fs::write(tree.at("new"), "x").unwrap();
        fs::write(tree.at("new.o"), "x").unwrap();
        tree.sees(&[("b/h", false), ("new", false), ("new.o", false)]);
        fs::create_dir_all(tree.at("c/d/e")).unwrap();
        fs::write(tree.at("c/d/e/f"), "x").unwrap();
        tree.sees(&[("c", true)]);
        assert_eq!(tree.told.lock().unwrap().len(), 3, "every new folder is told of before it is listed");
        fs::remove_dir_all(tree.at("a")).unwrap();
        symlink("b", tree.at("a")).unwrap();
        tree.sees(&[("a/deep/g", false), ("a", false), ("a/f", false)]);
        fs::remove_file(tree.at("a")).unwrap();
        fs::create_dir(tree.at("a")).unwrap();
        tree.sees(&[("a", false)]);
        fs::rename(tree.at("top"), tree.at("c/top")).unwrap();
        tree.sees(&[("c/top", true), ("top", true)]);
        fs::set_permissions(tree.at("c"), fs::Permissions::from_mode(0o700)).unwrap();
        tree.told.lock().unwrap().clear();
        tree.sees(&[("c", false)]);
        assert_eq!(*tree.told.lock().unwrap(), [], "a folder's own bits need no listing");
    }

    #[test]
    fn a_path_in_a_folder_that_is_not_known_has_the_whole_folder_looked_at() {
        let mut tree = Tree::new();
        fs::create_dir_all(tree.at("x/y")).unwrap();
        fs::write(tree.at("x/y/z"), "z").unwrap();
        tree.sees(&[("x/y/z", false)]);
        fs::remove_dir_all(tree.at("x")).unwrap();
        tree.sees(&[("x/y/z", false), ("x/y", false)]);
        fs::write(tree.at("target/more"), "hidden").unwrap();
        tree.sees(&[("target/more", false)]);
    }

    #[test]
    fn a_hash_is_remembered_by_the_index_for_what_has_not_changed_since() {
        let mut tree = Tree::new();
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(100);
        fs::File::open(tree.at("a/f")).unwrap().set_modified(old).unwrap();
        (tree.snapshot, tree.problems) = tree.scan();
        let mut rows = Vec::new();
        for name in ["a/f", "b/h"] {
            let Some(Node::File(file)) = tree.snapshot.find_mut(&path(name)) else { panic!() };
            file.sha256 = Some(Digest::of(name.as_bytes()));
            let entry = Entry::of(&Node::File(file.clone()), now());
            rows.extend(entry.map(|entry| Change::Put(path(name), entry)));
        }
        tree.state.store_index(&rows, 0, None).unwrap();
        tree.look(&[("a/f", false), ("b/h", false)]).unwrap();
        let known = |tree: &Tree, name| match tree.snapshot.find(&path(name)) {
            Some(Node::File(file)) => file.sha256.is_some(),
            other => panic!("{other:?}"),
        };
        assert!(known(&tree, "a/f"), "nothing has written to it");
        assert!(!known(&tree, "b/h"), "a write in the tick in which it was hashed would not show");
        fs::rename(tree.at("a/f"), tree.at("b/f")).unwrap();
        let found = tree.look(&[("a/f", true), ("b/f", true)]).unwrap();
        assert!(known(&tree, "b/f"), "it only moved");
        assert_eq!(found.changes.len(), 2);
        fs::write(tree.at("b/f"), "a/f").unwrap();
        tree.look(&[("b/f", false)]).unwrap();
        assert!(!known(&tree, "b/f"));
    }

    #[test]
    fn problems_stay_until_their_path_is_looked_at_again() {
        let mut tree = Tree::new();
        tree.problems = vec![(path("a/deep/g"), "it broke".into()), (path("b"), "it broke".into())];
        tree.look(&[("a/deep", true), ("b/h", false)]).unwrap();
        assert_eq!(tree.problems, [(path("b"), "it broke".into())]);
    }
}
