//! One command: on its way, or not yet.

use std::task::Context;

use bytes::BytesMut;
use command::{Local, PinReason};
use resp::{Arguments, Form, Frame, encode_command};

use super::{Busy, Connection, Heard};
use crate::clock::now_ns;
use crate::lanes::{Duty, KeptOut, Pace, Request};
use crate::session::changes::{duty, duty_of_part};
use crate::session::client::ReplyMode;
use crate::session::expect::{Expect, Feed};
use crate::session::pin::{Monitored, ReplyMeaning};
use crate::session::plan::{Ahead, Call, Holding, LoginState, Plan, Standing, may_stream, plan};
use crate::session::registry::Tunnel;
use crate::session::replies::{NodeId, Via};
use crate::session::reply::{error, put, simple};
use crate::session::tracking::{Redirection, redirect, redirect_off};

/// What goes before a WAIT, so that its connection has written (Redis 7.0: WAIT counts the replicas that have what its own
/// connection wrote last). Nobody listens there.
const PROBE: &[u8] = b"*3\r\n$7\r\nPUBLISH\r\n$20\r\n__redis_proxy_wait__\r\n$0\r\n\r\n";
/// What EXEC says of a transaction in which something was wrong.
const ABORTED: &str = "EXECABORT Transaction discarded because of previous errors.";

impl Connection {
    /// Takes up a whole request. False if it must wait for those before it, or for a connection: then it is parsed again.
    pub(super) fn command(
        &mut self,
        raw: &[u8],
        form: Form,
        arguments: Arguments<'_>,
        cx: &mut Context<'_>,
    ) -> bool {
        let front = self.front.clone();
        let commands = front.commands.borrow();
        let call = Call::new(&commands, front.is_live.get(), arguments);
        self.session.calls(call.name());
        let planned = match plan(&call, self.standing()) {
            Plan::Wait => return false,
            Plan::Admit => match self.keep_out(KeptOut::text) {
                Some(taken) => return taken,
                None => self.plan_again(&call),
            },
            planned => planned,
        };
        let request = match form {
            Form::Strict => Request::Raw(raw),
            Form::Loose => Request::Encoded(arguments),
        };
        match self.session.replies {
            ReplyMode::On => self.perform(planned, &call, request, cx),
            _ => self.perform_silently(planned, &call, request, cx),
        }
    }

    /// The client stands elsewhere than a moment ago.
    #[cold]
    fn plan_again(&self, call: &Call<'_>) -> Plan {
        plan(call, self.standing())
    }

    /// Where the client stands, as far as plans depend on it.
    #[inline]
    fn standing(&self) -> Standing {
        let pinned = self.pinned.as_deref();
        let ahead = match self.replies.owing(NodeId::FIRST) {
            None => Ahead::Nothing,
            Some(Via::Cache) => Ahead::Reads,
            Some(Via::Lane(_)) => Ahead::Lane,
            Some(Via::Pin) => Ahead::Pin,
        };
        let holding = match pinned {
            _ if self.refused.is_some() => Holding::Refused,
            Some(pinned) => Holding::Pin(pinned.stage(self.session.resp3())),
            None if self.doomed.is_some() => Holding::Doomed,
            None if self.front.is_paused() => Holding::Paused,
            None => Holding::Nothing,
        };
        let login = if self.session.admitted { LoginState::Done } else { LoginState::Open };
        Standing { login, replies: self.session.replies, ahead, holding }
    }

    /// Carries out the plan for a command within CLIENT REPLY OFF or SKIP. Nothing is on its way.
    #[cold]
    fn perform_silently(
        &mut self,
        plan: Plan,
        call: &Call<'_>,
        request: Request<'_>,
        cx: &mut Context<'_>,
    ) -> bool {
        let silence = self.session.replies;
        self.be_silent();
        if silence == ReplyMode::SkipNext {
            self.session.replies = ReplyMode::Skipping;
        }
        let taken = self.perform(plan, call, request, cx);
        if !taken && silence == ReplyMode::SkipNext {
            self.session.replies = silence;
        }
        taken
    }

