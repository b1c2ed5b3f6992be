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
mod cluster;
mod fetched;
mod hot_lists;
mod http_reads;
mod known;
mod lent;
mod link;
mod partitions;
mod purge;
mod question;
mod readers;
mod sampled;
mod waiting;
mod written;

use std::sync::Arc;
use std::time::Duration;

use cache::{Lookup, Need, Partition};
use insight::Samples;
use tokio::sync::oneshot;
use upstream::Upstream;

use self::aging::{FillSink, PlainTicket};
use self::cluster::NodeWays;
pub(crate) use self::cluster::{ClusterLinks, SlotWatches};
pub(crate) use self::hot_lists::{HotLists, IsBusy};
pub(crate) use self::http_reads::{HttpReads, OwnConnections};
pub(crate) use self::known::{Answered, Found, KnownAnswer};
pub(crate) use self::lent::Lent;
pub(crate) use self::link::{
    BEATS_A_BOUND, Delivery, Link, LinkCounts, LinkPlan, LinkSettings, LinkThreads, RunningLink,
};
use self::partitions::Hold;
pub(crate) use self::partitions::{ClientReads, PartitionTable};
pub(crate) use self::purge::{Purger, purge_counts, take_out};
pub(crate) use self::question::{Accepts, Kind, Question, Words};
pub(crate) use self::readers::Readers;
pub(crate) use self::sampled::{note_beyond, note_not_kept};
use self::sampled::{note_hit, note_miss, note_passed};
use self::waiting::Again;
pub(crate) use self::waiting::Waiting;
use crate::clock::now_ns;
use crate::failure::Failure;
use crate::stats::WorkerStats;
use crate::store::Store;

/// How often those are looked for that have not been used for `idle`.
fn period(idle: Duration) -> Duration {
    (idle / 4).clamp(Duration::from_millis(10), Duration::from_secs(1))
}

/// A worker's way to what one user may read in one database: the shared cache, and the connection that its misses
/// travel on.
#[derive(Clone)]
pub(crate) struct ReadThrough {
    store: Store,
    partition: Partition,
    way: Way,
    /// On a link: every read is a strict one.
    strict: bool,
    stats: Arc<WorkerStats>,
    /// The worker's.
    samples: Arc<Samples>,
    /// What it holds of its partition; the first one needs none.
    _hold: Option<Hold>,
}

/// Where a miss travels.
#[derive(Clone)]
enum Way {
    /// Mode `ttl`: on the worker's own connection.
    Own(Upstream<PlainTicket>),
    /// The same in a cluster: on one to each node.
    OwnNodes(Arc<NodeWays>),
    /// Modes `tracking` and `strict`: on the tracked link of its key, which all workers share.
    Linked(Arc<[Arc<Link>]>),
    /// The same in a cluster: on one to whoever has the key's slot.
    Clustered(Arc<ClusterLinks>),
}

/// The links of one reader, for those who report.
#[derive(Clone)]
pub(crate) enum Links {
    /// To a Redis by itself; none in mode `ttl`.
    OfOne(Arc<[Arc<Link>]>),
    /// To the primaries of a cluster.
    OfCluster(Arc<ClusterLinks>),
}

impl Links {
    /// None.
    pub(crate) fn none() -> Links {
        Links::OfOne(Arc::new([]))
    }

    /// Those that there are at this moment.
    pub(crate) fn now(&self) -> Arc<[Arc<Link>]> {
        match self {
            Links::OfOne(links) => links.clone(),
            Links::OfCluster(links) => links.all().into(),
        }
    }

    /// Those to a node of a cluster.
    fn to(&self, node: u16) -> Vec<Arc<Link>> {
        match self {
            Links::OfOne(_) => Vec::new(),
            Links::OfCluster(links) => links.of_node(node),
        }
    }

    /// In a cluster: ends those to nodes that are none any more, and begins those to new ones.
    fn tend(&self, now_ns: u64) {
        if let Links::OfCluster(links) = self {
            links.tend(now_ns);
        }
    }

    /// The name of the mode that they are for; none without links.
    pub(crate) fn mode(&self) -> Option<&'static str> {
        match self {
            Links::OfOne(links) => links.first().map(|link| link.mode()),
            Links::OfCluster(links) => Some(links.mode()),
        }
    }
}

