//! Two folders to tell stories with: put, sync, check.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use syncfiles::core::path::RelPath;
use syncfiles::session::progress::{Event, Outcome, Progress};
use syncfiles::session::{
    Export, Exports, Local, Opening, Options, Remote, SessionError, Together, sync, sync_together,
};
use tempfile::TempDir;

/// A folder of one side, with helpers that name paths below it.
pub struct Side {
    pub root: PathBuf,
}

/// What stands at a path, as two sides are compared: kind, bits, content or target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    File(u32, Vec<u8>),
    Folder(u32),
    Link(PathBuf),
}

impl Side {
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Writes a file, last modified `age` seconds ago; its folders are made as needed.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>, age: u64) -> &Side {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        self.age(name, age)
    }

    /// Sets the modification time `age` seconds into the past.
    pub fn age(&self, name: &str, age: u64) -> &Side {
        let file = fs::File::open(self.path(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        self
    }

    pub fn folder(&self, name: &str) -> &Side {
        fs::create_dir_all(self.path(name)).unwrap();
        self
    }

    pub fn link(&self, name: &str, target: impl AsRef<Path>) -> &Side {
        symlink(target, self.path(name)).unwrap();
        self
    }

    pub fn chmod(&self, name: &str, bits: u32) -> &Side {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(bits)).unwrap();
        self
    }

    pub fn rename(&self, from: &str, to: &str) -> &Side {
        fs::rename(self.path(from), self.path(to)).unwrap();
        self
    }

    /// Removes a file, link, or folder with everything below.
    pub fn remove(&self, name: &str) -> &Side {
        let path = self.path(name);
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        }
        .unwrap();
        self
    }

    /// The content of a file; `None` if nothing stands there.
    pub fn read(&self, name: &str) -> Option<String> {
        fs::read(self.path(name)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Everything below the root but syncfiles' own state.
    pub fn tree(&self) -> BTreeMap<PathBuf, Entry> {
        self.tree_now().unwrap()
    }

    /// The same while somebody changes it, which may fail.
    pub fn tree_now(&self) -> std::io::Result<BTreeMap<PathBuf, Entry>> {
        let mut tree = BTreeMap::new();
        collect(&self.root, Path::new(""), &mut tree)?;
        Ok(tree)
    }

    /// The contents of all displaced versions that this side keeps.
    pub fn displaced(&self) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        files_below(&self.root.join(".syncfiles/history"), &mut found);
        found.sort();
        found
    }
}

fn files_below(folder: &Path, found: &mut Vec<Vec<u8>>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap();
        if kind.is_dir() {
            files_below(&path, found);
        } else if kind.is_file() {
            found.push(fs::read(path).unwrap());
        }
    }
}

fn collect(root: &Path, below: &Path, tree: &mut BTreeMap<PathBuf, Entry>) -> std::io::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let name = below.join(entry?.file_name());
        if name == Path::new(".syncfiles") {
            continue;
        }
        let path = root.join(&name);
        let stat = fs::symlink_metadata(&path)?;
        let bits = stat.permissions().mode() & 0o7777;
        if stat.is_symlink() {
            tree.insert(name, Entry::Link(fs::read_link(path)?));
        } else if stat.is_dir() {
            tree.insert(name.clone(), Entry::Folder(bits));
            collect(root, &name, tree)?;
        } else if stat.is_file() {
            tree.insert(name, Entry::File(bits, fs::read(path)?));
        }
    }
    Ok(())
}

/// What somebody else does when they hear of an event; the run waits for them.
type Meddle = Box<dyn Fn(&Event) + Send + Sync>;

/// Records every event of a run.
#[derive(Default)]
struct Recorder {
    events: Mutex<Vec<Event>>,
    meddle: Option<Meddle>,
}

impl Progress for Recorder {
    fn event(&self, event: &Event) {
        self.events.lock().unwrap().push(event.clone());
        self.meddle.iter().for_each(|meddle| meddle(event));
    }
}

/// What a run did.
pub struct Ran {
    pub outcome: Outcome,
    pub events: Vec<Event>,
}

