//! The subcommands that ask a running program, as a script has them: what they print, and the code that they end with.
#![allow(clippy::unwrap_used, reason = "a broken part ends the test")]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::{Proxy, RedisServer, RunOutput, run_to_end};

use crate::authority::Authority;
use crate::bare_program::{BareProgram, address, read_to};
use crate::support::{is_hit, program, program_without_redis};

const PROGRAM: &str = env!("CARGO_BIN_EXE_redis-proxy");
const PATIENCE: Duration = Duration::from_secs(30);
const READ: &str = "read-token-planted";
const ADMIN: &str = "admin-token-planted";

/// Runs a subcommand, and sees that no token is in what it prints.
#[track_caller]
fn run(environment: &[(&str, &str)], arguments: &[&str]) -> RunOutput {
    // A setting of a server is none of its business, not even a bad one.
    let environment = [&[("CAPACITY", "none")], environment].concat();
    let output = run_to_end(PROGRAM, &environment, arguments, PATIENCE);
    for text in [&output.stdout, &output.stderr] {
        assert!(!text.contains("planted"), "{output:?}");
    }
    output
}

/// The code, what is printed, and what is told in a line of its own.
#[track_caller]
fn ended(output: &RunOutput) -> (i32, &str, &str) {
    let told = output.stderr.strip_prefix("redis-proxy: ").unwrap_or(&output.stderr);
    assert!(output.stderr.is_empty() || told != output.stderr && told.lines().count() == 1, "{output:?}");
    (output.status.code().unwrap(), &output.stdout, told.trim_end())
}

fn urls(proxy: &Proxy) -> [String; 2] {
    [format!("--url=http://{}", proxy.address()), format!("--admin=http://{}", proxy.admin_address())]
}

/// What a run with these arguments prints, byte for byte.
fn bytes(arguments: &[&[u8]]) -> Vec<u8> {
    let arguments = arguments.iter().map(|argument| std::ffi::OsStr::from_bytes(argument));
    let output = Command::new(PROGRAM).args(arguments).env_clear().output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn a_value_is_printed_as_it_is_and_a_key_may_be_anything() {
    let redis = RedisServer::start();
    let proxy = program().redis(&redis).start();
    let [url, admin] = urls(&proxy);
    let value: Vec<u8> = (0..=255_u8).cycle().take(300_000).collect();
    for key in [&b"plain"[..], b"", b"..", b"a/b?c#d%41 e+f", b"\xff\x01\xc3", "schl\u{fc}ssel".as_bytes()] {
        redis.client().command(&[b"SET", key, &value]);
        assert!(bytes(&[b"get", url.as_bytes(), key]) == value, "{key:?}");
    }
    redis.client().set("-dash", "no line end");
    redis.client().set("empty", "");
    assert_eq!(ended(&run(&[], &["get", &url, "--", "-dash"])), (0, "no line end", ""));
    assert_eq!(ended(&run(&[], &["get", &url, "empty"])), (0, "", ""));
    let missing = run(&[], &["get", &url, "no\u{202e}ne\x1b[2J"]);
    assert_eq!(ended(&missing), (1, "", "no such key: no\\xe2\\x80\\xaene\\x1b[2J"));
    let long = run(&[], &["get", &url, &"k".repeat(20_000)]);
    assert_eq!(ended(&long).0, 4, "{long:?}");
    assert!(ended(&long).2.contains("414"), "{long:?}");

    // Whoever reads has seen enough, and a disk may be full.
    let mut child = Command::new(PROGRAM);
    child.args(["get", &url, "plain"]).env_clear().stderr(Stdio::piped());
    let mut reader = child.stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 10];
    reader.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = reader.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let full = child.stdout(File::options().write(true).open("/dev/full").unwrap()).output().unwrap();
    assert_eq!(full.status.code(), Some(74), "{full:?}");

    // Purges: a key, a prefix, all.
    let is_held = |key: &str| is_hit(&proxy.client().get_key(key));
    let (codes, keys) =
        (|arguments: &[&str]| run(&[], &[&["purge", &admin], arguments].concat()), ["a:1", "a:2", "b:1"]);
    keys.iter().for_each(|key| redis.client().set(key, "v"));
    assert_eq!(keys.map(is_held), [false; 3]);
    assert_eq!(ended(&codes(&["a:1"])), (0, "purged: 1\n", ""));
    assert_eq!(ended(&codes(&["nothing"])), (0, "purged: 0\n", ""));
    assert_eq!(keys.map(is_held), [false, true, true]);
    assert_eq!(ended(&codes(&["--prefix", "a:"])), (0, "purged\n", ""));
    assert_eq!(keys.map(is_held), [false, false, true]);
    let all = codes(&["--all"]);
    assert!(ended(&all).0 == 0 && all.stdout.starts_with("purged: "), "{all:?}");
    assert_eq!(keys.map(is_held), [false; 3]);
    for wrong in [
        &[][..],
        &["a", "--all"],
        &["--prefix="],
        &["--admin", "http://u:planted@h", "k"],
        &["--timeout=x", "k"],
    ] {
        let output = codes(wrong);
        assert!(ended(&output).0 == 2 && !ended(&output).2.is_empty(), "{output:?}");
    }
    assert_eq!(proxy.stop().code(), Some(0));
}

