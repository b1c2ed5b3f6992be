//! No single insert stalls the requests behind it: the longest while a million entries come, and then push others out.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use cache::{Cache, Facts, Keep, Limits, Lookup, Need};

const MILLION: u64 = 1_000_000;
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

#[test]
fn the_worst_of_two_million_inserts_takes_less_than_a_millisecond() {
    // What another machine on the same processor takes from us cannot be told from our own work: one good run of five.
    let good = (0..5)
        .map(|_| worst_insert())
        .inspect(|worst| println!("worst insert: {worst:?}"))
        .find(|w| *w < WORST);
    assert!(good.is_some());
}

fn worst_insert() -> Duration {
    let cache: Cache<()> = Cache::new(Limits {
        capacity: 1_000_000,
        capacity_bytes: None,
        expiry: Duration::from_secs(3600),
        max_value_bytes: 1 << 20,
        shards: None,
    });
    let waited = Waited::new();
    let mut waited_before = waited.read();
    let mut worst = Duration::ZERO;
    for key in 0..2 * MILLION {
        let start = Instant::now();
        let Lookup::Miss(fill, _) = cache.lookup(&key.to_be_bytes(), Need::NOTHING, key) else {
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
}
