//! Whether to go on with a host, given what is known about its key.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::{KnownKey, Offered, Verdict};
use crate::core::shown::Shown;
use crate::ssh::host_key::fingerprint;
use crate::ssh::key_file::shown;

/// Puts a one-line question to the user and tells whether the answer was yes.
pub type Ask<'a> = &'a mut dyn FnMut(&str) -> io::Result<bool>;

/// Go on, and what to do about the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The key was known.
    Trusted,
    /// The key is trusted from now on: [`remember`](super::remember) it.
    TrustedNew,
}

/// Why a host is not trusted.
#[derive(Debug, Error)]
pub enum HostKeyRefused {
    /// Another key of the same type was known.
    #[error(
        "refused host {host}: its key changed from {} ({} line {}) to {offered}; someone may be intercepting the \
         connection. If the change is expected, remove that line",
        known.fingerprint, shown(&known.file), known.line
    )]
    Changed {
        /// The host, fit to print.
        host: String,
        /// The type and fingerprint it showed.
        offered: String,
        /// The key it had.
        known: Box<KnownKey>,
    },
    /// The key was revoked.
    #[error("refused host {host}: its key {offered} is revoked by {} line {line}", shown(file))]
    Revoked {
        /// The host, fit to print.
        host: String,
        /// The type and fingerprint it showed.
        offered: String,
        /// Where it is revoked.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The key is not known and there was nobody to ask.
    #[error(
        "refused host {host}: its key {offered} is not known; compare the fingerprint with the host's own, then run \
         once on a terminal or with --accept-new"
    )]
    Unknown {
        /// The host, fit to print.
        host: String,
        /// The type and fingerprint it showed.
        offered: String,
    },
    /// The host is known by keys of other types only, and there was nobody to ask.
    #[error(
        "refused host {host}: its key {offered} is not known, but one of another type is ({}); compare the \
         fingerprint with the host's own, then run once on a terminal",
        place(known)
    )]
    OtherType {
        /// The host, fit to print.
        host: String,
        /// The type and fingerprint it showed.
        offered: String,
        /// A key the host is known by.
        known: Box<KnownKey>,
    },
    /// The user said no.
    #[error("refused host {host}: its key {offered} was not accepted")]
    Declined {
        /// The host, fit to print.
        host: String,
        /// The type and fingerprint it showed.
        offered: String,
    },
    /// The question could not be asked.
    #[error("cannot ask about the key of host {host}: {source}")]
    Ask {
        /// The host, fit to print.
        host: String,
        /// What the terminal said.
        source: io::Error,
    },
}

/// Decides on a host: a known key passes, a revoked or changed one never does, an unknown one passes if the
/// user says so (`ask`, on a terminal) or said so before (`accept_new`, from `--accept-new`).
///
/// `accept_new` is for hosts never met: where keys of other types are known, it does not replace the
/// question. An interceptor would otherwise only have to show a type that the files lack.
pub fn decide(
    offered: &Offered<'_>,
    verdict: Verdict,
    ask: Option<Ask<'_>>,
    accept_new: bool,
) -> Result<Decision, HostKeyRefused> {
    let host = host(offered);
    let key = format!("{} {}", offered.key.algorithm(), fingerprint(offered.key));
    let known = match verdict {
        Verdict::Known => return Ok(Decision::Trusted),
        Verdict::Changed(known) => {
            return Err(HostKeyRefused::Changed { host, offered: key, known: Box::new(known) });
        }
        Verdict::Revoked(KnownKey { file, line, .. }) => {
            return Err(HostKeyRefused::Revoked { host, offered: key, file, line });
        }
        Verdict::Unknown { others } => others.into_iter().next(),
    };
    match (ask, known) {
        (_, None) if accept_new => Ok(Decision::TrustedNew),
        (None, None) => Err(HostKeyRefused::Unknown { host, offered: key }),
        (None, Some(known)) => Err(HostKeyRefused::OtherType { host, offered: key, known: Box::new(known) }),
        (Some(ask), known) => match ask(&question(&host, &key, known.as_ref())) {
            Ok(true) => Ok(Decision::TrustedNew),
            Ok(false) => Err(HostKeyRefused::Declined { host, offered: key }),
            Err(source) => Err(HostKeyRefused::Ask { host, source }),
        },
    }
}

fn question(host: &str, key: &str, known: Option<&KnownKey>) -> String {
    let but =
        known.map(|known| format!(", but one of another type is ({})", place(known))).unwrap_or_default();
    format!("The key of host {host} is not known{but}: {key}. Trust it and remember it?")
}

fn place(known: &KnownKey) -> String {
    format!("{} {}, {} line {}", known.algorithm, known.fingerprint, shown(&known.file), known.line)
}

fn host(offered: &Offered<'_>) -> String {
    let host = Shown(offered.host.as_bytes());
    if offered.port == 22 { host.to_string() } else { format!("[{host}]:{}", offered.port) }
}
