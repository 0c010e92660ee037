//! One SSH connection as its sync sees it: the lanes of its channels, the credits of both directions, and the link
//! channel's outgoing and incoming side. Holds no russh handle, so that russh's session may hold it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use tokio::sync::{Notify, Semaphore};

use super::connection::Inner;
use super::error::CarrierError;
use super::flow::{Flow, Windows, charge};
use super::frame::{Frame, Frames, HEADER, MAX_BODY, MAX_MESSAGE};
use super::lane::Lane;
use super::port::Port;
use super::socket::Line;

/// Bytes of control messages that one end may have under way: their own credit, apart from that of files.
pub(super) const MESSAGE_WINDOW: u32 = 4 << 20;

/// What is read ahead from a peer that has not logged in, bytes.
const STRANGER_AHEAD: usize = 256 * 1024;

/// What arrives on the link channel for the sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mail {
    /// A control message.
    Message(Bytes),
    /// The rest comes on the successor.
    Moved,
    /// The peer is done.
    Bye,
}

/// What waits to be written to the link channel.
#[derive(Default)]
struct Outbox {
    frames: VecDeque<Frame>,
    /// The rest of the control message under way.
    message: Bytes,
    taken: u32,
    closing: Vec<Port>,
    /// After what is in here, the connection ends.
    farewell: bool,
}

/// What came in on the link channel.
#[derive(Default)]
struct Mailbox {
    queue: VecDeque<Mail>,
    /// Bytes in the queue and in the message under way, as charged.
    held: u32,
    partial: BytesMut,
    frames: Frames,
    moved: bool,
    bye: bool,
    waker: Option<Waker>,
}

/// See the module.
pub(super) struct Link {
    pub(super) line: Arc<Line>,
    windows: Windows,
    peer: OnceLock<Windows>,
    /// What may still be sent on all channels together.
    pub(super) credit: Semaphore,
    pub(super) message_credit: Semaphore,
    /// Lanes of open channels, by this end's SSH number.
    lanes: Mutex<HashMap<u32, Arc<Lane>>>,
    /// Lanes with bytes to be acknowledged by the peer, by their common number.
    senders: Mutex<HashMap<u32, Arc<Lane>>>,
    /// Received and not acknowledged, on all channels.
    held: AtomicU32,
    /// Consumed and not acknowledged, on all channels.
    consumed: AtomicU32,
    listed: Mutex<Vec<Arc<Lane>>>,
    due: AtomicBool,
    outbox: Mutex<Outbox>,
    entered: Notify,
    pub(super) wake: Notify,
    mailbox: Mutex<Mailbox>,
    end: OnceLock<CarrierError>,
    pub(super) ended: Notify,
    /// Greeted or refused by the peer; see `greeting`.
    refusal: OnceLock<String>,
    pub(super) greeted: Notify,
    pub(super) expected: Notify,
    /// Channels being opened by this end.
    pub(super) opening: AtomicU64,
    /// Channels opened so far.
    pub(super) opened: AtomicU64,
    pub(super) owner: OnceLock<Weak<Inner>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    pub(super) fn new(flow: &Flow) -> Arc<Self> {
        let link = Self {
            line: Line::new(STRANGER_AHEAD),
            windows: flow.windows(),
            peer: OnceLock::new(),
            credit: Semaphore::new(0),
            message_credit: Semaphore::new(MESSAGE_WINDOW as usize),
            lanes: Mutex::default(),
            senders: Mutex::default(),
            held: AtomicU32::new(0),
            consumed: AtomicU32::new(0),
            listed: Mutex::default(),
            due: AtomicBool::new(false),
            outbox: Mutex::default(),
            entered: Notify::new(),
            wake: Notify::new(),
            mailbox: Mutex::default(),
            end: OnceLock::new(),
            ended: Notify::new(),
            refusal: OnceLock::new(),
            greeted: Notify::new(),
            expected: Notify::new(),
            opening: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            owner: OnceLock::new(),
        };
        link.post(Frame::Hello(link.windows));
        Arc::new(link)
    }

    // --- life and death

