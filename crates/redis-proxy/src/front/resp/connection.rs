//! One RESP client: read, parse, send on its way, collect, one write a batch.
//!
//! The twin of the HTTP loop: everything happens inside one poll of the connection's task, buffers are the worker's, lent
//! for that poll, and a connection owns bytes only while it holds half a request or a blocked answer.
//!
//! **Order.** Replies leave in the order of the commands because all commands that are on their way at one time are on one
//! connection to Redis. A command that goes another way waits until those before it are answered (`false` from
//! [`Connection::command`]): it stays in the input and is parsed again. So there is no queue of replies.
//!
//! **Room.** While an answer cannot be written, nothing is taken up; `window` bounds the commands on their way, and falls
//! to one after a large reply, because replies of a shared lane that the client does not read are memory.

mod admission;
mod busy;
mod commands;
mod deadline;
mod parts;
mod pins;
mod proving;
mod reads;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use resp::{Parsed, RequestError, RequestParser};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::futures::OwnedNotified;
use tokio::task::spawn_local;
use tracing::info;

pub(super) use self::busy::{Busy, Heard, Hello, Login, Stay};
use self::commands::Monitored;
use self::reads::Pending;
use super::RespFront;
use super::changes::Seen;
use super::pinned::Pinned;
use super::registry::{Entry, Registry};
use super::rights::Known;
use super::session::{ReplyMode, Session};
use super::tracking::Target;
use crate::clock::now_ns;
use crate::front::blocked::Blocked;
use crate::front::linger::linger;
use crate::front::output::Output;
use crate::front::seen::SeenKeys;
use crate::lanes::{Identity, KeptOut, LARGE_REPLY, LaneHandle, LaneKey, Mailbox, MailboxState, Pace};
use crate::readthrough::ReadThrough;
pub(super) use crate::session::words::{client_name, is, number};
use crate::timer::Timer;

/// Where a connection starts: the size of its replies is not known yet.
const FIRST_WINDOW: usize = 32;
/// Clients of a worker that are waited for although they have no place any more.
const FAREWELLS: usize = 64;
/// Bytes that are read ahead of the command at hand.
const READ_AHEAD: usize = 64 * 1024;

/// Serves one client until either side ends it.
pub(crate) async fn serve(stream: TcpStream, front: Rc<RespFront>) {
    let (Ok(address), Ok(local_address)) = (stream.peer_addr(), stream.local_addr()) else {
        return;
    };
    let entry = front.registry.enter(address, local_address, front.settings.user.clone());
    let is_admin = front.settings.admin.allows(address.ip());
    let mut connection = Connection::new(stream, front, entry, is_admin);
    match poll_fn(|cx| connection.poll(cx)).await {
        End::Gone => {}
        End::Answered => {
            let front = connection.front.clone();
            front.registry.leave(&connection.session.entry);
            let farewell = Box::pin(async move { linger(&mut connection.stream).await });
            // Its place is free, as it would be in Redis.
            match front.farewells.get() < FAREWELLS && front.drain.since_ns().is_none() {
                true => {
                    front.farewells.set(front.farewells.get() + 1);
                    spawn_local(async move {
                        farewell.await;
                        front.farewells.set(front.farewells.get() - 1);
                    });
                }
                false => farewell.await,
            }
        }
        End::Stuck => drop(socket2::SockRef::from(&connection.stream).set_linger(Some(Duration::ZERO))),
    }
}

/// How a connection ends.
enum End {
    /// The client has left, was killed, or cannot be told anything true.
    Gone,
    /// After a reply that is the last.
    Answered,
    /// The client does not read.
    Stuck,
}

