//! The way to Redis: addresses, credentials, protocols, TLS; what Redis turns down, and what nobody may read of it.
#![allow(clippy::unwrap_used, reason = "a broken part ends the test")]

use std::time::Duration;

use testkit::{Action, Proxy, RedisServer, Reply, ScriptedRedis, wait_until};

use crate::authority::{Authority, at_tls, start_tls};
use crate::support::{WORKERS, program, program_without_redis};

const PATIENCE: Duration = Duration::from_secs(10);
const PASSWORD: &str = "correct-horse";

fn reads(proxy: &Proxy, value: &str) {
    let response = proxy.get("/k");
    assert_eq!((response.status, response.text()), (200, value));
}

/// That nobody can read the password, in the log or in an answer.
fn keeps_secret(proxy: &Proxy, secret: &str) {
    let answer = proxy.get("/k");
    assert_eq!(answer.status, 503);
    assert!(!answer.text().contains(secret), "{answer:?}");
    for line in proxy.log() {
        assert!(!line.raw.contains(secret), "{}", line.raw);
    }
}

#[test]
fn a_worker_has_one_connection_by_our_name_that_all_its_reads_share() {
    let redis = RedisServer::start();
    let proxy = program().redis(&redis).set("WORKERS", WORKERS.to_string()).start();
    let mut clients: Vec<_> = (0..20).map(|_| proxy.client()).collect();
    for round in 0..5 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(format!("GET /{round}-{number} HTTP/1.1\r\nHost: h\r\n\r\n"));
        }
        clients.iter_mut().for_each(|client| assert_eq!(client.read_response().status, 404));
    }
    let Reply::Bulk(list) = redis.client().command(&["CLIENT", "LIST"]) else {
        panic!("CLIENT LIST is refused")
    };
    let list = String::from_utf8(list).unwrap();
    let ours = list.lines().filter(|line| line.contains("name=redis-proxy") && line.contains("resp=3"));
    assert_eq!(ours.count(), WORKERS, "{list}");
    assert_eq!(redis.command_calls("get"), 100);
}

#[test]
fn a_password_is_given() {
    let redis = RedisServer::builder().password(PASSWORD).start();
    redis.client().set("k", "v");
    reads(&program().redis(&redis).start(), "v");
    let separate = program().set("REDIS_HOST", "127.0.0.1").set("REDIS_PORT", redis.port().to_string());
    reads(&separate.set("REDIS_PASSWORD", PASSWORD).start(), "v");
}

#[test]
fn a_user_of_the_acl_is_given_and_his_limits_are_502() {
    let redis = RedisServer::start();
    redis.client().set("k", "v");
    let rule =
        ["ACL", "SETUSER", "reader", "on", ">correct-horse", "~k", "+get", "+hello", "+ping", "+client"];
    assert_eq!(redis.client().command(&rule), Reply::Simple("OK".to_owned()));
    let url = format!("redis://reader:{PASSWORD}@{}", redis.address());
    let proxy = program().set("REDIS_URL", url).start();
    reads(&proxy, "v");
    let forbidden = proxy.get("/other");
    assert_eq!(forbidden.status, 502);
    assert!(forbidden.text().starts_with("NOPERM"), "{forbidden:?}");
}

#[test]
fn a_wrong_password_is_503_and_shown_nowhere() {
    let redis = RedisServer::builder().password(PASSWORD).start();
    let wrong = "battery-staple";
    let url = format!("redis://:{wrong}@{}", redis.address());
    let proxy = program_without_redis().set("REDIS_URL", url).start();
    proxy.wait_log("WRONGPASS", PATIENCE);
    keeps_secret(&proxy, wrong);
    assert!(proxy.get("/k").text().contains("WRONGPASS"));
}

#[test]
fn an_old_redis_that_echoes_what_it_does_not_know_shows_no_password() {
    let echo = format!(
        "-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `{PASSWORD}`\r\n"
    );
    let redis = ScriptedRedis::builder()
        .answer("HELLO", echo)
        .answer("AUTH", format!("-ERR {PASSWORD} is no password of mine\r\n"))
        .start(|_, _| Action::value("v"));
    let url = format!("redis://:{PASSWORD}@{}", redis.address());
    let proxy = program_without_redis().set("REDIS_URL", url).start();
    proxy.wait_log("is no password of mine", PATIENCE);
    keeps_secret(&proxy, PASSWORD);
}

