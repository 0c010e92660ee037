//! A watch seen from System 2: round after round over one connection, and over the next when that is lost.
//!
//! Every round is a sync like any other. What makes it cheap is that both sides remember between rounds what they saw
//! and agreed on, and look again only where something may have changed (`warm`, `remembered`).

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use super::blocking;
use super::client::{Remote, Run};
use super::control::Control;
use super::error::SessionError;
use super::greeting::greet;
use super::local::Local;
use super::news::News;
use super::options::Options;
use super::progress::{Event, Outcome, ProblemKind, Progress};
use super::remembered::Known;
use super::retry::waits;
use super::warm::Warm;
use crate::protocol::codec;
use crate::protocol::message::Message;
use crate::replica::filter::Rules;
use crate::ssh::Connection;

/// With more folders than this, later rounds ask level by level: naming all of them would cost more than the change.
const FEW: usize = 1000;

/// What a watch has done so far.
#[derive(Debug, Default)]
pub struct Watched(Mutex<(Outcome, u64)>);

impl Watched {
    /// Everything that was done, with the problems of the last round.
    pub fn outcome(&self) -> Outcome {
        self.lock().0.clone()
    }

    /// How many rounds came to their end.
    pub fn rounds(&self) -> u64 {
        self.lock().1
    }

    fn lock(&self) -> MutexGuard<'_, (Outcome, u64)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, round: &Outcome) {
        let (all, rounds) = &mut *self.lock();
        *rounds += 1;
        *all = Outcome {
            totals: all.totals.and(round.totals),
            deleted: (all.deleted.0 + round.deleted.0, all.deleted.1 + round.deleted.1),
            moved: all.moved + round.moved,
            conflicts: all.conflicts + round.conflicts,
            wire: (all.wire.0 + round.wire.0, all.wire.1 + round.wire.1),
            changed: all.changed || round.changed,
            ..round.clone()
        };
    }
}

/// Keeps `local` and `remote` the same until something ends it for good; dropped, it ends at once.
///
/// A connection that is lost is made again, for ever, after waits that grow; the first one only if `options.retries` say
/// so. Between rounds other runs may have the root.
pub async fn watch(
    connect: impl AsyncFn() -> Result<Connection, SessionError>,
    local: Arc<Local>,
    remote: &Remote,
    options: &Options,
    progress: Arc<dyn Progress>,
    watched: &Watched,
) -> Result<Infallible, SessionError> {
    // Each round takes the root anew; until the first one others may have it, however long that takes.
    local.leave();
    let told = Arc::new(News::new(progress));
    for notice in local.notices() {
        told.event(&Event::Notice(notice.clone()));
    }
    let mut watch = Watch {
        warm: Warm::new(local.clone())?,
        known: Mutex::new(Known::kept()),
        options: Options { watch: true, ..options.clone() },
        again: none_left(),
        met: false,
        local,
        remote,
        told,
        watched,
    };
    let (mut pauses, mut away) = (waits(None), false);
    loop {
        let before = watched.rounds();
        let error = match watch.connected(&connect).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        let Some(what) = error.passing().filter(|_| watch.met || options.retries.first) else {
            return Err(error);
        };
        // Each further attempt is the same news.
        if watched.rounds() > before || !std::mem::replace(&mut away, true) {
            watch.told.away(format!("{what} {}: trying again until it is back", remote.name));
        }
        if watched.rounds() > before {
            pauses = waits(None);
        }
        tokio::time::sleep(pauses.next().unwrap_or_default()).await;
    }
}

struct Watch<'a> {
    local: Arc<Local>,
    remote: &'a Remote,
    options: Options,
    told: Arc<News>,
    watched: &'a Watched,
    warm: Warm,
    known: Mutex<Known>,
    /// When to look again at what the last round could not settle.
    again: ExponentialBackoff,
    /// Whether there has been a connection at all.
    met: bool,
}

