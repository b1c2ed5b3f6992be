//! Bytes to frames, as they arrive.
//!
//! The decoder is a loop over [`Step`]s, with the open aggregates on a stack of its own (`reply.rs`): no recursion, so
//! depth is a number to compare and not a thread's stack to lose. A step consumes its bytes from the front of the buffer
//! when all of them are there and leaves the buffer alone when not; consumed bytes are never looked at again.
//!
//! Memory held for one reply, whatever it announces: the kept payload (`max_frame_bytes`), about twice
//! `size_of::<Frame>()` for each value that arrived (`max_elements`), and in the caller's buffer at most one string of
//! `max_bulk_bytes` or one line. Since payloads are slices, the read buffers they lie in live as long as they do.

use bytes::{Buf, Bytes, BytesMut};

use crate::reply::PartialReply;
use crate::{DecodeError, Frame, FrameLimits, MAX_DEPTH, line};

/// Turns a stream of replies and pushes, of either protocol version, into frames.
///
/// Belongs to one connection and one buffer. After an error it is poisoned: it answers the same error for ever.
///
/// ```
/// use bytes::{Bytes, BytesMut};
/// use resp::{Decoder, Frame, FrameLimits};
///
/// let limits = FrameLimits {
///     max_bulk_bytes: 1 << 20,
///     max_elements: 1 << 16,
///     max_depth: 16,
///     max_line_bytes: 1 << 16,
///     max_frame_bytes: 1 << 24,
/// };
/// let mut decoder = Decoder::new(limits);
/// let mut buffer = BytesMut::from("$5\r\nhel");
/// assert_eq!(decoder.decode(&mut buffer), Ok(None));
/// assert_eq!(decoder.wanted(), 4); // "lo" and its CRLF
/// buffer.extend_from_slice(b"lo\r\n");
/// assert_eq!(decoder.decode(&mut buffer), Ok(Some(Frame::Bulk(Bytes::from("hello")))));
/// ```
#[derive(Debug)]
pub struct Decoder {
    limits: FrameLimits,
    step: Step,
    /// Bytes at the front of the buffer known to hold no line end.
    scanned: usize,
    /// Bytes the string being read still lacks.
    wanted: usize,
    /// Bytes of the strings of the reply at hand that are kept, once their lengths are known.
    announced: usize,
    reply: PartialReply,
    failed: Option<DecodeError>,
}

/// What the next bytes of the buffer are.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A type byte and the rest of its line.
    Line,
    /// A string to keep, and its CRLF.
    Keep { kind: u8, length: usize },
    /// A string to drop as it arrives, and its CRLF.
    Skip { left: u64, announced: u64 },
}

impl Decoder {
    /// A decoder at the start of a stream. Allocates nothing.
    pub fn new(limits: FrameLimits) -> Self {
        let limits = possible(limits);
        Self {
            limits,
            step: Step::Line,
            scanned: 0,
            wanted: 0,
            announced: 0,
            reply: PartialReply::new(limits),
            failed: None,
        }
    }

    /// Other limits from now on: of the reply at hand for what is still to come of it.
    pub fn set_limits(&mut self, limits: FrameLimits) {
        self.limits = possible(limits);
        self.reply.set_limits(self.limits);
    }

