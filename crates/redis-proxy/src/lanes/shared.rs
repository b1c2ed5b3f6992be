//! A shared lane, as its clients see it: requests go in as bytes, replies come out in their mailboxes. What has no reply yet stands
//! in its [`Journal`].

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use upstream::Endpoint;

use super::HelloReply;
use super::bounds::Permit;
use super::detours::Stray;
use super::duties::Duty;
use super::journal::{DueReply, Journal};
use super::key::{LaneKey, Pace};
use super::mailbox::Mailbox;
use super::request::Request;
use crate::buffer_pool::BufferPool;
use crate::live::LaneLimits;

/// What a client gets while Redis is away. The code is one that clients take for a reason to try again.
pub(super) const UNREACHABLE: &[u8] = b"MASTERDOWN proxy: upstream unreachable";
/// What goes before a command that a node is to carry out although it does not have the slot yet.
const ASKING: &[u8] = b"*1\r\n$6\r\nASKING\r\n";
const TIMED_OUT: &[u8] = b"-ERR proxy: upstream timeout\r\n";

/// Why there is no lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoLane {
    /// Redis cannot be reached.
    Unreachable,
    /// What is there is none to be served from, for this reason.
    Unfit(Arc<str>),
    /// MAX_LANES are in use.
    TooMany,
    /// Redis does not let this identity in: its text, without the dash.
    Login(Bytes),
    /// Redis turns down the protocol or the database: its text, without the dash.
    Request(Bytes),
}

impl NoLane {
    /// In words for a client, its code first.
    pub(crate) fn text(&self) -> Bytes {
        match self {
            NoLane::Unreachable => Bytes::from_static(UNREACHABLE),
            NoLane::Unfit(why) => unfit(why),
            NoLane::TooMany => Bytes::from_static(b"ERR proxy: too many lanes"),
            NoLane::Login(text) | NoLane::Request(text) => text.clone(),
        }
    }
}

/// In words for a client: a server that cannot be served from.
pub(super) fn unfit(why: &str) -> Bytes {
    format!("MASTERDOWN proxy: {why}").into()
}

/// Why a Redis is none to be served from, as a reply.
pub(super) fn unfit_line(why: &str) -> Vec<u8> {
    [b"-", &unfit(why)[..], b"\r\n"].concat()
}

#[derive(Clone, PartialEq, Eq)]
enum State {
    /// No connection, and nobody wants one.
    Idle,
    /// The first attempts since somebody does: commands queue.
    Connecting,
    Up,
    /// Attempts fail: commands are refused.
    Down(NoLane),
}

/// What a lane holds.
struct Queue {
    journal: Journal,
    state: State,
    facts: Option<Rc<HelloReply>>,
    /// Whether somebody was refused since the last attempt.
    called: bool,
    driver: Option<Waker>,
    waiting_for_ready: Vec<Waker>,
    waiting_for_room: Vec<Waker>,
}

/// One connection to Redis for many clients of one worker.
pub(crate) struct SharedLane {
    pub(crate) key: LaneKey,
    /// The node that it leads to.
    pub(super) endpoint: Endpoint,
    pub(crate) pace: Pace,
    queue: RefCell<Queue>,
    limits: Rc<Cell<LaneLimits>>,
    /// Of its connection, among MAX_LANES.
    permit: RefCell<Option<Permit>>,
    /// Whether anything was sent since the last question.
    is_used: Cell<bool>,
    /// Since when nothing has been on its way on its connection.
    idle_since_ns: Cell<Option<u64>>,
    /// How many hold it.
    holders: Cell<usize>,
    /// Of these, the clients, by the address of their mailbox.
    clients: RefCell<HashMap<usize, Rc<Mailbox>>>,
    /// What had been void of Redis' rights when its connection was opened ([`Anonymous::voided`](super::Anonymous::voided)).
    rights: Cell<u64>,
    _known: Option<Permit>,
}

/// A hold on a lane: as long as there is one, the lane stays what it is.
pub(crate) struct LaneHandle {
    lane: Rc<SharedLane>,
    client: Option<usize>,
}

impl Deref for LaneHandle {
    type Target = SharedLane;

