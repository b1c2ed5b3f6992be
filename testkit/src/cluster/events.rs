//! What happens to a cluster: slots move, by and by or by force, and primaries fail over.

use std::thread;
use std::time::{Duration, Instant};

use super::{Cluster, PATIENCE, PAUSE, ask, is_at, is_same, view};
use crate::{RedisServer, Reply};

/// How many keys go at once.
const BATCH: usize = 50;
/// A failover that was asked for and has not come by now was given up (5 s, `CLUSTER_MF_TIMEOUT`).
const GIVEN_UP: Duration = Duration::from_secs(6);
/// Nodes that have agreed for so long have heard what was on its way.
const SETTLED: Duration = Duration::from_millis(100);
/// A slot that all have been told of is known to all by then, or somebody has taken it back.
const UNDONE: Duration = Duration::from_secs(3);

/// How a replica takes the place of its primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailoverKind {
    /// Once it has all that the primary has, which waits for that (`CLUSTER FAILOVER`).
    Planned,
    /// Without a word of the primary, with the votes of the others (`FORCE`).
    Forced,
    /// Without a word of anybody (`TAKEOVER`).
    Takeover,
}

/// A slot on its way from one primary to another: keys that are gone from the first are found at the second, after `ASK`. It stays so
/// until it is [finished](SlotMigration::finish), whatever becomes of this.
pub struct SlotMigration<'a> {
    cluster: &'a Cluster,
    slot: u16,
    from: &'a RedisServer,
    to: &'a RedisServer,
}

impl Cluster {
    /// Moves a slot to another primary while it is in use, as `redis-cli --cluster reshard` does, and waits until all nodes know it.
    /// Keys of database 0 only.
    #[track_caller]
    pub fn migrate_slot(&self, slot: u16, to: &RedisServer) {
        self.begin_migration(slot, to).finish();
    }

    /// Begins that, without a key moved. Each primary's replicas, if the server tells them, know of it too.
    #[track_caller]
    pub fn begin_migration<'a>(&'a self, slot: u16, to: &'a RedisServer) -> SlotMigration<'a> {
        let from = self.node_of(slot);
        assert!(!is_same(from, to), "slot {slot} is there");
        let number = slot.to_string();
        self.tell(to, &["SETSLOT", &number, "IMPORTING", self.id(from)]);
        self.tell(from, &["SETSLOT", &number, "MIGRATING", self.id(to)]);
        SlotMigration { cluster: self, slot, from, to }
    }

    /// Has a primary claim slots from `first` to `last` with a newer epoch than any, whatever keys are where they were: as after the
    /// repair of a broken cluster. The owner of before learns of it by gossip, and then drops these keys; who wants to see that waits
    /// with [`wait_owner`](Self::wait_owner).
    #[track_caller]
    pub fn take_slots(&self, first: u16, last: u16, to: &RedisServer) {
        let bumped = ask(to, &["CLUSTER", "BUMPEPOCH"]);
        assert!(matches!(&bumped, Reply::Simple(_)), "the reply to CLUSTER BUMPEPOCH: {bumped:?}");
        for slot in first..=last {
            self.tell(to, &["SETSLOT", &slot.to_string(), "NODE", self.id(to)]);
        }
    }

    /// Has the server move slots from `first` to `last`, which one primary has, to another in one step, and waits until all nodes know
    /// it: `CLUSTER MIGRATESLOTS` of Valkey 9.
    #[track_caller]
    pub fn migrate_slots_atomically(&self, first: u16, last: u16, to: &RedisServer) {
        let (from, to_id) = (self.node_of(first), self.id(to));
        let (from_slot, to_slot) = (first.to_string(), last.to_string());
        self.tell(from, &["MIGRATESLOTS", "SLOTSRANGE", &from_slot, &to_slot, "NODE", to_id]);
        self.wait_owner(first, to);
        self.wait_owner(last, to);
    }

