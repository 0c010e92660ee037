//! How a file is told in blocks, and by what a block is found again on the other side: Tridgell's rsync algorithm
//! (<https://rsync.samba.org/tech_report/>), with one difference that `replica::delta` explains.

use twox_hash::XxHash3_64;

/// The smallest length that there is, as a power of two: 4 KiB.
pub const SMALLEST: u8 = 12;
/// The largest: 2 MiB.
pub const LARGEST: u8 = 21;
/// The most blocks that a side tells, or keeps, of one file.
pub const MAX_BLOCKS: usize = 1 << 20;

/// How long the blocks of a file are, and under what they are hashed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grid {
    log2: u8,
    seed: u64,
}

impl Grid {
    /// Blocks of 2^`log2` bytes, hashed under `seed`; `None` outside [`SMALLEST`] to [`LARGEST`].
    ///
    /// The seed is random for each list that is told, so that nobody can prepare a file with two blocks of the same hash.
    /// Whoever was told of one that is remembered could; all that comes of it is that the content travels whole.
    pub fn new(log2: u8, seed: u64) -> Option<Grid> {
        (SMALLEST..=LARGEST).contains(&log2).then_some(Grid { log2, seed })
    }

    /// For a file of `size` bytes. An edit costs a block or two, and telling a block nine bytes: what is least in sum
    /// grows with the square root.
    pub fn of_size(size: u64, seed: u64) -> Grid {
        let balanced = size.saturating_mul(4).isqrt().max(1).ilog2();
        let log2 = u8::try_from(balanced).unwrap_or(LARGEST).clamp(SMALLEST, LARGEST);
        Grid { log2, seed }
    }

    /// The length of a block as a power of two.
    pub fn log2(&self) -> u8 {
        self.log2
    }

    /// What blocks are hashed under.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The length of every block in bytes, but of one that ends where the file or an edit does.
    pub fn length(&self) -> usize {
        1 << self.log2
    }

    /// What a block is told by.
    pub fn block(&self, content: &[u8]) -> Block {
        let (length, weak) = (content.len() as u32, simd_adler32::adler32(&content));
        Block { length, weak, strong: self.strong(content) }
    }

    /// The [strong hash](Block::strong) of a block.
    pub fn strong(&self, content: &[u8]) -> u64 {
        XxHash3_64::oneshot_with_seed(self.seed, content) >> (64 - STRONG_BITS)
    }
}

/// Bits of a block's strong hash.
pub const STRONG_BITS: u32 = 40;

/// A piece of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// Bytes.
    pub length: u32,
    /// Adler-32 (RFC 1950), which [`Roll`](super::roll::Roll) has of every place in a file at once.
    pub weak: u32,
    /// The first 40 bits of XXH3 under the list's seed. Enough, with the weak one, to find the block; that the file is
    /// right in the end is for its SHA-256 to show.
    pub strong: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_grow_with_the_file_so_that_their_number_stays_bounded() {
        let log2 = |size| Grid::of_size(size, 0).log2();
        assert_eq!((log2(0), log2(1 << 20), log2(1 << 30), log2(u64::MAX)), (12, 12, 16, 21));
        assert!((1u64 << 40) >> log2(1 << 40) < MAX_BLOCKS as u64);
        assert_eq!(Grid::new(SMALLEST - 1, 0), None);
        assert_eq!(Grid::new(LARGEST + 1, 0), None);
    }

    #[test]
    fn a_strong_hash_depends_on_every_byte_and_on_the_seed() {
        let (grid, other) = (Grid::of_size(0, 1), Grid::of_size(0, 2));
        let content = [7; 4096];
        assert_ne!(grid.strong(&content), other.strong(&content));
        assert!(grid.strong(&content) < 1 << STRONG_BITS);
        for at in [0, 63, 64, 2048, 4095] {
            let mut changed = content;
            changed[at] ^= 1;
            assert_ne!(grid.strong(&content), grid.strong(&changed));
        }
    }
}
