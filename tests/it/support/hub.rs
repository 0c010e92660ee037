//! One hub that serves, and clients that sync with it; every system has a clock of its own.

use std::fs;
use std::path::PathBuf;

use syncfiles::core::guard::MaxDelete;
use syncfiles::session::progress::Event;
use syncfiles::session::{Clock, Export, Exports, Options, SessionError};
use tempfile::TempDir;

use super::pair::{Ran, Side, fast_folder, sync_roots, sync_roots_meddled};

/// The hub is system 0, the clients follow.
pub struct Hub {
    pub systems: Vec<Side>,
    /// How far each system's clock is ahead, in seconds.
    pub ahead: Vec<i64>,
    home: TempDir,
}

impl Hub {
    pub fn new(ahead: &[i64]) -> Hub {
        let home = fast_folder();
        let side = |n| Side { root: home.path().join(format!("system{n}")) };
        let systems: Vec<Side> = (0..ahead.len()).map(side).collect();
        systems.iter().for_each(|side| fs::create_dir(&side.root).unwrap());
        Hub { systems, ahead: ahead.to_vec(), home }
    }

    pub fn clients(&self) -> std::ops::Range<usize> {
        1..self.systems.len()
    }

    fn clock(&self, system: usize) -> Clock {
        Clock::ahead_by(self.ahead[system] * 1_000_000_000)
    }

    /// One client's sync with deletions, all of them allowed.
    pub fn sync(&self, client: usize) -> Result<Ran, SessionError> {
        self.sync_with(client, 0)
    }

    /// The same with any other system as the hub.
    pub fn sync_with(&self, client: usize, hub: usize) -> Result<Ran, SessionError> {
        sync_roots(self.exports(hub), &self.systems[client].root, &self.options(client))
    }

    /// As [`sync`](Hub::sync), while somebody else acts on what they hear of it.
    pub fn sync_meddled(
        &self,
        client: usize,
        meddle: impl Fn(&Event) + Send + Sync + 'static,
    ) -> Result<Ran, SessionError> {
        sync_roots_meddled(self.exports(0), &self.systems[client].root, &self.options(client), meddle)
    }

    fn state(&self, system: usize) -> PathBuf {
        self.home.path().join(format!("state{system}"))
    }

    fn exports(&self, system: usize) -> Exports {
        let folder = Export { name: "hub".into(), path: self.systems[system].root.clone() };
        Exports { clock: self.clock(system), ..Exports::new(vec![folder], self.state(system)) }
    }

    fn options(&self, client: usize) -> Options {
        Options {
            delete: true,
            max_delete: MaxDelete::Percent(100),
            clock: self.clock(client),
            ..Options::new(self.state(client))
        }
    }

    /// Whether all systems hold the same.
    pub fn agrees(&self) -> bool {
        let hub = self.systems[0].tree();
        self.systems.iter().all(|side| side.tree() == hub)
    }

    /// Syncs each client in turn until all agree; a hub needs two rounds, and no more than a few.
    pub fn converge(&self) {
        for _ in 0..4 {
            for client in self.clients() {
                let ran = self.sync(client).unwrap();
                assert_eq!(ran.outcome.problems, []);
            }
            if self.agrees() {
                return;
            }
        }
        for client in self.clients() {
            assert_eq!(self.systems[0].tree(), self.systems[client].tree(), "client {client}");
        }
    }
}
