//! Carries out one side's part of a plan: everything written down first, durable before placed, one path's failure
//! no other path's.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;

use thiserror::Error;

use super::commit::{CommitError, Hands, sync_fs};
use super::expected::Expected;
use super::history::{HistoryError, Journal, existing_bin, refused, slot_name, space};
use super::identity::Id;
use super::order::{Turn, opened, turns};
use super::prune::{Limits, prune};
use super::record::{Cause, Record, Was};
use super::rename::At;
use super::root::{Kind, Root, Stat};
use super::stage::{Stage, StageError, Staged, Waits};
use super::step::{Done, Step, record, stays};
use crate::core::age::Timestamp;
use crate::core::path::RelPath;

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
    let mut run = Run::of(steps, stage, journal)?;
    run.reserve(journal, keep, now)?;
    run.stage_folders();
    run.find_trees();
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
    /// Folders of earlier runs in the history, for what is brought back from there.
    bins: BTreeMap<Id, Root>,
    /// Staged folders, by the number of their step.
    folders: BTreeMap<usize, Staged>,
    /// The steps that place trees, by the trees' numbers.
    trees: BTreeMap<u32, usize>,
    results: BTreeMap<usize, Result<Done, CommitError>>,
    /// Folders that could not be made, so that nothing can be put into them, and whether a change was what kept them.
    failed: BTreeMap<RelPath, bool>,
}

