//! Reaching System 1 through an outer ssh (`-e`): it runs `syncfiles serve --stdio` over there, and carries everything.
//!
//! One run of that command carries all connections of a sync: nobody is asked for a password twice.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};

use super::Stop;
use super::ear::Ear;
use super::reach::has_aes;
use crate::cli::address::RemoteRoot;
use crate::cli::exit::ExitCode;
use crate::cli::options::ConnectArgs;
use crate::core::path::RelPath;
use crate::core::shown::Shown;
use crate::session::progress::Progress;
use crate::session::{Remote, SessionError};
use crate::ssh::{self, ClientConfig, ConnectError, Connection, Flow, Login, SUBSYSTEM, Stream};
use crate::transport::child::{self, Child, Ending, Program, Watch};
use crate::transport::mux::Mux;
use crate::transport::preamble::{self, Lost};

/// How long the inner connection may take once the other end has spoken.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long the command may take to end once there is nothing more to do.
const GRACE: Duration = Duration::from_secs(3);

/// Everything that is needed to connect, and the command while it runs.
pub(crate) struct Rsh {
    /// The command's first word.
    ssh: String,
    /// What runs over there.
    remote_path: String,
    host: String,
    place: String,
    folder: Folder,
    program: Program,
    flow: Flow,
    /// How long the command may take until the other end speaks: it may be asking for a password meanwhile.
    patience: Option<Duration>,
    ear: Arc<Ear>,
    outer: tokio::sync::Mutex<Option<Outer>>,
}

/// The running command.
struct Outer {
    mux: Arc<Mux>,
    watch: Watch,
}

impl Rsh {
    /// Puts the command together; runs nothing.
    pub(crate) fn prepare(root: &RemoteRoot, rsh: &OsStr, args: &ConnectArgs) -> Result<Rsh, Stop> {
        let wrong = |text: String| Stop::new(ExitCode::Usage, text);
        let words = shlex::bytes::split(rsh.as_bytes()).filter(|words| !words.is_empty());
        let words = words.ok_or_else(|| {
            wrong(format!("-e {} is no command: write -e ssh, or -e 'ssh -i FILE'", Shown(rsh.as_bytes())))
        })?;
        let remote_path = args.remote_path.clone().unwrap_or_else(|| SUBSYSTEM.into());
        let folder = Folder::of(root).map_err(wrong)?;
        let port = root.port.map(|port| format!(":{port}")).unwrap_or_default();
        let user = root.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        Ok(Rsh {
            ssh: Shown(&words[0]).to_string(),
            remote_path: Shown(remote_path.as_bytes()).to_string(),
            place: format!("rsh:{user}{}{port}:{}/{}", root.host, Shown(&folder.dir), folder.sub),
            host: format!("{user}{}{port}", root.host),
            program: program(words, root, remote_path, &folder),
            folder,
            flow: Flow::default(),
            patience: args.timeout.filter(|timeout| !timeout.is_zero()),
            ear: Arc::default(),
            outer: tokio::sync::Mutex::default(),
        })
    }

    /// What this is to the session.
    pub(crate) fn remote(&self, root: &RemoteRoot) -> Remote {
        let (export, sub) = (self.folder.export.clone(), self.folder.sub.clone());
        Remote { export, sub, name: root.to_string(), place: self.place.clone() }
    }

    /// Tells `progress` what the command says on stderr.
    pub(crate) fn listen(&self, progress: Arc<dyn Progress>) {
        self.ear.tell(progress);
    }

