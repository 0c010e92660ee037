//! Step 6 of the exchange: one side puts in place what arrived, and does the rest of its half.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::blocking;
use super::clock::Clock;
use super::error::SessionError;
use super::local::unusable;
use super::work::Work;
use crate::core::base::{BaseContent, BaseEntry};
use crate::core::digest::Digest;
use crate::core::moves::{How, Move};
use crate::core::path::RelPath;
use crate::core::plan::{Act, Item, Settles};
use crate::core::side::{Side, Sides};
use crate::core::snapshot::{File, Link, Node};
use crate::core::version::{Content, Version};
use crate::protocol::message::{Failure, Keep, Room};
use crate::replica::commit::CommitError;
use crate::replica::expected::{Entry, Expected};
use crate::replica::history::Journal;
use crate::replica::identity::Id;
use crate::replica::index;
use crate::replica::perform::Replica;
use crate::replica::prune::{Cap, Limits, prune};
use crate::replica::record::Cause;
use crate::replica::root::{Kind, Stat};
use crate::replica::stage::{Stage, Staged};
use crate::replica::step::{Done, Step};

/// How one side's half of a plan went.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// Items whose act on this side was not done.
    pub(crate) failed: BTreeMap<usize, Failure>,
    /// Content whose hash became known.
    pub(crate) learned: HashMap<usize, Digest>,
    /// Moves and local copies that saved a transfer.
    pub(crate) moved: u64,
    /// Paths removed, moves not counted.
    pub(crate) deleted: u64,
    /// What the index is to learn; only of the own side.
    pub(crate) index: Vec<index::Change>,
}

/// Does everything that this side's half asks for. When it returns, what was done is durable.
pub(crate) async fn perform(work: Arc<Work>, run: Id, keep: Option<Keep>) -> Result<Results, SessionError> {
    blocking(move || Performance::new(&work).carry_out(run, keep)).await
}

/// A day in nanoseconds.
const DAY: i64 = 86_400 * 1_000_000_000;

fn limits(keep: Keep) -> Limits {
    let cap = match keep.room {
        Room::Bytes(bytes) => Cap::Bytes(bytes),
        Room::Percent(percent) => Cap::Percent(percent.min(100)),
    };
    Limits { age: i64::from(keep.days).saturating_mul(DAY), cap }
}

/// What a step settles.
#[derive(Clone, Copy)]
enum Settled {
    /// This item.
    Item(usize),
    /// A move of this index in the arrangement; every item at and below its two ends.
    Move(usize),
}

struct Performance<'a> {
    work: &'a Work,
    /// What is renamed, from and to, whole folders first.
    renames: Vec<(&'a RelPath, &'a RelPath)>,
    /// Where what is renamed stood, by where it comes to stand.
    sources: HashMap<&'a RelPath, &'a RelPath>,
    steps: Vec<Step>,
    /// What each step settles.
    settled: Vec<Settled>,
    /// Items whose content this side had under another name.
    copied: BTreeSet<usize>,
    results: Results,
}

