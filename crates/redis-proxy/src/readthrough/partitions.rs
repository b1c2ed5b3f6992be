//! Who reads what: the cache is shared by all readers of one user and one database, and by nobody else.
//!
//! A partition's misses travel on connections of that user and database, so that Redis itself says what the user may read;
//! what they bring is shown to the same partition alone. The first partition is the proxy's own user and database: that
//! of the HTTP front, and of RESP clients that are the same user. An invalidation concerns a key in all of them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cache::Partition;
use mutant::Mutant;
use sync::Mutex;
use tokio::task::spawn_local;
use tracing::{Instrument, error, error_span, info, warn};
use upstream::{Endpoint, Login, Secret, Target};

use super::link::{Link, LinkSettings, LinkThread};
use super::{ReadThrough, Store, Way};
use crate::budget::Budget;
use crate::stats::WorkerStats;
use crate::vital;

/// The user that a client is who names none.
const DEFAULT_USER: &str = "default";

/// Who reads, and in which database.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Reader {
    user: String,
    password: Option<String>,
    db: u32,
}

impl Reader {
    fn of_endpoint(endpoint: &Endpoint) -> Reader {
        Reader {
            user: endpoint.username.clone().unwrap_or_else(|| DEFAULT_USER.into()),
            password: endpoint.password.as_ref().map(|secret| secret.expose().to_owned()),
            db: endpoint.db,
        }
    }

    /// None if the words are no text: such a reader is not cached for.
    fn of_login(login: &Login, db: u32) -> Option<Reader> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let (user, password) = match login {
            Login::None => (DEFAULT_USER.into(), None),
            Login::Password(password) => (DEFAULT_USER.into(), Some(text(&password.0)?)),
            Login::User(user, password) => (text(user)?, Some(text(&password.0)?)),
        };
        Some(Reader { user, password, db })
    }
}

/// How reads of Redis clients are kept.
pub(crate) struct ClientReads {
    /// What their links are to keep; none in mode `ttl`.
    pub(crate) linked: Option<LinkSettings>,
    /// How many users and databases are cached for: as many as there are files for their connections.
    pub(crate) most_readers: usize,
    /// Every read is a strict one.
    pub(crate) strict: bool,
    /// Whether those that are the proxy's own user share what HTTP holds: both fronts promise by age, or both by proof.
    pub(crate) shared: bool,
}

/// The partitions of the process.
pub(crate) struct Partitions {
    store: Store,
    budget: Option<Arc<Budget>>,
    endpoint: Endpoint,
    /// The proxy's own; the commands of all partitions count together.
    redis: Arc<Target>,
    reads: ClientReads,
    // Taken when a worker meets a reader for the first time.
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    numbers: HashMap<Reader, Partition>,
    targets: HashMap<Partition, Arc<Target>>,
    links: HashMap<Partition, Arc<[Arc<Link>]>>,
    threads: Vec<LinkThread>,
    told: bool,
}

impl Partitions {
    /// The first partition is that of `endpoint`.
    pub(crate) fn new(
        store: Store,
        budget: Option<Arc<Budget>>,
        endpoint: Endpoint,
        redis: Arc<Target>,
        reads: ClientReads,
    ) -> Arc<Self> {
        let mut known = Known::default();
        known.numbers.insert(Reader::of_endpoint(&endpoint), Partition::OWN);
        Arc::new(Partitions { store, budget, endpoint, redis, reads, known: Mutex::new(known) })
    }

    /// Ends the links that Redis clients have to themselves.
    pub(crate) fn end(&self) {
        let threads = std::mem::take(&mut self.known.lock().threads);
        threads.into_iter().for_each(LinkThread::end);
    }

    /// How many partitions there are.
    pub(crate) fn len(&self) -> usize {
        self.known.lock().numbers.len()
    }

