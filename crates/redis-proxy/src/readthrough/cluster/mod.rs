//! Coherent reads from a cluster: so many links to each primary, and a [watch](watch) of its slots beside them.
//!
//! What a link brings is proven by two leases: that of the link, as with a Redis by itself, and that of the key's slot, which the watch of
//! the node keeps. Both must be late enough. A key travels on a link of whoever has its slot, as far as is known
//! ([`upstream::Cluster`]); if that is another node, it says so, and the fetch is [sent on](ways), its answer not kept.

#[cfg(all(test, feature = "shuttle"))]
mod schedules;
mod watch;
mod ways;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use cache::{Entry, Lease, Need};
use command::Slot;
use sync::Mutex;
use tokio::sync::oneshot;
use tokio::task::{JoinSet, spawn_local};
use tracing::error_span;
use upstream::{Backend, Cluster, Endpoint, NodeNumber, SlotRedirection};

use super::link::{
    Delivery, EndingLink, Link, LinkPlan, LinkSettings, LinkThreads, RunningLink, is_to_be_audited, need,
    number_of_key,
};
use super::{Detail, ReadOptions};
use crate::budget::Budget;
use crate::clock::{nanos, now_ns};
use crate::failure::Failure;
use crate::stats::WorkerStats;
use crate::store::Store;
use crate::vital;

pub(crate) use self::watch::SlotWatch;
use self::watch::SlotWatchSink;
pub(crate) use self::ways::NodeDrivers;
pub(super) use self::ways::{NodeSite, NodeWays, PlainReads};

/// The links to a node that has had no slot for so long end.
const USELESS: Duration = Duration::from_secs(60);

/// Where in a cluster a link leads.
pub(super) struct Placed {
    pub(super) id: NodeNumber,
    /// None at home, of which it is not known what it has.
    pub(super) watch: Option<Arc<SlotWatch>>,
    /// For fetches that the node sends on.
    pub(super) ways: Arc<NodeWays>,
    /// What proves what the link has brought, by slot.
    leases: Mutex<HashMap<u16, Arc<Lease>>>,
}

impl Placed {
    fn new(id: NodeNumber, watch: Option<Arc<SlotWatch>>, ways: Arc<NodeWays>) -> Placed {
        Placed { id, watch, ways, leases: Mutex::default() }
    }

    /// What proves what the link brings of `slot`: the lease of the link's connection, and that of the slot.
    pub(super) fn lease(&self, slot: Slot, of_link: &Arc<Lease>, of_slot: &Arc<Lease>) -> Arc<Lease> {
        if !mutant::held_under_slot(true) {
            return of_link.clone();
        }
        let mut leases = self.leases.lock();
        let lease = leases.entry(slot.number()).or_default();
        if !lease.is_under(of_link) || !lease.is_under(of_slot) {
            *lease = Arc::new(Lease::under([of_link.clone(), of_slot.clone()]));
        }
        lease.clone()
    }

    /// Where the node has sent the fetch of `key` with the error `text`, if it has. A slot that it does not have is not watched there.
    pub(super) fn redirect(&self, text: &[u8], key: &[u8]) -> Option<SlotRedirection> {
        let redirect = self.ways.redirect(text, self.id)?;
        if let (SlotRedirection::Moved(_), Some(watch)) = (redirect, &self.watch) {
            watch.lost(Slot::of(key).number());
        }
        Some(redirect)
    }

    /// The link's connection is lost, and with it what its leases stood under.
    pub(super) fn forget_leases(&self) {
        *self.leases.lock() = HashMap::new();
    }

    pub(super) fn is_in_force(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.is_in_force())
    }
}

/// The watches of the nodes, and what is known of each; one for all readers.
pub(crate) struct SlotWatches {
    cluster: Cluster,
    /// Of the proxy's own user.
    endpoint: Endpoint,
    redis: Arc<Backend>,
    threads: Arc<LinkThreads>,
    max_staleness_ns: u64,
    nodes: Mutex<HashMap<NodeNumber, Weak<WatchedNode>>>,
}

