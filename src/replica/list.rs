//! Lists one folder and looks at its members, for a scan.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::filter::Filter;
use super::index::{Change, Entry, Index, Memory, Rows};
use super::pool::Found;
use super::root::{Kind, Root, Spot, Stat, stat_of};
use super::scan::{Findings, ScanOptions, ScanProblem};
use super::system::RawDir;
use crate::core::age::Timestamp;
use crate::core::path::{MAX_DEPTH, MAX_PATH, Name, PathError, RelPath};
use crate::core::snapshot::{File, Folder, Link, Node, Unknown};

/// Bytes of directory entries read at once: some two thousand names.
const BUFFER: usize = 64 * 1024;

/// Stands in a snapshot for a `.syncfiles` below the root, whose own name no path can carry: it says that the
/// folder holds something that may not be touched.
const NESTED_STATE: &[u8] = b".syncfiles (another root's)";

/// Whether `path` is what stands in a snapshot for another root's `.syncfiles`.
pub(crate) fn is_nested_state(path: &RelPath) -> bool {
    path.name().is_some_and(|name| name.as_bytes() == NESTED_STATE)
}

/// Lists folders; one thread's.
pub(crate) struct Lister<'a> {
    root: &'a Root,
    filter: &'a Filter,
    index: Option<&'a Index>,
    options: ScanOptions,
    started: Timestamp,
    buffer: Vec<u8>,
    /// What was found besides the entries.
    pub(crate) findings: Findings,
}

/// A name as listed, and its kind where the file system tells it along.
type Listing = Vec<(Name, Option<Kind>)>;

/// A member of a folder that is being listed. Its path is made only for the few that need one.
struct Place<'a> {
    path: &'a RelPath,
    folder: &'a OwnedFd,
    name: &'a Name,
}

impl Place<'_> {
    fn path(&self) -> RelPath {
        // Never fails: a folder with a member whose path is too long was given up when its names were read.
        self.path.join(self.name).unwrap_or_else(|_| self.path.clone())
    }
}

/// What a member turned out to be.
pub(crate) enum Member {
    /// No longer there.
    Gone,
    /// A folder, to be listed in its turn.
    Folder,
    /// Anything else.
    Is(Node),
}

