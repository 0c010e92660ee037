//! Where received content waits, whole and checked, for its place: `.syncfiles/stage/<run>/`.
//!
//! **What is recorded.** A staged name says all that a later clean-up has to know, so nothing is written anywhere
//! else: `s`, `l`, `d` and a number are a file, a link and a folder of this run; `r` and the hash of a promise is a
//! file worth resuming; a file's name ends in the size it was promised. A live path never waits here, so whatever
//! does not match its own name was put here by somebody else: it is left and reported. Only what
//! grows there (`nursery.rs`), below `p` and a number, has the names of its place, and a list tells what is ours of it.
//!
//! A run holds a lock on its folder. A folder whose lock is free belongs to a run that was killed: the next one
//! adopts its partial transfers and clears the rest.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;
use thiserror::Error;

use super::fault;
use super::identity::Id;
use super::inventory;
use super::leftovers::{clear, is_recorded, remove_if_empty};
use super::nursery::Nursery;
use super::rename::{At, to_absent};
use super::root::{Kind, Root, Spot, Stat, Walker, stat_of};
use super::system;
use crate::core::age::Timestamp;
use crate::core::digest::Digest;
use crate::core::path::{Name, RelPath};
use crate::core::version::Bits;

/// Files from this size on are worth resuming.
pub const RESUMABLE: u64 = 1 << 20;
/// Partial transfers that nobody went on with for this long are cleared: seven days, in nanoseconds.
const FORGOTTEN: i64 = 7 * 86_400 * 1_000_000_000;

/// How often a run makes its staging folder before it gives up because it always goes.
const MAKINGS: usize = 1000;

/// Why something could not be staged. The path, which is the caller's to name, keeps what it had.
#[derive(Debug, Error)]
pub enum StageError {
    /// The staging folder itself.
    #[error("cannot use the staging folder .syncfiles/stage: {0}; check its permissions and the free space")]
    Folder(io::Error),
    /// The file system refused.
    #[error("cannot {act}: {source}; check the free space and the permissions of .syncfiles")]
    Io {
        /// What was done.
        act: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// More or fewer bytes came than were promised.
    #[error(
        "cannot stage it: {got} bytes came and {promised} were promised; the next run takes what stands there"
    )]
    WrongSize {
        /// What was promised.
        promised: u64,
        /// What came.
        got: u64,
    },
    /// The bytes do not have the SHA-256 that was promised, or sent along at the end.
    #[error(
        "cannot stage it: its SHA-256 is not the one promised; it changed while it was sent, the next run settles it"
    )]
    WrongContent,
    /// The source of a local copy is not what the plan saw.
    #[error("cannot copy it: it changed during the run and was left; the next run settles it")]
    Changed,
}

impl StageError {
    /// Whether the source changed, so that the next run settles it; else something failed.
    pub fn is_change(&self) -> bool {
        matches!(self, StageError::WrongSize { .. } | StageError::WrongContent | StageError::Changed)
    }
}

/// What is known of a file before its first byte.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Promise {
    /// Where it will stand.
    pub path: RelPath,
    /// Its length in bytes.
    pub size: u64,
    /// Its modification time.
    pub modified: Timestamp,
    /// Its final permission bits.
    pub bits: Bits,
    /// Its SHA-256, where it is known; then it must match.
    pub sha256: Option<Digest>,
}

/// Something whole, waiting for its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Staged {
    /// Where.
    pub(crate) waits: Waits,
    /// What the file system says of it.
    pub stat: Stat,
    /// SHA-256 of a file.
    pub sha256: Option<Digest>,
}

/// Where something staged waits for its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Waits {
    /// Under this name in the staging folder.
    Staging(Box<[u8]>),
    /// In this slot of the history of this run, to be brought back.
    History(Id, Box<[u8]>),
    /// As the tree of this number, under this name in the staging folder.
    Tree(u32, Box<[u8]>),
    /// In that tree, and in its place once the tree is.
    Member(u32),
}

/// The staging folder of one run. Shared by all transfers of the run.
#[derive(Debug)]
pub struct Stage {
    all: Root,
    folder: Root,
    name: Name,
    next: AtomicU64,
    pub(super) nursery: Nursery,
}

impl Stage {
    /// Makes the staging folder of `run` in the state folder `state`, and settles what killed runs left.
    ///
    /// Returns what was found there and is nobody's: it was not touched and should be reported.
    pub fn open(state: &Root, run: Id, now: Timestamp) -> Result<(Stage, Vec<String>), StageError> {
        let stage = Stage::make(state, run).map_err(StageError::Folder)?;
        let left = stage.settle_dead_runs(now).map_err(StageError::Folder)?;
        Ok((stage, left))
    }

