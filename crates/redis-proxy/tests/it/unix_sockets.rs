//! Unix sockets in place of ports.
#![allow(clippy::unwrap_used, reason = "a broken part ends the test")]

use std::fs;
use std::io::{Read, Write, pipe};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::{RedisClient, RedisServer, Reply, Signal, run_to_end, wait_until};

use crate::bare_program::{BareProgram, read_to};

const PATIENCE: Duration = Duration::from_secs(20);

/// The program with all of its ports on sockets in a folder.
struct OnSockets {
    /// Until the end.
    program: Option<BareProgram>,
    folder: tempfile::TempDir,
    log: std::io::PipeReader,
}

fn at(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.sock"))
}

fn start_in(folder: tempfile::TempDir, redis: &RedisServer, settings: &[(&str, &str)]) -> OnSockets {
    let path = |name: &str| format!("unix:{}", at(folder.path(), name).display());
    let hosts = [("HOST", path("http")), ("RESP_HOST", path("resp")), ("ADMIN_HOST", path("admin"))];
    let mut all = vec![("PORT", ""), ("RESP_PORT", ""), ("ADMIN_PORT", "")];
    all.extend(hosts.iter().map(|(name, path)| (*name, path.as_str())));
    all.extend(settings);
    let (mut log, stderr) = pipe().unwrap();
    let program = BareProgram::start(redis, &all, stderr);
    let (line, _) = read_to("listening", &mut log);
    assert!(line.contains(&path("http")) && line.contains(&path("resp")), "{line}");
    OnSockets { program: Some(program), folder, log }
}

fn start(settings: &[(&str, &str)]) -> (RedisServer, OnSockets) {
    let redis = RedisServer::start();
    redis.client().set("k", "v");
    let program = start_in(tempfile::tempdir().unwrap(), &redis, settings);
    (redis, program)
}

impl OnSockets {
    fn stop(&mut self) -> Option<i32> {
        let program = self.program.as_mut().unwrap();
        program.signal(Signal::TERM);
        program.wait_exit().code()
    }

    fn connect(&self, name: &str) -> UnixStream {
        let stream = UnixStream::connect(at(self.folder.path(), name)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn ask(&self, name: &str, target: &str) -> String {
        let mut stream = self.connect(name);
        write!(stream, "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn resp(&self) -> RedisClient {
        RedisClient::connect_unix(at(self.folder.path(), "resp"))
    }
}

#[test]
fn all_ports_may_be_sockets_whose_clients_are_of_this_machine() {
    let (redis, mut program) = start(&[("RESP_IDENTITY", "proxy")]);
    for name in ["http", "resp", "admin"] {
        let mode = fs::metadata(at(program.folder.path(), name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660, "{name}");
    }
    let answer = program.ask("http", "/k");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nv"), "{answer}");
    assert!(program.ask("admin", "/readyz").starts_with("HTTP/1.1 200 "));
    let mut client = program.resp();
    assert_eq!(client.get("k"), Some(b"v".to_vec()));
    // Those of loopback may by default.
    assert_eq!(client.command(&["PROXY", "CACHE", "FLUSH"]), Reply::Simple("OK".into()));
    let path = at(program.folder.path(), "resp");
    let Reply::Bulk(info) = client.command(&["CLIENT", "INFO"]) else { panic!("no text") };
    let info = String::from_utf8(info).unwrap();
    assert!(info.contains(&format!("addr={0}:0 laddr={0}:0", path.display())), "{info}");
    // As from elsewhere: a large value, and one that stops reading is let go.
    let large = vec![b'x'; 3_000_000];
    client.set("large", &large);
    assert!(client.get("large").as_deref() == Some(&large[..]) && redis.client().get("large") == Some(large));
    assert_eq!(program.stop(), Some(0));
    for name in ["http", "resp", "admin"] {
        assert!(!at(program.folder.path(), name).exists(), "{name}");
    }
}

#[test]
fn a_client_of_a_socket_that_reads_nothing_is_closed_and_one_that_is_idle_too() {
    let (redis, program) = start(&[("WRITE_TIMEOUT", "500ms"), ("IDLE_TIMEOUT", "1s"), ("WORKERS", "1")]);
    redis.client().set("large", vec![b'x'; 1_000_000]);
    let mut stuck = program.connect("http");
    for _ in 0..20 {
        stuck.write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    }
    let mut idle = program.connect("http");
    assert_eq!(idle.read(&mut [0; 10]).unwrap(), 0);
    let clients = || program.ask("admin", "/metrics").contains("redis_proxy_clients 0\n");
    wait_until(PATIENCE, "the stuck one to be closed", clients);
}

#[test]
fn the_socket_of_one_that_was_killed_is_replaced_and_that_of_one_that_lives_is_not() {
    let redis = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let path = at(folder.path(), "http");
    // One that ended without a word leaves its file.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let program = start_in(folder, &redis, &[("SOCKET_MODE", "0600")]);
    assert!(program.ask("http", "/k").starts_with("HTTP/1.1 404 "));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let url = redis.url();
    let host = format!("unix:{}", path.display());
    let env = [("HOST", host.as_str()), ("REDIS_URL", &url), ("RESP_PORT", "off"), ("ADMIN_PORT", "off")];
    let output = run_to_end(env!("CARGO_BIN_EXE_redis-proxy"), &env, &[], PATIENCE);
    assert_eq!(output.status.code(), Some(1), "{output:#?}");
    assert!(
        output.stderr.contains("somebody listens there") && output.stderr.contains("HOST"),
        "{output:#?}"
    );
    assert!(program.ask("http", "/k").starts_with("HTTP/1.1 404 "), "the first one goes on");
}

#[test]
fn check_health_asks_over_a_socket() {
    let (redis, program) = start(&[]);
    let url = redis.url();
    let host = format!("unix:{}", at(program.folder.path(), "admin").display());
    let env = [("ADMIN_HOST", host.as_str()), ("REDIS_URL", &url)];
    let check =
        || run_to_end(env!("CARGO_BIN_EXE_redis-proxy"), &env, &["--check-health"], PATIENCE).status.code();
    assert_eq!(check(), Some(0));
    drop(program);
    assert_eq!(check(), Some(1));
}

impl Drop for OnSockets {
    fn drop(&mut self) {
        drop(self.program.take());
        let mut log = String::new();
        let _ = self.log.read_to_string(&mut log);
        assert!(std::thread::panicking() || !log.contains("\"WARN\""), "{log}");
    }
}
