//! The place of a client's own connection to Redis: empty, but for those who need one.

use std::rc::Rc;
use std::sync::Arc;

use resp::encode_command;

use super::client_state::ReplyMode;
use super::expect::{Expect, Feed};
use super::kept::KeptCommand;
use super::pin::{Monitored, Pinned, ReplyMeaning};
use super::plan::Stage;
use super::registry::{Entry, Tunnel};
use super::sessions::Sessions;
use super::steward::Steward;
use crate::lanes::{Destination, Duty, LaneKey, PinStream, Pinning, Request};

/// What goes before a WAIT, so that its connection has written (Redis 7.0: WAIT counts the replicas that have what its own
/// connection wrote last). Nobody listens there.
const PROBE: &[u8] = b"*3\r\n$7\r\nPUBLISH\r\n$20\r\n__redis_proxy_wait__\r\n$0\r\n\r\n";

/// A client's pin, while it has one. The register of clients shows what it does there.
pub(crate) struct OwnPin {
    sessions: Rc<Sessions>,
    entry: Arc<Entry>,
    /// Does the duties of its commands.
    steward: Rc<Steward>,
    pub(super) pinned: Option<Box<Pinned>>,
}

impl OwnPin {
    pub(super) fn new(sessions: Rc<Sessions>, entry: Arc<Entry>, steward: Rc<Steward>) -> Self {
        OwnPin { sessions, entry, steward, pinned: None }
    }

    /// Starts to get one, for a command that may block or not.
    pub(super) fn open(&self, key: LaneKey, blocks: bool) -> Pinning {
        match blocks {
            true => self.sessions.lanes.pin_in_turn(key),
            false => self.sessions.lanes.pin(key),
        }
    }

    /// Takes one that is left over, if there is one.
    pub(super) fn take_spare(&mut self, key: &LaneKey) -> bool {
        let Some(stream) = self.sessions.lanes.spare_pin(key) else {
            return false;
        };
        self.hold(stream, key.clone());
        true
    }

    /// This is the client's from now on.
    pub(super) fn hold(&mut self, stream: PinStream, key: LaneKey) {
        self.entry.set_pin(stream.upstream_id.map(|id| (key.to, id)));
        self.pinned = Some(Pinned::new(stream, key, self.steward.clone()));
    }

    /// The client keeps nothing on it any more. A clean one may serve another client.
    pub(super) fn unpin(&mut self, clean: bool) {
        let Some(pinned) = self.pinned.take() else {
            return;
        };
        self.entry.set_pin(None);
        let mut details = self.entry.details.lock();
        (details.multi, details.blocked, details.subscriptions) = (None, false, [0; 3]);
        (details.redirect, details.tunnel) = (None, None);
        drop(details);
        if let Some((key, stream)) = pinned.release().filter(|_| clean) {
            self.sessions.lanes.unpin(&key, stream);
        }
    }

    /// Sends a command whose reply means this, with what must be done before that reply is passed on. Nothing without a pin.
    pub(super) fn send(&mut self, request: Request<'_>, awaited: ReplyMeaning, duty: Option<Duty>) {
        let Some(pinned) = self.pinned.as_mut() else {
            return;
        };
        request.write(pinned.stream.outbox());
        let blocked = matches!(awaited, ReplyMeaning::Planned(Expect::Blocked));
        if let ReplyMeaning::Planned(expect @ (Expect::Blocked | Expect::Subscribed(_))) = awaited
            && pinned.stream.is_of_cluster()
        {
            let kept = (pinned.waiting() == 0).then(|| KeptCommand::new(request, expect));
            pinned.kept = kept.map(Box::new);
        }
        pinned.expect(awaited, duty);
        let multi = pinned.state.transaction.sent();
        let mut details = self.entry.details.lock();
        (details.multi, details.blocked) = (multi, blocked);
        drop(details);
        self.sessions.stats.pinned_commands.add(1);
    }

    /// Sends what has its connection write, before a WAIT.
    pub(super) fn probe(&mut self) {
        if let Some(pinned) = self.pinned.as_mut() {
            pinned.stream.outbox().extend_from_slice(PROBE);
            pinned.expect(Expect::Probe.into(), None);
        }
    }

    /// From here on the client's bytes and those of its pin are not looked at. Nothing is on its way. False without a pin.
    pub(super) fn tunnel(&mut self, request: Request<'_>, replies: ReplyMode) -> bool {
        let Some(pinned) = self.pinned.as_mut() else {
            return false;
        };
        // Redis is to be as silent as the client has asked us to be; within MULTI it would only queue that.
        let silence: &[&[u8]] = match replies {
            ReplyMode::Off if !pinned.state.is_in_multi() => &[b"CLIENT", b"REPLY", b"OFF"],
            ReplyMode::Skipping if !pinned.state.is_in_multi() => &[b"CLIENT", b"REPLY", b"SKIP"],
            _ => &[],
        };
        if !silence.is_empty() {
            encode_command(pinned.stream.outbox(), silence);
        }
        request.write(pinned.stream.outbox());
        pinned.become_tunnel(None);
        self.note_tunnel(Tunnel::Any);
        true
    }

    /// Redis has taken a MONITOR, or a replica: from here on nothing that it says answers a request.
    pub(super) fn feed(&mut self, feed: Feed) {
        if let Some(pinned) = self.pinned.as_mut() {
            pinned.become_tunnel(Some(feed));
        }
        self.note_tunnel(match feed {
            Feed::Monitor => Tunnel::Monitor,
            Feed::Replica => Tunnel::Replica,
        });
    }

