//! How long an entry lives and how large its value may be, which may change while entries are held.

use std::time::Duration;
use sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Both limits, shared by all who go by them. Relaxed: each stands alone, and a lookup goes by one reading of it.
#[derive(Debug)]
pub struct EntryLimits {
    expiry_ns: AtomicU64,
    max_value_bytes: AtomicUsize,
}

impl EntryLimits {
    pub(crate) fn new(expiry: Duration, max_value_bytes: usize) -> Self {
        EntryLimits {
            expiry_ns: AtomicU64::new(in_ns(expiry)),
            max_value_bytes: AtomicUsize::new(max_value_bytes),
        }
    }

    /// Changes both, for what is held as well: from now on nothing is served that is older than `expiry`, and what is not and has
    /// not left yet is served. A value above `max_value_bytes` that is held stays.
    ///
    /// Constant in time; the memory of what has expired by it is reclaimed within a round of [`Cache::maintain`](crate::Cache::maintain)
    /// that begins afterwards.
    pub fn change(&self, expiry: Duration, max_value_bytes: usize) {
        self.expiry_ns.store(in_ns(expiry), Ordering::Relaxed);
        self.max_value_bytes.store(max_value_bytes, Ordering::Relaxed);
    }

    /// How long after its fetch was sent an entry lives, in nanoseconds.
    #[inline]
    pub fn expiry_ns(&self) -> u64 {
        self.expiry_ns.load(Ordering::Relaxed)
    }

    /// Values with more bytes are not kept.
    pub fn max_value_bytes(&self) -> usize {
        self.max_value_bytes.load(Ordering::Relaxed)
    }
}

fn in_ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
