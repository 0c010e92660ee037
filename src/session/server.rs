//! One sync seen from System 1: answers, and does its own half.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::control::{Control, path_size};
use super::error::SessionError;
use super::listing::list;
use super::local::{Local, Scanned};
use super::progress::Progress;
use super::transfer;
use super::work::Work;
use crate::core::age::Timestamp;
use crate::core::guard::MaxDelete;
use crate::core::path::RelPath;
use crate::core::policy::{May, Policy};
use crate::core::reconcile::reconcile;
use crate::core::side::{Side, Sides};
use crate::protocol::codec;
use crate::protocol::frame::FrameReader;
use crate::protocol::message::{Begin, Hello, Id, Message, Refusal, Welcome};
use crate::protocol::rows::{Row, tree_of};
use crate::ssh::{Channel, Connection};

/// The most rows that a client may send: what keeps an evil one from filling this side's memory.
const MAX_ROWS: usize = 16_000_000;

/// A folder that this system offers.
#[derive(Clone, Debug)]
pub struct Export {
    /// What clients call it.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

/// What System 1 offers, and to what extent.
#[derive(Clone, Debug)]
pub struct Exports {
    /// The folders.
    pub folders: Vec<Export>,
    /// Nothing is ever changed here.
    pub read_only: bool,
    /// Nothing is ever deleted here.
    pub no_delete: bool,
    /// Where what must live outside the roots is kept.
    pub state_home: PathBuf,
}

/// What one client's run did, for the log.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// The export and the folder below it that the client named.
    pub root: String,
    /// Files received and sent.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Paths that could not be settled here.
    pub failed: usize,
}

/// Serves one client's sync over its connection, to its end.
pub async fn serve(
    connection: Connection,
    exports: &Exports,
    progress: Arc<dyn Progress>,
) -> Result<Served, SessionError> {
    let control = Control::new(connection.clone());
    let result = Session { connection: &connection, control: &control, exports, progress }.run().await;
    if let Err(error) = &result {
        control.refuse(error).await;
    }
    result
}

struct Session<'a> {
    connection: &'a Connection,
    control: &'a Control,
    exports: &'a Exports,
    progress: Arc<dyn Progress>,
}

/// What the questions before the plan ended with.
enum Asked {
    /// Nothing differs, or the client only looked.
    Done,
    /// The client's rows, the digest of its plan, and whether its guard let it pass.
    Compared { rows: Vec<Row>, plan: Digest, stopped: bool },
}

impl Session<'_> {
    async fn run(&self) -> Result<Served, SessionError> {
        let (_, hello) = codec::decode_hello(&self.control.receive_bytes().await?)?;
        let clock = super::clock::now();
        let (local, may, rules) = match self.open(&hello).await {
            Ok(opened) => opened,
            Err(error) => {
                self.control.send_bytes(codec::encode_welcome(&Err(error.refusal()))?).await?;
                return Err(error);
            }
        };
        let scan = local.scan(hello.rules.clone(), rules.clone(), hello.wish.checksum, self.progress.clone())?;
        let welcome = Welcome {
            clock,
            root: local.id().map(|id| id.0),
            runs: local.runs(hello.root)?,
            rules,
            may,
            extensions: Vec::new(),
        };
        self.control.send_bytes(codec::encode_welcome(&Ok(welcome))?).await?;
        let Message::Begin(begin) = self.control.receive().await? else {
            return Err(SessionError::broke("it did not begin with a beginning"));
        };
        let mut scanned = scan.await?;
        self.send_top(&scanned).await?;
        let served = Served { root: hello.export.clone(), ..Served::default() };
        match self.answer(&local, &mut scanned).await? {
            Asked::Done => {
                local.store_index(scanned, Vec::new()).await?;
                Ok(served)
            }
            Asked::Compared { rows, plan, stopped } => {
                let policy = policy(&hello, may, &begin);
                let run = Half { session: self, hello: &hello, begin, clock, local, policy };
                run.carry_out(scanned, rows, plan, stopped, served).await
            }
        }
    }

    /// Finds the export and opens its root.
    async fn open(&self, hello: &Hello) -> Result<(Arc<Local>, May, Lines), SessionError> {
        let export = self.exports.find(&hello.export)?;
        let opening = Opening {
            look: hello.wish.dry,
            create: false,
            new_root: hello.wish.new_root,
            place: export.place(&hello.sub),
            state_home: self.exports.state_home.clone(),
            exclusive: None,
        };
        let (path, sub) = (export.path.clone(), hello.sub.clone());
        let local = blocking(move || Local::open(&path, &sub, opening)).await?;
        let rules = local.ignore_lines()?;
        Ok((Arc::new(local), self.exports.may(), rules))
    }

    async fn send_top(&self, scanned: &Scanned) -> Result<(), SessionError> {
        let (entries, bytes) = scanned.snapshot.count();
        let top = Message::Top { digest: scanned.snapshot.digest, entries, bytes, problems: scanned.problems() };
        self.control.send(&top).await
    }

    /// Answers questions until the client knows what differs.
    async fn answer(&self, local: &Arc<Local>, scanned: &mut Scanned) -> Result<Asked, SessionError> {
        let mut rows = Vec::new();
        loop {
            match self.control.receive().await? {
                Message::List(ask) => list(self.control, &scanned.snapshot, &ask).await?,
                Message::AskHashes(paths) => {
                    let hashes = local.hash(scanned, &paths).await?;
                    self.control.send(&Message::Hashes(hashes)).await?;
                }
                Message::Rows(more) if rows.len() + more.len() <= MAX_ROWS => rows.extend(more),
                Message::Compared { plan, guard } => {
                    return Ok(Asked::Compared { rows, plan, stopped: guard.is_some() });
                }
                Message::Done => return Ok(Asked::Done),
                _ => return Err(SessionError::broke("it sent a message that has no place before the plan")),
            }
        }
    }
}

