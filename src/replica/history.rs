//! What runs displaced and made, so that it can be brought back: `.syncfiles/history/<run>/` and rows about it.
//!
//! **The rows come first.** A run writes down what it is about to do, one transaction for a whole batch, and only
//! then renames. So a kill between the two leaves rows about things that did not happen, never a version that
//! nobody knows of. Whoever reads the rows asks the file system what is true: a version is in the history if its
//! slot holds something else than what the run was going to put in place. A slot's name ends in the name
//! of the file, so that a person finds it even where the rows are lost.

use std::io;
use std::os::fd::AsFd;

use rusqlite::{OptionalExtension, Row};
use rustix::fs::FlockOperation;
use thiserror::Error;

use super::base_store::{key_of, path_of};
use super::fault;
use super::identity::Id;
use super::rename::At;
use super::root::{Kind, Root, Stat};
use super::stage::name_of;
use super::state::{State, StateError, database};
use crate::core::age::Timestamp;
use crate::core::digest::Digest;
use crate::core::path::{Name, RelPath};
use crate::core::version::Bits;

pub(crate) const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS runs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id BLOB NOT NULL UNIQUE,
        moment INTEGER NOT NULL     -- its beginning, in nanoseconds
    );
    CREATE TABLE IF NOT EXISTS history (
        run INTEGER NOT NULL,       -- runs.number
        number INTEGER NOT NULL,    -- in the order of the acts
        path BLOB NOT NULL,         -- components joined by NUL
        cause INTEGER NOT NULL,
        origin BLOB,                -- of a move
        old_kind INTEGER, old_size INTEGER, old_modified INTEGER, old_bits INTEGER, old_sha256 BLOB,
        new_kind INTEGER, new_size INTEGER, new_modified INTEGER, new_inode INTEGER,
        PRIMARY KEY (run, number)
    ) WITHOUT ROWID;";

/// Why the history cannot be used.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// The rows.
    #[error(transparent)]
    State(#[from] StateError),
    /// The files.
    #[error(
        "cannot {act} the history in .syncfiles/history: {source}; check its owner, permissions and free space"
    )]
    Io {
        /// What was done.
        act: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// No such run, or none at all.
    #[error("cannot find {0} in the history; `syncfiles history ROOT` lists what is there")]
    Unknown(String),
}

pub(crate) fn refused(act: &'static str) -> impl Fn(io::Error) -> HistoryError {
    move |source| HistoryError::Io { act, source }
}

/// Why an act was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// Another version took its place, or it is new.
    Put,
    /// It was deleted on the other side.
    Deleted,
    /// It was an extra or an edit that a mirror does not keep.
    Mirrored,
    /// It was moved on the other side.
    Moved,
    /// Its permission bits changed.
    Bits,
    /// The user brought a version back.
    Restored,
}

const CAUSES: [Cause; 6] =
    [Cause::Put, Cause::Deleted, Cause::Mirrored, Cause::Moved, Cause::Bits, Cause::Restored];
const KINDS: [Kind; 3] = [Kind::File, Kind::Link, Kind::Folder];

/// What stood at a path before an act.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Was {
    /// Its kind.
    pub kind: Kind,
    /// Its length in bytes.
    pub size: u64,
    /// Its modification time.
    pub modified: Timestamp,
    /// Its permission bits.
    pub bits: Bits,
    /// SHA-256 of a file, where it was known.
    pub sha256: Option<Digest>,
}

/// What an act made stand at a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Made {
    /// Its kind.
    pub kind: Kind,
    /// Its length in bytes.
    pub size: u64,
    /// Its modification time.
    pub modified: Timestamp,
    /// Its inode number.
    pub inode: u64,
}

impl Made {
    /// What `stat` says.
    pub fn of(stat: &Stat) -> Made {
        Made { kind: stat.kind, size: stat.size, modified: stat.modified, inode: stat.seen.inode }
    }

    /// Whether `stat` is still that.
    pub fn is(&self, stat: &Stat) -> bool {
        let same = (stat.kind, stat.seen.inode) == (self.kind, self.inode);
        same && (self.kind == Kind::Folder || (stat.size, stat.modified) == (self.size, self.modified))
    }
}

