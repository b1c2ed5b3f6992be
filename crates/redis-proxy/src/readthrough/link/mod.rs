//! The tracked link of the modes `tracking` and `strict`: one connection that Redis tells of every change to what was
//! read on it, and the [lease](cache::Lease) that its replies renew.
//!
//! Three rules carry the promise of `docs/coherence.md`:
//! - Replies and invalidations are applied by [`sink`] alone, in wire order. A fill is kept only while it is registered;
//!   an invalidation of its key unregisters it.
//! - A reply that has been processed renews the lease up to the instant *its command was sent*, read from the clock
//!   before the first byte left. A hit needs a lease renewed late enough; a link that stalls proves nothing.
//! - A fill is kept only if the connection that brings its reply is the one it was stamped for. Each connection has a
//!   lease of its own, made when the one before was lost.
//!
//! A key uses one link for ever, chosen by its hash: two would let a reader see an older value after a newer one.

mod barrier;
mod canary;
mod delivery;
mod large;
mod lease;
mod promise;
#[cfg(all(test, feature = "shuttle"))]
pub(super) mod schedules;
mod sink;
mod tend;
mod threads;
mod touch;

use std::fmt;
use std::hash::Hasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cache::{Entry, Fill, Held, Lease, Need};
use command::Slot;
use insight::{AllSamples, Samples};
use siphasher::sip::SipHasher13;
use sync::atomic::{AtomicBool, AtomicUsize};
use tokio::sync::{Notify, oneshot};
use upstream::{Loss, RedisNode, Sendable, Upstream};

pub(super) use self::barrier::{Barrier, BarrierPing, Round};
pub(crate) use self::delivery::Delivery;
use self::large::Large;
use self::lease::LinkLease;
use self::promise::{LinkState, Promise};
use self::sink::LinkTicket;
pub(super) use self::sink::time_left_ns;
pub(crate) use self::tend::{BEATS_A_BOUND, EndingLink, LinkPlan, RunningLink};
pub(crate) use self::threads::LinkThreads;
use super::cluster::{NodeSite, Placed};
use super::{Detail, FillSink, PlainTicket, ReadOptions, Words, aging};
use crate::budget::Budget;
use crate::clock::{nanos, now_ns};
use crate::config::Mode;
use crate::failure::Failure;
use crate::stats::WorkerStats;
use crate::store::Store;

/// Entries of a lost connection are fetched anew as they are hit: this many at a time.
const MOST_REFILLS: usize = 64;
/// One hit in this many is read again and compared.
const HITS_AN_AUDIT: u64 = 100_000;

/// What the modes `tracking` and `strict` are to keep.
#[derive(Clone)]
pub(crate) struct LinkSettings {
    /// How many links there are.
    pub(crate) links: usize,
    /// The mode that they are for, as the operator calls it.
    pub(crate) mode: &'static str,
    /// Whether the other front holds what is only of its age: that is not to leave by what Redis tells a link.
    pub(crate) apart: bool,
    /// Whether what these bring is shown over HTTP.
    pub(crate) over_http: bool,
    /// How old a hit may be.
    pub(crate) max_staleness_ns: u64,
    /// The key by which delivery is tried; none: it is not.
    pub(crate) canary_key: Option<Box<[u8]>>,
    /// What is known of it, and whether these links go by that instead of trying it themselves.
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) relies: bool,
    /// Where the link has its part, for what is told of keys that left.
    pub(crate) samples: Arc<AllSamples>,
    /// Held as long as anything of the link is there: its part in a partition.
    pub(crate) _part: Option<Arc<()>>,
    /// Called when Redis has closed the connection and would not have its user again.
    pub(crate) thrown_out: ThrownOut,
}

impl LinkSettings {
    /// Until when it may be held that a key was missing in an answer to a command sent at `sent_ns`, in a cluster; none if it may not be.
    ///
    /// While a slot is on its way, a key that is not here may come to be there, and nobody tells.
    fn absence_ends_ns(&self, sent_ns: u64) -> Option<u64> {
        (self.mode != Mode::Strict.name()).then(|| sent_ns.saturating_add(self.max_staleness_ns))
    }
}

