//! Reaching System 1 over TCP: which keys to offer, and whether its host key is the right one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Stop, places};
use crate::cli::address::RemoteRoot;
use crate::cli::options::ConnectArgs;
use crate::cli::prompt::{Terminal, host_question, passphrase_question};
use crate::cli::serve_args::DEFAULT_PORT;
use crate::session::{Remote, SessionError};
use crate::ssh::known_hosts::{self, Decision, Offered};
use crate::ssh::{
    self, ClientConfig, Connection, Flow, HostCheck, Later, Login, PrivateKey, PublicKey, Stream, host_key,
    identity,
};
use crate::transport::tcp;

/// How long connecting and logging in may take when the user set no `--timeout`.
const DEADLINE: Duration = Duration::from_secs(30);

/// Everything that is needed to connect.
pub(crate) struct Reach {
    host: String,
    port: u16,
    user: String,
    keys: Vec<Arc<PrivateKey>>,
    check: Arc<KnownHosts>,
    deadline: Duration,
}

impl Reach {
    /// Reads keys and settings; asks for passphrases.
    pub(crate) fn prepare(root: &RemoteRoot, args: &ConnectArgs) -> Result<Reach, Stop> {
        let home = places::home()?;
        let user = match &root.user {
            Some(user) => user.clone(),
            None => places::user()?,
        };
        let port = root.port.or(args.port).unwrap_or(DEFAULT_PORT);
        let known = args.known_hosts.clone().unwrap_or_else(|| home.join(".ssh/known_hosts"));
        let check = KnownHosts { host: root.host.clone(), port, file: known, accept_new: args.accept_new };
        let deadline = args.patience().unwrap_or(DEADLINE);
        Ok(Reach {
            host: root.host.clone(),
            port,
            user,
            keys: keys(&home, args)?,
            check: Arc::new(check),
            deadline,
        })
    }

    /// What this is to the session: export, folder below it, and how both are remembered.
    pub(crate) fn remote(&self, root: &RemoteRoot) -> Remote {
        let export = String::from_utf8_lossy(root.folder.as_bytes()).into_owned();
        let place = format!("remote:{}:{}:{}/{}", self.host, self.port, export, root.sub);
        Remote { export, sub: root.sub.clone(), name: root.to_string(), place }
    }

    /// Connects and logs in.
    pub(crate) async fn connect(&self) -> Result<Connection, SessionError> {
        let config = ClientConfig {
            user: self.user.clone(),
            login: Login::Keys(self.keys.clone()),
            host_check: self.check.clone(),
            flow: Flow::default(),
            chacha_first: !has_aes(),
            deadline: self.deadline,
        };
        let (host, port) = (self.host.clone(), self.port);
        let at = format!("{host}:{port}");
        let dial = move || {
            let host = host.clone();
            async move { Ok(Box::new(tcp::connect(&host, port).await?) as Box<dyn Stream>) }
        };
        ssh::connect(config, dial).await.map_err(|error| SessionError::connecting(&at, error))
    }
}

/// The named identity, or those that OpenSSH would try.
fn keys(home: &Path, args: &ConnectArgs) -> Result<Vec<Arc<PrivateKey>>, Stop> {
    let files = match &args.identity {
        Some(file) => vec![file.clone()],
        None => identity::default_identities(home),
    };
    if files.is_empty() {
        return Err(Stop::start(
            "cannot log in: there is no key in ~/.ssh; make one with ssh-keygen -t ed25519, or name one with --identity",
        ));
    }
    let mut keys = Vec::new();
    let mut failed = None;
    for file in files {
        match load(&file) {
            Ok(key) => keys.push(Arc::new(key)),
            Err(stop) => failed = failed.or(Some(stop)),
        }
    }
    match failed {
        Some(stop) if keys.is_empty() => Err(stop),
        _ => Ok(keys),
    }
}

fn load(file: &Path) -> Result<PrivateKey, Stop> {
    let mut terminal = Terminal::open().ok();
    let mut ask = |path: &Path| match &mut terminal {
        Some(terminal) => {
            let secret = terminal.secret(&passphrase_question(&path.to_string_lossy()));
            secret.map(|secret| secret.reveal()).map_err(std::io::Error::other)
        }
        None => Err(std::io::Error::other("there is no terminal to ask for the passphrase")),
    };
    identity::load(file, Some(&mut ask)).map_err(Stop::start)
}

/// Whether this machine encrypts AES in hardware; without, ChaCha20 is faster.
pub(super) fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// Holds a host's key against known_hosts, and asks on the terminal about one that is met for the first time.
#[derive(Debug)]
struct KnownHosts {
    host: String,
    port: u16,
    file: PathBuf,
    accept_new: bool,
}

impl HostCheck for KnownHosts {
    fn check(&self, key: PublicKey) -> Later<Result<(), String>> {
        let known = KnownHosts { host: self.host.clone(), file: self.file.clone(), ..*self };
        Box::pin(async move {
            let checked = tokio::task::spawn_blocking(move || known.judge(&key)).await;
            checked.unwrap_or_else(|_| Err("checking the host key failed".into()))
        })
    }
}

impl KnownHosts {
    fn judge(&self, key: &PublicKey) -> Result<(), String> {
        let offered = Offered { host: &self.host, port: self.port, key };
        let files = [self.file.clone()];
        let verdict = known_hosts::check(&files, &offered).map_err(|error| error.to_string())?;
        let mut terminal = Terminal::open().ok();
        let question = host_question(&self.host, key.algorithm().as_str(), &host_key::fingerprint(key));
        let mut ask = terminal
            .as_mut()
            .map(|terminal| move |_: &str| terminal.confirm(&question).map_err(std::io::Error::other));
        let ask = ask.as_mut().map(|ask| ask as &mut dyn FnMut(&str) -> std::io::Result<bool>);
        let decision = known_hosts::decide(&offered, verdict, ask, self.accept_new);
        match decision.map_err(|refused| refused.to_string())? {
            Decision::Trusted => Ok(()),
            Decision::TrustedNew => {
                known_hosts::remember(&self.file, &offered).map_err(|error| error.to_string())
            }
        }
    }
}
