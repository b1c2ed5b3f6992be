//! Reads at their turn: what those that wait have found is written in the order of the commands, and what cannot be answered
//! from memory goes to Redis.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use command::Read;

use super::answers::Said;
use super::client_lanes::ClientLanes;
use super::client_state::ClientState;
use super::outgoing::Outgoing;
use super::parts::{Part, is_denial};
use super::pending::{Pending, State};
use super::reading::Reading;
use super::reply::{error, put};
use super::words::parsed;
use crate::clock::now_ns;
use crate::failure::Failure;
use crate::lanes::{Pace, Request};
use crate::readthrough::Found;

/// Values that are not kept and larger than this together send their MGET to Redis.
const MGET_PASSING_BYTES: usize = 1 << 20;

impl Reading {
    /// Moves finished answers from the queue to the output, in order. Whether any moved.
    pub(super) fn poll_reads(
        &mut self,
        client: &ClientState,
        out: &mut Outgoing,
        lanes: &mut ClientLanes,
        cx: &mut Context<'_>,
    ) -> bool {
        let mut moved = false;
        while !out.is_full() {
            moved |= out.replies.flush(&mut out.output.bytes);
            let Some(mut pending) = out.replies.take_read() else { break };
            if !self.poll_pending(&mut pending, client, out, lanes, cx) {
                out.replies.put_back(pending);
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
    fn poll_pending(
        &mut self,
        pending: &mut Pending,
        client: &ClientState,
        out: &mut Outgoing,
        lanes: &mut ClientLanes,
        cx: &mut Context<'_>,
    ) -> bool {
        if let Some(is_answered) = self.poll_begun(pending, client, out, lanes, cx) {
            return is_answered;
        }
        if let Some(is_answered) = self.write_found(pending, client, out, cx) {
            return is_answered;
        }
        self.poll_on_lane(pending, client, out, lanes, cx)
    }

    /// Asks for what it is made of if that is still to be done, and proves that its user may ask. `None` once that is so; else
    /// whether it is answered.
    fn poll_begun(
        &mut self,
        pending: &mut Pending,
        client: &ClientState,
        out: &mut Outgoing,
        lanes: &mut ClientLanes,
        cx: &mut Context<'_>,
    ) -> Option<bool> {
        while let State::Behind | State::ToProve | State::Proving = pending.state {
            match pending.state {
                State::Behind => match self.reader(client) {
                    Some(reader) => {
                        let parser = parsed(&pending.request);
                        let arguments = parser.arguments(&pending.request);
                        let begun = self.begin(
                            &reader,
                            pending.read,
                            arguments,
                            client,
                            pending.arrived_ns,
                            now_ns(),
                        );
                        pending.begin(begun);
                    }
                    None => pending.state = State::ToLane,
                },
                State::ToProve if self.ask_for_right(pending, client, out, lanes, cx) => {
                    pending.state = State::Proving;
                }
                State::Proving if out.is_heard() => {
                    if let [] | [b'-', ..] = pending.said[..] {
                        out.output.bytes.extend_from_slice(&pending.said);
                        return Some(true);
                    }
                    self.learn_right(pending, client);
                    (pending.said, pending.state) = (Vec::new(), State::Behind);
                }
                _ => return Some(false),
            }
        }
        None
    }

    /// Writes what it has found. `None` if it goes to Redis; else whether it is answered.
    fn write_found(
        &mut self,
        pending: &mut Pending,
        client: &ClientState,
        out: &mut Outgoing,
        cx: &mut Context<'_>,
    ) -> Option<bool> {
        let protocol = client.key.protocol;
        if pending.state == State::Asked {
            match self.poll_parts(pending, client, cx) {
                Poll::Pending => return Some(false),
                Poll::Ready(Err(NoAnswer::ToLane)) => self.leave_to_lane(pending, out),
                // Asked again along the lane, Redis would count it twice.
                Poll::Ready(Err(NoAnswer::Denied(text))) => {
                    put(&mut out.output.bytes, &error(text), protocol);
                    return Some(true);
                }
                Poll::Ready(Ok(())) => pending.state = State::Written(0),
            }
        }
        let State::Written(first) = pending.state else { return None };
        let parser = parsed(&pending.request);
        let arguments = parser.arguments(&pending.request);
        match out.write_parts(pending.read, &mut pending.parts, arguments, protocol, first) {
            Said::Nothing => self.leave_to_lane(pending, out),
            Said::Elements(count) => {
                pending.state = State::Written(count);
                return Some(false);
            }
            Said::Whole | Said::UpToValue { .. } => return Some(true),
        }
        None
    }

    /// Sends it along the client's lane. Whether all of Redis' answer has been taken from there.
    fn poll_on_lane(
        &mut self,
        pending: &mut Pending,
        client: &ClientState,
        out: &Outgoing,
        lanes: &mut ClientLanes,
        cx: &mut Context<'_>,
    ) -> bool {
        if pending.state == State::ToLane {
            let request = Request::Raw(&pending.request);
            let sent = match self.sessions.spread_of(&pending.request) {
                Some(spread) => lanes.spread(&client.key, spread, request, Pace::Quick, true, None, cx),
                None => {
                    let slot = self.sessions.slot_of(&pending.request);
                    lanes.send(&client.key, slot, request, Pace::Quick, true, None, cx)
                }
            };
            if sent {
                pending.state = State::OnLane;
            }
        }
        // What came by the lane stands in the output already.
        let ended = pending.state == State::OnLane && out.is_heard();
        if ended && pending.asking.is_some() && !matches!(pending.said[..], [] | [b'-', ..]) {
            self.learn_right(pending, client);
            let parser = parsed(&pending.request);
            self.fetch_parts(pending.read, parser.arguments(&pending.request), client);
        }
        ended
    }

    /// The first read of the queue goes to Redis after all. What those behind it have found may be older than what Redis
    /// will say: they are asked again.
    fn leave_to_lane(&self, pending: &mut Pending, out: &mut Outgoing) {
        pending.state = State::ToLane;
        pending.parts = Vec::new();
        if self.sessions.readers.keeps_order() {
            for behind in out.replies.reads_mut() {
                behind.ask_again();
            }
        }
    }

    pub(super) fn poll_parts(
        &mut self,
        pending: &mut Pending,
        client: &ClientState,
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
                self.rights(client).answered(pending.read, asking);
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
                    self.rights(client).refuse_get(now_ns());
                    return Poll::Ready(Err(NoAnswer::ToLane));
                }
                Found::Failed(_) | Found::Abandoned => return Poll::Ready(Err(NoAnswer::ToLane)),
            };
        }
        Poll::Ready(Ok(()))
    }
}

/// Why a read has no answer from memory.
pub(super) enum NoAnswer {
    /// It is Redis' to answer.
    ToLane,
    /// Redis has been asked this very question, and says that its user may not: its text.
    Denied(Bytes),
}
