//! What people read: a line a change if they asked for it, and at the end what was done, what was left, and what
//! to do about it.

use std::io::{self, Write};
use std::time::Duration;

use super::amount::{Units, bytes, count, digits, took};
use super::error::printable;
use super::exit::ExitCode;
use super::itemize::itemize;
use crate::core::path::RelPath;
use crate::core::plan::{Act, Item, Why};
use crate::core::shown::Shown;
use crate::core::side::Side;
use crate::core::version::Content;
use crate::session::progress::{Outcome, Problem, ProblemKind};

/// How many conflicts and problems are listed without `-v`; the rest is counted.
const LISTED: usize = 20;

/// What a report needs to know of the options.
#[derive(Clone, Debug, Default)]
pub struct ReportOptions {
    /// `-v`: names.
    pub names: bool,
    /// `-i`: eleven characters before each name.
    pub itemize: bool,
    /// `-q`: errors only.
    pub quiet: bool,
    /// `--stats`.
    pub stats: bool,
    /// `-n`: what would be done.
    pub dry_run: bool,
    /// Losers are kept.
    pub history: bool,
    /// In which sizes are shown.
    pub units: Units,
}

/// Collects what a run tells and says it to people.
#[derive(Debug)]
pub struct Report {
    options: ReportOptions,
    conflicts: Vec<(RelPath, Why)>,
    more_conflicts: u64,
    /// Items that need no file to travel: folders, links, permission bits.
    small: u64,
}

impl Report {
    /// A report of nothing yet.
    pub fn new(options: ReportOptions) -> Report {
        Report { options, conflicts: Vec::new(), more_conflicts: 0, small: 0 }
    }

    /// An item was carried out: a line for each side that did something, if names are wanted.
    pub fn item(&mut self, item: &Item, out: &mut dyn Write) -> io::Result<()> {
        for side in [Side::Two, Side::One] {
            let act = item.act.of(side);
            let file =
                matches!(act, Act::Put { version, .. } if matches!(version.content, Content::File { .. }));
            self.small += u64::from(!file && !matches!(act, Act::Nothing | Act::Remove));
            if self.options.itemize {
                if let Some(marks) = itemize(item, side) {
                    writeln!(out, "{marks} {}", named(item, side))?;
                }
            } else if self.options.names
                && let Some(verb) = verb(act, side)
            {
                writeln!(out, "{verb} {}", named(item, side))?;
            }
        }
        Ok(())
    }

    /// Two versions met; listed at the end.
    pub fn conflict(&mut self, path: &RelPath, why: Why) {
        if self.conflicts.len() < LISTED || self.options.names {
            self.conflicts.push((path.clone(), why));
        } else {
            self.more_conflicts += 1;
        }
    }

    /// Worth one line, at once.
    pub fn notice(&self, text: &str, err: &mut dyn Write) -> io::Result<()> {
        if self.options.quiet { Ok(()) } else { writeln!(err, "note: {}", printable(text)) }
    }

