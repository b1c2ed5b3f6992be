//! CLIENT, carried out. What is about other clients is asked of Redis first, with nobody in their place: it knows what a user
//! may.

use std::sync::Arc;
use std::task::Context;

use bytes::BytesMut;
use command::Local;
use resp::{Arguments, Frame, encode_command};

use super::at_hand::AtHand;
use super::busy::{Busy, Heard};
use super::client_state::ReplyMode;
use super::clients::{NOBODY, client_reply, kill_nobody, reply_mode, unblock, victims};
use super::registry::Entry;
use super::reply::{integer, simple};
use super::ways::Ways;
use super::words::{number, parsed};
use crate::lanes::Request;

impl AtHand {
    /// Answers a subcommand of CLIENT. False if it must be tried again.
    pub(super) fn client(
        &mut self,
        command: Local,
        arguments: Arguments<'_>,
        request: Request<'_>,
        ways: &mut Ways,
        cx: &mut Context<'_>,
    ) -> bool {
        match command {
            Local::ClientId | Local::ClientGetName | Local::ClientSetName | Local::ClientInfo => {
                let registry = &ways.sessions.registry;
                let reply = client_reply(command, arguments, request.len(), &ways.client, registry);
                ways.say(&reply);
                true
            }
            Local::ClientList => {
                self.ask_leave(command, request, &[b"CLIENT", b"LIST", b"ID", NOBODY], ways, cx)
            }
            Local::ClientKill => self.ask_leave(command, request, &kill_nobody(arguments), ways, cx),
            Local::ClientReply => ways.switch_replies(arguments.get(2).unwrap_or_default(), request, cx),
            Local::ClientUnblock => ways.unblock(arguments, request, cx),
            // Redis 7.2 and later take SETINFO; what an older one says is its own.
            _ => ways.pass_on(request, cx),
        }
    }

    /// Asks whether its user may do this of other clients.
    fn ask_leave(
        &mut self,
        command: Local,
        request: Request<'_>,
        words: &[&[u8]],
        ways: &mut Ways,
        cx: &mut Context<'_>,
    ) -> bool {
        let mut bytes = BytesMut::new();
        request.write(&mut bytes);
        let request = bytes.freeze();
        if ways.ask_grant(words) {
            self.wait_for(Busy::PinnedLeave(command, request));
            return true;
        }
        let mut question = BytesMut::new();
        encode_command(&mut question, words);
        self.hear(Heard::Leave(command, request), Request::Raw(&question), true, ways, cx)
    }

    /// Redis has nothing against it.
    pub(super) fn go_ahead(&mut self, command: Local, request: &[u8], ways: &mut Ways) {
        let parser = parsed(request);
        let arguments = parser.arguments(request);
        let reply = match command {
            Local::ClientKill => match ways.kill(arguments) {
                (reply, victims) if victims.is_empty() => reply,
                (reply, victims) => return self.wait_for(Busy::Kill(reply, victims)),
            },
            _ => client_reply(command, arguments, request.len(), &ways.client, &ways.sessions.registry),
        };
        ways.say(&reply);
    }
}

impl Ways {
    /// CLIENT KILL: its answer, and the others that must be gone before it is said. Itself it ends after the answer.
    pub(super) fn kill(&mut self, arguments: Arguments<'_>) -> (Frame, Vec<Arc<Entry>>) {
        let (own, registry) = (self.client.entry.id, &self.sessions.registry);
        let mut victims = match victims(arguments, own, registry) {
            Ok(victims) => victims,
            Err(reply) => return (reply, Vec::new()),
        };
        let reply = if arguments.len() == 3 { simple("OK") } else { integer(victims.len() as u64) };
        if victims.iter().any(|victim| victim.id == own) {
            self.out.end();
        }
        victims.retain(|victim| victim.id != own);
        victims.iter().for_each(|victim| registry.kill(victim));
        (reply, victims)
    }

    /// CLIENT REPLY: only ON has a reply of its own.
    fn switch_replies(&mut self, word: &[u8], request: Request<'_>, cx: &mut Context<'_>) -> bool {
        let Some(replies) = reply_mode(word, self.client.replies) else {
            return self.pass_on(request, cx);
        };
        self.client.replies = replies;
        if replies == ReplyMode::On {
            self.out.mailbox.mute(false);
            self.say(&simple("OK"));
        }
        true
    }

    /// CLIENT UNBLOCK: Redis knows the connection that waits, under a number of its own.
    fn unblock(&mut self, arguments: Arguments<'_>, request: Request<'_>, cx: &mut Context<'_>) -> bool {
        let how = arguments.get(3).unwrap_or(b"TIMEOUT");
        let is_known = [&b"TIMEOUT"[..], b"ERROR"].iter().any(|word| how.eq_ignore_ascii_case(word));
        let Some(id) = number::<u64>(arguments.get(2)).filter(|_| is_known && arguments.len() <= 4) else {
            return self.pass_on(request, cx);
        };
        match self.sessions.registry.get(id).and_then(|client| client.pin()) {
            // In a cluster it is asked for elsewhere.
            Some((_, known)) => self.pass_on(Request::Raw(&unblock(arguments, known)), cx),
            None => {
                self.say(&integer(0));
                true
            }
        }
    }
}
