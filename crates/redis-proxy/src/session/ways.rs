//! The ways that a client's commands go, beside who it is and what is due to it: shared lanes, its own connection, the cache.
//!
//! **Order.** What is due is due on one way at a time, so that replies come in the order of the commands
//! ([`Replies::may_go`](super::replies::Replies::may_go)): what is sent here is sent only if its way is free.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;

use bytes::BytesMut;
use command::Slot;
use resp::{Arguments, Frame, encode_command};

use super::client_lanes::ClientLanes;
use super::client_state::{ClientState, ReplyMode};
use super::expect::{Expect, Feed};
use super::outgoing::{Outgoing, SessionEnd};
use super::own_pin::OwnPin;
use super::pin::ReplyMeaning;
use super::plan::Call;
use super::reading::Reading;
use super::reads::{ReadCall, TakenRead};
use super::registry::Entry;
use super::replies::{Replies, Via};
use super::sessions::Sessions;
use super::steward::Steward;
use crate::lanes::{Duty, Mailbox, MailboxState, Pace, Request};

/// Who a client is, the ways that its commands go, and what is due to it. What a command means is not known here.
pub(crate) struct Ways {
    pub(super) sessions: Rc<Sessions>,
    pub(super) client: ClientState,
    pub(super) out: Outgoing,
    pub(super) lanes: ClientLanes,
    pub(super) pin: OwnPin,
    pub(super) reading: Reading,
}

impl Drop for Ways {
    fn drop(&mut self) {
        // Whoever has killed it is told that both its connections are closed: the client's own is by now.
        self.pin.pinned = None;
        self.out.mailbox.leave();
        self.sessions.registry.leave(&self.client.entry);
        // Nobody takes what was fetched for it.
        self.out.replies = Replies::default();
        self.sessions.readers.released();
    }
}

impl Ways {
    /// Of a client that has just come, and is on the register.
    pub(super) fn new(sessions: Rc<Sessions>, entry: Arc<Entry>, ip: Option<IpAddr>) -> Self {
        let steward = Steward::new(sessions.effects.clone());
        let settings = &sessions.settings;
        let mailbox = Mailbox::new(sessions.limits.unread_bytes.clone(), &sessions.bounds, steward.clone());
        let mailbox = Rc::new(mailbox);
        Ways {
            client: ClientState::new(sessions.identity.clone(), settings.as_proxy, entry.clone(), ip),
            out: Outgoing::new(sessions.clone(), mailbox.clone(), entry.clone()),
            lanes: ClientLanes::new(sessions.clone(), mailbox),
            pin: OwnPin::new(sessions.clone(), entry, steward.clone()),
            reading: Reading::new(sessions.clone(), steward),
            sessions,
        }
    }

    /// Onto a shared lane, with a duty if it changes anything.
    pub(super) fn share_with_duty(
        &mut self,
        call: &Call<'_>,
        pace: Pace,
        request: Request<'_>,
        slot: Option<Slot>,
        cx: &mut Context<'_>,
    ) -> bool {
        if !self.out.replies.may_go(Via::Lane(pace)) {
            return false;
        }
        let duty = self.sessions.duty(call);
        self.share(request, pace, slot, call.may_repeat(), duty, cx)
    }

    /// Onto a shared lane, if no other way owes replies: to the node that has `slot`, or home. `read` if it may be sent twice.
    #[inline]
    pub(super) fn share(
        &mut self,
        request: Request<'_>,
        pace: Pace,
        slot: Option<Slot>,
        read: bool,
        duty: Option<Duty>,
        cx: &mut Context<'_>,
    ) -> bool {
        let via = Via::Lane(pace);
        let sent = self.out.replies.may_go(via)
            && self.lanes.send(&self.client.key, slot, request, pace, read, duty, cx);
        if sent {
            self.out.replies.sent(via);
        }
        sent
    }

