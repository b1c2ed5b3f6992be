//! The end of the program, as the connections of one worker see it.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::clock::now_ns;

/// Set once, when the program is to end.
#[derive(Default)]
pub(in crate::front) struct Drain {
    since_ns: Cell<Option<u64>>,
    told: Arc<Notify>,
}

impl Drain {
    /// Wakes every connection that has been polled with [`told`](Self::told).
    pub(in crate::front) fn start(&self) {
        self.since_ns.set(Some(now_ns()));
        self.told.notify_waiters();
    }

    /// When it began.
    pub(in crate::front) fn since_ns(&self) -> Option<u64> {
        self.since_ns.get()
    }

    /// Polled once by a connection's task, it wakes that task at the start of the drain; the clock is what is read.
    pub(in crate::front) fn told(&self) -> Pin<Box<OwnedNotified>> {
        Box::pin(self.told.clone().notified_owned())
    }
}
