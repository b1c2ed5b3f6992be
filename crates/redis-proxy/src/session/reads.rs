//! Reads that are answered from memory, or wait for what will be.
//!
//! A hit with nothing before it is answered within its own poll. Any other read stands in a queue until those before it are
//! answered; meanwhile its key is on its way. What cannot be answered so (an error, a reply too large to hold) goes to Redis
//! by the client's lane, at its turn, and the client gets Redis' own bytes.
//!
//! Lanes and this queue are two ways: commands are on one of them at a time, but for the first read of the queue (see [`super`]).

use std::future::Future;
use std::hash::BuildHasher;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use command::Read;
use resp::{Arguments, Protocol, RequestLimits, RequestParser};

use super::Session;
use super::answers::{Said, accepts, header, write, write_missing, write_small};
use super::client_state::{ClientState, ReplyMode};
use super::parts::{Begun, Part, fetches, is_denial, keys, question};
use super::replies::{NodeId, Via};
use super::reply::{error, put};
use super::rights::Asking;
use crate::clock::{nanos, now_ns};
use crate::failure::Failure;
use crate::lanes::{LARGE_REPLY, Pace, Request};
use crate::readthrough::{Answered, Found, ReadOptions, ReadOutcome, ReadThrough};

/// A client for whom nothing is cached is looked at again after so long: others may have gone.
const NO_READER_NS: u64 = 1_000_000_000;
/// Keys longer than this are not cached.
const KEY_MAX_BYTES: usize = 64 * 1024;
/// Values that are not kept and larger than this together send their MGET to Redis.
const MGET_PASSING_BYTES: usize = 1 << 20;
/// Keys of one MGET; a longer one goes to Redis.
const MGET_MAX_KEYS: usize = 128;

/// A read whose answer is not in the output yet.
pub(super) struct Pending {
    /// The command, as every server reads it.
    pub(super) request: BytesMut,
    pub(super) read: Read,
    parts: Vec<Part>,
    pub(super) state: State,
    /// Bytes of its values that are not kept.
    passing: usize,
    /// Since when Redis is asked while its user's right to this very command is not known: an answer shows it.
    pub(super) asking: Option<Asking>,
    /// What is heard of what Redis says on the lane: the first byte; of an answer that is not the client's, an error whole.
    pub(super) said: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Its parts are here or on their way.
    Asked,
    /// Its parts are here, and so many elements of its answer are in the output or with the client.
    Written(usize),
    /// A read before it waits for one of its keys, or for Redis: asked now, it might be answered from before that one.
    Behind,
    /// Memory will answer it, once Redis has shown at its turn that its user may ask.
    ToProve,
    /// That is asked on the client's lane: what comes there is not the client's, but for an error.
    Proving,
    /// It goes to Redis, at its turn.
    ToLane,
    /// It is on the client's lane, and nothing else is.
    OnLane,
}

impl Pending {
    fn new(request: Request<'_>, read: Read, parts: Vec<Part>, state: State) -> Self {
        let mut bytes = BytesMut::new();
        request.write(&mut bytes);
        Pending { request: bytes, read, parts, state, passing: 0, asking: None, said: Vec::new() }
    }

    fn begin(&mut self, begun: Begun) {
        (self.parts, self.state, self.asking) = (begun.parts, begun.state, begun.asking);
    }

    /// What it has found is let go of; it is asked for at its turn.
    pub(super) fn ask_again(&mut self) {
        (self.state, self.parts) = (State::Behind, Vec::new());
    }

    /// See [`Part::fetched_bytes`].
    pub(super) fn fetched_bytes(&self) -> usize {
        self.parts.iter().map(Part::fetched_bytes).sum()
    }

    fn waits_for(&self, key_hash: u64) -> bool {
        !matches!(self.state, State::Asked | State::Written(_))
            || self.parts.iter().any(|part| matches!(part, Part::Waiting(_, hash) if *hash == key_hash))
    }
}

impl Session {
    /// Whether this read may be answered from memory at all: it is of a client with nothing on its own connection, and of a
    /// kind that is kept.
    pub(super) fn may_be_cached(&mut self, read: Read, arguments: Arguments<'_>) -> Option<Rc<ReadThrough>> {
        let keys = if read == Read::Mget { arguments.len() - 1 } else { 1 };
        let long = arguments.iter().skip(1).take(keys).any(|key| key.len() > KEY_MAX_BYTES);
        let off = !self.sessions.settings.cache || self.client.replies != ReplyMode::On;
        if off || long || keys > MGET_MAX_KEYS {
            return None;
        }
        let reader = self.reader()?;
        (reader.keeps_replies() || read.is_of_string()).then_some(reader)
    }

