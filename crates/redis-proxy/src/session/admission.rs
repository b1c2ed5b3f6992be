//! Whether a client is let in that has not logged in. Until that is known nothing is done for it, and nothing that it sends
//! counts as more than a login: not its size, and not what it asks.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::futures::OwnedNotified;

use super::Session;
use super::busy::Busy;
use super::reply::error;
use crate::lanes::{Admission, KeptOut};

/// Whether a client may go on.
enum Entrance {
    Open,
    /// Redis is being asked, which the next command waits for.
    Asked,
    Shut(KeptOut),
}

impl Session {
    /// What becomes of a command of a client that is not let in yet, if it is no login: `None` if it may be taken up, else
    /// whether it was. Who is kept out is told in these `words`.
    pub(super) fn keep_out(&mut self, words: fn(&KeptOut) -> Bytes) -> Option<bool> {
        match self.entrance() {
            Entrance::Open => None,
            Entrance::Asked => Some(false),
            Entrance::Shut(kept_out) => {
                self.say(&error(words(&kept_out)));
                Some(true)
            }
        }
    }

    /// A request is larger than one may be before a login: whether it is known that this holds for it.
    pub(crate) fn is_too_large(&mut self) -> bool {
        match self.entrance() {
            Entrance::Open | Entrance::Asked => false,
            Entrance::Shut(KeptOut::Login { .. }) => true,
            Entrance::Shut(kept_out) => {
                // Where it ends is not known.
                self.say(&error(kept_out.text()));
                self.end();
                false
            }
        }
    }

    /// Whether it may do anything but log in.
    #[inline]
    pub(crate) fn is_admitted(&self) -> bool {
        self.client.admitted
    }

    fn entrance(&mut self) -> Entrance {
        if self.client.admitted {
            return Entrance::Open;
        }
        if let Some(kept_out) = self.kept_out.take() {
            return Entrance::Shut(kept_out);
        }
        match self.sessions.lanes.admission(self.client.came_ns) {
            Admission::Decided(Ok(())) => {
                self.client.admitted = true;
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
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            std::task::ready!(asked.as_mut().poll(cx));
            match self.sessions.lanes.admission(self.client.came_ns) {
                Admission::Decided(Ok(())) => self.client.admitted = true,
                Admission::Decided(Err(kept_out)) => self.kept_out = Some(kept_out),
                Admission::Asked(again) => {
                    asked.set(again);
                    continue;
                }
            }
            return Poll::Ready(());
        }
    }
}
