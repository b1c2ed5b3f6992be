//! Fills and those who wait for them: who gets what, and what is kept.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use cache::{Cache, Entry, Facts, Fill, Keep, Limits, Lookup, Need, Outcome, Stored, Waiter};

const SECOND: u64 = 1_000_000_000;

fn cache() -> Cache<&'static str> {
    Cache::new(Limits {
        capacity: 100,
        capacity_bytes: None,
        expiry: Duration::from_secs(10),
        max_value_bytes: 1000,
        shards: Some(64),
    })
}

fn miss(cache: &Cache<&'static str>, key: &[u8], now_ns: u64) -> (Fill<&'static str>, Waiter<&'static str>) {
    match cache.lookup(key, Need::NOTHING, now_ns) {
        Lookup::Miss(fill, waiter) => (fill, waiter),
        other => panic!("expected a miss: {other:?}"),
    }
}

fn wait(cache: &Cache<&'static str>, key: &[u8], now_ns: u64) -> Waiter<&'static str> {
    match cache.lookup(key, Need::NOTHING, now_ns) {
        Lookup::Wait(waiter) => waiter,
        other => panic!("expected to join a fill: {other:?}"),
    }
}

fn found(outcome: Option<Outcome<&'static str>>) -> (Entry, Stored) {
    match outcome {
        Some(Outcome::Found { entry, stored }) => (entry, stored),
        other => panic!("expected a value: {other:?}"),
    }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Bell {
    fn rings(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

#[test]
fn a_found_value_answers_its_waiters_and_is_kept() {
    let cache = cache();
    let (mut fill, leader) = miss(&cache, b"k", 0);
    let follower = wait(&cache, b"k", 1);
    assert_eq!((fill.key(), fill.sent_ns()), (&b"k"[..], None));
    fill.stamp_sent(2);
    assert_eq!(fill.sent_ns(), Some(2));
    fill.found(b"v", Facts { etag: [9; 16], utf8: true }, Keep::ForItsAge, 3);
    for waiter in [leader, follower] {
        let (entry, stored) = found(waiter.try_outcome());
        assert_eq!(
            (entry.value(), entry.etag(), entry.is_utf8(), entry.sent_ns(), stored),
            (&b"v"[..], &[9; 16], true, 2, Stored::Yes)
        );
    }
    let Lookup::Hit(entry) = cache.lookup(b"k", Need::NOTHING, 4) else { panic!("expected a hit") };
    assert_eq!((entry.key(), entry.value()), (&b"k"[..], &b"v"[..]));
}

#[test]
fn a_late_fill_is_not_kept_after_an_invalidation() {
    let cache = cache();
    let (fill, waiter) = miss(&cache, b"k", 0);
    assert!(!cache.invalidate(b"k"));
    let (newer, newer_waiter) = miss(&cache, b"k", 1);
    fill.found(b"old", Facts::default(), Keep::ForItsAge, 2);
    let (entry, stored) = found(waiter.try_outcome());
    assert_eq!((entry.value(), stored), (&b"old"[..], Stored::Overtaken));
    assert!(cache.peek(b"k", 2).is_none());
    newer.found(b"new", Facts::default(), Keep::ForItsAge, 3);
    assert!(found(newer_waiter.try_outcome()).1.is_kept());
    assert_eq!(cache.peek(b"k", 3).expect("held").value(), b"new");
    assert_eq!(cache.stats(3).unkept_invalidated, 1);
}

#[test]
fn a_late_fill_is_neither_kept_nor_joined_after_a_flush() {
    let cache = cache();
    let (fill, waiter) = miss(&cache, b"k", 0);
    cache.flush();
    let (newer, _) = miss(&cache, b"k", 1);
    newer.found(b"new", Facts::default(), Keep::ForItsAge, 2);
    fill.found(b"old", Facts::default(), Keep::ForItsAge, 3);
    assert!(!found(waiter.try_outcome()).1.is_kept());
    assert_eq!(cache.peek(b"k", 3).expect("held").value(), b"new");
    assert_eq!(cache.stats(3).unkept_flushed, 1);
}

#[test]
fn a_late_answer_does_not_touch_what_a_newer_fill_brought() {
    for late in [b"v".repeat(1001).as_slice(), b"old", b""] {
        let cache = cache();
        let (fill, _waiter) = miss(&cache, b"k", 0);
        cache.invalidate(b"k");
        miss(&cache, b"k", 1).0.found(b"new", Facts::default(), Keep::ForItsAge, 2);
        if late.is_empty() {
            fill.missing(Keep::ForItsAge, 3)
        } else {
            fill.found(late, Facts::default(), Keep::ForItsAge, 3)
        }
        assert_eq!(cache.peek(b"k", 3).expect("held").value(), b"new");
    }
}

#[test]
fn a_dropped_fill_tells_its_waiters_and_the_next_lookup_is_a_miss() {
    let cache = cache();
    let (fill, waiter) = miss(&cache, b"k", 0);
    drop(fill);
    assert!(matches!(waiter.try_outcome(), Some(Outcome::Abandoned)));
    miss(&cache, b"k", 1).0.fail("refused");
    assert_eq!((cache.stats(1).unkept_abandoned, cache.stats(1).unkept_failed), (1, 1));
    assert_eq!(cache.stats(1).fills_in_flight, 0);
}

#[test]
fn a_failure_and_a_missing_key_reach_every_waiter_and_nothing_is_kept() {
    let cache = cache();
    let (fill, leader) = miss(&cache, b"k", 0);
    let follower = wait(&cache, b"k", 0);
    fill.fail("refused");
    for waiter in [leader, follower] {
        assert!(matches!(waiter.try_outcome(), Some(Outcome::Failed("refused"))));
    }
    let (fill, waiter) = miss(&cache, b"k", 1);
    fill.missing(Keep::ForItsAge, 2);
    assert!(matches!(waiter.try_outcome(), Some(Outcome::Missing { .. })));
    assert!(matches!(cache.lookup(b"k", Need::NOTHING, 3), Lookup::Miss(..)));
}

#[test]
fn a_value_above_the_limit_passes_through() {
    let cache = cache();
    let (fill, waiter) = miss(&cache, b"k", 0);
    fill.found(&[1; 1001], Facts::default(), Keep::ForItsAge, 1);
    let (entry, stored) = found(waiter.try_outcome());
    assert_eq!((entry.value().len(), stored), (1001, Stored::No));
    let (fill, waiter) = miss(&cache, b"k", 2);
    fill.found(&[1; 1000], Facts::default(), Keep::ForItsAge, 3);
    assert!(found(waiter.try_outcome()).1.is_kept());
}

#[test]
fn age_counts_from_the_last_stamp_else_from_the_lookup() {
    let cache = cache();
    let (mut fill, _waiter) = miss(&cache, b"stamped", 0);
    fill.stamp_sent(5 * SECOND);
    fill.stamp_sent(7 * SECOND);
    fill.found(b"v", Facts::default(), Keep::ForItsAge, 8 * SECOND);
    assert!(cache.peek(b"stamped", 17 * SECOND - 1).is_some());
    assert!(cache.peek(b"stamped", 17 * SECOND).is_none());
    let (fill, _waiter) = miss(&cache, b"never stamped", 0);
    fill.found(b"v", Facts::default(), Keep::ForItsAge, 8 * SECOND);
    assert!(cache.peek(b"never stamped", 10 * SECOND).is_none());
    let (mut fill, waiter) = miss(&cache, b"slow", 0);
    fill.stamp_sent(1);
    fill.found(b"v", Facts::default(), Keep::ForItsAge, 10 * SECOND + 1);
    assert!(!found(waiter.try_outcome()).1.is_kept());
}

/// Its value would be born expired for a reader who comes now: that reader fetches anew, and both fills may store.
#[test]
fn a_fill_sent_too_long_ago_is_not_joined() {
    let cache = cache();
    let (mut fill, waiter) = miss(&cache, b"k", 0);
    fill.stamp_sent(1);
    let joined = wait(&cache, b"k", 10 * SECOND);
    let (mut newer, newer_waiter) = miss(&cache, b"k", 10 * SECOND + 1);
    let joined_newer = wait(&cache, b"k", 10 * SECOND + 2);
    fill.stamp_sent(10 * SECOND + 3); // a retry makes the older one young again
    newer.stamp_sent(10 * SECOND + 3);
    fill.found(b"older", Facts::default(), Keep::ForItsAge, 10 * SECOND + 4);
    newer.found(b"newer", Facts::default(), Keep::ForItsAge, 10 * SECOND + 5);
    for (waiter, value) in
        [(waiter, b"older"), (joined, b"older"), (newer_waiter, b"newer"), (joined_newer, b"newer")]
    {
        let (entry, stored) = found(waiter.try_outcome());
        assert_eq!((entry.value(), stored), (&value[..], Stored::Yes));
    }
    assert_eq!(cache.peek(b"k", 10 * SECOND + 6).expect("held").value(), b"newer");
    assert_eq!(cache.stats(0).replaced, 1);
}

/// Between two connections there is no order of replies.
#[test]
fn an_answer_sent_earlier_does_not_replace_one_sent_later() {
    for found in [true, false] {
        let cache = cache();
        let (mut earlier, _waiter) = miss(&cache, b"k", 1);
        earlier.stamp_sent(1);
        let Lookup::Miss(mut later, _) = cache.lookup(b"k", Need::since(2), 2) else { panic!("a miss") };
        later.stamp_sent(2);
        later.found(b"new", Facts::default(), Keep::ForItsAge, 3);
        if found {
            earlier.found(b"old", Facts::default(), Keep::ForItsAge, 4)
        } else {
            earlier.missing(Keep::ForItsAge, 4)
        }
        assert_eq!(cache.peek(b"k", 4).expect("held").value(), b"new");
        assert_eq!(cache.stats(4).unkept_outdated, 1);
    }
}

#[test]
fn news_that_a_key_is_gone_or_too_large_removes_its_entry() {
    for too_large in [false, true] {
        let cache = cache();
        let (mut old, _waiter) = miss(&cache, b"k", 0);
        old.stamp_sent(0);
        let (newer, _waiter) = miss(&cache, b"k", 10 * SECOND);
        old.stamp_sent(10 * SECOND);
        old.found(b"v", Facts::default(), Keep::ForItsAge, 10 * SECOND);
        assert!(cache.peek(b"k", 10 * SECOND).is_some());
        if too_large {
            newer.found(&[0; 1001], Facts::default(), Keep::ForItsAge, 10 * SECOND)
        } else {
            newer.missing(Keep::ForItsAge, 10 * SECOND)
        }
        assert!(cache.peek(b"k", 10 * SECOND).is_none());
    }
}

#[test]
fn ten_thousand_waiters_share_one_fill() {
    let cache = cache();
    let (fill, leader) = miss(&cache, b"k", 0);
    let bells: Vec<Arc<Bell>> = (0..10_000).map(|_| Arc::default()).collect();
    let mut waiters: Vec<Waiter<&str>> = bells.iter().map(|_| wait(&cache, b"k", 1)).collect();
    for (waiter, bell) in waiters.iter_mut().zip(&bells) {
        let waker = Waker::from(Arc::clone(bell));
        for _ in 0..3 {
            assert!(pin!(&mut *waiter).poll(&mut Context::from_waker(&waker)).is_pending());
        }
    }
    fill.found(b"v", Facts::default(), Keep::ForItsAge, 2);
    assert!(bells.iter().all(|bell| bell.rings() == 1));
    for mut waiter in waiters {
        assert!(pin!(&mut waiter).poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }
    drop(leader);
    let stats = cache.stats(2);
    assert_eq!((stats.misses, stats.collapsed, stats.stored), (1, 10_000, 1));
}

#[test]
fn a_waiter_holds_one_waker_the_last_and_gives_it_back() {
    let cache = cache();
    let (fill, mut waiter) = miss(&cache, b"k", 0);
    let (first, last): (Arc<Bell>, Arc<Bell>) = Default::default();
    for bell in [&first, &first, &last] {
        let waker = Waker::from(Arc::clone(bell));
        assert!(pin!(&mut waiter).poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert_eq!((Arc::strong_count(&first), Arc::strong_count(&last)), (1, 2));
    // Waiters that come and go leave nothing behind, and do not cancel the fill.
    for _ in 0..3 {
        let mut passing = wait(&cache, b"k", 0);
        let bell: Arc<Bell> = Arc::default();
        let waker = Waker::from(Arc::clone(&bell));
        assert!(pin!(&mut passing).poll(&mut Context::from_waker(&waker)).is_pending());
        drop((passing, waker));
        assert_eq!(Arc::strong_count(&bell), 1);
    }
    fill.found(b"v", Facts::default(), Keep::ForItsAge, 1);
    assert_eq!((first.rings(), last.rings()), (0, 1));
}

#[test]
fn a_fill_without_any_waiter_is_still_kept() {
    let cache = cache();
    let (fill, waiter) = miss(&cache, b"k", 0);
    drop(waiter);
    fill.found(b"v", Facts::default(), Keep::ForItsAge, 1);
    assert!(cache.peek(b"k", 2).is_some());
}

#[test]
fn a_fill_is_answered_on_another_thread_than_its_waiters() {
    let cache = cache();
    for round in 0..200u64 {
        let key = round.to_be_bytes();
        let (fill, mut waiter) = miss(&cache, &key, round);
        let bell = Arc::new(Unpark(thread::current()));
        let answer =
            thread::spawn(move || fill.found(&round.to_be_bytes(), Facts::default(), Keep::ForItsAge, round));
        let waker = Waker::from(bell);
        let outcome = loop {
            match pin!(&mut waiter).poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(outcome) => break outcome,
                Poll::Pending => thread::park(),
            }
        };
        assert_eq!(found(Some(outcome)).0.value(), key);
        answer.join().expect("the answering thread");
    }
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
