//! What of a file the other side has already: the new version is said in ranges of the old one and bytes.
//!
//! Tridgell's algorithm: the old version is known in blocks of equal length, and a rolling checksum finds them at any place
//! of the new one. But it rolls only where it must: behind a block that was found, the one expected next is compared first,
//! with the strong hash alone; and behind one that was overwritten in its place, the one after that.
//!
//! The other side tells its blocks while it reads them, and finding goes on beside that.

use std::ops::Range;

use super::blocks::Window;
use super::old_blocks::{List, OldBlocks};
use crate::core::block::{Block, Grid};
use crate::core::roll::Roll;
use crate::core::signature::{Making, Signature};

/// How far around the place where something was last found the other side's blocks must be known before something
/// counts as new: 16 MiB.
const REACH: u64 = 16 << 20;
/// After so many new bytes in a row nothing more is taken for new before all of the other side's blocks are known, and
/// only one place in [`STRIDE`] is looked at: what is all new costs little, and what begins again is found soon after.
const PATIENCE: u64 = 8 << 20;
const STRIDE: usize = 8;
/// How often a weak checksum may deceive at the places of one block's length, before the rest of them counts as new.
const DECEIVED: usize = 16;

/// A piece of the new version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Piece<'a> {
    /// As in the old version.
    Copy {
        /// Where it is there.
        offset: u64,
        /// Bytes.
        length: u64,
    },
    /// New.
    Literal(&'a [u8]),
}

/// Says the new version, which `read` gives, in pieces, in order; ends early with an error of either.
///
/// Returns the new version's signature, where it is worth keeping.
pub fn delta<E>(
    known: &OldBlocks,
    mut read: impl FnMut(&mut [u8]) -> Result<usize, E>,
    mut emit: impl FnMut(Piece<'_>) -> Result<(), E>,
) -> Result<Option<Signature>, E> {
    let Some(grid) = known.grid() else { return all_new(read, emit).map(|()| None) };
    let mut making = Making::new(grid);
    let mut window = Window::new(2 * grid.length());
    let mut search = Search { known, grid, expected: Some(0), reached: 0, missed: 0 };
    loop {
        let content = window.fill(2 * grid.length(), &mut read)?;
        if content.is_empty() {
            return Ok(making.finish());
        }
        let Step { new, found } = search.step(content);
        if new > 0 {
            let bytes = window.take(new);
            making.new_bytes(bytes);
            emit(Piece::Literal(bytes))?;
        }
        if let Some((offset, block)) = found {
            window.take(block.length as usize);
            making.copied(block);
            emit(Piece::Copy { offset, length: block.length.into() })?;
        }
    }
}

/// The other side knows no old version.
fn all_new<E>(
    mut read: impl FnMut(&mut [u8]) -> Result<usize, E>,
    mut emit: impl FnMut(Piece<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match read(&mut buffer)? {
            0 => return Ok(()),
            count => emit(Piece::Literal(&buffer[..count]))?,
        }
    }
}

/// What is next in the new version: bytes that are new, and then perhaps a block of the old one.
struct Step {
    new: usize,
    found: Option<(u64, Block)>,
}

struct Search<'a> {
    known: &'a OldBlocks,
    grid: Grid,
    /// The block behind the one that was found last.
    expected: Option<usize>,
    /// Where in the old version the last one that was found ends.
    reached: u64,
    /// New bytes since.
    missed: u64,
}

