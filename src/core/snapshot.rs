//! Every version under a root at one moment: a tree whose folders carry Merkle digests.

use super::age::{Timestamp, age_at};
use super::digest::{Digest, Hasher};
use super::path::{Name, RelPath};
use super::version::{Bits, Content, Standing, Version};

/// What the file system said of an entry when it was scanned: the promise that a later compare-and-swap holds it to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Seen {
    /// Inode number.
    pub inode: u64,
    /// Change time.
    pub changed: Timestamp,
}

/// Why nothing may be concluded about a path.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Unknown {
    /// It could not be listed, read or stat'ed.
    Unreadable,
    /// A fifo, socket or device: never opened.
    Special,
    /// A folder on another file system.
    Foreign,
    /// It changed or vanished while it was looked at; the next scan may conclude something.
    Changed,
    /// A filter excludes it, on this side or on the other.
    Excluded,
    /// The name is reserved, or the path is longer or deeper than can be carried.
    Unnameable,
}

/// One entry below a root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Node {
    /// A regular file.
    File(File),
    /// A symbolic link.
    Link(Link),
    /// A folder, listed completely.
    Folder(Folder),
    /// Something that is there and about which nothing may be concluded.
    Unknown(Unknown),
}

/// A regular file as scanned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct File {
    /// Length in bytes.
    pub size: u64,
    /// SHA-256 of the content, where the index knew it or it has been made since.
    pub sha256: Option<Digest>,
    /// Permission bits.
    pub bits: Bits,
    /// Modification time as the file system shows it.
    pub modified: Timestamp,
    /// The moment of the edit on this system's own clock: the modification time, unless the file was received
    /// (then this system's clock at reception less the age it was told).
    pub edited: Timestamp,
    /// For compare-and-swap.
    pub seen: Seen,
}

/// A symbolic link as scanned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// Where it points; data, never followed.
    pub target: Box<[u8]>,
    /// Modification time of the link itself.
    pub modified: Timestamp,
    /// As [`File::edited`].
    pub edited: Timestamp,
    /// For compare-and-swap.
    pub seen: Seen,
}

/// A folder that was listed completely.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Folder {
    /// Permission bits.
    pub bits: Bits,
    /// Modification time; used only as the age of a folder without members.
    pub modified: Timestamp,
    /// For compare-and-swap.
    pub seen: Seen,
    /// Members in order of their names.
    pub members: Vec<(Name, Node)>,
    /// The digest of everything below, once [`Folder::digest_all`] has run; `None` while any hash below is not known.
    pub digest: Option<Digest>,
}

/// Every version under a root at one moment. The root's own permission bits are never compared.
pub type Snapshot = Folder;

impl Folder {
    /// The member called `name`.
    pub fn member(&self, name: &[u8]) -> Option<&Node> {
        let at = self.members.binary_search_by(|(n, _)| n.as_bytes().cmp(name)).ok()?;
        Some(&self.members[at].1)
    }

    /// What stands at `path` below this folder; `None` when absent, [`Node::Unknown`] also for anything below an unknown.
    pub fn find(&self, path: &RelPath) -> Option<&Node> {
        let mut components = path.components().peekable();
        let mut folder = self;
        while let Some(component) = components.next() {
            match folder.member(component)? {
                Node::Folder(inner) if components.peek().is_some() => folder = inner,
                node @ Node::Unknown(_) => return Some(node),
                node if components.peek().is_none() => return Some(node),
                _ => return None,
            }
        }
        None
    }

    /// As [`find`](Folder::find), to change it.
    pub fn find_mut(&mut self, path: &RelPath) -> Option<&mut Node> {
        let (parent, name) = path.split()?;
        let mut folder = self;
        for component in parent.split(|&b| b == b'/').filter(|c| !c.is_empty()) {
            let at = folder.members.binary_search_by(|(n, _)| n.as_bytes().cmp(component)).ok()?;
            let Node::Folder(inner) = &mut folder.members[at].1 else { return None };
            folder = inner;
        }
        let at = folder.members.binary_search_by(|(n, _)| n.as_bytes().cmp(name)).ok()?;
        Some(&mut folder.members[at].1)
    }

