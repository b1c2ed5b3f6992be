//! How the reads of the HTTP front reach Redis: by a connection of each worker, or by links that all workers share.

use std::sync::Arc;

use cache::Partition;
use insight::AllSamples;
use tracing::Span;
use upstream::{Backend, Driver, Endpoint};

use super::aging::{FillSink, PlainTicket};
use super::cluster::{NodeDrivers, NodeWays, PlainReads};
use super::{Links, ReadThrough, Way};
use crate::budget::Budget;
use crate::stats::WorkerStats;
use crate::store::Store;

/// What the ways of all workers are made from.
pub(crate) enum HttpReads {
    /// Mode `ttl`: a worker's misses travel on a connection of its own.
    Own(Arc<Backend>),
    /// The same in a cluster, where the endpoint is any node: on one to each.
    OwnNodes(Arc<Backend>, Box<Endpoint>),
    /// Modes `tracking` and `strict`: a key's misses travel on one of these, always the same.
    Linked { links: Links, strict: bool },
}

/// A worker's own connections to Redis, to be driven on the worker's thread.
pub(crate) enum OwnConnections {
    /// The one to a Redis by itself.
    One(OwnConnection),
    /// Those to the nodes of a cluster.
    Nodes(NodeDrivers),
}

impl OwnConnections {
    /// Never ends. What is logged of it stands in `span`.
    pub(crate) async fn run(self, span: Span) {
        match self {
            OwnConnections::One(connection) => connection.run(span).await,
            OwnConnections::Nodes(nodes) => nodes.run().await,
        }
    }
}

/// An ordinary connection to Redis, with what is done with what it brings.
pub(crate) struct OwnConnection {
    pub(super) driver: Driver<PlainTicket>,
    pub(super) sink: FillSink,
}

impl OwnConnection {
    /// Never ends. What is logged of it stands in `span`.
    pub(crate) async fn run(self, span: Span) {
        self.driver.run(span, self.sink).await;
    }
}

impl HttpReads {
    /// The way of one worker, and what is to be driven for it.
    pub(crate) fn of_worker(
        &self,
        store: &Store,
        budget: Option<&Arc<Budget>>,
        stats: &Arc<WorkerStats>,
        samples: &AllSamples,
    ) -> (ReadThrough, Option<OwnConnections>) {
        let (partition, way, strict, connection) = match self {
            HttpReads::Own(redis) => {
                let (upstream, driver) = upstream::connect(redis);
                let sink = FillSink::new(&upstream, stats, budget.cloned(), true);
                let own = OwnConnections::One(OwnConnection { driver, sink });
                (Partition::OWN, Way::Own(upstream), false, Some(own))
            }
            HttpReads::OwnNodes(redis, endpoint) => {
                let (stats, budget) = (stats.clone(), budget.cloned());
                let reads = PlainReads { keeps: true, over_http: true, stats, budget };
                let (ways, drives) = NodeWays::new(redis, Endpoint::clone(endpoint), reads);
                (Partition::OWN, Way::OwnNodes(ways), false, Some(OwnConnections::Nodes(drives)))
            }
            HttpReads::Linked { links, strict } => {
                let way = match links {
                    Links::OfOne(links) => Way::Linked(links.clone()),
                    Links::OfCluster(links) => Way::Clustered(links.clone()),
                };
                (Partition::OWN.leased(), way, *strict, None)
            }
        };
        let (store, stats, samples) = (store.clone(), stats.clone(), samples.samples());
        (ReadThrough { store, partition, way, strict, stats, samples, _hold: None }, connection)
    }
}
