//! What users may not do: Redis says so in its own words, and its log of that holds what clients have asked for.

use std::time::Duration;

use testkit::{Proxy, RawClient, RedisServer, Reply, Server, wait_until};

use crate::support::{program, start_resp_in, wait_in_force};

const MODES: [&str; 3] = ["ttl", "tracking", "strict"];

/// What Redis' log of denials holds of a user: each object with its count.
fn denials(redis: &RedisServer, user: &str) -> Vec<(String, i64)> {
    let Reply::Array(entries) = redis.client().command(&["ACL", "LOG", "128"]) else { panic!("a log") };
    let text = |reply: &Reply| match reply {
        Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    };
    let mut found = Vec::new();
    for entry in entries {
        let Reply::Array(fields) = entry else { continue };
        let field =
            |name: &str| fields.iter().position(|field| text(field) == name).map(|at| &fields[at + 1]);
        if field("username").map(text).as_deref() == Some(user)
            && let (Some(object), Some(Reply::Integer(count))) = (field("object").map(text), field("count"))
        {
            found.push((object, *count));
        }
    }
    found.sort();
    found
}

#[test]
fn a_user_who_may_get_only_is_refused_mget_as_redis_does() {
    for mode in MODES {
        let (redis, proxy) = start_resp_in(mode, &[("WORKERS", "1")]);
        proxy.allow_warning("coherence is not in force");
        proxy.allow_warning("the canary cannot be written");
        let rights =
            ["on", ">pw", "~*", "-@all", "+get", "+pttl", "+client", "+info", "+command", "+acl|whoami"];
        redis.client().command(&[&["ACL", "SETUSER", "few"], &rights[..]].concat());
        redis.client().command(&["MSET", "a", "1", "b", "2"]);
        let (mut client, mut direct) = (proxy.resp_client(), RawClient::connect(redis.address()));
        client.ask("AUTH few pw", "+OK").ask("GET a", "$1\r\n1");
        let denied = direct.ask("AUTH few pw", "+OK").send("MGET a b\r\n").line();
        assert!(denied.starts_with("-NOPERM"));
        for _ in 0..3 {
            client.ask("MGET a b", &denied).ask("MGET none", &denied);
        }
        // Once Redis has answered one, they are made of what is known.
        proxy.resp_client().ask("ACL SETUSER few +mget", "+OK");
        let both = "*2\r\n$1\r\n1\r\n$1\r\n2";
        client.ask("MGET a b", both).ask("MGET a b", both);
        redis.reset_stats();
        client.ask("MGET a b", both).ask("MGET b a", "*2\r\n$1\r\n2\r\n$1\r\n1");
        assert_eq!(redis.command_calls("mget"), 0, "{mode}");
        // And no longer than the right lasts.
        proxy.resp_client().ask("ACL SETUSER few -mget", "+OK");
        client.ask("MGET a b", &denied).ask("GET a", "$1\r\n1");
    }
}

/// What a GET or the knowledge that there is no such key would tell, or hashes that are known.
const TOLD: &str = "MGET a|MGET a b|MGET none a none|STRLEN a|GETRANGE a 0 0|SUBSTR a 0 0|GETBIT a 1|EXISTS a|TYPE a|TTL a\
                    |EXISTS none|TYPE none|STRLEN none|HGET none f|HMGET none f g|HGETALL none|HEXISTS none f|HLEN none|HKEYS none\
                    |HVALS none|HSTRLEN none f|SMEMBERS none|SCARD none|SISMEMBER none m|SMISMEMBER none m|LLEN none|LINDEX none 0\
                    |LRANGE none 0 -1|ZCARD none|ZSCORE none m|ZMSCORE none m|ZRANK none m|ZREVRANK none m|HGET h f|HLEN h|HKEYS h";

/// Each server, with the program in front of it in `mode` on one worker.
fn each_server(mode: &'static str) -> impl Iterator<Item = (Server, RedisServer, Proxy)> {
    Server::ALL.into_iter().filter_map(move |server| {
        let redis = server.builder()?.start();
        let settings = [("RESP_PORT", "0"), ("MAX_STALENESS", "5s"), ("WORKERS", "1"), ("COHERENCE", mode)];
        let program = settings.iter().fold(program(), |program, (name, value)| program.set(name, value));
        let proxy = program.set("RESP_COHERENCE", mode).redis(&redis).start();
        if mode != "ttl" {
            wait_in_force(&proxy);
        }
        proxy.allow_warning("coherence is not in force");
        proxy.allow_warning("the canary cannot be written");
        Some((server, redis, proxy))
    })
}

