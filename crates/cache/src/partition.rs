//! Taking everything of a partition out, so that its number may be another's.

use crate::Cache;
use crate::departure::Departure;
use crate::scan::Cursor;
use crate::sweep::SLOTS_A_LOCK;

/// How far a partition has been cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleared {
    /// To be gone on with.
    UpTo(Cursor),
    /// Nothing is left that was held when the first step was made.
    All,
    /// A fill is in flight, and would be kept: to be begun anew once it has ended.
    FillsLeft,
}

impl<E> Cache<E> {
    /// Removes what is held of the partitions of that number from at most `slots` slots from `cursor` on. Start with
    /// `Cursor::default()`.
    ///
    /// The caller takes care that nothing of the partition is asked for from the first step on. Where its answer is a key's
    /// first, those of others about that key leave with it: they are fetched anew.
    pub fn clear_partition(&self, number: u8, cursor: Cursor, slots: usize) -> Cleared {
        let (mut at, mut left) = (cursor, slots.max(1));
        while left > 0 && at.shard < self.0.cells.len() {
            let step = SLOTS_A_LOCK.min(left);
            let mut gone = Vec::with_capacity(step); // before the lock; freed with what is in it after the lock
            let mut shard = self.0.lock_at(at.shard);
            let before = shard.totals();
            let numbering = shard.round.numbering;
            let seen = if at.numbering == numbering { at.slot } else { 0 };
            let last = shard.list.slots().min(seen.saturating_add(u32::try_from(step).unwrap_or(u32::MAX)));
            for slot in seen + 1..=last {
                let Some(first) = shard.list.entry(slot) else { continue };
                if first.partition().number() == number {
                    gone.push(shard.remove(slot, Departure::Evicted));
                } else {
                    let (key, hash) = (first.clone(), shard.list.node(slot).hash);
                    gone.extend(shard.take_partition(&key, hash, number));
                }
            }
            let shard_ended = last == shard.list.slots();
            let has_fills = shard_ended && shard.has_fills_of(number);
            let change = shard.totals() - before;
            drop(shard);
            drop(gone);
            self.0.room.settle(change);
            if has_fills {
                return Cleared::FillsLeft;
            }
            left -= (last - seen).max(1) as usize;
            at = if shard_ended {
                Cursor { shard: at.shard + 1, slot: 0, numbering: 0 }
            } else {
                Cursor { shard: at.shard, slot: last, numbering }
            };
        }
        if at.shard < self.0.cells.len() { Cleared::UpTo(at) } else { Cleared::All }
    }
}
