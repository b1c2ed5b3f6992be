//! Single promises, each brought about on purpose.
#![allow(clippy::unwrap_used, reason = "a broken part ends the test")]

use std::thread;
use std::time::{Duration, Instant};

use testkit::{HttpClient, Proxy, RedisServer, Reply, Response, wait_until};

use crate::fault::Fault;
use crate::outcome::HEALED;
use crate::stand::{Clients, Enough, MAX_STALENESS, Mode, Setup, Stand, workload};

const PATIENCE: Duration = Duration::from_secs(10);
/// How late a busy machine may look.
const SLACK: Duration = Duration::from_millis(60);

/// A stand whose promise is in force.
fn start(mode: Mode) -> Stand {
    let mut setup = Setup::new(mode, Fault::Calm);
    setup.lazy_expiry = true;
    setup.start()
}

fn is_in_force(proxy: &Proxy) -> bool {
    proxy.metrics().value("redis_proxy_coherence_in_force") == 1.0
}

fn get_fresh(client: &mut HttpClient, target: &str) -> Response {
    client.request("GET", target, &[("Cache-Control", "no-cache")])
}

fn is_hit(response: &Response) -> bool {
    response.header("cache-status").is_some_and(|status| status.starts_with("redis-proxy; hit"))
}

/// Whether readers who each want what is true from their own time on share the fetches of a cold key.
pub(crate) fn herds_are_small(stand: &Stand) -> bool {
    const READERS: usize = 40;
    stand.redis.client().set("herd", "v");
    wait_until(PATIENCE, "the promise in force", || is_in_force(&stand.proxy));
    let lookups = || stand.proxy.metrics().sum("redis_proxy_lookups_total");
    let (gets, before) = (stand.redis.command_calls("get"), lookups());
    stand.redis.pause_process();
    let mut clients: Vec<_> = (0..READERS).map(|_| stand.proxy.client()).collect();
    for client in &mut clients {
        client.send("GET /herd HTTP/1.1\r\nHost: h\r\nCache-Control: no-cache\r\n\r\n");
    }
    wait_until(PATIENCE, "all to have asked", || lookups() >= before + READERS as f64);
    stand.redis.resume_process();
    clients.iter_mut().for_each(|client| assert_eq!(client.read_response().text(), "v"));
    let gets = stand.redis.command_calls("get") - gets;
    eprintln!("{gets} GETs for {READERS} readers");
    gets <= 3
}

/// Whether there is room for a further prefix soon after as many were purged as lookups go by at a time.
pub(crate) fn purges_are_done_with(stand: &Stand) -> bool {
    let mut admin = HttpClient::connect(stand.proxy.admin_address());
    let mut purge = |number: usize| admin.request("POST", &format!("/purge?prefix=p{number}:"), &[]).status;
    (0..16).for_each(|number| assert_eq!(purge(number), 200));
    purge(16) == 200
}

#[test]
fn purges_are_done_with_soon() {
    assert!(purges_are_done_with(&start(Mode::Tracking)));
}

#[test]
fn a_herd_is_small() {
    let mut setup = Setup::new(Mode::Tracking, Fault::Calm);
    setup.settings.push(("UPSTREAM_TIMEOUT", "60s".to_owned()));
    assert!(herds_are_small(&setup.start()));
}

#[test]
fn twenty_kills_of_redis_and_no_wrong_answer() {
    let stand = Setup::new(Mode::Tracking, Fault::KillRedis).start();
    stand.run(&workload(), Enough { time: Duration::ZERO, injections: 20, reads: 2_000 }).assert_kept();
}

#[test]
fn errors_end_soon_after_a_long_outage() {
    let stand = start(Mode::Tracking);
    let mut client = stand.proxy.client();
    for round in 0..3 {
        stand.link.refuse();
        stand.link.reset();
        let mut misses = (0..).map(|number| format!("/cold-{round}-{number}"));
        let mut ask = || client.get(&misses.next().unwrap()).status;
        // Attempts without a reader would be 800 ms apart by now.
        let since = Instant::now();
        wait_until(PATIENCE, "a long outage", || ask() == 503 && since.elapsed() > Duration::from_secs(1));
        stand.link.accept();
        let back = Instant::now();
        wait_until(PATIENCE, "an answer", || ask() == 404);
        eprintln!("errors ended {:?} after", back.elapsed());
        assert!(back.elapsed() <= HEALED, "errors ended {:?} after", back.elapsed());
    }
}

