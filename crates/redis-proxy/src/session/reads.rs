//! Reads that are answered from memory, or wait for what will be.
//!
//! A hit with nothing before it is answered within its own poll. Any other read stands in a queue until those before it are
//! answered; meanwhile its key is on its way. What cannot be answered so (an error, a reply too large to hold) goes to Redis
//! by the client's lane, at its turn, and the client gets Redis' own bytes.
//!
//! Lanes and this queue are two ways: commands are on one of them at a time, but for the first read of the queue (see
//! [`Outgoing`]).

use std::hash::BuildHasher;
use std::rc::Rc;

use command::Read;
use resp::{Arguments, Protocol};

use super::answers::{Said, accepts, write};
use super::client_state::{ClientState, ReplyMode};
use super::outgoing::Outgoing;
use super::parts::{Part, fetches, keys, question};
use super::pending::{Pending, State};
use super::reading::Reading;
use super::replies::Via;
use crate::lanes::Request;
use crate::readthrough::{KnownAnswer, ReadOutcome, ReadThrough, note_beyond, note_not_kept};

/// Keys longer than this are not cached.
const KEY_MAX_BYTES: usize = 64 * 1024;
/// Keys of one MGET; a longer one goes to Redis.
const MGET_MAX_KEYS: usize = 128;

/// A read as its client asks for it.
#[derive(Clone, Copy)]
pub(super) struct ReadCall<'a> {
    pub(super) read: Read,
    pub(super) request: Request<'a>,
    pub(super) arguments: Arguments<'a>,
}

/// What has become of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TakenRead {
    /// It is answered, or due.
    Yes,
    /// It must wait for commands on a lane.
    Wait,
    /// It is Redis' to answer, as one that changes nothing. Nothing is due before it.
    ToLane,
}

impl Reading {
    /// Whether this read may be answered from memory at all, and how: it is of a client with nothing on its own connection, and
    /// of a kind that is kept.
    pub(super) fn may_be_cached(
        &mut self,
        call: ReadCall<'_>,
        client: &ClientState,
    ) -> Option<Rc<ReadThrough>> {
        let ReadCall { read, arguments, .. } = call;
        let keys = if read == Read::Mget { arguments.len() - 1 } else { 1 };
        let long = arguments.iter().skip(1).take(keys).any(|key| key.len() > KEY_MAX_BYTES);
        let off = !self.sessions.settings.cache || client.replies != ReplyMode::On;
        if off || long || keys > MGET_MAX_KEYS {
            return None;
        }
        let reader = self.reader(client)?;
        (reader.keeps_replies() || read.is_of_string()).then_some(reader)
    }

    /// A read is passed on to Redis that [may not be cached](Self::may_be_cached): for those who ask why.
    pub(super) fn note_passed(&mut self, call: ReadCall<'_>, client: &ClientState) {
        if !self.sessions.settings.cache {
            return;
        }
        let key = call.arguments.get(1).unwrap_or_default();
        match self.reader(client) {
            Some(reader) => note_not_kept(&reader, key, self.turn_ns),
            None => note_beyond(self.sessions.readers.own(), key, self.turn_ns),
        }
    }

    /// Takes up a read.
    pub(super) fn read(
        &mut self,
        call: ReadCall<'_>,
        reader: &ReadThrough,
        client: &ClientState,
        out: &mut Outgoing,
    ) -> TakenRead {
        if !out.replies.may_go(Via::Cache) {
            return TakenRead::Wait;
        }
        if out.replies.is_empty()
            && let Some(taken) = self.read_at_once(call, reader, client, out)
        {
            return taken;
        }
        let ReadCall { read, request, arguments } = call;
        let mut pending = Pending::new(request, read, Vec::new(), State::Asked, self.turn_ns);
        let hasher = &self.sessions.hasher;
        let is_behind = keys(read, arguments).any(|key| {
            let hash = hasher.hash_one(key);
            out.replies.reads().any(|before| before.waits_for(hash))
        });
        if is_behind && reader.keeps_order() {
            pending.state = State::Behind;
        } else {
            pending.begin(self.begin(reader, read, arguments, client, self.turn_ns, self.turn_ns));
        }
        out.replies.read(pending);
        TakenRead::Yes
    }

    /// A read that is answered from memory with nothing before it. `None` if it is not that simple.
    #[inline]
    fn read_at_once(
        &mut self,
        call: ReadCall<'_>,
        reader: &ReadThrough,
        client: &ClientState,
        out: &mut Outgoing,
    ) -> Option<TakenRead> {
        let ReadCall { read, request, arguments } = call;
        if read == Read::Mget || !self.may(read, client, self.turn_ns) {
            return None;
        }
        let asked = self.asked(arguments.get(1).unwrap_or_default(), self.turn_ns, self.turn_ns);
        let protocol = client.key.protocol;
        let found = {
            let mut words = self.sessions.words.borrow_mut();
            let question = question(read, arguments, protocol, accepts(read), &mut words);
            match fetches(read, reader) {
                true => reader.ask_or_pass(question, asked),
                false => reader.held(question, asked).map(ReadOutcome::Hit),
            }
        };
        Some(match found {
            // What this mode does not fetch as a reply goes to Redis where it is not known already, and all where a link
            // would bring nothing to keep.
            None => TakenRead::ToLane,
            Some(ReadOutcome::Hit(entry)) => self.write_hit(call, reader, entry, protocol, out),
            Some(ReadOutcome::Wait(waiting)) => {
                let hash = self.sessions.hasher.hash_one(arguments.get(1).unwrap_or_default());
                let parts = vec![Part::Waiting(Box::new(waiting), hash)];
                let pending = Pending::new(request, read, parts, State::Asked, self.turn_ns);
                out.replies.read(pending);
                TakenRead::Yes
            }
        })
    }

    /// The answer to a read of which all is here, as much of it as fits.
    fn write_hit(
        &self,
        call: ReadCall<'_>,
        reader: &ReadThrough,
        entry: KnownAnswer,
        protocol: Protocol,
        out: &mut Outgoing,
    ) -> TakenRead {
        let ReadCall { read, request, arguments } = call;
        let (now_ns, limit) = (self.turn_ns, self.sessions.limits.get().output_bytes);
        match write(&mut out.output.bytes, read, arguments, &entry, protocol, now_ns, (0, limit)) {
            Said::Whole => {}
            Said::UpToValue { part, line } => out.attach(reader.lend(entry), part, line, false),
            Said::Elements(count) => {
                let pending =
                    Pending::new(request, read, vec![Part::Here(entry)], State::Written(count), now_ns);
                out.replies.read(pending);
                return TakenRead::Yes;
            }
            Said::Nothing => return TakenRead::ToLane,
        }
        self.sessions.stats.cached.add(1);
        TakenRead::Yes
    }
}
