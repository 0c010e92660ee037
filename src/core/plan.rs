//! What a sync will do: one item a path, in path order, for both sides at once.

use serde::{Deserialize, Serialize};

use super::path::RelPath;
use super::side::{Side, Sides};
use super::version::{Bits, Content, Standing, Version};

/// What one side does at one path. The version it expects there is in [`Item::saw`].
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum Act {
    /// Nothing.
    #[default]
    Nothing,
    /// Make this version stand there; what stood there goes to history.
    Put {
        /// The version: content, final permission bits, modification time, age at its source.
        version: Version,
        /// Who has the content.
        from: Source,
    },
    /// Give what stands there these permission bits.
    SetBits(Bits),
    /// Remove what stands there into history; a folder goes by rmdir once its members are gone.
    Remove,
}

/// Where the content of a [`Act::Put`] is.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Source {
    /// At the same path on the other system.
    Peer,
    /// At this path on the side itself (the loser of a kept conflict, before it is displaced).
    Own(RelPath),
    /// At this path on the other system (a kept conflict's loser).
    PeerAt(RelPath),
}

/// Why an item is in the plan; for reports.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Why {
    /// Only one side has it.
    New,
    /// One side changed it since the base.
    Changed,
    /// No base, and different content: the younger won.
    Younger,
    /// Both changed it; this side's content won (or, skipped, nobody's).
    Conflict(Option<Side>),
    /// Ages equal within the uncertainty and no base: the greater hash won.
    Tie(Side),
    /// One side deleted it and the other had not changed it.
    Deleted,
    /// One side deleted it, deletions do not travel: it returns.
    Restored,
    /// One side deleted it and the other changed it: the change survives.
    Survived,
    /// A file or link against a folder; this side's won (or nobody's: the losing folder holds unknown members).
    Clash(Option<Side>),
    /// Permission bits only.
    Bits,
    /// Both sides already hold the same; only the base changes.
    Agreed,
}

/// What the base says of a path once both sides have done their part.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Settles {
    /// What it said before.
    Keep,
    /// Both hold this. A file's hash may be known only after the transfer.
    Version {
        /// The agreed content.
        content: Content,
        /// The agreed bits.
        bits: Bits,
    },
    /// Both hold nothing.
    Absent,
    /// A folder that goes but is held by unknown members on a side.
    Gone {
        /// Its bits in the base.
        bits: Bits,
    },
}

/// Everything decided about one path.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Item {
    /// Where.
    pub path: RelPath,
    /// What the decision saw; each side's act expects it.
    pub saw: Sides<Standing>,
    /// What each side does.
    pub act: Sides<Act>,
    /// Acts that were decided and then suppressed by direction, read-only or no-delete.
    pub suppressed: Sides<bool>,
    /// Why.
    pub why: Why,
    /// The base afterwards.
    pub settles: Settles,
}

/// The ordered list of what both sides do: a pure function of two snapshots, the base and the policy.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Plan {
    /// In path order, one an affected path.
    pub items: Vec<Item>,
}
