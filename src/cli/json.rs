//! `--json`: one object a line on stdout. The schema is `docs/json.md`; a change that breaks a reader raises
//! [`SCHEMA`].

use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::exit::ExitCode;
use super::itemize::itemize;
use super::meter::{Phase, Sample};
use crate::core::path::RelPath;
use crate::core::plan::{Act, Item, Source, Why};
use crate::core::shown::Shown;
use crate::core::side::Side;
use crate::core::version::Content;
use crate::session::progress::{Outcome, Problem, ProblemKind};

/// The version of the schema, in every `start`.
pub const SCHEMA: u32 = 1;

/// One line.
#[derive(Serialize, Clone, Debug)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line<'a> {
    /// The first line of a run.
    Start {
        /// [`SCHEMA`].
        schema: u32,
        /// Of the program.
        version: &'a str,
        /// System 1's root, as typed.
        there: &'a str,
        /// System 2's root, as typed.
        here: &'a str,
        /// Nothing will be changed.
        dry_run: bool,
    },
    /// An item of the plan was carried out, or in a dry run would be.
    Item {
        /// Where.
        #[serde(flatten)]
        path: PathFields,
        /// Why it is in the plan.
        why: &'a str,
        /// What this system does.
        here: Option<Box<ActFields>>,
        /// What the other system does.
        there: Option<Box<ActFields>>,
        /// Sides whose act was decided and then left out.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        suppressed: Vec<&'a str>,
    },
    /// Two versions met and a decision displaced or skipped one.
    Conflict {
        /// Where.
        #[serde(flatten)]
        path: PathFields,
        /// As in `item`.
        why: &'a str,
        /// Whose version stays, where the decision says so.
        winner: Option<&'a str>,
    },
    /// A path that could not be settled.
    Problem {
        /// Where; empty for a whole root.
        #[serde(flatten)]
        path: PathFields,
        /// On which side.
        side: &'a str,
        /// `failed` or `changed`.
        kind: &'a str,
        /// The act, the cause and what to do.
        text: &'a str,
    },
    /// Worth knowing, no problem.
    Notice {
        /// One line.
        text: &'a str,
    },
    /// A round of a watch has ended.
    Round(Box<Counts>),
    /// How far the run is.
    Progress(ProgressFields),
    /// The last line of a run.
    Summary(Box<SummaryFields<'a>>),
}

/// A path; `path_bytes` only where the name is not UTF-8 (then `path` is for people).
#[derive(Serialize, Clone, Debug)]
pub struct PathFields {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
}

/// What one side does.
#[derive(Serialize, Clone, Debug)]
pub struct ActFields {
    act: &'static str,
    itemize: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'static str>,
}

/// How far a run is.
#[derive(Serialize, Clone, Debug)]
pub struct ProgressFields {
    phase: &'static str,
    entries: u64,
    files: u64,
    files_total: u64,
    bytes: u64,
    bytes_total: u64,
    bytes_per_second: u64,
    seconds: f64,
    seconds_left: Option<f64>,
}

/// How a run ended; the numbers are absent if it did not come to its end.
#[derive(Serialize, Clone, Debug)]
pub struct SummaryFields<'a> {
    exit_code: u8,
    in_sync: bool,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(flatten)]
    counts: Option<Counts>,
}

/// What a run, or a round of a watch, did.
#[derive(Serialize, Clone, Debug)]
pub struct Counts {
    changed: bool,
    entries: u64,
    bytes: u64,
    files_sent: u64,
    bytes_sent: u64,
    files_received: u64,
    bytes_received: u64,
    deleted_here: u64,
    deleted_there: u64,
    moved: u64,
    conflicts: u64,
    skipped: u64,
    suppressed: u64,
    problems: usize,
    wire_sent: u64,
    wire_received: u64,
}

impl Counts {
    fn of(outcome: &Outcome) -> Counts {
        Counts {
            changed: outcome.changed,
            entries: outcome.entries,
            bytes: outcome.bytes,
            files_sent: outcome.totals.send_files,
            bytes_sent: outcome.totals.send_bytes,
            files_received: outcome.totals.receive_files,
            bytes_received: outcome.totals.receive_bytes,
            deleted_here: outcome.deleted.1,
            deleted_there: outcome.deleted.0,
            moved: outcome.moved,
            conflicts: outcome.conflicts,
            skipped: outcome.skipped,
            suppressed: outcome.suppressed,
            problems: outcome.problems.len(),
            wire_sent: outcome.wire.0,
            wire_received: outcome.wire.1,
        }
    }
}

