//! What a Redis client sees when Redis goes away.

use std::time::{Duration, Instant};

use testkit::{FaultProxy, RedisServer, Signal};

use crate::support::{program, program_without_redis};

const UNREACHABLE: &str = "-MASTERDOWN proxy: upstream unreachable";

fn start(settings: &[(&str, &str)]) -> (RedisServer, FaultProxy, testkit::Proxy) {
    let redis = RedisServer::start();
    let faults = FaultProxy::start(redis.address());
    let program = program_without_redis()
        .allow_warning("lane")
        .redis_at(faults.address())
        .set("RESP_PORT", "0")
        .set("MAX_STALENESS", "5s");
    let program = settings.iter().fold(program, |program, (name, value)| program.set(name, value));
    (redis, faults, program.start())
}

#[test]
fn without_redis_a_command_waits_its_time_and_is_told_and_all_is_well_after() {
    let (redis, _faults, proxy) = start(&[("WORKERS", "1"), ("RESP_COHERENCE", "off")]);
    let mut client = proxy.resp_client();
    client.ask("SET k v", "+OK");
    redis.kill();
    let mut client = proxy.resp_client();
    let begun = Instant::now();
    client.ask("GET k", UNREACHABLE);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    client.ask("MULTI", "+OK").ask("INCR k", UNREACHABLE);
    client.ask("EXEC", "-EXECABORT Transaction discarded because of previous errors.");
    redis.restart();
    let mut client = proxy.resp_client();
    // Reads, which may be lost and sent once more: a write that is lost with its connection ends its client.
    testkit::wait_until(Duration::from_secs(5), "Redis is back", || {
        client.send("EXISTS k\r\n").line() == ":0"
    });
    client.ask("SET k w", "+OK").ask("GET k", "$1\r\nw");
}

#[test]
fn a_redis_that_takes_no_further_client_is_away_in_either_version_of_resp() {
    let redis = RedisServer::start();
    let mut admin = redis.client();
    let proxy = program_without_redis().allow_warning("lane").redis(&redis);
    let proxy = proxy.set("RESP_PORT", "0").set("RESP_COHERENCE", "off").set("WORKERS", "1").start();
    let (mut resp2, mut resp3) = (proxy.resp_client(), proxy.resp_client());
    resp3.resp3();
    for client in [&mut resp2, &mut resp3] {
        client.ask("SET k v", "+OK");
    }
    admin.command(&["CONFIG", "SET", "maxclients", "1"]);
    admin.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    for client in [&mut resp2, &mut resp3] {
        client.ask("GET k", UNREACHABLE).ask("SET k w", UNREACHABLE).ask("WATCH k", UNREACHABLE);
    }
    resp2.ask("HELLO 3", UNREACHABLE);
    admin.command(&["CONFIG", "SET", "maxclients", "100"]);
    for client in [&mut resp2, &mut resp3] {
        testkit::wait_until(Duration::from_secs(5), "Redis to take clients", || {
            client.send("EXISTS k\r\n").line() == ":1"
        });
    }
}

#[test]
fn what_is_refused_without_redis_is_not_overtaken_by_what_is_answered_here() {
    let (redis, _faults, proxy) = start(&[("WORKERS", "1"), ("RESP_COHERENCE", "off")]);
    let mut client = proxy.resp_client();
    client.ask("SET k v", "+OK");
    redis.kill();
    client.ask("GET k", UNREACHABLE);
    let answers = format!("{UNREACHABLE}\r\n$-1\r\n{UNREACHABLE}\r\n$-1\r\n");
    client.send("SET k v\r\nCLIENT GETNAME\r\n".repeat(2)).expect(answers);
}

#[test]
fn a_read_lost_with_its_connection_is_sent_once_more_and_a_write_closes_its_client() {
    let (_redis, faults, proxy) = start(&[("WORKERS", "1"), ("RESP_COHERENCE", "off")]);
    let (mut reader, mut writer) = (proxy.resp_client(), proxy.resp_client());
    writer.ask("SET k 1", "+OK");
    reader.ask("GET k", "$1\r\n1");
    faults.stall_replies();
    reader.send("GET k\r\nSTRLEN k\r\n");
    writer.send("INCR k\r\n");
    assert!(reader.is_silent_for(Duration::from_millis(200)));
    faults.reset();
    faults.pass();
    assert!(writer.at_end(), "nobody knows whether it was executed");
    // Whether the write came through decides which value it is; that there is one is what counts.
    let line = reader.line();
    assert_eq!(line, "$1");
    reader.line();
    reader.expect(":1\r\n").ask("EXISTS k", ":1");
}

#[test]
fn a_silent_lane_is_torn_down_and_its_clients_told() {
    let (_redis, faults, proxy) =
        start(&[("RESP_LANE_TIMEOUT", "200ms"), ("WORKERS", "1"), ("RESP_COHERENCE", "off")]);
    let mut client = proxy.resp_client();
    client.ask("SET k v", "+OK");
    faults.stall_replies();
    client.send("GET k\r\nGET k\r\n");
    client.expect("-ERR proxy: upstream timeout\r\n-ERR proxy: upstream timeout\r\n");
    faults.pass();
    client.ask("GET k", "$1\r\nv");
}

#[test]
fn a_drain_answers_what_was_asked_and_closes() {
    let (redis, _faults, proxy) = start(&[]);
    let (mut idle, mut blocked, mut busy) = (proxy.resp_client(), proxy.resp_client(), proxy.resp_client());
    idle.ask("PING", "+PONG");
    blocked.send("BLPOP list 0\r\n");
    busy.ask("SET k v", "+OK");
    redis.client().command(&["CLIENT", "PAUSE", "300", "WRITE"]);
    busy.send("SET k w\r\n");
    assert!(busy.is_silent_for(Duration::from_millis(50)));
    proxy.signal(Signal::TERM);
    assert!(idle.at_end() && blocked.at_end());
    busy.expect("+OK\r\n");
    assert!(busy.at_end());
    assert!(proxy.wait_exit(Duration::from_secs(10)).is_some_and(|status| status.success()));
}

#[test]
fn a_command_that_was_never_sent_goes_to_the_next_connection() {
    let (_redis, faults, proxy) = start(&[("WORKERS", "1"), ("REDIS_CONNECT_TIMEOUT", "5s")]);
    let mut client = proxy.resp_client();
    client.ask("SET k 1", "+OK");
    faults.refuse();
    faults.reset();
    client.send("INCR k\r\n");
    assert!(client.is_silent_for(Duration::from_millis(200)));
    faults.accept();
    client.expect(":2\r\n");
}

#[test]
fn a_slow_command_may_take_longer_than_lanes_may_be_silent() {
    let redis = RedisServer::builder().config("enable-debug-command", "yes").start();
    let proxy = program()
        .redis(&redis)
        .set("RESP_PORT", "0")
        .set("MAX_STALENESS", "5s")
        .set("RESP_LANE_TIMEOUT", "100ms")
        .start();
    proxy.resp_client().ask("DEBUG SLEEP 0.5", "+OK").ask("EVAL \"return 1\" 0", ":1");
}
