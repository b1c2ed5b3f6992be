//! Many threads at once on one cache, and then a recount of everything by hand.
#![allow(clippy::cast_possible_truncation, reason = "small numbers and random ones")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::budget::{charge, charge_beside};

const THREADS: u64 = 4;
const KEYS: u64 = 3000;
const CAPACITY: usize = 1000;
const CAPACITY_BYTES: u64 = 400_000;
const MAX_VALUE_BYTES: usize = 1000;

fn limits(shards: usize) -> Limits {
    Limits {
        capacity: CAPACITY,
        capacity_bytes: Some(CAPACITY_BYTES),
        expiry: Duration::from_millis(3),
        max_value_bytes: MAX_VALUE_BYTES,
        shards: Some(shards),
    }
}

/// A value that tells its key, so that a mix-up is seen.
fn value_of(key: u64, dice: u64) -> Vec<u8> {
    key.to_be_bytes().repeat(1 + (dice % 40) as usize)
}

/// Half of the readers ask for the value, the others for something else about the key.
fn view(dice: u64) -> View<'static> {
    let partition = Partition::new(dice as usize >> 50 & 1).expect("below 64");
    let partition = if dice >> 53 & 1 == 0 { partition } else { partition.leased() };
    let questions: [&[u8]; 4] = [b"", b"", b"TYPE", b"STRLEN"];
    View { partition, question: questions[dice as usize >> 51 & 3] }
}

fn one_step(cache: &Cache<u64>, open: &mut Vec<(Fill<u64>, u64)>, dice: u64, now_ns: u64) {
    let key = (dice >> 32) % if dice & 1 == 0 { KEYS } else { KEYS / 10 };
    match (dice >> 1) % 20_000 {
        0..1 => cache.flush(),
        1..60 => drop(cache.invalidate(&key.to_be_bytes())),
        60..100 => drop(cache.invalidate_leased(&key.to_be_bytes())),
        100..200 => drop(cache.maintain(now_ns, 100)),
        200..220 => drop(cache.scan(Cursor::default(), 100, now_ns)),
        220..222 => cache.resize(CAPACITY - (key % 900) as usize, Some(CAPACITY_BYTES)),
        222..226 => cache.resize(CAPACITY, Some(CAPACITY_BYTES)),
        226..1000 => {
            let held = cache.peek(&key.to_be_bytes(), now_ns);
            held.iter().for_each(|entry| {
                assert!(entry.is_missing() || entry.value().starts_with(&key.to_be_bytes()))
            });
        }
        1000..8000 if !open.is_empty() => {
            let (mut fill, key) = open.swap_remove(dice as usize % open.len());
            fill.stamp_sent(now_ns);
            let question = fill.view().question.to_vec();
            match dice >> 40 & 15 {
                4.. if !question.is_empty() => {
                    fill.replied(&value_of(key, dice), Keep::ForItsAge, now_ns);
                }
                0 => fill.missing(Keep::Leased { lease: Default::default(), deadline_ns: None }, now_ns),
                1 => fill.fail(key),
                2 => drop(fill),
                3 => fill.found(&vec![0; MAX_VALUE_BYTES + 1], Facts::default(), Keep::ForItsAge, now_ns),
                _ => fill.found(&value_of(key, dice), Facts::default(), Keep::ForItsAge, now_ns),
            }
        }
        _ => match cache.lookup_view(&key.to_be_bytes(), view(dice), |_| false, Need::NOTHING, now_ns) {
            Lookup::Hit(entry) => {
                assert!(entry.is_missing() || entry.value().starts_with(&key.to_be_bytes()))
            }
            Lookup::Miss(fill, _) => open.push((fill, key)),
            // Sent as soon as it may be, and answered on the thread that made room for it.
            Lookup::Held(held, _) if dice >> 40 & 3 > 0 => held.send_with(move |fill| match fill.view() {
                view if view.question.is_empty() => {
                    fill.found(&value_of(key, dice), Facts::default(), Keep::ForItsAge, now_ns);
                }
                _ => fill.fail(key),
            }),
            Lookup::Held(held, _) => drop(held),
            Lookup::Wait(waiter) => drop(waiter.try_outcome()),
            Lookup::Unproven(_) => panic!("nobody asked for a proof"),
        },
    }
}

