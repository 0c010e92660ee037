//! New folders that grow in staging with the small files that belong into them, so that one rename puts all of it in place.
//!
//! **What grows.** A folder that a plan makes where nothing stands is a *tree*, `p<N>` in the staging folder of the run. New
//! folders below it, and small files that arrive for any of them, are made in it right where they will stand. A rename of
//! the tree changes neither the inodes nor the times of its members: what was seen of one when it was staged is still true
//! then. Everything else that belongs below it (large files, links, local copies, what is moved there) waits beside it and
//! is placed after it. So does whatever could not grow, for any reason.
//!
//! **What is placed.** A tree counts its members, each from before it is made until it is known to be gone again. One that
//! holds more than a run puts in place, because what was left of a failed file could not be removed, stays where it is.
//!
//! **What is ours** of a tree that was never placed the [inventory](super::inventory) tells, which is written first.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::incoming::Incoming;
use super::inventory::{Inventory, is_not_there, tree_name};
use super::order::opened;
use super::rename::At;
use super::root::{Root, Walker, stat_of};
use super::stage::{Promise, RESUMABLE, Stage, StageError, Staged, Waits, make_folder, make_staged};
use crate::core::path::RelPath;
use crate::core::version::Bits;

/// How many folders are kept open: files come nearly in path order.
const NEAR: usize = 4;

/// The new folders of a run.
#[derive(Debug, Default)]
pub(super) struct Nursery {
    /// In path order.
    folders: Vec<Fresh>,
    progress: Mutex<Grown>,
}

/// A folder where nothing stands.
#[derive(Debug)]
struct Fresh {
    path: RelPath,
    /// Those it has in staging.
    bits: Bits,
    /// The number of its tree: that of the topmost new folder above it, or its own.
    tree: usize,
}

#[derive(Debug, Default)]
struct Grown {
    /// Whether it has been made, by folder.
    made: Vec<bool>,
    /// How many folders and files may stand in a tree, itself included, by the tree's number.
    members: Vec<u64>,
    /// The folders in which something was made last, the latest at the end.
    near: Vec<Arc<Open>>,
}

/// A folder that is kept open.
#[derive(Debug)]
struct Open {
    path: Box<[u8]>,
    tree: usize,
    folder: OwnedFd,
}

impl Nursery {
    fn of(mut folders: Vec<(RelPath, Bits)>) -> Nursery {
        folders.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        let mut nursery = Nursery::default();
        for (path, bits) in folders {
            let above = path.parent().and_then(|parent| nursery.find(&parent));
            let tree = above.map_or(nursery.folders.len(), |above| nursery.folders[above].tree);
            nursery.folders.push(Fresh { path, bits: opened(bits), tree });
        }
        let (made, members) = (vec![false; nursery.folders.len()], vec![0; nursery.folders.len()]);
        nursery.progress = Mutex::new(Grown { made, members, near: Vec::new() });
        nursery
    }

    fn find(&self, path: &RelPath) -> Option<usize> {
        self.folders.binary_search_by(|fresh| fresh.path.cmp(path)).ok()
    }

    fn locked(&self) -> MutexGuard<'_, Grown> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the folder `at` is in staging. Fails where the path would be too long.
    fn place(&self, at: usize) -> io::Result<RelPath> {
        let Fresh { path, tree, .. } = &self.folders[at];
        let name = RelPath::parse(tree_name(*tree as u32).as_bytes()).ok();
        let place = name.and_then(|name| path.rebased(&self.folders[*tree].path, &name));
        place.ok_or(Errno::NAMETOOLONG.into())
    }

    fn write_down<'p>(
        &self,
        stage: &Root,
        files: impl Iterator<Item = (&'p RelPath, u64)>,
    ) -> io::Result<()> {
        let mut inventory = Inventory::begin(stage)?;
        for place in (0..self.folders.len()).filter_map(|at| self.place(at).ok()) {
            inventory.folder(&place)?;
        }
        let mut last: (&[u8], bool) = (b"", false);
        for (path, size) in files.filter(|(_, size)| *size < RESUMABLE) {
            let Some((parent, name)) = path.split() else { continue };
            if parent != last.0 {
                let found = path.parent().and_then(|parent| self.place(self.find(&parent)?).ok());
                found.iter().try_for_each(|place| inventory.folder(place))?;
                last = (parent, found.is_some());
            }
            if last.1 {
                inventory.file(name, size)?;
            }
        }
        inventory.end(stage)
    }

