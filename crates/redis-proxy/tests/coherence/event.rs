//! What can happen to a cluster, and from when to when its nodes did not agree on whose a slot is.

use std::cell::RefCell;
use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use testkit::{Cluster, FailoverKind, Primary, Proxy, Random, RedisServer, Reply, Workload};
use testkit::{now_ns, wait_until};

use crate::stand::MAX_STALENESS;

/// More than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// A failover that has not come by then is asked for again.
const GIVEN_UP: Duration = Duration::from_secs(6);
/// So long a slot is left half way at the least: what is held then must not be proven any more before its end.
const HALF_WAY: Duration = Duration::from_secs(1);
/// A replica that was elected is not asked again for so long. Sooner than four times the node timeout, two seconds here, it takes the votes of
/// then for those of now and makes itself primary under the epoch of then, which the others soon undo (`clusterHandleSlaveFailover` of
/// Redis 7.0 and 8.2): writes that it took meanwhile are lost.
const ELECTED: Duration = Duration::from_secs(9);
/// Between two questions of the same.
const PAUSE: Duration = Duration::from_millis(1);

/// Something that happens and is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A slot goes to another primary, key by key, and back.
    Migrated,
    /// The same, left half way for a while: what is missing here then comes to be there.
    LeftHalfWay,
    /// A slot goes to another primary in one step, and back.
    MigratedAtOnce,
    /// Another primary claims a slot and has none of its keys; the owner of before has them until it learns of that.
    Taken,
    /// A replica takes the place of its primary.
    FailedOver(FailoverKind),
    /// kill -9 of a primary; it starts again when a replica has taken its place.
    Killed,
    /// SIGSTOP of a primary until a replica has taken its place; SIGCONT.
    StoodStill,
    /// SIGSTOP of a primary for less than others bear; SIGCONT.
    HeldUp,
    /// SIGSTOP of the program; SIGCONT.
    ProxyHeldUp,
    /// All others stand still until a primary gives up.
    CutOff,
    /// Each node closes the program's links.
    LinksLost,
    /// Each node closes the program's watches of slots.
    WatchesLost,
    /// FLUSHALL on one node.
    Flushed,
}

/// A change of owner that the old owner learns of later: until then its word may be served, and in `tracking` for the bound after it.
#[derive(Debug)]
pub(crate) struct Change {
    /// The numbers of the keys that it is about.
    pub(crate) keys: Vec<usize>,
    /// Nothing was written at the new owner before.
    pub(crate) since: u64,
    /// The old owner said nothing before, from when on.
    pub(crate) from: u64,
    /// It has learned of it.
    pub(crate) learned: u64,
}

/// What has happened in a run.
#[derive(Default)]
pub(crate) struct Happened {
    pub(crate) changes: Vec<Change>,
    /// When each event began, and from when on it was no reason to refuse a read.
    pub(crate) over: Vec<(u64, u64)>,
    /// While keys travelled: MIGRATE restores them with the time to live that was left when it read them.
    pub(crate) travels: Vec<(u64, u64)>,
}

/// What events happen to.
pub(crate) struct Scene<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) proxy: &'a Proxy,
    pub(crate) primary: &'a Primary,
    elected: &'a Elected,
    /// The slot of each key, and its tag.
    slots: Vec<(u16, String)>,
}

/// When nodes were elected last, by their ports; one for a cluster.
#[derive(Default)]
pub(crate) struct Elected(RefCell<HashMap<u16, Instant>>);

