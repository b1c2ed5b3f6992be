//! Servers that cannot be served from, or not now, and what of that is told: a node of a cluster, a sentinel, one that is full,
//! one that cannot save.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use testkit::{
    Action, HttpClient, Proxy, ProxyBuilder, RawClient, RedisClient, RedisServer, Reply, Response,
    ScriptedRedis, wait_until,
};

use crate::support::{program, program_without_redis};

const PATIENCE: Duration = Duration::from_secs(10);
const OF_A_CLUSTER: &str = "redis is a node of a cluster";

fn ready(proxy: &Proxy) -> Response {
    HttpClient::connect(proxy.admin_address()).get("/readyz")
}

fn in_mode(mode: &str) -> ProxyBuilder {
    program_without_redis()
        .set("RESP_PORT", "0")
        .set("MAX_STALENESS", "5s")
        .set("COHERENCE", mode)
        .allow_warning("coherence is not in force")
        .allow_warning("lane lost")
}

/// Everything that a client may hear is that the server is none to be served from.
#[track_caller]
fn assert_refused(proxy: &Proxy, words: &str) {
    let response = proxy.get("/k");
    assert_eq!(response.status, 503, "{response:?}");
    assert_eq!(response.header("retry-after"), Some("1"));
    assert!(response.text().contains(words) && !response.text().contains("MOVED"), "{response:?}");
    let mut client = proxy.resp_client();
    for command in ["GET k", "SET k v", "PING", "SUBSCRIBE c", "EVAL return 0", "FLUSHALL"] {
        let reply = client.send(format!("{command}\r\n")).line();
        assert!(reply.starts_with("-MASTERDOWN proxy: ") && reply.contains(words), "{command}: {reply}");
    }
    let response = ready(proxy);
    assert!(response.status == 503 && response.text().contains(words), "{response:?}");
}

#[test]
fn a_node_of_a_cluster_is_refused_in_words() {
    let redis = RedisServer::builder().config("cluster-enabled", "yes").start();
    for mode in ["ttl", "tracking"] {
        let proxy = in_mode(mode).redis(&redis).start();
        assert_refused(&proxy, OF_A_CLUSTER);
        let told = proxy.wait_log("redis unavailable", PATIENCE);
        assert!(told.field("reason").is_some_and(|reason| reason.contains(OF_A_CLUSTER)), "{}", told.raw);
    }
}

/// HELLO of a server in this mode.
fn hello(mode: &str) -> String {
    format!(
        "%5\r\n+server\r\n+redis\r\n+version\r\n+7.0.15\r\n+proto\r\n:3\r\n+mode\r\n+{mode}\r\n+role\r\n+master\r\n"
    )
}

#[test]
fn a_sentinel_is_refused_in_words() {
    let redis = ScriptedRedis::builder().answer("HELLO", hello("sentinel"));
    let redis = redis.start(|_, _| Action::Reply(b"-ERR unknown command 'GET'\r\n".to_vec()));
    let proxy = in_mode("tracking").redis_at(redis.address()).start();
    assert_refused(&proxy, "redis is a sentinel");
    assert_eq!(redis.calls("GET"), 0);
}

#[test]
fn without_hello_the_first_read_tells_and_to_redis_clients_info() {
    let info = "# Server\r\nredis_version:5.0.14\r\nredis_mode:cluster\r\n";
    let info = format!("${}\r\n{info}\r\n", info.len());
    let redis = ScriptedRedis::builder().refuse_hello().answer("INFO", info);
    let redis = redis.start(|_, _| Action::Reply(b"-MOVED 12539 10.1.2.3:6379\r\n".to_vec()));
    let proxy = in_mode("ttl").set("WORKERS", "1").redis_at(redis.address()).start();
    assert_refused(&proxy, OF_A_CLUSTER);
    assert!(redis.calls("GET") <= 2, "once for each of the two ways that reads have");
}

