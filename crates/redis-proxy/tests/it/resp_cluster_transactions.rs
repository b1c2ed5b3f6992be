//! Transactions of Redis clients in front of a cluster: they begin at the node of their first key, and have keys of one slot.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use testkit::{Cluster, Proxy, RawClient, Reply, StopOnDrop, wait_until};

use crate::resp_cluster::{KEYS, PATIENCE, another, assert_tells_of_no_node, before};

const CROSSES: &str = "-CROSSSLOT Keys in request don't hash to the same slot";
const ABORTED: &str = "-EXECABORT Transaction discarded because of previous errors.";

fn pins(proxy: &Proxy) -> f64 {
    proxy.metrics().value("redis_proxy_pinned_connections")
}

#[track_caller]
fn assert_all_given_back(proxy: &Proxy) {
    wait_until(PATIENCE, "all pins to be given back", || pins(proxy) == 0.0);
}

/// What these lines are answered, a line each sent behind the reply to the one before.
fn one_by_one(client: &mut RawClient, lines: &str) -> String {
    let replies = lines.lines().map(|line| client.send(format!("{line}\r\n")).reply());
    String::from_utf8(replies.collect::<Vec<_>>().concat()).expect("text")
}

/// The same, all sent at once.
fn at_once(client: &mut RawClient, lines: &str) -> String {
    client.send(lines.replace('\n', "\r\n") + "\r\n");
    String::from_utf8(lines.lines().flat_map(|_| client.reply()).collect()).expect("text")
}

/// A key of another slot at the node that has this one.
fn neighbour(cluster: &Cluster, key: &str) -> String {
    let slot = cluster.slot_of(key);
    let node = cluster.node_of(slot).address();
    (0..)
        .map(|number| format!("neighbour{number}"))
        .find(|other| {
            let other = cluster.slot_of(other);
            other != slot && cluster.node_of(other).address() == node
        })
        .expect("a key")
}

#[test]
fn a_transaction_is_carried_out_at_the_node_of_its_keys() {
    let cluster = Cluster::start();
    let proxy = before(&cluster, &[]);
    for say in [one_by_one, at_once] {
        let mut client = proxy.resp_client();
        for key in KEYS {
            // Whatever comes before the first key, at whichever node.
            for (ahead, answers) in [
                ("", ""),
                ("PING\n", "+PONG\r\n"),
                (
                    "ECHO x\nSELECT 0\nCLIENT GETNAME\nEVAL \"return 7\" 0\n",
                    "$1\r\nx\r\n+OK\r\n$-1\r\n:7\r\n",
                ),
            ] {
                let count = ahead.lines().count();
                let lines = format!(
                    "SET {key} 1\nMULTI\n{ahead}INCR {key}\nLPUSH {{{key}}}l x\nDEL {{{key}}}l\nEXEC\nGET {key}"
                );
                let queued = "+QUEUED\r\n".repeat(count + 3);
                let expected =
                    format!("+OK\r\n+OK\r\n{queued}*{}\r\n{answers}:2\r\n:1\r\n:1\r\n$1\r\n2\r\n", count + 3);
                assert_eq!(say(&mut client, &lines), expected, "{lines}");
            }
        }
        for (lines, expected) in [
            ("MULTI\nEXEC", "+OK\r\n*0\r\n"),
            ("MULTI\nPING\nEXEC", "+OK\r\n+QUEUED\r\n*1\r\n+PONG\r\n"),
            ("MULTI\nDISCARD\nEXEC", "+OK\r\n+OK\r\n-ERR EXEC without MULTI\r\n"),
            ("MULTI\nSET b no\nDISCARD\nGET b", "+OK\r\n+QUEUED\r\n+OK\r\n$1\r\n2\r\n"),
            (
                "MULTI\nMULTI\nSET b 3\nEXEC",
                "+OK\r\n-ERR MULTI calls can not be nested\r\n+QUEUED\r\n*1\r\n+OK\r\n",
            ),
        ] {
            let said = say(&mut client, lines);
            // Redis 7.0 and later have such a MULTI spoil the transaction.
            let aborts = expected.contains("nested") && said.contains("EXECABORT");
            assert!(said == expected || aborts, "{lines}: {said}");
        }
    }
    assert_all_given_back(&proxy);
}

