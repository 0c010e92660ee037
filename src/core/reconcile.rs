//! The decision what a sync does: from a three-way tree and a policy to a plan for both sides.
//!
//! Total, deterministic, and the same on both systems. Who wins one path is decided in
//! `contest.rs`; here the winners become acts, folders follow their members, and what a side does
//! not accept is suppressed *after* the decision.

use super::age::Timestamp;
use super::base::Base;
use super::contest::{Shape, Verdict};
use super::decision::{Decision, agree, copy, holds, nothing, on, skipped};
use super::keeping::{Kept, losers};
use super::merge::{Fork, merge};
use super::path::{Name, RelPath};
use super::plan::{Act, Item, Plan, Settles, Source, Why};
use super::policy::{May, Policy};
use super::side::{Side, Sides};
use super::snapshot::Snapshot;
use super::version::{Standing, Version};

/// Decides every path of `fork`. A comparison that only a missing hash could decide counts as a difference: see
/// [`undecided`](super::question::undecided).
pub fn reconcile(fork: &Fork, policy: &Policy) -> Plan {
    let mut judge = Judge { policy, may: policy.may, items: Vec::with_capacity(below(fork)) };
    if fork.shape() != Shape::Unknown {
        judge.members(&RelPath::root(), fork);
    }
    let mut items = judge.items;
    items.retain(|item| !is_reserved(item));
    // Where most paths need nothing, a small plan does not keep the room of all.
    if items.len() < items.capacity() / 4 {
        items.shrink_to_fit();
    }
    Plan { items }
}

/// How many paths there are below one. Items are large: a plan of many is not to be moved again and again as it grows.
fn below(fork: &Fork) -> usize {
    fork.members.iter().map(|(_, member)| 1 + below(member)).sum()
}

/// The place of an item that is decided later, if ever. The root itself is never decided.
fn reserved() -> Item {
    let (saw, act) = (Sides::default(), Sides::default());
    let suppressed = Sides { one: false, two: false };
    Item { path: RelPath::root(), saw, act, suppressed, why: Why::Agreed, settles: Settles::Keep }
}

fn is_reserved(item: &Item) -> bool {
    item.path.is_root()
}

/// Merges two snapshots and reconciles them; `now` is each side's clock at the hello.
pub fn reconcile_snapshots(
    base: &Base,
    one: &Snapshot,
    two: &Snapshot,
    now: Sides<Timestamp>,
    policy: &Policy,
) -> Plan {
    reconcile(&merge(base, one, two, now), policy)
}

/// What decisions leave of a folder's members on the side that holds it.
#[derive(Clone, Copy, Default)]
struct Left {
    /// Something that both sides are to hold.
    survivors: bool,
    /// Something that a sync may not touch.
    unknown: bool,
}

impl Left {
    fn add(&mut self, other: Left) {
        self.survivors |= other.survivors;
        self.unknown |= other.unknown;
    }
}

struct Judge<'a> {
    policy: &'a Policy,
    /// What each side accepts; nothing inside a subtree that is suppressed as a whole.
    may: Sides<May>,
    /// A folder's place is reserved before its members decide what becomes of it.
    items: Vec<Item>,
}