    /// Carries out the plan for a command. False if it must wait after all.
    #[inline]
    fn perform(&mut self, plan: Plan, call: &Call<'_>, request: Request<'_>, cx: &mut Context<'_>) -> bool {
        match plan {
            Plan::Pass(pace) => self.share(request, pace, call.may_repeat(), None, cx),
            Plan::Read(read) => match self.may_be_cached(read, call.arguments) {
                Some(reader) => self.read(read, &reader, request, call.arguments, cx),
                None => self.share_with_duty(call, Pace::Quick, request, cx),
            },
            Plan::Change(pace) => self.share_with_duty(call, pace, request, cx),
            plan => self.perform_apart(plan, call, request, cx),
        }
    }

    /// What is neither a read nor for a shared lane.
    fn perform_apart(
        &mut self,
        plan: Plan,
        call: &Call<'_>,
        request: Request<'_>,
        cx: &mut Context<'_>,
    ) -> bool {
        match plan {
            Plan::Answer(local) => return self.answer(local, call.arguments, request, cx),
            Plan::Proxy => self.answer_proxy(call.arguments),
            Plan::Info => return self.hear(Heard::Info, request, true, cx),
            Plan::Pause(pause) => return self.hear(Heard::Pause(pause), request, false, cx),
            Plan::Untrack => return self.untrack(call.arguments, request, cx),
            Plan::GetPin(reason) => return self.get_pin_for(reason, call, request, cx),
            Plan::Pin(expect) => return self.send_pinned(expect, call, request),
            Plan::Probe => return self.send_probed(call, request),
            Plan::Queue => return self.queue(call, request),
            Plan::Tunnel => return self.tunnel(request),
            Plan::Refuse => {
                let text = self.refused.take().or_else(|| self.doomed.clone()).unwrap_or_default();
                self.say(&Frame::Error(text));
            }
            Plan::Doom => {
                self.doomed = self.refused.take();
                self.say(&simple("OK"));
            }
            Plan::Abort => {
                self.doomed = None;
                self.say(&error(ABORTED));
            }
            Plan::Forgive => {
                self.doomed = None;
                self.say(&simple("OK"));
            }
            Plan::Wait | Plan::Admit | Plan::Pass(_) | Plan::Read(_) | Plan::Change(_) => return false,
        }
        true
    }

    /// Onto a shared lane, with a duty if it changes anything.
    fn share_with_duty(
        &mut self,
        call: &Call<'_>,
        pace: Pace,
        request: Request<'_>,
        cx: &mut Context<'_>,
    ) -> bool {
        if !self.replies.may_go(NodeId::FIRST, Via::Lane(pace)) {
            return false;
        }
        let duty = self.duty(call);
        self.share(request, pace, call.may_repeat(), duty, cx)
    }

    /// CLIENT TRACKING OFF with REDIRECT of a client that does not track.
    fn untrack(&mut self, arguments: Arguments<'_>, request: Request<'_>, cx: &mut Context<'_>) -> bool {
        let words = redirect_off(arguments, &self.front.registry);
        let request = words.as_ref().map_or(request, |words| Request::Raw(words));
        self.share(request, Pace::Quick, false, None, cx)
    }

    /// Starts to get a connection of the client's own; a command that blocks takes one at once if one is left over.
    fn get_pin_for(
        &mut self,
        reason: PinReason,
        call: &Call<'_>,
        request: Request<'_>,
        cx: &mut Context<'_>,
    ) -> bool {
        let blocks = reason == PinReason::Blocking;
        if blocks && self.take_spare_pin() {
            return self.perform_apart(self.plan_again(call), call, request, cx);
        }
        self.get_pin(blocks);
        false
    }

    /// Onto a shared lane; the reply is heard before the client gets it. Nothing is on its way.
    pub(in crate::front::resp) fn hear(
        &mut self,
        heard: Heard,
        request: Request<'_>,
        read: bool,
        cx: &mut Context<'_>,
    ) -> bool {
        let sent = self.share(request, Pace::Quick, read, None, cx);
        if sent {
            // Also a client that hears nothing itself.
            self.mailbox.mute(false);
            self.wait_for(Busy::Heard(heard, Vec::new()));
        }
        sent
    }

