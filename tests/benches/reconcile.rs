//! How fast 100 000 paths are merged and decided: `cargo bench --bench reconcile`.
//!
//! All paths, settled or not: what a session's digests spare is not spared here.
#![allow(clippy::unwrap_used, missing_docs)]

use divan::Bencher;
use divan::counter::ItemsCount;
use syncfiles::core::age::Timestamp;
use syncfiles::core::base::{Base, BaseContent, BaseEntry};
use syncfiles::core::digest::Digest;
use syncfiles::core::merge::merge;
use syncfiles::core::path::{Name, RelPath};
use syncfiles::core::plan::Act;
use syncfiles::core::policy::Policy;
use syncfiles::core::reconcile::reconcile;
use syncfiles::core::side::Sides;
use syncfiles::core::snapshot::{File, Folder, Node, Seen, Snapshot};
use syncfiles::core::version::Bits;

/// As the program itself has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FOLDERS: u32 = 1_000;
const FILES: u32 = 100;
const PATHS: usize = (FOLDERS * FILES) as usize;

fn main() {
    divan::main();
}

/// Both sides hold what the base says.
#[divan::bench(sample_count = 20)]
fn all_equal(bencher: Bencher<'_, '_>) {
    let one = tree(|_| 0);
    plan(bencher, &base(&one), &one, &one, 0);
}

/// System 1 holds a newer version of every hundredth file.
#[divan::bench(sample_count = 20)]
fn one_percent_differs(bencher: Bencher<'_, '_>) {
    let two = tree(|_| 0);
    plan(bencher, &base(&two), &tree(|number| u32::from(number % 100 == 0)), &two, PATHS / 100);
}

/// Two folders with the same files, and every hundredth different, that have no base yet.
#[divan::bench(sample_count = 20)]
fn first_meeting(bencher: Bencher<'_, '_>) {
    let (one, two) = (tree(|number| u32::from(number % 100 == 0)), tree(|_| 0));
    plan(bencher, &Base::default(), &one, &two, PATHS / 100);
}

/// Measures merge and plan, after having checked that the plan has as many items as it must.
fn plan(bencher: Bencher<'_, '_>, base: &Base, one: &Snapshot, two: &Snapshot, items: usize) {
    let now = Sides { one: Timestamp(100), two: Timestamp(100) };
    let policy = Policy::default();
    let decide = || reconcile(&merge(base, one, two, now), &policy);
    let acts = decide().items.iter().filter(|item| item.act.two != Act::Nothing).count();
    assert_eq!(acts, items);
    bencher.counter(ItemsCount::new(PATHS)).bench(decide);
}

/// A tree whose files are in the version (0 is the oldest) that `version` tells of their number.
fn tree(version: impl Fn(u32) -> u32) -> Snapshot {
    let mut number = 0;
    let mut folder = || {
        let members = (0..FILES).map(|at| {
            number += 1;
            (name('f', at), file(number, version(number)))
        });
        Folder { members: members.collect(), ..Folder::default() }
    };
    let members = (0..FOLDERS).map(|at| (name('d', at), Node::Folder(folder()))).collect();
    Folder { members, ..Folder::default() }
}

fn name(kind: char, at: u32) -> Name {
    Name::parse(format!("{kind}{at:07}").as_bytes()).unwrap()
}

fn file(number: u32, version: u32) -> Node {
    let edited = Timestamp(i64::from(version) + 1);
    Node::File(File {
        size: 8,
        sha256: Some(Digest::of(&[number.to_le_bytes(), version.to_le_bytes()].concat())),
        bits: Bits::of_mode(0o644),
        modified: edited,
        edited,
        seen: Seen::default(),
    })
}

/// The base that two sides have who agree on `tree`.
fn base(tree: &Snapshot) -> Base {
    let mut rows = Vec::with_capacity(PATHS + FOLDERS as usize);
    collect(tree, &RelPath::root(), &mut rows);
    Base::from_rows(rows)
}

fn collect(folder: &Folder, path: &RelPath, rows: &mut Vec<(RelPath, BaseEntry)>) {
    for (name, node) in &folder.members {
        let path = path.join(name).unwrap();
        match node {
            Node::File(File { size, sha256: Some(sha256), bits, .. }) => {
                let content = BaseContent::File { size: *size, sha256: *sha256 };
                rows.push((path, BaseEntry { content, bits: *bits }));
            }
            Node::Folder(inner) => {
                let content = BaseContent::Folder { gone: false };
                rows.push((path.clone(), BaseEntry { content, bits: inner.bits }));
                collect(inner, &path, rows);
            }
            _ => {}
        }
    }
}
