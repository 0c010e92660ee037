//! The one place where the library asks what time it is.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::core::age::Timestamp;

/// This system's clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_parts(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
}