    /// The next frame, consumed from the front of `buffer`, or `None` when more bytes are needed.
    ///
    /// Call it until it answers `None`, then read more. Between calls bytes may only be appended to `buffer`. A frame's
    /// payloads are split off `buffer` without copying. Attributes (`|`) are read and dropped.
    ///
    /// # Errors
    /// The peer broke the protocol or went over a limit: close the connection. Every later call answers the same.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, DecodeError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let decoded = self.advance(buffer);
        if let Err(error) = &decoded {
            self.failed = Some(*error);
            self.wanted = 0;
            self.reply.abandon();
        }
        if !matches!(decoded, Ok(None)) {
            self.announced = 0;
        }
        decoded
    }

    /// Bytes missing of the string being read, with its CRLF; 0 when unknown or when the string is being dropped.
    ///
    /// A hint for how much to reserve, as true as the peer is: cap it.
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// Bytes of strings that the reply at hand takes, those included that are still to come; 0 between replies.
    pub fn announced(&self) -> usize {
        self.announced
    }

    fn advance(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, DecodeError> {
        loop {
            let value = match self.step {
                Step::Line => {
                    let Some(end) = self.line_end(buffer)? else { return Ok(None) };
                    self.line(buffer, end)?
                }
                Step::Keep { kind, length } => {
                    let Some(text) = self.keep(buffer, length)? else { return Ok(None) };
                    Some(string(kind, text)?)
                }
                Step::Skip { left, announced } => {
                    if !self.skip(buffer, left, announced)? {
                        return Ok(None);
                    }
                    Some(Frame::Oversized { announced })
                }
            };
            if let Some(value) = value
                && let Some(whole) = self.reply.place(value)
            {
                return Ok(Some(whole));
            }
        }
    }

    /// Where the line at the front of the buffer ends, once it is there whole.
    fn line_end(&mut self, buffer: &BytesMut) -> Result<Option<usize>, DecodeError> {
        let Some(&kind) = buffer.first() else { return Ok(None) };
        check_kind(kind)?; // before the line is whole: a peer that is not Redis may never end it
        line::find_end(buffer, &mut self.scanned, self.limits.max_line_bytes)
    }

    /// Consumes the line that ends at `end`. Answers the value it holds, if it holds one whole.
    fn line(&mut self, buffer: &mut BytesMut, end: usize) -> Result<Option<Frame>, DecodeError> {
        self.reply.count_value()?;
        let (kind, text) = (buffer[0], &buffer[1..end]);
        let frame = match kind {
            b'$' | b'!' | b'=' => {
                let length = length(kind, text)?;
                buffer.advance(end + 2);
                match length {
                    Some(length) => return self.open_string(kind, length).map(|()| None),
                    None => return Ok(Some(Frame::Null)),
                }
            }
            b'*' | b'%' | b'~' | b'>' | b'|' => {
                let count = length(kind, text)?;
                buffer.advance(end + 2);
                match count {
                    Some(count) => return self.reply.open(kind, count),
                    None => return Ok(Some(Frame::Null)),
                }
            }
            b'+' | b'-' | b',' | b'(' => return self.text_line(buffer, end).map(Some),
            b':' => Frame::Integer(line::parse_integer(text).ok_or(DecodeError::BadInteger)?),
            b'_' if text.is_empty() => Frame::Null,
            b'#' if text == b"t" => Frame::Boolean(true),
            b'#' if text == b"f" => Frame::Boolean(false),
            b'_' | b'#' => return Err(DecodeError::BadValue(kind)),
            _ => return Err(DecodeError::UnknownType(kind)),
        };
        buffer.advance(end + 2);
        Ok(Some(frame))
    }

    /// A value that is the text of its line.
    fn text_line(&mut self, buffer: &mut BytesMut, end: usize) -> Result<Frame, DecodeError> {
        let (kind, text) = (buffer[0], &buffer[1..end]);
        let valid = match kind {
            b',' => line::is_double(text),
            b'(' => line::is_big_number(text),
            _ => true,
        };
        if !valid {
            return Err(DecodeError::BadValue(kind));
        }
        if !self.reply.admit(end - 1)? {
            buffer.advance(end + 2);
            return Ok(Frame::Null); // dropped when it is placed
        }
        buffer.advance(1);
        let text = buffer.split_to(end - 1).freeze();
        buffer.advance(2);
        Ok(match kind {
            b'+' => Frame::Simple(text),
            b'-' => Frame::Error(text),
            b',' => Frame::Double(text),
            _ => Frame::BigNumber(text),
        })
    }

    /// Decides whether the string that follows is kept.
    fn open_string(&mut self, kind: u8, length: u64) -> Result<(), DecodeError> {
        let kept = usize::try_from(length).ok().filter(|length| *length <= self.limits.max_bulk_bytes);
        self.step = match kept {
            Some(length) if self.reply.admit(length)? => {
                self.announced += length;
                Step::Keep { kind, length }
            }
            Some(_) => Step::Skip { left: length, announced: length },
            None => {
                self.reply.count_payload(length);
                Step::Skip { left: length, announced: length }
            }
        };
        Ok(())
    }

    /// The string of `length` bytes, split off once it and its CRLF are there.
    fn keep(&mut self, buffer: &mut BytesMut, length: usize) -> Result<Option<Bytes>, DecodeError> {
        let Some(end) = buffer.get(length..length + 2) else {
            self.wanted = length + 2 - buffer.len();
            return Ok(None);
        };
        if end != b"\r\n" {
            return Err(DecodeError::BadLineEnd);
        }
        let text = buffer.split_to(length).freeze();
        buffer.advance(2);
        self.wanted = 0;
        self.step = Step::Line;
        Ok(Some(text))
    }

    /// Drops what has arrived of a string that is not kept; true when its CRLF came too.
    fn skip(&mut self, buffer: &mut BytesMut, left: u64, announced: u64) -> Result<bool, DecodeError> {
        let here = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        buffer.advance(here);
        let left = left - here as u64;
        self.step = Step::Skip { left, announced };
        if left > 0 {
            return Ok(false);
        }
        let Some(end) = buffer.get(..2) else { return Ok(false) };
        if end != b"\r\n" {
            return Err(DecodeError::BadLineEnd);
        }
        buffer.advance(2);
        self.step = Step::Line;
        Ok(true)
    }
}

fn possible(limits: FrameLimits) -> FrameLimits {
    FrameLimits {
        max_depth: limits.max_depth.min(MAX_DEPTH),
        max_bulk_bytes: limits.max_bulk_bytes.min(usize::MAX / 2), // so that adding the CRLF cannot overflow
        ..limits
    }
}

/// The number of a length or count line; `None` is the null of RESP2, which only `$` and `*` have.
fn length(kind: u8, text: &[u8]) -> Result<Option<u64>, DecodeError> {
    match (kind, text) {
        (b'$' | b'*', b"-1") => Ok(None),
        (_, b"?") => Err(DecodeError::Streamed),
        _ => line::parse_length(text).map(Some).ok_or(DecodeError::BadLength),
    }
}

/// A kept string as the frame it is.
fn string(kind: u8, mut text: Bytes) -> Result<Frame, DecodeError> {
    match kind {
        b'$' => Ok(Frame::Bulk(text)),
        b'!' => Ok(Frame::Error(text)),
        _ => {
            let &[a, b, c, b':', ..] = &text[..] else { return Err(DecodeError::BadValue(kind)) };
            text.advance(4);
            Ok(Frame::Verbatim { format: [a, b, c], text })
        }
    }
}

/// Refuses a byte that starts no frame of ours.
fn check_kind(kind: u8) -> Result<(), DecodeError> {
    match kind {
        b'+' | b'-' | b':' | b'$' | b'*' | b'_' | b'#' | b',' | b'(' | b'!' | b'=' | b'%' | b'~' | b'>'
        | b'|' => Ok(()),
        b';' | b'.' => Err(DecodeError::Streamed),
        _ => Err(DecodeError::UnknownType(kind)),
    }
}

#[cfg(test)]
mod tests;