    /// The way to what this client may see, if anything is cached for it.
    pub(super) fn reader(&mut self) -> Option<Rc<ReadThrough>> {
        self.read_ns = self.turn_ns;
        match &self.reader {
            Some(Ok(reader)) => return Some(reader.clone()),
            Some(Err(since_ns)) if self.turn_ns.saturating_sub(*since_ns) < NO_READER_NS => return None,
            _ => {}
        }
        let ClientState { key, proven_ns, .. } = &self.client;
        let reader = self.sessions.readers.of(key.identity.credentials(), *proven_ns, key.db);
        self.reader = Some(reader.clone().ok_or(self.turn_ns));
        // A round that nobody has seen: so it is woken for the next one.
        self.round = u64::MAX;
        reader
    }

    /// Gives the way to what is cached back if nothing was read for RESP_LANE_IDLE; else looks again in the next round.
    pub(super) fn look_back(&mut self, cx: &mut Context<'_>) {
        self.round = self.sessions.recall.round();
        self.recalled = None;
        let Some(Ok(reader)) = &self.reader else { return };
        let idle_ns = nanos(self.sessions.settings.lanes.idle);
        if self.sessions.readers.links_follow_reads()
            && self.replies.reads().next().is_none()
            && now_ns().saturating_sub(self.read_ns) >= idle_ns
        {
            self.sessions.readers.given_back(reader, self.read_ns);
            self.reader = None;
            return;
        }
        let mut recalled = self.sessions.recall.told();
        let _ = recalled.as_mut().poll(cx); // it wakes this task; the round is what is read
        self.recalled = Some(recalled);
    }

    /// Takes up a read. False if it must wait for commands on a lane.
    pub(super) fn read(
        &mut self,
        read: Read,
        reader: &ReadThrough,
        request: Request<'_>,
        arguments: Arguments<'_>,
        cx: &mut Context<'_>,
    ) -> bool {
        if !self.replies.may_go(NodeId::FIRST, Via::Cache) {
            return false;
        }
        if self.replies.is_empty()
            && let Some(taken) = self.read_at_once(read, reader, request, arguments, cx)
        {
            return taken;
        }
        let mut pending = Pending::new(request, read, Vec::new(), State::Asked);
        let hasher = &self.sessions.hasher;
        let is_behind = keys(read, arguments).any(|key| {
            let hash = hasher.hash_one(key);
            self.replies.reads().any(|before| before.waits_for(hash))
        });
        if is_behind && reader.keeps_order() {
            pending.state = State::Behind;
        } else {
            pending.begin(self.begin(reader, read, arguments, self.turn_ns));
        }
        self.replies.read(NodeId::FIRST, pending);
        true
    }

    #[inline]
    pub(super) fn asked(&self, key: &[u8], now_ns: u64) -> ReadOptions {
        let since_ns = self.seen_keys.since_ns(|| self.sessions.hasher.hash_one(key));
        ReadOptions { now_ns, min_sync_ns: self.steward.min_sync_ns().max(since_ns), no_cache: false }
    }

    /// A read that is answered from memory with nothing before it. `None` if it is not that simple.
    #[inline]
    fn read_at_once(
        &mut self,
        read: Read,
        reader: &ReadThrough,
        request: Request<'_>,
        arguments: Arguments<'_>,
        cx: &mut Context<'_>,
    ) -> Option<bool> {
        if read == Read::Mget || !self.may(read, self.turn_ns) {
            return None;
        }
        let asked = self.asked(arguments.get(1).unwrap_or_default(), self.turn_ns);
        let protocol = self.client.key.protocol;
        let found = {
            let mut words = self.sessions.words.borrow_mut();
            let question = question(read, arguments, protocol, accepts(read), &mut words);
            match fetches(read, reader) {
                true => reader.ask_or_pass(question, asked),
                false => reader.held(question, asked).map(ReadOutcome::Hit),
            }
        };
        match found {
            // What this mode does not fetch as a reply goes to Redis where it is not known already, and all where a link
            // would bring nothing to keep.
            None => Some(self.share(request, Pace::Quick, true, None, cx)),
            Some(ReadOutcome::Hit(entry)) => {
                let (now_ns, limit) = (self.turn_ns, self.sessions.settings.output_bytes);
                let out = &mut self.output.bytes;
                if write_small(out, read, &entry) {
                    self.sessions.stats.cached.add(1);
                    return Some(true);
                }
                match write(out, read, arguments, &entry, protocol, now_ns, (0, limit)) {
                    Said::Whole => {}
                    Said::UpToValue { part, line } => {
                        self.output.attach_part(reader.lend(entry), part, line);
                        self.tail_is_fetched = false;
                    }
                    Said::Elements(count) => {
                        let state = State::Written(count);
                        let pending = Pending::new(request, read, vec![Part::Here(entry)], state);
                        self.replies.read(NodeId::FIRST, pending);
                        return Some(true);
                    }
                    Said::Nothing => return Some(self.share(request, Pace::Quick, true, None, cx)),
                }
                self.sessions.stats.cached.add(1);
                Some(true)
            }
            Some(ReadOutcome::Wait(waiting)) => {
                let hash = self.sessions.hasher.hash_one(arguments.get(1).unwrap_or_default());
                let parts = vec![Part::Waiting(Box::new(waiting), hash)];
                self.replies.read(NodeId::FIRST, Pending::new(request, read, parts, State::Asked));
                Some(true)
            }
        }
    }

