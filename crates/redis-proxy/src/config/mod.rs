//! The settings: read once at start from flags, the environment and a file, checked, then plain data.
//!
//! `table` holds the settings; `flags`, `file` and `sources` gather the texts; `value` understands them; `redis`
//! and `redis_url` settle which Redis is meant, `nodes` how it may move; `render` prints the result; `man` and `completions` print what goes beside the program; `docs` makes the reference page.

mod address_map;
mod completions;
#[cfg(test)]
mod docs;
mod error;
mod file;
mod flags;
mod given;
mod host;
mod listen;
mod listener_tls;
mod man;
mod nodes;
mod password_command;
mod read;
mod redis;
mod redis_url;
mod render;
mod sources;
mod table;
#[cfg(test)]
mod tests;
mod tls;
mod value;

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use upstream::{Address, Endpoint, Source};

use crate::access::{AccessSettings, AdminToken, AllowedHosts, Origins, ReadTokens, TokenFile};

pub use error::ConfigError;
use given::Given;
pub use listen::ListenAddress;
pub(crate) use nodes::{NodesSettings, SentinelSettings, Topology};
pub(crate) use password_command::end_password_command;
pub(crate) use read::{PipePolicy, read as read_file};
use sources::Values;
pub(crate) use sources::{SECRET_BYTES, TOKENS as TOKENS_FILE, secret_of};
use table::Setting;
use value::Value;

use crate::tls::{PortName, ServerTls};

/// Everything an operator can set, checked and in its final type.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the data port listens; `None` is off.
    pub http: Option<ListenAddress>,
    /// Where the admin port listens; `None` is off.
    pub admin: Option<ListenAddress>,
    /// The permissions of a unix socket that we listen on.
    pub socket_mode: u32,
    /// The most entries held.
    pub capacity: usize,
    /// The most bytes held; `None` leaves only `capacity`.
    pub capacity_bytes: Option<u64>,
    /// The age, from its fetch, at which an entry is as if never stored.
    pub global_expiry: Duration,
    /// A value above this many bytes is answered and not kept.
    pub max_value_bytes: usize,
    /// What a hit promises over HTTP, and how that is kept on both ports.
    pub coherence: Coherence,
    /// Threads that serve connections.
    pub workers: usize,
    /// What is logged: a filter of `tracing`, such as `info` or `warn,redis_proxy=debug`.
    pub log: String,
    /// How a log line is written.
    pub log_format: LogFormat,
    /// One request in this many is logged; 0 logs none.
    pub access_log: u32,
    /// What takes this long is kept in the slow log; zero: nothing.
    pub slowlog_threshold: Duration,
    /// The backing Redis. With `with_redis` its address is a placeholder: take that of [`crate::with_redis`]; and so it is with
    /// sentinels, which say it, and with a cluster.
    pub redis: Endpoint,
    /// How it may move from node to node.
    pub(crate) nodes: NodesSettings,
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
    /// The silence after which a client is asked whether it is there.
    pub client_keepalive: Duration,
    /// How long a client may acknowledge nothing.
    pub client_unacked_timeout: Duration,
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
    /// Where the port for Redis clients listens; `None` is off.
    pub resp: Option<ListenAddress>,
    /// Whether a Redis client that has not logged in is the user of `redis`.
    pub resp_as_proxy: bool,
    /// Whether Redis clients are told that they are at a node of a cluster.
    pub resp_emulates_cluster: bool,
    /// Where they reach that node; `None` is the address that each came to.
    pub resp_announce: Option<(String, u16)>,
    /// Which Redis clients may empty the cache.
    pub resp_proxy_admin: ProxyAdmin,
    /// The most arguments of a command.
    pub resp_max_arguments: usize,
    /// The longest argument.
    pub resp_max_bulk_bytes: usize,
    /// A larger command is streamed.
    pub resp_big_request_bytes: usize,
    /// The most bytes of a command that is not whole and cannot be streamed.
    pub resp_query_buffer_bytes: usize,
    /// The most commands of one client on their way.
    pub resp_pipeline: usize,
    /// What a hit promises a Redis client; `None`: its reads go to Redis.
    pub resp_coherence: Option<Mode>,
    /// The most bytes of replies that wait for one client.
    pub resp_output_limit_bytes: usize,
    /// The most bytes of replies that wait for all clients together.
    pub resp_unread_bytes: usize,
    /// How long a Redis client may lie idle; zero is for ever.
    pub resp_idle_timeout: Duration,
    /// The most commands of one lane without a reply.
    pub resp_lane_inflight: usize,
    /// The most bytes of these.
    pub resp_lane_bytes: usize,
    /// The silence after which a lane with replies due is closed.
    pub resp_lane_timeout: Duration,
    /// How long before a client's coming Redis may have let in a connection without a login.
    pub anonymous_proof: Duration,
    /// How long an idle lane is kept.
    pub resp_lane_idle: Duration,
    /// The most connections to Redis that belong to one client each.
    pub max_pinned: usize,
    /// The most connections to Redis that clients share.
    pub max_lanes: usize,
    /// How answers that carry values are described.
    pub(crate) values: ValueSettings,
    /// Who may ask.
    pub(crate) access: AccessSettings,
    /// TLS on our ports; `None`: all are plain.
    pub(crate) tls: Option<Arc<ServerTls>>,
    /// The most handshakes that a worker computes in one turn.
    pub(crate) tls_handshakes: usize,
    /// How long, after the signal to end, requests are still accepted while `/readyz` says no.
    pub shutdown_delay: Duration,
    /// How long requests under way may take once nothing new is accepted.
    pub shutdown_timeout: Duration,
    /// All of them by their names, as given or by default.
    pub(crate) named: Named,
    /// Variables that have the name of a setting and were left out, as they are not meant for us.
    pub(crate) injected: Vec<&'static str>,
}

