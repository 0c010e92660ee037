//! One sync seen from System 2, from the hello to the committed base.

use std::pin::pin;
use std::sync::{Arc, Mutex};

use futures_util::future::{Either, select};

use super::compare::{Comparison, Own, compare};
use super::control::Control;
use super::early;
use super::error::SessionError;
use super::greeting::{Met, say_hello};
use super::hashes::{ask_hashes, fill, unhashed};
use super::local::Local;
use super::options::Options;
use super::packing::Packing;
use super::perform::perform;
use super::primer;
use super::progress::{Event, Outcome, Problem, ProblemKind, Progress};
use super::pump::{Ahead, ahead, pump};
use super::remembered::{Known, Remembered};
use super::report::{account, preview};
use super::scanned::{Round, Scanned};
use super::work::{Work, wanted};
use crate::core::digest::Digest;
use crate::core::guard::counted;
use crate::core::merge::Fork;
use crate::core::moves::Wanted;
use crate::core::path::RelPath;
use crate::core::plan::Plan;
use crate::core::policy::Policy;
use crate::core::question::undecided;
use crate::core::reconcile::reconcile;
use crate::core::settled::{Settled, leave_out, settled_rows};
use crate::core::shown::Shown;
use crate::core::side::{Side, Sides};
use crate::protocol::message::{MAX_HAVE, Message};
use crate::replica::filter::Rules;
use crate::replica::identity::Id;
use crate::ssh::Connection;

/// The folder on System 1 that a sync is about.
#[derive(Clone, Debug)]
pub struct Remote {
    /// The export, as System 1 names it.
    pub export: String,
    /// The folder below it.
    pub sub: RelPath,
    /// How the user wrote it; for messages.
    pub name: String,
    /// How the place is remembered: address and export.
    pub place: String,
}

/// Runs `local` once against `remote`; the connection is made while this side is scanned.
///
/// An error ends the run before anything, or before anything more, is changed. What could not be done for single
/// paths is in the outcome.
pub(crate) async fn sync_once(
    connect: impl Future<Output = Result<Connection, SessionError>>,
    local: Arc<Local>,
    remote: &Remote,
    options: &Options,
    progress: Arc<dyn Progress>,
) -> Result<Outcome, SessionError> {
    let (rules, notices) = local.rules(&options.rules)?;
    for notice in local.notices().iter().cloned().chain(notices) {
        progress.event(&Event::Notice(notice));
    }
    let scan = local.scan(vec![rules.clone()], options.checksum, progress.clone());
    let connection = connect.await?;
    progress.event(&Event::Connected { peer: remote.name.clone() });
    options.bwlimit.iter().for_each(|rate| connection.limit(*rate));
    let control = Control::new(connection.clone(), options.timeout, &remote.name);
    let result = async {
        let said = say_hello(&control, &local, remote, rules.clone(), options).await?;
        let looking = async {
            let scanned = scan.done().await?;
            let asked = early::ask(&control, &scanned.snapshot).await?;
            Ok((scanned, asked))
        };
        let greeted = async {
            let met = said.welcome().await?;
            local.meet(&remote.place, met.peer())?;
            let theirs = Rules::try_from(met.welcome.rules.clone());
            Ok((met, theirs.map_err(|error| SessionError::Protocol(error.to_string()))?))
        };
        let ((met, theirs), seen) = unless_hidden(greeted, looking).await?;
        let (scanned, asked) = match seen {
            Some(seen) => seen,
            // The other side hides more: what is seen without its rules is not what both compare, nor what it answers.
            None => {
                let scan = local.scan(vec![rules, theirs], options.checksum, progress.clone());
                (scan.done().await?, false)
            }
        };
        let known = Mutex::default();
        let (connection, control, known) = (&connection, &control, &known);
        let run = Run { connection, control, local, options, progress, met, known, have: MAX_HAVE, asked };
        Ok(Box::pin(run.go(scanned)).await?.0)
    }
    .await;
    let result = control.end(result).await;
    let mut outcome = result?;
    outcome.wire = connection.traffic();
    Ok(outcome)
}

