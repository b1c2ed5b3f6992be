//! Reclaiming the dead in the background, in steps that are bounded in slots and in the time a shard stays locked.

use crate::departure::{Departure, Gone};
use crate::list::List;
use crate::moment::{Death, Moment, coarse};
use crate::shard::Shard;
use crate::{Cache, Inner};

/// Slots visited while a shard is locked, about 1 us when nothing is dead and some 10 us when all is.
pub(crate) const SLOTS_A_LOCK: usize = 64;

/// Slots that an eviction looks at for a dead entry, when there may be one: caches up to this size know all their dead.
const SLOTS_AN_EVICTION: usize = 32;

/// A shard is made smaller when at most one slot in this many is used, if it has more than [`COMPACT_SLOTS`].
const COMPACT_RATIO: usize = 8;
const COMPACT_SLOTS: usize = 512;

/// What one step of maintenance did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Slots looked at.
    pub visited: usize,
    /// Dead entries reclaimed.
    pub reclaimed: usize,
    /// Entries evicted because a limit was lowered.
    pub evicted: usize,
    /// Whether this step finished a round through the whole cache.
    pub round_ended: bool,
}

/// A shard's way through its slots, and what it knows about the dead without looking.
pub(crate) struct SweepRound {
    next_slot: u32,
    /// No live entry has an earlier deadline, in units of [`coarse`].
    earliest: u32,
    /// As `earliest`, for what was visited or inserted in this round: it becomes `earliest` when the round ends.
    seen: u32,
    /// How often the slots have been numbered anew: what a scan remembers of them is then worthless.
    pub(crate) numbering: u32,
    /// The expiry by which deadlines are reckoned; none before the first one.
    expiry_ns: Option<u64>,
    /// Whether deadlines by another expiry may be in the nodes, until the round ends.
    renews: bool,
}

impl SweepRound {
    pub(crate) fn new() -> SweepRound {
        let (earliest, seen) = (u32::MAX, u32::MAX);
        SweepRound { next_slot: 1, earliest, seen, numbering: 0, expiry_ns: None, renews: false }
    }

    /// Begins again where the expiry is another one: each entry is looked at once then, whatever its node says.
    fn goes_by(&mut self, expiry_ns: u64) {
        match self.expiry_ns.replace(expiry_ns) {
            Some(before) if before != expiry_ns => {
                let (numbering, expiry_ns) = (self.numbering, self.expiry_ns);
                *self = SweepRound { earliest: 0, numbering, expiry_ns, renews: true, ..SweepRound::new() };
            }
            _ => {}
        }
    }

    /// Takes account of an entry's deadline by an expiry.
    pub(crate) fn note(&mut self, deadline: u32, expiry_ns: u64) {
        self.goes_by(expiry_ns);
        self.earliest = self.earliest.min(deadline);
        self.seen = self.seen.min(deadline);
    }

    /// Starts again at the first slot, because the slots were numbered anew.
    pub(crate) fn renumbered(&mut self) {
        self.next_slot = 1;
        self.numbering = self.numbering.wrapping_add(1);
    }

    fn restart(&mut self) {
        let SweepRound { seen, numbering, expiry_ns, .. } = *self;
        *self = SweepRound { earliest: seen, numbering, expiry_ns, ..SweepRound::new() };
    }
}

impl<E> Cache<E> {
    /// Visits at most `slots` slots, reclaims the dead among them, and evicts at most as many entries as a lowered limit
    /// demands. Ends early at the end of a round.
    ///
    /// The caller paces it: every 100 ms with `slots() / 80 + 64` is a round in 8 s. About 5 ns a slot, at most
    /// 64 slots while a shard is locked; steps of several callers do not overlap.
    pub fn maintain(&self, now_ns: u64, slots: usize) -> Maintained {
        let inner = &*self.0;
        let Some(mut at) = inner.maintaining.try_lock() else { return Maintained::default() };
        let mut done = Maintained::default();
        while done.visited < slots && !done.round_ended {
            let step = inner.sweep_shard(*at, now_ns, SLOTS_A_LOCK.min(slots - done.visited));
            done.visited += step.visited;
            done.reclaimed += step.reclaimed;
            if step.round_ended {
                inner.compact_shard(*at);
                *at = (*at + 1) % inner.cells.len();
                done.round_ended = *at == 0;
            }
        }
        done.evicted = inner.make_room(Default::default(), slots, now_ns);
        done
    }

