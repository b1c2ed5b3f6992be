//! Fetches that wait until there is room for what they will bring.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cache::{Cache, Entry, Facts, Fill, Keep, Limits, Lookup, Need, Outcome, Waiter};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// One with a budget of 16 MiB, of which half may be in flight; it has learned that values are small.
fn cache() -> Cache<&'static str> {
    let limits = Limits {
        capacity: 100_000,
        capacity_bytes: Some(16 << 20),
        expiry: Duration::from_secs(60),
        max_value_bytes: MIB,
        shards: None,
    };
    let cache = Cache::new(limits);
    for n in 0..200 {
        let (fill, _) = miss(&cache, &format!("small{n}"));
        assert!(fill.has_room_for(100));
        fill.found(b"v", Facts::default(), Keep::ForItsAge, 1);
    }
    cache
}

fn miss(cache: &Cache<&'static str>, key: &str) -> (Fill<&'static str>, Waiter<&'static str>) {
    match cache.lookup(key.as_bytes(), Need::NOTHING, 1) {
        Lookup::Miss(fill, waiter) => (fill, waiter),
        other => panic!("{key}: {other:?}"),
    }
}

fn found(fill: Fill<&'static str>, bytes: usize) {
    fill.found(&vec![b'v'; bytes], Facts::default(), Keep::ForItsAge, 1);
}

/// A fill that was sent, or given up as too late.
type Turn = Result<Fill<&'static str>, Fill<&'static str>>;

/// They all, in that order.
#[derive(Clone, Default)]
struct Sent(Arc<Mutex<Vec<Turn>>>);

impl Sent {
    fn wait(&self, fill: Fill<&'static str>, bytes: Option<usize>, until_ns: u64) {
        let sent = self.clone();
        fill.wait_for_room(bytes, until_ns, move |fill| sent.0.lock().expect("no panic").push(fill));
    }

    fn take(&self) -> Vec<Turn> {
        std::mem::take(&mut self.0.lock().expect("no panic"))
    }
}

