//! Scans of real folders.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::Connection;
use rustix::io::Errno;

use super::*;
use crate::core::digest::Digest;
use crate::core::snapshot::{File, Unknown};
use crate::core::version::Bits;
use crate::replica::filter::Rules;
use crate::replica::index::{self, Entry};
use crate::replica::list::Lister;

/// A root in a folder of its own, with an index in memory.
struct Tree {
    temp: tempfile::TempDir,
    root: Root,
    db: Connection,
    filter: Filter,
    options: ScanOptions,
    /// When the next run's scan began, if not when it did.
    started: Option<Timestamp>,
}

impl Tree {
    /// Files by path; each holds its own path. Modified in the year 2001, so that no hash is in doubt.
    fn of(files: &[&str]) -> Tree {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::open(temp.path()).unwrap();
        let db = Connection::open_in_memory().unwrap();
        index::create(&db).unwrap();
        let (filter, options) = (Filter::default(), ScanOptions::default());
        let tree = Tree { temp, root, db, filter, options, started: None };
        files.iter().for_each(|file| tree.put(file, file));
        tree
    }

    fn at(&self, path: impl AsRef<[u8]>) -> PathBuf {
        self.temp.path().join(OsStr::from_bytes(path.as_ref()))
    }

    fn put(&self, path: impl AsRef<[u8]>, content: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        set_modified(&path, 1_000_000_000);
    }

    fn scan(&self) -> Scan {
        let index = index::load(&self.db).unwrap();
        scan(&self.root, &self.filter, Some(&index), self.options, &|_| {}).unwrap()
    }

    /// Scans, hashes everything that has no hash, and has the index learn it, as a run does.
    fn run(&mut self) -> Scan {
        let mut scan = self.scan();
        let mut changes = std::mem::take(&mut scan.changes);
        let started = self.started.unwrap_or(scan.started);
        for (path, _) in files(&scan.snapshot) {
            let Some(Node::File(file)) = scan.snapshot.find_mut(&path) else { unreachable!() };
            if file.sha256.is_none() {
                file.sha256 = Some(crate::replica::hash::hash(&self.root, &path, file).unwrap());
                let node = Node::File(file.clone());
                changes.extend(Entry::of(&node, started).map(|entry| Change::Put(path, entry)));
            }
        }
        index::write(&self.db, &changes, i64::MAX).unwrap();
        scan
    }

    fn hash(&self, at: &str) -> Option<Digest> {
        let Some(Node::File(file)) = self.scan().snapshot.find(&path(at)).cloned() else { return None };
        file.sha256
    }
}

fn set_modified(path: &std::path::Path, seconds: u64) {
    let time = UNIX_EPOCH + Duration::from_secs(seconds);
    fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
}

fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

fn files(folder: &Folder) -> Vec<(RelPath, File)> {
    let mut all = Vec::new();
    for (name, node) in &folder.members {
        match node {
            Node::File(file) => all.push((RelPath::from(name.clone()), file.clone())),
            Node::Folder(inner) => all.extend(files(inner).into_iter().map(|(below, file)| {
                let joined = [name.as_bytes(), b"/", below.as_bytes()].concat();
                (RelPath::parse(&joined).unwrap(), file)
            })),
            _ => {}
        }
    }
    all
}

