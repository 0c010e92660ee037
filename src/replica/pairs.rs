//! What a root knows about each root it has met: the run that both agreed in last.
//!
//! Both sides write the id of a run. System 1 writes the new id beside the last one before System 2 commits its
//! base, and accepts either afterwards; so a run that is killed in between leaves a pair that still matches,
//! and a side that came back from a backup one that does not. Once System 2 has shown the new id, the last one goes: from then
//! on also a System 2 that is but one run behind is one that came back.
//!
//! Which side keeps the base's rows changes with the roles. They carry the run that they are of, and are used only while
//! that is the run both sides remember; so rows that a side kept in an earlier role are never taken for the base.

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
        based BLOB,                   -- the run that the base's rows here are of; NULL where there are none
        settled BLOB                  -- System 2: the root's digest, where the base is the whole agreed tree
    );";

/// What was agreed with one other root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreed {
    /// The newest run.
    pub run: Id,
    /// On System 1: the run before, which System 2 holds where it was killed before its commit.
    pub before: Option<Id>,
    /// The run that this root keeps the base of, as it was System 2 in it; perhaps long ago.
    pub based: Option<Id>,
    /// Beside that base: the digest of the root when it was the whole tree, so that a run in which both sides show
    /// this digest needs no base at all.
    pub settled: Option<Digest>,
    /// Whether that base has no rows, though not for want of anything to agree on: as if they had never met.
    pub bare: bool,
}

impl Agreed {
    /// The runs that may be the last one that both sides remember, the newest first.
    pub fn runs(&self) -> impl Iterator<Item = Id> {
        [Some(self.run), self.before].into_iter().flatten()
    }
}

/// What was agreed with `peer`; `None` before the first meeting.
pub fn agreed(state: &State, peer: Id) -> Result<Option<Agreed>, StateError> {
    let mut query = state
        .db()
        .prepare_cached(
            "SELECT run, before, based, settled, EXISTS (SELECT 1 FROM base WHERE pair = pairs.number)
             FROM pairs WHERE peer = ?1",
        )
        .map_err(database("read the pairs in"))?;
    query
        .query_row([peer.0], |row| {
            let run = |at| Ok::<_, rusqlite::Error>(row.get::<_, Option<[u8; 16]>>(at)?.map(Id));
            let settled = row.get::<_, Option<[u8; 32]>>(3)?.map(Digest);
            let bare = !row.get(4)? && settled != Some(Digest::of(b""));
            Ok(Agreed { run: Id(row.get(0)?), before: run(1)?, based: run(2)?, settled, bare })
        })
        .optional()
        .map_err(database("read the pairs in"))
}

/// On System 1, before System 2 commits: writes `run` beside `held`, the run that System 2 presented and that
/// was accepted (none at a first meeting).
///
/// A base that this root kept itself, as System 2 of the same pair, goes: the other root keeps one from here on. Only
/// that of `held` stays until the next run, as System 2 may have taken it from here, and may be killed before it has
/// written one of its own.
///
/// Fails with [`StateError::Overtaken`] where the pair does not remember `held` any more: another run, in which the
/// roles were swapped, has ended since, and its base must stay the only one.
pub fn announce(state: &State, peer: Id, held: Option<Id>, run: Id) -> Result<(), StateError> {
    let act = "write the run into";
    let writing = state.write(act)?;
    let now = agreed(state, peer)?;
    let (kept, remembers) = now.map_or((None, false), |pair| {
        (pair.based.filter(|based| held == Some(*based)), pair.runs().any(|run| held == Some(run)))
    });
    if held.is_some() && !remembers {
        return Err(StateError::Overtaken);
    }
    let write = || {
        writing.execute(
            "INSERT INTO pairs (peer, run, before) VALUES (?1, ?2, ?3)
             ON CONFLICT (peer) DO UPDATE SET run = ?2, before = ?3",
            (peer.0, run.0, held.map(|id| id.0)),
        )?;
        if kept.is_none() {
            let rows = "DELETE FROM base WHERE pair = (SELECT number FROM pairs WHERE peer = ?1)";
            writing.execute(rows, [peer.0])?;
            writing.execute("UPDATE pairs SET based = NULL, settled = NULL WHERE peer = ?1", [peer.0])?;
        }
        Ok(())
    };
    write().map_err(database(act))?;
    writing.commit().map_err(database(act))
}

/// On System 1: System 2 holds `run`, so it was not killed before it had committed its base. From now on the run before
/// is one that only a System 2 which came back from a backup would hold.
pub fn confirm(state: &State, peer: Id, run: Id) -> Result<(), StateError> {
    let act = "write the run into";
    let forget = "UPDATE pairs SET before = NULL WHERE peer = ?1 AND run = ?2";
    state.db().execute(forget, (peer.0, run.0)).map(|_| ()).map_err(database(act))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::base::{BaseContent, BaseEntry};
    use crate::core::path::RelPath;
    use crate::core::version::Bits;
    use crate::replica::base_store::{Change, commit, load};
    use crate::replica::root::Root;

    #[test]
    fn a_run_that_was_announced_and_never_committed_leaves_a_pair_that_matches() {
        let temp = tempfile::tempdir().unwrap();
        let state = State::open(&Root::open(temp.path()).unwrap()).unwrap();
        let [peer, first, killed, third, elsewhere] = [1, 2, 3, 4, 5].map(|n| Id([n; 16]));
        assert_eq!(agreed(&state, peer).unwrap(), None);
        announce(&state, peer, None, first).unwrap();
        announce(&state, peer, Some(first), killed).unwrap();
        let runs = || agreed(&state, peer).unwrap().unwrap().runs().collect::<Vec<_>>();
        assert_eq!(runs(), [killed, first]);
        announce(&state, peer, Some(first), third).unwrap();
        assert_eq!(runs(), [third, first]);
        let overtaken = announce(&state, peer, Some(killed), elsewhere);
        assert!(matches!(overtaken, Err(StateError::Overtaken)));
        assert_eq!(runs(), [third, first]);
        confirm(&state, peer, first).unwrap();
        assert_eq!(runs(), [third, first]);
        confirm(&state, peer, third).unwrap();
        assert_eq!(runs(), [third]);
    }

    #[test]
    fn a_base_of_the_other_role_stays_for_the_run_that_builds_on_it_and_goes_with_the_next() {
        let temp = tempfile::tempdir().unwrap();
        let state = State::open(&Root::open(temp.path()).unwrap()).unwrap();
        let [peer, kept, swapped, next] = [1, 2, 3, 4].map(|n| Id([n; 16]));
        let folder = BaseEntry { content: BaseContent::Folder { gone: false }, bits: Bits::of_mode(0o755) };
        let rows = vec![(RelPath::parse(b"d").unwrap(), Some(folder))];
        commit(&state, peer, &Change { run: kept, settled: None, fresh: true, rows }).unwrap();
        announce(&state, peer, Some(kept), swapped).unwrap();
        // System 2 took the base from here, and was killed: it still remembers the run before.
        assert_eq!(load(&state, peer, kept).unwrap().unwrap().rows().len(), 1);
        assert_eq!(load(&state, peer, swapped).unwrap(), None);
        announce(&state, peer, Some(swapped), next).unwrap();
        assert_eq!(load(&state, peer, kept).unwrap(), None);
        let rows: u32 = state.db().query_row("SELECT count(*) FROM base", (), |row| row.get(0)).unwrap();
        assert_eq!(rows, 0);
    }
}
