//! The recency list: nodes in one `Vec`, linked by index, newest first.
//!
//! Node 0 is the sentinel that closes the ring; its tick is the greatest there is, so an empty list needs no special
//! case. A freed node goes to a free list and is the next to be used. A node is 32 bytes, two to a cache line.

use prefetch_index::prefetch_index;

use crate::entry::Entry;

/// The oldest tick of an empty list: older than nothing.
pub(crate) const NO_TICK: u64 = u64::MAX;

const SENTINEL: u32 = 0;

pub(crate) struct Node {
    /// None in the sentinel and in a free node.
    entry: Option<Entry>,
    /// When it was last used.
    tick: u64,
    /// Towards the newest.
    prev: u32,
    /// Towards the oldest; in a free node the next free one.
    next: u32,
    /// What the index finds it by: kept so that neither growth nor eviction hashes a key again.
    pub(crate) hash: u32,
    /// When it expires, in the units of [`crate::moment::coarse`].
    pub(crate) deadline: u32,
}

/// What is remembered of an entry beside its place in the list.
pub(crate) struct Tag {
    pub(crate) hash: u32,
    pub(crate) deadline: u32,
}

pub(crate) struct List {
    nodes: Vec<Node>,
    free: u32,
    len: usize,
    /// The tick of the oldest node, kept here so that publishing it touches no node.
    oldest_tick: u64,
}

impl List {
    /// Reserves room for `slots` nodes. Untouched room is address space and not memory; where even that is short, the
    /// list grows as it fills.
    pub(crate) fn new(slots: usize) -> List {
        let mut nodes = Vec::new();
        let _ = nodes.try_reserve_exact(slots + 1);
        nodes.push(Node { entry: None, tick: NO_TICK, prev: SENTINEL, next: SENTINEL, hash: 0, deadline: 0 });
        List { nodes, free: SENTINEL, len: 0, oldest_tick: NO_TICK }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Slots in use and free. Slots are numbered from 1 to this.
    pub(crate) fn slots(&self) -> u32 {
        index_u32(self.nodes.len() - 1)
    }

    /// Bytes of the nodes that were ever used since the list was made.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.slots()) * size_of::<Node>() as u64
    }

    /// The tick of the oldest entry, [`NO_TICK`] if there is none.
    pub(crate) fn oldest_tick(&self) -> u64 {
        self.oldest_tick
    }

    pub(crate) fn oldest(&self) -> Option<u32> {
        Some(self.nodes[0].prev).filter(|slot| *slot != SENTINEL)
    }

    pub(crate) fn node(&self, slot: u32) -> &Node {
        &self.nodes[slot as usize]
    }

