//! A real redis-server: its ports, its life, its counts.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::path::Path;
use std::thread;

use rustix::net::{AddressFamily, SocketType};
use testkit::{RedisClient, RedisServer, Reply, run_to_end};

use crate::{MOMENT, PATIENCE};

#[test]
fn any_bytes_are_kept_and_found_over_both_sockets() {
    let redis = RedisServer::start();
    let key: Vec<u8> = (0..=255).collect();
    redis.client().set(&key, b"\r\n\0");
    let mut tcp = RedisClient::connect(redis.address());
    assert_eq!(tcp.get(&key), Some(b"\r\n\0".to_vec()));
    assert!(tcp.del(&key));
    assert!(!tcp.del(&key));
    redis.client().set("a", "");
    assert_eq!(tcp.get("a"), Some(Vec::new()));
    RedisClient::connect_unix(redis.socket_path()).flushall();
    assert_eq!(tcp.get("a"), None);
    assert_eq!(
        tcp.command(&["INCR"]),
        Reply::Error("ERR wrong number of arguments for 'incr' command".to_owned())
    );
}

#[test]
fn calls_are_counted_from_the_last_reset() {
    let redis = RedisServer::start();
    assert_eq!(redis.command_calls("get"), 0);
    redis.client().get("a");
    redis.client().get("a");
    redis.client().command(&["CLIENT", "ID"]);
    assert_eq!(redis.command_calls("get"), 2);
    assert_eq!(redis.command_calls("client|id"), 1);
    redis.reset_stats();
    assert_eq!(redis.command_calls("get"), 0);
}

#[test]
fn a_paused_server_answers_once_resumed() {
    let redis = RedisServer::start();
    let mut client = redis.client();
    redis.pause_process();
    let answer = thread::spawn(move || client.get("a"));
    thread::sleep(MOMENT);
    assert!(!answer.is_finished());
    redis.resume_process();
    assert_eq!(answer.join().unwrap(), None);
}

#[test]
fn a_killed_server_refuses_and_comes_back_empty_at_its_port() {
    let redis = RedisServer::start();
    redis.client().set("a", "1");
    let mut before = RedisClient::connect(redis.address());
    redis.kill();
    assert!(before.try_command(&["PING"]).is_err());
    assert_eq!(TcpStream::connect(redis.address()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    redis.restart();
    assert_eq!(RedisClient::connect(redis.address()).get("a"), None);
}

#[test]
fn a_restart_keeps_what_was_to_be_kept() {
    let redis = RedisServer::builder().config("appendonly", "yes").config("appendfsync", "always").start();
    redis.client().set("a", "1");
    redis.restart();
    assert_eq!(redis.client().get("a"), Some(b"1".to_vec()));
}

/// Others would get it from bind(2) to port 0, and be taken for the server.
#[test]
fn the_port_of_a_dead_server_is_kept_for_its_restart() {
    let redis = RedisServer::start();
    redis.kill();
    let stranger = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    assert_eq!(rustix::net::bind(&stranger, &redis.address()), Err(rustix::io::Errno::ADDRINUSE));
    redis.restart();
    RedisClient::connect(redis.address()).set("a", "1");
}

#[test]
fn a_password_is_asked_of_strangers_only() {
    let redis = RedisServer::builder().password("secret").start();
    redis.client().set("a", "1");
    let reply = RedisClient::connect(redis.address()).command(&["GET", "a"]);
    assert_eq!(reply, Reply::Error("NOAUTH Authentication required.".to_owned()));
    assert_eq!(redis.url(), format!("redis://:secret@127.0.0.1:{}", redis.port()));
}

#[test]
fn tls_is_spoken_on_a_port_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (key, certificate) = (file("key.pem"), file("certificate.pem"));
    let openssl = |arguments: &[&str]| {
        let path = std::env::var_os("PATH").unwrap();
        let program =
            std::env::split_paths(&path).map(|folder| folder.join("openssl")).find(|file| file.exists());
        run_to_end(program.expect("this test makes its certificate with openssl"), &[], arguments, PATIENCE)
    };
    let request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let names = ["-subj", "/CN=localhost", "-keyout", &key, "-out", &certificate];
    assert!(openssl(&[&request[..], &names[..]].concat()).status.success());

    let (key, authority) = (Path::new(&key), Path::new(&certificate));
    let redis = RedisServer::builder().tls(authority, key, authority).start();
    assert_ne!(redis.tls_address(), redis.address());
    let address = redis.tls_address().to_string();
    let handshake =
        openssl(&["s_client", "-connect", &address, "-CAfile", &certificate, "-verify_return_error"]);
    assert!(handshake.stdout.contains("Verify return code: 0 (ok)"), "{handshake:?}");
}

#[test]
#[should_panic(expected = "Bad directive or wrong number of arguments")]
fn a_server_that_does_not_start_says_why() {
    RedisServer::builder().config("no-such-directive", "1").start();
}

#[test]
#[should_panic(expected = "it was killed and not restarted")]
fn a_killed_server_cannot_be_paused() {
    let redis = RedisServer::start();
    redis.kill();
    redis.pause_process();
}
