//! An exact LRU cache of byte values, sharded, with fills as values and an honest byte budget.
//!
//! What it promises:
//! - LRU is exact for the whole cache. When `capacity` entries are held, a new key evicts exactly one: the one whose
//!   last use is oldest (or one that has expired and is known to have). Concurrent operations are ordered by the clock
//!   readings they were given.
//! - It never holds more than `capacity` entries, nor more than the byte budget, once an insert has returned.
//! - An expired entry is never served, and its memory is reclaimed within a round of [`Cache::maintain`].
//! - Statistics, scans and peeks do not count as use.
//! - A fill is kept only while it is registered: an invalidation of its key, a flush and a purge of its prefix unregister it.
//! - An entry that came by a tracked connection is served while the connection's [lease](Lease) proves it as late as the
//!   reader [needs](Need), and never from the deadline of its key on.
//! - An answer that its age alone holds is not touched by what becomes of those under leases.
//!
//! What it does not do: it opens no socket, reads no clock, starts no task. Time is an argument, `now_ns`: nanoseconds of
//! a clock that never steps and does not stop in suspend. Read it for every request: two uses with the same reading
//! have no order between shards.
//!
//! How it holds together: a key's hash selects a [shard]; a shard is a hash [index] into a [list] in order of use, and a
//! register of the fills in flight, under one lock. The oldest entry of all is found by comparing the tails that the
//! shards publish ([room]). Three rules keep it quick and free of deadlock: at most one shard is locked at a time;
//! nothing is allocated for a value, copied or freed under a shard's lock; no waker runs under any lock.

mod absence;
mod ahead;
mod budget;
mod commit;
mod departure;
mod entry;
mod entry_limits;
mod fill;
mod flight;
mod flow;
mod footprint;
mod held;
mod hit;
mod index;
mod lease;
mod list;
mod lock;
mod moment;
mod need;
mod negatives;
mod others;
mod partition;
mod purge;
mod purges;
mod register;
mod room;
mod room_queue;
mod scan;
mod shard;
mod stats;
#[cfg(test)]
mod stress;
mod sweep;
mod totals;
mod view;

use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;
use sync::atomic::AtomicU64;

use siphasher::sip::SipHasher13;
use sync::Mutex;

pub use crate::absence::Absence;
pub use crate::entry::{ALLOCATION_OVERHEAD, Entry, Facts, KEY_LEN_MAX, Keep};
pub use crate::entry_limits::EntryLimits;
pub use crate::fill::{Fill, Waiter};
pub use crate::flight::{Outcome, Stored};
pub use crate::footprint::{Footprint, Footprints};
pub use crate::held::Held;
pub use crate::lease::{Ends, Lease};
pub use crate::need::Need;
pub use crate::partition::Cleared;
pub use crate::purge::PurgeSweep;
pub use crate::scan::{Cursor, Scan};
pub use crate::stats::Stats;
pub use crate::sweep::Maintained;
pub use crate::view::{Partition, View};

use crate::departure::{Departure, Gone};
use crate::flight::Flight;
use crate::list::NO_TICK;
use crate::lock::{Cell, Locked};
use crate::moment::Moment;
use crate::purge::PurgeRound;
use crate::purges::{Purges, precedes};
use crate::room::{EXTRA_EVICTIONS, Room};
use crate::room_queue::RoomQueue;
use crate::shard::{Probed, Shard};
use crate::totals::Totals;

/// Up to this capacity there is one shard, and the order of use is the order of its lock.
const ONE_SHARD_CAPACITY: usize = 4096;
const SHARDS_MAX: usize = 64;

/// List slots that a shard reserves at most, as address space: 8 MiB.
const RESERVE_MAX: usize = 1 << 18;

/// Fetches of one view of a key that are on their way at a time, at most, those included that a change has overtaken. One
/// more is held.
pub const MOST_SENT: usize = 2;

/// Slots are numbered in 32 bits, and all entries may meet in one shard.
const CAPACITY_MAX: usize = u32::MAX as usize / 2;

