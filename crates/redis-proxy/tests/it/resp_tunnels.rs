//! Connections on which bytes go both ways unread.

use std::time::Duration;

use testkit::{Reply, wait_until};

use crate::support::start_resp;

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
