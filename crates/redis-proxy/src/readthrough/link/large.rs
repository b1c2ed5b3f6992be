//! Questions whose reply was too large to be kept, so that they do not hold the link up again.
//!
//! What lies behind a large reply on the wire waits for all of it, and so does the proof of everything that is held: a
//! reply of 100 MB takes longer than MAX_STALENESS. A question that had one goes past the link for a while.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use sync::Mutex;

/// Questions remembered; beyond, the one remembered for longest is forgotten.
const MOST: usize = 1_024;

/// The questions of one link that go past it.
pub(super) struct Large {
    /// A reply above this many bytes is large.
    bytes: usize,
    /// How long one is remembered.
    life_ns: u64,
    hasher: RandomState,
    // A short lock, on the miss path only.
    known: Mutex<VecDeque<Known>>,
}

struct Known {
    /// Of key and question. Two that share it share their way, which costs one of them its place in the cache for a while.
    hash: u64,
    until_ns: u64,
}

impl Large {
    /// What is above `bytes` is remembered for `life_ns`.
    pub(super) fn new(bytes: usize, life_ns: u64) -> Self {
        Large { bytes, life_ns, hasher: RandomState::new(), known: Mutex::default() }
    }

    /// A question had a reply of so many bytes, or one that was above every limit.
    pub(super) fn note(&self, key: &[u8], words: &[u8], bytes: Option<usize>, now_ns: u64) {
        if bytes.is_some_and(|bytes| bytes <= self.bytes) {
            return;
        }
        let hash = self.hash(key, words);
        let mut known = self.known.lock();
        known.retain(|known| known.until_ns > now_ns && known.hash != hash);
        if known.len() == MOST {
            known.pop_front();
        }
        known.push_back(Known { hash, until_ns: now_ns.saturating_add(self.life_ns) });
    }

    /// Whether this question goes past the link.
    pub(super) fn has(&self, key: &[u8], words: &[u8], now_ns: u64) -> bool {
        let known = self.known.lock();
        if known.is_empty() {
            return false;
        }
        let hash = self.hash(key, words);
        known.iter().any(|known| known.hash == hash && known.until_ns > now_ns)
    }

    /// The protocol, which stands first in the words, makes no reply large.
    fn hash(&self, key: &[u8], words: &[u8]) -> u64 {
        self.hasher.hash_one((key, words.get(1..).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_reply_is_remembered_for_its_key_and_question_until_its_time_is_over() {
        let large = Large::new(10, 100);
        large.note(b"k", b"", Some(10), 0);
        assert!(!large.has(b"k", b"", 0));
        large.note(b"k", b"", Some(11), 5);
        assert!(large.has(b"k", b"", 104) && !large.has(b"k", b"", 105));
        large.note(b"l", b"2-LRANGE", None, 0);
        assert!(large.has(b"l", b"3-LRANGE", 1), "whatever the protocol");
        assert!(!large.has(b"l", b"2-LLEN", 1) && !large.has(b"m", b"2-LRANGE", 1));
    }

    #[test]
    fn the_oldest_of_too_many_is_forgotten() {
        let large = Large::new(0, 100);
        for number in 0..=MOST {
            large.note(&number.to_be_bytes(), b"", None, 0);
        }
        assert!(!large.has(&0_usize.to_be_bytes(), b"", 1) && large.has(&1_usize.to_be_bytes(), b"", 1));
        assert_eq!(large.known.lock().len(), MOST);
        large.note(b"later", b"", None, 100);
        assert_eq!(large.known.lock().len(), 1, "what is over makes room");
    }
}
