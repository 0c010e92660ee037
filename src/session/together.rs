//! Two local roots in one process: both ends of the same protocol, over a stream in memory.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

use super::again::sync;
use super::client::Remote;
use super::error::SessionError;
use super::exports::Exports;
use super::local::Local;
use super::options::Options;
use super::progress::{Outcome, Progress, Silent};
use super::server::serve;
use super::watch::{Watched, watch};
use crate::ssh::{self, ClientConfig, Connection, Flow, Host, Login, ServerConfig, Stream};
use crate::transport::memory;

/// Syncs the one folder of `exports` (SOURCE, which is System 1) with `local` (TARGET, which is System 2).
pub async fn sync_together(
    exports: Exports,
    local: Arc<Local>,
    remote: &Remote,
    options: &Options,
    progress: Arc<dyn Progress>,
) -> Result<Outcome, SessionError> {
    let together = Together::beside(exports, &local);
    let outcome = sync(async || together.connect().await, local, remote, options, progress).await;
    together.end().await;
    outcome
}

/// As [`sync_together`], until something ends it for good; see [`watch`].
pub async fn watch_together(
    exports: Exports,
    local: Arc<Local>,
    remote: &Remote,
    options: &Options,
    progress: Arc<dyn Progress>,
    watched: &Watched,
) -> Result<Infallible, SessionError> {
    let together = Together::beside(exports, &local);
    let ended = watch(async || together.connect().await, local, remote, options, progress, watched).await;
    together.end().await;
    ended
}

/// System 1 in this process.
///
/// Both ends run here, so nobody needs to prove who they are: no key, any host key.
pub struct Together {
    host: Arc<Host>,
    exports: Arc<Exports>,
    serving: Arc<Mutex<JoinSet<()>>>,
}

impl Together {
    /// Serves `exports` to whoever [connects](Together::connect).
    pub fn new(exports: Exports) -> Together {
        let nobody = Arc::new(|_: &str, _: &_, _| None::<ssh::Grant>);
        let host = Host::new(ServerConfig::new(vec![ssh::host_key::ephemeral()], nobody));
        Together { host, exports: Arc::new(exports), serving: Arc::default() }
    }

    /// As [`new`](Together::new), of the one folder that stands beside `local` on this system.
    fn beside(exports: Exports, local: &Local) -> Together {
        if let [folder] = &exports.folders[..] {
            local.stands_beside(&folder.path, &exports.state_home);
        }
        Together::new(exports)
    }

    /// A connection to it.
    pub async fn connect(&self) -> Result<Connection, SessionError> {
        let (host, exports, serving) = (self.host.clone(), self.exports.clone(), self.serving.clone());
        let dial = move || {
            let (near, far) = memory::pair();
            let (host, exports) = (host.clone(), exports.clone());
            let end = async move {
                let handler = move |connection: Connection, _| {
                    let exports = exports.clone();
                    async move {
                        // Whatever goes wrong on System 1 is told to System 2 before its connection ends.
                        let _ = serve(connection, &exports, Arc::new(Silent)).await;
                    }
                };
                host.serve_stream(far, &handler).await;
            };
            serving.lock().unwrap_or_else(PoisonError::into_inner).spawn(end);
            std::future::ready(Ok(Box::new(near) as Box<dyn Stream>))
        };
        let config = ClientConfig {
            user: "local".into(),
            login: Login::None,
            host_check: Arc::new(|_: &_| Ok(())),
            flow: Flow::default(),
            chacha_first: false,
            deadline: Duration::from_secs(60),
        };
        ssh::connect(config, dial).await.map_err(|error| SessionError::connecting("the other folder", error))
    }

    /// Waits until System 1 has done everything it does after the client is gone.
    pub async fn end(self) {
        let mut serving = std::mem::take(&mut *self.serving.lock().unwrap_or_else(PoisonError::into_inner));
        while serving.join_next().await.is_some() {}
    }
}
