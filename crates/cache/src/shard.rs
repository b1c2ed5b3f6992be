//! One shard: the entries and the fills of some of the keys, under one lock.
//!
//! Nothing here allocates or frees a value: what leaves is returned ([`Gone`]), and dropped by the caller after the lock. Whoever
//! changes a shard compares its [`Totals`] before and after, and settles the difference with the [room](crate::room).

use hashbrown::HashTable;

use crate::absence::{Absence, Absences};
use crate::budget::{charge, charge_beside};
use crate::departure::{Departure, Gone};
use crate::entry::Entry;
use crate::held::Registered;
use crate::index::Index;
use crate::list::{List, NO_TICK, Tag};
use crate::moment::Moment;
use crate::negatives::Negatives;
use crate::others::Others;
use crate::stats::Stats;
use crate::sweep::SweepRound;
use crate::totals::Totals;
use crate::view::{Partition, View};

/// The entries and fills of some of the keys.
pub(crate) struct Shard<E> {
    pub(crate) list: List,
    index: Index,
    others: Others,
    /// See [`register`](crate::register).
    pub(crate) fills: HashTable<Registered<E>>,
    /// List slots reserved as address space.
    reserve: usize,
    /// The greatest tick given here: a caller whose clock was read earlier than another's does not turn it back.
    clock: u64,
    /// The charges of the entries; the list and the index know their own bytes.
    charged: u64,
    /// What other threads see as the tick of the oldest entry.
    pub(crate) published: u64,
    pub(crate) negatives: Negatives,
    /// What other threads see as the time of the oldest key without a value.
    pub(crate) published_negative: u64,
    /// The counters of what happened here; gauges are filled in when they are read.
    pub(crate) stats: Stats,
    pub(crate) round: SweepRound,
    pub(crate) absences: Absences,
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
    /// One of `shards`, that suits about `entries` entries, with list slots reserved for `reserve` of them.
    pub(crate) fn new(entries: usize, reserve: usize, shards: usize) -> Shard<E> {
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
            absences: Absences::new(shards),
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
        at: &Moment<'_>,
    ) -> Probed {
        let Some((slot, first)) = self.find(key, hash) else { return Probed::Absent };
        match at.death(first) {
            None => {
                let accepts = |entry: &Entry| entry.partition() == view.partition && or(entry);
                let other = || {
                    let others =
                        || self.others.of(key, short(hash)).filter(|other| at.death(other).is_none());
                    let alike = others().find(|other| other.is_of(view));
                    alike
                        .or_else(|| Some(first).filter(|first| accepts(first)))
                        .or_else(|| others().find(|other| accepts(other)))
                };
                let found = if first.is_of(view) { Some(first) } else { other() };
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

    /// Has the processor fetch the node of a key, and tells its slot; it may be that of another whose hash is alike.
    #[inline]
    pub(crate) fn fetch_node(&self, hash: u64) -> Option<u32> {
        // What tells them apart is in the node.
        let slot = self.index.find(short(hash), |_| true)?;
        self.list.fetch(slot);
        Some(slot)
    }

    /// The common case of [`touch`](Self::touch): a value that is surely alive and `satisfies`.
    #[inline]
    pub(crate) fn hit(
        &mut self,
        key: &[u8],
        partition: Partition,
        hash: u64,
        at: &Moment<'_>,
        satisfies: impl FnOnce(&Entry) -> bool,
    ) -> Option<Entry> {
        let (slot, first) = self.find(key, hash)?;
        if !first.is_value_in(partition) || !at.is_surely_alive(first) || !satisfies(first) {
            return None;
        }
        let entry = first.clone();
        let tick = self.tick(at);
        self.list.promote(slot, tick);
        Some(entry)
    }

    /// Looks an answer about a key up and changes nothing.
    pub(crate) fn peek(&self, key: &[u8], view: View<'_>, hash: u64, at: &Moment<'_>) -> Option<Entry> {
        let (_, first) = self.find(key, hash).filter(|(_, first)| at.death(first).is_none())?;
        if first.is_of(view) {
            return Some(first.clone());
        }
        let mut others = self.others.of(key, short(hash)).filter(|other| at.death(other).is_none());
        others.find(|other| other.is_of(view)).cloned()
    }

    /// Keeps an entry, its key as the most recently used, and returns what it replaces. Beside a live answer of another
    /// view it is one more about its key, unless it [outlasts](Entry::outlasts) that.
    pub(crate) fn insert(&mut self, entry: Entry, hash: u64, at: &Moment<'_>) -> Option<Gone> {
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

    fn insert_newest(&mut self, entry: Entry, hash: u64, at: &Moment<'_>) -> Option<Gone> {
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
        self.round.note(deadline, at.expiry_ns);
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
    fn insert_before(&mut self, entry: Entry, slot: u32, hash: u32, at: &Moment<'_>) -> Option<Gone> {
        self.stats.stored += 1;
        self.charged += charge(entry.payload_len());
        let deadline = at.coarse_end_of(&entry);
        self.round.note(deadline, at.expiry_ns);
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
    pub(crate) fn take_view(&mut self, entry: &Entry, hash: u64, at: &Moment<'_>) -> Option<Gone> {
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
    pub(crate) fn take(&mut self, key: &[u8], hash: u64, at: &Moment<'_>, why: Departure) -> Option<Gone> {
        let (slot, entry) = self.find(key, hash)?;
        let why = at.death(entry).map_or(why, Departure::from);
        Some(self.remove(slot, why))
    }

    /// Removes the answers about a key that are held under leases: those held for their age alone stay.
    pub(crate) fn take_leased(&mut self, key: &[u8], hash: u64, at: &Moment<'_>) -> Option<Gone> {
        let (_, first) = self.find(key, hash)?;
        // Behind a leased one stand only such.
        if first.partition().is_leased() {
            return self.take(key, hash, at, Departure::Invalidated);
        }
        let mut gone = self.take_some(key, short(hash), |other| other.partition().is_leased());
        let note = |other: &Entry| self.absences.note(short(hash), other.partition(), Absence::Invalidated);
        gone.iter().for_each(note);
        let first = gone.pop()?;
        Some(Gone { first, others: Some(gone) })
    }

    /// Removes the answers of a partition's number that stand beside a key's first.
    pub(crate) fn take_partition(&mut self, first: &Entry, hash: u32, number: u8) -> Option<Gone> {
        let mut gone = self.take_some(first.key(), hash, |other| other.partition().number() == number);
        let first = gone.pop()?;
        Some(Gone { first, others: Some(gone) })
    }

    /// Removes the answers beside a key's first that a purge covers.
    pub(crate) fn take_purged(&mut self, first: &Entry, hash: u32, at: &Moment<'_>) -> Option<Gone> {
        let is_purged = |other: &Entry| at.end_by_order(other.key(), other.epoch()).is_some();
        let mut gone = self.take_some(first.key(), hash, is_purged);
        let first = gone.pop()?;
        Some(Gone { first, others: Some(gone) })
    }

    /// Removes the entry that leaves first: one that is known to be dead, else the least recently used.
    pub(crate) fn evict(&mut self, at: &Moment<'_>) -> Option<Gone> {
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
        if let Some(why) = Absence::of_departure(why) {
            self.absences.note(hash, first.partition(), why);
            let others = others.iter().flatten();
            others.for_each(|other| self.absences.note(hash, other.partition(), why));
        }
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

    /// All answers about the key in a slot.
    pub(crate) fn answers(&self, slot: u32) -> impl Iterator<Item = &Entry> {
        let (first, hash) = (self.list.entry(slot), self.list.node(slot).hash);
        let others = first.map(|first| self.others.of(first.key(), hash));
        first.into_iter().chain(others.into_iter().flatten())
    }

    /// The same about a key.
    pub(crate) fn answers_about(&self, key: &[u8], hash: u64) -> impl Iterator<Item = &Entry> {
        self.find(key, hash).into_iter().flat_map(|(slot, _)| self.answers(slot))
    }

    #[cfg(test)]
    pub(crate) fn others_of(&self, key: &[u8], hash: u32) -> impl Iterator<Item = &Entry> {
        self.others.of(key, hash)
    }

    /// Answers beside the first ones of their keys.
    pub(crate) fn others(&self) -> usize {
        self.others.len()
    }

    #[inline]
    fn find(&self, key: &[u8], hash: u64) -> Option<(u32, &Entry)> {
        let hash = short(hash);
        let slot = self.index.find(hash, |slot| {
            let is_key = |entry: &Entry| entry.key() == key;
            self.list.node(slot).hash == hash && self.list.entry(slot).is_some_and(is_key)
        })?;
        Some((slot, self.list.entry(slot)?))
    }

    fn tick(&mut self, at: &Moment<'_>) -> u64 {
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
            Departure::Purged => &mut self.stats.purged,
        };
        *counter += 1;
    }
}

/// The part of a hash by which a shard finds entries; the other part has selected the shard.
pub(crate) fn short(hash: u64) -> u32 {
    (hash >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::tests::aging;
    use crate::flight::Flight;
    use crate::moment::moment;
    use crate::purges::Purges;

    #[test]
    fn keys_with_equal_hashes_are_told_apart() {
        let purges = Purges::new();
        let at = moment(1, &purges, 100);
        let mut shard: Shard<()> = Shard::new(10, 10, 1);
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
