//! Who is let in without a login: only clients of whom Redis itself would say so.

use std::time::{Duration, Instant};

use testkit::{Proxy, RedisServer, Server, wait_until};

use crate::support::{program, program_without_redis, start_resp};

const NOAUTH: &str = "-NOAUTH Authentication required.";
const UNREACHABLE: &str = "-MASTERDOWN proxy: upstream unreachable";

/// What the proxy says of its own connections, which have no password either.
fn allow_its_own_complaints(proxy: &Proxy) {
    for text in ["redis unavailable", "connection to redis lost", "coherence is not in force"] {
        proxy.allow_warning(text);
    }
}

fn guarded() -> (RedisServer, Proxy) {
    let redis = RedisServer::builder().password("secret").start();
    let proxy = program()
        .redis(&redis)
        .set("RESP_PORT", "0")
        .set("MAX_STALENESS", "5s")
        .set("WORKERS", "1")
        .set("RESP_COHERENCE", "ttl")
        .start();
    (redis, proxy)
}

/// Whether a client that comes now is refused, whatever it asks.
#[track_caller]
fn assert_kept_out(proxy: &Proxy, word: &str) {
    for line in ["GET k", "SET k stolen", "FLUSHALL", "CONFIG GET requirepass", "CLIENT LIST", "MULTI"] {
        let found = proxy.resp_client().send(format!("{line}\r\n")).line();
        assert_eq!(found, NOAUTH, "{line} after {word}");
    }
    let hello = proxy.resp_client().send("HELLO 3\r\n").line();
    assert!(hello.starts_with("-NOAUTH HELLO must be called"), "{hello} after {word}");
}

#[test]
fn the_first_words_of_a_client_that_must_log_in_do_nothing() {
    // Each is the first command of a process that has never spoken to Redis without a login.
    for line in [
        "CLIENT LIST",
        "CLIENT KILL TYPE normal",
        "CLIENT GETNAME",
        "CLIENT ID",
        "CLIENT SETNAME x",
        "CLIENT REPLY OFF",
        "PROXY CACHE FLUSH",
        "PROXY STATS",
        "INFO",
        "SELECT 1",
        "GET k",
        "SUBSCRIBE c",
        "MONITOR",
        "NOSUCH",
    ] {
        let (_redis, proxy) = guarded();
        let mut inside: Vec<_> = (0..8).map(|_| proxy.resp_client()).collect();
        for client in &mut inside {
            client.ask("AUTH secret", "+OK").ask("SET k v", "+OK").ask("GET k", "$1\r\nv");
        }
        let keys = proxy.metrics().value("redis_proxy_entries");
        assert_eq!(keys, 1.0);
        proxy.resp_client().ask(line, NOAUTH).ask(line, NOAUTH);
        assert_eq!(proxy.metrics().value("redis_proxy_entries"), keys, "{line}");
        for client in &mut inside {
            client.ask("PING", "+PONG");
        }
        proxy.resp_client().ask("RESET", "+RESET").ask("QUIT", "+OK");
    }
}

#[test]
fn the_first_request_of_a_client_that_must_log_in_is_small() {
    let (_redis, proxy) = guarded();
    let mut client = proxy.resp_client();
    client.send("*11\r\n").expect("-ERR Protocol error: unauthenticated multibulk length\r\n");
    assert!(client.at_end());
    let (_redis, proxy) = guarded();
    let mut client = proxy.resp_client();
    client.send("*2\r\n$3\r\nGET\r\n$16385\r\n");
    client.expect("-ERR Protocol error: unauthenticated bulk length\r\n");
    assert!(client.at_end());
}

#[test]
fn the_first_request_of_a_client_that_need_not_log_in_is_as_big_as_it_likes() {
    let (_redis, proxy) = start_resp(&[("WORKERS", "1")]);
    let value = "x".repeat(100_000);
    proxy.resp_client().send_command(&["SET", "k", &value]).expect("+OK\r\n");
    let (_redis, proxy) = start_resp(&[("WORKERS", "1")]);
    let words: Vec<_> = std::iter::once("DEL").chain(std::iter::repeat_n("k", 100)).collect();
    proxy.resp_client().send_command(&words).expect(":0\r\n");
}

/// Ways to have Redis ask its default user for a password, as one client sends them, and how many lines answer.
const CHANGES: &[(&str, usize)] = &[
    ("CONFIG SET requirepass pw\r\n", 1),
    ("config set maxmemory-samples 5 requirepass pw\r\n", 1),
    ("ACL SETUSER default off\r\n", 1),
    ("ACL SETUSER default resetpass >zz\r\n", 1),
    ("MULTI\r\nACL SETUSER default off\r\nEXEC\r\n", 4),
    ("MULTI\r\nCLIENT SETNAME x\r\nCONFIG SET requirepass pw\r\nEXEC\r\n", 6),
    ("MULTI\r\nSELECT 0\r\nCONFIG SET requirepass pw\r\nEXEC\r\n", 6),
];

