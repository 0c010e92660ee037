//! Guards, checked before anything is changed, each by the side that would lose data.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::plan::{Act, Plan};
use super::side::Side;

/// How many deletions a run may carry out on one side: `--max-delete N|N%`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MaxDelete {
    /// So many entries.
    Count(u64),
    /// So many percent of the entries a side holds, 0 to 100. 100 accepts everything, also an emptied side.
    Percent(u8),
}

impl Default for MaxDelete {
    fn default() -> MaxDelete {
        MaxDelete::Percent(50)
    }
}

impl fmt::Display for MaxDelete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MaxDelete::Count(count) => write!(f, "{count}"),
            MaxDelete::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// A text is not a limit on deletions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("a limit on deletions is a number, or a percentage from 0% to 100%")]
pub struct MaxDeleteError;

impl FromStr for MaxDelete {
    type Err = MaxDeleteError;

    /// Digits, or digits and `%`; no sign, no space.
    fn from_str(text: &str) -> Result<MaxDelete, MaxDeleteError> {
        let digits = text.strip_suffix('%').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(MaxDeleteError);
        }
        if digits.len() == text.len() {
            return digits.parse().map(MaxDelete::Count).map_err(|_| MaxDeleteError);
        }
        digits.parse().ok().filter(|&percent| percent <= 100).map(MaxDelete::Percent).ok_or(MaxDeleteError)
    }
}

impl MaxDelete {
    fn allows(self, deletions: u64, entries: u64) -> bool {
        match self {
            MaxDelete::Count(count) => deletions <= count,
            MaxDelete::Percent(100..) => true,
            MaxDelete::Percent(percent) => {
                u128::from(deletions) * 100 <= u128::from(entries) * u128::from(percent)
            }
        }
    }
}

/// How many files, links and folders there are, for [`guard`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Census {
    /// On the side that asks, by its own scan.
    pub own: u64,
    /// On the other side.
    pub peer: u64,
    /// In the base.
    pub base: u64,
    /// Deleted on the side that asks by the earlier rounds of a watch: they count as if this one did it.
    pub lately: u64,
}

/// Why a run stops before anything is changed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum GuardError {
    /// More deletions than allowed (exit code 25).
    #[error(
        "stopped before deleting {deletions} of {} on {}{}, more than --max-delete {limit}; nothing was changed; if they should go, run again with --max-delete {deletions} or 100%",
        counted(*entries),
        shown(*side),
        by_this_watch(*lately)
    )]
    TooMany {
        /// The side that would lose them.
        side: Side,
        /// Removals that are not part of a move.
        deletions: u64,
        /// What the side holds.
        entries: u64,
        /// How many of the removals earlier rounds of a watch have carried out.
        lately: u64,
        /// What was allowed.
        limit: MaxDelete,
    },
    /// A side that once held entries holds none (exit code 27).
    #[error(
        "stopped: {} is empty, but the last sync left {} there; nothing was changed; if it was emptied on purpose, run again with --max-delete 100%, else without --delete to bring back what was there",
        shown(*emptied),
        counted(*base)
    )]
    Emptied {
        /// The empty side.
        emptied: Side,
        /// Entries in the base.
        base: u64,
    },
}

/// Entries, counted as people do.
pub(crate) fn counted(entries: u64) -> String {
    if entries == 1 { "1 entry".to_owned() } else { format!("{entries} entries") }
}

fn by_this_watch(deletions: u64) -> String {
    if deletions == 0 {
        return String::new();
    }
    format!(", counting {deletions} that this watch has deleted in the last ten minutes")
}

fn shown(side: Side) -> &'static str {
    match side {
        Side::One => "System 1 (the server)",
        Side::Two => "System 2 (the client)",
    }
}

/// Checks what `plan` removes on `side`. `paired` are the items whose removal is part of a move (see
/// [`arrange`](super::moves::arrange)): their content stays on this side, so they count as nothing.
pub fn guard(
    plan: &Plan,
    side: Side,
    census: Census,
    paired: &BTreeSet<usize>,
    limit: MaxDelete,
) -> Result<(), GuardError> {
    let removes = |(at, side): (usize, Side)| *plan.items[at].act.of(side) == Act::Remove;
    let everywhere = (0..plan.items.len()).any(|at| removes((at, side)) || removes((at, side.other())));
    if census.base > 0 && everywhere && limit != MaxDelete::Percent(100) {
        let emptied =
            [(census.own, side), (census.peer, side.other())].into_iter().find(|(count, _)| *count == 0);
        if let Some((_, emptied)) = emptied {
            return Err(GuardError::Emptied { emptied, base: census.base });
        }
    }
    let unpaired = (0..plan.items.len()).filter(|&at| removes((at, side)) && !paired.contains(&at));
    let now = unpaired.filter(|&at| !is_emptied_by_moves(plan, side, at, paired)).count() as u64;
    let (deletions, entries) = (now.saturating_add(census.lately), census.own.saturating_add(census.lately));
    if now == 0 || limit.allows(deletions, entries) {
        return Ok(());
    }
    Err(GuardError::TooMany { side, deletions, entries, lately: census.lately, limit })
}

