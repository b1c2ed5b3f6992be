//! Bytes on their way to a client: small answers in one buffer, at most one large value behind it.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use super::stream::Stream;
use crate::readthrough::Lent;

/// What is assembled and not yet written. Bounded: nothing is added once it is full.
#[derive(Default)]
pub(in crate::front) struct Output {
    /// Answers in order.
    pub(in crate::front) bytes: Vec<u8>,
    written: usize,
    /// A value too large to copy, behind `bytes`; it is shared with the cache.
    tail: Option<Lent>,
    /// What of the value is to be written, from its start to its end.
    tail_part: Range<usize>,
    tail_written: usize,
    /// Whether a line end follows the value.
    tail_line: bool,
    /// Whether the last call wrote anything: a client that reads slowly is not one that stopped.
    pub(super) moved: bool,
}

impl Output {
    pub(in crate::front) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.tail.is_none()
    }

    /// Whether it must be written before another answer is added.
    pub(in crate::front) fn is_full(&self, limit: usize) -> bool {
        self.tail.is_some() || self.bytes.len() >= limit
    }

    pub(in crate::front) fn attach(&mut self, value: Lent) {
        self.tail_part = 0..value.value().len();
        self.tail = Some(value);
    }

    /// A part of a value; with `line` a line end follows it.
    pub(in crate::front) fn attach_part(&mut self, value: Lent, part: Range<usize>, line: bool) {
        self.tail = Some(value);
        self.tail_part = part;
        self.tail_line = line;
    }

    /// Bytes of the answers in one buffer that are not written yet.
    pub(in crate::front) fn unsent_bytes(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Bytes of the value behind them that are not written yet.
    pub(in crate::front) fn unsent_value(&self) -> usize {
        self.tail_part.len().saturating_sub(self.tail_written)
    }

    /// Writes all of it, in one system call where the kernel takes it.
    pub(super) fn poll_write(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.moved = false;
        loop {
            let head = &self.bytes[self.written..];
            let stream = Pin::new(&mut *stream);
            let polled = match &self.tail {
                None if head.is_empty() => {
                    self.reset();
                    return Poll::Ready(Ok(()));
                }
                None => stream.poll_write(cx, head),
                Some(tail) => {
                    let value = tail.value().get(self.tail_part.clone()).unwrap_or_default();
                    let line: &[u8] = if self.tail_line { b"\r\n" } else { b"" };
                    let rest = &value[self.tail_written.min(value.len())..];
                    let line = &line[self.tail_written.saturating_sub(value.len())..];
                    if head.is_empty() && rest.is_empty() && line.is_empty() {
                        self.reset();
                        return Poll::Ready(Ok(()));
                    }
                    let slices = [IoSlice::new(head), IoSlice::new(rest), IoSlice::new(line)];
                    stream.poll_write_vectored(cx, &slices)
                }
            };
            let count = ready!(polled)?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.moved = true;
            let of_head = count.min(self.bytes.len() - self.written);
            self.written += of_head;
            self.tail_written += count - of_head;
        }
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
