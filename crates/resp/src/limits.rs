//! What a peer may make us hold.

/// The largest `max_depth` that is honoured: dropping, comparing and printing a frame recurse, and must fit a thread's
/// stack. Redis' own replies are less than ten deep; a script's can be deeper.
pub const MAX_DEPTH: usize = 512;

/// What a peer may make us hold for one reply or push.
///
/// A string over `max_bulk_bytes` and a reply over any limit but that of lines are dropped as they arrive, and
/// [`crate::Frame::Oversized`] stands in their place. A line that is too long, and a push over a limit, end the
/// connection, see [`crate::DecodeError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLimits {
    /// Longest string (`$`, `!`, `=`) that is kept. Redis' own limit, `proto-max-bulk-len`, is 512 MiB.
    pub max_bulk_bytes: usize,
    /// Most values in one reply: all levels, aggregates and attributes included.
    pub max_elements: usize,
    /// Most aggregates inside each other; 0 allows none, values above [`MAX_DEPTH`] count as that.
    pub max_depth: usize,
    /// Longest line, without its type byte and CRLF.
    pub max_line_bytes: usize,
    /// Most payload kept of one reply: its strings, its errors, and the numbers that stay text.
    pub max_frame_bytes: usize,
}
