//! CAPACITY_BYTES against the truth: reads the resident size and tells the cache, which moves its own limit.
//!
//! Two occasions: the beat of maintenance, and, between beats, every few bytes that were fetched. Large values can turn the
//! whole budget over within one beat, and an allocator that is asked for another size keeps the holes of the last one.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::now_ns;
use crate::store::Store;

/// The part of the budget that may be fetched between two looks at the resident size.
const LOOKS_A_BUDGET: u64 = 64;

/// Holds the byte budget; without one there is none of this.
pub(crate) struct Budget {
    store: Store,
    bytes: AtomicU64,
    /// What the process takes without the cache: resident before the first client, and what its connections need.
    baseline: AtomicU64,
    /// Bytes fetched since the last look. Shared by the workers: a miss touches it, a hit does not.
    fetched: AtomicU64,
}

impl Budget {
    /// A budget of `bytes`, for a process that is as large now as it is without a single entry.
    pub(crate) fn new(store: Store, bytes: u64) -> Arc<Self> {
        let baseline = AtomicU64::new(resident_bytes().unwrap_or(0));
        Arc::new(Budget { store, bytes: AtomicU64::new(bytes), baseline, fetched: AtomicU64::new(0) })
    }

    /// From now on it is of so many bytes.
    pub(crate) fn set_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// What the process takes without the cache, as far as is known now.
    pub(crate) fn set_baseline(&self, bytes: u64) {
        self.baseline.store(bytes, Ordering::Relaxed);
    }

    /// The regular look: moves the cache's limit up or down.
    pub(crate) fn look(&self) {
        self.fetched.store(0, Ordering::Relaxed);
        if let Some(resident) = resident_bytes() {
            self.store.observe_resident(resident, self.baseline.load(Ordering::Relaxed));
        }
    }

    /// After a value of `bytes` was fetched: a look in between, which only ever lowers the limit. Giving back what was
    /// taken is left to the beat, so that the limit does not swing.
    pub(crate) fn fetched(&self, bytes: usize) {
        let (bytes, budget_bytes) = (bytes as u64, self.bytes.load(Ordering::Relaxed));
        if self.fetched.fetch_add(bytes, Ordering::Relaxed) + bytes < budget_bytes / LOOKS_A_BUDGET {
            return;
        }
        self.fetched.store(0, Ordering::Relaxed);
        let baseline = self.baseline.load(Ordering::Relaxed);
        if let Some(resident) = resident_bytes().filter(|resident| *resident > baseline + budget_bytes) {
            self.store.observe_resident(resident, baseline);
        }
    }
}

/// The reply that is arriving on one connection, charged to the budget until it is here.
pub(crate) struct Arriving {
    budget: Option<Arc<Budget>>,
    bytes: Cell<usize>,
}

impl Arriving {
    pub(crate) fn new(budget: Option<Arc<Budget>>) -> Self {
        Arriving { budget, bytes: Cell::new(0) }
    }

    /// So many more bytes of it.
    pub(crate) fn announced(&self, bytes: usize) {
        if let Some(budget) = &self.budget {
            self.bytes.set(self.bytes.get() + bytes);
            budget.store.arriving(bytes, now_ns());
        }
    }

    /// It is here, or its connection is lost.
    pub(crate) fn ended(&self) {
        let bytes = self.bytes.take();
        if let (Some(budget), true) = (&self.budget, bytes > 0) {
            budget.store.arrived(bytes);
        }
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.ended();
    }
}

/// The resident size of this process in bytes (proc(5), statm); `None` where /proc is not mounted.
pub(crate) fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