    /// The folder `parent`, for a file that is about to be made in it. None where it does not grow here.
    fn folder_for(&self, stage: &Root, parent: &[u8]) -> Option<Arc<Open>> {
        let mut grown = self.locked();
        let near = grown.near.iter().find(|near| *near.path == *parent).cloned();
        let open = match near {
            Some(near) => near,
            None => {
                let at = self.find(&RelPath::parse(parent).ok()?)?;
                let folder = self.open(&mut grown, stage, at).ok()?;
                let open = Arc::new(Open { path: parent.into(), tree: self.folders[at].tree, folder });
                if grown.near.len() == NEAR {
                    grown.near.remove(0);
                }
                grown.near.push(open.clone());
                open
            }
        };
        grown.members[open.tree] += 1;
        Some(open)
    }

    /// Opens the folder `at`; it and those above it are made where they have not been so far.
    fn open(&self, grown: &mut Grown, stage: &Root, at: usize) -> io::Result<OwnedFd> {
        let (mut missing, mut above) = (Vec::new(), Some(at));
        while let Some(next) = above.filter(|next| !grown.made[*next]) {
            missing.push(next);
            let Fresh { path, tree, .. } = &self.folders[next];
            above = path.parent().filter(|_| next != *tree).and_then(|parent| self.find(&parent));
        }
        let mut last = None;
        for next in missing.into_iter().rev() {
            last = Some(self.make(grown, stage, next)?);
        }
        last.map_or_else(|| stage.folder(&self.place(at)?), Ok)
    }

    fn make(&self, grown: &mut Grown, stage: &Root, at: usize) -> io::Result<OwnedFd> {
        let (place, Fresh { bits, tree, .. }) = (self.place(at)?, &self.folders[at]);
        let mut walker = Walker::new(stage);
        let spot = walker.spot(&place)?;
        grown.members[*tree] += 1;
        let made = make_folder(spot, *bits);
        match &made {
            Ok(_) => grown.made[at] = true,
            // What stands there is none of its members, or one that was counted under another spelling.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => grown.members[*tree] -= 1,
            // A name that can be neither made nor looked at here is that of no member.
            Err(_) if spot.stat().is_err_and(|error| is_not_there(&error)) => grown.members[*tree] -= 1,
            Err(_) => {}
        }
        made
    }
}

impl Stage {
    /// Says which folders the run makes where nothing stands, with their final bits, and which files may arrive, with their
    /// sizes and in path order: from now on they grow together. Where that cannot be written down nothing grows, and everything
    /// is staged by itself.
    pub fn grow<'p>(
        &mut self,
        folders: Vec<(RelPath, Bits)>,
        files: impl Iterator<Item = (&'p RelPath, u64)>,
    ) {
        let nursery = Nursery::of(folders);
        if !nursery.folders.is_empty() && nursery.write_down(self.folder(), files).is_ok() {
            self.nursery = nursery;
        }
    }

    /// Makes a small file where it will stand in its tree. None where it belongs into none, or cannot be made there.
    pub(super) fn plant(&self, promise: &Promise, bytes: &[u8]) -> Option<Result<Staged, StageError>> {
        if self.nursery.folders.is_empty() || promise.size >= RESUMABLE {
            return None;
        }
        let (parent, name) = promise.path.split()?;
        let open = self.nursery.folder_for(self.folder(), parent)?;
        let uncount = || self.nursery.locked().members[open.tree] -= 1;
        let Ok(file) = make_staged(&open.folder, name, promise.bits) else {
            uncount();
            return None;
        };
        let mut incoming = Incoming::new(file, String::new(), promise);
        let planted = incoming.write(bytes).and_then(|()| incoming.finish(None));
        if planted.is_err() && (At { folder: open.folder.as_fd(), name }).unlink().is_ok() {
            uncount();
        }
        Some(planted.map(|staged| Staged { waits: Waits::Member(open.tree as u32), ..staged }))
    }

