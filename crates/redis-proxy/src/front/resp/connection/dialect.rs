//! What the loop of a client serves by RESP: requests where they lie, replies as they come.

use std::rc::Rc;
use std::task::Context;

use bytes::BytesMut;
use resp::{Parsed, RequestParser};
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tracing::info;

use super::{Connection, READ_AHEAD};
use crate::buffer_pool::BufferPool;
use crate::clock::now_ns;
use crate::front::client::{Client, Dialect, Drain, Ending, Input, Next, Output, Stream, linger};
use crate::front::resp::RespFront;
use crate::front::resp::session::ReplyMode;
use crate::lanes::MailboxState;
use crate::session::pin::Monitored;

/// Clients of a worker that are waited for although they have no place any more.
const FAREWELLS: usize = 64;

/// Serves one client until either side ends it.
pub(crate) async fn serve(stream: TcpStream, front: Rc<RespFront>) {
    let (Ok(address), Ok(local_address)) = (stream.peer_addr(), stream.local_addr()) else {
        return;
    };
    let entry = front.registry.enter(address, local_address, front.settings.user.clone());
    let is_admin = front.settings.admin.allows(address.ip());
    let parser = RequestParser::new(front.settings.limits);
    let connection = Connection::new(front.clone(), entry, is_admin);
    let mut client = Client::new(stream, RespDialect { parser, connection });
    if client.serve().await != Ending::Answered {
        return;
    }
    // It has left, as it would have in Redis: its place is free.
    let mut stream = client.into_stream();
    let farewell = Box::pin(async move { linger(&mut stream).await });
    if front.farewells.get() >= FAREWELLS || front.drain.since_ns().is_some() {
        return farewell.await;
    }
    front.farewells.set(front.farewells.get() + 1);
    spawn_local(async move {
        farewell.await;
        front.farewells.set(front.farewells.get() - 1);
    });
}

/// RESP, as one client speaks it.
pub(super) struct RespDialect {
    parser: RequestParser,
    connection: Connection,
}

impl Dialect for RespDialect {
    fn buffers(&self) -> &BufferPool {
        &self.connection.front.buffers
    }

    fn drain(&self) -> &Drain {
        &self.connection.front.drain
    }

    fn write_timeout_ns(&self) -> u64 {
        self.connection.front.settings.write_timeout_ns
    }

    fn is_crowded(&self) -> bool {
        self.connection.front.readers.is_crowded()
    }

    fn output(&mut self) -> &mut Output {
        &mut self.connection.output
    }

    fn start(&mut self, cx: &mut Context<'_>) {
        self.connection.session.entry.register(cx);
    }

    fn collect(&mut self) -> Option<Ending> {
        let connection = &mut self.connection;
        if !connection.session.entry.is_let_alone() && connection.is_ended_by_others() {
            return Some(Ending::Gone);
        }
        if connection.mailbox.has_news() {
            if let Some(end) = connection.overflow() {
                return Some(end);
            }
            connection.collect();
        }
        None
    }

    fn is_last_output(&self) -> bool {
        let Connection { ending, busy, replies, .. } = &self.connection;
        ending.is_some() && replies.is_empty() && busy.is_none()
    }

    fn written(&mut self, _was_blocked: bool) {
        self.connection.mailbox.settle();
    }

    fn held_up(&mut self, cx: &mut Context<'_>) -> Option<Ending> {
        let connection = &mut self.connection;
        if connection.mailbox.state() == MailboxState::Lost {
            return Some(Ending::Stuck);
        }
        connection.hold_unread(cx);
        connection.overflow()
    }

    fn poll_answers(&mut self, input: &mut Input, cx: &mut Context<'_>) -> Result<bool, Ending> {
        let connection = &mut self.connection;
        if connection.is_at_rest() {
            return Ok(false);
        }
        if connection.mailbox.state() == MailboxState::Lost && connection.mailbox.len() == 0 {
            return Err(Ending::Gone);
        }
        let moved = connection.poll_pinned(input, cx).map_err(|_| Ending::Gone)?;
        Ok(moved | connection.poll_reads(cx) | connection.poll_busy(cx) | connection.poll_wanted_pin())
    }

    fn arrived(&mut self, now_ns: u64) {
        let connection = &mut self.connection;
        (connection.turn_ns, connection.active_ns) = (now_ns, now_ns);
        connection.session.entry.touch(now_ns);
    }

    fn takes_requests(&mut self) -> bool {
        if self.connection.must_wait() {
            return false;
        }
        self.connection.turn_ns = now_ns();
        true
    }

