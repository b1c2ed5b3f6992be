//! Reads from a cluster: where they go, what proves them, and what becomes of them as slots and primaries move.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use testkit::{
    Cluster, FailoverKind, HttpClient, Proxy, ProxyBuilder, RawClient, RedisServer, Reply, Response, Server,
    wait_until,
};

use crate::authority::Authority;
use crate::support::program_without_redis;

const SOON: Duration = Duration::from_secs(20);
/// How old a hit may be.
const BOUND: Duration = Duration::from_millis(250);
const MODES: [&str; 3] = ["ttl", "tracking", "strict"];

fn program(cluster: &Cluster, mode: &str) -> ProxyBuilder {
    let program =
        program_without_redis().cluster(cluster).set("COHERENCE", mode).set("MAX_STALENESS", "250ms");
    // Whatever is lost on the way is told.
    ["redis", "coherence", "slots", "lane", "another primary"]
        .iter()
        .fold(program, |program, text| program.allow_warning(text))
}

fn readyz(proxy: &Proxy) -> Response {
    HttpClient::connect(proxy.admin_address()).get("/readyz")
}

#[track_caller]
fn wait_ready(proxy: &Proxy, text: &str) {
    wait_until(SOON, text, || {
        let ready = readyz(proxy);
        ready.status == 200 && ready.text().contains(text)
    });
}

/// A program whose links to all primaries are in force.
#[track_caller]
fn start(cluster: &Cluster, mode: &str) -> Proxy {
    let proxy = program(cluster, mode).start();
    let primaries = if mode == "ttl" { "slots with" } else { "in force" };
    wait_ready(&proxy, primaries);
    if mode != "ttl" {
        wait_until(SOON, "links to all primaries", || {
            readyz(&proxy)
                .text()
                .lines()
                .filter(|line| line.starts_with("node "))
                .all(|line| line.ends_with(", in force"))
        });
    }
    proxy
}

fn status(response: &Response) -> &str {
    response.header("cache-status").unwrap_or_default()
}

#[track_caller]
fn wait_value(proxy: &Proxy, key: &str, value: &str) {
    wait_until(SOON, value, || {
        let answer = proxy.get(&format!("/{key}"));
        answer.status == 200 && answer.text() == value
    });
}

/// A primary that does not have the slot.
fn another(cluster: &Cluster, slot: u16) -> &RedisServer {
    let owner = cluster.node_of(slot).port();
    cluster.nodes().iter().find(|node| node.port() != owner && is_primary(node)).expect("another primary")
}

fn is_primary(node: &RedisServer) -> bool {
    let said = node.client().command(&["INFO", "replication"]);
    matches!(said, Reply::Bulk(text) if String::from_utf8_lossy(&text).contains("role:master"))
}

#[test]
fn reads_go_to_whoever_has_the_slot_and_are_kept_in_every_mode() {
    let cluster = Cluster::start();
    let mut direct = cluster.client();
    let keys: Vec<String> = (0..60).map(|number| format!("key:{number}")).collect();
    for key in &keys {
        direct.command(&["SET", key, &format!("of {key}")]);
    }
    for mode in MODES {
        let proxy = start(&cluster, mode);
        cluster.nodes().iter().for_each(RedisServer::reset_stats);
        for round in 0..3 {
            for key in &keys {
                let answer = proxy.get(&format!("/{key}"));
                assert_eq!((answer.status, answer.text()), (200, &*format!("of {key}")), "{mode}");
                assert_eq!(status(&answer).contains("; hit"), round > 0, "{mode}: {}", status(&answer));
            }
        }
        // One GET a miss; canaries are tried before.
        let gets = cluster.nodes().iter().map(|node| node.command_calls("get"));
        let each: Vec<u64> = gets.collect();
        assert_eq!(each.iter().sum::<u64>(), keys.len() as u64, "{mode}: {each:?}");
        assert!(each.iter().all(|gets| *gets > 0), "{mode}: {each:?}");
        assert_eq!(proxy.get("/nothing").status, 404);
        assert_eq!(proxy.metrics().sum("redis_proxy_cluster_redirects_total"), 0.0, "{mode}");
    }
}

