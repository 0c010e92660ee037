//! One side's half of a plan: what it sends, what it receives, and what it does with it.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use super::brief::Gauge;
use super::error::SessionError;
use super::gathered::Gathered;
use super::local::Local;
use super::packing::Packing;
use super::primer::Primers;
use super::progress::{Direction, Event, Progress};
use super::scanned::Scanned;
use crate::core::age::{Timestamp, edited_here};
use crate::core::digest::Digest;
use crate::core::guard::{Census, GuardError, MaxDelete, guard};
use crate::core::moves::{Arrangement, Holdings, Wanted, arrange, wanted_hashes};
use crate::core::path::RelPath;
use crate::core::plan::{Act, Item, Plan, Source as From};
use crate::core::policy::Policy;
use crate::core::side::{Side, Sides};
use crate::core::snapshot::Node;
use crate::core::version::{Bits, Content, Version};
use crate::protocol::message::{Failure, Need, Unhashed};
use crate::replica::identity::Id;
use crate::replica::incoming::Incoming;
use crate::replica::root::Near;
use crate::replica::source::{Source, SourceError};
use crate::replica::stage::{Promise, Stage, StageError, Staged};

/// At a first meeting everything is new; only files of at least this size are worth hashing to find that they are here under another name.
const WORTH_HASHING: u64 = 1 << 20;

/// A plan, and one side's means and progress in carrying it out. Shared by all transfers.
pub(crate) struct Work {
    pub(crate) side: Side,
    pub(crate) plan: Arc<Plan>,
    pub(crate) local: Arc<Local>,
    pub(crate) scanned: Scanned,
    /// This side's clock at the hello.
    pub(super) now: Timestamp,
    /// How far the ages that the other side told may be off.
    uncertainty: i64,
    arrangement: Arrangement,
    stage: Option<Stage>,
    /// The folder of the file that was sent last.
    near: Near,
    progress: Arc<dyn Progress>,
    /// The digest of the plan as both sides made it, before this one learned more hashes.
    agreed: Digest,
    mirror: bool,
    /// What is done to content on its way out.
    pub(crate) packing: Packing,
    /// Items of which the other side remembers the version that this one has.
    pub(super) remembered_there: HashSet<u32>,
    pub(crate) primers: Primers,
    /// Files that go as a delta, of which only so many are under way at once.
    pub(crate) deltas: Semaphore,
    /// Large files under way that the other side asked for or brings, both directions.
    pub(crate) large: Semaphore,
    /// How long small files take to be read, and to be staged.
    pub(crate) reading: Gauge,
    pub(crate) staging: Gauge,
    state: Mutex<Gathered>,
}

impl Work {
    pub(crate) fn new(
        side: Side,
        local: Arc<Local>,
        plan: Plan,
        scanned: Scanned,
        now: Sides<Timestamp>,
        policy: &Policy,
        progress: Arc<dyn Progress>,
    ) -> Work {
        Work {
            side,
            agreed: plan.digest(),
            mirror: policy.mirror,
            plan: Arc::new(plan),
            local,
            scanned,
            now: *now.of(side),
            uncertainty: policy.uncertainty,
            arrangement: Arrangement::default(),
            stage: None,
            near: Near::default(),
            progress,
            packing: Packing::default(),
            remembered_there: HashSet::new(),
            primers: Primers::default(),
            deltas: Semaphore::new(super::delta::AT_ONCE),
            large: Semaphore::new(2 * super::pump::LARGE_IN_FLIGHT),
            reading: Gauge::default(),
            staging: Gauge::default(),
            state: Mutex::default(),
        }
    }

    /// The digest of the plan that both sides made.
    pub(crate) fn agreed(&self) -> Digest {
        self.agreed
    }

    /// How this side carries out its half.
    pub(crate) fn arrangement(&self) -> &Arrangement {
        &self.arrangement
    }

    /// Where received content waits, once there is any use for it.
    pub(crate) fn stage(&self) -> Option<&Stage> {
        self.stage.as_ref()
    }

    /// Whether one side becomes the mirror of the other.
    pub(crate) fn is_mirror(&self) -> bool {
        self.mirror
    }

    /// Hashes that the other side asks for.
    pub(crate) async fn hash(
        &mut self,
        paths: &[RelPath],
    ) -> Result<Vec<Result<Digest, Unhashed>>, SessionError> {
        self.local.clone().hash(&mut self.scanned, paths).await
    }

