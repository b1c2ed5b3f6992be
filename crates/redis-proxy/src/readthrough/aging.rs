//! Mode `ttl`: one GET a miss, on the worker's own connection, and none a hit. An entry is held for its age alone.

use std::sync::Arc;

use cache::{Absence, Fill, Keep, Lease, Need};
use resp::Frame;
use tokio::sync::oneshot;
use upstream::{ConnectionState, Doubt, Incarnation, Loss, Sendable, Sink, Tracking, Unsent, Upstream};

use super::ReadOptions;
use super::cluster::{NodeSite, PlainReads};
use super::fetched::{Fetched, facts, pong};
use crate::budget::{Arriving, Budget};
use crate::clock::{nanos, now_ns};
use crate::failure::Failure;
use crate::stats::WorkerStats;

/// What travels with a command to Redis and comes back with its reply.
pub(super) enum PlainTicket {
    /// A GET.
    Get {
        /// The duty to answer those who wait.
        fill: Fill<Failure>,
        /// Whether this is the second try, after its connection was lost.
        retried: bool,
        /// How often nodes of a cluster have sent it on.
        hops: u8,
    },
    /// The ASKING in front of a GET that was sent on for this once.
    Asking,
    /// A PING of the readiness probe.
    Probe(oneshot::Sender<Result<(), Failure>>),
}

/// How late what is asked for must have been fetched.
#[inline]
pub(super) fn need(asked: ReadOptions) -> Need {
    match (asked.no_cache, asked.min_sync_ns) {
        (true, _) => Need::since(asked.arrived_ns),
        (false, 0) => Need::NOTHING,
        (false, min_sync_ns) => Need::since(min_sync_ns),
    }
}

/// Sends the GET of a fill as soon as there is room for what it brings, or fails it.
pub(super) fn fetch(
    upstream: &Upstream<PlainTicket>,
    stats: &Arc<WorkerStats>,
    mut fill: Fill<Failure>,
    now_ns: u64,
) {
    match fill.take_room() {
        true => send(upstream, stats, fill, false, now_ns),
        false => fetch_later(upstream, stats, fill, None),
    }
}

/// The same of one that must wait, as long as a reply may take; `bytes` if what it brings has come once.
#[cold]
fn fetch_later(
    upstream: &Upstream<PlainTicket>,
    stats: &Arc<WorkerStats>,
    fill: Fill<Failure>,
    bytes: Option<usize>,
) {
    let until_ns = fill.registered_ns().saturating_add(nanos(upstream.silence_timeout()));
    // What waits keeps no connection: with its last user the fill is given up.
    let (upstream, stats) = (upstream.downgrade(), stats.clone());
    fill.wait_for_room(bytes, until_ns, move |fill| match (fill, upstream.upgrade()) {
        (Ok(fill), Some(upstream)) => send(&upstream, &stats, fill, false, now_ns()),
        (Err(fill), _) => fail(&stats, fill, Failure::Overloaded),
        (Ok(fill), None) => drop(fill),
    });
}

fn fail(stats: &WorkerStats, fill: Fill<Failure>, failure: Failure) {
    stats.failed(&failure);
    end(fill, failure);
}

/// Ends a fill that has failed, which may say why its key is not held.
pub(super) fn end(fill: Fill<Failure>, failure: Failure) {
    match failure {
        Failure::TooLarge(_) => fill.fail_as(Absence::TooLarge, failure),
        Failure::WrongType(_) => fill.fail_as(Absence::OtherType, failure),
        _ => fill.fail(failure),
    }
}

/// Sends the GET of a fill that has room, or fails it at once.
pub(super) fn send(
    upstream: &Upstream<PlainTicket>,
    stats: &WorkerStats,
    mut fill: Fill<Failure>,
    retried: bool,
    now_ns: u64,
) {
    fill.stamp_sent(now_ns);
    // The key is borrowed from the fill that travels: one small copy, on the miss path only.
    let key: Box<[u8]> = fill.key().into();
    if let Err(unsent) = upstream.send(&[b"GET", &key], PlainTicket::Get { fill, retried, hops: 0 }) {
        not_sent(stats, unsent);
    }
}