/// One act of a run on one path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Where.
    pub path: RelPath,
    /// Why.
    pub cause: Cause,
    /// Where it was before, for a move.
    pub origin: Option<RelPath>,
    /// What stood there; none for a creation.
    pub old: Option<Was>,
    /// What stands there since; none for a removal.
    pub new: Option<Made>,
}

/// The history of one run, being written.
#[derive(Debug)]
pub struct Journal<'s> {
    state: &'s State,
    run: i64,
    id: Id,
    next: i64,
    bin: Root,
}

impl<'s> Journal<'s> {
    /// Begins, or goes on with, the history of `run`.
    pub fn open(state: &'s State, run: Id, now: Timestamp) -> Result<Journal<'s>, HistoryError> {
        let act = "write the history into";
        let number = state
            .db()
            .query_row(
                "INSERT INTO runs (id, moment) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET id = id RETURNING number",
                (run.0, now.0),
                |row| row.get(0),
            )
            .map_err(database(act))?;
        let next = state
            .db()
            .query_row("SELECT ifnull(max(number), 0) + 1 FROM history WHERE run = ?1", [number], |row| {
                row.get(0)
            })
            .map_err(database(act))?;
        let bin = open_bin(state.folder(), run, true).map_err(refused("make"))?;
        // Tells whoever prunes that this run is not over.
        rustix::fs::flock(&bin, FlockOperation::LockShared).map_err(|errno| refused("lock")(errno.into()))?;
        Ok(Journal { state, run: number, id: run, next, bin })
    }

    /// The folder that displaced versions go to.
    pub fn bin(&self) -> &Root {
        &self.bin
    }

    /// The run.
    pub fn run(&self) -> Id {
        self.id
    }

    /// The state this history is part of.
    pub fn state(&self) -> &'s State {
        self.state
    }

    /// Writes down what is about to be done, all of it or nothing. The records get numbers in a row; the first is
    /// returned.
    pub fn write(&mut self, records: &[Record]) -> Result<i64, HistoryError> {
        let act = "write the history into";
        fault::step().map_err(refused(act))?;
        let writing = self.state.write(act)?;
        let first = self.next;
        for (number, record) in (first..).zip(records) {
            insert(&writing, self.run, number, record).map_err(database(act))?;
        }
        writing.commit().map_err(database(act))?;
        self.next += records.len() as i64;
        Ok(first)
    }

    /// Forgets records of acts that were not done, or whose versions are not to be kept.
    pub fn forget(&mut self, numbers: &[i64]) -> Result<(), HistoryError> {
        if numbers.is_empty() {
            return Ok(());
        }
        let act = "write the history into";
        fault::step().map_err(refused(act))?;
        let writing = self.state.write(act)?;
        for number in numbers {
            delete(&writing, self.run, *number).map_err(database(act))?;
        }
        Ok(writing.commit().map_err(database(act))?)
    }

    /// Ends the run; one that displaced and made nothing leaves no trace.
    pub fn close(self) -> Result<(), HistoryError> {
        self.state
            .db()
            .execute(
                "DELETE FROM runs WHERE number = ?1 AND NOT EXISTS (SELECT 1 FROM history WHERE run = ?1)",
                [self.run],
            )
            .map_err(database("write the history into"))?;
        remove_bin(self.state.folder(), self.id).map_err(refused("tidy"))
    }
}

/// A version that was displaced and can be brought back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// The run that displaced it.
    pub run: Id,
    /// When that run began.
    pub moment: Timestamp,
    /// The number of the act in its run.
    pub number: i64,
    /// Where it stood.
    pub path: RelPath,
    /// Why it was displaced.
    pub cause: Cause,
    /// What it is. After an edit in the last moment its slot may hold something younger.
    pub was: Was,
}

