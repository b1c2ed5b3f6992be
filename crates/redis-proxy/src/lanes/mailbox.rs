//! Where the replies of a shared lane wait for their client, as bytes.

use std::cell::{Cell, RefCell};
use std::task::{Context, Waker};

use crate::spare::Spare;

/// Replies above this are large: a client should have one of them on its way, because they wait in memory.
pub(crate) const LARGE_REPLY: usize = 32 * 1024;

/// One client's side of the shared lanes. Its replies come in the order of its commands, because all commands that are on
/// their way at one time are on one lane.
pub(crate) struct Mailbox {
    bytes: RefCell<Vec<u8>>,
    /// Commands on a lane that have no whole reply yet.
    waiting: Cell<usize>,
    state: Cell<State>,
    /// Replies are counted and dropped: `CLIENT REPLY OFF`.
    muted: Cell<bool>,
    /// Bytes that may wait here: a client that does not read is cut off, as Redis does with its output buffers.
    limit: usize,
    waker: RefCell<Option<Waker>>,
    /// Bytes of the reply at hand.
    partial: Cell<usize>,
    /// Whether a large reply has come since the last question.
    large: Cell<bool>,
}

/// How it is with the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It takes its replies.
    Open,
    /// A reply is lost, or too many wait: its connection must be closed.
    Lost,
    /// It has left.
    Gone,
}

impl Mailbox {
    /// A mailbox for at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Mailbox {
            bytes: RefCell::default(),
            waiting: Cell::new(0),
            state: Cell::new(State::Open),
            muted: Cell::new(false),
            limit,
            waker: RefCell::default(),
            partial: Cell::new(0),
            large: Cell::new(false),
        }
    }

    /// Commands without a whole reply.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.get()
    }

    pub(crate) fn state(&self) -> State {
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
    pub(crate) fn register(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if waker.is_none() {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Appends what is here to `output`, or trades buffers where that is empty. Whether there was anything.
    pub(crate) fn take_into(&self, output: &mut Vec<u8>, spare: &Spare) -> bool {
        let mut bytes = self.bytes.borrow_mut();
        if bytes.is_empty() {
            return false;
        }
        if output.is_empty() {
            spare.give_output(std::mem::replace(output, std::mem::take(&mut bytes)));
        } else {
            output.extend_from_slice(&bytes);
            spare.give_output(std::mem::take(&mut bytes));
        }
        true
    }

    /// Whether a large reply has come since the last question.
    pub(crate) fn was_large(&self) -> bool {
        self.large.take()
    }

    /// Bytes that wait here.
    pub(crate) fn len(&self) -> usize {
        self.bytes.borrow().len()
    }

    /// The client is gone: what still comes for it is dropped.
    pub(crate) fn leave(&self) {
        self.state.set(State::Gone);
        self.bytes.take();
        self.waker.take();
    }

    pub(super) fn expect(&self) {
        self.waiting.set(self.waiting.get() + 1);
    }

    /// The next bytes of its replies, with the ends of `whole` of them.
    pub(super) fn deliver(&self, reply: &[u8], whole: usize, spare: &Spare) {
        self.waiting.set(self.waiting.get().saturating_sub(whole));
        let here = self.partial.get() + reply.len();
        if here > LARGE_REPLY * whole.max(1) {
            self.large.set(true);
        }
        self.partial.set(if whole == 0 { here } else { 0 });
        if self.state.get() != State::Open {
            return;
        }
        if !self.muted.get() {
            let mut bytes = self.bytes.borrow_mut();
            if bytes.len() + reply.len() > self.limit {
                drop(bytes);
                return self.lose();
            }
            if bytes.capacity() == 0 {
                *bytes = spare.take_output();
            }
            bytes.extend_from_slice(reply);
        }
        self.wake();
    }

    /// A reply will never come, or cannot be held: the client is to be closed.
    pub(super) fn lose(&self) {
        if self.state.get() == State::Open {
            self.state.set(State::Lost);
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_takes_nothing_is_lost_at_its_limit_and_not_before() {
        let (mailbox, spare) = (Mailbox::new(8), Spare::default());
        mailbox.expect();
        mailbox.expect();
        mailbox.deliver(b"+OK\r\n", 1, &spare);
        assert_eq!((mailbox.waiting(), mailbox.state(), mailbox.len()), (1, State::Open, 5));
        mailbox.deliver(b"+OK\r\n", 1, &spare);
        assert_eq!((mailbox.waiting(), mailbox.state()), (0, State::Lost));
    }

    #[test]
    fn a_muted_reply_is_counted_and_dropped() {
        let (mailbox, spare) = (Mailbox::new(8), Spare::default());
        mailbox.mute(true);
        mailbox.expect();
        mailbox.deliver(b"+OK\r\n", 1, &spare);
        assert_eq!((mailbox.waiting(), mailbox.len()), (0, 0));
    }
}