    /// A GET of a client that may read at once. None if it is Redis' to answer, as any command is; else whether it is taken up.
    #[inline]
    pub(super) fn get(&mut self, read: ReadCall<'_>) -> Option<bool> {
        let Ways { reading, client, out, .. } = self;
        let reader = reading.may_be_cached(read, client)?;
        client.calls("get");
        match reading.read(read, &reader, client, out) {
            TakenRead::Yes => Some(true),
            TakenRead::Wait => Some(false),
            TakenRead::ToLane => None,
        }
    }

    /// From the cache, if that is a way for this read; else along a shared lane. False if it must wait.
    #[inline]
    pub(super) fn read(
        &mut self,
        read: ReadCall<'_>,
        call: &Call<'_>,
        slot: Option<Slot>,
        cx: &mut Context<'_>,
    ) -> bool {
        let Ways { reading, client, out, .. } = self;
        let Some(reader) = reading.may_be_cached(read, client) else {
            reading.note_passed(read, client);
            return self.share_with_duty(call, Pace::Quick, read.request, slot, cx);
        };
        match reading.read(read, &reader, client, out) {
            TakenRead::Yes => true,
            TakenRead::Wait => false,
            TakenRead::ToLane => self.share(read.request, Pace::Quick, slot, true, None, cx),
        }
    }

    /// Moves the answers of reads that are here to the output, in order. Whether any moved.
    pub(super) fn poll_reads(&mut self, cx: &mut Context<'_>) -> bool {
        self.reading.poll_reads(&self.client, &mut self.out, &mut self.lanes, cx)
    }

    /// Onto the pin, if there is one. Whether there is.
    pub(super) fn send_pinned(
        &mut self,
        request: Request<'_>,
        awaited: ReplyMeaning,
        duty: Option<Duty>,
    ) -> bool {
        self.pin.send(request, awaited, duty);
        self.out.pin_owes(self.pin.waiting());
        self.pin.is_held()
    }

    /// Onto the pin, as a command whose reply means nothing. Whether there is one.
    pub(super) fn pass_to_pin(&mut self, request: Request<'_>) -> bool {
        self.send_pinned(request, Expect::Reply.into(), None)
    }

    /// A command of which only Redis knows what it answers, although it is about the client. Nothing is on its way.
    pub(super) fn pass_on(&mut self, request: Request<'_>, cx: &mut Context<'_>) -> bool {
        self.pass_to_pin(request) || self.share(request, Pace::Quick, None, false, None, cx)
    }

    /// Asks on the client's own connection for what Redis grants or not: to be somebody else, or to do something. False if it
    /// has none.
    pub(super) fn ask_grant(&mut self, words: &[&[u8]]) -> bool {
        let mut bytes = BytesMut::new();
        encode_command(&mut bytes, words);
        self.send_pinned(Request::Raw(&bytes), Expect::Granted.into(), None)
    }

    /// The request at hand goes to the pin as it comes from now on. Its time is measured from here, with the `arguments` that are known.
    pub(crate) fn start_upload(&mut self, arguments: Arguments<'_>) {
        let duty = self.sessions.duty_of_part(arguments);
        if let Some(pinned) = self.pin.pinned.as_mut() {
            pinned.start_upload(duty, &self.sessions.bounds);
            self.out.pin_owes(pinned.waiting());
            self.sessions.stats.pinned_commands.add(1);
            let number = Some(self.out.replies.last_number());
            self.out.times.taken_up(number, Request::Encoded(arguments), arguments, self.reading.turn_ns);
        }
    }

    /// If the client is blocked: from here on Redis itself holds what it sends. Whether that is so now. Not where one node of several
    /// would hold what is for others.
    pub(crate) fn leave_to_redis(&mut self, untaken: &mut Vec<u8>) -> bool {
        if self.sessions.in_cluster && !untaken.is_empty() {
            return false;
        }
        let is_left = self.pin.leave_to_redis(untaken, self.client.replies);
        if is_left {
            self.out.mends();
        }
        is_left
    }

