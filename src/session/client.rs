//! One sync seen from System 2, from the hello to the committed base.

use std::sync::Arc;

use super::compare::{Comparison, Own, compare};
use super::control::{Control, path_size};
use super::error::SessionError;
use super::local::{Local, Scanned};
use super::options::Options;
use super::progress::{Event, Outcome, Problem, ProblemKind, Progress};
use super::pump::pump;
use super::settle::{base_changes, prune, settle_members};
use super::work::{Results, Work};
use crate::core::age::Timestamp;
use crate::core::base::{Base, BaseEntry};
use crate::core::guard::MaxDelete;
use crate::core::merge::Fork;
use crate::core::path::RelPath;
use crate::core::plan::Plan;
use crate::core::policy::{May, Policy};
use crate::core::question::undecided;
use crate::core::reconcile::reconcile;
use crate::core::side::{Side, Sides};
use crate::core::snapshot::Node;
use crate::core::version::{Content, Standing};
use crate::protocol::codec;
use crate::protocol::message::{Begin, Hello, Id, Message, Unhashed, Welcome, Wish};
use crate::protocol::rows::rows_of;
use crate::replica::filter::Filter;
use crate::ssh::Connection;

/// The folder on System 1 that a sync is about.
#[derive(Clone, Debug)]
pub struct Remote {
    /// The export, as System 1 names it.
    pub export: String,
    /// The folder below it.
    pub sub: RelPath,
    /// How the user wrote it; for messages, and to recognise the place the next time.
    pub name: String,
}

