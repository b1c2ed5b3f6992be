//! What a front asks of a session between requests: to go on, and how it stands.

use std::task::Context;

use super::client_state::ReplyMode;
use super::deferred::begun;
use super::outgoing::SessionEnd;
use super::pin::{Learned, PinLost, Progress};
use super::ways::Ways;
use super::{READ_AHEAD, Session, Untaken};
use crate::lanes::{LARGE_REPLY, MailboxState};

impl Session {
    /// The task that serves the client is woken by what others do to it.
    pub(crate) fn start(&mut self, cx: &mut Context<'_>) {
        self.ways.client.entry.register(cx);
    }

    /// Its client has sent something, or shut its side.
    pub(crate) fn arrived(&mut self, now_ns: u64) {
        self.ways.reading.turn_ns = now_ns;
        self.ways.client.entry.touch(now_ns);
    }

    /// Requests are looked at again, at `now_ns`.
    pub(crate) fn looks_again(&mut self, now_ns: u64) {
        self.ways.reading.turn_ns = now_ns;
    }

    /// What came for the client meanwhile goes to the output. An end that overtakes all else.
    #[inline]
    pub(crate) fn collect(&mut self) -> Option<SessionEnd> {
        let Session { ways, at_hand } = self;
        if !ways.client.entry.is_let_alone() && ways.is_ended_by_others() {
            return Some(SessionEnd::Gone);
        }
        if ways.out.mailbox.has_news() {
            if let Some(end) = ways.out.overflow(&ways.client.entry.address) {
                return Some(end);
            }
            ways.collect(at_hand.hearing());
            ways.out.times.came(ways.out.replies.left_number());
        }
        None
    }

    /// Goes on with whatever is under way; what is answered by now goes to the output, as much as fits. Whether anything moved.
    ///
    /// # Errors
    /// The end of a client that can get no answer any more.
    #[inline]
    pub(crate) fn go_on(&mut self, untaken: Untaken<'_>, cx: &mut Context<'_>) -> Result<bool, SessionEnd> {
        if self.ways.is_at_rest() && !self.at_hand.is_busy() {
            return Ok(false);
        }
        let mailbox = &self.ways.out.mailbox;
        if mailbox.state() == MailboxState::Lost && mailbox.len() == 0 {
            return Err(SessionEnd::Gone);
        }
        let moved = self.poll_pin(untaken, cx).map_err(|_| SessionEnd::Gone)?;
        let Session { ways, at_hand } = self;
        ways.lanes.go_on(cx);
        let moved = moved | ways.poll_reads(cx) | at_hand.poll(ways, cx) | at_hand.get_wanted_pin(ways);
        ways.out.times.came(ways.out.replies.left_number());
        Ok(moved)
    }

    /// Writes to the pin what is to be written, reads once what Redis says, and lets go of the pin when nothing is left on
    /// it. Whether anything has changed.
    ///
    /// # Errors
    /// The pin is lost, and nothing is left to be said before its client is closed.
    fn poll_pin(&mut self, untaken: Untaken<'_>, cx: &mut Context<'_>) -> Result<bool, PinLost> {
        if untaken.is_last {
            // What stands behind a blocking command must follow it now, or not at all.
            self.ways.leave_to_redis(untaken.bytes);
            if self.at_hand.leaves_nodes() {
                // As Redis does with a client that waits.
                self.ways.out.vanish();
            }
        }
        let Some(pinned) = self.ways.pin.pinned.as_mut() else {
            return Ok(false);
        };
        let buffers = self.ways.sessions.buffers.clone();
        let mut room = buffers.take_input();
        let progress = pinned.poll(cx, untaken.is_last.then_some(untaken.bytes.is_empty()), &mut room);
        let outcome = match progress {
            Ok(Progress::Bytes(count)) => self.received(&room[..count]),
            Ok(Progress::End) => {
                self.pin_ended();
                Ok(())
            }
            Ok(Progress::Nothing | Progress::Room) => Ok(()),
            Err(PinLost) => Err(PinLost),
        };
        buffers.give_input(room);
        match outcome {
            Ok(()) => {
                let is_let_go = self.ways.let_go(self.at_hand.is_busy());
                Ok(is_let_go || !matches!(progress, Ok(Progress::Nothing)))
            }
            Err(_) => self.pin_lost(),
        }
    }

