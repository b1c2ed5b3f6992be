//! Open connections of the proxy's own user log in again.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use testkit::{Proxy, RedisClient, RedisServer, Reply, wait_until};

use crate::support::program;

const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than the period of these tests.
const A_WHILE: Duration = Duration::from_millis(1300);
const REFUSED: &str = "redis refuses to let an open connection log in again";

/// A Redis whose user `cache` has a password, and the file that tells it.
struct Vault {
    redis: RedisServer,
    admin: RedisClient,
    folder: tempfile::TempDir,
}

impl Vault {
    fn new() -> Vault {
        let redis = RedisServer::start();
        let mut admin = redis.client();
        for user in ["cache", "other"] {
            let rules = ["ACL", "SETUSER", user, "reset", "on", ">one", "~*", "&*", "+@all"];
            assert_eq!(admin.command(&rules), Reply::Simple("OK".into()));
        }
        let vault = Vault { redis, admin, folder: tempfile::tempdir().expect("a folder") };
        vault.write("one");
        vault
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("secret")
    }

    fn write(&self, password: &str) {
        fs::write(self.path(), password).expect("a file");
    }

    /// Redis takes this password as well, or no longer.
    fn set(&mut self, rule: &str) {
        assert_eq!(self.admin.command(&["ACL", "SETUSER", "cache", rule]), Reply::Simple("OK".into()));
    }

    /// A program whose clients are its own user, on connections of which none says anything by itself for long.
    fn start(&self, reauth: &str) -> Proxy {
        program()
            .set("REDIS_PASSWORD_FILE", self.path())
            .set("REDIS_HOST", "127.0.0.1")
            .set("REDIS_PORT", self.redis.port().to_string())
            .set("REDIS_USERNAME", "cache")
            .set("REDIS_REAUTH", reauth)
            .set("REDIS_WITNESSES", "off")
            .set("WORKERS", "1")
            .set("COHERENCE", "tracking")
            .set("MAX_STALENESS", "10s")
            .set("RESP_PORT", "0")
            .set("RESP_IDENTITY", "proxy")
            .allow_warning(REFUSED)
            .start()
    }

    fn ask(&mut self, question: &[&str]) -> String {
        match self.admin.command(question) {
            Reply::Bulk(text) => String::from_utf8(text).expect("text"),
            other => panic!("{other:?}"),
        }
    }

    /// Of the user's connections, the number of each, and what it said last.
    fn connections(&mut self, user: &str) -> Vec<(String, String)> {
        let listed = self.ask(&["CLIENT", "LIST"]);
        let user = format!("user={user}");
        let of_user = listed.lines().filter(|line| line.split(' ').any(|field| field == user));
        let field = |line: &str, name: &str| {
            let field = line.split(' ').find_map(|field| field.strip_prefix(name));
            field.expect("a field of CLIENT LIST").to_owned()
        };
        of_user.map(|line| (field(line, "id="), field(line, "cmd="))).collect()
    }