/// The same of one that a node of a cluster has sent on, with ASKING in front of it if that was for this once.
pub(super) fn send_on(
    upstream: &Upstream<PlainTicket>,
    stats: &WorkerStats,
    mut fill: Fill<Failure>,
    asking: bool,
    hops: u8,
    now_ns: u64,
) {
    fill.stamp_sent(now_ns);
    let key: Box<[u8]> = fill.key().into();
    let prelude = asking.then_some((Sendable::Arguments(&[b"ASKING"]), PlainTicket::Asking));
    let get: &[&[u8]] = &[b"GET", &key];
    let ticket = PlainTicket::Get { fill, retried: false, hops };
    if let Err(unsent) = upstream.send_after(prelude, Sendable::Arguments(get), ticket) {
        not_sent(stats, unsent);
    }
}

fn not_sent(stats: &WorkerStats, unsent: Unsent<PlainTicket>) {
    if let PlainTicket::Get { fill, .. } = unsent.ticket {
        fail(stats, fill, Failure::from_unsent(&unsent.loss));
    }
}

/// Why nothing can be fetched on a connection, if so.
pub(super) fn trouble(upstream: &Upstream<PlainTicket>) -> Option<String> {
    match upstream.state() {
        ConnectionState::Up => None,
        ConnectionState::Connecting => Some("a connection is being made".into()),
        ConnectionState::Down(loss) => Some(loss.to_string()),
    }
}

/// A PING on the worker's own connection; no key is touched.
pub(super) fn probe(upstream: &Upstream<PlainTicket>) -> oneshot::Receiver<Result<(), Failure>> {
    let (sender, receiver) = oneshot::channel();
    if let Err(Unsent { ticket: PlainTicket::Probe(sender), loss }) =
        upstream.send(&[b"PING"], PlainTicket::Probe(sender))
    {
        // With all places in flight taken Redis is slow, not gone; silence would have ended the connection.
        let answer = if loss == Loss::Full { Ok(()) } else { Err(Failure::from_unsent(&loss)) };
        // The prober may have gone; then nobody needs to know.
        let _ = sender.send(answer);
    }
    receiver
}

/// Commits fills in the order of the wire.
pub(super) struct FillSink {
    pub(super) upstream: Upstream<PlainTicket>,
    pub(super) stats: Arc<WorkerStats>,
    pub(super) budget: Option<Arc<Budget>>,
    /// Whether what it brings is held for its age; else it answers those who wait, and no more.
    keeps: bool,
    /// Whether it is shown over HTTP.
    over_http: bool,
    arriving: Arriving,
    /// In a cluster: which node it leads to.
    at: Option<NodeSite>,
}

impl Sink for FillSink {
    type Ticket = PlainTicket;

    fn announced(&self, bytes: usize) {
        self.arriving.announced(bytes);
    }

    fn reply(&self, ticket: PlainTicket, frame: Frame) -> Result<(), Doubt> {
        self.arriving.ended();
        match ticket {
            PlainTicket::Get { fill, hops, .. } => match (&self.at, &frame) {
                (Some(at), Frame::Error(text)) if let Some((ways, redirect)) = at.redirect(text) => {
                    ways.follow(fill, redirect, hops);
                    Ok(())
                }
                _ => self.commit(fill, hops > 0, frame),
            },
            // Whatever it said, the reply behind it tells.
            PlainTicket::Asking => Ok(()),
            PlainTicket::Probe(sender) => {
                let (answer, doubt) = pong(&frame);
                let _ = sender.send(answer);
                doubt
            }
        }
    }

    /// Mode `ttl` asks for no pushes, so none of them means anything to us.
    fn push(&self, _items: Vec<Frame>) {}

    fn lost(&self, ticket: PlainTicket, loss: &Loss) {
        match ticket {
            // A GET changes nothing in Redis: safe to send again, once.
            PlainTicket::Get { fill, retried: false, .. } if matches!(loss, Loss::Closed(_)) => {
                self.stats.retries.add(1);
                send(&self.way_of(fill.key()), &self.stats, fill, true, now_ns());
            }
            // Nor is it anybody's fault; Redis moves seldom.
            PlainTicket::Get { fill, retried, .. } if *loss == Loss::Departed => {
                send(&self.way_of(fill.key()), &self.stats, fill, retried, now_ns());
            }
            PlainTicket::Get { fill, .. } => fail(&self.stats, fill, Failure::from_loss(loss)),
            PlainTicket::Asking => {}
            PlainTicket::Probe(sender) => {
                let _ = sender.send(Err(Failure::from_loss(loss)));
            }
        }
    }

