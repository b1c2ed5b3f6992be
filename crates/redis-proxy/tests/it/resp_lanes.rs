//! Shared connections to Redis: how many there are, and whom they stay for.

use std::time::Duration;

use testkit::{Proxy, RedisServer, Server, wait_until};

use crate::support::{program, start_resp};

const SOON: Duration = Duration::from_secs(20);
const WRONGPASS: &str = "-WRONGPASS invalid username-password pair or user is disabled.";

fn known_lanes(proxy: &Proxy) -> f64 {
    proxy.metrics().value("redis_proxy_known_lanes")
}

#[test]
fn a_client_that_selects_a_thousand_databases_holds_max_lanes() {
    let redis = RedisServer::builder().config("databases", "1000").start();
    let settings = [("RESP_PORT", "0"), ("WORKERS", "1"), ("MAX_LANES", "20")];
    let program = settings.iter().fold(program(), |program, (name, value)| program.set(name, value));
    let proxy = program.redis(&redis).start();
    let mut client = proxy.resp_client();
    for db in 0..1000 {
        client.ask(&format!("SELECT {db}"), "+OK");
        if db % 50 == 0 {
            client.ask("DBSIZE", ":0");
        }
    }
    // What it left is on its way out.
    wait_until(SOON, "at most MAX_LANES", || known_lanes(&proxy) <= 20.0);
    // Those that Redis refuses leave nothing at all.
    for db in 1000..2000 {
        let found = client.send(format!("SELECT {db}\r\n")).line();
        assert_eq!(found, "-ERR DB index is out of range", "{db}");
    }
    wait_until(SOON, "at most MAX_LANES", || known_lanes(&proxy) <= 20.0);
    client.ask("DBSIZE", ":0");
}

/// A user with this password, and a client that has logged in with it.
fn logged_in(settings: &[(&str, &str)]) -> (RedisServer, Proxy, testkit::RawClient) {
    let (redis, proxy) = start_resp(&[&[("WORKERS", "1")], settings].concat());
    redis.client().command(&["ACL", "SETUSER", "ann", "on", ">p1", "~*", "+@all"]);
    let mut client = proxy.resp_client();
    client.ask("AUTH ann p1", "+OK");
    (redis, proxy, client)
}

fn rotate(redis: &RedisServer) {
    redis.client().command(&["ACL", "SETUSER", "ann", ">p2", "<p1"]);
}

#[test]
fn a_client_whose_password_is_replaced_stays_and_is_told_by_redis() {
    let (redis, proxy, mut client) = logged_in(&[]);
    // What reads for her logs in as she did.
    proxy.allow_warning("redis unavailable");
    proxy.allow_warning("coherence is not in force");
    rotate(&redis);
    // Nothing was open that it could go on with, and nothing is sent.
    client.ask("INCR n", WRONGPASS).ask("GET n", WRONGPASS).ask("CLIENT GETNAME", "$-1");
    client.ask("SELECT 1", WRONGPASS);
    assert_eq!(redis.client().get("n"), None);
    // The connection on which it has proven who it is goes on.
    client.ask("MULTI", "+OK").ask("INCR n", "+QUEUED").ask("EXEC", "*1\r\n:1");
    client.ask("AUTH ann p1", WRONGPASS).ask("AUTH ann p2", "+OK").ask("INCR n", ":2");
    proxy.resp_client().ask("AUTH ann p1", WRONGPASS);
    // So it is with one who is switched off.
    redis.client().command(&["ACL", "SETUSER", "ann", "off"]);
    client.ask("INCR n", ":3").ask("HELLO 3 AUTH ann p2", WRONGPASS).ask("INCR n", ":4");
    client.ask("SELECT 1", WRONGPASS).ask("INCR n", ":5");
}

#[test]
fn a_lane_that_could_not_be_opened_again_stays_for_the_clients_on_it() {
    let (redis, proxy, mut client) = logged_in(&[("RESP_LANE_IDLE", "50ms"), ("MAX_LANES", "2")]);
    client.ask("INCR n", ":1");
    rotate(&redis);
    // Longer than an idle lane lives, and the places are wanted by others.
    let until = std::time::Instant::now() + Duration::from_millis(400);
    let mut others: Vec<_> = (0..4).map(|_| proxy.resp_client()).collect();
    while std::time::Instant::now() < until {
        for (db, other) in others.iter_mut().enumerate() {
            other.ask(&format!("SELECT {db}"), "+OK").ask("DBSIZE", if db == 0 { ":1" } else { ":0" });
        }
    }
    client.ask("INCR n", ":2");
    // It ends with the last of them.
    drop((client, others));
    wait_until(SOON, "no lane", || known_lanes(&proxy) == 0.0);
}

