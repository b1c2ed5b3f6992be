//! Signals that do not end the program, and SIGHUP, which ends it only where its terminal has gone.

use std::fs;
use std::io::pipe;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use testkit::{RedisServer, Signal, wait_until};

use crate::bare_program::{BareProgram, listening, read_to};
use crate::support::{mkfifo, program, set_numbered, start};

const PATIENCE: Duration = Duration::from_secs(20);
/// Said of open connections where the user has no password in Redis, which takes any in HELLO and none in AUTH.
const NO_PASSWORD: &str = "redis refuses to let an open connection log in again";

#[test]
fn sigusr1_and_sigusr2_are_told_and_ignored() {
    let (redis, proxy) = start();
    redis.client().set("k", "v");
    for (signal, name) in [(Signal::USR1, "SIGUSR1"), (Signal::USR2, "SIGUSR2")] {
        proxy.signal(signal);
        proxy.wait_log(name, PATIENCE);
        assert_eq!(proxy.get("/k").text(), "v");
    }
    assert_eq!(proxy.stop().code(), Some(0));
}

#[test]
fn sighup_takes_over_what_is_logged_and_names_what_needs_a_restart() {
    let redis = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    let write = |text: &str| fs::write(&config, format!("redis_url = \"{}\"\n{text}", redis.url())).unwrap();
    write("workers = 2\naccess_log = 1\n");
    // An empty variable counts as none, and so leaves LOG to the file.
    let proxy = program().set("LOG", "").arg("--config").arg(&config).start();
    proxy.get("/k");
    proxy.wait_log_count("\"target\":\"access\"", 1, PATIENCE);

    write("workers = 1\naccess_log = 1\nlog = \"info,access=off\"\n");
    proxy.allow_warning("taken over at the next start only");
    proxy.signal(Signal::HUP);
    assert_eq!(proxy.wait_log("\"reloaded\"", PATIENCE).field("changed"), Some("LOG"));
    let restart = proxy.wait_log("at the next start only", PATIENCE);
    assert_eq!(restart.field("settings"), Some("WORKERS"));
    proxy.wait_log("this is logged from now on", PATIENCE);
    proxy.get("/k");

    write("workers = 2\naccess_log = 1\n");
    proxy.signal(Signal::HUP);
    assert_eq!(proxy.wait_log_count("\"reloaded\"", 2, PATIENCE).field("changed"), Some("LOG"));
    proxy.wait_log_count("this is logged from now on", 2, PATIENCE);
    proxy.get("/k");
    proxy.wait_log_count("\"target\":\"access\"", 2, PATIENCE);

    proxy.allow_warning("not reloaded");
    write("capcity = 10\n");
    proxy.signal(Signal::HUP);
    assert!(proxy.wait_log("not reloaded", PATIENCE).raw.contains("did you mean capacity?"));
    proxy.get("/k");
    proxy.wait_log_count("\"target\":\"access\"", 3, PATIENCE);
    assert_eq!(proxy.stop().code(), Some(0));
}

#[test]
fn a_reload_reaches_every_worker_and_the_connections_that_are_open() {
    const CLIENTS: usize = 8;
    let redis = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    let write = |text: &str| fs::write(&config, format!("redis_url = \"{}\"\n{text}", redis.url())).unwrap();
    write("access_log = \"off\"\n");
    let proxy = program().set("WORKERS", "4").set("LOG", "").arg("--config").arg(&config).start();
    // Each goes to the worker with the fewest clients.
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| proxy.client()).collect();
    let mut each_asks = || clients.iter_mut().for_each(|client| assert_eq!(client.get("/k").status, 404));
    let reload = |text: &str, times: usize| {
        write(text);
        proxy.signal(Signal::HUP);
        proxy.wait_log_count("\"reloaded\"", times, PATIENCE)
    };
    // A line that comes after all that were written before.
    let logged = |times: usize| {
        proxy.signal(Signal::USR1);
        proxy.wait_log_count("SIGUSR1", times, PATIENCE);
        proxy.log().iter().filter(|line| line.raw.contains("\"target\":\"access\"")).count()
    };
    each_asks();
    assert_eq!(logged(1), 0);
    assert_eq!(reload("access_log = 1\n", 1).field("changed"), Some("ACCESS_LOG"));
    each_asks();
    assert_eq!(logged(2), CLIENTS);

    reload("access_log = 1\nlog = \"info,access=off\"\n", 2);
    proxy.wait_log("this is logged from now on", PATIENCE);
    each_asks();
    reload("access_log = \"off\"\n", 3);
    proxy.wait_log_count("this is logged from now on", 2, PATIENCE);
    each_asks();
    assert_eq!(logged(3), CLIENTS);
    assert_eq!(proxy.stop().code(), Some(0));
}

