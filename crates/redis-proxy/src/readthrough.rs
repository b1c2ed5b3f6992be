//! The heart: a key comes in, a value comes out, from memory or from Redis. The only place on a request's way
//! that names both the cache and the connection to Redis.
//!
//! A hit is one lookup. A miss makes a *fill*, which travels to Redis as the ticket of its GET and comes back to
//! [`FillSink`], called by the connection's driver in wire order: there, and never in a task that waits, the fill
//! is committed. Whoever asks for the key meanwhile waits for the same fill.

use std::sync::Arc;

use cache::{Cache, Facts, Fill, Lookup};
pub(crate) use cache::{Entry, Outcome, Waiter};
use resp::Frame;
use tokio::sync::oneshot;
use upstream::{Doubt, Loss, Sink, Unsent, Upstream};

use crate::budget::Budget;
use crate::clock::now_ns;
use crate::failure::Failure;
use crate::stats::WorkerStats;

/// The cache as this program uses it: waiters of a failed fill get a [`Failure`].
pub(crate) type Store = Cache<Failure>;

/// A worker's way to values: the shared cache and the worker's own connection.
#[derive(Clone)]
pub(crate) struct ReadThrough {
    store: Store,
    budget: Option<Arc<Budget>>,
    upstream: Upstream<Ticket>,
    stats: Arc<WorkerStats>,
}

/// The outcome of asking for a key.
pub(crate) enum Read {
    /// In memory.
    Hit(Entry),
    /// On its way from Redis.
    Wait {
        /// Ready once the fill is answered.
        waiter: Waiter<Failure>,
        /// Somebody else had asked first.
        collapsed: bool,
    },
}

/// What travels with a command to Redis and comes back with its reply.
pub(crate) enum Ticket {
    /// A GET.
    Get {
        /// The duty to answer those who wait.
        fill: Fill<Failure>,
        /// Whether this is the second try, after its connection was lost.
        retried: bool,
    },
    /// A PING of the readiness probe.
    Probe(oneshot::Sender<Result<(), Failure>>),
}

impl ReadThrough {
    pub(crate) fn new(
        store: Store,
        budget: Option<Arc<Budget>>,
        upstream: Upstream<Ticket>,
        stats: Arc<WorkerStats>,
    ) -> Self {
        ReadThrough { store, budget, upstream, stats }
    }

    /// Asks for `key` at `now_ns`, the one clock reading of the request. Never waits.
    pub(crate) fn get(&self, key: &[u8], now_ns: u64) -> Read {
        match self.store.lookup(key, now_ns) {
            Lookup::Hit(entry) => Read::Hit(entry),
            Lookup::Wait(waiter) => Read::Wait { waiter, collapsed: true },
            Lookup::Miss(fill, waiter) => {
                fetch(&self.upstream, &self.stats, fill, false, now_ns);
                Read::Wait { waiter, collapsed: false }
            }
        }
    }

    /// Where this worker's replies go.
    pub(crate) fn sink(&self) -> FillSink {
        let (upstream, stats) = (self.upstream.clone(), self.stats.clone());
        FillSink { upstream, stats, budget: self.budget.clone() }
    }

    /// A PING on the worker's own connection; no key is touched.
    pub(crate) fn probe(&self) -> oneshot::Receiver<Result<(), Failure>> {
        let (sender, receiver) = oneshot::channel();
        if let Err(Unsent { ticket: Ticket::Probe(sender), loss }) =
            self.upstream.send(&[b"PING"], Ticket::Probe(sender))
        {
            // With all places in flight taken Redis is slow, not gone; silence would have ended the connection.
            let answer = if loss == Loss::Full { Ok(()) } else { Err(Failure::from_unsent(&loss)) };
            // The prober may have gone; then nobody needs to know.
            let _ = sender.send(answer);
        }
        receiver
    }
}

