//! Why no load can be made.

use std::fmt;
use std::io;

/// The load cannot be made, or not begun. Displays as one line.
#[derive(Debug)]
pub enum Error {
    /// Nobody answers at the address that was given.
    Connect {
        /// The address as given.
        address: String,
        /// What the system said.
        cause: io::Error,
    },
    /// Redis does not take the keys.
    Fill {
        /// The address as given.
        address: String,
        /// Its words, or what the system said.
        why: String,
    },
    /// The system refuses a thread or an event queue.
    System(io::Error),
    /// A fault of the generator; the thread has said more.
    Panicked,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Connect { address, cause } => write!(f, "cannot connect to {address}: {cause}"),
            Error::Fill { address, why } => write!(f, "cannot fill the redis at {address}: {why}"),
            Error::System(cause) => write!(f, "the system refuses: {cause}"),
            Error::Panicked => f.write_str("a thread of the generator ended by a fault"),
        }
    }
}

impl std::error::Error for Error {}