/// Is greeted and looks, at the same time; where the other side has rules of its own nobody waits for what is seen without
/// them. What the greeting ends with counts first: it may be why nothing can be asked any more.
async fn unless_hidden<S>(
    greeted: impl Future<Output = Result<(Met, Rules), SessionError>>,
    looking: impl Future<Output = Result<S, SessionError>>,
) -> Result<((Met, Rules), Option<S>), SessionError> {
    match select(pin!(greeted), pin!(looking)).await {
        Either::Left((greeted, looking)) => {
            let (met, theirs) = greeted?;
            let seen = if theirs == Rules::default() { Some(looking.await?) } else { None };
            Ok(((met, theirs), seen))
        }
        Either::Right((seen, greeted)) => {
            let (met, theirs) = greeted.await?;
            let seen = if theirs == Rules::default() { Some(seen?) } else { None };
            Ok(((met, theirs), seen))
        }
    }
}

/// One run after the greeting.
pub(super) struct Run<'a> {
    pub(super) connection: &'a Connection,
    pub(super) control: &'a Control,
    pub(super) local: Arc<Local>,
    pub(super) options: &'a Options,
    pub(super) progress: Arc<dyn Progress>,
    pub(super) met: Met,
    /// What stays in memory from round to round of a watch.
    pub(super) known: &'a Mutex<Known>,
    /// How many of this side's folders are named to System 1 at most; with more, it is asked level by level.
    pub(super) have: usize,
    /// Whether System 1 has been asked already.
    pub(super) asked: bool,
}

