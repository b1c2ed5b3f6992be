//! Bytes in flight are within the byte budget.

use std::time::Duration;

use cache::{Cache, Entry, Facts, Keep, Limits, Lookup, Need};

const MIB: usize = 1 << 20;

fn cache() -> Cache<()> {
    let limits = Limits {
        capacity: 1000,
        capacity_bytes: Some(16 << 20),
        expiry: Duration::from_secs(60),
        max_value_bytes: MIB,
        shards: None,
    };
    Cache::new(limits)
}

/// Fills a key; the handle of one who has asked.
fn fill(cache: &Cache<()>, key: &str, bytes: usize, now_ns: u64) -> Entry {
    let Lookup::Miss(fill, waiter) = cache.lookup(key.as_bytes(), Need::NOTHING, now_ns) else {
        panic!("{key} is held")
    };
    fill.found(&vec![b'v'; bytes], Facts::default(), Keep::ForItsAge, now_ns);
    match waiter.try_outcome() {
        Some(cache::Outcome::Found { entry, .. }) => entry,
        other => panic!("{other:?}"),
    }
}

/// Looks at all that is in flight, with a resident size that says nothing.
fn look(cache: &Cache<()>) -> u64 {
    cache.observe_resident(0, 0);
    cache.stats(0).in_flight_bytes
}

#[test]
fn entries_make_room_for_what_arrives_and_not_more_than_half_of_it() {
    let cache = cache();
    for n in 0..15 {
        drop(fill(&cache, &n.to_string(), MIB - 100, n));
    }
    assert_eq!((cache.stats(0).entries, look(&cache)), (15, 0));
    cache.arriving(4 * MIB, 20);
    assert_eq!((cache.stats(0).entries, cache.is_crowded()), (11, false));
    cache.arriving(100 * MIB, 21);
    assert_eq!((cache.stats(0).entries, cache.is_crowded()), (7, true));
    cache.arrived(100 * MIB);
    cache.arrived(4 * MIB);
    assert!(!cache.is_crowded());
    assert_eq!(look(&cache), 0);
}

#[test]
fn a_value_counts_until_its_last_reader_is_done_whatever_has_become_of_it() {
    let cache = cache();
    // Too large to be kept.
    let passing = fill(&cache, "passing", 3 * MIB, 1);
    let more = passing.clone();
    let bytes = look(&cache);
    assert!((3 << 20..4 << 20).contains(&bytes), "{bytes}");
    drop(passing);
    assert_eq!(look(&cache), bytes);
    drop(more);
    assert_eq!(look(&cache), 0);
    // Invalidated, replaced by nothing, evicted.
    let invalidated = fill(&cache, "invalidated", MIB / 2, 2);
    assert_eq!(look(&cache), 0, "the cache holds it");
    cache.invalidate(b"invalidated");
    assert!(look(&cache) > 0);
    drop(invalidated);
    assert_eq!(look(&cache), 0);
    let held: Vec<_> = (0..40).map(|n| fill(&cache, &n.to_string(), MIB - 100, 3 + n)).collect();
    let stats = cache.stats(0);
    assert!(cache.is_crowded() && stats.entries <= 8, "{stats:?}");
    assert!(look(&cache) >= 32 << 20);
    drop(held);
    assert_eq!((look(&cache), cache.is_crowded()), (0, false));
}

#[test]
fn the_smallest_values_are_not_followed_and_without_a_budget_none_is() {
    let cache = cache();
    let small = fill(&cache, "small", 900, 1);
    cache.invalidate(b"small");
    assert_eq!(look(&cache), 0);
    drop(small);
    let middling = fill(&cache, "middling", 2000, 1);
    cache.invalidate(b"middling");
    assert!(look(&cache) > 2000);
    drop(middling);
    assert_eq!(look(&cache), 0);
    let unbounded: Cache<()> = Cache::new(Limits {
        capacity: 10,
        capacity_bytes: None,
        expiry: Duration::from_secs(60),
        max_value_bytes: MIB,
        shards: None,
    });
    let large = fill(&unbounded, "large", 3 * MIB, 1);
    unbounded.arriving(1 << 30, 2);
    assert_eq!((unbounded.stats(0).in_flight_bytes, unbounded.is_crowded()), (0, false));
    drop(large);
}
