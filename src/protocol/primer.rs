//! A primer: content that the sender of many small files tells their receiver once, and with which each of them is compressed
//! as if it followed. Alone, every small file would begin with nothing to refer to.
//!
//! It is a dictionary in zstd's sense, so content without any form will do.

use std::cell::RefCell;

use bytes::BytesMut;
use zstd::dict::{DecoderDictionary, EncoderDictionary};
use zstd::zstd_safe::{CCtx, DCtx};

use super::frame::{FrameError, PRIMED};
use super::packed::{LEVEL, claimed, put};

/// The most content bytes in a primer.
pub const MAX_PRIMER: usize = 512 * 1024;

thread_local! {
    static PACKER: RefCell<Option<CCtx<'static>>> = const { RefCell::new(None) };
    static UNPACKER: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

/// A primer as its sender uses it.
pub struct Priming(EncoderDictionary<'static>);

/// A primer as its receiver uses it.
pub struct Primer(DecoderDictionary<'static>);

impl Priming {
    /// Of at most [`MAX_PRIMER`] bytes; also what the receiver is told. `None` where zstd makes nothing of it.
    pub fn new(content: &[u8]) -> Option<(Priming, Vec<u8>)> {
        if content.is_empty() || content.len() > MAX_PRIMER {
            return None;
        }
        let told = zstd::bulk::compress(content, LEVEL).ok()?;
        Some((Priming(EncoderDictionary::try_copy(content, LEVEL).ok()?), told))
    }
}

impl Primer {
    /// From what its sender told. More than [`MAX_PRIMER`] bytes are not unpacked.
    ///
    /// # Errors
    /// It is too large, or nothing that zstd knows.
    pub fn read(told: &[u8]) -> Result<Primer, FrameError> {
        let room = claimed(told, MAX_PRIMER)?;
        let content = zstd::bulk::decompress(told, room).map_err(|_| FrameError::Malformed)?;
        DecoderDictionary::try_copy(&content).map(Primer).map_err(|_| FrameError::Malformed)
    }

    /// The content of a primed frame.
    ///
    /// # Errors
    /// It is too large, or was not compressed with this primer.
    pub fn unpack(&self, packed: &[u8]) -> Result<Vec<u8>, FrameError> {
        let room = claimed(packed, super::packed::MAX_UNPACKED)?;
        let mut content = Vec::with_capacity(room);
        let unpacked = UNPACKER.with_borrow_mut(|unpacker| {
            if unpacker.is_none() {
                *unpacker = DCtx::try_create();
            }
            unpacker.as_mut()?.decompress_using_ddict(&mut content, packed, self.0.as_ddict()).ok()
        });
        if unpacked == Some(room) { Ok(content) } else { Err(FrameError::Malformed) }
    }
}

/// As [`put_packed`](super::packed::put_packed), with a primer.
pub fn put_primed(bytes: &mut BytesMut, content: &[u8], primer: &Priming) -> bool {
    put(bytes, PRIMED, content, |room| {
        PACKER.with_borrow_mut(|packer| {
            if packer.is_none() {
                *packer = CCtx::try_create();
            }
            // A block that does not fit the room is the compressor's one error.
            packer.as_mut()?.compress_using_cdict(room, content, primer.0.as_cdict()).ok()
        })
    })
}

impl std::fmt::Debug for Priming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Priming")
    }
}

impl std::fmt::Debug for Primer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Primer")
    }
}

#[cfg(test)]
mod tests {
    use super::super::packed::{MAX_UNPACKED, put_packed};
    use super::*;
    use crate::core::digest::Digest;
    use crate::protocol::frame::{Frame, FrameReader};
    use proptest::prelude::*;

    /// Words that say nothing, but the same ones for the same seed.
    fn words(seed: u64, count: u64) -> Vec<u8> {
        let word = |at: u64| Digest::of(&(seed ^ (at * at % 97)).to_le_bytes()).to_string()[..9].to_owned();
        (0..count).map(word).collect::<Vec<_>>().join(" ").into_bytes()
    }

