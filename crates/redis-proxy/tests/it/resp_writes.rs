//! A write through the proxy: from its answer on nobody who reads through the proxy is shown what was before.
//!
//! In mode `ttl` nobody else tells the cache of a change: there what a write leaves behind would stay for a minute.

use std::time::Duration;

use testkit::{FaultProxy, RawClient, RedisServer, Reply, wait_until};

use crate::support::{program, start_resp_in, wait_in_force};

const MODES: [&str; 3] = ["ttl", "tracking", "strict"];
const SOON: Duration = Duration::from_secs(5);

fn bulk(value: &str) -> String {
    format!("${}\r\n{value}", value.len())
}

/// Commands, the key that they change, and what that holds afterwards; before, `a` is `10`, `b` is `20`, `c` is nothing.
const WRITES: &[(&str, &str, Option<&str>)] = &[
    ("SET a new", "a", Some("new")),
    ("SET a new XX GET", "a", Some("new")),
    ("SETEX a 100 new", "a", Some("new")),
    ("GETSET a new", "a", Some("new")),
    ("GETDEL a", "a", None),
    ("APPEND a x", "a", Some("10x")),
    ("SETRANGE a 1 x", "a", Some("1x")),
    ("SETBIT a 7 1", "a", Some("10")),
    ("BITFIELD a SET u8 0 65", "a", Some("A0")),
    ("INCR a", "a", Some("11")),
    ("DECRBY a 3", "a", Some("7")),
    ("INCRBYFLOAT a 0.5", "a", Some("10.5")),
    ("MSET c 1 a new", "a", Some("new")),
    ("MSETNX c 1 a new", "a", Some("10")),
    ("DEL a", "a", None),
    ("UNLINK b a", "a", None),
    ("EXPIRE a -1", "a", None),
    ("PEXPIREAT a 1", "a", None),
    ("GETEX a EXAT 1", "a", None),
    ("RENAME a c", "a", None),
    ("RENAME a b", "b", Some("10")),
    ("RENAMENX a c", "a", None),
    ("COPY a b REPLACE", "b", Some("10")),
    ("MOVE a 1", "a", None),
    ("BITOP NOT b a", "b", Some("\u{0}")),
    ("SORT c STORE b", "b", None),
    ("SINTERSTORE b c", "b", None),
    ("EVAL \"return redis.call('set', KEYS[1], 'new')\" 1 a", "a", Some("new")),
    ("SWAPDB 0 1", "a", None),
    ("FLUSHDB", "a", None),
    ("FLUSHALL ASYNC", "b", None),
    ("BOGUS a", "a", Some("10")),
];

#[test]
fn a_write_is_seen_at_once_by_everyone_on_both_fronts() {
    for mode in MODES {
        let (redis, proxy) = start_resp_in(mode, &[("WORKERS", "2")]);
        let (mut writer, mut direct) = (proxy.resp_client(), redis.client());
        let mut readers: Vec<RawClient> = (0..4).map(|_| proxy.resp_client()).collect();
        let mut http = [proxy.client(), proxy.client()];
        for (line, key, after) in WRITES {
            if *line == "BITOP NOT b a" {
                writer.ask("SET a \"\\xff\"", "+OK");
            } else {
                writer.ask("SET a 10", "+OK");
            }
            writer.send("SET b 20\r\nDEL c\r\n").reply();
            writer.reply();
            // All know it.
            let before = direct.get(key).expect("a value");
            for reader in &mut readers {
                reader.send_command(&["GET", key]).expect(format!("${}\r\n", before.len()));
                reader.expect([&before[..], b"\r\n"].concat());
            }
            http.iter_mut().for_each(|client| assert_eq!(client.get(&format!("/{key}")).body, before));
            writer.send(format!("{line}\r\n")).reply();
            let expected = after.map_or("$-1".to_owned(), bulk);
            for reader in &mut readers {
                reader
                    .ask(&format!("GET {key}"), &expected)
                    .ask(&format!("MGET {key}"), &format!("*1\r\n{expected}"));
                reader.ask(&format!("STRLEN {key}"), &format!(":{}", after.map_or(0, str::len)));
                reader.ask(&format!("EXISTS {key}"), &format!(":{}", u8::from(after.is_some())));
            }
            for client in &mut http {
                let response = client.get(&format!("/{key}"));
                assert_eq!(response.status, if after.is_some() { 200 } else { 404 }, "{line} in {mode}");
                after.iter().for_each(|after| assert_eq!(response.text(), *after, "{line} in {mode}"));
            }
            direct.flushall();
            writer.ask("FLUSHALL", "+OK");
        }
    }
}