pub(super) struct Connection {
    stream: TcpStream,
    front: Rc<RespFront>,
    parser: RequestParser,
    /// Bytes read and not yet used: half a request, or requests that must wait.
    input: Vec<u8>,
    output: Output,
    mailbox: Rc<Mailbox>,
    session: Session,
    /// The shared lanes of the session's key, once used.
    lanes: [Option<LaneHandle>; 2],
    /// Which of them the commands on their way are on.
    pace: Pace,
    pinned: Option<Box<Pinned>>,
    /// Whether it may empty the cache.
    is_admin: bool,
    /// Something that the next command waits for.
    busy: Option<Box<Busy>>,
    /// Why the client is not let in, for the command at hand.
    kept_out: Option<KeptOut>,
    /// The client that the command at hand names has a connection, for now.
    target: Option<Target>,
    /// Why the client gets no pin for the command at hand.
    refused: Option<Bytes>,
    /// Why the transaction that it has begun will not be.
    doomed: Option<Bytes>,
    /// Where its requests stopped making sense: told once all before is answered.
    broken: Option<RequestError>,
    /// What is cached for the session's key, once asked for; when it was found that nothing is.
    reader: Option<Result<Rc<ReadThrough>, u64>>,
    /// What is known of its user's rights, once asked for.
    rights: Option<Rc<Known>>,
    /// When it was last asked for, the round of [`Recall`](super::recall::Recall) that was seen, and what wakes for the next.
    read_ns: u64,
    round: u64,
    recalled: Option<Pin<Box<OwnedNotified>>>,
    /// Reads that wait; nothing is on a lane meanwhile, but the first of them.
    reads: VecDeque<Pending>,
    /// Whether Redis has sent the value that is being written for this client, so that it counts as unread.
    tail_is_fetched: bool,
    seen: Seen,
    seen_keys: SeenKeys,
    window: usize,
    /// No more requests are taken; the connection ends when all is answered.
    closing: bool,
    /// The client has shut its side.
    eof: bool,
    /// When its bytes were last read.
    turn_ns: u64,
    /// When it last sent something, or was given what it waited for.
    active_ns: u64,
    was_owed: bool,
    blocked: Blocked,
    timer: Option<Timer>,
    drain: Pin<Box<OwnedNotified>>,
    polled: bool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Whoever has killed it is told that both its connections are closed.
        self.pinned = None;
        if self.session.entry.is_killed() {
            let _ = socket2::SockRef::from(&self.stream).shutdown(std::net::Shutdown::Both);
        }
        self.mailbox.leave();
        self.front.registry.leave(&self.session.entry);
    }
}

impl Connection {
    fn new(stream: TcpStream, front: Rc<RespFront>, entry: Arc<Entry>, is_admin: bool) -> Self {
        let drain = front.drain.told();
        Connection {
            stream,
            parser: RequestParser::new(front.settings.limits),
            input: Vec::new(),
            output: Output::default(),
            mailbox: Rc::new(Mailbox::new(front.settings.output_limit_bytes, &front.bounds)),
            session: Session::new(front.identity.clone(), front.settings.as_proxy, entry),
            lanes: [None, None],
            pace: Pace::Quick,
            pinned: None,
            is_admin,
            busy: None,
            kept_out: None,
            target: None,
            refused: None,
            doomed: None,
            broken: None,
            reader: None,
            rights: None,
            read_ns: 0,
            round: 0,
            recalled: None,
            reads: VecDeque::new(),
            tail_is_fetched: false,
            seen: Seen::default(),
            seen_keys: SeenKeys::default(),
            window: FIRST_WINDOW.min(front.settings.pipeline),
            closing: false,
            eof: false,
            turn_ns: now_ns(),
            active_ns: now_ns(),
            was_owed: false,
            blocked: Blocked::default(),
            timer: None,
            drain,
            polled: false,
            front,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if !self.polled {
            self.polled = true;
            // Both wake this task once; their flags are what is read.
            let _ = self.drain.as_mut().poll(cx);
            self.session.entry.register(cx);
        }
        if self.output.is_empty() {
            self.output.bytes = self.front.buffers.take_output();
        }
        let polled = self.turn(cx);
        if self.output.is_empty() {
            self.front.buffers.give_output(std::mem::take(&mut self.output.bytes));
        }
        if polled.is_pending() {
            self.mailbox.register(cx);
        }
        polled
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            if self.session.entry.is_thrown_out() && !self.is_connected() {
                return Poll::Ready(End::Gone);
            }
            if self.session.entry.is_killed() {
                return Poll::Ready(End::Gone);
            }
            if self.mailbox.state() == MailboxState::Full {
                let (client, bytes) = (&self.session.entry.address, self.front.bounds.unread.bytes());
                info!(client, all_clients_bytes = bytes, "a client that leaves too much unread is closed");
                self.front.stats.full_clients.add(1);
                return Poll::Ready(End::Stuck);
            }
            self.collect();
            if !self.output.is_empty() {
                if self.closing {
                    self.cork();
                }
                match self.output.poll_write(&mut self.stream, cx) {
                    Poll::Ready(Ok(())) => {
                        self.blocked.ended();
                        self.mailbox.settle();
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(End::Gone),
                    Poll::Pending => {
                        let moved = self.output.moved;
                        self.blocked.stopped(moved, self.front.settings.write_timeout_ns);
                        if self.mailbox.state() == MailboxState::Lost {
                            return Poll::Ready(End::Stuck);
                        }
                        self.hold_unread(cx);
                        if self.mailbox.state() == MailboxState::Full {
                            continue;
                        }
                        return self.poll_timer(cx);
                    }
                }
            }
            if self.mailbox.state() == MailboxState::Lost && self.mailbox.len() == 0 {
                return Poll::Ready(End::Gone);
            }
            let Ok(moved) = self.poll_pinned(cx) else {
                return Poll::Ready(End::Gone);
            };
            if moved
                | self.poll_reads(cx)
                | self.poll_busy(cx)
                | self.poll_wanted_pin()
                | self.take_kept_requests(cx)
            {
                continue;
            }
            if let Some(end) = self.ended() {
                return Poll::Ready(end);
            }
            if !self.output.is_empty() {
                continue;
            }
            if !self.eof && self.input.len() >= self.read_limit() && self.leave_to_redis() {
                continue;
            }
            if self.eof || self.closing || self.input.len() >= self.read_limit() {
                return self.poll_timer(cx);
            }
            match self.poll_read(cx) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(End::Gone),
                Poll::Pending => return self.poll_timer(cx),
            }
        }
    }

