//! Whether a client is let in that has not logged in. Until that is known nothing is done for it, and nothing that it sends
//! counts as more than a login: not its size, and not what it asks.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::futures::OwnedNotified;

use super::at_hand::AtHand;
use super::busy::Busy;
use super::findings::FoundOut;
use super::reply::error;
use super::ways::Ways;
use crate::lanes::{Admission, KeptOut};

/// Whether a client may go on.
pub(super) enum Entrance {
    Open,
    /// Redis is being asked, which the next command waits for.
    Asked,
    Shut(KeptOut),
}

impl AtHand {
    /// What becomes of a command of a client that is not let in yet, if it is no login: `None` if it may be taken up, else
    /// whether it was. Who is kept out is told in these `words`.
    pub(super) fn keep_out(&mut self, words: fn(&KeptOut) -> Bytes, ways: &mut Ways) -> Option<bool> {
        match self.entrance(ways) {
            Entrance::Open => None,
            Entrance::Asked => Some(false),
            Entrance::Shut(kept_out) => {
                ways.say(&error(words(&kept_out)));
                Some(true)
            }
        }
    }

    /// Whether the client may go on.
    pub(super) fn entrance(&mut self, ways: &mut Ways) -> Entrance {
        if ways.client.admitted {
            return Entrance::Open;
        }
        if let Some(kept_out) = self.findings.take_kept_out() {
            return Entrance::Shut(kept_out);
        }
        match ways.sessions.lanes.admission(ways.client.came_ns) {
            Admission::Decided(Ok(())) => {
                ways.client.admitted = true;
                Entrance::Open
            }
            Admission::Decided(Err(kept_out)) => Entrance::Shut(kept_out),
            Admission::Asked(asked) => {
                self.wait_for(Busy::Admission(Box::pin(asked)));
                Entrance::Asked
            }
        }
    }

    /// Ready once it is known whether the client is let in.
    pub(super) fn poll_admission(
        &mut self,
        asked: &mut Pin<Box<OwnedNotified>>,
        ways: &mut Ways,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            std::task::ready!(asked.as_mut().poll(cx));
            match ways.sessions.lanes.admission(ways.client.came_ns) {
                Admission::Decided(Ok(())) => ways.client.admitted = true,
                Admission::Decided(Err(kept_out)) => self.findings.put(FoundOut::KeptOut(kept_out)),
                Admission::Asked(again) => {
                    asked.set(again);
                    continue;
                }
            }
            return Poll::Ready(());
        }
    }
}
