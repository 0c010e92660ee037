//! Amounts as people type and read them: sizes, rates, spans of time, shares.

use std::fmt;
use std::time::Duration;

/// A number of things, or a share of all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// So many; of bytes or of paths, as the option says.
    Count(u64),
    /// So many of a hundred, 0 to 100.
    Percent(u8),
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Count(count) => write!(f, "{count}"),
            Limit::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// How long, and in how much room, history is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keep {
    /// What is older goes first.
    pub age: Duration,
    /// Bytes, or a share of the file system; none where the user left it open.
    pub room: Option<Limit>,
}

/// `500` or `50%`: how many paths.
pub fn parse_count(text: &str) -> Result<Limit, String> {
    match text.strip_suffix('%') {
        Some(digits) => parse_percent(digits),
        None => {
            text.parse().map(Limit::Count).map_err(|_| "write a number or a share, as 500 or 50%".to_owned())
        }
    }
}

/// `30d` or `30d,10G` or `30d,10%`.
pub fn parse_keep(text: &str) -> Result<Keep, String> {
    let (age, room) = text.split_once(',').map_or((text, None), |(age, room)| (age, Some(room)));
    let room = room.map(|room| match room.strip_suffix('%') {
        Some(digits) => parse_percent(digits),
        None => parse_size(room).map(Limit::Count),
    });
    Ok(Keep { age: parse_span(age)?, room: room.transpose()? })
}

/// `45s`, `10min`, `12h`, `30d`, `2w`, `1y`.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let wrong = || "write a span of time as 12h, 30d or 2w".to_owned();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let seconds = match &text[digits..] {
        "s" => 1,
        "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        "y" => 365 * 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..digits].parse().map_err(|_| wrong())?;
    count.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

/// `500`, `10K`, `1.5G`: as rsync, `K` and `KiB` are 1024 bytes and `KB` is 1000.
pub fn parse_size(text: &str) -> Result<u64, String> {
    scaled(text, 1).ok_or_else(|| "write a size as 500, 10K, 1.5G or 2TB".to_owned())
}

/// `500`, `1.5M`: bytes a second; as rsync, a number without a unit is KiB, and 0 is no limit.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let rate = scaled(text, 1024).filter(|rate| *rate >= LEAST_RATE || text.parse() == Ok(0.0));
    rate.ok_or_else(|| "write a rate a second as 500 (KiB), 1.5M, at least 512B, or 0 (no limit)".to_owned())
}

/// As rsync: what is slower is a mistake of units.
const LEAST_RATE: u64 = 512;

/// Whole seconds; as rsync, 0 is no limit.
pub fn parse_seconds(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_secs).map_err(|_| "write whole seconds".to_owned())
}

fn parse_percent(digits: &str) -> Result<Limit, String> {
    let percent = digits.parse().ok().filter(|&percent: &u8| percent <= 100);
    percent.map(Limit::Percent).ok_or_else(|| "a share is 0% to 100%".to_owned())
}

fn scaled(text: &str, bare: u64) -> Option<u64> {
    let end = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let number: f64 = text[..end].parse().ok()?;
    let unit = text[end..].to_ascii_lowercase();
    let factor = match unit.chars().next() {
        None => bare as f64,
        Some('b') => 1.0,
        Some(letter) => {
            let power = "kmgtp".find(letter)? as i32 + 1;
            (if unit.len() == 2 { 1000.0_f64 } else { 1024.0 }).powi(power)
        }
    };
    let known = unit.is_empty() || unit == "b" || matches!(&unit[1..], "" | "b" | "ib");
    let value = number * factor;
    (known && value.is_finite() && value < u64::MAX as f64).then_some(value as u64)
}

/// Which thousand units of bytes are built on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Units {
    /// 1 kB is 1000 bytes.
    #[default]
    Decimal,
    /// 1 KiB is 1024 bytes (`-hh`).
    Binary,
}