impl<'a> Lister<'a> {
    pub(crate) fn new(
        root: &'a Root,
        filter: &'a Filter,
        index: Option<&'a Index>,
        options: ScanOptions,
        started: Timestamp,
    ) -> Lister<'a> {
        let buffer = Vec::with_capacity(BUFFER);
        Lister { root, filter, index, options, started, buffer, findings: Findings::default() }
    }

    /// Lists the folder at `path`: what it is (nothing if it vanished), and the folders in it, whose places among
    /// its members are held by an unknown until they are listed.
    pub(crate) fn list(&mut self, path: &RelPath) -> (Option<Node>, Vec<Found>) {
        let opened = self.root.folder(path).and_then(|folder| Ok((stat_of(&folder)?, folder)));
        let (stat, folder) = match opened {
            Ok(opened) => opened,
            Err(error) => return (self.instead(path, error), Vec::new()),
        };
        match self.names(path, &folder) {
            Ok(names) => {
                let (members, found) = self.members(path, &folder, names);
                let Stat { bits, modified, seen, .. } = stat;
                (Some(Node::Folder(Folder { bits, modified, seen, members, digest: None })), found)
            }
            Err(problem) => {
                let deep = matches!(problem, ScanProblem::TooDeep);
                self.findings.problems.push((path.clone(), problem));
                let unknown = if deep { Unknown::Unnameable } else { Unknown::Unreadable };
                (Some(Node::Unknown(unknown)), Vec::new())
            }
        }
    }

    /// What a folder is that could not be opened: something else may have taken its place since its own folder was
    /// listed, or nothing.
    fn instead(&mut self, path: &RelPath, error: io::Error) -> Option<Node> {
        let above = path.parent().zip(path.name());
        let above = above.and_then(|(above, name)| Some((self.root.folder(&above).ok()?, above, name)));
        let now = above.map(|(folder, above, name)| {
            self.look(&Place { path: &above, folder: &folder, name: &name }, None, None)
        });
        match now {
            Some(Member::Is(node)) => Some(node),
            Some(Member::Gone) => None,
            // There again: it was not absent all the time, and nobody looked into it.
            Some(Member::Folder) if error.kind() == io::ErrorKind::NotFound => {
                Some(Node::Unknown(Unknown::Changed))
            }
            Some(Member::Folder) | None => self.not_opened(path, error),
        }
    }

    fn not_opened(&mut self, path: &RelPath, error: io::Error) -> Option<Node> {
        match Errno::from_io_error(&error) {
            Some(Errno::NOENT) if !path.is_root() => None,
            Some(Errno::XDEV) => {
                self.findings.notice(path, "it is on another file system");
                Some(Node::Unknown(Unknown::Foreign))
            }
            _ => {
                self.findings.problems.push((path.clone(), ScanProblem::Unlistable(error)));
                Some(Node::Unknown(Unknown::Unreadable))
            }
        }
    }

    /// All names in `folder`, in order; nothing if it cannot be listed to its end.
    fn names(&mut self, path: &RelPath, folder: &OwnedFd) -> Result<Listing, ScanProblem> {
        let longest = MAX_PATH.saturating_sub(path.as_bytes().len() + 1);
        let deep = path.depth() >= MAX_DEPTH;
        let mut names = Vec::new();
        let spare: &mut [MaybeUninit<u8>] = self.buffer.spare_capacity_mut();
        let mut entries = RawDir::new(folder, spare);
        while let Some(entry) = entries.next() {
            #[cfg(test)]
            let entry = match self.options.fault.and_then(|fault| fault(path, names.len())) {
                Some(errno) => Err(errno),
                None => entry,
            };
            let entry = entry.map_err(|errno| ScanProblem::Unlistable(errno.into()))?;
            let name = match Name::parse(entry.file_name().to_bytes()) {
                Err(PathError::Dots) => continue,
                Err(PathError::Reserved) if path.is_root() => continue,
                Err(PathError::Reserved) => Name::parse(NESTED_STATE),
                parsed => parsed,
            };
            match name {
                Ok(name) if !deep && name.as_bytes().len() <= longest => {
                    names.push((name, kind_of(entry.file_type())));
                }
                _ => return Err(ScanProblem::TooDeep),
            }
        }
        names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        names.dedup_by(|a, b| a.0 == b.0);
        Ok(names)
    }

    fn members(
        &mut self,
        path: &RelPath,
        folder: &OwnedFd,
        names: Listing,
    ) -> (Vec<(Name, Node)>, Vec<Found>) {
        let mut rows = Cursor { rows: self.index.and_then(|index| index.within(path.as_bytes())), next: 0 };
        let mut members = Vec::with_capacity(names.len());
        let mut found = Vec::new();
        for (name, kind) in names {
            let row = rows.seek(Some(name.as_bytes()), &mut self.findings);
            let place = Place { path, folder, name: &name };
            let node = match self.look(&place, kind, row) {
                Member::Is(node) => node,
                Member::Folder => {
                    found.push((members.len(), place.path()));
                    Node::Unknown(Unknown::Unreadable)
                }
                Member::Gone => {
                    self.forget(row);
                    continue;
                }
            };
            members.push((name, node));
        }
        rows.seek(None, &mut self.findings);
        (members, found)
    }

    /// What stands at `path`, the rest of its folder not listed. Fails where that folder cannot be opened.
    pub(crate) fn look_at(&mut self, path: &RelPath) -> io::Result<Member> {
        let (above, name) = path.parent().zip(path.name()).ok_or(Errno::INVAL)?;
        let folder = self.root.folder(&above)?;
        let rows = self.index.and_then(|index| index.within(above.as_bytes()));
        let row = rows.and_then(|rows| Some((rows, rows.find(name.as_bytes())?)));
        let place = Place { path: &above, folder: &folder, name: &name };
        let member = self.look(&place, None, row);
        if matches!(member, Member::Gone) {
            self.forget(row);
        }
        Ok(member)
    }

    fn look(&mut self, place: &Place<'_>, kind: Option<Kind>, row: Option<(&Rows, usize)>) -> Member {
        if place.name.as_bytes() == NESTED_STATE {
            return Member::Is(Node::Unknown(Unknown::Unnameable));
        }
        let spot = self.root.spot_in(place.folder, place.name);
        let stat = match kind {
            Some(Kind::Folder | Kind::Special) => None,
            _ => match spot.stat() {
                Ok(stat) => Some(stat),
                Err(error) => return self.unseen(place, error),
            },
        };
        let kind = stat.as_ref().map(|stat| stat.kind).or(kind);
        let is_folder = kind == Some(Kind::Folder);
        if !self.filter.is_empty() && self.filter.excludes_itself(place.path().as_bytes(), is_folder) {
            return Member::Is(Node::Unknown(Unknown::Excluded));
        }
        match (kind, stat) {
            (Some(Kind::Folder), _) => {
                self.forget(row);
                Member::Folder
            }
            (_, Some(stat)) if self.root.is_foreign(&stat) => {
                self.findings.notice(&place.path(), "it is on another file system");
                Member::Is(Node::Unknown(Unknown::Foreign))
            }
            (Some(Kind::File), Some(stat)) => Member::Is(self.file(place, &stat, row)),
            (Some(Kind::Link), Some(stat)) => self.link(spot, place, &stat, row),
            _ => {
                self.findings.notice(&place.path(), "a fifo, socket or device is not synchronised");
                Member::Is(Node::Unknown(Unknown::Special))
            }
        }
    }

    fn unseen(&mut self, place: &Place<'_>, error: io::Error) -> Member {
        if error.kind() == io::ErrorKind::NotFound {
            return Member::Gone;
        }
        self.findings.problems.push((place.path(), ScanProblem::Unseen(error)));
        Member::Is(Node::Unknown(Unknown::Unreadable))
    }

    fn file(&mut self, place: &Place<'_>, stat: &Stat, row: Option<(&Rows, usize)>) -> Node {
        let ((sha256, edited), moved) = self.remembered(stat, row);
        let Stat { size, bits, modified, seen, .. } = *stat;
        let sha256 = sha256.filter(|_| !self.options.checksum);
        let node =
            Node::File(File { size, sha256, bits, modified, edited: edited.unwrap_or(modified), seen });
        self.remember(moved, place, &node);
        node
    }

    fn link(
        &mut self,
        spot: Spot<'_>,
        place: &Place<'_>,
        stat: &Stat,
        row: Option<(&Rows, usize)>,
    ) -> Member {
        let target = match spot.read_link() {
            Ok(target) => target,
            Err(error) => return self.unseen(place, error),
        };
        let ((_, edited), moved) = self.remembered(stat, row);
        let Stat { modified, seen, .. } = *stat;
        let node = Node::Link(Link { target, modified, edited: edited.unwrap_or(modified), seen });
        self.remember(moved, place, &node);
        Member::Is(node)
    }

    /// What the index remembers of the inode, and whether under another path.
    fn remembered(&self, stat: &Stat, row: Option<(&Rows, usize)>) -> (Memory, bool) {
        if let Some(memory) = row.and_then(|(rows, at)| rows.at(at, stat)) {
            return (memory, false);
        }
        let memory = self.index.and_then(|index| index.moved(stat));
        (memory.unwrap_or_default(), memory.is_some())
    }

    /// Has the index learn what was known under another path.
    fn remember(&mut self, moved: bool, place: &Place<'_>, node: &Node) {
        if moved && let Some(entry) = Entry::of(node, self.started) {
            self.findings.changes.push(Change::Put(place.path(), entry));
        }
    }

    fn forget(&mut self, row: Option<(&Rows, usize)>) {
        let path = row.and_then(|(rows, at)| rows.path(at));
        self.findings.changes.extend(path.map(Change::Remove));
    }
}

