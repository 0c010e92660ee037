//! How a run ends, as a number that scripts can tell apart.

use std::process;

use crate::session::SessionError;
use crate::session::progress::{Outcome, ProblemKind};

/// Exit codes. Where rsync has a code for the same thing, it is rsync's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum ExitCode {
    /// Both sides hold the same, or differ only where the user wanted it (`--pull`, `--push`, read-only).
    InSync = 0,
    /// The arguments mean nothing.
    Usage = 1,
    /// The other end speaks no version of the protocol that this one speaks.
    IncompatiblePeer = 2,
    /// It could not start: host key, authentication, unknown export.
    CouldNotStart = 5,
    /// The connection failed or was lost.
    Connection = 10,
    /// A root, or what is remembered about it, cannot be used.
    Root = 11,
    /// The other end broke the protocol, or planned something else.
    Protocol = 12,
    /// A signal ended it.
    Interrupted = 20,
    /// Some files failed.
    SomeFailed = 23,
    /// Some files changed during the run and were left for the next.
    SomeChanged = 24,
    /// `--max-delete` was reached; nothing was changed.
    MaxDelete = 25,
    /// Conflicts were left (`--conflict skip`).
    ConflictsLeft = 26,
    /// A root was emptied, or is not the folder it was; nothing was changed.
    RootGone = 27,
    /// The other end was silent for too long.
    Timeout = 30,
    /// The other end did not answer the connection.
    ConnectTimeout = 35,
}

impl ExitCode {
    /// Every code, in the order of their numbers.
    pub const ALL: [ExitCode; 15] = [
        ExitCode::InSync,
        ExitCode::Usage,
        ExitCode::IncompatiblePeer,
        ExitCode::CouldNotStart,
        ExitCode::Connection,
        ExitCode::Root,
        ExitCode::Protocol,
        ExitCode::Interrupted,
        ExitCode::SomeFailed,
        ExitCode::SomeChanged,
        ExitCode::MaxDelete,
        ExitCode::ConflictsLeft,
        ExitCode::RootGone,
        ExitCode::Timeout,
        ExitCode::ConnectTimeout,
    ];

    /// What it means, in a few words, for help, the manual page and the guide.
    pub fn meaning(self) -> &'static str {
        match self {
            ExitCode::InSync => "in sync, or different only where --pull, --push or the server wants it",
            ExitCode::Usage => "the arguments mean nothing",
            ExitCode::IncompatiblePeer => "the other end speaks another version of the protocol",
            ExitCode::CouldNotStart => "could not start: host key, login, unknown export",
            ExitCode::Connection => "the connection failed or was lost",
            ExitCode::Root => "a folder, or what is remembered about it, cannot be used",
            ExitCode::Protocol => "the other end broke the protocol",
            ExitCode::Interrupted => "interrupted by a signal",
            ExitCode::SomeFailed => "some files failed; of verify: the folders differ",
            ExitCode::SomeChanged => "some files changed during the run and were left",
            ExitCode::MaxDelete => "--max-delete was reached; nothing was changed",
            ExitCode::ConflictsLeft => "conflicts were left (--conflict skip)",
            ExitCode::RootGone => "a folder was emptied or is not the one it was; nothing was changed",
            ExitCode::Timeout => "the other end was silent for too long",
            ExitCode::ConnectTimeout => "the other end did not answer in time",
        }
    }

    /// The code of a run that came to its end. Where several apply, the one that asks most of the user wins:
    /// files that failed (something must be repaired), then conflicts left (something must be chosen), then
    /// files that changed meanwhile (running again is enough).
    pub fn of(outcome: &Outcome) -> ExitCode {
        let has = |kind| outcome.problems.iter().any(|problem| problem.kind == kind);
        match () {
            _ if has(ProblemKind::Failed) => ExitCode::SomeFailed,
            _ if outcome.skipped > 0 => ExitCode::ConflictsLeft,
            _ if has(ProblemKind::Changed) => ExitCode::SomeChanged,
            _ => ExitCode::InSync,
        }
    }

    /// The code of a run that was stopped.
    pub fn of_session(error: &SessionError) -> ExitCode {
        match error {
            SessionError::Incompatible(_) => ExitCode::IncompatiblePeer,
            SessionError::Refused(_) => ExitCode::CouldNotStart,
            SessionError::Connection(_) => ExitCode::Connection,
            SessionError::Root(_) => ExitCode::Root,
            SessionError::Protocol(_) => ExitCode::Protocol,
            SessionError::Guard { code: 25, .. } => ExitCode::MaxDelete,
            SessionError::Guard { .. } => ExitCode::RootGone,
            SessionError::Timeout(_) => ExitCode::Timeout,
            SessionError::ConnectTimeout(_) => ExitCode::ConnectTimeout,
        }
    }

    /// The number the process ends with.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Of two codes for one process (several runs of `--watch`, an outcome and then a signal), the one to end
    /// with: what stopped a run outranks what it left undone, and that outranks success.
    pub fn or_worse(self, other: ExitCode) -> ExitCode {
        if other.rank() > self.rank() { other } else { self }
    }

    fn rank(self) -> u8 {
        match self {
            ExitCode::InSync => 0,
            ExitCode::SomeChanged => 1,
            ExitCode::ConflictsLeft => 2,
            ExitCode::SomeFailed => 3,
            ExitCode::Interrupted => 4,
            ExitCode::Timeout | ExitCode::ConnectTimeout | ExitCode::Connection => 5,
            ExitCode::MaxDelete | ExitCode::RootGone => 6,
            ExitCode::Root | ExitCode::CouldNotStart => 7,
            ExitCode::Protocol | ExitCode::IncompatiblePeer => 8,
            ExitCode::Usage => 9,
        }
    }
}

impl From<ExitCode> for process::ExitCode {
    fn from(code: ExitCode) -> process::ExitCode {
        process::ExitCode::from(code.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::path::RelPath;
    use crate::core::side::Side;
    use crate::session::progress::Problem;

    fn outcome(skipped: u64, kinds: &[ProblemKind]) -> Outcome {
        let problem = |&kind| Problem { side: Side::One, path: RelPath::root(), text: String::new(), kind };
        Outcome { skipped, problems: kinds.iter().map(problem).collect(), ..Outcome::default() }
    }

    #[test]
    fn the_code_that_asks_most_of_the_user_wins() {
        use ProblemKind::{Changed, Failed};
        for (skipped, kinds, code) in [
            (0, &[][..], 0),
            (0, &[Changed], 24),
            (1, &[], 26),
            (1, &[Changed], 26),
            (1, &[Changed, Failed], 23),
            (0, &[Changed, Failed], 23),
        ] {
            assert_eq!(ExitCode::of(&outcome(skipped, kinds)).number(), code, "{skipped} {kinds:?}");
        }
    }

    #[test]
    fn suppressed_acts_and_decided_conflicts_are_success() {
        let outcome = Outcome { suppressed: 3, conflicts: 2, ..Outcome::default() };
        assert_eq!(ExitCode::of(&outcome), ExitCode::InSync);
    }

    #[test]
    fn what_stopped_a_run_outranks_what_it_left() {
        assert_eq!(ExitCode::SomeFailed.or_worse(ExitCode::Connection), ExitCode::Connection);
        assert_eq!(ExitCode::Connection.or_worse(ExitCode::SomeFailed), ExitCode::Connection);
        assert_eq!(ExitCode::InSync.or_worse(ExitCode::SomeChanged), ExitCode::SomeChanged);
    }
}