impl<'a> Run<'a> {
    fn of(steps: &'a [Step], stage: &'a Stage, journal: &Journal<'_>) -> Result<Run<'a>, HistoryError> {
        let mut bins = BTreeMap::new();
        for step in steps {
            if let Step::Put { staged: Staged { waits: Waits::History(home, _), .. }, .. } = step
                && !bins.contains_key(home)
                && let Some(bin) = existing_bin(journal.state().folder(), *home)?
            {
                bins.insert(*home, bin);
            }
        }
        let (folders, trees, results) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Ok(Run { steps, stage, bins, folders, trees, results, failed: BTreeMap::new() })
    }

    /// Where something waits for its place.
    fn waiting<'s>(&'s self, staged: &'s Staged) -> Result<At<'s>, CommitError> {
        Ok(match &staged.waits {
            Waits::Staging(name) | Waits::Tree(_, name) => At { folder: self.stage.as_fd(), name },
            Waits::History(home, name) => {
                At { folder: self.bins.get(home).ok_or(CommitError::Changed)?.as_fd(), name }
            }
            Waits::Member(_) => return Err(CommitError::Changed),
        })
    }

    /// What stands where a member of a tree belongs: itself, if the tree was placed and nobody took the member out before.
    fn came_with(
        &self,
        hands: &mut Hands<'_>,
        (tree, member): (u32, &Staged),
        path: &RelPath,
    ) -> Result<Stat, CommitError> {
        let placed = self.trees.get(&tree).and_then(|at| self.results.get(at));
        if !matches!(placed, Some(Ok(_))) {
            return Err(CommitError::Changed);
        }
        let stat = hands.look(path)?.ok_or(CommitError::Changed)?;
        // What was edited since is still it. And there are systems that make an inode's number from the path.
        let (is, was) = (&stat, &member.stat);
        let same = is.seen.inode == was.seen.inode || (is.size, is.modified) == (was.size, was.modified);
        let same = is.kind == was.kind && (same || is.kind == Kind::Folder);
        if same { Ok(stat) } else { Err(CommitError::Changed) }
    }

    /// Makes room in the history, and refuses what finds none: older runs go first, this run's losers never.
    fn reserve(
        &mut self,
        journal: &Journal<'_>,
        keep: Option<Limits>,
        now: Timestamp,
    ) -> Result<(), HistoryError> {
        let Some(limits) = keep else { return Ok(()) };
        let cap = limits.cap.bytes(journal.bin())?;
        // What can never fit is refused below: older runs need not go for it.
        let fitting = |sum: u64, size: u64| if sum.saturating_add(size) <= cap { sum + size } else { sum };
        let sizes = self.steps.iter().filter_map(Step::displaces).map(|entry| entry.size);
        let wanted = sizes.clone().fold(0, fitting);
        if sizes.sum::<u64>() == 0 {
            return Ok(());
        }
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

    /// Makes the new folders in staging, so that each takes its place in one step and with its bits; what has grown there
    /// has them.
    fn stage_folders(&mut self) {
        for (at, step) in self.steps.iter().enumerate() {
            let Step::MakeFolder { path, bits, .. } = step else { continue };
            // Members must come in first; a folder that is not open to us gets its final bits last.
            let grown = self.stage.grown_folder(path);
            match grown.map_or_else(|| self.stage.empty_folder(opened(*bits)), Ok) {
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

    /// Finds the steps that place trees. A tree that may hold what no step puts in place stays where it is: the next run settles
    /// what belongs there.
    fn find_trees(&mut self) {
        let mut members = BTreeMap::<u32, u64>::new();
        let puts = self.steps.iter().filter_map(|step| match step {
            Step::Put { staged, .. } => Some(staged),
            _ => None,
        });
        for staged in puts.chain(self.folders.values()) {
            if let Waits::Tree(tree, _) | Waits::Member(tree) = staged.waits {
                *members.entry(tree).or_default() += 1;
            }
        }
        let tree = |(at, folder): (&usize, &Staged)| match folder.waits {
            Waits::Tree(tree, _) => Some((tree, *at)),
            _ => None,
        };
        for (tree, at) in self.folders.iter().filter_map(tree).collect::<Vec<_>>() {
            if members.get(&tree) == Some(&self.stage.members(tree)) {
                self.trees.insert(tree, at);
            } else {
                self.note(at, Err(CommitError::Changed));
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
        self.stage.let_go();
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
        if let Some(blocked) = self.blocked(step) {
            return Err(blocked);
        }
        let stat = match (turn, step) {
            (Turn::Do(_), Step::Move { from, to, expected }) => hands.move_entry(from, to, expected)?,
            (
                Turn::Do(_),
                Step::Put { staged: staged @ Staged { waits: Waits::Member(tree), .. }, path, expected },
            ) if *expected == Expected::Absent => self.came_with(hands, (*tree, staged), path)?,
            (Turn::Do(_), Step::Put { staged, path, expected }) => {
                let cleared = if expected.is_folder() { &Expected::Absent } else { expected };
                hands.place(self.waiting(staged)?, &staged.stat, path, cleared, slot)?
            }
            (Turn::Do(at), Step::MakeFolder { path, expected, .. }) => {
                let folder = self.folders.get(&at).ok_or(CommitError::Changed)?;
                match folder.waits {
                    Waits::Member(tree) if *expected == Expected::Absent => {
                        self.came_with(hands, (tree, folder), path)?
                    }
                    _ => hands.place(self.waiting(folder)?, &folder.stat, path, expected, slot)?,
                }
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

    /// What a step ends with for a folder above its path that could not be made, if there is one: what a change kept from
    /// being made, the next run settles with all that belongs into it.
    fn blocked(&self, step: &Step) -> Option<CommitError> {
        if self.failed.is_empty() || matches!(step, Step::Remove { .. } | Step::SetBits { .. }) {
            return None;
        }
        let mut above = step.path().parent();
        while let Some(folder) = above {
            match self.failed.get(&folder) {
                Some(true) => return Some(CommitError::Changed),
                Some(false) => return Some(CommitError::Blocked { folder }),
                None => {}
            }
            above = folder.parent();
        }
        None
    }

    fn note(&mut self, at: usize, result: Result<Done, CommitError>) {
        if let Err(error) = &result
            && matches!(self.steps[at], Step::MakeFolder { .. } | Step::Move { .. })
        {
            self.failed.insert(self.steps[at].path().clone(), error.is_change());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::base::{BaseContent, BaseEntry};
    use crate::core::digest::Digest;
    use crate::core::version::Bits;
    use crate::replica::base_store;
    use crate::replica::fault::{killed_at, meddled_at, without_exchange};
    use crate::replica::prune::Cap;
    use crate::replica::stage::Promise;
    use crate::replica::testing::*;
    use std::fs;

    #[test]
    fn what_is_replaced_and_deleted_is_in_the_history() {
        let field = Field::new(&[("a", "old a"), ("d/c", "old c"), ("l", "-> a")]);
        let stage = field.stage(1);
        let steps = [
            field.put(&stage, "a", "new a"),
            field.put(&stage, "b", "new b"),
            field.remove("d/c"),
            field.put(&stage, "l", "-> elsewhere"),
        ];
        let results = field.perform(&stage, 1, &steps);
        assert_eq!(failures(&results), [""; 0]);
        let Ok(Done { stat: Some(stat) }) = &results[0].1 else { panic!("{results:?}") };
        assert_eq!(*stat, field.root.stat(&path("a")).unwrap());
        let now = [("a", "new a"), ("b", "new b"), ("d", "/"), ("l", "-> elsewhere")];
        assert_eq!(field.tree(), tree_of(&now));
        let old = [("a", "old a"), ("l", "-> a"), ("d/c", "old c")];
        assert_eq!(field.kept(), old.map(|(path, text)| (path.to_owned(), text.to_owned())));
        assert_eq!((field.mode("a"), stat.modified), (0o640, promise("a", b"").modified));
        stage.close().unwrap();
        assert_eq!(fs::read_dir(field.at(".syncfiles/stage")).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_changed_since_the_plan_is_left_whatever_the_act() {
        type Edit = fn(&Field);
        let edits: [(&str, Edit); 4] = [
            ("longer", |f| fs::write(f.at("x"), "edited by the user").unwrap()),
            ("gone", |f| fs::remove_file(f.at("x")).unwrap()),
            ("now a folder", |f| {
                fs::remove_file(f.at("x")).unwrap();
                fs::create_dir(f.at("x")).unwrap();
            }),
            ("replaced by an equal one", |f| {
                fs::write(f.at("y"), "old").unwrap();
                fs::rename(f.at("y"), f.at("x")).unwrap();
            }),
        ];
        for (what, edit) in edits {
            for act in 0..4 {
                let field = Field::new(&[("x", "old")]);
                let stage = field.stage(1);
                let step = match act {
                    0 => field.put(&stage, "x", "new"),
                    1 => field.remove("x"),
                    2 => field.shift("x", "z"),
                    _ => field.folder("x", 0o755),
                };
                edit(&field);
                let before = field.tree();
                let results = field.perform(&stage, 1, &[step]);
                assert!(matches!(results[0].1, Err(CommitError::Changed)), "{what} {act}: {results:?}");
                assert_eq!((field.tree(), field.kept()), (before, vec![]), "{what} {act}");
            }
        }
    }

    #[test]
    fn an_edit_of_the_same_size_with_its_time_set_back_is_told_by_its_hash() {
        for act in 0..3 {
            let field = Field::new(&[("x", "old")]);
            let stage = field.stage(1);
            let step = match act {
                0 => field.put(&stage, "x", "new"),
                1 => field.remove("x"),
                _ => field.shift("x", "z"),
            };
            let time = fs::metadata(field.at("x")).unwrap().modified().unwrap();
            fs::write(field.at("x"), "OLD").unwrap();
            fs::File::options().write(true).open(field.at("x")).unwrap().set_modified(time).unwrap();
            let results = field.perform(&stage, 1, &[step]);
            assert!(matches!(results[0].1, Err(CommitError::Changed)), "{act}: {results:?}");
            assert_eq!((field.tree(), field.kept()), (tree_of(&[("x", "OLD")]), vec![]), "{act}");
        }
    }

    #[test]
    fn what_appears_where_nothing_was_expected_is_never_overwritten() {
        let field = Field::new(&[("from", "moved")]);
        let stage = field.stage(1);
        let steps = [field.put(&stage, "x", "new"), field.shift("from", "y"), field.folder("z", 0o755)];
        for at in ["x", "y", "z"] {
            field.write(at, "the user's");
        }
        let results = field.perform(&stage, 1, &steps);
        assert_eq!(failures(&results), ["x: Changed", "y: Changed", "z: Changed"]);
        assert!(["x", "y", "z"].iter().all(|at| field.tree()[*at] == "the user's"));
    }

    /// Somebody else acts before each step in turn, in place or by a rename: what they write is live or kept.
    #[test]
    fn an_edit_at_any_moment_of_an_act_survives() {
        let cases = [(true, true), (true, false), (false, true)];
        for (in_place, exchange) in cases {
            for act in ["replace", "remove", "move"] {
                let mut at = 0;
                while survives(in_place, exchange, act, at) {
                    at += 1;
                }
                assert!(at > 3, "{act} has steps");
            }
        }
    }

    /// False once there is no such step.
    fn survives(in_place: bool, exchange: bool, act: &str, at: u64) -> bool {
        let field = Field::new(&[("x", "old")]);
        let stage = field.stage(1);
        let step = match act {
            "replace" => field.put(&stage, "x", "new"),
            "remove" => field.remove("x"),
            _ => field.shift("x", "y"),
        };
        let (name, other) = (field.at("x"), field.at("other"));
        let happened = std::rc::Rc::new(std::cell::Cell::new(false));
        let told = happened.clone();
        let edit = move || {
            told.set(true);
            let written = if in_place { &name } else { &other };
            fs::write(written, "edit").unwrap();
            fs::rename(written, &name).unwrap();
        };
        let perform = || meddled_at(at, edit, || field.perform(&stage, 1, &[step]));
        let results = if exchange { perform() } else { without_exchange(perform) };
        let mut all: Vec<_> = field.tree().into_values().collect();
        all.extend(field.kept().into_iter().map(|(_, text)| text));
        let edited = all.iter().any(|text| text == "edit");
        assert!(edited || !happened.get(), "{act} {in_place} {exchange} {at}: {all:?} {results:?}");
        happened.get()
    }

    #[test]
    fn a_link_is_replaced_itself_and_what_it_points_to_is_not_touched() {
        let outside = tempfile::tempdir().unwrap();
        let target = outside.path().join("target");
        fs::write(&target, "untouched").unwrap();
        let field = Field::new(&[("l", &format!("-> {}", target.display())), ("m", "-> l")]);
        let stage = field.stage(1);
        let bits = Step::SetBits { path: path("m"), bits: Bits::of_mode(0o600), expected: field.entry("m") };
        let results = field.perform(&stage, 1, &[field.put(&stage, "l", "new"), bits]);
        assert_eq!(failures(&results), ["m: Changed"]);
        assert_eq!(fs::read_to_string(&target).unwrap(), "untouched");
        assert_eq!(field.tree()["l"], "new");
    }

    #[test]
    fn a_folder_on_the_way_that_became_a_link_leads_nowhere() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("f"), "untouched").unwrap();
        let field = Field::new(&[("d/f", "old"), ("d/g", "old")]);
        let stage = field.stage(1);
        let steps = [field.put(&stage, "d/f", "new"), field.put(&stage, "d/h", "new"), field.remove("d/g")];
        fs::rename(field.at("d"), field.at("e")).unwrap();
        std::os::unix::fs::symlink(outside.path(), field.at("d")).unwrap();
        let results = field.perform(&stage, 1, &steps);
        assert_eq!(failures(&results), ["d/f: Changed", "d/h: Changed", "d/g: Changed"]);
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_takes_a_folders_place_unless_something_holds_it() {
        let field = Field::new(&[("k/x", "x"), ("k/s/y", "y")]);
        let steps = |stage: &Stage| {
            let mut steps = vec![field.put(stage, "k", "file")];
            steps.extend(["k/x", "k/s", "k/s/y"].map(|at| field.remove(at)));
            steps
        };
        let stage = field.stage(1);
        let planned = steps(&stage);
        field.write("k/s/.syncfiles/z", "unknown");
        let results = field.perform(&stage, 1, &planned);
        assert_eq!(failures(&results), ["k: HeldByMembers", "k/s: HeldByMembers"]);
        fs::remove_dir_all(field.at("k/s/.syncfiles")).unwrap();
        let mut rest = vec![field.put(&stage, "k", "file"), field.remove("k/s")];
        rest.reverse();
        assert_eq!(failures(&field.perform(&stage, 2, &rest)), [""; 0]);
        assert_eq!(field.tree(), tree_of(&[("k", "file")]));
        assert_eq!(field.kept().len(), 2);
    }

    #[test]
    fn a_folder_takes_a_files_place_and_its_members_follow() {
        for exchange in [true, false] {
            let field = Field::new(&[("l", "file"), ("far", "moved in")]);
            let stage = field.stage(1);
            let steps = [
                field.put(&stage, "l/s/z", "new"),
                field.folder("l/s", 0o555),
                field.shift("far", "l/s/near"),
                field.folder("l", 0o755),
            ];
            let act = || field.perform(&stage, 1, &steps);
            let results = if exchange { act() } else { without_exchange(act) };
            assert_eq!(failures(&results), [""; 0]);
            assert_eq!(
                field.tree(),
                tree_of(&[("l", "/"), ("l/s", "/"), ("l/s/near", "moved in"), ("l/s/z", "new")])
            );
            assert_eq!(field.kept(), [("l".to_owned(), "file".to_owned())]);
            assert_eq!((field.mode("l"), field.mode("l/s")), (0o755, 0o555));
        }
    }

    #[test]
    fn what_belongs_below_a_folder_that_could_not_be_made_fails_with_it_and_nothing_else_does() {
        let field = Field::new(&[("far", "far")]);
        let stage = field.stage(1);
        let steps = [
            field.folder("d", 0o755),
            field.put(&stage, "d/f", "f"),
            field.shift("far", "d/far"),
            field.put(&stage, "e", "e"),
        ];
        field.write("d", "in the way");
        let results = field.perform(&stage, 1, &steps);
        let failures = failures(&results);
        assert_eq!(failures, ["d: Changed", "d/f: Changed", "d/far: Changed"]);
        assert_eq!(field.tree(), tree_of(&[("d", "in the way"), ("e", "e"), ("far", "far")]));
    }

    #[test]
    fn what_belongs_below_a_folder_for_which_there_is_no_room_says_so() {
        let field = Field::new(&[("d", "a file that is kept nowhere")]);
        let stage = field.stage(1);
        let steps = [field.folder("d", 0o755), field.put(&stage, "d/f", "f")];
        let none = Some(Limits { age: i64::MAX, cap: Cap::Bytes(1) });
        let results = field.try_perform(&stage, 1, none, &steps).unwrap();
        assert_eq!(failures(&results), ["d: NoRoomForHistory", "d/f: Blocked { folder: d }"]);
    }

    #[test]
    fn chains_go_end_first_and_circles_by_exchange() {
        let names = ["a", "b", "c", "p", "q", "r", "s", "x", "y", "Case"];
        let field = Field::new(&names.map(|name| (name, name)));
        let stage = field.stage(1);
        let moves = [
            ("a", "b"),
            ("b", "c"),
            ("c", "d"),
            ("p", "q"),
            ("q", "r"),
            ("r", "s"),
            ("s", "p"),
            ("x", "y"),
            ("y", "x"),
            ("Case", "case"),
        ];
        let steps = moves.map(|(from, to)| field.shift(from, to));
        assert_eq!(failures(&field.perform(&stage, 1, &steps)), [""; 0]);
        let mut moved = moves.map(|(from, to)| (to, from));
        moved.sort();
        assert_eq!(field.tree(), tree_of(&moved));
        assert_eq!(field.kept(), []);
    }

    #[test]
    fn a_folder_moves_whole_with_what_nobody_may_touch() {
        let field = Field::new(&[("d/f", "f"), ("d/s/.syncfiles/x", "ignored")]);
        let stage = field.stage(1);
        let steps = [field.shift("d", "n/e"), field.folder("n", 0o755), field.put(&stage, "n/e/g", "g")];
        assert_eq!(failures(&field.perform(&stage, 1, &steps)), [""; 0]);
        assert!(field.at("n/e/s/.syncfiles/x").exists() && field.at("n/e/g").exists());
    }

    #[test]
    fn bits_are_set_on_what_the_plan_saw_only() {
        let field = Field::new(&[("f", "f"), ("g", "g"), ("d/x", "x")]);
        let stage = field.stage(1);
        let set = |at: &str, bits| Step::SetBits {
            path: path(at),
            bits: Bits::of_mode(bits),
            expected: field.entry(at),
        };
        let steps = [set("f", 0o4000), set("g", 0o640), set("d", 0o500), field.remove("d/x")];
        fs::set_permissions(field.at("g"), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        assert_eq!(failures(&field.perform(&stage, 1, &steps)), ["g: Changed"]);
        assert_eq!(["f", "g", "d"].map(|at| field.mode(at)), [0, 0o666, 0o500]);
    }

    #[test]
    fn without_room_in_the_history_nothing_is_displaced_and_older_runs_go_first() {
        let field = Field::new(&[("a", "0123456789"), ("b", "0123456789"), ("c", "c")]);
        let keep = |bytes| Some(Limits { age: i64::MAX, cap: Cap::Bytes(bytes) });
        let stage = field.stage(1);
        field.try_perform(&stage, 1, keep(15), &[field.remove("a")]).unwrap();
        let steps = [field.remove("b"), field.put(&stage, "c", "new"), field.put(&stage, "n", "n")];
        let results = field.try_perform(&stage, 2, keep(10), &steps).unwrap();
        assert_eq!(failures(&results), ["c: NoRoomForHistory"]);
        assert_eq!(field.kept(), [("b".to_owned(), "0123456789".to_owned())]);
        assert_eq!(field.tree(), tree_of(&[("c", "c"), ("n", "n")]));
    }

    /// It used to clear all of them, and then to be refused.
    #[test]
    fn what_can_never_fit_into_the_history_sends_no_older_run_away() {
        let field = Field::new(&[("a", "0123456789"), ("b", "0123456789"), ("c", "c")]);
        let keep = |bytes| Some(Limits { age: i64::MAX, cap: Cap::Bytes(bytes) });
        let stage = field.stage(1);
        field.try_perform(&stage, 1, keep(9), &[field.remove("c")]).unwrap();
        let results = field.try_perform(&stage, 2, keep(9), &[field.remove("a"), field.remove("b")]).unwrap();
        assert_eq!(failures(&results), ["a: NoRoomForHistory", "b: NoRoomForHistory"]);
        assert_eq!(field.kept(), [("c".to_owned(), "c".to_owned())]);
    }

    #[test]
    fn without_a_history_losers_go_only_after_the_check() {
        let field = Field::new(&[("a", "a"), ("b", "b")]);
        let stage = field.stage(1);
        let steps = [field.put(&stage, "a", "new"), field.remove("b")];
        field.write("b", "edited");
        let results = field.try_perform(&stage, 1, None, &steps).unwrap();
        assert_eq!(failures(&results), ["b: Changed"]);
        assert_eq!((field.tree(), field.kept()), (tree_of(&[("a", "new"), ("b", "edited")]), vec![]));
        assert_eq!(crate::replica::history::records(&field.state(), run(1)).unwrap(), []);
    }

    #[test]
    #[ignore = "a measurement"]
    fn speed_of_staging_and_placing() {
        let (field, bytes) = (Field::new(&[]), "x".repeat(8192));
        let stage = field.stage(1);
        // Processor time tells more than the clock where others use the machine, too.
        let spent = || {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
            time.tv_sec * 1000 + time.tv_nsec / 1_000_000
        };
        let mut last = (std::time::Instant::now(), spent());
        let mut lap = |what: &str| {
            println!("{what}: {:?}, {} ms of processor", last.0.elapsed(), spent() - last.1);
            last = (std::time::Instant::now(), spent());
        };
        let put = |number: u64| {
            let path = path(&format!("d{}/{number}", number / 500));
            let promise = Promise { path: path.clone(), ..promise("x", bytes.as_bytes()) };
            let staged = stage.whole(&promise, bytes.as_bytes()).unwrap();
            Step::Put { staged, path, expected: Expected::Absent }
        };
        let mut steps: Vec<_> = (0..20_000).map(put).collect();
        lap("20 000 files of 8 KiB staged");
        steps.extend((0..40).map(|number| field.folder(&format!("d{number}"), 0o755)));
        assert_eq!(failures(&field.perform(&stage, 1, &steps)), [""; 0]);
        lap("placed, two syncfs included");
        let names: Vec<_> = (0..20_000).map(|number| format!("d{}/{number}", number / 500)).collect();
        let steps: Vec<_> = names.iter().map(|name| field.remove(name)).collect();
        lap("looked at");
        assert_eq!(failures(&field.perform(&stage, 2, &steps)), [""; 0]);
        lap("removed into the history");
        let state = field.state();
        let row = |number: u64| {
            let content = BaseContent::File { size: number, sha256: Digest::of(b"") };
            (
                path(&format!("d{}/f{number}", number / 500)),
                Some(BaseEntry { content, bits: Bits::of_mode(0) }),
            )
        };
        let rows = (0..1_000_000).map(row).collect();
        lap("rows made");
        let change = base_store::Change { run: run(1), settled: None, fresh: false, rows };
        base_store::commit(&state, run(2), &change).unwrap();
        lap("1 000 000 base rows committed");
        assert_eq!(base_store::load(&state, run(2), run(1)).unwrap().unwrap().rows().len(), 1_000_000);
        lap("and loaded");
        drop((state, stage));
        lap("and closed");
        drop(field);
        lap("and removed");
    }

    const BEFORE: [(&str, &str); 17] = [
        ("a", "old a"),
        ("c", "old c"),
        ("d", "moved d"),
        ("f", "was f"),
        ("g", "was g"),
        ("h", "was h"),
        ("i", "was i"),
        ("j", "was j"),
        ("k", "/"),
        ("k/x", "kx"),
        ("k/y", "ky"),
        ("l", "file l"),
        ("m", "bits"),
        ("o", "-> a"),
        ("q", "case"),
        ("w", "/"),
        ("w/v", "whole"),
    ];
    const AFTER: [(&str, &str); 22] = [
        ("Q", "case"),
        ("a", "new a"),
        ("b", "new b"),
        ("e", "moved d"),
        ("f", "was g"),
        ("g", "was f"),
        ("h", "was j"),
        ("i", "was h"),
        ("j", "was i"),
        ("k", "file k"),
        ("l", "/"),
        ("l/z", "new z"),
        ("m", "bits"),
        ("n", "/"),
        ("n/s", "new s"),
        ("n/w", "/"),
        ("n/w/v", "whole"),
        ("o", "-> b"),
        ("t", "/"),
        ("t/l", "-> v"),
        ("t/u", "/"),
        ("t/u/v", "new v"),
    ];

    /// With folders that grow, or all staged by itself.
    fn staging(field: &Field, grows: bool) -> Stage {
        let folders = [("n", 0o755), ("t", 0o755), ("t/u", 0o755)];
        if grows {
            field.growing(1, &folders, &[("n/s", "new s"), ("t/u/v", "new v")])
        } else {
            field.stage(1)
        }
    }

    fn everything(field: &Field, stage: &Stage) -> Vec<Step> {
        let mut steps: Vec<_> = [
            ("a", "new a"),
            ("b", "new b"),
            ("k", "file k"),
            ("l/z", "new z"),
            ("n/s", "new s"),
            ("o", "-> b"),
            ("t/u/v", "new v"),
            ("t/l", "-> v"),
        ]
        .map(|(at, text)| field.put(stage, at, text))
        .into();
        steps.extend(["c", "k/x", "k/y"].map(|at| field.remove(at)));
        let moves = [
            ("d", "e"),
            ("f", "g"),
            ("g", "f"),
            ("h", "i"),
            ("i", "j"),
            ("j", "h"),
            ("q", "Q"),
            ("w", "n/w"),
        ];
        steps.extend(moves.map(|(from, to)| field.shift(from, to)));
        steps.extend(["l", "n", "t", "t/u"].map(|at| field.folder(at, 0o755)));
        let bits = Bits::of_mode(0o600);
        steps.push(Step::SetBits { path: path("m"), bits, expected: field.entry("m") });
        steps
    }

    #[test]
    fn every_kind_of_step_together_gives_the_planned_tree() {
        for (exchange, grows) in [(true, true), (true, false), (false, true), (false, false)] {
            let field = Field::new(&BEFORE);
            let stage = staging(&field, grows);
            let steps = everything(&field, &stage);
            if exchange {
                assert_eq!(failures(&field.perform(&stage, 1, &steps)), [""; 0]);
                assert_eq!(field.tree(), tree_of(&AFTER));
            } else {
                let results = without_exchange(|| field.perform(&stage, 1, &steps));
                assert!(
                    failures(&results).iter().all(|failure| "fghij".contains(&failure[..1])),
                    "{results:?}"
                );
            }
        }
    }

    #[test]
    fn killed_at_any_step_each_path_is_old_or_new_and_every_version_is_live_or_kept() {
        for (exchange, grows) in [(true, true), (true, false), (false, true), (false, false)] {
            for at in 0.. {
                let field = Field::new(&BEFORE);
                let stage = staging(&field, grows);
                let steps = everything(&field, &stage);
                let keep = Some(Limits::default());
                let act = || killed_at(at, || field.try_perform(&stage, 1, keep, &steps).is_err());
                let (_, died) = if exchange { act() } else { without_exchange(act) };
                drop(stage);
                check_nothing_lost(&field, at, exchange);
                let (_, left) = Stage::open(field.state().folder(), run(2), LATER).unwrap();
                assert!(!left.iter().any(|name| name.contains("/p")), "{at}: {left:?}");
                check_nothing_lost(&field, at, exchange);
                if !died {
                    break;
                }
            }
        }
    }

    fn check_nothing_lost(field: &Field, at: u64, exchange: bool) {
        let (before, after, now) = (tree_of(&BEFORE), tree_of(&AFTER), field.tree());
        let kept: Vec<_> = field.kept().into_iter().map(|(_, text)| text).collect();
        for text in BEFORE.iter().map(|(_, text)| *text).filter(|text| *text != "/") {
            assert!(
                now.values().any(|t| t == text) || kept.iter().any(|t| t == text),
                "{at}: {text} is lost"
            );
        }
        for new in ["new a", "new b", "file k", "new z", "-> b", "new v"] {
            assert!(
                kept.iter().all(|text| text != new),
                "{at}: {new} never stood anywhere and is in the history"
            );
        }
        for (path, text) in &now {
            let cycle = "fghij".contains(path.as_str());
            let whole = before.get(path) == Some(text) || after.get(path) == Some(text);
            assert!(whole || cycle && before.values().any(|t| t == text), "{at}: {path} holds {text:?}");
        }
        for path in before.keys().filter(|path| after.contains_key(*path)) {
            let clearing = matches!(path.as_str(), "k") || !exchange && path == "l";
            assert!(clearing || now.contains_key(path), "{at}: {path} is missing");
        }
    }
}
