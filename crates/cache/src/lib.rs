//! The cache.

mod entry;
mod fill;
mod flight;
mod stats;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

pub use crate::entry::{ALLOCATION_OVERHEAD, Entry, Facts};
pub use crate::fill::{Fill, Waiter};
pub use crate::flight::Outcome;
pub use crate::stats::Stats;

use crate::flight::Flight;
use crate::stats::Unkept;

/// How large the cache may become and how long an entry lives.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Keys held at most, at least 1 (0 is taken as 1).
    pub capacity: usize,
    /// Bytes accounted at most, if bounded: entries with their overhead, tables and lists.
    pub capacity_bytes: Option<u64>,
    /// From the sending of its fetch to the end of an entry.
    pub expiry: Duration,
    /// A larger value passes through uncached, bytes.
    pub max_value_bytes: usize,
    /// Shards, a power of two up to 64; none: one up to 4,096 keys, else four a core.
    pub shards: Option<usize>,
}

/// The cache; a clone is another handle to the same one.
pub struct Cache<E>(Arc<Inner<E>>);

impl<E> Clone for Cache<E> {
    fn clone(&self) -> Self {
        Cache(Arc::clone(&self.0))
    }
}

/// What a lookup finds.
#[derive(Debug)]
#[must_use = "a miss is a duty"]
pub enum Lookup<E> {
    /// The value is here.
    Hit(Entry),
    /// Somebody is fetching it.
    Wait(Waiter<E>),
    /// It must be fetched, by whoever holds the fill.
    Miss(Fill<E>, Waiter<E>),
}

/// Where a scan goes on. Opaque; good until the cache is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    shard: u32,
    slot: u32,
    generation: u32,
}

/// One step of a scan.
#[derive(Debug)]
pub struct Scan {
    /// Live entries found in this step; may be empty before the end.
    pub entries: Vec<Entry>,
    /// Where to go on; none at the end.
    pub next: Option<Cursor>,
}

/// What one step of maintenance did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Slots looked at.
    pub visited: usize,
    /// Dead entries reclaimed.
    pub reclaimed: usize,
    /// Live entries evicted because a limit was lowered.
    pub evicted: usize,
    /// Whether this step finished a round through the whole cache.
    pub round_ended: bool,
}

struct Inner<E> {
    limits: Limits,
    state: Mutex<Naive<E>>,
}

struct Naive<E> {
    entries: HashMap<Vec<u8>, (Entry, u64)>,
    fills: Vec<Arc<Flight<E>>>,
    capacity: usize,
    epoch: u32,
    clock: u64,
    stats: Stats,
}

impl<E> Cache<E> {
    /// An empty cache.
    pub fn new(limits: Limits) -> Self {
        let capacity = limits.capacity.max(1);
        let state = Naive {
            entries: HashMap::new(),
            fills: Vec::new(),
            capacity,
            epoch: 0,
            clock: 0,
            stats: Stats::default(),
        };
        Cache(Arc::new(Inner { limits, state: Mutex::new(state) }))
    }

    fn live(&self, entry: &Entry, epoch: u32, now_ns: u64) -> bool {
        let expiry = u64::try_from(self.0.limits.expiry.as_nanos()).unwrap_or(u64::MAX);
        entry.epoch() == epoch && now_ns < entry.sent_ns().saturating_add(expiry)
    }

    /// Looks `key` up, counts it and makes it the most recently used.
    pub fn lookup(&self, key: &[u8], now_ns: u64) -> Lookup<E> {
        let mut state = self.0.state.lock();
        let state = &mut *state;
        state.clock += 1;
        if let Some((entry, tick)) = state.entries.get_mut(key) {
            if self.live(entry, state.epoch, now_ns) {
                *tick = state.clock;
                state.stats.hits += 1;
                return Lookup::Hit(entry.clone());
            }
            state.entries.remove(key);
        }
        if let Some(flight) = state.fills.iter().rfind(|f| *f.key == *key && f.epoch == state.epoch) {
            state.stats.collapsed += 1;
            return Lookup::Wait(Waiter::new(Arc::clone(flight)));
        }
        state.stats.misses += 1;
        let flight = Flight::new(key, 0, state.epoch, now_ns);
        state.fills.push(Arc::clone(&flight));
        Lookup::Miss(Fill::new(self.clone(), Arc::clone(&flight)), Waiter::new(flight))
    }

