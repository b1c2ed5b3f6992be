//! What is in force, and where it says so: `/readyz`, metrics, `Cache-Status`, the log (`docs/coherence.md`). That the
//! promise is kept is the business of `tests/coherence`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use testkit::{
    Action, HttpClient, Proxy, ProxyBuilder, RedisServer, Reply, Response, ScriptedRedis, wait_until,
};

use crate::support::{program, start, start_with};

const PATIENCE: Duration = Duration::from_secs(10);

fn ready(proxy: &Proxy) -> Response {
    HttpClient::connect(proxy.admin_address()).get("/readyz")
}

/// Waits for what `/readyz` says of the mode.
#[track_caller]
fn wait_told(proxy: &Proxy, words: &str) {
    wait_until(PATIENCE, &format!("{words:?} of /readyz"), || ready(proxy).text().contains(words));
    assert_eq!(ready(proxy).status, 200, "a promise that is not kept is no reason to send traffic elsewhere");
}

#[track_caller]
fn wait_in_force(proxy: &Proxy) {
    wait_told(proxy, ", in force");
}

/// A program whose promise may be out of force, as it says then.
fn doubtful(mode: &str) -> ProxyBuilder {
    program().set("COHERENCE", mode).allow_warning("coherence is not in force")
}

fn status(response: &Response) -> &str {
    response.header("cache-status").unwrap_or_default()
}

fn in_force(proxy: &Proxy) -> f64 {
    proxy.metrics().value("redis_proxy_coherence_in_force")
}

fn get_fresh(proxy: &Proxy, target: &str, directive: &str) -> Response {
    proxy.client().request("GET", target, &[("Cache-Control", directive)])
}

fn barriers(proxy: &Proxy) -> f64 {
    proxy.metrics().value("redis_proxy_link_barriers_total")
}

/// Adds a user who may do all but what `rules` take away. The URL that names it.
fn url_of_user(redis: &RedisServer, rules: &[&str]) -> String {
    let command = [&["ACL", "SETUSER", "some", "on", ">secret", "~*", "+@all"], rules].concat();
    assert_eq!(redis.client().command(&command), Reply::Simple("OK".into()));
    format!("redis://some:secret@{}", redis.address())
}

/// Reads that cannot be proven are answered by Redis, one by one.
#[track_caller]
fn assert_fetches_each(redis: &RedisServer, proxy: &Proxy, detail: &str) {
    for value in ["one", "two"] {
        redis.client().set("k", value);
        for _ in 0..2 {
            let response = proxy.get("/k");
            assert_eq!(response.text(), value);
            assert_eq!(status(&response), format!("redis-proxy; fwd=uri-miss; detail={detail}"));
        }
    }
}

#[test]
fn ttl_says_nothing_of_a_mode_and_asks_for_no_tracking() {
    let (redis, proxy) = start();
    redis.client().set("k", "v");
    assert_eq!(status(&proxy.get("/k")), "redis-proxy; fwd=uri-miss; stored");
    assert_eq!(status(&proxy.get("/k")), "redis-proxy; hit");
    assert_eq!(ready(&proxy).text(), "ready\n");
    let metrics = proxy.metrics();
    let of_the_mode = |name: &&String| name.contains("coherence") || name.contains("redis_proxy_link");
    assert_eq!(metrics.samples.keys().find(of_the_mode), None);
    assert_eq!(redis.command_calls("client|tracking"), 0);
    assert_eq!(redis.command_calls("set"), 1, "there is no canary");
}

#[test]
fn tracking_and_strict_say_that_they_are_in_force() {
    for mode in ["tracking", "strict"] {
        let (redis, proxy) = start_with(&[("COHERENCE", mode)]);
        wait_in_force(&proxy);
        assert_eq!(ready(&proxy).text(), format!("ready\ncoherence: {mode}, in force\n"));
        assert_eq!(proxy.wait_log("coherence is in force", PATIENCE).field("mode"), Some(mode));
        assert_eq!(in_force(&proxy), 1.0);
        redis.client().set("k", "v");
        let expected = format!("redis-proxy; fwd=uri-miss; stored; detail={mode}");
        assert_eq!(status(&proxy.get("/k")), expected);
        assert_eq!(status(&proxy.get("/k")), format!("redis-proxy; hit; detail={mode}"));
        assert_eq!(redis.command_calls("get"), 2, "one for the key, one for the canary");
        assert!(proxy.metrics().value("redis_proxy_link_sync_age_seconds") < 0.5);
    }
}

