//! What is held for a client that does not read.

use std::task::{Context, Poll};

use super::client_state::ClientState;
use super::outgoing::Outgoing;
use super::pending::{Pending, State};
use super::reading::Reading;
use super::replies::Replies;

/// Fetched values that may wait behind an answer that the client does not take; further ones are asked for at their turn.
const HELD_BEHIND_BYTES: usize = 8 << 20;

impl Reading {
    /// The client takes nothing: counts what Redis has sent it on other ways than a lane, `beside` what is here, and
    /// lets go of what is too much to wait for its turn.
    #[cold]
    pub(super) fn hold_unread(
        &mut self,
        client: &ClientState,
        out: &mut Outgoing,
        beside: usize,
        cx: &mut Context<'_>,
    ) {
        let behind = self.hold_behind(client, &mut out.replies, cx);
        let (_, sent) = out.replies.held_bytes();
        self.sessions.readers.released();
        out.mailbox.keep(beside + sent + behind);
    }

    /// Bytes of the reads that go on waiting with what they have found.
    fn hold_behind(
        &mut self,
        client: &ClientState,
        replies: &mut Replies<Pending>,
        cx: &mut Context<'_>,
    ) -> usize {
        let most = if self.sessions.readers.is_crowded() { 0 } else { HELD_BEHIND_BYTES };
        let mut behind = 0;
        // What is asked for again may be answered by something newer than what those behind it have found.
        let mut again = false;
        for pending in replies.reads_mut() {
            if again && self.sessions.readers.keeps_order() && pending.state == State::Asked {
                pending.ask_again();
                continue;
            }
            if pending.state == State::Asked
                && matches!(self.poll_parts(pending, client, cx), Poll::Ready(Err(_)))
            {
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
        behind
    }
}
