//! Compare and swap: nothing is replaced or removed unless it is what the plan saw.
//!
//! Every act looks first, acts in one system call, then looks at what it displaced, and puts that back if it was
//! something else. What is displaced goes straight to a *slot*, a name in this run's history folder, so that no
//! version is ever without a place: to replace, the new content first goes to the slot, then slot and path are
//! exchanged. At every instant the path holds its old or its new content, whole.

use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;
use thiserror::Error;

use super::expected::{Entry, Expected};
use super::fault;
use super::rename::{At, exchange, over, second_name, to_absent};
use super::root::{Kind, Root, Stat, Walker, stat_of};
use super::system;
use crate::core::path::RelPath;
use crate::core::version::Bits;

/// Why an act was not done. Unless it says otherwise the path is as it was.
#[derive(Debug, Error)]
pub enum CommitError {
    /// What stands there is not what the plan saw.
    #[error("it changed during the run and was left; the next run settles it")]
    Changed,
    /// It changed, and changed again while it was put back; the version in between is in the history.
    #[error(
        "it changed twice during the run; the newer stayed and the other is in the history (syncfiles history)"
    )]
    ChangedTwice,
    /// A folder cannot go: something in it is excluded, unreadable, or not in the plan.
    #[error("the folder holds something that is not synchronised or is new, and was left")]
    HeldByMembers,
    /// The history is full of what this run displaced.
    #[error(
        "there is no room in the history for what it displaces; raise --keep-history, or delete old runs there"
    )]
    NoRoomForHistory,
    /// An act on the folder above failed.
    #[error("the folder {folder} above it could not be made")]
    Blocked {
        /// That folder.
        folder: RelPath,
    },
    /// The system refused.
    #[error("cannot {act}: {source}; check the permissions there and the free space")]
    Io {
        /// What was done.
        act: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl CommitError {
    /// Whether something changed during the run, so that the next run settles it; else something failed.
    pub fn is_change(&self) -> bool {
        matches!(self, CommitError::Changed | CommitError::ChangedTwice)
    }
}

/// A name that came or went, or a folder on the way that is a file or a link by now, is a change, no failure.
fn failed(act: &'static str) -> impl Fn(io::Error) -> CommitError {
    move |source| match Errno::from_io_error(&source) {
        Some(Errno::NOENT | Errno::EXIST | Errno::NOTDIR | Errno::LOOP) => CommitError::Changed,
        _ => CommitError::Io { act, source },
    }
}

/// Acts on the paths of one root. One thread owns it.
#[derive(Debug)]
pub struct Hands<'a> {
    root: &'a Root,
    walker: Walker<'a>,
    bin: &'a Root,
}

