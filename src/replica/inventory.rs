//! What a run is about to grow in staging, written down before any of it is made: so that whoever clears a tree that was
//! never placed knows what is ours in it.
//!
//! The list names every folder of every tree, and every file that may come to stand in one with the size that it was
//! promised. Clearing goes by the list and never by what it finds: a regular file with a single name and no more bytes
//! than it was promised goes, then the folders that are empty. Whatever else is in a tree was put there or
//! changed by somebody else; it stays, and the folders above it. No entry can lead out of a tree: it is a [`RelPath`] whose
//! first component is the name of a tree, opened without following anything.
//!
//! The list is on the disk before anything that it names is made. Where something cannot be removed it stays, and what remains is
//! tried again by the next run.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::fault;
use super::rename::At;
use super::root::{Kind, Root, Walker, stat_of};
use super::stage::names_in;
use crate::core::path::{MAX_PATH, Name, RelPath};

/// The list's name in the staging folder.
const LIST: &str = "inventory";
/// No entry is longer: a path, or a size and a name, and what they are marked with.
const LONGEST: u64 = MAX_PATH as u64 + 32;

/// The name of a tree in the staging folder.
pub(super) fn tree_name(number: u32) -> String {
    format!("p{number:x}")
}

fn is_tree(name: &[u8]) -> bool {
    let digits = name.strip_prefix(b"p").and_then(|digits| std::str::from_utf8(digits).ok());
    digits.is_some_and(|digits| u32::from_str_radix(digits, 16).is_ok())
}

/// The list, being written. An entry is `d` and a folder's path in staging, or `f`, a size, `-` and the name of a file in the folder
/// named last; each ends in a NUL.
pub(super) struct Inventory(BufWriter<File>);

