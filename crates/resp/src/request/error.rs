//! Why a client's request is refused.

use std::fmt;

use bytes::{BufMut, BytesMut};

/// The client broke the protocol: it is told so and its connection is closed, because nobody knows where its next request
/// starts. The texts are those of redis-server 7.0.15; clients match on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// The number of arguments is none, or is over the limit.
    InvalidCount,
    /// The length of an argument is none, or is over the limit.
    InvalidLength,
    /// This byte stands where an argument's `$` should.
    NoBulk(u8),
    /// The line with the number of arguments does not end.
    TooBigCount,
    /// The line with an argument's length does not end.
    TooBigLength,
    /// The line of an inline request does not end.
    TooBigInline,
    /// A quote is not closed, or is closed in the middle of a word.
    UnbalancedQuotes,
    /// Too many arguments for a client that has not authenticated.
    UnauthenticatedCount,
    /// An argument too long for a client that has not authenticated.
    UnauthenticatedLength,
    /// A request of which a part has been passed on goes on with line ends that Redis forgives and others may not. Not an
    /// error of Redis'.
    LooseWhileStreaming,
}

impl RequestError {
    /// Appends the error reply. A CR or LF that stands where a `$` should is shown as a blank, as in Redis.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_slice(b"-ERR Protocol error: ");
        match *self {
            Self::NoBulk(byte) => {
                out.put_slice(b"expected '$', got '");
                out.put_u8(if matches!(byte, b'\r' | b'\n') { b' ' } else { byte });
                out.put_u8(b'\'');
            }
            other => out.put_slice(other.text().as_bytes()),
        }
        out.put_slice(b"\r\n");
    }

    /// Whether the request would have been taken from a client that has logged in.
    pub fn is_unauthenticated(self) -> bool {
        matches!(self, Self::UnauthenticatedCount | Self::UnauthenticatedLength)
    }

    fn text(self) -> &'static str {
        match self {
            Self::InvalidCount => "invalid multibulk length",
            Self::InvalidLength => "invalid bulk length",
            Self::NoBulk(_) => "expected '$'",
            Self::TooBigCount => "too big mbulk count string",
            Self::TooBigLength => "too big bulk count string",
            Self::TooBigInline => "too big inline request",
            Self::UnbalancedQuotes => "unbalanced quotes in request",
            Self::UnauthenticatedCount => "unauthenticated multibulk length",
            Self::UnauthenticatedLength => "unauthenticated bulk length",
            Self::LooseWhileStreaming => "expected CRLF",
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for RequestError {}
