//! `syncfiles SOURCE TARGET`.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::road::Road;
use super::{Stop, interrupted, places, runtime, shut_down, watch};
use crate::cli::address::{Pair, Root};
use crate::cli::amount::{Keep, Limit};
use crate::cli::args::similar_command;
use crate::cli::exit::ExitCode;
use crate::cli::options::ShowArgs;
use crate::cli::progress::{End, Mode, Screen, Setup};
use crate::cli::report::ReportOptions;
use crate::cli::sync_args::{Filter, SyncArgs};
use crate::core::guard::MaxDelete;
use crate::core::path::RelPath;
use crate::core::shown::Shown;
use crate::replica::filter::{Choice, Rules};
use crate::session::progress::{Outcome, Progress};
use crate::session::{
    Export, Exports, Local, Opening, Options, Remote, SessionError, Way, blocking, sync, sync_together,
};

/// How long the other end may be silent, and how long a run waits for another one of its root, when the user set no
/// `--timeout`.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Syncs, and shows it.
pub(crate) fn run(args: &SyncArgs) -> Result<ExitCode, Stop> {
    let options = options(args)?;
    let decide = &args.options.decide;
    let report = ReportOptions {
        history: !decide.no_history,
        dry_run: decide.dry_run,
        ..report_options(&args.options.show)
    };
    let connect = &args.options.connect;
    let source = match &args.pair.one {
        Root::Local(path) => {
            apart(path, &args.pair.two)?;
            Source::Folder(path.clone().into())
        }
        Root::Remote(root) => {
            let road = Road::prepare(root, connect)?;
            Source::Server(road.remote(root), road)
        }
    };
    let screen = screen(&args.options.show, report, &args.pair)?;
    if decide.watch {
        return watch::run(source, &args.pair, &options, &screen);
    }
    let ended = sync_shown(source, &args.pair, &options, screen.clone());
    finish(&screen, ended.map_err(|stop| meant(&args.pair.one, stop)))
}

/// A folder that is not there may be a mistyped command.
fn meant(one: &Root, mut stop: Stop) -> Stop {
    if let (Root::Local(path), Some(command)) = (one, similar_command(one))
        && stop.code == ExitCode::Root
        && !Path::new(path).exists()
    {
        stop.line.push_str(&format!(" (did you mean the command `{command}`?)"));
    }
    stop
}

/// Where System 1 is.
pub(crate) enum Source {
    Folder(Box<Path>),
    Server(Remote, Road),
}

/// Runs one sync to its end, or to the user's interruption.
pub(crate) fn sync_shown(
    source: Source,
    pair: &Pair,
    options: &Options,
    progress: Arc<dyn Progress>,
) -> Result<Outcome, Stop> {
    let stop = Stop::new(ExitCode::Interrupted, "interrupted; run it again to go on where it stopped");
    until_interrupted(pair.ends(), stop, async {
        let local = open(pair, options, options.timeout, progress.clone()).await?;
        match source {
            Source::Server(remote, road) => {
                road.listen(progress.clone());
                let ended = sync(async || road.connect().await, local, &remote, options, progress).await;
                road.end().await;
                ended
            }
            Source::Folder(path) => {
                let (exports, remote) = beside(&path, options)?;
                sync_together(exports, local, &remote, options, progress).await
            }
        }
    })
}

/// Runs `work`, with so many ends of a carrier, to its end, or to the user's interruption, which is `stop`.
pub(super) fn until_interrupted<T>(
    ends: usize,
    stop: Stop,
    work: impl Future<Output = Result<T, SessionError>>,
) -> Result<T, Stop> {
    let runtime = runtime(ends)?;
    let ended = runtime.block_on(async {
        tokio::select! {
            biased;
            // First: the same signal may have ended an outer ssh, and that is no lost connection.
            () = interrupted() => Err(stop),
            ended = work => ended.map_err(Stop::from),
        }
    });
    shut_down(runtime);
    ended
}

/// System 2's root. Another run that has it is waited for as long as `patience`.
pub(super) async fn open(
    pair: &Pair,
    options: &Options,
    patience: Duration,
    progress: Arc<dyn Progress>,
) -> Result<Arc<Local>, SessionError> {
    let opening = Opening {
        look: options.dry,
        create: pair.one_is_source,
        new_root: options.new_root,
        state_home: options.state_home.clone(),
        exclusive: Some(patience),
    };
    let two = pair.two.clone();
    let opened = blocking(move || Local::open_telling(&two, &RelPath::root(), opening, &*progress));
    opened.await.map(Arc::new)
}

/// The folder at `path` of this system, as System 1.
pub(super) fn beside(path: &Path, options: &Options) -> Result<(Exports, Remote), SessionError> {
    let name = path.display().to_string();
    let path = absolute(path).map_err(|stop| SessionError::Root(stop.line))?;
    let place = format!("folder:{}", path.display());
    let folder = Export { name: "source".into(), path };
    let remote = Remote { export: folder.name.clone(), sub: RelPath::root(), place, name };
    Ok((Exports::new(vec![folder], options.state_home.clone()), remote))
}

