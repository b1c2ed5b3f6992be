//! The command at hand, where it is not simply sent or read: what it waits for, and what came of that.

use std::task::{Context, Poll};

use bytes::Bytes;

use super::busy::Busy;
use super::deferred::{Unpinned, ask_multi, doom};
use super::expect::Expect;
use super::findings::{Findings, FoundOut};
use super::kept::send_again;
use super::pin::ReplyMeaning;
use super::plan::Call;
use super::reply::{error, simple};
use super::tracking::{Redirection, Target, redirect, redirect_off};
use super::ways::Ways;
use crate::lanes::{Duty, LaneKey, Request};

/// A client that is to hear of invalidations, and cannot have a connection.
const NO_TARGET: &str = "ERR proxy: no connection for the client to redirect to";

/// What the command at hand waits for, which the next ones wait for as well; and what was found out for it, once it is planned
/// again. Few clients have any of this at a time, so that it is small where there is none.
#[derive(Default)]
pub(super) struct AtHand {
    busy: Option<Box<Busy>>,
    pub(super) findings: Findings,
    /// The transaction that the client has begun without a pin.
    pub(super) begun: Option<Box<Unpinned>>,
}

impl AtHand {
    pub(super) fn wait_for(&mut self, busy: Busy) {
        self.busy = Some(Box::new(busy));
    }

    /// Whether something is waited for.
    #[inline]
    pub(super) fn is_busy(&self) -> bool {
        self.busy.is_some()
    }

    /// Its client has shut its side: what may wait for ever is waited for by nobody. Whether that was so.
    pub(super) fn leaves_nodes(&mut self) -> bool {
        let waits = matches!(self.busy.as_deref(), Some(Busy::Apart(_)));
        if waits {
            self.busy = None;
        }
        waits
    }

    /// Nothing will come of it.
    pub(super) fn give_up(&mut self) {
        self.busy = None;
    }

    /// Where what comes on a shared lane goes first, if its client is not to have it yet.
    pub(super) fn hearing(&mut self) -> Option<&mut Vec<u8>> {
        match self.busy.as_deref_mut() {
            Some(Busy::Heard(_, reply)) => Some(reply),
            _ => None,
        }
    }

    /// Starts to get a pin of `key` for the command at hand, which may block.
    pub(super) fn get_pin(&mut self, key: LaneKey, blocks: bool, ways: &Ways) {
        self.wait_for(Busy::Pin(key.clone(), ways.pin.open(key, blocks)));
    }

    /// Gets a pin that another client asks for: what is redirected to this one needs it. Whether anything has changed.
    pub(super) fn get_wanted_pin(&mut self, ways: &Ways) -> bool {
        let wanted = ways.client.entry.is_pin_wanted() && !ways.pin.is_held() && !ways.out.is_ending();
        let ready = wanted && !self.is_busy() && ways.out.replies.is_empty();
        if ready {
            self.get_pin(ways.client.key.clone(), false, ways);
        }
        ready
    }

    /// Goes on with what is under way. Whether it is done.
    pub(super) fn poll(&mut self, ways: &mut Ways, cx: &mut Context<'_>) -> bool {
        let Some(mut busy) = self.busy.take() else {
            return false;
        };
        if let Busy::Redirect(target) = *busy {
            return self.poll_target(target, cx);
        }
        let done = self.poll_busy(&mut busy, ways, cx);
        if done.is_pending() {
            self.busy = Some(busy);
        }
        done.is_ready()
    }