/// How large the cache may become and how long an entry lives.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Keys held at most; taken as at least 1 and at most 2,147,483,647.
    pub capacity: usize,
    /// Bytes accounted at most, if bounded: the entries with their overhead, and the lists and tables that find them.
    pub capacity_bytes: Option<u64>,
    /// How long after its fetch was sent an entry lives.
    pub expiry: Duration,
    /// Values with more bytes pass through uncached.
    pub max_value_bytes: usize,
    /// Shards, taken as the next power of two up to 64. None: one up to 4,096 keys, else four a core. One lock serves some 3
    /// million hits a second; where more than four threads ask, four shards a thread are better, whatever the capacity.
    pub shards: Option<usize>,
}

/// The cache. A clone is another handle to the same one.
///
/// `E` is the failure that those who wait for a fill get a clone of.
///
/// A large value may have to evict many small ones, about 0.2 us each: [`Fill::found`] pays for the bytes it adds before
/// it returns. What a lowered limit demands is paid in small parts by later inserts and by [`maintain`](Cache::maintain).
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
    /// The value is here, or the knowledge that there is none.
    Hit(Entry),
    /// The value is here, and its lease might prove it to a reader that waits for a command sent from now on to be
    /// answered on the lease's connection. Only for a [`Need`] that says so.
    Unproven(Arc<Lease>),
    /// Somebody is fetching it.
    Wait(Waiter<E>),
    /// It must be fetched, by whoever holds the fill; the waiter learns how that ended.
    Miss(Fill<E>, Waiter<E>),
    /// It must be fetched, but not yet: [`MOST_SENT`] fetches of it are on their way already, and none of them late enough.
    Held(Held<E>, Waiter<E>),
}

pub(crate) struct Inner<E> {
    hasher: SipHasher13,
    /// What flushes and purges have ended.
    purges: Purges,
    /// How far what purges cover has been taken out. Locked before a shard, never after.
    purge_round: Mutex<Option<PurgeRound>>,
    entry_limits: EntryLimits,
    cells: Box<[Cell<E>]>,
    /// The tick of the oldest entry of each shard, [`NO_TICK`] if empty. Side by side, because evicters read them all.
    tails: Box<[AtomicU64]>,
    /// When the oldest key without a value of each shard was fetched, [`NO_TICK`] if it has none.
    oldest_negatives: Box<[AtomicU64]>,
    room: Room,
    room_queue: RoomQueue<E>,
    /// The shard that maintenance visits. Locked before a shard, never after.
    maintaining: Mutex<usize>,
}

impl<E> Cache<E> {
    /// An empty cache. Takes microseconds and half a MiB at any capacity, for a memory of why things are not held; the rest is used as
    /// entries come.
    ///
    /// # Panics
    /// If the system has no random bytes for the key of the hash.
    pub fn new(limits: Limits) -> Self {
        let capacity = limits.capacity.clamp(1, CAPACITY_MAX);
        let shards = limits.shards.unwrap_or_else(|| shards_for(capacity));
        let shards = shards.clamp(1, SHARDS_MAX).next_power_of_two();
        let share = capacity.div_ceil(shards);
        let reserve = (share + share / 8 + 64).min(RESERVE_MAX);
        let indexed = budget::most_entries(capacity, limits.capacity_bytes).div_ceil(shards);
        let mut key = [0; 16];
        getrandom::fill(&mut key).expect("the system gives random bytes");
        Cache(Arc::new(Inner {
            hasher: SipHasher13::new_with_key(&key),
            purges: Purges::new(),
            purge_round: Mutex::new(None),
            entry_limits: EntryLimits::new(limits.expiry, limits.max_value_bytes),
            cells: (0..shards).map(|_| Cell::new(Shard::new(indexed, reserve, shards))).collect(),
            tails: (0..shards).map(|_| AtomicU64::new(NO_TICK)).collect(),
            oldest_negatives: (0..shards).map(|_| AtomicU64::new(NO_TICK)).collect(),
            room: Room::new(capacity, limits.capacity_bytes),
            room_queue: RoomQueue::default(),
            maintaining: Mutex::new(0),
        }))
    }

    /// Looks the value of a key up for an answer as fresh as `need`. A hit makes the key the most recently used; a miss
    /// registers a fill that the caller must answer.
    ///
    /// Cost of a hit: one hash, one lock, no allocation.
    pub fn lookup(&self, key: &[u8], need: Need, now_ns: u64) -> Lookup<E> {
        self.lookup_view(key, View::VALUE, |_| false, need, now_ns)
    }

