//! One command: on its way, or not yet.

use std::task::Context;

use command::{PinReason, Read, Slot};
use resp::{Arguments, Form, Frame};

use super::Session;
use super::admission::Entrance;
use super::busy::{Busy, Heard};
use super::client_state::ReplyMode;
use super::clustered::leads_to;
use super::deferred::{Unpinned, begin};
use super::emulated::{Disguise, perform_in_disguise};
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

/// Answers of one client that are due and measured, at most: half of their numbers.
const MOST_MEASURED: usize = 1 << 15;
/// What EXEC says of a transaction in which something was wrong.
const ABORTED: &str = "EXECABORT Transaction discarded because of previous errors.";

impl Session {
    /// Takes up a whole request. False if it must wait for those before it, or for a connection: then it is parsed again.
    #[inline]
    pub(crate) fn command(
        &mut self,
        raw: &[u8],
        form: Form,
        arguments: Arguments<'_>,
        cx: &mut Context<'_>,
    ) -> bool {
        let request = match form {
            Form::Strict => Request::Raw(raw),
            Form::Loose => Request::Encoded(arguments),
        };
        let before = self.ways.out.replies.last_number();
        let is_taken = take_up(self, request, arguments, cx);
        let number = self.ways.out.replies.last_number();
        if !is_taken {
            self.ways.out.times.waits(self.ways.reading.turn_ns);
        } else if number != before || self.ways.out.times.is_waiting() {
            // Numbers go round: of very many that are due the last ones are not measured.
            let is_due = number != before && self.ways.out.replies.len() < MOST_MEASURED;
            let number = is_due.then_some(number);
            self.ways.out.times.taken_up(number, request, arguments, self.ways.reading.turn_ns);
        }
        is_taken
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
            None if let Some(begun) = &at_hand.begun => begun.holding(),
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
            Plan::Proxy => match ways.sessions.proxy(&ways.client, call.arguments) {
                Ok(answer) => ways.say(&answer),
                Err(later) => at_hand.wait_for(Busy::Later(later)),
            },
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
                let text = at_hand.findings.take_refusal().or_else(|| at_hand.begun.as_ref()?.refusal());
                ways.say(&Frame::Error(text.unwrap_or_default()));
            }
            Plan::Doom => {
                at_hand.begun = at_hand.findings.take_refusal().map(|text| Box::new(Unpinned::Doomed(text)));
                ways.say(&simple("OK"));
            }
            Plan::Abort => {
                at_hand.begun = None;
                ways.say(&error(ABORTED));
            }
            Plan::Forgive => {
                at_hand.begun = None;
                ways.say(&simple("OK"));
            }
            Plan::Begin => return begin(at_hand, slot, Vec::new(), ways),
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
        // What may have to go in pieces is cut once it is whole.
        if ways.sessions.may_be_spread(arguments) {
            return false;
        }
        // A transaction is not begun by a part of a command; where it is, what is to be queued must be known to be of its slot.
        if at_hand.begun.is_some() || ways.sessions.in_cluster && ways.pin.is_in_multi() {
            return false;
        }
        let key = ways.sessions.key_at(ways.sessions.slot_of_part(arguments), &ways.client.key);
        if ways.sessions.in_cluster && (ways.pin.waiting() > 0 || !leads_to(ways, key.to)) {
            return false;
        }
        if !ways.pin.is_held() && ways.out.replies.is_empty() {
            at_hand.get_pin(key, false, ways);
        }
        ways.pin.is_held()
    }
}

/// As [`Session::command`].
#[inline]
fn take_up(
    session: &mut Session,
    request: Request<'_>,
    arguments: Arguments<'_>,
    cx: &mut Context<'_>,
) -> bool {
    let sessions = session.ways.sessions.clone();
    if arguments.len() == 2
        && is(arguments, b"GET")
        && sessions.gets_are_reads.get()
        && reads_at_once(session.standing())
        && let Some(taken) = session.ways.get(ReadCall { read: Read::Get, request, arguments })
    {
        return taken;
    }
    let commands = sessions.commands.borrow();
    let call = sessions.call(&commands, arguments);
    session.ways.client.calls(call.name());
    let planned = match plan(&call, session.standing()) {
        Plan::Wait => return false,
        Plan::Admit => match session.at_hand.keep_out(KeptOut::text, &mut session.ways) {
            Some(taken) => return taken,
            None => plan_again(&call, session.standing()),
        },
        planned => planned,
    };
    match session.ways.client.replies {
        ReplyMode::On => perform(session, planned, &call, request, cx),
        _ => session.perform_silently(planned, &call, request, cx),
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
    match session.ways.sessions.disguise {
        Disguise::None => session.perform_at(None, plan, call, request, cx),
        Disguise::OneRedis | Disguise::Node => perform_in_disguise(session, plan, call, request, cx),
    }
}
