//! Random operations against a naive judge. A failure prints its seed; `MODEL_SEED=<seed>` replays it.
#![allow(clippy::cast_possible_truncation, reason = "small numbers and random ones")]

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cache::{Cache, Facts, Fill, Keep, Limits, Lookup, MOST_SENT, Need, Outcome, Partition, Waiter};

const EXPIRY_NS: u64 = 1_000_000_000;
const MAX_VALUE_BYTES: usize = 100;

/// What an LRU cache is, as simply as it can be said.
struct Judge {
    capacity: usize,
    /// Oldest use first: key, value, when its fetch was sent.
    held: Vec<(u32, Vec<u8>, u64)>,
    /// Every fill ever: key, when sent, still registered.
    fills: Vec<(u32, Option<u64>, bool)>,
    /// Of them those that are on their way, and those that are to be sent behind them.
    on_the_way: Vec<usize>,
    behind: Vec<usize>,
}

impl Judge {
    fn forget_the_dead(&mut self, now: u64) {
        self.held.retain(|(_, _, sent)| now < sent + EXPIRY_NS);
    }

    fn lookup(&mut self, key: u32, now: u64) -> Result<Vec<u8>, Option<usize>> {
        self.forget_the_dead(now);
        if let Some(at) = self.held.iter().position(|held| held.0 == key) {
            let used = self.held.remove(at);
            self.held.push(used);
            return Ok(self.held[self.held.len() - 1].1.clone());
        }
        let young = |sent: Option<u64>| sent.is_none_or(|sent| now < sent + EXPIRY_NS);
        let joined =
            self.fills.iter().rposition(|(of, sent, registered)| *of == key && *registered && young(*sent));
        let is_of = |fills: &[usize]| fills.iter().filter(|id| self.fills[**id].0 == key).count();
        // What is not sent yet is joined where nothing else is.
        let behind = self.behind.iter().find(|id| self.fills[**id].0 == key).copied();
        let joined = joined.or(behind);
        if joined.is_none() {
            let is_sent = is_of(&self.on_the_way) < MOST_SENT;
            let id = self.fills.len();
            if is_sent { &mut self.on_the_way } else { &mut self.behind }.push(id);
            self.fills.push((key, None, is_sent));
        }
        Err(joined)
    }

    /// A fill has ended: the one behind it, if there is one, is sent.
    fn ended(&mut self, fill: usize) -> Option<usize> {
        self.on_the_way.retain(|id| *id != fill);
        let key = self.fills[fill].0;
        let at = self.behind.iter().position(|id| self.fills[*id].0 == key)?;
        let next = self.behind.remove(at);
        self.on_the_way.push(next);
        self.fills[next].2 = true;
        Some(next)
    }

    fn found(&mut self, fill: usize, value: &[u8], sent: u64, now: u64) -> bool {
        self.forget_the_dead(now);
        let (key, _, registered) = self.fills[fill];
        self.fills[fill].2 = false;
        if !registered || now >= sent + EXPIRY_NS || self.holds_newer(key, sent) {
            return false;
        }
        self.held.retain(|held| held.0 != key);
        if value.len() > MAX_VALUE_BYTES {
            return false;
        }
        self.held.push((key, value.to_vec(), sent));
        self.shrink(self.capacity);
        true
    }

    /// Whether what is held was fetched later than `sent`.
    fn holds_newer(&self, key: u32, sent: u64) -> bool {
        self.held.iter().any(|held| held.0 == key && held.2 > sent)
    }

    fn shrink(&mut self, capacity: usize) {
        self.capacity = capacity;
        self.held.drain(..self.held.len().saturating_sub(capacity));
    }

    fn remove(&mut self, key: u32) -> bool {
        let before = self.held.len();
        self.held.retain(|held| held.0 != key);
        self.held.len() < before
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }
}

/// A fill that the test still has to answer.
struct Open {
    id: usize,
    fill: Fill<u64>,
    registered_ns: u64,
}

/// Fills, and when they were registered.
type SentLate = Arc<Mutex<Vec<(Fill<u64>, u64)>>>;

struct World {
    cache: Cache<u64>,
    judge: Judge,
    dice: Dice,
    now: u64,
    keys: u64,
    /// Small enough for an eviction to know every dead entry, so no sweep is needed to agree with the judge.
    knows_its_dead: bool,
    /// Before this nothing that is held can be dead. The judge forgets the dead sooner than the cache reclaims them.
    next_death_ns: u64,
    open: Vec<Open>,
    /// Those that were held, once they are to be sent.
    sent_late: SentLate,
    waiters: Vec<(usize, Waiter<u64>)>,
}