    /// Connects; starts the command if it does not run.
    pub(crate) async fn connect(&self) -> Result<Connection, SessionError> {
        let (mux, watch) = self.outer().await?;
        let config = ClientConfig {
            user: "stdio".into(),
            login: Login::None,
            // The outer ssh has judged the host; the inner key lives as long as the process over there.
            host_check: Arc::new(|_: &_| Ok(())),
            flow: self.flow.clone(),
            chacha_first: !has_aes(),
            deadline: self.patience.unwrap_or(DEADLINE),
        };
        let dialled = mux.clone();
        let dial = move || {
            let opened = dialled.open();
            std::future::ready(opened.map(|stream| Box::new(stream) as Box<dyn Stream>))
        };
        let connected = ssh::connect(config, dial).await;
        match connected {
            Err(ConnectError::Dial(_) | ConnectError::Protocol(_)) if mux.ended() => {
                Err(self.cut(&watch).await)
            }
            connected => connected.map_err(|error| SessionError::connecting(&self.host, error)),
        }
    }

    /// Lets the command end.
    pub(crate) async fn end(&self) {
        let Some(Outer { mux, watch }) = self.outer.lock().await.take() else { return };
        // What was said last may still be on its way.
        let _ = tokio::time::timeout(GRACE, mux.flush()).await;
        drop(mux);
        let _ = ended(&watch).await;
    }

    async fn outer(&self) -> Result<(Arc<Mux>, Watch), SessionError> {
        let mut outer = self.outer.lock().await;
        if outer.as_ref().is_none_or(|outer| outer.mux.ended()) {
            *outer = None;
            *outer = Some(self.start().await?);
        }
        match &*outer {
            Some(outer) => Ok((outer.mux.clone(), outer.watch.clone())),
            None => Err(SessionError::Connection("the command did not start".into())),
        }
    }

    /// Runs the command until the other end has spoken.
    async fn start(&self) -> Result<Outer, SessionError> {
        let child = child::spawn(&self.program, Some(self.ear.hear(&self.ssh)))
            .map_err(|error| SessionError::Refused(format!("{error}; name another with -e CMD")))?;
        let watch = child.watch();
        let meeting = meet(child);
        let met = match self.patience {
            None => meeting.await,
            Some(patience) => tokio::time::timeout(patience, meeting).await.map_err(|_| {
                let (host, seconds) = (&self.host, patience.as_secs());
                SessionError::ConnectTimeout(format!("{host}: no answer within {seconds} seconds"))
            })?,
        };
        match met {
            Ok(mux) => {
                self.ear.connected();
                Ok(Outer { mux: Arc::new(mux), watch })
            }
            Err((lost, held)) => {
                let error = self.lost(lost, &watch).await;
                drop(held);
                Err(error)
            }
        }
    }

    /// Why the other end was not found.
    async fn lost(&self, lost: Lost, watch: &Watch) -> SessionError {
        let (host, program) = (&self.host, &self.remote_path);
        match lost {
            Lost::Ended(noise) => self.failed(&ended(watch).await, &noise),
            Lost::Io(_) => self.cut(watch).await,
            Lost::Version(_) => SessionError::Incompatible(format!("{program} on {host}: {lost}")),
            Lost::Noise(_) => SessionError::Refused(format!(
                "{program} on {host}: {lost}; what runs there must be {program} serve --stdio"
            )),
        }
    }

    /// The other end has spoken, and then the command ended.
    async fn cut(&self, watch: &Watch) -> SessionError {
        let (host, ssh, ending) = (&self.host, &self.ssh, ended(watch).await);
        SessionError::Connection(format!("{host}: the connection was lost at once: {ssh} {ending}"))
    }

    /// Why the command ended before, and what to do.
    fn failed(&self, ending: &Ending, noise: &str) -> SessionError {
        let Rsh { host, ssh, remote_path: program, .. } = self;
        let said = match ending.said.is_empty() {
            true if noise.is_empty() => "it said nothing".to_owned(),
            true => noise.to_owned(),
            false => ending.said.join("; "),
        };
        match ending.status.and_then(|status| status.code()) {
            Some(127) => SessionError::Refused(format!(
                "cannot find {program} on {host} ({said}): install syncfiles there, or say where it is with --remote-path PROG"
            )),
            Some(255) => SessionError::Connection(format!(
                "cannot reach {host} through {ssh} ({said}): {ssh} must be able to log in there by itself"
            )),
            _ => {
                let ending = Ending { said: Vec::new(), ..ending.clone() };
                SessionError::Refused(format!(
                    "cannot start {program} on {host}: {ssh} {ending} ({said}); both systems need the same version of syncfiles"
                ))
            }
        }
    }
}

