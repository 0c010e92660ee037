//! What of a file the other side has already: the new version is said in ranges of the old one and bytes.
//!
//! The other side tells its chunks while it cuts them, and finding goes on beside that: behind a chunk that was found,
//! the one expected next is compared first, so that unchanged content is not even cut on this side.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::chunks::{Window, cut, name};
use crate::core::chunk::{Chunk, Cutting, MAX_CHUNKS};

/// How far around the place where something was last found the other side's chunks must be known before a chunk
/// counts as new: 64 MiB.
const REACH: u64 = 64 << 20;
/// After so many new bytes in a row nothing more is taken for new before all of the other side's chunks are known.
const PATIENCE: u64 = 8 << 20;

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

/// What the other side has told of its old version so far. One thread tells, another finds.
#[derive(Debug)]
pub struct Known {
    list: Mutex<List>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct List {
    cutting: Option<Cutting>,
    /// Where each begins, and what it is.
    chunks: Vec<(u64, Chunk)>,
    by_hash: HashMap<u64, u32>,
    /// Bytes of the old version that they make up, and that there are.
    covered: u64,
    size: u64,
    ended: bool,
}

impl Known {
    /// Of an old version of `size` bytes nothing is known yet.
    pub fn new(size: u64) -> Known {
        Known { list: Mutex::new(List { size, ..List::default() }), grown: Condvar::new() }
    }

    /// It is cut like this.
    pub fn begin(&self, cutting: Cutting) {
        self.lock().cutting.get_or_insert(cutting);
        self.grown.notify_all();
    }

    /// It goes on with these chunks. False if that is more than there is of it, or more than is kept.
    pub fn add(&self, chunks: &[Chunk]) -> bool {
        let mut list = self.lock();
        for &chunk in chunks {
            let (at, number) = (list.covered, list.chunks.len());
            let covered = at.saturating_add(chunk.length.into());
            if list.cutting.is_none() || number >= MAX_CHUNKS || covered > list.size || chunk.length == 0 {
                return false;
            }
            list.chunks.push((at, chunk));
            list.by_hash.entry(chunk.hash).or_insert(number as u32);
            list.covered = covered;
        }
        self.grown.notify_all();
        true
    }

    /// No more will be told.
    pub fn end(&self) {
        self.lock().ended = true;
        self.grown.notify_all();
    }

    fn cutting(&self) -> Option<Cutting> {
        self.until(|list| list.cutting.is_some()).cutting
    }

    /// The chunk of a number, once it is told.
    fn at(&self, number: usize) -> Option<(u64, Chunk)> {
        self.until(|list| list.chunks.len() > number).chunks.get(number).copied()
    }

    /// The number of a chunk like this one, once all chunks before `offset` are told.
    fn find(&self, chunk: Chunk, offset: u64) -> Option<usize> {
        let list = self.until(|list| list.covered >= offset.min(list.size));
        let number = *list.by_hash.get(&chunk.hash)? as usize;
        list.chunks.get(number).filter(|(_, found)| *found == chunk).map(|_| number)
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

/// Says the new version, which `read` gives, in pieces, in order; ends early with an error of either.
pub fn delta<E>(
    known: &Known,
    mut read: impl FnMut(&mut [u8]) -> Result<usize, E>,
    mut emit: impl FnMut(Piece<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let Some(cutting) = known.cutting() else { return all_new(read, emit) };
    let mut window = Window::new(cutting.longest());
    let mut search = Search { known, cutting, expected: Some(0), reached: 0, missed: 0 };
    loop {
        let content = window.fill(cutting.longest(), &mut read)?;
        if content.is_empty() {
            return Ok(());
        }
        let (length, offset) = search.first(content);
        let content = window.take(length);
        match offset {
            Some(offset) => emit(Piece::Copy { offset, length: length as u64 })?,
            None => emit(Piece::Literal(content))?,
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

struct Search<'a> {
    known: &'a Known,
    cutting: Cutting,
    /// The chunk behind the one that was found last.
    expected: Option<usize>,
    /// Where in the old version the last one that was found ends.
    reached: u64,
    /// New bytes since.
    missed: u64,
}

impl Search<'_> {
    /// The length of the first piece of `content`, and where it is in the old version.
    fn first(&mut self, content: &[u8]) -> (usize, Option<u64>) {
        if let Some((offset, length)) = self.as_expected(content) {
            return (length, Some(offset));
        }
        let chunk = name(&self.cutting, &content[..cut(&self.cutting, content)]);
        let reach = self.reached.saturating_add(self.missed).saturating_add(REACH);
        let known_to = if self.missed > PATIENCE { u64::MAX } else { reach };
        let found = self.known.find(chunk, known_to).and_then(|number| {
            let (offset, _) = self.known.at(number)?;
            self.found(number, offset, chunk.length);
            Some(offset)
        });
        if found.is_none() {
            self.missed += u64::from(chunk.length);
            self.expected = None;
        }
        (chunk.length as usize, found)
    }

    fn as_expected(&mut self, content: &[u8]) -> Option<(u64, usize)> {
        let number = self.expected?;
        let (offset, expected) = self.known.at(number)?;
        let length = expected.length as usize;
        if name(&self.cutting, content.get(..length)?) != expected {
            return None;
        }
        self.found(number, offset, expected.length);
        Some((offset, length))
    }

    fn found(&mut self, number: usize, offset: u64, length: u32) {
        (self.expected, self.reached, self.missed) = (Some(number + 1), offset + u64::from(length), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunks::chunks;
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;

    fn noise(size: usize, seed: u64) -> Vec<u8> {
        let mut bytes = vec![0; size];
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
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
    fn told(old: &[u8], new: &[u8], key: u8) -> (Vec<u8>, usize) {
        let (known, cutting) = (Known::new(old.len() as u64), Cutting::of_size(old.len() as u64, [key; 16]));
        let (mut made, mut fresh) = (Vec::new(), 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                known.begin(cutting);
                chunks(&cutting, reading(old), |chunk| known.add(&[chunk])).unwrap();
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
        fn any_edit_arrives_and_little_of_it_is_new(size in 0usize..400_000, key: u8, edits in proptest::collection::vec(edit(), 0..4)) {
            let old = noise(size, 1);
            let mut new = old.clone();
            edits.iter().zip(2..).for_each(|(edit, seed)| apply(&mut new, edit, seed));
            let (made, fresh) = told(&old, &new, key);
            prop_assert!(made == new);
            // Each edit: what it wrote, and at most a few chunks of at most 16 KiB at each of its up to three ends.
            prop_assert!(fresh <= edits.len() * (20_000 + 3 * 4 * 16_384), "{fresh} of {}", new.len());
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
    fn what_goes_beyond_the_old_version_is_not_believed() {
        let (known, chunk) = (Known::new(100), Chunk { length: 60, hash: 1 });
        assert!(!known.add(&[chunk]), "before it is said how it is cut");
        known.begin(Cutting::of_size(100, [0; 16]));
        assert!(known.add(&[chunk]));
        assert!(!known.add(&[chunk]));
        assert!(!known.add(&[Chunk { length: 0, hash: 1 }]));
    }

    #[test]
    fn without_an_old_version_everything_is_new() {
        let (known, new) = (Known::new(1000), noise(1000, 1));
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
