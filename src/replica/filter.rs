//! What a sync does not look at: gitignore patterns from both sides.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::root::Root;
use crate::core::path::{Name, RelPath};
use crate::core::shown::Shown;

/// The file at the root, and only there, that holds patterns for everybody who synchronises it.
pub const IGNORE_FILE: &[u8] = b".syncignore";
/// The most bytes of patterns a side may have.
pub const MAX_BYTES: usize = 64 * 1024;
/// The most patterns a side may have.
pub const MAX_PATTERNS: usize = 1000;
/// The longest pattern in bytes.
pub const MAX_PATTERN: usize = 1024;

/// Why patterns cannot be used. Going on without them would synchronise what was meant to stay.
#[derive(Debug, Error)]
pub enum FilterError {
    /// Over one of the limits.
    #[error(
        "cannot use the exclude patterns: a side may have 1000 of 1024 bytes, 64 KiB in all; write fewer or shorter ones"
    )]
    TooMany,
    /// `.syncignore` is there and cannot be read.
    #[error("cannot read .syncignore: {0}; check its permissions, or move it away")]
    Unreadable(io::Error),
    /// All patterns together are too complex.
    #[error("cannot use the exclude patterns: {0}; write simpler ones")]
    TooComplex(ignore::Error),
}

/// One exclude option of the command line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Choice {
    /// `--exclude PAT`.
    Exclude(String),
    /// `--include PAT`.
    Include(String),
    /// The text of an `--exclude-from FILE`, read as a gitignore file.
    ExcludeFrom(String),
}

/// The patterns of one side: lines of a gitignore file, of which the last that matches decides. They cross the wire.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Rules(Vec<String>);

impl Rules {
    /// From options in the order of the command line, where as in rsync the first that matches decides: an
    /// `--include` wins over every later `--exclude`. A gitignore file reads the other way round, so the options
    /// are turned about; the lines of one file keep their order.
    pub fn of_options(choices: &[Choice]) -> Result<Rules, FilterError> {
        let mut lines = Vec::new();
        for choice in choices.iter().rev() {
            match choice {
                Choice::Exclude(pattern) => lines.push(pattern.clone()),
                Choice::Include(pattern) => lines.push(format!("!{pattern}")),
                Choice::ExcludeFrom(text) => lines.extend(text.lines().map(str::to_owned)),
            }
        }
        Rules::try_from(lines)
    }

    /// Reads [`IGNORE_FILE`] through the door. The texts are notices for the user.
    pub fn of_root(root: &Root) -> Result<(Rules, Vec<String>), FilterError> {
        let bytes = match read_ignore_file(root) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
            Err(error) if is_no_file(&error) => {
                return Ok((Rules::default(), vec!["ignored .syncignore: it is not a regular file".into()]));
            }
            Err(error) => return Err(FilterError::Unreadable(error)),
        };
        if bytes.len() > MAX_BYTES {
            return Err(FilterError::TooMany);
        }
        let (mut lines, mut notices) = (Vec::new(), Vec::new());
        for line in bytes.split(|&byte| byte == b'\n') {
            match std::str::from_utf8(line) {
                Ok(line) => lines.push(line.trim_end_matches('\r').to_owned()),
                Err(_) => notices.push(skipped(line, "it is not UTF-8")),
            }
        }
        Ok((Rules::try_from(lines)?, notices))
    }

    /// These rules, and after them (so that they win) `others` of the same side.
    pub fn then(mut self, others: Rules) -> Result<Rules, FilterError> {
        self.0.extend(others.0);
        Rules::try_from(self.0)
    }
}

impl TryFrom<Vec<String>> for Rules {
    type Error = FilterError;
    fn try_from(mut lines: Vec<String>) -> Result<Rules, FilterError> {
        lines.retain(|line| !line.trim().is_empty() && !line.starts_with('#'));
        let bytes: usize = lines.iter().map(String::len).sum();
        let long = lines.iter().any(|line| line.len() > MAX_PATTERN);
        if lines.len() > MAX_PATTERNS || bytes > MAX_BYTES || long {
            return Err(FilterError::TooMany);
        }
        Ok(Rules(lines))
    }
}

impl From<Rules> for Vec<String> {
    fn from(rules: Rules) -> Vec<String> {
        rules.0
    }
}

/// Judges paths by the rules of both sides, each side's on its own: what either excludes is invisible to both.
#[derive(Debug, Default)]
pub struct Filter {
    sides: Vec<Gitignore>,
}

impl Filter {
    /// From each side's rules. A pattern that is no pattern is skipped; the texts say so.
    pub fn new(sides: &[Rules]) -> Result<(Filter, Vec<String>), FilterError> {
        let (mut filter, mut notices) = (Filter::default(), Vec::new());
        for rules in sides.iter().filter(|rules| !rules.0.is_empty()) {
            let mut builder = GitignoreBuilder::new(".");
            for line in &rules.0 {
                if let Err(error) = builder.add_line(None, line) {
                    notices.push(skipped(line.as_bytes(), Shown(error.to_string().as_bytes())));
                }
            }
            filter.sides.push(builder.build().map_err(FilterError::TooComplex)?);
        }
        Ok((filter, notices))
    }

    /// Whether nothing is excluded at all.
    pub fn is_empty(&self) -> bool {
        self.sides.is_empty()
    }

