//! Signatures of versions that were sent as a delta, or whole if they are large: the next delta of the same file need not be told
//! what the other side has of it.
//!
//! Only who sends a version keeps one. It is used for the very version that it was made of, by SHA-256, and what comes of it is
//! held to the SHA-256 of the new version: it may be lost, or wrong.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension};

use super::base_store::{key_of, path_of};
use super::state::{State, StateError, database};
use crate::core::age::Timestamp;
use crate::core::block::{Block, Grid};
use crate::core::digest::Digest;
use crate::core::path::RelPath;
use crate::core::signature::Signature;

pub(crate) const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS signature (
        path BLOB PRIMARY KEY,      -- components joined by NUL
        sha256 BLOB NOT NULL,       -- of the version
        made INTEGER NOT NULL,      -- nanoseconds since 1970; a month earlier if it was sent whole
        log2 INTEGER NOT NULL, seed INTEGER NOT NULL,
        blocks BLOB NOT NULL        -- length and weak hash (4 bytes each), strong hash (8 bytes), little-endian
    ) STRICT;";

/// The most that all of them together take, bytes: those that were made last are kept.
const KEPT: i64 = 64 << 20;

/// By so much one of a version that was sent whole counts as older than it is, nanoseconds: a month. Many large files that come to
/// stay as they are do not push out what is known of those that were edited.
const UNEDITED: i64 = 30 * 86_400 * 1_000_000_000;

/// Bytes of one block.
const BLOCK: usize = 16;

/// The most blocks that are worth keeping of all that one sync sends.
pub const MOST: usize = KEPT as usize / BLOCK;

/// A version that was sent at `path`, and its signature; without one what is kept of other versions there is forgotten.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Where the other side has it.
    pub path: RelPath,
    /// The version.
    pub sha256: Digest,
    /// Its blocks.
    pub signature: Option<Signature>,
    /// Whether it was sent as a delta: what is edited once is edited again.
    pub edited: bool,
}

/// The versions of which signatures are kept, by path.
pub fn kept(state: &State) -> Result<HashMap<RelPath, Digest>, StateError> {
    let read = || {
        let mut rows = state.db().prepare("SELECT path, sha256 FROM signature")?;
        let rows = rows.query_map((), |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?)))?;
        let kept = rows.filter_map(|row| {
            let named = |(key, sha256): (Vec<u8>, _)| Some((path_of(&key)?, Digest(sha256)));
            row.map(named).transpose()
        });
        kept.collect::<rusqlite::Result<_>>()
    };
    read().map_err(database(READ))
}

/// Whether the signature of the version `sha256` at `path` is kept.
pub fn is_kept(state: &State, path: &RelPath, sha256: Digest) -> Result<bool, StateError> {
    let query = "SELECT 1 FROM signature WHERE path = ?1 AND sha256 = ?2";
    let found = state.db().query_row(query, (key_of(path), sha256.0), |_| Ok(())).optional();
    found.map(|found| found.is_some()).map_err(database(READ))
}

/// The signature of the version `sha256` at `path`, if it is kept.
pub fn load(state: &State, path: &RelPath, sha256: Digest) -> Result<Option<Signature>, StateError> {
    let row = |row: &rusqlite::Row<'_>| {
        let (log2, seed, blocks): (u8, i64, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(Grid::new(log2, seed.cast_unsigned()).map(|grid| Signature { grid, blocks: decoded(&blocks) }))
    };
    state
        .db()
        .query_row(
            "SELECT log2, seed, blocks FROM signature WHERE path = ?1 AND sha256 = ?2",
            (key_of(path), sha256.0),
            row,
        )
        .optional()
        .map(Option::flatten)
        .map_err(database(READ))
}

/// Keeps signatures of versions that were sent, in place of those of the versions before.
pub fn keep(state: &State, sent: &[Sent], now: Timestamp) -> Result<(), StateError> {
    if sent.is_empty() {
        return Ok(());
    }
    let act = "write what was sent into";
    let writing = state.write(act)?;
    sent.iter()
        .try_for_each(|sent| put(&writing, sent, now))
        .and_then(|()| writing.execute(FORGET, [KEPT]))
        .and_then(|_| writing.commit())
        .map_err(database(act))
}

const READ: &str = "read what was sent from";

/// What was edited stays that, whoever gets it whole afterwards.
const PUT: &str = "
    INSERT INTO signature VALUES (?1, ?2, ?3, ?4, ?5, ?6)
    ON CONFLICT (path) DO UPDATE SET
        sha256 = excluded.sha256, made = MAX(made, excluded.made),
        log2 = excluded.log2, seed = excluded.seed, blocks = excluded.blocks";

