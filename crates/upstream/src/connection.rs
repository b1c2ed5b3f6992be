//! One established connection: batches writes, decodes replies, matches them to tickets in wire order.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use resp::{Decoder, Frame, FrameLimits};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::driver::Greeted;
use crate::endpoint::Endpoint;
use crate::hello::sent_elsewhere;
use crate::node::Tenure;
use crate::queue::{Awaited, Shared};
use crate::sink::{Doubt, Loss, Sink};
use crate::stream::Duplex;

/// Room asked for before each read.
const READ_CHUNK: usize = 16 * 1024;
/// A read buffer that a big reply has grown beyond this is given back once it is empty.
const KEPT_BUFFER: usize = 256 * 1024;
/// Bytes read in one turn, after which others have theirs: who waits for a large value is to take it before the next ones
/// have come.
const TURN_BYTES: usize = 1024 * 1024;
/// A smaller reply is not announced.
const ANNOUNCED_LEAST: usize = 64 * 1024;
/// A line (status, error, number) above this is no Redis reply.
const MAX_LINE: usize = 64 * 1024;
/// Elements of one reply, all levels together, before it is passed over as one that is too large.
const MAX_ELEMENTS: usize = 1024 * 1024;
const MAX_DEPTH: usize = 32;
/// At least so often the clock is looked at: by limits that may be others than at the last look.
const LOOK: Duration = Duration::from_secs(1);

/// Limits of everything that Redis sends us.
pub(crate) fn decoder_limits(endpoint: &Endpoint) -> FrameLimits {
    frame_limits(endpoint.limits.max_reply_bytes())
}

fn frame_limits(max_reply_bytes: usize) -> FrameLimits {
    FrameLimits {
        max_bulk_bytes: max_reply_bytes,
        // A push must fit, whatever the limit of replies: it names a key that was read.
        max_frame_bytes: max_reply_bytes.max(2 * MAX_LINE),
        max_elements: MAX_ELEMENTS,
        max_depth: MAX_DEPTH,
        max_line_bytes: MAX_LINE,
    }
}

/// Whether a push confirms a subscription (<https://redis.io/docs/latest/develop/pubsub/>).
fn confirms(items: &[Frame]) -> bool {
    matches!(items.first(), Some(Frame::Bulk(kind)) if &kind[..] == b"ssubscribe")
}

/// The socket, its buffers and its clock. Dropping it closes the socket.
pub(crate) struct Connection<'a, S: Sink> {
    stream: Box<dyn Duplex>,
    /// As long as its node is there.
    tenure: Tenure,
    decoder: Decoder,
    /// By which it goes.
    max_reply_bytes: usize,
    /// What the sink has been told that the reply at hand takes.
    announced: usize,
    inbox: BytesMut,
    /// Bytes taken from the queue and not yet written.
    outbox: BytesMut,
    flushed: bool,
    /// Of the slots, the first ones: their commands have left the queue. No other can have a reply yet.
    on_the_wire: usize,
    shared: &'a Shared<S::Ticket>,
    sink: &'a S,
    endpoint: &'a Endpoint,
    last_byte: Instant,
    check: Pin<Box<Sleep>>,
    replies: u64,
    /// Whether this user may, as far as is known.
    may_ping: bool,
}

impl<'a, S: Sink> Connection<'a, S> {
    pub(crate) fn new(
        Greeted { stream, generation }: Greeted,
        shared: &'a Shared<S::Ticket>,
        sink: &'a S,
        endpoint: &'a Endpoint,
    ) -> Self {
        let (now, max_reply_bytes) = (Instant::now(), endpoint.limits.max_reply_bytes());
        Connection {
            stream,
            tenure: Tenure::new(&endpoint.node, generation),
            decoder: Decoder::new(frame_limits(max_reply_bytes)),
            max_reply_bytes,
            announced: 0,
            inbox: BytesMut::new(),
            outbox: BytesMut::new(),
            flushed: true,
            on_the_wire: 0,
            shared,
            sink,
            endpoint,
            last_byte: now,
            check: Box::pin(sleep_until(
                now + endpoint.limits.silence_timeout().min(endpoint.limits.ping_interval()).min(LOOK),
            )),
            replies: 0,
            may_ping: true,
        }
    }

    /// Serves until the connection is lost. Cancel-safe only in that dropping the future ends the connection.
    pub(crate) async fn serve(&mut self) -> Loss {
        std::future::poll_fn(|cx| self.poll_serve(cx)).await
    }