impl World {
    fn new(shards: usize, capacity: usize, seed: u64) -> World {
        let limits = Limits {
            capacity,
            capacity_bytes: None,
            expiry: Duration::from_nanos(EXPIRY_NS),
            max_value_bytes: MAX_VALUE_BYTES,
            shards: Some(shards),
        };
        World {
            cache: Cache::new(limits),
            judge: Judge {
                capacity,
                held: Vec::new(),
                fills: Vec::new(),
                on_the_way: Vec::new(),
                behind: Vec::new(),
            },
            dice: Dice(seed | 1),
            now: 50 * 86_400 * 1_000_000_000,
            keys: 2 * capacity as u64 + 2,
            knows_its_dead: shards == 1 && capacity <= 10,
            next_death_ns: u64::MAX,
            open: Vec::new(),
            sent_late: Arc::default(),
            waiters: Vec::new(),
        }
    }

    fn key(&mut self) -> u32 {
        let range = if self.dice.below(2) == 0 { self.keys } else { self.keys / 4 + 1 };
        u32::try_from(self.dice.below(range)).expect("few keys")
    }

    fn step(&mut self) {
        self.now += 1 + self.dice.below(1000);
        if self.dice.below(16) == 0 {
            self.look_ahead();
        }
        // What empties the cache is rare enough that it is mostly full.
        if self.dice.below(2 * self.keys + 200) == 0 {
            return self.upset();
        }
        match self.dice.below(100) {
            0..52 => self.lookup(),
            52..62 => self.hit(),
            62..92 => self.answer(),
            92..95 => self.stamp(),
            95..97 => self.invalidate(),
            97..99 => self.peek(),
            _ => drop(self.cache.maintain(self.now, 10)),
        }
        let stats = self.cache.stats(self.now);
        assert!(stats.entries <= self.judge.capacity as u64, "{stats:?}");
    }

    fn upset(&mut self) {
        match self.dice.below(9) {
            8 => self.purge(),
            0..4 => self.now += self.dice.below(EXPIRY_NS / 2),
            4 => self.now += EXPIRY_NS - 100, // what is young expires in the middle of the next steps
            5 | 6 => {
                self.judge.held.clear();
                self.judge.fills.iter_mut().for_each(|fill| fill.2 = false);
                self.cache.flush();
            }
            _ => {
                let capacity = 1 + self.dice.below(self.keys - 1) as usize;
                self.sweep();
                self.cache.resize(capacity, None);
                self.judge.shrink(capacity);
                self.sweep();
            }
        }
    }

    fn invalidate(&mut self) {
        let key = self.key();
        let live = self.cache.peek(&key.to_be_bytes(), self.now).is_some();
        let left = self.cache.invalidate(&key.to_be_bytes());
        assert!(left >= live && self.judge.remove(key) >= live, "invalidate {key}");
        self.judge.fills.iter_mut().filter(|fill| fill.0 == key).for_each(|fill| fill.2 = false);
    }

    /// What begins like a key, by three of its four bytes or all. It is taken out at once: until then it would have its place in the order of use.
    fn purge(&mut self) {
        let key = self.key().to_be_bytes();
        let prefix = &key[..3 + self.dice.below(2) as usize];
        let is_covered = |key: u32| key.to_be_bytes().starts_with(prefix);
        self.judge.held.retain(|held| !is_covered(held.0));
        self.judge.fills.iter_mut().filter(|fill| is_covered(fill.0)).for_each(|fill| fill.2 = false);
        assert!(self.cache.purge_prefix(prefix));
        while self.cache.sweep_purged(1 + self.dice.below(100) as usize).are_left {}
        assert_eq!(self.cache.stats(self.now).live_purges, 0);
    }

    /// Of which the judge knows nothing.
    fn look_ahead(&mut self) {
        let keys: Vec<_> = (0..self.dice.below(40)).map(|_| self.key().to_be_bytes()).collect();
        let before = self.cache.stats(self.now);
        self.cache.look_ahead(keys.iter().map(|key| &key[..]));
        assert_eq!(self.cache.stats(self.now), before);
    }

