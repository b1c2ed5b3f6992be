//! The one table of settings. Flags, variables, the file, `--help`, `--print-config`, `.env.example` and
//! `docs/configuration.md` all come from it.

use std::time::Duration;

use super::value::SettingKind;

mod access;
mod nodes;
mod tls;

/// One setting.
pub(super) struct Setting {
    /// The environment variable; the flag and the key of the file are made from it.
    pub(super) name: &'static str,
    /// What is accepted, with its range.
    pub(super) accepts: SettingKind,
    /// The default as an operator would write it; empty is not set.
    pub(super) default: &'static str,
    /// What it is, in one or two sentences.
    pub(super) doc: &'static str,
}

impl Setting {
    /// `CAPACITY_BYTES` is `capacity-bytes` after `--`.
    pub(super) fn flag(&self) -> String {
        self.name.to_ascii_lowercase().replace('_', "-")
    }

    /// `CAPACITY_BYTES` is `capacity_bytes` in the file.
    pub(super) fn key(&self) -> String {
        self.name.to_ascii_lowercase()
    }
}

/// Settings that belong together.
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) settings: &'static [Setting],
}

/// Settings of earlier versions, and the one to set in their place.
pub(super) const GONE: [(&str, &str); 1] = [("RESP_CACHE", "RESP_COHERENCE")];

/// Every setting, in the order of the table.
pub(super) fn all() -> impl Iterator<Item = &'static Setting> {
    SECTIONS.iter().flat_map(|section| section.settings)
}

const MS: Duration = Duration::from_millis(1);
const TEN_MS: Duration = Duration::from_millis(10);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const TEN_YEARS: Duration = Duration::from_secs(3650 * 86_400);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const MILLION: u64 = 1_000_000;

const fn row(name: &'static str, accepts: SettingKind, default: &'static str, doc: &'static str) -> Setting {
    Setting { name, accepts, default, doc }
}

const fn count(min: u64, max: u64) -> SettingKind {
    SettingKind::Count { min, max, word: None }
}

const fn bytes(min: u64, max: u64) -> SettingKind {
    SettingKind::Bytes { min, max, word: None }
}

const fn time(min: Duration, max: Duration) -> SettingKind {
    SettingKind::Time { min, max, word: None }
}

