//! What a side is asked to do, one step a path.

use super::expected::{Entry, Expected};
use super::record::{Cause, Made, Record, Was};
use super::root::{Kind, Stat};
use super::stage::{Staged, Waits};
use crate::core::path::RelPath;
use crate::core::version::Bits;

/// One thing to do on this side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Moves a file, a link or a whole folder to a path where nothing stands, or that another move leaves.
    Move {
        /// From here.
        from: RelPath,
        /// To here.
        to: RelPath,
        /// What stands at `from`.
        expected: Entry,
    },
    /// Puts a staged file or link in place. A folder that it replaces needs a `Remove` for every member, none for itself.
    Put {
        /// What.
        staged: Staged,
        /// Where.
        path: RelPath,
        /// What stands there.
        expected: Expected,
    },
    /// Makes a folder, where nothing or a file or link stands.
    MakeFolder {
        /// Where.
        path: RelPath,
        /// Its bits.
        bits: Bits,
        /// What stands there.
        expected: Expected,
    },
    /// Sets permission bits.
    SetBits {
        /// Where.
        path: RelPath,
        /// To this.
        bits: Bits,
        /// What stands there.
        expected: Entry,
    },
    /// Removes a file or link into the history, or a folder that is empty by then.
    Remove {
        /// Where.
        path: RelPath,
        /// What stands there.
        expected: Entry,
        /// [`Cause::Deleted`] or [`Cause::Mirrored`].
        cause: Cause,
    },
}

impl Step {
    /// The path whose state the step settles; of a move: its target.
    pub fn path(&self) -> &RelPath {
        match self {
            Step::Move { to, .. } => to,
            Step::Put { path, .. }
            | Step::MakeFolder { path, .. }
            | Step::SetBits { path, .. }
            | Step::Remove { path, .. } => path,
        }
    }

    /// The file or link that goes to the history.
    pub(crate) fn displaces(&self) -> Option<&Entry> {
        let entry = match self {
            Step::Put { expected, .. } | Step::MakeFolder { expected, .. } => expected.entry(),
            Step::Remove { expected, .. } => Some(expected),
            Step::Move { .. } | Step::SetBits { .. } => None,
        };
        entry.filter(|entry| entry.kind != Kind::Folder)
    }
}

/// What a step did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Done {
    /// What stands at the step's path now, for the index; `None` after a removal.
    pub stat: Option<Stat>,
}

impl Was {
    /// What a step expects.
    pub(crate) fn of(entry: &Entry) -> Was {
        let Entry { kind, size, modified, bits, sha256, .. } = *entry;
        Was { kind, size, modified, bits, sha256: sha256.filter(|_| kind == Kind::File) }
    }
}

/// What a move or a change of bits leaves standing.
pub(crate) fn stays(entry: &Entry) -> Option<Made> {
    let Entry { kind, size, modified, seen, .. } = *entry;
    Some(Made { kind, size, modified, inode: seen.inode })
}

/// The record of `step`; `folder` is the staged one that a `MakeFolder` puts in place.
pub(crate) fn record(step: &Step, folder: Option<&Staged>) -> Record {
    let put = |path: &RelPath, expected: &Expected, stat: Option<&Stat>| Record {
        path: path.clone(),
        cause: Cause::Put,
        origin: None,
        old: expected.entry().filter(|_| !expected.is_folder()).map(Was::of),
        new: stat.map(Made::of),
    };
    match step {
        Step::Put { staged, path, expected } => {
            let restored = matches!(staged.waits, Waits::History(..));
            let cause = if restored { Cause::Restored } else { Cause::Put };
            Record { cause, ..put(path, expected, Some(&staged.stat)) }
        }
        Step::MakeFolder { path, expected, .. } => put(path, expected, folder.map(|folder| &folder.stat)),
        Step::Move { from, to, expected } => Record {
            path: to.clone(),
            cause: Cause::Moved,
            origin: Some(from.clone()),
            old: None,
            new: stays(expected),
        },
        Step::SetBits { path, expected, .. } => Record {
            path: path.clone(),
            cause: Cause::Bits,
            origin: None,
            old: Some(Was::of(expected)),
            new: stays(expected),
        },
        Step::Remove { path, expected, cause } => Record {
            path: path.clone(),
            cause: *cause,
            origin: None,
            old: Some(Was::of(expected)),
            new: None,
        },
    }
}
