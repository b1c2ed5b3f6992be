//! What is told of the last seconds: counters as they were then, and since when the promise is as it is.

use std::collections::VecDeque;

use serde::Serialize;

use super::coherence::{self, CoherenceReport};
use crate::admin::Watched;
use crate::stats::{BOUNDS_NS, Histogram, WorkerStats};

/// The time that latencies are of.
const WINDOW_NS: u64 = 10_000_000_000;
/// A look that comes sooner after another is for nothing that the window needs.
const SHORTEST_NS: u64 = 900_000_000;
/// Looks that are remembered, at most: one a second, and the one before the window.
const MOST_LOOKS: usize = 12;

type Counts = [u64; BOUNDS_NS.len() + 1];

/// What is remembered: a look a second.
#[derive(Default)]
pub(super) struct RecentPast {
    looks: VecDeque<Look>,
    now: Option<Look>,
    /// Whether the promise was in force at the last look, and since when it has been so.
    promise: Option<(bool, u64)>,
}

#[derive(Clone)]
struct Look {
    at_ns: u64,
    hits: Counts,
    misses: Counts,
}

/// Of the last 10 s, as measured over HTTP.
#[derive(Serialize)]
pub(super) struct Latencies {
    hit: Quantiles,
    miss: Quantiles,
}

/// In microseconds, rounded up; none where nothing was measured. They are good to the width of a bucket of [`BOUNDS_NS`].
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Quantiles {
    p50: Option<u64>,
    p99: Option<u64>,
}

impl RecentPast {
    /// Looks at the counters as they are at `now_ns`.
    pub(super) fn look(&mut self, watched: &Watched, now_ns: u64) {
        let look = Look {
            at_ns: now_ns,
            hits: counts(watched, |stats| &stats.hit_latency),
            misses: counts(watched, |stats| &stats.miss_latency),
        };
        if self.looks.back().is_none_or(|last| now_ns.saturating_sub(last.at_ns) >= SHORTEST_NS) {
            self.looks.push_back(look.clone());
        }
        // The first one is the beginning of the window.
        let is_past = |look: Option<&Look>| look.is_some_and(|look| look.at_ns + WINDOW_NS <= now_ns);
        while self.looks.len() > MOST_LOOKS || is_past(self.looks.get(1)) {
            self.looks.pop_front();
        }
        self.now = Some(look);
        let in_force = coherence::holds(watched, now_ns).is_ok();
        if self.promise.is_none_or(|(before, _)| before != in_force) {
            self.promise = Some((in_force, now_ns));
        }
    }

    /// Of the window that ended with the last look.
    pub(super) fn latencies(&self) -> Latencies {
        let (first, last) = (self.looks.front(), self.now.as_ref());
        let of = |counts: fn(&Look) -> &Counts| match (first, last) {
            (Some(first), Some(last)) => quantiles(counts(first), counts(last)),
            _ => Quantiles::default(),
        };
        Latencies { hit: of(|look| &look.hits), miss: of(|look| &look.misses) }
    }

    /// The promise of the mode, and how long it has been as it is.
    pub(super) fn coherence(&self, watched: &Watched, now_ns: u64) -> CoherenceReport {
        let since_ns = self.promise.map_or(now_ns, |(_, since_ns)| since_ns);
        CoherenceReport::of(watched, now_ns, since_ns)
    }
}

/// Events a bucket, over all threads.
fn counts(watched: &Watched, of: impl Fn(&WorkerStats) -> &Histogram) -> Counts {
    let mut sum = [0; BOUNDS_NS.len() + 1];
    for stats in watched.all_stats() {
        sum.iter_mut().zip(of(&stats).read().0).for_each(|(sum, count)| *sum += count);
    }
    sum
}

fn quantiles(before: &Counts, after: &Counts) -> Quantiles {
    let mut between = [0; BOUNDS_NS.len() + 1];
    for (between, (before, after)) in between.iter_mut().zip(before.iter().zip(after)) {
        // A link that has ended takes its counters with it.
        *between = after.saturating_sub(*before);
    }
    Quantiles { p50: quantile(&between, 50), p99: quantile(&between, 99) }
}

/// The latency that so many percent of the events had at most, in microseconds: within a bucket they are taken to lie evenly.
fn quantile(counts: &Counts, percent: u64) -> Option<u64> {
    let total: u64 = counts.iter().sum();
    let mut rank = (total * percent).div_ceil(100);
    if rank == 0 {
        return None;
    }
    for (at, count) in counts.iter().enumerate() {
        if rank <= *count {
            let low = if at == 0 { 0 } else { BOUNDS_NS[at - 1] };
            // What is slower than all bounds is told as the last of them.
            let high = BOUNDS_NS.get(at).copied().unwrap_or(low);
            return Some((low + (high - low) * rank / count).div_ceil(1_000));
        }
        rank -= count;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(buckets: &[(usize, u64)]) -> Counts {
        let mut counts = [0; BOUNDS_NS.len() + 1];
        buckets.iter().for_each(|(at, count)| counts[*at] = *count);
        counts
    }

    #[test]
    fn quantiles_are_of_what_came_between_two_looks() {
        // Up to 1 us, up to 2 us, up to 5 us, ...
        let (before, after) = (counts(&[(0, 7), (3, 5)]), counts(&[(0, 7), (1, 50), (3, 54), (4, 1)]));
        assert_eq!(quantiles(&before, &after), Quantiles { p50: Some(2), p99: Some(10) });
        assert_eq!(quantiles(&before, &before), Quantiles::default());
        let slow = counts(&[(BOUNDS_NS.len(), 1)]);
        assert_eq!(
            quantiles(&counts(&[]), &slow),
            Quantiles { p50: Some(10_000_000), p99: Some(10_000_000) }
        );
        // A counter that went back.
        assert_eq!(quantiles(&after, &before), Quantiles::default());
    }

    #[test]
    fn within_a_bucket_events_lie_evenly() {
        let counts = counts(&[(6, 100)]);
        assert_eq!(quantile(&counts, 50), Some(75));
        assert_eq!(quantile(&counts, 100), Some(100));
    }
}
