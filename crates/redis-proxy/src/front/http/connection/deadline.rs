//! How long a connection waits for its client, in every state it can be in.

use std::task::{Context, Poll};
use std::time::Duration;

use super::{Connection, End};
use crate::clock::nanos;
use crate::front::http::answer::Answer;

/// Once the program is ending: how long a connection that is new, or asked something this short a time ago, may still
/// ask.
const GRACE: Duration = Duration::from_millis(500);

impl Connection {
    /// Nothing can be done now. Ends the connection whose client lets a time-out pass.
    pub(super) fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        debug_assert!(self.output.is_empty() || self.blocked.is_on(), "output that nobody was asked to take");
        let settings = &self.front.settings;
        let head_timeout_ns = nanos(settings.head_timeout);
        let draining = self.front.drain.since_ns();
        // While nothing is read, the rest of a request may be here and not seen yet.
        let reads = !self.closing && !self.eof && self.slots.len() < self.window;
        let idle = self.slots.is_empty() && self.output.is_empty() && self.partial_since_ns.is_none();
        let deadline_ns = if let Some(look_ns) = self.blocked.look_ns() {
            look_ns
        } else if let Some(since) = self.partial_since_ns.filter(|_| reads) {
            since.saturating_add(head_timeout_ns)
        } else if let (true, Some(since)) = (idle, draining) {
            // Its first or next request may be on the way: it is answered, and told that it was the last.
            let grace_ns = nanos(GRACE);
            if self.served_any && self.turn_ns.saturating_add(grace_ns) < since {
                return Poll::Ready(End::Gone);
            }
            since.saturating_add(grace_ns)
        } else if idle {
            self.turn_ns.saturating_add(settings.idle_timeout_ns)
        } else {
            // Waits for Redis, whose own time-outs bound it.
            u64::MAX
        };
        if self.timer.poll_until(deadline_ns, cx).is_pending() {
            return Poll::Pending;
        }
        if self.blocked.is_on() {
            if self.blocked.is_stuck(&self.stream, settings.write_timeout_ns) {
                return Poll::Ready(End::Stuck);
            }
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if idle {
            // At the end of the program nobody is waited for who has nothing to say.
            return Poll::Ready(if draining.is_some() { End::Gone } else { End::Answered });
        }
        self.partial_since_ns = None;
        if self.body_left > 0 {
            // Its request has its answer: another would be taken for that of the next.
            self.closing = true;
        } else {
            self.refuse(Answer::TimedOut);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
