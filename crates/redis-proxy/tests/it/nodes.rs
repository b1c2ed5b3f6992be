//! A primary that moves: found and followed by its sentinels, and watched by its replicas.

use std::thread;
use std::time::Duration;

use testkit::{
    Action, FaultProxy, HttpClient, Proxy, ProxyBuilder, RedisServer, Reply, ScriptedRedis, Sentinels,
    wait_until,
};

use crate::support::program_without_redis;

const SOON: Duration = Duration::from_secs(20);

fn program(sentinels: &Sentinels) -> ProxyBuilder {
    let program = program_without_redis().set("REDIS_URL", sentinels.url()).set("WORKERS", "2");
    // Whatever is lost on the way is told.
    let told = ["redis", "coherence", "lane", "primary"];
    told.iter().fold(program.set("RESP_PORT", "0"), |program, text| program.allow_warning(text))
}

fn readyz(proxy: &Proxy) -> String {
    HttpClient::connect(proxy.admin_address()).get("/readyz").text().to_owned()
}

#[track_caller]
fn wait_ready(proxy: &Proxy, text: &str) {
    wait_until(SOON, text, || {
        let ready = HttpClient::connect(proxy.admin_address()).get("/readyz");
        ready.status == 200 && ready.text().contains(text)
    });
}

#[track_caller]
fn wait_value(proxy: &Proxy, key: &str, value: &str) {
    wait_until(SOON, value, || {
        let answer = proxy.get(&format!("/{key}"));
        answer.status == 200 && answer.text() == value
    });
}

#[test]
fn the_primary_is_found_and_followed_and_all_of_it_is_told() {
    let sentinels = Sentinels::builder().quick().start().unwrap();
    let first = sentinels.primary();
    first.client().set("k", "v");
    let proxy = program(&sentinels).set("COHERENCE", "tracking").start();
    wait_ready(&proxy, "3 of 3 sentinels answer");
    wait_ready(&proxy, "witnesses: 1 of 1 are replicas");
    wait_ready(&proxy, "coherence: tracking, in force");
    assert!(readyz(&proxy).contains(&format!("primary: {}, generation 2, failovers 0", first.address())));
    assert_eq!(proxy.get("/k").text(), "v");
    let metrics = proxy.metrics();
    assert_eq!(metrics.value("redis_proxy_failovers_total"), 0.0);
    assert_eq!(metrics.value("redis_proxy_sentinels{state=\"answers\"}"), 3.0);
    assert_eq!(metrics.value("redis_proxy_witnesses{state=\"replica\"}"), 1.0);

    let second = sentinels.failover();
    second.client().set("k", "w");
    wait_value(&proxy, "k", "w");
    wait_ready(&proxy, &format!("primary: {}, generation 3, failovers 1", second.address()));
    let line = proxy.wait_log("the primary is elsewhere", SOON);
    assert_eq!(line.field("from").map(String::from), Some(first.address().to_string()));
    assert_eq!(line.field("to").map(String::from), Some(second.address().to_string()));
    assert!(line.raw.contains("\"took\"") && line.raw.contains("\"epoch\":1"), "{}", line.raw);
    sentinels.wait_settled();
    wait_ready(&proxy, "witnesses: 1 of 1 are replicas");
    wait_ready(&proxy, "coherence: tracking, in force");
    let metrics = proxy.metrics();
    assert_eq!(metrics.value("redis_proxy_failovers_total"), 1.0);
    assert_eq!(metrics.value("redis_proxy_primary_disputed"), 0.0);
    let node = format!("redis_proxy_node{{node=\"{}\",role=\"primary\"}}", second.address());
    assert_eq!(metrics.value(&node), 1.0);
}

#[test]
fn nothing_is_left_behind_by_many_moves() {
    let sentinels = Sentinels::builder().quick().start().unwrap();
    sentinels.primary().client().set("k", "v");
    let proxy = program(&sentinels).set("COHERENCE", "tracking").set("RESP_LANE_IDLE", "100ms").start();
    let threads = || std::fs::read_dir(format!("/proc/{}/task", proxy.pid())).expect("a process").count();
    let mut before = None;
    for round in 0..5 {
        wait_ready(&proxy, "coherence: tracking, in force");
        let mut client = proxy.redis_client();
        client.set("k", format!("{round}"));
        assert_eq!(client.get("k"), Some(format!("{round}").into_bytes()));
        drop(client);
        wait_value(&proxy, "k", &format!("{round}"));
        sentinels.failover();
        sentinels.wait_settled();
        wait_ready(&proxy, "witnesses: 1 of 1 are replicas");
        // The first round has started all threads and asked all sentinels.
        let Some((threads_before, files_before)) = before else {
            thread::sleep(Duration::from_millis(500));
            before = Some((threads(), proxy.open_files()));
            continue;
        };
        wait_until(SOON, "what the move has cost to be given back", || {
            threads() <= threads_before && proxy.open_files() <= files_before
        });
    }
    assert_eq!(proxy.metrics().value("redis_proxy_failovers_total"), 5.0);
}

