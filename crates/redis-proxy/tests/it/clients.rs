//! MAX_CLIENTS: who gets a place, who waits and for how long, who is told 503, and what happens without files.

use std::time::{Duration, Instant};

use testkit::{Action, End, HttpClient, Proxy, RedisServer, Reply, ScriptedRedis, run_to_end, wait_until};

use crate::support::{lateness, program, start_resp, start_with};

const PATIENCE: Duration = Duration::from_secs(10);

fn ask(proxy: &Proxy) -> HttpClient {
    let mut client = proxy.client();
    client.send("GET /k HTTP/1.1\r\nHost: h\r\n\r\n");
    client
}

fn wait_gauge(proxy: &Proxy, name: &str, value: usize) {
    wait_until(PATIENCE, name, || proxy.metrics().value(&format!("redis_proxy_{name}")) == value as f64);
}

/// Half a request, so that the connection is not idle.
fn begin(client: &mut HttpClient) {
    client.send("GET /k");
}

/// The rest of it, and its answer.
#[track_caller]
fn end(client: &mut HttpClient) {
    client.send(" HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.read_response().status, 200);
}

/// A program with two places, both taken by clients that have just asked.
fn start_full(settings: &[(&str, &str)]) -> (RedisServer, Proxy, [HttpClient; 2]) {
    let all: Vec<_> = [("MAX_CLIENTS", "2")].iter().chain(settings).copied().collect();
    let (redis, proxy) = start_with(&all);
    redis.client().set("k", "v");
    let mut holders = [proxy.client(), proxy.client()];
    holders.iter_mut().for_each(|holder| assert_eq!(holder.get("/k").status, 200));
    (redis, proxy, holders)
}

#[test]
fn a_further_client_waits_for_its_time_and_gets_503_in_order() {
    let (_redis, proxy, mut holders) = start_full(&[("CLIENT_WAIT", "300ms")]);
    holders.iter_mut().for_each(begin);
    let asked = Instant::now();
    let mut third = ask(&proxy);
    let response = third.read_response();
    let waited = asked.elapsed();
    assert_eq!((response.status, response.text()), (503, "too many clients"));
    assert_eq!(response.header("retry-after"), Some("1"));
    assert_eq!(response.header("connection"), Some("close"));
    assert!(third.at_end(), "closed in order, not reset");
    assert!((300..600).contains(&waited.as_millis()), "told after {waited:?}");
    holders.iter_mut().for_each(end);
}

#[test]
fn a_further_client_gets_the_place_of_one_that_leaves() {
    let (_redis, proxy, mut holders) = start_full(&[("CLIENT_WAIT", "10s")]);
    holders.iter_mut().for_each(begin);
    let mut third = ask(&proxy);
    wait_gauge(&proxy, "waiting_clients", 1);
    let [stays, leaves] = holders;
    drop(leaves);
    assert_eq!(third.read_response().status, 200);
    assert_eq!(proxy.metrics().value("redis_proxy_clients"), 2.0);
    drop(stays);
}

#[test]
fn those_who_wait_are_served_in_the_order_they_came() {
    let (_redis, proxy, mut holders) = start_full(&[("CLIENT_WAIT", "10s"), ("WORKERS", "1")]);
    holders.iter_mut().for_each(begin);
    let mut waiting = Vec::new();
    for number in 1..=6 {
        waiting.push(ask(&proxy));
        wait_gauge(&proxy, "waiting_clients", number);
    }
    drop(holders);
    for (number, client) in waiting.iter_mut().enumerate() {
        assert_eq!(client.read_response().status, 200, "client {number}");
        wait_gauge(&proxy, "waiting_clients", 4_usize.saturating_sub(number));
        // Its end is the next one's turn.
        *client = HttpClient::connect(proxy.admin_address());
    }
}

#[test]
fn more_than_max_waiting_get_503_at_once() {
    let (_redis, proxy, mut holders) = start_full(&[("CLIENT_WAIT", "10s"), ("MAX_WAITING", "1")]);
    holders.iter_mut().for_each(begin);
    let mut waits = ask(&proxy);
    wait_gauge(&proxy, "waiting_clients", 1);
    for verb in ["GET", "HEAD"] {
        let asked = Instant::now();
        let response = proxy.client().request(verb, "/k", &[]);
        assert_eq!(response.status, 503);
        assert!(asked.elapsed() < Duration::from_millis(200), "told after {:?}", asked.elapsed());
    }
    drop(holders);
    assert_eq!(waits.read_response().status, 200);
}

#[test]
fn one_that_leaves_while_it_waits_takes_nobodys_place() {
    let (_redis, proxy, mut holders) = start_full(&[("CLIENT_WAIT", "10s")]);
    holders.iter_mut().for_each(begin);
    let leaves = ask(&proxy);
    wait_gauge(&proxy, "waiting_clients", 1);
    let mut stays = ask(&proxy);
    wait_gauge(&proxy, "waiting_clients", 2);
    drop(leaves);
    drop(holders);
    assert_eq!(stays.read_response().status, 200);
    drop(stays);
    wait_gauge(&proxy, "clients", 0);
}

#[test]
fn pipelined_requests_use_one_place() {
    let (redis, proxy) = start_with(&[("MAX_CLIENTS", "1"), ("CLIENT_WAIT", "0s")]);
    redis.client().set("k", "v");
    let mut client = proxy.client();
    client.send("GET /k HTTP/1.1\r\nHost: h\r\n\r\n".repeat(200));
    for _ in 0..200 {
        assert_eq!(client.read_response().status, 200);
    }
    assert_eq!(proxy.metrics().value("redis_proxy_clients"), 1.0);
}

#[test]
fn the_longest_idle_client_gives_its_place_to_one_that_waits() {
    let (_redis, proxy, mut holders) = start_full(&[("CLIENT_WAIT", "10s")]);
    let idle_since = Instant::now();
    assert_eq!(holders[1].get("/k").status, 200, "the other is idle for longer");
    let mut third = ask(&proxy);
    assert_eq!(third.read_response().status, 200);
    // Not before it is clear that it does not ask again at once.
    assert!(idle_since.elapsed() > Duration::from_millis(400), "served after {:?}", idle_since.elapsed());
    assert!(idle_since.elapsed() < PATIENCE, "IDLE_TIMEOUT is a minute");
    assert_eq!(holders[0].end(), End::Closed);
    assert_eq!(proxy.metrics().value("redis_proxy_clients"), 2.0);
    // Each who waits gets one, and a silent client is idle from its first moment.
    let mut fourth = ask(&proxy);
    assert_eq!(fourth.read_response().status, 200);
    assert_eq!(holders[1].end(), End::Closed);
}

#[test]
fn many_who_wait_get_the_places_of_as_many_idle_clients() {
    let (redis, proxy) = start_with(&[("MAX_CLIENTS", "40"), ("CLIENT_WAIT", "10s"), ("WORKERS", "3")]);
    redis.client().set("k", "v");
    let mut holders: Vec<_> = (0..40).map(|_| proxy.client()).collect();
    holders.iter_mut().for_each(|holder| assert_eq!(holder.get("/k").status, 200));
    let mut waiting: Vec<_> = (0..25).map(|_| ask(&proxy)).collect();
    waiting.iter_mut().for_each(|client| assert_eq!(client.read_response().status, 200));
    for (number, holder) in holders.iter_mut().enumerate() {
        if number < 25 {
            assert_eq!(holder.end(), End::Closed, "holder {number}");
        } else {
            assert_eq!(holder.get("/k").status, 200, "holder {number}");
        }
    }
}

#[test]
fn a_client_that_is_not_idle_keeps_its_place() {
    let redis = ScriptedRedis::start(|key, _| match key {
        b"slow" => Action::Silence,
        _ => Action::value(b"v"),
    });
    let settings = [("MAX_CLIENTS", "3"), ("CLIENT_WAIT", "1500ms"), ("UPSTREAM_TIMEOUT", "30s")];
    let program = settings.iter().fold(program(), |program, (name, value)| program.set(name, value));
    let proxy = program.redis_at(redis.address()).start();
    let mut holders: [_; 3] = std::array::from_fn(|_| proxy.client());
    holders.iter_mut().for_each(|holder| assert_eq!(holder.get("/k").status, 200));
    begin(&mut holders[0]);
    // A body that is not whole.
    holders[1].send("GET /k HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n");
    assert_eq!(holders[1].read_response().status, 200);
    // An answer that is not here.
    holders[2].send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n");
    // For three times as long as one must be idle.
    assert_eq!(ask(&proxy).read_response().status, 503);
    end(&mut holders[0]);
    holders[1].send("123456789");
    assert_eq!(holders[1].get("/k").status, 200);
}

#[test]
fn redis_clients_get_places_of_idle_http_clients_and_never_give_theirs() {
    let (redis, proxy) = start_resp(&[("MAX_CLIENTS", "2"), ("CLIENT_WAIT", "1s")]);
    redis.client().set("k", "v");
    let mut redis_client = proxy.redis_client();
    assert_eq!(redis_client.command(&["GET", "k"]), Reply::Bulk(b"v".to_vec()));
    let mut holder = proxy.client();
    assert_eq!(holder.get("/k").status, 200);
    begin(&mut holder);
    assert_eq!(proxy.resp_client().line(), "-ERR max number of clients reached", "at once: nobody is idle");
    end(&mut holder);
    std::thread::sleep(Duration::from_millis(600)); // it is idle from then on
    let mut second = proxy.redis_client();
    assert_eq!(second.command(&["GET", "k"]), Reply::Bulk(b"v".to_vec()));
    assert_eq!(holder.end(), End::Closed);
    // Both places are held by Redis clients now, idle as they may be.
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(ask(&proxy).read_response().status, 503);
    assert_eq!(redis_client.command(&["GET", "k"]), Reply::Bulk(b"v".to_vec()));
    assert_eq!(second.command(&["GET", "k"]), Reply::Bulk(b"v".to_vec()));
}

#[test]
fn nobody_is_invited_to_stay_while_nearly_all_places_are_taken() {
    let (_redis, proxy) = start_with(&[("MAX_CLIENTS", "10"), ("WORKERS", "1")]);
    let mut holders: Vec<_> = (0..9).map(|_| proxy.client()).collect();
    holders.iter_mut().for_each(|holder| assert_eq!(holder.get("/k").status, 404));
    assert_eq!(holders[0].get("/k").header("keep-alive"), Some("timeout=59"));
    let mut last = proxy.client();
    assert_eq!(last.get("/k").header("keep-alive"), None);
    assert_eq!(holders[0].get("/k").header("keep-alive"), None);
    drop(last);
    wait_until(PATIENCE, "a free place", || holders[0].get("/k").header("keep-alive").is_some());
}

#[test]
fn three_thousand_silent_clients_hold_up_nobody_who_asks() {
    let (redis, proxy) = start_with(&[("MAX_CLIENTS", "5"), ("CLIENT_WAIT", "1s")]);
    redis.client().set("k", "v");
    let mut holders: Vec<_> = (0..5).map(|_| proxy.client()).collect();
    holders.iter_mut().for_each(begin);
    wait_gauge(&proxy, "clients", 5);
    let silent: Vec<_> = (0..3_000).map(|_| proxy.client()).collect();
    // One after the other, as each is told.
    let mut waits: Vec<_> = (0..7)
        .map(|number| {
            let late = lateness();
            let asked = Instant::now();
            let mut client = ask(&proxy);
            assert_eq!(client.read_response().status, 503, "client {number}");
            let waited = asked.elapsed();
            assert!(client.at_end(), "client {number}");
            waited.saturating_sub(late())
        })
        .collect();
    waits.sort_unstable();
    // CLIENT_WAIT and 100 ms: it was 23 s.
    assert!(waits[waits.len() / 2] <= Duration::from_millis(1_100), "told after {waits:?}");
    holders.iter_mut().for_each(end);
    drop(silent);
    holders.clear();
    wait_gauge(&proxy, "waiting_clients", 0);
    wait_gauge(&proxy, "clients", 0);
    assert_eq!(proxy.get("/k").status, 200);
}

#[test]
fn the_admin_port_takes_no_place() {
    let (_redis, proxy, mut holders) = start_full(&[("CLIENT_WAIT", "0s")]);
    holders.iter_mut().for_each(begin);
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(HttpClient::connect(proxy.admin_address()).get(path).status, 200);
    }
    assert_eq!(proxy.get("/k").status, 503);
}

