//! The stack of folders that the threads of a scan share.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::core::path::RelPath;
use crate::core::snapshot::Node;

/// Hands out folders, the latest found first (so that few are open or waiting at a time), and gathers what was
/// listed. It is done when nobody lists and nothing waits.
pub(crate) struct Pool {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// By number; a folder's number is greater than its parent's.
    listed: Vec<Listed>,
    waiting: Vec<(usize, RelPath)>,
    busy: usize,
}

/// A folder of the tree, from the moment it was found.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    /// The number of the folder that holds it.
    pub(crate) parent: usize,
    /// Its place among that folder's members.
    pub(crate) at: usize,
    /// What it turned out to be; nothing if it vanished.
    pub(crate) node: Option<Node>,
    /// Places of members that vanished.
    pub(crate) vanished: Vec<usize>,
}

/// A folder found in another: its place among the members, and its path.
pub(crate) type Found = (usize, RelPath);

impl Pool {
    /// With the folder `top` waiting, as number 0.
    pub(crate) fn new(top: RelPath) -> Pool {
        let state = State { listed: vec![Listed::default()], waiting: vec![(0, top)], busy: 0 };
        Pool { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// The next folder to list and its number; `None` when all are listed. Each is answered with [`Pool::done`].
    pub(crate) fn next(&self) -> Option<(usize, RelPath)> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.waiting.pop() {
                state.busy += 1;
                return Some(job);
            }
            if state.busy == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Keeps what folder `id` turned out to be, and the folders found in it wait to be listed.
    pub(crate) fn done(&self, id: usize, node: Option<Node>, found: Vec<Found>) {
        let mut state = self.lock();
        state.listed[id].node = node;
        for (at, path) in found.into_iter().rev() {
            let number = state.listed.len();
            state.listed.push(Listed { parent: id, at, ..Listed::default() });
            state.waiting.push((number, path));
        }
        state.busy -= 1;
        self.changed.notify_all();
    }

    /// Everything that was listed, by number.
    pub(crate) fn into_listed(self) -> Vec<Listed> {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).listed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