#[test]
fn the_age_of_a_hit_in_force_counts_from_the_last_proof() {
    let age = |response: &Response| response.header("age").expect("an Age").parse::<u64>().expect("a number");
    for mode in ["tracking", "strict", "ttl"] {
        let (redis, proxy) = start_with(&[("COHERENCE", mode), ("MAX_STALENESS", "300ms")]);
        if mode != "ttl" {
            wait_in_force(&proxy);
        }
        redis.client().set("k", "v");
        let fetched = Instant::now();
        assert_eq!(age(&proxy.get("/k")), 0);
        wait_until(PATIENCE, "two seconds since the fetch", || {
            fetched.elapsed() > Duration::from_millis(2_100)
        });
        let later = proxy.get("/k");
        if status(&later).starts_with("redis-proxy; hit") {
            // No hit is older than MAX_STALENESS; in `ttl` its fetch is all that is known.
            let expected = if mode == "ttl" { 2..=60 } else { 0..=0 };
            assert!(expected.contains(&age(&later)), "{mode}: {later:?}");
        } else {
            assert!(age(&later) == 0 && mode != "ttl", "{mode}: {later:?}");
        }
    }
}

#[test]
fn a_user_without_tracking_is_told_and_each_read_is_fetched() {
    for mode in ["tracking", "strict"] {
        let redis = RedisServer::start();
        let url = url_of_user(&redis, &["-client|tracking"]);
        let proxy = doubtful(mode).set("REDIS_URL", url).start();
        wait_told(&proxy, &format!("coherence: {mode}, not in force: CLIENT TRACKING ON: NOPERM"));
        assert_eq!(in_force(&proxy), 0.0);
        assert_fetches_each(&redis, &proxy, &format!("{mode}-not-in-force"));
        assert_eq!(proxy.metrics().value("redis_proxy_entries"), 0.0);
        let told = proxy.wait_log("coherence is not in force", PATIENCE);
        assert!(told.field("reason").is_some_and(|reason| reason.contains("NOPERM")), "{}", told.raw);
        assert!(told.message.contains("whose ACL allows CLIENT TRACKING and PTTL"), "{}", told.message);
    }
}

#[test]
fn a_user_without_pttl_is_told_and_each_read_is_fetched() {
    for mode in ["tracking", "strict"] {
        let redis = RedisServer::start();
        let url = url_of_user(&redis, &["-pttl"]);
        let proxy = doubtful(mode).set("REDIS_URL", url).start();
        wait_told(&proxy, &format!("coherence: {mode}, not in force: PTTL: NOPERM"));
        assert_eq!(in_force(&proxy), 0.0);
        let denied = redis.command_calls("pttl");
        assert_fetches_each(&redis, &proxy, &format!("{mode}-not-in-force"));
        assert_eq!(redis.command_calls("pttl"), denied, "it is not asked for what is known");
        let told = proxy.wait_log("coherence is not in force", PATIENCE);
        assert!(told.field("reason").is_some_and(|reason| reason.contains("PTTL")), "{}", told.raw);
    }
}

#[test]
fn a_user_who_loses_pttl_is_told_at_the_next_read() {
    let redis = RedisServer::start();
    let url = url_of_user(&redis, &[]);
    let proxy = doubtful("tracking").set("REDIS_URL", url).start();
    wait_in_force(&proxy);
    redis.client().command(&["ACL", "SETUSER", "some", "-pttl"]);
    proxy.get("/k");
    wait_told(&proxy, "coherence: tracking, not in force: PTTL: NOPERM");
    assert_fetches_each(&redis, &proxy, "tracking-not-in-force");
}