impl<'a> Performance<'a> {
    fn new(work: &'a Work) -> Performance<'a> {
        let arrangement = work.arrangement();
        let renames = [renames(&arrangement.folder_moves), renames(&arrangement.moves)].concat();
        let sources = renames.iter().map(|(from, to)| (*to, *from)).collect();
        let acts = work.plan.items.iter().filter(|item| *item.act.of(work.side) != Act::Nothing).count();
        let most = acts + renames.len();
        let (steps, settled) = (Vec::with_capacity(most), Vec::with_capacity(most));
        let (copied, results) = (BTreeSet::new(), Results::default());
        Performance { work, renames, sources, steps, settled, copied, results }
    }

    fn carry_out(mut self, run: Id, keep: Option<Keep>) -> Result<Results, SessionError> {
        let (staged, failed) = self.work.take_received();
        self.results.failed = failed;
        let Some(stage) = self.work.stage() else { return Ok(self.results) };
        self.plan_steps(stage, staged);
        if !self.steps.is_empty() {
            let state = self.work.local.state();
            let state = state.as_ref().ok_or_else(|| SessionError::Root("the root has no state".into()))?;
            let mut journal = Journal::open(state, run, Clock::default().now()).map_err(unusable)?;
            let replica = Replica {
                root: &self.work.local.root,
                stage,
                journal: &mut journal,
                keep: keep.map(limits),
                now: Clock::default().now(),
            };
            let (settled, steps) = (std::mem::take(&mut self.settled), std::mem::take(&mut self.steps));
            // Written before anything takes its place: a run that is killed then must not lose how old things are.
            state.expect(run, &self.arriving(&settled, &steps), Clock::default().now()).map_err(unusable)?;
            let results = crate::replica::perform::perform(replica, &steps).map_err(unusable)?;
            journal.close().map_err(unusable)?;
            // What is too old goes; a failure to tidy fails nothing else.
            if let Some(keep) = keep {
                let _ = prune(state, limits(keep), 0, Some(run), Clock::default().now());
            }
            let puts = steps.iter().filter(|step| matches!(step, Step::Put { .. })).count();
            self.results.learned.reserve(puts);
            self.results.index.reserve(puts);
            for ((settled, step), (_, result)) in settled.into_iter().zip(&steps).zip(results) {
                self.settle(settled, step, result);
            }
        }
        // What did not find a place is cleared by the next run where it cannot be now.
        let _ = stage.close();
        Ok(self.results)
    }

    /// What is to be done, one step an act; the replica knows the order.
    fn plan_steps(&mut self, stage: &Stage, staged: Vec<(usize, Staged)>) {
        let arrangement = self.work.arrangement();
        for (at, (from, to)) in self.renames.clone().into_iter().enumerate() {
            match self.entry(from) {
                Some(expected) => {
                    let step = Step::Move { from: from.clone(), to: to.clone(), expected };
                    self.push(Settled::Move(at), step);
                }
                None => self.fail_move(at, &Failure::Changed("it is not there any more".into())),
            }
        }
        let copies: HashMap<usize, &RelPath> =
            arrangement.copies.iter().map(|copy| (copy.item, &copy.from)).collect();
        let mut staged = staged.into_iter().peekable();
        for (at, item) in self.work.plan.items.iter().enumerate() {
            let staged = staged.next_if(|(of, _)| *of == at).map(|(_, staged)| staged);
            if self.results.failed.contains_key(&at) {
                continue;
            }
            let here = match (copies.get(&at), staged) {
                (Some(from), _) => self.copy(stage, at, item, from).map(Some),
                (None, staged) => Ok(staged),
            };
            match here.and_then(|here| self.step(stage, at, item, here)) {
                Ok(Some(step)) => self.push(Settled::Item(at), step),
                Ok(None) => {}
                Err(failure) => {
                    self.results.failed.insert(at, failure);
                }
            }
        }
    }

    fn push(&mut self, settled: Settled, step: Step) {
        self.steps.push(step);
        self.settled.push(settled);
    }

    fn step(
        &mut self,
        stage: &Stage,
        at: usize,
        item: &Item,
        here: Option<Staged>,
    ) -> Result<Option<Step>, Failure> {
        let path = item.path.clone();
        let expected =
            || self.expected(&path).ok_or_else(|| Failure::Changed("it can no longer be read".into()));
        let entry = || self.entry(&path).ok_or_else(|| Failure::Changed("it is not there any more".into()));
        let arrangement = self.work.arrangement();
        Ok(match item.act.of(self.work.side) {
            Act::Nothing => None,
            Act::SetBits(bits) => Some(Step::SetBits { expected: entry()?, bits: *bits, path }),
            Act::Remove if arrangement.paired.contains(&at) => None,
            Act::Remove => Some(Step::Remove { expected: entry()?, cause: self.work.cause(), path }),
            Act::Put { version, .. } if arrangement.placed.contains(&at) => self.moved(at, path, version),
            Act::Put { version, .. } => match &version.content {
                Content::Folder => Some(Step::MakeFolder { expected: expected()?, bits: version.bits, path }),
                Content::Link { target } => {
                    let staged =
                        stage.link(target, version.modified).map_err(|e| super::work::failure(&e))?;
                    Some(Step::Put { staged, expected: expected()?, path })
                }
                Content::File { .. } => {
                    let staged = here.ok_or_else(|| Failure::Failed("its content did not arrive".into()))?;
                    Some(Step::Put { staged, expected: expected()?, path })
                }
            },
        })
    }

    /// What comes into place with a move keeps the bits it had, and gets those that were decided afterwards. Its
    /// hash may be known on this side only, and the base wants it.
    fn moved(&mut self, at: usize, path: RelPath, version: &Version) -> Option<Step> {
        let above = std::iter::successors(Some(path.clone()), RelPath::parent);
        let from = above.filter_map(|to| path.rebased(&to, self.sources.get(&to)?)).next()?;
        let expected = self.entry(&from)?;
        if expected.kind == Kind::File {
            self.results.learned.extend(expected.sha256.map(|sha256| (at, sha256)));
        }
        let differs = expected.kind != Kind::Link && expected.bits != version.bits;
        differs.then_some(Step::SetBits { path, bits: version.bits, expected })
    }

    /// Stages content that this side has under another name.
    fn copy(&mut self, stage: &Stage, at: usize, item: &Item, from: &RelPath) -> Result<Staged, Failure> {
        let gone = || Failure::Changed("what it is a copy of is not there any more".into());
        let entry = self.entry(from).ok_or_else(gone)?;
        let promise = super::work::promise(item, self.work.side).ok_or_else(gone)?;
        let staged = stage
            .copy(&self.work.local.root, from, &entry, &promise)
            .map_err(|e| super::work::failure(&e))?;
        self.copied.insert(at);
        Ok(staged)
    }

    fn node(&self, path: &RelPath) -> Option<&'a Node> {
        self.work.scanned.snapshot.find(path)
    }

