//! How a side that already has the content carries out its acts without a transfer: moves and local copies.
//!
//! Decisions are per path and made before; nothing here changes what stands where afterwards.

use std::collections::{BTreeMap, BTreeSet};

use super::digest::Digest;
use super::folder_moves::folder_moves;
use super::path::RelPath;
use super::plan::{Act, Item, Plan, Source};
use super::side::Side;
use super::snapshot::{Folder, Node, Snapshot};
use super::version::{Content, Version};

/// The files of one side that may spare a transfer: those with a size that its half of the plan asks for.
#[derive(Clone, Debug, Default)]
pub struct Holdings {
    by_size: BTreeMap<u64, Vec<(RelPath, Option<Digest>)>>,
    by_hash: BTreeMap<Digest, RelPath>,
}

impl Holdings {
    /// Looks through `own`, the snapshot of `side`. To be made again once more hashes are known.
    pub fn of(own: &Snapshot, plan: &Plan, side: Side) -> Holdings {
        let mut holdings = Holdings::default();
        let sizes = plan.items.iter().filter_map(|item| incoming(item, side)).map(|v| v.content.size());
        let sizes: BTreeSet<u64> = sizes.collect();
        if !sizes.is_empty() {
            holdings.gather(&RelPath::root(), own, &sizes);
        }
        holdings
    }

    fn gather(&mut self, path: &RelPath, folder: &Folder, sizes: &BTreeSet<u64>) {
        for (name, node) in &folder.members {
            let Ok(path) = path.join(name) else { continue };
            match node {
                Node::Folder(inner) => self.gather(&path, inner, sizes),
                Node::File(file) if sizes.contains(&file.size) => {
                    if let Some(hash) = file.sha256 {
                        self.by_hash.entry(hash).or_insert_with(|| path.clone());
                    }
                    self.by_size.entry(file.size).or_default().push((path, file.sha256));
                }
                _ => {}
            }
        }
    }
}

/// Files whose hashes would show that content need not be transferred.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wanted {
    /// On this side.
    pub own: Vec<RelPath>,
    /// On the other side; to be filled in with [`Plan::learn`].
    pub peer: Vec<RelPath>,
}

/// Which hashes to make before [`arrange`] on `side`: where a file of at least `least` bytes is to be received and
/// a file of the same size is here already. Empty files never count.
pub fn wanted_hashes(plan: &Plan, side: Side, own: &Holdings, least: u64) -> Wanted {
    let mut wanted = Wanted::default();
    let mut sizes = BTreeSet::new();
    for item in &plan.items {
        let Some(version) = incoming(item, side).filter(|v| v.content.size() >= least) else { continue };
        let Some(alike) = own.by_size.get(&version.content.size()) else { continue };
        if hash(&version.content).is_none() {
            wanted.peer.push(item.path.clone());
        }
        if sizes.insert(version.content.size()) {
            let unknown = alike.iter().filter(|(_, hash)| hash.is_none());
            wanted.own.extend(unknown.map(|(path, _)| path.clone()));
        }
    }
    wanted.own.sort();
    wanted
}

/// One rename, on the side that performs it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Move {
    /// What is renamed.
    pub from: RelPath,
    /// Where it comes to stand.
    pub to: RelPath,
    /// How.
    pub how: How,
}

/// How a [`Move`] is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// `to` is absent by then: a rename that replaces nothing.
    Rename,
    /// Both exist and change places.
    Exchange,
}

/// Content that is copied locally.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Copy {
    /// The item that puts it.
    pub item: usize,
    /// Where it stands before anything is moved.
    pub from: RelPath,
}

/// How one side carries out its half of a plan. Copies are staged first; then moves go in the order given, the
/// folders before the files; bits and times of what was moved are applied afterwards.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Arrangement {
    /// Whole folders, with everything in them that a sync may not touch. Targets are absent.
    pub folder_moves: Vec<Move>,
    /// Files; chains end first, cycles as exchanges. A target's parents may have to be put first.
    pub moves: Vec<Move>,
    /// Local copies.
    pub copies: Vec<Copy>,
    /// Items whose content must be received, in path order.
    pub needs: Vec<usize>,
    /// Items whose removal is part of a move.
    pub paired: BTreeSet<usize>,
    /// Items whose put is done by a move.
    pub placed: BTreeSet<usize>,
}

