//! One sync's carrier, whichever SSH connection carries it at the moment.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use russh::client;

use super::channel::Channel;
use super::client::Dialer;
use super::error::{CarrierError, ConnectError};
use super::flow::charge;
use super::frame::{MAX_FIRST, MAX_MESSAGE};
use super::link::Link;
use super::mailbox::Mail;
use super::opening::Opening;
use super::pace::Pace;
use super::trunk::{Inner, Trunk};
use super::visitor::Visitor;

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

impl Connection {
    pub(super) fn new(trunk: Trunk, dialer: Option<Arc<Dialer>>) -> Self {
        Self(Arc::new(Held(Inner::new(trunk, dialer))))
    }

    fn inner(&self) -> &Arc<Inner> {
        &self.0.0
    }

    /// Waits until the server has said that it serves this client; at the server there is nothing to wait for.
    ///
    /// # Errors
    /// It does not, or said nothing for as long as connecting may take.
    pub async fn served(&self) -> Result<(), ConnectError> {
        let inner = self.inner();
        let Some(dialer) = &inner.dialer else { return Ok(()) };
        match inner.oldest() {
            Ok(link) => dialer.served(&link).await,
            Err(cause) => Err(ConnectError::Protocol(cause.to_string())),
        }
    }

    /// Opens a channel; at the client only. The server gets it from [`accept`](Self::accept) with the first bytes sent.
    ///
    /// # Errors
    /// The server refused it, the connection ended, or this is the server's end. May be dropped while it waits.
    pub async fn open(&self) -> Result<Channel, CarrierError> {
        self.ask(&[])?.wait().await
    }

    /// Asks for a channel, for any task to wait for: channels are opened in the order of these calls. `first`, at most
    /// 64 bytes, is sent along with the request, so that the server need not wait for the channel to be open.
    ///
    /// # Errors
    /// `first` is too long, the connection ended, or this is the server's end.
    pub fn ask(&self, first: &[u8]) -> Result<Opening, CarrierError> {
        self.opening(first, Opening::new)
    }

    /// As [`ask`](Self::ask), for a channel on which this end says nothing more than `first`. It costs less: while the server
    /// answers earlier requests, this one goes out with its next answer.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn ask_to_listen(&self, first: &[u8]) -> Result<Opening, CarrierError> {
        self.opening(first, Opening::listening)
    }

    fn opening(
        &self,
        first: &[u8],
        new: impl FnOnce(Arc<Link>, Arc<client::Handle<Visitor>>, &[u8]) -> Opening,
    ) -> Result<Opening, CarrierError> {
        if first.len() > MAX_FIRST {
            return Err(CarrierError::TooLarge(first.len()));
        }
        let inner = self.inner();
        inner.recycle_if_due();
        let (link, handle) = inner.newest_to_open()?;
        Ok(new(link, handle, first))
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
        let (inner, cost, mut message) = (self.inner(), charge(message.len()), message);
        loop {
            let link = inner.newest()?.link;
            let Ok(permit) = link.message_credit.acquire_many(cost).await else {
                match Arc::ptr_eq(&link, &inner.newest()?.link) {
                    true => return Err(link.cause().unwrap_or(CarrierError::Closed)),
                    false => continue,
                }
            };
            // A successor may have taken over meanwhile: the message belongs there.
            match inner.post_message(&link, message) {
                Ok(()) => {
                    permit.forget();
                    return Ok(());
                }
                Err(back) => message = back,
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
            let link = inner.oldest()?;
            if link.mailbox.drained() {
                inner.move_on().await?;
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

    /// From now on this end sends at most so many bytes a second on the channels opened from now on, all together. Control
    /// messages are not held up. Only the first call counts.
    pub fn limit(&self, bytes_a_second: u64) {
        let _ = self.inner().pace.set(Arc::new(Pace::new(bytes_a_second)));
    }

    /// Waits until so many bytes may pass within the [`limit`](Self::limit), beside what goes on channels.
    pub async fn pace(&self, bytes: usize) {
        if let Some(pace) = self.inner().pace.get().cloned() {
            pace.pass(bytes).await;
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
        self.inner().traffic()
    }

    /// How long the server took to answer a request that it answers at once, as part of the login; at the client only.
    pub fn round_trip(&self) -> Option<Duration> {
        self.inner().newest().ok()?.link.round_trip.get().copied()
    }

    /// A number that changes whenever the peer gives a sign of life: a control message, an acknowledgement, data of a
    /// channel. What SSH itself exchanges to keep a connection does not count: it says nothing about the peer's work.
    pub fn heard(&self) -> u64 {
        self.inner().heard()
    }

    /// Bytes received on channels whose consumption the peer has not been told of; at most the window that this end announced,
    /// for each SSH connection.
    pub fn unconsumed(&self) -> u64 {
        self.inner().held()
    }

    /// How many SSH connections carry the sync at the moment.
    pub fn links(&self) -> usize {
        self.inner().alive()
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("links", &self.links()).field("traffic", &self.traffic()).finish()
    }
}