    fn note_tunnel(&self, tunnel: Tunnel) {
        self.entry.details.lock().tunnel = Some(tunnel);
        self.sessions.stats.tunnels.add(1);
    }

    /// If the client is blocked: from here on Redis itself holds what the client sends, and sees its end behind that. A
    /// client that is not read from could die unseen, and what Redis pops for it would be lost. Whether that is so now.
    pub(super) fn leave_to_redis(&mut self, untaken: &mut Vec<u8>, replies: ReplyMode) -> bool {
        let off = replies == ReplyMode::Off;
        let blocked = |pinned: &&mut Box<Pinned>| pinned.awaits_block() && !pinned.is_tunnel();
        // Within MULTI Redis would only queue that it is to be silent.
        let may = |pinned: &&mut Box<Pinned>| !off || !pinned.state.is_in_multi();
        let Some(pinned) = self.pinned.as_mut().filter(blocked).filter(may) else {
            return false;
        };
        if off {
            // Of which it has not been told. That it says nothing of what came before is seen to here.
            encode_command(pinned.stream.outbox(), &[b"CLIENT", b"REPLY", b"OFF"]);
        }
        pinned.become_tunnel(None);
        pinned.send_unread(untaken, self.sessions.may_change(untaken));
        untaken.clear();
        true
    }

    /// Whether a request goes there in parts.
    pub(crate) fn is_uploading(&self) -> bool {
        self.pinned.as_ref().is_some_and(|pinned| pinned.is_uploading())
    }

    /// The next part.
    pub(crate) fn part(&mut self, bytes: &[u8], last: bool) {
        if let Some(pinned) = self.pinned.as_mut() {
            pinned.upload(bytes, last);
        }
    }

    /// Whether the client's bytes go there without being taken for requests.
    #[inline]
    pub(crate) fn is_tunnel(&self) -> bool {
        self.pinned.as_ref().is_some_and(|pinned| pinned.is_tunnel())
    }

    /// How many of these bytes went so. `None` if more of them must be here first.
    pub(crate) fn pass_unparsed(&mut self, bytes: &[u8]) -> Option<usize> {
        let pinned = self.pinned.as_mut()?;
        let (sessions, sizes) = (&self.sessions, self.sessions.sizes.get());
        let may_change = |request: &[u8]| sessions.may_change(request);
        match pinned.monitor(bytes, sizes.limits(), sizes.big_bytes, may_change) {
            Monitored::Request(len) => return Some(len),
            Monitored::Half => return None,
            Monitored::No => {}
        }
        pinned.send_unread(bytes, sessions.may_change(bytes));
        Some(bytes.len())
    }

    /// Whether Redis lets its client wait there for something that may never come.
    pub(crate) fn is_blocked(&self) -> bool {
        self.pinned.as_ref().is_some_and(|pinned| pinned.is_blocked())
    }

    /// Whether a command that blocks is on its way there.
    pub(super) fn awaits_block(&self) -> bool {
        self.pinned.as_ref().is_some_and(|pinned| pinned.awaits_block())
    }

    /// Whether what the client sends goes on as it comes.
    #[inline(never)]
    pub(super) fn is_unread(&self) -> bool {
        self.pinned.as_ref().is_some_and(|pinned| pinned.is_uploading() || pinned.is_tunnel())
    }

    pub(super) fn is_held(&self) -> bool {
        self.pinned.is_some()
    }

    /// Where it leads, if there is one.
    pub(super) fn to(&self) -> Option<Destination> {
        self.pinned.as_ref().map(|pinned| pinned.key.to)
    }

    /// Whether nothing is on its way on it, and its client has begun nothing there.
    pub(super) fn is_unused(&self) -> bool {
        self.pinned.as_ref().is_some_and(|pinned| pinned.is_unused())
    }

    /// Whether Redis is to queue the next command.
    pub(super) fn is_in_multi(&self) -> bool {
        self.pinned.as_ref().is_some_and(|pinned| pinned.state.is_in_multi())
    }

    /// What its client has begun there, who speaks RESP3 or not; `None` without a pin.
    #[inline]
    pub(super) fn stage(&self, resp3: bool) -> Option<Stage> {
        self.pinned.as_ref().map(|pinned| pinned.stage(resp3))
    }

    /// Commands on their way there.
    pub(super) fn waiting(&self) -> usize {
        self.pinned.as_ref().map_or(0, |pinned| pinned.waiting())
    }

    /// Whether no command may be taken up, because of what is on its way there, or because more than this has not left. Apart, so
    /// that the question costs little where there is no pin.
    #[inline(never)]
    pub(super) fn must_wait(&self, backlog: usize) -> bool {
        self.pinned.as_ref().is_some_and(|pinned| {
            pinned.awaits_feed()
                || pinned.may_end()
                || pinned.kept.as_ref().is_some_and(|kept| kept.is_uploaded())
                || pinned.stream.backlog() > backlog
        })
    }

    /// It is what the client has become.
    pub(super) fn follow(&mut self, key: &LaneKey) {
        if let Some(pinned) = self.pinned.as_mut() {
            pinned.key = key.at(pinned.key.to);
        }
    }

    /// It is in a state that only its end undoes.
    pub(super) fn keep(&mut self) {
        if let Some(pinned) = self.pinned.as_mut() {
            pinned.state.keep();
        }
    }
}
