//! What is likely in one schedule.

use sync::shuttle::rand::{Rng, thread_rng};
use sync::shuttle::thread;

use super::super::sink::MS;
use super::redis::KEYS;
use crate::clock::pass;

/// How old a hit may be in mode `tracking`.
pub(super) const BOUND_NS: u64 = 4 * MS;

/// How often what happens. Drawn anew for each: where everything is likely, little happens twice.
#[derive(Clone, Copy)]
pub(super) struct Mood {
    keys: usize,
    /// Of reads in `tracking`, those that ask for proof.
    pub(super) no_cache: f64,
    /// Of writes.
    pub(super) flushes: f64,
    pub(super) expiring: f64,
    /// Of what disturbs.
    pub(super) cuts: f64,
    pub(super) moves: f64,
    /// How much time passes at once.
    step_ns: u64,
    /// How many turns writes and faults leave to the others, at most: else they are over before the first answer.
    turns: usize,
}

impl Mood {
    pub(super) fn draw() -> Mood {
        let mut draw = thread_rng();
        Mood {
            keys: draw.gen_range(1..=KEYS.len()),
            no_cache: [0.0, 0.2, 0.8][draw.gen_range(0..3)],
            flushes: [0.0, 0.1, 0.7][draw.gen_range(0..3)],
            expiring: [0.0, 0.1, 0.7][draw.gen_range(0..3)],
            cuts: [0.0, 0.2, 0.7][draw.gen_range(0..3)],
            moves: [0.0, 0.0, 0.7][draw.gen_range(0..3)],
            step_ns: [0, MS, BOUND_NS][draw.gen_range(0..3)],
            turns: [5, 20, 60][draw.gen_range(0..3)],
        }
    }

    /// All meet at one.
    pub(super) fn of_one_key(self) -> Mood {
        Mood { keys: 1, ..self }
    }

    pub(super) fn key(self) -> &'static str {
        KEYS[thread_rng().gen_range(0..self.keys)]
    }

    /// Some time passes, or none.
    pub(super) fn pass(self) {
        pass(thread_rng().gen_range(0..3) * self.step_ns);
    }

    /// The others go on for a while.
    pub(super) fn idle(self) {
        (0..thread_rng().gen_range(0..self.turns)).for_each(|_| thread::yield_now());
    }
}