impl<'a> Line<'a> {
    /// An `item`.
    pub fn item(item: &Item) -> Line<'static> {
        let suppressed = [Side::Two, Side::One].into_iter().filter(|side| *item.suppressed.of(*side));
        Line::Item {
            path: PathFields::of(&item.path),
            why: why(item.why),
            here: ActFields::of(item, Side::Two).map(Box::new),
            there: ActFields::of(item, Side::One).map(Box::new),
            suppressed: suppressed.map(place).collect(),
        }
    }

    /// A `conflict`.
    pub fn conflict(path: &RelPath, how: Why) -> Line<'static> {
        Line::Conflict { path: PathFields::of(path), why: why(how), winner: winner(how).map(place) }
    }

    /// A `problem`.
    pub fn problem(problem: &'a Problem) -> Line<'a> {
        let kind = match problem.kind {
            ProblemKind::Failed => "failed",
            ProblemKind::Changed => "changed",
        };
        Line::Problem {
            path: PathFields::of(&problem.path),
            side: place(problem.side),
            kind,
            text: &problem.text,
        }
    }

    /// A `progress`.
    pub fn progress(sample: &Sample) -> Line<'static> {
        let phase = match sample.phase {
            Phase::Connect => "connect",
            Phase::Scan => "scan",
            Phase::Transfer => "transfer",
            Phase::Commit => "commit",
        };
        Line::Progress(ProgressFields {
            phase,
            entries: sample.entries,
            files: sample.files.0,
            files_total: sample.files.1,
            bytes: sample.bytes.0,
            bytes_total: sample.bytes.1,
            bytes_per_second: sample.rate(),
            seconds: millis(sample.elapsed),
            seconds_left: sample.left().map(millis),
        })
    }

    /// A `round`.
    pub fn round(outcome: &Outcome) -> Line<'static> {
        Line::Round(Box::new(Counts::of(outcome)))
    }

    /// The `summary` of a run that came to its end.
    pub fn summary(outcome: &Outcome, code: ExitCode, elapsed: Duration) -> Line<'static> {
        let in_sync = code == ExitCode::InSync && outcome.suppressed == 0;
        let (exit_code, seconds) = (code.number(), millis(elapsed));
        let counts = Some(Counts::of(outcome));
        Line::Summary(Box::new(SummaryFields { exit_code, in_sync, seconds, error: None, counts }))
    }

    /// The `summary` of a run that was stopped by an error.
    pub fn stopped(error: &'a str, code: ExitCode, elapsed: Duration) -> Line<'a> {
        let (exit_code, seconds) = (code.number(), millis(elapsed));
        Line::Summary(Box::new(SummaryFields {
            exit_code,
            in_sync: false,
            seconds,
            error: Some(error),
            counts: None,
        }))
    }

    /// Writes it with its newline. Everything beyond ASCII is escaped, so no name can act on a terminal.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut line = Vec::new();
        self.serialize(&mut serde_json::Serializer::with_formatter(&mut line, Ascii))?;
        line.push(b'\n');
        out.write_all(&line)
    }
}

/// Compact JSON in ASCII only.
struct Ascii;

impl serde_json::ser::Formatter for Ascii {
    fn write_string_fragment<W: Write + ?Sized>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        for c in fragment.chars() {
            if c.is_ascii() && !c.is_ascii_control() {
                out.write_all(&[c as u8])?;
            } else {
                c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(out, "\\u{unit:04x}"))?;
            }
        }
        Ok(())
    }
}

impl PathFields {
    fn of(path: &RelPath) -> PathFields {
        let bytes = path.as_bytes();
        match std::str::from_utf8(bytes) {
            Ok(text) => PathFields { path: text.to_owned(), path_bytes: None },
            Err(_) => {
                let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                PathFields { path: Shown(bytes).to_string(), path_bytes: Some(hex) }
            }
        }
    }
}

impl ActFields {
    fn of(item: &Item, side: Side) -> Option<ActFields> {
        let mut fields = ActFields {
            act: "remove",
            itemize: itemize(item, side)?,
            kind: None,
            size: None,
            sha256: None,
            mode: None,
            from: None,
        };
        match item.act.of(side) {
            Act::Nothing => return None,
            Act::Remove => {}
            Act::SetBits(bits) => (fields.act, fields.mode) = ("bits", Some(bits.mode())),
            Act::Put { version, from } => {
                fields.act = "put";
                fields.mode = Some(version.bits.mode());
                fields.from = Some(if matches!(from, Source::Own(_)) { "own" } else { "peer" });
                fields.kind = Some(match &version.content {
                    Content::File { size, sha256 } => {
                        (fields.size, fields.sha256) = (Some(*size), sha256.map(|digest| digest.to_string()));
                        "file"
                    }
                    Content::Link { .. } => "link",
                    Content::Folder => "folder",
                });
            }
        }
        Some(fields)
    }
}

fn millis(span: Duration) -> f64 {
    span.as_millis() as f64 / 1000.0
}

fn place(side: Side) -> &'static str {
    match side {
        Side::One => "there",
        Side::Two => "here",
    }
}

fn winner(why: Why) -> Option<Side> {
    match why {
        Why::Conflict(side) | Why::Clash(side) => side,
        Why::Tie(side) => Some(side),
        _ => None,
    }
}

fn why(why: Why) -> &'static str {
    match why {
        Why::New => "new",
        Why::Changed => "changed",
        Why::Younger => "younger",
        Why::Conflict(_) => "conflict",
        Why::Tie(_) => "tie",
        Why::Deleted => "deleted",
        Why::Restored => "restored",
        Why::Survived => "survived",
        Why::Clash(_) => "clash",
        Why::Kept => "kept",
        Why::Bits => "bits",
        Why::Agreed => "agreed",
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
