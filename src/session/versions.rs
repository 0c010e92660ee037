//! The two versions of a file that goes as a delta: which files these are, what the receiver has, what the sender remembers.

use std::collections::HashMap;

use super::delta::{self, Blocks};
use super::error::SessionError;
use super::work::{Work, failure};
use crate::core::block::Grid;
use crate::core::digest::Digest;
use crate::core::plan::{Act, Item};
use crate::core::side::Side;
use crate::core::signature::Signature;
use crate::core::snapshot::Node;
use crate::core::version::Content;
use crate::protocol::frame::How;
use crate::protocol::message::Failure;
use crate::replica::blocks::Old;
use crate::replica::identity::Id;
use crate::replica::incoming::Incoming;
use crate::replica::old_blocks::OldBlocks;
use crate::replica::signatures::{self, Sent};
use crate::replica::source::SourceError;
use crate::replica::stage::StageError;

/// Versions smaller than this are sent whole.
const SMALLEST: u64 = 256 * 1024;
/// Versions larger than this too: the list of blocks would grow too long.
const LARGEST: u64 = 1 << 40;

/// Versions of at least this size are remembered although they were sent whole: before a delta the other side would have to read
/// all of its version. Of smaller ones, most of which are never edited, nothing is kept.
const SIGNED: u64 = 16 << 20;

/// In which blocks a version of this size is remembered when it is sent whole; `None` if it is not.
pub(super) fn signing_grid(size: u64) -> Option<Grid> {
    (SIGNED..=LARGEST).contains(&size).then(|| random_grid(size)).flatten()
}

/// In which blocks a version of this size is told, or remembered; `None` if the system has no random numbers.
pub(super) fn random_grid(size: u64) -> Option<Grid> {
    let Id(random) = Id::random().ok()?;
    Some(Grid::of_size(size, u128::from_be_bytes(random) as u64))
}

/// What one side keeps of the two versions of a file, by item.
#[derive(Default)]
pub(super) struct Deltas {
    signed: Signed,
    /// The blocks of its own versions that are made before they are asked for.
    made: HashMap<u32, Blocks>,
}

/// What one side sent, by item. No more signatures are held than are worth keeping.
#[derive(Default)]
struct Signed {
    sent: HashMap<u32, Sent>,
    /// The blocks in all of them.
    blocks: usize,
}

impl Signed {
    /// Takes in what was sent, in place of what was sent of the item before, if that came out wrong. Of a version that was sent whole
    /// and has no signature nothing is held.
    fn add(&mut self, item: u32, sent: Sent) {
        let blocks = |sent: &Sent| sent.signature.as_ref().map_or(0, |signature| signature.blocks.len());
        let before = self.sent.remove(&item);
        self.blocks -= before.as_ref().map_or(0, blocks);
        let edited = sent.edited || before.is_some_and(|before| before.edited);
        // What was never edited leaves half of the room to what was.
        let room = if edited { signatures::MOST } else { signatures::MOST / 2 }.saturating_sub(self.blocks);
        let signature = sent.signature.filter(|signature| signature.blocks.len() <= room);
        if edited || signature.is_some() {
            let sent = Sent { signature, edited, ..sent };
            self.blocks += blocks(&sent);
            self.sent.insert(item, sent);
        }
    }
}

impl Work {
    /// How a file goes that this side asks for.
    pub(crate) fn how_received(&self, item: u32) -> How {
        match self.replaced(item) {
            Some(_) if self.remembered_there.contains(&item) => How::Remembered,
            Some(_) => How::Told,
            None => How::Whole,
        }
    }

    /// How a file goes that this side brings.
    pub(crate) fn how_sent(&self, item: u32) -> How {
        match self.replaced(item) {
            Some((item, old)) if self.is_kept(item, &old) => How::Remembered,
            Some(_) => How::Told,
            None => How::Whole,
        }
    }

    fn is_kept(&self, item: &Item, old: &Replaced) -> bool {
        let kept = self.local.state().zip(old.sha256);
        // What cannot be read is told.
        kept.is_some_and(|(state, sha256)| signatures::is_kept(&state, &item.path, sha256).unwrap_or(false))
    }

