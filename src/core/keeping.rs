//! Which losers `--conflict keep-both` keeps in a folder, and under which names.

use std::collections::BTreeMap;

use super::contest::{Shape, Verdict};
use super::kept::{DIGITS, hash_of, kept_name};
use super::merge::Fork;
use super::path::{Name, RelPath};
use super::policy::{ConflictPolicy, Policy};
use super::side::Side;
use super::version::{Standing, Version};

const SIDES: [Side; 2] = [Side::One, Side::Two];

/// A loser that both sides keep beside the winner.
pub(crate) struct Kept {
    /// Where it stood.
    pub(crate) path: RelPath,
    /// The side on which it stood.
    pub(crate) loser: Side,
    /// What stood there.
    pub(crate) version: Version,
}

/// The losers among the members of `folder`, by the names they are kept under. A loser without a free name (all
/// are taken or excluded) is only kept in history.
pub(crate) fn losers(folder: &RelPath, fork: &Fork, policy: &Policy) -> BTreeMap<Name, Kept> {
    let mut kept = BTreeMap::new();
    if policy.conflict != ConflictPolicy::KeepBoth {
        return kept;
    }
    for (name, member) in &fork.members {
        let verdict = match member.shape() {
            Shape::Pair(both) => member.contest(both, policy),
            Shape::Clash(side, both) => member.clash(side, both, policy),
            _ => continue,
        };
        let Verdict::Keep(winner, _) = verdict else { continue };
        let loser = winner.other();
        let (Ok(path), Some(version)) = (folder.join(name), member.at(loser).version()) else { continue };
        if let Some(name) = free_name(folder, fork, policy, &kept, name, version) {
            kept.entry(name).or_insert(Kept { path, loser, version: version.clone() });
        }
    }
    kept
}

/// The first name under which `version` stands already on a side, or else the first under which it can stand on
/// both. One that stands already comes first, so that a run which could not settle the conflict adds nothing later.
fn free_name(
    folder: &RelPath,
    fork: &Fork,
    policy: &Policy,
    kept: &BTreeMap<Name, Kept>,
    name: &Name,
    version: &Version,
) -> Option<Name> {
    let hash = hash_of(&version.content)?;
    let equal = |other: &Version| other.content.same(&version.content) == Some(true);
    let member = |candidate: &Name| {
        let at = fork.members.binary_search_by(|(n, _)| n.cmp(candidate)).ok()?;
        Some(&fork.members[at].1)
    };
    let standing =
        |candidate: &Name, side| member(candidate).map(|m| m.at(side)).filter(|s| **s != Standing::Absent);
    // Absent on a side that does not take it back, with a row of the base: the deletion would travel once the
    // conflict is over.
    let leaving = |candidate: &Name| {
        let Some(member) = member(candidate).filter(|member| member.live_base().is_some()) else {
            return false;
        };
        let refused = |side: &Side| *member.at(*side) == Standing::Absent && !policy.may.of(*side).write;
        policy.delete && SIDES.iter().any(refused)
    };
    let stands = |candidate: &Name| SIDES.iter().any(|&side| standing(candidate, side).is_some());
    let usable = |candidate: &Name| {
        let free = |side| standing(candidate, side).is_none_or(|s| s.version().is_some_and(equal));
        let shared = kept.get(candidate).is_none_or(|other| equal(&other.version));
        SIDES.into_iter().all(free) && shared && !leaving(candidate) && folder.join(candidate).is_ok()
    };
    let names = || DIGITS.iter().filter_map(|&digits| kept_name(name, &hash, digits)).filter(usable);
    names().find(stands).or_else(|| names().next())
}
