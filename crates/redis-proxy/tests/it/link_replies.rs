//! What Redis may send on a tracked link: nothing of it ends the link, and what holds it up does so once. All but one before each of the servers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use testkit::{
    FaultProxy, Proxy, RedisServer, RedisServerBuilder, Reply, Server, StopOnDrop, not_run, wait_until,
};

use crate::support::{lateness, program, wait_in_force};

const PATIENCE: Duration = Duration::from_secs(30);

/// Runs `test` before each of the servers, at the same time: most of it is waiting.
fn on_each_server(test: impl Fn(Server, &RedisServer) + Sync) {
    let test = &test;
    thread::scope(|scope| {
        for (server, redis) in servers() {
            let run = move || test(server, &redis.start());
            thread::Builder::new().name(server.to_string()).spawn_scoped(scope, run).expect("a thread");
        }
    });
}

fn servers() -> impl Iterator<Item = (Server, RedisServerBuilder)> {
    Server::ALL.into_iter().filter_map(|server| Some((server, server.builder()?)))
}

/// The program before `redis`, with both fronts in a mode of coherence, with its promise in force.
fn start(redis: &RedisServer, mode: &str, settings: &[(&str, &str)]) -> Proxy {
    let modes = [("COHERENCE", mode), ("RESP_COHERENCE", mode), ("RESP_PORT", "0"), ("MAX_STALENESS", "5s")];
    let settings = modes.iter().chain(settings);
    let proxy =
        settings.fold(program().redis(redis), |program, (name, value)| program.set(name, value)).start();
    wait_in_force(&proxy);
    proxy
}

/// A list of `length` short elements.
fn push_list(redis: &RedisServer, key: &str, length: usize) {
    let script = "for i = 1, ARGV[1] do redis.call('RPUSH', KEYS[1], i % 10) end return 0";
    let reply = redis.client().command(&["EVAL", script, "1", key, &length.to_string()]);
    assert_eq!(reply, Reply::Integer(0));
}

#[test]
fn a_reply_of_a_million_elements_ends_no_link_and_takes_the_lane_from_then_on() {
    // One after the other: it takes all of the machine, and where that stands still a link is silent.
    for (server, redis) in servers() {
        let redis = &redis.start();
        let proxy = start(redis, "tracking", &[("UPSTREAM_TIMEOUT", "30s")]);
        let length = 1_048_577;
        push_list(redis, "big", length);
        let mut client = proxy.redis_client();
        let loops = 2;
        redis.reset_stats();
        for _ in 0..loops {
            let Reply::Array(elements) = client.command(&["LRANGE", "big", "0", "-1"]) else {
                panic!("not a list")
            };
            assert_eq!(elements.len(), length);
        }
        let metrics = proxy.metrics();
        assert_eq!(metrics.value("redis_proxy_redis_disconnects_total"), 0.0, "{server}");
        wait_in_force(&proxy);
        let calls = redis.command_calls("lrange");
        assert_eq!(calls, loops + 1, "{server}: once on the link, and each time by a lane");
        assert_eq!(redis.command_calls("pttl"), 1, "{server}");
    }
}

#[test]
fn a_question_whose_reply_was_not_kept_for_its_size_goes_by_a_lane_in_whatever_protocol() {
    on_each_server(|server, redis| {
        let proxy = start(redis, "strict", &[("MAX_VALUE_BYTES", "1KiB"), ("GLOBAL_EXPIRY", "60s")]);
        push_list(redis, "list", 1_000);
        let (mut client, mut other) = (proxy.resp_client(), proxy.resp_client());
        other.resp3();
        redis.reset_stats();
        for _ in 0..3 {
            for client in [&mut client, &mut other] {
                let list = client.send("LRANGE list 0 -1\r\n").reply();
                assert!(list.starts_with(b"*1000\r\n"), "{server}");
            }
            client.ask("LLEN list", ":1000");
        }
        assert_eq!(redis.command_calls("lrange"), 6, "{server}");
        let others = (redis.command_calls("llen"), redis.command_calls("pttl"));
        assert_eq!(others, (1, 2), "{server}: the others stay");
    });
}

#[test]
fn a_value_too_large_to_keep_goes_past_the_link_until_global_expiry() {
    on_each_server(|server, redis| {
        let proxy = start(redis, "strict", &[("MAX_VALUE_BYTES", "1KiB"), ("GLOBAL_EXPIRY", "2s")]);
        let mut client = proxy.redis_client();
        redis.reset_stats();
        for size in 2_000..2_005 {
            redis.client().set("k", "v".repeat(size));
            assert_eq!(proxy.get("/k").body.len(), size, "{server}");
            assert_eq!(client.get("k").map(|value| value.len()), Some(size), "{server}");
        }
        assert_eq!((redis.command_calls("get"), redis.command_calls("pttl")), (10, 1), "{server}");
        redis.client().set("k", "small");
        assert_eq!(proxy.get("/k").text(), "small", "{server}");
        wait_until(PATIENCE, "a hit", || {
            let calls = redis.command_calls("get");
            assert_eq!(proxy.get("/k").text(), "small", "{server}");
            redis.command_calls("get") == calls
        });
    });
}

