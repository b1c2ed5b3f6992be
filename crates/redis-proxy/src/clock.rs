//! The two clocks: one that never steps, for ages and order, and the wall clock, for the `Date` header.

use std::time::{Duration, SystemTime};

#[cfg(not(all(test, feature = "shuttle")))]
use rustix::time::{ClockId, clock_gettime};

#[cfg(all(test, feature = "shuttle"))]
pub(crate) use self::told::{now_ns, pass, start};

/// Nanoseconds since boot, suspend included (`CLOCK_BOOTTIME`, clock_gettime(2)): never steps, never stops.
/// Served by the vDSO, about 25 ns.
#[cfg(not(all(test, feature = "shuttle")))]
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    // Both parts are never negative for this clock.
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// The clock of a schedule: each reading is later than the one before, and time passes when the schedule says so.
#[cfg(all(test, feature = "shuttle"))]
mod told {
    use std::cell::Cell;

    // All threads of a schedule take turns on one thread of the system.
    thread_local! {
        static NOW_NS: Cell<u64> = const { Cell::new(0) };
    }

    pub(crate) fn now_ns() -> u64 {
        pass(1)
    }

    /// Lets time pass, and tells what it is.
    pub(crate) fn pass(ns: u64) -> u64 {
        NOW_NS.set(NOW_NS.get() + ns);
        NOW_NS.get()
    }

    /// Begins anew.
    pub(crate) fn start(at_ns: u64) {
        NOW_NS.set(at_ns);
    }
}

/// The same span in nanoseconds, as long as it lasts less than 584 years.
pub(crate) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// The `Date` of answers (RFC 9110, section 6.6.1), formatted once a second.
#[derive(Debug)]
pub(crate) struct Date {
    text: [u8; 29],
    made_ns: u64,
}

impl Date {
    pub(crate) fn new(now_ns: u64) -> Self {
        let mut date = Date { text: [b' '; 29], made_ns: 0 };
        date.make(now_ns);
        date
    }

    /// The text for an answer made at `now_ns`; at most a second old.
    pub(crate) fn at(&mut self, now_ns: u64) -> &[u8; 29] {
        if now_ns.saturating_sub(self.made_ns) >= 1_000_000_000 {
            self.make(now_ns);
        }
        &self.text
    }

    fn make(&mut self, now_ns: u64) {
        let text = httpdate::fmt_http_date(SystemTime::now());
        if let Ok(text) = text.as_bytes().try_into() {
            self.text = text;
        }
        // Second boundaries of the wall clock are not ours: the text is at most one second behind.
        self.made_ns = now_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_moves_forward() {
        let first = now_ns();
        assert!(first > 0);
        assert!(now_ns() >= first);
    }

    #[test]
    fn a_date_is_made_anew_after_a_second() {
        let mut date = Date::new(5);
        let made = date.made_ns;
        date.at(1_000_000_004);
        assert_eq!(date.made_ns, made);
        date.at(1_000_000_005);
        assert_eq!(date.made_ns, 1_000_000_005);
        assert!(date.at(1_000_000_005).ends_with(b" GMT"));
    }
}
