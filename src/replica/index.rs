//! What earlier runs learnt of this root's files, so that an unchanged file is never read twice.
//!
//! One SQLite row a path that has a hash or a moment of edit to remember. The key is the path with NUL for `/`:
//! NUL sorts before every byte of a name, so the order of keys is path order.
//!
//! # When a hash is trusted
//!
//! A hash is *stored* only if one of the file's two times, modification or change, is more than [`MARGIN`] older
//! than the start of the scan that saw it. Then every later write shows: it sets both times to its own moment,
//! which is a later one. (Were both times recent, a write in the same tick of the clock would not show.) One old
//! time is enough, or every file just received, whose change time is new and whose modification time is its
//! source's, would be read again by the next scan.
//!
//! A stored hash is *used* if inode, size, modification and change time are equal at the same path. Under another
//! path the row is found by its inode. If the change time is equal too, the file moved along with its folder. If
//! not, a rename may have set it, and the rest must match and the inode must be no younger than the row: an inode
//! number is given again after a deletion, and archives give many files one time and one size.
//!
//! The *moment of an edit* is kept for what was received, and holds as long as inode, size and modification time do.
//! It is all that tells the age of a copy whose source had another clock, so it is written down before the copy takes its
//! place (`arriving`).
//!
//! # Several sessions at once
//!
//! A session writes what its scan saw, and that may be long ago. Each write has a number; a row that another session
//! has written since this one loaded the index stays, unless what this one saw is the later state of the path.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::OnceLock;

use rusqlite::{Connection, Row, params};
use thiserror::Error;

use super::base_store::key_of;
use super::root::Stat;
use crate::core::age::Timestamp;
use crate::core::digest::Digest;
use crate::core::path::RelPath;
use crate::core::snapshot::{Link, Node, Seen};

/// How coarse a file system's times may be: nanoseconds (FAT counts in two seconds).
pub const MARGIN: i64 = 2_000_000_000;

/// Whether every write since the scan would show in one of these times: one of them is old enough. See the module.
pub(super) fn is_settled(modified: Timestamp, changed: Timestamp, scanned: Timestamp) -> bool {
    modified.min(changed).0 < scanned.0.saturating_sub(MARGIN)
}

/// Why the index cannot be used. Losing it is safe: everything is hashed again.
#[derive(Debug, Error)]
pub enum IndexError {
    /// Reading.
    #[error("cannot read the index: {0}; remove the index from .syncfiles to have it made again")]
    Load(rusqlite::Error),
    /// Writing.
    #[error("cannot write the index: {0}; check the free space, or remove the index from .syncfiles")]
    Store(rusqlite::Error),
}

/// What the index remembers of one file or link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Inode and change time when it was seen.
    pub seen: Seen,
    /// Length in bytes.
    pub size: u64,
    /// Modification time.
    pub modified: Timestamp,
    /// SHA-256 of a file's content.
    pub sha256: Option<Digest>,
    /// The moment of the edit on this system's clock, where it is not `modified`.
    pub edited: Option<Timestamp>,
}

impl Entry {
    /// What is worth remembering of `node`, seen by a scan that began at `started`; often nothing.
    pub fn of(node: &Node, started: Timestamp) -> Option<Entry> {
        let (seen, size, modified, edited, sha256) = match node {
            Node::File(f) => (f.seen, f.size, f.modified, f.edited, f.sha256.filter(|_| f.size > 0)),
            Node::Link(Link { target, modified, edited, seen }) => {
                (*seen, target.len() as u64, *modified, *edited, None)
            }
            Node::Folder(_) | Node::Unknown(_) => return None,
        };
        let sha256 = sha256.filter(|_| is_settled(modified, seen.changed, started));
        let edited = (edited != modified).then_some(edited);
        (sha256.is_some() || edited.is_some()).then_some(Entry { seen, size, modified, sha256, edited })
    }

    /// Whether `stat` shows an inode that has not been written to since.
    fn is_of(&self, stat: &Stat) -> bool {
        (self.seen.inode, self.size, self.modified) == (stat.seen.inode, stat.size, stat.modified)
    }
}

/// What the index tells of a file: its hash, and the moment of its edit.
pub(crate) type Memory = (Option<Digest>, Option<Timestamp>);

