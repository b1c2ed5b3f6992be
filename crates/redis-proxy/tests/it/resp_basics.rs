//! Redis clients without state of their own on a connection to Redis: order, protocols, local answers.

use std::time::Duration;

use testkit::{RawClient, RedisServer, Server, wait_until};

use crate::support::{program, start_resp};

#[test]
fn commands_pass_through_in_both_protocols_and_inline() {
    let (redis, proxy) = start_resp(&[]);
    let mut client = proxy.resp_client();
    client.send_command(&["SET", "k", "v\r\n"]).expect("+OK\r\n");
    client.send_command(&["GET", "k"]).expect("$3\r\nv\r\n\r\n");
    client.ask("set \"a b\" 'c d'", "+OK").ask("GET \"a b\"", "$3\r\nc d");
    client.ask("HMSET h f 1", "+OK").ask("HGETALL h", "*2\r\n$1\r\nf\r\n$1\r\n1");
    client.send("HELLO 3\r\n");
    while client.line() != "*0" {}
    client.ask("HGETALL h", "%1\r\n$1\r\nf\r\n$1\r\n1").ask("GET none", "_");
    assert_eq!(redis.client().get("k").as_deref(), Some(&b"v\r\n"[..]));
}

#[test]
fn errors_are_those_of_redis_to_the_byte() {
    let (redis, proxy) = start_resp(&[]);
    let lines = [
        "NOSUCH a b",
        "GET",
        "SELECT x",
        "SELECT -1",
        "SELECT 99",
        "SELECT",
        "HELLO x",
        "HELLO 4",
        "HELLO 3 FOO",
        "HELLO 2 SETNAME \"a b\"",
        "HELLO 2 AUTH x y",
        "HELLO 2 SETNAME",
        "AUTH",
        "AUTH a",
        "AUTH a b",
        "AUTH a b c",
        "PING a b",
        "ECHO",
        "RESET 1",
        "CLIENT",
        "CLIENT FOO",
        "CLIENT ID 1",
        "CLIENT SETNAME",
        "CLIENT SETNAME \"a\\nb\"",
        "CLIENT REPLY foo",
        "CLIENT LIST TYPE foo",
        "CLIENT LIST ID x",
        "CLIENT LIST ID 9223372036854775808",
        "CLIENT LIST FOO",
        "CLIENT KILL",
        "CLIENT KILL a:1",
        "CLIENT KILL ID 0",
        "CLIENT KILL TYPE foo",
        "CLIENT KILL FOO bar",
        "CLIENT SETINFO lib-name x",
        "CLIENT NO-TOUCH on",
        "CLIENT UNBLOCK x",
        "EXEC",
        "DISCARD",
        "MULTI 1",
        "WATCH",
        "BLPOP k",
        "SUBSCRIBE",
        "WAIT a b",
        "\"a\\r\\nb\"",
    ];
    for line in lines {
        let mut direct = testkit::RawClient::connect(redis.address());
        let mut client = proxy.resp_client();
        let expected = direct.send(format!("{line}\r\n")).line();
        let found = client.send(format!("{line}\r\n")).line();
        assert_eq!(found, expected, "{line}");
        // WAIT and BLPOP have gone to pins; after an error the connection serves on.
        client.ask("SET k v", "+OK");
    }
}

#[test]
fn replies_leave_in_the_order_of_the_commands_whatever_their_way() {
    let (_redis, proxy) = start_resp(&[]);
    let mut client = proxy.resp_client();
    let pipeline = "SET a 1\r\nPING\r\nGET a\r\nEVAL \"return redis.call('incr','a')\" 0\r\nGET a\r\nECHO x\r\nMULTI\r\n\
                    INCR a\r\nEXEC\r\nGET a\r\nSELECT 1\r\nGET a\r\nSELECT 0\r\nBLPOP none 0.01\r\nGET a\r\n";
    client.send(pipeline).expect(
        "+OK\r\n+PONG\r\n$1\r\n1\r\n:2\r\n$1\r\n2\r\n$1\r\nx\r\n+OK\r\n+QUEUED\r\n*1\r\n:3\r\n$1\r\n3\r\n+OK\r\n$-1\r\n+OK\r\n\
         *-1\r\n$1\r\n3\r\n",
    );
}

