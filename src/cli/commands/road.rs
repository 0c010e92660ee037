//! The two roads to System 1: our own SSH, or an outer one (`-e`).

use std::sync::Arc;

use super::Stop;
use super::reach::Reach;
use super::rsh::Rsh;
use crate::cli::address::RemoteRoot;
use crate::cli::options::ConnectArgs;
use crate::session::progress::Progress;
use crate::session::{Remote, SessionError};
use crate::ssh::Connection;

/// See the module.
pub(crate) enum Road {
    /// To `syncfiles serve`.
    Own(Box<Reach>),
    /// To `syncfiles serve --stdio`.
    Outer(Box<Rsh>),
}

impl Road {
    /// Reads what it takes; connects nowhere.
    pub(crate) fn prepare(root: &RemoteRoot, args: &ConnectArgs) -> Result<Road, Stop> {
        Ok(match &args.rsh {
            Some(rsh) => Road::Outer(Box::new(Rsh::prepare(root, rsh, args)?)),
            None => Road::Own(Box::new(Reach::prepare(root, args)?)),
        })
    }

    /// What this is to the session: export, folder below it, and how both are remembered.
    pub(crate) fn remote(&self, root: &RemoteRoot) -> Remote {
        match self {
            Road::Own(reach) => reach.remote(root),
            Road::Outer(rsh) => rsh.remote(root),
        }
    }

    /// Tells `progress` from now on what is worth a line on the way.
    pub(crate) fn listen(&self, progress: Arc<dyn Progress>) {
        match self {
            Road::Own(reach) => reach.listen(progress),
            Road::Outer(rsh) => rsh.listen(progress),
        }
    }

    /// Connects and logs in.
    pub(crate) async fn connect(&self) -> Result<Connection, SessionError> {
        match self {
            Road::Own(reach) => reach.connect().await,
            Road::Outer(rsh) => rsh.connect().await,
        }
    }

    /// Leaves nothing running.
    pub(crate) async fn end(&self) {
        match self {
            Road::Own(_) => {}
            Road::Outer(rsh) => rsh.end().await,
        }
    }
}