/// What is to be done for a user whom Redis has thrown out, at which instant.
#[derive(Clone, Default)]
pub(crate) struct ThrownOut(pub(crate) Option<Arc<dyn Fn(u64) + Send + Sync>>);

impl fmt::Debug for ThrownOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ThrownOut")
    }
}

/// A tracked link, as all workers share it.
pub(crate) struct Link {
    pub(super) store: Store,
    budget: Option<Arc<Budget>>,
    upstream: Upstream<LinkTicket>,
    /// Where it leads, and what is held against that.
    node: RedisNode,
    /// The same in a cluster.
    placed: Option<Placed>,
    /// An ordinary connection, for values that would hold the link up; opened when the first of them is asked for.
    detour: Upstream<PlainTicket>,
    detour_wanted: Notify,
    large: Large,
    /// What its user may not read: asked past the link, without PTTL, so that Redis counts it once.
    denied: Large,
    settings: LinkSettings,
    lease: LinkLease,
    standing: LinkState,
    /// When Redis has closed the last connection, if none has come since; else 0.
    closed_by_redis_ns: AtomicU64,
    /// Whether a heartbeat is under way: a link that is stuck gets no more of them.
    beat_out: AtomicBool,
    barrier: Barrier,
    refills: AtomicUsize,
    /// Of keys that Redis named as changed.
    samples: Arc<Samples>,
    /// What the link's own thread counts.
    pub(crate) stats: Arc<WorkerStats>,
    pub(crate) counts: LinkCounts,
}

/// What a link counts beside fetches.
#[derive(Debug, Default)]
pub(crate) struct LinkCounts {
    /// Keys that Redis named as changed.
    pub(crate) invalidations: AtomicU64,
    /// Invalidations of everything.
    pub(crate) flushes: AtomicU64,
    /// Barriers sent for strict and unproven reads.
    pub(crate) barriers: AtomicU64,
    /// Entries of lost connections fetched anew.
    pub(crate) refills: AtomicU64,
    /// Hits that were read again and compared.
    pub(crate) audits: AtomicU64,
    /// Of them, those that were not what Redis held. Must stay 0.
    pub(crate) violations: AtomicU64,
    /// From a heartbeat sent to its reply processed, the last one.
    pub(crate) round_trip_ns: AtomicU64,
    /// From the answer to a write elsewhere to its invalidation processed, the last one tried; 0 if it came first.
    pub(crate) push_lag_ns: AtomicU64,
}

/// Counts one more. Relaxed: counters stand alone.
fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// What `Cache-Status` says of the mode and of its promise.
pub(super) fn detail(links: &[Arc<Link>], strict: bool) -> Detail {
    detail_of(strict, links.iter().all(|link| link.is_in_force()))
}

/// The same of links that are in force, all of them, or not.
pub(super) fn detail_of(strict: bool, in_force: bool) -> Detail {
    let text: &[u8] = match (strict, in_force) {
        (false, true) => b"; detail=tracking",
        (false, false) => b"; detail=tracking-not-in-force",
        (true, true) => b"; detail=strict",
        (true, false) => b"; detail=strict-not-in-force",
    };
    Detail { text, in_force }
}

/// Whether a hit is one of those that are compared with what Redis holds.
#[inline]
pub(super) fn is_to_be_audited(entry: &Entry, stats: &WorkerStats) -> bool {
    Words::of(entry.view()).is_value() && stats.one_hit_in(HITS_AN_AUDIT)
}

/// Where a link leads, and why there is no connection, if there is none.
pub(super) fn connection(link: &Link) -> (String, Option<String>) {
    let trouble = match link.standing.promise() {
        Promise::Lost(why) => Some(why),
        _ => None,
    };
    (link.upstream.place(), trouble)
}

/// The link of a key.
#[inline]
pub(super) fn of_key<'a>(links: &'a [Arc<Link>], key: &[u8]) -> &'a Arc<Link> {
    &links[number_of_key(links.len(), key)]
}

