//! The one quiet line of a watch on a terminal.

use std::time::Duration;

use super::amount::{Units, bytes, count};
use super::desk::describe;
use super::meter::Sample;
use crate::session::progress::Outcome;

/// What the line is made of.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    files: u64,
    bytes: u64,
    /// When something last changed, counted as the run's time is.
    changed: Option<Duration>,
    /// There is no connection.
    pub(super) away: bool,
}

impl Quiet {
    /// A round has ended `now`.
    pub(super) fn round(&mut self, outcome: &Outcome, now: Duration) {
        let totals = &outcome.totals;
        self.files = self.files.saturating_add(totals.send_files.saturating_add(totals.receive_files));
        self.bytes = self.bytes.saturating_add(totals.send_bytes.saturating_add(totals.receive_bytes));
        self.away = false;
        if outcome.changed {
            self.changed = Some(now);
        }
    }

    /// `watching · 3 files (1.2 MB) · last change 2 min ago`
    pub(super) fn line(&self, sample: &Sample, now: Duration, units: Units) -> String {
        if sample.files.1 > 0 && !self.away {
            return format!("watching ·{}", describe(sample, units));
        }
        let state = if self.away { "no connection, trying again" } else { "watching" };
        let files = (self.files > 0)
            .then(|| format!(" · {} ({})", count(self.files, "file", "files"), bytes(self.bytes, units)));
        let changed =
            self.changed.map(|then| format!(" · last change {}", ago(now.saturating_sub(then).as_secs())));
        format!("{state}{}{}", files.unwrap_or_default(), changed.unwrap_or_default())
    }
}

fn ago(seconds: u64) -> String {
    match seconds {
        0..=4 => "just now".to_owned(),
        5..=119 => format!("{seconds} s ago"),
        120..=7199 => format!("{} min ago", seconds / 60),
        7200..=172_799 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::progress::Totals;

    #[test]
    fn the_line_says_what_was_done_and_when_and_whether_there_is_a_connection() {
        let (mut quiet, units) = (Quiet::default(), Units::Decimal);
        let at = |quiet: &Quiet, seconds| quiet.line(&Sample::default(), Duration::from_secs(seconds), units);
        assert_eq!(at(&quiet, 9), "watching");
        let totals = Totals { send_files: 1, send_bytes: 200, receive_files: 2, ..Totals::default() };
        let outcome = Outcome { totals, changed: true, ..Outcome::default() };
        quiet.round(&outcome, Duration::from_secs(10));
        assert_eq!(at(&quiet, 11), "watching · 3 files (200 B) · last change just now");
        quiet.round(&Outcome::default(), Duration::from_secs(100));
        assert_eq!(at(&quiet, 610), "watching · 3 files (200 B) · last change 10 min ago");
        quiet.away = true;
        assert!(at(&quiet, 10_000).starts_with("no connection, trying again · 3 files"));
        quiet.round(&Outcome::default(), Duration::from_secs(100));
        let sample = Sample { files: (1, 4), bytes: (10, 40), ..Sample::default() };
        assert!(quiet.line(&sample, Duration::ZERO, units).starts_with("watching · 25%  1/4 files"));
    }
}
