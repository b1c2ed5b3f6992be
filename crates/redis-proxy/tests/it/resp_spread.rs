//! Commands that several nodes of a cluster carry out together, each its part.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testkit::{Cluster, RedisClient, RedisServer, Reply, Server, StopOnDrop, wait_until};

use crate::resp_cluster::{KEYS, PATIENCE, another, before};

fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.as_bytes().to_vec())
}

#[test]
fn keys_of_several_nodes_are_read_and_written_by_one_command() {
    let cluster = Cluster::start();
    for coherence in ["off", "tracking"] {
        let proxy = before(&cluster, &[("RESP_COHERENCE", coherence)]);
        for protocol in ["2", "3"] {
            let mut client = proxy.redis_client();
            client.command(&["FLUSHALL"]);
            client.command(&["HELLO", protocol]);
            let ask = |client: &mut RedisClient, command: &str| {
                client.command(&command.split(' ').collect::<Vec<_>>())
            };
            assert_eq!(ask(&mut client, "MSET a 1 b 2 c 3 a 4"), Reply::Simple("OK".into()));
            for (key, value) in [("a", "4"), ("b", "2"), ("c", "3")] {
                assert_eq!(cluster.client().command(&["GET", key]), bulk(value));
            }
            let nil = Reply::Nil;
            for _ in 0..2 {
                assert_eq!(
                    ask(&mut client, "MGET c nothing a b a {a}no"),
                    Reply::Array(vec![bulk("3"), nil.clone(), bulk("4"), bulk("2"), bulk("4"), nil.clone()])
                );
            }
            assert_eq!(ask(&mut client, "EXISTS a b c d a"), Reply::Integer(4));
            assert_eq!(ask(&mut client, "TOUCH a b d"), Reply::Integer(2));
            // A write of the split command is seen by reads behind it, in one pipeline too.
            let mut raw = proxy.resp_client();
            raw.send("MGET a b\r\nMSET a 5 b 6\r\nMGET a b\r\nGET a\r\nDEL a b a\r\nGET b\r\nMGET a c\r\n");
            raw.expect(
                "*2\r\n$1\r\n4\r\n$1\r\n2\r\n+OK\r\n*2\r\n$1\r\n5\r\n$1\r\n6\r\n$1\r\n5\r\n:2\r\n$-1\r\n",
            );
            raw.expect("*2\r\n$-1\r\n$1\r\n3\r\n");
            assert_eq!(ask(&mut client, "UNLINK a b c"), Reply::Integer(1));
            let crosses = Reply::Error("CROSSSLOT Keys in request don't hash to the same slot".into());
            for command in ["MSETNX a 1 b 2", "RENAME a b", "MSET a 1 b", "SINTER a b", "BLPOP a b 0"] {
                assert_eq!(ask(&mut client, command), crosses, "{command}");
            }
        }
    }
}

#[test]
fn an_error_of_one_node_is_the_answer_and_what_others_have_done_stays() {
    let cluster = Cluster::start();
    cluster.set_user(&["part", "on", ">pw", "+@all", "~a", "~c"]);
    let proxy = before(&cluster, &[]);
    proxy.redis_client().flushall();
    let mut client = proxy.redis_client();
    client.command(&["AUTH", "part", "pw"]);
    let denied = |reply: Reply| {
        let Reply::Error(text) = reply else { panic!("{reply:?}") };
        assert!(text.starts_with("NOPERM "), "{text}");
    };
    denied(client.command(&["MSET", "a", "1", "b", "2", "c", "3"]));
    denied(client.command(&["MGET", "a", "b", "c"]));
    denied(client.command(&["DEL", "b", "d"]));
    assert_eq!(client.command(&["MGET", "a", "c"]), Reply::Array(vec![bulk("1"), bulk("3")]));
    assert_eq!(cluster.client().command(&["GET", "b"]), Reply::Nil);
}