/// What a client asks of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadOptions {
    /// The clock, for what expires.
    pub(crate) now_ns: u64,
    /// A clock reading after the last byte of the request was read, the same for all that were read together: where an answer
    /// must not be older than its request, it is none older than this.
    pub(crate) arrived_ns: u64,
    /// What its connection has seen of Redis already: it is shown nothing older. 0 without such knowledge.
    pub(crate) min_sync_ns: u64,
    /// It takes nothing that was true only before it arrived.
    pub(crate) no_cache: bool,
}

/// What is said of the mode to those who are answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Detail {
    /// Behind a `Cache-Status`.
    pub(crate) text: &'static [u8],
    /// Whether what is in memory was true when it was proven last.
    pub(crate) in_force: bool,
}

impl Detail {
    pub(crate) const NONE: Detail = Detail { text: b"", in_force: false };
}

/// The outcome of asking for a key.
pub(crate) enum ReadOutcome {
    /// In memory.
    Hit(KnownAnswer),
    /// On its way from Redis, or on its way to be proven.
    Wait(Waiting),
}

impl ReadThrough {
    /// Asks for the value of `key`. Never waits.
    pub(crate) fn get(&self, key: &[u8], asked: ReadOptions) -> ReadOutcome {
        self.ask(Question::value(key), asked)
    }

    /// Asks anything of a key; in mode `ttl` nothing but its value ([`keeps_replies`](Self::keeps_replies)). Never waits.
    #[inline]
    pub(crate) fn ask(&self, question: Question<'_>, asked: ReadOptions) -> ReadOutcome {
        match &self.way {
            Way::Own(upstream) => self.ask_aging(question, upstream, asked),
            Way::OwnNodes(ways) => self.ask_aging_node(question, ways, asked),
            Way::Linked(links) => self.ask_linked(question, link::of_key(links, question.key), asked),
            Way::Clustered(links) => self.ask_clustered(question, links, asked),
        }
    }

    /// The same for who can be passed on: none where it is not held and a fetch would be for nothing, because the server
    /// cannot track or the link to it is lost, which a lane need not be.
    #[inline]
    pub(crate) fn ask_or_pass(&self, question: Question<'_>, asked: ReadOptions) -> Option<ReadOutcome> {
        match &self.way {
            Way::Own(upstream) => Some(self.ask_aging(question, upstream, asked)),
            Way::OwnNodes(ways) => Some(self.ask_aging_node(question, ways, asked)),
            Way::Linked(links) => self.ask_link_or_pass(question, link::of_key(links, question.key), asked),
            Way::Clustered(links) => self.ask_link_or_pass(question, &links.of_key(question.key), asked),
        }
    }

    fn ask_link_or_pass(
        &self,
        question: Question<'_>,
        link: &Arc<Link>,
        asked: ReadOptions,
    ) -> Option<ReadOutcome> {
        match link.fetches() {
            true => Some(self.ask_linked(question, link, asked)),
            false => self.held(question, asked).map(ReadOutcome::Hit),
        }
    }

    /// The slot of a key is looked at where the key is not held.
    fn ask_clustered(
        &self,
        question: Question<'_>,
        links: &Arc<ClusterLinks>,
        asked: ReadOptions,
    ) -> ReadOutcome {
        if question.words.is_value()
            && let Some(entry) = self.hit_clustered(question.key, links, asked)
        {
            note_hit(self, question.key, asked.now_ns);
            return ReadOutcome::Hit(entry);
        }
        self.ask_linked(question, &links.of_key(question.key), asked)
    }

    fn ask_aging_node(
        &self,
        question: Question<'_>,
        ways: &Arc<NodeWays>,
        asked: ReadOptions,
    ) -> ReadOutcome {
        self.ask_aging(question, &ways.of_key(question.key), asked)
    }

    fn hit_clustered(
        &self,
        key: &[u8],
        links: &Arc<ClusterLinks>,
        asked: ReadOptions,
    ) -> Option<KnownAnswer> {
        let entry = self.store.hit(key, self.partition, links.need(asked, self.strict), asked.now_ns)?;
        links.was_hit(&entry, &self.stats, asked.now_ns);
        Some(KnownAnswer(entry))
    }

