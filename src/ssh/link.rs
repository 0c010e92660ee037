//! One SSH connection as its sync sees it: the lanes of its channels, the credits of both directions, and both directions of
//! the link channel. Holds no russh handle, so that russh's session may hold it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};

use super::errands::Errands;
use super::error::CarrierError;
use super::flow::{Flow, MESSAGE_WINDOW, Windows};
use super::frame::Frame;
use super::lane::Lane;
use super::ledger::Ledger;
use super::mailbox::{Mail, Mailbox};
use super::outbox::Outbox;
use super::socket::Line;
use super::trunk::Inner;
use super::wait::{locked, until};

/// What is read ahead from a peer that has not logged in, bytes.
const STRANGER_AHEAD: usize = 256 * 1024;

/// What a client ends a server for that opens a channel anew that is open.
pub(super) const CONFIRMED_TWICE: CarrierError = CarrierError::Protocol("a channel was confirmed twice");

/// What is known by a common number.
enum Sender {
    /// A channel that was asked for; `true`: the server has given it up already.
    Called(bool),
    Open(Arc<Lane>),
}

/// See the module.
pub(super) struct Link {
    pub(super) line: Arc<Line>,
    pub(super) ledger: Ledger,
    pub(super) outbox: Outbox,
    pub(super) mailbox: Mailbox,
    /// What the client's session is to do at its next turn.
    pub(super) errands: Errands,
    /// What may still be sent on all channels together.
    pub(super) credit: Semaphore,
    /// What may still be sent of control messages: apart from files, so that neither waits for the other.
    pub(super) message_credit: Semaphore,
    /// The windows that the peer announced, or why it does not serve us.
    greeting: OnceLock<Result<Windows, String>>,
    /// Lanes of open channels, by this end's SSH number.
    lanes: Mutex<HashMap<u32, Arc<Lane>>>,
    /// What the peer may speak of: lanes with bytes to be acknowledged, by their common number.
    senders: Mutex<HashMap<u32, Sender>>,
    /// The common number that the client gave last.
    called: AtomicU32,
    end: OnceLock<CarrierError>,
    /// Rings when a lane is entered, the peer has greeted, or the end has come.
    bell: Notify,
    /// The server expects the successor.
    pub(super) expected: Notify,
    /// Channels being opened by this end.
    pub(super) opening: AtomicU64,
    /// Channels opened so far.
    opened: AtomicU64,
    /// Those of them that russh remembers.
    kept: AtomicU64,
    /// Signs of life from the peer so far: data on the link or on a channel. SSH's own keepalives are none.
    heard: AtomicU64,
    /// What a request that the server answers at once took, at the client.
    pub(super) round_trip: OnceLock<Duration>,
    pub(super) owner: OnceLock<Weak<Inner>>,
}

impl Link {
    pub(super) fn new(flow: &Flow) -> Arc<Self> {
        let windows = flow.windows();
        let link = Self {
            line: Line::new(STRANGER_AHEAD),
            ledger: Ledger::new(windows),
            outbox: Outbox::default(),
            mailbox: Mailbox::default(),
            errands: Errands::default(),
            credit: Semaphore::new(0),
            message_credit: Semaphore::new(MESSAGE_WINDOW as usize),
            greeting: OnceLock::new(),
            lanes: Mutex::default(),
            senders: Mutex::default(),
            called: AtomicU32::new(0),
            end: OnceLock::new(),
            bell: Notify::new(),
            expected: Notify::new(),
            opening: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            round_trip: OnceLock::new(),
            owner: OnceLock::new(),
        };
        link.outbox.post(Frame::Hello(windows));
        Arc::new(link)
    }

    // --- life and death

    /// The peer has logged in: from now on the socket reads ahead more than all that the peer may have under way, with its
    /// packaging. Less would let both ends wait for each other.
    pub(super) fn trust(&self) {
        self.line.read_ahead(2 * (self.ledger.windows().all as usize + MESSAGE_WINDOW as usize));
    }

    /// Ends everything that waits on this SSH connection, for the first cause given. Cuts the socket: no session outlives it.
    pub(super) fn fail(&self, cause: CarrierError) {
        if self.end.set(cause.clone()).is_err() {
            return;
        }
        self.credit.close();
        self.message_credit.close();
        let lanes: Vec<_> = locked(&self.lanes).drain().map(|(_, lane)| lane).collect();
        locked(&self.senders).clear();
        self.errands.end();
        self.ledger.end();
        lanes.iter().for_each(|lane| lane.end(cause.clone()));
        self.mailbox.ring();
        self.line.cut();
        self.bell.notify_waiters();
        self.outbox.wake.notify_one();
        if let Some(owner) = self.owner() {
            owner.link_ended(self, cause);
        }
    }

