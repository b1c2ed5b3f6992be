//! How long a connection waits for its client, in every state it can be in.

use std::time::Duration;

use super::Connection;
use crate::clock::{nanos, now_ns};
use crate::front::client::{Ending, Input, Stream};
use crate::front::http::answer::Answer;
use crate::places::{BUSY, IDLE_ENOUGH_NS};

/// Once the program is ending: how long a connection that is new, or asked something this short a time ago, may still
/// ask.
const GRACE: Duration = Duration::from_millis(500);

impl Connection {
    /// Until when the client is waited for, while it takes what is written to it.
    pub(super) fn deadline(&mut self, stream: &Stream, input: &Input) -> Result<u64, Ending> {
        let idle = self.is_idle();
        if self.seat.is_asked(if idle { self.turn_ns } else { BUSY }) && self.gives_way(idle, stream) {
            return Err(Ending::GivesWay);
        }
        // While nothing is read, the rest of a request may be here and not seen yet.
        let reads = !self.closing && !input.is_last && self.replies.len() < self.window;
        let timeouts = self.front.timeouts.get();
        if let Some(since) = self.partial_since_ns.filter(|_| reads) {
            return Ok(since.saturating_add(timeouts.head_ns));
        }
        if !idle {
            // Waits for Redis, whose own time-outs bound it.
            return Ok(u64::MAX);
        }
        let Some(since) = self.front.drain.since_ns() else {
            return Ok(self.turn_ns.saturating_add(timeouts.idle_ns));
        };
        // Its first or next request may be on the way: it is answered, and told that it was the last.
        let grace_ns = nanos(GRACE);
        if self.served_any && self.turn_ns.saturating_add(grace_ns) < since {
            return Err(Ending::Gone);
        }
        Ok(since.saturating_add(grace_ns))
    }

    /// That time is over.
    pub(super) fn passed(&mut self, stream: &Stream) -> Option<Ending> {
        if self.is_idle() {
            return match self.front.drain.since_ns() {
                None if self.is_taking(stream) => None,
                None => Some(Ending::Answered),
                // At the end of the program nobody is waited for who has nothing to say.
                Some(_) => Some(Ending::Gone),
            };
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
        None
    }

    /// Whether it has nothing to do.
    fn is_idle(&self) -> bool {
        self.replies.is_empty() && self.output.is_empty() && self.partial_since_ns.is_none()
    }

    /// Whether it goes, for somebody who waits for a place. Not if a request has come since it was asked, or an answer is
    /// still on its way.
    #[cold]
    fn gives_way(&mut self, idle: bool, stream: &Stream) -> bool {
        let now_ns = now_ns();
        let goes = idle
            && self.turn_ns.saturating_add(IDLE_ENOUGH_NS) <= now_ns
            && !stream.unacknowledged().is_ok_and(|left| left > 0);
        if !goes {
            // Others are asked before it is asked again.
            self.seat.is_asked(if idle { now_ns } else { BUSY });
            self.seat.declines();
        }
        goes
    }

    /// Whether the client has taken of its last answer, which is all with the kernel, since it was last looked at: it is slow, and not
    /// idle, also if it took the last of it a moment ago.
    #[cold]
    fn is_taking(&mut self, stream: &Stream) -> bool {
        let left = stream.unacknowledged().unwrap_or(0);
        let is_taking = match self.left_turn_ns == self.turn_ns {
            true => left < self.left_to_take,
            // Of another answer nothing is known yet.
            false => left > 0,
        };
        if is_taking {
            self.turn_ns = now_ns();
            (self.left_to_take, self.left_turn_ns) = (left, self.turn_ns);
        }
        is_taking
    }
}
