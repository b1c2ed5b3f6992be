//! The lock of a shard, and what is published before it is released.

use std::ops::{Deref, DerefMut};

use sync::atomic::{AtomicU64, Ordering};
use sync::{Mutex, MutexGuard};

use crate::list::NO_TICK;
use crate::shard::Shard;

/// A shard's lock, on cache lines of its own: two, because processors fetch them in pairs.
#[repr(align(128))]
pub(crate) struct Cell<E>(Mutex<Shard<E>>);

impl<E> Cell<E> {
    pub(crate) fn new(shard: Shard<E>) -> Cell<E> {
        Cell(Mutex::new(shard))
    }

    /// Locks the shard. `tail` is where it publishes the tick of its oldest entry, `negative` when its oldest key without
    /// a value was fetched.
    pub(crate) fn lock<'a>(&'a self, tail: &'a AtomicU64, negative: &'a AtomicU64) -> Locked<'a, E> {
        Locked { shard: self.0.lock(), tail, negative }
    }
}

/// A locked shard. Before it unlocks it publishes what has changed at its old ends.
pub(crate) struct Locked<'a, E> {
    shard: MutexGuard<'a, Shard<E>>,
    tail: &'a AtomicU64,
    negative: &'a AtomicU64,
}

impl<E> Deref for Locked<'_, E> {
    type Target = Shard<E>;

    fn deref(&self) -> &Shard<E> {
        &self.shard
    }
}

impl<E> DerefMut for Locked<'_, E> {
    fn deref_mut(&mut self) -> &mut Shard<E> {
        &mut self.shard
    }
}

impl<E> Drop for Locked<'_, E> {
    fn drop(&mut self) {
        let oldest = self.shard.list.oldest_tick();
        if oldest != self.shard.published {
            self.shard.published = oldest;
            // Relaxed: an evicter takes this as a hint and verifies it under the lock.
            self.tail.store(oldest, Ordering::Relaxed);
        }
        if self.shard.negatives.held() > 0 || self.shard.published_negative != NO_TICK {
            let oldest = self.shard.oldest_negative().map_or(NO_TICK, |(_, sent_ns)| sent_ns);
            if oldest != self.shard.published_negative {
                self.shard.published_negative = oldest;
                self.negative.store(oldest, Ordering::Relaxed); // as above
            }
        }
    }
}