/// Whether an item removes a folder whose files have all moved elsewhere: a folder that was renamed and changed inside.
fn is_emptied_by_moves(plan: &Plan, side: Side, at: usize, paired: &BTreeSet<usize>) -> bool {
    let is_folder =
        |at: usize| plan.items[at].saw.of(side).version().is_some_and(|version| version.content.is_folder());
    let removed = |at: &usize| *plan.items[*at].act.of(side) == Act::Remove;
    let below = plan.within(&plan.items[at].path);
    is_folder(at)
        && paired.range(below.clone()).next().is_some()
        && below.filter(removed).all(|below| paired.contains(&below) || is_folder(below))
}

#[cfg(test)]
mod tests {
    use super::super::path::RelPath;
    use super::super::plan::{Item, Settles, Why};
    use super::super::side::Sides;
    use super::*;

    fn removing(count: usize) -> Plan {
        let item = |n: usize| Item {
            path: RelPath::parse(format!("{n}").as_bytes()).unwrap(),
            saw: Sides::default(),
            act: Sides { one: Act::Remove, two: Act::Nothing },
            suppressed: Sides::default(),
            why: Why::Deleted,
            settles: Settles::Absent,
        };
        Plan { items: (0..count).map(item).collect() }
    }

    fn check(deletions: usize, own: u64, peer: u64, limit: &str) -> Result<(), GuardError> {
        let census = Census { own, peer, base: own, lately: 0 };
        guard(&removing(deletions), Side::One, census, &BTreeSet::new(), limit.parse().unwrap())
    }

    #[test]
    fn more_deletions_than_the_limit_stop_the_run_and_the_message_says_how_to_go_on() {
        assert_eq!(check(5, 10, 5, "50%"), Ok(()));
        let error = check(6, 10, 4, "50%").unwrap_err().to_string();
        assert!(error.contains("6 of 10") && error.contains("--max-delete 6"), "{error}");
        assert!(
            check(6, 10, 4, "6").is_ok() && check(7, 10, 3, "6").is_err() && check(10, 10, 1, "100%").is_ok()
        );
        assert!(check(1, 10, 9, "0%").is_err());
    }

    #[test]
    fn what_the_rounds_of_a_watch_deleted_lately_counts_as_if_this_run_did_it() {
        let census = Census { own: 60, peer: 60, base: 60, lately: 40 };
        let check = |deletions| {
            guard(&removing(deletions), Side::One, census, &BTreeSet::new(), MaxDelete::default())
        };
        assert_eq!((check(10), check(0)), (Ok(()), Ok(())));
        let error = check(11).unwrap_err().to_string();
        assert!(error.contains("51 of 100") && error.contains("counting 40 that this watch"), "{error}");
    }

    #[test]
    fn an_emptied_side_stops_the_run_even_below_the_limit() {
        let error = check(10, 10, 0, "1000").unwrap_err();
        assert_eq!(error, GuardError::Emptied { emptied: Side::Two, base: 10 });
        let one = GuardError::Emptied { emptied: Side::Two, base: 1 }.to_string();
        assert!(one.contains("the last sync left 1 entry there"), "{one}");
        assert_eq!(check(10, 10, 0, "100%"), Ok(()));
        assert!(
            guard(
                &removing(0),
                Side::One,
                Census { own: 3, peer: 0, base: 3, lately: 0 },
                &BTreeSet::new(),
                MaxDelete::default()
            )
            .is_ok()
        );
    }

    #[test]
    fn both_sides_see_that_one_was_emptied() {
        let census = Census { own: 0, peer: 10, base: 10, lately: 0 };
        let seen = guard(&removing(10), Side::Two, census, &BTreeSet::new(), MaxDelete::default());
        assert_eq!(seen, Err(GuardError::Emptied { emptied: Side::Two, base: 10 }));
    }

    #[test]
    fn moved_entries_do_not_count_as_deletions() {
        let census = Census { own: 10, peer: 10, base: 10, lately: 0 };
        let paired = (0..9).collect();
        assert_eq!(guard(&removing(10), Side::One, census, &paired, MaxDelete::Percent(10)), Ok(()));
    }

    #[test]
    fn limits_are_numbers_or_percentages() {
        assert_eq!("100%".parse(), Ok(MaxDelete::Percent(100)));
        assert_eq!("0".parse(), Ok(MaxDelete::Count(0)));
        for text in ["", "%", "101%", "-1", "+1", "1 %", "ten", "99999999999999999999"] {
            assert_eq!(text.parse::<MaxDelete>(), Err(MaxDeleteError), "{text}");
        }
    }
}
