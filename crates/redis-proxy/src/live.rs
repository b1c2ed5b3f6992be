//! The settings that change while the program runs: one value, which all who go by it look at where it is.
//!
//! A reload puts another value in its place ([`Live::set`]). Whoever goes by it keeps a [`LiveReader`], and no copy of a field: a
//! look compares a counter, and takes a lock only when the value is another than at the last look.
//!
//! Redis' credentials are not part of it: they are read where they lie, at each attempt to connect (`upstream::Source`), so that
//! a password may be changed without a signal.

use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use resp::RequestLimits;
use tokio::sync::watch;
use upstream::ConnectionLimits;

use crate::access::AccessSettings;
use crate::clock::nanos;
use crate::config::{ProxyAdmin, Settings, ValueSettings};
use crate::tls::ServerTls;

/// How long clients are waited for, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientTimeouts {
    /// From the first byte of a request, or of a connection over TLS, to the end of its head, or of its handshake.
    pub(crate) head_ns: u64,
    /// Between two requests over HTTP.
    pub(crate) idle_ns: u64,
    /// While a client takes nothing that is written to it.
    pub(crate) write_ns: u64,
    /// Between two commands of a Redis client; `u64::MAX` is for ever.
    pub(crate) resp_idle_ns: u64,
    /// While a client acknowledges nothing that was sent to it.
    pub(crate) unacked_ns: u64,
}

impl ClientTimeouts {
    fn of(settings: &Settings) -> ClientTimeouts {
        ClientTimeouts {
            head_ns: nanos(settings.head_timeout),
            idle_ns: nanos(settings.idle_timeout),
            write_ns: nanos(settings.write_timeout),
            resp_idle_ns: match nanos(settings.resp_idle_timeout) {
                0 => u64::MAX,
                idle => idle,
            },
            unacked_ns: nanos(settings.client_unacked_timeout),
        }
    }
}

/// How large a request may be, each a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestSizes {
    pub(crate) method_bytes: usize,
    pub(crate) target_bytes: usize,
    pub(crate) head_bytes: usize,
    pub(crate) headers: usize,
    pub(crate) key_bytes: usize,
    pub(crate) body_bytes: usize,
    /// Of Redis clients, as all that follows.
    pub(crate) arguments: usize,
    pub(crate) bulk_bytes: usize,
    /// From here on a request is streamed.
    pub(crate) big_bytes: usize,
    pub(crate) query_buffer_bytes: usize,
}

impl RequestSizes {
    /// Of a Redis client.
    pub(crate) fn limits(&self) -> RequestLimits {
        RequestLimits { max_arguments: self.arguments, max_bulk_bytes: self.bulk_bytes }
    }

    pub(crate) fn of(settings: &Settings) -> RequestSizes {
        RequestSizes {
            method_bytes: settings.max_method_bytes,
            target_bytes: settings.max_target_bytes,
            head_bytes: settings.max_head_bytes,
            headers: settings.max_headers,
            key_bytes: settings.max_key_bytes,
            body_bytes: settings.max_body_bytes,
            arguments: settings.resp_max_arguments,
            bulk_bytes: settings.resp_max_bulk_bytes,
            big_bytes: settings.resp_big_request_bytes,
            query_buffer_bytes: settings.resp_query_buffer_bytes,
        }
    }
}

/// What is asked of Redis at a time, and how long it is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RedisLimits {
    pub(crate) connections: ConnectionLimits,
    /// The most fetches without a reply.
    pub(crate) inflight: usize,
    /// How often connections that are open log in again; none: only with another password.
    pub(crate) reauth: Option<Duration>,
}

/// Of the connections to Redis that Redis clients share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LaneLimits {
    /// Commands of one lane without a reply; above it clients wait.
    pub(crate) inflight: usize,
    /// Bytes of these commands.
    pub(crate) journal_bytes: usize,
    /// How long a quick lane with answers due may be silent.
    pub(crate) timeout: Duration,
    /// How long a lane or a spare pin lies idle before it is closed.
    pub(crate) idle: Duration,
}

/// What a Redis client may do, and how much may be on its way for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionLimits {
    /// Who may empty the cache.
    pub(crate) admin: ProxyAdmin,
    /// Commands of one client on their way.
    pub(crate) pipeline: usize,
    /// Answers assembled for it before they are written.
    pub(crate) output_bytes: usize,
    /// Replies that it leaves unread.
    pub(crate) unread_bytes: usize,
    pub(crate) lanes: LaneLimits,
}

