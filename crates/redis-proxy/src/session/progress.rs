//! What a front asks of a session between requests: to go on, and how it stands.

use std::task::Context;

use bytes::BytesMut;
use resp::RequestError;
use tracing::info;

use super::busy::Busy;
use super::client_state::ReplyMode;
use super::replies::NodeId;
use super::{Output, READ_AHEAD, Session};
use crate::lanes::MailboxState;

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

/// What its client has sent and the session has not taken yet.
pub(crate) struct Untaken<'a> {
    pub(crate) bytes: &'a mut Vec<u8>,
    /// Nothing follows: the client has shut its side.
    pub(crate) is_last: bool,
}

impl Session {
    /// Answers in their order. The front writes them, and asks for no more before.
    #[inline]
    pub(crate) fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// The task that serves the client is woken by what others do to it.
    pub(crate) fn start(&mut self, cx: &mut Context<'_>) {
        self.client.entry.register(cx);
    }

    /// Its client has sent something, or shut its side.
    pub(crate) fn arrived(&mut self, now_ns: u64) {
        self.turn_ns = now_ns;
        self.client.entry.touch(now_ns);
    }

    /// Requests are looked at again, at `now_ns`.
    pub(crate) fn looks_again(&mut self, now_ns: u64) {
        self.turn_ns = now_ns;
    }

    /// What came for the client meanwhile goes to the output. An end that overtakes all else.
    #[inline]
    pub(crate) fn collect(&mut self) -> Option<SessionEnd> {
        if !self.client.entry.is_let_alone() && self.is_ended_by_others() {
            return Some(SessionEnd::Gone);
        }
        if self.mailbox.has_news() {
            if let Some(end) = self.overflow() {
                return Some(end);
            }
            self.take_mail();
        }
        None
    }

    /// Whether it was killed, or thrown out and has no connection to Redis that goes on, which would tell by itself when it ends.
    #[cold]
    fn is_ended_by_others(&self) -> bool {
        let entry = &self.client.entry;
        let is_connected = || self.pinned.is_some() || self.lanes.iter().flatten().any(|lane| lane.is_open());
        entry.is_thrown_out() && !is_connected() || entry.is_killed()
    }

    /// Takes what has come on a shared lane.
    fn take_mail(&mut self) {
        let Some((mut bytes, whole)) = self.mailbox.take() else { return };
        if let Some(Busy::Heard(_, reply)) = self.busy.as_deref_mut() {
            self.replies.came(NodeId::FIRST, &mut bytes, whole, reply);
        } else {
            self.deliver(&mut bytes, whole);
        }
        self.sessions.buffers.give_output(bytes);
    }

    fn deliver(&mut self, bytes: &mut Vec<u8>, whole: usize) {
        let start = self.output.bytes.len();
        // A read that went to the lane is still what it was in the queue.
        let is_read = self.replies.read_at_head().is_some();
        let whole = if is_read { 0 } else { whole };
        self.replies.came(NodeId::FIRST, bytes, whole, &mut self.output.bytes);
        if is_read && !self.note_said(start) {
            return;
        }
        self.has_seen_redis();
        self.window = match self.mailbox.was_large() {
            true => 1,
            false => (self.window * 2).min(self.sessions.settings.pipeline),
        };
    }

    /// The end of a client that has left too much unread.
    fn overflow(&self) -> Option<SessionEnd> {
        if self.mailbox.state() != MailboxState::Full {
            return None;
        }
        let (client, bytes) = (&self.client.entry.address, self.sessions.bounds.unread.bytes());
        info!(client, all_clients_bytes = bytes, "a client that leaves too much unread is closed");
        self.sessions.stats.full_clients.add(1);
        Some(SessionEnd::Full)
    }

    /// All of the output is with the kernel.
    #[inline]
    pub(crate) fn written(&mut self) {
        self.mailbox.settle();
    }

    /// The client takes nothing: what is held for it is counted, and let go of if it is too much.
    pub(crate) fn held_up(&mut self, cx: &mut Context<'_>) -> Option<SessionEnd> {
        if self.mailbox.state() == MailboxState::Lost {
            return Some(SessionEnd::Full);
        }
        self.hold_unread(cx);
        self.overflow()
    }