#[test]
fn a_thousand_refusals_are_all_told() {
    let (_redis, proxy, mut holders) = start_full(&[("CLIENT_WAIT", "100ms"), ("MAX_WAITING", "50")]);
    holders.iter_mut().for_each(begin);
    let mut refused: Vec<_> = (0..1_000).map(|_| ask(&proxy)).collect();
    for (number, client) in refused.iter_mut().enumerate() {
        assert_eq!(client.read_response().status, 503, "client {number}");
    }
    drop(refused);
    wait_gauge(&proxy, "waiting_clients", 0);
}

#[test]
fn max_clients_is_lowered_to_the_files_with_a_warning() {
    all_places_have_files(2, 800);
}

#[test]
fn the_files_of_many_workers_are_no_clients_files() {
    all_places_have_files(40, 1_000);
}

fn all_places_have_files(workers: usize, files: usize) {
    let redis = RedisServer::start();
    let proxy = program_with_files(&redis, workers, files);
    let lowered = proxy.wait_log("MAX_CLIENTS lowered to the limit of open files", PATIENCE);
    let places = lowered.fields["max_clients"]
        .as_u64()
        .and_then(|places| usize::try_from(places).ok())
        .expect("a number");
    assert!((100..files).contains(&places), "{}", lowered.raw);
    // The admin port's share is in use too.
    let _watchers: Vec<_> = (0..60).map(|_| HttpClient::connect(proxy.admin_address())).collect();
    // All of them fit, and those above are told so: no file is missing.
    let mut clients: Vec<_> = (0..places).map(|_| proxy.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/k").status, 404));
    clients.iter_mut().for_each(begin);
    assert_eq!(ask(&proxy).read_response().status, 503);
}

#[test]
fn without_files_accepting_rests_instead_of_spinning_and_goes_on_when_there_are_some() {
    let (_redis, proxy) = start_with(&[]);
    proxy.allow_warning("cannot accept a connection");
    let mut before = proxy.client();
    assert_eq!(before.get("/k").status, 404);
    // All threads have their files once each is connected, and this one answers.
    wait_until(PATIENCE, "all workers to be connected", || {
        HttpClient::connect(proxy.admin_address()).get("/readyz").status == 200
    });
    let set_limit = |files: usize| {
        let pid = proxy.pid().to_string();
        let limit = format!("--nofile={files}:");
        let set = run_to_end("/usr/bin/prlimit", &[], &["--pid", &pid, &limit], PATIENCE);
        assert!(set.status.success(), "{}", set.stderr);
    };
    set_limit(proxy.open_files());
    let mut later: Vec<_> = (0..5).map(|_| ask(&proxy)).collect();
    proxy.wait_log("cannot accept a connection", PATIENCE);
    let (ticks, since) = (proxy.cpu_ticks(), Instant::now());
    // Those who are in are served meanwhile.
    wait_until(PATIENCE, "half a second", || {
        assert_eq!(before.get("/k").status, 404);
        std::thread::sleep(Duration::from_millis(20));
        since.elapsed() > Duration::from_millis(500)
    });
    let used = proxy.cpu_ticks() - ticks;
    assert!(used <= 15, "{used} ticks of 10 ms in half a second without files");
    set_limit(10_000);
    later.iter_mut().for_each(|client| assert_eq!(client.read_response().status, 404));
    let told = proxy.log().iter().filter(|line| line.message == "cannot accept a connection").count();
    assert_eq!(told, 1, "once, not at each attempt");
}

/// The program under a hard limit of open files.
fn program_with_files(redis: &RedisServer, workers: usize, files: usize) -> Proxy {
    Proxy::builder("/usr/bin/prlimit")
        .arg(format!("--nofile={files}:{files}"))
        .arg(env!("CARGO_BIN_EXE_redis-proxy"))
        .redis(redis)
        .set("CLIENT_WAIT", "10ms")
        .set("WORKERS", workers.to_string())
        .allow_warning("lowered to the limit of open files")
        .start()
}

#[test]
fn too_few_files_refuse_the_start_with_the_number_that_is_enough() {
    let redis = RedisServer::start();
    for settings in [
        &[("WORKERS", "1"), ("RESP_PORT", "off")][..],
        &[("WORKERS", "2"), ("RESP_PORT", "0")],
        &[("WORKERS", "40"), ("RESP_PORT", "0"), ("COHERENCE", "tracking"), ("REDIS_LINKS", "4")],
    ] {
        let url = redis.url();
        let environment =
            [&[("PORT", "0"), ("ADMIN_PORT", "0"), ("REDIS_URL", url.as_str())][..], settings].concat();
        let start = |files: usize| {
            let limit = format!("--nofile={files}:{files}");
            let arguments = [limit.as_str(), env!("CARGO_BIN_EXE_redis-proxy")];
            let refused = run_to_end("/usr/bin/prlimit", &environment, &arguments, PATIENCE);
            assert_eq!(refused.status.code(), Some(1), "{refused:?}");
            assert_eq!(refused.stderr.lines().count(), 1, "{refused:?}");
            let needed = refused.stderr.split("at least ").nth(1).and_then(|rest| rest.split(' ').next());
            needed.and_then(|needed| needed.parse::<usize>().ok()).expect("a number")
        };
        let needed = start(20);
        assert_eq!(start(needed - 1), needed, "one less is refused too");

        let limit = format!("--nofile={needed}:{needed}");
        let enough = Proxy::builder("/usr/bin/prlimit").arg(limit).arg(env!("CARGO_BIN_EXE_redis-proxy"));
        let enough = settings.iter().fold(enough, |program, (name, value)| program.set(name, value));
        let proxy = enough.redis(&redis).allow_warning("lowered to the limit of open files").start();
        let _watchers: Vec<_> = (0..60).map(|_| HttpClient::connect(proxy.admin_address())).collect();
        let mut clients = [proxy.client(), proxy.client()];
        clients.iter_mut().for_each(|client| assert_eq!(client.get("/k").status, 404));
        wait_until(PATIENCE, "all workers to be connected", || {
            HttpClient::connect(proxy.admin_address()).get("/readyz").status == 200
        });
        drop(clients);
        wait_gauge(&proxy, "clients", 0);
        if settings.contains(&("RESP_PORT", "0")) {
            assert_eq!(proxy.redis_client().command(&["DBSIZE"]), testkit::Reply::Integer(0));
        }
    }
}

#[test]
fn the_soft_limit_of_files_is_raised_to_the_hard_one() {
    let redis = RedisServer::start();
    let proxy = Proxy::builder("/usr/bin/prlimit")
        .arg("--nofile=100:15000")
        .arg(env!("CARGO_BIN_EXE_redis-proxy"))
        .redis(&redis)
        .start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", proxy.pid())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().nth(3), Some("15000"), "{files}");
}
