//! The bytes of one file on its own channel.
//!
//! A channel begins with an [`Opening`] from System 2. Then the side that has the content sends frames: one byte
//! of kind, three bytes of length (big-endian), that many bytes. Only [`Frame::End`] means that the file is
//! complete; a channel that closes without it has failed.

use std::borrow::Cow;

use bytes::{Buf, BytesMut};
use thiserror::Error;

use super::packed::unpack;
use crate::core::block::{Block, Grid, STRONG_BITS};
use crate::core::digest::Digest;

/// The most bytes in one frame: what fits, with its head, in one packet of the carrier.
pub const MAX_FRAME: usize = 61_440 - HEAD;
/// Bytes before a frame's content.
pub const HEAD: usize = 4;
/// Bytes of an encoded [`Opening`].
pub const OPENING: usize = 13;

/// Bytes of a [`Block`] as it is told.
const TOLD: usize = 4 + STRONG_BITS as usize / 8;
/// The most blocks in one frame.
pub const BLOCKS: usize = MAX_FRAME / TOLD;

/// How a file's content goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// All of it.
    Whole,
    /// As a delta to the version that the receiver has, and tells.
    Told,
    /// The same, but the sender remembers that version, and the receiver need not tell it.
    Remembered,
}

/// The first bytes on a file's channel, from System 2: 1 byte (1 push, 2 pull; 3 and 4 the same as a delta that is told,
/// 5 and 6 as one that is remembered), item (4, big-endian), offset (8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opening {
    /// Whether System 2 sends the content (else it asks System 1 to).
    pub push: bool,
    /// How it goes.
    pub how: How,
    /// Index into the plan.
    pub item: u32,
    /// Content before this offset is already at the receiver.
    pub offset: u64,
}

/// One frame, its content not copied from the packet it came in unless it was compressed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame<'a> {
    /// Kind 0: content bytes, in order. May come in several pieces, each as it arrives. Kind 3 is the same,
    /// compressed: see [`packed`](super::packed).
    Data(Cow<'a, [u8]>),
    /// Kind 1: all content was sent; the SHA-256 of the whole file, what was at the receiver before included.
    End(Digest),
    /// Kind 2: the sender cannot send it; 1 if it changed since the scan, 0 for other causes, then one line.
    Abort {
        /// It changed or vanished since the scan.
        changed: bool,
        /// One line for the report, not yet escaped.
        text: Vec<u8>,
    },
    /// Kind 4, from the receiver: in which blocks it tells the version that it has.
    Grid(Grid),
    /// Kind 5, from the receiver: weak and strong hash of blocks of that version, in order; none at the end of the list.
    Blocks(Vec<(u32, u64)>),
    /// Kind 6: content as in the version that the receiver has.
    Copy {
        /// Where it is there.
        offset: u64,
        /// Bytes, at least one.
        length: u64,
    },
    /// Kind 7, from the receiver of a delta: what came of it has not the SHA-256 of its end; send all of the content.
    Again,
    /// Kind 8: content bytes, compressed with the sender's [`primer`](super::primer), not yet unpacked.
    Primed(Vec<u8>),
}

/// Bytes that are no frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum FrameError {
    /// An unknown kind, or a length that its kind cannot have.
    #[error("the other end sent a malformed frame")]
    Malformed,
}

impl Opening {
    /// As bytes.
    pub fn encode(self) -> [u8; OPENING] {
        let mut bytes = [0; OPENING];
        bytes[0] = if self.push { 1 } else { 2 }
            + match self.how {
                How::Whole => 0,
                How::Told => 2,
                How::Remembered => 4,
            };
        bytes[1..5].copy_from_slice(&self.item.to_be_bytes());
        bytes[5..].copy_from_slice(&self.offset.to_be_bytes());
        bytes
    }

    /// From bytes.
    pub fn decode(mut bytes: &[u8]) -> Result<Opening, FrameError> {
        if bytes.len() != OPENING {
            return Err(FrameError::Malformed);
        }
        let (push, how) = match bytes.get_u8() {
            1 => (true, How::Whole),
            2 => (false, How::Whole),
            3 => (true, How::Told),
            4 => (false, How::Told),
            5 => (true, How::Remembered),
            6 => (false, How::Remembered),
            _ => return Err(FrameError::Malformed),
        };
        Ok(Opening { push, how, item: bytes.get_u32(), offset: bytes.get_u64() })
    }
}

