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
//! **Cost.** While one node alone owes replies, which is all there is to plain pass-through, a command is one addition and the
//! queue is never touched; an idle client holds no memory for it. Its length is bounded by who takes requests up.

use std::collections::VecDeque;

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
    QuickLane,
    SlowLane,
    Pin,
    /// A read that the cache answers, or what it fetches.
    Cache,
}

/// The queue; `R` is a read.
pub(crate) struct Replies<R> {
    /// What is due before all that is queued: its bytes go to the output as they come.
    head: Due,
    queue: VecDeque<Stretch<R>>,
    /// What [`NodeId::FIRST`] owes in all, and the others from the second on.
    first_node: Owed,
    other_nodes: Vec<Owed>,
    /// Answers that have not come, and reads that have not left.
    len: usize,
    /// Bytes in the queue that were made here, and that Redis has sent.
    made_bytes: usize,
    sent_bytes: usize,
}

/// Replies that one node owes, one after the other.
#[derive(Clone, Copy)]
struct Due {
    node: NodeId,
    count: usize,
}

/// What a node owes a client, all of it by one way.
#[derive(Clone, Copy)]
struct Owed {
    via: Via,
    count: usize,
}

enum Stretch<R> {
    Made(Vec<u8>),
    /// With the bytes that have come.
    Due(Due, Vec<u8>),
    Read(NodeId, R),
}

const NOTHING: Owed = Owed { via: Via::QuickLane, count: 0 };

impl<R> Replies<R> {
    pub(crate) fn new() -> Self {
        Replies {
            head: Due { node: NodeId::FIRST, count: 0 },
            queue: VecDeque::new(),
            first_node: NOTHING,
            other_nodes: Vec::new(),
            len: 0,
            made_bytes: 0,
            sent_bytes: 0,
        }
    }

