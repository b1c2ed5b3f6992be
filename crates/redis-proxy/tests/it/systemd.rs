//! What systemd and the program tell each other: sockets that it has opened, and how the program fares.
#![allow(clippy::unwrap_used, reason = "a broken part ends the test")]

use std::fs;
use std::io::{PipeReader, Read, Write, pipe};
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use testkit::{
    RedisClient, RedisServer, RunOutput, Signal, WITH_SIGHUP, find_program, not_run, run_to_end, wait_until,
};

use crate::authority::Authority;
use crate::bare_program::{BareProgram, PATIENCE, listening, read_to};

/// What a client hears that asks for this target and then wants no more.
fn ask(mut stream: impl Read + Write, target: &str) -> String {
    write!(stream, "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn abstract_name(name: &str) -> SocketAddr {
    SocketAddr::from_abstract_name(name).unwrap()
}

#[test]
fn sockets_that_systemd_has_opened_are_served_in_place_of_ports() {
    let Some(activate) = find_program("systemd-socket-activate") else {
        assert!(std::env::var_os("CLIENTS_REQUIRED").is_none(), "systemd-socket-activate is not installed");
        return not_run("systemd-socket-activate is not installed");
    };
    const PASSWORD: &str = "correct-horse";
    let redis = RedisServer::builder().password(PASSWORD).start();
    redis.client().set("k", "v");
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    // It takes no port 0.
    let http = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let admin = format!("redis-proxy-test-{}", http.port());
    // What a child sees.
    let script = format!("#!/bin/sh\nenv >{0}\nls -l /proc/$$/fd >>{0}\necho {PASSWORD}\n", at("child"));
    fs::write(at("password"), script).unwrap();

    let mut command = Command::new(activate);
    command.args(["-l", &http.to_string(), "-l", &at("resp.sock"), "-l", &format!("@{admin}")]);
    command.arg("--fdname=http:resp:admin");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (host, port) = ("127.0.0.1".to_owned(), redis.port().to_string());
    let taken_port = taken.local_addr().unwrap().port().to_string();
    for (name, value) in [
        ("REDIS_HOST", &host),
        ("REDIS_PORT", &port),
        ("REDIS_PASSWORD_COMMAND", &format!("sh {}", at("password"))),
        // Those of others, were they bound.
        ("PORT", &port),
        ("ADMIN_PORT", &taken_port),
        ("RESP_PORT", &"off".into()),
        ("LOG_FORMAT", &"json".into()),
        ("NOTIFY_SOCKET", &at("nobody")),
    ] {
        command.arg("-E").arg(format!("{name}={value}"));
    }
    command.arg(env!("CARGO_BIN_EXE_redis-proxy"));
    let (mut log, stderr) = pipe().unwrap();
    let mut program = BareProgram::start_by(command, &redis, &[], std::process::Stdio::null(), stderr);
    read_to(&format!("@{admin}"), &mut log);
    // The first client starts it, and is answered.
    let answer = ask(TcpStream::connect(http).unwrap(), "/k");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nv"), "{answer}");
    let (line, before) = read_to("\"listening\"", &mut log);
    let told: serde_json::Value = serde_json::from_str(&line).unwrap();
    for (port, address) in [
        ("http", http.to_string()),
        ("resp", format!("unix:{}", at("resp.sock"))),
        ("admin", format!("unix:@{admin}")),
    ] {
        assert_eq!(told["fields"][port], *address, "{line}");
        assert!(
            before.iter().any(|line| line.contains("taken over") && line.contains(&address)),
            "{before:?}"
        );
    }
    let mut client = RedisClient::connect_unix(at("resp.sock"));
    client.command(&["AUTH", PASSWORD]);
    assert_eq!(client.get("k"), Some(b"v".to_vec()));
    let answer = ask(UnixStream::connect_addr(&abstract_name(&admin)).unwrap(), "/readyz");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

    let child = fs::read_to_string(at("child")).unwrap();
    assert!(
        child.contains("REDIS_HOST=") && child.contains("/child\n") && !child.contains("socket:"),
        "{child}"
    );
    for variable in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET"] {
        assert!(!child.contains(variable), "{child}");
    }
    program.signal(Signal::TERM);
    assert_eq!(program.wait_exit().code(), Some(0));
    assert!(Path::new(&at("resp.sock")).exists(), "it is systemd's");
}

