//! Purges of prefixes: exact from their own instant on, with fills in flight, while they are live and after it.
#![allow(clippy::cast_possible_truncation, reason = "random numbers")]

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use cache::{Cache, Facts, Fill, Keep, Limits, Lookup, Need, Outcome, Waiter};

fn cache(shards: usize) -> Cache<()> {
    Cache::new(Limits {
        capacity: 100_000,
        capacity_bytes: None,
        expiry: Duration::from_secs(1 << 30),
        max_value_bytes: 100,
        shards: Some(shards),
    })
}

fn put(cache: &Cache<()>, key: &[u8], value: &[u8]) {
    let Lookup::Miss(fill, _) = cache.lookup(key, Need::NOTHING, 1) else { panic!("a miss") };
    fill.found(value, Facts::default(), Keep::ForItsAge, 1);
}

fn holds(cache: &Cache<()>, key: &[u8]) -> bool {
    cache.peek(key, 2).is_some()
}

fn sweep(cache: &Cache<()>, slots: usize) -> (usize, usize) {
    let mut sum = (0, 0);
    loop {
        let done = cache.sweep_purged(slots);
        sum = (sum.0 + done.reclaimed, sum.1 + done.retired);
        if !done.are_left {
            return sum;
        }
    }
}

#[test]
fn what_begins_so_is_gone_at_once_and_all_else_stays() {
    let cache = cache(4);
    for key in ["user:1", "user:2", "user:", "use", "item:1"] {
        put(&cache, key.as_bytes(), b"v");
    }
    assert!(cache.purge_prefix(b"user:"));
    let left = |cache: &Cache<()>| {
        ["user:1", "user:2", "user:", "use", "item:1"].map(|key| holds(cache, key.as_bytes()))
    };
    assert_eq!(left(&cache), [false, false, false, true, true]);
    put(&cache, b"user:1", b"new");
    assert_eq!(left(&cache), [true, false, false, true, true]);
    // One has left with the lookup that put another in its place.
    assert_eq!(sweep(&cache, 1), (2, 1));
    assert_eq!(left(&cache), [true, false, false, true, true]);
    let stats = cache.stats(2);
    assert_eq!((stats.entries, stats.purged, stats.purges, stats.live_purges), (3, 3, 1, 0));
    assert!(cache.purge_prefix(b""));
    assert_eq!(left(&cache), [false; 5]);
    assert_eq!(cache.stats(2).flushes, 1, "all that begins with nothing is all");
}

#[test]
fn a_fill_in_flight_is_neither_kept_nor_joined_after_a_purge_of_its_prefix() {
    for is_swept in [false, true] {
        let cache = cache(1);
        let Lookup::Miss(old, waiter) = cache.lookup(b"a:1", Need::NOTHING, 1) else { panic!("a miss") };
        let Lookup::Miss(other, _) = cache.lookup(b"b:1", Need::NOTHING, 1) else { panic!("a miss") };
        assert!(cache.purge_prefix(b"a:"));
        if is_swept {
            sweep(&cache, 64);
        }
        let Lookup::Miss(new, _) = cache.lookup(b"a:1", Need::NOTHING, 2) else { panic!("not joined") };
        old.found(b"old", Facts::default(), Keep::ForItsAge, 3);
        assert!(!holds(&cache, b"a:1"));
        let Some(Outcome::Found { entry, stored }) = waiter.try_outcome() else { panic!("an answer") };
        assert_eq!((entry.value(), stored.is_kept()), (&b"old"[..], false), "those who waited are answered");
        new.found(b"new", Facts::default(), Keep::ForItsAge, 3);
        other.found(b"other", Facts::default(), Keep::ForItsAge, 3);
        assert_eq!(cache.peek(b"a:1", 4).expect("kept").value(), b"new");
        assert!(holds(&cache, b"b:1"));
        sweep(&cache, 64);
        assert_eq!(cache.peek(b"a:1", 4).expect("kept").value(), b"new");
    }
}

#[test]
fn seventeen_live_prefixes_are_one_too_many_until_a_sweep() {
    let cache = cache(4);
    (0..200).for_each(|number| put(&cache, format!("k{number}").as_bytes(), b"v"));
    for number in 0..16 {
        assert!(cache.purge_prefix(format!("k{number:02}").as_bytes()));
    }
    assert!(!cache.purge_prefix(b"k17") && holds(&cache, b"k17"));
    assert!(cache.purge_prefix(b"k03") && cache.purge_prefix(b"k031"), "those that one covers need no place");
    sweep(&cache, 10);
    assert!(cache.purge_prefix(b"k17") && !holds(&cache, b"k17") && !holds(&cache, b"k170"));
}

