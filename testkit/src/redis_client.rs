//! A small blocking client of Redis.
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;

use crate::Reply;

/// One connection to a Redis, RESP2.
pub struct RedisClient {}

#[allow(unused_variables)]
impl RedisClient {
    /// Connects over TCP.
    pub fn connect(address: impl ToSocketAddrs) -> RedisClient {
        unimplemented!()
    }
    /// Connects over a unix socket.
    pub fn connect_unix(path: impl AsRef<Path>) -> RedisClient {
        unimplemented!()
    }
    /// Sends a command and reads its reply; an error reply is a [`Reply::Error`].
    pub fn command<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Reply {
        unimplemented!()
    }
    /// As `command`, but a lost connection is an error.
    pub fn try_command<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> std::io::Result<Reply> {
        unimplemented!()
    }
    /// `SET key value`, any bytes.
    pub fn set(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        unimplemented!()
    }
    /// `GET key`.
    pub fn get(&mut self, key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        unimplemented!()
    }
    /// `DEL key`: whether it was there.
    pub fn del(&mut self, key: impl AsRef<[u8]>) -> bool {
        unimplemented!()
    }
    /// `FLUSHALL`.
    pub fn flushall(&mut self) {
        unimplemented!()
    }
}
#[allow(dead_code)]
fn unused(_: SocketAddr) {}
