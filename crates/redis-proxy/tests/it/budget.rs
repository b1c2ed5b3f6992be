//! CAPACITY_BYTES: the resident size of the whole program, while the sizes of values shift.

use std::time::{Duration, Instant};

use testkit::{HttpClient, Proxy, RedisServer, wait_until};

use crate::support::{program, wait_in_force};

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
    // The script that makes the values keeps Redis busy: a worker that connects meanwhile says so.
    let program = program().allow_warning("redis unavailable").set("UPSTREAM_TIMEOUT", "20s");
    let proxy = program.redis(&redis).set("CAPACITY_BYTES", &bytes).set("CAPACITY", "10000000").start();
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

/// A value that is kept.
const LARGE: usize = 1 << 20;
/// One that is not.
const PASSING: usize = 4 << 20;

/// A program with a budget of 64 MiB before a Redis with 160 of the one and 40 of the other.
fn with_large_values() -> (RedisServer, Proxy) {
    before(RedisServer::start())
}

/// The same before a Redis that has other values, too.
fn before(redis: RedisServer) -> (RedisServer, Proxy) {
    let mut direct = redis.client();
    for (name, count, size) in [("k", 160, LARGE), ("p", 40, PASSING)] {
        for n in 0..count {
            direct.command(&["SETRANGE", &format!("{name}{n}"), &(size - 1).to_string(), "x"]);
        }
    }
    let proxy = program().redis(&redis).set("CAPACITY_BYTES", "64MiB").set("WORKERS", "2");
    (redis, proxy.set("UPSTREAM_TIMEOUT", "20s").start())
}

/// The largest resident size while `until` is not so.
fn most_resident(proxy: &Proxy, mut until: impl FnMut() -> bool) -> u64 {
    let mut most = 0;
    while !until() {
        most = most.max(proxy.resident_bytes());
        std::thread::sleep(Duration::from_millis(2));
    }
    most
}

fn requests(keys: impl Iterator<Item = String>) -> String {
    keys.map(|key| format!("GET /{key} HTTP/1.1\r\nHost: h\r\n\r\n")).collect()
}

#[test]
fn values_in_flight_are_within_the_budget() {
    const BUDGET: u64 = 64 << 20;
    let (_redis, proxy) = with_large_values();
    let baseline = proxy.resident_bytes();
    // They read nothing, and small answers have opened their windows.
    let mut slow: Vec<_> = (0..30)
        .map(|_| {
            let mut slow = HttpClient::connect_with_receive_buffer(proxy.address(), 16 * 1024);
            slow.send(requests((0..100).map(|n| format!("none{n}"))));
            for _ in 0..100 {
                assert_eq!(slow.read_response().status, 404);
            }
            slow
        })
        .collect();
    for (client, slow) in slow.iter_mut().enumerate() {
        slow.send(requests((0..16).map(|n| format!("k{}", (client * 5 + n) % 160))));
    }
    let readers: Vec<_> = (0..24)
        .map(|reader| {
            let mut client = proxy.client();
            std::thread::spawn(move || {
                let mut answered = 0;
                for n in 0..30 {
                    let response = client.get(&format!("/k{}", (reader * 37 + n * 11) % 160));
                    // Beyond what may be in flight it is 503, after a while.
                    answered += usize::from(response.status == 200 && response.body.len() == LARGE);
                    assert!([200, 503].contains(&response.status), "{}", response.text());
                }
                answered
            })
        })
        .collect();
    let most = most_resident(&proxy, || readers.iter().all(std::thread::JoinHandle::is_finished));
    let answered: usize = readers.into_iter().map(|reader| reader.join().expect("it is answered")).sum();
    let grown = most.saturating_sub(baseline);
    eprintln!("at most {} MiB above the baseline of {} MiB, {answered} answers", grown >> 20, baseline >> 20);
    assert!(grown as f64 <= BUDGET as f64 * 1.10 + (32 << 20) as f64, "{} MiB", grown >> 20);
    assert!(answered >= 24 * 30 / 2, "{answered}");
    drop(slow);
    wait_until(Duration::from_secs(30), "nothing in flight", || {
        proxy.metrics().value("redis_proxy_in_flight_bytes") == 0.0
    });
}

#[test]
fn who_takes_nothing_gives_way_to_misses_when_values_in_flight_fill_their_part() {
    let (_redis, proxy) = with_large_values();
    let mut client = proxy.client();
    let slow: Vec<_> = (0..30)
        .map(|n| {
            let mut slow = HttpClient::connect_with_receive_buffer(proxy.address(), 16 * 1024);
            slow.send(requests((0..4).map(|m| format!("p{}", (n + m) % 40))));
            slow
        })
        .collect();
    let in_flight = || proxy.metrics().value("redis_proxy_in_flight_bytes");
    wait_until(Duration::from_secs(30), "much in flight", || in_flight() > 24e6);
    // Misses are answered all the same: the slow ones lose what they hold.
    for n in 0..100 {
        let response = client.get(&format!("/k{n}"));
        assert_eq!((response.status, response.body.len()), (200, LARGE), "{n} {}", in_flight());
    }
    assert!(in_flight() <= 33e6, "{}", in_flight());
    drop(slow);
}

