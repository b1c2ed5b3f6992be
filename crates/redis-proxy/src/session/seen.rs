//! What a connection was shown of Redis that may be newer than what is held: from then on it is shown nothing older.

/// Keys remembered of one connection.
const MOST_KEYS: usize = 16;

/// Since when a connection is shown nothing older of some keys, by their hashes, or of all. Two keys that share a hash share
/// the instant, which costs one of them a fetch.
#[derive(Default)]
pub(crate) struct SeenKeys(Option<Box<Instants>>);

/// Made once there is one: most connections are shown nothing that is not held.
#[derive(Default)]
struct Instants {
    all_ns: u64,
    some: Vec<(u64, u64)>,
}

impl SeenKeys {
    /// An answer about a key is about to be shown. One key too many, and the instant counts for all of them.
    pub(crate) fn note(&mut self, key_hash: u64, now_ns: u64) {
        let now_ns = mutant::seen(now_ns);
        let Instants { all_ns, some } = &mut **self.0.get_or_insert_default();
        match some.iter().position(|(hash, _)| *hash == key_hash) {
            Some(at) => some[at].1 = now_ns,
            None if some.len() < MOST_KEYS => some.push((key_hash, now_ns)),
            None => {
                some.clear();
                *all_ns = now_ns;
            }
        }
    }

    /// How late what is shown of a key must be true. The hash is asked for where some keys are remembered.
    #[inline]
    pub(crate) fn since_ns(&self, key_hash: impl FnOnce() -> u64) -> u64 {
        let Some(Instants { all_ns, some }) = self.0.as_deref() else { return 0 };
        if some.is_empty() {
            return *all_ns;
        }
        let key_hash = key_hash();
        let since_ns = some.iter().find(|(hash, _)| *hash == key_hash).map_or(0, |(_, since_ns)| *since_ns);
        since_ns.max(*all_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_keys_are_remembered_each_with_its_last_instant_and_beyond_one_of_all() {
        let mut seen = SeenKeys::default();
        assert_eq!(seen.since_ns(|| unreachable!("nothing is remembered")), 0);
        for key in 0..MOST_KEYS as u64 {
            seen.note(key, 10 + key);
        }
        seen.note(3, 99);
        assert_eq!((seen.since_ns(|| 3), seen.since_ns(|| 4), seen.since_ns(|| 77)), (99, 14, 0));
        seen.note(77, 100);
        assert_eq!((seen.since_ns(|| 3), seen.since_ns(|| 77), seen.since_ns(|| 78)), (100, 100, 100));
        seen.note(3, 200);
        assert_eq!((seen.since_ns(|| 3), seen.since_ns(|| 4)), (200, 100));
    }
}
