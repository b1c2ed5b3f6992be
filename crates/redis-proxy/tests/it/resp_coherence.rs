//! What hits promise a Redis client (`RESP_COHERENCE`), beside what they promise over HTTP (`COHERENCE`).

use std::time::Duration;

use testkit::{Action, HttpClient, Proxy, RawClient, RedisServer, Reply, ScriptedRedis, Server, wait_until};

use crate::support::{program, start_resp};

const SOON: Duration = Duration::from_secs(10);

fn ready(proxy: &Proxy) -> String {
    HttpClient::connect(proxy.admin_address()).get("/readyz").text().to_owned()
}

/// What `/readyz` and INFO say of Redis clients.
fn standing(proxy: &Proxy) -> (String, String) {
    let told = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim().to_owned()
    };
    let info = proxy.resp_client().send("INFO proxy\r\n").bulk();
    (told(&ready(proxy), "redis clients: "), told(&String::from_utf8_lossy(&info), "proxy_redis_clients:"))
}

/// Waits until a read of a Redis client is answered from memory.
#[track_caller]
fn wait_kept(proxy: &Proxy, client: &mut RawClient, ask: &str, expect: &str) {
    let cached = || proxy.metrics().value("redis_proxy_lookups_total{result=\"hit\"}");
    wait_until(SOON, "a hit", || {
        let before = cached();
        client.ask(ask, expect);
        cached() > before
    });
}

#[test]
fn by_default_redis_clients_are_shown_no_key_that_has_expired_and_each_change() {
    let (redis, proxy) = start_resp(&[]);
    let mut client = proxy.resp_client();
    client.ask("SET other 1", "+OK");
    wait_kept(&proxy, &mut client, "GET other", "$1\r\n1");
    client.ask("SET otp 1 PX 1000", "+OK").ask("GET otp", "$1\r\n1");
    assert_eq!(proxy.get("/otp").text(), "1");
    redis.client().set("other", "2");
    wait_until(SOON, "a change at Redis", || client.send("GET other\r\n").bulk() == b"2");
    wait_until(SOON, "the key's end", || redis.client().command(&["EXISTS", "otp"]) == Reply::Integer(0));
    client.ask("GET otp", "$-1").ask("EXISTS otp", ":0").ask("TTL otp", ":-2").ask("STRLEN otp", ":0");
    assert_eq!(proxy.get("/otp").text(), "1", "over HTTP its age is what counts");
}

#[test]
fn by_default_it_is_so_before_every_server() {
    for server in Server::ALL {
        let Some(redis) = server.builder() else { continue };
        let redis = redis.start();
        let proxy = program().redis(&redis).set("RESP_PORT", "0").set("MAX_STALENESS", "5s").start();
        let mut client = proxy.resp_client();
        let what = format!("{server:?}");
        client.ask("SET k old", "+OK");
        wait_kept(&proxy, &mut client, "GET k", "$3\r\nold");
        assert_eq!(standing(&proxy).0, "tracking, in force", "{what}");
        assert_eq!(proxy.get("/k").text(), "old", "{what}");
        redis.client().set("k", "new");
        wait_until(SOON, &what, || client.send("GET k\r\n").bulk() == b"new");
        client.ask("SET otp 1 PX 1000", "+OK").ask("GET otp", "$1\r\n1");
        wait_until(SOON, &what, || redis.client().get("otp").is_none());
        client.ask("GET otp", "$-1").ask("EXISTS otp", ":0");
        wait_kept(&proxy, &mut client, "GET k", "$3\r\nnew");
        redis.client().command(&["FLUSHALL"]);
        wait_until(SOON, &what, || client.send("EXISTS k\r\n").line() == ":0");
        let answer = proxy.get("/k");
        assert_eq!(
            (answer.text(), answer.header("cache-status")),
            ("old", Some("redis-proxy; hit")),
            "{what}"
        );
        assert_eq!(proxy.metrics().value("redis_proxy_coherence_violations_total"), 0.0, "{what}");
    }
}

