//! Where this user's files are: the environment is read here and nowhere else.

use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::Stop;

/// The user's home folder.
pub(crate) fn home() -> Result<PathBuf, Stop> {
    let home = env::var_os("HOME").filter(|home| !home.is_empty());
    home.map(PathBuf::from).ok_or_else(|| Stop::start("cannot find the home folder: HOME is not set"))
}

/// A variable of the environment, if it is text.
pub(crate) fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}

/// `$XDG_STATE_HOME/syncfiles`: what must be remembered outside of the roots.
pub(crate) fn state_home() -> Result<PathBuf, Stop> {
    below("XDG_STATE_HOME", ".local/state")
}

/// `$XDG_CONFIG_HOME/syncfiles`: the host key, and who may log in.
pub(crate) fn config_home() -> Result<PathBuf, Stop> {
    below("XDG_CONFIG_HOME", ".config")
}

fn below(variable: &str, fallback: &str) -> Result<PathBuf, Stop> {
    let set = env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = match set {
        Some(base) => base,
        None => home()?.join(fallback),
    };
    Ok(base.join("syncfiles"))
}

/// The name of the user who runs this: as the environment says, else as the system's list of users does.
pub(crate) fn user() -> Result<String, Stop> {
    let named =
        ["USER", "LOGNAME"].into_iter().find_map(|name| env::var(name).ok().filter(|name| !name.is_empty()));
    named.or_else(user_of_the_process).ok_or_else(|| {
        Stop::start("cannot tell who runs this: USER is not set; write USER@HOST, or serve --user NAME")
    })
}

/// Where the client of the sshd is that runs this, if one does.
pub(crate) fn ssh_client() -> Option<SocketAddr> {
    let connection = env::var("SSH_CONNECTION").ok()?;
    let mut words = connection.split(' ');
    let (address, port) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(SocketAddr::new(address, port))
}

fn user_of_the_process() -> Option<String> {
    let list = std::fs::read_to_string("/etc/passwd").ok()?;
    let id = rustix::process::getuid().as_raw().to_string();
    let line = list.lines().find(|line| line.split(':').nth(2) == Some(&id))?;
    line.split(':').next().map(str::to_owned)
}
