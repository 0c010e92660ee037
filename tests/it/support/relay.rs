//! A TCP relay that can stop a connection in the middle: what happens then is no matter of timing.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use super::STUCK;

/// Passes bytes on to a server until told to hold or to cut.
pub struct Relay {
    pub port: u16,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
    /// Both ends of all connections.
    ends: Mutex<Vec<TcpStream>>,
}

#[derive(Default)]
struct State {
    passed: u64,
    /// Nothing passes beyond this many bytes, counted over both directions.
    limit: Option<u64>,
    /// Every new connection begins with this limit.
    each: Option<u64>,
    held: bool,
    /// After how many further bytes each connection in turn is cut; the first is that of the oldest.
    cuts: VecDeque<u64>,
}

impl Relay {
    /// In front of a server on loopback; everything passes.
    pub fn to(server: u16) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let gate = Arc::new(Gate::default());
        let shared = gate.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { return };
                let client = client.unwrap();
                shared.begin();
                pass(&client, &server, &shared);
                pass(&server, &client, &shared);
                shared.ends.lock().unwrap().extend([client, server]);
            }
        });
        Relay { port, gate }
    }

    /// Ends the connections that there are.
    pub fn cut(&self) {
        for end in self.gate.ends.lock().unwrap().drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    /// Lets that many more bytes pass.
    pub fn hold_after(&self, bytes: u64) {
        let mut state = self.gate.state.lock().unwrap();
        state.limit = Some(state.passed + bytes);
    }

    /// Holds every connection to come after that many bytes of it, until it is released.
    pub fn hold_each_after(&self, bytes: u64) {
        self.gate.state.lock().unwrap().each = Some(bytes);
    }

    /// Cuts the connection after so many more bytes, the next one after so many of its own, and so on; what comes after
    /// the last passes.
    pub fn cut_after(&self, cuts: impl IntoIterator<Item = u64>) {
        let mut state = self.gate.state.lock().unwrap();
        state.cuts = cuts.into_iter().collect();
    }

    /// How many cuts are still to come.
    pub fn cuts_left(&self) -> usize {
        self.gate.state.lock().unwrap().cuts.len()
    }

    /// How many bytes have passed, both ways.
    pub fn passed(&self) -> u64 {
        self.gate.state.lock().unwrap().passed
    }

    /// Waits until the connection is held.
    pub fn wait_until_held(&self) {
        let state = self.gate.state.lock().unwrap();
        let (state, _) = self.gate.changed.wait_timeout_while(state, STUCK, |state| !state.held).unwrap();
        assert!(state.held, "only {} bytes came", state.passed);
    }

    /// Lets everything pass again.
    pub fn release(&self) {
        // Also after a test has failed: what it says must not drown in a second panic.
        let mut state = self.gate.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.limit, state.held) = (None, false);
        self.gate.changed.notify_all();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.release();
    }
}

fn pass(from: &TcpStream, to: &TcpStream, gate: &Arc<Gate>) {
    let (mut from, mut to, gate) = (from.try_clone().unwrap(), to.try_clone().unwrap(), gate.clone());
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if !gate.admit(length as u64) {
                let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                return;
            }
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}

impl Gate {
    fn begin(&self) {
        let mut state = self.state.lock().unwrap();
        if let Some(bytes) = state.each {
            state.limit = Some(state.passed + bytes);
        }
    }

    /// Counts bytes, and waits while they are held; false where they are the ones that never arrive.
    fn admit(&self, bytes: u64) -> bool {
        let mut state = self.state.lock().unwrap();
        match state.cuts.front_mut() {
            Some(left) if *left < bytes => {
                state.cuts.pop_front();
                return false;
            }
            Some(left) => *left -= bytes,
            None => {}
        }
        state.passed += bytes;
        while state.limit.is_some_and(|limit| state.passed > limit) {
            state.held = true;
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap();
        }
        true
    }
}