#[test]
fn what_http_serves_by_age_is_untouched_by_redis_clients_and_what_redis_tells_of() {
    let (redis, proxy) = start_resp(&[("WORKERS", "1")]);
    let mut client = proxy.resp_client();
    let keys = ["set", "deleted", "expired", "flushed", "renamed"];
    for key in keys {
        client.ask(&format!("SET {key} old"), "+OK");
    }
    client.ask("PEXPIRE expired 60000", ":1");
    // In this order on half of the keys, in the other on the others.
    keys[..2].iter().for_each(|key| assert_eq!(proxy.get(&format!("/{key}")).text(), "old"));
    keys.iter().for_each(|key| wait_kept(&proxy, &mut client, &format!("GET {key}"), "$3\r\nold"));
    keys.iter().for_each(|key| assert_eq!(proxy.get(&format!("/{key}")).text(), "old"));
    let mut direct = redis.client();
    direct.set("set", "new");
    direct.command(&["DEL", "deleted"]);
    direct.command(&["PEXPIRE", "expired", "1"]);
    direct.command(&["RENAME", "renamed", "elsewhere"]);
    wait_until(SOON, "four changes", || {
        client.send("GET set\r\n").bulk() == b"new"
            && ["deleted", "expired", "renamed"]
                .iter()
                .all(|key| client.send(format!("EXISTS {key}\r\n")).line() == ":0")
    });
    direct.command(&["FLUSHALL"]);
    wait_until(SOON, "a flush", || client.send("EXISTS flushed\r\n").line() == ":0");
    let gets = redis.command_calls("get");
    for key in keys {
        let answer = proxy.get(&format!("/{key}"));
        assert_eq!(
            (answer.text(), answer.header("cache-status")),
            ("old", Some("redis-proxy; hit")),
            "{key}"
        );
    }
    assert_eq!(redis.command_calls("get"), gets, "no GET for HTTP");
    // A write through the proxy is seen by all.
    client.ask("SET set newer", "+OK");
    assert_eq!(proxy.get("/set").text(), "newer");
    client.ask("FLUSHALL", "+OK");
    assert!(keys.iter().all(|key| proxy.get(&format!("/{key}")).status == 404));
}

/// What Redis was asked, by its slow log, which is set to take everything: GETs by each connection that asks for no
/// deadlines, as links do.
fn gets_without_deadlines(redis: &RedisServer) -> usize {
    let Reply::Array(entries) = redis.client().command(&["SLOWLOG", "GET", "-1"]) else {
        panic!("no SLOWLOG")
    };
    let mut by_address = std::collections::BTreeMap::<Vec<u8>, Vec<Vec<u8>>>::new();
    for entry in entries {
        // Number, time, duration, arguments, the client's address, its name.
        let Reply::Array(entry) = entry else { panic!("no entry: {entry:?}") };
        let [_, _, _, Reply::Array(command), Reply::Bulk(address), ..] = &entry[..] else {
            panic!("{entry:?}")
        };
        if let Some(Reply::Bulk(name)) = command.first() {
            by_address.entry(address.clone()).or_default().push(name.to_ascii_uppercase());
        }
    }
    let of_http = by_address.values().filter(|names| names.iter().all(|name| name != b"PTTL"));
    of_http.flatten().filter(|name| *name == b"GET").count()
}

