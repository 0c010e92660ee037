//! One sync seen from System 1: answers, and does its own half.

use std::sync::{Arc, Mutex, PoisonError};

use super::budget::Budget;
use super::control::Control;
use super::early;
use super::error::SessionError;
use super::exports::Exports;
use super::hashes::ask_hashes;
use super::listing::{Have, list, list_spans};
use super::local::{Local, Opening};
use super::packing::Packing;
use super::perform::{Results, perform};
use super::primer;
use super::progress::Progress;
use super::rounds::Kept;
use super::scanned::{Round, Scanned};
use super::work::{Work, wanted};
use super::{blocking, heavily};
use crate::core::age::Timestamp;
use crate::core::digest::Digest;
use crate::core::guard::MaxDelete;
use crate::core::policy::May;
use crate::core::reconcile::reconcile;
use crate::core::side::{Side, Sides};
use crate::protocol::message::{Begin, Hello, MAX_HAVE, MAX_PATHS, MAX_TEXT, Message, Welcome};
use crate::protocol::rows::{Row, tree_of};
use crate::protocol::{codec, extension};
use crate::replica::filter::Rules;
use crate::replica::identity::Id;
use crate::replica::index::Change;
use crate::ssh::Connection;

/// What one client's run did until it ended, however it ended; for the log.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// The export that the client named, and the folder below it; empty if it named none.
    pub root: String,
    /// Files received whole and sent.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Acts that could not be done here.
    pub failed: u64,
    /// How far it came.
    pub came: Came,
}

/// How far a run came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Came {
    /// To a question: nothing differed, or nothing more was wanted.
    #[default]
    Looked,
    /// To the plan, and a guard or a dry run was the end of it.
    Planned,
    /// To files that travel.
    Transferred,
    /// To the end of its acts.
    Performed,
}

/// Serves one client's sync over its connection, to its end. What was done until an error counts too.
pub async fn serve(
    connection: Connection,
    exports: &Exports,
    progress: Arc<dyn Progress>,
) -> (Served, Result<(), SessionError>) {
    let control = Control::new(connection.clone(), exports.patience, "the client");
    let served = Mutex::default();
    let session = Session { connection: &connection, control: &control, exports, progress, served: &served };
    let result = session.rounds().await;
    if let Err(error) = &result {
        control.refuse(error).await;
    }
    (served.into_inner().unwrap_or_else(PoisonError::into_inner), result)
}

/// One client's sync, or its watch.
pub(super) struct Session<'a> {
    pub(super) connection: &'a Connection,
    pub(super) control: &'a Control,
    pub(super) exports: &'a Exports,
    progress: Arc<dyn Progress>,
    served: &'a Mutex<Served>,
}

/// A client's root on this side, and what this side lets it do.
struct Opened {
    local: Arc<Local>,
    may: May,
    rules: Rules,
    /// The client's.
    theirs: Rules,
    /// The last runs with this client's root that this side remembers.
    runs: Vec<[u8; 16]>,
}

/// What the questions before the plan ended with.
enum Asked {
    /// Nothing differs, or the client is done looking.
    Done,
    /// What differs.
    Told(Vec<Row>),
}

/// The client's plan.
struct Compared {
    run: Id,
    plan: Digest,
    entries: u64,
    base: u64,
    stopped: bool,
}

