//! Replies that Redis would not send, or not like that: no crash, no wrong value, no memory for announcements.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use testkit::{Action, HttpClient, Proxy, RedisServer, ScriptedRedis, wait_until};

use crate::support::{is_hit, program, program_without_redis};

const PATIENCE: Duration = Duration::from_secs(10);

/// One worker before a Redis that answers `odd` with these actions, one after the other, and other keys with
/// themselves.
fn start(odd: impl Fn(usize) -> Action + Send + Sync + 'static) -> (ScriptedRedis, Proxy, HttpClient) {
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let redis = ScriptedRedis::start(move |key, _| match key {
        b"odd" => odd(asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed)),
        key => Action::value(key),
    });
    let proxy = program_without_redis().redis_at(redis.address()).set("WORKERS", "1");
    let proxy = proxy.set("UPSTREAM_TIMEOUT", "500ms").start();
    let mut client = proxy.client();
    assert_eq!(client.get("/warm").text(), "warm");
    (redis, proxy, client)
}

fn answers_rightly(client: &mut HttpClient) {
    for key in 0..20 {
        assert_eq!(client.get(&format!("/after-{key}")).text(), format!("after-{key}"));
    }
}

#[test]
fn a_reply_of_another_type_is_502_and_ends_the_connection() {
    for reply in
        ["*1\r\n$3\r\nodd\r\n", ":1\r\n", "+OK\r\n", "%1\r\n+a\r\n+b\r\n", "#t\r\n", "~0\r\n", ",1.5\r\n"]
    {
        let (redis, _proxy, mut client) = start(move |_| Action::Reply(reply.into()));
        let response = client.get("/odd");
        assert_eq!(response.status, 502, "{reply:?}: {response:?}");
        answers_rightly(&mut client);
        // A third where the second was slow: then a fresh attempt is made beside it.
        assert!(redis.accepted() >= 2, "{reply:?}");
    }
}

#[test]
fn what_is_not_resp_is_502_and_ends_the_connection() {
    for reply in
        ["HTTP/1.1 200 OK\r\n\r\n", "$-7\r\n", "$x\r\n", "\r\n", "$3\r\noddities", "*-2\r\n", "?\r\n", "\0"]
    {
        let (redis, _proxy, mut client) = start(move |_| Action::Reply(reply.into()));
        let response = client.get("/odd");
        assert_eq!(response.status, 502, "{reply:?}: {response:?}");
        assert!(response.text().contains("malformed reply"), "{response:?}");
        answers_rightly(&mut client);
        // A third where the second was slow: then a fresh attempt is made beside it.
        assert!(redis.accepted() >= 2, "{reply:?}");
    }
}

#[test]
fn an_error_is_502_with_its_text_and_the_connection_lives() {
    let (redis, _proxy, mut client) = start(|asked| match asked {
        0 => Action::Reply(b"-ERR something else\r\n".to_vec()),
        1 => Action::Reply(b"!10\r\nERR longer\r\n".to_vec()),
        _ => Action::value("fine"),
    });
    assert_eq!(client.get("/odd").text(), "ERR something else");
    let second = client.get("/odd");
    assert_eq!((second.status, second.text()), (502, "ERR longer"));
    assert_eq!(client.get("/odd").text(), "fine", "an error is never cached");
    assert_eq!(redis.accepted(), 1);
}

#[test]
fn not_ready_is_503_with_redis_own_text() {
    const TEXTS: [&str; 4] = [
        "LOADING Redis is loading the dataset in memory",
        "BUSY Redis is busy running a script.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "TRYAGAIN Multiple keys request during rehashing of slot",
    ];
    let (_redis, _proxy, mut client) = start(|asked| Action::Reply(format!("-{}\r\n", TEXTS[asked]).into()));
    for text in TEXTS {
        let response = client.get("/odd");
        assert_eq!((response.status, response.text()), (503, text));
        assert_eq!(response.header("retry-after"), Some("1"));
    }
}

