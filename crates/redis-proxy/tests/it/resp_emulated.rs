//! A node of a cluster that is emulated (RESP_CLUSTER=emulate), for clients that insist on one.

use std::collections::BTreeSet;
use std::time::Duration;

use testkit::{Cluster, Proxy, RawClient, RedisServer, Reply, Sentinels, wait_until};

use crate::resp_cluster::before;
use crate::support::{program_without_redis, start_resp};

const EMULATE: &[(&str, &str)] = &[("RESP_CLUSTER", "emulate")];

/// A cluster of one node, as Redis itself has it.
fn lone_node() -> RedisServer {
    let redis = RedisServer::builder().cluster_node().start();
    let mut client = redis.client();
    assert_eq!(client.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]), Reply::Simple("OK".into()));
    wait_until(Duration::from_secs(10), "the cluster to be well", || {
        matches!(client.command(&["SET", "a", "0"]), Reply::Simple(_))
    });
    redis
}

/// What a request is answered, with the address and the id of the node put out of the way; INFO's epochs too.
fn answer(client: &mut RawClient, port: u16, id: &str, request: &str) -> String {
    let reply = String::from_utf8(client.send(format!("{request}\r\n")).reply()).expect("text");
    let reply = reply.replace(id, "ID").replace("127.0.0.1", "").replace("$9\r\n", "$0\r\n");
    let reply = reply
        .replace(&format!(":{}", port), ":PORT")
        .replace(&format!("@{}", u32::from(port) + 10_000), "@BUS");
    reply.replace("@0 ", "@BUS ")
}

/// The number before a string that holds an address is another one.
fn without_lengths(text: &str) -> String {
    let of_a_string = |line: &&str| line.starts_with(['$', '=']);
    text.lines().map(|line| if of_a_string(&line) { &line[..1] } else { line }).collect::<Vec<_>>().join("\n")
}

fn id_at(client: &mut RawClient) -> String {
    String::from_utf8(client.send("CLUSTER MYID\r\n").bulk()).expect("text")
}