/// A row to write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Remember this of the path.
    Put(RelPath, Entry),
    /// Forget the path.
    Remove(RelPath),
}

/// All rows in memory, grouped by folder: about a hundred bytes a file.
#[derive(Debug, Default)]
pub struct Index {
    /// In the order of their paths' bytes.
    folders: Vec<Rows>,
    /// Inode, folder and row, in order; made when the first file is not found by its path.
    by_inode: OnceLock<Vec<(u64, u32, u32)>>,
    /// What may have taken its place without a row of its own yet, in order of inodes.
    arriving: Vec<Entry>,
    /// The number of the last write before.
    pub written: i64,
}

/// The rows of one folder's members, in order of their names.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    path: Box<[u8]>,
    /// All names, one after the other.
    names: Vec<u8>,
    /// Where each name ends, and what is remembered.
    rows: Vec<(u32, Entry)>,
}

impl Rows {
    /// The number of rows.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The name of row `at`.
    pub(crate) fn name(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.rows[at - 1].0 as usize };
        &self.names[start..self.rows[at].0 as usize]
    }

    /// The number of the row called `name`.
    pub(crate) fn find(&self, name: &[u8]) -> Option<usize> {
        let (mut low, mut high) = (0, self.rows.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.name(middle).cmp(name) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Some(middle),
                Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// What row `at` remembers (hash, moment of edit) of what `stat` shows at the row's own path, if it is the same inode.
    pub(crate) fn at(&self, at: usize, stat: &Stat) -> Option<Memory> {
        let entry = Some(&self.rows[at].1).filter(|entry| entry.is_of(stat))?;
        Some((entry.sha256.filter(|_| entry.seen.changed == stat.seen.changed), entry.edited))
    }

    /// The path of row `at`.
    pub(crate) fn path(&self, at: usize) -> Option<RelPath> {
        let separator: &[u8] = if self.path.is_empty() { b"" } else { b"/" };
        RelPath::parse(&[&self.path, separator, self.name(at)].concat()).ok()
    }

    fn push(&mut self, name: &[u8], entry: Entry) {
        self.names.extend_from_slice(name);
        self.rows.push((self.names.len() as u32, entry));
    }
}

impl Index {
    /// The rows of the members of `folder` (components joined by `/`).
    pub(crate) fn within(&self, folder: &[u8]) -> Option<&Rows> {
        let at = self.folders.binary_search_by(|rows| (*rows.path).cmp(folder)).ok()?;
        Some(&self.folders[at])
    }

    /// Every folder with rows, and its path.
    pub(crate) fn folders(&self) -> impl Iterator<Item = (&[u8], &Rows)> {
        self.folders.iter().map(|rows| (&*rows.path, rows))
    }

    /// What is remembered, under another path, of the inode that `stat` shows.
    pub(crate) fn moved(&self, stat: &Stat) -> Option<Memory> {
        let inode = stat.seen.inode;
        let by_inode = self.by_inode.get_or_init(|| self.sort_by_inode());
        let rows = by_inode[by_inode.partition_point(|row| row.0 < inode)..].iter();
        let rows = rows.take_while(|row| row.0 == inode);
        let rows = rows.map(|&(_, folder, row)| &self.folders[folder as usize].rows[row as usize].1);
        of_inode(&self.arriving, inode)
            .chain(rows)
            .find(|entry| {
                let same_life = stat.born.is_some_and(|born| born <= entry.seen.changed);
                entry.is_of(stat) && (entry.seen.changed == stat.seen.changed || same_life)
            })
            .map(|entry| (entry.sha256, entry.edited))
    }

    fn sort_by_inode(&self) -> Vec<(u64, u32, u32)> {
        let mut all = Vec::with_capacity(self.folders.iter().map(Rows::len).sum());
        for (folder, rows) in self.folders.iter().enumerate() {
            let of =
                |(row, (_, entry)): (usize, &(u32, Entry))| (entry.seen.inode, folder as u32, row as u32);
            all.extend(rows.rows.iter().enumerate().map(of));
        }
        all.sort_unstable();
        all
    }
}

/// The entries of `inode` among `entries`, which are in order of inodes.
pub(crate) fn of_inode(entries: &[Entry], inode: u64) -> impl Iterator<Item = &Entry> {
    let start = entries.partition_point(|entry| entry.seen.inode < inode);
    entries[start..].iter().take_while(move |entry| entry.seen.inode == inode)
}

/// Makes the tables where they are absent.
pub fn create(db: &Connection) -> Result<(), IndexError> {
    db.execute_batch(
        "CREATE TABLE IF NOT EXISTS file (
            path BLOB PRIMARY KEY,      -- components joined by NUL
            inode INTEGER NOT NULL, size INTEGER NOT NULL,
            modified INTEGER NOT NULL, changed INTEGER NOT NULL,    -- nanoseconds since 1970
            sha256 BLOB, edited INTEGER,
            written INTEGER NOT NULL DEFAULT 0                      -- by which write
        ) STRICT, WITHOUT ROWID",
    )
    .and_then(|()| db.execute_batch(COUNTER))
    .and_then(|()| db.execute_batch(super::arriving::TABLE))
    .map_err(IndexError::Store)
}

