//! Bytes on their way to a client: small answers in one buffer, at most one large value behind it.

use std::ops::Range;

use crate::readthrough::Lent;

/// What of an output is to be written next.
pub(crate) enum Unwritten<'a> {
    Nothing,
    Bytes(&'a [u8]),
    /// In this order; some may be empty, but not all.
    Pieces([&'a [u8]; 3]),
}

/// What is assembled and not yet written. Bounded: nothing is added once it is full.
#[derive(Default)]
pub(crate) struct Output {
    /// Answers in order.
    pub(crate) bytes: Vec<u8>,
    written: usize,
    /// A value too large to copy, behind `bytes`; it is shared with the cache.
    tail: Option<Lent>,
    /// What of the value is to be written, from its start to its end.
    tail_part: Range<usize>,
    tail_written: usize,
    /// Whether a line end follows the value.
    tail_line: bool,
}

impl Output {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.tail.is_none()
    }

    /// Whether it must be written before another answer is added.
    pub(crate) fn is_full(&self, limit: usize) -> bool {
        self.tail.is_some() || self.bytes.len() >= limit
    }

    pub(crate) fn attach(&mut self, value: Lent) {
        self.tail_part = 0..value.value().len();
        self.tail = Some(value);
    }

    /// A part of a value; with `line` a line end follows it.
    pub(crate) fn attach_part(&mut self, value: Lent, part: Range<usize>, line: bool) {
        self.tail = Some(value);
        self.tail_part = part;
        self.tail_line = line;
    }

    /// Bytes of the answers in one buffer that are not written yet.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Bytes of the value behind them that are not written yet.
    pub(crate) fn unsent_value(&self) -> usize {
        self.tail_part.len().saturating_sub(self.tail_written)
    }

    /// What is to be written next. The caller tells by [`wrote`](Self::wrote) how much of it was.
    #[inline]
    pub(crate) fn unwritten(&self) -> Unwritten<'_> {
        let head = &self.bytes[self.written..];
        let Some(tail) = &self.tail else {
            return if head.is_empty() { Unwritten::Nothing } else { Unwritten::Bytes(head) };
        };
        let value = tail.value().get(self.tail_part.clone()).unwrap_or_default();
        let line: &[u8] = if self.tail_line { b"\r\n" } else { b"" };
        let rest = &value[self.tail_written.min(value.len())..];
        let line = &line[self.tail_written.saturating_sub(value.len())..];
        match head.is_empty() && rest.is_empty() && line.is_empty() {
            true => Unwritten::Nothing,
            false => Unwritten::Pieces([head, rest, line]),
        }
    }

    /// So many bytes of what was unwritten are with the kernel. Whether that is all of it; then the output is empty.
    #[inline]
    pub(crate) fn wrote(&mut self, count: usize) -> bool {
        let of_head = count.min(self.bytes.len() - self.written);
        self.written += of_head;
        let is_head_written = self.written == self.bytes.len();
        if self.tail.is_some() {
            return self.wrote_of_value(count - of_head, is_head_written);
        }
        if is_head_written {
            self.bytes.clear();
            self.written = 0;
        }
        is_head_written
    }

    fn wrote_of_value(&mut self, count: usize, is_head_written: bool) -> bool {
        self.tail_written += count;
        let line = if self.tail_line { 2 } else { 0 };
        let is_all = is_head_written && self.tail_written == self.tail_part.len() + line;
        if is_all {
            self.reset();
        }
        is_all
    }

    fn reset(&mut self) {
        self.bytes.clear();
        self.written = 0;
        self.tail = None;
        self.tail_part = 0..0;
        self.tail_written = 0;
        self.tail_line = false;
    }
}
