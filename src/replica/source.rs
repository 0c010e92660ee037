//! A file that is read to be sent: only what the scan saw, held to it before and after.

use std::fs::File;
use std::io::{self, Read};

use rustix::io::Errno;
use thiserror::Error;

use super::root::{Kind, Near, Root, Stat};
use crate::core::block::Grid;
use crate::core::digest::{Digest, Hasher};
use crate::core::path::RelPath;
use crate::core::signature::{Making, Signature};
use crate::core::snapshot;

/// Why a file cannot be sent.
#[derive(Debug, Error)]
pub enum SourceError {
    /// It is not what the scan saw, or changed while it was read.
    #[error("changed since the scan: run again to settle it")]
    Changed,
    /// It could not be read.
    #[error("cannot read: {0}; check its permissions and its disk")]
    Unreadable(io::Error),
}

/// An open file and the hash of what has been read of it.
#[derive(Debug)]
pub struct Source {
    file: File,
    opened: Stat,
    promised: Option<Digest>,
    hasher: Hasher,
    signing: Option<Making>,
    read: u64,
}

impl Source {
    /// Opens the file at `path` if it is still what the scan saw; `near` keeps its folder for the next one.
    pub fn open(
        root: &Root,
        near: &Near,
        path: &RelPath,
        scanned: &snapshot::File,
    ) -> Result<Source, SourceError> {
        let (file, opened) = root.open_file_near(path, near).map_err(gone_or_unreadable)?;
        let same = opened.kind == Kind::File
            && opened.size == scanned.size
            && opened.modified == scanned.modified
            && opened.seen == scanned.seen;
        if !same {
            return Err(SourceError::Changed);
        }
        Ok(Source { file, opened, promised: scanned.sha256, hasher: Hasher::new(), signing: None, read: 0 })
    }

    /// Makes its signature as well, of blocks like this. Nothing may have been read yet.
    pub fn signing(self, grid: Grid) -> Source {
        Source { signing: Some(Making::new(grid)), ..self }
    }

    /// The file's length.
    pub fn size(&self) -> u64 {
        self.opened.size
    }

    /// Bytes that have not been read yet.
    pub fn left(&self) -> u64 {
        self.opened.size.saturating_sub(self.read)
    }

    /// Fills `buffer` as far as the file reaches, and returns how far.
    pub fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, SourceError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(SourceError::Unreadable(error)),
            }
        }
        self.hasher.update(&buffer[..filled]);
        if let Some(signing) = &mut self.signing {
            signing.new_bytes(&buffer[..filled]);
        }
        self.read = self.read.saturating_add(filled as u64);
        // A file that grows while it is read must not be followed for ever.
        if self.read > self.opened.size { Err(SourceError::Changed) } else { Ok(filled) }
    }

    /// Reads and hashes the first `length` bytes without giving them out.
    pub fn skip(&mut self, length: u64) -> Result<(), SourceError> {
        if length == 0 {
            return Ok(());
        }
        let mut buffer = vec![0; 128 * 1024];
        let mut left = length;
        while left > 0 {
            let part = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if self.fill(&mut buffer[..part])? < part {
                return Err(SourceError::Changed);
            }
            left -= part as u64;
        }
        Ok(())
    }

    /// The SHA-256 of the file, once all of it was read and nothing about it has changed meanwhile.
    pub fn finish(self) -> Result<Digest, SourceError> {
        self.finish_signed().map(|(digest, _)| digest)
    }

    /// The same, and the signature that was to be made.
    pub fn finish_signed(self) -> Result<(Digest, Option<Signature>), SourceError> {
        let now = super::root::stat_of(&self.file).map_err(SourceError::Unreadable)?;
        let same = now.size == self.opened.size
            && now.modified == self.opened.modified
            && now.seen == self.opened.seen;
        let digest = self.hasher.finish();
        if !same || self.read != now.size || self.promised.is_some_and(|promised| promised != digest) {
            return Err(SourceError::Changed);
        }
        Ok((digest, self.signing.and_then(Making::finish)))
    }
}

fn gone_or_unreadable(error: io::Error) -> SourceError {
    if is_gone(&error) { SourceError::Changed } else { SourceError::Unreadable(error) }
}

/// Whether a file could not be opened because it is gone: nothing stands there any more or something else does, also
/// where a folder on the way has become a file, a link or a mount point. What the root refuses itself is no file.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    match Errno::from_io_error(error) {
        Some(errno) => [Errno::NOENT, Errno::NOTDIR, Errno::ISDIR, Errno::LOOP, Errno::XDEV].contains(&errno),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::blocks::blocks;
    use crate::replica::blocks::tests::file_at;
    use crate::replica::testing::*;

    /// The other side may have its beginning from an earlier run.
    #[test]
    fn a_signature_is_of_all_of_a_file_wherever_what_is_sent_of_it_begins() {
        let content: String = (0..10_000).map(|number| format!("{number} ")).collect();
        let (field, grid) = (Field::new(&[("f", &content)]), Grid::of_size(0, 7));
        for offset in [0, 1, 5000, content.len()] {
            let source = Source::open(&field.root, &Near::default(), &path("f"), &file_at(&field, "f"));
            let mut source = source.unwrap().signing(grid);
            source.skip(offset as u64).unwrap();
            let mut rest = vec![0; content.len() - offset];
            rest.chunks_mut(3000).for_each(|part| assert_eq!(source.fill(part).unwrap(), part.len()));
            let (digest, signature) = source.finish_signed().unwrap();
            let (mut left, mut made) = (content.as_bytes(), Vec::new());
            blocks(
                &grid,
                |buffer| left.read(buffer),
                |block| {
                    made.push(block);
                    true
                },
            )
            .unwrap();
            assert_eq!(
                (digest, signature),
                (Digest::of(content.as_bytes()), Some(Signature { grid, blocks: made }))
            );
        }
    }
}
