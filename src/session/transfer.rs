//! One file on one channel: sent from one side's root, received into the other's staging.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::error::SessionError;
use super::packing::{Packer, Packing};
use super::versions::{signing_grid, unchanged};
use super::work::Work;
use crate::core::digest::Digest;
use crate::protocol::frame::{self, Frame, FrameReader, HEAD, MAX_FRAME, OPENING, Opening};
use crate::protocol::message::Failure;
use crate::replica::incoming::Incoming;
use crate::replica::source::{Source, SourceError};
use crate::replica::stage::Staged;
use crate::ssh::{CarrierError, ChannelReader, ChannelWriter, Chunk};

/// Files up to this size are read, hashed and sent, or received and staged, in one go.
const SMALL: u64 = 128 * 1024;
/// Frames of a large file that are read from the disk at a time.
const BLOCK_FRAMES: usize = 16;
/// Blocks of a large file between the disk and the channel.
const BLOCKS_AHEAD: usize = 4;

/// Whether a file of this size is streamed by a thread of its own.
pub(crate) fn is_large(size: u64) -> bool {
    size > SMALL
}

/// Content on its way out, framed, with the opening before it where this side opens the channel.
pub(crate) enum Outgoing {
    /// All of a small file, its end included; or the frame that says why there is none.
    Whole(Bytes),
    /// The first block of a large file, and where the others come from.
    Stream(Bytes, mpsc::Receiver<Bytes>),
}

/// Begins to read the content of an item, from `offset` on.
pub(crate) async fn read(work: &Arc<Work>, item: u32, offset: u64, opening: Option<Opening>) -> Outgoing {
    if work.packing != Packing::Off {
        work.primers.made().await;
    }
    let reading = work.clone();
    let begun = work.reading.run(move || begin(&reading, item, offset, opening)).await;
    begun.unwrap_or_else(|_| Outgoing::Whole(aborted(opening, false, "reading it failed")))
}

fn begin(work: &Arc<Work>, item: u32, offset: u64, opening: Option<Opening>) -> Outgoing {
    match work.source(item) {
        Ok(source) if source.size() <= SMALL => {
            let packer = work.packing.packer().map(|packer| packer.primed(work.primers.ours()));
            let whole = read_whole(source, offset, opening, packer);
            Outgoing::Whole(match whole {
                Ok((bytes, digest)) => {
                    work.hashed(item, digest);
                    bytes
                }
                Err(error) => aborted_by(opening, &error),
            })
        }
        Ok(source) => {
            let (blocks, rest) = mpsc::channel(BLOCKS_AHEAD);
            let work = work.clone();
            let head = opening.map_or_else(Bytes::new, |opening| Bytes::copy_from_slice(&opening.encode()));
            // Reading goes on beside sending; it ends when all is read, or when nobody takes the blocks any more.
            tokio::task::spawn_blocking(move || read_blocks(&work, item, source, offset, &blocks));
            Outgoing::Stream(head, rest)
        }
        Err(error) => Outgoing::Whole(aborted_by(opening, &error)),
    }
}

/// Opening, data frames and end of a small file in one buffer.
fn read_whole(
    mut source: Source,
    offset: u64,
    opening: Option<Opening>,
    mut packer: Option<Packer>,
) -> Result<(Bytes, Digest), SourceError> {
    let mut bytes = BytesMut::with_capacity(OPENING + source.size() as usize + 3 * HEAD + 64);
    if let Some(opening) = opening {
        bytes.extend_from_slice(&opening.encode());
    }
    source.skip(offset)?;
    while put_data(&mut source, &mut bytes, &mut packer)? {}
    let digest = source.finish()?;
    frame::put_end(&mut bytes, &digest);
    Ok((bytes.freeze(), digest))
}

/// Reads a large file block by block until its end, or until nobody takes the blocks any more.
fn read_blocks(work: &Work, item: u32, source: Source, offset: u64, blocks: &mpsc::Sender<Bytes>) {
    let mut source = signing(source);
    let mut packer = work.packing.packer();
    let mut skipped = source.skip(offset);
    while skipped.is_ok() && source.left() > 0 {
        match read_block(&mut source, &mut packer) {
            Ok(block) => {
                if blocks.blocking_send(block).is_err() {
                    return;
                }
            }
            Err(error) => skipped = Err(error),
        }
    }
    let end = skipped.and_then(|()| source.finish_signed()).map_or_else(
        |error| aborted_by(None, &error),
        |(digest, signature)| {
            work.hashed(item, digest);
            work.signed(item, digest, signature, false);
            let mut end = BytesMut::new();
            frame::put_end(&mut end, &digest);
            end.freeze()
        },
    );
    let _ = blocks.blocking_send(end);
}

/// A file that is worth it is signed while it is read: its next version then goes as a delta of which nothing need be told.
fn signing(source: Source) -> Source {
    match signing_grid(source.size()) {
        Some(grid) => source.signing(grid),
        None => source,
    }
}

