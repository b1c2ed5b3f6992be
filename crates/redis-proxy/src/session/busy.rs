//! What the next command of a client waits for: a connection of its own, or news from a lane.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use command::Local;
use resp::Frame;
use tokio::sync::futures::OwnedNotified;

use super::Session;
use super::local::hello_reply;
use super::login::{HelloOptions, Login, Stay};
use super::pause::Pause;
use super::pin::Pinned;
use super::registry::Entry;
use super::replies::NodeId;
use super::reply::{error, simple};
use super::tracking::Target;
use crate::lanes::{HelloReply, LaneHandle, LaneKey, NoLane, NoPin, PinStream, Pinning};

/// A client that is to hear of invalidations, and cannot have a connection.
const NO_TARGET: &str = "ERR proxy: no connection for the client to redirect to";

type Opening = Pin<Box<dyn Future<Output = Result<PinStream, NoPin>>>>;

/// Something under way, and what is to be done with it.
pub(super) enum Busy {
    /// Whether the client, which has not logged in, is let in.
    Admission(Pin<Box<OwnedNotified>>),
    /// A pin for the command at hand, which stays in the input meanwhile.
    Pin(LaneKey, Pinning),
    /// A fresh connection that shows whether the credentials are right.
    Login(LaneKey, Opening, Login),
    /// A connection of the old user's, on which the credentials go too: the new one may not choose the database in which
    /// it would find itself.
    Change(LaneKey, Pinning, Login),
    /// The lane that the session would use after a SELECT.
    Select(u32, LaneHandle),
    /// A reply that is heard before its client gets it, as far as it is here.
    Heard(Heard, Vec<u8>),
    /// The lane that the session would use after a HELLO.
    Hello(LaneHandle, HelloOptions),
    /// The reply to an AUTH, or a HELLO with one, that went to the client's pin.
    PinnedLogin(Login, Stay),
    /// The reply to a HELLO that went to the client's pin.
    PinnedHello(HelloOptions),
    /// Whether Redis lets its user ask this of other clients, on the client's pin.
    PinnedLeave(Local, Bytes),
    /// The end of the clients that it has killed, and what is said then.
    Kill(Frame, Vec<Arc<Entry>>),
    /// A pin for the client that invalidations are to go to.
    Redirect(Target),
}

/// A reply that is about more than its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Info,
    Pause(Pause),
    /// Whether this request, about other clients, may be carried out.
    Leave(Local, Bytes),
}

impl Session {
    /// Takes a pin that is left over, if there is one.
    pub(super) fn take_spare_pin(&mut self) -> bool {
        let key = self.client.key.clone();
        let Some(stream) = self.sessions.lanes.spare_pin(&key) else {
            return false;
        };
        self.client.entry.set_upstream_id(stream.upstream_id);
        self.pinned = Some(Pinned::new(stream, key, self.steward.clone()));
        true
    }

    /// Starts to get a pin for the command at hand, which may block.
    pub(super) fn get_pin(&mut self, blocks: bool) {
        let key = self.client.key.clone();
        let opening = match blocks {
            true => self.sessions.lanes.pin_in_turn(key.clone()),
            false => self.sessions.lanes.pin(key.clone()),
        };
        self.busy = Some(Box::new(Busy::Pin(key, opening)));
    }

    /// Starts to prove who the client is.
    pub(super) fn prove(&mut self, key: LaneKey, login: Login) {
        let opening = Box::pin(self.sessions.lanes.clone().prove(key.clone()));
        self.busy = Some(Box::new(Busy::Login(key, opening, login)));
    }

    /// Sends the credentials along the client's pin.
    pub(super) fn ask_to_log_in(&mut self, login: &Login) {
        let Some(credentials) = login.identity.login() else { return };
        let words: &[&[u8]] = match (credentials, &login.hello) {
            ((Some(user), password), Some(hello)) => &[b"HELLO", hello.version(), b"AUTH", user, password],
            ((Some(user), password), None) => &[b"AUTH", user, password],
            ((None, password), _) => &[b"AUTH", password],
        };
        self.ask_to_be(words);
    }

