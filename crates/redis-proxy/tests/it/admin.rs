//! The admin port: health that tells the truth in bounded time, metrics that count what happened.

use std::time::{Duration, Instant};

use testkit::{HttpClient, Metrics, Proxy, RedisServer, Response, wait_until};

use crate::support::{program, program_without_redis, start, start_with};

const PATIENCE: Duration = Duration::from_secs(10);

fn admin(proxy: &Proxy, path: &str) -> Response {
    HttpClient::connect(proxy.admin_address()).get(path)
}

fn changed(before: &Metrics, after: &Metrics, sample: &str) -> f64 {
    after.value(sample) - before.value(sample)
}

#[test]
fn a_program_with_redis_is_alive_and_ready() {
    let (_redis, proxy) = start();
    let alive = admin(&proxy, "/livez");
    assert_eq!((alive.status, alive.text()), (200, "alive\n"));
    let ready = admin(&proxy, "/readyz");
    assert_eq!((ready.status, ready.text()), (200, "ready\n"));
}

#[test]
fn readiness_ends_with_redis_and_returns_with_it_and_life_goes_on() {
    let redis = RedisServer::start();
    let proxy = program_without_redis().redis(&redis).start();
    redis.kill();
    wait_until(PATIENCE, "not ready", || admin(&proxy, "/readyz").status == 503);
    assert_eq!(admin(&proxy, "/livez").status, 200);
    redis.restart();
    let back = Instant::now();
    wait_until(PATIENCE, "ready", || admin(&proxy, "/readyz").status == 200);
    assert!(back.elapsed() <= Duration::from_millis(250), "ready {:?} after Redis was", back.elapsed());
}

