//! Comparisons from which decisions are made: with the base, by age, and between two versions of one path.

use super::age::Age;
use super::base::{BaseContent, BaseEntry};
use super::kept::hash_of;
use super::merge::Fork;
use super::plan::Why;
use super::policy::{ConflictPolicy, Policy};
use super::side::{Side, Sides};
use super::version::{Bits, Content, Standing, Version};

/// What two sides hold at one path, as far as it matters for who is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape<'a> {
    /// A side is unknown: nothing is concluded.
    Unknown,
    /// Neither side holds anything that counts.
    Nothing,
    /// Only one side holds something.
    Lone(Side, &'a Version),
    /// Both hold folders.
    Folders(Sides<&'a Version>),
    /// Both hold files or links.
    Pair(Sides<&'a Version>),
    /// A folder on the named side, a file or link on the other.
    Clash(Side, Sides<&'a Version>),
}

/// Who wins one path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Same content.
    Agree,
    /// This side's content is taken.
    Take(Side, Why),
    /// As above, and the loser is kept under a name of its own.
    Keep(Side, Why),
    /// Both changed it and nobody is to win.
    Skip,
}

impl Fork {
    pub(crate) fn shape(&self) -> Shape<'_> {
        let (one, two) = match (&self.one, &self.two) {
            (Standing::Unknown, _) | (_, Standing::Unknown) => return Shape::Unknown,
            (one, two) => (one.version(), two.version()),
        };
        match (one, two) {
            (None, None) => Shape::Nothing,
            (Some(_), None) if self.is_ghost(Side::One) => Shape::Nothing,
            (None, Some(_)) if self.is_ghost(Side::Two) => Shape::Nothing,
            (Some(one), None) => Shape::Lone(Side::One, one),
            (None, Some(two)) => Shape::Lone(Side::Two, two),
            (Some(one), Some(two)) => {
                let both = Sides { one, two };
                match (one.content.is_folder(), two.content.is_folder()) {
                    (true, true) => Shape::Folders(both),
                    (false, false) => Shape::Pair(both),
                    (true, false) => Shape::Clash(Side::One, both),
                    (false, true) => Shape::Clash(Side::Two, both),
                }
            }
        }
    }

    /// The base row, unless it is that of a folder which both agreed to remove.
    pub(crate) fn live_base(&self) -> Option<&BaseEntry> {
        self.base.as_ref().filter(|base| base.content != BaseContent::Folder { gone: true })
    }

    /// Whether `side` holds a folder that both agreed to remove and in which nothing visible has appeared since.
    /// It counts as absent. Asked only where the other side holds no folder.
    pub(crate) fn is_ghost(&self, side: Side) -> bool {
        let gone = self.base.is_some() && self.live_base().is_none();
        gone && self.at(side).version().is_some_and(|v| v.content.is_folder()) && !self.shows_members(side)
    }

    /// Whether anything below is visible on `side`.
    pub(crate) fn shows_members(&self, side: Side) -> bool {
        self.members.iter().any(|(_, m)| m.at(side).version().is_some() && !m.is_ghost(side))
    }

    /// Whether anything at or below is unknown on `side`.
    pub(crate) fn holds_unknown(&self, side: Side) -> bool {
        *self.at(side) == Standing::Unknown || self.members.iter().any(|(_, m)| m.holds_unknown(side))
    }

    /// How old what stands here on `side` is: a folder is as young as the youngest visible file or link in it. None
    /// for folders alone, whose own times change with whatever is taken out of them.
    pub(crate) fn youngest(&self, side: Side) -> Option<Age> {
        match self.at(side).version() {
            Some(version) if !version.content.is_folder() => Some(version.age),
            _ => self.members.iter().filter_map(|(_, m)| m.youngest(side)).min(),
        }
    }

    /// Whether `version`, which stands here, is the base's; `None` while a missing hash hides it.
    pub(crate) fn is_base(&self, version: &Version) -> Option<bool> {
        let Some(base) = self.live_base() else { return Some(false) };
        let link = matches!(version.content, Content::Link { .. });
        match base.as_content().same(&version.content) {
            // Other bits are a change, whatever a hash would say.
            _ if !link && base.bits != version.bits => Some(false),
            same => same,
        }
    }

    /// Whether what stands here on `side` has the base's content, whatever its bits.
    pub(crate) fn has_base_content(&self, version: &Version) -> Option<bool> {
        self.live_base().map_or(Some(false), |base| base.as_content().same(&version.content))
    }

    /// Whether anything visible at or below differs on `side` from the base; `None` while missing hashes hide it.
    pub(crate) fn changed(&self, side: Side) -> Option<bool> {
        let Some(version) = self.at(side).version().filter(|_| !self.is_ghost(side)) else {
            return Some(false);
        };
        let mut changed = self.is_base(version).map(|same| !same);
        for (_, member) in &self.members {
            match (changed, member.changed(side)) {
                (Some(true), _) | (_, Some(true)) => return Some(true),
                (_, None) => changed = None,
                (_, Some(false)) => {}
            }
        }
        changed
    }

    /// Who wins where both sides hold files or links: the table of semantics, for content.
    pub(crate) fn contest(&self, both: Sides<&Version>, policy: &Policy) -> Verdict {
        let same = both.one.content.same(&both.two.content) == Some(true);
        let one_is_base = self.has_base_content(both.one) == Some(true);
        let two_is_base = self.has_base_content(both.two) == Some(true);
        match (policy.mirrored(), one_is_base, two_is_base) {
            _ if same => Verdict::Agree,
            (Some(source), _, _) => Verdict::Take(source, Why::Changed),
            (None, true, false) => Verdict::Take(Side::Two, Why::Changed),
            (None, false, true) => Verdict::Take(Side::One, Why::Changed),
            (None, _, _) => self.conflict(both, policy),
        }
    }

    fn conflict(&self, both: Sides<&Version>, policy: &Policy) -> Verdict {
        let younger = younger(both.one.age, both.two.age, policy);
        let winner = younger.unwrap_or_else(|| greater(both));
        let conflict = Why::Conflict(Some(winner));
        match (policy.conflict, self.live_base(), younger) {
            (ConflictPolicy::Skip, ..) => Verdict::Skip,
            (ConflictPolicy::One, ..) => Verdict::Take(Side::One, Why::Conflict(Some(Side::One))),
            (ConflictPolicy::Two, ..) => Verdict::Take(Side::Two, Why::Conflict(Some(Side::Two))),
            (ConflictPolicy::KeepBoth, ..) => Verdict::Keep(winner, conflict),
            (ConflictPolicy::Newer, Some(_), _) => Verdict::Take(winner, conflict),
            (ConflictPolicy::Newer, None, Some(_)) => Verdict::Take(winner, Why::Younger),
            (ConflictPolicy::Newer, None, None) => Verdict::Take(winner, Why::Tie(winner)),
        }
    }

    /// Who wins where a folder on `folder` stands against a file or link: one decision for the whole subtree.
    pub(crate) fn clash(&self, folder: Side, both: Sides<&Version>, policy: &Policy) -> Verdict {
        let file = folder.other();
        let folder_changed = self.changed(folder) != Some(false);
        let file_changed = self.has_base_content(both.of(file)) != Some(true);
        match (policy.mirrored(), folder_changed, file_changed) {
            (Some(source), _, _) => Verdict::Take(source, Why::Changed),
            _ if self.is_ghost(folder) => Verdict::Take(file, Why::New),
            (None, false, _) => Verdict::Take(file, Why::Changed),
            (None, true, false) => Verdict::Take(folder, Why::Changed),
            (None, true, true) => match policy.conflict {
                ConflictPolicy::Skip => Verdict::Skip,
                ConflictPolicy::One => Verdict::Take(Side::One, Why::Clash(Some(Side::One))),
                ConflictPolicy::Two => Verdict::Take(Side::Two, Why::Clash(Some(Side::Two))),
                // A subtree has no name of its own to be kept under, so it keeps this one.
                ConflictPolicy::KeepBoth => Verdict::Keep(folder, Why::Clash(Some(folder))),
                ConflictPolicy::Newer => {
                    // Folders alone lose: a file that wins empties them first, and a run that was killed then must
                    // find that it wins again.
                    let age = |side: Side| self.youngest(side);
                    let winner = match (age(Side::One), age(Side::Two)) {
                        (Some(one), Some(two)) => younger(one, two, policy).unwrap_or(folder),
                        _ => file,
                    };
                    Verdict::Take(winner, Why::Clash(Some(winner)))
                }
            },
        }
    }

    /// The bits both sides end with, merged by the table on their own; `None` if that is skipped. Content that only
    /// `changed` has changed is the younger one whatever its age, which it passes on. For two folders age decides
    /// nothing: a folder's modification time is not synchronised.
    pub(crate) fn bits(&self, both: Sides<&Version>, policy: &Policy, changed: Option<Side>) -> Option<Bits> {
        let (one, two) = (both.one.bits, both.two.bits);
        let folders = both.one.content.is_folder();
        let alike = |base: &&BaseEntry| {
            matches!(base.content, BaseContent::Folder { .. }) == folders
                && !matches!(base.content, BaseContent::Link { .. })
        };
        let base = self.live_base().filter(alike).map(|base| base.bits);
        let by_age = if folders { None } else { younger(both.one.age, both.two.age, policy) };
        let younger = changed.or(by_age);
        match (policy.mirrored(), base == Some(one), base == Some(two)) {
            _ if one == two => Some(one),
            (Some(source), _, _) => Some(both.of(source).bits),
            (None, true, _) => Some(two),
            (None, _, true) => Some(one),
            (None, false, false) => match (policy.conflict, younger) {
                (ConflictPolicy::Skip, _) => None,
                (ConflictPolicy::One, _) => Some(one),
                (ConflictPolicy::Two, _) => Some(two),
                (_, Some(side)) => Some(both.of(side).bits),
                (_, None) => Some(one.min(two)),
            },
        }
    }
}

/// Which of two ages is younger; `None` where they are equal within the uncertainty.
pub(crate) fn younger(one: Age, two: Age, policy: &Policy) -> Option<Side> {
    if one.0.abs_diff(two.0) <= policy.uncertainty.max(0).unsigned_abs() {
        return None;
    }
    Some(if one < two { Side::One } else { Side::Two })
}

/// Who wins a tie, alike on both systems: a file before a link, then the greater SHA-256. Of contents that nothing
/// tells apart, System 1's.
fn greater(both: Sides<&Version>) -> Side {
    let rank =
        |v: &Version| (matches!(v.content, Content::File { .. }), hash_of(&v.content), v.content.size());
    if rank(both.two) > rank(both.one) { Side::Two } else { Side::One }
}
