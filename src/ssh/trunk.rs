//! The SSH connections of one sync: which is the newest, which only drain, and what their ends mean.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use russh::client;
use tokio::sync::{Notify, mpsc};

use super::channel::Channel;
use super::client::Dialer;
use super::error::CarrierError;
use super::frame::Frame;
use super::lane::Lane;
use super::link::Link;
use super::pace::Pace;
use super::port::Port;
use super::visitor::Visitor;
use super::wait::{locked, until};

/// One SSH connection of a sync. Only the client has russh's handle, to open channels.
#[derive(Clone)]
pub(super) struct Trunk {
    pub(super) link: Arc<Link>,
    pub(super) handle: Option<Arc<client::Handle<Visitor>>>,
}

/// What all handles share.
pub(super) struct Inner {
    /// The client's means of making a successor.
    pub(super) dialer: Option<Arc<Dialer>>,
    route: Mutex<Route>,
    attached: Notify,
    /// One receiver of messages at a time.
    pub(super) receiving: tokio::sync::Mutex<()>,
    arrivals: mpsc::Sender<Channel>,
    pub(super) accepting: tokio::sync::Mutex<mpsc::Receiver<Channel>>,
    /// How fast this end sends on channels, all together.
    pub(super) pace: OnceLock<Arc<Pace>>,
    failure: OnceLock<CarrierError>,
    failed: Notify,
    pub(super) recycling: AtomicBool,
    /// The [wear](Link::wear) of the newest SSH connection at which the next attempt to recycle is due.
    pub(super) recycle_at: AtomicU64,
}

#[derive(Default)]
struct Route {
    /// Messages are received on the first; everything new starts on the last.
    trunks: VecDeque<Trunk>,
    /// Old ones that only still carry channels.
    draining: Vec<Arc<Link>>,
    /// Closed by this end: what still gets attached is closed too.
    closing: bool,
    /// Bytes of SSH connections that have ended: sent, received.
    past: (u64, u64),
}

/// The most channels that wait to be taken: also those count that a client has opened and closed again.
const ARRIVED: usize = 8_192;

impl Inner {
    /// A sync's carrier on its first SSH connection. `dialer`: only the client has one.
    pub(super) fn new(trunk: Trunk, dialer: Option<Arc<Dialer>>) -> Arc<Self> {
        let (arrivals, accepting) = mpsc::channel(ARRIVED);
        let recycle_at = dialer.as_ref().and_then(|dialer| dialer.flow().recycle_channels);
        let inner = Arc::new(Self {
            dialer,
            route: Mutex::default(),
            attached: Notify::new(),
            receiving: tokio::sync::Mutex::new(()),
            arrivals,
            accepting: tokio::sync::Mutex::new(accepting),
            pace: OnceLock::new(),
            failure: OnceLock::new(),
            failed: Notify::new(),
            recycling: AtomicBool::new(false),
            recycle_at: AtomicU64::new(recycle_at.unwrap_or(u64::MAX)),
        });
        inner.attach(trunk);
        inner
    }

    /// Makes an SSH connection the newest. The one before is told that messages continue here.
    pub(super) fn attach(self: &Arc<Self>, trunk: Trunk) {
        let link = trunk.link.clone();
        let _ = link.owner.set(Arc::downgrade(self));
        let (closing, before) = {
            let mut route = locked(&self.route);
            let before = route.trunks.back().map(|trunk| trunk.link.clone());
            if let Some(before) = &before {
                before.outbox.post(Frame::Moved);
            }
            route.trunks.push_back(trunk);
            (route.closing, before)
        };
        if closing {
            link.outbox.say_farewell();
        }
        if let Some(before) = before {
            self.link_emptied(&before);
        }
        self.attached.notify_waiters();
        if let Some(cause) = link.cause() {
            self.link_ended(&link, cause);
        }
        if let Some(cause) = self.failure.get() {
            link.fail(cause.clone());
        }
    }

    /// The SSH connection on which everything new starts.
    pub(super) fn newest(&self) -> Result<Trunk, CarrierError> {
        locked(&self.route).trunks.back().cloned().ok_or_else(|| self.cause())
    }

    /// The same, for the client to open a channel there: until that is done the connection is not given up.
    pub(super) fn newest_to_open(&self) -> Result<(Arc<Link>, Arc<client::Handle<Visitor>>), CarrierError> {
        let route = locked(&self.route);
        let Trunk { link, handle } = route.trunks.back().cloned().ok_or_else(|| self.cause())?;
        let handle = handle.ok_or(CarrierError::Protocol("only the client opens channels"))?;
        link.opening.fetch_add(1, Ordering::SeqCst);
        Ok((link, handle))
    }

