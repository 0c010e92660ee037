//! `history`, `restore` and `undo`: what syncs displaced, and the way back.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::sync::absolute;
use super::{Stop, places, printed};
use crate::cli::address::relative;
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
use crate::replica::restore::{Restorer, WayBack};
use crate::replica::root::Root;
use crate::replica::state::State;
use crate::replica::step::Step;

/// A root with its state, outside of a sync.
struct Past {
    root: Root,
    state: State,
    /// The root as it was typed.
    place: PathBuf,
}

impl Past {
    /// Opens a root that has met another; `write` to bring something back.
    fn open(path: &Path, write: bool) -> Result<Past, Stop> {
        let root = Root::open(path).map_err(Stop::root)?;
        let elsewhere = crate::session::Opening::state_elsewhere(&places::state_home()?, &absolute(path)?);
        let there = State::peek(&root).map_err(Stop::root)?;
        let state = match there {
            Some(_) if write => State::open(&root).map(Some),
            Some(state) => Ok(Some(state)),
            None if write && elsewhere.exists() => State::open_at(&elsewhere).map(Some),
            None => State::peek_at(&elsewhere),
        };
        match state.map_err(Stop::root)? {
            Some(state) => Ok(Past { root, state, place: path.to_owned() }),
            None => Err(Stop::root(format_args!(
                "cannot find a history in {}: no sync has run there",
                Shown(path.as_os_str().as_encoded_bytes())
            ))),
        }
    }

    fn versions(&self) -> Result<Vec<Version>, Stop> {
        history::list(&self.state).map_err(Stop::root)
    }

    /// What was typed as a path below the root: as seen from there, or from here, as a shell completes it.
    fn below(&self, typed: &Path, versions: &[Version]) -> Result<RelPath, Stop> {
        let from_root = relative(typed.as_os_str().as_bytes());
        if let (true, Ok(path)) = (typed.is_relative(), &from_root)
            && versions.iter().any(|version| version.path.is_within(path))
        {
            return Ok(path.clone());
        }
        match (below_from_here(&absolute(&self.place)?, typed)?, from_root) {
            (Some(path), _) => Ok(path),
            (None, Ok(path)) if typed.is_relative() => Ok(path),
            (None, _) => Err(Stop::new(
                ExitCode::Usage,
                format_args!(
                    "{} is not below {}: name a path of that folder",
                    shown(typed),
                    shown(&self.place)
                ),
            )),
        }
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

/// The path below `root`, which has no links in it, that `typed` is when it is looked for from the current folder.
fn below_from_here(root: &Path, typed: &Path) -> Result<Option<RelPath>, Stop> {
    // What is asked for may be a link, or gone: only what is above it is followed.
    let full = match (typed.parent(), typed.file_name()) {
        (Some(above), Some(name)) if above.as_os_str().is_empty() => absolute(Path::new("."))?.join(name),
        (Some(above), Some(name)) => absolute(above)?.join(name),
        _ => absolute(typed)?,
    };
    let inside = full.strip_prefix(root).ok();
    Ok(inside.and_then(|inside| relative(inside.as_os_str().as_bytes()).ok()))
}

fn shown(path: &Path) -> Shown<'_> {
    Shown(path.as_os_str().as_bytes())
}

/// `history ROOT [PATH]`: every displaced version, the latest run first, and the space they take.
pub(crate) fn list(args: &HistoryArgs, out: &mut dyn Write) -> Result<ExitCode, Stop> {
    let past = Past::open(&args.root, false)?;
    let mut versions = past.versions()?;
    let within = args.path.as_deref().map_or(Ok(RelPath::root()), |typed| past.below(typed, &versions))?;
    versions.retain(|version| version.path.is_within(&within));
    if args.json {
        return printed(versions.iter().try_for_each(|version| json_line(version, out)));
    }
    if !within.is_root() && versions.is_empty() {
        let root = shown(&args.root);
        return Err(Stop::root(format_args!(
            "nothing at or below {within} is in the history of {root}; `syncfiles history ROOT` lists what is"
        )));
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
    let versions = past.versions()?;
    let paths = args.paths.iter().map(|typed| past.below(typed, &versions)).collect::<Result<Vec<_>, _>>()?;
    let restorer = past.restorer()?;
    let way = restorer.plan_restore(&paths, run).map_err(Stop::root)?;
    go(&restorer, &way, args.dry_run, out)
}

/// `undo ROOT [RUN]`: takes back everything that a run did on this side.
pub(crate) fn undo(args: &UndoArgs, out: &mut dyn Write) -> Result<ExitCode, Stop> {
    let past = Past::open(&args.root, !args.dry_run)?;
    let run = past.run(args.run.as_deref())?;
    let restorer = past.restorer()?;
    let way = restorer.plan_undo(run).map_err(Stop::root)?;
    go(&restorer, &way, args.dry_run, out)
}

/// Takes the way back, or shows it.
fn go(restorer: &Restorer<'_>, way: &WayBack, dry: bool, out: &mut dyn Write) -> Result<ExitCode, Stop> {
    if way.steps.is_empty() && way.left.is_empty() {
        return printed(writeln!(out, "nothing to take back: all of it is as it was before"));
    }
    if dry {
        return printed(preview(way, out));
    }
    report(way, &restorer.perform(way).map_err(Stop::root)?, out)
}

fn preview(way: &WayBack, out: &mut dyn Write) -> io::Result<()> {
    for step in &way.steps {
        writeln!(out, "would {} {}", words(step).0, step.path())?;
    }
    way.left.iter().try_for_each(|path| writeln!(out, "would leave {path}: it was changed since"))
}

fn report(way: &WayBack, results: &[StepResult], out: &mut dyn Write) -> Result<ExitCode, Stop> {
    let mut code = ExitCode::InSync;
    for (at, (path, result)) in results.iter().enumerate() {
        let line = match (result, way.steps.get(at)) {
            (Ok(_), step) => writeln!(out, "{}: {path}", step.map_or("restored", |step| words(step).1)),
            (Err(_), None) => {
                code = code.or_worse(ExitCode::SomeChanged);
                writeln!(out, "left: {path}: it was changed since")
            }
            (Err(error), Some(_)) => {
                let changed = matches!(error, CommitError::Changed | CommitError::ChangedTwice);
                code = code.or_worse(if changed { ExitCode::SomeChanged } else { ExitCode::SomeFailed });
                writeln!(out, "left: {path}: {error}")
            }
        };
        printed(line)?;
    }
    Ok(code)
}

/// What a step does, and what it has done.
fn words(step: &Step) -> (&'static str, &'static str) {
    match step {
        Step::Remove { .. } => ("remove", "removed"),
        Step::Move { .. } => ("move back", "moved back"),
        Step::SetBits { .. } => ("bring back the permissions of", "permissions restored"),
        Step::Put { .. } | Step::MakeFolder { .. } => ("bring back", "restored"),
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::from_parts(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
}