    fn peek(&mut self) {
        let key = self.key();
        self.judge.forget_the_dead(self.now);
        let expected = self.judge.held.iter().find(|held| held.0 == key).map(|held| &held.1[..]);
        let peeked = self.cache.peek(&key.to_be_bytes(), self.now);
        assert_eq!(peeked.as_ref().map(|entry| entry.value()), expected, "peek {key}");
    }

    /// A use of the key, if it is held; else nothing.
    fn hit(&mut self) {
        let key = self.key();
        self.judge.forget_the_dead(self.now);
        let at = self.judge.held.iter().position(|held| held.0 == key);
        let used = at.map(|at| self.judge.held.remove(at));
        let hit = self.cache.hit(&key.to_be_bytes(), Partition::OWN, Need::NOTHING, self.now);
        let values = (hit.as_ref().map(|entry| entry.value()), used.as_ref().map(|held| &held.1[..]));
        assert_eq!(values.0, values.1, "hit {key}");
        self.judge.held.extend(used);
    }

    fn lookup(&mut self) {
        let key = self.key();
        let expected = self.judge.lookup(key, self.now);
        match (self.cache.lookup(&key.to_be_bytes(), Need::NOTHING, self.now), expected) {
            (Lookup::Hit(entry), Ok(value)) => assert_eq!(entry.value(), value, "hit {key}"),
            (Lookup::Wait(waiter), Err(Some(id))) => self.waiters.push((id, waiter)),
            (Lookup::Miss(fill, waiter), Err(None)) => {
                let id = self.judge.fills.len() - 1;
                assert!(self.judge.on_the_way.contains(&id), "{key} is sent, and two are on their way");
                self.waiters.push((id, waiter));
                self.open.push(Open { id, fill, registered_ns: self.now });
                if self.dice.below(4) > 0 {
                    self.stamp();
                }
            }
            (Lookup::Held(held, waiter), Err(None)) => {
                let id = self.judge.fills.len() - 1;
                assert!(self.judge.behind.contains(&id), "{key} is held too early");
                self.waiters.push((id, waiter));
                let (sent, now) = (self.sent_late.clone(), self.now);
                held.send_with(move |fill| sent.lock().expect("a list").push((fill, now)));
                assert!(self.sent_late.lock().expect("a list").is_empty(), "{key} is sent too early");
            }
            (got, expected) => panic!("lookup of {key}: {got:?}, expected {expected:?}"),
        }
    }

    fn stamp(&mut self) {
        if let Some(open) = self.open.last_mut() {
            open.fill.stamp_sent(self.now);
            self.judge.fills[open.id].1 = Some(self.now);
        }
    }

    fn answer(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let at = self.dice.below(self.open.len() as u64) as usize;
        let Open { id, fill, registered_ns } = self.open.swap_remove(at);
        let (key, sent, registered) = self.judge.fills[id];
        let expected = match self.dice.below(20) {
            0 => {
                fill.fail(id as u64);
                None
            }
            1 => {
                drop(fill);
                None
            }
            2 => {
                self.judge.forget_the_dead(self.now);
                if registered && !self.judge.holds_newer(key, sent.unwrap_or(registered_ns)) {
                    self.judge.remove(key);
                }
                fill.missing(Keep::ForItsAge, self.now);
                None
            }
            kind => {
                if !self.knows_its_dead && self.now >= self.next_death_ns {
                    self.sweep();
                }
                let sent = sent.unwrap_or(registered_ns);
                self.next_death_ns = self.next_death_ns.min(sent + EXPIRY_NS);
                let length = if kind == 3 { MAX_VALUE_BYTES + 1 } else { self.dice.below(60) as usize };
                let value = vec![id as u8; length];
                let stored = self.judge.found(id, &value, sent, self.now);
                fill.found(&value, Facts::default(), Keep::ForItsAge, self.now);
                Some((value, stored))
            }
        };
        self.judge.fills[id].2 = false;
        let sent = std::mem::take(&mut *self.sent_late.lock().expect("a list"));
        let next = self.judge.ended(id);
        assert_eq!(sent.len(), usize::from(next.is_some()), "after a fill of {key}");
        assert!(sent.iter().all(|(fill, _)| fill.key() == key.to_be_bytes()));
        let late = sent.into_iter().zip(next);
        self.open.extend(late.map(|((fill, registered_ns), id)| Open { id, fill, registered_ns }));
        let (ended, waiting) = std::mem::take(&mut self.waiters).into_iter().partition(|(of, _)| *of == id);
        self.waiters = waiting;
        let ended: Vec<(usize, Waiter<u64>)> = ended;
        for (_, waiter) in ended {
            match (waiter.try_outcome(), &expected) {
                (Some(Outcome::Found { entry, stored }), Some(expected)) => {
                    assert_eq!((entry.value(), stored.is_kept()), (&expected.0[..], expected.1));
                }
                (Some(Outcome::Failed(error)), None) => assert_eq!(error, id as u64),
                (Some(Outcome::Missing { .. } | Outcome::Abandoned), None) => {}
                (outcome, _) => panic!("fill {id} of {key}: {outcome:?}, expected {expected:?}"),
            }
        }
    }