    fn partition_of(&self, reader: &Reader) -> Option<Partition> {
        let mut known = self.known.lock();
        if let Some(partition) = known.numbers.get(reader) {
            return Some(*partition);
        }
        let next = known.numbers.len();
        let Some(partition) = Partition::new(next).filter(|_| next < self.reads.most_readers) else {
            if !std::mem::replace(&mut known.told, true) {
                warn!(
                    most = self.reads.most_readers,
                    "too many users and databases: the reads of further ones are not cached"
                );
            }
            return None;
        };
        info!(
            user = reader.user,
            db = reader.db,
            partition = partition.number(),
            "cached for another reader"
        );
        known.numbers.insert(reader.clone(), partition);
        Some(partition)
    }

    fn endpoint_of(&self, reader: &Reader) -> Endpoint {
        Endpoint {
            username: Some(reader.user.clone()).filter(|user| user != DEFAULT_USER),
            password: reader.password.clone().map(Secret::new),
            db: reader.db,
            ..self.endpoint.clone()
        }
    }

    /// The way of a partition's misses; `None` if the system has no thread to give.
    fn way_of(&self, partition: Partition, reader: &Reader, stats: &Arc<WorkerStats>) -> Option<Way> {
        let endpoint = self.endpoint_of(reader);
        let mut known = self.known.lock();
        let Some(settings) = &self.reads.linked else {
            let target = || self.redis.beside(endpoint);
            let target = known.targets.entry(partition).or_insert_with(target).clone();
            drop(known);
            let (upstream, driver) = upstream::connect(&target);
            let sink = ReadThrough::sink(&upstream, stats, self.budget.clone());
            let driving = driver.run(sink).instrument(error_span!("reader", partition = partition.number()));
            spawn_local(vital::task("a reader's connection to redis", driving));
            return Some(Way::Own(upstream));
        };
        // A canary needs a user who may write; what it tries is the server, which is the same for all.
        if !self.reads.shared {
            self.links_of(&mut known, Partition::OWN, &self.endpoint, settings)?;
        }
        let settings = match partition {
            Partition::OWN => settings.clone(),
            _ => {
                let relies = settings.canary_key.is_some();
                LinkSettings { canary_key: None, relies, ..settings.clone() }
            }
        };
        self.links_of(&mut known, partition, &endpoint, &settings).map(Way::Linked)
    }

    /// The links of a partition, which start now if there are none.
    fn links_of(
        &self,
        known: &mut Known,
        partition: Partition,
        endpoint: &Endpoint,
        settings: &LinkSettings,
    ) -> Option<Arc<[Arc<Link>]>> {
        if let Some(links) = known.links.get(&partition) {
            return Some(links.clone());
        }
        let tracked = self.redis.tracked_beside(endpoint.clone());
        let plain = self.redis.beside(endpoint.clone());
        let start = |number| {
            LinkThread::start(number, &self.store, self.budget.as_ref(), &tracked, &plain, settings.clone())
        };
        match (0..settings.links).map(start).collect::<Result<Vec<_>, _>>() {
            Ok(started) => {
                let (links, threads): (Vec<_>, Vec<_>) = started.into_iter().unzip();
                let links: Arc<[Arc<Link>]> = links.into();
                known.links.insert(partition, links.clone());
                known.threads.extend(threads);
                Some(links)
            }
            Err(error) => {
                error!(%error, "no link for another reader");
                None
            }
        }
    }

    /// What Redis clients are promised and whether it is kept, for an operator; `of_http` are the links of that front.
    /// None where it is no matter of proof.
    pub(crate) fn standing(&self, of_http: &[Arc<Link>], now_ns: u64) -> Option<String> {
        let settings = self.reads.linked.as_ref()?;
        let mut links = self.links();
        if self.reads.shared {
            links.extend_from_slice(of_http);
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

    /// The links that Redis clients have to themselves.
    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        self.known.lock().links.values().flat_map(|links| links.iter().cloned()).collect()
    }

    /// The partition of that number in which reads of Redis clients are kept.
    fn kept_in(&self, partition: Partition) -> Partition {
        if self.reads.linked.is_some() { partition.leased() } else { partition }
    }
}

/// The ways of one worker to what each reader may see.
pub(crate) struct Readers {
    partitions: Arc<Partitions>,
    /// That of the HTTP front.
    own: Rc<ReadThrough>,
    known: RefCell<HashMap<Reader, Option<Rc<ReadThrough>>>>,
}

impl Readers {
    /// Those of the worker whose HTTP front has the way `own`.
    pub(crate) fn new(partitions: Arc<Partitions>, own: ReadThrough) -> Self {
        Readers { partitions, own: Rc::new(own), known: RefCell::default() }
    }

