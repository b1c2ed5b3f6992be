//! Nanoseconds an operation, at 100,000 entries with 16-byte keys and 32-byte values, keys in random order.
#![allow(missing_docs, clippy::cast_possible_truncation, reason = "criterion's macros; random numbers")]

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use cache::{Cache, Facts, Keep, Limits, Lookup, Need};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const ENTRIES: u64 = 100_000;
const THREADS: u64 = 2;

fn key(number: u64) -> [u8; 16] {
    u128::from(number).to_be_bytes()
}

/// Numbers that are alike in every run, without a pattern that a processor could foresee.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((u128::from(self.0) * u128::from(n)) >> 64) as u64
    }
}

/// A million numbers below `n`, the first the most frequent.
fn zipf(n: u64) -> Vec<u64> {
    let weights: Vec<f64> = (1..=n).map(|rank| (rank as f64).powf(-0.99)).collect();
    let mut sum = 0.0;
    let sums: Vec<f64> = weights.iter().map(|weight| (sum += weight, sum).1).collect();
    let mut dice = Dice(3);
    let draw = |_| {
        sums.partition_point(|below| *below < dice.below(1 << 52) as f64 / (1u64 << 52) as f64 * sum) as u64
    };
    (0..1 << 20).map(draw).collect()
}

fn full(shards: Option<usize>) -> Cache<()> {
    let cache = Cache::new(Limits {
        capacity: ENTRIES as usize,
        capacity_bytes: None,
        expiry: Duration::from_secs(3600),
        max_value_bytes: 1 << 20,
        shards,
    });
    (0..ENTRIES).for_each(|number| fetch(&cache, number, number));
    cache
}

fn fetch(cache: &Cache<()>, number: u64, now_ns: u64) {
    if let Lookup::Miss(fill, _) = cache.lookup(&key(number), Need::NOTHING, now_ns) {
        fill.found(&[7; 32], Facts::default(), Keep::ForItsAge, now_ns);
    }
}

fn operations(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cache");
    group
        .throughput(Throughput::Elements(1))
        .measurement_time(Duration::from_secs(3))
        .warm_up_time(Duration::from_secs(1));
    let (mut now, mut dice) = (ENTRIES, Dice(1));
    let cache = full(None);
    group.bench_function("hit", |bench| {
        bench.iter(|| {
            now += 1;
            black_box(cache.lookup(&key(dice.below(ENTRIES)), Need::NOTHING, now))
        });
    });
    for (name, ahead) in [("16 hits", false), ("16 hits, looked ahead at", true)] {
        group.bench_function(name, |bench| {
            bench.iter(|| {
                let keys: [_; 16] = std::array::from_fn(|_| key(dice.below(ENTRIES)));
                if ahead {
                    cache.look_ahead(keys.iter().map(|key| &key[..]));
                }
                for key in &keys {
                    now += 1;
                    let _ = black_box(cache.lookup(key, Need::NOTHING, now));
                }
            });
        });
    }
    let popular = zipf(ENTRIES);
    group.bench_function("hit, Zipf 0.99", |bench| {
        bench.iter(|| {
            now += 1;
            black_box(cache.lookup(&key(popular[dice.below(1 << 20) as usize]), Need::NOTHING, now))
        });
    });
    group.bench_function("hit, one hot key", |bench| {
        bench.iter(|| {
            now += 1;
            black_box(cache.lookup(&key(1), Need::NOTHING, now))
        });
    });
    group.bench_function("miss, answered missing", |bench| {
        bench.iter(|| {
            now += 1;
            match cache.lookup(&key(ENTRIES + dice.below(ENTRIES)), Need::NOTHING, now) {
                Lookup::Miss(fill, _) => fill.missing(Keep::ForItsAge, now),
                _ => unreachable!("nobody stores it"),
            }
        });
    });
    for shards in [None, Some(1), Some(64)] {
        let cache = full(shards);
        let mut number = ENTRIES;
        group.bench_function(format!("miss, stored, evicts; shards {shards:?}"), |bench| {
            bench.iter(|| {
                (now, number) = (now + 1, number + 1);
                fetch(&cache, number, now);
            });
        });
    }
    for shards in [None, Some(1)] {
        let cache = full(shards);
        group.bench_function(format!("hit, {THREADS} threads; shards {shards:?}"), |bench| {
            bench.iter_custom(|operations| contended_hits(&cache, operations));
        });
    }
}

/// How long it takes until every thread has done `operations` hits.
fn contended_hits(cache: &Cache<()>, operations: u64) -> Duration {
    let barrier = Barrier::new(THREADS as usize);
    let hits = &|thread| {
        let mut dice = Dice(thread + 1);
        barrier.wait();
        let start = Instant::now();
        for now in 0..operations {
            drop(black_box(cache.lookup(&key(dice.below(ENTRIES)), Need::NOTHING, ENTRIES + now)));
        }
        start.elapsed()
    };
    let times = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || hits(thread))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread")).max()
    });
    times.unwrap_or_default()
}

criterion_group!(benches, operations);
criterion_main!(benches);