#[test]
fn a_value_above_max_reply_bytes_holds_the_link_up_once() {
    on_each_server(|server, redis| {
        let settings = [("MAX_REPLY_BYTES", "1KiB"), ("MAX_VALUE_BYTES", "1KiB")];
        let proxy = start(redis, "tracking", &settings);
        redis.client().set("k", "v".repeat(5_000));
        redis.reset_stats();
        for _ in 0..3 {
            assert_eq!(proxy.get("/k").status, 502, "{server}");
            assert_eq!(proxy.redis_client().get("k").map(|value| value.len()), Some(5_000), "{server}");
        }
        assert_eq!(redis.command_calls("pttl"), 1, "{server}");
        redis.client().set("k", "small");
        assert_eq!(proxy.get("/k").text(), "small", "{server}: no error is kept");
        assert_eq!(proxy.metrics().value("redis_proxy_redis_disconnects_total"), 0.0, "{server}");
    });
}

#[test]
fn what_goes_past_the_link_follows_it_to_another_primary() {
    on_each_server(|server, old| {
        let Some(new) = server.builder().map(RedisServerBuilder::start) else { return };
        let network = FaultProxy::start(old.address());
        old.client().set("k", "o".repeat(5_000));
        new.client().set("k", "n".repeat(5_000));
        let proxy = program()
            .redis_at(network.address())
            .set("COHERENCE", "tracking")
            .set("MAX_VALUE_BYTES", "1KiB")
            .set("MAX_STALENESS", "2s")
            .allow_warning("connection to redis lost")
            .allow_warning("coherence is not in force")
            .start();
        wait_in_force(&proxy);
        for _ in 0..3 {
            assert!(proxy.get("/k").text().starts_with('o'), "{server}");
        }
        network.retarget(new.address());
        old.client().command(&["REPLICAOF", "127.0.0.1", "1"]);
        // The canary's other connection has followed too: it would be refused at the old primary.
        wait_until(PATIENCE, "the new value, in force", || {
            proxy.get("/k").text().starts_with('n')
                && proxy.metrics().value("redis_proxy_coherence_in_force") == 1.0
        });
        assert!(!proxy.log().iter().any(|line| line.raw.contains("READONLY")), "{server}");
        assert!(proxy.get("/k").text().starts_with('n'), "{server}");
    });
}

#[test]
fn a_change_of_a_key_longer_than_any_reply_is_seen() {
    on_each_server(|server, redis| {
        let settings = [("MAX_REPLY_BYTES", "1KiB"), ("MAX_VALUE_BYTES", "1KiB")];
        let proxy = start(redis, "tracking", &settings);
        let mut client = proxy.redis_client();
        for length in [1_100, 60_000] {
            let key = "k".repeat(length);
            redis.client().set(&key, "one");
            wait_until(PATIENCE, "a hit", || {
                assert_eq!(client.get(&key), Some(b"one".to_vec()), "{server}");
                let calls = redis.command_calls("get");
                client.get(&key);
                redis.command_calls("get") == calls
            });
            redis.client().set(&key, "two");
            wait_until(PATIENCE, "the new value", || client.get(&key) == Some(b"two".to_vec()));
        }
        assert_eq!(proxy.metrics().value("redis_proxy_redis_disconnects_total"), 0.0, "{server}");
    });
}

#[test]
fn a_hundred_megabytes_in_a_loop_put_the_promise_out_of_force_once_at_most() {
    // It measures how long the link is held up: five servers would take five times as long and tell no more than one.
    let redis = RedisServer::start();
    let element = "e".repeat(1 << 20);
    let mut writer = redis.client();
    for _ in 0..100 {
        writer.command(&["RPUSH", "big", &element]);
    }
    // A machine that is late by as much as a heartbeat may be puts it out of force by itself: that run proves nothing.
    for _ in 0..5 {
        let late = lateness();
        let lapses = lapses_while_it_is_read(&redis);
        if lapses <= 1 {
            return;
        }
        let late = late();
        assert!(
            late > Duration::from_millis(100),
            "{lapses} lapses of the promise, on a machine late by {late:?}"
        );
    }
    not_run("this machine is too busy to say why the promise lapses");
}

/// Reads the list five times through a fresh proxy; how often the promise went out of force.
fn lapses_while_it_is_read(redis: &RedisServer) -> usize {
    // The default MAX_STALENESS, which such a reply takes longer than.
    let proxy = program()
        .redis(redis)
        .set("RESP_PORT", "0")
        .set("COHERENCE", "tracking")
        .allow_warning("coherence is not in force")
        .start();
    wait_in_force(&proxy);
    redis.reset_stats();
    let over = AtomicBool::new(false);
    let loops = 5;
    let lapses = thread::scope(|scope| {
        let _end = StopOnDrop(&over);
        let watching = scope.spawn(|| count_lapses(&proxy, &over));
        let mut client = proxy.resp_client();
        for _ in 0..loops {
            client.send("LRANGE big 0 -1\r\n").expect("*100\r\n");
            client.skip(100 * ((1 << 20) + "$1048576\r\n\r\n".len() as u64));
        }
        over.store(true, Ordering::Relaxed);
        watching.join().expect("the watch")
    });
    // What holds the link up is what travels on it.
    assert_eq!((redis.command_calls("lrange"), redis.command_calls("pttl")), (loops + 1, 1));
    assert_eq!(proxy.metrics().value("redis_proxy_redis_disconnects_total"), 0.0);
    wait_in_force(&proxy);
    lapses
}

/// How often the promise goes out of force until `over`; the log would tell one in five seconds.
fn count_lapses(proxy: &Proxy, over: &AtomicBool) -> usize {
    let (mut lapses, mut in_force) = (0, true);
    while !over.load(Ordering::Relaxed) {
        let now = proxy.metrics().value("redis_proxy_coherence_in_force") == 1.0;
        lapses += usize::from(in_force && !now);
        in_force = now;
        thread::sleep(Duration::from_millis(10));
    }
    lapses
}
