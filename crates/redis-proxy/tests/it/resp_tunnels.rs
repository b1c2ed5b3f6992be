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
