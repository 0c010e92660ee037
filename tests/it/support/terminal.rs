//! A terminal, and a program that has it to itself.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

/// No step of a test takes this long: what does is stuck.
const STUCK: Duration = Duration::from_secs(120);

/// A program on a terminal of its own.
pub struct Terminal {
    child: Child,
    /// The end at which a person would sit.
    seat: File,
    shown: Receiver<Vec<u8>>,
    /// All that was shown so far.
    pub seen: String,
    /// How much of it was waited for.
    read: usize,
}

impl Terminal {
    /// Runs what [`super::process::System::on_terminal`] made.
    pub fn run(mut command: Command) -> Terminal {
        let seat = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&seat).unwrap();
        unlockpt(&seat).unwrap();
        let name = ptsname(&seat, Vec::new()).unwrap();
        let line =
            rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let end = || Stdio::from(line.try_clone().unwrap());
        command.stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().unwrap();
        // From now on only the program has that end open.
        drop((command, line));
        let seat = File::from(seat);
        let mut read = seat.try_clone().unwrap();
        let (sender, shown) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = read.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal { child, seat, shown, seen: String::new(), read: 0 }
    }

    /// Waits until this is shown, after what was waited for before.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        loop {
            if let Some(at) = self.seen[self.read..].find(text) {
                self.read += at + text.len();
                return;
            }
            match self.shown.recv_timeout(STUCK) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("no {text:?} was shown, but {:?}", self.seen),
            }
        }
    }

    /// Types; a `\n` is the return key, `\x03` is Ctrl-C.
    pub fn types(&mut self, text: &str) {
        self.seat.write_all(text.as_bytes()).unwrap();
    }

    /// Whether what is typed is shown.
    pub fn echoes(&self) -> bool {
        tcgetattr(&self.seat).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    /// Waits for the program's end, and tells its exit code.
    pub fn end(&mut self) -> Option<i32> {
        // What was shown ends with the last program on the terminal.
        while let Ok(bytes) = self.shown.recv_timeout(STUCK) {
            self.seen.push_str(&String::from_utf8_lossy(&bytes));
        }
        self.child.wait().unwrap().code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
