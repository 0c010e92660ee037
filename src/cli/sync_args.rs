//! The options of a sync (and of `verify`, which is a sync that only looks).

use std::ffi::OsString;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command};

use super::address::{Pair, Root};
use super::args::{Usage, is_command, misplaced, root};
use super::habits::RsyncHabits;
use super::options::{CompareArgs, ConnectArgs, DecideArgs, ShowArgs};
use crate::core::policy::{May, Policy};
use crate::core::side::Sides;

/// A sync as asked for.
#[derive(Clone, Debug)]
pub struct SyncArgs {
    /// The two roots in their roles.
    pub pair: Pair,
    /// Patterns in the order in which they were typed; the first that matches a path decides.
    pub filters: Vec<Filter>,
    /// Everything else.
    pub options: SyncOptions,
}

/// A comparison as asked for.
#[derive(Clone, Debug)]
pub struct VerifyArgs {
    /// The two roots in their roles.
    pub pair: Pair,
    /// As [`SyncArgs::filters`].
    pub filters: Vec<Filter>,
    /// Everything else.
    pub options: VerifyOptions,
}

/// One `--exclude`, `--include` or `--exclude-from`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Filter {
    /// A gitignore pattern: what matches is invisible.
    Exclude(OsString),
    /// A gitignore pattern: what matches is visible after all.
    Include(OsString),
    /// A file of such patterns.
    ExcludeFrom(PathBuf),
}

/// What `sync` understands, before the roots have their roles.
#[derive(Args, Clone, Debug)]
pub struct SyncOptions {
    #[arg(value_name = "SOURCE", value_parser = root(), required = true)]
    #[arg(help = "A folder here or on another system")]
    source: Option<Root>,
    #[arg(value_name = "TARGET", value_parser = root(), required = true)]
    #[arg(help = "The folder to keep the same as SOURCE")]
    target: Option<Root>,
    /// What is decided.
    #[command(flatten)]
    pub decide: DecideArgs,
    /// What is compared.
    #[command(flatten)]
    pub compare: CompareArgs,
    /// What is printed.
    #[command(flatten)]
    pub show: ShowArgs,
    /// How the other system is reached.
    #[command(flatten)]
    pub connect: ConnectArgs,
    #[command(flatten)]
    habits: RsyncHabits,
}

/// What `verify` understands.
#[derive(Args, Clone, Debug)]
pub struct VerifyOptions {
    #[arg(value_name = "SOURCE", value_parser = root(), required = true)]
    #[arg(help = "A folder here or on another system")]
    source: Option<Root>,
    #[arg(value_name = "TARGET", value_parser = root(), required = true)]
    #[arg(help = "The folder to compare with SOURCE")]
    target: Option<Root>,
    /// What is compared.
    #[command(flatten)]
    pub compare: CompareArgs,
    /// What is printed.
    #[command(flatten)]
    pub show: ShowArgs,
    /// How the other system is reached.
    #[command(flatten)]
    pub connect: ConnectArgs,
    #[command(flatten)]
    habits: RsyncHabits,
}

impl SyncArgs {
    pub(super) fn check(options: SyncOptions, matches: &ArgMatches) -> Result<SyncArgs, Usage> {
        options.habits.check()?;
        options.show.check()?;
        let decide = &options.decide;
        if decide.mirror && !decide.pull && !decide.push {
            return Err(Usage::Wrong(
                "--mirror needs --pull or --push: say which side becomes the other".into(),
            ));
        }
        let pair = pair(&options.source, &options.target, &options.connect)?;
        Ok(SyncArgs { pair, filters: filters(matches), options })
    }

    /// The policy that was asked for. The uncertainty is measured later, and the server may allow less.
    pub fn policy(&self) -> Policy {
        let decide = &self.options.decide;
        let may = |write| May { write, delete: write };
        Policy {
            delete: decide.delete,
            conflict: decide.conflict.unwrap_or_default().into(),
            may: Sides { one: may(!decide.pull), two: may(!decide.push) },
            mirror: decide.mirror,
            uncertainty: 0,
        }
    }
}

/// What the groups of options hold that says nothing to a comparison: it prints digests and sends no file.
const NOT_OF_VERIFY: [(&str, &str); 9] = [
    ("verbose", "-v (--verbose)"),
    ("itemize_changes", "-i (--itemize-changes)"),
    ("progress", "-P (--progress)"),
    ("stats", "--stats"),
    ("json", "--json"),
    ("human", "-h (--human-readable)"),
    ("bwlimit", "--bwlimit"),
    ("compress", "-z (--compress)"),
    ("retries", "--retries"),
];

impl VerifyArgs {
    /// Leaves out of the help of `verify` what it refuses.
    pub(super) fn hide(verb: Command) -> Command {
        NOT_OF_VERIFY.iter().fold(verb, |verb, (id, _)| verb.mut_arg(id, |arg| arg.hide(true)))
    }

    pub(super) fn check(options: VerifyOptions, matches: &ArgMatches) -> Result<VerifyArgs, Usage> {
        let typed = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        if let Some((_, option)) = NOT_OF_VERIFY.iter().find(|(id, _)| typed(id)) {
            return Err(Usage::Wrong(format!(
                "{option} means nothing to verify, which prints digests and what differs: leave it out"
            )));
        }
        options.habits.check()?;
        options.show.check()?;
        let pair = pair(&options.source, &options.target, &options.connect)?;
        Ok(VerifyArgs { pair, filters: filters(matches), options })
    }
}

/// The roots in their roles, `--port` applied where the address has none.
fn pair(source: &Option<Root>, target: &Option<Root>, connect: &ConnectArgs) -> Result<Pair, Usage> {
    let (Some(source), Some(target)) = (source.clone(), target.clone()) else {
        return Err(Usage::Wrong("name two folders: SOURCE and TARGET".into()));
    };
    if is_command(&source) {
        return Err(Usage::Wrong(misplaced(&source)));
    }
    let mut pair = Pair::of(source, target).map_err(|error| Usage::Wrong(error.to_string()))?;
    if let Root::Remote(remote) = &mut pair.one {
        remote.port = remote.port.or(connect.port);
        if remote.absolute && connect.rsh.is_none() {
            return Err(Usage::Wrong(format!(
                "`{remote}` is an absolute path: write HOST:FOLDER, where FOLDER is the name that system exports it by, or -e ssh"
            )));
        }
    }
    Ok(pair)
}

/// The patterns in the order in which they were typed, over all three options.
fn filters(matches: &ArgMatches) -> Vec<Filter> {
    let mut found: Vec<(usize, Filter)> = Vec::new();
    let mut take = |id: &str, make: fn(OsString) -> Filter, values: Vec<OsString>| {
        let places = matches.indices_of(id).into_iter().flatten();
        found.extend(places.zip(values.into_iter().map(make)));
    };
    let texts = |id| matches.get_many::<OsString>(id).into_iter().flatten().cloned().collect();
    let files = matches.get_many::<PathBuf>("exclude_from").into_iter().flatten();
    take("exclude", Filter::Exclude, texts("exclude"));
    take("include", Filter::Include, texts("include"));
    take("exclude_from", |file| Filter::ExcludeFrom(file.into()), files.map(|f| f.clone().into()).collect());
    found.sort_by_key(|(place, _)| *place);
    found.into_iter().map(|(_, filter)| filter).collect()
}
