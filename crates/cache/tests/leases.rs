//! Entries that a tracked connection proves: what a reader gets who needs an answer as late as some instant.

use std::sync::Arc;
use std::time::Duration;

use cache::{
    Cache, Ends, Facts, Fill, Keep, Lease, Limits, Lookup, Need, Outcome, Partition, Stored, View, Waiter,
};

const SECOND: u64 = 1_000_000_000;

fn cache(capacity: usize) -> Cache<&'static str> {
    Cache::new(Limits {
        capacity,
        capacity_bytes: None,
        expiry: Duration::from_secs(10),
        max_value_bytes: 1000,
        shards: None,
    })
}

fn leased(lease: &Arc<Lease>) -> Keep {
    Keep::Leased { lease: lease.clone(), deadline_ns: None }
}

fn miss(
    cache: &Cache<&'static str>,
    key: &[u8],
    need: Need,
    now: u64,
) -> (Fill<&'static str>, Waiter<&'static str>) {
    match cache.lookup(key, need, now) {
        Lookup::Miss(fill, waiter) => (fill, waiter),
        other => panic!("expected a miss, got {other:?}"),
    }
}

/// Stores `key` as fetched at `sent`; the lease is renewed as its reader would do it.
fn put(cache: &Cache<&'static str>, key: &[u8], lease: &Arc<Lease>, sent: u64) {
    let (mut fill, _waiter) = miss(cache, key, Need::since(sent), sent);
    fill.stamp_sent(sent);
    fill.found(b"v", Facts::default(), leased(lease), sent);
    lease.renew(sent);
}

fn is_hit(lookup: &Lookup<&'static str>) -> bool {
    matches!(lookup, Lookup::Hit(_))
}

#[test]
fn an_entry_is_a_hit_up_to_the_last_renewal_of_its_lease() {
    let (cache, lease) = (cache(10), Arc::new(Lease::default()));
    put(&cache, b"k", &lease, 5);
    assert!(is_hit(&cache.lookup(b"k", Need::since(5), 6)));
    drop(miss(&cache, b"k", Need::since(6), 6));
    lease.renew(6);
    lease.renew(3); // never goes back
    assert!(is_hit(&cache.lookup(b"k", Need::since(6), 7)));
    lease.end();
    assert!(is_hit(&cache.lookup(b"k", Need::since(6), 8)), "a lost connection takes no proof away");
    drop(miss(&cache, b"k", Need::since(7), 8));
    assert_eq!(cache.stats(8).unproven, 2);
}

#[test]
fn a_lease_that_was_never_renewed_proves_nothing() {
    let (cache, lease) = (cache(10), Arc::new(Lease::default()));
    let (fill, _waiter) = miss(&cache, b"k", Need::since(0), 0);
    fill.found(b"v", Facts::default(), leased(&lease), 0);
    drop(miss(&cache, b"k", Need::since(0), 1));
}

#[test]
fn only_who_would_wait_is_told_of_a_proof_that_may_come_and_only_of_a_live_lease() {
    let (cache, lease) = (cache(10), Arc::new(Lease::default()));
    put(&cache, b"k", &lease, 5);
    let Lookup::Unproven(of) = cache.lookup(b"k", Need::proven_since(9), 9) else { panic!("unproven") };
    assert!(Arc::ptr_eq(&of, &lease));
    lease.renew(9);
    assert!(is_hit(&cache.lookup(b"k", Need::proven_since(9), 10)));
    lease.end();
    drop(miss(&cache, b"k", Need::proven_since(10), 10));
}

#[test]
fn a_flush_outweighs_every_renewal() {
    let (cache, lease) = (cache(10), Arc::new(Lease::default()));
    put(&cache, b"k", &lease, 5);
    cache.flush();
    lease.renew(9);
    drop(miss(&cache, b"k", Need::since(6), 10));
}

#[test]
fn a_fill_is_joined_only_by_those_who_need_no_later_answer() {
    let cache = cache(10);
    let (mut fill, _waiter) = miss(&cache, b"k", Need::since(5), 5);
    assert!(matches!(cache.lookup(b"k", Need::since(7), 7), Lookup::Wait(_)), "nothing is sent yet");
    fill.stamp_sent(6);
    assert!(matches!(cache.lookup(b"k", Need::since(6), 8), Lookup::Wait(_)));
    let (mut newer, _waiter) = miss(&cache, b"k", Need::since(7), 8);
    newer.stamp_sent(8);
    assert!(matches!(cache.lookup(b"k", Need::since(8), 9), Lookup::Wait(_)));
    assert!(matches!(cache.lookup(b"k", Need::since(9), 9), Lookup::Held(..)), "two are on their way");
}

