//! Where the replies of a shared lane wait for their client, as bytes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use super::bounds::{Bounds, Unread};
use super::duties::{Discharge, Duties, Duty};
use super::early::EarlyReplies;
use super::merge::Merge;
use super::numbers::Numbers;
use super::spreads::{Merged, Spreads};
use crate::buffer_pool::BufferPool;

/// Replies above this are large: a client should have one of them on its way, because they wait in memory.
pub(crate) const LARGE_REPLY: usize = 32 * 1024;
/// So much of what waits for a client is not counted: most clients read, and the count is one for all workers.
const UNCOUNTED: usize = 16 * 1024;

/// One client's side of the shared lanes. Its commands are numbered in the order in which they are sent, and their replies leave in
/// that order: one that comes before its turn is kept beside.
pub(crate) struct Mailbox {
    bytes: RefCell<Vec<u8>>,
    numbers: Numbers,
    /// What has come of replies before their turn. Nothing where all commands are on one lane.
    early: RefCell<EarlyReplies>,
    /// Commands that go in pieces, of which none is whole.
    spreads: RefCell<Spreads>,
    /// Replies that have become whole since they were last taken.
    whole: Cell<usize>,
    state: Cell<MailboxState>,
    /// Replies are counted and dropped: `CLIENT REPLY OFF`.
    muted: Cell<bool>,
    /// Bytes that may wait for it: a client that does not read is cut off, as Redis does with its output buffers.
    limit: Rc<Cell<usize>>,
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
    /// A mailbox for at most `limit` bytes, which may change, and no more than all clients together may leave. `discharge` does the duties of its
    /// client.
    pub(crate) fn new(limit: Rc<Cell<usize>>, bounds: &Bounds, discharge: Rc<dyn Discharge>) -> Self {
        Mailbox {
            bytes: RefCell::default(),
            numbers: Numbers::default(),
            early: RefCell::default(),
            spreads: RefCell::default(),
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

    /// How far its commands have come.
    #[inline]
    pub(crate) fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// Commands on lanes that have no whole reply yet, or one that waits for its turn; and one of which not all is sent.
    pub(crate) fn waiting(&self) -> usize {
        let on_lanes = usize::try_from(self.numbers.on_lanes()).unwrap_or(usize::MAX);
        on_lanes + usize::from(self.numbers.is_spreading.get())
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

    /// Bytes that may be taken.
    pub(crate) fn len(&self) -> usize {
        self.bytes.borrow().len()
    }

    /// The client has been given all that was taken.
    #[inline]
    pub(crate) fn settle(&self) {
        if self.held.get() + self.kept.get() == 0 {
            return;
        }
        let held = self.len() + self.early.borrow().bytes() + self.spreads.borrow().held();
        self.held.set(held);
        if self.counted.get() + self.kept.get() > 0 {
            let counted = self.counted.get().min(held.saturating_sub(UNCOUNTED));
            self.unread.remove(self.counted.replace(counted) - counted + self.kept.take());
        }
    }

    /// So many bytes that Redis sent on other ways wait for the client now that it takes nothing.
    pub(crate) fn keep(&self, bytes: usize) {
        let (before, now) = (self.kept.get(), bytes.saturating_sub(UNCOUNTED));
        if now < before {
            self.unread.remove(before - now);
        } else if self.held.get() + bytes > self.limit.get() || now > before && !self.unread.add(now - before)
        {
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
        if held > self.limit.get() || uncounted > 0 && !self.unread.add(uncounted) {
            return false;
        }
        self.counted.set(self.counted.get() + uncounted);
        true
    }

    /// The client is gone: what still comes for it is dropped.
    pub(crate) fn leave(&self) {
        self.state.set(MailboxState::Gone);
        self.bytes.take();
        self.early.take();
        self.spreads.take();
        self.waker.take();
    }

    /// A command is sent, with what is to be done before its reply is delivered. Its number.
    pub(super) fn expect(&self, duty: Option<Duty>) -> u64 {
        let number = self.numbers.send();
        self.duties.sent(number, duty);
        number
    }

    /// A command is sent in pieces, which are sent next: what is made of their replies, and what is to be done before that is delivered.
    pub(crate) fn begin_spread(&self, how: Merge, duty: Option<Duty>) {
        let head = self.expect(duty);
        let mut spreads = self.spreads.borrow_mut();
        spreads.begin(head, how);
        self.numbers.spread_at.set(spreads.first());
        self.numbers.is_spreading.set(true);
        self.numbers.turn_is(self.numbers.turn());
    }

    /// All pieces are sent.
    pub(crate) fn end_spread(&self, buffers: &BufferPool) {
        // What stands behind the pieces.
        self.spreads.borrow_mut().end(self.numbers.send());
        self.numbers.is_spreading.set(false);
        self.merge(buffers);
    }

    /// Bytes of its replies from number `first` on: the ends of `whole` of them, and with `partly` the beginning of one more. Of one
    /// reply they come in their order; of several in any.
    pub(super) fn deliver(&self, first: u64, reply: &[u8], whole: usize, partly: bool, buffers: &BufferPool) {
        self.duties.answered(first, whole, partly);
        if first != self.numbers.turn() {
            return self.keep_early(first, reply, whole);
        }
        if first > self.numbers.spread_at.get() {
            return self.deliver_pieces(reply, whole, buffers);
        }
        self.count(reply.len(), whole);
        if self.state.get() != MailboxState::Open {
            return;
        }
        if !self.muted.get() {
            if !self.hold(reply.len()) {
                self.state.set(MailboxState::Full);
                return self.wake();
            }
            append(&self.bytes, reply, buffers);
        }
        if !self.early.borrow().is_empty() {
            self.catch_up(buffers);
        }
        self.wake();
    }

    /// So many bytes are next, in which so many replies end.
    #[inline]
    fn count(&self, bytes: usize, whole: usize) {
        self.numbers.turn_is(self.numbers.turn() + whole as u64);
        self.whole.set(self.whole.get() + whole);
        let here = self.partial.get() + bytes;
        if here > LARGE_REPLY * whole.max(1) {
            self.large.set(true);
        }
        self.partial.set(if whole == 0 { here } else { 0 });
    }

    /// These are of pieces, and next.
    #[cold]
    fn deliver_pieces(&self, reply: &[u8], whole: usize, buffers: &BufferPool) {
        if self.state.get() != MailboxState::Open {
            return;
        }
        let reply = if self.muted.get() { &[] } else { reply };
        if !self.hold(reply.len()) {
            self.state.set(MailboxState::Full);
            return self.wake();
        }
        self.take_pieces(reply, whole);
        self.merge(buffers);
        if !self.early.borrow().is_empty() {
            self.catch_up(buffers);
        }
        if self.has_mail() || self.numbers.wants_pieces() {
            self.wake();
        }
    }

    /// So much of pieces, which is held already, goes where it is put together.
    fn take_pieces(&self, reply: &[u8], whole: usize) {
        let more = self.spreads.borrow_mut().take(reply, whole);
        self.held.set((self.held.get() + more).saturating_sub(reply.len()));
        self.numbers.turn_is(self.numbers.turn() + whole as u64);
    }

    /// What all pieces are answered of is one reply.
    fn merge(&self, buffers: &BufferPool) {
        // Nobody is borrowed while a duty is done.
        loop {
            let merged = self.spreads.borrow_mut().take_merged();
            let Some(Merged { head, next, reply, is_refused, held }) = merged else { return };
            self.numbers.spread_at.set(self.spreads.borrow().first());
            self.numbers.turn_is(next);
            match is_refused {
                true => self.duties.refused(head),
                false => self.duties.answered(head, 1, false),
            }
            self.whole.set(self.whole.get() + 1);
            self.held.set((self.held.get() + reply.len()).saturating_sub(held));
            if reply.len() > LARGE_REPLY {
                self.large.set(true);
            }
            if !self.muted.get() {
                append(&self.bytes, &reply, buffers);
            }
        }
    }

    /// It is not the turn of these.
    #[cold]
    fn keep_early(&self, first: u64, reply: &[u8], whole: usize) {
        if self.state.get() != MailboxState::Open {
            return;
        }
        let reply = if self.muted.get() { &[] } else { reply };
        if !self.hold(reply.len()) {
            self.state.set(MailboxState::Full);
            return self.wake();
        }
        self.early.borrow_mut().keep(first, reply, whole);
    }

    /// It may be the turn of what was kept beside, which is counted already.
    #[cold]
    fn catch_up(&self, buffers: &BufferPool) {
        loop {
            let number = self.numbers.turn();
            let Some(stretch) = self.early.borrow_mut().take(number) else { return };
            if number > self.numbers.spread_at.get() {
                self.take_pieces(&stretch.bytes, stretch.whole);
                self.merge(buffers);
                continue;
            }
            self.count(stretch.bytes.len(), stretch.whole);
            if !stretch.bytes.is_empty() {
                append(&self.bytes, &stretch.bytes, buffers);
            }
        }
    }

    /// The reply to a command is an error, of which these bytes are here: they come with the next delivery.
    pub(super) fn error(&self, number: u64, reply: &[u8]) {
        self.duties.error(number, reply);
    }

    /// A command was never sent: what comes with the next delivery is our own.
    pub(super) fn refused(&self, number: u64) {
        self.duties.refused(number);
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

/// Puts a reply behind those that may be taken.
#[inline]
fn append(bytes: &RefCell<Vec<u8>>, reply: &[u8], buffers: &BufferPool) {
    let mut bytes = bytes.borrow_mut();
    if bytes.capacity() == 0 {
        *bytes = buffers.take_output();
    }
    bytes.extend_from_slice(reply);
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.unread.remove(self.counted.get() + self.kept.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::duties::Answer;
    use crate::lanes::keys::Keys;
    use crate::lanes::{Fold, Noted};

    fn new(limit: usize, bounds: &Bounds) -> Mailbox {
        Mailbox::new(Rc::new(Cell::new(limit)), bounds, Rc::new(Noted::default()))
    }

    /// So many commands are sent.
    fn expect(mailbox: &Mailbox, commands: usize) {
        for _ in 0..commands {
            mailbox.expect(None);
        }
    }

    /// Delivers the next reply.
    fn next(mailbox: &Mailbox, reply: &[u8], whole: usize) {
        mailbox.deliver(mailbox.numbers.turn(), reply, whole, whole == 0, &BufferPool::default());
    }

    /// What the client is given.
    fn taken(mailbox: &Mailbox) -> Option<(String, usize)> {
        mailbox.take().map(|(bytes, whole)| (String::from_utf8(bytes).unwrap(), whole))
    }

    #[test]
    fn a_client_that_takes_nothing_is_lost_at_its_limit_and_not_before() {
        let mailbox = new(8, &Bounds::new(0, 0, 0));
        mailbox.expect(None);
        mailbox.expect(None);
        next(&mailbox, b"+OK\r\n", 1);
        assert_eq!((mailbox.waiting(), mailbox.state(), mailbox.len()), (1, MailboxState::Open, 5));
        next(&mailbox, b"+OK\r\n", 1);
        assert_eq!((mailbox.waiting(), mailbox.state()), (0, MailboxState::Full));
    }

    #[test]
    fn replies_leave_in_the_order_of_the_commands_whatever_the_order_in_which_they_come() {
        let (mailbox, buffers) = (new(1 << 20, &Bounds::new(0, 0, 0)), BufferPool::default());
        let numbers: Vec<_> = (0..6).map(|_| mailbox.expect(None)).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
        let deliver = |first, reply: &str, whole, partly| {
            mailbox.deliver(first, reply.as_bytes(), whole, partly, &buffers);
        };
        deliver(4, ":4\r\n:", 1, true);
        deliver(2, ":2\r\n", 1, false);
        assert_eq!((mailbox.waiting(), mailbox.has_news(), taken(&mailbox)), (6, false, None));
        deliver(0, ":", 0, true);
        assert_eq!(taken(&mailbox), Some((":".into(), 0)));
        deliver(0, "0\r\n", 1, false);
        assert_eq!((mailbox.waiting(), taken(&mailbox)), (5, Some(("0\r\n".into(), 1))));
        deliver(1, ":1\r\n", 1, false);
        assert_eq!((mailbox.waiting(), taken(&mailbox)), (3, Some((":1\r\n:2\r\n".into(), 2))));
        deliver(3, ":3\r\n", 1, false);
        // Half of the last one is here.
        assert_eq!((mailbox.waiting(), taken(&mailbox)), (1, Some((":3\r\n:4\r\n:".into(), 2))));
        deliver(5, "5\r\n", 1, false);
        assert_eq!((mailbox.waiting(), taken(&mailbox)), (0, Some(("5\r\n".into(), 1))));
    }

    #[test]
    fn what_came_before_its_turn_is_counted_until_the_client_has_it() {
        let (bounds, buffers) = (Bounds::new(0, 0, 1000), BufferPool::default());
        let mailbox = new(1 << 20, &bounds);
        expect(&mailbox, 4);
        mailbox.deliver(1, &vec![b'x'; UNCOUNTED + 600], 1, false, &buffers);
        mailbox.settle();
        assert_eq!(
            (bounds.unread.bytes(), mailbox.state()),
            (600, MailboxState::Open),
            "nothing of it is sent"
        );
        mailbox.deliver(0, &[b'x'; 100], 1, false, &buffers);
        assert_eq!((bounds.unread.bytes(), mailbox.waiting()), (700, 2));
        assert_eq!(mailbox.take().map(|(bytes, whole)| (bytes.len(), whole)), Some((UNCOUNTED + 700, 2)));
        mailbox.settle();
        assert_eq!(bounds.unread.bytes(), 0);
        mailbox.deliver(3, &vec![b'x'; UNCOUNTED + 1001], 1, false, &buffers);
        assert_eq!((bounds.unread.bytes(), mailbox.state()), (0, MailboxState::Full));
    }

    #[test]
    fn a_reply_of_the_middle_that_is_lost_lets_none_behind_it_out() {
        let (mailbox, buffers) = (new(1 << 20, &Bounds::new(0, 0, 0)), BufferPool::default());
        expect(&mailbox, 3);
        mailbox.deliver(2, b":2\r\n", 1, false, &buffers);
        mailbox.deliver(0, b":0\r\n", 1, false, &buffers);
        mailbox.lose();
        mailbox.deliver(1, b"-ERR late\r\n", 1, false, &buffers);
        assert_eq!((mailbox.state(), taken(&mailbox)), (MailboxState::Lost, Some((":0\r\n".into(), 2))));
    }

    #[test]
    fn all_clients_together_leave_so_much_unread_and_no_more() {
        let bounds = Bounds::new(0, 0, 1000);
        let (one, two) = (new(1 << 20, &bounds), new(1 << 20, &bounds));
        let deliver = |mailbox: &Mailbox, bytes: usize| next(mailbox, &vec![b'x'; bytes], 0);
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
        expect(&mailbox, 3);
        next(&mailbox, b"+OK\r\n", 1);
        assert_eq!((mailbox.waiting(), mailbox.len()), (2, 0));
        mailbox.deliver(2, b"+much more than fits\r\n", 1, false, &buffers);
        assert_eq!((mailbox.waiting(), mailbox.state()), (2, MailboxState::Open));
        next(&mailbox, b"+OK\r\n", 1);
        assert_eq!((mailbox.waiting(), taken(&mailbox)), (0, Some((String::new(), 3))));
    }

    fn written(key: &str) -> Duty {
        Duty::Written(Keys::new(key.as_bytes(), std::iter::empty()))
    }

    /// Sends so many pieces of a command.
    fn pieces(mailbox: &Mailbox, how: Merge, pieces: usize) {
        mailbox.begin_spread(how, None);
        expect(mailbox, pieces);
        mailbox.end_spread(&BufferPool::default());
    }

    #[test]
    fn the_replies_to_pieces_are_one_reply_at_its_turn() {
        let (mailbox, buffers) = (new(1 << 20, &Bounds::new(0, 0, 0)), BufferPool::default());
        let deliver = |number, reply: &str| {
            mailbox.deliver(number, reply.as_bytes(), reply.matches(':').count(), false, &buffers);
        };
        expect(&mailbox, 1); // 0
        pieces(&mailbox, Merge::Numbers(Fold::Sum), 3); // 1, of 2 to 4, up to 5
        pieces(&mailbox, Merge::Numbers(Fold::Sum), 2); // 6, of 7 and 8, up to 9
        expect(&mailbox, 1); // 10
        assert_eq!(mailbox.waiting(), 11);
        deliver(7, ":10\r\n:20\r\n");
        deliver(3, ":2\r\n:3\r\n");
        assert_eq!(taken(&mailbox), None);
        deliver(0, ":0\r\n");
        assert_eq!(taken(&mailbox), Some((":0\r\n".into(), 1)));
        mailbox.deliver(2, b":", 0, true, &buffers);
        assert_eq!(taken(&mailbox), None);
        mailbox.deliver(2, b"1\r\n", 1, false, &buffers);
        assert_eq!(taken(&mailbox), Some((":6\r\n:30\r\n".into(), 2)));
        assert_eq!(mailbox.waiting(), 1);
        deliver(10, ":4\r\n");
        assert_eq!((taken(&mailbox), mailbox.waiting()), (Some((":4\r\n".into(), 1)), 0));
    }

    #[test]
    fn a_command_in_pieces_is_not_answered_before_all_are_sent() {
        let (mailbox, buffers) = (new(1 << 20, &Bounds::new(0, 0, 0)), BufferPool::default());
        mailbox.begin_spread(Merge::AllSucceeded, None);
        expect(&mailbox, 1);
        mailbox.deliver(1, b"+OK\r\n", 1, false, &buffers);
        assert_eq!((taken(&mailbox), mailbox.waiting(), mailbox.numbers().is_idle()), (None, 1, true));
        expect(&mailbox, 1);
        mailbox.end_spread(&buffers);
        assert_eq!((taken(&mailbox), mailbox.numbers().is_idle()), (None, false));
        mailbox.deliver(2, b"+OK\r\n", 1, false, &buffers);
        assert_eq!((taken(&mailbox), mailbox.waiting()), (Some(("+OK\r\n".into(), 1)), 0));
        // One that no lane took.
        pieces(&mailbox, Merge::Numbers(Fold::Sum), 0);
        assert_eq!((taken(&mailbox), mailbox.waiting()), (Some((":0\r\n".into(), 1)), 0));
    }

    #[test]
    fn the_duty_of_a_command_in_pieces_is_done_once_all_are_answered_and_told_if_none_was_begun() {
        let noted = Rc::new(Noted::default());
        let mailbox = Mailbox::new(Rc::new(Cell::new(1 << 20)), &Bounds::new(0, 0, 0), noted.clone());
        let (duty, buffers) = (|key: &str| Some(written(key)), BufferPool::default());
        for (key, replies) in [("some", ["-NOPERM a\r\n", "+OK\r\n"]), ("none", ["-NOPERM a\r\n"; 2])] {
            mailbox.begin_spread(Merge::AllSucceeded, duty(key));
            let first = mailbox.expect(None);
            mailbox.expect(None);
            mailbox.end_spread(&buffers);
            let before = noted.done().len();
            mailbox.deliver(first + 1, replies[1].as_bytes(), 1, false, &buffers);
            assert_eq!(noted.done().len(), before);
            mailbox.deliver(first, replies[0].as_bytes(), 1, false, &buffers);
            assert_eq!(taken(&mailbox), Some(("-NOPERM a\r\n".into(), 1)));
        }
        assert_eq!(noted.done(), [("some".to_owned(), Answer::Other), ("none".to_owned(), Answer::Refused)]);
    }

    #[test]
    fn what_replies_to_pieces_are_put_together_of_counts_and_what_is_made_of_them_as_well() {
        let bounds = Bounds::new(0, 0, 1 << 20);
        let (mailbox, buffers) = (new(UNCOUNTED + 1000, &bounds), BufferPool::default());
        // Of a sum nothing is held.
        pieces(&mailbox, Merge::Numbers(Fold::Sum), 20_000);
        (1..=20_000).for_each(|number| mailbox.deliver(number, b":1\r\n", 1, false, &buffers));
        assert_eq!(taken(&mailbox), Some((":20000\r\n".into(), 1)));
        mailbox.settle();
        let element = format!("*1\r\n$500\r\n{}\r\n", "x".repeat(500));
        mailbox.begin_spread(Merge::InOrder(100), None);
        for _ in 0..30 {
            let number = mailbox.expect(None);
            mailbox.deliver(number, element.as_bytes(), 1, false, &buffers);
        }
        assert_eq!(mailbox.state(), MailboxState::Open);
        mailbox.settle();
        for _ in 0..10 {
            let number = mailbox.expect(None);
            mailbox.deliver(number, element.as_bytes(), 1, false, &buffers);
        }
        assert_eq!(mailbox.state(), MailboxState::Full);
    }
}
