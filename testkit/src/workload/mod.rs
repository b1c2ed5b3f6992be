//! Writers at a Redis and at the program, and readers on both of its fronts, for as long as faults are injected; all of
//! it noted.
//!
//! Everything random comes from one seed; the interleaving does not, so a failure repeats with its seed often, not
//! always.

mod ask;
mod direct;
mod harvest;
mod keyspace;
mod operation;
mod primary;
mod reader;
mod resp_reader;
mod session;
mod value;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

pub use primary::Primary;

use crate::child::PATIENCE;
use crate::history::History;
use crate::{Proxy, Random};
use harvest::Harvest;
use keyspace::Keyspace;
use reader::HttpReader;
use resp_reader::RespReader;
use session::SESSION_PATIENCE;
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
    /// Threads that read over HTTP, each on a connection of its own.
    pub readers: usize,
    /// Threads that read as Redis clients. With any, keys are of two databases and of two kinds.
    pub resp_readers: usize,
    /// How many writes of a hundred go through the program.
    pub through_percent: usize,
    /// How many reads of Redis clients of a hundred are by scripts, which go past the cache: what they show is shown from
    /// then on.
    pub script_percent: usize,
    /// Whether it is for a cluster: keys of several slots, in one database, two of which no command names. Scripts read none.
    pub of_slots: bool,
    /// The most requests sent at once.
    pub depth: usize,
    /// How many reads of a hundred ask for the newest value, by `Cache-Control: no-cache`.
    pub strict_percent: usize,
    /// Whether such reads share batches with others, or are sent alone.
    pub mixed: bool,
    /// Whether only those reads over HTTP are noted that the program answers from memory and says are proven.
    pub proven_only: bool,
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
    /// The connections of Redis clients among those that read.
    pub clients: BTreeSet<u32>,
    /// Reads over HTTP, and those of them answered from memory, as the program says.
    pub told: usize,
    /// See `told`.
    pub hits: usize,
    /// Connections over HTTP that the program ended.
    pub cut: usize,
    /// Connections of Redis clients that it ended, as it must where it cannot know whether a command was executed.
    pub closed: usize,
    /// Connections that readers left because an answer took long.
    pub given_up: usize,
    /// Reads that were refused, by status or code.
    pub errors: BTreeMap<String, usize>,
    /// When each refused read began and ended.
    pub refused: Vec<Range<u64>>,
}

impl Workload {
    /// As [`new`](Self::new), but over HTTP and as Redis clients, with half of the writes through the program.
    pub fn on_both_fronts(seed: u64) -> Workload {
        Workload { resp_readers: 3, through_percent: 50, script_percent: 8, ..Workload::new(seed) }
    }

    /// Over HTTP alone: some 10,000 reads a second on an idle core, and a write every millisecond.
    pub fn new(seed: u64) -> Workload {
        Workload {
            seed,
            keys: 24,
            writers: 3,
            readers: 4,
            resp_readers: 0,
            through_percent: 0,
            script_percent: 0,
            of_slots: false,
            depth: 8,
            strict_percent: 10,
            mixed: true,
            proven_only: false,
            px_percent: 0,
            write_pause: Duration::from_millis(2),
            read_pause: Duration::from_micros(800),
        }
    }

    /// For a cluster: on both fronts, with half of the writes through the program.
    pub fn in_cluster(seed: u64) -> Workload {
        Workload { of_slots: true, script_percent: 0, ..Workload::on_both_fronts(seed) }
    }

    /// The name of the key with this number, in a cluster in the slot of its tag.
    pub fn key_name(&self, key: usize) -> String {
        Keyspace::of(self).name(key)
    }

    /// Reads at `proxy` and writes to `primary` until `during` returns. No key of it may exist before.
    ///
    /// # Panics
    /// When a reader or a writer meets what cannot happen: an answer without a length, no answer within 10 s.
    pub fn run(&self, primary: &Primary, proxy: &Proxy, during: impl FnOnce()) -> Run {
        let mut random = Random::new(self.seed);
        let (stop, connections) = (AtomicBool::new(false), AtomicU32::new(0));
        let (address, resp) = (proxy.address(), self.is_resp().then(|| proxy.resp_address()));
        let mut run = Run {
            history: History { writes: vec![Vec::new(); self.keys], reads: Vec::new() },
            clients: BTreeSet::new(),
            told: 0,
            hits: 0,
            cut: 0,
            closed: 0,
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
                    let random = Random::new(random.next_u64());
                    let writer = Writer::new(self, primary, resp, &connections, keys, random);
                    scope.spawn(move || writer.run(stop))
                })
                .collect();
            let patience = |number, most| if number % 2 == 0 { most } else { IMPATIENT };
            let mut readers: Vec<_> = (0..self.readers)
                .map(|number| {
                    let (random, patience) = (Random::new(random.next_u64()), patience(number, PATIENCE));
                    let reader =
                        HttpReader { workload: self, address, connections: &connections, random, patience };
                    scope.spawn(move || reader.run(stop))
                })
                .collect();
            readers.extend((0..self.resp_readers).map(|number| {
                let patience = patience(number, SESSION_PATIENCE);
                let random = Random::new(random.next_u64());
                let address = resp.expect("the port for Redis clients");
                let reader = RespReader::new(self, address, &connections, random, patience);
                scope.spawn(move || reader.run(stop))
            }));
            during();
            drop(stopping);
            for writer in writers {
                let (writes, harvest) = writer.join().expect("a writer");
                writes.into_iter().for_each(|(key, writes)| run.history.writes[key] = writes);
                run.add(harvest, true);
            }
            for (number, reader) in readers.into_iter().enumerate() {
                run.add(reader.join().expect("a reader"), number >= self.readers);
            }
        });
        run
    }
}

impl Workload {
    /// Whether it is for the port of Redis clients too.
    fn is_resp(&self) -> bool {
        self.resp_readers > 0 || self.through_percent > 0
    }
}

/// Sleeps for so long on average, or not at all: the system makes a short sleep a long one.
fn pause(random: &mut Random, mean: Duration) {
    let most = 2 * usize::try_from(mean.as_micros()).unwrap_or(0);
    match random.below(most + 1) {
        0..60 => {}
        micros => thread::sleep(Duration::from_micros(micros as u64)),
    }
}

impl Run {
    /// The number of writes.
    pub fn writes(&self) -> usize {
        self.history.writes.iter().map(Vec::len).sum()
    }

    fn add(&mut self, harvest: Harvest, of_clients: bool) {
        if of_clients {
            self.clients.extend(harvest.reads.iter().map(|read| read.connection));
        }
        self.history.reads.extend(harvest.reads);
        self.told += harvest.told;
        self.hits += harvest.hits;
        self.cut += harvest.cut;
        self.closed += harvest.closed;
        self.given_up += harvest.given_up;
        self.refused.extend(harvest.refused);
        for (error, count) in harvest.errors {
            *self.errors.entry(error).or_default() += count;
        }
    }
}

/// Ends what goes on until a flag is set, also where the test fails: else a scope waits for its threads for ever.
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