#[test]
fn a_slot_that_is_migrated_takes_what_is_held_along() {
    let cluster = Cluster::start();
    let mut direct = cluster.client();
    for mode in MODES {
        let (key, slot) = (format!("{{{mode}}}"), cluster.slot_of(mode));
        direct.command(&["SET", &key, "before"]);
        let proxy = start(&cluster, mode);
        wait_value(&proxy, &key, "before");
        cluster.migrate_slot(slot, another(&cluster, slot));
        direct.command(&["SET", &key, "after"]);
        if mode == "ttl" {
            // By age, and then from where it is.
            assert_eq!(proxy.get(&format!("/{key}")).text(), "before");
            assert_eq!(proxy.get(&format!("/{{{mode}}}other")).status, 404, "a redirection is followed");
        } else {
            thread::sleep(if mode == "strict" { Duration::ZERO } else { BOUND });
            assert_eq!(proxy.get(&format!("/{key}")).text(), "after", "{mode}");
            wait_until(SOON, "a hit of the new owner's", || {
                status(&proxy.get(&format!("/{key}"))).contains("; hit")
            });
        }
    }
}

/// Redis 7.0 deletes keys of a slot that was taken from it without telling those who have read them.
#[test]
fn nothing_is_served_of_a_slot_that_was_taken_by_force() {
    for server in [Server::Redis70, Server::Valkey91] {
        let Some(cluster) = Cluster::builder().server(server).start() else { continue };
        for mode in ["tracking", "strict"] {
            let (key, slot) = (format!("{{{mode}}}"), cluster.slot_of(mode));
            cluster.client().command(&["SET", &key, "before"]);
            let proxy = start(&cluster, mode);
            wait_value(&proxy, &key, "before");
            wait_until(SOON, "a hit", || status(&proxy.get(&format!("/{key}"))).contains("; hit"));
            let to = another(&cluster, slot);
            cluster.take_slots(slot, slot, to);
            cluster.wait_owner(slot, to);
            cluster.client().command(&["SET", &key, "after"]);
            assert_eq!(proxy.get(&format!("/{key}")).text(), "after", "{server}, {mode}");
            assert_eq!(proxy.metrics().value("redis_proxy_cluster_watched_slots_lost_total"), 1.0);
        }
    }
}

#[test]
fn a_key_that_comes_to_be_at_the_other_node_is_seen_and_what_is_asked_there_is_not_kept() {
    let cluster = Cluster::start();
    for mode in MODES {
        let (slot, missing, moved) =
            (cluster.slot_of(mode), format!("{{{mode}}}missing"), format!("{{{mode}}}moved"));
        cluster.client().command(&["SET", &moved, "moved"]);
        let proxy = start(&cluster, mode);
        let migration = cluster.begin_migration(slot, another(&cluster, slot));
        assert_eq!(proxy.get(&format!("/{missing}")).status, 404, "{mode}: nobody has it");
        // It is created behind ASKING, and the node that was asked before tells nobody.
        cluster.client().command(&["SET", &missing, "created"]);
        if mode == "tracking" {
            thread::sleep(BOUND);
        }
        let answer = proxy.get(&format!("/{missing}"));
        assert_eq!((answer.status, answer.text()), (200, "created"), "{mode}: {}", status(&answer));
        migration.move_keys(usize::MAX);
        for _ in 0..2 {
            let answer = proxy.get(&format!("/{moved}"));
            assert_eq!((answer.status, answer.text()), (200, "moved"), "{mode}");
            assert!(mode == "ttl" || !status(&answer).contains("stored"), "{mode}: {}", status(&answer));
        }
        assert!(proxy.metrics().value("redis_proxy_cluster_redirects_total{kind=\"ask\"}") > 0.0);
        migration.finish();
        wait_value(&proxy, &missing, "created");
    }
}

#[test]
fn a_failover_is_followed_and_nothing_of_the_old_primary_is_served() {
    let cluster = Cluster::builder().nodes(3, 1).start().expect("the redis-server of this machine");
    for (mode, kind) in [
        ("tracking", FailoverKind::Planned),
        ("strict", FailoverKind::Takeover),
        ("ttl", FailoverKind::Forced),
    ] {
        let (key, slot) = (format!("{{{mode}}}"), cluster.slot_of(mode));
        cluster.client().command(&["SET", &key, "before"]);
        let proxy = start(&cluster, mode);
        wait_value(&proxy, &key, "before");
        let replica = cluster.replicas_of(cluster.node_of(slot))[0];
        cluster.failover(replica, kind);
        cluster.client().command(&["SET", &key, "after"]);
        if mode != "ttl" {
            thread::sleep(BOUND);
            assert_eq!(proxy.get(&format!("/{key}")).text(), "after", "{mode}");
        }
        // Another key of the slot, which is not held.
        assert_eq!(proxy.get(&format!("/{key}other")).status, 404, "{mode}");
        cluster.wait_settled();
    }
}

