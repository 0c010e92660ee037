//! What a root knows about each root it has met: the run that both agreed in last.
//!
//! Both sides write the id of a run. System 1 writes the new id beside the last one before System 2 commits its
//! base, and accepts either afterwards; so a run that is killed in between leaves a pair that still matches,
//! and a side that came back from a backup one that does not.

use rusqlite::OptionalExtension;

use super::identity::Id;
use super::state::{State, StateError, database};
use crate::core::digest::Digest;

pub(crate) const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS pairs (
        number INTEGER PRIMARY KEY,   -- names the pair in the base's rows
        peer BLOB NOT NULL UNIQUE,    -- the identity of the other root
        run BLOB NOT NULL,            -- the newest run
        before BLOB,                  -- System 1: the run that System 2 may still hold
        settled BLOB                  -- System 2: the root's digest, where the base is the whole agreed tree
    );";

/// What was agreed with one other root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreed {
    /// The newest run.
    pub run: Id,
    /// On System 1: the run before, which System 2 holds where it was killed before its commit.
    pub before: Option<Id>,
    /// On System 2: the digest of the root when the base was the whole tree, so that a run in which
    /// both sides show this digest needs no base at all.
    pub settled: Option<Digest>,
}

impl Agreed {
    /// Whether System 2, which presents `run`, and this root remember the same last sync.
    pub fn accepts(&self, run: Id) -> bool {
        self.run == run || self.before == Some(run)
    }
}

/// What was agreed with `peer`; `None` before the first meeting.
pub fn agreed(state: &State, peer: Id) -> Result<Option<Agreed>, StateError> {
    let mut query = state
        .db()
        .prepare_cached("SELECT run, before, settled FROM pairs WHERE peer = ?1")
        .map_err(database("read the pairs in"))?;
    query
        .query_row([peer.0], |row| {
            let before: Option<[u8; 16]> = row.get(1)?;
            let settled: Option<[u8; 32]> = row.get(2)?;
            Ok(Agreed { run: Id(row.get(0)?), before: before.map(Id), settled: settled.map(Digest) })
        })
        .optional()
        .map_err(database("read the pairs in"))
}

/// On System 1, before System 2 commits: writes `run` beside `held`, the run that System 2 presented and that
/// was accepted (none at a first meeting).
///
/// The base of this run is System 2's. One that this root keeps, because it was System 2 of the same pair before,
/// is older than the run from now on, and goes: with a matching run nothing would tell that it is stale.
pub fn announce(state: &State, peer: Id, held: Option<Id>, run: Id) -> Result<(), StateError> {
    let act = "write the run into";
    let writing = state.write(act)?;
    let number: i64 = writing
        .query_row(
            "INSERT INTO pairs (peer, run, before) VALUES (?1, ?2, ?3)
             ON CONFLICT (peer) DO UPDATE SET run = ?2, before = ?3, settled = NULL RETURNING number",
            (peer.0, run.0, held.map(|id| id.0)),
            |row| row.get(0),
        )
        .map_err(database(act))?;
    writing.execute("DELETE FROM base WHERE pair = ?1", [number]).map_err(database(act))?;
    writing.commit().map_err(database(act))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::root::Root;

    #[test]
    fn a_run_that_was_announced_and_never_committed_leaves_a_pair_that_matches() {
        let temp = tempfile::tempdir().unwrap();
        let state = State::open(&Root::open(temp.path()).unwrap()).unwrap();
        let [peer, first, killed, third, elsewhere] = [1, 2, 3, 4, 5].map(|n| Id([n; 16]));
        assert_eq!(agreed(&state, peer).unwrap(), None);
        announce(&state, peer, None, first).unwrap();
        announce(&state, peer, Some(first), killed).unwrap();
        let pair = agreed(&state, peer).unwrap().unwrap();
        assert!(pair.accepts(first) && pair.accepts(killed) && !pair.accepts(elsewhere));
        announce(&state, peer, Some(first), third).unwrap();
        let pair = agreed(&state, peer).unwrap().unwrap();
        assert!(pair.accepts(first) && pair.accepts(third) && !pair.accepts(killed));
    }
}
