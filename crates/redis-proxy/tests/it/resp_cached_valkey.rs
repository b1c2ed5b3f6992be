//! Hashes whose fields expire by themselves, before servers that know such.

use std::time::{Duration, Instant};

use testkit::{ProxyBuilder, RawClient, RedisServer, Reply, Server};

use crate::support::{program, wait_in_force};

#[test]
fn what_an_expiring_field_would_change_is_not_kept() {
    for server in [Server::Redis82, Server::Valkey91] {
        let Some(redis) = server.builder() else { continue };
        assert_is_not_kept(&redis.start());
    }
}

#[test]
fn nor_where_the_server_calls_itself_one_that_knows_no_such_fields() {
    let Some(redis) = Server::Valkey91.builder() else { return };
    let redis = redis.config("extended-redis-compatibility", "yes").start();
    let mut client = RawClient::connect(redis.address());
    client.resp3();
    let hello = client.send("HELLO\r\n").reply();
    assert!(hello.windows(5).any(|version| version == b"7.2.4"), "{}", hello.escape_ascii());
    assert_is_not_kept(&redis);
}

#[test]
fn nor_where_the_server_may_not_be_asked_whether_it_knows_such() {
    let Some(redis) = Server::Valkey91.builder() else { return };
    let redis = redis.start();
    let user = ["ACL", "SETUSER", "some", "on", ">secret", "~*", "+@all", "-command"];
    assert_eq!(redis.client().command(&user), Reply::Simple("OK".into()));
    let url = format!("redis://some:secret@{}", redis.address());
    assert_is_not_kept_by(&redis, program().set("REDIS_URL", url).set("RESP_IDENTITY", "proxy"));
}

#[track_caller]
fn assert_is_not_kept(redis: &RedisServer) {
    assert_is_not_kept_by(redis, program().redis(redis));
}

#[track_caller]
fn assert_is_not_kept_by(redis: &RedisServer, program: ProxyBuilder) {
    let proxy = program.set("RESP_PORT", "0").set("COHERENCE", "strict").set("RESP_COHERENCE", "strict");
    let proxy = proxy.set("MAX_STALENESS", "5s").start();
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
