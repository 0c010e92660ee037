//! The moments of edits of what is about to take its place: a copy's age must survive a kill between the renames and the
//! rows of the index.
//!
//! Found by inode, size and modification time, which a file keeps wherever it lands. They are written before the first
//! rename of a run, all in one row, which goes with the run's own rows of the index; that of a run which never came
//! there goes after a month.

use rusqlite::Connection;

use super::identity::Id;
use super::index::{Entry, IndexError, last_write, of_inode};
use crate::core::age::Timestamp;
use crate::core::path::RelPath;
use crate::core::snapshot::{Folder, Node, Seen, Snapshot};

pub(crate) const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS arriving (
        run BLOB PRIMARY KEY,
        at INTEGER NOT NULL,        -- nanoseconds since 1970
        files BLOB NOT NULL         -- inode, size, modified, changed (in staging), edited; each 8 bytes, little-endian
    ) STRICT;";

/// A month, in nanoseconds.
const FORGOTTEN_AFTER: i64 = 30 * 86_400 * 1_000_000_000;

/// Bytes of one file in a row.
const FILE: usize = 5 * 8;

/// Writes down what `run` is about to put in place, in the caller's transaction. Entries without a moment of edit are
/// passed over.
pub(crate) fn write(db: &Connection, run: Id, entries: &[Entry], now: Timestamp) -> rusqlite::Result<()> {
    db.execute("UPDATE writes SET number = number + 1", ())?;
    db.execute("DELETE FROM arriving WHERE at < ?1", [now.0.saturating_sub(FORGOTTEN_AFTER)])?;
    let files: Vec<u8> = entries.iter().filter_map(encode).flatten().flat_map(i64::to_le_bytes).collect();
    db.execute("INSERT OR REPLACE INTO arriving VALUES (?1, ?2, ?3)", (run.0, now.0, files)).map(|_| ())
}

/// The index has rows of what `run` put in place.
pub(crate) fn arrived(db: &Connection, run: Id) -> rusqlite::Result<()> {
    db.execute("DELETE FROM arriving WHERE run = ?1", [run.0]).map(|_| ())
}

/// What may have arrived, in order of inodes.
pub(crate) fn load(db: &Connection) -> rusqlite::Result<Vec<Entry>> {
    let mut rows = db.prepare("SELECT files FROM arriving")?;
    let rows = rows.query_map((), |row| row.get::<_, Vec<u8>>(0))?;
    let mut entries = Vec::new();
    for files in rows {
        entries.extend(files?.as_chunks::<FILE>().0.iter().map(decode));
    }
    entries.sort_unstable_by_key(|entry: &Entry| entry.seen.inode);
    Ok(entries)
}

fn encode(entry: &Entry) -> Option<[i64; 5]> {
    let (inode, size) = (entry.seen.inode.cast_signed(), entry.size.cast_signed());
    Some([inode, size, entry.modified.0, entry.seen.changed.0, entry.edited?.0])
}

fn decode(file: &[u8; FILE]) -> Entry {
    let [inode, size, modified, changed, edited] =
        std::array::from_fn(|at| file.as_chunks().0.get(at).map_or(0, |bytes| i64::from_le_bytes(*bytes)));
    entry_of(inode, size, modified, changed, edited)
}

fn entry_of(inode: i64, size: i64, modified: i64, changed: i64, edited: i64) -> Entry {
    Entry {
        seen: Seen { inode: inode.cast_unsigned(), changed: Timestamp(changed) },
        size: size.cast_unsigned(),
        modified: Timestamp(modified),
        sha256: None,
        edited: Some(Timestamp(edited)),
    }
}