    /// Moves finished answers from the queue to the output, in order. Whether any moved.
    pub(super) fn poll_reads(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while !self.output.is_full(self.sessions.settings.output_bytes) {
            moved |= self.replies.flush(&mut self.output.bytes);
            let Some(mut pending) = self.replies.take_read() else { break };
            if !self.poll_pending(&mut pending, cx) {
                self.replies.put_back(NodeId::FIRST, pending);
                break;
            }
            moved = true;
        }
        if moved {
            self.sessions.readers.released();
        }
        moved
    }

    /// Whether the first read of the queue is answered.
    fn poll_pending(&mut self, pending: &mut Pending, cx: &mut Context<'_>) -> bool {
        let protocol = self.client.key.protocol;
        let mut parser = RequestParser::new(RequestLimits::REDIS);
        let _ = parser.parse(&pending.request); // it was a request before
        while let State::Behind | State::ToProve | State::Proving = pending.state {
            let arguments = parser.arguments(&pending.request);
            match pending.state {
                State::Behind => match self.reader() {
                    Some(reader) => {
                        let begun = self.begin(&reader, pending.read, arguments, now_ns());
                        pending.begin(begun);
                    }
                    None => pending.state = State::ToLane,
                },
                State::ToProve if self.ask_for_right(pending, arguments, cx) => {
                    pending.state = State::Proving;
                }
                State::Proving if self.is_heard() => {
                    if let [] | [b'-', ..] = pending.said[..] {
                        self.output.bytes.extend_from_slice(&pending.said);
                        return true;
                    }
                    self.learn_right(pending);
                    (pending.said, pending.state) = (Vec::new(), State::Behind);
                }
                _ => return false,
            }
        }
        if pending.state == State::Asked {
            match self.poll_parts(pending, cx) {
                Poll::Pending => return false,
                Poll::Ready(Err(NoAnswer::ToLane)) => self.leave_to_lane(pending),
                // Asked again along the lane, Redis would count it twice.
                Poll::Ready(Err(NoAnswer::Denied(text))) => {
                    put(&mut self.output.bytes, &error(text), protocol);
                    return true;
                }
                Poll::Ready(Ok(())) => pending.state = State::Written(0),
            }
        }
        if let State::Written(first) = pending.state {
            let arguments = parser.arguments(&pending.request);
            match self.write_parts(pending.read, &mut pending.parts, arguments, protocol, first) {
                Said::Nothing => self.leave_to_lane(pending),
                Said::Elements(count) => {
                    pending.state = State::Written(count);
                    return false;
                }
                _ => return true,
            }
        }
        if pending.state == State::ToLane
            && self.send(Request::Raw(&pending.request), Pace::Quick, true, None, cx)
        {
            pending.state = State::OnLane;
        }
        // What came by the lane stands in the output already.
        let ended = pending.state == State::OnLane && self.is_heard();
        if ended && pending.asking.is_some() && !matches!(pending.said[..], [] | [b'-', ..]) {
            self.learn_right(pending);
            self.fetch_parts(pending.read, parser.arguments(&pending.request));
        }
        ended
    }

    /// Whether all that was asked for along the lane has been taken from it.
    fn is_heard(&self) -> bool {
        self.mailbox.waiting() == 0 && self.mailbox.len() == 0
    }

    /// The first read of the queue goes to Redis after all. What those behind it have found may be older than what Redis
    /// will say: they are asked again.
    fn leave_to_lane(&mut self, pending: &mut Pending) {
        pending.state = State::ToLane;
        pending.parts = Vec::new();
        if self.sessions.readers.keeps_order() {
            for behind in self.replies.reads_mut() {
                behind.ask_again();
            }
        }
    }

