//! One writer: the only one of its keys, so that the order of their values is known.
//!
//! It writes in bursts to a few of its keys at a time, so that the others rest for longer than any bound: what is stale
//! then, and stays so, shows.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::child::PATIENCE;
use crate::history::{Cause, Outcome, Write};
use crate::workload::Workload;
use crate::workload::operation::{Known, Operation};
use crate::workload::primary::{Primary, State};
use crate::{Random, RedisClient, Reply, now_ns};

/// Refusals that say that nothing was done, and that faults lead to.
const REFUSALS: [&str; 6] = ["LOADING", "READONLY", "OOM", "MASTERDOWN", "EXECABORT", "ERR no such key"];

pub(super) struct Writer<'a> {
    workload: &'a Workload,
    primary: &'a Primary,
    random: Random,
    scratch: String,
    keys: BTreeMap<usize, Key>,
    redis: Option<RedisClient>,
    generation: u64,
    flushes: usize,
}

#[derive(Default)]
struct Key {
    known: Known,
    writes: Vec<Write>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        workload: &'a Workload,
        primary: &'a Primary,
        keys: impl Iterator<Item = usize>,
        mut random: Random,
    ) -> Writer<'a> {
        Writer {
            workload,
            primary,
            scratch: format!("scratch-{:x}", random.next_u64()),
            random,
            keys: keys.map(|key| (key, Key::default())).collect(),
            redis: None,
            generation: 0,
            flushes: 0,
        }
    }

    /// Writes until it is told to stop; the writes of each key.
    pub(super) fn run(mut self, stop: &AtomicBool) -> impl Iterator<Item = (usize, Vec<Write>)> {
        let all: Vec<usize> = self.keys.keys().copied().collect();
        while !stop.load(Ordering::Relaxed) {
            let few: Vec<usize> =
                (0..self.random.between(1, 3)).map(|_| all[self.random.below(all.len())]).collect();
            for _ in 0..self.random.between(5, 40) {
                let keys = [(); 2].map(|()| few[self.random.below(few.len())]);
                self.write(keys);
                let micros = usize::try_from(self.workload.write_pause.as_micros()).unwrap_or(0);
                match self.random.below(2 * micros + 1) {
                    0..60 => {}
                    pause => thread::sleep(Duration::from_micros(pause as u64)),
                }
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        }
        let primary = self.primary;
        self.note_flushes(&primary.open());
        self.keys.into_iter().map(|(key, Key { writes, .. })| (key, writes))
    }

    /// One operation, unless the server refuses it.
    fn write(&mut self, keys: [usize; 2]) {
        let primary = self.primary;
        let state = primary.open();
        self.note_flushes(&state);
        if self.redis.is_none() || self.generation != state.generation {
            self.generation = state.generation;
            self.redis = connect(&state);
        }
        let Some(redis) = &mut self.redis else { return };
        let known = keys.map(|key| &self.keys[&key].known);
        let operation = match self.random.percent(self.workload.px_percent) {
            true => Operation::set_px(&mut self.random, keys[0], known[0]),
            false => Operation::draw(&mut self.random, &self.scratch, keys, known),
        };
        for command in &operation.prepare {
            match redis.try_command(command) {
                Ok(Reply::Error(text)) => assert_refusal(&text),
                Ok(_) => {}
                Err(_) => {
                    self.redis = None;
                    return;
                }
            }
        }
        let begin = now_ns();
        let reply = redis.try_command(&operation.act);
        let ack = now_ns();
        match reply {
            Ok(Reply::Error(text)) => assert_refusal(&text),
            Ok(reply) => self.note(&operation, begin, Outcome::Done(ack), Some(&reply)),
            Err(error) => {
                assert!(error.kind() != io::ErrorKind::WouldBlock, "Redis was silent for {PATIENCE:?}");
                // Only a server that died cuts us, and once another answers in its place nothing of it can follow.
                drop(state);
                self.redis = connect(&primary.open());
                let settled = if self.redis.is_some() { now_ns() } else { u64::MAX };
                self.note(&operation, begin, Outcome::Open(settled), None);
            }
        }
    }

    fn note(&mut self, operation: &Operation, begin: u64, outcome: Outcome, reply: Option<&Reply>) {
        let (Outcome::Done(end) | Outcome::Open(end)) = outcome;
        for (key, effect) in &operation.effects {
            let Some(key) = self.keys.get_mut(key) else { continue };
            let after = effect.apply(&key.known, reply, begin, end);
            let (value, deadline) = (after.value, after.deadline);
            key.writes.push(Write { begin, outcome, value, deadline, cause: Cause::Direct });
            key.known = after;
        }
    }

    fn note_flushes(&mut self, state: &State) {
        for &(begin, end) in &state.flushes[self.flushes..] {
            for key in self.keys.values_mut() {
                let outcome = Outcome::Done(end);
                key.writes.push(Write { begin, outcome, value: None, deadline: None, cause: Cause::Flush });
                key.known = Known { last: key.known.last, ..Known::default() };
            }
        }
        self.flushes = state.flushes.len();
    }
}

/// Connects to a server that may be about to start again.
fn connect(state: &State) -> Option<RedisClient> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let connected = RedisClient::try_connect_unix(&state.socket).and_then(|mut redis| {
            let reply = redis.try_command(&["PING"])?;
            Ok((redis, reply))
        });
        match connected {
            Ok((redis, Reply::Simple(_))) => return Some(redis),
            _ => thread::sleep(Duration::from_millis(1)),
        }
    }
    None
}

fn assert_refusal(text: &str) {
    assert!(REFUSALS.iter().any(|refusal| text.starts_with(refusal)), "Redis refuses a write: {text}");
}
