//! What a reload changes of what is asked of Redis at a time, of how long it is waited for, and of what clients may leave to wait.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use testkit::{Action, FaultProxy, HttpClient, Proxy, RawClient, RedisServer, ScriptedRedis, wait_until};

use crate::reloaded::Reloaded;
use crate::support::{is_hit, program, program_without_redis};

const PATIENCE: Duration = Duration::from_secs(20);

fn gauge(proxy: &Proxy, name: &str, value: f64) {
    wait_until(PATIENCE, name, || proxy.metrics().value(name) == value);
}

/// A client that has asked for a key and waits.
fn asks(proxy: &Proxy, target: &str) -> HttpClient {
    let mut client = proxy.client();
    client.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
    client
}

#[test]
fn more_fetches_may_be_under_way_and_those_are_waited_for_as_long_as_the_new_settings_say() {
    let settings = |inflight: usize, patience: &str| {
        format!("max_inflight = {inflight}\nupstream_timeout = \"{patience}\"\n")
    };
    let program = program_without_redis().set("WORKERS", "1");
    let mut all = Reloaded::start(program, &settings(1, "10m"));
    assert_eq!(all.proxy.get("/0").status, 404);
    all.redis.pause_process();
    let mut waiting = vec![asks(&all.proxy, "/1")];
    gauge(&all.proxy, "redis_proxy_fills_in_flight", 1.0);
    assert_eq!(all.proxy.get("/2").status, 503);
    assert_eq!(all.reload(&settings(2, "10m")), "MAX_INFLIGHT");
    waiting.push(asks(&all.proxy, "/2"));
    gauge(&all.proxy, "redis_proxy_fills_in_flight", 2.0);
    assert_eq!(all.proxy.get("/3").status, 503);
    // Those that wait are no longer waited for.
    assert_eq!(all.reload(&settings(2, "200ms")), "UPSTREAM_TIMEOUT");
    for client in &mut waiting {
        let answer = client.read_response();
        assert_eq!(answer.status, 504, "{}", answer.text());
    }
    all.redis.resume_process();
    wait_until(PATIENCE, "an answer", || all.proxy.get("/1").status == 404);
}

#[test]
fn an_attempt_to_connect_takes_as_long_as_the_new_settings_say() {
    let hole = ScriptedRedis::builder().answer("HELLO", "").start(|_, _| Action::Silence);
    let url = format!("redis://{}", hole.address());
    let program = program_without_redis().set("WORKERS", "1");
    let mut all = Reloaded::before(hole, &url, program, "redis_connect_timeout = \"200ms\"\n");
    all.proxy.wait_log("no connection within 200ms", PATIENCE);
    assert_eq!(all.reload("redis_connect_timeout = \"300ms\"\n"), "REDIS_CONNECT_TIMEOUT");
    all.proxy.wait_log("no connection within 300ms", PATIENCE);
}

#[test]
fn an_idle_connection_is_pinged_as_often_as_the_new_settings_say_and_its_replies_may_be_as_large() {
    let redis = ScriptedRedis::start(|_, _| Action::value("x".repeat(2_000)));
    let url = format!("redis://{}", redis.address());
    let settings = |pings: &str, bytes: &str| {
        format!("redis_ping_interval = \"{pings}\"\nmax_reply_bytes = \"{bytes}\"\n")
    };
    let program = program().set("WORKERS", "1").set("MAX_VALUE_BYTES", "1KiB").set("REDIS_WITNESSES", "off");
    let program = program.set("UPSTREAM_TIMEOUT", "60s");
    let mut all = Reloaded::before(redis, &url, program, &settings("1h", "4KiB"));
    assert_eq!(all.proxy.get("/k").status, 200);
    assert_eq!(all.redis.calls("PING"), 0);
    let connections = all.redis.accepted();
    assert_eq!(all.reload(&settings("20ms", "1KiB")), "REDIS_PING_INTERVAL MAX_REPLY_BYTES");
    assert_eq!(all.proxy.get("/k").status, 502);
    all.redis.wait_calls("PING", 3, PATIENCE);
    assert_eq!(all.reload(&settings("20ms", "2KiB")), "MAX_REPLY_BYTES");
    assert_eq!(all.proxy.get("/k").status, 200);
    assert_eq!(all.redis.accepted(), connections, "none is made anew");
}