/// Replies to Redis clients are made from memory only while less than this is unsent, whatever OUTPUT_BUFFER_BYTES is.
const UNSENT_MAX: usize = 256 * 1024;

impl SessionLimits {
    pub(crate) fn of(settings: &Settings) -> SessionLimits {
        SessionLimits {
            admin: settings.resp_proxy_admin,
            pipeline: settings.resp_pipeline,
            output_bytes: settings.output_buffer_bytes.min(UNSENT_MAX),
            unread_bytes: settings.resp_output_limit_bytes,
            lanes: LaneLimits {
                inflight: settings.resp_lane_inflight,
                journal_bytes: settings.resp_lane_bytes,
                timeout: settings.resp_lane_timeout,
                idle: settings.resp_lane_idle,
            },
        }
    }
}

/// How many there may be of what takes a file each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileLimits {
    /// Clients at a time.
    pub(crate) max_clients: usize,
    /// Those who wait to be one.
    pub(crate) max_waiting: usize,
    /// Connections to Redis that belong to one client each.
    pub(crate) max_pinned: usize,
    /// Those that clients share.
    pub(crate) max_lanes: usize,
}

impl FileLimits {
    pub(crate) fn of(settings: &Settings) -> FileLimits {
        let Settings { max_clients, max_waiting, max_pinned, max_lanes, .. } = *settings;
        FileLimits { max_clients, max_waiting, max_pinned, max_lanes }
    }
}

/// What a reload takes over.
#[derive(Clone, Debug)]
pub(crate) struct LiveSettings {
    /// The filter of what is logged.
    pub(crate) log: String,
    /// One request in this many is logged; 0 logs none.
    pub(crate) access_log: u32,
    /// The most entries held.
    pub(crate) capacity: usize,
    /// The most bytes held; whether there is such a limit is settled at the start.
    pub(crate) capacity_bytes: Option<u64>,
    /// How long an entry lives.
    pub(crate) expiry: Duration,
    /// The longest value that is kept.
    pub(crate) max_value_bytes: usize,
    pub(crate) files: FileLimits,
    /// How long a client waits to be served.
    pub(crate) client_wait: Duration,
    /// The silence after which a client is asked whether it is there.
    pub(crate) client_keepalive: Duration,
    pub(crate) sizes: RequestSizes,
    pub(crate) timeouts: ClientTimeouts,
    pub(crate) redis: RedisLimits,
    /// Of one Redis client.
    pub(crate) sessions: SessionLimits,
    /// Of all of them together: replies that they leave unread.
    pub(crate) unread_bytes: usize,
    /// How long before a client's coming Redis may have let in a connection without a login.
    pub(crate) anonymous_proof: Duration,
    /// Over HTTP: answers assembled for one connection before they are written.
    pub(crate) output_bytes: usize,
    /// Whether a request over HTTP may ask for what Redis holds now; none: where hits are proven.
    pub(crate) honor_no_cache: Option<bool>,
    /// What takes this long is kept in the slow log; zero: nothing.
    pub(crate) slowlog_threshold: Duration,
    /// Handshakes that a worker computes in one turn.
    pub(crate) handshakes_a_turn: usize,
    /// After the signal to end: how long requests are still taken.
    pub(crate) shutdown_delay: Duration,
    /// After that: how long those under way may take.
    pub(crate) shutdown_timeout: Duration,
    /// Who may ask.
    pub(crate) access: AccessSettings,
    /// How answers that carry values are described.
    pub(crate) values: ValueSettings,
    /// TLS on our ports, as its files were when they were read.
    pub(crate) tls: Option<Arc<ServerTls>>,
}

