//! What the plan saw at a path, and whether what stands there now is still that.

use std::fs::File;
use std::io::{self, Read};

use super::index::{MARGIN, is_settled};
use super::rename::At;
use super::root::{Kind, Stat, stat_of};
use crate::core::age::Timestamp;
use crate::core::digest::{Digest, Hasher};
use crate::core::snapshot::{Node, Seen};
use crate::core::version::Bits;

/// A change time that is a whole number of these is taken for one of a coarse clock, which counts in seconds.
const COARSE: i64 = 10_000_000;
/// On a fine clock a write this much later shows in the change time for sure: a tick of the kernel's clock is shorter, and the rest is
/// for a file system with another clock than this system's.
const FINE: i64 = 100_000_000;

/// What the plan saw at a path on this side.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expected {
    /// Nothing.
    Absent,
    /// This.
    Entry(Entry),
}

/// An entry as the plan saw it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// File, link or folder.
    pub kind: Kind,
    /// Length in bytes; of a link: of its target; of a folder: of no meaning.
    pub size: u64,
    /// Modification time; of a folder: of no meaning.
    pub modified: Timestamp,
    /// Permission bits.
    pub bits: Bits,
    /// Inode and change time.
    pub seen: Seen,
    /// SHA-256 of a file, where it is known; of a link's target.
    pub sha256: Option<Digest>,
    /// The moment of the scan, on this system's clock.
    pub scanned: Timestamp,
}

impl Expected {
    /// What a scan that began at `scanned` saw; `None` for an unknown, about which nothing may be expected.
    pub fn of(node: Option<&Node>, scanned: Timestamp) -> Option<Expected> {
        match node {
            None => Some(Expected::Absent),
            Some(node) => Entry::of(node, scanned).map(Expected::Entry),
        }
    }

    /// The entry, if one is expected.
    pub fn entry(&self) -> Option<&Entry> {
        if let Expected::Entry(entry) = self { Some(entry) } else { None }
    }

    /// Whether a folder is expected.
    pub fn is_folder(&self) -> bool {
        self.entry().is_some_and(|entry| entry.kind == Kind::Folder)
    }
}

impl Entry {
    /// What a scan that began at `scanned` saw; `None` for an unknown.
    pub fn of(node: &Node, scanned: Timestamp) -> Option<Entry> {
        let (kind, size, modified, bits, seen, sha256) = match node {
            Node::File(f) => (Kind::File, f.size, f.modified, f.bits, f.seen, f.sha256),
            Node::Link(l) => {
                let digest = Some(Digest::of(&l.target));
                (Kind::Link, l.target.len() as u64, l.modified, Bits::of_mode(0o777), l.seen, digest)
            }
            Node::Folder(f) => (Kind::Folder, 0, f.modified, f.bits, f.seen, None),
            Node::Unknown(_) => return None,
        };
        Some(Entry { kind, size, modified, bits, seen, sha256, scanned })
    }

    /// What stands there as `stat` says, for acts that are not preceded by a scan.
    pub(crate) fn standing(stat: &Stat, now: Timestamp) -> Entry {
        let Stat { kind, size, modified, bits, seen, .. } = *stat;
        Entry { kind, size, modified, bits, seen, sha256: None, scanned: now }
    }

    /// Whether `stat` can still be this entry, before anything is touched: here the change time counts, and where it
    /// moved, only a hash can tell afterwards.
    pub(crate) fn admits(&self, stat: &Stat) -> bool {
        self.resembles(stat)
            && (self.kind == Kind::Folder || stat.seen.changed == self.seen.changed || self.sha256.is_some())
    }

    /// Kind, inode, size and modification time: what an exchange leaves as it was.
    fn resembles(&self, stat: &Stat) -> bool {
        let same = stat.kind == self.kind && stat.seen.inode == self.seen.inode;
        same && (self.kind == Kind::Folder || stat.size == self.size && stat.modified == self.modified)
    }

    /// Whether what was displaced to `at` is this entry. `before` is what stood there before it was touched.
    pub(crate) fn is(&self, at: At<'_>, before: &Stat) -> io::Result<bool> {
        let Some(stat) = at.stat()? else { return Ok(false) };
        if !self.resembles(&stat) {
            return Ok(false);
        }
        let doubtful = self.is_recent() || before.seen.changed != self.seen.changed;
        match (self.kind, self.sha256) {
            (Kind::File, Some(sha256)) if doubtful => Ok(hash_at(at, self.size)? == sha256),
            (Kind::Link, Some(sha256)) if doubtful => {
                let target = rustix::fs::readlinkat(at.folder, at.name, Vec::new())?;
                Ok(Digest::of(target.as_bytes()) == sha256)
            }
            _ => Ok(true),
        }
    }

    /// Whether an edit after the scan may have left the times as the scan saw them, so that only content can tell.
    ///
    /// A write sets both times to its own moment: one that is old enough would show it. Where the modification time is set
    /// back afterwards the change time alone shows it, unless all of that happened in the tick in which the scan saw it: of
    /// a file just received, say, whose change time is new.
    fn is_recent(&self) -> bool {
        let changed = self.seen.changed;
        let shows = if changed.0 % COARSE == 0 { MARGIN } else { FINE };
        !is_settled(self.modified, changed, self.scanned) || changed.0 >= self.scanned.0.saturating_sub(shows)
    }
}

/// Reads at most one byte more than `size`: a file that somebody still appends to is not followed for ever.
fn hash_at(at: At<'_>, size: u64) -> io::Result<Digest> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(at.folder, at.name, flags, Mode::empty())?);
    if stat_of(&file)?.kind != Kind::File {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut hasher = Hasher::new();
    read_through(file.take(size.saturating_add(1)), |bytes| {
        hasher.update(bytes);
        Ok(())
    })?;
    Ok(hasher.finish())
}

/// Hands the rest of `file` to `each`, piece by piece.
pub(crate) fn read_through(
    mut file: impl Read,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => each(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_times_would_show_is_not_read_to_be_sure() {
        let (second, now) = (1_000_000_000, 1000 * 1_000_000_000);
        let recent = |modified: i64, changed: i64| {
            let seen = Seen { inode: 1, changed: Timestamp(now - changed) };
            let (bits, modified) = (Bits::of_mode(0o644), Timestamp(now - modified));
            let scanned = Timestamp(now);
            Entry { kind: Kind::File, size: 1, modified, bits, seen, sha256: None, scanned }.is_recent()
        };
        assert!(!recent(3 * second, 3 * second));
        assert!(recent(second + 1, second + 1), "a write in the same tick of a coarse clock");
        assert!(!recent(99 * second, second + 1), "received a second ago");
        assert!(recent(99 * second, second), "the same where a file system counts in seconds");
        assert!(recent(99 * second, 50_000_001), "received just now");
        assert!(!recent(-9 * second, 3 * second), "a modification time in the future");
        assert!(recent(3 * second, -1), "a file system whose clock is ahead");
    }
}
