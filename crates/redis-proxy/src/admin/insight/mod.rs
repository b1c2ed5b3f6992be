//! `/insight.json`: what an operator asks of a running program, as one object. What is not known is null and never left out.
//!
//! It is read anew for each that asks, on the admin thread; nothing of it is counted for its sake but what lies in [`recent`].

mod coherence;
mod lists;
mod query;
mod recent;
mod slow;
mod text;

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use sync::Mutex;

use self::coherence::CoherenceReport;
use self::lists::ListsReport;
pub(super) use self::lists::big_keys;
pub(super) use self::query::{COUNT, count_of};
use self::recent::{Latencies, RecentPast};
use self::slow::SlowLine;
use super::Watched;
use crate::budget::resident_bytes;
use crate::clock::now_ns;
use crate::failure::KINDS;
use crate::worker::clients;

/// What is asked for, with the little that it has to remember.
pub(super) struct Insight {
    watched: Watched,
    started_ns: u64,
    recent: Mutex<RecentPast>,
}

/// The object.
#[derive(Serialize)]
struct InsightReport {
    /// Since the epoch, by the wall clock.
    at_ms: u64,
    program: Program,
    totals: Totals,
    cache: CacheReport,
    clients: Clients,
    latency_us: Latencies,
    coherence: CoherenceReport,
    upstreams: Vec<UpstreamReport>,
    tracking_table: Option<TableReport>,
    sampling: Sampling,
    #[serde(flatten)]
    lists: ListsReport,
    slow_log: Vec<SlowLine>,
}

#[derive(Serialize)]
struct Program {
    version: &'static str,
    uptime_s: u64,
    workers: usize,
    resident_bytes: Option<u64>,
}

/// Since the start, of all partitions and fronts.
#[derive(Serialize)]
struct Totals {
    http_requests: u64,
    resp_commands: u64,
    hits: u64,
    misses: u64,
    /// Reads that joined another's fetch.
    coalesced: u64,
    evictions: u64,
    expirations: u64,
    invalidations: u64,
    /// Fetches that failed.
    errors: u64,
}

#[derive(Serialize)]
struct CacheReport {
    entries: u64,
    capacity: u64,
    /// What the entries are charged.
    bytes: u64,
    capacity_bytes: Option<u64>,
    negative_entries: u64,
}

/// Connections that hold a place, and those that wait for one.
#[derive(Serialize)]
struct Clients {
    http: usize,
    resp: usize,
    waiting: usize,
    max: usize,
}

#[derive(Serialize)]
struct UpstreamReport {
    address: String,
    connected: bool,
    why_not: Option<String>,
}

/// Keys that Redis remembers for those who track, and at most; 0 is without a limit, none where it does not say.
#[derive(Serialize)]
struct TableReport {
    keys: u64,
    limit: Option<u64>,
}

/// How the lists come about.
#[derive(Serialize)]
struct Sampling {
    /// One access in this many is looked at.
    one_in: u64,
    /// The time that rates are of.
    window_s: u64,
}

impl Insight {
    pub(super) fn new(watched: Watched) -> Self {
        Insight { watched, started_ns: now_ns(), recent: Mutex::default() }
    }

    /// Looks at the counters, for what is told of the last seconds. To be called once a second.
    pub(super) fn look(&self) {
        self.recent.lock().look(&self.watched, now_ns());
    }

    /// The object as JSON, with at most `count` lines of each list.
    pub(super) fn json(&self, count: usize) -> String {
        // Nothing of it can fail to be written: its keys are text, its numbers finite.
        serde_json::to_string(&self.report(count)).unwrap_or_default()
    }

    fn report(&self, count: usize) -> InsightReport {
        let (watched, now_ns) = (&self.watched, now_ns());
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut recent = self.recent.lock();
        recent.look(watched, now_ns);
        let cache = watched.store.stats(now_ns);
        InsightReport {
            at_ms: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
            program: Program {
                version: env!("CARGO_PKG_VERSION"),
                uptime_s: now_ns.saturating_sub(self.started_ns) / 1_000_000_000,
                workers: watched.workers.len(),
                resident_bytes: resident_bytes(),
            },
            totals: totals(watched, &cache),
            cache: CacheReport {
                entries: cache.entries,
                capacity: cache.capacity,
                bytes: cache.accounted_bytes,
                capacity_bytes: (cache.budget_bytes > 0).then_some(cache.budget_bytes),
                negative_entries: cache.negatives,
            },
            clients: clients_of(watched),
            latency_us: recent.latencies(),
            coherence: recent.coherence(watched, now_ns),
            upstreams: upstreams(watched),
            tracking_table: watched
                .nodes
                .tracking_table()
                .fill()
                .map(|fill| TableReport { keys: fill.keys, limit: fill.limit }),
            sampling: Sampling { one_in: lists::ONE_IN, window_s: lists::WINDOW_S },
            lists: ListsReport::of(watched, count),
            slow_log: watched.slow_log.latest(count, |_| true).into_iter().map(SlowLine::of).collect(),
        }
    }
}

fn totals(watched: &Watched, cache: &cache::Stats) -> Totals {
    let http_requests = watched.sum(|stats| {
        let answered = [&stats.hit_latency, &stats.miss_latency].map(|latency| latency.count());
        answered.iter().sum::<u64>() + stats.rejected.get()
    });
    let resp_commands = watched.workers.iter().map(|worker| worker.lane_stats.commands()).sum();
    let errors = watched.sum(|stats| (0..KINDS.len()).map(|kind| stats.failures(kind)).sum());
    Totals {
        http_requests,
        resp_commands,
        hits: cache.hits,
        misses: cache.misses,
        coalesced: cache.collapsed,
        evictions: cache.evictions,
        expirations: cache.expiries,
        invalidations: cache.invalidations,
        errors,
    }
}

fn clients_of(watched: &Watched) -> Clients {
    let resp = watched.registry.len();
    Clients {
        // The two are not read at one moment.
        http: clients(&watched.workers).saturating_sub(resp),
        resp,
        waiting: watched.door.waiting(),
        max: watched.door.most(),
    }
}

/// Where misses of the HTTP front travel, by its address; of several connections the one in trouble is told.
fn upstreams(watched: &Watched) -> Vec<UpstreamReport> {
    let mut seen: Vec<UpstreamReport> = Vec::new();
    for (address, trouble) in watched.workers.iter().flat_map(|worker| worker.read.connections()) {
        let at = seen.iter().position(|one| one.address == address).unwrap_or_else(|| {
            seen.push(UpstreamReport { address, connected: true, why_not: None });
            seen.len() - 1
        });
        if trouble.is_some() {
            (seen[at].connected, seen[at].why_not) = (false, trouble);
        }
    }
    seen
}