fn read_block(source: &mut Source, packer: &mut Option<Packer>) -> Result<Bytes, SourceError> {
    let mut block = BytesMut::with_capacity(BLOCK_FRAMES * (HEAD + MAX_FRAME));
    while block.len() < BLOCK_FRAMES * (HEAD + MAX_FRAME) && put_data(source, &mut block, packer)? {}
    Ok(block.freeze())
}

/// Appends one data frame, as full as the file allows, or a compressed block; false at the end of the file.
fn put_data(
    source: &mut Source,
    bytes: &mut BytesMut,
    packer: &mut Option<Packer>,
) -> Result<bool, SourceError> {
    if let Some(packer) = packer {
        return packer.fill(source, bytes);
    }
    let start = bytes.len();
    let room = MAX_FRAME.min(usize::try_from(source.left()).unwrap_or(MAX_FRAME));
    bytes.resize(start + HEAD + room, 0);
    let filled = source.fill(&mut bytes[start + HEAD..])?;
    if filled == 0 {
        bytes.truncate(start);
        return Ok(false);
    }
    bytes.truncate(start + HEAD + filled);
    bytes[start..start + HEAD].copy_from_slice(&frame::data_head(filled));
    Ok(true)
}

pub(super) fn aborted_by(opening: Option<Opening>, error: &SourceError) -> Bytes {
    aborted(opening, matches!(error, SourceError::Changed), &error.to_string())
}

fn aborted(opening: Option<Opening>, changed: bool, text: &str) -> Bytes {
    let mut bytes = BytesMut::new();
    if let Some(opening) = opening {
        bytes.extend_from_slice(&opening.encode());
    }
    frame::put_abort(&mut bytes, changed, text);
    bytes.freeze()
}

/// Sends what is being read. Its last frame says that it is the last.
pub(crate) async fn send(
    work: &Work,
    item: u32,
    outgoing: Outgoing,
    writer: &mut ChannelWriter,
) -> Result<(), CarrierError> {
    match outgoing {
        Outgoing::Whole(bytes) => {
            let length = bytes.len() as u64;
            writer.send(bytes).await?;
            work.advanced(item, length);
        }
        Outgoing::Stream(first, mut rest) => {
            writer.send(first).await?;
            while let Some(block) = rest.recv().await {
                let length = block.len() as u64;
                writer.send(block).await?;
                work.advanced(item, length);
            }
        }
    }
    Ok(())
}

/// Receives one item's content into staging, whatever becomes of it: failures are noted in the work.
///
/// Only the end of the connection is an error. `again` is told if all of the content should be sent, once more and whole.
pub(crate) async fn receive(
    work: &Arc<Work>,
    item: u32,
    frames: FrameReader,
    first: Option<(Chunk, usize)>,
    reader: &mut ChannelReader,
    again: Option<mpsc::Sender<()>>,
) -> Result<(), SessionError> {
    let result = if work.size(item) <= SMALL {
        receive_whole(work, item, frames, first, reader).await
    } else {
        receive_stream(work, item, frames, first, reader, again).await
    };
    match result {
        Ok(staged) => work.staged(item, staged),
        Err(Broken::Failed(failure)) => work.failed(item, failure),
        Err(Broken::Carrier(CarrierError::Abandoned)) => {
            work.failed(item, Failure::Failed("the other side gave up sending it".into()));
        }
        Err(Broken::Carrier(error)) => return Err(error.into()),
    }
    Ok(())
}

/// Of a frame that only a receiver sends, or that a small file cannot have.
const MISPLACED: &str = "the other end sent a frame that has no place there";

/// Why a file did not arrive.
pub(super) enum Broken {
    Failed(Failure),
    Carrier(CarrierError),
}

impl From<CarrierError> for Broken {
    fn from(error: CarrierError) -> Broken {
        Broken::Carrier(error)
    }
}

impl Broken {
    pub(super) fn failed(text: impl ToString) -> Broken {
        Broken::Failed(Failure::Failed(text.to_string()))
    }
}

