//! Hears from the kernel what changes below a root, and gathers it until somebody looks.
//!
//! Every folder is watched by itself, from before it is listed: so nothing that happens afterwards is missed, and
//! neither the root's own state nor what is excluded is ever watched. What is told is a hint of where to look again, never of
//! what stands there.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind, RenameMode};
use notify::{Config, Error, ErrorKind, Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use thiserror::Error as ThisError;

use super::root::{Root, shown};
use crate::core::path::{Name, RelPath, STATE_FOLDER};

/// How much may be gathered before it is simply everything.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Paths.
    pub paths: usize,
    /// Folders that are watched; the system has a limit of its own.
    pub folders: usize,
}

impl Default for Room {
    fn default() -> Room {
        Room { paths: 10_000, folders: usize::MAX }
    }
}

/// Why a root cannot be watched at all.
#[derive(Debug, ThisError)]
#[error(
    "cannot watch the root {root}: {problem}; raise fs.inotify.max_user_instances, or end what else watches folders"
)]
pub struct WatchError {
    root: String,
    problem: String,
}

/// What may have changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Dirty {
    /// Anything.
    All,
    /// These paths; where `true`, a folder there may be another one than before, with other members.
    Paths(BTreeMap<RelPath, bool>),
}

impl Default for Dirty {
    fn default() -> Dirty {
        Dirty::Paths(BTreeMap::new())
    }
}

impl Dirty {
    /// Whether nothing has.
    pub fn is_empty(&self) -> bool {
        matches!(self, Dirty::Paths(paths) if paths.is_empty())
    }
}

/// Watches the folders below one root.
pub struct Watcher {
    watcher: Mutex<Watching>,
    heard: Arc<Heard>,
    room: Room,
}

struct Watching {
    watcher: RecommendedWatcher,
    folders: usize,
    /// Why not every folder is watched.
    blind: Option<String>,
}

/// What the watcher's own thread shares.
struct Heard {
    /// As the watcher names it.
    root: PathBuf,
    dirty: Mutex<Dirty>,
    room: usize,
    awake: Box<dyn Fn() + Send + Sync>,
}

impl Watcher {
    /// For the root that `root` pins; watches nothing yet. `awake` is called, from any thread, whenever something new may have
    /// changed.
    pub fn new(root: &Root, room: Room, awake: Box<dyn Fn() + Send + Sync>) -> Result<Watcher, WatchError> {
        let failed = |problem: &dyn std::fmt::Display| WatchError {
            root: shown(root.path()),
            problem: problem.to_string(),
        };
        let path = root.path().canonicalize().map_err(|error| failed(&error))?;
        let heard = Arc::new(Heard { root: path, dirty: Mutex::default(), room: room.paths, awake });
        let listener = heard.clone();
        let hear = move |event: notify::Result<Event>| listener.hear(event);
        let config = Config::default().with_follow_symlinks(false);
        let watcher = RecommendedWatcher::new(hear, config).map_err(|error| failed(&error))?;
        let watching = Watching { watcher, folders: 0, blind: None };
        Ok(Watcher { watcher: Mutex::new(watching), heard, room })
    }

    /// Watches `folder`, not what is in the folders in it. To be called before it is listed.
    pub fn watch(&self, folder: &RelPath) {
        let mut watching = self.watching();
        if watching.blind.is_some() {
            return;
        }
        if watching.folders >= self.room.folders {
            watching.blind = Some("there are too many folders".into());
            return;
        }
        match watching.watcher.watch(&self.heard.path_of(folder), RecursiveMode::NonRecursive) {
            Ok(()) => watching.folders += 1,
            // What is gone, or cannot be opened, is told of by the folder that holds it.
            Err(error) if is_elsewhere(&error) => {}
            Err(error) => watching.blind = Some(why(&error)),
        }
    }

    /// Every folder is about to be listed, and watched, anew.
    pub fn begin_anew(&self) {
        let mut watching = self.watching();
        (watching.folders, watching.blind) = (0, None);
    }

    /// Why some folders are not watched; none if all are.
    pub fn blind(&self) -> Option<String> {
        self.watching().blind.clone()
    }

    /// What may have changed since the last call.
    pub fn take(&self) -> Dirty {
        std::mem::take(&mut *self.heard.dirty())
    }

    /// Whether nothing may have changed since the last [`take`](Watcher::take).
    pub fn is_clean(&self) -> bool {
        self.heard.dirty().is_empty()
    }

