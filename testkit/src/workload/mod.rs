//! Writers at a Redis and readers at the program, for as long as faults are injected, all of it noted.
//!
//! Everything random comes from one seed; the interleaving does not, so a failure repeats with its seed often, not
//! always.

mod operation;
mod primary;
mod reader;
mod value;
mod writer;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

pub use primary::Primary;

use crate::Random;
use crate::child::PATIENCE;
use crate::history::History;
use reader::{Harvest, Reader};
use writer::Writer;

/// How long every second reader waits for an answer.
const IMPATIENT: Duration = Duration::from_millis(15);

/// Who reads and writes how much.
#[derive(Clone, Debug)]
pub struct Workload {
    /// What everything random comes from.
    pub seed: u64,
    /// Keys, all of them hot.
    pub keys: usize,
    /// Threads that write, each to keys of its own.
    pub writers: usize,
    /// Threads that read, each on a connection of its own.
    pub readers: usize,
    /// The most requests sent at once.
    pub depth: usize,
    /// How many reads of a hundred ask for the newest value, by `Cache-Control: no-cache`.
    pub strict_percent: usize,
    /// Whether such reads share batches with others, or are sent alone.
    pub mixed: bool,
    /// How many writes of a hundred are values with a time to live, beside those of all kinds.
    pub px_percent: usize,
    /// Between two writes of a writer, on average.
    pub write_pause: Duration,
    /// Between two batches of a reader, on average.
    pub read_pause: Duration,
}

/// What came of it.
pub struct Run {
    /// Every write, every answered read.
    pub history: History,
    /// Reads answered from memory, as the program says.
    pub hits: usize,
    /// Connections that the program ended.
    pub cut: usize,
    /// Connections that readers left because an answer took long.
    pub given_up: usize,
    /// Reads that were refused, by status.
    pub errors: BTreeMap<u16, usize>,
    /// When each refused read began and ended.
    pub refused: Vec<Range<u64>>,
}

impl Workload {
    /// Some 10,000 reads a second on an idle core, and a write every millisecond.
    pub fn new(seed: u64) -> Workload {
        Workload {
            seed,
            keys: 24,
            writers: 3,
            readers: 4,
            depth: 8,
            strict_percent: 10,
            mixed: true,
            px_percent: 0,
            write_pause: Duration::from_millis(2),
            read_pause: Duration::from_micros(800),
        }
    }

    /// Reads at `address` and writes to `primary` until `during` returns. No key of it may exist before.
    ///
    /// # Panics
    /// When a reader or a writer meets what cannot happen: an answer without a length, no answer within 10 s.
    pub fn run(&self, primary: &Primary, address: SocketAddr, during: impl FnOnce()) -> Run {
        let mut random = Random::new(self.seed);
        let (stop, connections) = (AtomicBool::new(false), AtomicU32::new(0));
        let mut run = Run {
            history: History { writes: vec![Vec::new(); self.keys], reads: Vec::new() },
            hits: 0,
            cut: 0,
            given_up: 0,
            errors: BTreeMap::new(),
            refused: Vec::new(),
        };
        thread::scope(|scope| {
            // Also when `during` panics: the scope waits for all threads.
            let stopping = StopOnDrop(&stop);
            let stop = &stop;
            let writers: Vec<_> = (0..self.writers)
                .map(|number| {
                    let keys = (number..self.keys).step_by(self.writers);
                    let writer = Writer::new(self, primary, keys, Random::new(random.next_u64()));
                    scope.spawn(move || writer.run(stop).collect::<Vec<_>>())
                })
                .collect();
            let readers: Vec<_> = (0..self.readers)
                .map(|number| {
                    let patience = if number % 2 == 0 { PATIENCE } else { IMPATIENT };
                    let random = Random::new(random.next_u64());
                    let reader =
                        Reader { workload: self, address, connections: &connections, random, patience };
                    scope.spawn(move || reader.run(stop))
                })
                .collect();
            during();
            drop(stopping);
            for (key, writes) in writers.into_iter().flat_map(|writer| writer.join().expect("a writer")) {
                run.history.writes[key] = writes;
            }
            readers.into_iter().for_each(|reader| run.add(reader.join().expect("a reader")));
        });
        run
    }
}

impl Run {
    /// The number of writes.
    pub fn writes(&self) -> usize {
        self.history.writes.iter().map(Vec::len).sum()
    }

    fn add(&mut self, harvest: Harvest) {
        self.history.reads.extend(harvest.reads);
        self.hits += harvest.hits;
        self.cut += harvest.cut;
        self.given_up += harvest.given_up;
        self.refused.extend(harvest.refused);
        for (error, count) in harvest.errors {
            *self.errors.entry(error).or_default() += count;
        }
    }
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
