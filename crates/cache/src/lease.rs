//! The proof behind entries that came by a tracked connection: a lease that its replies renew.
//!
//! A tracked connection delivers replies and invalidations in one order. So a reply that has been *processed* proves
//! that every invalidation for a change acknowledged before its command was sent has been applied: what is still in the
//! cache was true at that instant. The instant is the lease's [`sync`](Lease::sync_ns); a reader accepts an entry if it
//! is late enough. A connection that stalls or dies renews nothing, and its entries stop being served by themselves.
//!
//! One lease a connection: when it is lost the lease is frozen for good, and what comes by the next one is held under
//! another.
//!
//! A lease may stand [under](Lease::under) others: then it proves what all of them prove, as long as it has not ended itself. So one that is
//! ended ends what stands under it, however much that is, and renewing one renews all of them.

use std::sync::Arc;

use sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Up to when what one connection brought is proven. Shared by its entries, renewed by the task that reads it.
#[derive(Debug, Default)]
pub struct Lease {
    /// Never goes back. Zero, the beginning of time, proves nothing.
    sync_ns: AtomicU64,
    ended: AtomicBool,
    /// None of a connection's own. Two levels at most.
    parents: Box<[Arc<Lease>]>,
}

impl Lease {
    /// One that proves what all of `parents` prove, and nothing once it has ended. It is not renewed itself.
    pub fn under(parents: impl Into<Box<[Arc<Lease>]>>) -> Lease {
        Lease { parents: parents.into(), ..Lease::default() }
    }

    /// Whether it stands under `other` itself.
    pub fn is_under(&self, other: &Arc<Lease>) -> bool {
        self.parents.iter().any(|parent| Arc::ptr_eq(parent, other))
    }

    /// Whether it proves of a key that there is none for longer than from the asking: not where a key can come to be with nobody telling,
    /// as on a node whose slot is on its way to another.
    #[inline]
    pub fn proves_absence(&self) -> bool {
        self.parents.is_empty()
    }

    /// A reply to a command sent at `sent_ns` has been processed, and so have all invalidations before it. To be called
    /// by the connection's reader alone, in wire order.
    pub fn renew(&self, sent_ns: u64) {
        // Release: pairs with the Acquire in `sync_ns`. Whoever sees this instant sees the removals before it.
        self.sync_ns.fetch_max(sent_ns, Ordering::Release);
    }

    /// The connection is lost: entries remain proven up to the last renewal and no further. Of one that stands under others: what was the
    /// case is so no longer, and nothing that is held under it is served any more.
    pub fn end(&self) {
        // Release: pairs with the Acquire in `sync_of_parents`. Of a connection's own it is a hint for refills; the proof is `sync_ns`.
        self.ended.store(true, Ordering::Release);
    }

    /// What it proved is the past, and nothing that is held under it is served any more. What comes is to be held under
    /// another lease. To be called by the connection's reader alone.
    pub fn revoke(&self) {
        self.end();
        // Release: pairs with the Acquire in `sync_ns`. An entry whose lease was never renewed proves nothing.
        self.sync_ns.store(0, Ordering::Release);
    }

    /// Up to which instant the entries are proven.
    #[inline]
    pub fn sync_ns(&self) -> u64 {
        match self.parents.is_empty() {
            true => self.sync_ns.load(Ordering::Acquire),
            false => self.sync_of_parents(),
        }
    }

    #[inline(never)]
    fn sync_of_parents(&self) -> u64 {
        let is_over = || self.ended.load(Ordering::Acquire);
        let was_over = mutant::looked_at_before(is_over);
        let sync_ns = self.parents.iter().map(|parent| parent.sync_ns()).min().unwrap_or(0);
        // Behind the parents: whoever sees a renewal sees the end that was told of before it.
        if was_over.unwrap_or_else(is_over) { 0 } else { sync_ns }
    }

    /// Whether it can still be renewed.
    #[inline]
    pub fn is_live(&self) -> bool {
        !self.ended.load(Ordering::Relaxed) && (self.parents.is_empty() || self.are_parents_live())
    }

    #[inline(never)]
    fn are_parents_live(&self) -> bool {
        self.parents.iter().all(|parent| parent.is_live())
    }
}
