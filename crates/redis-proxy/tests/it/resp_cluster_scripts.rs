//! Scripts of Redis clients in front of a cluster: one goes to the node of its keys.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use testkit::{Cluster, Reply, StopOnDrop, wait_until};

use crate::resp_cluster::{KEYS, PATIENCE, another, assert_tells_of_no_node, before};

/// Counts both keys up.
const COUNT: &str = "return {redis.call('INCR', KEYS[1]), redis.call('INCR', KEYS[2])}";

#[test]
fn a_script_is_run_at_the_node_of_its_keys() {
    let cluster = Cluster::start();
    let proxy = before(&cluster, &[]);
    let mut client = proxy.redis_client();
    let digest = "d7e26db7e8d1d9a9d2a9aa4d6c4d5ee20d3ee1c5";
    for key in KEYS {
        let other = format!("{{{key}}}2");
        let both = Reply::Array(vec![Reply::Integer(1), Reply::Integer(1)]);
        assert_eq!(client.command(&["EVAL", COUNT, "2", key, &other]), both);
        // In a transaction, and through its digest at the node where it ran.
        client.command(&["MULTI"]);
        client.command(&["EVAL", COUNT, "2", key, &other]);
        let two = Reply::Array(vec![Reply::Array(vec![Reply::Integer(2), Reply::Integer(2)])]);
        assert_eq!(client.command(&["EXEC"]), two);
        let missing = client.command(&["EVALSHA", digest, "1", key]);
        assert!(matches!(&missing, Reply::Error(text) if text.starts_with("NOSCRIPT")), "{missing:?}");
    }
    assert_eq!(client.command(&["EVAL", "return 7", "0"]), Reply::Integer(7));
    let crosses = Reply::Error("CROSSSLOT Keys in request don't hash to the same slot".into());
    assert_eq!(client.command(&["EVAL", COUNT, "2", "a", "b"]), crosses);
    // A key that it does not declare, of another node.
    for key in ["b", "c"] {
        let stray = client.command(&["EVAL", &format!("return redis.call('INCR', '{key}')"), "1", "a"]);
        let Reply::Error(text) = stray else { panic!("{stray:?}") };
        assert_tells_of_no_node(&text);
    }
}

#[test]
fn a_script_that_speaks_like_a_node_leads_nobody_elsewhere() {
    let cluster = Cluster::start();
    let proxy = before(&cluster, &[]);
    let trap = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let (mut liar, mut client) = (proxy.redis_client(), proxy.redis_client());
    for key in KEYS {
        client.command(&["SET", key, "value"]);
        for word in ["MOVED", "ASK"] {
            let lie =
                format!("return {{err='{word} {} {}'}}", cluster.slot_of(key), trap.local_addr().unwrap());
            for keys in [&["0"][..], &["1", key]] {
                let said = liar.command(&[&["EVAL", &lie][..], keys].concat());
                let Reply::Error(text) = said else { panic!("{said:?}") };
                assert_tells_of_no_node(&text);
            }
        }
        // No write of others goes there, and none is refused.
        assert_eq!(client.command(&["SET", key, "again"]), Reply::Simple("OK".into()));
    }
    assert_eq!(trap.accept().err().map(|error| error.kind()), Some(std::io::ErrorKind::WouldBlock));
}

/// What it says it may have said behind a write, which is not to be made twice, nor to stay unseen.
#[test]
fn a_script_that_has_written_and_speaks_like_a_node_is_run_once() {
    let cluster = Cluster::start();
    let proxy = before(&cluster, &[("RESP_COHERENCE", "ttl")]);
    let mut client = proxy.redis_client();
    let (slot, key) = (cluster.slot_of(KEYS[0]), KEYS[0]);
    let elsewhere = cluster.node_of(cluster.slot_of(KEYS[1])).address();
    assert_ne!(cluster.node_of(slot).address(), elsewhere, "the keys are at two nodes");
    let mut runs = 0;
    for said in [
        "TRYAGAIN Multiple keys request during rehashing of slot".to_owned(),
        "CLUSTERDOWN it says".to_owned(),
        "MOVED 1".to_owned(),
        format!("MOVED {slot} {elsewhere}"),
        format!("ASK {slot} {elsewhere}"),
        format!("MOVED {slot} {}", cluster.node_of(slot).address()),
    ] {
        // It is in memory, so that a write that is not told of would not be seen.
        client.command(&["GET", key]);
        let script = format!("redis.call('INCR', KEYS[1]) return redis.error_reply('{said}')");
        let Reply::Error(text) = client.command(&["EVAL", &script, "1", key]) else { panic!("{said}") };
        assert_tells_of_no_node(&text);
        runs += 1;
        assert_eq!(client.command(&["GET", key]), Reply::Bulk(runs.to_string().into_bytes()), "{said}");
        // Without keys no node sends it on.
        let script = format!("redis.call('PUBLISH', 'c', 'm') return redis.error_reply('{said}')");
        let Reply::Error(_) = client.command(&["EVAL", &script, "0"]) else { panic!("{said}") };
        // A large one is passed on as it comes, to any node.
        let script =
            format!("{script}{}", " ".repeat(200_000)).replace("'PUBLISH', 'c', 'm'", "'INCR', KEYS[1]");
        for node in [elsewhere, cluster.node_of(slot).address()] {
            client.command(&["GET", key]);
            let script = script.replace(&elsewhere.to_string(), &node.to_string());
            let Reply::Error(text) = client.command(&["EVAL", &script, "1", key]) else { panic!("{said}") };
            assert_tells_of_no_node(&text);
            runs += 1;
            assert_eq!(client.command(&["GET", key]), Reply::Bulk(runs.to_string().into_bytes()), "{said}");
        }
    }
}

#[test]
fn while_its_slot_moves_a_script_runs_as_a_whole_or_is_told_to_try_again() {
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
                let (mut client, mut count) = (proxy.redis_client(), 0);
                let (one, two) = (format!("{{a}}{number}:1"), format!("{{a}}{number}:2"));
                while !is_over.load(Ordering::Relaxed) {
                    match client.command(&["EVAL", COUNT, "2", &one, &two]) {
                        Reply::Error(text) => {
                            assert!(text.starts_with("TRYAGAIN proxy: "), "{text}");
                            assert_tells_of_no_node(&text);
                            again.fetch_add(1, Ordering::Relaxed);
                        }
                        reply => {
                            count += 1;
                            assert_eq!(
                                reply,
                                Reply::Array(vec![Reply::Integer(count), Reply::Integer(count)])
                            );
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
        for _ in 0..6 {
            let wait = || {
                let before = done.load(Ordering::Relaxed);
                wait_until(PATIENCE, "scripts", || done.load(Ordering::Relaxed) > before + 50);
            };
            wait();
            let migration = cluster.begin_migration(slot, another(&cluster, slot));
            migration.move_keys(3);
            thread::sleep(Duration::from_millis(80));
            migration.finish();
            wait();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    eprintln!("{done:?} scripts, {again:?} told to try again");
    if cluster.node_of(slot).address() != home.address() {
        cluster.migrate_slot(slot, home);
    }
}