/// Of one key a node, 20,000 keys.
#[test]
fn a_command_with_very_many_keys_is_answered_and_holds_nobody_up_for_good() {
    let cluster = Cluster::start();
    let proxy = before(&cluster, &[]);
    proxy.redis_client().flushall();
    let (mut client, mut other) = (proxy.redis_client(), proxy.redis_client());
    let keys: Vec<String> = (0..20_000).map(|number| format!("key:{number}")).collect();
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let pairs: Vec<&str> = keys.iter().flat_map(|key| [key.as_str(), key.as_str()]).collect();
    assert_eq!(client.command(&[&["MSET"], &pairs[..]].concat()), Reply::Simple("OK".into()));
    other.command(&["SET", "a", "1"]);
    let Reply::Array(values) = client.command(&[&["MGET"], &names[..]].concat()) else { panic!("an array") };
    assert!(values.len() == keys.len() && values.iter().zip(&keys).all(|(value, key)| *value == bulk(key)));
    assert_eq!(client.command(&["DBSIZE"]), Reply::Integer(20_001));
    assert_eq!(client.command(&[&["DEL"], &names[..]].concat()), Reply::Integer(20_000));
    assert_eq!(client.command(&["DBSIZE"]), Reply::Integer(1));
    // Somebody who leaves in the midst of it leaves nothing behind.
    let mut leaver = proxy.resp_client();
    leaver.send(format!(
        "*20001\r\n$3\r\nDEL\r\n{}",
        names.iter().map(|key| format!("${}\r\n{key}\r\n", key.len())).collect::<String>()
    ));
    drop(leaver);
    assert_eq!(other.command(&["MGET", "a", "b"]), Reply::Array(vec![bulk("1"), Reply::Nil]));
}

#[test]
fn a_pipeline_over_several_nodes_is_answered_in_order() {
    let cluster = Cluster::start();
    let proxy = before(&cluster, &[]);
    proxy.redis_client().flushall();
    let mut client = proxy.resp_client();
    let (mut requests, mut answers) = (String::new(), String::new());
    for number in 1..=300 {
        for key in KEYS {
            let text = number.to_string();
            let value = format!("${}\r\n{number}\r\n", text.len());
            requests += &format!(
                "MSET {key} {number} {{{key}}}x {number} other {number}\r\nGET {key}\r\nMGET {key} other\r\n"
            );
            requests += &format!("ECHO {number}\r\nEXISTS a b c other\r\nDBSIZE\r\nDEL other {{{key}}}x\r\n");
            answers += &format!("+OK\r\n{value}*2\r\n{value}{value}{value}");
            let keys = if number == 1 { 1 + KEYS.iter().position(|other| *other == key).unwrap() } else { 3 };
            answers += &format!(":{}\r\n:{}\r\n:2\r\n", keys + 1, keys + 2);
        }
    }
    client.send(&requests).expect(&answers);
}

/// What INFO says of this, as often as it does.
fn told(client: &mut RedisClient, section: &str, name: &str) -> Vec<String> {
    let info = match client.command(&["INFO", section]) {
        Reply::Bulk(info) => info,
        other => panic!("INFO: {other:?}"),
    };
    let info = String::from_utf8(info).expect("text");
    info.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(String::from).collect()
}

#[test]
fn info_counts_over_all_nodes_and_does_without_one_that_is_gone() {
    for server in [Server::Redis70, Server::Redis62, Server::Valkey91] {
        let Some(cluster) = Cluster::builder().server(server).start() else { continue };
        let proxy = before(&cluster, &[("REDIS_CONNECT_TIMEOUT", "300ms")]);
        let mut client = proxy.redis_client();
        client.flushall();
        for key in 0..30 {
            client.command(&["SET", &format!("key:{key}"), "", "PX", "900000"]);
        }
        let keyspace = told(&mut client, "keyspace", "db0");
        assert!(
            keyspace.len() == 1 && keyspace[0].starts_with("keys=30,expires=30,avg_ttl="),
            "{keyspace:?}"
        );
        client.command(&["CONFIG", "RESETSTAT"]);
        KEYS.iter().for_each(|key| drop(client.command(&["LINDEX", key, "0"])));
        let calls = told(&mut client, "commandstats", "cmdstat_lindex");
        assert!(calls.len() == 1 && calls[0].starts_with("calls=3,"), "{calls:?}");
        let mut blocked: Vec<_> = KEYS.iter().map(|_| proxy.resp_client()).collect();
        KEYS.iter().zip(&mut blocked).for_each(|(key, client)| {
            client.send(format!("BLPOP {{{key}}}list 0\r\n"));
        });
        wait_until(PATIENCE, "all to be blocked", || {
            told(&mut client, "clients", "blocked_clients") == ["3"]
        });
        // It is one Redis: each line stands there once, and all sections, with that of the proxy.
        let Reply::Bulk(info) = client.command(&["INFO"]) else { panic!("a text") };
        let info = String::from_utf8(info).unwrap();
        let names: Vec<_> = info.lines().filter_map(|line| Some(line.split_once(':')?.0)).collect();
        let different: BTreeSet<_> = names.iter().collect();
        assert_eq!(names.len(), different.len(), "{info}");
        for line in ["# Server", "# Keyspace", "# Proxy", "cluster_enabled:0", "role:master"] {
            assert!(info.contains(&format!("{line}\r\n")), "{info}");
        }
        let away = cluster.nodes().iter().find(|node| {
            node.address() != cluster.node_of(cluster.slot_of("a")).address() && !is_home(node, &mut client)
        });
        away.expect("a node that is neither").kill();
        wait_until(PATIENCE, "an answer of the others", || {
            told(&mut proxy.redis_client(), "server", "redis_version").len() == 1
        });
    }
}