/// What an HTTP client is answered while keys change behind the proxy, and how many GETs that costs.
fn answers_over_http(readers: bool) -> (Vec<String>, usize) {
    let redis = RedisServer::builder();
    let redis = redis.config("slowlog-log-slower-than", "0").config("slowlog-max-len", "100000").start();
    let program =
        program().redis(&redis).set("RESP_PORT", "0").set("MAX_STALENESS", "5s").set("WORKERS", "2");
    let proxy = program.start();
    let mut client = proxy.resp_client();
    let mut answers = Vec::new();
    let mut direct = redis.client();
    let (mut web, keys) = (proxy.client(), ["a", "b", "c", "none", "list"]);
    if readers {
        // What is asked before there is a link goes to Redis as it is.
        wait_kept(&proxy, &mut client, "GET warm", "$-1");
        direct.command(&["SLOWLOG", "RESET"]);
    }
    for round in 0..6 {
        for (at, key) in keys.iter().enumerate() {
            for turn in 0..3 {
                if readers && (at + turn + round) % 2 == 0 {
                    let questions =
                        (0..20).map(|end| format!("GETRANGE {key} 0 {end}\r\n")).collect::<String>();
                    // Some are errors, all are answered. An error is fetched once more, by a lane: no GET is to be one.
                    let get = if *key == "list" { "STRLEN" } else { "GET" };
                    client.send(format!(
                        "{get} {key}\r\nTTL {key}\r\n{questions}{get} {key}\r\nECHO round\r\n"
                    ));
                    while client.line() != "round" {}
                }
                let answer = web.get(&format!("/{key}"));
                let status = answer.header("cache-status").unwrap_or_default().to_owned();
                answers.push(format!("{round} {key} {} {} {status}", answer.status, answer.text()));
            }
        }
        match round {
            0 => keys[..3].iter().for_each(|key| direct.set(key, "first")),
            1 => keys[..3].iter().for_each(|key| direct.set(key, "second")),
            2 => _ = direct.command(&["DEL", "a"]),
            3 => _ = direct.command(&["PEXPIRE", "b", "1"]),
            _ => _ = direct.command(&["FLUSHALL"]),
        }
        _ = direct.command(&["RPUSH", "list", "e"]);
        if readers {
            wait_until(SOON, "the changes to be seen", || {
                keys[..3].iter().all(|key| {
                    // By another name: GETs are counted. Of a key that is not there it is nothing.
                    let Reply::Bulk(held) = direct.command(&["GETRANGE", key, "0", "-1"]) else {
                        return false;
                    };
                    let seen = client.send(format!("GET {key}\r\n")).reply();
                    let bulk = [format!("${}\r\n", held.len()).as_bytes(), &held, b"\r\n"].concat();
                    if held.is_empty() { seen == b"$-1\r\n" } else { seen == bulk }
                })
            });
        }
    }
    if readers {
        assert!(proxy.metrics().value("redis_proxy_link_invalidations_total") > 5.0);
        assert!(proxy.metrics().value("redis_proxy_link_flushes_total") > 0.0);
    }
    (answers, gets_without_deadlines(&redis))
}

#[test]
fn answers_over_http_and_their_gets_are_the_same_with_and_without_redis_clients() {
    let (alone, gets) = answers_over_http(false);
    let (beside, gets_beside) = answers_over_http(true);
    assert_eq!(alone, beside);
    assert!(alone.iter().any(|answer| answer.contains("first") && answer.contains("; hit")), "{alone:?}");
    assert_eq!(gets, gets_beside);
}

#[test]
fn redis_clients_are_not_shown_what_http_serves_by_age() {
    let (redis, proxy) = start_resp(&[]);
    redis.client().set("k", "old");
    assert_eq!(proxy.get("/k").text(), "old");
    redis.client().set("k", "new!");
    let mut client = proxy.resp_client();
    client.ask("PROXY CACHE GET k", "$-1");
    client.ask("STRLEN k", ":4").ask("GET k", "$4\r\nnew!").ask("MGET k k", "*2\r\n$4\r\nnew!\r\n$4\r\nnew!");
    assert_eq!(proxy.get("/k").text(), "old");
}

#[test]
fn the_link_of_redis_clients_starts_with_their_first_read() {
    let (redis, proxy) = start_resp(&[("CANARY_KEY", "bird")]);
    redis.client().set("k", "v");
    let mut client = proxy.resp_client();
    client.ask("PING", "+PONG").ask("SET other v", "+OK").ask("LPUSH list e", ":1");
    client.ask("PROXY CACHE GET k", "$-1").ask("PROXY CACHE FLUSH", "+OK");
    assert_eq!(proxy.get("/k").text(), "v");
    let not_asked = ("not asked yet".to_owned(), "not asked yet".to_owned());
    assert_eq!(standing(&proxy), not_asked);
    assert_eq!(redis.command_calls("client|tracking"), 0);
    assert!(!ready(&proxy).contains("coherence:"), "HTTP serves by age");
    client.ask("GET k", "$1\r\nv");
    let in_force = ("tracking, in force".to_owned(), "tracking, in force".to_owned());
    wait_until(SOON, "the promise in force", || standing(&proxy) == in_force);
    assert_eq!(redis.command_calls("client|tracking"), 1);
    assert_eq!(proxy.metrics().value("redis_proxy_coherence_in_force"), 1.0);
    assert_eq!(proxy.wait_log("coherence is in force", SOON).field("mode"), Some("tracking"));
}

