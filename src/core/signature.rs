//! A version of a file, known by its blocks.

use super::block::{Block, Grid, MAX_BLOCKS};

/// The blocks that make up a version of a file, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signature {
    /// How long most of them are, and under what all are hashed.
    pub grid: Grid,
    /// The blocks. Those that an edit cut off are shorter than the others.
    pub blocks: Vec<Block>,
}

/// The signature of a new version, made while its delta is: what is as in the old version keeps its blocks, so that only
/// what is new is hashed.
#[derive(Debug)]
pub struct Making {
    signature: Signature,
    /// New bytes that fill no block yet.
    open: Vec<u8>,
    /// How many blocks are shorter than the others.
    short: usize,
}

impl Making {
    /// With the blocks of an old version like this.
    pub fn new(grid: Grid) -> Making {
        Making { signature: Signature { grid, blocks: Vec::new() }, open: Vec::new(), short: 0 }
    }

    /// It goes on with bytes that are new.
    pub fn new_bytes(&mut self, mut bytes: &[u8]) {
        let length = self.signature.grid.length();
        while self.open.len() + bytes.len() >= length {
            let (part, rest) = bytes.split_at(length - self.open.len());
            bytes = rest;
            if self.open.is_empty() {
                self.push(self.signature.grid.block(part));
            } else {
                self.open.extend_from_slice(part);
                self.close();
            }
        }
        self.open.extend_from_slice(bytes);
    }

    /// It goes on with a block of the old version.
    pub fn copied(&mut self, block: Block) {
        self.close();
        self.push(block);
    }

    /// All of it; `None` where so many edits have cut it up that it is better told anew, or it has too many blocks.
    pub fn finish(mut self) -> Option<Signature> {
        self.close();
        let count = self.signature.blocks.len();
        (count <= MAX_BLOCKS && self.short <= SHORT + count / 4).then_some(self.signature)
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            let block = self.signature.grid.block(&self.open);
            self.open.clear();
            self.push(block);
        }
    }

    fn push(&mut self, block: Block) {
        // Beyond the most that are kept they only need counting; finish() says so.
        if self.signature.blocks.len() <= MAX_BLOCKS {
            self.signature.blocks.push(block);
        }
        self.short += usize::from((block.length as usize) < self.signature.grid.length());
    }
}

/// So many short blocks are no harm in any file.
const SHORT: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_covers_what_it_was_made_of(
            parts in proptest::collection::vec((any::<bool>(), 1usize..10_000), 0..20),
        ) {
            let grid = Grid::of_size(0, 7);
            let content: Vec<u8> = (0..10_000u32).map(|at| (at / 7) as u8).collect();
            let (mut making, mut whole) = (Making::new(grid), Vec::new());
            for (copied, length) in parts {
                let part = &content[..length];
                whole.extend_from_slice(part);
                // New bytes come in pieces of any size.
                match copied {
                    true => making.copied(grid.block(part)),
                    false => part.chunks(1 + length / 3).for_each(|part| making.new_bytes(part)),
                }
            }
            let mut rest = &whole[..];
            for block in making.finish().into_iter().flat_map(|signature| signature.blocks) {
                let part;
                (part, rest) = rest.split_at(block.length as usize);
                prop_assert_eq!(grid.block(part), block);
            }
            prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn what_is_cut_up_all_over_is_not_kept() {
        let grid = Grid::of_size(0, 7);
        let mut making = Making::new(grid);
        (0..100).for_each(|_| making.copied(Block { length: 5, weak: 1, strong: 1 }));
        assert_eq!(making.finish(), None);
    }
}
