//! Who may log in, and how far: OpenSSH's authorized_keys (sshd(8), "AUTHORIZED_KEYS FILE FORMAT").
//!
//! The same file may serve a stock sshd, so a line never allows more here than there: a line with an option
//! that is not understood is not used, and a note says so.

mod certificate;
mod command;
mod expiry;
mod from;
mod options;

use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use russh::keys::{Certificate, PublicKey};
use thiserror::Error;

pub use self::command::{Export, Limits};

use self::certificate::Login;
use self::options::Options;
use super::key_file::{read_small, shown};
use super::key_text;
use crate::core::shown::Shown;

/// The most bytes of a file.
const FILE_CAP: u64 = 1024 * 1024;
/// The most bytes of a line; an RSA key of 16 384 bits needs 2 800.
const LINE_CAP: usize = 16 * 1024;
/// The most lines of a file whose faults are explained.
const NOTES_CAP: usize = 100;

/// The keys that may log in, each with its conditions and limits.
#[derive(Clone, Debug, Default)]
pub struct AuthorizedKeys {
    entries: Vec<Entry>,
}

/// Why a line of the file is not used, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The line, from 1.
    pub line: usize,
    /// The reason, fit to print.
    pub reason: String,
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {} is not used: {}", self.line, self.reason)
    }
}

/// Why a file of authorized keys is not used at all.
#[derive(Debug, Error)]
pub enum AuthorizedKeysError {
    /// The file could not be read.
    #[error("cannot read authorized keys {}: {source}", shown(path))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Group or others may write to the file, and so let anyone in.
    #[error(
        "cannot use authorized keys {0}: mode {mode:03o} lets others write it; run: chmod go-w {0}",
        shown(path)
    )]
    Writable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file belongs to somebody else, who could let anyone in.
    #[error(
        "cannot use authorized keys {}: it belongs to user {owner}, not to root or to user {user} who runs this",
        shown(path)
    )]
    Owner {
        /// The file.
        path: PathBuf,
        /// The owner's number.
        owner: u32,
        /// The number of the user who runs the server.
        user: u32,
    },
}

/// Why a key may not log in; for the server's log, the client is told nothing.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Denied {
    /// No line has the key.
    #[error("the key is not among the authorized keys")]
    Unlisted,
    /// No line has the key that signed the certificate as an authority.
    #[error("the certificate's authority is not among the authorized keys")]
    Authority,
    /// A certificate of the line's authority is not good enough.
    #[error("the certificate is not used (line {line}): {why}")]
    Certificate {
        /// The line.
        line: usize,
        /// The reason, fit to print.
        why: String,
    },
    /// The line's `from=` does not admit the client's address.
    #[error("line {0} does not admit the key from this address")]
    Address(usize),
    /// The line's `expiry-time=` has passed.
    #[error("the key has expired (line {0})")]
    Expired(usize),
}

impl AuthorizedKeys {
    /// Reads a file that belongs to root or to the user who runs this, and that nobody else may write.
    ///
    /// Lines that cannot be used are left out and noted; they never fail the file.
    pub fn load(path: &Path) -> Result<(Self, Vec<Note>), AuthorizedKeysError> {
        let user = rustix::process::geteuid().as_raw();
        let safe_owner = |owner| owner == 0 || owner == user;
        let (text, about) =
            read_small(path, FILE_CAP, |about| about.mode() & 0o022 == 0 && safe_owner(about.uid()))
                .map_err(|source| AuthorizedKeysError::Read { path: path.to_owned(), source })?;
        let path = || path.to_owned();
        match text {
            Some(text) => Ok(Self::parse(&text)),
            None if !safe_owner(about.uid()) => {
                Err(AuthorizedKeysError::Owner { path: path(), owner: about.uid(), user })
            }
            None => Err(AuthorizedKeysError::Writable { path: path(), mode: about.mode() & 0o777 }),
        }
    }

