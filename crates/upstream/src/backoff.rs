//! When the next attempt to connect is made.

use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(50);
/// While reads are refused the next attempt is never further away: errors end soon after Redis is back.
const WANTED: Duration = Duration::from_millis(100);
/// Where an idle proxy ends up.
const IDLE: Duration = Duration::from_secs(2);

/// Jittered delays from 50 ms, doubling to 2 s.
#[derive(Debug)]
pub(crate) struct Backoff {
    delay: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Backoff { delay: FIRST }
    }

    pub(crate) fn reset(&mut self) {
        self.delay = FIRST;
    }

    /// The instant of the next attempt after one that failed at `now`, when nobody waits.
    pub(crate) fn idle_deadline(&mut self, now: Instant) -> Instant {
        let deadline = now + jitter(self.delay);
        self.delay = (self.delay * 2).min(IDLE);
        deadline
    }

    /// The latest instant of the next attempt after one that failed at `failed`, once somebody waits.
    pub(crate) fn wanted_deadline(failed: Instant) -> Instant {
        failed + jitter(WANTED)
    }
}

/// Between three quarters and all of `delay`, so that many proxies do not return in step.
fn jitter(delay: Duration) -> Duration {
    let mut byte = [0u8];
    // No randomness only means no jitter.
    let _ = getrandom::fill(&mut byte);
    delay - delay / 4 * u32::from(byte[0]) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_from_50_ms_to_2_s_with_jitter() {
        let now = Instant::now();
        let mut backoff = Backoff::new();
        for expected in [50, 100, 200, 400, 800, 1600, 2000, 2000] {
            let delay = backoff.idle_deadline(now) - now;
            assert!(delay <= Duration::from_millis(expected), "{delay:?} above {expected} ms");
            assert!(delay >= Duration::from_millis(expected * 3 / 4), "{delay:?} far below {expected} ms");
        }
        backoff.reset();
        assert!(backoff.idle_deadline(now) - now <= FIRST);
        assert!(Backoff::wanted_deadline(now) - now <= WANTED);
    }
}