    /// Makes `node`, or nothing, stand at `path` below this folder; the folders above lose their digests. Whether
    /// the folder that is to hold it is there.
    pub fn put(&mut self, path: &RelPath, node: Option<Node>) -> bool {
        let Some(name) = path.name() else { return false };
        let Some(folder) = path.parent().and_then(|parent| self.folder_mut(&parent)) else { return false };
        match (folder.members.binary_search_by(|(other, _)| other.cmp(&name)), node) {
            (Ok(at), Some(node)) => folder.members[at].1 = node,
            (Ok(at), None) => {
                folder.members.remove(at);
            }
            (Err(at), Some(node)) => folder.members.insert(at, (name, node)),
            (Err(_), None) => {}
        }
        true
    }

    /// The folder at `path`, to change it; it and those above it lose their digests.
    pub fn folder_mut(&mut self, path: &RelPath) -> Option<&mut Folder> {
        let mut folder = self;
        folder.digest = None;
        for component in path.components() {
            let at = folder.members.binary_search_by(|(name, _)| name.as_bytes().cmp(component)).ok()?;
            let Node::Folder(inner) = &mut folder.members[at].1 else { return None };
            folder = inner;
            folder.digest = None;
        }
        Some(folder)
    }

    /// As [`digest_all`](Folder::digest_all), for the folders that have no digest: enough where what changed lost them.
    pub fn digest_missing(&mut self) -> Option<Digest> {
        if self.digest.is_none() {
            for (_, node) in &mut self.members {
                if let Node::Folder(folder) = node {
                    folder.digest_missing();
                }
            }
            self.digest = self.digest_members();
        }
        self.digest
    }

    /// Computes the digest of every folder below and of this one, and returns it.
    ///
    /// The digest covers, member by member in name order: kind, name, permission bits (files and folders) and
    /// content (size and SHA-256; target; the folder's own digest). Unknown members count by name, so that a side
    /// that cannot read something never looks settled. A folder with a file whose hash is not known has no digest.
    pub fn digest_all(&mut self) -> Option<Digest> {
        for (_, node) in &mut self.members {
            if let Node::Folder(folder) = node {
                folder.digest_all();
            }
        }
        self.digest = self.digest_members();
        self.digest
    }

    /// This folder's digest, from those of the folders in it.
    fn digest_members(&self) -> Option<Digest> {
        let mut hasher = Hasher::new();
        self.members.iter().try_for_each(|(name, node)| digest_member(&mut hasher, name, node))?;
        Some(hasher.finish())
    }

    /// The number of files, links and folders below, and the bytes of the files.
    pub fn count(&self) -> (u64, u64) {
        self.members.iter().fold((0, 0), |(entries, bytes), (_, node)| match node {
            Node::File(file) => (entries + 1, bytes.saturating_add(file.size)),
            Node::Link(_) => (entries + 1, bytes),
            Node::Folder(folder) => {
                let (more, size) = folder.count();
                (entries + 1 + more, bytes.saturating_add(size))
            }
            Node::Unknown(_) => (entries, bytes),
        })
    }
}

impl Node {
    /// What a sync knows of this entry, its age counted at `now` on this system's clock.
    pub fn standing(&self, now: Timestamp) -> Standing {
        let (content, bits, modified, edited) = match self {
            Node::File(file) => {
                let content = Content::File { size: file.size, sha256: file.sha256 };
                (content, file.bits, file.modified, file.edited)
            }
            Node::Link(link) => {
                let content = Content::Link { target: link.target.clone() };
                (content, Bits::of_mode(0o777), link.modified, link.edited)
            }
            Node::Folder(folder) => (Content::Folder, folder.bits, folder.modified, folder.modified),
            Node::Unknown(_) => return Standing::Unknown,
        };
        Standing::Holds(Version { content, bits, modified, age: age_at(edited, now) })
    }
}