    /// The items that the other side asks for, and of which this side remembers the version that it has.
    pub(crate) fn remembered(&self) -> Vec<u32> {
        let items = (0..self.plan.items.len() as u32).filter(|&item| self.sends(item));
        let mut deltas = items.filter_map(|item| Some((item, self.replaced(item)?))).peekable();
        if deltas.peek().is_none() {
            return Vec::new();
        }
        let kept =
            self.local.state().map(|state| signatures::kept(&state).unwrap_or_default()).unwrap_or_default();
        let the_same = |(_, (item, old)): &(u32, (&Item, Replaced))| {
            old.sha256.is_some_and(|sha256| kept.get(&item.path) == Some(&sha256))
        };
        deltas.filter(the_same).map(|(item, _)| item).collect()
    }

    /// Takes in the same from the other side.
    pub(crate) fn remembers_there(&mut self, items: Vec<u32>) -> Result<(), SessionError> {
        if !items.iter().all(|&item| (item as usize) < self.plan.items.len()) {
            return Err(SessionError::broke("it remembers versions of files that are not in the plan"));
        }
        self.remembered_there.extend(items);
        self.state().deltas.made.retain(|item, _| !self.remembered_there.contains(item));
        Ok(())
    }

    /// What is known of the version that an item's receiver has: nothing yet where that is to be told, nothing at all where
    /// what was kept has gone meanwhile (another client was sent another version).
    pub(super) fn known(&self, item: u32, how: How) -> OldBlocks {
        let size = self.replaced(item).map_or(0, |(_, old)| old.size);
        match how {
            How::Remembered => self
                .recalled(item)
                .map_or_else(OldBlocks::unknown, |signature| OldBlocks::all_of(size, &signature)),
            How::Told | How::Whole => OldBlocks::new(size),
        }
    }

    fn recalled(&self, item: u32) -> Option<Signature> {
        let (item, old) = self.replaced(item)?;
        signatures::load(&*self.local.state()?, &item.path, old.sha256?).ok()?
    }

    /// An item's content was sent, as a delta if it is `edited`, and this is its signature.
    pub(super) fn signed(&self, item: u32, sha256: Digest, signature: Option<Signature>, edited: bool) {
        let Some(Item { path, .. }) = self.plan.items.get(item as usize) else { return };
        let sent = Sent { path: path.clone(), sha256, signature, edited };
        self.state().deltas.signed.add(item, sent);
    }

    /// Writes down the signatures of what was sent. Where that fails the next delta is told: no sync fails for it.
    pub(crate) async fn keep_signatures(&self) {
        let signed = std::mem::take(&mut self.state().deltas.signed);
        let sent: Vec<Sent> = signed.sent.into_values().collect();
        let (local, now) = (self.local.clone(), self.now);
        let keeping = move || local.state().map(|state| signatures::keep(&state, &sent, now));
        let _ = tokio::task::spawn_blocking(keeping).await;
    }

    /// The version that an item replaces at its receiver, if its content goes as a delta: both sides have a file there, worth
    /// the question.
    fn replaced(&self, item: u32) -> Option<(&Item, Replaced)> {
        let item = self.plan.items.get(item as usize)?;
        let receiver = [Side::One, Side::Two].into_iter().find(|&side| match item.act.of(side) {
            Act::Put { version, .. } => worthwhile(&version.content).is_some(),
            _ => false,
        })?;
        Some((item, worthwhile(&item.saw.of(receiver).version()?.content)?))
    }

    /// Begins to make the blocks of the first version that this side may have to tell: they are made while the other side is still
    /// on its way to asking for them.
    pub(crate) fn make_ahead(&self) {
        let needs = self.arrangement().needs.iter().map(|&item| item as u32);
        if let Some(item) = needs.into_iter().find(|&item| self.how_received(item) == How::Told) {
            let blocks = delta::make(self.opening_old(item));
            self.state().deltas.made.insert(item, blocks);
        }
    }

