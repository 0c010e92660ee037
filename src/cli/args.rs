//! What was typed, as values: parsed and validated once; nothing later looks at text again.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Args, Command, FromArgMatches, Subcommand};

use super::address::{AddressError, Root};
use super::error::printable;
use super::help::{self, Asked};
use super::serve_args::ServeArgs;
use super::sync_args::{SyncArgs, SyncOptions, VerifyArgs, VerifyOptions};

/// What the program is asked to do.
#[derive(Debug)]
pub enum Invocation {
    /// Synchronise two folders.
    Sync(Box<SyncArgs>),
    /// Be System 1.
    Serve(ServeArgs),
    /// List what syncs displaced.
    History(HistoryArgs),
    /// Bring displaced versions back.
    Restore(RestoreArgs),
    /// Take back everything one run did.
    Undo(UndoArgs),
    /// Compare, change nothing.
    Verify(Box<VerifyArgs>),
    /// Show it all on loopback.
    Demo,
    /// Print a completion script.
    Completions(clap_complete::Shell),
    /// Print the manual page.
    Man,
    /// Print this text on stdout and end with 0 (`--help`, `--version`).
    Print(String),
}

/// Arguments that mean nothing: what to tell the user before ending with exit code 1.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Usage {
    /// One line: what is wrong and what to write instead.
    #[error("{0} (syncfiles -h shows how)")]
    Wrong(String),
    /// Called without any argument: the help text.
    #[error("{0}")]
    Help(String),
}

/// `history`.
#[derive(Args, Clone, Debug)]
pub struct HistoryArgs {
    /// The folder on this system
    #[arg(value_parser = here())]
    pub root: PathBuf,
    /// Only what stood at or below this path, as seen from it or from here
    pub path: Option<PathBuf>,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// `restore`.
#[derive(Args, Clone, Debug)]
pub struct RestoreArgs {
    /// The folder on this system
    #[arg(value_parser = here())]
    pub root: PathBuf,
    /// Paths below it to bring back, as new edits; as seen from it or from here
    #[arg(required = true, num_args = 1..)]
    pub paths: Vec<PathBuf>,
    /// From this run instead of the latest that displaced the path
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Print what would come back
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// `undo`.
#[derive(Args, Clone, Debug)]
pub struct UndoArgs {
    /// The folder on this system
    #[arg(value_parser = here())]
    pub root: PathBuf,
    /// The run to undo; the latest if not named
    pub run: Option<String>,
    /// Print what would be removed, brought back and moved back
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// Be System 1: export folders over the embedded SSH server
    Serve(ServeArgs),
    /// List what syncs displaced from a folder of this system
    History(HistoryArgs),
    /// Bring displaced versions back, as new edits
    Restore(RestoreArgs),
    /// Take back all that one run did here, what it created too; the next --delete sync carries it over
    Undo(UndoArgs),
    /// Compare two folders by SHA-256, change nothing; one digest a side
    Verify(Box<VerifyOptions>),
    /// The whole thing on loopback: two sample folders, a server, a key, a sync
    Demo,
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// Reads the arguments, the program's name first.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, Usage> {
    let arguments = match help::asked(arguments.into_iter().collect(), |name| is_command(&name)) {
        Asked::Screen => return Ok(Invocation::Print(help::SCREEN.to_owned())),
        Asked::Nothing(arguments) => arguments,
    };
    let matches = match command().try_get_matches_from(&arguments) {
        Ok(matches) => matches,
        Err(error) => return stopped(&error, &arguments),
    };
    let wrong = |error: clap::Error| Usage::Wrong(one_line(&error));
    let Some((_, inner)) = matches.subcommand() else {
        let options = SyncOptions::from_arg_matches(&matches).map_err(wrong)?;
        return Ok(Invocation::Sync(Box::new(SyncArgs::check(options, &matches)?)));
    };
    Ok(match Verb::from_arg_matches(&matches).map_err(wrong)? {
        Verb::Serve(args) => Invocation::Serve(args.check()?),
        Verb::History(args) => Invocation::History(args),
        Verb::Restore(args) => Invocation::Restore(args),
        Verb::Undo(args) => Invocation::Undo(args),
        Verb::Verify(options) => Invocation::Verify(Box::new(VerifyArgs::check(*options, inner)?)),
        Verb::Demo => Invocation::Demo,
        Verb::Completions { shell } => Invocation::Completions(shell),
        Verb::Man => Invocation::Man,
    })
}

/// The whole command line, for parsing, completions and the manual page.
pub fn command() -> Command {
    let base = Command::new("syncfiles")
        .bin_name("syncfiles")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_version_flag(true);
    let version = Arg::new("version").short('V').long("version").action(ArgAction::Version);
    // The groups of options bring their own descriptions, so that of the whole comes after them.
    let whole = Verb::augment_subcommands(SyncOptions::augment_args(base))
        .about("Keep a folder on two systems the same. rsync's options are accepted; the meaning is two-way.")
        .override_usage("syncfiles [OPTIONS] SOURCE TARGET\n       syncfiles COMMAND ...")
        .after_help(help::tail())
        .arg(version.help("Print the version").help_heading("Other"))
        .subcommand_value_name("COMMAND")
        .subcommand_negates_reqs(true)
        .args_conflicts_with_subcommands(true)
        .arg_required_else_help(true)
        // As in rsync: a script adds to what an alias says.
        .args_override_self(true)
        .disable_help_subcommand(true);
    let names: Vec<String> = whole.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    let whole = long_help_only(whole).mut_subcommand("verify", VerifyArgs::hide);
    names.into_iter().fold(whole, |whole, name| whole.mut_subcommand(name, long_help_only))
}

/// `-h` is rsync's human-readable, so help has a long name only; see [`help::asked`] for a `-h` that stands alone.
fn long_help_only(command: Command) -> Command {
    let help = Arg::new("help")
        .long("help")
        .action(ArgAction::HelpShort)
        .help("Print all of this; -h alone: a screenful");
    command.disable_help_flag(true).arg(help.help_heading("Other"))
}

/// Help and version are no errors; everything else becomes one line.
fn stopped(error: &clap::Error, arguments: &[OsString]) -> Result<Invocation, Usage> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(Invocation::Print(error.to_string())),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Err(Usage::Help(help::SCREEN.to_owned())),
        ErrorKind::ArgumentConflict if error.get(ContextKind::InvalidSubcommand).is_some() => {
            Err(Usage::Wrong(too_many(arguments).unwrap_or_else(|| one_line(error))))
        }
        _ => Err(Usage::Wrong(one_line(error))),
    }
}

