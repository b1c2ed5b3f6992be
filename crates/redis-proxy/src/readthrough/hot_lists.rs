//! The lists of what is hot, with what is held of it at this moment, of all partitions or of one.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use cache::{Cursor, Footprint};
use insight::{AllSamples, HotKey, HotMiss, HotPrefix, KEY_BYTES};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, yield_now};

use super::ReadThrough;
use crate::clock::now_ns;
use crate::store::Store;

/// Slots of the cache that the bytes of a prefix are told from; with more than these they are an estimate.
const SAMPLED_SLOTS: usize = 4_096;
/// Slots that a search for large keys looks at, and how many between two turns of others: about 13 us of their thread.
const MOST_SCANNED: usize = 4_000_000;
const SLOTS_A_STEP: usize = 64;

/// Of this process one search for large keys goes on at a time: each looks at all that is held.
static SEARCHES: Semaphore = Semaphore::const_new(1);

/// Tells what is hot.
#[derive(Clone)]
pub(crate) struct HotLists {
    store: Store,
    samples: Arc<AllSamples>,
    /// Of which partition; none: of all.
    partition: Option<u8>,
}

/// A key that is read often, and what is held of it.
pub(crate) struct HeldKey {
    pub(crate) hot: HotKey,
    /// What it takes of the cache, and how long it has left; none if it is not held, or its whole name is not known.
    pub(crate) bytes: Option<u64>,
    pub(crate) left_ms: Option<u64>,
}

/// A prefix that is read often, and about how much is held of it.
pub(crate) struct HeldPrefix {
    pub(crate) hot: HotPrefix,
    pub(crate) bytes: u64,
}

/// Another search for large keys is under way.
#[derive(Debug)]
pub(crate) struct IsBusy;

impl IsBusy {
    /// What whoever asks is told.
    pub(crate) const TEXT: &str = "busy: another search for big keys is under way, try again";
}

/// What takes most.
pub(crate) struct BigKeys {
    /// Keys that were looked at, each once a partition.
    pub(crate) scanned: usize,
    /// Whether all were.
    pub(crate) is_complete: bool,
    /// The largest first.
    pub(crate) found: Vec<BigKey>,
}

/// A key by what it takes of the cache.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BigKey {
    pub(crate) bytes: u64,
    pub(crate) partition: u8,
    /// The key, or the first [`KEY_BYTES`] of it: so what is told of the largest keys is bounded.
    pub(crate) key: Box<[u8]>,
    /// Whether it is longer than that.
    pub(crate) is_cut: bool,
}

impl BigKey {
    fn of(Footprint { key, partition, bytes, .. }: Footprint) -> BigKey {
        let is_cut = key.len() > KEY_BYTES;
        let key = if is_cut { key[..KEY_BYTES].into() } else { key };
        BigKey { bytes, partition, key, is_cut }
    }
}

impl HotLists {
    /// Of all partitions.
    pub(crate) fn new(store: &Store, samples: &Arc<AllSamples>) -> HotLists {
        HotLists { store: store.clone(), samples: samples.clone(), partition: None }
    }

    /// Of what a reader may see.
    pub(super) fn of(reader: &ReadThrough, samples: &Arc<AllSamples>) -> HotLists {
        HotLists { partition: Some(reader.partition.number()), ..HotLists::new(&reader.store, samples) }
    }

    /// The `most` keys that are read most, the most read first.
    pub(crate) fn keys(&self, most: usize) -> Vec<HeldKey> {
        let now_ns = now_ns();
        let hot = self.samples.hot_keys(self.partition, most, now_ns).into_iter().map(|hot| {
            let whole = (!hot.is_cut).then_some(&hot.key);
            let held = whole.and_then(|key| self.store.footprint(key, hot.partition, now_ns));
            let end_ns = held.as_ref().and_then(|held| held.end_ns);
            HeldKey {
                bytes: held.map(|held| held.bytes),
                left_ms: end_ns.map(|end_ns| end_ns.saturating_sub(now_ns) / 1_000_000),
                hot,
            }
        });
        hot.collect()
    }

