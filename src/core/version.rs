//! What stands at a path, and how old it is.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use super::age::{Age, Timestamp};
use super::digest::Digest;

/// Permission bits: the lowest nine of a mode, and never set-id or sticky.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(from = "u16", into = "u16")]
pub struct Bits(u16);

impl Bits {
    /// The permission bits of a mode; everything else in it is dropped.
    pub fn of_mode(mode: u32) -> Bits {
        Bits((mode & 0o777) as u16)
    }

    /// As a mode for chmod.
    pub fn mode(self) -> u32 {
        u32::from(self.0)
    }
}

impl From<u16> for Bits {
    fn from(bits: u16) -> Bits {
        Bits::of_mode(u32::from(bits))
    }
}

impl From<Bits> for u16 {
    fn from(bits: Bits) -> u16 {
        bits.0
    }
}

/// The longest target of a symbolic link, in bytes: what Linux allows.
pub const MAX_TARGET: usize = 4095;

/// Reads a link's target as [`Content::Link`] promises it, whatever a peer or a database says.
pub(crate) fn target<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<[u8]>, D::Error> {
    let target = <Box<[u8]>>::deserialize(deserializer)?;
    if target.is_empty() || target.len() > MAX_TARGET || target.contains(&0) {
        return Err(D::Error::custom("no link can point there"));
    }
    Ok(target)
}

/// What a path holds, without its permission bits and times.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Content {
    /// A regular file. The hash is absent until it can decide something (it is then made once and remembered).
    File {
        /// Length in bytes.
        size: u64,
        /// SHA-256 of the bytes, where it is known.
        sha256: Option<Digest>,
    },
    /// A symbolic link, as a link: its target is data and is never followed.
    Link {
        /// The target's bytes, 1 to 4095 of them, none of them NUL.
        #[serde(deserialize_with = "target")]
        target: Box<[u8]>,
    },
    /// A folder; its members are paths of their own.
    Folder,
}

impl Content {
    /// Whether two contents are the same; `None` where only a hash that is not known yet can tell.
    pub fn same(&self, other: &Content) -> Option<bool> {
        match (self, other) {
            (Content::File { size: a, sha256: x }, Content::File { size: b, sha256: y }) => {
                if a != b {
                    return Some(false);
                }
                if *a == 0 {
                    return Some(true);
                }
                Some(x.as_ref()? == y.as_ref()?)
            }
            (a, b) => Some(a == b),
        }
    }

    /// Whether this is a folder.
    pub fn is_folder(&self) -> bool {
        matches!(self, Content::Folder)
    }

    /// Length of a file in bytes; 0 for links and folders.
    pub fn size(&self) -> u64 {
        if let Content::File { size, .. } = self { *size } else { 0 }
    }
}

/// What stands at one path on one side: its content and permission bits (what a sync compares), its
/// modification time (which a copy keeps) and its age (which decides what is newer).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Version {
    /// Kind, and bytes or target.
    pub content: Content,
    /// Permission bits; meaningless for links, where they are always 0777.
    pub bits: Bits,
    /// The modification time as the file system shows it, by whatever clock set it.
    pub modified: Timestamp,
    /// Age at the hello, by the clock of the system that holds it.
    pub age: Age,
}

/// What is known of a path on one side.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum Standing {
    /// The parent was listed completely and the name was not there.
    #[default]
    Absent,
    /// Nothing may be concluded: unreadable, special, foreign or excluded. No action at or below it.
    Unknown,
    /// This version stands there.
    Holds(Version),
}

impl Standing {
    /// The version that stands there, if one does.
    pub fn version(&self) -> Option<&Version> {
        if let Standing::Holds(version) = self { Some(version) } else { None }
    }

    /// Whether both certainly hold the same content with the same bits, or hold nothing alike.
    pub fn same(&self, other: &Standing) -> bool {
        match (self.version(), other.version()) {
            (Some(a), Some(b)) => a.content.same(&b.content) == Some(true) && a.bits == b.bits,
            _ => self == other,
        }
    }
}