    /// Goes on with whatever is under way; what is answered by now goes to the output, as much as fits. Whether anything moved.
    ///
    /// # Errors
    /// The end of a client that can get no answer any more.
    #[inline]
    pub(crate) fn go_on(&mut self, untaken: Untaken<'_>, cx: &mut Context<'_>) -> Result<bool, SessionEnd> {
        if self.is_at_rest() {
            return Ok(false);
        }
        if self.mailbox.state() == MailboxState::Lost && self.mailbox.len() == 0 {
            return Err(SessionEnd::Gone);
        }
        let moved = self.poll_pinned(untaken, cx).map_err(|_| SessionEnd::Gone)?;
        Ok(moved | self.poll_reads(cx) | self.poll_busy(cx) | self.poll_wanted_pin())
    }

    /// Whether nothing is due for it from anywhere but a shared lane, and nobody wants it to have a pin.
    #[inline]
    fn is_at_rest(&self) -> bool {
        self.pinned.is_none()
            && self.replies.is_plain()
            && self.busy.is_none()
            && self.client.entry.is_let_alone()
            && self.mailbox.state() == MailboxState::Open
    }

    /// Whether no command may be taken up now.
    #[inline]
    pub(crate) fn must_wait(&self) -> bool {
        self.ending.is_some()
            || self.broken.is_some()
            || self.busy.is_some()
            || self.pinned.is_none() && self.client.entry.is_pin_wanted()
            || self.output.is_full(self.sessions.settings.output_bytes)
            || self.waiting() >= self.window && !self.is_unread()
            || self.pinned.as_ref().is_some_and(|pinned| pinned.awaits_feed() || pinned.may_end())
            || self.pinned.as_ref().is_some_and(|pinned| pinned.stream.backlog() > READ_AHEAD)
    }

    /// From here on its client's bytes make no sense. That is told once all before is answered, and is the end.
    pub(crate) fn breaks(&mut self, error: RequestError) {
        self.broken = Some(error);
    }

    /// Whether neither its end nor an answer of our own stands before its next request.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.ending.is_none() && self.broken.is_none() && self.output.is_empty()
    }

    /// Whether no more requests are taken.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Whether it ends with what is in the output.
    pub(crate) fn is_last_output(&self) -> bool {
        self.ending.is_some() && self.replies.is_empty() && self.busy.is_none()
    }

    /// Whether nothing that was taken up is unanswered.
    pub(crate) fn is_answered(&self) -> bool {
        self.waiting() == 0 && self.busy.is_none()
    }

    /// Whether this is the end; of a client that has shut its side (`is_last`) it is, once nothing is due. If its client is to
    /// be told why, that is in the output.
    pub(crate) fn ended(&mut self, is_last: bool) -> Option<SessionEnd> {
        let shut = self.pinned.as_ref().is_some_and(|pinned| pinned.stream.is_shut());
        if shut || !self.is_answered() || !self.output.is_empty() {
            return None;
        }
        if let Some(error) = self.broken.take() {
            self.sessions.stats.protocol_errors.add(1);
            self.end();
            // CLIENT REPLY OFF silences this too.
            if !matches!(self.client.replies, ReplyMode::Off | ReplyMode::SkipNext) {
                let mut text = BytesMut::new();
                error.encode(&mut text);
                self.say_bytes(&text);
                return None;
            }
        }
        if is_last { Some(SessionEnd::Gone) } else { self.ending }
    }

    /// Its client's task is about to sleep: from here on it is woken by what is due.
    pub(crate) fn sleeps(&mut self, cx: &mut Context<'_>) {
        self.mailbox.register(cx);
        if self.round != self.sessions.recall.round() {
            self.look_back(cx);
        }
    }

    /// Whether anything is due to its client.
    pub(crate) fn owes(&self) -> bool {
        !self.is_answered() || !self.output.is_empty()
    }

    /// Whether Redis lets its client wait for something that may never come.
    pub(crate) fn is_blocked(&self) -> bool {
        self.pinned.as_ref().is_some_and(|pinned| pinned.is_blocked())
    }

    /// Whether the client has the next word. As in Redis, one that blocks or subscribes has not; one in the middle of a
    /// command has, of which a big one waits for its end and for nothing else.
    pub(crate) fn is_idle(&self) -> bool {
        let owed = self.owes();
        let Some(pinned) = &self.pinned else { return !owed };
        let uploads = pinned.is_uploading() && pinned.waiting() == 1 && self.output.is_empty();
        uploads || !owed && !pinned.is_blocked()
    }
}
