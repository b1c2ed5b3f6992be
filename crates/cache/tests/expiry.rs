//! Ages at every uptime, and how the dead leave.

use std::time::Duration;

use cache::{Cache, Cursor, Facts, Keep, Limits, Lookup, Need};

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;

fn cache(capacity: usize, expiry: Duration, shards: usize) -> Cache<()> {
    let shards = Some(shards);
    Cache::new(Limits { capacity, capacity_bytes: None, expiry, max_value_bytes: 1000, shards })
}

fn put(cache: &Cache<()>, key: u64, now_ns: u64) {
    match cache.lookup(&key.to_be_bytes(), Need::NOTHING, now_ns) {
        Lookup::Miss(mut fill, _) => {
            fill.stamp_sent(now_ns);
            fill.found(b"value", Facts::default(), Keep::ForItsAge, now_ns);
        }
        other => panic!("{key} is not a miss: {other:?}"),
    }
}

fn holds(cache: &Cache<()>, key: u64, now_ns: u64) -> bool {
    cache.peek(&key.to_be_bytes(), now_ns).is_some()
}

fn sweep(cache: &Cache<()>, now_ns: u64) -> usize {
    let mut reclaimed = 0;
    for _ in 0..2 {
        loop {
            let step = cache.maintain(now_ns, 1000);
            reclaimed += step.reclaimed;
            if step.round_ended {
                break;
            }
        }
    }
    reclaimed
}

/// 2^32 ms are 49.7 days, 2^31 seconds are 68 years; 2^58 ns, where a node's deadline saturates, are 9.1 years.
#[test]
fn no_uptime_makes_an_entry_live_longer_or_shorter() {
    let wrap_ms = (1u64 << 32) * 1_000_000;
    for uptime in [0, wrap_ms, 50 * DAY, 2 * wrap_ms, 400 * DAY, 1 << 58, 1 << 59, 25_000 * DAY, 1 << 63] {
        for (shards, expiry) in [(1, 500_000), (64, 5 * SECOND), (64, DAY), (1, 60 * DAY)] {
            // The turn of the clock comes after the deadline, between fetch and deadline, and with the fetch.
            for start in [uptime.saturating_sub(expiry + 1), uptime.saturating_sub(expiry / 2), uptime] {
                let cache = cache(1000, Duration::from_nanos(expiry), shards);
                (0..100).for_each(|key| put(&cache, key, start));
                assert_eq!(sweep(&cache, start + expiry - 1), 0, "swept alive at {uptime}");
                assert!((0..100).all(|key| holds(&cache, key, start + expiry - 1)), "died early at {uptime}");
                assert!((0..100).all(|key| !holds(&cache, key, start + expiry)), "lived on at {uptime}");
                assert!(matches!(
                    cache.lookup(&7u64.to_be_bytes(), Need::NOTHING, start + expiry),
                    Lookup::Miss(..)
                ));
                let later = start + expiry + SECOND / 10;
                assert!((0..100).all(|key| !holds(&cache, key, later)), "came back at {uptime}");
                assert_eq!(sweep(&cache, later), 99, "not swept at {uptime}");
                assert_eq!(cache.stats(0).entries, 0);
            }
        }
    }
}

#[test]
fn a_hit_does_not_make_an_entry_younger() {
    let cache = cache(10, Duration::from_secs(5), 1);
    put(&cache, 1, 0);
    for now in 1..5 {
        assert!(matches!(cache.lookup(&1u64.to_be_bytes(), Need::NOTHING, now * SECOND), Lookup::Hit(_)));
    }
    assert!(matches!(cache.lookup(&1u64.to_be_bytes(), Need::NOTHING, 5 * SECOND), Lookup::Miss(..)));
}

#[test]
fn a_dead_entry_leaves_before_a_live_one_even_if_it_was_used_later() {
    let cache = cache(2, Duration::from_secs(1), 1);
    put(&cache, 1, 0);
    put(&cache, 2, SECOND / 2);
    assert!(matches!(cache.lookup(&1u64.to_be_bytes(), Need::NOTHING, SECOND * 9 / 10), Lookup::Hit(_)));
    put(&cache, 3, SECOND * 11 / 10);
    assert!(holds(&cache, 2, SECOND * 11 / 10) && holds(&cache, 3, SECOND * 11 / 10));
    assert_eq!((cache.stats(0).expiries, cache.stats(0).evictions), (1, 0));
}