impl Run<'_> {
    /// To its end; also what the scan saw, and learned since, where nothing else holds it any more.
    pub(super) async fn go(self, mut scanned: Scanned) -> Result<(Outcome, Option<Scanned>), SessionError> {
        let agreed = self.agreed()?;
        let begin = self.met.begin(agreed.as_ref().map(|agreed| agreed.run));
        self.control.send(&Message::Begin(begin)).await?;
        let Message::Top { digest, entries, problems, .. } = self.control.receive().await? else {
            return Err(SessionError::broke("it did not send its snapshot"));
        };
        let mut outcome = Outcome::default();
        (outcome.entries, outcome.bytes) = scanned.snapshot.count();
        self.tell(&scanned, problems, entries, agreed.is_none(), &mut outcome);
        let equal = digest.is_some() && digest == scanned.snapshot.digest;
        if equal && agreed.as_ref().is_some_and(|agreed| agreed.settled == digest) {
            self.control.send(&Message::Done).await?;
            self.local.store_index(std::mem::take(&mut scanned.changes), scanned.since, None).await?;
            return Ok((outcome, Some(scanned)));
        }
        let remembered = self.remembered(agreed)?;
        let answered = self.asked && early::is_answered(digest, scanned.snapshot.digest);
        let (scanned, comparison, plan) =
            self.decide(scanned, &remembered, (equal, answered), &mut outcome).await?;
        let scanned = self.carry_out(scanned, remembered, comparison, plan, entries, &mut outcome).await?;
        Ok((outcome, scanned))
    }

    /// Notices and problems of both scans, and what a user should know before two folders meet.
    fn tell(
        &self,
        scanned: &Scanned,
        theirs: Vec<(RelPath, String)>,
        entries: u64,
        first: bool,
        outcome: &mut Outcome,
    ) {
        let notice = |text| self.progress.event(&Event::Notice(text));
        scanned.notices.iter().cloned().for_each(notice);
        let skew = self.met.now.two.0.saturating_sub(self.met.now.one.0);
        if skew.abs() > SKEW.max(self.met.uncertainty) {
            let (seconds, way) = (skew.abs() / 1_000_000_000, if skew > 0 { "behind" } else { "ahead of" });
            notice(format!(
                "the other system's clock is {seconds} s {way} this one; ages are compared, so nothing is lost by it"
            ));
        }
        if first && entries > 0 && outcome.entries > 0 {
            let (here, there) = (counted(outcome.entries), counted(entries));
            let end = if self.options.mirror {
                "one side becomes a mirror of the other, and what that displaces goes to history"
            } else {
                "nothing is deleted, the newer version of each file wins, the other goes to history"
            };
            notice(format!("first meeting of two non-empty folders ({here} here, {there} there): {end}"));
        }
        let of = |side| {
            move |(path, text): (RelPath, String)| Problem {
                side,
                path,
                text: Shown(text.as_bytes()).to_string(),
                kind: ProblemKind::Failed,
            }
        };
        let ours = scanned.problems.iter().cloned().map(of(Side::Two));
        for problem in ours.chain(theirs.into_iter().map(of(Side::One))) {
            self.problem(problem, outcome);
        }
    }

    fn problem(&self, problem: Problem, outcome: &mut Outcome) {
        match problem.kind {
            ProblemKind::Failed => self.progress.event(&Event::Problem(problem.clone())),
            // Told only if no other run settles it.
            ProblemKind::Changed => outcome.raced.push(problem.path.clone()),
        }
        outcome.problems.push(problem);
    }

    /// Finds what differs, hashes what must be hashed, and decides.
    async fn decide(
        &self,
        mut scanned: Scanned,
        remembered: &Remembered,
        (equal, answered): (bool, bool),
        outcome: &mut Outcome,
    ) -> Result<(Scanned, Comparison, Plan), SessionError> {
        let filter = scanned.filter.clone();
        let excluded = |path: &RelPath, folder: bool| filter.excludes(path, folder);
        let base = &remembered.base;
        let own = Own { snapshot: &scanned.snapshot, base, excluded: &excluded, now: self.met.now };
        let mut comparison = if equal {
            Comparison::equal(&own)
        } else {
            compare(self.control, &own, self.have, answered).await?
        };
        let policy = self.policy();
        let ask = undecided(&comparison.tree, &policy);
        self.settle_hashes(&mut scanned, &mut comparison.tree, ask, outcome).await?;
        leave_out(&mut comparison.tree, &mut comparison.settled);
        // Only content of this side's own can spare a transfer: without any this tree is the last, and both plan at once.
        let bare = scanned.snapshot.count().1 == 0;
        if bare {
            self.control.send_tree(&comparison.tree).await?;
        }
        let mut plan = reconcile(&comparison.tree, &policy);
        // A second round for what no decision needs, but what may spare transfers. It changes the tree, so that
        // both sides must plan from it again.
        let wanted = wanted(&plan, Side::Two, &scanned, remembered.run.is_none());
        if wanted != Wanted::default() {
            let ask = Sides { one: wanted.peer, two: wanted.own };
            self.settle_hashes(&mut scanned, &mut comparison.tree, ask, outcome).await?;
            self.control.send_tree(&comparison.tree).await?;
            plan = reconcile(&comparison.tree, &policy);
        } else if !bare {
            self.control.send_tree(&comparison.tree).await?;
        }
        Ok((scanned, comparison, plan))
    }

    /// Makes hashes on both sides, and fills them into the tree.
    async fn settle_hashes(
        &self,
        scanned: &mut Scanned,
        tree: &mut Fork,
        ask: Sides<Vec<RelPath>>,
        outcome: &mut Outcome,
    ) -> Result<(), SessionError> {
        let (theirs, ours) = tokio::join!(
            ask_hashes(self.control, &ask.one),
            self.control.busily(self.local.hash(scanned, &ask.two))
        );
        for (side, paths, hashes) in [(Side::One, &ask.one, theirs?), (Side::Two, &ask.two, ours?)] {
            for (path, hash) in paths.iter().zip(hashes) {
                if let Err(why) = hash {
                    self.problem(unhashed(side, path, why), outcome);
                }
                fill(tree, side, path, hash.ok());
            }
        }
        Ok(())
    }

    /// What both sides reconcile by.
    fn policy(&self) -> Policy {
        self.options.wish().policy(self.met.welcome.may, self.met.uncertainty)
    }

    /// Both agree on the plan; then files move and both commit.
    async fn carry_out(
        &self,
        scanned: Scanned,
        remembered: Remembered,
        comparison: Comparison,
        plan: Plan,
        entries: u64,
        outcome: &mut Outcome,
    ) -> Result<Option<Scanned>, SessionError> {
        let excluded = |path: &RelPath, folder: bool| scanned.filter.excludes(path, folder);
        let Comparison { tree, settled, settled_below } = comparison;
        let (own, base) = (&scanned.snapshot, &remembered.base);
        let settled = settled_rows(own, base, &settled, &settled_below, &excluded, &self.known().whole);
        let Settled { mut rows, walked } = settled;
        let whole = tree.members.is_empty();
        drop(tree); // Not held while files travel.
        if whole && rows.is_empty() && remembered.run.is_some() {
            return self.remember_whole(scanned, remembered, walked).await;
        }
        let run = Id::random().map_err(super::local::unusable)?;
        let mut work = Work::new(
            Side::Two,
            self.local.clone(),
            plan,
            scanned,
            self.met.now,
            &self.policy(),
            self.progress.clone(),
        );
        let compared = |work: &Work, guard: &Result<(), SessionError>| Message::Compared {
            run: run.0,
            plan: work.agreed(),
            entries: outcome.entries,
            base: remembered.base.rows().len() as u64,
            guard: guard.as_ref().err().map(SessionError::refusal),
        };
        work.packing = Packing::of(self.options.compress, self.met.delay);
        work.arrange();
        let guard = work.guard(self.options.max_delete, entries, remembered.base.rows().len() as u64);
        if whole {
            self.control.send(&Message::RowsEnd).await?;
        }
        let idle = self.options.dry || guard.is_err();
        let ahead = if idle { Ahead::new() } else { ahead(self.connection, &work, self.met.delay)? };
        self.control.send(&compared(&work, &guard)).await?;
        if !idle {
            work.make_ahead();
        }
        let needs = self.agreement(&mut work, guard.is_err()).await?;
        let travels = Sides {
            one: needs.needs.iter().map(|need| need.item as usize).collect(),
            two: work.arrangement().needs.clone(),
        };
        preview(&work, &self.policy(), &travels, self.options.dry, outcome, &*self.progress);
        guard.and(needs.guard)?;
        if self.options.dry {
            return Ok(None);
        }
        let fetch = work.prepare(run)?;
        let work = Arc::new(work);
        let pumped = pump(self.connection, &work, needs.needs, fetch, ahead, self.met.delay);
        let pumped = primer::hearing(self.control, &work, primer::telling(self.control, &work, pumped));
        self.control.busily(self.control.patiently(pumped)).await?;
        self.progress.event(&Event::Committing);
        self.control.send(&Message::Commit).await?;
        let (theirs, ours) = tokio::join!(
            self.results(work.plan.items.len()),
            self.control.busily(perform(work.clone(), run, self.options.kept()))
        );
        let (theirs, ours) = (theirs?, ours?);
        let results = Sides { one: &theirs, two: &ours };
        rows.extend(work.base_rows(&results));
        let settled = work.scanned.snapshot.digest.filter(|_| whole);
        // The base is written, on its own thread, while what was done is told: with many files both take a while.
        let (committed, ()) = tokio::join!(self.commit(run, settled, rows, remembered, walked), async {
            account(&work, &results, outcome, &*self.progress);
        });
        committed?;
        self.control.send(&Message::Done).await?;
        if !self.options.watch {
            // Nothing more is to be said: the connection of many files, which takes a while to be taken down, goes meanwhile.
            self.connection.close();
        }
        let learned = work.learned(ours.index);
        let learned = self.local.store_index(learned, work.scanned.since, Some(run)).await?;
        work.keep_signatures().await;
        let round = Round { acted: work.acted(), deleted: ours.deleted, lately: 0 };
        Ok(Arc::into_inner(work).map(|work| Scanned { changes: learned, round, ..work.scanned }))
    }

    /// Nothing differs and the base is right: from now on the digest alone says so.
    async fn remember_whole(
        &self,
        mut scanned: Scanned,
        remembered: Remembered,
        walked: Vec<(RelPath, Digest)>,
    ) -> Result<Option<Scanned>, SessionError> {
        if let Some(run) = remembered.run
            && !self.options.dry
        {
            self.commit(run, scanned.snapshot.digest, Vec::new(), remembered, walked).await?;
        }
        self.control.send(&Message::Done).await?;
        self.local.store_index(std::mem::take(&mut scanned.changes), scanned.since, None).await?;
        Ok(Some(scanned))
    }
}

/// Skew of the two clocks from which on it is worth telling: a second.
const SKEW: i64 = 1_000_000_000;