#[test]
fn a_token_of_the_environment_or_of_a_file_opens_what_is_refused_without() {
    let redis = RedisServer::start();
    redis.client().set("k", "v");
    let folder = tempfile::tempdir().unwrap();
    let proxy = program().redis(&redis).set("READ_TOKEN", READ).set("ADMIN_TOKEN", ADMIN).start();
    let [url, admin] = urls(&proxy);
    let file = folder.path().join("token");
    for (setting, token, arguments) in
        [("READ_TOKEN", READ, &["get", &url, "k"][..]), ("ADMIN_TOKEN", ADMIN, &["purge", &admin, "k"])]
    {
        std::fs::write(&file, format!("{token}\n")).unwrap();
        let in_file = (format!("{setting}_FILE"), file.to_str().unwrap());
        let in_file = (in_file.0.as_str(), in_file.1);
        for (environment, code, words) in [
            (&[][..], 4, "the answer is 401: "),
            (&[(setting, "planted-wrong")], 4, "the answer is 401: "),
            (&[(setting, token)], 0, ""),
            (&[in_file], 0, ""),
            (&[(setting, token), in_file], 2, "are both set"),
            (&[(setting, "planted\nline")], 2, "is not accepted"),
            (&[(in_file.0, "/nowhere/token")], 2, in_file.0),
        ] {
            let output = run(environment, arguments);
            let (ended, printed, told) = ended(&output);
            assert!(ended == code && told.contains(words) && printed.is_empty() == (code != 0), "{output:?}");
        }
    }
    // Probes need none, and one that is no token hurts nobody.
    assert_eq!(ended(&run(&[], &["health", &admin])).0, 0);
    assert_eq!(proxy.stop().code(), Some(0));
}

#[test]
fn stats_are_a_line_a_subject_or_json_and_health_is_what_readyz_says() {
    let redis = RedisServer::start();
    redis.client().set("k", "v");
    let proxy = program_without_redis().redis(&redis).start();
    let [_, admin] = urls(&proxy);
    (0..4).for_each(|_| assert_eq!(proxy.get("/k").status, 200));
    let stats = run(&[], &["stats", &admin]);
    let lines: Vec<_> = stats.stdout.lines().collect();
    for expected in [
        "program    ",
        "requests   4 HTTP",
        "hits       75.0% (3 hits, 1 misses",
        "cache      1 of 100,000 keys",
        "latency    over HTTP: hit p50 ",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(expected)), "{expected}: {stats:?}");
    }
    assert!(lines.iter().any(|line| line.starts_with("redis ") && line.ends_with(" connected")), "{stats:?}");
    let json = run(&[], &["stats", "--json", &admin]);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((&json["totals"]["hits"], &json["cache"]["entries"]), (&3.into(), &1.into()));

    let ready = run(&[], &["health", &admin]);
    assert!(ended(&ready).0 == 0 && ready.stdout.starts_with("ready\n"), "{ready:?}");
    let wrong_port = run(&[], &["stats", &format!("--admin=http://{}", proxy.address())]);
    assert_eq!(ended(&wrong_port).0, 4, "{wrong_port:?}");
    // The other port of the two, where there are even keys of these names.
    redis.client().set("readyz", "a value");
    redis.client().set("insight.json", "{\"a\": 1}");
    let [data, other] = [format!("--admin=http://{}", proxy.address()), admin.replace("--admin", "--url")];
    for (arguments, port) in [
        (&["health", &data][..], "admin"),
        (&["stats", "--json", &data], "admin"),
        (&["get", &other, "livez"], "data"),
        (&["get", &other, "nowhere"], "data"),
    ] {
        let output = run(&[], arguments);
        assert_eq!((ended(&output).0, ended(&output).1), (3, ""), "{output:?}");
        assert!(ended(&output).2.ends_with(&format!("is this the {port} port?")), "{output:?}");
    }
    drop(redis);
    let away = run(&[], &["health", &admin]);
    assert_eq!((ended(&away).0, away.stdout.as_str()), (1, ""), "{away:?}");
    assert!(ended(&away).2.starts_with("not ready: "), "{away:?}");
    let unanswered = run(&[], &["get", &urls(&proxy)[0], "other"]);
    assert!(
        ended(&unanswered).0 == 3 && ended(&unanswered).2.starts_with("the answer is 50"),
        "{unanswered:?}"
    );
}

