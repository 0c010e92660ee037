//! A folder as it stood when the process was confined to it: such a process reaches that very folder, and not what is
//! mounted or put there later.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pinned {
    /// Where it stands.
    pub path: PathBuf,
    device: u64,
    inode: u64,
}

impl Pinned {
    /// What stands at `path` now, links followed.
    ///
    /// # Errors
    /// Nothing does, or it cannot be seen.
    pub fn of(path: &Path) -> io::Result<Pinned> {
        let about = std::fs::metadata(path)?;
        Ok(Pinned { path: path.to_owned(), device: about.dev(), inode: about.ino() })
    }

    /// Whether it cannot be reached any more: something else stands there, or the same file system was mounted again, which
    /// a confined process may not look into. Where nothing stands, whoever opens it says so.
    pub fn is_lost(&self) -> bool {
        match Pinned::of(&self.path) {
            Ok(now) if now == *self => {
                matches!(File::open(&self.path), Err(error) if error.kind() == io::ErrorKind::PermissionDenied)
            }
            Ok(_) => true,
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_folder_in_its_place_is_told_apart_from_the_same_one_and_from_none() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("root");
        std::fs::create_dir(&path).unwrap();
        let pinned = Pinned::of(&path).unwrap();
        std::fs::write(path.join("a"), "changes nothing").unwrap();
        assert!(!pinned.is_lost());
        std::fs::rename(&path, home.path().join("old")).unwrap();
        assert!(!pinned.is_lost());
        std::fs::create_dir(&path).unwrap();
        assert!(pinned.is_lost());
    }
}
