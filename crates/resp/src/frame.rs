//! A frame: one value of the protocol, whole.

use bytes::Bytes;

/// One reply, push or element of one, in either protocol version.
///
/// Payloads are slices of the buffer they were read into: cloning is cheap, keeping one keeps that buffer. Dropping,
/// comparing and printing a frame recurse into it; decoded frames are at most [`crate::MAX_DEPTH`] deep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// `+`: a status such as `OK`; never holds CR or LF.
    Simple(Bytes),
    /// `-` or (RESP3) `!`: an error's text, its code first, without the leading byte.
    Error(Bytes),
    /// `:`.
    Integer(i64),
    /// `$`: a string of any bytes.
    Bulk(Bytes),
    /// `$-1` and `*-1` (RESP2), `_` (RESP3). Which of the three it was is not kept.
    Null,
    /// `*`.
    Array(Vec<Frame>),
    /// `%` (RESP3): pairs in the order they came, repeated keys included.
    Map(Vec<(Frame, Frame)>),
    /// `~` (RESP3): members in the order they came, not checked for repeats.
    Set(Vec<Frame>),
    /// `>` (RESP3): data that answers no command, such as an invalidation. Never dropped for its size, but a string in
    /// it can be [`Frame::Oversized`]. Within another frame Redis puts one only where EXEC answers a SUBSCRIBE (measured
    /// on 7.0.15), and counts it as an element if it names one channel (redis issue 12207).
    Push(Vec<Frame>),
    /// `#` (RESP3).
    Boolean(bool),
    /// `,` (RESP3): the digits as sent, so that passing them on loses nothing. `str::parse::<f64>` accepts them.
    Double(Bytes),
    /// `(` (RESP3): an optional sign and decimal digits of any number.
    BigNumber(Bytes),
    /// `=` (RESP3): text with a three-byte format such as `txt` or `mkd`.
    Verbatim {
        /// What the text is: `txt` or `mkd` from Redis.
        format: [u8; 3],
        /// The text, without the format and its colon.
        text: Bytes,
    },
    /// Stands where a value was that a size limit did not let in. Its bytes were dropped as they came.
    Oversized {
        /// Payload bytes: of the one string that was over `max_bulk_bytes`, or of the whole reply that was over
        /// `max_frame_bytes`.
        announced: u64,
    },
}