/// All versions in the history, the latest run first, in the order of the acts within a run.
pub fn list(state: &State) -> Result<Vec<Version>, HistoryError> {
    let mut versions = Vec::new();
    for (id, moment) in runs(state)? {
        let Some(bin) = existing_bin(state.folder(), id)? else { continue };
        for (number, Record { path, cause, old, new, .. }) in records(state, id)? {
            let Some(was) = old.filter(|was| was.kind != Kind::Folder) else { continue };
            let slot = slot_name(number, &path);
            let stat = At { folder: bin.as_fd(), name: &slot }.stat().map_err(refused("look into"))?;
            if stat.is_some_and(|stat| is_version(cause, new.as_ref(), &stat)) {
                versions.push(Version { run: id, moment, number, path, cause, was });
            }
        }
    }
    Ok(versions)
}

/// The bytes that displaced versions take, and their number; what a killed run only announced is counted, too.
pub fn space(state: &State) -> Result<(u64, u64), StateError> {
    let sum = "SELECT ifnull(sum(old_size), 0), count(*) FROM history WHERE old_kind IN (0, 1) AND cause NOT IN (3, 4)";
    let (bytes, count): (i64, i64) = state
        .db()
        .query_row(sum, (), |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(database("read the history in"))?;
    Ok((bytes.max(0) as u64, count.max(0) as u64))
}

/// All runs with their beginning, the latest first.
pub fn runs(state: &State) -> Result<Vec<(Id, Timestamp)>, StateError> {
    let act = "read the history in";
    let mut query =
        state.db().prepare("SELECT id, moment FROM runs ORDER BY number DESC").map_err(database(act))?;
    let rows =
        query.query_map((), |row| Ok((Id(row.get(0)?), Timestamp(row.get(1)?)))).map_err(database(act))?;
    rows.collect::<Result<_, _>>().map_err(database(act))
}

/// What `run` did, in order, with the acts' numbers.
pub fn records(state: &State, run: Id) -> Result<Vec<(i64, Record)>, StateError> {
    let act = "read the history in";
    let mut query = state
        .db()
        .prepare_cached(
            "SELECT h.number, path, cause, origin, old_kind, old_size, old_modified, old_bits, old_sha256,
                    new_kind, new_size, new_modified, new_inode
             FROM history h JOIN runs r ON r.number = h.run WHERE r.id = ?1 ORDER BY h.number",
        )
        .map_err(database(act))?;
    let mut rows = query.query([run.0]).map_err(database(act))?;
    let mut records = Vec::new();
    while let Some(row) = rows.next().map_err(database(act))? {
        let record = record_of(row).map_err(database(act))?.ok_or(StateError::Damaged { what: "history" })?;
        records.push((row.get(0).map_err(database(act))?, record));
    }
    Ok(records)
}

/// Forgets one act of a run.
pub(crate) fn forget(state: &State, run: Id, number: i64) -> Result<(), StateError> {
    let act = "write the history into";
    let found: Option<i64> = state
        .db()
        .query_row("SELECT number FROM runs WHERE id = ?1", [run.0], |row| row.get(0))
        .optional()
        .map_err(database(act))?;
    found.map_or(Ok(()), |run| delete(state.db(), run, number).map_err(database(act)))
}

/// Whether what a slot holds is a version that was displaced, and not content on its way to the path. What the
/// user brings back is a version on its way, too.
pub(crate) fn is_version(cause: Cause, new: Option<&Made>, slot: &Stat) -> bool {
    cause == Cause::Restored || !new.is_some_and(|made| made.is(slot))
}

/// The name of the slot of act `number` on `path`: the number, and as much of the file's name as fits.
pub(crate) fn slot_name(number: i64, path: &RelPath) -> Vec<u8> {
    let mut slot = format!("{number}~").into_bytes();
    slot.extend_from_slice(path.split().map_or(b"", |(_, name)| name));
    slot.truncate(crate::core::path::MAX_NAME);
    slot
}

/// The folder of `run`'s displaced versions.
pub(crate) fn open_bin(state: &Root, run: Id, make: bool) -> io::Result<Root> {
    let (all, name) = (name_of(b"history")?, bin_name(run)?);
    if make { state.make_beneath(&all)?.make_beneath(&name) } else { state.beneath(&all)?.beneath(&name) }
}

/// As [`open_bin`]; `None` where the run displaced nothing.
pub(crate) fn existing_bin(state: &Root, run: Id) -> Result<Option<Root>, HistoryError> {
    match open_bin(state, run, false) {
        Ok(bin) => Ok(Some(bin)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(refused("open")(error)),
    }
}

/// Removes the folder of a run that keeps nothing there any more.
pub(crate) fn remove_bin(state: &Root, run: Id) -> io::Result<()> {
    use io::ErrorKind::{DirectoryNotEmpty, NotFound};
    let all = match state.beneath(&name_of(b"history")?) {
        Err(error) if error.kind() == NotFound => return Ok(()),
        opened => opened?,
    };
    match (At { folder: all.as_fd(), name: bin_name(run)?.as_bytes() }).rmdir() {
        Err(error) if matches!(error.kind(), DirectoryNotEmpty | NotFound) => Ok(()),
        removed => removed,
    }
}

fn bin_name(run: Id) -> io::Result<Name> {
    name_of(run.to_string().as_bytes())
}

fn insert(db: &rusqlite::Connection, run: i64, number: i64, record: &Record) -> rusqlite::Result<()> {
    let mut put = db.prepare_cached(
        "INSERT INTO history VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?;
    let Record { path, cause, origin, old, new } = record;
    let (old, new) = (old.as_ref(), new.as_ref());
    put.execute(rusqlite::params![
        run,
        number,
        key_of(path),
        CAUSES.iter().position(|known| known == cause).map(|at| at as i64),
        origin.as_ref().map(key_of),
        old.map(|was| kind_number(was.kind)),
        old.map(|was| was.size as i64),
        old.map(|was| was.modified.0),
        old.map(|was| u16::from(was.bits)),
        old.and_then(|was| was.sha256.map(|digest| digest.0)),
        new.map(|made| kind_number(made.kind)),
        new.map(|made| made.size as i64),
        new.map(|made| made.modified.0),
        new.map(|made| made.inode as i64),
    ])
    .map(|_| ())
}

fn delete(db: &rusqlite::Connection, run: i64, number: i64) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM history WHERE run = ?1 AND number = ?2")?
        .execute((run, number))
        .map(|_| ())
}

fn kind_number(kind: Kind) -> i64 {
    match kind {
        Kind::File => 0,
        Kind::Link => 1,
        Kind::Folder | Kind::Special => 2,
    }
}

fn record_of(row: &Row<'_>) -> rusqlite::Result<Option<Record>> {
    let kind = |number: i64| usize::try_from(number).ok().and_then(|at| KINDS.get(at).copied());
    let size = |at: usize| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(at)?.unwrap_or(0) as u64);
    let path: Vec<u8> = row.get(1)?;
    let cause = usize::try_from(row.get::<_, i64>(2)?).ok().and_then(|at| CAUSES.get(at).copied());
    let origin = row.get::<_, Option<Vec<u8>>>(3)?;
    let old = match row.get::<_, Option<i64>>(4)?.map(kind) {
        Some(Some(kind)) => Some(Was {
            kind,
            size: size(5)?,
            modified: Timestamp(row.get(6)?),
            bits: Bits::from(row.get::<_, u16>(7)?),
            sha256: row.get::<_, Option<[u8; 32]>>(8)?.map(Digest),
        }),
        Some(None) => return Ok(None),
        None => None,
    };
    let new = match row.get::<_, Option<i64>>(9)?.map(kind) {
        Some(Some(kind)) => Some(Made {
            kind,
            size: size(10)?,
            modified: Timestamp(row.get(11)?),
            inode: row.get::<_, i64>(12)? as u64,
        }),
        Some(None) => return Ok(None),
        None => None,
    };
    let (Some(path), Some(cause)) = (path_of(&path), cause) else { return Ok(None) };
    let origin = match origin.map(|key| path_of(&key)) {
        Some(None) => return Ok(None),
        found => found.flatten(),
    };
    Ok(Some(Record { path, cause, origin, old, new }))
}
