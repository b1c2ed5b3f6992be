//! The reply being put together: its open aggregates on a stack, and what it has used of the limits.

use crate::{DecodeError, Frame, FrameLimits, MAX_DEPTH};

/// Most values that an aggregate may announce. No server holds as many; below it no sum of them overflows.
const MAX_ANNOUNCED: u64 = 1 << 40;
/// A reply above `max_depth` is dropped; one above this, which no server sends, is refused. The deepest that Redis' scripts can
/// make have fewer levels than Lua's stack has slots, 8,000 (Redis 7.0, `deps/lua/src/luaconf.h`, LUAI_MAXCSTACK).
const DEEPEST: usize = 8_192;

/// One reply or push on its way from the first value to the last.
#[derive(Debug)]
pub(crate) struct PartialReply {
    limits: FrameLimits,
    /// The aggregates whose values are still arriving, outermost first.
    open: Vec<Open>,
    /// Of `open`, how many are attributes: within one, nothing is kept.
    open_attributes: usize,
    /// Values so far.
    elements: usize,
    /// Payload kept so far.
    kept: usize,
    /// Payload so far, kept or not, without that of attributes.
    payload: u64,
    /// It went over a limit: nothing of it is kept any more.
    over: bool,
    /// It has a push in it. No push is ever dropped: an invalidation not read is an invalidation lost.
    has_push: bool,
}

/// An aggregate whose values are still arriving.
#[derive(Debug)]
struct Open {
    kind: u8,
    /// Values still to come, never 0; a pair is two.
    left: u64,
    items: Items,
}

#[derive(Debug)]
enum Items {
    List(Vec<Frame>),
    Pairs(Vec<(Frame, Frame)>, Option<Frame>),
    /// An attribute's, or those of a reply over its limit.
    Dropped,
}

impl PartialReply {
    pub(crate) fn new(limits: FrameLimits) -> Self {
        Self {
            limits,
            open: Vec::new(),
            open_attributes: 0,
            elements: 0,
            kept: 0,
            payload: 0,
            over: false,
            has_push: false,
        }
    }

    pub(crate) fn set_limits(&mut self, limits: FrameLimits) {
        self.limits = limits;
    }

    /// Counts one more value, of any type.
    pub(crate) fn count_value(&mut self) -> Result<(), DecodeError> {
        self.elements = self.elements.saturating_add(1);
        if self.elements > self.limits.max_elements { self.drop_all(self.too_many()) } else { Ok(()) }
    }

    /// Whether `length` more bytes of payload may be kept. The ones that are one too many drop the whole reply.
    pub(crate) fn admit(&mut self, length: usize) -> Result<bool, DecodeError> {
        self.count_payload(length as u64);
        if !self.keeping() {
            return Ok(false);
        }
        if length <= self.limits.max_frame_bytes.saturating_sub(self.kept) {
            self.kept += length;
            return Ok(true);
        }
        self.drop_all(self.push_too_large())?;
        Ok(false)
    }

    /// Lets go of the whole reply, whose values are passed over from here on; `refusal` if it must not be dropped.
    fn drop_all(&mut self, refusal: DecodeError) -> Result<(), DecodeError> {
        if self.has_push {
            return Err(refusal);
        }
        if !self.over {
            self.over = true;
            for open in &mut self.open {
                open.items = Items::Dropped;
            }
        }
        Ok(())
    }

    /// Counts payload that is dropped whatever the reply has kept so far.
    pub(crate) fn count_payload(&mut self, length: u64) {
        if self.open_attributes == 0 {
            self.payload = self.payload.saturating_add(length);
        }
    }

    /// Opens an aggregate of `count` values or pairs. Answers it at once if it is empty.
    pub(crate) fn open(&mut self, kind: u8, count: u64) -> Result<Option<Frame>, DecodeError> {
        let left = if matches!(kind, b'%' | b'|') { count.saturating_mul(2) } else { count };
        if left > MAX_ANNOUNCED {
            return Err(DecodeError::TooManyElements { limit: usize::MAX });
        }
        if kind == b'>' {
            if !self.keeping() {
                return Err(self.push_too_large());
            }
            self.has_push = true;
        }
        if self.open.len() >= self.limits.max_depth {
            let too_deep = DecodeError::TooDeep { limit: self.limits.max_depth };
            if self.open.len() >= DEEPEST {
                return Err(too_deep);
            }
            self.drop_all(too_deep)?;
        }
        if left > self.limits.max_elements.saturating_sub(self.elements) as u64 {
            self.drop_all(self.too_many())?;
        }
        let items = match kind {
            b'|' => Items::Dropped,
            _ if !self.keeping() => Items::Dropped,
            b'%' => Items::Pairs(Vec::new(), None),
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

    /// Puts a whole value where it belongs and closes the aggregates it completes. Answers the reply once it is whole,
    /// and is then ready for the next.
    pub(crate) fn place(&mut self, frame: Frame) -> Option<Frame> {
        if self.open.is_empty() {
            return Some(self.finish(frame)); // the common case, spared a move
        }
        let frame = self.nest(frame)?;
        Some(self.finish(frame))
    }

    /// Lets go of what was read so far: the stream is broken.
    pub(crate) fn abandon(&mut self) {
        self.open = Vec::new();
    }

    fn nest(&mut self, mut frame: Frame) -> Option<Frame> {
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

    fn finish(&mut self, frame: Frame) -> Frame {
        let frame = if self.over { Frame::Oversized { announced: self.payload } } else { frame };
        self.elements = 0;
        self.kept = 0;
        self.payload = 0;
        self.over = false;
        self.has_push = false;
        if self.open.capacity() > MAX_DEPTH {
            self.open = Vec::new();
        }
        frame
    }

    fn keeping(&self) -> bool {
        !self.over && self.open_attributes == 0
    }

    fn push_too_large(&self) -> DecodeError {
        DecodeError::PushTooLarge { limit: self.limits.max_frame_bytes }
    }

    fn too_many(&self) -> DecodeError {
        DecodeError::TooManyElements { limit: self.limits.max_elements }
    }
}

impl Items {
    fn push(&mut self, frame: Frame) {
        match self {
            Self::List(items) => items.push(frame),
            Self::Pairs(pairs, key) => match key.take() {
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
        match (self.kind, self.items) {
            (b'|', _) => None,
            (b'~', Items::List(items)) => Some(Frame::Set(items)),
            (b'>', Items::List(items)) => Some(Frame::Push(items)),
            (_, Items::List(items)) => Some(Frame::Array(items)),
            (_, Items::Pairs(pairs, _)) => Some(Frame::Map(pairs)),
            (_, Items::Dropped) => Some(Frame::Null), // stands for what is dropped in its turn
        }
    }
}
