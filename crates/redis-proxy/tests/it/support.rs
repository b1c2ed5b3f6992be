//! What every test starts with.

use testkit::{Proxy, ProxyBuilder, RedisServer};

/// The built program, not yet started.
pub(crate) fn program() -> ProxyBuilder {
    Proxy::builder(env!("CARGO_BIN_EXE_redis-proxy"))
}

/// A Redis of its own and the program in front of it, with default settings.
pub(crate) fn start() -> (RedisServer, Proxy) {
    let redis = RedisServer::start();
    let proxy = program().redis(&redis).start();
    (redis, proxy)
}
