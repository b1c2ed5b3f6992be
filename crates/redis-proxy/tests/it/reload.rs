//! What a reload changes for what is held and for who is there: how long entries live, how large they and requests may be, how many
//! clients there may be, and who the program is to Redis.

use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use testkit::{RawClient, RedisServer, wait_until};

use crate::reloaded::Reloaded;
use crate::support::program;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn another_expiry_and_size_are_those_of_what_is_held_and_of_what_comes() {
    let long = "global_expiry = \"1h\"\nmax_value_bytes = \"100\"\n";
    let mut all = Reloaded::start(program(), long);
    let (mut client, mut redis) = (all.proxy.client(), all.redis.client());
    redis.set("k", "old");
    redis.set("large", "x".repeat(101));
    let gets = |all: &Reloaded| all.redis.command_calls("get");
    for _ in 0..2 {
        assert_eq!(client.get("/k").text(), "old");
        assert_eq!(client.get("/large").status, 200);
    }
    assert_eq!(gets(&all), 3, "one of a value that is kept, two of one that is not");
    redis.set("k", "new");
    redis.set("large", "y".repeat(101));
    assert_eq!(client.get("/k").text(), "old");

    // By the time that it is told nothing older is served, and what comes is of that size.
    std::thread::sleep(Duration::from_millis(20));
    let changed = all.reload("global_expiry = \"20ms\"\nmax_value_bytes = \"101\"\n");
    assert_eq!(changed, "GLOBAL_EXPIRY MAX_VALUE_BYTES");
    assert_eq!(client.get("/k").text(), "new");
    // Its memory goes although nobody asks for it.
    wait_until(PATIENCE, "no entry", || all.proxy.metrics().value("redis_proxy_entries") == 0.0);

    assert_eq!(all.reload(&long.replace("100", "101")), "GLOBAL_EXPIRY");
    let before = gets(&all);
    for _ in 0..3 {
        assert_eq!(client.get("/k").text(), "new");
        assert_eq!(client.get("/large").text(), "y".repeat(101));
    }
    assert_eq!(gets(&all), before + 2, "both are kept");
    assert_eq!(all.proxy.stop().code(), Some(0));
}

#[test]
fn requests_are_measured_by_the_sizes_of_the_moment_on_connections_that_are_open() {
    // One worker: what one of its clients sees all do.
    let mut all = Reloaded::start(program().set("WORKERS", "1"), "");
    let mut http = all.proxy.client();
    let mut resp = all.proxy.resp_client();
    let key = "k".repeat(100);
    let target = format!("/{key}");
    // Twice and more, so that its head is known.
    (0..4).for_each(|_| assert_eq!(http.get(&target).status, 404));
    resp.send_command(&["SET", &key, &"v".repeat(2_000)]).expect("+OK\r\n");

    let small = "max_key_bytes = 99\nresp_max_bulk_bytes = \"1KiB\"\n";
    assert_eq!(all.reload(small), "MAX_KEY_BYTES RESP_MAX_BULK_BYTES");
    assert_eq!(http.get(&target).status, 414);
    wait_until(PATIENCE, "the smaller size for redis clients", || {
        let mut other = all.proxy.resp_client();
        other.send_command(&["SET", &key, &"v".repeat(2_000)]);
        other.line().starts_with("-ERR Protocol error: invalid bulk length")
    });
    resp.send_command(&["SET", &key, &"v".repeat(2_000)]);
    assert_eq!(resp.line(), "-ERR Protocol error: invalid bulk length");

    let more = "max_target_bytes = \"64\"\nmax_key_bytes = \"32\"\nmax_headers = 2\nmax_body_bytes = 3\n";
    let changed = all.reload(more);
    let names = ["MAX_KEY_BYTES", "MAX_TARGET_BYTES", "MAX_HEADERS", "MAX_BODY_BYTES", "RESP_MAX_BULK_BYTES"];
    assert!(names.iter().all(|name| changed.contains(name)), "{changed}");
    assert_eq!(all.proxy.client().get(&format!("/{}", "k".repeat(64))).status, 414);
    assert_eq!(all.proxy.client().request("GET", "/k", &[("A", "1"), ("B", "2")]).status, 431);
    assert_eq!(all.proxy.client().request("GET", "/k", &[("A", "1")]).status, 404);
    assert_eq!(all.proxy.stop().code(), Some(0));
}

fn ping(clients: &mut [RawClient]) {
    for client in clients {
        client.ask("PING", "+PONG");
    }
}

