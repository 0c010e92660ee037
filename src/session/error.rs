//! Why a session ended early, with the exit code that fits.

use thiserror::Error;

use crate::core::shown::Shown;
use crate::protocol::codec::CodecError;
use crate::protocol::message::Refusal;
use crate::ssh::{CarrierError, ConnectError};

/// Why a session ended before it was done. Every text is one line.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The two builds have no protocol version in common (2).
    #[error("{0}")]
    Incompatible(String),
    /// Refused before anything was changed: host key, login, export (5).
    #[error("{0}")]
    Refused(String),
    /// The connection could not be made or was lost (10).
    #[error("{0}")]
    Connection(String),
    /// Silence for longer than allowed, on connecting (35).
    #[error("{0}")]
    ConnectTimeout(String),
    /// Silence for longer than allowed (30).
    #[error("{0}")]
    Timeout(String),
    /// A root, or the state that belongs to it, cannot be used (11).
    #[error("{0}")]
    Root(String),
    /// The other end broke the protocol (12).
    #[error("the other end broke the protocol: {0}")]
    Protocol(String),
    /// A guard stopped the run before anything was changed, with its exit code (25 or 27).
    #[error("{text}")]
    Guard {
        /// 25 or 27.
        code: u8,
        /// What it saw and how to go on.
        text: String,
    },
}

impl SessionError {
    /// The exit code of the process that ends with this.
    pub fn exit_code(&self) -> u8 {
        match self {
            SessionError::Incompatible(_) => 2,
            SessionError::Refused(_) => 5,
            SessionError::Connection(_) => 10,
            SessionError::Root(_) => 11,
            SessionError::Protocol(_) => 12,
            SessionError::Guard { code, .. } => *code,
            SessionError::Timeout(_) => 30,
            SessionError::ConnectTimeout(_) => 35,
        }
    }

    /// As it is told to the other end.
    pub(crate) fn refusal(&self) -> Refusal {
        Refusal { code: self.exit_code(), text: self.to_string() }
    }

    /// What the other end said when it ended the session. Its text is escaped: it goes to a terminal.
    pub(crate) fn by_peer(refusal: &Refusal) -> SessionError {
        let text = Shown(refusal.text.as_bytes()).to_string();
        match refusal.code {
            2 => SessionError::Incompatible(text),
            5 => SessionError::Refused(text),
            11 => SessionError::Root(text),
            12 => SessionError::Protocol(text),
            30 => SessionError::Timeout(text),
            code @ (25 | 27) => SessionError::Guard { code, text },
            _ => SessionError::Connection(text),
        }
    }

    /// The peer did something that this protocol does not allow at this point.
    pub(crate) fn broke(what: &str) -> SessionError {
        SessionError::Protocol(what.to_owned())
    }
}

impl From<CodecError> for SessionError {
    fn from(error: CodecError) -> SessionError {
        match error {
            CodecError::Version { .. } => SessionError::Incompatible(error.to_string()),
            error => SessionError::Protocol(error.to_string()),
        }
    }
}

impl From<CarrierError> for SessionError {
    fn from(error: CarrierError) -> SessionError {
        SessionError::Connection(error.to_string())
    }
}

impl SessionError {
    /// Why `host` could not be reached. What the server itself said in it is escaped.
    pub(crate) fn connecting(host: &str, error: ConnectError) -> SessionError {
        let text = match &error {
            ConnectError::HostKey(text) => text.clone(),
            error => format!("{host}: {}", Shown(error.to_string().as_bytes())),
        };
        match error {
            ConnectError::TimedOut(_) => SessionError::ConnectTimeout(text),
            ConnectError::HostKey(_)
            | ConnectError::NoKey { .. }
            | ConnectError::Unusable { .. }
            | ConnectError::Refused(_) => SessionError::Refused(text),
            ConnectError::Dial(_) | ConnectError::Protocol(_) => SessionError::Connection(text),
        }
    }
}