impl Ran {
    /// How many files travelled.
    pub fn travelled(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Started { .. })).count()
    }

    /// How many conflicts were told.
    pub fn conflicts(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Conflict { .. })).count()
    }

    /// All notices, one a line.
    pub fn notices(&self) -> String {
        let notice =
            |event: &Event| if let Event::Notice(text) = event { Some(format!("{text}\n")) } else { None };
        self.events.iter().filter_map(notice).collect()
    }
}

/// System 1 and System 2, each a folder with a memory of its own outside of it.
pub struct Pair {
    pub one: Side,
    pub two: Side,
    home: TempDir,
    beside: bool,
}

impl Pair {
    /// Two empty folders that have never met.
    pub fn new() -> Pair {
        Pair::within(tempfile::tempdir().unwrap())
    }

    /// As [`Pair::new`], in memory where the system has room there: for tests with very many syncs.
    pub fn fast() -> Pair {
        Pair::within(fast_folder())
    }

    fn within(home: TempDir) -> Pair {
        let side = |name: &str| Side { root: home.path().join(name) };
        let (one, two) = (side("one"), side("two"));
        fs::create_dir(&one.root).unwrap();
        fs::create_dir(&two.root).unwrap();
        Pair { one, two, home, beside: false }
    }

    /// The two folders stand on one system.
    pub fn beside(self) -> Pair {
        Pair { beside: true, ..self }
    }

    /// Where the system that has the folder `side` remembers what must live outside the roots.
    fn state(&self, side: &str) -> PathBuf {
        self.home.path().join(if self.beside { "state".into() } else { format!("state-{side}") })
    }

    /// What a user gets without options.
    pub fn options(&self) -> Options {
        Options::new(self.state("two"))
    }

    /// Syncs without options and expects no problem.
    pub fn sync(&self) -> Ran {
        let ran = self.try_sync(|_| {}).unwrap();
        assert_eq!(ran.outcome.problems, []);
        ran
    }

    /// Syncs with deletions travelling, and expects no problem.
    pub fn sync_deleting(&self) -> Ran {
        let ran = self.try_sync(|options| options.delete = true).unwrap();
        assert_eq!(ran.outcome.problems, []);
        ran
    }

    /// Syncs with options that `change` sets.
    pub fn try_sync(&self, change: impl FnOnce(&mut Options)) -> Result<Ran, SessionError> {
        self.try_sync_serving(change, |_| {})
    }

    /// As above, with what System 1 allows set by `serve`.
    pub fn try_sync_serving(
        &self,
        change: impl FnOnce(&mut Options),
        serve: impl FnOnce(&mut Exports),
    ) -> Result<Ran, SessionError> {
        let mut options = self.options();
        change(&mut options);
        let mut exports = self.exports();
        serve(&mut exports);
        sync_roots(exports, &self.two.root, &options)
    }