#[test]
fn what_guards_a_port_does_not_go_before_the_port_is_another_one() {
    let redis = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    let write = |text: &str| fs::write(&config, format!("redis_url = \"{}\"\n{text}", redis.url())).unwrap();
    write("host = \"0.0.0.0\"\nread_token = \"s3cret-token\"\n");
    let proxy = program().set("LOG", "").arg("--config").arg(&config).allow_warning("not reloaded").start();
    assert_eq!(proxy.get("/k").status, 401);
    write("host = \"127.0.0.1\"\n");
    proxy.signal(Signal::HUP);
    let line = proxy.wait_log("not reloaded", PATIENCE);
    let error = line.field("error").expect("why").to_owned();
    assert!(error.contains("READ_TOKEN") && error.contains("HOST") && !error.contains("s3cret"), "{error}");
    assert_eq!(proxy.get("/k").status, 401);
    // Each by itself is taken.
    write("host = \"0.0.0.0\"\n");
    proxy.signal(Signal::HUP);
    proxy.wait_log("\"reloaded\"", PATIENCE);
    assert_eq!(proxy.get("/k").status, 404);
}

#[test]
fn sighup_says_that_the_password_file_has_changed_and_shows_no_password() {
    let redis = RedisServer::start();
    let password = tempfile::NamedTempFile::new().unwrap();
    fs::write(&password, "first-secret\n").unwrap();
    redis.client().command(&["ACL", "SETUSER", "default", ">first-secret", ">second-secret", "nopass"]);
    let (host, port) = (redis.address().ip().to_string(), redis.address().port().to_string());
    let proxy = program()
        .set("REDIS_HOST", host)
        .set("REDIS_PORT", port)
        .set("REDIS_PASSWORD_FILE", password.path())
        .allow_warning(NO_PASSWORD)
        .start();
    proxy.signal(Signal::HUP);
    assert_eq!(proxy.wait_log("\"reloaded\"", PATIENCE).field("changed"), Some(""));
    fs::write(&password, "second-secret\n").unwrap();
    proxy.signal(Signal::HUP);
    let line = proxy.wait_log_count("\"reloaded\"", 2, PATIENCE);
    assert_eq!(line.field("changed"), Some("REDIS_PASSWORD_FILE"));
    // Looked at in this moment because it has changed.
    proxy.allow_warning("the credentials for redis cannot be read");
    fs::remove_file(&password).unwrap();
    proxy.allow_warning("not reloaded");
    proxy.signal(Signal::HUP);
    proxy.wait_log("not reloaded", PATIENCE);
    assert_eq!(proxy.stop().code(), Some(0));
    assert!(proxy.log().iter().all(|line| !line.raw.contains("-secret")));
}