#[test]
fn sockets_and_tls_are_spoken_and_a_stranger_is_not_trusted() {
    let (authority, redis) = (Authority::new(), RedisServer::start());
    redis.client().set("k", "v");
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let [cert, key] = authority.sign("own", &["127.0.0.1", "localhost"]);
    let host = format!("unix:{}", socket.display());
    let settings = [
        ("TLS_CERT", cert.to_str().unwrap()),
        ("TLS_KEY", key.to_str().unwrap()),
        ("ADMIN_HOST", &host),
        ("ADMIN_PORT", ""),
    ];
    let (mut log, stderr) = std::io::pipe().unwrap();
    let _program = BareProgram::start(&redis, &settings, stderr);
    let (line, _) = read_to("listening", &mut log);
    let data = address(&line, "http").unwrap();
    let admin = format!("--admin=unix:{}", socket.display());
    assert_eq!(ended(&run(&[], &["health", &admin])).0, 0);
    assert_eq!(ended(&run(&[], &["purge", &admin, "k"])), (0, "purged: 0\n", ""));
    let ca = authority.file("ca.pem");
    let ca = ca.to_str().unwrap();
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("--url=https://{host}:{}", data.port());
        assert_eq!(ended(&run(&[], &["get", &url, "--cacert", ca, "k"])), (0, "v", ""));
        let stranger = run(&[], &["get", &url, "k"]);
        assert!(ended(&stranger).0 == 3 && ended(&stranger).2.contains("certificate"), "{stranger:?}");
    }
    let plain = run(&[], &["get", &format!("--url=http://{data}"), "k"]);
    assert_ne!(ended(&plain).0, 0, "{plain:?}");
    for (file, words) in [("/nowhere/ca.pem", "No such file"), ("/dev/null", "no certificate")] {
        let url = format!("--url=https://{data}");
        let output = run(&[], &["get", &url, "--cacert", file, "k"]);
        assert!(ended(&output).0 == 2 && ended(&output).2.contains(words), "{output:?}");
    }
    let nowhere = run(&[], &["health", "--admin=unix:/nowhere/admin.sock"]);
    assert_eq!(ended(&nowhere).0, 3, "{nowhere:?}");
}

/// Answers one client after the other with these bytes, whatever they ask, and holds the connection.
fn serve(answer: &'static [u8]) -> (String, thread::JoinHandle<Vec<TcpStream>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let held = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(answer);
        if answer.is_empty() { vec![stream] } else { Vec::new() }
    });
    (url, held)
}

#[test]
fn what_does_not_answer_as_it_should_is_unreachable_in_words() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = run(&[], &["get", &format!("--url=http://{closed}"), "k"]);
    assert_eq!(ended(&refused).0, 3);
    assert!(ended(&refused).2.starts_with(&format!("http://{closed}: ")), "{refused:?}");
    let unknown = run(&[], &["health", "--admin=http://no-such-name.invalid:1"]);
    assert_eq!(ended(&unknown).0, 3, "{unknown:?}");
    for (answer, words) in [
        (&b"SSH-2.0-OpenSSH\r\n"[..], "http://"),
        (
            b"HTTP/1.1 200 OK\r\nCache-Status: redis-proxy; hit\r\nContent-Length: 10\r\n\r\nhalf",
            "the answer breaks off",
        ),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n",
            "the answer is 302",
        ),
        (
            b"HTTP/1.1 500 No\r\nContent-Length: 11\r\n\r\nwo\x1b]0;x\x07rds",
            "the answer is 500: wo\\x1b]0;x\\x07rds",
        ),
    ] {
        let (url, server) = serve(answer);
        let output = run(&[], &["get", "--url", &url, "k"]);
        server.join().unwrap();
        assert!(ended(&output).0 == 3 && ended(&output).2.contains(words), "{output:?}");
    }
    // What any server may say.
    for (answer, arguments, port) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"[..], &["stats", "--admin"][..], "admin"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", &["stats", "--json", "--admin"], "admin"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n", &["purge", "k", "--admin"], "admin"),
        (
            b"HTTP/1.1 200 OK\r\nCache-Status: edge; hit\r\nContent-Length: 2\r\n\r\nhi",
            &["get", "k", "--url"],
            "data",
        ),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", &["get", "k", "--url"], "data"),
    ] {
        let (url, server) = serve(answer);
        let output = run(&[], &[arguments, &[&url]].concat());
        server.join().unwrap();
        let (code, printed, told) = ended(&output);
        assert!(code == 3 && printed.is_empty(), "{output:?}");
        assert!(told.contains(&format!("is this the {port} port?")), "{output:?}");
    }

    let (url, server) = serve(b"");
    let begun = Instant::now();
    let silent = run(&[], &["health", "--admin", &url, "--timeout", "200ms"]);
    assert!(begun.elapsed() >= Duration::from_millis(200) && ended(&silent).0 == 3, "{silent:?}");
    assert!(ended(&silent).2.contains("no answer within 200ms"), "{silent:?}");
    drop(server.join());
}

#[test]
fn the_help_of_each_subcommand_has_an_example() {
    for name in ["get", "purge", "stats", "health", "top"] {
        let output = run(&[], &[name, "--help"]);
        let (code, help, _) = ended(&output);
        assert!(code == 0 && help.contains(&format!("Example:\n  redis-proxy {name}")), "{help}");
        assert!(help.contains("Exit code: 0 done, 1 no such key"), "{help}");
    }
    let all = run(&[], &["--help"]);
    for name in ["get", "purge", "stats", "health", "top", "bench"] {
        assert!(
            all.stdout.lines().any(|line| line.starts_with(&format!("  {name} "))),
            "{name}: {}",
            all.stdout
        );
    }
}
