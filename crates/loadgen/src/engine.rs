//! The loop of one thread: send what is due, read what has come, wait no longer than until the next is due.
//!
//! Precision is the hard part. Timers of a runtime tick in milliseconds, and a thread that sleeps in the kernel wakes some
//! tens of microseconds late, so the last stretch before a request is due is spent asking the event queue without waiting:
//! this thread wants a core of its own. Longer stretches are slept, so that a slow schedule does not burn that core for
//! nothing. How well it went is recorded for every request (the lag).

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use fastrand::Rng;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::thread::set_current_timer_slack;

use crate::connection::Connection;
use crate::http::Requests;
use crate::options::Options;
use crate::schedule::{Loop, Schedule};
use crate::tally::{Fault, Tally};
use crate::zipf::Zipf;

/// The last stretch before a request is due: not slept.
const SPIN_NS: u64 = 100_000;
/// Above this the event queue's own wait will do, which counts in milliseconds.
const COARSE_NS: u64 = 3_000_000;
const MILLISECOND_NS: u64 = 1_000_000;
/// From a connection that failed to the next attempt.
const RETRY_NS: u64 = 100_000_000;
/// From the end of the schedule to the last answer waited for.
const GRACE_NS: u64 = 1_000_000_000;
/// Requests queued before answers are looked at again, when many are due at once.
const MOST_AT_ONCE: usize = 64;
/// Bytes asked for in one read.
const READ_BYTES: usize = 256 * 1024;
/// Events taken at once.
const EVENTS: usize = 256;

/// One thread's connections, its part of the schedule and what it has counted.
pub(crate) struct Engine {
    schedule: Schedule,
    start: Instant,
    address: SocketAddr,
    requests: Requests,
    zipf: Zipf,
    random: Rng,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    /// The connection whose turn it is.
    turn: usize,
    /// Connections with requests that no write was tried for.
    fresh: Vec<usize>,
    /// Connections that failed, and when to try again; the earliest first.
    down: VecDeque<(u64, usize)>,
    /// The length of a value, where it is known.
    value_bytes: Option<u64>,
    room: Vec<u8>,
    tally: Tally,
    /// Answers of all threads, for the progress bar.
    answered: Arc<AtomicU64>,
}

impl Engine {
    /// Takes over connected sockets.
    ///
    /// # Errors
    /// When the system has no event queue to give.
    pub(crate) fn new(
        options: &Options,
        number: u64,
        schedule: Schedule,
        address: SocketAddr,
        sockets: Vec<TcpStream>,
        start: Instant,
        answered: Arc<AtomicU64>,
    ) -> io::Result<Engine> {
        let most_outstanding = match schedule.pace {
            Loop::Open { .. } => options.max_outstanding,
            Loop::Closed { depth } => depth,
        };
        let connect = |socket| Connection::new(socket, most_outstanding);
        let engine = Engine {
            schedule,
            start,
            address,
            requests: Requests::new(options),
            zipf: Zipf::new(options.keys, options.zipf),
            random: Rng::with_seed(options.seed.wrapping_add(number)),
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            connections: sockets.into_iter().map(connect).collect(),
            turn: 0,
            fresh: Vec::new(),
            down: VecDeque::new(),
            value_bytes: options.fill.then_some(options.value_bytes as u64),
            room: vec![0; READ_BYTES],
            tally: Tally::new(),
            answered,
        };
        for number in 0..engine.connections.len() {
            engine.watch(number)?;
        }
        Ok(engine)
    }

