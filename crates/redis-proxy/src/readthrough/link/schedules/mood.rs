//! What is likely in one schedule.

use sync::shuttle::rand::{Rng, thread_rng};
use sync::shuttle::thread;

use super::super::sink::MS;
use super::redis::KEYS;
use crate::clock::pass;

/// How old a hit may be in mode `tracking`.
pub(in crate::readthrough) const BOUND_NS: u64 = 4 * MS;

/// How often what happens. Drawn anew for each: where everything is likely, little happens twice.
#[derive(Clone, Copy)]
pub(in crate::readthrough) struct WorldMood {
    keys: usize,
    /// Of reads in `tracking`, those that ask for proof.
    pub(in crate::readthrough) no_cache: f64,
    /// Of writes.
    pub(in crate::readthrough) flushes: f64,
    pub(in crate::readthrough) expiring: f64,
    /// Of what disturbs.
    pub(in crate::readthrough) cuts: f64,
    pub(in crate::readthrough) moves: f64,
    /// How much time passes at once.
    step_ns: u64,
    /// How many turns what a server says may take on its way, beside those that it takes anyway.
    lag: usize,
    /// How many turns writes and faults leave to the others, at most: else they are over before the first answer.
    turns: usize,
}

impl WorldMood {
    pub(in crate::readthrough) fn draw() -> WorldMood {
        let mut draw = thread_rng();
        WorldMood {
            keys: draw.gen_range(1..=KEYS.len()),
            no_cache: [0.0, 0.2, 0.8][draw.gen_range(0..3)],
            flushes: [0.0, 0.1, 0.7][draw.gen_range(0..3)],
            expiring: [0.0, 0.1, 0.7][draw.gen_range(0..3)],
            cuts: [0.0, 0.2, 0.7][draw.gen_range(0..3)],
            moves: [0.0, 0.0, 0.7][draw.gen_range(0..3)],
            step_ns: [0, MS, BOUND_NS][draw.gen_range(0..3)],
            lag: 0,
            turns: [5, 20, 60][draw.gen_range(0..3)],
        }
    }

    /// Where it is moves that matter.
    pub(in crate::readthrough) fn of_moves(self) -> WorldMood {
        let mut draw = thread_rng();
        WorldMood { moves: [0.4, 0.9][draw.gen_range(0..2)], lag: [0, 5, 40][draw.gen_range(0..3)], ..self }
    }

    /// All meet at one.
    pub(in crate::readthrough) fn of_one_key(self) -> WorldMood {
        WorldMood { keys: 1, ..self }
    }

    pub(in crate::readthrough) fn key(self) -> &'static str {
        KEYS[thread_rng().gen_range(0..self.keys)]
    }

    /// Some time passes, or none.
    pub(in crate::readthrough) fn pass(self) {
        pass(thread_rng().gen_range(0..3) * self.step_ns);
    }

    /// The others go on for a while.
    pub(in crate::readthrough) fn idle(self) {
        (0..thread_rng().gen_range(0..self.turns)).for_each(|_| thread::yield_now());
    }

    /// The same for what is on its way: now and then.
    pub(in crate::readthrough) fn lag(self) {
        if self.lag > 0 && thread_rng().gen_bool(0.3) {
            (0..thread_rng().gen_range(0..self.lag)).for_each(|_| thread::yield_now());
        }
    }
}
