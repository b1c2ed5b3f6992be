//! `/insight.json` of the admin port, as it is read: docs/operations.md says what is in it.
//!
//! A field that is missing is as one that is null: nothing is known of it. So an older program, or a newer one, is read too.

use serde_json::Value;

/// All of it that is shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ProgramState {
    pub(crate) at_ms: Option<u64>,
    pub(crate) version: Option<String>,
    pub(crate) uptime_s: Option<u64>,
    pub(crate) workers: Option<u64>,
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) totals: ProgramTotals,
    pub(crate) entries: Option<u64>,
    pub(crate) negative_entries: Option<u64>,
    pub(crate) capacity: Option<u64>,
    pub(crate) bytes: Option<u64>,
    pub(crate) capacity_bytes: Option<u64>,
    pub(crate) http_clients: Option<u64>,
    pub(crate) resp_clients: Option<u64>,
    pub(crate) waiting: Option<u64>,
    pub(crate) max_clients: Option<u64>,
    pub(crate) hit_us: Quantiles,
    pub(crate) miss_us: Quantiles,
    pub(crate) coherence: PromiseState,
    pub(crate) upstreams: Vec<UpstreamState>,
    /// Keys in Redis' tracking table, and the most there may be; a limit of 0 is none.
    pub(crate) tracking_table: Option<(u64, u64)>,
    pub(crate) hot_keys: Vec<ShownKey>,
    pub(crate) hot_misses: Vec<ShownMiss>,
    pub(crate) prefixes: Vec<ShownPrefix>,
    pub(crate) slow_log: Vec<ShownSlow>,
}

/// A key that is read often.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ShownKey {
    pub(crate) key: String,
    pub(crate) partition: Option<u64>,
    pub(crate) reads_per_s: Option<f64>,
    /// The standard error of the rate, which is told from samples.
    pub(crate) error_per_s: Option<f64>,
    /// Of all reads, 0 to 1.
    pub(crate) share: Option<f64>,
    pub(crate) hit_ratio: Option<f64>,
    pub(crate) bytes: Option<u64>,
    /// Until it is too old.
    pub(crate) left_ms: Option<u64>,
}

/// A key that is asked for and not there.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ShownMiss {
    pub(crate) key: String,
    pub(crate) partition: Option<u64>,
    pub(crate) reason: Option<String>,
    pub(crate) misses_per_s: Option<f64>,
    pub(crate) error_per_s: Option<f64>,
}

/// Keys that begin alike.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ShownPrefix {
    pub(crate) prefix: String,
    pub(crate) reads_per_s: Option<f64>,
    pub(crate) error_per_s: Option<f64>,
    pub(crate) hit_ratio: Option<f64>,
    pub(crate) bytes: Option<u64>,
    pub(crate) invalidations_per_s: Option<f64>,
}

/// A command that took long, microseconds each.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ShownSlow {
    pub(crate) at_ms: Option<u64>,
    pub(crate) total_us: Option<u64>,
    pub(crate) queued_us: Option<u64>,
    pub(crate) redis_us: Option<u64>,
    pub(crate) delivered_us: Option<u64>,
    pub(crate) client: Option<String>,
    pub(crate) arguments: Vec<String>,
}

/// Counted since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProgramTotals {
    pub(crate) http_requests: Option<u64>,
    pub(crate) resp_commands: Option<u64>,
    pub(crate) hits: Option<u64>,
    pub(crate) misses: Option<u64>,
    pub(crate) coalesced: Option<u64>,
    pub(crate) evictions: Option<u64>,
    pub(crate) expirations: Option<u64>,
    pub(crate) invalidations: Option<u64>,
    pub(crate) errors: Option<u64>,
}

/// Microseconds of the last ten seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Quantiles {
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
}

/// What a hit promises, and whether that holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PromiseState {
    pub(crate) mode: Option<String>,
    pub(crate) in_force: Option<bool>,
    pub(crate) why_not: Option<String>,
    pub(crate) since_s: Option<u64>,
}

/// A Redis behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UpstreamState {
    pub(crate) address: String,
    pub(crate) connected: Option<bool>,
    pub(crate) why_not: Option<String>,
}