    /// Ends everything that waits on this SSH connection, for the first cause given. Cuts the socket: no session outlives it.
    pub(super) fn fail(&self, cause: CarrierError) {
        if self.end.set(cause.clone()).is_err() {
            return;
        }
        self.credit.close();
        self.message_credit.close();
        let lanes: Vec<_> = locked(&self.lanes).drain().map(|(_, lane)| lane).collect();
        locked(&self.senders).clear();
        lanes.iter().for_each(|lane| lane.end(cause.clone()));
        let waker = locked(&self.mailbox).waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
        self.line.cut();
        self.ended.notify_waiters();
        self.greeted.notify_waiters();
        self.expected.notify_waiters();
        self.wake.notify_one();
        if let Some(owner) = self.owner.get().and_then(Weak::upgrade) {
            owner.link_ended(self, cause);
        }
    }

    /// Why it ended, if it did.
    pub(super) fn cause(&self) -> Option<CarrierError> {
        self.end.get().cloned()
    }

    /// Resolves when the connection has ended.
    pub(super) async fn until_ended(&self) -> CarrierError {
        loop {
            let waiting = self.ended.notified();
            tokio::pin!(waiting);
            waiting.as_mut().enable();
            if let Some(cause) = self.cause() {
                return cause;
            }
            waiting.await;
        }
    }

    /// Resolves when the peer has said hello (its windows), refused (its text) or gone.
    pub(super) async fn greeting(&self) -> Result<Windows, Result<String, CarrierError>> {
        loop {
            let waiting = self.greeted.notified();
            tokio::pin!(waiting);
            waiting.as_mut().enable();
            if let Some(refusal) = self.refusal.get() {
                return Err(Ok(refusal.clone()));
            }
            if let Some(peer) = self.peer.get() {
                return Ok(*peer);
            }
            if let Some(cause) = self.cause() {
                return Err(Err(cause));
            }
            waiting.await;
        }
    }

    /// Says farewell after all that waits to be written, then ends the connection.
    pub(super) fn retire(&self) {
        {
            let mut outbox = locked(&self.outbox);
            if !outbox.farewell {
                outbox.farewell = true;
                outbox.frames.push_back(Frame::Bye);
            }
        }
        self.wake.notify_one();
    }

    /// Instead of a hello, says why this client is not served, and ends the connection.
    pub(super) fn refuse(&self, why: &str) {
        locked(&self.outbox).frames = [Frame::Refusal(why.into())].into();
        self.retire();
    }

    // --- lanes

    /// The size that data is split at, and the window of a channel, both as the peer announced.
    pub(super) fn peer(&self) -> Windows {
        self.peer.get().copied().unwrap_or(Windows { all: Windows::LEAST, channel: Windows::LEAST })
    }

    /// Enters a channel by this end's SSH number.
    pub(super) fn enter(&self, number: u32, lane: &Arc<Lane>) {
        locked(&self.lanes).insert(number, lane.clone());
        self.opened.fetch_add(1, Ordering::Relaxed);
        if let Some(cause) = self.cause() {
            lane.end(cause);
        }
        self.entered.notify_waiters();
    }

    /// The lane of a channel that was confirmed. russh tells the opener a moment before it tells the session's handler.
    pub(super) async fn until_entered(&self, number: u32) -> Result<Arc<Lane>, CarrierError> {
        loop {
            let waiting = self.entered.notified();
            tokio::pin!(waiting);
            waiting.as_mut().enable();
            if let Some(cause) = self.cause() {
                return Err(cause);
            }
            if let Some(lane) = self.lane(number) {
                return Ok(lane);
            }
            tokio::select! {
                () = waiting => {}
                cause = self.until_ended() => return Err(cause),
            }
        }
    }

    /// From now on the peer may acknowledge what is sent on this lane. Fails if its number is taken.
    pub(super) fn enter_sender(&self, lane: &Arc<Lane>) -> Result<(), CarrierError> {
        match locked(&self.senders).insert(lane.id, lane.clone()) {
            None => Ok(()),
            Some(_) => Err(CarrierError::Protocol("a channel number used twice")),
        }
    }

