//! The proof behind entries that came by a tracked connection: a lease that its replies renew.
//!
//! A tracked connection delivers replies and invalidations in one order. So a reply that has been *processed* proves
//! that every invalidation for a change acknowledged before its command was sent has been applied: what is still in the
//! cache was true at that instant. The instant is the lease's [`sync`](Lease::sync_ns); a reader accepts an entry if it
//! is late enough. A connection that stalls or dies renews nothing, and its entries stop being served by themselves.
//!
//! One lease a connection: when it is lost the lease is frozen for good, and what comes by the next one is held under
//! another.

use sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Up to when what one connection brought is proven. Shared by its entries, renewed by the task that reads it.
#[derive(Debug, Default)]
pub struct Lease {
    /// Never goes back. Zero, the beginning of time, proves nothing.
    sync_ns: AtomicU64,
    ended: AtomicBool,
}

impl Lease {
    /// A reply to a command sent at `sent_ns` has been processed, and so have all invalidations before it. To be called
    /// by the connection's reader alone, in wire order.
    pub fn renew(&self, sent_ns: u64) {
        // Release: pairs with the Acquire in `sync_ns`. Whoever sees this instant sees the removals before it.
        self.sync_ns.fetch_max(sent_ns, Ordering::Release);
    }

    /// The connection is lost: entries remain proven up to the last renewal and no further.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed); // a hint for refills; the proof is `sync_ns`
    }

    /// What it proved is the past, and nothing that is held under it is served any more. What comes is to be held under
    /// another lease. To be called by the connection's reader alone.
    pub fn revoke(&self) {
        self.end();
        // Release: pairs with the Acquire in `sync_ns`. An entry whose lease was never renewed proves nothing.
        self.sync_ns.store(0, Ordering::Release);
    }

    /// Up to which instant the entries are proven.
    pub fn sync_ns(&self) -> u64 {
        self.sync_ns.load(Ordering::Acquire)
    }

    /// Whether it can still be renewed.
    pub fn is_live(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }
}