    /// The reply is whole.
    pub(super) fn heard(&mut self, heard: &Heard, reply: &[u8]) {
        let silent = matches!(self.session.replies, ReplyMode::Off | ReplyMode::Skipping);
        self.mailbox.mute(silent);
        match heard {
            Heard::Pause(pause) if reply.starts_with(b"+") => {
                self.front.registry.pauses.granted(*pause, now_ns());
            }
            Heard::Leave(command, request) if !reply.starts_with(b"-") => {
                return self.go_ahead(*command, request);
            }
            _ => {}
        }
        match heard {
            _ if silent => {}
            Heard::Info => self.say_info(reply),
            Heard::Pause(_) | Heard::Leave(..) => self.say_bytes(reply),
        }
    }

    fn answer(
        &mut self,
        local: Local,
        arguments: Arguments<'_>,
        request: Request<'_>,
        cx: &mut Context<'_>,
    ) -> bool {
        self.front.stats.local.add(1);
        // Of those that a doomed transaction lets through, each ends it.
        self.doomed = None;
        self.local(local, arguments, request, cx)
    }

    /// Onto a shared lane, if no other way owes replies.
    #[inline]
    pub(in crate::front::resp) fn share(
        &mut self,
        request: Request<'_>,
        pace: Pace,
        read: bool,
        duty: Option<Duty>,
        cx: &mut Context<'_>,
    ) -> bool {
        let via = Via::Lane(pace);
        let sent = self.replies.may_go(NodeId::FIRST, via) && self.send(request, pace, read, duty, cx);
        if sent {
            self.replies.sent(NodeId::FIRST, via);
        }
        sent
    }

    /// Onto a shared lane, for what stands in the queue of replies already, or is about to.
    pub(super) fn send(
        &mut self,
        request: Request<'_>,
        pace: Pace,
        read: bool,
        duty: Option<Duty>,
        cx: &mut Context<'_>,
    ) -> bool {
        let front = &self.front;
        let (index, counter) = match pace {
            Pace::Quick => (0, &front.stats.shared),
            Pace::Slow => (1, &front.stats.slow),
        };
        let lane = self.lanes[index]
            .get_or_insert_with(|| front.lanes.shared(&self.session.key, pace, Some(&self.mailbox)));
        if !lane.send(request, &self.mailbox, read, || duty, &front.buffers, cx) {
            return false;
        }
        counter.add(1);
        true
    }

    /// Onto the client's own connection.
    fn send_pinned(&mut self, expect: Expect, call: &Call<'_>, request: Request<'_>) -> bool {
        let (words, awaited) = match expect {
            Expect::Tracking(true) => {
                match redirect(call.arguments, &self.front.registry, || self.target.take()) {
                    Redirection::None => (None, ReplyMeaning::Track(None)),
                    Redirection::To(words, target) => (Some(words), ReplyMeaning::Track(target)),
                    Redirection::NotYet(target) => {
                        self.wait_for(Busy::Redirect(target));
                        return false;
                    }
                }
            }
            Expect::Tracking(false) => (redirect_off(call.arguments, &self.front.registry), expect.into()),
            expect => (None, expect.into()),
        };
        let request = words.as_ref().map_or(request, |words| Request::Raw(words));
        let duty = match expect {
            // A transaction that began under a name unknown to us.
            Expect::Exec if !self.is_in_multi() => Some(Duty::Anything),
            _ => self.duty(call),
        };
        self.ask_pin(request, awaited, duty);
        true
    }

    fn is_in_multi(&self) -> bool {
        self.pinned.as_ref().is_some_and(|pinned| pinned.transaction.sent().is_some())
    }

    /// What is to be done before the answer to a command is delivered.
    fn duty(&self, call: &Call<'_>) -> Option<Duty> {
        duty(call.command, call.arguments, &mut self.front.keys.borrow_mut())
    }

