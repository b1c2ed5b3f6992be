//! The faults between a client and a real redis-server.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use testkit::{End, FaultProxy, HttpClient, RedisClient, RedisServer, Reply, wait_until};

use crate::{MOMENT, PATIENCE};

fn start() -> (RedisServer, FaultProxy) {
    let redis = RedisServer::start();
    let faults = FaultProxy::start(redis.address());
    (redis, faults)
}

#[test]
fn large_values_pass_unchanged_both_ways() {
    let (_redis, faults) = start();
    let value: Vec<u8> = (0..5_000_000u32).map(|number| (number % 251) as u8).collect();
    let mut client = RedisClient::connect(faults.address());
    client.set("a", &value);
    assert!(client.get("a") == Some(value));
}

#[test]
fn a_delay_is_added_each_way_and_not_to_each_piece() {
    let (_redis, faults) = start();
    let mut client = RedisClient::connect(faults.address());
    client.set("a", vec![b'x'; 1_000_000]);
    faults.delay(MOMENT);
    let before = Instant::now();
    assert_eq!(client.get("a").unwrap().len(), 1_000_000);
    assert!(before.elapsed() >= 2 * MOMENT);
    // A million bytes are 16 reads at least: delayed one after the other they take 16 moments.
    assert!(before.elapsed() < 8 * MOMENT, "{:?}", before.elapsed());
}

#[test]
fn a_change_of_mode_acts_on_what_waits() {
    let (redis, faults) = start();
    for hold in [|faults: &FaultProxy| faults.delay(Duration::from_secs(60)), FaultProxy::stall] {
        let mut client = RedisClient::connect(faults.address());
        hold(&faults);
        let calls = redis.command_calls("get");
        let answer = thread::spawn(move || client.get("a"));
        thread::sleep(MOMENT);
        assert_eq!(redis.command_calls("get"), calls);
        assert!(!answer.is_finished());
        faults.pass();
        assert_eq!(answer.join().unwrap(), None);
    }
}

#[test]
fn chunks_arrive_one_by_one() {
    let (_redis, faults) = start();
    faults.chunk(1);
    let mut client = HttpClient::connect(faults.address());
    // They meet in the receiver's buffer when this thread is late, but not always.
    wait_until(PATIENCE, "a reply in pieces", || {
        let before = Instant::now();
        client.send("PING\r\n");
        let mut pieces = Vec::new();
        while pieces.concat() != b"+PONG\r\n" {
            pieces.push(client.read_some(1024).unwrap());
        }
        // 13 bytes, each way in turn, with a pause of 0.2 ms before each but the first of a way.
        assert!(before.elapsed() >= Duration::from_millis(2), "there is a pause between chunks");
        pieces.len() >= 3
    });
}

#[test]
fn stalled_replies_are_to_commands_that_arrived() {
    let (redis, faults) = start();
    faults.stall_replies();
    let mut client = RedisClient::connect(faults.address());
    let answer = thread::spawn(move || client.set("a", "1"));
    wait_until(PATIENCE, "the SET to arrive", || redis.client().get("a").is_some());
    thread::sleep(MOMENT);
    assert!(!answer.is_finished());
    faults.pass();
    answer.join().unwrap();
}

#[test]
fn stalled_commands_do_not_hold_back_what_the_server_says() {
    let (redis, faults) = start();
    let mut client = HttpClient::connect(faults.address());
    client.send("SUBSCRIBE news\r\n");
    while !client.read_some(1024).unwrap().ends_with(b":1\r\n") {}
    faults.stall_commands();
    client.send("SUBSCRIBE more\r\n");
    assert_eq!(redis.client().command(&["PUBLISH", "news", "today"]), Reply::Integer(1));
    while !client.read_some(1024).unwrap().ends_with(b"today\r\n") {}
    client.set_read_timeout(MOMENT);
    assert_eq!(client.end(), End::Open);
    faults.pass();
    client.set_read_timeout(PATIENCE);
    while !client.read_some(1024).unwrap().ends_with(b":2\r\n") {}
}

#[test]
fn jitter_delays_each_piece_by_its_own_time_and_keeps_their_order() {
    let (redis, faults) = start();
    redis.client().set("a", "1");
    let mut client = RedisClient::connect(faults.address());
    faults.jitter(MOMENT);
    let mut took = Vec::new();
    for _ in 0..20 {
        let before = Instant::now();
        assert_eq!(client.get("a"), Some(b"1".to_vec()));
        took.push(before.elapsed());
    }
    // Uniform between nothing and two moments in all.
    assert!(took.iter().min() < Some(&MOMENT) && took.iter().max() > Some(&MOMENT), "{took:?}");
}

