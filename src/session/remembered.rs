//! What System 2 goes by: what was last agreed on with System 1, and the base of it.

use std::sync::{MutexGuard, PoisonError};

use super::client::Run;
use super::error::SessionError;
use super::progress::Event;
use crate::core::base::{Base, BaseEntry};
use crate::core::digest::Digest;
use crate::core::path::RelPath;
use crate::core::settled::Whole;
use crate::replica::base_store::Change;
use crate::replica::identity::Id;

/// The last run that both sides remember, and whose base is at hand.
pub(super) struct Agreed {
    pub(super) run: Id,
    /// The root's digest, where the base is the whole of it.
    pub(super) settled: Option<Digest>,
    /// The base, where System 1's root keeps it: the roles were swapped since.
    beside: Option<Base>,
}

/// What both sides last agreed on, as far as it may be used.
pub(super) struct Remembered {
    pub(super) run: Option<Id>,
    pub(super) base: Base,
    /// The base comes from System 1's root: this one has none of its rows yet.
    taken: bool,
}

impl Remembered {
    /// How the base changes that this root keeps.
    fn change(&self, run: Id, settled: Option<Digest>, changed: Vec<(RelPath, Option<BaseEntry>)>) -> Change {
        let taken = self.base.rows().iter().filter(|_| self.taken);
        let mut rows: Vec<_> = taken.map(|(path, row)| (path.clone(), Some(row.clone()))).collect();
        rows.extend(changed);
        Change { run, settled, fresh: self.run.is_none() || self.taken, rows }
    }
}

/// What of the base stays in memory from round to round of a watch, so that a change costs its own size.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Whether there are to be further rounds.
    keeps: bool,
    /// The base, and the run that it is of.
    base: Option<(Id, Base)>,
    /// Right only for that base.
    pub(super) whole: Whole,
}

impl Known {
    /// For a watch: it is kept from round to round.
    pub(super) fn kept() -> Known {
        Known { keeps: true, ..Known::default() }
    }

    /// What was found to be right below folders holds no more.
    pub(super) fn forget_whole(&mut self) {
        self.whole.clear();
    }

    /// The base of `run`. Whoever takes it brings it back with [`learn`](Known::learn), or it is read again.
    fn take(&mut self, run: Id) -> Option<Base> {
        let base = self.base.take().filter(|(known, _)| *known == run);
        if base.is_none() {
            self.whole.clear();
        }
        base.map(|(_, base)| base)
    }

    /// `change` was written, to what `base` was before.
    fn learn(&mut self, base: Base, change: Change, walked: Vec<(RelPath, Digest)>) {
        if !self.keeps {
            return;
        }
        let base = if change.fresh { Base::default() } else { base };
        if change.fresh {
            self.whole.clear();
        }
        for (path, _) in &change.rows {
            std::iter::successors(Some(path.clone()), RelPath::parent).for_each(|above| {
                self.whole.remove(&above);
            });
        }
        self.whole.extend(walked);
        self.base = Some((change.run, base.with(change.rows)));
    }
}

impl Run<'_> {
    /// What was agreed with System 1, if it remembers the same run and one of the two roots has the base of it.
    pub(super) fn agreed(&self) -> Result<Option<Agreed>, SessionError> {
        let Some(own) = self.local.agreed(self.met.peer())? else { return Ok(None) };
        let Some(run) = own.runs().find(|run| self.met.welcome.runs.contains(&run.0)) else {
            return Ok(self.anew(
                "the two folders remember different last syncs (one was restored from a backup, or lost its state)",
            ));
        };
        let (pair, beside) = if own.based == Some(run) {
            (own, None)
        } else if let Some((base, pair)) = self.local.base_beside(self.met.peer(), run)? {
            (pair, Some(base))
        } else {
            return Ok(self.anew(
                "what the two folders last agreed on is kept on the other system, which connected then",
            ));
        };
        // Without a row everything is decided as at a first meeting, which it is then called.
        Ok(Some(Agreed { run, settled: pair.settled, beside }).filter(|_| !pair.bare))
    }

    fn anew(&self, why: &str) -> Option<Agreed> {
        self.progress.event(&Event::Notice(format!("{why}: they meet anew, nothing is deleted")));
        None
    }

    pub(super) fn remembered(&self, agreed: Option<Agreed>) -> Result<Remembered, SessionError> {
        Ok(match agreed {
            None => Remembered { run: None, base: Base::default(), taken: false },
            Some(Agreed { run, beside: Some(base), .. }) => Remembered { run: Some(run), base, taken: true },
            Some(Agreed { run, .. }) => {
                let base = match self.known().take(run) {
                    Some(base) => base,
                    None => self.local.base(self.met.peer(), run)?,
                };
                Remembered { run: Some(run), base, taken: false }
            }
        })
    }

    /// Writes what a run settled, and keeps it in mind.
    pub(super) async fn commit(
        &self,
        run: Id,
        settled: Option<Digest>,
        rows: Vec<(RelPath, Option<BaseEntry>)>,
        remembered: Remembered,
        walked: Vec<(RelPath, Digest)>,
    ) -> Result<(), SessionError> {
        let change = remembered.change(run, settled, rows);
        let change = self.local.commit_base(self.met.peer(), change).await?;
        self.known().learn(remembered.base, change, walked);
        Ok(())
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::base::BaseContent;
    use crate::core::version::Bits;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    fn row(text: &str) -> (RelPath, Option<BaseEntry>) {
        let entry = BaseEntry { content: BaseContent::Folder { gone: false }, bits: Bits::of_mode(0o755) };
        (path(text), Some(entry))
    }

    fn change(run: u8, fresh: bool, rows: Vec<(RelPath, Option<BaseEntry>)>) -> Change {
        Change { run: Id([run; 16]), settled: None, fresh, rows }
    }

    #[test]
    fn the_base_of_the_last_round_is_at_hand_and_that_of_any_other_run_is_read_again() {
        let mut known = Known::kept();
        known.learn(Base::default(), change(1, true, vec![row("a"), row("a/b")]), Vec::new());
        let base = known.take(Id([1; 16])).unwrap();
        known.learn(base, change(2, false, vec![(path("a/b"), None), row("c")]), Vec::new());
        assert_eq!(known.take(Id([1; 16])), None, "another run has come between");
        known.learn(Base::default(), change(3, false, vec![row("z")]), Vec::new());
        assert_eq!(known.take(Id([3; 16])).unwrap().rows().len(), 1);
        let mut once = Known::default();
        once.learn(Base::default(), change(1, true, vec![row("a")]), vec![(path("a"), Digest::of(b""))]);
        assert!(once.take(Id([1; 16])).is_none() && once.whole.is_empty(), "a single run keeps nothing");
    }

    #[test]
    fn a_folder_is_walked_again_once_a_row_below_it_has_changed() {
        let mut known = Known::kept();
        let digest = Digest::of(b"x");
        let walked = ["", "a", "a/b", "c"].map(|text| (path(text), digest)).to_vec();
        known.learn(Base::default(), change(1, true, vec![row("a"), row("c")]), walked);
        assert_eq!(known.whole.len(), 4);
        let base = known.take(Id([1; 16])).unwrap();
        known.learn(base, change(2, false, vec![row("a/b/new")]), vec![(path("a/x"), digest)]);
        let mut left: Vec<_> = known.whole.keys().map(ToString::to_string).collect();
        left.sort();
        assert_eq!(left, ["a/x", "c"]);
        known.take(Id([9; 16]));
        assert!(known.whole.is_empty());
    }
}