    /// A whole round of maintenance, when the judge knows of something dead or too much.
    fn sweep(&mut self) {
        self.judge.forget_the_dead(self.now);
        self.next_death_ns = self.judge.held.iter().map(|held| held.2 + EXPIRY_NS).min().unwrap_or(u64::MAX);
        for _ in 0..2 {
            // Twice: the first round may have begun in the middle.
            while !self.cache.maintain(self.now, 100_000).round_ended {}
        }
    }

    fn compare_everything(&self) {
        for key in 0..u32::try_from(self.keys).expect("few keys") {
            let alive = |held: &&(u32, Vec<u8>, u64)| held.0 == key && self.now < held.2 + EXPIRY_NS;
            let expected = self.judge.held.iter().find(alive).map(|held| &held.1[..]);
            let peeked = self.cache.peek(&key.to_be_bytes(), self.now);
            assert_eq!(peeked.as_ref().map(|entry| entry.value()), expected, "key {key}");
        }
    }
}

fn compare(shards: usize, capacity: usize, steps: usize) {
    let seed = match std::env::var("MODEL_SEED") {
        Ok(seed) => seed.parse().expect("MODEL_SEED is a number"),
        Err(_) => RandomState::new().hash_one(0),
    };
    println!("{shards} shards, capacity {capacity}: MODEL_SEED={seed}");
    let mut world = World::new(shards, capacity, seed);
    for key in 0..u32::try_from(capacity).expect("a small capacity") {
        world.now += 1;
        assert!(world.judge.lookup(key, world.now).is_err());
        let Lookup::Miss(fill, _) = world.cache.lookup(&key.to_be_bytes(), Need::NOTHING, world.now) else {
            panic!("a miss")
        };
        let id = world.judge.fills.len() - 1;
        assert!(world.judge.found(id, b"first", world.now, world.now));
        assert_eq!(world.judge.ended(id), None);
        world.next_death_ns = world.next_death_ns.min(world.now + EXPIRY_NS);
        fill.found(b"first", Facts::default(), Keep::ForItsAge, world.now);
    }
    for step in 0..steps {
        world.step();
        if step % (4 * capacity) == 0 {
            world.compare_everything();
        }
    }
    world.compare_everything();
    world.open.clear();
    // What was held behind them is sent now.
    let sent_late = std::mem::take(&mut *world.sent_late.lock().expect("a list"));
    drop(sent_late);
    let stats = world.cache.stats(world.now);
    let left = stats.replaced
        + stats.evictions
        + stats.expiries
        + stats.invalidations
        + stats.flushed
        + stats.purged;
    assert_eq!((stats.entries, stats.fills_in_flight), (stats.stored - left, 0), "{stats:?}");
    // A run that never got to the interesting places proves nothing. Large caches get there only now and then.
    assert!(stats.evictions > 0 && stats.hits > 0, "{stats:?}");
    let rare = [
        stats.collapsed,
        stats.expiries,
        stats.flushed,
        stats.purged,
        stats.unkept_too_large,
        stats.unkept_expired,
    ];
    assert!(capacity > 10 || rare.iter().all(|count| *count > 0), "{stats:?}");
}

#[test]
fn one_shard_is_an_exact_lru() {
    for capacity in [1, 2, 3, 10] {
        compare(1, capacity, 100_000);
    }
    compare(1, 1000, 60_000);
}

#[test]
fn sixty_four_shards_are_an_exact_lru() {
    for capacity in [1, 2, 3, 10] {
        compare(64, capacity, 50_000);
    }
    compare(64, 1000, 40_000);
}

#[test]
fn ten_thousand_entries_are_an_exact_lru() {
    compare(1, 10_000, 60_000);
    compare(64, 10_000, 60_000);
}
