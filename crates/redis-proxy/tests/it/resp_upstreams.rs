//! Lanes to every kind of Redis: over TLS, over a unix socket, with commands by other names.

use std::time::Duration;

use testkit::differential::Side;
use testkit::{Proxy, RedisServer, Reply, Server, wait_until};

use crate::authority::{Authority, at_tls, start_tls};
use crate::resp_differential::differences;
use crate::support::{program, program_without_redis};

const SOON: Duration = Duration::from_secs(10);

/// What uses every lane: shared, pinned, a tunnel, a large value both ways; and a Redis that comes back.
fn serves(proxy: &Proxy, behind: &RedisServer) {
    let mut client = proxy.resp_client();
    client.ask("SET k v", "+OK").ask("GET k", "$1\r\nv").ask("SELECT 3", "+OK").ask("EXISTS k", ":0");
    client.ask("MULTI", "+OK").ask("INCR n", "+QUEUED").ask("EXEC", "*1\r\n:1").ask("BLPOP none 0.01", "*-1");
    let big: Vec<u8> = (0..3 << 20).map(|n: u32| u8::try_from(n % 251).expect("a byte")).collect();
    client.send_command(&[&b"SET"[..], b"big", &big]).expect("+OK\r\n").send("GET big\r\n");
    client.expect(format!("${}\r\n", big.len())).expect(&big).expect("\r\n");
    // A blocked client that dies is one of Redis' no more.
    let mut blocked = proxy.resp_client();
    blocked.send("BLPOP list 0\r\n");
    let waiting = |count: usize| {
        let testkit::Reply::Bulk(info) = behind.client().command(&["INFO", "clients"]) else { return false };
        String::from_utf8_lossy(&info).contains(&format!("blocked_clients:{count}\r\n"))
    };
    wait_until(SOON, "a blocked client", || waiting(1));
    drop(blocked);
    wait_until(SOON, "no blocked client", || waiting(0));
    let mut listener = proxy.resp_client();
    listener.ask("SUBSCRIBE c", "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1");
    client.ask("PUBLISH c hi", ":1");
    listener.expect("*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n");
    // Broken cases may kill clients by their numbers.
    drop((client, listener));
    let redis = RedisServer::start();
    let direct = Side { address: redis.address(), redis: &redis };
    let through = Side { address: proxy.resp_address(), redis: behind };
    let cases = differences([direct, through], 2_000);
    assert!(cases.is_empty(), "{cases:#?}");
    behind.restart();
    wait_until(SOON, "an answer", || proxy.resp_client().send("PING\r\nEXISTS k\r\n").line() == "+PONG");
    wait_until(SOON, "an answer of Redis", || proxy.resp_client().send("EXISTS k\r\n").line() == ":0");
}

#[test]
fn lanes_lead_over_tls() {
    let authority = Authority::new();
    let redis = start_tls(&authority, &["127.0.0.1"], "no");
    let proxy = at_tls(program_without_redis(), &redis, &authority.file("ca.pem"))
        .set("RESP_PORT", "0")
        .set("MAX_STALENESS", "5s");
    serves(
        &proxy
            .set("RESP_MAX_ARGUMENTS", "2147483647")
            .set("RESP_COHERENCE", "off")
            .allow_warning("lost")
            .start(),
        &redis,
    );
}

#[test]
fn lanes_lead_over_a_unix_socket() {
    let redis = RedisServer::start();
    let url = format!("unix://{}", redis.socket_path().display());
    let proxy =
        program_without_redis().set("REDIS_URL", url).set("RESP_PORT", "0").set("MAX_STALENESS", "5s");
    serves(
        &proxy
            .set("RESP_MAX_ARGUMENTS", "2147483647")
            .set("RESP_COHERENCE", "off")
            .allow_warning("lost")
            .start(),
        &redis,
    );
}