#[test]
fn the_deadline_of_a_key_ends_its_entry() {
    let (cache, lease) = (cache(10), Arc::new(Lease::default()));
    let (mut fill, waiter) = miss(&cache, b"k", Need::since(5), 5);
    fill.stamp_sent(5);
    fill.found(b"v", Facts::default(), Keep::Leased { lease: lease.clone(), deadline_ns: Some(50) }, 6);
    assert!(matches!(waiter.try_outcome(), Some(Outcome::Found { stored: Stored::Yes, .. })));
    lease.renew(100);
    assert!(is_hit(&cache.lookup(b"k", Need::since(49), 49)));
    let (fill, waiter) = miss(&cache, b"k", Need::since(50), 50);
    fill.found(b"v", Facts::default(), Keep::Leased { lease, deadline_ns: Some(50) }, 51);
    assert!(matches!(waiter.try_outcome(), Some(Outcome::Found { stored: Stored::No, .. })));
    assert!(cache.peek(b"k", 51).is_none());
}

/// An answer that may not be kept still tells that the entry held is out of date.
#[test]
fn an_answer_that_nothing_proves_is_not_kept_and_takes_the_old_entry_with_it() {
    let (cache, lease) = (cache(10), Arc::new(Lease::default()));
    put(&cache, b"k", &lease, 5);
    let (mut fill, waiter) = miss(&cache, b"k", Need::since(6), 6);
    fill.stamp_sent(6);
    fill.found(b"new", Facts::default(), Keep::Not, 7);
    assert!(matches!(waiter.try_outcome(), Some(Outcome::Found { stored: Stored::No, .. })));
    assert!(cache.peek(b"k", 7).is_none());
    assert_eq!(cache.stats(7).unkept_unproven, 1);
}

#[test]
fn a_refetch_is_registered_once_and_replaces_what_is_held() {
    let (cache, lease) = (cache(10), Arc::new(Lease::default()));
    put(&cache, b"k", &lease, 5);
    let held = cache.peek(b"k", 6).expect("held");
    let mut fill = cache.refetch(&held, 6).expect("none in flight");
    assert!(cache.refetch(&held, 7).is_none());
    assert!(is_hit(&cache.lookup(b"k", Need::since(5), 7)), "served meanwhile");
    let before = cache.peek(b"k", 7).expect("held");
    assert!(cache.still_holds(&before, 7));
    fill.stamp_sent(7);
    fill.found(b"new", Facts::default(), leased(&lease), 8);
    assert_eq!(cache.peek(b"k", 8).expect("held").value(), b"new");
    assert!(!cache.still_holds(&before, 8));
}

#[test]
fn a_key_without_a_value_is_held_while_its_lease_proves_it_and_never_for_its_age() {
    let (cache, lease) = (cache(10), Arc::new(Lease::default()));
    let (fill, _waiter) = miss(&cache, b"k", Need::since(1), 1);
    fill.missing(Keep::ForItsAge, 1);
    let (fill, waiter) = miss(&cache, b"k", Need::since(2), 2);
    fill.missing(leased(&lease), 2);
    assert!(matches!(waiter.try_outcome(), Some(Outcome::Missing { stored: Stored::Yes })));
    lease.renew(2);
    match cache.lookup(b"k", Need::since(2), 3) {
        Lookup::Hit(entry) => assert!(entry.is_missing() && entry.value().is_empty()),
        other => panic!("{other:?}"),
    }
    assert!(cache.invalidate(b"k"));
    assert_eq!((cache.stats(3).negatives, cache.stats(3).entries), (0, 0));
}

#[test]
fn keys_without_a_value_are_a_tenth_at_most_and_the_oldest_of_them_leaves() {
    for capacity in [100, 10_000] {
        let (cache, lease) = (cache(capacity), Arc::new(Lease::default()));
        let most = capacity as u64 / 10;
        put(&cache, b"value", &lease, 1);
        let number = |key: u64| key.to_be_bytes();
        for key in 2..=most + 2 {
            let (mut fill, _waiter) = miss(&cache, &number(key), Need::since(key), key);
            fill.stamp_sent(key);
            fill.missing(leased(&lease), key);
            assert!(cache.stats(key).negatives <= most);
        }
        lease.renew(SECOND);
        let now = SECOND;
        assert!(cache.peek(&number(2), now).is_none(), "the oldest has left");
        assert!(
            (3..=most + 2).all(|key| cache.peek(&number(key), now).is_some_and(|held| held.is_missing()))
        );
        assert!(cache.peek(b"value", now).is_some());
        // Their places are found void when they have left in another way.
        assert!((3..most).all(|key| cache.invalidate(&number(key))));
        for key in most + 3..3 * most {
            let (mut fill, _waiter) = miss(&cache, &number(key), Need::since(key), key);
            fill.stamp_sent(key);
            fill.missing(leased(&lease), key);
        }
        assert_eq!(cache.stats(now).negatives, most);
        assert!((2 * most..3 * most).all(|key| cache.peek(&number(key), now).is_some()));
    }
}

