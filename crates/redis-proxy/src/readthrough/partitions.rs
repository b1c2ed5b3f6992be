//! Who reads what: the cache is shared by all readers of one user and one database, and by nobody else.
//!
//! A partition's misses travel on connections of that user and database, so that Redis itself says what the user may read;
//! what they bring is shown to the same partition alone. The first partition is the proxy's own user and database: that
//! of the HTTP front, and of RESP clients that are the same user. An invalidation concerns a key in all of them.
//!
//! A partition lasts as long as a worker has a way to it. Its number is another's only once everything of it has gone: its
//! links and connections, the fills on their way, and what is held ([`PartitionTable::tend`]).

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, OnceLock, Weak};

use super::period;
use crate::live::LiveReader;
use cache::{Cleared, Cursor, Partition};
use insight::AllSamples;
use sync::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::task::{spawn_local, yield_now};
use tokio::time::{Instant, sleep_until};
use tracing::{error, error_span, info, warn};
use upstream::{Account, Backend, Cluster, Endpoint, Proven, Secret, Upstream};

use super::aging::{FillSink, PlainTicket};
use super::cluster::{ClusterLinks, NodeWays, PlainReads, SlotWatch, SlotWatches};
use super::link::{EndingLink, Link, LinkPlan, LinkSettings, LinkThreads, RunningLink, ThrownOut};
use super::{Links, Way};
use crate::budget::Budget;
use crate::clock::now_ns;
use crate::stats::WorkerStats;
use crate::store::Store;
use crate::vital;

/// The user that a client is who names none.
const DEFAULT_USER: &str = "default";

/// Slots of the cache that are cleared under one lock, and before others have a turn.
const SLOTS_A_STEP: usize = 64;

/// As whom a reader has logged in: the user's name, if it gave one, and the password. None of one that has not.
pub(super) type AuthArguments<'a> = Option<(Option<&'a [u8]>, &'a [u8])>;

/// Who reads, and in which database, by whatever password that was proven.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct PartitionKey {
    pub(super) user: String,
    pub(super) db: u32,
}

impl PartitionKey {
    fn of_endpoint(endpoint: &Endpoint) -> PartitionKey {
        PartitionKey {
            user: endpoint.login.username.clone().unwrap_or_else(|| DEFAULT_USER.into()),
            db: endpoint.db,
        }
    }

    /// None if the words are no text: such a reader is not cached for.
    pub(super) fn of_login(login: AuthArguments<'_>, db: u32) -> Option<PartitionKey> {
        let user = match login {
            Some((Some(user), _)) => String::from_utf8(user.to_vec()).ok()?,
            Some((None, _)) | None => DEFAULT_USER.into(),
        };
        Some(PartitionKey { user, db })
    }
}

/// The password of a login, if it needed one; none at all if that is no text.
pub(super) fn password_of(login: AuthArguments<'_>) -> Option<Option<Secret>> {
    match login {
        None => Some(None),
        Some((_, password)) => String::from_utf8(password.to_vec()).ok().map(|text| Some(Secret::new(text))),
    }
}

/// What a way holds of its partition, which lasts so long.
#[derive(Clone)]
pub(super) struct Hold {
    _user: Arc<()>,
    /// Everything by which an answer may come has a part in its partition.
    _part: Arc<()>,
    /// Ends the connection that is this way's own.
    _connection: Option<Arc<oneshot::Sender<()>>>,
}

/// A way to what a reader may see.
pub(super) struct PartitionAccess {
    pub(super) partition: Partition,
    pub(super) way: Way,
    pub(super) hold: Hold,
    pub(super) proven: Arc<Proven>,
}

/// How reads of Redis clients are kept.
pub(crate) struct ClientReads {
    /// What their links are to keep; none in mode `ttl`.
    pub(crate) linked: Option<LinkSettings>,
    /// How many users and databases are cached for: as many as there are files for their connections.
    pub(crate) most_readers: usize,
    /// Where all who read have their parts, for what is told of what is hot.
    pub(crate) samples: Arc<AllSamples>,
    /// Every read is a strict one.
    pub(crate) strict: bool,
    /// Whether those that are the proxy's own user share what HTTP holds: both fronts promise by age, or both by proof.
    pub(crate) shared: bool,
}

/// What is done for a user of this name whose link Redis has closed at that instant, and refuses to open again.
type ThrowOut = Arc<dyn Fn(&str, u64) + Send + Sync>;

