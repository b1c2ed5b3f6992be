//! Which key a request asks for: ranks by Zipf's law, `P(k) ~ 1 / k^s`, drawn exactly.
//!
//! Rejection-inversion (W. Hörmann, G. Derflinger: Rejection-inversion to generate variates from monotone discrete
//! distributions, ACM TOMACS 6, 1996): no table, so 10^9 keys cost what ten do, and no approximation, unlike the usual
//! generator of YCSB (Gray et al.). It draws from the integral of `1 / x^s` and rejects the little that lies above the steps.

use fastrand::Rng;

/// Ranks from 0 to `keys - 1`, the smallest the likeliest; all alike where the exponent is 0.
#[derive(Clone, Debug)]
pub struct Zipf {
    keys: u64,
    exponent: f64,
    /// The integral at the left end of the first step, and at the right end of the last.
    first: f64,
    last: f64,
    /// A rank this near above its draw is accepted without a further look.
    near: f64,
}

impl Zipf {
    /// `keys` from 1 to 2^53; `exponent` is 0 or more.
    pub fn new(keys: u64, exponent: f64) -> Self {
        let mut zipf = Zipf { keys, exponent, first: 0.0, last: 0.0, near: 0.0 };
        zipf.first = zipf.integral(1.5) - 1.0;
        zipf.last = zipf.integral(keys as f64 + 0.5);
        zipf.near = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.density(2.0));
        zipf
    }

    /// The next rank.
    pub fn sample(&self, random: &mut Rng) -> u64 {
        if self.exponent == 0.0 {
            return random.u64(..self.keys);
        }
        loop {
            let drawn = self.last + random.f64() * (self.first - self.last);
            let at = self.inverse(drawn);
            let rank = at.round().clamp(1.0, self.keys as f64);
            if rank - at <= self.near || drawn >= self.integral(rank + 0.5) - self.density(rank) {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "1 to keys, whole"
                )]
                return rank as u64 - 1;
            }
        }
    }

    fn density(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }

    /// From 1 to `x`; `(x^(1-s) - 1) / (1-s)`, which is `ln x` at `s = 1` and keeps its digits near it.
    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        let power = (1.0 - self.exponent) * log;
        if power == 0.0 { log } else { power.exp_m1() / power * log }
    }

    fn inverse(&self, y: f64) -> f64 {
        // Rounding may lead below the left end of what can be inverted.
        let power = (y * (1.0 - self.exponent)).max(-1.0);
        let log = if power == 0.0 { y } else { power.ln_1p() / power * y };
        log.exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u32 = 1_000_000;

    #[test]
    fn ranks_come_as_often_as_the_law_says() {
        for (keys, exponent) in
            [(10, 0.0), (10, 0.5), (10, 0.99), (10, 1.0), (10, 2.0), (1000, 1.1), (1, 1.0)]
        {
            let zipf = Zipf::new(keys, exponent);
            let mut random = Rng::with_seed(7);
            let mut drawn = vec![0_u32; usize::try_from(keys).unwrap()];
            for _ in 0..DRAWS {
                drawn[usize::try_from(zipf.sample(&mut random)).unwrap()] += 1;
            }
            let weights: Vec<f64> = (1..=keys).map(|rank| (rank as f64).powf(-exponent)).collect();
            let sum: f64 = weights.iter().sum();
            for (rank, (drawn, weight)) in drawn.iter().zip(&weights).enumerate() {
                let expected = f64::from(DRAWS) * weight / sum;
                // Five standard deviations of a count.
                let slack = 5.0 * expected.sqrt().max(1.0);
                assert!(
                    (f64::from(*drawn) - expected).abs() <= slack,
                    "{keys} keys, exponent {exponent}, rank {rank}: {drawn} times, expected {expected:.0}"
                );
            }
        }
    }

    #[test]
    fn ranks_stay_within_the_keys_however_many_there_are() {
        let mut random = Rng::with_seed(7);
        for keys in [1, 2, 1 << 53] {
            for exponent in [0.0, 0.01, 1.0, 5.0] {
                let zipf = Zipf::new(keys, exponent);
                assert!((0..10_000).all(|_| zipf.sample(&mut random) < keys), "{keys} keys, {exponent}");
            }
        }
    }
}
