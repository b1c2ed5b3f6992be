//! Whether the client's user may ask what memory would answer: Redis shows it by answering that very command.

use std::task::Context;

use bytes::BytesMut;
use command::Read;
use resp::{Arguments, encode_command};

use super::answers::accepts;
use super::client_lanes::ClientLanes;
use super::client_state::ClientState;
use super::outgoing::Outgoing;
use super::parts::{keys, question};
use super::pending::Pending;
use super::reading::Reading;
use super::words::parsed;
use crate::clock::now_ns;
use crate::lanes::{Pace, Request};
use crate::readthrough::{Question, ReadThrough};

impl Reading {
    /// Whether what others have brought would answer a read.
    pub(super) fn is_told(
        &self,
        reader: &ReadThrough,
        read: Read,
        arguments: Arguments<'_>,
        client: &ClientState,
        now_ns: u64,
    ) -> bool {
        let mut words = self.sessions.words.borrow_mut();
        let question = question(read, arguments, client.key.protocol, accepts(read), &mut words);
        let known = reader.knows(question, now_ns);
        known.is_some_and(|entry| entry.words() != question.words)
    }

    /// Redis has answered a read to this client that it might as well have refused to its user.
    pub(super) fn learn_right(&mut self, pending: &Pending, client: &ClientState) {
        if let Some(asking) = pending.asking {
            self.rights(client).answered(pending.read, asking);
        }
    }

    /// From now on this user's MGETs are made of what GET brings: of these keys first.
    pub(super) fn fetch_parts(&mut self, read: Read, arguments: Arguments<'_>, client: &ClientState) {
        let now_ns = now_ns();
        if read == Read::Mget
            && let Some(reader) = self.reader(client)
        {
            for key in keys(read, arguments) {
                // Nobody waits for it.
                drop(reader.ask_or_pass(Question::value(key), self.asked(key, now_ns, now_ns)));
            }
        }
    }

    /// Has Redis show whether its user may ask this: by the command itself, but of an MGET by one of its keys, whose value is the
    /// least to hear of as far as is known. False if that is for later.
    pub(super) fn ask_for_right(
        &mut self,
        pending: &Pending,
        client: &ClientState,
        out: &Outgoing,
        lanes: &mut ClientLanes,
        cx: &mut Context<'_>,
    ) -> bool {
        // What is heard is told from what is still to be written.
        if !out.output.is_empty() {
            return false;
        }
        let (now_ns, reader) = (now_ns(), self.reader(client));
        let parser = parsed(&pending.request);
        let arguments = parser.arguments(&pending.request);
        let len_of = |key: &[u8]| {
            let held = reader.as_ref().and_then(|reader| reader.peek(Question::value(key), now_ns));
            held.map_or(usize::MAX, |entry| entry.value().len())
        };
        let mut of_one = BytesMut::new();
        if pending.read == Read::Mget
            && let Some(least) = keys(Read::Mget, arguments).min_by_key(|key| len_of(key))
        {
            encode_command(&mut of_one, &[b"MGET", least]);
        }
        let question = if of_one.is_empty() { &pending.request } else { &of_one };
        let slot = self.sessions.slot_of(question);
        lanes.send(&client.key, slot, Request::Raw(question), Pace::Quick, true, None, cx)
    }
}
