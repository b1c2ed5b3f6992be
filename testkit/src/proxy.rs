//! The program under test, as its users have it: a process with settings, ports, a log and an exit code.
//!
//! Its ports are chosen by the system and read from its first log line, `listening`. Its log is judged when it is
//! dropped: a warning that the test did not allow is a failure that no assertion looked for.

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::child::{PATIENCE, Process, command};
use crate::log::Log;
use crate::metrics::metrics;
use crate::{
    Cluster, HttpClient, LogLine, Metrics, RawClient, RedisClient, RedisServer, Response, Sentinels, Signal,
};

/// The running program, killed when dropped.
///
/// # Panics
/// On drop: when its log holds a warning or an error that was not allowed, a panic, or a secret of its settings, or when it ended by
/// itself.
pub struct Proxy {
    process: Process,
    log: Log,
    http: Option<SocketAddr>,
    resp: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    allowed: Mutex<Vec<String>>,
    /// What no line of its log may hold.
    secrets: Vec<String>,
    /// Set once the test itself signals the program or waits for its end: from then on its end is no surprise.
    may_end: AtomicBool,
}

/// How a [`Proxy`] is to be started.
pub struct ProxyBuilder {
    program: PathBuf,
    settings: Vec<(String, OsString)>,
    arguments: Vec<OsString>,
    allowed: Vec<String>,
}

impl ProxyBuilder {
    /// Sets an environment variable: a setting. The last of a name wins.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.settings.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Points it at this server.
    #[must_use]
    pub fn redis(self, server: &RedisServer) -> Self {
        self.set("REDIS_URL", server.url())
    }

    /// Points it at the primary of these sentinels, with the logins of both; not TLS.
    #[must_use]
    pub fn sentinels(self, sentinels: &Sentinels) -> Self {
        let mut builder = self.set("REDIS_URL", sentinels.url());
        if let Some((user, password)) = sentinels.sentinel_login() {
            builder =
                user.into_iter().fold(builder, |builder, user| builder.set("REDIS_SENTINEL_USERNAME", user));
            builder = builder.set("REDIS_SENTINEL_PASSWORD", password);
        }
        builder
    }

    /// Points it at the nodes of this cluster, with their login; not TLS.
    #[must_use]
    pub fn cluster(self, cluster: &Cluster) -> Self {
        self.set("REDIS_URL", cluster.url())
    }

    /// Points it at this address: a fault proxy, a scripted Redis.
    #[must_use]
    pub fn redis_at(self, address: SocketAddr) -> Self {
        self.set("REDIS_URL", format!("redis://{address}"))
    }

    /// Accepts warnings and errors that contain this text, from the start.
    #[must_use]
    pub fn allow_warning(mut self, text: &str) -> Self {
        self.allowed.push(text.to_owned());
        self
    }

    /// Starts it and waits until it listens.
    ///
    /// # Panics
    /// When it ends, or does not log `listening` in JSON within 10 s; the text holds its log.
    #[track_caller]
    pub fn start(self) -> Proxy {
        let mut program = command(&self.program);
        program.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let defaults = [
            ("PORT", "0"),
            ("RESP_PORT", "off"),
            ("ADMIN_PORT", "0"),
            ("LOG_FORMAT", "json"),
            ("LOG", "info"),
            ("ALLOWED_HOSTS", "*"),
        ];
        let secrets = secrets_of(&self.settings);
        program.envs(defaults).envs(self.settings);
        let (process, stderr) = Process::spawn(program, |child| child.stderr.take());
        let log = Log::collect(stderr.expect("a piped stderr"));

        let Some(listening) = log.wait(1, PATIENCE, |line| line.message == "listening") else {
            let end = process.wait_exit(Duration::from_millis(100));
            let end = end.map_or("does not listen".to_owned(), |status| format!("ended ({status})"));
            panic!("{} {end}; its log:\n{}", self.program.display(), log.tail());
        };
        Proxy {
            process,
            http: listening_address(&listening, "http"),
            resp: listening_address(&listening, "resp"),
            admin: listening_address(&listening, "admin"),
            log,
            allowed: Mutex::new(self.allowed),
            secrets,
            may_end: AtomicBool::new(false),
        }
    }
}

impl Proxy {
    /// The program at this path: `env!("CARGO_BIN_EXE_redis-proxy")`. It will see PATH, its settings, and these
    /// defaults: `PORT=0`, `RESP_PORT=off`, `ADMIN_PORT=0`, `LOG_FORMAT=json`, `LOG=info`, `ALLOWED_HOSTS=*`.
    pub fn builder(program: impl AsRef<Path>) -> ProxyBuilder {
        ProxyBuilder {
            program: program.as_ref().to_owned(),
            settings: Vec::new(),
            arguments: Vec::new(),
            allowed: Vec::new(),
        }
    }