    /// What [`get`](Self::get) would find in memory, in the common case: a value that is proven late enough. None says nothing, and
    /// then nothing is fetched or counted.
    #[inline(always)]
    pub(crate) fn hit(&self, key: &[u8], asked: ReadOptions) -> Option<KnownAnswer> {
        let found = match &self.way {
            Way::Own(_) | Way::OwnNodes(_) => {
                self.store.hit(key, self.partition, aging::need(asked), asked.now_ns).map(KnownAnswer)
            }
            Way::Linked(links) => self.hit_linked(key, link::of_key(links, key), asked),
            Way::Clustered(links) => self.hit_clustered(key, links, asked),
        };
        if found.is_some() {
            note_hit(self, key, asked.now_ns);
        }
        found
    }

    fn hit_linked(&self, key: &[u8], link: &Arc<Link>, asked: ReadOptions) -> Option<KnownAnswer> {
        let entry = self.store.hit(key, self.partition, link.need(asked, self.strict), asked.now_ns)?;
        link.was_hit(&entry, &self.stats, asked.now_ns);
        Some(KnownAnswer(entry))
    }

    /// Whether so much is held that [`look_ahead`](Self::look_ahead) is worth its cost.
    #[inline]
    pub(crate) fn is_worth_looking_ahead(&self) -> bool {
        self.store.is_worth_looking_ahead()
    }

    /// As [`look_ahead`](cache::Cache::look_ahead) of the cache.
    pub(crate) fn look_ahead<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> usize {
        self.store.look_ahead(keys)
    }

    /// Whether fetching this key is for anything.
    pub(crate) fn fetches(&self, key: &[u8]) -> bool {
        match &self.way {
            Way::Own(_) | Way::OwnNodes(_) => true,
            Way::Linked(links) => link::of_key(links, key).fetches(),
            Way::Clustered(links) => links.of_key(key).fetches(),
        }
    }

    /// What is held and answers the question, if it is proven late enough. Fetches nothing: if not, it is passed on to Redis.
    pub(crate) fn held(&self, question: Question<'_>, asked: ReadOptions) -> Option<KnownAnswer> {
        let need = match &self.way {
            Way::Own(_) | Way::OwnNodes(_) => Need::since(asked.min_sync_ns),
            Way::Linked(links) => link::of_key(links, question.key).need(asked, self.strict),
            Way::Clustered(links) => links.need(asked, self.strict),
        };
        let view = question.view(self.partition);
        let found =
            self.store.find(question.key, view, |entry| question.accepts.fits(entry), need, asked.now_ns);
        match found {
            Some(_) => note_hit(self, question.key, asked.now_ns),
            None => note_passed(self, question.key, asked.now_ns),
        }
        found.map(KnownAnswer)
    }

    /// What is held and answers the question, however late it was proven.
    pub(crate) fn knows(&self, question: Question<'_>, now_ns: u64) -> Option<KnownAnswer> {
        let view = question.view(self.partition);
        let found =
            self.store.find(question.key, view, |entry| question.accepts.fits(entry), Need::NOTHING, now_ns);
        found.map(KnownAnswer)
    }

    /// What is known of a key and answers the question, without counting as use.
    pub(crate) fn peek(&self, question: Question<'_>, now_ns: u64) -> Option<KnownAnswer> {
        let entry = self.store.peek_view(question.key, question.view(self.partition), now_ns);
        // With a lease that was revoked it proves nothing.
        entry.filter(|entry| entry.proven_ns() > 0).map(KnownAnswer)
    }

    fn ask_aging(
        &self,
        question: Question<'_>,
        upstream: &Upstream<PlainTicket>,
        asked: ReadOptions,
    ) -> ReadOutcome {
        match self.look_up(question, aging::need(asked), asked) {
            Lookup::Hit(entry) => ReadOutcome::Hit(KnownAnswer(entry)),
            Lookup::Wait(waiter) => ReadOutcome::Wait(Waiting::for_another(waiter)),
            Lookup::Miss(fill, waiter) => {
                aging::fetch(upstream, &self.stats, fill, asked.now_ns);
                ReadOutcome::Wait(Waiting::for_own(waiter))
            }
            Lookup::Held(held, waiter) => {
                // What is held keeps no connection: with its last user the fill is given up.
                let (upstream, stats) = (upstream.downgrade(), self.stats.clone());
                held.send_with(move |fill| match upstream.upgrade() {
                    Some(upstream) => aging::fetch(&upstream, &stats, fill, now_ns()),
                    None => drop(fill),
                });
                ReadOutcome::Wait(Waiting::for_own(waiter))
            }
            Lookup::Unproven(_) => unreachable!("nothing is held under a lease in this mode"),
        }
    }