    /// Looks without counting and without making it recent.
    pub fn peek(&self, key: &[u8], now_ns: u64) -> Option<Entry> {
        let state = self.0.state.lock();
        state
            .entries
            .get(key)
            .map(|(entry, _)| entry.clone())
            .filter(|entry| self.live(entry, state.epoch, now_ns))
    }

    /// Removes the entry of `key` and unregisters its fills; tells whether an entry left.
    pub fn invalidate(&self, key: &[u8]) -> bool {
        let mut state = self.0.state.lock();
        state.fills.retain(|flight| *flight.key != *key);
        state.stats.invalidations += 1;
        state.entries.remove(key).is_some()
    }

    /// Makes every entry and every fill in flight a thing of the past.
    pub fn flush(&self) {
        let mut state = self.0.state.lock();
        state.epoch += 1;
        state.stats.flushes += 1;
    }

    /// Changes the limits.
    pub fn resize(&self, capacity: usize, _bytes: Option<u64>) {
        self.0.state.lock().capacity = capacity.max(1);
    }

    /// A bounded step of the background sweep.
    pub fn maintain(&self, now_ns: u64, _slots: usize) -> Maintained {
        let mut state = self.0.state.lock();
        let epoch = state.epoch;
        state.entries.retain(|_, (entry, _)| self.live(entry, epoch, now_ns));
        Maintained { round_ended: true, ..Maintained::default() }
    }

    /// Slots that one round of [`maintain`](Cache::maintain) visits.
    pub fn slots(&self) -> usize {
        self.0.state.lock().entries.len()
    }

    /// Tells the byte budget what the process really holds.
    pub fn observe_resident(&self, resident: u64, _baseline: u64) {
        self.0.state.lock().stats.resident_bytes = resident;
    }

    /// A bounded step through the live entries, without counting as use. Start with `Cursor::default()`.
    pub fn scan(&self, _cursor: Cursor, _slots: usize, now_ns: u64) -> Scan {
        let state = self.0.state.lock();
        let entries =
            state.entries.values().map(|(e, _)| e.clone()).filter(|e| self.live(e, state.epoch, now_ns));
        Scan { entries: entries.collect(), next: None }
    }

    /// The counters and gauges.
    pub fn stats(&self, _now_ns: u64) -> Stats {
        let state = self.0.state.lock();
        Stats {
            entries: state.entries.len() as u64,
            fills_in_flight: state.fills.len() as u64,
            capacity: state.capacity as u64,
            ..state.stats
        }
    }

    fn unregister(state: &mut Naive<E>, flight: &Arc<Flight<E>>) -> bool {
        let at = state.fills.iter().position(|other| Arc::ptr_eq(other, flight));
        at.map(|at| state.fills.remove(at)).is_some_and(|flight| flight.epoch == state.epoch)
    }

    fn store(&self, flight: &Arc<Flight<E>>, value: &[u8], facts: Facts, now_ns: u64) -> (Entry, bool) {
        let sent_ns = flight.sent_ns().unwrap_or(flight.registered_ns);
        let entry = Entry::new(&flight.key, value, facts, sent_ns, flight.epoch);
        let mut state = self.0.state.lock();
        if !Self::unregister(&mut state, flight) || !self.live(&entry, state.epoch, now_ns) {
            return (entry, false);
        }
        if value.len() > self.0.limits.max_value_bytes {
            state.entries.remove(&*flight.key);
            return (entry, false);
        }
        state.clock += 1;
        let tick = state.clock;
        state.entries.insert(flight.key.to_vec(), (entry.clone(), tick));
        while state.entries.len() > state.capacity {
            let oldest = state.entries.iter().min_by_key(|(_, (_, tick))| *tick).map(|(key, _)| key.clone());
            oldest.map(|key| state.entries.remove(&key));
            state.stats.evictions += 1;
        }
        state.stats.stored += 1;
        (entry, true)
    }

    fn settle_missing(&self, flight: &Arc<Flight<E>>, _now_ns: u64) {
        let mut state = self.0.state.lock();
        if Self::unregister(&mut state, flight) {
            state.entries.remove(&*flight.key);
        }
    }

    fn settle_unkept(&self, flight: &Arc<Flight<E>>, _why: Unkept) {
        Self::unregister(&mut self.0.state.lock(), flight);
    }
}