    fn entry(&self, path: &RelPath) -> Option<Entry> {
        Entry::of(self.node(path)?, self.work.scanned.started)
    }

    fn expected(&self, path: &RelPath) -> Option<Expected> {
        Expected::of(self.node(path), self.work.scanned.started)
    }

    fn settle(&mut self, settled: Settled, step: &Step, result: Result<Done, CommitError>) {
        match (settled, result) {
            (Settled::Move(_), Ok(_)) => self.results.moved += 1,
            (Settled::Move(at), Err(error)) => self.fail_move(at, &failure(&error)),
            (Settled::Item(at), Ok(done)) => self.done(at, step, done),
            (Settled::Item(at), Err(error)) => {
                self.results.failed.insert(at, failure(&error));
            }
        }
    }

    /// What the index will remember of what waits for its place, where that tells more of its age than the file does.
    fn arriving(&self, settled: &[Settled], steps: &[Step]) -> Vec<index::Entry> {
        let entry = |(settled, step): (&Settled, &Step)| match (settled, step) {
            (Settled::Item(at), Step::Put { staged, .. }) => self.remembered(*at, staged, &staged.stat),
            _ => None,
        };
        settled.iter().zip(steps).filter_map(entry).filter(|entry| entry.edited.is_some()).collect()
    }

    /// What the index remembers of what an item put, or is about to put, in place.
    fn remembered(&self, at: usize, staged: &Staged, stat: &Stat) -> Option<index::Entry> {
        let Act::Put { version, .. } = self.work.plan.items[at].act.of(self.work.side) else { return None };
        let node = placed(version, stat, staged.sha256, self.work.edited(version));
        index::Entry::of(&node, self.work.scanned.started)
    }

    fn done(&mut self, at: usize, step: &Step, done: Done) {
        match step {
            Step::Remove { .. } => self.results.deleted += 1,
            Step::Put { staged, .. } => {
                self.results.moved += u64::from(self.copied.contains(&at));
                self.results.learned.extend(staged.sha256.map(|digest| (at, digest)));
                // An edit in the instant after it was placed is not what was staged: the next scan looks at it.
                let as_staged =
                    |stat: &Stat| (stat.size, stat.modified) == (staged.stat.size, staged.stat.modified);
                let entry = done.stat.filter(as_staged).and_then(|stat| self.remembered(at, staged, &stat));
                let row = entry.map(|entry| index::Change::Put(self.work.plan.items[at].path.clone(), entry));
                self.results.index.extend(row);
            }
            _ => {}
        }
    }

    /// A move that was not done leaves every item at and below both its ends as it was.
    fn fail_move(&mut self, at: usize, failure: &Failure) {
        let arrangement = self.work.arrangement();
        let Some(&(from, to)) = self.renames.get(at) else { return };
        let placed = self.work.plan.within(to).filter(|at| arrangement.placed.contains(at));
        let paired = self.work.plan.within(from).filter(|at| arrangement.paired.contains(at));
        let failed = placed.chain(paired).map(|at| (at, failure.clone()));
        self.results.failed.extend(failed);
    }
}

