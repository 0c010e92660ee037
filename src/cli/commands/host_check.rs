//! Whether the host at the other end is the one that was meant: known_hosts, and a question on the terminal.

use std::path::{Path, PathBuf};

use crate::cli::options::ConnectArgs;
use crate::cli::prompt::{Terminal, host_question};
use crate::ssh::config::{Settings, Strict};
use crate::ssh::known_hosts::{self, Decision, Offered};
use crate::ssh::{HostCheck, Later, PublicKey, host_key};

/// What the system knows of hosts.
const SYSTEM: &str = "/etc/ssh/ssh_known_hosts";

/// Holds a host's key against known_hosts, and asks about one that is met for the first time.
#[derive(Clone, Debug)]
pub(super) struct KnownHosts {
    /// The name and port under which its key is looked up.
    host: String,
    port: u16,
    /// All that is looked into; the first of the user's own is what a new key is added to.
    files: Vec<PathBuf>,
    own: Option<PathBuf>,
    strict: Strict,
    /// Whether somebody may be asked.
    ask: bool,
}

impl KnownHosts {
    /// For a host that is dialled at a port.
    pub(super) fn new(home: &Path, settings: &Settings, port: u16, args: &ConnectArgs) -> KnownHosts {
        // An alias stands for host and port both.
        let (host, port) = match &settings.host_key_alias {
            Some(alias) => (alias.clone(), 22),
            None => (settings.host.clone(), port),
        };
        let own = match (&args.known_hosts, &settings.user_known_hosts) {
            (Some(file), _) => vec![file.clone()],
            (None, Some(files)) => files.clone(),
            (None, None) => vec![home.join(".ssh/known_hosts")],
        };
        let system = settings.global_known_hosts.clone().unwrap_or_else(|| vec![SYSTEM.into()]);
        let nothing = |file: &PathBuf| file == Path::new("/dev/null");
        let strict = settings.strict.unwrap_or(Strict::Ask);
        KnownHosts {
            host,
            port,
            own: own.iter().find(|file| !nothing(file)).cloned(),
            files: own.into_iter().chain(system).filter(|file| !nothing(file)).collect(),
            strict: if args.accept_new { Strict::AcceptNew } else { strict },
            ask: !settings.batch,
        }
    }

    fn judge(&self, key: &PublicKey) -> Result<(), String> {
        let offered = Offered { host: &self.host, port: self.port, key };
        let verdict = known_hosts::check(&self.files, &offered).map_err(|error| error.to_string())?;
        let may_ask = self.ask && self.strict != Strict::Yes;
        let mut terminal = Terminal::open().ok().filter(|_| may_ask);
        let question = host_question(&self.host, key.algorithm().as_str(), &host_key::fingerprint(key));
        let mut ask = terminal
            .as_mut()
            .map(|terminal| move |_: &str| terminal.confirm(&question).map_err(std::io::Error::other));
        let ask = ask.as_mut().map(|ask| ask as &mut dyn FnMut(&str) -> std::io::Result<bool>);
        let decision = known_hosts::decide(&offered, verdict, ask, self.strict == Strict::AcceptNew);
        match (decision.map_err(|refused| refused.to_string())?, &self.own) {
            (Decision::TrustedNew, Some(own)) => {
                known_hosts::remember(own, &offered).map_err(|error| error.to_string())
            }
            (Decision::Trusted, _) | (_, None) => Ok(()),
        }
    }
}

impl HostCheck for KnownHosts {
    fn check(&self, key: PublicKey) -> Later<Result<(), String>> {
        let known = self.clone();
        Box::pin(async move {
            let checked = tokio::task::spawn_blocking(move || known.judge(&key)).await;
            checked.unwrap_or_else(|_| Err("checking the host key failed".into()))
        })
    }
}
