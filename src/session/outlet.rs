//! The sender's answer to a list of blocks, framed: runs of what the receiver has joined, new bytes compressed.

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::packing::{Packer, put_plain};
use super::transfer;
use super::work::Work;
use crate::core::digest::Digest;
use crate::protocol::frame::{put_copy, put_end};
use crate::replica::delta::{Piece, delta};
use crate::replica::old_blocks::OldBlocks;
use crate::replica::source::SourceError;

/// New bytes that are gathered, and bytes that are copied, before the receiver is told of them: it copies and hashes them while
/// this side looks for more.
const NEW: usize = 512 * 1024;
const COPIED: u64 = 4 << 20;

/// Reads the new version and says it in frames.
pub(super) fn write_delta(
    work: &Work,
    item: u32,
    offset: u64,
    known: &OldBlocks,
    blocks: mpsc::Sender<(Bytes, u64)>,
) {
    let mut outlet = Outlet::new(blocks, work.packing.packer(), offset);
    let digest = work.source(item).and_then(|mut source| {
        let read = |buffer: &mut [u8]| {
            let room = buffer.len().min(usize::try_from(source.left()).unwrap_or(usize::MAX));
            source.fill(&mut buffer[..room])
        };
        let signature = delta(known, read, |piece| outlet.put(piece))?;
        let digest = source.finish()?;
        work.hashed(item, digest);
        work.signed(item, digest, signature, true);
        Ok(digest)
    });
    outlet.finish(digest);
}

/// Gathers pieces into frames.
struct Outlet {
    blocks: mpsc::Sender<(Bytes, u64)>,
    packer: Option<Packer>,
    /// Bytes that the receiver has already, from an earlier run.
    skip: u64,
    /// New bytes not yet framed, or a range not yet framed (offset, length): never both.
    new: Vec<u8>,
    copied: (u64, u64),
    bytes: BytesMut,
    /// Bytes of the file that the frames in `bytes` stand for.
    advance: u64,
}

impl Outlet {
    fn new(blocks: mpsc::Sender<(Bytes, u64)>, packer: Option<Packer>, skip: u64) -> Outlet {
        let (new, bytes) = (Vec::new(), BytesMut::new());
        Outlet { blocks, packer, skip, new, copied: (0, 0), bytes, advance: 0 }
    }

    fn put(&mut self, piece: Piece<'_>) -> Result<(), SourceError> {
        match piece {
            Piece::Literal(bytes) => {
                let skipped = self.skipped(bytes.len() as u64);
                self.end_copy();
                self.new.extend_from_slice(&bytes[skipped as usize..]);
            }
            Piece::Copy { offset, length } => {
                let skipped = self.skipped(length);
                let (offset, length) = (offset + skipped, length - skipped);
                self.end_new();
                if self.copied.0 + self.copied.1 != offset {
                    self.end_copy();
                    self.copied.0 = offset;
                }
                self.copied.1 += length;
            }
        }
        // However the file is cut up, little of it is held here.
        if self.bytes.len() + self.new.len() < NEW && self.advance + self.copied.1 < COPIED {
            return Ok(());
        }
        self.end_new();
        self.end_copy();
        self.flush()
    }

    /// How much of the next `length` bytes the receiver has.
    fn skipped(&mut self, length: u64) -> u64 {
        let skipped = self.skip.min(length);
        self.skip -= skipped;
        skipped
    }

    fn end_copy(&mut self) {
        let (offset, length) = self.copied;
        if length > 0 {
            put_copy(&mut self.bytes, offset, length);
            self.advance += length;
        }
        self.copied = (offset + length, 0);
    }

    fn end_new(&mut self) {
        match &mut self.packer {
            Some(packer) => packer.put(&self.new, &mut self.bytes),
            None => put_plain(&self.new, &mut self.bytes),
        }
        self.advance += self.new.len() as u64;
        self.new.clear();
    }

    fn flush(&mut self) -> Result<(), SourceError> {
        let advance = std::mem::take(&mut self.advance);
        let sent = self.blocks.blocking_send((self.bytes.split().freeze(), advance));
        // Nobody takes it any more: what is said here is said to nobody.
        sent.map_err(|_| SourceError::Changed)
    }

    fn finish(mut self, digest: Result<Digest, SourceError>) {
        match digest {
            Ok(digest) => {
                self.end_copy();
                self.end_new();
                put_end(&mut self.bytes, &digest);
            }
            Err(error) => self.bytes.extend_from_slice(&transfer::aborted_by(None, &error)),
        }
        let _ = self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::{Frame, FrameReader};
    use proptest::prelude::*;

    /// What a receiver makes of the blocks, before its end, from the version that it has.
    fn made(old: &[u8], blocks: &mut mpsc::Receiver<(Bytes, u64)>) -> (Vec<u8>, u64) {
        let (mut reader, mut made, mut advanced) = (FrameReader::default(), Vec::new(), 0);
        while let Ok((block, advance)) = blocks.try_recv() {
            advanced += advance;
            let mut bytes = &block[..];
            while let Some(frame) = reader.frame(&mut bytes).unwrap() {
                match frame {
                    Frame::Data(piece) => made.extend_from_slice(&piece),
                    Frame::Copy { offset, length } => {
                        made.extend_from_slice(&old[offset as usize..(offset + length) as usize])
                    }
                    other => assert_eq!(other, Frame::End(Digest([1; 32]))),
                }
            }
        }
        (made, advanced)
    }

    #[test]
    fn of_a_file_that_is_all_edits_little_waits_to_be_sent() {
        let (blocks, mut sent) = mpsc::channel(1000);
        let mut outlet = Outlet::new(blocks, None, 0);
        for at in 0..10_000 {
            outlet.put(Piece::Literal(&[7; 4096])).unwrap();
            outlet.put(Piece::Copy { offset: at * 8192, length: 4096 }).unwrap();
            assert!(outlet.bytes.len() + outlet.new.len() < NEW);
        }
        outlet.finish(Ok(Digest([1; 32])));
        let mut advanced = 0;
        while let Ok((block, advance)) = sent.try_recv() {
            assert!(block.len() < NEW + 64 * 1024);
            advanced += advance;
        }
        assert_eq!(advanced, 10_000 * 8192);
    }

    proptest! {
        #[test]
        fn pieces_arrive_in_order_behind_what_an_earlier_run_left(
            pieces in proptest::collection::vec((any::<bool>(), 0usize..900, 1usize..100), 0..30),
            skip in 0usize..2000,
            packed: bool,
        ) {
            let old: Vec<u8> = (0..1000u32).map(|at| (at / 3) as u8).collect();
            let packing = if packed { super::super::packing::Packing::Every } else { Default::default() };
            let (blocks, mut sent) = mpsc::channel(100);
            let mut outlet = Outlet::new(blocks, packing.packer(), skip as u64);
            let mut whole = Vec::new();
            for (copy, at, length) in pieces {
                let bytes = &old[at..at + length];
                whole.extend_from_slice(bytes);
                let copied = Piece::Copy { offset: at as u64, length: length as u64 };
                outlet.put(if copy { copied } else { Piece::Literal(bytes) }).unwrap();
            }
            outlet.finish(Ok(Digest([1; 32])));
            let rest = &whole[skip.min(whole.len())..];
            prop_assert_eq!(made(&old, &mut sent), (rest.to_vec(), rest.len() as u64));
        }
    }
}