/// What is in the shards, counted entry by entry: entries, their charges, and the links and indexes that must agree.
fn recount(cache: &Cache<u64>) -> Totals {
    let mut totals = Totals::default();
    for at in 0..cache.0.cells.len() {
        let shard = cache.0.lock_at(at);
        let held: Vec<&Entry> = (1..=shard.list.slots()).filter_map(|slot| shard.list.entry(slot)).collect();
        let first: u64 = held.iter().map(|entry| charge(entry.payload_len())).sum();
        let keys = held.iter().map(|entry| (entry.key(), (cache.0.hasher.hash(entry.key()) >> 32) as u32));
        let others: Vec<&Entry> = keys.flat_map(|(key, hash)| shard.others_of(key, hash)).collect();
        assert_eq!(others.len(), shard.others(), "no answer without a first");
        let charges = first + others.iter().map(|entry| charge_beside(entry.payload_len())).sum::<u64>();
        let bytes = charges + (shard.totals().bytes as u64 - shard.charges());
        let negatives = held.iter().filter(|entry| entry.is_missing()).count();
        totals = totals + Totals::new(held.len(), bytes, negatives);
        assert_eq!(charges, shard.charges());
        assert_eq!(held.len(), shard.list.len());
        let none = crate::purges::Purges::new();
        let anytime = crate::moment::moment(0, &none, u64::MAX);
        for entry in held {
            let found = shard
                .peek(entry.key(), entry.view(), cache.0.hasher.hash(entry.key()), &anytime)
                .expect("indexed");
            assert!(std::ptr::eq(found.key(), entry.key()));
            let mut others = shard.others_of(entry.key(), (cache.0.hasher.hash(entry.key()) >> 32) as u32);
            let first_is_leased = entry.partition().is_leased();
            assert!(
                others.all(|other| !first_is_leased || other.partition().is_leased()),
                "behind a leased one"
            );
        }
    }
    totals
}

fn stress(shards: usize) {
    let cache: Cache<u64> = Cache::new(limits(shards));
    let (start, done, worst) = (Instant::now(), AtomicBool::new(false), AtomicU64::new(0));
    let now = || start.elapsed().as_nanos() as u64;
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                worst.fetch_max(cache.0.room.totals().entries.max(0) as u64, Ordering::Relaxed);
                thread::yield_now();
            }
        });
        let workers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (cache, now) = (&cache, &now);
                scope.spawn(move || {
                    let (mut open, mut dice) =
                        (Vec::new(), 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(thread + 1));
                    for _ in 0..200_000 {
                        dice ^= dice << 13;
                        dice ^= dice >> 7;
                        dice ^= dice << 17;
                        one_step(cache, &mut open, dice, now());
                    }
                })
            })
            .collect();
        let ends: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        done.store(true, Ordering::Relaxed);
        ends.into_iter().for_each(|end| end.unwrap());
    });
    cache.resize(CAPACITY, Some(CAPACITY_BYTES));
    while !cache.maintain(now(), 1000).round_ended {}
    let totals = recount(&cache);
    assert_eq!(cache.0.room.totals(), totals, "{shards} shards");
    assert!(totals.entries <= CAPACITY as i64 && totals.bytes <= CAPACITY_BYTES as i64, "{totals:?}");
    let worst = worst.into_inner();
    assert!(worst <= CAPACITY as u64 + THREADS, "{worst} entries at once");
    let stats = cache.stats(now());
    let left = stats.replaced + stats.evictions + stats.expiries + stats.invalidations + stats.flushed;
    let left = left + stats.others_left + stats.purged;
    assert_eq!((stats.entries + stats.others, stats.fills_in_flight), (stats.stored - left, 0), "{stats:?}");
    assert!(stats.others_left > 0, "{stats:?}");
    assert!(
        [stats.evictions, stats.expiries, stats.invalidations, stats.flushed].iter().all(|n| *n > 0),
        "{stats:?}"
    );
}

#[test]
fn one_shard_adds_up_after_a_stampede() {
    stress(1);
}

