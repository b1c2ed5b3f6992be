//! One writer: the only one of its keys, so that the order of their values is known.
//!
//! It writes in bursts to a few of its keys at a time, so that the others rest for longer than any bound: what is stale
//! then, and stays so, shows.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use crate::child::PATIENCE;
use crate::history::{Cause, Write, WriteOutcome};
use crate::redis_client::encode_command;
use crate::workload::ask::Ask;
use crate::workload::direct::Direct;
use crate::workload::harvest::Harvest;
use crate::workload::keyspace::Keyspace;
use crate::workload::operation::{Known, Operation};
use crate::workload::primary::{Flush, Primary, PrimaryState};
use crate::workload::session::{SESSION_PATIENCE, WriterSession};
use crate::workload::{Workload, pause};
use crate::{Random, Reply, now_ns};

/// Refusals that say that nothing was done, and that faults lead to.
const REFUSALS: [&str; 8] =
    ["LOADING", "READONLY", "OOM", "MASTERDOWN", "EXECABORT", "ERR no such key", "CLUSTERDOWN", "TRYAGAIN"];
/// What nodes of a cluster that do not agree say in circles.
const REDIRECTIONS: [&str; 2] = ["MOVED", "ASK"];
/// After this, nothing of a connection that the program has lost is on its way any more: it lies in Redis' socket, if
/// anywhere.
const ON_ITS_WAY: Duration = Duration::from_millis(20);

pub(super) struct Writer<'a> {
    workload: &'a Workload,
    primary: &'a Primary,
    /// Where Redis clients of the program connect to.
    resp: Option<SocketAddr>,
    connections: &'a AtomicU32,
    keyspace: Keyspace,
    random: Random,
    scratch: String,
    keys: BTreeMap<usize, Key>,
    redis: Option<Direct<'a>>,
    session: Option<WriterSession>,
    generation: u64,
    flushes: usize,
    harvest: Harvest,
}

/// The writes of each key, and what was read between them.
pub(super) type WriteLog = (Vec<(usize, Vec<Write>)>, Harvest);

#[derive(Default)]
struct Key {
    known: Known,
    writes: Vec<Write>,
}

