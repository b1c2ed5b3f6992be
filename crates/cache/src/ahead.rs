//! Looking ahead: of lookups that are known before they are made the memory is asked for together, and waited for once.
//!
//! A lookup touches a table of the index, a node of the list with its two neighbours, and an entry, each found by the one before.
//! Where there are many keys, each of these is a wait for memory.

use crate::Cache;

/// Keys that are looked at together, at most: their nodes and entries stay in the first cache of a processor until it is their turn.
const MOST_AHEAD: usize = 32;

/// With fewer entries all that a lookup touches is near the processor as it is.
const MANY_ENTRIES: i64 = 16_384;

/// Where a key's entry is looked for.
#[derive(Clone, Copy, Default)]
struct Place {
    hash: u64,
    slot: Option<u32>,
}

impl<E> Cache<E> {
    /// Whether so much is held that [`look_ahead`](Self::look_ahead) is worth its cost. One read of a shared counter.
    #[inline]
    pub fn is_worth_looking_ahead(&self) -> bool {
        self.0.room.totals().entries >= MANY_ENTRIES
    }

    /// Has the processor fetch what lookups of these keys will touch, of the first 32 of them; of how many it was. It is no lookup: it
    /// counts nothing and makes nothing recent. A single key is not worth it.
    ///
    /// Cost: a hash and two locks a key.
    pub fn look_ahead<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> usize {
        let inner = &*self.0;
        let mut places = [Place::default(); MOST_AHEAD];
        let mut count = 0;
        for (place, key) in places.iter_mut().zip(keys) {
            place.hash = inner.hasher.hash(key);
            count += 1;
        }
        if count < 2 {
            return count;
        }
        let places = &mut places[..count];
        for place in places.iter_mut() {
            place.slot = inner.lock(place.hash).fetch_node(place.hash);
        }
        for place in places.iter() {
            if let Some(slot) = place.slot {
                inner.lock(place.hash).list.fetch_around(slot);
            }
        }
        count
    }
}
