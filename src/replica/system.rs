//! What only some kernels can do, and the nearest thing elsewhere. Everything that asks which kernel this is stands here.
//!
//! Linux is what this is made for and tested on. On macOS it compiles and has not run.

#[cfg(target_os = "linux")]
#[path = "system/linux.rs"]
mod kernel;
#[cfg(not(target_os = "linux"))]
#[path = "system/elsewhere.rs"]
mod kernel;

pub(super) use self::kernel::{
    RawDir, clone_content, name_of, open_beneath, open_for_bits, set_bits_through, stat_at, stat_of, sync_fs,
};

use std::io;
use std::os::fd::AsFd;

use rustix::fs::Mode;

use crate::core::version::Bits;

/// Permission bits as a system call takes them, whose type is not the same everywhere.
pub(super) fn mode(bits: Bits) -> Mode {
    Mode::from_raw_mode(u16::from(bits).into())
}

/// Gives a folder permission bits. One that passes its group on to what is made in it goes on doing so.
pub(super) fn set_bits_of_folder(folder: impl AsFd, bits: Bits) -> io::Result<()> {
    let has = Mode::from_raw_mode(rustix::fs::fstat(&folder)?.st_mode);
    Ok(rustix::fs::fchmod(&folder, mode(bits) | (has & Mode::SGID))?)
}
