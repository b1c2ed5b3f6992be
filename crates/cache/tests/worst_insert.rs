//! No single insert stalls the requests behind it: the longest while a million entries come, and then push others out.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use cache::{Cache, Facts, Keep, Limits, Lookup, Need};

const MILLION: usize = 1_000_000;
const WORST: Duration = Duration::from_millis(1);

/// Longer than this, and we ask whether the thread was waiting.
const SUSPECT: Duration = Duration::from_micros(20);

/// How long this thread has waited for a processor, so that the time of others can be taken off ours.
struct Waited(File);

impl Waited {
    fn new() -> Waited {
        Waited(File::open("/proc/thread-self/schedstat").expect("schedstat"))
    }

    fn read(&self) -> Duration {
        let mut text = [0; 64];
        let length = self.0.read_at(&mut text, 0).expect("schedstat");
        let text = std::str::from_utf8(&text[..length]).expect("digits");
        let waited = text.split_ascii_whitespace().nth(1).and_then(|field| field.parse().ok());
        Duration::from_nanos(waited.expect("the second field"))
    }
}

/// A run is cut into so many stretches of equal length: what is ours stalls the same stretch in each run.
const STRETCHES: usize = 16;
const STRETCH: usize = 2 * MILLION / STRETCHES;

#[test]
fn the_worst_of_two_million_inserts_takes_less_than_a_millisecond() {
    // What another machine on the same processor takes from us cannot be told from our own work in one run, but it comes where
    // it likes: a stretch counts as it was in the best of eight runs.
    let mut best = [Duration::MAX; STRETCHES];
    let good = (0..8).find(|_| {
        let worst = worst_inserts();
        println!("worst inserts: {worst:?}");
        best = std::array::from_fn(|stretch| best[stretch].min(worst[stretch]));
        best.iter().all(|worst| *worst < WORST)
    });
    assert!(good.is_some(), "the worst of each stretch in its best run: {best:?}");
}

/// The longest insert of each stretch of a run.
fn worst_inserts() -> [Duration; STRETCHES] {
    let cache: Cache<()> = Cache::new(Limits {
        capacity: MILLION,
        capacity_bytes: None,
        expiry: Duration::from_secs(3600),
        max_value_bytes: 1 << 20,
        shards: None,
    });
    let waited = Waited::new();
    let mut waited_before = waited.read();
    let mut keys = 0..;
    std::array::from_fn(|_| {
        let mut worst = Duration::ZERO;
        for key in keys.by_ref().take(STRETCH) {
            let start = Instant::now();
            let Lookup::Miss(fill, _) = cache.lookup(&u64::to_be_bytes(key), Need::NOTHING, key) else {
                panic!("a miss")
            };
            fill.found(&[7; 32], Facts::default(), Keep::ForItsAge, key);
            let took = start.elapsed();
            if took > SUSPECT || key % 64 == 0 {
                let waited_now = waited.read();
                worst = worst.max(took.saturating_sub(waited_now - waited_before));
                waited_before = waited_now;
            }
        }
        worst
    })
}
