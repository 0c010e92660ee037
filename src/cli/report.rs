//! What people read: a line a change if they asked for it, and at the end what was done, what was left, and what
//! to do about it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use super::amount::{Units, bytes, count, digits, took};
use super::error::printable;
use super::exit::ExitCode;
use super::itemize::itemize;
use crate::core::path::RelPath;
use crate::core::plan::{Act, Item, Source, Why};
use crate::core::shown::Shown;
use crate::core::side::Side;
use crate::core::version::{Content, Version};
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

/// How many folders, links and permission bits were put.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Small {
    folders: u64,
    links: u64,
    bits: u64,
}

/// Collects what a run tells and says it to people.
#[derive(Debug)]
pub struct Report {
    options: ReportOptions,
    conflicts: Vec<(RelPath, Why)>,
    more_conflicts: u64,
    /// The names under which losers of conflicts are kept, by the path that they lost.
    beside: BTreeMap<RelPath, RelPath>,
    /// Versions that lost a conflict and were replaced or removed, and those of them that are kept beside the winner.
    lost: (u64, u64),
    /// Items that need no file to travel.
    small: Small,
    /// A watch has told of its first round.
    begun: bool,
}

impl Report {
    /// A report of nothing yet.
    pub fn new(options: ReportOptions) -> Report {
        Report {
            options,
            conflicts: Vec::new(),
            more_conflicts: 0,
            beside: BTreeMap::new(),
            lost: (0, 0),
            small: Small::default(),
            begun: false,
        }
    }

    /// An item was carried out: a line for each side that did something, if names are wanted.
    pub fn item(&mut self, item: &Item, out: &mut dyn Write) -> io::Result<()> {
        self.settled(item);
        for side in [Side::Two, Side::One] {
            let act = item.act.of(side);
            match act {
                Act::Put { version, .. } => match version.content {
                    Content::File { .. } => {}
                    Content::Folder => self.small.folders += 1,
                    Content::Link { .. } => self.small.links += 1,
                },
                Act::SetBits(_) => self.small.bits += 1,
                Act::Nothing | Act::Remove => {}
            }
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

    /// Takes in what became of the loser, if the item is of a conflict.
    fn settled(&mut self, item: &Item) {
        let acts = [Side::Two, Side::One].map(|side| (item.act.of(side), item.saw.of(side).version()));
        match item.why {
            Why::Conflict(_) | Why::Tie(_) | Why::Clash(_) => {
                let lost = |(act, saw): &&(&Act, Option<&Version>)| {
                    saw.is_some() && matches!(act, Act::Put { .. } | Act::Remove)
                };
                self.lost.0 += acts.iter().filter(lost).count() as u64;
            }
            Why::Kept => {
                self.lost.1 += 1;
                let from = acts.iter().find_map(|(act, _)| match act {
                    Act::Put { from: Source::Own(path) | Source::PeerAt(path), .. } => Some(path),
                    _ => None,
                });
                if let Some(path) = from
                    && (self.beside.len() < LISTED || self.options.names)
                {
                    self.beside.insert(path.clone(), item.path.clone());
                }
            }
            _ => {}
        }
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

    /// A round of a watch has ended: a line if something happened, or if it was the first.
    pub fn round(&mut self, outcome: &Outcome, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<()> {
        self.problems(&outcome.problems, err)?;
        let first = !std::mem::replace(&mut self.begun, true);
        let happened = outcome.changed || !self.conflicts.is_empty();
        if !self.options.quiet && (first || happened) {
            self.list_conflicts(out)?;
            let done = self.done(outcome).join(", ");
            match (first, done.is_empty()) {
                (true, true) => writeln!(out, "in sync, watching")?,
                (true, false) => writeln!(out, "in sync: {done}; watching")?,
                (false, _) => writeln!(out, "{done}")?,
            }
        }
        (self.small, self.more_conflicts, self.lost) = (Small::default(), 0, (0, 0));
        self.conflicts.clear();
        self.beside.clear();
        Ok(())
    }

    /// A watch was interrupted.
    pub fn watched(&self, outcome: &Outcome, elapsed: Duration, out: &mut dyn Write) -> io::Result<()> {
        if self.options.quiet {
            return Ok(());
        }
        if self.options.stats {
            self.stats(outcome, elapsed, out)?;
        }
        let done = self.done(outcome);
        let done = if done.is_empty() { "nothing had to be done".to_owned() } else { done.join(", ") };
        writeln!(out, "stopped watching: {done}; {}", took(elapsed))
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
            (self.small.folders > 0).then(|| count(self.small.folders, "folder", "folders")),
            (self.small.links > 0).then(|| count(self.small.links, "link", "links")),
            (self.small.bits > 0).then(|| count(self.small.bits, "change", "changes") + " of permissions"),
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
            match self.beside.get(path) {
                None => writeln!(out, "  {path}: {}", explained(*why))?,
                Some(beside) => {
                    writeln!(out, "  {path}: {}, what lost is kept as {beside}", explained(*why))?
                }
            }
        }
        if self.more_conflicts > 0 {
            writeln!(out, "  and {} more (-v lists them all)", digits(self.more_conflicts))?;
        }
        // A loser that is kept beside the winner is nothing to look for.
        if self.options.history && !self.options.dry_run && self.lost.0 > self.lost.1 {
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
            writeln!(err, "syncfiles: {paths} changed during the run, left as found: run again")?;
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
        Why::New | Why::Changed | Why::Deleted | Why::Restored | Why::Kept | Why::Bits | Why::Agreed => {
            "decided"
        }
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
