//! The control messages, in the order in which a sync sends them.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::core::age::Timestamp;
use crate::core::digest::Digest;
use crate::core::path::RelPath;
use crate::core::policy::{ConflictPolicy, May, Policy};
use crate::core::shown::Shown;
use crate::core::side::Sides;

use super::listed::FolderPart;
use super::packed::Compress;
use super::rows::Row;

/// The oldest version of the protocol that this build speaks.
pub const OLDEST: u16 = 1;
/// The newest version of the protocol that this build speaks.
pub const NEWEST: u16 = 1;
/// The most folders that System 2 names at once with their digests; a larger tree is compared level by level.
pub const MAX_HAVE: usize = 32_768;
/// The longest text of a peer about one path that is kept, in bytes.
pub const MAX_TEXT: usize = 1000;
/// The most paths in one request for hashes or listings; more is refused.
pub const MAX_PATHS: usize = 4096;

/// The most spans of one folder in one question.
pub const MAX_SPANS: usize = 16_384;

/// The first half of a digest: enough to tell that two folders differ. That they are equal is settled by whole ones.
pub type Half = [u8; 16];

/// Of a folder that has no digest, as a hash in it is not known. It equals none.
pub const NO_DIGEST: Half = [0; 16];

/// Of what System 2 may conclude nothing about: nothing at or below it is to be listed.
pub const UNKNOWN: Half = [0xff; 16];

/// A random name of a root or a run.
pub type Id = [u8; 16];

/// System 2's first message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// The export, as System 1 names it.
    pub export: String,
    /// The folder below the export that is the root.
    pub sub: RelPath,
    /// System 2's root; none where nothing may be written there (a dry run of a new root).
    pub root: Option<Id>,
    /// What System 2 wants.
    pub wish: Wish,
    /// System 2's exclude rules, gitignore lines; they hold on both sides.
    pub rules: Vec<String>,
    /// For what newer builds add: names and values; a name that is not known is ignored.
    pub extensions: Vec<(String, Vec<u8>)>,
}

/// What the user asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Wish {
    /// Compare only; neither side creates or changes anything.
    pub dry: bool,
    /// Distrust the index.
    pub checksum: bool,
    /// Hash every file before the comparison (`verify`), so that the whole tree has a digest.
    pub whole: bool,
    /// Deletions travel.
    pub delete: bool,
    /// Who wins a conflict.
    pub conflict: ConflictPolicy,
    /// Whether System 1 may be written (`--pull` says no).
    pub write_one: bool,
    /// Whether System 2 may be written (`--push` says no).
    pub write_two: bool,
    /// The written side becomes equal to the other.
    pub mirror: bool,
    /// Accept a root that is not the one known at its place.
    pub new_root: bool,
    /// `--max-delete`, as text; each side judges its own deletions by it.
    pub max_delete: String,
    /// How long, and in how much room, displaced versions are kept; `None` with `--no-history`.
    pub keep: Option<Keep>,
    /// Whether file content is compressed, by either side.
    pub compress: Compress,
}

/// What displaced versions may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Keep {
    /// Days after which they go.
    pub days: u32,
    /// How much room they get.
    pub room: Room,
}

/// Room for displaced versions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Room {
    /// Bytes.
    Bytes(u64),
    /// A share of the file system, in percent.
    Percent(u8),
}

impl Default for Keep {
    fn default() -> Keep {
        Keep { days: 30, room: Room::Percent(10) }
    }
}

impl Wish {
    /// The policy that both sides reconcile by: what the user asked for, within what System 1 allows.
    pub fn policy(&self, allowed: May, uncertainty: i64) -> Policy {
        let one = May { write: self.write_one && allowed.write, delete: self.write_one && allowed.delete };
        let two = May { write: self.write_two, delete: self.write_two };
        Policy {
            delete: self.delete,
            conflict: self.conflict,
            may: Sides { one, two },
            mirror: self.mirror,
            uncertainty,
        }
    }
}

/// System 1's answer to [`Hello`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// System 1's clock when it had read the hello. All its ages count from here.
    pub clock: Timestamp,
    /// Nanoseconds from then until this message was sent: what is left of the round trip was spent on the way.
    pub held: u64,
    /// System 1's root; none in a dry run of a new root.
    pub root: Option<Id>,
    /// The run ids that System 1 accepts for this pair of roots: the last, and one before it; empty at a first meeting.
    pub runs: Vec<Id>,
    /// System 1's exclude rules, which hold on both sides too.
    pub rules: Vec<String>,
    /// What System 1 lets this client change.
    pub may: May,
    /// As [`Hello::extensions`].
    pub extensions: Vec<(String, Vec<u8>)>,
}

