//! What keys take of the cache, for those who look: without counting as use.

use crate::budget::{charge, charge_beside};
use crate::entry::Entry;
use crate::moment::Moment;
use crate::scan::Cursor;
use crate::sweep::SLOTS_A_LOCK;
use crate::{Cache, Inner};

/// What is held of a key in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// The key.
    pub key: Box<[u8]>,
    /// The partition's number.
    pub partition: u8,
    /// What all answers about it are charged.
    pub bytes: u64,
    /// When the first of them ends, if that is before the end of time.
    pub end_ns: Option<u64>,
}

/// One step of a walk, or a sample.
#[derive(Debug)]
pub struct Footprints {
    /// In no useful order, each key once a partition.
    pub found: Vec<Footprint>,
    /// Where a walk goes on; none at the end.
    pub next: Option<Cursor>,
    /// Of a sample, in how many samples like it all keys would be.
    pub of: f64,
}

impl<E> Cache<E> {
    /// What is held of a key in the partitions of a number.
    pub fn footprint(&self, key: &[u8], number: u8, now_ns: u64) -> Option<Footprint> {
        let hash = self.0.hasher.hash(key);
        let shard = self.0.lock(hash);
        let at = self.0.moment(now_ns);
        let answers: Vec<Entry> = shard.answers_about(key, hash).cloned().collect();
        drop(shard);
        footprints(&answers, &at).into_iter().find(|found| found.partition == number)
    }

    /// Visits at most `slots` slots from `cursor` on, as [`scan`](Self::scan) does, and tells what the keys in them take.
    pub fn footprints(&self, cursor: Cursor, slots: usize, now_ns: u64) -> Footprints {
        let mut found = Vec::new();
        let (mut cursor, mut left) = (cursor, slots.max(1));
        while left > 0 && cursor.shard < self.0.cells.len() {
            let step = SLOTS_A_LOCK.min(left);
            let seen = |numbering| if cursor.numbering == numbering { cursor.slot } else { 0 };
            let weighed = self.0.weigh(cursor.shard, seen, step, now_ns, &mut found);
            left -= weighed.slots.max(1);
            cursor = weighed.next.unwrap_or(Cursor { shard: cursor.shard + 1, slot: 0, numbering: 0 });
        }
        Footprints { found, next: Some(cursor).filter(|cursor| cursor.shard < self.0.cells.len()), of: 1.0 }
    }

    /// What the keys in about `slots` slots take that lie side by side in each shard, from a place on that `random` selects.
    pub fn sample_footprints(&self, slots: usize, random: u64, now_ns: u64) -> Footprints {
        let (mut found, mut seen, mut all) = (Vec::new(), 0u64, 0u64);
        let a_shard = (slots / self.0.cells.len()).max(1);
        for at in 0..self.0.cells.len() {
            let held = self.0.lock_at(at).list.slots() as usize;
            all += held as u64;
            let start = if held > a_shard { usize::try_from(random % held as u64).unwrap_or(0) } else { 0 };
            let mut left = a_shard.min(held);
            seen += left as u64;
            let mut from = start;
            while left > 0 {
                let step = SLOTS_A_LOCK.min(left).min(held - from);
                let seen = u32::try_from(from).unwrap_or(u32::MAX);
                self.0.weigh(at, |_| seen, step, now_ns, &mut found);
                left -= step;
                from = if from + step >= held { 0 } else { from + step };
            }
        }
        Footprints { found, next: None, of: all as f64 / seen.max(1) as f64 }
    }
}

/// How far a step has come.
struct Weighed {
    slots: usize,
    /// Where the shard's next step begins; none at its end.
    next: Option<Cursor>,
}

impl<E> Inner<E> {
    /// Tells of `step` slots of a shard behind the one that was `seen` last, as the shard numbers them now.
    fn weigh(
        &self,
        at: usize,
        seen: impl Fn(u32) -> u32,
        step: usize,
        now_ns: u64,
        found: &mut Vec<Footprint>,
    ) -> Weighed {
        let mut answers: Vec<Entry> = Vec::with_capacity(step); // before the lock
        let shard = self.lock_at(at);
        let numbering = shard.round.numbering;
        let seen = seen(numbering);
        let last = shard.list.slots().min(seen.saturating_add(u32::try_from(step).unwrap_or(u32::MAX)));
        for slot in seen.saturating_add(1)..=last {
            answers.extend(shard.answers(slot).cloned());
        }
        let is_end = last >= shard.list.slots();
        let moment = self.moment(now_ns);
        drop(shard);
        for of_key in answers.chunk_by(|one, other| one.key() == other.key()) {
            found.append(&mut footprints(of_key, &moment));
        }
        let next = (!is_end).then_some(Cursor { shard: at, slot: last, numbering });
        Weighed { slots: last.saturating_sub(seen) as usize, next }
    }
}

/// What these answers about one key, its first one before all others, take by partition.
fn footprints(answers: &[Entry], at: &Moment<'_>) -> Vec<Footprint> {
    let mut found: Vec<Footprint> = Vec::new();
    let is_alive = |entry: &Entry| at.death(entry).is_none();
    for (place, entry) in answers.iter().enumerate().filter(|(_, entry)| is_alive(entry)) {
        let bytes = if place == 0 { charge(entry.payload_len()) } else { charge_beside(entry.payload_len()) };
        let end_ns = Some(at.end_of(entry)).filter(|end| *end != u64::MAX);
        let partition = entry.partition().number();
        match found.iter_mut().find(|found| found.partition == partition) {
            Some(found) => {
                found.bytes += bytes;
                found.end_ns = [found.end_ns, end_ns].into_iter().flatten().min();
            }
            None => found.push(Footprint { key: entry.key().into(), partition, bytes, end_ns }),
        }
    }
    found
}