impl Inventory {
    /// Begins the list of the run with this staging folder.
    pub(super) fn begin(run: &Root) -> io::Result<Inventory> {
        fault::step()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let list = rustix::fs::openat(run, LIST, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(Inventory(BufWriter::with_capacity(1 << 16, list.into())))
    }

    /// A folder that may be made.
    pub(super) fn folder(&mut self, place: &RelPath) -> io::Result<()> {
        [b"d", place.as_bytes(), b"\0"].iter().try_for_each(|part| self.0.write_all(part))
    }

    /// A file that may be made in the folder named last, of no more than `size` bytes.
    pub(super) fn file(&mut self, name: &[u8], size: u64) -> io::Result<()> {
        write!(self.0, "f{size:x}-")?;
        [name, b"\0"].iter().try_for_each(|part| self.0.write_all(part))
    }

    /// The list is complete: what it names may be made.
    pub(super) fn end(self, run: &Root) -> io::Result<()> {
        fault::step()?;
        let list = self.0.into_inner().map_err(|error| error.into_error())?;
        rustix::fs::fdatasync(&list)?;
        Ok(rustix::fs::fsync(run)?)
    }
}

enum Entry {
    Folder(RelPath),
    File(Name, u64),
}

impl Entry {
    fn parse(bytes: &[u8]) -> Option<Entry> {
        match bytes.split_first()? {
            (b'd', path) => {
                let path = RelPath::parse(path).ok()?;
                let within = is_tree(path.components().next()?);
                within.then_some(Entry::Folder(path))
            }
            (b'f', rest) => {
                let mut parts = rest.splitn(2, |&byte| byte == b'-');
                let size = std::str::from_utf8(parts.next()?).ok()?;
                let size = u64::from_str_radix(size, 16).ok()?;
                Some(Entry::File(Name::parse(parts.next()?).ok()?, size))
            }
            _ => None,
        }
    }
}

/// The next entry; none at the end, and where the list is torn.
fn read_entry(list: &mut impl BufRead, bytes: &mut Vec<u8>) -> io::Result<Option<Entry>> {
    bytes.clear();
    list.take(LONGEST).read_until(0, bytes)?;
    Ok(bytes.strip_suffix(b"\0").and_then(Entry::parse))
}

/// Removes what the run with this staging folder grew and nobody changed, and its list once nothing more is to be removed: says
/// whether that is so.
pub(super) fn clear(run: &Root) -> io::Result<bool> {
    let Some(list) = open(run)? else { return Ok(true) };
    // Once all trees are placed nothing on the list is here any more.
    let trees = names_in(run)?.iter().any(|name| is_tree(name));
    if trees && !clear_listed(run, BufReader::new(list))? {
        return Ok(false);
    }
    At { folder: run.as_fd(), name: LIST.as_bytes() }.unlink()?;
    Ok(true)
}

/// Whether this is the name of a tree, or of the list.
pub(super) fn is_grown(name: &[u8]) -> bool {
    name == LIST.as_bytes() || is_tree(name)
}

fn open(run: &Root) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let list = match rustix::fs::openat(run, LIST, flags, Mode::empty()) {
        Ok(list) => File::from(list),
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let stat = stat_of(&list)?;
    Ok((stat.kind == Kind::File && stat.links == 1).then_some(list))
}

/// Whether nothing stayed that may be removed another time.
fn clear_listed(run: &Root, mut list: impl BufRead) -> io::Result<bool> {
    let (mut folders, mut here, mut bytes) = (BTreeSet::new(), None, Vec::new());
    let mut all = true;
    while let Some(entry) = read_entry(&mut list, &mut bytes)? {
        match entry {
            Entry::Folder(path) => {
                let opened = run.folder(&path);
                all &= !opened.as_ref().is_err_and(|error| !is_not_there(error));
                here = opened.ok();
                if here.is_some() {
                    folders.insert(path);
                }
            }
            Entry::File(name, size) => {
                if let Some(folder) = &here {
                    all &= is_gone(&remove_file(At { folder: folder.as_fd(), name: name.as_bytes() }, size));
                }
            }
        }
    }
    for path in folders.iter().rev() {
        all &= is_gone(&remove_folder(run, path));
    }
    Ok(all)
}

/// Whether nothing is left to be done.
fn is_gone(removed: &io::Result<()>) -> bool {
    let left = |error: &io::Error| !is_not_there(error) && error.kind() != io::ErrorKind::DirectoryNotEmpty;
    !removed.as_ref().is_err_and(left)
}

/// Whether there is nothing of ours by this name, nor can be: what is odd is somebody else's.
pub(super) fn is_not_there(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    let odd = matches!(errno, Some(Errno::NOTDIR | Errno::LOOP | Errno::XDEV));
    let no_name = matches!(errno, Some(Errno::NAMETOOLONG | Errno::ILSEQ | Errno::INVAL));
    errno == Some(Errno::NOENT) || odd || no_name
}

fn remove_file(at: At<'_>, promised: u64) -> io::Result<()> {
    match at.stat()? {
        Some(stat) if stat.kind == Kind::File && stat.links == 1 && stat.size <= promised => at.unlink(),
        _ => Ok(()),
    }
}

fn remove_folder(run: &Root, path: &RelPath) -> io::Result<()> {
    let mut walker = Walker::new(run);
    let spot = walker.spot(path)?;
    At { folder: spot.folder, name: spot.name }.rmdir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_entry_leads_out_of_a_tree() {
        let bad: [&[u8]; 13] = [
            b"",
            b"d",
            b"dr0/a",
            b"dp",
            b"dpx/a",
            b"dp0/../a",
            b"d../p0",
            b"d/p0",
            b"f1-",
            b"f1-a/b",
            b"f1-..",
            b"fx-a",
            b"x",
        ];
        for entry in bad {
            assert!(Entry::parse(entry).is_none(), "{}", String::from_utf8_lossy(entry));
        }
        assert!(matches!(Entry::parse(b"dp1f/a-b/c"), Some(Entry::Folder(_))));
        let Some(Entry::File(name, 31)) = Entry::parse(b"f1f-a-b") else { panic!("a file") };
        assert_eq!(name.as_bytes(), b"a-b");
    }

    #[test]
    fn an_entry_that_is_too_long_ends_the_list() {
        let long = [&b"f1-a\0"[..], &vec![b'x'; 2 * LONGEST as usize], b"\0f1-b\0"].concat();
        let (mut list, mut bytes) = (&long[..], Vec::new());
        assert!(read_entry(&mut list, &mut bytes).unwrap().is_some());
        assert!(read_entry(&mut list, &mut bytes).unwrap().is_none());
        assert!(bytes.len() as u64 <= LONGEST);
    }
}