/// Puts a file in place 3 and becomes the program: what it is, its name, whose it is; then the program and its flags.
const HANDS_OVER: &str = "
import os, socket, sys
kind, names, pid, program, *flags = sys.argv[1:]
def tcp(address, listens):
    made = socket.socket()
    made.bind((address, 0))
    if listens: made.listen()
    return made
made = {
    'tcp': lambda: tcp('127.0.0.1', True),
    'everywhere': lambda: tcp('0.0.0.0', True),
    'deaf': lambda: tcp('127.0.0.1', False),
    'udp': lambda: socket.socket(type=socket.SOCK_DGRAM),
    'file': lambda: open('/dev/null'),
    'none': lambda: None,
}[kind]()
if made:
    os.dup2(made.fileno(), 3)
    os.set_inheritable(3, True)
else:
    os.closerange(3, 100)
told = {'LISTEN_FDS': '1', 'LISTEN_PID': pid or str(os.getpid()), 'LISTEN_FDNAMES': names}
os.execve(program, [program, *flags], {**os.environ, **told})
";

#[test]
fn a_socket_that_cannot_be_served_ends_the_start_with_one_line_that_says_why() {
    let python = find_program("python3").expect("python3");
    let program = env!("CARGO_BIN_EXE_redis-proxy");
    let start = |kind: &str, names: &str, pid: &str, settings: &[(&str, &str)]| -> RunOutput {
        let ports = [("PORT", "0"), ("ADMIN_PORT", "0"), ("RESP_PORT", "off")];
        let settings = [&ports, settings].concat();
        run_to_end(&python, &settings, &["-c", HANDS_OVER, kind, names, pid, program], PATIENCE)
    };
    for (kind, names, settings, why) in [
        ("udp", "http", &[][..], "neither a TCP socket nor a unix stream socket"),
        ("file", "resp", &[], "neither a TCP socket nor a unix stream socket"),
        ("none", "admin", &[], "neither a TCP socket nor a unix stream socket"),
        ("deaf", "http", &[], "it does not listen"),
        ("tcp", "redis-proxy.socket", &[], "FileDescriptorName="),
        ("tcp", "http:resp", &[], "FileDescriptorName="),
        // What settings as a whole do not allow, of the address that is served in truth.
        ("everywhere", "resp", &[("RESP_IDENTITY", "proxy")], "RESP_IDENTITY=proxy with RESP_HOST=0.0.0.0:"),
    ] {
        let output = start(kind, names, "", settings);
        assert_eq!(output.status.code(), Some(1), "{kind} {names}: {output:?}");
        assert!(
            output.stderr.contains(why) && output.stderr.lines().count() == 1,
            "{kind} {names}: {output:?}"
        );
    }
    // Those of somebody else are none of ours: here the setting is wrong that is looked at later.
    let output = start("udp", "http", "1", &[("HOST", "192.0.2.1")]);
    assert!(output.stderr.contains("cannot listen on 192.0.2.1:0"), "{output:?}");
}

#[test]
fn a_reload_is_judged_with_the_socket_that_is_served_as_the_start_is() {
    let redis = RedisServer::start();
    let authority = Authority::new();
    let [cert, key] = authority.sign("proxy", &["localhost"]);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("settings.toml");
    // The address that is set is a loopback one, and nobody listens there.
    let open = format!(
        "resp_host = \"127.0.0.1\"\nresp_identity = \"proxy\"\ntls_ports = \"resp\"\n\
         tls_cert = {cert:?}\ntls_key = {key:?}\n"
    );
    let guarded =
        format!("{open}tls_client_ca = {:?}\ntls_client_ports = \"resp\"\n", authority.file("ca.pem"));
    fs::write(&config, &guarded).unwrap();
    let (mut log, stderr) = pipe().unwrap();
    let mut command = Command::new(WITH_SIGHUP[0]);
    command.args(&WITH_SIGHUP[1..]).arg(find_program("python3").expect("python3"));
    command.args(["-c", HANDS_OVER, "everywhere", "resp", "", env!("CARGO_BIN_EXE_redis-proxy")]);
    command.arg("--config").arg(&config);
    let program = BareProgram::start_by(command, &redis, &[], std::process::Stdio::null(), stderr);
    let (line, _) = read_to("\"listening\"", &mut log);
    assert!(line.contains("0.0.0.0:"), "{line}");
    for (text, said) in [
        (&open, "RESP_IDENTITY=proxy with RESP_HOST=0.0.0.0:"),
        (&format!("{guarded}capacity = 7\n"), "\"changed\":\"CAPACITY\""),
    ] {
        fs::write(&config, text).unwrap();
        program.signal(Signal::HUP);
        let (line, _) = read_to("reloaded", &mut log);
        assert!(line.contains(said), "{line}");
    }
}

