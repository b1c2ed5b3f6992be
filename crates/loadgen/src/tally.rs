//! What a run counts. One thread fills one; at the end they are added.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::http::ResponseHead;

/// The longest latency that is told from longer ones: a minute.
const MOST_NS: u64 = 60_000_000_000;
/// Digits of a latency that are kept.
const DIGITS: u8 = 3;

/// Why a request has no answer that counts, or a connection no life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A connection could not be made again; counted once an attempt.
    Refused,
    /// The connection broke before the answer.
    Reset,
    /// The server closed the connection before the answer.
    Closed,
    /// The server closed the connection within the answer.
    Short,
    /// What came was no HTTP, chunked, or not asked for; counted once a connection.
    Garbled,
    /// The value does not have the length it was filled with.
    WrongLength,
    /// There was no answer a second after the end.
    Unanswered,
    /// It was due while its connection was gone; not sent.
    Unconnected,
    /// It was due with the most requests outstanding on its connection; not sent.
    Overload,
}

impl Fault {
    /// As it stands in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Fault::Refused => "refused",
            Fault::Reset => "reset",
            Fault::Closed => "closed",
            Fault::Short => "short",
            Fault::Garbled => "garbled",
            Fault::WrongLength => "wrong_length",
            Fault::Unanswered => "unanswered",
            Fault::Unconnected => "unconnected",
            Fault::Overload => "overload",
        }
    }
}

/// Counts and distributions of what was measured. Faults count from the first request on, all else after the warm-up.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// From when a request was due to its answer; of answers with status 200. Nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// From when a request was due to its bytes handed to the kernel. Nanoseconds.
    pub(crate) lag: Histogram<u64>,
    /// Requests that were due; in a closed loop, that were sent.
    pub(crate) due: u64,
    /// Answers by status.
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// Answers that say they came from memory, and that say they did not.
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) body_bytes: u64,
    pub(crate) faults: BTreeMap<Fault, u64>,
    /// Connections that the server closed in order, and that were made again.
    pub(crate) reconnects: u64,
    /// When the last answer came.
    pub(crate) last_ns: u64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let histogram = || Histogram::new_with_bounds(1, MOST_NS, DIGITS).expect("constant bounds are good");
        Tally {
            latency: histogram(),
            lag: histogram(),
            due: 0,
            statuses: BTreeMap::new(),
            hits: 0,
            misses: 0,
            body_bytes: 0,
            faults: BTreeMap::new(),
            reconnects: 0,
            last_ns: 0,
        }
    }

    /// An answer, at `now_ns`, to a request that was due at `due_ns`.
    pub(crate) fn answer(&mut self, answer: ResponseHead, due_ns: u64, now_ns: u64) {
        *self.statuses.entry(answer.status).or_default() += 1;
        self.hits += u64::from(answer.hit == Some(true));
        self.misses += u64::from(answer.hit == Some(false));
        self.body_bytes += answer.body_bytes;
        self.last_ns = self.last_ns.max(now_ns);
        if answer.status == 200 {
            self.latency.saturating_record(now_ns.saturating_sub(due_ns));
        }
    }

    pub(crate) fn fault(&mut self, fault: Fault, count: usize) {
        if count > 0 {
            *self.faults.entry(fault).or_default() += count as u64;
        }
    }

    /// Takes in what another thread counted.
    pub(crate) fn add(&mut self, other: &Tally) {
        for (all, part) in [(&mut self.latency, &other.latency), (&mut self.lag, &other.lag)] {
            all.add(part).expect("the same bounds");
        }
        self.due += other.due;
        self.hits += other.hits;
        self.misses += other.misses;
        self.body_bytes += other.body_bytes;
        self.reconnects += other.reconnects;
        self.last_ns = self.last_ns.max(other.last_ns);
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
    }

    /// Answers of any status.
    pub(crate) fn answers(&self) -> u64 {
        self.statuses.values().sum()
    }

    pub(crate) fn count(&self, fault: Fault) -> u64 {
        self.faults.get(&fault).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_counts_from_the_time_due_and_of_values_alone() {
        let mut tally = Tally::new();
        let answer =
            |status| ResponseHead { status, hit: Some(status == 200), body_bytes: 3, is_last: false };
        tally.answer(answer(200), 1_000, 201_000);
        tally.answer(answer(503), 1_000, 1_500);
        assert_eq!((tally.latency.len(), tally.latency.max() / 1_000), (1, 200));
        assert_eq!((tally.answers(), tally.hits, tally.misses), (2, 1, 1));
    }

    #[test]
    fn what_two_threads_counted_adds_up() {
        let mut all = Tally::new();
        for part in 1..=2 {
            let mut tally = Tally::new();
            let answer = ResponseHead { status: 200, hit: None, body_bytes: 7, is_last: false };
            tally.answer(answer, 0, part * 1_000);
            tally.fault(Fault::Reset, 3);
            tally.fault(Fault::Closed, 0);
            tally.due = part;
            all.add(&tally);
        }
        assert_eq!((all.due, all.latency.len(), all.last_ns, all.body_bytes), (3, 2, 2_000, 14));
        assert_eq!(all.faults, BTreeMap::from([(Fault::Reset, 6)]));
    }
}
