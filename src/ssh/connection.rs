//! One sync's carrier, whichever SSH connection carries it at the moment.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use russh::client;
use tokio::sync::{Notify, mpsc};

use super::channel::Channel;
use super::client::{Dialer, Visitor};
use super::error::CarrierError;
use super::flow::charge;
use super::frame::{Frame, MAX_MESSAGE};
use super::lane::Lane;
use super::link::{Link, Mail};
use super::opening::Opening;
use super::port::Port;

/// A handle to a sync's carrier, the same at both ends. Clones share it; when the last is dropped the connection is closed,
/// and with it every channel.
///
/// Channels that nobody reads hold at most a channel's window each, but several together can hold the connection's, and then
/// no channel moves: read every channel that is accepted or opened, or drop it.
#[derive(Clone)]
pub struct Connection(Arc<Held>);

/// Closes when the last handle goes.
struct Held(Arc<Inner>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.close();
    }
}

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
    receiving: tokio::sync::Mutex<()>,
    arrivals: mpsc::UnboundedSender<Channel>,
    accepting: tokio::sync::Mutex<mpsc::UnboundedReceiver<Channel>>,
    failure: OnceLock<CarrierError>,
    failed: Notify,
    pub(super) recycling: AtomicBool,
    /// Channels on the newest SSH connection at which the next attempt to recycle is due.
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

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    pub(super) fn new(trunk: Trunk, dialer: Option<Arc<Dialer>>) -> Self {
        let (arrivals, accepting) = mpsc::unbounded_channel();
        let recycle_at =
            dialer.as_ref().and_then(|dialer| dialer.flow().recycle_channels).unwrap_or(u64::MAX);
        let inner = Arc::new(Inner {
            dialer,
            route: Mutex::default(),
            attached: Notify::new(),
            receiving: tokio::sync::Mutex::new(()),
            arrivals,
            accepting: tokio::sync::Mutex::new(accepting),
            failure: OnceLock::new(),
            failed: Notify::new(),
            recycling: AtomicBool::new(false),
            recycle_at: AtomicU64::new(recycle_at),
        });
        Inner::attach(&inner, trunk);
        Self(Arc::new(Held(inner)))
    }

    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.0.0
    }

    /// Opens a channel; at the client only. The server gets it from [`accept`](Self::accept) with the first bytes sent.
    ///
    /// # Errors
    /// The server refused it, the connection ended, or this is the server's end. May be dropped while it waits.
    pub async fn open(&self) -> Result<Channel, CarrierError> {
        let inner = self.inner();
        inner.recycle_if_due();
        let (link, handle) = {
            let route = locked(&inner.route);
            let trunk = route.trunks.back().ok_or_else(|| inner.cause())?;
            let handle =
                trunk.handle.clone().ok_or(CarrierError::Protocol("only the client opens channels"))?;
            trunk.link.opening.fetch_add(1, Ordering::SeqCst);
            (trunk.link.clone(), handle)
        };
        Opening::new(link, handle).wait().await
    }

    /// The next channel that the client opened; at the server only. `None` once the connection has ended.
    pub async fn accept(&self) -> Option<Channel> {
        let inner = self.inner();
        let mut accepting = inner.accepting.lock().await;
        tokio::select! {
            biased;
            channel = accepting.recv() => channel,
            _ = inner.until_failed() => None,
        }
    }

    /// Sends a control message of at most [`MAX_MESSAGE`] bytes. Messages arrive whole and in order; they never wait for file
    /// data, only for the peer to take earlier messages.
    ///
    /// # Errors
    /// The message is too large, or the connection ended. Dropped while it waits, nothing was sent.
    pub async fn send(&self, message: Bytes) -> Result<(), CarrierError> {
        if message.len() > MAX_MESSAGE {
            return Err(CarrierError::TooLarge(message.len()));
        }
        let inner = self.inner();
        loop {
            let link = inner.newest()?;
            let permit = link.message_credit.acquire_many(charge(message.len())).await;
            let permit = permit.map_err(|_| link.cause().unwrap_or_else(|| inner.cause()))?;
            let route = locked(&inner.route);
            // A successor may have taken over meanwhile: the message belongs there.
            if route.trunks.back().is_some_and(|trunk| Arc::ptr_eq(&trunk.link, &link)) {
                permit.forget();
                link.post_message(message);
                return Ok(());
            }
        }
    }

    /// The next control message; `None` when the peer has closed in good order.
    ///
    /// # Errors
    /// The connection was lost. May be dropped while it waits: no message is lost by that.
    pub async fn receive(&self) -> Result<Option<Bytes>, CarrierError> {
        let inner = self.inner();
        let _turn = inner.receiving.lock().await;
        loop {
            let link = locked(&inner.route).trunks.front().map(|trunk| trunk.link.clone());
            let link = link.ok_or_else(|| inner.cause())?;
            if link.drained_mail() {
                inner.move_on(&link).await?;
                continue;
            }
            match std::future::poll_fn(|cx| link.poll_mail(cx)).await {
                Ok(Mail::Message(message)) => return Ok(Some(message)),
                Ok(Mail::Moved) => {}
                Ok(Mail::Bye) | Err(CarrierError::Closed) => return Ok(None),
                Err(cause) => return Err(cause),
            }
        }
    }

    /// Closes in good order: what was sent before is still delivered, then both ends see the end.
    pub fn close(&self) {
        self.inner().close();
    }

    /// Resolves when the connection has ended, with the cause: [`CarrierError::Closed`] if it was closed in good order.
    pub async fn ended(&self) -> CarrierError {
        self.inner().until_failed().await
    }

    /// Bytes on the wire so far, of all its SSH connections: sent, received.
    pub fn traffic(&self) -> (u64, u64) {
        let route = locked(&self.inner().route);
        let links = route.trunks.iter().map(|trunk| &trunk.link).chain(&route.draining);
        links.map(|link| link.line.traffic()).fold(route.past, |(a, b), (c, d)| (a + c, b + d))
    }

    /// Bytes received on channels whose consumption the peer has not been told of; at most the window that this end announced,
    /// for each SSH connection.
    pub fn unconsumed(&self) -> u64 {
        let route = locked(&self.inner().route);
        let links = route.trunks.iter().map(|trunk| &trunk.link).chain(&route.draining);
        links.map(|link| u64::from(link.held())).sum()
    }

    /// How many SSH connections carry the sync at the moment.
    pub fn links(&self) -> usize {
        self.inner().links()
    }
}

