//! Which nodes there are, and which of them is the primary.
//!
//! All who connect to Redis share a [`RedisNode`], which one thread moves: by what sentinels say ([`sentinel`], [`agreement`]), once the
//! named primary has said itself that it is one ([`watch`]). Beside it every replica is asked, as often as a link's heartbeat, if
//! it has become a primary ([`witness`]): the promise of a coherent mode is not in force while two nodes say so.
//!
//! With neither there is no such thread, and the node stays where the settings have it.

mod agreement;
mod reading;
mod seen;
mod sentinel;
mod watch;
mod witness;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tracing::{Instrument, error_span};

pub(crate) use self::seen::Seen;
use self::watch::Watch;
use crate::coherence::client_mode;
use crate::config::Settings;
use crate::readthrough::BEATS_A_BOUND;
use crate::vital;

/// No node is asked more often.
const SHORTEST_BEAT: Duration = Duration::from_millis(1);

/// What is known of the nodes, for those who report.
pub(crate) struct Nodes {
    seen: Arc<Seen>,
}

impl Nodes {
    /// Starts the thread that follows the primary and asks the witnesses, where there are any of these.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn start(settings: &Settings) -> io::Result<Arc<Nodes>> {
        let modes = [Some(settings.coherence.mode), client_mode(settings)];
        let is_proven = modes.iter().flatten().any(|mode| mode.is_proven());
        let witnesses = settings.nodes.witnesses && is_proven && !settings.with_redis;
        let seen = Arc::new(Seen::new(settings.redis.node.clone(), settings.nodes.sentinels.is_some()));
        let nodes = Arc::new(Nodes { seen: seen.clone() });
        if settings.nodes.sentinels.is_none() && !witnesses {
            return Ok(nodes);
        }
        let (redis, settings) = (settings.redis.clone(), settings.clone());
        let beat = witnesses.then_some((settings.coherence.max_staleness / BEATS_A_BOUND).max(SHORTEST_BEAT));
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

    /// What was seen of them last.
    pub(crate) fn seen(&self) -> &Seen {
        &self.seen
    }
}
