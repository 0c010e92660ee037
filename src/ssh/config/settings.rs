//! What the values of an ssh configuration mean.

use std::path::PathBuf;
use std::time::Duration;

use super::expand::{Tokens, expand, home, variable};
use super::found::{Found, Place, Value, is_none};
use super::jump::{Hop, hops};
use super::{Around, Asked, ConfigError};
use crate::core::shown::Shown;

/// The settings for one host. What is `None` or empty was not set.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// Where to connect: `HostName`, or the host as it was asked for.
    pub host: String,
    /// The port: as asked for, else `Port`.
    pub port: Option<u16>,
    /// Whom to log in as: as asked for, else `User`.
    pub user: Option<String>,
    /// `IdentityFile`; `Some` and empty where only `none` is named.
    pub identity_files: Option<Vec<PathBuf>>,
    /// `CertificateFile`.
    pub certificate_files: Vec<PathBuf>,
    /// `IdentitiesOnly`.
    pub identities_only: bool,
    /// `IdentityAgent`.
    pub agent: Agent,
    /// `UserKnownHostsFile`; empty for `none`.
    pub user_known_hosts: Option<Vec<PathBuf>>,
    /// `GlobalKnownHostsFile`; empty for `none`.
    pub global_known_hosts: Option<Vec<PathBuf>>,
    /// `StrictHostKeyChecking`.
    pub strict: Option<Strict>,
    /// `HostKeyAlias`: the name under which the host's key is looked up and remembered.
    pub host_key_alias: Option<String>,
    /// `ProxyCommand` or `ProxyJump`.
    pub proxy: Option<Proxy>,
    /// `ConnectTimeout`.
    pub connect_timeout: Option<Duration>,
    /// `ServerAliveInterval`; zero for never.
    pub alive_interval: Option<Duration>,
    /// `ServerAliveCountMax`.
    pub alive_max: Option<usize>,
    /// `BatchMode`: nobody is asked anything.
    pub batch: bool,
    /// What the user should hear of, a line each, fit to be printed.
    pub notices: Vec<String>,
}

/// `IdentityAgent`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Agent {
    /// The one that `SSH_AUTH_SOCK` names.
    #[default]
    Usual,
    /// None.
    None,
    /// The one behind this socket.
    Socket(PathBuf),
}

/// `StrictHostKeyChecking`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strict {
    /// An unknown host is refused.
    Yes,
    /// The user is asked about an unknown host.
    Ask,
    /// An unknown host is trusted and remembered. So is it with `no` and `off`: a changed key is always refused here.
    AcceptNew,
}

/// How the host is reached other than directly.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Proxy {
    /// Through the stdin and stdout of this shell command, all put in.
    Command(String),
    /// Through these hosts, nearest first; never empty.
    Jump(Vec<Hop>),
}

impl Settings {
    /// Understands what was found.
    pub(super) fn of(
        found: &Found,
        asked: &Asked<'_>,
        around: &Around,
        notices: Vec<String>,
    ) -> Result<Settings, ConfigError> {
        let host = match found.word("hostname") {
            Some((name, place)) => place.judge(expand(name, &[('h', asked.host)], None))?,
            None => asked.host.to_owned(),
        };
        let port = match found.word("port") {
            Some((text, place)) => Some(place.judge(port(text))?),
            None => None,
        };
        let user = found.word("user").map(|(user, _)| user.to_owned());
        if found.word("proxyusefdpass").is_some_and(|(value, _)| value.eq_ignore_ascii_case("yes")) {
            let place = found.word("proxycommand").filter(|(command, _)| *command != "none");
            if let Some((_, place)) = place {
                return Err(place.wrong("ProxyUseFdpass is not supported"));
            }
        }
        let settings = Settings {
            host,
            port: asked.port.or(port),
            user: asked.user.map(str::to_owned).or(user),
            identities_only: flag(found, "identitiesonly")?,
            strict: strict(found)?,
            host_key_alias: found.word("hostkeyalias").map(|(alias, _)| alias.to_owned()),
            connect_timeout: time(found, "connecttimeout")?,
            alive_interval: time(found, "serveraliveinterval")?,
            alive_max: count(found, "serveralivecountmax")?,
            batch: flag(found, "batchmode")?,
            notices,
            ..Settings::default()
        };
        settings.with_expanded(found, asked, around)
    }

    /// What may name the host, the port and the user.
    fn with_expanded(
        self,
        found: &Found,
        asked: &Asked<'_>,
        around: &Around,
    ) -> Result<Settings, ConfigError> {
        let port = self.port.unwrap_or(asked.default_port).to_string();
        let user = self.user.clone().unwrap_or_else(|| around.user.clone());
        let home_folder = around.home.to_string_lossy().into_owned();
        let alias = self.host_key_alias.clone().unwrap_or_else(|| asked.host.to_owned());
        let id = rustix::process::getuid().as_raw().to_string();
        let tokens = [
            ('h', &*self.host),
            ('n', asked.host),
            ('p', &*port),
            ('r', &*user),
            ('d', &*home_folder),
            ('i', &*id),
            ('k', &*alias),
            ('u', &*around.user),
        ];
        let mine = Expanding { tokens: &tokens, around };
        Ok(Settings {
            identity_files: mine.files(found.all("identityfile"))?,
            certificate_files: mine.files(found.all("certificatefile"))?.unwrap_or_default(),
            agent: mine.agent(found)?,
            user_known_hosts: mine.files(found.all("userknownhostsfile"))?,
            global_known_hosts: mine.files(found.all("globalknownhostsfile"))?,
            // Only the first four mean something in a command.
            proxy: proxy(found, &tokens[..4])?,
            ..self
        })
    }
}

