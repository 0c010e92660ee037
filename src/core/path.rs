//! Names and paths below a root. Parsed once, at the edge; afterwards the type is the proof.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::shown::Shown;

/// The longest component, in bytes: what Linux file systems allow.
pub const MAX_NAME: usize = 255;
/// The longest path, in bytes with separators: one less than Linux's `PATH_MAX`.
pub const MAX_PATH: usize = 4095;
/// The most components in a path. Bounds every recursion over a tree.
pub const MAX_DEPTH: usize = 256;
/// The folder, at any depth, that holds a root's own state and is never synchronised.
pub const STATE_FOLDER: &[u8] = b".syncfiles";

/// Why bytes are not a path below a root.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum PathError {
    /// A component is empty (also: a leading, trailing or double `/`).
    #[error("has an empty component")]
    Empty,
    /// A component is `.` or `..`.
    #[error("has a component `.` or `..`")]
    Dots,
    /// A component holds NUL or `/`.
    #[error("holds a NUL or `/` in a component")]
    Forbidden,
    /// A component is [`STATE_FOLDER`].
    #[error("has a component `.syncfiles`, which is reserved")]
    Reserved,
    /// A component has more than [`MAX_NAME`] bytes.
    #[error("has a component of more than 255 bytes")]
    LongName,
    /// More than [`MAX_PATH`] bytes or [`MAX_DEPTH`] components.
    #[error("is longer than 4095 bytes or deeper than 256 folders")]
    Long,
}

/// One component of a path: 1 to 255 bytes without `/` and NUL, not `.`, `..` or `.syncfiles`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Box<[u8]>", into = "Box<[u8]>")]
pub struct Name(Box<[u8]>);

impl Name {
    /// Proves that `bytes` can be one component.
    pub fn parse(bytes: &[u8]) -> Result<Name, PathError> {
        check_name(bytes)?;
        Ok(Name(bytes.into()))
    }

    /// The component's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<Box<[u8]>> for Name {
    type Error = PathError;
    fn try_from(bytes: Box<[u8]>) -> Result<Name, PathError> {
        check_name(&bytes)?;
        Ok(Name(bytes))
    }
}

impl From<Name> for Box<[u8]> {
    fn from(name: Name) -> Box<[u8]> {
        name.0
    }
}

/// A path below a root: components joined by `/`; no component at all is the root itself.
///
/// The order is *path order*: a folder comes before its members, and they come before its next sibling.
#[derive(Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "Box<[u8]>", into = "Box<[u8]>")]
pub struct RelPath(Box<[u8]>);

impl RelPath {
    /// The root itself.
    pub fn root() -> RelPath {
        RelPath::default()
    }

    /// Proves that `bytes` (components joined by `/`) cannot leave the root. Empty bytes are the root.
    pub fn parse(bytes: &[u8]) -> Result<RelPath, PathError> {
        check_path(bytes)?;
        Ok(RelPath(bytes.into()))
    }

    /// The components joined by `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the root itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The components, outermost first.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&byte| byte == b'/').filter(|component| !component.is_empty())
    }

    /// The folder that holds this path; none for the root.
    pub fn parent(&self) -> Option<RelPath> {
        self.split().map(|(parent, _)| RelPath(parent.into()))
    }

    /// The last component; none for the root.
    pub fn name(&self) -> Option<Name> {
        self.split().map(|(_, name)| Name(name.into()))
    }

    /// The parent's bytes and the last component's; none for the root.
    pub fn split(&self) -> Option<(&[u8], &[u8])> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(at) => (&self.0[..at], &self.0[at + 1..]),
            None => (&[], &self.0),
        })
    }

    /// The member `name` of this folder. Fails where the path would become too long or too deep.
    pub fn join(&self, name: &Name) -> Result<RelPath, PathError> {
        if self.is_root() {
            return Ok(RelPath(name.0.clone()));
        }
        let length = self.0.len() + 1 + name.0.len();
        if length > MAX_PATH || self.depth() >= MAX_DEPTH {
            return Err(PathError::Long);
        }
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&self.0);
        bytes.push(b'/');
        bytes.extend_from_slice(&name.0);
        Ok(RelPath(bytes.into()))
    }

    /// The number of components.
    pub fn depth(&self) -> usize {
        if self.is_root() { 0 } else { 1 + self.0.iter().filter(|&&byte| byte == b'/').count() }
    }

    /// Whether this is `folder` or below it.
    pub fn is_within(&self, folder: &RelPath) -> bool {
        self.has_head(&folder.0)
    }

    /// The bytes of the first `depth` components, or of all there are.
    pub(crate) fn head(&self, depth: usize) -> &[u8] {
        let mut ends = self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        match depth.checked_sub(1) {
            Some(last) => &self.0[..ends.nth(last).unwrap_or(self.0.len())],
            None => &[],
        }
    }

    /// Whether these are the bytes of some of its first components.
    pub(crate) fn has_head(&self, head: &[u8]) -> bool {
        head.is_empty() || self.0.strip_prefix(head).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    /// Where this path leads once the folder `from`, or what it is itself, stands at `to`. None where it is not within
    /// `from`, or would become too long or too deep.
    pub fn rebased(&self, from: &RelPath, to: &RelPath) -> Option<RelPath> {
        let rest = if self.is_within(from) { &self.0[from.0.len()..] } else { return None };
        RelPath::parse(&[&to.0, rest].concat()).ok()
    }
}