/// Takes the bars away, says how it ended, and makes a number of it.
pub(crate) fn finish(screen: &Screen, ended: Result<Outcome, Stop>) -> Result<ExitCode, Stop> {
    let (written, code) = match &ended {
        Ok(outcome) => (screen.finish(End::Outcome(outcome)), ExitCode::of(outcome)),
        Err(stop) => (screen.finish(End::Stopped(&stop.line, stop.code)), stop.code),
    };
    match written {
        Err(error) if code == ExitCode::InSync => Err(Stop::new(
            ExitCode::SomeFailed,
            format_args!("the folders are in sync, but the report could not be written: {error}"),
        )),
        _ => Ok(code),
    }
}

/// What the user sees of a run.
pub(crate) fn screen(show: &ShowArgs, report: ReportOptions, pair: &Pair) -> Result<Arc<Screen>, Stop> {
    let terminal = std::io::stderr().is_terminal();
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let setup = Setup {
        mode: Mode::choose(show.progress, terminal, show.json, show.quiet, colour),
        options: report,
        json: show.json,
        there: &pair.one.to_string(),
        here: &pair.two.display().to_string(),
    };
    let screen = Screen::start(setup, Box::new(std::io::stdout()), Box::new(std::io::stderr()));
    screen.map(Arc::new).map_err(|error| Stop::root(format_args!("cannot show the run: {error}")))
}

pub(crate) fn report_options(show: &ShowArgs) -> ReportOptions {
    ReportOptions {
        names: show.verbose > 0,
        itemize: show.itemize_changes,
        quiet: show.quiet,
        stats: show.stats,
        units: show.units(),
        ..ReportOptions::default()
    }
}

fn options(args: &SyncArgs) -> Result<Options, Stop> {
    let decide = &args.options.decide;
    let connect = &args.options.connect;
    Ok(Options {
        dry: decide.dry_run,
        checksum: args.options.compare.checksum,
        delete: decide.delete,
        conflict: decide.conflict.unwrap_or_default().into(),
        way: match (decide.pull, decide.push) {
            (true, _) => Way::Pull,
            (_, true) => Way::Push,
            _ => Way::Both,
        },
        mirror: decide.mirror,
        new_root: decide.new_root,
        max_delete: decide.max_delete.map(max_delete).unwrap_or_default(),
        keep: decide.keep_history.map(keep).unwrap_or_default(),
        history: !decide.no_history,
        rules: rules(&args.filters)?,
        compress: connect.compress.unwrap_or_default().into(),
        bwlimit: connect.bwlimit.filter(|rate| *rate > 0),
        retries: connect.retries(),
        timeout: connect.patience().unwrap_or(PATIENCE),
        ..Options::new(places::state_home()?)
    })
}

fn max_delete(limit: Limit) -> MaxDelete {
    match limit {
        Limit::Count(count) => MaxDelete::Count(count),
        Limit::Percent(percent) => MaxDelete::Percent(percent),
    }
}

fn keep(keep: Keep) -> crate::protocol::message::Keep {
    use crate::protocol::message::{Keep as Wanted, Room};
    Wanted {
        days: u32::try_from(keep.age.as_secs() / 86_400).unwrap_or(u32::MAX),
        room: match keep.room {
            Some(Limit::Count(bytes)) => Room::Bytes(bytes),
            Some(Limit::Percent(percent)) => Room::Percent(percent),
            None => Wanted::default().room,
        },
    }
}

/// The exclude options, read: a file of patterns is looked at once, here.
pub(crate) fn rules(filters: &[Filter]) -> Result<Rules, Stop> {
    let text = |pattern: &std::ffi::OsString| {
        pattern
            .to_str()
            .map(str::to_owned)
            .ok_or_else(|| Stop::new(ExitCode::Usage, "a pattern is not UTF-8 text"))
    };
    let mut choices = Vec::new();
    for filter in filters {
        choices.push(match filter {
            Filter::Exclude(pattern) => Choice::Exclude(text(pattern)?),
            Filter::Include(pattern) => Choice::Include(text(pattern)?),
            Filter::ExcludeFrom(file) => {
                let read = std::fs::read_to_string(file);
                let refused = |error| {
                    Stop::new(
                        ExitCode::Usage,
                        format_args!("cannot read the patterns in {}: {error}", file.display()),
                    )
                };
                Choice::ExcludeFrom(read.map_err(refused)?)
            }
        });
    }
    Rules::of_options(&choices).map_err(|error| Stop::new(ExitCode::Usage, error))
}

/// A folder is not synchronised with itself, nor with one inside it: each run would find what the last one copied.
fn apart(one: &Path, two: &Path) -> Result<(), Stop> {
    let (real_one, real_two) = (absolute(one)?, absolute(two)?);
    if !real_one.starts_with(&real_two) && !real_two.starts_with(&real_one) {
        return Ok(());
    }
    let shown = |path: &Path| Shown(path.as_os_str().as_encoded_bytes()).to_string();
    Err(Stop::new(
        ExitCode::Usage,
        format_args!(
            "cannot sync {} with {}: they are one folder, or one is inside the other; name two that are apart",
            shown(one),
            shown(two)
        ),
    ))
}

/// A path as it is remembered.
pub(crate) fn absolute(path: &Path) -> Result<std::path::PathBuf, Stop> {
    crate::session::resolved(path).map_err(|error| {
        Stop::root(format_args!("cannot make sense of the path {}: {error}", path.display()))
    })
}