impl LiveSettings {
    /// The settings that it is made of.
    pub(crate) const NAMES: [&str; 63] = [
        "LOG",
        "ACCESS_LOG",
        "CAPACITY",
        "CAPACITY_BYTES",
        "GLOBAL_EXPIRY",
        "MAX_VALUE_BYTES",
        "MAX_CLIENTS",
        "MAX_METHOD_BYTES",
        "MAX_TARGET_BYTES",
        "MAX_HEAD_BYTES",
        "MAX_HEADERS",
        "MAX_KEY_BYTES",
        "MAX_BODY_BYTES",
        "RESP_MAX_ARGUMENTS",
        "RESP_MAX_BULK_BYTES",
        "RESP_BIG_REQUEST_BYTES",
        "RESP_QUERY_BUFFER_BYTES",
        "CLIENT_UNACKED_TIMEOUT",
        "HEAD_TIMEOUT",
        "IDLE_TIMEOUT",
        "WRITE_TIMEOUT",
        "RESP_IDLE_TIMEOUT",
        "ALLOWED_HOSTS",
        "MAX_CLIENTS_PER_PEER",
        "READ_TOKEN",
        "READ_TOKEN_FILE",
        "READ_TOKENS_FILE",
        "ADMIN_TOKEN",
        "ADMIN_TOKEN_FILE",
        "CORS_ORIGINS",
        "CLIENT_WAIT",
        "MAX_WAITING",
        "CLIENT_KEEPALIVE",
        "MAX_INFLIGHT",
        "REDIS_CONNECT_TIMEOUT",
        "UPSTREAM_TIMEOUT",
        "REDIS_PING_INTERVAL",
        "MAX_REPLY_BYTES",
        "REDIS_REAUTH",
        "RESP_PROXY_ADMIN",
        "RESP_PIPELINE",
        "RESP_OUTPUT_LIMIT_BYTES",
        "RESP_UNREAD_BYTES",
        "RESP_LANE_INFLIGHT",
        "RESP_LANE_BYTES",
        "RESP_LANE_TIMEOUT",
        "RESP_LANE_IDLE",
        "ANONYMOUS_PROOF",
        "MAX_PINNED",
        "MAX_LANES",
        "OUTPUT_BUFFER_BYTES",
        "HONOR_NO_CACHE",
        "SLOWLOG_THRESHOLD",
        "TLS_HANDSHAKES",
        "SHUTDOWN_DELAY",
        "SHUTDOWN_TIMEOUT",
        "HTTP_CACHE_CONTROL",
        "CONTENT_TYPE",
        "TLS_CERT",
        "TLS_KEY",
        "TLS_CLIENT_CA",
        "TLS_PORTS",
        "TLS_CLIENT_PORTS",
    ];

    pub(crate) fn of(settings: &Settings) -> Self {
        LiveSettings {
            log: settings.log.clone(),
            access_log: settings.access_log,
            capacity: settings.capacity,
            capacity_bytes: settings.capacity_bytes,
            expiry: settings.global_expiry,
            max_value_bytes: settings.max_value_bytes,
            files: FileLimits::of(settings),
            client_wait: settings.client_wait,
            client_keepalive: settings.client_keepalive,
            redis: RedisLimits {
                connections: settings.redis.limits.now(),
                inflight: settings.max_inflight,
                reauth: settings.nodes.reauth,
            },
            sessions: SessionLimits::of(settings),
            unread_bytes: settings.resp_unread_bytes,
            anonymous_proof: settings.anonymous_proof,
            output_bytes: settings.output_buffer_bytes,
            honor_no_cache: settings.coherence.honor_no_cache,
            slowlog_threshold: settings.slowlog_threshold,
            handshakes_a_turn: settings.tls_handshakes,
            shutdown_delay: settings.shutdown_delay,
            shutdown_timeout: settings.shutdown_timeout,
            sizes: RequestSizes::of(settings),
            timeouts: ClientTimeouts::of(settings),
            access: settings.access.clone(),
            values: settings.values.clone(),
            tls: settings.tls.clone(),
        }
    }

    /// Leaves as in `before` what cannot change any more. The names of that, where it was to change.
    pub(crate) fn keep(&mut self, before: &LiveSettings) -> Vec<&'static str> {
        if self.capacity_bytes.is_some() == before.capacity_bytes.is_some() {
            return Vec::new();
        }
        // There is no measuring of what the process takes, or there would be one for nothing.
        self.capacity_bytes = before.capacity_bytes;
        vec!["CAPACITY_BYTES"]
    }

    /// The files that are taken over when they change, by the settings that name them.
    pub(crate) fn files(&self) -> Vec<(&'static str, PathBuf)> {
        let mut files = self.tls.as_ref().map_or(Vec::new(), |tls| tls.settings().files());
        files.extend(self.access.files());
        files
    }

    /// The same settings, with those files as they are now. Blocks.
    ///
    /// # Errors
    /// The operator's, in one line that names the setting: then nothing of it is to be taken over.
    pub(crate) fn with_files_read_again(&self) -> Result<LiveSettings, String> {
        let tls = self.tls.as_ref().map(|tls| tls.settings().read()).transpose()?;
        let access = self.access.with_files_read_again()?;
        Ok(LiveSettings { tls: tls.map(Arc::new), access, ..self.clone() })
    }

    /// The settings whose files hold something else than in `before`.
    pub(crate) fn files_differing(&self, before: &LiveSettings) -> Vec<&'static str> {
        let mut differing = match (&self.tls, &before.tls) {
            (Some(tls), Some(before)) => tls.differing(before),
            _ => Vec::new(),
        };
        differing.extend(self.access.files_differing(&before.access));
        differing
    }
}

