//! The renames that everything else is built from, with the nearest thing where a file system lacks them.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, RenameFlags, linkat, renameat, renameat_with, unlinkat};
use rustix::io::Errno;

use super::fault;
use super::root::{Stat, stat_at};

/// One name in an open folder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<'a> {
    /// The folder.
    pub(crate) folder: BorrowedFd<'a>,
    /// One component.
    pub(crate) name: &'a [u8],
}

impl At<'_> {
    /// What stands there; `None` for nothing.
    pub(crate) fn stat(&self) -> io::Result<Option<Stat>> {
        match stat_at(self.folder, self.name) {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes the file or link there.
    pub(crate) fn unlink(&self) -> io::Result<()> {
        fault::step()?;
        Ok(unlinkat(self.folder, self.name, AtFlags::empty())?)
    }

    /// Removes the empty folder there.
    pub(crate) fn rmdir(&self) -> io::Result<()> {
        fault::step()?;
        Ok(unlinkat(self.folder, self.name, AtFlags::REMOVEDIR)?)
    }
}

/// Renames `from` to `to`, which must be absent (`AlreadyExists` otherwise), in one step.
///
/// Where the file system lacks `RENAME_NOREPLACE` a second name is made, which fails alike if something stands
/// there, and the first removed; for folders and file systems without hard links all that is left is to look first.
pub(crate) fn to_absent(from: At<'_>, to: At<'_>) -> io::Result<()> {
    fault::step()?;
    if !fault::plain_renames() {
        match renameat_with(from.folder, from.name, to.folder, to.name, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) if is_one_name(from, to)? => {}
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            result => return Ok(result?),
        }
    }
    if is_one_name(from, to)? {
        return Ok(renameat(from.folder, from.name, to.folder, to.name)?);
    }
    match linkat(from.folder, from.name, to.folder, to.name, AtFlags::empty()) {
        Ok(()) => from.unlink(),
        Err(Errno::PERM | Errno::NOTSUP | Errno::ISDIR | Errno::MLINK) if to.stat()?.is_none() => {
            Ok(renameat(from.folder, from.name, to.folder, to.name)?)
        }
        Err(Errno::PERM | Errno::NOTSUP | Errno::ISDIR | Errno::MLINK) => Err(Errno::EXIST.into()),
        Err(errno) => Err(errno.into()),
    }
}

/// Exchanges two names in one step. `None` where the file system cannot.
pub(crate) fn exchange(one: At<'_>, other: At<'_>) -> io::Result<Option<()>> {
    fault::step()?;
    if fault::plain_renames() {
        return Ok(None);
    }
    match renameat_with(one.folder, one.name, other.folder, other.name, RenameFlags::EXCHANGE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => Ok(None),
        result => Ok(Some(result?)),
    }
}

/// Gives what stands at `from` the second name `to`. `None` where the file system cannot.
pub(crate) fn second_name(from: At<'_>, to: At<'_>) -> io::Result<Option<()>> {
    fault::step()?;
    match linkat(from.folder, from.name, to.folder, to.name, AtFlags::empty()) {
        Err(Errno::PERM | Errno::NOTSUP | Errno::MLINK) => Ok(None),
        result => Ok(Some(result?)),
    }
}

/// Renames `from` over `to`, whatever stands there.
pub(crate) fn over(from: At<'_>, to: At<'_>) -> io::Result<()> {
    fault::step()?;
    Ok(renameat(from.folder, from.name, to.folder, to.name)?)
}

/// Whether both names lead to one entry because the folder does not tell upper from lower case: an inode with a
/// single link (or a folder) that answers to both.
fn is_one_name(from: At<'_>, to: At<'_>) -> io::Result<bool> {
    let same_letters = from.name.eq_ignore_ascii_case(to.name) || !from.name.is_ascii();
    if !same_letters || from.name == to.name {
        return Ok(false);
    }
    let (Some(one), Some(other)) = (from.stat()?, to.stat()?) else { return Ok(false) };
    let single = one.links == 1 || one.kind == super::root::Kind::Folder;
    Ok(single && (one.device, one.seen.inode) == (other.device, other.seen.inode))
}