/// The partitions of the process.
pub(crate) struct PartitionTable {
    store: Store,
    budget: Option<Arc<Budget>>,
    endpoint: Endpoint,
    /// The proxy's own; the commands of all partitions count together.
    redis: Arc<Backend>,
    pub(super) reads: ClientReads,
    link_threads: Arc<LinkThreads>,
    /// In a cluster.
    watches: Option<Arc<SlotWatches>>,
    /// What is to be done for a user whom Redis has thrown out.
    throw_out: ThrowOut,
    /// The proxy's own user and database.
    own: PartitionKey,
    /// The links of the HTTP front, once there are some.
    of_http: OnceLock<Links>,
    /// Tells the workers to look as well.
    pub(super) beat: Notify,
    // Taken when a worker meets a reader for the first time, and by `tend`.
    known: Mutex<Known>,
}

/// A partition that is read.
struct Slot {
    /// The one of its number that is held by age.
    partition: Partition,
    /// Held by each way to it.
    users: Arc<()>,
    /// Held by everything that may bring an answer.
    parts: Arc<()>,
    proven: Arc<Proven>,
    backend: Option<Arc<Backend>>,
    links: Option<Links>,
    running: Vec<RunningLink>,
    /// The first partition has the canary, which tells of the server that all use.
    own: Option<Arc<()>>,
}

impl Slot {
    fn new(partition: Partition) -> Slot {
        Slot {
            partition,
            users: Arc::default(),
            parts: Arc::default(),
            proven: Arc::default(),
            backend: None,
            links: None,
            running: Vec::new(),
            own: None,
        }
    }

    fn is_used(&self) -> bool {
        Arc::strong_count(&self.users) > 1
    }
}

/// A partition that nobody reads any more, or what was made for the first one.
struct Leaving {
    /// Its number, which is nobody's until it has left.
    partition: Option<Partition>,
    parts: Weak<()>,
    ending: Vec<EndingLink>,
    /// How far the cache has been cleared of it.
    cleared: Cursor,
}

impl Leaving {
    /// Whether nothing can bring an answer any more.
    fn is_silent(&self) -> bool {
        self.ending.iter().all(EndingLink::has_ended)
            && (self.partition.is_none() || self.parts.strong_count() == 0)
    }
}

#[derive(Default)]
struct Known {
    slots: HashMap<PartitionKey, Slot>,
    leaving: Vec<Leaving>,
    told: bool,
}

impl Known {
    /// A number that is nobody's, if there may be one more than are taken.
    fn free(&self, most: usize) -> Option<Partition> {
        let taken = self.slots.values().map(|slot| slot.partition);
        let taken: Vec<_> = taken.chain(self.leaving.iter().filter_map(|left| left.partition)).collect();
        if taken.len() >= most {
            return None;
        }
        (0..Partition::COUNT).map_while(Partition::new).find(|partition| !taken.contains(partition))
    }
}

impl PartitionTable {
    /// The first partition is that of `endpoint`. `throw_out` is called with the name of a user whose link Redis has closed
    /// and refuses to open again, and when it did.
    #[expect(clippy::too_many_arguments, reason = "each is a part of the program that is made before")]
    pub(crate) fn new(
        store: Store,
        budget: Option<Arc<Budget>>,
        endpoint: Endpoint,
        redis: Arc<Backend>,
        reads: ClientReads,
        link_threads: Arc<LinkThreads>,
        watches: Option<Arc<SlotWatches>>,
        throw_out: ThrowOut,
    ) -> Arc<Self> {
        let own = PartitionKey::of_endpoint(&endpoint);
        let mut known = Known::default();
        known.slots.insert(own.clone(), Slot::new(Partition::OWN));
        Arc::new(PartitionTable {
            store,
            budget,
            endpoint,
            redis,
            reads,
            link_threads,
            watches,
            throw_out,
            own,
            of_http: OnceLock::new(),
            beat: Notify::new(),
            known: Mutex::new(known),
        })
    }

    /// How many partitions there are.
    pub(crate) fn len(&self) -> usize {
        self.known.lock().slots.len()
    }

    /// The samples of all who read.
    pub(crate) fn samples(&self) -> &Arc<AllSamples> {
        &self.reads.samples
    }

    /// The HTTP front has these links. Said once, before anybody reads.
    pub(crate) fn beside(&self, of_http: Links) {
        let _ = self.of_http.set(of_http);
    }