    /// The end of a run that came to its end: problems on `err`, everything else on `out`.
    pub fn summary(
        &self,
        outcome: &Outcome,
        elapsed: Duration,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> io::Result<()> {
        self.problems(&outcome.problems, err)?;
        self.advice(outcome, err)?;
        if self.options.quiet {
            return Ok(());
        }
        self.list_conflicts(out)?;
        if self.options.stats {
            self.stats(outcome, elapsed, out)?;
        }
        writeln!(out, "{}", self.verdict(outcome, elapsed))
    }

    /// The one line that says how it ended.
    fn verdict(&self, outcome: &Outcome, elapsed: Duration) -> String {
        let done = self.done(outcome);
        let state = match ExitCode::of(outcome) {
            _ if self.options.dry_run => "dry run, nothing was changed",
            ExitCode::InSync if outcome.suppressed > 0 => "done, the sides still differ",
            ExitCode::InSync => "in sync",
            _ => "not in sync yet",
        };
        let body = if done.is_empty() {
            let held = count(outcome.entries, "entry", "entries");
            format!("nothing to do ({held}, {})", bytes(outcome.bytes, self.options.units))
        } else {
            done.join(", ")
        };
        format!("{state}: {body}; {}", took(elapsed))
    }

    /// The parts of the verdict that are not zero.
    fn done(&self, outcome: &Outcome) -> Vec<String> {
        let (totals, units) = (&outcome.totals, self.options.units);
        let [send, receive, moved, delete] = match self.options.dry_run {
            true => ["to send", "to receive", "to move or copy in place", "to delete"],
            false => ["sent", "received", "moved or copied in place", "deleted"],
        };
        let files = |verb: &str, files, size| {
            (files > 0).then(|| format!("{verb} {} ({})", count(files, "file", "files"), bytes(size, units)))
        };
        let some = |number: u64, verb: &str, tail: &str| {
            (number > 0).then(|| format!("{verb} {}{tail}", digits(number)))
        };
        let unsettled = outcome.problems.len() as u64;
        [
            files(send, totals.send_files, totals.send_bytes),
            files(receive, totals.receive_files, totals.receive_bytes),
            some(outcome.moved, moved, ""),
            some(outcome.deleted.1, delete, " here"),
            some(outcome.deleted.0, delete, " on the other system"),
            (self.small > 0).then(|| count(self.small, "other change", "other changes")),
            some(outcome.conflicts, "conflicts decided:", ""),
            some(outcome.skipped, "conflicts left:", ""),
            some(outcome.suppressed, "left out", " (by --pull, --push or what the server allows)"),
            (unsettled > 0).then(|| count(unsettled, "path not settled", "paths not settled")),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn list_conflicts(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.conflicts.is_empty() {
            return Ok(());
        }
        writeln!(out, "conflicts:")?;
        for (path, why) in &self.conflicts {
            writeln!(out, "  {path}: {}", explained(*why))?;
        }
        if self.more_conflicts > 0 {
            writeln!(out, "  and {} more (-v lists them all)", digits(self.more_conflicts))?;
        }
        if self.options.history && !self.options.dry_run {
            writeln!(out, "  what lost is in history on the side that held it: syncfiles history ROOT")?;
        }
        Ok(())
    }

    fn problems(&self, problems: &[Problem], err: &mut dyn Write) -> io::Result<()> {
        let shown = if self.options.names { problems.len() } else { LISTED };
        for problem in problems.iter().take(shown) {
            let place = if problem.side == Side::One { " on the other system" } else { "" };
            writeln!(err, "syncfiles: {}{place}: {}", problem.path, printable(&problem.text))?;
        }
        match problems.len().saturating_sub(shown) {
            0 => Ok(()),
            more => writeln!(err, "syncfiles: and {} more (-v lists them all)", digits(more as u64)),
        }
    }

    /// What to do about what was left, a line for each kind.
    fn advice(&self, outcome: &Outcome, err: &mut dyn Write) -> io::Result<()> {
        let of = |kind| outcome.problems.iter().filter(|problem| problem.kind == kind).count() as u64;
        let (failed, changed) = (of(ProblemKind::Failed), of(ProblemKind::Changed));
        if failed > 0 {
            let paths = count(failed, "path", "paths");
            writeln!(err, "syncfiles: {paths} failed: put right what is named above and run again")?;
        }
        if changed > 0 {
            let paths = count(changed, "path", "paths");
            writeln!(err, "syncfiles: {paths} changed during the run and were left: run again")?;
        }
        if outcome.skipped > 0 {
            let conflicts = count(outcome.skipped, "conflict", "conflicts");
            writeln!(
                err,
                "syncfiles: {conflicts} left: decide with --conflict newer, local, remote or keep-both"
            )?;
        }
        Ok(())
    }

    fn stats(&self, outcome: &Outcome, elapsed: Duration, out: &mut dyn Write) -> io::Result<()> {
        let exact = |size: u64| format!("{} ({} bytes)", bytes(size, self.options.units), digits(size));
        let totals = &outcome.totals;
        let rows = [
            ("Entries here", format!("{}, {}", digits(outcome.entries), exact(outcome.bytes))),
            ("Files sent", format!("{}, {}", digits(totals.send_files), exact(totals.send_bytes))),
            ("Files received", format!("{}, {}", digits(totals.receive_files), exact(totals.receive_bytes))),
            ("Moved or copied in place", digits(outcome.moved)),
            ("Deleted here", digits(outcome.deleted.1)),
            ("Deleted on the other system", digits(outcome.deleted.0)),
            ("Conflicts decided", digits(outcome.conflicts)),
            ("Conflicts left", digits(outcome.skipped)),
            ("Changes left out", digits(outcome.suppressed)),
            ("Paths not settled", digits(outcome.problems.len() as u64)),
            ("Sent on the wire", exact(outcome.wire.0)),
            ("Received on the wire", exact(outcome.wire.1)),
            ("Time", took(elapsed)),
        ];
        rows.iter().try_for_each(|(name, value)| writeln!(out, "{name}: {value}"))
    }
}

/// The path as rsync shows it: folders end with `/`, links show their target.
fn named(item: &Item, side: Side) -> String {
    let content = match item.act.of(side) {
        Act::Put { version, .. } => Some(&version.content),
        _ => item.saw.of(side).version().map(|version| &version.content),
    };
    match content {
        Some(Content::Folder) => format!("{}/", item.path),
        Some(Content::Link { target }) => format!("{} -> {}", item.path, Shown(target)),
        _ => item.path.to_string(),
    }
}

/// What `-v` calls an act.
fn verb(act: &Act, side: Side) -> Option<&'static str> {
    Some(match (act, side) {
        (Act::Nothing, _) => return None,
        (Act::Put { .. }, Side::Two) => "receive",
        (Act::Put { .. }, Side::One) => "send",
        (Act::SetBits(_), Side::Two) => "set permissions here",
        (Act::SetBits(_), Side::One) => "set permissions there",
        (Act::Remove, Side::Two) => "delete here",
        (Act::Remove, Side::One) => "delete there",
    })
}

fn explained(why: Why) -> &'static str {
    match why {
        Why::Conflict(Some(Side::Two)) => "changed on both systems; the version of this one stays",
        Why::Conflict(Some(Side::One)) => "changed on both systems; the version of the other one stays",
        Why::Conflict(None) => "changed on both systems; left as it is on each",
        Why::Tie(Side::Two) => "different and equally old; the version of this system stays",
        Why::Tie(Side::One) => "different and equally old; the version of the other system stays",
        Why::Clash(Some(Side::Two)) => "a file against a folder; what this system holds stays",
        Why::Clash(Some(Side::One)) => "a file against a folder; what the other system holds stays",
        Why::Clash(None) => {
            "a file against a folder that holds what may not be touched; left as it is on each"
        }
        Why::Survived => "deleted on one system, changed on the other; the change stays",
        Why::Younger => "different at the first meeting; the younger stays",
        Why::New | Why::Changed | Why::Deleted | Why::Restored | Why::Bits | Why::Agreed => "decided",
    }
}

#[cfg(test)]
mod tests {
    use super::super::itemize::tests::{file, folder, item, link, put};
    use super::*;
    use crate::session::progress::Totals;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).expect("a path")
    }

    fn ended(report: &Report, outcome: &Outcome) -> (String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        report.summary(outcome, Duration::from_millis(1500), &mut out, &mut err).expect("written");
        (String::from_utf8(out).expect("text"), String::from_utf8(err).expect("text"))
    }

    fn problem(side: Side, name: &str, kind: ProblemKind) -> Problem {
        Problem { side, path: path(name), text: "cannot read: Permission denied".into(), kind }
    }

    #[test]
    fn an_undisturbed_run_is_one_line() {
        let report = Report::new(ReportOptions::default());
        let outcome = Outcome { entries: 1234, bytes: 5_600_000, ..Outcome::default() };
        let quiet = ended(&report, &outcome);
        assert_eq!(quiet, ("in sync: nothing to do (1,234 entries, 5.6 MB); 1.5 s\n".into(), String::new()));
        let totals = Totals { send_files: 1, send_bytes: 10, receive_files: 2, receive_bytes: 2000 };
        let outcome = Outcome { totals, deleted: (0, 3), moved: 4, ..outcome };
        let text = "in sync: sent 1 file (10 B), received 2 files (2.0 kB), moved or copied in place 4, deleted 3 here; 1.5 s\n";
        assert_eq!(ended(&report, &outcome).0, text);
    }

    #[test]
    fn what_was_left_is_named_with_what_to_do() {
        let problems =
            vec![problem(Side::One, "a", ProblemKind::Failed), problem(Side::Two, "b", ProblemKind::Changed)];
        let outcome = Outcome { problems, skipped: 1, ..Outcome::default() };
        let (out, err) = ended(&Report::new(ReportOptions::default()), &outcome);
        assert_eq!(
            err,
            "syncfiles: a on the other system: cannot read: Permission denied\n\
             syncfiles: b: cannot read: Permission denied\n\
             syncfiles: 1 path failed: put right what is named above and run again\n\
             syncfiles: 1 path changed during the run and were left: run again\n\
             syncfiles: 1 conflict left: decide with --conflict newer, local, remote or keep-both\n"
        );
        assert_eq!(out, "not in sync yet: conflicts left: 1, 2 paths not settled; 1.5 s\n");
    }

    #[test]
    fn conflicts_are_listed_up_to_a_screen_and_say_where_the_losers_are() {
        let mut report = Report::new(ReportOptions { history: true, ..ReportOptions::default() });
        (0..22).for_each(|n| report.conflict(&path(&format!("f{n}")), Why::Conflict(Some(Side::One))));
        let (out, err) = ended(&report, &Outcome { conflicts: 22, ..Outcome::default() });
        assert!(
            out.starts_with(
                "conflicts:\n  f0: changed on both systems; the version of the other one stays\n"
            )
        );
        assert!(out.contains("  and 2 more (-v lists them all)\n  what lost is in history"), "{out}");
        assert!(out.ends_with("in sync: conflicts decided: 22; 1.5 s\n"), "{out}");
        assert_eq!(err, "");
    }

    #[test]
    fn suppressed_changes_are_not_called_in_sync_and_a_dry_run_says_so() {
        let report = Report::new(ReportOptions::default());
        let outcome = Outcome { suppressed: 2, ..Outcome::default() };
        let text =
            "done, the sides still differ: left out 2 (by --pull, --push or what the server allows); 1.5 s\n";
        assert_eq!(ended(&report, &outcome).0, text);
        let dry = Report::new(ReportOptions { dry_run: true, ..ReportOptions::default() });
        let totals = Totals { send_files: 1, send_bytes: 5, ..Totals::default() };
        let would = ended(&dry, &Outcome { totals, ..outcome }).0;
        assert!(
            would.starts_with("dry run, nothing was changed: to send 1 file (5 B), left out 2"),
            "{would}"
        );
    }

    #[test]
    fn quiet_prints_errors_only_and_stats_print_totals() {
        let quiet = Report::new(ReportOptions { quiet: true, stats: true, ..ReportOptions::default() });
        let outcome = Outcome { skipped: 1, wire: (1_234_567, 0), ..Outcome::default() };
        let (out, err) = ended(&quiet, &outcome);
        assert_eq!((out.as_str(), err.lines().count()), ("", 1));
        let stats = Report::new(ReportOptions { stats: true, ..ReportOptions::default() });
        let (out, _) = ended(&stats, &outcome);
        assert!(out.contains("Sent on the wire: 1.2 MB (1,234,567 bytes)\n"), "{out}");
        assert!(out.contains("Conflicts left: 1\n"), "{out}");
    }

    #[test]
    fn names_and_itemized_changes_are_a_line_a_side() {
        let items = [
            item(b"d", Side::Two, None, put(folder())),
            item(b"d/new", Side::One, None, put(file("x", 0o644, 1))),
            item(b"l\x1b", Side::Two, None, put(link("t\n"))),
            item(b"old", Side::Two, Some(file("x", 0o644, 1)), Act::Remove),
            item(b"same", Side::Two, Some(file("x", 0o644, 1)), Act::Nothing),
        ];
        let told = |options| {
            let mut report = Report::new(options);
            let mut out = Vec::new();
            items.iter().for_each(|item| report.item(item, &mut out).expect("written"));
            String::from_utf8(out).expect("text")
        };
        let marks = told(ReportOptions { itemize: true, names: true, ..ReportOptions::default() });
        assert_eq!(marks, "cd+++++++++ d/\n<f+++++++++ d/new\ncL+++++++++ l\\x1b -> t\\n\n*deleting   old\n");
        let names = told(ReportOptions { names: true, ..ReportOptions::default() });
        assert_eq!(names, "receive d/\nsend d/new\nreceive l\\x1b -> t\\n\ndelete here old\n");
        assert_eq!(told(ReportOptions::default()), "");
    }
}
