//! What runs displaced and made, so that it can be brought back: `.syncfiles/history/<run>/` and rows about it.
//!
//! **The rows come first.** A run writes down what it is about to do, one transaction for a whole batch, and only
//! then renames. So a kill between the two leaves rows about things that did not happen, never a version that
//! nobody knows of. Whoever reads the rows asks the file system what is true: a version is in the history if its
//! slot holds something else than what the run was going to put in place. A slot's name ends in the name
//! of the file, so that a person finds it even where the rows are lost.

use std::io;
use std::os::fd::AsFd;

use rusqlite::OptionalExtension;
use rustix::fs::FlockOperation;
use thiserror::Error;

use super::fault;
use super::identity::Id;
use super::record::{Cause, Made, Record, Was, delete, insert, record_of};
use super::rename::At;
use super::root::{Kind, Root, Stat};
use super::stage::name_of;
use super::state::{State, StateError, database};
use crate::core::age::Timestamp;
use crate::core::path::{Name, RelPath};

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
        // Tells whoever prunes that this run is not over: before there is a run to be pruned.
        let bin = open_bin(state.folder(), run, true).map_err(refused("make"))?;
        rustix::fs::flock(&bin, FlockOperation::LockShared).map_err(|errno| refused("lock")(errno.into()))?;
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
        insert(&writing, self.run, first, records).map_err(database(act))?;
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
        // A row that nobody wrote hides no other; its version stays in its slot, under its name.
        if let Some(record) = record_of(row).map_err(database(act))? {
            records.push((row.get(0).map_err(database(act))?, record));
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::testing::*;

    #[test]
    fn a_damaged_row_hides_no_other_and_its_version_keeps_its_name() {
        let field = Field::new(&[("d/a", "a"), ("d/b", "b")]);
        let stage = field.stage(1);
        field.perform(&stage, 1, &[field.remove("d/a"), field.remove("d/b")]);
        let damage = "UPDATE history SET path = x'2e2e' WHERE path = x'640062'";
        assert_eq!(field.state().db().execute(damage, ()).unwrap(), 1);
        assert_eq!(field.kept(), [("d/a".to_owned(), "a".to_owned())]);
        let bin = field.at(&format!(".syncfiles/history/{}", run(1)));
        assert_eq!(std::fs::read_to_string(bin.join("1~b")).unwrap(), "b");
    }

    #[test]
    fn a_run_that_did_nothing_leaves_no_trace() {
        let field = Field::new(&[]);
        let state = field.state();
        Journal::open(&state, run(1), Timestamp(1)).unwrap().close().unwrap();
        assert_eq!(runs(&state).unwrap(), []);
        assert!(!field.at(&format!(".syncfiles/history/{}", run(1))).exists());
    }

    #[test]
    fn a_slot_carries_as_much_of_the_name_as_fits() {
        let long = RelPath::parse(&[b'x'; 255]).unwrap();
        assert_eq!(slot_name(12, &long).len(), 255);
        assert_eq!(slot_name(12, &path("d/name")), b"12~name");
    }
}
