//! A real redis-server of the test's own: for everything that Redis decides.
//!
//! It keeps its files in a private folder and listens on 127.0.0.1 and on a unix socket in that folder. The socket is
//! how we talk to it ourselves: whoever answers there is this server, whatever became of the TCP port.

use std::fs;
use std::io;
use std::iter;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with};
use tempfile::TempDir;

use crate::child::{PATIENCE, Process, command, find_program};
use crate::{RedisClient, Reply};

/// A running redis-server, killed when dropped.
pub struct RedisServer {
    folder: TempDir,
    port: Arc<KeptPort>,
    tls_port: Option<Arc<KeptPort>>,
    /// Where nodes of a cluster talk to each other.
    _bus_port: Option<KeptPort>,
    login: Vec<String>,
    config_file: Option<String>,
    arguments: Vec<String>,
    program: PathBuf,
    /// `None` after [`kill`](RedisServer::kill).
    process: Mutex<Option<Process>>,
}

/// How a [`RedisServer`] is to be started; without a word, with no persistence and no password.
#[derive(Clone, Default)]
pub struct RedisServerBuilder {
    arguments: Vec<String>,
    /// What AUTH is sent with: a password, or a user and its password.
    login: Vec<String>,
    tls: bool,
    is_cluster_node: bool,
    program: Option<PathBuf>,
    port: Option<Arc<KeptPort>>,
    config_file: Option<String>,
}

impl RedisServerBuilder {
    /// Adds `--name value` to the command line; the last of a name wins, as in redis.conf.
    #[must_use]
    pub fn config(mut self, name: &str, value: &str) -> Self {
        self.arguments.extend([format!("--{name}"), value.to_owned()]);
        self
    }

    /// Gives a command another name.
    #[must_use]
    pub fn rename(mut self, command: &str, name: &str) -> Self {
        self.arguments.extend(["--rename-command", command, name].map(str::to_owned));
        self
    }

    /// Sets `requirepass`; [`RedisServer::client`] and [`RedisServer::url`] know the password.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.login = vec![password.to_owned()];
        self.config("requirepass", password)
    }

    /// Has [`RedisServer::client`] log in as a user that the [configuration file](Self::config_file) has.
    #[must_use]
    pub(crate) fn user(mut self, user: &str, password: &str) -> Self {
        self.login = [user, password].map(str::to_owned).to_vec();
        self
    }

    /// Gives it a configuration file with these lines, which it may rewrite: what it has learnt is known after a restart.
    #[must_use]
    pub(crate) fn config_file(mut self, lines: String) -> Self {
        self.config_file = Some(lines);
        self
    }

    /// Has it be a sentinel, which others find at `port`, with TLS if it is set; the configuration file says of what.
    #[must_use]
    pub(crate) fn sentinel(mut self, port: Arc<KeptPort>) -> Self {
        self.port = Some(port);
        self.arguments.push("--sentinel".to_owned());
        self
    }

    /// Has it be a node of a cluster, one without slots that knows no other: [`Cluster`](crate::Cluster) makes some of it. What it has
    /// learnt of its cluster is known after a restart.
    #[must_use]
    pub fn cluster_node(mut self) -> Self {
        self.is_cluster_node = true;
        self.config("cluster-enabled", "yes")
    }

    /// Listens for TLS too, on a port of its own, with these PEM files. Client certificates are not asked for
    /// (`config("tls-auth-clients", "yes")` asks).
    #[must_use]
    pub fn tls(mut self, certificate: &Path, key: &Path, authority: &Path) -> Self {
        self.tls = true;
        self.config("tls-cert-file", path_text(certificate))
            .config("tls-key-file", path_text(key))
            .config("tls-ca-cert-file", path_text(authority))
            .config("tls-auth-clients", "no")
    }

    /// Starts this program instead of redis-server: one that takes the same arguments, such as valkey-server.
    #[must_use]
    pub fn program(mut self, program: impl AsRef<Path>) -> Self {
        self.program = Some(program.as_ref().to_owned());
        self
    }

    /// Starts it and waits until it answers PING.
    ///
    /// # Panics
    /// When there is no redis-server, or it does not start; the text holds its log.
    #[track_caller]
    pub fn start(self) -> RedisServer {
        let folder = TempDir::new().expect("a temporary folder");
        let (known, bus_port) = match self.is_cluster_node {
            true => {
                let (port, bus_port) = KeptPort::with_bus();
                (Arc::new(port), Some(bus_port))
            }
            false => (self.port.unwrap_or_default(), None),
        };
        let (port, tls_port) = if self.tls { (Arc::default(), Some(known)) } else { (known, None) };
        let server = RedisServer {
            folder,
            port,
            tls_port,
            _bus_port: bus_port,
            login: self.login,
            config_file: self.config_file,
            arguments: self.arguments,
            program: self.program.unwrap_or_else(redis_server_path),
            process: Mutex::new(None),
        };
        match server.start_process() {
            Ok(process) => *server.process() = Some(process),
            Err(log) => panic!("redis-server did not start; its log:\n{log}"),
        }
        server
    }
}

