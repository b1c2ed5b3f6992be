//! The keys of a workload: in which database each lies, under which name, and of what kind.

use crate::Workload;

/// Which keys there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keyspace {
    keys: usize,
    writers: usize,
    is_varied: bool,
    /// A cluster's: only commands that can be split may name two of them, and only as clients of the program.
    pub(super) is_of_slots: bool,
}

/// In a cluster each key is of the slot of one of so many tags, four keys of a tag, among them a hash.
const TAGS: usize = 6;

impl Keyspace {
    /// Without Redis clients all keys are strings in database 0: HTTP reads nothing else.
    pub(super) fn of(workload: &Workload) -> Keyspace {
        Keyspace {
            keys: workload.keys,
            writers: workload.writers,
            is_varied: workload.resp_readers > 0,
            is_of_slots: workload.of_slots,
        }
    }

    /// The last of three writers has its keys in database 1: two keys of one writer are in one database. A cluster has one database.
    pub(super) fn db(self, key: usize) -> u32 {
        let is_last = self.writers >= 3 && key % self.writers == self.writers - 1;
        u32::from(self.is_varied && is_last && !self.is_of_slots)
    }

    /// In database 1 that of another key in database 0: what is read of the one is no value of the other.
    pub(super) fn name(self, key: usize) -> String {
        match self.is_of_slots {
            true => format!("{{t{}}}k{key}", key / 4 % TAGS),
            false => format!("k{}", key - self.db(key) as usize),
        }
    }

    /// Whether two keys are in a cluster, and not in one slot.
    pub(super) fn are_apart(self, one: usize, other: usize) -> bool {
        self.is_of_slots && one / 4 % TAGS != other / 4 % TAGS
    }

    /// Every fourth key is a hash, with its value in the field [`FIELD`].
    pub(super) fn is_hash(self, key: usize) -> bool {
        self.is_varied && key % 4 == 3
    }

    /// The keys of a database; of strings alone, if so asked.
    pub(super) fn keys_in(self, db: u32, hashes: bool) -> Vec<usize> {
        let is_meant = |&key: &usize| self.db(key) == db && (hashes || !self.is_hash(key));
        (0..self.keys).filter(is_meant).collect()
    }
}

/// The one field of a hash.
pub(super) const FIELD: &[u8] = b"v";