    /// The data port.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        self.http.expect("the data port is off")
    }

    /// The port for Redis clients.
    #[track_caller]
    pub fn resp_address(&self) -> SocketAddr {
        self.resp.expect("the port for Redis clients is off")
    }

    /// A new connection to it.
    #[track_caller]
    pub fn resp_client(&self) -> RawClient {
        RawClient::connect(self.resp_address())
    }

    /// A new connection to it, for whole commands and replies.
    #[track_caller]
    pub fn redis_client(&self) -> RedisClient {
        RedisClient::connect(self.resp_address())
    }

    /// The admin port.
    #[track_caller]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.expect("the admin port is off")
    }

    /// A new connection to the data port.
    #[track_caller]
    pub fn client(&self) -> HttpClient {
        HttpClient::connect(self.address())
    }

    /// GET of a target on a new connection to the data port.
    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        self.client().get(target)
    }

    /// The metrics as they are now.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        metrics(self.admin_address())
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.may_end.store(true, Ordering::Relaxed);
        self.process.signal(signal);
    }

    /// SIGSTOP, and waits until every thread stands still.
    #[track_caller]
    pub fn pause_process(&self) {
        self.process.stop_running();
    }

    /// SIGCONT.
    pub fn resume_process(&self) {
        self.process.continue_running();
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Panics
    /// When it still runs after 10 s.
    #[track_caller]
    pub fn stop(&self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_exit(PATIENCE).expect("the program ends within 10 s of SIGTERM")
    }

    /// Waits for the end; `None` if it still runs after `timeout`. After the end the log is complete.
    pub fn wait_exit(&self, timeout: Duration) -> Option<ExitStatus> {
        self.may_end.store(true, Ordering::Relaxed);
        let status = self.process.wait_exit(timeout)?;
        self.log.wait_end();
        Some(status)
    }

    /// The log so far.
    pub fn log(&self) -> Vec<LogLine> {
        self.log.lines()
    }

    /// Waits for the first line that contains `text`.
    ///
    /// # Panics
    /// When there is none within `timeout`; the text holds the log.
    #[track_caller]
    pub fn wait_log(&self, text: &str, timeout: Duration) -> LogLine {
        self.wait_log_count(text, 1, timeout)
    }

    /// Waits for the `count`-th line since the start that contains `text`.
    ///
    /// # Panics
    /// When there is none within `timeout`; the text holds the log.
    #[track_caller]
    pub fn wait_log_count(&self, text: &str, count: usize, timeout: Duration) -> LogLine {
        self.log.wait(count, timeout, |line| line.raw.contains(text)).unwrap_or_else(|| {
            panic!("waited {timeout:?} in vain for {text:?} ({count}) in the log:\n{}", self.log.tail())
        })
    }

    /// Accepts warnings and errors that contain this text, those already logged too.
    pub fn allow_warning(&self, text: &str) {
        self.allowed.lock().unwrap().push(text.to_owned());
    }

    /// User and system time used so far, in clock ticks (10 ms on Linux).
    #[track_caller]
    pub fn cpu_ticks(&self) -> u64 {
        self.process.cpu_ticks()
    }

    /// Resident memory.
    #[track_caller]
    pub fn resident_bytes(&self) -> u64 {
        self.process.resident_bytes()
    }

    /// Open file descriptors.
    #[track_caller]
    pub fn open_files(&self) -> usize {
        self.process.open_files()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let ended = self.process.wait_exit(Duration::ZERO);
        self.process.kill();
        self.log.wait_end();
        if thread::panicking() {
            eprintln!("the program's log:\n{}", self.log.tail());
            return;
        }
        if let Some(status) = ended.filter(|_| !self.may_end.load(Ordering::Relaxed)) {
            panic!("the program ended by itself ({status}); its log:\n{}", self.log.tail());
        }
        for secret in &self.secrets {
            let told = self.log.lines().into_iter().find(|line| line.raw.contains(secret.as_str()));
            assert!(
                told.is_none(),
                "a secret is in the program's log: {}",
                told.map_or(String::new(), |line| line.raw)
            );
        }
        let unexpected = self.log.unexpected(&self.allowed.lock().unwrap());
        assert!(unexpected.is_empty(), "unexpected in the program's log:\n  {}", unexpected.join("\n  "));
    }
}

/// The secrets among settings, and those in files that they name: what is long enough to be told from other words.
fn secrets_of(settings: &[(String, OsString)]) -> Vec<String> {
    const SHORTEST: usize = 10;
    let is_secret = |name: &str| name.contains("TOKEN") || name.contains("PASSWORD");
    let texts = settings.iter().filter(|(name, _)| is_secret(name)).filter_map(|(name, value)| match name {
        // A pipe is the program's to read.
        name if name.ends_with("_FILE") && Path::new(value).is_file() => std::fs::read_to_string(value).ok(),
        name if name.ends_with("_FILE") => None,
        name if name.ends_with("_COMMAND") => None,
        _ => value.to_str().map(str::to_owned),
    });
    let words = texts.flat_map(|text| {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect::<Vec<_>>()
    });
    words.filter(|word| word.len() >= SHORTEST).collect()
}

/// The address in a field of the line `listening`; `None` for `off`. What listens on all addresses is reached on
/// the loopback.
#[track_caller]
fn listening_address(line: &LogLine, field: &str) -> Option<SocketAddr> {
    let text = line.field(field).unwrap_or_else(|| panic!("no text {field:?} in {}", line.raw));
    if text == "off" {
        return None;
    }
    let mut address: SocketAddr =
        text.parse().unwrap_or_else(|_| panic!("no address in {field:?} of {}", line.raw));
    if address.ip().is_unspecified() {
        address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    Some(address)
}
