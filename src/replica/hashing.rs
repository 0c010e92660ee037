//! The SHA-256 of content that comes piece by piece: made on a thread of its own where there is much of it, beside whatever else
//! is done with the pieces. To write a file takes about as long as to hash it.
//!
//! Pieces are kept until they are hashed, when whoever sent them may long have been told that there is room for more. They are
//! few: those of four batches, which hold some two megabytes at the most.

use std::ops::Deref;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use bytes::Bytes;

use crate::core::digest::{Digest, Hasher};

/// Content of fewer bytes is not worth a thread.
pub(super) const WORTH_A_THREAD: u64 = 1 << 20;
/// Bytes that the thread is woken for.
const BATCH: usize = 256 * 1024;
/// Batches that may wait for it, while one is hashed and one is gathered.
const UNHASHED: usize = 2;
/// What a piece counts for at the least, bytes: to keep one costs memory, however short it is.
const LEAST: usize = 256;

/// Part of some content.
#[derive(Debug)]
pub(super) enum Piece {
    /// Nobody wants it back.
    Shared(Bytes),
    /// What holds it comes back for another one, if not too much does: see [`Hashing::spare`].
    Lent(Vec<u8>),
}

/// Hashes a stream of pieces.
#[derive(Debug)]
pub(super) struct Hashing {
    /// Of all that came, but for what the thread has or is to have.
    hasher: Hasher,
    /// Bytes that are still to come.
    left: u64,
    /// What the thread is given next, and what that counts for.
    batch: Vec<Piece>,
    gathered: usize,
    beside: Option<Beside>,
    /// Whether the thread was begun, or was not worth it, or the system had none to give.
    tried: bool,
    spare: Option<Vec<u8>>,
}

/// The thread. It ends with the hasher when nothing more is to come: at the latest when this is dropped, with what waits.
#[derive(Debug)]
struct Beside {
    batches: SyncSender<Vec<Piece>>,
    hashed: Receiver<Vec<u8>>,
    thread: JoinHandle<Hasher>,
}

impl Hashing {
    /// Of `size` bytes.
    pub(super) fn of(size: u64) -> Hashing {
        let (hasher, batch) = (Hasher::new(), Vec::new());
        Hashing { hasher, left: size, batch, gathered: 0, beside: None, tried: false, spare: None }
    }

    /// Appends a piece; waits while too many are not hashed yet.
    pub(super) fn piece(&mut self, piece: Piece) {
        if !std::mem::replace(&mut self.tried, true) && self.left >= WORTH_A_THREAD {
            self.beside = Beside::begin(&self.hasher);
        }
        self.left = self.left.saturating_sub(piece.len() as u64);
        if self.beside.is_none() {
            self.hasher.update(&piece);
            if let Piece::Lent(bytes) = piece {
                self.spare = Some(bytes);
            }
            return;
        }
        let piece = self.compact(piece);
        self.gathered += piece.len().max(LEAST);
        self.batch.push(piece);
        if self.gathered >= BATCH {
            self.hand_over();
        }
    }

    /// The piece without much memory that it does not fill.
    fn compact(&mut self, piece: Piece) -> Piece {
        match piece {
            Piece::Lent(bytes) if bytes.len() < bytes.capacity() / 2 => {
                let copy = Bytes::copy_from_slice(&bytes);
                self.spare = Some(bytes);
                Piece::Shared(copy)
            }
            filled => filled,
        }
    }

    /// Appends bytes that cannot be kept, and hashes them here.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.left = self.left.saturating_sub(bytes.len() as u64);
        self.settle();
        self.hasher.update(bytes);
    }

    /// What held a piece that was lent and has been hashed, or an empty vector.
    pub(super) fn spare(&mut self) -> Vec<u8> {
        let hashed = || self.beside.as_ref().and_then(|beside| beside.hashed.try_recv().ok());
        self.spare.take().or_else(hashed).unwrap_or_default()
    }

    /// The hash of all that came so far.
    pub(super) fn digest(&mut self) -> Digest {
        self.settle();
        self.hasher.clone().finish()
    }

    /// Ends the thread.
    fn settle(&mut self) {
        self.hand_over();
        if let Some(Beside { batches, thread, .. }) = self.beside.take() {
            drop(batches);
            self.hasher = thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    }

    fn hand_over(&mut self) {
        self.gathered = 0;
        let batch = std::mem::take(&mut self.batch);
        if let Some(beside) = self.beside.as_ref().filter(|_| !batch.is_empty()) {
            // It takes all that it is given, unless it panics; whoever joins it hears of that.
            let _ = beside.batches.send(batch);
        }
    }
}