    /// Answers that have not come, and reads that have not left.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether an answer that is here may leave at once.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0 && self.queue.is_empty()
    }

    /// Whether a command may go to `node` by `via` now: nothing is due there by another way.
    #[inline]
    pub(crate) fn may_go(&self, node: NodeId, via: Via) -> bool {
        let owed = self.owed(node);
        owed.count == 0 || owed.via == via
    }

    /// A command has gone to `node` by a lane or the pin. It was asked whether it might.
    #[inline]
    pub(crate) fn sent(&mut self, node: NodeId, via: Via) {
        debug_assert!(self.may_go(node, via), "another way owes replies");
        self.owe(node, via);
        if self.queue.is_empty() && (self.head.count == 0 || self.head.node == node) {
            self.head = Due { node, count: self.head.count + 1 };
            return;
        }
        match self.queue.back_mut() {
            Some(Stretch::Due(due, _)) if due.node == node => due.count += 1,
            _ => self.queue.push_back(Stretch::Due(Due { node, count: 1 }, Vec::new())),
        }
    }

    /// A read of `node` is answered at its turn. It was asked whether it might go.
    pub(crate) fn read(&mut self, node: NodeId, read: R) {
        debug_assert!(self.may_go(node, Via::Cache), "another way owes replies");
        self.owe(node, Via::Cache);
        self.queue.push_back(Stretch::Read(node, read));
    }

    /// An answer that was made here, behind all that is due: to `out` if nothing is.
    pub(crate) fn made(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.is_empty() {
            return out.extend_from_slice(bytes);
        }
        self.made_bytes += bytes.len();
        match self.queue.back_mut() {
            Some(Stretch::Made(made)) => made.extend_from_slice(bytes),
            _ => self.queue.push_back(Stretch::Made(bytes.to_vec())),
        }
    }

    /// Bytes of the replies that are due at `node`, with the ends of `whole` of them: to `out` if these are due first of all.
    /// They are of one stretch. An empty buffer is traded for what is in `bytes`.
    pub(crate) fn came(&mut self, node: NodeId, bytes: &mut Vec<u8>, whole: usize, out: &mut Vec<u8>) {
        let is_head = self.head.node == node && self.head.count > 0;
        let held = self.queue.iter_mut().find_map(|stretch| match stretch {
            Stretch::Due(due, held) if !is_head && due.node == node && due.count > 0 => Some(held),
            _ => None,
        });
        if let Some(held) = held {
            self.sent_bytes += bytes.len();
            append(held, bytes);
        } else {
            append(out, bytes);
        }
        self.replied(node, whole);
    }

    /// So many replies of `node` have come, or never will.
    pub(crate) fn replied(&mut self, node: NodeId, count: usize) {
        let owed = self.owed_mut(node);
        let mut left = count.min(owed.count);
        owed.count -= left;
        self.len -= left;
        if self.head.node == node {
            let of_head = left.min(self.head.count);
            self.head.count -= of_head;
            left -= of_head;
        }
        for stretch in &mut self.queue {
            match stretch {
                _ if left == 0 => break,
                Stretch::Due(due, _) if due.node == node => {
                    let of_stretch = left.min(due.count);
                    due.count -= of_stretch;
                    left -= of_stretch;
                }
                _ => {}
            }
        }
    }

    /// So many replies are still due at `node` by a lane or the pin, after others have come.
    pub(crate) fn still_due(&mut self, node: NodeId, count: usize) {
        let before = self.owed(node).count;
        self.replied(node, before.saturating_sub(count));
    }

    /// Appends to `out` what may leave. Whether anything did.
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        while self.head.count == 0 {
            match self.queue.front_mut() {
                None | Some(Stretch::Read(..)) => break,
                Some(Stretch::Made(bytes)) => {
                    self.made_bytes -= bytes.len();
                    append(out, bytes);
                }
                Some(Stretch::Due(due, bytes)) => {
                    self.sent_bytes -= bytes.len();
                    self.head = *due;
                    append(out, bytes);
                }
            }
            self.queue.pop_front();
        }
        out.len() > before
    }

    /// The read whose turn it is, if it is one's.
    pub(crate) fn read_at_head(&mut self) -> Option<&mut R> {
        match self.queue.front_mut() {
            Some(Stretch::Read(_, read)) if self.head.count == 0 => Some(read),
            _ => None,
        }
    }

    /// Takes the read whose turn it is: its answer leaves.
    pub(crate) fn take_read(&mut self) -> Option<R> {
        self.read_at_head()?;
        let Some(Stretch::Read(node, read)) = self.queue.pop_front() else { return None };
        self.owed_mut(node).count -= 1;
        self.len -= 1;
        Some(read)
    }

    /// The reads that have not left, in their order.
    pub(crate) fn reads(&self) -> impl Iterator<Item = &R> {
        self.queue.iter().filter_map(|stretch| match stretch {
            Stretch::Read(_, read) => Some(read),
            _ => None,
        })
    }

    /// The same, to be changed.
    pub(crate) fn reads_mut(&mut self) -> impl Iterator<Item = &mut R> {
        self.queue.iter_mut().filter_map(|stretch| match stretch {
            Stretch::Read(_, read) => Some(read),
            _ => None,
        })
    }

    /// Bytes held here that were made here.
    pub(crate) fn made_bytes(&self) -> usize {
        self.made_bytes
    }

    /// Bytes held here that Redis has sent; those of reads are theirs to tell.
    pub(crate) fn sent_bytes(&self) -> usize {
        self.sent_bytes
    }

    #[inline]
    fn owe(&mut self, node: NodeId, via: Via) {
        self.len += 1;
        let owed = self.owed_mut(node);
        *owed = Owed { via, count: owed.count + 1 };
    }

    #[inline]
    fn owed(&self, node: NodeId) -> Owed {
        match usize::from(node.0).checked_sub(1) {
            None => self.first_node,
            Some(at) => self.other_nodes.get(at).copied().unwrap_or(NOTHING),
        }
    }

    #[inline]
    fn owed_mut(&mut self, node: NodeId) -> &mut Owed {
        let Some(at) = usize::from(node.0).checked_sub(1) else {
            return &mut self.first_node;
        };
        if self.other_nodes.len() <= at {
            self.other_nodes.resize(at + 1, NOTHING);
        }
        &mut self.other_nodes[at]
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