    pub(super) fn is_admin(&self) -> bool {
        self.is_admin
    }

    /// The last answer and the end of the connection go out together: whoever has read the one sees the other.
    fn cork(&self) {
        if self.waiting() == 0 && self.busy.is_none() && self.mailbox.len() == 0 {
            let _ = socket2::SockRef::from(&self.stream).set_tcp_cork(true);
        }
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    pub(super) fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.front.registry
    }

    /// Who a client is that has not logged in, whether it is let in so, and its user's name.
    pub(super) fn stranger(&self) -> (Identity, bool, Bytes) {
        let settings = &self.front.settings;
        (self.front.identity.clone(), settings.as_proxy, settings.user.clone())
    }

    pub(super) fn lane_of(&self, key: &LaneKey) -> LaneHandle {
        self.front.lanes.shared(key, Pace::Quick, None)
    }

    /// Whether it has a connection to Redis, which tells by itself when it ends.
    fn is_connected(&self) -> bool {
        self.pinned.is_some() || self.lanes.iter().flatten().any(|lane| lane.is_open())
    }

    /// The session's key has changed.
    pub(super) fn forget_lanes(&mut self) {
        self.lanes = [None, None];
        (self.reader, self.rights) = (None, None);
    }

    pub(super) fn wait_for(&mut self, busy: Busy) {
        self.busy = Some(Box::new(busy));
    }

    pub(super) fn unmute(&mut self) {
        self.mailbox.mute(false);
    }

    /// What was said last is the last.
    pub(super) fn end(&mut self) {
        self.closing = true;
    }

    /// Not even that.
    pub(super) fn vanish(&mut self) {
        self.closing = true;
        self.eof = true;
    }

    pub(super) fn front(&self) -> &RespFront {
        &self.front
    }

    /// The client that the command at hand has waited for.
    pub(super) fn take_target(&mut self) -> Option<Target> {
        self.target.take()
    }

    /// Whether all that was sent along shared lanes is answered.
    pub(super) fn is_answered(&self) -> bool {
        self.mailbox.waiting() == 0
    }

    /// Takes what has come on a shared lane.
    fn collect(&mut self) {
        if let Some(Busy::Heard(_, reply)) = self.busy.as_deref_mut() {
            self.mailbox.take_into(reply, &self.front.buffers);
            return;
        }
        let start = self.output.bytes.len();
        if self.mailbox.take_into(&mut self.output.bytes, &self.front.buffers) {
            if !self.note_said(start) {
                return;
            }
            self.has_seen_redis();
            self.window = match self.mailbox.was_large() {
                true => 1,
                false => (self.window * 2).min(self.front.settings.pipeline),
            };
        }
    }

    /// An answer of Redis is about to be delivered: from now on this client is shown nothing older. In mode `ttl` that is
    /// promised only after commands of which it is not known what they change.
    pub(super) fn has_seen_redis(&self) {
        if self.front.readers.keeps_order() {
            self.seen.now();
        }
    }

    /// Commands on their way, wherever.
    fn waiting(&self) -> usize {
        self.reads.len() + self.on_their_way()
    }

    /// Commands on their way to Redis along a lane or on a pin.
    fn on_their_way(&self) -> usize {
        self.mailbox.waiting() + self.pinned.as_ref().map_or(0, |pinned| pinned.waiting())
    }

    /// Bytes that may be held unread. Half a request may be as long as it takes to understand it.
    fn read_limit(&self) -> usize {
        if self.waiting() == 0 && self.busy.is_none() {
            self.front.settings.query_buffer_bytes
        } else {
            READ_AHEAD
        }
    }

    /// Whether this is the end.
    fn ended(&mut self) -> Option<End> {
        let shut = self.pinned.as_ref().is_some_and(|pinned| pinned.shut);
        if shut
            || self.waiting() > 0
            || self.busy.is_some()
            || !self.output.is_empty()
            || self.mailbox.len() > 0
        {
            return None;
        }
        if let Some(error) = self.broken.take() {
            self.front.stats.protocol_errors.add(1);
            self.closing = true;
            // CLIENT REPLY OFF silences this too.
            if !matches!(self.session.replies, ReplyMode::Off | ReplyMode::SkipNext) {
                let mut text = BytesMut::new();
                error.encode(&mut text);
                self.say_bytes(&text);
                return None;
            }
        }
        if self.eof {
            return Some(End::Gone);
        }
        self.closing.then_some(End::Answered)
    }

