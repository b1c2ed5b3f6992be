//! Where the replies of a shared lane wait for their client, as bytes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use super::bounds::{Bounds, Unread};
use super::duties::{Discharge, Duties, Duty};
use crate::buffer_pool::BufferPool;

/// Replies above this are large: a client should have one of them on its way, because they wait in memory.
pub(crate) const LARGE_REPLY: usize = 32 * 1024;
/// So much of what waits for a client is not counted: most clients read, and the count is one for all workers.
const UNCOUNTED: usize = 16 * 1024;

/// One client's side of the shared lanes. Its replies come in the order of its commands, because all commands that are on
/// their way at one time are on one lane.
pub(crate) struct Mailbox {
    bytes: RefCell<Vec<u8>>,
    /// Commands on a lane that have no whole reply yet.
    waiting: Cell<usize>,
    /// Replies that have become whole since they were last taken.
    whole: Cell<usize>,
    state: Cell<MailboxState>,
    /// Replies are counted and dropped: `CLIENT REPLY OFF`.
    muted: Cell<bool>,
    /// Bytes that may wait for it: a client that does not read is cut off, as Redis does with its output buffers.
    limit: usize,
    /// Bytes that do, here or on their way to it.
    held: Cell<usize>,
    /// Of these, what is counted in `unread`.
    counted: Cell<usize>,
    /// Bytes that Redis sent on other ways and that the client does not take, counted in `unread` as well.
    kept: Cell<usize>,
    unread: Arc<Unread>,
    waker: RefCell<Option<Waker>>,
    duties: Duties,
    /// Bytes of the reply at hand.
    partial: Cell<usize>,
    /// Whether a large reply has come since the last question.
    large: Cell<bool>,
}

/// How it is with the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MailboxState {
    /// It takes its replies.
    Open,
    /// A reply is lost: its connection must be closed.
    Lost,
    /// It has left too much unread, or all have: its connection must be closed.
    Full,
    /// It has left.
    Gone,
}

impl Mailbox {
    /// A mailbox for at most `limit` bytes, and no more than all clients together may leave. `discharge` does the duties of its
    /// client.
    pub(crate) fn new(limit: usize, bounds: &Bounds, discharge: Rc<dyn Discharge>) -> Self {
        Mailbox {
            bytes: RefCell::default(),
            waiting: Cell::new(0),
            whole: Cell::new(0),
            state: Cell::new(MailboxState::Open),
            muted: Cell::new(false),
            limit,
            held: Cell::new(0),
            counted: Cell::new(0),
            kept: Cell::new(0),
            unread: bounds.unread.clone(),
            waker: RefCell::default(),
            duties: Duties::new(discharge),
            partial: Cell::new(0),
            large: Cell::new(false),
        }
    }