/// Adds one member to a digest; `None` while its content has none.
pub(super) fn digest_member(hasher: &mut Hasher, name: &Name, node: &Node) -> Option<()> {
    let kind = match node {
        Node::File(_) => b'f',
        Node::Link(_) => b'l',
        Node::Folder(_) => b'd',
        Node::Unknown(_) => b'?',
    };
    // A name has at most 255 bytes, so one byte of length keeps the encoding free of ambiguity.
    hasher.update(&[kind, name.as_bytes().len() as u8]);
    hasher.update(name.as_bytes());
    match node {
        Node::File(file) => {
            hasher.update(&u16::from(file.bits).to_le_bytes());
            hasher.update(&file.size.to_le_bytes());
            if file.size > 0 {
                hasher.update(&file.sha256?.0);
            }
        }
        Node::Link(link) => {
            hasher.update(&(link.target.len() as u64).to_le_bytes());
            hasher.update(&link.target);
        }
        Node::Folder(folder) => {
            hasher.update(&u16::from(folder.bits).to_le_bytes());
            hasher.update(&folder.digest?.0);
        }
        Node::Unknown(_) => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(size: u64, sha256: Option<Digest>) -> Node {
        Node::File(File {
            size,
            sha256,
            bits: Bits::of_mode(0o644),
            modified: Timestamp(1),
            edited: Timestamp(1),
            seen: Seen::default(),
        })
    }

    fn folder(members: Vec<(&str, Node)>) -> Folder {
        let members =
            members.into_iter().map(|(n, node)| (Name::parse(n.as_bytes()).unwrap(), node)).collect();
        Folder { members, ..Folder::default() }
    }

    #[test]
    fn one_unknown_hash_leaves_every_folder_above_without_a_digest() {
        let inner = folder(vec![("f", file(3, None))]);
        let mut root = folder(vec![("d", Node::Folder(inner)), ("e", Node::Folder(Folder::default()))]);
        assert_eq!(root.digest_all(), None);
        let e = root.find(&RelPath::parse(b"e").unwrap());
        assert!(matches!(e, Some(Node::Folder(f)) if f.digest.is_some()));
    }

    #[test]
    fn what_is_put_takes_the_digests_above_it_along_and_no_others() {
        let path = |text: &str| RelPath::parse(text.as_bytes()).unwrap();
        let digest = Some(Digest::of(b"abc"));
        let inner = || Node::Folder(folder(vec![("f", file(3, digest))]));
        let mut root = folder(vec![("a", inner()), ("b", inner()), ("g", file(3, digest))]);
        root.digest_all();
        for (at, node) in
            [("a/f", None), ("a/e", Some(inner())), ("a/e/f", Some(file(4, digest))), ("g", None)]
        {
            assert!(root.put(&path(at), node.clone()), "{at}");
            assert_eq!(root.find(&path(at)), node.as_ref());
            let of = |at: &str| match root.find(&path(at)) {
                Some(Node::Folder(folder)) => folder.digest,
                _ => None,
            };
            assert!(root.digest.is_none() && of("b").is_some());
            let mut whole = root.clone();
            assert_eq!(root.digest_missing(), whole.digest_all(), "{at}");
            assert_eq!(root, whole);
        }
        assert!(!root.put(&path("nowhere/f"), None));
        assert!(!root.put(&RelPath::root(), None));
    }

    #[test]
    fn times_and_inodes_do_not_enter_a_digest_but_bits_and_content_do() {
        let digest = Some(Digest::of(b"abc"));
        let mut a = folder(vec![("f", file(3, digest))]);
        let mut b = a.clone();
        if let Some(Node::File(f)) = b.find_mut(&RelPath::parse(b"f").unwrap()) {
            f.modified = Timestamp(77);
            f.seen.inode = 9;
        }
        assert_eq!(a.digest_all(), b.digest_all());
        if let Some(Node::File(f)) = b.find_mut(&RelPath::parse(b"f").unwrap()) {
            f.bits = Bits::of_mode(0o600);
        }
        assert_ne!(a.digest_all(), b.digest_all());
    }
}
