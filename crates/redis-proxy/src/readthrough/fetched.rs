//! What the reply to a GET says, whichever connection it came by.

use bytes::Bytes;
use cache::Facts;
use resp::Frame;
use upstream::Doubt;

use crate::failure::Failure;

/// The reply to a GET, understood.
pub(super) enum Fetched {
    Value(Bytes),
    Missing,
    Failed(Failure),
    /// It answers no GET: the connection is in doubt.
    Doubted(Failure),
}

impl Fetched {
    pub(super) fn of(reply: Frame) -> Fetched {
        match reply {
            Frame::Bulk(value) => Fetched::Value(value),
            Frame::Null => Fetched::Missing,
            Frame::Error(text) => Fetched::Failed(Failure::from_reply(&text)),
            Frame::Oversized { announced } => Fetched::Failed(Failure::TooLarge(announced)),
            _ => Fetched::Doubted(Failure::Garbled("not the type of a GET's reply".into())),
        }
    }
}

/// The reply to a PING, for those who probe.
pub(super) fn pong(reply: &Frame) -> (Result<(), Failure>, Result<(), Doubt>) {
    match reply {
        Frame::Simple(_) => (Ok(()), Ok(())),
        Frame::Error(text) => (Err(Failure::from_reply(text)), Ok(())),
        _ => (Err(Failure::Garbled("not the type of a PING's reply".into())), Err(Doubt::WRONG_TYPE)),
    }
}

/// What is dear to compute and the same for every hit: once, at fill. BLAKE3 is unkeyed, so the ETag of a value
/// is the same on every instance.
pub(super) fn facts(value: &[u8]) -> Facts {
    let mut etag = [0; 16];
    etag.copy_from_slice(&blake3::hash(value).as_bytes()[..16]);
    Facts { etag, utf8: std::str::from_utf8(value).is_ok() }
}