    /// How often AUTH was called, and how often Redis refused it.
    fn logins(&mut self) -> (u64, u64) {
        let info = self.ask(&["INFO", "commandstats"]);
        let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_auth:")).unwrap_or_default();
        let number = |name: &str| {
            let number = line.split(',').find_map(|field| field.strip_prefix(name));
            number.and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        (number("calls="), number("failed_calls="))
    }
}

#[test]
fn links_lanes_and_the_rest_log_in_again_with_the_password_of_the_moment() {
    let mut vault = Vault::new();
    let proxy = vault.start("1s");
    let mut client = proxy.redis_client();
    client.set("k", "v");
    assert_eq!(proxy.get("/k").text(), "v");
    for (round, before, after) in [(0, "one", "two"), (1, "two", "three")] {
        let mut seen = BTreeSet::new();
        wait_until(PATIENCE, "a login on each connection", || {
            client.set("k", format!("{round}"));
            thread::sleep(A_WHILE);
            let all = vault.connections("cache");
            seen.extend(all.iter().filter(|(_, said)| said == "auth").map(|(id, _)| id.clone()));
            // A link, its canary's writer and a lane at least.
            all.len() >= 3 && all.iter().all(|(id, _)| seen.contains(id))
        });
        // Both are good for a moment, as while a token is renewed.
        vault.set(&format!(">{after}"));
        vault.write(after);
        thread::sleep(A_WHILE);
        vault.set(&format!("<{before}"));
    }
    assert_eq!(vault.logins().1, 0);
    assert_eq!(client.get("k"), Some("1".into()));
    let log = proxy.log();
    assert!(!log.iter().any(|line| line.raw.contains("connection to redis lost")), "none was made anew");
}

#[test]
fn a_login_that_is_refused_costs_no_answer_and_is_told_once() {
    let mut vault = Vault::new();
    let proxy = vault.start("1s");
    let mut client = proxy.redis_client();
    client.set("k", "v");
    assert_eq!(proxy.get("/k").text(), "v");
    let before = vault.connections("cache").into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    vault.set(">two");
    vault.set("<one");
    let mut number = 0;
    let mut read_on = |rounds: usize| {
        for _ in 0..rounds {
            number += 1;
            client.set("k", format!("{number}"));
            assert_eq!(client.command(&["ECHO", "x"]), Reply::Bulk("x".into()));
            assert_eq!(client.get("k"), Some(format!("{number}").into_bytes()));
            assert_eq!(proxy.get(&format!("/none-{number}")).status, 404);
            thread::sleep(Duration::from_millis(5));
        }
    };
    wait_until(PATIENCE, "as many refusals as there are connections", || {
        read_on(20);
        vault.logins().1 >= 3
    });
    let after = vault.connections("cache").into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert!(after.len() >= 3 && after.iter().all(|id| before.contains(id)), "{before:?} {after:?}");
    vault.write("two");
    proxy.wait_log("redis lets open connections log in again", PATIENCE);
    read_on(20);
    let told = proxy.log().iter().filter(|line| line.raw.contains(REFUSED)).count();
    assert_eq!(told, 1);
    assert!(!proxy.log().iter().any(|line| line.raw.contains("\"one\"") || line.raw.contains("\"two\"")));
}

#[test]
fn nobody_logs_in_again_who_is_not_to_and_clients_never() {
    for (reauth, logs_in) in [("off", false), ("1s", true)] {
        let mut vault = Vault::new();
        let proxy = vault.start(reauth);
        let mut other = proxy.redis_client();
        assert_eq!(other.command(&["AUTH", "other", "one"]), Reply::Simple("OK".into()));
        other.set("k", "v");
        assert_eq!(proxy.get("/k").text(), "v");
        let mut has_logged_in = false;
        for _ in 0..3 {
            other.set("k", "v");
            thread::sleep(A_WHILE);
            has_logged_in |= vault.connections("cache").iter().any(|(_, said)| said == "auth");
            let of_other = vault.connections("other");
            assert!(of_other.iter().any(|(_, said)| said == "set"), "{of_other:?}");
            assert!(of_other.iter().all(|(_, said)| said != "auth"), "{of_other:?}");
        }
        assert_eq!(has_logged_in, logs_in);
    }
}

#[test]
fn a_lane_that_nobody_uses_ends_although_it_could_log_in_again() {
    let mut vault = Vault::new();
    let proxy = program()
        .set("REDIS_URL", format!("redis://cache:one@{}", vault.redis.address()))
        .set("REDIS_REAUTH", "1s")
        .set("REDIS_WITNESSES", "off")
        .set("WORKERS", "1")
        .set("RESP_PORT", "0")
        .set("RESP_IDENTITY", "proxy")
        .set("RESP_COHERENCE", "off")
        .set("RESP_LANE_IDLE", "1500ms")
        .start();
    let mut client = proxy.redis_client();
    client.set("k", "v");
    proxy.wait_log("idle lane closed", PATIENCE);
    assert!(vault.logins().0 > 0);
    client.set("k", "w");
}
