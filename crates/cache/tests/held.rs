//! Fetches of a key that wait for others: how many are sent, who joins which, and what is taken when.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cache::{Cache, Facts, Fill, Held, Keep, Lease, Limits, Lookup, Need, Outcome, Stored, Waiter};

type Error = &'static str;

fn cache() -> Cache<Error> {
    let (expiry, shards) = (Duration::from_secs(10), Some(1));
    Cache::new(Limits { capacity: 10, capacity_bytes: None, expiry, max_value_bytes: 1000, shards })
}

/// A reader who takes nothing from before `now_ns`.
fn ask(cache: &Cache<Error>, now_ns: u64) -> Lookup<Error> {
    cache.lookup(b"k", Need::since(now_ns), now_ns)
}

/// A fetch that is sent at once, and stamped.
fn sent(cache: &Cache<Error>, now_ns: u64) -> (Fill<Error>, Waiter<Error>) {
    let Lookup::Miss(mut fill, waiter) = ask(cache, now_ns) else { panic!("a miss that may be sent") };
    fill.stamp_sent(now_ns);
    (fill, waiter)
}

fn held(cache: &Cache<Error>, now_ns: u64) -> (Held<Error>, Waiter<Error>) {
    let Lookup::Held(held, waiter) = ask(cache, now_ns) else { panic!("a miss that waits") };
    (held, waiter)
}

/// Where fills go that may be sent.
type Sent = Arc<Mutex<Vec<Fill<Error>>>>;

fn send_into(held: Held<Error>, sent: &Sent) {
    let sent = sent.clone();
    held.send_with(move |fill| sent.lock().expect("a list").push(fill));
}

fn take(sent: &Sent) -> Option<Fill<Error>> {
    sent.lock().expect("a list").pop()
}

fn leased(lease: &Arc<Lease>) -> Keep {
    Keep::Leased { lease: lease.clone(), deadline_ns: None }
}

fn found(fill: Fill<Error>, value: &[u8], now_ns: u64) {
    fill.found(value, Facts::default(), Keep::ForItsAge, now_ns);
}

fn value(waiter: &Waiter<Error>) -> Option<(Vec<u8>, Stored)> {
    match waiter.try_outcome()? {
        Outcome::Found { entry, stored } => Some((entry.value().to_vec(), stored)),
        other => panic!("a value: {other:?}"),
    }
}

#[test]
fn of_a_herd_two_fetches_are_sent_and_all_others_join_one_that_waits() {
    let cache = cache();
    let ((first, at_once), (_second, _)) = (sent(&cache, 1), sent(&cache, 2));
    let (third, waiter) = held(&cache, 3);
    let to_send = Sent::default();
    send_into(third, &to_send);
    let herd: Vec<_> = (4..200)
        .map(|now_ns| match ask(&cache, now_ns) {
            Lookup::Wait(waiter) => waiter,
            other => panic!("{other:?}"),
        })
        .collect();
    let Lookup::Wait(early) = ask(&cache, 2) else { panic!("the second is late enough") };
    assert!(take(&to_send).is_none(), "two are on their way");
    found(first, b"v1", 200);
    assert_eq!(value(&at_once), Some((b"v1".to_vec(), Stored::Yes)));
    let mut third = take(&to_send).expect("it is its turn");
    third.stamp_sent(201);
    assert!(value(&waiter).is_none() && value(&early).is_none());
    // It is one of two that are on their way now.
    let Lookup::Wait(_) = ask(&cache, 201) else { panic!("sent late enough") };
    let Lookup::Held(..) = ask(&cache, 202) else { panic!("the next one waits") };
    found(third, b"v2", 203);
    assert!(herd.iter().chain([&waiter]).all(|waiter| value(waiter) == Some((b"v2".to_vec(), Stored::Yes))));
    assert_eq!(cache.stats(203).misses, 4);
}