impl<'a> Hands<'a> {
    /// Acts beneath `root`; what is displaced goes to slots in `bin`, a folder on the same file system.
    pub fn new(root: &'a Root, bin: &'a Root) -> Hands<'a> {
        Hands { root, walker: Walker::new(root), bin }
    }

    /// Makes what waits at `staged` (of which the file system says `waiting`) stand at `path`; what stood there goes
    /// to `slot`. An expected folder must be [removed](Hands::remove_folder) before. Returns what stands there now.
    pub(crate) fn place(
        &mut self,
        staged: At<'_>,
        waiting: &Stat,
        path: &RelPath,
        expected: &Expected,
        slot: &[u8],
    ) -> Result<Stat, CommitError> {
        let refused = failed("put it in place");
        let spot = self.walker.spot(path).map_err(&refused)?;
        let here = At { folder: spot.folder, name: spot.name };
        let slot = At { folder: self.bin.as_fd(), name: slot };
        match expected {
            Expected::Absent => to_absent(staged, here).map_err(&refused)?,
            Expected::Entry(entry) => replace(staged, waiting, here, entry, slot)?,
        }
        if waiting.kind == Kind::Folder || expected.is_folder() {
            self.walker.forget();
            return self.root.stat(path).map_err(&refused);
        }
        here.stat().map_err(&refused)?.ok_or(CommitError::Changed)
    }

    /// Displaces the file or link at `path` to `slot`.
    pub fn remove(&mut self, path: &RelPath, entry: &Entry, slot: &[u8]) -> Result<(), CommitError> {
        let refused = failed("remove it");
        let spot = self.walker.spot(path).map_err(&refused)?;
        let here = At { folder: spot.folder, name: spot.name };
        let slot = At { folder: self.bin.as_fd(), name: slot };
        take(here, entry, slot, "remove it")
    }

    /// Removes the folder at `path`, if it is the expected one and empty.
    pub fn remove_folder(&mut self, path: &RelPath, entry: &Entry) -> Result<(), CommitError> {
        let refused = failed("remove the folder");
        let spot = self.walker.spot(path).map_err(&refused)?;
        let here = At { folder: spot.folder, name: spot.name };
        let before = here.stat().map_err(&refused)?.ok_or(CommitError::Changed)?;
        if before.kind != Kind::Folder || !entry.admits(&before) {
            return Err(CommitError::Changed);
        }
        let removed = here.rmdir().map_err(|error| match error.kind() {
            io::ErrorKind::DirectoryNotEmpty => CommitError::HeldByMembers,
            _ => refused(error),
        });
        self.walker.forget();
        removed
    }

    /// Moves the entry at `from`, a whole folder too, to `to`, where nothing stands. Returns what stands there now.
    pub fn move_entry(&mut self, from: &RelPath, to: &RelPath, entry: &Entry) -> Result<Stat, CommitError> {
        let refused = failed("move it");
        let mut other = Walker::new(self.root);
        let (from, to) = (self.walker.spot(from).map_err(&refused)?, other.spot(to).map_err(&refused)?);
        let (from, to) =
            (At { folder: from.folder, name: from.name }, At { folder: to.folder, name: to.name });
        take(from, entry, to, "move it")?;
        let stat = to.stat().map_err(&refused)?.ok_or(CommitError::Changed)?;
        self.walker.forget();
        Ok(stat)
    }

    /// Exchanges two entries in one step.
    pub fn swap(&mut self, one: (&RelPath, &Entry), other: (&RelPath, &Entry)) -> Result<(), CommitError> {
        let refused = failed("exchange it with another path");
        let mut second = Walker::new(self.root);
        let (a, b) = (self.walker.spot(one.0).map_err(&refused)?, second.spot(other.0).map_err(&refused)?);
        let (a, b) = (At { folder: a.folder, name: a.name }, At { folder: b.folder, name: b.name });
        let at_a = admitted(a, one.1, &refused)?;
        let at_b = admitted(b, other.1, &refused)?;
        exchange(a, b).map_err(&refused)?.ok_or_else(|| CommitError::Io {
            act: "exchange it with another path",
            source: io::ErrorKind::Unsupported.into(),
        })?;
        let right = one.1.is(b, &at_a).and_then(|first| Ok(first && other.1.is(a, &at_b)?));
        let kept = match right {
            Ok(true) => Ok(()),
            Ok(false) => exchange(a, b).map_err(&refused).and(Err(CommitError::Changed)),
            Err(error) => exchange(a, b).map_err(&refused).and(Err(refused(error))),
        };
        self.walker.forget();
        kept
    }

    /// Gives what stands at `path` permission bits, if it is the expected and has the expected bits.
    ///
    /// The descriptor is opened without access to the content, so that a file may be unreadable, and the mode is set
    /// through it, so that nothing can take the file's place in between.
    pub fn set_bits(&mut self, path: &RelPath, bits: Bits, entry: &Entry) -> Result<Stat, CommitError> {
        let refused = failed("set its permission bits");
        let spot = self.walker.spot(path).map_err(&refused)?;
        let file = system::open_for_bits(spot.folder, spot.name).map_err(&refused)?;
        let stat = stat_of(&file).map_err(&refused)?;
        if stat.kind == Kind::Link || stat.bits != entry.bits || !entry.admits(&stat) {
            return Err(CommitError::Changed);
        }
        fault::step().map_err(&refused)?;
        system::set_bits_through(&file, bits).map_err(&refused)?;
        stat_of(&file).map_err(&refused)
    }

    /// Sets bits of a folder that this run made, whatever they are.
    pub(crate) fn set_folder_bits(&mut self, path: &RelPath, bits: Bits) -> Result<Stat, CommitError> {
        let refused = failed("set its permission bits");
        let folder = self.root.folder(path).map_err(&refused)?;
        fault::step().map_err(&refused)?;
        system::set_bits_of_folder(&folder, bits).map_err(&refused)?;
        stat_of(&folder).map_err(&refused)
    }

    /// What stands at `path`.
    pub(crate) fn look(&mut self, path: &RelPath) -> Result<Option<Stat>, CommitError> {
        match self.walker.spot(path).and_then(|spot| spot.stat()) {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(failed("look at it")(error)),
        }
    }
}