#[test]
fn open_connections_log_in_again_once_the_new_settings_say_so() {
    let redis = ScriptedRedis::start(|_, _| Action::value("v"));
    let url = format!("redis://:pw@{}", redis.address());
    let program = program().set("WORKERS", "1").set("REDIS_WITNESSES", "off").set("UPSTREAM_TIMEOUT", "60s");
    let mut all = Reloaded::before(redis, &url, program, "");
    assert_eq!(all.proxy.get("/k").status, 200);
    let (before, connections) = (all.redis.calls("AUTH"), all.redis.accepted());
    assert_eq!(all.reload("redis_reauth = \"1s\"\n"), "REDIS_REAUTH");
    all.redis.wait_calls("AUTH", before + 2, PATIENCE);
    assert_eq!(all.redis.accepted(), connections);
}

#[test]
fn a_request_may_ask_for_what_redis_holds_now_once_the_new_settings_say_so() {
    let mut all = Reloaded::start(program().set("WORKERS", "1"), "");
    all.redis.client().set("k", "old");
    let mut client = all.proxy.client();
    client.get("/k");
    all.redis.client().set("k", "new");
    let mut ask = || client.request("GET", "/k", &[("Cache-Control", "no-cache")]);
    // Twice and more, so that its head is known.
    for _ in 0..3 {
        assert_eq!(ask().text(), "old");
    }
    assert_eq!(all.reload("honor_no_cache = \"on\"\n"), "HONOR_NO_CACHE");
    assert_eq!(ask().text(), "new");
    assert_eq!(all.reload(""), "HONOR_NO_CACHE");
    assert!(is_hit(&ask()));
}

/// Whether one who comes is told that there is no place, and does not wait.
fn is_turned_away(proxy: &Proxy) -> bool {
    let mut client = asks(proxy, "/k");
    client.read_response().status == 503
}

#[test]
fn as_many_wait_for_a_place_and_as_long_as_the_new_settings_say() {
    let program = program().set("WORKERS", "1").set("MAX_CLIENTS", "1");
    let settings =
        |waiting: usize, wait: &str| format!("max_waiting = {waiting}\nclient_wait = \"{wait}\"\n");
    let mut all = Reloaded::start(program, &settings(0, "10m"));
    // A Redis client, as an idle one of HTTP would give its place up.
    let mut there = all.proxy.resp_client();
    there.ask("PING", "+PONG");
    assert!(is_turned_away(&all.proxy));
    assert_eq!(all.reload(&settings(1, "10m")), "MAX_WAITING");
    let mut waits = asks(&all.proxy, "/k");
    gauge(&all.proxy, "redis_proxy_waiting_clients", 1.0);
    assert!(is_turned_away(&all.proxy));
    drop(there);
    assert_eq!(waits.read_response().status, 404);
    drop(waits);
    let mut there = all.proxy.resp_client();
    wait_until(PATIENCE, "the place", || {
        let told = there.try_send("PING\r\n").map(|()| there.line());
        match told {
            Ok(line) if line == "+PONG" => true,
            Err(error) => panic!("{error}"),
            Ok(_) => {
                there = all.proxy.resp_client();
                false
            }
        }
    });
    assert_eq!(all.reload(&settings(1, "100ms")), "CLIENT_WAIT");
    // It would wait for ten minutes otherwise.
    assert!(is_turned_away(&all.proxy));
}

#[test]
fn the_end_waits_as_long_as_the_new_settings_say() {
    let program = program().set("WORKERS", "1").set("UPSTREAM_TIMEOUT", "60s");
    let mut all = Reloaded::start(program, "shutdown_delay = \"10m\"\nshutdown_timeout = \"10m\"\n");
    all.redis.pause_process();
    let _waits = asks(&all.proxy, "/k");
    gauge(&all.proxy, "redis_proxy_fills_in_flight", 1.0);
    let changed = all.reload("shutdown_delay = \"0s\"\nshutdown_timeout = \"100ms\"\n");
    assert_eq!(changed, "SHUTDOWN_DELAY SHUTDOWN_TIMEOUT");
    all.proxy.allow_warning("clients left unanswered");
    assert_eq!(all.proxy.stop().code(), Some(0));
}

