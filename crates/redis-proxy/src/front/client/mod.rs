//! One client of either front: read, take up requests, write answers, one write a batch.
//!
//! The whole loop runs inside one poll of the client's task: a hit leaves no task and waits for nothing. Buffers for
//! reading and writing are the worker's, lent for that poll; a client owns bytes only while it has sent half a request
//! or does not take an answer, so that an idle one costs next to nothing. While an answer cannot be written, nothing is
//! read.
//!
//! What requests mean is the front's: a [`Dialect`]. How long a client is waited for stands in [`clocks`].

mod blocked;
mod clocks;
mod dialect;
mod drain;
mod linger;
mod stream;
mod tls_stream;
mod write;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use sync::wakes::together;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::futures::OwnedNotified;

pub(super) use self::dialect::{Dialect, Ending, Input, Next};
pub(super) use self::drain::Drain;
pub(super) use self::linger::{PATIENCE, linger};
pub(super) use self::stream::Stream;
pub(super) use self::tls_stream::{Ready, TlsStream};

use self::blocked::Blocked;
use self::write::write_all;
use crate::clock::now_ns;
use crate::timer::Timer;

/// A client, with the one type that owns its connection.
pub(super) struct Client<D> {
    /// Closed before the dialect goes, which tells others that this client is gone.
    stream: Stream,
    input: Input,
    blocked: Blocked,
    timer: Option<Timer>,
    /// Once its task runs: what wakes that at the end of the program.
    drain: Option<Pin<Box<OwnedNotified>>>,
    dialect: D,
}

impl<D: Dialect> Client<D> {
    pub(super) fn new(stream: Stream, dialect: D) -> Self {
        Client {
            stream,
            input: Input::default(),
            blocked: Blocked::default(),
            timer: None,
            drain: None,
            dialect,
        }
    }

    /// Serves it until either side ends it. The caller says goodbye, or drops it.
    pub(super) fn serve(&mut self) -> impl Future<Output = Ending> {
        poll_fn(|cx| self.poll(cx))
    }

    pub(super) fn dialect(&self) -> &D {
        &self.dialect
    }

    /// Sees it off: see [`linger`].
    pub(super) fn linger(&mut self) -> Pin<Box<impl Future<Output = ()>>> {
        // On the heap: an idle client does not carry the room for its end.
        Box::pin(linger(&mut self.stream))
    }

    /// What is left of it once all that it was asked is answered.
    pub(super) fn into_stream(self) -> Stream {
        self.stream
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        if self.drain.is_none() {
            self.start(cx);
        }
        if self.dialect.output().is_empty() {
            self.dialect.output().bytes = self.dialect.buffers().take_output();
        }
        let polled = self.turn(cx);
        if self.dialect.output().is_empty() {
            let bytes = std::mem::take(&mut self.dialect.output().bytes);
            self.dialect.buffers().give_output(bytes);
        }
        if polled == Poll::Ready(Ending::Stuck) {
            self.stream.forsake();
        }
        polled
    }

    /// Has this task woken for what comes once; flags are what is read then.
    #[cold]
    fn start(&mut self, cx: &mut Context<'_>) {
        let mut drain = self.dialect.drain().told();
        let _ = drain.as_mut().poll(cx);
        self.drain = Some(drain);
        self.dialect.start(cx);
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        loop {
            if let Some(end) = self.dialect.collect() {
                return Poll::Ready(end);
            }
            if !self.dialect.output().is_empty() {
                match self.write(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(end)) => return Poll::Ready(end),
                    Poll::Pending => return self.poll_timer(cx),
                }
            }
            let moved = match self.dialect.poll_answers(&mut self.input, cx) {
                Ok(moved) => moved,
                Err(end) => return Poll::Ready(end),
            };
            if moved | self.take_kept_requests(cx) {
                continue;
            }
            match self.dialect.next(&mut self.input) {
                Next::Again => {}
                Next::Read => match self.read(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(end)) => return Poll::Ready(end),
                    Poll::Pending => return self.poll_timer(cx),
                },
                Next::Wait => return self.poll_timer(cx),
                Next::End(end) => return Poll::Ready(end),
            }
        }
    }

    /// Writes the output, all of it once that is ready.
    fn write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ending>> {
        if self.dialect.is_last_output() {
            // Whoever has read the one sees the other.
            self.stream.cork();
        }
        let (outcome, moved) = write_all(self.dialect.output(), &mut self.stream, cx);
        match outcome {
            Poll::Ready(Ok(())) => {
                self.dialect.written(self.blocked.ended());
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(Ending::Gone)),
            Poll::Pending => {
                self.blocked.stopped(moved, self.dialect.write_timeout_ns());
                match self.dialect.held_up(self.stream.encrypted_bytes(), cx) {
                    Some(end) => Poll::Ready(Err(end)),
                    None => Poll::Pending,
                }
            }
        }
    }

    /// One read, and all requests in it.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ending>> {
        let mut room = self.dialect.buffers().take_input();
        let mut buffer = ReadBuf::new(&mut room);
        let polled = Pin::new(&mut self.stream).poll_read(cx, &mut buffer);
        let count = buffer.filled().len();
        let outcome = match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(_)) => Poll::Ready(Err(Ending::Gone)),
            Poll::Ready(Ok(())) => {
                // After the read that returned a request's last byte: its age counts from here.
                self.dialect.arrived(now_ns());
                self.input.is_last = count == 0;
                self.take_requests(&room[..count], cx);
                Poll::Ready(Ok(()))
            }
        };
        self.dialect.buffers().give_input(room);
        outcome
    }

    /// Requests in bytes that have just come, behind those that were kept. What is not used is kept.
    fn take_requests(&mut self, bytes: &[u8], cx: &mut Context<'_>) {
        if self.input.bytes.is_empty() {
            // What several of them are fetched by is woken once.
            let used = together(|| self.dialect.requests(bytes, cx));
            self.input.bytes.extend_from_slice(&bytes[used..]);
        } else {
            self.input.bytes.extend_from_slice(bytes);
            self.take_kept_requests(cx);
        }
    }

    /// Requests in the bytes that were kept. Whether any byte was used, or no more will be.
    fn take_kept_requests(&mut self, cx: &mut Context<'_>) -> bool {
        if self.input.bytes.is_empty() || !self.dialect.takes_requests() {
            return false;
        }
        let mut bytes = std::mem::take(&mut self.input.bytes);
        let used = together(|| self.dialect.requests(&bytes, cx));
        if used < bytes.len() {
            bytes.drain(..used);
            self.input.bytes = bytes;
        }
        used > 0 || !self.dialect.takes_requests()
    }
}