#[track_caller]
fn assert_answers_as_a_lone_node(proxy: &Proxy) {
    let redis = lone_node();
    for protocol in [2, 3] {
        let mut direct = RawClient::connect(redis.address());
        let mut through = proxy.resp_client();
        if protocol == 3 {
            direct.resp3();
            through.resp3();
        }
        let (its_id, our_id) = (id_at(&mut direct), id_at(&mut through));
        assert!(our_id.len() == 40 && our_id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{our_id}");
        let unknown = [
            "CLUSTER REPLICAS x",
            "CLUSTER COUNT-FAILURE-REPORTS x",
            "CLUSTER COUNTKEYSINSLOT 16384",
            "CLUSTER COUNTKEYSINSLOT x",
        ];
        let requests = [
            "CLUSTER SLOTS",
            "cluster shards",
            "CLUSTER NODES",
            "CLUSTER INFO",
            "CLUSTER KEYSLOT {a}b",
            "CLUSTER COUNTKEYSINSLOT 1",
            "CLUSTER GETKEYSINSLOT 1 2",
            "CLUSTER LINKS",
            "CLUSTER GETKEYSINSLOT 1 -1",
            "CLUSTER REPLICAS ID",
            "CLUSTER SLOTS surplus",
            "CLUSTER KEYSLOT",
            "CLUSTER",
            "CLUSTER NOSUCH",
            "READONLY",
            "READWRITE",
            "ASKING",
            "READONLY surplus",
            "READWRITE surplus",
        ];
        for request in unknown.iter().chain(&requests) {
            let its = answer(&mut direct, redis.port(), &its_id, &request.replace("ID", &its_id));
            let ours =
                answer(&mut through, proxy.resp_address().port(), &our_id, &request.replace("ID", &our_id));
            assert_eq!(without_lengths(&ours), without_lengths(&its), "{request} in RESP{protocol}");
        }
        // Bytes that say how long they are.
        let nodes = through.send("CLUSTER NODES\r\n").reply();
        let text = String::from_utf8(nodes).expect("text");
        assert!(text.contains(&format!("127.0.0.1:{}@", proxy.resp_address().port())), "{text}");
        for request in ["INFO", "INFO server", "INFO cluster", "INFO everything"] {
            let info = String::from_utf8_lossy(&through.send(format!("{request}\r\n")).reply()).into_owned();
            assert!(
                !info.contains("mode:standalone") && !info.contains("cluster_enabled:0"),
                "{request}: {info}"
            );
        }
        let hello = through.send(format!("HELLO {protocol}\r\n")).reply();
        assert!(String::from_utf8_lossy(&hello).contains("cluster"));
        // In a transaction, beside a subscription and watching.
        through
            .ask("MULTI", "+OK")
            .ask("READONLY", "+QUEUED")
            .ask("CLUSTER KEYSLOT a", "+QUEUED")
            .ask("PING", "+QUEUED");
        through.send("EXEC\r\n").expect("*3\r\n+OK\r\n:15495\r\n+PONG\r\n");
        through
            .ask("WATCH a", "+OK")
            .ask("CLUSTER KEYSLOT a", ":15495")
            .ask("READONLY", "+OK")
            .ask("UNWATCH", "+OK");
        through.ask("CLUSTER RESET", "-ERR proxy: CLUSTER RESET is not for clients of an emulated node");
    }
}

fn keys_in_slot(client: &mut testkit::RedisClient, slot: u16, most: usize) -> BTreeSet<String> {
    match client.command(&["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), &most.to_string()]) {
        Reply::Array(keys) => keys.iter().map(|key| format!("{key:?}")).collect(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_counts_keys(proxy: &Proxy) {
    let mut client = proxy.redis_client();
    let slot = 15_495; // of {a}
    for number in 0..30 {
        client.command(&["SET", &format!("{{a}}{number}"), "v"]);
        client.command(&["SET", &format!("{{b}}{number}"), "v"]);
    }
    let all = client.command(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]);
    assert!(matches!(all, Reply::Integer(30 | 31)), "{all:?}");
    assert!(keys_in_slot(&mut client, slot, 100).len() >= 30);
    assert_eq!(keys_in_slot(&mut client, slot, 7).len(), 7);
    assert_eq!(keys_in_slot(&mut client, slot, 0).len(), 0);
}

#[test]
fn before_one_redis_clients_are_told_of_a_node_with_all_slots() {
    let (_redis, proxy) = start_resp(EMULATE);
    assert_answers_as_a_lone_node(&proxy);
    assert_counts_keys(&proxy);
}

#[test]
fn before_a_cluster_clients_are_told_of_one_node_with_all_slots() {
    let cluster = Cluster::start();
    let proxy = before(&cluster, EMULATE);
    assert_answers_as_a_lone_node(&proxy);
    assert_counts_keys(&proxy);
}

#[test]
fn before_a_primary_that_sentinels_name_clients_are_told_of_a_node_with_all_slots() {
    let sentinels = Sentinels::builder().quick().start().expect("a redis-server");
    let program = program_without_redis().sentinels(&sentinels).set("RESP_PORT", "0");
    let proxy = program.set("RESP_CLUSTER", "emulate").start();
    let mut client = proxy.resp_client();
    wait_until(Duration::from_secs(20), "the primary to be known", || {
        client.send("SET a 0\r\n").line() == "+OK"
    });
    assert_answers_as_a_lone_node(&proxy);
    assert_counts_keys(&proxy);
}

#[test]
fn what_is_announced_is_told_and_without_it_where_each_client_came_to() {
    let redis = RedisServer::start();
    let announcing = |announced: &str| {
        program_without_redis()
            .redis(&redis)
            .set("RESP_PORT", "0")
            .set("RESP_CLUSTER", "emulate")
            .set("RESP_ANNOUNCE", announced)
            .start()
    };
    let slots = |proxy: &Proxy| {
        String::from_utf8(proxy.resp_client().send("CLUSTER SLOTS\r\n").reply()).expect("text")
    };
    let (one, same, other) =
        (announcing("cache.example:7000"), announcing("cache.example:7000"), announcing("[::1]:7000"));
    let told = slots(&one);
    assert!(told.contains("$13\r\ncache.example\r\n:7000\r\n"), "{told}");
    assert_eq!(told, slots(&same));
    assert!(slots(&other).contains("$3\r\n::1\r\n:7000\r\n"));
    assert_ne!(id_at(&mut one.resp_client()), id_at(&mut other.resp_client()));
}

#[test]
fn without_it_redis_says_what_it_is() {
    let (_redis, proxy) = start_resp(&[]);
    proxy
        .resp_client()
        .ask("CLUSTER SLOTS", "-ERR This instance has cluster support disabled")
        .ask("READONLY", "-ERR This instance has cluster support disabled");
}
