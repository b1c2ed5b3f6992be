//! The answers of one client on their way out: what is due, in its order; what has come of it; what may leave, and whether
//! that is the last.
//!
//! **Room.** `window` bounds the commands on their way, and falls to one after a large reply, because replies of a shared lane
//! that the client does not read are memory.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use command::Read;
use resp::{Arguments, Frame, Protocol, RequestError};
use tracing::info;

use super::answers::{Said, write, write_missing};
use super::command_times::CommandTimes;
use super::output::Output;
use super::parts::Part;
use super::pending::{Pending, State};
use super::registry::Entry;
use super::replies::{Replies, Via};
use super::reply::{header, put};
use super::sessions::Sessions;
use crate::clock::now_ns;
use crate::lanes::{LARGE_REPLY, Mailbox, MailboxState};
use crate::readthrough::Lent;

/// Where a session starts: the size of its replies is not known yet.
const FIRST_WINDOW: usize = 32;

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionEnd {
    /// It was killed, or its client cannot be told anything true: nothing is said.
    Gone,
    /// After the answer that is the last.
    Answered,
    /// Its client leaves more unread than it may.
    Full,
}

/// What is due to a client, and what leaves.
pub(crate) struct Outgoing {
    sessions: Rc<Sessions>,
    /// What may leave.
    pub(super) output: Output,
    /// What is due, in its order. Of the reads among it the first may be on a lane, which owes nothing else then.
    pub(super) replies: Replies<Pending>,
    /// What comes on shared lanes.
    pub(super) mailbox: Rc<Mailbox>,
    /// Commands that may be on their way.
    window: usize,
    /// Whether Redis has sent the value that is being written for this client, so that it counts as unread.
    tail_is_fetched: bool,
    /// Where its requests stopped making sense: told once all before is answered.
    broken: Option<RequestError>,
    /// How long its commands take.
    pub(super) times: CommandTimes,
    /// No more requests are taken; so the session ends when all is answered.
    ending: Option<SessionEnd>,
}

impl Outgoing {
    pub(super) fn new(sessions: Rc<Sessions>, mailbox: Rc<Mailbox>, entry: Arc<Entry>) -> Self {
        Outgoing {
            output: Output::default(),
            replies: Replies::default(),
            mailbox,
            window: FIRST_WINDOW.min(sessions.limits.get().pipeline),
            tail_is_fetched: false,
            broken: None,
            ending: None,
            times: CommandTimes::new(sessions.settings.slow_log.clone(), entry),
            sessions,
        }
    }

    /// Answers in their order. The front writes them, and asks for no more before.
    #[inline]
    pub(crate) fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// All of the output is with the kernel.
    #[inline]
    pub(crate) fn written(&mut self) {
        self.mailbox.settle();
        self.times.written(self.replies.left_number(), &self.sessions.commands.borrow());
    }

    /// What was said last is the last.
    pub(crate) fn end(&mut self) {
        self.ending.get_or_insert(SessionEnd::Answered);
    }

    /// Not even that.
    pub(super) fn vanish(&mut self) {
        self.ending = Some(SessionEnd::Gone);
    }

    /// From here on its client's bytes make no sense. That is told once all before is answered, and is the end.
    pub(crate) fn breaks(&mut self, error: RequestError) {
        self.broken = Some(error);
    }

    /// Redis itself gets those bytes, or nobody.
    pub(super) fn mends(&mut self) {
        self.broken = None;
    }

