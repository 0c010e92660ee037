//! SHA-256 of files, held to what the scan saw of them. Reads, never maps: a file cut short while mapped kills
//! the process.

use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use thiserror::Error;

use super::root::{Root, Stat, Walker, stat_of};
use super::source::is_gone;
use crate::core::digest::{Digest, Hasher};
use crate::core::path::RelPath;
use crate::core::snapshot;

/// Bytes read at once: large enough for the system call not to count, small enough for the cache.
const BUFFER: usize = 256 * 1024;

/// Why a file has no hash. The path is the caller's to name.
#[derive(Debug, Error)]
pub enum HashError {
    /// It is not what the scan saw, or was written to while it was read.
    #[error("changed since it was scanned; the next run settles it")]
    Changed,
    /// It is no longer there.
    #[error("vanished since it was scanned; the next run settles it")]
    Vanished,
    /// The system refused.
    #[error("cannot be read: {0}; check its permissions and its disk")]
    Unreadable(io::Error),
}

/// A file to hash, as the scan saw it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Where.
    pub path: RelPath,
    /// What must stand there; the hash in it is not looked at.
    pub file: snapshot::File,
}

/// Hashes the file at `path`, which must be and stay what the scan saw: inode, size, modification and change time.
pub fn hash(root: &Root, path: &RelPath, expected: &snapshot::File) -> Result<Digest, HashError> {
    Reader::new(root).hash(path, expected)
}

/// Hashes many files on at most `threads` threads; results come in no order, from several threads at once.
pub fn hash_many(
    root: &Root,
    wanted: &[Wanted],
    threads: usize,
    on_result: &(dyn Fn(&Wanted, Result<Digest, HashError>) + Sync),
) {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut reader = Reader::new(root);
        while let Some(one) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            on_result(one, reader.hash(&one.path, &one.file));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(wanted.len()) {
            // A thread that the system refuses is one fewer; this one does the work all the same.
            let _ = std::thread::Builder::new().name("hash".into()).spawn_scoped(scope, work);
        }
        work();
    });
}

/// As [`hash_many`], and returns the results in the order of `wanted`.
pub fn hash_all(root: &Root, wanted: &[Wanted], threads: usize) -> Vec<(RelPath, Result<Digest, HashError>)> {
    let results = Mutex::new(Vec::with_capacity(wanted.len()));
    hash_many(root, wanted, threads, &|one, result| {
        results.lock().unwrap_or_else(PoisonError::into_inner).push((one.path.clone(), result));
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by(|a, b| a.0.cmp(&b.0));
    results
}

/// One thread's buffer and open parent folder.
struct Reader<'r> {
    walker: Walker<'r>,
    buffer: Vec<u8>,
}

impl<'r> Reader<'r> {
    fn new(root: &'r Root) -> Reader<'r> {
        Reader { walker: Walker::new(root), buffer: vec![0; BUFFER] }
    }

    /// A file that was written to while it was read is tried once more: it may be as scanned after all, as when
    /// only its access was noted by a file system that counts that as a change.
    fn hash(&mut self, path: &RelPath, expected: &snapshot::File) -> Result<Digest, HashError> {
        match self.attempt(path, expected) {
            Err(HashError::Changed) => self.attempt(path, expected),
            done => done,
        }
    }

    fn attempt(&mut self, path: &RelPath, expected: &snapshot::File) -> Result<Digest, HashError> {
        let (file, before) = self.walker.spot(path).and_then(|spot| spot.open_file()).map_err(because)?;
        if !is_as_seen(&before, expected) {
            return Err(HashError::Changed);
        }
        let (digest, length) = self.read(&file).map_err(HashError::Unreadable)?;
        let after = stat_of(&file).map_err(HashError::Unreadable)?;
        if length == expected.size && is_as_seen(&after, expected) {
            Ok(digest)
        } else {
            Err(HashError::Changed)
        }
    }

    /// Reads to the end, or just past the size that was seen: a file that grows for ever is not followed.
    fn read(&mut self, file: &File) -> io::Result<(Digest, u64)> {
        let limit = stat_of(file)?.size.saturating_add(1);
        let mut source = file.take(limit);
        let (mut hasher, mut length) = (Hasher::new(), 0);
        loop {
            match source.read(&mut self.buffer) {
                Ok(0) => return Ok((hasher.finish(), length)),
                Ok(count) => {
                    hasher.update(&self.buffer[..count]);
                    length += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether `stat` shows the file that was scanned, unchanged.
pub fn is_as_seen(stat: &Stat, expected: &snapshot::File) -> bool {
    (stat.seen, stat.size, stat.modified) == (expected.seen, expected.size, expected.modified)
}

/// Something else than a file now stands there, nothing does, or the system refused.
fn because(error: io::Error) -> HashError {
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT) => HashError::Vanished,
        _ if is_gone(&error) => HashError::Changed,
        _ => HashError::Unreadable(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    fn scanned(root: &Root, at: &str) -> snapshot::File {
        let stat = root.stat(&path(at)).unwrap();
        let (size, bits, modified, seen) = (stat.size, stat.bits, stat.modified, stat.seen);
        snapshot::File { size, sha256: None, bits, modified, edited: modified, seen }
    }

    #[test]
    fn many_files_are_hashed_and_each_is_its_own() {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::open(temp.path()).unwrap();
        let texts = [("a", "".into()), ("b", "b".into()), ("c", "long".repeat(200_000))];
        for (name, text) in &texts {
            fs::write(temp.path().join(name), text).unwrap();
        }
        let wanted: Vec<_> =
            texts.iter().map(|(name, _)| Wanted { path: path(name), file: scanned(&root, name) }).collect();
        for (result, (name, text)) in hash_all(&root, &wanted, 4).into_iter().zip(&texts) {
            assert_eq!(result.0, path(name));
            assert_eq!(result.1.unwrap(), Digest::of(text.as_bytes()));
        }
    }

    #[test]
    fn a_file_that_is_not_what_was_scanned_has_no_hash() {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::open(temp.path()).unwrap();
        let at = |name: &str| temp.path().join(name);
        for name in ["grown", "gone", "link", "fifo"] {
            fs::write(at(name), "1").unwrap();
        }
        let seen = ["grown", "gone", "link", "fifo"].map(|name| scanned(&root, name));
        fs::write(at("grown"), "12").unwrap();
        fs::remove_file(at("gone")).unwrap();
        fs::rename(at("link"), at("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", at("link")).unwrap();
        fs::remove_file(at("fifo")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), rustix::fs::Mode::RWXU).unwrap();
        assert!(matches!(hash(&root, &path("grown"), &seen[0]), Err(HashError::Changed)));
        assert!(matches!(hash(&root, &path("gone"), &seen[1]), Err(HashError::Vanished)));
        assert!(matches!(hash(&root, &path("link"), &seen[2]), Err(HashError::Changed)));
        assert!(matches!(hash(&root, &path("fifo"), &seen[3]), Err(HashError::Changed)));
    }

    #[test]
    fn the_same_bytes_written_again_are_a_change() {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::open(temp.path()).unwrap();
        fs::write(temp.path().join("f"), "1").unwrap();
        let mut seen = scanned(&root, "f");
        seen.seen.changed.0 -= 1;
        assert!(matches!(hash(&root, &path("f"), &seen), Err(HashError::Changed)));
    }
}