impl Session<'_> {
    /// Notes what was done, for whoever reads of it when all is over.
    pub(super) fn note(&self, note: impl FnOnce(&mut Served)) {
        note(&mut self.served.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// One sync, from its hello to its end. In a watch `kept` is what stays from the round before for the next one.
    pub(super) async fn round(&self, hello: &Hello, kept: &mut Option<Kept>) -> Result<(), SessionError> {
        self.note(|served| served.root = root_of(hello));
        let clock = self.exports.clock.now();
        extension::bwlimit(&hello.extensions).iter().for_each(|rate| self.connection.limit(*rate));
        let opened = match self.open(hello, kept).await {
            Ok(opened) => opened,
            Err(error) => {
                self.control.send_bytes(codec::encode_welcome(&Err(error.refusal()))?).await?;
                return Err(error);
            }
        };
        let (local, rules) = (opened.local.clone(), vec![opened.theirs.clone(), opened.rules.clone()]);
        let scan = match kept {
            Some(_) => None,
            None => Some(local.scan(rules.clone(), hello.wish.checksum, self.progress.clone())),
        };
        let welcome = Welcome {
            clock,
            held: u64::try_from(self.exports.clock.now().0.saturating_sub(clock.0)).unwrap_or(0),
            root: local.id().map(|id| id.0),
            runs: opened.runs.clone(),
            rules: opened.rules.clone().into(),
            may: opened.may,
            extensions: extension::of_welcome(kept.is_some()),
        };
        self.control.send_bytes(codec::encode_welcome(&Ok(welcome))?).await?;
        let mut scanned = match (scan, &mut *kept) {
            (Some(scan), _) => scan.done().await?,
            (None, Some(kept)) => kept.warm.scan(rules, hello.wish.checksum, self.progress.clone()).await?,
            (None, None) => return Err(SessionError::Root("nothing was scanned; please report this".into())),
        };
        if hello.wish.whole {
            local.hash_whole(&mut scanned).await?;
        }
        // Nothing in it depends on what the client says next, which is on its way meanwhile.
        self.send_top(&scanned).await?;
        let heed = opened.rules == Rules::default();
        let (begin, have) = early::answer(self.control, &scanned.snapshot, heed).await?;
        let scanned = match self.answer(&local, &mut scanned, have).await? {
            Asked::Done => {
                local.store_index(std::mem::take(&mut scanned.changes), scanned.since, None).await?;
                let newest = opened.runs.first().filter(|run| begin.base == Some(**run));
                if let (Some(peer), Some(run), 2..) = (hello.root, newest, opened.runs.len()) {
                    local.confirm(Id(peer), Id(*run)).await?;
                }
                Some(scanned)
            }
            Asked::Told(rows) => {
                let half = Half { session: self, hello, begin, clock, opened };
                Box::pin(half.carry_out(scanned, rows)).await?
            }
        };
        if let Some(kept) = kept {
            scanned.into_iter().for_each(|scanned| kept.warm.keep(scanned));
        }
        Ok(())
    }

    /// Finds the export and opens its root. Whatever fails here is the answer to the hello.
    async fn open(&self, hello: &Hello, kept: &mut Option<Kept>) -> Result<Opened, SessionError> {
        let theirs = Rules::try_from(hello.rules.clone())
            .map_err(|error| SessionError::Protocol(error.to_string()))?;
        let export = self.exports.find(&hello.export)?.clone();
        self.exports.reachable(&export)?;
        let opening = Opening {
            look: hello.wish.dry,
            create: false,
            new_root: hello.wish.new_root,
            state_home: self.exports.state_home.clone(),
            exclusive: None,
        };
        let sub = hello.sub.clone();
        let local = match kept {
            Some(kept) => {
                kept.check(hello)?;
                kept.local.clone()
            }
            None => Arc::new(blocking(move || Local::open(&export.path, &sub, opening)).await?),
        };
        if kept.is_none() {
            *kept = Kept::of(hello, &local)?;
        }
        let (rules, _) = local.rules(&Rules::default())?;
        let runs = local.runs(hello.root.map(Id))?;
        Ok(Opened { local, may: self.exports.may(), rules, theirs, runs })
    }

    async fn send_top(&self, scanned: &Scanned) -> Result<(), SessionError> {
        let (entries, bytes) = scanned.snapshot.count();
        let problems = scanned.problems.iter().take(MAX_PROBLEMS).cloned().collect();
        self.control.send(&Message::Top { digest: scanned.snapshot.digest, entries, bytes, problems }).await
    }

    /// Answers questions until the client knows what differs.
    async fn answer(
        &self,
        local: &Arc<Local>,
        scanned: &mut Scanned,
        mut have: Have,
    ) -> Result<Asked, SessionError> {
        let (mut rows, mut budget) = (Vec::new(), Budget::new());
        loop {
            match self.control.receive().await? {
                Message::Have(more) if have.len() + more.len() <= MAX_HAVE => have.extend(more),
                Message::List(ask) if ask.len() <= MAX_PATHS => {
                    list(self.control, &scanned.snapshot, &have, &ask).await?
                }
                Message::ListSpans(ask) if ask.len() <= MAX_PATHS => {
                    list_spans(self.control, &scanned.snapshot, &ask).await?
                }
                Message::AskHashes(paths) if paths.len() <= MAX_PATHS => {
                    let hashes = local.hash(scanned, &paths).await?;
                    self.control.send(&Message::Hashes(hashes)).await?;
                }
                Message::Rows(more) => {
                    budget.take(&more)?;
                    rows.extend(more);
                }
                Message::RowsEnd => return Ok(Asked::Told(rows)),
                Message::Done => return Ok(Asked::Done),
                _ => {
                    return Err(SessionError::broke(
                        "it sent a message that has no place before the plan, or asks too much",
                    ));
                }
            }
        }
    }

    /// What the client made of the rows that it sent.
    async fn compared(&self) -> Result<Compared, SessionError> {
        match self.control.receive().await? {
            Message::Compared { run, plan, entries, base, guard } => {
                Ok(Compared { run: Id(run), plan, entries, base, stopped: guard.is_some() })
            }
            _ => {
                Err(SessionError::broke("it sent a message that has no place between its rows and its plan"))
            }
        }
    }
}

/// The folder that a client named, as it named it.
fn root_of(hello: &Hello) -> String {
    match hello.sub.is_root() {
        true => hello.export.clone(),
        false => format!("{}/{}", hello.export, hello.sub),
    }
}

/// The most paths that could not be scanned that are told one by one.
const MAX_PROBLEMS: usize = 200;

/// This side's half of a sync, once both know what differs.
struct Half<'a> {
    session: &'a Session<'a>,
    hello: &'a Hello,
    begin: Begin,
    clock: Timestamp,
    opened: Opened,
}