    /// Whether `path` is excluded, itself or by a folder above it. Nothing below an excluded folder can be
    /// included again: a scan does not go there.
    pub fn excludes(&self, path: &RelPath, is_folder: bool) -> bool {
        let bytes = path.as_bytes();
        let folders = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &bytes[..at]);
        !self.is_empty()
            && (folders.into_iter().any(|folder| self.excludes_itself(folder, true))
                || self.excludes_itself(bytes, is_folder))
    }

    /// As [`excludes`](Filter::excludes), for a path (components joined by `/`) below folders that are known not
    /// to be excluded.
    pub(crate) fn excludes_itself(&self, path: &[u8], is_folder: bool) -> bool {
        let path = Path::new(OsStr::from_bytes(path));
        !path.as_os_str().is_empty()
            && self.sides.iter().any(|side| side.matched(path, is_folder).is_ignore())
    }
}

fn read_ignore_file(root: &Root) -> io::Result<Vec<u8>> {
    let name = Name::parse(IGNORE_FILE).map_err(io::Error::other)?;
    let (file, _) = root.open_file(&name.into())?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A link, folder or special file, on this file system or another.
fn is_no_file(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidInput
        || matches!(Errno::from_io_error(error), Some(Errno::LOOP | Errno::ISDIR | Errno::XDEV))
}

fn skipped(pattern: &[u8], why: impl std::fmt::Display) -> String {
    format!("skipped the exclude pattern {}: {why}", Shown(pattern))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules(lines: &[&str]) -> Rules {
        Rules::try_from(lines.iter().map(|line| line.to_string()).collect::<Vec<_>>()).unwrap()
    }

    fn filter(lines: &[&str]) -> Filter {
        Filter::new(&[rules(lines)]).unwrap().0
    }

    fn path(bytes: impl AsRef<[u8]>) -> RelPath {
        RelPath::parse(bytes.as_ref()).unwrap()
    }

    #[test]
    fn everything_below_an_excluded_folder_is_excluded_and_cannot_return() {
        let filter = filter(&["target/", "!target/keep"]);
        assert!(filter.excludes(&path("target"), true));
        assert!(!filter.excludes(&path("target"), false));
        assert!(filter.excludes(&path("a/target/b/c"), false));
        assert!(filter.excludes(&path("target/keep"), false));
        assert!(!filter.excludes(&RelPath::root(), true));
    }

    #[test]
    fn an_include_wins_over_every_later_exclude_as_in_rsync() {
        use Choice::*;
        let options = [Include("*.c".into()), Exclude("*".into()), Include("x".into())];
        let (filter, _) = Filter::new(&[Rules::of_options(&options).unwrap()]).unwrap();
        assert!(!filter.excludes(&path("main.c"), false));
        assert!(filter.excludes(&path("main.o"), false));
        assert!(filter.excludes(&path("x"), false));
        let from = Rules::of_options(&[ExcludeFrom("*.o\n# note\n\n!a.o\n".into())]).unwrap();
        assert_eq!(from, rules(&["*.o", "!a.o"]));
    }

    #[test]
    fn what_either_side_excludes_is_invisible_to_both() {
        let (filter, _) = Filter::new(&[rules(&["*.a"]), rules(&["*.b", "!*.a"])]).unwrap();
        assert!(filter.excludes(&path("x.a"), false) && filter.excludes(&path("x.b"), false));
        assert!(!filter.excludes(&path("x.c"), false));
    }

    #[test]
    fn names_are_bytes_for_patterns_too() {
        let filter = filter(&["*.tmp", "/d?r/f"]);
        for name in [&b"\xff\xfe.tmp"[..], b"new\nline.tmp", b"a/\xe9/b.tmp", b"d\xffr/f", b"d\nr/f"] {
            assert!(filter.excludes(&path(name), false), "{}", Shown(name));
        }
        assert!(!filter.excludes(&path(b"\xff.tmpx"), false));
    }

    #[test]
    fn a_bad_pattern_is_skipped_with_a_notice_and_the_rest_hold() {
        let (filter, notices) = Filter::new(&[rules(&["[z-a]", "*.o"])]).unwrap();
        assert_eq!(notices.len(), 1, "{notices:?}");
        assert!(filter.excludes(&path("x.o"), false));
    }

    #[test]
    fn rules_over_a_limit_do_not_cross_the_wire() {
        for lines in [vec!["x".to_owned(); 1001], vec!["x".repeat(1025)], vec!["x".repeat(1000); 66]] {
            let wire = postcard::to_stdvec(&lines).unwrap();
            assert!(postcard::from_bytes::<Rules>(&wire).is_err());
        }
        let wire = postcard::to_stdvec(&rules(&["a", "!b"])).unwrap();
        assert_eq!(postcard::from_bytes::<Rules>(&wire).unwrap(), rules(&["a", "!b"]));
    }

    #[test]
    fn only_a_regular_ignore_file_at_the_root_counts() {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::open(temp.path()).unwrap();
        assert_eq!(Rules::of_root(&root).unwrap(), (Rules::default(), vec![]));
        let file = temp.path().join(".syncignore");
        std::fs::write(&file, b"*.o\r\n# note\n\xff\n!a.o").unwrap();
        let (read, notices) = Rules::of_root(&root).unwrap();
        assert_eq!((read, notices.len()), (rules(&["*.o", "!a.o"]), 1));
        std::fs::write(&file, "x\n".repeat(40_000)).unwrap();
        assert!(matches!(Rules::of_root(&root), Err(FilterError::TooMany)));
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
        assert_eq!(Rules::of_root(&root).unwrap().1.len(), 1);
    }

    proptest! {
        #[test]
        fn no_pattern_of_a_peer_panics(lines in proptest::collection::vec(".{0,20}", 0..8), name in "[a-c/.*]{1,9}") {
            let built = Rules::try_from(lines).and_then(|rules| Filter::new(&[rules]));
            if let (Ok((filter, _)), Ok(path)) = (built, RelPath::parse(name.as_bytes())) {
                filter.excludes(&path, true);
            }
        }
    }
}
