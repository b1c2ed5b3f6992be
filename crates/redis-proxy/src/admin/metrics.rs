//! `/metrics`: the counters of the cache and of the workers, as Prometheus reads them.

mod cluster;
mod nodes;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::Watched;
use crate::budget::resident_bytes;
use crate::clock::now_ns;
use crate::failure::KINDS;
use crate::logging;
use crate::readthrough::{Link, LinkCounts};
use crate::stats::{BOUNDS_NS, Counter, Histogram, LaneStats, WorkerStats};
use crate::worker::clients;

const NANOS: f64 = 1e9;

/// A registry that reads everything anew at each scrape; nothing is counted twice.
pub(super) fn registry(watched: Watched) -> Registry {
    let mut registry = Registry::with_prefix("redis_proxy");
    registry.register_collector(Box::new(Reading(watched)));
    registry
}

struct Reading(Watched);

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reading")
    }
}

impl Reading {
    /// The links of both fronts.
    fn links(&self) -> Vec<Arc<Link>> {
        let mut links = self.0.links.now().to_vec();
        links.extend(self.0.partitions.links());
        links
    }

    /// What the workers count, and the threads of the links.
    fn all_stats(&self) -> impl Iterator<Item = Arc<WorkerStats>> {
        let workers = self.0.workers.iter().map(|worker| worker.stats.clone());
        workers.chain(self.links().into_iter().map(|link| link.stats.clone()))
    }

    /// A counter summed over them.
    fn sum(&self, of: impl Fn(&WorkerStats) -> u64) -> u64 {
        self.all_stats().map(|stats| of(&stats)).sum()
    }

    /// A counter summed over the links.
    fn sum_links(&self, of: impl Fn(&LinkCounts) -> &AtomicU64) -> u64 {
        self.links().iter().map(|link| of(&link.counts).load(Ordering::Relaxed)).sum()
    }

    /// The greatest of the links, nanoseconds to seconds.
    fn worst_link(&self, of: impl Fn(&Link) -> u64) -> f64 {
        self.links().iter().map(|link| of(link)).max().unwrap_or(0) as f64 / NANOS
    }

    /// How the modes `tracking` and `strict` fare; nothing where there is no link.
    fn coherence(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let links = self.links();
        if links.is_empty() {
            return Ok(());
        }
        let now_ns = now_ns();
        let in_force = links.iter().all(|link| link.holds(now_ns).is_ok());
        gauge(
            out,
            "coherence_in_force",
            "1 while the promise of the mode is kept by proof",
            in_force.into(),
        )?;
        let kept = links.iter().filter(|link| link.holds(now_ns).is_ok()).count() as u64;
        let by_state = [("in_force", kept), ("not_in_force", links.len() as u64 - kept)];
        gauges(
            out,
            "links",
            "Tracked links of all users and databases, by their promise",
            "state",
            &by_state,
        )?;
        counter(
            out,
            "coherence_violations",
            "Audited hits that were not what Redis held; must stay 0",
            self.sum_links(|counts| &counts.violations),
        )?;
        counter(
            out,
            "coherence_audits",
            "Hits read again and compared",
            self.sum_links(|counts| &counts.audits),
        )?;
        counter(
            out,
            "link_invalidations",
            "Keys that Redis named as changed",
            self.sum_links(|counts| &counts.invalidations),
        )?;
        counter(
            out,
            "link_flushes",
            "Invalidations of everything",
            self.sum_links(|counts| &counts.flushes),
        )?;
        counter(
            out,
            "link_barriers",
            "PINGs sent for strict and unproven reads",
            self.sum_links(|counts| &counts.barriers),
        )?;
        counter(
            out,
            "link_refills",
            "Entries of a lost link fetched anew while they were still served",
            self.sum_links(|counts| &counts.refills),
        )?;
        real(
            out,
            "link_sync_age_seconds",
            "Time since the instant up to which entries are proven; a hit needs it below MAX_STALENESS",
            self.worst_link(|link| link.sync_age_ns(now_ns)),
        )?;
        real(
            out,
            "link_round_trip_seconds",
            "Of the last heartbeat",
            self.worst_link(|link| link.counts.round_trip_ns.load(Ordering::Relaxed)),
        )?;
        real(
            out,
            "link_push_lag_seconds",
            "From the answer to the last canary's write to its invalidation",
            self.worst_link(|link| link.counts.push_lag_ns.load(Ordering::Relaxed)),
        )
    }

    /// A counter of the RESP front summed over the workers.
    fn lanes(&self, of: impl Fn(&LaneStats) -> &Counter) -> u64 {
        self.0.workers.iter().map(|worker| of(&worker.lane_stats).get()).sum()
    }