    /// Queues a message on a link if that is still the newest.
    pub(super) fn post_message(&self, link: &Arc<Link>, message: Bytes) -> Result<(), Bytes> {
        let route = locked(&self.route);
        match route.trunks.back().is_some_and(|trunk| Arc::ptr_eq(&trunk.link, link)) {
            true => {
                link.outbox.post(Frame::Part(message, true));
                Ok(())
            }
            false => Err(message),
        }
    }

    /// The SSH connection on which messages are received.
    pub(super) fn oldest(&self) -> Result<Arc<Link>, CarrierError> {
        locked(&self.route).trunks.front().map(|trunk| trunk.link.clone()).ok_or_else(|| self.cause())
    }

    /// Goes on to the successor, waiting for it where the peer was quicker.
    pub(super) async fn move_on(&self) -> Result<(), CarrierError> {
        let moving = until(&self.attached, || {
            let mut route = locked(&self.route);
            (route.trunks.len() > 1).then(|| route.retire_first())
        });
        tokio::select! {
            biased;
            () = moving => Ok(()),
            cause = self.until_failed() => Err(cause),
        }
    }

    /// Why the carrier ended; closed, as long as nothing else is known.
    fn cause(&self) -> CarrierError {
        self.failure.get().cloned().unwrap_or(CarrierError::Closed)
    }

    /// A channel that a client opened.
    pub(super) fn arrived(&self, lane: Arc<Lane>, port: Port) {
        // Without a receiver, or with too many that nobody takes, the channel is dropped at once, which tells the client.
        let _ = self.arrivals.try_send(Channel::new(lane, port));
    }

    /// The client ends an old SSH connection once nothing needs it any more.
    pub(super) fn link_emptied(&self, link: &Link) {
        let newest = locked(&self.route).trunks.back().is_some_and(|trunk| std::ptr::eq(&*trunk.link, link));
        if self.dialer.is_some() && !newest && link.mailbox.moved() && link.idle() {
            link.outbox.say_farewell();
        }
    }

    /// An SSH connection has ended. An old one that was done is no loss; anything else ends the sync's carrier.
    pub(super) fn link_ended(&self, link: &Link, cause: CarrierError) {
        let regular = {
            let mut route = locked(&self.route);
            let newest = route.trunks.back().is_some_and(|trunk| std::ptr::eq(&*trunk.link, link));
            route.forget(link);
            !newest && link.mailbox.moved() && link.farewell()
        };
        if !regular {
            self.fail(cause);
        }
    }

    fn fail(&self, cause: CarrierError) {
        if self.failure.set(cause.clone()).is_ok() {
            self.all_links().iter().for_each(|link| link.fail(cause.clone()));
            self.failed.notify_waiters();
        }
    }

    fn all_links(&self) -> Vec<Arc<Link>> {
        locked(&self.route).links().cloned().collect()
    }

    /// Closes every SSH connection in good order.
    pub(super) fn close(&self) {
        locked(&self.route).closing = true;
        self.all_links().iter().for_each(|link| link.outbox.say_farewell());
    }

    /// Resolves with the cause once the carrier has ended.
    pub(super) async fn until_failed(&self) -> CarrierError {
        until(&self.failed, || self.failure.get().cloned()).await
    }

    /// How many SSH connections are alive.
    pub(super) fn alive(&self) -> usize {
        locked(&self.route).links().filter(|link| link.cause().is_none()).count()
    }

    /// Bytes on the wire: sent, received.
    pub(super) fn traffic(&self) -> (u64, u64) {
        let route = locked(&self.route);
        route.links().map(|link| link.line.traffic()).fold(route.past, plus)
    }

    /// Signs of life from the peer, of the SSH connections that are alive.
    pub(super) fn heard(&self) -> u64 {
        locked(&self.route).links().map(|link| link.heard()).fold(0, u64::wrapping_add)
    }

    /// Bytes received and not acknowledged.
    pub(super) fn held(&self) -> u64 {
        locked(&self.route).links().map(|link| u64::from(link.ledger.held())).sum()
    }
}

impl Route {
    fn links(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.trunks.iter().map(|trunk| &trunk.link).chain(&self.draining)
    }

    /// All messages of the first have been read: from now on it only carries channels, if it still lives.
    fn retire_first(&mut self) {
        let Some(Trunk { link, .. }) = self.trunks.pop_front() else { return };
        match link.cause() {
            None => self.draining.push(link),
            Some(_) => self.past = plus(self.past, link.line.traffic()),
        }
    }

    /// A draining one has ended.
    fn forget(&mut self, link: &Link) {
        let before = self.draining.len();
        self.draining.retain(|other| !std::ptr::eq(&**other, link));
        if self.draining.len() < before {
            self.past = plus(self.past, link.line.traffic());
        }
    }
}

fn plus((a, b): (u64, u64), (c, d): (u64, u64)) -> (u64, u64) {
    (a + c, b + d)
}
