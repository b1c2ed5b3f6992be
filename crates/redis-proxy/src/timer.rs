//! One timer a connection, moved only when it must be: a request costs a comparison, not a timer operation.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::clock::now_ns;

/// Fires at the latest of the deadlines it was asked for; a deadline that moves away is noticed when it fires.
pub(crate) struct Timer {
    sleep: Pin<Box<Sleep>>,
    armed_ns: u64,
    registered: bool,
}

/// The longest the sleep is armed for: a deadline far away needs none nearer.
const HORIZON_NS: u64 = 3_600_000_000_000;

impl Timer {
    pub(crate) fn new(now_ns: u64, deadline_ns: u64) -> Self {
        let armed_ns = deadline_ns.min(now_ns + HORIZON_NS);
        let sleep = Box::pin(sleep_until(Instant::now() + Duration::from_nanos(armed_ns - now_ns)));
        Timer { sleep, armed_ns, registered: false }
    }

    /// Ready once `deadline_ns` has passed; wakes this task for it.
    pub(crate) fn poll_until(&mut self, deadline_ns: u64, cx: &mut Context<'_>) -> Poll<()> {
        if deadline_ns < self.armed_ns {
            self.arm(deadline_ns, now_ns());
        } else if self.registered && !self.sleep.is_elapsed() {
            // The task is registered from an earlier poll, and a task's waker stays the same.
            return Poll::Pending;
        }
        loop {
            self.registered = true;
            ready!(self.sleep.as_mut().poll(cx));
            let now_ns = now_ns();
            if now_ns >= deadline_ns {
                return Poll::Ready(());
            }
            self.arm(deadline_ns, now_ns);
        }
    }

    fn arm(&mut self, deadline_ns: u64, now_ns: u64) {
        self.armed_ns = deadline_ns.min(now_ns + HORIZON_NS);
        let wait = Duration::from_nanos(self.armed_ns.saturating_sub(now_ns));
        self.sleep.as_mut().reset(Instant::now() + wait);
    }
}