    /// As [`lookup`](Self::lookup), for any view of a key. An answer of another view in the same partition that `or` accepts is as good; it
    /// is asked under a lock, so it must be quick.
    ///
    /// # Panics
    /// If a miss has a key longer than [`KEY_LEN_MAX`] and is answered.
    pub fn lookup_view(
        &self,
        key: &[u8],
        view: View<'_>,
        or: impl Fn(&Entry) -> bool,
        need: Need,
        now_ns: u64,
    ) -> Lookup<E> {
        let inner = &*self.0;
        let hash = inner.hasher.hash(key);
        let mut fresh: Option<Arc<Flight<E>>> = None;
        loop {
            let mut shard = inner.lock(hash);
            let at = inner.moment(now_ns);
            // As nearly all are, and so with nothing else to look at.
            if mutant::in_one_look(view.is_value())
                && let Some(entry) =
                    shard.hit(key, view.partition, hash, &at, |entry| inner.surely_satisfies(entry, need))
            {
                shard.stats.hits += 1;
                return Lookup::Hit(entry);
            }
            match shard.touch(key, view, &or, hash, &at) {
                Probed::Live(entry) => {
                    shard = mutant::still_locked(shard, || inner.lock(hash));
                    if inner.satisfies(&entry, need) {
                        shard.stats.hits += 1;
                        return Lookup::Hit(entry);
                    }
                    shard.stats.unproven += u64::from(fresh.is_none()); // once a lookup
                    if let Some(lease) = entry.lease().filter(|lease| need.waits && lease.is_live()) {
                        return Lookup::Unproven(lease.clone());
                    }
                }
                Probed::Dead(entry, change) => {
                    drop(shard);
                    drop(entry);
                    inner.room.settle(change);
                    continue;
                }
                Probed::Absent => {}
            }
            if let Some(flight) = shard.joinable(key, view, hash, need.since_ns, &at) {
                shard.stats.collapsed += 1;
                return Lookup::Wait(Waiter::new(flight));
            }
            match fresh.take() {
                Some(flight) if flight.epoch() == at.epoch => {
                    shard.stats.misses += 1;
                    if !shard.register(Arc::clone(&flight)) {
                        return Lookup::Held(
                            Held::new(self.clone(), Arc::clone(&flight)),
                            Waiter::new(flight),
                        );
                    }
                    return Lookup::Miss(Fill::new(self.clone(), Arc::clone(&flight)), Waiter::new(flight));
                }
                // A fill is allocated without the lock; meanwhile somebody may have come first.
                _ => {
                    drop(shard);
                    fresh = Some(Flight::new(key, view, hash, at.epoch, now_ns));
                }
            }
        }
    }

    /// What [`lookup_view`](Cache::lookup_view) would hit, as a use of the key; none where it would not, and nothing is
    /// registered or counted then.
    pub fn find(
        &self,
        key: &[u8],
        view: View<'_>,
        or: impl Fn(&Entry) -> bool,
        need: Need,
        now_ns: u64,
    ) -> Option<Entry> {
        let inner = &*self.0;
        let hash = inner.hasher.hash(key);
        let mut shard = inner.lock(hash);
        let at = inner.moment(now_ns);
        match shard.touch(key, view, or, hash, &at) {
            Probed::Live(entry) if inner.satisfies(&entry, need) => {
                shard.stats.hits += 1;
                Some(entry)
            }
            Probed::Live(_) | Probed::Absent => None,
            Probed::Dead(gone, change) => {
                drop(shard);
                drop(gone);
                inner.room.settle(change);
                None
            }
        }
    }

    /// Looks the value of a key up without counting it and without making it recent.
    pub fn peek(&self, key: &[u8], now_ns: u64) -> Option<Entry> {
        self.peek_view(key, View::VALUE, now_ns)
    }

    /// As [`peek`](Self::peek), for any view of a key.
    pub fn peek_view(&self, key: &[u8], view: View<'_>, now_ns: u64) -> Option<Entry> {
        let hash = self.0.hasher.hash(key);
        let shard = self.0.lock(hash);
        shard.peek(key, view, hash, &self.0.moment(now_ns))
    }

