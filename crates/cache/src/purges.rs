//! Purges of prefixes, and flushes: what was registered before one is dead from its instant on, whatever is still held of it.
//!
//! Each of them is an *epoch*, the next number of one count. Entries and fills have the epoch in which they were registered. A flush ends all
//! that is older; a purge all that is older and has its prefix, as long as it is *live*: on a list that whoever finds something older than
//! the newest of them looks through, under a short lock. So it is exact at once and costs nothing that is issued; a hit of what is younger, or
//! of anything while none is live, costs one comparison, with the epoch that is *sure*.
//!
//! **When a purge may leave the list** ([`sweep_purged`](crate::Cache::sweep_purged)): once every shard was gone through, under its lock, after it was
//! issued. What it covers has left then, and fills that it covers are marked, so that nothing of it can come back: what is registered in
//! a shard behind that look has read a younger epoch under the same lock.

use sync::Mutex;
use sync::atomic::{AtomicU64, Ordering};

use crate::moment::Death;

/// Purges that are live at a time, at most.
pub(crate) const MOST_PURGES: usize = 16;

/// So many epochs after a flush a purge ends all that is older.
const FLUSHED_AFTER: u32 = 1 << 30;

/// The epochs, and the purges that are live.
pub(crate) struct Purges {
    /// The epoch of this moment in the low half; in the high one the sure one: nothing from it on is dead.
    clock: AtomicU64,
    /// Taken by itself, or while a shard is locked.
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    epoch: u32,
    /// That of the last flush.
    flushed: u32,
    live: Vec<Purge>,
    flushes: u64,
    purges: u64,
}

struct Purge {
    prefix: Box<[u8]>,
    epoch: u32,
}

/// Whether an epoch is older than another: an entry would have to be held for two billion purges to be mistaken for a younger one.
pub(crate) fn precedes(epoch: u32, other: u32) -> bool {
    epoch.wrapping_sub(other).cast_signed() < 0
}

impl Purges {
    pub(crate) fn new() -> Purges {
        Purges { clock: AtomicU64::new(0), list: Mutex::new(List::default()) }
    }

    /// The epoch of this moment, and the sure one.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the low half")]
    pub(crate) fn now(&self) -> (u32, u32) {
        // Acquire: pairs with the Release in `tell`.
        let clock = self.clock.load(Ordering::Acquire);
        (clock as u32, (clock >> 32) as u32)
    }

    /// How what is of this key and older than the sure epoch has died, if it has.
    #[cold]
    #[inline(never)]
    pub(crate) fn death(&self, key: &[u8], epoch: u32) -> Option<Death> {
        let list = self.list.lock();
        if precedes(epoch, list.flushed) {
            return Some(Death::Flushed);
        }
        let covers = |purge: &Purge| precedes(epoch, purge.epoch) && key.starts_with(&purge.prefix);
        list.live.iter().any(covers).then_some(Death::Purged)
    }

    pub(crate) fn flush(&self) {
        let mut list = self.list.lock();
        list.epoch = list.epoch.wrapping_add(1);
        list.flushed = list.epoch;
        list.flushes += 1;
        list.live.clear();
        self.tell(&list);
    }

    /// `false`: as many are live as may be, and none of them is wider.
    pub(crate) fn purge(&self, prefix: &[u8]) -> bool {
        let mut list = self.list.lock();
        let epoch = list.epoch.wrapping_add(1);
        list.live.retain(|purge| !purge.prefix.starts_with(prefix));
        if list.live.len() < MOST_PURGES {
            list.live.push(Purge { prefix: prefix.into(), epoch });
        } else if let Some(wider) = list.live.iter_mut().find(|purge| prefix.starts_with(&purge.prefix)) {
            // It ends more than was asked for, which is fetched anew.
            wider.epoch = epoch;
        } else {
            return false;
        }
        list.epoch = epoch;
        list.purges += 1;
        if epoch.wrapping_sub(list.flushed) > FLUSHED_AFTER {
            // Long before what is new would be taken for older than the last flush.
            list.flushed = epoch;
            list.live.clear();
        }
        self.tell(&list);
        true
    }

