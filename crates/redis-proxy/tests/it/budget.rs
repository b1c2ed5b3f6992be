//! CAPACITY_BYTES: the resident size of the whole program, while the sizes of values shift.

use std::time::Duration;

use testkit::{HttpClient, Proxy, RedisServer, wait_until};

use crate::support::program;

const BUDGET: u64 = 32 * 1024 * 1024;
/// Requests on their way at once.
const BATCH: usize = 16;

/// Reads `count` keys of `size` bytes each, and returns the largest resident size met.
fn walk(proxy: &Proxy, client: &mut HttpClient, size: usize, count: usize) -> u64 {
    let mut most = 0;
    for first in (0..count).step_by(BATCH) {
        let numbers = first..count.min(first + BATCH);
        let requests: String = numbers
            .clone()
            .map(|number| format!("GET /{size}:{number} HTTP/1.1\r\nHost: h\r\n\r\n"))
            .collect();
        client.send(requests);
        for _ in numbers {
            assert_eq!(client.read_response().body.len(), size);
        }
        if first % (BATCH * 8) == 0 || size > 10_000 {
            most = most.max(proxy.resident_bytes());
        }
    }
    most
}

#[test]
fn the_resident_size_keeps_to_the_budget_while_value_sizes_shift() {
    let redis = RedisServer::start();
    let bytes = BUDGET.to_string();
    let proxy = program().redis(&redis).set("CAPACITY_BYTES", &bytes).set("CAPACITY", "10000000").start();
    let mut client = proxy.client();
    client.get("/nothing");
    let baseline = proxy.resident_bytes();
    let mut held = 0.0;
    for size in [500, 8_000, 100_000, 1_500, 300_000] {
        let count = usize::try_from(BUDGET).expect("it fits") * 3 / 2 / (size + 100);
        let fill =
            format!("for i = 0, {count} do redis.call('SET', '{size}:' .. i, string.rep('v', {size})) end");
        redis.client().flushall();
        redis.client().command(&["EVAL", &fill, "0"]);
        let most = walk(&proxy, &mut client, size, count);
        let share = most.saturating_sub(baseline) as f64 / BUDGET as f64;
        eprintln!("values of {size} bytes: at most {share:.3} of the budget above the baseline");
        assert!(share <= 1.10, "{share:.3} with {size} bytes");
        held = proxy.metrics().value("redis_proxy_accounted_bytes");
    }
    assert!(held >= BUDGET as f64 / 2.0, "the budget is used: {held}");
    wait_until(Duration::from_secs(5), "a look at the resident size", || {
        proxy.metrics().value("redis_proxy_effective_budget_bytes") <= BUDGET as f64
    });
}
