//! Brings back what runs displaced, as new edits: what comes back is as young as now, so that it wins the next sync,
//! and what it displaces goes to the history in turn.
//!
//! Restoring is a plan like any other, carried out by [`perform`]: the versions wait in the history instead of in
//! staging. It knows no cap: it must not prune what it is about to bring back. The plan is made by looking only, so that
//! it can be shown instead of carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;

use rustix::fs::AtFlags;
use thiserror::Error;

use super::commit::CommitError;
use super::expected::{Entry, Expected, read_through};
use super::history::{
    HistoryError, Journal, Version, existing_bin, forget, list, records, refused, runs, slot_name,
};
use super::identity::Id;
use super::perform::{PerformError, Replica, StepResult, perform};
use super::prune::{Cap, Limits};
use super::record::{Cause, Made, Record};
use super::rename::At;
use super::root::{Kind, Root, Stat};
use super::stage::{Stage, StageError, Staged, Waits, times};
use super::state::State;
use super::step::Step;
use crate::core::age::Timestamp;
use crate::core::digest::{Digest, Hasher};
use crate::core::path::RelPath;
use crate::core::version::Bits;

/// Why nothing was brought back.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// The history.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The root.
    #[error(transparent)]
    Perform(#[from] PerformError),
    /// The staging folder.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// A path of the root cannot be looked at.
    #[error("cannot look at {path}: {source}; check the permissions there")]
    Look {
        /// Which.
        path: RelPath,
        /// What the system said.
        source: io::Error,
    },
}

/// A root whose history is used, outside of a sync.
#[derive(Clone, Copy, Debug)]
pub struct Restorer<'a> {
    /// The root.
    pub root: &'a Root,
    /// Its state.
    pub state: &'a State,
    /// The id of this restoring, a run of its own that can be undone.
    pub run: Id,
    /// This system's clock.
    pub now: Timestamp,
}

/// What brings something back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WayBack {
    /// What is to be done, at most one step a path, in path order.
    pub steps: Vec<Step>,
    /// What the run made and was changed since, so that it is left.
    pub left: Vec<RelPath>,
}