impl Event {
    /// Lets it happen once.
    pub(crate) fn happen(self, scene: &Scene<'_>, random: &mut Random, happened: &mut Happened) {
        let begun = now_ns();
        let over = match self {
            Event::Migrated | Event::LeftHalfWay => {
                let (slot, _) = scene.draw(random);
                for to in [scene.other_than(scene.cluster.node_of(slot)), scene.cluster.node_of(slot)] {
                    scene.migrate(slot, to, self == Event::LeftHalfWay, happened);
                }
                now_ns()
            }
            Event::MigratedAtOnce => {
                let (slot, _) = scene.draw(random);
                for to in [scene.other_than(scene.cluster.node_of(slot)), scene.cluster.node_of(slot)] {
                    scene.cluster.migrate_slots_atomically(slot, slot, to);
                }
                now_ns()
            }
            Event::Taken => {
                let (slot, tag) = scene.draw(random);
                let from = scene.cluster.node_of(slot);
                for (from, to) in [(from, scene.other_than(from)), (scene.other_than(from), from)] {
                    scene.take(slot, &tag, from, to, happened);
                }
                now_ns()
            }
            Event::FailedOver(kind) => scene.fail_over(kind, random, happened),
            Event::Killed => scene.kill(random),
            Event::StoodStill => scene.stand_still(random, happened),
            Event::HeldUp => {
                let (slot, _) = scene.draw(random);
                let node = scene.cluster.node_of(slot);
                node.pause_process();
                thread::sleep(a_while(random));
                node.resume_process();
                now_ns()
            }
            Event::ProxyHeldUp => {
                scene.proxy.pause_process();
                thread::sleep(a_while(random));
                scene.proxy.resume_process();
                now_ns()
            }
            Event::CutOff => {
                let (slot, tag) = scene.draw(random);
                let node = scene.cluster.node_of(slot);
                scene.cluster.isolate(node);
                wait_given_up(node, &tag);
                thread::sleep(MAX_STALENESS);
                scene.cluster.resume_all();
                scene.cluster.wait_settled();
                now_ns()
            }
            Event::LinksLost => {
                kill_connections(scene.cluster, |flags, _| flags.contains('t'));
                now_ns()
            }
            Event::WatchesLost => {
                kill_watches(scene.cluster);
                now_ns()
            }
            Event::Flushed => {
                let (slot, _) = scene.draw(random);
                let node = scene.cluster.node_of(slot);
                scene.primary.flush_keys(scene.keys_at(node), || node.client().flushall());
                now_ns()
            }
        };
        happened.over.push((begun, over));
        scene.cluster.wait_settled();
    }

    /// Whether a new owner takes writes while an old one does not know of it, and takes some too.
    pub(crate) fn is_forced(self) -> bool {
        use FailoverKind::{Forced, Takeover};
        matches!(self, Event::Taken | Event::FailedOver(Forced | Takeover) | Event::StoodStill)
    }

    /// Whether no read may be refused meanwhile.
    pub(crate) fn is_seamless(self) -> bool {
        matches!(self, Event::Migrated | Event::LeftHalfWay | Event::MigratedAtOnce | Event::Flushed)
    }
}

