//! `syncfiles demo`: the whole thing on loopback, with a real server, a real login and a throw-away key.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::sync::{finish, screen};
use super::{Stop, runtime};
use crate::cli::address::{Pair, Root};
use crate::cli::exit::ExitCode;
use crate::cli::options::ShowArgs;
use crate::cli::report::ReportOptions;
use crate::core::path::RelPath;
use crate::session::progress::{Outcome, Progress, Silent};
use crate::session::{Export, Exports, Local, Opening, Options, Remote, SessionError, serve, sync};
use crate::ssh::{
    self, ClientConfig, Connection, Flow, Grant, Login, PrivateKey, PublicKey, Server, ServerConfig, Stream,
    host_key,
};
use crate::transport::tcp;

/// What the two folders hold: name, content, seconds since it was modified.
type Sample = (&'static str, &'static str, u64);
const FOLDER1: [Sample; 3] = [
    ("helloworld.py", "print('hello from folder1, the newer one')\n", 60),
    ("post_to_irc.sh", "#!/bin/sh\necho \"posting $*\"\n", 86_400),
    ("tcpserver.py", "import socket\nserver = socket.create_server(('127.0.0.1', 0))\n", 7200),
];
const FOLDER2: [Sample; 2] = [
    ("helloworld.py", "print('hello from folder2, the older one')\n", 3600),
    ("tcpclient.py", "import socket\nclient = socket.socket()\n", 7200),
];

/// Makes two folders, serves one, syncs the other with it, and shows both.
pub(crate) fn run() -> Result<ExitCode, Stop> {
    let place = Place::make()?;
    let (folder1, folder2) = (place.0.join("folder1"), place.0.join("folder2"));
    fill(&folder1, &FOLDER1).and_then(|()| fill(&folder2, &FOLDER2)).map_err(failed)?;
    say(&format!("Two folders in {}, before:", place.0.display()));
    show(&folder1)?;
    show(&folder2)?;
    let runtime = runtime(1)?;
    let server = runtime.block_on(start(&place.0, &folder1))?;
    say(&format!(
        "\nSystem 1: syncfiles serve folder1      (127.0.0.1:{}, host key {})\nSystem 2: syncfiles demo@127.0.0.1:folder1 ./folder2\n",
        server.port,
        host_key::fingerprint(&server.host_key)
    ));
    let pair = Pair { one: Root::Local(folder1.clone()), two: folder2.clone(), one_is_source: true };
    let show_args = ShowArgs::default();
    let report = ReportOptions { names: true, history: true, ..ReportOptions::default() };
    let screen = screen(&show_args, report, &pair)?;
    let ended = runtime.block_on(connect_and_sync(server, &place.0, &folder2, screen.clone()));
    let code = finish(&screen, ended.map_err(Stop::from))?;
    say("\nAfter:");
    show(&folder1)?;
    show(&folder2)?;
    say(&format!("\nThe displaced helloworld.py is kept: syncfiles history {}", folder2.display()));
    say(&format!("When you have seen enough, delete it all: rm -r {}", place.0.display()));
    Ok(code)
}

/// A fresh folder below the system's temporary one. It stays, to be looked at.
struct Place(std::path::PathBuf);

impl Place {
    fn make() -> Result<Place, Stop> {
        let name = crate::replica::identity::Id::random().map_err(Stop::root)?.to_string();
        let path = std::env::temp_dir().join(format!("syncfiles-demo-{}", &name[..8]));
        fs::create_dir(&path).map_err(failed)?;
        Ok(Place(path))
    }
}

fn failed(error: std::io::Error) -> Stop {
    Stop::root(format_args!("cannot make the sample folders: {error}; check the temporary folder"))
}

fn fill(folder: &Path, samples: &[Sample]) -> std::io::Result<()> {
    fs::create_dir(folder)?;
    for (name, content, age) in samples {
        let path = folder.join(name);
        fs::write(&path, content)?;
        fs::File::options()
            .write(true)
            .open(&path)?
            .set_modified(SystemTime::now() - Duration::from_secs(*age))?;
    }
    Ok(())
}

/// A listing with the first line of content that tells versions apart.
fn show(folder: &Path) -> Result<(), Stop> {
    let mut names: Vec<_> =
        fs::read_dir(folder).map_err(failed)?.flatten().map(|entry| entry.path()).collect();
    names.sort();
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    say(&format!("  {name}/"));
    for path in names.iter().filter(|path| path.is_file()) {
        let text = fs::read_to_string(path).map_err(failed)?;
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        say(&format!("    {file:16} {}", text.lines().next().unwrap_or_default()));
    }
    Ok(())
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A server that runs in this process.
struct Running {
    port: u16,
    host_key: PublicKey,
    client_key: Arc<PrivateKey>,
}

async fn start(place: &Path, folder: &Path) -> Result<Running, Stop> {
    let (host, client) = (host_key::ephemeral(), Arc::new(host_key::ephemeral()));
    let (host_public, allowed) = (host.public_key().clone(), client.public_key().clone());
    let authorize = move |user: &str, key: &PublicKey, _| {
        (user == "demo" && key.key_data() == allowed.key_data()).then(|| Arc::new(()) as Grant)
    };
    let config = ServerConfig::new(vec![host], Arc::new(authorize));
    let listening =
        |error| Stop::new(ExitCode::Connection, format_args!("cannot listen on loopback: {error}"));
    let server = Server::bind(config, ("127.0.0.1", 0)).await.map_err(listening)?;
    let port = server.local_addr().map_err(listening)?.port();
    let folders = vec![Export { name: "folder1".into(), path: folder.to_owned() }];
    let exports = Arc::new(Exports::new(folders, place.join("state1")));
    let handler = move |connection: Connection, _| {
        let exports = exports.clone();
        async move {
            let _ = serve(connection, &exports, Arc::new(Silent)).await;
        }
    };
    tokio::spawn(server.run(handler, std::future::pending()));
    Ok(Running { port, host_key: host_public, client_key: client })
}

async fn connect_and_sync(
    server: Running,
    place: &Path,
    folder: &Path,
    progress: Arc<dyn Progress>,
) -> Result<Outcome, SessionError> {
    let options = Options::new(place.join("state2"));
    let opening = Opening {
        look: false,
        create: false,
        new_root: false,
        state_home: options.state_home.clone(),
        exclusive: Some(options.timeout),
    };
    let local = Arc::new(Local::open(folder, &RelPath::root(), opening)?);
    let name = format!("demo@127.0.0.1:{}", server.port);
    let remote =
        Remote { export: "folder1".into(), sub: RelPath::root(), place: format!("remote:{name}"), name };
    let host_key = server.host_key;
    let config = ClientConfig {
        user: "demo".into(),
        login: Login::Keys(vec![server.client_key]),
        host_check: Arc::new(move |key: &PublicKey| {
            if key.key_data() == host_key.key_data() {
                Ok(())
            } else {
                Err("another server answers on loopback".into())
            }
        }),
        flow: Flow::default(),
        chacha_first: false,
        deadline: Duration::from_secs(30),
    };
    let port = server.port;
    let dial = move || async move { Ok(Box::new(tcp::connect("127.0.0.1", port).await?) as Box<dyn Stream>) };
    let connect = async || {
        let connected = ssh::connect(config.clone(), dial).await;
        connected.map_err(|error| SessionError::connecting("loopback", error))
    };
    sync(connect, local, &remote, &options, progress).await
}
