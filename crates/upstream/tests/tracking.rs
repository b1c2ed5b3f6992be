//! A tracked connection: what is asked of a server before it is trusted, and what travels on it afterwards.
#![allow(clippy::unwrap_used, reason = "a broken part ends the test")]

mod support;

use std::sync::Arc;
use std::thread;

use resp::Frame;
use support::{Link, Told, bulk, endpoint, run};
use testkit::{Action, RedisServer, Reply, ScriptedRedis, ScriptedRedisBuilder, wait_until};
use upstream::Sendable::Arguments;
use upstream::{Account, Backend, Endpoint, Hello, Loss, Secret, Tracking};

/// Of a Redis 7.0, whose fields do not expire.
const ON: Tracking = Tracking::On { fields_expire: false };

/// What Redis says of a connection that is tracked and nothing else.
const TRACKED: &str =
    "%3\r\n$5\r\nflags\r\n~1\r\n$2\r\non\r\n$8\r\nredirect\r\n:-1\r\n$8\r\nprefixes\r\n*0\r\n";

/// A server that tracks, but for what the test says otherwise.
fn tracking() -> ScriptedRedisBuilder {
    ScriptedRedis::builder().answer("CLIENT TRACKINGINFO", TRACKED)
}

fn hello(server: &str, version: &str, role: &str) -> String {
    format!(
        "%4\r\n$6\r\nserver\r\n+{server}\r\n$7\r\nversion\r\n+{version}\r\n$5\r\nproto\r\n:3\r\n$4\r\nrole\r\n+{role}\r\n"
    )
}

fn value(key: &[u8], _before: usize) -> Action {
    Action::value(key)
}

/// What a new tracked connection is found to be. It must carry reads whatever that is.
fn found_at(endpoint: Endpoint) -> Tracking {
    let mut found = None;
    run(async {
        let mut link = Link::start(&Backend::tracked(endpoint, 100));
        let told = link.next().await;
        let Told::Connected(tracking) = told else { panic!("it is not connected: {told:?}") };
        link.get("k", 1);
        assert!(matches!(link.next().await, Told::Reply(1, Frame::Bulk(_) | Frame::Null)));
        found = Some(tracking);
    });
    found.unwrap()
}

#[track_caller]
fn assert_refused(endpoint: Endpoint, words: &[&str]) {
    let tracking = found_at(endpoint);
    let Tracking::Refused(why) = &tracking else { panic!("{words:?} expected: {tracking:?}") };
    assert!(words.iter().all(|word| why.contains(word)), "{words:?} expected: {why}");
}

#[test]
fn a_server_that_tracks_is_on_and_is_asked_in_this_order() {
    let redis = tracking().start(value);
    assert_eq!(found_at(endpoint(redis.address())), ON);
    let said = |command: &Vec<Vec<u8>>| String::from_utf8(command.join(&b' ')).unwrap();
    let said: Vec<String> = redis.commands().iter().map(said).collect();
    let expected = [
        "HELLO 3 SETNAME redis-proxy",
        "INFO server",
        "COMMAND INFO HPEXPIRE HEXPIRE HSETEX",
        "CLIENT NO-EVICT ON",
        "CLIENT TRACKING ON",
        "CLIENT TRACKINGINFO",
        "GET k",
    ];
    assert_eq!(said, expected);
}

#[test]
fn what_is_told_before_anything_was_read_is_passed_over() {
    let told = tracking().answer("CLIENT NO-EVICT", "+OK\r\n>2\r\n$10\r\ninvalidate\r\n_\r\n");
    assert_eq!(found_at(endpoint(told.start(value).address())), ON);
    let info = "%3\r\n$5\r\nflags\r\n~1\r\n$2\r\non\r\n$8\r\nredirect\r\n:-1\r\n$8\r\nprefixes\r\n*0\r\n";
    let told = tracking().answer("CLIENT TRACKINGINFO", format!("{info}>2\r\n$10\r\ninvalidate\r\n_\r\n"));
    assert_eq!(found_at(endpoint(told.start(value).address())), ON);
}