#[test]
fn no_password_where_one_is_wanted_is_503_and_says_so() {
    let redis = RedisServer::builder().password(PASSWORD).start();
    let proxy = program_without_redis().redis_at(redis.address()).start();
    let response = proxy.get("/k");
    assert_eq!(response.status, 503);
    assert!(response.text().contains("NOAUTH"), "{response:?}");
}

#[test]
fn the_database_is_selected() {
    let redis = RedisServer::start();
    redis.client().set("k", "in 0");
    let mut other = redis.client();
    other.command(&["SELECT", "5"]);
    other.set("k", "in 5");
    reads(&program().redis(&redis).start(), "in 0");
    reads(&program().set("REDIS_URL", format!("{}/5", redis.url())).start(), "in 5");
    let absent = program_without_redis().set("REDIS_URL", format!("{}/99", redis.url())).start();
    let response = absent.get("/k");
    assert_eq!(response.status, 503);
    assert!(response.text().contains("DB index is out of range"), "{response:?}");
}

#[test]
fn a_redis_without_hello_is_spoken_to_in_resp2() {
    let redis = ScriptedRedis::builder().refuse_hello().start(|key, _| match key {
        b"k" => Action::value("v"),
        _ => Action::Reply(b"$-1\r\n".to_vec()),
    });
    let url = format!("redis://:{PASSWORD}@{}/3", redis.address());
    let proxy = program().set("REDIS_URL", url).set("WORKERS", "1").start();
    reads(&proxy, "v");
    assert_eq!(proxy.get("/absent").status, 404);
    let texts = redis.commands().into_iter().map(|words| {
        words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>().join(" ")
    });
    let expected = ["AUTH correct-horse", "SELECT 3", "CLIENT SETNAME redis-proxy", "GET k", "GET absent"];
    assert_eq!(texts.skip(1).filter(|text| text != "PING").collect::<Vec<_>>(), expected);
}

#[test]
fn a_real_redis_whose_hello_is_forbidden_by_name_is_spoken_to_in_resp2() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("no-hello.conf");
    std::fs::write(&file, "rename-command HELLO \"\"\n").unwrap();
    let redis = RedisServer::builder().config("include", file.to_str().unwrap()).start();
    redis.client().set("k", "v");
    let proxy = program().redis(&redis).start();
    reads(&proxy, "v");
    assert_eq!(proxy.get("/absent").status, 404, "the null of RESP2");
}

#[test]
fn a_unix_socket_is_an_address() {
    let redis = RedisServer::start();
    redis.client().set("k", "v");
    let proxy =
        program_without_redis().set("REDIS_URL", format!("unix://{}", redis.socket_path().display())).start();
    reads(&proxy, "v");
    redis.kill();
    wait_until(PATIENCE, "a refusal", || proxy.get("/other").status == 503);
    redis.restart();
    wait_until(PATIENCE, "an answer", || proxy.get("/other").status == 404);
}

#[test]
fn a_busy_redis_is_503_until_its_script_ends() {
    let redis = RedisServer::builder().config("busy-reply-threshold", "1").start();
    redis.client().set("k", "v");
    let proxy = program().redis(&redis).set("UPSTREAM_TIMEOUT", "10s").start();
    assert_eq!(proxy.get("/absent").status, 404);
    let mut caller = redis.client();
    let script = std::thread::spawn(move || caller.command(&["EVAL", "while true do end", "0"]));
    wait_until(
        PATIENCE,
        "the script to be too long",
        || matches!(redis.client().command(&["GET", "k"]), Reply::Error(text) if text.starts_with("BUSY")),
    );
    let busy = proxy.get("/k");
    assert_eq!((busy.status, busy.header("retry-after")), (503, Some("1")));
    assert!(busy.text().starts_with("BUSY"), "{busy:?}");
    redis.client().command(&["SCRIPT", "KILL"]);
    assert!(matches!(script.join().unwrap(), Reply::Error(_)));
    reads(&proxy, "v");
}

