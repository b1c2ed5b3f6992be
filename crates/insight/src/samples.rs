//! What one thread samples.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use siphasher::sip::SipHasher13;

use crate::reason::Reason;
use crate::sampler::{Chance, Gaps, Sampler};
use crate::sketch::{KEY_BYTES, Marks, Sketch, SketchedKey, hash_of};
use crate::window::Window;
use crate::{INVALIDATIONS_ONE_IN, MISSES_ONE_IN, READS_ONE_IN};

/// The samples of one worker or link. Its thread alone adds to them; anybody may look.
#[derive(Debug)]
pub struct Samples {
    reads: Sampler,
    misses: Sampler,
    invalidations: Sampler,
    chances: Chances,
    window: Window,
    hasher: SipHasher13,
    /// Held by who looks while it copies 512 keys at most. Who samples never waits for it.
    sketches: Mutex<Sketches>,
}

/// How likely an event of each kind is sampled.
#[derive(Debug)]
struct Chances {
    read: Chance,
    miss: Chance,
    invalidation: Chance,
}

#[derive(Debug)]
pub(crate) struct Sketches {
    gaps: Gaps,
    /// Windows whose end has halved them, and when the next one ends.
    halved: u64,
    due_ns: u64,
    pub(crate) reads: Sketch<ReadMarks>,
    pub(crate) prefixes: Sketch<ReadMarks>,
    pub(crate) misses: Sketch<ReasonMarks>,
    pub(crate) invalidations: Sketch<NoMarks>,
}

/// Of sampled reads those that memory has answered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReadMarks(pub(crate) f32);

/// Sampled misses by their reasons.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReasonMarks([f32; Reason::ALL.len()]);

/// Nothing but the samples.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NoMarks;

impl Marks for ReadMarks {
    fn halve(&mut self) {
        self.0 /= 2.0;
    }

    fn add(&mut self, other: &Self) {
        self.0 += other.0;
    }
}

impl Marks for ReasonMarks {
    fn halve(&mut self) {
        self.0.iter_mut().for_each(|of_one| *of_one /= 2.0);
    }

    fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(of_one, more)| *of_one += more);
    }
}

impl Marks for NoMarks {
    fn halve(&mut self) {}

    fn add(&mut self, _other: &Self) {}
}

impl ReasonMarks {
    /// The one that most have.
    pub(crate) fn most(&self) -> Reason {
        let of = |reason: &&Reason| self.0[**reason as usize];
        let most = Reason::ALL.iter().max_by(|one, other| of(one).total_cmp(&of(other)));
        most.copied().unwrap_or(Reason::First)
    }
}

impl Samples {
    /// With a random `hasher` the samples are random, and those of each `number` others.
    pub(crate) fn new(window: Window, hasher: SipHasher13, number: usize) -> Samples {
        let mut gaps = Gaps::new(hash_of(&hasher, &number.to_le_bytes()));
        let chances = Chances {
            read: Chance::one_in(READS_ONE_IN),
            miss: Chance::one_in(MISSES_ONE_IN),
            invalidation: Chance::one_in(INVALIDATIONS_ONE_IN),
        };
        Samples {
            reads: Sampler::new(gaps.next(chances.read)),
            misses: Sampler::new(gaps.next(chances.miss)),
            invalidations: Sampler::new(gaps.next(chances.invalidation)),
            chances,
            window,
            hasher,
            sketches: Mutex::new(Sketches {
                gaps,
                halved: 0,
                due_ns: window.end_ns(0),
                reads: Sketch::default(),
                prefixes: Sketch::default(),
                misses: Sketch::default(),
                invalidations: Sketch::default(),
            }),
        }
    }

    /// Whether a read is sampled; if so, [`read`](Self::read) is to be called.
    #[inline(always)]
    pub fn chooses_read(&self) -> bool {
        self.reads.chooses()
    }

    /// Whether a read that memory did not answer is sampled once more, with its reason; if so, [`missed`](Self::missed) is to be
    /// called.
    #[inline]
    pub fn chooses_miss(&self) -> bool {
        self.misses.chooses()
    }

    /// Whether a key is sampled that has left because it was changed; if so, [`invalidated`](Self::invalidated) is to be called.
    #[inline]
    pub fn chooses_invalidation(&self) -> bool {
        self.invalidations.chooses()
    }

