//! The ordinary connections of one reader to the nodes of a cluster, each made when it is first wanted; and where a fetch goes that a
//! node has sent on.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use cache::Fill;
use command::Slot;
use sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::error_span;
use upstream::{Backend, Cluster, Endpoint, NodeNumber, SlotRedirection, Upstream};

use crate::budget::Budget;
use crate::clock::{nanos, now_ns};
use crate::failure::Failure;
use crate::readthrough::aging::{self, FillSink, PlainTicket};
use crate::readthrough::http_reads::OwnConnection;
use crate::stats::WorkerStats;
use crate::vital;

/// So often a fetch is sent on, within the time that a reply may take.
const MOST_HOPS: u8 = 5;
/// Before a fetch is sent once more that no node would answer for now.
const PAUSE: Duration = Duration::from_millis(50);
/// A connection to a node that has had no slot for so long ends.
const USELESS: Duration = Duration::from_secs(60);

/// What fetches on such connections have in common.
#[derive(Clone)]
pub(in crate::readthrough) struct PlainReads {
    /// Whether what they bring is held for its age.
    pub(in crate::readthrough) keeps: bool,
    /// Whether it is shown over HTTP.
    pub(in crate::readthrough) over_http: bool,
    pub(in crate::readthrough) stats: Arc<WorkerStats>,
    pub(in crate::readthrough) budget: Option<Arc<Budget>>,
}

/// One reader's ordinary connections. Usable from any thread; they are driven by whoever runs [`NodeDrivers`].
pub(in crate::readthrough) struct NodeWays {
    cluster: Cluster,
    /// The commands of all its connections count together with these.
    redis: Arc<Backend>,
    /// As who the reader is known.
    endpoint: Endpoint,
    reads: PlainReads,
    /// A short lock, on the miss path.
    known: Mutex<HashMap<NodeNumber, Known>>,
    starts: UnboundedSender<Start>,
}

struct Known {
    upstream: Upstream<PlainTicket>,
    useless_since_ns: Option<u64>,
    /// Dropped, it ends the connection.
    _stop: oneshot::Sender<()>,
}

/// What is to be run.
pub(super) enum Start {
    Connection {
        connection: OwnConnection,
        node: NodeNumber,
        stopped: oneshot::Receiver<()>,
    },
    /// A fetch that no node would answer for now, to be sent again after a [`PAUSE`].
    Later {
        ways: Weak<NodeWays>,
        fill: Fill<Failure>,
        hops: u8,
    },
}

/// What drives the connections of one reader.
pub(crate) struct NodeDrivers(pub(super) UnboundedReceiver<Start>);

impl NodeDrivers {
    /// Until nobody has the ways any more. To be run within a local runtime.
    pub(crate) async fn run(mut self) {
        let mut running = JoinSet::new();
        while let Some(start) = self.0.recv().await {
            match start {
                Start::Connection { connection, node, stopped } => {
                    let driving = connection.run(error_span!("node", number = node.number()));
                    running.spawn_local(vital::task("a reader's connection to a node", async move {
                        tokio::select! {
                            () = driving => {}
                            _ = stopped => {}
                        }
                    }));
                }
                Start::Later { ways, fill, hops } => {
                    running.spawn_local(vital::task("a fetch that waits for a node", async move {
                        sleep(PAUSE).await;
                        NodeWays::send_again(&ways, fill, hops);
                    }));
                }
            }
            while running.try_join_next().is_some() {}
        }
        running.shutdown().await;
    }
}

impl NodeWays {
    /// None is made yet.
    ///
    /// # Panics
    /// If `endpoint` is of no cluster.
    pub(in crate::readthrough) fn new(
        redis: &Arc<Backend>,
        endpoint: Endpoint,
        reads: PlainReads,
    ) -> (Arc<Self>, NodeDrivers) {
        let cluster = endpoint.cluster.clone().expect("an endpoint of a cluster");
        let (starts, told) = unbounded_channel();
        let known = Mutex::default();
        (
            Arc::new(NodeWays { cluster, redis: redis.clone(), endpoint, reads, known, starts }),
            NodeDrivers(told),
        )
    }