#[test]
fn a_replica_without_its_master_is_503() {
    let nobody = RedisServer::start();
    nobody.kill();
    let redis = RedisServer::start();
    let proxy = program().redis(&redis).start();
    assert_eq!(proxy.get("/k").status, 404);
    let mut admin = redis.client();
    admin.command(&["CONFIG", "SET", "replica-serve-stale-data", "no"]);
    admin.command(&["REPLICAOF", "127.0.0.1", &nobody.port().to_string()]);
    let response = proxy.get("/k");
    assert_eq!(response.status, 503);
    assert!(response.text().starts_with("MASTERDOWN"), "{response:?}");
    admin.command(&["REPLICAOF", "NO", "ONE"]);
    assert_eq!(proxy.get("/k").status, 404);
}

#[test]
fn another_type_is_409_with_redis_own_text_and_never_kept() {
    let redis = RedisServer::start();
    redis.client().command(&["LPUSH", "k", "item"]);
    let proxy = program().redis(&redis).start();
    let response = proxy.get("/k");
    assert_eq!(response.status, 409);
    assert!(response.text().starts_with("WRONGTYPE Operation against a key"), "{response:?}");
    redis.client().del("k");
    redis.client().set("k", "v");
    reads(&proxy, "v");
}

fn is_refused(proxy: &Proxy, reason: &str) {
    let response = proxy.get("/k");
    assert_eq!(response.status, 503);
    assert!(response.text().contains(reason), "{response:?}");
}

#[test]
fn tls_reaches_a_redis_whose_authority_is_given() {
    let authority = Authority::new();
    let redis = start_tls(&authority, &["127.0.0.1"], "no");
    reads(&at_tls(program(), &redis, &authority.file("ca.pem")).start(), "v");
}

#[test]
fn a_large_value_comes_whole_over_tls() {
    let authority = Authority::new();
    let redis = start_tls(&authority, &["127.0.0.1"], "no");
    let value: Vec<u8> = (0..5 << 20).map(|n: u32| (n % 251) as u8).collect();
    redis.client().set("big", &value);
    let proxy = at_tls(program(), &redis, &authority.file("ca.pem")).start();
    assert!(proxy.get("/big").body == value);
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let redis = start_tls(&authority, &["127.0.0.1"], "no");
    let proxy = at_tls(program_without_redis(), &redis, &stranger.file("ca.pem")).start();
    is_refused(&proxy, "invalid peer certificate");
    let proxy = program_without_redis().set("REDIS_URL", format!("rediss://{}", redis.tls_address())).start();
    is_refused(&proxy, "invalid peer certificate");
}

#[test]
fn a_certificate_of_another_name_is_refused_unless_the_name_is_given() {
    let authority = Authority::new();
    let redis = start_tls(&authority, &["redis.test"], "no");
    let proxy = at_tls(program_without_redis(), &redis, &authority.file("ca.pem")).start();
    is_refused(&proxy, "not valid for name");
    let named =
        at_tls(program(), &redis, &authority.file("ca.pem")).set("REDIS_TLS_SERVER_NAME", "redis.test");
    reads(&named.start(), "v");
}

#[test]
fn a_client_certificate_is_shown_where_redis_asks() {
    let authority = Authority::new();
    let redis = start_tls(&authority, &["127.0.0.1"], "yes");
    let proxy = at_tls(program_without_redis(), &redis, &authority.file("ca.pem")).start();
    assert_eq!(proxy.get("/k").status, 503);
    let [certificate, key] = authority.sign("client", &["us"]);
    let known = at_tls(program(), &redis, &authority.file("ca.pem"));
    reads(&known.set("REDIS_TLS_CERT", certificate).set("REDIS_TLS_KEY", key).start(), "v");
}

#[test]
fn a_renewed_certificate_needs_no_restart() {
    let authority = Authority::new();
    let redis = start_tls(&authority, &["127.0.0.1"], "no");
    let copy = authority.file("trusted.pem");
    std::fs::write(&copy, std::fs::read(Authority::new().file("ca.pem")).unwrap()).unwrap();
    let proxy = at_tls(program_without_redis(), &redis, &copy).start();
    is_refused(&proxy, "invalid peer certificate");
    std::fs::write(&copy, std::fs::read(authority.file("ca.pem")).unwrap()).unwrap();
    wait_until(PATIENCE, "the new authority to be read", || proxy.get("/k").status == 200);
}
