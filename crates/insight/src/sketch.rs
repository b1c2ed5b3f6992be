//! Space-Saving (Metwally, Agrawal, El Abbadi 2005): the keys with the most samples, in as many counters as there are and no more.
//!
//! A key without a counter takes over that of one with the fewest samples, and its count: so none is counted too low, and too
//! high by no more than what it took over, which is noted.

use std::hash::Hasher;

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

/// Keys that a sketch counts, at most.
pub const KEYS: usize = 512;
/// Bytes of a key that a sketch keeps, at most: of a longer one those at its beginning.
pub const KEY_BYTES: usize = 128;
/// A key with fewer samples than this, after halving, is forgotten.
const FADED: f32 = 0.05;

/// An odd number that spreads small ones over all bits (2^64 by the golden ratio).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hash of a key, in whatever partition.
pub(crate) fn hash_of(hasher: &SipHasher13, key: &[u8]) -> u64 {
    let mut hasher = *hasher;
    hasher.write(key);
    hasher.finish()
}

/// A key as a sketch knows it: what it shows of it, and a hash of all of it.
#[derive(Clone, Copy)]
pub(crate) struct SketchedKey<'a> {
    hash: u64,
    partition: u8,
    key: &'a [u8],
    is_cut: bool,
}

impl<'a> SketchedKey<'a> {
    pub(crate) fn new(hasher: &SipHasher13, partition: u8, key: &'a [u8]) -> Self {
        let kept = &key[..key.len().min(KEY_BYTES)];
        let hash = hash_of(hasher, key) ^ u64::from(partition).wrapping_mul(SPREAD);
        SketchedKey { hash, partition, key: kept, is_cut: kept.len() < key.len() }
    }
}

/// What is counted of a key beside its samples. Halved with them.
pub(crate) trait Marks: Copy + Default {
    fn halve(&mut self);
    fn add(&mut self, other: &Self);
}

/// The samples of one key.
#[derive(Clone, Debug)]
pub(crate) struct KeyCounter<T> {
    pub(crate) hash: u64,
    pub(crate) partition: u8,
    pub(crate) is_cut: bool,
    pub(crate) key: Vec<u8>,
    /// Samples, each by its weight, with what was taken over.
    count: f32,
    /// Of another key, or of this one before that.
    pub(crate) taken_over: f32,
    /// The sum of the squares of the weights.
    pub(crate) squares: f32,
    pub(crate) marks: T,
}

impl<T> KeyCounter<T> {
    fn is_of(&self, key: &SketchedKey<'_>) -> bool {
        self.hash == key.hash && self.partition == key.partition && self.key == key.key
    }

    /// Samples since it took over, each by its weight.
    pub(crate) fn samples(&self) -> f32 {
        self.count - self.taken_over
    }
}

/// The keys with the most samples.
#[derive(Debug)]
pub(crate) struct Sketch<T> {
    counters: Vec<KeyCounter<T>>,
    index: HashTable<u16>,
    /// Counters below this may be taken over: within one sample of the fewest. The next such one is sought from `cursor` on, so
    /// that all are looked at once for a rise of one sample.
    floor: f32,
    cursor: usize,
    /// All samples, each by its weight.
    pub(crate) total: f64,
}

impl<T> Default for Sketch<T> {
    fn default() -> Self {
        Sketch { counters: Vec::new(), index: HashTable::new(), floor: 0.0, cursor: 0, total: 0.0 }
    }
}

impl<T: Marks> Sketch<T> {
    /// Counts a sample of a key.
    pub(crate) fn note(&mut self, key: &SketchedKey<'_>, mark: impl FnOnce(&mut T)) {
        self.total += 1.0;
        let at = match self.find(key) {
            Some(at) => at,
            None => self.enter(key),
        };
        let counter = &mut self.counters[at];
        counter.count += 1.0;
        counter.squares += 1.0;
        mark(&mut counter.marks);
    }

    fn find(&self, key: &SketchedKey<'_>) -> Option<usize> {
        let found = self.index.find(key.hash, |at| self.counters[usize::from(*at)].is_of(key));
        found.map(|at| usize::from(*at))
    }

    /// Finds a key a counter.
    fn enter(&mut self, key: &SketchedKey<'_>) -> usize {
        let at = if self.counters.len() < KEYS {
            self.counters.push(KeyCounter {
                hash: 0,
                partition: 0,
                is_cut: false,
                key: Vec::new(),
                count: 0.0,
                taken_over: 0.0,
                squares: 0.0,
                marks: T::default(),
            });
            self.counters.len() - 1
        } else {
            let at = self.fewest();
            let hash = self.counters[at].hash;
            if let Ok(entry) = self.index.find_entry(hash, |of| usize::from(*of) == at) {
                entry.remove();
            }
            at
        };
        let counter = &mut self.counters[at];
        counter.key.clear();
        counter.key.reserve_exact(key.key.len());
        counter.key.extend_from_slice(key.key);
        (counter.hash, counter.partition, counter.is_cut) = (key.hash, key.partition, key.is_cut);
        (counter.taken_over, counter.squares, counter.marks) = (counter.count, 0.0, T::default());
        self.index(at);
        at
    }

    fn index(&mut self, at: usize) {
        let (hash, counters) = (self.counters[at].hash, &self.counters);
        // There are 512 at most.
        let at = u16::try_from(at).unwrap_or(u16::MAX);
        self.index.insert_unique(hash, at, |of| counters[usize::from(*of)].hash);
    }

