//! The clock of this crate: the only place that reads it.
//!
//! It is monotonic and starts with the process. A read of a connection takes the time once; what the read leads to (idle time, age
//! of a frame, end of the turn) uses that time.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Time since this process first asked.
pub(crate) fn uptime() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// [`uptime`] in milliseconds.
pub(crate) fn uptime_ms() -> u64 {
    millis(uptime())
}

/// A duration in whole milliseconds; `u64::MAX` if it is longer.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
