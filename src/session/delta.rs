//! A file that both sides have, in two versions: the receiver tells the blocks of its own, unless the sender remembers them,
//! and the sender answers with ranges of that and with what is new. Both directions of the channel are used at once.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::error::SessionError;
use super::outlet::write_delta;
use super::transfer;
use super::versions::random_grid;
use super::work::Work;
use crate::core::block::Block;
use crate::protocol::frame::{BLOCKS, Frame, FrameReader, Opening, put_again, put_blocks, put_grid};
use crate::replica::blocks::Old;
use crate::replica::old_blocks::OldBlocks;
use crate::replica::source::SourceError;
use crate::ssh::{CarrierError, Channel, ChannelReader, ChannelWriter, Chunk as Packet};

/// How many such files may be under way at once; each keeps two lists of blocks and a window, of some 85 MiB at most.
pub(super) const AT_ONCE: usize = 4;
/// Blocks that are told at a time: few, so that the sender can begin.
const TOLD: usize = BLOCKS / 32;
/// How many times as many are made before they are told: those of half a GiB, and some 120 KiB.
const MADE: usize = 64;

/// Receives an item, telling the blocks of this side's version meanwhile, unless the sender remembers them.
pub(crate) async fn receive(
    work: &Arc<Work>,
    opening: Opening,
    (frames, first): (FrameReader, Option<(Packet, usize)>),
    channel: &mut Channel,
) -> Result<(), SessionError> {
    let Channel { reader, writer } = channel;
    let blocks = work.blocks_of(opening.item, opening.how);
    let (again, mut wrong) = mpsc::channel(1);
    let telling = async {
        // A peer that does not listen will say why, on the other half.
        if let Some(blocks) = blocks {
            let _ = tell(blocks, writer).await;
        }
        if wrong.recv().await.is_some() {
            let mut frame = BytesMut::new();
            put_again(&mut frame);
            let _ = writer.send(frame.freeze()).await;
        }
        std::future::pending::<Infallible>().await
    };
    let received = tokio::select! {
        received = transfer::receive(work, opening.item, frames, first, reader, Some(again)) => received,
        never = telling => match never {},
    };
    // The sender waits for this, or for being asked again.
    let _ = writer.finish().await;
    received
}

/// The frames that tell the blocks of a version, as they are made.
pub(super) type Blocks = mpsc::Receiver<Bytes>;

/// Begins to make them of what `open` opens. That ends early once nobody wants them any more.
pub(super) fn make(open: impl FnOnce() -> Result<Old, SourceError> + Send + 'static) -> Blocks {
    let (frames, blocks) = mpsc::channel(MADE);
    spawn_blocking(move || make_blocks(open(), &frames));
    blocks
}

async fn tell(mut blocks: Blocks, writer: &mut ChannelWriter) -> Result<(), CarrierError> {
    while let Some(frame) = blocks.recv().await {
        writer.send(frame).await?;
    }
    let mut end = BytesMut::new();
    put_blocks(&mut end, &[]);
    writer.send(end.freeze()).await
}

/// Whatever goes wrong here makes the list shorter, and the answer longer.
fn make_blocks(old: Result<Old, SourceError>, frames: &mpsc::Sender<Bytes>) {
    let mut bytes = BytesMut::new();
    let old = old.ok().and_then(|old| random_grid(old.size()).map(|grid| (old, grid)));
    if let Some((old, grid)) = old {
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
    if !bytes.is_empty() {
        let _ = frames.blocking_send(bytes.freeze());
    }
}

/// Sends an item's content from `opening.offset` on; `announced` if this side opens the channel, with the opening.
pub(crate) async fn send(
    work: &Arc<Work>,
    opening: Opening,
    announced: bool,
    told: (FrameReader, Option<(Packet, usize)>),
    channel: &mut Channel,
) -> Result<(), CarrierError> {
    let Channel { reader, writer } = channel;
    if announced {
        writer.send(Bytes::copy_from_slice(&opening.encode())).await?;
    }
    let Opening { item, offset, how, .. } = opening;
    let recalling = work.clone();
    let known =
        spawn_blocking(move || recalling.known(item, how)).await.unwrap_or_else(|_| OldBlocks::unknown());
    let known = Listening(Arc::new(known));
    let (blocks, mut rest) = mpsc::channel(4);
    let writing = {
        let (work, known) = (work.clone(), known.0.clone());
        spawn_blocking(move || write_delta(&work, item, offset, &known, blocks))
    };
    let sending = async {
        while let Some((block, advance)) = rest.recv().await {
            writer.send(block).await?;
            work.advanced(item, advance);
        }
        // A file without its end must not be waited for.
        writing.await.map_err(|_| CarrierError::Abandoned)
    };
    let listening = async {
        let wrong = listen(&known.0, told, reader).await;
        known.0.end();
        Ok::<_, CarrierError>(wrong)
    };
    let ((), wrong) = tokio::try_join!(sending, listening)?;
    if wrong {
        let whole = transfer::read(work, item, 0, None).await;
        transfer::send(work, item, whole, writer).await?;
    }
    // The receiver has all of it, and may have closed the channel.
    let _ = writer.finish().await;
    Ok(())
}

/// Ends the list when nobody listens any more, so that nobody waits for more of it.
struct Listening(Arc<OldBlocks>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Takes in the receiver's blocks, as far as they make sense, and then whether it wants all of the content after all.
async fn listen(
    known: &OldBlocks,
    (mut frames, mut first): (FrameReader, Option<(Packet, usize)>),
    reader: &mut ChannelReader,
) -> bool {
    while let Ok((packet, from)) = transfer::next_chunk(&mut first, reader).await {
        let mut bytes = &packet[from..];
        loop {
            match frames.frame(&mut bytes) {
                Ok(None) => break,
                Ok(Some(Frame::Grid(grid))) => known.begin(grid),
                Ok(Some(Frame::Blocks(hashes))) if !hashes.is_empty() && known.told(&hashes) => {}
                Ok(Some(Frame::Again)) => return true,
                Ok(Some(_)) => known.end(),
                Err(_) => return false,
            }
        }
    }
    false
}