    /// The proxy's own user and database.
    pub(super) fn own(&self) -> &PartitionKey {
        &self.own
    }

    /// A worker's way to what a reader may see; none if there are too many, or if the system has no thread to give.
    /// `password` was proven at `proven_ns`.
    pub(super) fn way_of(
        &self,
        reader: &PartitionKey,
        password: Option<Secret>,
        proven_ns: u64,
        stats: &Arc<WorkerStats>,
    ) -> Option<PartitionAccess> {
        let mut known = self.known.lock();
        if !known.slots.contains_key(reader) {
            let Some(partition) = known.free(self.reads.most_readers) else {
                if !mem::replace(&mut known.told, true) {
                    warn!(
                        most = self.reads.most_readers,
                        "too many users and databases: the reads of further ones are not cached"
                    );
                }
                return None;
            };
            let number = partition.number();
            info!(user = reader.user, db = reader.db, partition = number, "cached for another reader");
            known.slots.insert(reader.clone(), Slot::new(partition));
        }
        let (own, own_links) = match &self.reads.linked {
            Some(settings) if !self.reads.shared && *reader != self.own => {
                let slot = known.slots.get_mut(&self.own)?;
                let links = self.start_links(slot, &self.endpoint, settings, None)?;
                (Some(slot.users.clone()), Some(links))
            }
            _ => (None, self.of_http.get().cloned()),
        };
        let slot = known.slots.get_mut(reader)?;
        slot.own = own;
        slot.proven.add(password, proven_ns);
        let endpoint = match slot.partition {
            Partition::OWN => self.endpoint.clone(),
            _ => self.endpoint_of(reader, &slot.proven),
        };
        let (way, connection) = match &self.reads.linked {
            None if endpoint.cluster.is_some() => {
                let (ways, stop) = self.connect_to_nodes(endpoint, slot.parts.clone(), stats);
                (Way::OwnNodes(ways), Some(Arc::new(stop)))
            }
            None => {
                let backend = slot.backend.get_or_insert_with(|| self.redis.beside(endpoint));
                let (upstream, stop) = self.connect(backend, slot.partition, slot.parts.clone(), stats);
                (Way::Own(upstream), Some(Arc::new(stop)))
            }
            Some(settings) => {
                let is_own = slot.partition == Partition::OWN;
                let settings = LinkSettings {
                    // A canary needs a user who may write; what it tries is the server, which is the same for all.
                    canary_key: settings.canary_key.clone().filter(|_| is_own),
                    relies: !is_own && settings.canary_key.is_some(),
                    _part: Some(slot.parts.clone()),
                    thrown_out: ThrownOut((!is_own).then(|| self.throwing_out(reader))),
                    ..settings.clone()
                };
                let own_links = own_links.filter(|_| !is_own);
                let way = match self.start_links(slot, &endpoint, &settings, own_links)? {
                    Links::OfOne(links) => Way::Linked(links),
                    Links::OfCluster(links) => Way::Clustered(links),
                };
                (way, None)
            }
        };
        let hold = Hold { _user: slot.users.clone(), _part: slot.parts.clone(), _connection: connection };
        let partition = if self.reads.linked.is_some() { slot.partition.leased() } else { slot.partition };
        Some(PartitionAccess { partition, way, hold, proven: slot.proven.clone() })
    }

    fn throwing_out(&self, reader: &PartitionKey) -> Arc<dyn Fn(u64) + Send + Sync> {
        let (throw_out, user) = (self.throw_out.clone(), reader.user.clone());
        Arc::new(move |closed_ns| throw_out(&user, closed_ns))
    }

    fn endpoint_of(&self, reader: &PartitionKey, proven: &Arc<Proven>) -> Endpoint {
        Endpoint {
            login: Account {
                username: Some(reader.user.clone()).filter(|user| user != DEFAULT_USER),
                proven: Some(proven.clone()),
                ..Account::default()
            },
            db: reader.db,
            ..self.endpoint.clone()
        }
    }

    /// A connection of a worker's own, which ends with what is returned beside it.
    fn connect(
        &self,
        backend: &Arc<Backend>,
        partition: Partition,
        part: Arc<()>,
        stats: &Arc<WorkerStats>,
    ) -> (Upstream<PlainTicket>, oneshot::Sender<()>) {
        let (upstream, driver) = upstream::connect(backend);
        let sink = FillSink::new(&upstream, stats, self.budget.clone(), false);
        let driving = driver.run(error_span!("reader", partition = partition.number()), sink);
        let (stop, stopped) = oneshot::channel::<()>();
        spawn_local(vital::task("a reader's connection to redis", async move {
            let _part = part;
            tokio::select! {
                () = driving => {}
                _ = stopped => {}
            }
        }));
        (upstream, stop)
    }

