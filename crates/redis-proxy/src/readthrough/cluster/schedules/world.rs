//! One schedule: its threads, and what must hold when they have ended.

use std::collections::{BTreeMap, HashMap};
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cache::{Cache, Limits};
use insight::AllSamples;
use sync::Mutex;
use sync::shuttle::future::block_on;
use sync::shuttle::rand::{Rng, thread_rng};
use sync::shuttle::thread::{self, JoinHandle};
use tokio::io::DuplexStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use upstream::{Backend, Cluster, Driver, NodeNumber, RedisNode};

use super::count_said;
use super::events::Events;
use super::nodes::{Kind, ModelNodes, NODES, address, slot_of};
use crate::clock::{now_ns, start};
use crate::readthrough::cluster::watch::{SlotWatch, SlotWatchSink, WatchTicket};
use crate::readthrough::cluster::ways::{NodeDrivers, Start};
use crate::readthrough::cluster::{ClusterLinks, NodeLinks, NodeWays, Placed, PlainReads, SlotWatches};
use crate::readthrough::http_reads::OwnConnection;
use crate::readthrough::link::schedules::count;
use crate::readthrough::link::schedules::driven::{DrivenLink, WireEvent, drive, endpoint, settings};
use crate::readthrough::link::schedules::judge::{ObservedRead, OwnWrite, ReadHow, judge};
use crate::readthrough::link::schedules::mood::{BOUND_NS, WorldMood};
use crate::readthrough::link::schedules::redis::KEYS;
use crate::readthrough::link::schedules::wire::lay_wire;
use crate::readthrough::link::schedules::world::{joined, number};
use crate::readthrough::{Found, HttpReads, Links, ReadOptions, ReadOutcome, ReadThrough};
use crate::store::Store;

const READERS: usize = 2;
const READS: usize = 10;
const WRITES: usize = 4;
const FAULTS: usize = 3;
const BEATS: usize = 8;
/// Proofs after which nothing can be on its way any more.
const PROOFS: usize = 100;

/// Everything in it.
pub(super) struct SlotWorld {
    nodes: Arc<Mutex<ModelNodes>>,
    cluster: Cluster,
    store: Store,
    links: Vec<DrivenLink>,
    watches: Vec<(Arc<SlotWatch>, Driver<WatchTicket>)>,
    drives: Mutex<Option<NodeDrivers>>,
    reads: ReadThrough,
    strict: bool,
    mood: WorldMood,
    own: Mutex<Vec<OwnWrite>>,
}

/// Who tells the threads of connections what to do.
#[derive(Clone)]
pub(super) struct Told {
    links: Vec<UnboundedSender<WireEvent>>,
    watches: Vec<UnboundedSender<WireEvent>>,
}

impl Told {
    fn all(&self) -> impl Iterator<Item = &UnboundedSender<WireEvent>> {
        self.links.iter().chain(&self.watches)
    }

    /// Heartbeats of most of them.
    pub(super) fn beat(&self) {
        for told in self.all() {
            if thread_rng().gen_bool(0.7) {
                let _ = told.send(WireEvent::Beat);
            }
        }
    }
}