#[test]
fn keys_that_may_not_be_read_take_nothing_from_the_promise() {
    let redis = RedisServer::start();
    let url = url_of_user(&redis, &["resetkeys", "~redis-proxy:canary", "~k"]);
    let proxy = program().set("COHERENCE", "tracking").set("REDIS_URL", url).start();
    wait_in_force(&proxy);
    redis.client().set("k", "v");
    assert_eq!(proxy.get("/other").status, 502);
    proxy.get("/k");
    assert_eq!(status(&proxy.get("/k")), "redis-proxy; hit; detail=tracking");
}

#[test]
fn a_replica_is_not_in_force_until_it_is_a_primary() {
    let primary = RedisServer::builder().config("repl-diskless-sync-delay", "0").start();
    let redis = RedisServer::start();
    primary.client().set("k", "of the primary");
    let port = primary.port().to_string();
    redis.client().command(&["REPLICAOF", "127.0.0.1", &port]);
    wait_until(PATIENCE, "replication", || redis.client().get("k").is_some());
    let proxy = doubtful("tracking").redis(&redis).allow_warning("connection to redis lost").start();
    wait_told(&proxy, "not in force: the server is a replica");
    let response = proxy.get("/k");
    assert_eq!(response.text(), "of the primary");
    assert_eq!(status(&response), "redis-proxy; fwd=uri-miss; detail=tracking-not-in-force");
    assert_eq!(in_force(&proxy), 0.0);

    redis.client().command(&["REPLICAOF", "NO", "ONE"]);
    wait_in_force(&proxy);
    assert_eq!(in_force(&proxy), 1.0);
    proxy.get("/k");
    assert_eq!(status(&proxy.get("/k")), "redis-proxy; hit; detail=tracking");
}

#[test]
fn a_server_that_accepts_tracking_and_never_pushes_is_found_out() {
    let tracked = "%3\r\n$5\r\nflags\r\n~1\r\n$2\r\non\r\n$8\r\nredirect\r\n:-1\r\n$8\r\nprefixes\r\n*0\r\n";
    let redis = ScriptedRedis::builder()
        .answer("CLIENT TRACKINGINFO", tracked)
        .answer("MULTI", "+OK\r\n")
        .answer("SET", "+QUEUED\r\n")
        .answer("DEL", "+QUEUED\r\n")
        .answer("EXEC", "*2\r\n+OK\r\n:1\r\n")
        .answer("PTTL", ":-1\r\n")
        .start(|key, _| Action::value(key));
    let proxy = doubtful("tracking").redis_at(redis.address()).start();
    wait_told(&proxy, "not in force: the server accepts tracking and delivers no invalidations");
    for gets in 2..5 {
        let response = proxy.get("/k");
        assert_eq!(status(&response), "redis-proxy; fwd=uri-miss; detail=tracking-not-in-force");
        assert_eq!(redis.calls("GET"), gets, "with that of the canary");
    }
}

#[test]
fn a_canary_that_may_not_be_written_is_told_once_and_trusted() {
    let redis = RedisServer::start();
    let url = url_of_user(&redis, &["-set"]);
    let proxy = program()
        .set("COHERENCE", "tracking")
        .set("REDIS_URL", url)
        .set("MAX_STALENESS", "100ms")
        .allow_warning("the canary cannot be written")
        .allow_warning("connection to redis lost")
        .allow_warning("coherence is not in force")
        .start();
    wait_in_force(&proxy);
    assert_eq!(in_force(&proxy), 1.0);
    // Tried again on the next connection, and not told again.
    for round in 1..3 {
        redis.client().command(&["CLIENT", "KILL", "TYPE", "normal"]);
        proxy.wait_log_count("coherence is in force", round, PATIENCE);
        wait_until(PATIENCE, "a new try", || redis.command_calls("client|trackinginfo") > round as u64);
        wait_in_force(&proxy);
    }
    let told =
        proxy.log().iter().filter(|line| line.message.contains("the canary cannot be written")).count();
    assert_eq!(told, 1);
}

