//! A shared lane, as its clients see it: requests go in as bytes, replies come out in their mailboxes.
//!
//! All requests without a reply stand in one buffer, the *journal*: what is not written yet behind what is. Beside it the
//! *runs* say whose they are, neighbours of one client in one run. So a lost connection forgets nothing: what was not
//! written goes to the next connection, a read that was written goes there once, and a client with anything else on its way
//! is closed, because nobody knows whether it was executed.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use resp::{Arguments, Parsed, RequestLimits, RequestParser, encode_command};
use upstream::sent_elsewhere;

use super::bounds::Permit;
use super::duties::Duty;
use super::key::{LaneKey, Pace};
use super::mailbox::Mailbox;
use super::{HelloReply, LaneSettings};
use crate::buffer_pool::BufferPool;

/// What a client gets while Redis is away. The code is one that clients take for a reason to try again.
pub(super) const UNREACHABLE: &[u8] = b"MASTERDOWN proxy: upstream unreachable";
const TIMED_OUT: &[u8] = b"-ERR proxy: upstream timeout\r\n";
/// A journal that a burst has grown beyond this is given back once it is empty.
const KEPT_JOURNAL: usize = 256 * 1024;

/// A request on its way to Redis.
#[derive(Clone, Copy)]
pub(crate) enum Request<'a> {
    /// As the client wrote it, which is as every server reads it.
    Raw(&'a [u8]),
    /// To be written anew.
    Encoded(Arguments<'a>),
}

impl Request<'_> {
    /// Its length as the client wrote it, or would have.
    pub(crate) fn len(&self) -> usize {
        match self {
            Request::Raw(bytes) => bytes.len(),
            Request::Encoded(_) => {
                let mut bytes = BytesMut::new();
                self.write(&mut bytes);
                bytes.len()
            }
        }
    }

    /// Appends it to what is to be written.
    pub(crate) fn write(&self, out: &mut BytesMut) {
        match self {
            Request::Raw(bytes) => out.extend_from_slice(bytes),
            Request::Encoded(arguments) => {
                let arguments: Vec<&[u8]> = arguments.iter().collect();
                encode_command(out, &arguments);
            }
        }
    }
}

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

/// If Redis sends its client elsewhere by an error, `-` left out: why it is none to be served from.
pub(crate) fn why_elsewhere(error: &[u8]) -> Option<&'static str> {
    sent_elsewhere(error)
}

/// Why a Redis is none to be served from, as a reply.
pub(crate) fn unfit_line(why: &str) -> Vec<u8> {
    [b"-", &unfit(why)[..], b"\r\n"].concat()
}

/// Commands of one client that follow each other on a lane.
struct Run {
    mailbox: Rc<Mailbox>,
    commands: usize,
    replied: usize,
    /// Their length in the journal.
    bytes: usize,
    /// Whether they may be sent twice.
    reads: bool,
    /// Whether they have been.
    retried: bool,
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
    journal: BytesMut,
    /// Of the journal: what the connection has been given.
    written: usize,
    runs: VecDeque<Run>,
    /// Commands without a reply.
    commands: usize,
    state: State,
    facts: Option<Rc<HelloReply>>,
    /// Whether a part of the first reply has gone to its client.
    partly_delivered: bool,
    /// Whether somebody was refused since the last attempt.
    called: bool,
    driver: Option<Waker>,
    waiting_for_ready: Vec<Waker>,
    waiting_for_room: Vec<Waker>,
}