#[test]
fn without_hello_and_info_the_first_moved_tells() {
    for redirection in ["MOVED 12539 10.1.2.3:6379", "ASK 12539 10.1.2.3:6379"] {
        let answer = format!("-{redirection}\r\n");
        let redis =
            ScriptedRedis::builder().refuse_hello().answer("SET", &answer).answer("PING", "+PONG\r\n");
        let redis = redis.start(move |_, _| Action::Reply(answer.clone().into_bytes()));
        let proxy = in_mode("ttl").set("WORKERS", "1").redis_at(redis.address()).start();
        wait_until(PATIENCE, "readiness", || ready(&proxy).status == 200);
        for _ in 0..3 {
            let response = proxy.get("/k");
            assert_eq!((response.status, response.header("retry-after")), (503, Some("1")));
            assert!(response.text().contains(OF_A_CLUSTER), "{response:?}");
        }
        assert_eq!(redis.calls("GET"), 1, "it is not asked again");
        assert!(ready(&proxy).status == 503 && ready(&proxy).text().contains(OF_A_CLUSTER));
        let mut client = proxy.resp_client();
        for _ in 0..3 {
            let reply = client.send("SET k v\r\n").line();
            assert!(reply.starts_with("-MASTERDOWN proxy: ") && reply.contains(OF_A_CLUSTER), "{reply}");
        }
        assert_eq!(redis.calls("SET"), 1);
        assert_eq!(redis.calls("WATCH"), 0);
    }
}

#[test]
fn a_redirection_in_pieces_reaches_nobody_and_what_only_begins_like_one_does() {
    let redis = ScriptedRedis::builder().refuse_hello().answer("PING", "+PONG\r\n");
    let redis = redis.start(|key, _| {
        let line = match key {
            b"like" => "-MOVED\r\n",
            b"unlike" => "-ASKED and answered\r\n",
            _ => "-MOVED 12539 10.1.2.3:6379\r\n",
        };
        Action::Slow { bytes: line.into(), chunk: 3, every: Duration::from_millis(20) }
    });
    let proxy = in_mode("ttl").set("RESP_COHERENCE", "off").set("WORKERS", "1");
    let proxy = proxy.redis_at(redis.address()).start();
    let mut client = proxy.resp_client();
    let answers = "-MOVED\r\n-ASKED and answered\r\n+PONG\r\n-MOVED\r\n";
    client.send("GET like\r\nGET unlike\r\nPING\r\nGET like\r\n").expect(answers);
    for _ in 0..2 {
        let reply = client.send("GET k\r\n").line();
        assert!(reply.starts_with("-MASTERDOWN proxy: ") && reply.contains(OF_A_CLUSTER), "{reply}");
    }
    assert_eq!(redis.calls("GET"), 4);
}

#[test]
fn what_a_connection_of_ones_own_hears_of_other_nodes_is_not_passed_on() {
    let redis = ScriptedRedis::builder().refuse_hello().answer("WATCH", "-MOVED 12539 10.1.2.3:6379\r\n");
    let redis = redis.start(|_, _| Action::value("v"));
    let proxy = in_mode("ttl").set("RESP_COHERENCE", "off").redis_at(redis.address()).start();
    let mut client = proxy.resp_client();
    for _ in 0..2 {
        let reply = client.send("WATCH k\r\n").line();
        assert!(reply.starts_with("-MASTERDOWN proxy: ") && reply.contains(OF_A_CLUSTER), "{reply}");
    }
    client.ask("GET k", "$1\r\nv");
}

#[test]
fn a_server_that_takes_no_further_client_is_quoted_each_time() {
    let redis = RedisServer::start();
    let mut holder = redis.client();
    holder.command(&["CONFIG", "SET", "maxclients", "1"]);
    let proxy = program_without_redis().redis(&redis).set("LOG", "debug").start();
    // Its attempts come nearer to each other while somebody asks.
    wait_until(PATIENCE, "attempts", || {
        assert_eq!(proxy.get("/k").status, 503);
        proxy.log().iter().filter(|line| line.message.contains("redis still unavailable")).count() >= 20
    });
    let lines = proxy.log();
    let reasons: Vec<_> = lines
        .iter()
        .filter(|line| line.message.contains("unavailable"))
        .filter_map(|line| line.field("reason"))
        .collect();
    let quoted = |reason: &&&str| reason.contains("ERR max number of clients reached");
    assert_eq!(reasons.iter().filter(quoted).count(), reasons.len(), "{reasons:?}");
    assert!(proxy.get("/k").text().contains("max number of clients"));
}