    /// Whether neither its end nor an answer of our own stands before its next request.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.takes_more() && self.output.is_empty()
    }

    /// Whether no more requests are taken.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Whether there is anything after what was taken up.
    #[inline]
    pub(super) fn takes_more(&self) -> bool {
        self.ending.is_none() && self.broken.is_none()
    }

    /// Whether the output must be written before another answer is added.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.output.is_full(self.sessions.limits.get().output_bytes)
    }

    /// Whether no further command may be on its way.
    #[inline]
    pub(super) fn is_window_full(&self) -> bool {
        self.replies.len() >= self.window
    }

    /// The end of a session of which all is answered; of a client that has shut its side (`is_last`) that is one. If its client
    /// is to be told why, and is not `silent`, that is in the output.
    pub(super) fn ended(&mut self, is_last: bool, silent: bool) -> Option<SessionEnd> {
        if !self.output.is_empty() {
            return None;
        }
        if let Some(error) = self.broken.take() {
            self.sessions.stats.protocol_errors.add(1);
            self.end();
            if !silent {
                let mut text = BytesMut::new();
                error.encode(&mut text);
                self.say_bytes(&text);
                return None;
            }
        }
        if is_last { Some(SessionEnd::Gone) } else { self.ending }
    }

    /// Appends a reply of our own.
    pub(super) fn say(&mut self, reply: &Frame, protocol: Protocol) {
        if !self.mailbox.is_muted() {
            put(self.room_for_ours(), reply, protocol);
        }
    }

    /// Appends bytes that are a reply.
    pub(super) fn say_bytes(&mut self, bytes: &[u8]) {
        self.room_for_ours().extend_from_slice(bytes);
    }

    /// Where a reply of our own goes: behind all that is due. On a pin it may be a part of what that says, as within the reply to
    /// an EXEC.
    fn room_for_ours(&mut self) -> &mut Vec<u8> {
        match self.replies.owing() {
            Some(Via::Pin) => &mut self.output.bytes,
            _ => self.replies.made(&mut self.output.bytes),
        }
    }

    /// Takes what has come on a shared lane, with `whole` ends of replies. Whether it is the client's.
    pub(super) fn deliver(&mut self, bytes: &mut Vec<u8>, whole: usize) -> bool {
        let start = self.output.bytes.len();
        // A read that went to the lane is still what it was in the queue.
        let is_read = self.replies.read_at_head().is_some();
        let whole = if is_read { 0 } else { whole };
        self.replies.came(bytes, whole, &mut self.output.bytes);
        if is_read && !self.note_said(start) {
            return false;
        }
        match self.mailbox.was_large() {
            true => self.window = 1,
            false => self.widen(),
        }
        true
    }

    /// What comes along the lane, from `start` in the output on, answers the first read of the queue, if that went there.
    /// Whether it is the client's.
    fn note_said(&mut self, start: usize) -> bool {
        let Some(pending) = self.replies.read_at_head() else { return true };
        let bytes = &self.output.bytes[start..];
        match pending.state {
            State::OnLane if pending.said.is_empty() => pending.said.extend(bytes.first()),
            State::Proving => {
                let is_error = matches!(pending.said.first().or(bytes.first()), Some(b'-'));
                pending.said.extend_from_slice(if is_error { bytes } else { &bytes[..1.min(bytes.len())] });
                self.output.bytes.truncate(start);
                self.mailbox.settle();
                return false;
            }
            _ => {}
        }
        true
    }

    /// Whether all that was asked for along the lane has been taken from it.
    pub(super) fn is_heard(&self) -> bool {
        self.mailbox.waiting() == 0 && self.mailbox.len() == 0
    }

    /// The client's pin owes so many replies now.
    pub(super) fn pin_owes(&mut self, count: usize) {
        self.replies.owes(Via::Pin, count);
    }

    /// What has come was small: more may be on its way.
    pub(super) fn widen(&mut self) {
        self.window = (self.window * 2).min(self.sessions.limits.get().pipeline);
    }

    /// A part of a value leaves behind what is in the output; with `line` a line end follows it. Values that were `fetched` for
    /// it count as unread.
    pub(super) fn attach(&mut self, value: Lent, part: Range<usize>, line: bool, fetched: bool) {
        self.tail_is_fetched = fetched;
        self.output.attach_part(value, part, line);
    }

    /// Writes the answer to a read from its element `first` on, as much as the output takes.
    pub(super) fn write_parts(
        &mut self,
        read: Read,
        parts: &mut [Part],
        arguments: Arguments<'_>,
        protocol: Protocol,
        first: usize,
    ) -> Said {
        let (now_ns, limit) = (now_ns(), self.sessions.limits.get().output_bytes);
        let start = self.output.bytes.len();
        // Elements are those of MGET or of the reply to one key.
        let (mut at, from) = if read == Read::Mget { (first, 0) } else { (0, first) };
        if read == Read::Mget && first == 0 {
            header(&mut self.output.bytes, b'*', parts.len());
        }
        let mut large = first > 0;
        while let Some(part) = parts.get_mut(at) {
            if self.is_full() {
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
                    let fetched = matches!(part, Part::Fetched(_));
                    // From here on the output holds it.
                    if let Part::Here(entry) | Part::Fetched(entry) = std::mem::replace(part, Part::Missing) {
                        let lent = self.sessions.readers.own().lend(entry);
                        self.attach(lent, range, line, fetched);
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
        match large || self.output.bytes.len() - start > LARGE_REPLY {
            true => self.window = 1,
            false => self.widen(),
        }
        self.sessions.stats.cached.add(1);
        Said::Whole
    }

    /// Bytes in the output that Redis has sent on other ways than a lane. All of them may be of a pin, if there is one.
    pub(super) fn unread_bytes(&self, has_pin: bool) -> usize {
        let value = if self.tail_is_fetched { self.output.unsent_value() } else { 0 };
        value + if has_pin { self.output.unsent_bytes() } else { 0 }
    }

    /// The end of a client at this address, if it has left too much unread.
    pub(super) fn overflow(&self, client: &str) -> Option<SessionEnd> {
        if self.mailbox.state() != MailboxState::Full {
            return None;
        }
        let bytes = self.sessions.bounds.unread.bytes();
        info!(client, all_clients_bytes = bytes, "a client that leaves too much unread is closed");
        self.sessions.stats.full_clients.add(1);
        Some(SessionEnd::Full)
    }
}
