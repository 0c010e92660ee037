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
    fn times_before_the_epoch_and_at_the_ends_of_the_range_do_not_overflow() {
        assert_eq!(Timestamp::from_parts(-1, 999_999_999).parts(), (-1, 999_999_999));
        assert_eq!(age_at(Timestamp(i64::MIN), Timestamp(i64::MAX)), Age(i64::MAX));
        assert_eq!(Timestamp::from_parts(i64::MAX, 7), Timestamp(i64::MAX));
    }
}
