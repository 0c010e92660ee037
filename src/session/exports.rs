//! What System 1 offers, and to what extent.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::clock::Clock;
use super::error::SessionError;
use crate::core::policy::May;
use crate::core::shown::Shown;
use crate::protocol::message::Keep;
use crate::replica::pinned::Pinned;

/// A folder that this system offers.
#[derive(Clone, Debug)]
pub struct Export {
    /// What clients call it.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

/// What System 1 offers, and to what extent.
#[derive(Clone, Debug)]
pub struct Exports {
    /// The folders.
    pub folders: Vec<Export>,
    /// Nothing is ever changed here.
    pub read_only: bool,
    /// Nothing is ever deleted here.
    pub no_delete: bool,
    /// What losers are kept for at least, whatever a client asks; none where the client's word counts alone.
    pub least: Option<Keep>,
    /// Where what must live outside the roots is kept.
    pub state_home: PathBuf,
    /// The only folders that this process can reach, where it was confined to them.
    pub pinned: Option<Vec<Pinned>>,
    /// How long a client may give no sign of life; [`Duration::MAX`]: for ever.
    pub patience: Duration,
    /// Said when the server is to stop.
    pub stopping: Stopping,
    /// This system's clock.
    pub clock: Clock,
}

/// Tells the sessions of clients that only watch that the server is to stop. Clones share it.
#[derive(Clone, Debug)]
pub struct Stopping(Arc<watch::Sender<bool>>);

impl Default for Stopping {
    fn default() -> Stopping {
        Stopping(Arc::new(watch::Sender::new(false)))
    }
}

impl Stopping {
    /// Says so.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Resolves once it was said.
    pub(super) async fn begun(&self) {
        // Never fails while this holds the sender.
        let _ = self.0.subscribe().wait_for(|begun| *begun).await;
    }
}

impl Exports {
    /// How long losers are kept here: the side that loses them decides, and a client may only ask for longer.
    pub(super) fn kept(&self, wished: Option<Keep>) -> Option<Keep> {
        let Some(least) = self.least else { return wished };
        let days = wished.map_or(0, |wished| wished.days).max(least.days);
        Some(Keep { days, ..least })
    }

    /// Offers `folders`, to do anything with them.
    pub fn new(folders: Vec<Export>, state_home: PathBuf) -> Exports {
        let (clock, patience) = (Clock::default(), PATIENCE);
        Exports {
            folders,
            read_only: false,
            no_delete: false,
            least: None,
            state_home,
            pinned: None,
            patience,
            stopping: Stopping::default(),
            clock,
        }
    }

    pub(super) fn find(&self, name: &str) -> Result<&Export, SessionError> {
        let known = || self.folders.iter().map(|export| export.name.as_str()).collect::<Vec<_>>().join(", ");
        self.folders.iter().find(|export| export.name == name).ok_or_else(|| {
            SessionError::Refused(format!("cannot find the export {name}: this server offers {}", known()))
        })
    }

    /// Whether the process, if it was confined, can still reach the folder. Where there is none, whoever opens it says so.
    pub(super) fn reachable(&self, export: &Export) -> Result<(), SessionError> {
        let Some(pinned) = &self.pinned else { return Ok(()) };
        let (name, path) = (&export.name, Shown(export.path.as_os_str().as_encoded_bytes()));
        match pinned.iter().find(|pinned| export.path.starts_with(&pinned.path)) {
            Some(pinned) if pinned.is_lost() => Err(SessionError::Guard {
                code: 27,
                text: format!(
                    "cannot open the export {name}: {path} is not the folder any more that the server was confined to when it started; restart it"
                ),
            }),
            None if export.path.exists() => Err(SessionError::Refused(format!(
                "cannot open the export {name}: {path} is outside of the folders that the server was confined to when it started; restart it"
            ))),
            _ => Ok(()),
        }
    }

    pub(super) fn may(&self) -> May {
        May { write: !self.read_only, delete: !self.read_only && !self.no_delete }
    }
}

/// How long a client may be silent if nobody says otherwise.
const PATIENCE: Duration = Duration::from_secs(60);
