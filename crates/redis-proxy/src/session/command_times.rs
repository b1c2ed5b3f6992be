//! How long a client's commands take that are not answered at once, for the slow log.
//!
//! A command has the number of the answer that is due to it. That one is here once it is in the output, and delivered once the output is
//! with the kernel. What a client's own commands before it took is none of its time in Redis: else each that stands behind a slow one
//! were slow.
//!
//! **Cost.** What is taken up in one turn is a batch: of each command its request is copied, and if all has left before any of them can have
//! been slow, the batch is dropped as a whole.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::BytesMut;
use command::{Commands, Flags};
use resp::{Arguments, encode_command};

use super::registry::Entry;
use super::words::parsed;
use crate::clock::now_ns;
use crate::lanes::Request;
use crate::slow_log::{SlowLog, TimeSpent, cut_arguments, shown_arguments};

/// A request of at most so many bytes is kept as it came until its answer has left; of a longer one its arguments, cut.
const WHOLE_BYTES: usize = 512;
/// Bytes of requests of one client that are kept, at most: what comes behind them is not measured.
const MOST_BYTES: usize = 16 * 1024;
/// Rooms that a thread keeps for its next clients.
const MOST_SPARE: usize = 16;
/// In the length of a request: its arguments are cut.
const IS_CUT: u16 = 1 << 15;

thread_local! {
    /// Rooms that were used and are empty.
    #[expect(clippy::vec_box, reason = "clients have them so, and a box that is kept needs no new one")]
    static SPARE: RefCell<Vec<Box<Running>>> = const { RefCell::new(Vec::new()) };
}

/// Of one client. While nothing of it is on its way it holds no memory.
pub(super) struct CommandTimes {
    log: Arc<SlowLog>,
    entry: Arc<Entry>,
    /// Since when the command at hand waits to be taken up; 0 if it does not.
    waits_since_ns: u64,
    running: Option<Box<Running>>,
}

/// What is on its way.
#[derive(Default)]
struct Running {
    batches: VecDeque<Batch>,
    /// The requests of the batches, one behind the other, each behind its number and its length.
    requests: Vec<u8>,
    /// Of their bytes: those of batches that have left.
    left_bytes: usize,
    /// Of the batches: those whose answers are all here.
    answered: usize,
    /// When the last answer came of a batch that has left.
    last_ns: u64,
}

/// Commands that came and were taken up at the same time.
struct Batch {
    first_number: u16,
    last_number: u16,
    /// Of their requests.
    bytes: usize,
    arrived_ns: u64,
    sent_ns: u64,
    /// When answers came before the last did, with the number of the last of these.
    came: Vec<(u16, u64)>,
    /// When the last answer came.
    answered_ns: u64,
}

impl CommandTimes {
    pub(super) fn new(log: Arc<SlowLog>, entry: Arc<Entry>) -> Self {
        CommandTimes { log, entry, waits_since_ns: 0, running: None }
    }

    /// The command at hand, which came by `turn_ns`, cannot be taken up yet.
    pub(super) fn waits(&mut self, turn_ns: u64) {
        if self.waits_since_ns == 0 {
            self.waits_since_ns = turn_ns;
        }
    }

    /// It was taken up, and answered; or its answer is due, which has this `number`.
    #[inline(always)]
    pub(super) fn taken_up(
        &mut self,
        number: Option<u16>,
        request: Request<'_>,
        arguments: Arguments<'_>,
        turn_ns: u64,
    ) {
        let waits_since_ns = std::mem::take(&mut self.waits_since_ns);
        let Some(number) = number.filter(|_| self.log.is_on()) else { return };
        let running = self
            .running
            .get_or_insert_with(|| SPARE.with_borrow_mut(|spare| spare.pop()).unwrap_or_default());
        if running.requests.len() - running.left_bytes >= MOST_BYTES {
            return;
        }
        let bytes = match request {
            Request::Raw(raw) if raw.len() <= WHOLE_BYTES => running.add(number, raw, 0),
            _ => running.add_cut(number, arguments),
        };
        let arrived_ns = if waits_since_ns > 0 { waits_since_ns } else { turn_ns };
        running.join(number, bytes, arrived_ns, turn_ns);
    }

    /// Whether there is a command at hand that waits.
    #[inline]
    pub(super) fn is_waiting(&self) -> bool {
        self.waits_since_ns > 0
    }

    /// All answers up to this number are in the output, or have left.
    #[inline]
    pub(super) fn came(&mut self, left_number: u16) {
        if let Some(running) = &mut self.running {
            running.came(left_number);
        }
    }

    /// And all that was in the output has left.
    #[inline]
    pub(super) fn written(&mut self, left_number: u16, commands: &Commands) {
        if self.running.is_some() {
            self.finish(left_number, commands);
        }
    }

    fn finish(&mut self, left_number: u16, known: &Commands) {
        let CommandTimes { log, entry, running, .. } = self;
        let Some(times) = running else { return };
        times.came(left_number);
        if times.answered == 0 {
            return;
        }
        let now_ns = now_ns();
        let mut is_told = None;
        for _ in 0..std::mem::take(&mut times.answered) {
            let Some(batch) = times.batches.pop_front() else { break };
            let requests = &times.requests[times.left_bytes..times.left_bytes + batch.bytes];
            if log.is_slow(now_ns.saturating_sub(batch.arrived_ns)) {
                keep_slow(log, entry, &batch, requests, (times.last_ns, now_ns), &mut is_told, known);
            }
            times.left_bytes += batch.bytes;
            times.last_ns = batch.answered_ns;
        }
        match times.batches.is_empty() {
            true => running.take().into_iter().for_each(give_back),
            false => times.make_room(),
        }
    }
}

