//! When each request is due, and which are measured. All times are nanoseconds since the start of the run.

use std::time::Duration;

use crate::options::{Options, Rate};

const SECOND_NS: u128 = 1_000_000_000;

/// The requests of one thread: of all threads' requests, every `stride`th from its own number on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) pace: Loop,
    /// From here on requests are measured.
    pub(crate) warm_ns: u64,
    /// From here on none is sent.
    pub(crate) end_ns: u64,
}

/// What makes the next request due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loop {
    /// The clock: an open loop.
    Open {
        /// Requests a second, of all threads.
        rate: u64,
        /// The number, among all threads' requests, of the next one of this thread.
        next: u64,
        /// Threads.
        stride: u64,
    },
    /// An answer: a closed loop.
    Closed {
        /// Requests outstanding on a connection.
        depth: usize,
    },
}

impl Schedule {
    /// The part of the thread with this number.
    pub(crate) fn new(options: &Options, number: u64) -> Self {
        let pace = match options.rate {
            Rate::Max => Loop::Closed { depth: options.pipeline },
            Rate::PerSecond(rate) => Loop::Open { rate, next: number, stride: options.threads as u64 },
        };
        let warm_ns = nanos(options.warmup);
        Schedule { pace, warm_ns, end_ns: warm_ns.saturating_add(nanos(options.duration)) }
    }

    /// When the next request is due; `None` in a closed loop and at the end.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        match self.pace {
            Loop::Open { rate, next, .. } => {
                let due_ns = u128::from(next) * SECOND_NS / u128::from(rate);
                u64::try_from(due_ns).ok().filter(|due_ns| *due_ns < self.end_ns)
            }
            Loop::Closed { .. } => None,
        }
    }

    /// Takes the next request off the schedule if it is due at `now_ns`; when it was due.
    pub(crate) fn take_due(&mut self, now_ns: u64) -> Option<u64> {
        let due_ns = self.next_ns().filter(|due_ns| *due_ns <= now_ns)?;
        if let Loop::Open { next, stride, .. } = &mut self.pace {
            *next += *stride;
        }
        Some(due_ns)
    }

    /// Whether a request of this time is measured.
    pub(crate) fn is_measured(&self, due_ns: u64) -> bool {
        (self.warm_ns..self.end_ns).contains(&due_ns)
    }
}

/// Nanoseconds of a span; half a millennium at most.
pub(crate) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(rate: u64, number: u64, threads: u64) -> Schedule {
        Schedule {
            pace: Loop::Open { rate, next: number, stride: threads },
            warm_ns: 1_000_000_000,
            end_ns: 3_000_000_000,
        }
    }

    #[test]
    fn requests_are_due_at_equal_distances_without_drift() {
        let mut part = schedule(30_000, 0, 1);
        let due: Vec<u64> = std::iter::from_fn(|| part.take_due(u64::MAX)).collect();
        assert_eq!(due.len(), 90_000);
        assert_eq!(&due[..4], [0, 33_333, 66_666, 100_000]);
        assert_eq!(due[30_000], 1_000_000_000);
        assert!(due.windows(2).all(|pair| (33_333..=33_334).contains(&(pair[1] - pair[0]))));
    }

    #[test]
    fn the_threads_together_have_the_schedule_of_one() {
        let mut parts: Vec<Schedule> = (0..3).map(|number| schedule(1_000, number, 3)).collect();
        let all = parts.iter_mut().flat_map(|part| std::iter::from_fn(|| part.take_due(u64::MAX)));
        let mut all: Vec<u64> = all.collect();
        all.sort_unstable();
        let mut one = schedule(1_000, 0, 1);
        assert_eq!(all, std::iter::from_fn(|| one.take_due(u64::MAX)).collect::<Vec<_>>());
    }

    #[test]
    fn nothing_is_due_early_or_behind_the_end_and_the_warm_up_is_not_measured() {
        let mut part = schedule(1, 1, 1);
        assert_eq!(part.take_due(999_999_999), None);
        assert_eq!(part.take_due(1_000_000_000), Some(1_000_000_000));
        assert_eq!(part.take_due(u64::MAX), Some(2_000_000_000));
        assert_eq!(part.take_due(u64::MAX), None);
        assert!(!part.is_measured(999_999_999) && part.is_measured(1_000_000_000));
        assert!(part.is_measured(2_999_999_999) && !part.is_measured(3_000_000_000));
    }
}