/// As [`Link::need`], where a hit may be so old, and nothing from before `void_ns` is a proof.
#[inline]
pub(super) fn need(asked: ReadOptions, strict: bool, max_staleness_ns: u64, void_ns: u64) -> Need {
    let bound = asked.now_ns.saturating_sub(max_staleness_ns);
    if mutant::needs_barrier(strict || asked.no_cache) {
        Need::proven_since(asked.arrived_ns.max(asked.min_sync_ns).max(void_ns))
    } else if asked.min_sync_ns > bound {
        Need::proven_since(asked.min_sync_ns.max(void_ns))
    } else {
        Need::since(bound.max(void_ns))
    }
}

#[inline]
pub(super) fn number_of_key(links: usize, key: &[u8]) -> usize {
    if links == 1 { 0 } else { number_among(links, key) }
}

fn number_among(links: usize, key: &[u8]) -> usize {
    let mut hasher = SipHasher13::new();
    hasher.write(key);
    usize::try_from(mutant::chooses_link(hasher.finish()) % links as u64).unwrap_or(0)
}

impl Link {
    fn new(
        store: Store,
        budget: Option<Arc<Budget>>,
        (upstream, detour): (Upstream<LinkTicket>, Upstream<PlainTicket>),
        node: RedisNode,
        placed: Option<Placed>,
        settings: LinkSettings,
    ) -> Self {
        let samples = settings.samples.samples();
        let watch = placed.as_ref().and_then(|placed| placed.watch.as_ref());
        let lease = watch.map_or_else(LinkLease::default, |watch| LinkLease::counted(watch.ends()));
        Link {
            store,
            budget,
            upstream,
            node,
            placed,
            detour,
            detour_wanted: Notify::new(),
            large: Large::new(),
            denied: Large::new(),
            settings,
            lease,
            standing: LinkState::new(),
            closed_by_redis_ns: AtomicU64::new(0),
            beat_out: AtomicBool::new(false),
            barrier: Barrier::default(),
            refills: AtomicUsize::new(0),
            samples,
            stats: Arc::default(),
            counts: LinkCounts::default(),
        }
    }

    /// How late an answer must be proven for what is asked.
    #[inline]
    pub(super) fn need(&self, asked: ReadOptions, strict: bool) -> Need {
        // Of a Redis that was elsewhere, or was doubted, nothing is a proof.
        let void_ns = mutant::void_before(self.node.void_ns());
        need(asked, strict, self.settings.max_staleness_ns, void_ns)
    }

    /// Sends PTTL and GET of a fill, or what else it asks, as soon as there is room for what they bring, or fails it.
    pub(super) fn fetch(self: &Arc<Self>, fill: Fill<Failure>, stats: &WorkerStats, now_ns: u64) {
        self.fetch_for(Errand::First, fill, stats, now_ns);
    }

    fn fetch_for(
        self: &Arc<Self>,
        errand: Errand,
        mut fill: Fill<Failure>,
        stats: &WorkerStats,
        now_ns: u64,
    ) {
        match fill.take_room() {
            true => self.send_fill(fill, errand, stats, now_ns),
            false => self.fetch_later(fill, errand, None),
        }
    }

    /// The same of a fill that must wait, as long as a reply may take; `bytes` if what it brings has come once.
    #[cold]
    fn fetch_later(self: &Arc<Self>, fill: Fill<Failure>, errand: Errand, bytes: Option<usize>) {
        let until_ns = fill.registered_ns().saturating_add(nanos(self.upstream.silence_timeout()));
        // What waits keeps no link: with its last user the fill is given up.
        let link = Arc::downgrade(self);
        fill.wait_for_room(bytes, until_ns, move |fill| match (fill, link.upgrade()) {
            (Ok(fill), Some(link)) => link.send_fill(fill, errand, &link.stats, now_ns()),
            (Err(fill), Some(link)) => link.give_up(fill, errand, Failure::Overloaded, &link.stats),
            (Ok(fill) | Err(fill), None) => drop(fill),
        });
    }