#[test]
fn what_a_write_does_to_a_deadline_or_a_collection_is_seen_at_once() {
    for mode in ["tracking", "strict"] {
        let (_redis, proxy) = start_resp_in(mode, &[]);
        let (mut writer, mut reader) = (proxy.resp_client(), proxy.resp_client());
        writer.ask("SET k v", "+OK").ask("HSET h f v", ":1").ask("RPUSH l a", ":1").ask("ZADD z 1 m", ":1");
        for _ in 0..50 {
            reader.ask("GET k", "$1\r\nv").ask("TTL k", ":-1").ask("TTL k", ":-1");
            writer.ask("EXPIRE k 100", ":1");
            reader.ask("TTL k", ":100").ask("GET k", "$1\r\nv").ask("TTL k", ":100");
            writer.ask("PERSIST k", ":1");
            reader.ask("TTL k", ":-1");
            writer.ask("GETEX k EX 200", "$1\r\nv");
            reader.ask("TTL k", ":200");
            writer.ask("GETEX k PERSIST", "$1\r\nv");
            reader
                .ask("TTL k", ":-1")
                .ask("HGETALL h", "*2\r\n$1\r\nf\r\n$1\r\nv")
                .ask("HGET h f", "$1\r\nv");
            writer.ask("HSET h f w", ":0");
            reader
                .ask("HGET h f", "$1\r\nw")
                .ask("HGETALL h", "*2\r\n$1\r\nf\r\n$1\r\nw")
                .ask("HVALS h", "*1\r\n$1\r\nw");
            writer.ask("HSET h f v", ":0");
            reader.ask("LRANGE l 0 -1", "*1\r\n$1\r\na").ask("LLEN l", ":1");
            writer.ask("LSET l 0 b", "+OK");
            reader.ask("LRANGE l 0 -1", "*1\r\n$1\r\nb");
            writer.ask("LSET l 0 a", "+OK");
            reader.ask("ZSCORE z m", "$1\r\n1").ask("ZRANGE z 0 -1 WITHSCORES", "*2\r\n$1\r\nm\r\n$1\r\n1");
            writer.ask("ZINCRBY z 1 m", "$1\r\n2");
            reader.ask("ZSCORE z m", "$1\r\n2").ask("ZRANGE z 0 -1 WITHSCORES", "*2\r\n$1\r\nm\r\n$1\r\n2");
            writer.ask("ZADD z 1 m", ":0");
            reader.ask("GET x", "$-1").ask("TYPE x", "+none");
            writer.ask("RPUSH x a", ":1");
            reader.ask("TYPE x", "+list").ask("LLEN x", ":1");
            writer.ask("DEL x", ":1");
        }
    }
}

#[test]
fn what_a_script_changes_undeclared_is_seen_at_once_by_its_own_client() {
    for mode in MODES {
        let (redis, proxy) = start_resp_in(mode, &[]);
        let (mut client, mut other) = (proxy.resp_client(), proxy.resp_client());
        for n in 0..50 {
            redis.client().set("k", "old");
            client.ask("SET other x", "+OK");
            client
                .ask("DEL k", ":1")
                .ask("SET k old", "+OK")
                .ask("GET k", "$3\r\nold")
                .ask("GET k", "$3\r\nold");
            other.ask("GET k", "$3\r\nold");
            let script = "EVAL \"return redis.call('set', 'k', ARGV[1])\"";
            let line =
                if n % 2 == 0 { format!("{script} 0 {n:03}") } else { format!("{script} 1 other {n:03}") };
            client.ask(&line, "+OK").ask("GET k", &format!("$3\r\n{n:03}")).ask("STRLEN k", ":3");
        }
    }
}

#[test]
fn a_transaction_is_seen_at_once_whoever_has_read_meanwhile() {
    for mode in MODES {
        let (_redis, proxy) = start_resp_in(mode, &[]);
        let (mut writer, mut reader) = (proxy.resp_client(), proxy.resp_client());
        for n in 0..30 {
            writer.ask("MSET a old b old c old", "+OK");
            writer.ask("WATCH a", "+OK").ask("MULTI", "+OK");
            writer
                .ask(&format!("SET a {n:03}"), "+QUEUED")
                .ask(&format!("MSET b {n:03} c {n:03}"), "+QUEUED");
            // From before the transaction, after its commands were queued.
            reader.ask("GET a", "$3\r\nold").ask("MGET b c", "*2\r\n$3\r\nold\r\n$3\r\nold");
            writer.ask("EXEC", "*2\r\n+OK\r\n+OK");
            reader.ask("MGET a b c", &format!("*3\r\n$3\r\n{n:03}\r\n$3\r\n{n:03}\r\n$3\r\n{n:03}"));
            reader.ask("GET a", &bulk(&format!("{n:03}")));
        }
    }
}

