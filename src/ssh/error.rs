//! What can go wrong on a carrier, and while one is being set up.

use std::sync::Arc;

use super::frame::MAX_MESSAGE;

/// Why a carrier operation ended. Clonable, because one cause ends everything that was waiting on a connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CarrierError {
    /// This end, or the peer in good order, closed the connection.
    #[error("the connection is closed")]
    Closed,
    /// The connection ended without a farewell.
    #[error("the connection was lost: {0}; run the sync again, it resumes")]
    Lost(Arc<str>),
    /// The peer gave up this channel before its regular end; the connection lives on.
    #[error("the peer closed the channel before its end")]
    Abandoned,
    /// The channel's own writer has already been finished.
    #[error("cannot send on the channel: it was already finished")]
    Finished,
    /// The peer would not open another channel.
    #[error("the peer refused another channel: {0}")]
    Refused(Arc<str>),
    /// The peer sent something that no honest peer sends.
    #[error("the peer broke the carrier protocol: {0}")]
    Protocol(&'static str),
    /// A control message of this many bytes does not fit.
    #[error("cannot send a control message of {0} bytes: the most is {MAX_MESSAGE}")]
    TooLarge(usize),
}

impl CarrierError {
    /// A loss, in the words of whatever noticed it.
    pub(super) fn lost(cause: impl std::fmt::Display) -> Self {
        Self::Lost(Arc::from(cause.to_string()))
    }
}

/// Why no carrier could be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The byte stream could not be opened.
    #[error("cannot connect: {0}")]
    Dial(String),
    /// Connecting and logging in took longer than allowed.
    #[error("cannot connect: no answer within {0} seconds")]
    TimedOut(u64),
    /// The host key was refused; the text is that of the host-key check.
    #[error("{0}")]
    HostKey(String),
    /// The server accepted none of the keys.
    #[error(
        "cannot log in as {user}: the server accepted none of the keys tried ({tried}); add one to its authorized_keys, or log in as the user that runs the server"
    )]
    NoKey {
        /// The name that was logged in with.
        user: String,
        /// Fingerprints of the keys that were tried, separated by commas, and after semicolons why others could not be;
        /// `none` where there was no key.
        tried: String,
    },
    /// There was no key that could be tried.
    #[error("cannot log in as {user}: {causes}")]
    Unusable {
        /// The name that was to be logged in with.
        user: String,
        /// Why each key cannot be used, separated by semicolons.
        causes: String,
    },
    /// The server let us in but would not serve us, for the reason given.
    #[error("the server refused the connection: {0}")]
    Refused(String),
    /// The other end does not speak this protocol, or breaks it.
    #[error("cannot set up the connection: {0}")]
    Protocol(String),
}

impl ConnectError {
    /// The end of an SSH connection before anybody was logged in.
    pub(super) fn broken(error: &russh::Error) -> Self {
        Self::Protocol(match error {
            russh::Error::Disconnect | russh::Error::HUP => {
                "it hung up before the login; does a syncfiles server listen there?".to_owned()
            }
            other => other.to_string(),
        })
    }

    /// Whether it may be the byte stream's fault.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Dial(_) | Self::Protocol(_))
    }
}
