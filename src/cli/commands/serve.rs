//! `syncfiles serve`: System 1.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use super::keys::Keys;
use super::listen::listeners;
use super::log::Log;
use super::sandbox::{Wanted, confined};
use super::sync::absolute;
use super::{Stop, places, runtime};
use crate::cli::exit::ExitCode;
use crate::cli::serve_args::{DEFAULT_PORT, ServeArgs};
use crate::core::shown::Shown;
use crate::protocol::message::Keep;
use crate::replica::root::Root;
use crate::session::progress::Silent;
use crate::session::{Came, Export, Exports, Served, SessionError, serve};
use crate::ssh::authorized_keys::{self, Limits};
use crate::ssh::{Connection, Peer, Server, ServerConfig, host_key};

/// Serves until a signal ends it.
pub(crate) fn run(args: &ServeArgs) -> Result<ExitCode, Stop> {
    let log = Log::begin(args.log_file.as_deref(), args.log_format, args.stdio)
        .map_err(|error| Stop::root(format_args!("cannot open the log: {error}; check --log-file")))?;
    if args.stdio {
        return super::stdio::run(args);
    }
    let exports = exports(args)?;
    looked_at(&exports)?;
    let user = match &args.user {
        Some(user) => user.clone(),
        None => places::user()?,
    };
    let keys = Arc::new(Keys::load(keys_file(args)?, user.clone())?);
    let host_key_file = match &args.host_key {
        Some(file) => file.clone(),
        None => places::config_home()?.join("host_key"),
    };
    let (host_key, _) = host_key::load_or_create(&host_key_file).map_err(Stop::start)?;
    let fingerprint = host_key::fingerprint(host_key.public_key());
    let mut config = ServerConfig::new(vec![host_key], keys.clone());
    if let Some(max) = args.max_clients {
        config.max_clients = max as usize;
    }
    let listeners = listeners(args)?;
    let wanted = Wanted { more: keys.folders(), keys: Some(keys.file()), log: args.log_file.as_deref() };
    let exports = confined(args.sandbox, exports, wanted)?;
    take_descriptors();
    runtime(1)?.block_on(async {
        let server = Server::over(config, listeners).map_err(Stop::root)?;
        // Before anybody is told that this runs: a signal that nobody waits for ends the process.
        let Signals { hang_up, stop } = Signals::awaited()?;
        greet(&server, &fingerprint, &exports, &user);
        tokio::spawn(reload(hang_up, keys, log));
        tell(&[NotifyState::Ready]);
        let stopping = exports.stopping.clone();
        let stopped = async {
            stop.await;
            stopping.begin();
            tell(&[NotifyState::Stopping]);
            info!("stopping: running transfers are finished first");
        };
        server.run(handler(exports), stopped).await;
        info!("stopped");
        Ok(ExitCode::InSync)
    })
}

/// Allows this process as many open files as the system lets it have: each connection takes some five beside those of its
/// folder, and the usual limit is made for programs that cannot have more.
fn take_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    // What is refused here is told where a descriptor is missing.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Tells the service manager, if one wants to know.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(because = %error, "cannot tell the service manager");
    }
}

/// What is offered.
pub(super) fn exports(args: &ServeArgs) -> Result<Exports, Stop> {
    let mut folders = Vec::new();
    for export in &args.exports {
        let name = String::from_utf8(export.name.as_bytes().to_vec());
        let name = name.map_err(|_| {
            Stop::new(
                ExitCode::Usage,
                format_args!("the export name {} is not UTF-8: write NAME=DIR", export.name),
            )
        })?;
        folders.push(Export { name, path: absolute(&export.dir)? });
    }
    let exports = Exports::new(folders, places::state_home()?);
    let least = Some(Keep::default());
    Ok(Exports { read_only: args.read_only, no_delete: args.no_delete, least, ..exports })
}

/// Each folder is looked at once: a mistake shows now, not at the first sync.
fn looked_at(exports: &Exports) -> Result<(), Stop> {
    exports.folders.iter().try_for_each(|export| Root::open(&export.path).map(drop)).map_err(Stop::root)
}

fn keys_file(args: &ServeArgs) -> Result<PathBuf, Stop> {
    if let Some(file) = &args.authorized_keys {
        return Ok(file.clone());
    }
    let own = places::config_home()?.join("authorized_keys");
    let usual = places::home()?.join(".ssh/authorized_keys");
    // What cannot even be looked for tells why when it is read.
    let there = |file: &Path| file.try_exists().unwrap_or(true);
    match (there(&own), there(&usual)) {
        (true, _) => Ok(own),
        (false, true) => Ok(usual),
        (false, false) => {
            let shown = |file: &Path| Shown(file.as_os_str().as_encoded_bytes()).to_string();
            Err(Stop::start(format_args!(
                "nobody could log in: neither {} nor {} is there; put the public key of whoever may sync into the first",
                shown(&own),
                shown(&usual)
            )))
        }
    }
}