impl Settings {
    /// Where the credentials of Redis and of sentinels are read anew.
    pub(crate) fn credentials(&self) -> Vec<Source> {
        let of_sentinels = self.nodes.sentinels().and_then(|sentinels| sentinels.source.clone());
        self.redis.login.source.clone().into_iter().chain(of_sentinels).collect()
    }
}

/// The values of all settings by name, to see which differ.
#[derive(Clone)]
pub(crate) struct Named(Vec<(&'static str, Value)>);

impl Named {
    fn new(values: &Values) -> Named {
        // A secret from a file goes by the name of the setting that names the file. Another command is no other password.
        let name =
            |setting: &Setting, given: Option<&Given>| match given.map_or(setting.name, |given| given.name) {
                PASSWORD_COMMAND if setting.name != PASSWORD_COMMAND => PASSWORD_OF_COMMAND,
                name => name,
            };
        let has_value =
            |setting: &Setting, given: Option<&Given>| given.is_some() || !setting.default.is_empty();
        // What is in files that are looked at is compared where it lies.
        let is_watched = |setting: &Setting, given: Option<&Given>| {
            ["READ_TOKEN", "ADMIN_TOKEN"].contains(&setting.name)
                && given.is_some_and(|given| given.name != setting.name)
        };
        let given = values
            .iter()
            .filter(|(setting, given)| has_value(setting, *given) && !is_watched(setting, *given));
        let mut named: Vec<_> =
            given.map(|(setting, given)| (name(setting, given), values.value(setting.name))).collect();
        // Of that file only user and password are read again: where Redis is does not change.
        if let Some(text) =
            values.given_text("REDIS_URL").filter(|_| values.given("REDIS_URL_FILE").is_some())
            && let Ok(url) = redis_url::parse_with_password_elsewhere(text)
        {
            let place = format!("{:?} {} {}", url.place, url.db, url.tls);
            named.push(("the address in REDIS_URL_FILE", Value::Text(place)));
        }
        Named(named)
    }

    /// The names of what is other than in `before`, or not there.
    pub(crate) fn differing(&self, before: &Named) -> Vec<&'static str> {
        let gone = before.0.iter().filter(|(name, _)| self.0.iter().all(|(other, _)| other != name));
        let mut names: Vec<_> = self
            .0
            .iter()
            .filter(|value| !before.0.contains(value))
            .chain(gone)
            .map(|value| value.0)
            .collect();
        names.dedup();
        names
    }

    /// These values, but those of `names` as in `new`.
    pub(crate) fn with(&self, new: &Named, names: &[&str]) -> Named {
        let kept = self.0.iter().filter(|(name, _)| !names.contains(name));
        let taken = new.0.iter().filter(|(name, _)| names.contains(name));
        Named(kept.chain(taken).cloned().collect())
    }
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // There are secrets among them.
        f.write_str("Named")
    }
}