impl Inner {
    /// Makes an SSH connection the newest. The one before is told that messages continue here.
    pub(super) fn attach(self: &Arc<Self>, trunk: Trunk) {
        let link = trunk.link.clone();
        let _ = link.owner.set(Arc::downgrade(self));
        let closing = {
            let mut route = locked(&self.route);
            if let Some(last) = route.trunks.back() {
                last.link.post(Frame::Moved);
            }
            route.trunks.push_back(trunk);
            route.closing
        };
        if closing {
            link.retire();
        }
        self.attached.notify_waiters();
        if let Some(cause) = link.cause() {
            self.link_ended(&link, cause);
        }
        if let Some(cause) = self.failure.get() {
            link.fail(cause.clone());
        }
    }

    pub(super) fn links(&self) -> usize {
        let route = locked(&self.route);
        route.trunks.len() + route.draining.len()
    }

    pub(super) fn newest(&self) -> Result<Arc<Link>, CarrierError> {
        locked(&self.route).trunks.back().map(|trunk| trunk.link.clone()).ok_or_else(|| self.cause())
    }

    fn cause(&self) -> CarrierError {
        self.failure.get().cloned().unwrap_or(CarrierError::Closed)
    }

    /// A channel that a client opened.
    pub(super) fn arrived(&self, lane: Arc<Lane>, port: Port) {
        // Without a receiver the channel is dropped at once, which tells the client.
        let _ = self.arrivals.send(Channel::new(lane, port));
    }

    /// Goes on to the successor, waiting for it where the peer was quicker.
    async fn move_on(&self, old: &Arc<Link>) -> Result<(), CarrierError> {
        loop {
            let waiting = self.attached.notified();
            tokio::pin!(waiting);
            waiting.as_mut().enable();
            if let Some(cause) = self.failure.get() {
                return Err(cause.clone());
            }
            {
                let mut route = locked(&self.route);
                if route.trunks.len() > 1 {
                    if let Some(trunk) = route.trunks.pop_front().filter(|trunk| trunk.link.cause().is_none())
                    {
                        route.draining.push(trunk.link);
                    }
                    break;
                }
            }
            tokio::select! {
                () = waiting => {}
                _ = self.until_failed() => {}
            }
        }
        self.link_emptied(old);
        Ok(())
    }

    /// The client ends an old SSH connection once nothing needs it.
    pub(super) fn link_emptied(&self, link: &Link) {
        let drained = self.dialer.is_some()
            && link.moved()
            && link.idle()
            && locked(&self.route).draining.iter().any(|old| std::ptr::eq(&**old, link));
        if drained {
            link.retire();
        }
    }

    /// An SSH connection has ended. An old one that was done is no loss; anything else ends the sync's carrier.
    pub(super) fn link_ended(&self, link: &Link, cause: CarrierError) {
        let regular = {
            let mut route = locked(&self.route);
            let same = |other: &Arc<Link>| std::ptr::eq(&**other, link);
            let older = route.draining.iter().any(same)
                || route.trunks.iter().rev().skip(1).any(|trunk| same(&trunk.link) && trunk.link.moved());
            if route.draining.iter().any(same) {
                let (sent, received) = link.line.traffic();
                route.past = (route.past.0 + sent, route.past.1 + received);
                route.draining.retain(|other| !same(other));
            }
            older && link.farewell()
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
        let route = locked(&self.route);
        route.trunks.iter().map(|trunk| trunk.link.clone()).chain(route.draining.iter().cloned()).collect()
    }

    fn close(&self) {
        locked(&self.route).closing = true;
        self.all_links().iter().for_each(|link| link.retire());
    }

    /// Resolves with the cause once the carrier has ended.
    pub(super) async fn until_failed(&self) -> CarrierError {
        loop {
            let waiting = self.failed.notified();
            tokio::pin!(waiting);
            waiting.as_mut().enable();
            if let Some(cause) = self.failure.get() {
                return cause.clone();
            }
            waiting.await;
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("links", &self.links()).field("traffic", &self.traffic()).finish()
    }
}