impl SlotWorld {
    pub(super) fn new(strict: bool, owners: BTreeMap<u16, usize>) -> SlotWorld {
        start(1 << 40);
        let limits = Limits {
            // Of so many both keys may be without a value.
            capacity: 32,
            capacity_bytes: None,
            expiry: Duration::from_secs(60),
            max_value_bytes: 64,
            shards: Some(1),
        };
        let store = Cache::new(limits);
        let nodes = ModelNodes::new(owners);
        let cluster = Cluster::new(RedisNode::at(address(0)), Clone::clone);
        cluster.adopt(&nodes.map_of(0));
        let of_cluster = endpoint(&cluster.node(NodeNumber::HOME), Some(cluster.clone()));
        let redis = Backend::new(of_cluster.clone(), 1_000);
        let settings = settings(strict, thread_rng().gen_bool(0.3));
        let reads = PlainReads { keeps: false, over_http: true, stats: Arc::default(), budget: None };
        let (ways, drives) = NodeWays::new(&redis, of_cluster.clone(), reads);
        let (mut links, mut watches, mut of_nodes) = (Vec::new(), Vec::new(), HashMap::new());
        for node in 0..NODES {
            let id = cluster.id_of(&address(node));
            let (upstream, driver) = upstream::connect(&redis.beside(of_cluster.at(id)));
            let watch = SlotWatch::new(id, cluster.clone(), upstream, BOUND_NS);
            let placed = Placed::new(id, Some(watch.clone()), ways.clone());
            let driven = DrivenLink::new(&store, of_cluster.at(id), Some(placed), settings.clone());
            let links_to = Arc::new([driven.link.clone()]);
            let of_node =
                NodeLinks { links: links_to, running: Vec::new(), useless_since_ns: None, _node: None };
            of_nodes.insert(id, of_node);
            links.push(driven);
            watches.push((watch, driver));
        }
        let threads = Arc::default();
        let clustered = Arc::new(ClusterLinks {
            cluster: cluster.clone(),
            store: store.clone(),
            budget: None,
            redis: redis.clone(),
            endpoint: of_cluster.clone(),
            settings,
            watches: SlotWatches::new(&of_cluster, &redis, &threads, Duration::from_nanos(BOUND_NS)),
            threads,
            ways,
            own: None,
            nodes: Mutex::new(of_nodes),
            ended: Mutex::default(),
            in_force: AtomicU64::default(),
        });
        let reads = HttpReads::Linked { links: Links::OfCluster(clustered), strict };
        let (reads, _) = reads.of_worker(&store, None, &Arc::default(), &AllSamples::with_seed(0, [0; 16]));
        SlotWorld {
            nodes: Arc::new(Mutex::new(nodes)),
            cluster,
            store,
            links,
            watches,
            drives: Mutex::new(Some(drives)),
            reads,
            strict,
            mood: WorldMood::draw().of_moves(),
            own: Mutex::default(),
        }
    }

    /// Runs every thread to its end and judges what came of it.
    pub(super) fn live(self: Arc<Self>) {
        let (mut connections, mut told) = (Vec::new(), Told { links: Vec::new(), watches: Vec::new() });
        for node in 0..NODES {
            let (sender, events) = unbounded_channel();
            told.links.push(sender);
            connections.push(self.spawn(move |world| {
                block_on(world.links[node].live(|| world.connect(node, Kind::Link), events));
            }));
            let (sender, events) = unbounded_channel();
            told.watches.push(sender);
            connections.push(self.spawn(move |world| world.drive_watch(node, events)));
        }
        let (end, ended) = oneshot::channel();
        let ways = self.clone();
        connections.push(thread::spawn(move || block_on(ways.drive_ways(ended))));
        let readers: Vec<_> = (0..READERS).map(|_| self.spawn(|world| world.read_some())).collect();
        let others = [
            self.spawn(SlotWorld::write_some),
            self.spawn({
                let told = told.clone();
                move |world| world.disturb(&told)
            }),
            self.spawn({
                let told = told.clone();
                move |world| world.beat(&told)
            }),
        ];
        let seen: Vec<Vec<ObservedRead>> = readers.into_iter().map(joined).collect();
        others.into_iter().for_each(joined);
        self.rest(&told);
        told.all().for_each(|told| drop(told.send(WireEvent::End)));
        drop(end);
        connections.into_iter().for_each(joined);
        self.nodes.lock().hang_up();
        seen.iter().flatten().for_each(|read| count(read.how));
        self.count_said();
        let own = self.own.lock().clone();
        for key in KEYS {
            let record = self.nodes.lock().record(key);
            for reads in &seen {
                let of_key: Vec<ObservedRead> =
                    reads.iter().filter(|read| read.key == key).cloned().collect();
                judge(&of_key, &own, &record.reigns, &record.words);
            }
        }
    }

    /// Of the slots of the first node the lowest is on its way, so that a key of it is not read there: the others are proven all the same.
    pub(super) fn watch_while_one_leaves(self: Arc<Self>) {
        let slot = self.nodes.lock().slots_of(0)[0];
        self.nodes.lock().import(slot);
        self.nodes.lock().begin_to_leave(slot);
        let (told, events) = unbounded_channel();
        let watching = self.spawn(move |world| world.drive_watch(0, events));
        let watch = &self.watches[0].0;
        let is_proven = (0..4).any(|_| {
            block_on(watch.prove(now_ns()));
            watch.holds(now_ns()).is_ok()
        });
        assert!(is_proven, "held and proven is nothing: {:?}", watch.holds(now_ns()));
        let _ = told.send(WireEvent::End);
        joined(watching);
        self.nodes.lock().hang_up();
    }