/// The setting of a program that prints Redis' password, and what that goes by.
const PASSWORD_COMMAND: &str = "REDIS_PASSWORD_COMMAND";
pub(crate) const PASSWORD_OF_COMMAND: &str = "the password of REDIS_PASSWORD_COMMAND";

/// Which Redis clients may empty the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyAdmin {
    /// Those whose own address is a loopback one.
    Loopback,
    /// All that Redis lets in.
    All,
    /// None.
    Off,
}

impl ProxyAdmin {
    /// Whether a client at this address may; one without an address is on this machine.
    pub fn allows(self, client: Option<IpAddr>) -> bool {
        match self {
            // An IPv4 client of a socket of both families has a mapped address.
            ProxyAdmin::Loopback => client.is_none_or(|client| client.to_canonical().is_loopback()),
            ProxyAdmin::All => true,
            ProxyAdmin::Off => false,
        }
    }
}

/// How answers that carry values are described.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ValueSettings {
    /// Their `Cache-Control`, a valid header value; none if it follows from all else.
    pub(crate) cache_control: Option<String>,
    /// Their `Content-Type`, alike; none if it is told from the value.
    pub(crate) content_type: Option<String>,
}

/// What a hit promises, and how that is kept.
#[derive(Clone, Debug)]
pub struct Coherence {
    /// The promise.
    pub mode: Mode,
    /// In `tracking`: how old a hit may be.
    pub max_staleness: Duration,
    /// Whether a request may ask for what Redis holds now; none: where hits are proven.
    pub honor_no_cache: Option<bool>,
    /// In `tracking` and `strict`: the key by which delivery is tried; none: it is not.
    pub canary_key: Option<String>,
    /// In `tracking` and `strict`: the number of tracked connections.
    pub links: usize,
}

/// What a hit promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is at most GLOBAL_EXPIRY old.
    Ttl,
    /// It is at most MAX_STALENESS old.
    Tracking,
    /// It is what Redis holds.
    Strict,
}

impl Mode {
    fn of(name: &str) -> Option<Mode> {
        [Mode::Ttl, Mode::Tracking, Mode::Strict].into_iter().find(|mode| mode.name() == name)
    }

    /// Whether it rests on proof, and not on age alone.
    pub fn is_proven(self) -> bool {
        self != Mode::Ttl
    }

    /// As it is set.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Ttl => "ttl",
            Mode::Tracking => "tracking",
            Mode::Strict => "strict",
        }
    }
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
pub enum Invocation {
    /// Serve with these settings.
    Run(Box<Settings>),
    /// Ask the program that runs with these settings whether it is ready.
    CheckHealth(Box<Settings>),
    /// Make this load on a server, and serve nothing.
    Bench(Box<loadgen::Options>),
    /// Ask a running program this, and serve nothing.
    Ask(Box<cli::CliOptions>),
    /// Nothing to serve: print this text on standard output and end well.
    Done(String),
}

