//! What a sync will do: one item a path, in path order, for both sides at once.

use serde::{Deserialize, Serialize};

use super::digest::{Digest, Hasher};
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
    /// The version that lost a conflict, which is kept under this name beside the one that won.
    Kept,
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
    /// A folder that goes but is held by unknown members on a side. Where it went after all, because it was renamed
    /// whole or nothing holds it any more, both hold nothing.
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

/// What one side does in a plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Files, links and folders that are put.
    pub puts: u64,
    /// Files among them whose content the other side has (moves and copies are not known here).
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// Entries that get other permission bits only.
    pub bits: u64,
    /// Entries that are removed, moved ones included.
    pub removals: u64,
    /// Acts that were decided and then suppressed.
    pub suppressed: u64,
}

impl Plan {
    /// What `side` does.
    pub fn totals(&self, side: Side) -> Totals {
        let mut totals = Totals::default();
        for item in &self.items {
            match item.act.of(side) {
                Act::Nothing => {}
                Act::SetBits(_) => totals.bits += 1,
                Act::Remove => totals.removals += 1,
                Act::Put { version, from } => {
                    totals.puts += 1;
                    if matches!(version.content, Content::File { .. }) && !matches!(from, Source::Own(_)) {
                        totals.files += 1;
                        totals.bytes = totals.bytes.saturating_add(version.content.size());
                    }
                }
            }
            totals.suppressed += u64::from(*item.suppressed.of(side));
        }
        totals
    }

    /// Paths on which two versions met: decided or, with `true`, left as they are.
    pub fn conflicts(&self, left: bool) -> u64 {
        let is_conflict = |item: &&Item| match item.why {
            Why::Conflict(winner) | Why::Clash(winner) => winner.is_none() == left,
            Why::Tie(_) => !left,
            _ => false,
        };
        self.items.iter().filter(is_conflict).count() as u64
    }

    /// Which items are about `path` and what is below it.
    pub fn within(&self, path: &RelPath) -> std::ops::Range<usize> {
        let start = self.items.partition_point(|item| item.path < *path);
        start..start + self.items[start..].partition_point(|item| item.path.is_within(path))
    }

    /// Fills in the SHA-256 of the file that is put at `path`, once its holder has made it.
    pub fn learn(&mut self, path: &RelPath, hash: Digest) {
        let Ok(at) = self.items.binary_search_by(|item| item.path.cmp(path)) else { return };
        let item = &mut self.items[at];
        let contents = [&mut item.act.one, &mut item.act.two].into_iter().filter_map(|act| match act {
            Act::Put { version, .. } => Some(&mut version.content),
            _ => None,
        });
        let settled = match &mut item.settles {
            Settles::Version { content, .. } => Some(content),
            _ => None,
        };
        for content in contents.chain(settled) {
            if let Content::File { sha256: sha256 @ None, .. } = content {
                *sha256 = Some(hash);
            }
        }
    }

    /// Whether neither side does anything.
    pub fn is_idle(&self) -> bool {
        self.items.iter().all(|item| item.act == Sides::default())
    }

    /// What both systems compare before anything changes: SHA-256 over every item's path, acts and settlement.
    ///
    /// The encoding is free of ambiguity and the same on every machine: numbers little-endian in 64 bits, byte
    /// strings after their length, a tag byte before each choice. What is only for reports is left out.
    pub fn digest(&self) -> Digest {
        let mut canon = Canon(Hasher::new());
        canon.number(self.items.len() as u64);
        for item in &self.items {
            canon.bytes(item.path.as_bytes());
            canon.act(&item.act.one);
            canon.act(&item.act.two);
            canon.settles(&item.settles);
        }
        canon.0.finish()
    }
}

struct Canon(Hasher);

impl Canon {
    fn tag(&mut self, tag: u8) {
        self.0.update(&[tag]);
    }

    fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Nothing => self.tag(0),
            Act::Put { version, from } => {
                self.tag(1);
                self.content(&version.content);
                self.number(u64::from(version.bits.mode()));
                self.number(version.modified.0 as u64);
                self.number(version.age.0 as u64);
                self.source(from);
            }
            Act::SetBits(bits) => {
                self.tag(2);
                self.number(u64::from(bits.mode()));
            }
            Act::Remove => self.tag(3),
        }
    }

    fn source(&mut self, from: &Source) {
        match from {
            Source::Peer => self.tag(0),
            Source::Own(path) => {
                self.tag(1);
                self.bytes(path.as_bytes());
            }
            Source::PeerAt(path) => {
                self.tag(2);
                self.bytes(path.as_bytes());
            }
        }
    }

    fn content(&mut self, content: &Content) {
        match content {
            Content::File { size, sha256 } => {
                self.tag(if sha256.is_some() { 1 } else { 0 });
                self.number(*size);
                if let Some(sha256) = sha256 {
                    self.0.update(&sha256.0);
                }
            }
            Content::Link { target } => {
                self.tag(2);
                self.bytes(target);
            }
            Content::Folder => self.tag(3),
        }
    }

    fn settles(&mut self, settles: &Settles) {
        match settles {
            Settles::Keep => self.tag(0),
            Settles::Version { content, bits } => {
                self.tag(1);
                self.content(content);
                self.number(u64::from(bits.mode()));
            }
            Settles::Absent => self.tag(2),
            Settles::Gone { bits } => {
                self.tag(3);
                self.number(u64::from(bits.mode()));
            }
        }
    }
}
