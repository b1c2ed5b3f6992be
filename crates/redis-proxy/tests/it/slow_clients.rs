//! Clients that send slowly, read slowly, or leave in the middle.

use std::thread;
use std::time::{Duration, Instant};

use testkit::{Action, End, HttpClient, Proxy, ScriptedRedis, wait_until};

use crate::support::{program, start, start_resp, start_with};

const PATIENCE: Duration = Duration::from_secs(10);
const MIB: usize = 1 << 20;
/// A client that is not read from gets what the kernel holds for it; this keeps that small.
const SMALL_BUFFER: usize = 16 * 1024;

fn request(key: &str) -> String {
    format!("GET /{key} HTTP/1.1\r\nHost: h\r\n\r\n")
}

/// A client that asks for these keys and reads nothing.
fn stuck<'a>(proxy: &Proxy, keys: impl IntoIterator<Item = &'a str>) -> HttpClient {
    let mut client = HttpClient::connect_with_receive_buffer(proxy.address(), SMALL_BUFFER);
    client.send(keys.into_iter().map(request).collect::<String>());
    client
}

/// Reads what comes until the connection ends.
#[track_caller]
fn read_to_end(client: &mut HttpClient) -> (usize, End) {
    let mut count = 0;
    loop {
        match client.end() {
            End::Bytes(bytes) => count += bytes.len(),
            end => return (count, end),
        }
    }
}

#[test]
fn a_head_that_comes_byte_by_byte_is_answered() {
    let (redis, proxy) = start();
    redis.client().set("k", "1");
    let mut client = proxy.client();
    for head in [request("k"), format!("\r\n{}", request("k")), request("k")] {
        for byte in head.as_bytes() {
            client.send([*byte]);
        }
        assert_eq!(client.read_response().text(), "1");
    }
}

#[test]
fn a_head_that_does_not_arrive_in_head_timeout_is_408_and_closes() {
    let (redis, proxy) = start_with(&[("HEAD_TIMEOUT", "200ms")]);
    redis.client().set("k", "1");
    for start in ["G", "\r", "GET /k HTTP/1.1\r\nHost: h\r\n", "GET /k HTTP/1.1\r\nHost: h\r\n\r"] {
        let mut client = proxy.client();
        assert_eq!(client.get("/k").status, 200);
        let before = Instant::now();
        client.send(start);
        let response = client.read_response();
        assert_eq!((response.status, response.reason.as_str()), (408, "Request Timeout"), "{start:?}");
        assert_eq!(response.header("connection"), Some("close"));
        let waited = before.elapsed();
        assert!(waited >= Duration::from_millis(200) && waited < PATIENCE, "{waited:?}");
        assert!(client.at_end(), "{start:?}");
    }
}

#[test]
fn head_timeout_runs_from_the_first_byte_however_often_more_come() {
    let (_redis, proxy) = start_with(&[("HEAD_TIMEOUT", "300ms")]);
    let mut client = proxy.client();
    client.set_read_timeout(Duration::from_millis(5));
    let before = Instant::now();
    client.send("GET /");
    let response = loop {
        assert!(before.elapsed() < PATIENCE, "a client that trickles is never refused");
        if client.try_send("x").is_err() {
            break None;
        }
        match client.try_read_response() {
            Ok(response) => break Some(response),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {}
            Err(_) => break None,
        }
    };
    assert_eq!(response.map(|response| response.status), Some(408));
    assert!(before.elapsed() >= Duration::from_millis(300));
}

#[test]
fn a_client_that_always_has_half_a_request_on_its_way_is_not_late() {
    let (redis, proxy) = start_with(&[("HEAD_TIMEOUT", "200ms")]);
    redis.client().set("k", "1");
    let mut client = proxy.client();
    let request = request("k");
    let (first, second) = request.split_at(10);
    client.send(first);
    let before = Instant::now();
    while before.elapsed() < Duration::from_millis(600) {
        client.send(format!("{second}{first}"));
        assert_eq!(client.read_response().status, 200, "after {:?}", before.elapsed());
    }
}

#[test]
fn a_body_that_does_not_arrive_closes_without_a_second_answer() {
    let (redis, proxy) = start_with(&[("HEAD_TIMEOUT", "200ms")]);
    redis.client().set("k", "1");
    let mut client = proxy.client();
    client.send("GET /k HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nabc");
    assert_eq!(client.read_response().text(), "1");
    assert!(client.at_end(), "nobody asked for another answer");
}