#[test]
fn a_password_set_through_the_proxy_keeps_out_whoever_comes_after_the_answer() {
    for workers in ["1", "2"] {
        for (change, lines) in CHANGES {
            // A link that is silent on a busy machine is not made anew: without the password it could not be.
            let (redis, proxy) = start_resp(&[("WORKERS", workers), ("MAX_STALENESS", "5s")]);
            let mut direct = redis.client();
            allow_its_own_complaints(&proxy);
            let mut inside = proxy.resp_client();
            inside.ask("SET k v", "+OK").ask("GET k", "$1\r\nv").ask("GET k", "$1\r\nv");
            let mut other = proxy.resp_client();
            other.ask("GET k", "$1\r\nv").ask("PING", "+PONG");
            inside.send(change);
            (0..*lines).for_each(|_| drop(inside.line()));
            assert_kept_out(&proxy, change);
            // Redis keeps those who were in.
            other.ask("GET k", "$1\r\nv").ask("SET k w", "+OK");
            inside.ask("GET k", "$1\r\nw");
            // And asks nobody for a password once there is none.
            direct.command(&["ACL", "SETUSER", "default", "on", "nopass"]);
            wait_until(Duration::from_secs(5), "open again", || {
                proxy.resp_client().send("GET k\r\n").line() == "$1"
            });
        }
    }
}

#[test]
fn a_command_renamed_beyond_recognition_may_have_set_a_password() {
    let redis = RedisServer::builder().rename("CONFIG", "hidden").start();
    let proxy =
        program().redis(&redis).set("RESP_PORT", "0").set("MAX_STALENESS", "5s").set("WORKERS", "1").start();
    allow_its_own_complaints(&proxy);
    let mut inside = proxy.resp_client();
    inside.ask("SET k v", "+OK").ask("hidden set requirepass pw", "+OK");
    assert_eq!(proxy.resp_client().send("GET k\r\n").line(), NOAUTH);
}

#[test]
fn a_password_set_behind_the_proxy_keeps_out_whoever_comes_a_second_later() {
    for change in
        [&["CONFIG", "SET", "requirepass", "pw"][..], &["ACL", "SETUSER", "default", "resetpass", ">zz"]]
    {
        let (redis, proxy) =
            start_resp(&[("WORKERS", "1"), ("ANONYMOUS_PROOF", "100ms"), ("RESP_COHERENCE", "ttl")]);
        allow_its_own_complaints(&proxy);
        let mut inside = proxy.resp_client();
        inside.ask("SET k v", "+OK").ask("GET k", "$1\r\nv");
        redis.client().command(change);
        // The span is what is promised.
        std::thread::sleep(Duration::from_millis(100));
        assert_kept_out(&proxy, change[0]);
        inside.ask("GET k", "$1\r\nv").ask("SET k w", "+OK");
    }
}

#[test]
fn reset_asks_anew_whether_a_client_must_log_in() {
    let (redis, proxy) = start_resp(&[("WORKERS", "1"), ("ANONYMOUS_PROOF", "10ms")]);
    allow_its_own_complaints(&proxy);
    let mut client = proxy.resp_client();
    client.ask("SET k v", "+OK").ask("RESET", "+RESET").ask("GET k", "$1\r\nv");
    redis.client().command(&["CONFIG", "SET", "requirepass", "pw"]);
    std::thread::sleep(Duration::from_millis(20));
    client.ask("GET k", "$1\r\nv").ask("RESET", "+RESET").ask("GET k", NOAUTH);
    client.ask("AUTH pw", "+OK").ask("GET k", "$1\r\nv");
}

#[test]
fn without_redis_nobody_new_is_let_in_and_those_within_keep_their_hits() {
    let redis = RedisServer::start();
    let proxy = program_without_redis()
        .allow_warning("lane")
        .redis(&redis)
        .set("RESP_PORT", "0")
        .set("MAX_STALENESS", "5s")
        .set("REDIS_CONNECT_TIMEOUT", "500ms")
        .set("ANONYMOUS_PROOF", "10ms")
        .set("RESP_COHERENCE", "ttl")
        .start();
    allow_its_own_complaints(&proxy);
    let mut inside = proxy.resp_client();
    inside.ask("SET k v", "+OK").ask("GET k", "$1\r\nv");
    redis.kill();
    std::thread::sleep(Duration::from_millis(20));
    let (mut late, begun) = (proxy.resp_client(), Instant::now());
    late.ask("GET k", UNREACHABLE);
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_millis(400), "{waited:?}: an attempt is worth its time");
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    inside.ask("GET k", "$1\r\nv");
    // What follows at once is told at once.
    let begun = Instant::now();
    late.send("GET k\r\n".repeat(100)).expect(format!("{UNREACHABLE}\r\n").repeat(100));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    redis.restart();
    wait_until(Duration::from_secs(5), "Redis is back", || late.send("GET nothing\r\n").line() == "$-1");
}