    fn requests(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> usize {
        let mut used = 0;
        while used < bytes.len() && !self.connection.must_wait() {
            match self.request(&bytes[used..], cx) {
                Some(count) => used += count,
                None => break,
            }
        }
        used
    }

    fn next(&mut self, input: &mut Input) -> Next {
        let connection = &mut self.connection;
        if input.is_used_up() && connection.goes_on() {
            return Next::Read;
        }
        if let Some(end) = connection.ended(input) {
            return Next::End(end);
        }
        if !connection.output.is_empty() {
            return Next::Again;
        }
        let ahead = input.bytes.len() >= connection.read_limit();
        if !input.is_last && ahead && connection.leave_to_redis(input) {
            return Next::Again;
        }
        if input.is_last || ahead || connection.ending.is_some() { Next::Wait } else { Next::Read }
    }

    fn due(&mut self, _stream: &Stream, _input: &Input, cx: &mut Context<'_>) -> Result<u64, Ending> {
        self.connection.deadline(cx)
    }

    fn overdue(&mut self, _stream: &Stream) -> Option<Ending> {
        Some(Ending::Answered)
    }
}

impl RespDialect {
    /// Takes up what `bytes` begin with; how many of them that used, which may be none. `None` if they must wait.
    fn request(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> Option<usize> {
        let RespDialect { parser, connection } = self;
        if connection.is_unparsed() {
            return connection.pass_unparsed(bytes);
        }
        parser.set_auth_required(!connection.session.admitted);
        match parser.parse(bytes) {
            Ok(Parsed::Request { len, form }) => {
                connection.command(&bytes[..len], form, parser.arguments(bytes), cx).then_some(len)
            }
            Ok(Parsed::Nothing { len }) => {
                (connection.session.replies == ReplyMode::On || connection.nothing()).then_some(len)
            }
            Ok(Parsed::Part { len, last, .. }) => {
                connection.part(&bytes[..len], last);
                Some(len)
            }
            Ok(Parsed::Partial { .. }) => self.half(bytes),
            Err(error) if error.is_unauthenticated() && !connection.session.admitted => {
                // Whether it is too large is known once it is known whether its client must log in.
                *parser = RequestParser::new(connection.front.settings.limits);
                if connection.is_too_large() {
                    connection.broken = Some(error);
                }
                Some(0)
            }
            Err(error) => {
                connection.broken = Some(error);
                Some(0)
            }
        }
    }

    /// The beginning of a request. A big one is passed on from here, as it comes.
    fn half(&mut self, bytes: &[u8]) -> Option<usize> {
        let RespDialect { parser, connection } = self;
        let settings = &connection.front.settings;
        let announced = parser.open_bulk().map_or(0, |bulk| bulk.announced);
        let big = bytes.len().max(announced) >= settings.big_request_bytes;
        if big
            && !connection.is_uploading()
            && connection.may_stream(parser.arguments(bytes))
            && parser.stream()
        {
            connection.start_upload(parser.arguments(bytes));
            return Some(0);
        }
        // Redis closes without a word, too.
        if bytes.len() >= connection.front.settings.query_buffer_bytes {
            connection.end();
        }
        None
    }
}

impl Connection {
    /// Whether nothing is due for it from anywhere but a shared lane, and nobody wants it to have a pin.
    #[inline]
    fn is_at_rest(&self) -> bool {
        self.pinned.is_none()
            && self.replies.is_plain()
            && self.busy.is_none()
            && self.session.entry.is_let_alone()
            && self.mailbox.state() == MailboxState::Open
    }

    /// Whether neither its end nor an answer of our own stands before its next request.
    #[inline]
    fn goes_on(&self) -> bool {
        self.ending.is_none() && self.broken.is_none() && self.output.is_empty()
    }

    /// Whether it was killed, or thrown out and has no connection to Redis that goes on.
    #[cold]
    fn is_ended_by_others(&self) -> bool {
        let entry = &self.session.entry;
        entry.is_thrown_out() && !self.is_connected() || entry.is_killed()
    }

    /// The end of a client that has left too much unread.
    fn overflow(&self) -> Option<Ending> {
        if self.mailbox.state() != MailboxState::Full {
            return None;
        }
        let (client, bytes) = (&self.session.entry.address, self.front.bounds.unread.bytes());
        info!(client, all_clients_bytes = bytes, "a client that leaves too much unread is closed");
        self.front.stats.full_clients.add(1);
        Some(Ending::Stuck)
    }

    /// Whether the client's bytes go to its pin without being taken for requests.
    fn is_unparsed(&self) -> bool {
        self.pinned.as_ref().is_some_and(|pinned| pinned.is_tunnel())
    }

    /// How many of these bytes went so. `None` if more of them must be here first.
    fn pass_unparsed(&mut self, bytes: &[u8]) -> Option<usize> {
        match self.monitor(bytes) {
            Monitored::Request(len) => return Some(len),
            Monitored::Half => return None,
            Monitored::No => {}
        }
        let pinned = self.pinned.as_mut()?;
        pinned.send_unread(bytes, self.front.may_change(bytes));
        Some(bytes.len())
    }

    /// Bytes that may be held unread. Half a request may be as long as it takes to understand it.
    fn read_limit(&self) -> usize {
        if self.waiting() == 0 && self.busy.is_none() {
            self.front.settings.query_buffer_bytes
        } else {
            READ_AHEAD
        }
    }

    /// Whether this is the end. If its client is to be told why, that is in the output.
    fn ended(&mut self, input: &Input) -> Option<Ending> {
        let shut = self.pinned.as_ref().is_some_and(|pinned| pinned.stream.is_shut());
        if shut || self.waiting() > 0 || self.busy.is_some() || !self.output.is_empty() {
            return None;
        }
        if let Some(error) = self.broken.take() {
            self.front.stats.protocol_errors.add(1);
            self.end();
            // CLIENT REPLY OFF silences this too.
            if !matches!(self.session.replies, ReplyMode::Off | ReplyMode::SkipNext) {
                let mut text = BytesMut::new();
                error.encode(&mut text);
                self.say_bytes(&text);
                return None;
            }
        }
        if input.is_last { Some(Ending::Gone) } else { self.ending }
    }
}