#[test]
fn open_redis_clients_may_do_what_the_new_settings_say() {
    let settings = |admin: &str, pinned: usize, slow: &str| {
        format!("resp_proxy_admin = \"{admin}\"\nmax_pinned = {pinned}\nslowlog_threshold = \"{slow}\"\n")
    };
    let program = program().set("WORKERS", "1").set("RESP_COHERENCE", "off").set("RESP_IDENTITY", "proxy");
    let mut all = Reloaded::start(program, &settings("off", 0, "off"));
    let mut client = all.proxy.resp_client();
    client.ask("WATCH k", "-ERR proxy: too many pinned connections");
    assert!(client.send("PROXY CACHE FLUSH\r\n").line().starts_with("-NOPERM"));
    assert!(client.send("PROXY SLOWLOG LEN\r\n").line().starts_with("-NOPERM"));
    let changed = all.reload(&settings("all", 1, "1us"));
    assert_eq!(changed, "RESP_PROXY_ADMIN MAX_PINNED SLOWLOG_THRESHOLD");
    client.ask("WATCH k", "+OK").ask("UNWATCH", "+OK");
    wait_until(PATIENCE, "who may", || client.send("PROXY CACHE FLUSH\r\n").line() == "+OK");
    client.ask("GET k", "$-1");
    wait_until(PATIENCE, "a slow command", || client.send("PROXY SLOWLOG LEN\r\n").line() != ":0");
    assert_eq!(all.reload(&settings("loopback", 1, "off")), "RESP_PROXY_ADMIN SLOWLOG_THRESHOLD");
    client.ask("PROXY SLOWLOG RESET", "+OK").ask("GET k", "$-1").ask("PROXY SLOWLOG LEN", ":0");
    assert_eq!(all.reload(&settings("off", 1, "off")), "RESP_PROXY_ADMIN");
    wait_until(PATIENCE, "who may not", || {
        client.send("PROXY CACHE FLUSH\r\n").line().starts_with("-NOPERM")
    });
}

/// Waits until the worker goes by RESP_PROXY_ADMIN=all, and so by all that was reloaded with it.
fn wait_taken_over(client: &mut RawClient) {
    wait_until(PATIENCE, "what is reloaded", || client.send("PROXY CACHE FLUSH\r\n").line() == "+OK");
}

#[test]
fn as_many_commands_are_under_way_as_the_new_settings_say() {
    // The third is the one that fills so many bytes, or the seventh.
    let key = "k".repeat(30_000);
    let cases = [
        ("RESP_PIPELINE", "3", "7", true),
        ("RESP_LANE_INFLIGHT", "3", "7", false),
        ("RESP_LANE_BYTES", "64KiB", "200KiB", false),
    ];
    for (name, before, after, new_client) in cases {
        let settings = |most: &str, admin: &str| {
            format!("{} = \"{most}\"\nresp_proxy_admin = \"{admin}\"\n", name.to_lowercase())
        };
        let gets = format!("GET {key}\r\n").repeat(20);
        let redis = ScriptedRedis::start(|_, _| Action::Silence);
        let url = format!("redis://{}", redis.address());
        let program = program().set("WORKERS", "1").set("RESP_COHERENCE", "off");
        let program = program.set("RESP_LANE_TIMEOUT", "10m").set("RESP_IDENTITY", "proxy");
        let mut all = Reloaded::before(redis, &url, program, &settings(before, "off"));
        let (mut first, mut operator) = (all.proxy.resp_client(), all.proxy.resp_client());
        operator.ask("PROXY CACHE GET k", "$-1");
        first.send(&gets);
        all.redis.wait_calls("GET", 3, PATIENCE);
        // Its turn was over before this is answered.
        operator.ask("PROXY CACHE GET k", "$-1");
        assert_eq!(all.redis.calls("GET"), 3, "{name}");
        assert!(all.reload(&settings(after, "all")).contains(name));
        wait_taken_over(&mut operator);
        let (mut second, total) = (all.proxy.resp_client(), if new_client { 3 + 7 } else { 7 });
        if new_client {
            second.send(&gets);
        }
        all.redis.wait_calls("GET", total, PATIENCE);
        operator.ask("PROXY CACHE GET k", "$-1");
        assert_eq!(all.redis.calls("GET"), total, "{name}");
    }
}