#[test]
fn a_primary_that_is_cut_off_vouches_for_nothing_once_it_has_given_up() {
    let cluster = Cluster::builder()
        .node_timeout(Duration::from_secs(1))
        .start()
        .expect("the redis-server of this machine");
    let slot = cluster.slot_of("k");
    cluster.client().command(&["SET", "k", "v"]);
    for mode in ["tracking", "strict"] {
        let proxy = start(&cluster, mode);
        wait_value(&proxy, "k", "v");
        let node = cluster.node_of(slot);
        cluster.isolate(node);
        wait_until(
            SOON,
            "the node to give up",
            || matches!(node.client().command(&["GET", "k"]), Reply::Error(text) if text.starts_with("CLUSTERDOWN")),
        );
        thread::sleep(BOUND);
        // It answers PING, and HELLO that it is a primary.
        let answer = proxy.get("/k");
        assert_eq!(answer.status, 503, "{mode}: {} {}", answer.text(), status(&answer));
        assert!(!answer.text().contains(&node.port().to_string()), "{}", answer.text());
        cluster.resume_all();
        cluster.wait_settled();
        wait_value(&proxy, "k", "v");
    }
}

#[test]
fn redis_clients_read_from_it_as_from_one_redis() {
    let cluster = Cluster::start();
    let mut direct = cluster.client();
    let proxy = program(&cluster, "ttl").set("RESP_PORT", "0").start();
    wait_ready(&proxy, "16384 slots with 3 primaries");
    let mut client = RawClient::connect(proxy.resp_address());
    for number in 0..30 {
        let key = format!("key:{number}");
        direct.command(&["SET", &key, "value"]);
        for _ in 0..2 {
            client.send_command(&["GET", &key]).expect("$5\r\nvalue\r\n");
        }
    }
    wait_ready(&proxy, "redis clients: tracking, in force");
    direct.command(&["SET", "key:1", "newer"]);
    thread::sleep(BOUND);
    client.send_command(&["GET", "key:1"]).expect("$5\r\nnewer\r\n");
}

#[test]
fn each_node_is_told_of_and_more_of_them_take_no_more_threads() {
    let threads = |nodes: usize| {
        let cluster = Cluster::builder().nodes(nodes, 0).start().expect("the redis-server of this machine");
        let proxy = start(&cluster, "tracking");
        let text = readyz(&proxy).text().to_owned();
        assert!(text.contains(&format!("cluster: 16384 slots with {nodes} primaries")), "{text}");
        for node in cluster.nodes() {
            assert!(text.contains(&format!("node {}: ", node.address())), "{text}");
        }
        let metrics = proxy.metrics();
        assert_eq!(metrics.sum("redis_proxy_cluster_node_slots"), 16_384.0);
        assert_eq!(metrics.sum("redis_proxy_cluster_node_in_force"), nodes as f64);
        assert!(metrics.value("redis_proxy_cluster_map_refreshes_total") >= 1.0);
        fs::read_dir(format!("/proc/{}/task", proxy.pid())).expect("its threads").count()
    };
    assert_eq!(threads(3), threads(6));
}

#[test]
fn what_cannot_be_watched_is_fetched_and_said() {
    let before = Cluster::builder().server(Server::Redis62).start();
    if let Some(cluster) = &before {
        cluster.client().command(&["SET", "k", "v"]);
        let proxy = program(cluster, "tracking").start();
        wait_value(&proxy, "k", "v");
        wait_ready(&proxy, "not in force: ERR unknown command `SSUBSCRIBE`");
        assert_eq!(status(&proxy.get("/k")), "redis-proxy; fwd=uri-miss; detail=tracking-not-in-force");
    }
    let cluster = Cluster::start();
    cluster.client().command(&["SET", "k", "v"]);
    cluster.set_user(&["some", "on", ">pw", "~*", "&nothing", "+@all"]);
    let url = cluster.url().replace("redis+cluster://", "redis+cluster://some:pw@");
    let proxy = program(&cluster, "strict").set("REDIS_URL", url).start();
    wait_value(&proxy, "k", "v");
    wait_ready(&proxy, "not in force: NOPERM");
    assert_eq!(status(&proxy.get("/k")), "redis-proxy; fwd=uri-miss; detail=strict-not-in-force");
}

