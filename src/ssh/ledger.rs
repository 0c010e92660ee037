//! The credit that this end grants: what it holds of the peer's bytes on all channels, and when it acknowledges.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::error::CarrierError;
use super::flow::Windows;
use super::frame::MAX_BODY;
use super::lane::Lane;
use super::wait::locked;

/// See the module.
pub(super) struct Ledger {
    windows: Windows,
    /// Received and not acknowledged.
    held: AtomicU32,
    /// Consumed and not acknowledged.
    consumed: AtomicU32,
    /// Lanes on which something was consumed; none any more once the connection has ended: they keep the link, which keeps this.
    listed: Mutex<Option<Vec<Arc<Lane>>>>,
    /// Whether it is time to acknowledge.
    due: AtomicBool,
}

impl Ledger {
    pub(super) fn new(windows: Windows) -> Self {
        Self {
            windows,
            held: AtomicU32::new(0),
            consumed: AtomicU32::new(0),
            listed: Mutex::new(Some(Vec::new())),
            due: AtomicBool::new(false),
        }
    }

    /// What this end allows.
    pub(super) fn windows(&self) -> Windows {
        self.windows
    }

    /// Books a packet that came in. More than was granted ends the connection: this bounds the memory of what nobody has taken yet.
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

    /// The connection has ended: nothing is acknowledged any more.
    pub(super) fn end(&self) {
        let listed = locked(&self.listed).take();
        drop(listed);
    }

    /// Bytes received and not yet acknowledged.
    pub(super) fn held(&self) -> u32 {
        self.held.load(Ordering::SeqCst)
    }

    /// Notes consumed bytes; `true` when it has become time to acknowledge: once a quarter of a window is consumed, the
    /// connection's or a channel's. However many channels there are, the peer therefore lacks at most a quarter, which
    /// never stops it: it waits only for what is not yet consumed.
    pub(super) fn note(&self, lane: &Arc<Lane>, bytes: u32, lane_so_far: u32) -> bool {
        if !lane.listed.swap(true, Ordering::SeqCst) {
            locked(&self.listed).iter_mut().for_each(|listed| listed.push(lane.clone()));
        }
        let so_far = self.consumed.fetch_add(bytes, Ordering::SeqCst).saturating_add(bytes);
        let due = so_far >= self.windows.all / 4 || lane_so_far >= self.windows.channel / 4;
        due && !self.due.swap(true, Ordering::SeqCst)
    }

    /// What is to be acknowledged now, by channel; empty while it is not time. At most half a frame, the rest the next time.
    pub(super) fn take_due(&self) -> Vec<(u32, u32)> {
        if !self.due.swap(false, Ordering::SeqCst) {
            return Vec::new();
        }
        let lanes = {
            let mut listed = locked(&self.listed);
            let Some(listed) = &mut *listed else { return Vec::new() };
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
                list.push((lane.id(), owed));
            }
        }
        let less = |now: u32| Some(now.saturating_sub(total));
        let _ = self.consumed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        list
    }
}
