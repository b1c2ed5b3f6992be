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
//! ended ends what stands under it, however much that is, and renewing one renews all of them. What it proved when it was last looked at it
//! remembers, until the next lease of the same [`Ends`] has ended, whichever that is: so most lookups look at two words and a counter, and not
//! at all the others.

use std::sync::Arc;

use sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How many leases of one kind have ended: those that others stand under.
#[derive(Clone, Debug, Default)]
pub struct Ends(Arc<AtomicU64>);

impl Ends {
    fn count(&self) -> u64 {
        // Acquire: pairs with the Release in `count_one`. Whoever does not see an end counted need not see it.
        self.0.load(Ordering::Acquire)
    }

    fn count_one(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// Up to when what one connection brought is proven. Shared by its entries, renewed by the task that reads it.
#[derive(Debug, Default)]
pub struct Lease {
    /// Never goes back. Zero, the beginning of time, proves nothing. Of one that stands under others: what it has last been seen to prove.
    sync_ns: AtomicU64,
    ended: AtomicBool,
    /// Where its end is counted.
    ends: Option<Ends>,
    /// Of one that stands under others: so many had ended when it was last seen to be live itself, or a count that is never reached.
    live_at: AtomicU64,
    /// All that it stands under, directly and not: first those of connections, then those that stand under others. None of a
    /// connection's own.
    above: Box<[Arc<Lease>]>,
    /// How many of them are of connections.
    connections: u8,
}

impl Lease {
    /// One of a connection, whose end is counted.
    pub fn counted(ends: &Ends) -> Lease {
        Lease { ends: Some(ends.clone()), ..Lease::default() }
    }

    /// One that proves what all of `parents` prove, and nothing once it or one of them that stands under others has ended. It is not renewed
    /// itself. It remembers what it proves if the ends of the leases that it stands under are counted together.
    ///
    /// # Panics
    /// If it would stand under more than 255 leases of connections.
    pub fn under(parents: impl IntoIterator<Item = Arc<Lease>>) -> Lease {
        let (mut above, mut between, mut ends) = (Vec::new(), Vec::new(), None);
        for parent in parents {
            ends = parent.ends.clone();
            let (connections, others) = parent.above.split_at(usize::from(parent.connections));
            above.extend(connections.iter().cloned());
            between.extend(others.iter().cloned());
            match parent.above.is_empty() {
                true => above.push(parent),
                false => between.push(parent),
            }
        }
        let connections = u8::try_from(above.len()).expect("a handful of connections");
        above.append(&mut between);
        Lease {
            above: above.into(),
            connections,
            ends,
            live_at: AtomicU64::new(u64::MAX),
            ..Lease::default()
        }
    }

    /// Whether it stands under `other`.
    pub fn is_under(&self, other: &Arc<Lease>) -> bool {
        self.above.iter().any(|lease| Arc::ptr_eq(lease, other))
    }

    /// Whether it proves of a key that there is none for longer than from the asking: not where a key can come to be with nobody telling,
    /// as on a node whose slot is on its way to another.
    #[inline]
    pub fn proves_absence(&self) -> bool {
        self.above.is_empty()
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
        // Release: pairs with the Acquire in `has_ended`. Of a connection's own it is a hint for refills; the proof is `sync_ns`.
        self.ended.store(true, Ordering::Release);
        self.count_end();
    }

    /// What it proved is the past, and nothing that is held under it is served any more. What comes is to be held under
    /// another lease. To be called by the connection's reader alone.
    pub fn revoke(&self) {
        self.ended.store(true, Ordering::Release);
        // Release: pairs with the Acquire in `sync_ns`. An entry whose lease was never renewed proves nothing.
        self.sync_ns.store(0, Ordering::Release);
        self.count_end();
    }

    /// Behind all that ends it: whoever sees the count sees that.
    fn count_end(&self) {
        if let Some(ends) = &self.ends {
            ends.count_one();
        }
    }

    /// Up to which instant the entries are proven.
    #[inline]
    pub fn sync_ns(&self) -> u64 {
        match self.above.is_empty() {
            true => self.sync_ns.load(Ordering::Acquire),
            false => self.sync_of_others(),
        }
    }

    /// Whether the entries are proven up to `since_ns` at least: [`sync_ns`](Lease::sync_ns) says so, at less cost.
    #[inline]
    pub fn proves(&self, since_ns: u64) -> bool {
        self.sync_if_since(since_ns) >= since_ns
    }

    /// [`sync_ns`](Lease::sync_ns), or at less cost an earlier instant that is not before `since_ns`.
    #[inline]
    pub fn sync_if_since(&self, since_ns: u64) -> u64 {
        let sync_ns = self.sync_ns.load(Ordering::Acquire);
        match self.above.is_empty() || sync_ns >= since_ns && self.was_seen_live() {
            true => sync_ns,
            false => self.sync_of_others(),
        }
    }

    /// Of one that stands under others: whether none of any kind has ended since all of its own were live.
    #[inline]
    fn was_seen_live(&self) -> bool {
        let live_at = self.live_at.load(Ordering::Acquire);
        self.ends.as_ref().is_some_and(|ends| ends.count() == live_at)
    }

    #[inline(never)]
    fn sync_of_others(&self) -> u64 {
        let count = self.ends.as_ref().map_or(u64::MAX, Ends::count);
        let (connections, between) = self.above.split_at(usize::from(self.connections));
        let is_over = || has_ended(self) || between.iter().any(|lease| has_ended(lease));
        let was_over = mutant::looked_at_before(is_over);
        let sync_ns =
            connections.iter().map(|lease| lease.sync_ns.load(Ordering::Acquire)).min().unwrap_or(0);
        // Behind the instants: whoever sees a renewal sees the end that was told of before it.
        if was_over.unwrap_or_else(is_over) {
            return 0;
        }
        // None had ended when so many had, and one that has ended stays so: what anybody else remembers here is as good.
        if !connections.iter().any(|lease| has_ended(lease)) {
            self.sync_ns.fetch_max(sync_ns, Ordering::Release);
            self.live_at.store(count, Ordering::Release);
        }
        sync_ns
    }

    /// Whether it can still be renewed.
    #[inline]
    pub fn is_live(&self) -> bool {
        match self.above.is_empty() {
            true => !self.ended.load(Ordering::Relaxed),
            false => self.was_seen_live() || self.are_all_live(),
        }
    }

    #[inline(never)]
    fn are_all_live(&self) -> bool {
        !has_ended(self) && !self.above.iter().any(|lease| has_ended(lease))
    }
}

/// Acquire: pairs with the Release in [`Lease::end`].
#[inline]
fn has_ended(lease: &Lease) -> bool {
    lease.ended.load(Ordering::Acquire)
}