    /// Connections of a worker's own to the nodes of a cluster, which end with what is returned beside them.
    fn connect_to_nodes(
        &self,
        endpoint: Endpoint,
        part: Arc<()>,
        stats: &Arc<WorkerStats>,
    ) -> (Arc<NodeWays>, oneshot::Sender<()>) {
        let (stats, budget) = (stats.clone(), self.budget.clone());
        let reads = PlainReads { keeps: true, over_http: false, stats, budget };
        let (ways, drives) = NodeWays::new(&self.redis, endpoint, reads);
        let (stop, stopped) = oneshot::channel::<()>();
        spawn_local(vital::task("a reader's connections to nodes", async move {
            let _part = part;
            tokio::select! {
                () = drives.run() => {}
                _ = stopped => {}
            }
        }));
        (ways, stop)
    }

    /// The links of a partition, which start now if there are none; `own` are those whose canary tells of a node of a cluster.
    fn start_links(
        &self,
        slot: &mut Slot,
        endpoint: &Endpoint,
        settings: &LinkSettings,
        own: Option<Links>,
    ) -> Option<Links> {
        if let Some(links) = &slot.links {
            return Some(links.clone());
        }
        if let Some(watches) = &self.watches {
            let (redis, settings, endpoint) = (&self.redis, settings.clone(), endpoint.clone());
            let own = match own {
                Some(Links::OfCluster(own)) => Some(own),
                _ => None,
            };
            let budget = self.budget.as_ref();
            let links = ClusterLinks::new(&self.store, budget, redis, endpoint, settings, watches, own);
            match links {
                Ok(links) => slot.links = Some(Links::OfCluster(links)),
                Err(error) => error!(%error, "no link for another reader"),
            }
            return slot.links.clone();
        }
        let tracked = self.redis.tracked_beside(endpoint.clone());
        let plain = self.redis.beside(endpoint.clone());
        let (budget, settings) = (self.budget.as_ref(), settings.clone());
        let plan = LinkPlan::new(&self.store, budget, &tracked, &plain, settings.clone());
        match (0..settings.links)
            .map(|number| plan.start(number, &self.link_threads))
            .collect::<Result<Vec<_>, _>>()
        {
            Ok(started) => {
                let (links, running): (Vec<_>, Vec<_>) = started.into_iter().unzip();
                slot.links = Some(Links::OfOne(links.into()));
                slot.running = running;
                slot.links.clone()
            }
            Err(error) => {
                error!(%error, "no link for another reader");
                None
            }
        }
    }

    /// Gives back what nobody has a way to any more, looking so often, and tells the workers to. Never ends.
    pub(crate) async fn tend(self: Arc<Self>, mut live: LiveReader) {
        let mut due = Instant::now();
        let mut changes = self.endpoint.cluster.as_ref().map(Cluster::changes);
        let mut changed = async || match &mut changes {
            // Not with an error: we hold a sender.
            Some(changes) => drop(changes.changed().await),
            None => std::future::pending().await,
        };
        loop {
            tokio::select! {
                () = sleep_until(due) => {}
                // Perhaps sooner than it was to be.
                _ = live.changed() => {}
                () = changed() => {
                    self.tend_nodes();
                    continue;
                }
            }
            due = Instant::now() + period(live.now().sessions.lanes.idle);
            self.beat.notify_waiters();
            self.tend_nodes();
            drop(self.let_go());
            while self.clear_some() {
                yield_now().await;
            }
        }
    }

    /// In a cluster: nodes come and go.
    fn tend_nodes(&self) {
        let of_readers = || {
            let known = self.known.lock();
            let of_readers: Vec<Links> = known.slots.values().filter_map(|slot| slot.links.clone()).collect();
            of_readers
        };
        if self.watches.is_some() {
            for links in of_readers().into_iter().chain(self.of_http.get().cloned()) {
                links.tend(now_ns());
            }
        }
    }

