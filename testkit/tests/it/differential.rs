//! The judge of two servers: blind to what may differ, and to nothing else.

use testkit::differential::{Side, compare};
use testkit::{RedisServer, seed};

#[test]
fn two_servers_that_are_alike_do_not_differ() {
    let (one, other) = (RedisServer::start(), RedisServer::start());
    let seed = seed();
    println!("SEED={seed}");
    let cases = std::env::var("FUZZ_CASES").map_or(2000, |cases| cases.parse().expect("a number"));
    let sides = [&one, &other].map(|redis| Side { address: redis.address(), redis });
    let found = compare(sides, seed, cases, |_, _, _| None);
    assert!(found.unexplained.is_empty(), "SEED={seed}: {:#?}", found.unexplained);
    assert_eq!(found.cases, cases);
    assert!(found.in_step * 10 > cases * 3, "few cases were in step to the end: {}", found.in_step);
    assert!(found.in_step * 10 < cases * 9, "few cases broke the connection: {}", found.in_step);
}

#[test]
fn a_server_that_differs_in_one_setting_is_found_out_and_the_case_made_small() {
    let (one, other) =
        (RedisServer::start(), RedisServer::builder().config("proto-max-bulk-len", "1048576").start());
    let sides = [&one, &other].map(|redis| Side { address: redis.address(), redis });
    let found = compare(sides, 7, 20_000, |_, _, _| None);
    let [case, one, other] = found.unexplained.first().expect("a length over the limit");
    assert!(
        case.len() < 30 && one.is_empty() && other.contains("invalid bulk length"),
        "{:#?}",
        found.unexplained
    );
    let explained = compare(sides, 7, found.cases, |_, _, other| {
        memchr::memmem::find(other, b"invalid bulk length").map(|_| "the limit")
    });
    assert!(explained.unexplained.is_empty() && explained.explained["the limit"] > 0, "{explained:#?}");
}