#[test]
fn what_clients_leave_unread_is_bounded_as_the_new_settings_say() {
    for name in ["RESP_OUTPUT_LIMIT_BYTES", "RESP_UNREAD_BYTES"] {
        let settings = |most: &str, admin: &str| {
            format!("{} = \"{most}\"\nresp_proxy_admin = \"{admin}\"\n", name.to_lowercase())
        };
        let program = program().set("WORKERS", "1").set("RESP_COHERENCE", "off");
        let mut all = Reloaded::start(program, &settings("1GiB", "off"));
        all.redis.client().set("k", vec![b'x'; 12 << 20]);
        let closed = |all: &Reloaded| {
            all.proxy.metrics().value("redis_proxy_resp_closed_clients_total{reason=\"unread\"}")
        };
        let unread = |all: &Reloaded| all.proxy.metrics().value("redis_proxy_resp_unread_bytes");
        let mut operator = all.proxy.resp_client();
        let mut patient = all.proxy.resp_client().with_small_buffer();
        patient.send("GET k\r\n");
        wait_until(PATIENCE, "a reply that nobody reads", || unread(&all) > 0.0);
        assert!(all.reload(&settings("1MiB", "all")).contains(name));
        wait_taken_over(&mut operator);
        // One that is open, too.
        operator.with_small_buffer().send("GET k\r\n");
        wait_until(PATIENCE, "a client that is closed", || closed(&all) >= 1.0);
    }
}

#[test]
fn lanes_are_waited_for_and_kept_as_the_new_settings_say() {
    let redis = RedisServer::start();
    let faults = FaultProxy::start(redis.address());
    let url = format!("redis://{}", faults.address());
    let settings = |patience: &str, idle: &str| {
        format!("resp_lane_timeout = \"{patience}\"\nresp_lane_idle = \"{idle}\"\n")
    };
    let program = program_without_redis().set("WORKERS", "1").set("RESP_COHERENCE", "off");
    let program = program.set("RESP_IDENTITY", "proxy").allow_warning("redis does not answer on a lane");
    let mut all = Reloaded::before((redis, faults), &url, program, &settings("10m", "1h"));
    let mut client = all.proxy.resp_client();
    client.ask("SET k v", "+OK");
    all.redis.1.stall_replies();
    client.send("GET k\r\n");
    assert!(client.is_silent_for(Duration::from_millis(20)));
    assert_eq!(all.reload(&settings("100ms", "1h")), "RESP_LANE_TIMEOUT");
    // It is waited for already.
    client.expect("-ERR proxy: upstream timeout\r\n");
    all.redis.1.pass();
    client.ask("GET k", "$1\r\nv").ask("WATCH k", "+OK").ask("UNWATCH", "+OK");
    gauge(&all.proxy, "redis_proxy_open_lanes", 1.0);
    assert_eq!(all.reload(&settings("100ms", "10ms")), "RESP_LANE_IDLE");
    gauge(&all.proxy, "redis_proxy_open_lanes", 0.0);
}

#[test]
fn so_many_lanes_are_open_as_the_new_settings_say() {
    let program = program().set("WORKERS", "1").set("RESP_COHERENCE", "off").set("RESP_IDENTITY", "proxy");
    let mut all = Reloaded::start(
        program,
        "max_lanes = 1
",
    );
    let (mut one, mut two) = (all.proxy.resp_client(), all.proxy.resp_client());
    two.ask("SELECT 1", "+OK");
    // The one lane is that of the other database, and busy.
    all.redis.client().command(&["CLIENT", "PAUSE", "600000", "WRITE"]);
    let opened = |proxy: &Proxy| proxy.metrics().value("redis_proxy_lanes_total{event=\"opened\"}");
    let before = opened(&all.proxy);
    one.send("SET k v\r\n");
    wait_until(PATIENCE, "the other lane", || opened(&all.proxy) > before);
    two.ask("GET k", "-ERR proxy: too many lanes");
    assert_eq!(all.reload("max_lanes = 2\n"), "MAX_LANES");
    // What one was told is told to others for a moment.
    wait_until(PATIENCE, "a second lane", || two.send("GET k\r\n").line() == "$-1");
    all.redis.client().command(&["CLIENT", "UNPAUSE"]);
    one.expect("+OK\r\n");
}

