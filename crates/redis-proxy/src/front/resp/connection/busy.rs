//! What the next command of a client waits for: a connection of its own, or news from a lane.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use resp::Protocol;

use super::Connection;
use crate::front::resp::local::hello_reply;
use crate::front::resp::pinned::Pinned;
use crate::front::resp::reply::{error, simple};
use crate::lanes::{Facts, Identity, LaneKey, NoPin, PinStream, Refusal, SharedLane};

type Opening = Pin<Box<dyn Future<Output = Result<PinStream, NoPin>>>>;

/// Something under way, and what is to be done with it.
pub(in crate::front::resp) enum Busy {
    /// A pin for the command at hand, which stays in the input meanwhile.
    Pin(LaneKey, Opening),
    /// A fresh connection that shows whether the credentials are right.
    Login(LaneKey, Opening, Login),
    /// The lane that the session would use after a SELECT.
    Select(u32, Rc<SharedLane>),
    /// The reply to INFO, as far as it is here.
    Info(Vec<u8>),
    /// The lane that the session would use after a HELLO.
    Hello(Rc<SharedLane>, Hello),
}

/// What follows from credentials that are right.
pub(in crate::front::resp) struct Login {
    pub(in crate::front::resp) identity: Identity,
    pub(in crate::front::resp) user: Bytes,
    /// Whether HELLO brought them.
    pub(in crate::front::resp) hello: Option<Hello>,
}

/// What HELLO asks for beside a login.
pub(in crate::front::resp) struct Hello {
    pub(in crate::front::resp) protocol: Protocol,
    pub(in crate::front::resp) name: Option<Bytes>,
}

impl Connection {
    /// Starts to get a pin for the command at hand.
    pub(super) fn get_pin(&mut self) {
        let key = self.session.key.clone();
        let opening = Box::pin(self.front.lanes.clone().pin(key.clone()));
        self.busy = Some(Box::new(Busy::Pin(key, opening)));
    }

    /// Starts to prove who the client is.
    pub(in crate::front::resp) fn prove(&mut self, key: LaneKey, login: Login) {
        let opening = Box::pin(self.front.lanes.clone().prove(key.clone()));
        self.busy = Some(Box::new(Busy::Login(key, opening, login)));
    }

    /// Goes on with what is under way. Whether it is done.
    pub(super) fn poll_busy(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(mut busy) = self.busy.take() else {
            return false;
        };
        let done = match &mut *busy {
            Busy::Pin(key, opening) => opening.as_mut().poll(cx).map(|outcome| match outcome {
                Ok(stream) => {
                    self.session.entry.set_upstream_id(stream.upstream_id);
                    self.pinned = Some(Pinned::new(stream, key.clone()));
                }
                Err(why) => self.refused = Some(why.text()),
            }),
            Busy::Login(key, opening, login) => {
                opening.as_mut().poll(cx).map(|outcome| self.logged_in(key, outcome, login))
            }
            Busy::Select(db, lane) => lane.poll_ready(cx).map(|outcome| match outcome {
                Ok(_) => {
                    self.session.select(*db);
                    self.forget_lanes();
                    self.say(&simple("OK"));
                }
                Err(refusal) => self.say_refusal(&refusal),
            }),
            Busy::Info(reply) => {
                // What came since the last look.
                self.mailbox.take_into(reply, &self.front.spare);
                self.poll_info(reply).map(|()| self.has_seen_redis())
            }
            Busy::Hello(lane, hello) => lane.poll_ready(cx).map(|outcome| match outcome {
                Ok(facts) => self.greeted(&facts, hello),
                Err(refusal) => self.say_refusal(&refusal),
            }),
        };
        if done.is_pending() {
            self.busy = Some(busy);
        }
        matches!(done, Poll::Ready(()))
    }

    fn say_refusal(&mut self, refusal: &Refusal) {
        self.say(&error(refusal.text()));
    }

    fn logged_in(&mut self, key: &LaneKey, outcome: Result<PinStream, NoPin>, login: &Login) {
        let stream = match outcome {
            Ok(stream) => stream,
            Err(why) => return self.say(&error(why.text())),
        };
        self.session.log_in(login.identity.clone(), login.user.clone());
        self.forget_lanes();
        // What this client read as another user came by another link.
        self.has_seen_redis();
        match &login.hello {
            Some(hello) => self.greeted(&stream.facts, hello),
            None => self.say(&simple("OK")),
        }
        self.front.lanes.unpin(key, stream);
    }

    /// HELLO succeeds, if Redis says of itself what its reply must say.
    fn greeted(&mut self, facts: &Facts, hello: &Hello) {
        let pairs = match &facts.hello {
            Ok(pairs) => pairs,
            Err(text) => return self.say(&error(text.clone())),
        };
        if let Some(name) = &hello.name {
            self.session.rename(name.clone());
        }
        if hello.protocol != self.session.key.protocol {
            self.session.speak(hello.protocol);
            self.forget_lanes();
        }
        self.say(&hello_reply(pairs, hello.protocol, self.session.entry.id));
    }
}