    /// Redis has taken a MONITOR, or a replica.
    pub(super) fn feed(&mut self, feed: Feed) {
        // That was the silent one.
        if self.client.replies == ReplyMode::Skipping {
            self.client.replies = ReplyMode::On;
            self.out.mailbox.mute(false);
        }
        self.pin.feed(feed);
    }

    /// The client keeps nothing on its pin any more. A clean one may serve another client.
    pub(super) fn unpin(&mut self, clean: bool) {
        self.pin.unpin(clean);
        self.out.pin_owes(0);
    }

    /// Takes what has come on a shared lane: to `hearing`, if the client is not to have it yet.
    pub(super) fn collect(&mut self, hearing: Option<&mut Vec<u8>>) {
        let Some((mut bytes, whole)) = self.out.mailbox.take() else { return };
        match hearing {
            Some(reply) => self.out.replies.came(&mut bytes, whole, reply),
            None if self.out.deliver(&mut bytes, whole) => self.reading.has_seen_redis(),
            None => {}
        }
        self.sessions.buffers.give_output(bytes);
    }

    /// The client takes nothing: what is held for it is counted, with so many bytes `beside` what is here, and let go of if it is too
    /// much.
    pub(crate) fn held_up(&mut self, beside: usize, cx: &mut Context<'_>) -> Option<SessionEnd> {
        if self.out.mailbox.state() == MailboxState::Lost {
            return Some(SessionEnd::Full);
        }
        let beside = beside + self.out.unread_bytes(self.pin.is_held());
        self.reading.hold_unread(&self.client, &mut self.out, beside, cx);
        self.out.overflow(&self.client.entry.address)
    }

    /// Appends a reply of our own.
    pub(super) fn say(&mut self, reply: &Frame) {
        self.out.say(reply, self.client.key.protocol);
    }

    /// Ends the silence of SKIP that is over, keeps the one that is not, and begins one that was asked for.
    pub(super) fn be_silent(&mut self) {
        let replies = match self.client.replies {
            ReplyMode::Skipping => ReplyMode::On,
            ReplyMode::SkipNext => ReplyMode::Skipping,
            replies => replies,
        };
        self.client.replies = replies;
        self.out.mailbox.mute(replies != ReplyMode::On);
    }

    /// The client is in another database.
    pub(super) fn selected(&mut self, db: u32) {
        self.client.select(db);
        self.key_changed();
    }

    /// Who the client is, what it speaks or its database is not what it was.
    pub(super) fn key_changed(&mut self) {
        self.pin.follow(&self.client.key);
        self.lanes.forget();
        self.reading.forget();
    }

    /// As of a client that has just come, whatever it was.
    pub(super) fn become_new(&mut self) {
        self.unpin(false);
        self.client.entry.refuse_pin();
        let settings = &self.sessions.settings;
        let (identity, admitted, user) =
            (self.sessions.identity.clone(), settings.as_proxy, settings.user.clone());
        self.client.reset(identity, admitted, user);
        self.out.mailbox.mute(false);
        self.key_changed();
        self.reading.has_seen_redis();
    }

    /// Whether others have ended it: it was killed, or thrown out and has no connection to Redis that goes on, which would tell
    /// by itself when it ends.
    #[cold]
    pub(super) fn is_ended_by_others(&self) -> bool {
        let entry = &self.client.entry;
        let is_connected = || self.pin.is_held() || self.lanes.is_any_open();
        entry.is_thrown_out() && !is_connected() || entry.is_killed()
    }

    /// Whether nothing is due from anywhere but a shared lane, and nobody wants the client to have a pin.
    #[inline]
    pub(super) fn is_at_rest(&self) -> bool {
        !self.pin.is_held()
            && !self.lanes.is_spreading()
            && self.out.replies.is_plain()
            && self.client.entry.is_let_alone()
            && self.out.mailbox.state() == MailboxState::Open
    }
}