#[test]
fn readiness_is_bounded_while_redis_stands_still_and_the_others_answer_at_once() {
    let redis = RedisServer::start();
    let proxy = program_without_redis().redis(&redis).set("UPSTREAM_TIMEOUT", "60s").start();
    assert_eq!(admin(&proxy, "/readyz").status, 200);
    redis.pause_process();
    let mut prober = HttpClient::connect(proxy.admin_address());
    let asked = Instant::now();
    prober.send("GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(admin(&proxy, "/livez").status, 200);
    assert!(proxy.metrics().value("redis_proxy_clients") == 0.0);
    assert!(asked.elapsed() < Duration::from_millis(500), "the others took {:?}", asked.elapsed());
    let response = prober.read_response();
    assert_eq!((response.status, response.text()), (503, "not ready: redis did not answer in time\n"));
    assert!(asked.elapsed() < Duration::from_millis(1_300), "it took {:?}", asked.elapsed());
}

#[test]
fn a_probe_makes_no_connection_and_touches_no_key() {
    let (redis, proxy) = start();
    admin(&proxy, "/readyz");
    redis.reset_stats();
    let connects = proxy.metrics().value("redis_proxy_redis_connects_total");
    for _ in 0..50 {
        assert_eq!(admin(&proxy, "/readyz").status, 200);
    }
    assert_eq!(redis.command_calls("get"), 0);
    assert!(redis.command_calls("ping") >= 50);
    assert_eq!(redis.command_calls("hello"), 0);
    assert_eq!(proxy.metrics().value("redis_proxy_redis_connects_total"), connects);
}

#[test]
fn lookups_fills_and_evictions_are_counted() {
    let (redis, proxy) = start_with(&[("CAPACITY", "2")]);
    let mut writer = redis.client();
    for key in ["a", "b", "c"] {
        writer.set(key, "v");
    }
    let before = proxy.metrics();
    let mut client = proxy.client();
    for path in ["/a", "/a", "/b", "/c", "/absent", "/c"] {
        client.get(path);
    }
    // A latency is counted once its answer is with the kernel, and the client may be faster.
    wait_until(PATIENCE, "the last hit to be counted", || {
        proxy.metrics().value("redis_proxy_request_duration_seconds_count{result=\"hit\"}") == 2.0
    });
    let after = proxy.metrics();
    let expected = [
        ("redis_proxy_lookups_total{result=\"hit\"}", 2.0),
        ("redis_proxy_lookups_total{result=\"miss\"}", 4.0),
        ("redis_proxy_lookups_total{result=\"collapsed\"}", 0.0),
        ("redis_proxy_fills_total{outcome=\"stored\"}", 3.0),
        ("redis_proxy_fills_total{outcome=\"missing\"}", 1.0),
        ("redis_proxy_evictions_total", 1.0),
        ("redis_proxy_entries", 2.0),
        ("redis_proxy_clients", 1.0),
        ("redis_proxy_request_duration_seconds_count{result=\"hit\"}", 2.0),
        ("redis_proxy_request_duration_seconds_count{result=\"miss\"}", 4.0),
        ("redis_proxy_redis_duration_seconds_count", 4.0),
    ];
    for (sample, change) in expected {
        assert_eq!(changed(&before, &after, sample), change, "{sample}");
    }
    assert!(after.value("redis_proxy_accounted_bytes") > before.value("redis_proxy_accounted_bytes"));
    let resident = after.value("redis_proxy_resident_bytes");
    let seen = proxy.resident_bytes() as f64;
    assert!((0.8..1.25).contains(&(resident / seen)), "{resident} bytes said, {seen} seen");
}

#[test]
fn errors_are_counted_by_kind() {
    let redis = RedisServer::start();
    redis.client().command(&["LPUSH", "list", "item"]);
    redis.client().set("big", vec![b'x'; 2 << 20]);
    let proxy = program_without_redis().redis(&redis).set("MAX_REPLY_BYTES", "1MiB").start();
    let mut client = proxy.client();
    client.get("/list");
    client.get("/big");
    client.request("POST", "/list", &[]);
    redis.kill();
    wait_until(PATIENCE, "a refusal", || client.get("/other").status == 503);
    let after = proxy.metrics();
    assert_eq!(after.value("redis_proxy_errors_total{kind=\"wrong_type\"}"), 1.0);
    assert_eq!(after.value("redis_proxy_errors_total{kind=\"too_large\"}"), 1.0);
    assert!(after.value("redis_proxy_errors_total{kind=\"unavailable\"}") >= 1.0);
    assert_eq!(after.value("redis_proxy_rejected_requests_total"), 1.0);
    assert!(after.value("redis_proxy_redis_disconnects_total") >= 1.0);
}

#[test]
fn what_is_not_there_is_404_and_other_verbs_are_405() {
    let (_redis, proxy) = start();
    assert_eq!(admin(&proxy, "/k").status, 404);
    assert_eq!(admin(&proxy, "/").status, 200);
    let mut client = HttpClient::connect(proxy.admin_address());
    let refused = client.request("DELETE", "/metrics", &[]);
    assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")));
    assert_eq!(client.head("/metrics").status, 200);
}

#[test]
fn reserved_paths_of_the_admin_port_are_keys_on_the_data_port() {
    let (redis, proxy) = start();
    redis.client().set("metrics", "a value");
    assert_eq!(proxy.get("/metrics").text(), "a value");
    assert_eq!(proxy.get("/readyz").status, 404);
}

#[test]
fn the_admin_port_can_be_off() {
    let (redis, proxy) = start_with(&[("ADMIN_PORT", "off")]);
    redis.client().set("k", "v");
    assert_eq!(proxy.get("/k").text(), "v");
    let line = proxy.wait_log("listening", PATIENCE);
    assert_eq!(line.field("admin"), Some("off"));
}

#[test]
fn clients_of_the_admin_port_that_say_nothing_keep_nobody_out() {
    let redis = RedisServer::start();
    let proxy = program().redis(&redis).start();
    let _silent: Vec<_> = (0..20).map(|_| HttpClient::connect(proxy.admin_address())).collect();
    let asked = Instant::now();
    assert_eq!(admin(&proxy, "/livez").status, 200);
    assert!(asked.elapsed() < Duration::from_millis(500));
}

#[test]
fn probes_are_answered_at_once_behind_a_thousand_idle_connections() {
    let redis = RedisServer::start();
    let proxy = program().redis(&redis).start();
    let idle: Vec<_> = (0..1_000)
        .map(|number| {
            let mut client = HttpClient::connect(proxy.admin_address());
            match number % 3 {
                0 => {}
                // Half a head.
                1 => client.send("GET /livez HTTP/1.1\r\n"),
                // Kept alive; it may be closed already, as it was asked in vain to make room.
                _ => drop(client.try_send("GET /livez HTTP/1.1\r\nHost: h\r\n\r\n")),
            }
            client
        })
        .collect();
    for path in ["/livez", "/readyz"] {
        // The best of three: this is not about a machine that is busy.
        let quickest = (0..3).map(|_| {
            let asked = Instant::now();
            assert_eq!(admin(&proxy, path).status, 200);
            asked.elapsed()
        });
        let quickest = quickest.min().unwrap();
        assert!(quickest < Duration::from_millis(100), "{path} took {quickest:?}");
    }
    assert!(proxy.open_files() < 200, "{} files", proxy.open_files());
    drop(idle);
}

#[test]
fn check_health_asks_the_running_program_and_tells_by_its_exit_code() {
    let redis = RedisServer::start();
    let proxy = program().redis(&redis).allow_warning("redis").start();
    let admin = proxy.admin_address();
    let port = admin.port().to_string();
    let ask = |host: &str| {
        let env = [("ADMIN_HOST", host), ("ADMIN_PORT", port.as_str())];
        testkit::run_to_end(env!("CARGO_BIN_EXE_redis-proxy"), &env, &["--check-health"], PATIENCE)
    };
    assert_eq!(ask("127.0.0.1").status.code(), Some(0));
    // As in a container, where it listens on all addresses.
    assert_eq!(ask("0.0.0.0").status.code(), Some(0));
    // By a name that is allowed, as in the container stack.
    let named = program().redis(&redis).set("ALLOWED_HOSTS", "localhost,proxy").start();
    let port = named.admin_address().port().to_string();
    let env =
        [("ADMIN_HOST", "0.0.0.0"), ("ADMIN_PORT", port.as_str()), ("ALLOWED_HOSTS", "localhost,proxy")];
    let asked = testkit::run_to_end(env!("CARGO_BIN_EXE_redis-proxy"), &env, &["--check-health"], PATIENCE);
    assert_eq!(asked.status.code(), Some(0), "{asked:?}");
    drop(named);
    redis.kill();
    wait_until(PATIENCE, "the loss to be seen", || admin_status(admin) == 503);
    let unready = ask("127.0.0.1");
    assert_eq!(unready.status.code(), Some(1));
    assert!(unready.stderr.contains("not ready: "), "{unready:?}");
}

fn admin_status(admin: std::net::SocketAddr) -> u16 {
    HttpClient::connect(admin).get("/readyz").status
}