    /// Ends the links of what has no user, and takes its reader off the list. What that was is to be dropped without the lock.
    fn let_go(&self) -> Vec<Slot> {
        let mut known = self.known.lock();
        // The number of the first is never another's: it has gone once its links have.
        let is_there = |reader: &PartitionKey, slot: &Slot| *reader != self.own || slot.links.is_some();
        let unused = known.slots.iter().filter(|(reader, slot)| !slot.is_used() && is_there(reader, slot));
        let unused: Vec<PartitionKey> = unused.map(|(reader, _)| reader.clone()).collect();
        let mut gone = Vec::new();
        for reader in unused {
            let Some(mut slot) = known.slots.remove(&reader) else { continue };
            let is_own = reader == self.own;
            let mut ending: Vec<_> =
                mem::take(&mut slot.running).into_iter().map(RunningLink::stop).collect();
            if let Some(Links::OfCluster(links)) = &slot.links {
                ending.extend(links.stop());
            }
            let partition = Some(slot.partition).filter(|_| !is_own);
            if is_own {
                known.slots.insert(reader, Slot::new(slot.partition));
            } else {
                info!(
                    user = reader.user,
                    db = reader.db,
                    partition = slot.partition.number(),
                    "a reader has gone"
                );
            }
            let parts = Arc::downgrade(&slot.parts);
            let leaving = Leaving { partition, parts, ending, cleared: Cursor::default() };
            mutant::number_kept(|| known.leaving.push(leaving));
            gone.push(slot);
        }
        gone
    }

    /// One step towards giving back a number. Whether there is more to do at once.
    fn clear_some(&self) -> bool {
        let next = |known: &Known| {
            let at = known.leaving.iter().position(Leaving::is_silent)?;
            Some((at, known.leaving[at].partition, known.leaving[at].cleared))
        };
        let Some((at, partition, cursor)) = next(&self.known.lock()) else { return false };
        let cleared = match partition {
            Some(partition) => self.store.clear_partition(partition.number(), cursor, SLOTS_A_STEP),
            None => Cleared::All,
        };
        if let (Some(partition), Cleared::All) = (partition, &cleared) {
            self.reads.samples.forget(partition.number());
            self.store.forget_absences(partition.number());
        }
        let mut known = self.known.lock();
        match cleared {
            Cleared::UpTo(cursor) => known.leaving[at].cleared = cursor,
            Cleared::All => {
                known.leaving.remove(at);
                known.told = false;
            }
            Cleared::FillsLeft => {
                known.leaving[at].cleared = Cursor::default();
                return false;
            }
        }
        true
    }

    /// What Redis clients are promised and whether it is kept, for an operator; `of_http` are the links of that front.
    /// None where it is no matter of proof.
    pub(crate) fn standing(&self, of_http: &Links, now_ns: u64) -> Option<String> {
        let settings = self.reads.linked.as_ref()?;
        let mut links = self.links();
        if self.reads.shared {
            links.extend_from_slice(&of_http.now());
        }
        if links.is_empty() {
            return Some("not asked yet".into());
        }
        let mode = settings.mode;
        Some(match links.iter().try_for_each(|link| link.holds(now_ns)) {
            Ok(()) => format!("{mode}, in force"),
            Err(why) if links.iter().any(|link| link.is_refused()) => {
                format!("{mode}, not in force: {why}; reads are passed through")
            }
            Err(why) => format!("{mode}, not in force: {why}"),
        })
    }

    /// The name of the mode in which Redis clients are promised something by proof.
    pub(crate) fn mode(&self) -> Option<&'static str> {
        self.reads.linked.as_ref().map(|settings| settings.mode)
    }

    /// The links of both fronts to the node of a cluster that has this number.
    pub(crate) fn links_to(&self, node: u16) -> Vec<Arc<Link>> {
        let known = self.known.lock();
        let all = known.slots.values().filter_map(|slot| slot.links.as_ref()).chain(self.of_http.get());
        let mut links: Vec<Arc<Link>> = all.flat_map(|links| links.to(node)).collect();
        links.sort_by_key(Arc::as_ptr);
        links.dedup_by_key(|link| Arc::as_ptr(link));
        links
    }

    /// The watches of the nodes of a cluster.
    pub(crate) fn watches(&self) -> Vec<Arc<SlotWatch>> {
        self.watches.as_ref().map(|watches| watches.all()).unwrap_or_default()
    }

    /// The links that Redis clients have to themselves.
    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        let known = self.known.lock();
        known
            .slots
            .values()
            .flat_map(|slot| slot.links.iter().flat_map(|links| links.now().to_vec()))
            .collect()
    }
}
