//! Which root stood at which place, kept outside the roots: the guard against an unmounted disk.
//!
//! A place is a string that the caller builds: a folder of this system (`folder:/abs/path`, in whatever role), or what a
//! user dials (`remote:user@host:port/export`). Here it is opaque.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension};
use thiserror::Error;

use super::identity::Id;
use super::opening::PATIENCE;
use crate::core::shown::Shown;

/// Why the list of known places cannot be used.
#[derive(Debug, Error)]
pub enum PlacesError {
    /// The folder refused.
    #[error("cannot make the folder {} for the list of known roots: {source}; check its permissions", shown(.path))]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// SQLite failed.
    #[error("cannot use the list of known roots {}: {source}; check its permissions, or move it away (every root is then met anew)", shown(.path))]
    Database {
        /// The list.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// A known place does not show the root it should. Nothing may be changed or created there.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Stranger {
    /// Nothing stands there.
    #[error(
        "cannot sync {}: no folder stands there, and root {known} did; is its disk mounted? \
             If it is gone for good, --new-root starts anew with an empty folder",
        named(place)
    )]
    Missing {
        /// Where.
        place: String,
        /// Which root stood there.
        known: Id,
    },
    /// A folder without an identity of its own stands there, as under an unmounted disk.
    #[error(
        "cannot sync {}: the folder there is new, or a copy, and root {known} stood there; is its disk \
             mounted? If this folder replaces it, --new-root accepts it",
        named(place)
    )]
    Nameless {
        /// Where.
        place: String,
        /// Which root stood there.
        known: Id,
    },
    /// Another root stands there.
    #[error(
        "cannot sync {}: root {found} stands there, and root {known} did; is the right disk mounted? \
             If it replaces the other, --new-root accepts it",
        named(place)
    )]
    Replaced {
        /// Where.
        place: String,
        /// Which root stood there.
        known: Id,
        /// Which one stands there now.
        found: Id,
    },
}

/// A place without the word before it that says what it is.
fn named(place: &str) -> &str {
    place.split_once(':').map_or(place, |(_, name)| name)
}

/// What stands at a place now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// No folder.
    Nothing,
    /// A folder that is nobody's root yet.
    Nameless,
    /// This root.
    Root(Id),
}

/// Whether a place was met before; the way on in both cases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Met {
    /// The root that stands there is the one that stood there.
    Before,
    /// Nobody remembers this place: it may be created, and met for the first time.
    Never,
}

/// The list of known places.
#[derive(Debug)]
pub struct Places {
    db: Connection,
    path: PathBuf,
}

impl Places {
    /// Opens the list in the folder `dir` (`$XDG_STATE_HOME/syncfiles`), and makes both where they are absent.
    pub fn open(dir: &Path) -> Result<Places, PlacesError> {
        use std::os::unix::fs::DirBuilderExt;
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|source| PlacesError::Folder { path: dir.into(), source })?;
        let path = dir.join("places.db");
        let failed = |source| PlacesError::Database { path: path.clone(), source };
        let db = Connection::open(&path).map_err(failed)?;
        db.busy_timeout(PATIENCE).map_err(failed)?;
        db.execute_batch("CREATE TABLE IF NOT EXISTS places (place TEXT PRIMARY KEY, root BLOB NOT NULL)")
            .map_err(failed)?;
        Ok(Places { db, path })
    }

    /// Whether `place` still shows the root that stood there when it was last [`remember`](Places::remember)ed.
    pub fn check(&self, place: &str, standing: Standing) -> Result<Result<Met, Stranger>, PlacesError> {
        let known: Option<[u8; 16]> = self
            .db
            .query_row("SELECT root FROM places WHERE place = ?1", [place], |row| row.get(0))
            .optional()
            .map_err(|source| PlacesError::Database { path: self.path.clone(), source })?;
        let Some(known) = known.map(Id) else { return Ok(Ok(Met::Never)) };
        let place = Shown(place.as_bytes()).to_string();
        Ok(match standing {
            Standing::Root(found) if found == known => Ok(Met::Before),
            Standing::Root(found) => Err(Stranger::Replaced { place, known, found }),
            Standing::Nameless => Err(Stranger::Nameless { place, known }),
            Standing::Nothing => Err(Stranger::Missing { place, known }),
        })
    }

    /// From now on `place` is known to hold `root`. Where it is known already, nothing waits for the disk.
    pub fn remember(&self, place: &str, root: Id) -> Result<(), PlacesError> {
        self.db
            .execute(
                "INSERT INTO places VALUES (?1, ?2) ON CONFLICT DO UPDATE SET root = ?2 WHERE root <> ?2",
                (place, root.0),
            )
            .map(|_| ())
            .map_err(|source| PlacesError::Database { path: self.path.clone(), source })
    }
}

fn shown(path: &Path) -> String {
    Shown(path.as_os_str().as_encoded_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_place_that_shows_nothing_or_another_root_stops_the_run() {
        let temp = tempfile::tempdir().unwrap();
        let places = Places::open(&temp.path().join("deep/state")).unwrap();
        let (mine, other) = (Id([1; 16]), Id([2; 16]));
        assert_eq!(places.check("client:/a", Standing::Nothing).unwrap(), Ok(Met::Never));
        places.remember("client:/a", mine).unwrap();
        let again = Places::open(&temp.path().join("deep/state")).unwrap();
        assert_eq!(again.check("client:/a", Standing::Root(mine)).unwrap(), Ok(Met::Before));
        assert_eq!(again.check("client:/b", Standing::Nameless).unwrap(), Ok(Met::Never));
        for standing in [Standing::Nothing, Standing::Nameless, Standing::Root(other)] {
            let stranger = again.check("client:/a", standing).unwrap().unwrap_err().to_string();
            assert!(stranger.contains(&mine.to_string()) && stranger.contains("--new-root"), "{stranger}");
        }
    }
}