/// This side's half of a sync, once both know what differs.
struct Half<'a> {
    session: &'a Session<'a>,
    hello: &'a Hello,
    begin: Begin,
    clock: Timestamp,
    local: Arc<Local>,
    policy: Policy,
}

impl Half<'_> {
    async fn carry_out(
        self,
        scanned: Scanned,
        rows: Vec<Row>,
        theirs: Digest,
        stopped: bool,
        mut served: Served,
    ) -> Result<Served, SessionError> {
        let control = self.session.control;
        let tree = tree_of(rows, &scanned.snapshot, self.clock).map_err(|error| SessionError::Protocol(error.to_string()))?;
        let plan = reconcile(&tree, &self.policy);
        if plan.digest() != theirs {
            return Err(SessionError::broke("it made another plan from the same versions; nothing was changed"));
        }
        let first = self.begin.base.is_none();
        let now = Sides { one: self.clock, two: self.begin.clock };
        let mut work = Work::new(Side::One, self.local.clone(), Arc::new(plan), scanned, now, self.session.progress.clone());
        let hashes = ask_hashes(control, &work.wanted_hashes(first)).await?;
        work.arrange(first, hashes).await?;
        let guard = work.guard(&self.hello.wish.max_delete);
        control.send(&Message::Agreed { guard: guard.as_ref().err().map(SessionError::refusal) }).await?;
        guard?;
        if stopped || self.hello.wish.dry {
            return Ok(served);
        }
        control.send_list(work.needs(), |_| 16, Message::Needs).await?;
        control.send(&Message::NeedsEnd).await?;
        let work = Arc::new(work);
        let run = self.transfer(&work).await?;
        let results = work.clone().perform().await?;
        self.report(&work, results, run, &mut served).await?;
        Ok(served)
    }

    /// Serves file channels until the client says that every transfer has ended.
    async fn transfer(&self, work: &Arc<Work>) -> Result<Id, SessionError> {
        let mut files = JoinSet::new();
        let run = loop {
            tokio::select! {
                channel = self.session.connection.accept() => match channel {
                    Some(channel) => { files.spawn(serve_file(work.clone(), channel)); }
                    None => return Err(SessionError::Connection("the client went away".into())),
                },
                message = self.session.control.receive() => match message? {
                    Message::Commit { run } => break run,
                    _ => return Err(SessionError::broke("it sent a message that has no place among transfers")),
                },
                Some(_) = files.join_next() => {}
            }
        };
        // What was sent is here: every channel is opened, and ended, before the commit is sent. What is still being staged must be waited for.
        while files.join_next().await.is_some() {}
        Ok(run)
    }
}
