//! Connections on which bytes go both ways unread.

use std::time::Duration;

use testkit::{Reply, wait_until};

use crate::support::{start_resp, start_resp_in};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn monitor_shows_what_redis_does_and_ends_with_its_client() {
    let (redis, proxy) = start_resp(&[]);
    let mut client = proxy.resp_client();
    client.ask("MONITOR", "+OK");
    redis.client().set("k", "v");
    while !client.line().contains("\"SET\" \"k\" \"v\"") {}
    client.send("RESET\r\n");
    while client.line() != "+RESET" {}
    client.ask("GET k", "$1\r\nv").send("CLIENT INFO\r\n");
    assert!(String::from_utf8_lossy(&client.bulk()).contains(" flags=N "));
    client.ask("MONITOR", "+OK");
    drop(client);
    wait_until(SOON, "the tunnel is gone", || {
        let Reply::Bulk(list) = redis.client().command(&["CLIENT", "LIST"]) else { return false };
        proxy.metrics().value("redis_proxy_pinned_connections") == 0.0
            && !String::from_utf8_lossy(&list).contains("flags=O")
    });
}

#[test]
fn subscribers_that_leave_are_gone_from_redis() {
    let (redis, proxy) = start_resp(&[]);
    let mut client = proxy.resp_client();
    client.ask("SUBSCRIBE a", "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1");
    assert_eq!(redis.client().command(&["PUBLISH", "a", "x"]), Reply::Integer(1));
    drop(client);
    wait_until(SOON, "nobody listens", || {
        redis.client().command(&["PUBLISH", "a", "x"]) == Reply::Integer(0)
    });
}

#[test]
fn a_replica_can_follow_through_the_proxy() {
    let (redis, proxy) = start_resp(&[]);
    redis.client().set("before", "1");
    let replica = testkit::RedisServer::start();
    let port = proxy.resp_address().port().to_string();
    replica.client().command(&["REPLICAOF", "127.0.0.1", &port]);
    wait_until(Duration::from_secs(20), "what was there before", || {
        replica.client().get("before").as_deref() == Some(b"1")
    });
    redis.client().set("after", "2");
    wait_until(SOON, "what came after", || replica.client().get("after").as_deref() == Some(b"2"));
}

/// The replies to all that was sent before, and after; what MONITOR tells of commands is left out.
fn said(client: &mut testkit::RawClient, line: &str) -> Vec<String> {
    client.send(format!("{line}\r\nECHO end\r\n"));
    let mut said = Vec::new();
    while said.last().is_none_or(|line| line != "end") {
        said.push(client.line());
    }
    said.retain(|line| !line.contains(" [0 "));
    said
}

#[test]
fn what_is_due_arrives_before_a_monitor_is_reset() {
    let (redis, proxy) = start_resp(&[]);
    redis
        .client()
        .command(&["ACL", "SETUSER", "ann", "on", "nopass", "~*", "+@all", "-monitor", "-sync", "-psync"]);
    for line in [
        "MONITOR\r\nRESET",
        "MONITOR\r\nPING\r\nPING\r\nRESET\r\nPING",
        "MULTI\r\nMONITOR\r\nRESET",
        "MULTI\r\nMONITOR\r\nEXEC\r\nRESET",
        "CLIENT REPLY SKIP\r\nMONITOR\r\nRESET",
        "CLIENT REPLY OFF\r\nMONITOR\r\nPING\r\nRESET",
        "WATCH k\r\nMONITOR\r\nRESET\r\nMULTI\r\nPING\r\nEXEC",
        "GET k\r\nMONITOR\r\nRESET\r\nGET k",
        // Refused, it is no tunnel.
        "AUTH ann x\r\nMONITOR\r\nPING\r\nSYNC\r\nPSYNC ? -1\r\nPING",
        "AUTH ann x\r\nMONITOR\r\nRESET",
    ] {
        let mut direct = testkit::RawClient::connect(redis.address());
        let expected = said(&mut direct, line);
        let mut client = proxy.resp_client();
        assert_eq!(said(&mut client, line), expected, "{line:?}");
        if !line.contains("MULTI\r\nMONITOR") && !line.contains("PSYNC") {
            wait_until(SOON, "no tunnel is left", || {
                proxy.metrics().value("redis_proxy_pinned_connections") == 0.0
            });
        }
    }
    let mut client = proxy.resp_client();
    client.ask("MONITOR", "+OK").send("RES");
    redis.client().set("k", "v");
    while !client.line().contains("\"SET\" \"k\" \"v\"") {}
    client.send("ET\r\n");
    while client.line() != "+RESET" {}
    client.ask("GET k", "$1\r\nv");
}

/// Ways to a tunnel through which goes what may change anything, and is refused, and what Redis tells there of a PUBLISH.
const TOLD: &[(&str, &str)] = &[
    ("MONITOR\r\nNOSUCH\r\n", "\"PUBLISH\""),
    ("MONITOR\r\nCLIENT REPLY ON\r\nNOSUCH\r\n", "\"PUBLISH\""),
    ("WATCH k\r\nCLIENT REPLY SKIP\r\nPING\r\nSUBSCRIBE c\r\nNOSUCH\r\n", "message"),
    ("HELLO 3\r\nSUBSCRIBE c\r\nCLIENT REPLY SKIP\r\nPING\r\nNOSUCH\r\n", "message"),
];

#[test]
fn what_redis_tells_unasked_through_a_tunnel_is_no_answer() {
    for (way, told) in TOLD {
        let (redis, proxy) = start_resp_in("ttl", &[("WORKERS", "1"), ("ANONYMOUS_PROOF", "10ms")]);
        let (mut reader, mut direct) = (proxy.resp_client(), redis.client());
        let mut watcher = proxy.resp_client();
        watcher.send(way);
        while !watcher.line().starts_with("-ERR") {}
        reader.ask("SET k v", "+OK").ask("GET k", "$1\r\nv").ask("GET k", "$1\r\nv");
        let asked = redis.command_calls("get");
        for number in 0..20 {
            direct.command(&["PUBLISH", "c", &number.to_string()]);
            while !watcher.line().contains(told) {}
            // Nothing leaves the cache, and whoever comes is let in: MONITOR shows what Redis is asked for that, too.
            reader.ask("GET k", "$1\r\nv");
            std::thread::sleep(Duration::from_millis(11));
            proxy.resp_client().ask("GET k", "$1\r\nv");
        }
        assert_eq!(redis.command_calls("get"), asked, "{way:?}");
    }
}

#[test]
fn an_answer_that_comes_through_a_tunnel_is_found_among_what_comes_unasked() {
    for (way, _) in TOLD {
        let (redis, proxy) = start_resp_in("ttl", &[("WORKERS", "1"), ("ANONYMOUS_PROOF", "10s")]);
        let (mut reader, mut direct) = (proxy.resp_client(), redis.client());
        for text in ["redis unavailable", "connection to redis lost", "coherence is not in force"] {
            proxy.allow_warning(text);
        }
        let mut watcher = proxy.resp_client();
        watcher.send(way);
        while !watcher.line().starts_with("-ERR") {}
        reader.ask("SET k v", "+OK").ask("GET k", "$1\r\nv");
        for number in 0..20 {
            direct.command(&["PUBLISH", "c", &number.to_string()]);
        }
        watcher.send("UNSUBSCRIBE c\r\nCONFIG SET requirepass pw\r\n");
        while watcher.line() != "+OK" {}
        let found = proxy.resp_client().send("GET k\r\n").line();
        assert_eq!(found, "-NOAUTH Authentication required.", "{way:?}");
    }
}