#[test]
fn a_server_without_resp3_is_refused_and_not_asked_to_track() {
    let with_resp2 = hello("redis", "7.0.15", "master").replace(":3", ":2");
    for redis in [tracking().refuse_hello(), tracking().answer("HELLO", with_resp2)] {
        let redis = redis.start(value);
        assert_refused(endpoint(redis.address()), &["RESP3", "HELLO 3"]);
        // On RESP2 it would answer OK and never push.
        assert_eq!(redis.calls("CLIENT TRACKING"), 0);
    }
}

#[test]
fn a_replica_is_told_apart_and_not_asked_to_track() {
    for role in ["replica", "slave"] {
        let redis = tracking().answer("HELLO", hello("redis", "7.0.15", role)).start(value);
        assert_eq!(found_at(endpoint(redis.address())), Tracking::Replica);
        assert_eq!(redis.calls("CLIENT TRACKING"), 0);
    }
}

#[test]
fn a_version_that_loses_invalidations_is_refused_with_those_that_do_not() {
    let redis = tracking().answer("HELLO", hello("redis", "6.2.10", "master")).start(value);
    assert_refused(endpoint(redis.address()), &["redis 6.2.10", "6.2.11, 7.0.9, 7.2 or later"]);
    let redis = tracking().answer("HELLO", hello("valkey", "8.1.0", "master")).start(value);
    assert_eq!(found_at(endpoint(redis.address())), ON);
}

#[test]
fn whether_fields_expire_is_asked_and_taken_so_where_there_is_no_answer() {
    let known = "*3\r\n*2\r\n$8\r\nhpexpire\r\n:-6\r\n*-1\r\n_\r\n";
    for (answer, fields_expire) in [
        (known, true),
        ("*3\r\n*-1\r\n*-1\r\n*-1\r\n", false),
        ("*3\r\n_\r\n_\r\n_\r\n", false),
        ("-NOPERM this user has no permissions to run the 'command' command\r\n", true),
        ("-ERR unknown command 'COMMAND'\r\n", true),
        ("*0\r\n", true),
    ] {
        let redis = tracking().answer("HELLO", hello("redis", "7.2.4", "master")).answer("COMMAND", answer);
        let redis = redis.start(value);
        assert_eq!(found_at(endpoint(redis.address())), Tracking::On { fields_expire }, "{answer}");
    }
}

#[test]
fn products_that_do_not_order_replies_and_pushes_are_refused_by_name() {
    for (info, name) in [
        ("# Server\r\nredis_version:7.4.0\r\ndragonfly_version:df-v1.30.0\r\n", "Dragonfly"),
        ("# Server\r\nredis_version:7.4.0\r\nrlec_version:7.22.0-28\r\n", "Redis Enterprise"),
        ("# Server\r\nredis_version:6.3.4\r\nexecutable:/usr/bin/keydb-server\r\n", "KeyDB"),
    ] {
        for info in [
            format!("${}\r\n{info}\r\n", info.len()),
            // As RESP3 has it.
            format!("={}\r\ntxt:{info}\r\n", info.len() + 4),
        ] {
            let redis = tracking().answer("INFO", info).start(value);
            assert_refused(endpoint(redis.address()), &[name, "in order"]);
            assert_eq!(redis.calls("CLIENT TRACKING"), 0);
        }
    }
}

#[test]
fn an_acl_that_forbids_tracking_is_refused_with_the_text_of_redis() {
    let redis = RedisServer::start();
    let user = |name: &str| Endpoint {
        login: Account {
            username: Some(name.into()),
            password: Some(Secret::new("secret")),
            ..Account::default()
        },
        ..endpoint(redis.address())
    };
    let add = |name: &str, rule: &str| {
        let all = ["ACL", "SETUSER", name, "on", ">secret", "~*", "+@all", rule];
        assert_eq!(redis.client().command(&all), Reply::Simple("OK".into()));
    };
    add("no-tracking", "-client|tracking");
    assert_refused(user("no-tracking"), &["CLIENT TRACKING ON", "NOPERM"]);
    add("no-trackinginfo", "-client|trackinginfo");
    assert_refused(user("no-trackinginfo"), &["CLIENT TRACKINGINFO", "NOPERM"]);
    // What it can do without.
    for (name, rule) in
        [("no-evict", "-client|no-evict"), ("no-info", "-info"), ("no-name", "-client|setname")]
    {
        add(name, rule);
        assert_eq!(found_at(user(name)), ON, "{rule}");
    }
}