#[test]
fn an_idle_connection_is_closed_in_order_after_idle_timeout() {
    let (redis, proxy) = start_with(&[("IDLE_TIMEOUT", "800ms")]);
    redis.client().set("k", "1");
    let before = Instant::now();
    let mut silent = proxy.client();
    assert!(silent.at_end(), "a client that never asks");
    assert!(before.elapsed() >= Duration::from_millis(800));
    let mut client = proxy.client();
    let before = Instant::now();
    while before.elapsed() < Duration::from_millis(2_000) {
        assert_eq!(client.get("/k").status, 200, "every request starts it anew");
    }
    let before = Instant::now();
    assert!(client.at_end());
    assert!(before.elapsed() >= Duration::from_millis(600), "{:?}", before.elapsed());
}

#[test]
fn a_client_that_waited_long_for_its_answer_is_not_idle_when_it_comes() {
    let redis = ScriptedRedis::start(|_, _| Action::Slow {
        bytes: b"$1\r\n1\r\n".to_vec(),
        chunk: 4,
        every: Duration::from_millis(1_200),
    });
    let program = program().redis_at(redis.address()).set("UPSTREAM_TIMEOUT", "10s");
    let proxy = program.set("IDLE_TIMEOUT", "800ms").start();
    let mut client = proxy.client();
    assert_eq!(client.get("/k").text(), "1");
    let answered = Instant::now();
    assert!(client.at_end());
    assert!(answered.elapsed() >= Duration::from_millis(600), "{:?}", answered.elapsed());
}

#[test]
fn a_client_that_stops_reading_is_closed_after_write_timeout_and_no_other() {
    let (redis, proxy) = start_with(&[("WRITE_TIMEOUT", "300ms"), ("WORKERS", "1")]);
    redis.client().set("large", vec![b'x'; MIB]);
    redis.client().set("k", "1");
    let mut bystander = proxy.client();
    let mut client = stuck(&proxy, ["large"; 50]);
    let before = Instant::now();
    wait_until(PATIENCE, "the end of the client that does not read", || {
        assert_eq!(bystander.get("/k").text(), "1");
        client.try_send("\r\n").is_err()
    });
    assert!(before.elapsed() >= Duration::from_millis(250), "{:?}", before.elapsed());
    assert_eq!(bystander.get("/k").text(), "1");
}

#[test]
fn a_client_that_reads_slowly_gets_all_of_it_and_may_go_on() {
    let (redis, proxy) = start_with(&[("WRITE_TIMEOUT", "1s"), ("IDLE_TIMEOUT", "1s")]);
    redis.client().set("large", vec![b'x'; MIB]);
    let mut client = stuck(&proxy, ["large"; 20]);
    for number in 0..20 {
        // The pace is the subject: together twice both time-outs, while the program waits to write more.
        if number < 13 {
            thread::sleep(Duration::from_millis(150));
        }
        assert_eq!(client.read_response().body.len(), MIB, "answer {number}");
    }
    assert_eq!(client.get("/none").status, 404, "it was slow and not idle");
}

/// Takes a little of an answer now and then for three times WRITE_TIMEOUT, the kernel's buffers being full, then the
/// rest; how much it was.
#[track_caller]
fn take_slowly(client: &mut HttpClient, whole: usize) -> usize {
    let began = Instant::now();
    let mut taken = 0;
    while taken < whole {
        let is_slow = began.elapsed() < Duration::from_secs(6);
        match client.read_some(if is_slow { 4 * 1024 } else { MIB }) {
            Ok(bytes) if bytes.is_empty() => break,
            Ok(bytes) => taken += bytes.len(),
            Err(error) => panic!("{error} after {taken} bytes and {:?}", began.elapsed()),
        }
        if is_slow {
            // The pace is the subject: about 160 kB/s.
            thread::sleep(Duration::from_millis(25));
        }
    }
    taken
}

#[test]
fn a_client_that_takes_a_large_value_at_a_crawl_is_not_closed() {
    let (redis, proxy) = start_resp(&[("WRITE_TIMEOUT", "2s"), ("MAX_VALUE_BYTES", "17mib")]);
    let whole = 16 * MIB;
    redis.client().set("large", vec![b'x'; whole]);
    let mut http = stuck(&proxy, ["large"]);
    let mut redis = HttpClient::connect_with_receive_buffer(proxy.resp_address(), SMALL_BUFFER);
    redis.send("GET large\r\n");
    thread::scope(|scope| {
        for client in [&mut http, &mut redis] {
            scope.spawn(move || {
                let taken = take_slowly(client, whole);
                assert!(taken >= whole, "{taken}");
            });
        }
    });
}