    /// As [`hash`](Work::hash), for a side that asks about files it is to take, and about no others. The plan
    /// learns them as well, or the base would not know what the other side has by a move of its own.
    pub(crate) async fn tell(
        &mut self,
        paths: &[RelPath],
    ) -> Result<Vec<Result<Digest, Unhashed>>, SessionError> {
        if !paths.iter().all(|path| self.gives(path)) {
            return Err(SessionError::broke("it asked for hashes of files that it is not to take"));
        }
        let hashes = self.hash(paths).await?;
        let plan = Arc::make_mut(&mut self.plan);
        for (path, hash) in paths.iter().zip(&hashes) {
            if let Ok(hash) = hash {
                plan.learn(path, *hash);
            }
        }
        Ok(hashes)
    }

    /// Whether the other side takes what stands at `path` here.
    fn gives(&self, path: &RelPath) -> bool {
        let at = self.plan.items.binary_search_by(|item| item.path.cmp(path));
        at.is_ok_and(|at| self.source_path(at as u32) == Some(path))
    }

    /// Takes in hashes that only this side's arrangement needs: its own, and those that the other side told.
    pub(crate) async fn learn(
        &mut self,
        wanted: Wanted,
        theirs: Vec<Result<Digest, Unhashed>>,
    ) -> Result<(), SessionError> {
        self.hash(&wanted.own).await?;
        let plan = Arc::make_mut(&mut self.plan);
        for (path, hash) in wanted.peer.iter().zip(theirs) {
            if let Ok(hash) = hash {
                plan.learn(path, hash);
            }
        }
        Ok(())
    }

    /// Decides how this side carries out its half.
    pub(crate) fn arrange(&mut self) {
        let own = Holdings::of(&self.scanned.snapshot, &self.plan, self.side);
        self.arrangement = arrange(&self.plan, self.side, &own);
    }

    /// Whether this side lets the plan pass.
    pub(crate) fn guard(&self, limit: MaxDelete, peer: u64, base: u64) -> Result<(), SessionError> {
        let own = self.scanned.snapshot.count().0;
        let census = Census { own, peer, base, lately: self.scanned.round.lately };
        guard(&self.plan, self.side, census, &self.arrangement.paired, limit).map_err(|error| {
            let code = if matches!(error, GuardError::Emptied { .. }) { 27 } else { 25 };
            SessionError::Guard { code, text: error.to_string() }
        })
    }

    /// What this side needs, in path order.
    pub(crate) fn needed(&self) -> Vec<Need> {
        self.arrangement.needs.iter().map(|&item| Need { item: item as u32, have: 0 }).collect()
    }

    /// Opens staging, and says what this side needs, in path order, less what an earlier run left there.
    pub(crate) fn prepare(&mut self, run: Id) -> Result<Vec<Need>, SessionError> {
        let (mut stage, left) = self.local.stage(run, self.now)?;
        for place in left {
            self.progress.event(&Event::Notice(format!("{place} was not put there by a sync, and was left")));
        }
        let needed = self.arrangement.needs.iter();
        let needed = needed.map(|&item| (&self.plan.items[item].path, self.size(item as u32)));
        stage.grow(self.new_folders(), needed);
        let mut needs = Vec::new();
        for &item in &self.arrangement.needs {
            let Some(promise) = promise(&self.plan.items[item], self.side) else { continue };
            needs.push(Need { item: item as u32, have: stage.waiting(&promise) });
        }
        self.state().expect(needs.iter().map(|need| (need.item as usize, need.have)));
        self.stage = Some(stage);
        Ok(needs)
    }

    /// The folders that this side makes where it saw nothing, and their bits.
    fn new_folders(&self) -> Vec<(RelPath, Bits)> {
        let items = self.plan.items.iter().enumerate();
        let made = items.filter_map(|(at, item)| match item.act.of(self.side) {
            Act::Put { version: Version { content: Content::Folder, bits, .. }, .. } => {
                let absent = self.scanned.snapshot.find(&item.path).is_none();
                (absent && !self.arrangement.placed.contains(&at)).then(|| (item.path.clone(), *bits))
            }
            _ => None,
        });
        made.collect()
    }

    /// Claims a needed item for one channel. A peer that names another, or one twice, is told no.
    pub(crate) fn claim(&self, item: u32, offset: u64) -> bool {
        self.state().claim(item, offset)
    }