impl ProgramState {
    /// # Errors
    /// It is not this JSON: for people.
    pub(crate) fn parse(json: &str) -> Result<ProgramState, String> {
        let all: Value =
            serde_json::from_str(json).map_err(|_| "the answer is no JSON: is this the admin port?")?;
        if !all["program"].is_object() {
            return Err("the answer is JSON of something else: is this the admin port?".into());
        }
        let (program, cache, clients) = (&all["program"], &all["cache"], &all["clients"]);
        Ok(ProgramState {
            at_ms: number(&all["at_ms"]),
            version: text(&program["version"]),
            uptime_s: number(&program["uptime_s"]),
            workers: number(&program["workers"]),
            resident_bytes: number(&program["resident_bytes"]),
            totals: ProgramTotals::of(&all["totals"]),
            entries: number(&cache["entries"]),
            negative_entries: number(&cache["negative_entries"]),
            capacity: number(&cache["capacity"]),
            bytes: number(&cache["bytes"]),
            capacity_bytes: number(&cache["capacity_bytes"]),
            http_clients: number(&clients["http"]),
            resp_clients: number(&clients["resp"]),
            waiting: number(&clients["waiting"]),
            max_clients: number(&clients["max"]),
            hit_us: Quantiles::of(&all["latency_us"]["hit"]),
            miss_us: Quantiles::of(&all["latency_us"]["miss"]),
            coherence: PromiseState::of(&all["coherence"]),
            upstreams: list(&all["upstreams"]).iter().map(UpstreamState::of).collect(),
            tracking_table: number(&all["tracking_table"]["keys"])
                .map(|keys| (keys, number(&all["tracking_table"]["limit"]).unwrap_or(0))),
            hot_keys: list(&all["hot_keys"]).iter().map(ShownKey::of).collect(),
            hot_misses: list(&all["hot_misses"]).iter().map(ShownMiss::of).collect(),
            prefixes: list(&all["prefixes"]).iter().map(ShownPrefix::of).collect(),
            slow_log: list(&all["slow_log"]).iter().map(ShownSlow::of).collect(),
        })
    }
}

impl ProgramTotals {
    fn of(totals: &Value) -> ProgramTotals {
        ProgramTotals {
            http_requests: number(&totals["http_requests"]),
            resp_commands: number(&totals["resp_commands"]),
            hits: number(&totals["hits"]),
            misses: number(&totals["misses"]),
            coalesced: number(&totals["coalesced"]),
            evictions: number(&totals["evictions"]),
            expirations: number(&totals["expirations"]),
            invalidations: number(&totals["invalidations"]),
            errors: number(&totals["errors"]),
        }
    }
}

impl Quantiles {
    fn of(quantiles: &Value) -> Quantiles {
        Quantiles { p50: quantiles["p50"].as_f64(), p99: quantiles["p99"].as_f64() }
    }
}

impl PromiseState {
    fn of(coherence: &Value) -> PromiseState {
        PromiseState {
            mode: text(&coherence["mode"]),
            in_force: coherence["in_force"].as_bool(),
            why_not: text(&coherence["why_not"]),
            since_s: number(&coherence["since_s"]),
        }
    }
}

impl UpstreamState {
    fn of(upstream: &Value) -> UpstreamState {
        UpstreamState {
            address: text(&upstream["address"]).unwrap_or_default(),
            connected: upstream["connected"].as_bool(),
            why_not: text(&upstream["why_not"]),
        }
    }
}

impl ShownKey {
    fn of(key: &Value) -> ShownKey {
        ShownKey {
            key: text(&key["key"]).unwrap_or_default(),
            partition: number(&key["partition"]),
            reads_per_s: key["reads_per_s"].as_f64(),
            error_per_s: key["error_per_s"].as_f64(),
            share: key["share"].as_f64(),
            hit_ratio: key["hit_ratio"].as_f64(),
            bytes: number(&key["bytes"]),
            left_ms: number(&key["left_ms"]),
        }
    }
}

impl ShownMiss {
    fn of(miss: &Value) -> ShownMiss {
        ShownMiss {
            key: text(&miss["key"]).unwrap_or_default(),
            partition: number(&miss["partition"]),
            reason: text(&miss["reason"]),
            misses_per_s: miss["misses_per_s"].as_f64(),
            error_per_s: miss["error_per_s"].as_f64(),
        }
    }
}

impl ShownPrefix {
    fn of(prefix: &Value) -> ShownPrefix {
        ShownPrefix {
            prefix: text(&prefix["prefix"]).unwrap_or_default(),
            reads_per_s: prefix["reads_per_s"].as_f64(),
            error_per_s: prefix["error_per_s"].as_f64(),
            hit_ratio: prefix["hit_ratio"].as_f64(),
            bytes: number(&prefix["bytes"]),
            invalidations_per_s: prefix["invalidations_per_s"].as_f64(),
        }
    }
}

impl ShownSlow {
    fn of(slow: &Value) -> ShownSlow {
        ShownSlow {
            at_ms: number(&slow["at_ms"]),
            total_us: number(&slow["total_us"]),
            queued_us: number(&slow["queued_us"]),
            redis_us: number(&slow["redis_us"]),
            delivered_us: number(&slow["delivered_us"]),
            client: text(&slow["client"]),
            arguments: list(&slow["arguments"]).iter().filter_map(text).collect(),
        }
    }
}

