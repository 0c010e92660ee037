//! What a run leaves in its staging folder: which of it is ours by its name, and goes.

use std::io;
use std::os::fd::AsFd;

use super::rename::At;
use super::root::{Kind, Root, Stat};

/// Whether an entry is what its name says that a run staged.
pub(super) fn is_recorded(name: &[u8], stat: &Stat) -> bool {
    let hex = |digits: &[u8]| {
        std::str::from_utf8(digits).ok().and_then(|digits| u128::from_str_radix(digits, 16).ok())
    };
    let Some((&kind, rest)) = name.split_first() else { return false };
    let mut parts = rest.splitn(2, |&byte| byte == b'-');
    let number = parts.next().and_then(hex);
    let size = parts.next().map(hex);
    match (kind, number, size) {
        (b's' | b'r', Some(_), Some(Some(size))) => {
            stat.kind == Kind::File && stat.links == 1 && u128::from(stat.size) <= size
        }
        (b'l', Some(_), None) => stat.kind == Kind::Link,
        (b'd' | b'p', Some(_), None) => stat.kind == Kind::Folder,
        _ => false,
    }
}

/// Removes what a run staged and nobody changed. False for anything else: it is left.
pub(super) fn clear(folder: &Root, name: &[u8]) -> io::Result<bool> {
    let at = At { folder: folder.as_fd(), name };
    let Some(stat) = at.stat()? else { return Ok(true) };
    if !is_recorded(name, &stat) {
        return Ok(false);
    }
    match if stat.kind == Kind::Folder { at.rmdir() } else { at.unlink() } {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
        removed => removed.map(|()| true),
    }
}

/// Removes the folder `name`, unless it holds anything.
pub(super) fn remove_if_empty(parent: &Root, name: &[u8]) -> io::Result<()> {
    use io::ErrorKind::{DirectoryNotEmpty, NotFound};
    match (At { folder: parent.as_fd(), name }).rmdir() {
        Err(error) if matches!(error.kind(), DirectoryNotEmpty | NotFound) => Ok(()),
        removed => removed,
    }
}