/// The value in force, as whoever changes it has it.
pub(crate) struct Live {
    values: watch::Sender<Arc<LiveSettings>>,
    /// How often it has been changed.
    changes: Arc<AtomicU32>,
}

impl Live {
    pub(crate) fn new(settings: LiveSettings) -> Self {
        Live { values: watch::Sender::new(Arc::new(settings)), changes: Arc::default() }
    }

    /// From now on this is in force: each reader has it at its next look.
    pub(crate) fn set(&self, settings: LiveSettings) {
        self.values.send_replace(Arc::new(settings));
        // Whoever sees it takes the value under its lock.
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// The value in force.
    pub(crate) fn now(&self) -> Arc<LiveSettings> {
        self.values.borrow().clone()
    }

    pub(crate) fn reader(&self) -> LiveReader {
        let seen_changes = self.changes.load(Ordering::Acquire);
        let values = self.values.subscribe();
        let seen = values.borrow().clone();
        LiveReader { values, changes: self.changes.clone(), seen, seen_changes }
    }
}

/// The value in force, as those have it who go by it.
#[derive(Clone)]
pub(crate) struct LiveReader {
    values: watch::Receiver<Arc<LiveSettings>>,
    changes: Arc<AtomicU32>,
    /// As of the last look.
    seen: Arc<LiveSettings>,
    /// Before that look, at the latest.
    seen_changes: u32,
}

impl LiveReader {
    /// The value of this moment. Costs a comparison, fit for every request.
    #[inline]
    pub(crate) fn now(&mut self) -> &Arc<LiveSettings> {
        let changes = self.changes.load(Ordering::Acquire);
        if changes != self.seen_changes {
            self.look(changes);
        }
        &self.seen
    }

    /// How often the value had been changed at the last look: what was concluded from it is good while this is the same.
    #[inline]
    pub(crate) fn generation(&self) -> u32 {
        self.seen_changes
    }

    #[cold]
    fn look(&mut self, changes: u32) {
        self.seen_changes = changes;
        self.seen = self.values.borrow_and_update().clone();
    }

    /// Waits for the next value, and returns it.
    pub(crate) async fn changed(&mut self) -> &LiveSettings {
        // An error is the end of the program.
        if self.values.changed().await.is_err() {
            pending::<()>().await;
        }
        self.look(self.seen_changes);
        &self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(access_log: u32) -> LiveSettings {
        LiveSettings { access_log, ..LiveSettings::of(&Settings::default()) }
    }

    #[test]
    fn every_reader_has_a_new_value_at_its_next_look() {
        let live = Live::new(settings(1));
        let mut early = live.reader();
        let mut copied = early.clone();
        assert_eq!((early.now().access_log, copied.now().access_log), (1, 1));
        live.set(settings(2));
        live.set(settings(3));
        let mut late = live.reader();
        assert_eq!([&mut early, &mut copied, &mut late].map(|reader| reader.now().access_log), [3; 3]);
    }

    #[test]
    fn a_look_that_finds_nothing_new_takes_no_part_in_the_value() {
        let live = Live::new(settings(1));
        let mut reader = live.reader();
        let before = Arc::strong_count(&reader.seen);
        for _ in 0..10 {
            assert_eq!(reader.now().access_log, 1);
        }
        assert_eq!(Arc::strong_count(&reader.seen), before);
        assert!(Arc::ptr_eq(&reader.seen, &live.values.borrow()));
    }

    #[tokio::test]
    async fn who_waits_for_a_change_is_told_of_the_last() {
        let live = Live::new(settings(1));
        let mut reader = live.reader();
        live.set(settings(2));
        live.set(settings(3));
        assert_eq!(reader.changed().await.access_log, 3);
        assert_eq!(reader.now().access_log, 3);
    }
}
