//! What the users and databases of Redis clients share with each other, and what not: limits, reports, the keys that are named
//! to Redis.

use std::time::Duration;

use testkit::{HttpClient, Proxy, RawClient, RedisServer, Reply, wait_until};

use crate::support::{program, start_resp};

const PATIENCE: Duration = Duration::from_secs(30);

/// Adds a user who may read and write keys that begin with its name.
fn add_user(redis: &RedisServer, name: &str) {
    let keys = format!("~{name}:*");
    let command = ["ACL", "SETUSER", name, "on", ">pw", &keys, "&*", "+@all"];
    assert_eq!(redis.client().command(&command), Reply::Simple("OK".into()));
}

fn client_of(proxy: &Proxy, user: &str) -> RawClient {
    let mut client = proxy.resp_client();
    client.ask(&format!("AUTH {user} pw"), "+OK");
    client
}

/// Reads until Redis is not asked any more.
#[track_caller]
fn warm(redis: &RedisServer, client: &mut RawClient, line: &str, reply: &str) {
    wait_until(PATIENCE, &format!("{line} from memory"), || {
        client.ask(line, reply);
        let before = redis.command_calls("get");
        client.ask(line, reply);
        redis.command_calls("get") == before
    });
}

fn ready(proxy: &Proxy) -> String {
    HttpClient::connect(proxy.admin_address()).get("/readyz").text().to_owned()
}

#[test]
fn a_link_names_to_redis_only_the_keys_that_were_read_on_it() {
    let redis = RedisServer::builder()
        .config("maxmemory", "1gb")
        .config("maxmemory-policy", "allkeys-lru")
        .config("slowlog-log-slower-than", "0")
        .config("slowlog-max-len", "100000")
        .start();
    let proxy = program().redis(&redis).set("RESP_PORT", "0").set("COHERENCE", "tracking");
    let proxy = proxy.set("MAX_STALENESS", "5s").start();
    for user in ["ann", "bob"] {
        add_user(&redis, user);
        redis.client().set(format!("{user}:k"), "v");
    }
    redis.client().set("own", "v");
    redis.client().command(&["ACL", "LOG", "RESET"]);
    let (mut ann, mut bob, mut own) =
        (client_of(&proxy, "ann"), client_of(&proxy, "bob"), proxy.resp_client());
    warm(&redis, &mut ann, "GET ann:k", "$1\r\nv");
    warm(&redis, &mut bob, "GET bob:k", "$1\r\nv");
    warm(&redis, &mut own, "GET own", "$1\r\nv");
    let touched = |redis: &RedisServer| {
        let Reply::Array(entries) = redis.client().command(&["SLOWLOG", "GET", "-1"]) else {
            panic!("no SLOWLOG")
        };
        let mut touched = Vec::new();
        for entry in entries {
            let Reply::Array(entry) = entry else { panic!("no entry") };
            let Reply::Array(command) = &entry[3] else { panic!("no command") };
            let words: Vec<String> = command
                .iter()
                .map(|word| match word {
                    Reply::Bulk(word) => String::from_utf8_lossy(word).into_owned(),
                    other => panic!("no word: {other:?}"),
                })
                .collect();
            if words[0] == "TOUCH" {
                touched.push(words[1..].join(" "));
            }
        }
        touched.sort();
        touched.dedup();
        touched
    };
    wait_until(PATIENCE, "three rounds of TOUCH", || touched(&redis).len() >= 3);
    assert_eq!(touched(&redis), ["ann:k", "bob:k", "own"]);
    assert_eq!(
        redis.client().command(&["ACL", "LOG"]),
        Reply::Array(vec![]),
        "nobody asked for what he may not"
    );
}

#[test]
fn max_inflight_counts_the_reads_of_all_users_and_databases_together() {
    let (redis, proxy) = start_resp(&[
        ("COHERENCE", "ttl"),
        ("RESP_COHERENCE", "ttl"),
        ("MAX_INFLIGHT", "4"),
        ("WORKERS", "1"),
        ("UPSTREAM_TIMEOUT", "60s"),
    ]);
    add_user(&redis, "ann");
    redis.client().set("ann:k", "v");
    let mut ann = client_of(&proxy, "ann");
    warm(&redis, &mut ann, "GET ann:k", "$1\r\nv");
    assert_eq!(proxy.get("/own").status, 404);
    redis.pause_process();
    ann.send("GET ann:1\r\nGET ann:2\r\nGET ann:3\r\nGET ann:4\r\n");
    wait_until(PATIENCE, "four reads on their way", || {
        proxy.metrics().value("redis_proxy_fills_in_flight") == 4.0
    });
    let response = proxy.get("/other");
    redis.resume_process();
    assert_eq!(response.status, 503);
    assert!(response.text().contains("too many fetches in flight"), "{response:?}");
    ann.expect("$-1\r\n$-1\r\n$-1\r\n$-1\r\n");
    assert_eq!(proxy.get("/other").status, 404);
}

#[test]
fn the_links_of_all_users_are_in_the_reports() {
    let redis = RedisServer::start();
    let proxy = program()
        .redis(&redis)
        .set("RESP_PORT", "0")
        .set("MAX_STALENESS", "5s")
        .set("COHERENCE", "tracking")
        .set("MAX_STALENESS", "5s")
        .allow_warning("coherence is not in force")
        .start();
    add_user(&redis, "ann");
    add_user(&redis, "bob");
    redis.client().command(&["ACL", "SETUSER", "bob", "-client|tracking"]);
    redis.client().set("ann:k", "v");
    let mut ann = client_of(&proxy, "ann");
    warm(&redis, &mut ann, "GET ann:k", "$1\r\nv");
    let links = |state: &str| {
        proxy.metrics().samples.get(&format!("redis_proxy_links{{state=\"{state}\"}}")).copied()
    };
    wait_until(PATIENCE, "both links in force", || {
        (links("in_force"), links("not_in_force")) == (Some(2.0), Some(0.0))
    });
    client_of(&proxy, "bob").send("GET bob:k\r\n").reply();
    wait_until(PATIENCE, "a link that is not", || {
        (links("in_force"), links("not_in_force")) == (Some(2.0), Some(1.0))
    });
    assert_eq!(proxy.metrics().value("redis_proxy_coherence_in_force"), 0.0);
    // Until Redis has refused it, it is one that has no connection yet.
    let why = "redis clients: tracking, not in force: CLIENT TRACKING ON: NOPERM";
    wait_until(PATIENCE, "the reason of that", || ready(&proxy).contains(why));
    assert!(ready(&proxy).contains("coherence: tracking, in force"), "{}", ready(&proxy));
}
