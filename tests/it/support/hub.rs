//! One hub that serves, and clients that sync with it; every system has a clock of its own.

use std::fs;

use syncfiles::core::guard::MaxDelete;
use syncfiles::session::{Clock, Export, Exports, Options, SessionError};
use tempfile::TempDir;

use super::pair::{Ran, Side, fast_folder, sync_roots};

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
        let state = |n| self.home.path().join(format!("state{n}"));
        let folder = Export { name: "hub".into(), path: self.systems[0].root.clone() };
        let exports = Exports { clock: self.clock(0), ..Exports::new(vec![folder], state(0)) };
        let options = Options {
            delete: true,
            max_delete: MaxDelete::Percent(100),
            clock: self.clock(client),
            ..Options::new(state(client))
        };
        sync_roots(exports, &self.systems[client].root, &options)
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