    /// The connection to the node `id`.
    pub(in crate::readthrough) fn to(self: &Arc<Self>, id: NodeNumber) -> Upstream<PlainTicket> {
        let mut known = self.known.lock();
        if let Some(known) = known.get(&id) {
            return known.upstream.clone();
        }
        let (upstream, driver) = upstream::connect(&self.redis.beside(self.endpoint.at(id)));
        let at = NodeSite { ways: Arc::downgrade(self), id };
        let sink = FillSink::at_node(&upstream, &self.reads, at);
        let (stop, stopped) = oneshot::channel();
        // Nobody drives it only where all is about to end.
        let _ = self.starts.send(Start::Connection {
            connection: OwnConnection { driver, sink },
            node: id,
            stopped,
        });
        known.insert(id, Known { upstream: upstream.clone(), useless_since_ns: None, _stop: stop });
        upstream
    }

    /// The connection to whoever has the slot of `key`.
    pub(in crate::readthrough) fn of_key(self: &Arc<Self>, key: &[u8]) -> Upstream<PlainTicket> {
        self.to(self.cluster.owner(Slot::of(key).number()))
    }

    /// A PING to each primary; to home while none is known.
    pub(in crate::readthrough) fn probe(self: &Arc<Self>) -> Vec<oneshot::Receiver<Result<(), Failure>>> {
        let primaries = self.cluster.primaries().into_iter().map(|(id, _)| id);
        let mut primaries: Vec<NodeNumber> = primaries.collect();
        if primaries.is_empty() {
            primaries.push(NodeNumber::HOME);
        }
        primaries.into_iter().map(|id| aging::probe(&self.to(id))).collect()
    }

    /// Those that have been made: the address of each, and why it leads nowhere, if so.
    pub(in crate::readthrough) fn connections(&self) -> Vec<(String, Option<String>)> {
        let known = self.known.lock();
        known.values().map(|known| (known.upstream.place(), aging::trouble(&known.upstream))).collect()
    }

    /// Ends the connections to nodes that have had no slot for long.
    pub(in crate::readthrough) fn tend(&self, now_ns: u64) {
        let primaries = self.cluster.primaries();
        self.known.lock().retain(|id, known| {
            if primaries.iter().any(|(primary, _)| primary == id) {
                known.useless_since_ns = None;
                return true;
            }
            let since_ns = *known.useless_since_ns.get_or_insert(now_ns);
            now_ns.saturating_sub(since_ns) < nanos(USELESS)
        });
    }

    /// As [`Cluster::redirect`].
    pub(super) fn redirect(&self, text: &[u8], by: NodeNumber) -> Option<SlotRedirection> {
        self.cluster.redirect(text, by)
    }

    /// Sends a fetch to where `redirect` says, unless it has been sent on often enough.
    pub(in crate::readthrough) fn follow(
        self: &Arc<Self>,
        fill: Fill<Failure>,
        redirect: SlotRedirection,
        hops: u8,
    ) {
        let until_ns = fill.registered_ns().saturating_add(nanos(self.endpoint.limits.silence_timeout()));
        if hops >= MOST_HOPS || now_ns() >= until_ns {
            let failure = Failure::Unavailable("no node of the cluster answers for this key now".into());
            self.reads.stats.failed(&failure);
            return fill.fail(failure);
        }
        let (to, asking) = match redirect {
            SlotRedirection::Moved(to) => (to, false),
            SlotRedirection::Ask(to) => (to, true),
            SlotRedirection::Later => {
                // With its last user the fill is given up.
                let ways = Arc::downgrade(self);
                let _ = self.starts.send(Start::Later { ways, fill, hops: hops + 1 });
                return;
            }
        };
        let upstream = self.to(to);
        self.send(&upstream, fill, asking, hops + 1);
    }

    /// Sends a fetch that has waited to whoever has its slot by now.
    pub(super) fn send_again(ways: &Weak<NodeWays>, fill: Fill<Failure>, hops: u8) {
        if let Some(ways) = ways.upgrade() {
            let upstream = ways.of_key(fill.key());
            ways.send(&upstream, fill, false, hops);
        }
    }

    fn send(&self, upstream: &Upstream<PlainTicket>, fill: Fill<Failure>, asking: bool, hops: u8) {
        aging::send_on(upstream, &self.reads.stats, fill, asking, hops, now_ns());
    }
}

/// Where a connection's fetches are sent on from.
pub(in crate::readthrough) struct NodeSite {
    pub(in crate::readthrough) ways: Weak<NodeWays>,
    pub(in crate::readthrough) id: NodeNumber,
}

impl NodeSite {
    /// Where the node has sent a fetch with the error `text`, if it has, and by which ways it goes there.
    pub(in crate::readthrough) fn redirect(&self, text: &[u8]) -> Option<(Arc<NodeWays>, SlotRedirection)> {
        let ways = self.ways.upgrade()?;
        let redirect = ways.cluster.redirect(text, self.id)?;
        Some((ways, redirect))
    }
}
