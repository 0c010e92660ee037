//! What is known of the version of a file that the other side has: its blocks, and where to find one.

use std::collections::HashMap;
use std::iter::successors;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::core::block::{Block, Grid, MAX_BLOCKS};
use crate::core::signature::Signature;

/// So many blocks with the same weak checksum are kept: content that is made to have them all alike costs no more.
const ALIKE: usize = 8;

/// What the other side has told of its old version so far. One thread tells, another finds.
#[derive(Debug)]
pub struct OldBlocks {
    list: Mutex<List>,
    grown: Condvar,
}

/// The list as it is at a moment. Nothing is added to it meanwhile.
#[derive(Debug, Default)]
pub(super) struct List {
    grid: Option<Grid>,
    /// Where each begins, and what it is.
    blocks: Vec<(u64, Block)>,
    /// The number of the first block of full length with a weak checksum, and of the next one behind each.
    first: HashMap<u32, u32>,
    next: Vec<Option<u32>>,
    /// A bit for all weak checksums of one hash: nearly every place of a new file has one that is not there.
    seen: Vec<u64>,
    /// Bytes of the old version that they make up, and that there are.
    covered: u64,
    size: u64,
    ended: bool,
}

impl OldBlocks {
    /// Of an old version of `size` bytes nothing is known yet.
    pub fn new(size: u64) -> OldBlocks {
        OldBlocks { list: Mutex::new(List { size, ..List::default() }), grown: Condvar::new() }
    }

    /// Nothing is known, nor will be.
    pub fn unknown() -> OldBlocks {
        let known = OldBlocks::new(0);
        known.end();
        known
    }

    /// Of an old version of `size` bytes all of this is known.
    pub fn all_of(size: u64, signature: &Signature) -> OldBlocks {
        let known = OldBlocks::new(size);
        known.begin(signature.grid);
        known.add(&signature.blocks);
        known.end();
        known
    }

    /// Its blocks are like this.
    pub fn begin(&self, grid: Grid) {
        let mut list = self.lock();
        if list.grid.is_none() {
            // A block of the least length is told in nine bytes: what a peer can make this grow to is bounded by the
            // file that it claims to have, and by the most blocks that are kept.
            let blocks =
                usize::try_from(list.size / grid.length() as u64).unwrap_or(MAX_BLOCKS).min(MAX_BLOCKS);
            list.seen = vec![0; (blocks * BITS_A_BLOCK).next_power_of_two().max(64) / 64];
            list.grid = Some(grid);
        }
        self.grown.notify_all();
    }

    /// It goes on with blocks of these weak and strong hashes, of full length but for the last of the file. False if that
    /// is more than there is of it, or more than is kept.
    pub fn told(&self, hashes: &[(u32, u64)]) -> bool {
        let mut list = self.lock();
        let fitting = hashes.iter().all(|&(weak, strong)| {
            let full = list.grid.map_or(0, |grid| grid.length() as u64);
            let length = full.min(list.size - list.covered) as u32;
            list.add(Block { length, weak, strong })
        });
        self.grown.notify_all();
        fitting
    }

    /// It goes on with these blocks. False as with [`told`](OldBlocks::told).
    pub fn add(&self, blocks: &[Block]) -> bool {
        let mut list = self.lock();
        let fitting = blocks.iter().all(|&block| list.add(block));
        self.grown.notify_all();
        fitting
    }

    /// No more will be told.
    pub fn end(&self) {
        self.lock().ended = true;
        self.grown.notify_all();
    }

    /// How it is told, once that is known; `None` if it never will be.
    pub(super) fn grid(&self) -> Option<Grid> {
        self.until(|list| list.grid.is_some()).grid
    }

    /// The block of a number, and where it begins, once it is told.
    pub(super) fn at(&self, number: usize) -> Option<(u64, Block)> {
        self.until(|list| list.blocks.len() > number).at(number)
    }