    /// WAIT, behind something that has its connection write.
    fn send_probed(&mut self, call: &Call<'_>, request: Request<'_>) -> bool {
        if let Some(pinned) = self.pinned.as_mut() {
            pinned.stream.outbox().extend_from_slice(PROBE);
            pinned.expect(Expect::Probe.into(), None);
        }
        self.send_pinned(Expect::Blocked, call, request)
    }

    /// Redis queues what changes the client once EXEC carries it out; what it is not known how, ends in a tunnel.
    fn queue(&mut self, call: &Call<'_>, request: Request<'_>) -> bool {
        let Some((later, instead)) = self.later(call.lane, call.arguments, &request) else {
            return self.replies.is_empty() && self.tunnel(request);
        };
        let request = instead.as_ref().map_or(request, |instead| Request::Raw(instead));
        let duty = self.duty(call);
        self.ask_pin(request, ReplyMeaning::Queued(Box::new(later)), duty);
        true
    }

    /// Onto the pin, if there is one.
    fn ask_pin(&mut self, request: Request<'_>, awaited: ReplyMeaning, duty: Option<Duty>) {
        let Some(pinned) = self.pinned.as_mut() else {
            return;
        };
        request.write(pinned.stream.outbox());
        let blocked = matches!(awaited, ReplyMeaning::Planned(Expect::Blocked));
        pinned.expect(awaited, duty);
        self.replies.owes(NodeId::FIRST, Via::Pin, pinned.waiting());
        let multi = pinned.transaction.sent();
        self.session.note(|details| (details.multi, details.blocked) = (multi, blocked));
        self.front.stats.pinned_commands.add(1);
    }

    pub(in crate::front::resp) fn has_pin(&self) -> bool {
        self.pinned.is_some()
    }

    /// Onto the pin. False if there is none.
    pub(in crate::front::resp) fn pass_to_pin(&mut self, request: Request<'_>) -> bool {
        self.ask_pin(request, Expect::Reply.into(), None);
        self.has_pin()
    }

    /// A command of which only Redis knows what it answers, although it is about the client. Nothing is on its way.
    pub(in crate::front::resp) fn pass_on(&mut self, request: Request<'_>, cx: &mut Context<'_>) -> bool {
        self.pass_to_pin(request) || self.share(request, Pace::Quick, false, None, cx)
    }

    /// Asks on the client's pin whether its user may do something. False if it has none.
    pub(in crate::front::resp) fn ask_pin_for_leave(&mut self, question: &[u8]) -> bool {
        self.ask_pin(Request::Raw(question), Expect::Granted.into(), None);
        self.has_pin()
    }

    /// Has Redis change who the client is, or what it speaks, on the client's own connection.
    pub(in crate::front::resp) fn ask_to_be(&mut self, words: &[&[u8]]) {
        let mut bytes = BytesMut::new();
        encode_command(&mut bytes, words);
        self.ask_pin(Request::Raw(&bytes), Expect::Granted.into(), None);
    }

    /// From here on the client's bytes and those of its pin are not looked at. Nothing is on its way.
    fn tunnel(&mut self, request: Request<'_>) -> bool {
        let Some(pinned) = self.pinned.as_mut() else {
            return false;
        };
        // Redis is to be as silent as the client has asked us to be; within MULTI it would only queue that.
        let silence: &[&[u8]] = match self.session.replies {
            ReplyMode::Off if pinned.transaction.sent().is_none() => &[b"CLIENT", b"REPLY", b"OFF"],
            ReplyMode::Skipping if pinned.transaction.sent().is_none() => &[b"CLIENT", b"REPLY", b"SKIP"],
            _ => &[],
        };
        if !silence.is_empty() {
            encode_command(pinned.stream.outbox(), silence);
        }
        request.write(pinned.stream.outbox());
        pinned.become_tunnel(None);
        self.session.note(|details| details.tunnel = Some(Tunnel::Any));
        self.front.stats.tunnels.add(1);
        true
    }