    /// A sampled read of a key in a partition, and whether memory has answered it.
    ///
    /// Cost: one lock without waiting, a hash of the key, a counter, of one in four both for its prefix as well; no allocation once the sketches are full.
    #[cold]
    pub fn read(&self, partition: u8, key: &[u8], is_hit: bool, now_ns: u64) {
        let Some(mut sketches) = self.try_now(now_ns) else { return self.reads.pass_over(0) };
        self.reads.pass_over(sketches.gaps.next(self.chances.read));
        let mark = |of_key: &mut ReadMarks| of_key.0 += f32::from(u8::from(is_hit));
        sketches.reads.note(&SketchedKey::new(&self.hasher, partition, key), mark);
        if sketches.gaps.quarter() {
            sketches.prefixes.note(&SketchedKey::new(&self.hasher, partition, prefix_of(key)), mark);
        }
    }

    /// A sampled read that memory did not answer.
    #[cold]
    pub fn missed(&self, partition: u8, key: &[u8], reason: Reason, now_ns: u64) {
        let Some(mut sketches) = self.try_now(now_ns) else { return self.misses.pass_over(0) };
        self.misses.pass_over(sketches.gaps.next(self.chances.miss));
        let mark = |reasons: &mut ReasonMarks| reasons.0[reason as usize] += 1.0;
        sketches.misses.note(&SketchedKey::new(&self.hasher, partition, key), mark);
    }

    /// A sampled key that has left, in whatever partitions it was, because it was changed.
    #[cold]
    pub fn invalidated(&self, key: &[u8], now_ns: u64) {
        let Some(mut sketches) = self.try_now(now_ns) else { return self.invalidations.pass_over(0) };
        self.invalidations.pass_over(sketches.gaps.next(self.chances.invalidation));
        sketches.invalidations.note(&SketchedKey::new(&self.hasher, 0, prefix_of(key)), |_| {});
    }

    /// The sketches as of now, unless somebody looks at them.
    fn try_now(&self, now_ns: u64) -> Option<MutexGuard<'_, Sketches>> {
        match self.sketches.try_lock() {
            Ok(sketches) => Some(self.halved(sketches, now_ns)),
            Err(TryLockError::Poisoned(sketches)) => Some(self.halved(sketches.into_inner(), now_ns)),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The sketches as of now.
    pub(crate) fn now(&self, now_ns: u64) -> MutexGuard<'_, Sketches> {
        let sketches = self.sketches.lock().unwrap_or_else(PoisonError::into_inner);
        self.halved(sketches, now_ns)
    }

    fn halved<'a>(&self, mut sketches: MutexGuard<'a, Sketches>, now_ns: u64) -> MutexGuard<'a, Sketches> {
        if now_ns >= sketches.due_ns {
            let times = self.window.ended(now_ns).saturating_sub(sketches.halved);
            sketches.halved += times;
            sketches.due_ns = self.window.end_ns(sketches.halved);
            sketches.reads.halve(times);
            sketches.prefixes.halve(times);
            sketches.misses.halve(times);
            sketches.invalidations.halve(times);
        }
        sketches
    }

    pub(crate) fn forget(&self, partition: u8) {
        let mut sketches = self.sketches.lock().unwrap_or_else(PoisonError::into_inner);
        sketches.reads.keep(|counter| counter.partition != partition);
        sketches.prefixes.keep(|counter| counter.partition != partition);
        sketches.misses.keep(|counter| counter.partition != partition);
    }

    pub(crate) fn bytes(&self) -> usize {
        let sketches = self.sketches.lock().unwrap_or_else(PoisonError::into_inner);
        size_of::<Samples>()
            + sketches.reads.bytes()
            + sketches.prefixes.bytes()
            + sketches.misses.bytes()
            + sketches.invalidations.bytes()
    }
}

/// A key up to its first colon, with that; nothing where it has none within what is kept of a key.
pub(crate) fn prefix_of(key: &[u8]) -> &[u8] {
    let end = key.iter().take(KEY_BYTES).position(|byte| *byte == b':');
    end.map_or(b"", |at| &key[..=at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_with_the_first_colon() {
        let long = [&[b'a'; KEY_BYTES][..], b":"].concat();
        for (key, prefix) in
            [(&b"user:1:x"[..], &b"user:"[..]), (b":", b":"), (b"none", b""), (b"", b""), (&long, b"")]
        {
            assert_eq!(prefix_of(key), prefix);
        }
    }

    #[test]
    fn who_samples_does_not_wait_for_who_looks_and_the_next_one_is_sampled_instead() {
        let samples = Samples::new(Window::from(0), SipHasher13::new_with_keys(1, 2), 0);
        let looking = samples.now(0);
        samples.read(0, b"k", true, 0);
        samples.missed(0, b"k", Reason::First, 0);
        drop(looking);
        assert!(samples.chooses_read() && samples.chooses_miss());
        samples.read(0, b"k", true, 0);
        assert_eq!(samples.now(0).reads.counters().len(), 1);
    }
}
