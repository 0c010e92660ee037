//! What the user chose: how conflicts end, whether deletions travel, what each side may change.

use serde::{Deserialize, Serialize};

use super::side::{Side, Sides};

/// Who wins when both sides changed a path since the base.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum ConflictPolicy {
    /// The younger content; the loser goes to history.
    #[default]
    Newer,
    /// System 2's.
    Two,
    /// System 1's.
    One,
    /// The younger keeps the name, the other stays beside it under another name, on both sides.
    KeepBoth,
    /// Neither: the path stays as it is on both sides and is reported.
    Skip,
}

/// Which changes a side accepts. What it does not accept is decided all the same and then suppressed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct May {
    /// Create, replace, change bits.
    pub write: bool,
    /// Remove.
    pub delete: bool,
}

/// Everything besides the two snapshots and the base that a plan depends on. Both systems hold the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Policy {
    /// Deletions travel.
    pub delete: bool,
    /// For paths that both sides changed.
    pub conflict: ConflictPolicy,
    /// Suppression by `--pull`, `--push`, read-only and no-delete servers.
    pub may: Sides<May>,
    /// `--mirror`: the side that may be written becomes equal to the other, its extras and edits go to history.
    pub mirror: bool,
    /// Ages closer than this (nanoseconds) are equal: half the round trip of the hello.
    pub uncertainty: i64,
}

impl Policy {
    /// With `--mirror`: the side that the other becomes equal to, which is the one that may not be written.
    /// None without `--mirror`, and where the sides that may be written do not name one target.
    pub fn mirrored(&self) -> Option<Side> {
        match (self.mirror, self.may.one.write, self.may.two.write) {
            (true, false, true) => Some(Side::One),
            (true, true, false) => Some(Side::Two),
            _ => None,
        }
    }
}

impl Default for Policy {
    fn default() -> Policy {
        let all = May { write: true, delete: true };
        Policy {
            delete: false,
            conflict: ConflictPolicy::Newer,
            may: Sides { one: all, two: all },
            mirror: false,
            uncertainty: 0,
        }
    }
}