/// A node that somebody reads from.
struct WatchedNode {
    watch: Arc<SlotWatch>,
    delivery: Arc<Delivery>,
    /// Dropped, it ends the watch.
    _stop: oneshot::Sender<()>,
}

impl SlotWatches {
    /// Of the cluster that `endpoint` is of, on threads that run already.
    ///
    /// # Panics
    /// If it is of none.
    pub(crate) fn new(
        endpoint: &Endpoint,
        redis: &Arc<Backend>,
        threads: &Arc<LinkThreads>,
        max_staleness: Duration,
    ) -> Arc<SlotWatches> {
        // The first tag takes milliseconds: here, and not where a client waits for its first fetch.
        let _ = Slot::of(b"").tag();
        Arc::new(SlotWatches {
            cluster: endpoint.cluster.clone().expect("an endpoint of a cluster"),
            endpoint: endpoint.clone(),
            redis: redis.clone(),
            threads: threads.clone(),
            max_staleness_ns: nanos(max_staleness),
            nodes: Mutex::default(),
        })
    }

    fn of(&self, id: NodeNumber) -> io::Result<Arc<WatchedNode>> {
        let mut nodes = self.nodes.lock();
        if let Some(node) = nodes.get(&id).and_then(Weak::upgrade) {
            return Ok(node);
        }
        nodes.retain(|_, node| node.strong_count() > 0);
        let (upstream, driver) = upstream::connect(&self.redis.beside(self.endpoint.at(id)));
        let watch = SlotWatch::new(id, self.cluster.clone(), upstream, self.max_staleness_ns);
        let (stop, stopped) = oneshot::channel::<()>();
        let running = watch.clone();
        self.threads.run(
            0,
            Box::new(move || {
                let watching = async move {
                    let mut parts = JoinSet::new();
                    let driving =
                        driver.run(error_span!("watch", node = id.number()), SlotWatchSink(running.clone()));
                    parts.spawn_local(vital::task("the connection of a watch", driving));
                    parts.spawn_local(vital::task("the heartbeat of a watch", watch::beat(running)));
                    let _ = stopped.await;
                    parts.shutdown().await;
                };
                drop(spawn_local(vital::task("a watch", watching)));
            }),
        )?;
        let node = Arc::new(WatchedNode { watch, delivery: Arc::default(), _stop: stop });
        nodes.insert(id, Arc::downgrade(&node));
        Ok(node)
    }

    /// The watches that there are.
    pub(crate) fn all(&self) -> Vec<Arc<SlotWatch>> {
        self.nodes.lock().values().filter_map(Weak::upgrade).map(|node| node.watch.clone()).collect()
    }
}

/// The links of one reader to the primaries of a cluster.
pub(crate) struct ClusterLinks {
    cluster: Cluster,
    store: Store,
    budget: Option<Arc<Budget>>,
    redis: Arc<Backend>,
    /// The reader, at whichever node.
    endpoint: Endpoint,
    settings: LinkSettings,
    threads: Arc<LinkThreads>,
    watches: Arc<SlotWatches>,
    ways: Arc<NodeWays>,
    /// The links whose canary tells of a node, if these have none.
    own: Option<Arc<ClusterLinks>>,
    /// A short lock, on the miss path.
    nodes: Mutex<HashMap<NodeNumber, NodeLinks>>,
    ended: Mutex<Vec<EndingLink>>,
    /// What was last seen of all primaries: an [`in_force_word`].
    in_force: AtomicU64,
}

/// Whether the promise was in force, in the lowest bit, and when: above it the instant in units of 2^20 ns.
fn in_force_word(now_ns: u64, is_in_force: bool) -> u64 {
    (now_ns >> 20) << 1 | u64::from(is_in_force)
}

/// The links to one node.
struct NodeLinks {
    links: Arc<[Arc<Link>]>,
    running: Vec<RunningLink>,
    useless_since_ns: Option<u64>,
    _node: Option<Arc<WatchedNode>>,
}