#[test]
fn those_that_a_change_has_overtaken_are_on_their_way_all_the_same() {
    let cache = cache();
    let (first, _) = sent(&cache, 1);
    cache.invalidate(b"k");
    let (second, _) = sent(&cache, 1);
    cache.invalidate(b"k");
    let (third, waiter) = held(&cache, 1);
    let to_send = Sent::default();
    send_into(third, &to_send);
    // It is not sent yet: what changes now it will see.
    cache.invalidate(b"k");
    assert!(matches!(cache.lookup(b"k", Need::NOTHING, 2), Lookup::Wait(_)));
    found(first, b"old", 3);
    assert!(cache.peek(b"k", 3).is_none());
    found(take(&to_send).expect("its turn"), b"new", 4);
    assert_eq!(value(&waiter), Some((b"new".to_vec(), Stored::Yes)));
    found(second, b"old", 5);
    assert_eq!(cache.peek(b"k", 5).expect("kept").value(), b"new");
}

#[test]
fn a_flush_before_it_is_sent_is_none_of_its_concern_and_one_after_it_is() {
    for after in [false, true] {
        let cache = cache();
        let lease = Arc::new(Lease::default());
        let (first, _second) = (sent(&cache, 1).0, sent(&cache, 2));
        let (third, waiter) = held(&cache, 3);
        let to_send = Sent::default();
        send_into(third, &to_send);
        cache.flush();
        assert!(matches!(ask(&cache, 4), Lookup::Wait(_)), "it will be sent after the flush");
        first.found(b"v", Facts::default(), leased(&lease), 5);
        let mut third = take(&to_send).expect("its turn");
        third.stamp_sent(6);
        if after {
            cache.flush();
        }
        third.found(b"v", Facts::default(), leased(&lease), 7);
        let stored = if after { Stored::Overtaken } else { Stored::Yes };
        assert_eq!(value(&waiter), Some((b"v".to_vec(), stored)));
    }
}

#[test]
fn however_one_ends_the_next_is_sent() {
    let ends: [fn(Fill<Error>); 3] = [drop, |fill| fill.fail("lost"), |fill| fill.missing(Keep::Not, 9)];
    for end in ends {
        let cache = cache();
        let (_first, second) = (sent(&cache, 1), sent(&cache, 2).0);
        let (third, _waiter) = held(&cache, 3);
        let to_send = Sent::default();
        send_into(third, &to_send);
        end(second);
        assert!(take(&to_send).is_some());
    }
}

#[test]
fn one_that_may_be_sent_before_its_holder_has_said_how_is_sent_when_he_does() {
    let cache = cache();
    let (first, _second) = (sent(&cache, 1).0, sent(&cache, 2));
    let (third, waiter) = held(&cache, 3);
    found(first, b"v", 4);
    let to_send = Sent::default();
    send_into(third, &to_send);
    found(take(&to_send).expect("at once"), b"v", 5);
    assert!(value(&waiter).is_some());
}

#[test]
fn one_that_nobody_can_send_fails_those_who_wait_and_the_next_takes_its_place() {
    let cache = cache();
    let (first, _second) = (sent(&cache, 1).0, sent(&cache, 2));
    let (third, waiter) = held(&cache, 3);
    drop(third);
    assert!(matches!(waiter.try_outcome(), Some(Outcome::Abandoned)));
    let (fourth, waiter) = held(&cache, 4);
    let to_send = Sent::default();
    send_into(fourth, &to_send);
    found(first, b"v", 5);
    found(take(&to_send).expect("its turn"), b"v", 6);
    assert!(value(&waiter).is_some());
    assert_eq!(cache.stats(6).fills_in_flight, 1);
}

#[test]
fn another_view_or_key_waits_for_none_of_them() {
    let cache = cache();
    let (_first, _second) = (sent(&cache, 1), sent(&cache, 2));
    assert!(matches!(cache.lookup(b"l", Need::NOTHING, 3), Lookup::Miss(..)));
    let view = cache::View { partition: cache::Partition::OWN, question: b"2-STRLEN" };
    assert!(matches!(cache.lookup_view(b"k", view, |_| false, Need::NOTHING, 3), Lookup::Miss(..)));
}
