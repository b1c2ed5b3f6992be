//! A line of the log that strangers can bring about as often as they like: told now and then.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::now_ns;

/// From one such line to the next, at the least.
const PAUSE_NS: u64 = 10_000_000_000;

/// Where one such line stands in a source.
pub(crate) struct RareLine {
    /// No line before this.
    next_ns: AtomicU64,
    /// Times since the last line that were not told.
    silent: AtomicU64,
}

impl RareLine {
    pub(crate) const fn new() -> Self {
        RareLine { next_ns: AtomicU64::new(0), silent: AtomicU64::new(0) }
    }

    /// Tells it, with how often it was not told meanwhile, or counts it. Those who come at the same moment may tell it twice.
    pub(crate) fn tell(&self, line: impl FnOnce(u64)) {
        self.tell_at(now_ns(), line);
    }

    fn tell_at(&self, now_ns: u64, line: impl FnOnce(u64)) {
        if now_ns < self.next_ns.load(Ordering::Relaxed) {
            self.silent.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.next_ns.store(now_ns + PAUSE_NS, Ordering::Relaxed);
        line(self.silent.swap(0, Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_once_in_ten_seconds_with_how_often_it_was_not() {
        let line = RareLine::new();
        let told = |now_ns| {
            let mut told = None;
            line.tell_at(now_ns, |silent| told = Some(silent));
            told
        };
        assert_eq!([told(1), told(2), told(PAUSE_NS), told(PAUSE_NS + 1)], [Some(0), None, None, Some(2)]);
        assert_eq!(told(3 * PAUSE_NS), Some(0));
    }
}