    /// Commands without a whole reply.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.get()
    }

    pub(crate) fn state(&self) -> MailboxState {
        self.state.get()
    }

    /// From now on replies are dropped, or no longer.
    pub(crate) fn mute(&self, muted: bool) {
        self.muted.set(muted);
    }

    /// Whether replies are dropped.
    pub(crate) fn is_muted(&self) -> bool {
        self.muted.get()
    }

    /// Wakes the task of `cx` once something is here.
    #[inline]
    pub(crate) fn register(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if waker.is_none() {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Takes what is here, and how many replies have become whole since the last time. `None` if nothing has come.
    #[inline]
    pub(crate) fn take(&self) -> Option<(Vec<u8>, usize)> {
        self.has_mail().then(|| (self.bytes.take(), self.whole.take()))
    }

    /// Whether anything has come, or happened to its client.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        self.has_mail() || self.state.get() != MailboxState::Open
    }

    /// Whether anything has come.
    #[inline]
    pub(crate) fn has_mail(&self) -> bool {
        // A muted reply brings no bytes, and is awaited all the same.
        self.whole.get() > 0 || self.len() > 0
    }

    /// Whether a large reply has come since the last question.
    pub(crate) fn was_large(&self) -> bool {
        self.large.take()
    }

    /// Bytes that wait here.
    pub(crate) fn len(&self) -> usize {
        self.bytes.borrow().len()
    }

    /// The client has been given all that was here.
    pub(crate) fn settle(&self) {
        self.held.set(self.len());
        if self.counted.get() + self.kept.get() > 0 {
            self.unread.remove(self.counted.take() + self.kept.take());
        }
    }

    /// So many bytes that Redis sent on other ways wait for the client now that it takes nothing.
    pub(crate) fn keep(&self, bytes: usize) {
        let (before, now) = (self.kept.get(), bytes.saturating_sub(UNCOUNTED));
        if now < before {
            self.unread.remove(before - now);
        } else if self.held.get() + bytes > self.limit || now > before && !self.unread.add(now - before) {
            if self.state.get() == MailboxState::Open {
                self.state.set(MailboxState::Full);
            }
            return;
        }
        self.kept.set(now);
    }

    /// Whether so many more bytes may wait.
    fn hold(&self, bytes: usize) -> bool {
        let held = self.held.get() + bytes;
        self.held.set(held);
        let uncounted = held.saturating_sub(UNCOUNTED + self.counted.get());
        if held > self.limit || uncounted > 0 && !self.unread.add(uncounted) {
            return false;
        }
        self.counted.set(self.counted.get() + uncounted);
        true
    }

    /// The client is gone: what still comes for it is dropped.
    pub(crate) fn leave(&self) {
        self.state.set(MailboxState::Gone);
        self.bytes.take();
        self.waker.take();
    }

    /// A command is sent, with what is to be done before its reply is delivered.
    pub(super) fn expect(&self, duty: Option<Duty>) {
        let waiting = self.waiting.get();
        self.duties.sent(waiting, duty);
        self.waiting.set(waiting + 1);
    }

    /// The next bytes of its replies: the ends of `whole` of them, and with `partly` the beginning of one more.
    pub(super) fn deliver(&self, reply: &[u8], whole: usize, partly: bool, buffers: &BufferPool) {
        self.duties.answered(whole, partly);
        self.waiting.set(self.waiting.get().saturating_sub(whole));
        self.whole.set(self.whole.get() + whole);
        let here = self.partial.get() + reply.len();
        if here > LARGE_REPLY * whole.max(1) {
            self.large.set(true);
        }
        self.partial.set(if whole == 0 { here } else { 0 });
        if self.state.get() != MailboxState::Open {
            return;
        }
        if !self.muted.get() {
            if !self.hold(reply.len()) {
                self.state.set(MailboxState::Full);
                return self.wake();
            }
            let mut bytes = self.bytes.borrow_mut();
            if bytes.capacity() == 0 {
                *bytes = buffers.take_output();
            }
            bytes.extend_from_slice(reply);
        }
        self.wake();
    }

    /// The reply behind `whole` others that come with the next delivery is an error, of which these bytes are here.
    pub(super) fn error(&self, whole: usize, reply: &[u8]) {
        self.duties.error(whole, reply);
    }

    /// The command behind `whole` others was never sent: what comes with the next delivery is our own.
    pub(super) fn refused(&self, whole: usize) {
        self.duties.refused(whole);
    }

    /// A reply will never come, or cannot be held: the client is to be closed.
    pub(super) fn lose(&self) {
        self.duties.lost();
        if self.state.get() == MailboxState::Open {
            self.state.set(MailboxState::Lost);
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.unread.remove(self.counted.get() + self.kept.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Noted;

    fn new(limit: usize, bounds: &Bounds) -> Mailbox {
        Mailbox::new(limit, bounds, Rc::new(Noted::default()))
    }

    #[test]
    fn a_client_that_takes_nothing_is_lost_at_its_limit_and_not_before() {
        let (mailbox, buffers) = (new(8, &Bounds::new(0, 0, 0)), BufferPool::default());
        mailbox.expect(None);
        mailbox.expect(None);
        mailbox.deliver(b"+OK\r\n", 1, false, &buffers);
        assert_eq!((mailbox.waiting(), mailbox.state(), mailbox.len()), (1, MailboxState::Open, 5));
        mailbox.deliver(b"+OK\r\n", 1, false, &buffers);
        assert_eq!((mailbox.waiting(), mailbox.state()), (0, MailboxState::Full));
    }

    #[test]
    fn all_clients_together_leave_so_much_unread_and_no_more() {
        let (bounds, buffers) = (Bounds::new(0, 0, 1000), BufferPool::default());
        let (one, two) = (new(1 << 20, &bounds), new(1 << 20, &bounds));
        let deliver =
            |mailbox: &Mailbox, bytes: usize| mailbox.deliver(&vec![b'x'; bytes], 0, false, &buffers);
        deliver(&one, UNCOUNTED + 600);
        deliver(&two, UNCOUNTED + 300);
        assert_eq!(
            (bounds.unread.bytes(), one.state(), two.state()),
            (900, MailboxState::Open, MailboxState::Open)
        );
        deliver(&two, 101);
        assert_eq!((one.state(), two.state()), (MailboxState::Open, MailboxState::Full));
        drop(two);
        assert_eq!(bounds.unread.bytes(), 600);
        deliver(&one, 400);
        one.take();
        assert_eq!(bounds.unread.bytes(), 1000, "taken is not sent");
        one.settle();
        assert_eq!((bounds.unread.bytes(), one.state()), (0, MailboxState::Open));
    }

    #[test]
    fn what_came_on_other_ways_is_counted_with_the_rest() {
        let bounds = Bounds::new(0, 0, 1000);
        let mailbox = new(UNCOUNTED + 900, &bounds);
        mailbox.keep(UNCOUNTED);
        assert_eq!(bounds.unread.bytes(), 0);
        mailbox.keep(UNCOUNTED + 800);
        mailbox.keep(UNCOUNTED + 500);
        assert_eq!((bounds.unread.bytes(), mailbox.state()), (500, MailboxState::Open));
        mailbox.settle();
        assert_eq!(bounds.unread.bytes(), 0);
        mailbox.keep(UNCOUNTED + 700);
        mailbox.keep(UNCOUNTED + 901);
        assert_eq!((bounds.unread.bytes(), mailbox.state()), (700, MailboxState::Full));
        let other = new(1 << 20, &bounds);
        other.keep(UNCOUNTED + 301);
        assert_eq!((bounds.unread.bytes(), other.state()), (700, MailboxState::Full));
        drop(mailbox);
        assert_eq!(bounds.unread.bytes(), 0);
    }

    #[test]
    fn a_muted_reply_is_counted_and_dropped() {
        let (mailbox, buffers) = (new(8, &Bounds::new(0, 0, 0)), BufferPool::default());
        mailbox.mute(true);
        mailbox.expect(None);
        mailbox.deliver(b"+OK\r\n", 1, false, &buffers);
        assert_eq!((mailbox.waiting(), mailbox.len()), (0, 0));
    }
}
