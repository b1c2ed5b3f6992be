//! What the program tells of itself on the admin port: `/insight.json`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use testkit::{HttpClient, Proxy, RedisServer, wait_until};

use crate::support::{program, program_without_redis, start_resp_in, wait_in_force};

const PATIENCE: Duration = Duration::from_secs(10);

fn insight(proxy: &Proxy) -> Value {
    let answer = HttpClient::connect(proxy.admin_address()).get("/insight.json");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    serde_json::from_str(answer.text()).expect("JSON")
}

/// Every field that is promised, by its path.
const FIELDS: &str = "at_ms program.version program.uptime_s program.workers program.resident_bytes totals.http_requests \
    totals.resp_commands totals.hits totals.misses totals.coalesced totals.evictions totals.expirations totals.invalidations \
    totals.errors cache.entries cache.capacity cache.bytes cache.capacity_bytes cache.negative_entries clients.http clients.resp \
    clients.waiting clients.max latency_us.hit.p50 latency_us.hit.p99 latency_us.miss.p50 latency_us.miss.p99 coherence.mode \
    coherence.in_force coherence.why_not coherence.since_s upstreams tracking_table sampling.one_in sampling.window_s hot_keys \
    hot_misses prefixes slow_log";

#[test]
fn what_it_does_at_this_moment_is_one_object() {
    let (redis, proxy) = start_resp_in("tracking", &[("CAPACITY", "100"), ("MAX_CLIENTS", "99")]);
    redis.client().set("k", "v");
    for field in FIELDS.split_whitespace() {
        let insight = insight(&proxy);
        let path = format!("/{}", field.replace('.', "/"));
        assert!(insight.pointer(&path).is_some(), "{field} is left out of {insight}");
    }
    let nothing = insight(&proxy);
    assert_eq!(nothing["latency_us"]["hit"]["p50"], Value::Null);
    let mut http = proxy.client();
    for path in ["/k", "/k", "/k", "/none"] {
        http.get(path);
    }
    http.request("POST", "/k", &[]);
    let mut resp = proxy.redis_client();
    resp.command(&["GET", "k"]);
    resp.command(&["PING"]);
    // A latency is counted once its answer is with the kernel, and the client may be faster.
    wait_until(PATIENCE, "all of it counted", || insight(&proxy)["totals"]["http_requests"] == 5);
    let told = insight(&proxy);
    let number = |path: &str| told.pointer(path).and_then(Value::as_u64);
    for (path, expected) in [
        ("/totals/resp_commands", 2),
        ("/totals/hits", 3),
        ("/totals/misses", 2),
        ("/cache/entries", 2),
        ("/cache/negative_entries", 1),
        ("/cache/capacity", 100),
        ("/clients/http", 1),
        ("/clients/resp", 1),
        ("/clients/max", 99),
    ] {
        assert_eq!(number(path), Some(expected), "{path} of {told}");
    }
    let of = |what: &str, quantile: &str| number(&format!("/latency_us/{what}/{quantile}"));
    for what in ["hit", "miss"] {
        let (half, most) = (of(what, "p50").expect("a median"), of(what, "p99").expect("a quantile"));
        assert!(0 < half && half <= most && most < 10_000_000, "{what}: {half}, {most}");
    }
    assert_eq!(
        (&told["coherence"]["mode"], &told["coherence"]["in_force"]),
        (&"tracking".into(), &true.into())
    );
    let upstream = &told["upstreams"][0];
    assert_eq!(upstream["address"], redis.address().to_string());
    assert_eq!((&upstream["connected"], &upstream["why_not"]), (&true.into(), &Value::Null));
    let ask = |target: &str| HttpClient::connect(proxy.admin_address()).get(target).status;
    assert_eq!(
        ["?count=1", "?count=513", "?count=0", "?token=x"].map(|query| ask(&format!("/insight.json{query}"))),
        [200, 200, 400, 400]
    );
    // After ten seconds nothing of it is recent.
    wait_until(Duration::from_secs(20), "a window without a read", || {
        insight(&proxy)["latency_us"]["miss"]["p99"] == Value::Null
    });
}

