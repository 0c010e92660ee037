//! How a folder of this system is remembered: by its path, whoever asks for it in whatever role.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::core::path::RelPath;
use crate::core::shown::Shown;

/// As many links as the kernel follows in one path.
const LINKS: usize = 40;

/// A path as it is remembered: absolute and without links, also where it leads to nothing (any more). What is not there
/// is taken as written: the same way of writing it leads to the same place before and after a disk is unmounted.
pub fn resolved(path: &Path) -> io::Result<PathBuf> {
    let mut path = std::path::absolute(path)?;
    for _ in 0..LINKS {
        let Some(next) = link_in(&path) else { break };
        path = next;
    }
    Ok(standing(&path))
}

/// The path behind the outermost link in `path` that leads to nothing.
fn link_in(path: &Path) -> Option<PathBuf> {
    let above: Vec<&Path> = path.ancestors().collect();
    let broken = above.into_iter().rev().find(|part| part.is_symlink() && part.canonicalize().is_err())?;
    let target = broken.parent()?.join(broken.read_link().ok()?);
    Some(target.join(path.strip_prefix(broken).ok()?))
}

/// As much of `path` as stands there, without links, and the rest of it.
fn standing(path: &Path) -> PathBuf {
    let found = path.ancestors().find_map(|above| Some((above.canonicalize().ok()?, above)));
    let Some((real, above)) = found else { return path.to_owned() };
    match path.strip_prefix(above) {
        Ok(rest) if !rest.as_os_str().is_empty() => real.join(rest),
        _ => real,
    }
}

/// What the list of known roots calls the folder `sub` of the folder at `path`.
pub(super) fn place_of(path: &Path, sub: &RelPath) -> io::Result<String> {
    let root = resolved(path)?;
    let folder = if sub.is_root() { root } else { root.join(OsStr::from_bytes(sub.as_bytes())) };
    Ok(format!("folder:{}", Shown(folder.as_os_str().as_encoded_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// A root below a link used to be another place once it was gone, and was made anew.
    #[test]
    fn a_folder_is_remembered_alike_while_it_stands_and_when_it_is_gone() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        fs::create_dir_all(at("disk/photos/2026")).unwrap();
        symlink("disk", at("data")).unwrap();
        symlink(at("data/photos"), at("photos")).unwrap();
        symlink("itself", at("itself")).unwrap();
        let typed = ["disk/photos/2026", "data/photos/2026", "photos/2026", "data/../disk/photos/2026"];
        let places = || typed.map(|name| place_of(&at(name), &RelPath::root()).unwrap());
        let before = places();
        assert!(before.iter().all(|place| *place == before[0]), "{before:?}");
        let year = RelPath::parse(b"2026").unwrap();
        assert_eq!(place_of(&at("photos"), &year).unwrap(), before[0]);
        fs::remove_dir(at("disk/photos/2026")).unwrap();
        assert_eq!(places(), before);
        fs::remove_dir(at("disk/photos")).unwrap();
        assert_eq!(places(), before);
        fs::remove_dir(at("disk")).unwrap();
        assert_eq!(places()[..3], before[..3]);
        assert!(resolved(&at("itself/x")).is_ok());
    }
}
