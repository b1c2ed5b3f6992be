//! Walking through what is held, a bounded step at a time, without counting as use.

use crate::Cache;
use crate::entry::Entry;
use crate::sweep::SLOTS_A_LOCK;

/// Where a scan goes on. Opaque; good as long as the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    pub(crate) shard: usize,
    /// The last slot seen.
    pub(crate) slot: u32,
    /// Which numbering of the shard's slots that is.
    pub(crate) numbering: u32,
}

/// One step of a scan.
#[derive(Debug)]
pub struct Scan {
    /// The live entries found; may be empty before the end.
    pub entries: Vec<Entry>,
    /// Where to go on; none at the end.
    pub next: Option<Cursor>,
}

impl<E> Cache<E> {
    /// Visits at most `slots` slots from `cursor` on and returns the live entries in them, in no useful order. Start with
    /// `Cursor::default()`.
    ///
    /// An entry held from the first step to the last is seen; once, unless its shard has shrunk meanwhile.
    pub fn scan(&self, cursor: Cursor, slots: usize, now_ns: u64) -> Scan {
        let mut entries = Vec::new();
        let (mut at, mut left) = (cursor, slots.max(1));
        while left > 0 && at.shard < self.0.cells.len() {
            let step = SLOTS_A_LOCK.min(left);
            let mut found = Vec::with_capacity(step); // before the lock
            let shard = self.0.lock_at(at.shard);
            let moment = self.0.moment(now_ns);
            let numbering = shard.round.numbering;
            let seen = if at.numbering == numbering { at.slot } else { 0 };
            let last = shard.list.slots().min(seen.saturating_add(u32::try_from(step).unwrap_or(u32::MAX)));
            let held = (seen + 1..=last).filter_map(|slot| shard.list.entry(slot));
            found.extend(held.filter(|entry| moment.death(entry).is_none()).cloned());
            let shard_ended = last == shard.list.slots();
            drop(shard);
            entries.append(&mut found);
            left -= (last - seen).max(1) as usize;
            at = if shard_ended {
                Cursor { shard: at.shard + 1, slot: 0, numbering: 0 }
            } else {
                Cursor { slot: last, numbering, ..at }
            };
        }
        Scan { entries, next: Some(at).filter(|at| at.shard < self.0.cells.len()) }
    }
}