    /// A counter with the fewest samples, within one. There are some.
    fn fewest(&mut self) -> usize {
        loop {
            let from = self.cursor.min(self.counters.len());
            let low = self.counters[from..].iter().position(|counter| counter.count < self.floor);
            if let Some(offset) = low {
                self.cursor = from + offset + 1;
                return from + offset;
            }
            let fewest = self.counters.iter().map(|counter| counter.count).fold(f32::INFINITY, f32::min);
            (self.floor, self.cursor) = (fewest + 1.0, 0);
        }
    }

    /// Halves everything that many times.
    pub(crate) fn halve(&mut self, times: u64) {
        for _ in 0..times.min(64) {
            for counter in &mut self.counters {
                counter.count /= 2.0;
                counter.taken_over /= 2.0;
                counter.squares /= 4.0;
                counter.marks.halve();
            }
            self.total /= 2.0;
        }
        self.keep(|counter| counter.count >= FADED);
    }

    /// Forgets the keys that are not to be `kept`.
    pub(crate) fn keep(&mut self, kept: impl Fn(&KeyCounter<T>) -> bool) {
        self.counters.retain(kept);
        self.index.clear();
        (0..self.counters.len()).for_each(|at| self.index(at));
        (self.floor, self.cursor) = (0.0, 0);
    }

    /// Samples that a key without a counter may have had, at most.
    pub(crate) fn uncounted(&self) -> f32 {
        let counts = self.counters.iter().map(|counter| counter.count);
        if self.counters.len() < KEYS { 0.0 } else { counts.fold(f32::INFINITY, f32::min) }
    }

    /// The keys that are counted, in no order.
    pub(crate) fn counters(&self) -> &[KeyCounter<T>] {
        &self.counters
    }

    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.counters.capacity() * size_of::<KeyCounter<T>>()
            + self.counters.iter().map(|counter| counter.key.capacity()).sum::<usize>()
            + self.index.allocation_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, Default)]
    struct Nothing;

    impl Marks for Nothing {
        fn halve(&mut self) {}
        fn add(&mut self, _other: &Self) {}
    }

    fn note(sketch: &mut Sketch<Nothing>, partition: u8, key: &[u8]) {
        let hasher = SipHasher13::new_with_keys(1, 2);
        sketch.note(&SketchedKey::new(&hasher, partition, key), |_| {});
    }

    fn counter<'a>(
        sketch: &'a Sketch<Nothing>,
        partition: u8,
        key: &[u8],
    ) -> Option<&'a KeyCounter<Nothing>> {
        sketch.counters().iter().find(|counter| counter.partition == partition && counter.key == key)
    }

    /// The promise of Space-Saving: no key is counted too low, nor too high by more than is noted, and the least count is
    /// no more than an equal share of all samples (and one).
    #[test]
    fn no_key_is_counted_too_low_or_too_high_by_more_than_is_noted() {
        let mut sketch = Sketch::default();
        let mut truth = std::collections::HashMap::new();
        let mut random = 1u64;
        for round in 0..200_000u32 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let spread = 1u64 << (4 + (random >> 60));
            let key = ((random >> 20) % spread).to_string();
            note(&mut sketch, 0, key.as_bytes());
            *truth.entry(key).or_insert(0u32) += 1;
            if round % 10_000 == 9_999 {
                assert!(sketch.counters().len() <= KEYS);
                for counter in sketch.counters() {
                    let of_it = truth[std::str::from_utf8(&counter.key).expect("text")] as f32;
                    assert!(counter.count >= of_it, "{counter:?}: {of_it}");
                    assert!(counter.samples() <= of_it, "{counter:?}: {of_it}");
                }
                let fewest = sketch.counters().iter().map(|counter| counter.count).fold(f32::MAX, f32::min);
                assert!(f64::from(fewest) <= f64::from(round + 1) / KEYS as f64 + 1.0, "{fewest}");
            }
        }
    }

    #[test]
    fn partitions_and_long_keys_are_told_apart_and_what_is_kept_is_bounded() {
        let mut sketch = Sketch::default();
        let long = |last: u8| [&[0xff; 500_000][..], &[last]].concat();
        for key in [&b"k"[..], b"", b"\0", &long(1), &long(2)] {
            note(&mut sketch, 0, key);
            note(&mut sketch, 1, key);
            note(&mut sketch, 1, key);
        }
        assert_eq!(sketch.counters().len(), 10);
        for counter in sketch.counters() {
            assert_eq!(counter.samples(), f32::from(counter.partition) + 1.0);
            assert_eq!(counter.is_cut, counter.key.len() == KEY_BYTES);
        }
        for key in 0..3_000u32 {
            note(&mut sketch, 2, &[&key.to_le_bytes()[..], &[7; 1_000]].concat());
        }
        assert!(sketch.bytes() < 100 * 1024, "{}", sketch.bytes());
    }

    #[test]
    fn what_is_halved_fades_and_what_is_not_kept_is_gone() {
        let mut sketch = Sketch::default();
        (0..64).for_each(|_| note(&mut sketch, 0, b"hot"));
        note(&mut sketch, 1, b"cold");
        sketch.halve(4);
        assert_eq!(counter(&sketch, 0, b"hot").map(KeyCounter::samples), Some(4.0));
        assert!(counter(&sketch, 1, b"cold").is_some());
        sketch.halve(1);
        assert!(counter(&sketch, 1, b"cold").is_none());
        note(&mut sketch, 1, b"cold");
        sketch.keep(|counter| counter.partition != 1);
        assert_eq!(sketch.counters().len(), 1);
        note(&mut sketch, 0, b"hot");
        assert_eq!(counter(&sketch, 0, b"hot").map(KeyCounter::samples), Some(3.0));
        sketch.halve(u64::MAX);
        assert!(sketch.counters().is_empty());
    }
}