    /// Whether a command was ever answered: such a server deserves an immediate new attempt.
    pub(crate) fn was_useful(&self) -> bool {
        self.replies > 0
    }

    fn poll_serve(&mut self, cx: &mut Context<'_>) -> Poll<Loss> {
        if self.tenure.poll_over_by_its_task(cx).is_ready() {
            return Poll::Ready(Loss::Departed);
        }
        let mut bytes = 0;
        loop {
            // Reading comes first: bytes that lie here before a command leaves cannot be its answer.
            let read = self.poll_read(cx);
            match read {
                Poll::Ready(Err(loss)) => return Poll::Ready(loss),
                Poll::Ready(Ok(count)) => bytes += count,
                Poll::Pending => {}
            }
            if let Poll::Ready(Err(error)) = self.poll_write(cx) {
                return Poll::Ready(Loss::Closed(error.to_string().into()));
            }
            if read.is_pending() {
                match self.poll_check(cx) {
                    Poll::Ready(Some(loss)) => return Poll::Ready(loss),
                    // A heartbeat was queued: write it.
                    Poll::Ready(None) => {}
                    Poll::Pending => return Poll::Pending,
                }
            } else if bytes > TURN_BYTES {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// Writes all that was sent since the last turn, in one system call where the kernel takes it.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.outbox.is_empty() {
                let mut queue = self.shared.queue.lock();
                // Never a waker twice: a sender takes it, we leave it again when we have nothing to do.
                if queue.driver.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
                    queue.driver = Some(cx.waker().clone());
                }
                if queue.renew.is_some() {
                    return Poll::Ready(Err(io::Error::other("made anew")));
                }
                std::mem::swap(&mut self.outbox, &mut queue.out);
                self.on_the_wire = queue.slots.len();
            }
            if self.outbox.is_empty() {
                if !self.flushed {
                    ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
                    self.flushed = true;
                }
                return Poll::Ready(Ok(()));
            }
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.outbox))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.flushed = false;
            self.outbox.advance(written);
            if self.outbox.is_empty() && self.outbox.capacity() > KEPT_BUFFER {
                self.outbox = BytesMut::new();
            }
        }
    }

    /// One read and every whole reply in it; how many bytes it brought.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Loss>> {
        if self.inbox.is_empty() && self.inbox.capacity() > KEPT_BUFFER {
            self.inbox = BytesMut::new();
        }
        // The decoder's wish is capped: an announced length is a claim, not a reason to allocate.
        self.inbox.reserve(self.decoder.wanted().clamp(READ_CHUNK, KEPT_BUFFER));
        let read = ready!(pin!(self.stream.read_buf(&mut self.inbox)).poll(cx));
        let count = match read {
            Ok(0) => return Poll::Ready(Err(Loss::Closed("closed by redis".into()))),
            Ok(count) => count,
            Err(error) => return Poll::Ready(Err(Loss::Closed(error.to_string().into()))),
        };
        // What was asked since the node moved may have come here all the same, and is not to be answered by what is here.
        if self.tenure.is_over() {
            return Poll::Ready(Err(Loss::Departed));
        }
        self.last_byte = Instant::now();
        let max_reply_bytes = self.endpoint.limits.max_reply_bytes();
        if max_reply_bytes != self.max_reply_bytes {
            self.max_reply_bytes = max_reply_bytes;
            self.decoder.set_limits(frame_limits(max_reply_bytes));
        }
        // Whoever waits for several of these replies is woken once.
        Poll::Ready(sync::wakes::together(|| self.take_replies()).map(|()| count))
    }

    /// Every whole reply that is here.
    fn take_replies(&mut self) -> Result<(), Loss> {
        loop {
            match self.decoder.decode(&mut self.inbox) {
                Ok(Some(Frame::Push(items))) if confirms(&items) && self.awaits_confirmation() => {
                    self.deliver(Frame::Push(items))?;
                }
                Ok(Some(Frame::Push(items))) => self.sink.push(items),
                Ok(Some(frame)) => {
                    self.announced = 0;
                    self.deliver(frame)?;
                }
                Ok(None) => {
                    let more = self.decoder.announced().saturating_sub(self.announced);
                    if more >= ANNOUNCED_LEAST {
                        self.sink.announced(more);
                        self.announced += more;
                    }
                    return Ok(());
                }
                Err(error) => return Err(self.garbled(&error.to_string())),
            }
        }
    }

    fn deliver(&mut self, frame: Frame) -> Result<(), Loss> {
        if let Frame::Error(text) = &frame
            && self.endpoint.cluster.is_none()
            && let Some(why) = sent_elsewhere(text)
        {
            return Err(self.moved(why));
        }
        match self.pop() {
            Some(Awaited::Reply(ticket)) => {
                self.replies += 1;
                let answered = self.sink.reply(ticket, frame);
                answered.map_err(|Doubt(why)| Loss::Closed(why.into()))
            }
            Some(Awaited::Pong) => match frame {
                // To HELLO it says who it is.
                Frame::Map(_) | Frame::Array(_) if !self.may_ping => {
                    self.replies += 1;
                    Ok(())
                }
                // Also an error (LOADING, MASTERDOWN): not ready, but alive.
                Frame::Simple(_) | Frame::Error(_) => {
                    // Redis keeps a log of what a user may not.
                    self.may_ping &= !matches!(&frame, Frame::Error(text) if text.starts_with(b"NOPERM"));
                    self.replies += 1;
                    Ok(())
                }
                _ => Err(Loss::Closed("a reply to PING that is no PONG".into())),
            },
            Some(Awaited::Login) => {
                self.replies += 1;
                let error = match &frame {
                    Frame::Simple(_) => None,
                    Frame::Error(text) => Some(&text[..]),
                    _ => return Err(Loss::Closed("a reply to AUTH that is none".into())),
                };
                if let Some(reauth) = &self.endpoint.login.reauth {
                    reauth.answered(error);
                }
                Ok(())
            }
            Some(Awaited::Prelude(ticket) | Awaited::Confirmed(ticket)) => {
                let answered = self.sink.reply(ticket, frame);
                answered.map_err(|Doubt(why)| Loss::Closed(why.into()))
            }
            None => Err(Loss::Closed("a reply that nobody asked for".into())),
        }
    }

    /// The server is a node of a cluster: what it says is passed on to nobody.
    fn moved(&mut self, why: &str) -> Loss {
        self.shared.backend.note_moved();
        let loss = Loss::Unfit(why.into());
        if let Some(Awaited::Reply(ticket) | Awaited::Prelude(ticket) | Awaited::Confirmed(ticket)) =
            self.pop()
        {
            self.sink.lost(ticket, &loss);
        }
        loss
    }

    /// Whether the next reply is the confirmation of a subscription.
    fn awaits_confirmation(&self) -> bool {
        self.on_the_wire > 0
            && matches!(self.shared.queue.lock().slots.front(), Some(slot) if matches!(slot.awaited, Awaited::Confirmed(_)))
    }

    /// Whose reply is at hand.
    fn pop(&mut self) -> Option<Awaited<S::Ticket>> {
        self.on_the_wire = self.on_the_wire.checked_sub(1)?;
        self.shared.pop().map(|slot| slot.awaited)
    }

    /// The command whose reply cannot be read is lost for that reason; those behind it only lose their link.
    fn garbled(&mut self, why: &str) -> Loss {
        if let Some(Awaited::Reply(ticket) | Awaited::Prelude(ticket) | Awaited::Confirmed(ticket)) =
            self.pop()
        {
            self.sink.lost(ticket, &Loss::Garbled(why.into()));
        }
        Loss::Closed(format!("malformed reply: {why}").into())
    }

    /// Looks at the clock: `Some(loss)` when answers are overdue, `None` when a heartbeat was queued.
    fn poll_check(&mut self, cx: &mut Context<'_>) -> Poll<Option<Loss>> {
        loop {
            ready!(self.check.as_mut().poll(cx));
            let now = Instant::now();
            let due_since = self.shared.queue.lock().slots.front().map(|slot| slot.sent.max(self.last_byte));
            let silent_at = due_since.map(|since| since + self.endpoint.limits.silence_timeout());
            if silent_at.is_some_and(|at| at <= now) {
                return Poll::Ready(Some(Loss::Silent));
            }
            let ping = due_since.is_none() && now - self.last_byte >= self.endpoint.limits.ping_interval();
            if ping {
                self.shared.beat(self.may_ping);
            }
            // Never later than a silence time-out from now: a command sent meanwhile is checked in time.
            let next = silent_at
                .unwrap_or(now + self.endpoint.limits.ping_interval())
                .min(now + self.endpoint.limits.silence_timeout().min(LOOK));
            self.check.as_mut().reset(next);
            if ping {
                return Poll::Ready(None);
            }
        }
    }
}
