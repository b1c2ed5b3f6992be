//! Logging in again on a shared lane of the proxy's own user: an AUTH among the commands of its clients, whose reply goes to none of
//! them.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use upstream::Reauth;

use super::duties::{Answer, Discharge, Duty};
use super::mailbox::Mailbox;
use super::request::Request;
use super::shared::SharedLane;
use super::{LaneKey, Lanes};

/// More than Redis says to AUTH.
const MOST_REPLY_BYTES: usize = 64 * 1024;

/// The logins of one connection, as another of its lane's clients. Dropped with the connection: what is on its way then is not sent
/// again.
pub(super) struct Logins {
    lanes: Rc<Lanes>,
    reauth: Reauth,
    mailbox: Rc<Mailbox>,
    /// The next one, when it is due.
    due: Pin<Box<dyn Future<Output = Bytes>>>,
    /// One that is due and waits for room on the lane.
    unsent: Option<Bytes>,
}

impl Logins {
    /// For a connection of `key` that was opened just now; none where it is somebody else's, or nobody is to log in again.
    pub(super) fn of(lanes: &Rc<Lanes>, key: &LaneKey) -> Option<Logins> {
        let reauth = lanes.endpoint.login.reauth.clone()?;
        if !lanes.is_ourselves(&key.greeting()) {
            return None;
        }
        let limit = Rc::new(Cell::new(MOST_REPLY_BYTES));
        let mailbox = Rc::new(Mailbox::new(limit, &lanes.bounds, Rc::new(NoDuties)));
        Some(Logins { lanes: lanes.clone(), reauth, mailbox, due: next(lanes.clone()), unsent: None })
    }

    /// Sends one that is due, if the lane was used since the last: one that is idle is to end for that.
    pub(super) fn poll(&mut self, lane: &SharedLane, cx: &mut Context<'_>) {
        while let Poll::Ready(auth) = self.due.as_mut().poll(cx) {
            self.unsent = lane.was_used().then_some(auth);
            self.due = next(self.lanes.clone());
        }
        if let Some(auth) = &self.unsent
            && lane.send(Request::Raw(auth), &self.mailbox, true, || None, &self.lanes.buffers, cx)
        {
            self.unsent = None;
            // That was no use of it.
            lane.was_used();
        }
    }

    /// Notes what Redis has said.
    pub(super) fn hear(&self) {
        if self.mailbox.waiting() == 0
            && let Some((reply, _)) = self.mailbox.take()
        {
            self.mailbox.settle();
            self.reauth.answered(reply.strip_prefix(b"-"));
        }
    }
}

impl Drop for Logins {
    fn drop(&mut self) {
        self.mailbox.leave();
    }
}

fn next(lanes: Rc<Lanes>) -> Pin<Box<dyn Future<Output = Bytes>>> {
    Box::pin(async move {
        let mut auth = BytesMut::new();
        lanes.endpoint.next_login().await.encode(&mut auth);
        auth.freeze()
    })
}

/// Of commands of our own, which change nothing that is cached.
pub(super) struct NoDuties;

impl Discharge for NoDuties {
    fn discharge(&self, _duty: &Duty, _answer: Answer) {}
}
