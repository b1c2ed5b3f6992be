//! The scripted Redis: as a real one until the script begins.

use std::time::{Duration, Instant};

use testkit::{Action, End, HttpClient, RedisClient, RedisServer, Reply, ScriptedRedis};

use crate::{MOMENT, PATIENCE};

#[test]
fn a_connection_is_set_up_as_with_a_real_redis() {
    let real = RedisServer::start();
    let scripted = ScriptedRedis::start(|_, _| Action::Close);
    let commands: [&[&str]; 8] = [
        &["PING"],
        &["PING", "a"],
        &["HELLO", "4"],
        &["SELECT", "1"],
        &["CLIENT", "SETNAME", "a"],
        &["CLIENT", "NO-EVICT", "on"],
        &["READONLY"],
        &["NONSENSE"],
    ];
    for command in commands {
        let [expected, found] =
            [real.address(), scripted.address()].map(|to| RedisClient::connect(to).command(command));
        let is_cluster_only = command == ["READONLY"];
        assert!(found == expected || is_cluster_only, "{command:?}: {found:?}, expected {expected:?}");
    }
}

/// The reply to HELLO with the numbers of the connection and the server's version taken out.
fn hello(address: std::net::SocketAddr, version: &str) -> String {
    let mut client = HttpClient::connect(address);
    client.send(format!("*2\r\n$5\r\nHELLO\r\n$1\r\n{version}\r\n"));
    let mut reply = String::new();
    while !reply.ends_with("modules\r\n*0\r\n") {
        reply.push_str(&String::from_utf8(client.read_some(1024).unwrap()).unwrap());
    }
    let is_own = |before: &str| before == "id" || before == "version";
    let lines: Vec<&str> = reply.split("\r\n").collect();
    let kept = lines.iter().enumerate().filter(|(at, _)| {
        !(1..=2).any(|back| at.checked_sub(back).is_some_and(|before| is_own(lines[before])))
    });
    kept.map(|(_, line)| *line).collect::<Vec<_>>().join(" ")
}

#[test]
fn hello_is_answered_in_both_protocols_as_by_a_real_redis() {
    let real = RedisServer::start();
    let scripted = ScriptedRedis::start(|_, _| Action::Close);
    for version in ["2", "3"] {
        assert_eq!(hello(scripted.address(), version), hello(real.address(), version));
    }
}

#[test]
fn an_answer_can_be_replaced_and_hello_refused() {
    let scripted = ScriptedRedis::builder()
        .refuse_hello()
        .answer("client tracking", "-ERR no\r\n")
        .start(|_, _| Action::Close);
    let mut client = RedisClient::connect(scripted.address());
    let Reply::Error(text) = client.command(&["HELLO", "3"]) else { panic!("HELLO is not refused") };
    assert!(text.starts_with("ERR unknown command"));
    assert_eq!(client.command(&["CLIENT", "TRACKING", "ON"]), Reply::Error("ERR no".to_owned()));
    assert_eq!(client.command(&["CLIENT", "SETNAME", "a"]), Reply::Simple("OK".to_owned()));
}

#[test]
fn the_script_sees_the_key_and_counts_over_all_connections() {
    let scripted = ScriptedRedis::start(|key, nth| Action::value([key, nth.to_string().as_bytes()].concat()));
    for (key, value) in [("a", "a0"), ("b", "b1"), ("a", "a2")] {
        assert_eq!(RedisClient::connect(scripted.address()).get(key), Some(value.into()));
    }
    assert_eq!((scripted.calls("GET"), scripted.accepted()), (3, 3));
    assert_eq!(scripted.commands()[1], [b"GET".to_vec(), b"b".to_vec()]);
}

#[test]
fn a_connection_is_closed_before_or_after_a_reply() {
    let scripted = ScriptedRedis::start(|key, _| match key {
        b"cut" => Action::ReplyThenClose(b"$10\r\nabc".to_vec()),
        _ => Action::Close,
    });
    for (key, before) in [("cut", "$10\r\nabc"), ("none", "")] {
        let mut client = HttpClient::connect(scripted.address());
        client.send(format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len()));
        if !before.is_empty() {
            assert_eq!(client.end(), End::Bytes(before.into()));
        }
        assert_eq!(client.end(), End::Closed);
    }
}

#[test]
fn a_silent_connection_stays_open_and_is_read() {
    let scripted = ScriptedRedis::start(|_, _| Action::Silence);
    let mut client = HttpClient::connect(scripted.address());
    client.send("*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nPING\r\n");
    scripted.wait_calls("PING", 1, PATIENCE);
    client.set_read_timeout(MOMENT);
    assert_eq!(client.end(), End::Open);
    assert_eq!(scripted.connections(), 1);
}

#[test]
fn a_slow_reply_comes_in_pieces() {
    let every = Duration::from_millis(20);
    let scripted =
        ScriptedRedis::start(move |_, _| Action::Slow { bytes: b"$3\r\nabc\r\n".to_vec(), chunk: 4, every });
    let before = Instant::now();
    assert_eq!(RedisClient::connect(scripted.address()).get("a"), Some(b"abc".to_vec()));
    assert!(before.elapsed() >= 2 * every);
}

#[test]
fn bytes_nobody_asked_for_reach_all_connections() {
    let scripted = ScriptedRedis::start(|_, _| Action::Close);
    let mut clients = [HttpClient::connect(scripted.address()), HttpClient::connect(scripted.address())];
    testkit::wait_until(PATIENCE, "two connections", || scripted.connections() == 2);
    scripted.send_to_all(">2\r\n");
    for client in &mut clients {
        assert_eq!(client.end(), End::Bytes(b">2\r\n".to_vec()));
    }
    drop(scripted);
    for client in &mut clients {
        assert_eq!(client.end(), End::Closed);
    }
}

#[test]
#[should_panic(expected = "in vain for 1 GET, there were 0")]
fn a_command_that_does_not_come_is_reported() {
    ScriptedRedis::start(|_, _| Action::Close).wait_calls("GET", 1, MOMENT);
}
