//! How fast 20 000 files in 200 folders are scanned: `cargo bench --bench scan`.
//!
//! The tree is made in the folder for temporary files: set `TMPDIR` to measure another file system. Its entries are in
//! the kernel's caches by then, as they are for a folder in use.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use divan::Bencher;
use divan::counter::ItemsCount;
use rusqlite::Connection;
use syncfiles::core::digest::Digest;
use syncfiles::core::path::RelPath;
use syncfiles::core::snapshot::{Folder, Node};
use syncfiles::replica::filter::Filter;
use syncfiles::replica::index::{self, Change, Entry};
use syncfiles::replica::root::Root;
use syncfiles::replica::scan::{Scan, ScanOptions, scan};
use tempfile::TempDir;

/// As the program itself has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FOLDERS: usize = 200;
const FILES: usize = 100;
const ENTRIES: usize = FOLDERS * FILES;

fn main() {
    divan::main();
}

/// A first scan: nothing is known, nothing is read.
#[divan::bench(sample_count = 20)]
fn cold(bencher: Bencher<'_, '_>) {
    let folder = tree();
    let db = database(folder.path(), &[]);
    measure(bencher, folder.path(), &db, false);
}

/// An unchanged tree: the index is loaded, tells every hash, and the tree's digest is made.
#[divan::bench(sample_count = 20)]
fn warm(bencher: Bencher<'_, '_>) {
    let folder = tree();
    let db = learnt(folder.path());
    measure(bencher, folder.path(), &db, true);
}

/// What of that is loading the index.
#[divan::bench(sample_count = 20)]
fn warm_index(bencher: Bencher<'_, '_>) {
    let folder = tree();
    let db = learnt(folder.path());
    bencher.counter(ItemsCount::new(ENTRIES)).bench_local(|| index::load(&db).unwrap());
}

/// Measures what a side of a sync does before it can compare, after having checked what it finds.
fn measure(bencher: Bencher<'_, '_>, folder: &Path, db: &Connection, known: bool) {
    let found = look(folder, db);
    assert_eq!(found.snapshot.count().0 as usize, FOLDERS + ENTRIES);
    assert_eq!(found.snapshot.digest.is_some(), known);
    assert_eq!((found.problems.len(), found.changes.len()), (0, 0));
    bencher.counter(ItemsCount::new(ENTRIES)).bench_local(|| look(folder, db));
}

fn look(folder: &Path, db: &Connection) -> Scan {
    let root = Root::open(folder).unwrap();
    let index = index::load(db).unwrap();
    let mut found = scan(&root, &Filter::default(), Some(&index), ScanOptions::default(), &|_| {}).unwrap();
    found.snapshot.digest_all();
    found
}

/// Files of a byte, an hour old: younger ones the index would not trust.
fn tree() -> TempDir {
    let top = tempfile::tempdir().unwrap();
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    for folder in 0..FOLDERS {
        let folder = top.path().join(format!("d{folder:05}"));
        fs::create_dir(&folder).unwrap();
        for file in 0..FILES {
            let path = folder.join(format!("f{file:05}.dat"));
            fs::write(&path, "x").unwrap();
            fs::File::options().write(true).open(&path).unwrap().set_modified(hour_ago).unwrap();
        }
    }
    top
}

/// An index in a file of its own in the state folder, which a scan passes over.
fn database(folder: &Path, rows: &[Change]) -> Connection {
    let state = folder.join(".syncfiles");
    fs::create_dir_all(&state).unwrap();
    let db = Connection::open(state.join(format!("{}.db", rows.len()))).unwrap();
    index::create(&db).unwrap();
    let writing = db.unchecked_transaction().unwrap();
    index::write(&writing, rows, 0).unwrap();
    writing.commit().unwrap();
    db
}

/// The index that a sync would have left.
fn learnt(folder: &Path) -> Connection {
    let first = look(folder, &database(folder, &[]));
    let mut rows = Vec::new();
    learn(&first.snapshot, &RelPath::root(), &first, &mut rows);
    assert_eq!(rows.len(), ENTRIES);
    database(folder, &rows)
}

/// The rows that a sync would have left, as if every file's hash had been made.
fn learn(folder: &Folder, path: &RelPath, scan: &Scan, rows: &mut Vec<Change>) {
    for (name, node) in &folder.members {
        let path = path.join(name).unwrap();
        match node {
            Node::Folder(inner) => learn(inner, &path, scan, rows),
            Node::File(file) => {
                let mut file = file.clone();
                file.sha256 = Some(Digest::of(b"x"));
                let entry = Entry::of(&Node::File(file), scan.started);
                rows.extend(entry.map(|entry| Change::Put(path, entry)));
            }
            _ => {}
        }
    }
}
