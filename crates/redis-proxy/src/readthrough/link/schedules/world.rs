//! One schedule: its threads, and what must hold when they have ended.

use std::sync::Arc;
use std::time::Duration;

use cache::{Cache, Limits, MOST_SENT};
use insight::AllSamples;
use sync::Mutex;
use sync::shuttle::future::block_on;
use sync::shuttle::rand::{Rng, thread_rng};
use sync::shuttle::thread::{self, JoinHandle};
use tokio::io::DuplexStream;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use upstream::RedisNode;

use super::super::Link;
use super::driven::{DrivenLink, WireEvent, endpoint, settings};
use super::judge::{ObservedRead, OwnWrite, ReadHow, judge};
use super::mood::{BOUND_NS, WorldMood};
use super::redis::{KEYS, Redis};
use super::servers::Servers;
use super::wire::lay_wire;
use super::{Explored, count};
use crate::clock::{now_ns, start};
use crate::readthrough::{Found, HttpReads, Links, ReadOptions, ReadOutcome, ReadThrough};

const READERS: usize = 2;
const HERD: usize = 5;
const READS: usize = 10;
const WRITES: usize = 4;
const FAULTS: usize = 3;

/// Everything in it.
pub(super) struct World {
    servers: Servers,
    node: RedisNode,
    driven: DrivenLink,
    link: Arc<Link>,
    reads: ReadThrough,
    strict: bool,
    readers: usize,
    mood: WorldMood,
    own: Mutex<Vec<OwnWrite>>,
}

impl World {
    pub(super) fn new(what: Explored) -> World {
        let strict = what != Explored::Tracked;
        start(1 << 40);
        let limits = Limits {
            capacity: 8,
            capacity_bytes: None,
            expiry: Duration::from_secs(60),
            max_value_bytes: 64,
            shards: Some(1),
        };
        let store = Cache::new(limits);
        let node = RedisNode::at(Servers::address(0));
        // How a flush takes effect: by the lease of the link, or by the epoch of all.
        let settings = settings(strict, thread_rng().gen_bool(0.3));
        let driven = DrivenLink::new(&store, endpoint(&node, None), None, settings);
        let link = driven.link.clone();
        let reads = HttpReads::Linked { links: Links::OfOne(Arc::new([link.clone()])), strict };
        let (reads, _) = reads.of_worker(&store, None, &Arc::default(), &AllSamples::with_seed(0, [0; 16]));
        World {
            servers: Servers::new(),
            node,
            driven,
            link,
            reads,
            strict,
            readers: if what == Explored::Herd { HERD } else { READERS },
            mood: if what == Explored::Herd { WorldMood::draw().of_one_key() } else { WorldMood::draw() },
            own: Mutex::default(),
        }
    }

    /// Runs every thread to its end and judges what came of it.
    pub(super) fn live(self: Arc<Self>) {
        let (events, told) = unbounded_channel();
        let link = self.spawn(move |world| {
            block_on(world.driven.live(|| world.connect(), told));
            world.servers.hang_up();
        });
        let readers: Vec<_> = (0..self.readers).map(|_| self.spawn(|world| world.read_some())).collect();
        let writer = self.spawn(|world| world.write_some());
        let faults = self.spawn({
            let events = events.clone();
            move |world| world.disturb(&events)
        });
        let seen: Vec<Vec<ObservedRead>> = readers.into_iter().map(joined).collect();
        joined(writer);
        joined(faults);
        self.rest(&events);
        let _ = events.send(WireEvent::End);
        joined(link);
        seen.iter().flatten().for_each(|read| count(read.how));
        let own = self.own.lock().clone();
        for key in KEYS {
            let reigns = self.servers.primary(|redis| redis.reigns(key));
            for reads in &seen {
                let of_key: Vec<ObservedRead> =
                    reads.iter().filter(|read| read.key == key).cloned().collect();
                judge(&of_key, &own, &reigns, &[]);
            }
        }
    }

