//! The machine's clock as the service counts time. Knows nothing else.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since the epoch, by this machine's clock; 0 before it.
#[must_use]
pub fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
