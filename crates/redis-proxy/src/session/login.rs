//! What follows from credentials once Redis has taken them.

use bytes::Bytes;
use resp::Protocol;

use crate::lanes::Identity;

/// What follows from credentials that are right.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) identity: Identity,
    pub(crate) user: Bytes,
    /// Whether HELLO brought them.
    pub(crate) hello: Option<HelloOptions>,
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