pub(crate) const COUNTER: &str = "
    CREATE TABLE IF NOT EXISTS writes (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        number INTEGER NOT NULL     -- of the last write
    ) STRICT;
    INSERT OR IGNORE INTO writes VALUES (1, 0);";

/// The number of the last write.
pub(crate) fn last_write(db: &Connection) -> Result<i64, IndexError> {
    db.query_row("SELECT number FROM writes", (), |row| row.get(0)).map_err(IndexError::Load)
}

/// Reads every row in one pass. A row that cannot have been written by [`write()`] is passed over.
pub fn load(db: &Connection) -> Result<Index, IndexError> {
    // First of all: what is written meanwhile counts as later.
    let written = last_write(db)?;
    let arriving = super::arriving::load(db).map_err(IndexError::Load)?;
    let mut statement = db
        .prepare("SELECT path, inode, size, modified, changed, sha256, edited FROM file ORDER BY path")
        .map_err(IndexError::Load)?;
    let mut rows = statement.query([]).map_err(IndexError::Load)?;
    let mut grouping = Grouping::default();
    while let Some(row) = rows.next().map_err(IndexError::Load)? {
        let key = row.get_ref(0).map_err(IndexError::Load)?;
        let (Ok(key), Some(entry)) = (key.as_blob(), read_entry(row)) else { continue };
        grouping.add(key, entry);
    }
    Ok(Index { arriving, written, ..grouping.finish() })
}

/// As [`load`], of the rows at and below `paths` only.
pub fn load_near(db: &Connection, paths: &[RelPath]) -> Result<Index, IndexError> {
    let written = last_write(db)?;
    let arriving = super::arriving::load(db).map_err(IndexError::Load)?;
    let mut near = BTreeMap::new();
    let mut statement = db.prepare_cached(NEAR).map_err(IndexError::Load)?;
    for path in paths {
        let key = key_of(path);
        // Nothing that a name can begin with comes between what is below a path and what comes after that.
        let (first, end) = ([&key[..], &[0]].concat(), [&key[..], &[1]].concat());
        let mut rows = statement.query((&key, first, end)).map_err(IndexError::Load)?;
        while let Some(row) = rows.next().map_err(IndexError::Load)? {
            let key = row.get_ref(0).map_err(IndexError::Load)?;
            let (Ok(key), Some(entry)) = (key.as_blob(), read_entry(row)) else { continue };
            near.insert(key.to_vec(), entry);
        }
    }
    let mut grouping = Grouping::default();
    near.iter().for_each(|(key, entry)| grouping.add(key, *entry));
    Ok(Index { arriving, written, ..grouping.finish() })
}

const NEAR: &str = "SELECT path, inode, size, modified, changed, sha256, edited FROM file
                    WHERE path = ?1 OR path >= ?2 AND path < ?3";

/// Writes `changes`, the later of two for one path last, in the caller's own transaction. `since` is the last write
/// that was known when what they tell was seen: a row that was written later goes only for a later state of its path. Of
/// two rows about one and the same content none takes from the other what it alone remembers.
pub fn write(db: &Connection, changes: &[Change], since: i64) -> Result<(), IndexError> {
    write_all(db, changes, since).map_err(IndexError::Store)
}