#[test]
fn a_half_open_link_is_noticed_within_the_bound() {
    let stand = start(Mode::Tracking);
    for stall in [testkit::FaultProxy::stall, testkit::FaultProxy::stall_replies] {
        stall(&stand.link);
        let stalled = Instant::now();
        wait_until(PATIENCE, "the loss to be noticed", || !is_in_force(&stand.proxy));
        let noticed = stalled.elapsed();
        stand.link.pass();
        eprintln!("a stalled link was noticed after {noticed:?}");
        assert!(noticed <= MAX_STALENESS + SLACK, "noticed after {noticed:?}");
        wait_until(PATIENCE, "the promise to be in force again", || is_in_force(&stand.proxy));
    }
}

#[test]
fn a_strict_read_sees_every_write_acknowledged_before_it() {
    let stand = start(Mode::Tracking);
    let (mut redis, mut client) = (stand.redis.client(), stand.proxy.client());
    for delay in [Duration::ZERO, Duration::from_millis(5)] {
        stand.link.delay(delay);
        for number in 0..if delay.is_zero() { 1000 } else { 30 } {
            redis.set("k", number.to_string());
            assert_eq!(get_fresh(&mut client, "/k").text(), number.to_string(), "with {delay:?} each way");
        }
    }
    // It is proof that is asked for, not the value: most were answered from memory or not changed in between.
    redis.set("k", "kept");
    assert_eq!(get_fresh(&mut client, "/k").text(), "kept");
    let calls = stand.redis.command_calls("get");
    assert!((0..20).all(|_| is_hit(&get_fresh(&mut client, "/k"))));
    assert_eq!(stand.redis.command_calls("get"), calls);
}

#[test]
fn a_read_behind_a_strict_one_on_its_connection_is_not_older() {
    let stand = start(Mode::Tracking);
    let mut client = stand.proxy.client();
    let mut redis = stand.redis.client();
    let number = |response: Response| response.text().parse::<u64>().unwrap();
    redis.set("k", "0");
    client.get("/k");
    // A write in between is what sets them apart: its invalidation is on its way while the strict read waits for proof.
    stand.link.delay(Duration::from_millis(3));
    for round in 1..40 {
        redis.set("k", round.to_string());
        client.send(
            "GET /k HTTP/1.1\r\nHost: h\r\nCache-Control: no-cache\r\n\r\nGET /k HTTP/1.1\r\nHost: h\r\n\r\n",
        );
        let (strict, plain) = (number(client.read_response()), number(client.read_response()));
        assert!(plain >= strict, "round {round}: {plain} behind {strict}");
    }
}

#[test]
fn another_question_by_the_next_link_leaves_no_answer_of_the_lost_one() {
    let stand = start(Mode::Tracking);
    let (mut redis, mut client) = (stand.redis.client(), stand.proxy.redis_client());
    for round in 0..10 {
        let (key, [old, new]) = (format!("h{round}"), ["old", "new"].map(|value| Reply::Bulk(value.into())));
        redis.command(&["HSET", &key, "f", "old"]);
        assert_eq!(client.command(&["HGET", &key, "f"]), old);
        // Of this the link does not hear; for a while what it brought is served all the same.
        stand.link.reset();
        redis.command(&["HSET", &key, "f", "new"]);
        let whole = Reply::Array(vec![Reply::Bulk(b"f".to_vec()), new.clone()]);
        wait_until(PATIENCE, "a link", || is_in_force(&stand.proxy));
        assert_eq!(client.command(&["HGETALL", &key]), whole);
        assert_eq!(client.command(&["HGET", &key, "f"]), new, "round {round}: it has seen the new one");
    }
}

#[test]
fn a_read_behind_one_that_redis_answered_itself_is_not_older() {
    let mut setup = Setup::new(Mode::Tracking, Fault::Calm);
    setup.settings.push(("MAX_REPLY_BYTES", "1MiB".to_owned()));
    let stand = setup.start();
    let (mut redis, mut client) = (stand.redis.client(), stand.proxy.resp_client());
    redis.set("large", vec![b'x'; (1 << 20) + 1]);
    redis.set("k", "old");
    client.ask("GET k", "$3\r\nold");
    // The value of the second key is too large to be fetched, so that the whole MGET is Redis' to answer; meanwhile the
    // GET behind it has found what is held.
    stand.link.delay(Duration::from_millis(30));
    client.send("MGET k large\r\nGET k\r\n");
    thread::sleep(Duration::from_millis(10));
    redis.set("k", "new");
    assert_eq!(client.line(), "*2");
    let [by_redis, _, behind] = [(); 3].map(|()| client.bulk());
    assert_eq!((&by_redis[..], &behind[..]), (&b"new"[..], &b"new"[..]));
}