    /// Has a replica become the primary, and waits until all nodes that are up say so. The former primary is a replica by then, if it
    /// is up.
    ///
    /// # Panics
    /// When it is no replica of a primary that has slots.
    #[track_caller]
    pub fn failover(&self, replica: &RedisServer, kind: FailoverKind) {
        let told = view::ranges(replica).expect("a replica that is up");
        let is_its = |range: &&view::OwnedRange| range.replicas.iter().any(|port| is_at(replica, *port));
        let slot = told.iter().find(is_its).expect("a replica of a primary that has slots").first;
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            self.start_failover(replica, kind);
            let begun = Instant::now();
            while begun.elapsed() < GIVEN_UP {
                if self.agreed(slot).is_some_and(|primary| is_same(primary, replica)) {
                    return;
                }
                thread::sleep(Duration::from_millis(5));
            }
        }
        panic!("the replica at {} has not become the primary", replica.announced());
    }

    /// As [`failover`](Self::failover), and waits for nothing but the word of the replica that it has begun.
    #[track_caller]
    pub fn start_failover(&self, replica: &RedisServer, kind: FailoverKind) {
        let words: &[&str] = match kind {
            FailoverKind::Planned => &["FAILOVER"],
            FailoverKind::Forced => &["FAILOVER", "FORCE"],
            FailoverKind::Takeover => &["FAILOVER", "TAKEOVER"],
        };
        self.tell(replica, words);
    }

    /// Leaves a node alone: all others that are up stand still. Where it is a primary it refuses commands within twice the node
    /// timeout, for it is cut off from the majority.
    #[track_caller]
    pub fn isolate(&self, node: &RedisServer) {
        self.up().filter(|other| !is_same(other, node)).for_each(RedisServer::pause_process);
    }

    /// Has all nodes that stand still go on.
    #[track_caller]
    pub fn resume_all(&self) {
        self.nodes.iter().filter(|node| node.is_paused()).for_each(RedisServer::resume_process);
    }
}

impl SlotMigration<'_> {
    /// Moves so many keys, or all if there are fewer, and returns how many have gone.
    #[track_caller]
    pub fn move_keys(&self, most: usize) -> usize {
        let mut moved = 0;
        while moved < most {
            let keys = self.keys((most - moved).min(BATCH));
            if keys.is_empty() {
                break;
            }
            self.send(&keys);
            moved += keys.len();
        }
        moved
    }

    /// Moves the keys that are left, makes the other primary the owner, and waits until all nodes know it.
    #[track_caller]
    pub fn finish(self) {
        self.move_keys(usize::MAX);
        let Self { cluster, slot, from, to } = self;
        let (number, id) = (slot.to_string(), cluster.id(to));
        // The new owner first: should it fail here, the old one still knows whom to ask.
        let others = cluster.up().filter(|node| !is_same(node, from) && !is_same(node, to));
        let primaries = others.filter(|node| view::replica_link(node).is_none());
        for node in [to, from].into_iter().chain(primaries) {
            cluster.tell(node, &["SETSLOT", &number, "NODE", id]);
        }
        let start = Instant::now();
        let (mut claimed, mut agreed_since) = (start, None);
        while agreed_since.is_none_or(|since: Instant| since.elapsed() < SETTLED) {
            // What a node had said before may be heard after, and undo it there, also at the new owner, which then takes the old one for the
            // owner and is taken for it: a newer epoch settles that.
            if cluster.agreed(slot).is_some_and(|node| is_same(node, to)) {
                agreed_since.get_or_insert_with(Instant::now);
            } else {
                agreed_since = None;
            }
            if agreed_since.is_none() && claimed.elapsed() > UNDONE {
                claimed = Instant::now();
                ask(to, &["CLUSTER", "BUMPEPOCH"]);
                cluster.tell(to, &["SETSLOT", &number, "NODE", id]);
            }
            let owner = to.announced();
            assert!(start.elapsed() < PATIENCE, "slot {slot} is not had by {owner} after {PATIENCE:?}");
            thread::sleep(PAUSE);
        }
    }

    fn keys(&self, most: usize) -> Vec<Vec<u8>> {
        let (slot, most) = (self.slot.to_string(), most.to_string());
        match ask(self.from, &["CLUSTER", "GETKEYSINSLOT", &slot, &most]) {
            Reply::Array(keys) => keys
                .into_iter()
                .map(|key| match key {
                    Reply::Bulk(key) => key,
                    other => panic!("a key: {other:?}"),
                })
                .collect(),
            other => panic!("the reply to CLUSTER GETKEYSINSLOT: {other:?}"),
        }
    }

    fn send(&self, keys: &[Vec<u8>]) {
        let to = self.to.announced();
        let (host, port) = (to.ip().to_string(), to.port().to_string());
        // What an attempt that failed has left there is replaced by the next. Each of its steps may take 2 s, so that it has an end
        // before we take the node for dead.
        let mut words = vec!["MIGRATE", &host, &port, "", "0", "2000", "REPLACE"];
        match &self.cluster.login {
            Some((Some(user), password)) => words.extend(["AUTH2", user, password]),
            Some((None, password)) => words.extend(["AUTH", password]),
            None => {}
        }
        words.push("KEYS");
        let words: Vec<&[u8]> =
            words.into_iter().map(str::as_bytes).chain(keys.iter().map(Vec::as_slice)).collect();
        let start = Instant::now();
        loop {
            // Keys may have ended meanwhile: then it says NOKEY.
            match self.from.client().command(&words) {
                Reply::Simple(_) => return,
                Reply::Error(text) if text.starts_with("IOERR") && start.elapsed() < PATIENCE => {}
                other => panic!("the reply to MIGRATE: {other:?}"),
            }
        }
    }
}