#[test]
fn keys_of_several_slots_are_refused_and_abort_a_transaction() {
    let cluster = Cluster::start();
    let proxy = before(&cluster, &[]);
    let mut client = proxy.resp_client();
    for other in ["b".to_string(), neighbour(&cluster, "a")] {
        for _ in 0..2 {
            client.ask("MULTI", "+OK").ask("SET a 5", "+QUEUED").ask(&format!("SET {other} 5"), CROSSES);
            client.ask("SET {a}1 5", "+QUEUED").ask("EXEC", ABORTED);
            client
                .ask("GET a", "$1\r\n0")
                .ask(&format!("EXISTS {other} {other}"), if other == "b" { ":2" } else { ":0" });
        }
    }
    client.ask("MULTI", "+OK").ask("MSET a 1 b 2", CROSSES).ask("EXEC", ABORTED);
    client.ask("MULTI", "+OK").ask("SET a 1", "+QUEUED").ask("MGET a b", CROSSES).ask("EXEC", ABORTED);
    // What spoils it before its first key does so wherever that is.
    for key in KEYS {
        client.ask("MULTI", "+OK").ask("NOSUCH", "-ERR unknown command 'NOSUCH', with args beginning with: ");
        client
            .ask(&format!("SET {key} 1"), "+QUEUED")
            .ask("EXEC", ABORTED)
            .ask(&format!("GET {key}"), "$1\r\n0");
        client
            .ask("MULTI", "+OK")
            .ask("DBSIZE", "-ERR proxy: DBSIZE in a transaction over a cluster is not supported");
        client
            .ask(&format!("SET {key} 1"), "+QUEUED")
            .ask("EXEC", ABORTED)
            .ask(&format!("GET {key}"), "$1\r\n0");
    }
    for command in [
        "FLUSHALL",
        "KEYS *",
        "INFO",
        "SUBSCRIBE x",
        "CLIENT REPLY OFF",
        "SCRIPT FLUSH",
        "FUNCTION FLUSH",
        "PUBSUB CHANNELS",
        "PUBSUB NUMSUB x",
    ] {
        let name = command.strip_suffix(" *").or(command.strip_suffix(" x")).unwrap_or(command);
        let name = if name == "CLIENT REPLY OFF" { "CLIENT REPLY" } else { name };
        client
            .ask("MULTI", "+OK")
            .ask(command, &format!("-ERR proxy: {name} in a transaction over a cluster is not supported"));
        client.ask("EXEC", ABORTED);
    }
    client
        .ask("MULTI", "+OK")
        .ask("CLUSTER NODES", "-ERR This instance has cluster support disabled")
        .ask("EXEC", ABORTED);
    client.ask("PING", "+PONG").ask("GET b", "$1\r\n0");
    assert_all_given_back(&proxy);
}