    fn make(state: &Root, run: Id) -> io::Result<Stage> {
        let all = state.make_beneath(&name_of(b"stage")?)?;
        let name = name_of(run.to_string().as_bytes())?;
        // Between making, opening and locking it, another run may take the folder for a dead one's, each time anew.
        for _ in 0..MAKINGS {
            let folder = match all.make_beneath(&name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                made => made?,
            };
            match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                // Whoever took it for a dead one's is about to see that it is empty; a run of this name is not waited for.
                Err(Errno::WOULDBLOCK) => {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                locked => locked?,
            }
            let standing = At { folder: all.as_fd(), name: name.as_bytes() }.stat()?;
            if standing
                .is_some_and(|stat| folder.stat_self().is_ok_and(|own| own.seen.inode == stat.seen.inode))
            {
                return Ok(Stage { all, folder, name, next: AtomicU64::new(0), nursery: Nursery::default() });
            }
        }
        Err(io::Error::other("a run of the same name uses it"))
    }

    /// Ends the run: clears what did not find a place, but keeps partial transfers for the next run.
    pub fn close(&self) -> Result<(), StageError> {
        let clear_all = || {
            inventory::clear(&self.folder)?;
            for name in names_in(&self.folder)? {
                if !name.starts_with(b"r") {
                    clear(&self.folder, &name)?;
                }
            }
            remove_if_empty(&self.all, self.name.as_bytes())
        };
        clear_all().map_err(StageError::Folder)
    }

    /// Stages a small file at once. For a promised SHA-256 its content is checked.
    pub fn whole(&self, promise: &Promise, bytes: &[u8]) -> Result<Staged, StageError> {
        if let Some(planted) = self.plant(promise, bytes) {
            return planted;
        }
        let mut incoming = self.begin(promise, self.fresh_name(promise))?;
        incoming.write(bytes)?;
        incoming.finish(None)
    }

    /// Stages a symbolic link.
    pub fn link(&self, target: &[u8], modified: Timestamp) -> Result<Staged, StageError> {
        let name = format!("l{:x}", self.number());
        let make = || {
            fault::step()?;
            rustix::fs::symlinkat(target, &self.folder, name.as_str())?;
            set_link_time(self.at(&name), modified)?;
            self.at(&name).stat()?.ok_or(io::Error::from(Errno::NOENT))
        };
        let stat = make().map_err(failed("stage the link"))?;
        Ok(Staged { waits: Waits::Staging(name.into_bytes().into()), stat, sha256: None })
    }

    /// Stages an empty folder.
    pub fn empty_folder(&self, bits: Bits) -> Result<Staged, StageError> {
        let name = format!("d{:x}", self.number());
        let make = || {
            let path = RelPath::from(name_of(name.as_bytes())?);
            stat_of(make_folder(Walker::new(&self.folder).spot(&path)?, bits)?)
        };
        let stat = make().map_err(failed("make the folder"))?;
        Ok(Staged { waits: Waits::Staging(name.into_bytes().into()), stat, sha256: None })
    }

    /// How many bytes of this very promise an earlier run left here; they are checked when the transfer goes on.
    pub fn waiting(&self, promise: &Promise) -> u64 {
        if promise.size < RESUMABLE {
            return 0;
        }
        let name = super::incoming::resumable_name(promise);
        // One that cannot be opened for writing (complete, with its final bits) is not gone on with.
        match open_staged(self, &name).and_then(stat_of) {
            Ok(stat) if stat.kind == Kind::File && stat.links == 1 && stat.size <= promise.size => stat.size,
            _ => 0,
        }
    }

    /// The folder itself.
    pub(super) fn folder(&self) -> &Root {
        &self.folder
    }

    /// Where `name` waits.
    fn at<'a>(&'a self, name: &'a str) -> At<'a> {
        At { folder: self.folder.as_fd(), name: name.as_bytes() }
    }

