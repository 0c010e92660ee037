//! In which order a side does its part.
//!
//! First what makes room: folders that become writable, new folders, moves (a chain from its end, a cycle by
//! exchanges). Then folders that a file replaces are cleared, children first. Then placements, parents first.
//! Then bits and deletions, children first, and last the bits that could have stood in the way of all that.

use std::collections::{BTreeSet, HashMap};

use super::root::Kind;
use super::step::Step;
use crate::core::path::RelPath;
use crate::core::version::Bits;

/// One act, on the step of this number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Turn {
    /// All of the step, or what the other turns leave of it.
    Do(usize),
    /// Removes the empty folder that the step's file replaces.
    Clear(usize),
    /// Exchanges the source of move `pivot` with the source of move `with`, which puts move `step` in place.
    Exchange { step: usize, with: usize, pivot: usize },
    /// The move came into place with the exchange for that other one.
    Follows { step: usize, other: usize },
    /// Gives a new folder its final bits.
    Finish(usize),
}

impl Turn {
    /// The number of the step that the turn is about.
    pub(crate) fn step(self) -> usize {
        match self {
            Turn::Do(step) | Turn::Clear(step) | Turn::Finish(step) => step,
            Turn::Exchange { step, .. } | Turn::Follows { step, .. } => step,
        }
    }
}

/// Bits with which this side can still make and remove members.
pub(crate) fn is_open(bits: Bits) -> bool {
    bits.mode() & 0o700 == 0o700
}

/// The bits that a new folder has until everything is in it.
pub(crate) fn opened(bits: Bits) -> Bits {
    Bits::of_mode(bits.mode() | 0o700)
}

/// All turns in order.
pub(crate) fn turns(steps: &[Step]) -> Vec<Turn> {
    let plan = Phases::of(steps);
    let by = |indices: &[usize], descending: bool| {
        let mut sorted = indices.to_vec();
        sorted.sort_by(|a, b| steps[*a].path().cmp(steps[*b].path()));
        if descending {
            sorted.reverse();
        }
        sorted
    };
    let all = |indices: &[usize], descending| by(indices, descending).into_iter().map(Turn::Do);
    let mut turns: Vec<Turn> = all(&plan.opening, false).chain(all(&plan.folders, false)).collect();
    moves(steps, &by(&plan.moves, false), &mut turns);
    turns.extend(by(&plan.clearing, true).into_iter().map(|at| match &steps[at] {
        Step::Remove { .. } => Turn::Do(at),
        _ => Turn::Clear(at),
    }));
    turns.extend(all(&plan.placements, false).chain(all(&plan.bits, false)).chain(all(&plan.removals, true)));
    turns.extend(by(&plan.closing, true).into_iter().map(|at| match &steps[at] {
        Step::SetBits { .. } => Turn::Do(at),
        _ => Turn::Finish(at),
    }));
    turns
}

#[derive(Default)]
struct Phases {
    opening: Vec<usize>,
    folders: Vec<usize>,
    moves: Vec<usize>,
    clearing: Vec<usize>,
    placements: Vec<usize>,
    bits: Vec<usize>,
    removals: Vec<usize>,
    closing: Vec<usize>,
}

impl Phases {
    fn of(steps: &[Step]) -> Phases {
        let mut plan = Phases::default();
        // What comes below a folder that replaces a file waits for it; so does what comes below a moved folder.
        let mut late = BTreeSet::new();
        let mut arriving = BTreeSet::new();
        let mut replaced = BTreeSet::new();
        for step in steps {
            match step {
                Step::MakeFolder { path, expected, .. } if expected.entry().is_some() => late.insert(path),
                Step::Move { to, .. } => arriving.insert(to),
                Step::Put { path, expected, .. } if expected.is_folder() => replaced.insert(path),
                _ => false,
            };
        }
        for (at, step) in steps.iter().enumerate() {
            let path = step.path();
            match step {
                Step::SetBits { bits, expected, .. } => match expected.kind {
                    Kind::Folder if is_open(*bits) && !covers(&arriving, path) => plan.opening.push(at),
                    Kind::Folder if is_open(*bits) => plan.bits.push(at),
                    Kind::Folder => plan.closing.push(at),
                    _ => plan.bits.push(at),
                },
                Step::MakeFolder { bits, .. } => {
                    let waits = covers(&late, path) || covers(&arriving, path);
                    if waits { &mut plan.placements } else { &mut plan.folders }.push(at);
                    if !is_open(*bits) {
                        plan.closing.push(at);
                    }
                }
                Step::Move { .. } if covers(&late, path) => plan.placements.push(at),
                Step::Move { .. } => plan.moves.push(at),
                Step::Put { .. } => {
                    plan.placements.push(at);
                    if replaced.contains(path) {
                        plan.clearing.push(at);
                    }
                }
                Step::Remove { .. } if covers(&replaced, path) => plan.clearing.push(at),
                Step::Remove { .. } => plan.removals.push(at),
            }
        }
        plan
    }
}

/// Whether `path` is one of `folders` or below one.
fn covers(folders: &BTreeSet<&RelPath>, path: &RelPath) -> bool {
    let mut at = if folders.is_empty() { None } else { Some(path.clone()) };
    while let Some(folder) = at {
        if folders.contains(&folder) {
            return true;
        }
        at = folder.parent();
    }
    false
}

/// Adds the moves `order`: whoever stands at another's target goes before it; where that closes a circle, by exchanges.
fn moves(steps: &[Step], order: &[usize], turns: &mut Vec<Turn>) {
    let source = |at: usize| if let Step::Move { from, .. } = &steps[at] { Some(from) } else { None };
    let leaving: HashMap<&RelPath, usize> = order.iter().filter_map(|&at| Some((source(at)?, at))).collect();
    let mut done = BTreeSet::new();
    for &first in order {
        let mut chain = Vec::new();
        let mut next = Some(first);
        while let Some(at) = next.filter(|at| !done.contains(at)) {
            chain.push(at);
            next = leaving.get(steps[at].path()).copied();
            done.insert(at);
        }
        if chain.len() > 1 && next == Some(first) {
            cycle(&chain, turns);
        } else {
            turns.extend(chain.into_iter().rev().map(Turn::Do));
        }
    }
}

/// With p0→p1→…→pk→p0: each exchange of p0 with the next puts one content in place and holds the next one at p0.
fn cycle(chain: &[usize], turns: &mut Vec<Turn>) {
    for pair in chain.windows(2) {
        turns.push(Turn::Exchange { step: pair[0], with: pair[1], pivot: chain[0] });
    }
    if let [.., other, step] = *chain {
        turns.push(Turn::Follows { step, other });
    }
}