#[test]
fn what_is_watched_is_of_one_slot_and_a_change_of_it_aborts() {
    let cluster = Cluster::start();
    let proxy = before(&cluster, &[]);
    let (mut client, mut other) = (proxy.resp_client(), proxy.resp_client());
    for (key, away) in [("a", "b"), ("b", "c"), ("c", "a")] {
        client
            .ask(&format!("WATCH {key}"), "+OK")
            .ask("MULTI", "+OK")
            .ask(&format!("SET {key} mine"), "+QUEUED")
            .ask("EXEC", "*1\r\n+OK");
        client.ask(&format!("WATCH {key} {{{key}}}2"), "+OK").ask(&format!("GET {away}"), &{
            let reply = String::from_utf8(other.send(format!("GET {away}\r\n")).reply()).expect("text");
            reply.trim_end().to_string()
        });
        other.ask(&format!("SET {{{key}}}2 theirs"), "+OK");
        client
            .ask("MULTI", "+OK")
            .ask(&format!("SET {key} lost"), "+QUEUED")
            .ask("EXEC", "*-1")
            .ask(&format!("GET {key}"), "$4\r\nmine");
        client
            .ask(&format!("WATCH {key}"), "+OK")
            .ask(&format!("WATCH {away}"), CROSSES)
            .ask(&format!("WATCH {key} {away}"), CROSSES);
        client.ask("MULTI", "+OK").ask(&format!("SET {away} x"), CROSSES).ask("EXEC", ABORTED);
        client.ask(&format!("WATCH {key}"), "+OK").ask("UNWATCH", "+OK").ask(&format!("WATCH {away}"), "+OK");
        other.ask(&format!("SET {key} other"), "+OK");
        client.ask("MULTI", "+OK").ask("PING", "+QUEUED").ask("EXEC", "*1\r\n+PONG");
        client.send(format!("WATCH {key}\r\nMULTI\r\nINCRBY {{{key}}}n 1\r\nEXEC\r\nDEL {{{key}}}n\r\nWATCH {away}\r\nMULTI\r\nEXISTS {away}\r\nEXEC\r\n"));
        client.expect("+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n:1\r\n:1\r\n+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n:1\r\n");
    }
    assert_all_given_back(&proxy);
}

#[test]
fn what_a_client_has_begun_is_given_back_however_it_ends() {
    let cluster = Cluster::start();
    let proxy = before(&cluster, &[]);
    let begun =
        ["MULTI\r\n", "MULTI\r\nPING\r\n", "MULTI\r\nPING\r\nSET a 1\r\n", "WATCH a\r\nMULTI\r\nSET a 1\r\n"];
    for lines in begun {
        for end in ["RESET\r\n", "QUIT\r\n", "DISCARD\r\n", ""] {
            let mut client = proxy.resp_client();
            client.send(lines);
            (0..lines.lines().count()).for_each(|_| assert!(client.line().starts_with('+')));
            client.send(end);
            if !end.is_empty() {
                assert!(client.line().starts_with('+'), "{lines}{end}");
            }
            if end.starts_with('R') || end.starts_with('D') {
                client.ask("EXEC", "-ERR EXEC without MULTI").ask("GET b", "$1\r\n0");
                let list = client.send("CLIENT INFO\r\n").bulk();
                assert!(String::from_utf8_lossy(&list).contains("multi=-1"), "{lines}{end}");
            }
            drop(client);
            assert_all_given_back(&proxy);
        }
    }
    let mut client = proxy.resp_client();
    client.ask("GET a", "$1\r\n0");
}

#[test]
fn a_transaction_that_gets_no_connection_or_no_leave_never_runs_in_pieces() {
    let cluster = Cluster::start();
    cluster.set_user(&["plain", "on", ">pw", "~*", "+@all", "-multi"]);
    let proxy = before(&cluster, &[("MAX_PINNED", "1")]);
    let (mut one, mut two) = (proxy.resp_client(), proxy.resp_client());
    two.ask("WATCH a", "+OK");
    let refused = "-ERR proxy: too many pinned connections";
    for end in ["EXEC", "DISCARD", "RESET"] {
        one.ask("MULTI", "+OK").ask("SET a 1", refused).ask("SET a 1", refused);
        one.send(format!("{end}\r\n")).line();
        one.ask("GET a", "$1\r\n0");
    }
    two.ask("UNWATCH", "+OK");
    assert_all_given_back(&proxy);
    one.ask("MULTI", "+OK").ask("SET a 1", "+QUEUED").ask("EXEC", "*1\r\n+OK");
    assert_all_given_back(&proxy);
    one.ask("AUTH plain pw", "+OK").ask("MULTI", "+OK");
    let refusal = one.send("SET a 2\r\n").line();
    assert!(refusal.starts_with("-NOPERM"), "{refusal}");
    one.ask("EXEC", ABORTED).ask("GET a", "$1\r\n1");
    one.send("MULTI\r\nSET a 2\r\nINCR a\r\nEXEC\r\nGET a\r\n")
        .expect(format!("+OK\r\n{refusal}\r\n{refusal}\r\n{ABORTED}\r\n$1\r\n1\r\n"));
    assert_all_given_back(&proxy);
}