    /// Why it ended, if it did.
    pub(super) fn cause(&self) -> Option<CarrierError> {
        self.end.get().cloned()
    }

    /// Resolves when the connection has ended.
    pub(super) async fn until_ended(&self) -> CarrierError {
        until(&self.bell, || self.cause()).await
    }

    /// Whether either end said farewell: the end of the connection is then no loss.
    pub(super) fn farewell(&self) -> bool {
        self.outbox.farewell() || self.mailbox.bye()
    }

    /// What the end of the session means, in the words of whoever noticed it.
    pub(super) fn hung_up(&self, words: &str) {
        self.fail(if self.farewell() { CarrierError::Closed } else { CarrierError::lost(words) });
    }

    /// The sync that this connection carries.
    pub(super) fn owner(&self) -> Option<Arc<Inner>> {
        self.owner.get().and_then(Weak::upgrade)
    }

    /// Tells the owner that one thing fewer needs this link.
    pub(super) fn note_idle(&self) {
        if let Some(owner) = self.owner() {
            owner.link_emptied(self);
        }
    }

    /// Notes a sign of life from the peer.
    pub(super) fn hear(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// How many signs of life there were.
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    // --- the greeting

    /// Resolves when the peer has greeted (its windows) or refused (its reason), or has gone.
    pub(super) async fn greeting(&self) -> Result<Result<Windows, String>, CarrierError> {
        until(&self.bell, || match self.greeting.get() {
            Some(greeting) => Some(Ok(greeting.clone())),
            None => self.cause().map(Err),
        })
        .await
    }

    /// The windows that the peer announced; the least until it has.
    pub(super) fn peer(&self) -> Windows {
        match self.greeting.get() {
            Some(Ok(windows)) => *windows,
            _ => Windows { all: Windows::LEAST, channel: Windows::LEAST },
        }
    }

    fn greeted(&self, greeting: Result<Windows, String>) -> Result<(), CarrierError> {
        let permits = greeting.as_ref().map_or(0, |windows| windows.all as usize);
        self.greeting.set(greeting).map_err(|_| CarrierError::Protocol("a second hello"))?;
        self.credit.add_permits(permits);
        self.bell.notify_waiters();
        Ok(())
    }

    // --- lanes

    /// Enters an open channel. Fails if one of its number is open.
    pub(super) fn enter(&self, lane: &Arc<Lane>) -> Result<(), CarrierError> {
        {
            let mut lanes = locked(&self.lanes);
            // Where the end has come meanwhile, nobody would take it out again.
            if let Some(cause) = self.cause() {
                lane.end(cause.clone());
                return Err(cause);
            }
            if let Some(before) = lanes.insert(lane.number, lane.clone()) {
                before.end(CONFIRMED_TWICE);
                return Err(CONFIRMED_TWICE);
            }
        }
        self.opened.fetch_add(1, Ordering::Relaxed);
        self.bell.notify_waiters();
        Ok(())
    }

    /// As [`enter`](Self::enter), at the client a channel that was opened through russh's handle.
    pub(super) fn enter_kept(&self, lane: &Arc<Lane>) -> Result<(), CarrierError> {
        self.kept.fetch_add(1, Ordering::Relaxed);
        self.enter(lane)
    }

    /// How worn this SSH connection is, in channels that russh remembers. The others count a quarter: they cost nothing, but the
    /// server lets only so many be opened.
    pub(super) fn wear(&self) -> u64 {
        let (opened, kept) = (self.opened.load(Ordering::Relaxed), self.kept.load(Ordering::Relaxed));
        (opened + 3 * kept) / 4
    }

    /// The lane of a channel that was confirmed. russh tells the opener a moment before it tells the session's handler.
    pub(super) async fn until_entered(&self, number: u32) -> Result<Arc<Lane>, CarrierError> {
        until(&self.bell, || match self.cause() {
            Some(cause) => Some(Err(cause)),
            None => self.lane(number).map(Ok),
        })
        .await
    }

    /// At the server: from now on the peer may acknowledge what is sent on this lane. Fails if its number is taken.
    pub(super) fn enter_sender(&self, lane: &Arc<Lane>) -> Result<(), CarrierError> {
        let mut senders = locked(&self.senders);
        if let Some(cause) = self.cause() {
            return Err(cause);
        }
        match senders.insert(lane.id(), Sender::Open(lane.clone())) {
            None => Ok(()),
            Some(_) => Err(CarrierError::Protocol("a channel number used twice")),
        }
    }

    /// At the client: the number of a channel to be asked for. The server may speak of it before anybody here has seen that
    /// the channel is open.
    pub(super) fn call(&self) -> u32 {
        let id = self.called.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        locked(&self.senders).insert(id, Sender::Called(false));
        id
    }

    /// The channel with this number is open, and `lane` is its lane.
    pub(super) fn answered(&self, id: u32, lane: &Arc<Lane>) {
        lane.call(id);
        let mut senders = locked(&self.senders);
        // As in `enter`.
        if self.cause().is_some() {
            return;
        }
        if let Some(Sender::Called(true)) = senders.insert(id, Sender::Open(lane.clone())) {
            lane.end(CarrierError::Abandoned);
        }
    }

    /// The channel with this number was refused.
    pub(super) fn unanswered(&self, id: u32) {
        locked(&self.senders).remove(&id);
    }

    /// The lane of an open channel.
    pub(super) fn lane(&self, number: u32) -> Option<Arc<Lane>> {
        locked(&self.lanes).get(&number).cloned()
    }

    /// Whether no channel is open or being opened.
    pub(super) fn idle(&self) -> bool {
        self.opening.load(Ordering::SeqCst) == 0 && locked(&self.lanes).is_empty()
    }

    /// This end is the client and is about to close the channel. What it sent stays owed until acknowledged.
    pub(super) fn leave(&self, lane: &Lane) {
        locked(&self.lanes).remove(&lane.number);
        lane.end(CarrierError::Closed);
        if lane.settled() {
            locked(&self.senders).remove(&lane.id());
        }
        self.note_idle();
    }

    /// The peer closed the channel: whatever we sent on it is no longer under way.
    pub(super) fn peer_closed(&self, number: u32) {
        let lane = {
            let mut lanes = locked(&self.lanes);
            let Some(lane) = lanes.get(&number).cloned() else { return };
            // Whoever asked for it still has to find it, or would look for it for ever.
            if lane.id() != 0 {
                lanes.remove(&number);
                locked(&self.senders).remove(&lane.id());
            }
            lane
        };
        lane.end(CarrierError::Abandoned);
        lane.write_off();
    }

    /// Bytes were consumed on a lane.
    pub(super) fn note_consumed(&self, lane: &Arc<Lane>, bytes: u32, lane_so_far: u32) {
        if self.ledger.note(lane, bytes, lane_so_far) {
            self.outbox.wake.notify_one();
        }
    }

    // --- the link channel

    /// The next bytes for the link channel.
    pub(super) fn next_packet(&self) -> Option<Bytes> {
        self.outbox.next_packet(&self.ledger)
    }

    /// Takes in bytes of the link channel. Returns the keys of successors, which are the server's business.
    pub(super) fn arrive(&self, data: &[u8]) -> Result<Vec<Bytes>, CarrierError> {
        let mut successors = Vec::new();
        self.hear();
        self.mailbox.feed(data);
        while let Some(frame) = self.mailbox.next_frame()? {
            match frame {
                Frame::Hello(windows) => self.greeted(Ok(windows))?,
                Frame::Refusal(text) => self.greeted(Err(text))?,
                Frame::Consumed(list) => self.acknowledged(&list)?,
                Frame::Abandon(id) => self.abandoned(id),
                Frame::Part(part, last) => self.mailbox.part(part, last)?,
                Frame::Taken(bytes) => self.message_credit.add_permits(self.fitting(bytes)?),
                Frame::Moved => {
                    self.mailbox.deliver(Mail::Moved)?;
                    self.note_idle();
                }
                Frame::Successor(key) => successors.push(key),
                Frame::Expected => self.expected.notify_one(),
                Frame::Bye => self.mailbox.deliver(Mail::Bye)?,
            }
        }
        Ok(successors)
    }

    /// The next mail. What arrived before the end can still be read.
    pub(super) fn poll_mail(&self, cx: &Context<'_>) -> Poll<Result<Mail, CarrierError>> {
        self.mailbox.poll(cx, || self.cause()).map_ok(|(mail, cost)| {
            self.outbox.took(cost);
            mail
        })
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
            let Some(Sender::Open(lane)) = senders.get(id) else { continue };
            lane.acknowledged(*bytes)?;
            if lane.settled() && lane.ended().is_some() {
                senders.remove(id);
            }
        }
        Ok(())
    }

    fn abandoned(&self, id: u32) {
        let lane = match locked(&self.senders).get_mut(&id) {
            Some(Sender::Open(lane)) => lane.clone(),
            Some(Sender::Called(given_up)) => {
                *given_up = true;
                return;
            }
            None => return,
        };
        lane.end(CarrierError::Abandoned);
    }
}