    /// Whether anything that this side needs is still to come.
    pub(crate) fn is_waiting(&self) -> bool {
        self.state().is_waiting()
    }

    /// The file that an item asks of this side, if the plan says that the other side takes its content from here.
    pub(crate) fn source(&self, item: u32) -> Result<Source, SourceError> {
        let path = self.source_path(item).ok_or(SourceError::Changed)?;
        let Some(Node::File(file)) = self.scanned.snapshot.find(path) else {
            return Err(SourceError::Changed);
        };
        Source::open(&self.local.root, &self.near, path, file)
    }

    /// Whether the plan says that the other side takes an item's content from here.
    pub(crate) fn sends(&self, item: u32) -> bool {
        self.source_path(item).is_some()
    }

    pub(super) fn source_path(&self, item: u32) -> Option<&RelPath> {
        self.given(item).map(|(path, _)| path)
    }

    /// Bytes of the file that an item takes from here, as the plan has it.
    pub(crate) fn source_size(&self, item: u32) -> u64 {
        self.given(item).map_or(0, |(_, size)| size)
    }

    /// What the other side takes from here for an item: the path of a file, and its size.
    fn given(&self, item: u32) -> Option<(&RelPath, u64)> {
        let item = self.plan.items.get(item as usize)?;
        match item.act.of(self.side.other()) {
            Act::Put { version: Version { content: Content::File { size, .. }, .. }, from } => match from {
                From::Peer => Some((&item.path, *size)),
                From::PeerAt(path) => Some((path, *size)),
                From::Own(_) => None,
            },
            _ => None,
        }
    }

    /// Bytes that an item will have here.
    pub(crate) fn size(&self, item: u32) -> u64 {
        self.put(item).map_or(0, |version| version.content.size())
    }

    fn put(&self, item: u32) -> Option<&Version> {
        match self.plan.items.get(item as usize)?.act.of(self.side) {
            Act::Put { version, .. } => Some(version),
            _ => None,
        }
    }

    /// Stages a small file that has arrived whole.
    pub(crate) fn stage_whole(&self, item: u32, content: &[u8], sent: Digest) -> Result<Staged, Failure> {
        let (stage, mut promise) = self.staging_of(item)?;
        if promise.sha256.is_some_and(|promised| promised != sent) {
            return Err(Failure::Changed(StageError::WrongContent.to_string()));
        }
        promise.sha256 = Some(sent);
        stage.whole(&promise, content).map_err(|error| failure(&error))
    }

    /// Begins to stage a large file, behind what an earlier run left of it.
    pub(crate) fn incoming(&self, item: u32) -> Result<Incoming, Failure> {
        let (stage, promise) = self.staging_of(item)?;
        let incoming = stage.incoming(&promise).map_err(|error| failure(&error))?;
        let have = self.state().have(item);
        if incoming.written() == have {
            Ok(incoming)
        } else {
            Err(Failure::Changed("what an earlier run left of it changed; the next run settles it".into()))
        }
    }

    /// Ends a large file: everything came, and has the SHA-256 that was sent with its end.
    pub(crate) fn finish(&self, incoming: Incoming, sent: Digest) -> Result<Staged, Failure> {
        incoming.finish(Some(sent)).map_err(|error| failure(&error))
    }

    fn staging_of(&self, item: u32) -> Result<(&Stage, Promise), Failure> {
        let stage = self.stage.as_ref();
        let promise = self.plan.items.get(item as usize).and_then(|item| promise(item, self.side));
        stage.zip(promise).ok_or_else(|| Failure::Failed("it is not in the plan".into()))
    }

    /// Whether the item's content is here, whole.
    pub(crate) fn has_arrived(&self, item: u32) -> bool {
        self.state().has_arrived(item)
    }

    pub(crate) fn staged(&self, item: u32, staged: Staged) {
        self.state().staged(item, staged);
        self.progress.event(&Event::Finished { id: item.into(), ok: true });
    }

    pub(crate) fn failed(&self, item: u32, failure: Failure) {
        self.state().failed(item, failure);
        self.progress.event(&Event::Finished { id: item.into(), ok: false });
    }

    pub(crate) fn started(&self, item: u32) {
        let Some(planned) = self.plan.items.get(item as usize) else { return };
        let received = matches!(planned.act.of(self.side), Act::Put { .. });
        let side = if received { self.side } else { self.side.other() };
        let Act::Put { version, .. } = planned.act.of(side) else { return };
        self.progress.event(&Event::Started {
            id: item.into(),
            path: planned.path.clone(),
            direction: if received { Direction::Received } else { Direction::Sent },
            size: version.content.size(),
        });
    }

