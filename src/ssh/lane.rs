//! One channel's accounts: what came in and waits to be consumed, what went out and waits to be acknowledged.
//!
//! A lane never blocks the session: arrivals are put into its inbox at once, and the peer's credit bounds the inbox.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::error::CarrierError;
use super::link::Link;
use super::pace::Pace;
use super::wait::locked;

/// One channel, shared by its two halves and its link.
pub(super) struct Lane {
    /// This end's SSH number of the channel.
    pub(super) number: u32,
    /// The number both ends know the channel by, which the client gave when it asked for the channel. At the client 0 until
    /// it is known which request the open channel is for.
    id: AtomicU32,
    pub(super) link: Arc<Link>,
    /// How fast this end may send, where that is limited.
    pub(super) pace: Option<Arc<Pace>>,
    /// What may still be sent on this channel.
    pub(super) credit: Semaphore,
    /// Sent and not acknowledged.
    outstanding: Mutex<Outstanding>,
    inbox: Mutex<Inbox>,
    /// Consumed and not yet acknowledged.
    consumed: AtomicU32,
    /// Whether the lane already waits in the link's list of lanes to acknowledge.
    pub(super) listed: AtomicBool,
    /// Whether this end has said all that it may: its end mark was sent, or none is needed.
    pub(super) finished: AtomicBool,
    /// Whether this end has sent all that it is going to, and wants nothing more.
    pub(super) settled_here: AtomicBool,
}

#[derive(Default)]
struct Outstanding {
    bytes: u32,
    /// The peer has closed the channel: nothing is owed any more, nor may be.
    over: bool,
}

#[derive(Default)]
struct Inbox {
    queue: VecDeque<(Bytes, u32)>,
    /// Received and not yet acknowledged: what the peer's credit for this channel holds at most.
    held: u32,
    eof: bool,
    end: Option<CarrierError>,
    /// Nobody will read any more.
    deserted: bool,
    /// The client has closed the channel: the server takes all its credit back, so nothing is acknowledged any more.
    released: bool,
    waker: Option<Waker>,
}

impl Lane {
    /// `number`: this end's; `id`: both ends', 0 while it is not known.
    pub(super) fn new(number: u32, id: u32, link: Arc<Link>) -> Arc<Self> {
        let window = link.peer().channel;
        let pace = link.owner().and_then(|owner| owner.pace.get().cloned());
        Arc::new(Self {
            number,
            id: AtomicU32::new(id),
            link,
            pace,
            credit: Semaphore::new(window as usize),
            outstanding: Mutex::default(),
            inbox: Mutex::default(),
            consumed: AtomicU32::new(0),
            listed: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            settled_here: AtomicBool::new(false),
        })
    }

    /// The number both ends know the channel by; 0 while this one does not.
    pub(super) fn id(&self) -> u32 {
        self.id.load(Ordering::Relaxed)
    }

    /// From now on the number both ends know the channel by is known.
    pub(super) fn call(&self, id: u32) {
        self.id.store(id, Ordering::Relaxed);
    }

    /// Books bytes whose credit has been taken as sent; `false` if the peer has closed the channel.
    pub(super) fn book(&self, bytes: u32) -> bool {
        let mut outstanding = locked(&self.outstanding);
        if !outstanding.over {
            outstanding.bytes += bytes;
        }
        !outstanding.over
    }

    /// The peer has closed the channel: all that was sent on it is no longer under way.
    pub(super) fn write_off(&self) {
        locked(&self.outstanding).over = true;
        self.settle(u32::MAX);
    }

    /// The peer acknowledged `bytes`: more than was sent is a lie.
    pub(super) fn acknowledged(&self, bytes: u32) -> Result<(), CarrierError> {
        match self.settle(bytes) == bytes {
            true => Ok(()),
            false => Err(CarrierError::Protocol("more was acknowledged than sent")),
        }
    }

    /// Gives credit back for up to `bytes` that were sent, and says for how many.
    pub(super) fn settle(&self, bytes: u32) -> u32 {
        let settled = {
            let mut outstanding = locked(&self.outstanding);
            let settled = bytes.min(outstanding.bytes);
            outstanding.bytes -= settled;
            settled
        };
        self.credit.add_permits(settled as usize);
        self.link.credit.add_permits(settled as usize);
        settled
    }

