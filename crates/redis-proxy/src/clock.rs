//! The two clocks: one that never steps, for ages and order, and the wall clock, for the `Date` header.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// A span in nanoseconds, as long as it lasts less than 584 years.
pub(crate) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// What the answers of all workers have in common: the second that they are dated with, and whether clients are invited
/// to stay. One word, so that an answer costs one look. What one worker has told no other takes back.
#[derive(Debug, Default)]
pub(crate) struct Notice(AtomicU64);

/// Of a notice: nearly all places are taken. The rest is the second since the epoch.
const CROWDED: u64 = 1;

impl Notice {
    /// Notes whether `is_crowded` as it is now, whoever else notes the same.
    pub(crate) fn crowd(&self, is_crowded: impl Fn() -> bool) {
        loop {
            let crowded = is_crowded();
            match crowded {
                true => self.0.fetch_or(CROWDED, Ordering::AcqRel),
                false => self.0.fetch_and(!CROWDED, Ordering::AcqRel),
            };
            // Whoever changed it meanwhile may have noted it before us.
            if is_crowded() == crowded {
                return;
            }
        }
    }

    /// The notice, and the nanoseconds that are left of its second.
    fn now(&self) -> (u64, u64) {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (self.tell(since_epoch.as_secs()), 1_000_000_000 - u64::from(since_epoch.subsec_nanos()))
    }

    /// `read` was read from the clock. Another thread may have told the next second meanwhile; more than that is a clock
    /// that was set back, which all workers follow.
    fn tell(&self, read: u64) -> u64 {
        let replace = |notice: u64| {
            let told = notice >> 1;
            (read > told || read + 1 < told).then_some(read << 1 | notice & CROWDED)
        };
        // AcqRel and Acquire: pairs with `told`. Who has seen an answer of this second asks for no earlier one.
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, replace);
        self.told()
    }

    fn told(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// The `Date` of one worker's answers (RFC 9110, section 6.6.1), formatted once a second.
#[derive(Debug)]
pub(crate) struct Date {
    notice: Arc<Notice>,
    told: u64,
    /// When the second ends, on the clock that never steps.
    until_ns: u64,
}

impl Date {
    pub(crate) fn new(notice: Arc<Notice>) -> Self {
        Date { notice, told: 0, until_ns: 0 }
    }

    /// Whether what was told last is still true of an answer made at `now_ns`.
    #[inline]
    pub(crate) fn is_at(&self, now_ns: u64) -> bool {
        now_ns < self.until_ns && self.notice.told() == self.told
    }

    /// The text for answers made from `now_ns` on, and whether it is crowded.
    pub(crate) fn make(&mut self, now_ns: u64) -> (String, bool) {
        let (told, left_ns) = self.notice.now();
        self.told = told;
        self.until_ns = now_ns.saturating_add(left_ns);
        (httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(told >> 1)), told & CROWDED != 0)
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
    fn a_date_is_made_anew_when_its_second_ends() {
        let mut date = Date::new(Arc::default());
        assert!(!date.is_at(0));
        assert!(date.make(5).0.ends_with(" GMT"));
        let until_ns = date.until_ns;
        assert!((6..=1_000_000_005).contains(&until_ns), "{until_ns}");
        assert!(date.is_at(until_ns - 1) && !date.is_at(until_ns));
    }

    #[test]
    fn a_worker_shows_no_second_before_the_one_that_another_has_shown() {
        let notice = Arc::new(Notice::default());
        let mut date = Date::new(notice.clone());
        date.make(0);
        // Another worker was a moment later at the clock.
        let next = (date.told >> 1) + 1;
        notice.tell(next);
        assert!(!date.is_at(0));
        date.make(0);
        assert!(date.told >> 1 >= next);
        // A clock that is set back is followed, by all.
        assert_eq!([7, 6, 8].map(|read| notice.tell(read) >> 1), [7, 7, 8]);
    }

    #[test]
    fn a_crowd_is_told_with_the_date() {
        let notice = Arc::new(Notice::default());
        let mut date = Date::new(notice.clone());
        assert!(!date.make(0).1);
        notice.crowd(|| true);
        assert!(!date.is_at(0) && date.make(0).1);
        notice.crowd(|| false);
        assert!(!date.is_at(0) && !date.make(0).1);
    }
}
