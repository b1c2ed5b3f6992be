//! The commands and requests that took longest lately, as an operator asks for them. Nothing secret is kept.
//!
//! Whoever serves a client measures what is not answered from memory at once, and hands in what [is slow](SlowLog::is_slow): so a hit
//! costs nothing, and what is quick costs those who measure two readings of a clock that they have anyway.

mod arguments;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sync::Mutex;

pub(crate) use self::arguments::{cut_arguments, shown_arguments};
use crate::clock::nanos;

/// Commands that are kept.
const MOST: usize = 128;

/// What is kept of a process.
#[derive(Debug)]
pub(crate) struct SlowLog {
    /// `u64::MAX` keeps nothing.
    threshold_ns: AtomicU64,
    /// The latest first. A short lock, of those who are slow and those who look.
    kept: Mutex<VecDeque<SlowCommand>>,
    last_id: AtomicU64,
}

/// Where its time went, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TimeSpent {
    /// Until it was on its way: behind others of its client, or for a way.
    pub(crate) queued_ns: u64,
    /// From then on until its answer was here.
    pub(crate) redis_ns: u64,
    /// Until that was with the kernel; none where that is not measured.
    pub(crate) delivered_ns: Option<u64>,
}

/// A command that was slow.
#[derive(Clone, Debug)]
pub(crate) struct SlowCommand {
    /// From 1 on, one more each time.
    pub(crate) id: u64,
    /// When it was answered, since the epoch.
    pub(crate) at_ms: u64,
    pub(crate) spent: TimeSpent,
    /// The client's address; `http` for a request of the data port.
    pub(crate) client: String,
    /// Whose it was, and in which database; none for the proxy's own, as over HTTP.
    pub(crate) owner: Option<(Box<[u8]>, u32)>,
    /// Each cut, and without secrets.
    pub(crate) arguments: Vec<Box<[u8]>>,
}

impl TimeSpent {
    pub(crate) fn total_ns(&self) -> u64 {
        self.queued_ns + self.redis_ns + self.delivered_ns.unwrap_or(0)
    }
}

impl SlowLog {
    /// For what takes `threshold` or longer; zero is never.
    pub(crate) fn new(threshold: Duration) -> Self {
        let log =
            SlowLog { threshold_ns: AtomicU64::new(0), kept: Mutex::default(), last_id: AtomicU64::new(0) };
        log.set_threshold(threshold);
        log
    }

    /// From now on for what takes `threshold` or longer. What is kept stays.
    pub(crate) fn set_threshold(&self, threshold: Duration) {
        let threshold_ns = match nanos(threshold) {
            0 => u64::MAX,
            threshold => threshold,
        };
        self.threshold_ns.store(threshold_ns, Ordering::Relaxed);
    }

    /// Whether anything is kept.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.threshold_ns.load(Ordering::Relaxed) != u64::MAX
    }

    /// Whether what has taken so long is to be kept.
    #[inline]
    pub(crate) fn is_slow(&self, taken_ns: u64) -> bool {
        taken_ns >= self.threshold_ns.load(Ordering::Relaxed)
    }

    /// Keeps a command, in place of the oldest of too many.
    pub(crate) fn keep(
        &self,
        spent: TimeSpent,
        client: String,
        owner: Option<(Box<[u8]>, u32)>,
        arguments: Vec<Box<[u8]>>,
    ) {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        let mut kept = self.kept.lock();
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        kept.truncate(MOST - 1);
        kept.push_front(SlowCommand { id, at_ms, spent, client, owner, arguments });
    }

    /// Those that `is_wanted`, `most` of them, the latest first.
    pub(crate) fn latest(&self, most: usize, is_wanted: impl Fn(&SlowCommand) -> bool) -> Vec<SlowCommand> {
        self.kept.lock().iter().filter(|one| is_wanted(one)).take(most).cloned().collect()
    }

    /// Forgets those that `is_named`.
    pub(crate) fn forget(&self, is_named: impl Fn(&SlowCommand) -> bool) {
        self.kept.lock().retain(|one| !is_named(one));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_kept_and_few_of_them() {
        let log = SlowLog::new(Duration::from_millis(10));
        assert!(log.is_on() && log.is_slow(10_000_000) && !log.is_slow(9_999_999));
        for number in 0..200_u8 {
            let owner = (number % 2 == 0).then(|| (b"alice"[..].into(), 0));
            log.keep(TimeSpent::default(), "client".into(), owner, vec![[number].into()]);
        }
        let all = log.latest(usize::MAX, |_| true);
        assert_eq!((all.len(), all[0].id, all[127].id), (128, 200, 73));
        let hers = |one: &SlowCommand| one.owner.is_some();
        assert_eq!(log.latest(2, hers).iter().map(|one| one.id).collect::<Vec<_>>(), [199, 197]);
        log.forget(hers);
        assert_eq!((log.latest(500, hers).len(), log.latest(500, |_| true).len()), (0, 64));
        let off = SlowLog::new(Duration::ZERO);
        assert!(!off.is_on() && !off.is_slow(u64::MAX - 1));
    }
}
