//! What counters that only grow say of the time between two looks.

use std::time::Duration;

use crate::figures::ratio;
use crate::insight::{ProgramState, ProgramTotals};

/// Of the time between the last two answers; none where it is not known.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) http_per_s: Option<f64>,
    pub(super) resp_per_s: Option<f64>,
    pub(super) hit_ratio: Option<f64>,
    pub(super) coalesced_per_s: Option<f64>,
    pub(super) evictions_per_s: Option<f64>,
    pub(super) expirations_per_s: Option<f64>,
    pub(super) invalidations_per_s: Option<f64>,
    pub(super) errors_per_s: Option<f64>,
}

impl Rates {
    /// Nothing is known where the program was started anew in between.
    pub(super) fn between(before: &ProgramState, after: &ProgramState, elapsed: Duration) -> Rates {
        if after.uptime_s < before.uptime_s || elapsed.is_zero() {
            return Rates::default();
        }
        let (old, new) = (&before.totals, &after.totals);
        let more = |of: fn(&ProgramTotals) -> Option<u64>| of(new)?.checked_sub(of(old)?);
        let rate = |of| more(of).map(|more| more as f64 / elapsed.as_secs_f64());
        Rates {
            http_per_s: rate(|totals| totals.http_requests),
            resp_per_s: rate(|totals| totals.resp_commands),
            hit_ratio: ratio(more(|totals| totals.hits), more(|totals| totals.misses)),
            coalesced_per_s: rate(|totals| totals.coalesced),
            evictions_per_s: rate(|totals| totals.evictions),
            expirations_per_s: rate(|totals| totals.expirations),
            invalidations_per_s: rate(|totals| totals.invalidations),
            errors_per_s: rate(|totals| totals.errors),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::insight::tests::EXAMPLE;

    #[test]
    fn rates_are_of_the_time_between_two_answers_and_of_one_run_of_the_program() {
        let before = ProgramState::parse(EXAMPLE).unwrap();
        let mut after = before.clone();
        after.uptime_s = before.uptime_s.map(|uptime| uptime + 2);
        after.totals.http_requests = before.totals.http_requests.map(|count| count + 3_000);
        after.totals.hits = before.totals.hits.map(|count| count + 900);
        after.totals.misses = before.totals.misses.map(|count| count + 100);
        after.totals.errors = None;
        let rates = Rates::between(&before, &after, Duration::from_secs(2));
        assert_eq!((rates.http_per_s, rates.hit_ratio), (Some(1_500.0), Some(0.9)));
        assert_eq!((rates.resp_per_s, rates.errors_per_s), (Some(0.0), None));
        assert_eq!(Rates::between(&after, &before, Duration::from_secs(2)), Rates::default());
    }
}
