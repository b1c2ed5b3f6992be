//! The one clock of a history: of the test's own process, for writers and readers alike.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since boot, suspend included (`CLOCK_BOOTTIME`), as the program itself reads them.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    // Both parts are never negative for this clock.
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// A span in nanoseconds, as long as it lasts less than 584 years.
pub(crate) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
