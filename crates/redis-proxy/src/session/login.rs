//! What follows from credentials once Redis has taken them.

use bytes::Bytes;
use resp::{Arguments, Protocol};

use crate::lanes::Identity;

/// What follows from credentials that are right.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) identity: Identity,
    pub(crate) user: Bytes,
    /// Whether HELLO brought them.
    pub(crate) hello: Option<HelloOptions>,
}

impl Login {
    /// Of these credentials; without a user, of the default one.
    pub(crate) fn new(user: Option<&[u8]>, password: &[u8], hello: Option<HelloOptions>) -> Self {
        let user = user.map(Bytes::copy_from_slice);
        let identity = Identity::new(user.clone(), Bytes::copy_from_slice(password));
        Login { identity, user: user.unwrap_or(Bytes::from_static(b"default")), hello }
    }

    /// Of `AUTH password` or `AUTH user password`; `None` if it is neither.
    pub(crate) fn of_auth(arguments: Arguments<'_>) -> Option<Self> {
        let (user, password) = match (arguments.get(1), arguments.get(2)) {
            (Some(user), Some(password)) => (Some(user), password),
            (Some(password), None) => (None, password),
            _ => return None,
        };
        Some(Login::new(user, password, None))
    }
}

/// What HELLO asks for beside a login.
#[derive(Clone)]
pub(crate) struct HelloOptions {
    pub(crate) protocol: Protocol,
    pub(crate) name: Option<Bytes>,
}

impl HelloOptions {
    /// As a request names it.
    pub(crate) fn version(&self) -> &'static [u8] {
        version(self.protocol)
    }
}

/// A protocol as HELLO names it.
pub(crate) fn version(protocol: Protocol) -> &'static [u8] {
    if protocol == Protocol::Resp3 { b"3" } else { b"2" }
}

/// How long a client stays on the connection on which it logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stay {
    /// As long as something else holds it there.
    AsLong,
    Always,
}
