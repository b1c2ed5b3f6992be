//! What the reply to a GET says, whichever connection it came by.

use bytes::Bytes;
use bytes::BytesMut;
use cache::Facts;
use resp::{Frame, Protocol};
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

/// A reply as bytes of `protocol`.
///
/// Redis answers the ZRANGE family WITHSCORES in another shape in RESP2: without the pairs (t_zset.c,
/// `zrangeResultEmitCBufferToClient`). Else the conversion is [`Frame::encode`]'s; a test compares it for every command.
///
/// # Errors
/// It is an error, or too large.
pub(super) fn reply(frame: &Frame, protocol: Protocol) -> Result<Bytes, Failure> {
    match frame {
        Frame::Error(text) => return Err(Failure::from_reply(text)),
        Frame::Oversized { announced } => return Err(Failure::TooLarge(*announced)),
        _ => {}
    }
    // Grown as it is written, a large one would take twice its size.
    let mut bytes = BytesMut::with_capacity(most_bytes(frame));
    match frame {
        Frame::Array(pairs)
            if protocol == Protocol::Resp2 && !pairs.is_empty() && pairs.iter().all(is_pair) =>
        {
            let items = pairs.iter().filter_map(|pair| match pair {
                Frame::Array(pair) => Some(pair.iter().cloned()),
                _ => None,
            });
            Frame::Array(items.flatten().collect()).encode(&mut bytes, protocol);
        }
        frame => frame.encode(&mut bytes, protocol),
    }
    Ok(bytes.freeze())
}

/// What a frame takes at most when it is encoded, and not much more than it does.
fn most_bytes(frame: &Frame) -> usize {
    /// A type, a length and two line ends.
    const AROUND: usize = 24;
    let all = |frames: &[Frame]| frames.iter().map(most_bytes).sum::<usize>();
    AROUND
        + match frame {
            Frame::Array(items) | Frame::Set(items) | Frame::Push(items) => all(items),
            Frame::Map(pairs) => pairs.iter().map(|(key, value)| most_bytes(key) + most_bytes(value)).sum(),
            Frame::Bulk(text) | Frame::Simple(text) | Frame::Verbatim { text, .. } => text.len(),
            _ => 0,
        }
}

/// A member with its score.
fn is_pair(frame: &Frame) -> bool {
    matches!(frame, Frame::Array(pair) if matches!(pair[..], [_, Frame::Double(_)]))
}

/// The reply to a PING, for those who probe.
pub(super) fn pong(reply: &Frame) -> (Result<(), Failure>, Result<(), Doubt>) {
    match reply {
        Frame::Simple(_) => (Ok(()), Ok(())),
        Frame::Error(text) if leaves_reads(text) => (Ok(()), Ok(())),
        Frame::Error(text) => (Err(Failure::from_reply(text)), Ok(())),
        _ => (Err(Failure::Garbled("not the type of a PING's reply".into())), Err(Doubt::WRONG_TYPE)),
    }
}

/// Whether a PING was refused for what keeps no read from its answer: the server cannot save and so takes no writes, or this
/// user has no right to PING.
fn leaves_reads(refusal: &[u8]) -> bool {
    refusal.starts_with(b"MISCONF ") || refusal.starts_with(b"NOPERM ")
}

/// What is dear to compute and the same for every hit: once, at fill, and only of what is shown `over_http`, because no other front
/// asks for it. BLAKE3 is unkeyed, so the ETag of a value is the same on every instance.
pub(super) fn facts(value: &[u8], over_http: bool) -> Facts {
    if !over_http {
        return Facts::default();
    }
    let mut etag = [0; 16];
    etag.copy_from_slice(&blake3::hash(value).as_bytes()[..16]);
    Facts { etag, utf8: std::str::from_utf8(value).is_ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_shown_over_http_has_an_etag() {
        let told = facts(b"value", true);
        assert!(told.utf8 && told.etag != [0; 16] && told != facts(b"\xff", true));
        assert_eq!(facts(b"value", false), Facts::default());
    }
}
