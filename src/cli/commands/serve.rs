//! `syncfiles serve`: System 1.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Instant, SystemTime};

use super::log::Log;
use super::sync::absolute;
use super::{Stop, interrupted, places, runtime};
use crate::cli::exit::ExitCode;
use crate::cli::serve_args::ServeArgs;
use crate::core::shown::Shown;
use crate::protocol::message::Keep;
use crate::replica::root::Root;
use crate::session::progress::Silent;
use crate::session::{Export, Exports, serve};
use crate::ssh::authorized_keys::{self, AuthorizedKeys, Limits};
use crate::ssh::{Authorize, Connection, Grant, Peer, PublicKey, Server, ServerConfig, host_key};

/// Serves until a signal ends it.
pub(crate) fn run(args: &ServeArgs) -> Result<ExitCode, Stop> {
    let log = Log::open(args.log_file.as_deref(), args.log_format, args.stdio)
        .map_err(|error| Stop::root(format_args!("cannot open the log: {error}; check --log-file")))?;
    let log = Arc::new(log);
    if args.stdio {
        return super::stdio::run(args, log);
    }
    let exports = exports(args)?;
    looked_at(&exports)?;
    let user = match &args.user {
        Some(user) => user.clone(),
        None => places::user()?,
    };
    let keys = Arc::new(Keys::load(keys_file(args)?, user.clone(), log.clone())?);
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
    runtime()?.block_on(async {
        let address = args.address();
        let server = Server::bind(config, address).await.map_err(|error| {
            Stop::new(
                ExitCode::Connection,
                format_args!("cannot listen on {address}: {error}; name another with --listen ADDR:PORT"),
            )
        })?;
        let bound = server.local_addr().unwrap_or(address);
        greet(&log, bound, &fingerprint, &exports, &user);
        let handler = handler(exports, log.clone());
        tokio::spawn(reload(keys));
        server
            .run(handler, async {
                stop_signal().await;
                log.event("stopping: running transfers are finished first", &[]);
            })
            .await;
        log.event("stopped", &[]);
        Ok(ExitCode::InSync)
    })
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
    if own.exists() { Ok(own) } else { Ok(places::home()?.join(".ssh/authorized_keys")) }
}

/// Says on start what a user needs for the other system.
fn greet(log: &Log, bound: SocketAddr, fingerprint: &str, exports: &Exports, user: &str) {
    log.event("serving", &[("address", bound.to_string()), ("host_key", fingerprint.into())]);
    let port = if bound.port() == crate::cli::serve_args::DEFAULT_PORT {
        String::new()
    } else {
        format!("--port {} ", bound.port())
    };
    let host = if bound.ip().is_unspecified() { "THIS-HOST".to_owned() } else { bound.ip().to_string() };
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    for export in &exports.folders {
        let command = format!("syncfiles {port}{user}@{host}:{} ./{}", export.name, export.name);
        log.event(
            "export",
            &[
                ("name", export.name.clone()),
                ("folder", export.path.display().to_string()),
                ("on_the_other_system", command),
            ],
        );
    }
}

/// Who may log in: read at the start, and again on SIGHUP.
struct Keys {
    file: PathBuf,
    user: String,
    keys: RwLock<AuthorizedKeys>,
    log: Arc<Log>,
}

impl Keys {
    fn load(file: PathBuf, user: String, log: Arc<Log>) -> Result<Keys, Stop> {
        let keys = read_keys(&file, &log).map_err(Stop::start)?;
        if keys.is_empty() {
            return Err(Stop::start(format_args!(
                "nobody could log in: {} holds no usable key; add the client's public key",
                Shown(file.as_os_str().as_encoded_bytes())
            )));
        }
        Ok(Keys { file, user, keys: RwLock::new(keys), log })
    }

    fn reload(&self) {
        match read_keys(&self.file, &self.log) {
            Ok(keys) => {
                self.log.event("read the authorized keys again", &[("keys", keys.len().to_string())]);
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
            }
            Err(error) => self.log.event("kept the old authorized keys", &[("because", error)]),
        }
    }
}

fn read_keys(file: &Path, log: &Log) -> Result<AuthorizedKeys, String> {
    let (keys, notes) = AuthorizedKeys::load(file).map_err(|error| error.to_string())?;
    for note in notes {
        log.event("refused a line of authorized_keys", &[("note", note.to_string())]);
    }
    Ok(keys)
}

impl Authorize for Keys {
    fn authorize(&self, user: &str, key: &PublicKey, address: Option<SocketAddr>) -> Option<Grant> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let from = address.map(|address| address.ip());
        let denied = match keys.authorize(key, from, SystemTime::now()) {
            Ok(limits) if user == self.user => return Some(Arc::new(limits.clone())),
            Ok(_) => "the user name is another".to_owned(),
            Err(denied) => denied.to_string(),
        };
        let fields = [
            ("user", user.to_owned()),
            ("key", host_key::fingerprint(key)),
            ("from", from.map(|ip| ip.to_string()).unwrap_or_default()),
            ("because", denied),
        ];
        self.log.event("refused a login", &fields);
        None
    }
}

async fn reload(keys: Arc<Keys>) {
    let Ok(mut hang_up) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()) else {
        return;
    };
    while hang_up.recv().await.is_some() {
        let keys = keys.clone();
        let _ = tokio::task::spawn_blocking(move || keys.reload()).await;
    }
}

/// SIGTERM or SIGINT; SIGHUP means something else here.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut term) => {
            tokio::select! {
                _ = term.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        Err(_) => interrupted().await,
    }
}

type Handling = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Serves each client, and writes one line about its run.
pub(super) fn handler(
    exports: Exports,
    log: Arc<Log>,
) -> impl Fn(Connection, Peer) -> Handling + Send + Sync + 'static {
    let exports = Arc::new(exports);
    move |connection, peer| {
        let (exports, log) = (exports.clone(), log.clone());
        Box::pin(async move {
            let began = Instant::now();
            let exports = granted(&exports, &peer);
            let served = serve(connection, &exports, Arc::new(Silent)).await;
            let mut fields = vec![
                ("user", peer.user.clone()),
                ("key", peer.fingerprint.clone()),
                ("from", peer.address.map(|address| address.to_string()).unwrap_or_default()),
            ];
            let event = match served {
                Ok(served) => {
                    fields.extend([
                        ("root", served.root),
                        ("files", served.files.to_string()),
                        ("bytes", served.bytes.to_string()),
                        ("failed", served.failed.to_string()),
                    ]);
                    "served"
                }
                Err(error) => {
                    fields.push(("because", error.to_string()));
                    "ended a client's run early"
                }
            };
            fields.push(("seconds", format!("{:.2}", began.elapsed().as_secs_f64())));
            log.event(event, &fields);
        })
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
