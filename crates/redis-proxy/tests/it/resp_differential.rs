//! The proxy in front of one Redis against another Redis: do the same bytes come back?
//!
//! Where they do not, `explain` says why that is meant; `docs/resp.md` says it to users.

use memchr::memmem;
use testkit::RedisServer;
use testkit::differential::{Side, compare};

use crate::support::start_resp;

/// From so many cases on, a reason that explained nothing is one that is no longer needed.
const MANY: usize = 200_000;

const BROWSER: &str = "Redis drops the answers before POST and Host: that it has not sent yet";
const PENDING: &str = "SYNC comes to a connection of its own, on which Redis has nothing to send";
const NAME: &str =
    "behind a blocking command, a client that has shut its side speaks to Redis, which knows it by our name";
const HALF: &str = "Redis 7.0 logs in by HELLO AUTH before it finds a mistake behind it";
/// One in a million cases: too few to be missed.
const ORDER: &str = "a long value makes a hash a table, in which each server has an order of its own";
/// As few.
const SUBCOMMAND: &str = "Redis compares a subcommand up to a NUL and hashes all of it, by a seed of each server: one may find what the other does not";
/// As few: a request that is broken into one of an id.
const CLIENTS: &str = "each server has clients of its own, so that a number may be the id of one at this one and of nobody at that";
const REASONS: [&str; 4] = [BROWSER, PENDING, NAME, HALF];

#[test]
fn the_proxy_answers_as_redis_does() {
    let cases = std::env::var("FUZZ_CASES").map_or(20_000, |cases| cases.parse().expect("a number"));
    run(&[("RESP_COHERENCE", "off")], cases);
}

/// Both servers are emptied between cases, behind the proxy: so reads are strict.
#[test]
fn the_proxy_answers_as_redis_does_from_its_cache() {
    let cases = std::env::var("FUZZ_CASES").map_or(5_000, |cases| cases.parse().expect("a number"));
    run(&[("RESP_COHERENCE", "strict")], cases);
}

fn run(settings: &[(&str, &str)], cases: usize) {
    // Redis has no limit of its own there.
    let (behind, proxy) = start_resp(&[&[("RESP_MAX_ARGUMENTS", "2147483647")], settings].concat());
    let redis = RedisServer::start();
    let seed = testkit::seed();
    let direct = Side { address: redis.address(), redis: &redis };
    let through = Side { address: proxy.resp_address(), redis: &behind };
    let found = compare([direct, through], seed, cases, explain);
    println!("SEED={seed}, {} cases, {} to the end: {:#?}", found.cases, found.in_step, found.explained);
    assert!(found.unexplained.is_empty(), "SEED={seed}: {:#?}", found.unexplained);
    assert_eq!(found.cases, cases);
    for reason in REASONS.iter().filter(|_| cases >= MANY) {
        assert!(found.explained.contains_key(reason), "explains nothing: {reason}");
    }
}

/// Differences without a reason, in so many random cases.
pub(crate) fn differences(sides: [Side<'_>; 2], cases: usize) -> Vec<[String; 3]> {
    compare(sides, testkit::seed(), cases, explain).unexplained
}

/// Why the proxy answers `found` and not `expected`, as Redis does.
fn explain(case: &[u8], expected: &[u8], found: &[u8]) -> Option<&'static str> {
    let is_browser = mentions(case, b"post") || mentions(case, b"host:");
    if is_browser && found.starts_with(expected) && !found.ends_with(b"sentinel\r\n") {
        return Some(BROWSER);
    }
    if memmem::find(expected, b"SYNC and PSYNC are invalid with pending output").is_some() {
        return Some(PENDING);
    }
    let sorted = |answer: &[u8]| {
        let mut lines: Vec<_> = answer.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        lines.sort_unstable();
        lines
    };
    if (mentions(case, b"hvals") || mentions(case, b"hgetall")) && sorted(expected) == sorted(found) {
        return Some(ORDER);
    }
    if mentions(case, b"\0") && is_subcommand_of_one(expected, found) {
        return Some(SUBCOMMAND);
    }
    if mentions(case, b"kill") && is_a_count(expected, found) {
        return Some(CLIENTS);
    }
    if is_half_a_hello(expected, found) {
        return Some(HALF);
    }
    let names = [&b"$-1\r\n"[..], b"_\r\n", b"$2\r\nme\r\n", b"$1\r\nn\r\n"];
    names.into_iter().any(|name| replace(found, b"$11\r\nredis-proxy\r\n", name) == expected).then_some(NAME)
}

/// Whether what differs is which of two mistakes in a HELLO is named.
fn is_half_a_hello(expected: &[u8], found: &[u8]) -> bool {
    let mut differing = expected.split(|byte| *byte == b'\n').zip(found.split(|byte| *byte == b'\n'));
    let lines = |text: &[u8]| text.iter().filter(|byte| **byte == b'\n').count();
    let named = |text: &[u8]| {
        text.starts_with(b"-ERR Syntax error in HELLO option")
            || text.starts_with(b"-ERR Client names cannot")
    };
    lines(expected) == lines(found)
        && differing.all(|(one, other)| one == other || one.starts_with(b"-WRONGPASS") && named(other))
}

/// Whether what differs is one line, of whether there was one or none.
fn is_a_count(expected: &[u8], found: &[u8]) -> bool {
    let lines = |text: &[u8]| text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
    let (expected, found) = (lines(expected), lines(found));
    let differing: Vec<_> = expected.iter().zip(&found).filter(|(one, other)| one != other).collect();
    let is_count = |line: &[u8]| line == b":0\r" || line == b":1\r";
    expected.len() == found.len()
        && matches!(differing[..], [(one, other)] if is_count(one) && is_count(other))
}

/// Whether what differs is that one of them knows a subcommand and the other does not.
fn is_subcommand_of_one(expected: &[u8], found: &[u8]) -> bool {
    let lines = |text: &[u8]| text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
    let (expected, found) = (lines(expected), lines(found));
    let is_unknown = |line: &[u8]| line.starts_with(b"-ERR unknown subcommand '");
    let mut pairs = expected.iter().zip(&found);
    if expected.len() == found.len() {
        return pairs.all(|(one, other)| one == other || is_unknown(one) != is_unknown(other));
    }
    // What it knows takes several lines: what stands behind it is the same.
    let ends_alike = |short: &[Vec<u8>], long: &[Vec<u8>], at: usize| {
        is_unknown(&short[at]) && long.ends_with(&short[at + 1..])
    };
    let at = pairs.take_while(|(one, other)| one == other).count();
    match (expected.get(at), found.get(at)) {
        (Some(one), Some(_)) if is_unknown(one) => ends_alike(&expected, &found, at),
        (Some(_), Some(_)) => ends_alike(&found, &expected, at),
        _ => false,
    }
}

/// Whether a case has this word, in lower case, in any way to write it.
fn mentions(case: &[u8], word: &[u8]) -> bool {
    let mut plain = Vec::new();
    let mut rest = case;
    while let [byte, after @ ..] = rest {
        let digits = rest.strip_prefix(b"\\x").and_then(|rest| std::str::from_utf8(rest.get(..2)?).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        plain.push(escaped.unwrap_or(*byte).to_ascii_lowercase());
        rest = if escaped.is_some() { &rest[4..] } else { after };
    }
    memmem::find(&plain, word).is_some()
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::new();
    let mut rest = text;
    while let Some(at) = memmem::find(rest, from) {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}
