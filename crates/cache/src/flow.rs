//! Bytes in flight: values that are arriving, and values that readers hold and the cache does not.
//!
//! A byte budget is about what the process holds, and that is more than the entries: a value takes its memory from
//! when it comes, or Redis announces it, until its last reader is done, whether it is stored, was too large for that, or has been evicted
//! meanwhile. Entries make room for all of it, down to half the budget.
//!
//! Of a value that the cache has let go of a handle stays here, so that it is known when the readers' are gone. It is
//! looked at as others come, and by maintenance: memory is given back that much later.

use std::mem::take;

use sync::Mutex;
use sync::atomic::{AtomicU64, Ordering};

use crate::budget::charge;
use crate::departure::Gone;
use crate::entry::Entry;
use crate::room_queue::Reserved;
use crate::totals::Totals;
use crate::{Cache, Inner};

/// Smaller values are not followed: a client waits for a few dozen at most, which is no more than its buffers.
const FOLLOWED_LEAST: usize = 1024;
/// Values looked at whenever one is added.
const LOOKS: usize = 32;
/// Entries that leave at once for a value that is announced, at most; the next inserts and maintenance do the rest.
const EVICTIONS: usize = 1024;

/// What is in flight.
#[derive(Default)]
pub(crate) struct Flow {
    /// All of it. Relaxed: it stands alone.
    bytes: AtomicU64,
    pub(crate) reserved: Reserved,
    // Taken with no shard locked.
    lingering: Mutex<Lingering>,
}

#[derive(Default)]
struct Lingering {
    values: Vec<Entry>,
    /// Which is looked at next.
    next: usize,
}

impl Flow {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn add(&self, entry: Entry) {
        self.bytes.fetch_add(charge(entry.payload_len()), Ordering::Relaxed);
        self.lingering.lock().values.push(entry);
        self.look(LOOKS);
    }

    /// Lets go of those that nobody else holds, among the next `most`.
    pub(crate) fn look(&self, most: usize) {
        if self.bytes() == 0 {
            return;
        }
        let mut gone = Vec::new();
        let mut lingering = self.lingering.lock();
        for _ in 0..most.min(lingering.values.len()) {
            let at = match lingering.next {
                next if next < lingering.values.len() => next,
                _ => 0,
            };
            match lingering.values.get(at) {
                Some(entry) if !entry.is_shared() => gone.push(lingering.values.swap_remove(at)),
                _ => lingering.next = at + 1,
            }
        }
        if lingering.values.is_empty() {
            take(&mut lingering.values);
        }
        drop(lingering);
        let bytes: u64 = gone.iter().map(|entry| charge(entry.payload_len())).sum();
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl<E> Cache<E> {
    /// A value of so many bytes is announced: it counts against the byte budget until [`arrived`](Cache::arrived).
    pub fn arriving(&self, bytes: usize, now_ns: u64) {
        let room = &self.0.room;
        if room.budget.is_bounded() {
            room.flow.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            room.flow.look(LOOKS);
            self.0.make_room(Totals::default(), EVICTIONS, now_ns);
        }
    }

    /// It is here, or will never be; as many bytes as were announced.
    pub fn arrived(&self, bytes: usize) {
        let room = &self.0.room;
        if room.budget.is_bounded() {
            room.flow.bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Whether what is in flight leaves no room for one more fetch: the entries have made all the room that they make.
    pub fn is_crowded(&self) -> bool {
        let room = &self.0.room;
        let bytes = room.flow.bytes();
        bytes > 0 && bytes.saturating_add(room.flow.reserved.each().into()) > room.budget.half()
    }
}

impl<E> Inner<E> {
    /// What has left may be held by readers.
    pub(crate) fn follow(&self, gone: Gone) {
        let Gone { first, others } = gone;
        self.follow_one(first);
        others.into_iter().flatten().for_each(|other| self.follow_one(other));
    }

    /// An answer that was not kept may be held by readers.
    pub(crate) fn follow_one(&self, entry: Entry) {
        if entry.payload_len() >= FOLLOWED_LEAST && entry.is_shared() && self.room.budget.is_bounded() {
            self.room.flow.add(entry);
        }
    }
}
