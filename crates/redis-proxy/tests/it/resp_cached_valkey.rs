//! Hashes whose fields expire by themselves, before a Valkey 9.

use std::time::{Duration, Instant};

use testkit::{RawClient, Reply, Server};

use crate::support::{program, wait_in_force};

#[test]
fn what_an_expiring_field_would_change_is_not_kept() {
    let Some(redis) = Server::Valkey91.builder() else { return };
    let redis = redis.start();
    let proxy = program().redis(&redis).set("RESP_PORT", "0").set("COHERENCE", "strict").start();
    wait_in_force(&proxy);
    let (mut client, mut direct) = (proxy.resp_client(), RawClient::connect(redis.address()));
    let questions = [
        "HGETALL h",
        "HGET h f",
        "HMGET h f g",
        "HEXISTS h f",
        "HLEN h",
        "HKEYS h",
        "HVALS h",
        "HSTRLEN h f",
        "HGETALL one",
        "HGET one f",
        "EXISTS one",
        "TYPE one",
        "TTL one",
        "HLEN one",
        "EXISTS h",
    ];
    for _ in 0..5 {
        redis.client().command(&["HSET", "h", "f", "v", "g", "w"]);
        redis.client().command(&["HSET", "one", "f", "v"]);
        for key in ["h", "one"] {
            let reply = redis.client().command(&["HPEXPIRE", key, "200", "FIELDS", "1", "f"]);
            assert_eq!(reply, Reply::Array(vec![Reply::Integer(1)]));
        }
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(600) {
            for question in questions {
                // What Redis says may change between the two.
                let ask = |client: &mut RawClient| client.send(format!("{question}\r\n")).reply();
                let before = ask(&mut direct);
                let found = ask(&mut client);
                let after = ask(&mut direct);
                let at = start.elapsed();
                assert!(
                    [&before, &after].contains(&&found),
                    "{question} after {at:?}: {}",
                    found.escape_ascii()
                );
            }
        }
    }
}
