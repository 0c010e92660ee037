//! Step 4 and 5 of the exchange, on System 2: every file on a channel of its own, opened in path order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use super::delta;
use super::error::SessionError;
use super::transfer;
use super::work::Work;
use crate::protocol::frame::{FrameReader, Opening};
use crate::protocol::message::Need;
use crate::ssh::{CarrierError, Connection};
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

/// Sends what System 1 needs, then fetches what this side needs; both overlap once every file to be sent has its channel.
pub(crate) async fn pump(
    connection: &Connection,
    work: &Arc<Work>,
    theirs: Vec<Need>,
    ours: Vec<Need>,
    uncertainty: i64,
) -> Result<(), SessionError> {
    let limit = in_flight(uncertainty);
    let gate = Gate { unopened: AtomicUsize::new(theirs.len()), open: Notify::new() };
    gate.check();
    let (large_out, large_in) = (Semaphore::new(LARGE_IN_FLIGHT), Semaphore::new(LARGE_IN_FLIGHT));
    let sending = stream::iter(theirs)
        .then(async |need| Ok((need, place(&large_out, work.source_size(need.item)).await)))
        .try_for_each_concurrent(limit, async |(need, _place)| push(connection, work, need, &gate).await);
    let fetching = async {
        gate.open.notified().await;
        stream::iter(ours)
            .then(async |need| Ok((need, place(&large_in, work.size(need.item)).await)))
            .try_for_each_concurrent(limit, async |(need, _place)| pull(connection, work, need).await)
            .await
    };
    tokio::try_join!(sending, fetching).map(|_| ())
}

/// Waits for a large file's place. The next in path order wait behind it, so that channels are opened in that order.
async fn place(places: &Semaphore, size: u64) -> Option<SemaphorePermit<'_>> {
    if transfer::is_large(size) { places.acquire().await.ok() } else { None }
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

async fn push(
    connection: &Connection,
    work: &Arc<Work>,
    need: Need,
    gate: &Gate,
) -> Result<(), SessionError> {
    let channel = connection.open().await;
    gate.opened();
    let mut channel = channel?;
    work.started(need.item);
    let mut opening = Opening { push: true, delta: false, item: need.item, offset: need.have };
    let sent = if work.is_delta(need.item) {
        let _permit = work.deltas.acquire().await;
        opening.delta = true;
        delta::send(work, need.item, need.have, Some(opening), Default::default(), &mut channel).await
    } else {
        let outgoing = transfer::read(work, need.item, need.have, Some(opening)).await;
        transfer::send(work, need.item, outgoing, &mut channel.writer).await
    };
    work.sent(need.item, sent.is_ok());
    match sent {
        // System 1 gave this file up and will say why.
        Ok(()) | Err(CarrierError::Abandoned) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn pull(connection: &Connection, work: &Arc<Work>, need: Need) -> Result<(), SessionError> {
    let mut channel = connection.open().await?;
    work.started(need.item);
    work.claim(need.item, need.have);
    let delta = work.is_delta(need.item);
    let _permit = if delta { work.deltas.acquire().await.ok() } else { None };
    let opening = Opening { push: false, delta, item: need.item, offset: need.have };
    match channel.writer.send(Bytes::copy_from_slice(&opening.encode())).await {
        Ok(()) | Err(CarrierError::Abandoned) => {}
        Err(error) => return Err(error.into()),
    }
    if delta {
        delta::receive(work, need.item, FrameReader::default(), None, &mut channel).await
    } else {
        transfer::receive(work, need.item, FrameReader::default(), None, &mut channel.reader).await
    }
}
