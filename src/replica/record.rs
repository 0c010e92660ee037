//! One act of a run on one path, as a row of the history.

use rusqlite::Row;

use super::base_store::{key_of, path_of};
use super::root::{Kind, Stat};
use crate::core::age::Timestamp;
use crate::core::digest::Digest;
use crate::core::path::RelPath;
use crate::core::version::Bits;

pub(crate) const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS runs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id BLOB NOT NULL UNIQUE,
        moment INTEGER NOT NULL     -- its beginning, in nanoseconds
    );
    CREATE TABLE IF NOT EXISTS history (
        run INTEGER NOT NULL,       -- runs.number
        number INTEGER NOT NULL,    -- in the order of the acts
        path BLOB NOT NULL,         -- components joined by NUL
        cause INTEGER NOT NULL,
        origin BLOB,                -- of a move
        old_kind INTEGER, old_size INTEGER, old_modified INTEGER, old_bits INTEGER, old_sha256 BLOB,
        new_kind INTEGER, new_size INTEGER, new_modified INTEGER, new_inode INTEGER,
        PRIMARY KEY (run, number)
    ) WITHOUT ROWID;";

/// Why an act was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// Another version took its place, or it is new.
    Put,
    /// It was deleted on the other side.
    Deleted,
    /// It was an extra or an edit that a mirror does not keep.
    Mirrored,
    /// It was moved on the other side.
    Moved,
    /// Its permission bits changed.
    Bits,
    /// The user brought a version back.
    Restored,
}

const CAUSES: [Cause; 6] =
    [Cause::Put, Cause::Deleted, Cause::Mirrored, Cause::Moved, Cause::Bits, Cause::Restored];
const KINDS: [Kind; 3] = [Kind::File, Kind::Link, Kind::Folder];

/// What stood at a path before an act.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Was {
    /// Its kind.
    pub kind: Kind,
    /// Its length in bytes.
    pub size: u64,
    /// Its modification time.
    pub modified: Timestamp,
    /// Its permission bits.
    pub bits: Bits,
    /// SHA-256 of a file, where it was known.
    pub sha256: Option<Digest>,
}

/// What an act made stand at a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Made {
    /// Its kind.
    pub kind: Kind,
    /// Its length in bytes.
    pub size: u64,
    /// Its modification time.
    pub modified: Timestamp,
    /// Its inode number.
    pub inode: u64,
}

impl Made {
    /// What `stat` says.
    pub fn of(stat: &Stat) -> Made {
        Made { kind: stat.kind, size: stat.size, modified: stat.modified, inode: stat.seen.inode }
    }

    /// Whether `stat` is still that.
    pub fn is(&self, stat: &Stat) -> bool {
        let same = (stat.kind, stat.seen.inode) == (self.kind, self.inode);
        same && (self.kind == Kind::Folder || (stat.size, stat.modified) == (self.size, self.modified))
    }
}

/// One act of a run on one path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Where.
    pub path: RelPath,
    /// Why.
    pub cause: Cause,
    /// Where it was before, for a move.
    pub origin: Option<RelPath>,
    /// What stood there; none for a creation.
    pub old: Option<Was>,
    /// What stands there since; none for a removal.
    pub new: Option<Made>,
}

/// Writes records, the first with this number and the others with those that follow.
pub(crate) fn insert(
    db: &rusqlite::Connection,
    run: i64,
    first: i64,
    records: &[Record],
) -> rusqlite::Result<()> {
    let mut put = db.prepare_cached(
        "INSERT INTO history VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?;
    (first..).zip(records).try_for_each(|(number, record)| put_one(&mut put, run, number, record))
}

fn put_one(
    put: &mut rusqlite::Statement<'_>,
    run: i64,
    number: i64,
    record: &Record,
) -> rusqlite::Result<()> {
    let Record { path, cause, origin, old, new } = record;
    let (old, new) = (old.as_ref(), new.as_ref());
    put.execute(rusqlite::params![
        run,
        number,
        key_of(path),
        CAUSES.iter().position(|known| known == cause).map(|at| at as i64),
        origin.as_ref().map(key_of),
        old.map(|was| kind_number(was.kind)),
        old.map(|was| was.size as i64),
        old.map(|was| was.modified.0),
        old.map(|was| u16::from(was.bits)),
        old.and_then(|was| was.sha256.map(|digest| digest.0)),
        new.map(|made| kind_number(made.kind)),
        new.map(|made| made.size as i64),
        new.map(|made| made.modified.0),
        new.map(|made| made.inode as i64),
    ])
    .map(|_| ())
}

/// Removes the record with this number.
pub(crate) fn delete(db: &rusqlite::Connection, run: i64, number: i64) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM history WHERE run = ?1 AND number = ?2")?
        .execute((run, number))
        .map(|_| ())
}

fn kind_number(kind: Kind) -> i64 {
    match kind {
        Kind::File => 0,
        Kind::Link => 1,
        Kind::Folder | Kind::Special => 2,
    }
}

/// The record in a row; `None` for one that nobody wrote. The columns are those after the number.
pub(crate) fn record_of(row: &Row<'_>) -> rusqlite::Result<Option<Record>> {
    let kind = |number: i64| usize::try_from(number).ok().and_then(|at| KINDS.get(at).copied());
    let size = |at: usize| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(at)?.unwrap_or(0) as u64);
    let path: Vec<u8> = row.get(1)?;
    let cause = usize::try_from(row.get::<_, i64>(2)?).ok().and_then(|at| CAUSES.get(at).copied());
    let origin = row.get::<_, Option<Vec<u8>>>(3)?;
    let old = match row.get::<_, Option<i64>>(4)?.map(kind) {
        Some(Some(kind)) => Some(Was {
            kind,
            size: size(5)?,
            modified: Timestamp(row.get(6)?),
            bits: Bits::from(row.get::<_, u16>(7)?),
            sha256: row.get::<_, Option<[u8; 32]>>(8)?.map(Digest),
        }),
        Some(None) => return Ok(None),
        None => None,
    };
    let new = match row.get::<_, Option<i64>>(9)?.map(kind) {
        Some(Some(kind)) => Some(Made {
            kind,
            size: size(10)?,
            modified: Timestamp(row.get(11)?),
            inode: row.get::<_, i64>(12)? as u64,
        }),
        Some(None) => return Ok(None),
        None => None,
    };
    let (Some(path), Some(cause)) = (path_of(&path), cause) else { return Ok(None) };
    let origin = match origin.map(|key| path_of(&key)) {
        Some(None) => return Ok(None),
        found => found.flatten(),
    };
    Ok(Some(Record { path, cause, origin, old, new }))
}