/// Finds the other end. What failed keeps the stream, so that how the command ends can still be seen.
async fn meet(child: Child) -> Result<Mux, (Lost, impl Sized)> {
    let (reader, mut writer) = tokio::io::split(child);
    let mut reader = BufReader::with_capacity(128 * 1024, reader);
    if let Err(lost) = preamble::find(&mut reader).await {
        return Err((lost, (reader, writer)));
    }
    match writer.write_all(&preamble::greeting()).await {
        Ok(()) => Ok(Mux::client(reader, writer)),
        Err(error) => Err((error.into(), (reader, writer))),
    }
}

/// How the command ended; if it takes its time, what is known of it by then.
async fn ended(watch: &Watch) -> Ending {
    let ended = tokio::time::timeout(GRACE, watch.ended()).await;
    ended.unwrap_or_else(|_| Ending { status: None, said: watch.said() })
}

/// What the other end is told of the folder.
struct Folder {
    /// On its command line: with a `/` in it, so that it is never an option, a `NAME=`, or a home for a shell to fill in.
    dir: Vec<u8>,
    /// The name that `serve` gives to that, and that a forced command or a subsystem may give to another.
    export: String,
    /// What is below it.
    sub: RelPath,
}

impl Folder {
    fn of(root: &RemoteRoot) -> Result<Folder, String> {
        let mut names: Vec<&[u8]> =
            std::iter::once(root.folder.as_bytes()).chain(root.sub.components()).collect();
        // Commands of an outer ssh start in the home folder.
        if !root.absolute && names[0] == b"~" {
            names.remove(0);
        }
        let (first, rest) =
            names.split_first().ok_or("the whole home folder is no root: name a folder in it")?;
        let (lead, last, sub) = match root.absolute {
            true => (&b"/"[..], names.join(&b'/'), &[][..]),
            false => (&b"./"[..], first.to_vec(), rest),
        };
        let export =
            String::from_utf8(if root.absolute { names[names.len() - 1].to_vec() } else { last.clone() });
        let export = export.map_err(|_| format!("the name of the folder {} is not UTF-8", Shown(&last)))?;
        let sub = RelPath::parse(&sub.join(&b'/')).map_err(|error| error.to_string())?;
        Ok(Folder { dir: [lead, &last].concat(), export, sub })
    }
}

/// `CMD [-p PORT] [-l USER] HOST PROG serve --stdio -- DIR`, or `ssh -s … HOST SUBSYSTEM`.
fn program(words: Vec<Vec<u8>>, root: &RemoteRoot, remote_path: OsString, folder: &Folder) -> Program {
    // A subsystem has a name and nothing else; what it exports is said in sshd_config.
    let subsystem = words.iter().any(|word| word == b"-s");
    let mut words = words.into_iter().map(OsString::from_vec);
    let name = words.next().unwrap_or_default();
    let mut arguments: Vec<OsString> = words.collect();
    if let Some(port) = root.port {
        arguments.extend(["-p".into(), port.to_string().into()]);
    }
    if let Some(user) = &root.user {
        arguments.extend(["-l".into(), user.into()]);
    }
    arguments.extend([root.host.clone().into(), remote_path]);
    if !subsystem {
        arguments.extend(["serve", "--stdio", "--"].map(OsString::from));
        // A name of components has no NUL, which is all that cannot be quoted.
        let dir = shlex::bytes::try_quote(&folder.dir).unwrap_or_default();
        arguments.push(OsString::from_vec(dir.into_owned()));
    }
    Program::new(name, arguments)
}
