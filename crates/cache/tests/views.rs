//! Several answers about one key: apart for their readers, one for order, expiry and invalidation.

use std::sync::Arc;
use std::time::Duration;

use cache::{
    Cache, Cleared, Cursor, Entry, Facts, Keep, Lease, Limits, Lookup, Need, Outcome, Partition, Stored, View,
};

const VALUE: View<'_> = View::VALUE;

fn cache(capacity: usize) -> Cache<()> {
    Cache::new(Limits {
        capacity,
        capacity_bytes: None,
        expiry: Duration::from_secs(10),
        max_value_bytes: 100,
        shards: Some(1),
    })
}

fn view(partition: usize, question: &[u8]) -> View<'_> {
    View { partition: Partition::new(partition).expect("below 64"), question }
}

fn find(cache: &Cache<()>, key: &[u8], view: View<'_>, now_ns: u64) -> Lookup<()> {
    cache.lookup_view(key, view, |_| false, Need::NOTHING, now_ns)
}

fn put(cache: &Cache<()>, key: &[u8], view: View<'_>, answer: &[u8], now_ns: u64) {
    let Lookup::Miss(mut fill, _) = find(cache, key, view, now_ns) else { panic!("expected a miss") };
    assert_eq!(fill.view(), view);
    fill.stamp_sent(now_ns);
    match view.question {
        b"" => fill.found(answer, Facts::default(), Keep::ForItsAge, now_ns),
        _ => fill.replied(answer, Keep::ForItsAge, now_ns),
    }
}

fn held(cache: &Cache<()>, key: &[u8], view: View<'_>, now_ns: u64) -> Option<Vec<u8>> {
    cache.peek_view(key, view, now_ns).map(|entry| entry.value().to_vec())
}

#[test]
fn each_view_has_its_own_answer_and_the_key_is_one() {
    let cache = cache(2);
    let views = [VALUE, view(0, b"HGETALL"), view(1, b""), view(1, b"HGETALL"), view(63, b"")];
    for (at, view) in views.iter().enumerate() {
        put(&cache, b"k", *view, format!("answer {at}").as_bytes(), 1);
    }
    for (at, view) in views.iter().enumerate() {
        let Lookup::Hit(entry) = find(&cache, b"k", *view, 2) else { panic!("a hit") };
        assert_eq!((entry.value(), entry.view()), (format!("answer {at}").as_bytes(), *view));
    }
    let stats = cache.stats(2);
    assert_eq!((stats.entries, stats.others), (1, 4));
    assert!(cache.invalidate(b"k"));
    let stats = cache.stats(3);
    assert_eq!((stats.entries, stats.others, stats.others_left, stats.invalidations), (0, 0, 4, 1));
    assert!(views.iter().all(|view| held(&cache, b"k", *view, 3).is_none()));
}

#[test]
fn a_key_is_evicted_with_all_that_is_known_of_it() {
    let cache = cache(2);
    for key in [b"a", b"b"] {
        put(&cache, key, VALUE, b"value", 1);
        put(&cache, key, view(0, b"STRLEN"), b":5\r\n", 1);
    }
    // A use of either answer is a use of the key.
    assert!(matches!(find(&cache, b"a", view(0, b"STRLEN"), 2), Lookup::Hit(_)));
    put(&cache, b"c", VALUE, b"value", 3);
    assert_eq!(held(&cache, b"b", VALUE, 3).or(held(&cache, b"b", view(0, b"STRLEN"), 3)), None);
    assert!(held(&cache, b"a", view(0, b"STRLEN"), 3).is_some());
    let stats = cache.stats(3);
    assert_eq!((stats.entries, stats.others, stats.evictions), (2, 1, 1));
}

#[test]
fn a_key_has_at_most_sixteen_answers_and_the_one_fetched_longest_ago_makes_room() {
    let cache = cache(2);
    let questions: Vec<Vec<u8>> = (0..20).map(|number| format!("LINDEX {number}").into_bytes()).collect();
    for (at, question) in questions.iter().enumerate() {
        put(&cache, b"k", view(0, question), b"$-1\r\n", at as u64);
    }
    let kept: Vec<usize> =
        (0..20).filter(|at| held(&cache, b"k", view(0, &questions[*at]), 20).is_some()).collect();
    assert_eq!(kept, [0].into_iter().chain(5..20).collect::<Vec<_>>());
    let bytes = cache.stats(20).accounted_bytes;
    assert!(cache.invalidate(b"k"));
    assert!(bytes - cache.stats(20).accounted_bytes > 16 * 100, "all of them were charged");
}

