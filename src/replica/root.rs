//! The pinned root: the one door to synchronised files. Every access starts at a descriptor of the root, stays
//! beneath it, follows no link and crosses to no other file system.
//!
//! Two steps reach any path. The parent folder is opened from the pinned descriptor with `openat2`, which
//! refuses links and mounts in every component inside the kernel, so that nobody can swap a folder for a link
//! in between. Then one system call acts on a single component in that parent and follows nothing.
//!
//! The same door serves the tree and the root's own state: [`Root::state`] and [`Root::beneath`] give a
//! [`Root`] pinned at a folder within, so that both ends of a rename are confined alike.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use thiserror::Error;

use super::system;
use crate::core::age::Timestamp;
use crate::core::path::{Name, RelPath, STATE_FOLDER};
use crate::core::shown::Shown;
use crate::core::snapshot::Seen;
use crate::core::version::Bits;

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// Why a root cannot be opened.
#[derive(Debug, Error)]
pub enum RootError {
    /// Nothing stands there.
    #[error("cannot open the root {}: there is no such folder; check the path, and that its disk is mounted", shown(.0))]
    Missing(PathBuf),
    /// Something stands there that is no folder.
    #[error("cannot open the root {}: it is not a folder; name the folder that holds it", shown(.0))]
    NotAFolder(PathBuf),
    /// The system refused.
    #[error("cannot open the root {}: {source}; check the permissions of the folder and of those above it", shown(.path))]
    Refused {
        /// The root, as the user wrote it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The kind of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, itself.
    Link,
    /// A fifo, socket or device: never opened.
    Special,
}

/// What the file system says of an entry, links not followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Length in bytes (of a link: of its target).
    pub size: u64,
    /// Permission bits.
    pub bits: Bits,
    /// Modification time.
    pub modified: Timestamp,
    /// When the file system made it, where it knows.
    pub born: Option<Timestamp>,
    /// Inode number and change time.
    pub seen: Seen,
    /// The number of names the inode has.
    pub links: u32,
    /// The device the entry is on.
    pub device: u64,
    /// Whether something is mounted on it.
    pub mounted: bool,
}

/// A folder pinned by a descriptor: whatever happens to its name, every access ends beneath this very folder.
#[derive(Debug)]
pub struct Root {
    folder: OwnedFd,
    device: u64,
    path: PathBuf,
}

impl Root {
    /// Opens the folder at `path`. This path alone is the user's own and may lead through links.
    pub fn open(path: &Path) -> Result<Root, RootError> {
        let refused = |errno: Errno| match errno {
            Errno::NOENT => RootError::Missing(path.into()),
            Errno::NOTDIR => RootError::NotAFolder(path.into()),
            other => RootError::Refused { path: path.into(), source: other.into() },
        };
        let folder =
            rustix::fs::openat(CWD, path, FOLDER - OFlags::NOFOLLOW, Mode::empty()).map_err(refused)?;
        let stat = stat_of(&folder).map_err(|source| RootError::Refused { path: path.into(), source })?;
        Ok(Root { folder, device: stat.device, path: path.into() })
    }

    /// The path the root was opened by; for messages only.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file system says of the pinned folder itself.
    pub fn stat_self(&self) -> io::Result<Stat> {
        stat_of(&self.folder)
    }

    /// Whether this user may make anything in the pinned folder.
    pub fn is_writable(&self) -> bool {
        rustix::fs::accessat(&self.folder, c".", rustix::fs::Access::WRITE_OK, AtFlags::EACCESS).is_ok()
    }

    /// Opens the folder `path` beneath the root, to list it or to act on its members.
    ///
    /// Fails with `ELOOP` or `ENOTDIR` where a component is a link, and with `EXDEV` where it is on another
    /// file system.
    pub fn folder(&self, path: &RelPath) -> io::Result<OwnedFd> {
        let bytes = if path.is_root() { b"." } else { path.as_bytes() };
        match system::open_beneath(self.folder.as_fd(), bytes, FOLDER) {
            Err(Errno::NOSYS | Errno::PERM) => self.walk_to(path),
            opened => self.on_this_device(opened?),
        }
    }

    /// What stands at `path`.
    pub fn stat(&self, path: &RelPath) -> io::Result<Stat> {
        if path.is_root() { self.stat_self() } else { Walker::new(self).spot(path)?.stat() }
    }

    /// Opens the regular file at `path` for reading; see [`Spot::open_file`].
    pub fn open_file(&self, path: &RelPath) -> io::Result<(File, Stat)> {
        Walker::new(self).spot(path)?.open_file()
    }