    /// What has come did not fit and was dropped: it is fetched once more, with room for all of it.
    #[cold]
    fn take_later(self: &Arc<Self>, fill: Fill<Failure>, errand: Errand, bytes: usize) {
        match fill.is_second() || errand == Errand::Refill {
            true => self.give_up(fill, Errand::Retry, Failure::Overloaded, &self.stats),
            false => self.fetch_later(fill, Errand::First, Some(bytes)),
        }
    }

    /// The same of a fill that is held, once it may be sent: it takes the lease and the stamp of then.
    pub(super) fn fetch_held(self: &Arc<Self>, held: Held<Failure>) {
        // What is held keeps no link: with its last user the fill is given up.
        let link = Arc::downgrade(self);
        held.send_with(move |fill| match link.upgrade() {
            Some(link) => link.fetch(fill, &link.stats, now_ns()),
            None => drop(fill),
        });
    }

    fn send_fill(self: &Arc<Self>, fill: Fill<Failure>, errand: Errand, stats: &WorkerStats, now_ns: u64) {
        let (key, words) = (fill.key(), Words::of(fill.view()));
        if self.large.has(key, words, now_ns) || self.denied.has(key, words, now_ns) {
            self.ended(errand);
            return self.pass_by(fill, stats, now_ns);
        }
        match &self.placed {
            None => {
                // Before the stamp: should the connection be lost in between, the fill is not taken for one of the next.
                let lease = self.lease.now();
                self.send_under(fill, lease, errand, stats, now_ns);
            }
            Some(placed) => self.send_placed(placed, fill, errand, stats, now_ns),
        }
    }

    /// The same in a cluster: sent once it is known that the key's slot is watched, and is to be kept under the lease of that.
    fn send_placed(
        self: &Arc<Self>,
        placed: &Placed,
        fill: Fill<Failure>,
        errand: Errand,
        stats: &WorkerStats,
        now_ns: u64,
    ) {
        let slot = Slot::of(fill.key());
        let Some(watch) = placed.watch.as_ref().filter(|_| !self.standing.is_refused()) else {
            return self.send_under(fill, Arc::default(), errand, stats, now_ns);
        };
        if let Some(of_slot) = watch.lease_of(slot) {
            let lease = placed.lease(slot, &self.lease.now(), &of_slot);
            return self.send_under(fill, lease, errand, stats, now_ns);
        }
        // What waits keeps no link: with its last user the fill is given up.
        let link = Arc::downgrade(self);
        watch.watch(slot, move |of_slot| {
            let Some(link) = link.upgrade() else { return };
            let of_link = link.lease.now();
            let lease = match (&link.placed, of_slot) {
                (Some(placed), Some(of_slot)) => placed.lease(slot, &of_link, &of_slot),
                // Nothing vouches for what it brings.
                _ => Arc::default(),
            };
            link.send_under(fill, lease, errand, &link.stats, crate::clock::now_ns());
        });
    }

    /// Sends a fill whose answer is kept under `lease`, if that is a lease of the link's connection by then.
    fn send_under(
        &self,
        mut fill: Fill<Failure>,
        lease: Arc<Lease>,
        errand: Errand,
        stats: &WorkerStats,
        now_ns: u64,
    ) {
        fill.stamp_sent(now_ns);
        // Borrowed from the fill that travels: one small copy, on the miss path only.
        let key = Box::<[u8]>::from(fill.key());
        let command = Words::of(fill.view()).command().map(Box::<[u8]>::from);
        let (pttl, get): (&[&[u8]], &[&[u8]]) = (&[b"PTTL", &key], &[b"GET", &key]);
        let asked = command.as_deref().map_or(Sendable::Arguments(get), Sendable::Encoded);
        // What is not kept: nobody asks how long it might be.
        let is_kept = !self.standing.is_refused();
        let prelude = is_kept.then_some((Sendable::Arguments(pttl), LinkTicket::Deadline));
        let ticket = LinkTicket::Get { fill, lease, errand };
        let (prelude, (asked, ticket)) = mutant::pttl_first(prelude, (asked, ticket));
        if let Err(unsent) = self.upstream.send_after(prelude, asked, ticket)
            && let LinkTicket::Get { fill, errand, .. } = unsent.ticket
        {
            self.give_up(fill, errand, Failure::from_unsent(&unsent.loss), stats);
        }
    }

