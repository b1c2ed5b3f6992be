//! Exact LRU, judged by a naive list: over connections that different workers serve, hit or miss must agree at
//! every single read, and so must the GETs that Redis counts.

use std::collections::{BTreeMap, HashMap};

use testkit::{HttpClient, Proxy, RedisServer};

use crate::support::{WORKERS, is_hit, program, random_numbers, set_numbered};

/// The least recently used key leaves when a new one enters: two maps, and nothing clever.
struct Model {
    capacity: usize,
    last_use: HashMap<usize, u64>,
    by_age: BTreeMap<u64, usize>,
    uses: u64,
}

impl Model {
    fn new(capacity: usize) -> Model {
        Model { capacity, last_use: HashMap::new(), by_age: BTreeMap::new(), uses: 0 }
    }

    /// Whether reading `key` is a hit.
    fn read(&mut self, key: usize) -> bool {
        self.uses += 1;
        let before = self.last_use.insert(key, self.uses);
        if let Some(before) = before {
            self.by_age.remove(&before);
        }
        self.by_age.insert(self.uses, key);
        if self.by_age.len() > self.capacity
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.last_use.remove(&oldest);
        }
        before.is_some()
    }
}

fn start(capacity: usize, workers: usize) -> (RedisServer, Proxy, Vec<HttpClient>) {
    let redis = RedisServer::start();
    let proxy = program()
        .redis(&redis)
        .set("CAPACITY", capacity.to_string())
        .set("GLOBAL_EXPIRY", "1h")
        .set("WORKERS", workers.to_string())
        .start();
    // The one with the fewest clients gets the next: neighbours are on different workers.
    let clients = (0..2 * workers).map(|_| proxy.client()).collect();
    (redis, proxy, clients)
}

fn agrees_with_the_model(capacity: usize, keys: usize, reads: usize) {
    workers_agree_with_the_model(WORKERS, capacity, keys, reads);
}

fn workers_agree_with_the_model(workers: usize, capacity: usize, keys: usize, reads: usize) {
    let (redis, proxy, mut clients) = start(capacity, workers);
    set_numbered(&redis, keys);
    redis.reset_stats();
    let mut random = random_numbers();
    let mut model = Model::new(capacity);
    let mut misses = 0;
    for read in 0..reads {
        // A few keys are asked for far more often than the others.
        let key = random(keys).min(random(keys));
        let response = clients[read % (2 * workers)].get(&format!("/{key}"));
        assert_eq!(response.text(), format!("value-of-{key}"));
        let expected = model.read(key);
        assert_eq!(is_hit(&response), expected, "read {read} of key {key} at capacity {capacity}");
        misses += u64::from(!expected);
    }
    assert_eq!(redis.command_calls("get"), misses, "GETs at capacity {capacity}");
    let metrics = proxy.metrics();
    assert_eq!(metrics.value("redis_proxy_entries"), model.by_age.len() as f64);
    assert_eq!(metrics.sum("redis_proxy_evictions_total"), misses as f64 - model.by_age.len() as f64);
}

#[test]
fn capacity_1_holds_the_last_key() {
    agrees_with_the_model(1, 3, 400);
}

#[test]
fn capacity_2_is_exact() {
    agrees_with_the_model(2, 6, 800);
}

#[test]
fn capacity_3_is_exact() {
    agrees_with_the_model(3, 9, 1_200);
}

#[test]
fn capacity_10_is_exact() {
    agrees_with_the_model(10, 30, 2_000);
}

#[test]
fn capacity_1000_is_exact() {
    agrees_with_the_model(1_000, 2_000, 6_000);
}

#[test]
fn capacity_10000_is_exact_over_connections_on_different_workers() {
    agrees_with_the_model(10_000, 16_000, 30_000);
}

/// Each has four shards of its own, however small the cache.
#[test]
fn sixteen_workers_are_exact_at_any_capacity() {
    for (capacity, keys, reads) in [(1, 3, 300), (3, 9, 600), (100, 300, 2_000)] {
        workers_agree_with_the_model(16, capacity, keys, reads);
    }
}

#[test]
fn a_read_refreshes_recency() {
    let (redis, _proxy, mut clients) = start(2, WORKERS);
    set_numbered(&redis, 3);
    for key in [0, 1, 0, 2] {
        clients[key].get(&format!("/{key}"));
    }
    assert!(is_hit(&clients[3].get("/0")), "0 was read after 1, so 1 has left");
    assert!(!is_hit(&clients[3].get("/1")));
}

#[test]
fn head_counts_as_a_use_and_fills() {
    let (redis, _proxy, mut clients) = start(2, WORKERS);
    set_numbered(&redis, 3);
    clients[0].head("/0");
    clients[1].get("/1");
    assert!(is_hit(&clients[2].head("/0")));
    clients[3].get("/2");
    assert!(is_hit(&clients[0].get("/0")));
    assert_eq!(redis.command_calls("get"), 3);
}

#[test]
fn a_missing_key_takes_no_room() {
    let (redis, proxy, mut clients) = start(1, WORKERS);
    set_numbered(&redis, 1);
    clients[0].get("/0");
    assert_eq!(clients[1].get("/absent").status, 404);
    assert!(is_hit(&clients[2].get("/0")));
    assert_eq!(proxy.metrics().value("redis_proxy_entries"), 1.0);
}

#[test]
fn watching_is_no_use() {
    let (redis, proxy, mut clients) = start(2, WORKERS);
    set_numbered(&redis, 3);
    clients[0].get("/0");
    clients[0].get("/1");
    for path in ["/metrics", "/readyz", "/livez"] {
        assert_eq!(HttpClient::connect(proxy.admin_address()).get(path).status, 200);
    }
    clients[0].get("/2");
    assert!(!is_hit(&clients[0].get("/0")));
}
