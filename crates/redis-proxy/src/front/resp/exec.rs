//! What a transaction does to its client beside its keys: SELECT, AUTH, HELLO and CLIENT are queued by Redis like all else, and
//! carried out with EXEC. What became of them stands in EXEC's reply, which is looked into for that: an element at a time, so
//! that none is held. Where the proxy knows better than Redis (a client's number, its name), the element is the proxy's.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use command::{Lane, Local, PinReason};
use resp::{Arguments, DecodeError, ReplyScanner, RequestLimits, RequestParser, encode_command};

use super::clients::kill_nobody;
use super::connection::{Connection, Hello, Login, Stay, number};
use super::pause::Pause;
use super::reply::c_text;
use crate::clock::now_ns;
use crate::lanes::Request;
use crate::session::tracking::names_target;

/// What is to be done once Redis has carried out a queued command.
pub(super) enum Later {
    /// The session is in another database.
    Select(u32),
    /// It is somebody else, and may speak another protocol.
    Login(Login),
    Hello(Hello),
    /// The proxy's answer to this request stands for that of Redis.
    Local(Local, Bytes),
    /// The connection is in a state that no later reply ends.
    State,
    Pause(Pause),
    Nothing,
}

/// What is to be done after EXEC, by the places of the commands among those queued, in order.
pub(super) type Laters = VecDeque<(usize, Later)>;

/// The reply to an EXEC that is looked into.
#[derive(Default)]
pub(super) struct Executed {
    /// As much of its first line as is here.
    head: Vec<u8>,
    /// Elements to come, once that is known.
    left: Option<usize>,
    /// The place of the next one.
    at: usize,
    later: Laters,
}

/// How far a piece of EXEC's reply goes, and what follows from it.
pub(super) struct Looked {
    pub(super) used: usize,
    pub(super) later: Option<Later>,
    pub(super) whole: bool,
}

impl Executed {
    pub(super) fn new(later: Laters) -> Self {
        Executed { later, ..Executed::default() }
    }

    /// Whether what is to come of it may be the client's end.
    pub(super) fn may_kill(&self) -> bool {
        self.later.iter().any(|(_, later)| later.may_kill())
    }

    /// Takes bytes of the reply, which begins with `*`, up to the end of an element that something follows from, or of the
    /// reply. What the client is to see of them is appended to `out`.
    ///
    /// # Errors
    /// It is unknown where the next reply starts.
    pub(super) fn look(
        &mut self,
        bytes: &[u8],
        scanner: &mut ReplyScanner,
        out: &mut Vec<u8>,
    ) -> Result<Looked, DecodeError> {
        let mut used = 0;
        while used < bytes.len() && self.left.is_none() {
            let byte = bytes[used];
            used += 1;
            self.head.push(byte);
            out.push(byte);
            if byte == b'\n' {
                let digits = self.head.get(1..self.head.len().saturating_sub(2)).unwrap_or_default();
                // A null is negative: nothing was carried out.
                self.left = Some(number(Some(digits)).unwrap_or(0));
            } else if self.head.len() > HEAD_BYTES {
                return Err(DecodeError::LineTooLong { limit: HEAD_BYTES });
            }
        }
        while used < bytes.len() && self.left.is_some_and(|left| left > 0) {
            let scanned = scanner.scan(&bytes[used..])?;
            let piece = &bytes[used..used + scanned.len];
            used += scanned.len;
            let kind = scanner.kind().unwrap_or_default();
            let here = kind != b'>' && self.later.front().is_some_and(|(at, _)| *at == self.at);
            let succeeded = here && !matches!(kind, b'-' | b'!');
            let hidden = succeeded && self.later.front().is_some_and(|(_, later)| later.is_ours());
            if !hidden {
                out.extend_from_slice(piece);
            }
            // A push is none of them.
            if scanned.whole && kind != b'>' {
                self.at += 1;
                self.left = self.left.map(|left| left - 1);
                let later = if here { self.later.pop_front() } else { None };
                if succeeded {
                    let later = later.map(|(_, later)| later);
                    return Ok(Looked { used, later, whole: self.left == Some(0) });
                }
            }
        }
        Ok(Looked { used, later: None, whole: self.left == Some(0) })
    }
}

/// The longest first line that a reply can have.
const HEAD_BYTES: usize = 24;

impl Later {
    /// Whether it may be the client's end.
    pub(super) fn may_kill(&self) -> bool {
        matches!(self, Later::Local(Local::ClientKill, _))
    }

    /// Whether the client gets an answer of ours in the place of Redis'.
    fn is_ours(&self) -> bool {
        matches!(self, Later::Login(_) | Later::Hello(_) | Later::Local(..))
    }
}

impl Connection {
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
                // An old server applies what comes before a mistake.
                Err(_) => None,
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
                let known = id.and_then(|id| self.registry().get(id)?.upstream_id());
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
                let is_on = c_text(arguments.get(2)?).eq_ignore_ascii_case(b"ON");
                is_on.then_some((Later::Nothing, None))
            }
            Lane::Shared | Lane::Slow => plain(Later::Pause(Pause::wanted(arguments)?)),
            Lane::Pinned(PinReason::Tracking) if names_target(arguments) => None,
            Lane::Pinned(PinReason::State | PinReason::Unknown | PinReason::Tracking) => plain(Later::State),
            _ => None,
        }
    }

    /// Redis has carried out a queued command.
    pub(super) fn carry_out(&mut self, later: Later) {
        match later {
            Later::Select(db) => self.selected(db),
            Later::Login(login) => self.logged_in_pinned(&login, Stay::AsLong),
            Later::Hello(hello) => self.greet_pinned(&hello),
            Later::State => self.keep_pin(),
            Later::Pause(pause) => self.registry().pauses.granted(pause, now_ns()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reply_is_cut_at_what_follows_however_it_arrives() {
        let reply = b"*4\r\n+OK\r\n*2\r\n:1\r\n$2\r\n:7\r\n-ERR no\r\n:9\r\n";
        for size in [1, 2, 3, 7, 100] {
            let later =
                [(0, Later::Select(3)), (2, Later::State), (3, Later::Local(Local::ClientId, Bytes::new()))];
            let mut executed = Executed::new(later.into());
            let (mut scanner, mut out, mut followed, mut whole) =
                (ReplyScanner::new(), Vec::new(), Vec::new(), false);
            for mut piece in reply.chunks(size) {
                while !piece.is_empty() {
                    assert!(!whole);
                    let looked = executed.look(piece, &mut scanner, &mut out).expect("a reply");
                    piece = &piece[looked.used..];
                    followed.extend(looked.later.map(|later| (out.len(), later.is_ours())));
                    whole = looked.whole;
                }
            }
            // The error undoes what would have followed, and the number is not Redis' to tell.
            assert!(whole && followed == [(9, false), (out.len(), true)], "{followed:?}");
            assert_eq!(out, &reply[..reply.len() - 4]);
        }
        let mut executed = Executed::default();
        let looked = executed.look(b"*-1\r\n", &mut ReplyScanner::new(), &mut Vec::new()).expect("a null");
        assert!(looked.whole && looked.used == 5);
    }
}
