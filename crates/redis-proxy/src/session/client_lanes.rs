//! The shared lanes that one client uses: those of its key, once they are used.

use std::rc::Rc;
use std::task::Context;

use super::sessions::Sessions;
use crate::lanes::{Duty, LaneHandle, LaneKey, Mailbox, Pace, Request};

/// A client's places on shared lanes. What they bring comes to one mailbox.
pub(super) struct ClientLanes {
    sessions: Rc<Sessions>,
    mailbox: Rc<Mailbox>,
    quick: Option<LaneHandle>,
    slow: Option<LaneHandle>,
}

impl ClientLanes {
    pub(super) fn new(sessions: Rc<Sessions>, mailbox: Rc<Mailbox>) -> Self {
        ClientLanes { sessions, mailbox, quick: None, slow: None }
    }

    /// Sends a request on the lane of `key` with this pace. `read` if it may be sent twice. False if there is no room: the task
    /// of `cx` is woken when there is.
    pub(super) fn send(
        &mut self,
        key: &LaneKey,
        request: Request<'_>,
        pace: Pace,
        read: bool,
        duty: Option<Duty>,
        cx: &Context<'_>,
    ) -> bool {
        let sessions = &*self.sessions;
        let (place, counter) = match pace {
            Pace::Quick => (&mut self.quick, &sessions.stats.shared),
            Pace::Slow => (&mut self.slow, &sessions.stats.slow),
        };
        let lane = place.get_or_insert_with(|| sessions.lanes.shared(key, pace, Some(&self.mailbox)));
        if !lane.send(request, &self.mailbox, read, || duty, &sessions.buffers, cx) {
            return false;
        }
        counter.add(1);
        true
    }

    /// The client's key is another one.
    pub(super) fn forget(&mut self) {
        (self.quick, self.slow) = (None, None);
    }

    /// Whether one of them has a connection.
    pub(super) fn is_any_open(&self) -> bool {
        [&self.quick, &self.slow].into_iter().flatten().any(|lane| lane.is_open())
    }
}
