//! What becomes of slots in a schedule, step by step, with others going on in between.

use std::collections::BTreeSet;

use sync::Mutex;
use sync::shuttle::rand::{Rng, thread_rng};
use upstream::Cluster;

use super::nodes::{ModelNodes, NODES, slot_of};
use super::world::Told;
use crate::readthrough::link::schedules::mood::WorldMood;
use crate::readthrough::link::schedules::redis::KEYS;

/// Whoever has slots move, one after the other.
pub(super) struct Events<'a> {
    pub(super) nodes: &'a Mutex<ModelNodes>,
    pub(super) cluster: &'a Cluster,
    pub(super) told: &'a Told,
    pub(super) mood: WorldMood,
    /// The slots that have left for a node. None does so twice: an ASK of the first time would be taken for one of the second by a node
    /// that has not got the key yet, and answers any client that there is none.
    left_for: BTreeSet<(u16, usize)>,
}

impl<'a> Events<'a> {
    pub(super) fn new(
        nodes: &'a Mutex<ModelNodes>,
        cluster: &'a Cluster,
        told: &'a Told,
        mood: WorldMood,
    ) -> Events<'a> {
        Events { nodes, cluster, told, mood, left_for: BTreeSet::new() }
    }

    /// One of them, of the slot of a key or of all slots of a node.
    pub(super) fn happen(&mut self) {
        let slot = slot_of(self.mood.key());
        match thread_rng().gen_range(0..3) {
            0 => self.migrate(slot),
            1 => self.take_over(slot),
            _ => self.cut_off(),
        }
    }

    /// A slot goes to the other node as the operator wishes, with its keys.
    fn migrate(&mut self, slot: u16) {
        let from = self.nodes.lock().owner(slot);
        if !self.left_for.insert((slot, 1 - from)) {
            return;
        }
        // Perhaps a client deletes its key before, and sets it again on the way: then it comes to be where the slot goes.
        let key = KEYS.into_iter().find(|key| slot_of(key) == slot).filter(|_| thread_rng().r#gen());
        if let Some(key) = key {
            self.nodes.lock().write(key, false);
            self.mood.idle();
        }
        for step in [ModelNodes::import, ModelNodes::begin_to_leave] {
            step(&mut self.nodes.lock(), slot);
            self.time_passes();
        }
        if let Some(key) = key {
            self.nodes.lock().write(key, true);
            self.time_passes();
        }
        for step in [ModelNodes::move_keys, ModelNodes::arrive] {
            step(&mut self.nodes.lock(), slot);
            self.time_passes();
        }
        self.learn(from);
    }

    /// The other node claims a slot, and who had it learns of that later.
    fn take_over(&self, slot: u16) {
        let from = self.nodes.lock().owner(slot);
        self.nodes.lock().claim(slot, || thread_rng().r#gen());
        self.time_passes();
        self.learn(from);
    }

    /// A node is cut off: the other takes its place, and it does not learn of that before it has given up.
    fn cut_off(&self) {
        let node = thread_rng().gen_range(0..NODES);
        {
            let mut nodes = self.nodes.lock();
            nodes.slots_of(node).into_iter().for_each(|slot| nodes.claim(slot, || thread_rng().r#gen()));
        }
        self.time_passes();
        self.nodes.lock().give_up(node);
        self.time_passes();
        self.time_passes();
        self.learn(node);
    }

    /// A node learns what it has lost. What proves most is sent while that is still on its way.
    fn learn(&self, node: usize) {
        self.nodes.lock().learn(node);
        self.mood.pass();
        self.told.beat();
        self.time_passes();
    }

    /// Others go on; perhaps one of the nodes is asked who has what.
    fn time_passes(&self) {
        self.mood.idle();
        if thread_rng().gen_bool(0.3) {
            self.ask_for_map(thread_rng().gen_range(0..NODES));
        }
        self.mood.pass();
    }

    pub(super) fn ask_for_map(&self, node: usize) {
        let map = self.nodes.lock().map_of(node);
        self.cluster.adopt(&map);
    }
}
