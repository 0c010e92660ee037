//! Reaching System 1 over our own SSH: what the command line, the ssh configuration and the defaults say about it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::ear::Ear;
use super::host_check::KnownHosts;
use super::{Stop, places};
use crate::cli::address::RemoteRoot;
use crate::cli::options::ConnectArgs;
use crate::cli::prompt::{Terminal, passphrase_question};
use crate::cli::serve_args::DEFAULT_PORT;
use crate::session::progress::{Event, Progress};
use crate::session::{Remote, SessionError};
use crate::ssh::config::{self, Around, Asked, Files, Hop, Proxy, Settings};
use crate::ssh::{
    self, AskSecret, ClientConfig, Connection, Flow, Identities, Login, Stream, Wanted, identity,
};
use crate::transport::child::{self, Hear, Program, Watch};
use crate::transport::tcp;

/// How long connecting and logging in may take when nobody says.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long a proxy that failed may take to end, so that its last words are known.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Everything that is needed to connect.
pub(crate) struct Reach {
    /// The host as the user named it.
    named: String,
    host: String,
    port: u16,
    user: String,
    identities: Arc<Identities>,
    check: Arc<KnownHosts>,
    deadline: Duration,
    flow: Flow,
    proxy: Option<Program>,
    /// Listens to what a proxy says on stderr.
    ear: Arc<Ear>,
    /// What of the ssh configuration is not used though it might matter.
    notices: Vec<String>,
}

impl Reach {
    /// Reads the settings; asks nobody, connects nowhere.
    pub(crate) fn prepare(root: &RemoteRoot, args: &ConnectArgs) -> Result<Reach, Stop> {
        let home = places::home()?;
        let settings = settings(&home, root, args)?;
        let user = match &settings.user {
            Some(user) => user.clone(),
            None => places::user()?,
        };
        let port = settings.port.unwrap_or(DEFAULT_PORT);
        let given = |time: Option<Duration>| time.filter(|time| !time.is_zero());
        Ok(Reach {
            named: root.host.clone(),
            port,
            user,
            identities: Arc::new(identities(&home, &settings, args)?.into()),
            check: Arc::new(KnownHosts::new(&home, &settings, port, args)),
            deadline: args.patience().or(given(settings.connect_timeout)).unwrap_or(DEADLINE),
            flow: flow(&settings),
            proxy: settings.proxy.as_ref().map(|proxy| program(proxy, &settings.host, port, args)),
            ear: Arc::default(),
            notices: settings.notices,
            host: settings.host,
        })
    }

    /// What this is to the session: export, folder below it, and how both are remembered.
    pub(crate) fn remote(&self, root: &RemoteRoot) -> Remote {
        let export = String::from_utf8_lossy(root.folder.as_bytes()).into_owned();
        let place = format!("remote:{}:{}:{}/{}", self.named, self.port, export, root.sub);
        Remote { export, sub: root.sub.clone(), name: root.to_string(), place }
    }

    /// Tells `progress` what is worth a line on the way.
    pub(crate) fn listen(&self, progress: Arc<dyn Progress>) {
        for notice in &self.notices {
            progress.event(&Event::Notice(notice.clone()));
        }
        self.ear.tell(progress);
    }

    /// Connects and logs in. The session asks whether it is [served](Connection::served).
    pub(crate) async fn connect(&self) -> Result<Connection, SessionError> {
        let config = ClientConfig {
            user: self.user.clone(),
            login: Login::Identities(self.identities.clone()),
            host_check: self.check.clone(),
            flow: self.flow.clone(),
            chacha_first: !has_aes(),
            deadline: self.deadline,
        };
        let at = address(&self.host, self.port);
        let Some(program) = self.proxy.clone() else {
            let (host, port) = (self.host.clone(), self.port);
            let dial = move || {
                let host = host.clone();
                async move {
                    let stream = tcp::connect(&host, port).await.map_err(advised)?;
                    Ok(Box::new(stream) as Box<dyn Stream>)
                }
            };
            return ssh::enter(config, dial).await.map_err(|error| SessionError::connecting(&at, error));
        };
        let started: Arc<Mutex<Option<Watch>>> = Arc::default();
        let watch = started.clone();
        let name = program.name().to_string();
        let hear = self.ear.hear(&name);
        let dial = move || std::future::ready(spawn(&program, &hear, &watch));
        let connected = ssh::connect(config, dial).await;
        let watch = started.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match (connected, watch) {
            (Ok(connection), _) => {
                self.ear.connected();
                Ok(connection)
            }
            (Err(error), Some(watch)) if error.is_lost() => {
                Err(without_proxy(&at, &name, &watch, error).await)
            }
            (Err(error), _) => Err(SessionError::connecting(&at, error)),
        }
    }
}