    pub(crate) fn advanced(&self, item: u32, bytes: u64) {
        self.progress.event(&Event::Advanced { id: item.into(), bytes });
    }

    /// All of a file was read to be sent, and this is its hash.
    pub(crate) fn hashed(&self, item: u32, digest: Digest) {
        self.state().sent.insert(item, digest);
    }

    /// A file has left this side.
    pub(crate) fn sent(&self, item: u32, ok: bool) {
        self.progress.event(&Event::Finished { id: item.into(), ok });
    }

    /// What arrived and what did not, when all transfers have ended.
    pub(crate) fn take_received(&self) -> (Vec<(usize, Staged)>, BTreeMap<usize, Failure>) {
        self.state().take()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, Gathered> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The moment, on this side's clock, of the edit that made a version.
    pub(crate) fn edited(&self, version: &Version) -> Timestamp {
        edited_here(version.age, version.modified, self.now, self.uncertainty)
    }
}

/// Which hashes would show that content need not be transferred to `side`.
pub(crate) fn wanted(plan: &Plan, side: Side, scanned: &Scanned, first_meeting: bool) -> Wanted {
    let own = Holdings::of(&scanned.snapshot, plan, side);
    wanted_hashes(plan, side, &own, if first_meeting { WORTH_HASHING } else { 1 })
}

/// What is known before its first byte of the file that an item puts on `side`.
pub(crate) fn promise(item: &Item, side: Side) -> Option<Promise> {
    let Act::Put { version, .. } = item.act.of(side) else { return None };
    let Content::File { size, sha256 } = version.content else { return None };
    Some(Promise { path: item.path.clone(), size, modified: version.modified, bits: version.bits, sha256 })
}

/// How a failure to stage is told.
pub(crate) fn failure(error: &StageError) -> Failure {
    if error.is_change() { Failure::Changed(error.to_string()) } else { Failure::Failed(error.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::age::Age;
    use crate::core::plan::{Settles, Why};
    use crate::core::version::Standing;
    use crate::replica::filter::Rules;
    use crate::replica::stage::Waits;
    use crate::session::local::Opening;
    use crate::session::progress::Silent;

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    fn new(at: &str, content: Content) -> Item {
        let (bits, modified) = (Bits::of_mode(0o755), Timestamp(0));
        let version = Version { content, bits, modified, age: Age(0) };
        Item {
            path: path(at),
            saw: Sides { one: Standing::Holds(version.clone()), two: Standing::Absent },
            act: Sides { two: Act::Put { version, from: From::Peer }, ..Sides::default() },
            suppressed: Sides::default(),
            why: Why::New,
            settles: Settles::Keep,
        }
    }

    /// System 2, which has the folder `old` and the file `taken`.
    #[tokio::test]
    async fn files_grow_in_the_folders_that_are_made_where_nothing_stands() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("root");
        std::fs::create_dir_all(root.join("old")).unwrap();
        std::fs::write(root.join("taken"), "a file").unwrap();
        let state_home = temp.path().join("state");
        let opening = Opening { look: false, create: false, new_root: false, state_home, exclusive: None };
        let local = Arc::new(Local::open(&root, &RelPath::root(), opening).unwrap());
        let scanned = local.scan(vec![Rules::default()], false, Arc::new(Silent)).done().await.unwrap();
        let file = || Content::File { size: 1, sha256: None };
        let items = vec![
            new("new", Content::Folder),
            new("new/f", file()),
            new("new/sub", Content::Folder),
            new("new/sub/f", file()),
            new("old/f", file()),
            new("taken", Content::Folder),
            new("taken/f", file()),
        ];
        let now = Sides { one: Timestamp(0), two: Timestamp(0) };
        let (plan, policy) = (Plan { items }, Policy::default());
        let mut work = Work::new(Side::Two, local, plan, scanned, now, &policy, Arc::new(Silent));
        work.arrange();
        assert_eq!(work.prepare(Id([1; 16])).unwrap().len(), 4);
        let grows = |item| {
            let staged = work.stage_whole(item, b"x", Digest::of(b"x")).unwrap();
            matches!(staged.waits, Waits::Member(_))
        };
        assert_eq!([1, 3, 4, 6].map(grows), [true, true, false, false]);
    }
}