    /// The `most` keys that are missed most, the most missed first.
    pub(crate) fn misses(&self, most: usize) -> Vec<HotMiss> {
        self.samples.hot_misses(self.partition, most, now_ns())
    }

    /// The `most` prefixes that are read most, the most read first.
    pub(crate) fn prefixes(&self, most: usize) -> Vec<HeldPrefix> {
        let now_ns = now_ns();
        let sample = self.store.sample_footprints(SAMPLED_SLOTS, now_ns, now_ns);
        let mut held: HashMap<&[u8], u64> = HashMap::new();
        for found in &sample.found {
            if self.shows(found.partition) {
                *held.entry(insight::prefix(&found.key)).or_default() += found.bytes;
            }
        }
        let hot = self.samples.hot_prefixes(self.partition, most, now_ns).into_iter().map(|hot| {
            let bytes = held.get(&hot.prefix[..]).copied().unwrap_or(0) as f64 * sample.of;
            #[expect(
                clippy::cast_possible_truncation,
                reason = "an estimate, and below what the cache holds"
            )]
            HeldPrefix { hot, bytes: bytes as u64 }
        });
        hot.collect()
    }

    /// The `most` keys that take most. Looks at all that is held, up to 4,000,000 slots, and lets others have their turns. It ends with
    /// whoever waits for it, and goes on although he does not look after it.
    ///
    /// # Errors
    ///
    /// Another one goes on in this process.
    pub(crate) async fn big_keys(self, most: usize) -> Result<BigKeys, IsBusy> {
        let its_turn = SEARCHES.try_acquire().map_err(|_| IsBusy)?;
        let mut search = JoinSet::new();
        search.spawn(async move {
            let _its_turn = its_turn;
            self.search_big_keys(most).await
        });
        // It can only have panicked.
        search.join_next().await.and_then(Result::ok).ok_or(IsBusy)
    }

    async fn search_big_keys(self, most: usize) -> BigKeys {
        let (mut largest, mut scanned) = (BinaryHeap::new(), 0);
        let mut cursor = Some(Cursor::default());
        let mut left = MOST_SCANNED;
        while let Some(at) = cursor.filter(|_| left > 0) {
            let step = self.store.footprints(at, SLOTS_A_STEP, now_ns());
            for found in step.found.into_iter().filter(|found| self.shows(found.partition)) {
                scanned += 1;
                largest.push(Reverse(BigKey::of(found)));
                if largest.len() > most {
                    largest.pop();
                }
            }
            (cursor, left) = (step.next, left.saturating_sub(SLOTS_A_STEP));
            yield_now().await;
        }
        let found = largest.into_sorted_vec().into_iter().map(|Reverse(key)| key).collect();
        BigKeys { scanned, is_complete: cursor.is_none(), found }
    }

    fn shows(&self, partition: u8) -> bool {
        self.partition.is_none_or(|shown| shown == partition)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;
    use std::time::Duration;

    use cache::Limits;

    use super::*;

    #[test]
    fn one_search_for_large_keys_goes_on_and_ends_with_whoever_waits_for_it() {
        let limits = Limits {
            capacity: 100,
            capacity_bytes: None,
            expiry: Duration::from_secs(60),
            max_value_bytes: 100,
            shards: None,
        };
        let lists = HotLists::new(&Store::new(limits), &AllSamples::new(now_ns()));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            {
                let mut first = pin!(lists.clone().big_keys(1));
                assert!(poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx).is_pending())).await);
                assert!(lists.clone().big_keys(1).await.is_err(), "it would be the second one");
            }
            // What was left alone ends with the next turn of its task.
            yield_now().await;
            yield_now().await;
            assert!(lists.clone().big_keys(1).await.is_ok_and(|found| found.is_complete));
            assert!(lists.big_keys(1).await.is_ok());
        });
    }
}
