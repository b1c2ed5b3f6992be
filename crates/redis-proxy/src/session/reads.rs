//! Reads that are answered from memory, or wait for what will be.
//!
//! A hit with nothing before it is answered within its own poll. Any other read stands in a queue until those before it are
//! answered; meanwhile its key is on its way. What cannot be answered so (an error, a reply too large to hold) goes to Redis
//! by the client's lane, at its turn, and the client gets Redis' own bytes.
//!
//! Lanes and this queue are two ways: commands are on one of them at a time, but for the first read of the queue (see [`super`]).

use std::hash::BuildHasher;
use std::rc::Rc;
use std::task::Context;

use command::Read;
use resp::Arguments;

use super::Session;
use super::answers::{Said, accepts, write, write_small};
use super::client_state::{ClientState, ReplyMode};
use super::parts::{Part, fetches, keys, question};
use super::pending::{Pending, State};
use super::replies::{NodeId, Via};
use crate::clock::{nanos, now_ns};
use crate::lanes::{Pace, Request};
use crate::readthrough::{ReadOptions, ReadOutcome, ReadThrough};

/// A client for whom nothing is cached is looked at again after so long: others may have gone.
const NO_READER_NS: u64 = 1_000_000_000;
/// Keys longer than this are not cached.
const KEY_MAX_BYTES: usize = 64 * 1024;
/// Keys of one MGET; a longer one goes to Redis.
const MGET_MAX_KEYS: usize = 128;

impl Session {
    /// Whether this read may be answered from memory at all: it is of a client with nothing on its own connection, and of a
    /// kind that is kept.
    pub(super) fn may_be_cached(&mut self, read: Read, arguments: Arguments<'_>) -> Option<Rc<ReadThrough>> {
        let keys = if read == Read::Mget { arguments.len() - 1 } else { 1 };
        let long = arguments.iter().skip(1).take(keys).any(|key| key.len() > KEY_MAX_BYTES);
        let off = !self.sessions.settings.cache || self.client.replies != ReplyMode::On;
        if off || long || keys > MGET_MAX_KEYS {
            return None;
        }
        let reader = self.reader()?;
        (reader.keeps_replies() || read.is_of_string()).then_some(reader)
    }

    /// The way to what this client may see, if anything is cached for it.
    pub(super) fn reader(&mut self) -> Option<Rc<ReadThrough>> {
        self.read_ns = self.turn_ns;
        match &self.reader {
            Some(Ok(reader)) => return Some(reader.clone()),
            Some(Err(since_ns)) if self.turn_ns.saturating_sub(*since_ns) < NO_READER_NS => return None,
            _ => {}
        }
        let ClientState { key, proven_ns, .. } = &self.client;
        let reader = self.sessions.readers.of(key.identity.credentials(), *proven_ns, key.db);
        self.reader = Some(reader.clone().ok_or(self.turn_ns));
        // A round that nobody has seen: so it is woken for the next one.
        self.round = u64::MAX;
        reader
    }

    /// Gives the way to what is cached back if nothing was read for RESP_LANE_IDLE; else looks again in the next round.
    pub(super) fn look_back(&mut self, cx: &mut Context<'_>) {
        self.round = self.sessions.recall.round();
        self.recalled = None;
        let Some(Ok(reader)) = &self.reader else { return };
        let idle_ns = nanos(self.sessions.settings.lanes.idle);
        if self.sessions.readers.links_follow_reads()
            && self.replies.reads().next().is_none()
            && now_ns().saturating_sub(self.read_ns) >= idle_ns
        {
            self.sessions.readers.given_back(reader, self.read_ns);
            self.reader = None;
            return;
        }
        let mut recalled = self.sessions.recall.told();
        let _ = recalled.as_mut().poll(cx); // it wakes this task; the round is what is read
        self.recalled = Some(recalled);
    }

    /// Takes up a read. False if it must wait for commands on a lane.
    pub(super) fn read(
        &mut self,
        read: Read,
        reader: &ReadThrough,
        request: Request<'_>,
        arguments: Arguments<'_>,
        cx: &mut Context<'_>,
    ) -> bool {
        if !self.replies.may_go(NodeId::FIRST, Via::Cache) {
            return false;
        }
        if self.replies.is_empty()
            && let Some(taken) = self.read_at_once(read, reader, request, arguments, cx)
        {
            return taken;
        }
        let mut pending = Pending::new(request, read, Vec::new(), State::Asked);
        let hasher = &self.sessions.hasher;
        let is_behind = keys(read, arguments).any(|key| {
            let hash = hasher.hash_one(key);
            self.replies.reads().any(|before| before.waits_for(hash))
        });
        if is_behind && reader.keeps_order() {
            pending.state = State::Behind;
        } else {
            pending.begin(self.begin(reader, read, arguments, self.turn_ns));
        }
        self.replies.read(NodeId::FIRST, pending);
        true
    }

    #[inline]
    pub(super) fn asked(&self, key: &[u8], now_ns: u64) -> ReadOptions {
        let since_ns = self.seen_keys.since_ns(|| self.sessions.hasher.hash_one(key));
        ReadOptions { now_ns, min_sync_ns: self.steward.min_sync_ns().max(since_ns), no_cache: false }
    }

    /// A read that is answered from memory with nothing before it. `None` if it is not that simple.
    #[inline]
    fn read_at_once(
        &mut self,
        read: Read,
        reader: &ReadThrough,
        request: Request<'_>,
        arguments: Arguments<'_>,
        cx: &mut Context<'_>,
    ) -> Option<bool> {
        if read == Read::Mget || !self.may(read, self.turn_ns) {
            return None;
        }
        let asked = self.asked(arguments.get(1).unwrap_or_default(), self.turn_ns);
        let protocol = self.client.key.protocol;
        let found = {
            let mut words = self.sessions.words.borrow_mut();
            let question = question(read, arguments, protocol, accepts(read), &mut words);
            match fetches(read, reader) {
                true => reader.ask_or_pass(question, asked),
                false => reader.held(question, asked).map(ReadOutcome::Hit),
            }
        };
        match found {
            // What this mode does not fetch as a reply goes to Redis where it is not known already, and all where a link
            // would bring nothing to keep.
            None => Some(self.share(request, Pace::Quick, true, None, cx)),
            Some(ReadOutcome::Hit(entry)) => {
                let (now_ns, limit) = (self.turn_ns, self.sessions.settings.output_bytes);
                let out = &mut self.output.bytes;
                if write_small(out, read, &entry) {
                    self.sessions.stats.cached.add(1);
                    return Some(true);
                }
                match write(out, read, arguments, &entry, protocol, now_ns, (0, limit)) {
                    Said::Whole => {}
                    Said::UpToValue { part, line } => {
                        self.output.attach_part(reader.lend(entry), part, line);
                        self.tail_is_fetched = false;
                    }
                    Said::Elements(count) => {
                        let state = State::Written(count);
                        let pending = Pending::new(request, read, vec![Part::Here(entry)], state);
                        self.replies.read(NodeId::FIRST, pending);
                        return Some(true);
                    }
                    Said::Nothing => return Some(self.share(request, Pace::Quick, true, None, cx)),
                }
                self.sessions.stats.cached.add(1);
                Some(true)
            }
            Some(ReadOutcome::Wait(waiting)) => {
                let hash = self.sessions.hasher.hash_one(arguments.get(1).unwrap_or_default());
                let parts = vec![Part::Waiting(Box::new(waiting), hash)];
                self.replies.read(NodeId::FIRST, Pending::new(request, read, parts, State::Asked));
                Some(true)
            }
        }
    }
}