impl Ord for RelPath {
    fn cmp(&self, other: &RelPath) -> Ordering {
        // `/` sorts before every byte that a component can hold, so a folder's members follow it directly.
        let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
        match self.0.iter().zip(&other.0).find(|(a, b)| a != b) {
            Some((&a, &b)) => rank(a).cmp(&rank(b)),
            None => self.0.len().cmp(&other.0.len()),
        }
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &RelPath) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl TryFrom<Box<[u8]>> for RelPath {
    type Error = PathError;
    fn try_from(bytes: Box<[u8]>) -> Result<RelPath, PathError> {
        check_path(&bytes)?;
        Ok(RelPath(bytes))
    }
}

impl From<RelPath> for Box<[u8]> {
    fn from(path: RelPath) -> Box<[u8]> {
        path.0
    }
}

impl From<Name> for RelPath {
    fn from(name: Name) -> RelPath {
        RelPath(name.0)
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { f.write_str(".") } else { write!(f, "{}", Shown(&self.0)) }
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Shown(&self.0))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Shown(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Shown(&self.0))
    }
}

fn check_path(bytes: &[u8]) -> Result<(), PathError> {
    if bytes.is_empty() {
        return Ok(());
    }
    if bytes.len() > MAX_PATH || bytes.iter().filter(|&&byte| byte == b'/').count() >= MAX_DEPTH {
        return Err(PathError::Long);
    }
    bytes.split(|&byte| byte == b'/').try_for_each(check_name)
}

fn check_name(name: &[u8]) -> Result<(), PathError> {
    match name {
        b"" => Err(PathError::Empty),
        b"." | b".." => Err(PathError::Dots),
        STATE_FOLDER => Err(PathError::Reserved),
        _ if name.len() > MAX_NAME => Err(PathError::LongName),
        _ if name.iter().any(|&byte| byte == 0 || byte == b'/') => Err(PathError::Forbidden),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_that_could_leave_the_root_is_refused() {
        for (bytes, why) in [
            (&b"/etc/passwd"[..], PathError::Empty),
            (b"a//b", PathError::Empty),
            (b"a/", PathError::Empty),
            (b"a/../b", PathError::Dots),
            (b".", PathError::Dots),
            (b"a\0b", PathError::Forbidden),
            (b"a/.syncfiles/index", PathError::Reserved),
        ] {
            assert_eq!(RelPath::parse(bytes), Err(why), "{}", Shown(bytes));
        }
        assert_eq!(RelPath::parse(&[b'x'; 256]), Err(PathError::LongName));
        assert_eq!(RelPath::parse(&[b"a/".repeat(256), b"a".to_vec()].concat()), Err(PathError::Long));
        assert!(RelPath::parse(&[b'x'; 255]).is_ok());
    }

    #[test]
    fn members_follow_their_folder_before_its_next_sibling() {
        let mut paths: Vec<_> =
            ["a.b", "a/z", "a", "a-b", "a/b/c"].map(|p| RelPath::parse(p.as_bytes()).unwrap()).into();
        paths.sort();
        assert_eq!(format!("{paths:?}"), "[a, a/b/c, a/z, a-b, a.b]");
    }

    proptest! {
        #[test]
        fn parsing_is_total_and_what_it_accepts_is_made_of_names(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(path) = RelPath::parse(&bytes) {
                for component in path.components() {
                    prop_assert!(Name::parse(component).is_ok());
                }
                if let (Some(parent), Some(name)) = (path.parent(), path.name()) {
                    prop_assert_eq!(parent.join(&name).unwrap(), path);
                }
            }
        }
    }
}
