//! The byte budget against the truth: a process of its own whose values change their size under a budget of 256 MiB.
//!
//! The parent starts this same program again for the one test that is the child, so that no other test's memory counts.
//! The child plays the server: it reads its resident size every 100 ms, tells the cache, and runs maintenance.

use std::process::Command;
use std::time::{Duration, Instant};

use cache::{Cache, Facts, Keep, Limits, Lookup, Need};

const BUDGET: u64 = 256 << 20;
const MIB: f64 = 1024.0 * 1024.0;

/// How fast values arrive at most, bytes a second: what a link of three gigabits brings.
const ARRIVAL: f64 = 4e8;

#[test]
fn the_resident_size_stays_within_a_tenth_of_the_budget() {
    let program = std::env::current_exe().expect("this program");
    let child = Command::new(program)
        .args(["--ignored", "--exact", "child", "--nocapture"])
        .output()
        .expect("a child");
    println!("{}", String::from_utf8_lossy(&child.stdout));
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
}

/// The resident size of this process, bytes.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let pages = text.split_ascii_whitespace().nth(1).and_then(|field| field.parse::<u64>().ok());
    4096 * pages.expect("the second field")
}

/// The server around the cache: its clock, its 100 ms tick, and the worst it has seen.
struct Server {
    cache: Cache<()>,
    start: Instant,
    ticks: u32,
    baseline: u64,
    peak: u64,
}

impl Server {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).expect("a short test")
    }

    fn tick(&mut self) {
        let ticks = u32::try_from(self.start.elapsed().as_millis() / 100).expect("a short test");
        if ticks == self.ticks {
            return;
        }
        self.ticks = ticks;
        let resident = resident();
        self.peak = self.peak.max(resident);
        self.cache.observe_resident(resident, self.baseline);
        self.cache.maintain(self.now_ns(), self.cache.slots() / 80 + 64);
    }

    /// Replaces what is held by values of `least` to `most` bytes, twice the budget of them or for ten seconds on a machine that is busy.
    fn phase(&mut self, name: u64, least: usize, most: usize, value: &[u8]) {
        let (mut dice, mut bytes, begin) = (name + 1, 0u64, Instant::now());
        self.peak = 0;
        for key in 0.. {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let spread = u64::try_from(most - least + 1).expect("a size");
            let length = least + usize::try_from((dice >> 33) % spread).expect("a size");
            let now_ns = self.now_ns();
            let Lookup::Miss(mut fill, _) =
                self.cache.lookup(&(name << 40 | key).to_be_bytes(), Need::NOTHING, now_ns)
            else {
                panic!("a miss")
            };
            fill.stamp_sent(now_ns);
            fill.found(&value[..length], Facts::default(), Keep::ForItsAge, now_ns);
            bytes += length as u64 + 100;
            self.tick();
            let took = begin.elapsed();
            if bytes > 2 * BUDGET || took > Duration::from_secs(10) {
                break;
            }
            if bytes as f64 / ARRIVAL > took.as_secs_f64() + 0.001 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        // What the last values left behind is seen, too.
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(100));
            self.tick();
        }
        self.report(least, most);
    }

    fn report(&self, least: usize, most: usize) {
        let (stats, resident) = (self.cache.stats(self.now_ns()), resident() - self.baseline);
        let part = |bytes: u64| bytes as f64 / BUDGET as f64;
        println!(
            "values of {least} to {most} bytes: {} entries, accounted {:.3}, effective budget {:.3}, resident {:.3}, peak {:.3}",
            stats.entries,
            part(stats.accounted_bytes),
            part(stats.effective_budget_bytes),
            part(resident),
            part(self.peak.saturating_sub(self.baseline)),
        );
        assert!(
            self.peak as f64 <= 1.10 * BUDGET as f64 + self.baseline as f64,
            "{:.1} MiB",
            self.peak as f64 / MIB
        );
        assert!(stats.accounted_bytes > BUDGET / 3, "too little is held");
    }
}

#[test]
#[ignore = "started by the test above, in a process of its own"]
fn child() {
    let limits = Limits {
        capacity: 100_000_000,
        capacity_bytes: Some(BUDGET),
        expiry: Duration::from_secs(3600),
        max_value_bytes: 1 << 20,
        shards: None,
    };
    let value = vec![7; 1 << 20];
    let cache = Cache::new(limits);
    let mut server = Server { cache, start: Instant::now(), ticks: 0, baseline: resident(), peak: 0 };
    let phases = [(50, 150), (200, 400), (2_000, 6_000), (100, 1_500), (300, 500)];
    for (name, (least, most)) in (0..).zip(phases) {
        server.phase(name, least, most, &value);
    }
}
