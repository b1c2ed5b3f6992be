//! Which nodes there are, and which of them is the primary.
//!
//! All who connect to Redis share a [`RedisNode`], which one thread moves: by what sentinels say ([`sentinel`], [`agreement`]), once the
//! named primary has said itself that it is one ([`watch`]). Beside it every replica is asked, as often as a link's heartbeat, if
//! it has become a primary ([`witness`]): the promise of a coherent mode is not in force while two nodes say so.
//!
//! In a cluster the thread follows the map of its slots instead ([`cluster`]).
//!
//! With neither there is no such thread, and the node stays where the settings have it.

mod agreement;
mod cluster;
mod reading;
mod seen;
mod sentinel;
mod tracking_table;
mod watch;
mod witness;
mod witnesses;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tracing::{Instrument, error_span};
use upstream::Endpoint;

use self::cluster::Follower;
pub(crate) use self::seen::Seen;
use self::tracking_table::TrackingTable;
use self::watch::Watch;
use crate::config::{Settings, Topology};
use crate::vital;

/// What is known of the nodes, for those who report.
pub(crate) struct Nodes {
    seen: Arc<Seen>,
    tracking_table: TrackingTable,
}

impl Nodes {
    /// Starts the thread that follows the primary, where there are sentinels, and asks witnesses each `beat`, where they are asked at all.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn start(settings: &Settings, beat: Option<Duration>) -> io::Result<Arc<Nodes>> {
        let by_sentinels = settings.nodes.sentinels().is_some();
        let seen = Arc::new(Seen::new(&settings.redis, by_sentinels));
        let nodes = Arc::new(Nodes { seen: seen.clone(), tracking_table: TrackingTable::default() });
        let (redis, settings) = (settings.redis.clone(), settings.clone());
        if let (Topology::Cluster { seeds }, Some(cluster)) = (&settings.nodes.topology, &redis.cluster) {
            let (seeds, cluster) = (seeds.clone(), cluster.clone());
            vital::spawn("nodes".into(), move |alive| {
                let runtime =
                    Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
                let following = Follower::new(redis, cluster, seeds, seen).run();
                runtime.block_on(alive.during(following.instrument(error_span!("nodes"))));
                Ok(())
            })?;
            return Ok(nodes);
        }
        if !by_sentinels && beat.is_none() {
            return Ok(nodes);
        }
        // Detached: it has nothing that an orderly end would have to wait for.
        vital::spawn("nodes".into(), move |alive| {
            let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
            let watch = Rc::new(Watch::new(redis, settings.nodes, beat, seen));
            let watching = watch.run().instrument(error_span!("nodes"));
            runtime.block_on(alive.during(watching));
            Ok(())
        })?;
        Ok(nodes)
    }

    /// Looks at the tables in which `redis` remembers what is tracked, as long as it may.
    pub(crate) async fn watch_tracking_table(self: Arc<Self>, redis: Endpoint) {
        self.tracking_table.watch(redis).await;
    }

    /// How full they are.
    pub(crate) fn tracking_table(&self) -> &TrackingTable {
        &self.tracking_table
    }

    /// What was seen of them last.
    pub(crate) fn seen(&self) -> &Seen {
        &self.seen
    }
}