impl NodeLinks {
    /// Those to a node that has slots, as far as was known at the last look.
    fn of_primary(&self) -> &[Arc<Link>] {
        if self.useless_since_ns.is_none() { &self.links } else { &[] }
    }
}

impl ClusterLinks {
    /// For the reader whom `endpoint` names. No link is made yet. `own` are the links whose canary tells of a node, unless these have one.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn new(
        store: &Store,
        budget: Option<&Arc<Budget>>,
        redis: &Arc<Backend>,
        endpoint: Endpoint,
        settings: LinkSettings,
        watches: &Arc<SlotWatches>,
        own: Option<Arc<ClusterLinks>>,
    ) -> io::Result<Arc<ClusterLinks>> {
        let threads = &watches.threads;
        // From here on they run, so that what is started later cannot fail.
        (0..settings.links).try_for_each(|number| threads.run(number, Box::new(|| {})))?;
        let reads = PlainReads {
            keeps: false,
            over_http: settings.over_http,
            stats: Arc::default(),
            budget: budget.cloned(),
        };
        let (ways, drives) = NodeWays::new(redis, endpoint.clone(), reads);
        threads.run(
            0,
            Box::new(move || {
                drop(spawn_local(vital::task("a reader's ordinary connections to nodes", drives.run())));
            }),
        )?;
        Ok(Arc::new(ClusterLinks {
            cluster: watches.cluster.clone(),
            store: store.clone(),
            budget: budget.cloned(),
            redis: redis.clone(),
            endpoint,
            settings,
            threads: threads.clone(),
            watches: watches.clone(),
            ways,
            own,
            nodes: Mutex::default(),
            ended: Mutex::default(),
            in_force: AtomicU64::default(),
        }))
    }

    /// The link of a key, to whoever has its slot.
    pub(super) fn of_key(&self, key: &[u8]) -> Arc<Link> {
        let links = self.to(self.cluster.owner(Slot::of(key).number()));
        links[number_of_key(links.len(), key)].clone()
    }

    /// The links to a node, which start now if there are none.
    fn to(&self, id: NodeNumber) -> Arc<[Arc<Link>]> {
        let mut nodes = self.nodes.lock();
        if let Some(node) = nodes.get(&id) {
            return node.links.clone();
        }
        if let Some(own) = &self.own {
            own.to(id);
        }
        let started = self.start(id).expect("threads that run already take what is to be started");
        nodes.entry(id).or_insert(started).links.clone()
    }

    fn start(&self, id: NodeNumber) -> io::Result<NodeLinks> {
        let node = match id {
            NodeNumber::HOME => None,
            id => Some(self.watches.of(id)?),
        };
        let endpoint = self.endpoint.at(id);
        let tracked = self.redis.tracked_beside(endpoint.clone());
        let plain = self.redis.beside(endpoint);
        let settings = LinkSettings {
            canary_key: self.settings.canary_key.clone().filter(|_| node.is_some()),
            delivery: node.as_ref().map_or_else(Arc::default, |node| node.delivery.clone()),
            relies: self.settings.relies && node.is_some(),
            ..self.settings.clone()
        };
        let plan = LinkPlan::new(&self.store, self.budget.as_ref(), &tracked, &plain, settings);
        let watch = node.as_ref().map(|node| node.watch.clone());
        let started = (0..self.settings.links).map(|number| {
            let placed = Placed::new(id, watch.clone(), self.ways.clone());
            plan.start_at(number, Some(placed), &self.threads)
        });
        let (links, running): (Vec<_>, Vec<_>) = started.collect::<io::Result<Vec<_>>>()?.into_iter().unzip();
        // Home has none, and is left with the next look.
        let useless_since_ns = (id == NodeNumber::HOME).then(now_ns);
        Ok(NodeLinks { links: links.into(), running, useless_since_ns, _node: node })
    }

    /// The links to the primaries that have slots, all of them.
    pub(crate) fn all(&self) -> Vec<Arc<Link>> {
        self.nodes.lock().values().flat_map(NodeLinks::of_primary).cloned().collect()
    }

    /// A PING to each primary; to home while none is known.
    pub(super) fn probe(&self) -> Vec<oneshot::Receiver<Result<(), Failure>>> {
        let primaries = self.cluster.primaries().into_iter().map(|(id, _)| id);
        let mut primaries: Vec<NodeNumber> = primaries.collect();
        if primaries.is_empty() {
            primaries.push(NodeNumber::HOME);
        }
        primaries.into_iter().flat_map(|id| self.to(id).to_vec()).map(|link| link.probe()).collect()
    }

    /// The links to a node.
    pub(super) fn of_node(&self, node: u16) -> Vec<Arc<Link>> {
        let nodes = self.nodes.lock();
        let of_node = nodes.iter().filter(|(id, _)| id.number() == node);
        of_node.flat_map(|(_, node)| node.links.iter().cloned()).collect()
    }

    /// Ends the links to nodes that have had no slot for long, and begins those to primaries that are new.
    pub(crate) fn tend(&self, now_ns: u64) {
        let primaries = self.cluster.primaries();
        self.ways.tend(now_ns);
        let mut gone = Vec::new();
        self.nodes.lock().retain(|id, node| {
            if primaries.iter().any(|(primary, _)| primary == id) {
                node.useless_since_ns = None;
                return true;
            }
            let since_ns = *node.useless_since_ns.get_or_insert(now_ns);
            let stays = now_ns.saturating_sub(since_ns) < nanos(USELESS);
            if !stays {
                gone.extend(std::mem::take(&mut node.running));
            }
            stays
        });
        let mut ended = self.ended.lock();
        ended.retain(|ending| !ending.has_ended());
        ended.extend(gone.into_iter().map(RunningLink::stop));
        drop(ended);
        for (id, _) in primaries {
            self.to(id);
        }
    }

    /// Ends all of them.
    pub(crate) fn stop(&self) -> Vec<EndingLink> {
        let nodes = std::mem::take(&mut *self.nodes.lock());
        let running = nodes.into_values().flat_map(|node| node.running);
        let mut ending = std::mem::take(&mut *self.ended.lock());
        ending.extend(running.map(RunningLink::stop));
        ending
    }

    /// As [`Link::need`]: a node of a cluster is never another one.
    #[inline]
    pub(super) fn need(&self, asked: ReadOptions, strict: bool) -> Need {
        need(asked, strict, self.settings.max_staleness_ns, 0)
    }

    /// As [`Link::was_hit`].
    #[inline]
    pub(super) fn was_hit(&self, entry: &Entry, stats: &WorkerStats, now_ns: u64) {
        let Some(lease) = entry.lease() else { return };
        if !lease.is_live() || is_to_be_audited(entry, stats) {
            self.of_key(entry.key()).was_hit_late(entry, stats, now_ns);
        }
    }

    /// What `Cache-Status` says of the mode and of its promise, for every answer: as of the millisecond of `now_ns`.
    #[inline]
    pub(super) fn detail(&self, strict: bool, now_ns: u64) -> Detail {
        let seen = self.in_force.load(Ordering::Relaxed);
        let is_in_force = match seen & !1 == in_force_word(now_ns, false) {
            true => seen & 1 == 1,
            false => self.look_at_primaries(now_ns),
        };
        super::link::detail_of(strict, is_in_force)
    }

    /// Whether the promise is in force at all primaries that have slots, of which there is one at least.
    #[cold]
    fn look_at_primaries(&self, now_ns: u64) -> bool {
        let links = self.all();
        let is_in_force = !links.is_empty() && links.iter().all(|link| link.is_in_force());
        self.in_force.store(in_force_word(now_ns, is_in_force), Ordering::Relaxed);
        is_in_force
    }

    /// The mode's name.
    pub(crate) fn mode(&self) -> &'static str {
        self.settings.mode
    }
}