/// What became of an operation.
enum Sent {
    /// It was refused, or never sent.
    Nothing,
    Answered {
        begin: u64,
        ack: u64,
        reply: Reply,
    },
    /// Its connection was lost.
    Lost {
        begin: u64,
    },
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        workload: &'a Workload,
        primary: &'a Primary,
        resp: Option<SocketAddr>,
        connections: &'a AtomicU32,
        keys: impl Iterator<Item = usize>,
        mut random: Random,
    ) -> Writer<'a> {
        Writer {
            workload,
            primary,
            resp,
            connections,
            keyspace: Keyspace::of(workload),
            scratch: format!("scratch-{:x}", random.next_u64()),
            random,
            keys: keys.map(|key| (key, Key::default())).collect(),
            redis: None,
            session: None,
            generation: 0,
            flushes: 0,
            harvest: Harvest::default(),
        }
    }

    /// Writes until it is told to stop.
    pub(super) fn run(mut self, stop: &AtomicBool) -> WriteLog {
        let all: Vec<usize> = self.keys.keys().copied().collect();
        while !stop.load(Ordering::Relaxed) {
            let few: Vec<usize> =
                (0..self.random.between(1, 3)).map(|_| all[self.random.below(all.len())]).collect();
            for _ in 0..self.random.between(5, 40) {
                let keys = [(); 2].map(|()| few[self.random.below(few.len())]);
                self.write(keys);
                pause(&mut self.random, self.workload.write_pause);
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        }
        let primary = self.primary;
        self.note_flushes(&primary.open());
        (self.keys.into_iter().map(|(key, Key { writes, .. })| (key, writes)).collect(), self.harvest)
    }

    /// One operation, unless the server refuses it.
    fn write(&mut self, keys: [usize; 2]) {
        let primary = self.primary;
        let state = primary.open();
        self.note_flushes(&state);
        if self.redis.is_none() || self.generation != state.generation {
            self.generation = state.generation;
            self.redis = Direct::connect(primary, &state, self.db());
        }
        let known = keys.map(|key| &self.keys[&key].known);
        let through = self.resp.filter(|_| self.random.percent(self.workload.through_percent));
        let (random, keyspace, scratch) = (&mut self.random, self.keyspace, &self.scratch);
        let operation = match random.percent(self.workload.px_percent) {
            true => Operation::set_px(random, keyspace, keys[0], known[0]),
            false => Operation::draw(random, keyspace, scratch, keys, known, through.is_some()),
        };
        if let Some(resp) = through {
            return self.write_through(&operation, resp, &state);
        }
        match self.send(&operation) {
            Sent::Nothing => {}
            Sent::Answered { begin, ack, reply } => {
                self.note(&operation, begin, WriteOutcome::Done(ack), Cause::Direct, Some(&reply));
            }
            Sent::Lost { begin } => {
                // Only a server that died cuts us, and once another answers in its place nothing of it can follow.
                drop(state);
                self.redis = Direct::connect(primary, &primary.open(), self.db());
                let settled = self.settled(&operation);
                self.note(&operation, begin, WriteOutcome::Open(settled), Cause::Direct, None);
            }
        }
    }

    /// The database of this writer's keys.
    fn db(&self) -> u32 {
        self.keys.keys().next().map_or(0, |&key| self.keyspace.db(key))
    }

    /// Behind the program's back.
    fn send(&mut self, operation: &Operation) -> Sent {
        let Some(redis) = &mut self.redis else { return Sent::Nothing };
        for command in &operation.prepare {
            match redis.try_command(command) {
                Ok(Reply::Error(text)) => {
                    assert_refusal(&text);
                    // Of a transaction nothing may remain.
                    self.redis = None;
                    return Sent::Nothing;
                }
                Ok(_) => {}
                Err(_) => {
                    self.redis = None;
                    return Sent::Nothing;
                }
            }
        }
        let begin = now_ns();
        let reply = redis.try_command(&operation.act);
        let ack = now_ns();
        match reply {
            Ok(Reply::Error(text)) => {
                let is_sent_on = REDIRECTIONS.iter().any(|code| text.starts_with(code));
                if self.primary.cluster().is_none() || !is_sent_on {
                    assert_refusal(&text);
                }
                Sent::Nothing
            }
            Ok(reply) => Sent::Answered { begin, ack, reply },
            Err(error) => {
                assert!(error.kind() != io::ErrorKind::WouldBlock, "Redis was silent for {PATIENCE:?}");
                Sent::Lost { begin }
            }
        }
    }

    /// As a client of the program, with reads in the same pipeline. The gate stays open until nothing can follow.
    fn write_through(&mut self, operation: &Operation, resp: SocketAddr, state: &PrimaryState) {
        let session = self.session.take().map_or_else(
            || {
                let is_resp3 = self.random.percent(50);
                WriterSession::open(resp, self.connections, self.db(), is_resp3, SESSION_PATIENCE)
            },
            Ok,
        );
        let Ok(mut session) = session else {
            self.harvest.closed += 1;
            return;
        };
        let sent = self.pipeline(operation, &mut session);
        match sent {
            Ok(()) => self.session = Some(session).filter(|_| !self.random.percent(1)),
            Err(Cut { begin, late }) => {
                assert!(!late, "the program was silent for {SESSION_PATIENCE:?}");
                self.harvest.closed += 1;
                let settled = self.settle(operation, state);
                if let Some(begin) = begin {
                    self.note(operation, begin, WriteOutcome::Open(settled), Cause::Direct, None);
                }
            }
        }
    }

    /// Some reads, the write, and some more.
    fn pipeline(&mut self, operation: &Operation, session: &mut WriterSession) -> Result<(), Cut> {
        for command in &operation.prepare {
            let mut bytes = Vec::new();
            encode_command(&mut bytes, command);
            session.send(&bytes).map_err(Cut::before)?;
            if let Reply::Error(text) = session.reply().map_err(Cut::before)? {
                assert_refusal(&text);
                return Err(Cut { begin: None, late: false });
            }
        }
        // Within a transaction they would be queued.
        let is_exec = operation.act[0] == b"EXEC";
        let before = if is_exec { Vec::new() } else { self.asks(operation, 30) };
        let behind = self.asks(operation, 60);
        let mut commands = Vec::new();
        before.iter().for_each(|ask| ask.encode(self.keyspace, &mut commands));
        encode_command(&mut commands, &operation.act);
        behind.iter().for_each(|ask| ask.encode(self.keyspace, &mut commands));
        let begin = now_ns();
        let cut = |error| Cut::after(begin, &error);
        session.send(&commands).map_err(cut)?;
        let future: Vec<_> = operation.effects.iter().map(|(key, effect)| (*key, effect.number())).collect();
        for ask in &before {
            let reply = session.reply().map_err(cut)?;
            session.note(&mut self.harvest, ask, &reply, begin, &future);
        }
        let reply = session.reply().map_err(cut)?;
        let ack = now_ns();
        if let Reply::Error(text) = &reply {
            assert_refusal(text);
            if self.keyspace.is_of_slots && operation.effects.len() > 1 && !is_exec {
                // Of several nodes one refuses it: the others have done their part by now, or not.
                self.note(operation, begin, WriteOutcome::Open(ack), Cause::Through, None);
            }
        } else {
            let cause = if operation.is_declared { Cause::Through } else { Cause::Direct };
            self.note(operation, begin, WriteOutcome::Done(ack), cause, Some(&reply));
            for (key, _) in &operation.effects {
                session.has_written(*key, self.keys.get(key).map_or(0, |key| key.writes.len()));
            }
        }
        for ask in &behind {
            let reply = session.reply().map_err(Cut::before)?;
            session.note(&mut self.harvest, ask, &reply, begin, &[]);
        }
        Ok(())
    }

    /// Reads of the keys that are written, or of others of this writer's, or none.
    fn asks(&mut self, operation: &Operation, percent: usize) -> Vec<Ask> {
        let keys: Vec<usize> = self.keys.keys().copied().collect();
        let count = if self.random.percent(percent) { self.random.between(1, 3) } else { 0 };
        (0..count)
            .map(|_| {
                let (written, _) = operation.effects[self.random.below(operation.effects.len())];
                let key = if self.random.percent(70) { written } else { keys[self.random.below(keys.len())] };
                Ask::draw(self.workload, &mut self.random, key, &keys)
            })
            .collect()
    }

    /// What the program had sent on a connection that it lost is in Redis' socket by now, and Redis has seen to that after
    /// two turns of its loop; or it has died.
    fn settle(&mut self, operation: &Operation, state: &PrimaryState) -> u64 {
        thread::sleep(ON_ITS_WAY);
        let settled = self.settled(operation);
        if settled < u64::MAX {
            return settled;
        }
        self.redis = Direct::connect(self.primary, state, self.db());
        self.settled(operation)
    }

    /// By when Redis has seen to what had reached it of an operation; never if it does not answer.
    fn settled(&mut self, operation: &Operation) -> u64 {
        let keyspace = self.keyspace;
        let mut names = operation.effects.iter().map(|(key, _)| keyspace.name(*key));
        let has_turned = |redis: &mut Direct<'_>| names.all(|name| redis.has_turned(&name));
        if self.redis.as_mut().is_some_and(has_turned) { now_ns() } else { u64::MAX }
    }

    fn note(
        &mut self,
        operation: &Operation,
        begin: u64,
        outcome: WriteOutcome,
        cause: Cause,
        reply: Option<&Reply>,
    ) {
        let (WriteOutcome::Done(end) | WriteOutcome::Open(end)) = outcome;
        for (key, effect) in &operation.effects {
            let Some(key) = self.keys.get_mut(key) else { continue };
            let after = effect.apply(&key.known, reply, begin, end);
            let (value, deadline) = (after.value, after.deadline);
            key.writes.push(Write { begin, outcome, value, deadline, cause });
            key.known = after;
        }
    }

    fn note_flushes(&mut self, state: &PrimaryState) {
        for Flush { begin, end, cause, keys } in &state.flushes[self.flushes..] {
            let is_gone = |number: &usize| keys.as_ref().is_none_or(|keys| keys.contains(number));
            for (_, key) in self.keys.iter_mut().filter(|(number, _)| is_gone(number)) {
                let (begin, outcome, cause) = (*begin, WriteOutcome::Done(*end), *cause);
                key.writes.push(Write { begin, outcome, value: None, deadline: None, cause });
                key.known = Known { last: key.known.last, ..Known::default() };
            }
        }
        self.flushes = state.flushes.len();
    }
}

/// How the program ended a connection.
struct Cut {
    /// When the write was sent, if it was and has no answer.
    begin: Option<u64>,
    /// It did not: it was silent.
    late: bool,
}

impl Cut {
    /// There is no doubt about the write: it was not sent, or it is answered.
    #[expect(clippy::needless_pass_by_value, reason = "for map_err")]
    fn before(error: io::Error) -> Cut {
        Cut { begin: None, late: error.kind() == io::ErrorKind::WouldBlock }
    }

    fn after(begin: u64, error: &io::Error) -> Cut {
        Cut { begin: Some(begin), late: error.kind() == io::ErrorKind::WouldBlock }
    }
}

fn assert_refusal(text: &str) {
    assert!(REFUSALS.iter().any(|refusal| text.starts_with(refusal)), "Redis refuses a write: {text}");
}
