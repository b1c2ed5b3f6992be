//! What the loop of a client serves by RESP: requests where they lie, replies as they come, and how long it is waited for.

use std::rc::Rc;
use std::task::Context;

use resp::{Parsed, RequestParser};
use tokio::task::spawn_local;

use super::RespFront;
use crate::buffer_pool::BufferPool;
use crate::clock::now_ns;
use crate::front::client::{Client, Dialect, Drain, Ending, Input, Next, Stream, linger};
use crate::session::{InputRoom, Output, PlainGets, READ_AHEAD, Session, SessionEnd, Untaken, hold_room};
use crate::tls::{PortName, begins_tls, tell_that_it_is_plain};

/// Clients of a worker that are waited for although they have no place any more.
const FAREWELLS: usize = 64;

/// Serves one client until either side ends it; then what it holds is let go of, once the socket is closed.
///
/// Cost: the client is made before its task, since an `async fn` has room for its arguments beside what they become.
pub(in crate::front) fn serve(
    stream: Stream,
    front: Rc<RespFront>,
    holds: impl Sized,
) -> impl Future<Output = ()> {
    // Dropped in this order.
    let mut served = (meet(stream, &front), holds);
    async move {
        let _ = &served; // all of it is this task's
        let ending = match &mut served.0 {
            Some(client) => client.serve().await,
            None => Ending::Gone,
        };
        if ending != Ending::Answered {
            return;
        }
        // It has left, as it would have in Redis: its place is free.
        let stream = served.0.take().map(Client::into_stream);
        let farewell = Box::pin(async move {
            if let Some(mut stream) = stream {
                linger(&mut stream).await;
            }
        });
        if front.farewells.get() >= FAREWELLS || front.drain.since_ns().is_some() {
            return farewell.await;
        }
        front.farewells.set(front.farewells.get() + 1);
        spawn_local(async move {
            farewell.await;
            front.farewells.set(front.farewells.get() - 1);
        });
    }
}

/// The client with a session of its own. None if it has gone already.
fn meet(stream: Stream, front: &Rc<RespFront>) -> Option<Client<RespDialect>> {
    let ends = stream.ends().ok()?;
    let session = Session::new(front.sessions.clone(), ends.texts(), ends.ip());
    Some(Client::new(stream, RespDialect::new(front.clone(), session)))
}

/// RESP, as one client speaks it.
struct RespDialect {
    front: Rc<RespFront>,
    parser: RequestParser,
    session: Session,
    /// When it last sent something, or was given what it waited for.
    active_ns: u64,
    was_owed: bool,
    /// Of a large request that goes in pieces, as long as it is not whole.
    room: Option<Box<InputRoom>>,
}

impl From<SessionEnd> for Ending {
    fn from(end: SessionEnd) -> Self {
        match end {
            SessionEnd::Gone => Ending::Gone,
            SessionEnd::Answered => Ending::Answered,
            SessionEnd::Full => Ending::Stuck,
        }
    }
}

fn untaken(input: &mut Input) -> Untaken<'_> {
    Untaken { bytes: &mut input.bytes, is_last: input.is_last }
}

impl Dialect for RespDialect {
    fn buffers(&self) -> &BufferPool {
        &self.front.sessions.buffers
    }

    fn drain(&self) -> &Drain {
        &self.front.drain
    }

    fn write_timeout_ns(&self) -> u64 {
        self.front.timeouts().write_ns
    }

    fn is_crowded(&self) -> bool {
        self.front.sessions.readers.is_crowded()
    }

    fn output(&mut self) -> &mut Output {
        self.session.outgoing().output()
    }

    fn start(&mut self, cx: &mut Context<'_>) {
        self.session.start(cx);
    }

    fn collect(&mut self) -> Option<Ending> {
        self.session.collect().map(Ending::from)
    }

    fn is_last_output(&self) -> bool {
        self.session.is_last_output()
    }

    fn written(&mut self, _was_blocked: bool) {
        self.session.outgoing().written();
    }

    fn held_up(&mut self, encrypted: usize, cx: &mut Context<'_>) -> Option<Ending> {
        self.session.ways().held_up(encrypted, cx).map(Ending::from)
    }

    fn poll_answers(&mut self, input: &mut Input, cx: &mut Context<'_>) -> Result<bool, Ending> {
        Ok(self.session.go_on(untaken(input), cx)?)
    }

    fn arrived(&mut self, now_ns: u64) {
        self.active_ns = now_ns;
        self.session.arrived(now_ns);
    }

    fn takes_requests(&mut self) -> bool {
        if self.session.must_wait() {
            return false;
        }
        self.session.looks_again(now_ns());
        true
    }