    /// Goes on with what is under way. Whether it is done.
    pub(super) fn poll_busy(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(mut busy) = self.busy.take() else {
            return false;
        };
        let done = match &mut *busy {
            Busy::Admission(asked) => self.poll_admission(asked, cx),
            Busy::Pin(key, opening) => opening.poll(cx).map(|outcome| match outcome {
                Ok(stream) => {
                    self.client.entry.set_upstream_id(stream.upstream_id);
                    self.pinned = Some(Pinned::new(stream, key.clone(), self.steward.clone()));
                }
                // The command at hand, if there is one, asks again.
                Err(_) if self.client.entry.is_pin_wanted() => self.client.entry.refuse_pin(),
                Err(why) => self.refused = Some(why.text()),
            }),
            Busy::Login(key, opening, login) => {
                opening.as_mut().poll(cx).map(|outcome| self.logged_in(key, outcome, login))
            }
            Busy::Change(key, opening, login) => opening.poll(cx).map(|outcome| match outcome {
                Ok(stream) => self.change(key, stream, login),
                Err(why) => self.say(&error(why.text())),
            }),
            Busy::Select(db, lane) => lane.poll_ready(cx).map(|outcome| match outcome {
                Ok(_) => {
                    self.client.select(*db);
                    self.forget_lanes();
                    self.say(&simple("OK"));
                }
                Err(refusal) => self.say_refusal(&refusal),
            }),
            Busy::Heard(heard, reply) => {
                // What came since the last look.
                if let Some((mut bytes, whole)) = self.mailbox.take() {
                    self.replies.came(NodeId::FIRST, &mut bytes, whole, reply);
                    self.sessions.buffers.give_output(bytes);
                }
                match self.mailbox.waiting() == 0 {
                    true => {
                        self.has_seen_redis();
                        self.heard(heard, reply);
                        Poll::Ready(())
                    }
                    false => Poll::Pending,
                }
            }
            Busy::Hello(lane, hello) => lane.poll_ready(cx).map(|outcome| match outcome {
                Ok(facts) => self.greeted(&facts, hello),
                Err(refusal) => self.say_refusal(&refusal),
            }),
            Busy::Kill(reply, victims) => {
                victims.retain(|victim| victim.poll_gone(cx).is_pending());
                match victims.is_empty() {
                    true => {
                        self.say(reply);
                        Poll::Ready(())
                    }
                    false => Poll::Pending,
                }
            }
            // What the pin says ends it.
            Busy::PinnedLogin(..) | Busy::PinnedHello(_) | Busy::PinnedLeave(..) => Poll::Pending,
            Busy::Redirect(target) => target.entry().poll_pin(cx).map(|pinned| {
                if !pinned {
                    self.refused = Some(NO_TARGET.into());
                }
            }),
        };
        if let (Poll::Ready(()), Busy::Redirect(_)) = (&done, &*busy)
            && let Busy::Redirect(target) = *busy
        {
            // The command at hand asks again.
            self.target = Some(target);
            return true;
        }
        if done.is_pending() {
            self.busy = Some(busy);
        }
        matches!(done, Poll::Ready(()))
    }

    /// Redis has said whether it grants the HELLO or AUTH on the pin. An error has gone to the client already.
    pub(super) fn judged(&mut self, granted: bool) {
        match self.busy.take().filter(|_| granted).map(|busy| *busy) {
            Some(Busy::PinnedLogin(login, stay)) => self.logged_in_pinned(&login, stay),
            Some(Busy::PinnedHello(hello)) => self.greet_pinned(&hello),
            Some(Busy::PinnedLeave(command, request)) => self.go_ahead(command, &request),
            _ => {}
        }
    }

    fn say_refusal(&mut self, refusal: &NoLane) {
        self.say(&error(refusal.text()));
    }

    fn logged_in(&mut self, key: &LaneKey, outcome: Result<PinStream, NoPin>, login: &Login) {
        let stream = match outcome {
            Ok(stream) => stream,
            Err(why) if why.is_about_database() => {
                let key = self.client.key.clone();
                let opening = self.sessions.lanes.pin(key.clone());
                self.busy = Some(Box::new(Busy::Change(key, opening, login.clone())));
                return;
            }
            Err(why) => return self.say(&error(why.text())),
        };
        self.client.log_in(login.identity.clone(), login.user.clone());
        self.forget_lanes();
        // What this client read as another user came by another link.
        self.has_seen_redis();
        match &login.hello {
            Some(hello) => self.greeted(&stream.facts, hello),
            None => self.say(&simple("OK")),
        }
        self.sessions.lanes.unpin(key, stream);
    }

    /// Logs in where the client's database is selected already. From then on it lives there, for no other connection has
    /// both.
    fn change(&mut self, key: &LaneKey, stream: PinStream, login: &Login) {
        self.client.entry.set_upstream_id(stream.upstream_id);
        self.pinned = Some(Pinned::new(stream, key.clone(), self.steward.clone()));
        self.ask_to_log_in(login);
        self.busy = Some(Box::new(Busy::PinnedLogin(login.clone(), Stay::Always)));
    }

    /// Redis has taken the credentials on the client's own connection.
    pub(super) fn logged_in_pinned(&mut self, login: &Login, stay: Stay) {
        if stay == Stay::Always {
            self.keep_pin();
        }
        self.client.log_in(login.identity.clone(), login.user.clone());
        match &login.hello {
            Some(hello) => self.greet_pinned(hello),
            None => {
                self.say(&simple("OK"));
                self.follow_session();
            }
        }
    }

    pub(super) fn greet_pinned(&mut self, hello: &HelloOptions) {
        if let Some(facts) = self.pinned.as_ref().map(|pinned| pinned.stream.facts.clone()) {
            self.greeted(&facts, hello);
        }
        self.follow_session();
    }

    /// The pin is what the session has become.
    fn follow_session(&mut self) {
        self.forget_lanes();
        if let Some(pinned) = self.pinned.as_mut() {
            pinned.key = self.client.key.clone();
        }
    }

    /// HELLO succeeds, if Redis says of itself what its reply must say.
    fn greeted(&mut self, facts: &HelloReply, hello: &HelloOptions) {
        let pairs = match &facts.hello {
            Ok(pairs) => pairs,
            Err(text) => return self.say(&error(text.clone())),
        };
        if let Some(name) = &hello.name {
            self.client.rename(name.clone());
        }
        if hello.protocol != self.client.key.protocol {
            self.client.speak(hello.protocol);
            self.forget_lanes();
        }
        self.say(&hello_reply(pairs, hello.protocol, self.client.entry.id));
    }
}
