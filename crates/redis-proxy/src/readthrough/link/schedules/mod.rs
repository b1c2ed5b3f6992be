//! Schedules: the real cache, fills, link, sink and driver before a Redis of forty lines, in every order that a
//! scheduler thinks of.
//!
//! What is real: `ReadThrough::get` and the wait behind it, the cache with its leases, the link with its barrier and
//! heartbeat, `LinkSink`, the queue and the connection of `upstream` with their encoder and decoder. What is modelled:
//! [Redis](redis) itself, the two directions of the wire, the clock, and the handshake, which is taken for done. Every
//! lock and atomic of the real parts is shuttle's (the crate `sync`), so at each of them another thread may go on.
//! Two readers, a writer who sets, deletes, flushes and expires, and faults that cut the connection, move the primary and have it
//! disputed share two keys.
//!
//! After each schedule a [judge](judge) asks of every read whether it was allowed; and at the end, with all at rest,
//! whether what is held and proven is what Redis holds, every wait has ended and every place was given back.
//!
//! Not explored: memory orderings weaker than `SeqCst`, two links, the canary, the handshake (`upstream/tests`), real
//! time. Those are the history checker's, over real sockets.
//!
//! A failure prints its schedule and the seed of all: `docs/testing.md` says how to run them again.

pub(in crate::readthrough) mod driven;
pub(in crate::readthrough) mod judge;
pub(in crate::readthrough) mod mood;
pub(in crate::readthrough) mod mutants;
pub(in crate::readthrough) mod redis;
mod servers;
pub(in crate::readthrough) mod wire;
pub(in crate::readthrough) mod world;

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sync::shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use sync::shuttle::{Config, FailurePersistence, Runner};

use judge::ReadHow;
use world::World;

/// The fault that a child process switches on before it explores.
const MUTANT: &str = "SCHEDULES_MUTANT";
/// How many schedules of each kind, instead of the usual number.
const ROUNDS: &str = "SCHEDULES_ROUNDS";
const USUAL_ROUNDS: usize = 3_000;
const SOAK_ROUNDS: usize = 100_000;

/// Reads of all schedules, by [`ReadHow`].
static READS: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];

pub(in crate::readthrough) fn count(how: ReadHow) {
    READS[how as usize].fetch_add(1, Ordering::Relaxed);
}

/// What is explored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Explored {
    Tracked,
    Strict,
    /// Strict reads of one key by more readers than fetches may be sent for.
    Herd,
}

/// Has worlds live in many schedules, in which each of `hows` must happen.
pub(in crate::readthrough) fn explore(hows: &[ReadHow], live: impl Fn() + Clone + Send + Sync + 'static) {
    if let Ok(name) = env::var(MUTANT) {
        assert!(mutant::switch_on(&name), "there is a mutant {name}");
    }
    // The timers of a connection want a runtime to be there. Nobody drives it: in a schedule no real time passes. And it is
    // never shut down, because that would wake what a schedule that failed has left behind.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _entered = Box::leak(Box::new(runtime)).enter();
    if let Ok(schedule) = env::var("SCHEDULE") {
        return run(ReplayScheduler::new_from_encoded(&schedule), live);
    }
    let seed = testkit::seed();
    let usual = if env::var_os("SOAK").is_some() { SOAK_ROUNDS } else { USUAL_ROUNDS };
    let rounds = env::var(ROUNDS).map_or(usual, |rounds| rounds.parse().expect("a number of schedules"));
    eprintln!("SEED={seed}, {rounds} schedules of each kind");
    run(RandomScheduler::new_from_seed(seed, rounds), live.clone());
    for depth in [2, 4] {
        run(PctScheduler::new_from_seed(seed, depth, rounds / 2), live.clone());
    }
    for how in hows {
        let reads = READS[*how as usize].load(Ordering::Relaxed);
        eprintln!("{how:?}: {reads} reads");
        assert!(reads > 0, "what never happens is not explored: {how:?}");
    }
}

fn run(scheduler: impl Scheduler + 'static, live: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = 256 * 1024;
    config.failure_persistence = FailurePersistence::Print;
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(live);
}

fn explore_one(what: Explored) {
    explore(&ReadHow::ALL, move || Arc::new(World::new(what)).live());
}

#[test]
fn tracked_reads_are_within_the_bound_in_every_schedule() {
    explore_one(Explored::Tracked);
}

#[test]
fn strict_reads_are_linearizable_in_every_schedule() {
    explore_one(Explored::Strict);
}

#[test]
fn a_herd_is_two_fetches_and_one_that_waits_in_every_schedule() {
    explore_one(Explored::Herd);
}