/// Whether it is the node that is asked what is no matter of a key.
fn is_home(node: &RedisServer, client: &mut RedisClient) -> bool {
    told(client, "server", "run_id") == told(&mut node.client(), "server", "run_id")
}

#[test]
fn what_took_long_is_told_of_all_nodes() {
    let cluster = Cluster::start();
    let proxy = before(&cluster, &[]);
    for protocol in ["2", "3"] {
        let mut client = proxy.redis_client();
        client.command(&["HELLO", protocol]);
        client.command(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]);
        client.command(&["SLOWLOG", "RESET"]);
        for round in 0..4 {
            KEYS.iter().for_each(|key| drop(client.command(&["SET", key, &round.to_string()])));
        }
        let mut entries = |words: &[&str]| match client.command(words) {
            Reply::Array(entries) => entries,
            other => panic!("a slow log: {other:?}"),
        };
        assert_eq!(entries(&["SLOWLOG", "GET"]).len(), 10);
        assert_eq!(entries(&["SLOWLOG", "GET", "3"]).len(), 3);
        let all = entries(&["SLOWLOG", "GET", "-1"]);
        let time = |entry: &Reply| match entry {
            Reply::Array(fields) => match fields[1] {
                Reply::Integer(time) => time,
                _ => panic!("{entry:?}"),
            },
            _ => panic!("{entry:?}"),
        };
        assert!(all.len() >= 12 && all.is_sorted_by_key(|entry| -time(entry)), "{all:?}");
        let text = format!("{all:?}");
        assert!(KEYS.iter().all(|key| text.contains(&format!("{:?}", bulk(key)))), "{text}");
        assert!(matches!(client.command(&["SLOWLOG", "GET", "x"]), Reply::Error(_)));
        client.command(&["CONFIG", "SET", "slowlog-log-slower-than", "10000"]);
        // Events.
        client.command(&["CONFIG", "SET", "latency-monitor-threshold", "1"]);
        client.command(&["LATENCY", "RESET"]);
        for key in KEYS {
            let busy = "local n = 0; for i = 1, 3000000 do n = n + i end";
            client.command(&["EVAL", busy, "1", key]);
        }
        let Reply::Array(events) = client.command(&["LATENCY", "LATEST"]) else { panic!("events") };
        let names: Vec<_> = events.iter().map(|event| format!("{event:?}")).collect();
        let different: BTreeSet<_> = names.iter().collect();
        assert!(!names.is_empty() && names.len() == different.len(), "{names:?}");
        let Reply::Array(history) = client.command(&["LATENCY", "HISTORY", "command"]) else {
            panic!("pairs")
        };
        assert!((1..=3).contains(&history.len()), "{history:?}");
        assert!(matches!(client.command(&["LATENCY", "RESET"]), Reply::Integer(count) if count >= 1));
        client.command(&["CONFIG", "RESETSTAT"]);
        for key in KEYS {
            client.command(&["LINDEX", key, "0"]);
        }
        let histogram = format!("{:?}", client.command(&["LATENCY", "HISTOGRAM", "lindex"]));
        assert!(histogram.contains(&format!("{:?}, Integer(3)", bulk("calls"))), "{histogram}");
        client.command(&["CONFIG", "SET", "latency-monitor-threshold", "0"]);
    }
}

