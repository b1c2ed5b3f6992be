//! The byte budget: what an entry is charged, and the loop that holds the budget against the resident size.
//!
//! An allocator keeps holes when the sizes of values shift, so a sum of sizes is not what the process holds. The charge
//! is therefore only the first estimate; the truth is the resident size that the caller reads, and the loop moves the
//! limit of the charges so that the resident size stays at budget + baseline.

use sync::atomic::{AtomicU64, Ordering};

use crate::entry::ALLOCATION_OVERHEAD;

/// Bytes that an allocator spends on a request of `bytes`: glibc's rule, the densest of those in use. It adds a word,
/// rounds to 16 with a minimum of 32, and gives requests of 128 KiB and more whole pages.
pub(crate) fn size_class(bytes: usize) -> u64 {
    let chunk = (bytes as u64 + 8).next_multiple_of(16).max(32);
    if chunk < 128 * 1024 { chunk } else { (chunk + 8).next_multiple_of(4096) }
}

/// What an entry with `payload` bytes of key and value is charged. Its share of the list and of the index, 42 bytes on
/// average, is charged where these grow.
pub(crate) fn charge(payload: usize) -> u64 {
    size_class(ALLOCATION_OVERHEAD + payload)
}

/// What an answer beside the first of its key is charged, with its share of the table of those.
pub(crate) fn charge_beside(payload: usize) -> u64 {
    charge(payload) + 64
}

/// The least that an entry takes, roughly: its allocation and its share of the list and of the index.
const ENTRY_LEAST: u64 = 96;

/// How many entries there may be at most, as far as the limits tell. The index is cut for so many: tables for what will never
/// come would be thousands of small ones, which lie between the entries of their size and hold whole pages of freed ones.
pub(crate) fn most_entries(capacity: usize, bytes: Option<u64>) -> usize {
    let most = bytes.map_or(u64::MAX, |bytes| bytes / ENTRY_LEAST);
    usize::try_from(most).unwrap_or(usize::MAX).min(capacity)
}

/// The budget as asked for and as it is in force. Every field stands alone, so all accesses are relaxed.
pub(crate) struct ByteLimit {
    /// [`UNBOUNDED`] if none was asked for.
    asked: AtomicU64,
    effective: AtomicU64,
    resident: AtomicU64,
}

const UNBOUNDED: u64 = u64::MAX;

impl ByteLimit {
    pub(crate) fn new(bytes: Option<u64>) -> ByteLimit {
        let asked = bytes.unwrap_or(UNBOUNDED);
        ByteLimit {
            asked: AtomicU64::new(asked),
            effective: AtomicU64::new(asked),
            resident: AtomicU64::new(0),
        }
    }

    pub(crate) fn set(&self, bytes: Option<u64>) {
        let asked = bytes.unwrap_or(UNBOUNDED);
        self.asked.store(asked, Ordering::Relaxed);
        self.effective.store(asked, Ordering::Relaxed);
    }

    /// The limit of the charges that is in force; the greatest number if there is none.
    pub(crate) fn effective(&self) -> u64 {
        self.effective.load(Ordering::Relaxed)
    }

    pub(crate) fn is_bounded(&self) -> bool {
        self.asked.load(Ordering::Relaxed) != UNBOUNDED
    }

    pub(crate) fn half(&self) -> u64 {
        self.asked.load(Ordering::Relaxed) / 2
    }

    /// The limit of the charges while so many bytes are in flight.
    pub(crate) fn left_by(&self, in_flight: u64) -> u64 {
        let effective = self.effective();
        if in_flight == 0 { effective } else { effective.saturating_sub(in_flight).max(self.half()) }
    }

    /// For statistics: asked, effective (0 if unbounded) and the resident size last seen.
    pub(crate) fn gauges(&self) -> (u64, u64, u64) {
        let bounded = |bytes: u64| if bytes == UNBOUNDED { 0 } else { bytes };
        let resident = self.resident.load(Ordering::Relaxed);
        (bounded(self.asked.load(Ordering::Relaxed)), bounded(self.effective()), resident)
    }

    /// Moves the limit after a look at the resident size, with `accounted` bytes charged now.
    ///
    /// What is over leaves at once, from what is charged now and not from a limit that may be far above it. What is under comes back by an
    /// eighth each time: an allocator gives memory back late, and a limit that follows it up and down would swing.
    pub(crate) fn observe(&self, resident: u64, baseline: u64, accounted: u64) {
        self.resident.store(resident, Ordering::Relaxed);
        let asked = self.asked.load(Ordering::Relaxed);
        if asked == UNBOUNDED {
            return;
        }
        let target = asked.saturating_add(baseline);
        let limit = self.effective();
        let moved = if resident > target {
            limit.min(accounted).saturating_sub(resident - target)
        } else {
            limit.saturating_add((target - resident) / 8)
        };
        self.effective.store(moved.clamp(asked / 2, asked), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_class_is_what_malloc_spends() {
        let cases = [(1, 32), (24, 32), (25, 48), (40, 48), (41, 64), (1000, 1008), (200_000, 200_704)];
        for (bytes, class) in cases {
            assert_eq!(size_class(bytes), class, "{bytes} bytes");
        }
    }

    #[test]
    fn the_limit_follows_the_resident_size_between_half_and_all_of_the_budget() {
        let budget = ByteLimit::new(Some(1000));
        budget.observe(1150, 100, 1000);
        assert_eq!(budget.effective(), 950);
        budget.observe(1150, 100, 950);
        assert_eq!(budget.effective(), 900);
        budget.observe(1020, 100, 900);
        assert_eq!(budget.effective(), 910);
        budget.observe(9000, 100, 910);
        assert_eq!(budget.effective(), 500);
        (0..100).for_each(|_| budget.observe(100, 100, 0));
        assert_eq!(budget.gauges(), (1000, 1000, 100));
    }

    #[test]
    fn the_index_is_cut_for_what_the_limits_admit() {
        assert_eq!(most_entries(1000, None), 1000);
        assert_eq!(most_entries(10_000_000, Some(64 << 20)), 699_050);
        assert_eq!(most_entries(1000, Some(64 << 20)), 1000);
    }

    #[test]
    fn without_a_budget_nothing_is_limited() {
        let budget = ByteLimit::new(None);
        budget.observe(u64::MAX, 0, 0);
        assert_eq!((budget.effective(), budget.gauges()), (u64::MAX, (0, 0, u64::MAX)));
    }
}
