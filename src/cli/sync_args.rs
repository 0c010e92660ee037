//! The options of a sync (and of `verify`, which is a sync that only looks).

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, ArgMatches, Args, ValueEnum};

use super::address::{Pair, Root};
use super::amount::{Keep, Limit, Units, parse_count, parse_keep, parse_rate, parse_seconds};
use super::args::{Usage, is_command, root};
use crate::core::policy::{ConflictPolicy, May, Policy};
use crate::core::side::Sides;

/// A sync as asked for.
#[derive(Clone, Debug)]
pub struct SyncArgs {
    /// The two roots in their roles.
    pub pair: Pair,
    /// Patterns in the order in which they were typed; the last that matches a path decides.
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

/// What is decided.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "What is decided")]
pub struct DecideArgs {
    /// Print the plan, change nothing on either side
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Let deletions travel (what goes is kept in history)
    #[arg(long)]
    pub delete: bool,
    /// Stop before deleting more than this [default: 50%]
    #[arg(long, value_name = "N|N%", value_parser = parse_count)]
    pub max_delete: Option<Limit>,
    /// Who wins where both sides changed a path [default: newer]
    #[arg(long, value_name = "POLICY", value_enum, hide_possible_values = true)]
    #[arg(help = "Where both changed: newer (default), local, remote, keep-both or skip")]
    pub conflict: Option<Conflict>,
    /// Change this side only
    #[arg(long, conflicts_with = "push")]
    pub pull: bool,
    /// Change the other side only
    #[arg(long)]
    pub push: bool,
    /// With --pull or --push: make that side equal to the other
    #[arg(long)]
    pub mirror: bool,
    /// Accept a root that is not the one it was, as a first meeting
    #[arg(long)]
    pub new_root: bool,
    /// How long displaced versions are kept, and their room
    #[arg(long, value_name = "AGE[,SIZE|N%]", value_parser = parse_keep, conflicts_with = "no_history")]
    #[arg(help = "Keep displaced versions this long, in this room [default: 30d,10%]")]
    pub keep_history: Option<Keep>,
    /// Keep no displaced versions
    #[arg(long)]
    pub no_history: bool,
    /// Keep the folders in sync until interrupted
    #[arg(long, conflicts_with = "dry_run")]
    pub watch: bool,
}

/// What is compared.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "What is compared")]
pub struct CompareArgs {
    /// Do not trust the index: hash everything again
    #[arg(short = 'c', long)]
    pub checksum: bool,
    #[arg(long, value_name = "PATTERN", action = ArgAction::Append)]
    #[arg(help = "Leave out what matches, on both sides (gitignore patterns; also from .syncignore)")]
    exclude: Vec<OsString>,
    #[arg(long, value_name = "PATTERN", action = ArgAction::Append)]
    #[arg(help = "Take in what an earlier pattern left out")]
    include: Vec<OsString>,
    #[arg(long, value_name = "FILE", action = ArgAction::Append)]
    #[arg(help = "Read patterns from a file")]
    exclude_from: Vec<PathBuf>,
}

/// What is printed.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "What is printed")]
pub struct ShowArgs {
    /// Name what changes
    #[arg(short = 'v', long, action = ArgAction::Count)]
    pub verbose: u8,
    /// Print errors only
    #[arg(short = 'q', long, conflicts_with_all = ["verbose", "itemize_changes", "json"])]
    pub quiet: bool,
    /// One line a change: `<` sent, `>` received, `*deleting`
    #[arg(short = 'i', long)]
    pub itemize_changes: bool,
    /// Bars on a terminal, else plain lines; or =auto, =bar, =plain, =json, =none
    #[arg(short = 'P', long, value_name = "HOW", value_enum, hide_possible_values = true)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "auto")]
    pub progress: Option<ProgressKind>,
    /// Totals at the end
    #[arg(long)]
    pub stats: bool,
    /// One JSON object a line on stdout
    #[arg(long)]
    pub json: bool,
    #[arg(short = 'h', long = "human-readable", action = ArgAction::Count)]
    #[arg(help = "Sizes in units of 1000 (the default); -hh: of 1024")]
    human: u8,
}

/// How the other system is reached.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "How the other system is reached")]
pub struct ConnectArgs {
    /// The port where its server listens [default: 2222]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// The private key to log in with
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Where host keys are remembered [default: ~/.ssh/known_hosts]
    #[arg(long, value_name = "FILE")]
    pub known_hosts: Option<PathBuf>,
    /// Trust a host met for the first time without asking
    #[arg(long)]
    pub accept_new: bool,
    /// Reach it through this ssh command instead
    #[arg(short = 'e', long, value_name = "CMD")]
    pub rsh: Option<OsString>,
    /// With -e: syncfiles over there
    #[arg(long, value_name = "PROG", requires = "rsh")]
    pub remote_path: Option<OsString>,
    /// Give up after so many seconds of silence (0: never)
    #[arg(long, value_name = "S", value_parser = parse_seconds)]
    pub timeout: Option<Duration>,
    /// Connect again so many times, and resume
    #[arg(long, value_name = "N")]
    pub retries: Option<u32>,
    /// Bytes a second at most; without a unit, KiB
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub bwlimit: Option<u64>,
    /// Compress: auto (default), always (plain -z), never
    #[arg(short = 'z', long, value_name = "WHEN", value_enum, hide_possible_values = true)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "always")]
    pub compress: Option<Compress>,
}

/// What rsync's users type without thinking: always on here, or refused by name.
#[derive(Args, Clone, Debug, Default)]
#[rustfmt::skip]
struct RsyncHabits {
    #[arg(short = 'a', long, hide = true, action = ArgAction::Count)] archive: u8,
    #[arg(short = 'r', long, hide = true, action = ArgAction::Count)] recursive: u8,
    #[arg(short = 'l', long, hide = true, action = ArgAction::Count)] links: u8,
    #[arg(short = 'p', long, hide = true, action = ArgAction::Count)] perms: u8,
    #[arg(short = 't', long, hide = true, action = ArgAction::Count)] times: u8,
    #[arg(short = 'u', long, hide = true, action = ArgAction::Count)] update: u8,
    #[arg(short = 'x', long, hide = true, action = ArgAction::Count)] one_file_system: u8,
    #[arg(long, hide = true, action = ArgAction::Count)] partial: u8,
    #[arg(short = 'H', long, hide = true, action = ArgAction::Count)] hard_links: u8,
    #[arg(short = 'A', long, hide = true, action = ArgAction::Count)] acls: u8,
    #[arg(short = 'X', long, hide = true, action = ArgAction::Count)] xattrs: u8,
    #[arg(short = 'S', long, hide = true, action = ArgAction::Count)] sparse: u8,
    #[arg(short = 'o', long, hide = true, action = ArgAction::Count)] owner: u8,
    #[arg(short = 'g', long, hide = true, action = ArgAction::Count)] group: u8,
    #[arg(short = 'D', long, hide = true, action = ArgAction::Count)] devices: u8,
}

impl RsyncHabits {
    fn check(&self) -> Result<(), Usage> {
        let refused = [
            (self.hard_links, "-H (--hard-links)", "hard links are copied as files of their own"),
            (self.acls, "-A (--acls)", "access control lists are not synchronised"),
            (self.xattrs, "-X (--xattrs)", "extended attributes are not synchronised"),
            (self.sparse, "-S (--sparse)", "holes are not kept"),
            (self.owner, "-o (--owner)", "files belong to the user who runs syncfiles"),
            (self.group, "-g (--group)", "files belong to the group of the user who runs syncfiles"),
            (self.devices, "-D (--devices)", "devices, sockets and fifos are never touched"),
        ];
        match refused.iter().find(|(count, ..)| *count > 0) {
            None => Ok(()),
            Some((_, option, instead)) => {
                Err(Usage::Wrong(format!("{option} is not supported: {instead}; leave it out")))
            }
        }
    }
}

/// `--conflict`: who wins when both sides changed a path.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Conflict {
    /// The younger.
    #[default]
    Newer,
    /// This system's (of two local roots: TARGET's).
    Local,
    /// The other system's (of two local roots: SOURCE's).
    Remote,
    /// Both stay, the older under another name.
    KeepBoth,
    /// Neither; it is reported.
    Skip,
}