    /// The epoch of the newest that is live, and how many are.
    pub(crate) fn newest(&self) -> Option<(u32, usize)> {
        let list = self.list.lock();
        list.newest().map(|epoch| (epoch, list.live.len()))
    }

    /// Those up to this epoch are not looked at any more; how many.
    pub(crate) fn retire(&self, newest: u32) -> usize {
        let mut list = self.list.lock();
        let before = list.live.len();
        list.live.retain(|purge| precedes(newest, purge.epoch));
        self.tell(&list);
        before - list.live.len()
    }

    /// Flushes and purges so far.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let list = self.list.lock();
        (list.flushes, list.purges)
    }

    fn tell(&self, list: &List) {
        let sure = list.newest().unwrap_or(list.flushed);
        // Release: pairs with the Acquire in `now`.
        self.clock.store(u64::from(sure) << 32 | u64::from(list.epoch), Ordering::Release);
    }
}

impl List {
    fn newest(&self) -> Option<u32> {
        self.live
            .iter()
            .map(|purge| purge.epoch)
            .reduce(|one, other| if precedes(one, other) { other } else { one })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_and_begins_so_is_dead_while_a_purge_is_live() {
        let purges = Purges::new();
        assert!(purges.now() == (0, 0) && purges.newest().is_none());
        assert!(purges.purge(b"a:"));
        assert_eq!(purges.now(), (1, 1));
        assert_eq!(purges.death(b"a:1", 0), Some(Death::Purged));
        assert_eq!([purges.death(b"a:1", 1), purges.death(b"a", 0), purges.death(b"b:1", 0)], [None; 3]);
        assert!(purges.purge(b"b:"));
        assert_eq!((purges.now(), purges.retire(1)), ((2, 2), 1));
        assert_eq!([purges.death(b"a:1", 0), purges.death(b"b:1", 1)], [None, Some(Death::Purged)]);
        assert_eq!((purges.retire(2), purges.now()), (1, (2, 0)));
        purges.flush();
        assert_eq!((purges.now(), purges.death(b"x", 2)), ((3, 3), Some(Death::Flushed)));
        assert_eq!(purges.counts(), (1, 2));
    }

    #[test]
    fn epochs_go_round_and_nothing_new_is_taken_for_old() {
        let purges = Purges::new();
        for _ in 0..12 {
            {
                let mut list = purges.list.lock();
                list.epoch = list.epoch.wrapping_add(FLUSHED_AFTER / 2);
            }
            assert!(purges.purge(b"a:"));
            let (newest, _) = purges.now();
            purges.retire(newest);
            let (now, sure) = purges.now();
            assert!(!precedes(now, sure), "{now} is older than {sure}");
            assert_eq!(purges.death(b"b:1", now), None);
        }
    }

    #[test]
    fn a_full_list_takes_what_it_covers_and_nothing_else() {
        let purges = Purges::new();
        for number in 0..MOST_PURGES {
            assert!(purges.purge(format!("{number:02}:").as_bytes()));
        }
        assert!(!purges.purge(b"other"));
        assert_eq!(purges.now(), (16, 16), "what is refused leaves no trace");
        // The same once more, a narrower one, and a wider one, which makes room.
        assert!(purges.purge(b"03:") && purges.purge(b"04:x"));
        assert_eq!(purges.death(b"03:k", 16), Some(Death::Purged));
        assert_eq!(purges.death(b"04:y", 17), Some(Death::Purged), "the wider one stands for it");
        assert!(!purges.purge(b"other") && purges.purge(b"0") && purges.purge(b"other"));
        assert_eq!(purges.death(b"05:k", 18), Some(Death::Purged));
        assert_eq!(purges.newest(), Some((20, 8)));
    }
}
