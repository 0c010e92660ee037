//! Which host keys are known: OpenSSH's known_hosts files, read as OpenSSH reads them (sshd(8),
//! "SSH_KNOWN_HOSTS FILE FORMAT"), and never rewritten.
//!
//! Closed by default: an error on the way is an error, never "not known". Lines that cannot be understood are
//! skipped as long as they do not name the host in question.

mod line;
mod policy;

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use russh::keys::{Algorithm, PublicKey};
use thiserror::Error;

pub use self::policy::{Ask, Decision, HostKeyRefused, decide};

use self::line::{Line, Marker};
use super::host_key::fingerprint;
use super::key_file::{read_small, shown};
use super::key_text::{self, KeyFault};
use crate::core::shown::Shown;

/// The most bytes a known_hosts file may have: some 150 000 lines.
const FILE_CAP: u64 = 16 * 1024 * 1024;

/// The host that was dialled and the key it showed.
#[derive(Clone, Copy, Debug)]
pub struct Offered<'a> {
    /// The name or address as the user wrote it, without brackets.
    pub host: &'a str,
    /// The port that was dialled.
    pub port: u16,
    /// The key whose possession the host proved.
    pub key: &'a PublicKey,
}

/// What the files say about an offered key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A line has this key for this host.
    Known,
    /// No line has a key of this type for this host.
    Unknown {
        /// Keys of other types that the host is known by. An honest host would have been asked for those:
        /// where there are any, this key deserves suspicion.
        others: Vec<KnownKey>,
    },
    /// A line has another key of the same type.
    Changed(KnownKey),
    /// An `@revoked` line has this key.
    Revoked(KnownKey),
}

/// A key found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The key's type.
    pub algorithm: Algorithm,
    /// The key's SHA-256 fingerprint.
    pub fingerprint: String,
}

/// Why the files could not answer, or a key could not be remembered. Each is a reason not to connect.
#[derive(Debug, Error)]
pub enum KnownHostsError {
    /// A file exists and could not be read.
    #[error("cannot read known hosts {}: {source}", shown(file))]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line for this very host holds no readable key.
    #[error("cannot use known hosts {} line {line}: {fault}; correct or remove the line", shown(file))]
    Damaged {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with the key.
        fault: String,
    },
    /// The host's name cannot stand in a known_hosts line.
    #[error("cannot look up host key: {} is not a host name", Shown(.0.as_bytes()))]
    HostName(String),
    /// A key could not be added to a file.
    #[error("cannot add a host key to {}: {source}", shown(file))]
    Write {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Looks an offered key up in all `files`; one that does not exist is empty.
///
/// A revoked key is revoked whatever else is said; a key that any line has is known, even if other lines
/// differ (hosts behind one name); only then is another key of the same type a change.
pub fn check(files: &[PathBuf], offered: &Offered<'_>) -> Result<Verdict, KnownHostsError> {
    Ok(verdict(find(files, offered.host, offered.port)?, offered.key))
}

/// As [`check`], on the content of one file.
pub fn check_text(file: &Path, text: &[u8], offered: &Offered<'_>) -> Result<Verdict, KnownHostsError> {
    Ok(verdict(Wanted::new(offered.host, offered.port)?.find(file, text)?, offered.key))
}

fn verdict(found: Vec<Entry>, key: &PublicKey) -> Verdict {
    let (revoked, known): (Vec<_>, Vec<_>) = found.into_iter().partition(|entry| entry.revoked);
    let same_key = |entry: &Entry| entry.key.key_data() == key.key_data();
    let same_type = |entry: &Entry| entry.key.algorithm() == key.algorithm();
    if let Some(entry) = revoked.into_iter().find(same_key) {
        Verdict::Revoked(entry.into())
    } else if known.iter().any(same_key) {
        Verdict::Known
    } else if let Some(at) = known.iter().position(same_type) {
        Verdict::Changed(known[at].clone().into())
    } else {
        Verdict::Unknown { others: known.into_iter().map(KnownKey::from).collect() }
    }
}

/// The types of key that `host` is known by, in the files' order: ask the host for these first, so that a
/// host with several keys shows one that can be checked.
pub fn known_algorithms(files: &[PathBuf], host: &str, port: u16) -> Result<Vec<Algorithm>, KnownHostsError> {
    let mut types = Vec::new();
    for entry in find(files, host, port)?.into_iter().filter(|entry| !entry.revoked) {
        if !types.contains(&entry.key.algorithm()) {
            types.push(entry.key.algorithm());
        }
    }
    Ok(types)
}

/// Appends the offered key to `file` in one write, leaving every byte that is there as it is.
///
/// A missing file is made with mode 0600, missing folders with 0700.
pub fn remember(file: &Path, offered: &Offered<'_>) -> Result<(), KnownHostsError> {
    let name = lookup_name(offered.host, offered.port)?;
    append(file, &name, offered.key)
        .map_err(|source| KnownHostsError::Write { file: file.to_owned(), source })
}

fn append(path: &Path, name: &str, key: &PublicKey) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let mut last = [b'\n'];
    if file.metadata()?.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    let newline = if last == *b"\n" { "" } else { "\n" };
    let bare = PublicKey::from(key.key_data().clone());
    let key = bare.to_openssh().map_err(io::Error::other)?;
    file.write_all(format!("{newline}{name} {key}\n").as_bytes())
}

/// How known_hosts names a host: as it is on port 22, else `[host]:port`.
fn lookup_name(host: &str, port: u16) -> Result<String, KnownHostsError> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || ",*?!|@#[]/\\\"'".contains(c);
    if host.is_empty() || host.len() > 255 || host.contains(odd) {
        return Err(KnownHostsError::HostName(host.chars().take(255).collect()));
    }
    let host = host.to_ascii_lowercase();
    Ok(if port == 22 { host } else { format!("[{host}]:{port}") })
}