#[test]
fn what_others_have_told_is_refused_to_whom_redis_refuses_it() {
    for mode in ["ttl", "tracking"] {
        for (server, redis, proxy) in each_server(mode) {
            // With the rights that a link is better off with.
            let rights =
                ["on", ">pw", "~*", "-@all", "+get", "+hgetall", "+pttl", "+client", "+info", "+command"];
            let rights = [&rights[..], &["+hello", "+ping", "+touch"]].concat();
            for user in ["here", "there"] {
                redis.client().command(&[&["ACL", "SETUSER", user], &rights[..]].concat());
            }
            redis.client().command(&["MSET", "a", "1", "b", "2"]);
            redis.client().command(&["HSET", "h", "f", "v"]);
            let (mut client, mut direct) = (proxy.resp_client(), RawClient::connect(redis.address()));
            client.ask("AUTH here pw", "+OK");
            direct.ask("AUTH there pw", "+OK");
            let mut asked = 0;
            for line in TOLD.split('|') {
                for _ in 0..2 {
                    client.ask("GET a", "$1\r\n1").ask("GET b", "$1\r\n2").ask("GET none", "$-1");
                    let hash = client.send("HGETALL h\r\n").reply();
                    assert_eq!(hash, b"*2\r\n$1\r\nf\r\n$1\r\nv\r\n");
                    let denied = direct.send(format!("{line}\r\n")).line().replace("User there", "User here");
                    if line.starts_with("HGETALL") {
                        assert_eq!(denied, "*0");
                    } else {
                        assert!(denied.starts_with("-NOPERM"), "{denied}");
                        asked += 1;
                    }
                    let found = client.send(format!("{line}\r\n")).line();
                    assert_eq!(found, denied, "{line} in {mode} behind {server}");
                }
            }
            let (here, there) = (denials(&redis, "here"), denials(&redis, "there"));
            assert_eq!(here, there, "{mode} behind {server}");
            assert_eq!(there.iter().map(|(_, count)| count).sum::<i64>(), asked);
            // One at a time it is allowed; from its first answer on memory tells.
            let mut admin = proxy.resp_client();
            admin.ask("ACL SETUSER here +strlen +mget", "+OK");
            client.ask("STRLEN a", ":1").ask("MGET a b", "*2\r\n$1\r\n1\r\n$1\r\n2").ask("GET a", "$1\r\n1");
            client.ask("GET b", "$1\r\n2");
            redis.reset_stats();
            client.ask("STRLEN b", ":1").ask("STRLEN a", ":1").ask("MGET b a", "*2\r\n$1\r\n2\r\n$1\r\n1");
            assert_eq!(
                redis.command_calls("strlen") + redis.command_calls("mget"),
                0,
                "{mode} behind {server}"
            );
            // Until it is no more.
            admin.ask("ACL SETUSER here -strlen -mget", "+OK");
            for line in ["STRLEN a", "STRLEN b", "MGET a b"] {
                let denied = direct.send(format!("{line}\r\n")).line().replace("User there", "User here");
                client.ask("GET a", "$1\r\n1").ask("GET b", "$1\r\n2").ask(line, &denied);
            }
        }
    }
}

#[test]
fn a_key_that_mget_is_refused_is_logged_as_for_a_client_of_redis() {
    for mode in ["ttl", "tracking"] {
        for (server, redis, proxy) in each_server(mode) {
            for user in ["here", "there"] {
                redis.client().command(&["ACL", "SETUSER", user, "on", ">pw", "~a:*", "+@all"]);
            }
            redis.client().command(&["MSET", "a:1", "1", "a:2", "2", "b:1", "3"]);
            let (mut client, mut direct) = (proxy.resp_client(), RawClient::connect(redis.address()));
            client.ask("AUTH here pw", "+OK");
            direct.ask("AUTH there pw", "+OK");
            for line in
                ["MGET b:1", "MGET b:1 a:1", "MGET a:1 b:1", "MGET a:1 a:2", "MGET a:1 b:1", "MGET b:1"]
            {
                let expected = direct.send(format!("{line}\r\n")).reply();
                let found = client.send(format!("{line}\r\n")).reply();
                assert_eq!(found, expected, "{line} in {mode} behind {server}");
            }
            let (here, there) = (denials(&redis, "here"), denials(&redis, "there"));
            let ([(key, count)], [(other, least)]) = (&here[..], &there[..]) else {
                panic!("{here:?} and {there:?} in {mode} behind {server}")
            };
            // With the time that it has left it is asked for once.
            let most = if mode == "ttl" { *least } else { least + 1 };
            assert!(key == other && (*least..=most).contains(count), "{count} in {mode} behind {server}");
        }
    }
}

#[test]
fn gets_are_not_tried_again_for_whom_redis_refuses_them() {
    for mode in ["ttl", "tracking"] {
        for (server, redis, proxy) in each_server(mode) {
            redis.client().command(&["ACL", "SETUSER", "some", "on", ">pw", "~*", "+@all", "-get"]);
            redis.client().command(&["MSET", "a", "1", "b", "2"]);
            let mut client = proxy.resp_client();
            client.ask("AUTH some pw", "+OK");
            let refused = || denials(&redis, "some").iter().map(|(_, count)| count).sum::<i64>();
            let ask = |client: &mut RawClient| {
                client
                    .ask("MGET a b", "*2\r\n$1\r\n1\r\n$1\r\n2")
                    .ask("MGET b", "*1\r\n$1\r\n2")
                    .ask("PING", "+PONG");
            };
            // A link may have to be made first, and nobody has waited for the first ones.
            wait_until(Duration::from_secs(5), "a GET that is tried", || {
                ask(&mut client);
                refused() > 0
            });
            ask(&mut client);
            let tried = refused();
            assert!(tried <= 4, "{tried} in {mode} behind {server}");
            (0..5).for_each(|_| ask(&mut client));
            assert_eq!(refused(), tried, "{mode} behind {server}");
        }
    }
}