impl Watch<'_> {
    /// Rounds over one connection, until it is lost.
    async fn connected(
        &mut self,
        connect: &impl AsyncFn() -> Result<Connection, SessionError>,
    ) -> Result<Infallible, SessionError> {
        let connection = connect().await?;
        self.met = true;
        self.told.event(&Event::Connected { peer: self.remote.name.clone() });
        self.options.bwlimit.iter().for_each(|rate| connection.limit(*rate));
        let control = Control::new(connection.clone(), self.options.timeout, &self.remote.name);
        let ended = self.rounds(&connection, &control).await;
        self.local.leave();
        control.end(ended).await
    }

    async fn rounds(
        &mut self,
        connection: &Connection,
        control: &Control,
    ) -> Result<Infallible, SessionError> {
        let mut wire = (0, 0);
        loop {
            let (local, told) = (self.local.clone(), self.told.clone());
            control.busily(blocking(move || local.take(&*told))).await?;
            let mut outcome = self.round(connection, control).await?;
            self.local.leave();
            let now = connection.traffic();
            outcome.wire = (now.0.saturating_sub(wire.0), now.1.saturating_sub(wire.1));
            wire = now;
            let pause = self.pause(&outcome);
            self.watched.add(&outcome);
            self.told.round(outcome);
            self.wait(control, pause).await?;
        }
    }

    /// One round, from the hello to the committed base.
    async fn round(&mut self, connection: &Connection, control: &Control) -> Result<Outcome, SessionError> {
        let (rules, notices) = self.local.rules(&self.options.rules)?;
        notices.into_iter().for_each(|notice| self.told.event(&Event::Notice(notice)));
        let met = greet(control, &self.local, self.remote, rules.clone(), &self.options).await?;
        self.local.meet(&self.remote.place, met.peer())?;
        let theirs = Rules::try_from(met.welcome.rules.clone())
            .map_err(|error| SessionError::Protocol(error.to_string()))?;
        let rules = if theirs == Rules::default() { vec![rules] } else { vec![rules, theirs] };
        if !self.warm.goes_by(&rules) {
            // What other rules hide keeps rows of the base that these do not.
            self.known.lock().unwrap_or_else(PoisonError::into_inner).forget_whole();
        }
        let scanned = self.warm.scan(rules, self.options.checksum, self.told.clone()).await?;
        let run = Run {
            connection,
            control,
            local: self.local.clone(),
            options: &self.options,
            progress: self.told.clone(),
            met,
            known: &self.known,
            have: FEW,
            asked: false,
        };
        let (outcome, scanned) = run.go(scanned).await?;
        scanned.into_iter().for_each(|scanned| self.warm.keep(scanned));
        self.warm.doubt(&outcome.raced);
        // Whatever was doubted once has been hashed; and what was accepted once is known: another new root is not meant.
        self.options.checksum = false;
        self.options.new_root = false;
        self.local.accept_no_other();
        Ok(outcome)
    }

    /// How long to leave what a round could not settle; `None` where it settled everything.
    fn pause(&mut self, outcome: &Outcome) -> Option<Duration> {
        let failed = outcome.problems.iter().any(|problem| problem.kind == ProblemKind::Failed);
        match (outcome.raced.is_empty(), failed) {
            (false, _) => self.again.next(),
            // Something must be put right first, and that is often heard of.
            (true, true) => Some(self.again.next().unwrap_or_default().max(LEAVE_FAILED)),
            (true, false) => {
                self.again = none_left();
                None
            }
        }
    }

    /// Waits until something may have changed on either side, or `pause` is over.
    async fn wait(&self, control: &Control, pause: Option<Duration>) -> Result<(), SessionError> {
        let pause = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.warm.changed() => Ok(()),
            () = pause => Ok(()),
            heard = control.receive_sometime() => match heard? {
                Some(bytes) => match codec::decode(&bytes)? {
                    Message::Changed => Ok(()),
                    Message::Refuse(refusal) => Err(SessionError::by_peer(&refusal)),
                    _ => Err(SessionError::broke("it sent a message that has no place between rounds")),
                },
                None => Err(SessionError::Connection("the other end closed the connection".into())),
            },
        }
    }
}

/// The least time for which what failed is left.
const LEAVE_FAILED: Duration = Duration::from_secs(60);

/// The pauses after rounds that left something, from the first on.
fn none_left() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(Duration::from_secs(600))
        .without_max_times()
        .build()
}