    /// Redis has said this on the pin.
    fn received(&mut self, bytes: &[u8]) -> Result<(), PinLost> {
        let Session { ways, at_hand } = self;
        ways.reading.has_seen_redis();
        if bytes.len() <= LARGE_REPLY {
            ways.out.widen();
        }
        let mut rest = bytes;
        while ways.pin.is_held() && !rest.is_empty() {
            let (used, learned) = ways.receive(rest)?;
            rest = &rest[used..];
            match learned {
                Learned::Granted(granted) => at_hand.judged(granted, ways),
                Learned::Begun(refusal) => begun(at_hand, refusal, ways),
                Learned::SentOn(to, asks) => at_hand.send_elsewhere(to, asks, ways),
                learned => ways.learn(learned),
            }
        }
        Ok(())
    }

    /// Redis has closed the pin behind its answers, as the client has shut its side.
    fn pin_ended(&mut self) {
        if self.ways.pin.waiting() > 0 {
            // Redis has not looked at what stands behind the command that blocks.
            self.ways.out.mends();
        }
        self.ways.unpin(false);
        self.at_hand.give_up();
        self.ways.out.end();
    }

    /// Redis has closed the pin. What came before goes out; then the client is closed.
    fn pin_lost(&mut self) -> Result<bool, PinLost> {
        self.ways.sessions.stats.lost_clients.add(1);
        if let Some(pinned) = &self.ways.pin.pinned {
            pinned.stream.doubt();
        }
        self.ways.unpin(false);
        self.at_hand.give_up();
        if self.ways.out.output.is_empty() {
            return Err(PinLost);
        }
        self.ways.out.end();
        Ok(true)
    }

    /// Whether no command may be taken up now.
    #[inline]
    pub(crate) fn must_wait(&self) -> bool {
        let Session { ways, at_hand } = self;
        let of_pin = || match ways.pin.is_held() {
            true => ways.pin.must_wait(READ_AHEAD),
            false => ways.client.entry.is_pin_wanted(),
        };
        !ways.out.takes_more()
            || at_hand.is_busy()
            || ways.out.is_full()
            || ways.out.is_window_full() && !ways.pin.is_unread()
            || of_pin()
    }

    /// Whether it ends with what is in the output.
    pub(crate) fn is_last_output(&self) -> bool {
        self.ways.out.is_ending() && self.is_answered()
    }

    /// Whether nothing that was taken up is unanswered.
    pub(crate) fn is_answered(&self) -> bool {
        self.ways.out.replies.is_empty() && !self.at_hand.is_busy()
    }

    /// Whether this is the end; of a client that has shut its side (`is_last`) it is, once nothing is due. If its client is to
    /// be told why, that is in the output.
    pub(crate) fn ended(&mut self, is_last: bool) -> Option<SessionEnd> {
        let shut = self.ways.pin.pinned.as_ref().is_some_and(|pinned| pinned.stream.is_shut());
        if shut || !self.is_answered() {
            return None;
        }
        // CLIENT REPLY OFF silences this too.
        let silent = matches!(self.ways.client.replies, ReplyMode::Off | ReplyMode::SkipNext);
        self.ways.out.ended(is_last, silent)
    }

    /// Its client's task is about to sleep: from here on it is woken by what is due.
    pub(crate) fn sleeps(&mut self, cx: &mut Context<'_>) {
        let Ways { reading, out, .. } = &mut self.ways;
        out.mailbox.register(cx);
        if out.mailbox.has_mail() {
            // It came when nobody was to be woken: a lane that refuses does so at once.
            cx.waker().wake_by_ref();
        }
        reading.look_back(|| out.replies.reads().next().is_some(), cx);
    }

    /// Whether anything is due to its client.
    pub(crate) fn owes(&self) -> bool {
        !self.is_answered() || !self.ways.out.output.is_empty()
    }

    /// Whether the client has the next word. As in Redis, one that blocks or subscribes has not; one in the middle of a
    /// command has, of which a big one waits for its end and for nothing else.
    pub(crate) fn is_idle(&self) -> bool {
        let (owed, pin) = (self.owes(), &self.ways.pin);
        let uploads = pin.is_uploading() && pin.waiting() == 1 && self.ways.out.output.is_empty();
        uploads || !owed && !pin.is_blocked()
    }
}