#[test]
fn what_the_proxy_cannot_answer_itself_keeps_its_place_behind_a_pin() {
    let (_redis, proxy) = start_resp(&[]);
    let mut client = proxy.resp_client();
    client.ask("WATCH k", "+OK");
    for _ in 0..100 {
        client.send("CLIENT UNBLOCK x\r\nGET k\r\nSELECT x\r\nGET k\r\n");
        client.expect("-ERR value is not an integer or out of range\r\n$-1\r\n");
        client.expect("-ERR value is not an integer or out of range\r\n$-1\r\n");
    }
}

#[test]
fn hello_in_the_middle_of_a_pipeline_changes_what_follows_it_alone() {
    let (_redis, proxy) = start_resp(&[]);
    let mut client = proxy.resp_client();
    client.send("HSET h f v\r\nHGETALL h\r\nHELLO 3 SETNAME me\r\nHGETALL h\r\nCLIENT GETNAME\r\nHELLO 2\r\nHGETALL h\r\n");
    client.expect(":1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n");
    while client.line() != "*0" {}
    client.expect("%1\r\n$1\r\nf\r\n$1\r\nv\r\n$2\r\nme\r\n*14\r\n");
    while client.line() != "*0" {}
    client.expect("*2\r\n$1\r\nf\r\n$1\r\nv\r\n");
}

#[test]
fn ten_thousand_pipelined_commands_are_answered_in_order() {
    let (_redis, proxy) = start_resp(&[]);
    let mut client = proxy.resp_client();
    let mut sender = client.twin();
    let sending = std::thread::spawn(move || {
        let commands: String = (0..10_000).map(|n| format!("ECHO {n}\r\nGETSET k {n}\r\n")).collect();
        sender.send(commands);
    });
    for n in 0..10_000_usize {
        let digits = n.to_string().len();
        client.expect(format!("${digits}\r\n{n}\r\n"));
        match n.checked_sub(1) {
            None => client.expect("$-1\r\n"),
            Some(last) => client.expect(format!("${}\r\n{last}\r\n", last.to_string().len())),
        };
    }
    sending.join().expect("all sent");
    // And in one go along one lane.
    client.send("INCR n\r\n".repeat(10_000));
    for n in 1..=10_000 {
        client.expect(format!(":{n}\r\n"));
    }
}

#[test]
fn databases_are_separate_and_checked_by_redis() {
    let (redis, proxy) = start_resp(&[]);
    let mut client = proxy.resp_client();
    client.ask("SET k zero", "+OK").ask("SELECT 5", "+OK").ask("GET k", "$-1").ask("SET k five", "+OK");
    client.ask("SELECT 16", "-ERR DB index is out of range").ask("GET k", "$4\r\nfive");
    assert_eq!(redis.client().get("k").as_deref(), Some(&b"zero"[..]));
    proxy.resp_client().ask("GET k", "$4\r\nzero");
}

#[test]
fn client_commands_are_about_the_clients_of_the_proxy() {
    let (_redis, proxy) = start_resp(&[("WORKERS", "2")]);
    let (mut one, mut two) = (proxy.resp_client(), proxy.resp_client());
    let id =
        |client: &mut testkit::RawClient| client.send("CLIENT ID\r\n").line()[1..].parse::<u64>().unwrap();
    let (first, second) = (id(&mut one), id(&mut two));
    assert_ne!(first, second);
    one.ask("CLIENT SETNAME one", "+OK").ask("CLIENT GETNAME", "$3\r\none");
    let list = String::from_utf8(two.send("CLIENT LIST\r\n").bulk()).unwrap();
    assert!(list.contains(&format!("id={first} ")) && list.contains(" name=one "), "{list}");
    assert!(list.contains(&format!("id={second} ")), "{list}");
    for nobody in ["0", "-1", "-1 0"] {
        two.send(format!("CLIENT LIST ID {nobody}\r\n")).expect("$0\r\n\r\n");
    }
    // Its fields are those of the client, and it is known by its last command.
    one.ask("MULTI", "+OK").ask("PING", "+QUEUED").ask("GET k", "+QUEUED");
    let list = String::from_utf8(two.send(format!("CLIENT LIST ID {first}\r\n")).bulk()).unwrap();
    assert!(list.contains(" flags=x ") && list.contains(" multi=2 ") && list.contains(" cmd=get "), "{list}");
    one.ask("DISCARD", "+OK");
    two.ask("CLIENT KILL USER nobody", "-ERR No such user 'nobody'").ask("CLIENT KILL TYPE replica", ":0");
    two.ask(&format!("CLIENT KILL ID {first}"), ":1");
    assert!(one.at_end());
    two.ask("CLIENT KILL ID 999999", ":0").ask(&format!("CLIENT KILL ID {second}"), ":0");
    two.ask(&format!("CLIENT KILL ID {second} SKIPME no"), ":1");
    assert!(two.at_end());
}