/// Says on start what a user needs for the other system.
fn greet(server: &Server, fingerprint: &str, exports: &Exports, user: &str) {
    let addresses = server.local_addrs();
    for address in &addresses {
        info!(%address, host_key = fingerprint, "serving");
    }
    let Some(bound) = addresses.first() else { return };
    let port = match bound.port() {
        DEFAULT_PORT => String::new(),
        port => format!("--port {port} "),
    };
    let host = if bound.ip().is_unspecified() { "THIS-HOST".to_owned() } else { bound.ip().to_string() };
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    for Export { name, path } in &exports.folders {
        let roots = [format!("{user}@{host}:{name}"), format!("./{name}")];
        // Only NUL cannot be quoted, and no name of an export has one.
        let roots = shlex::try_join(roots.iter().map(String::as_str)).unwrap_or_default();
        let command = format!("syncfiles {port}{roots}");
        info!(%name, folder = %path.display(), on_the_other_system = %command, "export");
    }
}

/// What a running server is told by.
struct Signals<F> {
    hang_up: Signal,
    /// Resolves when it is to stop.
    stop: F,
}

impl Signals<()> {
    /// From now on signals are waited for; those that come before anybody looks count too.
    fn awaited() -> Result<Signals<impl Future<Output = ()>>, Stop> {
        let wait =
            |kind| signal(kind).map_err(|error| Stop::root(format_args!("cannot wait for signals: {error}")));
        let mut term = wait(SignalKind::terminate())?;
        let mut interrupt = wait(SignalKind::interrupt())?;
        let stop = async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        Ok(Signals { hang_up: wait(SignalKind::hangup())?, stop })
    }
}

/// On each SIGHUP reads the keys again, and goes on in a new log where the old one was moved away.
async fn reload(mut hang_up: Signal, keys: Arc<Keys>, log: Log) {
    let log = Arc::new(log);
    while hang_up.recv().await.is_some() {
        let (keys, log) = (keys.clone(), log.clone());
        // Both together are what systemd's Type=notify-reload waits for.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            tell(&[NotifyState::Reloading, now]);
        }
        let reloading = move || {
            if let Err(error) = log.reopen() {
                warn!(because = %error, "kept the old log file");
            }
            keys.reload();
        };
        let _ = tokio::task::spawn_blocking(reloading).await;
        tell(&[NotifyState::Ready]);
    }
}

type Handling = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Serves each client, and writes one line when it comes and one about its run.
pub(super) fn handler(exports: Exports) -> impl Fn(Connection, Peer) -> Handling + Send + Sync + 'static {
    let exports = Arc::new(exports);
    let count = AtomicU64::new(1);
    move |connection, peer| {
        let (exports, client) = (exports.clone(), count.fetch_add(1, Ordering::Relaxed));
        Box::pin(async move {
            let Peer { user, fingerprint: key, .. } = &peer;
            let from = peer.address.map(|address| address.to_string()).unwrap_or_default();
            info!(client, user, key, from, "logged in");
            let began = Instant::now();
            let exports = granted(&exports, &peer);
            let (served, ended) = serve(connection, &exports, Arc::new(Silent)).await;
            let seconds = began.elapsed().as_secs_f64();
            let outcome = outcome(&served, &ended);
            let Served { root, files, bytes, failed, .. } = served;
            match ended {
                Ok(()) => {
                    info!(client, user, key, from, root, files, bytes, failed, seconds, outcome, "served")
                }
                Err(error) => {
                    let (because, code) = (error.to_string(), error.exit_code());
                    warn!(
                        client,
                        user,
                        key,
                        from,
                        root,
                        files,
                        bytes,
                        failed,
                        seconds,
                        outcome,
                        code,
                        because,
                        "ended a client's run early"
                    );
                }
            }
        })
    }
}

/// How a run ended, in a word or two.
fn outcome(served: &Served, ended: &Result<(), SessionError>) -> &'static str {
    match (ended, served.came) {
        (Err(_), _) => "stopped",
        (Ok(()), _) if served.failed > 0 => "some failed",
        (Ok(()), Came::Looked) => "nothing to do",
        (Ok(()), Came::Planned) => "only planned",
        (Ok(()), Came::Transferred | Came::Performed) => "done",
    }
}

/// What the server offers, narrowed to what the client's key may.
fn granted(exports: &Exports, peer: &Peer) -> Exports {
    let Some(limits) = peer.grant.downcast_ref::<Limits>() else { return exports.clone() };
    // As under an sshd, where a command starts in the home folder.
    let home = places::home().unwrap_or_default();
    let own =
        |export: &authorized_keys::Export| Export { name: export.name.clone(), path: home.join(&export.dir) };
    let folders = match &limits.exports {
        Some(exports) => exports.iter().map(own).collect(),
        None => exports.folders.clone(),
    };
    Exports {
        folders,
        read_only: exports.read_only || limits.read_only,
        no_delete: exports.no_delete || limits.no_delete,
        ..exports.clone()
    }
}