/// Its user is not to blame: only one that Redis lets in no longer loses its clients.
#[test]
fn a_link_that_a_full_server_takes_no_more_ends_no_client() {
    let redis = RedisServer::start();
    let mut admin = redis.client();
    admin.command(&["ACL", "SETUSER", "ann", "on", ">pw", "+@all", "~*", "&*"]);
    redis.client().set("k", "v");
    let proxy = program_without_redis()
        .allow_warning("lane lost")
        .redis(&redis)
        .set("RESP_PORT", "0")
        .set("COHERENCE", "ttl")
        .set("WORKERS", "1")
        .start();
    let mut client = proxy.resp_client();
    client.ask("AUTH ann pw", "+OK").ask("GET k", "$1\r\nv");
    // The link of what it reads: `t` is for tracking.
    let mut link = None;
    wait_until(PATIENCE, "a link", || {
        client.ask("GET k", "$1\r\nv");
        let Reply::Bulk(list) = admin.command(&["CLIENT", "LIST"]) else { panic!("no list") };
        let list = String::from_utf8(list).expect("text");
        let line = list.lines().find(|line| line.contains("user=ann") && line.contains("flags=t"));
        link = line.and_then(|line| Some(line.split(' ').next()?.strip_prefix("id=")?.to_owned()));
        link.is_some()
    });
    admin.command(&["CONFIG", "SET", "maxclients", "1"]);
    let rejected = rejected_connections(&mut admin);
    admin.command(&["CLIENT", "KILL", "ID", &link.expect("a link")]);
    wait_until(PATIENCE, "attempts to connect", || rejected_connections(&mut admin) > rejected + 3);
    client.ask("PING", "+PONG").ask("GET k", "$1\r\nv");
    admin.command(&["CONFIG", "SET", "maxclients", "100"]);
}

fn rejected_connections(admin: &mut RedisClient) -> u64 {
    let Reply::Bulk(info) = admin.command(&["INFO", "stats"]) else { panic!("no INFO") };
    let info = String::from_utf8(info).expect("text");
    let rejected = info.lines().find_map(|line| line.strip_prefix("rejected_connections:"));
    rejected.and_then(|number| number.trim().parse().ok()).expect("a number")
}

#[test]
fn a_server_that_cannot_save_is_ready_for_reads() {
    let redis = RedisServer::builder().config("dbfilename", "taken.rdb").start();
    let mut client = redis.client();
    client.set("k", "v");
    let Reply::Array(dir) = client.command(&["CONFIG", "GET", "dir"]) else { panic!("no dir") };
    let [_, Reply::Bulk(dir)] = &dir[..] else { panic!("no dir: {dir:?}") };
    // A file cannot be put in the place of a directory.
    let taken = PathBuf::from(String::from_utf8_lossy(dir).into_owned()).join("taken.rdb");
    fs::create_dir_all(taken.join("x")).expect("a directory");
    client.command(&["CONFIG", "SET", "save", "3600 100000"]);
    client.command(&["BGSAVE"]);
    let mut raw = RawClient::connect(redis.address());
    wait_until(PATIENCE, "MISCONF", || raw.send("PING\r\n").line().starts_with("-MISCONF"));
    for mode in ["ttl", "tracking"] {
        let proxy = program()
            .redis(&redis)
            .set("COHERENCE", mode)
            .allow_warning("the canary cannot be written")
            .allow_warning("coherence is not in force")
            .start();
        wait_until(PATIENCE, "readiness", || ready(&proxy).status == 200);
        assert_eq!(proxy.get("/k").text(), "v");
    }
}