#[test]
fn the_canary_is_a_key_of_choice_or_none() {
    let (redis, proxy) = start_with(&[("COHERENCE", "tracking"), ("CANARY_KEY", "bird")]);
    wait_in_force(&proxy);
    assert_eq!((redis.command_calls("set"), redis.command_calls("del")), (1, 1));
    assert_eq!(redis.client().command(&["DBSIZE"]), Reply::Integer(0), "nobody sees it");

    let (redis, proxy) = start_with(&[("COHERENCE", "tracking"), ("CANARY_KEY", "off")]);
    wait_in_force(&proxy);
    assert_eq!(redis.command_calls("set"), 0);
    assert_eq!(redis.command_calls("get"), 0);
}

/// Which connection each key was read on, by Redis' slow log, which is set to take everything.
fn connections_by_key(redis: &RedisServer) -> BTreeMap<String, BTreeSet<String>> {
    let Reply::Array(entries) = redis.client().command(&["SLOWLOG", "GET", "-1"]) else {
        panic!("no SLOWLOG")
    };
    let mut found = BTreeMap::<String, BTreeSet<String>>::new();
    let text = |reply: &Reply| match reply {
        Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => panic!("no text: {other:?}"),
    };
    for entry in entries {
        // Number, time, duration, arguments, the client's address, its name.
        let Reply::Array(entry) = entry else { panic!("no entry: {entry:?}") };
        let [_, _, _, Reply::Array(command), address, ..] = &entry[..] else { panic!("an entry: {entry:?}") };
        if let [name, key] = &command[..]
            && ["GET", "PTTL"].contains(&text(name).as_str())
        {
            found.entry(text(key)).or_default().insert(text(address));
        }
    }
    found
}

#[test]
fn three_links_share_the_keys_and_a_key_stays_with_one_of_them() {
    let redis = RedisServer::builder();
    let redis = redis.config("slowlog-log-slower-than", "0").config("slowlog-max-len", "10000").start();
    let settings = [("COHERENCE", "tracking"), ("REDIS_LINKS", "3"), ("CANARY_KEY", "off")];
    let program = settings.iter().fold(program(), |program, (name, value)| program.set(name, value));
    let proxy = program.redis(&redis).start();
    wait_in_force(&proxy);
    let keys: Vec<String> = (0..31).map(|number| format!("/k{number}")).collect();
    for value in ["1", "2", "3"] {
        for key in &keys {
            redis.client().set(&key[1..], value);
        }
        let all_seen = || keys.iter().all(|key| proxy.get(key).text() == value);
        wait_until(PATIENCE, "the invalidations of three links", all_seen);
        assert!(keys.iter().all(|key| status(&proxy.get(key)) == "redis-proxy; hit; detail=tracking"));
    }
    assert_eq!(proxy.metrics().value("redis_proxy_link_invalidations_total"), 62.0);
    let connections = connections_by_key(&redis);
    assert_eq!(connections.len(), keys.len());
    assert!(connections.values().all(|of_key| of_key.len() == 1), "{connections:?}");
    assert_eq!(connections.values().flatten().collect::<BTreeSet<_>>().len(), 3);
    assert_eq!(redis.command_calls("client|tracking"), 3);
}