#[test]
fn an_answer_that_will_do_is_taken_from_the_same_partition_and_the_exact_one_first() {
    let cache = cache(2);
    put(&cache, b"k", VALUE, b"value", 1);
    let is_value = |entry: &Entry| entry.view().question.is_empty();
    let find = |view| cache.lookup_view(b"k", view, is_value, Need::NOTHING, 2);
    let Lookup::Hit(entry) = find(view(0, b"STRLEN")) else { panic!("a hit") };
    assert_eq!(entry.value(), b"value");
    let Lookup::Miss(fill, _) = find(view(1, b"STRLEN")) else { panic!("not from another partition") };
    fill.replied(b":7\r\n", Keep::ForItsAge, 3);
    put(&cache, b"k", view(0, b"STRLEN"), b":5\r\n", 3);
    let Lookup::Hit(entry) = find(view(0, b"STRLEN")) else { panic!("a hit") };
    assert_eq!(entry.value(), b":5\r\n");
}

#[test]
fn fills_are_joined_by_view_and_unregistered_by_key() {
    let cache = cache(2);
    let Lookup::Miss(value, _) = find(&cache, b"k", VALUE, 1) else { panic!("a miss") };
    let Lookup::Miss(reply, waiter) = find(&cache, b"k", view(0, b"TYPE"), 1) else { panic!("a miss") };
    assert!(matches!(find(&cache, b"k", view(0, b"TYPE"), 1), Lookup::Wait(_)));
    assert!(!cache.invalidate(b"k"));
    value.found(b"v", Facts::default(), Keep::ForItsAge, 2);
    reply.replied(b"+string\r\n", Keep::ForItsAge, 2);
    let Some(Outcome::Found { entry, stored: Stored::Overtaken }) = waiter.try_outcome() else {
        panic!("unkept")
    };
    assert_eq!(entry.value(), b"+string\r\n");
    assert_eq!(cache.stats(3).entries, 0);
}

#[test]
fn all_answers_about_a_key_die_with_the_first() {
    let cache = cache(2);
    put(&cache, b"k", VALUE, b"value", 0);
    put(&cache, b"k", view(0, b"TYPE"), b"+string\r\n", 5_000_000_000);
    assert!(held(&cache, b"k", view(0, b"TYPE"), 9_999_999_999).is_some());
    assert!(held(&cache, b"k", view(0, b"TYPE"), 10_000_000_000).is_none());
    put(&cache, b"k", view(0, b"TYPE"), b"+list\r\n", 10_000_000_000);
    let stats = cache.stats(10_000_000_000);
    assert_eq!((stats.entries, stats.others, stats.expiries), (1, 0, 1));
}

#[test]
fn an_answer_that_cannot_be_kept_takes_the_older_one_of_its_view_along() {
    let cache = cache(2);
    let large = [b'x'; 101];
    put(&cache, b"k", VALUE, b"value", 1);
    put(&cache, b"k", view(0, b"GETRANGE"), b"$1\r\nv\r\n", 1);
    let since = |view| cache.lookup_view(b"k", view, |_| false, Need::since(2), 2);
    let Lookup::Miss(fill, _) = since(view(0, b"GETRANGE")) else { panic!("a miss") };
    fill.replied(&large, Keep::ForItsAge, 3);
    assert!(held(&cache, b"k", view(0, b"GETRANGE"), 3).is_none());
    assert_eq!(held(&cache, b"k", VALUE, 3).as_deref(), Some(&b"value"[..]));
    let Lookup::Miss(fill, _) = since(VALUE) else { panic!("a miss") };
    fill.found(&large, Facts::default(), Keep::ForItsAge, 3);
    assert_eq!(cache.stats(3).entries, 0);
}

#[test]
fn that_a_key_does_not_exist_is_kept_in_place_of_a_reply() {
    let (cache, lease) = (cache(10), Arc::new(Lease::default()));
    lease.renew(9);
    let Lookup::Miss(mut fill, waiter) = find(&cache, b"k", view(0, b"HGETALL"), 1) else { panic!("a miss") };
    fill.stamp_sent(1);
    fill.replied_missing(b"%0\r\n", Keep::Leased { lease, deadline_ns: None }, 2);
    let Some(Outcome::Found { entry, stored: Stored::Yes }) = waiter.try_outcome() else { panic!("kept") };
    assert_eq!(entry.value(), b"%0\r\n");
    assert!(cache.peek(b"k", 3).expect("held").is_missing());
    assert_eq!(cache.stats(3).negatives, 1);
}