#[test]
fn a_connection_that_tracks_in_another_way_is_refused_with_its_flags() {
    let info = |flags: &str| format!("%2\r\n$5\r\nflags\r\n{flags}$8\r\nredirect\r\n:-1\r\n");
    for (flags, told) in [
        ("~1\r\n$3\r\noff\r\n", "[\"off\"]"),
        ("~2\r\n$2\r\non\r\n$5\r\noptin\r\n", "[\"on\", \"optin\"]"),
        ("~2\r\n$2\r\non\r\n$5\r\nbcast\r\n", "[\"on\", \"bcast\"]"),
        ("~2\r\n$2\r\non\r\n$6\r\nnoloop\r\n", "[\"on\", \"noloop\"]"),
        ("~0\r\n", "[]"),
    ] {
        let redis = ScriptedRedis::builder().answer("CLIENT TRACKINGINFO", info(flags)).start(value);
        assert_refused(endpoint(redis.address()), &["TRACKINGINFO", told]);
    }
    let redis = ScriptedRedis::builder().answer("CLIENT TRACKINGINFO", "+OK\r\n").start(value);
    assert_refused(endpoint(redis.address()), &["TRACKINGINFO", "[]"]);
}

#[test]
fn a_refusal_of_no_evict_does_not_matter() {
    let unknown = "-ERR unknown subcommand 'NO-EVICT'. Try CLIENT HELP.\r\n";
    let redis = tracking().answer("CLIENT NO-EVICT", unknown).start(value);
    assert_eq!(found_at(endpoint(redis.address())), ON);
}

fn invalidation(key: &str) -> Told {
    Told::Push(vec![bulk("invalidate"), Frame::Array(vec![bulk(key)])])
}

#[test]
fn another_database_is_tracked_too() {
    let redis = RedisServer::start();
    let mut writer = redis.client();
    writer.command(&["SELECT", "3"]);
    writer.set("k", "old");
    run(async {
        let mut link = Link::start(&Backend::tracked(Endpoint { db: 3, ..endpoint(redis.address()) }, 100));
        assert_eq!(link.next().await, Told::Connected(ON));
        link.get("k", 1);
        assert_eq!(link.next().await, Told::Reply(1, bulk("old")));
        writer.set("k", "new");
        assert_eq!(link.next().await, invalidation("k"));
        writer.flushall();
        assert_eq!(link.next().await, Told::Push(vec![bulk("invalidate"), Frame::Null]));
    });
}

#[test]
fn hello_without_arguments_keeps_resp3_and_tracking_and_tells_the_role() {
    let redis = RedisServer::start();
    let other = RedisServer::start();
    let mut writer = redis.client();
    run(async {
        let mut link = Link::start(&Backend::tracked(endpoint(redis.address()), 100));
        assert_eq!(link.next().await, Told::Connected(ON));
        for round in 0..3 {
            link.get("k", round);
            assert!(matches!(link.next().await, Told::Reply(..)));
            link.upstream.send(&[b"HELLO"], 10).unwrap();
            let Told::Reply(10, reply) = link.next().await else { panic!("no reply to HELLO") };
            let hello = Hello::read(&reply).unwrap();
            assert_eq!((hello.proto, hello.is_primary()), (3, true));
            writer.set("k", round.to_string());
            assert_eq!(link.next().await, invalidation("k"));
        }
        // The link stays, and the heartbeat is what tells.
        let port = other.port().to_string();
        writer.command(&["REPLICAOF", "127.0.0.1", &port]);
        link.upstream.send(&[b"HELLO"], 11).unwrap();
        let Told::Reply(11, reply) = link.next().await else { panic!("no reply to HELLO") };
        assert!(!Hello::read(&reply).unwrap().is_primary());
    });
}

