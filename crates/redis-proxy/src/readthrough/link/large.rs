//! Questions whose reply was too large to be kept, so that they do not hold the link up again.
//!
//! What lies behind a large reply on the wire waits for all of it, and so does the proof of everything that is held: a
//! reply of 100 MB takes longer than MAX_STALENESS. A question that had one goes past the link for a while.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use sync::Mutex;
use sync::atomic::{AtomicBool, Ordering};

use crate::readthrough::Words;
use crate::store::Store;

/// Questions remembered; beyond, the one remembered for longest is forgotten.
const MOST: usize = 1_024;

/// The questions of one link that go past it.
pub(super) struct Large {
    hasher: RandomState,
    /// Whether any is known: mostly not, and then a miss takes no lock. Relaxed: who does not see it yet comes before it.
    is_any: AtomicBool,
    // A short lock, on the miss path only.
    known: Mutex<Known>,
}

/// Hashes of key and question. Two that share one share their way, which costs one of them its place in the cache for a while.
#[derive(Default)]
struct Known {
    /// Until when each is remembered.
    until_ns: HashMap<u64, u64>,
    /// They all, in the order in which they are forgotten.
    order: VecDeque<u64>,
}

impl Large {
    pub(super) fn new() -> Self {
        let (is_any, known) = (AtomicBool::new(false), Mutex::default());
        Large { hasher: RandomState::new(), is_any, known }
    }

    /// A question has had a large reply, which is remembered for `life_ns`.
    pub(super) fn note(&self, key: &[u8], words: Words<'_>, now_ns: u64, life_ns: u64) {
        let hash = self.hash(key, words);
        self.known.lock().add(hash, now_ns, now_ns.saturating_add(life_ns));
        self.is_any.store(true, Ordering::Relaxed);
    }

    /// Where a reply is too large to be kept, its question goes past the link for as long as one that is kept would live.
    pub(super) fn note_size(&self, store: &Store, key: &[u8], words: Words<'_>, bytes: usize, now_ns: u64) {
        let limits = store.entry_limits();
        if bytes > limits.max_value_bytes() {
            self.note(key, words, now_ns, limits.expiry_ns());
        }
    }

    /// Whether this question goes past the link.
    pub(super) fn has(&self, key: &[u8], words: Words<'_>, now_ns: u64) -> bool {
        if !self.is_any.load(Ordering::Relaxed) {
            return false;
        }
        let hash = self.hash(key, words);
        self.known.lock().until_ns.get(&hash).is_some_and(|until_ns| *until_ns > now_ns)
    }

    /// The protocol makes no reply large.
    fn hash(&self, key: &[u8], words: Words<'_>) -> u64 {
        self.hasher.hash_one((key, words.command()))
    }
}

impl Known {
    /// One that is known already, because it was asked twice before its first reply came, keeps its place.
    fn add(&mut self, hash: u64, now_ns: u64, until_ns: u64) {
        while let Some(oldest) = self.order.front() {
            let is_over = self.until_ns.get(oldest).is_none_or(|until_ns| *until_ns <= now_ns);
            if !is_over && (self.order.len() < MOST || self.until_ns.contains_key(&hash)) {
                break;
            }
            self.until_ns.remove(oldest);
            self.order.pop_front();
        }
        if let Entry::Vacant(place) = self.until_ns.entry(hash) {
            place.insert(until_ns);
            self.order.push_back(hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use resp::Protocol;

    use super::*;
    use crate::readthrough::Kind;

    #[test]
    fn a_large_reply_is_remembered_for_its_key_and_question_until_its_time_is_over() {
        let large = Large::new();
        assert!(!large.has(b"k", Words::VALUE, 0));
        large.note(b"k", Words::VALUE, 5, 100);
        assert!(large.has(b"k", Words::VALUE, 104) && !large.has(b"k", Words::VALUE, 105));
        let (mut lrange, mut lrange_in_3, mut llen) = Default::default();
        let lrange = Words::write(&mut lrange, Protocol::Resp2, Kind::Plain, &[b"LRANGE", b"l"]);
        let lrange_in_3 = Words::write(&mut lrange_in_3, Protocol::Resp3, Kind::Plain, &[b"LRANGE", b"l"]);
        let llen = Words::write(&mut llen, Protocol::Resp2, Kind::Plain, &[b"LLEN", b"l"]);
        large.note(b"l", lrange, 0, 100);
        assert!(large.has(b"l", lrange_in_3, 1), "whatever the protocol");
        assert!(!large.has(b"l", llen, 1) && !large.has(b"m", lrange, 1));
    }

    #[test]
    fn the_oldest_of_too_many_is_forgotten() {
        let large = Large::new();
        for number in 0..=MOST {
            large.note(&number.to_be_bytes(), Words::VALUE, 0, 100);
        }
        assert!(
            !large.has(&0_usize.to_be_bytes(), Words::VALUE, 1)
                && large.has(&1_usize.to_be_bytes(), Words::VALUE, 1)
        );
        let known = || large.known.lock().until_ns.len();
        large.note(&1_usize.to_be_bytes(), Words::VALUE, 1, 100);
        assert_eq!(known(), MOST, "one that is known makes no room");
        large.note(b"later", Words::VALUE, 100, 100);
        assert_eq!(known(), 1, "what is over makes room");
        large.note(b"later", Words::VALUE, 200, 100);
        assert!(large.has(b"later", Words::VALUE, 250), "it is known anew");
    }
}
