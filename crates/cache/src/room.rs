//! Room for a new entry: the limits of the whole cache, and who leaves when they are reached.
//!
//! An insert first goes in and then evicts what it owes, before it returns: one entry for one entry, its own bytes for
//! its bytes. In the steady state what comes and what goes cancel out and the shared counts are only read. The entry
//! that leaves is the least recently used of *all* shards: each publishes the tick of its oldest entry, the evicter
//! takes the smallest, locks that shard alone, and looks again if the shard's oldest entry is no longer that one.

use sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use crate::Inner;
use crate::budget::ByteLimit;
use crate::flow::Flow;
use crate::list::NO_TICK;
use crate::negatives;
use crate::totals::Totals;

/// Entries that one insert evicts at most beyond what it owes itself, after a limit was lowered: some 15 us of work.
pub(crate) const EXTRA_EVICTIONS: usize = 64;

/// The limits and the totals of the whole cache.
///
/// Relaxed throughout: a shard's changes are settled here after its lock is released, so the totals are behind by what
/// is under way, and may for a moment even be negative. Whoever adds looks at the sum afterwards, so the last one to add
/// sees everything.
pub(crate) struct Room {
    capacity: AtomicUsize,
    entries: AtomicI64,
    bytes: AtomicI64,
    negatives: AtomicI64,
    pub(crate) budget: ByteLimit,
    pub(crate) flow: Flow,
}

impl Room {
    pub(crate) fn new(capacity: usize, bytes: Option<u64>) -> Room {
        Room {
            capacity: AtomicUsize::new(capacity),
            entries: AtomicI64::new(0),
            bytes: AtomicI64::new(0),
            negatives: AtomicI64::new(0),
            budget: ByteLimit::new(bytes),
            flow: Flow::default(),
        }
    }

    pub(crate) fn resize(&self, capacity: usize, bytes: Option<u64>) {
        self.capacity.store(capacity, Ordering::Relaxed);
        self.budget.set(bytes);
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity.load(Ordering::Relaxed)
    }

    /// The most keys without a value.
    pub(crate) fn most_negatives(&self) -> i64 {
        negatives::most(self.capacity())
    }

    /// What is held, as far as settled.
    pub(crate) fn totals(&self) -> Totals {
        Totals {
            entries: self.entries.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            negatives: self.negatives.load(Ordering::Relaxed),
        }
    }

    /// Adds what a step has changed and tells whether a limit is exceeded now.
    pub(crate) fn settle(&self, change: Totals) -> bool {
        let add = |total: &AtomicI64, change: i64| match change {
            0 => total.load(Ordering::Relaxed),
            _ => total.fetch_add(change, Ordering::Relaxed) + change,
        };
        self.exceeded(Totals {
            entries: add(&self.entries, change.entries),
            bytes: add(&self.bytes, change.bytes),
            negatives: add(&self.negatives, change.negatives),
        })
    }

    fn exceeded(&self, totals: Totals) -> bool {
        totals.entries > self.capacity() as i64
            || totals.bytes.max(0) as u64 > self.budget.left_by(self.flow.bytes())
    }
}

impl<E> Inner<E> {
    /// Evicts until `due`, the change that the caller made and has not settled, fits; then settles it. Returns how many
    /// entries left.
    ///
    /// While limits are exceeded beyond what is due, because they were lowered, at most `extra` more leave.
    pub(crate) fn make_room(&self, mut due: Totals, mut extra: usize, now_ns: u64) -> usize {
        let mut evicted = 0;
        loop {
            while self.room.exceeded(self.room.totals() + due) {
                if due.entries <= 0 && due.bytes <= 0 {
                    if extra == 0 {
                        break;
                    }
                    extra -= 1;
                }
                let Some(change) = self.evict_oldest(now_ns) else { break };
                due = due + change;
                evicted += 1;
            }
            // Two that added at once each saw room for one: whoever settles last sees that it is too much.
            let added = due.entries > 0 || due.bytes > 0;
            if !(self.room.settle(due) && added) {
                return evicted;
            }
            due = Totals::default();
        }
    }

    /// Removes the entry whose last use is oldest, and returns what that changes; none if the cache is empty.
    fn evict_oldest(&self, now_ns: u64) -> Option<Totals> {
        loop {
            let (at, tick) = self.oldest_tail()?;
            let mut shard = self.lock_at(at);
            // With one shard there is nothing to choose, and so nothing to verify.
            if self.tails.len() > 1 && shard.list.oldest_tick() != tick {
                continue;
            }
            let before = shard.totals();
            let gone = shard.evict(&self.moment(now_ns));
            let change = shard.totals() - before;
            drop(shard);
            if let Some(gone) = gone {
                self.follow(gone);
                return Some(change);
            }
        }
    }

    /// The shard with the oldest tail, and that tail's tick.
    pub(crate) fn oldest_tail(&self) -> Option<(usize, u64)> {
        let ticks = self.tails.iter().map(|tail| tail.load(Ordering::Relaxed)).enumerate();
        ticks.min_by_key(|(_, tick)| *tick).filter(|(_, tick)| *tick != NO_TICK)
    }
}
