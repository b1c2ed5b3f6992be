//! How long a client is waited for, in every state it can be in: by what the dialect says, and while it does not take what is
//! written to it, by WRITE_TIMEOUT.

use std::task::{Context, Poll, ready};

use super::{Client, Dialect, Ending};
use crate::clock::now_ns;
use crate::timer::Timer;

/// A value above this is memory that others may want.
const LARGE_VALUE: usize = 16 * 1024;

impl<D: Dialect> Client<D> {
    /// Nothing can be done now. Ends the client that lets its time pass.
    pub(super) fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        debug_assert!(
            self.dialect.output().is_empty() || self.blocked.is_on(),
            "output that nobody was asked to take"
        );
        let due_ns = match self.dialect.due(&self.stream, &self.input, cx) {
            Ok(due_ns) => due_ns,
            Err(end) => return Poll::Ready(end),
        };
        let deadline_ns = self.blocked.look_ns().unwrap_or(due_ns);
        if deadline_ns == u64::MAX {
            return Poll::Pending;
        }
        let timer = self.timer.get_or_insert_with(|| Timer::new(now_ns(), deadline_ns));
        ready!(timer.poll_until(deadline_ns, cx));
        let end = match self.blocked.is_on() {
            true => self.is_stuck().then_some(Ending::Stuck),
            false => self.dialect.overdue(&self.stream),
        };
        match end {
            Some(end) => Poll::Ready(end),
            None => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    /// Whether the client has taken nothing for too long.
    #[cold]
    fn is_stuck(&mut self) -> bool {
        let holds_much = self.dialect.output().unsent_value() > LARGE_VALUE;
        let crowded = holds_much && self.dialect.is_crowded();
        self.blocked.is_stuck(&self.stream, self.dialect.write_timeout_ns(), crowded)
    }
}