#[test]
fn fewer_clients_cut_nobody_and_let_nobody_in_and_more_do() {
    let program = program().set("MAX_WAITING", "0").set("WORKERS", "1");
    let mut all = Reloaded::start(program, "max_clients = 3\n");
    // Redis clients, since an idle one of HTTP would give its place up.
    let mut there: Vec<_> = (0..3).map(|_| all.proxy.resp_client()).collect();
    ping(&mut there);
    let refused = |all: &Reloaded| {
        let mut client = all.proxy.resp_client();
        match client.try_send("PING\r\n").map(|()| client.line()) {
            Ok(line) => line == "-ERR max number of clients reached",
            Err(error) => error.kind() == ErrorKind::BrokenPipe || error.kind() == ErrorKind::ConnectionReset,
        }
    };
    assert!(refused(&all));
    assert_eq!(all.reload("max_clients = 2\n"), "MAX_CLIENTS");
    ping(&mut there);
    let clients = || all.proxy.metrics().value("redis_proxy_resp_clients");
    there.truncate(2);
    wait_until(PATIENCE, "one to have left", || clients() == 2.0);
    assert!(refused(&all));
    there.truncate(1);
    wait_until(PATIENCE, "another one to have left", || clients() == 1.0);
    there.push(all.proxy.resp_client());
    ping(&mut there);
    assert!(refused(&all));
    assert_eq!(all.reload("max_clients = 4\n"), "MAX_CLIENTS");
    there.extend((0..2).map(|_| all.proxy.resp_client()));
    ping(&mut there);
    assert!(refused(&all));
    drop(there);
    assert_eq!(all.proxy.stop().code(), Some(0));
}

#[test]
fn a_password_whose_file_changes_is_that_of_open_connections_too() {
    let redis = RedisServer::start();
    let mut admin = redis.client();
    let mut rule = |rule: &str| {
        let rules = ["ACL", "SETUSER", "cache", "on", rule, "~*", "&*", "+@all"];
        assert_eq!(admin.command(&rules), testkit::Reply::Simple("OK".into()));
    };
    rule(">first-secret");
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, "first-secret\n").unwrap();
    let program = program().set("REDIS_HOST", "127.0.0.1").set("REDIS_PORT", redis.port().to_string());
    let program = program.set("REDIS_USERNAME", "cache").set("REDIS_PASSWORD_FILE", file.path());
    let proxy = program.set("COHERENCE", "tracking").start();
    assert_eq!(proxy.get("/k").status, 404);
    let logins = || redis.command_calls("auth");
    let before = logins();
    rule(">second-secret");
    fs::write(&file, "second-secret\n").unwrap();
    proxy.wait_log("the credentials for redis have changed", PATIENCE);
    wait_until(PATIENCE, "the link to log in again", || logins() > before);
    // Told once it is known that it is good, and no connection is lost for it.
    assert_eq!(proxy.get("/other").status, 404);
    proxy.allow_warning("redis refuses to let an open connection log in again");
    // Of one that is made anew meanwhile.
    proxy.allow_warning("redis unavailable");
    proxy.allow_warning("coherence is not in force");
    fs::write(&file, "wrong-secret\n").unwrap();
    proxy.wait_log("redis refuses to let an open connection log in again", PATIENCE);
    assert_eq!(proxy.get("/another").status, 404);
    fs::write(&file, "second-secret\n").unwrap();
    proxy.wait_log("redis lets open connections log in again", PATIENCE);
    assert!(proxy.log().iter().all(|line| !line.raw.contains("connection to redis lost")));
    assert!(proxy.log().iter().all(|line| !line.raw.contains("-secret")));
    assert_eq!(proxy.stop().code(), Some(0));
}

#[test]
fn a_password_among_the_settings_is_that_of_open_connections_once_it_is_another() {
    let redis = RedisServer::start();
    let mut admin = redis.client();
    let mut rule = |rule: &str| {
        let rules = ["ACL", "SETUSER", "cache", "on", rule, "~*", "&*", "+@all"];
        assert_eq!(admin.command(&rules), testkit::Reply::Simple("OK".into()));
    };
    rule(">first-secret");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    let write = |password: &str| {
        let (port, password) = (redis.port(), format!("redis_password = \"{password}\"\n"));
        fs::write(&config, format!("redis_port = {port}\nredis_username = \"cache\"\n{password}")).unwrap();
    };
    write("first-secret");
    let program = program().set("WORKERS", "1").set("REDIS_WITNESSES", "off").arg("--config").arg(&config);
    let proxy = program.set("REDIS_HOST", "127.0.0.1").start();
    assert_eq!(proxy.get("/k").status, 404);
    let logins = || redis.command_calls("auth");
    let before = logins();
    rule(">second-secret");
    write("second-secret");
    proxy.signal(testkit::Signal::HUP);
    let told = proxy.wait_log("\"reloaded\"", PATIENCE);
    assert_eq!(told.field("changed"), Some("REDIS_PASSWORD"));
    wait_until(PATIENCE, "another login", || logins() > before);
    // Of connections that are made anew as well.
    rule("<first-secret");
    for text in ["connection to redis lost", "redis unavailable"] {
        proxy.allow_warning(text);
    }
    redis.client().command(&["CLIENT", "KILL", "USER", "cache"]);
    wait_until(PATIENCE, "an answer", || proxy.get("/k").status == 404);
    assert!(proxy.log().iter().all(|line| !line.raw.contains("-secret")));
    assert_eq!(proxy.stop().code(), Some(0));
}
