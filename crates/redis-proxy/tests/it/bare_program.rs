//! The program with a standard error of the test's own: what it writes there is judged by nobody but the test.
#![allow(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use std::io::{PipeReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use testkit::{RedisServer, Signal, WITH_SIGHUP, wait_until};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The running program, killed when dropped.
pub(crate) struct BareProgram(Child);

impl BareProgram {
    pub(crate) fn start(
        redis: &RedisServer,
        settings: &[(&str, &str)],
        stderr: impl Into<Stdio>,
    ) -> BareProgram {
        BareProgram::start_by(BareProgram::command(), redis, settings, Stdio::null(), stderr)
    }

    /// What starts it.
    pub(crate) fn command() -> Command {
        let mut program = Command::new(WITH_SIGHUP[0]);
        program.args(&WITH_SIGHUP[1..]).arg(env!("CARGO_BIN_EXE_redis-proxy"));
        program
    }

    /// Starts it by this command, with a standard input too.
    pub(crate) fn start_by(
        mut command: Command,
        redis: &RedisServer,
        settings: &[(&str, &str)],
        stdin: impl Into<Stdio>,
        stderr: impl Into<Stdio>,
    ) -> BareProgram {
        let defaults = [
            ("PORT", "0"),
            ("ADMIN_PORT", "0"),
            ("RESP_PORT", "off"),
            ("LOG_FORMAT", "json"),
            ("ALLOWED_HOSTS", "*"),
        ];
        let child = command
            .env_clear()
            .envs(defaults)
            .env("REDIS_URL", redis.url())
            .envs(settings.iter().copied())
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        BareProgram(child)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    #[track_caller]
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        let mut ended = None;
        wait_until(PATIENCE, "the end", || {
            ended = self.0.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }
}

impl Drop for BareProgram {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads up to the line `listening`, and nothing behind it: the addresses of the data port and of the admin port.
pub(crate) fn listening(stderr: &mut PipeReader) -> (SocketAddr, SocketAddr) {
    let (line, _) = read_to("listening", stderr);
    (address(&line, "http").unwrap(), address(&line, "admin").unwrap())
}

/// The address of a port in that line; `None` if it is off.
pub(crate) fn address(listening: &str, port: &str) -> Option<SocketAddr> {
    let event: serde_json::Value = serde_json::from_str(listening).unwrap();
    event["fields"][port].as_str().unwrap().parse().ok()
}

/// Reads up to a line that holds `text`, and nothing behind it: that line, and those before it.
pub(crate) fn read_to(text: &str, stderr: &mut PipeReader) -> (String, Vec<String>) {
    let mut before = Vec::new();
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        stderr.read_exact(&mut byte).unwrap();
        if byte != *b"\n" {
            line.push(byte[0]);
            continue;
        }
        let whole = String::from_utf8(std::mem::take(&mut line)).unwrap();
        if whole.contains(text) {
            return (whole, before);
        }
        before.push(whole);
    }
}
