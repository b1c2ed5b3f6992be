//! The program under test.
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use crate::{HttpClient, LogLine, Metrics, RedisServer, Response, Signal};

/// The running program; killed when dropped, and then an unexpected warning in its log fails the test.
pub struct Proxy {}

/// How a [`Proxy`] is to be started.
pub struct ProxyBuilder {}

#[allow(unused_variables)]
impl ProxyBuilder {
    /// Sets an environment variable of the program: a setting.
    pub fn set(self, name: &str, value: impl AsRef<OsStr>) -> Self {
        unimplemented!()
    }
    /// Adds an argument.
    pub fn arg(self, argument: impl AsRef<OsStr>) -> Self {
        unimplemented!()
    }
    /// Points it at this server (`REDIS_URL`).
    pub fn redis(self, server: &RedisServer) -> Self {
        unimplemented!()
    }
    /// Points it at this address: a fault proxy, a scripted Redis.
    pub fn redis_at(self, address: SocketAddr) -> Self {
        unimplemented!()
    }
    /// Accepts warnings that contain this text, from the start.
    pub fn allow_warning(self, text: &str) -> Self {
        unimplemented!()
    }
    /// Starts it and waits until it listens.
    pub fn start(self) -> Proxy {
        unimplemented!()
    }
}

#[allow(unused_variables)]
impl Proxy {
    /// The program at this path: `env!("CARGO_BIN_EXE_redis-proxy")`.
    pub fn builder(program: impl AsRef<Path>) -> ProxyBuilder {
        unimplemented!()
    }
    /// The data port.
    pub fn address(&self) -> SocketAddr {
        unimplemented!()
    }
    /// The admin port.
    pub fn admin_address(&self) -> SocketAddr {
        unimplemented!()
    }
    /// A new connection to the data port.
    pub fn client(&self) -> HttpClient {
        unimplemented!()
    }
    /// GET on a new connection to the data port.
    pub fn get(&self, target: &str) -> Response {
        unimplemented!()
    }
    /// The metrics as they are now.
    pub fn metrics(&self) -> Metrics {
        unimplemented!()
    }
    /// The process id.
    pub fn pid(&self) -> u32 {
        unimplemented!()
    }
    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        unimplemented!()
    }
    /// SIGTERM, and waits for the end.
    pub fn stop(&self) -> ExitStatus {
        unimplemented!()
    }
    /// Waits for the end; `None` if it still runs after `timeout`.
    pub fn wait_exit(&self, timeout: Duration) -> Option<ExitStatus> {
        unimplemented!()
    }
    /// The log so far.
    pub fn log(&self) -> Vec<LogLine> {
        unimplemented!()
    }
    /// Waits for the first line that contains `text`.
    pub fn wait_log(&self, text: &str, timeout: Duration) -> LogLine {
        unimplemented!()
    }
    /// Waits for the `count`-th line that contains `text`.
    pub fn wait_log_count(&self, text: &str, count: usize, timeout: Duration) -> LogLine {
        unimplemented!()
    }
    /// Accepts warnings and errors that contain this text.
    pub fn allow_warning(&self, text: &str) {
        unimplemented!()
    }
    /// CPU time used so far, in clock ticks of 10 ms.
    pub fn cpu_ticks(&self) -> u64 {
        unimplemented!()
    }
    /// Resident memory.
    pub fn resident_bytes(&self) -> u64 {
        unimplemented!()
    }
    /// Open file descriptors.
    pub fn open_files(&self) -> usize {
        unimplemented!()
    }
}
