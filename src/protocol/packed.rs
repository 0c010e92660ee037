//! File content, compressed block by block: each block is a frame of its own, which knows nothing of the others.
//!
//! So whoever receives it unpacks no more than [`MAX_UNPACKED`] bytes of a channel at once, whatever the sender claims.

use std::cell::RefCell;

use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use zstd::bulk::{Compressor, Decompressor};

use super::frame::{FrameError, HEAD, MAX_FRAME, PACKED, head};

/// The most content bytes in one compressed frame.
pub const MAX_UNPACKED: usize = 128 * 1024;

/// zstd's level: above what a slow link takes, and little is left to gain for small blocks.
pub(super) const LEVEL: i32 = 3;
/// Of 100 bytes a compressed block may have at most these; else it travels as it is.
const WORTHWHILE: usize = 85;

/// Whether file content is compressed, as the user asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Compress {
    /// Where the link is slow, and what a sample shows to shrink.
    #[default]
    Auto,
    /// Wherever it shrinks.
    Always,
    /// Never.
    Never,
}

thread_local! {
    // A context is some hundred KiB, and many files are small: one a thread, made at first use.
    static PACKER: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static UNPACKER: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Appends `content`, at most [`MAX_UNPACKED`] bytes, as one compressed frame. False, with nothing appended, where that
/// saves too little, or would not fit a frame.
pub fn put_packed(bytes: &mut BytesMut, content: &[u8]) -> bool {
    put(bytes, PACKED, content, |room| {
        PACKER.with_borrow_mut(|packer| {
            if packer.is_none() {
                *packer = Compressor::new(LEVEL).ok();
            }
            // A block that does not fit the room is the compressor's one error.
            packer.as_mut()?.compress_to_buffer(content, room).ok()
        })
    })
}

/// Appends a frame of this kind with what `compress` makes of `content` in the room that it is given.
pub(super) fn put(
    bytes: &mut BytesMut,
    kind: u8,
    content: &[u8],
    compress: impl FnOnce(&mut [u8]) -> Option<usize>,
) -> bool {
    let start = bytes.len();
    let room = (content.len().min(MAX_UNPACKED) * WORTHWHILE / 100).min(MAX_FRAME);
    if content.len() > MAX_UNPACKED || room == 0 {
        return false;
    }
    bytes.resize(start + HEAD + room, 0);
    match compress(&mut bytes[start + HEAD..]) {
        Some(length) if length > 0 => {
            bytes.truncate(start + HEAD + length);
            bytes[start..start + HEAD].copy_from_slice(&head(kind, length));
            true
        }
        _ => {
            bytes.truncate(start);
            false
        }
    }
}

/// The content of a compressed frame. More than [`MAX_UNPACKED`] bytes of it are not made, but refused.
pub(super) fn unpack(packed: &[u8]) -> Result<Vec<u8>, FrameError> {
    let room = claimed(packed, MAX_UNPACKED)?;
    let content = UNPACKER.with_borrow_mut(|unpacker| {
        if unpacker.is_none() {
            *unpacker = Decompressor::new().ok();
        }
        unpacker.as_mut()?.decompress(packed, room).ok()
    });
    content.filter(|content| content.len() == room).ok_or(FrameError::Malformed)
}

/// How much a zstd frame says it unpacks to. That is only a claim: it is held to `most` before anything is reserved.
pub(super) fn claimed(packed: &[u8], most: usize) -> Result<usize, FrameError> {
    let claimed = zstd::zstd_safe::get_frame_content_size(packed).ok().flatten();
    let room = claimed.and_then(|claimed| usize::try_from(claimed).ok()).ok_or(FrameError::Malformed)?;
    if (1..=most).contains(&room) { Ok(room) } else { Err(FrameError::Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::digest::Digest;
    use crate::protocol::frame::{Frame, FrameReader};
    use proptest::prelude::*;

    fn framed(kind: u8, content: &[u8]) -> Vec<u8> {
        [&head(kind, content.len())[..], content].concat()
    }

    fn first(stream: &[u8]) -> Result<Option<Frame<'_>>, FrameError> {
        FrameReader::default().frame(&mut &stream[..])
    }

    #[test]
    fn what_does_not_shrink_is_not_packed() {
        let mut bytes = BytesMut::from(&b"before"[..]);
        let noise: Vec<u8> = (0..4000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let noise: Vec<u8> = noise.chunks(32).flat_map(|part| Digest::of(part).0).collect();
        assert!(!put_packed(&mut bytes, &noise));
        assert!(!put_packed(&mut bytes, b""));
        assert!(!put_packed(&mut bytes, &vec![0; MAX_UNPACKED + 1]));
        assert_eq!(&bytes[..], b"before");
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_unpacked() {
        for size in [MAX_UNPACKED + 1, 1 << 28] {
            let bomb = zstd::bulk::compress(&vec![0; size], 19).unwrap();
            assert_eq!(first(&framed(PACKED, &bomb)), Err(FrameError::Malformed));
        }
        // Two blocks in one frame, the second not counted in what the first claims.
        let one = zstd::bulk::compress(&[7; 1000], 3).unwrap();
        assert_eq!(first(&framed(PACKED, &[&one[..], &one].concat())), Err(FrameError::Malformed));
        assert!(
            matches!(first(&framed(PACKED, &one)), Ok(Some(Frame::Data(content))) if content[..] == [7; 1000])
        );
    }

    proptest! {
        #[test]
        fn packed_content_comes_out_as_it_was(word in "[a-z]{1,9}", times in 50usize..20_000, size in 1usize..5000) {
            let content = word.repeat(times).into_bytes();
            let content = &content[..content.len().min(MAX_UNPACKED)];
            let mut stream = BytesMut::new();
            prop_assert!(put_packed(&mut stream, content));
            let (mut reader, mut got) = (FrameReader::default(), Vec::new());
            for piece in stream.chunks(size) {
                let mut bytes = piece;
                while let Some(frame) = reader.frame(&mut bytes).unwrap() {
                    let Frame::Data(piece) = frame else { panic!("no data") };
                    got.extend_from_slice(&piece);
                }
            }
            prop_assert_eq!(&got[..], content);
        }

        #[test]
        fn unpacking_is_total(packed in proptest::collection::vec(any::<u8>(), 1..200)) {
            let _ = first(&framed(PACKED, &packed));
            let _ = first(&framed(PACKED, &[&[0x28, 0xb5, 0x2f, 0xfd][..], &packed].concat()));
        }
    }
}
