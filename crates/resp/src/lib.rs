//! RESP, the protocol of Redis, in both its versions: replies decoded, commands and replies encoded; and for bytes that are
//! passed on as they are, requests and replies delimited.
//!
//! Pure: bytes in, frames or lengths out. No socket, no clock, no task. What can be trusted about it:
//!
//! - **Resumable.** [`Decoder`], [`RequestParser`] and [`ReplyScanner`] keep their place between calls, so what comes a
//!   byte at a time costs time linear in its size.
//! - **Limited.** Nothing is allocated because a length or a count was *announced*, only for bytes that arrived; size,
//!   count, depth and line length have limits ([`FrameLimits`]).
//! - **Strict with servers.** What Redis never sends is refused ([`DecodeError`]); a doubt about where a frame ends is a doubt about
//!   whose answer comes next, so the decoder stays refused and the connection must be closed.
//! - **Like Redis with clients.** [`RequestParser`] accepts and refuses what redis-server does, with its words.
//! - **Copy-free.** Payloads are slices of the read buffer. A small value kept for long therefore pins the whole buffer:
//!   who stores one copies it.
//!
//! Sources: the protocol page, <https://redis.io/docs/latest/develop/reference/protocol-spec/>, and the RESP3
//! specification, <https://github.com/redis/redis-specifications/blob/master/protocol/RESP3.md>.

mod decode;
mod encode;
mod error;
mod frame;
mod glance;
mod limits;
mod line;
mod reply;
mod request;
mod scan;

pub use decode::Decoder;
pub use encode::{Protocol, encode_command};
pub use error::DecodeError;
pub use frame::Frame;
pub use glance::{Glance, glance};
pub use limits::{FrameLimits, MAX_DEPTH};
pub use request::{
    Arguments, Form, MAX_LINE_BYTES, OpenBulk, Parsed, RequestError, RequestLimits, RequestParser,
    STREAMED_BULK_BYTES,
};
pub use scan::{ReplyScanner, Scanned};
