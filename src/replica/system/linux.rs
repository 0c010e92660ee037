//! Linux: `openat2`, `statx`, `syncfs`, `FICLONE`, and descriptors by name below /proc.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags, StatxTimestamp,
};
use rustix::io::Errno;

pub(in crate::replica) use rustix::fs::RawDir;

use super::super::root::{Kind, Stat};
use crate::core::age::Timestamp;
use crate::core::snapshot::Seen;
use crate::core::version::Bits;

/// How often a lookup is repeated that the kernel gave up because of a rename at the same moment.
const ATTEMPTS: usize = 64;

/// Opens `path` beneath `folder`; the kernel refuses links, mounts and every way out in each component. `NOSYS` or `PERM`
/// where it cannot.
pub(in crate::replica) fn open_beneath(
    folder: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    let mut opened = Err(Errno::AGAIN);
    for _ in 0..ATTEMPTS {
        opened = rustix::fs::openat2(folder, path, flags, Mode::empty(), resolve);
        if !matches!(opened, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
    }
    opened
}

/// What stands at the single component `name` in `folder`, a link not followed and nothing mounted by looking.
pub(in crate::replica) fn stat_at(folder: impl AsFd, name: impl rustix::path::Arg) -> io::Result<Stat> {
    statx(folder, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)
}

/// What is open at `file`.
pub(in crate::replica) fn stat_of(file: impl AsFd) -> io::Result<Stat> {
    statx(file, c"", AtFlags::EMPTY_PATH)
}

fn statx(folder: impl AsFd, name: impl rustix::path::Arg, flags: AtFlags) -> io::Result<Stat> {
    let told = rustix::fs::statx(folder, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?;
    let time = |at: StatxTimestamp| Timestamp::from_parts(at.tv_sec, at.tv_nsec);
    let kind = match FileType::from_raw_mode(told.stx_mode.into()) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Folder,
        FileType::Symlink => Kind::Link,
        _ => Kind::Special,
    };
    Ok(Stat {
        kind,
        size: told.stx_size,
        bits: Bits::of_mode(told.stx_mode.into()),
        modified: time(told.stx_mtime),
        born: (told.stx_mask & StatxFlags::BTIME.bits() != 0).then(|| time(told.stx_btime)),
        seen: Seen { inode: told.stx_ino, changed: time(told.stx_ctime) },
        links: told.stx_nlink,
        device: u64::from(told.stx_dev_major) << 32 | u64::from(told.stx_dev_minor),
        mounted: told.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
    })
}

/// Opens what stands at `name` without access to its content, so that it may be unreadable; a link itself.
pub(in crate::replica) fn open_for_bits(folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(folder, name, flags, Mode::empty())?)
}

/// Sets the bits of what [`open_for_bits`] opened. A descriptor without access cannot be given to `fchmod`; its name under
/// /proc leads to the very same inode.
pub(in crate::replica) fn set_bits_through(file: impl AsFd, bits: Bits) -> io::Result<()> {
    let name = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    Ok(rustix::fs::chmod(name, super::mode(bits))?)
}

/// The name that an open folder has now; it holds no link.
pub(in crate::replica) fn name_of(folder: impl AsFd) -> io::Result<CString> {
    let link = format!("/proc/self/fd/{}", folder.as_fd().as_raw_fd());
    Ok(rustix::fs::readlink(link, Vec::new())?)
}

/// Everything written so far to the file system of `file` is durable when this returns.
pub(in crate::replica) fn sync_fs(file: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::syncfs(file)?)
}

/// Gives the empty file `to` the content of `from` without reading it, where the file system shares blocks.
pub(in crate::replica) fn clone_content(to: impl AsFd, from: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(to, from)?)
}