    /// Whether all that was sent is acknowledged.
    pub(super) fn settled(&self) -> bool {
        locked(&self.outstanding).bytes == 0
    }

    /// Takes in the data of a packet that counts `cost`.
    pub(super) fn arrive(self: &Arc<Self>, data: &[u8], cost: u32) -> Result<(), CarrierError> {
        self.link.hear();
        let (waker, unread) = {
            let mut inbox = locked(&self.inbox);
            if inbox.released {
                return Ok(());
            }
            if inbox.eof {
                return Err(CarrierError::Protocol("data after the end of a channel"));
            }
            inbox.held = inbox.held.saturating_add(cost);
            if inbox.held > self.link.ledger.windows().channel {
                return Err(CarrierError::Protocol("more data than the channel's credit"));
            }
            self.link.ledger.hold(cost)?;
            let unread = inbox.deserted || data.is_empty();
            if !unread {
                inbox.queue.push_back((Bytes::copy_from_slice(data), cost));
            }
            (inbox.waker.take(), unread)
        };
        if unread {
            self.consume(cost);
        }
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// The peer's regular end.
    pub(super) fn arrive_eof(&self) {
        let waker = {
            let mut inbox = locked(&self.inbox);
            inbox.eof = true;
            inbox.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Nothing more can be sent or received, for this reason; what already arrived can still be read.
    pub(super) fn end(&self, cause: CarrierError) {
        let waker = {
            let mut inbox = locked(&self.inbox);
            inbox.end.get_or_insert(cause);
            inbox.waker.take()
        };
        // After the cause is there to be found.
        self.credit.close();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Why the lane ended, if it did.
    pub(super) fn ended(&self) -> Option<CarrierError> {
        locked(&self.inbox).end.clone()
    }

    /// Whether the peer's end mark came.
    pub(super) fn eof_came(&self) -> bool {
        locked(&self.inbox).eof
    }

    /// The next packet and what it counts; `None` after the peer's end mark. What arrived before a loss can still be read.
    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Result<Option<(Bytes, u32)>, CarrierError>> {
        let mut inbox = locked(&self.inbox);
        if let Some(packet) = inbox.queue.pop_front() {
            return Poll::Ready(Ok(Some(packet)));
        }
        if inbox.eof {
            return Poll::Ready(Ok(None));
        }
        if let Some(cause) = &inbox.end {
            return Poll::Ready(Err(cause.clone()));
        }
        inbox.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Marks bytes as consumed; the link acknowledges when enough came together.
    pub(super) fn consume(self: &Arc<Self>, bytes: u32) {
        let so_far = self.consumed.fetch_add(bytes, Ordering::SeqCst) + bytes;
        self.link.note_consumed(self, bytes, so_far);
    }

    /// Takes what was consumed since the last time: all of it, and how much of that is to be acknowledged.
    pub(super) fn take_consumed(&self) -> (u32, u32) {
        self.listed.store(false, Ordering::SeqCst);
        let bytes = self.consumed.swap(0, Ordering::SeqCst);
        let mut inbox = locked(&self.inbox);
        if inbox.released {
            return (bytes, 0);
        }
        inbox.held = inbox.held.saturating_sub(bytes);
        self.link.ledger.let_go(bytes);
        (bytes, bytes)
    }

    /// The client closes the channel: what it still holds no longer counts.
    pub(super) fn release(&self) {
        let mut inbox = locked(&self.inbox);
        if !std::mem::replace(&mut inbox.released, true) {
            self.link.ledger.let_go(std::mem::take(&mut inbox.held));
            inbox.queue.clear();
        }
    }

    /// Nobody will read any more: what is queued counts as consumed, and so does all that still comes.
    pub(super) fn desert(self: &Arc<Self>) {
        let queue = {
            let mut inbox = locked(&self.inbox);
            inbox.deserted = true;
            std::mem::take(&mut inbox.queue)
        };
        let cost: u32 = queue.iter().map(|(_, cost)| cost).sum();
        if cost > 0 {
            self.consume(cost);
        }
    }
}
