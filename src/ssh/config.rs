//! The connection settings that people already have: OpenSSH's `~/.ssh/config` and `/etc/ssh/ssh_config`, read as OpenSSH
//! reads them (ssh_config(5)), as far as they mean something here.
//!
//! The first value found wins. A keyword that means nothing here is passed over, also one that no ssh knows; a line that
//! does, and cannot be used, is an error: it may be what keeps a key or a host apart. A parser of our own, because the kept
//! crates (ssh2-config, russh-config) let the last of two lines win, hand the lines below a `Match` to the `Host` before
//! it, cut a value at any `#`, or fail on what does not concern us; `tests/it/ssh_config.rs` holds it against `ssh -G`.

mod conditions;
mod expand;
mod found;
mod jump;
mod read;
mod settings;
mod words;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

pub use self::jump::Hop;
pub use self::settings::{Agent, Proxy, Settings, Strict};

use self::found::Found;
use self::read::{Care, Reader};
use super::key_file::shown;

/// Which files are read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Files {
    /// The user's and then the system's, where they exist.
    Usual {
        /// `~/.ssh/config`.
        user: PathBuf,
        /// `/etc/ssh/ssh_config`.
        system: PathBuf,
    },
    /// This one and no other.
    Only(PathBuf),
    /// None.
    None,
}

/// Whom the user wants to reach, in the user's own words.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The host as it was typed, without brackets.
    pub host: &'a str,
    /// The user, where one was named.
    pub user: Option<&'a str>,
    /// The port, where one was named.
    pub port: Option<u16>,
    /// The port where nobody names one.
    pub default_port: u16,
}

/// Looks a variable up in the environment; only text counts.
pub type Variables = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Who asks, and where.
#[derive(Clone)]
pub struct Around {
    /// The user's home folder.
    pub home: PathBuf,
    /// The name of the user who runs this.
    pub user: String,
    /// The environment.
    pub variable: Variables,
}

impl Around {
    /// A user with a home folder, and the environment.
    pub fn new(
        home: impl Into<PathBuf>,
        user: impl Into<String>,
        variable: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self { home: home.into(), user: user.into(), variable: Arc::new(variable) }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file could not be read.
    #[error("cannot read the ssh configuration {}: {source}", shown(file))]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Group or others may write the file, and so choose what is run.
    #[error(
        "cannot use the ssh configuration {0}: mode {mode:03o} lets others write it; run: chmod go-w {0}",
        shown(file)
    )]
    Writable {
        /// The file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file belongs to somebody else, who could choose what is run.
    #[error(
        "cannot use the ssh configuration {}: it belongs to user {owner}, not to root or to who runs this",
        shown(file)
    )]
    Owner {
        /// The file.
        file: PathBuf,
        /// The owner's number.
        owner: u32,
    },
    /// A line cannot be used.
    #[error("cannot use the ssh configuration {} line {line}: {fault}", shown(file))]
    Line {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        fault: String,
    },
}

/// The settings for a host. Reads files, and runs the commands of `Match exec`: call it off the async threads.
///
/// # Errors
/// See [`ConfigError`]; each is a reason not to connect.
pub fn settings(files: &Files, asked: &Asked<'_>, around: &Around) -> Result<Settings, ConfigError> {
    let mut reader = Reader {
        asked,
        around,
        name: asked.host.to_owned(),
        found: Found::default(),
        notices: Vec::new(),
        last: false,
        wants_last: false,
        files: 0,
    };
    read_all(&mut reader, files)?;
    if reader.wants_last {
        reader.begin_last();
        read_all(&mut reader, files)?;
    }
    Settings::of(&reader.found, asked, around, reader.notices)
}

fn read_all(reader: &mut Reader<'_>, files: &Files) -> Result<(), ConfigError> {
    let own = Care { users_own: true, guarded: true, wanted: false };
    match files {
        Files::Usual { user, system } => {
            reader.file(user, own)?;
            reader.file(system, Care { users_own: false, guarded: false, ..own })
        }
        Files::Only(file) => reader.file(file, Care { guarded: false, wanted: true, ..own }),
        Files::None => Ok(()),
    }
}

impl Files {
    /// What `--ssh-config` means: `none`, or a file.
    pub fn named(name: &Path) -> Files {
        if name == Path::new("none") { Files::None } else { Files::Only(name.to_owned()) }
    }
}

#[cfg(test)]
mod tests;
