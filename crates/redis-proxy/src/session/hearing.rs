//! Replies of a shared lane that are heard before the client gets them, because they are about more than that client.

use std::task::Context;

use super::at_hand::AtHand;
use super::busy::{Busy, Heard};
use super::client_state::ReplyMode;
use super::plan::Call;
use super::spread::{Spread, send_pieces};
use super::ways::Ways;
use crate::clock::now_ns;
use crate::lanes::{Pace, Request};

impl AtHand {
    /// Onto a shared lane; the reply is heard before the client gets it. Nothing is on its way. `read` if it may be sent twice.
    pub(super) fn hear(
        &mut self,
        heard: Heard,
        request: Request<'_>,
        read: bool,
        ways: &mut Ways,
        cx: &mut Context<'_>,
    ) -> bool {
        let sent = ways.share(request, Pace::Quick, None, read, None, cx);
        if sent {
            self.listen(heard, ways);
        }
        sent
    }

    /// The same of what all nodes of a cluster say together. False if something is on its way.
    pub(super) fn hear_all(
        &mut self,
        heard: Heard,
        spread: Spread,
        call: &Call<'_>,
        request: Request<'_>,
        ways: &mut Ways,
        cx: &mut Context<'_>,
    ) -> bool {
        let sent = ways.out.replies.is_empty() && send_pieces(ways, spread, call, Pace::Quick, request, cx);
        if sent {
            self.listen(heard, ways);
        }
        sent
    }

    fn listen(&mut self, heard: Heard, ways: &Ways) {
        // Also a client that hears nothing itself.
        ways.out.mailbox.mute(false);
        self.wait_for(Busy::Heard(heard, Vec::new()));
    }

    /// The reply is whole.
    pub(super) fn heard(&mut self, heard: &Heard, reply: &[u8], ways: &mut Ways) {
        let silent = matches!(ways.client.replies, ReplyMode::Off | ReplyMode::Skipping);
        ways.out.mailbox.mute(silent);
        match heard {
            Heard::Pause(pause) if reply.starts_with(b"+") => {
                ways.sessions.registry.pauses.granted(*pause, now_ns());
            }
            Heard::Leave(command, request) if !reply.starts_with(b"-") => {
                return self.go_ahead(*command, request, ways);
            }
            _ => {}
        }
        match heard {
            _ if silent => {}
            Heard::Info { with_ours } => ways.out.say_bytes(&ways.sessions.info(reply, *with_ours)),
            Heard::Pause(_) | Heard::Leave(..) => ways.out.say_bytes(reply),
        }
    }
}
