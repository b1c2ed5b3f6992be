//! The lists, as those see them who look: the samples of all workers together, as rates.

use std::collections::HashMap;

use crate::reason::Reason;
use crate::samples::{ReadMarks, ReasonMarks, Sketches, prefix_of};
use crate::sketch::{KeyCounter, Marks, Sketch};
use crate::{AllSamples, INVALIDATIONS_ONE_IN, MISSES_ONE_IN, PREFIXES_ONE_IN, READS_ONE_IN};

/// A key that is read often.
#[derive(Clone, Debug)]
pub struct HotKey {
    /// The key, or the first [`KEY_BYTES`](crate::KEY_BYTES) of it.
    pub key: Vec<u8>,
    /// Whether it is longer than that.
    pub is_cut: bool,
    /// The number of the partition that it is read in.
    pub partition: u8,
    /// Reads a second.
    pub reads_per_s: f64,
    /// The standard error of that.
    pub error_per_s: f64,
    /// Its share of all reads of all partitions, 0 to 1.
    pub share: f64,
    /// The share of its reads that memory has answered, 0 to 1.
    pub hit_ratio: f64,
}

/// A key that is read often and not answered from memory.
#[derive(Clone, Debug)]
pub struct HotMiss {
    /// The key, or the first [`KEY_BYTES`](crate::KEY_BYTES) of it.
    pub key: Vec<u8>,
    /// Whether it is longer than that.
    pub is_cut: bool,
    /// The number of the partition that it is read in; none of readers beyond them.
    pub partition: Option<u8>,
    /// Why, most of the times.
    pub reason: Reason,
    /// Such reads a second.
    pub misses_per_s: f64,
    /// The standard error of that.
    pub error_per_s: f64,
}

/// What the keys with one beginning have in common.
#[derive(Clone, Debug)]
pub struct HotPrefix {
    /// Up to the first colon; nothing for all keys without one.
    pub prefix: Vec<u8>,
    /// Reads a second.
    pub reads_per_s: f64,
    /// The standard error of that.
    pub error_per_s: f64,
    /// The share of these reads that memory has answered, 0 to 1.
    pub hit_ratio: f64,
    /// Keys a second that left because they were changed, in whatever partition.
    pub invalidations_per_s: f64,
}

/// The partition of readers that nothing is cached for: a number that no partition has.
pub const BEYOND_PARTITIONS: u8 = u8::MAX;

/// The samples of a key on all workers.
struct Merged<T> {
    key: Vec<u8>,
    is_cut: bool,
    partition: u8,
    /// Samples by their weights, and what the events that they stand for may be off by, squared.
    samples: f64,
    variance: f64,
    marks: T,
}

impl<T> Merged<T> {
    fn ratio(&self, part: f32) -> f64 {
        (f64::from(part) / self.samples.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0)
    }
}

impl AllSamples {
    /// The `most` keys that are read most, in one partition or in all; the most read first.
    pub fn hot_keys(&self, partition: Option<u8>, most: usize, now_ns: u64) -> Vec<HotKey> {
        let (found, total) = self.merged(
            |sketches| &sketches.reads,
            READS_ONE_IN,
            now_ns,
            |counter| {
                partition.is_none_or(|partition| partition == counter.partition).then_some(counter.hash)
            },
        );
        let weighed_s = self.weighed_s(now_ns);
        let rate = |samples: f64| samples * f64::from(READS_ONE_IN) / weighed_s;
        let hot = top(found, most).into_iter().map(|found: Merged<ReadMarks>| HotKey {
            reads_per_s: rate(found.samples),
            error_per_s: found.variance.sqrt() / weighed_s,
            share: (found.samples / total.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0),
            hit_ratio: found.ratio(found.marks.0),
            key: found.key,
            is_cut: found.is_cut,
            partition: found.partition,
        });
        hot.collect()
    }

    /// The `most` keys whose reads memory answers least, in one partition or in all; the most missed first.
    pub fn hot_misses(&self, partition: Option<u8>, most: usize, now_ns: u64) -> Vec<HotMiss> {
        let (found, _) = self.merged(
            |sketches| &sketches.misses,
            MISSES_ONE_IN,
            now_ns,
            |counter| {
                partition.is_none_or(|partition| partition == counter.partition).then_some(counter.hash)
            },
        );
        let weighed_s = self.weighed_s(now_ns);
        let hot = top(found, most).into_iter().map(|found: Merged<ReasonMarks>| HotMiss {
            reason: found.marks.most(),
            misses_per_s: found.samples * f64::from(MISSES_ONE_IN) / weighed_s,
            error_per_s: found.variance.sqrt() / weighed_s,
            key: found.key,
            is_cut: found.is_cut,
            partition: Some(found.partition).filter(|partition| *partition != BEYOND_PARTITIONS),
        });
        hot.collect()
    }

