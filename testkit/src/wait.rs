//! Waiting for what cannot announce itself.

use std::thread;
use std::time::{Duration, Instant};

/// Polls `condition` until it holds: for states of another process that no event tells us about.
///
/// # Panics
/// When it does not hold within `timeout`; the text names `what`.
#[track_caller]
pub fn wait_until(timeout: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + timeout;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {timeout:?} in vain for: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// As [`wait_until`], until `look` finds something: of several processes, and so less often.
#[track_caller]
pub(crate) fn wait_for<T>(timeout: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    wait_until(timeout, what, || {
        found = look();
        if found.is_none() {
            thread::sleep(Duration::from_millis(20));
        }
        found.is_some()
    });
    found.expect("it has been found")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_asked_until_it_holds() {
        let mut asked = 0;
        wait_until(Duration::from_secs(10), "the third time", || {
            asked += 1;
            asked == 3
        });
        assert_eq!(asked, 3);
    }

    #[test]
    #[should_panic(expected = "in vain for: a blue moon")]
    fn a_condition_that_never_holds_panics_with_its_name() {
        wait_until(Duration::from_millis(10), "a blue moon", || false);
    }
}
