//! Redis killed, restarted, stalled, absent, cut off, replaced: hits go on, misses fail at once and heal soon.
#![allow(clippy::unwrap_used, reason = "a broken part ends the test")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testkit::{Action, FaultProxy, HttpClient, Proxy, RedisServer, Reply, ScriptedRedis, wait_until};

use crate::support::{WORKERS, is_hit, lateness, program, program_without_redis, set_numbered};

const PATIENCE: Duration = Duration::from_secs(10);
/// Errors end this soon after Redis is back.
const HEALED: Duration = Duration::from_millis(250);
/// A refusal that waits for nothing, on a busy machine.
const AT_ONCE: Duration = Duration::from_millis(100);

/// A program before this address with one client a worker.
fn start_at(redis: SocketAddr) -> (Proxy, Vec<HttpClient>) {
    let proxy = program_without_redis().redis_at(redis).set("WORKERS", WORKERS.to_string());
    let proxy = proxy.set("UPSTREAM_TIMEOUT", "300ms").start();
    let clients = (0..WORKERS).map(|_| proxy.client()).collect();
    (proxy, clients)
}

/// Waits until this many connections to Redis were made since the start.
fn wait_connects(proxy: &Proxy, count: usize) {
    wait_until(PATIENCE, "connections to redis", || {
        proxy.metrics().value("redis_proxy_redis_connects_total") >= count as f64
    });
}

/// All clients ask for keys that are in nobody's memory, all the time, until `back` says that Redis is back and
/// each of them has had an answer again. The time from then to the last error, less what this machine was late for each of the four that
/// must run one after the other: who accepts, the worker, Redis, the client.
fn last_error_after(clients: &mut [HttpClient], keys: &str, back: impl FnOnce() -> Instant) -> Duration {
    let (all, refused) = (clients.len(), AtomicUsize::new(0));
    thread::scope(|scope| {
        let refused = &refused;
        let asking: Vec<_> = clients
            .iter_mut()
            .enumerate()
            .map(|(number, client)| {
                scope.spawn(move || {
                    let deadline = Instant::now() + PATIENCE;
                    let (mut last_error, mut answered) = (None, 0);
                    for read in 0.. {
                        let response = client.get(&format!("/{keys}-{number}-{read}"));
                        match response.status {
                            503 | 504 => {
                                if last_error.is_none() {
                                    refused.fetch_add(1, Ordering::Relaxed);
                                }
                                (last_error, answered) = (Some(Instant::now()), 0);
                            }
                            404 => answered += 1,
                            other => panic!("status {other}"),
                        }
                        // An answer that was on its way when Redis went is none of its return.
                        if last_error.is_some() && answered >= 20 {
                            break;
                        }
                        assert!(Instant::now() < deadline, "no answer, the last was {response:?}");
                    }
                    last_error.unwrap()
                })
            })
            .collect();
        // Redis must not be back before a client has begun to ask.
        wait_until(PATIENCE, "all to be refused", || refused.load(Ordering::Relaxed) == all);
        let (late, back) = (lateness(), back());
        let last = asking.into_iter().map(|client| client.join().unwrap()).max().unwrap();
        last.saturating_duration_since(back).saturating_sub(4 * late())
    })
}

fn wait_down(client: &mut HttpClient) {
    wait_until(PATIENCE, "misses to fail", || client.get("/nothing").status == 503);
}