impl Beside {
    /// Goes on where `hasher` is; `None` if the system has no thread to give.
    fn begin(hasher: &Hasher) -> Option<Beside> {
        let (batches, unhashed) = sync_channel(UNHASHED);
        let (back, hashed) = sync_channel(UNHASHED + 2);
        let hasher = hasher.clone();
        let thread = Builder::new().name("hash".into()).spawn(move || hash(hasher, &unhashed, &back)).ok()?;
        Some(Beside { batches, hashed, thread })
    }
}

fn hash(mut hasher: Hasher, unhashed: &Receiver<Vec<Piece>>, back: &SyncSender<Vec<u8>>) -> Hasher {
    for piece in unhashed.iter().flatten() {
        hasher.update(&piece);
        if let Piece::Lent(bytes) = piece {
            // As many as can be in use at once are enough; nobody wants any back at the end.
            let _ = back.try_send(bytes);
        }
    }
    hasher
}

impl Deref for Piece {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Piece::Shared(bytes) => bytes,
            Piece::Lent(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Much more than comes.
    const MUCH: u64 = 1 << 30;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Whatever is lent, shared or hashed at once, and wherever somebody asks how far it is.
        #[test]
        fn pieces_have_the_hash_of_their_bytes_in_order(steps in proptest::collection::vec((0..4u8, 0..400_000usize), 1..30), size in 0..2 * WORTH_A_THREAD) {
            let (mut hashing, mut all) = (Hashing::of(size), Vec::new());
            for (at, (kind, length)) in steps.into_iter().enumerate() {
                let piece: Vec<u8> = (0..length).map(|byte| (byte * 7 + at) as u8).collect();
                all.extend_from_slice(&piece);
                match kind {
                    0 => hashing.bytes(&piece),
                    1 => {
                        let mut lent = hashing.spare();
                        lent.clear();
                        lent.extend_from_slice(&piece);
                        hashing.piece(Piece::Lent(lent));
                    }
                    2 => hashing.piece(Piece::Shared(piece.into())),
                    _ => {
                        hashing.piece(Piece::Shared(piece.into()));
                        prop_assert_eq!(hashing.digest(), Digest::of(&all));
                    }
                }
            }
            prop_assert_eq!(hashing.digest(), Digest::of(&all));
        }
    }

    #[test]
    fn what_is_lent_comes_back_once_it_is_hashed() {
        let mut few = Hashing::of(WORTH_A_THREAD - 1);
        few.piece(Piece::Lent(vec![1; 7]));
        assert_eq!((few.beside.is_none(), few.spare().len(), few.spare().len()), (true, 7, 0));
        let mut many = Hashing::of(WORTH_A_THREAD);
        many.piece(Piece::Lent(vec![1; BATCH]));
        assert_eq!(many.beside.as_ref().unwrap().hashed.recv().unwrap().len(), BATCH);
    }

    #[test]
    fn all_is_hashed_here_where_the_system_has_no_thread_to_give() {
        let mut hashing = Hashing { tried: true, ..Hashing::of(MUCH) };
        hashing.piece(Piece::Shared(vec![1; BATCH].into()));
        assert!(hashing.beside.is_none() && hashing.batch.is_empty());
        assert_eq!(hashing.digest(), Digest::of(&[1; BATCH]));
    }

    /// Each of them may keep a buffer of its own alive.
    #[test]
    fn pieces_of_a_byte_do_not_gather_for_ever() {
        let mut hashing = Hashing::of(MUCH);
        for _ in 0..10_000 {
            hashing.piece(Piece::Shared(Bytes::from_static(b"1")));
            assert!(hashing.batch.len() < BATCH / LEAST);
        }
        assert_eq!(hashing.digest(), Digest::of(&[b'1'; 10_000]));
    }

    /// Each used to come back, and then to hold a long one.
    #[test]
    fn of_many_that_are_lent_few_come_back_and_none_waits_half_empty() {
        let mut hashing = Hashing::of(MUCH);
        for _ in 0..10_000 {
            hashing.piece(Piece::Lent(vec![1]));
        }
        let mut roomy = Vec::with_capacity(BATCH);
        roomy.push(1);
        hashing.piece(Piece::Lent(roomy));
        assert!(
            hashing
                .batch
                .iter()
                .all(|piece| !matches!(piece, Piece::Lent(bytes) if bytes.capacity() >= BATCH))
        );
        assert!(hashing.spare().capacity() >= BATCH);
        hashing.hand_over();
        let Beside { batches, hashed, thread } = hashing.beside.take().unwrap();
        drop(batches);
        assert_eq!(thread.join().unwrap().finish(), Digest::of(&[1; 10_001]));
        assert!(hashed.iter().count() <= UNHASHED + 2);
    }
}
