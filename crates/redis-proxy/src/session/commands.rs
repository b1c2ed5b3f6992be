//! One command: on its way, or not yet.

use std::task::Context;

use command::{PinReason, Read, Slot};
use resp::{Arguments, Form, Frame};

use super::Session;
use super::admission::Entrance;
use super::busy::Heard;
use super::client_state::ReplyMode;
use super::clustered::{leads_to, perform_in_cluster};
use super::expect::Expect;
use super::plan::{
    Ahead, Call, Holding, LoginState, Plan, Standing, may_stream, plan, plan_again, reads_at_once,
};
use super::reads::ReadCall;
use super::replies::Via;
use super::reply::{error, simple};
use super::tracking::redirect_off;
use super::words::is;
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
        let sessions = self.ways.sessions.clone();
        let request = match form {
            Form::Strict => Request::Raw(raw),
            Form::Loose => Request::Encoded(arguments),
        };
        if arguments.len() == 2
            && is(arguments, b"GET")
            && sessions.gets_are_reads.get()
            && reads_at_once(self.standing())
            && let Some(taken) = self.ways.get(ReadCall { read: Read::Get, request, arguments })
        {
            return taken;
        }
        let commands = sessions.commands.borrow();
        let call = Call::new(&commands, sessions.is_live.get(), arguments);
        self.ways.client.calls(call.name());
        let planned = match plan(&call, self.standing()) {
            Plan::Wait => return false,
            Plan::Admit => match self.at_hand.keep_out(KeptOut::text, &mut self.ways) {
                Some(taken) => return taken,
                None => plan_again(&call, self.standing()),
            },
            planned => planned,
        };
        match self.ways.client.replies {
            ReplyMode::On => perform(self, planned, &call, request, cx),
            _ => self.perform_silently(planned, &call, request, cx),
        }
    }

    /// Where the client stands, as far as plans depend on it.
    #[inline]
    pub(super) fn standing(&self) -> Standing {
        let Session { ways, at_hand } = self;
        let ahead = match ways.out.replies.owing() {
            None => Ahead::Nothing,
            Some(Via::Cache) => Ahead::Reads,
            Some(Via::Lane(_)) => Ahead::Lane,
            Some(Via::Pin) => Ahead::Pin,
        };
        let holding = match ways.pin.stage(ways.client.resp3()) {
            _ if at_hand.findings.is_refused() => Holding::Refused,
            Some(stage) => Holding::Pin(stage),
            None if at_hand.doomed.is_some() => Holding::Doomed,
            None if ways.sessions.is_paused() => Holding::Paused,
            None => Holding::Nothing,
        };
        let login = if ways.client.admitted { LoginState::Done } else { LoginState::Open };
        Standing { login, replies: ways.client.replies, ahead, holding }
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
        let silence = self.ways.client.replies;
        self.ways.be_silent();
        let taken = perform(self, plan, call, request, cx);
        if !taken && silence == ReplyMode::SkipNext {
            self.ways.client.replies = silence;
        }
        taken
    }

    /// Carries out the plan for a command at the node that has `slot`, or home. False if it must wait after all.
    #[inline]
    pub(super) fn perform_at(
        &mut self,
        slot: Option<Slot>,
        plan: Plan,
        call: &Call<'_>,
        request: Request<'_>,
        cx: &mut Context<'_>,
    ) -> bool {
        match plan {
            Plan::Pass(pace) => self.ways.share(request, pace, slot, call.may_repeat(), None, cx),
            Plan::Read(read) => {
                let read = ReadCall { read, request, arguments: call.arguments };
                self.ways.read(read, call, slot, cx)
            }
            Plan::Change(pace) => self.ways.share_with_duty(call, pace, request, slot, cx),
            plan => self.perform_apart(slot, plan, call, request, cx),
        }
    }

    /// What is neither a read nor for a shared lane.
    fn perform_apart(
        &mut self,
        slot: Option<Slot>,
        plan: Plan,
        call: &Call<'_>,
        request: Request<'_>,
        cx: &mut Context<'_>,
    ) -> bool {
        let Session { ways, at_hand } = self;
        match plan {
            Plan::Answer(local) => return at_hand.answer(local, call.arguments, request, ways, cx),
            Plan::Proxy => ways.say(&ways.sessions.proxy(&ways.client, call.arguments)),
            Plan::Info => return at_hand.hear(Heard::Info { with_ours: true }, request, true, ways, cx),
            Plan::Pause(pause) => return at_hand.hear(Heard::Pause(pause), request, false, ways, cx),
            Plan::Untrack => {
                // Of a client that does not track it does nothing.
                let words = redirect_off(call.arguments, &ways.sessions.registry);
                let request = words.as_ref().map_or(request, |words| Request::Raw(words));
                return ways.share(request, Pace::Quick, None, false, None, cx);
            }
            Plan::GetPin(reason) => return self.get_pin_for(slot, reason, call, request, cx),
            Plan::Pin(expect) => return at_hand.send_pinned(expect, call, request, ways),
            Plan::Probe => {
                ways.pin.probe();
                return at_hand.send_pinned(Expect::Blocked, call, request, ways);
            }
            Plan::Queue => return ways.queue(call, request),
            Plan::Tunnel => return ways.pin.tunnel(request, ways.client.replies),
            Plan::Refuse => {
                let text = at_hand.findings.take_refusal().or_else(|| at_hand.doomed.as_deref().cloned());
                ways.say(&Frame::Error(text.unwrap_or_default()));
            }
            Plan::Doom => {
                at_hand.doomed = at_hand.findings.take_refusal().map(Box::new);
                ways.say(&simple("OK"));
            }
            Plan::Abort => {
                at_hand.doomed = None;
                ways.say(&error(ABORTED));
            }
            Plan::Forgive => {
                at_hand.doomed = None;
                ways.say(&simple("OK"));
            }
            Plan::Wait | Plan::Admit | Plan::Pass(_) | Plan::Read(_) | Plan::Change(_) => return false,
        }
        true
    }

    /// Starts to get a connection of the client's own; a command that blocks takes one at once if one is left over.
    fn get_pin_for(
        &mut self,
        slot: Option<Slot>,
        reason: PinReason,
        call: &Call<'_>,
        request: Request<'_>,
        cx: &mut Context<'_>,
    ) -> bool {
        let blocks = reason == PinReason::Blocking;
        let key = self.ways.sessions.key_at(slot, &self.ways.client.key);
        if blocks && self.ways.pin.take_spare(&key) {
            return self.perform_apart(slot, plan_again(call, self.standing()), call, request, cx);
        }
        self.at_hand.get_pin(key, blocks, &self.ways);
        false
    }

    /// An empty request, which Redis counts for CLIENT REPLY SKIP. False while an earlier command has no reply yet.
    pub(crate) fn nothing(&mut self) -> bool {
        if self.ways.client.replies == ReplyMode::On {
            return true;
        }
        if !self.ways.out.replies.is_empty() {
            return false;
        }
        self.ways.be_silent();
        true
    }

    /// Whether it may do anything but log in.
    #[inline]
    pub(crate) fn is_admitted(&self) -> bool {
        self.ways.client.admitted
    }

    /// A request is larger than one may be before a login: whether it is known that this holds for it.
    pub(crate) fn is_too_large(&mut self) -> bool {
        match self.at_hand.entrance(&mut self.ways) {
            Entrance::Open | Entrance::Asked => false,
            Entrance::Shut(KeptOut::Login { .. }) => true,
            Entrance::Shut(kept_out) => {
                // Where it ends is not known.
                self.ways.say(&error(kept_out.text()));
                self.ways.out.end();
                false
            }
        }
    }

    /// Whether a request that is not whole may be sent on as it comes. If not yet, the connection for it is on its way.
    pub(crate) fn may_stream(&mut self, arguments: Arguments<'_>) -> bool {
        let Session { ways, at_hand } = self;
        if let Some(text) = at_hand.findings.take_refusal() {
            // Its rest would be taken for other commands.
            ways.say(&Frame::Error(text));
            ways.out.end();
            return false;
        }
        if !ways.client.admitted || !may_stream(&ways.sessions.commands.borrow(), arguments) {
            return false;
        }
        let key = ways.sessions.key_at(ways.sessions.slot_of_part(arguments), &ways.client.key);
        if ways.sessions.in_cluster && !leads_to(ways, key.to) {
            return false;
        }
        if !ways.pin.is_held() && ways.out.replies.is_empty() {
            at_hand.get_pin(key, false, ways);
        }
        ways.pin.is_held()
    }
}

/// Carries out the plan for a command. False if it must wait after all.
#[inline]
fn perform(
    session: &mut Session,
    plan: Plan,
    call: &Call<'_>,
    request: Request<'_>,
    cx: &mut Context<'_>,
) -> bool {
    match session.ways.sessions.in_cluster {
        true => perform_in_cluster(session, plan, call, request, cx),
        false => session.perform_at(None, plan, call, request, cx),
    }
}
