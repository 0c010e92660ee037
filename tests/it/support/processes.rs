//! The real program, as a server and a client that can be killed, and a line between them that can be cut.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;

use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;
use tempfile::TempDir;

use super::pair::{Side, fast_folder};

/// Two folders, a key, and a home for each of the two programs.
pub struct Site {
    pub one: Side,
    pub two: Side,
    home: TempDir,
}

/// A program that is killed when nobody looks after it any more.
pub struct Running {
    pub child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Site {
    pub fn new() -> Site {
        let home = fast_folder();
        let side = |name: &str| Side { root: home.path().join(name) };
        let site = Site { one: side("one"), two: side("two"), home };
        for folder in ["one", "two", "server", "client"] {
            std::fs::create_dir(site.at(folder)).unwrap();
        }
        let mut seed = [0u8; 32];
        getrandom::fill(&mut seed).unwrap();
        let key = PrivateKey::from(russh::keys::ssh_key::private::Ed25519Keypair::from_seed(&seed));
        key.write_openssh_file(site.at("key"), LineEnding::LF).unwrap();
        let public = key.public_key().to_openssh().unwrap();
        std::fs::write(site.at("authorized_keys"), format!("{public}\n")).unwrap();
        site
    }

    fn at(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn program(&self, home: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_syncfiles"));
        command.env_clear().env("HOME", self.at(home)).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Starts a server on a port of its own.
    pub fn serve(&self) -> (Running, u16) {
        let mut command = self.program("server");
        command.args(["serve", "--listen", "127.0.0.1:0", "--user", "u", "--authorized-keys"]);
        command.arg(self.at("authorized_keys")).arg("--host-key").arg(self.at("host_key"));
        let export = format!("hub={}", self.one.root.display());
        let mut child = command.arg(export).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let running = Running { child };
        let mut line = String::new();
        while !line.contains("address=") {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "the server did not start");
        }
        let address = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap();
        let port = address.rsplit(':').next().unwrap().parse().unwrap();
        thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        (running, port)
    }

    /// Starts a sync with the server behind `port`.
    pub fn sync(&self, port: u16) -> Running {
        let mut command = self.program("client");
        command.args([
            "--retries",
            "0",
            "--delete",
            "--max-delete",
            "100%",
            "--accept-new",
            "--port",
            &port.to_string(),
        ]);
        command.arg("--known-hosts").arg(self.at("known_hosts")).arg("--identity").arg(self.at("key"));
        command.arg("u@127.0.0.1:hub").arg(&self.two.root);
        Running { child: command.stderr(Stdio::piped()).spawn().unwrap() }
    }
}

impl Running {
    /// How it ended, and what it said.
    pub fn end(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

/// A line to the server behind `port` that is cut after `bytes`, both ways together. Returns its own port.
pub fn cut_after(bytes: i64, port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    let left = Arc::new(AtomicI64::new(bytes));
    thread::spawn(move || {
        // One connection at a time is all that a sync makes.
        while let Ok((near, _)) = listener.accept() {
            let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else { return };
            let ways = [(near.try_clone(), far.try_clone()), (far.try_clone(), near.try_clone())];
            for (from, to) in ways {
                let (from, to, left) = (from.unwrap(), to.unwrap(), left.clone());
                thread::spawn(move || carry(from, to, &left));
            }
        }
    });
    own
}

fn carry(mut from: TcpStream, mut to: TcpStream, left: &AtomicI64) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let room = left.fetch_sub(count as i64, Ordering::AcqRel);
        let passes = (room.max(0) as usize).min(count);
        if to.write_all(&buffer[..passes]).is_err() || passes < count {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
