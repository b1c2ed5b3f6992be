//! What the proxy answers itself: who the client is, what it speaks, which database it uses.
//!
//! A command with a mistake in it goes to Redis where it can do no harm: Redis' own words are the right ones, in every
//! version of it.

use std::ops::Range;
use std::task::Context;

use bytes::Bytes;
use command::Local;
use resp::{Arguments, Frame, Protocol};

use super::Session;
use super::busy::Busy;
use super::client_state::ReplyMode;
use super::login::{HelloOptions, Login, Stay};
use super::reply::{c_text, error, integer, simple};
use super::words::{BAD_NAME, client_name, number};
use crate::lanes::{Identity, KeptOut, LaneKey, Pace, Request};

impl Session {
    /// Answers a command, or starts what its answer needs. Nothing of this client is on its way. False if it must be tried
    /// again.
    pub(super) fn local(
        &mut self,
        local: Local,
        arguments: Arguments<'_>,
        request: Request<'_>,
        cx: &mut Context<'_>,
    ) -> bool {
        match local {
            Local::Quit => {
                // Redis is to know before the client does.
                if !self.pass_to_pin(request) {
                    self.say(&simple("OK"));
                }
                self.end();
            }
            Local::Reset => {
                // It ends CLIENT REPLY OFF, but not the one silence that SKIP asked for.
                let silent = self.client.replies == ReplyMode::Skipping;
                self.become_new();
                if !silent {
                    self.say(&simple("RESET"));
                }
            }
            Local::Hello => return self.hello(arguments),
            Local::Auth => self.auth(arguments),
            Local::Select => return self.select(arguments, request, cx),
            // A browser led astray: not a word (Redis, server.c, `securityWarningCommand`).
            Local::Guard => self.vanish(),
            client => return self.client(client, arguments, request, cx),
        }
        true
    }

    /// Redis has reset a connection of the client's own.
    pub(super) fn reset(&mut self) {
        self.become_new();
        self.say(&simple("RESET"));
    }

    /// As a client that has just come, whatever it was.
    fn become_new(&mut self) {
        self.unpin(false);
        self.client.entry.refuse_pin();
        let settings = &self.sessions.settings;
        let (identity, admitted, user) =
            (self.sessions.identity.clone(), settings.as_proxy, settings.user.clone());
        self.client.reset(identity, admitted, user);
        self.mailbox.mute(false);
        self.forget_lanes();
        self.has_seen_redis();
    }

    /// Redis checks the number: a lane of that database is made.
    fn select(&mut self, arguments: Arguments<'_>, request: Request<'_>, cx: &mut Context<'_>) -> bool {
        let Some(db) = number::<u32>(arguments.get(1)) else {
            return self.pass_on(request, cx);
        };
        let key = LaneKey { db, ..self.client.key.clone() };
        let lane = self.sessions.lanes.shared(&key, Pace::Quick, None);
        self.wait_for(Busy::Select(db, lane));
        true
    }

    /// `AUTH password` or `AUTH user password`.
    fn auth(&mut self, arguments: Arguments<'_>) {
        if let Some(login) = self.auth_wanted(arguments) {
            self.log_in(login);
        }
    }

    pub(super) fn auth_wanted(&self, arguments: Arguments<'_>) -> Option<Login> {
        let (user, password) = match (arguments.get(1), arguments.get(2)) {
            (Some(user), Some(password)) => (Some(user), password),
            (Some(password), None) => (None, password),
            _ => return None,
        };
        Some(self.login(user, password, None))
    }

    /// What follows from credentials once they are right.
    pub(super) fn login(&self, user: Option<&[u8]>, password: &[u8], hello: Option<HelloOptions>) -> Login {
        let user = user.map(Bytes::copy_from_slice);
        let identity = Identity::new(user.clone(), Bytes::copy_from_slice(password));
        Login { identity, user: user.unwrap_or(Bytes::from_static(b"default")), hello }
    }