impl Search<'_> {
    /// The first step through `content`, which is at least two blocks long or all that is left.
    fn step(&mut self, content: &[u8]) -> Step {
        self.as_expected(content)
            .or_else(|| self.overwritten(content))
            .unwrap_or_else(|| self.anywhere(content))
    }

    /// The block that is expected is there.
    fn as_expected(&mut self, content: &[u8]) -> Option<Step> {
        let number = self.expected?;
        let found = self.known.at(number).filter(|(_, block)| self.begins(content, block))?;
        Some(self.found(number, found, 0))
    }

    /// Something as long as the block that is expected, and then the one behind that.
    fn overwritten(&mut self, content: &[u8]) -> Option<Step> {
        let number = self.expected?;
        let length = self.known.at(number)?.1.length as usize;
        let found = self.known.at(number + 1);
        let found =
            found.filter(|(_, block)| self.begins(content.get(length..).unwrap_or_default(), block))?;
        Some(self.found(number + 1, found, length))
    }

    /// Any block, at the first place where there is one.
    fn anywhere(&mut self, content: &[u8]) -> Step {
        self.expected = None;
        let length = self.grid.length();
        let Some(last) = content.len().checked_sub(length) else { return self.all_new(content.len()) };
        let hopeless = self.missed > PATIENCE;
        let reach = self.reached.saturating_add(self.missed).saturating_add(REACH);
        let list = self.known.covering(if hopeless { u64::MAX } else { reach });
        let places = 0..if hopeless { last.min(length) } else { last } + 1;
        let end = places.end;
        match find(&list, &self.grid, content, places) {
            Some((new, number, found)) => self.found(number, found, new),
            // A block may yet begin at any place that was not looked at, unless too much was new already.
            None => self.all_new(if hopeless { (STRIDE * length).min(content.len()) } else { end }),
        }
    }

    fn begins(&self, content: &[u8], block: &Block) -> bool {
        content.get(..block.length as usize).is_some_and(|content| self.grid.strong(content) == block.strong)
    }

    fn found(&mut self, number: usize, found: (u64, Block), new: usize) -> Step {
        (self.expected, self.reached, self.missed) =
            (Some(number + 1), found.0 + u64::from(found.1.length), 0);
        Step { new, found: Some(found) }
    }

    fn all_new(&mut self, new: usize) -> Step {
        self.missed = self.missed.saturating_add(new as u64);
        Step { new, found: None }
    }
}

