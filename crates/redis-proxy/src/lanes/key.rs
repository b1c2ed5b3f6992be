//! What makes two connections to Redis interchangeable for a client.

use std::sync::Arc;

use bytes::Bytes;
use resp::Protocol;
use upstream::{Credentials, Greeting, NodeNumber, Password};

/// Who a client is to Redis, as it has proven that. Never one for another: a lane serves one identity. A clone costs a counter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity(Arc<Credentials>);

impl Identity {
    /// One that has said nothing.
    pub(crate) fn nobody() -> Self {
        Identity(Arc::new(Credentials::None))
    }

    /// One that gives a password, and a user's name or none for the `default` user.
    pub(crate) fn new(user: Option<Bytes>, password: Bytes) -> Self {
        let password = Password(password);
        Identity(Arc::new(match user {
            Some(user) => Credentials::User(user, password),
            None => Credentials::Password(password),
        }))
    }

    /// The user's name, if it gave one, and the password: the arguments of AUTH. None of nobody.
    pub(crate) fn login(&self) -> Option<(Option<&[u8]>, &[u8])> {
        match &*self.0 {
            Credentials::None => None,
            Credentials::Password(password) => Some((None, &password.0)),
            Credentials::User(user, password) => Some((Some(user), &password.0)),
        }
    }
}

/// Which node of a cluster a connection leads to; home where there is but one Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Destination(NodeNumber);

impl Destination {
    /// Where all goes that is no matter of a key.
    pub(crate) fn home() -> Destination {
        Destination(NodeNumber::HOME)
    }

    pub(super) fn of(node: NodeNumber) -> Destination {
        Destination(node)
    }

    pub(super) fn node(self) -> NodeNumber {
        self.0
    }
}

/// A class of connections to Redis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LaneKey {
    pub(crate) to: Destination,
    pub(crate) identity: Identity,
    pub(crate) db: u32,
    pub(crate) protocol: Protocol,
}

impl LaneKey {
    /// The same at another node.
    pub(crate) fn at(&self, to: Destination) -> LaneKey {
        LaneKey { to, ..self.clone() }
    }

    pub(super) fn greeting(&self) -> Greeting {
        Greeting { login: (*self.identity.0).clone(), db: self.db, protocol: self.protocol }
    }
}

/// Which of the two shared lanes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Pace {
    /// For commands that Redis answers at once.
    Quick,
    /// For those that may take long, so that they stall only each other.
    Slow,
}
