//! Counters and latency histograms of one worker. Written by that worker alone, read by the admin thread.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::failure::{Failure, KINDS};

/// A counter with one writer: an add is a load and a store, no locked instruction.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// Upper bounds of the latency buckets in nanoseconds: 1, 2, 5 a decade from 1 us to 10 s.
pub(crate) const BOUNDS_NS: [u64; 22] = {
    let mut bounds = [0; 22];
    let mut decade = 1_000;
    let mut i = 0;
    while i < 22 {
        bounds[i] = decade * [1, 2, 5][i % 3];
        if i % 3 == 2 {
            decade *= 10;
        }
        i += 1;
    }
    bounds
};

/// A latency histogram over [`BOUNDS_NS`], with one more bucket for what is slower.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [Counter; BOUNDS_NS.len() + 1],
    sum_ns: Counter,
}

impl Histogram {
    /// Counts `n` events of the same latency.
    pub(crate) fn record(&self, latency_ns: u64, n: u64) {
        let bucket = BOUNDS_NS.iter().position(|bound| latency_ns <= *bound).unwrap_or(BOUNDS_NS.len());
        self.buckets[bucket].add(n);
        self.sum_ns.add(latency_ns.saturating_mul(n));
    }

    /// All events.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().map(Counter::get).sum()
    }

    /// Events a bucket, and the sum of their latencies in nanoseconds.
    pub(crate) fn read(&self) -> ([u64; BOUNDS_NS.len() + 1], u64) {
        let mut buckets = [0; BOUNDS_NS.len() + 1];
        for (read, bucket) in buckets.iter_mut().zip(&self.buckets) {
            *read = bucket.get();
        }
        (buckets, self.sum_ns.get())
    }
}

/// How a handshake of TLS with a client ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsOutcome {
    Done,
    /// What came was not TLS.
    Plain,
    /// The two do not agree, or the client's certificate is none of ours.
    Refused,
    /// The client has left.
    Left,
    /// HEAD_TIMEOUT has passed.
    Late,
    /// It was the oldest of too many.
    Crowded,
}

impl TlsOutcome {
    pub(crate) const ALL: [(TlsOutcome, &str); 6] = [
        (TlsOutcome::Done, "done"),
        (TlsOutcome::Plain, "plain"),
        (TlsOutcome::Refused, "refused"),
        (TlsOutcome::Left, "left"),
        (TlsOutcome::Late, "late"),
        (TlsOutcome::Crowded, "crowded"),
    ];
}

/// What one worker counts. Lookups, fills and evictions are counted by the cache itself.
#[derive(Debug, Default)]
pub(crate) struct WorkerStats {
    /// From the request's last byte read to its answer handed to the kernel, for hits.
    pub(crate) hit_latency: Histogram,
    /// From the request's last byte read to its answer assembled, for those that waited for Redis.
    pub(crate) miss_latency: Histogram,
    /// From a GET queued to its reply read.
    pub(crate) redis_latency: Histogram,
    /// Handshakes of TLS by [`TlsOutcome`].
    tls: [Counter; TlsOutcome::ALL.len()],
    /// Failed fills by [`KINDS`].
    failures: [Counter; KINDS.len()],
    /// Requests answered without a lookup: refusals, OPTIONS, `/` without a key.
    pub(crate) rejected: Counter,
    /// Connections to Redis made.
    pub(crate) connects: Counter,
    /// Connections to Redis lost, and attempts that failed.
    pub(crate) disconnects: Counter,
    /// Fetches sent a second time because their connection was lost.
    pub(crate) retries: Counter,
    /// Hits since the last one that was chosen by [`one_hit_in`](WorkerStats::one_hit_in).
    unchosen: Counter,
}

impl WorkerStats {
    /// A handshake has ended.
    pub(crate) fn count_tls(&self, outcome: TlsOutcome) {
        self.tls[outcome as usize].add(1);
    }

    /// How many have ended so.
    pub(crate) fn tls(&self, outcome: TlsOutcome) -> u64 {
        self.tls[outcome as usize].get()
    }

    pub(crate) fn failed(&self, failure: &Failure) {
        self.failures[failure.kind()].add(1);
    }

    /// Chooses one hit in `n`.
    pub(crate) fn one_hit_in(&self, n: u64) -> bool {
        self.unchosen.add(1);
        let chosen = self.unchosen.get() >= n;
        if chosen {
            self.unchosen.reset();
        }
        chosen
    }

    /// Failed fills of the kind with this index into [`KINDS`].
    pub(crate) fn failures(&self, kind: usize) -> u64 {
        self.failures[kind].get()
    }
}

/// What one worker counts of its RESP clients and their lanes.
#[derive(Debug, Default)]
pub(crate) struct LaneStats {
    /// Commands answered by the proxy itself.
    pub(crate) local: Counter,
    /// Commands answered from the cache, or with what a fill has brought.
    pub(crate) cached: Counter,
    /// Commands on a quick shared lane.
    pub(crate) shared: Counter,
    /// Commands on a slow shared lane.
    pub(crate) slow: Counter,
    /// Commands on a client's own connection.
    pub(crate) pinned_commands: Counter,
    /// Connections that became tunnels.
    pub(crate) tunnels: Counter,
    /// Shared lanes opened.
    pub(crate) lane_opens: Counter,
    /// Shared lanes lost, or closed by Redis.
    pub(crate) lane_losses: Counter,
    /// Attempts to open a lane that all failed for the time a command may wait.
    pub(crate) lane_failures: Counter,
    /// Lanes torn down because Redis did not answer in time.
    pub(crate) lane_timeouts: Counter,
    /// Connections opened for one client each.
    pub(crate) pin_opens: Counter,
    /// Clients closed because a connection to Redis was lost with something of theirs on its way.
    pub(crate) lost_clients: Counter,
    /// Clients closed because they, or all of them together, left too much unread.
    pub(crate) full_clients: Counter,
    /// Clients closed because their requests broke the protocol.
    pub(crate) protocol_errors: Counter,
}

impl LaneStats {
    /// Commands of any way.
    pub(crate) fn commands(&self) -> u64 {
        let ways =
            [&self.local, &self.cached, &self.shared, &self.slow, &self.pinned_commands, &self.tunnels];
        ways.iter().map(|way| way.get()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_lands_in_the_first_bucket_that_holds_it() {
        assert_eq!((BOUNDS_NS[0], BOUNDS_NS[21]), (1_000, 10_000_000_000));
        let histogram = Histogram::default();
        histogram.record(1_000, 2);
        histogram.record(1_001, 1);
        histogram.record(11_000_000_000, 1);
        let (buckets, sum) = histogram.read();
        assert_eq!((buckets[0], buckets[1], buckets[22]), (2, 1, 1));
        assert_eq!(sum, 3_001 + 11_000_000_000);
    }
}
