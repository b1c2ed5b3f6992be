//! CLIENT, as far as it is about the clients of the proxy (Redis 7.0, networking.c, `clientCommand`).

use std::sync::Arc;
use std::task::Context;

use bytes::{Bytes, BytesMut};
use command::Local;
use resp::{Arguments, Frame, RequestLimits, RequestParser, encode_command};

use super::Session;
use super::answers::signed;
use super::busy::{Busy, Heard};
use super::client_state::ReplyMode;
use super::registry::Entry;
use super::reply::{c_text, error, integer, simple};
use super::words::{BAD_NAME, client_name, number};
use crate::lanes::Request;

/// A client that does not exist.
const NOBODY: &[u8] = b"9223372036854775807";
const SYNTAX: &str = "ERR syntax error";

impl Session {
    /// Answers a subcommand of CLIENT. False if it must be tried again.
    pub(super) fn client(
        &mut self,
        command: Local,
        arguments: Arguments<'_>,
        request: Request<'_>,
        cx: &mut Context<'_>,
    ) -> bool {
        let word = arguments.get(2).unwrap_or_default();
        let reply = match command {
            // Redis 7.2 and later take it; what an older one says is its own.
            Local::ClientSetInfo => return self.pass_on(request, cx),
            Local::ClientId | Local::ClientGetName | Local::ClientSetName | Local::ClientInfo => {
                self.client_reply(command, arguments, request.len())
            }
            Local::ClientList => {
                return self.ask_leave(command, &request, &[b"CLIENT", b"LIST", b"ID", NOBODY], cx);
            }
            Local::ClientKill => return self.ask_leave(command, &request, &kill_nobody(arguments), cx),
            Local::ClientReply => return self.switch_replies(word, request, cx),
            Local::ClientUnblock => {
                let how = arguments.get(3).unwrap_or(b"TIMEOUT");
                let known = [&b"TIMEOUT"[..], b"ERROR"].iter().any(|word| how.eq_ignore_ascii_case(word));
                let Some(id) = number::<u64>(arguments.get(2)).filter(|_| known && arguments.len() <= 4)
                else {
                    return self.pass_on(request, cx);
                };
                // Redis knows the connection that waits, under a number of its own.
                let Some(known) = self.sessions.registry.get(id).and_then(|client| client.upstream_id())
                else {
                    self.say(&integer(0));
                    return true;
                };
                let mut words: Vec<&[u8]> = arguments.iter().collect();
                let known = known.to_string();
                words[2] = known.as_bytes();
                let mut bytes = BytesMut::new();
                encode_command(&mut bytes, &words);
                return self.pass_on(Request::Raw(&bytes), cx);
            }
            _ => return self.pass_on(request, cx),
        };
        self.say(&reply);
        true
    }

    /// The answer to one of these that is made at once; the request has so many bytes.
    pub(super) fn client_reply(&mut self, command: Local, arguments: Arguments<'_>, bytes: usize) -> Frame {
        match command {
            Local::ClientId => integer(self.client.entry.id),
            Local::ClientSetName => match client_name(arguments.get(2).unwrap_or_default()) {
                Some(name) => {
                    self.client.rename(name);
                    simple("OK")
                }
                None => error(BAD_NAME),
            },
            Local::ClientInfo => text(self.client.entry.line(bytes)),
            Local::ClientList => match self.chosen(arguments) {
                Ok(clients) => {
                    let own = self.client.entry.id;
                    let unread = |client: &Entry| if client.id == own { bytes } else { 0 };
                    text(clients.iter().flat_map(|client| client.line(unread(client))).collect())
                }
                Err(text) => Frame::Error(text),
            },
            _ => {
                let name = self.client.entry.details.lock().name.clone();
                if name.is_empty() { Frame::Null } else { Frame::Bulk(name) }
            }
        }
    }

    /// Those that CLIENT LIST asks for.
    fn chosen(&self, arguments: Arguments<'_>) -> Result<Vec<Arc<Entry>>, Bytes> {
        let mut clients = self.sessions.registry.all();
        let (Some(option), Some(word)) = (arguments.get(2), arguments.get(3)) else {
            return if arguments.len() == 2 { Ok(clients) } else { Err(SYNTAX.into()) };
        };
        if option.eq_ignore_ascii_case(b"TYPE") && arguments.len() == 4 {
            let kind = kind_of(word)?;
            clients.retain(|client| client.kind() == kind);
        } else if option.eq_ignore_ascii_case(b"ID") {
            let ids: Option<Vec<i64>> = arguments.iter().skip(3).map(|word| signed(Some(word))).collect();
            let ids = ids.ok_or(Bytes::from_static(b"ERR Invalid client ID"))?;
            // Zero and less are numbers, and nobody's.
            clients =
                ids.iter().filter_map(|id| self.sessions.registry.get(u64::try_from(*id).ok()?)).collect();
        } else {
            return Err(SYNTAX.into());
        }
        Ok(clients)
    }

    /// What is about other clients is asked of Redis first, with nobody in their place: it knows what a user may.
    fn ask_leave(
        &mut self,
        command: Local,
        request: &Request<'_>,
        words: &[&[u8]],
        cx: &mut Context<'_>,
    ) -> bool {
        let mut bytes = BytesMut::new();
        request.write(&mut bytes);
        let request = bytes.freeze();
        let mut question = BytesMut::new();
        encode_command(&mut question, words);
        if self.ask_pin_for_leave(&question) {
            self.wait_for(Busy::PinnedLeave(command, request));
            return true;
        }
        self.hear(Heard::Leave(command, request), Request::Raw(&question), true, cx)
    }