/// The table.
pub(super) const SECTIONS: &[Section] = &[
    Section {
        title: "Ports",
        settings: &[
            row(
                "HOST",
                SettingKind::ListenHost,
                "127.0.0.1",
                "Address or name that the data port listens on, or `unix:/path` for a socket in place of the port.",
            ),
            row("PORT", SettingKind::Port, "5000", "The data port. 0 is any free port, which the log names."),
            row(
                "ADMIN_HOST",
                SettingKind::ListenHost,
                "127.0.0.1",
                "Address or name that the admin port listens on, or `unix:/path`.",
            ),
            row(
                "ADMIN_PORT",
                SettingKind::Port,
                "5001",
                "The admin port. 0 is any free port, which the log names.",
            ),
            row(
                "SOCKET_MODE",
                SettingKind::FileMode,
                "0660",
                "The permissions of the unix sockets that we listen on: who may write to one may connect.",
            ),
        ],
    },
    access::SECTION,
    Section {
        title: "Cache",
        settings: &[
            row(
                "CAPACITY",
                count(1, 1000 * MILLION),
                "100000",
                "The most keys held. The least recently used one leaves when a new one enters.",
            ),
            row(
                "CAPACITY_BYTES",
                SettingKind::Bytes { min: MIB, max: 1 << 46, word: Some("off") },
                "off",
                "The most memory that the cache may take, beside CAPACITY.",
            ),
            row(
                "GLOBAL_EXPIRY",
                time(MS, TEN_YEARS),
                "60s",
                "The age, counted from its fetch, at which a value is no longer served.",
            ),
            row(
                "MAX_VALUE_BYTES",
                bytes(1, 512 * MIB),
                "1MiB",
                "A larger value is passed through and not kept.",
            ),
        ],
    },
    Section {
        title: "Coherence",
        settings: &[
            row(
                "COHERENCE",
                SettingKind::OneOf(&["ttl", "tracking", "strict"]),
                "ttl",
                "What a hit promises over HTTP: `ttl`, at most GLOBAL_EXPIRY old; `tracking`, at most MAX_STALENESS old, by \
                 Redis' own word of every change; `strict`, what Redis holds now. See docs/coherence.md.",
            ),
            row(
                "MAX_STALENESS",
                time(TEN_MS, HOUR),
                "500ms",
                "In `tracking`: how old a hit may be at most, whatever happens to the connection.",
            ),
            row(
                "HONOR_NO_CACHE",
                SettingKind::Switch { auto: true },
                "auto",
                "Whether a request with `Cache-Control: no-cache` or `max-age=0` is answered with what Redis holds now. `auto`: not \
                 in `ttl`, where each would cost Redis a GET.",
            ),
            row(
                "CANARY_KEY",
                SettingKind::Text,
                "redis-proxy:canary",
                "In `tracking` and `strict`: a key that is written once a minute to see that Redis tells of it. \
                 `off`: none is.",
            ),
            row(
                "REDIS_LINKS",
                count(1, 16),
                "1",
                "In `tracking` and `strict`: tracked connections, over which the keys are spread.",
            ),
        ],
    },
    Section {
        title: "Redis",
        settings: &[
            row("REDIS_HOST", SettingKind::Host, "127.0.0.1", "Address or name of the backing Redis."),
            row(
                "REDIS_PORT",
                SettingKind::RedisPort,
                "6379",
                "Its port. `tcp://10.0.0.1:6379`, as Kubernetes injects it, is understood.",
            ),
            row("REDIS_USERNAME", SettingKind::Text, "", "The ACL user; without it Redis' `default` user."),
            row("REDIS_PASSWORD", SettingKind::Password, "", "The password; without it no AUTH is sent."),
            row("REDIS_PASSWORD_FILE", SettingKind::File, "", "A file that holds REDIS_PASSWORD."),
            row(
                "REDIS_PASSWORD_COMMAND",
                SettingKind::Command,
                "",
                "A program that prints REDIS_PASSWORD as its first line. It is run without a shell, and killed after 5s.",
            ),
            row("REDIS_DB", count(0, i32::MAX as u64), "0", "The database that is selected."),
            row(
                "REDIS_URL",
                SettingKind::Url,
                "",
                "All of the above in one: `redis://user:password@host:6379/0`, `rediss://` for TLS, \
                 `unix:///path/redis.sock?db=0`, `redis+sentinel://user:password@h1:26379,h2/name/0`, \
                 `redis+cluster://user:password@h1:6379,h2/0`.",
            ),
            row("REDIS_URL_FILE", SettingKind::File, "", "A file that holds REDIS_URL."),
            row(
                "REDIS_TLS",
                SettingKind::Switch { auto: false },
                "",
                "Talk TLS to REDIS_HOST. Any other REDIS_TLS_ setting switches it on as well.",
            ),
            row(
                "REDIS_TLS_CA",
                SettingKind::File,
                "",
                "PEM file of the authorities to trust instead of the system's.",
            ),
            row("REDIS_TLS_CERT", SettingKind::File, "", "PEM file of the client's certificate chain."),
            row("REDIS_TLS_KEY", SettingKind::File, "", "PEM file of the client's private key."),
            row(
                "REDIS_TLS_SERVER_NAME",
                SettingKind::Text,
                "",
                "The name that the server's certificate must carry, where it is not the host.",
            ),
            row(
                "WITH_REDIS",
                SettingKind::Switch { auto: true },
                "off",
                "Start a redis-server of our own on a private unix socket, and end it on exit. `auto`: only \
                 where no address is set.",
            ),
            row(
                "REDIS_CONNECT_TIMEOUT",
                time(MS, HOUR),
                "1s",
                "Bound of one attempt to connect: name, TCP, TLS and handshake together.",
            ),
            row(
                "UPSTREAM_TIMEOUT",
                time(MS, HOUR),
                "1s",
                "A Redis connection with answers due that delivers no byte for this long is closed.",
            ),
            row(
                "REDIS_PING_INTERVAL",
                time(TEN_MS, HOUR),
                "1s",
                "How often an idle Redis connection is pinged.",
            ),
            row(
                "MAX_REPLY_BYTES",
                bytes(KIB, 512 * MIB),
                "32MiB",
                "A larger reply is answered 502 and skipped as it arrives.",
            ),
        ],
    },
    nodes::SECTION,
    tls::SECTION,
    Section {
        title: "Limits",
        settings: &[
            row(
                "MAX_CLIENTS",
                count(1, MILLION),
                "10000",
                "The most client connections served at once; the next ones wait, then get 503.",
            ),
            row("CLIENT_WAIT", time(Duration::ZERO, HOUR), "1s", "How long such a connection waits."),
            row("MAX_WAITING", count(0, MILLION), "1024", "The most connections that wait."),
            row(
                "CLIENT_KEEPALIVE",
                time(SECOND, HOUR),
                "60s",
                "A client that says nothing for so long is asked whether it is there, three times in as long again; \
                 without an answer its connection ends. On all ports.",
            ),
            row(
                "CLIENT_UNACKED_TIMEOUT",
                time(SECOND, DAY),
                "5m",
                "How long a client may acknowledge nothing of what it is sent; for HTTP at least WRITE_TIMEOUT. One \
                 that acknowledges and does not read is none.",
            ),
            row(
                "MAX_INFLIGHT",
                count(1, MILLION),
                "10000",
                "The most fetches from Redis in flight; above it a miss gets 503.",
            ),
            row("MAX_KEY_BYTES", bytes(1, MIB), "16KiB", "The longest key; above it 414."),
            row(
                "MAX_TARGET_BYTES",
                bytes(16, 4 * MIB),
                "64KiB",
                "The longest request target as written (`%41` is three bytes); above it 414.",
            ),
            row(
                "MAX_HEAD_BYTES",
                bytes(128, MIB),
                "32KiB",
                "The longest header section, without the request line; above it 431.",
            ),
            row("MAX_HEADERS", count(1, 256), "100", "The most header fields of a request; above it 431."),
            row("MAX_METHOD_BYTES", bytes(4, KIB), "32", "The longest method name; above it 400."),
            row(
                "MAX_BODY_BYTES",
                bytes(0, 64 * MIB),
                "64KiB",
                "A request body up to this size is read and dropped; above it the connection closes.",
            ),
            row(
                "HEAD_TIMEOUT",
                time(TEN_MS, DAY),
                "10s",
                "From the first byte of a request to the end of its head.",
            ),
            row("IDLE_TIMEOUT", time(TEN_MS, DAY), "60s", "How long a connection may lie idle."),
            row(
                "WRITE_TIMEOUT",
                time(TEN_MS, DAY),
                "30s",
                "A client that leaves its answers unread for this long is closed.",
            ),
            row(
                "OUTPUT_BUFFER_BYTES",
                bytes(KIB, 64 * MIB),
                "64KiB",
                "Answers assembled for one connection before they are written.",
            ),
        ],
    },
    Section {
        title: "Redis clients",
        settings: &[
            row(
                "RESP_HOST",
                SettingKind::ListenHost,
                "127.0.0.1",
                "Address or name that the port for Redis clients listens on, whatever HOST is, or `unix:/path`.",
            ),
            row(
                "RESP_PORT",
                SettingKind::Port,
                "6380",
                "The port for Redis clients, which speak RESP2 or RESP3; `off`: none. 0 is any free port, which the log names.",
            ),
            row(
                "RESP_IDENTITY",
                SettingKind::OneOf(&["client", "proxy"]),
                "client",
                "Who a Redis client is before it logs in: nobody in particular (`client`), or the user of REDIS_USERNAME \
                 and REDIS_PASSWORD (`proxy`), which off loopback is refused unless TLS_CLIENT_CA guards that port.",
            ),
            row(
                "RESP_CLUSTER",
                SettingKind::OneOf(&["off", "emulate"]),
                "off",
                "What Redis clients are told of clusters: nothing, as by one Redis that is in none (`off`), or that they are at the only \
                 node of one, which has all slots (`emulate`), whatever is behind the proxy: for clients that insist on a cluster.",
            ),
            row(
                "RESP_ANNOUNCE",
                SettingKind::HostPort,
                "",
                "Where clients of the emulated node (RESP_CLUSTER=emulate) reach it. Without it each is told the address that it came to.",
            ),
            row(
                "RESP_PROXY_ADMIN",
                SettingKind::OneOf(&["loopback", "all", "off"]),
                "loopback",
                "Which Redis clients may empty the cache (PROXY CACHE FLUSH) and see what is hot of what they may read (PROXY HOTKEYS \
                 and its kin, PROXY SLOWLOG): those whose own address is a loopback one, a local sidecar's among them; all that Redis lets \
                 in; none.",
            ),
            row(
                "RESP_MAX_ARGUMENTS",
                count(1, i32::MAX as u64),
                "1048576",
                "The most arguments of a command; above it the connection ends.",
            ),
            row(
                "RESP_MAX_BULK_BYTES",
                bytes(KIB, 1 << 32),
                "512MiB",
                "The longest argument; above it the connection ends, as in Redis with its `proto-max-bulk-len`.",
            ),
            row(
                "RESP_BIG_REQUEST_BYTES",
                bytes(32 * KIB, 64 * MIB),
                "64KiB",
                "A larger command is streamed to Redis on a connection of its own, so that a slow sender stalls nobody.",
            ),
            row(
                "RESP_QUERY_BUFFER_BYTES",
                bytes(64 * KIB, 1 << 30),
                "1MiB",
                "A command that must be whole before it is understood ends its connection above this.",
            ),
            row(
                "RESP_COHERENCE",
                SettingKind::OneOf(&["tracking", "strict", "ttl", "off"]),
                "tracking",
                "What a hit promises a Redis client, as COHERENCE does to HTTP; `off`: its reads go to Redis, and so they do \
                 where `tracking` and `strict` find a server that cannot track. Its writes leave nothing old in the cache \
                 either way. See docs/coherence.md.",
            ),
            row(
                "RESP_PIPELINE",
                count(1, MILLION),
                "256",
                "Commands of one client on their way to Redis; the next ones are read later.",
            ),
            row(
                "RESP_OUTPUT_LIMIT_BYTES",
                bytes(64 * KIB, 1 << 36),
                "1GiB",
                "Bytes that Redis sent for a client and that it has not read; a client that leaves more is closed.",
            ),
            row(
                "RESP_UNREAD_BYTES",
                bytes(64 * KIB, 1 << 40),
                "1GiB",
                "Such bytes of all clients together, the first 16 KiB of each not counted; the client that would go above it is \
                 closed.",
            ),
            row(
                "RESP_IDLE_TIMEOUT",
                time(Duration::ZERO, DAY),
                "0s",
                "How long a Redis client may lie idle; 0 is for ever, as in Redis.",
            ),
            row(
                "RESP_LANE_INFLIGHT",
                count(1, 100 * MILLION),
                "100000",
                "Commands on one shared connection without a reply; above it clients wait.",
            ),
            row("RESP_LANE_BYTES", bytes(64 * KIB, 1 << 32), "16MiB", "The bytes of these commands."),
            row(
                "RESP_LANE_TIMEOUT",
                time(TEN_MS, DAY),
                "10s",
                "A shared connection with replies due that delivers no byte for this long is closed.",
            ),
            row(
                "ANONYMOUS_PROOF",
                time(MS, HOUR),
                "1s",
                "A Redis client is let in without a login if Redis has let in a connection without one so long before it came, or later.",
            ),
            row(
                "RESP_LANE_IDLE",
                time(TEN_MS, DAY),
                "60s",
                "How long a connection to Redis that Redis clients have used is kept for the next one.",
            ),
            row(
                "MAX_PINNED",
                count(0, MILLION),
                "1000",
                "The most connections to Redis that belong to one client each: transactions, subscriptions, blocking commands.",
            ),
            row(
                "MAX_LANES",
                count(1, MILLION),
                "200",
                "The most connections to Redis that Redis clients share: one a worker, user, database, version of RESP and pace. \
                 For one more the one that was idle for longest is closed.",
            ),
        ],
    },
    Section {
        title: "Answers",
        settings: &[
            row(
                "HTTP_CACHE_CONTROL",
                SettingKind::HeaderValue,
                "no-cache",
                "The `Cache-Control` of an answer that carries a value.",
            ),
            row(
                "CONTENT_TYPE",
                SettingKind::MediaType,
                "auto",
                "The `Content-Type` of all values: a media type, such as `application/json`. `auto`: text where a value is valid UTF-8, \
                 else octets.",
            ),
        ],
    },
    Section {
        title: "Process",
        settings: &[
            row(
                "WORKERS",
                SettingKind::Count { min: 1, max: 1024, word: Some("auto") },
                "auto",
                "Threads that serve connections, each with one connection to Redis. `auto`: one a core.",
            ),
            row(
                "LOG",
                SettingKind::LogFilter,
                "info",
                "What is logged: `error`, `warn`, `info`, `debug`, `trace`, `off`, or by module: \
                 `warn,redis_proxy=debug`.",
            ),
            row("LOG_FORMAT", SettingKind::OneOf(&["text", "json"]), "text", "How a log line is written."),
            row(
                "ACCESS_LOG",
                SettingKind::Count { min: 0, max: u32::MAX as u64, word: Some("off") },
                "off",
                "Log one request in this many; 1 is every request, 0 or `off` none.",
            ),
            row(
                "SLOWLOG_THRESHOLD",
                SettingKind::Time { min: Duration::from_micros(1), max: HOUR, word: Some("off") },
                "10ms",
                "Commands and requests that take this long, and are not answered from memory at once, are kept in the slow log, the \
                 last 128 of them; `off`: none is.",
            ),
            row(
                "SHUTDOWN_DELAY",
                time(Duration::ZERO, HOUR),
                "0s",
                "After the signal to end: how long requests are still taken while `/readyz` says no.",
            ),
            row(
                "SHUTDOWN_TIMEOUT",
                time(Duration::ZERO, HOUR),
                "10s",
                "After that: how long requests under way may take.",
            ),
        ],
    },
];