    /// The blocks of the version of an item that this side has, if they are to be told.
    pub(super) fn blocks_of(&self, item: u32, how: How) -> Option<Blocks> {
        let made = self.state().deltas.made.remove(&item);
        (how == How::Told).then(|| made.unwrap_or_else(|| delta::make(self.opening_old(item))))
    }

    /// The version of an item that this side has.
    fn old(&self, item: u32) -> Result<Old, SourceError> {
        self.opening_old(item)()
    }

    /// What opens it, wherever that is done.
    fn opening_old(&self, item: u32) -> impl FnOnce() -> Result<Old, SourceError> + Send + 'static {
        let path = self.plan.items.get(item as usize).map(|item| item.path.clone());
        let found = path.and_then(|path| match self.scanned.snapshot.find(&path) {
            Some(Node::File(file)) => Some((self.local.clone(), path, file.clone())),
            _ => None,
        });
        move || {
            let (local, path, file) = found.ok_or(SourceError::Changed)?;
            Old::open(&local.root, &path, &file)
        }
    }

    /// Appends a range of the version that this side has; `old` is that, once it is open.
    pub(crate) fn copy(
        &self,
        item: u32,
        old: &mut Option<Old>,
        range: (u64, u64),
        incoming: &mut Incoming,
    ) -> Result<(), Failure> {
        let source = match old.take() {
            Some(old) => old,
            None => self.old(item).map_err(Stopped::from)?,
        };
        incoming.copy::<Stopped>(&source, range.0, range.1)?;
        self.advanced(item, range.1);
        *old = Some(source);
        Ok(())
    }
}

/// Whether the version that was copied from, if any was, is still what the scan saw.
pub(super) fn unchanged(old: Option<&Old>) -> Result<(), Failure> {
    old.map_or(Ok(()), Old::check).map_err(|error| Stopped::from(error).0)
}

/// A version that is replaced.
struct Replaced {
    size: u64,
    sha256: Option<Digest>,
}

fn worthwhile(content: &Content) -> Option<Replaced> {
    match *content {
        Content::File { size, sha256 } if (SMALLEST..=LARGEST).contains(&size) => {
            Some(Replaced { size, sha256 })
        }
        _ => None,
    }
}

/// Why copying stopped.
struct Stopped(Failure);

impl From<SourceError> for Stopped {
    fn from(error: SourceError) -> Stopped {
        Stopped(match error {
            SourceError::Changed => Failure::Changed(
                "the version to be replaced changed meanwhile; run again to settle it".into(),
            ),
            error => Failure::Failed(error.to_string()),
        })
    }
}

impl From<StageError> for Stopped {
    fn from(error: StageError) -> Stopped {
        Stopped(failure(&error))
    }
}

impl From<Stopped> for Failure {
    fn from(stopped: Stopped) -> Failure {
        stopped.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::age::Timestamp;
    use crate::core::block::Block;
    use crate::core::path::RelPath;
    use crate::core::plan::{Plan, Settles, Source, Why};
    use crate::core::policy::Policy;
    use crate::core::side::Sides;
    use crate::core::version::Standing;
    use crate::protocol::frame::{Frame, FrameReader};
    use crate::replica::filter::Rules;
    use crate::session::local::{Local, Opening};
    use crate::session::progress::Silent;
    use std::sync::Arc;

    /// System 2's half of a sync that replaces its file `f`, of that many bytes, by a longer one.
    async fn replacing(temp: &tempfile::TempDir, size: u64) -> Work {
        let root = temp.path().join("root");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("f"), vec![7; size as usize]).unwrap();
        let state_home = temp.path().join("state");
        let opening = Opening { look: false, create: false, new_root: false, state_home, exclusive: None };
        let local = Arc::new(Local::open(&root, &RelPath::root(), opening).unwrap());
        let scanned = local.scan(vec![Rules::default()], false, Arc::new(Silent)).done().await.unwrap();
        let (path, now) = (RelPath::parse(b"f").unwrap(), Timestamp(0));
        let old = scanned.snapshot.find(&path).unwrap().standing(now);
        let mut new = old.version().unwrap().clone();
        new.content = Content::File { size: size + 1, sha256: None };
        let item = Item {
            path,
            saw: Sides { one: Standing::Holds(new.clone()), two: old },
            act: Sides { two: Act::Put { version: new, from: Source::Peer }, ..Sides::default() },
            suppressed: Sides::default(),
            why: Why::Changed,
            settles: Settles::Keep,
        };
        let (plan, now) = (Plan { items: vec![item] }, Sides { one: now, two: now });
        let mut work = Work::new(Side::Two, local, plan, scanned, now, &Policy::default(), Arc::new(Silent));
        work.arrange();
        work
    }

