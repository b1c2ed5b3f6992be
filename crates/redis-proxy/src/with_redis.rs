//! The Redis of `--with-redis`: a child process on a private unix socket that ends with us.

use std::fmt;

use upstream::Address;

/// A running redis-server of our own; dropping it ends it and removes its directory.
#[derive(Debug)]
pub struct OwnRedis {
    address: Address,
}

impl OwnRedis {
    /// Its unix socket.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

/// Why the Redis of `--with-redis` did not start. Displays as one line.
#[derive(Debug)]
pub struct Error(String);

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Starts redis-server. Call it from the main thread: it ends when the thread that started it ends.
///
/// # Errors
/// redis-server is missing or does not answer in time.
pub fn start() -> Result<OwnRedis, Error> {
    Err(Error("not written yet".into()))
}