    fn count_said(&self) {
        let (counts, load) = (self.cluster.counts(), |count: &AtomicU64| count.load(Ordering::Relaxed));
        let lost = self.watches.iter().map(|(watch, _)| load(&watch.counts.slots_lost)).sum();
        count_said([load(&counts.moved), load(&counts.asked), load(&counts.later), lost]);
    }

    fn spawn<R: Send + 'static>(
        self: &Arc<Self>,
        part: impl FnOnce(&SlotWorld) -> R + Send + 'static,
    ) -> JoinHandle<R> {
        let world = self.clone();
        thread::spawn(move || part(&world))
    }

    /// One client connection.
    fn read_some(&self) -> Vec<ObservedRead> {
        let (mut reads, mut min_sync_ns) = (Vec::new(), 0);
        for _ in 0..READS {
            let no_cache = thread_rng().gen_bool(self.mood.no_cache);
            reads.extend(self.read(self.mood.key(), no_cache, &mut min_sync_ns));
            self.mood.pass();
        }
        reads
    }

    /// A GET of a client. None if it failed.
    fn read(&self, key: &'static str, no_cache: bool, min_sync_ns: &mut u64) -> Option<ObservedRead> {
        let start_ns = now_ns();
        let asked =
            ReadOptions { now_ns: start_ns, arrived_ns: start_ns, min_sync_ns: *min_sync_ns, no_cache };
        let (value, how) = match self.reads.get(key.as_bytes(), asked) {
            ReadOutcome::Hit(entry) => ((!entry.is_missing()).then(|| number(entry.value())), ReadHow::Hit),
            ReadOutcome::Wait(waiting) => {
                let answered = block_on(waiting);
                let how = match (answered.hit, answered.collapsed) {
                    (true, _) => ReadHow::Proven,
                    (false, true) => ReadHow::Joined,
                    (false, false) => ReadHow::Fetched,
                };
                if answered.may_be_newest(true) {
                    *min_sync_ns = now_ns(); // as the front does
                }
                match answered.found {
                    Found::Answer(answer) => (Some(number(answer.value())), how),
                    Found::Missing => (None, how),
                    Found::Failed(_) => return None,
                    Found::Abandoned => panic!("a fill was dropped unanswered"),
                }
            }
        };
        let bound_ns = if self.strict || no_cache { 0 } else { BOUND_NS };
        Some(ObservedRead { key, start_ns, end_ns: now_ns(), value, bound_ns, how, of_old: false })
    }

    /// The one writer: at the nodes themselves, and now and then through the proxy.
    fn write_some(&self) {
        for _ in 0..WRITES {
            self.mood.idle();
            let key = self.mood.key();
            if thread_rng().gen_bool(self.mood.flushes) {
                self.nodes.lock().flush(thread_rng().gen_range(0..NODES));
            } else {
                self.write(key);
            }
            self.mood.pass();
        }
    }

    fn write(&self, key: &'static str) {
        let mut nodes = self.nodes.lock();
        // The program would have led it to a node that has lost the slot.
        let through = thread_rng().gen_bool(0.2) && !nodes.is_disputed();
        let applied_ns = nodes.write(key, thread_rng().gen_bool(0.8));
        drop(nodes);
        if through {
            self.store.invalidate(key.as_bytes());
            self.own.lock().push(OwnWrite { key, applied_ns, answered_ns: now_ns() });
        }
    }

    /// Slots that move, and now and then a lost connection.
    fn disturb(&self, told: &Told) {
        let mut events = Events::new(&self.nodes, &self.cluster, told, self.mood);
        for _ in 0..FAULTS {
            self.mood.idle();
            for cut in [&told.links, &told.watches] {
                if thread_rng().gen_bool(self.mood.cuts) {
                    let _ = cut[thread_rng().gen_range(0..NODES)]
                        .send(WireEvent::Cut { down: thread_rng().r#gen() });
                }
            }
            if thread_rng().gen_bool(self.mood.moves) {
                events.happen();
            }
            self.mood.pass();
        }
        // What is known in the end is right, whoever is asked.
        events.ask_for_map(0);
    }

    /// Heartbeats, and time that passes.
    fn beat(&self, told: &Told) {
        for _ in 0..BEATS {
            self.mood.idle();
            told.beat();
            self.mood.pass();
        }
    }

    /// All have ended: what is held and proven must be what is true, and so must be what is read with a proof.
    fn rest(&self, told: &Told) {
        for told in told.all() {
            let (sender, rested) = oneshot::channel();
            let _ = told.send(WireEvent::Rest(sender));
            block_on(rested).expect("the thread of a connection answers");
        }
        self.settle();
        let asked_ns = now_ns();
        self.prove();
        for key in KEYS {
            let held = self.store.peek(key.as_bytes(), now_ns());
            if let Some(entry) = held.filter(|entry| entry.proven_ns() >= asked_ns) {
                let value = (!entry.is_missing()).then(|| number(entry.value()));
                let truth = self.nodes.lock().read(key);
                assert!(value == truth, "{key} is held and proven as {value:?}, and is {truth:?}");
            }
        }
        for key in KEYS {
            let truth = self.nodes.lock().read(key);
            let read = self.read(key, true, &mut 0).expect("the connections are up");
            assert_eq!(read.value, truth, "the last word on {key}: {read:?}");
        }
        self.settle();
    }

    /// Whatever is on its way is answered.
    fn settle(&self) {
        let under_way = || {
            let refills: usize = self.links.iter().map(DrivenLink::refills).sum();
            let parked: usize = self.watches.iter().map(|(watch, _)| watch.parked()).sum();
            (self.store.stats(now_ns()).fills_in_flight, refills, parked)
        };
        let calm = (0..PROOFS).any(|_| {
            self.prove();
            under_way() == (0, 0, 0)
        });
        assert!(calm, "places not given back: {:?}", under_way());
    }

    fn prove(&self) {
        self.links.iter().for_each(|driven| block_on(driven.link.prove(now_ns())));
    }

    fn connect(&self, node: usize, kind: Kind) -> (DuplexStream, u64) {
        let (sender, sent) = unbounded_channel();
        let number = self.nodes.lock().accept(node, kind, sender);
        let (nodes, mood) = (self.nodes.clone(), self.mood);
        let execute = move |command: &_| nodes.lock().execute(node, kind, number, command);
        (
            lay_wire(sent, move || mood.lag(), execute),
            self.cluster.node(self.cluster.id_of(&address(node))).generation(),
        )
    }

    fn drive_watch(&self, node: usize, events: UnboundedReceiver<WireEvent>) {
        let (watch, driver) = &self.watches[node];
        let (sink, connect) = (SlotWatchSink(watch.clone()), || self.connect(node, Kind::Watch));
        block_on(drive(driver, &sink, connect, events, || watch.send_beat(), pending));
    }

    /// Ordinary connections, each once it is wanted, and fetches that wait for a node.
    async fn drive_ways(self: Arc<Self>, mut ended: oneshot::Receiver<()>) {
        let NodeDrivers(mut starts) = self.drives.lock().take().expect("they are driven once");
        let mut running = Vec::new();
        loop {
            let start = tokio::select! {
                start = starts.recv() => start,
                _ = &mut ended => None,
            };
            match start {
                Some(Start::Connection { connection, node, stopped }) => {
                    let (told, events) = unbounded_channel();
                    let part = move |world: &SlotWorld| world.drive_plain(node, connection, events);
                    running.push((told, self.spawn(part), stopped));
                }
                Some(Start::Later { ways, fill, hops }) => {
                    self.mood.idle();
                    NodeWays::send_again(&ways, fill, hops);
                }
                None => break,
            }
        }
        for (told, thread, _) in running {
            drop(told);
            joined(thread);
        }
    }

    fn drive_plain(&self, id: NodeNumber, connection: OwnConnection, events: UnboundedReceiver<WireEvent>) {
        let node = (0..NODES).find(|node| self.cluster.id_of(&address(*node)) == id).expect("one of two");
        let connect = || self.connect(node, Kind::Plain);
        block_on(drive(&connection.driver, &connection.sink, connect, events, || {}, pending));
    }
}

/// Each key's slot is of either node. Each may have another one beside, which stays: with the lowest number, by which it beats.
pub(super) fn draw_owners() -> BTreeMap<u16, usize> {
    let mut draw = thread_rng();
    let mut owners: BTreeMap<u16, usize> =
        KEYS.into_iter().map(|key| (slot_of(key), draw.gen_range(0..NODES))).collect();
    if draw.gen_bool(0.7) {
        owners.extend([(0, 0), (1, 1)]);
    }
    owners
}
