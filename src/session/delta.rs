//! A file that both sides have, in two versions: the receiver tells the blocks of its own, the sender answers with
//! ranges of that and with what is new. Both directions of the channel are used at once.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::error::SessionError;
use super::outlet::write_delta;
use super::transfer;
use super::work::{Work, failure};
use crate::core::block::{Block, Grid};
use crate::core::plan::Act;
use crate::core::side::Side;
use crate::core::snapshot::Node;
use crate::core::version::Content;
use crate::protocol::frame::{BLOCKS, Frame, FrameReader, Opening, put_blocks, put_grid};
use crate::protocol::message::Failure;
use crate::replica::blocks::Old;
use crate::replica::incoming::Incoming;
use crate::replica::known::Known;
use crate::replica::identity::Id;
use crate::replica::source::SourceError;
use crate::ssh::{CarrierError, Channel, ChannelReader, ChannelWriter, Chunk as Packet};

/// Versions smaller than this are sent whole.
const SMALLEST: u64 = 256 * 1024;
/// Versions larger than this too: the list of blocks would grow too long.
const LARGEST: u64 = 1 << 40;
/// How many such files may be under way at once; each keeps a list of blocks, of some 50 MiB at most.
pub(super) const AT_ONCE: usize = 4;
/// Blocks that are told at a time: few, so that the sender can begin.
const TOLD: usize = BLOCKS / 32;

impl Work {
    /// Whether an item's content goes as a delta: both sides have a file there, worth the question.
    pub(crate) fn is_delta(&self, item: u32) -> bool {
        self.planned_delta(item).is_some()
    }

    /// The length of the version that an item's receiver has.
    fn planned_delta(&self, item: u32) -> Option<u64> {
        let item = self.plan.items.get(item as usize)?;
        let receiver = [Side::One, Side::Two].into_iter().find(|&side| match item.act.of(side) {
            Act::Put { version, .. } => worthwhile(&version.content).is_some(),
            _ => false,
        })?;
        worthwhile(&item.saw.of(receiver).version()?.content)
    }

    /// The version of an item that this side has.
    fn old(&self, item: u32) -> Result<Old, SourceError> {
        let path = &self.plan.items.get(item as usize).ok_or(SourceError::Changed)?.path;
        match self.scanned.snapshot.find(path) {
            Some(Node::File(file)) => Old::open(&self.local.root, path, file),
            _ => Err(SourceError::Changed),
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
        let mut source = match old.take() {
            Some(old) => old,
            None => self.old(item).map_err(Stopped::from)?,
        };
        let append = |piece: &[u8]| incoming.write(piece).map_err(|error| Stopped(failure(&error)));
        source.range(range.0, range.1, append)?;
        self.advanced(item, range.1);
        *old = Some(source);
        Ok(())
    }
}

fn worthwhile(content: &Content) -> Option<u64> {
    match content {
        Content::File { size, .. } => Some(*size).filter(|size| (SMALLEST..=LARGEST).contains(size)),
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

impl From<Stopped> for Failure {
    fn from(stopped: Stopped) -> Failure {
        stopped.0
    }
}

/// Receives an item, telling the blocks of this side's version meanwhile.
pub(crate) async fn receive(
    work: &Arc<Work>,
    item: u32,
    frames: FrameReader,
    first: Option<(Packet, usize)>,
    channel: &mut Channel,
) -> Result<(), SessionError> {
    let Channel { reader, writer } = channel;
    let telling = async {
        // A peer that does not listen will say why, on the other half.
        let _ = tell(work, item, writer).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        received = transfer::receive(work, item, frames, first, reader) => received,
        () = telling => Ok(()),
    }
}

async fn tell(work: &Arc<Work>, item: u32, writer: &mut ChannelWriter) -> Result<(), CarrierError> {
    let (frames, mut told) = mpsc::channel(4);
    let work = work.clone();
    spawn_blocking(move || tell_blocks(&work, item, &frames));
    while let Some(frame) = told.recv().await {
        writer.send(frame).await?;
    }
    Ok(())
}

/// Whatever goes wrong here makes the list shorter, and the answer longer.
fn tell_blocks(work: &Work, item: u32, frames: &mpsc::Sender<Bytes>) {
    let mut bytes = BytesMut::new();
    if let (Ok(old), Ok(Id([seed @ .., _, _, _, _, _, _, _, _]))) = (work.old(item), Id::random()) {
        let grid = Grid::of_size(old.size(), u64::from_be_bytes(seed));
        put_grid(&mut bytes, &grid);
        let mut some: Vec<Block> = Vec::new();
        let _ = old.blocks(&grid, |block| {
            some.push(block);
            if some.len() < TOLD {
                return true;
            }
            put_blocks(&mut bytes, &some);
            some.clear();
            frames.blocking_send(bytes.split().freeze()).is_ok()
        });
        if !some.is_empty() {
            put_blocks(&mut bytes, &some);
        }
    }
    put_blocks(&mut bytes, &[]);
    let _ = frames.blocking_send(bytes.freeze());
}

/// Sends an item's content from `offset` on, with the opening before it where this side opens the channel.
pub(crate) async fn send(
    work: &Arc<Work>,
    item: u32,
    offset: u64,
    opening: Option<Opening>,
    told: (FrameReader, Option<(Packet, usize)>),
    channel: &mut Channel,
) -> Result<(), CarrierError> {
    let Channel { reader, writer } = channel;
    if let Some(opening) = opening {
        writer.send(Bytes::copy_from_slice(&opening.encode())).await?;
    }
    let known = Listening(Arc::new(Known::new(work.planned_delta(item).unwrap_or(0))));
    let (blocks, mut rest) = mpsc::channel(4);
    {
        let (work, known) = (work.clone(), known.0.clone());
        spawn_blocking(move || write_delta(&work, item, offset, &known, blocks));
    }
    let listening = async {
        listen(&known.0, told, reader).await;
        known.0.end();
        std::future::pending::<()>().await;
    };
    let sending = async {
        while let Some((block, advance)) = rest.recv().await {
            writer.send(block).await?;
            work.advanced(item, advance);
        }
        writer.finish().await
    };
    tokio::select! {
        sent = sending => sent,
        () = listening => Ok(()),
    }
}

/// Ends the list when nobody listens any more, so that nobody waits for more of it.
struct Listening(Arc<Known>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Takes in the receiver's blocks, as far as they make sense.
async fn listen(
    known: &Known,
    (mut frames, mut first): (FrameReader, Option<(Packet, usize)>),
    reader: &mut ChannelReader,
) {
    while let Ok((packet, from)) = transfer::next_chunk(&mut first, reader).await {
        let mut bytes = &packet[from..];
        loop {
            match frames.frame(&mut bytes) {
                Ok(None) => break,
                Ok(Some(Frame::Grid(grid))) => known.begin(grid),
                Ok(Some(Frame::Blocks(hashes))) if !hashes.is_empty() && known.told(&hashes) => {}
                _ => return,
            }
        }
    }
}
