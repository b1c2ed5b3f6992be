//! What is alive at one moment: age, flushes and purges, the ways to die without being touched.

use crate::entry::Entry;
use crate::purges::{Purges, precedes};

/// The caller's clock and the epochs, read while the shard is locked.
#[derive(Clone, Copy)]
pub(crate) struct Moment<'a> {
    pub(crate) now_ns: u64,
    pub(crate) epoch: u32,
    /// Nothing from this epoch on is dead of a flush or a purge.
    pub(crate) sure: u32,
    pub(crate) purges: &'a Purges,
    pub(crate) expiry_ns: u64,
}

/// How an entry is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    Expired,
    Flushed,
    Purged,
}

impl Moment<'_> {
    /// Why the entry must not be served, if so. At age = expiry it is dead.
    pub(crate) fn death(&self, entry: &Entry) -> Option<Death> {
        if let Some(death) = self.end_by_order(entry.key(), entry.epoch()) {
            Some(death)
        } else if self.now_ns >= self.end_of(entry) {
            Some(Death::Expired)
        } else {
            None
        }
    }

    /// Whether the entry may be served, told by two comparisons: `false` says nothing of what is older than the sure epoch.
    #[inline]
    pub(crate) fn is_surely_alive(&self, entry: &Entry) -> bool {
        !precedes(entry.epoch(), self.sure) && self.now_ns < self.end_of(entry)
    }

    /// How what was registered of a key in an epoch has died of a flush or a purge, if it has.
    #[inline]
    pub(crate) fn end_by_order(&self, key: &[u8], epoch: u32) -> Option<Death> {
        if precedes(epoch, self.sure) { self.purges.death(key, epoch) } else { None }
    }

    /// Whether what was sent at `sent_ns` has expired.
    pub(crate) fn is_over(&self, sent_ns: u64) -> bool {
        self.now_ns >= self.deadline_ns(sent_ns)
    }

    /// The end of an entry's life as a list's node remembers it.
    pub(crate) fn coarse_end_of(&self, entry: &Entry) -> u32 {
        coarse(self.end_of(entry))
    }

    /// When an entry dies: of age, or because its key expires in Redis.
    pub(crate) fn end_of(&self, entry: &Entry) -> u64 {
        self.deadline_ns(entry.sent_ns()).min(entry.deadline_ns().unwrap_or(u64::MAX))
    }

    fn deadline_ns(&self, sent_ns: u64) -> u64 {
        sent_ns.saturating_add(self.expiry_ns)
    }
}

/// An instant in units of 67 ms (2^26 ns), so that a node needs four bytes of it. It saturates after nine years of
/// uptime instead of wrapping, and never turns an order around: `coarse(a) < coarse(b)` means `a < b`. Where two are
/// equal the entry itself knows its nanoseconds. So a node's deadline only ever saves a look at the entry, and neither
/// 50 nor 400 days nor the saturation can make an entry live longer or shorter.
pub(crate) fn coarse(instant_ns: u64) -> u32 {
    u32::try_from(instant_ns >> 26).unwrap_or(u32::MAX)
}

#[cfg(test)]
pub(crate) fn moment(now_ns: u64, purges: &Purges, expiry_ns: u64) -> Moment<'_> {
    let (epoch, sure) = purges.now();
    Moment { now_ns, epoch, sure, purges, expiry_ns }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::entry::tests::aging;
    use crate::entry::{Entry, Facts, Keep, Provenance};
    use crate::lease::Lease;

    const DAY: u64 = 86_400_000_000_000;

    #[test]
    fn an_entry_is_dead_from_the_nanosecond_of_its_deadline() {
        for start in [0, 50 * DAY, 400 * DAY, 3_400 * DAY, 10_000 * DAY] {
            let entry = aging(b"k", b"v", start, 0);
            let at = |now_ns, purges| moment(now_ns, purges, 5_000_000);
            let [none, flushed, purged] = [Purges::new(), Purges::new(), Purges::new()];
            flushed.flush();
            assert!(purged.purge(b"k"));
            assert_eq!(at(start + 4_999_999, &none).death(&entry), None);
            assert_eq!(at(start + 5_000_000, &none).death(&entry), Some(Death::Expired));
            assert_eq!(at(start, &flushed).death(&entry), Some(Death::Flushed));
            assert_eq!(at(start, &purged).death(&entry), Some(Death::Purged));
        }
        let purges = Purges::new();
        let forever = moment(u64::MAX - 1, &purges, u64::MAX);
        assert!(!forever.is_over(DAY));
    }

    #[test]
    fn the_deadline_of_its_key_ends_an_entry_before_its_age_does() {
        let purges = Purges::new();
        let at = |now_ns| moment(now_ns, &purges, 100);
        for (deadline, end) in [(Some(50), 50), (Some(100), 100), (Some(500), 100), (None, 100)] {
            let keep = Keep::Leased { lease: Arc::new(Lease::default()), deadline_ns: deadline };
            let origin = Provenance { partition: crate::Partition::OWN, sent_ns: 0, epoch: 0, keep };
            let entry = Entry::new(b"k", b"v", Facts::default(), origin);
            assert_eq!((at(end - 1).death(&entry), at(end).death(&entry)), (None, Some(Death::Expired)));
        }
    }

    #[test]
    fn a_coarse_instant_never_turns_an_order_around() {
        let instants =
            [0, 1, 1 << 26, (1 << 26) + 1, 50 * DAY, 400 * DAY, 1 << 57, 1 << 58, 1 << 63, u64::MAX];
        for pair in instants.windows(2) {
            assert!(coarse(pair[0]) <= coarse(pair[1]), "{pair:?}");
        }
    }
}