    /// The entries from the most recently used one on, each with its tick.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = (u32, u64)> {
        let link = |slot: u32| Some(slot).filter(|slot| *slot != SENTINEL);
        let slots = std::iter::successors(link(self.nodes[0].next), move |slot| link(self.node(*slot).next));
        slots.map(|slot| (slot, self.node(slot).tick))
    }

    /// The entry in a slot; none if the slot is free.
    pub(crate) fn entry(&self, slot: u32) -> Option<&Entry> {
        self.nodes[slot as usize].entry.as_ref()
    }

    /// Has the processor fetch a node.
    #[inline]
    pub(crate) fn fetch(&self, slot: u32) {
        prefetch_index(&self.nodes, slot as usize);
    }

    /// Has the processor fetch what a node is linked with: its entry, and the nodes beside it.
    #[inline]
    pub(crate) fn fetch_around(&self, slot: u32) {
        // The list may have been compacted meanwhile.
        let Some(node) = self.nodes.get(slot as usize) else { return };
        self.fetch(node.prev);
        self.fetch(node.next);
        if let Some(entry) = &node.entry {
            entry.fetch();
        }
    }

    /// Puts an entry in front and returns its slot, good until [`remove`](List::remove).
    pub(crate) fn push(&mut self, entry: Entry, tag: Tag, tick: u64) -> u32 {
        let node = Node {
            entry: Some(entry),
            tick,
            prev: SENTINEL,
            next: SENTINEL,
            hash: tag.hash,
            deadline: tag.deadline,
        };
        let slot = if self.free == SENTINEL {
            self.nodes.push(node);
            self.slots()
        } else {
            let slot = self.free;
            self.free = self.nodes[slot as usize].next;
            self.nodes[slot as usize] = node;
            slot
        };
        self.link_front(slot, tick);
        self.len += 1;
        slot
    }

    /// Marks a use.
    #[inline]
    pub(crate) fn promote(&mut self, slot: u32, tick: u64) {
        self.unlink(slot);
        self.link_front(slot, tick);
    }

    /// Puts another entry in the place of a held one, without marking a use.
    pub(crate) fn replace(&mut self, slot: u32, entry: Entry, deadline: u32) -> Option<Entry> {
        let node = &mut self.nodes[slot as usize];
        node.deadline = deadline;
        node.entry.replace(entry)
    }

    /// The held entry expires at another instant than its node says.
    pub(crate) fn renew(&mut self, slot: u32, deadline: u32) {
        self.nodes[slot as usize].deadline = deadline;
    }

    /// Takes an entry out and frees its slot.
    ///
    /// # Panics
    /// If the slot is free: the index and the list no longer agree.
    pub(crate) fn remove(&mut self, slot: u32) -> Entry {
        self.unlink(slot);
        let node = &mut self.nodes[slot as usize];
        node.next = self.free;
        self.free = slot;
        self.len -= 1;
        node.entry.take().expect("a slot that is linked holds an entry")
    }

    /// Moves every entry to a list of its own size, in order, and returns what is left of the old one.
    pub(crate) fn compact(&mut self, slots: usize) -> List {
        let mut old = std::mem::replace(self, List::new(slots));
        let mut at = old.nodes[0].prev;
        while at != SENTINEL {
            let node = &mut old.nodes[at as usize];
            let entry = node.entry.take().expect("a slot that is linked holds an entry");
            self.push(entry, Tag { hash: node.hash, deadline: node.deadline }, node.tick);
            at = node.prev;
        }
        old
    }

    fn unlink(&mut self, slot: u32) {
        let (prev, next) = (self.nodes[slot as usize].prev, self.nodes[slot as usize].next);
        self.nodes[prev as usize].next = next;
        self.nodes[next as usize].prev = prev;
        if next == SENTINEL {
            self.oldest_tick = self.nodes[prev as usize].tick;
        }
    }

    fn link_front(&mut self, slot: u32, tick: u64) {
        let second = self.nodes[0].next;
        let node = &mut self.nodes[slot as usize];
        node.tick = tick;
        node.prev = SENTINEL;
        node.next = second;
        self.nodes[second as usize].prev = slot;
        self.nodes[0].next = slot;
        if second == SENTINEL {
            self.oldest_tick = tick;
        }
    }
}

/// A `Vec` index as a slot number.
///
/// # Panics
/// Beyond 4 billion slots a shard, which [`crate::Limits`] rules out.
fn index_u32(index: usize) -> u32 {
    u32::try_from(index).expect("fewer than 2^32 slots a shard")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::tests::aging;

    fn push(list: &mut List, name: u8, tick: u64) -> u32 {
        let entry = aging(&[name], b"", 0, 0);
        list.push(entry, Tag { hash: u32::from(name), deadline: 0 }, tick)
    }

    fn oldest_first(list: &List) -> String {
        let mut names = String::new();
        let mut at = list.nodes[0].prev;
        while at != SENTINEL {
            names.push(list.entry(at).unwrap().key()[0] as char);
            at = list.nodes[at as usize].prev;
        }
        names
    }

    #[test]
    fn a_node_is_32_bytes() {
        assert_eq!(size_of::<Node>(), 32);
    }

    #[test]
    fn entries_stay_in_order_of_use_and_slots_are_used_again() {
        let mut list = List::new(2);
        assert_eq!((list.oldest(), list.oldest_tick(), list.len()), (None, NO_TICK, 0));
        let (a, b, c) = (push(&mut list, b'a', 1), push(&mut list, b'b', 2), push(&mut list, b'c', 3));
        list.promote(a, 4);
        assert_eq!((oldest_first(&list).as_str(), list.oldest_tick()), ("bca", 2));
        assert_eq!(list.remove(c).key(), b"c");
        assert_eq!((oldest_first(&list).as_str(), list.oldest_tick()), ("ba", 2));
        assert_eq!(push(&mut list, b'd', 5), c);
        list.promote(b, 6);
        assert_eq!((oldest_first(&list).as_str(), list.oldest_tick(), list.slots()), ("adb", 4, 3));
        for slot in [a, c, b] {
            list.remove(slot);
        }
        assert_eq!((list.oldest(), list.oldest_tick(), list.len()), (None, NO_TICK, 0));
    }

    #[test]
    fn compaction_keeps_the_order_and_frees_the_slots() {
        let mut list = List::new(0);
        let slots: Vec<u32> = (0..100).map(|name| push(&mut list, name, u64::from(name))).collect();
        slots[..97].iter().for_each(|slot| drop(list.remove(*slot)));
        let before = oldest_first(&list);
        let old = list.compact(4);
        assert_eq!((oldest_first(&list), list.slots(), list.oldest_tick()), (before, 3, 97));
        assert_eq!(old.slots(), 100);
    }
}
