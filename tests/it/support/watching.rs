//! A running watch, and what it says.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::STUCK;
use super::pair::Side;
use super::process::World;

/// A running `syncfiles --watch --json`.
pub struct Watch {
    child: Child,
    lines: Receiver<String>,
    /// What it said so far.
    pub said: Vec<String>,
}

impl Watch {
    pub fn start(mut command: Command) -> Watch {
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let other = sender.clone();
        thread::spawn(move || {
            BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        thread::spawn(move || {
            BufReader::new(err).lines().map_while(Result::ok).try_for_each(|line| other.send(line))
        });
        Watch { child, lines, said: Vec::new() }
    }

    /// Through a port of this machine, with options; the first round has ended.
    pub fn over(world: &World, port: u16, options: &[&str]) -> Watch {
        let port = port.to_string();
        let roots =
            ["alice@127.0.0.1:folder1", "folder2", "--watch", "--json", "--accept-new", "--port", &port];
        let mut watch = Watch::start(world.two.syncfiles(&[&roots, options].concat()));
        watch.until(|watch| watch.rounds() > 0);
        watch
    }

    /// Of two folders of one system.
    pub fn beside(world: &World, options: &[&str]) -> Watch {
        let (one, two) = (world.folder1().root, world.folder2().root);
        let roots = ["--watch", "--json", one.to_str().unwrap(), two.to_str().unwrap()];
        let mut watch = Watch::start(world.two.syncfiles(&[&roots, options].concat()));
        watch.until(|watch| watch.rounds() > 0);
        watch
    }

    /// Waits until `done`. Whatever makes it so ends with a line.
    #[track_caller]
    pub fn until(&mut self, done: impl Fn(&Watch) -> bool) {
        while !done(self) {
            match self.lines.recv_timeout(STUCK) {
                Ok(line) => self.said.push(line),
                Err(_) => panic!("it is stuck: {:?}", self.said),
            }
        }
    }

    #[track_caller]
    pub fn until_same(&mut self, world: &World) {
        let trees = || world.folder1().tree_now().ok().zip(world.folder2().tree_now().ok());
        self.until(|_| trees().is_some_and(|(one, two)| one == two));
    }

    #[track_caller]
    pub fn until_read(&mut self, side: &Side, name: &str, content: &str) {
        self.until(|_| side.read(name).as_deref() == Some(content));
    }

    /// Waits until nothing is said for a while. What goes on for ever is found out, however slow the machine is.
    #[track_caller]
    pub fn until_quiet(&mut self) {
        let before = self.rounds();
        while self.rounds() < before + 30 {
            match self.lines.recv_timeout(Duration::from_secs(2)) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => panic!("it has ended: {:?}", self.said),
            }
        }
        panic!("it does not come to rest: {:?}", self.said);
    }

    pub fn count(&self, kind: &str) -> usize {
        self.said.iter().filter(|line| line.starts_with(&format!(r#"{{"type":"{kind}""#))).count()
    }

    pub fn rounds(&self) -> usize {
        self.count("round")
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Interrupts it; the last thing it said.
    pub fn interrupt(mut self) -> String {
        self.signal(Signal::INT);
        self.end(20)
    }

    /// Waits for its end; the last thing it said.
    #[track_caller]
    pub fn end(&mut self, code: i32) -> String {
        while let Ok(line) = self.lines.recv_timeout(STUCK) {
            self.said.push(line);
        }
        assert_eq!(self.child.wait().unwrap().code(), Some(code), "{:?}", self.said);
        let summary = self.said.iter().rfind(|line| line.contains(r#""type":"summary""#));
        summary.unwrap_or_else(|| panic!("no summary: {:?}", self.said)).clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