    /// The `most` prefixes whose keys are read most, in one partition or in all; the most read first.
    pub fn hot_prefixes(&self, partition: Option<u8>, most: usize, now_ns: u64) -> Vec<HotPrefix> {
        // Those of all partitions together: by what they are, and not by their hash with a partition.
        let by_itself = |key: &[u8]| crate::sketch::hash_of(&self.hasher, key);
        let (found, _) = self.merged(
            |sketches| &sketches.prefixes,
            PREFIXES_ONE_IN,
            now_ns,
            |counter| {
                let is_seen = partition.is_none_or(|partition| partition == counter.partition);
                is_seen.then(|| by_itself(&counter.key))
            },
        );
        let (changed, _) = self.merged(
            |sketches| &sketches.invalidations,
            INVALIDATIONS_ONE_IN,
            now_ns,
            |counter| Some(by_itself(&counter.key)),
        );
        let weighed_s = self.weighed_s(now_ns);
        let invalidations = |prefix: &[u8]| {
            changed.get(&by_itself(prefix)).map_or(0.0, |changed| changed.samples)
                * f64::from(INVALIDATIONS_ONE_IN)
                / weighed_s
        };
        let hot = top(found, most).into_iter().map(|found: Merged<ReadMarks>| HotPrefix {
            reads_per_s: found.samples * f64::from(PREFIXES_ONE_IN) / weighed_s,
            error_per_s: found.variance.sqrt() / weighed_s,
            hit_ratio: found.ratio(found.marks.0),
            invalidations_per_s: invalidations(&found.key),
            prefix: found.key,
        });
        hot.collect()
    }

    /// Of one sketch of all workers, the keys that have a group, by that; and the samples of all keys.
    fn merged<T: Marks>(
        &self,
        sketch: impl Fn(&Sketches) -> &Sketch<T>,
        one_in: u32,
        now_ns: u64,
        group: impl Fn(&KeyCounter<T>) -> Option<u64>,
    ) -> (HashMap<u64, Merged<T>>, f64) {
        let one_in = f64::from(one_in);
        // Any number up to this may have escaped: on average its third is the square of what that makes.
        let escaped = |samples: f32| (one_in * f64::from(samples)).powi(2) / 3.0;
        let (mut merged, mut total, mut of_all) = (HashMap::new(), 0.0, 0.0);
        self.each(|samples| {
            let sketches = samples.now(now_ns);
            let sketch = sketch(&sketches);
            let uncounted = escaped(sketch.uncounted());
            total += sketch.total;
            of_all += uncounted;
            for counter in sketch.counters() {
                let Some(group) = group(counter) else { continue };
                let found = merged.entry(group).or_insert_with(|| Merged {
                    key: counter.key.clone(),
                    is_cut: counter.is_cut,
                    partition: counter.partition,
                    samples: 0.0,
                    variance: 0.0,
                    marks: T::default(),
                });
                found.samples += f64::from(counter.samples());
                // Of n events each sampled with chance p, a sample stands for 1/p of them, and varies by (1 - p)/p^2. What was taken
                // over may have been of this key, and without a counter it may have had some too.
                found.variance += one_in * (one_in - 1.0) * f64::from(counter.squares)
                    + escaped(counter.taken_over)
                    - uncounted;
                found.marks.add(&counter.marks);
            }
        });
        merged.values_mut().for_each(|found| found.variance = (found.variance + of_all).max(0.0));
        (merged, total)
    }
}

/// Those with the most samples, most first.
fn top<T>(found: HashMap<u64, Merged<T>>, most: usize) -> Vec<Merged<T>> {
    let mut found: Vec<_> = found.into_values().filter(|found| found.samples > 0.0).collect();
    found.sort_unstable_by(|one, other| {
        other.samples.total_cmp(&one.samples).then_with(|| one.key.cmp(&other.key))
    });
    found.truncate(most);
    found
}

/// The prefix that a key counts for in [`AllSamples::hot_prefixes`].
pub fn prefix(key: &[u8]) -> &[u8] {
    prefix_of(key)
}