#[test]
fn what_came_by_a_later_connection_stands_beside_nothing_of_an_earlier_one() {
    let cache = cache(2);
    let leases = [(); 3].map(|()| Arc::new(Lease::default()));
    leases.iter().for_each(|lease| lease.renew(1));
    let put = |view: View<'_>, lease: &Arc<Lease>, at: u64| {
        let Lookup::Miss(mut fill, _) = find(&cache, b"k", view, at) else { panic!("a miss") };
        fill.stamp_sent(at);
        let keep = Keep::Leased { lease: lease.clone(), deadline_ns: None };
        match view.question {
            b"" => fill.found(b"v", Facts::default(), keep, at),
            _ => fill.replied(b"r", keep, at),
        }
    };
    let (whole, field, other) = (view(0, b"HGETALL"), view(0, b"HGET"), view(1, b"HGETALL"));
    let which = || [VALUE, whole, field, other].map(|view| held(&cache, b"k", view, 9).is_some());
    put(whole, &leases[0], 1);
    put(field, &leases[0], 2);
    // Another reader's, by a connection of its own.
    put(other, &leases[2], 3);
    assert_eq!(which(), [false, true, true, true]);
    put(VALUE, &leases[1], 4);
    assert_eq!(which(), [true, false, false, true]);
    put(whole, &leases[1], 5);
    assert_eq!(which(), [true, true, false, true]);
    assert_eq!(cache.stats(9).others, 2);
    // The first answer leaves like the others.
    put(field, &leases[0], 6);
    assert_eq!(which(), [false, false, true, true]);
    assert_eq!((cache.stats(9).entries, cache.stats(9).others), (1, 1));
    cache.invalidate(b"k");
    assert_eq!((cache.stats(9).entries, cache.stats(9).others), (0, 0));
}

/// Keeps an answer under a lease, from the deadline of its key on no more.
fn keep(
    cache: &Cache<()>,
    view: View<'_>,
    answer: &[u8],
    lease: &Arc<Lease>,
    deadline_ns: Option<u64>,
    now_ns: u64,
) {
    lease.renew(now_ns);
    let Lookup::Miss(mut fill, _) = find(cache, b"k", view, now_ns) else { panic!("expected a miss") };
    fill.stamp_sent(now_ns);
    let kept = Keep::Leased { lease: lease.clone(), deadline_ns };
    match (view.question, answer) {
        (b"", b"") => fill.missing(kept, now_ns),
        (b"", _) => fill.found(answer, Facts::default(), kept, now_ns),
        _ => fill.replied(answer, kept, now_ns),
    }
}

fn leased(partition: usize, question: &[u8]) -> View<'_> {
    View { partition: Partition::new(partition).expect("below 64").leased(), question }
}

#[test]
fn what_is_held_for_its_age_is_apart_from_what_is_held_under_a_lease() {
    for aging_first in [true, false] {
        let cache = cache(2);
        let put_aging = || put(&cache, b"k", VALUE, b"of its age", 1);
        if aging_first {
            put_aging();
        }
        let lease = Arc::default();
        keep(&cache, leased(0, b""), b"of a lease", &lease, None, 1);
        keep(&cache, leased(1, b"TYPE"), b"string", &lease, None, 1);
        if !aging_first {
            put_aging();
        }
        let of_age = || held(&cache, b"k", VALUE, 2);
        assert_eq!(of_age().as_deref(), Some(&b"of its age"[..]));
        assert_eq!(held(&cache, b"k", leased(0, b""), 2).as_deref(), Some(&b"of a lease"[..]));
        assert_eq!(held(&cache, b"k", leased(1, b"TYPE"), 2).as_deref(), Some(&b"string"[..]));
        assert!(cache.invalidate_leased(b"k"), "something left");
        assert!(!cache.invalidate_leased(b"k"));
        assert!(
            held(&cache, b"k", leased(0, b""), 2).is_none()
                && held(&cache, b"k", leased(1, b"TYPE"), 2).is_none()
        );
        assert_eq!(of_age().as_deref(), Some(&b"of its age"[..]));
        assert!(cache.invalidate(b"k"));
        assert!(of_age().is_none());
        let stats = cache.stats(3);
        assert_eq!((stats.entries, stats.others, stats.others_left), (0, 0, 2));
    }
}