    fn encode_resp(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        gauge(out, "resp_clients", "Connected Redis clients", self.0.registry.len() as u64)?;
        let bounds = &self.0.bounds;
        let (pins, lanes) = (bounds.pins.taken() as u64, bounds.lanes.taken() as u64);
        gauge(out, "pinned_connections", "Connections to Redis that belong to one client each", pins)?;
        gauge(out, "open_lanes", "Connections to Redis that clients share", lanes)?;
        let known = bounds.known_lanes.taken() as u64;
        gauge(out, "known_lanes", "Such connections, and those that clients may ask for", known)?;
        let unread = bounds.unread.bytes() as u64;
        gauge(out, "resp_unread_bytes", "Replies that Redis clients have not read", unread)?;
        let commands = [
            ("cached", self.lanes(|stats| &stats.cached)),
            ("local", self.lanes(|stats| &stats.local)),
            ("shared", self.lanes(|stats| &stats.shared)),
            ("slow", self.lanes(|stats| &stats.slow)),
            ("pinned", self.lanes(|stats| &stats.pinned_commands)),
            ("tunnel", self.lanes(|stats| &stats.tunnels)),
        ];
        labelled(out, "resp_commands", "Commands of Redis clients, by their way", "lane", &commands)?;
        let links = [
            ("opened", self.lanes(|stats| &stats.lane_opens)),
            ("lost", self.lanes(|stats| &stats.lane_losses)),
            ("unreachable", self.lanes(|stats| &stats.lane_failures)),
            ("timed_out", self.lanes(|stats| &stats.lane_timeouts)),
        ];
        labelled(out, "lanes", "Shared connections to Redis, by what became of them", "event", &links)?;
        counter(
            out,
            "pin_opens",
            "Connections to Redis opened for one client each",
            self.lanes(|stats| &stats.pin_opens),
        )?;
        let errors = [
            ("lost", self.lanes(|stats| &stats.lost_clients)),
            ("unread", self.lanes(|stats| &stats.full_clients)),
            ("protocol", self.lanes(|stats| &stats.protocol_errors)),
        ];
        labelled(
            out,
            "resp_closed_clients",
            "Redis clients that the proxy closed, by reason",
            "reason",
            &errors,
        )
    }

    /// A histogram summed over the workers: count a bucket, sum in seconds.
    fn merged(&self, of: impl Fn(&WorkerStats) -> &Histogram) -> (Vec<(f64, u64)>, f64) {
        let bounds = BOUNDS_NS.iter().map(|ns| *ns as f64 / NANOS).chain([f64::INFINITY]);
        let mut buckets: Vec<_> = bounds.map(|bound| (bound, 0)).collect();
        let mut sum_ns = 0;
        for stats in self.all_stats() {
            let (counts, sum) = of(&stats).read();
            buckets.iter_mut().zip(counts).for_each(|(bucket, count)| bucket.1 += count);
            sum_ns += sum;
        }
        (buckets, sum_ns as f64 / NANOS)
    }
}