impl<'a> Scene<'a> {
    pub(crate) fn new(
        cluster: &'a Cluster,
        proxy: &'a Proxy,
        primary: &'a Primary,
        elected: &'a Elected,
        workload: &Workload,
    ) -> Scene<'a> {
        let slot = |key| {
            let name = workload.key_name(key);
            let tag = name.split_inclusive('}').next().expect("a key with a tag");
            (cluster.slot_of(tag), tag.to_owned())
        };
        Scene { cluster, proxy, primary, elected, slots: (0..workload.keys).map(slot).collect() }
    }

    /// A slot with keys, and its tag.
    fn draw(&self, random: &mut Random) -> (u16, String) {
        // Half of the reads are of the first quarter.
        self.slots[random.below(self.slots.len() / 4)].clone()
    }

    /// The numbers of the keys of a slot.
    fn keys_of(&self, slot: u16) -> Vec<usize> {
        let is_its = |&key: &usize| self.slots[key].0 == slot;
        (0..self.slots.len()).filter(is_its).collect()
    }

    /// The numbers of the keys that a node has.
    fn keys_at(&self, node: &RedisServer) -> Vec<usize> {
        let mut slots: Vec<u16> = self.slots.iter().map(|(slot, _)| *slot).collect();
        slots.sort_unstable();
        slots.dedup();
        slots.retain(|slot| self.cluster.node_of(*slot).port() == node.port());
        slots.into_iter().flat_map(|slot| self.keys_of(slot)).collect()
    }

    /// Another primary.
    fn other_than(&self, node: &RedisServer) -> &RedisServer {
        let is_another = |other: &&RedisServer| other.port() != node.port() && is_primary(other);
        self.cluster.nodes().iter().find(is_another).expect("another primary")
    }

    fn migrate(&self, slot: u16, to: &RedisServer, is_left: bool, happened: &mut Happened) {
        let migration = self.cluster.begin_migration(slot, to);
        let mut move_keys = |most| {
            let begin = now_ns();
            migration.move_keys(most);
            happened.travels.push((begin, now_ns()));
        };
        if is_left {
            thread::sleep(HALF_WAY);
            move_keys(2);
            thread::sleep(HALF_WAY / 2);
        }
        move_keys(usize::MAX);
        migration.finish();
    }

    /// `tag` is that of the slot.
    fn take(&self, slot: u16, tag: &str, from: &RedisServer, to: &RedisServer, happened: &mut Happened) {
        let (keys, mut since) = (self.keys_of(slot), 0);
        self.primary.replace_owner(to, keys.clone(), || {
            since = now_ns();
            self.cluster.take_slots(slot, slot, to);
            wait_writable(to, tag, Duration::MAX, || {});
        });
        let learned = wait_disowned(from, tag);
        happened.changes.push(Change { keys, since, from: since, learned });
        self.cluster.wait_owner(slot, to);
        // What is stale for good shows before the next change.
        thread::sleep(2 * MAX_STALENESS);
    }

    /// Returns when the new primary took writes.
    fn fail_over(&self, kind: FailoverKind, random: &mut Random, happened: &mut Happened) -> u64 {
        let (tag, old, new) = self.draw_pair(random);
        let keys = self.keys_at(old);
        let start = || self.cluster.start_failover(new, kind);
        let (mut since, mut by) = (0, 0);
        let mut promote = || (since, by) = wait_writable(new, &tag, GIVEN_UP, start);
        match kind {
            // Primaries that are asked make writers wait, and lose nothing.
            FailoverKind::Planned => promote(),
            FailoverKind::Forced | FailoverKind::Takeover => {
                self.primary.replace_owner(new, Vec::new(), || {
                    wait_replicated(old, new);
                    promote();
                });
            }
        }
        let learned = wait_disowned(old, &tag);
        happened.changes.push(Change { keys, since, from: since, learned });
        by
    }

    fn kill(&self, random: &mut Random) -> u64 {
        let (tag, old, new) = self.draw_pair(random);
        let mut by = 0;
        self.primary.replace_owner(new, Vec::new(), || {
            wait_replicated(old, new);
            old.kill();
            (_, by) = wait_writable(new, &tag, Duration::MAX, || {});
        });
        thread::sleep(2 * MAX_STALENESS);
        old.restart();
        by
    }

    fn stand_still(&self, random: &mut Random, happened: &mut Happened) -> u64 {
        let (tag, old, new) = self.draw_pair(random);
        let keys = self.keys_at(old);
        let (mut since, mut by) = (0, 0);
        self.primary.replace_owner(new, Vec::new(), || {
            wait_replicated(old, new);
            old.pause_process();
            (since, by) = wait_writable(new, &tag, Duration::MAX, || {});
        });
        thread::sleep(2 * MAX_STALENESS);
        let from = now_ns();
        old.resume_process();
        let learned = wait_disowned(old, &tag);
        happened.changes.push(Change { keys, since, from, learned });
        by
    }

    /// The tag of a slot with keys, its owner, and the replica that is to take its place.
    fn draw_pair(&self, random: &mut Random) -> (String, &RedisServer, &RedisServer) {
        loop {
            let (slot, tag) = self.draw(random);
            let old = self.cluster.node_of(slot);
            let new = self.cluster.replicas_of(old)[0];
            let mut elected = self.elected.0.borrow_mut();
            if elected.get(&new.port()).is_none_or(|at| at.elapsed() > ELECTED) {
                elected.insert(new.port(), Instant::now());
                return (tag, old, new);
            }
            drop(elected);
            thread::sleep(10 * PAUSE);
        }
    }
}