/// Takes all the room there is.
fn crowd(cache: &Cache<&'static str>) -> Vec<Fill<&'static str>> {
    let mut taken = Vec::new();
    loop {
        let (mut fill, _) = miss(cache, &format!("taken{}", taken.len()));
        if !fill.take_room() {
            return taken;
        }
        taken.push(fill);
    }
}

#[test]
fn fetches_of_small_values_take_room_too_and_wait_in_the_order_in_which_they_came() {
    let cache = cache();
    let mut taken = crowd(&cache);
    assert_eq!(taken.len(), 8 * MIB / (64 * KIB));
    let sent = Sent::default();
    for n in 0..3 {
        sent.wait(miss(&cache, &format!("waits{n}")).0, None, 9);
    }
    assert_eq!((sent.take().len(), cache.stats(1).waiting_for_room), (0, 3));
    found(taken.pop().expect("one"), 10);
    let first = sent.take();
    assert!(matches!(&first[..], [Ok(fill)] if fill.key() == b"waits0"));
    // Nobody passes those who wait.
    drop(taken);
    let keys: Vec<_> = sent.take().into_iter().map(|fill| fill.expect("room").key().to_vec()).collect();
    assert_eq!(keys, [b"waits1", b"waits2"]);
    assert!(miss(&cache, "another").0.take_room());
}

#[test]
fn who_comes_while_others_wait_does_not_pass_them() {
    let cache = cache();
    let taken = crowd(&cache);
    let sent = Sent::default();
    let (mut fill, _) = miss(&cache, "large");
    assert!(!fill.take_room());
    sent.wait(fill, Some(4 * MIB), 9);
    drop(taken.into_iter().take(8).collect::<Vec<_>>());
    assert_eq!(sent.take().len(), 1, "room for it, as the rest of those was dropped too");
}

#[test]
fn room_is_free_when_the_last_reader_is_done() {
    let cache = cache();
    // Not kept: what readers hold is all that there is of them.
    let held: Vec<Entry> = (0..130)
        .map(|n| {
            let (fill, waiter) = miss(&cache, &n.to_string());
            fill.found(&vec![b'v'; 64 * KIB], Facts::default(), Keep::Not, 1);
            match waiter.try_outcome() {
                Some(Outcome::Found { entry, .. }) => entry,
                other => panic!("{other:?}"),
            }
        })
        .collect();
    assert!(cache.is_crowded());
    let sent = Sent::default();
    let (mut fill, _) = miss(&cache, "waits");
    assert!(!fill.take_room());
    sent.wait(fill, None, 9);
    cache.released();
    assert_eq!(sent.take().len(), 0, "they read on");
    drop(held);
    cache.released();
    assert!(matches!(&sent.take()[..], [Ok(_)]));
}

#[test]
fn who_waits_for_too_long_is_told_so() {
    let cache = cache();
    let _taken = crowd(&cache);
    let sent = Sent::default();
    let (fill, waiter) = miss(&cache, "late");
    sent.wait(fill, None, 9);
    sent.wait(miss(&cache, "later").0, None, 20);
    cache.fail_overdue(8);
    assert_eq!(sent.take().len(), 0);
    cache.fail_overdue(9);
    let late = sent.take().pop().expect("one").expect_err("too late");
    late.fail("no room");
    assert!(matches!(waiter.try_outcome(), Some(Outcome::Failed("no room"))));
    assert_eq!(cache.stats(1).waiting_for_room, 1);
}

#[test]
fn as_many_wait_as_there_are_places() {
    let cache = cache();
    let _taken = crowd(&cache);
    let sent = Sent::default();
    for n in 0..20_000 {
        sent.wait(miss(&cache, &format!("waits{n}")).0, None, 9);
    }
    assert_eq!(cache.stats(1).waiting_for_room, 16 * 1024);
    let refused = sent.take();
    assert!(refused.len() == 20_000 - 16 * 1024 && refused.iter().all(Result::is_err));
}

#[test]
fn a_failure_of_one_that_was_sent_sends_the_next_without_end_of_the_stack() {
    let cache = cache();
    let taken = crowd(&cache);
    let waiters: Vec<_> = (0..16_000)
        .map(|n| {
            let (fill, waiter) = miss(&cache, &format!("waits{n}"));
            fill.wait_for_room(None, 9, |fill| fill.expect("room").fail("redis is gone"));
            waiter
        })
        .collect();
    drop(taken);
    assert_eq!(cache.stats(1).waiting_for_room, 0);
    assert!(waiters.iter().all(|waiter| waiter.try_outcome().is_some()));
}

#[test]
fn what_comes_and_does_not_fit_waits_for_room_for_all_of_it() {
    let cache = cache();
    let held: Vec<_> = (0..3)
        .map(|n| {
            let (fill, waiter) = miss(&cache, &n.to_string());
            assert!(fill.has_room_for(3 * MIB));
            fill.found(&vec![b'v'; 3 * MIB], Facts::default(), Keep::Not, 1);
            waiter
        })
        .collect();
    let (fill, _) = miss(&cache, "next");
    assert!(!fill.has_room_for(3 * MIB) && !fill.is_second());
    let sent = Sent::default();
    sent.wait(fill, Some(3 * MIB), 9);
    assert_eq!(sent.take().len(), 0);
    drop(held);
    cache.released();
    let fill = sent.take().pop().expect("one").expect("room");
    assert!(fill.is_second() && fill.has_room_for(3 * MIB));
    // One that is alone has room, however large it is.
    drop(fill);
    assert!(miss(&cache, "huge").0.has_room_for(100 * MIB));
}

#[test]
fn without_a_budget_there_is_always_room() {
    let limits = Limits {
        capacity: 10,
        capacity_bytes: None,
        expiry: Duration::from_secs(60),
        max_value_bytes: MIB,
        shards: None,
    };
    let cache: Cache<&'static str> = Cache::new(limits);
    let fills: Vec<_> = (0..1_000).map(|n| miss(&cache, &n.to_string()).0).collect();
    for mut fill in fills {
        assert!(fill.take_room() && fill.has_room_for(1 << 40));
    }
}
