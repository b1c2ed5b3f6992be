//! Concurrent misses of one key cost one GET, whoever leaves and whatever becomes of it.
#![allow(clippy::unwrap_used, reason = "a broken part ends the test")]

use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use testkit::{Action, FaultProxy, HttpClient, Proxy, RedisServer, ScriptedRedis, wait_until};

use crate::support::{WORKERS, is_hit, program, start_resp_in, wait_in_force};

const PATIENCE: Duration = Duration::from_secs(20);

/// Redis stands still for as long as a test likes.
fn start_patient() -> (RedisServer, Proxy) {
    let redis = RedisServer::start();
    let workers = WORKERS.to_string();
    let proxy = program().redis(&redis).set("UPSTREAM_TIMEOUT", "60s").set("WORKERS", workers).start();
    (redis, proxy)
}

fn ask(proxy: &Proxy, target: &str) -> HttpClient {
    let mut client = proxy.client();
    client.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
    client
}

/// Its end resets the connection. (A FIN would only say that no more requests come.)
fn ask_and_leave(proxy: &Proxy, target: &str) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).unwrap();
    stream
}

fn wait_lookups(proxy: &Proxy, count: usize) {
    wait_until(PATIENCE, "all to have asked", || {
        proxy.metrics().sum("redis_proxy_lookups_total") == count as f64
    });
}

#[test]
fn forty_clients_on_two_cold_keys_cost_two_gets() {
    let (redis, proxy) = start_patient();
    redis.client().set("a", "1");
    redis.client().set("b", "2");
    redis.pause_process();
    let mut clients: Vec<_> =
        (0..40).map(|n| (n, ask(&proxy, if n % 2 == 0 { "/a" } else { "/b" }))).collect();
    wait_lookups(&proxy, 40);
    redis.resume_process();
    for (n, client) in &mut clients {
        let response = client.read_response();
        assert_eq!(response.text(), if *n % 2 == 0 { "1" } else { "2" });
    }
    assert_eq!(redis.command_calls("get"), 2);
    let metrics = proxy.metrics();
    assert_eq!(metrics.value("redis_proxy_lookups_total{result=\"miss\"}"), 2.0);
    assert_eq!(metrics.value("redis_proxy_lookups_total{result=\"collapsed\"}"), 38.0);
}

#[test]
fn a_client_that_leaves_cancels_the_fetch_for_nobody() {
    let (redis, proxy) = start_patient();
    redis.client().set("k", "v");
    redis.pause_process();
    let leader = ask_and_leave(&proxy, "/k");
    wait_lookups(&proxy, 1);
    let mut stays = ask(&proxy, "/k");
    let waiter = ask_and_leave(&proxy, "/k");
    wait_lookups(&proxy, 3);
    drop((leader, waiter));
    wait_until(PATIENCE, "both to be gone", || proxy.metrics().value("redis_proxy_clients") == 1.0);
    redis.resume_process();
    assert_eq!(stays.read_response().text(), "v");
    assert_eq!(redis.command_calls("get"), 1);
}

#[test]
fn a_fetch_that_all_have_left_is_kept() {
    let (redis, proxy) = start_patient();
    redis.client().set("k", "v");
    redis.pause_process();
    let leaves = ask_and_leave(&proxy, "/k");
    wait_lookups(&proxy, 1);
    drop(leaves);
    wait_until(PATIENCE, "it to be gone", || proxy.metrics().value("redis_proxy_clients") == 0.0);
    redis.resume_process();
    wait_until(PATIENCE, "the fill", || proxy.metrics().value("redis_proxy_entries") == 1.0);
    assert!(is_hit(&proxy.get("/k")));
}