/// Has each node close the program's watches of slots.
pub(crate) fn kill_watches(cluster: &Cluster) {
    kill_connections(cluster, |_, subscriptions| subscriptions > 0);
}

/// Has each node close connections by their flags in CLIENT LIST and the number of their subscriptions to shard channels.
fn kill_connections(cluster: &Cluster, is_meant: impl Fn(&str, usize) -> bool) {
    let mut killed = 0;
    for node in cluster.nodes() {
        let mut client = node.client();
        let Reply::Bulk(list) = client.command(&["CLIENT", "LIST"]) else { panic!("no CLIENT LIST") };
        for line in String::from_utf8_lossy(&list).lines() {
            let field = |name: &str| line.split(' ').find_map(|field| field.strip_prefix(name));
            let (flags, subscriptions) = (field("flags="), field("ssub="));
            let subscriptions = subscriptions.and_then(|count| count.parse().ok()).unwrap_or(0);
            if is_meant(flags.expect("flags"), subscriptions) {
                // It may have gone by itself.
                let reply = client.command(&["CLIENT", "KILL", "ID", field("id=").expect("an id")]);
                killed += u32::from(reply == Reply::Integer(1));
            }
        }
    }
    assert!(killed > 0, "the program has no such connection");
}

/// Shorter than others bear, up to twice the bound.
fn a_while(random: &mut Random) -> Duration {
    Duration::from_millis(random.between(10, 400) as u64)
}

/// Waits until the node takes a write of a key with this tag, and starts it again after so long. Returns an instant up to which it took
/// none, and one by which it did.
fn wait_writable(node: &RedisServer, tag: &str, again: Duration, start: impl Fn()) -> (u64, u64) {
    let (begun, mut since, mut client) = (Instant::now(), now_ns(), node.client());
    let mut started = Instant::now();
    start();
    while begun.elapsed() < PATIENCE {
        let asked = now_ns();
        match client.try_command(&["SET", &format!("{tag}probe"), ""]) {
            Ok(Reply::Simple(_)) => return (since, now_ns()),
            Ok(_) => since = asked,
            // A node that is promoted may close connections.
            Err(_) => client = node.client(),
        }
        if started.elapsed() > again {
            started = Instant::now();
            start();
        }
        thread::sleep(PAUSE);
    }
    panic!("the node at {} takes no writes", node.address());
}

/// Waits until the node says that the slot of this tag is another's.
fn wait_disowned(node: &RedisServer, tag: &str) -> u64 {
    wait_error(node, tag, "MOVED")
}

/// Waits until the node refuses commands, for it is cut off from the others.
pub(crate) fn wait_given_up(node: &RedisServer, tag: &str) {
    wait_error(node, tag, "CLUSTERDOWN");
}

fn wait_error(node: &RedisServer, tag: &str, code: &str) -> u64 {
    let mut client = node.client();
    let mut at = 0;
    wait_until(PATIENCE, code, || {
        thread::sleep(PAUSE);
        let said = client.try_command(&["GET", &format!("{tag}probe")]);
        at = now_ns();
        if said.is_err() {
            client = node.client();
        }
        matches!(said, Ok(Reply::Error(text)) if text.starts_with(code))
    });
    at
}

/// Waits until a replica has all that its primary has.
fn wait_replicated(primary: &RedisServer, replica: &RedisServer) {
    wait_until(PATIENCE, "the replica to have everything", || {
        let offset = replication(primary, "master_repl_offset");
        !offset.is_empty() && offset == replication(replica, "slave_repl_offset")
    });
}

pub(crate) fn is_primary(node: &RedisServer) -> bool {
    replication(node, "role") == "master"
}

/// A field of INFO replication.
fn replication(node: &RedisServer, field: &str) -> String {
    let Ok(Reply::Bulk(info)) = node.client().try_command(&["INFO", "replication"]) else {
        return String::new();
    };
    let info = String::from_utf8_lossy(&info);
    let line = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}