/// Whether a user is refused what another one has read.
pub(crate) fn users_are_apart(stand: &Stand) -> bool {
    let mut redis = stand.redis.client();
    redis.set("closed", "v");
    redis.set("open", "v");
    redis.command(&["ACL", "SETUSER", "other", "on", ">secret", "~open", "+@all"]);
    let [mut all, mut other] = [(); 2].map(|()| stand.proxy.redis_client());
    assert_eq!(other.command(&["AUTH", "other", "secret"]), Reply::Simple("OK".to_owned()));
    let refused = |reply: &Reply| matches!(reply, Reply::Error(text) if text.starts_with("NOPERM"));
    (0..3).all(|_| {
        let [open, closed] = ["open", "closed"].map(|key| {
            assert_eq!(all.get(key), Some(b"v".to_vec()));
            other.command(&["GET", key])
        });
        open == Reply::Bulk(b"v".to_vec()) && refused(&closed)
    })
}

/// Whether a user is denied what one has read who has gone, and whose place is the next one's.
pub(crate) fn users_that_follow_each_other_are_apart(stand: &Stand) -> bool {
    let mut redis = stand.redis.client();
    let mut nobody = stand.proxy.redis_client();
    let mut partitions = || match nobody.command(&["PROXY", "STATS"]) {
        Reply::Bulk(text) => String::from_utf8_lossy(&text)
            .split("proxy_cache_partitions:")
            .nth(1)
            .map(|rest| rest.split("\r\n").next().unwrap_or_default().to_owned()),
        other => panic!("{other:?}"),
    };
    let before = partitions();
    (0..10).all(|round| {
        let (name, key) = (format!("user-{round}"), format!("key-{round}"));
        redis.set(&key, "v");
        redis.command(&["ACL", "SETUSER", &name, "on", ">pw", &format!("~{key}"), "+@all"]);
        let mut client = stand.proxy.redis_client();
        assert_eq!(client.command(&["AUTH", &name, "pw"]), Reply::Simple("OK".to_owned()));
        let denied = (0..round).all(|earlier| {
            let reply = client.command(&["GET", &format!("key-{earlier}")]);
            matches!(reply, Reply::Error(text) if text.starts_with("NOPERM"))
        });
        assert_eq!(client.get(&key), Some(b"v".to_vec()));
        drop(client);
        wait_until(PATIENCE, "the user has gone", || partitions() == before);
        denied
    })
}

#[test]
fn what_one_user_has_read_is_no_answer_to_another() {
    assert!(users_are_apart(&start(Mode::Tracking)));
    assert!(users_are_apart(&start(Mode::Ttl)));
}

#[test]
fn what_one_user_has_read_is_no_answer_to_the_next() {
    let mut setup = Setup::new(Mode::Ttl, Fault::Calm);
    setup.settings.push(("RESP_LANE_IDLE", "20ms".to_owned()));
    assert!(users_that_follow_each_other_are_apart(&setup.start()));
}

#[test]
fn a_request_for_no_cache_is_a_new_fetch_in_ttl() {
    let stand = start(Mode::Ttl);
    let (mut redis, mut client) = (stand.redis.client(), stand.proxy.client());
    redis.set("k", "old");
    client.get("/k");
    redis.set("k", "new");
    assert_eq!(client.get("/k").text(), "old");
    assert_eq!(get_fresh(&mut client, "/k").text(), "new");
    assert_eq!(client.get("/k").text(), "new");
    assert_eq!(stand.redis.command_calls("get"), 2);
}

#[test]
fn a_missing_key_is_held_and_appears_and_goes_at_once() {
    let stand = start(Mode::Tracking);
    let (mut redis, mut client) = (stand.redis.client(), stand.proxy.client());
    let mut worst = Duration::ZERO;
    let mut wait_status = |client: &mut HttpClient, status| {
        let changed = Instant::now();
        wait_until(PATIENCE, "the change", || client.get("/k").status == status);
        worst = worst.max(changed.elapsed());
    };
    for round in 0..50 {
        assert_eq!(client.get("/k").status, 404);
        let calls = stand.redis.command_calls("get");
        assert!((0..5).all(|_| client.get("/k").status == 404));
        assert_eq!(stand.redis.command_calls("get"), calls, "round {round}: it is held that there is none");
        redis.set("k", "v");
        wait_status(&mut client, 200);
        redis.del("k");
        wait_status(&mut client, 404);
    }
    eprintln!("a key appears and goes after {worst:?} at most");
    assert!(worst < SLACK, "after {worst:?}");
}

