//! What System 1 has in one folder, as a [`Listing`](super::message::Message::Listing) tells it.

use serde::{Deserialize, Serialize};

use crate::core::age::{Timestamp, age_at};
use crate::core::digest::Digest;
use crate::core::path::{Name, RelPath};
use crate::core::snapshot::Node;
use crate::core::span::Span;
use crate::core::version::{Bits, Content, Standing, Version, target};

/// Members of one folder on System 1.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FolderPart {
    /// The folder.
    pub folder: RelPath,
    /// Its members, or some of them, in name order.
    pub members: Vec<(Name, Listed)>,
    /// The other members, by spans.
    pub spans: Vec<Span>,
    /// More members or spans of the same folder follow in the next part.
    pub more: bool,
}

/// One member of a folder on System 1.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Listed {
    /// Something about which nothing may be concluded.
    Unknown,
    /// A regular file.
    File {
        /// Bytes.
        size: u64,
        /// SHA-256, where it is known.
        sha256: Option<Digest>,
        /// Permission bits.
        bits: Bits,
        /// Modification time.
        modified: Timestamp,
        /// Moment of the edit on System 1's clock, less the modification time.
        edited: i64,
    },
    /// A symbolic link.
    Link {
        /// Its target.
        #[serde(deserialize_with = "target")]
        target: Box<[u8]>,
        /// Modification time.
        modified: Timestamp,
        /// As for files.
        edited: i64,
    },
    /// A folder.
    Folder {
        /// Permission bits.
        bits: Bits,
        /// Modification time.
        modified: Timestamp,
        /// Digest of everything below, where it is known.
        digest: Option<Digest>,
    },
}

impl Listed {
    /// What System 2 learns of this path; System 1's clock at the hello was `now`.
    pub fn standing(&self, now: Timestamp) -> Standing {
        let (content, bits, modified, edited) = match self {
            Listed::Unknown => return Standing::Unknown,
            Listed::File { size, sha256, bits, modified, edited } => {
                (Content::File { size: *size, sha256: *sha256 }, *bits, *modified, *edited)
            }
            Listed::Link { target, modified, edited } => {
                (Content::Link { target: target.clone() }, Bits::of_mode(0o777), *modified, *edited)
            }
            Listed::Folder { bits, modified, .. } => (Content::Folder, *bits, *modified, 0),
        };
        let edited = Timestamp(modified.0.wrapping_add(edited));
        Standing::Holds(Version { content, bits, modified, age: age_at(edited, now) })
    }

    /// What crosses the wire of a scanned entry.
    pub fn of(node: &Node) -> Listed {
        match node {
            Node::Unknown(_) => Listed::Unknown,
            Node::File(file) => Listed::File {
                size: file.size,
                sha256: file.sha256,
                bits: file.bits,
                modified: file.modified,
                edited: file.edited.0.wrapping_sub(file.modified.0),
            },
            Node::Link(link) => Listed::Link {
                target: link.target.clone(),
                modified: link.modified,
                edited: link.edited.0.wrapping_sub(link.modified.0),
            },
            Node::Folder(folder) => {
                Listed::Folder { bits: folder.bits, modified: folder.modified, digest: folder.digest }
            }
        }
    }
}