/// Everything written so far to the file system of `root` is durable when this returns.
pub fn sync_fs(root: &Root) -> io::Result<()> {
    fault::step()?;
    system::sync_fs(root)
}

/// Looks before an act: the entry must still be possible.
fn admitted(
    at: At<'_>,
    entry: &Entry,
    refused: &impl Fn(io::Error) -> CommitError,
) -> Result<Stat, CommitError> {
    let stat = at.stat().map_err(refused)?.ok_or(CommitError::Changed)?;
    if entry.admits(&stat) { Ok(stat) } else { Err(CommitError::Changed) }
}

/// Renames the entry `at` to the absent name `to`, and back if it was something else.
fn take(at: At<'_>, entry: &Entry, to: At<'_>, act: &'static str) -> Result<(), CommitError> {
    let refused = failed(act);
    let before = admitted(at, entry, &refused)?;
    to_absent(at, to).map_err(&refused)?;
    let error = match entry.is(to, &before) {
        Ok(true) => return Ok(()),
        Ok(false) => CommitError::Changed,
        Err(source) => refused(source),
    };
    match to_absent(to, at) {
        Ok(()) => Err(error),
        Err(source) if source.kind() == io::ErrorKind::AlreadyExists => Err(CommitError::ChangedTwice),
        Err(source) => Err(CommitError::Io { act, source }),
    }
}

fn replace(
    staged: At<'_>,
    waiting: &Stat,
    here: At<'_>,
    entry: &Entry,
    slot: At<'_>,
) -> Result<(), CommitError> {
    let refused = failed("put it in place");
    let before = admitted(here, entry, &refused)?;
    if before.kind == Kind::Folder {
        return Err(CommitError::Changed);
    }
    to_absent(staged, slot).map_err(&refused)?;
    match exchange(slot, here) {
        Ok(Some(())) => {}
        Ok(None) => {
            to_absent(slot, staged).map_err(&refused)?;
            return replace_without_exchange(staged, waiting, here, entry, slot);
        }
        Err(error) => {
            to_absent(slot, staged).map_err(&refused)?;
            return Err(refused(error));
        }
    }
    let error = match entry.is(slot, &before) {
        Ok(true) => return Ok(()),
        Ok(false) => CommitError::Changed,
        Err(source) => refused(source),
    };
    exchange(slot, here).map_err(&refused)?;
    // What comes back is what was staged, unless somebody wrote to it in the moment that it stood there.
    let back = slot.stat().map_err(&refused)?;
    let untouched = back.is_some_and(|back| {
        back.seen.inode == waiting.seen.inode
            && back.size == waiting.size
            && back.modified == waiting.modified
    });
    if !untouched {
        return Err(CommitError::ChangedTwice);
    }
    to_absent(slot, staged).map_err(&refused)?;
    Err(error)
}

/// The best there is without `RENAME_EXCHANGE`: the old content gets a second name in its slot, is checked there,
/// and is renamed over. An edit in place still lands in the slot; what a program renames into place between
/// the check and the rename would be lost, so the check comes last. Without hard links, or for a
/// folder over a file, the old content is moved away first and the path is empty for an instant.
fn replace_without_exchange(
    staged: At<'_>,
    waiting: &Stat,
    here: At<'_>,
    entry: &Entry,
    slot: At<'_>,
) -> Result<(), CommitError> {
    let refused = failed("put it in place");
    let before = admitted(here, entry, &refused)?;
    let named =
        if waiting.kind == Kind::Folder { None } else { second_name(here, slot).map_err(&refused)? };
    if named.is_none() {
        take(here, entry, slot, "put it in place")?;
        return to_absent(staged, here).map_err(&refused);
    }
    let still = |at: At<'_>| at.stat().map(|stat| stat.is_some_and(|s| s.seen.inode == entry.seen.inode));
    let error = match entry.is(slot, &before).and_then(|same| Ok(same && still(here)?)) {
        Ok(true) => return over(staged, here).map_err(&refused),
        Ok(false) => CommitError::Changed,
        Err(source) => refused(source),
    };
    // Whose last name this is by now stays in the history.
    if slot.stat().map_err(&refused)?.is_some_and(|stat| stat.links < 2) {
        return Err(CommitError::ChangedTwice);
    }
    slot.unlink().map_err(&refused).and(Err(error))
}
