//! What is known of a key beside its first answer: answers of other views. Few keys have any, so they stand apart, and a
//! key that has none pays nothing.
//!
//! They live and leave with the first: one place in order of use, one death of age. An answer that is held for its age
//! alone never stands behind one that is held under a lease: it is to outlive what becomes of that.

use hashbrown::HashTable;

use crate::entry::Entry;

/// Answers beside the first that a key may have; the one fetched longest ago makes room.
pub(crate) const OTHERS_MAX: usize = 15;

/// The other answers of a shard's keys.
#[derive(Default)]
pub(crate) struct Others {
    keys: HashTable<Key>,
    len: usize,
}

struct Key {
    hash: u32,
    /// At least one, all of one key and each of another view.
    answers: Vec<Entry>,
}

impl Key {
    fn is_of(&self, key: &[u8], hash: u32) -> bool {
        self.hash == hash && self.answers.first().is_some_and(|answer| answer.key() == key)
    }
}

impl Others {
    /// How many answers there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn of(&self, key: &[u8], hash: u32) -> impl Iterator<Item = &Entry> {
        let found = match self.keys.is_empty() {
            true => None,
            false => self.keys.find(spread(hash), |held| held.is_of(key, hash)),
        };
        found.into_iter().flat_map(|held| &held.answers)
    }

    /// Keeps an answer, and returns the one that leaves for it: of its view, or for room.
    pub(crate) fn insert(&mut self, entry: Entry, hash: u32) -> Option<Entry> {
        let found = self.keys.find_mut(spread(hash), |held| held.is_of(entry.key(), hash));
        let Some(held) = found else {
            self.len += 1;
            let answers = vec![entry];
            self.keys.insert_unique(spread(hash), Key { hash, answers }, |held| spread(held.hash));
            return None;
        };
        let oldest = || (0..held.answers.len()).min_by_key(|at| held.answers[*at].sent_ns());
        let full = held.answers.len() >= OTHERS_MAX;
        let alike = held.answers.iter().position(|held| held.view() == entry.view());
        match alike.or_else(|| oldest().filter(|_| full)) {
            Some(at) => Some(std::mem::replace(&mut held.answers[at], entry)),
            None => {
                self.len += 1;
                held.answers.push(entry);
                None
            }
        }
    }

    /// Removes the answer of the view of `entry`.
    pub(crate) fn remove(&mut self, entry: &Entry, hash: u32) -> Option<Entry> {
        let mut found = self.keys.find_entry(spread(hash), |held| held.is_of(entry.key(), hash)).ok()?;
        let answers = &mut found.get_mut().answers;
        let at = answers.iter().position(|held| held.view() == entry.view())?;
        self.len -= 1;
        let gone = answers.swap_remove(at);
        if answers.is_empty() {
            found.remove();
        }
        Some(gone)
    }

    /// Removes those answers about a key that leave.
    pub(crate) fn take_some(&mut self, key: &[u8], hash: u32, leaves: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        if self.keys.is_empty() {
            return Vec::new();
        }
        let is_of = |held: &Key| held.is_of(key, hash);
        let Ok(mut found) = self.keys.find_entry(spread(hash), is_of) else { return Vec::new() };
        let answers = &mut found.get_mut().answers;
        let gone: Vec<Entry> = answers.extract_if(.., |held| leaves(held)).collect();
        self.len -= gone.len();
        if answers.is_empty() {
            found.remove();
        }
        gone
    }

    /// Removes all answers about a key.
    pub(crate) fn take(&mut self, key: &[u8], hash: u32) -> Option<Vec<Entry>> {
        if self.keys.is_empty() {
            return None;
        }
        let found = self.keys.find_entry(spread(hash), |held| held.is_of(key, hash)).ok()?;
        let answers = found.remove().0.answers;
        self.len -= answers.len();
        Some(answers)
    }
}

/// As in the index: the highest bits of `hash` may be alike in all of a shard.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