#[test]
fn a_client_that_leaves_a_stalled_link_is_noticed() {
    let (redis, faults) = start();
    let mut client = HttpClient::connect(faults.address());
    faults.wait_connections(1, PATIENCE);
    faults.stall();
    client.send("SET a 1\r\n");
    drop(client);
    faults.wait_connections(0, PATIENCE);
    assert_eq!(redis.client().get("a"), None);
    faults.pass();
    wait_until(PATIENCE, "the SET to arrive", || redis.client().get("a").is_some());
    assert_eq!(faults.accepted(), 1);
}

#[test]
fn a_reset_reaches_every_client_whatever_the_mode() {
    let (_redis, faults) = start();
    for mode in [FaultProxy::pass, FaultProxy::stall, FaultProxy::stall_replies] {
        let mut clients = [HttpClient::connect(faults.address()), HttpClient::connect(faults.address())];
        faults.wait_connections(2, PATIENCE);
        mode(&faults);
        clients[1].send("GET a\r\n");
        thread::sleep(MOMENT);
        faults.reset();
        assert_eq!(faults.connections(), 0);
        clients[0].set_read_timeout(PATIENCE);
        assert_eq!(clients[0].end(), End::Reset);
        while let End::Bytes(_) = clients[1].end() {}
        assert_eq!(clients[1].end(), End::Closed, "a reset is told once");
    }
}

#[test]
fn a_reset_frees_a_link_whose_client_does_not_read() {
    let (redis, faults) = start();
    redis.client().set("a", vec![b'x'; 30_000_000]);
    let mut client = HttpClient::connect_with_receive_buffer(faults.address(), 4096);
    client.send("GET a\r\n");
    let sent = || {
        let Reply::Bulk(info) = redis.client().command(&["INFO", "stats"]) else { panic!("INFO is refused") };
        let info = String::from_utf8(info).unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:"));
        line.unwrap().parse::<u64>().unwrap()
    };
    wait_until(PATIENCE, "all buffers to be full", || {
        let before = sent();
        thread::sleep(4 * MOMENT);
        // The answers to INFO count too.
        before > 1_000_000 && sent() < before + 100_000
    });
    faults.reset();
    assert_eq!(faults.connections(), 0);
}

#[test]
fn refused_clients_come_again_and_those_there_are_live_on() {
    let (_redis, faults) = start();
    let mut before = RedisClient::connect(faults.address());
    before.set("a", "1");
    faults.refuse();
    assert_eq!(TcpStream::connect(faults.address()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(before.get("a"), Some(b"1".to_vec()));
    faults.accept();
    assert_eq!(RedisClient::connect(faults.address()).get("a"), Some(b"1".to_vec()));
    assert_eq!(faults.accepted(), 2);
}

#[test]
fn a_client_of_a_target_that_is_gone_is_reset() {
    let (redis, faults) = start();
    redis.kill();
    assert_eq!(HttpClient::connect(faults.address()).end(), End::Reset);
    assert_eq!(faults.connections(), 0);
}

#[test]
fn the_end_is_passed_on_in_both_directions() {
    let (redis, faults) = start();
    let mut leaves = HttpClient::connect(faults.address());
    leaves.send("PING\r\n");
    leaves.shutdown_write();
    assert_eq!(leaves.end(), End::Bytes(b"+PONG\r\n".to_vec()));
    assert_eq!(leaves.end(), End::Closed);
    let mut left = HttpClient::connect(faults.address());
    faults.wait_connections(1, PATIENCE);
    redis.kill();
    assert_ne!(left.end(), End::Open);
}

#[test]
fn new_clients_go_to_the_new_target() {
    let (old, faults) = start();
    let new = RedisServer::start();
    old.client().set("a", "old");
    new.client().set("a", "new");
    let mut before = RedisClient::connect(faults.address());
    faults.wait_connections(1, PATIENCE);
    faults.retarget(new.address());
    assert_eq!(RedisClient::connect(faults.address()).get("a"), Some(b"new".to_vec()));
    assert_eq!(before.get("a"), Some(b"old".to_vec()));
}

#[test]
#[should_panic(expected = "in vain for 1 connections, there are 0")]
fn a_connection_that_does_not_come_is_reported() {
    let faults = FaultProxy::start("127.0.0.1:1");
    faults.wait_connections(1, MOMENT);
}
