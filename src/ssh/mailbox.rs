//! What came in on the link channel and waits for the sync: control messages, and the two marks that end them.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};

use super::error::CarrierError;
use super::flow::{MESSAGE_WINDOW, charge};
use super::frame::{Frame, Frames, MAX_MESSAGE};
use super::wait::locked;

/// One piece of mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mail {
    /// A control message.
    Message(Bytes),
    /// The rest comes on the successor.
    Moved,
    /// The peer is done.
    Bye,
}

/// See the module. Bounded by the credit for control messages, which it enforces.
#[derive(Default)]
pub(super) struct Mailbox(Mutex<Inside>);

#[derive(Default)]
struct Inside {
    queue: VecDeque<Mail>,
    /// Bytes in the queue, as charged.
    held: u32,
    /// The message that is coming in.
    partial: BytesMut,
    frames: Frames,
    moved: bool,
    bye: bool,
    waker: Option<Waker>,
}

impl Mailbox {
    /// Takes in bytes of the link channel.
    pub(super) fn feed(&self, data: &[u8]) {
        locked(&self.0).frames.feed(data);
    }

    /// The next whole frame of what was fed.
    pub(super) fn next_frame(&self) -> Result<Option<Frame>, CarrierError> {
        locked(&self.0).frames.next()
    }

    /// Takes in a piece of a control message; its size and the credit are checked before it is kept.
    pub(super) fn part(&self, part: Bytes, last: bool) -> Result<(), CarrierError> {
        let message = {
            let mut inside = locked(&self.0);
            if inside.partial.len() + part.len() > MAX_MESSAGE {
                return Err(CarrierError::Protocol("an oversized control message"));
            }
            let whole = last && inside.partial.is_empty();
            if !whole {
                inside.partial.extend_from_slice(&part);
            }
            let message = match (whole, last) {
                (true, _) => part,
                (_, true) => std::mem::take(&mut inside.partial).freeze(),
                (_, false) => return Ok(()),
            };
            inside.held = inside.held.saturating_add(charge(message.len()));
            if inside.held > MESSAGE_WINDOW {
                return Err(CarrierError::Protocol("more control messages than their credit"));
            }
            message
        };
        self.deliver(Mail::Message(message))
    }

    /// Each mark comes once and no message after it, so that a flood of marks cannot grow the queue.
    pub(super) fn deliver(&self, mail: Mail) -> Result<(), CarrierError> {
        {
            let mut inside = locked(&self.0);
            if inside.bye || (inside.moved && mail != Mail::Bye) {
                return Err(CarrierError::Protocol("a message after the last one"));
            }
            inside.moved |= mail == Mail::Moved;
            inside.bye |= mail == Mail::Bye;
            inside.queue.push_back(mail);
        }
        self.ring();
        Ok(())
    }

    /// Wakes the reader.
    pub(super) fn ring(&self) {
        let waker = locked(&self.0).waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The next mail with what it counts, or the end once there is none.
    pub(super) fn poll(
        &self,
        cx: &Context<'_>,
        end: impl FnOnce() -> Option<CarrierError>,
    ) -> Poll<Result<(Mail, u32), CarrierError>> {
        let mut inside = locked(&self.0);
        let Some(mail) = inside.queue.pop_front() else {
            // Under the lock: whoever sets the end rings afterwards.
            if let Some(cause) = end() {
                return Poll::Ready(Err(cause));
            }
            inside.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let cost = match &mail {
            Mail::Message(message) => charge(message.len()),
            Mail::Moved | Mail::Bye => 0,
        };
        inside.held = inside.held.saturating_sub(cost);
        Poll::Ready(Ok((mail, cost)))
    }

    /// Whether the peer has said farewell.
    pub(super) fn bye(&self) -> bool {
        locked(&self.0).bye
    }

    /// Whether the peer's control messages have moved on to the successor.
    pub(super) fn moved(&self) -> bool {
        locked(&self.0).moved
    }

    /// Whether they have, and all that came before has been read.
    pub(super) fn drained(&self) -> bool {
        let inside = locked(&self.0);
        inside.moved && inside.queue.iter().all(|mail| *mail == Mail::Bye)
    }
}