/// What other sessions wrote about moments of edits since the write `since`: to be held against a scan that began
/// before, as what they put in place it may have seen without any row.
pub(crate) fn later(db: &Connection, since: i64) -> Result<Vec<Entry>, IndexError> {
    if last_write(db)? == since {
        return Ok(Vec::new());
    }
    let read = || {
        let mut entries = load(db)?;
        let mut rows = db.prepare(
            "SELECT inode, size, modified, changed, edited FROM file
             WHERE written > ?1 AND edited IS NOT NULL",
        )?;
        let rows = rows.query_map([since], |row| {
            Ok(entry_of(row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })?;
        for row in rows {
            entries.push(row?);
        }
        entries.sort_by_key(|entry| entry.seen.inode);
        Ok(entries)
    };
    read().map_err(IndexError::Load)
}

/// Gives what the scan saw without a moment of edit the one that is among `later`; returns what was found.
pub(crate) fn date(snapshot: &mut Snapshot, later: &[Entry]) -> Vec<(RelPath, Node)> {
    let mut found = Vec::new();
    if !later.is_empty() {
        date_below(snapshot, &RelPath::root(), later, &mut found);
    }
    found
}

fn date_below(folder: &mut Folder, path: &RelPath, later: &[Entry], found: &mut Vec<(RelPath, Node)>) {
    for (name, node) in &mut folder.members {
        let Ok(path) = path.join(name) else { continue };
        let (seen, size, modified, edited) = match node {
            Node::Folder(inner) => {
                date_below(inner, &path, later, found);
                continue;
            }
            Node::Unknown(_) => continue,
            Node::File(file) => (file.seen, file.size, file.modified, &mut file.edited),
            Node::Link(link) => (link.seen, link.target.len() as u64, link.modified, &mut link.edited),
        };
        let same = |entry: &&Entry| (entry.size, entry.modified) == (size, modified);
        let moment = of_inode(later, seen.inode).find(same).and_then(|entry| entry.edited);
        if let Some(moment) = moment.filter(|moment| *edited == modified && *moment != modified) {
            *edited = moment;
            found.push((path, node.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::snapshot::File;
    use crate::core::version::Bits;
    use crate::replica::index::{Change, create, load as load_index, write as write_index};

    fn entry(inode: u64, edited: Option<i64>) -> Entry {
        Entry {
            seen: Seen { inode, changed: Timestamp(FORGOTTEN_AFTER) },
            size: 3,
            modified: Timestamp(40),
            sha256: None,
            edited: edited.map(Timestamp),
        }
    }

    fn database() -> Connection {
        let db = Connection::open_in_memory().unwrap();
        create(&db).unwrap();
        db
    }

    #[test]
    fn what_arrives_is_remembered_until_the_index_has_rows_of_it_or_for_a_month() {
        let db = database();
        let now = Timestamp(FORGOTTEN_AFTER + 1);
        write(&db, Id([1; 16]), &[entry(1, Some(7)), entry(2, None), entry(3, Some(8))], now).unwrap();
        assert_eq!(load(&db).unwrap(), [entry(1, Some(7)), entry(3, Some(8))]);
        write(&db, Id([2; 16]), &[entry(2, Some(9))], now).unwrap();
        assert_eq!(load(&db).unwrap(), [entry(1, Some(7)), entry(2, Some(9)), entry(3, Some(8))]);
        arrived(&db, Id([1; 16])).unwrap();
        assert_eq!(load(&db).unwrap(), [entry(2, Some(9))]);
        write(&db, Id([3; 16]), &[], Timestamp(now.0 + FORGOTTEN_AFTER)).unwrap();
        assert_eq!(load(&db).unwrap(), [entry(2, Some(9))]);
        write(&db, Id([3; 16]), &[], Timestamp(now.0 + FORGOTTEN_AFTER + 1)).unwrap();
        assert_eq!(load(&db).unwrap(), []);
    }

    #[test]
    fn a_scan_that_saw_a_copy_before_its_row_learns_of_its_age_afterwards() {
        let db = database();
        let since = load_index(&db).unwrap().written;
        assert_eq!(later(&db, since).unwrap(), []);
        write(&db, Id([1; 16]), &[entry(1, Some(7))], Timestamp(0)).unwrap();
        let row = Change::Put(RelPath::parse(b"x").unwrap(), entry(2, Some(8)));
        write_index(&db, &[row], since).unwrap();
        let file = |inode| {
            let (modified, seen) = (Timestamp(40), Seen { inode, changed: Timestamp(90) });
            Node::File(File {
                size: 3,
                sha256: None,
                bits: Bits::default(),
                modified,
                edited: modified,
                seen,
            })
        };
        let name = |name: &[u8]| crate::core::path::Name::parse(name).unwrap();
        let inner = Folder { members: vec![(name(b"b"), file(2))], ..Folder::default() };
        let members = vec![(name(b"a"), file(1)), (name(b"c"), file(3)), (name(b"d"), Node::Folder(inner))];
        let mut snapshot = Snapshot { members, ..Snapshot::default() };
        let found = date(&mut snapshot, &later(&db, since).unwrap());
        let edited = |path: &str| match snapshot.find(&RelPath::parse(path.as_bytes()).unwrap()) {
            Some(Node::File(file)) => file.edited.0,
            other => panic!("{other:?}"),
        };
        assert_eq!(["a", "c", "d/b"].map(edited), [7, 40, 8]);
        assert_eq!(found.len(), 2);
    }
}