#[test]
fn a_proof_that_nobody_need_log_in_counts_as_long_as_the_new_settings_say() {
    let mut all = Reloaded::start(program().set("WORKERS", "1"), "anonymous_proof = \"1h\"\n");
    for text in ["redis unavailable", "connection to redis lost", "coherence is not in force"] {
        all.proxy.allow_warning(text);
    }
    all.proxy.resp_client().ask("EXISTS k", ":0");
    all.redis.client().command(&["CONFIG", "SET", "requirepass", "pw"]);
    let first = |all: &Reloaded| all.proxy.resp_client().send("HELLO 2\r\n").line();
    assert_eq!(first(&all), "*14");
    assert_eq!(all.reload("anonymous_proof = \"1ms\"\n"), "ANONYMOUS_PROOF");
    wait_until(PATIENCE, "a client that must log in", || first(&all).starts_with("-NOAUTH"));
}

/// What remains of the silence after which the kernel asks a client of ours whether it is there, in seconds, as `ss` tells.
fn keepalive_seconds(client: SocketAddr) -> f64 {
    let told = Command::new("ss").args(["-tnoH", &format!("dst = {client}")]).output().expect("ss");
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    let timer = text.split("timer:(keepalive,").nth(1).unwrap_or_else(|| panic!("{text}"));
    // `59min`, `1min39sec`, `99sec`, `300ms`.
    let mut rest = timer.split(',').next().expect("a time");
    let mut seconds = 0.0;
    while let Some(end) = rest.find(|letter: char| letter.is_ascii_alphabetic()) {
        let (number, after) = rest.split_at(end);
        let units = [("min", 60.0), ("sec", 1.0), ("ms", 0.001)];
        let (unit, factor) = units.into_iter().find(|(unit, _)| after.starts_with(unit)).expect("a unit");
        seconds += number.parse::<f64>().expect("a number") * factor;
        rest = &after[unit.len()..];
    }
    seconds
}

#[test]
fn who_comes_is_asked_whether_it_is_there_as_often_as_the_new_settings_say() {
    let mut all = Reloaded::start(program(), "client_keepalive = \"1h\"\n");
    let http = TcpStream::connect(all.proxy.address()).expect("a client");
    wait_until(PATIENCE, "an hour", || keepalive_seconds(http.local_addr().expect("bound")) > 600.0);
    assert_eq!(all.reload("client_keepalive = \"100s\"\n"), "CLIENT_KEEPALIVE");
    for address in [all.proxy.address(), all.proxy.resp_address(), all.proxy.admin_address()] {
        wait_until(PATIENCE, "less than that", || {
            let client = TcpStream::connect(address).expect("a client");
            keepalive_seconds(client.local_addr().expect("bound")) <= 120.0
        });
    }
}

#[test]
fn as_much_is_assembled_for_a_client_as_the_new_settings_say() {
    let mut all = Reloaded::start(program().set("WORKERS", "1"), "output_buffer_bytes = \"1KiB\"\n");
    all.redis.client().set("k", vec![b'x'; 8 << 10]);
    assert_eq!(all.proxy.get("/k").status, 200);
    assert_eq!(all.reload("output_buffer_bytes = \"64MiB\"\n"), "OUTPUT_BUFFER_BYTES");
    let before = all.proxy.resident_bytes();
    // Forty mebibytes, of which the kernel takes a few.
    let mut client = all.proxy.client();
    client.send("GET /k HTTP/1.1\r\nHost: h\r\n\r\n".repeat(5_000));
    wait_until(PATIENCE, "what is assembled", || all.proxy.resident_bytes() > before + (16 << 20));
}
