//! Settings as an operator meets them: a bad one is one line and exit code 2, and a secret stays one.

use std::time::Duration;

use testkit::{RedisServer, RunOutput, run_to_end};

use crate::support::{mkfifo, program};

const PATIENCE: Duration = Duration::from_secs(10);
const GOOD: [(&str, &str); 2] = [("PORT", "0"), ("ADMIN_PORT", "0")];

fn run(environment: &[(&str, &str)], arguments: &[&str]) -> RunOutput {
    let environment: Vec<_> = GOOD.iter().chain(environment).copied().collect();
    run_to_end(env!("CARGO_BIN_EXE_redis-proxy"), &environment, arguments, PATIENCE)
}

#[test]
fn a_bad_value_is_one_line_that_names_setting_value_and_what_is_accepted() {
    let bad = [
        ("PORT", "65536"),
        ("PORT", "http"),
        ("ADMIN_PORT", "-1"),
        ("CAPACITY", "0"),
        ("CAPACITY", "many"),
        ("CAPACITY", "1.5"),
        ("CAPACITY_BYTES", "5 parrots"),
        ("GLOBAL_EXPIRY", "-1"),
        ("GLOBAL_EXPIRY", "soon"),
        ("MAX_CLIENTS", "0"),
        ("MAX_WAITING", "-1"),
        ("CLIENT_WAIT", "x"),
        ("MAX_INFLIGHT", "0"),
        ("MAX_KEY_BYTES", "0"),
        ("REDIS_PORT", "0"),
        ("REDIS_DB", "-1"),
        ("REDIS_DB", "zero"),
        ("UPSTREAM_TIMEOUT", "0"),
        ("WORKERS", "0"),
        ("LOG_FORMAT", "xml"),
        ("LOG", "loud=="),
        ("WITH_REDIS", "perhaps"),
        ("HTTP_CACHE_CONTROL", "a\r\nb"),
        ("SHUTDOWN_TIMEOUT", "never"),
    ];
    for (name, value) in bad {
        let output = run(&[(name, value)], &[]);
        assert_eq!(output.status.code(), Some(2), "{name}={value}: {output:?}");
        assert_eq!(output.stderr.lines().count(), 1, "{name}={value}: {output:?}");
        assert_eq!(output.stdout, "", "{name}={value}");
        assert!(output.stderr.starts_with("redis-proxy: "), "{output:?}");
        assert!(output.stderr.contains(name) && output.stderr.contains("expected"), "{output:?}");
        if !value.contains('\r') {
            assert!(output.stderr.contains(value), "{output:?}");
        }
    }
}

