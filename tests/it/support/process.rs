//! The real binary as separate processes over TCP, each system with a home of its own.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use syncfiles::ssh::host_key::load_or_create;
use tempfile::TempDir;

use super::STUCK;
use super::pair::Side;

/// Two systems on one machine. System 1 lets System 2's ed25519 key in.
pub struct World {
    pub one: System,
    pub two: System,
}

impl World {
    /// With an empty folder1 on System 1 and an empty folder2 on System 2.
    pub fn new() -> World {
        let world = World { one: System::new(), two: System::new() };
        world.one.folder("folder1");
        world.two.folder("folder2");
        let (key, _) = load_or_create(&world.two.path(".ssh/id_ed25519")).unwrap();
        world.authorize(&key.public_key().to_openssh().unwrap());
        world
    }

    /// What System 1 exports.
    pub fn folder1(&self) -> Side {
        Side { root: self.one.path("folder1") }
    }

    /// What System 2 keeps the same.
    pub fn folder2(&self) -> Side {
        Side { root: self.two.path("folder2") }
    }

    /// Lets these lines of authorized_keys in, and no others.
    pub fn authorize(&self, lines: &str) {
        let file = self.one.path(".config/syncfiles/authorized_keys");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, format!("{lines}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// `syncfiles serve folder1` on a free port.
    pub fn serve(&self) -> Server {
        self.serve_with(&[])
    }

    /// The same, with options.
    pub fn serve_with(&self, options: &[&str]) -> Server {
        let args = [&["serve", "--listen", "127.0.0.1:0", "folder1"], options].concat();
        Server::start(self.one.syncfiles(&args))
    }

    /// `syncfiles` with just these arguments, which begin with `serve`.
    pub fn serve_at(&self, args: &[&str]) -> Server {
        Server::start(self.one.syncfiles(args))
    }

    /// `syncfiles` with just these arguments, started by a shell script that ends in `exec "$0" "$@"`.
    pub fn serve_by(&self, script: &str, args: &[&str]) -> Command {
        let program = ["-c", script, env!("CARGO_BIN_EXE_syncfiles")];
        self.one.command("sh", &[&program[..], args].concat())
    }

    /// `syncfiles serve folder1`, started by a shell script that ends in `exec "$0" "$@"`.
    pub fn serve_limited(&self, script: &str) -> Server {
        Server::start(self.serve_by(script, &["serve", "--listen", "127.0.0.1:0", "folder1"]))
    }

    /// `syncfiles alice@127.0.0.1:folder1 folder2` with options.
    pub fn sync(&self, server: &Server, options: &[&str]) -> Ended {
        self.begin_sync(server.port, options).end()
    }

    /// The same, still running, through any port.
    pub fn begin_sync(&self, port: u16, options: &[&str]) -> Running {
        let port = port.to_string();
        // What a relay counts must not depend on how well the content shrinks.
        let roots =
            ["alice@127.0.0.1:folder1", "folder2", "--accept-new", "--compress=never", "--port", &port];
        self.two.begin(&[&roots, options].concat())
    }

    /// Checks that both folders hold the same.
    pub fn assert_same(&self) {
        assert_eq!(self.folder1().tree(), self.folder2().tree());
    }
}

/// Whether a program is installed. On CI it must be.
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    assert!(there || std::env::var_os("CI").is_none(), "{program} is missing on CI");
    if !there {
        eprintln!("skipped: {program} is not installed");
    }
    there
}

/// A home folder of a user called alice, and what she runs there.
pub struct System {
    home: TempDir,
}

impl System {
    pub fn new() -> System {
        let system = System { home: tempfile::tempdir().unwrap() };
        system.folder(".ssh");
        system
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.home.path().join(name)
    }

    fn folder(&self, name: &str) {
        fs::create_dir(self.path(name)).unwrap();
    }

    /// A program in this home, without a terminal to ask on.
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        // A new session has no terminal. `setsid` becomes the program itself, so the process id stays.
        self.in_session(&[&[program], args].concat())
    }

    /// A program in this home, with the terminal that becomes its stdin.
    pub fn on_terminal(&self, program: &str, args: &[&str]) -> Command {
        self.in_session(&[&["--ctty", program], args].concat())
    }

    fn in_session(&self, args: &[&str]) -> Command {
        let mut command = Command::new("setsid");
        command.args(args).current_dir(&self.home).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.home.path()).env("USER", "alice");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn syncfiles(&self, args: &[&str]) -> Command {
        self.command(env!("CARGO_BIN_EXE_syncfiles"), args)
    }

    pub fn begin(&self, args: &[&str]) -> Running {
        Running::start(self.syncfiles(args))
    }

    /// Runs syncfiles to its end.
    pub fn run(&self, args: &[&str]) -> Ended {
        self.begin(args).end()
    }
}

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// Checks the exit code, and that an error is one line that begins with the program's name.
    #[track_caller]
    pub fn expect(self, code: i32) -> Ended {
        assert_eq!(self.status.code(), Some(code), "{self:?}");
        assert!(!(self.err.clone() + &self.out).contains("panicked"), "{self:?}");
        self
    }

    /// Checks that the only thing on stderr is one line with all these words.
    #[track_caller]
    pub fn says(&self, words: &[&str]) -> &Ended {
        assert!(self.err.starts_with("syncfiles: "), "{self:?}");
        assert_eq!(self.err.lines().count(), 1, "{self:?}");
        self.mentions(words)
    }

    /// Checks that stderr has all these words.
    #[track_caller]
    pub fn mentions(&self, words: &[&str]) -> &Ended {
        for word in words {
            assert!(self.err.contains(word), "no {word:?} in {self:?}");
        }
        self
    }
}

/// A process whose output is gathered while it runs.
pub struct Running {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
}

impl Running {
    pub fn start(mut command: Command) -> Running {
        let mut child = command.spawn().unwrap();
        let out = gather(child.stdout.take().unwrap());
        let err = gather(child.stderr.take().unwrap());
        Running { child, out, err }
    }

    pub fn signal(&self, signal: Signal) {
        signal_to(&self.child, signal);
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        // Both pipes end with the process.
        let (Ok(out), Ok(err)) = (self.out.recv_timeout(STUCK), self.err.recv_timeout(STUCK)) else {
            panic!("the process is stuck");
        };
        Ended { status: self.child.wait().unwrap(), out, err }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal_to(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn gather(mut pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8(bytes).expect("output is text"));
    });
    receiver
}

/// A running `syncfiles serve`.
pub struct Server {
    child: Child,
    lines: Receiver<String>,
    pub port: u16,
    /// `SHA256:…`, as it was printed.
    pub host_key: String,
}

impl Server {
    pub fn start(mut command: Command) -> Server {
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut server = Server { child, lines, port: 0, host_key: String::new() };
        let line = server.wait_for("serving");
        let field = |name: &str| line.split(name).nth(1).unwrap().split(' ').next().unwrap().to_owned();
        server.port = field("address=").rsplit(':').next().unwrap().parse().unwrap();
        server.host_key = field("host_key=");
        server
    }

    /// The next line of the log that has this text.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(STUCK) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("the server did not say {text:?} but {seen:?}"),
            }
        }
    }

    pub fn signal(&self, signal: Signal) {
        signal_to(&self.child, signal);
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.stop_expected()
    }

    /// Waits until it has stopped, having been asked to.
    pub fn stop_expected(mut self) -> ExitStatus {
        self.wait_for("stopped");
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