    /// The way of whoever has logged in so; none if nothing is cached for that reader.
    pub(crate) fn of(&self, login: &Login, db: u32) -> Option<Rc<ReadThrough>> {
        let mut reader = Reader::of_login(login, db)?;
        let own = Reader::of_endpoint(&self.partitions.endpoint);
        if mutant::is_on(Mutant::UserIgnored) {
            reader = Reader { db, ..own };
        } else if mutant::is_on(Mutant::DbIgnored) {
            reader.db = own.db;
        }
        if let Some(known) = self.known.borrow().get(&reader) {
            return known.clone();
        }
        let partition = self.partitions.partition_of(&reader);
        let strict = self.partitions.reads.strict;
        let way = match partition {
            Some(Partition::OWN) if self.partitions.reads.shared => {
                Some(Rc::new(ReadThrough { strict, ..(*self.own).clone() }))
            }
            Some(partition) => {
                let way = self.partitions.way_of(partition, &reader, &self.own.stats);
                let partition = self.partitions.kept_in(partition);
                way.map(|way| Rc::new(ReadThrough { partition, way, strict, ..(*self.own).clone() }))
            }
            None => None,
        };
        self.known.borrow_mut().insert(reader, way.clone());
        way
    }

    /// What the cache counts, by names for INFO.
    pub(crate) fn report(&self, now_ns: u64) -> Vec<(&'static str, u64)> {
        let stats = self.own.store.stats(now_ns);
        let mut report = vec![
            ("proxy_cache_keys", stats.entries),
            ("proxy_cache_capacity", stats.capacity),
            ("proxy_cache_other_replies", stats.others),
            ("proxy_cache_bytes", stats.accounted_bytes),
            ("proxy_cache_hits", stats.hits),
            ("proxy_cache_misses", stats.misses),
            ("proxy_cache_collapsed", stats.collapsed),
            ("proxy_cache_unproven", stats.unproven),
            ("proxy_cache_evictions", stats.evictions),
            ("proxy_cache_expiries", stats.expiries),
            ("proxy_cache_invalidations", stats.invalidations),
            ("proxy_cache_flushes", stats.flushes),
            ("proxy_cache_partitions", self.partitions.len() as u64),
        ];
        let mut links = self.partitions.links();
        links.extend_from_slice(self.own.links());
        if !links.is_empty() {
            let in_force = links.iter().all(|link| link.holds(now_ns).is_ok());
            let age_ns = links.iter().map(|link| link.sync_age_ns(now_ns)).max().unwrap_or(0);
            report.push(("proxy_coherence_in_force", u64::from(in_force)));
            report.push(("proxy_coherence_proven_ms_ago", age_ns / 1_000_000));
            let violations = links.iter().map(|link| link.counts.violations.load(Ordering::Relaxed)).sum();
            report.push(("proxy_coherence_violations", violations));
        }
        report
    }

    /// What Redis clients are promised and whether it is kept, as for an operator.
    pub(crate) fn standing(&self, now_ns: u64) -> Option<String> {
        self.partitions.standing(self.own.links(), now_ns)
    }

    /// Whether a connection's reads of a key are to be in the order of its writes.
    pub(crate) fn keeps_order(&self) -> bool {
        self.partitions.reads.linked.is_some()
    }

    /// The way of the HTTP front, to what concerns the whole cache.
    pub(crate) fn own(&self) -> &Rc<ReadThrough> {
        &self.own
    }
}