#[test]
fn a_silent_client_and_a_big_value_have_transactions_too() {
    let cluster = Cluster::start();
    let proxy = before(&cluster, &[("RESP_BIG_REQUEST_BYTES", "64KiB")]);
    let mut client = proxy.resp_client();
    for key in KEYS {
        client.send(format!("CLIENT REPLY OFF\r\nMULTI\r\nPING\r\nINCR {key}\r\nEXEC\r\nWATCH {key}\r\nMULTI\r\nINCR {key}\r\nEXEC\r\nCLIENT REPLY ON\r\nGET {key}\r\n"));
        client.expect("+OK\r\n$1\r\n2\r\n");
        client
            .send(format!("CLIENT REPLY SKIP\r\nMULTI\r\nINCR {key}\r\nEXEC\r\n"))
            .expect("+QUEUED\r\n*1\r\n:3\r\n");
        let big = "x".repeat(300_000);
        client
            .ask("MULTI", "+OK")
            .send_command(&["SET", &format!("{{{key}}}big"), &big])
            .expect("+QUEUED\r\n");
        client
            .send_command(&["APPEND", &format!("{{{key}}}big"), &big])
            .expect("+QUEUED\r\n")
            .ask("EXEC", "*2\r\n+OK\r\n:600000");
    }
    assert_all_given_back(&proxy);
}

/// What was read from the cache before is not after EXEC.
#[test]
fn what_a_transaction_has_changed_leaves_the_cache() {
    let cluster = Cluster::start();
    let proxy = before(&cluster, &[("RESP_COHERENCE", "tracking")]);
    let (mut client, mut reader) = (proxy.resp_client(), proxy.resp_client());
    for round in 1..50 {
        for key in KEYS {
            reader
                .ask(&format!("GET {key}"), &format!("${}\r\n{}", (round - 1).to_string().len(), round - 1));
            client
                .send(format!("MULTI\r\nINCR {key}\r\nEXEC\r\n"))
                .expect(format!("+OK\r\n+QUEUED\r\n*1\r\n:{round}\r\n"));
        }
    }
}