    pub(super) fn poll_parts(
        &mut self,
        pending: &mut Pending,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), NoAnswer>> {
        for at in 0..pending.parts.len() {
            let part = match pending.parts[at] {
                // Those it waits for come before it.
                Part::As(first) => {
                    pending.parts[at] = match &pending.parts[first] {
                        Part::Here(entry) => Part::Here(entry.clone()),
                        Part::Fetched(entry) => Part::Fetched(entry.clone()),
                        Part::Missing | Part::Waiting(..) | Part::As(_) => Part::Missing,
                    };
                    continue;
                }
                ref mut part => part,
            };
            let Part::Waiting(waiting, key_hash) = part else { continue };
            let Poll::Ready(answered) = Pin::new(&mut **waiting).poll(cx) else {
                return Poll::Pending;
            };
            self.has_seen(&answered, *key_hash);
            let is_kept = answered.is_kept();
            // Of what was held already Redis has answered an earlier one.
            let asking = pending.asking.filter(|_| !answered.hit);
            if let (Some(asking), Found::Answer(_) | Found::Missing) = (asking, &answered.found) {
                self.rights().answered(pending.read, asking);
            }
            *part = match answered.found {
                Found::Answer(answer) => {
                    pending.passing += if is_kept { 0 } else { answer.value().len() };
                    // They are memory; along a lane they pass.
                    if pending.read == Read::Mget && pending.passing > MGET_PASSING_BYTES {
                        return Poll::Ready(Err(NoAnswer::ToLane));
                    }
                    Part::Fetched(answer)
                }
                Found::Missing => Part::Missing,
                Found::Failed(Failure::WrongType(_)) if pending.read == Read::Mget => Part::Missing,
                Found::Failed(Failure::Redis(text)) if is_denial(&text, pending.read) => {
                    let text = Bytes::copy_from_slice(text.as_bytes());
                    return Poll::Ready(Err(NoAnswer::Denied(text)));
                }
                Found::Failed(Failure::Redis(text)) if text.starts_with("NOPERM ") => {
                    self.rights().refuse_get(now_ns());
                    return Poll::Ready(Err(NoAnswer::ToLane));
                }
                Found::Failed(_) | Found::Abandoned => return Poll::Ready(Err(NoAnswer::ToLane)),
            };
        }
        Poll::Ready(Ok(()))
    }

    /// An answer that is not held may be newer than others that are held about its key.
    fn has_seen(&mut self, answered: &Answered, key_hash: u64) {
        if answered.may_be_newest(self.sessions.readers.keeps_order()) {
            self.seen_keys.note(key_hash, now_ns());
        }
    }

    /// Writes the answer from its element `first` on, as much as the output takes.
    fn write_parts(
        &mut self,
        read: Read,
        parts: &mut [Part],
        arguments: Arguments<'_>,
        protocol: Protocol,
        first: usize,
    ) -> Said {
        let (now_ns, limit) = (now_ns(), self.sessions.settings.output_bytes);
        let start = self.output.bytes.len();
        // Elements are those of MGET or of the reply to one key.
        let (mut at, from) = if read == Read::Mget { (first, 0) } else { (0, first) };
        if read == Read::Mget && first == 0 {
            header(&mut self.output.bytes, b'*', parts.len());
        }
        let mut large = first > 0;
        while let Some(part) = parts.get_mut(at) {
            if self.output.is_full(limit) {
                self.window = 1;
                return Said::Elements(at);
            }
            let out = &mut self.output.bytes;
            let said = match part {
                Part::Here(entry) | Part::Fetched(entry) => {
                    write(out, read, arguments, entry, protocol, now_ns, (from, limit))
                }
                Part::Missing => write_missing(out, read, arguments, protocol, (from, limit)),
                Part::Waiting(..) | Part::As(_) => Said::Nothing,
            };
            match said {
                Said::Whole => {}
                Said::UpToValue { part: range, line } => {
                    large = true;
                    self.tail_is_fetched = matches!(part, Part::Fetched(_));
                    // From here on the output holds it.
                    if let Part::Here(entry) | Part::Fetched(entry) = std::mem::replace(part, Part::Missing) {
                        let lent = self.sessions.readers.own().lend(entry);
                        self.output.attach_part(lent, range, line);
                    }
                }
                Said::Elements(count) => {
                    self.window = 1;
                    return Said::Elements(count);
                }
                Said::Nothing => {
                    out.truncate(start);
                    return Said::Nothing;
                }
            }
            at += 1;
        }
        // What waits for a slow reader is memory: one large answer at a time.
        self.window = match large || self.output.bytes.len() - start > LARGE_REPLY {
            true => 1,
            false => (self.window * 2).min(self.sessions.settings.pipeline),
        };
        self.sessions.stats.cached.add(1);
        Said::Whole
    }
}

/// Why a read has no answer from memory.
pub(super) enum NoAnswer {
    /// It is Redis' to answer.
    ToLane,
    /// Redis has been asked this very question, and says that its user may not: its text.
    Denied(Bytes),
}
