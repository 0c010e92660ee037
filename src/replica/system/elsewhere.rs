//! Where the kernel is not Linux: what POSIX has, which is enough, if slower and with wider windows for races.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, DirEntry, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::super::root::{Kind, Stat};
use crate::core::age::Timestamp;
use crate::core::snapshot::Seen;
use crate::core::version::Bits;

/// There is no such call here: paths are walked a component at a time.
pub(in crate::replica) fn open_beneath(_: BorrowedFd<'_>, _: &[u8], _: OFlags) -> Result<OwnedFd, Errno> {
    Err(Errno::NOSYS)
}

/// What stands at the single component `name` in `folder`, a link not followed.
pub(in crate::replica) fn stat_at(folder: impl AsFd, name: impl rustix::path::Arg) -> io::Result<Stat> {
    Ok(stat(&rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?))
}

/// What is open at `file`.
pub(in crate::replica) fn stat_of(file: impl AsFd) -> io::Result<Stat> {
    Ok(stat(&rustix::fs::fstat(file)?))
}

/// A mount point shows only in that its device is another.
fn stat(told: &rustix::fs::Stat) -> Stat {
    let time = |seconds, nanoseconds| Timestamp::from_parts(seconds, u32::try_from(nanoseconds).unwrap_or(0));
    let kind = match FileType::from_raw_mode(told.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Folder,
        FileType::Symlink => Kind::Link,
        _ => Kind::Special,
    };
    Stat {
        kind,
        size: u64::try_from(told.st_size).unwrap_or(0),
        bits: Bits::of_mode(told.st_mode.into()),
        modified: time(told.st_mtime, told.st_mtime_nsec),
        born: None,
        seen: Seen { inode: told.st_ino, changed: time(told.st_ctime, told.st_ctime_nsec) },
        links: told.st_nlink.into(),
        device: u64::from(told.st_dev.cast_unsigned()),
        mounted: false,
    }
}

/// Opens what stands at `name`, which must be readable here; a link fails.
pub(in crate::replica) fn open_for_bits(folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(folder, name, flags, Mode::empty())?)
}

/// Sets the bits of what [`open_for_bits`] opened.
pub(in crate::replica) fn set_bits_through(file: impl AsFd, bits: Bits) -> io::Result<()> {
    Ok(rustix::fs::fchmod(file, super::mode(bits))?)
}

/// The name that an open folder has now; it holds no link.
pub(in crate::replica) fn name_of(folder: impl AsFd) -> io::Result<CString> {
    Ok(rustix::fs::getpath(folder)?)
}

/// Everything written so far is durable when this returns: all file systems are told to write, and the disk to empty its
/// cache, which a mere `sync` does not do here.
pub(in crate::replica) fn sync_fs(file: impl AsFd) -> io::Result<()> {
    rustix::fs::sync();
    Ok(rustix::fs::fcntl_fullfsync(file)?)
}

/// Not here: the content is copied.
pub(in crate::replica) fn clone_content(_: impl AsFd, _: impl AsFd) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Reads a folder's entries, in the form in which Linux' own reader does.
pub(in crate::replica) struct RawDir(Option<Result<Dir, Errno>>);

impl RawDir {
    /// A reader of `folder`. It brings its own buffer.
    pub(in crate::replica) fn new(folder: impl AsFd, _: &mut [MaybeUninit<u8>]) -> RawDir {
        RawDir(Some(Dir::read_from(folder)))
    }

    /// The next entry; after an error there is none.
    pub(in crate::replica) fn next(&mut self) -> Option<Result<RawDirEntry, Errno>> {
        match self.0.as_mut()? {
            Ok(dir) => Some(dir.read()?.map(RawDirEntry)),
            Err(errno) => {
                let errno = *errno;
                self.0 = None;
                Some(Err(errno))
            }
        }
    }
}

/// An entry of a folder.
pub(in crate::replica) struct RawDirEntry(DirEntry);

impl RawDirEntry {
    /// Its name.
    pub(in crate::replica) fn file_name(&self) -> &CStr {
        self.0.file_name()
    }

    /// Its kind, as far as it is told along.
    pub(in crate::replica) fn file_type(&self) -> FileType {
        self.0.file_type()
    }
}