impl RedisServer {
    /// A plain server.
    #[track_caller]
    pub fn start() -> RedisServer {
        RedisServer::builder().start()
    }

    /// A server with choices.
    pub fn builder() -> RedisServerBuilder {
        RedisServerBuilder::default()
    }

    /// The TCP port on 127.0.0.1; the same after a restart.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// 127.0.0.1 and the TCP port.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port()).into()
    }

    /// 127.0.0.1 and the TLS port.
    ///
    /// # Panics
    /// When it was not started with [`RedisServerBuilder::tls`].
    #[track_caller]
    pub fn tls_address(&self) -> SocketAddr {
        let port = self.tls_port.as_ref().expect("a server that listens for TLS");
        (Ipv4Addr::LOCALHOST, port.number).into()
    }

    /// Its unix socket.
    pub fn socket_path(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// `redis://127.0.0.1:port`, with the login if there is one (which must need no escapes).
    pub fn url(&self) -> String {
        let login = match &self.login[..] {
            [] => String::new(),
            [password] => format!(":{password}@"),
            login => format!("{}@", login.join(":")),
        };
        format!("redis://{login}{}", self.address())
    }

    /// A new connection, authenticated.
    #[track_caller]
    pub fn client(&self) -> RedisClient {
        self.try_client().unwrap_or_else(|error| panic!("cannot connect to Redis: {error}"))
    }

    /// As [`client`](Self::client), of a server that may be dead.
    ///
    /// # Errors
    /// When it does not answer.
    ///
    /// # Panics
    /// When it turns the login down.
    #[track_caller]
    pub(crate) fn try_client(&self) -> io::Result<RedisClient> {
        let mut client = RedisClient::try_connect_unix(&self.socket_path())?;
        if !self.login.is_empty() {
            let auth: Vec<_> = iter::once("AUTH").chain(self.login.iter().map(String::as_str)).collect();
            assert_eq!(client.try_command(&auth)?, Reply::Simple("OK".to_owned()), "the reply to AUTH");
        }
        Ok(client)
    }

    /// Whether it can answer: it is neither killed nor paused.
    pub(crate) fn is_up(&self) -> bool {
        self.process().as_ref().is_some_and(|process| !process.is_stopped())
    }

    /// Whether it stands still.
    pub(crate) fn is_paused(&self) -> bool {
        self.process().as_ref().is_some_and(Process::is_stopped)
    }

    /// The address by which nodes and sentinels know it: that with TLS, where it has one.
    pub(crate) fn announced(&self) -> SocketAddr {
        if self.tls_port.is_some() { self.tls_address() } else { self.address() }
    }

    /// The process id.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.running(Process::pid)
    }

    /// SIGSTOP, and waits until every thread stands still: connections stay open, nothing answers.
    #[track_caller]
    pub fn pause_process(&self) {
        self.running(Process::stop_running);
    }

    /// SIGCONT.
    #[track_caller]
    pub fn resume_process(&self) {
        self.running(Process::continue_running);
    }

    /// SIGKILL, and waits until it is gone.
    #[track_caller]
    pub fn kill(&self) {
        self.running(Process::kill);
        *self.process() = None;
    }

    /// Starts it again on the same ports, killing it first if it runs. What was in it is gone, unless it was started
    /// with persistence.
    #[track_caller]
    pub fn restart(&self) {
        let mut process = self.process();
        *process = None;
        match self.start_process() {
            Ok(started) => *process = Some(started),
            Err(log) => panic!("redis-server did not start again; its log:\n{log}"),
        }
    }

    /// How often a command (`get`, `client|tracking`) was called since the start or
    /// [`reset_stats`](Self::reset_stats), by INFO commandstats.
    #[track_caller]
    pub fn command_calls(&self, command: &str) -> u64 {
        let Reply::Bulk(info) = self.client().command(&["INFO", "commandstats"]) else {
            panic!("INFO commandstats is refused");
        };
        let info = String::from_utf8(info).expect("INFO is text");
        let prefix = format!("cmdstat_{command}:calls=");
        let line = info.lines().find_map(|line| line.strip_prefix(&prefix));
        line.map_or(0, |line| line.split(',').next().unwrap().parse().expect("a number of calls"))
    }

    /// Sets the counts of [`command_calls`](Self::command_calls) to zero.
    #[track_caller]
    pub fn reset_stats(&self) {
        let reply = self.client().command(&["CONFIG", "RESETSTAT"]);
        assert_eq!(reply, Reply::Simple("OK".to_owned()), "the reply to CONFIG RESETSTAT");
    }

    /// One attempt; the log if it ended before it answered.
    fn start_process(&self) -> Result<Process, String> {
        let folder = self.folder.path();
        let log = folder.join("redis.log");
        // The log of an earlier attempt or run must not be taken for this one's.
        let _ = fs::remove_file(&log);
        let mut redis = command(&self.program);
        if let Some(lines) = &self.config_file {
            let file = folder.join("redis.conf");
            if !file.exists() {
                fs::write(&file, lines).expect("a file in our own folder");
            }
            redis.arg(file);
        }
        redis.args(["--port", &self.port().to_string()]);
        // A server that was built without TLS knows no such word.
        redis.args(self.tls_port.iter().flat_map(|port| ["--tls-port".into(), port.number.to_string()]));
        redis.args(["--bind", "127.0.0.1", "--unixsocket", path_text(&self.socket_path())]);
        redis.args(["--dir", path_text(folder), "--logfile", path_text(&log)]);
        redis.args(["--save", "", "--appendonly", "no", "--daemonize", "no"]);
        redis.args(&self.arguments);
        redis.stdout(fs::File::create(folder.join("stdout")).expect("a file in our own folder"));
        redis.stderr(fs::File::create(folder.join("stderr")).expect("a file in our own folder"));
        let (process, ()) = Process::spawn(redis, |_| ());

        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        let everything = || format!("{}{}{}", read("redis.log"), read("stdout"), read("stderr"));
        let deadline = Instant::now() + PATIENCE;
        while !self.answers() {
            if process.wait_exit(std::time::Duration::from_millis(2)).is_some() {
                return Err(everything());
            }
            assert!(Instant::now() < deadline, "redis-server is silent; its log:\n{}", everything());
        }
        Ok(process)
    }

    /// Whether it answers commands: a server that still loads its data says `-LOADING`.
    fn answers(&self) -> bool {
        let reply = RedisClient::try_connect_unix(&self.socket_path())
            .and_then(|mut client| client.try_command(&["PING"]));
        match reply {
            Ok(Reply::Simple(_)) => true,
            // One that has another name for PING says so.
            Ok(Reply::Error(text)) => text.starts_with("NOAUTH") || text.starts_with("ERR unknown command"),
            _ => false,
        }
    }

    #[track_caller]
    fn running<R>(&self, act: impl FnOnce(&Process) -> R) -> R {
        act(self.process().as_ref().expect("this redis-server runs: it was killed and not restarted"))
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The program: `REDIS_SERVER`, or `redis-server` on PATH.
fn redis_server_path() -> PathBuf {
    match std::env::var_os("REDIS_SERVER") {
        Some(path) => path.into(),
        None => find_program("redis-server")
            .expect("these tests need a redis-server on PATH, or its path in REDIS_SERVER"),
    }
}

/// A port on 127.0.0.1 that nobody else gets, also while the server is dead: its socket is bound and does not listen.
/// With SO_REUSEADDR on both sides Linux lets the server listen there beside it, and neither bind(2) to port 0 nor
/// connect(2) takes such a port (`inet_csk_find_open_port` in net/ipv4/inet_connection_sock.c).
pub(crate) struct KeptPort {
    pub(crate) number: u16,
    _socket: OwnedFd,
}

impl Default for KeptPort {
    fn default() -> KeptPort {
        KeptPort::at(0).expect("a free port")
    }
}

impl KeptPort {
    /// The port of that number, if it is free; 0 is any.
    fn at(number: u16) -> Option<KeptPort> {
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .expect("a socket");
        set_socket_reuseaddr(&socket, true).expect("SO_REUSEADDR");
        bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, number))).ok()?;
        let address = getsockname(&socket).expect("an address");
        let number = SocketAddr::try_from(address).expect("an address of a port").port();
        Some(KeptPort { number, _socket: socket })
    }

    /// A port of a node of a cluster, and that of its bus, which is 10,000 above it (`CLUSTER_PORT_INCR`, cluster.h; servers since
    /// Redis 7 can be told another, earlier ones cannot).
    fn with_bus() -> (KeptPort, KeptPort) {
        // Those that will not do are kept meanwhile, so that they are not offered again.
        let mut unfit = Vec::new();
        loop {
            let port = KeptPort::default();
            match port.number.checked_add(10_000).and_then(KeptPort::at) {
                Some(bus) => return (port, bus),
                None => unfit.push(port),
            }
        }
    }
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("a path of plain text")
}
