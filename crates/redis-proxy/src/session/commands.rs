//! One command: on its way, or not yet.

use std::task::Context;

use command::{Local, PinReason};
use resp::{Arguments, Form, Frame};

use super::Session;
use super::busy::Heard;
use super::client_state::ReplyMode;
use super::plan::{Ahead, Call, Holding, LoginState, Plan, Standing, plan};
use super::replies::{NodeId, Via};
use super::reply::{error, put, simple};
use crate::lanes::{KeptOut, Pace, Request};

/// What EXEC says of a transaction in which something was wrong.
const ABORTED: &str = "EXECABORT Transaction discarded because of previous errors.";

impl Session {
    /// Takes up a whole request. False if it must wait for those before it, or for a connection: then it is parsed again.
    pub(crate) fn command(
        &mut self,
        raw: &[u8],
        form: Form,
        arguments: Arguments<'_>,
        cx: &mut Context<'_>,
    ) -> bool {
        let sessions = self.sessions.clone();
        let commands = sessions.commands.borrow();
        let call = Call::new(&commands, sessions.is_live.get(), arguments);
        self.client.calls(call.name());
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
        match self.client.replies {
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
            Some(pinned) => Holding::Pin(pinned.stage(self.client.resp3())),
            None if self.doomed.is_some() => Holding::Doomed,
            None if self.sessions.is_paused() => Holding::Paused,
            None => Holding::Nothing,
        };
        let login = if self.client.admitted { LoginState::Done } else { LoginState::Open };
        Standing { login, replies: self.client.replies, ahead, holding }
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
        let silence = self.client.replies;
        self.be_silent();
        let taken = self.perform(plan, call, request, cx);
        if !taken && silence == ReplyMode::SkipNext {
            self.client.replies = silence;
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

    fn answer(
        &mut self,
        local: Local,
        arguments: Arguments<'_>,
        request: Request<'_>,
        cx: &mut Context<'_>,
    ) -> bool {
        self.sessions.stats.local.add(1);
        // Of those that a doomed transaction lets through, each ends it.
        self.doomed = None;
        self.local(local, arguments, request, cx)
    }

    /// An empty request, which Redis counts for CLIENT REPLY SKIP. False while an earlier command has no reply yet.
    pub(crate) fn nothing(&mut self) -> bool {
        if self.client.replies == ReplyMode::On {
            return true;
        }
        if self.waiting() > 0 {
            return false;
        }
        self.be_silent();
        true
    }

    /// Ends the silence of SKIP that is over, keeps the one that is not, and begins one that was asked for.
    fn be_silent(&mut self) {
        let replies = match self.client.replies {
            ReplyMode::Skipping => ReplyMode::On,
            ReplyMode::SkipNext => ReplyMode::Skipping,
            replies => replies,
        };
        self.client.replies = replies;
        self.mailbox.mute(replies != ReplyMode::On);
    }

    /// Appends a reply of our own.
    pub(super) fn say(&mut self, reply: &Frame) {
        if !self.mailbox.is_muted() {
            let protocol = self.client.key.protocol;
            put(self.room_for_ours(), reply, protocol);
        }
    }

    /// Appends bytes that are a reply.
    pub(super) fn say_bytes(&mut self, bytes: &[u8]) {
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
