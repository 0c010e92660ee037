//! The three-way tree on which decisions are made: base, System 1 and System 2 side by side, path by path.

use super::age::Timestamp;
use super::base::{Base, BaseEntry};
use super::path::{MAX_DEPTH, Name, RelPath};
use super::side::{Side, Sides};
use super::snapshot::{Folder, Node, Snapshot};
use super::version::Standing;

/// One path as the base, System 1 and System 2 know it, with everything below it that is to be decided.
///
/// Members in which nothing differs may be left out: [`reconcile`](super::reconcile::reconcile) decides the rest
/// alike (it only reports fewer [`Agreed`](super::plan::Why::Agreed) items). The one exception are members with
/// the name of a kept conflict, which stay in. At the root, only an unknown standing means something.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fork {
    /// What both sides last agreed on here; absent if they never did.
    pub base: Option<BaseEntry>,
    /// What stands here on System 1.
    pub one: Standing,
    /// What stands here on System 2.
    pub two: Standing,
    /// Members in order of their names. None below an unknown.
    pub members: Vec<(Name, Fork)>,
}

/// Merges everything below two roots, settled or not. `now` is each side's clock at the hello.
pub fn merge(base: &Base, one: &Snapshot, two: &Snapshot, now: Sides<Timestamp>) -> Fork {
    let rows = base.rows();
    let rows = &rows[rows.partition_point(|row| row.0.is_root())..];
    Fork { members: Merger { now }.members(rows, 0, 0, Some(one), Some(two)), ..Fork::default() }
}

impl Fork {
    /// What stands here on `side`.
    pub fn at(&self, side: Side) -> &Standing {
        match side {
            Side::One => &self.one,
            Side::Two => &self.two,
        }
    }

    /// What stands here on both sides.
    pub fn standings(&self) -> Sides<Standing> {
        Sides { one: self.one.clone(), two: self.two.clone() }
    }

    /// The fork at `path` below this one, to change it: for filling in hashes that were asked for.
    pub fn find_mut(&mut self, path: &RelPath) -> Option<&mut Fork> {
        path.components().try_fold(self, |fork, name| {
            let at = fork.members.binary_search_by(|(n, _)| n.as_bytes().cmp(name)).ok()?;
            Some(&mut fork.members[at].1)
        })
    }
}

struct Merger {
    now: Sides<Timestamp>,
}

type Rows<'a> = &'a [(RelPath, BaseEntry)];

impl Merger {
    /// The members of a folder, whose names begin at byte `start` of `rows`.
    fn members(
        &self,
        mut rows: Rows<'_>,
        start: usize,
        depth: usize,
        one: Option<&Folder>,
        two: Option<&Folder>,
    ) -> Vec<(Name, Fork)> {
        let held = [one, two].into_iter().flatten().flat_map(|folder| folder.members.iter().map(|(n, _)| n));
        let mut names: Vec<Name> = held.cloned().collect();
        names.extend(rows.iter().filter_map(|row| Name::parse(component(row, start)).ok()));
        names.sort();
        names.dedup();
        let mut members = Vec::new();
        for name in names {
            let bytes = name.as_bytes();
            let group = rows.partition_point(|row| component(row, start) == bytes);
            let (own, rest) = rows.split_at(group);
            rows = rest;
            let (one, two) = (one.and_then(|f| f.member(bytes)), two.and_then(|f| f.member(bytes)));
            let fork = self.fork(own, start + bytes.len(), depth + 1, one, two);
            members.push((name, fork));
        }
        members
    }

    /// The fork of a path of `length` bytes; `rows` are the base's at and below it.
    fn fork(
        &self,
        rows: Rows<'_>,
        length: usize,
        depth: usize,
        one: Option<&Node>,
        two: Option<&Node>,
    ) -> Fork {
        let (own, below) = rows.split_at(rows.partition_point(|row| row.0.as_bytes().len() == length).min(1));
        let standing = |node: Option<&Node>, now| node.map_or(Standing::Absent, |node| node.standing(now));
        let mut fork = Fork {
            base: own.first().map(|row| row.1.clone()),
            one: standing(one, self.now.one),
            two: standing(two, self.now.two),
            members: Vec::new(),
        };
        let unknown = fork.one == Standing::Unknown || fork.two == Standing::Unknown;
        let (one, two) = (one.and_then(as_folder), two.and_then(as_folder));
        if !unknown && depth < MAX_DEPTH {
            fork.members = self.members(below, length + 1, depth, one, two);
        }
        fork
    }
}

fn component(row: &(RelPath, BaseEntry), start: usize) -> &[u8] {
    let rest = row.0.as_bytes().get(start..).unwrap_or_default();
    rest.split(|&byte| byte == b'/').next().unwrap_or_default()
}

fn as_folder(node: &Node) -> Option<&Folder> {
    if let Node::Folder(folder) = node { Some(folder) } else { None }
}