#[test]
fn a_lane_of_no_login_stays_for_those_who_were_in_when_a_password_was_set() {
    let (_redis, proxy) = start_resp(&[("WORKERS", "1"), ("RESP_LANE_IDLE", "50ms")]);
    let (mut client, mut other) = (proxy.resp_client(), proxy.resp_client());
    client.ask("INCR n", ":1");
    // The proxy's own connections have no password either.
    for text in ["redis unavailable", "connection to redis lost", "coherence is not in force"] {
        proxy.allow_warning(text);
    }
    other.ask("CONFIG SET requirepass pw", "+OK");
    for n in 2..6 {
        std::thread::sleep(Duration::from_millis(120));
        client.ask("INCR n", &format!(":{n}"));
    }
    // What needs another connection is refused in Redis' words, and is not sent.
    client.ask("SELECT 1", "-NOAUTH Authentication required.").ask("INCR n", ":6");
    client.ask("BLPOP list 1", "-NOAUTH Authentication required.").ask("INCR n", ":7");
}

#[test]
fn clients_end_whose_connections_redis_ends_for_good() {
    let (redis, proxy, mut client) = logged_in(&[]);
    client.ask("INCR n", ":1");
    let mut other = proxy.resp_client();
    other.ask("INCR n", ":2");
    other.ask("ACL DELUSER ann", ":1");
    assert!(client.at_end());
    other.ask("INCR n", ":3");
    // Behind the proxy, too.
    redis.client().command(&["ACL", "SETUSER", "bob", "on", ">p", "~*", "+@all"]);
    let mut client = proxy.resp_client();
    client.ask("AUTH bob p", "+OK").ask("INCR n", ":4");
    redis.client().command(&["ACL", "DELUSER", "bob"]);
    assert!(client.at_end());
    // One whose connection is closed and who may come again stays.
    redis.client().command(&["ACL", "SETUSER", "bob", "on", ">p", "~*", "+@all"]);
    let mut client = proxy.resp_client();
    client.ask("AUTH bob p", "+OK").ask("INCR n", ":5");
    redis.client().command(&["CLIENT", "KILL", "USER", "bob"]);
    client.ask("INCR n", ":6");
}

#[test]
fn clients_that_have_only_read_from_the_cache_end_with_their_user_too() {
    let (redis, proxy, mut client) = logged_in(&[("RESP_COHERENCE", "tracking")]);
    proxy.allow_warning("redis unavailable");
    proxy.allow_warning("coherence is not in force");
    proxy.allow_warning("connection to redis lost");
    redis.client().set("k", "v");
    client.ask("GET k", "$1\r\nv");
    let mut other = proxy.resp_client();
    other.ask("GET k", "$1\r\nv");
    redis.client().command(&["ACL", "DELUSER", "ann"]);
    assert!(client.at_end());
    other.ask("GET k", "$1\r\nv");
}

#[test]
fn acl_load_ends_the_clients_that_it_ends_at_redis() {
    for server in Server::ALL {
        let Some(builder) = server.builder() else { continue };
        let folder = tempfile::TempDir::new().expect("a folder");
        let file = folder.path().join("users.acl");
        let text = "user default on nopass ~* &* +@all\nuser ann on >p1 ~* &* +@all\n";
        std::fs::write(&file, text).expect("a file");
        let redis = builder.config("aclfile", file.to_str().expect("text")).start();
        let proxy = program().redis(&redis).set("RESP_PORT", "0").set("WORKERS", "1").start();
        for text in ["redis unavailable", "connection to redis lost", "coherence is not in force", "lane"] {
            proxy.allow_warning(text);
        }
        let mut direct = testkit::RawClient::connect(redis.address());
        let (mut client, mut other) = (proxy.resp_client(), proxy.resp_client());
        for client in [&mut direct, &mut client] {
            client.ask("AUTH ann p1", "+OK").send("INCR n\r\n").line();
        }
        other.ask("ACL LOAD", "+OK");
        let ends = |client: &mut testkit::RawClient| {
            std::thread::sleep(Duration::from_millis(300));
            client.try_send("PING\r\n").is_err() || client.at_end()
        };
        let expected = ends(&mut direct);
        assert_eq!(ends(&mut client), expected, "{server}");
        other.ask("PING", "+PONG");
        eprintln!("{server}: a user that is as before ends: {expected}");
    }
}

#[test]
fn a_lane_is_kept_for_those_who_come_later_unless_rights_may_have_changed() {
    let (_redis, proxy) = start_resp(&[("WORKERS", "1")]);
    let opened = || proxy.metrics().value("redis_proxy_lanes_total{event=\"opened\"}");
    proxy.resp_client().ask("INCR n", ":1").ask("CONFIG SET maxmemory-samples 5", "+OK");
    let before = opened();
    proxy.resp_client().ask("INCR n", ":2");
    assert_eq!(opened(), before, "that setting decides nothing");
    proxy.resp_client().ask("ACL SETUSER default nopass", "+OK");
    wait_until(SOON, "no lane", || known_lanes(&proxy) == 0.0);
    proxy.resp_client().ask("INCR n", ":3");
    assert!(opened() > before);
}