#[test]
fn a_reply_of_512_mib_that_never_comes_is_504_and_costs_no_memory() {
    let (_redis, proxy, mut client) = start(|_| Action::Reply(b"$536870912\r\nonly this".to_vec()));
    let before = proxy.resident_bytes();
    assert_eq!(client.get("/odd").status, 504);
    let grown = proxy.resident_bytes().saturating_sub(before);
    eprintln!("512 MiB announced: {grown} bytes more resident");
    assert!(grown < 2 << 20, "{grown} bytes more");
    answers_rightly(&mut client);
}

#[test]
fn a_value_above_max_reply_bytes_is_502_skipped_and_leaves_the_others_alone() {
    let redis = RedisServer::start();
    let mut writer = redis.client();
    writer.set("big", vec![b'x'; 8 << 20]);
    writer.set("small", "v");
    let proxy = program().redis(&redis).set("WORKERS", "1").set("MAX_REPLY_BYTES", "1MiB").start();
    let before = proxy.resident_bytes();
    let mut client = proxy.client();
    client.send("GET /big HTTP/1.1\r\nHost: h\r\n\r\nGET /small HTTP/1.1\r\nHost: h\r\n\r\n");
    let response = client.read_response();
    assert_eq!(response.status, 502);
    assert!(
        response.text().contains("8388608") && response.text().contains("MAX_REPLY_BYTES"),
        "{response:?}"
    );
    assert_eq!(client.read_response().text(), "v");
    let grown = proxy.resident_bytes().saturating_sub(before);
    assert!(grown < 2 << 20, "{grown} bytes more");
    assert_eq!(proxy.metrics().value("redis_proxy_redis_connects_total"), 1.0);
}

#[test]
fn ten_thousand_nested_arrays_are_502_and_crash_nothing() {
    let (redis, _proxy, mut client) = start(|_| Action::Reply(b"*1\r\n".repeat(10_000)));
    assert_eq!(client.get("/odd").status, 502);
    answers_rightly(&mut client);
    assert_eq!(redis.accepted(), 2);
}

#[test]
fn a_reply_cut_in_half_is_asked_for_once_more_then_503() {
    let (redis, _proxy, mut client) = start(|asked| match asked {
        0 => Action::ReplyThenClose(b"$10\r\nhalf".to_vec()),
        1 => Action::value("whole now"),
        _ => Action::ReplyThenClose(b"$10".to_vec()),
    });
    assert_eq!(client.get("/odd").text(), "whole now");
    let cut = start(|_| Action::ReplyThenClose(b"$10\r\nhalf".to_vec()));
    let (_, _, mut other) = cut;
    assert_eq!(other.get("/odd").status, 503);
    drop(redis);
}

#[test]
fn a_reply_nobody_asked_for_is_nobodys() {
    let (redis, proxy, mut client) = start(|_| Action::value("unused"));
    for round in 0..20 {
        redis.send_to_all(b"$5\r\nwrong\r\n");
        for key in 0..3 {
            assert_eq!(client.get(&format!("/{round}-{key}")).text(), format!("{round}-{key}"));
        }
    }
    proxy.wait_log("a reply that nobody asked for", PATIENCE);
}

#[test]
fn a_second_reply_behind_the_first_reaches_no_other_key() {
    let two = b"$3\r\none\r\n$3\r\ntwo\r\n";
    let (redis, proxy, mut client) = start(move |_| Action::Reply(two.to_vec()));
    assert_eq!(client.get("/odd").text(), "one");
    answers_rightly(&mut client);
    proxy.wait_log("a reply that nobody asked for", PATIENCE);
    assert_eq!(redis.accepted(), 2);
}

#[test]
fn a_push_is_no_reply() {
    let (redis, _proxy, mut client) = start(|_| Action::value("v"));
    redis.send_to_all(b">2\r\n$10\r\ninvalidate\r\n*1\r\n$4\r\nwarm\r\n");
    answers_rightly(&mut client);
    assert!(is_hit(&client.get("/warm")), "the default mode asks for no pushes and heeds none");
    assert_eq!(redis.accepted(), 1);
}

