//! How a file is cut into chunks, and by what a chunk is found again on the other side.

/// The smallest average length that there is, as a power of two: 4 KiB.
pub const SMALLEST: u8 = 12;
/// The largest: 2 MiB.
pub const LARGEST: u8 = 21;
/// The most chunks that a side tells, or keeps, of one file.
pub const MAX_CHUNKS: usize = 1 << 20;

/// How a file is cut: chunk boundaries follow from content, so that they come again behind an insertion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cutting {
    log2: u8,
    key: [u8; 16],
}

impl Cutting {
    /// With chunks of 2^`log2` bytes on average, hashed under `key`; `None` outside [`SMALLEST`] to [`LARGEST`].
    ///
    /// The key is random for each transfer: nobody can prepare a file with two chunks of the same hash.
    pub fn new(log2: u8, key: [u8; 16]) -> Option<Cutting> {
        (SMALLEST..=LARGEST).contains(&log2).then_some(Cutting { log2, key })
    }

    /// For a file of `size` bytes. An edit costs a chunk or two, and telling a chunk nine bytes: what is least in sum
    /// grows with the square root.
    pub fn of_size(size: u64, key: [u8; 16]) -> Cutting {
        let balanced = size.saturating_mul(4).isqrt().max(1).ilog2();
        let log2 = u8::try_from(balanced).unwrap_or(LARGEST).clamp(SMALLEST, LARGEST);
        Cutting { log2, key }
    }

    /// The average length as a power of two.
    pub fn log2(&self) -> u8 {
        self.log2
    }

    /// What chunks are hashed under.
    pub fn key(&self) -> &[u8; 16] {
        &self.key
    }

    /// The average length of a chunk in bytes.
    pub fn average(&self) -> usize {
        1 << self.log2
    }

    /// No chunk is shorter, but the last.
    pub fn shortest(&self) -> usize {
        self.average() / 2
    }

    /// No chunk is longer.
    pub fn longest(&self) -> usize {
        self.average() * 4
    }
}

/// A piece of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// Bytes, at most 2^24 - 1.
    pub length: u32,
    /// The first 6 bytes of its keyed BLAKE3, as a big-endian number. Enough, with the length, to find it; that the
    /// file is right in the end is for its SHA-256 to show, and the next run has another key.
    pub hash: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_grow_with_the_file_so_that_their_number_stays_bounded() {
        let log2 = |size| Cutting::of_size(size, [0; 16]).log2();
        assert_eq!((log2(0), log2(1 << 20), log2(1 << 30), log2(u64::MAX)), (12, 12, 16, 21));
        assert!((1u64 << 40) >> log2(1 << 40) < MAX_CHUNKS as u64);
        assert_eq!(Cutting::new(SMALLEST - 1, [0; 16]), None);
        assert_eq!(Cutting::new(LARGEST + 1, [0; 16]), None);
        assert!(Cutting::new(LARGEST, [0; 16]).is_some_and(|cutting| cutting.longest() < 1 << 24));
    }
}
