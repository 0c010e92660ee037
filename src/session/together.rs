//! Two local roots in one process: both ends of the same protocol, over a stream in memory.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

use super::client::{Remote, sync};
use super::error::SessionError;
use super::local::Local;
use super::options::Options;
use super::progress::{Outcome, Progress, Silent};
use super::server::{Exports, serve};
use crate::ssh::{self, ClientConfig, Connection, Flow, Host, Login, ServerConfig, Stream};
use crate::transport::memory;

/// Syncs the one folder of `exports` (SOURCE, which is System 1) with `local` (TARGET, which is System 2).
///
/// Both ends run in this process, so nobody needs to prove who they are: no key, any host key.
pub async fn sync_together(
    exports: Exports,
    local: Arc<Local>,
    remote: &Remote,
    options: &Options,
    progress: Arc<dyn Progress>,
) -> Result<Outcome, SessionError> {
    let host = Host::new(ServerConfig::new(
        vec![ssh::host_key::ephemeral()],
        Arc::new(|_: &str, _: &_, _| None::<ssh::Grant>),
    ));
    let exports = Arc::new(exports);
    let handler = move |connection: Connection, _| {
        let exports = exports.clone();
        async move {
            // Whatever goes wrong on System 1 is told to System 2 before its connection ends.
            let _ = serve(connection, &exports, Arc::new(Silent)).await;
        }
    };
    let serving = Arc::new(Mutex::new(JoinSet::new()));
    let dial = {
        let serving = serving.clone();
        move || {
            let (near, far) = memory::pair();
            let (host, handler) = (host.clone(), handler.clone());
            let end = async move { host.serve_stream(far, &handler).await };
            serving.lock().unwrap_or_else(PoisonError::into_inner).spawn(end);
            std::future::ready(Ok(Box::new(near) as Box<dyn Stream>))
        }
    };
    let connect = async { Ok(ssh::connect(config(), dial).await?) };
    let outcome = sync(connect, local, remote, options, progress).await;
    let mut serving = std::mem::take(&mut *serving.lock().unwrap_or_else(PoisonError::into_inner));
    while serving.join_next().await.is_some() {}
    outcome
}

fn config() -> ClientConfig {
    ClientConfig {
        user: "local".into(),
        login: Login::None,
        host_check: Arc::new(|_: &_| Ok(())),
        flow: Flow::default(),
        chacha_first: false,
        deadline: Duration::from_secs(60),
    }
}