#[test]
fn thirty_mib_stall_nobody_longer_than_their_bytes_take() {
    let redis = RedisServer::start();
    let mut writer = redis.client();
    let big = vec![b'x'; 30 << 20];
    writer.set("big", &big);
    writer.set("small", "v");
    let proxy = program().redis(&redis).set("WORKERS", "1").start();
    let mut clients = [proxy.client(), proxy.client()];
    let started = Instant::now();
    assert_eq!(clients[0].get("/big").body, big);
    let alone = started.elapsed();
    // Not kept, being larger than MAX_VALUE_BYTES: it is fetched again.
    let started = Instant::now();
    clients[0].send("GET /big HTTP/1.1\r\nHost: h\r\n\r\n");
    let (done, finished) = mpsc::channel();
    let [mut one, mut other] = clients;
    let reader = std::thread::spawn(move || {
        let response = one.read_response();
        done.send(()).unwrap();
        response.body.len()
    });
    let (mut slowest, mut reads) = (Duration::ZERO, 0);
    while finished.try_recv().is_err() {
        let asked = Instant::now();
        assert_eq!(
            other.get(if reads == 0 { "/small" } else { "/absent" }).status,
            if reads == 0 { 200 } else { 404 }
        );
        slowest = slowest.max(asked.elapsed());
        reads += 1;
    }
    assert_eq!(reader.join().unwrap(), big.len());
    let beside = started.elapsed();
    eprintln!(
        "30 MiB: {alone:?} alone, {beside:?} with {reads} misses beside it, the slowest of them {slowest:?}"
    );
    assert!(slowest <= beside + Duration::from_millis(50));
    assert!(slowest < Duration::from_secs(1), "a miss took {slowest:?} behind 30 MiB");
}

#[test]
fn a_slow_reply_is_not_silence() {
    let bytes = b"$12\r\ntwelve bytes\r\n".to_vec();
    let (redis, _proxy, mut client) = start(move |_| {
        // 1.2 s in all, 100 ms each: beyond the time-out of 500 ms together, and below it each.
        Action::Slow { bytes: bytes.clone(), chunk: 2, every: Duration::from_millis(100) }
    });
    let started = Instant::now();
    assert_eq!(client.get("/odd").text(), "twelve bytes");
    assert!(started.elapsed() > Duration::from_millis(600));
    assert_eq!(redis.accepted(), 1);
}

#[test]
fn more_fetches_than_max_inflight_are_503() {
    let redis = RedisServer::start();
    let proxy = program().redis(&redis).set("MAX_INFLIGHT", "3").set("UPSTREAM_TIMEOUT", "60s").start();
    wait_until(PATIENCE, "readiness", || {
        HttpClient::connect(proxy.admin_address()).get("/readyz").status == 200
    });
    redis.pause_process();
    let ask = |key: usize| {
        let mut client = proxy.client();
        client.send(format!("GET /{key} HTTP/1.1\r\nHost: h\r\n\r\n"));
        client
    };
    let mut taken: Vec<_> = (0..3).map(ask).collect();
    wait_until(PATIENCE, "three fetches", || proxy.metrics().value("redis_proxy_fills_in_flight") == 3.0);
    let refused = proxy.get("/4");
    assert_eq!((refused.status, refused.text()), (503, "too many fetches in flight"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    // Waiting for one that is under way is no further fetch.
    let mut joined = ask(0);
    redis.resume_process();
    for client in taken.iter_mut().chain([&mut joined]) {
        assert_eq!(client.read_response().status, 404);
    }
    assert_eq!(proxy.get("/4").status, 404);
    assert_eq!(proxy.metrics().value("redis_proxy_errors_total{kind=\"overloaded\"}"), 1.0);
}
