//! How a [`Fork`] travels: as a flat list of lines, so that no peer chooses how deep a decoder recurses.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use super::base::BaseEntry;
use super::merge::Fork;
use super::path::{MAX_DEPTH, MAX_PATH, Name};
use super::version::Standing;

/// Why lines are not a [`Fork`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ForkError {
    /// A line is deeper than its predecessor allows, or than any path is.
    #[error("a line of the tree of differences is too deep")]
    Depth,
    /// Names in a folder do not ascend.
    #[error("the tree of differences is out of order")]
    Order,
}

/// One path of a [`Fork`] on the wire: parents before members, members in order. The root is not a line.
#[derive(Serialize, Deserialize)]
struct Line {
    /// Components before the name.
    depth: u16,
    name: Name,
    base: Option<BaseEntry>,
    one: Standing,
    two: Standing,
}

#[derive(Serialize, Deserialize)]
struct Lines {
    root: (Standing, Standing),
    lines: Vec<Line>,
}

impl Serialize for Fork {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut lines = Vec::new();
        write_lines(&self.members, 0, &mut lines);
        Lines { root: (self.one.clone(), self.two.clone()), lines }.serialize(serializer)
    }
}

fn write_lines(members: &[(Name, Fork)], depth: u16, lines: &mut Vec<Line>) {
    for (name, Fork { base, one, two, members }) in members {
        let (base, one, two) = (base.clone(), one.clone(), two.clone());
        lines.push(Line { depth, name: name.clone(), base, one, two });
        write_lines(members, depth.saturating_add(1), lines);
    }
}

impl<'de> Deserialize<'de> for Fork {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fork, D::Error> {
        let Lines { root: (one, two), lines } = Lines::deserialize(deserializer)?;
        let members = read_lines(lines).map_err(serde::de::Error::custom)?;
        Ok(Fork { base: None, one, two, members })
    }
}

/// Rebuilds the tree with a stack of open folders, so that depth and length are checked before anything nests.
fn read_lines(lines: Vec<Line>) -> Result<Vec<(Name, Fork)>, ForkError> {
    let mut open: Vec<(Name, Fork)> = Vec::new();
    let mut top: Vec<(Name, Fork)> = Vec::new();
    let mut length = 0;
    for Line { depth, name, base, one, two } in lines {
        let depth = usize::from(depth);
        if depth > open.len() || depth >= MAX_DEPTH {
            return Err(ForkError::Depth);
        }
        while open.len() > depth {
            length -= close(&mut open, &mut top)?;
        }
        length += name.as_bytes().len() + 1;
        if length > MAX_PATH + 1 {
            return Err(ForkError::Depth);
        }
        open.push((name, Fork { base, one, two, members: Vec::new() }));
    }
    while !open.is_empty() {
        close(&mut open, &mut top)?;
    }
    Ok(top)
}

/// Moves the innermost open fork into its parent; returns the bytes that its name took in a path.
fn close(open: &mut Vec<(Name, Fork)>, top: &mut Vec<(Name, Fork)>) -> Result<usize, ForkError> {
    let Some((name, fork)) = open.pop() else { return Ok(0) };
    let siblings = open.last_mut().map_or(top, |(_, parent)| &mut parent.members);
    if siblings.last().is_some_and(|(last, _)| *last >= name) {
        return Err(ForkError::Order);
    }
    let length = name.as_bytes().len() + 1;
    siblings.push((name, fork));
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(depth: u16, name: &[u8]) -> Line {
        let name = Name::parse(name).unwrap();
        Line { depth, name, base: None, one: Standing::Absent, two: Standing::Unknown }
    }

    #[test]
    fn lines_that_skip_a_level_or_go_deeper_than_a_path_are_refused() {
        assert_eq!(read_lines(vec![line(1, b"a")]), Err(ForkError::Depth));
        assert_eq!(read_lines(vec![line(0, b"a"), line(2, b"b")]), Err(ForkError::Depth));
        let deep: Vec<Line> = (0..300).map(|depth| line(depth, b"a")).collect();
        assert_eq!(read_lines(deep), Err(ForkError::Depth));
        let long: Vec<Line> = (0..20).map(|depth| line(depth, &[b'a'; 255])).collect();
        assert_eq!(read_lines(long), Err(ForkError::Depth));
    }

    #[test]
    fn lines_out_of_order_are_refused() {
        assert_eq!(read_lines(vec![line(0, b"b"), line(0, b"a")]), Err(ForkError::Order));
        assert_eq!(read_lines(vec![line(0, b"a"), line(1, b"x"), line(1, b"x")]), Err(ForkError::Order));
        let tree = read_lines(vec![line(0, b"a"), line(1, b"x"), line(0, b"b")]).unwrap();
        assert_eq!((tree.len(), tree[0].1.members.len()), (2, 1));
    }
}