#[test]
fn what_is_for_all_nodes_goes_to_all() {
    for server in [Server::Redis70, Server::Redis62, Server::Redis82, Server::Valkey91] {
        let Some(cluster) = Cluster::builder().server(server).start() else { continue };
        let proxy = before(&cluster, &[]);
        proxy.redis_client().flushall();
        let mut client = proxy.redis_client();
        let mut ask = |command: &str| client.command(&command.split(' ').collect::<Vec<_>>());
        let ok = Reply::Simple("OK".into());
        for key in 0..30 {
            ask(&format!("SET key:{key} {key}"));
        }
        assert_eq!(ask("DBSIZE"), Reply::Integer(30));
        let Reply::Array(found) = ask("KEYS key:*") else { panic!("an array") };
        let expected: Vec<_> = (0..30).map(|key| bulk(&format!("key:{key}"))).collect();
        assert!(found.len() == 30 && expected.iter().all(|key| found.contains(key)), "{found:?}");
        assert!(expected.contains(&ask("RANDOMKEY")));
        let Reply::Bulk(sha) = ask("SCRIPT LOAD return") else { panic!("a sum") };
        let sha = String::from_utf8(sha).unwrap();
        for key in KEYS {
            assert_eq!(ask(&format!("EVALSHA {sha} 1 {key}")), Reply::Nil);
        }
        assert_eq!(
            ask(&format!("SCRIPT EXISTS {sha} x")),
            Reply::Array(vec![Reply::Integer(1), Reply::Integer(0)])
        );
        assert_eq!(ask("SCRIPT FLUSH"), ok);
        assert_eq!(ask(&format!("SCRIPT EXISTS {sha}")), Reply::Array(vec![Reply::Integer(0)]));
        let Reply::Error(text) = ask("SCRIPT KILL") else { panic!("an error") };
        assert!(text.starts_with("NOTBUSY"), "{text}");
        let on_all = |command: &[&str]| -> Vec<Reply> {
            cluster.nodes().iter().map(|node| node.client().command(command)).collect()
        };
        assert_eq!(ask("CONFIG SET maxmemory-samples 7"), ok);
        let samples = Reply::Array(vec![bulk("maxmemory-samples"), bulk("7")]);
        assert_eq!(on_all(&["CONFIG", "GET", "maxmemory-samples"]), vec![samples; 3]);
        assert_eq!(
            ask("CONFIG GET cluster-enabled"),
            Reply::Array(vec![bulk("cluster-enabled"), bulk("no")])
        );
        let Reply::Array(all) = ask("CONFIG GET *") else { panic!("an array") };
        let at = all.iter().position(|word| *word == bulk("cluster-enabled")).unwrap();
        assert_eq!(all[at + 1], bulk("no"));
        assert_eq!(ask("CONFIG RESETSTAT"), ok);
        assert_eq!(ask("ACL SETUSER somebody on"), ok);
        assert!(on_all(&["ACL", "GETUSER", "somebody"]).iter().all(|reply| matches!(reply, Reply::Array(_))));
        assert_eq!(ask("ACL DELUSER somebody"), Reply::Integer(1));
        assert_eq!(ask("CLIENT PAUSE 100 WRITE"), ok);
        assert_eq!(ask("CLIENT UNPAUSE"), ok);
        assert_eq!(ask("SLOWLOG RESET"), ok);
        assert_eq!(ask("MEMORY PURGE"), ok);
        let Reply::Error(_) = ask("SWAPDB 0 1") else { panic!("an error") };
        assert_eq!(ask("FLUSHDB"), ok);
        assert_eq!(on_all(&["DBSIZE"]), vec![Reply::Integer(0); 3]);
        assert_eq!(ask("RANDOMKEY"), Reply::Nil);
        ask("MSET a 1 b 2 c 3");
        assert_eq!(ask("FLUSHALL"), ok);
        assert_eq!(on_all(&["DBSIZE"]), vec![Reply::Integer(0); 3]);
        assert_eq!(ask("RANDOMKEY"), Reply::Nil);
        if server != Server::Redis62 {
            let code = "#!lua name=lib\nredis.register_function('f', function() return 1 end)";
            let ask = |client: &mut RedisClient, words: &[&str]| client.command(words);
            assert_eq!(ask(&mut client, &["FUNCTION", "LOAD", code]), bulk("lib"));
            for key in KEYS {
                assert_eq!(ask(&mut client, &["FCALL", "f", "1", key]), Reply::Integer(1));
            }
            assert!(matches!(ask(&mut client, &["FUNCTION", "LIST"]), Reply::Array(all) if all.len() == 1));
            assert_eq!(ask(&mut client, &["FUNCTION", "DELETE", "lib"]), ok);
            assert_eq!(on_all(&["FUNCTION", "LIST"]), vec![Reply::Array(Vec::new()); 3]);
        }
    }
}