impl Judge<'_> {
    fn members(&mut self, path: &RelPath, fork: &Fork) -> Left {
        let mut left = Left::default();
        let mut kept = losers(path, fork, self.policy).into_iter().peekable();
        for (name, member) in &fork.members {
            while let Some((name, loser)) = kept.next_if(|(kept, _)| kept < name) {
                self.keep(path, &name, None, &loser);
            }
            let loser = kept.next_if(|(kept, _)| kept == name);
            if let Some((name, loser)) = loser {
                self.keep(path, &name, Some(member), &loser);
                left.survivors = true;
            } else if let Ok(path) = path.join(name) {
                left.add(self.path(path, member));
            }
        }
        for (name, loser) in kept {
            self.keep(path, &name, None, &loser);
        }
        left
    }

    fn path(&mut self, path: RelPath, fork: &Fork) -> Left {
        let slot = self.items.len();
        let shape = fork.shape();
        if shape == Shape::Unknown {
            return Left { survivors: false, unknown: true };
        }
        self.items.push(reserved());
        if let Shape::Clash(folder, both) = shape {
            self.clash(slot, path, fork, folder, both);
            return Left { survivors: true, unknown: false };
        }
        let below = self.members(&path, fork);
        let (decision, left) = match shape {
            Shape::Lone(side, version) => self.lone(fork, side, version, below),
            Shape::Folders(both) => (self.folders(fork, both), true),
            Shape::Pair(both) => (self.pair(fork, both), true),
            _ => (nothing(fork), false),
        };
        let ghost = shape == Shape::Nothing && (fork.one != fork.two);
        self.settle(slot, path, fork, decision);
        Left { survivors: left, unknown: below.unknown || ghost }
    }

    /// Only one side holds it: the table for creations and deletions.
    fn lone(&self, fork: &Fork, side: Side, version: &Version, below: Left) -> (Option<Decision>, bool) {
        let gone = fork.base.is_some() && fork.live_base().is_none();
        let copied = |why| (Some(copy(side, version, why)), true);
        match (self.policy.mirrored(), &fork.base, fork.is_base(version)) {
            (Some(source), _, _) if source != side => (Some(self.remove(side, version, below)), false),
            (_, None, _) => copied(Why::New),
            (None, _, _) if gone && version.content.is_folder() && !below.survivors => {
                (Some(self.remove(side, version, below)), false)
            }
            _ if gone => copied(Why::New),
            (_, _, Some(false)) => copied(Why::Survived),
            (Some(_), _, _) => copied(Why::Restored),
            _ if !self.policy.delete => copied(Why::Restored),
            (None, _, None) => copied(Why::Survived),
            (None, _, Some(true)) if below.survivors => copied(Why::Survived),
            (None, _, Some(true)) => (Some(self.remove(side, version, below)), false),
        }
    }

    /// Removes what stands on `side`; a folder that unknown members hold stays and is marked.
    fn remove(&self, side: Side, version: &Version, below: Left) -> Decision {
        let held = below.unknown && self.may.of(side).delete;
        let (act, settles) = match held {
            true => (Act::Nothing, Settles::Gone { bits: version.bits }),
            false => (Act::Remove, Settles::Absent),
        };
        Decision { act: on(side, act), why: Why::Deleted, settles }
    }

    /// Both hold folders: only their bits can differ.
    fn folders(&self, fork: &Fork, both: Sides<&Version>) -> Option<Decision> {
        let Some(bits) = fork.bits(both, self.policy, None) else {
            return Some(skipped(Why::Conflict(None)));
        };
        let merged = Version { bits, ..both.one.clone() };
        agree(fork, both, &merged)
    }

    /// Both hold files or links: content and bits are two fields, each with a winner of its own.
    fn pair(&self, fork: &Fork, both: Sides<&Version>) -> Option<Decision> {
        let (winner, why) = match fork.contest(both, self.policy) {
            Verdict::Skip => return Some(skipped(Why::Conflict(None))),
            Verdict::Take(winner, why) | Verdict::Keep(winner, why) => (Some(winner), why),
            Verdict::Agree => (None, Why::Bits),
        };
        let version = *both.of(winner.unwrap_or(Side::One));
        let kind = |v: &Version| std::mem::discriminant(&v.content);
        let alike = kind(both.one) == kind(both.two);
        let changed = winner.filter(|_| why == Why::Changed);
        let bits = if alike { fork.bits(both, self.policy, changed) } else { Some(version.bits) };
        let Some(bits) = bits else { return Some(skipped(Why::Conflict(None))) };
        let merged = Version { bits, ..version.clone() };
        let Some(winner) = winner else { return agree(fork, both, &merged) };
        let mut act = on(winner.other(), Act::Put { version: merged.clone(), from: Source::Peer });
        if version.bits != bits {
            *act.of_mut(winner) = Act::SetBits(bits);
        }
        Some(Decision { act, why, settles: holds(&merged) })
    }

    /// A folder against a file or link: one decision for the whole subtree.
    fn clash(&mut self, slot: usize, path: RelPath, fork: &Fork, folder: Side, both: Sides<&Version>) {
        let file = folder.other();
        let (winner, why) = match fork.clash(folder, both, self.policy) {
            Verdict::Take(winner, why) | Verdict::Keep(winner, why) => (winner, why),
            Verdict::Skip | Verdict::Agree => {
                return self.settle(slot, path, fork, Some(skipped(Why::Clash(None))));
            }
        };
        let version = *both.of(winner);
        if winner == folder && fork.is_ghost(folder) {
            // A mirrored side whose folder counts as absent: the row stays for as long as the folder does.
            let act = on(file, Act::Remove);
            self.settle(slot, path, fork, Some(Decision { act, why: Why::Deleted, settles: Settles::Keep }));
        } else if winner == folder {
            self.settle(slot, path.clone(), fork, Some(copy(folder, version, why)));
            self.follow(&path, fork, folder, false);
        } else if fork.holds_unknown(folder) {
            self.settle(slot, path, fork, Some(skipped(Why::Clash(None))));
        } else {
            // What a side does not let go as a whole it keeps as a whole.
            let before = self.may;
            let emptied = before.of(folder).delete
                || fork.members.iter().all(|(_, m)| m.at(folder).version().is_none());
            if !(before.of(folder).write && emptied) {
                *self.may.of_mut(folder) = May { write: false, delete: false };
            }
            self.settle(slot, path.clone(), fork, Some(copy(file, version, why)));
            self.follow(&path, fork, folder, true);
            self.may = before;
        }
    }

    /// The members of a folder that won against a file (copied from `side`) or lost (`lost`: removed on `side`).
    fn follow(&mut self, path: &RelPath, fork: &Fork, side: Side, lost: bool) {
        for (name, member) in &fork.members {
            let Ok(path) = path.join(name) else { continue };
            let decision = match member.at(side) {
                Standing::Unknown => continue,
                Standing::Absent => nothing(member),
                Standing::Holds(_) if lost => {
                    Some(Decision { act: on(side, Act::Remove), why: Why::Changed, settles: Settles::Absent })
                }
                Standing::Holds(_) if member.is_ghost(side) => None,
                Standing::Holds(version) => Some(copy(side, version, Why::New)),
            };
            let slot = self.items.len();
            self.items.push(reserved());
            self.settle(slot, path.clone(), member, decision);
            self.follow(&path, member, side, lost);
        }
    }

    /// Makes the loser of a kept conflict stand under its own name on both sides; where it stands already it stays.
    fn keep(&mut self, folder: &RelPath, name: &Name, member: Option<&Fork>, kept: &Kept) {
        let Ok(path) = folder.join(name) else { return };
        let absent = Fork::default();
        let fork = member.unwrap_or(&absent);
        let why = Why::Kept;
        let decision = match fork.shape() {
            Shape::Pair(both) => self.pair(fork, both),
            Shape::Lone(side, version) => Some(copy(side, version, why)),
            _ => {
                let put = |from| Act::Put { version: kept.version.clone(), from };
                let mut act = on(kept.loser, put(Source::Own(kept.path.clone())));
                *act.of_mut(kept.loser.other()) = put(Source::PeerAt(kept.path.clone()));
                Some(Decision { act, why, settles: holds(&kept.version) })
            }
        };
        let slot = self.items.len();
        self.items.push(reserved());
        self.members(&path, fork);
        self.settle(slot, path, fork, decision);
    }

    /// Fills an item's place, without what its sides do not accept. A path with a suppressed act keeps its row.
    fn settle(&mut self, slot: usize, path: RelPath, fork: &Fork, decision: Option<Decision>) {
        let Some(Decision { mut act, why, mut settles }) = decision else { return };
        let mut suppressed = Sides { one: false, two: false };
        for side in [Side::One, Side::Two] {
            let may = self.may.of(side);
            let accepted = match act.of(side) {
                Act::Nothing => true,
                Act::Put { .. } | Act::SetBits(_) => may.write,
                Act::Remove => may.delete,
            };
            if !accepted {
                *act.of_mut(side) = Act::Nothing;
                *suppressed.of_mut(side) = true;
                settles = Settles::Keep;
            }
        }
        self.items[slot] = Item { path, saw: fork.standings(), act, suppressed, why, settles };
    }
}