#[test]
fn a_client_that_still_takes_its_last_answer_is_not_idle() {
    let (redis, proxy) = start_with(&[("IDLE_TIMEOUT", "2s")]);
    // The kernel takes all of it at once.
    redis.client().set("large", vec![b'x'; 2 * MIB]);
    let mut client = stuck(&proxy, ["large"]);
    // Six seconds for the first megabyte.
    let taken = take_slowly(&mut client, 2 * MIB);
    assert!(taken >= 2 * MIB, "{taken}");
    // It is idle for less than it may be: its time counts from the last that it took.
    thread::sleep(Duration::from_secs(1));
    client.send(request("none"));
    let mut answer = Vec::new();
    while !answer.ends_with(b"key not found") {
        let bytes = client.read_some(MIB).expect("an answer");
        assert!(!bytes.is_empty(), "closed as if it were idle");
        answer.extend(bytes);
    }
}

#[test]
fn the_next_requests_of_a_client_that_does_not_read_are_not_read() {
    let (redis, proxy) = start();
    redis.client().set("large", vec![b'x'; 16 * MIB]);
    let mut client = stuck(&proxy, ["large"]);
    assert_eq!(client.read_some(1).expect("the start of the answer"), b"H");
    // Far more than the program could hold or the kernel would: it stands in our way once it is not read.
    client.set_write_timeout(Duration::from_millis(300));
    let mut sent = 0;
    let many = request("never").repeat(1000);
    while sent < 64 * MIB && client.try_send(&many).is_ok() {
        sent += many.len();
    }
    assert!(sent < 64 * MIB, "the program reads on");
    assert_eq!(redis.command_calls("get"), 1);
}

#[test]
fn the_next_requests_of_a_client_that_waits_for_redis_are_not_read() {
    let redis = ScriptedRedis::start(|_, _| Action::Silence);
    let proxy = program().redis_at(redis.address()).set("UPSTREAM_TIMEOUT", "30s").start();
    let mut client = proxy.client();
    client.set_write_timeout(Duration::from_millis(300));
    let many = request("k").repeat(1000);
    let mut sent = 0;
    while sent < 64 * MIB && client.try_send(&many).is_ok() {
        sent += many.len();
    }
    assert!(sent < 64 * MIB, "the program reads on");
}

#[test]
fn a_request_behind_an_unread_answer_is_taken_up_at_its_own_moment() {
    let (redis, proxy) = start();
    redis.client().set("large", vec![b'x'; MIB]);
    assert_eq!(proxy.get("/large").status, 200);
    let fetched = Instant::now();
    // All requests are in the program at once; the last is taken up when the answers before it are written. An
    // expired value is swept up soon, so its age is what tells which moment it was looked up at.
    let mut client = stuck(&proxy, ["large"; 12]);
    assert_eq!(client.read_response().header("age"), Some("0"));
    thread::sleep(Duration::from_millis(1100).saturating_sub(fetched.elapsed()));
    let mut last = client.read_response();
    for _ in 2..12 {
        last = client.read_response();
    }
    assert_eq!((last.body.len(), last.header("cache-status")), (MIB, Some("redis-proxy; hit")));
    assert_ne!(last.header("age"), Some("0"), "it was a second old when its turn came");
}

#[test]
fn a_client_that_shuts_its_side_gets_all_its_answers() {
    let (redis, proxy) = start();
    redis.client().set("k", "1");
    redis.client().set("large", vec![b'x'; MIB]);
    let mut client = proxy.client();
    client.send(["k", "large", "none", "k", "large"].map(request).concat());
    client.shutdown_write();
    for status in [200, 200, 404, 200, 200] {
        assert_eq!(client.read_response().status, status);
    }
    assert!(client.at_end());
    let mut client = proxy.client();
    client.send(format!("{}GET /k HT", request("k")));
    client.shutdown_write();
    assert_eq!(client.read_response().status, 200);
    assert!(client.at_end(), "half a request is not answered");
}

#[test]
fn twenty_slow_readers_cost_64_mib_at_most() {
    let keys: Vec<String> = (0..50).map(|number| format!("k{number}")).collect();
    let (redis, proxy) = start();
    for key in &keys {
        redis.client().set(key, vec![b'x'; MIB]);
        assert_eq!(proxy.get(&format!("/{key}")).status, 200);
    }
    let before = proxy.resident_bytes();
    let clients: Vec<_> = (0..20).map(|_| stuck(&proxy, keys.iter().map(String::as_str))).collect();
    assert_growth(&proxy, before, clients);
    assert_eq!(redis.command_calls("get"), 50);
}