#[test]
fn a_command_by_a_name_that_redis_does_not_tell_disturbs_nobody() {
    let names = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&names, "rename-command MULTI MYMULTI\nrename-command BLPOP MYPOP\n").expect("written");
    let redis = RedisServer::builder().config("include", names.path().to_str().expect("text")).start();
    let proxy =
        program().redis(&redis).set("RESP_PORT", "0").set("MAX_STALENESS", "5s").set("WORKERS", "1").start();
    // Whose MULTI has the other name.
    proxy.allow_warning("the canary cannot be written");
    let (mut one, mut other) = (proxy.resp_client(), proxy.resp_client());
    // Redis is asked for its commands once there is a lane.
    wait_until(SOON, "the commands of Redis", || {
        one.ask("SET k v", "+OK");
        redis.command_calls("command") > 0
    });
    wait_until(SOON, "the commands of Redis", || {
        proxy.resp_client().send("NOSUCH\r\n").line();
        proxy.metrics().value("redis_proxy_pin_opens_total") > 0.0
    });
    one.ask("MYMULTI", "+OK").ask("SET k w", "+QUEUED");
    other.ask("GET k", "$1\r\nv");
    one.ask("EXEC", "*1\r\n+OK");
    other.ask("GET k", "$1\r\nw");
    one.send("MYPOP list 0\r\n");
    other.ask("RPUSH list element", ":1");
    one.expect("*2\r\n$4\r\nlist\r\n$7\r\nelement\r\n");
    other.ask("NOSUCH x", "-ERR unknown command 'NOSUCH', with args beginning with: 'x' ");
}

/// They may say something of their connection, which others share.
#[test]
fn a_subcommand_of_client_that_nobody_here_knows_gets_a_connection_of_its_own() {
    let names = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&names, "rename-command COMMAND \"\"\n").expect("written");
    for (server, tells) in [(Server::Valkey81, true), (Server::Valkey91, true), (Server::Valkey81, false)] {
        let Some(builder) = server.builder() else { continue };
        let redis = match tells {
            true => builder.start(),
            false => builder.config("include", names.path().to_str().expect("text")).start(),
        };
        let proxy = program()
            .redis(&redis)
            .set("RESP_PORT", "0")
            .set("MAX_STALENESS", "5s")
            .set("WORKERS", "1")
            .start();
        let pins = || proxy.metrics().value("redis_proxy_pinned_connections");
        let capable = || {
            let Reply::Bulk(list) = redis.client().command(&["CLIENT", "LIST"]) else { return 0 };
            String::from_utf8_lossy(&list).matches(" capa=r").count()
        };
        let (mut client, mut other) = (proxy.resp_client(), proxy.resp_client());
        other.ask("PING", "+PONG");
        if tells {
            let told = || redis.command_calls("command") >= 1;
            wait_until(Duration::from_secs(20), "the commands of this server", told);
        }
        // And has come.
        for _ in 0..3 {
            other.ask("PING", "+PONG");
        }
        client.ask("PING", "+PONG").ask("CLIENT CAPA redirect", "+OK").ask("PING", "+PONG");
        assert_eq!((pins(), capable()), (1.0, 1), "{server:?}");
        assert!(
            client
                .send("CLIENT IMPORT-SOURCE ON\r\n")
                .line()
                .starts_with("-ERR Server is not in import mode")
        );
        other.send("CLIENT LATER x\r\n");
        assert!(other.line().starts_with('-'));
        drop(client);
        wait_until(SOON, "the connection is gone", || (pins(), capable()) == (0.0, 0));
        other.ask("PING", "+PONG");
    }
}

/// Servers before Redis 7 do not tell of subcommands.
#[test]
fn client_is_about_the_clients_of_the_proxy_before_an_old_server_too() {
    let Some(redis) = Server::Redis62.builder() else { return };
    let redis = redis.start();
    let proxy =
        program().redis(&redis).set("RESP_PORT", "0").set("MAX_STALENESS", "5s").set("WORKERS", "1").start();
    let (mut client, mut other) = (proxy.resp_client(), proxy.resp_client());
    client.ask("PING", "+PONG");
    // COMMAND has been read once what it does not name gets a connection of its own.
    wait_until(SOON, "a table of commands", || {
        client.send("NOSUCH\r\n").line();
        proxy.metrics().value("redis_proxy_pin_opens_total") > 0.0
    });
    client.ask("CLIENT ID", ":1").ask("CLIENT SETNAME me", "+OK").ask("CLIENT TRACKING ON BCAST", "+OK");
    assert_eq!(proxy.metrics().value("redis_proxy_pinned_connections"), 1.0);
    other.ask("CLIENT GETNAME", "$-1").ask("CLIENT KILL TYPE normal", ":1").ask("PING", "+PONG");
    assert!(client.at_end());
}
