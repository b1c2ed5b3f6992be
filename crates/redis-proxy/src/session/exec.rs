//! What a queued command will do to its client, and doing it once Redis has carried it out.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use command::{Lane, Local, PinReason};
use resp::{Arguments, RequestLimits, RequestParser, encode_command};

use super::Session;
use super::clients::kill_nobody;
use super::login::{Stay, version};
use super::pause::Pause;
use super::pin::later::Later;
use super::reply::c_text;
use super::tracking::names_target;
use super::words::number;
use crate::clock::now_ns;
use crate::lanes::Request;

impl Session {
    /// What a queued command will do to its client; `None` if it is not known what, or cannot be followed. A request that
    /// Redis is to get in its place stands beside it.
    pub(super) fn later(
        &self,
        lane: Lane,
        arguments: Arguments<'_>,
        request: &Request<'_>,
    ) -> Option<(Later, Option<Bytes>)> {
        let plain = |later| Some((later, None));
        match lane {
            Lane::Local(Local::Select) => match number(arguments.get(1)) {
                Some(db) => plain(Later::Select(db)),
                // Redis will refuse it.
                None => plain(Later::State),
            },
            Lane::Local(Local::Auth) => plain(Later::Login(self.auth_wanted(arguments)?)),
            Lane::Local(Local::Hello) => match self.hello_wanted(arguments) {
                Ok((hello, None)) => plain(Later::Hello(hello)),
                Ok((hello, Some((user, password)))) => {
                    plain(Later::Login(self.login(Some(user), password, Some(hello))))
                }
                Err(mistake) => Some((Later::State, Some(self.mistake_alone(arguments, mistake.at)))),
            },
            // Redis would take its own numbers and addresses.
            Lane::Local(Local::ClientKill) => {
                let mut bytes = BytesMut::new();
                encode_command(&mut bytes, &kill_nobody(arguments));
                Some((Later::Local(Local::ClientKill, whole(request)), Some(bytes.freeze())))
            }
            Lane::Local(
                local @ (Local::ClientId
                | Local::ClientGetName
                | Local::ClientSetName
                | Local::ClientInfo
                | Local::ClientList),
            ) => plain(Later::Local(local, whole(request))),
            // Redis knows the connection that waits by another number.
            Lane::Local(Local::ClientUnblock) => {
                let id = number::<u64>(arguments.get(2));
                let known = id.and_then(|id| self.sessions.registry.get(id)?.upstream_id());
                let known = known.unwrap_or(i64::MAX).to_string();
                let mut words: Vec<&[u8]> = arguments.iter().collect();
                if id.is_some() {
                    words[2] = known.as_bytes();
                }
                let mut bytes = BytesMut::new();
                encode_command(&mut bytes, &words);
                Some((Later::Nothing, Some(bytes.freeze())))
            }
            Lane::Local(Local::ClientSetInfo) => plain(Later::Nothing),
            Lane::Local(Local::ClientReply) => {
                match arguments.get(2).filter(|_| arguments.len() == 3).map(c_text) {
                    Some(word) if word.eq_ignore_ascii_case(b"OFF") || word.eq_ignore_ascii_case(b"SKIP") => {
                        None
                    }
                    // ON, which it is, or what Redis will refuse.
                    _ => plain(Later::Nothing),
                }
            }
            Lane::Shared | Lane::Slow => plain(Later::Pause(Pause::wanted(arguments)?)),
            Lane::Pinned(PinReason::Tracking) if names_target(arguments) => None,
            Lane::Pinned(PinReason::State | PinReason::Unknown | PinReason::Tracking) => plain(Later::State),
            _ => None,
        }
    }

    /// What Redis refuses in the same words as a HELLO with this mistake: an old server would apply what comes before it.
    fn mistake_alone(&self, arguments: Arguments<'_>, at: Range<usize>) -> Bytes {
        let mut words: Vec<&[u8]> = vec![b"HELLO"];
        if at.start > 1 {
            words.push(version(self.client.key.protocol));
        }
        words.extend(arguments.iter().skip(at.start).take(at.len()));
        let mut bytes = BytesMut::new();
        encode_command(&mut bytes, &words);
        bytes.freeze()
    }

    /// Redis has carried out a queued command.
    pub(super) fn carry_out(&mut self, later: Later) {
        match later {
            Later::Select(db) => self.selected(db),
            Later::Login(login) => self.logged_in_pinned(&login, Stay::AsLong),
            Later::Hello(hello) => self.greet_pinned(&hello),
            Later::State => self.keep_pin(),
            Later::Pause(pause) => self.sessions.registry.pauses.granted(pause, now_ns()),
            Later::Nothing => {}
            Later::Local(local, request) => {
                let mut parser = RequestParser::new(RequestLimits::REDIS);
                let _ = parser.parse(&request); // it was a request before
                let arguments = parser.arguments(&request);
                let reply = match local {
                    // That they are gone is not waited for: the reply goes on behind it.
                    Local::ClientKill => self.kill(arguments).0,
                    local => self.client_reply(local, arguments, request.len()),
                };
                self.say(&reply);
            }
        }
    }
}

/// Its bytes.
fn whole(request: &Request<'_>) -> Bytes {
    let mut bytes = BytesMut::new();
    request.write(&mut bytes);
    bytes.freeze()
}