#[test]
fn a_scan_finds_every_key_of_every_node() {
    for server in [Server::Redis70, Server::Redis62, Server::Redis82, Server::Valkey91] {
        let Some(cluster) = Cluster::builder().server(server).start() else { continue };
        let proxy = before(&cluster, &[]);
        proxy.redis_client().flushall();
        let mut client = proxy.redis_client();
        let keys: BTreeSet<Vec<u8>> = (0..500).map(|number| format!("key:{number}").into_bytes()).collect();
        for key in &keys {
            client.set(key, "v");
        }
        client.command(&["RPUSH", "list", "x"]);
        let mut scan = |options: &[&str]| {
            let (mut found, mut cursor, mut rounds) = (BTreeSet::new(), "0".to_owned(), 0);
            loop {
                let reply = client.command(&[&["SCAN", &cursor], options].concat());
                let Reply::Array(parts) = reply else { panic!("{reply:?}") };
                let [Reply::Bulk(next), Reply::Array(names)] = &parts[..] else { panic!("{parts:?}") };
                found.extend(names.iter().map(|name| match name {
                    Reply::Bulk(name) => name.clone(),
                    other => panic!("{other:?}"),
                }));
                cursor = String::from_utf8(next.clone()).unwrap();
                assert!(cursor.parse::<u64>().unwrap() < 1 << 53, "{cursor}");
                rounds += 1;
                if cursor == "0" {
                    return (found, rounds);
                }
            }
        };
        let all: BTreeSet<_> = keys.iter().cloned().chain([b"list".to_vec()]).collect();
        let (found, rounds) = scan(&[]);
        assert!(found == all && rounds > 10, "{rounds}");
        let (found, rounds) = scan(&["COUNT", "1000", "MATCH", "key:1*", "TYPE", "string"]);
        let expected: BTreeSet<_> = keys.iter().filter(|key| key.starts_with(b"key:1")).cloned().collect();
        assert!(found == expected && (3..20).contains(&rounds), "{rounds}");
        assert_eq!(scan(&["TYPE", "list"]).0, BTreeSet::from([b"list".to_vec()]));
        let bad = Reply::Error("ERR invalid cursor".into());
        for cursor in ["x", "", "99999999999999999999999"] {
            assert_eq!(client.command(&["SCAN", cursor]), bad, "{cursor}");
        }
        let over = Reply::Array(vec![bulk("0"), Reply::Array(Vec::new())]);
        assert_eq!(client.command(&["SCAN", &((1u64 << 53) - 1).to_string()]), over);
        let syntax = Reply::Error("ERR syntax error".into());
        assert_eq!(client.command(&["SCAN", "0", "COUNT", "0"]), syntax);
    }
}

