//! Limits: who leaves for the bytes of a new value and after a limit is lowered, and what a huge limit costs.

use std::time::{Duration, Instant};

use cache::{Cache, Facts, Keep, Limits, Lookup, Need};

fn cache(capacity: usize, capacity_bytes: Option<u64>, shards: Option<usize>) -> Cache<()> {
    let expiry = Duration::from_secs(60);
    Cache::new(Limits { capacity, capacity_bytes, expiry, max_value_bytes: 1 << 20, shards })
}

/// Stores a value at the instant that is its key.
fn put(cache: &Cache<()>, key: u64, length: usize) {
    match cache.lookup(&key.to_be_bytes(), Need::NOTHING, key) {
        Lookup::Miss(fill, _) => fill.found(&vec![7; length], Facts::default(), Keep::ForItsAge, key),
        other => panic!("{key} is not a miss: {other:?}"),
    }
}

/// The first key still held of `0..=last`, after checking that all later ones are.
fn first_held(cache: &Cache<()>, last: u64) -> u64 {
    let holds = |key: &u64| cache.peek(&key.to_be_bytes(), last).is_some();
    let first = (0..=last).find(holds).expect("something is held");
    assert!((first..=last).all(|key| holds(&key)), "a newer entry left before an older one");
    first
}

#[test]
fn the_bytes_accounted_never_exceed_the_budget_and_the_oldest_leave_for_them() {
    for shards in [1, 64] {
        let (budget, mut dice) = (200_000, 1u64);
        let cache = cache(1_000_000, Some(budget), Some(shards));
        for key in 0..3000 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            put(&cache, key, if key % 500 == 499 { 100_000 } else { (dice >> 55) as usize });
            let stats = cache.stats(key);
            assert!(stats.accounted_bytes <= budget, "{stats:?}");
            if key % 100 == 99 {
                assert!(first_held(&cache, key) > 0 || stats.evictions == 0);
            }
        }
        let stats = cache.stats(3000);
        assert!(stats.accounted_bytes > budget * 9 / 10 && stats.evictions > 1000, "{stats:?}");
    }
}

#[test]
fn a_value_larger_than_the_whole_budget_passes_through() {
    let cache = cache(100, Some(50_000), None);
    put(&cache, 1, 100);
    put(&cache, 2, 60_000);
    assert!(cache.peek(&1u64.to_be_bytes(), 2).is_some() && cache.peek(&2u64.to_be_bytes(), 2).is_none());
    assert_eq!(cache.stats(2).unkept_too_large, 1);
}

#[test]
fn a_lowered_limit_is_paid_for_in_small_parts_and_in_order() {
    for (shards, by_bytes) in [(1, false), (64, false), (1, true), (64, true)] {
        let cache = cache(10_000, Some(1 << 30), Some(shards));
        (0..10_000).for_each(|key| put(&cache, key, 100));
        // 400 entries of 160 bytes, beside the slots and tables of 10,000.
        let (capacity, bytes) = if by_bytes { (10_000, 64_000) } else { (400, 1 << 30) };
        let index = cache.stats(0).accounted_bytes - 10_000 * 160;
        cache.resize(capacity, Some(if by_bytes { bytes + index } else { bytes }));
        let mut left = cache.stats(0).entries;
        assert!(left >= 8_900, "{left} entries: too much work at once");
        for key in 10_000..10_020 {
            put(&cache, key, 100);
            let now_left = cache.stats(0).entries;
            assert!(now_left < left && left - now_left <= 66, "{left} -> {now_left} entries");
            assert_eq!(first_held(&cache, key), key + 1 - now_left);
            left = now_left;
        }
        while cache.maintain(10_020, 1000).evicted > 0 {
            let now_left = cache.stats(0).entries;
            assert!(left - now_left <= 1000, "{left} -> {now_left} entries");
            left = now_left;
        }
        // Maintenance has made lists and tables smaller, too, so by bytes more entries fit.
        let stats = cache.stats(10_020);
        assert!(stats.accounted_bytes <= stats.budget_bytes && left <= capacity as u64, "{stats:?}");
        assert!(if by_bytes { left > 400 } else { left == 400 }, "{left} entries");
        assert_eq!(first_held(&cache, 10_019), 10_020 - left);
    }
}

#[test]
fn a_huge_capacity_starts_at_once_and_small() {
    for capacity in [1_000_000_000, usize::MAX] {
        let start = || {
            let start = Instant::now();
            let cache = cache(capacity, None, Some(64));
            put(&cache, 1, 100);
            assert!(cache.stats(1).accounted_bytes < 1000);
            start.elapsed()
        };
        // The best of five: the machine may be busy with something else.
        let took = (0..5).map(|_| start()).min().expect("five");
        assert!(took < Duration::from_millis(100), "{took:?}");
    }
    let none = cache(0, None, None);
    (0..3).for_each(|key| put(&none, key, 1));
    assert_eq!(none.stats(3).entries, 1);
}
