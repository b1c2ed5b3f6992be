//! What the proxy answers itself: who the client is, what it speaks, which database it uses.
//!
//! A command with a mistake in it goes to Redis where it can do no harm: Redis' own words are the right ones, in every
//! version of it.

use std::task::Context;

use command::Local;
use resp::Arguments;

use super::at_hand::AtHand;
use super::busy::Busy;
use super::client_state::ReplyMode;
use super::emulated::emulate;
use super::hello::hello_wanted;
use super::login::{Login, Stay};
use super::reply::{error, simple};
use super::ways::Ways;
use super::words::number;
use crate::lanes::{KeptOut, LaneKey, NoPin, Pace, PinStream, Request};

impl AtHand {
    /// Answers a command, or starts what its answer needs. Nothing of this client is on its way. False if it must be tried
    /// again.
    pub(super) fn answer(
        &mut self,
        local: Local,
        arguments: Arguments<'_>,
        request: Request<'_>,
        ways: &mut Ways,
        cx: &mut Context<'_>,
    ) -> bool {
        ways.sessions.stats.local.add(1);
        // Of those that a transaction without a pin lets through, each ends it.
        if self.begun.take().is_some() {
            ways.client.note(|details| details.multi = None);
        }
        match local {
            Local::Quit => {
                // Redis is to know before the client does.
                if !ways.pass_to_pin(request) {
                    ways.say(&simple("OK"));
                }
                ways.out.end();
            }
            Local::Reset => {
                // It ends CLIENT REPLY OFF, but not the one silence that SKIP asked for.
                let silent = ways.client.replies == ReplyMode::Skipping;
                ways.become_new();
                if !silent {
                    ways.say(&simple("RESET"));
                }
            }
            Local::Hello => return self.hello(arguments, ways),
            Local::Auth => {
                if let Some(login) = Login::of_auth(arguments) {
                    self.log_in(login, ways);
                }
            }
            Local::Select => return self.select(arguments, request, ways, cx),
            // A browser led astray: not a word (Redis, server.c, `securityWarningCommand`).
            Local::Guard => ways.out.vanish(),
            Local::Cluster => return emulate(self, arguments, request, ways, cx),
            client => return self.client(client, arguments, request, ways, cx),
        }
        true
    }

    /// Redis checks the number: a lane of that database is made.
    fn select(
        &mut self,
        arguments: Arguments<'_>,
        request: Request<'_>,
        ways: &mut Ways,
        cx: &mut Context<'_>,
    ) -> bool {
        let Some(db) = number::<u32>(arguments.get(1)) else {
            return ways.pass_on(request, cx);
        };
        let key = LaneKey { db, ..ways.client.key.clone() };
        let lane = ways.sessions.lanes.shared(&key, Pace::Quick, None);
        self.wait_for(Busy::Select(db, lane));
        true
    }

    /// False if it must be tried again.
    fn hello(&mut self, arguments: Arguments<'_>, ways: &mut Ways) -> bool {
        let (hello, login) = match hello_wanted(arguments, ways.client.key.protocol) {
            Ok(wanted) => wanted,
            Err(mistake) => {
                ways.say(&error(mistake.text));
                return true;
            }
        };
        if login.is_none()
            && let Some(taken) = self.keep_out(KeptOut::hello_text, ways)
        {
            return taken;
        }
        if let Some((user, password)) = login {
            self.log_in(Login::new(Some(user), password, Some(hello)), ways);
        } else if ways.ask_grant(&[b"HELLO", hello.version()]) {
            self.wait_for(Busy::PinnedHello(hello));
        } else {
            let key = LaneKey { protocol: hello.protocol, ..ways.client.key.clone() };
            let lane = ways.sessions.lanes.shared(&key, Pace::Quick, None);
            self.wait_for(Busy::Hello(lane, hello));
        }
        true
    }

    /// Starts to prove who the client is: on its own connection, or on a fresh one.
    fn log_in(&mut self, login: Login, ways: &mut Ways) {
        if login.ask(ways) {
            return self.wait_for(Busy::PinnedLogin(login, Stay::AsLong));
        }
        let protocol = login.hello.as_ref().map_or(ways.client.key.protocol, |hello| hello.protocol);
        let key = LaneKey { identity: login.identity.clone(), protocol, ..ways.client.key.clone() };
        let opening = Box::pin(ways.sessions.lanes.clone().prove(key.clone()));
        self.wait_for(Busy::Login(key, opening, login));
    }

    /// A fresh connection has taken the credentials, or has not.
    pub(super) fn logged_in(
        &mut self,
        key: &LaneKey,
        outcome: Result<PinStream, NoPin>,
        login: &Login,
        ways: &mut Ways,
    ) {
        let stream = match outcome {
            Ok(stream) => stream,
            Err(why) if why.is_about_database() => {
                let key = ways.client.key.clone();
                let opening = ways.sessions.lanes.pin(key.clone());
                return self.wait_for(Busy::Change(key, opening, login.clone()));
            }
            Err(why) => return ways.say(&error(why.text())),
        };
        ways.client.log_in(login.identity.clone(), login.user.clone());
        ways.key_changed();
        // What this client read as another user came by another link.
        ways.reading.has_seen_redis();
        match &login.hello {
            Some(hello) => hello.greet(&stream.facts, ways),
            None => ways.say(&simple("OK")),
        }
        ways.sessions.lanes.unpin(key, stream);
    }

    /// Logs in where the client's database is selected already. From then on it lives there, for no other connection has
    /// both.
    pub(super) fn change(&mut self, key: &LaneKey, stream: PinStream, login: &Login, ways: &mut Ways) {
        ways.pin.hold(stream, key.clone());
        login.ask(ways);
        self.wait_for(Busy::PinnedLogin(login.clone(), Stay::Always));
    }
}
