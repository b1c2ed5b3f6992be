//! Black-box tests of a running stack: the proxy over HTTP, its Redis driven directly where a state is needed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::{HttpClient, RedisClient, Reply, wait_until};

/// For the stack to be up: a container may still be starting.
const START: Duration = Duration::from_secs(60);

/// A stack that runs, which nobody else uses meanwhile.
#[derive(Clone, Debug)]
pub struct Stack {
    /// `host:port` of the data port, and the name that it is asked by.
    pub proxy: String,
    /// `host:port` of its Redis.
    pub redis: String,
    /// What the proxy runs with.
    pub capacity: usize,
    /// The same.
    pub expiry: Duration,
}

impl Stack {
    /// Waits until it is up, and runs all tests, a line each on standard output. How many have failed.
    ///
    /// # Panics
    /// It is not up within a minute.
    pub fn test(&self) -> usize {
        let up = |address: &str| std::net::TcpStream::connect(address).is_ok();
        wait_until(START, "the stack to be up", || up(&self.proxy) && up(&self.redis));
        wait_until(START, "a first answer", || self.http().get("/first").status == 404);
        let mut failed = 0;
        for (name, test) in TESTS {
            // From a state that no earlier test left behind, but for what the cache still holds.
            self.redis().flushall();
            let passed = catch_unwind(AssertUnwindSafe(|| test(self))).is_ok();
            println!("{} {name}", if passed { "ok    " } else { "FAILED" });
            failed += usize::from(!passed);
        }
        println!("{} passed, {failed} failed", TESTS.len() - failed);
        failed
    }

    fn http(&self) -> HttpClient {
        // It may be that no other name is allowed.
        HttpClient::connect(&*self.proxy).calling_it(&self.proxy)
    }

    fn redis(&self) -> RedisClient {
        RedisClient::connect(&*self.redis)
    }

    fn gets(&self) -> u64 {
        let Reply::Bulk(info) = self.redis().command(&["INFO", "commandstats"]) else {
            panic!("INFO is a string");
        };
        let info = String::from_utf8_lossy(&info);
        let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_get:calls="));
        line.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0)
    }
}

type Test = (&'static str, fn(&Stack));

const TESTS: &[Test] = &[
    (
        "a key is 404 until it is set, and then its exact bytes",
        a_key_is_404_until_it_is_set_and_then_its_exact_bytes,
    ),
    ("every byte can be in a key", every_byte_can_be_in_a_key),
    (
        "the old value until expiry, and the new one on the first read after",
        the_old_value_until_expiry_and_the_new_one_on_the_first_read_after,
    ),
    ("a miss costs one GET and a hit none", a_miss_costs_one_get_and_a_hit_none),
    ("the least recently used key leaves at capacity", the_least_recently_used_key_leaves_at_capacity),
    (
        "what is not a read of a string gets a definite answer",
        what_is_not_a_read_of_a_string_gets_a_definite_answer,
    ),
];

fn a_key_is_404_until_it_is_set_and_then_its_exact_bytes(stack: &Stack) {
    let mut http = stack.http();
    let missing = http.get("/bytes");
    assert_eq!((missing.status, missing.text()), (404, "key not found"));
    let value: Vec<u8> = (0..=255).collect();
    stack.redis().set("bytes", &value);
    let found = http.get("/bytes");
    assert_eq!((found.status, found.body), (200, value));
}

fn every_byte_can_be_in_a_key(stack: &Stack) {
    let key: Vec<u8> = (0..=255).collect();
    stack.redis().set(&key, "all of them");
    assert_eq!(stack.http().get_key(&key).text(), "all of them");
}

fn the_old_value_until_expiry_and_the_new_one_on_the_first_read_after(stack: &Stack) {
    let mut http = stack.http();
    stack.redis().set("aging", "old");
    let asked = Instant::now();
    assert_eq!(http.get("/aging").text(), "old");
    stack.redis().set("aging", "new");
    let again = http.get("/aging");
    if asked.elapsed() < stack.expiry {
        assert_eq!(again.text(), "old");
    }
    std::thread::sleep(stack.expiry.saturating_sub(asked.elapsed()) + Duration::from_millis(50));
    assert_eq!(http.get("/aging").text(), "new");
}

fn a_miss_costs_one_get_and_a_hit_none(stack: &Stack) {
    let mut http = stack.http();
    stack.redis().set("counted", "v");
    let before = stack.gets();
    let asked = Instant::now();
    assert!(
        http.get("/counted").header("cache-status").is_some_and(|status| status.contains("fwd=uri-miss"))
    );
    for _ in 0..20 {
        assert_eq!(http.get("/counted").text(), "v");
    }
    assert!(asked.elapsed() < stack.expiry, "too slow to tell");
    assert_eq!(stack.gets() - before, 1);
}

fn the_least_recently_used_key_leaves_at_capacity(stack: &Stack) {
    // A cache of another size needs another test: filling millions of keys tells nothing new.
    assert!(stack.capacity <= 1_000, "run the stack with a CAPACITY up to 1000");
    let (mut http, mut redis) = (stack.http(), stack.redis());
    for number in 0..=stack.capacity {
        redis.set(format!("lru:{number}"), "v");
    }
    let asked = Instant::now();
    let mut is_hit = |number: usize| {
        let answer = http.get(&format!("/lru:{number}"));
        assert_eq!(answer.status, 200);
        answer.header("cache-status") == Some("redis-proxy; hit")
    };
    (0..stack.capacity).for_each(|number| assert!(!is_hit(number), "{number} was there before"));
    assert!(is_hit(0), "the first is still held, and is now the last used");
    assert!(!is_hit(stack.capacity), "one more than it holds");
    assert!(is_hit(0), "used again, so not the one that left");
    assert!(!is_hit(1), "the least recently used one left");
    assert!(asked.elapsed() < stack.expiry, "too slow to tell");
}

fn what_is_not_a_read_of_a_string_gets_a_definite_answer(stack: &Stack) {
    let mut http = stack.http();
    assert_eq!(http.request("POST", "/any", &[]).status, 405);
    assert_eq!(http.get("/%zz").status, 400);
    assert_eq!(http.get("/").status, 404);
    stack.redis().command(&["DEL", "list"]);
    stack.redis().command(&["RPUSH", "list", "item"]);
    let wrong = http.get("/list");
    assert_eq!(wrong.status, 409);
    assert!(wrong.text().starts_with("WRONGTYPE"), "{}", wrong.text());
    stack.redis().set("asked by head", "0123456789");
    let head = http.head("/asked%20by%20head");
    assert_eq!((head.status, head.header("content-length")), (200, Some("10")));
}