    fn log_in(&mut self, login: Login) {
        if self.has_pin() {
            self.ask_to_log_in(&login);
            return self.wait_for(Busy::PinnedLogin(login, Stay::AsLong));
        }
        let protocol = login.hello.as_ref().map_or(self.client.key.protocol, |hello| hello.protocol);
        let key = LaneKey { identity: login.identity.clone(), db: self.client.key.db, protocol };
        self.prove(key, login);
    }

    /// False if it must be tried again.
    fn hello(&mut self, arguments: Arguments<'_>) -> bool {
        let (hello, login) = match self.hello_wanted(arguments) {
            Ok(wanted) => wanted,
            Err(mistake) => {
                self.say(&error(mistake.text));
                return true;
            }
        };
        if login.is_none()
            && let Some(taken) = self.keep_out(KeptOut::hello_text)
        {
            return taken;
        }
        match login {
            Some((user, password)) => self.log_in(self.login(Some(user), password, Some(hello))),
            None if self.has_pin() => {
                self.ask_to_be(&[b"HELLO", hello.version()]);
                self.wait_for(Busy::PinnedHello(hello));
            }
            None => {
                let key = LaneKey { protocol: hello.protocol, ..self.client.key.clone() };
                let lane = self.sessions.lanes.shared(&key, Pace::Quick, None);
                self.wait_for(Busy::Hello(lane, hello));
            }
        }
        true
    }

    /// `HELLO [2|3 [AUTH user password] [SETNAME name]]`, in the order of checks of Redis 7.0 (networking.c, `helloCommand`).
    /// Never passed on with a mistake: older servers apply what comes before it.
    pub(super) fn hello_wanted<'a>(&self, arguments: Arguments<'a>) -> Result<HelloWanted<'a>, Mistake> {
        let mistake = |at, text: Bytes| Mistake { at, text };
        let protocol = match arguments.get(1) {
            None => self.client.key.protocol,
            Some(word) => match number::<i64>(Some(word.strip_prefix(b"-").unwrap_or(word))) {
                None => {
                    let text = "ERR Protocol version is not an integer or out of range";
                    return Err(mistake(1..2, text.into()));
                }
                Some(2) if word == b"2" => Protocol::Resp2,
                Some(3) if word == b"3" => Protocol::Resp3,
                Some(_) => return Err(mistake(1..2, "NOPROTO unsupported protocol version".into())),
            },
        };
        let (mut login, mut name) = (None, None);
        let mut at = 2;
        while let Some(option) = arguments.get(at) {
            let following = (arguments.get(at + 1), arguments.get(at + 2));
            match following {
                (Some(user), Some(password)) if option.eq_ignore_ascii_case(b"AUTH") => {
                    login = Some((user, password));
                    at += 3;
                }
                (Some(word), _) if option.eq_ignore_ascii_case(b"SETNAME") => {
                    name = Some(client_name(word).ok_or_else(|| mistake(at..at + 2, BAD_NAME.into()))?);
                    at += 2;
                }
                _ => {
                    let text = [b"ERR Syntax error in HELLO option '", c_text(option), b"'"].concat();
                    return Err(mistake(at..at + 1, text.into()));
                }
            }
        }
        Ok((HelloOptions { protocol, name }, login))
    }
}

/// What HELLO asks for, and the user and password that it brings.
type HelloWanted<'a> = (HelloOptions, Option<(&'a [u8], &'a [u8])>);

/// Why a HELLO is refused.
pub(super) struct Mistake {
    /// The arguments that are wrong.
    pub(super) at: Range<usize>,
    text: Bytes,
}

/// HELLO's reply: what Redis says of itself, with this client's protocol and id.
pub(super) fn hello_reply(pairs: &[(Frame, Frame)], protocol: Protocol, id: u64) -> Frame {
    let version = if protocol == Protocol::Resp3 { 3 } else { 2 };
    let pairs = pairs.iter().map(|(key, value)| {
        let value = match key {
            Frame::Bulk(name) if name == &b"proto"[..] => Frame::Integer(version),
            Frame::Bulk(name) if name == &b"id"[..] => integer(id),
            _ => value.clone(),
        };
        (key.clone(), value)
    });
    Frame::Map(pairs.collect())
}