    /// Whether everything may have changed.
    pub fn is_everything(&self) -> bool {
        *self.heard.dirty() == Dirty::All
    }

    /// Has everything looked at again.
    pub fn distrust_all(&self) {
        self.heard.add_all();
    }

    fn watching(&self) -> MutexGuard<'_, Watching> {
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher").field("root", &self.heard.root).finish_non_exhaustive()
    }
}

fn is_elsewhere(error: &Error) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    match &error.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(error) => matches!(error.kind(), NotFound | NotADirectory | PermissionDenied),
        _ => false,
    }
}

fn why(error: &Error) -> String {
    match &error.kind {
        ErrorKind::MaxFilesWatch => "the system lets nobody watch more (fs.inotify.max_user_watches)".into(),
        _ => error.to_string(),
    }
}

impl Heard {
    /// On the watcher's own thread.
    fn hear(&self, event: notify::Result<Event>) {
        let Ok(event) = event else { return self.add_all() };
        if event.need_rescan() {
            return self.add_all();
        }
        let whole = match event.kind {
            // Reading changes nothing; and this program reads.
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
            EventKind::Access(_) => return,
            // Its two halves have been told already.
            EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => return,
            // A folder that is watched has moved: what is told of it from now on is told under its old name.
            EventKind::Modify(ModifyKind::Name(RenameMode::From)) if event.tracker().is_none() => {
                return self.add_all();
            }
            // Also of what is gone: something else may stand there by now, of which nothing would be heard.
            EventKind::Modify(ModifyKind::Name(_))
            | EventKind::Create(CreateKind::Folder)
            | EventKind::Remove(_) => true,
            _ => false,
        };
        let gone = matches!(event.kind, EventKind::Remove(_));
        event.paths.iter().for_each(|path| self.place(path, whole, gone));
    }

    fn place(&self, path: &Path, whole: bool, gone: bool) {
        let Ok(below) = path.strip_prefix(&self.root) else { return self.add_all() };
        let bytes = below.as_os_str().as_bytes();
        if bytes.split(|&byte| byte == b'/').next() == Some(STATE_FOLDER) {
            return;
        }
        match RelPath::parse(bytes) {
            // Of the root itself nothing is compared.
            Ok(path) if path.is_root() && !gone => {}
            Ok(path) => self.add(path, whole),
            // What no path can carry concerns the folder that it is in.
            Err(_) => self.add(carried(bytes), true),
        }
    }

    fn add(&self, path: RelPath, whole: bool) {
        if path.is_root() {
            return self.add_all();
        }
        let mut dirty = self.dirty();
        let Dirty::Paths(paths) = &mut *dirty else { return };
        *paths.entry(path).or_default() |= whole;
        if paths.len() > self.room {
            *dirty = Dirty::All;
        }
        drop(dirty);
        (self.awake)();
    }

    fn add_all(&self) {
        *self.dirty() = Dirty::All;
        (self.awake)();
    }

    fn path_of(&self, folder: &RelPath) -> PathBuf {
        if folder.is_root() {
            self.root.clone()
        } else {
            self.root.join(Path::new(std::ffi::OsStr::from_bytes(folder.as_bytes())))
        }
    }

