//! How far reads were behind, as a distribution.

use std::fmt;

/// The staleness of many reads, in nanoseconds. Most are zero, so the others alone are kept.
#[derive(Clone, Debug, Default)]
pub struct Staleness {
    /// Reads that saw the newest value.
    fresh: usize,
    /// The staleness of the others; sorted by [`quantile`](Self::quantile)'s callers only.
    behind: Vec<u64>,
}

impl Staleness {
    pub(super) fn add(&mut self, behind: u64) {
        match behind {
            0 => self.fresh += 1,
            _ => self.behind.push(behind),
        }
    }

    /// Takes in the reads of another.
    pub fn merge(&mut self, other: &Staleness) {
        self.fresh += other.fresh;
        self.behind.extend_from_slice(&other.behind);
    }

    /// The number of reads.
    pub fn reads(&self) -> usize {
        self.fresh + self.behind.len()
    }

    /// The number of reads that were behind at all.
    pub fn behind(&self) -> usize {
        self.behind.len()
    }

    /// The furthest that one was behind.
    pub fn max_ns(&self) -> u64 {
        self.behind.iter().copied().max().unwrap_or(0)
    }

    /// That many of a million reads were behind by this or less (the nearest rank).
    pub fn quantile_ns(&self, of_a_million: usize) -> u64 {
        let rank = (self.reads() * of_a_million).div_ceil(1_000_000).max(1);
        let Some(rank) = rank.checked_sub(self.fresh + 1) else { return 0 };
        let mut behind = self.behind.clone();
        match behind.len() {
            0 => 0,
            length => *behind.select_nth_unstable(rank.min(length - 1)).1,
        }
    }
}

impl fmt::Display for Staleness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |ns: u64| format!("{:.3}", ns as f64 / 1e6);
        write!(f, "{} reads, {} behind; ms:", self.reads(), self.behind())?;
        for (name, share) in [("p50", 500_000), ("p90", 900_000), ("p99", 990_000), ("p99.9", 999_000)] {
            write!(f, " {name} {}", millis(self.quantile_ns(share)))?;
        }
        write!(f, " max {}", millis(self.max_ns()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(reads: impl IntoIterator<Item = u64>) -> Staleness {
        let mut staleness = Staleness::default();
        reads.into_iter().for_each(|behind| staleness.add(behind));
        staleness
    }

    #[test]
    fn quantiles_are_those_of_all_reads_in_order() {
        let staleness = of((0..=100).rev());
        assert_eq!((staleness.reads(), staleness.behind(), staleness.max_ns()), (101, 100, 100));
        // The 51st of 0, 1, .. 100 is 50.
        assert_eq!(staleness.quantile_ns(500_000), 50);
        assert_eq!(staleness.quantile_ns(1_000_000), 100);
        assert_eq!(staleness.quantile_ns(1), 0);
    }

    #[test]
    fn reads_that_were_not_behind_count() {
        let staleness = of([0, 0, 0, 7]);
        assert_eq!(staleness.quantile_ns(750_000), 0);
        assert_eq!(staleness.quantile_ns(760_000), 7);
        assert_eq!(of([]).quantile_ns(500_000), 0);
        assert_eq!(of([0]).quantile_ns(999_000), 0);
    }

    #[test]
    fn two_of_them_make_one() {
        let mut staleness = of([0, 5]);
        staleness.merge(&of([0, 9]));
        assert_eq!(
            staleness.to_string(),
            "4 reads, 2 behind; ms: p50 0.000 p90 0.000 p99 0.000 p99.9 0.000 max 0.000"
        );
        assert_eq!((staleness.reads(), staleness.max_ns()), (4, 9));
    }
}