/// Where each thing comes to stand. Of a cycle the arrangement gives the exchanges, all with its first path; the
/// replica wants to know where each of its members goes.
fn renames(moves: &[Move]) -> Vec<(&RelPath, &RelPath)> {
    let mut renames: Vec<(&RelPath, &RelPath)> = Vec::new();
    for cycle in moves.chunk_by(|a, b| a.how == How::Exchange && b.how == How::Exchange && a.from == b.from) {
        match cycle {
            [Move { from, to, how: How::Rename }] => renames.push((from, to)),
            exchanges => {
                let ring: Vec<&RelPath> = exchanges
                    .first()
                    .map(|first| &first.from)
                    .into_iter()
                    .chain(exchanges.iter().map(|m| &m.to))
                    .collect();
                renames.extend(ring.iter().zip(ring.iter().cycle().skip(1)).map(|(from, to)| (*from, *to)));
            }
        }
    }
    renames
}

/// What now stands where a version was put.
fn placed(
    version: &Version,
    stat: &Stat,
    sha256: Option<Digest>,
    edited: crate::core::age::Timestamp,
) -> Node {
    match &version.content {
        Content::Link { target } => {
            Node::Link(Link { target: target.clone(), modified: stat.modified, edited, seen: stat.seen })
        }
        _ => Node::File(File {
            size: stat.size,
            sha256,
            bits: stat.bits,
            modified: stat.modified,
            edited,
            seen: stat.seen,
        }),
    }
}

fn failure(error: &CommitError) -> Failure {
    match error {
        CommitError::HeldByMembers => Failure::Held,
        error if error.is_change() => Failure::Changed(error.to_string()),
        _ => Failure::Failed(error.to_string()),
    }
}

impl Work {
    /// Why this side removes anything, for its history.
    fn cause(&self) -> Cause {
        if self.is_mirror() { Cause::Mirrored } else { Cause::Deleted }
    }

    /// The base's rows that change, now that both sides have done what they could.
    pub(crate) fn base_rows(&self, results: &Sides<&Results>) -> Vec<(RelPath, Option<BaseEntry>)> {
        let rows = self.plan.items.iter().enumerate().filter_map(|(at, item)| {
            let failures = [Side::One, Side::Two].map(|side| results.of(side).failed.get(&at));
            let learned =
                [Side::One, Side::Two].into_iter().find_map(|side| results.of(side).learned.get(&at));
            row(item, failures, learned.copied()).map(|row| (item.path.clone(), row))
        });
        rows.collect()
    }
}

/// The base's row for an item: none if it stays as it was.
fn row(item: &Item, failures: [Option<&Failure>; 2], learned: Option<Digest>) -> Option<Option<BaseEntry>> {
    let held = failures.into_iter().flatten().any(|failure| matches!(failure, Failure::Held));
    let failed = failures.into_iter().flatten().any(|failure| !matches!(failure, Failure::Held));
    match &item.settles {
        Settles::Keep => None,
        _ if failed => None,
        // Only what was to go is marked; a file that could not take a held folder's place was not agreed on.
        _ if held && item.settles != Settles::Absent => None,
        Settles::Absent if held => {
            let bits =
                [&item.saw.one, &item.saw.two].into_iter().find_map(|saw| saw.version()).map(|v| v.bits);
            Some(Some(BaseEntry {
                content: BaseContent::Folder { gone: true },
                bits: bits.unwrap_or_default(),
            }))
        }
        Settles::Absent => Some(None),
        Settles::Gone { bits } => {
            Some(Some(BaseEntry { content: BaseContent::Folder { gone: true }, bits: *bits }))
        }
        Settles::Version { content, bits } => {
            let content = match content {
                Content::File { size, sha256 } => Content::File { size: *size, sha256: sha256.or(learned) },
                other => other.clone(),
            };
            BaseEntry::of(&content, *bits).map(Some)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::plan::Why;
    use crate::core::version::Bits;

    #[test]
    fn a_file_that_could_not_take_a_held_folders_place_is_not_agreed_on() {
        let content = Content::File { size: 1, sha256: Some(Digest::of(b"x")) };
        let bits = Bits::of_mode(0o644);
        let item = |settles| Item {
            path: RelPath::root(),
            saw: Sides::default(),
            act: Sides::default(),
            suppressed: Sides::default(),
            why: Why::Clash(Some(Side::Two)),
            settles,
        };
        let (put, gone) = (item(Settles::Version { content, bits }), item(Settles::Absent));
        assert_eq!(row(&put, [Some(&Failure::Held), None], None), None);
        assert!(row(&put, [None, None], None).is_some());
        let marked = row(&gone, [Some(&Failure::Held), None], None).flatten();
        assert_eq!(marked.map(|row| row.content), Some(BaseContent::Folder { gone: true }));
    }
}