    pub(super) fn lane(&self, number: u32) -> Option<Arc<Lane>> {
        locked(&self.lanes).get(&number).cloned()
    }

    /// Whether no channel is open or being opened.
    pub(super) fn idle(&self) -> bool {
        self.opening.load(Ordering::SeqCst) == 0 && locked(&self.lanes).is_empty()
    }

    /// This end is the client and closes the channel. What it sent stays owed until acknowledged.
    pub(super) fn leave(&self, lane: &Lane) {
        locked(&self.lanes).remove(&lane.id);
        lane.release();
        lane.end(CarrierError::Closed);
        if lane.settled() {
            locked(&self.senders).remove(&lane.id);
        }
        self.note_idle();
    }

    /// The peer closed the channel: whatever we sent on it is no longer under way.
    pub(super) fn peer_closed(&self, number: u32) {
        let Some(lane) = locked(&self.lanes).remove(&number) else { return };
        locked(&self.senders).remove(&lane.id);
        lane.end(CarrierError::Abandoned);
        lane.write_off();
    }

    // --- the credit this end grants

    /// Books a packet that came in.
    pub(super) fn hold(&self, cost: u32) -> Result<(), CarrierError> {
        let held = self.held.fetch_add(cost, Ordering::SeqCst).saturating_add(cost);
        match held > self.windows.all {
            true => Err(CarrierError::Protocol("more data than the connection's credit")),
            false => Ok(()),
        }
    }

    /// Books bytes as no longer held.
    pub(super) fn let_go(&self, bytes: u32) {
        self.held.fetch_sub(bytes, Ordering::SeqCst);
    }

    /// Bytes received and not yet acknowledged, on all channels.
    pub(super) fn held(&self) -> u32 {
        self.held.load(Ordering::SeqCst)
    }

    /// What this end allows.
    pub(super) fn windows(&self) -> Windows {
        self.windows
    }

    /// The peer has logged in: from now on the socket reads ahead more than all that the peer may have under way, with its
    /// packaging. Less would let both ends wait for each other.
    pub(super) fn trust(&self) {
        self.line.read_ahead(2 * (self.windows.all as usize + MESSAGE_WINDOW as usize));
    }

    /// Acknowledges once a quarter of a window is consumed, the connection's or a channel's. However many channels there are,
    /// the peer therefore lacks at most a quarter, which never stops it: it waits only for what is not yet consumed.
    pub(super) fn note_consumed(&self, lane: &Arc<Lane>, bytes: u32, lane_so_far: u32) {
        if !lane.listed.swap(true, Ordering::SeqCst) {
            locked(&self.listed).push(lane.clone());
        }
        let so_far = self.consumed.fetch_add(bytes, Ordering::SeqCst).saturating_add(bytes);
        let due = so_far >= self.windows.all / 4 || lane_so_far >= self.windows.channel / 4;
        if due && !self.due.swap(true, Ordering::SeqCst) {
            self.wake.notify_one();
        }
    }

    // --- the link channel, outgoing

    /// Queues a frame.
    pub(super) fn post(&self, frame: Frame) {
        locked(&self.outbox).frames.push_back(frame);
        self.wake.notify_one();
    }

    /// Queues a control message whose credit has been taken.
    pub(super) fn post_message(&self, message: Bytes) {
        self.post(Frame::Part(message, true));
    }

    /// Leaves a channel to be closed by the link's writer.
    pub(super) fn post_close(&self, port: Port) {
        locked(&self.outbox).closing.push(port);
        self.wake.notify_one();
    }