/// Writes the head of a data frame of `length` bytes into `head`.
pub fn data_head(length: usize) -> [u8; HEAD] {
    head(0, length)
}

/// Appends an end frame.
pub fn put_end(bytes: &mut BytesMut, digest: &Digest) {
    bytes.extend_from_slice(&head(1, digest.0.len()));
    bytes.extend_from_slice(&digest.0);
}

/// Appends an abort frame; the text is cut at 1000 bytes.
pub fn put_abort(bytes: &mut BytesMut, changed: bool, text: &str) {
    let text = &text.as_bytes()[..text.len().min(MAX_TEXT)];
    bytes.extend_from_slice(&head(2, 1 + text.len()));
    bytes.extend_from_slice(&[u8::from(changed)]);
    bytes.extend_from_slice(text);
}

/// Appends in which blocks the receiver tells its version.
pub fn put_grid(bytes: &mut BytesMut, grid: &Grid) {
    bytes.extend_from_slice(&head(4, GRID));
    bytes.extend_from_slice(&[grid.log2()]);
    bytes.extend_from_slice(&grid.seed().to_be_bytes());
}

/// Appends one frame of at most [`BLOCKS`] blocks; more are not told.
pub fn put_blocks(bytes: &mut BytesMut, blocks: &[Block]) {
    let blocks = &blocks[..blocks.len().min(BLOCKS)];
    bytes.extend_from_slice(&head(5, TOLD * blocks.len()));
    for block in blocks {
        bytes.extend_from_slice(&block.weak.to_be_bytes());
        bytes.extend_from_slice(&block.strong.to_be_bytes()[8 - (TOLD - 4)..]);
    }
}

/// Appends a copy frame.
pub fn put_copy(bytes: &mut BytesMut, offset: u64, length: u64) {
    bytes.extend_from_slice(&head(6, 16));
    bytes.extend_from_slice(&offset.to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
}

/// Appends an again frame.
pub fn put_again(bytes: &mut BytesMut) {
    bytes.extend_from_slice(&head(7, 0));
}

/// Bytes of an encoded [`Grid`].
const GRID: usize = 9;
const MAX_TEXT: usize = 1000;
/// The kind of a compressed frame.
pub(super) const PACKED: u8 = 3;
/// The kind of a frame that was compressed with a primer.
pub(super) const PRIMED: u8 = 8;

pub(super) fn head(kind: u8, length: usize) -> [u8; HEAD] {
    let [_, a, b, c] = (length as u32).to_be_bytes();
    [kind, a, b, c]
}

/// Takes a channel's bytes as they arrive, however they are split, and gives its opening and frames.
#[derive(Debug, Default)]
pub struct FrameReader {
    /// What has arrived and was not given out; at most one frame that is no plain data is ever gathered here.
    held: BytesMut,
    /// Bytes of the current data frame that are still to come.
    data: usize,
}

impl FrameReader {
    /// Takes the opening off the front of `bytes` once all of it has arrived.
    pub fn opening(&mut self, bytes: &mut &[u8]) -> Result<Option<Opening>, FrameError> {
        if !self.gather(bytes, OPENING) {
            return Ok(None);
        }
        let opening = Opening::decode(&self.held)?;
        self.held.clear();
        Ok(Some(opening))
    }

    /// Takes the next frame, or piece of a data frame, off the front of `bytes`; `None` once more must arrive.
    pub fn frame<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Frame<'a>>, FrameError> {
        loop {
            if self.data > 0 {
                let piece;
                (piece, *bytes) = bytes.split_at(self.data.min(bytes.len()));
                self.data -= piece.len();
                return Ok((!piece.is_empty()).then_some(Frame::Data(piece.into())));
            }
            if !self.gather(bytes, HEAD) {
                return Ok(None);
            }
            let (kind, length) =
                (self.held[0], u32::from_be_bytes([0, self.held[1], self.held[2], self.held[3]]));
            let length = length as usize;
            match kind {
                0 if (1..=MAX_FRAME).contains(&length) => {
                    self.data = length;
                    self.held.clear();
                }
                PACKED if (1..=MAX_FRAME).contains(&length) => return self.small(bytes, length, packed),
                PRIMED if (1..=MAX_FRAME).contains(&length) => return self.small(bytes, length, primed),
                4 if length == GRID => return self.small(bytes, length, grid),
                5 if length <= MAX_FRAME && length.is_multiple_of(TOLD) => {
                    return self.small(bytes, length, blocks);
                }
                6 if length == 16 => return self.small(bytes, length, copy),
                7 if length == 0 => return self.small(bytes, length, |_| Some(Frame::Again)),
                1 if length == 32 => return self.small(bytes, length, end),
                2 if (1..=1 + MAX_TEXT).contains(&length) => return self.small(bytes, length, abort),
                _ => return Err(FrameError::Malformed),
            }
        }
    }

    /// A frame that is gathered whole before it is given out.
    fn small<'a>(
        &mut self,
        bytes: &mut &'a [u8],
        length: usize,
        make: fn(&[u8]) -> Option<Frame<'a>>,
    ) -> Result<Option<Frame<'a>>, FrameError> {
        if !self.gather(bytes, HEAD + length) {
            return Ok(None);
        }
        let frame = make(&self.held[HEAD..]).ok_or(FrameError::Malformed)?;
        self.held.clear();
        Ok(Some(frame))
    }

    /// Moves bytes over until `length` are held.
    fn gather(&mut self, bytes: &mut &[u8], length: usize) -> bool {
        let missing = length.saturating_sub(self.held.len()).min(bytes.len());
        let (moved, rest) = bytes.split_at(missing);
        self.held.extend_from_slice(moved);
        *bytes = rest;
        self.held.len() >= length
    }
}