#[test]
fn what_is_no_cluster_and_what_has_no_such_database_is_refused_in_words() {
    let redis = RedisServer::start();
    let proxy = program_without_redis()
        .set("REDIS_CLUSTER", redis.address().to_string())
        .allow_warning("cluster")
        .allow_warning("redis")
        .start();
    wait_until(SOON, "the reason", || readyz(&proxy).text().contains("is no node of a cluster"));
    assert_eq!(readyz(&proxy).status, 503);
    assert_eq!(proxy.get("/k").status, 503);

    let cluster = Cluster::start();
    let proxy = program(&cluster, "ttl").set("REDIS_URL", format!("{}/1", cluster.url())).start();
    wait_until(SOON, "the reason", || {
        readyz(&proxy).text().contains("SELECT is not allowed in cluster mode")
    });
    let Some(cluster) = Cluster::builder().server(Server::Valkey91).config("cluster-databases", "4").start()
    else {
        return;
    };
    let proxy = program(&cluster, "tracking").set("REDIS_URL", format!("{}/1", cluster.url())).start();
    wait_ready(&proxy, "in force");
    assert_eq!(proxy.get("/k").status, 404);
}

#[test]
fn errors_end_soon_after_the_next_primary_takes_writes() {
    let cluster = Cluster::builder().nodes(3, 1).start().expect("the redis-server of this machine");
    let (key, slot) = ("{k}", cluster.slot_of("k"));
    let proxy = start(&cluster, "tracking");
    let (old, new) = (cluster.node_of(slot), cluster.replicas_of(cluster.node_of(slot))[0]);
    old.kill();
    assert_eq!(readyz(&proxy).status, 200, "the keys of the others are answered");
    let mut client = new.client();
    wait_until(SOON, "the new primary", || {
        client.command(&["SET", key, "after"]) == Reply::Simple("OK".into())
    });
    let since = Instant::now();
    while proxy.get(&format!("/{key}")).status != 200 {
        assert!(since.elapsed() < Duration::from_secs(2), "still no answer");
        thread::sleep(Duration::from_millis(5));
    }
    // Beside all other tests; histories look at it closer.
    assert!(since.elapsed() < 4 * BOUND, "it took {:?}", since.elapsed());
}

#[test]
fn nodes_are_reached_where_the_map_says_and_one_that_names_no_host_where_it_was_asked() {
    let named = Cluster::builder()
        .config("cluster-preferred-endpoint-type", "hostname")
        .config("cluster-announce-hostname", "nodes.invalid")
        .start()
        .expect("the redis-server of this machine");
    let map =
        named.nodes().iter().map(|node| format!("nodes.invalid:{}=127.0.0.1:{}", node.port(), node.port()));
    let map = map.collect::<Vec<_>>().join(",");
    let nameless = Cluster::builder().config("cluster-preferred-endpoint-type", "unknown-endpoint").start();
    let nameless = nameless.expect("the redis-server of this machine");
    for (cluster, map) in [(&named, map), (&nameless, "a.invalid:1=b.invalid:1".to_owned())] {
        let proxy = program(cluster, "tracking").set("REDIS_ADDRESS_MAP", map).start();
        wait_ready(&proxy, "in force");
        for number in 0..20 {
            let key = format!("key:{number}");
            let node = cluster.node_of(cluster.slot_of(&key));
            assert_eq!(node.client().command(&["SET", &key, "value"]), Reply::Simple("OK".into()));
            wait_value(&proxy, &key, "value");
        }
    }
}

#[test]
fn login_and_tls_are_those_of_every_node() {
    let authority = Authority::new();
    let [certificate, key] = authority.sign("node", &["127.0.0.1"]);
    let ca = authority.file("ca.pem");
    let cluster = Cluster::builder().login(Some("reader"), "s3cret").tls(&certificate, &key, &ca).start();
    let cluster = cluster.expect("the redis-server of this machine");
    let proxy =
        program(&cluster, "tracking").set("REDIS_URL", cluster.url()).set("REDIS_TLS_CA", &ca).start();
    wait_ready(&proxy, "in force");
    for number in 0..20 {
        assert_eq!(proxy.get(&format!("/key:{number}")).status, 404);
    }
    let proxy = program(&cluster, "tracking").set("REDIS_URL", cluster.url().replace("s3cret", "wr0ng"));
    let proxy = proxy.set("REDIS_TLS_CA", &ca).start();
    wait_until(SOON, "the reason", || readyz(&proxy).text().contains("WRONGPASS"));
    assert!(!readyz(&proxy).text().contains("wr0ng"));
}