    /// Slots that a round of [`maintain`](Cache::maintain) visits. Locks every shard in turn.
    pub fn slots(&self) -> usize {
        (0..self.0.cells.len()).map(|at| self.0.lock_at(at).list.slots() as usize).sum()
    }
}

impl<E> Inner<E> {
    fn sweep_shard(&self, at: usize, now_ns: u64, slots: usize) -> Maintained {
        let mut gone = Vec::with_capacity(2 * slots); // before the lock; freed with what is in it after the lock
        let mut shard = self.lock_at(at);
        let before = shard.totals();
        let moment = self.moment(now_ns);
        shard.reclaim_flushed(&moment, slots, &mut gone);
        let (visited, round_ended) = shard.reclaim_dead(&moment, slots, &mut gone);
        let change = shard.totals() - before;
        drop(shard);
        self.room.settle(change);
        Maintained { visited, reclaimed: gone.len(), evicted: 0, round_ended }
    }

    /// Gives back the memory of a shard's list and index when few of the slots are used: they would stay charged to the
    /// byte budget for good. Moves what is left while the shard is locked, at most one entry for each eight freed slots.
    fn compact_shard(&self, at: usize) {
        let mut shard = self.lock_at(at);
        let (used, slots) = (shard.list.len(), shard.list.slots() as usize);
        if slots <= COMPACT_SLOTS || used * COMPACT_RATIO > slots {
            return;
        }
        let before = shard.totals();
        let old = shard.compact();
        let change = shard.totals() - before;
        drop(shard);
        drop(old);
        self.room.settle(change);
    }
}

impl<E> Shard<E> {
    /// Entries from before a flush cannot be used any more, so they are the oldest in the list.
    fn reclaim_flushed(&mut self, at: &Moment<'_>, most: usize, gone: &mut Vec<Gone>) {
        for _ in 0..most {
            match oldest_death(&self.list, at) {
                Some((slot, Death::Flushed)) => gone.push(self.remove(slot, Departure::Flushed)),
                _ => return,
            }
        }
    }

    /// Visits at most `slots` slots; returns how many, and whether the round has ended.
    fn reclaim_dead(&mut self, at: &Moment<'_>, slots: usize, gone: &mut Vec<Gone>) -> (usize, bool) {
        self.round.goes_by(at.expiry_ns);
        for visited in 0..slots {
            if self.round.next_slot > self.list.slots() {
                self.round.restart();
                return (visited, true);
            }
            if let Some((slot, death)) = self.visit(at) {
                gone.push(self.remove(slot, death.into()));
            }
        }
        (slots, false)
    }

    /// A slot whose entry is dead, if a short look finds one. Most often no look is needed: nothing has expired.
    pub(crate) fn known_dead(&mut self, at: &Moment<'_>) -> Option<u32> {
        self.round.goes_by(at.expiry_ns);
        for _ in 0..SLOTS_AN_EVICTION {
            if coarse(at.now_ns) < self.round.earliest {
                return None;
            }
            if self.round.next_slot > self.list.slots() {
                self.round.restart();
            } else if let Some((slot, _)) = self.visit(at) {
                return Some(slot);
            }
        }
        None
    }

    /// Goes one slot further; returns it if the entry there has died.
    fn visit(&mut self, at: &Moment<'_>) -> Option<(u32, Death)> {
        let slot = self.round.next_slot;
        self.round.next_slot += 1;
        let node = self.list.node(slot);
        let entry = self.list.entry(slot)?;
        // Only a node whose deadline is near or past costs a look at its entry.
        if coarse(at.now_ns) < node.deadline && !self.round.renews {
            self.round.seen = self.round.seen.min(node.deadline);
            return None;
        }
        let (death, deadline) = (at.death(entry), at.coarse_end_of(entry));
        if death.is_none() {
            self.list.renew(slot, deadline);
            self.round.seen = self.round.seen.min(deadline);
        }
        death.map(|death| (slot, death))
    }
}

fn oldest_death(list: &List, at: &Moment<'_>) -> Option<(u32, Death)> {
    let slot = list.oldest()?;
    Some((slot, at.death(list.entry(slot)?)?))
}
