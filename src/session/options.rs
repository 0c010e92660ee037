//! What the user asked of one sync.

use std::path::PathBuf;
use std::time::Duration;

use super::clock::Clock;
use crate::core::guard::MaxDelete;
use crate::core::policy::ConflictPolicy;
use crate::protocol::message::{Keep, Wish};
use crate::protocol::packed::Compress;
use crate::replica::filter::Rules;

/// Which way changes may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Way {
    /// Both ways.
    #[default]
    Both,
    /// Only System 2 is changed.
    Pull,
    /// Only System 1 is changed.
    Push,
}

/// How often a run that loses its connection makes another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Retries {
    /// At most so often.
    pub times: u32,
    /// Also where the first connection cannot be made.
    pub first: bool,
}

/// One sync's options, as System 2's user gave them.
#[derive(Clone, Debug)]
pub struct Options {
    /// Print the plan, change nothing.
    pub dry: bool,
    /// Distrust the index.
    pub checksum: bool,
    /// Hash every file, so that the whole tree has a digest (`verify`; only with `dry`).
    pub whole: bool,
    /// Deletions travel.
    pub delete: bool,
    /// Who wins a conflict.
    pub conflict: ConflictPolicy,
    /// Which side may be changed.
    pub way: Way,
    /// The changed side becomes equal to the other.
    pub mirror: bool,
    /// Accept a root that is not the one known at its place.
    pub new_root: bool,
    /// How many deletions are too many.
    pub max_delete: MaxDelete,
    /// How long, and in how much room, displaced versions are kept.
    pub keep: Keep,
    /// Whether they are kept at all.
    pub history: bool,
    /// Exclude rules of the command line.
    pub rules: Rules,
    /// Whether file content is compressed.
    pub compress: Compress,
    /// Bytes of file channels a second, each way, at most.
    pub bwlimit: Option<u64>,
    /// Where what must live outside the roots is kept (`$XDG_STATE_HOME/syncfiles`).
    pub state_home: PathBuf,
    /// How long to wait for another run of the same root, and for a sign of life; [`Duration::MAX`]: for ever.
    pub timeout: Duration,
    /// What happens when the connection is lost.
    pub retries: Retries,
    /// Further rounds are to follow over the same connection; set by [`watch`](super::watch::watch).
    pub watch: bool,
    /// This system's clock.
    pub clock: Clock,
}

impl Options {
    /// What a user gets without options.
    pub fn new(state_home: PathBuf) -> Options {
        Options {
            dry: false,
            checksum: false,
            whole: false,
            delete: false,
            conflict: ConflictPolicy::default(),
            way: Way::default(),
            mirror: false,
            new_root: false,
            max_delete: MaxDelete::default(),
            keep: Keep::default(),
            history: true,
            rules: Rules::default(),
            compress: Compress::default(),
            bwlimit: None,
            state_home,
            timeout: Duration::from_secs(60),
            retries: Retries::default(),
            watch: false,
            clock: Clock::default(),
        }
    }

    /// What displaced versions may take; none where they are not kept.
    pub(crate) fn kept(&self) -> Option<Keep> {
        self.history.then_some(self.keep)
    }

    /// As System 1 is told.
    pub(crate) fn wish(&self) -> Wish {
        Wish {
            dry: self.dry,
            checksum: self.checksum,
            whole: self.whole,
            delete: self.delete,
            conflict: self.conflict,
            write_one: self.way != Way::Pull,
            write_two: self.way != Way::Push,
            mirror: self.mirror,
            new_root: self.new_root,
            max_delete: self.max_delete.to_string(),
            keep: self.kept(),
            compress: self.compress,
        }
    }
}