/// Pairs what `plan` displaces on `side` with what it puts there.
pub fn arrange(plan: &Plan, side: Side, own: &Holdings) -> Arrangement {
    let mut done = folder_moves(plan, side);
    let next = pairs(plan, side, &done);
    order(plan, side, &next, &mut done);
    for (at, item) in plan.items.iter().enumerate() {
        let Act::Put { version, from } = item.act.of(side) else { continue };
        if !matches!(version.content, Content::File { .. }) || done.placed.contains(&at) {
            continue;
        }
        let here = match from {
            Source::Own(path) => Some(path),
            _ => hash(&version.content).and_then(|hash| own.by_hash.get(&hash)),
        };
        match here {
            Some(from) => done.copies.push(Copy { item: at, from: from.clone() }),
            None => done.needs.push(at),
        }
    }
    done
}

/// From the items that displace a file to the items that put the same content: one to one, in path order, first
/// what is removed and what is put where nothing stands.
fn pairs(plan: &Plan, side: Side, done: &Arrangement) -> BTreeMap<usize, usize> {
    let mut sources: BTreeMap<Digest, Vec<(bool, usize)>> = BTreeMap::new();
    let mut targets: BTreeMap<Digest, Vec<(bool, usize)>> = BTreeMap::new();
    let mut blocked: Option<&RelPath> = None;
    for (at, item) in plan.items.iter().enumerate() {
        let stands = item.saw.of(side).version();
        if blocked.is_some_and(|path| item.path.is_within(path)) {
            continue;
        }
        let replaced = matches!(item.act.of(side), Act::Put { .. });
        if let (Some(hash), false) = (leaving(item, side), done.paired.contains(&at)) {
            sources.entry(hash).or_default().push((replaced, at));
        }
        if let (Some(version), false) = (incoming(item, side), done.placed.contains(&at))
            && let Some(hash) = hash(&version.content)
            && stands.is_none_or(|v| !v.content.is_folder())
        {
            targets.entry(hash).or_default().push((stands.is_some(), at));
        }
        // Nothing can be moved to below what is still a file then.
        if replaced && stands.is_some_and(|v| !v.content.is_folder()) {
            blocked = Some(&item.path);
        }
    }
    let mut next = BTreeMap::new();
    for (hash, mut from) in sources {
        let Some(mut to) = targets.remove(&hash) else { continue };
        from.sort_unstable();
        to.sort_unstable();
        next.extend(from.into_iter().zip(to).map(|((_, from), (_, to))| (from, to)));
    }
    next
}

/// Puts pairs into an order in which each can be done. A chain is no move unless it ends where nothing stands, and
/// begins with what goes: were its first path only replaced, it would stand empty until its new content comes.
fn order(plan: &Plan, side: Side, next: &BTreeMap<usize, usize>, done: &mut Arrangement) {
    let ends: BTreeSet<usize> = next.values().copied().collect();
    let rename = |from: usize, to: usize, how| Move {
        from: plan.items[from].path.clone(),
        to: plan.items[to].path.clone(),
        how,
    };
    let mut seen = BTreeSet::new();
    let starts =
        next.keys().filter(|at| !ends.contains(at)).chain(next.keys().filter(|at| ends.contains(at)));
    for &start in starts {
        if !seen.insert(start) {
            continue;
        }
        let mut chain = vec![start];
        while let Some(&to) = next.get(&chain[chain.len() - 1]).filter(|&&to| to != start) {
            seen.insert(to);
            chain.push(to);
        }
        let cycle = next.contains_key(&chain[chain.len() - 1]);
        if cycle {
            done.moves.extend(chain[1..].iter().map(|&to| rename(start, to, How::Exchange)));
            done.placed.extend(&chain);
        } else if plan.items[chain[chain.len() - 1]].saw.of(side).version().is_none()
            && *plan.items[start].act.of(side) == Act::Remove
        {
            done.moves.extend(chain.windows(2).rev().map(|pair| rename(pair[0], pair[1], How::Rename)));
            done.placed.extend(&chain[1..]);
            done.paired.insert(start);
        }
    }
}

/// The hash of a non-empty file that stands on `side` and is removed or replaced by something else.
fn leaving(item: &Item, side: Side) -> Option<Digest> {
    let stands = item.saw.of(side).version()?;
    match item.act.of(side) {
        Act::Remove => {}
        Act::Put { version, .. } if version.content != stands.content => {}
        _ => return None,
    }
    hash(&stands.content).filter(|_| stands.content.size() > 0)
}

/// The non-empty file that `side` is to put from the other side's content.
fn incoming(item: &Item, side: Side) -> Option<&Version> {
    match item.act.of(side) {
        Act::Put { version, from: Source::Peer | Source::PeerAt(_) } => {
            Some(version).filter(|v| matches!(v.content, Content::File { size: 1.., .. }))
        }
        _ => None,
    }
}

fn hash(content: &Content) -> Option<Digest> {
    if let Content::File { sha256, .. } = content { *sha256 } else { None }
}