#[test]
fn the_end_of_a_leased_answer_takes_nothing_with_it_that_its_age_holds() {
    let (cache, lease) = (cache(20), Arc::default());
    // Of a key that expires at 5, of one that is missing, and of a connection that is told that all has changed.
    keep(&cache, leased(0, b""), b"short", &lease, Some(5), 1);
    put(&cache, b"k", VALUE, b"long", 1);
    assert_eq!(held(&cache, b"k", VALUE, 6).as_deref(), Some(&b"long"[..]));
    assert!(held(&cache, b"k", leased(0, b""), 6).is_none());
    assert!(cache.invalidate(b"k"));

    keep(&cache, leased(0, b""), b"", &lease, None, 7);
    assert_eq!(cache.stats(7).negatives, 1);
    put(&cache, b"k", VALUE, b"long", 7);
    assert_eq!((cache.stats(7).negatives, cache.stats(7).entries, cache.stats(7).others), (0, 1, 1));
    assert!(cache.invalidate(b"k"));

    keep(&cache, leased(0, b""), b"past", &lease, None, 8);
    put(&cache, b"k", VALUE, b"long", 8);
    let proven = |view| cache.find(b"k", view, |_| false, Need::since(8), 9).is_some();
    assert!(proven(leased(0, b"")) && proven(VALUE));
    lease.revoke();
    assert!(!proven(leased(0, b"")) && proven(VALUE) && !lease.is_live());
    let need = Need::proven_since(8);
    assert!(
        matches!(cache.lookup_view(b"k", leased(0, b""), |_| false, need, 9), Lookup::Miss(..)),
        "no proof to wait for"
    );
}

#[test]
fn an_answer_held_for_its_age_makes_no_room_for_the_17th() {
    let (cache, lease) = (cache(2), Arc::default());
    let questions: Vec<String> = (0..40).map(|number| format!("LRANGE k 0 {number}")).collect();
    for (at, question) in questions.iter().enumerate() {
        if at == 7 {
            put(&cache, b"k", VALUE, b"of its age", 1);
        }
        keep(&cache, leased(0, question.as_bytes()), b"reply", &lease, None, 2 + at as u64);
    }
    assert_eq!(held(&cache, b"k", VALUE, 100).as_deref(), Some(&b"of its age"[..]));
    let is_held = |question: &String| held(&cache, b"k", leased(0, question.as_bytes()), 100).is_some();
    assert_eq!(questions.iter().filter(|question| is_held(question)).count(), 15);
    assert!(questions[25..].iter().all(is_held), "those fetched last");
}

#[test]
fn a_fill_under_a_lease_is_unregistered_alone() {
    let cache = cache(2);
    let Lookup::Miss(aging, of_age) = find(&cache, b"k", VALUE, 1) else { panic!("a miss") };
    let Lookup::Miss(tracked, of_lease) = find(&cache, b"k", leased(0, b""), 1) else {
        panic!("a miss of its own")
    };
    cache.invalidate_leased(b"k");
    aging.found(b"v", Facts::default(), Keep::ForItsAge, 2);
    let keep = Keep::Leased { lease: Arc::default(), deadline_ns: None };
    tracked.found(b"v", Facts::default(), keep, 2);
    assert!(matches!(of_age.try_outcome(), Some(Outcome::Found { stored: Stored::Yes, .. })));
    assert!(matches!(of_lease.try_outcome(), Some(Outcome::Found { stored: Stored::Overtaken, .. })));
}

/// Clears a partition in steps as small as they go, after which nothing of it may be left.
fn clear(cache: &Cache<()>, number: u8) -> Cleared {
    let mut cursor = Cursor::default();
    for _ in 0..10_000 {
        match cache.clear_partition(number, cursor, 1) {
            Cleared::UpTo(next) => cursor = next,
            end => return end,
        }
    }
    panic!("no end");
}

#[test]
fn a_partition_is_cleared_of_all_its_answers_and_of_no_others() {
    let cache = Cache::new(Limits {
        capacity: 2000,
        capacity_bytes: None,
        expiry: Duration::from_secs(10),
        max_value_bytes: 100,
        shards: Some(4),
    });
    let key = |number: usize| format!("k{number}").into_bytes();
    for number in 0..1000 {
        // First, beside, alone, and not at all.
        for partition in [[1, 2], [2, 1], [1, 3], [2, 3]][number % 4] {
            put(&cache, &key(number), view(partition, b""), b"v", 1);
            put(&cache, &key(number), view(partition, b"STRLEN"), b":1", 1);
        }
    }
    let before = cache.stats(2);
    assert_eq!((before.entries, before.others), (1000, 3000));
    // While a fill of it is on its way, it is not over.
    let Lookup::Miss(fill, _) = find(&cache, b"more", view(1, b""), 2) else { panic!("a miss") };
    assert_eq!(clear(&cache, 1), Cleared::FillsLeft);
    drop(fill);
    assert_eq!(clear(&cache, 1), Cleared::All);
    for number in 0..1000 {
        for question in [&b""[..], b"STRLEN"] {
            assert_eq!(held(&cache, &key(number), view(1, question), 2), None, "{number}");
            if number % 4 == 3 || number % 4 == 1 {
                assert!(held(&cache, &key(number), view(2, question), 2).is_some(), "{number}");
            }
        }
    }
    assert_eq!(cache.slots(), 1000);
}
