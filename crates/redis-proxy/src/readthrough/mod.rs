//! The heart: a key comes in, a value comes out, from memory or from Redis. The only place on a request's way
//! that names both the cache and the connection to Redis.
//!
//! A hit is one lookup. A miss makes a *fill*, which travels to Redis as the ticket of its GET and comes back to the
//! connection's sink, called by its driver in wire order: there, and never in a task that waits, the fill is committed.
//! Whoever asks for the key meanwhile waits for the same fill.
//!
//! How a key is fetched and what proves an entry is the mode's: [`aging`] is `ttl`, [`link`] is `tracking` and `strict`.
//! The contract is `docs/coherence.md`.

mod aging;
mod fetched;
mod link;
mod waiting;

use std::sync::Arc;

use cache::{Cache, Lookup, Need};
pub(crate) use cache::{Entry, Outcome};
use tokio::sync::oneshot;
use upstream::Upstream;

pub(crate) use self::aging::{FillSink, Ticket};
pub(crate) use self::link::{Link, LinkCounts, LinkSettings, LinkThread};
pub(crate) use self::waiting::{Answered, Waiting};
use crate::budget::Budget;
use crate::failure::Failure;
use crate::stats::WorkerStats;

/// The cache as this program uses it: waiters of a failed fill get a [`Failure`].
pub(crate) type Store = Cache<Failure>;

/// A worker's way to values: the shared cache, and the connection that its misses travel on.
#[derive(Clone)]
pub(crate) struct ReadThrough {
    store: Store,
    way: Way,
    stats: Arc<WorkerStats>,
}

/// Where a miss travels.
#[derive(Clone)]
enum Way {
    /// Mode `ttl`: on the worker's own connection.
    Own(Upstream<Ticket>),
    /// Modes `tracking` and `strict`: on the tracked link of its key, which all workers share.
    Linked(Arc<[Arc<Link>]>),
}

/// What a client asks of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// The one clock reading of the request, taken after its last byte was read.
    pub(crate) now_ns: u64,
    /// What its connection has seen of Redis already: it is shown nothing older. 0 without such knowledge.
    pub(crate) min_sync_ns: u64,
    /// It takes nothing that was true only before it asked.
    pub(crate) no_cache: bool,
}

/// The outcome of asking for a key.
pub(crate) enum Read {
    /// In memory.
    Hit(Entry),
    /// On its way from Redis, or on its way to be proven.
    Wait(Waiting),
}

impl ReadThrough {
    /// Mode `ttl`: misses travel on `upstream`.
    pub(crate) fn aging(store: Store, upstream: Upstream<Ticket>, stats: Arc<WorkerStats>) -> Self {
        ReadThrough { store, way: Way::Own(upstream), stats }
    }

    /// Modes `tracking` and `strict`: a key's misses travel on one of `links`, always the same.
    pub(crate) fn linked(store: Store, links: Arc<[Arc<Link>]>, stats: Arc<WorkerStats>) -> Self {
        ReadThrough { store, way: Way::Linked(links), stats }
    }

    /// Where the replies of the worker's own connection go, in mode `ttl`.
    pub(crate) fn sink(
        upstream: &Upstream<Ticket>,
        stats: &Arc<WorkerStats>,
        budget: Option<Arc<Budget>>,
    ) -> FillSink {
        FillSink { upstream: upstream.clone(), stats: stats.clone(), budget }
    }

    /// Asks for `key`. Never waits.
    pub(crate) fn get(&self, key: &[u8], asked: Asked) -> Read {
        match &self.way {
            Way::Own(upstream) => self.get_aging(key, upstream, asked),
            Way::Linked(links) => self.get_linked(key, links, asked),
        }
    }

    fn get_aging(&self, key: &[u8], upstream: &Upstream<Ticket>, asked: Asked) -> Read {
        let need = if asked.no_cache { Need::since(asked.now_ns) } else { Need::NOTHING };
        match self.store.lookup(key, need, asked.now_ns) {
            Lookup::Hit(entry) => Read::Hit(entry),
            Lookup::Wait(waiter) => Read::Wait(Waiting::for_another(waiter)),
            Lookup::Miss(fill, waiter) => {
                aging::fetch(upstream, &self.stats, fill, false, asked.now_ns);
                Read::Wait(Waiting::for_own(waiter))
            }
            Lookup::Unproven(_) => unreachable!("nothing is held under a lease in this mode"),
        }
    }

    fn get_linked(&self, key: &[u8], links: &[Arc<Link>], asked: Asked) -> Read {
        let link = link::of_key(links, key);
        let need = link.need(asked);
        match self.store.lookup(key, need, asked.now_ns) {
            Lookup::Hit(entry) => {
                link.was_hit(&entry, &self.stats, asked.now_ns);
                Read::Hit(entry)
            }
            Lookup::Wait(waiter) => {
                Read::Wait(Waiting::for_another_of(link, &self.stats, waiter, need, asked.now_ns))
            }
            Lookup::Miss(fill, waiter) => {
                link.fetch(fill, &self.stats, asked.now_ns);
                Read::Wait(Waiting::for_own(waiter))
            }
            // The lease is that of the key's link: there is no other for it.
            Lookup::Unproven(_) => Read::Wait(Waiting::for_proof(link, &self.stats, key, need, asked.now_ns)),
        }
    }

    /// Whether a connection's reads of a key are to be in the order of its writes.
    pub(crate) fn keeps_order(&self) -> bool {
        matches!(self.way, Way::Linked(_))
    }

    /// What `Cache-Status` says of the mode and of its promise; nothing in mode `ttl`.
    pub(crate) fn detail(&self) -> &'static [u8] {
        match &self.way {
            Way::Own(_) => b"",
            Way::Linked(links) => link::detail(links),
        }
    }

    /// A PING on the way that a miss would take; no key is touched.
    pub(crate) fn probe(&self) -> Vec<oneshot::Receiver<Result<(), Failure>>> {
        match &self.way {
            Way::Own(upstream) => vec![aging::probe(upstream)],
            Way::Linked(links) => links.iter().map(|link| link.probe()).collect(),
        }
    }
}
