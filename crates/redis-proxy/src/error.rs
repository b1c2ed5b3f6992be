//! Why the program could not start, and how it ended.

use std::fmt;
use std::io;

/// The program could not start. Displays as one line that says what to change.
#[derive(Debug)]
pub enum Error {
    /// A setting has a value that only the part that uses it could judge.
    Setting(String),
    /// An address cannot be listened on.
    Bind {
        /// The settings that name it.
        names: &'static str,
        /// The address as set.
        address: String,
        /// What the system said.
        cause: io::Error,
    },
    /// The limit of open files leaves none for clients.
    Files {
        /// What the process may open.
        limit: usize,
        /// What it needs at the least.
        needed: usize,
    },
    /// `--with-redis` could not start a Redis.
    OwnRedis(crate::with_redis::OwnRedisError),
    /// The system refuses a thread, a handler or an event queue.
    System(io::Error),
}

impl Error {
    pub(crate) fn setting(name: &str, value: &str, accepted: &str) -> Self {
        Error::Setting(format!("{name}={value}: {accepted}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Setting(text) => f.write_str(text),
            Error::Bind { names, address, cause } => {
                write!(f, "cannot listen on {address} (set by {names}): {cause}")
            }
            Error::Files { limit, needed } => write!(
                f,
                "the limit of open files is {limit} and at least {needed} are needed: raise it (ulimit -n, or \
                 LimitNOFILE= in systemd)"
            ),
            Error::OwnRedis(error) => error.fmt(f),
            Error::System(error) => write!(f, "the system refuses: {error}"),
        }
    }
}

impl std::error::Error for Error {}

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// After a signal, with everything answered or given up.
    Drained,
    /// By a second signal with this number, at once.
    Signalled(u8),
    /// By a fault of its own: a part of it has died.
    Broken,
}
