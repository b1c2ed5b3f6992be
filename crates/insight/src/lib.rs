//! What is read most and why it misses, told from samples in bounded memory.
//!
//! Each worker has its [`Samples`]: of its reads about one in [`READS_ONE_IN`] is sampled, of those that memory did not answer one
//! in [`MISSES_ONE_IN`] once more, of invalidations one in [`INVALIDATIONS_ONE_IN`]. Which ones is left to chance, so that no rhythm of
//! a client escapes or fills them. They are counted by Space-Saving [sketches](sketch) of 512 keys each, which are halved
//! every [`WINDOW`]; [`AllSamples`] merges those of all workers when somebody looks.
//!
//! A read that is not sampled costs a decrement and a branch. One that is takes the lock of its own worker's sketches, and if
//! somebody looks at them at that moment leaves it at that: the next one is sampled in its place. So no read ever waits.
//!
//! It knows no socket, no clock, no task: time is an argument, in nanoseconds of a clock that never steps.

mod lists;
mod reason;
mod sampler;
mod samples;
mod sketch;
mod window;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use siphasher::sip::SipHasher13;

pub use crate::lists::{BEYOND_PARTITIONS, HotKey, HotMiss, HotPrefix, prefix};
pub use crate::reason::Reason;
pub use crate::samples::Samples;
pub use crate::sketch::{KEY_BYTES, KEYS};
pub use crate::window::WINDOW;

use crate::window::Window;

/// One read in so many is sampled.
pub const READS_ONE_IN: u32 = 64;
/// Of the sampled reads one in four is counted for its prefix, too: prefixes are few and so have many samples.
pub(crate) const PREFIXES_ONE_IN: u32 = 4 * READS_ONE_IN;
/// Of the reads that memory did not answer, one in so many is sampled once more.
pub const MISSES_ONE_IN: u32 = 8;
/// Of the keys that left because they were changed, one in so many is sampled.
pub const INVALIDATIONS_ONE_IN: u32 = 8;

/// The samples of all workers.
#[derive(Debug)]
pub struct AllSamples {
    window: Window,
    /// The same for all, so that what they have of one key meets. Random, so that nobody chooses keys that meet.
    hasher: SipHasher13,
    /// Those of a link end with it.
    all: Mutex<Vec<Weak<Samples>>>,
}

impl AllSamples {
    /// None yet, at `now_ns`: the windows begin here.
    ///
    /// # Panics
    /// If the system has no random bytes.
    pub fn new(now_ns: u64) -> Arc<AllSamples> {
        let mut seed = [0; 16];
        getrandom::fill(&mut seed).expect("the system gives random bytes");
        AllSamples::with_seed(now_ns, seed)
    }

    /// As [`new`](Self::new), with the same choices of samples for the same seed.
    pub fn with_seed(now_ns: u64, seed: [u8; 16]) -> Arc<AllSamples> {
        Arc::new(AllSamples {
            window: Window::from(now_ns),
            hasher: SipHasher13::new_with_key(&seed),
            all: Mutex::default(),
        })
    }

    /// Those of one more thread, which are seen as long as it holds them.
    pub fn samples(&self) -> Arc<Samples> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|samples| samples.strong_count() > 0);
        let samples = Arc::new(Samples::new(self.window, self.hasher, all.len()));
        all.push(Arc::downgrade(&samples));
        samples
    }

    /// Forgets what was read in a partition: its number is about to be another's.
    pub fn forget(&self, partition: u8) {
        self.each(|samples| samples.forget(partition));
    }

    /// Bytes that the sketches hold at the moment; at most about 420 KiB a worker, and a quarter of that a link.
    pub fn bytes(&self) -> usize {
        let mut bytes = 0;
        self.each(|samples| bytes += samples.bytes());
        bytes
    }

    /// Over how many seconds what is counted extends, each by its weight: between one window and two, once the program has run
    /// so long.
    pub fn weighed_s(&self, now_ns: u64) -> f64 {
        self.window.weighed_s(now_ns)
    }

    fn each(&self, mut look: impl FnMut(&Samples)) {
        let all: Vec<_> = self.all.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.iter().filter_map(Weak::upgrade).for_each(|samples| look(&samples));
    }
}
