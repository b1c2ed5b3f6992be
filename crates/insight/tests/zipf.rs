//! What the lists say of a load whose truth is known: Zipf 0.99, on two workers, over several windows.

use std::collections::HashSet;
use std::sync::Arc;

use insight::{AllSamples, Reason, Samples};

const SECOND_NS: u64 = 1_000_000_000;
/// What is drawn from: a key has as many of these as Zipf 0.99 over as many keys gives it.
const DRAWN_FROM: usize = 1 << 16;

/// Keys by their ranks, the most frequent first.
struct Zipf {
    ranks: Vec<usize>,
    state: u64,
}

impl Zipf {
    fn new(seed: u64) -> Zipf {
        let weight = |rank: usize| (rank as f64).powf(-0.99);
        let all: f64 = (1..=DRAWN_FROM).map(weight).sum();
        let mut sum = 0.0;
        let mut ranks = Vec::new();
        for rank in 1.. {
            sum += weight(rank) / all * DRAWN_FROM as f64;
            while (ranks.len() as f64) < sum.min(DRAWN_FROM as f64) {
                ranks.push(rank);
            }
            if ranks.len() >= DRAWN_FROM {
                break;
            }
        }
        Zipf { ranks, state: seed }
    }

    fn next(&mut self) -> usize {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.ranks[(self.state >> 48) as usize]
    }
}

/// How often each key was asked for, halved with the sketches.
struct Truth {
    counts: Vec<f64>,
}

impl Truth {
    fn new() -> Truth {
        Truth { counts: vec![0.0; DRAWN_FROM + 1] }
    }

    fn halve(&mut self) {
        self.counts.iter_mut().for_each(|count| *count /= 2.0);
    }

    fn top(&self, most: usize) -> HashSet<usize> {
        let mut keys: Vec<usize> = (0..self.counts.len()).collect();
        keys.sort_by(|one, other| self.counts[*other].total_cmp(&self.counts[*one]));
        keys.into_iter().take(most).collect()
    }
}

fn name(rank: usize) -> String {
    format!("user:{rank}")
}

fn rank(name: &[u8]) -> usize {
    std::str::from_utf8(&name["user:".len()..]).expect("text").parse().expect("a rank")
}

/// Asks `a_second` times a second, every fourth time in vain, for so many seconds.
fn load(seconds: u64, a_second: u64) -> (Arc<AllSamples>, Truth, Truth) {
    let insight = AllSamples::with_seed(0, [7; 16]);
    let workers: [Arc<Samples>; 2] = [insight.samples(), insight.samples()];
    let (mut reads, mut misses, mut zipf) = (Truth::new(), Truth::new(), Zipf::new(42));
    for second in 0..seconds {
        if second > 0 && second % 10 == 0 {
            reads.halve();
            misses.halve();
        }
        for ask in 0..a_second {
            let now_ns = second * SECOND_NS + ask * SECOND_NS / a_second;
            let (key, worker) = (zipf.next(), &workers[usize::from(ask % 3 == 0)]);
            let is_hit = ask % 4 != 0;
            reads.counts[key] += 1.0;
            if worker.chooses_read() {
                worker.read(7, name(key).as_bytes(), is_hit, now_ns);
            }
            if !is_hit {
                misses.counts[key] += 1.0;
                if worker.chooses_miss() {
                    worker.missed(7, name(key).as_bytes(), Reason::Expired, now_ns);
                }
            }
        }
    }
    // They are seen as long as somebody has them.
    workers.into_iter().for_each(std::mem::forget);
    (insight, reads, misses)
}

/// How many rates are off by more than three and by more than five standard errors, and the largest relative error of those
/// that `samples` at least stand behind.
fn judged(rates: &[(usize, f64, f64)], truth: &Truth, weighed_s: f64, one_in: f64) -> (usize, usize, f64) {
    let (mut beyond_3, mut beyond_5, mut worst) = (0, 0, 0.0f64);
    for (key, rate, error) in rates {
        let is = truth.counts[*key] / weighed_s;
        let off = (rate - is).abs();
        beyond_3 += usize::from(off > 3.0 * error);
        beyond_5 += usize::from(off > 5.0 * error);
        if truth.counts[*key] / one_in >= 1_000.0 {
            worst = worst.max(off / is);
        }
    }
    (beyond_3, beyond_5, worst)
}

