//! Signs of life: gives this side's while the other one has to wait for it, and misses the other side's.
//!
//! A side that waits for the other says nothing, a side that is busy says [`Message::Alive`] now and then. So an end that
//! has died, or waits for what never comes, is told from one that scans a large disk. Where both wait for each other,
//! both give up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::AbortHandle;

use super::error::SessionError;
use crate::protocol::codec;
use crate::protocol::message::Message;
use crate::ssh::Connection;

/// How often a busy side says that it is alive: often enough for the shortest patience, a second.
const BEAT: Duration = Duration::from_millis(400);
/// In how many steps silence is counted. A process that was stopped sees one step pass at once, never all.
const STEPS: u32 = 4;

/// One side's view of both pulses. Ends with the control channel that it belongs to.
pub(crate) struct Pulse {
    counts: Arc<Counts>,
    /// None waits for ever.
    patience: Option<Duration>,
    /// The other side, for messages.
    peer: String,
    heart: AbortHandle,
}

#[derive(Default)]
struct Counts {
    /// Waits for the other side that are under way.
    waiting: AtomicUsize,
    /// Pieces of work that go on whether somebody waits or not.
    working: AtomicUsize,
}

impl Counts {
    fn busy(&self) -> bool {
        self.working.load(Ordering::Relaxed) > 0 || self.waiting.load(Ordering::Relaxed) == 0
    }
}

/// As long as it is held, this side counts as waiting, or as working.
pub(crate) struct Held(Arc<Counts>, fn(&Counts) -> &AtomicUsize);

impl Held {
    fn take(counts: &Arc<Counts>, which: fn(&Counts) -> &AtomicUsize) -> Held {
        which(counts).fetch_add(1, Ordering::Relaxed);
        Held(counts.clone(), which)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.heart.abort();
    }
}

impl Pulse {
    /// Begins to beat on `connection`. `patience`: how long `peer` may be silent; [`Duration::MAX`]: for ever.
    pub(crate) fn new(connection: Connection, patience: Duration, peer: &str) -> Pulse {
        let counts = Arc::new(Counts::default());
        let heart = tokio::spawn(beat(connection, counts.clone())).abort_handle();
        Pulse { counts, patience: (patience != Duration::MAX).then_some(patience), peer: peer.into(), heart }
    }

    /// From now on this side waits for the other one, and does nothing that holds that up.
    pub(crate) fn waiting(&self) -> Held {
        Held::take(&self.counts, |counts| &counts.waiting)
    }

    /// From now on this side works, even if it waits at the same time.
    pub(crate) fn working(&self) -> Held {
        Held::take(&self.counts, |counts| &counts.working)
    }

    /// Resolves once the other side has given no sign of life for as long as it may.
    pub(crate) async fn silence(&self, connection: &Connection) -> SessionError {
        let Some(patience) = self.patience else { return std::future::pending().await };
        let (mut heard, mut silent) = (connection.heard(), 0);
        while silent < STEPS {
            tokio::time::sleep(patience / STEPS).await;
            let now = connection.heard();
            silent = if now == heard { silent + 1 } else { 0 };
            heard = now;
        }
        SessionError::Timeout(format!(
            "gave up: {} gave no sign of life for {} s; see whether it still runs, or raise --timeout",
            self.peer,
            patience.as_secs()
        ))
    }
}

/// Says that this side is alive whenever it has been busy at the moment of a beat.
async fn beat(connection: Connection, counts: Arc<Counts>) {
    let Ok(alive) = codec::encode(&Message::Alive).map(Bytes::from) else { return };
    loop {
        tokio::time::sleep(BEAT).await;
        if counts.busy() && connection.send(alive.clone()).await.is_err() {
            return;
        }
    }
}
