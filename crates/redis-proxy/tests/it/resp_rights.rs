//! What users may not do: Redis says so in its own words, and its log of that holds what clients have asked for.

use testkit::{RawClient, RedisServer, Reply};

use crate::support::start_resp_in;

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
    other
        .send("WATCH k\r\nCLIENT REPLY OFF\r\nCLIENT KILL TYPE normal\r\nCLIENT REPLY ON\r\n")
        .expect("+OK\r\n+OK\r\n");
    assert!(last.at_end());
}