/// Tracking shows as a flag.
fn tracked_connections(redis: &RedisServer) -> usize {
    let listed = redis.client().command(&["CLIENT", "LIST"]);
    let Reply::Bulk(listed) = listed else { panic!("no list") };
    String::from_utf8_lossy(&listed).lines().filter(|line| line.contains("flags=t")).count()
}

#[test]
fn the_link_of_redis_clients_ends_with_their_last_read_and_http_keeps_what_it_holds() {
    let (redis, proxy) = start_resp(&[("RESP_LANE_IDLE", "300ms"), ("WORKERS", "1")]);
    redis.client().set("k", "old");
    assert_eq!(proxy.get("/k").text(), "old");
    // One stays, one leaves; one is the proxy's own user, the other reads in another database.
    for stays in [true, false] {
        let mut client = proxy.resp_client();
        let mut other = proxy.resp_client();
        client.ask("GET k", "$3\r\nold");
        other.ask("SELECT 1", "+OK").ask("GET k", "$-1");
        wait_until(SOON, "the promise in force", || standing(&proxy).0 == "tracking, in force");
        wait_kept(&proxy, &mut client, "GET k", "$3\r\nold");
        let clients = stays.then_some((client, other));
        wait_until(SOON, "the end of the links", || standing(&proxy).0 == "not asked yet");
        wait_until(SOON, "no tracked connection", || tracked_connections(&redis) == 0);
        let answer = proxy.get("/k");
        assert_eq!((answer.text(), answer.header("cache-status")), ("old", Some("redis-proxy; hit")));
        // It begins again with the next read.
        if let Some((mut client, _other)) = clients {
            redis.client().set("k", "new");
            client.ask("GET k", "$3\r\nnew");
            wait_kept(&proxy, &mut client, "GET k", "$3\r\nnew");
            redis.client().set("k", "old");
            wait_until(SOON, "the change", || client.send("GET k\r\n").bulk() == b"old");
        }
    }
}

#[test]
fn where_the_server_cannot_track_reads_are_passed_through_and_it_is_said() {
    for mode in ["tracking", "strict"] {
        let redis = RedisServer::start();
        let rules = ["ACL", "SETUSER", "some", "on", ">secret", "~*", "&*", "+@all", "-client|tracking"];
        redis.client().command(&rules);
        let url = format!("redis://some:secret@{}", redis.address());
        let proxy = program().set("REDIS_URL", url).set("RESP_PORT", "0").set("RESP_COHERENCE", mode);
        let proxy = proxy.set("RESP_IDENTITY", "proxy").allow_warning("coherence is not in force").start();
        let mut client = proxy.resp_client();
        redis.client().set("k", "v");
        client.ask("GET k", "$1\r\nv");
        let words = format!("{mode}, not in force: CLIENT TRACKING ON: NOPERM");
        wait_until(SOON, "the words", || standing(&proxy).0.starts_with(&words));
        let (readyz, info) = standing(&proxy);
        assert!(readyz.ends_with("; reads are passed through") && info == readyz, "{readyz} {info}");
        let told = proxy.wait_log("coherence is not in force", SOON);
        assert!(told.raw.contains("passed through") && told.field("mode") == Some(mode), "{}", told.raw);
        redis.reset_stats();
        for value in ["one", "two"] {
            redis.client().set("k", value);
            client.ask("GET k", &format!("$3\r\n{value}")).ask("STRLEN k", ":3");
            client.ask("MGET k none", &format!("*2\r\n$3\r\n{value}\r\n$-1")).ask("TTL k", ":-1");
        }
        assert_eq!((redis.command_calls("get"), redis.command_calls("mget")), (2, 2), "each as itself");
        assert_eq!((redis.command_calls("strlen"), redis.command_calls("pttl")), (2, 0));
    }
}

