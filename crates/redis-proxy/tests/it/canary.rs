//! The canary: that delivery is tried on every server, and that no client ever sees the key it is tried with.

use std::time::{Duration, Instant};

use testkit::{HttpClient, Proxy, ProxyBuilder, RedisClient, RedisServer, Reply, Server, wait_until};

use crate::support::{program, wait_in_force};

const PATIENCE: Duration = Duration::from_secs(20);
const KEY: &str = "redis-proxy:canary";

fn tracking(redis: &RedisServer) -> ProxyBuilder {
    program().redis(redis).set("COHERENCE", "tracking")
}

/// Looks in every way in which a key could be seen.
#[track_caller]
fn assert_unseen(client: &mut RedisClient) {
    assert_eq!(client.command(&["DBSIZE"]), Reply::Integer(0));
    assert_eq!(client.command(&["EXISTS", KEY]), Reply::Integer(0));
    assert_eq!(client.command(&["RANDOMKEY"]), Reply::Nil);
    assert_eq!(client.command(&["KEYS", "*"]), Reply::Array(vec![]));
    let scanned = Reply::Array(vec![Reply::Bulk("0".into()), Reply::Array(vec![])]);
    assert_eq!(client.command(&["SCAN", "0", "COUNT", "1000"]), scanned);
}

/// Ends the program's connections, so that the canary is tried anew.
fn cut(client: &mut RedisClient) {
    client.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
}

fn tries(redis: &RedisServer) -> u64 {
    redis.command_calls("exec")
}

/// Looks at the keys while the canary is tried several times.
fn look_on(redis: &RedisServer, proxy: &Proxy) {
    let mut client = redis.client();
    for _ in 0..5 {
        let before = tries(redis);
        cut(&mut client);
        let start = Instant::now();
        while tries(redis) == before {
            assert_unseen(&mut client);
            assert!(start.elapsed() < PATIENCE, "the canary is not tried");
        }
        for _ in 0..20 {
            assert_unseen(&mut client);
        }
    }
    wait_in_force(proxy);
    assert_unseen(&mut client);
}

#[test]
fn it_is_told_of_and_never_seen_on_every_server() {
    for server in Server::ALL {
        let Some(redis) = server.builder() else { continue };
        let redis = redis.start();
        // Cut connections are the test's own; that a canary was refused or not delivered is not among what is allowed.
        let proxy = tracking(&redis)
            .allow_warning("connection to redis lost")
            .allow_warning("coherence is not in force: reads are fetched")
            .start();
        wait_in_force(&proxy);
        look_on(&redis, &proxy);
        let told = proxy.log();
        let refused = |reason: &str| reason.contains("deliver") || reason.contains("READONLY");
        assert!(!told.iter().filter_map(|line| line.field("reason")).any(refused), "{server}");
        assert!(tries(&redis) >= 10, "{server}: once without the key and once with it");
    }
}

#[test]
fn one_that_an_older_version_has_left_goes_at_the_first_try() {
    let redis = RedisServer::start();
    redis.client().set(KEY, "1");
    let proxy = tracking(&redis).start();
    wait_in_force(&proxy);
    assert_unseen(&mut redis.client());
}

#[test]
fn whichever_step_is_refused_it_is_not_seen_and_delivery_is_trusted() {
    for server in [Server::Redis62, Server::Redis70, Server::Valkey91] {
        let Some(redis) = server.builder() else { continue };
        let redis = redis.start();
        for step in ["multi", "set", "del", "exec", "get"] {
            let rule = format!("-{step}");
            let command = ["ACL", "SETUSER", "some", "reset", "on", ">secret", "~*", "+@all", &rule];
            assert_eq!(redis.client().command(&command), Reply::Simple("OK".into()));
            let proxy = program()
                .set("REDIS_URL", format!("redis://some:secret@{}", redis.address()))
                .set("COHERENCE", "tracking")
                .allow_warning("the canary cannot be written")
                .start();
            let mut client = redis.client();
            let start = Instant::now();
            while proxy.metrics().value("redis_proxy_coherence_in_force") != 1.0 {
                assert_unseen(&mut client);
                assert!(start.elapsed() < PATIENCE, "{server}, {step}: not trusted");
            }
            assert_unseen(&mut client);
            let told = proxy.wait_log("the canary cannot be written", PATIENCE);
            assert!(told.field("reason").is_some_and(|reason| reason.contains(step)), "{}", told.raw);
            // No connection is left within a transaction.
            wait_until(PATIENCE, &format!("{server}, {step}: nobody within a transaction"), || {
                let Reply::Bulk(clients) = client.command(&["CLIENT", "LIST"]) else { panic!("no list") };
                let clients = String::from_utf8_lossy(&clients).into_owned();
                let flags = clients.split(' ').filter_map(|field| field.strip_prefix("flags="));
                flags.clone().count() >= 3 && !flags.clone().any(|flags| flags.contains('x'))
            });
        }
    }
}

#[test]
fn a_user_without_ping_has_all_that_is_promised() {
    let redis = RedisServer::start();
    let mut admin = redis.client();
    admin.set("k", "one");
    for mode in ["ttl", "tracking", "strict"] {
        admin.command(&["ACL", "SETUSER", "some", "reset", "on", ">secret", "~*", "+@all", "-ping"]);
        let url = format!("redis://some:secret@{}", redis.address());
        let proxy = program().set("REDIS_URL", url).set("COHERENCE", mode).start();
        if mode != "ttl" {
            wait_in_force(&proxy);
        }
        let ready = || HttpClient::connect(proxy.admin_address()).get("/readyz");
        wait_until(PATIENCE, "readiness", || ready().status == 200);
        assert_eq!(proxy.get("/k").status, 200);
        if mode != "ttl" {
            // One that is told of changes.
            admin.set("k", mode);
            wait_until(PATIENCE, "the change", || proxy.get("/k").text() == mode);
        }
    }
}