/// `--progress`.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProgressKind {
    /// Bars on a terminal, plain lines elsewhere, objects with `--json`.
    Auto,
    /// Bars, wherever stderr goes.
    Bar,
    /// Lines at intervals on stderr, without control codes.
    Plain,
    /// Objects on stdout, with `--json`.
    Json,
    /// Nothing.
    None,
}

/// `--compress`.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Compress {
    /// Where it pays.
    #[default]
    Auto,
    /// Every file.
    Always,
    /// No file.
    Never,
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

impl VerifyArgs {
    pub(super) fn check(options: VerifyOptions, matches: &ArgMatches) -> Result<VerifyArgs, Usage> {
        options.habits.check()?;
        options.show.check()?;
        let pair = pair(&options.source, &options.target, &options.connect)?;
        Ok(VerifyArgs { pair, filters: filters(matches), options })
    }
}

impl ShowArgs {
    fn check(&self) -> Result<(), Usage> {
        if self.progress == Some(ProgressKind::Json) && !self.json {
            return Err(Usage::Wrong("--progress=json needs --json, which makes all of stdout JSON".into()));
        }
        Ok(())
    }

    /// The units in which sizes are shown.
    pub fn units(&self) -> Units {
        if self.human > 1 { Units::Binary } else { Units::Decimal }
    }
}

impl From<Conflict> for ConflictPolicy {
    fn from(conflict: Conflict) -> ConflictPolicy {
        match conflict {
            Conflict::Newer => ConflictPolicy::Newer,
            Conflict::Local => ConflictPolicy::Two,
            Conflict::Remote => ConflictPolicy::One,
            Conflict::KeepBoth => ConflictPolicy::KeepBoth,
            Conflict::Skip => ConflictPolicy::Skip,
        }
    }
}

/// The roots in their roles, `--port` applied where the address has none.
fn pair(source: &Option<Root>, target: &Option<Root>, connect: &ConnectArgs) -> Result<Pair, Usage> {
    let (Some(source), Some(target)) = (source.clone(), target.clone()) else {
        return Err(Usage::Wrong("name two folders: SOURCE and TARGET".into()));
    };
    if is_command(&source) {
        let text =
            format!("`{source}` is a command and comes first; a folder called that is written ./{source}");
        return Err(Usage::Wrong(text));
    }
    let mut pair = Pair::of(source, target).map_err(|error| Usage::Wrong(error.to_string()))?;
    if let Root::Remote(remote) = &mut pair.one {
        remote.port = remote.port.or(connect.port);
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