impl Half<'_> {
    /// To its end; also what the scan saw, where nothing else holds it any more, and paths that this side could not settle.
    async fn carry_out(self, scanned: Scanned, rows: Vec<Row>) -> Result<Option<Scanned>, SessionError> {
        let (control, wish) = (self.session.control, &self.hello.wish);
        let policy = wish.policy(self.opened.may, self.begin.uncertainty);
        let now = Sides { one: self.clock, two: self.begin.clock };
        let plan = heavily(|| tree_of(rows, &scanned.snapshot, now).map(|tree| reconcile(&tree, &policy)))
            .map_err(|error| SessionError::Protocol(error.to_string()))?;
        let local = self.opened.local.clone();
        let mut work =
            Work::new(Side::One, local, plan, scanned, now, &policy, self.session.progress.clone());
        let compared = self.session.compared().await?;
        if work.agreed() != compared.plan {
            return Err(SessionError::broke(
                "it made another plan from the same versions; nothing was changed",
            ));
        }
        let wanted = wanted(&work.plan, Side::One, &work.scanned, self.begin.base.is_none());
        let hashes = ask_hashes(control, &wanted.peer).await?;
        work.learn(wanted, hashes).await?;
        work.packing = Packing::of(wish.compress, self.begin.delay);
        work.arrange();
        let limit: MaxDelete =
            wish.max_delete.parse().map_err(|_| SessionError::broke("it set no limit on deletions"))?;
        let guard = work.guard(limit, compared.entries, compared.base);
        control.send(&Message::Agreed { guard: guard.as_ref().err().map(SessionError::refusal) }).await?;
        self.session.note(|served| served.came = Came::Planned);
        if guard.is_err() || compared.stopped {
            return Ok(None);
        }
        let needs = if wish.dry { work.needed() } else { heavily(|| work.prepare(compared.run))? };
        control.send_list(needs, |_| 16, Message::Needs).await?;
        control.send_list(work.remembered(), |_| 5, Message::Remembers).await?;
        control.send(&Message::NeedsEnd).await?;
        if wish.dry {
            return Ok(None);
        }
        self.session.note(|served| served.came = Came::Transferred);
        work.make_ahead();
        let work = Arc::new(work);
        primer::telling(control, &work, self.session.transfer(&work)).await?;
        // Written before the acts, so that their last sync makes it durable: System 2 commits its base only after.
        if let Some(peer) = self.hello.root {
            self.opened.local.announce(Id(peer), self.begin.base.map(Id), compared.run).await?;
        }
        let results = perform(work.clone(), compared.run, self.session.exports.kept(wish.keep)).await?;
        self.session.note(|served| {
            served.failed = results.failed.len() as u64;
            served.came = Came::Performed;
        });
        let round = Round { acted: work.acted(), deleted: results.deleted, lately: 0 };
        let sent = self.report(&work, compared.run, results).await?;
        work.keep_signatures().await;
        Ok(Arc::into_inner(work).map(|work| Scanned { changes: sent, round, ..work.scanned }))
    }

    /// Tells how this side's half went. Returns what the index has learned of what was sent.
    async fn report(&self, work: &Work, run: Id, results: Results) -> Result<Vec<Change>, SessionError> {
        let control = self.session.control;
        let mut learned = work.scanned.changes.clone();
        learned.extend(results.index);
        self.opened.local.store_index(learned, work.scanned.since, Some(run)).await?;
        let failed = results.failed.into_iter().map(|(at, failure)| (at as u32, failure.cut()));
        control.send_list(failed, |_| MAX_TEXT + 16, Message::Failed).await?;
        let learned = results.learned.into_iter().map(|(at, digest)| (at as u32, digest));
        control.send_list(learned, |_| 40, Message::Learned).await?;
        control.send(&Message::Committed { moved: results.moved, deleted: results.deleted }).await?;
        // Nobody waits for this: System 2 has its own half to do meanwhile, and what fails here is nothing to it.
        let sent = self.opened.local.store_index(work.sent_rows(), work.scanned.since, None).await;
        match control.receive().await? {
            Message::Done => sent,
            _ => Err(SessionError::broke("it did not end with an end")),
        }
    }
}
