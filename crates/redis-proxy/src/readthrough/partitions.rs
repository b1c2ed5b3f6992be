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

/// The partitions of the process.
pub(crate) struct Partitions {
    store: Store,
    budget: Option<Arc<Budget>>,
    endpoint: Endpoint,
    max_inflight: usize,
    /// What links are to keep; none in mode `ttl`.
    linked: Option<LinkSettings>,
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
        max_inflight: usize,
        linked: Option<LinkSettings>,
    ) -> Arc<Self> {
        let mut known = Known::default();
        known.numbers.insert(Reader::of_endpoint(&endpoint), Partition::OWN);
        // A canary needs a user who may write; what it tries is the server, which is the same for all.
        let linked = linked.map(|settings| LinkSettings { canary_key: None, ..settings });
        Arc::new(Partitions { store, budget, endpoint, max_inflight, linked, known: Mutex::new(known) })
    }

    /// Ends the links of all but the first partition.
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
        let Some(partition) = Partition::new(known.numbers.len()) else {
            if !std::mem::replace(&mut known.told, true) {
                warn!(
                    most = Partition::COUNT,
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
        let Some(settings) = &self.linked else {
            let target = || Target::new(endpoint, self.max_inflight);
            let target = known.targets.entry(partition).or_insert_with(target).clone();
            drop(known);
            let (upstream, driver) = upstream::connect(&target);
            let sink = ReadThrough::sink(&upstream, stats, self.budget.clone());
            let driving = driver.run(sink).instrument(error_span!("reader", partition = partition.number()));
            spawn_local(vital::task("a reader's connection to redis", driving));
            return Some(Way::Own(upstream));
        };
        if let Some(links) = known.links.get(&partition) {
            return Some(Way::Linked(links.clone()));
        }
        let tracked = Target::tracked(endpoint.clone(), self.max_inflight);
        let plain = Target::new(endpoint, self.max_inflight);
        let start = |number| {
            LinkThread::start(number, &self.store, self.budget.as_ref(), &tracked, &plain, settings.clone())
        };
        match (0..settings.links).map(start).collect::<Result<Vec<_>, _>>() {
            Ok(started) => {
                let (links, threads): (Vec<_>, Vec<_>) = started.into_iter().unzip();
                let links: Arc<[Arc<Link>]> = links.into();
                known.links.insert(partition, links.clone());
                known.threads.extend(threads);
                Some(Way::Linked(links))
            }
            Err(error) => {
                error!(%error, "no link for another reader");
                None
            }
        }
    }
}

/// The ways of one worker to what each reader may see.
pub(crate) struct Readers {
    partitions: Arc<Partitions>,
    own: Rc<ReadThrough>,
    known: RefCell<HashMap<Reader, Option<Rc<ReadThrough>>>>,
}

impl Readers {
    /// Those of the worker whose own way is `own`.
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
        let way = match partition {
            Some(Partition::OWN) => Some(self.own.clone()),
            Some(partition) => {
                let way = self.partitions.way_of(partition, &reader, &self.own.stats);
                way.map(|way| Rc::new(ReadThrough { partition, way, ..(*self.own).clone() }))
            }
            None => None,
        };
        self.known.borrow_mut().insert(reader, way.clone());
        way
    }

    /// What the cache counts, and whether the mode's promise holds, by names for INFO.
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
        if let Way::Linked(links) = &self.own.way {
            let in_force = links.iter().all(|link| link.holds(now_ns).is_ok());
            let age_ns = links.iter().map(|link| link.sync_age_ns(now_ns)).max().unwrap_or(0);
            report.push(("proxy_coherence_in_force", u64::from(in_force)));
            report.push(("proxy_coherence_proven_ms_ago", age_ns / 1_000_000));
            let violations = links.iter().map(|link| link.counts.violations.load(Ordering::Relaxed)).sum();
            report.push(("proxy_coherence_violations", violations));
        }
        report
    }

    /// The way of the proxy's own user.
    pub(crate) fn own(&self) -> &Rc<ReadThrough> {
        &self.own
    }
}
