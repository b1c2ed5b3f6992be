//! How long a connection waits for its client, in every state it can be in.

use std::task::{Context, Poll};
use std::time::Duration;

use super::{Connection, End, LARGE_VALUE};
use crate::clock::{nanos, now_ns};
use crate::front::http::answer::Answer;
use crate::places::{BUSY, IDLE_ENOUGH_NS};
use crate::unacked::unacknowledged;

/// Once the program is ending: how long a connection that is new, or asked something this short a time ago, may still
/// ask.
const GRACE: Duration = Duration::from_millis(500);

impl Connection {
    /// Nothing can be done now. Ends the connection whose client lets a time-out pass.
    pub(super) fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        debug_assert!(self.output.is_empty() || self.blocked.is_on(), "output that nobody was asked to take");
        let draining = self.front.drain.since_ns();
        // While nothing is read, the rest of a request may be here and not seen yet.
        let reads = !self.closing && !self.eof && self.replies.len() < self.window;
        let idle = self.replies.is_empty() && self.output.is_empty() && self.partial_since_ns.is_none();
        if self.seat.is_asked(if idle { self.turn_ns } else { BUSY }) && self.gives_way(idle) {
            return Poll::Ready(End::GivesWay);
        }
        let settings = &self.front.settings;
        let deadline_ns = if let Some(look_ns) = self.blocked.look_ns() {
            look_ns
        } else if let Some(since) = self.partial_since_ns.filter(|_| reads) {
            since.saturating_add(nanos(settings.head_timeout))
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
            let crowded = self.output.unsent_value() > LARGE_VALUE && self.front.read.is_crowded();
            if self.blocked.is_stuck(&self.stream, settings.write_timeout_ns, crowded) {
                return Poll::Ready(End::Stuck);
            }
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if idle {
            if draining.is_none() && self.is_taking() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            // At the end of the program nobody is waited for who has nothing to say.
            return Poll::Ready(if draining.is_some() { End::Gone } else { End::Answered });
        }
        self.partial_since_ns = None;
        // The turn that began it is long over.
        self.set_clock(now_ns());
        if self.body_left > 0 {
            // Its request has its answer: another would be taken for that of the next.
            self.closing = true;
        } else {
            self.refuse(Answer::TimedOut);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether it goes, for somebody who waits for a place. Not if a request has come since it was asked, or an answer is
    /// still on its way.
    #[cold]
    fn gives_way(&mut self, idle: bool) -> bool {
        let now_ns = now_ns();
        let goes = idle
            && self.turn_ns.saturating_add(IDLE_ENOUGH_NS) <= now_ns
            && !unacknowledged(&self.stream).is_ok_and(|left| left > 0);
        if !goes {
            // Others are asked before it is asked again.
            self.seat.is_asked(if idle { now_ns } else { BUSY });
            self.seat.declines();
        }
        goes
    }

    /// Whether the client is still taking its last answer, which is all with the kernel: it is slow, and not idle.
    #[cold]
    fn is_taking(&mut self) -> bool {
        let left = unacknowledged(&self.stream).unwrap_or(0);
        // Of another answer nothing is known yet.
        let before = if self.left_to_take.1 == self.turn_ns { self.left_to_take.0 } else { u32::MAX };
        let is_taking = left > 0 && left < before;
        if is_taking {
            self.turn_ns = now_ns();
            self.left_to_take = (left, self.turn_ns);
        }
        is_taking
    }
}