#[test]
fn an_unknown_flag_is_one_line_and_exit_code_2() {
    let output = run(&[], &["--capcity=5"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
    assert!(output.stderr.contains("--capcity"), "{output:?}");
}

#[test]
fn a_setting_of_an_earlier_version_refuses_the_start_and_names_its_successor() {
    for (environment, arguments) in [
        (&[("RESP_CACHE", "on")][..], &[][..]),
        (&[("RESP_CACHE", "off"), ("RESP_COHERENCE", "off")], &[]),
        (&[], &["--resp-cache=on"]),
        (&[("RESP_CACHE", "on")], &["--check-config"]),
    ] {
        let output = run(environment, arguments);
        assert_eq!((output.status.code(), output.stderr.lines().count()), (Some(2), 1), "{output:?}");
        assert!(
            output.stderr.contains("RESP_CACHE") && output.stderr.contains("RESP_COHERENCE"),
            "{output:?}"
        );
    }
}

#[test]
fn check_config_judges_and_starts_nothing() {
    let good = run(&[("CAPACITY", "7")], &["--check-config"]);
    assert_eq!((good.status.code(), good.stderr.as_str()), (Some(0), ""), "{good:?}");
    let bad = run(&[("CAPACITY", "-7")], &["--check-config"]);
    assert_eq!(bad.status.code(), Some(2), "{bad:?}");
}

#[test]
fn print_config_shows_what_holds_and_no_secret() {
    let environment = [("REDIS_PASSWORD", "correct-horse"), ("REDIS_HOST", "db.test"), ("CAPACITY", "7")];
    let output = run(&environment, &["--print-config", "--capacity", "8"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(!output.stdout.contains("correct-horse"), "{}", output.stdout);
    let has = |name: &str, value: &str| {
        output.stdout.lines().any(|line| line.to_lowercase().contains(name) && line.contains(value))
    };
    assert!(has("capacity", "8") && has("redis_host", "db.test"), "{}", output.stdout);

    let output = run(&[("REDIS_URL", "redis://u:correct-horse@db.test:1/2")], &["--print-config"]);
    assert!(
        !output.stdout.contains("correct-horse") && output.stdout.contains("db.test"),
        "{}",
        output.stdout
    );
}

#[test]
fn a_bad_secret_is_not_shown() {
    for url in ["redis://:correct-horse@h:port", "http://u:correct-horse@h", "correct-horse"] {
        let output = run(&[("REDIS_URL", url)], &[]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(!output.stderr.contains("correct-horse"), "{output:?}");
        assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
    }
}

#[test]
fn flags_win_over_the_environment() {
    let redis = RedisServer::start();
    let proxy = program().redis(&redis).set("CAPACITY", "7").arg("--capacity=2").start();
    let line = proxy.wait_log("listening", PATIENCE);
    assert_eq!(line.fields["capacity"].as_u64(), Some(2), "{}", line.raw);
}

#[test]
fn a_service_named_like_a_port_of_ours_ends_nothing_and_is_told() {
    let redis = RedisServer::start();
    let injected = "tcp://10.0.0.1:80";
    let proxy = program()
        .redis(&redis)
        .set("ADMIN_PORT", injected)
        .set("RESP_PORT", injected)
        .arg("--admin-port=0")
        .arg("--resp-port=off")
        .start();
    assert!(["ADMIN_PORT", "RESP_PORT"].iter().all(|name| {
        proxy.log().iter().any(|line| line.field("name") == Some(name) && line.message.contains("ignored"))
    }));
}

#[test]
fn a_file_that_is_a_pipe_to_which_nobody_writes_refuses_the_start_in_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("pipe");
    mkfifo(&pipe);
    let pipe = pipe.to_str().expect("a path");
    let why = "nobody writes to it";
    for (name, why) in [
        ("REDIS_PASSWORD_FILE", why),
        ("REDIS_URL_FILE", why),
        ("REDIS_TLS_CA", "it is no regular file"),
        ("REDIS_TLS_CERT", "it is no regular file"),
        ("REDIS_TLS_KEY", "it is no regular file"),
        ("--config", why),
    ] {
        let output = match name {
            "--config" => run(&[], &[name, pipe, "--check-config"]),
            "REDIS_TLS_CERT" => run(&[(name, pipe), ("REDIS_TLS_KEY", "/etc/passwd")], &["--check-config"]),
            "REDIS_TLS_KEY" => run(&[(name, pipe), ("REDIS_TLS_CERT", "/etc/passwd")], &["--check-config"]),
            _ => run(&[(name, pipe)], &["--check-config"]),
        };
        assert_eq!((output.status.code(), output.stderr.lines().count()), (Some(2), 1), "{output:?}");
        assert!(output.stderr.contains(name) && output.stderr.contains(why), "{output:?}");
    }
}

#[test]
fn settings_that_exclude_sentinels_are_both_named_with_code_2() {
    let sentinels = [("REDIS_SENTINELS", "h1,h2"), ("REDIS_MASTER_NAME", "mymaster")];
    for other in
        [("REDIS_URL", "redis://h"), ("REDIS_HOST", "h"), ("REDIS_PORT", "6379"), ("WITH_REDIS", "on")]
    {
        let output = run(&[sentinels[0], sentinels[1], other], &[]);
        assert_eq!((output.status.code(), output.stderr.lines().count()), (Some(2), 1), "{output:?}");
        assert!(["REDIS_SENTINELS", other.0].iter().all(|name| output.stderr.contains(name)), "{output:?}");
    }
}

#[test]
fn settings_that_exclude_a_cluster_are_both_named_with_code_2() {
    for other in [
        ("REDIS_URL", "redis://h"),
        ("REDIS_HOST", "h"),
        ("REDIS_PORT", "6379"),
        ("REDIS_SENTINELS", "h"),
        ("REDIS_MASTER_NAME", "mymaster"),
        ("WITH_REDIS", "on"),
    ] {
        let output = run(&[("REDIS_CLUSTER", "h1,h2:7000"), other], &[]);
        assert_eq!((output.status.code(), output.stderr.lines().count()), (Some(2), 1), "{output:?}");
        assert!(["REDIS_CLUSTER", other.0].iter().all(|name| output.stderr.contains(name)), "{output:?}");
    }
}

#[test]
fn an_emulated_node_and_its_address_go_together() {
    for settings in [
        &[("RESP_ANNOUNCE", "h:7000")][..],
        &[("RESP_ANNOUNCE", "h"), ("RESP_CLUSTER", "emulate")],
        &[("RESP_HOST", "unix:/tmp/emulated.sock"), ("RESP_CLUSTER", "emulate")],
    ] {
        let output = run(settings, &["--check-config"]);
        assert_eq!((output.status.code(), output.stderr.lines().count()), (Some(2), 1), "{output:?}");
        assert!(output.stderr.contains("RESP_ANNOUNCE"), "{output:?}");
    }
}

#[test]
fn a_command_that_prints_no_password_refuses_the_start_in_words() {
    for (command, why) in [
        ("sleep 60", "has not ended after 5s"),
        ("sh -c 'echo correct-horse; exit 7'", "ended with exit status: 7"),
        ("/nowhere/correct-horse", "cannot be started: No such file"),
    ] {
        let output = run(&[("REDIS_PASSWORD_COMMAND", command)], &[]);
        assert_eq!((output.status.code(), output.stderr.lines().count()), (Some(2), 1), "{output:?}");
        assert!(
            output.stderr.contains("REDIS_PASSWORD_COMMAND") && output.stderr.contains(why),
            "{output:?}"
        );
        assert!(!output.stderr.contains("correct-horse"), "{output:?}");
    }
}