    fn look_up(&self, question: Question<'_>, need: Need, asked: ReadOptions) -> Lookup<Failure> {
        let (view, now_ns) = (question.view(self.partition), asked.now_ns);
        let accepts = |entry: &_| question.accepts.fits(entry);
        let found = self.store.lookup_view(question.key, view, accepts, need, now_ns);
        match found {
            Lookup::Hit(_) => note_hit(self, question.key, now_ns),
            _ => note_miss(self, question, asked),
        }
        found
    }

    fn ask_linked(&self, question: Question<'_>, link: &Arc<Link>, asked: ReadOptions) -> ReadOutcome {
        let need = link.need(asked, self.strict);
        match self.look_up(question, need, asked) {
            Lookup::Hit(entry) => {
                link.was_hit(&entry, &self.stats, asked.now_ns);
                ReadOutcome::Hit(KnownAnswer(entry))
            }
            Lookup::Wait(waiter) => {
                let again = Again::new(link, &self.stats, question.accepts, need, asked.now_ns);
                ReadOutcome::Wait(Waiting::for_another_of(again, waiter))
            }
            Lookup::Miss(fill, waiter) => {
                link.fetch(fill, &self.stats, asked.now_ns);
                ReadOutcome::Wait(Waiting::for_own(waiter))
            }
            Lookup::Held(held, waiter) => {
                link.fetch_held(held);
                ReadOutcome::Wait(Waiting::for_own(waiter))
            }
            // The lease is that of the key's link: there is no other for it.
            Lookup::Unproven(_) => {
                let again = Again::new(link, &self.stats, question.accepts, need, asked.now_ns);
                ReadOutcome::Wait(Waiting::for_proof(again, question, self.partition))
            }
        }
    }

    /// Whether values in flight take all of the byte budget that they may: who holds some for a client that takes nothing
    /// is to let go of them.
    pub(crate) fn is_crowded(&self) -> bool {
        self.store.is_crowded()
    }

    /// A value as it is handed to a client: once that is done with it, those are told who wait for its room.
    pub(crate) fn lend(&self, answer: KnownAnswer) -> Lent {
        Lent::new(answer, self.store.clone())
    }

    /// A client is done with some values: fetches that wait for their room are sent. One look while none does.
    pub(crate) fn released(&self) {
        self.store.released();
    }

    /// Whether replies to questions of any kind are kept, and not values alone.
    pub(crate) fn keeps_replies(&self) -> bool {
        matches!(self.way, Way::Linked(_) | Way::Clustered(_))
    }

    /// Whether a connection's reads of a key are to be in the order of its writes.
    pub(crate) fn keeps_order(&self) -> bool {
        self.keeps_replies()
    }

    /// What `Cache-Status` says of the mode and of its promise; nothing in mode `ttl`.
    #[inline(always)]
    pub(crate) fn detail(&self, now_ns: u64) -> Detail {
        match &self.way {
            Way::Own(_) | Way::OwnNodes(_) => Detail::NONE,
            Way::Linked(links) => link::detail(links, self.strict),
            Way::Clustered(links) => links.detail(self.strict, now_ns),
        }
    }

    fn links(&self) -> Links {
        match &self.way {
            Way::Own(_) | Way::OwnNodes(_) => Links::none(),
            Way::Linked(links) => Links::OfOne(links.clone()),
            Way::Clustered(links) => Links::OfCluster(links.clone()),
        }
    }

    /// The connections that a miss may travel on, each by the address that it leads to, with why it does not if it does not.
    pub(crate) fn connections(&self) -> Vec<(String, Option<String>)> {
        match &self.way {
            Way::Own(upstream) => vec![(upstream.place(), aging::trouble(upstream))],
            Way::OwnNodes(ways) => ways.connections(),
            Way::Linked(links) => links.iter().map(|link| link::connection(link)).collect(),
            Way::Clustered(links) => links.all().iter().map(|link| link::connection(link)).collect(),
        }
    }

    /// A PING on the way that a miss would take; no key is touched.
    pub(crate) fn probe(&self) -> Vec<oneshot::Receiver<Result<(), Failure>>> {
        match &self.way {
            Way::Own(upstream) => vec![aging::probe(upstream)],
            Way::OwnNodes(ways) => ways.probe(),
            Way::Linked(links) => links.iter().map(|link| link.probe()).collect(),
            Way::Clustered(links) => links.probe(),
        }
    }
}
