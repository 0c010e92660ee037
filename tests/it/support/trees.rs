//! Trees as maps from paths to entries: literals, snapshots made from them, and plans carried out on them.

use std::collections::BTreeMap;

use syncfiles::core::age::{Age, Timestamp};
use syncfiles::core::base::{Base, BaseContent, BaseEntry};
use syncfiles::core::digest::Digest;
use syncfiles::core::path::{Name, RelPath};
use syncfiles::core::plan::{Act, Plan, Settles, Source};
use syncfiles::core::side::{Side, Sides};
use syncfiles::core::snapshot::{File, Folder, Link, Node, Seen, Snapshot, Unknown};
use syncfiles::core::version::{Bits, Content, Standing};

/// The clock of both sides in these tests; ages count back from here.
pub const NOW: Timestamp = Timestamp(1_000_000);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    File(&'static str),
    Link(&'static str),
    Folder,
    Unknown,
}

/// What stands at one path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Entry {
    pub kind: Kind,
    pub mode: u32,
    pub age: i64,
}

impl Entry {
    pub fn aged(self, age: i64) -> Entry {
        Entry { age, ..self }
    }

    pub fn mode(self, mode: u32) -> Entry {
        Entry { mode, ..self }
    }

    /// Whether a sync sees it.
    pub fn visible(&self) -> bool {
        self.kind != Kind::Unknown
    }

    /// Without what is not compared.
    pub fn compared(&self) -> (Kind, u32) {
        (self.kind.clone(), if matches!(self.kind, Kind::Link(_)) { 0o777 } else { self.mode })
    }

    pub fn row(&self) -> BaseEntry {
        let content = match self.kind {
            Kind::File(text) => {
                BaseContent::File { size: text.len() as u64, sha256: Digest::of(text.as_bytes()) }
            }
            Kind::Link(target) => BaseContent::Link { target: target.as_bytes().into() },
            Kind::Folder | Kind::Unknown => BaseContent::Folder { gone: self.kind == Kind::Unknown },
        };
        BaseEntry { content, bits: Bits::of_mode(self.compared().1) }
    }
}

pub fn file(text: &'static str) -> Entry {
    Entry { kind: Kind::File(text), mode: 0o644, age: 100 }
}

pub fn link(target: &'static str) -> Entry {
    Entry { kind: Kind::Link(target), mode: 0o777, age: 100 }
}

pub fn folder() -> Entry {
    Entry { kind: Kind::Folder, mode: 0o755, age: 100 }
}

/// Something about which nothing may be concluded. In a base: a folder that is gone.
pub fn unknown() -> Entry {
    Entry { kind: Kind::Unknown, mode: 0o755, age: 100 }
}

/// A tree; a folder comes before its members.
pub type Tree = BTreeMap<String, Entry>;

/// `tree! { "d" => folder(), "d/f" => file("text").aged(3) }`
#[macro_export]
macro_rules! tree {
    ($($path:expr => $entry:expr),* $(,)?) => {
        $crate::support::trees::Tree::from([$(($path.to_string(), $entry)),*])
    };
}

pub fn path(text: &str) -> RelPath {
    RelPath::parse(text.as_bytes()).unwrap()
}

pub fn text(path: &RelPath) -> String {
    String::from_utf8(path.as_bytes().to_vec()).unwrap()
}

/// A snapshot of `tree`, with every hash and digest.
pub fn snapshot(tree: &Tree) -> Snapshot {
    let mut root = below(tree, "");
    root.digest_all();
    root
}

fn below(tree: &Tree, prefix: &str) -> Folder {
    let members = tree.iter().filter_map(|(path, entry)| {
        let name = path.strip_prefix(prefix).filter(|name| !name.contains('/'))?;
        Some((Name::parse(name.as_bytes()).unwrap(), node(tree, path, entry)))
    });
    let mut members: Vec<_> = members.collect();
    members.sort_by(|a, b| a.0.cmp(&b.0));
    Folder { members, ..Folder::default() }
}

fn node(tree: &Tree, path: &str, entry: &Entry) -> Node {
    let bits = Bits::of_mode(entry.mode);
    let modified = Timestamp(NOW.0 - entry.age);
    let (edited, seen) = (modified, Seen::default());
    match entry.kind {
        Kind::File(text) => {
            let (size, sha256) = (text.len() as u64, Some(Digest::of(text.as_bytes())));
            Node::File(File { size, sha256, bits, modified, edited, seen })
        }
        Kind::Link(target) => Node::Link(Link { target: target.as_bytes().into(), modified, edited, seen }),
        Kind::Folder => Node::Folder(Folder { bits, modified, ..below(tree, &format!("{path}/")) }),
        Kind::Unknown => Node::Unknown(Unknown::Excluded),
    }
}

pub fn base(tree: &Tree) -> Base {
    Base::from_rows(tree.iter().map(|(p, entry)| (path(p), entry.row())).collect())
}