fn write_all(db: &Connection, changes: &[Change], since: i64) -> rusqlite::Result<()> {
    let number = "UPDATE writes SET number = number + 1 RETURNING number";
    let number: i64 = db.query_row(number, (), |row| row.get(0))?;
    let mut put = db.prepare_cached(PUT)?;
    let mut remove =
        db.prepare_cached("DELETE FROM file WHERE path = ?1 AND (written <= ?2 OR written = ?3)")?;
    for change in changes {
        match change {
            Change::Put(path, entry) => {
                put.execute(params![
                    key_of(path),
                    entry.seen.inode.cast_signed(),
                    entry.size.cast_signed(),
                    entry.modified.0,
                    entry.seen.changed.0,
                    entry.sha256.map(|digest| digest.0),
                    entry.edited.map(|edited| edited.0),
                    number,
                    since,
                ])?;
            }
            Change::Remove(path) => {
                remove.execute((key_of(path), since, number))?;
            }
        }
    }
    Ok(())
}

const PUT: &str = "
    INSERT INTO file VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
    ON CONFLICT (path) DO UPDATE SET
        edited = CASE WHEN (inode, size, modified) = (?2, ?3, ?4) THEN ifnull(?7, edited) ELSE ?7 END,
        sha256 = CASE WHEN (inode, size, modified, changed) = (?2, ?3, ?4, ?5) THEN ifnull(?6, sha256) ELSE ?6 END,
        inode = ?2, size = ?3, modified = ?4, changed = ?5, written = ?8
    WHERE written <= ?9 OR written = ?8 OR changed < ?5 OR (inode, size, modified) = (?2, ?3, ?4)";

fn read_entry(row: &Row<'_>) -> Option<Entry> {
    let number = |at| row.get::<_, i64>(at).ok();
    let sha256 = match row.get_ref(5).ok()?.as_blob_or_null().ok()? {
        Some(bytes) => Some(Digest(bytes.try_into().ok()?)),
        None => None,
    };
    Some(Entry {
        seen: Seen { inode: number(1)?.cast_unsigned(), changed: Timestamp(number(4)?) },
        size: number(2)?.cast_unsigned(),
        modified: Timestamp(number(3)?),
        sha256,
        edited: row.get::<_, Option<i64>>(6).ok()?.map(Timestamp),
    })
}

/// Turns rows in path order into rows by folder. Files of a folder come before, between and after those of the
/// folders in it, so the folders on the way down are open at once.
#[derive(Default)]
struct Grouping {
    open: Vec<Rows>,
    done: Vec<Rows>,
}

impl Grouping {
    fn add(&mut self, key: &[u8], entry: Entry) {
        let at = key.iter().rposition(|&byte| byte == 0);
        let (folder, name) = at.map_or((&b""[..], key), |at| (&key[..at], &key[at + 1..]));
        let is_above = |open: &[u8]| {
            folder
                .strip_prefix(open)
                .is_some_and(|rest| open.is_empty() || rest.first().is_none_or(|&b| b == 0))
        };
        while self.open.last().is_some_and(|rows| !is_above(&rows.path)) {
            self.done.extend(self.open.pop());
        }
        match self.open.last_mut() {
            Some(rows) if *rows.path == *folder => rows.push(name, entry),
            _ => {
                let mut rows = Rows { path: folder.into(), ..Rows::default() };
                rows.push(name, entry);
                self.open.push(rows);
            }
        }
    }

