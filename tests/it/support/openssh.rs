//! OpenSSH's programs as a user has them around: an agent, keys, a server to jump through.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use super::process::{Ended, Running, System};

/// A running ssh-agent.
pub struct Agent {
    child: Child,
    pub socket: PathBuf,
}

impl Agent {
    /// An agent without keys, with its socket in a system's home.
    pub fn start(system: &System) -> Agent {
        let socket = system.path("agent");
        let mut command = system.command("ssh-agent", &["-D", "-a", socket.to_str().unwrap()]);
        let mut child = command.spawn().unwrap();
        // It says where it listens once it does.
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("SSH_AUTH_SOCK"), "{line}");
        Agent { child, socket }
    }

    /// Runs ssh-add for it.
    pub fn add(&self, system: &System, args: &[&str]) -> Ended {
        let mut command = system.command("ssh-add", args);
        Running::start(self.give(&mut command)).end()
    }

    /// Tells a program of the agent.
    pub fn give(&self, command: &mut Command) -> Command {
        command.env("SSH_AUTH_SOCK", &self.socket);
        std::mem::replace(command, Command::new("true"))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes the key NAME and NAME.pub of a kind in a system's home, and tells its public half.
pub fn make_key(system: &System, name: &str, kind: &str, passphrase: &str) -> String {
    // One round of bcrypt: the tests need no slow unlocking.
    let args = ["-q", "-a", "1", "-t", kind, "-N", passphrase, "-C", "made by a test", "-f", name];
    Running::start(system.command("ssh-keygen", &args)).end().expect(0);
    fs::read_to_string(system.path(format!("{name}.pub"))).unwrap().trim().to_owned()
}

/// The name of the user who runs the tests, who is the only one that an sshd of theirs lets in.
pub fn me() -> String {
    let run = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(run.stdout).unwrap().trim().to_owned()
}

/// Where sshd is installed.
pub fn sshd_program() -> Option<&'static Path> {
    let found = ["/usr/sbin/sshd", "/usr/bin/sshd", "/usr/local/sbin/sshd"];
    let found = found.into_iter().map(Path::new).find(|path| path.is_file());
    assert!(found.is_some() || std::env::var_os("CI").is_none(), "sshd is missing on CI");
    if found.is_none() {
        eprintln!("skipped: sshd is not installed");
    }
    found
}

/// A stock sshd on a port of its own, a process for each connection.
pub struct Sshd {
    pub port: u16,
    /// How many connections it took.
    pub connections: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sshd {
    /// With a host key of its own; lets the keys of `authorized_keys` in as who runs the tests. `more` is added to its
    /// configuration. Its files are in a system's home.
    pub fn start(program: &'static Path, system: &System, authorized_keys: &str, more: &str) -> Sshd {
        make_key(system, "sshd_host_key", "ed25519", "");
        fs::write(system.path("sshd_keys"), format!("{authorized_keys}\n")).unwrap();
        let home = system.path("").display().to_string();
        let config = format!(
            "HostKey {home}/sshd_host_key\nAuthorizedKeysFile {home}/sshd_keys\nStrictModes no\nUsePAM no\nPidFile none\n\
             PasswordAuthentication no\nPermitRootLogin prohibit-password\nLogLevel ERROR\n{more}\n"
        );
        fs::write(system.path("sshd_config"), config).unwrap();
        // Where sshd runs as root it wants this folder, which only its own service makes.
        let _ = fs::create_dir_all("/run/sshd");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, stopped, config) = (connections.clone(), stop.clone(), system.path("sshd_config"));
        let thread = thread::spawn(move || {
            let mut children = Vec::new();
            while let Ok((stream, _)) = listener.accept() {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                counted.fetch_add(1, Ordering::SeqCst);
                let (input, output) = (stream.try_clone().unwrap(), stream);
                let mut sshd = Command::new(program);
                sshd.arg("-i").arg("-f").arg(&config).stderr(Stdio::null());
                sshd.stdin(OwnedFd::from(input)).stdout(OwnedFd::from(output));
                children.push(sshd.spawn().unwrap());
            }
            for mut child in children {
                let _ = child.kill();
                let _ = child.wait();
            }
        });
        Sshd { port, connections, stop, thread: Some(thread) }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
