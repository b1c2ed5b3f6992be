//! GLOBAL_EXPIRY: the old value until it, the new one on the first read after; Redis' own TTLs stay untouched.

use std::time::{Duration, Instant};

use testkit::{Reply, wait_until};

use crate::support::{is_hit, start, start_with};

const EXPIRY: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn the_old_value_until_expiry_and_the_new_one_on_the_first_read_after() {
    let (redis, proxy) = start_with(&[("GLOBAL_EXPIRY", "300ms")]);
    let mut writer = redis.client();
    writer.set("k", "old");
    let mut clients = [proxy.client(), proxy.client()];
    let earliest_fetch = Instant::now();
    assert_eq!(clients[0].get("/k").text(), "old");
    let latest_fetch = Instant::now();
    writer.set("k", "new");
    // Reading all the time must not make it live longer.
    let mut reads = 0;
    loop {
        let start = Instant::now();
        let response = clients[reads % 2].get("/k");
        let end = Instant::now();
        reads += 1;
        if response.text() == "new" {
            assert!(end >= earliest_fetch + EXPIRY, "left early, after {:?}", end - earliest_fetch);
            assert!(!is_hit(&response));
            break;
        }
        assert_eq!(response.text(), "old");
        assert!(is_hit(&response));
        assert!(start < latest_fetch + EXPIRY, "served {:?} after its fetch", start - latest_fetch);
    }
    assert!(reads > 2);
    assert!(is_hit(&clients[0].get("/k")));
    assert_eq!(redis.command_calls("get"), 2, "one GET a miss and none a hit");
}

#[test]
fn a_deleted_key_is_gone_on_the_first_read_after_expiry() {
    let (redis, proxy) = start_with(&[("GLOBAL_EXPIRY", "200ms")]);
    redis.client().set("k", "v");
    let mut client = proxy.client();
    assert_eq!(client.get("/k").status, 200);
    redis.client().del("k");
    assert!(is_hit(&client.get("/k")));
    let asked = Instant::now();
    wait_until(PATIENCE, "404 after expiry", || client.get("/k").status == 404);
    assert!(asked.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_key_without_value_is_asked_for_each_time_and_seen_as_soon_as_it_is_there() {
    let (redis, proxy) = start();
    let mut client = proxy.client();
    for _ in 0..3 {
        let response = client.get("/later");
        assert_eq!((response.status, response.text()), (404, "key not found"));
        assert_eq!(response.header("cache-control"), Some("no-store"));
    }
    redis.client().set("later", "here");
    assert_eq!(client.get("/later").text(), "here");
    assert_eq!(redis.command_calls("get"), 4);
}

#[test]
fn no_command_but_get_touches_a_key() {
    let (redis, proxy) = start();
    let mut writer = redis.client();
    let reply = writer.command(&["SET", "k", "v", "PX", "3600000"]);
    assert_eq!(reply, Reply::Simple("OK".to_owned()));
    redis.reset_stats();
    let mut client = proxy.client();
    for _ in 0..10 {
        assert_eq!(client.get("/k").text(), "v");
        client.get("/absent");
        client.head("/k");
    }
    let Reply::Bulk(stats) = writer.command(&["INFO", "commandstats"]) else { panic!("INFO is refused") };
    let stats = String::from_utf8(stats).unwrap();
    let names = stats.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split(':').next());
    for name in names {
        assert!(
            ["get", "hello", "client|setname", "ping", "config|resetstat", "info"].contains(&name),
            "{name}"
        );
    }
    assert_eq!(redis.command_calls("get"), 11);
    let Reply::Integer(left) = writer.command(&["PTTL", "k"]) else { panic!("PTTL is refused") };
    assert!((3_500_000..=3_600_000).contains(&left), "{left} ms left in Redis");
}

#[test]
fn a_ttl_in_redis_does_not_shorten_global_expiry() {
    let (redis, proxy) = start();
    let mut writer = redis.client();
    writer.command(&["SET", "k", "v", "PX", "30"]);
    let mut client = proxy.client();
    assert_eq!(client.get("/k").text(), "v");
    wait_until(PATIENCE, "Redis to let the key go", || writer.command(&["EXISTS", "k"]) == Reply::Integer(0));
    assert!(is_hit(&client.get("/k")));
}

#[test]
fn an_entry_does_not_outlive_its_expiry_while_the_program_is_stopped() {
    let (redis, proxy) = start_with(&[("GLOBAL_EXPIRY", "100ms")]);
    redis.client().set("k", "old");
    let mut client = proxy.client();
    client.get("/k");
    let fetched = Instant::now();
    proxy.pause_process();
    redis.client().set("k", "new");
    wait_until(PATIENCE, "expiry", || fetched.elapsed() > Duration::from_millis(110));
    proxy.resume_process();
    assert_eq!(client.get("/k").text(), "new");
}

#[test]
fn expired_entries_leave_memory_without_being_read() {
    let (redis, proxy) = start_with(&[("GLOBAL_EXPIRY", "500ms")]);
    let mut client = proxy.client();
    let mut writer = redis.client();
    for key in 0..50 {
        writer.set(format!("{key}"), "v");
        client.get(&format!("/{key}"));
    }
    assert!(proxy.metrics().value("redis_proxy_entries") > 0.0);
    wait_until(PATIENCE, "the entries to leave", || proxy.metrics().value("redis_proxy_entries") == 0.0);
    assert_eq!(proxy.metrics().value("redis_proxy_expiries_total"), 50.0);
    assert_eq!(redis.command_calls("get"), 50);
}

#[test]
fn the_expiry_as_understood_is_logged_at_start() {
    let (_redis, proxy) = start_with(&[("GLOBAL_EXPIRY", "1500ms")]);
    let line = proxy.wait_log("listening", PATIENCE);
    assert_eq!(line.field("global_expiry"), Some("1.5s"), "{}", line.raw);
}

#[test]
fn two_instances_share_nothing() {
    let (redis, one) = start();
    let other = crate::support::program().redis(&redis).start();
    redis.client().set("k", "old");
    assert_eq!(one.get("/k").text(), "old");
    redis.client().set("k", "new");
    assert_eq!(other.get("/k").text(), "new");
    assert_eq!(one.get("/k").text(), "old");
}
