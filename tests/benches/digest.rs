//! How fast content and trees are hashed: `cargo bench --bench digest`.
#![allow(clippy::unwrap_used, missing_docs)]

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use syncfiles::core::age::Timestamp;
use syncfiles::core::digest::Digest;
use syncfiles::core::path::Name;
use syncfiles::core::snapshot::{File, Folder, Node, Seen, Snapshot};
use syncfiles::core::version::Bits;

/// As the program itself has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// SHA-256 of this many bytes: a tiny file, a small one, a piece of a large one.
#[divan::bench(args = [100, 4 << 10, 1 << 20])]
fn sha256(bencher: Bencher<'_, '_>, size: usize) {
    let bytes = vec![7; size];
    bencher.counter(BytesCount::new(size)).bench(|| Digest::of(black_box(&bytes)));
}

/// The Merkle digests of 100 000 files in 1 000 folders, from hashes that are known.
#[divan::bench(sample_count = 20)]
fn merkle(bencher: Bencher<'_, '_>) {
    let mut tree = tree(1_000, 100);
    bencher.counter(ItemsCount::new(100_000_usize)).bench_local(|| tree.digest_all().unwrap());
}

fn tree(folders: u32, files: u32) -> Snapshot {
    let members =
        |folder: u32| (0..files).map(move |at| (name('f', at), file(folder * files + at))).collect();
    let members = (0..folders)
        .map(|at| (name('d', at), Node::Folder(Folder { members: members(at), ..Folder::default() })))
        .collect();
    Folder { members, ..Folder::default() }
}

fn name(kind: char, at: u32) -> Name {
    Name::parse(format!("{kind}{at:07}").as_bytes()).unwrap()
}

fn file(number: u32) -> Node {
    Node::File(File {
        size: 4,
        sha256: Some(Digest::of(&number.to_le_bytes())),
        bits: Bits::of_mode(0o644),
        modified: Timestamp(1),
        edited: Timestamp(1),
        seen: Seen::default(),
    })
}