    /// As [`open_file`](Root::open_file), by way of the parent that is kept in `near` where it is the same one.
    pub fn open_file_near(&self, path: &RelPath, near: &Near) -> io::Result<(File, Stat)> {
        let (parent, name) = path.split().ok_or(Errno::INVAL)?;
        if parent.is_empty() {
            return Spot { root: self, folder: self.as_fd(), name }.open_file();
        }
        let kept = near.kept().clone().filter(|kept| *kept.0 == *parent);
        let kept = match kept {
            Some(kept) => kept,
            None => {
                let folder = self.folder(&path.parent().ok_or(Errno::INVAL)?)?;
                near.kept().insert(Arc::new((parent.into(), folder))).clone()
            }
        };
        Spot { root: self, folder: kept.1.as_fd(), name }.open_file()
    }

    /// The target of the symbolic link at `path`.
    pub fn read_link(&self, path: &RelPath) -> io::Result<Box<[u8]>> {
        Walker::new(self).spot(path)?.read_link()
    }

    /// The root's own `.syncfiles`, as a root of its own.
    pub fn state(&self) -> io::Result<Root> {
        self.enter(STATE_FOLDER)
    }

    /// As [`state`](Root::state), made with mode 0700 where it is absent.
    pub fn make_state(&self) -> io::Result<Root> {
        self.make(STATE_FOLDER)
    }

    /// The folder `name` directly below, as a root of its own.
    pub fn beneath(&self, name: &Name) -> io::Result<Root> {
        self.enter(name.as_bytes())
    }

    /// As [`beneath`](Root::beneath), made with mode 0700 where it is absent.
    pub fn make_beneath(&self, name: &Name) -> io::Result<Root> {
        self.make(name.as_bytes())
    }

    fn make(&self, name: &[u8]) -> io::Result<Root> {
        match rustix::fs::mkdirat(&self.folder, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => self.enter(name),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The member `name` of `folder`, which was opened through this root.
    pub(crate) fn spot_in<'a>(&'a self, folder: &'a OwnedFd, name: &'a Name) -> Spot<'a> {
        Spot { root: self, folder: folder.as_fd(), name: name.as_bytes() }
    }

    fn enter(&self, name: &[u8]) -> io::Result<Root> {
        use std::os::unix::ffi::OsStrExt;
        let folder = Spot { root: self, folder: self.folder.as_fd(), name }.open_folder()?;
        Ok(Root { folder, device: self.device, path: self.path.join(std::ffi::OsStr::from_bytes(name)) })
    }

    /// For kernels without `openat2` (before 5.6, or hidden by a container's filter): one component at a time.
    fn walk_to(&self, path: &RelPath) -> io::Result<OwnedFd> {
        let mut folder = rustix::fs::openat(&self.folder, c".", FOLDER, Mode::empty())?;
        for name in path.components() {
            let next = rustix::fs::openat(&folder, name, FOLDER, Mode::empty())?;
            folder = self.on_this_device(next)?;
        }
        Ok(folder)
    }

    /// Whether an entry found below this root belongs to another file system or is a mount point.
    ///
    /// Only a folder is judged by its device number: a file below an overlay may show the device of its layer.
    pub fn is_foreign(&self, stat: &Stat) -> bool {
        stat.mounted || stat.kind == Kind::Folder && stat.device != self.device
    }

