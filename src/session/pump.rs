//! Step 4 and 5 of the exchange, on System 2: every file on a channel of its own, opened in path order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, Semaphore};
use tokio::task::{JoinError, JoinSet};

use super::delta;
use super::error::SessionError;
use super::transfer;
use super::work::Work;
use crate::protocol::frame::{FrameReader, How, Opening as Head};
use crate::protocol::message::Need;
use crate::ssh::{CarrierError, Connection, Opening};
use bytes::Bytes;

/// How many files may be in flight in each direction: enough to fill a round trip with small files, but no
/// more, because every channel in flight costs the carrier time.
fn in_flight(uncertainty: i64) -> usize {
    let round_trip_ms = usize::try_from(2 * uncertainty / 1_000_000).unwrap_or(0);
    (round_trip_ms * 20).clamp(64, 1024)
}

/// How many large files may be in flight in each direction. Each holds a thread and some blocks of content on both
/// sides, and a few fill any link.
pub(crate) const LARGE_IN_FLIGHT: usize = 32;

/// Asks for the first channels of what this side needs before anybody has agreed to anything, where no file goes the
/// other way before: they are open when they are needed, a round trip earlier.
pub(crate) fn ahead(connection: &Connection, work: &Work, uncertainty: i64) -> Result<Ahead, SessionError> {
    let items = 0..work.plan.items.len() as u32;
    let first = if items.into_iter().any(|item| work.sends(item)) { 0 } else { in_flight(uncertainty) };
    let wanted = work.arrangement().needs.len().min(first);
    Ok((0..wanted).map(|_| Ok(connection.ask()?.unattended())).collect::<Result<_, CarrierError>>()?)
}

/// Channels on their way to being open, for the files that this side needs.
pub(crate) type Ahead = VecDeque<Opening>;

/// Sends what System 1 needs, then fetches what this side needs; both overlap once every file to be sent has its channel.
pub(crate) async fn pump(
    connection: &Connection,
    work: &Arc<Work>,
    theirs: Vec<Need>,
    ours: Vec<Need>,
    ahead: Ahead,
    uncertainty: i64,
) -> Result<(), SessionError> {
    let lane = |ahead| Lane {
        connection,
        work,
        ahead,
        limit: in_flight(uncertainty),
        large: Arc::new(Semaphore::new(LARGE_IN_FLIGHT)),
    };
    let gate = Arc::new(Gate { unopened: AtomicUsize::new(theirs.len()), open: Notify::new() });
    gate.check();
    let sending = lane(Ahead::new()).each(
        theirs,
        |need| work.source_size(need.item),
        |opening, work, need| push(opening, work, need, gate.clone()),
    );
    let fetching = async {
        gate.open.notified().await;
        lane(ahead).each(ours, |need| work.size(need.item), pull).await
    };
    tokio::try_join!(sending, fetching).map(|_| ())
}

/// The files of one direction.
struct Lane<'a> {
    connection: &'a Connection,
    work: &'a Arc<Work>,
    /// Channels that were asked for already.
    ahead: Ahead,
    /// How many may be in flight.
    limit: usize,
    /// Places for large ones.
    large: Arc<Semaphore>,
}

impl Lane<'_> {
    /// Moves every file in a task of its own. Channels are asked for in path order: the next in that order wait
    /// behind a large file that waits for its place.
    async fn each<F>(
        mut self,
        needs: Vec<Need>,
        size: impl Fn(&Need) -> u64,
        carry: impl Fn(Opening, Arc<Work>, Need) -> F,
    ) -> Result<(), SessionError>
    where
        F: Future<Output = Result<(), SessionError>> + Send + 'static,
    {
        let mut files = JoinSet::new();
        for need in needs {
            while files.len() >= self.limit {
                ended(files.join_next().await)?;
            }
            let place = if transfer::is_large(size(&need)) {
                self.large.clone().acquire_owned().await.ok()
            } else {
                None
            };
            let opening = match self.ahead.pop_front() {
                Some(opening) => opening,
                None => self.connection.ask()?,
            };
            let carried = carry(opening, self.work.clone(), need);
            files.spawn(async move {
                let _place = place;
                carried.await
            });
        }
        while !files.is_empty() {
            ended(files.join_next().await)?;
        }
        Ok(())
    }
}

/// What a file's task ended with.
fn ended(file: Option<Result<Result<(), SessionError>, JoinError>>) -> Result<(), SessionError> {
    match file {
        Some(Ok(result)) => result,
        Some(Err(_)) => {
            Err(SessionError::Connection("the transfer of a file failed; please report this".into()))
        }
        None => Ok(()),
    }
}

/// Opens once no file that is to be sent waits for its channel any more.
struct Gate {
    unopened: AtomicUsize,
    open: Notify,
}

impl Gate {
    fn opened(&self) {
        self.unopened.fetch_sub(1, Ordering::AcqRel);
        self.check();
    }

    fn check(&self) {
        if self.unopened.load(Ordering::Acquire) == 0 {
            self.open.notify_one();
        }
    }
}

async fn push(opening: Opening, work: Arc<Work>, need: Need, gate: Arc<Gate>) -> Result<(), SessionError> {
    let work = &work;
    let channel = opening.wait().await;
    gate.opened();
    let mut channel = channel?;
    work.started(need.item);
    let opening = Head { push: true, how: work.how_sent(need.item), item: need.item, offset: need.have };
    let sent = if opening.how != How::Whole {
        let _permit = work.deltas.acquire().await;
        delta::send(work, opening, true, Default::default(), &mut channel).await
    } else {
        let outgoing = transfer::read(work, need.item, need.have, Some(opening)).await;
        let sent = transfer::send(work, need.item, outgoing, &mut channel.writer).await;
        // Closed before its end mark, the channel would count as given up.
        sent.and(channel.writer.finish().await)
    };
    work.sent(need.item, sent.is_ok());
    match sent {
        // System 1 gave this file up and will say why.
        Ok(()) | Err(CarrierError::Abandoned) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn pull(opening: Opening, work: Arc<Work>, need: Need) -> Result<(), SessionError> {
    let work = &work;
    let mut channel = opening.wait().await?;
    work.started(need.item);
    work.claim(need.item, need.have);
    let how = work.how_received(need.item);
    let _permit = if how != How::Whole { work.deltas.acquire().await.ok() } else { None };
    let opening = Head { push: false, how, item: need.item, offset: need.have };
    match channel.writer.send(Bytes::copy_from_slice(&opening.encode())).await {
        Ok(()) | Err(CarrierError::Abandoned) => {}
        Err(error) => return Err(error.into()),
    }
    if how != How::Whole {
        delta::receive(work, opening, Default::default(), &mut channel).await
    } else {
        transfer::receive(work, need.item, FrameReader::default(), None, &mut channel.reader, None).await
    }
}