#[test]
fn a_failed_leader_fails_its_waiters_and_nothing_else() {
    // Holds back the answer to `bad` until all have asked.
    let (open, gate) = mpsc::channel();
    let gate = Arc::new(Mutex::new(gate));
    let redis = ScriptedRedis::start(move |key, _| match key {
        b"bad" => {
            gate.lock().unwrap().recv().unwrap();
            Action::Reply(b"-ERR boom\r\n".to_vec())
        }
        _ => Action::value(key),
    });
    let proxy =
        program().redis_at(redis.address()).set("UPSTREAM_TIMEOUT", "60s").set("WORKERS", "1").start();
    let mut failing: Vec<_> = (0..10).map(|_| ask(&proxy, "/bad")).collect();
    let mut other = ask(&proxy, "/good");
    wait_lookups(&proxy, 11);
    open.send(()).unwrap();
    let mut collapsed = 0;
    for client in &mut failing {
        let response = client.read_response();
        assert_eq!((response.status, response.text()), (502, "ERR boom"));
        let status = response.header("cache-status");
        collapsed += usize::from(status == Some("redis-proxy; fwd=uri-miss; collapsed"));
    }
    assert_eq!(collapsed, 9, "all but the leader");
    assert_eq!(other.read_response().text(), "good");
    assert_eq!(redis.calls("GET"), 2);
    // An error is not kept: the next read asks again.
    open.send(()).unwrap();
    assert_eq!(failing[0].get("/bad").status, 502);
    assert_eq!(redis.calls("GET"), 3);
}

