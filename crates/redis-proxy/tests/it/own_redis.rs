//! `--with-redis`: a Redis of the program's own, gone when the program is.
#![allow(clippy::unwrap_used, reason = "a broken part ends the test")]

use std::path::PathBuf;
use std::time::Duration;

use testkit::{Proxy, RedisServer, Signal, run_to_end, wait_until};

use crate::support::program;

const PATIENCE: Duration = Duration::from_secs(10);

/// The socket of its Redis, from the log.
fn socket(proxy: &Proxy) -> PathBuf {
    let line = proxy.wait_log("listening", PATIENCE);
    let address = line.field("redis").unwrap();
    address.strip_prefix("unix:").unwrap_or_else(|| panic!("{address} is no unix socket")).into()
}

#[test]
fn it_serves_from_a_redis_of_its_own_that_ends_with_it() {
    let proxy = program().arg("--with-redis").start();
    assert_eq!(proxy.get("/k").status, 404);
    let socket = socket(&proxy);
    testkit::RedisClient::connect_unix(&socket).set("k2", "v");
    assert_eq!(proxy.get("/k2").text(), "v");
    assert_eq!(proxy.stop().code(), Some(0));
    assert!(!socket.exists() && !socket.parent().unwrap().exists(), "{}", socket.display());
}

#[test]
fn its_redis_ends_when_the_program_is_killed() {
    let proxy = program().set("WITH_REDIS", "on").start();
    let socket = socket(&proxy);
    proxy.signal(Signal::KILL);
    assert!(proxy.wait_exit(PATIENCE).is_some());
    wait_until(PATIENCE, "its folder to go", || !socket.parent().unwrap().exists());
}

#[test]
fn auto_starts_one_only_where_no_address_is_set() {
    let given = RedisServer::start();
    let proxy = program().set("WITH_REDIS", "auto").redis(&given).start();
    let line = proxy.wait_log("listening", PATIENCE);
    assert_eq!(line.field("redis"), Some(given.address().to_string().as_str()));
    socket(&program().set("WITH_REDIS", "auto").start());
}

#[test]
fn an_address_beside_it_is_refused() {
    let environment =
        [("REDIS_URL", "redis://127.0.0.1:6379"), ("PORT", "0"), ("RESP_PORT", "off"), ("ADMIN_PORT", "0")];
    let output = run_to_end(env!("CARGO_BIN_EXE_redis-proxy"), &environment, &["--with-redis"], PATIENCE);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
}