#[test]
fn a_tracking_table_that_is_nearly_full_is_told_of() {
    let redis = RedisServer::start();
    redis.client().command(&["CONFIG", "SET", "tracking-table-max-keys", "10"]);
    let proxy = program_without_redis().allow_warning("tracking table is nearly full").redis(&redis);
    let proxy = proxy.set("COHERENCE", "tracking").start();
    wait_in_force(&proxy);
    (0..10).for_each(|number| drop(proxy.get(&format!("/k{number}"))));
    let told = proxy.wait_log("tracking table is nearly full", Duration::from_secs(30));
    assert!(told.raw.contains("\"limit\":10"), "{}", told.raw);
    let table = insight(&proxy)["tracking_table"].clone();
    assert!(table["keys"].as_u64().is_some_and(|keys| keys >= 9) && table["limit"] == 10, "{table}");
    assert!(proxy.metrics().value("redis_proxy_tracking_table_keys") >= 9.0);
    assert!(proxy.metrics().value("redis_proxy_tracking_table_max_keys") == 10.0);
}

/// The next event of a stream, as its JSON; none at its end.
fn event(stream: &mut BufReader<TcpStream>) -> Option<Value> {
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).expect("a stream") == 0 {
            return None;
        }
        if let Some(event) = line.strip_prefix("data: ") {
            return Some(serde_json::from_str(event).expect("JSON"));
        }
        // The last chunk (RFC 9112, section 7.1).
        if line == "0\r\n" {
            return None;
        }
    }
}

#[test]
fn events_come_once_a_second_and_end_with_their_token() {
    let (redis, folder) = (RedisServer::start(), tempfile::tempdir().expect("a folder"));
    let token = folder.path().join("token");
    std::fs::write(&token, "events-planted-0001\n").expect("a file");
    let proxy = program().redis(&redis).set("ADMIN_TOKEN_FILE", &token).start();
    let open = |token: &str| {
        let mut socket = TcpStream::connect(proxy.admin_address()).expect("a connection");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let head = format!("GET /events HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\r\n");
        socket.write_all(head.as_bytes()).expect("a request");
        let mut stream = BufReader::new(socket);
        let mut status = String::new();
        stream.read_line(&mut status).expect("a status");
        (status.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok()).expect("a status"), stream)
    };
    let mut streams: Vec<_> = (0..16).map(|_| open("events-planted-0001")).collect();
    assert!(streams.iter().all(|(status, _)| *status == 200));
    assert_eq!((open("events-planted-0001").0, open("unknown").0), (503, 401));
    // Probes are answered beside them, and beside as many connections as there may be.
    let mut idle: Vec<_> = (0..60).map(|_| HttpClient::connect(proxy.admin_address())).collect();
    assert_eq!(idle.pop().expect("one").get("/livez").status, 200);
    let at = |event: Value| event["at_ms"].as_u64().expect("a time");
    let last = streams.last_mut().map(|(_, stream)| stream).expect("one");
    let times: Vec<u64> = (0..4).map(|_| at(event(last).expect("an event"))).collect();
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
    assert!(times[3] - times[1] >= 1_500, "once a second: {times:?}");
    // It is made once: all have the same. One that came before a beat has an event more than those behind it.
    let others = streams[0].1.by_ref();
    let of_another: Vec<u64> = (0..4).map(|_| at(event(others).expect("an event"))).collect();
    let common = of_another[1..].iter().filter(|time| times[1..].contains(time)).count();
    assert!(common >= 2, "{of_another:?} {times:?}");
    drop(streams.split_off(2));
    wait_until(PATIENCE, "room for another", || open("events-planted-0001").0 == 200);
    // What let them in is void.
    std::fs::write(&token, "events-planted-0002\n").expect("a file");
    proxy.wait_log("\"reloaded\"", PATIENCE);
    for (_, stream) in &mut streams {
        while event(stream).is_some() {}
    }
    assert_eq!((open("events-planted-0001").0, open("events-planted-0002").0), (401, 200));
    let (_, mut stream) = open("events-planted-0002");
    assert!(event(&mut stream).is_some());
    proxy.stop();
    while event(&mut stream).is_some() {}
}

#[test]
fn an_upstream_that_is_away_says_why() {
    let redis = RedisServer::start();
    let proxy = program_without_redis().redis(&redis).start();
    wait_until(PATIENCE, "a connection", || insight(&proxy)["upstreams"][0]["connected"] == true);
    redis.kill();
    // The first attempt after the loss is told as such until it has failed.
    wait_until(PATIENCE, "a connection that failed", || {
        let told = insight(&proxy)["upstreams"][0].clone();
        told["connected"] == false && told["why_not"].as_str().is_some_and(|why| why.contains("redis"))
    });
    assert_eq!(insight(&proxy)["coherence"]["mode"], "ttl");
    assert_eq!(insight(&proxy)["coherence"]["in_force"], true);
}