#[test]
fn hits_go_on_and_misses_fail_at_once_while_redis_is_killed_and_heal_when_it_is_back() {
    let redis = RedisServer::start();
    redis.client().set("kept", "v");
    let (proxy, mut clients) = start_at(redis.address());
    wait_connects(&proxy, WORKERS);
    clients[0].get("/kept");
    redis.kill();
    clients.iter_mut().for_each(wait_down);
    for client in &mut clients {
        assert!(is_hit(&client.get("/kept")));
        let asked = Instant::now();
        let response = client.get("/other");
        assert!(asked.elapsed() < AT_ONCE, "a refusal took {:?}", asked.elapsed());
        assert_eq!(response.status, 503);
        assert_eq!(response.header("retry-after"), Some("1"));
        assert_eq!(response.header("cache-control"), Some("no-store"));
    }
    let healed = last_error_after(&mut clients, "cold", || {
        redis.restart();
        Instant::now()
    });
    eprintln!("killed and restarted: the last error {healed:?} after Redis was back");
    assert!(healed <= HEALED, "the last error {healed:?} after Redis was back");
    // Every worker comes back, also those whose clients did not ask.
    wait_connects(&proxy, 2 * WORKERS);
}

#[test]
fn errors_end_soon_after_connections_are_accepted_again() {
    let redis = RedisServer::start();
    let link = FaultProxy::start(redis.address());
    let (_proxy, mut clients) = start_at(link.address());
    for round in 0..3 {
        link.refuse();
        link.reset();
        clients.iter_mut().for_each(wait_down);
        let healed = last_error_after(&mut clients, &format!("cold-{round}"), || {
            link.accept();
            Instant::now()
        });
        eprintln!("refused and accepted: the last error {healed:?} after");
        assert!(healed <= HEALED, "the last error {healed:?} after Redis was back");
    }
}

#[test]
fn a_long_absence_without_a_reader_does_not_delay_the_first_ones() {
    let redis = RedisServer::start();
    let link = FaultProxy::start(redis.address());
    let (proxy, mut clients) = start_at(link.address());
    link.refuse();
    link.reset();
    // Attempts are up to 2 s apart by now: 50, 100, 200, 400 and 800 ms have passed.
    wait_until(PATIENCE, "six attempts a worker", || {
        proxy.metrics().value("redis_proxy_redis_disconnects_total") >= 6.0 * WORKERS as f64
    });
    link.accept();
    let asked = Instant::now();
    // The error of one worker's reader is news to the other worker too.
    wait_until(PATIENCE, "an answer", || clients[0].get("/nothing").status == 404);
    assert!(asked.elapsed() <= HEALED, "errors for {:?}", asked.elapsed());
    wait_until(HEALED, "an answer of the other worker", || clients[1].get("/nothing").status == 404);
}

#[test]
fn silence_is_504_for_all_that_waited_then_503_at_once_and_ends_with_it() {
    let redis = RedisServer::start();
    redis.client().set("kept", "v");
    let (proxy, mut clients) = start_at(redis.address());
    wait_connects(&proxy, WORKERS);
    clients[0].get("/kept");
    wait_until(PATIENCE, "all workers to be connected", || {
        HttpClient::connect(proxy.admin_address()).get("/readyz").status == 200
    });
    redis.pause_process();
    let mut waiting: Vec<_> = (0..3 * WORKERS).map(|_| proxy.client()).collect();
    for (number, client) in waiting.iter_mut().enumerate() {
        client.send(format!("GET /cold-{number} HTTP/1.1\r\nHost: h\r\n\r\n"));
    }
    for client in &mut waiting {
        let response = client.read_response();
        assert_eq!((response.status, response.text()), (504, "redis did not answer in time"));
    }
    for client in &mut clients {
        // The first may wait until the next attempt is silent as well.
        let asked = Instant::now();
        assert_eq!(client.get("/cold").status, 503);
        assert!(asked.elapsed() < HEALED, "the first refusal took {:?}", asked.elapsed());
        let asked = Instant::now();
        assert_eq!(client.get("/cold").status, 503);
        assert!(asked.elapsed() < AT_ONCE, "a refusal took {:?}", asked.elapsed());
        assert!(is_hit(&client.get("/kept")));
    }
    let healed = last_error_after(&mut clients, "again", || {
        redis.resume_process();
        Instant::now()
    });
    eprintln!("stopped and continued: the last error {healed:?} after");
    assert!(healed <= HEALED, "the last error {healed:?} after Redis was back");
}