/// Walks the rows of a folder beside its members; both are in order of names.
struct Cursor<'a> {
    rows: Option<&'a Rows>,
    next: usize,
}

impl<'a> Cursor<'a> {
    /// The row of `name`; the rows before it (for `None`: all that are left) are of members that are gone.
    fn seek(&mut self, name: Option<&[u8]>, findings: &mut Findings) -> Option<(&'a Rows, usize)> {
        let rows = self.rows?;
        while self.next < rows.len() && name.is_none_or(|name| rows.name(self.next) < name) {
            findings.changes.extend(rows.path(self.next).map(Change::Remove));
            self.next += 1;
        }
        if self.next == rows.len() || name.is_none_or(|name| rows.name(self.next) > name) {
            return None;
        }
        self.next += 1;
        Some((rows, self.next - 1))
    }
}

fn kind_of(told: FileType) -> Option<Kind> {
    match told {
        FileType::RegularFile => Some(Kind::File),
        FileType::Directory => Some(Kind::Folder),
        FileType::Symlink => Some(Kind::Link),
        FileType::Unknown => None,
        _ => Some(Kind::Special),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::testing::{Field, path};

    #[test]
    fn a_folder_that_was_gone_only_while_it_was_opened_is_not_absent() {
        let field = Field::new(&[("d/file", "1")]);
        let filter = Filter::default();
        let mut lister = Lister::new(&field.root, &filter, None, ScanOptions::default(), Timestamp(0));
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(lister.instead(&path("d"), Errno::NOENT.into()), Some(Node::Unknown(Unknown::Changed)));
        assert_eq!(lister.instead(&path("e"), gone()), None);
    }
}