#[derive(Clone)]
struct Entry {
    file: PathBuf,
    line: usize,
    revoked: bool,
    key: PublicKey,
}

impl From<Entry> for KnownKey {
    fn from(entry: Entry) -> Self {
        let fingerprint = fingerprint(&entry.key);
        Self { file: entry.file, line: entry.line, algorithm: entry.key.algorithm(), fingerprint }
    }
}

/// Every key that the files have for a host.
fn find(files: &[PathBuf], host: &str, port: u16) -> Result<Vec<Entry>, KnownHostsError> {
    let wanted = Wanted::new(host, port)?;
    let mut found = Vec::new();
    for file in files {
        found.extend(wanted.find(file, &read(file)?)?);
    }
    Ok(found)
}

/// The names under which a host is looked up.
struct Wanted {
    name: String,
    /// Without the port. A revocation counts for the host on any port: what was revoked is the key.
    on_any_port: String,
}

impl Wanted {
    fn new(host: &str, port: u16) -> Result<Self, KnownHostsError> {
        Ok(Self { name: lookup_name(host, port)?, on_any_port: lookup_name(host, 22)? })
    }

    fn find(&self, file: &Path, text: &[u8]) -> Result<Vec<Entry>, KnownHostsError> {
        let mut found = Vec::new();
        for (index, line) in text.split(|b| *b == b'\n').enumerate() {
            let Some(line) = Line::parse(line) else { continue };
            let names_host = match line.marker {
                Marker::Authority => false,
                Marker::Plain => line.names(&self.name),
                Marker::Revoked => line.names(&self.name) || line.names(&self.on_any_port),
            };
            if names_host {
                found.extend(entry(file, index + 1, &line)?);
            }
        }
        Ok(found)
    }
}

/// A key of a type that no host could show us is no entry; a damaged one is an error.
fn entry(file: &Path, number: usize, line: &Line<'_>) -> Result<Option<Entry>, KnownHostsError> {
    match key_text::parse(line.kind, line.base64) {
        Ok(key) => {
            let revoked = line.marker == Marker::Revoked;
            Ok(Some(Entry { file: file.to_owned(), line: number, revoked, key }))
        }
        Err(fault @ KeyFault::Damaged(_)) => {
            Err(KnownHostsError::Damaged { file: file.to_owned(), line: number, fault: fault.to_string() })
        }
        Err(_) => Ok(None),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, KnownHostsError> {
    match read_small(file, FILE_CAP, |_| true) {
        Ok((text, _)) => Ok(text.unwrap_or_default()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(KnownHostsError::Read { file: file.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests;
