//! A fresh SSH connection behind the same [`Connection`](super::Connection).
//!
//! russh keeps some kilobytes of every channel that was opened through its handle and closed first by this end, and exchanges
//! keys anew after so many bytes; a server lets only so many channels be opened. So the client replaces the SSH connection
//! from time to time. Over the authenticated link channel it announces a key made for this alone; the server lets that key
//! in once, into this sync and no other, and nobody is asked for a passphrase or a touch again. Each end then marks the end
//! of its control messages on the old link and goes on with the new one. New channels open only on the newest; an old one is
//! closed when its last channel is.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use russh::keys::{Algorithm, PrivateKey, PublicKey};

use super::client::Dialer;
use super::error::{CarrierError, ConnectError};
use super::frame::Frame;
use super::login::Login;
use super::trunk::{Inner, Trunk};

/// The client makes no successor while this many SSH connections still carry the sync.
const CLIENT_LINKS: usize = 3;
/// The server ends a client that has this many: each brings windows of its own.
const SERVER_LINKS: usize = 8;

/// The server's list of keys that may come in once, as the next SSH connection of a sync.
#[derive(Default)]
pub(super) struct Successors(Mutex<HashMap<Vec<u8>, Weak<Inner>>>);

impl Successors {
    /// Expects a key (SSH wire form). A sync has at most one outstanding; the entries of ended syncs go.
    pub(super) fn expect(&self, key: &[u8], sync: &Arc<Inner>) -> Result<(), CarrierError> {
        const BAD: CarrierError = CarrierError::Protocol("a successor key that is not ed25519");
        let key = PublicKey::from_bytes(key).map_err(|_| BAD)?;
        if key.algorithm() != Algorithm::Ed25519 {
            return Err(BAD);
        }
        if sync.alive() >= SERVER_LINKS {
            return Err(CarrierError::Protocol("too many SSH connections for one sync"));
        }
        let bytes = key.to_bytes().map_err(|_| BAD)?;
        let mut expected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = Arc::downgrade(sync);
        expected.retain(|_, other| other.strong_count() > 0 && !other.ptr_eq(&own));
        expected.insert(bytes, own);
        Ok(())
    }

    /// Whether a sync expects this key.
    pub(super) fn expects(&self, key: &PublicKey) -> bool {
        let expected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        key.to_bytes().is_ok_and(|bytes| expected.contains_key(&bytes))
    }

    /// The sync that expects this key, once.
    pub(super) fn take(&self, key: &PublicKey) -> Option<Arc<Inner>> {
        let bytes = key.to_bytes().ok()?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&bytes)?.upgrade()
    }
}

impl Inner {
    /// Starts making a successor where the newest SSH connection has carried enough; at most one at a time.
    pub(super) fn recycle_if_due(self: &Arc<Self>) {
        let Some(dialer) = self.dialer.clone().filter(|dialer| dialer.flow().recycle_channels.is_some())
        else {
            return;
        };
        let Ok(Trunk { link, .. }) = self.newest() else { return };
        let (sent, received) = link.line.traffic();
        let due = link.wear() >= self.recycle_at.load(Ordering::Relaxed)
            || sent + received >= dialer.flow().recycle_bytes;
        if due && self.alive() < CLIENT_LINKS && !self.recycling.swap(true, Ordering::SeqCst) {
            tokio::spawn(recycle(Arc::downgrade(self), dialer));
        }
    }
}

/// One attempt. A failed one is repeated later: the old connection still works.
async fn recycle(sync: Weak<Inner>, dialer: Arc<Dialer>) {
    let made = tokio::select! {
        made = succeed(&sync, &dialer) => made,
        () = gone(&sync) => Ok(()),
    };
    let Some(sync) = sync.upgrade() else { return };
    let often = dialer.flow().recycle_channels.unwrap_or(u64::MAX);
    let worn = sync.newest().map_or(0, |newest| newest.link.wear());
    let next = if made.is_ok() { often } else { worn + often.div_ceil(16) };
    sync.recycle_at.store(next, Ordering::Relaxed);
    sync.recycling.store(false, Ordering::SeqCst);
}

/// Resolves once nobody holds the connection any more.
async fn gone(sync: &Weak<Inner>) {
    while let Some(held) = sync.upgrade() {
        tokio::select! {
            _ = held.until_failed() => return,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

async fn succeed(sync: &Weak<Inner>, dialer: &Dialer) -> Result<(), ConnectError> {
    let failed = |error: &dyn std::fmt::Display| ConnectError::Protocol(error.to_string());
    let mut seed = [0u8; 32];
    getrandom::fill(&mut seed).map_err(|error| failed(&error))?;
    let pair = russh::keys::ssh_key::private::Ed25519Keypair::from_seed(&seed);
    let key = PrivateKey::from(pair);
    let wire = key.public_key().to_bytes().map_err(|error| failed(&error))?;
    let old = sync
        .upgrade()
        .ok_or_else(|| failed(&CarrierError::Closed))?
        .newest()
        .map_err(|error| failed(&error))?;
    old.link.outbox.post(Frame::Successor(Bytes::from(wire)));
    tokio::select! {
        () = old.link.expected.notified() => {}
        cause = old.link.until_ended() => return Err(failed(&cause)),
    }
    let trunk = dialer.set_up(Login::Keys(vec![Arc::new(key)])).await?;
    dialer.served(&trunk.link).await?;
    match sync.upgrade() {
        Some(sync) => sync.attach(trunk),
        None => trunk.link.outbox.say_farewell(),
    }
    Ok(())
}