/// Runs one sync of `local` with `remote` over a connection that is being made meanwhile.
///
/// Errors end the run before anything, or before anything more, is changed; what could not be done for single
/// paths is in the outcome.
pub async fn sync(
    connect: impl Future<Output = Result<Connection, SessionError>>,
    local: Arc<Local>,
    remote: &Remote,
    options: &Options,
    progress: Arc<dyn Progress>,
) -> Result<Outcome, SessionError> {
    let scan = local.scan(options.rules.clone(), Vec::new(), options.checksum, progress.clone());
    let connection = connect.await?;
    progress.event(&Event::Connected { peer: remote.name.clone() });
    let control = Control::new(connection.clone());
    let result = async {
        let met = greet(&control, &local, remote, options).await?;
        local.meet(met.welcome.root, remote, options)?;
        let scanned = if met.welcome.rules.iter().all(Vec::is_empty) {
            scan.await?
        } else {
            scan.abandon();
            local.scan(options.rules.clone(), met.welcome.rules.clone(), options.checksum, progress.clone()).await?
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

/// Hello and welcome. Half the round trip is how little can be said about whose clock is ahead.
async fn greet(
    control: &Control,
    local: &Local,
    remote: &Remote,
    options: &Options,
) -> Result<Met, SessionError> {
    let hello = Hello {
        export: remote.export.clone(),
        sub: remote.sub.clone(),
        root: local.id(),
        wish: options.wish(),
        rules: vec![options.rules.clone(), local.ignore_lines()?],
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

/// What the base may be used for.
struct Remembered {
    run: Option<Id>,
    base: Base,
}

impl Run<'_> {
    async fn go(self, mut scanned: Scanned) -> Result<Outcome, SessionError> {
        self.report_skew();
        let agreed = self.local.agreed(self.met.welcome.root, &self.met.welcome.runs, &*self.progress)?;
        let begin = Begin {
            uncertainty: self.met.uncertainty,
            clock: self.met.now.two,
            base: agreed.as_ref().map(|agreed| agreed.run),
        };
        self.control.send(&Message::Begin(begin)).await?;
        let Message::Top { digest, entries, problems, .. } = self.control.receive().await? else {
            return Err(SessionError::broke("it did not send its snapshot"));
        };
        let mut outcome = self.outcome(&scanned, &problems);
        let settled = agreed.as_ref().and_then(|agreed| agreed.settled);
        if digest.is_some() && digest == scanned.snapshot.digest && digest == settled {
            self.control.send(&Message::Done).await?;
            self.local.store_index(scanned, Vec::new())?;
            return Ok(outcome);
        }
        if agreed.is_none() && entries > 0 && outcome.entries > 0 {
            self.progress.event(&Event::Notice(format!(
                "first meeting of two non-empty folders ({} entries here, {entries} there): nothing is deleted, \
                 the newer version of each file wins, the other goes to history",
                outcome.entries
            )));
        }
        let base = match &agreed {
            Some(_) => self.local.base(self.met.welcome.root)?,
            None => Base::default(),
        };
        let remembered = Remembered { run: agreed.map(|agreed| agreed.run), base };
        let (comparison, plan) = self.decide(&mut scanned, &remembered.base, &mut outcome).await?;
        self.carry_out(scanned, remembered, comparison, plan, &mut outcome).await?;
        Ok(outcome)
    }

    /// Finds what differs, hashes what must be hashed, and decides.
    async fn decide(
        &self,
        scanned: &mut Scanned,
        base: &Base,
        outcome: &mut Outcome,
    ) -> Result<(Comparison, Plan), SessionError> {
        let filter = scanned.filter.clone();
        let excluded = |path: &RelPath, folder: bool| filter.excluded(path, folder);
        let own = Own { snapshot: &scanned.snapshot, base, excluded: &excluded, now: self.met.now };
        let mut comparison = compare(self.control, &own).await?;
        self.settle_hashes(scanned, &mut comparison.tree, outcome).await?;
        prune(&mut comparison.tree, &RelPath::root(), &mut comparison.settled);
        let plan = reconcile(&comparison.tree, &self.policy());
        Ok((comparison, plan))
    }

    /// Makes the hashes without which the plan cannot be decided, on both sides, and fills them in.
    async fn settle_hashes(
        &self,
        scanned: &mut Scanned,
        tree: &mut Fork,
        outcome: &mut Outcome,
    ) -> Result<(), SessionError> {
        let ask = undecided(tree, &self.policy());
        let (theirs, ours) = tokio::join!(ask_hashes(self.control, &ask.one), self.local.hash(scanned, &ask.two));
        for (side, paths, hashes) in [(Side::One, &ask.one, theirs?), (Side::Two, &ask.two, ours?)] {
            for (path, hash) in paths.iter().zip(hashes) {
                if let Err(why) = hash {
                    outcome.problems.push(unhashed(side, path, why));
                    self.progress.event(&Event::Problem(unhashed(side, path, why)));
                }
                fill(tree, side, path, hash);
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
        outcome: &mut Outcome,
    ) -> Result<(), SessionError> {
        let plan = Arc::new(plan);
        let mut work = Work::new(Side::Two, self.local.clone(), plan.clone(), scanned, self.met.now, self.options.wish(), self.progress.clone());
        let wanted = work.wanted_hashes(remembered.run.is_none());
        let hashes = ask_hashes(self.control, &wanted).await?;
        work.arrange(&wanted, hashes)?;
        let guard = work.guard(&MaxDelete::parse(&self.options.max_delete).map_err(SessionError::usage)?, &remembered.base);

        self.control
            .send_list(rows_of(&comparison.tree), row_size, Message::Rows)
            .await?;
        let compared = Message::Compared { plan: plan.digest(), guard: guard.as_ref().err().map(SessionError::refusal) };
        self.control.send(&compared).await?;
        let needs = self.agree(&mut work).await?;
        work.announce(outcome, &needs);
        if self.options.dry {
            work.report_plan(outcome);
            return guard.and_then(|()| self.finish().map_err(Into::into));
        }
        guard?;

        let work = Arc::new(work);
        pump(self.connection, &work, needs).await?;
        self.progress.event(&Event::Committing);
        let run = super::local::random_id()?;
        self.control.send(&Message::Commit { run }).await?;
        let (theirs, ours) = tokio::join!(self.receive_results(), work.clone().perform());
        let (theirs, ours) = (theirs?, ours?);
        work.report(outcome, &theirs, &ours);

        let mut changes = work.base_changes(&theirs, &ours);
        self.settled_changes(&work, &comparison, &remembered.base, &mut changes);
        let settled = None;
        self.local.commit_base(self.met.welcome.root, run, changes, settled)?;
        self.control.send(&Message::Done).await
    }
}
