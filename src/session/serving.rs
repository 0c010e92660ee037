//! The channels of files as System 1 serves them, whichever way each travels.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use tokio::task::{JoinError, JoinSet};

use super::delta;
use super::error::SessionError;
use super::primer;
use super::server::Session;
use super::transfer::{Broken, Outgoing, is_large, next_chunk, read, receive, send};
use super::work::Work;
use crate::protocol::frame::{FrameReader, How, Opening};
use crate::protocol::message::Failure;
use crate::ssh::{Channel, ChannelReader, Chunk};

/// Files up to this size are served by the task that accepts their channels, bytes.
const BRIEF: u64 = 32 * 1024;

impl Session<'_> {
    /// Serves file channels until the client says that every transfer has ended and everything needed is here.
    pub(super) async fn transfer(&self, work: &Arc<Work>) -> Result<(), SessionError> {
        let (control, mut files) = (self.control, JoinSet::new());
        // Only files under way are work: with none, this side waits for those that the client is to bring.
        let _waiting = control.waiting();
        let mut silence = std::pin::pin!(control.silence());
        // The client's word and the files travel on different channels, so the word may be first.
        let mut word = std::pin::pin!(control.receive());
        let mut ended = false;
        while !ended || work.is_waiting() || !files.is_empty() {
            tokio::select! {
                channel = self.connection.accept() => match channel {
                    Some(channel) => {
                        let (work, working) = (work.clone(), control.working());
                        let mut file = Box::pin(async move {
                            let _working = working;
                            serve_file(work, channel).await
                        });
                        // Most are small and done at once; a task for each would cost as much as half of that.
                        match poll_fn(|cx| Poll::Ready(file.as_mut().poll(cx))).await {
                            Poll::Ready(travelled) => self.count(travelled),
                            Poll::Pending => drop(files.spawn(file)),
                        }
                        // Nor is anybody woken for each that ends, as long as more may come.
                        while let Some(file) = files.try_join_next() {
                            self.count(served(file)?);
                        }
                    }
                    None => return Err(SessionError::Connection("the client went away during the transfers".into())),
                },
                silent = &mut silence => return Err(silent),
                message = &mut word, if !ended => {
                    ended = primer::take(work, message?)?;
                    word.set(control.receive());
                }
                Some(file) = files.join_next(), if ended => self.count(served(file)?),
            }
        }
        Ok(())
    }

    /// Counts a file that travelled whole.
    fn count(&self, travelled: Option<u64>) {
        if let Some(bytes) = travelled {
            self.note(|served| {
                served.files += 1;
                served.bytes += bytes;
            });
        }
    }
}

/// What came of a file that was served in a task of its own.
fn served(file: Result<Option<u64>, JoinError>) -> Result<Option<u64>, SessionError> {
    file.map_err(|_| SessionError::Connection("the transfer of a file failed; please report this".into()))
}

/// Serves one channel that the client opened: sends what it asks for, or receives what it brings.
///
/// What is not in the plan, or was brought already, is not taken: the channel is dropped.
/// Returns how many bytes of content travelled, if the file did so whole.
async fn serve_file(work: Arc<Work>, mut channel: Channel) -> Option<u64> {
    let mut frames = FrameReader::default();
    let (opening, first) = opening(&mut frames, &mut channel.reader).await.ok()?;
    let Opening { item, offset, how, .. } = opening;
    let size = if opening.push { work.size(item) } else { work.source_size(item) };
    if size > BRIEF {
        // Whoever accepts channels does only so much for one of them itself: what is not done at once goes to another task.
        tokio::task::yield_now().await;
    }
    // A client that keeps to its own limit never waits here; one that does not takes no more of this system's threads.
    let _place = if is_large(size) { work.large.acquire().await.ok() } else { None };
    let permit = if how != How::Whole { work.deltas.acquire().await.ok() } else { None };
    if !opening.push {
        let travels = size.saturating_sub(offset);
        let sent = if permit.is_some() {
            delta::send(&work, opening, false, (frames, first), &mut channel).await.is_ok()
        } else {
            let outgoing = read(&work, item, offset, None).await;
            let whole = matches!(outgoing, Outgoing::Whole(_));
            let sent = send(&work, item, outgoing, &mut channel.writer).await.is_ok();
            if whole && sent {
                channel.settle();
                return Some(travels);
            }
            sent
        };
        drop(permit);
        // The client closes first; until then the channel is its own.
        while let Ok(Some(_)) = channel.reader.next().await {}
        return sent.then_some(travels);
    }
    if work.claim(item, offset) {
        let received = if permit.is_some() {
            delta::receive(&work, opening, (frames, first), &mut channel).await
        } else {
            receive(&work, item, frames, first, &mut channel.reader, None).await
        };
        if received.is_err() {
            work.failed(item, Failure::Failed("the connection was lost".into()));
        }
        if !work.has_arrived(item) {
            return None;
        }
        channel.settle();
        return Some(size.saturating_sub(offset));
    }
    None
}

/// The opening, and what came behind it in the same packet.
async fn opening(
    frames: &mut FrameReader,
    reader: &mut ChannelReader,
) -> Result<(Opening, Option<(Chunk, usize)>), Broken> {
    loop {
        let (chunk, _) = next_chunk(&mut None, reader).await?;
        let mut rest = &chunk[..];
        if let Some(opening) = frames.opening(&mut rest).map_err(Broken::failed)? {
            let from = chunk.len() - rest.len();
            return Ok((opening, Some((chunk, from))));
        }
    }
}
