//! The keeper of the program, with a shell script for the program.

use std::time::Duration;

use testkit::{Proxy, ProxyBuilder, RedisServer, Signal, wait_until};

use crate::{MOMENT, PATIENCE};

const LISTENING: &str = r#"echo '{"level":"INFO","fields":{"message":"listening","http":"127.0.0.1:81","resp":"off","admin":"off"}}' >&2;"#;
const WARNING: &str = r#"echo '{"level":"WARN","fields":{"message":"redis is gone"}}' >&2;"#;
const STAY: &str = "exec sleep 600";

fn script(parts: &[&str]) -> ProxyBuilder {
    Proxy::builder("/bin/sh").arg("-c").arg(parts.concat())
}

#[test]
fn addresses_and_settings_are_what_the_program_says_and_sees() {
    let redis = RedisServer::builder().password("secret").start();
    let settings = r#"echo "settings $PORT $ADMIN_PORT $LOG_FORMAT $LOG $CAPACITY $REDIS_URL" >&2;"#;
    let all = r#"echo '{"level":"INFO","message":"listening","http":"0.0.0.0:81","resp":"off","admin":"[::1]:82"}' >&2;"#;
    let proxy = script(&[settings, all, STAY]).set("CAPACITY", "9").redis(&redis).set("LOG", "debug").start();
    assert_eq!(proxy.address().to_string(), "127.0.0.1:81");
    assert_eq!(proxy.admin_address().to_string(), "[::1]:82");
    let line = proxy.wait_log("settings", PATIENCE);
    assert_eq!(line.raw, format!("settings 0 0 json debug 9 redis://:secret@{}", redis.address()));
    assert_eq!(proxy.log().len(), 2);
}

#[test]
#[should_panic(expected = "unexpected in the program's log:\n  {\"level\":\"WARN\"")]
fn an_unexpected_warning_fails_the_test() {
    let proxy = script(&[LISTENING, WARNING, STAY]).start();
    proxy.wait_log("gone", PATIENCE);
}

#[test]
#[should_panic(expected = "unexpected in the program's log")]
fn a_warning_after_sigterm_fails_the_test() {
    let proxy = script(&[
        "trap \"",
        &WARNING.replace('"', "\\\""),
        " exit 0\" TERM;",
        LISTENING,
        "while :; do sleep 0.01; done",
    ])
    .start();
    assert!(proxy.stop().success());
}

#[test]
fn an_allowed_warning_is_fine() {
    let before = script(&[LISTENING, WARNING, STAY]).allow_warning("redis is").start();
    before.wait_log("gone", PATIENCE);
    let after = script(&[LISTENING, WARNING, WARNING, STAY]).start();
    assert_eq!(after.wait_log_count("gone", 2, PATIENCE).message, "redis is gone");
    after.allow_warning("redis is gone");
}

#[test]
#[should_panic(expected = "panicked at src/main.rs")]
fn a_panic_of_the_program_fails_the_test() {
    let panics = "echo \"thread 'x' panicked at src/main.rs:1:1:\" >&2;";
    let proxy = script(&[LISTENING, panics, STAY]).allow_warning("panicked").start();
    proxy.wait_log("src/main.rs", PATIENCE);
}

#[test]
#[should_panic(expected = "the program ended by itself (exit status: 3)")]
fn an_end_that_nobody_asked_for_fails_the_test() {
    let proxy = script(&[LISTENING, "exit 3"]).start();
    let stat = format!("/proc/{}/stat", proxy.pid());
    wait_until(PATIENCE, "the end", || std::fs::read_to_string(&stat).unwrap().contains(") Z"));
}

#[test]
#[should_panic(expected = "ended (exit status: 2); its log:\n  error: no such setting")]
fn a_program_that_ends_before_it_listens_is_reported_with_its_log() {
    script(&["echo 'error: no such setting' >&2; exit 2"]).start();
}

#[test]
#[should_panic(expected = "in vain for \"redis is gone\" (1) in the log:\n  {\"level\":\"INFO\"")]
fn a_line_that_does_not_come_is_reported_with_the_log() {
    script(&[LISTENING, STAY]).start().wait_log("redis is gone", MOMENT);
}

#[test]
#[should_panic(expected = "the admin port is off")]
fn a_port_that_is_off_has_no_address() {
    script(&[LISTENING, STAY]).start().admin_address();
}

#[test]
fn signals_arrive_and_the_end_is_seen() {
    let trap = "trap 'seq 20000 >&2; exit 7' TERM; trap 'echo hup >&2' HUP;";
    let proxy = script(&[trap, LISTENING, "while :; do sleep 0.01; done"]).start();
    proxy.signal(Signal::HUP);
    proxy.wait_log("hup", PATIENCE);
    assert_eq!(proxy.wait_exit(Duration::ZERO), None);
    assert!(proxy.open_files() > 0 && proxy.resident_bytes() > 0);
    assert_eq!(proxy.stop().code(), Some(7));
    assert_eq!(proxy.log().last().unwrap().raw, "20000", "after the end the log is complete");
}

#[test]
fn a_paused_program_goes_on_when_resumed() {
    let proxy = script(&[LISTENING, "i=0; while :; do i=$((i+1)); done"]).start();
    proxy.pause_process();
    let ticks = proxy.cpu_ticks();
    std::thread::sleep(MOMENT);
    assert_eq!(proxy.cpu_ticks(), ticks);
    proxy.resume_process();
    wait_until(PATIENCE, "the program to go on", || proxy.cpu_ticks() > ticks);
}

#[test]
fn nothing_is_left_of_a_program_once_dropped() {
    let proxy = script(&[LISTENING, "trap '' TERM; while :; do :; done"]).start();
    let proc = format!("/proc/{}", proxy.pid());
    drop(proxy);
    assert!(!std::path::Path::new(&proc).exists());
}
