//! Clusters, and what happens to their slots and primaries.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use testkit::{Cluster, FailoverKind, RedisServer, Reply, Server, wait_until};

use crate::PATIENCE;

const OK: &str = "OK";

fn ok() -> Reply {
    Reply::Simple(OK.to_owned())
}

fn bulk(value: &str) -> Reply {
    Reply::Bulk(value.as_bytes().to_vec())
}

/// What a node itself says to GET.
fn get(node: &RedisServer, key: &str) -> Reply {
    node.client().command(&["GET", key])
}

/// The code of an error, `-` for any other reply.
fn code(reply: &Reply) -> &str {
    match reply {
        Reply::Error(text) => text.split(' ').next().unwrap(),
        _ => "-",
    }
}

fn is(one: &RedisServer, other: &RedisServer) -> bool {
    one.port() == other.port()
}

/// A node that does not have the slot.
fn another(cluster: &Cluster, slot: u16) -> &RedisServer {
    let owner = cluster.node_of(slot);
    cluster.nodes().iter().find(|node| !is(node, owner)).unwrap()
}

/// Keys of one slot.
fn keys() -> Vec<String> {
    (0..120).map(|number| format!("{{a}}{number}")).collect()
}

#[test]
fn any_server_makes_a_cluster_whose_slots_move() {
    for server in Server::ALL {
        let start = Instant::now();
        let Some(cluster) = Cluster::builder().server(server).start() else { continue };
        assert!(start.elapsed() < Duration::from_secs(15), "{server}: {:?}", start.elapsed());
        let program = |node: &RedisServer| fs::read_link(format!("/proc/{}/exe", node.pid())).unwrap();
        let expected = server.program().unwrap().canonicalize().unwrap();
        assert!(cluster.nodes().iter().all(|node| program(node) == expected), "{server}");
        let (mut client, slot) = (cluster.client(), cluster.slot_of("{a}"));
        assert_eq!((slot, cluster.slot_of("123456789")), (15_495, 12_739), "{server}");
        let ends = [0, 16_383].map(|slot| cluster.node_of(slot));
        assert!(is(ends[0], &cluster.nodes()[0]) && is(ends[1], &cluster.nodes()[2]), "{server}");
        for key in keys().iter().map(String::as_str).chain(["b", "c", "d"]) {
            assert_eq!(client.command(&["SET", key, key]), ok(), "{server}");
        }

        // Half of it has gone: the node that has the slot sends those who ask for that half on.
        let (from, to) = (cluster.node_of(slot), another(&cluster, slot));
        let migration = cluster.begin_migration(slot, to);
        assert_eq!(migration.move_keys(70), 70, "{server}");
        let asked = keys().iter().filter(|key| code(&get(from, key)) == "ASK").count();
        assert_eq!(asked, 70, "{server}");
        assert_eq!(code(&get(to, "{a}0")), "MOVED", "{server}");
        for key in keys() {
            assert_eq!(client.command(&["GET", &key]), bulk(&key), "{server}");
        }
        migration.finish();
        assert!(is(cluster.node_of(slot), to), "{server}");
        assert_eq!(keys().iter().filter(|key| get(to, key) == bulk(key)).count(), 120, "{server}");
        assert_eq!((code(&get(from, "{a}0")), client.command(&["GET", "{a}0"])), ("MOVED", bulk("{a}0")));

        cluster.migrate_slot(slot, from);
        assert!(is(cluster.node_of(slot), from), "{server}");
        assert_eq!(client.command(&["GET", "{a}119"]), bulk("{a}119"), "{server}");

        // By force, with all keys where they were.
        cluster.take_slots(slot, slot, to);
        cluster.wait_owner(slot, to);
        assert_eq!((code(&get(from, "{a}1")), get(to, "{a}1")), ("MOVED", Reply::Nil), "{server}");
        cluster.wait_settled();
    }
}

#[test]
fn a_replica_takes_the_place_of_its_primary_in_any_way() {
    for (server, kind) in
        [(Server::Redis62, FailoverKind::Planned), (Server::Valkey91, FailoverKind::Takeover)]
    {
        let Some(cluster) = Cluster::builder().server(server).nodes(3, 1).start() else { continue };
        let (mut client, slot) = (cluster.client(), cluster.slot_of("k"));
        assert_eq!(client.command(&["SET", "k", "v"]), ok());
        let old = cluster.node_of(slot);
        let replicas = cluster.replicas_of(old);
        let [new] = replicas[..] else { panic!("one replica") };
        wait_until(PATIENCE, "the replica to have it", || {
            new.client().command(&["DBSIZE"]) == Reply::Integer(1)
        });
        cluster.failover(new, kind);
        assert!(is(cluster.node_of(slot), new), "{server}");
        assert_eq!((code(&get(old, "k")), client.command(&["GET", "k"])), ("MOVED", bulk("v")), "{server}");
        cluster.wait_settled();
        assert!(is(cluster.replicas_of(new)[0], old), "{server}");
    }
}