#[test]
fn an_mget_that_names_a_key_twice_asks_for_it_once() {
    for mode in MODES {
        let (redis, proxy) = start_resp_in(mode, &[("WORKERS", "1")]);
        redis.client().command(&["MSET", "k", "1", "other", "2"]);
        let mut client = proxy.resp_client();
        // That its user may is known once it has gone as it is, and that is before the next command is taken up.
        client.ask("MGET other", "*1\r\n$1\r\n2").ask("PING", "+PONG");
        let asked = || {
            let of = |result: &str| {
                proxy.metrics().value(&format!("redis_proxy_lookups_total{{result=\"{result}\"}}"))
            };
            (of("miss"), of("collapsed"))
        };
        let (misses, collapsed) = asked();
        client.ask("MGET k k none k", "*4\r\n$1\r\n1\r\n$1\r\n1\r\n$-1\r\n$1\r\n1");
        assert_eq!(asked(), (misses + 2.0, collapsed), "{mode}");
    }
}

#[test]
fn redis_logs_what_a_client_may_not_once_and_nothing_that_no_client_sent() {
    for mode in MODES {
        let (redis, proxy) = start_resp_in(mode, &[("WORKERS", "1")]);
        proxy.allow_warning("coherence is not in force");
        proxy.allow_warning("the canary cannot be written");
        redis.client().set("a:k", "v");
        // Both may read one key; one has no further right, and the other has all.
        for (user, rights) in [("few", &["-@all", "+get"][..]), ("most", &["+@all"])] {
            redis.client().command(&[&["ACL", "SETUSER", user, "on", ">pw", "~a:*"], rights].concat());
            let denied = "-NOPERM this user has no permissions to access one of the keys used as arguments";
            for _ in 0..5 {
                let mut client = proxy.resp_client();
                client
                    .ask(&format!("AUTH {user} pw"), "+OK")
                    .ask("GET a:k", "$1\r\nv")
                    .ask("GET b:k", denied);
                client.send("WATCH a:k\r\n").line();
            }
            let (keys, commands): (Vec<_>, Vec<_>) =
                denials(&redis, user).into_iter().partition(|(object, _)| object == "b:k");
            // With the time that it has left it is asked for once.
            let most = if mode == "ttl" || user == "few" { 5 } else { 6 };
            assert!(matches!(keys[..], [(_, 5..)]) && keys[0].1 <= most, "{user} in {mode}: {keys:?}");
            for (command, count) in commands {
                let sent = command == "watch";
                let link = ["info", "command|info", "client|no-evict", "client|tracking", "pttl"];
                let once = mode != "ttl" && link.contains(&&*command) && count == 1;
                assert!(sent || once, "{user} in {mode}: {command} {count} times");
            }
        }
    }
}

#[test]
fn who_may_not_see_or_kill_other_clients_does_neither() {
    let (redis, proxy) = start_resp_in("ttl", &[("WORKERS", "1")]);
    let rights = ["on", ">pw", "~*", "+@all", "-client|kill", "-client|list"];
    redis.client().command(&[&["ACL", "SETUSER", "few"], &rights[..]].concat());
    let (mut client, mut other) = (proxy.resp_client(), proxy.resp_client());
    let id = other.send("CLIENT ID\r\n").line()[1..].to_owned();
    client.ask("AUTH few pw", "+OK");
    // With a connection of its own and without.
    for _ in 0..2 {
        for line in ["CLIENT LIST", "CLIENT KILL TYPE normal", &format!("CLIENT KILL ID {id}")] {
            let text = client.send(format!("{line}\r\n")).line();
            assert!(text.starts_with("-NOPERM"), "{line}: {text}");
        }
        client.ask("WATCH k", "+OK");
    }
    client.ask("MULTI", "+OK").send(format!("CLIENT KILL ID {id}\r\n"));
    assert!(client.line().starts_with("-NOPERM"));
    client.ask("EXEC", "-EXECABORT Transaction discarded because of previous errors.");
    client.send("CLIENT REPLY OFF\r\nCLIENT KILL TYPE normal\r\nCLIENT REPLY ON\r\n").expect("+OK\r\n");
    other.ask("PING", "+PONG").ask("CLIENT KILL USER nosuch", "-ERR No such user 'nosuch'");
    other.ask("CLIENT KILL USER few", ":1").ask("CLIENT KILL USER few", ":0");
    assert!(client.at_end());
    let mut last = proxy.resp_client();
    // So that it is on the register.
    last.ask("PING", "+PONG");
    other
        .send("WATCH k\r\nCLIENT REPLY OFF\r\nCLIENT KILL TYPE normal\r\nCLIENT REPLY ON\r\n")
        .expect("+OK\r\n+OK\r\n");
    assert!(last.at_end());
}