/// Bytes for people: `999 B`, `1.5 kB`, `20 MB`, three digits at most.
pub fn bytes(count: u64, units: Units) -> String {
    let (step, names) = match units {
        Units::Decimal => (1000.0, ["B", "kB", "MB", "GB", "TB", "PB", "EB"]),
        Units::Binary => (1024.0, ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]),
    };
    let mut value = count as f64;
    let mut power = 0;
    // 999.5 would be shown as 1000 of the smaller unit.
    while value >= step - 0.5 && power + 1 < names.len() {
        value /= step;
        power += 1;
    }
    match power {
        0 => format!("{count} B"),
        _ if value < 9.95 => format!("{value:.1} {}", names[power]),
        _ => format!("{value:.0} {}", names[power]),
    }
}

/// A number with its digits in threes: `1,234,567`, as rsync shows them.
pub fn digits(number: u64) -> String {
    let plain = number.to_string();
    let groups: Vec<_> = plain.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// `1 file`, `2 files`.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", digits(number), if number == 1 { one } else { many })
}

/// A span of time as a clock shows it: `0:07`, `12:05`, `1:02:03`.
pub fn clock(span: Duration) -> String {
    let seconds = span.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// How long something took: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`.
pub fn took(span: Duration) -> String {
    match span.as_secs() {
        0..10 => format!("{:.1} s", span.as_secs_f64()),
        seconds @ 10..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_read_as_rsync_reads_them() {
        for (text, size) in [
            ("0", Some(0)),
            ("500", Some(500)),
            ("500b", Some(500)),
            ("10K", Some(10_240)),
            ("10KiB", Some(10_240)),
            ("10kb", Some(10_000)),
            ("1.5G", Some(1_610_612_736)),
            ("2TB", Some(2_000_000_000_000)),
            ("", None),
            ("G", None),
            ("10X", None),
            ("10KX", None),
            ("1.2.3", None),
            ("-1", None),
            ("1é", None),
            ("99999999P", None),
        ] {
            assert_eq!(parse_size(text).ok(), size, "{text}");
        }
        assert_eq!(parse_rate("100"), Ok(102_400));
        assert_eq!(parse_rate("1.5m"), Ok(1_572_864));
        assert_eq!(
            (parse_rate("0"), parse_rate("512b"), parse_rate("2GB")),
            (Ok(0), Ok(512), Ok(2_000_000_000))
        );
        assert!(["0.1", "511b", "0.0001m", "-5", "fast"].iter().all(|text| parse_rate(text).is_err()));
    }

    #[test]
    fn history_is_kept_for_a_time_and_in_some_room() {
        let day = Duration::from_secs(86_400);
        assert_eq!(parse_keep("30d"), Ok(Keep { age: day * 30, room: None }));
        assert_eq!(parse_keep("2w,10%"), Ok(Keep { age: day * 14, room: Some(Limit::Percent(10)) }));
        assert_eq!(parse_keep("12h,1K"), Ok(Keep { age: day / 2, room: Some(Limit::Count(1024)) }));
        for wrong in
            ["", "30", "d", "30d,", "30d,101%", "30é", "99999999999999999999d", "9999999999999999999y"]
        {
            assert!(parse_keep(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_count("100%"), Ok(Limit::Percent(100)));
        assert!(parse_count("many").is_err());
    }

    #[test]
    fn amounts_are_shown_short() {
        let shown =
            [0, 999, 1000, 1500, 9_960, 999_499, 999_500, 20_000_000].map(|n| bytes(n, Units::Decimal));
        assert_eq!(shown, ["0 B", "999 B", "1.0 kB", "1.5 kB", "10 kB", "999 kB", "1.0 MB", "20 MB"]);
        assert_eq!(bytes(1536, Units::Binary), "1.5 KiB");
        assert_eq!(bytes(u64::MAX, Units::Decimal), "18 EB");
        assert_eq!([0, 999, 1000, 1_234_567].map(digits), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([7, 725, 3723].map(|s| clock(Duration::from_secs(s))), ["0:07", "12:05", "1:02:03"]);
        assert_eq!(
            [1, 12, 200, 7500].map(|s| took(Duration::from_secs(s))),
            ["1.0 s", "12 s", "3 min 20 s", "2 h 5 min"]
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".{0,12}|[0-9.]{0,9}[a-zé%,]{0,4}") {
            let _ = (parse_count(&text), parse_keep(&text), parse_rate(&text), parse_seconds(&text));
        }
    }
}