impl Restorer<'_> {
    /// How to bring back `paths`, or everything displaced below them, each from the run `from` or the latest that
    /// displaced it. Fails where one of them is not in the history.
    pub fn plan_restore(&self, paths: &[RelPath], from: Option<Id>) -> Result<WayBack, RestoreError> {
        let versions = list(self.state)?;
        let mut plan = BTreeMap::new();
        for path in paths {
            self.plan_path(&mut plan, &versions, path, from)?;
        }
        self.make_parents(&mut plan)?;
        Ok(WayBack { steps: plan.into_values().collect(), left: Vec::new() })
    }

    fn plan_path(
        &self,
        plan: &mut Plan,
        versions: &[Version],
        path: &RelPath,
        from: Option<Id>,
    ) -> Result<(), RestoreError> {
        let within =
            |version: &Version| version.path.is_within(path) && from.is_none_or(|run| run == version.run);
        let mut found: Vec<&Version> = versions.iter().filter(|version| within(version)).collect();
        let Some(run) = found.first().map(|version| version.run) else {
            return Err(HistoryError::Unknown(path.to_string()).into());
        };
        found.retain(|version| version.run == run);
        // Of several versions of one path in one run the first is what stood there before the run.
        let mut taken = BTreeSet::new();
        found.retain(|version| taken.insert(&version.path));
        for version in found {
            self.bring_back(plan, run, version.number, &version.path, None)?;
        }
        Ok(())
    }

    /// How to undo the run `undone`, or the latest, on this side: what it displaced comes back, what it made goes
    /// to the history, what it moved returns. What was changed since is left.
    pub fn plan_undo(&self, undone: Option<Id>) -> Result<WayBack, RestoreError> {
        let known = runs(self.state).map_err(HistoryError::from)?;
        let run = known.iter().map(|(id, _)| *id).find(|id| undone.is_none_or(|wanted| wanted == *id));
        let Some(run) = run else {
            let name = undone.map_or("a run".into(), |run| format!("the run {run}"));
            return Err(HistoryError::Unknown(name).into());
        };
        let acts = records(self.state, run).map_err(HistoryError::from)?;
        let mut plan = BTreeMap::new();
        let mut left = Vec::new();
        let mut moves = Vec::new();
        for (number, record) in acts.iter().rev() {
            match record.cause {
                Cause::Moved => moves.push(record),
                _ if !self.reverse(&mut plan, run, *number, record)? => left.push(record.path.clone()),
                _ => {}
            }
        }
        self.return_moves(&moves, &mut plan, &mut left)?;
        self.make_parents(&mut plan)?;
        left.retain(|path| !plan.contains_key(path));
        left.sort();
        Ok(WayBack { steps: plan.into_values().collect(), left })
    }

    /// Does it. One result a step, in their order, then one for each path that is left.
    pub fn perform(&self, way: &WayBack) -> Result<Vec<StepResult>, RestoreError> {
        let mut steps = way.steps.clone();
        steps.iter_mut().try_for_each(|step| self.touch(step))?;
        let (stage, _) = Stage::open(self.state.folder(), self.run, self.now)?;
        let mut journal = Journal::open(self.state, self.run, self.now)?;
        let keep = Some(Limits { age: i64::MAX, cap: Cap::Bytes(u64::MAX) });
        let (root, now) = (self.root, self.now);
        let replica = Replica { root, stage: &stage, journal: &mut journal, keep, now };
        let mut results = perform(replica, &steps)?;
        self.forget_empty(&steps)?;
        journal.close()?;
        stage.close()?;
        results.extend(way.left.iter().map(|path| (path.clone(), Err(CommitError::Changed))));
        Ok(results)
    }

    /// Makes the version that a step puts back as young as now, in its slot.
    fn touch(&self, step: &mut Step) -> Result<(), RestoreError> {
        let Step::Put { staged: Staged { waits: Waits::History(home, name), stat, .. }, .. } = step else {
            return Ok(());
        };
        let Some(bin) = existing_bin(self.state.folder(), *home)? else { return Ok(()) };
        let slot = At { folder: bin.as_fd(), name };
        let touched =
            rustix::fs::utimensat(slot.folder, slot.name, &times(self.now), AtFlags::SYMLINK_NOFOLLOW);
        touched.map_err(|errno| refused("touch a version in")(errno.into()))?;
        if let Some(now) = slot.stat().map_err(refused("look into"))? {
            *stat = now;
        }
        Ok(())
    }

    /// Adds the step that reverses one act. False where what it made is not there any more.
    fn reverse(&self, plan: &mut Plan, run: Id, number: i64, act: &Record) -> Result<bool, RestoreError> {
        let stands = self.look(&act.path)?;
        let made = |stat: &Stat| act.new.as_ref().is_some_and(|made| made.is(stat));
        let path = act.path.clone();
        match (&act.old, &stands) {
            (Some(old), Some(stat)) if act.cause == Cause::Bits => {
                if made(stat) && stat.bits != old.bits {
                    let (bits, expected) = (old.bits, self.entry(stat));
                    plan.insert(path.clone(), Step::SetBits { path, bits, expected });
                }
                Ok(made(stat))
            }
            (Some(old), _) if old.kind == Kind::Folder && act.cause != Cause::Bits => {
                if !stands.is_some_and(|stat| stat.kind == Kind::Folder) {
                    let (bits, expected) = (old.bits, self.expected(stands.as_ref()));
                    plan.insert(path.clone(), Step::MakeFolder { path, bits, expected });
                }
                Ok(true)
            }
            (Some(_), _) if act.cause != Cause::Bits => {
                // What the user brought back is a version even while it waits in the slot.
                let waits = act.new.as_ref().filter(|_| act.cause != Cause::Restored);
                self.bring_back(plan, run, number, &act.path, waits)
            }
            // What another act of this run left here is reversed with that one.
            (None, Some(stat)) if made(stat) => {
                let (expected, cause) = (self.entry(stat), Cause::Deleted);
                plan.entry(path.clone()).or_insert(Step::Remove { path, expected, cause });
                Ok(true)
            }
            (_, stands) => Ok(stands.is_none()),
        }
    }

    /// Adds the step that puts the version in a slot back to its path. False where the slot holds none; after a kill
    /// it may hold what `waits` to be placed, and the act was not done.
    fn bring_back(
        &self,
        plan: &mut Plan,
        run: Id,
        number: i64,
        path: &RelPath,
        waits: Option<&Made>,
    ) -> Result<bool, RestoreError> {
        let Some(bin) = existing_bin(self.state.folder(), run)? else { return Ok(false) };
        let name: Box<[u8]> = slot_name(number, path).into();
        let slot = At { folder: bin.as_fd(), name: &name };
        let stat = match slot.stat().map_err(refused("look into"))? {
            None => return Ok(false),
            Some(stat) if waits.is_some_and(|made| made.is(&stat)) => return Ok(true),
            Some(stat) => stat,
        };
        let expected = self.expected(self.look(path)?.as_ref());
        let staged = Staged { waits: Waits::History(run, name), stat, sha256: None };
        plan.insert(path.clone(), Step::Put { staged, path: path.clone(), expected });
        Ok(true)
    }

    /// Follows the moves backwards to where each content was, and adds the moves that return it.
    fn return_moves(
        &self,
        moves: &[&Record],
        plan: &mut Plan,
        left: &mut Vec<RelPath>,
    ) -> Result<(), RestoreError> {
        // Which path holds now what belongs to the key's path.
        let mut holder: BTreeMap<RelPath, RelPath> = BTreeMap::new();
        for act in moves {
            let (Some(origin), Some(made)) = (&act.origin, &act.new) else { continue };
            if !self.look(&act.path)?.is_some_and(|stat| made.is(&stat)) {
                left.push(act.path.clone());
                continue;
            }
            let mut take = |path: &RelPath| holder.remove(path).unwrap_or_else(|| path.clone());
            let (here, there) = (take(&act.path), take(origin));
            holder.insert(origin.clone(), here);
            if act.old.is_some() {
                holder.insert(act.path.clone(), there);
            }
        }
        for (to, from) in holder.into_iter().filter(|(to, from)| to != from) {
            if let Some(stat) = self.look(&from)? {
                // An exchange moves the change times of both, so that later only hashes can tell.
                let sha256 = self.hash(&from, &stat)?;
                let expected = Entry { sha256, ..self.entry(&stat) };
                plan.insert(to.clone(), Step::Move { from, to, expected });
            }
        }
        Ok(())
    }

    /// Adds the folders above that are missing by now.
    fn make_parents(&self, plan: &mut Plan) -> Result<(), RestoreError> {
        let comes = |step: &&Step| !matches!(step, Step::Remove { .. } | Step::SetBits { .. });
        let targets: Vec<RelPath> = plan.values().filter(comes).map(|step| step.path().clone()).collect();
        for target in targets {
            let mut above = target.parent();
            while let Some(path) = above.filter(|path| !path.is_root() && !plan.contains_key(path)) {
                if self.look(&path)?.is_some() {
                    break;
                }
                above = path.parent();
                let (bits, expected) = (Bits::of_mode(0o755), Expected::Absent);
                plan.insert(path.clone(), Step::MakeFolder { path, bits, expected });
            }
        }
        Ok(())
    }

    /// A version that came back is in its old run no more.
    fn forget_empty(&self, steps: &[Step]) -> Result<(), RestoreError> {
        for step in steps {
            let Step::Put { staged: Staged { waits: Waits::History(home, name), .. }, .. } = step else {
                continue;
            };
            let number =
                name.split(|&byte| byte == b'~').next().and_then(|digits| str::from_utf8(digits).ok());
            let Some(number) = number.and_then(|digits| digits.parse().ok()) else { continue };
            let bin = existing_bin(self.state.folder(), *home)?;
            let held = bin.map(|bin| At { folder: bin.as_fd(), name }.stat());
            if matches!(held, None | Some(Ok(None))) {
                forget(self.state, *home, number).map_err(HistoryError::from)?;
            }
        }
        Ok(())
    }

    fn hash(&self, path: &RelPath, stat: &Stat) -> Result<Option<Digest>, RestoreError> {
        let mut hasher = Hasher::new();
        let mut hash = || match stat.kind {
            Kind::File => read_through(self.root.open_file(path)?.0, |bytes| {
                hasher.update(bytes);
                Ok(())
            }),
            Kind::Link => self.root.read_link(path).map(|target| hasher.update(&target)),
            Kind::Folder | Kind::Special => Ok(()),
        };
        hash().map_err(|source| RestoreError::Look { path: path.clone(), source })?;
        Ok(matches!(stat.kind, Kind::File | Kind::Link).then(|| hasher.finish()))
    }

    fn look(&self, path: &RelPath) -> Result<Option<Stat>, RestoreError> {
        use io::ErrorKind::{NotADirectory, NotFound};
        match self.root.stat(path) {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(None),
            Err(source) => Err(RestoreError::Look { path: path.clone(), source }),
        }
    }

    fn entry(&self, stat: &Stat) -> Entry {
        Entry::standing(stat, self.now)
    }

    fn expected(&self, stat: Option<&Stat>) -> Expected {
        stat.map_or(Expected::Absent, |stat| Expected::Entry(self.entry(stat)))
    }
}

