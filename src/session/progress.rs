//! What a running sync tells whoever watches: events only, rendering lives in the command line.

use std::sync::Arc;

use crate::core::path::RelPath;
use crate::core::plan::{Plan, Why};
use crate::core::side::Side;

/// Receives events from every task of a sync, in any order between files; must not block.
pub trait Progress: Send + Sync {
    /// Something happened.
    fn event(&self, event: &Event);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: &Event) {}
}

/// Which way a file travels, seen from the system that reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// To the other system.
    Sent,
    /// From the other system.
    Received,
}

/// One event. Bytes are content bytes, not wire bytes.
#[derive(Clone, Debug)]
pub enum Event {
    /// Logged in at the other system.
    Connected {
        /// How the user wrote the other system.
        peer: String,
    },
    /// Both snapshots are being taken and compared; entries seen so far on this side.
    Scanned {
        /// Files, links and folders.
        entries: u64,
    },
    /// Both sides agree on the plan. Nothing has been changed yet.
    Planned(Totals),
    /// A file begins to travel on a channel of its own.
    Started {
        /// Names this transfer in later events; unique within a run.
        id: u64,
        /// What.
        path: RelPath,
        /// Which way.
        direction: Direction,
        /// Bytes it has.
        size: u64,
    },
    /// More of it has travelled.
    Advanced {
        /// As in `Started`.
        id: u64,
        /// Bytes since the last event of this transfer.
        bytes: u64,
    },
    /// It is complete on the other end (staged; not yet in place), or was given up.
    Finished {
        /// As in `Started`.
        id: u64,
        /// Whether it arrived whole.
        ok: bool,
    },
    /// All files have travelled; both sides put them in place.
    Committing,
    /// The item of the plan with this number was carried out (in a dry run: would be), in path order.
    Done(Arc<Plan>, usize),
    /// Two versions met and a decision displaced or skipped one.
    Conflict {
        /// Where.
        path: RelPath,
        /// How it ended.
        why: Why,
    },
    /// Something could not be done; the rest of the run goes on.
    Problem(Problem),
    /// Worth one line, no problem: first meeting, clock skew, a special file skipped.
    Notice(String),
    /// A round of a watch ended like this; from here on it waits. Only problems that were not told before are in it.
    Round(Arc<Outcome>),
    /// A watch has lost its connection, or cannot make one: why, and what happens next.
    Away(String),
}

/// What a plan will move and change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Files that travel to the other system.
    pub send_files: u64,
    /// Their bytes.
    pub send_bytes: u64,
    /// Files that travel here.
    pub receive_files: u64,
    /// Their bytes.
    pub receive_bytes: u64,
}

/// One path that a run could not settle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The side on which it failed.
    pub side: Side,
    /// Where; the root for problems of the whole side.
    pub path: RelPath,
    /// One line: the act, the cause and what to do, without the path.
    pub text: String,
    /// What kind, for the exit code.
    pub kind: ProblemKind,
}

/// Kinds of problems, by their effect on the exit code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ProblemKind {
    /// Could not be listed, read, written or removed (23).
    Failed,
    /// Changed during the run and was left for the next (24).
    Changed,
}

/// What a finished run reports.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Travelled.
    pub totals: Totals,
    /// Entries on this side and bytes of its files, at the scan.
    pub entries: u64,
    /// As above.
    pub bytes: u64,
    /// Paths removed on System 1 and on System 2 (moves not counted).
    pub deleted: (u64, u64),
    /// Moves and local copies that saved a transfer, both sides.
    pub moved: u64,
    /// Conflicts that were decided, and those left by `--conflict skip`.
    pub conflicts: u64,
    /// As above.
    pub skipped: u64,
    /// Acts decided and then suppressed by `--pull`, `--push`, read-only or no-delete.
    pub suppressed: u64,
    /// Everything that could not be settled.
    pub problems: Vec<Problem>,
    /// Paths that changed while the run was at them, so that looking again may settle them.
    pub raced: Vec<RelPath>,
    /// Bytes on the wire, both ways, encryption included: sent, received.
    pub wire: (u64, u64),
    /// Whether anything was changed on either side (always false in a dry run).
    pub changed: bool,
}
