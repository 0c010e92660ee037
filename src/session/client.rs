//! One sync seen from System 2, from the hello to the committed base.

use std::sync::Arc;

use super::compare::{Comparison, Own, compare};
use super::control::{Control, path_size, row_size};
use super::error::SessionError;
use super::local::Local;
use super::options::Options;
use super::perform::{Results, perform};
use super::progress::{Event, Outcome, Problem, ProblemKind, Progress};
use super::pump::pump;
use super::report::{account, preview};
use super::scanned::{Lines, Scanned};
use super::settle::{base_changes, prune};
use super::work::Work;
use crate::core::age::Timestamp;
use crate::core::base::Base;
use crate::core::merge::Fork;
use crate::core::path::RelPath;
use crate::core::plan::Plan;
use crate::core::policy::Policy;
use crate::core::question::undecided;
use crate::core::reconcile::reconcile;
use crate::core::side::{Side, Sides};
use crate::core::version::{Content, Standing};
use crate::protocol::codec;
use crate::protocol::message::{Begin, Hello, Message, Need, Unhashed, Welcome};
use crate::protocol::rows::rows_of;
use crate::replica::base_store::Change;
use crate::replica::identity::Id;
use crate::replica::pairs::Agreed;
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

/// Runs one sync of `local` with `remote`; the connection is made while this side is scanned.
///
/// An error ends the run before anything, or before anything more, is changed. What could not be done for single
/// paths is in the outcome.
pub async fn sync(
    connect: impl Future<Output = Result<Connection, SessionError>>,
    local: Arc<Local>,
    remote: &Remote,
    options: &Options,
    progress: Arc<dyn Progress>,
) -> Result<Outcome, SessionError> {
    for notice in local.notices() {
        progress.event(&Event::Notice(notice.clone()));
    }
    let own_rules = local.rules(&options.rules)?;
    let scan = local.scan(own_rules.clone(), options.checksum, progress.clone());
    let connection = connect.await?;
    progress.event(&Event::Connected { peer: remote.name.clone() });
    let control = Control::new(connection.clone());
    let result = async {
        let met = greet(&control, &local, remote, own_rules.clone(), options).await?;
        local.meet(&remote.place, met.peer())?;
        let scanned = if met.welcome.rules.iter().all(|side| side.is_empty()) {
            scan.await?
        } else {
            // The other side hides more: what was seen without its rules is not what both compare.
            let rules = [own_rules, met.welcome.rules.clone()].concat();
            local.scan(rules, options.checksum, progress.clone()).await?
        };
        let run = Run { connection: &connection, control: &control, local, options, progress, met };
        run.go(scanned).await
    }
    .await;
    if let Err(error) = &result {
        control.refuse(error).await;
    }
    connection.close();
    let mut outcome = result?;
    outcome.wire = connection.traffic();
    Ok(outcome)
}

/// What the greeting settled.
struct Met {
    welcome: Welcome,
    now: Sides<Timestamp>,
    uncertainty: i64,
}

impl Met {
    fn peer(&self) -> Option<Id> {
        self.welcome.root.map(Id)
    }
}

/// Hello and welcome. Half the round trip is how little can be said about whose clock is ahead.
async fn greet(
    control: &Control,
    local: &Local,
    remote: &Remote,
    rules: Vec<Lines>,
    options: &Options,
) -> Result<Met, SessionError> {
    let hello = Hello {
        export: remote.export.clone(),
        sub: remote.sub.clone(),
        root: local.id().map(|id| id.0),
        wish: options.wish(),
        rules,
        extensions: Vec::new(),
    };
    let sent = super::clock::now();
    control.send_bytes(codec::encode_hello(&hello)?).await?;
    let (_, answer) = codec::decode_welcome(&control.receive_bytes().await?)?;
    let received = super::clock::now();
    let welcome = answer.map_err(|refusal| SessionError::by_peer(&refusal))?;
    let uncertainty = received.0.saturating_sub(sent.0).max(0) / 2;
    let now = Sides { one: welcome.clock, two: Timestamp(sent.0.saturating_add(uncertainty)) };
    Ok(Met { welcome, now, uncertainty })
}

/// One run after the greeting.
struct Run<'a> {
    connection: &'a Connection,
    control: &'a Control,
    local: Arc<Local>,
    options: &'a Options,
    progress: Arc<dyn Progress>,
    met: Met,
}

/// What both sides last agreed on, as far as it may be used.
struct Remembered {
    run: Option<Id>,
    base: Base,
}

