//! A client's own connection to Redis, driven by the client's task.

use std::task::Context;

use resp::encode_command;

use super::Session;
use super::client_state::ReplyMode;
use super::pin::{Learned, PinLost, Pinned, Progress};
use super::progress::Untaken;
use super::replies::{NodeId, Via};
use crate::clock::now_ns;
use crate::lanes::LARGE_REPLY;

impl Session {
    /// Writes to the pin what is to be written, reads once what Redis says, and lets go of the pin when nothing is left on
    /// it. Whether anything has changed.
    ///
    /// # Errors
    /// The pin is lost.
    pub(super) fn poll_pinned(
        &mut self,
        untaken: Untaken<'_>,
        cx: &mut Context<'_>,
    ) -> Result<bool, PinLost> {
        if untaken.is_last {
            // What stands behind a blocking command must follow it now, or not at all.
            self.leave_to_redis(untaken.bytes);
        }
        let Some(pinned) = self.pinned.as_mut() else {
            return Ok(false);
        };
        let mut room = self.sessions.buffers.take_input();
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
        self.sessions.buffers.give_input(room);
        match outcome {
            Ok(()) => Ok(self.let_go() || !matches!(progress, Ok(Progress::Nothing))),
            Err(_) => self.pin_lost(),
        }
    }

    /// Redis has closed the pin behind its answers, as the client has shut its side.
    fn pin_ended(&mut self) {
        if self.pinned.as_ref().is_some_and(|pinned| pinned.waiting() > 0) {
            // Redis has not looked at what stands behind the command that blocks.
            self.broken = None;
        }
        self.unpin(false);
        self.busy = None;
        self.end();
    }

    /// Lets go of a pin on which nothing is left. Whether that makes room for requests.
    fn let_go(&mut self) -> bool {
        let is_wanted = self.client.entry.is_pin_wanted();
        let Some(pinned) = self.pinned.as_mut() else {
            return false;
        };
        if is_wanted {
            pinned.set_aside();
        }
        if self.ending.is_some() && pinned.waiting() == 0 && !pinned.is_tunnel() {
            // Redis is to know before the client does.
            self.unpin(false);
            return false;
        }
        let is_free = pinned.is_free() && self.busy.is_none() && !is_wanted;
        if is_free {
            self.unpin(true);
        }
        is_free
    }

    /// If the client is blocked: from here on Redis itself holds what the client sends, and sees its end behind that. A
    /// client that is not read from could die unseen, and what Redis pops for it would be lost. Whether that is so now.
    pub(crate) fn leave_to_redis(&mut self, untaken: &mut Vec<u8>) -> bool {
        let off = self.client.replies == ReplyMode::Off;
        let blocked = |pinned: &&mut Box<Pinned>| pinned.awaits_block() && !pinned.is_tunnel();
        let is_open = |pinned: &&mut Box<Pinned>| pinned.state.transaction.sent().is_some();
        // Within MULTI Redis would only queue that it is to be silent.
        let Some(pinned) = self.pinned.as_mut().filter(blocked).filter(|pinned| !off || !is_open(pinned))
        else {
            return false;
        };
        if off {
            // Of which it has not been told. That it says nothing of what came before is seen to here.
            encode_command(pinned.stream.outbox(), &[b"CLIENT", b"REPLY", b"OFF"]);
        }
        pinned.become_tunnel(None);
        pinned.send_unread(untaken, self.sessions.may_change(untaken));
        untaken.clear();
        self.broken = None;
        true
    }

    fn received(&mut self, bytes: &[u8]) -> Result<(), PinLost> {
        self.has_seen_redis();
        if self.pinned.is_none() {
            return Ok(());
        }
        if bytes.len() <= LARGE_REPLY {
            self.window = (self.window * 2).min(self.sessions.settings.pipeline);
        }
        let mut rest = bytes;
        while let Some(pinned) = self.pinned.as_mut().filter(|_| !rest.is_empty()) {
            let muted = self.mailbox.is_muted();
            let (used, learned) = pinned.receive(rest, muted, &mut self.output.bytes).map_err(|_| PinLost)?;
            rest = &rest[used..];
            self.replies.owes(NodeId::FIRST, Via::Pin, pinned.waiting());
            if let Some(subscriptions) = pinned.state.subscriptions() {
                self.client.note(|details| details.subscriptions = subscriptions);
            }
            self.learn(learned);
        }
        Ok(())
    }

    /// The client's connection is in another database.
    pub(super) fn selected(&mut self, db: u32) {
        if let Some(pinned) = self.pinned.as_mut() {
            pinned.key.db = db;
        }
        self.client.select(db);
        self.forget_lanes();
    }

    /// The client's connection is in a state that only its end undoes.
    pub(super) fn keep_pin(&mut self) {
        if let Some(pinned) = self.pinned.as_mut() {
            pinned.state.keep();
        }
    }

    /// What follows from a reply for more than the pin.
    fn learn(&mut self, learned: Learned) {
        match learned {
            Learned::Nothing => {}
            Learned::Selected(db) => self.selected(db),
            Learned::CarriedOut(later) => self.carry_out(later),
            Learned::Tracks(redirect) => self.client.note(|details| details.redirect = redirect),
            Learned::Pause(pause) => self.sessions.registry.pauses.granted(pause, now_ns()),
            Learned::Feed(feed) => self.feed(feed),
            // What else its connection says is not for the client that it has become.
            Learned::Reset => self.reset(),
            Learned::Granted(granted) => self.judged(granted),
        }
    }

    /// Gets a pin that another client asks for: what is redirected to this one needs it. Whether anything has changed.
    pub(super) fn poll_wanted_pin(&mut self) -> bool {
        let wanted = self.client.entry.is_pin_wanted() && self.pinned.is_none() && self.ending.is_none();
        let ready = wanted && self.busy.is_none() && self.waiting() == 0;
        if ready {
            self.get_pin(false);
        }
        ready
    }

    /// The client keeps nothing on its pin any more. A clean one may serve another client.
    pub(super) fn unpin(&mut self, clean: bool) {
        let Some(pinned) = self.pinned.take() else {
            return;
        };
        self.replies.owes(NodeId::FIRST, Via::Pin, 0);
        self.client.entry.set_upstream_id(None);
        self.client.note(|details| {
            (details.multi, details.blocked, details.subscriptions) = (None, false, [0; 3]);
            (details.redirect, details.tunnel) = (None, None);
        });
        if let Some((key, stream)) = pinned.release().filter(|_| clean) {
            self.sessions.lanes.unpin(&key, stream);
        }
    }

    /// Redis has closed the pin. What came before goes out; then the client is closed.
    fn pin_lost(&mut self) -> Result<bool, PinLost> {
        self.sessions.stats.lost_clients.add(1);
        self.unpin(false);
        self.busy = None;
        if self.output.is_empty() {
            return Err(PinLost);
        }
        self.end();
        Ok(true)
    }
}
