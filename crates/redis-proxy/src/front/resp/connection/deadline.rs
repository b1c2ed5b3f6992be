//! How long a connection waits for its client.

use std::task::Context;

use super::Connection;
use crate::clock::now_ns;
use crate::front::client::Ending;

impl Connection {
    /// Until when the client is waited for, while it takes what is written to it.
    pub(super) fn deadline(&mut self, cx: &mut Context<'_>) -> Result<u64, Ending> {
        self.mailbox.register(cx);
        if self.round != self.front.recall.round() {
            self.look_back(cx);
        }
        let owed = self.waiting() > 0 || self.busy.is_some() || !self.output.is_empty();
        if std::mem::replace(&mut self.was_owed, owed) && !owed {
            // It was not idle while it waited.
            self.active_ns = now_ns();
        }
        if self.front.drain.since_ns().is_some() {
            let blocked = self.pinned.as_ref().is_some_and(|pinned| pinned.is_blocked());
            if !owed || blocked {
                return Err(Ending::Answered);
            }
        }
        Ok(match self.is_idle(owed) {
            true => self.active_ns.saturating_add(self.front.settings.idle_timeout_ns),
            false => u64::MAX,
        })
    }

    /// Whether the client has the next word. As in Redis, one that blocks or subscribes has not; one in the middle of a
    /// command has, of which a big one waits for its end and for nothing else.
    fn is_idle(&self, owed: bool) -> bool {
        let Some(pinned) = &self.pinned else { return !owed };
        let uploads = pinned.is_uploading() && pinned.waiting() == 1 && self.output.is_empty();
        uploads || !owed && !pinned.is_blocked()
    }
}
