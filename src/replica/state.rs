//! A root's own state: `.syncfiles/`, and in it one SQLite database for identity, index, bases and history.
//!
//! **Durability.** The journal is a write-ahead log and `synchronous` is `NORMAL`: a commit is atomic at once, and
//! durable once the log has reached the disk. Nothing waits for that, because the order of a sync provides it:
//! whatever a later step relies on (the history's rows, System 1's run id) is committed before the `syncfs`
//! that precedes the step, and the log is on the same file system. What power loss can take, the last base, is
//! safe to lose: an older base or none decides the same or more carefully.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use thiserror::Error;

use super::arriving;
use super::identity::Id;
use super::index::{self, IndexError};
use super::opening::{self, PATIENCE, Turn};
use super::root::Root;
use crate::core::age::Timestamp;
use crate::core::shown::Shown;
use crate::core::snapshot::Snapshot;

/// The layout of the database that this program writes; a database with a greater number is refused.
pub const LAYOUT: i32 = 4;

/// Why a root's state cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// The folder or a file in it refused.
    #[error("cannot {act} the state of the root in {}: {source}; check its owner, permissions and free space", shown(.path))]
    Folder {
        /// What was done.
        act: &'static str,
        /// The state folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A newer syncfiles wrote it.
    #[error("cannot use the state in {}: it has layout {found} and this syncfiles knows up to {LAYOUT}; update syncfiles", shown(.path))]
    Newer {
        /// The state folder.
        path: PathBuf,
        /// Its layout.
        found: i32,
    },
    /// Another run of the same pair of roots came between.
    #[error("cannot go on with this sync: another one of the same two folders has ended since; sync again")]
    Overtaken,
    /// Another session or program did not let go of the database.
    #[error(
        "cannot {act} the state of the root: another program has kept it locked for {} minutes; end the one that \
         hangs, then sync again", PATIENCE.as_secs() / 60
    )]
    Busy {
        /// What was to be done.
        act: &'static str,
    },
    /// There is no room for it.
    #[error("cannot {act} the state of the root: its disk is full; free some space there, then sync again")]
    Full {
        /// What was to be done.
        act: &'static str,
    },
    /// SQLite failed.
    #[error("cannot {act} the state of the root: {source}; if this stays, move .syncfiles/state.db away")]
    Database {
        /// What was done.
        act: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A row that this program cannot have written.
    #[error(
        "cannot read the {what} of the root: a row is damaged; the next sync without it is a first meeting"
    )]
    Damaged {
        /// Which rows.
        what: &'static str,
    },
}

impl StateError {
    /// Whether the root cannot be written, so that its state has to live elsewhere ([`State::open_at`]).
    pub fn is_read_only(&self) -> bool {
        use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        matches!(self, StateError::Folder { source, .. }
            if matches!(source.kind(), PermissionDenied | ReadOnlyFilesystem))
    }
}

/// Names the act that failed in SQLite.
pub(crate) fn database(act: &'static str) -> impl Fn(rusqlite::Error) -> StateError {
    use rusqlite::ErrorCode::{DatabaseBusy, DiskFull, FileLockingProtocolFailed};
    move |source| match source.sqlite_error_code() {
        Some(DiskFull) => StateError::Full { act },
        Some(DatabaseBusy | FileLockingProtocolFailed) => StateError::Busy { act },
        _ => StateError::Database { act, source },
    }
}

/// The open state of a root. One thread owns it; every session of a server opens its own.
#[derive(Debug)]
pub struct State {
    folder: Root,
    db: Connection,
    notices: Vec<String>,
}

impl State {
    /// Opens `ROOT/.syncfiles` to read and write, and makes it where it is absent.
    pub fn open(root: &Root) -> Result<State, StateError> {
        State::writable(root.make_state().map_err(folder("make", root.path()))?)
    }

    /// As [`open`](State::open), for a root that cannot be written: its state lives in the folder `path`,
    /// whose parent exists.
    pub fn open_at(path: &Path) -> Result<State, StateError> {
        match rustix::fs::mkdir(path, rustix::fs::Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(folder("make", path)(errno.into())),
        }
        State::writable(Root::open(path).map_err(io::Error::other).map_err(folder("open", path))?)
    }

    /// Opens the state that is there, to read only, and creates nothing; `None` where there is none to read.
    pub fn peek(root: &Root) -> Result<Option<State>, StateError> {
        root.state().map_or(Ok(None), State::readable)
    }

