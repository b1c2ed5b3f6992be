//! Whether the server tells of changes, which is the same for all links: the links of the proxy's own user try it with their
//! canary, and those of other users, who may not write one, go by what was found.

use sync::Mutex;
use sync::atomic::{AtomicU64, Ordering};

/// What was found out about the server's delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DeliveryState {
    /// Nothing yet.
    Nothing,
    /// It delivers, or cannot be tried and is trusted.
    Trusted,
    /// It does not deliver, for this reason.
    Fails(String),
}

/// What the links of a process know of it.
pub(crate) struct Delivery {
    // A short lock, of the tasks that tend links.
    found: Mutex<DeliveryState>,
    /// Counts changes, so that one is seen without the lock.
    changes: AtomicU64,
}

impl Default for Delivery {
    fn default() -> Self {
        Delivery { found: Mutex::new(DeliveryState::Nothing), changes: AtomicU64::new(0) }
    }
}

impl Delivery {
    /// A try has ended so.
    pub(super) fn tell(&self, found: DeliveryState) {
        let mut known = self.found.lock();
        if *known != found {
            *known = found;
            self.changes.fetch_add(1, Ordering::Relaxed); // whoever sees it asks under the lock
        }
    }

    pub(super) fn found(&self) -> DeliveryState {
        self.found.lock().clone()
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }
}
