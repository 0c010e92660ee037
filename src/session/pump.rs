//! Step 4 and 5 of the exchange, on System 2: every file on a channel of its own, opened in path order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};

use super::delta;
use super::error::SessionError;
use super::transfer;
use super::work::Work;
use crate::protocol::frame::{FrameReader, How, Opening as Head};
use crate::protocol::message::Need;
use crate::replica::stage::RESUMABLE;
use crate::ssh::{CarrierError, Connection, Opening};
use bytes::Bytes;

/// How many files may be in flight in each direction: enough to fill a round trip with small files, but no
/// more, because every channel in flight costs the carrier time.
fn in_flight(delay: i64) -> usize {
    let round_trip_ms = usize::try_from(2 * delay / 1_000_000).unwrap_or(0);
    (round_trip_ms * 20).clamp(64, 1024)
}

/// How many large files may be in flight in each direction. Each holds a thread at the sender, two at the receiver, and some
/// blocks of content on both sides, and a few fill any link.
pub(crate) const LARGE_IN_FLIGHT: usize = 32;

/// Asks for the first channels of what this side needs before anybody has agreed to anything, where no file goes the
/// other way before: they are open when they are needed, a round trip earlier.
pub(crate) fn ahead(connection: &Connection, work: &Work, delay: i64) -> Result<Ahead, SessionError> {
    let items = 0..work.plan.items.len() as u32;
    let first = if items.into_iter().any(|item| work.sends(item)) { 0 } else { in_flight(delay) };
    let mut large = 0;
    let ask = |&item: &usize| {
        let need = Need { item: item as u32, have: 0 };
        let size = work.size(need.item);
        large += usize::from(transfer::is_large(size));
        // What an earlier run left of a file that is worth resuming is not known yet. And whoever is told sends at once: what
        // nobody reads, because a large file waits for its place first, would take the credit of all others.
        let heard = size < RESUMABLE && large <= LARGE_IN_FLIGHT;
        let head = pulled(work, &need).filter(|_| heard);
        let asked = Asked::new(connection, head)?;
        Ok((need.item, Asked { opening: asked.opening.unattended(), ..asked }))
    };
    Ok(work.arrangement().needs.iter().take(first).map(ask).collect::<Result<_, CarrierError>>()?)
}

/// Channels on their way to being open, for the items that this side needs first.
pub(crate) type Ahead = VecDeque<(u32, Asked)>;

/// A channel on its way to being open.
pub(crate) struct Asked {
    opening: Opening,
    /// Whether the server was told along with the request what the channel is for.
    told: bool,
}

impl Asked {
    fn new(connection: &Connection, head: Option<Head>) -> Result<Asked, CarrierError> {
        let opening = match head {
            // What is told along with a request is all that is said on that channel.
            Some(head) => connection.ask_to_listen(&head.encode())?,
            None => connection.ask(&[])?,
        };
        Ok(Asked { opening, told: head.is_some() })
    }
}

/// What is said along with the request for the channel of a file that this side needs. One that goes as a delta waits for its
/// turn first.
fn pulled(work: &Work, need: &Need) -> Option<Head> {
    let how = work.how_received(need.item);
    let head = Head { push: false, how, item: need.item, offset: need.have };
    (how == How::Whole).then_some(head)
}

/// Of one that this side sends: the opening comes with the content.
fn pushed(_: &Work, _: &Need) -> Option<Head> {
    None
}

/// Sends what System 1 needs, then fetches what this side needs; both overlap once every file to be sent has its channel.
pub(crate) async fn pump(
    connection: &Connection,
    work: &Arc<Work>,
    theirs: Vec<Need>,
    ours: Vec<Need>,
    ahead: Ahead,
    delay: i64,
) -> Result<(), SessionError> {
    let lane = |ahead, large: fn(&Work, u32) -> bool, head| Lane {
        connection: connection.clone(),
        work: work.clone(),
        limit: in_flight(delay),
        ahead,
        head,
        large,
        places: Arc::new(Semaphore::new(LARGE_IN_FLIGHT)),
    };
    let gate = Arc::new(Gate { unopened: AtomicUsize::new(theirs.len()), open: Notify::new() });
    gate.check();
    let opened = gate.clone();
    let sending = lane(Ahead::new(), |work, item| transfer::is_large(work.source_size(item)), pushed)
        .each(theirs, move |asked, work, need| push(asked, work, need, opened.clone()));
    let fetching = async {
        gate.open.notified().await;
        lane(ahead, |work, item| transfer::is_large(work.size(item)), pulled).each(ours, pull).await
    };
    tokio::try_join!(sending, fetching).map(|_| ())
}