#[test]
fn with_all_sentinels_gone_the_primary_stays_and_when_they_are_back_it_is_followed() {
    let sentinels = Sentinels::builder().quick().start().unwrap();
    let first = sentinels.primary();
    first.client().set("k", "v");
    let proxy = program(&sentinels).start();
    wait_ready(&proxy, "3 of 3 sentinels answer");
    sentinels.sentinels().iter().for_each(RedisServer::kill);
    wait_ready(&proxy, "0 of 3 sentinels answer");
    first.client().set("other", "v");
    assert_eq!(proxy.get("/other").text(), "v");
    sentinels.sentinels().iter().for_each(RedisServer::restart);
    wait_ready(&proxy, "3 of 3 sentinels answer");
    sentinels.wait_settled();
    let second = sentinels.failover();
    second.client().set("third", "v");
    wait_value(&proxy, "third", "v");
}

#[test]
fn a_sentinel_that_has_slept_through_a_failover_moves_nothing_back() {
    let sentinels = Sentinels::builder().quick().start().unwrap();
    let proxy = program(&sentinels).start();
    wait_ready(&proxy, "3 of 3 sentinels answer");
    let sleeper = &sentinels.sentinels()[2];
    sleeper.pause_process();
    let old = sentinels.nodes().iter().find(|node| is_primary(node)).expect("a primary");
    let new = sentinels.nodes().iter().find(|node| !is_primary(node)).expect("a replica");
    let begun = sentinels.sentinels()[0].client().command(&["SENTINEL", "FAILOVER", sentinels.name()]);
    assert_eq!(begun, Reply::Simple("OK".to_owned()));
    wait_ready(&proxy, &format!("primary: {}, generation 3", new.address()));
    // It names the old one until another one tells it.
    sleeper.resume_process();
    wait_ready(&proxy, "3 of 3 sentinels answer");
    sentinels.wait_settled();
    assert!(readyz(&proxy).contains(&format!("primary: {}, generation 3, failovers 1", new.address())));
    assert!(!is_primary(old));
}

