//! What Redis clients are told of the cache.

use std::time::Duration;

use crate::support::start_resp;

fn stat(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().expect("a number")
}

#[test]
fn info_ends_with_a_section_of_the_proxy() {
    let (redis, proxy) = start_resp(&[("COHERENCE", "tracking")]);
    let in_force = || proxy.metrics().value("redis_proxy_coherence_in_force") == 1.0;
    testkit::wait_until(Duration::from_secs(10), "the mode to be in force", in_force);
    redis.client().set("k", "v");
    let mut client = proxy.resp_client();
    for _ in 0..3 {
        client.ask("GET k", "$1\r\nv");
    }
    for command in ["INFO", "INFO everything", "INFO all", "INFO default", "info Proxy"] {
        client.send(format!("{command}\r\n"));
        let info = String::from_utf8(client.bulk()).expect("text");
        let (before, section) = info.split_once("# Proxy\r\n").expect("a section of ours");
        assert_eq!(before.contains("redis_version:7"), !command.ends_with("Proxy"), "{command}");
        assert_eq!(stat(section, "proxy_cache_keys"), 1);
        assert_eq!(stat(section, "proxy_cache_hits") + stat(section, "proxy_cache_misses"), 3);
        assert_eq!(stat(section, "proxy_coherence_in_force"), 1);
    }
    client.send("INFO server\r\n");
    assert!(!String::from_utf8(client.bulk()).expect("text").contains("# Proxy"));
    // In order with what stands around it, in RESP3 too.
    client.send("SET a 1\r\nINFO\r\nGET a\r\n").expect("+OK\r\n");
    assert!(String::from_utf8(client.bulk()).expect("text").contains("\r\n\r\n# Proxy\r\n"));
    client.expect("$1\r\n1\r\n");
    let mut client = proxy.resp_client();
    client.send("HELLO 3\r\n");
    while !client.line().starts_with("*0") {}
    client.send("INFO\r\n");
    assert!(client.line().starts_with('='));
}

#[test]
fn the_command_proxy_tells_of_the_cache_and_drops_from_it() {
    let (redis, proxy) = start_resp(&[("COHERENCE", "tracking")]);
    let in_force = || proxy.metrics().value("redis_proxy_coherence_in_force") == 1.0;
    testkit::wait_until(Duration::from_secs(10), "the mode to be in force", in_force);
    redis.client().command(&["SET", "k", "value", "PX", "60000"]);
    let mut client = proxy.resp_client();
    client.ask("PROXY CACHE GET k", "$-1").ask("GET k", "$5\r\nvalue");
    client.send("PROXY CACHE GET k\r\n").expect("*10\r\n$6\r\nexists\r\n:1\r\n$5\r\nbytes\r\n:5\r\n");
    for _ in 0..9 {
        client.line();
    }
    client.send("proxy stats\r\n");
    assert_eq!(stat(&String::from_utf8(client.bulk()).expect("text"), "proxy_cache_keys"), 1);
    client.ask("PROXY CACHE FLUSH k", ":1").ask("PROXY CACHE FLUSH k", ":0");
    client.ask("GET k", "$5\r\nvalue").ask("PROXY CACHE FLUSH", "+OK").ask("PROXY CACHE GET k", "$-1");
    client.ask("EXISTS k", ":1");
    let wrong = "-ERR unknown subcommand or wrong number of arguments for 'proxy'. Try PROXY HELP.";
    client.ask("PROXY", wrong).ask("PROXY CACHE", wrong).ask("PROXY STATS more", wrong);
    assert_eq!(client.send("PROXY HELP\r\n").line(), "*21");
    (0..21).for_each(|_| drop(client.line()));
    // With a connection of its client's own, too; but a transaction is Redis'.
    client.ask("WATCH k", "+OK").ask("PROXY CACHE FLUSH", "+OK").ask("PROXY", wrong).ask("MULTI", "+OK");
    client.ask("PROXY CACHE FLUSH", "-ERR proxy: PROXY in a transaction is not supported");
    client.ask("SET k other", "+QUEUED");
    assert!(client.send("EXEC\r\n").line().starts_with("-EXECABORT"));
    client.ask("GET k", "$5\r\nvalue");
}

#[test]
fn who_may_empty_the_cache_is_a_setting() {
    const NOPERM: &str = "-NOPERM proxy: this client may not empty the cache (RESP_PROXY_ADMIN)";
    for (setting, here, elsewhere) in [("loopback", true, false), ("all", true, true), ("off", false, false)]
    {
        // What is read is kept at once.
        let settings = [("RESP_HOST", "0.0.0.0"), ("RESP_PROXY_ADMIN", setting), ("RESP_COHERENCE", "ttl")];
        let (_redis, proxy) = start_resp(&settings);
        let flushes = |client: &mut testkit::RawClient, may: bool| {
            client.ask("SET k v", "+OK").ask("GET k", "$1\r\nv");
            client.ask("PROXY CACHE FLUSH k", if may { ":1" } else { NOPERM });
            client.ask("PROXY CACHE FLUSH", if may { "+OK" } else { NOPERM });
        };
        flushes(&mut proxy.resp_client(), here);
        // Another address of this machine, if it has one: nothing is sent to find it.
        let probe = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
        if probe.connect("192.0.2.1:9").is_ok() {
            let address = probe.local_addr().expect("an address").ip();
            let mut client = testkit::RawClient::connect((address, proxy.resp_address().port()));
            flushes(&mut client, elsewhere);
        }
    }
}

#[test]
fn who_must_log_in_is_told_nothing() {
    let redis = testkit::RedisServer::builder().password("secret").start();
    let proxy =
        crate::support::program().redis(&redis).set("RESP_PORT", "0").set("MAX_STALENESS", "5s").start();
    let mut client = proxy.resp_client();
    client.ask("SET k v", "-NOAUTH Authentication required.");
    client.ask("PROXY STATS", "-NOAUTH Authentication required.");
    client.ask("AUTH secret", "+OK").ask("PROXY CACHE GET k", "$-1");
}