    /// The list, once all blocks before `offset` are told.
    pub(super) fn covering(&self, offset: u64) -> MutexGuard<'_, List> {
        self.until(|list| list.covered >= offset.min(list.size))
    }

    fn until(&self, enough: impl Fn(&List) -> bool) -> MutexGuard<'_, List> {
        let mut list = self.lock();
        while !list.ended && !enough(&list) {
            list = self.grown.wait(list).unwrap_or_else(PoisonError::into_inner);
        }
        list
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many bits of [`List::seen`] there are for each block: one place in so many is looked up in vain.
const BITS_A_BLOCK: usize = 32;

impl List {
    /// The block of a number, and where it begins.
    pub(super) fn at(&self, number: usize) -> Option<(u64, Block)> {
        self.blocks.get(number).copied()
    }

    /// The numbers of the blocks that have this weak checksum.
    pub(super) fn like(&self, weak: u32) -> impl Iterator<Item = usize> {
        let (word, bit) = self.place(weak);
        let first = match self.seen.get(word) {
            Some(bits) if bits & bit != 0 => self.first.get(&weak),
            _ => None,
        };
        successors(first.copied(), |&number| self.next[number as usize]).map(|number| number as usize)
    }

    /// Adds the next block; false where it has no place.
    fn add(&mut self, block: Block) -> bool {
        let number = self.blocks.len();
        let covered = self.covered.saturating_add(block.length.into());
        let Some(grid) = self.grid else { return false };
        if number >= MAX_BLOCKS || covered > self.size || block.length == 0 {
            return false;
        }
        self.blocks.push((self.covered, block));
        self.next.push(None);
        self.covered = covered;
        if block.length as usize == grid.length() {
            self.enter(number, block);
        }
        true
    }

    fn enter(&mut self, number: usize, block: Block) {
        let alike: Vec<usize> = self.like(block.weak).collect();
        let (word, bit) = self.place(block.weak);
        self.seen[word] |= bit;
        match alike.last() {
            None => drop(self.first.insert(block.weak, number as u32)),
            Some(&last)
                if alike.len() < ALIKE && !alike.iter().any(|&other| self.blocks[other].1 == block) =>
            {
                self.next[last] = Some(number as u32);
            }
            Some(_) => {}
        }
    }

    /// The word and the bit of [`seen`](List::seen) for a weak checksum, mixed by a product (Knuth's multiplicative hashing).
    fn place(&self, weak: u32) -> (usize, u64) {
        let mixed = (weak.wrapping_mul(0x9e37_79b1) >> 6) as usize;
        (mixed % self.seen.len().max(1), 1 << (weak.wrapping_mul(0x85eb_ca6b) >> 26))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_beyond_the_old_version_is_not_believed() {
        let (known, block) = (OldBlocks::new(100), Block { length: 60, weak: 1, strong: 1 });
        assert!(!known.add(&[block]), "before it is said how it is told");
        known.begin(Grid::of_size(100, 0));
        assert!(known.add(&[block]));
        assert!(!known.add(&[block]));
        assert!(!known.add(&[Block { length: 0, ..block }]));
    }

    #[test]
    fn blocks_are_found_by_their_weak_checksums_and_only_some_of_those_that_are_alike() {
        let (known, grid) = (OldBlocks::new(1 << 20), Grid::of_size(1 << 20, 0));
        known.begin(grid);
        let block = |weak, strong| Block { length: grid.length() as u32, weak, strong };
        assert!((0..100).all(|strong| known.add(&[block(7, strong % 50)])));
        assert!(known.add(&[block(8, 1), block(7, 1), Block { length: 5, weak: 9, strong: 1 }]));
        let list = known.covering(0);
        assert_eq!(list.like(7).collect::<Vec<_>>(), (0..ALIKE).collect::<Vec<_>>());
        assert_eq!((list.like(8).collect::<Vec<_>>(), list.like(9).count()), (vec![100], 0));
        assert_eq!(list.at(100), Some((100 * grid.length() as u64, block(8, 1))));
    }
}
