//! What is held for a client that does not read.

use std::task::{Context, Poll};

use super::Session;
use super::pending::State;

/// Fetched values that may wait behind an answer that the client does not take; further ones are asked for at their turn.
const HELD_BEHIND_BYTES: usize = 8 << 20;

impl Session {
    /// The client takes nothing: counts what Redis has sent it on other ways than a lane, and lets go of what is too much
    /// to wait for its turn.
    #[cold]
    pub(super) fn hold_unread(&mut self, cx: &mut Context<'_>) {
        let mut unread = if self.tail_is_fetched { self.output.unsent_value() } else { 0 };
        if self.pinned.is_some() {
            unread += self.output.unsent_bytes();
        }
        let most = if self.sessions.readers.is_crowded() { 0 } else { HELD_BEHIND_BYTES };
        let mut behind = 0;
        // What is asked for again may be answered by something newer than what those behind it have found.
        let mut again = false;
        let mut replies = std::mem::take(&mut self.replies);
        for pending in replies.reads_mut() {
            if again && self.sessions.readers.keeps_order() && pending.state == State::Asked {
                pending.ask_again();
                continue;
            }
            if pending.state == State::Asked && matches!(self.poll_parts(pending, cx), Poll::Ready(Err(_))) {
                // It will be asked for again, and go to Redis then.
                pending.ask_again();
                again = true;
            }
            let held = pending.fetched_bytes();
            if pending.state == State::Asked && behind + held > most {
                pending.ask_again();
                again = true;
                continue;
            }
            behind += held;
        }
        let (_, sent) = replies.held_bytes();
        self.replies = replies;
        self.sessions.readers.released();
        self.mailbox.keep(unread + sent + behind);
    }
}
