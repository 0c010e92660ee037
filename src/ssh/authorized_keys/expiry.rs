//! `expiry-time=`: `YYYYMMDD`, `YYYYMMDDHHMM` or `YYYYMMDDHHMMSS`, in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::quoted;

/// The moment that is written; later ones are too late.
///
/// The final `Z` (or `UTC`) is required: without it OpenSSH means local time, and guessing that wrong would
/// keep a key valid for hours too long.
pub(super) fn parse_expiry(text: &[u8]) -> Result<SystemTime, String> {
    let lower = text.to_ascii_lowercase();
    let Some(digits) = lower.strip_suffix(b"z").or_else(|| lower.strip_suffix(b"utc")) else {
        return Err(format!(
            "expiry-time {} is in local time; write it in UTC with a Z at the end (OpenSSH 9.1 reads that too)",
            quoted(text)
        ));
    };
    moment(digits).ok_or_else(|| format!("expiry-time {} is no YYYYMMDD[HHMM[SS]]Z", quoted(text)))
}

fn moment(digits: &[u8]) -> Option<SystemTime> {
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let field = |from: usize, to: usize| {
        digits.get(from..to).unwrap_or_default().iter().fold(0, |n, d| n * 10 + u64::from(d - b'0'))
    };
    let (year, month, day) = (field(0, 4), field(4, 6), field(6, 8));
    let (hour, minute, second) = (field(8, 10), field(10, 12), field(12, 14));
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = days_since_1970(year, month, day)? * 86_400 + hour * 3600 + minute * 60 + second;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar; nothing for dates before, or that do not exist.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let lengths = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let month = usize::try_from(month.checked_sub(1)?).ok()?;
    if year < 1970 || day == 0 || day > *lengths.get(month)? {
        return None;
    }
    let before = year - 1;
    let leaps = before / 4 - before / 100 + before / 400;
    // 477 leap days before 1970.
    Some((year - 1970) * 365 + leaps - 477 + lengths[..month].iter().sum::<u64>() + day - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<u64> {
        let moment = parse_expiry(text.as_bytes()).ok()?;
        Some(moment.duration_since(UNIX_EPOCH).unwrap().as_secs())
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        // Expected values from `date -u -d … +%s`.
        for (text, expected) in [
            ("19700101Z", 0),
            ("20000229Z", 951_782_400),
            ("20240301Z", 1_709_251_200),
            ("202612312359Z", 1_798_761_540),
            ("20261231235959z", 1_798_761_599),
            ("21000301utc", 4_107_542_400),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn dates_that_do_not_exist_are_refused() {
        for text in [
            "20230229Z",
            "21000229Z",
            "20231301Z",
            "20230001Z",
            "20230100Z",
            "20230132Z",
            "20230431Z",
            "19691231Z",
            "202301012460Z",
            "20230101240000Z",
            "2023010123Z",
            "2023Z",
            "Z",
            "",
            "2023-1-1Z",
            "+2230101Z",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn local_time_is_refused_with_the_remedy() {
        let reason = parse_expiry(b"20300101").unwrap_err();
        assert!(reason.contains("with a Z"), "{reason}");
    }
}
