//! Moments on one system's clock, and ages, which two systems can compare.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A moment on one system's clock: nanoseconds since 1970-01-01 UTC, clamped to what 64 bits hold (the year 2262).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// From whole seconds and the nanoseconds after them, saturating at the ends of the range.
    pub fn from_parts(seconds: i64, nanoseconds: u32) -> Timestamp {
        Timestamp(seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(nanoseconds)))
    }

    /// Whole seconds (rounded down) and the nanoseconds after them.
    pub fn parts(self) -> (i64, u32) {
        (self.0.div_euclid(1_000_000_000), self.0.rem_euclid(1_000_000_000) as u32)
    }
}

/// Nanoseconds since a version was modified, by the clock of the system that holds it, at the moment of
/// the hello. Smaller is younger; negative means a modification time in the future.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Age(pub i64);

/// How long before `now` something edited at `edited` was edited; both on the same clock.
pub fn age_at(edited: Timestamp, now: Timestamp) -> Age {
    Age(now.0.saturating_sub(edited.0))
}

/// The moment, on a clock that shows `now`, of an edit that is `age` old.
pub fn edited_at(age: Age, now: Timestamp) -> Timestamp {
    Timestamp(now.0.saturating_sub(age.0))
}

/// The moment, on a clock that shows `now`, of an edit that another system told to be `age` old and whose file carries
/// the time `modified`.
///
/// Where nothing says that the clocks differ, it is the time that the file carries: a file keeps its age to the
/// nanosecond however often it travels between clocks that agree, and nothing has to be remembered about it. `uncertainty` is
/// how far the age may be off; so the moment is off by at most twice that for every hop that a copy has made.
pub fn edited_here(age: Age, modified: Timestamp, now: Timestamp, uncertainty: i64) -> Timestamp {
    let edited = edited_at(age, now);
    let apart = edited.0.abs_diff(modified.0);
    if apart <= uncertainty.max(0).unsigned_abs() { modified } else { edited }
}

impl fmt::Display for Age {
    /// `3s ago`, `2h ago`, `5d ago`, or `in 40s` for the future.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.unsigned_abs() / 1_000_000_000;
        let (count, unit) = match seconds {
            0..=119 => (seconds, "s"),
            120..=7199 => (seconds / 60, "min"),
            7200..=172_799 => (seconds / 3600, "h"),
            _ => (seconds / 86_400, "d"),
        };
        if self.0 < 0 { write!(f, "in {count} {unit}") } else { write!(f, "{count} {unit} ago") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_survives_the_way_to_another_clock_and_back() {
        let (now_here, now_there) = (Timestamp(5_000), Timestamp(9_000_000));
        let age = age_at(Timestamp(4_000), now_here);
        assert_eq!(age_at(edited_at(age, now_there), now_there), age);
    }

    #[test]
    fn clocks_that_agree_leave_the_time_that_the_file_carries() {
        let (edited, uncertainty) = (Timestamp(1_234_567_891), 300);
        for (read_at, told_at) in [(5_000_000_000, 5_000_000_300), (5_000_000_000, 4_999_999_700)] {
            let age = age_at(edited, Timestamp(read_at));
            assert_eq!(edited_here(age, edited, Timestamp(told_at), uncertainty), edited);
            assert_ne!(edited_here(age, edited, Timestamp(told_at), uncertainty - 1), edited);
        }
    }

    proptest::proptest! {
        /// Each hop: how far the next clock is ahead of the one before, how uncertain that is, and what part (of
        /// a thousand) of it the measurement is off.
        #[test]
        fn over_any_number_of_hops_a_moment_is_off_by_no_more_than_their_round_trips(
            hops in proptest::collection::vec((-3000_i64..3000, 0_i64..1000, -1000_i64..=1000), 1..20)
        ) {
            let modified = Timestamp(1_000_000);
            let (mut edited, mut truth, mut bound) = (modified, modified.0, 0);
            for (ahead, uncertainty, part) in hops {
                let there = Timestamp(9_000_000);
                let here = Timestamp(there.0 + ahead + uncertainty * part / 1000);
                edited = edited_here(age_at(edited, there), modified, here, uncertainty);
                truth += ahead;
                bound += 2 * uncertainty;
                proptest::prop_assert!((edited.0 - truth).abs() <= bound, "{edited:?} {truth} {bound}");
            }
        }
    }

    #[test]
    fn times_before_the_epoch_and_at_the_ends_of_the_range_do_not_overflow() {
        assert_eq!(Timestamp::from_parts(-1, 999_999_999).parts(), (-1, 999_999_999));
        assert_eq!(age_at(Timestamp(i64::MIN), Timestamp(i64::MAX)), Age(i64::MAX));
        assert_eq!(Timestamp::from_parts(i64::MAX, 7), Timestamp(i64::MAX));
    }
}