    /// Syncs on a clock that goes on by itself as soon as everybody only waits for it; how long that took by this clock.
    /// For small files only: what blocks a thread holds up the clock.
    pub fn sync_hasty(&self, change: impl FnOnce(&mut Options)) -> (Outcome, Duration) {
        let mut options = self.options();
        change(&mut options);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let begun = tokio::time::Instant::now();
            let progress = Arc::new(Recorder::default());
            let ended = sync_here(self.exports(), &RelPath::root(), &self.two.root, &options, progress).await;
            (ended.unwrap(), begun.elapsed())
        })
    }

    /// Syncs while `progress` watches, and does what it does.
    pub fn sync_watched(&self, progress: Arc<dyn Progress>) -> Result<Outcome, SessionError> {
        sync_watched(self.exports(), &RelPath::root(), &self.two.root, &self.options(), progress)
    }

    fn exports(&self) -> Exports {
        let folder = Export { name: "one".into(), path: self.one.root.clone() };
        Exports::new(vec![folder], self.state("one"))
    }

    /// One sync with the roles swapped: System 2's folder is served, and System 1's connects.
    pub fn sync_swapped(&self, change: impl FnOnce(&mut Options)) -> Result<Ran, SessionError> {
        let mut options = Options::new(self.state("one"));
        change(&mut options);
        let folder = Export { name: "two".into(), path: self.two.root.clone() };
        sync_roots(Exports::new(vec![folder], self.state("two")), &self.one.root, &options)
    }

    /// A sync in which somebody else acts on what they hear of it.
    pub fn sync_meddled(&self, meddle: impl Fn(&Event) + Send + Sync + 'static) -> Ran {
        let recorder = Recorder { meddle: Some(Box::new(meddle)), ..Recorder::default() };
        sync_below(self.exports(), &RelPath::root(), &self.two.root, &self.options(), recorder).unwrap()
    }

    /// Checks that both sides hold the same.
    pub fn assert_same(&self) {
        assert_eq!(self.one.tree(), self.two.tree());
    }

    /// Checks that another sync would do nothing at all.
    pub fn assert_settled(&self) {
        let before = self.one.tree();
        let ran = self.sync_deleting();
        assert_eq!((ran.travelled(), ran.outcome.deleted), (0, (0, 0)));
        self.assert_same();
        assert_eq!(before, self.one.tree());
    }
}

/// A folder for a test that writes much: in memory, if there is such a place.
pub fn fast_folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// One sync of System 2 with a folder below System 1.
pub fn sync_sub(pair: &Pair, sub: &RelPath, change: impl FnOnce(&mut Options)) -> Result<Ran, SessionError> {
    let mut options = pair.options();
    change(&mut options);
    sync_below(pair.exports(), sub, &pair.two.root, &options, Recorder::default())
}

/// One sync of the one folder in `exports` with `target`, over a stream in memory.
pub fn sync_roots(exports: Exports, target: &Path, options: &Options) -> Result<Ran, SessionError> {
    sync_below(exports, &RelPath::root(), target, options, Recorder::default())
}

/// As above, while somebody else acts on what they hear of it.
pub fn sync_roots_meddled(
    exports: Exports,
    target: &Path,
    options: &Options,
    meddle: impl Fn(&Event) + Send + Sync + 'static,
) -> Result<Ran, SessionError> {
    let recorder = Recorder { meddle: Some(Box::new(meddle)), ..Recorder::default() };
    sync_below(exports, &RelPath::root(), target, options, recorder)
}

fn sync_below(
    exports: Exports,
    sub: &RelPath,
    target: &Path,
    options: &Options,
    recorder: Recorder,
) -> Result<Ran, SessionError> {
    let recorder = Arc::new(recorder);
    let outcome = sync_watched(exports, sub, target, options, recorder.clone())?;
    let events = recorder.events.lock().unwrap().clone();
    Ok(Ran { outcome, events })
}

/// As above, telling `progress`.
fn sync_watched(
    exports: Exports,
    sub: &RelPath,
    target: &Path,
    options: &Options,
    progress: Arc<dyn Progress>,
) -> Result<Outcome, SessionError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(sync_here(exports, sub, target, options, progress))
}

/// As above, on the runtime of the caller.
async fn sync_here(
    exports: Exports,
    sub: &RelPath,
    target: &Path,
    options: &Options,
    progress: Arc<dyn Progress>,
) -> Result<Outcome, SessionError> {
    let opening = Opening {
        look: options.dry,
        create: true,
        new_root: options.new_root,
        state_home: options.state_home.clone(),
        exclusive: Some(options.timeout),
    };
    let local = Arc::new(Local::open(target, &RelPath::root(), opening)?);
    let export = &exports.folders[0];
    let name = export.path.display().to_string();
    let remote =
        Remote { export: export.name.clone(), sub: sub.clone(), place: format!("remote:{name}/{sub}"), name };
    if exports.state_home == options.state_home {
        return sync_together(exports, local, &remote, options, progress).await;
    }
    // Two systems: neither knows more of the other than what the connection tells.
    let together = Together::new(exports);
    let ended = sync(async || together.connect().await, local, &remote, options, progress).await;
    together.end().await;
    ended
}