/// Whoever reads by the packet waits for one round trip, of the same key and of others.
#[test]
fn strict_reads_of_one_packet_share_a_ping() {
    let (redis, proxy) =
        start_with(&[("RESP_PORT", "0"), ("COHERENCE", "strict"), ("RESP_COHERENCE", "strict")]);
    wait_in_force(&proxy);
    let keys = ["a", "b", "a", "c", "a", "b", "a", "a"];
    for key in keys {
        redis.client().set(key, key);
    }
    let mut http = proxy.client();
    let packet: String = keys.iter().map(|key| format!("GET /{key} HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
    let mut by_http = || {
        http.send(&packet);
        for key in keys {
            assert_eq!(http.read_response().text(), key);
        }
    };
    let mut resp = proxy.resp_client();
    let packet: String = keys.iter().map(|key| format!("GET {key}\r\n")).collect();
    let mut by_resp = || {
        resp.send(&packet);
        for key in keys {
            resp.expect(format!("$1\r\n{key}\r\n"));
        }
    };
    // All are held, and both clients are known to be quick.
    for _ in 0..5 {
        by_http();
        by_resp();
    }
    let before = barriers(&proxy);
    by_http();
    assert_eq!(barriers(&proxy) - before, 1.0, "by HTTP");
    by_resp();
    assert_eq!(barriers(&proxy) - before, 2.0, "by RESP");
}

#[test]
fn no_cache_asks_for_proof_where_it_is_honoured() {
    for (mode, honor, proofs) in [
        ("tracking", "auto", true),
        ("tracking", "on", true),
        ("tracking", "off", false),
        // There, every read is one.
        ("strict", "off", true),
        ("strict", "on", true),
    ] {
        let (redis, proxy) = start_with(&[("COHERENCE", mode), ("HONOR_NO_CACHE", honor)]);
        wait_in_force(&proxy);
        redis.client().set("k", "v");
        proxy.get("/k");
        let (before, gets) = (barriers(&proxy), redis.command_calls("get"));
        for directive in ["no-cache", "max-age=0", "max-stale, Max-Age=\"0\""] {
            let response = get_fresh(&proxy, "/k", directive);
            let expected = format!("redis-proxy; hit; detail={mode}");
            assert_eq!((response.text(), status(&response)), ("v", &expected[..]), "{mode}, {honor}");
        }
        let made = barriers(&proxy) - before;
        assert_eq!(made, if proofs { 3.0 } else { 0.0 }, "PINGs with {mode}, {honor}");
        assert_eq!(redis.command_calls("get"), gets, "proof is no fetch");
    }
    for (honor, is_fetched) in [("auto", false), ("off", false), ("on", true)] {
        let (redis, proxy) = start_with(&[("HONOR_NO_CACHE", honor)]);
        redis.client().set("k", "v");
        proxy.get("/k");
        let expected = if is_fetched { "redis-proxy; fwd=request; stored" } else { "redis-proxy; hit" };
        for directive in ["no-cache", "max-age=0"] {
            assert_eq!(status(&get_fresh(&proxy, "/k", directive)), expected, "ttl, {honor}, {directive}");
        }
        assert_eq!(redis.command_calls("get"), if is_fetched { 3 } else { 1 });
    }
}

#[test]
fn a_missing_key_is_a_hit_where_its_absence_is_tracked() {
    for mode in ["tracking", "strict"] {
        let (redis, proxy) = start_with(&[("COHERENCE", mode), ("CANARY_KEY", "off")]);
        wait_in_force(&proxy);
        let missed = proxy.get("/none");
        let expected = format!("redis-proxy; fwd=uri-miss; stored; detail={mode}");
        assert_eq!((missed.status, status(&missed)), (404, &expected[..]));
        for _ in 0..3 {
            let hit = proxy.get("/none");
            let expected = format!("redis-proxy; hit; detail={mode}");
            assert_eq!((hit.status, status(&hit)), (404, &expected[..]));
        }
        assert_eq!(redis.command_calls("get"), 1);
        assert_eq!(proxy.metrics().value("redis_proxy_negative_entries"), 1.0);
    }
    let (redis, proxy) = start();
    for gets in 1..4 {
        let response = proxy.get("/none");
        assert_eq!((response.status, status(&response)), (404, "redis-proxy; fwd=uri-miss"));
        assert_eq!(redis.command_calls("get"), gets);
    }
}

#[test]
fn more_keys_than_redis_tracks_by_default_are_warned_of() {
    let warning = "raise its tracking-table-max-keys";
    let redis = RedisServer::start();
    let with = |mode: &str, capacity: &str| {
        program()
            .redis(&redis)
            .set("COHERENCE", mode)
            .set("CAPACITY", capacity)
            .allow_warning(warning)
            .start()
    };
    with("tracking", "1000001").wait_log(warning, PATIENCE);
    for (mode, capacity) in [("ttl", "1000001"), ("tracking", "1000000")] {
        let proxy = with(mode, capacity);
        assert!(!proxy.log().iter().any(|line| line.message.contains(warning)), "{mode}, {capacity}");
    }
}
