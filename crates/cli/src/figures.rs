//! Numbers as people read them.

use std::time::Duration;

use crate::insight::{ProgramState, PromiseState, Quantiles, UpstreamState};
use crate::printable;

/// What stands for a number that is not known.
pub(crate) const UNKNOWN: &str = "-";

/// All numbers of a program, a line each subject.
pub(crate) fn table(insight: &ProgramState) -> String {
    let totals = &insight.totals;
    let mut rows = vec![
        ("program", program(insight)),
        (
            "requests",
            format!("{} HTTP, {} of Redis clients", count(totals.http_requests), count(totals.resp_commands)),
        ),
        ("hits", hits(insight)),
        ("cache", cache(insight)),
        (
            "left it",
            format!(
                "evicted {}, expired {}, invalidated {}",
                count(totals.evictions),
                count(totals.expirations),
                count(totals.invalidations)
            ),
        ),
        ("errors", count(totals.errors)),
        ("clients", clients(insight)),
        (
            "latency",
            format!("over HTTP: hit {}; miss {}", quantiles(&insight.hit_us), quantiles(&insight.miss_us)),
        ),
        ("coherence", coherence(&insight.coherence)),
    ];
    rows.extend(insight.upstreams.iter().map(|upstream| ("redis", redis(upstream))));
    rows.extend(insight.tracking_table.map(|table| ("tracking", tracking(table))));
    rows.iter().map(|(name, text)| format!("{name:11}{}\n", printable::line(text.as_bytes()))).collect()
}

fn program(insight: &ProgramState) -> String {
    format!(
        "{}, up {}, {} workers, {} resident",
        insight.version.as_deref().unwrap_or(UNKNOWN),
        seconds(insight.uptime_s),
        count(insight.workers),
        bytes(insight.resident_bytes)
    )
}

fn hits(insight: &ProgramState) -> String {
    let totals = &insight.totals;
    format!(
        "{} ({} hits, {} misses, {} coalesced)",
        percent(ratio(totals.hits, totals.misses)),
        count(totals.hits),
        count(totals.misses),
        count(totals.coalesced)
    )
}

fn cache(insight: &ProgramState) -> String {
    let most_bytes =
        insight.capacity_bytes.map_or(String::new(), |most| format!(" of {}", bytes(Some(most))));
    format!(
        "{} of {} keys, {}{most_bytes}, {} that Redis does not have",
        count(insight.entries),
        count(insight.capacity),
        bytes(insight.bytes),
        count(insight.negative_entries)
    )
}

fn clients(insight: &ProgramState) -> String {
    format!(
        "{} HTTP, {} Redis, {} waiting, {} at most",
        count(insight.http_clients),
        count(insight.resp_clients),
        count(insight.waiting),
        count(insight.max_clients)
    )
}

fn quantiles(quantiles: &Quantiles) -> String {
    format!("p50 {}, p99 {}", micros(quantiles.p50), micros(quantiles.p99))
}

/// The promise, and since when it holds or does not.
pub(crate) fn coherence(coherence: &PromiseState) -> String {
    let mode = coherence.mode.as_deref().unwrap_or(UNKNOWN);
    let since = coherence.since_s.map_or(String::new(), |since| format!(" for {}", seconds(Some(since))));
    match (coherence.in_force, &coherence.why_not) {
        (None, _) => mode.to_owned(),
        (Some(true), _) => format!("{mode}, in force{since}"),
        (Some(false), Some(why)) => format!("{mode}, NOT in force{since}: {why}"),
        (Some(false), None) => format!("{mode}, NOT in force{since}"),
    }
}

/// A Redis and whether it is there.
pub(crate) fn redis(upstream: &UpstreamState) -> String {
    let why = upstream.why_not.as_ref().map_or(String::new(), |why| format!(": {why}"));
    match upstream.connected {
        Some(true) => format!("{} connected", upstream.address),
        Some(false) => format!("{} NOT connected{why}", upstream.address),
        None => upstream.address.clone(),
    }
}

/// How full Redis' table is.
pub(crate) fn tracking((keys, limit): (u64, u64)) -> String {
    match limit {
        0 => format!("{} keys in the table of Redis", count(Some(keys))),
        _ => format!("{} of {} keys in the table of Redis", count(Some(keys)), count(Some(limit))),
    }
}

/// A part of all; none where nothing was counted.
pub(crate) fn ratio(part: Option<u64>, rest: Option<u64>) -> Option<f64> {
    let (part, rest) = (part? as f64, rest? as f64);
    (part + rest > 0.0).then(|| part / (part + rest))
}

/// `12,345`.
pub(crate) fn count(number: Option<u64>) -> String {
    number.map_or(UNKNOWN.into(), |number| grouped(&number.to_string()))
}

