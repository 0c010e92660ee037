//! The one place where the library asks what time it is.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::core::age::Timestamp;
use crate::core::side::Sides;

/// What time it is by this system's clock, which a test may set wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Clock {
    ahead: i64,
}

impl Clock {
    /// A clock that is `ahead` nanoseconds ahead of the machine's; negative: behind.
    pub fn ahead_by(ahead: i64) -> Clock {
        Clock { ahead }
    }

    /// What it shows.
    pub fn now(self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now =
            Timestamp::from_parts(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos());
        Timestamp(now.0.saturating_add(self.ahead))
    }
}

/// What the hello told of both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    /// What each showed, at the same moment.
    pub(crate) now: Sides<Timestamp>,
    /// How far that may be off, in nanoseconds: half the round trip.
    pub(crate) uncertainty: i64,
}