/// Takes a small file in and stages it in one go: straight from the packet that holds all of it, as most are.
async fn receive_whole(
    work: &Arc<Work>,
    item: u32,
    mut frames: FrameReader,
    mut first: Option<(Chunk, usize)>,
    reader: &mut ChannelReader,
) -> Result<Staged, Broken> {
    let (size, mut gathered) = (work.size(item) as usize, Vec::new());
    let (promised, whole) = 'all: loop {
        let (chunk, from) = next_chunk(&mut first, reader).await?;
        work.advanced(item, (chunk.len() - from) as u64);
        let (mut bytes, mut whole, mut end) = (&chunk[from..], None, None);
        while let Some(frame) = frames.frame(&mut bytes).map_err(Broken::failed)? {
            match work.primers.plain(frame).await.map_err(Broken::failed)? {
                Frame::Data(Cow::Borrowed(piece))
                    if piece.len() == size && whole.is_none() && gathered.is_empty() =>
                {
                    let until = chunk.len() - bytes.len();
                    whole = Some(until - size..until);
                }
                Frame::Data(piece) if whole.is_none() && gathered.len() + piece.len() <= SMALL as usize => {
                    gathered.reserve(size.saturating_sub(gathered.len()));
                    gathered.extend_from_slice(&piece)
                }
                Frame::Data(_) => return Err(Broken::failed("more content came than was promised")),
                Frame::End(digest) => {
                    end = Some(digest);
                    break;
                }
                Frame::Abort { changed, text } => return Err(aborted_there(changed, &text)),
                _ => return Err(Broken::failed(MISPLACED)),
            }
        }
        match (end, whole) {
            (Some(digest), whole) => break 'all (digest, whole.map(|range| (chunk, range))),
            (None, Some(range)) => gathered.extend_from_slice(&chunk[range]),
            (None, None) => {}
        }
    };
    let staging = work.clone();
    let stage = move || match whole {
        Some((chunk, range)) => staging.stage_whole(item, &chunk[range], promised),
        None => staging.stage_whole(item, &gathered, promised),
    };
    work.staging.run(stage).await.map_err(|_| Broken::failed("staging it failed"))?.map_err(Broken::Failed)
}

/// Hands a large file's packets to a thread that writes and hashes; their credit returns as they are written.
async fn receive_stream(
    work: &Arc<Work>,
    item: u32,
    frames: FrameReader,
    mut first: Option<(Chunk, usize)>,
    reader: &mut ChannelReader,
    again: Option<mpsc::Sender<()>>,
) -> Result<Staged, Broken> {
    let (packets, source) = mpsc::channel(64);
    let staging = {
        let work = work.clone();
        spawn_blocking(move || write_stream(&work, item, frames, source, again))
    };
    // The writer drops its end at the end mark, at an abort and at a failure: all three end this loop.
    loop {
        let next = tokio::select! {
            next = next_chunk(&mut first, reader) => next,
            () = packets.closed() => break,
        };
        let packet = match next {
            Ok(packet) => packet,
            Err(Broken::Carrier(CarrierError::Abandoned)) => break,
            Err(error) => return Err(error),
        };
        if packets.send(packet).await.is_err() {
            break;
        }
    }
    drop(packets);
    staging.await.map_err(|_| Broken::failed("staging it failed"))?
}

fn write_stream(
    work: &Work,
    item: u32,
    mut frames: FrameReader,
    mut packets: mpsc::Receiver<(Chunk, usize)>,
    mut again: Option<mpsc::Sender<()>>,
) -> Result<Staged, Broken> {
    let mut incoming: Incoming = work.incoming(item).map_err(Broken::Failed)?;
    let (mut old, mut counts) = (None, true);
    while let Some((chunk, from)) = packets.blocking_recv() {
        let mut bytes = &chunk[from..];
        if counts {
            work.advanced(item, bytes.len() as u64);
        }
        while let Some(frame) = frames.frame(&mut bytes).map_err(Broken::failed)? {
            match frame {
                Frame::Data(piece) => {
                    let piece = match piece {
                        Cow::Borrowed(part) => chunk.keep(part),
                        Cow::Owned(unpacked) => unpacked.into(),
                    };
                    incoming.receive(piece).map_err(Broken::failed)?
                }
                Frame::Copy { offset, length } if again.is_some() => {
                    work.copy(item, &mut old, (offset, length), &mut incoming).map_err(Broken::Failed)?
                }
                Frame::End(digest) => match again.take_if(|_| !incoming.is(&digest)) {
                    Some(again) => {
                        unchanged(old.as_ref()).map_err(Broken::Failed)?;
                        counts = false;
                        incoming.restart().map_err(Broken::failed)?;
                        let _ = again.blocking_send(());
                    }
                    None => return work.finish(incoming, digest).map_err(Broken::Failed),
                },
                Frame::Abort { changed, text } => return Err(aborted_there(changed, &text)),
                _ => return Err(Broken::failed(MISPLACED)),
            }
        }
    }
    Err(Broken::failed("the connection to the other side ended before the file did"))
}

pub(super) async fn next_chunk(
    first: &mut Option<(Chunk, usize)>,
    reader: &mut ChannelReader,
) -> Result<(Chunk, usize), Broken> {
    if let Some(first) = first.take() {
        return Ok(first);
    }
    match reader.next().await? {
        Some(chunk) => Ok((chunk, 0)),
        None => Err(Broken::Carrier(CarrierError::Abandoned)),
    }
}

fn aborted_there(changed: bool, text: &[u8]) -> Broken {
    let text = format!("the other side says: {}", crate::core::shown::Shown(text));
    Broken::Failed(if changed { Failure::Changed(text) } else { Failure::Failed(text) })
}