    /// Makes the load.
    ///
    /// # Errors
    /// When the event queue fails, which it does not.
    pub(crate) fn run(mut self) -> io::Result<Tally> {
        // Sleeps end up to 50 us late by default, to save wake-ups (prctl(2)). Without the right to change that: later.
        let _ = set_current_timer_slack(NonZeroU64::new(1));
        thread::sleep(self.start.saturating_duration_since(Instant::now()));
        for number in 0..self.connections.len() {
            self.top_up(number);
        }
        self.write_fresh()?;
        while self.now_ns() < self.schedule.end_ns {
            self.reconnect()?;
            self.queue_due();
            self.write_fresh()?;
            let retry_ns = self.down.front().map(|(at_ns, _)| *at_ns);
            let next_ns = self.schedule.next_ns().into_iter().chain(retry_ns).min();
            self.wait(next_ns.unwrap_or(self.schedule.end_ns).min(self.schedule.end_ns))?;
        }
        // On a machine that is late some are due and not asked yet: they count as the others do.
        self.queue_due();
        self.write_fresh()?;
        let end_ns = self.schedule.end_ns + GRACE_NS;
        while self.now_ns() < end_ns && self.connections.iter().any(|connection| connection.outstanding() > 0)
        {
            self.wait(end_ns)?;
        }
        for connection in &self.connections {
            self.tally.fault(Fault::Unanswered, connection.outstanding());
        }
        Ok(self.tally)
    }

    fn now_ns(&self) -> u64 {
        crate::schedule::nanos(self.start.elapsed())
    }

    /// Queues what is due, each on the next connection in turn.
    fn queue_due(&mut self) {
        let now_ns = self.now_ns();
        for _ in 0..MOST_AT_ONCE {
            let Some(due_ns) = self.schedule.take_due(now_ns) else { return };
            let number = self.turn;
            self.turn = (number + 1) % self.connections.len();
            self.queue(number, due_ns);
        }
    }

    /// In a closed loop: as many requests as are missing on a connection.
    fn top_up(&mut self, number: usize) {
        let Loop::Closed { depth } = self.schedule.pace else { return };
        let now_ns = self.now_ns();
        if now_ns < self.schedule.end_ns && self.connections[number].fd().is_some() {
            for _ in self.connections[number].outstanding()..depth {
                self.queue(number, now_ns);
            }
        }
    }

    fn queue(&mut self, number: usize, due_ns: u64) {
        let key = self.zipf.sample(&mut self.random);
        self.tally.due += u64::from(self.schedule.is_measured(due_ns));
        let requests = &self.requests;
        match self.connections[number].queue(due_ns, |out| requests.push(out, key)) {
            Ok(true) => self.fresh.push(number),
            Ok(false) => {}
            Err(fault) => self.tally.fault(fault, 1),
        }
    }

    /// Writes to the connections that have new requests, and records how late each of these is by the clock.
    fn write_fresh(&mut self) -> io::Result<()> {
        let mut fresh = std::mem::take(&mut self.fresh);
        for number in fresh.drain(..) {
            let now_ns = self.now_ns();
            let connection = &mut self.connections[number];
            let is_open = matches!(self.schedule.pace, Loop::Open { .. });
            for due_ns in connection.take_fresh() {
                if is_open && self.schedule.is_measured(due_ns) {
                    self.tally.lag.saturating_record(now_ns.saturating_sub(due_ns));
                }
            }
            let before = connection.interest();
            let written = connection.write();
            self.settle(number, before, written)?;
        }
        self.fresh = fresh;
        Ok(())
    }

    /// Takes what has come, or waits for it until `until_ns`.
    fn wait(&mut self, until_ns: u64) -> io::Result<()> {
        let left_ns = until_ns.saturating_sub(self.now_ns());
        let coarse_ns = if left_ns > COARSE_NS { left_ns - 2 * MILLISECOND_NS } else { 0 };
        let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; EVENTS];
        let count = match epoll::wait(&self.epoll, &mut events, Some(&timespec(coarse_ns))) {
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(errno) => return Err(errno.into()),
        };
        if count == 0 && coarse_ns == 0 && left_ns > SPIN_NS {
            let mut queue = [PollFd::new(&self.epoll, PollFlags::IN)];
            match poll(&mut queue, Some(&timespec(left_ns - SPIN_NS))) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        for event in &events[..count] {
            let number = usize::try_from(event.data.u64()).expect("the index it was registered with");
            self.attend(number, event.flags)?;
        }
        self.write_fresh()
    }