const FORGET: &str = "
    DELETE FROM signature WHERE path IN (
        SELECT path FROM (
            SELECT path, SUM(LENGTH(blocks) + LENGTH(path) + 100) OVER (ORDER BY made DESC, path) AS so_far
            FROM signature
        ) WHERE so_far > ?1
    )";

fn put(db: &Connection, sent: &Sent, now: Timestamp) -> rusqlite::Result<()> {
    let key = key_of(&sent.path);
    let Some(Signature { grid, blocks }) = &sent.signature else {
        let row = (key, sent.sha256.0);
        return db.execute("DELETE FROM signature WHERE path = ?1 AND sha256 <> ?2", row).map(|_| ());
    };
    let made = if sent.edited { now.0 } else { now.0.saturating_sub(UNEDITED) };
    let row = (key, sent.sha256.0, made, grid.log2(), grid.seed().cast_signed(), encoded(blocks));
    db.execute(PUT, row).map(|_| ())
}

fn encoded(blocks: &[Block]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BLOCK * blocks.len());
    for block in blocks {
        bytes.extend_from_slice(&block.length.to_le_bytes());
        bytes.extend_from_slice(&block.weak.to_le_bytes());
        bytes.extend_from_slice(&block.strong.to_le_bytes());
    }
    bytes
}

fn decoded(bytes: &[u8]) -> Vec<Block> {
    let block = |bytes: &[u8; BLOCK]| {
        let number = u128::from_le_bytes(*bytes);
        Block { length: number as u32, weak: (number >> 32) as u32, strong: (number >> 64) as u64 }
    };
    bytes.as_chunks().0.iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::testing::*;

    fn sent(at: &str, sha256: u8, blocks: usize) -> Sent {
        let block = |at: usize| Block { length: 4096, weak: 7, strong: u64::MAX >> 24 ^ at as u64 };
        let (grid, blocks) = (Grid::new(12, u64::MAX).unwrap(), (0..blocks).map(block).collect());
        Sent {
            path: path(at),
            sha256: Digest([sha256; 32]),
            signature: Some(Signature { grid, blocks }),
            edited: true,
        }
    }

    #[test]
    fn a_signature_is_that_of_one_version_at_one_path() {
        let field = Field::new(&[]);
        let state = State::open(&field.root).unwrap();
        let (old, new) = (sent("a", 1, 3), sent("a", 2, 5));
        keep(&state, &[old.clone(), sent("b", 1, 0)], Timestamp(1)).unwrap();
        assert_eq!(load(&state, &old.path, old.sha256).unwrap(), old.signature);
        keep(&state, std::slice::from_ref(&new), Timestamp(2)).unwrap();
        assert_eq!(load(&state, &old.path, old.sha256).unwrap(), None);
        assert_eq!(load(&state, &new.path, new.sha256).unwrap(), new.signature);
        let unsigned = |sent: &Sent| [Sent { signature: None, ..sent.clone() }];
        keep(&state, &unsigned(&new), Timestamp(3)).unwrap();
        assert!(is_kept(&state, &new.path, new.sha256).unwrap(), "another client was sent the same");
        keep(&state, &unsigned(&old), Timestamp(4)).unwrap();
        assert!(!is_kept(&state, &new.path, new.sha256).unwrap());
        assert_eq!(kept(&state).unwrap(), HashMap::from([(path("b"), Digest([1; 32]))]));
    }

    #[test]
    fn the_oldest_go_where_all_together_are_too_many() {
        let field = Field::new(&[]);
        let state = State::open(&field.root).unwrap();
        // And something for the row itself.
        let third = KEPT as usize / BLOCK / 3 - 100;
        for (at, name) in (1..).zip(["a", "b", "c", "d"]) {
            keep(&state, &[sent(name, 1, third)], Timestamp(at)).unwrap();
        }
        let names = || {
            let mut names: Vec<_> = kept(&state).unwrap().into_keys().collect();
            names.sort_unstable();
            names
        };
        assert_eq!(names(), ["b", "c", "d"].map(path));
        // What is not known to be edited takes no room from them, but for one that is long gone from here.
        let unedited = |name| Sent { edited: false, ..sent(name, 1, third) };
        keep(&state, &[unedited("b"), unedited("e")], Timestamp(5)).unwrap();
        assert_eq!(names(), ["b", "c", "d"].map(path));
        keep(&state, &[unedited("f")], Timestamp(UNEDITED + 5)).unwrap();
        assert_eq!(names(), ["c", "d", "f"].map(path));
    }
}