/// Reads messages of the program up to one that holds this.
fn hear(socket: &UnixDatagram, text: &str) -> String {
    let since = Instant::now();
    loop {
        assert!(since.elapsed() < PATIENCE, "nothing but watchdogs, and no {text}");
        let mut message = [0; 1024];
        let length = socket.recv(&mut message).unwrap_or_else(|error| panic!("waiting for {text}: {error}"));
        let message = String::from_utf8_lossy(&message[..length]).into_owned();
        if message.contains(text) {
            return message;
        }
        assert_eq!(message, "WATCHDOG=1\n", "before {text}");
    }
}

fn number(message: &str, name: &str) -> u64 {
    let line = message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("no {name} in {message}")).parse().unwrap()
}

fn start_supervised(redis: &RedisServer, settings: &[(&str, &str)]) -> (BareProgram, PipeReader) {
    let (log, stderr) = pipe().unwrap();
    (BareProgram::start(redis, settings, stderr), log)
}

#[test]
fn a_supervisor_hears_that_the_program_serves_lives_reloads_and_ends() {
    let redis = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify").to_str().unwrap().to_owned();
    let name = format!("redis-proxy-test-notify-{}", redis.port());
    for (address, socket) in [
        (path.clone(), UnixDatagram::bind(&path).unwrap()),
        (format!("@{name}"), UnixDatagram::bind_addr(&abstract_name(&name)).unwrap()),
    ] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let config = folder.path().join("settings.toml");
        fs::write(&config, "capacity = 7\n").unwrap();
        let (mut log, stderr) = pipe().unwrap();
        let mut command = BareProgram::command();
        command.args(["--config", config.to_str().unwrap()]);
        let settings = [
            ("NOTIFY_SOCKET", address.as_str()),
            ("WATCHDOG_USEC", "400000"),
            ("SHUTDOWN_DELAY", "1s"),
            ("SHUTDOWN_TIMEOUT", "60s"),
        ];
        let mut program =
            BareProgram::start_by(command, &redis, &settings, std::process::Stdio::null(), stderr);
        let ready = hear(&socket, "READY=1\n");
        let (http, admin) = listening(&mut log);
        assert!(
            ready.contains(&format!("STATUS=listening: http {http}, redis clients off, admin {admin}\n")),
            "{ready}"
        );
        assert!(ask(TcpStream::connect(http).unwrap(), "/k").starts_with("HTTP/1.1 404 "));
        for _ in 0..2 {
            hear(&socket, "WATCHDOG=1");
        }
        // One that is refused is over as well.
        let mut before = 0;
        for text in ["capacity = 8\n", "capacity = none\n"] {
            fs::write(&config, text).unwrap();
            program.signal(Signal::HUP);
            let now = number(&hear(&socket, "RELOADING=1\n"), "MONOTONIC_USEC");
            assert!(now > before);
            before = now;
            assert_eq!(hear(&socket, "READY=1"), "READY=1\n");
        }
        program.signal(Signal::TERM);
        let stopping = hear(&socket, "STOPPING=1\n");
        assert_eq!(number(&stopping, "EXTEND_TIMEOUT_USEC"), 66_000_000);
        assert!(ask(TcpStream::connect(http).unwrap(), "/k").starts_with("HTTP/1.1 404 "), "it still serves");
        assert_eq!(program.wait_exit().code(), Some(0));
    }
}

#[test]
fn a_supervisor_that_does_not_listen_is_a_line_and_a_name_that_is_none_too() {
    let redis = RedisServer::start();
    for (address, told) in
        [("/nowhere/notify", "does not hear us"), ("notify", "neither a path nor an abstract name")]
    {
        let (mut program, mut log) = start_supervised(&redis, &[("NOTIFY_SOCKET", address)]);
        let mut lines = Vec::new();
        wait_until(PATIENCE, "both lines", || {
            lines.push(read_to("\"message\"", &mut log).0);
            let has = |text: &str| lines.iter().any(|line| line.contains(text));
            has(told) && has("\"listening\"")
        });
        program.signal(Signal::TERM);
        assert_eq!(program.wait_exit().code(), Some(0));
    }
}