    /// Something happened on a connection.
    fn attend(&mut self, number: usize, flags: EventFlags) -> io::Result<()> {
        let connection = &mut self.connections[number];
        let before = connection.interest();
        if before.contains(EventFlags::OUT) && flags.intersects(EventFlags::OUT | EventFlags::ERR) {
            let written = connection.writable();
            return self.settle(number, before, written);
        }
        let (schedule, tally, start, value_bytes) =
            (&self.schedule, &mut self.tally, self.start, self.value_bytes);
        let (mut now_ns, mut count) = (0, 0);
        let read = connection.read(&mut self.room, |due_ns, answer| {
            // One reading of the clock for all that one read brought.
            if count == 0 {
                now_ns = crate::schedule::nanos(start.elapsed());
            }
            count += 1;
            if answer.status == 200 && value_bytes.is_some_and(|bytes| bytes != answer.body_bytes) {
                tally.fault(Fault::WrongLength, 1);
            } else if schedule.is_measured(due_ns) {
                tally.answer(answer, due_ns, now_ns);
            }
        });
        self.answered.fetch_add(count, Ordering::Relaxed);
        self.settle(number, before, read)?;
        self.top_up(number);
        Ok(())
    }

    /// After a read or write: watches for what the connection now needs, or ends it.
    fn settle(&mut self, number: usize, before: EventFlags, outcome: Result<(), Fault>) -> io::Result<()> {
        let connection = &mut self.connections[number];
        let Err(fault) = outcome else {
            let (Some(fd), interest) = (connection.fd(), connection.interest()) else { return Ok(()) };
            if interest != before {
                epoll::modify(&self.epoll, fd, EventData::new_u64(number as u64), interest)?;
            }
            return Ok(());
        };
        // Closing the socket takes it off the event queue.
        let end = connection.end(fault);
        self.tally.fault(Fault::Short, usize::from(end.is_short));
        match end.fault {
            // Those that waited for the connection were not sent.
            Fault::Refused => {
                self.tally.fault(Fault::Refused, 1);
                self.tally.fault(Fault::Unconnected, end.lost);
            }
            Fault::Garbled => {
                self.tally.fault(Fault::Garbled, 1);
                self.tally.fault(Fault::Closed, end.lost);
            }
            fault => self.tally.fault(fault, end.lost),
        }
        let at_ns = if end.in_order { 0 } else { self.now_ns() + RETRY_NS };
        match end.in_order {
            true => {
                self.tally.reconnects += 1;
                self.down.push_front((at_ns, number));
            }
            false => self.down.push_back((at_ns, number)),
        }
        Ok(())
    }

    /// Begins the connections that are to be tried again by now.
    fn reconnect(&mut self) -> io::Result<()> {
        let now_ns = self.now_ns();
        while let Some((_, number)) = self.down.pop_front_if(|(at_ns, _)| *at_ns <= now_ns) {
            match self.connections[number].reconnect(self.address) {
                Ok(()) => {
                    self.watch(number)?;
                    self.top_up(number);
                }
                Err(_) => {
                    self.tally.fault(Fault::Refused, 1);
                    self.down.push_back((now_ns + RETRY_NS, number));
                }
            }
        }
        Ok(())
    }

    fn watch(&self, number: usize) -> io::Result<()> {
        let connection = &self.connections[number];
        match connection.fd() {
            Some(fd) => {
                Ok(epoll::add(&self.epoll, fd, EventData::new_u64(number as u64), connection.interest())?)
            }
            None => Ok(()),
        }
    }
}

fn timespec(ns: u64) -> Timespec {
    let part = |ns: u64| i64::try_from(ns).unwrap_or(i64::MAX);
    Timespec { tv_sec: part(ns / 1_000_000_000), tv_nsec: part(ns % 1_000_000_000) }
}