#[test]
fn client_reply_off_and_skip_drop_replies_and_nothing_else() {
    let (_redis, proxy) = start_resp(&[]);
    let mut client = proxy.resp_client();
    client.send("CLIENT REPLY SKIP\r\nINCR a\r\nINCR a\r\n").expect(":2\r\n");
    client.send("CLIENT REPLY SKIP\r\nPING\r\nPING\r\n").expect("+PONG\r\n");
    client.send("CLIENT REPLY OFF\r\nINCR a\r\nPING\r\nINCR a\r\nCLIENT REPLY ON\r\nGET a\r\n");
    client.expect("+OK\r\n$1\r\n4\r\n");
}

#[test]
fn reset_makes_a_client_as_it_came_from_every_state() {
    let (_redis, proxy) = start_resp(&[]);
    let states: [(&str, &str); 6] = [
        ("SELECT 3", "+OK\r\n"),
        ("MULTI\r\nSET k v", "+OK\r\n+QUEUED\r\n"),
        ("WATCH k", "+OK\r\n"),
        (
            "SUBSCRIBE a b",
            "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n",
        ),
        ("CLIENT TRACKING ON BCAST", "+OK\r\n"),
        ("CLIENT REPLY OFF\r\nPING", ""),
    ];
    for (state, reply) in states {
        let mut client = proxy.resp_client();
        client.ask("CLIENT SETNAME me", "+OK");
        client.send(format!("{state}\r\n")).expect(reply);
        client.ask("RESET", "+RESET").ask("CLIENT GETNAME", "$-1").ask("PING", "+PONG");
        client.ask("INCR counter", ":1").ask("DEL counter", ":1").ask("EXEC", "-ERR EXEC without MULTI");
    }
    let mut client = proxy.resp_client();
    client.send("HELLO 3\r\n");
    while client.line() != "*0" {}
    client.ask("GET none", "_").ask("RESET", "+RESET").ask("GET none", "$-1");
    testkit::wait_until(std::time::Duration::from_secs(5), "no pin is left", || {
        proxy.metrics().value("redis_proxy_pinned_connections") == 0.0
    });
}

#[test]
fn quit_is_answered_and_closes() {
    let (_redis, proxy) = start_resp(&[]);
    let mut client = proxy.resp_client();
    client.send("SET a 1\r\nQUIT\r\nSET a 2\r\n").expect("+OK\r\n+OK\r\n");
    assert!(client.at_end());
    proxy.resp_client().ask("GET a", "$1\r\n1");
}

#[test]
fn who_was_killed_is_gone_before_that_is_said() {
    let (_redis, proxy) = start_resp(&[("WORKERS", "2")]);
    let mut client = proxy.resp_client();
    client.ask("SET k v", "+OK");
    for round in 0..300 {
        let mut victim = proxy.resp_client();
        let id = victim.send("CLIENT ID\r\n").line()[1..].to_owned();
        if round % 3 == 0 {
            victim.ask("WATCH k", "+OK");
        }
        client.ask(&format!("CLIENT KILL ID {id}"), ":1").send(format!("CLIENT LIST ID {id}\r\n"));
        assert_eq!(client.bulk(), b"", "{round}");
        // Nor does it do anything afterwards.
        let _ = victim.try_send("SET k w\r\n");
        assert!(victim.at_end());
    }
    client.ask("GET k", "$1\r\nv");
    // Two that kill each other, and one that kills itself among others.
    let mut pair = [proxy.resp_client(), proxy.resp_client()];
    let ids = pair.each_mut().map(|one| one.send("CLIENT ID\r\n").line()[1..].to_owned());
    for (one, other) in [(0, 1), (1, 0)] {
        let _ = pair[one].try_send(format!("CLIENT KILL ID {}\r\n", ids[other]));
    }
    assert!(pair.iter_mut().any(RawClient::at_end));
    let mut last = proxy.resp_client();
    last.send("CLIENT KILL TYPE normal SKIPME no\r\n");
    assert!(last.line().starts_with(':'));
    assert!(last.at_end() && client.at_end());
}