/// Reads the settings: flags (`args`, the program's name first) win over `env`, that over the `--config` file.
///
/// # Errors
/// The operator's: a bad value, name, file or combination. Displays as one line, without secrets.
pub fn load(
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Invocation, ConfigError> {
    let flags = match flags::parse(args)? {
        flags::CommandLine::Flags(flags) => flags,
        flags::CommandLine::Bench(options) => return Ok(Invocation::Bench(options)),
        flags::CommandLine::Ask(name, matches) => {
            let token = |setting: &str| sources::secret(setting, &env).map_err(|error| error.to_string());
            let options = cli::CliOptions::from_matches(&name, &matches, token);
            return Ok(Invocation::Ask(Box::new(options.map_err(ConfigError::other)?)));
        }
        flags::CommandLine::Text(text) => return Ok(Invocation::Done(text)),
    };
    let mut values = Values::collect(&flags, &env)?;
    let mut settings = settle(&values)?;
    // Who asks for health needs no password. For all others it is asked for once the rest is known to be right.
    if !flags.check_health() && values.ask_password()? {
        settings = settle(&values)?;
    }
    if flags.print_config() {
        return Ok(Invocation::Done(render::values(&values, &settings)));
    }
    if flags.check_config() {
        return Ok(Invocation::Done("the settings are good\n".into()));
    }
    if flags.check_health() {
        return Ok(Invocation::CheckHealth(Box::new(settings)));
    }
    Ok(Invocation::Run(Box::new(settings)))
}

impl Default for Settings {
    /// What holds where nothing is set.
    fn default() -> Self {
        match load([OsString::from("redis-proxy")], |_| None) {
            Ok(Invocation::Run(settings)) => *settings,
            other => unreachable!("the defaults are accepted, says a test: {other:?}"),
        }
    }
}

fn settle(values: &Values) -> Result<Settings, ConfigError> {
    let backing = redis::resolve(values)?;
    let settings = Settings {
        http: listen::resolve(values, "HOST", "PORT")?,
        admin: listen::resolve(values, "ADMIN_HOST", "ADMIN_PORT")?,
        socket_mode: u32::try_from(values.number("SOCKET_MODE")).unwrap_or(0),
        capacity: values.number("CAPACITY"),
        capacity_bytes: values.optional_number("CAPACITY_BYTES"),
        global_expiry: values.time("GLOBAL_EXPIRY"),
        max_value_bytes: values.number("MAX_VALUE_BYTES"),
        coherence: coherence(values),
        workers: workers(values),
        log: values.text("LOG"),
        log_format: if values.text("LOG_FORMAT") == "json" { LogFormat::Json } else { LogFormat::Text },
        slowlog_threshold: values.time("SLOWLOG_THRESHOLD"),
        access_log: u32::try_from(values.number("ACCESS_LOG")).unwrap_or(u32::MAX),
        redis: backing.endpoint,
        nodes: backing.nodes,
        with_redis: backing.is_own,
        max_inflight: values.number("MAX_INFLIGHT"),
        max_clients: values.number("MAX_CLIENTS"),
        client_wait: values.time("CLIENT_WAIT"),
        max_waiting: values.number("MAX_WAITING"),
        client_keepalive: values.time("CLIENT_KEEPALIVE"),
        client_unacked_timeout: values.time("CLIENT_UNACKED_TIMEOUT"),
        max_key_bytes: values.number("MAX_KEY_BYTES"),
        max_target_bytes: values.number("MAX_TARGET_BYTES"),
        max_head_bytes: values.number("MAX_HEAD_BYTES"),
        max_headers: values.number("MAX_HEADERS"),
        max_method_bytes: values.number("MAX_METHOD_BYTES"),
        max_body_bytes: values.number("MAX_BODY_BYTES"),
        head_timeout: values.time("HEAD_TIMEOUT"),
        idle_timeout: values.time("IDLE_TIMEOUT"),
        write_timeout: values.time("WRITE_TIMEOUT"),
        output_buffer_bytes: values.number("OUTPUT_BUFFER_BYTES"),
        resp: listen::resolve(values, "RESP_HOST", "RESP_PORT")?,
        resp_as_proxy: values.text("RESP_IDENTITY") == "proxy",
        resp_emulates_cluster: values.text("RESP_CLUSTER") == "emulate",
        resp_announce: match values.given("RESP_ANNOUNCE").map(|given| &given.value) {
            Some(Value::Addresses(addresses)) => match addresses.first() {
                Some(Address::Tcp { host, port }) => Some((host.clone(), *port)),
                _ => None,
            },
            _ => None,
        },
        resp_proxy_admin: match values.text("RESP_PROXY_ADMIN").as_str() {
            "all" => ProxyAdmin::All,
            "off" => ProxyAdmin::Off,
            _ => ProxyAdmin::Loopback,
        },
        resp_max_arguments: values.number("RESP_MAX_ARGUMENTS"),
        resp_max_bulk_bytes: values.number("RESP_MAX_BULK_BYTES"),
        resp_big_request_bytes: values.number("RESP_BIG_REQUEST_BYTES"),
        resp_query_buffer_bytes: values.number("RESP_QUERY_BUFFER_BYTES"),
        resp_coherence: Mode::of(&values.text("RESP_COHERENCE")),
        resp_pipeline: values.number("RESP_PIPELINE"),
        resp_output_limit_bytes: values.number("RESP_OUTPUT_LIMIT_BYTES"),
        resp_unread_bytes: values.number("RESP_UNREAD_BYTES"),
        resp_idle_timeout: values.time("RESP_IDLE_TIMEOUT"),
        resp_lane_inflight: values.number("RESP_LANE_INFLIGHT"),
        resp_lane_bytes: values.number("RESP_LANE_BYTES"),
        resp_lane_timeout: values.time("RESP_LANE_TIMEOUT"),
        anonymous_proof: values.time("ANONYMOUS_PROOF"),
        resp_lane_idle: values.time("RESP_LANE_IDLE"),
        max_pinned: values.number("MAX_PINNED"),
        max_lanes: values.number("MAX_LANES"),
        values: ValueSettings {
            cache_control: values.given_text("HTTP_CACHE_CONTROL").map(String::from),
            content_type: Some(values.text("CONTENT_TYPE")).filter(|kind| kind != "auto"),
        },
        access: access(values)?,
        tls: listener_tls::resolve(values)?,
        tls_handshakes: values.number("TLS_HANDSHAKES"),
        shutdown_delay: values.time("SHUTDOWN_DELAY"),
        shutdown_timeout: values.time("SHUTDOWN_TIMEOUT"),
        named: Named::new(values),
        injected: values.injected.clone(),
    };
    check_together(&settings)?;
    Ok(settings)
}

/// # Errors
/// A token that nobody could send, or a line of READ_TOKENS_FILE that is none.
fn access(values: &Values) -> Result<AccessSettings, ConfigError> {
    let tokens = values.tokens.as_ref().or(values.given("READ_TOKEN"));
    let admin = values.given("ADMIN_TOKEN");
    let wrong = |given: &Given, why| {
        ConfigError::other(format!("{} ({}) is not accepted: {why}", given.name, given.origin))
    };
    let read_tokens = tokens.map(|given| {
        ReadTokens::of(given.name, given.text().unwrap_or_default()).map_err(|why| wrong(given, why))
    });
    let admin_token =
        admin.map(|given| AdminToken::new(given.text().unwrap_or_default()).map_err(|why| wrong(given, why)));
    let file = |given: Option<&Given>| {
        let name = given?.name;
        TokenFile::new(name, values.given(name).filter(|_| name.ends_with("_FILE"))?.text()?)
    };
    Ok(AccessSettings {
        // What the table accepts is one.
        hosts: AllowedHosts::parse(&values.text("ALLOWED_HOSTS")).unwrap_or_default(),
        clients_per_peer: values
            .optional_number("MAX_CLIENTS_PER_PEER")
            .map(|_| values.number("MAX_CLIENTS_PER_PEER")),
        read_tokens: read_tokens.transpose()?,
        admin_token: admin_token.transpose()?,
        origins: Origins::parse(&values.text("CORS_ORIGINS")).unwrap_or_default(),
        read_file: file(tokens),
        admin_file: file(admin),
    })
}

fn coherence(values: &Values) -> Coherence {
    let mode = Mode::of(&values.text("COHERENCE")).unwrap_or(Mode::Ttl);
    Coherence {
        mode,
        max_staleness: values.time("MAX_STALENESS"),
        honor_no_cache: match values.text("HONOR_NO_CACHE").as_str() {
            "on" => Some(true),
            "off" => Some(false),
            _ => None,
        },
        canary_key: Some(values.text("CANARY_KEY")).filter(|key| !key.is_empty() && key != "off"),
        links: values.number("REDIS_LINKS"),
    }
}

fn workers(values: &Values) -> usize {
    match values.optional_number("WORKERS") {
        Some(_) => values.number("WORKERS"),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

/// What each setting accepts alone and not all of them at once.
fn check_together(settings: &Settings) -> Result<(), ConfigError> {
    let Settings { max_key_bytes: key, max_target_bytes: target, .. } = settings;
    if target <= key {
        return Err(ConfigError::other(format!(
            "MAX_TARGET_BYTES={target} leaves no room for a key of MAX_KEY_BYTES={key} and its slash: \
             expected more than {key}"
        )));
    }
    let ports = [("PORT", &settings.http), ("ADMIN_PORT", &settings.admin), ("RESP_PORT", &settings.resp)];
    for (at, (name, address)) in ports.iter().enumerate() {
        let Some(address) = address else { continue };
        let is_same = |other: &&(&str, &Option<ListenAddress>)| {
            other.1.as_ref().is_some_and(|other| address.is_same(other))
        };
        let Some((other, _)) = ports[at + 1..].iter().find(is_same) else { continue };
        return Err(ConfigError::other(match address {
            ListenAddress::Tcp { port, .. } => {
                format!("{name}={port} and {other}={port} on the same host: expected two ports")
            }
            ListenAddress::Unix(_) => {
                let host = |name: &str| name.replace("PORT", "HOST");
                format!("{0}={address} and {1}={address}: expected two sockets", host(name), host(other))
            }
        }));
    }
    check_emulation(settings)?;
    check_tls(settings)
}

/// The emulated node has an address, and nothing is announced for none.
fn check_emulation(settings: &Settings) -> Result<(), ConfigError> {
    match (settings.resp_emulates_cluster, &settings.resp_announce, &settings.resp) {
        (false, Some((host, port)), _) => Err(ConfigError::other(format!(
            "RESP_ANNOUNCE={host}:{port} is told to nobody: expected RESP_CLUSTER=emulate beside it"
        ))),
        (true, None, Some(ListenAddress::Unix(path))) => Err(ConfigError::other(format!(
            "RESP_CLUSTER=emulate with RESP_HOST={}: a node has no address there: expected RESP_ANNOUNCE",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// What guards the ports is there where it is needed.
fn check_tls(settings: &Settings) -> Result<(), ConfigError> {
    let tls = settings.tls.as_ref().map(|tls| tls.settings());
    let shows_certificate = |port| tls.is_some_and(|tls| tls.client_ports.contains(&port));
    if let Some(address) = settings.resp.as_ref().filter(|_| settings.resp_as_proxy)
        && !address.is_local()
        && !shows_certificate(PortName::Resp)
    {
        return Err(ConfigError::other(format!(
            "RESP_IDENTITY=proxy with RESP_HOST={address}: whoever reaches that port would be the proxy's user: expected a \
             loopback address, or TLS_CLIENT_CA with resp among TLS_PORTS and TLS_CLIENT_PORTS"
        )));
    }
    Ok(())
}