#[test]
fn a_pair_is_adjacent_whoever_else_sends() {
    const SENDERS: u32 = 4;
    const PAIRS: u32 = 300;
    let redis = ScriptedRedis::start(value);
    run(async {
        let mut link = Link::start(&Backend::new(endpoint(redis.address()), 10_000));
        assert!(matches!(link.next().await, Told::Connected(_)));
        thread::scope(|scope| {
            for sender in 0..SENDERS {
                let upstream = link.upstream.clone();
                scope.spawn(move || {
                    for pair in 0..PAIRS {
                        let ticket = 2 * (sender * PAIRS + pair);
                        let key = ticket.to_string();
                        let prelude: &[&[u8]] = &[b"PING", key.as_bytes()];
                        upstream
                            .send_after(
                                Some((Arguments(prelude), ticket)),
                                Arguments(&[b"GET", key.as_bytes()]),
                                ticket + 1,
                            )
                            .unwrap();
                    }
                });
            }
        });
        for _ in 0..SENDERS * PAIRS {
            let Told::Reply(first, ping) = link.next().await else { panic!("no reply") };
            assert_eq!(first % 2, 0);
            assert_eq!(ping, bulk(&first.to_string()));
            assert_eq!(link.next().await, Told::Reply(first + 1, ping));
        }
    });
    let commands = redis.commands();
    let sent: Vec<_> = commands.iter().filter(|words| words[0] == b"PING" || words[0] == b"GET").collect();
    assert_eq!(sent.len(), 2 * (SENDERS * PAIRS) as usize);
    for pair in sent.chunks(2) {
        assert_eq!((&pair[0][0][..], &pair[1][0][..], &pair[0][1]), (&b"PING"[..], &b"GET"[..], &pair[1][1]));
    }
}

#[test]
fn a_pair_counts_once_in_flight_and_gives_its_place_back() {
    let redis = ScriptedRedis::start(value);
    run(async {
        let mut link = Link::start(&Backend::new(endpoint(redis.address()), 2));
        assert!(matches!(link.next().await, Told::Connected(_)));
        let upstream = link.upstream.clone();
        let pair = |ticket| {
            upstream.send_after(Some((Arguments(&[b"PING"]), ticket)), Arguments(&[b"GET", b"k"]), ticket + 1)
        };
        for round in 0..3 {
            assert!(pair(1).is_ok() && pair(3).is_ok(), "round {round}");
            let unsent = pair(5).unwrap_err();
            assert_eq!((unsent.ticket, unsent.loss), (6, Loss::Full), "the second ticket comes back");
            for ticket in 1..5 {
                let told = link.next().await;
                assert!(matches!(told, Told::Reply(answered, _) if answered == ticket), "{told:?}");
            }
        }
    });
}

#[test]
fn a_pair_is_lost_together_and_its_place_given_back() {
    // The PING is answered, the GET is not: then PING and GET are both behind a reply that never comes.
    let redis = ScriptedRedis::start(|key, _| match key {
        b"fatal" => Action::Close,
        key => Action::value(key),
    });
    run(async {
        let backend: Arc<Backend> = Backend::new(endpoint(redis.address()), 3);
        let mut link = Link::start(&backend);
        assert!(matches!(link.next().await, Told::Connected(_)));
        for _ in 0..4 {
            link.upstream
                .send_after(Some((Arguments(&[b"PING"]), 1)), Arguments(&[b"GET", b"fatal"]), 2)
                .unwrap();
            link.upstream
                .send_after(Some((Arguments(&[b"PING"]), 3)), Arguments(&[b"GET", b"k"]), 4)
                .unwrap();
            assert_eq!(link.next().await, Told::Reply(1, Frame::Simple("PONG".into())));
            assert!(matches!(link.next().await, Told::Disconnected(_)));
            for ticket in [2, 3, 4] {
                let told = link.next().await;
                assert!(matches!(told, Told::Lost(lost, Loss::Closed(_)) if lost == ticket), "{told:?}");
            }
            assert!(matches!(link.next().await, Told::Connected(_)));
        }
    });
    wait_until(support::PATIENCE, "the last connection to end", || redis.connections() == 0);
}
