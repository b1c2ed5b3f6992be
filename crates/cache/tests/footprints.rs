//! What keys take of the cache, and why they are not held.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cache::{Absence, Cache, Cursor, Facts, Keep, Lease, Limits, Lookup, Need, Partition, View};

fn limits(capacity: usize) -> Limits {
    Limits {
        capacity,
        capacity_bytes: None,
        expiry: Duration::from_nanos(1_000),
        max_value_bytes: 100_000,
        shards: Some(4),
    }
}

fn store(cache: &Cache<()>, view: View<'_>, key: &str, bytes: usize, now_ns: u64) {
    let lookup = cache.lookup_view(key.as_bytes(), view, |_| false, Need::NOTHING, now_ns);
    let Lookup::Miss(fill, _) = lookup else { panic!("{key} is held: {lookup:?}") };
    let value = vec![b'v'; bytes];
    match view.question.is_empty() {
        true => fill.found(&value, Facts::default(), Keep::ForItsAge, now_ns),
        false => {
            let (lease, deadline_ns) = (Arc::new(Lease::default()), None);
            lease.renew(u64::MAX);
            fill.replied(&value, Keep::Leased { lease, deadline_ns }, now_ns);
        }
    }
}

fn partition(number: usize) -> Partition {
    Partition::new(number).expect("one of 64")
}

#[test]
fn a_walk_tells_what_each_key_takes_in_each_partition_and_a_sample_about_that() {
    let cache = Cache::new(limits(100_000));
    for number in 0..10_000 {
        store(&cache, View::value(partition(number % 3)), &format!("k{number}"), 100 + number % 50, 0);
    }
    store(&cache, View::value(partition(5).leased()), "k0", 50_000, 0);
    store(&cache, View { partition: partition(5).leased(), question: b"q" }, "k0", 20_000, 0);
    let (mut seen, mut cursor, mut all) = (HashMap::new(), Some(Cursor::default()), 0);
    while let Some(at) = cursor {
        let step = cache.footprints(at, 100, 1);
        for found in step.found {
            all += found.bytes;
            assert_eq!(found.end_ns, Some(1_000));
            assert!(seen.insert((found.key, found.partition), found.bytes).is_none());
        }
        cursor = step.next;
    }
    assert_eq!(seen.len(), 10_001);
    let of = |key: &str, partition| seen[&(Box::from(key.as_bytes()), partition)];
    assert!((70_000..80_000).contains(&of("k0", 5)) && (140..250).contains(&of("k0", 0)));
    let one = cache.footprint(b"k0", 5, 1).expect("it is held");
    assert_eq!((one.bytes, one.partition), (of("k0", 5), 5));
    assert!(cache.footprint(b"k0", 1, 1).is_none() && cache.footprint(b"k0", 5, 1_000).is_none());
    let share = of("k0", 5);
    for random in [0, 77, 1 << 40] {
        let sample = cache.sample_footprints(1_000, random, 1);
        let bytes: u64 = sample.found.iter().map(|found| found.bytes).filter(|bytes| *bytes < 1_000).sum();
        let estimate = bytes as f64 * sample.of / (all - share) as f64;
        assert!((0.9..1.1).contains(&estimate), "{estimate}");
    }
    let whole = cache.sample_footprints(1_000_000, 9, 1);
    assert_eq!((whole.found.len(), whole.of), (10_001, 1.0));
}

#[test]
fn why_a_key_is_not_held_is_remembered_for_each_partition() {
    let cache = Cache::new(Limits { shards: Some(1), ..limits(3) });
    let own = Partition::OWN;
    let value = |key: &str, bytes| store(&cache, View::VALUE, key, bytes, 1);
    assert_eq!(cache.absence(b"a", own), Absence::Unknown);
    for key in ["a", "b", "c", "d"] {
        value(key, 1);
    }
    assert_eq!(cache.absence(b"a", own), Absence::Evicted);
    assert_eq!(cache.absence(b"a", partition(1)), Absence::Unknown);
    assert!(cache.invalidate(b"b"));
    assert_eq!(cache.absence(b"b", own), Absence::Invalidated);
    let Lookup::Miss(fill, _) = cache.lookup(b"c", Need::NOTHING, 2_000) else { panic!("it is over") };
    assert_eq!(cache.absence(b"c", own), Absence::Expired);
    fill.fail_as(Absence::OtherType, ());
    assert_eq!(cache.absence(b"c", own), Absence::OtherType);
    value("large", 200_000);
    assert_eq!(cache.absence(b"large", own), Absence::TooLarge);
    let Lookup::Miss(fill, _) = cache.lookup(b"none", Need::NOTHING, 1) else { panic!("it is not held") };
    fill.missing(Keep::ForItsAge, 1);
    assert_eq!(cache.absence(b"none", own), Absence::NoSuchKey);
    value("f", 1);
    cache.flush();
    assert!(cache.find(b"f", View::VALUE, |_| false, Need::NOTHING, 1).is_none());
    assert_eq!(cache.absence(b"f", own), Absence::Invalidated);
    cache.forget_absences(0);
    assert_eq!(cache.absence(b"none", own), Absence::Unknown);
}
