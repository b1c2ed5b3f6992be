//! How the reads of the HTTP front reach Redis: by a connection of each worker, or by links that all workers share.

use std::sync::Arc;

use cache::Partition;
use tracing::Span;
use upstream::{Backend, Driver};

use super::aging::{FillSink, PlainTicket};
use super::link::Link;
use super::{ReadThrough, Way};
use crate::budget::Budget;
use crate::stats::WorkerStats;
use crate::store::Store;

/// What the ways of all workers are made from.
pub(crate) enum HttpReads {
    /// Mode `ttl`: a worker's misses travel on a connection of its own.
    Own(Arc<Backend>),
    /// Modes `tracking` and `strict`: a key's misses travel on one of these, always the same.
    Linked { links: Arc<[Arc<Link>]>, strict: bool },
}

/// A worker's own connection to Redis, to be driven on the worker's thread.
pub(crate) struct OwnConnection {
    driver: Driver<PlainTicket>,
    sink: FillSink,
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
    ) -> (ReadThrough, Option<OwnConnection>) {
        let (partition, way, strict, connection) = match self {
            HttpReads::Own(redis) => {
                let (upstream, driver) = upstream::connect(redis);
                let sink = FillSink::new(&upstream, stats, budget.cloned(), true);
                (Partition::OWN, Way::Own(upstream), false, Some(OwnConnection { driver, sink }))
            }
            HttpReads::Linked { links, strict } => {
                (Partition::OWN.leased(), Way::Linked(links.clone()), *strict, None)
            }
        };
        let (store, stats) = (store.clone(), stats.clone());
        (ReadThrough { store, partition, way, strict, stats, _hold: None }, connection)
    }
}
