//! Room for what fetches will bring, and the queue of those that wait for it.
//!
//! What a fetch brings is not known before it comes. So each takes room for as much as what came lately, and gives it
//! back when it is answered: what it brought is then held by the cache, or [followed](crate::flow) until its last reader
//! is done. All of that together may take half of the byte budget. A fetch that finds no room waits its turn.
//!
//! Sizes may grow faster than they are learned. A value that comes and does not fit is dropped, and fetched once more when
//! there is room for all of it: the only fetch that Redis is asked for twice because of memory.
//!
//! Whoever frees room sends those who wait, one thread at a time: what is sent may fail at once, and that frees room too.

use std::collections::VecDeque;
use std::sync::Arc;

use sync::Mutex;
use sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::budget::ByteLimit;
use crate::fill::Fill;
use crate::flight::Flight;
use crate::{Cache, Inner};

/// Room that a fetch takes at least: smaller values are as many as are on their way, and that is bounded so.
const LEAST: u32 = 64 * 1024;
/// What is expected of the first one.
const FIRST: u32 = 1024 * 1024;
/// Of what is taken in excess, this part is given up with each smaller value that comes.
const DECAY: u32 = 16;
/// Fetches that wait at a time, at most.
const MOST: usize = 16 * 1024;
/// Values looked at whenever a reader may be done with one, while somebody waits.
const LOOKS: usize = 1024;

/// How a fetch is sent, or what becomes of one that has waited for too long.
pub(crate) type SendInTurn<E> = Box<dyn FnOnce(Result<Fill<E>, Fill<E>>) + Send>;

/// What is kept free for fetches on their way.
pub(crate) struct Reserved {
    bytes: AtomicU64,
    /// What the next one takes. A guess, so relaxed.
    each: AtomicU32,
}

impl Default for Reserved {
    fn default() -> Reserved {
        Reserved { bytes: AtomicU64::new(0), each: AtomicU32::new(FIRST) }
    }
}

impl Reserved {
    pub(crate) fn each(&self) -> u32 {
        self.each.load(Ordering::Relaxed)
    }

    /// A reply of so many bytes has come.
    pub(crate) fn learn(&self, bytes: usize) {
        let came = u32::try_from(bytes).unwrap_or(u32::MAX).max(LEAST);
        let each = self.each();
        if came != each {
            let next = if came > each { came } else { each - (each - came).div_ceil(DECAY) };
            self.each.store(next, Ordering::Relaxed);
        }
    }

    /// Takes room beside `in_flight` bytes, if there is; one that is alone has it, however large it is.
    fn take(&self, bytes: u32, in_flight: u64, budget: &ByteLimit) -> bool {
        let bytes = u64::from(bytes);
        // SeqCst, here and in `give_back`: of one who finds no room and then counts itself among those who wait, and one
        // who gives room back and then looks whether somebody waits, at least one sees the other.
        let before = self.bytes.fetch_add(bytes, Ordering::SeqCst) + in_flight;
        let has_room = before == 0 || before.saturating_add(bytes) <= budget.half();
        if !has_room {
            self.give_back(bytes);
        }
        has_room
    }

    fn give_back(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
    }
}

/// Fetches that wait for room, in the order in which they came.
pub(crate) struct RoomQueue<E> {
    /// How many they are. SeqCst: see [`Reserved::take`].
    len: AtomicUsize,
    /// Calls to send them since whoever does it began.
    calls: AtomicUsize,
    // Taken with no shard locked.
    waiting: Mutex<VecDeque<Waiting<E>>>,
}

struct Waiting<E> {
    flight: Arc<Flight<E>>,
    /// What it takes, if that is known: it has come once.
    bytes: Option<u32>,
    until_ns: u64,
    send: SendInTurn<E>,
}

impl<E> Default for RoomQueue<E> {
    fn default() -> RoomQueue<E> {
        RoomQueue { len: AtomicUsize::new(0), calls: AtomicUsize::new(0), waiting: Mutex::default() }
    }
}

impl<E> RoomQueue<E> {
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::SeqCst)
    }

    /// Adds one; gives it back if there are too many.
    fn push(&self, waiting: Waiting<E>) -> Result<(), Waiting<E>> {
        let mut queue = self.waiting.lock();
        if queue.len() >= MOST {
            return Err(waiting);
        }
        queue.push_back(waiting);
        self.len.store(queue.len(), Ordering::SeqCst);
        Ok(())
    }

    /// The first one, if there is room for it, which it has then.
    fn pop(&self, take: impl FnOnce(Option<u32>) -> Option<u32>) -> Option<(Waiting<E>, u32)> {
        let mut queue = self.waiting.lock();
        let room = take(queue.front()?.bytes)?;
        let first = queue.pop_front()?;
        self.len.store(queue.len(), Ordering::SeqCst);
        Some((first, room))
    }

    /// Those who have waited for too long.
    fn overdue(&self, now_ns: u64) -> Vec<Waiting<E>> {
        let mut queue = self.waiting.lock();
        let (overdue, left) = queue.drain(..).partition::<Vec<_>, _>(|waiting| waiting.until_ns <= now_ns);
        *queue = left.into();
        self.len.store(queue.len(), Ordering::SeqCst);
        overdue
    }
}

