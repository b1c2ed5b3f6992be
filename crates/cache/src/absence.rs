//! Why something is not held: a memory of what has left, and of what was fetched and not kept.
//!
//! Fingerprints of 32 bits, 65,536 of them in all shards together, each in the one place that its hash has: a newer one takes the place
//! of an older. So what is told of a key is right but for one in 65,536, and is forgotten after some 65,536 others.

use crate::Cache;
use crate::departure::Departure;
use crate::shard::short;
use crate::stats::Unkept;
use crate::view::Partition;

/// Fingerprints in all shards.
const FINGERPRINTS: usize = 1 << 16;

/// Why no answer about a key is held, as far as that is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// Nothing is known of it.
    Unknown,
    /// It has expired.
    Expired,
    /// It has left for others.
    Evicted,
    /// It was changed, flushed or purged, while it was held or while it was fetched.
    Invalidated,
    /// There was no such key, and that is not kept.
    NoSuchKey,
    /// It was too large.
    TooLarge,
    /// Its fetcher has said that it is of another type.
    OtherType,
    /// Nothing would have proven it.
    Unproven,
}

impl Absence {
    const ALL: [Absence; 8] = [
        Absence::Unknown,
        Absence::Expired,
        Absence::Evicted,
        Absence::Invalidated,
        Absence::NoSuchKey,
        Absence::TooLarge,
        Absence::OtherType,
        Absence::Unproven,
    ];

    /// What is remembered of what leaves, if it is not there in another form.
    pub(crate) fn of_departure(why: Departure) -> Option<Absence> {
        match why {
            Departure::Replaced => None,
            Departure::Evicted => Some(Absence::Evicted),
            Departure::Expired => Some(Absence::Expired),
            Departure::Invalidated | Departure::Flushed | Departure::Purged => Some(Absence::Invalidated),
        }
    }

    /// What is remembered of an answer that was not kept.
    pub(crate) fn of_unkept(why: Unkept) -> Option<Absence> {
        match why {
            Unkept::Invalidated | Unkept::Flushed => Some(Absence::Invalidated),
            Unkept::TooLarge => Some(Absence::TooLarge),
            Unkept::Expired => Some(Absence::Expired),
            Unkept::Unproven => Some(Absence::Unproven),
            Unkept::Missing => Some(Absence::NoSuchKey),
            Unkept::Outdated | Unkept::Failed | Unkept::Abandoned => None,
        }
    }
}

/// The part of the memory that one shard has. Locked with it.
pub(crate) struct Absences {
    /// The fingerprint, the number of the partition, and why; 0 where there is none.
    places: Vec<u64>,
}

impl Absences {
    /// For one of so many shards, which are a power of two.
    pub(crate) fn new(shards: usize) -> Absences {
        Absences { places: vec![0; FINGERPRINTS / shards] }
    }

    pub(crate) fn note(&mut self, hash: u32, partition: Partition, why: Absence) {
        // What is too large goes past all that would prove it, and that is not why it is not held.
        if why == Absence::Unproven && self.of(hash, partition) == Absence::TooLarge {
            return;
        }
        let at = self.place(hash, partition);
        if let Some(place) = self.places.get_mut(at) {
            *place = word(hash, partition) | why as u64;
        }
    }

    fn of(&self, hash: u32, partition: Partition) -> Absence {
        let found = self.places.get(self.place(hash, partition)).copied().unwrap_or(0);
        let why = Absence::ALL.into_iter().find(|why| found & 0xff == *why as u64);
        why.filter(|_| found & !0xff == word(hash, partition)).unwrap_or(Absence::Unknown)
    }

    /// What is remembered of a key in one partition is not where the same key of another is.
    fn place(&self, hash: u32, partition: Partition) -> usize {
        let spread = u32::from(partition.number()).wrapping_mul(0x9e37_79b9);
        (hash ^ spread) as usize & self.places.len().wrapping_sub(1)
    }

    fn forget(&mut self, number: u8) {
        let is_of = |place: &u64| *place >> 8 & 0xff == u64::from(number);
        self.places.iter_mut().filter(|place| is_of(place)).for_each(|place| *place = 0);
    }

    fn bytes(&self) -> usize {
        self.places.capacity() * size_of::<u64>()
    }
}

fn word(hash: u32, partition: Partition) -> u64 {
    u64::from(hash) << 32 | u64::from(partition.number()) << 8
}

impl<E> Cache<E> {
    /// Why no answer about a key is held in a partition, as far as that is remembered; it need not be so any more. Counts as no
    /// use.
    pub fn absence(&self, key: &[u8], partition: Partition) -> Absence {
        let hash = self.0.hasher.hash(key);
        self.0.lock(hash).absences.of(short(hash), partition)
    }

    /// Forgets why anything is not held in the partitions of a number, which are about to be others.
    pub fn forget_absences(&self, number: u8) {
        (0..self.0.cells.len()).for_each(|at| self.0.lock_at(at).absences.forget(number));
    }

    /// Bytes that this memory takes, the same at any time.
    pub fn absence_bytes(&self) -> usize {
        (0..self.0.cells.len()).map(|at| self.0.lock_at(at).absences.bytes()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_left_last_is_remembered_by_partition_and_forgotten_behind_many_others() {
        let mut absences = Absences::new(1);
        let [one, other] = [0, 5].map(|number| Partition::new(number).expect("one of 64"));
        assert_eq!(absences.of(0, one), Absence::Unknown);
        for why in Absence::ALL {
            absences.note(7 << 20, one, why);
            assert_eq!(absences.of(7 << 20, one), why);
            assert_eq!(absences.of(7 << 20, one.leased()), why);
            assert_eq!(absences.of(7 << 20, other), Absence::Unknown);
            assert_eq!(absences.of(7 << 21, one), Absence::Unknown);
        }
        absences.note(7 << 20, other, Absence::TooLarge);
        absences.note(7 << 20, other, Absence::Unproven);
        assert_eq!(absences.of(7 << 20, other), Absence::TooLarge);
        absences.forget(5);
        assert_eq!(absences.of(7 << 20, other), Absence::Unknown);
        assert_eq!(absences.of(7 << 20, one), Absence::Unproven);
        let all = u32::try_from(FINGERPRINTS).expect("65,536");
        (0..all).for_each(|hash| absences.note(hash, one, Absence::Evicted));
        assert_eq!(absences.of(7 << 20, one), Absence::Unknown);
        assert_eq!(absences.of(all - 1, one), Absence::Evicted);
        assert_eq!(absences.bytes(), 512 * 1024);
    }
}