/// What is put into file names.
struct Expanding<'a> {
    tokens: Tokens<'a>,
    around: &'a Around,
}

impl Expanding<'_> {
    fn path(&self, word: &str) -> Result<PathBuf, String> {
        home(&expand(word, self.tokens, Some(self.around))?, &self.around.home)
    }

    /// The files that some lines name; nothing without lines.
    fn files(&self, lines: &[Value]) -> Result<Option<Vec<PathBuf>>, ConfigError> {
        if lines.is_empty() {
            return Ok(None);
        }
        let mut files = Vec::new();
        for line in lines.iter().filter(|line| !is_none(line)) {
            for word in &line.words {
                files.push(line.place.judge(self.path(word))?);
            }
        }
        Ok(Some(files))
    }

    fn agent(&self, found: &Found) -> Result<Agent, ConfigError> {
        let Some((word, place)) = found.word("identityagent") else { return Ok(Agent::Usual) };
        let plain = word.strip_prefix('$').filter(|name| !name.starts_with('{'));
        let socket = match (word, plain) {
            ("SSH_AUTH_SOCK", _) => return Ok(Agent::Usual),
            (word, _) if word.eq_ignore_ascii_case("none") => return Ok(Agent::None),
            // As ssh: without the variable there is no agent.
            (_, Some(name)) => {
                return Ok(variable(name, self.around).map_or(Agent::None, |path| Agent::Socket(path.into())));
            }
            (word, None) => self.path(word),
        };
        Ok(Agent::Socket(place.judge(socket)?))
    }
}

impl Place {
    fn judge<T>(&self, result: Result<T, String>) -> Result<T, ConfigError> {
        result.map_err(|fault| self.wrong(fault))
    }
}

fn port(text: &str) -> Result<u16, String> {
    let port = text.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| format!("`{}` is not a port (1 to 65535)", Shown(text.as_bytes())))
}

fn flag(found: &Found, keyword: &str) -> Result<bool, ConfigError> {
    let Some((word, place)) = found.word(keyword) else { return Ok(false) };
    match word.to_ascii_lowercase().as_str() {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => Err(place.wrong(format_args!("{keyword} is neither yes nor no"))),
    }
}

fn strict(found: &Found) -> Result<Option<Strict>, ConfigError> {
    let Some((word, place)) = found.word("stricthostkeychecking") else { return Ok(None) };
    match word.to_ascii_lowercase().as_str() {
        "yes" | "true" => Ok(Some(Strict::Yes)),
        "ask" => Ok(Some(Strict::Ask)),
        "accept-new" | "no" | "false" | "off" => Ok(Some(Strict::AcceptNew)),
        _ => Err(place.wrong("StrictHostKeyChecking is yes, ask, accept-new or no")),
    }
}

fn count(found: &Found, keyword: &str) -> Result<Option<usize>, ConfigError> {
    let Some((word, place)) = found.word(keyword) else { return Ok(None) };
    let number = word.parse::<u32>().map_err(|_| place.wrong(format_args!("{keyword} is not a number")))?;
    Ok(Some(number as usize))
}

/// A time as ssh writes it: `90`, `1m30s`, `none`.
fn time(found: &Found, keyword: &str) -> Result<Option<Duration>, ConfigError> {
    let Some((word, place)) = found.word(keyword) else { return Ok(None) };
    if word == "none" {
        return Ok(None);
    }
    let seconds = seconds(word).ok_or_else(|| place.wrong(format_args!("{keyword} is not a time")))?;
    Ok(Some(Duration::from_secs(seconds.into())))
}

fn seconds(text: &str) -> Option<u32> {
    let mut all = 0u32;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u32 = rest[..end].parse().ok()?;
        let unit = rest[end..].chars().next();
        let factor = match unit.map(|unit| unit.to_ascii_lowercase()) {
            None | Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86_400,
            Some('w') => 604_800,
            Some(_) => return None,
        };
        all = all.checked_add(number.checked_mul(factor)?)?;
        rest = &rest[end + unit.map_or(0, char::len_utf8)..];
    }
    (!text.is_empty()).then_some(all)
}

fn proxy(found: &Found, tokens: Tokens<'_>) -> Result<Option<Proxy>, ConfigError> {
    let set = |keyword| found.word(keyword).filter(|(value, _)| !value.eq_ignore_ascii_case("none"));
    if let Some((jump, place)) = set("proxyjump") {
        let jump = place.judge(expand(jump, tokens, None))?;
        return Ok(Some(Proxy::Jump(place.judge(hops(&jump))?)));
    }
    let Some((command, place)) = set("proxycommand") else { return Ok(None) };
    Ok(Some(Proxy::Command(place.judge(expand(command, tokens, None))?)))
}