impl Run<'_> {
    async fn go(self, mut scanned: Scanned) -> Result<Outcome, SessionError> {
        self.report_skew();
        let agreed = self.agreed()?;
        let begin = Begin {
            uncertainty: self.met.uncertainty,
            clock: self.met.now.two,
            base: agreed.as_ref().map(|agreed| agreed.run.0),
        };
        self.control.send(&Message::Begin(begin)).await?;
        let Message::Top { digest, entries, problems, .. } = self.control.receive().await? else {
            return Err(SessionError::broke("it did not send its snapshot"));
        };
        let mut outcome = Outcome::default();
        (outcome.entries, outcome.bytes) = scanned.snapshot.count();
        self.scan_problems(&scanned, problems, &mut outcome);
        let settled = agreed.as_ref().and_then(|agreed| agreed.settled);
        if digest.is_some() && digest == scanned.snapshot.digest && digest == settled {
            self.control.send(&Message::Done).await?;
            self.local.store_index(&mut scanned, Vec::new()).await?;
            return Ok(outcome);
        }
        if agreed.is_none() && entries > 0 && outcome.entries > 0 {
            self.notice(format!(
                "first meeting of two non-empty folders ({} entries here, {entries} there): nothing is deleted, \
                 the newer version of each file wins, the other goes to history",
                outcome.entries
            ));
        }
        let base = if agreed.is_some() { self.local.base(self.met.peer()).await? } else { Base::default() };
        let remembered = Remembered { run: agreed.map(|agreed| agreed.run), base };
        let equal = digest.is_some() && digest == scanned.snapshot.digest;
        let (comparison, plan) = self.decide(&mut scanned, &remembered.base, equal, &mut outcome).await?;
        self.carry_out(scanned, remembered, comparison, plan, entries, &mut outcome).await?;
        Ok(outcome)
    }

    /// What was agreed with System 1, if it remembers the same run.
    fn agreed(&self) -> Result<Option<Agreed>, SessionError> {
        let agreed = self.local.agreed(self.met.peer())?;
        let runs = &self.met.welcome.runs;
        match agreed {
            Some(agreed) if !runs.contains(&agreed.run.0) => {
                self.notice(
                    "the two folders remember different last syncs (one was restored from a backup, or lost its \
                     state): they meet anew, nothing is deleted"
                        .into(),
                );
                Ok(None)
            }
            agreed => Ok(agreed),
        }
    }

    /// Finds what differs, hashes what must be hashed, and decides.
    async fn decide(
        &self,
        scanned: &mut Scanned,
        base: &Base,
        equal: bool,
        outcome: &mut Outcome,
    ) -> Result<(Comparison, Plan), SessionError> {
        let filter = scanned.filter.clone();
        let excluded = |path: &RelPath, folder: bool| filter.excluded(path, folder);
        let own = Own { snapshot: &scanned.snapshot, base, excluded: &excluded, now: self.met.now };
        let mut comparison =
            if equal { Comparison::equal(&own) } else { compare(self.control, &own).await? };
        let policy = self.policy();
        self.settle_hashes(scanned, &mut comparison.tree, &policy, outcome).await?;
        prune(&mut comparison.tree, &RelPath::root(), &mut comparison.settled);
        let plan = reconcile(&comparison.tree, &policy);
        Ok((comparison, plan))
    }

    fn policy(&self) -> Policy {
        self.options.wish().policy(self.met.welcome.may, self.met.uncertainty)
    }

    /// Makes the hashes without which the plan cannot be decided, on both sides, and fills them in.
    async fn settle_hashes(
        &self,
        scanned: &mut Scanned,
        tree: &mut Fork,
        policy: &Policy,
        outcome: &mut Outcome,
    ) -> Result<(), SessionError> {
        let ask = undecided(tree, policy);
        let (theirs, ours) = tokio::join!(ask_hashes(self.control, &ask.one), self.local.hash(scanned, &ask.two));
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

    /// Both agree on the plan; then files move and both commit.
    async fn carry_out(
        &self,
        scanned: Scanned,
        remembered: Remembered,
        comparison: Comparison,
        plan: Plan,
        entries_one: u64,
        outcome: &mut Outcome,
    ) -> Result<(), SessionError> {
        let run = Id::random().map_err(super::local::unusable)?;
        let mut work =
            Work::new(Side::Two, self.local.clone(), plan, scanned, self.met.now, self.progress.clone());
        let agreed_plan = work.plan.digest();
        let wanted = work.wanted(remembered.run.is_none());
        let hashes = ask_hashes(self.control, &wanted.peer).await?;
        work.arrange(wanted, hashes).await?;
        let base = remembered.base.rows().len() as u64;
        let guard = work.guard(self.options.max_delete, entries_one, base);
        let compared = Message::Compared {
            run: run.0,
            plan: agreed_plan,
            entries: outcome.entries,
            base,
            guard: guard.as_ref().err().map(SessionError::refusal),
        };
        self.control.send_list(rows_of(&comparison.tree), row_size, Message::Rows).await?;
        self.control.send(&compared).await?;
        let theirs = self.agreement(&mut work).await?;
        preview(&work, outcome, &*self.progress);
        guard.and(theirs)?;
        if self.options.dry {
            return Ok(());
        }
        let changes = self.settled_changes(&work, &comparison, &remembered.base);
        if work.plan.items.is_empty() && changes.is_empty() && remembered.run.is_some() {
            return self.finish(work, None).await;
        }
        let fetch = work.prepare(run)?;
        let send = self.needs().await?;
        let work = Arc::new(work);
        pump(self.connection, &work, send, fetch, self.met.uncertainty).await?;
        self.progress.event(&Event::Committing);
        self.control.send(&Message::Commit).await?;
        let (theirs, ours) = tokio::join!(self.results(), perform(work.clone(), self.options.keep_days));
        let (theirs, ours) = (theirs?, ours?);
        account(&work, &Sides { one: &theirs, two: &ours }, outcome, &*self.progress);
        let mut rows = changes;
        rows.extend(work.base_rows(&Sides { one: &theirs, two: &ours }));
        // Only a base that covers everything may stand for a whole tree; the next run finds out whether it does.
        let complete = work.plan.items.is_empty() && outcome.problems.is_empty() && comparison.is_whole();
        let settled = work.scanned.snapshot.digest.filter(|_| complete);
        let change = Change { run, rows, settled };
        self.finish(Arc::try_unwrap(work).map_err(|_| SessionError::broke("a transfer outlived the run"))?, Some((change, ours))).await
    }
}
