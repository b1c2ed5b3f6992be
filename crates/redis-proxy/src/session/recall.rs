//! Ways to what is cached are called back from clients that read nothing any more, where links are for Redis clients alone:
//! a client that stays and is silent is to keep no link alive.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// The rounds of one worker in which its connections look whether they have read lately.
#[derive(Default)]
pub(crate) struct Recall {
    round: Cell<u64>,
    told: Arc<Notify>,
}

impl Recall {
    /// Wakes every connection that has been polled with [`told`](Self::told) since the last round.
    pub(crate) fn call(&self) {
        self.round.set(self.round.get() + 1);
        self.told.notify_waiters();
    }

    /// What a connection compares with the round it has seen.
    pub(crate) fn round(&self) -> u64 {
        self.round.get()
    }

    /// Polled once by a connection's task, it wakes that task at the next round.
    pub(crate) fn told(&self) -> Pin<Box<OwnedNotified>> {
        Box::pin(self.told.clone().notified_owned())
    }
}