    fn packed_in(stream: &[u8]) -> Vec<u8> {
        match FrameReader::default().frame(&mut &stream[..]) {
            Ok(Some(Frame::Primed(packed))) => packed,
            other => panic!("no primed frame: {other:?}"),
        }
    }

    #[test]
    fn a_small_file_is_smaller_behind_what_is_like_it() {
        let (priming, told) = Priming::new(&words(1, 500)).unwrap();
        let content = words(1, 60);
        let (mut alone, mut primed) = (BytesMut::new(), BytesMut::new());
        assert!(put_packed(&mut alone, &content) && put_primed(&mut primed, &content, &priming));
        assert!(primed.len() * 4 < alone.len(), "{} of {}", primed.len(), alone.len());
        assert_eq!(Primer::read(&told).unwrap().unpack(&packed_in(&primed)), Ok(content));
    }

    #[test]
    fn a_primer_that_is_too_large_or_none_at_all_is_refused_before_it_is_unpacked() {
        assert!(Priming::new(&vec![0; MAX_PRIMER + 1]).is_none() && Priming::new(b"").is_none());
        let most = zstd::bulk::compress(&vec![7; MAX_PRIMER], 1).unwrap();
        assert!(Primer::read(&most).is_ok());
        // zstd takes what begins like a dictionary of its own for one.
        let feigned = zstd::bulk::compress(b"\x37\xa4\x30\xec and then nothing of the kind", 1).unwrap();
        let bomb = zstd::bulk::compress(&vec![7; MAX_PRIMER + 1], 1).unwrap();
        for told in
            [&b""[..], b"garbage", &bomb, &most[..most.len() - 1], &feigned, &[&most[..], &most].concat()]
        {
            assert_eq!(Primer::read(told).map(|_| ()), Err(FrameError::Malformed));
        }
    }

    #[test]
    fn what_was_compressed_with_another_primer_or_unpacks_to_too_much_is_refused() {
        let (priming, _) = Priming::new(&words(1, 500)).unwrap();
        let (_, told) = Priming::new(&words(2, 50)).unwrap();
        let primer = Primer::read(&told).unwrap();
        let mut primed = BytesMut::new();
        assert!(put_primed(&mut primed, &words(1, 60), &priming));
        // zstd cannot know, but refers to more than there is; where it does not, the SHA-256 of the file tells.
        assert_eq!(primer.unpack(&packed_in(&primed)), Err(FrameError::Malformed));
        let bomb = zstd::bulk::compress(&vec![0; MAX_UNPACKED + 1], 19).unwrap();
        let one = zstd::bulk::compress(&[7; 1000], 3).unwrap();
        for packed in [&b""[..], b"garbage", &bomb, &[&one[..], &one].concat()] {
            assert_eq!(primer.unpack(packed), Err(FrameError::Malformed));
        }
    }

    proptest! {
        #[test]
        fn primed_content_comes_out_as_it_was(seed in 0u64..3, count in 20u64..9000, primed in 20u64..9000) {
            let (priming, told) = Priming::new(&words(1, primed)).unwrap();
            let content = words(seed, count);
            let mut stream = BytesMut::new();
            if put_primed(&mut stream, &content, &priming) {
                prop_assert_eq!(Primer::read(&told).unwrap().unpack(&packed_in(&stream)), Ok(content));
            }
        }

        #[test]
        fn reading_and_unpacking_are_total(told in proptest::collection::vec(any::<u8>(), 0..200), packed in proptest::collection::vec(any::<u8>(), 0..200)) {
            let magic = [0x28, 0xb5, 0x2f, 0xfd];
            let _ = Primer::read(&told);
            let _ = Primer::read(&[&magic[..], &told].concat());
            let (_, told) = Priming::new(&words(1, 50)).unwrap();
            let _ = Primer::read(&told).unwrap().unpack(&[&magic[..], &packed].concat());
        }
    }
}
