//! Answers that have not left, in the order of the client's requests: one queue for every front.
//!
//! A stretch of the queue is a number of replies that one node owes, on a lane or on the client's pin; a read that is being
//! fetched or proven, or whose value is here and shared with the cache until its turn; or bytes made here. **Only the head leaves**:
//! what is due first goes to the output as it comes, and what comes for a later stretch is held in it.
//!
//! **Order at one node.** Lanes of different nodes may owe replies at once. At one node all that is due is due on one way: a
//! command for another lane, the pin or the cache waits until it has come ([`Replies::may_go`]). So the replies of a node come in
//! the order of its commands, and a stretch needs to know no more than its node.
//!
//! **Cost.** While one node alone owes replies, which is all there is to plain pass-through, a command is a few additions and holds
//! no memory. An answer with nothing before it costs one look. The length is bounded by who takes requests up.

use std::collections::VecDeque;

use crate::lanes::Pace;

/// One of the nodes that a client's commands go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeId(pub(crate) u16);

impl NodeId {
    /// The only one there is as yet.
    pub(crate) const FIRST: NodeId = NodeId(0);
}

/// By which way a command goes to its node.
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
    /// What is due before all else: its bytes go to the output as they come.
    head: Due,
    /// What [`NodeId::FIRST`] owes.
    first_node: Owed,
    behind: Option<Box<Behind<R>>>,
}

/// What is not plain pass-through to one node, once there has been any.
struct Behind<R> {
    queue: VecDeque<Stretch<R>>,
    /// What the nodes owe from the second on.
    other_nodes: Vec<Owed>,
}

enum Stretch<R> {
    Made(Held),
    /// With what has come of it.
    Due(Due, Held),
    Read(NodeId, R),
}

/// Replies that one node owes, one after the other.
#[derive(Clone, Copy)]
struct Due {
    count: u32,
    node: NodeId,
}

/// Bytes that wait for their turn, and the answers that end in them.
#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    whole: u32,
}

/// What a node owes a client, all of it by one way.
#[derive(Clone, Copy)]
struct Owed {
    count: u32,
    via: Via,
}

const NOTHING: Owed = Owed { count: 0, via: Via::Cache };

impl<R> Default for Replies<R> {
    fn default() -> Self {
        Replies { len: 0, head: Due { count: 0, node: NodeId::FIRST }, first_node: NOTHING, behind: None }
    }
}

