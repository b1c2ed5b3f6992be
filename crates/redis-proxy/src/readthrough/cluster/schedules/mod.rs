//! Schedules in which a slot moves: the real cache, links, watches and ordinary connections before two nodes of a cluster.
//!
//! What is real: `ReadThrough::get` of a clustered way, `ClusterLinks`, each node's link and watch with their sinks, barriers and
//! leases, the ways by which a fetch is sent on, what is known of the slots, the queue and the connection of `upstream`. What is
//! modelled: the [nodes](nodes), the wires, the clock, and the threads: those that start connections in the program start nothing here.
//!
//! Two keys in two slots are read by two readers and written by one, who also flushes nodes. Meanwhile [slots move](events): in order, by
//! ASK and MOVED; by a takeover, with keys left that are dropped without a push; by a takeover of all that a node has which is cut off, and gives up
//! after a while. Links and watches are cut, and beat. What a node says between a takeover and the moment that it learns of it is not for
//! the judge; from then on nothing of it is to be served that is older than a reader bears.
//!
//! Not explored beside what the [other schedules](crate::readthrough::link) leave out: deadlines, which are explored there, several links
//! to a node, partitions, lanes, more than two nodes, and the task that reads the map of slots: here it comes at any time, of either node.

mod events;
mod lease;
mod mutants;
mod nodes;
mod world;

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nodes::slot_of;
use world::{SlotWorld, draw_owners};

use crate::readthrough::link::schedules::explore;
use crate::readthrough::link::schedules::judge::ReadHow;
use crate::readthrough::link::schedules::redis::KEYS;

/// What nodes said in all schedules: where a slot is, where a key is for now, that nobody has it, and that one they were watched for is
/// theirs no more.
static SAID: [(&str, AtomicU64); 4] = [
    ("MOVED", AtomicU64::new(0)),
    ("ASK", AtomicU64::new(0)),
    ("later", AtomicU64::new(0)),
    ("sunsubscribe", AtomicU64::new(0)),
];

fn count_said(times: [u64; 4]) {
    for ((_, said), times) in SAID.iter().zip(times) {
        said.fetch_add(times, Ordering::Relaxed);
    }
}

fn explore_cluster(strict: bool) {
    let hows = [ReadHow::Hit, ReadHow::Proven, ReadHow::Joined, ReadHow::Fetched];
    explore(&hows, move || Arc::new(SlotWorld::new(strict, draw_owners())).live());
    if env::var_os("SCHEDULE").is_some() {
        return;
    }
    for (what, times) in &SAID {
        let times = times.load(Ordering::Relaxed);
        eprintln!("{what}: {times} times");
        assert!(times > 0, "what never happens is not explored: {what}");
    }
}

#[test]
fn tracked_reads_are_within_the_bound_while_slots_move() {
    explore_cluster(false);
}

#[test]
fn strict_reads_are_linearizable_while_slots_move() {
    explore_cluster(true);
}

#[test]
fn a_watch_goes_by_the_slots_that_stay_while_one_leaves() {
    explore(&[], || {
        let owners: BTreeMap<u16, usize> = KEYS.into_iter().map(|key| (slot_of(key), 0)).collect();
        Arc::new(SlotWorld::new(false, owners)).watch_while_one_leaves();
    });
}
