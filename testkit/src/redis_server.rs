//! A real redis-server.
use std::net::SocketAddr;
use std::path::Path;

use crate::RedisClient;

/// A running redis-server, killed when dropped.
pub struct RedisServer {}

/// How a [`RedisServer`] is to be started.
pub struct RedisServerBuilder {}

#[allow(unused_variables)]
impl RedisServerBuilder {
    /// Adds `--name value` to the command line.
    pub fn config(self, name: &str, value: &str) -> Self {
        unimplemented!()
    }
    /// `requirepass`; [`RedisServer::client`] and `ProxyBuilder::redis` know it.
    pub fn password(self, password: &str) -> Self {
        unimplemented!()
    }
    /// Listens on a unix socket too.
    pub fn unix_socket(self) -> Self {
        unimplemented!()
    }
    /// Listens for TLS too, on a port of its own.
    pub fn tls(self, certificate: &Path, key: &Path, authority: &Path) -> Self {
        unimplemented!()
    }
    /// Starts it and waits until it answers PING.
    pub fn start(self) -> RedisServer {
        unimplemented!()
    }
}

#[allow(unused_variables)]
impl RedisServer {
    /// A plain server on a free TCP port.
    pub fn start() -> RedisServer {
        unimplemented!()
    }
    /// More choices.
    pub fn builder() -> RedisServerBuilder {
        unimplemented!()
    }
    /// The TCP port.
    pub fn port(&self) -> u16 {
        unimplemented!()
    }
    /// 127.0.0.1 and the TCP port.
    pub fn address(&self) -> SocketAddr {
        unimplemented!()
    }
    /// 127.0.0.1 and the TLS port.
    pub fn tls_address(&self) -> SocketAddr {
        unimplemented!()
    }
    /// The unix socket.
    pub fn socket_path(&self) -> &Path {
        unimplemented!()
    }
    /// `redis://[:password@]127.0.0.1:port`.
    pub fn url(&self) -> String {
        unimplemented!()
    }
    /// A new connection, authenticated.
    pub fn client(&self) -> RedisClient {
        unimplemented!()
    }
    /// SIGSTOP, and waits until it stands still.
    pub fn pause_process(&self) {
        unimplemented!()
    }
    /// SIGCONT.
    pub fn resume_process(&self) {
        unimplemented!()
    }
    /// SIGKILL, and waits until it is gone.
    pub fn kill(&self) {
        unimplemented!()
    }
    /// Starts it again on the same ports, killing it first if it runs.
    pub fn restart(&self) {
        unimplemented!()
    }
    /// How often a command (lower case) was called, by INFO commandstats.
    pub fn command_calls(&self, command: &str) -> u64 {
        unimplemented!()
    }
    /// CONFIG RESETSTAT.
    pub fn reset_stats(&self) {
        unimplemented!()
    }
}