/// What is held is never from before a purge of it; what no purge has covered is never lost.
fn random(shards: usize, steps: usize) {
    const PREFIXES: [&str; 12] =
        ["a", "a:", "a:1", "a:12", "b:", "b:0", "c:", "c:3", "c:30", "d", "e:7", "a:0"];
    let seed = std::env::var("MODEL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| RandomState::new().hash_one(0)) | 1;
    println!("{shards} shards: MODEL_SEED={seed}");
    let mut state = seed;
    let mut below = |n: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    };
    let cache = cache(shards);
    // When each prefix was last purged, and each key that nothing purges last stored.
    let mut purged: HashMap<&str, u64> = HashMap::new();
    let mut safe: HashMap<String, u64> = HashMap::new();
    let mut open: Vec<(Fill<()>, String, u64)> = Vec::new();
    let mut waiting: Vec<(Waiter<()>, String, u64)> = Vec::new();
    let (mut hits, mut refused, mut joined) = (0, 0, 0);
    for now in 1..steps as u64 {
        let key = match below(6) {
            5 => format!("safe:{}", below(20)),
            group => format!("{}:{}", ["a", "b", "c", "d", "e"][group as usize], below(40)),
        };
        let last_purge = |purged: &HashMap<&str, u64>, key: &str| {
            purged
                .iter()
                .filter(|(prefix, _)| key.starts_with(**prefix))
                .map(|(_, at)| *at)
                .max()
                .unwrap_or(0)
        };
        match below(100) {
            0..60 => match cache.lookup(key.as_bytes(), Need::NOTHING, now) {
                Lookup::Hit(entry) => {
                    hits += 1;
                    let begun = u64::from_ne_bytes(entry.value().try_into().expect("eight bytes"));
                    let last = last_purge(&purged, &key);
                    assert!(begun > last, "{key} of {begun} is shown at {now}, and was purged at {last}");
                }
                Lookup::Miss(fill, _) => {
                    assert!(!safe.contains_key(&key), "{key} is lost at {now}");
                    open.push((fill, key, now));
                }
                Lookup::Wait(waiter) => {
                    joined += 1;
                    waiting.push((waiter, key, now));
                }
                Lookup::Held(..) => {}
                Lookup::Unproven(_) => unreachable!("no leases"),
            },
            60..85 if !open.is_empty() => {
                let at = below(open.len() as u64) as usize;
                let (fill, key, begun) = open.swap_remove(at);
                fill.found(&begun.to_ne_bytes(), Facts::default(), Keep::ForItsAge, now);
                if key.starts_with("safe:") {
                    assert!(cache.peek(key.as_bytes(), now).is_some());
                    safe.insert(key, now);
                }
            }
            85..93 => {
                let prefix = PREFIXES[below(PREFIXES.len() as u64) as usize];
                match cache.purge_prefix(prefix.as_bytes()) {
                    true => drop(purged.insert(prefix, now)),
                    false => refused += 1,
                }
            }
            93..99 => drop(cache.sweep_purged(1 + below(30) as usize)),
            _ => drop(cache.maintain(now, 50)),
        }
        waiting.retain(|(waiter, key, asked)| match waiter.try_outcome() {
            Some(Outcome::Found { entry, .. }) => {
                let begun = u64::from_ne_bytes(entry.value().try_into().expect("eight bytes"));
                let last = purged
                    .iter()
                    .filter(|(prefix, at)| key.starts_with(**prefix) && *at < asked)
                    .map(|(_, at)| *at)
                    .max();
                assert!(last.is_none_or(|last| begun > last), "{key} of {begun} was joined at {asked}");
                false
            }
            Some(_) => false,
            None => true,
        });
    }
    sweep(&cache, 64);
    let stats = cache.stats(steps as u64);
    let left = stats.replaced
        + stats.evictions
        + stats.expiries
        + stats.invalidations
        + stats.flushed
        + stats.purged;
    assert_eq!(stats.entries, stats.stored - left, "{stats:?}");
    assert!(
        hits > 1000 && joined > 100 && stats.purged > 1000 && stats.unkept_invalidated > 100,
        "{hits} {refused} {stats:?}"
    );
}

#[test]
fn nothing_is_shown_from_before_a_purge_of_it() {
    random(1, 200_000);
    random(64, 200_000);
}
