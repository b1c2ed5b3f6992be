//! Keys that are known to have no value: held like others, and bounded to a share of the capacity, so that a client that
//! asks for keys that do not exist cannot push out all that do.
//!
//! Beside its place in order of use each has a place in its shard's queue, in order of its fetch. A place is not removed
//! when its entry leaves: it is seen to be void when it comes up, and the queue is rebuilt when most of it is void.

use std::collections::VecDeque;
use sync::atomic::Ordering;

use crate::Inner;
use crate::departure::Departure;
use crate::entry::Entry;
use crate::list::{List, NO_TICK};

/// One key without a value in this many may be held.
const SHARE: usize = 10;
/// Void places that are not worth a rebuild.
const VOID_KEPT: usize = 64;

/// A shard's keys without a value, oldest fetch first.
#[derive(Default)]
pub(crate) struct Negatives {
    places: VecDeque<Place>,
    held: usize,
}

#[derive(Clone, Copy)]
struct Place {
    slot: u32,
    sent_ns: u64,
}

impl Place {
    fn is_of(self, list: &List) -> bool {
        list.entry(self.slot).is_some_and(|entry| entry.is_missing() && entry.sent_ns() == self.sent_ns)
    }
}

impl Negatives {
    /// Keys without a value that are held.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// An entry came into `slot`.
    pub(crate) fn entered(&mut self, entry: &Entry, slot: u32, list: &List) {
        if !entry.is_missing() {
            return;
        }
        self.held += 1;
        self.places.push_back(Place { slot, sent_ns: entry.sent_ns() });
        if self.places.len() > 2 * self.held + VOID_KEPT {
            self.places.retain(|place| place.is_of(list));
        }
    }

    /// An entry has left.
    pub(crate) fn left(&mut self, entry: &Entry) {
        self.held -= usize::from(entry.is_missing());
    }

    /// The slots were numbered anew.
    pub(crate) fn renumbered(&mut self, list: &List) {
        let slots = (1..=list.slots()).filter_map(|slot| Some((slot, list.entry(slot)?)));
        let places = slots.filter(|(_, entry)| entry.is_missing());
        let mut places: Vec<_> =
            places.map(|(slot, entry)| Place { slot, sent_ns: entry.sent_ns() }).collect();
        places.sort_unstable_by_key(|place| place.sent_ns);
        self.places = places.into();
    }

    /// The slot of the oldest one, and when that was fetched.
    pub(crate) fn oldest(&mut self, list: &List) -> Option<(u32, u64)> {
        while self.held > 0 {
            let place = *self.places.front()?;
            if place.is_of(list) {
                return Some((place.slot, place.sent_ns));
            }
            self.places.pop_front();
        }
        None
    }
}

impl<E> Inner<E> {
    /// Removes the oldest keys without a value until they are few enough.
    pub(crate) fn drop_surplus_negatives(&self, now_ns: u64) {
        while self.room.totals().negatives > self.room.most_negatives() {
            let oldest = (0..self.cells.len()).map(|at| (at, self.oldest_negative(at)));
            let Some((at, _)) = oldest.min_by_key(|(_, sent_ns)| *sent_ns).filter(|(_, at)| *at != NO_TICK)
            else {
                return;
            };
            let mut shard = self.lock_at(at);
            let before = shard.totals();
            let moment = self.moment(now_ns);
            let gone = shard.oldest_negative().map(|(slot, _)| {
                let why = shard.list.entry(slot).and_then(|entry| moment.death(entry));
                shard.remove(slot, why.map_or(Departure::Evicted, Departure::from))
            });
            let change = shard.totals() - before;
            drop(shard);
            drop(gone);
            self.room.settle(change);
        }
    }

    fn oldest_negative(&self, at: usize) -> u64 {
        // Relaxed: a hint, looked at again under the lock.
        self.oldest_negatives[at].load(Ordering::Relaxed)
    }
}

/// How many keys without a value a cache of `capacity` keys may hold.
pub(crate) fn most(capacity: usize) -> i64 {
    (capacity / SHARE) as i64
}
