//! The three-way tree on which decisions are made: base, System 1 and System 2 side by side, path by path.

use super::age::Timestamp;
use super::base::{Base, BaseContent, BaseEntry};
use super::kept::looks_kept;
use super::path::{MAX_DEPTH, Name, RelPath};
use super::side::{Side, Sides};
use super::snapshot::{Folder, Node, Snapshot};
use super::version::Standing;

/// One path as the base, System 1 and System 2 know it, with everything below it that is to be decided.
///
/// Members in which nothing differs may be left out: [`reconcile`](super::reconcile::reconcile) decides the rest
/// alike (it only reports fewer [`Agreed`](super::plan::Why::Agreed) items). The one exception are members with
/// the name of a kept conflict, which stay in. At the root, only an unknown standing means something.
///
/// It travels as a flat list of lines, so that no peer chooses how deep a decoder recurses.
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
    Merger { now, whole: true }.root(base, one, two)
}

/// As [`merge`], without what is settled, and without looking into folders whose digests are known and equal on
/// both sides: whoever keeps the base brings its rows there up to date from either snapshot alone.
pub fn merge_differing(base: &Base, one: &Snapshot, two: &Snapshot, now: Sides<Timestamp>) -> Fork {
    Merger { now, whole: false }.root(base, one, two)
}

/// How the base's rows below `folder` change where both sides are seen to hold what `own` holds there: the new row,
/// or `None` where both hold nothing. For folders that [`merge_differing`] does not look into. Rows at and below
/// unknown paths stay; so do those of files whose hash is not known.
pub fn agreed_rows(base: &Base, own: &Snapshot, folder: &RelPath) -> Vec<(RelPath, Option<BaseEntry>)> {
    let mut rows = Vec::new();
    let below = base.within(folder).iter().filter(|row| row.0 != *folder);
    rows.extend(below.filter(|row| own.find(&row.0).is_none()).map(|row| (row.0.clone(), None)));
    match own.find(folder) {
        Some(Node::Folder(inner)) => hold_rows(base, folder, inner, &mut rows),
        None if folder.is_root() => hold_rows(base, folder, own, &mut rows),
        _ => rows.clear(),
    }
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    rows
}

fn hold_rows(base: &Base, path: &RelPath, folder: &Folder, rows: &mut Vec<(RelPath, Option<BaseEntry>)>) {
    for (name, node) in &folder.members {
        let (Ok(path), Standing::Holds(version)) = (path.join(name), node.standing(Timestamp(0))) else {
            continue;
        };
        let row = BaseEntry::of(&version.content, version.bits);
        if row.is_some() && base.at(&path) != row.as_ref() {
            rows.push((path.clone(), row));
        }
        if let Node::Folder(inner) = node {
            hold_rows(base, &path, inner, rows);
        }
    }
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

    /// Whether nothing is to be decided here or below: both sides hold the same, or both nothing, and the base says so.
    pub fn is_settled(&self) -> bool {
        let here = match (&self.one, &self.two) {
            (Standing::Absent, Standing::Absent) => self.base.is_none(),
            (Standing::Unknown, Standing::Unknown) => true,
            (Standing::Holds(one), Standing::Holds(two)) => {
                one.content.same(&two.content) == Some(true)
                    && one.bits == two.bits
                    && self.base.as_ref().is_some_and(|base| {
                        base.bits == one.bits
                            && base.content != BaseContent::Folder { gone: true }
                            && base.as_content().same(&one.content) == Some(true)
                    })
            }
            _ => false,
        };
        here && self.members.iter().all(|(_, member)| member.is_settled())
    }

    /// Drops every member that is settled, unless its name is that of a kept conflict.
    pub fn prune(&mut self) {
        for (_, member) in &mut self.members {
            member.prune();
        }
        self.members.retain(|(name, member)| !member.is_settled() || looks_kept(name));
    }
}

struct Merger {
    now: Sides<Timestamp>,
    whole: bool,
}

type Rows<'a> = &'a [(RelPath, BaseEntry)];

impl Merger {
    fn root(&self, base: &Base, one: &Snapshot, two: &Snapshot) -> Fork {
        let rows = base.rows();
        let rows = &rows[rows.partition_point(|row| row.0.is_root())..];
        let members =
            if self.enter(one, two) { self.members(rows, 0, 0, Some(one), Some(two)) } else { vec![] };
        Fork { members, ..Fork::default() }
    }

    /// Whether two folders may differ below.
    fn enter(&self, one: &Folder, two: &Folder) -> bool {
        self.whole || one.digest.is_none() || one.digest != two.digest
    }

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
            if self.whole || !fork.is_settled() || looks_kept(&name) {
                members.push((name, fork));
            }
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
        let equal = one.zip(two).is_some_and(|(one, two)| !self.enter(one, two));
        if !unknown && !equal && depth < MAX_DEPTH {
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
