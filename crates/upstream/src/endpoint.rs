//! Where the backing Redis is and who we are to it, made once by the settings.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
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
    /// The limits of each connection.
    pub limits: ConnectionLimits,
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
            Ok(_) => format!("no connection within {:?}", self.limits.connect_timeout),
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
#[derive(Clone, Copy, Debug)]
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
