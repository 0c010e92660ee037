//! A merged tree as it crosses the wire: System 2's half and the base; System 1 adds its own half.
//!
//! Both ends must hold the very same tree. It has, below a folder that both sides have, the paths that differ;
//! and below a folder that only System 1 has (System 2 has nothing or no folder there), all of System 1's. The
//! rows therefore leave out what only System 1 has inside such a folder: System 1 knows it.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::core::age::Timestamp;
use crate::core::base::BaseEntry;
use crate::core::merge::Fork;
use crate::core::path::{MAX_DEPTH, Name};
use crate::core::side::Sides;
use crate::core::snapshot::{Folder, Node};
use crate::core::version::Standing;

/// One path that differs, or a folder above one, in path order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Row {
    /// 1 for a member of the root, 2 for a member of the last row of depth 1, and so on.
    pub depth: u16,
    /// The last component.
    pub name: Name,
    /// What stands there on System 2.
    pub two: Standing,
    /// What the base says.
    pub base: Option<BaseEntry>,
}

/// Rows that do not make a tree: a depth that skips a level, or names out of order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the other end sent rows that make no tree")]
pub struct RowError;

/// The rows of a merged tree, as System 2 sends them.
pub fn rows_of(tree: &Fork) -> Vec<Row> {
    let mut rows = Vec::new();
    push_members(tree, 1, false, &mut rows);
    rows
}

fn push_members(fork: &Fork, depth: u16, within: bool, rows: &mut Vec<Row>) {
    for (name, member) in &fork.members {
        if within && is_only_one(member) {
            continue;
        }
        rows.push(Row { depth, name: name.clone(), two: member.two.clone(), base: member.base.clone() });
        push_members(member, depth + 1, is_whole(member), rows);
    }
}

/// Whether nobody but System 1 has anything here or below.
fn is_only_one(fork: &Fork) -> bool {
    fork.two == Standing::Absent && fork.base.is_none() && fork.members.iter().all(|(_, m)| is_only_one(m))
}

/// Whether all that System 1 has below belongs to the tree: it has a folder where System 2 has none.
pub fn is_whole(fork: &Fork) -> bool {
    is_folder(&fork.one) && !is_folder(&fork.two) && fork.two != Standing::Unknown
}

fn is_folder(standing: &Standing) -> bool {
    standing.version().is_some_and(|version| version.content.is_folder())
}

/// Builds, on System 1, the tree that System 2 described, with System 1's half from its own snapshot
/// (each side's clock at the hello being `now`).
pub fn tree_of(rows: Vec<Row>, own: &Folder, now: Sides<Timestamp>) -> Result<Fork, RowError> {
    let mut rows = rows.into_iter().peekable();
    let root = Node::Folder(Folder::default());
    let mut root = Fork { one: root.standing(now.one), two: root.standing(now.two), ..Fork::default() };
    root.members = members(&mut rows, 1, Some(own), false, now.one)?;
    if rows.next().is_some() { Err(RowError) } else { Ok(root) }
}

type Rows = std::iter::Peekable<std::vec::IntoIter<Row>>;

/// The members of one folder: the rows of this depth, joined with System 1's own members (`all` of them, or
/// only where a row names them).
fn members(
    rows: &mut Rows,
    depth: u16,
    own: Option<&Folder>,
    all: bool,
    now: Timestamp,
) -> Result<Vec<(Name, Fork)>, RowError> {
    if usize::from(depth) > MAX_DEPTH + 1 {
        return Err(RowError);
    }
    let mut members: Vec<(Name, Fork)> = Vec::new();
    let mut rest = own.filter(|_| all).map_or(&[][..], |folder| &folder.members[..]);
    while let Some(row) = rows.next_if(|row| row.depth == depth) {
        let before = rest.partition_point(|(name, _)| *name < row.name);
        members.extend(rest[..before].iter().map(|(name, node)| (name.clone(), only_one(node, now))));
        rest = &rest[before..];
        rest = rest.strip_prefix_named(&row.name);
        if members.last().is_some_and(|(last, _)| *last >= row.name) {
            return Err(RowError);
        }
        let node = own.and_then(|folder| folder.member(row.name.as_bytes()));
        let mut fork = Fork { base: row.base, two: row.two, ..Fork::default() };
        fork.one = node.map_or(Standing::Absent, |node| node.standing(now));
        let inner = if let Some(Node::Folder(folder)) = node { Some(folder) } else { None };
        let below = self::members(rows, depth + 1, inner, is_whole(&fork), now)?;
        if fork.one != Standing::Unknown && fork.two != Standing::Unknown {
            fork.members = below;
        }
        members.push((row.name, fork));
    }
    if rows.peek().is_some_and(|row| row.depth > depth) {
        return Err(RowError);
    }
    members.extend(rest.iter().map(|(name, node)| (name.clone(), only_one(node, now))));
    Ok(members)
}

/// A tree that only System 1 has.
pub fn only_one(node: &Node, now: Timestamp) -> Fork {
    let below = if let Node::Folder(folder) = node { &folder.members[..] } else { &[] };
    Fork {
        one: node.standing(now),
        members: below.iter().map(|(name, node)| (name.clone(), only_one(node, now))).collect(),
        ..Fork::default()
    }
}

trait StripNamed {
    fn strip_prefix_named(self, name: &Name) -> Self;
}

impl StripNamed for &[(Name, Node)] {
    /// Without the first member, if that is `name`.
    fn strip_prefix_named(self, name: &Name) -> Self {
        match self.split_first() {
            Some(((first, _), rest)) if first == name => rest,
            _ => self,
        }
    }
}