    fn finish(mut self) -> Index {
        self.done.append(&mut self.open);
        for rows in &mut self.done {
            rows.names.shrink_to_fit();
            rows.rows.shrink_to_fit();
            rows.path.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b'/');
        }
        self.done.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Index { folders: self.done, ..Index::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::snapshot::File;
    use crate::core::version::Bits;
    use crate::replica::root::Kind;
    use proptest::prelude::*;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    fn entry(inode: u64) -> Entry {
        Entry {
            seen: Seen { inode, changed: Timestamp(50) },
            size: 7,
            modified: Timestamp(40),
            sha256: Some(Digest::of(&inode.to_le_bytes())),
            edited: None,
        }
    }

    fn stat(inode: u64, changed: i64, born: i64) -> Stat {
        Stat {
            kind: Kind::File,
            size: 7,
            bits: Bits::default(),
            modified: Timestamp(40),
            born: Some(Timestamp(born)),
            seen: Seen { inode, changed: Timestamp(changed) },
            links: 1,
            device: 1,
            mounted: false,
        }
    }

    fn stored(changes: &[Change]) -> Index {
        let db = Connection::open_in_memory().unwrap();
        create(&db).unwrap();
        write(&db, changes, 0).unwrap();
        load(&db).unwrap()
    }

    fn rows(index: &Index) -> Vec<(RelPath, Entry)> {
        let of = |rows: &Rows| {
            (0..rows.len()).map(|at| (rows.path(at).unwrap(), rows.rows[at].1)).collect::<Vec<_>>()
        };
        let mut all: Vec<_> = index.folders().flat_map(|(_, rows)| of(rows)).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    fn file(modified: i64, changed: i64, edited: i64) -> Node {
        Node::File(File {
            size: 3,
            sha256: Some(Digest::of(b"abc")),
            bits: Bits::default(),
            modified: Timestamp(modified),
            edited: Timestamp(edited),
            seen: Seen { inode: 1, changed: Timestamp(changed) },
        })
    }

    #[test]
    fn a_hash_is_kept_only_once_a_time_of_the_file_is_older_than_its_scan() {
        let started = Timestamp(10 * MARGIN);
        let kept = |modified, changed| Entry::of(&file(modified, changed, modified), started).is_some();
        assert!(kept(MARGIN, MARGIN));
        assert!(!kept(10 * MARGIN, 10 * MARGIN), "edited in the tick of the scan");
        assert!(!kept(9 * MARGIN, 9 * MARGIN), "edited in the margin");
        assert!(kept(MARGIN, 10 * MARGIN), "received just now with an old modification time");
        assert!(kept(99 * MARGIN, MARGIN), "a modification time in the future");
        let received = Entry::of(&file(9 * MARGIN, 9 * MARGIN, 5), started).unwrap();
        assert_eq!((received.sha256, received.edited), (None, Some(Timestamp(5))));
    }

    #[test]
    fn rows_near_some_paths_are_those_at_and_below_them() {
        let db = Connection::open_in_memory().unwrap();
        create(&db).unwrap();
        let names = ["a", "a/b", "a/b/c", "a\u{1}", "a.b", "ab", "d/e"];
        let all: Vec<_> = names.iter().zip(1..).map(|(name, n)| Change::Put(path(name), entry(n))).collect();
        write(&db, &all, 0).unwrap();
        let near = |paths: &[&str]| {
            let paths: Vec<_> = paths.iter().map(|text| path(text)).collect();
            let rows = rows(&load_near(&db, &paths).unwrap());
            rows.into_iter().map(|(path, _)| path.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(near(&["a"]), ["a", "a/b", "a/b/c"]);
        assert_eq!(near(&["a/b/c", "d", "x"]), ["a/b/c", "d/e"]);
        let index = load_near(&db, &[path("a")]).unwrap();
        let found = |name: &[u8]| index.within(b"a/b").unwrap().find(name);
        assert_eq!((found(b"c"), found(b"b"), found(b"d")), (Some(0), None, None));
    }

    #[test]
    fn a_row_is_used_at_its_path_only_with_every_time_unchanged() {
        let index = stored(&[Change::Put(path("d/f"), entry(1))]);
        let rows = index.within(b"d").unwrap();
        assert!(rows.at(0, &stat(1, 50, 0)).unwrap().0.is_some());
        assert!(
            rows.at(0, &stat(1, 51, 0)).unwrap().0.is_none(),
            "content may have changed and its time been set back"
        );
        assert!(rows.at(0, &stat(2, 50, 0)).is_none());
    }

    #[test]
    fn a_renamed_inode_keeps_its_hash_and_a_reborn_one_does_not() {
        let index = stored(&[Change::Put(path("a"), entry(1)), Change::Put(path("b"), entry(2))]);
        assert_eq!(index.moved(&stat(2, 60, 50)).unwrap().0, entry(2).sha256);
        assert_eq!(index.moved(&stat(2, 60, 51)), None, "born after the row was made");
        assert_eq!(index.moved(&stat(3, 50, 0)), None);
        let no_birth = Stat { born: None, ..stat(2, 60, 0) };
        assert_eq!(index.moved(&no_birth), None);
        assert_eq!(
            index.moved(&Stat { born: None, ..stat(2, 50, 0) }).unwrap().0,
            entry(2).sha256,
            "moved with its folder"
        );
    }

    #[test]
    fn what_another_session_wrote_since_stays_unless_the_path_has_changed_after_that() {
        let db = Connection::open_in_memory().unwrap();
        create(&db).unwrap();
        let at = |inode, changed| Entry { seen: Seen { inode, changed: Timestamp(changed) }, ..entry(inode) };
        let received =
            |inode, changed| Entry { edited: Some(Timestamp(-5)), sha256: None, ..at(inode, changed) };
        let put = |name, entry| Change::Put(path(name), entry);
        write(&db, &[put("a", at(1, 10)), put("b", at(2, 10))], 0).unwrap();
        let since = last_write(&db).unwrap();
        // Another session receives both; a third one is late, and saw what was there before, or nothing.
        write(&db, &[put("a", received(3, 20)), put("b", received(4, 20))], since).unwrap();
        write(&db, &[put("a", at(1, 10)), Change::Remove(path("b"))], since).unwrap();
        assert_eq!(rows(&load(&db).unwrap()), [(path("a"), received(3, 20)), (path("b"), received(4, 20))]);
        // It made the hash of the very same file: both remember what they alone know.
        write(&db, &[put("a", at(3, 20))], since).unwrap();
        let both = Entry { edited: Some(Timestamp(-5)), ..at(3, 20) };
        assert_eq!(rows(&load(&db).unwrap())[0], (path("a"), both));
        // It saw what came still later.
        write(&db, &[put("b", at(5, 30))], since).unwrap();
        assert_eq!(rows(&load(&db).unwrap())[1], (path("b"), at(5, 30)));
        // Who has seen all that may forget it, and put an older state back.
        let since = last_write(&db).unwrap();
        write(&db, &[Change::Remove(path("a")), put("b", at(2, 10))], since).unwrap();
        assert_eq!(rows(&load(&db).unwrap()), [(path("b"), at(2, 10))]);
    }

    #[test]
    fn a_file_of_another_making_in_the_table_is_passed_over() {
        let db = Connection::open_in_memory().unwrap();
        create(&db).unwrap();
        write(&db, &[Change::Put(path("a"), entry(1)), Change::Put(path("b"), entry(2))], 9).unwrap();
        db.execute("UPDATE file SET sha256 = x'00' WHERE path = CAST('a' AS BLOB)", []).unwrap();
        assert_eq!(rows(&load(&db).unwrap()), [(path("b"), entry(2))]);
        write(&db, &[Change::Remove(path("b"))], 9).unwrap();
        assert!(rows(&load(&db).unwrap()).is_empty());
    }

    fn any_path() -> impl Strategy<Value = RelPath> {
        let name = proptest::collection::vec(prop_oneof![1..4u8, 45..48u8, 97..99u8, 253..=255u8], 1..4);
        proptest::collection::vec(name, 1..5)
            .prop_filter_map("a path", |names| RelPath::parse(&names.join(&b'/')).ok())
    }

    proptest! {
        #[test]
        fn the_order_of_keys_is_path_order(a in any_path(), b in any_path()) {
            prop_assert_eq!(key_of(&a).cmp(&key_of(&b)), a.cmp(&b));
        }

        #[test]
        fn what_is_stored_is_loaded(paths in proptest::collection::btree_set(any_path(), 0..30), edited: Option<i64>, inode: u64) {
            let edited = edited.map(Timestamp);
            let all: Vec<_> = paths.into_iter().map(|path| (path, Entry { edited, ..entry(inode) })).collect();
            let changes: Vec<_> = all.iter().map(|(path, entry)| Change::Put(path.clone(), *entry)).collect();
            let index = stored(&changes);
            prop_assert_eq!(rows(&index), all);
        }
    }
}
