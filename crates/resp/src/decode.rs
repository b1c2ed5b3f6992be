//! Bytes to frames, as they arrive.
//!
//! The decoder is a loop over [`Step`]s with the open aggregates on a stack of its own: no recursion, so depth is a
//! number to compare and not a thread's stack to lose. A step consumes its bytes from the front of the buffer when all
//! of them are there and leaves the buffer alone when not; consumed bytes are never looked at again.
//!
//! Memory held for one reply, whatever it announces: the kept payload (`max_frame_bytes`), about twice
//! `size_of::<Frame>()` for each value that arrived (`max_elements`), and in the caller's buffer at most one string of
//! `max_bulk_bytes` or one line. Since payloads are slices, the read buffers they lie in live as long as they do.

use bytes::{Buf, Bytes, BytesMut};

use crate::{DecodeError, Frame, line};

/// The largest `max_depth` that is honoured: dropping, comparing and printing a frame recurse, and must fit a thread's
/// stack. Redis' own replies are less than ten deep.
pub const MAX_DEPTH: usize = 512;

/// What a peer may make us hold.
///
/// Three limits are skipped over (`max_bulk_bytes`, `max_frame_bytes` of a reply): the value is dropped as it arrives
/// and [`Frame::Oversized`] stands in its place. The others end the connection, see [`DecodeError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest string (`$`, `!`, `=`) that is kept. Redis' own limit, `proto-max-bulk-len`, is 512 MiB.
    pub max_bulk_bytes: usize,
    /// Most values in one reply: all levels, aggregates and attributes included.
    pub max_elements: usize,
    /// Most aggregates inside each other; 0 allows none, values above [`MAX_DEPTH`] count as that.
    pub max_depth: usize,
    /// Longest line, without its type byte and CRLF.
    pub max_line_bytes: usize,
    /// Most payload that is kept of one reply: the texts of its strings, simple strings, errors and numbers as text.
    pub max_frame_bytes: usize,
}

/// Turns a stream of replies and pushes, of either protocol version, into frames.
///
/// Belongs to one connection and one buffer. After an error it is poisoned: it answers the same error for ever.
///
/// ```
/// use bytes::{Bytes, BytesMut};
/// use resp::{Decoder, Frame, Limits};
///
/// let limits = Limits {
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
    limits: Limits,
    step: Step,
    /// Bytes at the front of the buffer known to hold no line end.
    scanned: usize,
    /// Bytes the string being read still lacks.
    wanted: usize,
    /// The aggregates being read, outermost first.
    open: Vec<Open>,
    /// Of `open`, how many are attributes: within one, nothing is kept.
    open_attributes: usize,
    /// Values of this reply so far.
    elements: usize,
    /// Payload kept of this reply.
    kept: usize,
    /// Payload of this reply, kept or not.
    payload: u64,
    /// This reply went over `max_frame_bytes`: nothing of it is kept any more.
    over: bool,
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

/// An aggregate whose values are still arriving.
#[derive(Debug)]
struct Open {
    kind: u8,
    /// Values still to come; a pair is two.
    left: u64,
    items: Items,
}

#[derive(Debug)]
enum Items {
    List(Vec<Frame>),
    Pairs {
        pairs: Vec<(Frame, Frame)>,
        key: Option<Frame>,
    },
    /// An attribute's, or those of a reply over its limit.
    Dropped,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new(limits: Limits) -> Self {
        let limits = Limits {
            max_depth: limits.max_depth.min(MAX_DEPTH),
            max_bulk_bytes: limits.max_bulk_bytes.min(usize::MAX / 2), // so that adding the CRLF cannot overflow
            ..limits
        };
        Self {
            limits,
            step: Step::Line,
            scanned: 0,
            wanted: 0,
            open: Vec::new(),
            open_attributes: 0,
            elements: 0,
            kept: 0,
            payload: 0,
            over: false,
            failed: None,
        }
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
        self.advance(buffer).inspect_err(|error| {
            self.failed = Some(*error);
            self.open = Vec::new();
            self.wanted = 0;
        })
    }

