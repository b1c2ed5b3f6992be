//! One shard: the entries and the fills of some of the keys, under one lock.
//!
//! Nothing here allocates or frees a value: what leaves is returned ([`Gone`]), and dropped by the caller after the lock. Whoever
//! changes a shard compares its [`Totals`] before and after, and settles the difference with the [room](crate::room).

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashTable;
use mutant::Mutant;
use sync::{Mutex, MutexGuard};

use crate::MOST_SENT;
use crate::budget::{charge, charge_beside};
use crate::departure::{Departure, Gone};
use crate::entry::Entry;
use crate::flight::Flight;
use crate::held::{FillState, Registered, Released, Send};
use crate::index::Index;
use crate::list::{List, NO_TICK, Tag};
use crate::moment::Moment;
use crate::negatives::Negatives;
use crate::others::Others;
use crate::stats::Stats;
use crate::sweep::SweepRound;
use crate::totals::Totals;
use crate::view::View;

/// The entries and fills of some of the keys.
pub(crate) struct Shard<E> {
    pub(crate) list: List,
    index: Index,
    others: Others,
    fills: HashTable<Registered<E>>,
    /// List slots reserved as address space.
    reserve: usize,
    /// The greatest tick given here: a caller whose clock was read earlier than another's does not turn it back.
    clock: u64,
    /// The charges of the entries; the list and the index know their own bytes.
    charged: u64,
    /// What other threads see as the tick of the oldest entry.
    published: u64,
    negatives: Negatives,
    /// What other threads see as the time of the oldest key without a value.
    published_negative: u64,
    /// The counters of what happened here; gauges are filled in when they are read.
    pub(crate) stats: Stats,
    pub(crate) round: SweepRound,
}

/// What a key's place holds.
pub(crate) enum Probed {
    /// A live entry, now the most recently used.
    Live(Entry),
    /// An entry that was dead. It has been removed; the totals are what that changed.
    Dead(Gone, Totals),
    Absent,
}

