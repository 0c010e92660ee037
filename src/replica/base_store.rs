//! The rows of the base, one a path, for each root that was met.
//!
//! A path is stored with its components joined by NUL, which no component can hold and which sorts before all
//! they can: SQLite's order of bytes is then path order, and a load comes out sorted.

use rusqlite::types::ValueRef;
use rusqlite::{OptionalExtension, Row};

use super::identity::Id;
use super::state::{State, StateError, database};
use crate::core::base::{Base, BaseContent, BaseEntry};
use crate::core::digest::Digest;
use crate::core::path::RelPath;
use crate::core::version::Bits;

pub(crate) const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS base (
        pair INTEGER NOT NULL,   -- pairs.number
        path BLOB NOT NULL,      -- components joined by NUL
        kind INTEGER NOT NULL,   -- 0 file, 1 link, 2 folder, 3 folder that is gone
        bits INTEGER NOT NULL,
        size INTEGER,            -- of a file
        content BLOB,            -- SHA-256 of a file, target of a link
        PRIMARY KEY (pair, path)
    ) WITHOUT ROWID;";

const ACT: &str = "read the base in";

/// How a base changes at the end of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The run that both sides remember from now on.
    pub run: Id,
    /// The root's digest, if the base is now the whole tree on both sides.
    pub settled: Option<Digest>,
    /// Whether the rows that are there belong to nothing (a first meeting, or another base) and go before.
    pub fresh: bool,
    /// New rows, and `None` where both sides hold nothing any more.
    pub rows: Vec<(RelPath, Option<BaseEntry>)>,
}

/// The base that was agreed on with `peer` in `run`; `None` where this root keeps none of that run.
///
/// Fails with [`StateError::Damaged`] for a row that makes no sense: the base is then not to be used.
pub fn load(state: &State, peer: Id, run: Id) -> Result<Option<Base>, StateError> {
    // The rows are those of the moment at which the run was asked for.
    let _reading = state.read(ACT)?;
    let number: Option<i64> = state
        .db()
        .query_row("SELECT number FROM pairs WHERE peer = ?1 AND based = ?2", (peer.0, run.0), |row| {
            row.get(0)
        })
        .optional()
        .map_err(database(ACT))?;
    let Some(number) = number else { return Ok(None) };
    let mut query = state
        .db()
        .prepare("SELECT path, kind, bits, size, content FROM base WHERE pair = ?1 ORDER BY path")
        .map_err(database(ACT))?;
    let mut found = query.query([number]).map_err(database(ACT))?;
    let mut rows = Vec::new();
    while let Some(row) = found.next().map_err(database(ACT))? {
        let entry = entry_of(row).map_err(database(ACT))?;
        rows.push(entry.ok_or(StateError::Damaged { what: "base" })?);
    }
    Ok(Some(Base::from_rows(rows)))
}

/// Writes what a run settled with `peer`, all of it or nothing.
pub fn commit(state: &State, peer: Id, change: &Change) -> Result<(), StateError> {
    let act = "write the base into";
    let writing = state.write(act)?;
    let settled = change.settled.map(|digest| digest.0);
    let number: i64 = writing
        .query_row(
            "INSERT INTO pairs (peer, run, based, settled) VALUES (?1, ?2, ?2, ?3)
             ON CONFLICT (peer) DO UPDATE SET run = ?2, before = NULL, based = ?2, settled = ?3
             RETURNING number",
            (peer.0, change.run.0, settled),
            |row| row.get(0),
        )
        .map_err(database(act))?;
    if change.fresh {
        writing.execute("DELETE FROM base WHERE pair = ?1", [number]).map_err(database(act))?;
    }
    write_rows(&writing, number, &change.rows).and_then(|()| writing.commit()).map_err(database(act))
}