    fn spawn<R: Send + 'static>(
        self: &Arc<Self>,
        part: impl FnOnce(&World) -> R + Send + 'static,
    ) -> JoinHandle<R> {
        let world = self.clone();
        thread::spawn(move || part(&world))
    }

    /// One client connection.
    fn read_some(&self) -> Vec<ObservedRead> {
        let (mut reads, mut min_sync_ns) = (Vec::new(), 0);
        for _ in 0..READS {
            let key = self.mood.key();
            let read = match thread_rng().gen_bool(0.1) {
                true => Some(self.read_past(key, &mut min_sync_ns)),
                false => self.read(key, thread_rng().gen_bool(self.mood.no_cache), &mut min_sync_ns),
            };
            reads.extend(read);
            self.mood.pass();
        }
        reads
    }

    /// A GET of a client. None if it failed.
    fn read(&self, key: &'static str, no_cache: bool, min_sync_ns: &mut u64) -> Option<ObservedRead> {
        let seen = self.servers.look();
        let start_ns = now_ns();
        let asked =
            ReadOptions { now_ns: start_ns, arrived_ns: start_ns, min_sync_ns: *min_sync_ns, no_cache };
        let got = self.reads.get(key.as_bytes(), asked);
        let fetches = self.link.store.stats(now_ns()).fills_in_flight;
        let most = KEYS.len() * (MOST_SENT + 1);
        let most = if self.readers == HERD { MOST_SENT + 1 } else { most };
        assert!(fetches <= most as u64, "a herd: {fetches} fetches, and {most} are allowed");
        let (found, how) = match got {
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
        let end_ns = now_ns();
        let of_old = self.servers.may_be_of_old(&seen, how);
        Some(ObservedRead { key, start_ns, end_ns, value: found, bound_ns, how, of_old })
    }

    /// A command that goes past the cache, on another connection: what comes after it is no older.
    fn read_past(&self, key: &'static str, min_sync_ns: &mut u64) -> ObservedRead {
        let (seen, how) = (self.servers.look(), ReadHow::Past);
        let start_ns = now_ns();
        let address = self.node.place().address.expect("it is always somewhere");
        let value = self.servers.at(&address).lock().read(key);
        *min_sync_ns = now_ns();
        let of_old = self.servers.may_be_of_old(&seen, how);
        ObservedRead { key, start_ns, end_ns: *min_sync_ns, value, bound_ns: 0, how, of_old }
    }

    /// The one writer: at Redis itself, and now and then through the proxy.
    fn write_some(&self) {
        for _ in 0..WRITES {
            self.mood.idle();
            let (key, through) = (self.mood.key(), thread_rng().gen_bool(0.2));
            let is_flush = thread_rng().gen_bool(self.mood.flushes);
            let px = thread_rng().gen_bool(self.mood.expiring).then(|| thread_rng().gen_range(1..8));
            let (applied_ns, is_noticed) = self.servers.primary_and(|redis, is_noticed| {
                let applied_ns = match is_flush {
                    true => redis.flush(),
                    false => redis.write(key, px.is_some() || thread_rng().gen_bool(0.8), px),
                };
                (applied_ns, is_noticed)
            });
            // The program would have led it to the old primary.
            let through = through && is_noticed;
            match (through, is_flush) {
                (false, _) => {}
                (true, true) => self.link.store.flush(),
                (true, false) => drop(self.link.store.invalidate(key.as_bytes())),
            }
            if through {
                self.own.lock().push(OwnWrite { key, applied_ns, answered_ns: now_ns() });
            }
            self.mood.pass();
        }
    }

    /// Heartbeats, time that passes, keys that expire, and now and then a lost connection.
    fn disturb(&self, events: &UnboundedSender<WireEvent>) {
        for _ in 0..FAULTS {
            self.mood.idle();
            if thread_rng().gen_bool(self.mood.cuts) {
                let _ = events.send(WireEvent::Cut { down: thread_rng().r#gen() });
            }
            if thread_rng().gen_bool(self.mood.moves) {
                // Also while a heartbeat is on its way.
                let beat = || drop(events.send(WireEvent::Beat));
                beat();
                self.servers.disturb(&self.node, self.mood, beat);
            }
            match thread_rng().gen_range(0..3) {
                0 => self.servers.primary(Redis::expire_all),
                1 => self.mood.pass(),
                _ => drop(events.send(WireEvent::Beat)),
            }
        }
    }

    /// All have ended: reads of every key that must be proven, then what is held must be what Redis holds.
    fn rest(&self, events: &UnboundedSender<WireEvent>) {
        let (sender, rested) = oneshot::channel();
        let _ = events.send(WireEvent::Rest(sender));
        block_on(rested).expect("the link's thread answers");
        // Whatever is still on its way is answered before this is.
        let asked_ns = now_ns();
        block_on(self.link.prove(now_ns()));
        for key in KEYS {
            let held = self.link.store.peek(key.as_bytes(), now_ns());
            if let Some(entry) = held.filter(|entry| entry.proven_ns() >= asked_ns) {
                let value = (!entry.is_missing()).then(|| number(entry.value()));
                let redis = self.servers.primary(|redis| redis.read(key));
                // It may have expired between the two looks.
                assert!(
                    value == redis || self.link.store.peek(key.as_bytes(), now_ns()).is_none(),
                    "{key} is held and proven as {value:?}, and is {redis:?}"
                );
            }
        }
        for key in KEYS {
            let truth = self.servers.primary(|redis| redis.read(key));
            let read = self.read(key, true, &mut 0).expect("the connection is up");
            assert_eq!(read.value, truth, "the last word on {key}: {read:?}");
        }
        // The last of them may have had an entry fetched anew behind it.
        block_on(self.link.prove(now_ns()));
        let refills = self.driven.refills();
        assert_eq!(
            (self.link.store.stats(now_ns()).fills_in_flight, refills),
            (0, 0),
            "places not given back"
        );
    }

    /// A connection to where the primary is taken to be.
    fn connect(&self) -> (DuplexStream, u64) {
        let place = self.node.place();
        let redis = self.servers.at(&place.address.expect("it is always somewhere"));
        let (sender, sent) = unbounded_channel();
        let number = redis.lock().accept(sender);
        (lay_wire(sent, || {}, move |command| redis.lock().execute(number, command)), place.generation)
    }
}

pub(in crate::readthrough) fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).expect("a version")
}

pub(in crate::readthrough) fn joined<R>(thread: JoinHandle<R>) -> R {
    thread.join().expect("a thread that ends well")
}