#[test]
fn a_server_that_accepts_tracking_and_never_pushes_is_found_out_for_redis_clients_too() {
    let tracked = "%3\r\n$5\r\nflags\r\n~1\r\n$2\r\non\r\n$8\r\nredirect\r\n:-1\r\n$8\r\nprefixes\r\n*0\r\n";
    let redis = ScriptedRedis::builder()
        .answer("CLIENT TRACKINGINFO", tracked)
        .answer("MULTI", "+OK\r\n")
        .answer("SET", "+QUEUED\r\n")
        .answer("DEL", "+QUEUED\r\n")
        .answer("EXEC", "*2\r\n+OK\r\n:1\r\n")
        .answer("PTTL", ":-1\r\n")
        .start(|key, _| Action::value(key));
    let proxy =
        program().redis_at(redis.address()).set("RESP_PORT", "0").allow_warning("coherence is not in force");
    let proxy = proxy.start();
    let mut client = proxy.resp_client();
    client.ask("GET k", "$1\r\nk");
    let words = "the server accepts tracking and delivers no invalidations; reads are passed through";
    wait_until(SOON, "the words", || ready(&proxy).contains(words));
    for _ in 0..3 {
        let before = redis.calls("GET");
        client.ask("GET k", "$1\r\nk");
        assert_eq!(redis.calls("GET"), before + 1);
    }
    // Nor is it believed by a link that does not try it itself.
    client.ask("SELECT 1", "+OK");
    for _ in 0..5 {
        client.ask("GET k", "$1\r\nk");
    }
    let told = |line: &testkit::LogLine| line.message == "coherence is in force";
    wait_until(SOON, "both links to be told of", || {
        let is_told = |line: &testkit::LogLine| line.message.contains("coherence is not in force");
        proxy.log().iter().filter(|line| is_told(line)).count() == 2
    });
    assert!(!proxy.log().iter().any(told));
    let before = redis.calls("GET");
    client.ask("GET k", "$1\r\nk").ask("GET k", "$1\r\nk");
    assert_eq!(redis.calls("GET"), before + 2);
}

#[test]
fn a_readers_link_is_trusted_where_the_proxys_user_may_not_write_the_canary_and_that_is_said() {
    let redis = RedisServer::start();
    let proxy_user = ["ACL", "SETUSER", "some", "on", ">secret", "~*", "&*", "+@all", "-multi"];
    redis.client().command(&proxy_user);
    redis.client().command(&["ACL", "SETUSER", "reader", "on", ">word", "~*", "&*", "+@all"]);
    let url = format!("redis://some:secret@{}", redis.address());
    let proxy = program().set("REDIS_URL", url).set("RESP_PORT", "0").set("MAX_STALENESS", "5s");
    let proxy = proxy.allow_warning("the canary cannot be written").start();
    let mut client = proxy.resp_client();
    client.ask("AUTH reader word", "+OK").ask("SET k v", "+OK");
    wait_kept(&proxy, &mut client, "GET k", "$1\r\nv");
    proxy.wait_log("the canary cannot be written, so delivery is trusted untried", SOON);
    assert_eq!(standing(&proxy).0, "tracking, in force");
    redis.client().set("k", "w");
    wait_until(SOON, "the change", || client.send("GET k\r\n").bulk() == b"w");
}

#[test]
fn keys_are_named_to_redis_as_used_by_who_may_read_them_alone() {
    let redis = RedisServer::builder().config("maxmemory", "100mb").config("maxmemory-policy", "allkeys-lru");
    let redis = redis.start();
    redis.client().command(&["ACL", "SETUSER", "reader", "on", ">word", "~public:*", "+@all"]);
    redis.client().set("secret", "s");
    redis.client().set("public:a", "p");
    let proxy =
        program().redis(&redis).set("RESP_PORT", "0").set("COHERENCE", "tracking").set("MAX_STALENESS", "5s");
    let proxy = proxy.start();
    let mut client = proxy.resp_client();
    client.ask("AUTH reader word", "+OK");
    wait_kept(&proxy, &mut client, "GET public:a", "$1\r\np");
    wait_until(SOON, "a hit over HTTP", || {
        proxy.get("/secret").header("cache-status").is_some_and(|status| status.contains("; hit"))
    });
    redis.client().command(&["ACL", "LOG", "RESET"]);
    // Rounds begin 10 s after the start of each link.
    wait_until(Duration::from_secs(40), "each link to name its key", || redis.command_calls("touch") >= 2);
    let Reply::Array(denied) = redis.client().command(&["ACL", "LOG"]) else { panic!("no ACL LOG") };
    assert_eq!(denied, []);
}