/// As people write it: an IPv6 address in brackets.
fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// What the system said, with what to do about it.
fn advised(error: io::Error) -> io::Error {
    let advice = match error.kind() {
        io::ErrorKind::ConnectionRefused => "is `syncfiles serve` running there, on this port?",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "are both systems on, and on the network?"
        }
        _ => return error,
    };
    io::Error::new(error.kind(), format!("{error}; {advice}"))
}

fn spawn(program: &Program, hear: &Hear, started: &Mutex<Option<Watch>>) -> io::Result<Box<dyn Stream>> {
    let child = child::spawn(program, Some(hear.clone()))?;
    *started.lock().unwrap_or_else(PoisonError::into_inner) = Some(child.watch());
    Ok(Box::new(child))
}

/// The line was lost: if the proxy has ended, its own words tell why.
async fn without_proxy(at: &str, name: &str, watch: &Watch, error: ssh::ConnectError) -> SessionError {
    match tokio::time::timeout(LAST_WORDS, watch.ended()).await {
        Ok(ending) => SessionError::Connection(format!("cannot connect to {at}: the proxy {name} {ending}")),
        Err(_) => SessionError::connecting(at, error),
    }
}

/// What the ssh configuration says, with what the command line says first.
fn settings(home: &Path, root: &RemoteRoot, args: &ConnectArgs) -> Result<Settings, Stop> {
    let files = match &args.ssh_config {
        Some(name) => Files::named(name),
        None => Files::Usual { user: home.join(".ssh/config"), system: "/etc/ssh/ssh_config".into() },
    };
    let asked = Asked {
        host: &root.host,
        user: root.user.as_deref(),
        port: root.port.or(args.port),
        default_port: DEFAULT_PORT,
    };
    // Nobody needs to know who runs this where the user to log in as is named.
    let local = match asked.user {
        Some(user) => places::user().unwrap_or_else(|_| user.to_owned()),
        None => places::user()?,
    };
    let around = Around::new(home, local, places::variable);
    config::settings(&files, &asked, &around).map_err(Stop::start)
}

/// With what to log in. A key that is named on the command line is the only one.
fn identities(home: &Path, settings: &Settings, args: &ConnectArgs) -> Result<Wanted, Stop> {
    let files = match (&args.identity, &settings.identity_files) {
        (Some(file), _) => {
            identity::find(file).map_err(Stop::start)?;
            vec![file.clone()]
        }
        (None, Some(files)) => files.clone(),
        (None, None) => identity::default_identities(home),
    };
    let agent = match &settings.agent {
        config::Agent::Usual => places::variable("SSH_AUTH_SOCK").map(PathBuf::from),
        config::Agent::None => None,
        config::Agent::Socket(path) => Some(path.clone()),
    };
    Ok(Wanted {
        files,
        certificates: settings.certificate_files.clone(),
        agent: agent.filter(|path| !path.as_os_str().is_empty()),
        only: settings.identities_only || args.identity.is_some(),
        ask: (!settings.batch && Terminal::open().is_ok()).then(|| Arc::new(passphrase) as AskSecret),
    })
}

/// Asks on the terminal.
fn passphrase(file: &Path) -> io::Result<String> {
    let mut terminal = Terminal::open().map_err(io::Error::other)?;
    let secret = terminal.secret(&passphrase_question(&file.to_string_lossy()));
    secret.map(|secret| secret.reveal()).map_err(io::Error::other)
}

fn flow(settings: &Settings) -> Flow {
    let usual = Flow::default();
    Flow {
        keepalive: settings.alive_interval.unwrap_or(usual.keepalive),
        keepalive_max: settings.alive_max.unwrap_or(usual.keepalive_max).max(1),
        ..usual
    }
}

/// What to run to reach the host other than directly.
///
/// Hosts to jump to are left to OpenSSH's own client, as OpenSSH itself does: they are ordinary SSH servers, and may want what
/// only it can give them (a password, a second factor, a security key, hosts before them).
fn program(proxy: &Proxy, host: &str, port: u16, args: &ConnectArgs) -> Program {
    let hops = match proxy {
        Proxy::Command(command) => return Program::shell(command),
        Proxy::Jump(hops) => hops,
    };
    let mut words: Vec<String> = Vec::new();
    if let Some(file) = &args.ssh_config {
        words.extend(["-F".into(), file.to_string_lossy().into_owned()]);
    }
    if let [before @ .., last] = hops.as_slice() {
        if !before.is_empty() {
            words.extend(["-J".into(), before.iter().map(Hop::text).collect::<Vec<_>>().join(",")]);
        }
        words.extend(last.user.iter().flat_map(|user| ["-l".into(), user.clone()]));
        words.extend(last.port.iter().flat_map(|port| ["-p".into(), port.to_string()]));
        words.extend(["-W".into(), format!("[{host}]:{port}"), "--".into(), last.host.clone()]);
    }
    Program::new("ssh", words)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_is_shown_in_brackets() {
        assert_eq!(address("::1", 2222), "[::1]:2222");
        assert_eq!(address("nas", 22), "nas:22");
    }
}
