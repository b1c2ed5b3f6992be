//! Purging a prefix, and taking out what such purges cover, so that nobody need look for them any more.

use crate::Cache;
use crate::scan::Cursor;
use crate::sweep::SLOTS_A_LOCK;

/// How far what purges cover has been taken out.
pub(crate) struct PurgeRound {
    /// The newest purge that was live when the round began: up to it they are done with at its end.
    newest: u32,
    at: Cursor,
}

/// What a step of taking out did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PurgeSweep {
    /// Keys that left.
    pub reclaimed: usize,
    /// Purges that nobody need look for any more.
    pub retired: usize,
    /// Whether some are left.
    pub are_left: bool,
}

impl<E> Cache<E> {
    /// Makes every entry whose key begins with `prefix`, and every fill of such a key in flight, a thing of the past. Memory is reclaimed by
    /// [`sweep_purged`](Self::sweep_purged), inserts, and lookups of these keys. `false`, and nothing is done, if 16 prefixes are being
    /// looked for already of which none is wider.
    ///
    /// Constant in time.
    #[must_use]
    pub fn purge_prefix(&self, prefix: &[u8]) -> bool {
        if prefix.is_empty() {
            self.flush();
            return true;
        }
        self.0.purges.purge(prefix)
    }

    /// Goes on taking out what purged prefixes cover, over at most `slots` slots, and is done with those purges at the end of a round. Steps of
    /// several callers do not overlap: one that finds another at it does nothing.
    pub fn sweep_purged(&self, slots: usize) -> PurgeSweep {
        let Some(mut round) = self.0.purge_round.try_lock() else {
            return PurgeSweep { are_left: true, ..PurgeSweep::default() };
        };
        let Some((newest, _)) = self.0.purges.newest() else {
            // A flush has ended them.
            *round = None;
            return PurgeSweep::default();
        };
        let PurgeRound { newest, at } = round.get_or_insert(PurgeRound { newest, at: Cursor::default() });
        let (mut done, mut left) = (PurgeSweep::default(), slots.max(1));
        while left > 0 && at.shard < self.0.cells.len() {
            let (next, reclaimed, visited) = self.sweep_purged_of_shard(*at, SLOTS_A_LOCK.min(left));
            *at = next;
            done.reclaimed += reclaimed;
            left = left.saturating_sub(visited.max(1));
        }
        if at.shard == self.0.cells.len() {
            done.retired = mutant::done_with(|| self.0.purges.retire(*newest));
            *round = None;
        }
        done.are_left = self.0.purges.newest().is_some();
        done
    }

    /// A step within a shard: where to go on, how many keys left, how many slots were visited.
    fn sweep_purged_of_shard(&self, at: Cursor, slots: usize) -> (Cursor, usize, usize) {
        let mut gone = Vec::with_capacity(2 * slots); // before the lock; freed with what is in it after the lock
        let mut shard = self.0.lock_at(at.shard);
        let moment = self.0.moment(0); // age does not matter here
        let before = shard.totals();
        let numbering = shard.round.numbering;
        let seen = if at.numbering == numbering { at.slot } else { 0 };
        if seen == 0 {
            shard.overtake_purged(&moment);
        }
        let last = shard.list.slots().min(seen.saturating_add(u32::try_from(slots).unwrap_or(u32::MAX)));
        for slot in seen + 1..=last {
            let Some(first) = shard.list.entry(slot) else { continue };
            match moment.end_by_order(first.key(), first.epoch()) {
                Some(death) => gone.push(shard.remove(slot, death.into())),
                None if shard.others() > 0 => {
                    let (first, hash) = (first.clone(), shard.list.node(slot).hash);
                    gone.extend(shard.take_purged(&first, hash, &moment));
                }
                None => {}
            }
        }
        let shard_ended = last == shard.list.slots();
        let change = shard.totals() - before;
        drop(shard);
        let reclaimed = gone.len();
        drop(gone);
        self.0.room.settle(change);
        let next = match shard_ended {
            true => Cursor { shard: at.shard + 1, slot: 0, numbering: 0 },
            false => Cursor { slot: last, numbering, ..at },
        };
        (next, reclaimed, (last - seen) as usize)
    }
}