fn grouped(digits: &str) -> String {
    let groups = digits.bytes().enumerate().map(|(at, digit)| {
        let comma = if at > 0 && (digits.len() - at).is_multiple_of(3) { "," } else { "" };
        format!("{comma}{}", char::from(digit))
    });
    groups.collect()
}

/// `1.5MiB`.
pub(crate) fn bytes(number: Option<u64>) -> String {
    let Some(number) = number else { return UNKNOWN.into() };
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.iter().find(|(shift, _)| number >= 1 << shift) {
        Some((shift, unit)) => format!("{:.1}{unit}", number as f64 / (1_u64 << shift) as f64),
        None => format!("{number}B"),
    }
}

/// A rate, or its error: with a place behind the point below a thousand.
pub(crate) fn rate(per_s: Option<f64>) -> String {
    match per_s {
        Some(rate) if rate.is_finite() && (0.0..999.95).contains(&rate) => format!("{rate:.1}"),
        Some(rate) if (0.0..1e15).contains(&rate) => grouped(&format!("{rate:.0}")),
        _ => UNKNOWN.into(),
    }
}

/// `900ms`, `12s`, `3h12m`.
pub(crate) fn millis(number: Option<u64>) -> String {
    match number {
        Some(number) if number < 1000 => format!("{number}ms"),
        number => seconds(number.map(|number| number / 1000)),
    }
}

/// `98.2%`.
pub(crate) fn percent(ratio: Option<f64>) -> String {
    ratio.map_or(UNKNOWN.into(), |ratio| format!("{:.1}%", ratio * 100.0))
}

/// `3h12m`: the two largest units.
pub(crate) fn seconds(number: Option<u64>) -> String {
    let Some(number) = number else { return UNKNOWN.into() };
    let (days, hours, minutes) = (number / 86_400, number / 3600 % 24, number / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{number}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", number % 60),
        (0, _, _) => format!("{hours}h{minutes:02}m"),
        _ => format!("{days}d{hours:02}h"),
    }
}

/// `12us`, `1.2ms`.
pub(crate) fn micros(number: Option<f64>) -> String {
    let Some(time) = number.and_then(|micros| Duration::try_from_secs_f64(micros / 1e6).ok()) else {
        return UNKNOWN.into();
    };
    match time.as_secs_f64() {
        time if time < 0.001 => format!("{:.0}us", time * 1e6),
        time if time < 1.0 => format!("{:.1}ms", time * 1e3),
        time => format!("{time:.1}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::insight::tests::EXAMPLE;

    #[test]
    fn numbers_are_short_and_have_units() {
        assert_eq!([0, 999, 1000, 1_234_567].map(|n| count(Some(n))), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 1023, 1536, 3 << 30].map(|n| bytes(Some(n))), ["0B", "1023B", "1.5KiB", "3.0GiB"]);
        assert_eq!([5, 65, 3661, 90_000].map(|n| seconds(Some(n))), ["5s", "1m05s", "1h01m", "1d01h"]);
        assert_eq!([12.4, 1234.0, 2.5e6].map(|n| micros(Some(n))), ["12us", "1.2ms", "2.5s"]);
        assert_eq!([0.0, 999.9, 1234.6, -1.0].map(|n| rate(Some(n))), ["0.0", "999.9", "1,235", UNKNOWN]);
        assert_eq!([900, 12_000].map(|n| millis(Some(n))), ["900ms", "12s"]);
        assert_eq!([count(None), bytes(None), seconds(None), micros(Some(f64::NAN))], [UNKNOWN; 4]);
        assert_eq!([percent(ratio(Some(3), Some(1))), percent(ratio(Some(0), Some(0)))], ["75.0%", UNKNOWN]);
    }

    #[test]
    fn a_table_has_a_line_a_subject_and_no_control_character() {
        let table = table(&ProgramState::parse(EXAMPLE).unwrap());
        let expected = "\
program    0.1.0, up 3h12m, 2 workers, 45.0MiB resident
requests   120,345 HTTP, 678 of Redis clients
hits       98.0% (98,000 hits, 2,000 misses, 34 coalesced)
cache      1,234 of 100,000 keys, 1.0MiB, 3 that Redis does not have
left it    evicted 12, expired 340, invalidated 56
errors     0
clients    3 HTTP, 4 Redis, 0 waiting, 10,000 at most
latency    over HTTP: hit p50 12us, p99 40us; miss p50 -, p99 -
coherence  tracking, NOT in force for 12s: a link is\\x1b[2J lost
redis      127.0.0.1:6379 connected
tracking   900 of 1,000,000 keys in the table of Redis
";
        assert_eq!(table, expected);
    }
}