    fn deref(&self) -> &SharedLane {
        &self.lane
    }
}

impl LaneHandle {
    /// For a client, which ends with the lane should Redis end it; or for a moment.
    pub(super) fn new(lane: Rc<SharedLane>, client: Option<&Rc<Mailbox>>) -> Self {
        lane.holders.set(lane.holders.get() + 1);
        let client = client.map(|mailbox| {
            let address = Rc::as_ptr(mailbox).addr();
            lane.clients.borrow_mut().insert(address, mailbox.clone());
            address
        });
        LaneHandle { lane, client }
    }
}

impl Drop for LaneHandle {
    fn drop(&mut self) {
        if let Some(address) = self.client {
            self.lane.clients.borrow_mut().remove(&address);
        }
        let left = self.lane.holders.get() - 1;
        self.lane.holders.set(left);
        if left == 0 {
            wake(self.lane.queue.borrow_mut().driver.take());
        }
    }
}

impl SharedLane {
    pub(super) fn new(
        key: LaneKey,
        pace: Pace,
        endpoint: Endpoint,
        limits: Rc<Cell<LaneLimits>>,
        known: Option<Permit>,
    ) -> Rc<Self> {
        let queue = Queue {
            journal: Journal::default(),
            state: State::Idle,
            facts: None,
            called: false,
            driver: None,
            waiting_for_ready: Vec::new(),
            waiting_for_room: Vec::new(),
        };
        Rc::new(SharedLane {
            key,
            endpoint,
            pace,
            queue: RefCell::new(queue),
            limits,
            permit: RefCell::default(),
            is_used: Cell::new(false),
            idle_since_ns: Cell::new(None),
            holders: Cell::new(0),
            clients: RefCell::default(),
            rights: Cell::new(0),
            _known: known,
        })
    }

    /// Queues one command, whose reply goes to `mailbox`. `read` if it may be sent twice; `duty` tells what is to be done
    /// before its reply is delivered. False if there is no room: nothing was taken, `duty` was not asked, and the task of
    /// `cx` is woken when there is.
    pub(crate) fn send(
        &self,
        request: Request<'_>,
        mailbox: &Rc<Mailbox>,
        read: bool,
        duty: impl FnOnce() -> Option<Duty>,
        buffers: &BufferPool,
        cx: &Context<'_>,
    ) -> bool {
        let mut queue = self.queue.borrow_mut();
        if let State::Down(refusal) = &queue.state {
            let refusal = refusal.clone();
            queue.called = true;
            drop(queue);
            let number = mailbox.expect(None); // it is not sent
            refuse(mailbox, number, &refusal, 1, buffers);
            return true;
        }
        let queue = &mut *queue;
        let journal = &mut queue.journal;
        let limits = self.limits.get();
        if journal.commands() >= limits.inflight || journal.len() >= limits.journal_bytes {
            queue.waiting_for_room.push(cx.waker().clone());
            return false;
        }
        journal.add(request, mailbox, mailbox.expect(duty()), read, None);
        self.is_used.set(true);
        wake(queue.driver.take());
        true
    }

    /// Queues a command that another lane has given up, behind ASKING, whose reply goes to `asks`, if there is one. Not bounded: it
    /// has been among what that lane bore.
    pub(super) fn take_over(&self, stray: &Stray, asks: Option<&Rc<Mailbox>>, buffers: &BufferPool) {
        let mut queue = self.queue.borrow_mut();
        if let State::Down(refusal) = &queue.state {
            let refusal = refusal.clone();
            queue.called = true;
            drop(queue);
            return refuse(&stray.mailbox, stray.number, &refusal, 1, buffers);
        }
        if let Some(asks) = asks {
            queue.journal.add(Request::Raw(ASKING), asks, asks.expect(None), true, None);
        }
        let request = Request::Raw(&stray.request);
        queue.journal.add(request, &stray.mailbox, stray.number, stray.reads, Some(stray.course));
        self.is_used.set(true);
        wake(queue.driver.take());
    }

    /// What `look` makes of what is on its way. Whoever waits for room is told of what that leaves.
    pub(super) fn with_journal<T>(&self, look: impl FnOnce(&mut Journal) -> T) -> T {
        let mut queue = self.queue.borrow_mut();
        let looked = look(&mut queue.journal);
        queue.make_room(self.limits.get());
        looked
    }

