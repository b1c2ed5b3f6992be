//! A Redis that answers what a test wants.
use std::net::SocketAddr;
use std::time::Duration;

/// What a [`ScriptedRedis`] does with a GET.
#[derive(Clone, Debug)]
pub enum Action {
    /// Sends these bytes.
    Reply(Vec<u8>),
    /// Sends these bytes and closes.
    ReplyThenClose(Vec<u8>),
    /// Closes.
    Close,
    /// Answers nothing more on this connection, which stays open.
    Silence,
    /// Sends the bytes in pieces.
    Slow {
        /// All bytes.
        bytes: Vec<u8>,
        /// Bytes a piece.
        chunk: usize,
        /// Pause before each piece but the first.
        every: Duration,
    },
}

/// A TCP server that speaks as much RESP as a test needs.
pub struct ScriptedRedis {}

/// How a [`ScriptedRedis`] answers.
pub struct ScriptedRedisBuilder {}

#[allow(unused_variables)]
impl ScriptedRedisBuilder {
    /// Answers this command (upper case) with these bytes, instead of as Redis 7 does.
    pub fn answer(self, command: &str, bytes: impl AsRef<[u8]>) -> Self {
        unimplemented!()
    }
    /// Refuses HELLO as a Redis before 6 does.
    pub fn refuse_hello(self) -> Self {
        unimplemented!()
    }
    /// Starts it; `on_get` sees the key and how many GETs came before.
    pub fn start(self, on_get: impl Fn(&[u8], usize) -> Action + Send + Sync + 'static) -> ScriptedRedis {
        unimplemented!()
    }
}

#[allow(unused_variables)]
impl ScriptedRedis {
    /// Starts one that answers all but GET as Redis 7 does.
    pub fn start(on_get: impl Fn(&[u8], usize) -> Action + Send + Sync + 'static) -> ScriptedRedis {
        unimplemented!()
    }
    /// More choices.
    pub fn builder() -> ScriptedRedisBuilder {
        unimplemented!()
    }
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        unimplemented!()
    }
    /// All commands so far, in the order they came.
    pub fn commands(&self) -> Vec<Vec<Vec<u8>>> {
        unimplemented!()
    }
    /// How often this command (upper case) came.
    pub fn calls(&self, command: &str) -> usize {
        unimplemented!()
    }
    /// Waits until this command (upper case) came `count` times.
    pub fn wait_calls(&self, command: &str, count: usize, timeout: Duration) {
        unimplemented!()
    }
    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        unimplemented!()
    }
    /// Sends bytes nobody asked for on all open connections.
    pub fn send_to_all(&self, bytes: &[u8]) {
        unimplemented!()
    }
}
