//! Not more than so many bytes a second: a token bucket on tokio's clock.
//!
//! Written here because the crates that do this count in `u32`, refuse an amount greater than the bucket, or keep a clock
//! of their own, which tests cannot set.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::wait::locked;

/// How much of what was not used may be caught up on, so that a timer's coarseness costs nothing.
const CATCH_UP: Duration = Duration::from_millis(50);
/// Eight pieces a second keep a slow line from stuttering; fewer than this many bytes are not worth a packet.
const LEAST_PIECE: usize = 512;

/// See the module. Whoever waits first goes first.
#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes a second, at least 1.
    rate: u64,
    /// When all that was let pass so far has passed.
    free: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(rate: u64) -> Pace {
        Pace { rate: rate.max(1), free: Mutex::new(Instant::now()) }
    }

    /// The most bytes that should go at once.
    pub(super) fn piece(&self) -> usize {
        usize::try_from(self.rate / 8).unwrap_or(usize::MAX).max(LEAST_PIECE)
    }

    /// Waits until so many bytes may pass. Dropped while it waits, they count as passed.
    pub(super) async fn pass(&self, bytes: usize) {
        let turn = {
            let now = Instant::now();
            let mut free = locked(&self.free);
            let turn = (*free).max(now.checked_sub(CATCH_UP).unwrap_or(now));
            *free = turn + self.time_for(bytes);
            turn
        };
        tokio::time::sleep_until(turn).await;
    }

    fn time_for(&self, bytes: usize) -> Duration {
        let nanoseconds = bytes as u128 * 1_000_000_000 / u128::from(self.rate);
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// How long `bytes`, `times` over and from several at once, take at `rate`.
    async fn took(rate: u64, bytes: usize, times: usize) -> Duration {
        let (pace, begun) = (Arc::new(Pace::new(rate)), Instant::now());
        let passing = (0..times).map(|_| {
            let pace = pace.clone();
            tokio::spawn(async move { pace.pass(bytes).await })
        });
        futures_util::future::join_all(passing.collect::<Vec<_>>()).await;
        pace.pass(0).await;
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_take_as_long_as_the_rate_says_in_whatever_pieces_they_come() {
        for (rate, bytes, times) in [(1000, 100, 50), (1000, 10_000, 2), (1 << 30, 61_440, 2000), (1, 1, 9)] {
            let wanted = (bytes * times) as f64 / rate as f64;
            let took = took(rate, bytes, times).await.as_secs_f64();
            assert!((took - wanted).abs() < 0.06, "{rate}: {took} instead of {wanted} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_not_caught_up_on_with_a_burst() {
        let pace = Pace::new(1000);
        pace.pass(100).await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let begun = Instant::now();
        pace.pass(1000).await;
        pace.pass(0).await;
        assert!(begun.elapsed() >= Duration::from_millis(940));
    }
}