pub fn base_tree(base: &BTreeMap<RelPath, BaseEntry>) -> Base {
    Base::from_rows(base.iter().map(|(p, row)| (p.clone(), row.clone())).collect())
}

pub fn now() -> Sides<Timestamp> {
    Sides { one: NOW, two: NOW }
}

fn content(kind: &Kind) -> Content {
    match kind {
        Kind::File(text) => {
            Content::File { size: text.len() as u64, sha256: Some(Digest::of(text.as_bytes())) }
        }
        Kind::Link(target) => Content::Link { target: target.as_bytes().into() },
        Kind::Folder | Kind::Unknown => Content::Folder,
    }
}

/// Asserts that what an item saw is what stands there.
fn assert_saw(saw: &Standing, entry: Option<&Entry>, at: &str) {
    match (saw, entry) {
        (Standing::Absent, None) => {}
        (Standing::Unknown, Some(entry)) if !entry.visible() => {}
        (Standing::Holds(version), Some(entry)) => {
            assert_eq!(version.content.same(&content(&entry.kind)), Some(true), "{at}");
            assert_eq!(version.bits, Bits::of_mode(entry.compared().1), "{at}");
            assert_eq!(version.age, Age(entry.age), "{at}");
        }
        other => panic!("{at}: the plan saw something else: {other:?}"),
    }
}

/// The entry that a put makes; its content must stand at its source before anything is changed.
fn put(act: &Act, own: &Tree, peer: &Tree, at: &str) -> Option<Entry> {
    let Act::Put { version, from } = act else { return None };
    let source = match from {
        Source::Peer => peer.get(at),
        Source::Own(path) => own.get(&text(path)),
        Source::PeerAt(path) => peer.get(&text(path)),
    };
    let source = source.unwrap_or_else(|| panic!("{at}: no content at {from:?}"));
    assert_eq!(version.content.same(&content(&source.kind)), Some(true), "{at}");
    let age = if source.kind == Kind::Folder { 0 } else { version.age.0 };
    Some(Entry { kind: source.kind.clone(), mode: version.bits.mode(), age })
}

/// Carries out one side's half: deletions, children first, then placements, parents first. Everything displaced
/// must be what the plan saw, folders must be empty, and parents must be there.
pub fn perform(plan: &Plan, side: Side, own: &Tree, peer: &Tree) -> Tree {
    let mut tree = own.clone();
    let empty = |tree: &Tree, at: &str| !tree.keys().any(|p| p.starts_with(&format!("{at}/")));
    for item in plan.items.iter().rev() {
        let at = text(&item.path);
        assert_saw(item.saw.of(side), own.get(&at), &at);
        if *item.act.of(side) == Act::Remove {
            assert!(empty(&tree, &at), "{at}: removed with members");
            assert!(tree.remove(&at).is_some_and(|e| e.visible()), "{at}: nothing to remove");
        }
    }
    for item in &plan.items {
        let at = text(&item.path);
        if let Some(entry) = put(item.act.of(side), own, peer, &at) {
            assert!(entry.kind == Kind::Folder || empty(&tree, &at), "{at}: replaced with members");
            let parent = at.rsplit_once('/').map(|(parent, _)| parent.to_owned());
            assert!(
                parent.is_none_or(|p| tree.get(&p).is_some_and(|e| e.kind == Kind::Folder)),
                "{at}: no parent"
            );
            tree.insert(at, entry);
        } else if let Act::SetBits(bits) = item.act.of(side) {
            tree.get_mut(&at).unwrap().mode = bits.mode();
        }
    }
    tree
}

/// The base afterwards. A row is written only for what both sides hold, and goes only where both hold nothing.
pub fn settle(plan: &Plan, base: &Base, after: &Sides<Tree>) -> Base {
    let mut rows: BTreeMap<RelPath, BaseEntry> = base.rows().iter().cloned().collect();
    for item in &plan.items {
        let at = text(&item.path);
        let (one, two) = (after.one.get(&at), after.two.get(&at));
        match &item.settles {
            Settles::Keep => {}
            Settles::Absent => {
                assert!(one.is_none() && two.is_none(), "{at}: settled as absent");
                rows.remove(&item.path);
            }
            Settles::Gone { bits } => {
                assert!(one.is_none() != two.is_none(), "{at}: settled as gone");
                let content = BaseContent::Folder { gone: true };
                rows.insert(item.path.clone(), BaseEntry { content, bits: *bits });
            }
            Settles::Version { content, bits } => {
                let (one, two) = (one.unwrap(), two.unwrap());
                assert_eq!(one.compared(), two.compared(), "{at}: settled while different");
                assert_eq!(one.row(), BaseEntry::of(content, *bits).unwrap(), "{at}");
                rows.insert(item.path.clone(), one.row());
            }
        }
    }
    base_tree(&rows)
}

/// What a sync compares of everything it sees in a tree.
pub fn seen(tree: &Tree) -> BTreeMap<&str, (Kind, u32)> {
    tree.iter().filter(|(_, e)| e.visible()).map(|(p, e)| (p.as_str(), e.compared())).collect()
}