/// The files of one direction.
struct Lane {
    connection: Connection,
    work: Arc<Work>,
    /// How many may be in flight.
    limit: usize,
    /// Channels that were asked for already.
    ahead: Ahead,
    /// What is said along with the request for a channel.
    head: fn(&Work, &Need) -> Option<Head>,
    /// Whether an item's file is large.
    large: fn(&Work, u32) -> bool,
    /// Places for large ones.
    places: Arc<Semaphore>,
}

impl Lane {
    /// Moves every file, as many at once as may be in flight. Whoever has moved one goes on with the next itself: small files
    /// come so fast that to be woken for each, and to start a task for each, would cost as much as their channels.
    async fn each<F>(
        self,
        needs: Vec<Need>,
        carry: impl Fn(Asked, Arc<Work>, Need) -> F + Clone + Send + 'static,
    ) -> Result<(), SessionError>
    where
        F: Future<Output = Result<(), SessionError>> + Send + 'static,
    {
        let (at_once, work) = (self.limit.min(needs.len()), self.work.clone());
        let queue = Arc::new(Mutex::new((self, needs.into_iter())));
        let mut carriers = JoinSet::new();
        for _ in 0..at_once {
            let (queue, work, carry) = (queue.clone(), work.clone(), carry.clone());
            carriers.spawn(async move {
                while let Some((asked, need, place)) = next(&queue).await? {
                    carry(asked, work.clone(), need).await?;
                    drop(place);
                }
                Ok(())
            });
        }
        while let Some(carrier) = carriers.join_next().await {
            ended(carrier)?;
        }
        Ok(())
    }
}

/// The files of a lane that nobody carries yet, in path order.
type Queue = Mutex<(Lane, std::vec::IntoIter<Need>)>;

/// The next file of the lane, on its channel, and its place if it is large. Channels are asked for in path order: the next in
/// that order wait behind a large file that waits for its place.
async fn next(queue: &Queue) -> Result<Option<(Asked, Need, Option<OwnedSemaphorePermit>)>, SessionError> {
    let mut queue = queue.lock().await;
    let (lane, needs) = &mut *queue;
    let Some(need) = needs.next() else { return Ok(None) };
    let place = match (lane.large)(&lane.work, need.item) {
        true => lane.places.clone().acquire_owned().await.ok(),
        false => None,
    };
    let asked = match lane.ahead.pop_front() {
        Some((item, asked)) if item == need.item => asked,
        _ => Asked::new(&lane.connection, (lane.head)(&lane.work, &need))?,
    };
    Ok(Some((asked, need, place)))
}

/// What a carrier ended with.
fn ended(carrier: Result<Result<(), SessionError>, JoinError>) -> Result<(), SessionError> {
    carrier.unwrap_or_else(|_| {
        Err(SessionError::Connection("the transfer of a file failed; please report this".into()))
    })
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

async fn push(asked: Asked, work: Arc<Work>, need: Need, gate: Arc<Gate>) -> Result<(), SessionError> {
    let work = &work;
    let channel = asked.opening.wait().await;
    gate.opened();
    let mut channel = channel?;
    work.started(need.item);
    let opening = Head { push: true, how: work.how_sent(need.item), item: need.item, offset: need.have };
    let sent = if opening.how != How::Whole {
        let _permit = work.deltas.acquire().await;
        delta::send(work, opening, true, Default::default(), &mut channel).await
    } else {
        let outgoing = transfer::read(work, need.item, need.have, Some(opening)).await;
        // The last frame says that it is the last: no end mark of the channel is needed as well.
        transfer::send(work, need.item, outgoing, &mut channel.writer).await
    };
    work.sent(need.item, sent.is_ok());
    match sent {
        // System 1 gave this file up and will say why.
        Ok(()) | Err(CarrierError::Abandoned) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn pull(asked: Asked, work: Arc<Work>, need: Need) -> Result<(), SessionError> {
    let work = &work;
    let mut channel = asked.opening.wait().await?;
    work.started(need.item);
    work.claim(need.item, need.have);
    let how = work.how_received(need.item);
    let _permit = if how != How::Whole { work.deltas.acquire().await.ok() } else { None };
    let opening = Head { push: false, how, item: need.item, offset: need.have };
    if !asked.told {
        match channel.writer.send(Bytes::copy_from_slice(&opening.encode())).await {
            Ok(()) | Err(CarrierError::Abandoned) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if how != How::Whole {
        delta::receive(work, opening, Default::default(), &mut channel).await
    } else {
        transfer::receive(work, need.item, FrameReader::default(), None, &mut channel.reader, None).await
    }
}
