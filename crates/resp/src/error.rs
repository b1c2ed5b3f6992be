//! Why a stream of bytes is refused.

use std::fmt;

/// The peer broke the protocol or went over a limit that cannot be skipped.
///
/// In every case it is unknown (or not worth knowing) where the next frame starts: close the connection. A retry on a
/// new connection helps if the peer is Redis and the cause was a limit or a damaged stream; it does not help if the
/// peer is not Redis at all, which [`DecodeError::UnknownType`] on a first reply suggests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// A frame starts with a byte that names no type.
    UnknownType(u8),
    /// RESP3 streamed strings and aggregates (`$?`, `*?`, `;`, `.`), which Redis does not send.
    Streamed,
    /// A CR or LF that is not a CRLF, or no CRLF where a string of known length ends.
    BadLineEnd,
    /// A length or count that is not a decimal number below 2^64, or is negative and not a null's -1.
    BadLength,
    /// `:` without a decimal number that fits 64 bits with sign.
    BadInteger,
    /// A boolean, null, double, big number or verbatim string whose content is none.
    BadValue(u8),
    /// A line is longer than `max_line_bytes`.
    LineTooLong {
        /// `max_line_bytes`.
        limit: usize,
    },
    /// A push, or a reply with a push in it, is nested deeper than `max_depth`.
    TooDeep {
        /// `max_depth`.
        limit: usize,
    },
    /// A push, or a reply with a push in it, has more than `max_elements` values, or announces that it will; or an
    /// aggregate announces more than any server holds.
    TooManyElements {
        /// `max_elements`.
        limit: usize,
    },
    /// A push, or a reply with a push in it, has more than `max_frame_bytes` of payload. A reply is skipped then; a push
    /// cannot be, because nobody would know what it had told us. A push within an attribute is refused with it.
    PushTooLarge {
        /// `max_frame_bytes`.
        limit: usize,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::UnknownType(byte) => {
                write!(f, "a frame starts with '{}', which is no RESP type", byte.escape_ascii())
            }
            Self::Streamed => f.write_str("streamed strings and aggregates are not supported"),
            Self::BadLineEnd => f.write_str("a line or string does not end in CRLF"),
            Self::BadLength => f.write_str("a length or count is not a valid number"),
            Self::BadInteger => f.write_str("an integer is not a 64-bit number"),
            Self::BadValue(kind) => {
                write!(f, "the content of a '{}' frame is not valid", kind.escape_ascii())
            }
            Self::LineTooLong { limit } => write!(f, "a line is longer than max_line_bytes ({limit})"),
            Self::TooDeep { limit } => write!(f, "a reply is nested deeper than max_depth ({limit})"),
            Self::TooManyElements { limit } => {
                write!(f, "a reply has more elements than max_elements ({limit})")
            }
            Self::PushTooLarge { limit } => write!(f, "a push does not fit max_frame_bytes ({limit})"),
        }
    }
}

impl std::error::Error for DecodeError {}
