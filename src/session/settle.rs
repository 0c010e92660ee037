//! What is left of a comparison once every hash that matters is known, and what the base must learn of the rest.

use super::compare::{Comparison, same};
use super::scanned::Scanned;
use crate::core::base::{Base, BaseEntry, members_of};
use crate::core::kept::looks_kept;
use crate::core::merge::Fork;
use crate::core::path::RelPath;
use crate::core::snapshot::{Folder, Node};
use crate::core::version::{Bits, Content, Standing};

/// Takes out of the tree what turned out to be equal on both sides, and adds it to `settled`.
pub(crate) fn prune(tree: &mut Fork, path: &RelPath, settled: &mut Vec<RelPath>) {
    tree.members.retain_mut(|(name, fork)| {
        let Ok(inner) = path.join(name) else { return true };
        prune(fork, &inner, settled);
        if !fork.members.is_empty() || !is_equal(&fork.one, &fork.two) || looks_kept(name) {
            return true;
        }
        // A folder's row is its own; what was below it has been settled path by path.
        match fork.one.version().map(|version| &version.content) {
            Some(Content::Folder) => fork.base != agreed(&fork.one),
            Some(_) => {
                settled.push(inner);
                false
            }
            None => true,
        }
    });
}

fn is_equal(one: &Standing, two: &Standing) -> bool {
    one.version().is_some() && same(one, two)
}

fn agreed(standing: &Standing) -> Option<BaseEntry> {
    let version = standing.version()?;
    BaseEntry::of(&version.content, version.bits)
}

/// The changes that bring the base's rows at and below `path` up to what both sides hold there, which is what
/// System 2 holds (`node`). Rows of paths that System 2 knows nothing about, or that are excluded, stay.
fn base_changes(
    path: &RelPath,
    node: &Node,
    base: &Base,
    excluded: &dyn Fn(&RelPath, bool) -> bool,
    changes: &mut Vec<(RelPath, Option<BaseEntry>)>,
) {
    let entry = entry_of(node);
    let rows = base.within(path);
    let (row, below) = match rows.split_first() {
        Some(((first, row), below)) if first == path => (Some(row), below),
        _ => (None, rows),
    };
    let Some(entry) = entry else { return };
    if row != Some(&entry) {
        changes.push((path.clone(), Some(entry)));
    }
    let empty = Folder::default();
    let folder = if let Node::Folder(folder) = node { folder } else { &empty };
    settle_members(path, folder, below, base, excluded, changes);
}

/// As [`base_changes`], for the members of a folder, whose rows in the base are `rows`.
fn settle_members(
    path: &RelPath,
    folder: &Folder,
    rows: &[(RelPath, BaseEntry)],
    base: &Base,
    excluded: &dyn Fn(&RelPath, bool) -> bool,
    changes: &mut Vec<(RelPath, Option<BaseEntry>)>,
) {
    for (name, node) in &folder.members {
        if let Ok(inner) = path.join(name) {
            base_changes(&inner, node, base, excluded, changes);
        }
    }
    for member in members_of(rows, path.depth()) {
        let Ok(inner) = path.join(&member.name) else { continue };
        if folder.member(member.name.as_bytes()).is_none() {
            forget(&inner, base, excluded, changes);
        }
    }
}

/// Both sides have nothing at `path`: its rows go, unless the rules hide it.
fn forget(
    path: &RelPath,
    base: &Base,
    excluded: &dyn Fn(&RelPath, bool) -> bool,
    changes: &mut Vec<(RelPath, Option<BaseEntry>)>,
) {
    for (path, entry) in base.within(path) {
        if !excluded(path, entry.as_content().is_folder()) {
            changes.push((path.clone(), None));
        }
    }
}

fn entry_of(node: &Node) -> Option<BaseEntry> {
    let (content, bits) = match node {
        Node::File(file) => (Content::File { size: file.size, sha256: file.sha256 }, file.bits),
        Node::Link(link) => (Content::Link { target: link.target.clone() }, Bits::of_mode(0o777)),
        Node::Folder(folder) => (Content::Folder, folder.bits),
        Node::Unknown(_) => return None,
    };
    BaseEntry::of(&content, bits)
}

/// The base's rows that change for what both sides hold alike.
pub(crate) fn settled_rows(
    scanned: &Scanned,
    comparison: &Comparison,
    base: &Base,
) -> Vec<(RelPath, Option<BaseEntry>)> {
    let excluded = |path: &RelPath, folder: bool| scanned.filter.excludes(path, folder);
    let mut rows = Vec::new();
    for path in &comparison.settled_below {
        let folder = match scanned.snapshot.find(path) {
            Some(Node::Folder(folder)) => folder,
            _ if path.is_root() => &scanned.snapshot,
            _ => continue,
        };
        settle_members(path, folder, base.within(path), base, &excluded, &mut rows);
    }
    for path in &comparison.settled {
        if let Some(node) = scanned.snapshot.find(path) {
            base_changes(path, node, base, &excluded, &mut rows);
        }
    }
    rows
}