#[test]
fn sixty_four_shards_add_up_after_a_stampede() {
    stress(64);
}

/// Without anything else going on, the number held never passes the capacity by more than the inserts under way, and
/// is exact once they have returned.
#[test]
fn concurrent_inserts_fill_the_cache_exactly() {
    for shards in [1, 8, 64] {
        let limits = Limits { capacity_bytes: None, expiry: Duration::from_secs(60), ..limits(shards) };
        let cache: Cache<u64> = Cache::new(limits);
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let cache = &cache;
                scope.spawn(move || {
                    for key in 0..50_000u64 {
                        let key = (thread << 32 | key).to_be_bytes();
                        let Lookup::Miss(fill, _) = cache.lookup(&key, Need::NOTHING, 1) else {
                            panic!("a miss")
                        };
                        fill.found(b"v", Facts::default(), Keep::ForItsAge, 1);
                        let held = cache.0.room.totals().entries;
                        assert!(held < CAPACITY as i64 + THREADS as i64, "{held} entries");
                    }
                });
            }
        });
        assert_eq!(recount(&cache).entries, CAPACITY as i64);
        let stats = cache.stats(1);
        assert_eq!((stats.stored, stats.evictions), (THREADS * 50_000, THREADS * 50_000 - CAPACITY as u64));
    }
}

/// One thread uses hot keys again just before they would leave, the other inserts cold ones. An evicter that did not
/// look again under the lock would take a younger entry, when the old one it had seen has been used meanwhile.
#[test]
fn cold_entries_leave_in_order_while_others_are_used() {
    const HOT: u64 = 32;
    let limits = Limits { capacity: 64, capacity_bytes: None, expiry: Duration::from_secs(60), ..limits(64) };
    let cache: Cache<u64> = Cache::new(limits);
    let (start, done) = (Instant::now(), AtomicBool::new(false));
    let now = || start.elapsed().as_nanos() as u64;
    let put = |key: u64| match cache.lookup(&key.to_be_bytes(), Need::NOTHING, now()) {
        Lookup::Miss(fill, _) => fill.found(b"v", Facts::default(), Keep::ForItsAge, now()),
        other => drop(other),
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            for hot in (0..HOT).cycle() {
                put(hot);
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let inserts = scope.spawn(|| {
            for cold in HOT..HOT + 200_000 {
                put(cold);
                if cold % 16 == 0 {
                    let held = |key: &u64| cache.peek(&key.to_be_bytes(), 0).is_some();
                    let gone = (HOT.max(cold.saturating_sub(64))..=cold).rev().skip_while(held).find(held);
                    assert_eq!(gone, None, "it should have left before a younger one did");
                }
            }
        });
        let end = inserts.join();
        done.store(true, Ordering::Relaxed);
        end.unwrap();
    });
}

/// Two that each see room for one both come in; the one that settles last must see that it is too much.
#[test]
fn two_inserts_at_once_do_not_share_the_last_place() {
    let limits = Limits { capacity: 1, capacity_bytes: None, expiry: Duration::from_secs(60), ..limits(2) };
    let cache: Cache<u64> = Cache::new(limits);
    let met = AtomicU64::new(0);
    // To the nanosecond, as far as there are two processors: a barrier that sleeps wakes one thread after the other.
    let meet = |times: &mut u64| {
        *times += 2;
        met.fetch_add(1, Ordering::AcqRel);
        for spins in 0u64.. {
            match met.load(Ordering::Acquire) >= *times {
                true => break,
                false if spins % 10_000 == 9_999 => thread::yield_now(),
                false => std::hint::spin_loop(),
            }
        }
    };
    let insert = |key: u8| {
        let mut times = 0;
        for _ in 0..20_000 {
            let Lookup::Miss(fill, _) = cache.lookup(&[key], Need::NOTHING, 1) else { panic!("a miss") };
            meet(&mut times);
            fill.found(b"v", Facts::default(), Keep::ForItsAge, 1);
            meet(&mut times);
            assert_eq!(cache.0.room.totals().entries, 1);
            meet(&mut times);
            cache.invalidate(&[key]);
            meet(&mut times);
        }
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| insert(1));
        insert(2);
        other.join().unwrap();
    });
}