#[test]
fn the_lists_tell_the_true_top_and_rates_within_their_errors() {
    let seconds = 29;
    let (insight, reads, misses) = load(seconds, 600_000);
    let now_ns = seconds * SECOND_NS - 1;
    let weighed_s = insight.weighed_s(now_ns);
    assert!((16.4..16.6).contains(&weighed_s), "{weighed_s}");

    let hot = insight.hot_keys(Some(7), 100, now_ns);
    let right = hot[..20].iter().filter(|hot| reads.top(20).contains(&rank(&hot.key))).count();
    let rates: Vec<_> = hot.iter().map(|hot| (rank(&hot.key), hot.reads_per_s, hot.error_per_s)).collect();
    let (beyond_3, beyond_5, worst) = judged(&rates, &reads, weighed_s, 64.0);
    println!("hot keys: {right} of 20; of 100 {beyond_3} beyond 3 errors; worst of 1,000 samples {worst:.3}");
    assert!(right >= 19 && beyond_3 <= 3 && beyond_5 == 0 && worst < 0.10);
    let all: f64 = reads.counts.iter().sum();
    for hot in &hot[..3] {
        let share = reads.counts[rank(&hot.key)] / all;
        assert!((hot.share / share - 1.0).abs() < 0.1, "{hot:?}: {share}");
        assert!((hot.hit_ratio - 0.75).abs() < 0.05, "{hot:?}");
    }

    let missed = insight.hot_misses(Some(7), 100, now_ns);
    let right = missed[..20].iter().filter(|missed| misses.top(20).contains(&rank(&missed.key))).count();
    let rates: Vec<_> =
        missed.iter().map(|hot| (rank(&hot.key), hot.misses_per_s, hot.error_per_s)).collect();
    let (beyond_3, beyond_5, worst) = judged(&rates, &misses, weighed_s, 8.0);
    println!("misses: {right} of 20; of 100 {beyond_3} beyond 3 errors; worst of 1,000 samples {worst:.3}");
    assert!(right >= 19 && beyond_3 <= 3 && beyond_5 == 0 && worst < 0.10);
    assert!(missed.iter().all(|missed| missed.reason == Reason::Expired));

    let prefixes = insight.hot_prefixes(None, 10, now_ns);
    assert_eq!(prefixes.len(), 1);
    assert_eq!(prefixes[0].prefix, b"user:");
    assert!((prefixes[0].reads_per_s / 600_000.0 - 1.0).abs() < 0.03, "{prefixes:?}");
    println!("bytes: {}", insight.bytes());
    assert!(insight.bytes() < 1 << 20);
}

#[test]
fn a_partition_is_told_of_by_itself_and_forgotten_with_its_number() {
    let insight = AllSamples::new(0);
    let samples = insight.samples();
    for (partition, key) in [(0, &b"a:1"[..]), (1, b"a:1"), (1, b"b"), (insight::BEYOND_PARTITIONS, b"c")] {
        samples.read(partition, key, false, 1);
        samples.missed(partition, key, Reason::First, 1);
    }
    // Of its prefix one in four is counted.
    (0..100).for_each(|_| samples.read(0, b"a:1", false, 1));
    samples.invalidated(b"a:2", 1);
    let keys = |partition| insight.hot_keys(partition, 10, 1).len();
    assert_eq!([keys(None), keys(Some(0)), keys(Some(1)), keys(Some(2))], [4, 1, 2, 0]);
    let misses = |partition| insight.hot_misses(partition, 10, 1);
    assert_eq!((misses(None).len(), misses(Some(1)).len()), (4, 2));
    assert!(misses(None).iter().any(|missed| missed.key == b"c" && missed.partition.is_none()));
    let prefixes = insight.hot_prefixes(None, 10, 1);
    let of_a = prefixes.iter().find(|prefix| prefix.prefix == b"a:").expect("it was read");
    assert!(of_a.reads_per_s > 0.0 && of_a.invalidations_per_s > 0.0 && of_a.hit_ratio == 0.0);
    insight.forget(1);
    assert_eq!([keys(None), keys(Some(0)), keys(Some(1))], [2, 1, 0]);
    assert!(misses(Some(1)).is_empty());
    drop(samples);
    assert!(insight.hot_keys(None, 10, 1).is_empty());
}