#[test]
fn ten_thousand_clients_on_one_cold_key_cost_one_get() {
    // As many as this process may have files, with some for the tests beside this one.
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let files: usize = files.split_whitespace().nth(3).unwrap().parse().unwrap_or(usize::MAX);
    let count = 10_000.min(files.saturating_sub(2_000));
    if count < 10_000 {
        eprintln!("only {count} clients: this process may open {files} files");
    }
    let (redis, proxy) = start_patient();
    redis.client().set("k", "v");
    let at_ready = proxy.resident_bytes();
    let mut clients: Vec<HttpClient> = (0..count).map(|_| proxy.client()).collect();
    wait_until(PATIENCE, "all to have a place", || {
        proxy.metrics().value("redis_proxy_clients") == count as f64
    });
    let idle = proxy.resident_bytes();
    eprintln!("{count} idle clients: {} KiB resident, {} KiB of it before them", idle >> 10, at_ready >> 10);
    assert!(idle <= 120 << 20, "{idle} bytes resident with {count} idle clients");
    redis.pause_process();
    for client in &mut clients {
        client.send("GET /k HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    wait_lookups(&proxy, count);
    let resumed = Instant::now();
    redis.resume_process();
    for client in &mut clients {
        assert_eq!(client.read_response().text(), "v");
    }
    eprintln!("{count} waiting clients answered in {:?}", resumed.elapsed());
    assert_eq!(redis.command_calls("get"), 1);
}

/// Readers who each want what is true from their own time on, of one cold key, while Redis stands still.
fn herd(redis: &RedisServer, proxy: &Proxy, readers: usize, ask: impl Fn() -> HttpClient) {
    redis.client().set("k", "v");
    let sum = || proxy.metrics().sum("redis_proxy_lookups_total");
    let (gets, before) = (redis.command_calls("get"), sum());
    redis.pause_process();
    let mut clients: Vec<_> = (0..readers).map(|_| ask()).collect();
    wait_until(PATIENCE, "all to have asked", || sum() >= before + readers as f64);
    redis.resume_process();
    for client in &mut clients {
        assert_eq!(client.read_response().text(), "v");
    }
    let pttls = redis.command_calls("pttl");
    let gets = redis.command_calls("get") - gets;
    assert!(gets <= 3, "{gets} GETs for {readers} readers");
    assert!(pttls <= 3 + 1, "{pttls} PTTLs, one of them the canary's");
}

#[test]
fn a_herd_of_strict_readers_on_a_cold_key_costs_three_fetches() {
    let redis = RedisServer::start();
    // A link that is silent for this long is not lost.
    let settings = [("COHERENCE", "strict"), ("UPSTREAM_TIMEOUT", "60s"), ("MAX_STALENESS", "10s")];
    let program = settings.iter().fold(program(), |program, (name, value)| program.set(name, value));
    let proxy = program.redis(&redis).start();
    wait_in_force(&proxy);
    herd(&redis, &proxy, 200, || ask(&proxy, "/k"));
}

#[test]
fn nor_does_no_cache_cost_more_where_it_is_honoured() {
    for mode in ["tracking", "ttl"] {
        let redis = RedisServer::start();
        let settings = [("COHERENCE", mode), ("UPSTREAM_TIMEOUT", "60s"), ("MAX_STALENESS", "10s")];
        let program = settings.iter().fold(program(), |program, (name, value)| program.set(name, value));
        let proxy = program.set("HONOR_NO_CACHE", "on").redis(&redis).start();
        if mode != "ttl" {
            wait_in_force(&proxy);
        }
        herd(&redis, &proxy, 200, || {
            let mut client = proxy.client();
            client.send("GET /k HTTP/1.1\r\nHost: h\r\nCache-Control: no-cache\r\n\r\n");
            client
        });
    }
}

#[test]
fn what_waits_behind_a_lost_connection_is_fetched_on_the_next_one() {
    let redis = RedisServer::start();
    let link = FaultProxy::start(redis.address());
    let program = program().redis_at(link.address()).set("COHERENCE", "strict").set("MAX_STALENESS", "10s");
    let proxy = program.set("UPSTREAM_TIMEOUT", "60s").start();
    proxy.allow_warning("connection to redis lost");
    proxy.allow_warning("coherence is not in force");
    wait_in_force(&proxy);
    redis.client().set("k", "v");
    link.stall_replies();
    let mut clients: Vec<_> = (0..20).map(|_| ask(&proxy, "/k")).collect();
    wait_lookups(&proxy, 20);
    link.pass();
    link.reset();
    for client in &mut clients {
        assert_eq!(client.read_response().text(), "v");
    }
    // On either connection two of the key and one of the canary, and on the second one more behind the two.
    let gets = redis.command_calls("get");
    assert!(gets <= 3 + 4, "{gets} GETs for 20 readers");
}

#[test]
fn a_herd_that_nobody_answers_ends_as_a_fetch_does() {
    let redis = RedisServer::start();
    let program = program().redis(&redis).set("COHERENCE", "strict").set("UPSTREAM_TIMEOUT", "500ms");
    let proxy = program.set("REDIS_CONNECT_TIMEOUT", "500ms").start();
    proxy.allow_warning("connection to redis lost");
    proxy.allow_warning("redis unavailable");
    proxy.allow_warning("coherence is not in force");
    wait_in_force(&proxy);
    redis.pause_process();
    let mut clients: Vec<_> = (0..20).map(|_| ask(&proxy, "/k")).collect();
    for client in &mut clients {
        client.set_read_timeout(PATIENCE);
        let status = client.read_response().status;
        assert!(status == 503 || status == 504, "{status}");
    }
    redis.resume_process();
    wait_until(PATIENCE, "answers again", || proxy.get("/k").status == 404);
}

#[test]
fn nor_does_a_herd_of_redis_clients_cost_more() {
    let (redis, proxy) = start_resp_in("strict", &[("UPSTREAM_TIMEOUT", "60s"), ("MAX_STALENESS", "10s")]);
    redis.client().command(&["RPUSH", "list", "a"]);
    redis.client().set("other", "o");
    let mut clients: Vec<_> = (0..100).map(|_| proxy.resp_client()).collect();
    // Each is let in.
    for client in &mut clients {
        client.ask("GET other", "$1\r\no");
    }
    let lookups = || proxy.metrics().sum("redis_proxy_lookups_total");
    let before = lookups();
    redis.pause_process();
    for client in &mut clients {
        client.send("LRANGE list 0 -1\r\n");
    }
    wait_until(PATIENCE, "all to have asked", || lookups() >= before + 100.0);
    redis.resume_process();
    for client in &mut clients {
        client.expect("*1\r\n$1\r\na\r\n");
    }
    let asked = redis.command_calls("lrange");
    assert!(asked <= 3, "{asked} for 100 clients");
}
