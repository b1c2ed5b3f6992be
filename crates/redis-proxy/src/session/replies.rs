//! Answers that have not left, in the order of the client's requests: one queue for every front.
//!
//! A stretch of the queue is a number of replies that Redis owes, on lanes or on the client's pin; a read that is being
//! fetched or proven, or whose value is here and shared with the cache until its turn; or bytes made here. **Only the head leaves**:
//! what is due first goes to the output as it comes, and what comes for a later stretch is held in it.
//!
//! **Order.** All that Redis owes is due on one way at a time: a command for a lane of another pace, the pin or the cache waits until
//! that has come ([`Replies::may_go`]). Lanes of one pace are one way, to however many nodes they lead: the mailbox has put in order
//! what they bring. So replies come in the order of the commands, and a stretch needs to know no more than how many they are.
//!
//! **Cost.** While Redis alone owes replies, which is all there is to plain pass-through, a command is a few additions and holds
//! no memory. An answer with nothing before it costs one look. The length is bounded by who takes requests up.

use std::collections::VecDeque;

use crate::lanes::Pace;

/// By which way a command goes to Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    Lane(Pace),
    Pin,
    /// A read that the cache answers, or what it fetches.
    Cache,
}

/// The queue; `R` is a read.
pub(crate) struct Replies<R> {
    /// Answers that have not left.
    len: u32,
    /// How many replies are due before all else: their bytes go to the output as they come.
    head: u32,
    /// What Redis owes, in all of the queue.
    owed: Owed,
    behind: Option<Box<Behind<R>>>,
}

/// What is not plain pass-through, once there has been any.
struct Behind<R> {
    queue: VecDeque<Stretch<R>>,
}

enum Stretch<R> {
    Made(Held),
    /// So many replies, with what has come of them.
    Due(u32, Held),
    Read(R),
}

/// Bytes that wait for their turn, and the answers that end in them.
#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    whole: u32,
}

/// What Redis owes a client, all of it by one way.
#[derive(Clone, Copy)]
struct Owed {
    count: u32,
    via: Via,
    /// Answers that were ever due, modulo 2^16: here, where there is room for it.
    taken: u16,
}

const NOTHING: Owed = Owed { count: 0, via: Via::Cache, taken: 0 };

impl<R> Default for Replies<R> {
    fn default() -> Self {
        Replies { len: 0, head: 0, owed: NOTHING, behind: None }
    }
}

impl<R> Replies<R> {
    /// Answers that have not left.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// The number of the last answer that became due; they are counted modulo 2^16, and fewer than half of that are due.
    #[inline]
    pub(crate) fn last_number(&self) -> u16 {
        self.owed.taken
    }

    /// The number of the last answer that has left.
    #[inline]
    pub(crate) fn left_number(&self) -> u16 {
        // What is cut off is a multiple of 2^16.
        self.owed.taken.wrapping_sub(u16::try_from(self.len & 0xffff).unwrap_or(0))
    }