fn is_primary(node: &RedisServer) -> bool {
    match node.client().command(&["ROLE"]) {
        Reply::Array(parts) => parts[0] == Reply::Bulk(b"master".to_vec()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn sentinels_that_know_no_such_primary_are_told_of_in_words() {
    let sentinels = Sentinels::builder().quick().start().unwrap();
    let addresses: Vec<_> = sentinels.addresses().iter().map(ToString::to_string).collect();
    let program = program_without_redis()
        .set("REDIS_SENTINELS", addresses.join(","))
        .set("REDIS_MASTER_NAME", "other")
        .set("REDIS_CONNECT_TIMEOUT", "500ms");
    let proxy = program.allow_warning("redis").allow_warning("coherence").start();
    wait_until(SOON, "the reason", || {
        let answer = proxy.get("/k");
        answer.status == 503 && answer.text().contains("knows no primary of this name")
    });
}

#[test]
fn nodes_are_reached_where_the_address_map_says() {
    let sentinels = Sentinels::builder().quick().start().unwrap();
    let ways: Vec<_> = sentinels.nodes().iter().map(|node| FaultProxy::start(node.address())).collect();
    let pairs = sentinels.nodes().iter().zip(&ways);
    let map: Vec<_> = pairs.map(|(node, way)| format!("{}={}", node.address(), way.address())).collect();
    let proxy = program(&sentinels).set("REDIS_ADDRESS_MAP", map.join(",")).start();
    sentinels.primary().client().set("k", "v");
    wait_value(&proxy, "k", "v");
    let new = sentinels.failover();
    let way = sentinels.nodes().iter().position(|node| node.port() == new.port()).expect("one of them");
    wait_ready(&proxy, &format!("primary: {}", ways[way].address()));
    new.client().set("other", "v");
    wait_value(&proxy, "other", "v");
    assert!(ways[way].accepted() > 0);
}

#[test]
fn in_mode_ttl_what_is_held_outlives_the_move() {
    let sentinels = Sentinels::builder().quick().start().unwrap();
    sentinels.primary().client().set("k", "v");
    let program = program(&sentinels).set("COHERENCE", "ttl").set("RESP_COHERENCE", "off");
    let proxy = program.set("GLOBAL_EXPIRY", "60s").start();
    wait_value(&proxy, "k", "v");
    let new = sentinels.failover();
    new.client().set("k", "w");
    new.client().set("other", "w");
    wait_value(&proxy, "other", "w");
    assert_eq!(proxy.get("/k").text(), "v", "held for its age, wherever the primary is");
}

/// A primary and a replica at a name that leads to the one or the other, without sentinels.
fn start_pair() -> (RedisServer, RedisServer, FaultProxy, Proxy) {
    let (primary, replica) = (RedisServer::start(), RedisServer::builder());
    let replica = replica.config("repl-diskless-sync-delay", "0").start();
    replicate(&replica, &primary);
    let name = FaultProxy::start(primary.address());
    let program = program_without_redis().redis_at(name.address()).set("COHERENCE", "tracking");
    let program = program.set("RESP_PORT", "0");
    let told = ["redis", "coherence", "lane", "primary"];
    let proxy = told.iter().fold(program, |program, text| program.allow_warning(text)).start();
    wait_ready(&proxy, "witnesses: 1 of 1 are replicas");
    wait_ready(&proxy, "coherence: tracking, in force");
    (primary, replica, name, proxy)
}

/// How often all connections began anew.
fn generation(proxy: &Proxy) -> f64 {
    proxy.metrics().value("redis_proxy_node_generation")
}

fn replicate(replica: &RedisServer, primary: &RedisServer) {
    let port = primary.port().to_string();
    let reply = replica.client().command(&["REPLICAOF", "127.0.0.1", &port]);
    assert_eq!(reply, Reply::Simple("OK".to_owned()));
}

fn promote(replica: &RedisServer) {
    assert_eq!(replica.client().command(&["REPLICAOF", "NO", "ONE"]), Reply::Simple("OK".to_owned()));
}

#[test]
fn while_a_replica_says_that_it_is_the_primary_nothing_is_proven() {
    let (primary, replica, name, proxy) = start_pair();
    let accepted = name.accepted();
    primary.client().set("k", "v");
    wait_value(&proxy, "k", "v");
    promote(&replica);
    let why = format!("another node, {}, says that it is the primary", replica.address());
    wait_ready(&proxy, &why);
    assert_eq!(proxy.metrics().value("redis_proxy_primary_disputed"), 1.0);
    // Whom a new connection meets is looked at again and again; as long as it is the same one, all others stay.
    wait_until(SOON, "new connections", || name.accepted() >= accepted + 5);
    assert_eq!(generation(&proxy), 1.0);
    let mut client = proxy.client();
    wait_value(&proxy, "k", "v");
    for _ in 0..3 {
        let answer = client.get("/k");
        assert_eq!((answer.status, answer.text()), (200, "v"), "fetched, and answered");
        assert!(answer.header("Cache-Status").unwrap().contains("not-in-force"));
    }
    assert!(readyz(&proxy).contains(&why), "it still says so");
    let told = proxy.wait_log("coherence is not in force", SOON);
    assert_eq!(told.field("reason"), Some(&*why));
    assert!(!told.message.contains("Valkey"), "no advice on servers: {}", told.message);
    replicate(&replica, &primary);
    wait_ready(&proxy, "coherence: tracking, in force");
    assert_eq!(proxy.metrics().value("redis_proxy_primary_disputed"), 0.0);
}

#[test]
fn a_name_that_comes_to_lead_to_the_new_primary_ends_the_doubt() {
    let (primary, replica, name, proxy) = start_pair();
    primary.client().set("k", "v");
    wait_value(&proxy, "k", "v");
    name.retarget(replica.address());
    promote(&replica);
    replica.client().set("k", "w");
    wait_value(&proxy, "k", "w");
    wait_ready(&proxy, "coherence: tracking, in force");
    // The old one goes on as it was, and nobody asks it.
    assert!(is_primary(&primary));
}

#[test]
fn a_name_that_leads_to_the_new_primary_late_ends_the_doubt_at_once() {
    let (primary, replica, name, proxy) = start_pair();
    primary.client().set("k", "v");
    let mut client = proxy.redis_client();
    // Both ways: the second dispute comes soon after the first.
    for (old, new, value) in [(&primary, &replica, "w"), (&replica, &primary, "x")] {
        wait_ready(&proxy, "coherence: tracking, in force");
        let before = generation(&proxy);
        promote(new);
        wait_ready(&proxy, "says that it is the primary");
        // Whoever looks where the name leads has found what was there before.
        let accepted = name.accepted();
        wait_until(SOON, "new connections", || name.accepted() >= accepted + 3);
        assert_eq!(generation(&proxy), before);
        new.client().set("k", value);
        name.retarget(new.address());
        wait_value(&proxy, "k", value);
        // A client's lane ends with the move as well.
        wait_until(SOON, value, || client.get("k") == Some(value.into()));
        assert_eq!(generation(&proxy), before + 1.0, "all others are opened anew, once");
        replicate(old, new);
        wait_ready(&proxy, "witnesses: 1 of 2 are replicas");
    }
}

#[test]
fn a_replica_that_the_settings_name_stays_what_it_is() {
    let (primary, replica) = (RedisServer::start(), RedisServer::start());
    replicate(&replica, &primary);
    let program = program_without_redis().redis(&replica).set("RESP_PORT", "0").set("COHERENCE", "tracking");
    let proxy = program.start();
    wait_ready(&proxy, "the server is a replica, not a primary");
    let mut subscriber = proxy.resp_client();
    subscriber.send_command(&["SUBSCRIBE", "channel"]).reply();
    // It is asked each second what it is.
    assert!(subscriber.is_silent_for(Duration::from_millis(1200)), "a connection was closed");
    assert_eq!(generation(&proxy), 1.0);
    primary.client().set("k", "v");
    wait_value(&proxy, "k", "v");
}

#[test]
fn without_witnesses_a_second_primary_is_no_news() {
    let (primary, replica) = (RedisServer::start(), RedisServer::start());
    replicate(&replica, &primary);
    let program = program_without_redis().redis(&primary).set("COHERENCE", "tracking");
    let proxy = program.set("REDIS_WITNESSES", "off").start();
    wait_ready(&proxy, "coherence: tracking, in force");
    promote(&replica);
    thread::sleep(Duration::from_millis(300));
    assert!(
        readyz(&proxy).contains("coherence: tracking, in force") && !readyz(&proxy).contains("witnesses")
    );
}

#[test]
fn a_user_who_may_not_ask_who_the_replicas_are_is_served_and_it_is_told() {
    let redis = RedisServer::start();
    redis.client().command(&["ACL", "SETUSER", "ann", "on", ">pw", "~*", "+@all", "-info"]);
    let url = format!("redis://ann:pw@{}", redis.address());
    let proxy = program_without_redis().set("REDIS_URL", url).set("COHERENCE", "tracking").start();
    wait_ready(&proxy, "coherence: tracking, in force");
    wait_ready(&proxy, "the primary does not say who its replicas are: NOPERM");
    let Reply::Array(log) = redis.client().command(&["ACL", "LOG"]) else { panic!("no log") };
    assert_eq!(log.len(), 1, "asked once a connection");
}

#[test]
fn a_sentinel_that_lists_thousands_of_others_takes_no_more_than_its_share() {
    let sentinels = Sentinels::builder().quick().start().unwrap();
    let mut listed = String::from("*10000\r\n");
    for port in 1..=10_000 {
        let port = port.to_string();
        listed +=
            &format!("%2\r\n$2\r\nip\r\n$9\r\n127.0.0.1\r\n$4\r\nport\r\n${}\r\n{port}\r\n", port.len());
    }
    let hello = "%3\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n$4\r\nmode\r\n$8\r\nsentinel\r\n";
    let hostile = ScriptedRedis::builder().answer("HELLO", hello).answer("SENTINEL", &listed);
    let hostile = hostile.answer("SUBSCRIBE", "").start(|_, _| Action::Silence);
    let addresses: Vec<_> = sentinels.addresses().iter().map(ToString::to_string).collect();
    let program = program_without_redis()
        .set("REDIS_SENTINELS", format!("{},{}", addresses.join(","), hostile.address()))
        .set("REDIS_MASTER_NAME", sentinels.name());
    let proxy = program.set("WORKERS", "1").allow_warning("redis").start();
    wait_ready(&proxy, "4 of 16 sentinels answer");
    sentinels.primary().client().set("k", "v");
    wait_value(&proxy, "k", "v");
    let new = sentinels.failover();
    new.client().set("other", "v");
    wait_value(&proxy, "other", "v");
}

#[test]
fn a_replica_whose_role_comes_and_goes_has_no_connection_opened_anew() {
    let (primary, replica, _name, proxy) = start_pair();
    let mut client = proxy.client();
    for _ in 0..5 {
        promote(&replica);
        wait_ready(&proxy, "says that it is the primary");
        replicate(&replica, &primary);
        wait_ready(&proxy, "coherence: tracking, in force");
        assert_eq!(client.get("/k").status, 404);
    }
    assert_eq!(generation(&proxy), 1.0);
}
