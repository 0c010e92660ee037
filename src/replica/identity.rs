//! How roots recognise each other: a random id, bound to the very folder that holds it.

use std::fmt;

use rusqlite::OptionalExtension;
use thiserror::Error;

use super::root::Stat;
use super::state::{State, StateError, database};
use crate::core::age::Timestamp;

pub(crate) const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS identity (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        id BLOB NOT NULL,
        inode INTEGER NOT NULL,  -- of .syncfiles
        born INTEGER             -- of .syncfiles, in nanoseconds, where the file system knows
    );";

/// 128 random bits that name a root, or a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub [u8; 16]);

/// The system gave no random numbers.
#[derive(Debug, Error)]
#[error("cannot make a random id: {0}; check that /dev/urandom is usable")]
pub struct NoRandom(getrandom::Error);

impl Id {
    /// A new one.
    pub fn random() -> Result<Id, NoRandom> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(NoRandom)?;
        Ok(Id(bytes))
    }

    /// From the 32 hexadecimal digits that [`Display`](fmt::Display) shows.
    pub fn parse(text: &[u8]) -> Option<Id> {
        let digits = std::str::from_utf8(text).ok().filter(|digits| digits.len() == 32)?;
        let plain = digits.bytes().all(|digit| digit.is_ascii_hexdigit() && !digit.is_ascii_uppercase());
        plain.then(|| u128::from_str_radix(digits, 16).ok().map(|number| Id(number.to_be_bytes())))?
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.8}…", self.to_string())
    }
}

/// Why a root's identity cannot be established.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The state failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// No random numbers.
    #[error(transparent)]
    NoRandom(#[from] NoRandom),
}

/// Whose state this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Identity {
    /// The root that wrote it.
    Known(Id),
    /// Nobody had been here: a new id.
    New(Id),
    /// It came here with a copy of the root `of`: a new id, and nothing agreed with anybody. The index goes with the
    /// inodes it described; the history stays, as the displaced files were copied too and remain restorable.
    Copy {
        /// The id from now on.
        id: Id,
        /// The id of the root that was copied.
        of: Id,
    },
}

impl Identity {
    /// The root's id from now on.
    pub fn id(self) -> Id {
        match self {
            Identity::Known(id) | Identity::New(id) | Identity::Copy { id, .. } => id,
        }
    }
}

/// Establishes the identity of the root whose state this is, and writes it down where it is new.
pub fn establish(state: &State) -> Result<Identity, IdentityError> {
    // Who knows it already need not wait for others who write.
    if let Some(id) = look(state)? {
        return Ok(Identity::Known(id));
    }
    let writing = state.write("write the identity into")?;
    let here = here(state)?;
    let fresh = Id::random()?;
    let identity = match recorded(state)? {
        Some((id, at)) if at == here => return Ok(Identity::Known(id)),
        Some((of, _)) => Identity::Copy { id: fresh, of },
        None => Identity::New(fresh),
    };
    if matches!(identity, Identity::Copy { .. }) {
        writing.execute_batch(FORGET).map_err(database("empty"))?;
    }
    let (inode, born) = here;
    writing
        .execute("INSERT OR REPLACE INTO identity VALUES (1, ?1, ?2, ?3)", (fresh.0, inode, born))
        .and_then(|_| writing.commit())
        .map_err(database("write the identity into"))?;
    Ok(identity)
}

/// The identity as far as it is written down; changes nothing. `None` for a copy, too: it has none of its own yet.
pub fn look(state: &State) -> Result<Option<Id>, StateError> {
    let here = here(state)?;
    Ok(recorded(state)?.filter(|(_, at)| *at == here).map(|(id, _)| id))
}

const FORGET: &str = "DELETE FROM base; DELETE FROM pairs; DELETE FROM file;";

type Place = (i64, Option<i64>);

/// Never the device number: it changes when a computer starts again.
fn here(state: &State) -> Result<Place, StateError> {
    let refused = |source| StateError::Folder { act: "look at", path: state.folder().path().into(), source };
    let Stat { seen, born, .. } = state.folder().stat_self().map_err(refused)?;
    Ok((seen.inode as i64, born.map(|Timestamp(nanoseconds)| nanoseconds)))
}

fn recorded(state: &State) -> Result<Option<(Id, Place)>, StateError> {
    state
        .db()
        .query_row("SELECT id, inode, born FROM identity", (), |row| {
            Ok((Id(row.get(0)?), (row.get(1)?, row.get(2)?)))
        })
        .optional()
        .map_err(database("read the identity in"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::root::Root;

    fn state_at(path: &std::path::Path) -> State {
        State::open(&Root::open(path).unwrap()).unwrap()
    }

    #[test]
    fn a_root_keeps_its_identity_and_a_copy_gets_its_own_and_forgets_what_was_agreed() {
        let temp = tempfile::tempdir().unwrap();
        let (first, second) = (temp.path().join("a"), temp.path().join("b"));
        std::fs::create_dir_all(&first).unwrap();
        std::fs::create_dir_all(second.join(".syncfiles")).unwrap();
        let state = state_at(&first);
        let Identity::New(id) = establish(&state).unwrap() else { panic!("it is new") };
        assert_eq!(establish(&state_at(&first)).unwrap(), Identity::Known(id));
        assert_eq!(look(&state_at(&first)).unwrap(), Some(id));
        crate::replica::pairs::announce(&state, Id([7; 16]), None, Id([8; 16])).unwrap();
        drop(state);

        std::fs::copy(first.join(".syncfiles/state.db"), second.join(".syncfiles/state.db")).unwrap();
        let copy = state_at(&second);
        assert_eq!(look(&copy).unwrap(), None);
        let Identity::Copy { id: other, of } = establish(&copy).unwrap() else { panic!("it is a copy") };
        assert_eq!((of, other == id), (id, false));
        assert_eq!(crate::replica::pairs::agreed(&copy, Id([7; 16])).unwrap(), None);
        assert_eq!(establish(&copy).unwrap(), Identity::Known(other));
    }

    #[test]
    fn an_id_survives_being_shown_and_nothing_else_is_one() {
        let id = Id::random().unwrap();
        assert_eq!(Id::parse(id.to_string().as_bytes()), Some(id));
        for wrong in [&b""[..], b"+0000000000000000000000000000000", b"ABCDEF00000000000000000000000000"] {
            assert_eq!(Id::parse(wrong), None);
        }
    }
}