/// Sends the GET of a fill, or fails it at once.
fn fetch(
    upstream: &Upstream<Ticket>,
    stats: &WorkerStats,
    mut fill: Fill<Failure>,
    retried: bool,
    now_ns: u64,
) {
    fill.stamp_sent(now_ns);
    // The key is borrowed from the fill that travels: one small copy, on the miss path only.
    let key: Box<[u8]> = fill.key().into();
    if let Err(unsent) = upstream.send(&[b"GET", &key], Ticket::Get { fill, retried })
        && let Ticket::Get { fill, .. } = unsent.ticket
    {
        let failure = Failure::from_unsent(&unsent.loss);
        stats.failed(&failure);
        fill.fail(failure);
    }
}

/// Commits fills in the order of the wire.
pub(crate) struct FillSink {
    upstream: Upstream<Ticket>,
    stats: Arc<WorkerStats>,
    budget: Option<Arc<Budget>>,
}

impl Sink for FillSink {
    type Ticket = Ticket;

    fn reply(&self, ticket: Ticket, frame: Frame) -> Result<(), Doubt> {
        match ticket {
            Ticket::Get { fill, .. } => self.commit(fill, frame),
            Ticket::Probe(sender) => {
                let (answer, doubt) = match frame {
                    Frame::Simple(_) => (Ok(()), Ok(())),
                    Frame::Error(text) => (Err(Failure::from_reply(&text)), Ok(())),
                    _ => (Err(Failure::Garbled("not the type of a PING's reply".into())), Err(Doubt)),
                };
                let _ = sender.send(answer);
                doubt
            }
        }
    }

    /// Mode `ttl` asks for no pushes, so none of them means anything to us.
    fn push(&self, _items: Vec<Frame>) {}

    fn lost(&self, ticket: Ticket, loss: &Loss) {
        match ticket {
            // A GET changes nothing in Redis: safe to send again, once.
            Ticket::Get { fill, retried: false } if matches!(loss, Loss::Closed(_)) => {
                self.stats.retries.add(1);
                fetch(&self.upstream, &self.stats, fill, true, now_ns());
            }
            Ticket::Get { fill, .. } => {
                let failure = Failure::from_loss(loss);
                self.stats.failed(&failure);
                fill.fail(failure);
            }
            Ticket::Probe(sender) => {
                let _ = sender.send(Err(Failure::from_loss(loss)));
            }
        }
    }

    fn connected(&self, _incarnation: u64) {
        self.stats.connects.add(1);
    }

    fn disconnected(&self, _loss: &Loss) {
        self.stats.disconnects.add(1);
    }
}

impl FillSink {
    fn commit(&self, fill: Fill<Failure>, frame: Frame) -> Result<(), Doubt> {
        let now_ns = now_ns();
        if let Some(sent_ns) = fill.sent_ns() {
            self.stats.redis_latency.record(now_ns.saturating_sub(sent_ns), 1);
        }
        let (failure, doubt) = match frame {
            Frame::Bulk(value) => {
                fill.found(&value, facts(&value), now_ns);
                if let Some(budget) = &self.budget {
                    budget.fetched(value.len());
                }
                return Ok(());
            }
            Frame::Null => {
                fill.missing(now_ns);
                return Ok(());
            }
            Frame::Error(text) => (Failure::from_reply(&text), Ok(())),
            Frame::Oversized { announced } => (Failure::TooLarge(announced), Ok(())),
            _ => (Failure::Garbled("not the type of a GET's reply".into()), Err(Doubt)),
        };
        self.stats.failed(&failure);
        fill.fail(failure);
        doubt
    }
}

/// What is dear to compute and the same for every hit: once, at fill. BLAKE3 is unkeyed, so the ETag of a value
/// is the same on every instance.
fn facts(value: &[u8]) -> Facts {
    let mut etag = [0; 16];
    etag.copy_from_slice(&blake3::hash(value).as_bytes()[..16]);
    Facts { etag, utf8: std::str::from_utf8(value).is_ok() }
}
