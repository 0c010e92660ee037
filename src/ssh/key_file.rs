//! Reading the small files that keys live in: bounded, never a fifo or a device, and secret ones only if
//! they are secret.

use std::fs::{Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use crate::core::shown::Shown;

/// The most bytes a private key file may have; an RSA key of 16 384 bits needs 13 000.
const PRIVATE_CAP: u64 = 64 * 1024;

/// Why a private key file was not read.
#[derive(Debug)]
pub(super) enum Unread {
    /// Group or others may touch it; the permission bits.
    Exposed(u32),
    /// It could not be read, or is no text.
    Io(io::Error),
}

/// Reads a private key's text, unless group or others may read, write or execute the file.
///
/// The permissions are those of the open descriptor, so the file that was checked is the file that is read.
pub(super) fn read_private(path: &Path) -> Result<String, Unread> {
    let (bytes, about) =
        read_small(path, PRIVATE_CAP, |about| about.mode() & 0o077 == 0).map_err(Unread::Io)?;
    let Some(bytes) = bytes else { return Err(Unread::Exposed(about.mode() & 0o777)) };
    String::from_utf8(bytes).map_err(|_| Unread::Io(io::Error::other("it is not a text file")))
}

/// Reads a regular file of at most `cap` bytes; nothing is read if `fit` says no to what was opened.
pub(super) fn read_small(
    path: &Path,
    cap: u64,
    fit: impl FnOnce(&Metadata) -> bool,
) -> io::Result<(Option<Vec<u8>>, Metadata)> {
    // Without O_NONBLOCK the open itself would wait for a fifo's writer.
    let nonblock = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(nonblock).open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    if !fit(&about) {
        return Ok((None, about));
    }
    let mut bytes = Vec::new();
    file.take(cap + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > cap {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {cap} bytes")));
    }
    Ok((Some(bytes), about))
}

/// A path as it may be printed.
pub(super) fn shown(path: &Path) -> Shown<'_> {
    Shown(path.as_os_str().as_bytes())
}
