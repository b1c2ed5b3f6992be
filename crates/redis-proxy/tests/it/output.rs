//! Standard error and standard output that cannot be written, or that nobody reads.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write, pipe};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testkit::{HttpClient, Metrics, RedisServer, metrics, wait_until};

use crate::bare_program::{BareProgram, PATIENCE, listening};

fn dropped(metrics: &Metrics) -> f64 {
    metrics.value("redis_proxy_log_lines_dropped_total")
}

#[test]
fn a_log_on_a_full_disk_costs_lines_and_nothing_else() {
    let redis = RedisServer::start();
    redis.client().set("k", "v");
    // Where it listens is told by nobody, so it is told where.
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let (port, admin) = (free(), free());
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let settings = [("PORT", port.as_str()), ("ADMIN_PORT", &admin), ("ACCESS_LOG", "1")];
    let mut program = BareProgram::start(&redis, &settings, full);
    let at = |port: &str| SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().unwrap()));
    wait_until(PATIENCE, "it to listen", || TcpStream::connect(at(&admin)).is_ok());
    let mut client = HttpClient::connect(at(&port));
    for _ in 0..100 {
        assert_eq!(client.get("/k").text(), "v");
    }
    wait_until(PATIENCE, "the loss to be counted", || dropped(&metrics(at(&admin))) >= 101.0);
    drop(client);
    program.signal(testkit::Signal::TERM);
    assert_eq!(program.wait_exit().code(), Some(0));
}

#[test]
fn a_reader_of_the_log_that_goes_away_takes_nothing_with_it() {
    for mode in ["ttl", "tracking"] {
        let redis = RedisServer::start();
        let (mut reader, stderr) = pipe().unwrap();
        let mut program = BareProgram::start(&redis, &[("COHERENCE", mode), ("WORKERS", "2")], stderr);
        let (http, admin) = listening(&mut reader);
        drop(reader);
        redis.kill();
        wait_until(PATIENCE, "the loss of redis", || HttpClient::connect(admin).get("/readyz").status == 503);
        redis.restart();
        redis.client().set("k", "v");
        // Clients that come one after the other go to both workers.
        let mut clients: Vec<_> = (0..4).map(|_| HttpClient::connect(http)).collect();
        for client in &mut clients {
            wait_until(PATIENCE, "redis to be back", || client.get("/k").status == 200);
        }
        assert_eq!(HttpClient::connect(admin).get("/livez").status, 200);
        assert!(dropped(&metrics(admin)) >= 1.0, "{mode}");
        drop(clients);
        program.signal(testkit::Signal::TERM);
        assert_eq!(program.wait_exit().code(), Some(0), "{mode}");
    }
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let redis = RedisServer::start();
    redis.client().set("k", "v");
    let (mut reader, stderr) = pipe().unwrap();
    let mut program = BareProgram::start(&redis, &[("ACCESS_LOG", "1")], stderr);
    let (http, admin) = listening(&mut reader);
    let mut client = HttpClient::connect(http);
    for _ in 0..22_000 {
        assert_eq!(client.get("/k").text(), "v");
    }
    // A pipe takes 64 KiB and the queue 16,384 lines; the rest is gone, and counted.
    assert!((4_000.0..6_000.0).contains(&dropped(&metrics(admin))), "{}", dropped(&metrics(admin)));
    drop(client);
    let asked = Instant::now();
    program.signal(testkit::Signal::TERM);
    assert_eq!(program.wait_exit().code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    // What was written is whole lines.
    let lines = BufReader::new(reader).lines().map(Result::unwrap).collect::<Vec<_>>();
    let whole = lines.iter().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok());
    assert!(whole.count() >= lines.len() - 1);
}

#[test]
fn the_line_of_a_start_error_waits_for_its_reader() {
    let redis = RedisServer::start();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (mut reader, mut stderr) = pipe().unwrap();
    let filled = {
        rustix::io::ioctl_fionbio(&stderr, true).unwrap();
        let filled = (0..).take_while(|_| stderr.write(&[b'.'; 512]).is_ok()).count() * 512;
        rustix::io::ioctl_fionbio(&stderr, false).unwrap();
        filled
    };
    let mut program = BareProgram::start(&redis, &[("PORT", &port), ("HOST", "127.0.0.1")], stderr);
    // Longer than the end of the program waits for other lines.
    std::thread::sleep(Duration::from_millis(1_500));
    let mut text = Vec::new();
    reader.read_to_end(&mut text).unwrap();
    assert_eq!(program.wait_exit().code(), Some(1));
    let text = String::from_utf8_lossy(&text[filled..]);
    assert!(text.contains("cannot listen on") && text.contains(&port), "{text:?}");
}

/// How the program ends with this standard output, and what it says on standard error.
fn end_with(arguments: &[&str], stdout: impl Into<Stdio>) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_redis-proxy"))
        .env_clear()
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn output_that_cannot_be_written_is_told_and_never_a_panic() {
    let redis = RedisServer::start();
    (0..10).for_each(|key| redis.client().set(format!("key:{key}"), "v"));
    let proxy = crate::support::program().redis(&redis).start();
    let target = format!("http://{}", proxy.address());
    let load =
        ["--keys", "10", "--rate", "50", "--connections", "1", "--duration", "200ms", "--warmup", "0s"];
    let bench = [&["bench", target.as_str()][..], &load].concat();
    let asked: [&[&str]; 6] =
        [&["--help"], &["--version"], &["--print-config"], &["--check-config"], &["bench", "--help"], &bench];
    for arguments in asked {
        let (reader, stdout) = pipe().unwrap();
        drop(reader);
        let (code, said) = end_with(arguments, stdout);
        // A load on a busy machine may have gone wrong, which its code says.
        assert!(
            code == Some(0) || (code == Some(1) && arguments[0] == "bench"),
            "{arguments:?} | head: {code:?}"
        );
        assert_eq!(said, "", "{arguments:?} | head");
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (code, said) = end_with(arguments, full);
        assert_eq!(code, Some(1), "{arguments:?} > /dev/full");
        assert!(said.starts_with("redis-proxy: standard output: No space left"), "{said}");
    }
}

#[test]
fn a_wrong_setting_with_a_log_that_cannot_be_written_ends_with_2() {
    for stderr in ["/dev/full", "/dev/null"] {
        let file = File::options().write(true).open(stderr).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_redis-proxy"));
        let status = command.env_clear().arg("--no-such-flag").stdout(Stdio::null()).stderr(file).status();
        assert_eq!(status.unwrap().code(), Some(2), "2>{stderr}");
    }
}
