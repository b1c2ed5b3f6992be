//! What goes to the client's own connection without being taken for whole requests: big ones as they come, and tunnels.

use resp::{Arguments, Frame, encode_command};

use super::Session;
use super::changes::duty_of_part;
use super::client_state::ReplyMode;
use super::expect::Feed;
use super::pin::Monitored;
use super::plan::may_stream;
use super::registry::Tunnel;
use super::replies::{NodeId, Via};
use crate::lanes::Request;

impl Session {
    /// From here on the client's bytes and those of its pin are not looked at. Nothing is on its way.
    pub(super) fn tunnel(&mut self, request: Request<'_>) -> bool {
        let Some(pinned) = self.pinned.as_mut() else {
            return false;
        };
        // Redis is to be as silent as the client has asked us to be; within MULTI it would only queue that.
        let silence: &[&[u8]] = match self.client.replies {
            ReplyMode::Off if pinned.state.transaction.sent().is_none() => &[b"CLIENT", b"REPLY", b"OFF"],
            ReplyMode::Skipping if pinned.state.transaction.sent().is_none() => {
                &[b"CLIENT", b"REPLY", b"SKIP"]
            }
            _ => &[],
        };
        if !silence.is_empty() {
            encode_command(pinned.stream.outbox(), silence);
        }
        request.write(pinned.stream.outbox());
        pinned.become_tunnel(None);
        self.client.note(|details| details.tunnel = Some(Tunnel::Any));
        self.sessions.stats.tunnels.add(1);
        true
    }

    /// Redis has taken a MONITOR, or a replica: from here on nothing that it says answers a request.
    pub(super) fn feed(&mut self, feed: Feed) {
        // That was the silent one.
        if self.client.replies == ReplyMode::Skipping {
            self.client.replies = ReplyMode::On;
            self.mailbox.mute(false);
        }
        if let Some(pinned) = self.pinned.as_mut() {
            pinned.become_tunnel(Some(feed));
        }
        let tunnel = match feed {
            Feed::Monitor => Tunnel::Monitor,
            Feed::Replica => Tunnel::Replica,
        };
        self.client.note(|details| details.tunnel = Some(tunnel));
        self.sessions.stats.tunnels.add(1);
    }

    /// The next request of a client that watches by MONITOR.
    fn monitor(&mut self, bytes: &[u8]) -> Monitored {
        let Some(pinned) = self.pinned.as_mut() else { return Monitored::No };
        let (front, settings) = (&self.sessions, &self.sessions.settings);
        let may_change = |request: &[u8]| front.may_change(request);
        pinned.monitor(bytes, settings.limits, settings.big_request_bytes, may_change)
    }

    /// Whether a request that is not whole may be sent on as it comes. If not yet, the connection for it is on its way.
    pub(crate) fn may_stream(&mut self, arguments: Arguments<'_>) -> bool {
        if let Some(text) = self.refused.take() {
            // Its rest would be taken for other commands.
            self.say(&Frame::Error(text));
            self.end();
            return false;
        }
        if !self.client.admitted || !may_stream(&self.sessions.commands.borrow(), arguments) {
            return false;
        }
        if self.pinned.is_none() && self.waiting() == 0 {
            self.get_pin(false);
        }
        self.pinned.is_some()
    }

    /// Whether a request goes to the pin in parts.
    pub(crate) fn is_uploading(&self) -> bool {
        self.pinned.as_ref().is_some_and(|pinned| pinned.is_uploading())
    }

    /// Whether what the client sends goes on as it comes.
    pub(super) fn is_unread(&self) -> bool {
        self.pinned.as_ref().is_some_and(|pinned| pinned.is_uploading() || pinned.is_tunnel())
    }

    /// The request at hand does from now on.
    pub(crate) fn start_upload(&mut self, arguments: Arguments<'_>) {
        let front = &self.sessions;
        let duty = duty_of_part(&front.commands.borrow(), arguments, &mut front.keys.borrow_mut());
        if let Some(pinned) = self.pinned.as_mut() {
            pinned.start_upload(duty);
            self.replies.owes(NodeId::FIRST, Via::Pin, pinned.waiting());
            self.sessions.stats.pinned_commands.add(1);
        }
    }

    /// The next part.
    pub(crate) fn part(&mut self, bytes: &[u8], last: bool) {
        if let Some(pinned) = self.pinned.as_mut() {
            pinned.upload(bytes, last);
        }
    }

    /// Whether the client's bytes go to its pin without being taken for requests.
    #[inline]
    pub(crate) fn is_unparsed(&self) -> bool {
        self.pinned.as_ref().is_some_and(|pinned| pinned.is_tunnel())
    }

    /// How many of these bytes went so. `None` if more of them must be here first.
    pub(crate) fn pass_unparsed(&mut self, bytes: &[u8]) -> Option<usize> {
        match self.monitor(bytes) {
            Monitored::Request(len) => return Some(len),
            Monitored::Half => return None,
            Monitored::No => {}
        }
        let pinned = self.pinned.as_mut()?;
        pinned.send_unread(bytes, self.sessions.may_change(bytes));
        Some(bytes.len())
    }
}