    /// The new folder `path` as it has grown, made now if nothing came for it. None where it does not grow.
    pub(super) fn grown_folder(&self, path: &RelPath) -> Option<Staged> {
        let at = self.nursery.find(path)?;
        let tree = self.nursery.folders[at].tree;
        let folder = self.nursery.open(&mut self.nursery.locked(), self.folder(), at).ok()?;
        let stat = stat_of(&folder).ok()?;
        let number = tree as u32;
        let waits = match at == tree {
            true => Waits::Tree(number, tree_name(number).into_bytes().into()),
            false => Waits::Member(number),
        };
        Some(Staged { waits, stat, sha256: None })
    }

    /// Keeps no folder of a tree open any more: there are systems that do not rename what is open.
    pub(super) fn let_go(&self) {
        self.nursery.locked().near.clear();
    }

    /// How many folders and files may stand in a tree, itself included.
    pub(super) fn members(&self, tree: u32) -> u64 {
        self.nursery.locked().members.get(tree as usize).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::fault::{killed_at, meddled_at};
    use crate::replica::perform::StepResult;
    use crate::replica::prune::Limits;
    use crate::replica::restore::{RestoreError, Restorer};
    use crate::replica::step::{Done, Step};
    use crate::replica::testing::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    const FOLDERS: [(&str, u32); 4] = [("d", 0o755), ("d/e", 0o555), ("d/e/f", 0o700), ("g", 0o750)];
    const FILES: [(&str, &str); 5] =
        [("d/1", "one"), ("d/e/2", "two"), ("d/e/f/3", "three"), ("d/z", ""), ("g/4", "four")];

    fn steps(field: &Field, stage: &Stage) -> Vec<Step> {
        let folders = FOLDERS.iter().map(|(at, bits)| field.folder(at, *bits));
        folders.chain(FILES.iter().map(|(at, text)| field.put(stage, at, text))).collect()
    }

    fn growing(field: &Field) -> Stage {
        field.growing(1, &FOLDERS, &FILES)
    }

    /// All of the new folders and files, and what else stands there.
    fn with_all(others: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
        let folders = FOLDERS.map(|(at, _)| (at, "/"));
        tree_of(&[&folders[..], &FILES, others].concat())
    }

    fn staging_of(field: &Field, number: u8) -> std::path::PathBuf {
        field.at(&format!(".syncfiles/stage/{}", run(number)))
    }

    fn names(folder: &std::path::Path) -> Vec<String> {
        let Ok(listed) = fs::read_dir(folder) else { return Vec::new() };
        let mut names: Vec<_> =
            listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn is_member(step: &Step) -> bool {
        matches!(step, Step::Put { staged: Staged { waits: Waits::Member(_), .. }, .. })
    }

    #[test]
    fn a_tree_takes_its_place_in_one_step_and_its_members_are_what_was_staged() {
        let field = Field::new(&[("a", "a")]);
        let stage = growing(&field);
        let steps = steps(&field, &stage);
        assert_eq!(steps.iter().filter(|step| is_member(step)).count(), FILES.len());
        assert_eq!(names(&staging_of(&field, 1)), ["inventory", "p0", "p3"]);
        let results = field.perform(&stage, 1, &steps);
        assert_eq!((failures(&results), field.tree()), (vec![], with_all(&[("a", "a")])));
        for ((at, result), step) in results.iter().zip(&steps).filter(|(_, step)| is_member(step)) {
            let Ok(Done { stat: Some(stat) }) = result else { panic!("{at} {step:?} {result:?}") };
            assert_eq!(*stat, field.root.stat(at).unwrap());
        }
        assert_eq!(FOLDERS.map(|(at, _)| field.mode(at)), FOLDERS.map(|(_, bits)| bits));
        assert_eq!((field.mode("d/e/2"), field.kept()), (0o640, vec![]));
        stage.close().unwrap();
        assert_eq!(names(&field.at(".syncfiles/stage")), [""; 0]);
    }

    #[test]
    fn in_a_folder_that_passes_its_group_on_so_does_all_that_grows() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let field = Field::new(&[]);
        fs::set_permissions(field.at(""), fs::Permissions::from_mode(0o2755)).unwrap();
        let stage = growing(&field);
        let results = field.perform(&stage, 1, &steps(&field, &stage));
        assert!(failures(&results).is_empty());
        let group = fs::metadata(field.at("")).unwrap().gid();
        let passes_on = |at: &str| fs::metadata(field.at(at)).unwrap().mode() & 0o2000 != 0;
        assert!(FOLDERS.into_iter().all(|(at, _)| passes_on(at)));
        let paths = FOLDERS.map(|(at, _)| at).into_iter().chain(FILES.map(|(at, _)| at));
        assert!(paths.into_iter().all(|at| fs::metadata(field.at(at)).unwrap().gid() == group));
    }

    #[test]
    fn a_member_that_somebody_takes_out_of_its_tree_does_not_count_as_placed() {
        let field = Field::new(&[]);
        let stage = growing(&field);
        let steps = steps(&field, &stage);
        fs::remove_file(staging_of(&field, 1).join("p0/e/2")).unwrap();
        fs::write(staging_of(&field, 1).join("p0/1.new"), "one").unwrap();
        fs::rename(staging_of(&field, 1).join("p0/1.new"), staging_of(&field, 1).join("p0/1")).unwrap();
        let results = field.perform(&stage, 1, &steps);
        let failed: Vec<_> =
            results.iter().filter(|(_, result)| result.is_err()).map(|(at, _)| at.to_string()).collect();
        assert_eq!(failed, ["d/1", "d/e/2"]);
    }

    #[test]
    fn what_does_not_grow_is_placed_after_the_tree_that_it_belongs_into() {
        let field = Field::new(&[("far", "far"), ("moved/x", "x"), ("old", "file"), ("copied", "copied")]);
        let new = [("d", 0o755), ("d/e", 0o755), ("d/moved/n", 0o755), ("old/n", 0o755)];
        let big = "b".repeat(RESUMABLE as usize);
        let files =
            [("d/e/f", "f"), ("d/big", &big), ("d/copy", "copied"), ("d/moved/n/g", "g"), ("old/n/h", "h")];
        let stage = field.growing(1, &new, &files);
        let mut large = stage.incoming(&promise("d/big", big.as_bytes())).unwrap();
        large.write(big.as_bytes()).unwrap();
        let copy = promise("d/copy", b"copied");
        let copy = stage.copy(&field.root, &path("copied"), &field.entry("copied"), &copy).unwrap();
        let put = |at: &str, staged| Step::Put { staged, path: path(at), expected: field.saw(at) };
        let mut steps = vec![put("d/big", large.finish(None).unwrap()), put("d/copy", copy)];
        steps.extend([field.shift("far", "d/e/far"), field.shift("moved", "d/moved")]);
        steps.extend([field.put(&stage, "d/e/l", "-> f"), field.put(&stage, "d/e/f", "f")]);
        steps.extend([field.put(&stage, "d/moved/n/g", "g"), field.put(&stage, "old/n/h", "h")]);
        assert_eq!(steps.iter().filter(|step| is_member(step)).count(), 3);
        steps.push(field.folder("old", 0o755));
        steps.extend(new.map(|(at, bits)| field.folder(at, bits)));
        let results = field.perform(&stage, 1, &steps);
        let now = [
            ("copied", "copied"),
            ("d", "/"),
            ("d/big", &big),
            ("d/copy", "copied"),
            ("d/e", "/"),
            ("d/e/f", "f"),
            ("d/e/far", "far"),
            ("d/e/l", "-> f"),
            ("d/moved", "/"),
            ("d/moved/n", "/"),
            ("d/moved/n/g", "g"),
            ("d/moved/x", "x"),
            ("old", "/"),
            ("old/n", "/"),
            ("old/n/h", "h"),
        ];
        assert_eq!(failures(&results), [""; 0]);
        assert!(field.tree() == tree_of(&now), "{:?}", field.tree().keys());
    }

    #[test]
    fn a_member_that_fails_is_not_in_the_tree_and_fails_alone() {
        let field = Field::new(&[]);
        let stage = growing(&field);
        let wrong = stage.whole(&promise("d/e/wrong", b"right"), b"wrong");
        assert!(matches!(wrong, Err(StageError::WrongContent)), "{wrong:?}");
        let short = stage.whole(&promise("d/e/short", b"whole"), b"who");
        assert!(matches!(short, Err(StageError::WrongSize { .. })), "{short:?}");
        let steps = steps(&field, &stage);
        assert_eq!(failures(&field.perform(&stage, 1, &steps)), [""; 0]);
        assert_eq!(field.tree(), with_all(&[]));
    }

    /// Staging one member is disturbed from each of its steps on, so that what is left of it cannot be removed either.
    #[test]
    fn a_tree_that_may_hold_a_broken_member_is_not_placed() {
        let (mut refused, mut at) = (0, 0);
        loop {
            let field = Field::new(&[]);
            let stage = field.growing(1, &FOLDERS, &[&FILES[..], &[("d/e/new", "new")]].concat());
            let steps = steps(&field, &stage);
            let (broken, _) = killed_at(at, || stage.whole(&promise("d/e/new", b"new"), b"new"));
            if broken.is_ok() {
                break;
            }
            let results = field.perform(&stage, 1, &steps);
            if failures(&results).is_empty() {
                assert_eq!(field.tree(), with_all(&[]), "{at}");
            } else {
                assert!(results.iter().all(|(path, result)| result.is_ok() == (path.as_bytes()[0] == b'g')));
                assert_eq!(field.tree(), tree_of(&[("g", "/"), ("g/4", "four")]), "{at}");
                refused += 1;
            }
            stage.close().unwrap();
            assert_eq!(names(&field.at(".syncfiles/stage")), [""; 0], "{at}");
            at += 1;
        }
        assert!(refused > 0 && at > refused, "{refused} of {at}");
    }

    #[test]
    fn a_member_that_no_step_places_keeps_its_tree_from_being_placed() {
        let field = Field::new(&[]);
        let stage = growing(&field);
        let mut steps = steps(&field, &stage);
        let one = steps.iter().position(|step| *step.path() == path("d/e/2")).unwrap();
        steps.remove(one);
        let results = field.perform(&stage, 1, &steps);
        assert_eq!(failures(&results).len(), steps.len() - 2);
        assert_eq!(field.tree(), tree_of(&[("g", "/"), ("g/4", "four")]));
    }

    #[test]
    fn where_something_stands_by_now_nothing_of_the_tree_is_placed_and_nothing_stays_in_staging() {
        for theirs in ["d", "d/mine", "d/e/2"] {
            let field = Field::new(&[]);
            let stage = growing(&field);
            let steps = steps(&field, &stage);
            field.write(theirs, "theirs");
            let mut before = field.tree();
            let results = field.perform(&stage, 1, &steps);
            let changed = |(at, _): &&StepResult| at.is_within(&path("d"));
            assert!(
                results
                    .iter()
                    .filter(changed)
                    .all(|(_, result)| result.as_ref().is_err_and(|e| e.is_change())),
                "{theirs}: {results:?}"
            );
            before.extend(tree_of(&[("g", "/"), ("g/4", "four")]));
            assert_eq!((field.tree(), field.kept()), (before, vec![]), "{theirs}");
            stage.close().unwrap();
            assert_eq!(names(&field.at(".syncfiles/stage")), [""; 0], "{theirs}");
        }
    }

    #[test]
    fn what_somebody_puts_there_at_any_moment_survives() {
        for at in 0.. {
            let field = Field::new(&[]);
            let stage = growing(&field);
            let steps = steps(&field, &stage);
            let (theirs, told) = (field.at("d"), std::rc::Rc::new(std::cell::Cell::new(false)));
            let happened = told.clone();
            let act = move || {
                told.set(true);
                fs::create_dir_all(&theirs).unwrap();
                fs::write(theirs.join("1"), "theirs").unwrap();
            };
            let results = meddled_at(at, act, || field.perform(&stage, 1, &steps));
            let tree = field.tree();
            if !happened.get() {
                assert!(at > 5, "perform has steps");
                break;
            }
            assert_eq!(tree["d/1"], "theirs", "{at}: {results:?}");
            let whole = with_all(&[("d/1", "theirs")]);
            let left = tree_of(&[("d", "/"), ("d/1", "theirs"), ("g", "/"), ("g/4", "four")]);
            let failed = failures(&results);
            let as_told = if failed.is_empty() { tree == whole } else { tree == left && failed.len() == 7 };
            assert!(as_told, "{at}: {tree:?} {failed:?}");
        }
    }

    /// At each step of growing, staging and performing: a tree is there whole or not at all, what was not placed goes, and the
    /// run can be undone, or done again.
    #[test]
    fn killed_at_any_step_a_tree_is_whole_or_absent_and_leaves_nothing() {
        for at in 0.. {
            let field = Field::new(&[("a", "a")]);
            let before = field.tree();
            let act = || {
                let stage = field.growing(1, &FOLDERS, &FILES);
                let put = |(at, text): &(&str, &str)| {
                    let staged = stage.whole(&promise(at, text.as_bytes()), text.as_bytes()).ok()?;
                    Some(Step::Put { staged, path: path(at), expected: field.saw(at) })
                };
                let puts: Option<Vec<_>> = FILES.iter().map(put).collect();
                let Some(mut steps) = puts else { return };
                steps.extend(FOLDERS.map(|(at, bits)| field.folder(at, bits)));
                let _ = field.try_perform(&stage, 1, Some(Limits::default()), &steps);
            };
            let ((), died) = killed_at(at, act);
            let (there, all) = (field.tree(), with_all(&[("a", "a")]));
            for top in ["d", "g"] {
                let below = |tree: &std::collections::BTreeMap<String, String>| {
                    let within = |(at, _): &(&String, &String)| path(at).is_within(&path(top));
                    tree.iter()
                        .filter(within)
                        .map(|(at, text)| (at.clone(), text.clone()))
                        .collect::<Vec<_>>()
                };
                assert!(below(&there).is_empty() || below(&there) == below(&all), "{at} {top}: {there:?}");
            }
            assert_eq!((&there["a"], field.kept()), (&"a".to_owned(), vec![]), "{at}");
            let (stage, left) = Stage::open(field.state().folder(), run(2), LATER).unwrap();
            assert_eq!(left, [""; 0], "{at}");
            stage.close().unwrap();
            assert_eq!(names(&field.at(".syncfiles/stage")), [""; 0], "{at}");
            let state = field.state();
            let undo = Restorer { root: &field.root, state: &state, run: run(3), now: LATER };
            match undo.plan_undo(Some(run(1))) {
                Ok(way) => assert_eq!(failures(&undo.perform(&way).unwrap()), [""; 0], "{at}"),
                Err(RestoreError::History(_)) => {}
                Err(error) => panic!("{at}: {error}"),
            }
            assert_eq!(field.tree(), before, "{at}");
            let stage = field.growing(4, &FOLDERS, &FILES);
            let again = steps(&field, &stage);
            assert_eq!(failures(&field.perform(&stage, 4, &again)), [""; 0], "{at}");
            assert_eq!(field.tree(), all, "{at}");
            if !died {
                assert!(at > 20, "there are steps");
                break;
            }
        }
    }

    #[test]
    fn clearing_a_dead_tree_leaves_what_somebody_else_put_or_changed_there() {
        let field = Field::new(&[("precious", "precious")]);
        let more = [("g/5", "five"), ("g/6", "six"), ("g/7", "seven"), ("h/8", "eight")];
        let files = [&FILES[..], &more].concat();
        let dead = field.growing(1, &[&FOLDERS[..], &[("h", 0o755)]].concat(), &files);
        files.iter().for_each(|(at, text)| drop(staged(&dead, at, text)));
        drop(dead);
        let grown = staging_of(&field, 1);
        fs::write(grown.join("p0/e/mine"), "theirs").unwrap();
        fs::write(grown.join("p3/4"), "more than was promised").unwrap();
        fs::hard_link(grown.join("p3/5"), field.at("second")).unwrap();
        fs::remove_file(grown.join("p3/6")).unwrap();
        symlink(field.at("precious"), grown.join("p3/6")).unwrap();
        fs::remove_file(grown.join("p3/7")).unwrap();
        fs::create_dir(grown.join("p3/7")).unwrap();
        fs::rename(grown.join("p4"), field.at("elsewhere")).unwrap();
        symlink(field.at("elsewhere"), grown.join("p4")).unwrap();
        let (_, mut left) = Stage::open(field.state().folder(), run(2), LATER).unwrap();
        left.sort();
        let told = ["p0", "p3", "p4"].map(|tree| format!(".syncfiles/stage/{}/{tree}", run(1)));
        assert_eq!(left, told);
        assert_eq!(names(&grown), ["p0", "p3", "p4"]);
        assert_eq!(
            (names(&grown.join("p0")), names(&grown.join("p0/e"))),
            (vec!["e".into()], vec!["mine".into()])
        );
        assert_eq!(names(&grown.join("p3")), ["4", "5", "6", "7"]);
        let tree = field.tree();
        assert_eq!(
            (&*tree["precious"], &*tree["second"], &*tree["elsewhere/8"]),
            ("precious", "five", "eight")
        );
    }

    #[test]
    fn a_list_that_is_torn_clears_what_it_names() {
        let field = Field::new(&[]);
        let dead = growing(&field);
        steps(&field, &dead);
        drop(dead);
        let list = staging_of(&field, 1).join("inventory");
        let whole = fs::read(&list).unwrap();
        let torn = whole.windows(2).position(|pair| pair == b"-4").unwrap();
        fs::write(&list, &whole[..torn]).unwrap();
        let (_, left) = Stage::open(field.state().folder(), run(2), LATER).unwrap();
        assert_eq!(left, [format!(".syncfiles/stage/{}/p3", run(1))]);
        assert_eq!(names(&staging_of(&field, 1).join("p3")), ["4"]);
    }

    #[test]
    fn what_cannot_grow_is_staged_by_itself() {
        for blocked in ["p0", "p0/e", "p0/e/2", "inventory"] {
            let field = Field::new(&[]);
            let mut stage = field.stage(1);
            let theirs = staging_of(&field, 1).join(blocked);
            if blocked == "inventory" {
                fs::write(&theirs, "theirs").unwrap();
            }
            let folders = FOLDERS.map(|(at, bits)| (path(at), Bits::of_mode(bits)));
            stage.grow(folders.into(), [].into_iter());
            if let Some((above, _)) = blocked.rsplit_once('/') {
                stage.grown_folder(&path(&above.replace("p0", "d"))).unwrap();
            }
            fs::write(&theirs, "theirs").unwrap();
            let steps = steps(&field, &stage);
            assert!(steps.iter().filter(|step| is_member(step)).count() < FILES.len(), "{blocked}");
            let results = field.perform(&stage, 1, &steps);
            // What somebody put into a tree comes along, and is as little overwritten as anything.
            let expected: &[&str] = match blocked {
                "p0/e" => &["d/e: Changed", "d/e/f: Changed", "d/e/2: Changed", "d/e/f/3: Changed"],
                "p0/e/2" => &["d/e/2: Changed"],
                _ => &[],
            };
            assert_eq!(failures(&results), expected, "{blocked}");
            let tree = field.tree();
            match blocked {
                "p0/e" | "p0/e/2" => assert_eq!(tree[&blocked.replace("p0", "d")], "theirs"),
                _ => assert_eq!(tree, with_all(&[]), "{blocked}"),
            }
        }
    }

    #[test]
    fn files_that_come_in_any_order_keep_a_few_folders_open() {
        let field = Field::new(&[]);
        let folders: Vec<_> = (0..20).map(|number| format!("d{}/e{}", number % 3, number)).collect();
        let tops = ["d0", "d1", "d2"];
        let all: Vec<_> =
            tops.into_iter().chain(folders.iter().map(|at| &**at)).map(|at| (at, 0o755)).collect();
        let files: Vec<_> = (0..200).map(|number| format!("{}/{number}", folders[number * 7 % 20])).collect();
        let files: Vec<_> = files.iter().map(|at| (&**at, "x")).collect();
        let stage = field.growing(1, &all, &files);
        let mut steps: Vec<_> = files.iter().map(|(at, text)| field.put(&stage, at, text)).collect();
        assert!(steps.iter().all(is_member));
        assert_eq!(stage.nursery.locked().near.len(), NEAR);
        steps.extend(all.iter().map(|(at, bits)| field.folder(at, *bits)));
        assert_eq!(failures(&field.perform(&stage, 1, &steps)), [""; 0]);
        assert_eq!(field.tree().len(), files.len() + all.len());
    }
}