#[test]
fn what_was_used_since_an_instant_is_told_without_being_a_use() {
    let (cache, lease) = (cache(100), Arc::new(Lease::default()));
    (1..=5).for_each(|key: u8| put(&cache, &[key], &lease, key.into()));
    assert!(is_hit(&cache.lookup(&[2], Need::since(1), 9)));
    let keys = |since, most| {
        let used = cache.used_since(since, most, 10, |_| true);
        used.iter().map(|entry| entry.key()[0]).collect::<Vec<_>>()
    };
    assert_eq!(keys(4, 10), [2, 5, 4]);
    assert_eq!(keys(4, 2), [2, 5]);
    assert_eq!(keys(10, 10), []);
    // Whichever answer about a key is wanted, and keys without one are passed over.
    let view = View { partition: Partition::OWN.leased(), question: b"TYPE" };
    let other = Arc::new(Lease::default());
    let Lookup::Miss(fill, _) = cache.lookup_view(&[5], view, |_| false, Need::NOTHING, 6) else {
        panic!("a miss")
    };
    fill.replied(b"+string", Keep::Leased { lease: other.clone(), deadline_ns: None }, 6);
    let is_of = |lease: &Arc<Lease>| {
        let lease = lease.clone();
        let used =
            cache.used_since(1, 10, 10, move |entry| entry.lease().is_some_and(|of| Arc::ptr_eq(of, &lease)));
        used.iter().map(|entry| entry.key()[0]).collect::<Vec<_>>()
    };
    assert_eq!((is_of(&other), is_of(&lease).len()), (vec![5], 5));
}

/// The leases of a link, of a watch, of a slot that it watches, and of what the link brings of that slot.
fn of_a_slot() -> [Arc<Lease>; 4] {
    let ends = Ends::default();
    let (link, watch) = (Arc::new(Lease::counted(&ends)), Arc::new(Lease::counted(&ends)));
    let slot = Arc::new(Lease::under([watch.clone()]));
    let both = Arc::new(Lease::under([link.clone(), slot.clone()]));
    [link, watch, slot, both]
}

#[test]
fn a_lease_under_others_proves_what_all_of_them_prove_until_one_has_ended() {
    let [link, watch, slot, both] = of_a_slot();
    assert_eq!(both.sync_ns(), 0);
    link.renew(7);
    assert_eq!(both.sync_ns(), 0, "nobody vouches for the slot");
    watch.renew(5);
    assert_eq!((both.sync_ns(), slot.sync_ns()), (5, 5));
    watch.renew(9);
    assert_eq!(both.sync_ns(), 7);
    // A lost connection takes nothing away that was proven.
    link.end();
    assert_eq!((both.sync_ns(), both.is_live(), slot.is_live()), (7, false, true));
    // The slot has gone, and whatever is said of others proves nothing of it.
    slot.end();
    watch.renew(11);
    assert_eq!((both.sync_ns(), slot.sync_ns(), watch.sync_ns()), (0, 0, 11));
    assert!(both.is_under(&link) && both.is_under(&slot) && both.is_under(&watch) && !slot.is_under(&link));
}

#[test]
fn what_a_lease_remembers_is_over_with_whatever_it_stands_under() {
    type Ending = fn([Arc<Lease>; 4]);
    let slot: Ending = |[_, _, slot, _]| slot.end();
    let itself: Ending = |[.., both]| both.end();
    let link: Ending = |[link, ..]| link.revoke();
    let watch: Ending = |[_, watch, ..]| watch.revoke();
    for ending in [slot, itself, link, watch] {
        let all @ [link, watch, _, both] = &of_a_slot();
        assert!(!both.proves(1));
        link.renew(7);
        watch.renew(5);
        assert!(both.proves(5) && !both.proves(6), "as the parents say now");
        watch.renew(9);
        assert!(both.proves(5) && both.proves(7) && !both.proves(8) && both.is_live());
        ending(all.clone());
        assert!(!both.proves(1) && !both.is_live() && both.sync_ns() == 0);
    }
    let [link, watch, slot, both] = of_a_slot();
    link.renew(7);
    watch.renew(7);
    assert!(both.proves(7));
    // A lost connection takes nothing away that was proven, nor does the end of another slot.
    link.end();
    assert!(both.proves(7) && !both.is_live() && slot.is_live());
}

#[test]
fn that_there_is_no_key_is_proven_once_under_the_lease_of_a_slot() {
    let (cache, [link, watch, _slot, both]) = (cache(10), of_a_slot());
    let (mut fill, _waiter) = miss(&cache, b"none", Need::since(5), 5);
    fill.stamp_sent(5);
    fill.missing(leased(&both), 5);
    put(&cache, b"k", &Arc::new(Lease::default()), 5);
    let (mut fill, _waiter) = miss(&cache, b"some", Need::since(5), 5);
    fill.stamp_sent(5);
    fill.found(b"v", Facts::default(), leased(&both), 5);
    link.renew(9);
    watch.renew(8);
    assert!(is_hit(&cache.lookup(b"some", Need::since(8), 9)));
    assert!(is_hit(&cache.lookup(b"none", Need::since(5), 9)), "as of its fetch");
    drop(miss(&cache, b"none", Need::since(6), 9));
}
