//! A file in blocks, and the version of a file that the other side's delta copies from.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::hash::is_as_seen;
use super::root::{Root, stat_of};
use super::source::SourceError;
use crate::core::block::{Block, Grid};
use crate::core::path::RelPath;
use crate::core::snapshot;

/// Part of a file on its way through memory.
#[derive(Debug)]
pub(super) struct Window {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Window {
    /// For content that is looked at `need` bytes at a time.
    pub(super) fn new(need: usize) -> Window {
        Window { buffer: vec![0; (4 * need).max(1 << 20)], start: 0, end: 0 }
    }

    /// What is in it: at least `need` bytes, or all that is left. `read` fills what it is given, but for the end.
    pub(super) fn fill<E>(
        &mut self,
        need: usize,
        mut read: impl FnMut(&mut [u8]) -> Result<usize, E>,
    ) -> Result<&[u8], E> {
        if self.end - self.start < need {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            self.end += read(&mut self.buffer[self.end..])?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// Takes the first `length` bytes out.
    pub(super) fn take(&mut self, length: usize) -> &[u8] {
        let taken = &self.buffer[self.start..self.start + length];
        self.start += length;
        taken
    }
}

/// Hands out the blocks of what `read` gives, in order, to its end or until `each` says no.
pub fn blocks<E>(
    grid: &Grid,
    mut read: impl FnMut(&mut [u8]) -> Result<usize, E>,
    mut each: impl FnMut(Block) -> bool,
) -> Result<(), E> {
    let mut window = Window::new(grid.length());
    loop {
        let length = window.fill(grid.length(), &mut read)?.len().min(grid.length());
        if length == 0 || !each(grid.block(window.take(length))) {
            return Ok(());
        }
    }
}

/// The version of a file that this side has, and that the other side replaces: ranges of it need not be sent.
#[derive(Debug)]
pub struct Old {
    file: File,
    scanned: snapshot::File,
}

/// Bytes that are copied at a time.
const PIECE: usize = 256 * 1024;

impl Old {
    /// Opens the file at `path` if it is still what the scan saw.
    pub fn open(root: &Root, path: &RelPath, scanned: &snapshot::File) -> Result<Old, SourceError> {
        let (file, opened) = root.open_file(path).map_err(SourceError::Unreadable)?;
        if !is_as_seen(&opened, scanned) {
            return Err(SourceError::Changed);
        }
        Ok(Old { file, scanned: scanned.clone() })
    }

    /// Its length.
    pub fn size(&self) -> u64 {
        self.scanned.size
    }

    /// Hands out its blocks in order, until `each` says no. A file that changed meanwhile is an error.
    pub fn blocks(&self, grid: &Grid, each: impl FnMut(Block) -> bool) -> Result<(), SourceError> {
        let mut at = 0;
        let read = |buffer: &mut [u8]| {
            let room = buffer.len().min(usize::try_from(self.size() - at).unwrap_or(usize::MAX));
            let count = fill_at(&self.file, &mut buffer[..room], at)?;
            at += count as u64;
            Ok(count)
        };
        blocks(grid, read, each).map_err(SourceError::Unreadable)?;
        self.check()
    }

    /// The `length` bytes from `offset` on, as a range; refused unless it is within the file.
    pub fn range(&self, offset: u64, length: u64) -> Result<Range<u64>, SourceError> {
        let end = offset.checked_add(length).filter(|&end| end <= self.size()).ok_or(SourceError::Changed)?;
        Ok(offset..end)
    }

    /// Takes the first piece off the front of a range, into `room`.
    pub fn take(&self, range: &mut Range<u64>, mut room: Vec<u8>) -> Result<Vec<u8>, SourceError> {
        room.resize(PIECE.min(usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(PIECE)), 0);
        let count = fill_at(&self.file, &mut room, range.start).map_err(SourceError::Unreadable)?;
        if count < room.len() {
            return Err(SourceError::Changed);
        }
        range.start += count as u64;
        Ok(room)
    }

    /// Whether it is still what the scan saw.
    pub fn check(&self) -> Result<(), SourceError> {
        let now = stat_of(&self.file).map_err(SourceError::Unreadable)?;
        if is_as_seen(&now, &self.scanned) { Ok(()) } else { Err(SourceError::Changed) }
    }
}

/// Fills `buffer` from `offset` on as far as the file reaches, and returns how far.
fn fill_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::replica::testing::*;
    use std::fs;

    /// What a scan sees at `at`.
    pub(crate) fn file_at(field: &Field, at: &str) -> snapshot::File {
        let stat = field.root.stat(&path(at)).unwrap();
        let (size, bits, modified, seen) = (stat.size, stat.bits, stat.modified, stat.seen);
        snapshot::File { size, sha256: None, bits, modified, edited: modified, seen }
    }

    #[test]
    fn an_old_version_gives_only_what_the_scan_saw_of_it() {
        let field = Field::new(&[("f", "0123456789")]);
        let scanned = file_at(&field, "f");
        let old = Old::open(&field.root, &path("f"), &scanned).unwrap();
        let take = |offset, length| old.take(&mut old.range(offset, length)?, vec![1; 9]);
        assert!(matches!(take(8, 3), Err(SourceError::Changed)));
        assert!(matches!(take(u64::MAX, 2), Err(SourceError::Changed)));
        assert_eq!(take(2, 3).unwrap(), b"234");
        fs::write(field.at("f"), "0123").unwrap();
        let short = Grid::new(12, 1).unwrap();
        assert!(matches!(old.blocks(&short, |_| true), Err(SourceError::Changed)));
        assert!(take(2, 8).is_err());
        assert!(Old::open(&field.root, &path("f"), &scanned).is_err());
    }
}