    /// Whether an answer that is here may leave at once.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether nothing is due but what comes to the output by itself: no read, and nothing that waits for its turn.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.len == self.head
    }

    /// Whether a command may go by `via` now: nothing is due by another way.
    #[inline]
    pub(crate) fn may_go(&self, via: Via) -> bool {
        self.owing().is_none_or(|owing| owing == via)
    }

    /// By which way Redis owes replies, if it does.
    #[inline]
    pub(crate) fn owing(&self) -> Option<Via> {
        (self.owed.count > 0).then_some(self.owed.via)
    }

    /// A command has gone by a lane or the pin. It was asked whether it might.
    #[inline]
    pub(crate) fn sent(&mut self, via: Via) {
        debug_assert!(self.may_go(via), "another way owes replies");
        self.owe(via);
        // Nothing but what the head owes.
        if self.head + 1 == self.len {
            self.head = self.len;
            return;
        }
        let queue = &mut self.behind().queue;
        match queue.back_mut() {
            Some(Stretch::Due(due, _)) => *due += 1,
            _ => queue.push_back(Stretch::Due(1, Held::default())),
        }
    }

    /// A read is answered at its turn. It was asked whether it might go.
    pub(crate) fn read(&mut self, read: R) {
        debug_assert!(self.may_go(Via::Cache), "another way owes replies");
        self.owe(Via::Cache);
        self.behind().queue.push_back(Stretch::Read(read));
    }

    /// The read that was [taken](Replies::take_read) has no answer yet: its turn it stays.
    pub(crate) fn put_back(&mut self, read: R) {
        self.owe(Via::Cache);
        self.owed.taken = self.owed.taken.wrapping_sub(1);
        self.behind().queue.push_front(Stretch::Read(read));
    }

    /// Where an answer that is made here is to be appended, behind all that is due: `out` if nothing is.
    pub(crate) fn made<'a>(&'a mut self, out: &'a mut Vec<u8>) -> &'a mut Vec<u8> {
        if self.is_empty() {
            return out;
        }
        self.len += 1;
        self.owed.taken = self.owed.taken.wrapping_add(1);
        let held = self.behind().made_at_the_end();
        held.whole += 1;
        &mut held.bytes
    }

    /// Bytes of the replies that are due, with the ends of `whole` of them: to `out` if these are due first of all. They are of one
    /// stretch. An empty buffer is traded for what is in `bytes`.
    pub(crate) fn came(&mut self, bytes: &mut Vec<u8>, whole: usize, out: &mut Vec<u8>) {
        let is_head = self.head > 0;
        let held = self.queue_mut().find_map(|stretch| match stretch {
            Stretch::Due(due, held) if !is_head && *due > 0 => Some(held),
            _ => None,
        });
        append(held.map_or(out, |held| &mut held.bytes), bytes);
        self.replied(whole);
    }

    /// So many replies have come, or never will.
    #[inline]
    pub(crate) fn replied(&mut self, count: usize) {
        let mut left = u32::try_from(count).unwrap_or(u32::MAX).min(self.owed.count);
        self.owed.count -= left;
        let of_head = left.min(self.head);
        self.head -= of_head;
        self.len -= of_head;
        left -= of_head;
        if left > 0 {
            self.replied_behind(left);
        }
    }

    fn replied_behind(&mut self, mut left: u32) {
        for stretch in self.queue_mut() {
            if let Stretch::Due(due, held) = stretch {
                let of_stretch = left.min(*due);
                *due -= of_stretch;
                held.whole += of_stretch;
                left -= of_stretch;
            }
        }
    }

    /// So many replies are due by `via` now, which is a way whose replies are counted elsewhere.
    pub(crate) fn owes(&mut self, via: Via, count: usize) {
        let before = if self.owed.via == via { self.owed.count as usize } else { 0 };
        (before..count).for_each(|_| self.sent(via));
        if count < before {
            self.replied(before - count);
        }
    }

    /// Appends to `out` what may leave. Whether anything did.
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        while self.head == 0
            && let Some(behind) = &mut self.behind
            && let Some(Stretch::Made(held) | Stretch::Due(_, held)) = behind.queue.front_mut()
        {
            append(out, &mut held.bytes);
            self.len -= held.whole;
            if let Some(Stretch::Due(due, _)) = behind.queue.pop_front() {
                self.head = due;
            }
        }
        out.len() > before
    }

    /// The read whose turn it is, if it is one's.
    #[inline]
    pub(crate) fn read_at_head(&mut self) -> Option<&mut R> {
        if self.is_plain() {
            return None;
        }
        match self.behind.as_mut()?.queue.front_mut() {
            Some(Stretch::Read(read)) if self.head == 0 => Some(read),
            _ => None,
        }
    }

    /// Takes the read whose turn it is: its answer leaves.
    pub(crate) fn take_read(&mut self) -> Option<R> {
        self.read_at_head()?;
        let Some(Stretch::Read(read)) = self.behind.as_mut()?.queue.pop_front() else { return None };
        self.owed.count -= 1;
        self.len -= 1;
        Some(read)
    }

    /// The reads that have not left, in their order.
    pub(crate) fn reads(&self) -> impl Iterator<Item = &R> {
        self.queue().filter_map(|stretch| match stretch {
            Stretch::Read(read) => Some(read),
            _ => None,
        })
    }

    /// The reads that have not left, in their order, to be changed.
    pub(crate) fn reads_mut(&mut self) -> impl Iterator<Item = &mut R> {
        self.queue_mut().filter_map(|stretch| match stretch {
            Stretch::Read(read) => Some(read),
            _ => None,
        })
    }

    /// Bytes that wait here, made here and sent by Redis; those of reads are theirs to tell.
    pub(crate) fn held_bytes(&self) -> (usize, usize) {
        self.queue().fold((0, 0), |(made, sent), stretch| match stretch {
            Stretch::Made(held) => (made + held.bytes.len(), sent),
            Stretch::Due(_, held) => (made, sent + held.bytes.len()),
            Stretch::Read(..) => (made, sent),
        })
    }

    fn queue(&self) -> impl Iterator<Item = &Stretch<R>> {
        self.behind.iter().flat_map(|behind| &behind.queue)
    }

    fn queue_mut(&mut self) -> impl Iterator<Item = &mut Stretch<R>> {
        self.behind.iter_mut().flat_map(|behind| &mut behind.queue)
    }

    fn behind(&mut self) -> &mut Behind<R> {
        self.behind.get_or_insert_with(|| Box::new(Behind { queue: VecDeque::new() }))
    }

    #[inline]
    fn owe(&mut self, via: Via) {
        self.len += 1;
        self.owed = Owed { count: self.owed.count + 1, via, taken: self.owed.taken.wrapping_add(1) };
    }
}

impl<R> Behind<R> {
    fn made_at_the_end(&mut self) -> &mut Held {
        if !matches!(self.queue.back(), Some(Stretch::Made(_))) {
            self.queue.push_back(Stretch::Made(Held::default()));
        }
        match self.queue.back_mut() {
            Some(Stretch::Made(held)) => held,
            _ => unreachable!("it is there by now"),
        }
    }
}

/// Moves `bytes` to the end of `to`: an empty buffer is traded.
fn append(to: &mut Vec<u8>, bytes: &mut Vec<u8>) {
    match to.is_empty() {
        true => std::mem::swap(to, bytes),
        false => to.append(bytes),
    }
}

#[cfg(test)]
mod tests;