#[test]
fn another_expiry_is_that_of_what_is_held_as_well() {
    for shards in [1, 64] {
        let cache = cache(200_000, Duration::from_secs(100), shards);
        (0..1_000).for_each(|key| put(&cache, key, 0));
        assert_eq!(sweep(&cache, SECOND), 0);
        (1_000..2_000).for_each(|key| put(&cache, key, 5 * SECOND));
        // Shorter: at once for whoever asks, and for their memory within a round.
        cache.entry_limits().change(Duration::from_secs(3), 1 << 20);
        assert!(!holds(&cache, 1, 5 * SECOND) && holds(&cache, 1_001, 5 * SECOND));
        assert_eq!(sweep(&cache, 5 * SECOND), 1_000);
        assert!((1_000..2_000).all(|key| holds(&cache, key, 8 * SECOND - 1)));
        // Longer: nobody has asked for them since they expired, and so they are there.
        cache.entry_limits().change(Duration::from_secs(10), 1 << 20);
        assert_eq!(sweep(&cache, 15 * SECOND - 1), 0);
        assert!((1_000..2_000).all(|key| holds(&cache, key, 15 * SECOND - 1)));
        assert_eq!(sweep(&cache, 15 * SECOND), 1_000);
        assert_eq!(cache.stats(0).entries, 0);
    }
}

#[test]
fn by_another_expiry_what_has_expired_makes_room_first() {
    let cache = cache(2, Duration::from_secs(100), 1);
    put(&cache, 1, 0);
    put(&cache, 2, 5 * SECOND);
    assert!(matches!(cache.lookup(&1u64.to_be_bytes(), Need::NOTHING, 6 * SECOND), Lookup::Hit(_)));
    cache.entry_limits().change(Duration::from_secs(3), 1 << 20);
    put(&cache, 3, 7 * SECOND);
    assert!(holds(&cache, 2, 7 * SECOND) && holds(&cache, 3, 7 * SECOND));
    assert_eq!((cache.stats(0).expiries, cache.stats(0).evictions), (1, 0));
}

#[test]
fn a_round_of_maintenance_reclaims_what_expired_and_what_was_flushed() {
    for shards in [1, 64] {
        let cache = cache(200_000, Duration::from_secs(5), shards);
        (0..50_000).for_each(|key| put(&cache, key, key));
        cache.flush();
        (50_000..60_000).for_each(|key| put(&cache, key, SECOND + key));
        (60_000..100_000).for_each(|key| put(&cache, key, 2 * SECOND + key));
        let before = cache.stats(0).accounted_bytes;
        let steps = cache.slots().div_ceil(1000) + 1;
        let done: Vec<_> = (0..steps).map(|_| cache.maintain(6 * SECOND + 70_000, 1000)).collect();
        assert!(done.iter().all(|step| step.visited <= 1000));
        assert_eq!(done.iter().map(|step| step.reclaimed).sum::<usize>(), 60_000);
        let stats = cache.stats(0);
        assert_eq!(
            (stats.entries, stats.flushed, stats.expiries, stats.evictions),
            (40_000, 50_000, 10_000, 0)
        );
        // What is left needs an eighth of the slots, so lists and tables shrink too, and nothing is lost thereby.
        (60_000..91_000u64).for_each(|key| assert!(cache.invalidate(&key.to_be_bytes())));
        sweep(&cache, 6 * SECOND + 70_000);
        assert!((91_000..100_000).all(|key| holds(&cache, key, 6 * SECOND)));
        let after = cache.stats(0).accounted_bytes;
        assert!(after * 6 < before, "{before} -> {after} bytes");
    }
}

#[test]
fn a_scan_sees_every_live_entry_once() {
    for shards in [1, 64] {
        let cache = cache(10_000, Duration::from_secs(5), shards);
        (0..1000).for_each(|key| put(&cache, key, 0));
        (1000..4000).for_each(|key| put(&cache, key, SECOND));
        let (mut keys, mut cursor, mut steps) = (Vec::new(), Some(Cursor::default()), 0);
        while let Some(at) = cursor {
            let scan = cache.scan(at, 100, 5 * SECOND);
            assert!(scan.entries.len() <= 100);
            keys.extend(scan.entries.iter().map(|entry| entry.key().to_vec()));
            (cursor, steps) = (scan.next, steps + 1);
        }
        keys.sort();
        assert_eq!(keys, (1000..4000u64).map(|key| key.to_be_bytes().to_vec()).collect::<Vec<_>>());
        assert!(steps >= 40, "{steps} steps");
        assert_eq!((cache.stats(0).hits, cache.stats(5 * SECOND).oldest_use_age_ns), (0, 5 * SECOND));
    }
}
