//! Faults between the program and Redis.
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

/// A TCP proxy whose behaviour can be changed while connections live.
pub struct FaultProxy {}

#[allow(unused_variables)]
impl FaultProxy {
    /// Starts it in front of `target`, passing.
    pub fn start(target: impl ToSocketAddrs) -> FaultProxy {
        unimplemented!()
    }
    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        unimplemented!()
    }
    /// New connections go to this server.
    pub fn retarget(&self, target: impl ToSocketAddrs) {
        unimplemented!()
    }
    /// Bytes pass.
    pub fn pass(&self) {
        unimplemented!()
    }
    /// Bytes pass after this time, each way.
    pub fn delay(&self, delay: Duration) {
        unimplemented!()
    }
    /// Bytes pass in pieces of `bytes`.
    pub fn chunk(&self, bytes: usize) {
        unimplemented!()
    }
    /// No byte passes; connections stay open.
    pub fn stall(&self) {
        unimplemented!()
    }
    /// No byte passes from the server; commands still arrive there.
    pub fn stall_replies(&self) {
        unimplemented!()
    }
    /// Resets all connections.
    pub fn reset(&self) {
        unimplemented!()
    }
    /// Refuses new connections; those there are live on.
    pub fn refuse(&self) {
        unimplemented!()
    }
    /// Accepts new connections again, at the same address.
    pub fn accept(&self) {
        unimplemented!()
    }
    /// Connections open now.
    pub fn connections(&self) -> usize {
        unimplemented!()
    }
    /// Connections accepted since the start.
    pub fn accepted(&self) -> usize {
        unimplemented!()
    }
    /// Waits until exactly `count` connections are open.
    pub fn wait_connections(&self, count: usize, timeout: Duration) {
        unimplemented!()
    }
}
