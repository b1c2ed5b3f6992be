//! A hit and nothing else: most of what a cache is asked.

use crate::{Cache, Entry, Need, Partition};

impl<E> Cache<E> {
    /// The value of a key in a partition, if it is held, alive and as fresh as `need`, as a use of the key. None says nothing of
    /// the key, and is no lookup: nothing is registered, counted or removed.
    ///
    /// Cost: one hash, one lock, no allocation.
    #[inline]
    pub fn hit(&self, key: &[u8], partition: Partition, need: Need, now_ns: u64) -> Option<Entry> {
        if !mutant::in_one_look(true) {
            return None;
        }
        let inner = &*self.0;
        let hash = inner.hasher.hash(key);
        let mut shard = inner.lock(hash);
        let at = inner.moment(now_ns);
        let entry = shard.hit(key, partition, hash, &at, |entry| inner.surely_satisfies(entry, need))?;
        shard.stats.hits += 1;
        Some(entry)
    }
}