    /// As [`peek`](State::peek), for state that lives in the folder `path`.
    pub fn peek_at(path: &Path) -> Result<Option<State>, StateError> {
        Root::open(path).map_or(Ok(None), State::readable)
    }

    /// As [`peek`](State::peek), for one short look: whoever wants to open the state waits until it is over.
    pub fn glance<T>(
        root: &Root,
        look: impl FnOnce(&State) -> Result<T, StateError>,
    ) -> Result<Option<T>, StateError> {
        root.state().map_or(Ok(None), |folder| State::glimpsed(folder, look))
    }

    /// As [`glance`](State::glance), for state that lives in the folder `path`.
    pub fn glance_at<T>(
        path: &Path,
        look: impl FnOnce(&State) -> Result<T, StateError>,
    ) -> Result<Option<T>, StateError> {
        Root::open(path).map_or(Ok(None), |folder| State::glimpsed(folder, look))
    }

    /// The state folder.
    pub fn folder(&self) -> &Root {
        &self.folder
    }

    /// The database, for the tables that others keep in it.
    pub fn db(&self) -> &Connection {
        &self.db
    }

    /// What the user should hear about: a damaged database that was moved aside. Each is told once.
    pub fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// Writes to the index, all of it or nothing; `since` as in [`index::write()`]. What `run` was [expected to
    /// put](State::expect) in place is among the changes, as far as it came there.
    pub fn store_index(
        &self,
        changes: &[index::Change],
        since: i64,
        run: Option<Id>,
    ) -> Result<(), IndexError> {
        if changes.is_empty() && run.is_none() {
            return Ok(());
        }
        let writing = Transaction::new_unchecked(&self.db, TransactionBehavior::Immediate);
        let writing = writing.map_err(IndexError::Store)?;
        index::write(&writing, changes, since)?;
        if let Some(run) = run {
            arriving::arrived(&writing, run).map_err(IndexError::Store)?;
        }
        writing.commit().map_err(IndexError::Store)
    }

    /// Writes down the moments of edits of what `run` is about to put in place; nothing where there are none.
    pub fn expect(&self, run: Id, entries: &[index::Entry], now: Timestamp) -> Result<(), StateError> {
        if entries.is_empty() {
            return Ok(());
        }
        let act = "write what arrives into";
        let writing = self.write(act)?;
        arriving::write(&writing, run, entries, now).map_err(database(act))?;
        writing.commit().map_err(database(act))
    }

    /// Gives `snapshot`, whose scan began with `index`, the moments of edits that other sessions have written since.
    /// What the index is to learn of that is returned.
    pub fn date(
        &self,
        snapshot: &mut Snapshot,
        index: &index::Index,
        started: Timestamp,
    ) -> Result<Vec<index::Change>, IndexError> {
        let found = arriving::date(snapshot, &arriving::later(&self.db, index.written)?);
        let row =
            |(path, node)| index::Entry::of(&node, started).map(|entry| index::Change::Put(path, entry));
        Ok(found.into_iter().filter_map(row).collect())
    }

