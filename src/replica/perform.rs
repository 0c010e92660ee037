//! Carries out one side's part of a plan: everything written down first, durable before placed, one path's failure
//! no other path's.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;

use thiserror::Error;

use super::commit::{CommitError, Hands, sync_fs};
use super::expected::Expected;
use super::history::{Cause, HistoryError, Journal, Record, Was, refused, slot_name, space};
use super::order::{Turn, is_open, turns};
use super::prune::{Limits, prune};
use super::rename::At;
use super::root::{Kind, Root};
use super::stage::{Stage, StageError, Staged};
use super::step::{Done, Step, record, stays};
use crate::core::age::Timestamp;
use crate::core::path::RelPath;
use crate::core::version::Bits;

/// Why the whole part was not done, or is not known to be durable: the base must not be committed.
#[derive(Debug, Error)]
pub enum PerformError {
    /// The history cannot be written; nothing was changed.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The file system does not confirm that everything is on the disk.
    #[error("cannot bring what was written to the disk: {0}; check the disk, then sync again")]
    Sync(io::Error),
}

/// What a side needs to do its part.
#[derive(Debug)]
pub struct Replica<'a, 's> {
    /// The root.
    pub root: &'a Root,
    /// Where the content for it waits.
    pub stage: &'a Stage,
    /// Where losers go.
    pub journal: &'a mut Journal<'s>,
    /// How much they may take; `None` keeps none, once the swap was checked.
    pub keep: Option<Limits>,
    /// This system's clock.
    pub now: Timestamp,
}

/// Does all `steps` in the right order. One result a step, in the order given.
///
/// The order of what becomes durable: the staged content and the records of what is about to happen, then the
/// acts themselves. When this returns everything is on the disk and the base may be committed.
pub fn perform(replica: Replica<'_, '_>, steps: &[Step]) -> Result<Vec<StepResult>, PerformError> {
    if steps.is_empty() {
        return Ok(Vec::new());
    }
    let Replica { root, stage, journal, keep, now } = replica;
    let mut run =
        Run { steps, stage, folders: BTreeMap::new(), results: BTreeMap::new(), failed: BTreeSet::new() };
    run.reserve(journal, keep, now)?;
    run.stage_folders();
    let turns = turns(steps);
    let numbers = run.write_down(journal, &turns)?;
    sync_fs(root).map_err(PerformError::Sync)?;
    let undone = run.take(&turns, &numbers, root, journal.bin());
    sync_fs(root).map_err(PerformError::Sync)?;
    let forgotten = match keep {
        Some(_) => undone,
        None => drop_losers(journal.bin(), &run, &numbers)?,
    };
    journal.forget(&forgotten)?;
    Ok(run.into_results())
}

/// A step's path, and what became of it.
pub type StepResult = (RelPath, Result<Done, CommitError>);

/// The number of each turn's record.
type Numbers = BTreeMap<Turn, i64>;

struct Run<'a> {
    steps: &'a [Step],
    stage: &'a Stage,
    /// Staged folders, by the number of their step.
    folders: BTreeMap<usize, Staged>,
    results: BTreeMap<usize, Result<Done, CommitError>>,
    /// Folders that could not be made, so that nothing can be put into them.
    failed: BTreeSet<RelPath>,
}

