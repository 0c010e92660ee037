//! Where brief disk work runs: at once where the disk answers at once, on a thread of its own where it does not.
//!
//! A small file that is in memory is read, hashed and closed in some ten microseconds; to wake another thread for it
//! and to be woken by that costs more than the work. But a task that waits for a disk holds up every other task of its
//! thread. So the work itself tells: its average duration decides where the next one runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::task::{JoinError, spawn_blocking};

/// The average duration from which on work is sent away, in nanoseconds: more than a small file in memory takes, less
/// than a disk takes to find one.
const LONG: u64 = 200_000;
/// The latest duration counts for this part of the average.
const WEIGHT: u64 = 8;

/// The average duration of one kind of work, in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    /// Runs `work`. Fails only if it panicked on a thread of its own.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        if self.0.load(Ordering::Relaxed) < LONG {
            let (done, took) = timed(work);
            self.note(took);
            return Ok(done);
        }
        let (done, took) = spawn_blocking(|| timed(work)).await?;
        self.note(took);
        Ok(done)
    }

    /// Lost updates of others that note at the same moment do no harm.
    fn note(&self, took: u64) {
        let average = self.0.load(Ordering::Relaxed);
        self.0.store(average - average / WEIGHT + took / WEIGHT, Ordering::Relaxed);
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let begun = Instant::now();
    let done = work();
    (done, u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX / WEIGHT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::{self, ThreadId};

    async fn place(gauge: &Gauge) -> ThreadId {
        gauge.run(|| thread::current().id()).await.unwrap()
    }

    #[tokio::test]
    async fn work_that_takes_long_is_sent_away_until_it_is_brief_again() {
        let gauge = Gauge::default();
        let here = thread::current().id();
        assert_eq!(place(&gauge).await, here);
        gauge.note(WEIGHT * LONG);
        assert_ne!(place(&gauge).await, here);
        (0..200).for_each(|_| gauge.note(0));
        assert_eq!(place(&gauge).await, here);
    }
}