    /// Begins a transaction that writes. It takes its place in the queue of writers at once, so that it never
    /// fails half-way for having read before another one wrote.
    pub(crate) fn write(&self, act: &'static str) -> Result<Transaction<'_>, StateError> {
        Transaction::new_unchecked(&self.db, TransactionBehavior::Immediate).map_err(database(act))
    }

    /// Begins to read: all that is read until the end is of one moment.
    pub(crate) fn read(&self, act: &'static str) -> Result<Transaction<'_>, StateError> {
        Transaction::new_unchecked(&self.db, TransactionBehavior::Deferred).map_err(database(act))
    }

    fn writable(folder: Root) -> Result<State, StateError> {
        let turn = Turn::alone(&folder)?;
        let (db, damaged) = opening::open(&folder)?;
        drop(turn);
        let notice = |(name, why)| {
            format!(
                "the state database was damaged ({why}) and is kept as .syncfiles/{name}; this sync is a first meeting"
            )
        };
        Ok(State { folder, db, notices: damaged.map(notice).into_iter().collect() })
    }

    fn readable(folder: Root) -> Result<Option<State>, StateError> {
        let _turn = Turn::shared(&folder)?;
        let Some(reader) = opening::read(&folder)? else { return Ok(None) };
        let db = reader.keep().map_err(database("read"))?;
        Ok(Some(State { folder, db, notices: Vec::new() }))
    }

    fn glimpsed<T>(
        folder: Root,
        look: impl FnOnce(&State) -> Result<T, StateError>,
    ) -> Result<Option<T>, StateError> {
        let _turn = Turn::shared(&folder)?;
        let Some(reader) = opening::read(&folder)? else { return Ok(None) };
        look(&State { folder, db: reader.db, notices: Vec::new() }).map(Some)
    }
}

pub(super) fn folder(act: &'static str, path: &Path) -> impl Fn(io::Error) -> StateError {
    let path = path.to_path_buf();
    move |source| StateError::Folder { act, path: path.clone(), source }
}

fn shown(path: &Path) -> String {
    Shown(path.as_os_str().as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;

    fn listing(folder: &Path) -> BTreeSet<String> {
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn root() -> (tempfile::TempDir, Root) {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::open(temp.path()).unwrap();
        (temp, root)
    }

    #[test]
    fn looking_at_a_root_creates_nothing_in_it() {
        let (temp, root) = root();
        assert!(State::peek(&root).unwrap().is_none());
        assert_eq!(listing(temp.path()), BTreeSet::new());
        drop(State::open(&root).unwrap());
        let before = listing(&temp.path().join(".syncfiles"));
        let state = State::peek(&root).unwrap().unwrap();
        state.db().query_row("SELECT count(*) FROM base", (), |row| row.get::<_, i64>(0)).unwrap();
        assert!(state.db().execute("DELETE FROM base", ()).is_err());
        assert_eq!(listing(&temp.path().join(".syncfiles")), before);
    }

    #[test]
    fn looking_while_a_sync_writes_sees_what_it_has_committed() {
        let (_temp, root) = root();
        let writer = State::open(&root).unwrap();
        writer.db().execute("INSERT INTO pairs (peer, run) VALUES (x'01', x'02')", ()).unwrap();
        let reader = State::peek(&root).unwrap().unwrap();
        let seen: i64 = reader.db().query_row("SELECT count(*) FROM pairs", (), |row| row.get(0)).unwrap();
        assert_eq!(seen, 1);
    }

    #[test]
    fn a_damaged_database_is_kept_aside_and_a_fresh_one_begun() {
        let (temp, root) = root();
        let folder = temp.path().join(".syncfiles");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("state.db"), [b'?'; 9000]).unwrap();
        assert!(State::peek(&root).unwrap().is_none());
        let notices = State::open(&root).unwrap().take_notices();
        assert!(notices[0].contains("state.db.damaged-1"), "{notices:?}");
        assert_eq!(fs::read(folder.join("state.db.damaged-1")).unwrap(), [b'?'; 9000]);
        assert!(State::open(&root).unwrap().take_notices().is_empty());
    }

    #[test]
    fn a_database_that_is_a_link_is_never_followed() {
        let (temp, root) = root();
        let elsewhere = tempfile::tempdir().unwrap();
        let target = elsewhere.path().join("target");
        fs::create_dir(temp.path().join(".syncfiles")).unwrap();
        std::os::unix::fs::symlink(&target, temp.path().join(".syncfiles/state.db")).unwrap();
        assert!(State::open(&root).unwrap().take_notices()[0].contains("damaged-1"));
        assert!(!target.exists());
    }

    #[test]
    fn a_newer_layout_is_refused_and_left_as_it_is() {
        let (_temp, root) = root();
        State::open(&root).unwrap().db().pragma_update(None, "user_version", LAYOUT + 1).unwrap();
        assert!(matches!(State::open(&root), Err(StateError::Newer { found, .. }) if found == LAYOUT + 1));
        assert!(matches!(State::peek(&root), Err(StateError::Newer { .. })));
    }

    #[test]
    fn a_name_full_of_what_means_something_in_a_uri_is_only_a_name() {
        let temp = tempfile::tempdir().unwrap();
        let odd = temp.path().join("a?mode=memory&#%41 b");
        fs::create_dir(&odd).unwrap();
        drop(State::open(&Root::open(&odd).unwrap()).unwrap());
        assert!(odd.join(".syncfiles/state.db").exists());
        assert!(State::open_at(&temp.path().join("outside")).is_ok());
    }
}