#[test]
fn an_attempt_that_was_swallowed_does_not_delay_the_return() {
    let redis = RedisServer::start();
    // Takes HELLO and says nothing for ever: what was sent there never comes back.
    let hole = ScriptedRedis::builder().answer("HELLO", "").start(|_, _| Action::Silence);
    let link = FaultProxy::start(hole.address());
    let proxy = program_without_redis().redis_at(link.address()).set("REDIS_CONNECT_TIMEOUT", "5s").start();
    let mut client = proxy.client();
    client.send("GET /cold HTTP/1.1\r\nHost: h\r\n\r\n");
    hole.wait_calls("HELLO", 2, PATIENCE);
    link.retarget(redis.address());
    let back = Instant::now();
    assert_eq!(client.read_response().status, 404);
    eprintln!("after swallowed attempts: answered {:?} after Redis was back", back.elapsed());
    assert!(back.elapsed() <= HEALED, "answered {:?} after Redis was back", back.elapsed());
}

#[test]
fn a_get_lost_with_its_connection_is_sent_once_more() {
    let redis = ScriptedRedis::start(|_, before| match before {
        0 => Action::Close,
        _ => Action::value("v"),
    });
    let (proxy, mut clients) = start_at(redis.address());
    let response = clients[0].get("/k");
    assert_eq!((response.status, response.text()), (200, "v"));
    assert_eq!(redis.calls("GET"), 2);
    assert_eq!(proxy.metrics().value("redis_proxy_redis_retries_total"), 1.0);
}

#[test]
fn a_get_lost_twice_is_503_and_not_sent_a_third_time() {
    let redis = ScriptedRedis::start(|_, _| Action::Close);
    let (_proxy, mut clients) = start_at(redis.address());
    assert_eq!(clients[0].get("/k").status, 503);
    assert_eq!(redis.calls("GET"), 2);
}

#[test]
fn connections_closed_by_redis_cost_no_error() {
    let redis = RedisServer::start();
    let (proxy, mut clients) = start_at(redis.address());
    for round in 0..20 {
        for client in &mut clients {
            assert_eq!(client.get(&format!("/{round}")).status, 404);
        }
        let killed = redis.client().command(&["CLIENT", "KILL", "TYPE", "normal"]);
        assert!(matches!(killed, Reply::Integer(1..)), "{killed:?}");
    }
    wait_until(PATIENCE, "all workers to be connected", || {
        HttpClient::connect(proxy.admin_address()).get("/readyz").status == 200
    });
}

#[test]
fn the_program_starts_without_redis_and_heals_by_itself() {
    let redis = RedisServer::start();
    redis.client().set("k", "v");
    redis.kill();
    let (proxy, mut clients) = start_at(redis.address());
    let ready = || HttpClient::connect(proxy.admin_address()).get("/readyz").status;
    wait_until(PATIENCE, "a refusal", || clients[0].get("/k").status == 503);
    assert_eq!(ready(), 503);
    assert_eq!(HttpClient::connect(proxy.admin_address()).get("/livez").status, 200);
    redis.restart();
    wait_until(PATIENCE, "readiness", || ready() == 200);
    assert_eq!(clients[0].get("/k").status, 404, "restarted without persistence");
}

#[test]
fn the_same_reason_is_logged_once() {
    let redis = RedisServer::start();
    redis.kill();
    let (proxy, mut clients) = start_at(redis.address());
    wait_until(PATIENCE, "ten attempts", || {
        clients.iter_mut().for_each(|client| assert_eq!(client.get("/k").status, 503));
        proxy.metrics().value("redis_proxy_redis_disconnects_total") >= 10.0
    });
    let told = proxy.log().iter().filter(|line| line.message == "redis unavailable").count();
    assert_eq!(told, WORKERS, "one line a worker");
}