/// Nothing but -TRYAGAIN and what EXEC makes of it, and each transaction as a whole or not at all.
#[test]
fn while_its_slot_moves_a_transaction_is_whole_or_told_to_try_again() {
    let cluster = Cluster::start();
    let proxy = before(&cluster, &[]);
    let slot = cluster.slot_of("{a}");
    let home = cluster.node_of(slot);
    let (is_over, done, again) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        let _end = StopOnDrop(&is_over);
        for number in 0..4 {
            let (is_over, done, again, proxy) = (&is_over, &done, &again, &proxy);
            scope.spawn(move || {
                let (mut client, mut count) = (proxy.resp_client(), 0);
                let (one, two) = (format!("{{a}}{number}:1"), format!("{{a}}{number}:2"));
                while !is_over.load(Ordering::Relaxed) {
                    let watch = if count % 2 == 0 { String::new() } else { format!("WATCH {one}\r\n") };
                    client.send(format!("{watch}MULTI\r\nINCR {one}\r\nINCR {two}\r\nEXEC\r\n"));
                    let replies: Vec<_> = (0..4 + watch.lines().count())
                        .map(|_| String::from_utf8(client.reply()).expect("text"))
                        .collect();
                    replies.iter().for_each(|reply| assert_tells_of_no_node(reply));
                    let exec = replies.last().expect("that of EXEC");
                    if *exec == format!("*2\r\n:{0}\r\n:{0}\r\n", count + 1) {
                        count += 1;
                        done.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    let errors: Vec<_> = replies.iter().filter(|reply| reply.starts_with('-')).collect();
                    assert!(
                        *exec == "*-1\r\n"
                            || !errors.is_empty()
                                && errors.iter().all(|error| {
                                    ["-TRYAGAIN ", "-EXECABORT "].iter().any(|code| error.starts_with(code))
                                }),
                        "{replies:?}"
                    );
                    again.fetch_add(1, Ordering::Relaxed);
                    // A WATCH that stands because MULTI was refused would be for the next.
                    client.ask("UNWATCH", "+OK");
                }
            });
        }
        for _ in 0..6 {
            let wait = || {
                let before = done.load(Ordering::Relaxed);
                wait_until(PATIENCE, "transactions", || done.load(Ordering::Relaxed) > before + 50);
            };
            wait();
            let migration = cluster.begin_migration(slot, another(&cluster, slot));
            thread::sleep(Duration::from_millis(20));
            migration.move_keys(3);
            thread::sleep(Duration::from_millis(20));
            migration.finish();
            wait();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    eprintln!("{done:?} transactions, {again:?} told to try again");
    if cluster.node_of(slot).address() != home.address() {
        cluster.migrate_slot(slot, home);
    }
}

/// A command with one key is no transaction, wherever it stands.
#[test]
fn what_stands_behind_an_exec_or_a_watch_follows_its_slot() {
    let cluster = Cluster::start();
    let proxy = before(&cluster, &[]);
    let slot = cluster.slot_of("a");
    let mut client = proxy.resp_client();
    client.ask("SET {a}gone 1", "+OK");
    let migration = cluster.begin_migration(slot, another(&cluster, slot));
    migration.move_keys(2);
    client.ask("SET {a}new 7", "+OK");
    for begin in ["MULTI\r\nPING\r\nEXEC\r\n", "WATCH b\r\nMULTI\r\nEXEC\r\n", "WATCH {a}x\r\n"] {
        client.send(format!("{begin}GET {{a}}gone\r\nINCR {{a}}new\r\nDECR {{a}}new\r\nUNWATCH\r\n"));
        let replies: Vec<_> = (0..begin.lines().count() + 4)
            .map(|_| String::from_utf8(client.reply()).expect("text"))
            .collect();
        let behind = &replies[begin.lines().count()..];
        assert_eq!(behind, ["$1\r\n1\r\n", ":8\r\n", ":7\r\n", "+OK\r\n"], "{begin}");
    }
    migration.finish();
}

#[test]
fn a_slot_that_moves_aborts_what_watches_it() {
    let cluster = Cluster::start();
    let proxy = before(&cluster, &[]);
    let slot = cluster.slot_of("a");
    let mut client = proxy.resp_client();
    for key in ["a", "{a}missing"] {
        for queued in [format!("SET {key} mine"), "SET {a}other mine".into(), "PING".into()] {
            // The node that has not got the slot any more may be asked once; then it is known.
            let mut watch = || client.send(format!("WATCH {key}\r\n")).line();
            wait_until(PATIENCE, "a WATCH at the node of its slot", || {
                let answer = watch();
                assert!(answer == "+OK" || answer.starts_with("-TRYAGAIN "), "{answer}");
                answer == "+OK"
            });
            cluster.migrate_slot(slot, another(&cluster, slot));
            assert_eq!(cluster.client().command(&["SET", key, "theirs"]), Reply::Simple("OK".into()));
            client.ask("MULTI", "+OK");
            client.send(format!("{queued}\r\n")).line();
            let exec = client.send("EXEC\r\n").line();
            assert!(
                exec == "*-1" || exec.starts_with("-EXECABORT ") || exec.starts_with("-TRYAGAIN "),
                "{key} {queued}: {exec}"
            );
            assert_eq!(cluster.client().command(&["GET", key]), Reply::Bulk(b"theirs".to_vec()));
            assert_eq!(cluster.client().command(&["DEL", key]), Reply::Integer(1));
        }
    }
    assert_all_given_back(&proxy);
}