    fn requests(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> usize {
        let mut used = 0;
        // How many bytes there were when keys were last looked ahead at, less what that has seen.
        let mut unseen = bytes.len();
        while used < bytes.len() && !self.session.must_wait() {
            let of_gets = self.plain_gets(&bytes[used..], &mut unseen);
            used += of_gets;
            if of_gets > 0 && (used == bytes.len() || self.session.must_wait()) {
                break;
            }
            match self.request(&bytes[used..], &mut unseen, cx) {
                Some(count) => used += count,
                None => break,
            }
        }
        used
    }

    fn next(&mut self, input: &mut Input) -> Next {
        if input.is_used_up() && self.session.outgoing().is_open() {
            return Next::Read;
        }
        if let Some(end) = self.session.ended(input.is_last) {
            return Next::End(end.into());
        }
        if !self.session.outgoing().output().is_empty() {
            return Next::Again;
        }
        let ahead = input.bytes.len() >= self.read_limit();
        if !input.is_last && ahead && self.session.ways().leave_to_redis(&mut input.bytes) {
            return Next::Again;
        }
        if input.is_last || ahead || self.session.outgoing().is_ending() { Next::Wait } else { Next::Read }
    }

    fn due(&mut self, _stream: &Stream, _input: &Input, cx: &mut Context<'_>) -> Result<u64, Ending> {
        self.session.sleeps(cx);
        let owed = self.session.owes();
        if std::mem::replace(&mut self.was_owed, owed) && !owed {
            // It was not idle while it waited.
            self.active_ns = now_ns();
        }
        if self.front.drain.since_ns().is_some() && (!owed || self.session.pin().is_blocked()) {
            return Err(Ending::Answered);
        }
        Ok(match self.session.is_idle() {
            true => self.active_ns.saturating_add(self.front.timeouts().resp_idle_ns),
            false => u64::MAX,
        })
    }

    fn overdue(&mut self, _stream: &Stream) -> Option<Ending> {
        Some(Ending::Answered)
    }
}

impl RespDialect {
    fn new(front: Rc<RespFront>, session: Session) -> Self {
        let parser = RequestParser::new(front.sessions.sizes.get().limits());
        RespDialect { front, parser, session, active_ns: now_ns(), was_owed: false, room: None }
    }

    /// Answers the GETs that `bytes` begin with, as long as each is in memory. How many bytes that used.
    #[inline]
    fn plain_gets(&mut self, bytes: &[u8], unseen: &mut usize) -> usize {
        let RespDialect { front, parser, session, .. } = self;
        let Some(mut get) = parser.plain_get(bytes) else { return 0 };
        let Some(mut gets) = PlainGets::of(session) else { return 0 };
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            if get.len < rest.len() && rest.len() <= *unseen {
                *unseen = front.look_ahead(rest);
            }
            if !gets.answer(get.key) {
                return used;
            }
            used += get.len;
            match parser.plain_get(&bytes[used..]) {
                Some(next) => get = next,
                None => return used,
            }
        }
    }

    /// Takes up what `bytes` begin with; how many of them that used, which may be none. `None` if they must wait.
    fn request(&mut self, bytes: &[u8], unseen: &mut usize, cx: &mut Context<'_>) -> Option<usize> {
        let RespDialect { front, parser, session, .. } = self;
        if session.pin().is_tunnel() {
            return session.pin().pass_unparsed(bytes);
        }
        if begins_tls(bytes) {
            // No command begins so, and what follows would be waited for without end.
            tell_that_it_is_plain(PortName::Resp);
            session.outgoing().end();
            return None;
        }
        parser.set_limits(front.sessions.sizes.get().limits());
        parser.set_auth_required(!session.is_admitted());
        match parser.parse(bytes) {
            Ok(Parsed::Request { len, form }) => {
                if len < bytes.len() && bytes.len() <= *unseen {
                    *unseen = front.look_ahead(bytes);
                }
                let taken = session.command(&bytes[..len], form, parser.arguments(bytes), cx);
                if taken && let Some(room) = self.room.take() {
                    hold_room(&mut self.session, room);
                }
                taken.then_some(len)
            }
            Ok(Parsed::Nothing { len }) => session.nothing().then_some(len),
            Ok(Parsed::Part { len, last, .. }) => {
                session.pin().part(&bytes[..len], last);
                Some(len)
            }
            Ok(Parsed::Partial { .. }) => self.half(bytes),
            Err(error) => {
                if error.is_unauthenticated() && !session.is_admitted() {
                    // Whether it is too large is known once it is known whether its client must log in.
                    *parser = RequestParser::new(front.sessions.sizes.get().limits());
                    if !session.is_too_large() {
                        return Some(0);
                    }
                }
                session.outgoing().breaks(error);
                Some(0)
            }
        }
    }

    /// The beginning of a request. A big one is passed on from here, as it comes.
    fn half(&mut self, bytes: &[u8]) -> Option<usize> {
        let RespDialect { front, parser, session, room, .. } = self;
        let announced = parser.open_bulk().map_or(0, |bulk| bulk.announced);
        let big = bytes.len().max(announced) >= front.sessions.sizes.get().big_bytes;
        if big
            && !session.pin().is_uploading()
            && session.may_stream(parser.arguments(bytes))
            && parser.stream()
        {
            session.ways().start_upload(parser.arguments(bytes));
            return Some(0);
        }
        let limit = room.as_ref().map_or(front.sessions.sizes.get().query_buffer_bytes, |room| room.bytes());
        let arguments = parser.arguments(bytes);
        let has_room = bytes.len() < limit
            || session.is_admitted() && front.sessions.makes_room(arguments, bytes.len(), room);
        if !has_room {
            // Redis closes without a word, too.
            session.outgoing().end();
        }
        None
    }

    /// Bytes that may be held unread. Half a request may be as long as it takes to understand it.
    fn read_limit(&self) -> usize {
        if !self.session.is_answered() {
            return READ_AHEAD;
        }
        self.room.as_ref().map_or(self.front.sessions.sizes.get().query_buffer_bytes, |room| room.bytes())
    }
}