    /// One read, and all requests in it. False when the connection broke.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut room = self.front.buffers.take_input();
        let mut buffer = ReadBuf::new(&mut room);
        let polled = Pin::new(&mut self.stream).poll_read(cx, &mut buffer);
        let count = buffer.filled().len();
        let outcome = match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(_)) => Poll::Ready(false),
            Poll::Ready(Ok(())) => {
                self.turn_ns = now_ns();
                self.active_ns = self.turn_ns;
                self.session.entry.touch(self.turn_ns);
                self.eof = count == 0;
                if self.input.is_empty() {
                    let used = self.process(&room[..count], cx);
                    self.input.extend_from_slice(&room[used..count]);
                } else {
                    self.input.extend_from_slice(&room[..count]);
                    self.take_kept_requests(cx);
                }
                Poll::Ready(true)
            }
        };
        self.front.buffers.give_input(room);
        outcome
    }

    /// Requests in the bytes that this connection holds. Whether any byte was used.
    fn take_kept_requests(&mut self, cx: &mut Context<'_>) -> bool {
        if self.input.is_empty() || self.must_wait() {
            return false;
        }
        self.turn_ns = now_ns();
        let mut input = std::mem::take(&mut self.input);
        let used = self.process(&input, cx);
        if used < input.len() {
            input.drain(..used);
            self.input = input;
        }
        used > 0 || self.busy.is_some()
    }

    /// Whether no command may be taken up now.
    fn must_wait(&self) -> bool {
        self.closing
            || self.broken.is_some()
            || self.busy.is_some()
            || self.pinned.is_none() && self.session.entry.is_pin_wanted()
            || self.output.is_full(self.front.settings.output_bytes)
            || self.waiting() >= self.window && !self.is_unread()
            || self.pinned.as_ref().is_some_and(|pinned| pinned.awaits_feed() || pinned.may_end())
            || self.pinned.as_ref().is_some_and(|pinned| pinned.stream.backlog() > READ_AHEAD)
    }

    /// Starts the requests in `bytes`, as many as may be started now; how many bytes that used.
    fn process(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> usize {
        let mut used = 0;
        let mut parser = std::mem::replace(&mut self.parser, RequestParser::new(self.front.settings.limits));
        while used < bytes.len() && !self.must_wait() {
            parser.set_auth_required(!self.session.admitted);
            let rest = &bytes[used..];
            if self.pinned.as_ref().is_some_and(|pinned| pinned.tunnel) {
                match self.monitor(rest) {
                    Monitored::Request(len) => {
                        used += len;
                        continue;
                    }
                    Monitored::Half => break,
                    Monitored::No => {}
                }
                let Some(pinned) = self.pinned.as_mut() else { break };
                pinned.stream.outbox().extend_from_slice(rest);
                pinned.may_write |= self.front.may_change(rest);
                used = bytes.len();
                break;
            }
            match parser.parse(rest) {
                Ok(Parsed::Nothing { len }) => {
                    if self.session.replies != ReplyMode::On && !self.nothing() {
                        break;
                    }
                    used += len;
                }
                Ok(Parsed::Request { len, form }) => {
                    if !self.command(&rest[..len], form, parser.arguments(rest), cx) {
                        break;
                    }
                    used += len;
                }
                Ok(Parsed::Part { len, last, .. }) => {
                    self.part(&rest[..len], last);
                    used += len;
                }
                Ok(Parsed::Partial { .. }) => {
                    let announced = parser.open_bulk().map_or(0, |bulk| bulk.announced);
                    let big = rest.len().max(announced) >= self.front.settings.big_request_bytes;
                    if big
                        && !self.is_uploading()
                        && self.may_stream(parser.arguments(rest))
                        && parser.stream()
                    {
                        self.start_upload(parser.arguments(rest));
                        continue;
                    }
                    // Redis closes without a word, too.
                    self.closing |= rest.len() >= self.front.settings.query_buffer_bytes;
                    break;
                }
                Err(error) if error.is_unauthenticated() && !self.session.admitted => {
                    // Whether it is too large is known once it is known whether its client must log in.
                    parser = RequestParser::new(self.front.settings.limits);
                    if self.is_too_large() {
                        self.broken = Some(error);
                    }
                }
                Err(error) => self.broken = Some(error),
            }
        }
        self.parser = parser;
        used
    }
}