impl<E> Shard<E> {
    /// A shard that suits about `entries` entries, with list slots reserved for `reserve` of them.
    pub(crate) fn new(entries: usize, reserve: usize) -> Shard<E> {
        Shard {
            list: List::new(reserve),
            index: Index::new(entries),
            others: Others::default(),
            fills: HashTable::new(),
            reserve,
            clock: 0,
            charged: 0,
            published: NO_TICK,
            negatives: Negatives::default(),
            published_negative: NO_TICK,
            stats: Stats::default(),
            round: SweepRound::new(),
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        let bytes = self.charged + self.list.bytes() + self.index.bytes();
        Totals::new(self.list.len(), bytes, self.negatives.held())
    }

    /// The slot of the oldest key without a value, and when that was fetched.
    pub(crate) fn oldest_negative(&mut self) -> Option<(u32, u64)> {
        self.negatives.oldest(&self.list)
    }

    /// The charges of the entries alone, for a recount.
    #[cfg(test)]
    pub(crate) fn charges(&self) -> u64 {
        self.charged
    }

    /// Looks an answer about a key up as a use of the key: the one of that view, or one that `or` accepts in its place.
    pub(crate) fn touch(
        &mut self,
        key: &[u8],
        view: View<'_>,
        or: impl Fn(&Entry) -> bool,
        hash: u64,
        at: &Moment,
    ) -> Probed {
        let Some((slot, first)) = self.find(key, hash) else { return Probed::Absent };
        match at.death(first) {
            None => {
                let accepts = |entry: &Entry| entry.partition() == view.partition && or(entry);
                let other = || {
                    let others =
                        || self.others.of(key, short(hash)).filter(|other| at.death(other).is_none());
                    let alike = others().find(|other| view.is_of(other));
                    alike
                        .or_else(|| Some(first).filter(|first| accepts(first)))
                        .or_else(|| others().find(|other| accepts(other)))
                };
                let found = if view.is_of(first) { Some(first) } else { other() };
                let Some(entry) = found.cloned() else { return Probed::Absent };
                let tick = self.tick(at);
                self.list.promote(slot, tick);
                Probed::Live(entry)
            }
            Some(death) => {
                let before = self.totals();
                let entry = self.remove(slot, death.into());
                Probed::Dead(entry, self.totals() - before)
            }
        }
    }

    /// Looks an answer about a key up and changes nothing.
    pub(crate) fn peek(&self, key: &[u8], view: View<'_>, hash: u64, at: &Moment) -> Option<Entry> {
        let (_, first) = self.find(key, hash).filter(|(_, first)| at.death(first).is_none())?;
        if view.is_of(first) {
            return Some(first.clone());
        }
        let mut others = self.others.of(key, short(hash)).filter(|other| at.death(other).is_none());
        others.find(|other| view.is_of(other)).cloned()
    }

    /// Keeps an entry, its key as the most recently used, and returns what it replaces. Beside a live answer of another
    /// view it is one more about its key, unless it [outlasts](Entry::outlasts) that.
    pub(crate) fn insert(&mut self, entry: Entry, hash: u64, at: &Moment) -> Option<Gone> {
        let mut outlasted = self.take_outlasted(&entry, short(hash));
        let mut gone = self.insert_newest(entry, hash, at);
        if let Some(first) = outlasted.pop() {
            let gone = gone.get_or_insert(Gone { first, others: None });
            gone.others.get_or_insert_default().append(&mut outlasted);
        }
        gone
    }

    fn take_outlasted(&mut self, entry: &Entry, hash: u32) -> Vec<Entry> {
        self.take_some(entry.key(), hash, |other| entry.outlasts(other))
    }

    fn take_some(&mut self, key: &[u8], hash: u32, leaves: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let gone = self.others.take_some(key, hash, leaves);
        self.charged -= gone.iter().map(|other| charge_beside(other.payload_len())).sum::<u64>();
        self.stats.others_left += gone.len() as u64;
        gone
    }

    fn insert_newest(&mut self, entry: Entry, hash: u64, at: &Moment) -> Option<Gone> {
        let tick = self.tick(at);
        let replaces = |old: &Entry| old.view() == entry.view() || entry.outlasts(old);
        let precedes = |old: &Entry| old.partition().is_leased() && !entry.partition().is_leased();
        let found = self.find(entry.key(), hash);
        let found = found.map(|(slot, old)| (slot, at.death(old), replaces(old), precedes(old)));
        if let Some((slot, None, false, precedes)) = found {
            self.list.promote(slot, tick);
            return match precedes {
                true => self.insert_before(entry, slot, short(hash), at),
                false => self.insert_beside(entry, short(hash)),
            };
        }
        let deadline = at.coarse_end_of(&entry);
        self.round.note(deadline);
        self.stats.stored += 1;
        self.charged += charge(entry.payload_len());
        let newest = entry.clone();
        let (slot, old) = match found {
            None => {
                let hash = short(hash);
                let slot = self.list.push(entry, Tag { hash, deadline }, tick);
                self.index.insert(hash, slot, |slot| self.list.node(slot).hash);
                (slot, None)
            }
            Some((slot, death, ..)) => {
                let old = self.list.replace(slot, entry, deadline);
                self.list.promote(slot, tick);
                let why = death.map_or(Departure::Replaced, Departure::from);
                // What stood beside a dead entry is as old as that.
                let others = death.and_then(|_| self.take_others(newest.key(), short(hash)));
                (slot, old.inspect(|old| self.count_departure(old, why)).map(|first| Gone { first, others }))
            }
        };
        self.negatives.entered(&newest, slot, &self.list);
        old
    }

    /// Keeps an answer in the place of its key's first one, which stands beside it from now on.
    fn insert_before(&mut self, entry: Entry, slot: u32, hash: u32, at: &Moment) -> Option<Gone> {
        self.stats.stored += 1;
        self.charged += charge(entry.payload_len());
        let deadline = at.coarse_end_of(&entry);
        self.round.note(deadline);
        let newest = entry.clone();
        let first = self.list.replace(slot, entry, deadline)?;
        self.charged -= charge(first.payload_len());
        self.negatives.left(&first);
        self.negatives.entered(&newest, slot, &self.list);
        self.put_beside(first, hash)
    }

    /// Keeps one more answer about a key.
    fn insert_beside(&mut self, entry: Entry, hash: u32) -> Option<Gone> {
        self.stats.stored += 1;
        self.put_beside(entry, hash)
    }

    fn put_beside(&mut self, entry: Entry, hash: u32) -> Option<Gone> {
        self.charged += charge_beside(entry.payload_len());
        let gone = self.others.insert(entry, hash)?;
        self.charged -= charge_beside(gone.payload_len());
        self.stats.replaced += 1;
        Some(Gone { first: gone, others: None })
    }

    /// Removes the answer of the view of `entry`, because a newer one cannot be kept; if it is a key's first, all others
    /// with it.
    pub(crate) fn take_view(&mut self, entry: &Entry, hash: u64, at: &Moment) -> Option<Gone> {
        let (_, first) = self.find(entry.key(), hash)?;
        if first.view() == entry.view() || at.death(first).is_some() {
            return self.take(entry.key(), hash, at, Departure::Replaced);
        }
        let gone = self.others.remove(entry, short(hash))?;
        self.charged -= charge_beside(gone.payload_len());
        self.stats.replaced += 1;
        Some(Gone { first: gone, others: None })
    }

    fn take_others(&mut self, key: &[u8], hash: u32) -> Option<Vec<Entry>> {
        let others = self.others.take(key, hash)?;
        self.charged -= others.iter().map(|other| charge_beside(other.payload_len())).sum::<u64>();
        self.stats.others_left += others.len() as u64;
        Some(others)
    }

    /// Removes the entry of a key for the reason given, or for being dead already.
    pub(crate) fn take(&mut self, key: &[u8], hash: u64, at: &Moment, why: Departure) -> Option<Gone> {
        let (slot, entry) = self.find(key, hash)?;
        let why = at.death(entry).map_or(why, Departure::from);
        Some(self.remove(slot, why))
    }

    /// Removes the answers about a key that are held under leases: those held for their age alone stay.
    pub(crate) fn take_leased(&mut self, key: &[u8], hash: u64, at: &Moment) -> Option<Gone> {
        let (_, first) = self.find(key, hash)?;
        // Behind a leased one stand only such.
        if first.partition().is_leased() {
            return self.take(key, hash, at, Departure::Invalidated);
        }
        let mut gone = self.take_some(key, short(hash), |other| other.partition().is_leased());
        let first = gone.pop()?;
        Some(Gone { first, others: Some(gone) })
    }

    /// Removes the answers of a partition's number that stand beside a key's first.
    pub(crate) fn take_partition(&mut self, first: &Entry, hash: u32, number: u8) -> Option<Gone> {
        let mut gone = self.take_some(first.key(), hash, |other| other.partition().number() == number);
        let first = gone.pop()?;
        Some(Gone { first, others: Some(gone) })
    }

    /// Whether a fill of a partition's number is registered.
    pub(crate) fn has_fills_of(&self, number: u8) -> bool {
        self.fills.iter().any(|fill| fill.flight.partition.number() == number)
    }

    /// Removes the entry that leaves first: one that is known to be dead, else the least recently used.
    pub(crate) fn evict(&mut self, at: &Moment) -> Option<Gone> {
        let slot = self.known_dead(at).or_else(|| self.list.oldest())?;
        let why = self.list.entry(slot).and_then(|entry| at.death(entry));
        Some(self.remove(slot, why.map_or(Departure::Evicted, Departure::from)))
    }

    /// Removes the entry in a slot, and all other answers about its key.
    pub(crate) fn remove(&mut self, slot: u32, why: Departure) -> Gone {
        let hash = self.list.node(slot).hash;
        self.index.remove(hash, slot);
        let first = self.list.remove(slot);
        self.count_departure(&first, why);
        let others = self.take_others(first.key(), hash);
        Gone { first, others }
    }

    /// Makes the list and the index as small as the entries need, and returns the old ones to be freed.
    pub(crate) fn compact(&mut self) -> (List, Index) {
        let old_list = self.list.compact(self.reserve);
        let mut index = self.index.emptied();
        for slot in 1..=self.list.slots() {
            index.insert(self.list.node(slot).hash, slot, |slot| self.list.node(slot).hash);
        }
        self.round.renumbered();
        self.negatives.renumbered(&self.list);
        (old_list, std::mem::replace(&mut self.index, index))
    }

    /// A registered fill of a view of a key that a reader may join: not from before a flush, not sent so long ago that its value
    /// would be born expired, and not sent before `since_ns`. The newest, and one that is held only if there is no other.
    pub(crate) fn joinable(
        &self,
        key: &[u8],
        view: View<'_>,
        hash: u64,
        since_ns: u64,
        at: &Moment,
    ) -> Option<Arc<Flight<E>>> {
        let since_ns = if mutant::is_on(Mutant::JoinWithoutSent) { 0 } else { since_ns };
        let is_late = |sent: u64| sent >= since_ns && !at.is_over(sent);
        let fills = self.fills.iter_hash(hash).filter(|fill| {
            is_of(&fill.flight, key, hash)
                && fill.flight.view() == view
                && fill.is_joined(at.epoch)
                && fill.flight.sent_ns().is_none_or(is_late)
        });
        let newest = fills.max_by_key(|fill| (!fill.is_held(), fill.flight.registered_ns));
        newest.map(|fill| fill.flight.clone())
    }

    /// Whether a fill like this may be sent now.
    pub(crate) fn has_room_for(&self, flight: &Flight<E>) -> bool {
        self.alike(flight).filter(|fill| !fill.is_held()).count() < MOST_SENT
    }

    /// Puts a fill on the register. `false` if it is held: it must not be sent before another like it has ended.
    pub(crate) fn register(&mut self, flight: Arc<Flight<E>>) -> bool {
        let is_sent = self.has_room_for(&flight);
        let standing = if is_sent {
            FillState::Registered
        } else {
            self.alike(&flight).for_each(|fill| fill.flight.set_followed());
            if mutant::is_on(Mutant::HeldStampedEarly) {
                flight.stamp_sent(flight.registered_ns);
            }
            FillState::Held(None)
        };
        let fill = Registered { flight, standing };
        self.fills.insert_unique(fill.flight.hash, fill, |fill| fill.flight.hash);
        is_sent
    }

    /// Of the fills like this one the one that is held, if it may be sent now: it counts as sent from here on.
    pub(crate) fn release(&mut self, like: &Flight<E>, at: &Moment) -> Option<Released<E>> {
        if !self.has_room_for(like) {
            return None;
        }
        let mut held = self.fills.iter_hash_mut(like.hash).filter(|fill| fill.is_like(like));
        let fill = held.find(|fill| fill.is_held())?;
        let FillState::Held(send) = std::mem::replace(&mut fill.standing, FillState::Registered) else {
            return None;
        };
        if !mutant::is_on(Mutant::HeldStampedEarly) {
            fill.flight.set_epoch(at.epoch);
        }
        Some((fill.flight.clone(), send))
    }

    /// Leaves with a held fill how it is to be sent; gives it back if it is not held any more.
    pub(crate) fn leave(&mut self, flight: &Arc<Flight<E>>, send: Send<E>) -> Option<Send<E>> {
        let fill = self.fills.find_mut(flight.hash, |fill| Arc::ptr_eq(&fill.flight, flight));
        match fill.map(|fill| &mut fill.standing) {
            Some(FillState::Held(place)) => {
                *place = Some(send);
                None
            }
            _ => Some(send),
        }
    }

    fn alike<'a>(&'a self, flight: &'a Flight<E>) -> impl Iterator<Item = &'a Registered<E>> {
        self.fills.iter_hash(flight.hash).filter(|fill| fill.is_like(flight))
    }

    /// Takes a fill that has ended off the register and tells whether its answer may be kept.
    pub(crate) fn unregister(&mut self, flight: &Arc<Flight<E>>) -> bool {
        let found = self.fills.find_entry(flight.hash, |fill| Arc::ptr_eq(&fill.flight, flight));
        found.is_ok_and(|found| matches!(found.remove().0.standing, FillState::Registered))
    }

    /// The answers of a key's fills that are on their way are not to be kept. One that is held will be sent later.
    pub(crate) fn unregister_key(&mut self, key: &[u8], hash: u64) {
        self.unregister_some(key, hash, |_| true);
    }

    /// As [`unregister_key`](Self::unregister_key), for the fills whose answers would be held under leases.
    pub(crate) fn unregister_leased(&mut self, key: &[u8], hash: u64) {
        self.unregister_some(key, hash, |fill| fill.partition.is_leased());
    }

    fn unregister_some(&mut self, key: &[u8], hash: u64, leaves: impl Fn(&Flight<E>) -> bool) {
        for fill in self.fills.iter_hash_mut(hash) {
            if !fill.is_held() && is_of(&fill.flight, key, hash) && leaves(&fill.flight) {
                fill.standing = FillState::Overtaken;
            }
        }
    }

    /// All answers about the key in a slot.
    pub(crate) fn answers(&self, slot: u32) -> impl Iterator<Item = &Entry> {
        let (first, hash) = (self.list.entry(slot), self.list.node(slot).hash);
        let others = first.map(|first| self.others.of(first.key(), hash));
        first.into_iter().chain(others.into_iter().flatten())
    }

    #[cfg(test)]
    pub(crate) fn others_of(&self, key: &[u8], hash: u32) -> impl Iterator<Item = &Entry> {
        self.others.of(key, hash)
    }

    /// Answers beside the first ones of their keys.
    pub(crate) fn others(&self) -> usize {
        self.others.len()
    }

    pub(crate) fn fills_in_flight(&self) -> usize {
        self.fills.len()
    }

    fn find(&self, key: &[u8], hash: u64) -> Option<(u32, &Entry)> {
        let hash = short(hash);
        let slot = self.index.find(hash, |slot| {
            let is_key = |entry: &Entry| entry.key() == key;
            self.list.node(slot).hash == hash && self.list.entry(slot).is_some_and(is_key)
        })?;
        Some((slot, self.list.entry(slot)?))
    }

    fn tick(&mut self, at: &Moment) -> u64 {
        self.clock = self.clock.max(at.now_ns).min(NO_TICK - 1);
        self.clock
    }

    fn count_departure(&mut self, entry: &Entry, why: Departure) {
        self.charged -= charge(entry.payload_len());
        self.negatives.left(entry);
        let counter = match why {
            Departure::Replaced => &mut self.stats.replaced,
            Departure::Evicted => &mut self.stats.evictions,
            Departure::Expired => &mut self.stats.expiries,
            Departure::Invalidated => &mut self.stats.invalidations,
            Departure::Flushed => &mut self.stats.flushed,
        };
        *counter += 1;
    }
}

/// The part of a hash by which a shard finds entries; the other part has selected the shard.
fn short(hash: u64) -> u32 {
    (hash >> 32) as u32
}

pub(crate) fn is_of<E>(fill: &Flight<E>, key: &[u8], hash: u64) -> bool {
    fill.hash == hash && *fill.key == *key
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::tests::aging;

    #[test]
    fn keys_with_equal_hashes_are_told_apart() {
        let at = Moment { now_ns: 1, epoch: 0, expiry_ns: 100 };
        let mut shard: Shard<()> = Shard::new(10, 10);
        for key in [b"a", b"b"] {
            assert!(shard.insert(aging(key, key, 0, 0), 7, &at).is_none());
            assert!(shard.register(Flight::new(key, View::VALUE, 7, 0, 0)));
        }
        shard.unregister_key(b"a", 7);
        for key in [b"a", b"b"] {
            assert_eq!(
                shard.peek(key, View::VALUE, 7, &at).map(|entry| entry.value().to_vec()),
                Some(key.to_vec())
            );
            assert_eq!(shard.joinable(key, View::VALUE, 7, 0, &at).is_some(), key == b"b");
        }
        assert!(
            shard.peek(b"c", View::VALUE, 7, &at).is_none()
                && shard.joinable(b"c", View::VALUE, 7, 0, &at).is_none()
        );
    }
}