    fn dirty(&self) -> MutexGuard<'_, Dirty> {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The longest path above these bytes that can be carried.
fn carried(bytes: &[u8]) -> RelPath {
    let names = bytes.split(|&byte| byte == b'/').map_while(|name| Name::parse(name).ok());
    let above = names.scan(RelPath::root(), |above, name| {
        *above = above.join(&name).ok()?;
        Some(above.clone())
    });
    // Never the whole of it: that cannot be carried.
    above.last().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    /// No step takes this long.
    const STUCK: Duration = Duration::from_secs(120);

    struct Seen {
        temp: tempfile::TempDir,
        watcher: Watcher,
        awake: Receiver<()>,
    }

    impl Seen {
        fn new(room: Room) -> Seen {
            let temp = tempfile::tempdir().unwrap();
            let (sender, awake) = channel();
            let awaken = Box::new(move || sender.send(()).unwrap_or_default());
            let watcher = Watcher::new(&Root::open(temp.path()).unwrap(), room, awaken).unwrap();
            watcher.watch(&RelPath::root());
            Seen { temp, watcher, awake }
        }

        /// Gathers until `done`.
        fn until(&self, done: impl Fn(&Dirty) -> bool) -> Dirty {
            let mut all = BTreeMap::new();
            loop {
                match self.watcher.take() {
                    Dirty::All => all.clear(),
                    Dirty::Paths(paths) => {
                        all.extend(paths);
                        let dirty = Dirty::Paths(all.clone());
                        if done(&dirty) {
                            return dirty;
                        }
                        self.awake.recv_timeout(STUCK).expect("nothing was heard");
                        continue;
                    }
                }
                assert!(done(&Dirty::All), "everything");
                return Dirty::All;
            }
        }
    }

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    fn has(dirty: &Dirty, text: &str) -> bool {
        matches!(dirty, Dirty::Paths(paths) if paths.contains_key(&path(text)))
    }

    #[test]
    fn what_is_written_made_moved_and_removed_is_heard_of_and_what_is_read_is_not() {
        let seen = Seen::new(Room::default());
        let at = |name: &str| seen.temp.path().join(name);
        fs::write(at("read"), "x").unwrap();
        seen.until(|dirty| has(dirty, "read"));
        fs::create_dir(at("d")).unwrap();
        seen.until(|dirty| has(dirty, "d"));
        seen.watcher.watch(&path("d"));
        // Events come in order: what was heard before the last was heard at all.
        fs::read(at("read")).unwrap();
        fs::write(at("d/f"), "x").unwrap();
        let heard = seen.until(|dirty| has(dirty, "d/f"));
        assert!(!has(&heard, "read"), "{heard:?}");
        fs::rename(at("d/f"), at("g")).unwrap();
        let Dirty::Paths(heard) = seen.until(|dirty| has(dirty, "g")) else { panic!() };
        assert!(heard[&path("d/f")] && heard[&path("g")], "what comes into a place may be another folder");
        fs::remove_file(at("g")).unwrap();
        seen.until(|dirty| has(dirty, "g"));
    }

    #[test]
    fn the_roots_own_state_is_not_heard_of_and_another_roots_concerns_the_folder_that_holds_it() {
        let seen = Seen::new(Room::default());
        fs::create_dir_all(seen.temp.path().join(".syncfiles")).unwrap();
        fs::create_dir(seen.temp.path().join("d")).unwrap();
        let heard = seen.until(|dirty| has(dirty, "d"));
        assert!(matches!(heard, Dirty::Paths(paths) if paths.len() == 1));
        seen.watcher.watch(&path("d"));
        fs::create_dir(seen.temp.path().join("d/.syncfiles")).unwrap();
        seen.until(|dirty| has(dirty, "d"));
        assert_eq!(carried(&b"a/".repeat(300)).depth(), 256);
    }

    #[test]
    fn a_folder_that_moves_is_everything_as_its_watches_go_by_another_name() {
        let seen = Seen::new(Room::default());
        let at = |name: &str| seen.temp.path().join(name);
        fs::create_dir(at("d")).unwrap();
        seen.until(|dirty| has(dirty, "d"));
        seen.watcher.watch(&path("d"));
        fs::rename(at("d"), at("e")).unwrap();
        seen.until(|dirty| *dirty == Dirty::All);
    }

    #[test]
    fn more_than_there_is_room_for_is_everything() {
        let seen = Seen::new(Room { paths: 3, ..Room::default() });
        for n in 0..5 {
            fs::write(seen.temp.path().join(n.to_string()), "x").unwrap();
        }
        while !seen.watcher.is_everything() {
            seen.awake.recv_timeout(STUCK).expect("nothing was heard");
        }
        assert_eq!((seen.watcher.take(), seen.watcher.is_everything()), (Dirty::All, false));
    }

    #[test]
    fn an_overflow_of_the_kernels_queue_and_any_error_is_everything() {
        let seen = Seen::new(Room::default());
        let overflow = Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
        for told in [Ok(overflow), Err(Error::generic("it broke"))] {
            seen.watcher.heard.hear(told);
            assert_eq!(seen.watcher.take(), Dirty::All);
        }
    }

    #[test]
    fn folders_beyond_the_limit_are_said_not_to_be_watched_until_everything_is_watched_anew() {
        let seen = Seen::new(Room { folders: 2, ..Room::default() });
        for name in ["a", "b"] {
            fs::create_dir(seen.temp.path().join(name)).unwrap();
            assert_eq!(seen.watcher.blind(), None);
            seen.watcher.watch(&path(name));
        }
        assert!(seen.watcher.blind().is_some());
        seen.watcher.begin_anew();
        seen.watcher.watch(&path("nothing"));
        assert_eq!(seen.watcher.blind(), None, "what is gone needs no watch");
    }
}
