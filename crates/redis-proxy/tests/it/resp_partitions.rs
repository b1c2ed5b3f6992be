//! Who reads what, and for how long: what is kept for a user and a database is given back when nobody is that user there.

use std::time::Duration;

use testkit::{Proxy, RawClient, RedisServer, Reply, wait_until};

use crate::support::{program, start_resp};

const SOON: Duration = Duration::from_secs(30);

/// A number that the program tells in INFO, to a client that is nobody in particular.
fn told(client: &mut RawClient, name: &str) -> u64 {
    let text = String::from_utf8(client.send("PROXY STATS\r\n").bulk()).expect("text");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")).map(str::to_owned));
    line.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

fn partitions(client: &mut RawClient) -> u64 {
    told(client, "proxy_cache_partitions")
}

fn threads(proxy: &Proxy) -> usize {
    std::fs::read_dir(format!("/proc/{}/task", proxy.pid())).expect("a process").count()
}

/// Asks until the answer comes from memory.
#[track_caller]
fn warm(redis: &RedisServer, client: &mut RawClient, line: &str, reply: &str) {
    wait_until(SOON, &format!("{line} from memory"), || {
        client.ask(line, reply);
        let before = redis.command_calls("get");
        client.ask(line, reply);
        redis.command_calls("get") == before
    });
}

fn user(redis: &RedisServer, name: &str, rules: &[&str]) {
    let reply = redis.client().command(&[&["ACL", "SETUSER", name, "on"], rules].concat());
    assert_eq!(reply, Reply::Simple("OK".to_owned()));
}

#[test]
fn whatever_password_proves_a_user_it_is_the_same_reader() {
    for mode in ["ttl", "tracking"] {
        let (redis, proxy) = start_resp(&[("WORKERS", "2"), ("RESP_COHERENCE", mode)]);
        redis.client().set("k", "v");
        user(&redis, "ann", &["nopass", "~*", "+@all"]);
        let mut nobody = proxy.resp_client();
        warm(&redis, &mut nobody, "GET k", "$1\r\nv");
        let mut first = proxy.resp_client();
        first.ask("AUTH ann x", "+OK");
        warm(&redis, &mut first, "GET k", "$1\r\nv");
        let (before, threads_before) = (partitions(&mut nobody), threads(&proxy));
        let mut clients = Vec::new();
        for number in 0..100 {
            let mut client = proxy.resp_client();
            client.ask(&format!("AUTH default {number}"), "+OK").ask("GET k", "$1\r\nv");
            client.ask(&format!("AUTH ann {number}"), "+OK").ask("GET k", "$1\r\nv");
            clients.push(client);
        }
        assert_eq!((partitions(&mut nobody), threads(&proxy)), (before, threads_before), "{mode}");
        warm(&redis, &mut clients[99], "GET k", "$1\r\nv");
    }
}

#[test]
fn what_is_kept_for_those_who_have_gone_is_given_back() {
    for mode in ["ttl", "tracking"] {
        let redis = RedisServer::start();
        let settings =
            [("RESP_PORT", "0"), ("WORKERS", "2"), ("RESP_COHERENCE", mode), ("RESP_LANE_IDLE", "50ms")];
        let program = settings.iter().fold(program(), |program, (name, value)| program.set(name, value));
        let proxy = program.redis(&redis).allow_warning("too many users and databases").start();
        let mut nobody = proxy.resp_client();
        redis.client().set("k", "v");
        warm(&redis, &mut nobody, "GET k", "$1\r\nv");
        let (before, threads_before) = (partitions(&mut nobody), threads(&proxy));
        let files_before = proxy.open_files();
        for round in 0..4 {
            let mut clients = Vec::new();
            for number in 0..30 {
                let name = format!("user-{round}-{number}");
                user(&redis, &name, &[">pw", "~*", "+@all"]);
                let mut client = proxy.resp_client();
                client.ask(&format!("AUTH {name} pw"), "+OK").ask("GET k", "$1\r\nv");
                clients.push(client);
            }
            // All of them are cached for, in each round anew: 120 pairs have been by the end.
            for client in &mut clients {
                warm(&redis, client, "GET k", "$1\r\nv");
            }
            // Of those who have not read for a while the link ends in the meantime.
            assert!(partitions(&mut nobody) > before, "{mode}");
            drop(clients);
            wait_until(SOON, "nobody else is cached for", || partitions(&mut nobody) == before);
        }
        wait_until(SOON, "no thread and no connection is left", || {
            threads(&proxy) <= threads_before && proxy.open_files() <= files_before + 4
        });
        warm(&redis, &mut nobody, "GET k", "$1\r\nv");
    }
}

#[test]
fn who_takes_the_place_of_another_sees_nothing_of_what_that_one_saw() {
    for mode in ["ttl", "tracking"] {
        let (redis, proxy) =
            start_resp(&[("WORKERS", "2"), ("RESP_COHERENCE", mode), ("RESP_LANE_IDLE", "20ms")]);
        let mut nobody = proxy.resp_client();
        let before = partitions(&mut nobody);
        for round in 0..20 {
            let (name, key) = (format!("user-{round}"), format!("key-{round}"));
            redis.client().set(&key, "v");
            user(&redis, &name, &[">pw", &format!("~{key}"), "+@all"]);
            let mut client = proxy.resp_client();
            client.ask(&format!("AUTH {name} pw"), "+OK").ask(&format!("GET {key}"), "$1\r\nv");
            for earlier in 0..round {
                let found = client.send(format!("GET key-{earlier}\r\n")).line();
                assert!(found.starts_with("-NOPERM"), "{found}");
            }
            drop(client);
            wait_until(SOON, "it is gone", || partitions(&mut nobody) == before);
        }
    }
}

#[test]
fn a_link_logs_in_with_what_was_proven_last_and_else_with_what_was_before() {
    let (redis, proxy) = start_resp(&[("WORKERS", "1"), ("RESP_COHERENCE", "tracking")]);
    ["coherence is not in force", "redis unavailable", "connection to redis lost", "lane"]
        .iter()
        .for_each(|text| proxy.allow_warning(text));
    redis.client().set("k", "v");
    user(&redis, "ann", &[">p1", ">p2", "~*", "+@all"]);
    let (mut one, mut two) = (proxy.resp_client(), proxy.resp_client());
    one.ask("AUTH ann p1", "+OK");
    warm(&redis, &mut one, "GET k", "$1\r\nv");
    two.ask("AUTH ann p2", "+OK");
    warm(&redis, &mut two, "GET k", "$1\r\nv");
    // The one that was proven last does not hold any more; the one before it does.
    user(&redis, "ann", &["<p2"]);
    let cut = || redis.client().command(&["CLIENT", "KILL", "USER", "ann"]);
    cut();
    let mut one = proxy.resp_client();
    one.ask("AUTH ann p1", "+OK");
    warm(&redis, &mut one, "GET k", "$1\r\nv");
    // Both are replaced, and a client that knows brings the new one.
    user(&redis, "ann", &["<p1", ">p3"]);
    cut();
    let mut three = proxy.resp_client();
    three.ask("AUTH ann p1", "-WRONGPASS invalid username-password pair or user is disabled.");
    three.ask("AUTH ann p3", "+OK");
    warm(&redis, &mut three, "GET k", "$1\r\nv");
}

#[test]
fn the_proxys_own_user_stays_what_it_is_when_its_password_is_replaced() {
    let redis = RedisServer::builder().password("secret").start();
    let mut direct = redis.client();
    let proxy = program().redis(&redis).set("RESP_PORT", "0").set("WORKERS", "1").start();
    direct.set("k", "v");
    let mut client = proxy.resp_client();
    client.ask("AUTH secret", "+OK");
    warm_by(&mut direct, &mut client);
    let before = partitions(&mut client);
    direct.command(&["CONFIG", "SET", "requirepass", "new"]);
    let mut late = proxy.resp_client();
    late.ask("AUTH secret", "-WRONGPASS invalid username-password pair or user is disabled.");
    late.ask("AUTH default new", "+OK");
    warm_by(&mut direct, &mut late);
    assert_eq!(partitions(&mut client), before);
}

/// As [`warm`], with a connection that was open before the password was replaced.
#[track_caller]
fn warm_by(direct: &mut testkit::RedisClient, client: &mut RawClient) {
    let mut calls = || {
        let Reply::Bulk(text) = direct.command(&["INFO", "commandstats"]) else { panic!("no INFO") };
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().find_map(|line| line.strip_prefix("cmdstat_get:").map(str::to_owned))
    };
    wait_until(SOON, "GET k from memory", || {
        client.ask("GET k", "$1\r\nv");
        let before = calls();
        client.ask("GET k", "$1\r\nv");
        calls() == before
    });
}

#[test]
fn the_proxys_own_link_for_redis_clients_ends_with_the_last_of_them_and_starts_with_the_next() {
    for other in [false, true] {
        let (redis, proxy) = start_resp(&[("WORKERS", "2"), ("RESP_LANE_IDLE", "50ms")]);
        user(&redis, "ann", &[">pw", "~*", "+@all"]);
        redis.client().set("k", "v");
        assert_eq!(proxy.get("/k").text(), "v");
        let ready = || testkit::HttpClient::connect(proxy.admin_address()).get("/readyz").text().to_owned();
        let list = || match redis.client().command(&["CLIENT", "LIST"]) {
            Reply::Bulk(list) => String::from_utf8(list).expect("text"),
            other => panic!("{other:?}"),
        };
        // The watch of the primary has a connection of its own, as soon as its thread has come that far.
        wait_until(SOON, "the watch of the primary", || list().contains("cmd=info"));
        let connections = || list().lines().count();
        let (connections_before, threads_before) = (connections(), threads(&proxy));
        for round in 0..3 {
            let value = format!("{round:03}");
            redis.client().set("k", &value);
            let mut client = proxy.resp_client();
            if other {
                // Her own link goes by what the canary of the other finds.
                client.ask("AUTH ann pw", "+OK");
            }
            warm(&redis, &mut client, "GET k", &format!("$3\r\n{value}"));
            redis.client().set("k", "new");
            wait_until(SOON, "the change", || client.send("GET k\r\n").bulk() == b"new");
            // The thread of all links of this number stays.
            assert_eq!(threads(&proxy), threads_before + 1);
            assert!(ready().contains("tracking, in force"), "{}", ready());
            drop(client);
            wait_until(SOON, "no link", || {
                ready().contains("not asked yet") && connections() == connections_before
            });
        }
    }
}