#[test]
fn large_values_behind_one_that_nobody_reads_are_let_go_and_fetched_once_more() {
    const VALUE: usize = 4 * MIB;
    let (redis, proxy) = start_with(&[("WORKERS", "1"), ("WRITE_TIMEOUT", "600s")]);
    let keys: Vec<String> = (0..32).map(|number| format!("k{number}")).collect();
    for (key, byte) in keys.iter().zip(b'0'..) {
        redis.client().set(key, vec![byte; VALUE]);
    }
    let mut client = proxy.client();
    // Small ones open the window.
    client.send((0..200).map(|number| request(&format!("none{number}"))).collect::<String>());
    for _ in 0..200 {
        assert_eq!(client.read_response().status, 404);
    }
    redis.reset_stats();
    let before = proxy.resident_bytes();
    let mut last = (u64::MAX, Instant::now());
    let mut most = 0;
    client.send(keys.iter().map(|key| request(key)).collect::<String>());
    wait_until(Duration::from_secs(120), "the program to stand still", || {
        most = most.max(proxy.resident_bytes());
        let ticks = proxy.cpu_ticks();
        if ticks != last.0 {
            last = (ticks, Instant::now());
        }
        // Which it does not before all have come.
        let come = || proxy.metrics().value("redis_proxy_fills_in_flight") == 0.0;
        last.1.elapsed() > Duration::from_millis(300) && redis.command_calls("get") >= 32 && come()
    });
    let grown = most.saturating_sub(before);
    eprintln!("{} MiB at most, {} GETs", grown >> 20, redis.command_calls("get"));
    assert!(grown <= (32 * MIB + VALUE) as u64, "{} MiB", grown >> 20);
    client.send(request("none"));
    for byte in b'0'..b'0' + 32 {
        assert_eq!(client.read_response().body, vec![byte; VALUE]);
    }
    assert_eq!(client.read_response().status, 404);
    assert!(redis.command_calls("get") <= 2 * 32 + 1, "{}", redis.command_calls("get"));
}

#[test]
fn twenty_slow_readers_of_values_that_are_not_kept_cost_64_mib_at_most() {
    // Any key has a value of 1 MiB, and no two clients ask for the same.
    let redis = ScriptedRedis::start(|_, _| Action::value(vec![b'x'; MIB]));
    let proxy = program().redis_at(redis.address()).set("CAPACITY", "2").start();
    assert_eq!(proxy.get("/warm").status, 200);
    let before = proxy.resident_bytes();
    let clients = (0..20)
        .map(|client| {
            let keys: Vec<String> = (0..50).map(|number| format!("k{client}-{number}")).collect();
            stuck(&proxy, keys.iter().map(String::as_str))
        })
        .collect();
    assert_growth(&proxy, before, clients);
}

/// Waits until nothing moves any more, then reads the memory; the clients read nothing before that.
#[track_caller]
fn assert_growth(proxy: &Proxy, before: u64, mut clients: Vec<HttpClient>) {
    let mut last = (u64::MAX, Instant::now());
    wait_until(PATIENCE, "the program to stand still", || {
        let ticks = proxy.cpu_ticks();
        if ticks != last.0 {
            last = (ticks, Instant::now());
        }
        last.1.elapsed() > Duration::from_millis(200)
    });
    let grown = proxy.resident_bytes().saturating_sub(before);
    assert!(grown <= 64 << 20, "{} MiB", grown >> 20);
    // None was forgotten: each still gets its first answers.
    for client in &mut clients {
        assert_eq!(client.read_response().body.len(), MIB);
    }
    drop(clients);
}

#[test]
fn a_reset_of_a_client_leaves_the_others_alone() {
    let (redis, proxy) = start_with(&[("WORKERS", "1")]);
    redis.client().set("large", vec![b'x'; MIB]);
    let mut bystander = proxy.client();
    for _ in 0..5 {
        stuck(&proxy, ["large"; 20]).reset();
        assert_eq!(bystander.get("/large").body.len(), MIB);
    }
    let mut gone = stuck(&proxy, ["large"; 20]);
    gone.shutdown_write();
    drop(gone);
    let mut answered = stuck(&proxy, ["large"; 2]);
    assert!(read_some_answers(&mut answered) > 2 * MIB);
}

/// Half-closes, and counts the bytes up to the end.
fn read_some_answers(client: &mut HttpClient) -> usize {
    client.shutdown_write();
    let (count, end) = read_to_end(client);
    assert_eq!(end, End::Closed);
    count
}