    /// Bytes missing of the string being read, with its CRLF; 0 when unknown.
    ///
    /// A hint for how much to reserve, as true as the peer is: cap it, at most a buffer's growth per read.
    pub fn wanted(&self) -> usize {
        self.wanted
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
            if let Some(frame) = value.and_then(|frame| self.place(frame)) {
                return Ok(Some(self.finish(frame)));
            }
        }
    }

    fn line_end(&mut self, buffer: &BytesMut) -> Result<Option<usize>, DecodeError> {
        let found = line::find_end(buffer, &mut self.scanned)?;
        if found.unwrap_or(self.scanned) > self.limits.max_line_bytes.saturating_add(1) {
            return Err(DecodeError::LineTooLong { limit: self.limits.max_line_bytes });
        }
        if let (None, Some(&kind)) = (found, buffer.first()) {
            check_kind(kind)?; // a peer that is not Redis may never send a line end
        }
        Ok(found)
    }

    /// Consumes the line that ends at `end`. Answers the value it holds, if it holds one whole.
    fn line(&mut self, buffer: &mut BytesMut, end: usize) -> Result<Option<Frame>, DecodeError> {
        self.elements += 1;
        if self.elements > self.limits.max_elements {
            return Err(self.too_many());
        }
        let Some((&kind, text)) = buffer[..end].split_first() else {
            return Err(DecodeError::UnknownType(b'\r'));
        };
        let frame = match kind {
            b'$' | b'!' | b'=' => {
                let length = length(kind, text)?;
                buffer.advance(end + 2);
                match length {
                    Some(length) => return self.string_header(kind, length).map(|()| None),
                    None => return Ok(Some(Frame::Null)),
                }
            }
            b'*' | b'%' | b'~' | b'>' | b'|' => {
                let count = length(kind, text)?;
                buffer.advance(end + 2);
                match count {
                    Some(count) => return self.aggregate_header(kind, count),
                    None => return Ok(Some(Frame::Null)),
                }
            }
            b'+' | b'-' | b',' | b'(' => return self.text_line(buffer, end).map(Some),
            b':' => Frame::Integer(line::parse_integer(text).ok_or(DecodeError::BadInteger)?),
            b'_' if text.is_empty() => Frame::Null,
            b'#' if text == b"t" => Frame::Boolean(true),
            b'#' if text == b"f" => Frame::Boolean(false),
            b'_' | b'#' => return Err(DecodeError::BadValue(kind)),
            _ => return Err(check_kind(kind).err().unwrap_or(DecodeError::UnknownType(kind))),
        };
        buffer.advance(end + 2);
        Ok(Some(frame))
    }

    /// A value that is the text of its line.
    fn text_line(&mut self, buffer: &mut BytesMut, end: usize) -> Result<Frame, DecodeError> {
        let kind = buffer[0];
        let text = &buffer[1..end];
        let valid = match kind {
            b',' => line::is_double(text),
            b'(' => line::is_big_number(text),
            _ => true,
        };
        if !valid {
            return Err(DecodeError::BadValue(kind));
        }
        if !self.admit(end as u64 - 1)? {
            buffer.advance(end + 2);
            return Ok(Frame::Null); // `place` drops it
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

    fn string_header(&mut self, kind: u8, length: u64) -> Result<(), DecodeError> {
        let skip = Step::Skip { left: length, announced: length };
        self.step = match usize::try_from(length) {
            Ok(length) if length <= self.limits.max_bulk_bytes => {
                if self.admit(length as u64)? {
                    Step::Keep { kind, length }
                } else {
                    skip
                }
            }
            _ => {
                self.count_payload(length);
                skip
            }
        };
        Ok(())
    }

    fn aggregate_header(&mut self, kind: u8, count: u64) -> Result<Option<Frame>, DecodeError> {
        if self.open.len() >= self.limits.max_depth {
            return Err(DecodeError::TooDeep { limit: self.limits.max_depth });
        }
        let left = if matches!(kind, b'%' | b'|') { count.saturating_mul(2) } else { count };
        if left > (self.limits.max_elements - self.elements) as u64 {
            return Err(self.too_many());
        }
        let items = match kind {
            b'|' => Items::Dropped,
            _ if !self.keeping() => Items::Dropped,
            b'%' => Items::Pairs { pairs: Vec::new(), key: None },
            _ => Items::List(Vec::new()),
        };
        let open = Open { kind, left, items };
        if left == 0 {
            return Ok(open.close());
        }
        self.open_attributes += usize::from(kind == b'|');
        self.open.push(open);
        Ok(None)
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

    /// Puts a whole value where it belongs and closes the aggregates it completes. Answers the frame when nothing is
    /// left open.
    fn place(&mut self, mut frame: Frame) -> Option<Frame> {
        while let Some(top) = self.open.last_mut() {
            top.items.push(frame);
            top.left -= 1;
            if top.left > 0 {
                return None;
            }
            let whole = self.open.pop()?;
            self.open_attributes -= usize::from(whole.kind == b'|');
            frame = whole.close()?;
        }
        Some(frame)
    }

    /// Makes ready for the next reply.
    fn finish(&mut self, frame: Frame) -> Frame {
        let frame = if self.over { Frame::Oversized { announced: self.payload } } else { frame };
        self.elements = 0;
        self.kept = 0;
        self.payload = 0;
        self.over = false;
        frame
    }

    /// Whether `length` more bytes of payload may be kept. When they are too many, lets go of the whole reply.
    fn admit(&mut self, length: u64) -> Result<bool, DecodeError> {
        self.count_payload(length);
        if !self.keeping() {
            return Ok(false);
        }
        let room = self.limits.max_frame_bytes - self.kept;
        match usize::try_from(length) {
            Ok(length) if length <= room => self.kept += length,
            _ => self.let_go()?,
        }
        Ok(!self.over)
    }

    fn let_go(&mut self) -> Result<(), DecodeError> {
        if self.open.iter().any(|open| open.kind == b'>') {
            return Err(DecodeError::PushTooLarge { limit: self.limits.max_frame_bytes });
        }
        self.over = true;
        for open in &mut self.open {
            open.items = Items::Dropped;
        }
        Ok(())
    }

    fn keeping(&self) -> bool {
        !self.over && self.open_attributes == 0
    }

    fn count_payload(&mut self, length: u64) {
        if self.open_attributes == 0 {
            self.payload = self.payload.saturating_add(length);
        }
    }

    fn too_many(&self) -> DecodeError {
        DecodeError::TooManyElements { limit: self.limits.max_elements }
    }
}

impl Items {
    fn push(&mut self, frame: Frame) {
        match self {
            Self::List(items) => items.push(frame),
            Self::Pairs { pairs, key } => match key.take() {
                Some(key) => pairs.push((key, frame)),
                None => *key = Some(frame),
            },
            Self::Dropped => {}
        }
    }
}

impl Open {
    /// The frame that this aggregate became; an attribute becomes none.
    fn close(self) -> Option<Frame> {
        match self.items {
            _ if self.kind == b'|' => None,
            Items::List(items) if self.kind == b'~' => Some(Frame::Set(items)),
            Items::List(items) if self.kind == b'>' => Some(Frame::Push(items)),
            Items::List(items) => Some(Frame::Array(items)),
            Items::Pairs { pairs, .. } => Some(Frame::Map(pairs)),
            Items::Dropped => Some(Frame::Null),
        }
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

fn check_kind(kind: u8) -> Result<(), DecodeError> {
    match kind {
        b'+' | b'-' | b':' | b'$' | b'*' | b'_' | b'#' | b',' | b'(' | b'!' | b'=' | b'%' | b'~' | b'>'
        | b'|' => Ok(()),
        b';' | b'.' => Err(DecodeError::Streamed),
        _ => Err(DecodeError::UnknownType(kind)),
    }
}