    fn poll_busy(&mut self, busy: &mut Busy, ways: &mut Ways, cx: &mut Context<'_>) -> Poll<()> {
        match busy {
            Busy::Admission(asked) => self.poll_admission(asked, ways, cx),
            Busy::Pin(key, opening) => opening.poll(cx).map(|outcome| match outcome {
                Ok(stream) => ways.pin.hold(stream, key.clone()),
                // The command at hand, if there is one, asks again.
                Err(_) if ways.client.entry.is_pin_wanted() => ways.client.entry.refuse_pin(),
                Err(why) => self.findings.put(FoundOut::Refused(why.text())),
            }),
            Busy::Again(key, opening, kept, asks) => {
                opening.poll(cx).map(|outcome| match (outcome, kept.take()) {
                    (Ok(stream), Some(kept)) => send_again(ways, stream, key, kept, *asks),
                    (Err(why), _) => ways.say(&error(why.text())),
                    (Ok(_), None) => {}
                })
            }
            Busy::Begin(key, opening, requests) => opening.poll(cx).map(|outcome| match outcome {
                Ok(stream) => ask_multi(self, stream, key, std::mem::take(requests), ways),
                Err(why) => doom(self, why.text(), ways),
            }),
            Busy::Login(key, opening, login) => {
                opening.as_mut().poll(cx).map(|outcome| self.logged_in(key, outcome, login, ways))
            }
            Busy::Change(key, opening, login) => opening.poll(cx).map(|outcome| match outcome {
                Ok(stream) => self.change(key, stream, login, ways),
                Err(why) => ways.say(&error(why.text())),
            }),
            Busy::Select(db, lane) => lane.poll_ready(cx).map(|outcome| match outcome {
                Ok(_) => {
                    ways.selected(*db);
                    ways.say(&simple("OK"));
                }
                Err(refusal) => ways.say(&error(refusal.text())),
            }),
            Busy::Heard(heard, reply) => {
                // What came since the last look.
                ways.collect(Some(&mut *reply));
                match ways.out.mailbox.waiting() == 0 {
                    true => {
                        ways.reading.has_seen_redis();
                        self.heard(heard, reply, ways);
                        Poll::Ready(())
                    }
                    false => Poll::Pending,
                }
            }
            Busy::Hello(lane, hello) => lane.poll_ready(cx).map(|outcome| match outcome {
                Ok(facts) => hello.greet(&facts, ways),
                Err(refusal) => ways.say(&error(refusal.text())),
            }),
            Busy::Kill(reply, victims) => {
                victims.retain(|victim| victim.poll_gone(cx).is_pending());
                match victims.is_empty() {
                    true => {
                        ways.say(reply);
                        Poll::Ready(())
                    }
                    false => Poll::Pending,
                }
            }
            Busy::Apart(asked) => asked.poll(cx).map(|reply| {
                if !ways.out.mailbox.is_muted() {
                    ways.out.say_bytes(&reply);
                }
            }),
            Busy::Later(answer) => answer.as_mut().poll(cx).map(|answer| ways.say(&answer)),
            // What the pin says ends it; a target is polled for itself.
            Busy::PinnedLogin(..)
            | Busy::PinnedHello(_)
            | Busy::PinnedLeave(..)
            | Busy::Begun(_)
            | Busy::Redirect(_) => Poll::Pending,
        }
    }

    /// Whether it is known by now whether the client that is named has a connection. Then the command at hand asks again.
    fn poll_target(&mut self, target: Target, cx: &mut Context<'_>) -> bool {
        let polled = target.entry().poll_pin(cx);
        match polled {
            Poll::Pending => self.wait_for(Busy::Redirect(target)),
            Poll::Ready(true) => self.findings.put(FoundOut::Target(target)),
            Poll::Ready(false) => self.findings.put(FoundOut::Refused(NO_TARGET.into())),
        }
        polled.is_ready()
    }

    /// Redis has said whether it grants what was asked for on the pin. An error has gone to the client already.
    pub(super) fn judged(&mut self, granted: bool, ways: &mut Ways) {
        match self.busy.take().filter(|_| granted).map(|busy| *busy) {
            Some(Busy::PinnedLogin(login, stay)) => login.taken(stay, ways),
            Some(Busy::PinnedHello(hello)) => hello.taken(ways),
            Some(Busy::PinnedLeave(command, request)) => self.go_ahead(command, &request, ways),
            _ => {}
        }
    }

    /// Redis has answered the MULTI that this was waiting for: what it is to queue first.
    pub(super) fn take_begun(&mut self) -> Vec<Bytes> {
        match self.busy.take().map(|busy| *busy) {
            Some(Busy::Begun(requests)) => requests,
            _ => Vec::new(),
        }
    }

    /// Onto the client's own connection. False if another client must have one first.
    pub(super) fn send_pinned(
        &mut self,
        expect: Expect,
        call: &Call<'_>,
        request: Request<'_>,
        ways: &mut Ways,
    ) -> bool {
        let registry = &ways.sessions.registry;
        let (words, awaited) = match expect {
            Expect::Tracking(true) => {
                match redirect(call.arguments, registry, || self.findings.take_target()) {
                    Redirection::None => (None, ReplyMeaning::Track(None)),
                    Redirection::To(words, target) => (Some(words), ReplyMeaning::Track(target)),
                    Redirection::NotYet(target) => {
                        self.wait_for(Busy::Redirect(target));
                        return false;
                    }
                }
            }
            Expect::Tracking(false) => (redirect_off(call.arguments, registry), expect.into()),
            expect => (None, expect.into()),
        };
        let request = words.as_ref().map_or(request, |words| Request::Raw(words));
        let duty = match expect {
            // A transaction that began under a name unknown to us.
            Expect::Exec if !ways.pin.is_in_multi() => Some(Duty::Anything),
            _ => ways.sessions.duty(call),
        };
        ways.send_pinned(request, awaited, duty)
    }
}
