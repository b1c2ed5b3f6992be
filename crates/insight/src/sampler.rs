//! Which events are sampled: each with the same chance, whatever came before.

use std::sync::atomic::{AtomicI32, Ordering};

/// Chooses events of one thread. Where more threads than one ask, some are chosen too early or too late, and nothing else.
#[derive(Debug)]
pub(crate) struct Sampler {
    /// Events that are passed over before the next one is chosen.
    left: AtomicI32,
}

impl Sampler {
    /// The first event is chosen after `gap` others.
    pub(crate) fn new(gap: u32) -> Sampler {
        let sampler = Sampler { left: AtomicI32::new(0) };
        sampler.pass_over(gap);
        sampler
    }

    /// Whether this event is chosen; if so, [`pass_over`](Self::pass_over) is to be called.
    ///
    /// Cost: a load, a decrement, a store, a branch.
    #[inline(always)]
    pub(crate) fn chooses(&self) -> bool {
        // Relaxed: of one thread, and nothing goes by it.
        let left = self.left.load(Ordering::Relaxed).wrapping_sub(1);
        self.left.store(left, Ordering::Relaxed);
        left < 0
    }

    /// Chooses none of the next `gap` events.
    pub(crate) fn pass_over(&self, gap: u32) {
        self.left.store(i32::try_from(gap).unwrap_or(i32::MAX), Ordering::Relaxed);
    }
}

/// The chance of an event to be chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chance {
    /// One by the logarithm of the chance that it is not.
    scale: f64,
}

impl Chance {
    /// One in so many, two at least.
    pub(crate) fn one_in(events: u32) -> Chance {
        Chance { scale: (-1.0 / f64::from(events.max(2))).ln_1p().recip() }
    }
}

/// Random gaps between events of which each is chosen by itself with one chance in so many.
#[derive(Debug)]
pub(crate) struct Gaps {
    state: u64,
}

impl Gaps {
    /// From any seed.
    pub(crate) fn new(seed: u64) -> Gaps {
        Gaps { state: seed | 1 }
    }

    /// How many events come before the next that is chosen, where each is with that chance: a geometric variate.
    pub(crate) fn next(&mut self, chance: Chance) -> u32 {
        let gap = self.uniform().ln() * chance.scale;
        // Beyond what a u32 holds it saturates.
        #[expect(clippy::cast_possible_truncation, reason = "the whole part is wanted")]
        let gap = gap as u32;
        gap
    }

    /// Whether an event is chosen, with one chance in four.
    #[inline]
    pub(crate) fn quarter(&mut self) -> bool {
        self.random() >> 62 == 0
    }

    /// Above 0 and at most 1.
    fn uniform(&mut self) -> f64 {
        ((self.random() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// xorshift64* (Vigna 2016).
    fn random(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_chosen_with_the_same_chance_whatever_came_before() {
        let mut gaps = Gaps::new(7);
        let chance = Chance::one_in(64);
        let sampler = Sampler::new(gaps.next(chance));
        let (mut chosen, mut after_one, mut by_phase) = (0u32, 0u32, [0u32; 64]);
        let mut was_chosen = false;
        for event in 0..6_400_000 {
            let is_chosen = sampler.chooses();
            if is_chosen {
                sampler.pass_over(gaps.next(chance));
                chosen += 1;
                by_phase[event % 64] += 1;
                after_one += u32::from(was_chosen);
            }
            was_chosen = is_chosen;
        }
        // 100,000 are expected, give or take 314; right after one another 1,562, give or take 39.
        assert!(chosen.abs_diff(100_000) < 1_500, "{chosen}");
        assert!(after_one.abs_diff(1_562) < 200, "{after_one}");
        assert!(by_phase.iter().all(|chosen| chosen.abs_diff(1_562) < 220), "{by_phase:?}");
    }

    #[test]
    fn a_quarter_is_one_in_four() {
        let mut gaps = Gaps::new(0);
        let chosen = (0..100_000).filter(|_| gaps.quarter()).count();
        assert!(chosen.abs_diff(25_000) < 700, "{chosen}");
    }
}
