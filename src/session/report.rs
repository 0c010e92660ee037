//! What a run tells while and after it carries out a plan.

use super::perform::Results;
use super::progress::{Event, Outcome, Problem, ProblemKind, Progress, Totals};
use super::work::Work;
use crate::core::path::RelPath;
use crate::core::plan::{Act, Item, Plan, Why};
use crate::core::policy::{ConflictPolicy, Policy};
use crate::core::side::{Side, Sides};
use crate::core::version::Standing;
use crate::protocol::message::Failure;

/// Tells what the plan will do, before anything is done. In a dry run this is all that is told.
pub(crate) fn preview(
    work: &Work,
    policy: &Policy,
    travels: &Sides<Vec<usize>>,
    dry: bool,
    outcome: &mut Outcome,
    progress: &dyn Progress,
) {
    outcome.totals = totals(work, travels);
    outcome.conflicts = work.plan.conflicts(false);
    outcome.skipped = work.plan.conflicts(true);
    progress.event(&Event::Planned(outcome.totals));
    let mut early = won_from_the_future(&work.plan, policy);
    if let Some(path) = early.next() {
        let more = match early.count() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        progress
            .event(&Event::Notice(format!("{path}{more}: won by a time in the future; is a clock wrong?")));
    }
    for (at, item) in work.plan.items.iter().enumerate() {
        outcome.suppressed += u64::from(item.suppressed.one) + u64::from(item.suppressed.two);
        if matches!(item.why, Why::Conflict(_) | Why::Tie(_) | Why::Clash(_)) {
            progress.event(&Event::Conflict { path: item.path.clone(), why: item.why });
        }
        if dry && acts(item) {
            progress.event(&Event::Done(work.plan.clone(), at));
        }
    }
}

/// What may pass between the hello and the look at a file that is being written, in nanoseconds.
const A_MOMENT: i64 = 60 * 1_000_000_000;

/// The paths on which a version won by a time in the future.
fn won_from_the_future<'a>(plan: &'a Plan, policy: &Policy) -> impl Iterator<Item = &'a RelPath> {
    let soon = -policy.uncertainty.saturating_add(A_MOMENT);
    let by_age = policy.mirrored().is_none()
        && matches!(policy.conflict, ConflictPolicy::Newer | ConflictPolicy::KeepBoth);
    let early = move |saw: &Standing| saw.version().is_some_and(|version| version.age.0 < soon);
    let contest = |why| matches!(why, Why::Younger | Why::Conflict(Some(_)) | Why::Clash(Some(_)));
    let decided =
        move |item: &&Item| by_age && contest(item.why) && (early(&item.saw.one) || early(&item.saw.two));
    plan.items.iter().filter(decided).map(|item| &item.path)
}

fn totals(work: &Work, travels: &Sides<Vec<usize>>) -> Totals {
    let size = |side: Side| {
        let sizes = travels.of(side).iter().filter_map(|&at| match work.plan.items[at].act.of(side) {
            Act::Put { version, .. } => Some(version.content.size()),
            _ => None,
        });
        sizes.sum()
    };
    Totals {
        send_files: travels.one.len() as u64,
        send_bytes: size(Side::One),
        receive_files: travels.two.len() as u64,
        receive_bytes: size(Side::Two),
    }
}

/// Tells what was done, and counts it; what was not is told when no other run is to settle it.
pub(crate) fn account(
    work: &Work,
    results: &Sides<&Results>,
    outcome: &mut Outcome,
    progress: &dyn Progress,
) {
    for (at, item) in work.plan.items.iter().enumerate() {
        let mut ok = true;
        for side in [Side::One, Side::Two] {
            if let Some(failure) = results.of(side).failed.get(&at) {
                ok = false;
                outcome.problems.push(problem(side, item, failure));
                if matches!(failure, Failure::Changed(_)) {
                    outcome.raced.push(item.path.clone());
                }
            }
        }
        if ok && acts(item) {
            outcome.changed = true;
            progress.event(&Event::Done(work.plan.clone(), at));
        }
    }
    outcome.moved = results.one.moved + results.two.moved;
    outcome.deleted = (results.one.deleted, results.two.deleted);
}

fn acts(item: &Item) -> bool {
    item.act != Sides::default()
}

fn problem(side: Side, item: &Item, failure: &Failure) -> Problem {
    let held = "the folder holds something new or excluded, and was left".to_owned();
    let (kind, text) = match failure {
        Failure::Changed(text) => (ProblemKind::Changed, text),
        Failure::Failed(text) => (ProblemKind::Failed, text),
        Failure::Held => (ProblemKind::Changed, &held),
    };
    Problem { side, path: item.path.clone(), text: text.clone(), kind }
}