#[test]
fn a_deadline_is_kept_to_the_millisecond_though_redis_says_nothing() {
    let stand = start(Mode::Tracking);
    let (mut redis, mut client) = (stand.redis.client(), stand.proxy.client());
    let invalidations = || stand.proxy.metrics().value("redis_proxy_link_invalidations_total");
    for round in 0..5 {
        let key = format!("k{round}");
        let px = Duration::from_millis(150);
        redis.command(&["SET", &key, "v", "PX", "150"]);
        let latest = Instant::now() + px + Duration::from_millis(2);
        assert_eq!(client.get(&format!("/{key}")).status, 200);
        let pushed = invalidations();
        let (mut hits, mut last_hit) = (0, Instant::now());
        loop {
            let asked = Instant::now();
            let response = client.get(&format!("/{key}"));
            if response.status == 404 {
                assert!(asked + Duration::from_millis(5) >= latest - SLACK, "it went early");
                break;
            }
            assert!(asked < latest, "read {:?} after its deadline", asked - latest);
            (hits, last_hit) = (hits + usize::from(is_hit(&response)), asked);
        }
        assert!(
            hits > 10 && last_hit + SLACK > latest,
            "{hits} hits, the last {:?} before",
            latest - last_hit
        );
        // The fetch that found nothing deleted it: the push comes after.
        assert!(invalidations() - pushed <= 1.0);
    }
}

#[test]
fn a_read_that_begins_after_the_deadline_takes_no_value_fetched_before_it() {
    let stand = start(Mode::Tracking);
    let delay = Duration::from_millis(60);
    for round in 0..3 {
        let key = format!("k{round}");
        stand.link.pass();
        stand.redis.client().command(&["SET", &key, "v", "PX", "200"]);
        let dead = Instant::now() + Duration::from_millis(202);
        stand.link.delay(delay);
        let get = format!("GET /{key} HTTP/1.1\r\nHost: h\r\n\r\n");
        let mut clients = [stand.proxy.client(), stand.proxy.client()];
        // Read by Redis 40 ms before the deadline, answered 20 ms after it.
        thread::sleep((dead - Duration::from_millis(40) - delay).saturating_duration_since(Instant::now()));
        clients[0].send(&get);
        thread::sleep((dead + Duration::from_millis(5)).saturating_duration_since(Instant::now()));
        clients[1].send(&get);
        assert_eq!(clients[0].read_response().status, 200, "it was in time");
        assert_eq!(clients[1].read_response().status, 404, "it came after the deadline");
    }
}

#[test]
fn a_demoted_primary_is_left_within_the_bound_and_a_heartbeat() {
    let stand = start(Mode::Tracking);
    let next = RedisServer::start();
    stand.redis.client().set("k", "old");
    next.client().set("k", "new");
    let mut client = stand.proxy.client();
    assert_eq!(client.get("/k").text(), "old");
    stand.link.retarget(next.address());
    crate::fault::make_replica(&stand.redis, next.address());
    let demoted = Instant::now();
    wait_until(PATIENCE, "the new primary", || client.get("/k").text() == "new");
    let took = demoted.elapsed();
    eprintln!("a demoted primary was left after {took:?}");
    assert!(took <= MAX_STALENESS + MAX_STALENESS / 4 + SLACK, "left after {took:?}");
}

#[test]
fn a_hit_that_is_compared_behind_a_flush_is_no_violation() {
    let mut setup = Setup::new(Mode::Ttl, Fault::Calm);
    setup.clients = Some(Clients::In(Mode::Tracking));
    for (name, value) in
        [("MAX_STALENESS", "1m"), ("UPSTREAM_TIMEOUT", "1m"), ("WORKERS", "1"), ("GLOBAL_EXPIRY", "1h")]
    {
        setup.settings.push((name, value.to_owned()));
    }
    let stand = setup.start();
    let metric = |name: &str| stand.proxy.metrics().value(&format!("redis_proxy_{name}"));
    let mut client = stand.proxy.resp_client();
    client.ask("SET k old", "+OK").ask("GET k", "$3\r\nold");
    let mut hit = |times: usize| {
        for _ in 0..times / 500 {
            client.send("GET k\r\n".repeat(500)).expect("$3\r\nold\r\n".repeat(500));
        }
    };
    // One hit in 100,000 is compared: up to the first of them, and then until shortly before the second.
    wait_until(PATIENCE * 10, "an audit", || {
        hit(1_000);
        metric("coherence_audits_total") > 0.0
    });
    hit(97_000);
    stand.link.stall_commands();
    hit(4_000);
    let mut direct = stand.redis.client();
    direct.command(&["FLUSHALL"]);
    direct.set("k", "new");
    wait_until(PATIENCE, "the flush", || metric("link_flushes_total") > 0.0);
    stand.link.pass();
    wait_until(PATIENCE, "the second audit", || metric("coherence_audits_total") > 1.0);
    assert_eq!(metric("coherence_violations_total"), 0.0);
    wait_until(PATIENCE, "the new value", || client.send("GET k\r\n").bulk() == b"new");
}