    fn on_this_device(&self, folder: OwnedFd) -> io::Result<OwnedFd> {
        // A subvolume is on another device without being a mount, so the kernel's check is not enough. The
        // pinned folder itself may be a mount point, which is why only the number is compared.
        if stat_of(&folder)?.device == self.device { Ok(folder) } else { Err(Errno::XDEV.into()) }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

/// Reaches paths below a root and keeps the last parent open, as the files of one folder come in a row.
///
/// One thread owns it. After a folder was removed, moved or replaced, [`forget`](Walker::forget) drops what is kept.
#[derive(Debug)]
pub struct Walker<'r> {
    root: &'r Root,
    last: Option<(Box<[u8]>, OwnedFd)>,
}

impl<'r> Walker<'r> {
    /// Starts at `root`.
    pub fn new(root: &'r Root) -> Walker<'r> {
        Walker { root, last: None }
    }

    /// Opens the parent of `path`, to act on its last component. The root itself has no parent (`EINVAL`).
    pub fn spot<'a>(&'a mut self, path: &'a RelPath) -> io::Result<Spot<'a>> {
        let (parent, name) = path.split().ok_or(Errno::INVAL)?;
        if parent.is_empty() {
            return Ok(Spot { root: self.root, folder: self.root.as_fd(), name });
        }
        let kept = match self.last.take() {
            Some(kept) if *kept.0 == *parent => kept,
            _ => {
                let parent = path.parent().ok_or(Errno::INVAL)?;
                let folder = self.root.folder(&parent)?;
                (parent.into(), folder)
            }
        };
        let kept = self.last.insert(kept);
        Ok(Spot { root: self.root, folder: kept.1.as_fd(), name })
    }

    /// Closes the parent that is kept open.
    pub fn forget(&mut self) {
        self.last = None;
    }
}

/// The parent of the file that was opened last, kept open as the files of one folder are read in a row. Threads may share it.
///
/// It is for one sync: a folder that is replaced meanwhile goes unnoticed, and what is opened in the one that was there before
/// must be held to what the scan saw.
#[derive(Debug, Default)]
pub struct Near(Mutex<Option<Arc<Parent>>>);

/// A folder's path, and the folder.
type Parent = (Box<[u8]>, OwnedFd);

impl Near {
    fn kept(&self) -> MutexGuard<'_, Option<Arc<Parent>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One component in an open folder: the only thing that a system call is ever given to act on.
#[derive(Clone, Copy, Debug)]
pub struct Spot<'a> {
    root: &'a Root,
    /// The parent.
    pub folder: BorrowedFd<'a>,
    /// The component: no `/`, no NUL, neither `.` nor `..`.
    pub name: &'a [u8],
}

impl Spot<'_> {
    /// What stands here.
    pub fn stat(&self) -> io::Result<Stat> {
        stat_at(self.folder, self.name)
    }

    /// Opens the regular file here for reading, and says what it is.
    ///
    /// Anything else is not opened and fails (a link with `ELOOP`, another file system with `EXDEV`).
    pub fn open_file(&self) -> io::Result<(File, Stat)> {
        // Opening a device can act on it, so what is plainly no file is refused before; the stat of the
        // descriptor then decides, and O_NONBLOCK keeps a fifo that was swapped in from blocking.
        self.root.readable(&self.stat()?)?;
        let file = self.open(FILE)?;
        let stat = stat_of(&file)?;
        self.root.readable(&stat)?;
        Ok((File::from(file), stat))
    }

    /// Opens the folder here. Fails with `ELOOP` or `ENOTDIR` for a link and with `EXDEV` on another file system.
    pub fn open_folder(&self) -> io::Result<OwnedFd> {
        let folder = self.open(FOLDER)?;
        if self.root.is_foreign(&stat_of(&folder)?) { Err(Errno::XDEV.into()) } else { Ok(folder) }
    }

    /// The target of the symbolic link here.
    pub fn read_link(&self) -> io::Result<Box<[u8]>> {
        Ok(rustix::fs::readlinkat(self.folder, self.name, Vec::new())?.into_bytes().into())
    }

