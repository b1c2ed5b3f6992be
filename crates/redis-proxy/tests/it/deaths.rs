//! A thread that dies: said in the log, and the end of the program with 70.

use std::io::{Read, pipe};

use testkit::{HttpClient, RedisClient, RedisServer, not_run};

use crate::bare_program::{BareProgram, address, read_to};

/// Starts a program one thread of which dies when it is asked whether it runs, and asks.
fn die(part: &str, settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let redis = RedisServer::start();
    let (mut reader, stderr) = pipe().expect("a pipe");
    let settings = [&[("REDIS_PROXY_DIES", part), ("WORKERS", "2")], settings].concat();
    let mut program = BareProgram::start(&redis, &settings, stderr);
    let (line, _) = read_to("listening", &mut reader);
    if let Some(resp) = address(&line, "resp") {
        // Starts what reads for Redis clients.
        RedisClient::connect(resp).command(&["GET", "k"]);
    }
    let admin = address(&line, "admin").expect("an admin port");
    // Its connection may be cut before the answer.
    let mut client = HttpClient::connect(admin);
    let _ = client.try_send("GET /livez HTTP/1.1\r\nHost: h\r\n\r\n");
    let code = program.wait_exit().code();
    let mut log = String::new();
    reader.read_to_string(&mut log).expect("a log");
    (code, log)
}

/// A release build has nothing that does.
fn dies_at_will() -> bool {
    if !cfg!(debug_assertions) {
        not_run("no thread of a release build dies at will");
    }
    cfg!(debug_assertions)
}

#[test]
fn a_thread_that_dies_is_told_and_ends_the_program_with_70() {
    if !dies_at_will() {
        return;
    }
    let tracking = &[("COHERENCE", "tracking"), ("REDIS_LINKS", "2")];
    let resp = &[("RESP_PORT", "0")];
    for (part, settings) in [
        ("main", &[][..]),
        ("worker-0", &[]),
        ("worker-1", resp),
        ("admin", &[]),
        ("link-0", tracking),
        ("link-1", tracking),
        // In mode `ttl` it is there for Redis clients alone.
        ("link-0", resp),
    ] {
        eprintln!("{part} dies");
        let (code, log) = die(part, settings);
        assert_eq!(code, Some(70), "{part}: {log}");
        assert!(log.contains("panicked at"), "{log}");
        assert!(log.contains(&format!("\"part\":\"{part}\"")), "{log}");
    }
}

#[test]
fn the_death_of_the_thread_that_writes_the_log_is_told_by_another_way_and_holds_up_nobody() {
    if !dies_at_will() {
        return;
    }
    let redis = RedisServer::start();
    let (mut reader, stderr) = pipe().expect("a pipe");
    let mut program = BareProgram::start(&redis, &[("REDIS_PROXY_DIES", "log")], stderr);
    assert_eq!(program.wait_exit().code(), Some(70));
    let mut log = String::new();
    reader.read_to_string(&mut log).expect("a log");
    assert!(log.contains("thread 'log' panicked"), "{log}");
    assert!(log.contains("the thread that writes the log has died, so the program ends"), "{log}");
}
