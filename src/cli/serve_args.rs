//! The options of `serve`.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::address::{name_of, split_name};
use super::args::Usage;
use crate::core::path::Name;
use crate::core::shown::Shown;

/// The port of a server and of an address that names none.
pub const DEFAULT_PORT: u16 = 2222;

/// `serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    #[arg(value_name = "[NAME=]DIR", required = true)]
    #[arg(help = "Folders to export; without NAME, under their own last name")]
    dirs: Vec<OsString>,
    /// The exports, each name once.
    #[arg(skip)]
    pub exports: Vec<Export>,
    /// Listen here [default: all interfaces, port 2222]
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_listen)]
    pub listen: Option<SocketAddr>,
    /// The user name to log in with [default: the user running it]
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Who may log in [default: ~/.config/syncfiles/authorized_keys, else ~/.ssh/authorized_keys]
    #[arg(long, value_name = "FILE")]
    pub authorized_keys: Option<PathBuf>,
    /// The key of this server; made on the first start
    #[arg(long, value_name = "FILE")]
    pub host_key: Option<PathBuf>,
    /// Send only: change nothing here
    #[arg(long)]
    pub read_only: bool,
    /// Never remove anything here
    #[arg(long)]
    pub no_delete: bool,
    /// Clients at a time [default: 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_clients: Option<u32>,
    /// Serve one client on stdin and stdout, which an outer ssh has authenticated
    #[arg(long, conflicts_with_all = ["listen", "user", "authorized_keys", "host_key", "max_clients"])]
    pub stdio: bool,
    /// Confine the process to the exports by Landlock: auto (default: where the kernel can), always, never
    #[arg(long, value_name = "WHEN", value_enum, hide_possible_values = true, hide_default_value = true)]
    #[arg(default_value = "auto")]
    pub sandbox: Sandbox,
    /// Log to this file instead of stderr
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// How the log is written
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

/// One exported folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Export {
    /// What clients call it.
    pub name: Name,
    /// Where it is.
    pub dir: PathBuf,
}

/// `--sandbox`.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sandbox {
    /// Where the kernel can.
    #[default]
    Auto,
    /// Or not start.
    Always,
    /// Not at all.
    Never,
}

/// `--log-format`.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

impl ServeArgs {
    pub(super) fn check(mut self) -> Result<ServeArgs, Usage> {
        for dir in std::mem::take(&mut self.dirs) {
            let export = Export::parse(dir).map_err(Usage::Wrong)?;
            if let Some(first) = self.exports.iter().find(|other| other.name == export.name) {
                let (name, first) = (&export.name, first.dir.display().to_string());
                let text = format!(
                    "two exports are called {name}, one of them {}: write NAME=DIR",
                    Shown(first.as_bytes())
                );
                return Err(Usage::Wrong(text));
            }
            self.exports.push(export);
        }
        Ok(self)
    }

    /// Where to listen.
    pub fn address(&self) -> SocketAddr {
        self.listen.unwrap_or(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), DEFAULT_PORT))
    }
}

impl Export {
    /// Reads `NAME=DIR` or `DIR`. A `/` before the first `=` makes all of it a folder, so `./a=b` is one.
    fn parse(argument: OsString) -> Result<Export, String> {
        if let Some((name, dir)) = split_name(&argument) {
            let name = Name::parse(name).map_err(|why| format!("the export name `{}` {why}", Shown(name)))?;
            return if dir.is_empty() {
                Err(format!("{name}= names no folder"))
            } else {
                Ok(Export { name, dir: dir.into() })
            };
        }
        let dir = PathBuf::from(argument);
        match name_of(&dir) {
            Some(Ok(name)) => Ok(Export { name, dir }),
            Some(Err(why)) => Err(format!("the folder's own name {why}: write NAME=DIR")),
            None => Err("this folder has no name of its own to export it by: write NAME=DIR".to_owned()),
        }
    }
}

/// `ADDR:PORT`, `:PORT` or `PORT`.
fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let all = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let port = text.strip_prefix(':').unwrap_or(text).parse();
    port.map(|port| SocketAddr::new(all, port))
        .or_else(|_| text.parse())
        .or_else(|_| text.parse().map(|address| SocketAddr::new(address, DEFAULT_PORT)))
        .map_err(|_: std::net::AddrParseError| "write ADDR:PORT, as 127.0.0.1:2222 or [::1]:2222".to_owned())
}
