//! What all connections to one Redis share: where it is, how much may be in flight, and who waits for its return.

use std::sync::Arc;
use std::time::Duration;
use sync::atomic::{AtomicUsize, Ordering};

use sync::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::endpoint::{ConnectionLimits, Endpoint};
use crate::node::RedisNode;

/// A refused read counts as waiting for this long: its client is likely to ask again.
const MEMORY: Duration = Duration::from_secs(2);

/// A server that sent a read elsewhere is not tried again for this long, unless it says what it is.
const MOVED_MEMORY: Duration = Duration::from_secs(60);

/// The one backing Redis, as its connections share it.
#[derive(Debug)]
pub struct Backend {
    pub(crate) endpoint: Endpoint,
    /// Whether the server is asked to track what its connections read.
    pub(crate) tracked: bool,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) demand: Demand,
    /// When a read was last sent elsewhere, as a node of a cluster does, and by which generation of the node.
    moved: Mutex<Option<(Instant, u64)>>,
    /// Counts connections made: where one gets through, the others need not wait.
    pub(crate) returns: watch::Sender<u64>,
}

impl Backend {
    /// A Redis at `endpoint`, with at most `max_in_flight` commands without a reply over all connections.
    pub fn new(endpoint: Endpoint, max_in_flight: usize) -> Arc<Self> {
        Backend::of(endpoint, InFlight::new(max_in_flight), false)
    }

    /// A Redis at `endpoint`, for connections whose reads the server is asked to track.
    pub fn tracked(endpoint: Endpoint, max_in_flight: usize) -> Arc<Self> {
        Backend::of(endpoint, InFlight::new(max_in_flight), true)
    }

    /// This Redis as `endpoint` has it, perhaps for another user or database: the commands of both count together.
    pub fn beside(&self, endpoint: Endpoint) -> Arc<Self> {
        Backend::of(endpoint, self.in_flight.clone(), false)
    }

    /// As [`beside`](Self::beside), for connections whose reads the server is asked to track.
    pub fn tracked_beside(&self, endpoint: Endpoint) -> Arc<Self> {
        Backend::of(endpoint, self.in_flight.clone(), true)
    }

    fn of(endpoint: Endpoint, in_flight: Arc<InFlight>, tracked: bool) -> Arc<Self> {
        Arc::new(Backend {
            endpoint,
            tracked,
            in_flight,
            demand: Demand::default(),
            moved: Mutex::default(),
            returns: watch::Sender::new(0),
        })
    }
}

impl Backend {
    /// Where it is.
    pub fn node(&self) -> &RedisNode {
        &self.endpoint.node
    }

    /// From now on at most so many commands are without a reply, over all connections; if more are, they stay.
    pub fn set_max_in_flight(&self, most: usize) {
        self.in_flight.limit.store(most, Ordering::Relaxed);
    }

    /// From now on all connections to it go by these limits, those that are open too.
    pub fn set_limits(&self, limits: ConnectionLimits) {
        self.endpoint.limits.set(limits);
    }

    /// From now on open connections log in again so often.
    pub fn set_reauth(&self, period: Option<Duration>) {
        if let Some(reauth) = &self.endpoint.login.reauth {
            reauth.set_period(period);
        }
    }

    /// A read was sent elsewhere.
    pub(crate) fn note_moved(&self) {
        *self.moved.lock() = Some((Instant::now(), self.endpoint.node.generation()));
    }

    /// Whether one was lately. Where nothing else tells, a server is tried again after a while: it may be another one by then.
    pub(crate) fn was_moved(&self) -> bool {
        let here = self.endpoint.node.generation();
        self.moved.lock().is_some_and(|(at, generation)| at.elapsed() < MOVED_MEMORY && generation == here)
    }
}

/// A bound on the commands without a reply.
#[derive(Debug)]
pub(crate) struct InFlight {
    limit: AtomicUsize,
    used: AtomicUsize,
}

impl InFlight {
    fn new(limit: usize) -> Arc<Self> {
        Arc::new(InFlight { limit: AtomicUsize::new(limit), used: AtomicUsize::new(0) })
    }

    pub(crate) fn enter(&self) -> bool {
        if self.used.fetch_add(1, Ordering::Relaxed) < self.limit.load(Ordering::Relaxed) {
            return true;
        }
        self.leave();
        false
    }

    pub(crate) fn leave(&self) {
        self.used.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reads that were refused because Redis is away, on whichever connection: all of them look for it then.
#[derive(Debug, Default)]
pub(crate) struct Demand {
    /// When a read was last refused.
    refused: Mutex<Option<Instant>>,
    called: Notify,
}

impl Demand {
    /// A read is refused now.
    pub(crate) fn call(&self) {
        let now = Instant::now();
        let before = self.refused.lock().replace(now);
        // Those who wait know already, as long as calls follow each other.
        if before.is_none_or(|before| now - before >= MEMORY) {
            self.called.notify_waiters();
        }
    }

    /// Whether somebody waits.
    pub(crate) fn is_there(&self) -> bool {
        self.refused.lock().is_some_and(|refused| refused.elapsed() < MEMORY)
    }

    /// Returns once somebody begins to wait, from the making of this future on.
    pub(crate) fn called(&self) -> impl Future<Output = ()> {
        self.called.notified()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_refused_read_counts_for_two_seconds_and_calls_those_who_wait() {
        let demand = Demand::default();
        assert!(!demand.is_there());
        let called = demand.called();
        demand.call();
        called.await;
        assert!(demand.is_there());
        tokio::time::advance(MEMORY).await;
        assert!(!demand.is_there());
    }
}