/// The snapshot on one line: `name` for a file, `name>target`, `name/(…)`, `name?Why`.
fn drawn(folder: &Folder) -> String {
    let draw = |(name, node): &(crate::core::path::Name, Node)| match node {
        Node::File(_) => format!("{name}"),
        Node::Link(link) => format!("{name}>{}", String::from_utf8_lossy(&link.target)),
        Node::Folder(inner) => format!("{name}/({})", drawn(inner)),
        Node::Unknown(why) => format!("{name}?{why:?}"),
    };
    folder.members.iter().map(draw).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_snapshot_holds_files_links_and_empty_folders_in_order_of_names() {
    let tree = Tree::of(&["b/y", "b/x/1", "a", "c.d"]);
    fs::create_dir(tree.at("empty")).unwrap();
    symlink("/etc/passwd", tree.at("b/out")).unwrap();
    fs::set_permissions(tree.at("a"), fs::Permissions::from_mode(0o4751)).unwrap();
    let scan = tree.scan();
    assert_eq!(drawn(&scan.snapshot), "a b/(out>/etc/passwd x/(1) y) c.d empty/()");
    assert!(scan.problems.is_empty() && scan.notices.is_empty());
    let Some(Node::File(a)) = scan.snapshot.find(&path("a")) else { panic!("no file") };
    assert_eq!((a.size, a.bits, a.modified.parts().0), (1, Bits::of_mode(0o751), 1_000_000_000));
    assert_eq!(a.seen.inode, fs::metadata(tree.at("a")).unwrap().ino());
}

#[test]
fn every_thread_count_gives_the_same_snapshot() {
    let names: Vec<_> = (0..300).map(|i| format!("{}/{}/{i}", i % 7, i % 31)).collect();
    let mut tree = Tree::of(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let seen: Vec<_> = [1, 2, 5]
        .map(|threads| {
            tree.options.threads = NonZeroUsize::new(threads).unwrap();
            tree.scan().snapshot
        })
        .into();
    assert_eq!(seen[0].count().0, 300 + 7 + 7 * 31);
    assert!(seen.iter().all(|snapshot| *snapshot == seen[0]));
}

#[test]
fn names_are_bytes_of_any_kind_and_length() {
    let tree = Tree::of(&[]);
    let names = [&b"\xff\xfe"[..], b"new\nline", b" ", &[b'n'; 255], b"-rf", b"..."];
    names.iter().for_each(|name| tree.put([b"d/", *name].concat(), "x"));
    let scan = tree.scan();
    let Some(Node::Folder(d)) = scan.snapshot.member(b"d") else { panic!("no folder") };
    assert_eq!(d.members.len(), names.len());
    assert!(names.iter().all(|name| matches!(d.member(name), Some(Node::File(_)))));
}

#[test]
fn special_files_are_unknown_with_a_notice_and_not_opened() {
    let tree = Tree::of(&["f"]);
    let _socket = std::os::unix::net::UnixListener::bind(tree.at("socket")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, tree.at("fifo"), rustix::fs::Mode::RWXU).unwrap();
    let scan = tree.scan();
    assert_eq!(drawn(&scan.snapshot), "f fifo?Special socket?Special");
    assert_eq!(scan.notices.len(), 2);
    assert!(scan.notices[0].contains("fifo"), "{:?}", scan.notices);
}

#[test]
fn the_roots_own_state_is_not_there_and_anothers_is_unknown() {
    let tree = Tree::of(&[".syncfiles/index", "d/.syncfiles/index", "d/f"]);
    assert_eq!(drawn(&tree.scan().snapshot), "d/(.syncfiles (another root's)?Unnameable f)");
}

#[test]
fn what_is_excluded_is_unknown_and_not_entered() {
    let mut tree = Tree::of(&["a.o", "a.c", "target/x", "d/target/x", "d/b.o"]);
    let rules = Rules::try_from(vec!["*.o".to_owned(), "target/".to_owned()]).unwrap();
    tree.filter = Filter::new(&[rules]).unwrap().0;
    tree.options.fault =
        Some(|folder, _| folder.name().is_some_and(|n| n.as_bytes() == b"target").then_some(Errno::IO));
    let scan = tree.scan();
    assert_eq!(drawn(&scan.snapshot), "a.c a.o?Excluded d/(b.o?Excluded target?Excluded) target?Excluded");
    assert!(scan.problems.is_empty());
}

#[test]
fn a_folder_that_cannot_be_listed_to_its_end_is_unknown_and_keeps_its_rows() {
    let mut tree = Tree::of(&["bad/1", "bad/2", "bad/in/3", "good/4"]);
    tree.run();
    tree.options.fault = Some(|folder, listed| (folder == &path("bad") && listed == 1).then_some(Errno::IO));
    let scan = tree.run();
    assert_eq!(drawn(&scan.snapshot), "bad?Unreadable good/(4)");
    assert!(matches!(&scan.problems[..], [(at, ScanProblem::Unlistable(_))] if *at == path("bad")));
    tree.options.fault = None;
    assert!(tree.hash("bad/1").is_some() && tree.hash("bad/in/3").is_some());
}

#[test]
fn a_root_that_cannot_be_listed_has_no_snapshot() {
    let mut tree = Tree::of(&["f"]);
    tree.options.fault = Some(|_, _| Some(Errno::IO));
    let failed = scan(&tree.root, &tree.filter, None, tree.options, &|_| {}).unwrap_err().to_string();
    assert!(failed.starts_with("cannot list the root /") && failed.contains("Input/output"), "{failed}");
}

#[test]
fn a_folder_deeper_than_can_be_carried_is_unknown_whole() {
    let tree = Tree::of(&["f"]);
    let mut at =
        rustix::fs::openat(&tree.root, c".", rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty())
            .unwrap();
    for _ in 0..300 {
        rustix::fs::mkdirat(&at, c"d", rustix::fs::Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, c"d", rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
    }
    let scan = tree.scan();
    assert_eq!(scan.problems.len(), 1);
    assert_eq!(scan.problems[0].0.depth(), 256);
    let end = scan.snapshot.find(&scan.problems[0].0);
    assert_eq!(end, Some(&Node::Unknown(Unknown::Unnameable)));
}

#[test]
fn a_second_scan_takes_every_hash_from_the_index_and_changes_nothing() {
    let mut tree = Tree::of(&["a", "d/b", "d/e/c"]);
    tree.run();
    let scan = tree.scan();
    let hashes: Vec<_> = files(&scan.snapshot)
        .into_iter()
        .map(|(at, file)| (file.sha256, Digest::of(at.as_bytes())))
        .collect();
    assert_eq!(hashes.len(), 3);
    assert!(hashes.iter().all(|(known, right)| *known == Some(*right)));
    assert!(scan.changes.is_empty());
}

#[test]
fn checksum_takes_no_hash_from_the_index() {
    let mut tree = Tree::of(&["a"]);
    tree.run();
    tree.options.checksum = true;
    assert_eq!(tree.hash("a"), None);
}

#[test]
fn an_edit_in_the_second_of_the_scan_is_not_trusted() {
    let mut tree = Tree::of(&["old"]);
    fs::write(tree.at("new"), "new").unwrap();
    tree.started = Some(tree.root.stat(&path("new")).unwrap().modified);
    tree.run();
    assert_eq!((tree.hash("old").is_some(), tree.hash("new")), (true, None));
}

#[test]
fn an_edit_that_sets_its_time_back_is_seen() {
    let mut tree = Tree::of(&["f"]);
    tree.run();
    let before = tree.root.stat(&path("f")).unwrap().seen.changed;
    // The clock that stamps changes may be coarse; this waits for its next tick.
    while tree.root.stat(&path("f")).unwrap().seen.changed == before {
        tree.put("f", "g");
    }
    assert_eq!(tree.hash("f"), None);
}

#[test]
fn a_renamed_file_and_the_files_of_a_renamed_folder_keep_their_hashes() {
    let mut tree = Tree::of(&["a", "d/e/b"]);
    tree.run();
    fs::rename(tree.at("a"), tree.at("z")).unwrap();
    fs::rename(tree.at("d"), tree.at("y")).unwrap();
    let scan = tree.run();
    assert_eq!(tree.hash("y/e/b"), Some(Digest::of(b"d/e/b")));
    if tree.root.stat(&path("z")).unwrap().born.is_some() {
        assert_eq!(tree.hash("z"), Some(Digest::of(b"a")));
    }
    assert!(tree.scan().changes.is_empty(), "the rows moved along: {:?}", scan.changes);
}

#[test]
fn rows_of_what_is_gone_are_forgotten() {
    let mut tree = Tree::of(&["a", "b", "d/c", "d/e/f"]);
    tree.run();
    fs::remove_file(tree.at("a")).unwrap();
    fs::remove_dir_all(tree.at("d")).unwrap();
    fs::remove_file(tree.at("b")).unwrap();
    fs::create_dir(tree.at("b")).unwrap();
    let mut gone = tree.run().changes;
    gone.extend(tree.scan().changes);
    assert!(gone.is_empty());
    let rows: i64 = tree.db.query_row("SELECT count(*) FROM file", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 0);
}

#[test]
fn the_moment_of_an_edit_is_kept_until_the_file_is_edited_again() {
    let tree = Tree::of(&["f"]);
    symlink("f", tree.at("l")).unwrap();
    let scan = tree.scan();
    let mut changes = Vec::new();
    for name in ["f", "l"] {
        let mut node = scan.snapshot.member(name.as_bytes()).unwrap().clone();
        match &mut node {
            Node::File(file) => file.edited = Timestamp(7),
            Node::Link(link) => link.edited = Timestamp(7),
            _ => unreachable!(),
        }
        changes.push(Change::Put(path(name), Entry::of(&node, scan.started).unwrap()));
    }
    index::write(&tree.db, &changes, i64::MAX).unwrap();
    let edited = |tree: &Tree, name: &[u8]| match tree.scan().snapshot.member(name) {
        Some(Node::File(file)) => file.edited,
        Some(Node::Link(link)) => link.edited,
        _ => unreachable!(),
    };
    fs::set_permissions(tree.at("f"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!((edited(&tree, b"f"), edited(&tree, b"l")), (Timestamp(7), Timestamp(7)));
    set_modified(&tree.at("f"), 1_000_000_001);
    assert_eq!(edited(&tree, b"f").parts().0, 1_000_000_001);
}

#[test]
fn notices_are_bounded() {
    let tree = Tree::of(&[]);
    for i in 0..MAX_NOTICES + 5 {
        rustix::fs::mkfifoat(rustix::fs::CWD, tree.at(format!("{i}")), rustix::fs::Mode::RWXU).unwrap();
    }
    let notices = tree.scan().notices;
    assert_eq!(notices.len(), MAX_NOTICES + 1);
    assert!(notices.last().unwrap().contains("5 more"));
}

/// `cargo test --release -- --ignored --nocapture speed`: 100 000 files, 200 a folder, warm cache, with an index.
#[test]
#[ignore = "a measurement"]
fn speed_of_a_scan() {
    let mut tree = Tree::of(&[]);
    for i in 0..100_000 {
        tree.put(format!("{:03}/some-file-{i}.txt", i / 200), "tiny");
    }
    let started = std::time::Instant::now();
    tree.run();
    println!("first run, hashing and storing: {:?}", started.elapsed());
    let cpu = || {
        let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
    };
    for threads in [1, 1, 2, 2] {
        tree.options.threads = NonZeroUsize::new(threads).unwrap();
        let (started, used) = (std::time::Instant::now(), cpu());
        let index = index::load(&tree.db).unwrap();
        let (loaded, load_used) = (started.elapsed(), cpu() - used);
        let done = scan(&tree.root, &tree.filter, Some(&index), tree.options, &|_| {}).unwrap();
        let (took, scan_used) = (started.elapsed() - loaded, cpu() - used - load_used);
        println!(
            "{threads} threads: index {loaded:?} ({load_used:?} of processor), scan {took:?} ({scan_used:?})"
        );
        assert!(done.changes.is_empty());
    }
}

/// It used to be a folder that cannot be listed, and the run failed (23).
#[test]
fn what_takes_a_folders_place_after_its_own_folder_was_listed_is_what_stands_there() {
    let tree = Tree::of(&["d/file", "other"]);
    symlink("target", tree.at("d/link")).unwrap();
    let filter = Filter::default();
    let mut lister = Lister::new(&tree.root, &filter, None, tree.options, Timestamp(0));
    assert!(matches!(lister.list(&path("d/file")).0, Some(Node::File(file)) if file.size == 6));
    assert!(matches!(lister.list(&path("d/link")).0, Some(Node::Link(link)) if *link.target == *b"target"));
    assert!(lister.list(&path("d/gone")).0.is_none());
    assert!(lister.findings.problems.is_empty());
}