fn end<'a>(content: &[u8]) -> Option<Frame<'a>> {
    Some(Frame::End(Digest(content.try_into().ok()?)))
}

fn grid<'a>(mut content: &[u8]) -> Option<Frame<'a>> {
    Grid::new(content.try_get_u8().ok()?, content.try_get_u64().ok()?).map(Frame::Grid)
}

fn blocks<'a>(mut content: &[u8]) -> Option<Frame<'a>> {
    let mut blocks = Vec::with_capacity(content.len() / TOLD);
    while content.remaining() >= TOLD {
        blocks.push((content.get_u32(), content.get_uint(TOLD - 4)));
    }
    Some(Frame::Blocks(blocks))
}

fn copy<'a>(mut content: &[u8]) -> Option<Frame<'a>> {
    let (offset, length) = (content.try_get_u64().ok()?, content.try_get_u64().ok()?);
    (length > 0).then_some(Frame::Copy { offset, length })
}

fn packed<'a>(content: &[u8]) -> Option<Frame<'a>> {
    unpack(content).ok().map(|content| Frame::Data(content.into()))
}

fn primed<'a>(content: &[u8]) -> Option<Frame<'a>> {
    Some(Frame::Primed(content.to_vec()))
}

fn abort<'a>(content: &[u8]) -> Option<Frame<'a>> {
    let (&changed, text) = content.split_first()?;
    Some(Frame::Abort { changed: changed == 1, text: text.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All frames of a stream that arrives in pieces of `size` bytes, data joined.
    fn read(stream: &[u8], size: usize) -> Result<(Vec<u8>, Vec<Frame<'_>>), FrameError> {
        let (mut reader, mut data, mut others) = (FrameReader::default(), Vec::new(), Vec::new());
        for piece in stream.chunks(size) {
            let mut bytes = piece;
            while let Some(frame) = reader.frame(&mut bytes)? {
                match frame {
                    Frame::Data(piece) => data.extend_from_slice(&piece),
                    other => others.push(other),
                }
            }
        }
        Ok((data, others))
    }

    proptest! {
        #[test]
        fn frames_do_not_depend_on_how_the_stream_is_split(content in proptest::collection::vec(any::<u8>(), 1..300), size in 1usize..80) {
            let mut stream = BytesMut::new();
            for part in content.chunks(41) {
                stream.extend_from_slice(&data_head(part.len()));
                stream.extend_from_slice(part);
            }
            put_end(&mut stream, &Digest::of(&content));
            put_abort(&mut stream, true, "gone");
            let abort = Frame::Abort { changed: true, text: b"gone".to_vec() };
            prop_assert_eq!(read(&stream, size), Ok((content.clone(), vec![Frame::End(Digest::of(&content)), abort])));
        }

        #[test]
        fn reading_is_total(stream in proptest::collection::vec(any::<u8>(), 0..200), size in 1usize..80) {
            let _ = read(&stream, size);
            let _ = FrameReader::default().opening(&mut &stream[..]);
        }
    }
}