impl Run<'_> {
    /// Makes room in the history, and refuses what finds none: older runs go first, this run's losers never.
    fn reserve(
        &mut self,
        journal: &Journal<'_>,
        keep: Option<Limits>,
        now: Timestamp,
    ) -> Result<(), HistoryError> {
        let Some(limits) = keep else { return Ok(()) };
        let wanted = self.steps.iter().filter_map(Step::displaces).map(|entry| entry.size);
        let wanted = wanted.fold(0_u64, u64::saturating_add);
        if wanted == 0 {
            return Ok(());
        }
        let cap = limits.cap.bytes(journal.bin())?;
        let (mut used, _) = space(journal.state())?;
        if used.saturating_add(wanted) > cap {
            prune(journal.state(), limits, wanted, Some(journal.run()), now)?;
            (used, _) = space(journal.state())?;
        }
        for (at, step) in self.steps.iter().enumerate() {
            let size = step.displaces().map_or(0, |entry| entry.size);
            if size > 0 && used.saturating_add(size) > cap {
                self.note(at, Err(CommitError::NoRoomForHistory));
            } else {
                used += size;
            }
        }
        Ok(())
    }

    /// Makes the new folders in staging, so that each takes its place in one step and with its bits.
    fn stage_folders(&mut self) {
        for (at, step) in self.steps.iter().enumerate() {
            let Step::MakeFolder { path, bits, .. } = step else { continue };
            // Members must come in first; such a folder gets its final bits last.
            let bits = if is_open(*bits) { *bits } else { Bits::of_mode(bits.mode() | 0o700) };
            match self.stage.folder(path, bits) {
                Ok(staged) => {
                    self.folders.insert(at, staged);
                }
                Err(StageError::Io { act, source, .. }) => {
                    self.note(at, Err(CommitError::Io { act, source }));
                }
                Err(_) => self.note(at, Err(CommitError::Changed)),
            }
        }
    }

    fn write_down(&self, journal: &mut Journal<'_>, turns: &[Turn]) -> Result<Numbers, HistoryError> {
        let wanted = turns.iter().filter(|turn| !self.results.contains_key(&turn.step()));
        let told: Vec<_> =
            wanted.filter_map(|turn| self.record(*turn).map(|record| (*turn, record))).collect();
        let (turns, records): (Vec<_>, Vec<_>) = told.into_iter().unzip();
        let first = journal.write(&records)?;
        Ok(turns.into_iter().zip(first..).collect())
    }

    fn record(&self, turn: Turn) -> Option<Record> {
        let step = self.steps.get(turn.step())?;
        match turn {
            Turn::Do(at) => Some(record(step, self.folders.get(&at))),
            Turn::Clear(_) => {
                let Step::Put { path, expected: Expected::Entry(entry), .. } = step else { return None };
                let old = Some(Was::of(entry));
                Some(Record { path: path.clone(), cause: Cause::Put, origin: None, old, new: None })
            }
            // An exchange is a move that also tells what came the other way.
            Turn::Exchange { with, pivot, .. } => {
                let (Step::Move { expected, to, .. }, Step::Move { expected: other, .. }) =
                    (step, self.steps.get(with)?)
                else {
                    return None;
                };
                let Step::Move { from: origin, .. } = self.steps.get(pivot)? else { return None };
                Some(Record {
                    path: to.clone(),
                    cause: Cause::Moved,
                    origin: Some(origin.clone()),
                    old: Some(Was::of(other)),
                    new: stays(expected),
                })
            }
            Turn::Follows { .. } | Turn::Finish(_) => None,
        }
    }

    /// Takes all turns. Returns the numbers of the records whose acts were not done.
    fn take(&mut self, turns: &[Turn], numbers: &Numbers, root: &Root, bin: &Root) -> Vec<i64> {
        let mut hands = Hands::new(root, bin);
        let mut undone = Vec::new();
        for turn in turns {
            let at = turn.step();
            let number = numbers.get(turn).copied();
            let slot = slot_name(number.unwrap_or(0), self.steps[at].path());
            let failed = matches!(self.results.get(&at), Some(Err(_)));
            let result = (!failed).then(|| self.act(&mut hands, *turn, &slot));
            // A record stays for as long as its slot holds anything, whatever went wrong.
            let empty = || At { folder: bin.as_fd(), name: &slot }.stat().is_ok_and(|stat| stat.is_none());
            if !matches!(result, Some(Ok(_))) && empty() {
                undone.extend(number);
            }
            if let Some(result) = result {
                self.note(at, result);
            }
        }
        undone
    }

    fn act(&self, hands: &mut Hands<'_>, turn: Turn, slot: &[u8]) -> Result<Done, CommitError> {
        let step = self.steps.get(turn.step()).ok_or(CommitError::Changed)?;
        if let Some(folder) = self.blocked_by(step) {
            return Err(CommitError::Blocked { folder });
        }
        let stat = match (turn, step) {
            (Turn::Do(_), Step::Move { from, to, expected }) => hands.move_entry(from, to, expected)?,
            (Turn::Do(_), Step::Put { staged, path, expected }) => {
                let cleared = if expected.is_folder() { &Expected::Absent } else { expected };
                hands.place(self.stage.at(&staged.name), &staged.stat, path, cleared, slot)?
            }
            (Turn::Do(at), Step::MakeFolder { path, expected, .. }) => {
                let folder = self.folders.get(&at).ok_or(CommitError::Changed)?;
                hands.place(self.stage.at(&folder.name), &folder.stat, path, expected, slot)?
            }
            (Turn::Do(_), Step::SetBits { path, bits, expected }) => hands.set_bits(path, *bits, expected)?,
            (Turn::Do(_), Step::Remove { path, expected, .. }) => {
                match expected.kind {
                    Kind::Folder => hands.remove_folder(path, expected)?,
                    _ => hands.remove(path, expected, slot)?,
                }
                return Ok(Done { stat: None });
            }
            (Turn::Clear(_), Step::Put { path, expected: Expected::Entry(entry), .. }) => {
                hands.remove_folder(path, entry)?;
                return Ok(Done { stat: None });
            }
            (Turn::Exchange { with, pivot, .. }, Step::Move { to, expected, .. }) => {
                let (Some(Step::Move { from: held, .. }), Some(Step::Move { expected: other, .. })) =
                    (self.steps.get(pivot), self.steps.get(with))
                else {
                    return Err(CommitError::Changed);
                };
                hands.swap((held, expected), (to, other))?;
                hands.look(to)?.ok_or(CommitError::Changed)?
            }
            (Turn::Follows { other, .. }, Step::Move { to, .. }) => match self.results.get(&other) {
                Some(Ok(_)) => hands.look(to)?.ok_or(CommitError::Changed)?,
                _ => return Err(CommitError::Changed),
            },
            (Turn::Finish(_), Step::MakeFolder { path, bits, .. }) => hands.set_folder_bits(path, *bits)?,
            _ => return Err(CommitError::Changed),
        };
        Ok(Done { stat: Some(stat) })
    }

    /// The folder above the step's path that could not be made, if there is one.
    fn blocked_by(&self, step: &Step) -> Option<RelPath> {
        if self.failed.is_empty() || matches!(step, Step::Remove { .. } | Step::SetBits { .. }) {
            return None;
        }
        let mut above = step.path().parent();
        while let Some(folder) = above {
            if self.failed.contains(&folder) {
                return Some(folder);
            }
            above = folder.parent();
        }
        None
    }

    fn note(&mut self, at: usize, result: Result<Done, CommitError>) {
        if result.is_err() && matches!(self.steps[at], Step::MakeFolder { .. } | Step::Move { .. }) {
            self.failed.insert(self.steps[at].path().clone());
        }
        self.results.insert(at, result);
    }

    fn into_results(mut self) -> Vec<StepResult> {
        let mut result = |at| self.results.remove(&at).unwrap_or(Err(CommitError::Changed));
        self.steps.iter().enumerate().map(|(at, step)| (step.path().clone(), result(at))).collect()
    }
}

/// Without a history: removes what was displaced, now that every swap was checked, and returns the records to forget.
/// What a failed act left in a slot stays, with its record.
fn drop_losers(bin: &Root, run: &Run<'_>, numbers: &Numbers) -> Result<Vec<i64>, HistoryError> {
    let mut forgotten = Vec::new();
    for (turn, number) in numbers {
        let slot = slot_name(*number, run.steps[turn.step()].path());
        let slot = At { folder: bin.as_fd(), name: &slot };
        let full = slot.stat().map_err(refused("look into"))?.is_some();
        let done = matches!(run.results.get(&turn.step()), Some(Ok(_)));
        if full && done {
            slot.unlink().map_err(refused("empty"))?;
        }
        if done || !full {
            forgotten.push(*number);
        }
    }
    Ok(forgotten)
}