/// The first of `places` in `content` where a block of the list begins; its number, and what [`List::at`] says of it.
fn find(
    list: &List,
    grid: &Grid,
    content: &[u8],
    places: Range<usize>,
) -> Option<(usize, usize, (u64, Block))> {
    let length = grid.length();
    let mut roll = Roll::new(&content[..length]);
    let mut deceived = 0;
    for at in places {
        let mut alike = list.like(roll.sum()).peekable();
        if alike.peek().is_some() && deceived <= DECEIVED * (1 + at / length) {
            let strong = grid.strong(&content[at..at + length]);
            let placed = |number| Some((at, number, list.at(number)?));
            let found = alike.filter_map(placed).find(|(_, _, (_, block))| block.strong == strong);
            if found.is_some() {
                return found;
            }
            deceived += 1;
        }
        if let Some(&next) = content.get(at + length) {
            roll.step(content[at], next);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::blocks::blocks;
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;
    use twox_hash::XxHash3_64;

    fn noise(size: usize, seed: u64) -> Vec<u8> {
        let mut bytes = vec![0; size];
        let words = bytes.chunks_mut(8).zip(0u64..);
        words.for_each(|(word, at)| {
            let noise = XxHash3_64::oneshot_with_seed(seed, &at.to_le_bytes()).to_le_bytes();
            word.copy_from_slice(&noise[..word.len()]);
        });
        bytes
    }

    fn reading(mut bytes: &[u8]) -> impl FnMut(&mut [u8]) -> Result<usize, Infallible> {
        move |buffer| {
            let count = buffer.len().min(bytes.len());
            buffer[..count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            Ok(count)
        }
    }

    /// The new version as the other side makes it, and how much of it was new.
    fn told(old: &[u8], new: &[u8], seed: u64) -> (Vec<u8>, usize) {
        let (known, grid) = (OldBlocks::new(old.len() as u64), Grid::of_size(old.len() as u64, seed));
        let (mut made, mut fresh) = (Vec::new(), 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                known.begin(grid);
                blocks(&grid, reading(old), |block| known.add(&[block])).unwrap();
                known.end();
            });
            let emit = |piece: Piece<'_>| {
                match piece {
                    Piece::Copy { offset, length } => {
                        made.extend_from_slice(&old[offset as usize..(offset + length) as usize])
                    }
                    Piece::Literal(bytes) => {
                        made.extend_from_slice(bytes);
                        fresh += bytes.len();
                    }
                }
                Ok(())
            };
            delta(&known, reading(new), emit).unwrap();
        });
        (made, fresh)
    }

    #[derive(Clone, Debug)]
    enum Edit {
        Insert(usize, usize),
        Delete(usize, usize),
        Overwrite(usize, usize),
        Move(usize, usize, usize),
    }

    fn edit() -> impl Strategy<Value = Edit> {
        let (at, length) = (0usize..1 << 20, 0usize..20_000);
        prop_oneof![
            (at.clone(), length.clone()).prop_map(|(at, length)| Edit::Insert(at, length)),
            (at.clone(), length.clone()).prop_map(|(at, length)| Edit::Delete(at, length)),
            (at.clone(), length.clone()).prop_map(|(at, length)| Edit::Overwrite(at, length)),
            (at.clone(), length, at).prop_map(|(from, length, to)| Edit::Move(from, length, to)),
        ]
    }

    fn apply(bytes: &mut Vec<u8>, edit: &Edit, seed: u64) {
        let within = |at: usize, length: usize, size: usize| {
            let at = at % (size + 1);
            at..(at + length).min(size)
        };
        match *edit {
            Edit::Insert(at, length) => {
                let at = at % (bytes.len() + 1);
                bytes.splice(at..at, noise(length, seed));
            }
            Edit::Delete(at, length) => drop(bytes.drain(within(at, length, bytes.len()))),
            Edit::Overwrite(at, length) => {
                let range = within(at, length, bytes.len());
                bytes.splice(range.clone(), noise(range.len(), seed));
            }
            Edit::Move(from, length, to) => {
                let moved: Vec<u8> = bytes.drain(within(from, length, bytes.len())).collect();
                let to = to % (bytes.len() + 1);
                bytes.splice(to..to, moved);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_edit_arrives_and_little_of_it_is_new(size in 0usize..400_000, seed: u64, edits in proptest::collection::vec(edit(), 0..4)) {
            let old = noise(size, 1);
            let mut new = old.clone();
            edits.iter().zip(2..).for_each(|(edit, seed)| apply(&mut new, edit, seed));
            let (made, fresh) = told(&old, &new, seed);
            prop_assert!(made == new);
            // Each edit: what it wrote, a block at each of its up to three ends, and what it left of the file's last one.
            prop_assert!(fresh <= edits.len() * (20_000 + 4 * 4096), "{fresh} of {}", new.len());
        }
    }

    #[test]
    fn the_same_content_is_all_copied_and_other_content_all_new() {
        let (old, other) = (noise(300_000, 1), noise(300_000, 2));
        assert_eq!(told(&old, &old, 1), (old.clone(), 0));
        assert_eq!(told(&old, &other, 1), (other.clone(), 300_000));
        assert_eq!(told(&[], &other, 1), (other, 300_000));
        let zeros = vec![0; 500_000];
        assert!(told(&zeros, &[&zeros[..], &zeros].concat(), 1).1 < 32_768);
    }

    #[test]
    fn without_an_old_version_everything_is_new() {
        let (known, new) = (OldBlocks::new(1000), noise(1000, 1));
        known.end();
        let mut got = Vec::new();
        let emit = |piece: Piece<'_>| match piece {
            Piece::Literal(bytes) => {
                got.extend_from_slice(bytes);
                Ok(())
            }
            Piece::Copy { .. } => panic!("of what?"),
        };
        delta(&known, reading(&new), emit).unwrap();
        assert_eq!(got, new);
    }
}
