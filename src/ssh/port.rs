//! The sending end of one russh channel, the same for client and server.
//!
//! Every call only puts one message into the session's bounded queue: a call that is dropped half-way has either sent all or
//! nothing, and it fails as soon as the session has ended. russh's own windows are not waited for; ours are smaller.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;
use futures_util::future::join_all;
use russh::{ChannelId, ChannelWriteHalf, Disconnect, client, server};

use super::error::CarrierError;
use super::link::Link;
use super::visitor::Visitor;

/// See the module.
pub(super) enum Port {
    /// A channel of the client's session.
    Client(Arc<client::Handle<Visitor>>, ChannelWriteHalf<client::Msg>),
    /// A channel of the server's session.
    Server(server::Handle, ChannelId),
}

fn gone<E>(_: E) -> CarrierError {
    CarrierError::lost("the session ended")
}

impl Port {
    /// This end's SSH number of the channel.
    pub(super) fn number(&self) -> u32 {
        match self {
            Self::Client(_, half) => half.id().number(),
            Self::Server(_, id) => id.number(),
        }
    }

    /// Sends at most one packet.
    pub(super) async fn data(&self, bytes: Bytes) -> Result<(), CarrierError> {
        match self {
            Self::Client(handle, half) => handle.data(half.id(), bytes).await.map_err(gone),
            Self::Server(handle, id) => handle.data(*id, bytes).await.map_err(gone),
        }
    }

    /// Asks for a subsystem; only the client does.
    pub(super) async fn subsystem(&self, name: &str) -> Result<(), CarrierError> {
        match self {
            Self::Client(_, half) => half.request_subsystem(false, name).await.map_err(gone),
            Self::Server(..) => Err(CarrierError::Protocol("only the client opens channels")),
        }
    }

    /// Sends the end mark.
    pub(super) async fn eof(&self) -> Result<(), CarrierError> {
        match self {
            Self::Client(_, half) => half.eof().await.map_err(gone),
            Self::Server(handle, id) => handle.eof(*id).await.map_err(gone),
        }
    }

    /// Closes the channel.
    pub(super) async fn close(&self) -> Result<(), CarrierError> {
        match self {
            Self::Client(_, half) => half.close().await.map_err(gone),
            Self::Server(handle, id) => handle.close(*id).await.map_err(gone),
        }
    }

    /// Ends the whole session.
    pub(super) async fn disconnect(&self) {
        let reason = Disconnect::ByApplication;
        let _ = match self {
            Self::Client(handle, _) => handle.disconnect(reason, "done", "").await,
            Self::Server(handle, _) => handle.disconnect(reason, "done".into(), String::new()).await,
        };
    }

    /// Closes the channel without waiting; where the session's queue is full, the link's writer does it.
    pub(super) fn close_soon(self, link: &Link) {
        let done = {
            let closing = pin!(self.close());
            closing.poll(&mut Context::from_waker(Waker::noop())).is_ready()
        };
        if !done {
            link.outbox.post_close(self);
        }
    }
}

/// Writes what the link has to say until the connection ends. Owned by the runtime; ends with the link.
pub(super) async fn write_link(link: Arc<Link>, port: Port) {
    while link.cause().is_none() {
        let said = match link.next_packet() {
            Some(packet) => patiently(&link, port.data(packet)).await,
            None => {
                let (closing, farewell) = link.outbox.take_closing();
                let mut said = !closing.is_empty();
                // All at once: where many wait for the session, one turn each would let channels be opened faster than closed.
                let closed = join_all(closing.iter().map(Port::close));
                said &= patiently(&link, async { closed.await.into_iter().collect() }).await;
                if farewell && !said {
                    port.disconnect().await;
                    let _ = tokio::time::timeout(PATIENCE, link.until_ended()).await;
                    break;
                }
                said
            }
        };
        if !said {
            link.outbox.wake.notified().await;
        }
    }
    link.fail(CarrierError::Closed);
}

/// How long a farewell may take against a peer that does not read.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// Waits for the session to take something. A peer that blocks the session cannot hold up a farewell for ever.
async fn patiently(link: &Link, sending: impl Future<Output = Result<(), CarrierError>>) -> bool {
    let mut sending = pin!(sending);
    loop {
        tokio::select! {
            sent = &mut sending => return sent.is_ok(),
            _ = link.until_ended() => return true,
            () = tokio::time::sleep(PATIENCE) => {
                if link.farewell() {
                    link.fail(CarrierError::Closed);
                }
            }
        }
    }
}