#[test]
fn a_primary_that_is_killed_or_stands_still_is_replaced_and_comes_back_as_a_replica() {
    let cluster = Cluster::builder().nodes(3, 1).start().unwrap();
    cluster.set_user(&["app", "on", ">pw", "~*", "+@all"]);
    let slot = cluster.slot_of("k");
    let first = cluster.node_of(slot);
    let second = cluster.replicas_of(first)[0];
    first.kill();
    cluster.wait_owner(slot, second);
    assert_eq!(cluster.client().command(&["SET", "k", "v"]), ok());
    first.restart();
    cluster.wait_settled();
    assert!(is(cluster.replicas_of(second)[0], first), "it knows its cluster");
    assert_eq!(first.client().command(&["AUTH", "app", "pw"]), ok(), "and users");

    second.pause_process();
    cluster.failover(first, FailoverKind::Forced);
    second.resume_process();
    cluster.wait_settled();
    assert!(is(cluster.node_of(slot), first) && is(cluster.replicas_of(first)[0], second));
}

#[test]
fn a_primary_that_is_left_alone_refuses_commands_until_the_others_are_back() {
    let cluster = Cluster::builder().node_timeout(Duration::from_millis(1000)).start().unwrap();
    let node = cluster.node_of(cluster.slot_of("k"));
    assert_eq!(node.client().command(&["SET", "k", "v"]), ok());
    cluster.isolate(node);
    wait_until(PATIENCE, "a node that refuses", || code(&get(node, "k")) == "CLUSTERDOWN");
    cluster.resume_all();
    assert_eq!(cluster.client().command(&["GET", "k"]), bulk("v"));
    cluster.wait_settled();
}

#[test]
fn slots_move_in_one_step_on_valkey_9() {
    let Some(cluster) = Cluster::builder().server(Server::Valkey91).start() else { return };
    let (mut client, slot) = (cluster.client(), cluster.slot_of("{a}"));
    for key in keys() {
        assert_eq!(client.command(&["SET", &key, &key]), ok());
    }
    let to = another(&cluster, slot);
    cluster.migrate_slots_atomically(slot - 10, slot, to);
    assert!(is(cluster.node_of(slot - 5), to));
    assert_eq!(keys().iter().filter(|key| get(to, key) == bulk(key)).count(), 120);
}

#[test]
fn nodes_want_the_login_that_they_have() {
    for user in [None, Some("app")] {
        let cluster = Cluster::builder().nodes(3, 1).login(user, "pw").start().unwrap();
        let login = format!("redis+cluster://{}:pw@", user.unwrap_or_default());
        assert!(cluster.url().starts_with(&format!("{login}{},", cluster.addresses()[0])));
        let refused = testkit::RedisClient::connect(cluster.addresses()[0]).command(&["PING"]);
        assert_eq!(code(&refused), "NOAUTH");
        let slot = cluster.slot_of("k");
        assert_eq!(cluster.client().command(&["SET", "k", "v"]), ok());
        cluster.migrate_slot(slot, another_primary(&cluster, slot));
        assert_eq!(cluster.client().command(&["GET", "k"]), bulk("v"));
    }
}

/// A primary that does not have the slot.
fn another_primary(cluster: &Cluster, slot: u16) -> &RedisServer {
    let owner = cluster.node_of(slot);
    [0, 16_383].map(|slot| cluster.node_of(slot)).into_iter().find(|node| !is(node, owner)).unwrap()
}

#[test]
fn with_tls_nodes_talk_it_with_each_other_and_with_clients() {
    let folder = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    fs::write(&certificate, signed.cert.pem()).unwrap();
    fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    let cluster = Cluster::builder().nodes(3, 1).tls(&certificate, &key, &certificate).start().unwrap();
    assert!(cluster.url().starts_with("rediss+cluster://"));
    assert!(cluster.nodes().iter().zip(cluster.addresses()).all(|(node, at)| node.tls_address() == at));
    let plain = testkit::RedisClient::connect(cluster.addresses()[0]).try_command(&["PING"]);
    assert!(plain.is_err(), "{plain:?}");
    let slot = cluster.slot_of("k");
    assert_eq!(cluster.client().command(&["SET", "k", "v"]), ok());
    cluster.migrate_slot(slot, another_primary(&cluster, slot));
    assert_eq!(cluster.client().command(&["GET", "k"]), bulk("v"));
}

/// What a client does while slots and primaries move is what it would do with one node.
#[test]
fn a_client_of_the_cluster_sees_every_write_of_its_own_while_a_slot_moves() {
    let cluster = Cluster::start();
    let slot = cluster.slot_of("{a}");
    thread::scope(|scope| {
        let moving = scope.spawn(|| {
            for _ in 0..3 {
                cluster.migrate_slot(slot, another(&cluster, slot));
            }
        });
        let mut client = cluster.client();
        let mut number = 0;
        while !moving.is_finished() {
            let (key, value) = (format!("{{a}}{}", number % 50), number.to_string());
            assert_eq!(client.command(&["SET", &key, &value]), ok());
            assert_eq!(client.command(&["GET", &key]), bulk(&value));
            number += 1;
        }
    });
}
