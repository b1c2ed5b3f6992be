//! Waiting for what cannot announce itself.
use std::time::{Duration, Instant};

/// Polls `condition` until it holds.
///
/// # Panics
/// When it does not hold within `timeout`; the text names `what`.
#[track_caller]
pub fn wait_until(timeout: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + timeout;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {timeout:?} in vain for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
