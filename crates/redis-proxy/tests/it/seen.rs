//! What an answer that is not kept means for the other keys of its connection: nothing.

use std::time::Duration;

use testkit::{Proxy, RawClient, RedisServer, wait_until};

use crate::support::{is_hit, start_resp, start_resp_in};

const PATIENCE: Duration = Duration::from_secs(30);
/// Keys of overtaken answers that a connection remembers.
const MOST_KEYS: usize = 16;

fn lookups(proxy: &Proxy) -> f64 {
    proxy.metrics().sum("redis_proxy_lookups_total")
}

#[test]
fn a_value_too_large_to_keep_makes_no_other_key_a_miss() {
    let (redis, proxy) = start_resp(&[("RESP_COHERENCE", "ttl"), ("MAX_VALUE_BYTES", "1KiB")]);
    redis.client().set("huge", "h".repeat(1025));
    let keys = ["a", "b", "c", "d", "e"];
    keys.iter().for_each(|key| redis.client().set(key, key));
    let (mut http, mut resp) = (proxy.client(), proxy.resp_client());
    for _ in 0..20 {
        assert_eq!(http.get("/huge").text().len(), 1025);
        keys.iter().for_each(|key| assert_eq!(http.get(&format!("/{key}")).text(), *key));
    }
    assert_eq!(redis.command_calls("get"), 20 + 5, "over HTTP");
    // The first MGET of a user is Redis' to answer; its keys are fetched behind it.
    resp.ask("MGET none none", "*2\r\n$-1\r\n$-1").ask("GET none", "$-1");
    redis.reset_stats();
    for _ in 0..20 {
        assert_eq!(resp.send("GET huge\r\n").bulk().len(), 1025);
        resp.ask("GET none", "$-1");
        keys.iter().for_each(|key| assert_eq!(resp.send(format!("GET {key}\r\n")).bulk(), key.as_bytes()));
        resp.send("MGET huge a none\r\n").line();
        assert_eq!((resp.bulk().len(), resp.bulk()), (1025, b"a".to_vec()));
        resp.expect("$-1\r\n");
    }
    assert_eq!(redis.command_calls("get"), 20 * 4, "by Redis clients");
}

#[test]
fn nor_do_replies_that_are_never_kept() {
    let (redis, proxy) = start_resp_in("tracking", &[]);
    redis.client().command(&["HSET", "hash", "f", "v"]);
    redis.client().set("a", "1");
    let mut client = proxy.resp_client();
    wait_until(PATIENCE, "a hit", || {
        client.ask("GET a", "$1\r\n1");
        proxy.metrics().value("redis_proxy_lookups_total{result=\"hit\"}") > 0.0
    });
    let barriers = || proxy.metrics().sum("redis_proxy_link_barriers_total");
    let before = barriers();
    for _ in 0..10 {
        // How long a key lives is a matter of the moment it is asked.
        client.ask("TTL hash", ":-1").ask("GET a", "$1\r\n1");
    }
    assert_eq!(barriers(), before, "no other key needs a proof of its own");
}

/// Has the fetch of a key overtaken: what is held of it is dropped while Redis stands still.
fn overtake(redis: &RedisServer, proxy: &Proxy, admin: &mut RawClient, key: &str, ask: impl FnOnce()) {
    redis.pause_process();
    let before = lookups(proxy);
    ask();
    wait_until(PATIENCE, "the fetch", || lookups(proxy) > before);
    admin.send(format!("PROXY CACHE FLUSH {key}\r\n")).line();
    redis.resume_process();
}

#[test]
fn after_an_overtaken_fetch_only_its_key_is_asked_again() {
    let (redis, proxy) =
        start_resp(&[("RESP_COHERENCE", "ttl"), ("UPSTREAM_TIMEOUT", "60s"), ("WORKERS", "1")]);
    for key in 0..=MOST_KEYS {
        redis.client().set(format!("k{key}"), "v");
    }
    redis.client().set("other", "o");
    let (mut http, mut resp, mut admin) = (proxy.client(), proxy.resp_client(), proxy.resp_client());
    admin.ask("GET other", "$1\r\no");
    resp.ask("GET other", "$1\r\no");
    let gets = || redis.command_calls("get");

    overtake(&redis, &proxy, &mut admin, "k0", || http.send("GET /k0 HTTP/1.1\r\nHost: h\r\n\r\n"));
    assert_eq!(http.read_response().text(), "v");
    let before = gets();
    assert!(is_hit(&http.get("/other")));
    assert!(!is_hit(&http.get("/k0")), "what is held of it may be older than what was shown");
    assert!(is_hit(&http.get("/k0")), "once it was fetched since");
    assert_eq!(gets(), before + 1);

    overtake(&redis, &proxy, &mut admin, "k1", || {
        resp.send("GET k1\r\n");
    });
    assert_eq!(resp.bulk(), b"v");
    // Somebody else fetches it: that is no older than what was shown.
    let before = gets();
    resp.ask("GET other", "$1\r\no").ask("GET k1", "$1\r\nv").ask("GET k1", "$1\r\nv");
    assert_eq!(gets(), before + 1);
}

#[test]
fn of_many_overtaken_fetches_no_more_is_remembered_than_that_there_were() {
    let (redis, proxy) =
        start_resp(&[("RESP_COHERENCE", "ttl"), ("UPSTREAM_TIMEOUT", "60s"), ("WORKERS", "1")]);
    for key in 0..=MOST_KEYS {
        redis.client().set(format!("k{key}"), "v");
    }
    redis.client().set("other", "o");
    let (mut http, mut admin) = (proxy.client(), proxy.resp_client());
    admin.ask("GET other", "$1\r\no");
    for key in 0..=MOST_KEYS {
        assert!(is_hit(&http.get("/other")), "after {key}");
        let name = format!("k{key}");
        overtake(&redis, &proxy, &mut admin, &name, || {
            http.send(format!("GET /{name} HTTP/1.1\r\nHost: h\r\n\r\n"));
        });
        assert_eq!(http.read_response().text(), "v");
    }
    assert!(!is_hit(&http.get("/other")), "beyond, all keys are asked again");
    assert!(is_hit(&http.get("/other")));
}