    /// The next bytes for the link channel, at most a packet; acknowledgements first.
    pub(super) fn next_packet(&self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        if self.due.swap(false, Ordering::SeqCst) {
            self.put_consumed(&mut out);
        }
        let mut outbox = locked(&self.outbox);
        if outbox.taken >= MESSAGE_WINDOW / 4 {
            Frame::Taken(std::mem::take(&mut outbox.taken)).put(&mut out);
        }
        while out.len() < MAX_BODY / 2 {
            if !outbox.message.is_empty() {
                let room = MAX_BODY - HEADER - out.len();
                let size = room.min(outbox.message.len());
                let part = outbox.message.split_to(size);
                Frame::Part(part, outbox.message.is_empty()).put(&mut out);
                continue;
            }
            match outbox.frames.pop_front() {
                Some(Frame::Part(message, _)) if !message.is_empty() => outbox.message = message,
                Some(frame) => frame.put(&mut out),
                None => break,
            }
        }
        (!out.is_empty()).then(|| out.freeze())
    }

    /// Half a packet of acknowledgements; the rest with the next packet.
    fn put_consumed(&self, out: &mut BytesMut) {
        let lanes = {
            let mut listed = locked(&self.listed);
            let from = listed.len().saturating_sub(MAX_BODY / 16);
            if from > 0 {
                self.due.store(true, Ordering::SeqCst);
            }
            listed.split_off(from)
        };
        let (mut list, mut total) = (Vec::with_capacity(lanes.len()), 0u32);
        for lane in lanes {
            let (consumed, owed) = lane.take_consumed();
            total = total.saturating_add(consumed);
            if owed > 0 {
                list.push((lane.id, owed));
            }
        }
        let _ = self
            .consumed
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| Some(now.saturating_sub(total)));
        if !list.is_empty() {
            Frame::Consumed(list).put(out);
        }
    }

    /// Channels to close, and whether the connection is to end once they are.
    pub(super) fn take_closing(&self) -> (Vec<Port>, bool) {
        let mut outbox = locked(&self.outbox);
        (
            std::mem::take(&mut outbox.closing),
            outbox.farewell && outbox.frames.is_empty() && outbox.message.is_empty(),
        )
    }

    // --- the link channel, incoming

    /// Takes in bytes of the link channel. What is not about credit is left to the owner through `mail` or returned.
    pub(super) fn arrive(&self, data: &[u8]) -> Result<Vec<Frame>, CarrierError> {
        let mut rest = Vec::new();
        locked(&self.mailbox).frames.feed(data);
        loop {
            let Some(frame) = locked(&self.mailbox).frames.next()? else { return Ok(rest) };
            match frame {
                Frame::Hello(windows) => self.greet(windows)?,
                Frame::Refusal(text) => {
                    let _ = self.refusal.set(text);
                    self.greeted.notify_waiters();
                }
                Frame::Consumed(list) => self.acknowledged(&list)?,
                Frame::Abandon(id) => self.abandoned(id),
                Frame::Part(part, last) => self.deliver_part(&part, last)?,
                Frame::Taken(bytes) => self.message_credit.add_permits(self.fitting(bytes)?),
                Frame::Moved => self.deliver(Mail::Moved)?,
                Frame::Expected => self.expected.notify_one(),
                Frame::Bye => self.deliver(Mail::Bye)?,
                frame @ Frame::Successor(_) => rest.push(frame),
            }
        }
    }

    fn greet(&self, windows: Windows) -> Result<(), CarrierError> {
        self.peer.set(windows).map_err(|_| CarrierError::Protocol("a second hello"))?;
        self.credit.add_permits(windows.all as usize);
        self.greeted.notify_waiters();
        Ok(())
    }

    /// Credit for messages cannot grow beyond its window.
    fn fitting(&self, bytes: u32) -> Result<usize, CarrierError> {
        let bytes = bytes as usize;
        match self.message_credit.available_permits() + bytes > MESSAGE_WINDOW as usize {
            true => Err(CarrierError::Protocol("more messages taken than sent")),
            false => Ok(bytes),
        }
    }

    /// Unknown numbers are those of channels that were closed meanwhile.
    fn acknowledged(&self, list: &[(u32, u32)]) -> Result<(), CarrierError> {
        let mut senders = locked(&self.senders);
        for (id, bytes) in list {
            let Some(lane) = senders.get(id) else { continue };
            lane.acknowledged(*bytes)?;
            if lane.settled() && lane.ended().is_some() {
                senders.remove(id);
            }
        }
        Ok(())
    }

    fn abandoned(&self, id: u32) {
        let lane = locked(&self.senders).get(&id).cloned();
        if let Some(lane) = lane {
            lane.end(CarrierError::Abandoned);
        }
    }

    fn deliver_part(&self, part: &Bytes, last: bool) -> Result<(), CarrierError> {
        let message = {
            let mut mailbox = locked(&self.mailbox);
            if mailbox.partial.len() + part.len() > MAX_MESSAGE {
                return Err(CarrierError::Protocol("an oversized control message"));
            }
            let whole = mailbox.partial.is_empty() && last;
            if !whole {
                mailbox.partial.extend_from_slice(part);
            }
            match (whole, last) {
                (true, _) => part.clone(),
                (_, true) => std::mem::take(&mut mailbox.partial).freeze(),
                (_, false) => return Ok(()),
            }
        };
        {
            let mut mailbox = locked(&self.mailbox);
            mailbox.held = mailbox.held.saturating_add(charge(message.len()));
            if mailbox.held > MESSAGE_WINDOW {
                return Err(CarrierError::Protocol("more control messages than their credit"));
            }
        }
        self.deliver(Mail::Message(message))
    }

    /// Each mark comes once and nothing after it, so that a flood of marks cannot grow the queue.
    fn deliver(&self, mail: Mail) -> Result<(), CarrierError> {
        let waker = {
            let mut mailbox = locked(&self.mailbox);
            if mailbox.bye || (mailbox.moved && mail != Mail::Bye) {
                return Err(CarrierError::Protocol("a message after the last one"));
            }
            mailbox.moved |= mail == Mail::Moved;
            mailbox.bye |= mail == Mail::Bye;
            mailbox.queue.push_back(mail);
            mailbox.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Whether either end said farewell: the end of the connection is then no loss.
    pub(super) fn farewell(&self) -> bool {
        locked(&self.outbox).farewell || locked(&self.mailbox).bye
    }

    /// Whether the peer's control messages have moved on and all that came before has been read.
    pub(super) fn drained_mail(&self) -> bool {
        let mailbox = locked(&self.mailbox);
        mailbox.moved && !mailbox.queue.iter().any(|mail| *mail != Mail::Bye)
    }

    /// Tells the owner that one thing fewer needs this link.
    pub(super) fn note_idle(&self) {
        if let Some(owner) = self.owner.get().and_then(Weak::upgrade) {
            owner.link_emptied(self);
        }
    }

    /// Whether the peer's control messages have moved on to the successor.
    pub(super) fn moved(&self) -> bool {
        locked(&self.mailbox).moved
    }

    /// The next mail. What arrived before the end can still be read.
    pub(super) fn poll_mail(&self, cx: &mut Context<'_>) -> Poll<Result<Mail, CarrierError>> {
        let mut mailbox = locked(&self.mailbox);
        match mailbox.queue.pop_front() {
            Some(Mail::Message(message)) => {
                let cost = charge(message.len());
                mailbox.held = mailbox.held.saturating_sub(cost);
                drop(mailbox);
                self.took(cost);
                Poll::Ready(Ok(Mail::Message(message)))
            }
            Some(mail) => Poll::Ready(Ok(mail)),
            None => {
                if let Some(cause) = self.cause() {
                    return Poll::Ready(Err(cause));
                }
                mailbox.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn took(&self, cost: u32) {
        let due = {
            let mut outbox = locked(&self.outbox);
            outbox.taken += cost;
            outbox.taken >= MESSAGE_WINDOW / 4
        };
        if due {
            self.wake.notify_one();
        }
    }
}

/// Ends an SSH connection that is given up before it is complete, or whose owner's task is.
pub(super) struct CutOnDrop(Option<Arc<Link>>);

impl CutOnDrop {
    pub(super) fn new(link: &Arc<Link>) -> Self {
        Self(Some(link.clone()))
    }

    /// The connection is somebody else's from now on.
    pub(super) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        if let Some(link) = self.0.take() {
            link.fail(CarrierError::Closed);
        }
    }
}
