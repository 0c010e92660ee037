//! `history`, `restore` and `undo`: what syncs displaced, and the way back.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Stop, places, printed};
use crate::cli::amount::{Units, bytes, count};
use crate::cli::args::{HistoryArgs, RestoreArgs, UndoArgs};
use crate::cli::exit::ExitCode;
use crate::core::age::{Timestamp, age_at};
use crate::core::path::RelPath;
use crate::core::shown::Shown;
use crate::replica::commit::CommitError;
use crate::replica::history::{self, Version};
use crate::replica::identity::Id;
use crate::replica::perform::StepResult;
use crate::replica::record::Cause;
use crate::replica::restore::Restorer;
use crate::replica::root::Root;
use crate::replica::state::State;

/// A root with its state, outside of a sync.
struct Past {
    root: Root,
    state: State,
}

impl Past {
    /// Opens a root that has met another; `write` to bring something back.
    fn open(path: &Path, write: bool) -> Result<Past, Stop> {
        let root = Root::open(path).map_err(Stop::root)?;
        let elsewhere =
            crate::session::Opening::state_elsewhere(&places::state_home()?, &super::sync::absolute(path)?);
        let there = State::peek(&root).map_err(Stop::root)?;
        let state = match there {
            Some(_) if write => State::open(&root).map(Some),
            Some(state) => Ok(Some(state)),
            None if write && elsewhere.exists() => State::open_at(&elsewhere).map(Some),
            None => State::peek_at(&elsewhere),
        };
        match state.map_err(Stop::root)? {
            Some(state) => Ok(Past { root, state }),
            None => Err(Stop::root(format_args!(
                "cannot find a history in {}: no sync has run there",
                Shown(path.as_os_str().as_encoded_bytes())
            ))),
        }
    }

    fn versions(&self, within: &RelPath) -> Result<Vec<Version>, Stop> {
        let versions = history::list(&self.state).map_err(Stop::root)?;
        Ok(versions.into_iter().filter(|version| version.path.is_within(within)).collect())
    }

    fn restorer(&self) -> Result<Restorer<'_>, Stop> {
        let run = Id::random().map_err(Stop::root)?;
        Ok(Restorer { root: &self.root, state: &self.state, run, now: now() })
    }

    /// The run whose id begins with what was typed.
    fn run(&self, typed: Option<&str>) -> Result<Option<Id>, Stop> {
        let Some(typed) = typed else { return Ok(None) };
        let runs = history::runs(&self.state).map_err(Stop::root)?;
        let mut found = runs.iter().filter(|(id, _)| id.to_string().starts_with(typed));
        match (found.next(), found.next()) {
            (Some((id, _)), None) => Ok(Some(*id)),
            (Some(_), Some(_)) => Err(Stop::new(
                ExitCode::Usage,
                format_args!("more than one run begins with {typed}: type more of it"),
            )),
            (None, _) => Err(Stop::new(
                ExitCode::Usage,
                format_args!("there is no run {typed}; `syncfiles history ROOT` lists them"),
            )),
        }
    }
}

/// `history ROOT [PATH]`: every displaced version, the latest run first, and the space they take.
pub(crate) fn list(args: &HistoryArgs, out: &mut dyn Write) -> Result<ExitCode, Stop> {
    let past = Past::open(&args.root, false)?;
    let versions = past.versions(args.path.as_ref().unwrap_or(&RelPath::root()))?;
    if args.json {
        return printed(versions.iter().try_for_each(|version| json_line(version, out)));
    }
    if args.path.is_some() && versions.is_empty() {
        return Err(Stop::root("nothing of that is in the history"));
    }
    let (size, number) = history::space(&past.state).map_err(Stop::root)?;
    printed(print_versions(&versions, out).and_then(|()| {
        let versions = count(number, "displaced version", "displaced versions");
        writeln!(out, "{versions}, {} on disk", bytes(size, Units::Decimal))
    }))
}

fn print_versions(versions: &[Version], out: &mut dyn Write) -> io::Result<()> {
    let mut run = None;
    for version in versions {
        if run != Some(version.run) {
            run = Some(version.run);
            writeln!(out, "run {:.8}, {}", version.run.to_string(), age_at(version.moment, now()))?;
        }
        let size = bytes(version.was.size, Units::Decimal);
        writeln!(out, "  {:9} {size:>9}  {}", cause(version.cause), version.path)?;
    }
    Ok(())
}

fn json_line(version: &Version, out: &mut dyn Write) -> io::Result<()> {
    let line = serde_json::json!({
        "run": version.run.to_string(),
        "time": version.moment.parts().0,
        "path": version.path.to_string(),
        "cause": cause(version.cause),
        "size": version.was.size,
        "modified": version.was.modified.parts().0,
        "sha256": version.was.sha256.map(|digest| digest.to_string()),
    });
    writeln!(out, "{line}")
}

fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Put => "replaced",
        Cause::Deleted => "deleted",
        Cause::Mirrored => "mirrored",
        Cause::Moved => "moved",
        Cause::Bits => "bits",
        Cause::Restored => "restored",
    }
}

/// `restore ROOT PATH...`: brings versions back as new edits.
pub(crate) fn restore(args: &RestoreArgs, out: &mut dyn Write) -> Result<ExitCode, Stop> {
    let past = Past::open(&args.root, !args.dry_run)?;
    let run = past.run(args.run.as_deref())?;
    let mut code = ExitCode::InSync;
    for path in &args.paths {
        if args.dry_run {
            let of_run =
                past.versions(path)?.into_iter().filter(|version| run.is_none_or(|run| version.run == run));
            preview(&of_run.collect::<Vec<_>>(), out)?;
        } else {
            let results = past.restorer()?.restore(path, run).map_err(Stop::root)?;
            code = code.or_worse(report(&results, "restored", out)?);
        }
    }
    Ok(code)
}

/// `undo ROOT [RUN]`: takes back everything that a run did on this side.
pub(crate) fn undo(args: &UndoArgs, out: &mut dyn Write) -> Result<ExitCode, Stop> {
    let past = Past::open(&args.root, !args.dry_run)?;
    let run = past.run(args.run.as_deref())?;
    if args.dry_run {
        let versions = past.versions(&RelPath::root())?;
        let run = run.or_else(|| versions.first().map(|version| version.run));
        let of_run: Vec<Version> = versions.into_iter().filter(|version| Some(version.run) == run).collect();
        preview(&of_run, out)?;
        return Ok(ExitCode::InSync);
    }
    let results = past.restorer()?.undo(run).map_err(Stop::root)?;
    report(&results, "undone", out)
}

fn preview(versions: &[Version], out: &mut dyn Write) -> Result<(), Stop> {
    printed(versions.iter().try_for_each(|version| writeln!(out, "would come back: {}", version.path)))?;
    if versions.is_empty() { Err(Stop::root("nothing of that is in the history")) } else { Ok(()) }
}

fn report(results: &[StepResult], done: &str, out: &mut dyn Write) -> Result<ExitCode, Stop> {
    if results.is_empty() {
        printed(writeln!(out, "nothing {done}: all of it is as it was before"))?;
    }
    let mut code = ExitCode::InSync;
    for (path, result) in results {
        let line = match result {
            Ok(_) => writeln!(out, "{done}: {path}"),
            Err(error) => {
                let changed = matches!(error, CommitError::Changed | CommitError::ChangedTwice);
                code = code.or_worse(if changed { ExitCode::SomeChanged } else { ExitCode::SomeFailed });
                writeln!(out, "left: {path}: {error}")
            }
        };
        printed(line)?;
    }
    Ok(code)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::from_parts(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
}