impl<R> Replies<R> {
    /// Answers that have not left.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether an answer that is here may leave at once.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether nothing is due but what comes to the output by itself: no read, and nothing that waits for its turn.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.len == self.head.count
    }

    /// Whether a command may go to `node` by `via` now: nothing is due there by another way.
    #[inline]
    pub(crate) fn may_go(&self, node: NodeId, via: Via) -> bool {
        self.owing(node).is_none_or(|owing| owing == via)
    }

    /// By which way `node` owes replies, if it does.
    #[inline]
    pub(crate) fn owing(&self, node: NodeId) -> Option<Via> {
        let owed = self.owed(node);
        (owed.count > 0).then_some(owed.via)
    }

    /// A command has gone to `node` by a lane or the pin. It was asked whether it might.
    #[inline]
    pub(crate) fn sent(&mut self, node: NodeId, via: Via) {
        debug_assert!(self.may_go(node, via), "another way owes replies");
        self.owe(node, via);
        // Nothing but what the head owes.
        if self.head.count + 1 == self.len && (self.head.count == 0 || self.head.node == node) {
            self.head = Due { count: self.len, node };
            return;
        }
        let queue = &mut self.behind().queue;
        match queue.back_mut() {
            Some(Stretch::Due(due, _)) if due.node == node => due.count += 1,
            _ => queue.push_back(Stretch::Due(Due { count: 1, node }, Held::default())),
        }
    }

    /// A read of `node` is answered at its turn. It was asked whether it might go.
    pub(crate) fn read(&mut self, node: NodeId, read: R) {
        debug_assert!(self.may_go(node, Via::Cache), "another way owes replies");
        self.owe(node, Via::Cache);
        self.behind().queue.push_back(Stretch::Read(node, read));
    }

    /// The read that was [taken](Replies::take_read) has no answer yet: its turn it stays.
    pub(crate) fn put_back(&mut self, node: NodeId, read: R) {
        self.owe(node, Via::Cache);
        self.behind().queue.push_front(Stretch::Read(node, read));
    }

    /// Where an answer that is made here is to be appended, behind all that is due: `out` if nothing is.
    pub(crate) fn made<'a>(&'a mut self, out: &'a mut Vec<u8>) -> &'a mut Vec<u8> {
        if self.is_empty() {
            return out;
        }
        self.len += 1;
        let held = self.behind().made_at_the_end();
        held.whole += 1;
        &mut held.bytes
    }

    /// Bytes of the replies that are due at `node`, with the ends of `whole` of them: to `out` if these are due first of all.
    /// They are of one stretch. An empty buffer is traded for what is in `bytes`.
    pub(crate) fn came(&mut self, node: NodeId, bytes: &mut Vec<u8>, whole: usize, out: &mut Vec<u8>) {
        let is_head = self.head.node == node && self.head.count > 0;
        let held = self.queue_mut().find_map(|stretch| match stretch {
            Stretch::Due(due, held) if !is_head && due.node == node && due.count > 0 => Some(held),
            _ => None,
        });
        append(held.map_or(out, |held| &mut held.bytes), bytes);
        self.replied(node, whole);
    }

    /// So many replies of `node` have come, or never will.
    #[inline]
    pub(crate) fn replied(&mut self, node: NodeId, count: usize) {
        let owed = self.owed_mut(node);
        let mut left = u32::try_from(count).unwrap_or(u32::MAX).min(owed.count);
        owed.count -= left;
        if self.head.node == node {
            let of_head = left.min(self.head.count);
            self.head.count -= of_head;
            self.len -= of_head;
            left -= of_head;
        }
        if left > 0 {
            self.replied_behind(node, left);
        }
    }

    fn replied_behind(&mut self, node: NodeId, mut left: u32) {
        for stretch in self.queue_mut() {
            if let Stretch::Due(due, held) = stretch
                && due.node == node
            {
                let of_stretch = left.min(due.count);
                due.count -= of_stretch;
                held.whole += of_stretch;
                left -= of_stretch;
            }
        }
    }

    /// So many replies are due at `node` by `via` now, which is a way whose replies are counted elsewhere.
    pub(crate) fn owes(&mut self, node: NodeId, via: Via, count: usize) {
        let owed = self.owed(node);
        let before = if owed.via == via { owed.count as usize } else { 0 };
        (before..count).for_each(|_| self.sent(node, via));
        if count < before {
            self.replied(node, before - count);
        }
    }

    /// Appends to `out` what may leave. Whether anything did.
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        while self.head.count == 0
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
            Some(Stretch::Read(_, read)) if self.head.count == 0 => Some(read),
            _ => None,
        }
    }

    /// Takes the read whose turn it is: its answer leaves.
    pub(crate) fn take_read(&mut self) -> Option<R> {
        self.read_at_head()?;
        let Some(Stretch::Read(node, read)) = self.behind.as_mut()?.queue.pop_front() else { return None };
        self.owed_mut(node).count -= 1;
        self.len -= 1;
        Some(read)
    }

    /// The reads that have not left, in their order.
    pub(crate) fn reads(&self) -> impl Iterator<Item = &R> {
        self.queue().filter_map(|stretch| match stretch {
            Stretch::Read(_, read) => Some(read),
            _ => None,
        })
    }

    /// The reads that have not left, in their order, to be changed.
    pub(crate) fn reads_mut(&mut self) -> impl Iterator<Item = &mut R> {
        self.queue_mut().filter_map(|stretch| match stretch {
            Stretch::Read(_, read) => Some(read),
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
        self.behind
            .get_or_insert_with(|| Box::new(Behind { queue: VecDeque::new(), other_nodes: Vec::new() }))
    }

    #[inline]
    fn owe(&mut self, node: NodeId, via: Via) {
        self.len += 1;
        let owed = self.owed_mut(node);
        *owed = Owed { count: owed.count + 1, via };
    }

    #[inline]
    fn owed(&self, node: NodeId) -> Owed {
        let Some(at) = usize::from(node.0).checked_sub(1) else {
            return self.first_node;
        };
        let others = self.behind.as_ref().map(|behind| &behind.other_nodes);
        others.and_then(|others| others.get(at)).copied().unwrap_or(NOTHING)
    }

    #[inline]
    fn owed_mut(&mut self, node: NodeId) -> &mut Owed {
        let Some(at) = usize::from(node.0).checked_sub(1) else {
            return &mut self.first_node;
        };
        let others = &mut self.behind().other_nodes;
        if others.len() <= at {
            others.resize(at + 1, NOTHING);
        }
        &mut others[at]
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