#[test]
fn sighup_tells_credentials_from_an_address_that_needs_a_restart() {
    let redis = RedisServer::start();
    redis.client().command(&["ACL", "SETUSER", "default", ">first-secret", ">second-secret", "nopass"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    let write = |password: &str, db: usize| {
        fs::write(&file, format!("redis://:{password}@{}/{db}\n", redis.address())).unwrap();
    };
    write("first-secret", 0);
    let proxy = program().set("REDIS_URL_FILE", file.path()).allow_warning(NO_PASSWORD).start();
    write("second-secret", 0);
    proxy.signal(Signal::HUP);
    assert_eq!(proxy.wait_log("\"reloaded\"", PATIENCE).field("changed"), Some("REDIS_URL_FILE"));
    proxy.allow_warning("taken over at the next start only");
    write("second-secret", 3);
    proxy.signal(Signal::HUP);
    let line = proxy.wait_log("at the next start only", PATIENCE);
    assert_eq!(line.field("settings"), Some("the address in REDIS_URL_FILE"));
    assert!(proxy.log().iter().all(|line| !line.raw.contains("-secret")));
}

#[test]
fn sighup_says_that_nobody_writes_to_the_pipe_of_a_password_and_the_old_one_stays() {
    let redis = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("password");
    mkfifo(&pipe);
    redis.client().command(&["ACL", "SETUSER", "cache", "on", ">secret", "~*", "&*", "+@all"]);
    let written = pipe.clone();
    let writer = std::thread::spawn(move || fs::write(written, "secret\n"));
    let program = program().set("REDIS_HOST", "127.0.0.1").set("REDIS_PORT", redis.port().to_string());
    let proxy = program.set("REDIS_USERNAME", "cache").set("REDIS_PASSWORD_FILE", &pipe).start();
    writer.join().unwrap().unwrap();
    redis.client().set("k", "v");
    assert_eq!(proxy.get("/k").text(), "v");
    proxy.allow_warning("not reloaded");
    proxy.signal(Signal::HUP);
    let line = proxy.wait_log("not reloaded", PATIENCE);
    assert!(
        line.raw.contains("REDIS_PASSWORD_FILE") && line.raw.contains("nobody writes to it"),
        "{}",
        line.raw
    );
    proxy.allow_warning("connection to redis lost");
    redis.client().command(&["CLIENT", "KILL", "USER", "cache"]);
    redis.client().set("other", "w");
    wait_until(PATIENCE, "a connection with the old password", || proxy.get("/other").status == 200);
    assert_eq!(proxy.stop().code(), Some(0));
}

#[test]
fn sighup_that_was_ignored_at_the_start_stays_ignored() {
    let redis = RedisServer::start();
    let mut nohup = Command::new("/bin/sh");
    nohup.args(["-c", "trap '' HUP; exec \"$0\"", env!("CARGO_BIN_EXE_redis-proxy")]);
    let (mut reader, stderr) = pipe().unwrap();
    let mut program = BareProgram::start_by(nohup, &redis, &[], Stdio::null(), stderr);
    listening(&mut reader);
    program.signal(Signal::HUP);
    program.signal(Signal::USR1);
    let (_, before) = read_to("SIGUSR1", &mut reader);
    assert!(before.iter().all(|line| !line.contains("reload")), "{before:?}");
    program.signal(Signal::TERM);
    assert_eq!(program.wait_exit().code(), Some(0));
}

#[test]
fn sighup_drains_where_standard_input_is_a_terminal() {
    let redis = RedisServer::start();
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    // It must not become the terminal of the tests.
    let flags = OpenptFlags::NOCTTY.bits().cast_signed();
    let stdin = fs::OpenOptions::new().read(true).write(true).custom_flags(flags).open(name).unwrap();
    let (mut reader, stderr) = pipe().unwrap();
    let mut program =
        BareProgram::start_by(BareProgram::command(), &redis, &[("SHUTDOWN_DELAY", "100ms")], stdin, stderr);
    let (http, _) = listening(&mut reader);
    program.signal(Signal::HUP);
    let (line, _) = read_to("shutting down", &mut reader);
    assert!(line.contains("SIGHUP"), "{line}");
    wait_until(PATIENCE, "the port to be closed", || std::net::TcpStream::connect(http).is_err());
    assert_eq!(program.wait_exit().code(), Some(0));
}

#[test]
fn sighup_asks_a_command_for_the_password_and_names_what_is_said_of_nodes_as_for_a_restart() {
    let redis = RedisServer::start();
    redis.client().command(&["ACL", "SETUSER", "default", ">first-secret", ">second-secret", "nopass"]);
    let folder = tempfile::tempdir().unwrap();
    let (config, secret) = (folder.path().join("config.toml"), folder.path().join("secret"));
    let write = |command: &str, more: &str| {
        let command = format!("redis_password_command = \"{command} {}\"\n", secret.display());
        let url = format!("redis_url = \"redis://{}\"\n", redis.address());
        fs::write(&config, url + &command + more).unwrap();
    };
    fs::write(&secret, "first-secret\n").unwrap();
    write("cat", "");
    let proxy = program().arg("--config").arg(&config).start();
    fs::write(&secret, "second-secret\n").unwrap();
    proxy.signal(Signal::HUP);
    let line = proxy.wait_log("\"reloaded\"", PATIENCE);
    assert_eq!(line.field("changed"), Some("the password of REDIS_PASSWORD_COMMAND"));
    proxy.allow_warning("taken over at the next start only");
    write("head -n 1", "redis_witnesses = \"off\"\nredis_reauth = \"1h\"\nredis_address_map = \"a:1=b:2\"\n");
    proxy.signal(Signal::HUP);
    let line = proxy.wait_log("at the next start only", PATIENCE);
    assert_eq!(line.field("settings"), Some("REDIS_PASSWORD_COMMAND REDIS_ADDRESS_MAP REDIS_WITNESSES"));
    let line = proxy.wait_log_count("\"reloaded\"", 2, PATIENCE);
    assert_eq!(line.field("changed"), Some("REDIS_REAUTH"));
    assert!(proxy.log().iter().all(|line| !line.raw.contains("-secret")));
    assert_eq!(proxy.stop().code(), Some(0));
}

#[test]
fn sighup_takes_over_how_much_is_held_and_how_long_clients_are_waited_for() {
    const ENTRIES: usize = 100;
    let redis = RedisServer::start();
    set_numbered(&redis, ENTRIES);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    let write = |text: &str| fs::write(&config, format!("redis_url = \"{}\"\n{text}", redis.url())).unwrap();
    write("capacity = 100\ncapacity_bytes = \"64MiB\"\n");
    let proxy = program().set("RESP_PORT", "0").arg("--config").arg(&config).start();
    let reload = |text: &str, times: usize| {
        write(text);
        proxy.signal(Signal::HUP);
        proxy.wait_log_count("\"reloaded\"", times, PATIENCE).field("changed").map(str::to_owned)
    };
    let mut client = proxy.client();
    let mut read = |keys: std::ops::Range<usize>| {
        keys.for_each(|key| assert_eq!(client.get(&format!("/{key}")).status, 200));
    };
    read(0..ENTRIES);
    assert_eq!(proxy.metrics().value("redis_proxy_entries"), ENTRIES as f64);

    assert_eq!(reload("capacity = 30\ncapacity_bytes = \"64MiB\"\n", 1).as_deref(), Some("CAPACITY"));
    wait_until(PATIENCE, "those that are too many to leave", || {
        proxy.metrics().value("redis_proxy_entries") == 30.0
    });
    // The last ones have stayed.
    let gets = redis.command_calls("get");
    read(ENTRIES - 30..ENTRIES);
    assert_eq!(redis.command_calls("get"), gets);

    assert_eq!(
        reload("capacity = 60\ncapacity_bytes = \"32MiB\"\n", 2).as_deref(),
        Some("CAPACITY CAPACITY_BYTES")
    );
    let budget = || proxy.metrics().value("redis_proxy_budget_bytes");
    wait_until(PATIENCE, "the new budget", || budget() == f64::from(32 << 20));
    read(0..ENTRIES);
    assert_eq!(proxy.metrics().value("redis_proxy_entries"), 60.0);

    // Whether there is a budget is settled at the start.
    proxy.allow_warning("at the next start only");
    assert_eq!(reload("capacity = 60\n", 3).as_deref(), Some(""));
    let line = proxy.wait_log("at the next start only", PATIENCE);
    assert_eq!(line.field("settings"), Some("CAPACITY_BYTES"));
    assert_eq!(budget(), f64::from(32 << 20));

    let times = "idle_timeout = \"300ms\"\nhead_timeout = \"200ms\"\nresp_idle_timeout = \"300ms\"\n";
    let changed = reload(&format!("capacity = 60\ncapacity_bytes = \"32MiB\"\n{times}"), 4);
    assert_eq!(changed.as_deref(), Some("HEAD_TIMEOUT IDLE_TIMEOUT RESP_IDLE_TIMEOUT"));
    let mut idle = proxy.client();
    assert_eq!(idle.get("/0").status, 200);
    assert!(idle.at_end());
    let mut half = proxy.client();
    half.send("GET /0 HT");
    assert_eq!(half.read_response().status, 408);
    assert!(proxy.resp_client().ask("PING", "+PONG").at_end());
    assert_eq!(proxy.stop().code(), Some(0));
}