    /// Registers a fill of an answer that is held and wants to be fetched anew while it is still served; none if one is
    /// in flight already. Counts as no lookup.
    pub fn refetch(&self, held: &Entry, now_ns: u64) -> Option<Fill<E>> {
        let inner = &*self.0;
        let (key, view) = (held.key(), held.view());
        let hash = inner.hasher.hash(key);
        let fresh = Flight::new(key, view, hash, inner.moment(now_ns).epoch, now_ns);
        let mut shard = inner.lock(hash);
        let at = inner.moment(now_ns);
        if fresh.epoch() != at.epoch
            || shard.joinable(key, view, hash, 0, &at).is_some()
            || !shard.has_room_for(&fresh)
        {
            return None;
        }
        shard.register(Arc::clone(&fresh));
        drop(shard);
        Some(Fill::new(self.clone(), fresh))
    }

    /// Whether `entry` itself, not a later one of its key, is held and alive. What a re-reading of the key must equal,
    /// if the caller is the reader of the entry's connection.
    pub fn still_holds(&self, entry: &Entry, now_ns: u64) -> bool {
        let hash = self.0.hasher.hash(entry.key());
        let shard = self.0.lock(hash);
        let held = shard.peek(entry.key(), entry.view(), hash, &self.0.moment(now_ns));
        held.is_some_and(|held| held.is(entry))
    }

    /// Of keys used since `since_ns`, an answer each that `is_wanted`; most recent first within a shard, of at most `most` keys
    /// of each shard. Counts as no use.
    pub fn used_since(
        &self,
        since_ns: u64,
        most: usize,
        now_ns: u64,
        is_wanted: impl Fn(&Entry) -> bool,
    ) -> Vec<Entry> {
        let mut used = Vec::new();
        for at in 0..self.0.cells.len() {
            used.reserve(most); // before the lock
            let shard = self.0.lock_at(at);
            let moment = self.0.moment(now_ns);
            let recent = shard.list.newest_first().take_while(|(_, tick)| *tick >= since_ns).take(most);
            let wanted = recent.filter_map(|(slot, _)| {
                let mut live = shard.answers(slot).filter(|entry| moment.death(entry).is_none());
                live.find(|entry| is_wanted(entry))
            });
            used.extend(wanted.cloned());
        }
        used
    }

    /// Removes all answers about a key, in every partition, and unregisters its fills: their values will answer those who
    /// wait and not be kept. Tells whether an entry left that no flush or purge had killed before; it may have expired.
    pub fn invalidate(&self, key: &[u8]) -> bool {
        self.drop_key(key, Shard::unregister_key, |shard, hash, at| {
            shard.take(key, hash, at, Departure::Invalidated)
        })
    }

    /// As [`invalidate`](Self::invalidate), for what is held under leases, and fills of such: what its age alone holds stays.
    pub fn invalidate_leased(&self, key: &[u8]) -> bool {
        self.drop_key(key, Shard::unregister_leased, |shard, hash, at| shard.take_leased(key, hash, at))
    }