#[test]
fn a_flush_within_a_transaction_empties_the_cache() {
    for mode in MODES {
        let (_redis, proxy) = start_resp_in(mode, &[]);
        let (mut writer, mut reader) = (proxy.resp_client(), proxy.resp_client());
        writer.ask("SET a old", "+OK");
        writer.ask("MULTI", "+OK").ask("SET b x", "+QUEUED").ask("FLUSHALL", "+QUEUED");
        reader.ask("GET a", "$3\r\nold");
        writer.ask("EXEC", "*2\r\n+OK\r\n+OK");
        reader.ask("GET a", "$-1");
    }
}

#[test]
fn a_write_whose_client_never_reads_or_has_gone_counts_as_well() {
    for mode in MODES {
        let (redis, proxy) = start_resp_in(mode, &[]);
        let mut reader = proxy.resp_client();
        for how in ["unread", "gone", "silent", "gone in a transaction"] {
            redis.client().set("k", "old");
            proxy.resp_client().ask("APPEND k \"\"", ":3");
            reader.ask("GET k", "$3\r\nold").ask("GET k", "$3\r\nold");
            let mut writer = proxy.resp_client();
            match how {
                "silent" => writer.send("CLIENT REPLY OFF\r\nSET k new\r\n"),
                "gone in a transaction" => writer.send("MULTI\r\nSET k new\r\nEXEC\r\n"),
                _ => writer.send("SET k new\r\n"),
            };
            let kept = (!how.starts_with("gone")).then_some(writer);
            wait_until(SOON, &format!("the write of a client that is {how}, in {mode}"), || {
                reader.send("GET k\r\n").bulk() == b"new"
            });
            drop(kept);
        }
    }
}

#[test]
fn a_fill_that_a_write_overtakes_is_not_kept() {
    for mode in ["ttl", "tracking"] {
        let redis = RedisServer::start();
        let fault = FaultProxy::start(redis.address());
        let proxy = program().redis_at(fault.address()).set("RESP_PORT", "0").set("COHERENCE", mode);
        let proxy = proxy.set("RESP_COHERENCE", mode).start();
        if mode == "tracking" {
            wait_in_force(&proxy);
        }
        let (mut writer, mut reader, mut last) =
            (proxy.resp_client(), proxy.resp_client(), proxy.resp_client());
        writer.ask("SET k 000", "+OK");
        last.ask("GET k", "$3\r\n000");
        reader.ask("GET k", "$3\r\n000");
        // Each connection to Redis is late by a time of its own.
        fault.jitter(Duration::from_millis(3));
        for n in 1..150 {
            writer.ask("APPEND k \"\"", ":3");
            // It misses, and its answer may come before the write or after it.
            reader.send("GET k\r\n");
            if n % 3 == 0 {
                std::thread::sleep(Duration::from_millis(n % 5));
            }
            writer.ask(&format!("SET k {n:03}"), "+OK");
            last.ask("GET k", &format!("$3\r\n{n:03}"));
            reader.bulk();
            last.ask("GET k", &format!("$3\r\n{n:03}"));
        }
        fault.pass();
    }
}

#[test]
fn a_connection_reads_what_it_has_written_in_one_pipeline() {
    for mode in MODES {
        let (_redis, proxy) = start_resp_in(mode, &[]);
        let mut client = proxy.resp_client();
        let (mut pipeline, mut expected) = (String::new(), String::new());
        for n in 0..500 {
            pipeline.push_str(&format!(
                "GET a\r\nSET a {n:03}\r\nGET a\r\nSTRLEN a\r\nMGET a b\r\nINCR b\r\nGET b\r\n"
            ));
            let last = n.to_string();
            let before = match n {
                0 => ("$-1".to_owned(), "$-1".to_owned()),
                _ => (format!("$3\r\n{:03}", n - 1), bulk(&last)),
            };
            let next = (n + 1).to_string();
            expected.push_str(&format!(
                "{}\r\n+OK\r\n$3\r\n{n:03}\r\n:3\r\n*2\r\n$3\r\n{n:03}\r\n{}\r\n",
                before.0, before.1
            ));
            expected.push_str(&format!(":{next}\r\n{}\r\n", bulk(&next)));
        }
        let mut sender = client.twin();
        std::thread::scope(|scope| {
            scope.spawn(move || _ = sender.send(pipeline));
            client.expect(expected);
        });
    }
}

