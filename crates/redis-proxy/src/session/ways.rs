//! Onto which way a command goes: a shared lane, or the client's own connection.

use std::task::Context;

use bytes::BytesMut;
use resp::{Arguments, encode_command};

use super::Session;
use super::busy::{Busy, Heard};
use super::changes::duty;
use super::client_state::ReplyMode;
use super::expect::Expect;
use super::pin::ReplyMeaning;
use super::plan::Call;
use super::replies::{NodeId, Via};
use super::tracking::{Redirection, redirect, redirect_off};
use crate::clock::now_ns;
use crate::lanes::{Duty, Pace, Request};

/// What goes before a WAIT, so that its connection has written (Redis 7.0: WAIT counts the replicas that have what its own
/// connection wrote last). Nobody listens there.
const PROBE: &[u8] = b"*3\r\n$7\r\nPUBLISH\r\n$20\r\n__redis_proxy_wait__\r\n$0\r\n\r\n";

impl Session {
    /// Onto a shared lane, with a duty if it changes anything.
    pub(super) fn share_with_duty(
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

    /// Onto a shared lane, if no other way owes replies.
    #[inline]
    pub(super) fn share(
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
        let sessions = &self.sessions;
        let (index, counter) = match pace {
            Pace::Quick => (0, &sessions.stats.shared),
            Pace::Slow => (1, &sessions.stats.slow),
        };
        let lane = self.lanes[index]
            .get_or_insert_with(|| sessions.lanes.shared(&self.client.key, pace, Some(&self.mailbox)));
        if !lane.send(request, &self.mailbox, read, || duty, &sessions.buffers, cx) {
            return false;
        }
        counter.add(1);
        true
    }

    /// What is to be done before the answer to a command is delivered.
    fn duty(&self, call: &Call<'_>) -> Option<Duty> {
        duty(call.command, call.arguments, &mut self.sessions.keys.borrow_mut())
    }

    /// Onto the client's own connection.
    pub(super) fn send_pinned(&mut self, expect: Expect, call: &Call<'_>, request: Request<'_>) -> bool {
        let (words, awaited) = match expect {
            Expect::Tracking(true) => {
                match redirect(call.arguments, &self.sessions.registry, || self.target.take()) {
                    Redirection::None => (None, ReplyMeaning::Track(None)),
                    Redirection::To(words, target) => (Some(words), ReplyMeaning::Track(target)),
                    Redirection::NotYet(target) => {
                        self.wait_for(Busy::Redirect(target));
                        return false;
                    }
                }
            }
            Expect::Tracking(false) => (redirect_off(call.arguments, &self.sessions.registry), expect.into()),
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
        self.pinned.as_ref().is_some_and(|pinned| pinned.state.transaction.sent().is_some())
    }

    /// CLIENT TRACKING OFF with REDIRECT of a client that does not track.
    pub(super) fn untrack(
        &mut self,
        arguments: Arguments<'_>,
        request: Request<'_>,
        cx: &mut Context<'_>,
    ) -> bool {
        let words = redirect_off(arguments, &self.sessions.registry);
        let request = words.as_ref().map_or(request, |words| Request::Raw(words));
        self.share(request, Pace::Quick, false, None, cx)
    }

    /// WAIT, behind something that has its connection write.
    pub(super) fn send_probed(&mut self, call: &Call<'_>, request: Request<'_>) -> bool {
        if let Some(pinned) = self.pinned.as_mut() {
            pinned.stream.outbox().extend_from_slice(PROBE);
            pinned.expect(Expect::Probe.into(), None);
        }
        self.send_pinned(Expect::Blocked, call, request)
    }

    /// Redis queues what changes the client once EXEC carries it out; what it is not known how, ends in a tunnel.
    pub(super) fn queue(&mut self, call: &Call<'_>, request: Request<'_>) -> bool {
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
        let multi = pinned.state.transaction.sent();
        self.client.note(|details| (details.multi, details.blocked) = (multi, blocked));
        self.sessions.stats.pinned_commands.add(1);
    }

    /// Onto the pin. False if there is none.
    pub(super) fn pass_to_pin(&mut self, request: Request<'_>) -> bool {
        self.ask_pin(request, Expect::Reply.into(), None);
        self.has_pin()
    }

    /// A command of which only Redis knows what it answers, although it is about the client. Nothing is on its way.
    pub(super) fn pass_on(&mut self, request: Request<'_>, cx: &mut Context<'_>) -> bool {
        self.pass_to_pin(request) || self.share(request, Pace::Quick, false, None, cx)
    }

    /// Asks on the client's pin whether its user may do something. False if it has none.
    pub(super) fn ask_pin_for_leave(&mut self, question: &[u8]) -> bool {
        self.ask_pin(Request::Raw(question), Expect::Granted.into(), None);
        self.has_pin()
    }

    /// Has Redis change who the client is, or what it speaks, on the client's own connection.
    pub(super) fn ask_to_be(&mut self, words: &[&[u8]]) {
        let mut bytes = BytesMut::new();
        encode_command(&mut bytes, words);
        self.ask_pin(Request::Raw(&bytes), Expect::Granted.into(), None);
    }

    pub(super) fn has_pin(&self) -> bool {
        self.pinned.is_some()
    }

    /// Onto a shared lane; the reply is heard before the client gets it. Nothing is on its way.
    pub(super) fn hear(
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
        let silent = matches!(self.client.replies, ReplyMode::Off | ReplyMode::Skipping);
        self.mailbox.mute(silent);
        match heard {
            Heard::Pause(pause) if reply.starts_with(b"+") => {
                self.sessions.registry.pauses.granted(*pause, now_ns());
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
}