fn connections(redis: &RedisServer) -> u64 {
    let info = redis.client().command(&["INFO", "stats"]);
    let testkit::Reply::Bulk(text) = &info else { panic!("no answer to INFO: {info:?}") };
    let text = String::from_utf8_lossy(text).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
    line.and_then(|count| count.parse().ok()).expect("a number")
}

#[test]
fn a_crowd_is_let_in_or_kept_out_by_a_few_proofs() {
    let (redis, proxy) = start_resp(&[("WORKERS", "2"), ("ANONYMOUS_PROOF", "10s")]);
    let before = connections(&redis);
    let mut crowd: Vec<_> = (0..200).map(|_| proxy.resp_client()).collect();
    for client in &mut crowd {
        client.send("PING\r\n");
    }
    for client in &mut crowd {
        client.expect("+PONG\r\n");
    }
    // A proof, a lane a worker, what they ask of COMMAND, and our own look.
    let made = connections(&redis) - before;
    assert!(made <= 10, "{made} connections for 200 clients");

    let (redis, proxy) = guarded();
    let before = connections(&redis);
    let begun = Instant::now();
    let mut crowd: Vec<_> = (0..200).map(|_| proxy.resp_client()).collect();
    for client in &mut crowd {
        client.send("PING\r\n".repeat(50));
    }
    let refusals = format!("{NOAUTH}\r\n").repeat(50);
    for client in &mut crowd {
        client.expect(&refusals);
    }
    let made = connections(&redis) - before;
    let most = 3 + u64::try_from(begun.elapsed().as_millis() / 100).unwrap();
    assert!(made <= most, "{made} connections for refusals, {most} at most");
}

#[test]
fn what_is_no_answer_lets_nobody_in() {
    // Redis says of a renamed command that it is unknown before it asks for a password.
    let redis = RedisServer::builder().password("secret").rename("PING", "hidden").start();
    let proxy = program().redis(&redis).set("RESP_PORT", "0").set("MAX_STALENESS", "5s").start();
    proxy.resp_client().ask("GET k", NOAUTH).ask("AUTH secret", "+OK").ask("GET k", "$-1");
    let open = RedisServer::builder().rename("PING", "hidden").start();
    let proxy = program().redis(&open).set("RESP_PORT", "0").set("MAX_STALENESS", "5s").start();
    proxy.resp_client().ask("GET k", "$-1");

    // One that is full says so before it looks at what is asked.
    let redis = RedisServer::builder().password("secret").start();
    let proxy = program_without_redis()
        .allow_warning("")
        .redis(&redis)
        .set("RESP_PORT", "0")
        .set("MAX_STALENESS", "5s")
        .set("REDIS_CONNECT_TIMEOUT", "300ms")
        .start();
    allow_its_own_complaints(&proxy);
    let mut inside = proxy.resp_client();
    inside.ask("AUTH secret", "+OK").ask("SET k v", "+OK").ask("GET k", "$1\r\nv");
    redis.client().command(&["CONFIG", "SET", "maxclients", "1"]);
    let found = proxy.resp_client().send("GET k\r\n").line();
    assert_eq!(found, UNREACHABLE);
    inside.ask("GET k", "$1\r\nv");
}

#[test]
fn the_first_login_needs_no_proof() {
    let (redis, proxy) = guarded();
    let before = redis.client().command(&["INFO", "commandstats"]);
    assert!(!format!("{before:?}").contains("cmdstat_ping"), "nobody has said PING");
    proxy.resp_client().ask("AUTH secret", "+OK").ask("GET k", "$-1");
    proxy.resp_client().send("HELLO 3 AUTH default secret\r\n").reply();
}

#[test]
fn every_server_is_asked_whom_it_lets_in() {
    for server in Server::ALL {
        for change in ["CONFIG SET requirepass pw", "ACL SETUSER default off"] {
            let Some(builder) = server.builder() else { continue };
            let redis = builder.start();
            let proxy = program()
                .redis(&redis)
                .set("RESP_PORT", "0")
                .set("MAX_STALENESS", "5s")
                .set("WORKERS", "1")
                .start();
            allow_its_own_complaints(&proxy);
            let mut inside = proxy.resp_client();
            inside.ask("SET k v", "+OK").ask("GET k", "$1\r\nv");
            // What the server has in place of our table is known, or it is not.
            inside.ask("CLIENT GETNAME", "$-1").ask(change, "+OK");
            let found = proxy.resp_client().send("GET k\r\n").line();
            assert_eq!(found, NOAUTH, "{server} after {change}");
            inside.ask("GET k", "$1\r\nv");
        }
        let Some(builder) = server.builder() else { continue };
        let redis = builder.password("secret").start();
        let proxy = program()
            .redis(&redis)
            .set("RESP_PORT", "0")
            .set("MAX_STALENESS", "5s")
            .set("WORKERS", "1")
            .start();
        let found = proxy.resp_client().send("CLIENT LIST\r\n").line();
        assert_eq!(found, NOAUTH, "{server}");
        proxy.resp_client().ask("AUTH secret", "+OK").ask("GET k", "$-1");
    }
}
