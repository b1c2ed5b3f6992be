//! Reads at their turn: what those that wait have found is written in the order of the commands, and what cannot be answered
//! from memory goes to Redis.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use command::Read;
use resp::{Arguments, Protocol, RequestLimits, RequestParser};

use super::Session;
use super::answers::{Said, header, write, write_missing};
use super::parts::{Part, is_denial};
use super::pending::{Pending, State};
use super::replies::NodeId;
use super::reply::{error, put};
use crate::clock::now_ns;
use crate::failure::Failure;
use crate::lanes::{LARGE_REPLY, Pace, Request};
use crate::readthrough::{Answered, Found};

/// Values that are not kept and larger than this together send their MGET to Redis.
const MGET_PASSING_BYTES: usize = 1 << 20;

impl Session {
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
