//! Who a Redis client is: nobody's lane serves somebody else.

use testkit::RedisServer;

use crate::support::{program, start_resp};

const NOAUTH: &str = "-NOAUTH Authentication required.";

#[test]
fn the_proxys_password_opens_nothing_to_clients() {
    let redis = RedisServer::builder().password("secret").start();
    let proxy = program().redis(&redis).set("RESP_PORT", "0").set("MAX_STALENESS", "5s").start();
    let mut client = proxy.resp_client();
    client.ask("GET k", NOAUTH).ask("PING", NOAUTH).ask("MULTI", NOAUTH).ask("SELECT 1", NOAUTH);
    client
        .ask("AUTH wrong", "-WRONGPASS invalid username-password pair or user is disabled.")
        .ask("GET k", NOAUTH);
    let line = client.send("HELLO 3\r\n").line();
    assert!(line.starts_with("-NOAUTH HELLO must be called with the client already authenticated"), "{line}");
    client.ask("AUTH secret", "+OK").ask("SET k v", "+OK").ask("PING", "+PONG");
    proxy.resp_client().ask("GET k", NOAUTH);
    client.ask("RESET", "+RESET").ask("GET k", NOAUTH);
    client.send("HELLO 3 AUTH default secret\r\n");
    while client.line() != "*0" {}
    client.ask("GET k", "$1\r\nv");
}

#[test]
fn before_auth_requests_are_small() {
    let redis = RedisServer::builder().password("secret").start();
    let proxy = program().redis(&redis).set("RESP_PORT", "0").set("MAX_STALENESS", "5s").start();
    let mut client = proxy.resp_client();
    client
        .ask("GET k", NOAUTH)
        .send("*11\r\n")
        .expect("-ERR Protocol error: unauthenticated multibulk length\r\n");
    assert!(client.at_end());
    let mut client = proxy.resp_client();
    client.ask("GET k", NOAUTH).send("*2\r\n$3\r\nGET\r\n$16385\r\n");
    client.expect("-ERR Protocol error: unauthenticated bulk length\r\n");
    assert!(client.at_end());
}

#[test]
fn one_users_lane_never_serves_another() {
    let (redis, proxy) = start_resp(&[("WORKERS", "1")]);
    let mut direct = redis.client();
    for (name, keys) in [("ann", "~ann:*"), ("bob", "~bob:*")] {
        direct.command(&["ACL", "SETUSER", name, "on", ">pw", keys, "+@all"]);
        direct.set(format!("{name}:k"), name);
    }
    let (mut ann, mut bob, mut nobody) = (proxy.resp_client(), proxy.resp_client(), proxy.resp_client());
    ann.ask("AUTH ann pw", "+OK");
    bob.ask("AUTH bob pw", "+OK");
    let denied = "-NOPERM this user has no permissions to access one of the keys used as arguments";
    for _ in 0..50 {
        ann.send("GET ann:k\r\nGET bob:k\r\nACL WHOAMI\r\n");
        bob.send("GET ann:k\r\nGET bob:k\r\nACL WHOAMI\r\n");
        nobody.send("GET ann:k\r\nACL WHOAMI\r\n");
        ann.expect(format!("$3\r\nann\r\n{denied}\r\n$3\r\nann\r\n"));
        bob.expect(format!("{denied}\r\n$3\r\nbob\r\n$3\r\nbob\r\n"));
        nobody.expect("$3\r\nann\r\n$7\r\ndefault\r\n");
    }
    // Pins are kept apart, too.
    for _ in 0..3 {
        ann.ask("MULTI", "+OK").ask("ACL WHOAMI", "+QUEUED").ask("EXEC", "*1\r\n$3\r\nann");
        bob.ask("MULTI", "+OK").ask("ACL WHOAMI", "+QUEUED").ask("EXEC", "*1\r\n$3\r\nbob");
        nobody.ask("MULTI", "+OK").ask("ACL WHOAMI", "+QUEUED").ask("EXEC", "*1\r\n$7\r\ndefault");
    }
    // A password that no longer holds opens nothing, although a lane of it is open.
    direct.command(&["ACL", "SETUSER", "ann", "resetpass", ">new"]);
    nobody.ask("AUTH ann pw", "-WRONGPASS invalid username-password pair or user is disabled.");
    nobody.ask("ACL WHOAMI", "$7\r\ndefault").ask("AUTH ann new", "+OK").ask("ACL WHOAMI", "$3\r\nann");
}

#[test]
fn resp_identity_proxy_lends_the_proxys_user_on_the_loopback_alone() {
    let redis = RedisServer::builder().password("secret").start();
    let proxy = program()
        .redis(&redis)
        .set("RESP_PORT", "0")
        .set("MAX_STALENESS", "5s")
        .set("RESP_IDENTITY", "proxy")
        .start();
    proxy.resp_client().ask("SET k v", "+OK").ask("RESET", "+RESET").ask("GET k", "$1\r\nv");
    let settings = [("RESP_IDENTITY", "proxy"), ("RESP_HOST", "0.0.0.0"), ("RESP_PORT", "0")];
    let refused = testkit::run_to_end(
        env!("CARGO_BIN_EXE_redis-proxy"),
        &settings,
        &["--check-config"],
        std::time::Duration::from_secs(10),
    );
    assert_eq!(refused.status.code(), Some(2));
    assert!(refused.stderr.contains("RESP_IDENTITY=proxy"), "{}", refused.stderr);
}

#[test]
fn a_user_who_may_not_select_stays_in_the_database_where_it_logs_in() {
    let (redis, proxy) = start_resp(&[("WORKERS", "1")]);
    redis.client().command(&["ACL", "SETUSER", "ann", "on", ">pw", "~*", "+get", "+set", "+acl|whoami"]);
    let (mut ann, mut other) = (proxy.resp_client(), proxy.resp_client());
    ann.ask("SELECT 9", "+OK").ask("SET k nine", "+OK").ask("AUTH ann pw", "+OK");
    for _ in 0..3 {
        ann.ask("ACL WHOAMI", "$3\r\nann").ask("GET k", "$4\r\nnine");
    }
    ann.ask("SELECT 0", "-NOPERM this user has no permissions to run the 'select' command");
    ann.ask("GET k", "$4\r\nnine");
    // Her connection is nobody else's, neither before nor after.
    other.ask("SELECT 9", "+OK").ask("WATCH k", "+OK").ask("ACL WHOAMI", "$7\r\ndefault");
    ann.ask("RESET", "+RESET").ask("ACL WHOAMI", "$7\r\ndefault").ask("GET k", "$-1");
    other.ask("UNWATCH", "+OK").ask("WATCH k", "+OK").ask("ACL WHOAMI", "$7\r\ndefault");
}