    /// Redis has taken a MONITOR, or a replica: from here on nothing that it says answers a request.
    pub(super) fn feed(&mut self, feed: Feed) {
        // That was the silent one.
        if self.session.replies == ReplyMode::Skipping {
            self.session.replies = ReplyMode::On;
            self.mailbox.mute(false);
        }
        if let Some(pinned) = self.pinned.as_mut() {
            pinned.become_tunnel(Some(feed));
        }
        let tunnel = match feed {
            Feed::Monitor => Tunnel::Monitor,
            Feed::Replica => Tunnel::Replica,
        };
        self.session.note(|details| details.tunnel = Some(tunnel));
        self.front.stats.tunnels.add(1);
    }

    /// The next request of a client that watches by MONITOR.
    pub(super) fn monitor(&mut self, bytes: &[u8]) -> Monitored {
        let Some(pinned) = self.pinned.as_mut() else { return Monitored::No };
        let (front, settings) = (&self.front, &self.front.settings);
        let may_change = |request: &[u8]| front.may_change(request);
        pinned.monitor(bytes, settings.limits, settings.big_request_bytes, may_change)
    }

    /// Whether a request that is not whole may be sent on as it comes. If not yet, the connection for it is on its way.
    pub(super) fn may_stream(&mut self, arguments: Arguments<'_>) -> bool {
        if let Some(text) = self.refused.take() {
            // Its rest would be taken for other commands.
            self.say(&Frame::Error(text));
            self.end();
            return false;
        }
        if !self.session.admitted || !may_stream(&self.front.commands.borrow(), arguments) {
            return false;
        }
        if self.pinned.is_none() && self.waiting() == 0 {
            self.get_pin(false);
        }
        self.pinned.is_some()
    }

    /// Whether a request goes to the pin in parts.
    pub(super) fn is_uploading(&self) -> bool {
        self.pinned.as_ref().is_some_and(|pinned| pinned.is_uploading())
    }

    /// Whether what the client sends goes on as it comes.
    pub(super) fn is_unread(&self) -> bool {
        self.pinned.as_ref().is_some_and(|pinned| pinned.is_uploading() || pinned.is_tunnel())
    }

    /// The request at hand does from now on.
    pub(super) fn start_upload(&mut self, arguments: Arguments<'_>) {
        let front = &self.front;
        let duty = duty_of_part(&front.commands.borrow(), arguments, &mut front.keys.borrow_mut());
        if let Some(pinned) = self.pinned.as_mut() {
            pinned.start_upload(duty);
            self.replies.owes(NodeId::FIRST, Via::Pin, pinned.waiting());
            self.front.stats.pinned_commands.add(1);
        }
    }

    /// The next part.
    pub(super) fn part(&mut self, bytes: &[u8], last: bool) {
        if let Some(pinned) = self.pinned.as_mut() {
            pinned.upload(bytes, last);
        }
    }

    /// An empty request, which Redis counts for CLIENT REPLY SKIP. False while an earlier command has no reply yet.
    pub(super) fn nothing(&mut self) -> bool {
        let silence = self.session.replies;
        if self.waiting() > 0 {
            return false;
        }
        self.be_silent();
        if silence == ReplyMode::SkipNext {
            self.session.replies = ReplyMode::Skipping;
        }
        true
    }

    /// Ends the silence of SKIP that is over, and keeps the one that is not.
    fn be_silent(&mut self) {
        if self.session.replies == ReplyMode::Skipping {
            self.session.replies = ReplyMode::On;
        }
        self.mailbox.mute(self.session.replies != ReplyMode::On);
    }

    /// Appends a reply of our own.
    pub(in crate::front::resp) fn say(&mut self, reply: &Frame) {
        if !self.mailbox.is_muted() {
            let protocol = self.session.key.protocol;
            put(self.room_for_ours(), reply, protocol);
        }
    }

    /// Appends bytes that are a reply.
    pub(in crate::front::resp) fn say_bytes(&mut self, bytes: &[u8]) {
        self.room_for_ours().extend_from_slice(bytes);
    }

    /// Where a reply of our own goes: behind all that is due. While there is a pin it may be a part of what that says, as
    /// within the reply to an EXEC.
    fn room_for_ours(&mut self) -> &mut Vec<u8> {
        match self.pinned {
            Some(_) => &mut self.output.bytes,
            None => self.replies.made(&mut self.output.bytes),
        }
    }
}