    fn drop_key(
        &self,
        key: &[u8],
        unregister: impl Fn(&mut Shard<E>, &[u8], u64),
        take: impl Fn(&mut Shard<E>, u64, &Moment<'_>) -> Option<Gone>,
    ) -> bool {
        let hash = self.0.hasher.hash(key);
        let mut shard = self.0.lock(hash);
        let at = self.0.moment(0); // age does not matter here
        let before = shard.totals();
        mutant::unregistered(|| unregister(&mut shard, key, hash));
        let gone = take(&mut shard, hash, &at);
        let change = shard.totals() - before;
        drop(shard);
        self.0.room.settle(change);
        let was_alive =
            gone.as_ref().is_some_and(|gone| at.end_by_order(gone.first.key(), gone.first.epoch()).is_none());
        gone.into_iter().for_each(|gone| self.0.follow(gone));
        was_alive
    }

    /// Makes every entry and every fill in flight a thing of the past, in constant time. Memory is reclaimed by inserts
    /// and by maintenance.
    pub fn flush(&self) {
        self.0.purges.flush();
    }

    /// Changes the limits. What exceeds them leaves in order of use: a little at once, the rest with the next inserts and
    /// steps of maintenance.
    pub fn resize(&self, capacity: usize, bytes: Option<u64>) {
        self.0.room.resize(capacity.clamp(1, CAPACITY_MAX), bytes);
        self.0.make_room(Totals::default(), 16 * EXTRA_EVICTIONS, 0); // age does not matter here
    }

    /// How long entries live and how large they may be, which may be changed there.
    pub fn entry_limits(&self) -> &EntryLimits {
        &self.0.entry_limits
    }

    /// Tells the byte budget how much memory the process holds, and how much of that is not the cache's doing (resident
    /// when it was ready, plus what its connections need). Call it every 100 to 250 ms; without a budget it only notes.
    pub fn observe_resident(&self, resident: u64, baseline: u64) {
        self.0.room.flow.look(usize::MAX);
        self.send_waiting();
        let accounted = self.0.room.totals().bytes.max(0) as u64 + self.0.room.flow.bytes();
        self.0.room.budget.observe(resident, baseline, accounted);
    }

    /// The counters and gauges. Locks every shard in turn: for a scrape, not for a request.
    pub fn stats(&self, now_ns: u64) -> Stats {
        let inner = &*self.0;
        let mut stats = Stats::default();
        for at in 0..inner.cells.len() {
            let shard = inner.lock_at(at);
            stats.add_counters(&shard.stats);
            let totals = shard.totals();
            stats.entries += totals.entries as u64;
            stats.accounted_bytes += totals.bytes as u64;
            stats.negatives += totals.negatives as u64;
            stats.others += shard.others() as u64;
            stats.fills_in_flight += shard.fills_in_flight() as u64;
        }
        stats.in_flight_bytes = inner.room.flow.bytes();
        stats.waiting_for_room = inner.room_queue.len() as u64;
        (stats.flushes, stats.purges) = inner.purges.counts();
        stats.live_purges = inner.purges.newest().map_or(0, |(_, live)| live as u64);
        stats.capacity = inner.room.capacity() as u64;
        (stats.budget_bytes, stats.effective_budget_bytes, stats.resident_bytes) = inner.room.budget.gauges();
        stats.oldest_use_age_ns = inner.oldest_tail().map_or(0, |(_, tick)| now_ns.saturating_sub(tick));
        stats
    }
}

impl<E> Inner<E> {
    /// Locks the shard of a key. The low bits of the hash select it, the high ones find the key in it.
    #[expect(clippy::cast_possible_truncation, reason = "the low bits are all that is wanted")]
    fn lock(&self, hash: u64) -> Locked<'_, E> {
        self.lock_at(hash as usize & (self.cells.len() - 1))
    }

    pub(crate) fn lock_at(&self, at: usize) -> Locked<'_, E> {
        self.cells[at].lock(&self.tails[at], &self.oldest_negatives[at])
    }

    /// Whether an entry is proven as late as the reader needs. To be called while its shard is locked: then an
    /// invalidation that is not applied yet has not renewed the lease either.
    fn satisfies(&self, entry: &Entry, need: Need) -> bool {
        self.satisfies_if(entry, need, || self.moment(0).end_by_order(entry.key(), entry.epoch()).is_none())
    }

    /// The same, at less cost; `false` says nothing of what is older than the sure epoch.
    #[inline(always)]
    pub(crate) fn surely_satisfies(&self, entry: &Entry, need: Need) -> bool {
        self.satisfies_if(entry, need, || !precedes(entry.epoch(), self.purges.now().1))
    }

    #[inline(always)]
    fn satisfies_if(&self, entry: &Entry, need: Need, is_alive: impl FnOnce() -> bool) -> bool {
        let proven = mutant::proven(|| entry.is_proven_since(need.since_ns));
        // After a look at the lease, and never before it: a flush that came with the renewal has been seen then.
        proven && mutant::after_flushes(entry.lease().is_none() || is_alive())
    }

    /// What is alive now. To be called while the shard is locked: then the epoch in a shard never goes back, and the
    /// entries from before a flush are the oldest of its list.
    pub(crate) fn moment(&self, now_ns: u64) -> Moment<'_> {
        let (epoch, sure) = self.purges.now();
        Moment { now_ns, epoch, sure, purges: &self.purges, expiry_ns: self.entry_limits.expiry_ns() }
    }
}

/// One shard while that is quick enough: then the order is exact even for clock readings that are equal.
fn shards_for(capacity: usize) -> usize {
    if capacity <= ONE_SHARD_CAPACITY { 1 } else { 4 * available_parallelism().map_or(1, usize::from) }
}