    /// Fetches past the link what was too large for it before. Its answer is not kept, so nothing has to prove it.
    fn pass_by(&self, fill: Fill<Failure>, stats: &WorkerStats, now_ns: u64) {
        if Words::of(fill.view()).is_value() {
            self.detour_wanted.notify_one();
            aging::send(&self.detour, stats, fill, false, now_ns);
        } else {
            // Asked by Redis clients alone: they have lanes for what cannot be answered so.
            fill.fail(Failure::TooLarge(0));
        }
    }

    /// Where the replies of the detour go.
    fn detour_sink(&self) -> FillSink {
        let at =
            self.placed.as_ref().map(|placed| NodeSite { ways: Arc::downgrade(&placed.ways), id: placed.id });
        FillSink::past_the_cache(&self.detour, &self.stats, self.budget.clone(), self.settings.over_http, at)
    }

    fn give_up(&self, fill: Fill<Failure>, errand: Errand, failure: Failure, stats: &WorkerStats) {
        self.ended(errand);
        stats.failed(&failure);
        fill.fail(failure);
    }

    /// Gives back the place of a refill.
    fn ended(&self, errand: Errand) {
        if errand == Errand::Refill {
            self.refills.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Joins the first PING that is sent after `since_ns`; when that has ended, the lease of this link is renewed from then on,
    /// or lost.
    pub(super) fn prove(&self, since_ns: u64) -> Round {
        let (round, to_send) = self.barrier.join(since_ns, now_ns);
        self.send_barrier(to_send);
        match self.placed.as_ref().and_then(|placed| placed.watch.as_ref()) {
            Some(watch) => round.and(watch.prove(since_ns)),
            None => round,
        }
    }

    /// The PING under way has ended, well or badly.
    fn barrier_ended(&self) {
        self.send_barrier(self.barrier.ended(now_ns));
    }

    fn send_barrier(&self, mut to_send: Option<BarrierPing>) {
        while let Some(ping) = to_send {
            count(&self.counts.barriers, 1);
            let sent = self.upstream.send(&[b"PING"], LinkTicket::Barrier { sent_ns: ping.sent_ns });
            // A link that is down proves nothing: those who wait look again, and fetch.
            to_send = if sent.is_ok() { None } else { self.barrier.ended(now_ns) };
        }
    }

    fn send_beat(&self) {
        if !self.beat_out.swap(true, Ordering::Relaxed)
            && self.upstream.send(&[b"HELLO"], LinkTicket::Beat { sent_ns: now_ns() }).is_err()
        {
            self.beat_out.store(false, Ordering::Relaxed);
        }
    }

    /// An entry was served. One of a lost connection is fetched anew while it is still served, and now and then one is
    /// compared with what Redis holds.
    #[inline]
    pub(super) fn was_hit(self: &Arc<Self>, entry: &Entry, stats: &WorkerStats, now_ns: u64) {
        let Some(lease) = entry.lease() else { return };
        if !lease.is_live() || is_to_be_audited(entry, stats) {
            self.was_hit_late(entry, stats, now_ns);
        }
    }

    /// An entry was served that is to be fetched anew, or compared.
    #[cold]
    pub(super) fn was_hit_late(self: &Arc<Self>, entry: &Entry, stats: &WorkerStats, now_ns: u64) {
        if !entry.lease().is_some_and(|lease| lease.is_live()) {
            self.refill(entry, stats, now_ns);
        } else {
            let ticket = LinkTicket::Audit { entry: entry.clone(), sent_ns: now_ns };
            // Not sent: another hit will be compared.
            let _ = self.upstream.send(&[b"GET", entry.key()], ticket);
        }
    }

    fn refill(self: &Arc<Self>, entry: &Entry, stats: &WorkerStats, now_ns: u64) {
        if !self.is_in_force() {
            return;
        }
        if self.refills.fetch_add(1, Ordering::Relaxed) >= MOST_REFILLS {
            return self.ended(Errand::Refill);
        }
        match self.store.refetch(entry, now_ns) {
            Some(fill) => {
                count(&self.counts.refills, 1);
                self.fetch_for(Errand::Refill, fill, stats, now_ns);
            }
            None => self.ended(Errand::Refill),
        }
    }

    /// A PING for the readiness probe.
    pub(super) fn probe(&self) -> oneshot::Receiver<Result<(), Failure>> {
        let (sender, receiver) = oneshot::channel();
        let ticket = LinkTicket::Probe { sender, sent_ns: now_ns() };
        if let Err(unsent) = self.upstream.send(&[b"PING"], ticket)
            && let LinkTicket::Probe { sender, .. } = unsent.ticket
        {
            // With all places in flight taken Redis is slow, not gone; silence would have ended the connection.
            let full = unsent.loss == Loss::Full;
            let _ = sender.send(if full { Ok(()) } else { Err(Failure::from_unsent(&unsent.loss)) });
        }
        receiver
    }

    /// Time since the instant up to which the link's entries are proven.
    pub(crate) fn sync_age_ns(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.lease.now().sync_ns())
    }

    /// Whether the mode's promise rests on this link at this moment, or why it does not.
    ///
    /// # Errors
    /// The reason, for an operator.
    pub(crate) fn holds(&self, now_ns: u64) -> Result<(), String> {
        if let Some(why) = self.node.disputed() {
            return Err(why.to_string());
        }
        self.standing.promise().held()?;
        match &self.placed {
            Some(Placed { watch: Some(watch), .. }) => watch.holds(now_ns)?,
            Some(_) => return Err("it is not known which node has which slot".into()),
            None => {}
        }
        let age_ns = self.sync_age_ns(now_ns);
        if age_ns > self.settings.max_staleness_ns {
            return Err(format!("the link has been silent for {} ms", age_ns / 1_000_000));
        }
        Ok(())
    }

    /// The same without the reason and without the clock, for every answer.
    pub(crate) fn is_in_force(&self) -> bool {
        let is_placed = self.placed.as_ref().is_none_or(Placed::is_in_force);
        is_placed && self.standing.is_in_force() && !self.node.is_disputed()
    }

    /// Whether a fetch on it is worth its while: there is a connection, and what it brings may be kept.
    pub(super) fn fetches(&self) -> bool {
        let is_placed = self.placed.as_ref().is_none_or(Placed::is_in_force);
        is_placed && self.standing.fetches() && !self.node.is_disputed()
    }

    /// Whether the server is there and cannot track.
    pub(crate) fn is_refused(&self) -> bool {
        let watch = self.placed.as_ref().and_then(|placed| placed.watch.as_ref());
        self.standing.is_refused() || watch.is_some_and(|watch| watch.is_refused())
    }

    /// The mode's name, as it is set and as `Cache-Status` tells it.
    pub(crate) fn mode(&self) -> &'static str {
        self.settings.mode
    }

    /// The server was found not to tell of changes on the connection `incarnation`: nothing that was brought so far is to be
    /// trusted.
    fn distrust(&self, incarnation: u64, why: String) {
        if self.standing.found(incarnation, Promise::Distrusted(why)) {
            self.forget_all();
        }
    }

    /// What was brought so far is the past, all of it.
    fn forget_all(&self) {
        if !self.settings.apart {
            return self.store.flush();
        }
        self.lease.begin_anew();
    }
}

/// Why a fill is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Errand {
    /// A reader missed.
    First,
    /// The same once more, after its connection was lost.
    Retry,
    /// An entry of a lost connection is to be replaced before it stops being served.
    Refill,
}