#[test]
fn a_half_open_connection_is_noticed_without_a_reader() {
    let redis = RedisServer::start();
    let link = FaultProxy::start(redis.address());
    let proxy = program_without_redis()
        .redis_at(link.address())
        .set("WORKERS", "1")
        .set("REDIS_PING_INTERVAL", "100ms")
        .set("UPSTREAM_TIMEOUT", "200ms")
        .start();
    let mut client = proxy.client();
    assert_eq!(client.get("/k").status, 404);
    link.stall();
    let stalled = Instant::now();
    proxy.wait_log("redis does not answer", PATIENCE);
    assert!(stalled.elapsed() < Duration::from_secs(1), "noticed after {:?}", stalled.elapsed());
    link.pass();
    wait_until(PATIENCE, "an answer", || client.get("/k").status == 404);
}

#[test]
fn an_idle_connection_is_pinged() {
    let redis = ScriptedRedis::start(|_, _| Action::value("v"));
    let _proxy =
        program().redis_at(redis.address()).set("WORKERS", "1").set("REDIS_PING_INTERVAL", "20ms").start();
    redis.wait_calls("PING", 3, PATIENCE);
    assert_eq!(redis.accepted(), 1);
}

#[test]
fn delay_and_chunks_of_one_byte_change_nothing() {
    let redis = RedisServer::start();
    set_numbered(&redis, 50);
    let link = FaultProxy::start(redis.address());
    let (_proxy, mut clients) = start_at(link.address());
    link.chunk(1);
    let ask = |clients: &mut [HttpClient], keys: std::ops::Range<usize>| {
        for client in clients.iter_mut() {
            client.send(
                keys.clone().map(|key| format!("GET /{key} HTTP/1.1\r\nHost: h\r\n\r\n")).collect::<String>(),
            );
        }
        for client in clients.iter_mut() {
            keys.clone().for_each(|key| assert_eq!(client.read_response().text(), format!("value-of-{key}")));
        }
    };
    ask(&mut clients, 0..25);
    link.delay(Duration::from_millis(20));
    ask(&mut clients, 25..50);
}

#[test]
fn a_redis_replaced_behind_its_name_is_found() {
    // Names come from a hosts file that only the program sees, in a mount namespace of its own.
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 redis.test\n").unwrap();
    let script = folder.path().join("in-namespace");
    let text = format!(
        "#!/bin/sh\nexec unshare -rm sh -c 'mount --bind {} /etc/hosts && exec {} \"$@\"' sh \"$@\"\n",
        hosts.display(),
        env!("CARGO_BIN_EXE_redis-proxy")
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let version = testkit::run_to_end(&script, &[], &["--version"], PATIENCE);
    if !version.status.success() {
        eprintln!("not tested: no mount namespaces here: {}", version.stderr);
        return;
    }
    let old = RedisServer::start();
    let port = old.port().to_string();
    let new = RedisServer::builder().config("port", &port).config("bind", "127.0.0.2").start();
    old.client().set("which", "old");
    new.client().set("which", "new");
    let proxy = Proxy::builder(&script)
        .set("REDIS_URL", format!("redis://redis.test:{port}"))
        .set("GLOBAL_EXPIRY", "1ms")
        .allow_warning("redis unavailable")
        .allow_warning("connection to redis lost")
        .start();
    let mut client = proxy.client();
    assert_eq!(client.get("/which").text(), "old");
    // In place: a bind mount shows the file, not the name.
    std::fs::write(&hosts, "127.0.0.2 redis.test\n").unwrap();
    let replaced = Instant::now();
    old.kill();
    wait_until(PATIENCE, "the new Redis", || {
        let response = client.get("/which");
        response.status == 200 && response.text() == "new"
    });
    eprintln!("replaced behind its name: found after {:?}", replaced.elapsed());
    assert!(replaced.elapsed() <= Duration::from_secs(1));
}