    /// Ready with what Redis said of itself once there is a connection, or with why there is none.
    pub(crate) fn poll_ready(&self, cx: &Context<'_>) -> Poll<Result<Rc<HelloReply>, NoLane>> {
        let mut queue = self.queue.borrow_mut();
        match (&queue.state, &queue.facts) {
            (State::Up, Some(facts)) => Poll::Ready(Ok(facts.clone())),
            (State::Down(refusal), _) => {
                let refusal = refusal.clone();
                queue.called = true;
                Poll::Ready(Err(refusal))
            }
            _ => {
                queue.waiting_for_ready.push(cx.waker().clone());
                wake(queue.driver.take());
                Poll::Pending
            }
        }
    }

    /// Ready once somebody wants a connection, or with false once nobody has a use for the lane.
    pub(super) fn poll_wanted(&self, cx: &Context<'_>) -> Poll<bool> {
        if self.is_wanted() {
            self.queue.borrow_mut().state = State::Connecting;
            return Poll::Ready(true);
        }
        if !self.is_held() {
            return Poll::Ready(false);
        }
        self.queue.borrow_mut().driver = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether somebody waits for a connection.
    pub(super) fn is_wanted(&self) -> bool {
        let queue = self.queue.borrow();
        queue.journal.commands() > 0 || !queue.waiting_for_ready.is_empty()
    }

    /// Whether it has a connection, or is about to.
    pub(crate) fn is_open(&self) -> bool {
        self.has_place()
    }

    /// Whether anybody may still have a use for it.
    pub(super) fn is_held(&self) -> bool {
        self.holders.get() > 0
    }

    /// Whether clients are on it.
    pub(super) fn has_clients(&self) -> bool {
        !self.clients.borrow().is_empty()
    }

    /// Redis has thrown its clients out: they end, as their own connections would have.
    pub(super) fn end_clients(&self) -> usize {
        let clients: Vec<_> = self.clients.borrow().values().cloned().collect();
        clients.iter().for_each(|mailbox| mailbox.lose());
        clients.len()
    }

    /// What was void when its connection was opened.
    pub(super) fn rights(&self) -> u64 {
        self.rights.get()
    }

    /// Its connection is being opened, and so much is void.
    pub(super) fn set_rights(&self, voided: u64) {
        self.rights.set(voided);
    }

    /// Whether anybody was refused since the last question.
    pub(super) fn was_called(&self) -> bool {
        std::mem::take(&mut self.queue.borrow_mut().called)
    }

    /// Whether anything was sent since the last question.
    pub(super) fn was_used(&self) -> bool {
        self.is_used.take()
    }

    /// Commands without a reply.
    pub(super) fn commands(&self) -> usize {
        self.queue.borrow().journal.commands()
    }

    /// It has a permit for a connection, or no longer.
    pub(super) fn set_permit(&self, permit: Option<Permit>) {
        self.permit.replace(permit);
    }

    /// Whether its connection may go on: its permit has not been given to another lane.
    pub(super) fn has_place(&self) -> bool {
        self.permit.borrow().is_some()
    }

    /// Nothing has been on its way since then, or something is.
    pub(super) fn set_idle(&self, since_ns: Option<u64>) {
        self.idle_since_ns.set(since_ns);
    }

    /// Since when its connection has been of no use; `None` if it is, or if there is none.
    pub(super) fn idle_since_ns(&self) -> Option<u64> {
        self.idle_since_ns.get().filter(|_| self.commands() == 0 && self.has_place())
    }

    /// Takes its permit; its connection is closed.
    pub(super) fn retire(&self) -> Option<Permit> {
        wake(self.queue.borrow_mut().driver.take());
        self.permit.take()
    }

    /// There is a connection.
    pub(super) fn opened(&self, facts: Rc<HelloReply>) {
        let mut queue = self.queue.borrow_mut();
        queue.state = State::Up;
        queue.facts = Some(facts);
        wake_all(&mut queue.waiting_for_ready);
    }

    /// There is none, and nobody is to wait for it any longer.
    pub(super) fn refuse(&self, refusal: &NoLane, buffers: &BufferPool) {
        for DueReply { mailbox, number, missing } in self.clear(State::Down(refusal.clone())).missing() {
            refuse(&mailbox, number, refusal, missing, buffers);
        }
    }

    /// Nobody was refused lately: the next one is worth an attempt.
    pub(super) fn rest(&self) {
        self.queue.borrow_mut().state = State::Idle;
    }

    /// The connection did not answer in time.
    pub(super) fn time_out(&self, buffers: &BufferPool) {
        let journal = self.clear(State::Idle);
        let mut is_cut = journal.is_cut();
        for DueReply { mailbox, number, missing } in journal.missing() {
            if std::mem::take(&mut is_cut) {
                mailbox.lose();
            }
            mailbox.deliver(number, &TIMED_OUT.repeat(missing), missing, false, buffers);
        }
    }

    /// The connection is gone. What may go to the next one stays; how many clients are lost, and how many commands go again.
    pub(super) fn lose(&self) -> Lost {
        let journal = self.clear(State::Idle);
        let mut clients = 0;
        for mailbox in journal.lost_clients() {
            clients += 1;
            mailbox.lose();
        }
        let retries = self.queue.borrow_mut().journal.resume(journal);
        Lost { clients, retries }
    }

    /// Takes all that is on its way. Whoever is told of that may come back here: nothing is borrowed meanwhile.
    fn clear(&self, state: State) -> Journal {
        let mut queue = self.queue.borrow_mut();
        queue.state = state;
        wake_all(&mut queue.waiting_for_ready);
        wake_all(&mut queue.waiting_for_room);
        std::mem::take(&mut queue.journal)
    }

    /// What the connection is to write now, `written` of it the time before. Registers the driver.
    pub(super) fn unwritten<T>(
        &self,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut Context<'_>, &[u8]) -> (usize, T),
    ) -> Option<T> {
        let mut queue = self.queue.borrow_mut();
        if queue.journal.unwritten().is_empty() {
            if queue.driver.is_none() {
                queue.driver = Some(cx.waker().clone());
            }
            return None;
        }
        let (count, outcome) = write(cx, queue.journal.unwritten());
        queue.journal.wrote(count);
        Some(outcome)
    }

    /// Whose reply is at hand: `None` if nobody has asked for one.
    pub(super) fn front(&self) -> Option<DueReply> {
        self.queue.borrow().journal.front()
    }

    /// `whole` replies of the first run have been delivered, and perhaps a part of the next.
    pub(super) fn replied(&self, whole: usize, partly: bool) {
        let mut queue = self.queue.borrow_mut();
        queue.journal.replied(whole, partly);
        queue.make_room(self.limits.get());
    }
}

impl Queue {
    /// Wakes those who wait for room, if there is enough.
    #[inline]
    fn make_room(&mut self, limits: LaneLimits) {
        let room = self.journal.commands() < limits.inflight.div_ceil(2)
            && self.journal.len() < limits.journal_bytes / 2;
        if room && !self.waiting_for_room.is_empty() {
            wake_all(&mut self.waiting_for_room);
        }
    }
}

/// There are other limits: the lane's driver looks how long it is to wait, and whoever waits for room at how much there is.
pub(super) fn limits_changed(lane: &SharedLane) {
    let mut queue = lane.queue.borrow_mut();
    wake(queue.driver.take());
    wake_all(&mut queue.waiting_for_room);
}

/// What became of the commands on a connection that was lost.
#[derive(Debug, Default)]
pub(super) struct Lost {
    pub(super) clients: u64,
    pub(super) retries: usize,
}

fn refuse(mailbox: &Mailbox, first: u64, refusal: &NoLane, commands: usize, buffers: &BufferPool) {
    let line = [b"-", &refusal.text()[..], b"\r\n"].concat();
    (first..first + commands as u64).for_each(|number| mailbox.refused(number));
    mailbox.deliver(first, &line.repeat(commands), commands, false, buffers);
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn wake_all(wakers: &mut Vec<Waker>) {
    wakers.drain(..).for_each(Waker::wake);
}
