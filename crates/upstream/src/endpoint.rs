//! Where the backing Redis is and who we are to it, made once by the settings.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::cluster::{Cluster, NodeNumber};
use crate::credentials::Source;
use crate::node::RedisNode;
use crate::proven::Proven;
use crate::reauth::Reauth;

/// A backing Redis: where it is, who we are to it, and the limits of a connection to it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where to connect. A host name is resolved anew at each attempt.
    pub node: RedisNode,
    /// The cluster that the node is one of; none of a Redis by itself.
    pub cluster: Option<Cluster>,
    /// TLS, when the address asks for it. Ignored for a unix socket.
    pub tls: Option<Tls>,
    /// Who we are.
    pub login: Account,
    /// The database that is SELECTed; 0 sends no SELECT.
    pub db: u32,
    /// The limits of each connection, which all endpoints that were made of this one share.
    pub limits: SharedLimits,
}

impl Endpoint {
    /// The same at the node of this number; without a cluster there is but one.
    pub fn at(&self, id: NodeNumber) -> Endpoint {
        match &self.cluster {
            Some(cluster) => Endpoint { node: cluster.node(id), ..self.clone() },
            None => self.clone(),
        }
    }

    /// Why an attempt to connect has taken too long.
    pub(crate) fn too_late(&self) -> String {
        match self.node.place().address {
            Ok(_) => format!("no connection within {:?}", self.limits.connect_timeout()),
            Err(why) => why.to_string(),
        }
    }
}

/// Who we are to a Redis.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// The ACL user (Redis 6+). `None` is Redis' `default` user.
    pub username: Option<String>,
    /// The password; without one no AUTH is sent.
    pub password: Option<Secret>,
    /// Where user and password are read anew at each attempt to connect; without one they stay as they are.
    pub source: Option<Source>,
    /// Passwords that clients have proven for the user, to be used in place of that one.
    pub proven: Option<Arc<Proven>>,
    /// When open connections log in again; `None`: they do not.
    pub reauth: Option<Reauth>,
}

/// The limits of a connection to a Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Bound of one attempt: name resolution, TCP, TLS and the handshake together.
    pub connect_timeout: Duration,
    /// A connection with answers due that delivers no byte for this long is closed.
    pub silence_timeout: Duration,
    /// An idle connection is PINGed this often, so that a half-open one is noticed.
    pub ping_interval: Duration,
    /// A bulk in a reply above this many bytes is skipped as it arrives.
    pub max_reply_bytes: usize,
}

/// The [limits](ConnectionLimits) of this moment, as those have them who go by them: they may change while connections are open. A copy
/// is the same limits.
#[derive(Clone, Debug)]
pub struct SharedLimits {
    in_force: Arc<InForce>,
    /// No time-out is longer, whatever is in force.
    patience: Duration,
}

// Relaxed throughout: each is by itself.
#[derive(Debug)]
struct InForce {
    connect_timeout_ns: AtomicU64,
    silence_timeout_ns: AtomicU64,
    ping_interval_ns: AtomicU64,
    max_reply_bytes: AtomicUsize,
}

impl SharedLimits {
    /// From now on these are in force.
    pub fn set(&self, limits: ConnectionLimits) {
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.in_force.connect_timeout_ns.store(ns(limits.connect_timeout), Ordering::Relaxed);
        self.in_force.silence_timeout_ns.store(ns(limits.silence_timeout), Ordering::Relaxed);
        self.in_force.ping_interval_ns.store(ns(limits.ping_interval), Ordering::Relaxed);
        self.in_force.max_reply_bytes.store(limits.max_reply_bytes, Ordering::Relaxed);
    }

    /// What is in force now.
    pub fn now(&self) -> ConnectionLimits {
        ConnectionLimits {
            connect_timeout: self.connect_timeout(),
            silence_timeout: self.silence_timeout(),
            ping_interval: self.ping_interval(),
            max_reply_bytes: self.max_reply_bytes(),
        }
    }

    /// The same, with no time-out above `patience`.
    pub fn within(&self, patience: Duration) -> SharedLimits {
        SharedLimits { in_force: self.in_force.clone(), patience: self.patience.min(patience) }
    }

    /// Bound of one attempt to connect.
    pub fn connect_timeout(&self) -> Duration {
        time(&self.in_force.connect_timeout_ns).min(self.patience)
    }

    /// How long a connection with answers due may be silent.
    pub fn silence_timeout(&self) -> Duration {
        time(&self.in_force.silence_timeout_ns).min(self.patience)
    }

    /// How often an idle connection is PINGed.
    pub fn ping_interval(&self) -> Duration {
        time(&self.in_force.ping_interval_ns)
    }

    /// The longest bulk of a reply that is not skipped.
    pub fn max_reply_bytes(&self) -> usize {
        self.in_force.max_reply_bytes.load(Ordering::Relaxed)
    }
}

fn time(ns: &AtomicU64) -> Duration {
    Duration::from_nanos(ns.load(Ordering::Relaxed))
}

impl From<ConnectionLimits> for SharedLimits {
    fn from(limits: ConnectionLimits) -> SharedLimits {
        let (none, bytes) = (AtomicU64::default, AtomicUsize::default());
        let in_force = InForce {
            connect_timeout_ns: none(),
            silence_timeout_ns: none(),
            ping_interval_ns: none(),
            max_reply_bytes: bytes,
        };
        let shared = SharedLimits { in_force: Arc::new(in_force), patience: Duration::MAX };
        shared.set(limits);
        shared
    }
}

/// An address of a Redis.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// `host:port`; the host is a name or an IPv4 or IPv6 address without brackets.
    Tcp {
        /// Name or address.
        host: String,
        /// TCP port, 1 to 65535.
        port: u16,
    },
    /// A unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The files and the name that TLS needs. All `None`: the system's roots and the host's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// PEM file of the authorities that are trusted instead of the system's.
    pub ca: Option<PathBuf>,
    /// PEM file of the client certificate chain; goes with `key`.
    pub cert: Option<PathBuf>,
    /// PEM file of the client's private key; goes with `cert`.
    pub key: Option<PathBuf>,
    /// The name that the server's certificate must carry, where it is not the host.
    pub server_name: Option<String>,
}

/// A text that no log and no error shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself, for the wire only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
