//! What makes two connections to Redis interchangeable for a client.

use std::rc::Rc;

use resp::Protocol;
use upstream::{Credentials, Greeting};

/// Who a client is to Redis. Never one for another: a lane serves one identity.
pub(crate) type Identity = Rc<Credentials>;

/// A class of connections to Redis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LaneKey {
    pub(crate) identity: Identity,
    pub(crate) db: u32,
    pub(crate) protocol: Protocol,
}

impl LaneKey {
    pub(super) fn greeting(&self) -> Greeting {
        Greeting { login: (*self.identity).clone(), db: self.db, protocol: self.protocol }
    }
}

/// Which of the two shared lanes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Pace {
    /// For commands that Redis answers at once.
    Quick,
    /// For those that may take long, so that they stall only each other.
    Slow,
}