/// What is wrong where more than two folders seem to be named, which clap takes for a command in the wrong place.
fn too_many(arguments: &[OsString]) -> Option<String> {
    let more = Arg::new("more").num_args(1..).value_parser(clap::value_parser!(OsString));
    let matches = command().arg(more).try_get_matches_from(arguments).ok()?;
    let source = matches.get_one::<Root>("source")?;
    let more = matches.get_one::<OsString>("more")?;
    Some(match similar_command(source) {
        _ if is_command(source) => misplaced(source),
        Some(command) => format!("there is no command `{source}`: did you mean `{command}`?"),
        None => {
            let more = Root::Local(more.into());
            format!("more than two folders are named: SOURCE and TARGET are two, and `{more}` is one more")
        }
    })
}

/// What is wrong where a command stands in the place of a folder.
pub(super) fn misplaced(command: &Root) -> String {
    format!("`{command}` is a command and comes first; a folder called that is written ./{command}")
}

/// The command that somebody may have meant who wrote this.
pub(super) fn similar_command(word: &Root) -> Option<String> {
    let bare = Command::new("syncfiles").subcommands(command().get_subcommands().cloned());
    let error = bare.try_get_matches_from(["syncfiles".to_owned(), word.to_string()]).err()?;
    match error.get(ContextKind::SuggestedSubcommand)? {
        ContextValue::String(command) => Some(command.clone()),
        // The likeliest comes last.
        ContextValue::Strings(commands) => commands.last().cloned(),
        _ => None,
    }
}

/// clap's several lines as one: the message, tips in parentheses, no usage.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let parts: Vec<&str> = lines.filter(|line| !line.is_empty() && !line.starts_with("For more")).collect();
    let mut joined = String::new();
    let whole = command();
    let hidden: Vec<&str> =
        whole.get_arguments().filter(|arg| arg.is_hide_set()).filter_map(Arg::get_long).collect();
    for part in parts {
        let part = part.strip_prefix("error: ").unwrap_or(part);
        match part.strip_prefix("tip: ") {
            // Nobody who mistypes an option means a folder of that name.
            Some(tip) if tip.starts_with("to pass") => {}
            // Nor one that is always on, or refused.
            Some(tip) if hidden.iter().any(|long| tip.contains(&format!("'--{long}'"))) => {}
            Some(tip) => joined.push_str(&format!(" ({tip})")),
            None if joined.is_empty() => joined.push_str(part),
            None => joined.push_str(&format!(" {part}")),
        }
    }
    printable(&joined)
}

/// Reads a root; see [`Root::parse`].
pub(super) fn root() -> impl clap::builder::TypedValueParser<Value = Root> {
    use clap::builder::TypedValueParser;
    clap::builder::OsStringValueParser::new().try_map(Root::parse)
}

/// Reads a root that is on this system, as its history is.
fn here() -> impl clap::builder::TypedValueParser<Value = PathBuf> {
    use clap::builder::TypedValueParser;
    clap::builder::OsStringValueParser::new().try_map(|text| match Root::parse(text) {
        Ok(Root::Local(path)) => Ok(path),
        Err(AddressError::Empty) => Err(AddressError::Empty),
        Ok(Root::Remote(_)) | Err(_) => Err(AddressError::History),
    })
}

/// Whether a name is one of the commands, so that a folder called that is written `./NAME`.
pub(super) fn is_command(name: &impl fmt::Display) -> bool {
    let name = name.to_string();
    command().get_subcommands().any(|verb| verb.get_name() == name)
}