    fn connected(&self, _incarnation: Incarnation, _tracking: &Tracking) {
        self.stats.connects.add(1);
    }

    fn disconnected(&self, _loss: &Loss) {
        self.arriving.ended();
        self.stats.disconnects.add(1);
    }
}

impl FillSink {
    /// Of connections whose answers are kept for their age.
    pub(super) fn new(
        upstream: &Upstream<PlainTicket>,
        stats: &Arc<WorkerStats>,
        budget: Option<Arc<Budget>>,
        over_http: bool,
    ) -> Self {
        let arriving = Arriving::new(budget.clone());
        FillSink {
            upstream: upstream.clone(),
            stats: stats.clone(),
            budget,
            keeps: true,
            over_http,
            arriving,
            at: None,
        }
    }

    /// Of a connection to a node of a cluster.
    pub(super) fn at_node(upstream: &Upstream<PlainTicket>, reads: &PlainReads, at: NodeSite) -> Self {
        let PlainReads { keeps, over_http, stats, budget } = reads;
        FillSink { keeps: *keeps, at: Some(at), ..FillSink::new(upstream, stats, budget.clone(), *over_http) }
    }

    /// Where a key is fetched now: in a cluster that may be another node than before.
    fn way_of(&self, key: &[u8]) -> Upstream<PlainTicket> {
        let ways = self.at.as_ref().and_then(|at| at.ways.upgrade());
        ways.map_or_else(|| self.upstream.clone(), |ways| ways.of_key(key))
    }

    /// Of a connection whose answers are not kept.
    pub(super) fn past_the_cache(
        upstream: &Upstream<PlainTicket>,
        stats: &Arc<WorkerStats>,
        budget: Option<Arc<Budget>>,
        over_http: bool,
        at: Option<NodeSite>,
    ) -> Self {
        FillSink { keeps: false, at, ..FillSink::new(upstream, stats, budget, over_http) }
    }

    fn commit(&self, fill: Fill<Failure>, was_sent_on: bool, frame: Frame) -> Result<(), Doubt> {
        let now_ns = now_ns();
        let keep = if self.keeps { Keep::ForItsAge } else { Keep::Not };
        let keep = mutant::not_kept_when_sent_on(keep, || was_sent_on.then(for_good));
        if let Some(sent_ns) = fill.sent_ns() {
            self.stats.redis_latency.record(now_ns.saturating_sub(sent_ns), 1);
        }
        let (failure, doubt) = match Fetched::of(frame) {
            Fetched::Value(value) if !fill.has_room_for(value.len()) => {
                let bytes = value.len();
                drop(value);
                self.take_later(fill, bytes);
                return Ok(());
            }
            Fetched::Value(value) => {
                fill.found(&value, facts(&value, self.over_http), keep, now_ns);
                if let Some(budget) = &self.budget {
                    budget.fetched(value.len());
                }
                return Ok(());
            }
            Fetched::Missing => {
                fill.missing(keep, now_ns);
                return Ok(());
            }
            Fetched::Failed(failure) => (failure, Ok(())),
            Fetched::Doubted(failure) => (failure, Err(Doubt::WRONG_TYPE)),
        };
        fail(&self.stats, fill, failure);
        doubt
    }

    /// What has come did not fit and was dropped: it is fetched once more, with room for all of it.
    #[cold]
    fn take_later(&self, fill: Fill<Failure>, bytes: usize) {
        match fill.is_second() {
            true => fail(&self.stats, fill, Failure::Overloaded),
            false => fetch_later(&self.way_of(fill.key()), &self.stats, fill, Some(bytes)),
        }
    }
}

/// As no answer is kept, but by a mutant.
fn for_good() -> Keep {
    let lease = Lease::default();
    lease.renew(u64::MAX);
    Keep::Leased { lease: Arc::new(lease), deadline_ns: None }
}