/// One connection to Redis for many clients of one worker.
pub(crate) struct SharedLane {
    pub(crate) key: LaneKey,
    pub(crate) pace: Pace,
    queue: RefCell<Queue>,
    settings: LaneSettings,
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
    pub(super) fn new(key: LaneKey, pace: Pace, settings: LaneSettings, known: Option<Permit>) -> Rc<Self> {
        let queue = Queue {
            journal: BytesMut::new(),
            written: 0,
            runs: VecDeque::new(),
            commands: 0,
            state: State::Idle,
            facts: None,
            partly_delivered: false,
            called: false,
            driver: None,
            waiting_for_ready: Vec::new(),
            waiting_for_room: Vec::new(),
        };
        Rc::new(SharedLane {
            key,
            pace,
            queue: RefCell::new(queue),
            settings,
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
            mailbox.expect(None); // it is not sent
            refuse(mailbox, &refusal, 1, buffers);
            return true;
        }
        let queue = &mut *queue;
        if queue.commands >= self.settings.in_flight || queue.journal.len() >= self.settings.journal_bytes {
            queue.waiting_for_room.push(cx.waker().clone());
            return false;
        }
        let before = queue.journal.len();
        request.write(&mut queue.journal);
        let bytes = queue.journal.len() - before;
        mailbox.expect(duty());
        queue.commands += 1;
        self.is_used.set(true);
        match queue.runs.back_mut() {
            Some(run) if run.reads == read && !run.retried && Rc::ptr_eq(&run.mailbox, mailbox) => {
                run.commands += 1;
                run.bytes += bytes;
            }
            _ => queue.runs.push_back(Run {
                mailbox: mailbox.clone(),
                commands: 1,
                replied: 0,
                bytes,
                reads: read,
                retried: false,
            }),
        }
        wake(queue.driver.take());
        true
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
        !queue.runs.is_empty() || !queue.waiting_for_ready.is_empty()
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
        self.queue.borrow().commands
    }

    /// Whether answers are due to what its connection has been given.
    pub(super) fn is_owed(&self) -> bool {
        self.queue.borrow().written > 0
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
        queue.written = 0;
        wake_all(&mut queue.waiting_for_ready);
    }

    /// There is none, and nobody is to wait for it any longer.
    pub(super) fn refuse(&self, refusal: &NoLane, buffers: &BufferPool) {
        let (runs, _) = self.clear(State::Down(refusal.clone()));
        for run in runs {
            refuse(&run.mailbox, refusal, run.commands - run.replied, buffers);
        }
    }

    /// Nobody was refused lately: the next one is worth an attempt.
    pub(super) fn rest(&self) {
        self.queue.borrow_mut().state = State::Idle;
    }

    /// The connection did not answer in time.
    pub(super) fn time_out(&self, buffers: &BufferPool) {
        let (runs, Sent { cut, .. }) = self.clear(State::Idle);
        for (number, run) in runs.into_iter().enumerate() {
            if cut && number == 0 {
                run.mailbox.lose();
            }
            let missing = run.commands - run.replied;
            run.mailbox.deliver(&TIMED_OUT.repeat(missing), missing, false, buffers);
        }
    }

    /// The connection is gone. What may go to the next one stays; how many clients are lost, and how many commands go again.
    pub(super) fn lose(&self) -> Lost {
        let (runs, Sent { journal, written, cut }) = self.clear(State::Idle);
        let mut lost = Lost::default();
        let mut start = 0;
        for (number, run) in runs.iter().enumerate() {
            let sent = start < written;
            start += run.bytes;
            if sent && (!run.reads || run.retried || cut && number == 0) {
                lost.clients += 1;
                run.mailbox.lose();
            }
        }
        let mut queue = self.queue.borrow_mut();
        let queue = &mut *queue;
        let mut start = 0;
        for mut run in runs {
            let sent = start < written;
            let bytes = &journal[start..start + run.bytes];
            start += run.bytes;
            if run.mailbox.state() != super::MailboxState::Open {
                continue;
            }
            let rest = &bytes[length_of(bytes, run.replied)..];
            run.commands -= run.replied;
            run.replied = 0;
            run.bytes = rest.len();
            run.retried |= sent;
            lost.retries += if sent { run.commands } else { 0 };
            queue.commands += run.commands;
            queue.journal.extend_from_slice(rest);
            queue.runs.push_back(run);
        }
        lost
    }

    /// Takes all that is on its way. Whoever is told of that may come back here: nothing is borrowed meanwhile.
    fn clear(&self, state: State) -> (VecDeque<Run>, Sent) {
        let mut queue = self.queue.borrow_mut();
        queue.state = state;
        let journal = std::mem::take(&mut queue.journal);
        let sent = Sent { journal, written: queue.written, cut: queue.partly_delivered };
        (queue.clear(), sent)
    }

    /// What the connection is to write now, `written` of it the time before. Registers the driver.
    pub(super) fn unwritten<T>(
        &self,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut Context<'_>, &[u8]) -> (usize, T),
    ) -> Option<T> {
        let mut queue = self.queue.borrow_mut();
        let queue = &mut *queue;
        if queue.written == queue.journal.len() {
            if queue.driver.is_none() {
                queue.driver = Some(cx.waker().clone());
            }
            return None;
        }
        let (count, outcome) = write(cx, &queue.journal[queue.written..]);
        queue.written += count;
        Some(outcome)
    }

    /// Whose reply is at hand: `None` if nobody has asked for one.
    pub(super) fn front(&self) -> Option<(Rc<Mailbox>, usize)> {
        let queue = self.queue.borrow();
        // Bytes that answer what was not written are no answer.
        let run = queue.runs.front().filter(|_| queue.written > 0)?;
        Some((run.mailbox.clone(), run.commands - run.replied))
    }

    /// `whole` replies of the first run have been delivered, and perhaps a part of the next.
    pub(super) fn replied(&self, whole: usize, partly: bool) {
        let mut queue = self.queue.borrow_mut();
        let queue = &mut *queue;
        queue.partly_delivered = partly;
        queue.commands -= whole;
        let Some(run) = queue.runs.front_mut() else {
            return;
        };
        run.replied += whole;
        if run.replied == run.commands {
            let bytes = run.bytes;
            queue.runs.pop_front();
            queue.journal.advance(bytes);
            queue.written = queue.written.saturating_sub(bytes);
            if queue.journal.is_empty() && queue.journal.capacity() > KEPT_JOURNAL {
                queue.journal = BytesMut::new();
            }
        }
        let room = queue.commands < self.settings.in_flight / 2
            && queue.journal.len() < self.settings.journal_bytes / 2;
        if room && !queue.waiting_for_room.is_empty() {
            wake_all(&mut queue.waiting_for_room);
        }
    }
}

/// How far the commands had come that a connection was given.
struct Sent {
    journal: BytesMut,
    /// Of the journal: what the connection has been given.
    written: usize,
    /// Whether a part of the first reply has gone to its client.
    cut: bool,
}

/// What became of the commands on a connection that was lost.
#[derive(Debug, Default)]
pub(super) struct Lost {
    pub(super) clients: u64,
    pub(super) retries: usize,
}

impl Queue {
    fn clear(&mut self) -> VecDeque<Run> {
        self.journal = BytesMut::new();
        self.written = 0;
        self.commands = 0;
        self.partly_delivered = false;
        wake_all(&mut self.waiting_for_ready);
        wake_all(&mut self.waiting_for_room);
        std::mem::take(&mut self.runs)
    }
}

fn refuse(mailbox: &Mailbox, refusal: &NoLane, commands: usize, buffers: &BufferPool) {
    let line = [b"-", &refusal.text()[..], b"\r\n"].concat();
    (0..commands).for_each(|number| mailbox.refused(number));
    mailbox.deliver(&line.repeat(commands), commands, false, buffers);
}

/// The length of the first `count` requests of `journal`, which hold only what every server reads.
fn length_of(journal: &[u8], count: usize) -> usize {
    let limits = RequestLimits { max_arguments: usize::MAX, max_bulk_bytes: usize::MAX };
    let mut parser = RequestParser::new(limits);
    let mut length = 0;
    for _ in 0..count {
        match parser.parse(&journal[length..]) {
            Ok(Parsed::Request { len, .. }) => length += len,
            _ => return journal.len(),
        }
    }
    length
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn wake_all(wakers: &mut Vec<Waker>) {
    wakers.drain(..).for_each(Waker::wake);
}
