//! What operators have leave the cache: a key, all that begins alike, everything. Redis keeps what it has.
//!
//! A purge is local, exact at once, and told in the log with who and how many. Keys are not told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::info;

use super::ReadThrough;
use crate::clock::now_ns;
use crate::store::Store;

/// How long a prefix waits for one of those that lookups go by to be done with.
const PATIENCE: Duration = Duration::from_secs(1);
/// From one try to the next, where somebody else sweeps.
const PAUSE: Duration = Duration::from_millis(1);
/// Slots looked at between two chances for others.
const SLOTS_A_STEP: usize = 1_024;

/// Purges of the process, in the order of [`KINDS`].
static COUNTS: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];
/// What is counted: what purges name, and prefixes that were refused.
const KINDS: [&str; 4] = ["key", "prefix", "all", "refused"];

/// Purges so far, by what they name.
pub(crate) fn purge_counts() -> [(&'static str, u64); 4] {
    [0, 1, 2, 3].map(|at| (KINDS[at], COUNTS[at].load(Ordering::Relaxed)))
}

/// Has things leave for everybody.
#[derive(Clone)]
pub(crate) struct Purger(Store);

impl Purger {
    pub(crate) fn new(store: &Store) -> Purger {
        Purger(store.clone())
    }

    /// What is held of a key, for everybody, leaves; whether there was anything.
    pub(crate) fn key(&self, key: &[u8], who: &str) -> bool {
        let held = self.0.invalidate(key);
        COUNTS[0].fetch_add(1, Ordering::Relaxed);
        info!(who, what = "key", entries = u32::from(held), "purged");
        held
    }

    /// Everything leaves; how many keys there were.
    pub(crate) fn all(&self, who: &str) -> u64 {
        let entries = self.0.stats(now_ns()).entries;
        self.0.flush();
        COUNTS[2].fetch_add(1, Ordering::Relaxed);
        info!(who, what = "all", entries, "purged");
        entries
    }

    /// All that begins with `prefix` leaves. `false`: too many prefixes are looked for at this moment.
    pub(crate) fn prefix_at_once(&self, prefix: &[u8], who: &str) -> bool {
        let is_purged = self.0.purge_prefix(prefix);
        if is_purged {
            COUNTS[1].fetch_add(1, Ordering::Relaxed);
            info!(who, what = "prefix", "purged: what it covers is counted as it is taken out");
        }
        is_purged
    }

    /// The same, and where there are too many those are taken out first that lookups go by: `false` after a second of that.
    pub(crate) async fn prefix(&self, prefix: &[u8], who: &str) -> bool {
        let end = Instant::now() + PATIENCE;
        loop {
            if self.prefix_at_once(prefix, who) {
                return true;
            }
            if Instant::now() >= end {
                COUNTS[3].fetch_add(1, Ordering::Relaxed);
                return false;
            }
            take_out(&self.0, SLOTS_A_STEP);
            // Others have their turn, and whoever else sweeps has the time for it.
            sleep(PAUSE).await;
        }
    }
}

/// A step of taking out what purged prefixes cover; whether some are left.
pub(crate) fn take_out(store: &Store, slots: usize) -> bool {
    let done = store.sweep_purged(slots);
    if done.retired > 0 {
        let purged = store.stats(now_ns()).purged;
        info!(
            prefixes = done.retired,
            purged_so_far = purged,
            "what purged prefixes covered has been taken out"
        );
    }
    done.are_left
}

impl ReadThrough {
    /// Has something leave for everybody.
    pub(crate) fn purger(&self) -> Purger {
        Purger::new(&self.store)
    }
}