#[test]
fn clients_are_killed_by_their_age_where_redis_knows_of_that() {
    for server in Server::ALL {
        let Some(builder) = server.builder() else { continue };
        let redis = builder.start();
        let proxy = program().redis(&redis).set("RESP_PORT", "0").set("RESP_COHERENCE", "off").start();
        let (mut client, mut direct) = (proxy.resp_client(), RawClient::connect(redis.address()));
        let mut knows = false;
        for filter in
            ["MAXAGE 1000000", "MAXAGE 0", "MAXAGE -1", "MAXAGE x", "MAXAGE", "MAXAGE 1000000 SKIPME no"]
        {
            let expected = direct.send(format!("CLIENT KILL {filter}\r\n")).line();
            client.ask(&format!("CLIENT KILL {filter}"), &expected);
            knows |= expected == ":0";
            let queued = direct.ask("MULTI", "+OK").send(format!("CLIENT KILL {filter}\r\n")).line();
            client.ask("MULTI", "+OK").ask(&format!("CLIENT KILL {filter}"), &queued);
            let expected = direct.send("EXEC\r\n").reply();
            assert_eq!(client.send("EXEC\r\n").reply(), expected, "{filter} in MULTI behind {server}");
        }
        assert_eq!(knows, !matches!(server, Server::Redis62 | Server::Redis70), "{server}");
        let mut old = proxy.resp_client();
        let id = old.send("CLIENT ID\r\n").line()[1..].to_owned();
        if knows {
            client.ask(&format!("CLIENT KILL MAXAGE 100 ID {id}"), ":0");
            let kill = format!("CLIENT KILL MAXAGE 1 ID {id}\r\n");
            wait_until(Duration::from_secs(10), "a second", || client.send(&kill).line() == ":1");
            assert!(old.at_end());
        }
    }
}

/// A pool that looks whether a connection has ended must not take one that is about to; and a place is free at once.
#[test]
fn the_end_comes_with_the_answer_to_quit() {
    let (_redis, proxy) = start_resp(&[("MAX_CLIENTS", "1")]);
    let mut kept = Vec::new();
    for _ in 0..50 {
        let mut client = proxy.resp_client();
        client.ask("PING", "+PONG").ask("QUIT", "+OK");
        assert!(!client.is_silent_for(Duration::from_millis(1)) && client.at_end());
        kept.push(client);
    }
}

/// Redis frees a client before it accepts the next (server.c, `beforeSleep`).
#[test]
fn a_place_is_free_again_after_quit_no_less_often_than_at_redis() {
    let (_behind, proxy) = start_resp(&[("MAX_CLIENTS", "1")]);
    let redis = RedisServer::start();
    let mut admin = redis.client();
    // Of which the admin has one.
    admin.command(&["CONFIG", "SET", "maxclients", "2"]);
    let is_let_in = |client: &mut RawClient| client.send("PING\r\n").line() == "+PONG";
    let mut refused = [0, 0];
    let addresses = [proxy.resp_address(), redis.address()];
    for round in 0..100 {
        let side = round % 2;
        let mut client = RawClient::connect(addresses[side]);
        wait_until(Duration::from_secs(10), "a place", || {
            let is_in = is_let_in(&mut client);
            if !is_in {
                client = RawClient::connect(addresses[side]);
            }
            is_in
        });
        client.ask("QUIT", "+OK");
        let mut next = RawClient::connect(addresses[side]);
        if is_let_in(&mut next) {
            next.ask("QUIT", "+OK");
        } else {
            refused[side] += 1;
        }
    }
    let [here, there] = refused;
    assert!(here <= there, "{here} of 50 refused here, {there} at Redis");
}