    fn is_made(work: &Work) -> bool {
        work.state().deltas.made.contains_key(&0)
    }

    #[tokio::test]
    async fn blocks_are_made_before_they_are_asked_for_and_told_once() {
        let temp = tempfile::tempdir().unwrap();
        let work = replacing(&temp, 3 * SMALLEST).await;
        work.make_ahead();
        assert!(is_made(&work));
        let (mut blocks, mut reader) = (work.blocks_of(0, How::Told).unwrap(), FrameReader::default());
        assert!(!is_made(&work));
        let (mut grids, mut count) = (Vec::new(), 0);
        while let Some(frames) = blocks.recv().await {
            let mut bytes = &frames[..];
            while let Some(frame) = reader.frame(&mut bytes).unwrap() {
                match frame {
                    Frame::Grid(grid) => grids.push(grid),
                    Frame::Blocks(hashes) => count += hashes.len() as u64,
                    other => panic!("{other:?}"),
                }
            }
        }
        let [grid] = grids[..] else { panic!("{grids:?}") };
        assert_eq!(count, (3 * SMALLEST).div_ceil(grid.length() as u64));
    }

    #[tokio::test]
    async fn blocks_that_nobody_needs_are_not_kept() {
        let temp = tempfile::tempdir().unwrap();
        let mut work = replacing(&temp, SMALLEST).await;
        work.make_ahead();
        work.remembers_there(vec![0]).unwrap();
        assert!(!is_made(&work), "the sender remembers them");
        work.make_ahead();
        assert!(!is_made(&work));
        work.remembered_there.clear();
        work.make_ahead();
        assert!(work.blocks_of(0, How::Remembered).is_none() && !is_made(&work), "it says so when it comes");
        let temp = tempfile::tempdir().unwrap();
        let work = replacing(&temp, SMALLEST - 1).await;
        work.make_ahead();
        assert!(!is_made(&work), "too small for a delta");
    }

    /// A version with a signature of so many blocks.
    fn sent(blocks: usize, edited: bool) -> Sent {
        let blocks = vec![Block { length: 4096, weak: 1, strong: 1 }; blocks];
        let signature = Some(Signature { grid: Grid::new(12, 1).unwrap(), blocks });
        Sent { path: RelPath::parse(b"f").unwrap(), sha256: Digest([1; 32]), signature, edited }
    }

    #[test]
    fn what_was_sent_whole_takes_half_of_the_room_for_signatures_at_most() {
        let mut signed = Signed::default();
        signed.add(1, sent(signatures::MOST / 2 - 9, false));
        signed.add(2, sent(10, false));
        assert!(signed.sent.contains_key(&1) && !signed.sent.contains_key(&2));
        signed.add(3, sent(signatures::MOST / 2, true));
        signed.add(4, sent(10, true));
        let has = |item| signed.sent[&item].signature.is_some();
        assert!(has(3) && !has(4), "that nothing is known of it any more is");
        assert_eq!(signed.blocks, signatures::MOST - 9);
    }

    #[test]
    fn what_comes_whole_after_a_delta_that_was_wrong_was_edited_all_the_same() {
        let mut signed = Signed::default();
        signed.add(1, sent(7, true));
        signed.add(1, sent(5, false));
        assert_eq!((signed.blocks, signed.sent[&1].edited), (5, true));
        signed.add(1, Sent { signature: None, ..sent(0, false) });
        assert_eq!((signed.blocks, signed.sent[&1].edited), (0, true), "what misled goes");
    }
}