const PATIENCE: Duration = Duration::from_secs(60);
/// What may be added to the budget for what is being read: one reply of MAX_REPLY_BYTES a worker.
const REPLIES: u64 = 32 << 20;

#[test]
fn many_values_of_60_kib_in_flight_are_within_the_budget() {
    const BUDGET: u64 = 64 << 20;
    const SIZE: usize = 60 << 10;
    let redis = RedisServer::start();
    let fill = format!("for i = 0, 3999 do redis.call('SETRANGE', 's' .. i, {}, 'x') end", SIZE - 1);
    redis.client().command(&["EVAL", &fill, "0"]);
    let (_redis, proxy) = before(redis);
    let baseline = proxy.resident_bytes();
    // They read nothing, and small answers have opened their windows.
    let mut slow: Vec<_> = (0..150)
        .map(|_| {
            let mut slow = HttpClient::connect_with_receive_buffer(proxy.address(), 16 * 1024);
            slow.send(requests((0..100).map(|n| format!("none{n}"))));
            for _ in 0..100 {
                assert_eq!(slow.read_response().status, 404);
            }
            slow
        })
        .collect();
    for (client, slow) in slow.iter_mut().enumerate() {
        slow.send(requests((0..60).map(|n| format!("s{}", (client * 60 + n) % 4000))));
    }
    let mut reader = proxy.client();
    // Its fetches wait behind all of theirs.
    reader.set_read_timeout(PATIENCE);
    let reader = std::thread::spawn(move || {
        for n in 0..100 {
            let response = reader.get(&format!("/k{n}"));
            assert!([200, 503].contains(&response.status), "{n} {}", response.text());
        }
    });
    let most = most_resident(&proxy, || reader.is_finished());
    reader.join().expect("all is answered");
    let grown = most.saturating_sub(baseline);
    eprintln!("at most {} MiB above the baseline of {} MiB", grown >> 20, baseline >> 20);
    assert!(grown as f64 <= BUDGET as f64 * 1.10 + REPLIES as f64, "{} MiB", grown >> 20);
    drop(slow);
    wait_until(Duration::from_secs(30), "nothing in flight", || {
        let metrics = proxy.metrics();
        metrics.value("redis_proxy_in_flight_bytes") == 0.0
            && metrics.value("redis_proxy_fills_waiting") == 0.0
    });
}

#[test]
fn large_collections_in_flight_are_within_the_budget() {
    const BUDGET: u64 = 64 << 20;
    let redis = RedisServer::start();
    for number in 0..12 {
        let fill = "for i = 1, 10000 do redis.call('RPUSH', 'list' .. ARGV[1], string.rep('v', 1000)) \
                    redis.call('HSET', 'hash' .. ARGV[1], i, string.rep('v', 1000)) end";
        redis.client().command(&["EVAL", fill, "0", &number.to_string()]);
    }
    let program = program()
        .redis(&redis)
        .set("CAPACITY_BYTES", "64MiB")
        .set("WORKERS", "1")
        .set("MAX_VALUE_BYTES", "16MiB");
    let program = program.set("UPSTREAM_TIMEOUT", "20s").set("MAX_STALENESS", "20s");
    let proxy = program.set("COHERENCE", "tracking").set("RESP_PORT", "0").start();
    wait_in_force(&proxy);
    proxy.resp_client().send_command(&["LRANGE", "list0", "0", "0"]).expect("*1\r\n").bulk();
    let baseline = proxy.resident_bytes();
    // They read nothing.
    let slow: Vec<_> = (0..24)
        .map(|n| {
            let mut slow = proxy.resp_client().with_small_buffer();
            match n % 2 {
                0 => slow.send_command(&["LRANGE", &format!("list{}", n / 2), "0", "-1"]),
                _ => slow.send_command(&["HGETALL", &format!("hash{}", n / 2)]),
            };
            slow
        })
        .collect();
    let metrics = || proxy.metrics();
    wait_until(PATIENCE, "they have been asked for", || {
        let misses = r#"redis_proxy_lookups_total{result="miss"}"#;
        metrics().value(misses) >= slow.len() as f64
    });
    // Those who take nothing give theirs up for those who wait.
    let end = Instant::now() + PATIENCE;
    let most = most_resident(&proxy, || {
        assert!(Instant::now() < end, "all are fetched");
        metrics().value("redis_proxy_fills_in_flight") == 0.0
    });
    let grown = most.saturating_sub(baseline);
    eprintln!("at most {} MiB above the baseline of {} MiB", grown >> 20, baseline >> 20);
    assert!(grown as f64 <= BUDGET as f64 * 1.10 + REPLIES as f64, "{} MiB", grown >> 20);
    drop(slow);
}
