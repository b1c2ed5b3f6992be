//! `/metrics`: the counters of the cache and of the workers, as Prometheus reads them.

mod cluster;
mod nodes;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::Watched;
use crate::budget::resident_bytes;
use crate::clock::now_ns;
use crate::failure::KINDS;
use crate::logging;
use crate::readthrough::{Link, LinkCounts, purge_counts};
use crate::stats::{BOUNDS_NS, Counter, Histogram, LaneStats, TlsOutcome, WorkerStats};
use crate::worker::clients;

const NANOS: f64 = 1e9;

/// A registry that reads everything anew at each scrape; nothing is counted twice.
pub(super) fn registry(watched: Watched) -> Registry {
    let mut registry = Registry::with_prefix("redis_proxy");
    let started_at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    registry.register_collector(Box::new(Reading(watched, started_at)));
    registry
}

/// And when the program began to be watched, in seconds since the epoch.
struct Reading(Watched, f64);

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reading")
    }
}

impl Reading {
    /// A counter summed over the links.
    fn sum_links(&self, of: impl Fn(&LinkCounts) -> &AtomicU64) -> u64 {
        self.0.all_links().iter().map(|link| of(&link.counts).load(Ordering::Relaxed)).sum()
    }

    /// The greatest of the links, nanoseconds to seconds.
    fn worst_link(&self, of: impl Fn(&Link) -> u64) -> f64 {
        self.0.all_links().iter().map(|link| of(link)).max().unwrap_or(0) as f64 / NANOS
    }

    /// How the modes `tracking` and `strict` fare; nothing where there is no link.
    fn coherence(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let links = self.0.all_links();
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
    /// What looking for what is hot takes of the process.
    fn insight_bytes(&self) -> u64 {
        (self.0.partitions.samples().bytes() + self.0.store.absence_bytes()) as u64
    }

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
        for stats in self.0.all_stats() {
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
            "purges",
            "What operators had leave the cache, by what they named, and prefixes that were refused",
            "what",
            &purge_counts(),
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
        counter(out, "purged_entries", "Entries that left because their prefix was purged", cache.purged)?;
        gauge(out, "live_purges", "Purged prefixes that lookups go by", cache.live_purges)?;
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
        let of_lists = "Bytes of the lists of what is hot, and of the memory of why keys are not held";
        gauge(out, "insight_bytes", of_lists, self.insight_bytes())?;
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
        gauge(out, "max_clients", "Clients that hold a place at most", self.0.door.most() as u64)?;
        gauge(out, "waiting_clients", "Clients that wait for a place", self.0.door.waiting() as u64)?;
        let handshakes =
            TlsOutcome::ALL.map(|(outcome, name)| (name, self.0.sum(|worker| worker.tls(outcome))));
        labelled(
            out,
            "tls_handshakes",
            "Handshakes with clients, by how they ended",
            "outcome",
            &handshakes,
        )?;
        counter(
            out,
            "redis_connects",
            "Connections to Redis made",
            self.0.sum(|worker| worker.connects.get()),
        )?;
        counter(
            out,
            "redis_disconnects",
            "Connections to Redis lost, and attempts that failed",
            self.0.sum(|worker| worker.disconnects.get()),
        )?;
        counter(
            out,
            "redis_retries",
            "Fetches sent again because their connection was lost",
            self.0.sum(|worker| worker.retries.get()),
        )?;
        let failures = KINDS
            .iter()
            .enumerate()
            .map(|(kind, name)| (*name, self.0.sum(|worker| worker.failures(kind))))
            .collect::<Vec<_>>();
        labelled(out, "errors", "Fetches that failed, by kind", "kind", &failures)?;
        counter(
            out,
            "rejected_requests",
            "Requests answered without a lookup: malformed, over a limit, not GET or HEAD, without a key",
            self.0.sum(|worker| worker.rejected.get()),
        )?;
        counter(
            out,
            "log_lines_dropped",
            "Log lines that did not fit the queue or could not be written",
            logging::dropped(),
        )?;
        real(out, "start_time_seconds", "When the program started, in seconds since the epoch", self.1)?;
        self.coherence(out)?;
        if let Some(fill) = self.0.nodes.tracking_table().fill() {
            gauge(out, "tracking_table_keys", "Keys that Redis remembers for those who track", fill.keys)?;
            if let Some(limit) = fill.limit {
                gauge(out, "tracking_table_max_keys", "The most of them, 0 without a limit", limit)?;
            }
        }
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
