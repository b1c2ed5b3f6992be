//! A client's own connection to Redis, driven by the client's task.

use std::task::{Context, Poll};

use resp::encode_command;

use super::{Connection, LARGE_REPLY};
use crate::clock::now_ns;
use crate::front::client::Input;
use crate::front::resp::pinned::{Learned, Pinned};
use crate::front::resp::session::ReplyMode;
use crate::lanes::Answer;

/// The pin is gone, and whatever its client had there.
pub(super) struct PinLost;

impl Connection {
    /// Writes to the pin what is to be written, reads once what Redis says, and lets go of the pin when nothing is left on
    /// it. Whether anything has changed.
    ///
    /// # Errors
    /// The pin is lost.
    pub(super) fn poll_pinned(&mut self, input: &mut Input, cx: &mut Context<'_>) -> Result<bool, PinLost> {
        if input.is_last {
            // What stands behind a blocking command must follow it now, or not at all.
            self.leave_to_redis(input);
        }
        let Some(pinned) = self.pinned.as_mut() else {
            return Ok(false);
        };
        let backlog = pinned.stream.backlog();
        if let Poll::Ready(Err(_)) = pinned.stream.poll_write(cx) {
            return self.pin_lost();
        }
        if input.is_last
            && pinned.stream.backlog() == 0
            && pinned.must_end_with_its_client(input.bytes.is_empty())
        {
            // As its client has done: Redis then answers what it can at once, and takes nothing for nobody later.
            pinned.shut = true;
            if let Poll::Ready(Err(_)) = pinned.stream.poll_shutdown(cx) {
                return self.pin_lost();
            }
        }
        // Requests that waited for room may go on.
        let mut moved = backlog > 0 && pinned.stream.backlog() == 0;
        let mut room = self.front.buffers.take_input();
        let outcome = match pinned.stream.poll_read(cx, &mut room) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(count)) if count > 0 => {
                moved = true;
                self.received(&room[..count])
            }
            Poll::Ready(_) if pinned.shut => {
                if pinned.waiting() > 0 {
                    // Redis has not looked at what stands behind the command that blocks.
                    self.broken = None;
                }
                self.unpin(false);
                self.busy = None;
                self.end();
                moved = true;
                Ok(())
            }
            Poll::Ready(_) => Err(PinLost),
        };
        self.front.buffers.give_input(room);
        if outcome.is_err() {
            return self.pin_lost();
        }
        let is_wanted = self.session.entry.is_pin_wanted();
        let Some(pinned) = self.pinned.as_mut() else {
            return Ok(moved);
        };
        if is_wanted {
            // Invalidations may come to it even later: it is for nobody else.
            (pinned.fresh, pinned.used) = (false, true);
        }
        if self.ending.is_some() && pinned.waiting() == 0 && !pinned.tunnel {
            // Redis is to know before the client does.
            self.unpin(false);
        } else if pinned.is_free() && self.busy.is_none() && !is_wanted {
            let clean = !pinned.shut;
            self.unpin(clean);
            moved = true;
        }
        Ok(moved)
    }

    /// If the client is blocked: from here on Redis itself holds what the client sends, and sees its end behind that. A
    /// client that is not read from could die unseen, and what Redis pops for it would be lost. Whether that is so now.
    pub(super) fn leave_to_redis(&mut self, input: &mut Input) -> bool {
        let off = self.session.replies == ReplyMode::Off;
        let blocked = |pinned: &&mut Box<Pinned>| pinned.awaits_block() && !pinned.tunnel;
        // Within MULTI Redis would only queue that it is to be silent.
        let Some(pinned) = self.pinned.as_mut().filter(blocked).filter(|pinned| !off || !pinned.in_multi)
        else {
            return false;
        };
        if off {
            // Of which it has not been told. That it says nothing of what came before is seen to here.
            encode_command(pinned.stream.outbox(), &[b"CLIENT", b"REPLY", b"OFF"]);
        }
        pinned.stream.outbox().extend_from_slice(&input.bytes);
        pinned.become_tunnel();
        pinned.may_write |= self.front.may_change(&input.bytes);
        input.bytes.clear();
        self.broken = None;
        true
    }

    fn received(&mut self, bytes: &[u8]) -> Result<(), PinLost> {
        self.has_seen_redis();
        let Some(pinned) = self.pinned.as_mut() else {
            return Ok(());
        };
        if pinned.tunnel && pinned.may_write {
            self.front.anything()(Answer::Other);
        }
        if bytes.len() <= LARGE_REPLY {
            self.window = (self.window * 2).min(self.front.settings.pipeline);
        }
        let mut rest = bytes;
        while let Some(pinned) = self.pinned.as_mut().filter(|_| !rest.is_empty()) {
            let muted = self.mailbox.is_muted();
            let (used, learned) = pinned.receive(rest, muted, &mut self.output.bytes).map_err(|_| PinLost)?;
            rest = &rest[used..];
            if pinned.pubsub {
                let subscriptions = pinned.subscriptions();
                self.session.note(|details| details.subscriptions = subscriptions);
            }
            self.learn(learned);
        }
        Ok(())
    }

    /// The client's connection is in another database.
    pub(in crate::front::resp) fn selected(&mut self, db: u32) {
        if let Some(pinned) = self.pinned.as_mut() {
            pinned.key.db = db;
        }
        self.session.select(db);
        self.forget_lanes();
    }

    /// The client's connection is in a state that only its end undoes.
    pub(in crate::front::resp) fn keep_pin(&mut self) {
        if let Some(pinned) = self.pinned.as_mut() {
            pinned.kept = true;
        }
    }

    /// What follows from a reply for more than the pin.
    fn learn(&mut self, learned: Learned) {
        match learned {
            Learned::Nothing => {}
            Learned::Selected(db) => self.selected(db),
            Learned::CarriedOut => {
                if let Some(later) = self.pinned.as_mut().and_then(|pinned| pinned.carried_out.take()) {
                    self.carry_out(later);
                }
            }
            Learned::Tracking(on, redirect) => {
                let redirect = on.then_some(redirect.map_or(0, |redirect| redirect.own));
                self.session.note(|details| details.redirect = redirect);
            }
            Learned::Pause(pause) => self.front.registry.pauses.granted(pause, now_ns()),
            Learned::Feed(kind) => self.feed(kind),
            // What else its connection says is not for the client that it has become.
            Learned::Reset => self.reset(),
            Learned::Granted(granted) => self.judged(granted),
        }
    }

    /// Gets a pin that another client asks for: what is redirected to this one needs it. Whether anything has changed.
    pub(super) fn poll_wanted_pin(&mut self) -> bool {
        let wanted = self.session.entry.is_pin_wanted() && self.pinned.is_none() && self.ending.is_none();
        let ready = wanted && self.busy.is_none() && self.waiting() == 0;
        if ready {
            self.get_pin(false);
        }
        ready
    }

    /// The client keeps nothing on its pin any more. A clean one may serve another client.
    pub(in crate::front::resp) fn unpin(&mut self, clean: bool) {
        let Some(pinned) = self.pinned.take() else {
            return;
        };
        self.session.entry.set_upstream_id(None);
        self.session.note(|details| {
            (details.multi, details.blocked, details.subscriptions) = (None, false, [0; 3]);
            (details.redirect, details.tunnel) = (None, None);
        });
        let Pinned { stream, key, kept, used, .. } = *pinned;
        if clean && !kept && !used {
            self.front.lanes.unpin(&key, stream);
        }
    }

    /// Redis has closed the pin. What came before goes out; then the client is closed.
    fn pin_lost(&mut self) -> Result<bool, PinLost> {
        self.front.stats.lost_clients.add(1);
        self.unpin(false);
        self.busy = None;
        if self.output.is_empty() {
            return Err(PinLost);
        }
        self.end();
        Ok(true)
    }
}