impl<E> Inner<E> {
    /// Room for one more fetch, unless there is none or others wait for it.
    pub(crate) fn take_room(&self) -> Option<u32> {
        if !self.room.budget.is_bounded() {
            return Some(0);
        }
        if self.room_queue.len() > 0 {
            return None;
        }
        self.take_room_for(None)
    }

    fn take_room_for(&self, bytes: Option<u32>) -> Option<u32> {
        let flow = &self.room.flow;
        let bytes = bytes.unwrap_or_else(|| flow.reserved.each());
        flow.reserved.take(bytes, flow.bytes(), &self.room.budget).then_some(bytes)
    }

    /// Whether what is held for readers may grow by so much, which has come: by a tenth of the budget above its part, because
    /// it had been asked for. One that is alone may in any case.
    pub(crate) fn has_room_for(&self, bytes: usize) -> bool {
        let (budget, flow) = (&self.room.budget, &self.room.flow);
        if !budget.is_bounded() {
            return true;
        }
        flow.reserved.learn(bytes);
        let fits = || flow.bytes() == 0 || flow.bytes() + bytes as u64 <= budget.half() / 5 * 6;
        if !fits() {
            flow.look(LOOKS);
        }
        fits()
    }
}

impl<E> Cache<E> {
    /// A reader may be done with a value: fetches that wait for its room are sent.
    ///
    /// Cost while nobody waits: one look.
    pub fn released(&self) {
        if self.0.room_queue.len() > 0 {
            self.0.room.flow.look(LOOKS);
            self.send_waiting();
        }
    }

    /// Ends the wait of fetches that have waited for room for too long. To be called now and then.
    pub fn fail_overdue(&self, now_ns: u64) {
        if self.0.room_queue.len() == 0 {
            return;
        }
        for Waiting { flight, send, .. } in self.0.room_queue.overdue(now_ns) {
            send(Err(Fill::new(self.clone(), flight)));
        }
        self.send_waiting();
    }

    pub(crate) fn queue_for_room(
        &self,
        flight: Arc<Flight<E>>,
        bytes: Option<usize>,
        until_ns: u64,
        send: SendInTurn<E>,
    ) {
        let bytes = bytes.map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX).max(LEAST));
        match self.0.room_queue.push(Waiting { flight, bytes, until_ns, send }) {
            Ok(()) => {
                // Room that became free before it stood there was seen by nobody.
                self.0.room.flow.look(LOOKS);
                self.send_waiting();
            }
            Err(Waiting { flight, send, .. }) => send(Err(Fill::new(self.clone(), flight))),
        }
    }

    pub(crate) fn give_room_back(&self, bytes: u32) {
        self.0.room.flow.reserved.give_back(u64::from(bytes));
        self.send_waiting();
    }

    /// Sends those for whom there is room. Who is called while another does it, or from what is sent, leaves it to that one.
    pub(crate) fn send_waiting(&self) {
        let queue = &self.0.room_queue;
        // SeqCst: with `len`, see `Reserved::take`; AcqRel would do between those who call.
        if queue.len() == 0 || queue.calls.fetch_add(1, Ordering::SeqCst) > 0 {
            return;
        }
        let mut calls = 1;
        loop {
            while let Some((first, room)) = queue.pop(|bytes| self.0.take_room_for(bytes)) {
                let Waiting { flight, bytes, send, .. } = first;
                send(Ok(Fill::with_room(self.clone(), flight, room, bytes.is_some())));
            }
            match queue.calls.compare_exchange(calls, 0, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return,
                Err(more) => calls = more,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_fetch_takes_follows_what_came_up_at_once_and_down_by_and_by() {
        let reserved = Reserved::default();
        reserved.learn(10 << 20);
        assert_eq!(reserved.each(), 10 << 20);
        reserved.learn(0);
        assert!((9 << 20..10 << 20).contains(&reserved.each()));
        (0..300).for_each(|_| reserved.learn(100));
        assert_eq!(reserved.each(), LEAST);
    }
}