    pub(crate) fn fresh_name(&self, promise: &Promise) -> String {
        format!("s{:x}-{:x}", self.number(), promise.size)
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn settle_dead_runs(&self, now: Timestamp) -> io::Result<Vec<String>> {
        let mut left = Vec::new();
        for name in names_in(&self.all)? {
            if name == self.name.as_bytes() {
                continue;
            }
            match self.settle_dead_run(&name, now) {
                Ok(members) => left.extend(members),
                // Its run ended meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(left)
    }

    /// Returns what is nobody's of what the folder `name` of a run holds, or that name if it is no run's.
    fn settle_dead_run(&self, name: &[u8], now: Timestamp) -> io::Result<Vec<String>> {
        let dead = match Id::parse(name).map(|_| self.all.beneath(&name_of(name)?)) {
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => return Err(error),
            Some(Ok(dead)) => dead,
            _ => return Ok(vec![shown(&[name])]),
        };
        if rustix::fs::flock(&dead, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(Vec::new());
        }
        let mut left = Vec::new();
        // What cannot be removed is no reason not to sync; the next run tries again.
        let cleared = inventory::clear(&dead).unwrap_or(false);
        for member in names_in(&dead)? {
            let ours = !cleared && inventory::is_grown(&member);
            if !ours && !self.adopt(&dead, &member, now)? && !clear(&dead, &member).unwrap_or(false) {
                left.push(shown(&[name, &member]));
            }
        }
        remove_if_empty(&self.all, name)?;
        Ok(left)
    }

    /// Takes over a partial transfer of a dead run, if it is one.
    fn adopt(&self, dead: &Root, name: &[u8], now: Timestamp) -> io::Result<bool> {
        let from = At { folder: dead.as_fd(), name };
        let Some(stat) = from.stat()? else { return Ok(true) };
        let forgotten = now.0.saturating_sub(stat.seen.changed.0) > FORGOTTEN;
        if !name.starts_with(b"r") || !is_recorded(name, &stat) || forgotten {
            return Ok(false);
        }
        match to_absent(from, At { folder: self.folder.as_fd(), name }) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            moved => moved.map(|()| true),
        }
    }
}

impl AsFd for Stage {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

/// Sets the modification time of the link itself.
pub(crate) fn set_link_time(at: At<'_>, modified: Timestamp) -> io::Result<()> {
    Ok(rustix::fs::utimensat(at.folder, at.name, &times(modified), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// A modification time for a system call; the access time stays.
pub(crate) fn times(modified: Timestamp) -> Timestamps {
    let (tv_sec, nanoseconds) = modified.parts();
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec, tv_nsec: nanoseconds.into() },
    }
}

pub(crate) fn failed(act: &'static str) -> impl Fn(io::Error) -> StageError {
    move |source| StageError::Io { act, source }
}

/// The names in a folder.
pub(crate) fn names_in(folder: &Root) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// A component for the door, from a name that this program or a listing gave.
pub(crate) fn name_of(bytes: &[u8]) -> io::Result<Name> {
    Name::parse(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

fn shown(parts: &[&[u8]]) -> String {
    let parts = parts.iter().map(|part| format!("/{}", crate::core::shown::Shown(part)));
    format!(".syncfiles/stage{}", parts.collect::<String>())
}

/// Makes the file `name`, to write and read; fails where it exists. The folder is private, or in a private one, so it may
/// have its final bits from the beginning; the umask decides what is left to set.
pub(crate) fn make_staged(folder: impl AsFd, name: &[u8], bits: Bits) -> io::Result<std::fs::File> {
    fault::step()?;
    let flags = STAGED | OFlags::CREATE | OFlags::EXCL;
    Ok(rustix::fs::openat(folder, name, flags, system::mode(bits))?.into())
}

/// Makes the folder at `spot`, with these bits. In a folder that passes its group on it does so, too, as with `mkdir`.
pub(crate) fn make_folder(spot: Spot<'_>, bits: Bits) -> io::Result<OwnedFd> {
    fault::step()?;
    rustix::fs::mkdirat(spot.folder, spot.name, system::mode(bits) | Mode::RWXU)?;
    let made = spot.open_folder()?;
    let has = Mode::from_raw_mode(rustix::fs::fstat(&made)?.st_mode);
    // Only where the umask took some: the system may take the group from whoever sets bits and does not belong to it.
    if has & (Mode::RWXU | Mode::RWXG | Mode::RWXO) != system::mode(bits) {
        system::set_bits_of_folder(&made, bits)?;
    }
    Ok(made)
}

/// Opens the file `name`, which an earlier run made.
pub(crate) fn open_staged(stage: &Stage, name: &str) -> io::Result<std::fs::File> {
    Ok(rustix::fs::openat(stage, name, STAGED, Mode::empty())?.into())
}

const STAGED: OFlags = OFlags::RDWR.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::testing::Field;

    /// One took the other's new folder for a dead run's, and the other failed; or looked into one that was going.
    #[test]
    fn runs_that_begin_and_end_at_the_same_time_do_not_stand_in_each_others_way() {
        let field = Field::new(&[]);
        let state = field.state();
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                let folder = state.folder();
                scope.spawn(move || {
                    for turn in 0..200_u8 {
                        let mut run = [thread; 16];
                        run[0] = turn;
                        let (stage, left) = Stage::open(folder, Id(run), Timestamp(0)).unwrap();
                        assert!(left.is_empty(), "{left:?}");
                        stage.close().unwrap();
                    }
                });
            }
        });
        assert!(names_in(&state.folder().beneath(&name_of(b"stage").unwrap()).unwrap()).unwrap().is_empty());
    }
}