#[test]
fn slots_that_move_while_split_commands_use_them_cost_no_error() {
    let cluster = Cluster::start();
    for coherence in ["off", "tracking"] {
        let proxy = before(&cluster, &[("RESP_COHERENCE", coherence)]);
        let slot = cluster.slot_of("{a}");
        let (is_over, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            let _end = StopOnDrop(&is_over);
            for number in 0..4 {
                let (is_over, rounds, proxy) = (&is_over, &rounds, &proxy);
                scope.spawn(move || {
                    let mut client = proxy.resp_client();
                    let mut count = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        // Two keys of the slot that moves, which may be at either node, and others.
                        let keys = [
                            format!("{{a}}{number}"),
                            format!("{{a}}{number}:{count}"),
                            format!("{{b}}{number}"),
                            format!("{{c}}{number}:{count}"),
                        ];
                        count += 1;
                        let [one, two, three, four] = &keys;
                        client.send(format!(
                            "MSET {one} {count} {two} {count} {three} {count} {four} {count}\r\n\
                             MGET {three} {two} {one}\r\nDEL {one} {four} {two}\r\nEXISTS {one} {two} {three} {four}\r\n"
                        ));
                        let bulk = format!("${}\r\n{count}\r\n", count.to_string().len());
                        client.expect(format!("+OK\r\n*3\r\n{bulk}{bulk}{bulk}:3\r\n:1\r\n"));
                        rounds.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            for _ in 0..4 {
                let used = |rounds: &AtomicU64| {
                    let before = rounds.load(Ordering::Relaxed);
                    wait_until(PATIENCE, "use of the slot", || rounds.load(Ordering::Relaxed) > before + 50);
                };
                used(&rounds);
                let migration = cluster.begin_migration(slot, another(&cluster, slot));
                used(&rounds);
                migration.move_keys(3);
                used(&rounds);
                migration.finish();
            }
            is_over.store(true, Ordering::Relaxed);
        });
    }
}

#[test]
fn wait_counts_the_replicas_that_every_node_has() {
    // On Redis up to 7.1 any command makes WAIT look as far as what is written by then, later only one that writes.
    for server in [Server::Redis82, Server::Redis70] {
        let builder = Cluster::builder().server(server).nodes(3, 1).node_timeout(Duration::from_secs(30));
        if let Some(cluster) = builder.start() {
            assert_wait_counts_replicas(&cluster);
        }
    }
}

fn assert_wait_counts_replicas(cluster: &Cluster) {
    let proxy = before(cluster, &[]);
    let mut client = proxy.redis_client();
    let ask =
        |client: &mut RedisClient, command: &str| client.command(&command.split(' ').collect::<Vec<_>>());
    ask(&mut client, "MSET a 1 b 2 c 3");
    assert_eq!(ask(&mut client, "WAIT 1 5000"), Reply::Integer(1));
    let keys = Reply::Array(Vec::new());
    assert_eq!(ask(&mut client, "KEYS redis-proxy:*"), keys);
    let replica = cluster.replicas_of(cluster.node_of(cluster.slot_of("b")))[0];
    replica.pause_process();
    ask(&mut client, "SET b 3");
    let began = Instant::now();
    assert_eq!(ask(&mut client, "WAIT 1 300"), Reply::Integer(0));
    assert!(began.elapsed() >= Duration::from_millis(250), "{:?}", began.elapsed());
    // It holds up nobody, and ends with its client.
    let mut waiting = proxy.resp_client();
    waiting.send("WAIT 1 0\r\nPING\r\n");
    assert_eq!(ask(&mut client, "MGET a b c"), Reply::Array(vec![bulk("1"), bulk("3"), bulk("3")]));
    assert!(waiting.is_silent_for(Duration::from_millis(200)));
    let mut leaver = proxy.resp_client();
    leaver.send("WAIT 1 0\r\n");
    let blocked = || {
        let blocked = cluster.nodes()[..3].iter().map(|node| {
            let Reply::Bulk(info) = node.client().command(&["INFO", "clients"]) else { panic!("a text") };
            let info = String::from_utf8_lossy(&info).into_owned();
            let mut lines = info.lines();
            let count = lines.find_map(|line| line.strip_prefix("blocked_clients:")?.parse::<usize>().ok());
            count.expect("a number")
        });
        blocked.sum::<usize>()
    };
    wait_until(PATIENCE, "both to wait", || blocked() == 2);
    drop(leaver);
    wait_until(PATIENCE, "one to have left", || blocked() == 1);
    replica.resume_process();
    waiting.expect(":1\r\n+PONG\r\n");
    assert_eq!(
        ask(&mut client, "WAIT x 1"),
        Reply::Error("ERR value is not an integer or out of range".into())
    );
    cluster.set_user(&["mute", "on", ">pw", "+@all", "-set", "~*"]);
    client.command(&["AUTH", "mute", "pw"]);
    let Reply::Error(text) = ask(&mut client, "WAIT 0 1") else { panic!("an error") };
    assert!(text.starts_with("NOPERM "), "{text}");
}

#[test]
fn a_large_command_that_goes_in_pieces_is_taken_whole_within_what_may_be_unread() {
    let cluster = Cluster::start();
    let proxy = before(&cluster, &[("RESP_UNREAD_BYTES", "8MiB")]);
    let mut client = proxy.redis_client();
    client.flushall();
    let value = "x".repeat(700_000);
    let pairs: Vec<&str> = KEYS.iter().flat_map(|key| [*key, value.as_str()]).collect();
    assert_eq!(client.command(&[&["MSET"], &pairs[..]].concat()), Reply::Simple("OK".into()));
    let all = Reply::Array(KEYS.iter().map(|_| bulk(&value)).collect());
    assert_eq!(client.command(&[&["MGET"], &KEYS[..]].concat()), all);
    let keys: Vec<String> = (0..100_000).map(|number| format!("key:{number}")).collect();
    let names: Vec<&str> = ["a"].into_iter().chain(keys.iter().map(String::as_str)).collect();
    for _ in 0..5 {
        // What was room for one is room for the next.
        let Reply::Integer(_) = client.command(&[&["UNLINK"], &names[..]].concat()) else {
            panic!("a number")
        };
    }
    // Half of a command that is too large for what all may leave: its client is closed, and leaves the room.
    for _ in 0..3 {
        let mut hog = proxy.resp_client();
        let half = format!("*1000\r\n$4\r\nMSET\r\n$1\r\na\r\n$20000000\r\n{}", "x".repeat(9_000_000));
        // It may be closed before all is sent.
        let _ = hog.try_send(half);
        assert!(hog.at_end());
    }
    assert_eq!(client.command(&[&["MSET"], &pairs[..]].concat()), Reply::Simple("OK".into()));
    // One that is for one node is streamed or whole as before.
    let mut other = proxy.resp_client();
    other.send(format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$9000000\r\n{}\r\n", "x".repeat(9_000_000)));
    other.expect("+OK\r\n");
}

#[test]
fn what_is_still_to_be_sent_of_a_large_command_counts_as_unread() {
    let cluster = Cluster::start();
    let proxy = before(&cluster, &[("UPSTREAM_TIMEOUT", "20s")]);
    let mut client = proxy.resp_client();
    let unread = || proxy.metrics().value("redis_proxy_resp_unread_bytes");
    let node = cluster.node_of(cluster.slot_of("a"));
    node.pause_process();
    let pairs: String =
        (0..60_000).map(|number| format!("$10\r\nkey:{number:06}\r\n$30\r\n{number:030}\r\n")).collect();
    client.send(format!("*120001\r\n$4\r\nMSET\r\n{pairs}"));
    wait_until(PATIENCE, "what is still to be sent", || unread() > 3e6);
    thread::sleep(Duration::from_millis(300));
    assert!(unread() > 3e6, "{}", unread());
    node.resume_process();
    client.expect("+OK\r\n");
    wait_until(PATIENCE, "nothing unread", || unread() == 0.0);
}

#[test]
fn reads_of_several_nodes_that_are_lost_with_a_connection_are_sent_once_more() {
    let cluster = Cluster::start();
    let proxy = before(&cluster, &[]);
    let mut client = proxy.redis_client();
    client.command(&["MSET", "a", "1", "b", "2", "c", "3"]);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _end = StopOnDrop(&is_over);
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let (mut client, mut reads) = (proxy.redis_client(), 0);
                    while !is_over.load(Ordering::Relaxed) {
                        let all = Reply::Array(["3", "1", "2"].map(bulk).to_vec());
                        assert_eq!(client.command(&["MGET", "c", "a", "b"]), all);
                        assert_eq!(client.command(&["EXISTS", "c", "a", "b", "no"]), Reply::Integer(3));
                        reads += 1;
                    }
                    reads
                })
            })
            .collect();
        for round in 0..10 {
            thread::sleep(Duration::from_millis(100));
            cluster.nodes()[round % 3].client().command(&["CLIENT", "KILL", "TYPE", "normal"]);
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(readers.into_iter().all(|reader| reader.join().expect("a reader") > 10));
    });
    // A write whose connection is lost may have been carried out: its client is closed.
    client.command(&["CLIENT", "PAUSE", "10000", "WRITE"]);
    let mut writer = proxy.resp_client();
    writer.send("MSET a 1 b 2 c 3\r\n");
    assert!(writer.is_silent_for(Duration::from_millis(200)));
    let killed =
        cluster.node_of(cluster.slot_of("b")).client().command(&["CLIENT", "KILL", "TYPE", "normal"]);
    assert!(matches!(killed, Reply::Integer(1..)), "{killed:?}");
    assert!(writer.at_end());
    assert_eq!(client.command(&["CLIENT", "UNPAUSE"]), Reply::Simple("OK".into()));
}