impl Collector for Reading {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let cache = self.0.store.stats(now_ns());
        let out = &mut encoder;
        labelled(
            out,
            "lookups",
            "Keys looked up, by result",
            "result",
            &[("hit", cache.hits), ("miss", cache.misses), ("collapsed", cache.collapsed)],
        )?;
        counter(
            out,
            "unproven_lookups",
            "Lookups that found an entry not proven as late as was needed",
            cache.unproven,
        )?;
        labelled(
            out,
            "fills",
            "Fetches answered, by what became of the answer",
            "outcome",
            &[
                ("stored", cache.stored),
                ("missing", cache.unkept_missing),
                ("failed", cache.unkept_failed),
                ("too_large", cache.unkept_too_large),
                ("expired", cache.unkept_expired),
                ("invalidated", cache.unkept_invalidated),
                ("flushed", cache.unkept_flushed),
                ("abandoned", cache.unkept_abandoned),
                ("unproven", cache.unkept_unproven),
                ("outdated", cache.unkept_outdated),
            ],
        )?;
        counter(out, "evictions", "Live entries that left for room", cache.evictions)?;
        counter(out, "expiries", "Entries that left for age", cache.expiries)?;
        counter(
            out,
            "invalidations",
            "Entries that left because their key was invalidated",
            cache.invalidations,
        )?;
        counter(out, "flushes", "Flushes of the whole cache", cache.flushes)?;
        gauge(out, "entries", "Entries held", cache.entries)?;
        gauge(out, "negative_entries", "Of them, keys known to have no value", cache.negatives)?;
        gauge(out, "other_replies", "Replies held beside the first of their key", cache.others)?;
        gauge(out, "capacity_entries", "Entries held at most", cache.capacity)?;
        gauge(out, "fills_in_flight", "Fetches on their way", cache.fills_in_flight)?;
        gauge(out, "accounted_bytes", "Bytes charged for entries, tables and lists", cache.accounted_bytes)?;
        let in_flight = "Bytes of values that are arriving, or held by clients and not by the cache";
        gauge(out, "in_flight_bytes", in_flight, cache.in_flight_bytes)?;
        let waiting = "Fetches that wait until there is room for what they bring";
        gauge(out, "fills_waiting", waiting, cache.waiting_for_room)?;
        gauge(out, "resident_bytes", "Resident size of the process", resident_bytes().unwrap_or(0))?;
        gauge(out, "budget_bytes", "CAPACITY_BYTES, 0 if none", cache.budget_bytes)?;
        gauge(
            out,
            "effective_budget_bytes",
            "Accounted bytes allowed now, so that the resident size keeps to the budget; 0 without one",
            cache.effective_budget_bytes,
        )?;
        real(
            out,
            "oldest_use_age_seconds",
            "Time since the last use of the entry that would be evicted next",
            cache.oldest_use_age_ns as f64 / NANOS,
        )?;
        gauge(out, "clients", "Connected clients that hold a place", clients(&self.0.workers) as u64)?;
        gauge(out, "waiting_clients", "Clients that wait for a place", self.0.door.waiting() as u64)?;
        counter(
            out,
            "redis_connects",
            "Connections to Redis made",
            self.sum(|worker| worker.connects.get()),
        )?;
        counter(
            out,
            "redis_disconnects",
            "Connections to Redis lost, and attempts that failed",
            self.sum(|worker| worker.disconnects.get()),
        )?;
        counter(
            out,
            "redis_retries",
            "Fetches sent again because their connection was lost",
            self.sum(|worker| worker.retries.get()),
        )?;
        let failures = KINDS
            .iter()
            .enumerate()
            .map(|(kind, name)| (*name, self.sum(|worker| worker.failures(kind))))
            .collect::<Vec<_>>();
        labelled(out, "errors", "Fetches that failed, by kind", "kind", &failures)?;
        counter(
            out,
            "rejected_requests",
            "Requests answered without a lookup: malformed, over a limit, not GET or HEAD, without a key",
            self.sum(|worker| worker.rejected.get()),
        )?;
        counter(
            out,
            "log_lines_dropped",
            "Log lines that did not fit the queue or could not be written",
            logging::dropped(),
        )?;
        self.coherence(out)?;
        match self.0.nodes.seen().cluster() {
            Some(cluster) => cluster::encode(cluster, &self.0, out)?,
            None => nodes::encode(self.0.nodes.seen(), out)?,
        }
        self.encode_resp(out)?;
        let (hits, hits_sum) = self.merged(|worker| &worker.hit_latency);
        let (misses, misses_sum) = self.merged(|worker| &worker.miss_latency);
        let mut request = out.encode_descriptor(
            "request_duration_seconds",
            "From a request read to its answer handed to the kernel (hit) or assembled (miss)",
            None,
            MetricType::Histogram,
        )?;
        histogram(request.encode_family(&[("result", "hit")])?, &hits, hits_sum)?;
        histogram(request.encode_family(&[("result", "miss")])?, &misses, misses_sum)?;
        let (redis, redis_sum) = self.merged(|worker| &worker.redis_latency);
        let redis_encoder = out.encode_descriptor(
            "redis_duration_seconds",
            "From a fetch queued to its reply read",
            None,
            MetricType::Histogram,
        )?;
        histogram(redis_encoder, &redis, redis_sum)
    }
}

fn counter(out: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    out.encode_descriptor(name, help, None, MetricType::Counter)?
        .encode_counter::<NoLabelSet, _, u64>(&value, None)
}

fn labelled(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    values: &[(&str, u64)],
) -> fmt::Result {
    let mut family = out.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (of, value) in values {
        family.encode_family(&[(label, *of)])?.encode_counter::<NoLabelSet, _, u64>(value, None)?;
    }
    Ok(())
}

/// Gauges of one name, told apart by a label.
fn gauges(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    values: &[(&str, u64)],
) -> fmt::Result {
    let mut family = out.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (of, value) in values {
        family.encode_family(&[(label, *of)])?.encode_gauge(value)?;
    }
    Ok(())
}

fn gauge(out: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    out.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
}

fn real(out: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    out.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
}

fn histogram(
    mut out: prometheus_client::encoding::MetricEncoder<'_>,
    buckets: &[(f64, u64)],
    sum: f64,
) -> fmt::Result {
    let count = buckets.iter().map(|bucket| bucket.1).sum();
    out.encode_histogram::<NoLabelSet>(sum, count, buckets, None)
}