type Plan = BTreeMap<RelPath, Step>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::fault::killed_at;
    use crate::replica::testing::*;
    use std::fs;

    fn restorer<'a>(field: &'a Field, state: &'a State, number: u8) -> Restorer<'a> {
        Restorer { root: &field.root, state, run: run(number), now: Timestamp::from_parts(2_000_000_000, 0) }
    }

    impl Restorer<'_> {
        fn restore(&self, path: &RelPath, from: Option<Id>) -> Result<Vec<StepResult>, RestoreError> {
            self.perform(&self.plan_restore(std::slice::from_ref(path), from)?)
        }

        fn undo(&self, undone: Option<Id>) -> Result<Vec<StepResult>, RestoreError> {
            self.perform(&self.plan_undo(undone)?)
        }
    }

    #[test]
    fn a_version_comes_back_as_a_new_edit_and_what_stood_there_goes_to_the_history() {
        let field = Field::new(&[("d/a", "one")]);
        let stage = field.stage(1);
        field.perform(&stage, 1, &[field.put(&stage, "d/a", "two")]);
        field.perform(&stage, 2, &[field.put(&stage, "d/a", "three")]);
        let state = field.state();
        let results = restorer(&field, &state, 3).restore(&path("d/a"), Some(run(1))).unwrap();
        assert_eq!(failures(&results), [""; 0]);
        assert_eq!(field.tree()["d/a"], "one");
        assert_eq!(field.root.stat(&path("d/a")).unwrap().modified, Timestamp::from_parts(2_000_000_000, 0));
        let kept = field.kept();
        assert_eq!(kept, [("d/a".into(), "three".into()), ("d/a".into(), "two".into())]);
        let unknown = restorer(&field, &state, 4).restore(&path("none"), None);
        assert!(matches!(unknown, Err(RestoreError::History(HistoryError::Unknown(_)))));
    }

    #[test]
    fn a_deleted_folder_comes_back_with_everything_that_was_displaced_below_it() {
        let field = Field::new(&[("d/a", "a"), ("d/s/b", "b"), ("d/s/l", "-> b")]);
        let before = field.tree();
        let stage = field.stage(1);
        field.perform(&stage, 1, &["d", "d/a", "d/s", "d/s/b", "d/s/l"].map(|at| field.remove(at)));
        assert_eq!(field.tree(), tree_of(&[]));
        let state = field.state();
        let results = restorer(&field, &state, 2).restore(&path("d"), None).unwrap();
        assert_eq!((failures(&results), field.tree()), (vec![], before));
        assert_eq!(field.kept(), []);
    }

    #[test]
    fn an_undone_run_leaves_the_tree_as_it_was_and_can_be_undone_in_turn() {
        let field = Field::new(&[
            ("a", "old"),
            ("gone/x", "x"),
            ("file", "was a file"),
            ("dir/y", "y"),
            ("from", "moved"),
            ("p", "p"),
            ("q", "q"),
            ("r", "r"),
            ("w/v", "whole"),
            ("bits", "bits"),
        ]);
        let before = field.tree();
        let mode = field.mode("bits");
        let stage = field.stage(1);
        let steps = vec![
            field.put(&stage, "a", "new"),
            field.put(&stage, "made/b", "b"),
            field.folder("made", 0o755),
            field.remove("gone"),
            field.remove("gone/x"),
            field.folder("file", 0o755),
            field.put(&stage, "file/z", "z"),
            field.put(&stage, "dir", "now a file"),
            field.remove("dir/y"),
            field.shift("from", "to"),
            field.shift("p", "q"),
            field.shift("q", "r"),
            field.shift("r", "p"),
            field.shift("w", "made/w"),
            Step::SetBits { path: path("bits"), bits: Bits::of_mode(0o600), expected: field.entry("bits") },
        ];
        assert_eq!(failures(&field.perform(&stage, 1, &steps)), [""; 0]);
        let after = field.tree();
        let state = field.state();
        let results = restorer(&field, &state, 2).undo(Some(run(1))).unwrap();
        assert_eq!((failures(&results), field.tree(), field.mode("bits")), (vec![], before, mode));
        let results = restorer(&field, &state, 3).undo(None).unwrap();
        assert_eq!((failures(&results), field.tree(), field.mode("bits")), (vec![], after, 0o600));
    }

    #[test]
    fn planning_the_way_back_changes_nothing_and_sees_the_run_that_only_received() {
        let field = Field::new(&[("old", "old")]);
        let stage = field.stage(1);
        field.perform(&stage, 1, &[field.put(&stage, "old", "younger")]);
        field.perform(&stage, 2, &[field.put(&stage, "new", "new")]);
        let slot = fs::read_dir(field.at(&format!(".syncfiles/history/{}", run(1)))).unwrap();
        let slot = slot.map(|entry| entry.unwrap().path()).next().unwrap();
        let modified = || fs::symlink_metadata(&slot).unwrap().modified().unwrap();
        let (before, tree) = (modified(), field.tree());
        let state = field.state();
        let restorer = restorer(&field, &state, 3);
        let way = restorer.plan_undo(None).unwrap();
        assert!(matches!(&way.steps[..], [Step::Remove { path: at, .. }] if *at == path("new")), "{way:?}");
        let way = restorer.plan_restore(&[path("old"), path("old")], None).unwrap();
        assert!(matches!(&way.steps[..], [Step::Put { path: at, .. }] if *at == path("old")), "{way:?}");
        assert_eq!((modified(), field.tree(), runs(&state).unwrap().len()), (before, tree, 2));
        assert_eq!(failures(&restorer.perform(&way).unwrap()), [""; 0]);
        assert_eq!(field.tree()["old"], "old");
    }

    #[test]
    fn what_was_edited_after_the_run_is_left_and_told() {
        let field = Field::new(&[("old", "old")]);
        let stage = field.stage(1);
        field.perform(&stage, 1, &[field.put(&stage, "new", "new"), field.put(&stage, "old", "younger")]);
        fs::write(field.at("new"), "edited since").unwrap();
        fs::write(field.at("old"), "edited as well").unwrap();
        let state = field.state();
        let results = restorer(&field, &state, 2).undo(None).unwrap();
        assert_eq!(failures(&results), ["new: Changed"]);
        assert_eq!(field.tree(), tree_of(&[("new", "edited since"), ("old", "old")]));
        assert_eq!(field.kept(), [("old".to_owned(), "edited as well".to_owned())]);
    }

    #[test]
    fn killed_at_any_step_of_an_undo_no_version_is_lost_and_undoing_again_ends_it() {
        for at in 0.. {
            let field = Field::new(&[("a", "old a"), ("b", "old b"), ("c", "old c")]);
            let stage = field.stage(1);
            let steps = [field.put(&stage, "a", "new a"), field.remove("b"), field.shift("c", "d")];
            field.perform(&stage, 1, &steps);
            drop(stage);
            let state = field.state();
            let (_, died) = killed_at(at, || restorer(&field, &state, 2).undo(Some(run(1))).is_err());
            let mut all: Vec<_> = field.tree().into_values().collect();
            all.extend(field.kept().into_iter().map(|(_, text)| text));
            for text in ["old a", "old b", "old c", "new a"] {
                assert!(all.iter().any(|t| t == text), "{at}: {text} is lost: {all:?}");
            }
            if !died {
                break;
            }
        }
    }
}