#[test]
fn clients_that_are_silent_paused_or_subscribed_split_commands_too() {
    let cluster = Cluster::start();
    let proxy = before(&cluster, &[]);
    proxy.redis_client().flushall();
    let mut silent = proxy.resp_client();
    silent.send("CLIENT REPLY OFF\r\nMSET a 1 b 2\r\nDEL a\r\nDBSIZE\r\nCLIENT REPLY ON\r\nMGET a b\r\n");
    silent.expect("+OK\r\n*2\r\n$-1\r\n$1\r\n2\r\n");
    silent.send("CLIENT REPLY SKIP\r\nMSET a 3 b 4\r\nMGET a b\r\n").expect("*2\r\n$1\r\n3\r\n$1\r\n4\r\n");
    let mut subscriber = proxy.resp_client();
    subscriber.resp3().send("SUBSCRIBE news\r\n");
    subscriber.expect(">3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    subscriber.send("MGET a b\r\nDBSIZE\r\n").expect("*2\r\n$1\r\n3\r\n$1\r\n4\r\n:2\r\n");
    let mut subscriber = proxy.resp_client();
    subscriber.send("SUBSCRIBE news\r\n").expect("*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    let refusal = subscriber.send("MGET a b\r\n").line();
    assert!(refusal.starts_with("-ERR Can't execute 'mget'"), "{refusal}");
    let mut admin = proxy.resp_client();
    admin.ask("CLIENT PAUSE 20000 WRITE", "+OK");
    let mut writer = proxy.resp_client();
    writer.send("MSET a 5 b 6\r\n");
    assert!(writer.is_silent_for(Duration::from_millis(200)));
    // What reads is not held up, and what ends the pause is not either.
    admin.send("MGET a b\r\n").expect("*2\r\n$1\r\n3\r\n$1\r\n4\r\n");
    let began = Instant::now();
    admin.ask("CLIENT UNPAUSE", "+OK");
    writer.expect("+OK\r\n");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    admin.send("MGET a b\r\n").expect("*2\r\n$1\r\n5\r\n$1\r\n6\r\n");
}

#[test]
fn what_is_for_all_nodes_does_not_overtake_a_write_that_a_node_has_sent_on() {
    let cluster = Cluster::start();
    let proxy = before(&cluster, &[]);
    let mut client = proxy.resp_client();
    client.ask("FLUSHALL", "+OK");
    let slot = cluster.slot_of("a");
    for round in 0..10 {
        // Nobody has told the proxy: the SET is sent to where the slot was.
        cluster.migrate_slot(slot, another(&cluster, slot));
        client.send(format!(
            "SET a {round}\r\nFLUSHALL\r\nDBSIZE\r\nGET a\r\nSET b {round}\r\nDBSIZE\r\nDEL b\r\n"
        ));
        client.expect("+OK\r\n+OK\r\n:0\r\n$-1\r\n+OK\r\n:1\r\n:1\r\n");
    }
    let has_sent_on = cluster.nodes().iter().any(|node| {
        let told = node.client().command(&["INFO", "errorstats"]);
        matches!(told, Reply::Bulk(text) if String::from_utf8_lossy(&text).contains("errorstat_MOVED"))
    });
    assert!(has_sent_on, "no SET was sent on");
}
