//! The channels that a client has opened, on their way to being of use.

use std::collections::HashMap;
use std::sync::Arc;

use super::lane::Lane;

/// How far a channel is.
pub(super) enum Slot {
    Opened,
    /// The subsystem was asked for.
    Started,
    Link,
    /// A file's, on which nothing was said yet.
    Silent(Arc<Lane>),
    File(Arc<Lane>),
}

/// Channels by the server's number, as many as are allowed.
pub(super) struct Slots {
    slots: HashMap<u32, Slot>,
    /// Most at once, and in all.
    caps: (usize, u64),
    opened: u64,
}

impl Slots {
    pub(super) fn new(caps: (usize, u64)) -> Self {
        Self { slots: HashMap::new(), caps, opened: 0 }
    }

    /// Counts one more channel; `false` where there is no room for it.
    pub(super) fn admit(&mut self) -> bool {
        let (most, ever) = self.caps;
        // One more than the cap: the link channel.
        let room = self.slots.len() <= most && self.opened <= ever;
        self.opened += u64::from(room);
        room
    }

    pub(super) fn set(&mut self, number: u32, slot: Slot) {
        self.slots.insert(number, slot);
    }

    pub(super) fn get(&self, number: u32) -> Option<&Slot> {
        self.slots.get(&number)
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<Slot> {
        self.slots.remove(&number)
    }
}