fn write_rows(
    writing: &rusqlite::Connection,
    pair: i64,
    rows: &[(RelPath, Option<BaseEntry>)],
) -> rusqlite::Result<()> {
    let mut put = writing.prepare_cached("INSERT OR REPLACE INTO base VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    let mut remove = writing.prepare_cached("DELETE FROM base WHERE pair = ?1 AND path = ?2")?;
    for (path, entry) in rows {
        let key = key_of(path);
        let Some(BaseEntry { content, bits }) = entry else {
            remove.execute((pair, key))?;
            continue;
        };
        let (kind, size, bytes): (u8, Option<i64>, Option<&[u8]>) = match content {
            BaseContent::File { size, sha256 } => (0, Some(*size as i64), Some(&sha256.0)),
            BaseContent::Link { target } => (1, None, Some(target)),
            BaseContent::Folder { gone: false } => (2, None, None),
            BaseContent::Folder { gone: true } => (3, None, None),
        };
        put.execute((pair, key, kind, u16::from(*bits), size, bytes))?;
    }
    Ok(())
}

fn entry_of(row: &Row<'_>) -> rusqlite::Result<Option<(RelPath, BaseEntry)>> {
    let blob = |at| match row.get_ref(at)? {
        ValueRef::Blob(bytes) => Ok(Some(bytes)),
        _ => Ok::<_, rusqlite::Error>(None),
    };
    let bits: u16 = row.get(2)?;
    let content = match (row.get(1)?, row.get::<_, Option<i64>>(3)?, blob(4)?) {
        (0, Some(size), Some(bytes)) => match bytes.try_into() {
            Ok(sha256) => BaseContent::File { size: size as u64, sha256: Digest(sha256) },
            Err(_) => return Ok(None),
        },
        (1, None, Some(target)) => BaseContent::Link { target: target.into() },
        (kind @ 2..=3, None, None) => BaseContent::Folder { gone: kind == 3 },
        _ => return Ok(None),
    };
    let entry = BaseEntry { content, bits: Bits::from(bits) };
    Ok(blob(0)?.and_then(path_of).map(|path| (path, entry)))
}

/// A path as its key: `/`, which cannot be in a component, becomes NUL.
pub(crate) fn key_of(path: &RelPath) -> Vec<u8> {
    path.as_bytes().iter().map(|&byte| if byte == b'/' { 0 } else { byte }).collect()
}

/// The path of a key; `None` for bytes that no path has.
pub(crate) fn path_of(key: &[u8]) -> Option<RelPath> {
    let joined: Box<[u8]> = key.iter().map(|&byte| if byte == 0 { b'/' } else { byte }).collect();
    if key.contains(&b'/') { None } else { RelPath::try_from(joined).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::root::Root;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    fn entry(content: BaseContent) -> Option<BaseEntry> {
        Some(BaseEntry { content, bits: Bits::of_mode(0o640) })
    }

    #[test]
    fn a_base_comes_back_as_it_was_committed_and_changes_row_by_row() {
        let temp = tempfile::tempdir().unwrap();
        let state = State::open(&Root::open(temp.path()).unwrap()).unwrap();
        let peer = Id([1; 16]);
        let run = Id([2; 16]);
        assert_eq!(load(&state, peer, run).unwrap(), None);
        let rows = vec![
            (path("a.b"), entry(BaseContent::File { size: 3, sha256: Digest::of(b"abc") })),
            (path("a"), entry(BaseContent::Folder { gone: false })),
            (path("a/l"), entry(BaseContent::Link { target: b"\xff".as_slice().into() })),
            (path("g"), entry(BaseContent::Folder { gone: true })),
        ];
        let mut change = Change { run, settled: Some(Digest::of(b"")), fresh: false, rows };
        commit(&state, peer, &change).unwrap();
        let base = load(&state, peer, run).unwrap().unwrap();
        let names: Vec<_> = base.rows().iter().map(|(path, _)| path.to_string()).collect();
        assert_eq!(names, ["a", "a/l", "a.b", "g"]);
        assert!(change.rows.iter().all(|(path, entry)| base.at(path) == entry.as_ref()));
        assert_eq!(super::super::pairs::agreed(&state, peer).unwrap().unwrap().settled, change.settled);

        change.rows = vec![(path("a/l"), None)];
        commit(&state, peer, &change).unwrap();
        assert_eq!(load(&state, peer, run).unwrap().unwrap().rows().len(), 3);
        (change.fresh, change.rows) = (true, vec![(path("z"), entry(BaseContent::Folder { gone: false }))]);
        commit(&state, peer, &change).unwrap();
        assert_eq!(load(&state, peer, run).unwrap().unwrap().rows().len(), 1);
        assert_eq!(load(&state, Id([9; 16]), run).unwrap(), None);
        assert_eq!(load(&state, peer, Id([9; 16])).unwrap(), None);
    }

    #[test]
    fn rows_that_nobody_wrote_are_an_error_and_never_a_path() {
        let temp = tempfile::tempdir().unwrap();
        let state = State::open(&Root::open(temp.path()).unwrap()).unwrap();
        let change = Change { run: Id([2; 16]), settled: None, fresh: false, rows: Vec::new() };
        for row in ["x'2e2e', 2, 0, NULL, NULL", "x'61', 0, 0, 5, x'00'", "x'61', 9, 0, NULL, NULL"] {
            commit(&state, Id([1; 16]), &change).unwrap();
            state.db().execute(&format!("INSERT OR REPLACE INTO base VALUES (1, {row})"), ()).unwrap();
            assert!(
                matches!(load(&state, Id([1; 16]), Id([2; 16])), Err(StateError::Damaged { .. })),
                "{row}"
            );
            state.db().execute("DELETE FROM base", ()).unwrap();
        }
    }
}
