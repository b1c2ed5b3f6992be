//! Redis' own tools, through the proxy.

use std::time::Duration;

use testkit::{Proxy, RedisServer, find_program, not_run, run_to_end};

use crate::support::start_resp;

/// What a tool prints, without progress; `None` if it is not installed.
fn run(tool: &str, port: u16, arguments: &[&str]) -> Option<String> {
    let Some(program) = find_program(tool) else {
        not_run(&format!("{tool} is not installed"));
        return None;
    };
    let port = port.to_string();
    let arguments = [&["-h", "127.0.0.1", "-p", &port][..], arguments].concat();
    let output = run_to_end(program, &[], &arguments, Duration::from_secs(120));
    assert!(output.status.success(), "{tool} {arguments:?}: {output:#?}");
    Some(output.stdout)
}

fn same(redis: &RedisServer, proxy: &Proxy, arguments: &[&str]) {
    let direct = run("redis-cli", redis.port(), arguments);
    let through = run("redis-cli", proxy.resp_address().port(), arguments);
    assert!(direct == through, "{arguments:?}: {direct:#?} {through:#?}");
}

#[test]
fn redis_cli_says_the_same_as_directly() {
    let (redis, proxy) = start_resp(&[]);
    let script = [
        &["SET", "k", "v"][..],
        &["-n", "2", "SET", "k", "two"],
        &["-3", "HMSET", "h", "f", "1"],
        &["-3", "HGETALL", "h"],
        &["HGETALL", "h"],
        &["-r", "5", "INCR", "n"],
        &["EVAL", "return {KEYS[1], ARGV[1]}", "1", "k", "a"],
        &["NOSUCH", "x"],
        &["--user", "nobody", "--pass", "x", "--no-auth-warning", "PING"],
        &["--scan"],
        &["--json", "HGETALL", "h"],
        // What it asks for when it is started on a terminal, to help with arguments.
        &["COMMAND", "DOCS"],
        &["-3", "COMMAND", "DOCS"],
        &["COMMAND"],
        &["COMMAND", "COUNT"],
        &["COMMAND", "GETKEYS", "MSET", "a", "1", "b", "2"],
        &["COMMAND", "INFO", "GET"],
    ];
    for arguments in script {
        if arguments[1..].contains(&"INCR") {
            redis.client().del("n");
            let all = Some("1\n2\n3\n4\n5\n".to_owned());
            let found = run("redis-cli", proxy.resp_address().port(), arguments);
            assert!(found.is_none() || found == all, "{found:?}");
        } else {
            same(&redis, &proxy, arguments);
        }
    }
    // As a replica: the whole of the data through a tunnel.
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("dump.rdb");
    if run("redis-cli", proxy.resp_address().port(), &["--rdb", file.to_str().expect("text")]).is_some() {
        let dump = std::fs::read(&file).expect("what redis-cli wrote");
        assert!(dump.starts_with(b"REDIS") && memchr::memmem::find(&dump, b"two").is_some());
    }
}

#[test]
fn redis_benchmark_runs_to_its_end_in_both_protocols() {
    let (_redis, proxy) = start_resp(&[]);
    for arguments in
        [&["-3"][..], &["-P", "16"], &["-3", "-P", "16", "--threads", "2"], &["-r", "1000", "-d", "1000"]]
    {
        let arguments = [&["-n", "2000", "-c", "20", "-q"][..], arguments].concat();
        let Some(output) = run("redis-benchmark", proxy.resp_address().port(), &arguments) else { return };
        let lines = output.split(['\r', '\n']).filter(|line| line.contains("requests per second")).count();
        assert!(lines >= 19 && !output.to_lowercase().contains("err"), "{output}");
    }
}
