//! From a key's hash to its slot in the list.
//!
//! One shard's index is many small tables, not one large: a table that grows moves all it holds while the shard is
//! locked, so no table may be large. A table has about 800 entries when the cache is full and moves in about 0.1 ms. Nothing
//! is reserved: an empty table has no allocation, and capacity costs 32 bytes for each 800 keys.

use hashbrown::HashTable;

/// Entries of one table when the cache is full: four parts in five of 1,024 places, of which 896 are used before it grows. So
/// few of the tables grow to twice the size by chance, and an entry costs 7.7 bytes.
const TABLE_ENTRIES: usize = 800;

/// Fewest and most tables of a shard: a small cache may be resized, and the headers shall stay small at any capacity.
const TABLES_MIN: usize = 16;
const TABLES_MAX: usize = 4096;

pub(crate) struct Index {
    tables: Box<[HashTable<u32>]>,
    bytes: u64,
}

impl Index {
    /// An index that suits about `entries` entries and can hold any number.
    pub(crate) fn new(entries: usize) -> Index {
        Index::of(entries.div_ceil(TABLE_ENTRIES).clamp(TABLES_MIN, TABLES_MAX))
    }

    /// An empty index for as many entries as this one.
    pub(crate) fn emptied(&self) -> Index {
        Index::of(self.tables.len())
    }

    fn of(tables: usize) -> Index {
        Index { tables: (0..tables).map(|_| HashTable::new()).collect(), bytes: 0 }
    }

    /// Bytes of the tables.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The slot that `is_it` accepts, among those whose hash may be `hash`.
    pub(crate) fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.tables[self.table(hash)].find(spread(hash), |slot| is_it(*slot)).copied()
    }

    /// Adds a slot that is not yet there. `hash_of` gives the hash of any slot that is.
    pub(crate) fn insert(&mut self, hash: u32, slot: u32, hash_of: impl Fn(u32) -> u32) {
        let at = self.table(hash);
        let table = &mut self.tables[at];
        let before = table.allocation_size();
        table.insert_unique(spread(hash), slot, |slot| spread(hash_of(*slot)));
        self.bytes += (table.allocation_size() - before) as u64; // a table never shrinks by itself
    }

    /// Removes a slot.
    pub(crate) fn remove(&mut self, hash: u32, slot: u32) {
        let at = self.table(hash);
        let entry = self.tables[at].find_entry(spread(hash), |other| *other == slot);
        debug_assert!(entry.is_ok(), "a slot that is linked is indexed");
        if let Ok(entry) = entry {
            entry.remove();
        }
    }

    /// The hash as a part of one, times the tables.
    fn table(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.tables.len() as u64) >> 32) as usize
    }
}

/// The 64 bits that a table wants: it takes the place from the low bits and a tag from the seven highest. The highest
/// bits of `hash` select the table and are the same in all of it, hence the multiplication (2^64 over the golden ratio).
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_inserted_is_found_until_removed() {
        for entries in [1, 100_000, 1_000_000_000] {
            let mut index = Index::new(entries);
            let hash_of = |slot: u32| slot.wrapping_mul(0x85eb_ca6b) ^ 0x5bd1_e995;
            (0..50_000).for_each(|slot| index.insert(hash_of(slot), slot, hash_of));
            (0..50_000).step_by(2).for_each(|slot| index.remove(hash_of(slot), slot));
            for slot in 0..50_000 {
                let found = index.find(hash_of(slot), |other| other == slot);
                assert_eq!(found, (slot % 2 == 1).then_some(slot));
            }
            assert_eq!(index.bytes(), index.tables.iter().map(|t| t.allocation_size() as u64).sum::<u64>());
        }
    }

    #[test]
    fn equal_hashes_are_told_apart() {
        let mut index = Index::new(10);
        (1..=100).for_each(|slot| index.insert(7, slot, |_| 7));
        assert_eq!(index.find(7, |slot| slot == 63), Some(63));
        index.remove(7, 63);
        assert_eq!((index.find(7, |slot| slot == 63), index.find(7, |slot| slot == 64)), (None, Some(64)));
    }
}
