//! What both sides hold alike: it is left out of the decision, and the base's rows are brought up to date without one.

use super::age::Timestamp;
use super::base::{Base, BaseEntry, members_of};
use super::kept::looks_kept;
use super::merge::Fork;
use super::path::RelPath;
use super::snapshot::{Folder, Node, Snapshot};
use super::version::{Content, Standing};

/// Takes out of a tree what is certainly equal on both sides, and adds it to `settled`. What stays is decided as it
/// would be in the whole tree: see [`reconcile`](super::reconcile::reconcile).
pub fn leave_out(tree: &mut Fork, settled: &mut Vec<RelPath>) {
    leave_out_below(tree, &RelPath::root(), settled);
}

fn leave_out_below(tree: &mut Fork, path: &RelPath, settled: &mut Vec<RelPath>) {
    tree.members.retain_mut(|(name, fork)| {
        let Ok(inner) = path.join(name) else { return true };
        leave_out_below(fork, &inner, settled);
        let equal = fork.one.version().is_some() && fork.one.same(&fork.two);
        if !fork.members.is_empty() || !equal || looks_kept(name) {
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

fn agreed(standing: &Standing) -> Option<BaseEntry> {
    let version = standing.version()?;
    BaseEntry::of(&version.content, version.bits)
}

/// The base's rows that change for what both sides hold alike, which is what stands in `own`: at and below the paths
/// `settled`, and below the folders `settled_below`. Rows of paths about which nothing is known, or that are `excluded`
/// (`true`: as a folder), stay.
pub fn settled_rows(
    own: &Snapshot,
    base: &Base,
    settled: &[RelPath],
    settled_below: &[RelPath],
    excluded: &dyn Fn(&RelPath, bool) -> bool,
) -> Vec<(RelPath, Option<BaseEntry>)> {
    let mut rows = Vec::new();
    for path in settled_below {
        let folder = match own.find(path) {
            Some(Node::Folder(folder)) => folder,
            _ if path.is_root() => own,
            _ => continue,
        };
        settle_members(path, folder, base.within(path), base, excluded, &mut rows);
    }
    for path in settled {
        if let Some(node) = own.find(path) {
            base_changes(path, node, base, excluded, &mut rows);
        }
    }
    rows
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
    let entry = agreed(&node.standing(Timestamp(0)));
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