    fn open(&self, flags: OFlags) -> Result<OwnedFd, Errno> {
        match system::open_beneath(self.folder, self.name, flags) {
            Err(Errno::NOSYS | Errno::PERM) => {
                rustix::fs::openat(self.folder, self.name, flags, Mode::empty())
            }
            opened => opened,
        }
    }
}

impl Root {
    fn readable(&self, stat: &Stat) -> io::Result<()> {
        match stat.kind {
            _ if self.is_foreign(stat) => Err(Errno::XDEV.into()),
            Kind::File => Ok(()),
            Kind::Link => Err(Errno::LOOP.into()),
            Kind::Folder => Err(Errno::ISDIR.into()),
            Kind::Special => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
        }
    }
}

/// What stands at the single component `name` in `folder`, a link not followed and nothing mounted by looking.
pub(crate) fn stat_at(folder: impl AsFd, name: impl rustix::path::Arg) -> io::Result<Stat> {
    system::stat_at(folder, name)
}

/// What is open at `file`.
pub fn stat_of(file: impl AsFd) -> io::Result<Stat> {
    system::stat_of(file)
}

pub(crate) fn shown(path: &Path) -> String {
    Shown(path.as_os_str().as_encoded_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> Errno {
        Errno::from_io_error(&result.unwrap_err()).unwrap()
    }

    fn refused<T: std::fmt::Debug>(result: io::Result<T>) -> bool {
        matches!(errno(result), Errno::LOOP | Errno::NOTDIR)
    }

    /// `root/d/f`, and beside the root `outside/f`.
    fn tree() -> (tempfile::TempDir, Root) {
        let temp = tempfile::tempdir().unwrap();
        for (folder, content) in [("root/d", "inside"), ("outside", "secret")] {
            fs::create_dir_all(temp.path().join(folder)).unwrap();
            fs::write(temp.path().join(folder).join("f"), content).unwrap();
        }
        let root = Root::open(&temp.path().join("root")).unwrap();
        (temp, root)
    }

    #[test]
    fn a_link_is_seen_as_a_link_and_never_followed() {
        let (temp, root) = tree();
        symlink(temp.path().join("outside/f"), temp.path().join("root/l")).unwrap();
        assert_eq!(root.stat(&path("l")).unwrap().kind, Kind::Link);
        assert_eq!(errno(root.open_file(&path("l"))), Errno::LOOP);
        assert_eq!(
            &*root.read_link(&path("l")).unwrap(),
            temp.path().join("outside/f").as_os_str().as_bytes()
        );
    }

    #[test]
    fn a_folder_swapped_for_a_link_leads_nowhere_on_any_kernel() {
        let (temp, root) = tree();
        assert!(root.open_file(&path("d/f")).is_ok());
        fs::rename(temp.path().join("root/d"), temp.path().join("root/gone")).unwrap();
        symlink("../outside", temp.path().join("root/d")).unwrap();
        assert!(refused(root.open_file(&path("d/f"))));
        assert!(refused(root.stat(&path("d/f"))));
        assert!(refused(root.folder(&path("d"))));
        assert!(refused(root.walk_to(&path("d"))));
        symlink(temp.path().join("outside"), temp.path().join("root/.syncfiles")).unwrap();
        assert!(refused(root.state()));
        assert!(refused(root.make_state()));
    }

    #[test]
    fn the_root_stays_the_folder_it_was_when_its_name_moves() {
        let (temp, root) = tree();
        fs::rename(temp.path().join("root"), temp.path().join("elsewhere")).unwrap();
        symlink("outside", temp.path().join("root")).unwrap();
        assert_eq!(root.open_file(&path("d/f")).unwrap().1.size, 6);
        assert_eq!(root.walk_to(&path("d")).map(|_| ()).ok(), Some(()));
        assert_eq!(errno(root.stat(&path("f"))), Errno::NOENT);
    }

    #[test]
    fn a_fifo_and_a_socket_are_seen_and_not_opened() {
        let (temp, root) = tree();
        rustix::fs::mkfifoat(CWD, temp.path().join("root/fifo"), Mode::RWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(temp.path().join("root/socket")).unwrap();
        for name in ["fifo", "socket"] {
            assert_eq!(root.stat(&path(name)).unwrap().kind, Kind::Special);
            assert_eq!(root.open_file(&path(name)).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn names_are_bytes() {
        let (temp, root) = tree();
        for name in [&b"\xff\xfe"[..], b"new\nline", &[b'n'; 255]] {
            fs::write(temp.path().join("root/d").join(std::ffi::OsStr::from_bytes(name)), "1").unwrap();
            let there = RelPath::parse(&[b"d/", name].concat()).unwrap();
            assert_eq!(root.open_file(&there).unwrap().1.size, 1);
        }
    }

    #[test]
    fn a_walker_serves_neighbours_from_one_parent_until_it_is_told_to_forget() {
        let (temp, root) = tree();
        let mut walker = Walker::new(&root);
        let there = path("d/f");
        assert!(walker.spot(&there).unwrap().stat().is_ok());
        fs::rename(temp.path().join("root/d"), temp.path().join("root/e")).unwrap();
        assert!(walker.spot(&there).unwrap().stat().is_ok());
        walker.forget();
        assert_eq!(errno(walker.spot(&there).map(|_| ())), Errno::NOENT);
        assert!(walker.spot(&path("e/f")).unwrap().stat().is_ok());
        assert_eq!(errno(walker.spot(&RelPath::root()).map(|_| ())), Errno::INVAL);
    }

    #[test]
    fn the_state_folder_is_made_private_and_is_a_door_of_its_own() {
        let (temp, root) = tree();
        assert_eq!(errno(root.state()), Errno::NOENT);
        let state = root.make_state().unwrap();
        assert_eq!(state.stat_self().unwrap().bits, Bits::of_mode(0o700));
        let stage = state.make_beneath(&Name::parse(b"stage").unwrap()).unwrap();
        fs::write(temp.path().join("root/.syncfiles/stage/1"), "x").unwrap();
        assert_eq!(stage.stat(&path("1")).unwrap().size, 1);
        assert!(root.make_state().is_ok());
    }

    #[test]
    fn a_root_that_is_missing_or_a_file_says_what_to_do() {
        let (temp, _) = tree();
        let missing = Root::open(&temp.path().join("none")).unwrap_err().to_string();
        assert!(missing.contains("no such folder"), "{missing}");
        let file = Root::open(&temp.path().join("root/d/f")).unwrap_err();
        assert!(matches!(file, RootError::NotAFolder(_)));
    }
}
