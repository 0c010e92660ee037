//! The options of a sync in their groups, each value typed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};

use super::amount::{Keep, Limit, Units, parse_count, parse_keep, parse_rate, parse_seconds};
use super::args::Usage;
use crate::core::policy::ConflictPolicy;
use crate::session::Retries;

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
    #[arg(help = "Take in, whatever a later pattern leaves out")]
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
    /// The port where its server listens [default: that of the ssh configuration, else 2222]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// The private key to log in with
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// The ssh configuration, or none [default: ~/.ssh/config, then /etc/ssh/ssh_config]
    #[arg(long, value_name = "FILE")]
    pub ssh_config: Option<PathBuf>,
    /// Where host keys are remembered [default: ~/.ssh/known_hosts]
    #[arg(long, value_name = "FILE")]
    pub known_hosts: Option<PathBuf>,
    /// Trust a host met for the first time without asking
    #[arg(long)]
    pub accept_new: bool,
    /// Go through this ssh command: no server is needed there, but an account and syncfiles
    #[arg(short = 'e', long, value_name = "CMD")]
    #[arg(conflicts_with_all = ["identity", "ssh_config", "known_hosts", "accept_new"])]
    pub rsh: Option<OsString>,
    /// With -e: the program over there (with ssh -s: the subsystem) [default: syncfiles]
    #[arg(long, value_name = "PROG", requires = "rsh")]
    pub remote_path: Option<OsString>,
    /// Give up after so many seconds of silence, or of waiting for another run [default: 60; 0: never]
    #[arg(long, value_name = "S", value_parser = parse_seconds)]
    pub timeout: Option<Duration>,
    /// Connect again so many times, and resume [default: 3, once it was connected]
    #[arg(long, value_name = "N")]
    pub retries: Option<u32>,
    /// Send files at most this fast, each way: 500 (KiB a second), 1.5M, 0 (no limit)
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub bwlimit: Option<u64>,
    /// Compress: auto (default), always (plain -z), never
    #[arg(short = 'z', long, value_name = "WHEN", value_enum, hide_possible_values = true)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "always")]
    pub compress: Option<Compress>,
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

impl ShowArgs {
    pub(super) fn check(&self) -> Result<(), Usage> {
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

/// How often a connection that was lost is made again when the user set no `--retries`.
const RETRIES: u32 = 3;

impl ConnectArgs {
    /// How often to connect again. A mistyped host shows at once: only who asks for it has the first connection tried again.
    pub fn retries(&self) -> Retries {
        Retries { times: self.retries.unwrap_or(RETRIES), first: self.retries.is_some() }
    }

    /// How long the other end may be silent; `--timeout 0` is for ever. None where the user left it open.
    pub fn patience(&self) -> Option<Duration> {
        self.timeout.map(|timeout| if timeout.is_zero() { Duration::MAX } else { timeout })
    }
}

impl From<Compress> for crate::protocol::packed::Compress {
    fn from(compress: Compress) -> Self {
        match compress {
            Compress::Auto => Self::Auto,
            Compress::Always => Self::Always,
            Compress::Never => Self::Never,
        }
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
