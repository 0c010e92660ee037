//! What waits to be written to the link channel.

use std::collections::VecDeque;
use std::sync::Mutex;

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use super::flow::MESSAGE_WINDOW;
use super::frame::{Frame, HEADER, MAX_BODY};
use super::ledger::Ledger;
use super::port::Port;
use super::wait::locked;

/// See the module. Its writer waits for `wake`.
#[derive(Default)]
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    pub(super) wake: Notify,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Frame>,
    /// The rest of the control message under way.
    message: Bytes,
    /// Bytes of control messages taken and not yet acknowledged.
    taken: u32,
    /// Channels to be closed.
    closing: Vec<Port>,
    /// After what is in here, the connection ends.
    farewell: bool,
}

impl Outbox {
    /// Queues a frame. A control message is one part here, whatever its size; its credit has been taken.
    pub(super) fn post(&self, frame: Frame) {
        locked(&self.queue).frames.push_back(frame);
        self.wake.notify_one();
    }

    /// Leaves a channel to be closed by the link's writer.
    pub(super) fn post_close(&self, port: Port) {
        locked(&self.queue).closing.push(port);
        self.wake.notify_one();
    }

    /// Notes bytes of control messages as taken; they are acknowledged a quarter of their window at a time.
    pub(super) fn took(&self, cost: u32) {
        let due = {
            let mut queue = locked(&self.queue);
            queue.taken += cost;
            queue.taken >= MESSAGE_WINDOW / 4
        };
        if due {
            self.wake.notify_one();
        }
    }

    /// Ends the connection after all that waits to be written.
    pub(super) fn say_farewell(&self) {
        {
            let mut queue = locked(&self.queue);
            if !queue.farewell {
                queue.farewell = true;
                queue.frames.push_back(Frame::Bye);
            }
        }
        self.wake.notify_one();
    }

    /// Instead of the hello, says why this client is not served; then ends the connection.
    pub(super) fn refuse(&self, why: &str) {
        locked(&self.queue).frames = [Frame::Refusal(why.into())].into();
        self.say_farewell();
    }

    /// Whether this end is about to end the connection.
    pub(super) fn farewell(&self) -> bool {
        locked(&self.queue).farewell
    }

    /// The next bytes for the link channel, at most a packet; acknowledgements first.
    pub(super) fn next_packet(&self, ledger: &Ledger) -> Option<Bytes> {
        let mut out = BytesMut::new();
        let consumed = ledger.take_due();
        if !consumed.is_empty() {
            Frame::Consumed(consumed).put(&mut out);
        }
        let mut queue = locked(&self.queue);
        if queue.taken >= MESSAGE_WINDOW / 4 {
            Frame::Taken(std::mem::take(&mut queue.taken)).put(&mut out);
        }
        while out.len() < MAX_BODY / 2 {
            if !queue.message.is_empty() {
                let size = (MAX_BODY - HEADER - out.len()).min(queue.message.len());
                let part = queue.message.split_to(size);
                Frame::Part(part, queue.message.is_empty()).put(&mut out);
                continue;
            }
            match queue.frames.pop_front() {
                Some(Frame::Part(message, _)) if !message.is_empty() => queue.message = message,
                Some(frame) => frame.put(&mut out),
                None => break,
            }
        }
        (!out.is_empty()).then(|| out.freeze())
    }

    /// Channels to close, and whether the connection is to end once they are.
    pub(super) fn take_closing(&self) -> (Vec<Port>, bool) {
        let mut queue = locked(&self.queue);
        let written = queue.frames.is_empty() && queue.message.is_empty();
        (std::mem::take(&mut queue.closing), queue.farewell && written)
    }
}