#[test]
fn a_streamed_write_drops_its_key_and_nothing_else() {
    let (redis, proxy) = start_resp_in("ttl", &[("RESP_BIG_REQUEST_BYTES", "65536")]);
    let (mut writer, mut reader) = (proxy.resp_client(), proxy.resp_client());
    writer.ask("MSET a old b old", "+OK");
    reader.ask("MGET a b", "*2\r\n$3\r\nold\r\n$3\r\nold").ask("GET a", "$3\r\nold");
    let value = "x".repeat(300_000);
    writer.send("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$300000\r\n").send(&value[..200_000]);
    reader.ask("GET a", "$3\r\nold");
    writer.send(&value[200_000..]).send("\r\n").expect("+OK\r\n");
    redis.reset_stats();
    reader.ask("GET b", "$3\r\nold");
    assert_eq!(redis.command_calls("get"), 0, "b is still known");
    reader.ask("GET a", &bulk(&value));
    assert_eq!(redis.command_calls("get"), 1);
    // Which keys a MSET names is not known before its end.
    reader.ask("GET b", "$3\r\nold").ask("GET c", "$-1");
    writer
        .send("*5\r\n$4\r\nMSET\r\n$1\r\na\r\n$300000\r\n")
        .send(&value)
        .send("\r\n$1\r\nb\r\n$3\r\nnew\r\n")
        .expect("+OK\r\n");
    reader.ask("GET b", "$3\r\nnew");
    assert_eq!(redis.client().command(&["STRLEN", "a"]), Reply::Integer(300_000));
}

#[test]
fn what_a_tunnel_carries_is_taken_for_a_write() {
    let (_redis, proxy) = start_resp_in("ttl", &[]);
    let (mut writer, mut reader) = (proxy.resp_client(), proxy.resp_client());
    writer.ask("SET k old", "+OK");
    reader.ask("GET k", "$3\r\nold").ask("GET k", "$3\r\nold");
    // CLIENT REPLY SKIP on a pin makes it one.
    writer.ask("WATCH k", "+OK").send("CLIENT REPLY SKIP\r\nPING\r\n");
    writer.ask("SET k new", "+OK");
    reader.ask("GET k", "$3\r\nnew").ask("GET k", "$3\r\nnew");
    writer.ask("SET k newer", "+OK");
    reader.ask("GET k", "$5\r\nnewer");
}

/// Whoever may change nothing must not be able to empty the cache.
#[test]
fn what_redis_refuses_or_does_not_get_drops_nothing() {
    let (redis, proxy) = start_resp_in("ttl", &[("WORKERS", "1")]);
    redis
        .client()
        .command(&["ACL", "SETUSER", "ann", "on", ">pw", "~*", "+get", "+multi", "+exec", "+discard"]);
    let (mut client, mut ann) = (proxy.resp_client(), proxy.resp_client());
    client.ask("SET k v", "+OK").ask("GET k", "$1\r\nv");
    ann.ask("AUTH ann pw", "+OK");
    let asked = redis.command_calls("get");
    let refused = [
        "FLUSHALL",
        "SWAPDB 1",
        "SWAPDB 0 1",
        "SET k w",
        "DEL k",
        "ACL DELUSER ann",
        "DEBUG RELOAD",
        "FLUSHALL ASYNC",
        "SET k",
    ];
    for command in refused {
        let text = ann.send(format!("{command}\r\n")).line();
        assert!(text.starts_with('-'), "{command}: {text}");
        ann.ask("MULTI", "+OK").send(format!("{command}\r\n")).line();
        assert!(ann.send("EXEC\r\n").line().starts_with("-EXECABORT"));
        client.ask("GET k", "$1\r\nv");
        assert_eq!(redis.command_calls("get"), asked, "{command}");
    }
    // Nor does what is queued and never carried out.
    client.ask("MULTI", "+OK").ask("FLUSHALL", "+QUEUED").ask("SET k w", "+QUEUED").ask("DISCARD", "+OK");
    client.ask("MULTI", "+OK").ask("FLUSHALL", "+QUEUED").ask("RESET", "+RESET").ask("GET k", "$1\r\nv");
    assert_eq!(redis.command_calls("get"), asked);
    // In one go, with a transaction behind it that counts.
    client.send("MULTI\r\nSET k w\r\nDISCARD\r\nMULTI\r\nSET k x\r\nEXEC\r\n");
    client.expect("+OK\r\n+QUEUED\r\n+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n").ask("GET k", "$1\r\nx");
    // What Redis never got, it has not done.
    proxy.allow_warning("lost");
    proxy.allow_warning("redis unavailable");
    redis.kill();
    let text = client.send("FLUSHALL\r\n").line();
    assert!(text.starts_with("-MASTERDOWN"), "{text}");
    client.ask("GET k", "$1\r\nx");
}
