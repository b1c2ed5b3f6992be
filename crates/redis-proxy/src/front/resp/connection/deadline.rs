//! How long a connection waits for its client.

use std::task::{Context, Poll, ready};

use super::{Connection, End};
use crate::clock::now_ns;
use crate::front::resp::answers::LARGE_VALUE;
use crate::timer::Timer;

impl Connection {
    /// Nothing can be done now. Ends the connection whose client lets a time-out pass.
    pub(super) fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.round != self.front.recall.round() {
            self.look_back(cx);
        }
        let settings = &self.front.settings;
        let owed = self.waiting() > 0 || self.busy.is_some() || !self.output.is_empty();
        if std::mem::replace(&mut self.was_owed, owed) && !owed {
            // It was not idle while it waited.
            self.active_ns = now_ns();
        }
        if self.front.drain.since_ns().is_some() {
            let blocked = self.pinned.as_ref().is_some_and(|pinned| pinned.is_blocked());
            if !owed || blocked {
                return Poll::Ready(End::Answered);
            }
        }
        let (deadline_ns, end) = match self.blocked.look_ns() {
            Some(look_ns) => (look_ns, End::Stuck),
            None if self.is_idle(owed) => {
                (self.active_ns.saturating_add(settings.idle_timeout_ns), End::Answered)
            }
            None => (u64::MAX, End::Answered),
        };
        if deadline_ns == u64::MAX {
            return Poll::Pending;
        }
        let timer = self.timer.get_or_insert_with(|| Timer::new(now_ns(), deadline_ns));
        ready!(timer.poll_until(deadline_ns, cx));
        let crowded = self.output.unsent_value() > LARGE_VALUE && self.front.readers.is_crowded();
        if self.blocked.is_on() && !self.blocked.is_stuck(&self.stream, settings.write_timeout_ns, crowded) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(end)
    }

    /// Whether the client has the next word. As in Redis, one that blocks or subscribes has not; one in the middle of a
    /// command has, of which a big one waits for its end and for nothing else.
    fn is_idle(&self, owed: bool) -> bool {
        let Some(pinned) = &self.pinned else { return !owed };
        let uploads = pinned.uploading && pinned.waiting() == 1 && self.output.is_empty();
        uploads || !owed && !pinned.is_blocked()
    }
}
