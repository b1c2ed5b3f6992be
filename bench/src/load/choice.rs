//! Which key is asked for next.

use fastrand::Rng;
use loadgen::Zipf;

/// Draws by Zipf's law that are made before the load begins and then used in turn: a logarithm a request is not free.
const DRAWS: usize = 1 << 20;
const ZIPF_EXPONENT: f64 = 0.99;

/// The order in which the numbers below a bound are chosen.
#[derive(Clone, Debug)]
pub(crate) enum KeyChoice {
    /// There is one key, and its name has no number.
    One,
    /// Each as likely as the other. The numbers differ from load to load.
    Uniform { keys: u64, random: Rng },
    /// From the first to the last, and again.
    Walk { keys: u64, next: u64 },
    /// 0 the most frequent.
    Zipf { draws: Vec<u64>, at: usize },
    /// From the first to the last, and then no more.
    Once { keys: u64, next: u64 },
}

impl KeyChoice {
    /// Of `keys` keys.
    pub(crate) fn named(name: &str, keys: u64) -> Self {
        match name {
            "uniform" => KeyChoice::Uniform { keys, random: Rng::new() },
            "walk" => KeyChoice::Walk { keys, next: 0 },
            "zipf" => {
                let (zipf, mut random) = (Zipf::new(keys, ZIPF_EXPONENT), Rng::new());
                KeyChoice::Zipf { draws: (0..DRAWS).map(|_| zipf.sample(&mut random)).collect(), at: 0 }
            }
            "once" => KeyChoice::Once { keys, next: 0 },
            _ => KeyChoice::One,
        }
    }

    /// The next number; none where all have been chosen.
    pub(crate) fn draw(&mut self) -> Option<u64> {
        match self {
            KeyChoice::One => Some(0),
            KeyChoice::Uniform { keys, random } => Some(random.u64(..*keys)),
            KeyChoice::Walk { keys, next } => {
                let drawn = *next;
                *next = if drawn + 1 == *keys { 0 } else { drawn + 1 };
                Some(drawn)
            }
            KeyChoice::Zipf { draws, at } => {
                *at = (*at + 1) % DRAWS;
                Some(draws[*at])
            }
            KeyChoice::Once { keys, next } => {
                let drawn = *next;
                *next += u64::from(drawn < *keys);
                (drawn < *keys).then_some(drawn)
            }
        }
    }

    /// Whether keys have numbers.
    pub(crate) fn is_numbered(&self) -> bool {
        !matches!(self, KeyChoice::One)
    }

    /// Whether it comes to an end by itself.
    pub(crate) fn is_finite(&self) -> bool {
        matches!(self, KeyChoice::Once { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(name: &str, keys: u64, count: usize) -> Vec<u64> {
        let mut choice = KeyChoice::named(name, keys);
        (0..count).filter_map(|_| choice.draw()).collect()
    }

    #[test]
    fn a_walk_begins_again_and_once_does_not() {
        assert_eq!(drawn("walk", 3, 7), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(drawn("once", 3, 7), [0, 1, 2]);
    }

    #[test]
    fn uniform_draws_reach_every_key_alike_and_zipf_prefers_the_first() {
        let count = |name| {
            let mut counts = [0_u32; 10];
            for number in drawn(name, 10, 100_000) {
                counts[usize::try_from(number).unwrap()] += 1;
            }
            counts
        };
        // Five standard deviations.
        assert!(count("uniform").iter().all(|count| count.abs_diff(10_000) < 475), "{:?}", count("uniform"));
        let zipf = count("zipf");
        assert!(zipf[0] > 3 * zipf[3] && zipf[9] > 0, "{zipf:?}");
    }
}