/// Everything that follows the greeting. The first comment on each says who sends it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Either: the session ends here, with one line for the user.
    Refuse(Refusal),
    /// Two: how both count ages, and what of the base both may use.
    Begin(Begin),
    /// One: its snapshot is ready; the digest of the whole tree.
    Top {
        /// Absent while a hash is not known.
        digest: Option<Digest>,
        /// Files, links and folders.
        entries: u64,
        /// Bytes of the files.
        bytes: u64,
        /// Paths that could not be scanned, for the report.
        problems: Vec<(RelPath, String)>,
    },
    /// Two: list these folders; `true` asks for everything below as well, but for folders whose digest System 2
    /// said it has.
    List(Vec<(RelPath, bool)>),
    /// One: folders asked for, in the order of the question; a deep one is followed by those below it, in path order.
    Listing(Vec<FolderPart>),
    /// Either: which SHA-256 have these files? Asked only where a hash can settle a question.
    AskHashes(Vec<RelPath>),
    /// Either: the answers, in the order of the question.
    Hashes(Vec<Result<Digest, Unhashed>>),
    /// Two: the paths that differ, with its own versions and the base's; more follow until [`Message::RowsEnd`].
    Rows(Vec<Row>),
    /// Two: the digest of the plan it made, and its guard's objection, if any.
    Compared {
        /// The name of this run.
        run: Id,
        /// Of the plan.
        plan: Digest,
        /// Entries on System 2, for System 1's guard.
        entries: u64,
        /// Entries in the base, for the same.
        base: u64,
        /// Why nothing may be changed on System 2.
        guard: Option<Refusal>,
    },
    /// One: it made the same plan (otherwise it refuses), and its guard's objection, if any.
    Agreed {
        /// Why nothing may be changed on System 1.
        guard: Option<Refusal>,
    },
    /// One: the items whose content it needs, in path order.
    Needs(Vec<Need>),
    /// One: all needs are named.
    NeedsEnd,
    /// Two: every transfer has ended; put in place what arrived.
    Commit,
    /// One: how its acts went: for each item with an act on its side that failed.
    Failed(Vec<(u32, Failure)>),
    /// One: hashes of content that became known during the run, by item.
    Learned(Vec<(u32, Digest)>),
    /// One: it is durable on disk and has written the run id beside the last one.
    Committed {
        /// Moves and local copies that saved a transfer.
        moved: u64,
        /// Paths removed (moves not counted).
        deleted: u64,
    },
    /// Two: the base is committed; the session is over.
    Done,
    /// Either: nothing; proves that the other end is alive.
    Alive,
    /// Two: its own folders with the first half of their digests, or [`NO_DIGEST`], and its [`UNKNOWN`] paths, in path order. What has the
    /// same System 1 need not list, and of the others it may tell members by spans.
    Have(Vec<(RelPath, Half)>),
    /// Two: list what these spans of folders cover, by their numbers in the folder's [`FolderPart::spans`], in order.
    ListSpans(Vec<(RelPath, Vec<u32>)>),
    /// One, between two rounds of a watch: something may have changed there; a round should begin.
    Changed,
    /// One, before its needs have ended: the items of which it remembers the version that System 2 has, and to which it
    /// sends a delta, in path order.
    Remembers(Vec<u32>),
    /// Either, at most once and while files travel: the [`primer`](super::primer) of the small files that it sends, packed.
    Primer(Vec<u8>),
    /// Two: all rows are sent; both plan from them now.
    RowsEnd,
}

/// What both sides must share before they compare.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Begin {
    /// Half the round trip of the hello, in nanoseconds: ages closer than this are equal.
    pub uncertainty: i64,
    /// Half the least round trip that System 2 has seen, in nanoseconds: what the line takes, whatever held up an answer.
    pub delay: i64,
    /// System 2's clock at the moment of [`Welcome::clock`]. All its ages count from here.
    pub clock: Timestamp,
    /// The run id of the base that System 2 will use; none for a first meeting.
    pub base: Option<Id>,
}

/// An item of the plan whose content a side needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Need {
    /// Index into the plan.
    pub item: u32,
    /// Bytes of it that an earlier, cut transfer left in staging.
    pub have: u64,
}

/// Why a hash cannot be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error, Serialize, Deserialize)]
pub enum Unhashed {
    /// It could not be read.
    #[error("cannot be read, and was left on both sides; check its permissions")]
    Unreadable,
    /// It changed or vanished since the scan.
    #[error("changed during the run and was left; run again to settle it")]
    Changed,
}

/// How an act failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Failure {
    /// The path changed during the run and was left.
    Changed(String),
    /// It could not be done.
    Failed(String),
    /// A folder that should go holds something that may not be touched, and stays.
    Held,
}

impl Failure {
    /// Its text cut to [`MAX_TEXT`] bytes: what is sent of it.
    pub fn cut(self) -> Failure {
        let cut = |mut text: String| {
            let end = (0..=MAX_TEXT.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
            text.truncate(end.unwrap_or(0));
            text
        };
        match self {
            Failure::Changed(text) => Failure::Changed(cut(text)),
            Failure::Failed(text) => Failure::Failed(cut(text)),
            Failure::Held => Failure::Held,
        }
    }

    /// As it came from a peer, made fit to be shown and kept: one line of at most [`MAX_TEXT`] bytes.
    pub fn escaped(self) -> Failure {
        let shown = |text: String| Shown(&text.as_bytes()[..text.len().min(MAX_TEXT)]).to_string();
        match self {
            Failure::Changed(text) => Failure::Changed(shown(text)),
            Failure::Failed(text) => Failure::Failed(shown(text)),
            Failure::Held => Failure::Held,
        }
    }
}

/// Why a session ends, for the user: an exit code and one line. The receiver escapes the text before showing it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// The exit code that fits.
    pub code: u8,
    /// One line.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_cut_between_characters_before_it_is_sent() {
        let long = Failure::Failed(format!("x{}", "ü".repeat(MAX_TEXT)));
        let Failure::Failed(text) = long.cut() else { panic!("it is another failure now") };
        assert_eq!((text.len(), text.chars().count()), (MAX_TEXT - 1, MAX_TEXT / 2));
        assert_eq!(Failure::Changed("short".into()).cut(), Failure::Changed("short".into()));
    }
}