    /// Redis has nothing against it.
    pub(super) fn go_ahead(&mut self, command: Local, request: &[u8]) {
        let mut parser = RequestParser::new(RequestLimits::REDIS);
        let _ = parser.parse(request); // it was a request before
        let arguments = parser.arguments(request);
        let reply = match command {
            Local::ClientKill => match self.kill(arguments) {
                (reply, victims) if victims.is_empty() => reply,
                (reply, victims) => return self.wait_for(Busy::Kill(reply, victims)),
            },
            _ => self.client_reply(command, arguments, request.len()),
        };
        self.say(&reply);
    }

    /// `CLIENT KILL address`, or with filters that must all hold: the answer, and the others that must be gone before it is
    /// said.
    pub(super) fn kill(&mut self, arguments: Arguments<'_>) -> (Frame, Vec<Arc<Entry>>) {
        let says = |reply| (reply, Vec::new());
        let mut victims = self.sessions.registry.all();
        let own = self.client.entry.id;
        if arguments.len() == 3 {
            let address = String::from_utf8_lossy(arguments.get(2).unwrap_or_default()).into_owned();
            let Some(victim) = victims.iter().find(|client| client.address == address) else {
                return says(error("ERR No such client"));
            };
            let victim = victim.clone();
            return (simple("OK"), self.end_clients(vec![victim]));
        }
        let mut skip_me = true;
        let mut at = 3;
        while at < arguments.len() + 1 {
            let (Some(option), Some(word)) = (arguments.get(at - 1), arguments.get(at)) else {
                return says(error(SYNTAX));
            };
            let text = String::from_utf8_lossy(word);
            if option.eq_ignore_ascii_case(b"ID") {
                let Some(id) = number::<u64>(Some(word)).filter(|id| *id > 0) else {
                    return says(error("ERR client-id should be greater than 0"));
                };
                victims.retain(|client| client.id == id);
            } else if option.eq_ignore_ascii_case(b"TYPE") {
                match kind_of(word) {
                    Ok(kind) => victims.retain(|client| client.kind() == kind),
                    Err(text) => return says(Frame::Error(text)),
                }
            } else if option.eq_ignore_ascii_case(b"ADDR") {
                victims.retain(|client| client.address == text);
            } else if option.eq_ignore_ascii_case(b"LADDR") {
                victims.retain(|client| client.local_address == text);
            } else if option.eq_ignore_ascii_case(b"USER") {
                victims.retain(|client| client.details.lock().user == word);
            } else if option.eq_ignore_ascii_case(b"MAXAGE") {
                let Some(age_s) = number::<u64>(Some(word)).filter(|age_s| *age_s > 0) else {
                    return says(error("ERR maxage is not an integer or out of range"));
                };
                victims.retain(|client| client.age_s() >= age_s);
            } else if option.eq_ignore_ascii_case(b"SKIPME") && word.eq_ignore_ascii_case(b"yes") {
                skip_me = true;
            } else if option.eq_ignore_ascii_case(b"SKIPME") && word.eq_ignore_ascii_case(b"no") {
                skip_me = false;
            } else {
                return says(error(SYNTAX));
            }
            at += 2;
        }
        victims.retain(|client| client.id != own || !skip_me);
        (integer(victims.len() as u64), self.end_clients(victims))
    }

    /// Itself after the reply, others at once: these.
    fn end_clients(&mut self, mut victims: Vec<Arc<Entry>>) -> Vec<Arc<Entry>> {
        let own = self.client.entry.id;
        if victims.iter().any(|victim| victim.id == own) {
            self.end();
        }
        victims.retain(|victim| victim.id != own);
        victims.iter().for_each(|victim| self.sessions.registry.kill(victim));
        victims
    }

    /// ON, OFF or SKIP: only ON has a reply of its own.
    fn switch_replies(&mut self, word: &[u8], request: Request<'_>, cx: &mut Context<'_>) -> bool {
        // Redis reads it as a C string; what it took for one of these must not get on a shared lane.
        let word = c_text(word);
        let replies = if word.eq_ignore_ascii_case(b"ON") {
            ReplyMode::On
        } else if word.eq_ignore_ascii_case(b"OFF") {
            ReplyMode::Off
        } else if word.eq_ignore_ascii_case(b"SKIP") {
            // Within OFF it changes nothing.
            match self.client.replies {
                ReplyMode::Off => ReplyMode::Off,
                _ => ReplyMode::SkipNext,
            }
        } else {
            return self.pass_on(request, cx);
        };
        self.client.replies = replies;
        if replies == ReplyMode::On {
            self.mailbox.mute(false);
            self.say(&simple("OK"));
        }
        true
    }
}

/// A CLIENT KILL of nobody, in the place of that of a client: Redis looks at its filters, too, at users above all, of whom it
/// knows more than those who are here, and at those that only some servers have.
pub(super) fn kill_nobody<'a>(arguments: Arguments<'a>) -> Vec<&'a [u8]> {
    let mut words: Vec<&[u8]> = match arguments.len() {
        3 => vec![b"CLIENT", b"KILL"],
        _ => arguments.iter().collect(),
    };
    words.extend([&b"ID"[..], NOBODY]);
    words
}

/// A text for people: verbatim in RESP3, which is what Redis says there.
fn text(lines: Vec<u8>) -> Frame {
    Frame::Verbatim { format: *b"txt", text: lines.into() }
}

/// The kinds of clients that there can be here, and those that there cannot (networking.c, `getClientTypeByName`).
fn kind_of(word: &[u8]) -> Result<&'static str, Bytes> {
    let kinds = [
        ("normal", "normal"),
        ("pubsub", "pubsub"),
        ("replica", "replica"),
        ("slave", "replica"),
        ("master", "master"),
    ];
    kinds
        .into_iter()
        .find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, kind)| kind)
        .ok_or_else(|| [b"ERR Unknown client type '", c_text(word), b"'"].concat().into())
}