    /// Reads the content of a file.
    pub fn parse(text: &[u8]) -> (Self, Vec<Note>) {
        let (mut entries, mut notes) = (Vec::new(), Vec::new());
        for (index, line) in text.split(|b| *b == b'\n').enumerate() {
            match Entry::parse(line, index + 1) {
                Ok(entry) => entries.extend(entry),
                Err(reason) if notes.len() < NOTES_CAP => notes.push(Note { line: index + 1, reason }),
                Err(_) if notes.len() == NOTES_CAP => {
                    let reason = format!("{NOTES_CAP} lines before it were not either; no more are listed");
                    notes.push(Note { line: index + 1, reason });
                }
                Err(_) => {}
            }
        }
        (Self { entries }, notes)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The folders that lines name as the only ones of their keys, as they are written.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        let exports = self.entries.iter().filter_map(|entry| entry.options.limits.exports.as_ref());
        exports.flatten().map(|export| export.dir.as_path())
    }

    /// Whether nobody may log in.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The limits of a key that a client at `from` has proved to hold: those of the first line that admits
    /// it.
    ///
    /// Where the address is not known, no line with `from=` does.
    pub fn authorize(
        &self,
        key: &PublicKey,
        from: Option<IpAddr>,
        now: SystemTime,
    ) -> Result<&Limits, Denied> {
        let mut denied = Denied::Unlisted;
        let listed = |entry: &&Entry| !entry.options.authority && entry.key.key_data() == key.key_data();
        for entry in self.entries.iter().filter(listed) {
            match entry.admits(from, now) {
                Ok(()) => return Ok(&entry.options.limits),
                Err(reason) => denied = reason,
            }
        }
        Err(denied)
    }

    /// Whether some lines are not a client's key but that of an authority: then any key may come with a certificate.
    pub fn has_authorities(&self) -> bool {
        self.entries.iter().any(|entry| entry.options.authority)
    }

    /// The limits of a certificate with which a client at `from` logs in as `user`, and whose key it has proved to hold: those
    /// of the first line that admits it, narrowed by its own.
    pub fn certify(
        &self,
        certificate: &Certificate,
        user: &str,
        from: Option<IpAddr>,
        now: SystemTime,
    ) -> Result<Limits, Denied> {
        let mut denied = Denied::Authority;
        let signer = certificate.signature_key();
        for entry in
            self.entries.iter().filter(|entry| entry.options.authority && entry.key.key_data() == signer)
        {
            let login = Login { user, from, now };
            let judged = entry.admits(from, now).and_then(|()| {
                certificate::judge(certificate, entry, login)
                    .map_err(|why| Denied::Certificate { line: entry.line, why })
            });
            match judged {
                Ok(limits) => return Ok(limits),
                Err(reason) => denied = reason,
            }
        }
        Err(denied)
    }
}

#[derive(Clone, Debug)]
struct Entry {
    line: usize,
    key: PublicKey,
    options: Options,
}

impl Entry {
    /// `[options] type base64 [comment]`; nothing for an empty line or a comment, else why not.
    fn parse(line: &[u8], number: usize) -> Result<Option<Self>, String> {
        let line = line.trim_ascii();
        if line.is_empty() || line[0] == b'#' {
            return Ok(None);
        }
        if line.len() > LINE_CAP {
            return Err(format!("it is longer than {LINE_CAP} bytes"));
        }
        let (first, rest) = options::split_word(line);
        let (options, (name, rest)) = match key_text::names_a_type(first) {
            true => (Options::default(), (first, rest)),
            false => (Options::parse(first)?, options::split_word(rest)),
        };
        if name.is_empty() {
            return Err("it has no key".into());
        }
        let (base64, _comment) = options::split_word(rest);
        let key = key_text::parse(name, base64).map_err(|fault| fault.to_string())?;
        key_text::may_log_in(key.key_data()).map_err(|fault| fault.to_string())?;
        Ok(Some(Self { line: number, key, options }))
    }

    fn admits(&self, from: Option<IpAddr>, now: SystemTime) -> Result<(), Denied> {
        if self.options.expires.is_some_and(|expires| now > expires) {
            return Err(Denied::Expired(self.line));
        }
        match &self.options.from {
            Some(pattern) if !from.is_some_and(|address| pattern.admits(address)) => {
                Err(Denied::Address(self.line))
            }
            _ => Ok(()),
        }
    }
}

/// Bytes of the file as a note may show them.
fn quoted(bytes: &[u8]) -> String {
    const MOST: usize = 80;
    let more = if bytes.len() > MOST { "…" } else { "" };
    format!("\"{}{more}\"", Shown(&bytes[..bytes.len().min(MOST)]))
}

#[cfg(test)]
mod tests;
