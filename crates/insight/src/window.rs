//! Over what time counts extend: all are halved at the end of each window, so that what is long ago fades.

use std::time::Duration;

/// How often what was counted is halved.
pub const WINDOW: Duration = Duration::from_secs(10);

const WINDOW_NS: u64 = WINDOW.as_secs() * 1_000_000_000;

/// Halvings after which nothing is left of a count.
const FADED: u64 = 64;

/// The windows of a program, one behind the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    start_ns: u64,
}

impl Window {
    /// The first one begins here.
    pub(crate) fn from(start_ns: u64) -> Window {
        Window { start_ns }
    }

    /// How many have ended.
    pub(crate) fn ended(self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.start_ns) / WINDOW_NS
    }

    /// When so many have ended and one more.
    pub(crate) fn end_ns(self, ended: u64) -> u64 {
        self.start_ns.saturating_add(ended.saturating_add(1).saturating_mul(WINDOW_NS))
    }

    /// The seconds since the start, each with the weight that a count of it has: with this, counts are rates. Above zero.
    pub(crate) fn weighed_s(self, now_ns: u64) -> f64 {
        let since_ns = now_ns.saturating_sub(self.start_ns);
        let within = Duration::from_nanos(since_ns % WINDOW_NS).as_secs_f64();
        // After n halvings 1/2 + 1/4 + ... of a window is left of n of them.
        let before = WINDOW.as_secs_f64() * (1.0 - weight_after(since_ns / WINDOW_NS));
        (before + within).max(1e-3)
    }
}

/// What is left of a count after so many halvings.
pub(crate) fn weight_after(halvings: u64) -> f64 {
    0.5f64.powi(i32::try_from(halvings.min(FADED)).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_count_over_its_weighed_time_is_its_rate() {
        let window = Window::from(5);
        let (mut count, mut ended) = (0.0, 0);
        for tenth in 1..=1_000u64 {
            let now_ns = 5 + tenth * 100_000_000;
            assert_eq!(window.ended(now_ns) > ended, now_ns >= window.end_ns(ended));
            while ended < window.ended(now_ns) {
                (count, ended) = (count / 2.0, ended + 1);
            }
            // Of the tenth that ends now, 7 a tenth; at the edge of a window it is of the one before.
            count += if now_ns - 5 == ended * WINDOW_NS { 3.5 } else { 7.0 };
            let rate = count / window.weighed_s(now_ns);
            assert!((rate - 70.0).abs() < 1e-6, "{tenth}: {rate}");
        }
        assert!((window.weighed_s(5 + 3_600 * 1_000_000_000) - 10.0).abs() < 1e-6);
        assert!(window.weighed_s(0) > 0.0 && window.weighed_s(u64::MAX) < 20.0);
    }
}