impl Running {
    /// Adds a request, with this flag in its length. How many bytes that takes.
    #[inline]
    fn add(&mut self, number: u16, request: &[u8], flag: u16) -> usize {
        // Shorter than what is kept whole, or than what is cut.
        let length = u16::try_from(request.len()).unwrap_or(IS_CUT - 1) & !IS_CUT;
        let [a, b] = number.to_ne_bytes();
        let [c, d] = (length | flag).to_ne_bytes();
        self.requests.reserve(HEAD_BYTES + request.len());
        self.requests.extend_from_slice(&[a, b, c, d]);
        self.requests.extend_from_slice(&request[..usize::from(length).min(request.len())]);
        HEAD_BYTES + usize::from(length)
    }

    #[cold]
    fn add_cut(&mut self, number: u16, arguments: Arguments<'_>) -> usize {
        let cut = cut_arguments(arguments.iter(), arguments.len());
        let words: Vec<&[u8]> = cut.iter().map(|argument| &**argument).collect();
        let mut request = BytesMut::new();
        encode_command(&mut request, &words);
        self.add(number, &request, IS_CUT)
    }

    /// A command belongs to the batch of its turn.
    #[inline]
    fn join(&mut self, number: u16, bytes: usize, arrived_ns: u64, sent_ns: u64) {
        let is_open = self.answered < self.batches.len();
        if let Some(batch) = self.batches.back_mut().filter(|_| is_open)
            && (batch.arrived_ns, batch.sent_ns) == (arrived_ns, sent_ns)
        {
            batch.last_number = number;
            batch.bytes += bytes;
            return;
        }
        self.batches.push_back(Batch {
            first_number: number,
            last_number: number,
            bytes,
            arrived_ns,
            sent_ns,
            came: Vec::new(),
            answered_ns: 0,
        });
    }

    fn came(&mut self, left_number: u16) {
        let mut now = None;
        while let Some(batch) = self.batches.get_mut(self.answered) {
            if !has_left(batch.first_number, left_number) {
                return;
            }
            let is_whole = has_left(batch.last_number, left_number);
            if !is_whole && batch.came.last().is_some_and(|(before, _)| *before == left_number) {
                return;
            }
            let now_ns = *now.get_or_insert_with(now_ns);
            if !is_whole {
                return batch.came.push((left_number, now_ns));
            }
            batch.answered_ns = now_ns;
            self.answered += 1;
        }
    }

    /// What has left is before what has not: that is moved as seldom as there is as much before it.
    fn make_room(&mut self) {
        if self.left_bytes * 2 >= self.requests.len() {
            self.requests.drain(..self.left_bytes);
            self.left_bytes = 0;
        }
    }
}

/// Of a request's number and length.
const HEAD_BYTES: usize = 4;

/// Whether an answer is among those up to `left_number`. Numbers go round; fewer than half of them are due.
#[inline]
fn has_left(number: u16, left_number: u16) -> bool {
    left_number.wrapping_sub(number) < 1 << 15
}

/// All that was in it has left.
fn give_back(mut room: Box<Running>) {
    room.requests.clear();
    (room.left_bytes, room.answered, room.last_ns) = (0, 0, 0);
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < MOST_SPARE {
            spare.push(room);
        }
    });
}

/// Keeps those commands of a batch that were slow. `from_to_ns`: when the answer before them came, and when theirs had left; `is_told`: of
/// answers that came together the first stands for all, if they were delivered slowly.
#[cold]
fn keep_slow(
    log: &SlowLog,
    entry: &Entry,
    batch: &Batch,
    mut requests: &[u8],
    (mut last_ns, now_ns): (u64, u64),
    is_told: &mut Option<u64>,
    known: &Commands,
) {
    while let Some((&[a, b, c, d], behind)) = requests.split_first_chunk::<HEAD_BYTES>() {
        let (number, length) = (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]));
        let (request, behind) = behind.split_at(usize::from(length & !IS_CUT).min(behind.len()));
        requests = behind;
        let came = batch.came.iter().find(|(left_number, _)| has_left(number, *left_number));
        let answered_ns = came.map_or(batch.answered_ns, |(_, came_ns)| *came_ns);
        let first_ns = batch.sent_ns.max(last_ns).min(answered_ns);
        last_ns = answered_ns;
        let spent = TimeSpent {
            queued_ns: first_ns.saturating_sub(batch.arrived_ns),
            redis_ns: answered_ns.saturating_sub(first_ns),
            delivered_ns: Some(now_ns.saturating_sub(answered_ns)),
        };
        let own_ns = batch.sent_ns.saturating_sub(batch.arrived_ns) + spent.redis_ns;
        let is_first = is_told.replace(answered_ns) != Some(answered_ns);
        let delivered_ns = spent.delivered_ns.filter(|_| is_first).unwrap_or(0);
        if log.is_slow(own_ns + delivered_ns) {
            keep(log, entry, spent, request, length & IS_CUT != 0, known);
        }
    }
}

/// Keeps a command that was slow, unless it was meant to be: one that blocks waits for others.
fn keep(log: &SlowLog, entry: &Entry, spent: TimeSpent, request: &[u8], is_cut: bool, known: &Commands) {
    let parser = parsed(request);
    let arguments = parser.arguments(request);
    let command = known.find(arguments);
    if command.is_some_and(|command| command.flags().has(Flags::BLOCKING)) {
        return;
    }
    let words = match is_cut {
        true => arguments.iter().map(Box::from).collect(),
        false => cut_arguments(arguments.iter(), arguments.len()),
    };
    let Some(arguments) = shown_arguments(words, command.is_some()) else { return };
    let owner = {
        let details = entry.details.lock();
        (details.user.to_vec().into_boxed_slice(), details.db)
    };
    log.keep(spent, entry.address.clone(), Some(owner), arguments);
}