/// None of what is negative or has a fraction.
fn number(value: &Value) -> Option<u64> {
    value.as_u64()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A made-up program's.
    pub(crate) const EXAMPLE: &str = r#"{
        "at_ms": 1764500000000,
        "program": {"version": "0.1.0", "uptime_s": 11530, "workers": 2, "resident_bytes": 47185920},
        "totals": {"http_requests": 120345, "resp_commands": 678, "hits": 98000, "misses": 2000, "coalesced": 34,
                   "evictions": 12, "expirations": 340, "invalidations": 56, "errors": 0},
        "cache": {"entries": 1234, "capacity": 100000, "bytes": 1048576, "capacity_bytes": null, "negative_entries": 3},
        "clients": {"http": 3, "resp": 4, "waiting": 0, "max": 10000},
        "latency_us": {"hit": {"p50": 12, "p99": 40.5}, "miss": {"p50": null, "p99": null}},
        "coherence": {"mode": "tracking", "in_force": false, "why_not": "a link is\u001b[2J lost", "since_s": 12},
        "upstreams": [{"address": "127.0.0.1:6379", "connected": true, "why_not": null}],
        "tracking_table": {"keys": 900, "limit": 1000000},
        "sampling": {"one_in": 64, "window_s": 10}
    }"#;

    /// The same with lists.
    pub(crate) const LISTS: &str = r#"{
        "at_ms": 1764500010000,
        "program": {"version": "0.1.0", "uptime_s": 11532, "workers": 2, "resident_bytes": 47185920},
        "totals": {"http_requests": 120345, "resp_commands": 678, "hits": 98000, "misses": 2000, "coalesced": 34,
                   "evictions": 12, "expirations": 340, "invalidations": 56, "errors": 0},
        "cache": {"entries": 1234, "capacity": 100000, "bytes": 1048576, "capacity_bytes": 67108864, "negative_entries": 3},
        "clients": {"http": 3, "resp": 4, "waiting": 0, "max": 10000},
        "latency_us": {"hit": {"p50": 12, "p99": 40.5}, "miss": {"p50": null, "p99": null}},
        "coherence": {"mode": "tracking", "in_force": false, "why_not": "a link is\u001b[2J lost", "since_s": 12},
        "upstreams": [{"address": "127.0.0.1:6379", "connected": true, "why_not": null}],
        "tracking_table": null,
        "hot_keys": [
            {"key": "a:1", "partition": 0, "reads_per_s": 50.5, "error_per_s": 1.5, "share": 0.05, "hit_ratio": 1.0, "bytes": 12, "left_ms": 900},
            {"key": "b\u001b[2J\u202e", "partition": 1, "reads_per_s": 900.0, "error_per_s": 9.0, "share": 0.9, "hit_ratio": 0.5, "bytes": 2048,
             "left_ms": null},
            {"key": "c", "partition": null, "reads_per_s": null, "error_per_s": null, "share": null, "hit_ratio": null, "bytes": null, "left_ms": null}],
        "hot_misses": [
            {"key": "m", "partition": 0, "reason": "first", "misses_per_s": 7.0, "error_per_s": 1.0},
            {"key": "n", "partition": 0, "reason": "evicted", "misses_per_s": 3.0, "error_per_s": 1.0}],
        "prefixes": [
            {"prefix": "user:", "reads_per_s": 500.0, "error_per_s": 5.0, "hit_ratio": 0.9, "bytes": 4096, "invalidations_per_s": 0.0},
            {"prefix": "item:", "reads_per_s": 100.0, "error_per_s": 2.0, "hit_ratio": 0.1, "bytes": 40, "invalidations_per_s": 8.5}],
        "slow_log": [
            {"id": 1, "at_ms": 1764500000000, "total_us": 25000, "queued_us": 5, "redis_us": 24000, "delivered_us": 995, "client": "127.0.0.1:5",
             "arguments": ["GET", "k"]},
            {"id": 2, "at_ms": 1764500009000, "total_us": 11000, "queued_us": 5, "redis_us": 10000, "delivered_us": 995, "client": null,
             "arguments": ["MGET", "a", "b"]}]
    }"#;

    #[test]
    fn what_is_null_or_missing_is_not_known() {
        let insight = ProgramState::parse(EXAMPLE).unwrap();
        assert_eq!((insight.uptime_s, insight.capacity_bytes), (Some(11_530), None));
        assert_eq!(
            (insight.totals.hits, insight.hit_us.p99, insight.miss_us.p50),
            (Some(98_000), Some(40.5), None)
        );
        assert_eq!(insight.tracking_table, Some((900, 1_000_000)));
        let bare = ProgramState::parse(r#"{"program": {}, "upstreams": 5, "tracking_table": null}"#).unwrap();
        assert_eq!(bare, ProgramState::default());
        for other in ["", "ready", "[]", "{}", "5", r#"{"program": 5}"#] {
            assert!(ProgramState::parse(other).is_err(), "{other}");
        }
    }
}
