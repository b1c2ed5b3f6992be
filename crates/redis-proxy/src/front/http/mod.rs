//! The HTTP front: `GET /{key}` on the data port. The contract is `docs/http.md`.
//!
//! [`head`] finds and checks a request's head, [`target`] reads the key, [`known`] remembers what was checked, [`connection`] joins them
//! to readthrough, [`answer`] makes the bytes of the response, [`refuse`] turns a connection away.

mod answer;
mod conditional;
mod connection;
pub mod head;
mod known;
mod policy;
mod refuse;
mod tail;
pub mod target;

use std::cell::{Cell, RefCell};
use std::hash::Hasher;
use std::rc::Rc;
use std::sync::Arc;

use siphasher::sip::SipHasher13;

pub(in crate::front) use connection::serve;
pub(crate) use refuse::refuse;

use self::known::KnownEnds;
use self::policy::Policy;
use self::tail::Tail;
use crate::buffer_pool::BufferPool;
use crate::clock::Notice;
use crate::front::client::Drain;
use crate::live::{ClientTimeouts, LiveReader, LiveSettings, RequestSizes};
use crate::readthrough::ReadThrough;
use crate::slow_log::SlowLog;
use crate::stats::WorkerStats;
use head::HeadLimits;

/// The settings of the front, in the types that the loop wants.
#[derive(Clone, Debug)]
pub(crate) struct HttpSettings {
    /// Whether nobody but this machine reaches the port.
    on_loopback: bool,
    /// Whether hits are proven, so that a request may ask for what Redis holds now if nothing else is said.
    is_proven: bool,
    /// Random a process, so that logged hashes cannot be turned back by trying keys.
    log_key: (u64, u64),
    /// What all answers of the process have in common.
    notice: Arc<Notice>,
    /// Where requests are kept that take long.
    slow_log: Arc<SlowLog>,
}

impl HttpSettings {
    /// To be called once a process: its workers share what is random and what is a clock.
    pub(crate) fn new(
        notice: Arc<Notice>,
        slow_log: Arc<SlowLog>,
        on_loopback: bool,
        is_proven: bool,
    ) -> Self {
        HttpSettings { on_loopback, is_proven, log_key: random_key(), notice, slow_log }
    }

    fn policy(&self, live: &Arc<LiveSettings>, generation: u32) -> Policy {
        Policy::new(live.clone(), generation, self.on_loopback)
    }

    fn tail(&self, policy: &Policy) -> Tail {
        Tail::new(self.notice.clone(), policy)
    }
}

/// How large requests may be.
#[derive(Clone, Copy, Debug)]
struct HttpSizes {
    head: HeadLimits,
    key_bytes: usize,
    body_bytes: u64,
}

impl HttpSizes {
    fn of(sizes: &RequestSizes) -> HttpSizes {
        let RequestSizes { method_bytes, target_bytes, head_bytes, headers, key_bytes, body_bytes, .. } =
            *sizes;
        let head = HeadLimits { method_bytes, target_bytes, head_bytes, headers };
        HttpSizes { head, key_bytes, body_bytes: body_bytes as u64 }
    }
}

/// What all connections of one worker share. Lives on that worker's thread.
pub(crate) struct HttpFront {
    read: ReadThrough,
    stats: Arc<WorkerStats>,
    settings: HttpSettings,
    /// What may change meanwhile, and what follows from it as of the beginning of this turn.
    live: RefCell<LiveReader>,
    policy: RefCell<Policy>,
    /// Whether that is such that no hit is written in the quick way.
    unusual: Cell<bool>,
    timeouts: Cell<ClientTimeouts>,
    sizes: Cell<HttpSizes>,
    output_bytes: Cell<usize>,
    /// Whether `Cache-Control: no-cache` of a request is heeded.
    honor_no_cache: Cell<bool>,
    tail: RefCell<Tail>,
    /// Buffers lent to the connection whose turn it is; taken and given back within one poll.
    buffers: Rc<BufferPool>,
    spare_key: Cell<Vec<u8>>,
    known: KnownEnds,
    /// The settings by which `known` was learnt and `policy` made.
    generation: Cell<u32>,
    drain: Drain,
    /// Requests since the last one that was logged.
    unlogged: Cell<u32>,
}

impl HttpFront {
    pub(crate) fn new(
        read: ReadThrough,
        stats: Arc<WorkerStats>,
        settings: HttpSettings,
        live: LiveReader,
        buffers: Rc<BufferPool>,
    ) -> Rc<Self> {
        let mut live = live;
        let policy = settings.policy(&live.now().clone(), live.generation());
        let sizes = HttpSizes::of(&live.now().sizes);
        Rc::new(HttpFront {
            known: KnownEnds::new(sizes),
            sizes: Cell::new(sizes),
            output_bytes: Cell::new(live.now().output_bytes),
            honor_no_cache: Cell::new(live.now().honor_no_cache.unwrap_or(settings.is_proven)),
            generation: Cell::new(live.generation()),
            unusual: Cell::new(policy.is_unusual()),
            timeouts: Cell::new(policy.timeouts()),
            read,
            stats,
            tail: RefCell::new(settings.tail(&policy)),
            policy: RefCell::new(policy),
            settings,
            live: RefCell::new(live),
            buffers,
            spare_key: Cell::default(),
            drain: Drain::default(),
            unlogged: Cell::new(0),
        })
    }

    /// From now on every answer closes its connection, and idle connections are closed.
    pub(crate) fn start_draining(&self) {
        self.drain.start();
    }

    /// For answers made at `now_ns`. To be called once before those of a turn.
    #[inline]
    fn refresh(&self, now_ns: u64) {
        let mut live = self.live.borrow_mut();
        live.now();
        if self.generation.get() != live.generation() {
            // Borrowed anew: a look is over with the borrow.
            self.adopt(live.now().clone(), live.generation());
        }
        self.tail.borrow_mut().refresh(now_ns);
    }

    /// The settings are others from now on.
    #[cold]
    fn adopt(&self, live: Arc<LiveSettings>, generation: u32) {
        self.generation.set(generation);
        let sizes = HttpSizes::of(&live.sizes);
        self.sizes.set(sizes);
        self.known.forget(sizes);
        self.output_bytes.set(live.output_bytes);
        self.honor_no_cache.set(live.honor_no_cache.unwrap_or(self.settings.is_proven));
        let policy = self.settings.policy(&live, generation);
        self.unusual.set(policy.is_unusual());
        self.timeouts.set(policy.timeouts());
        *self.tail.borrow_mut() = self.settings.tail(&policy);
        *self.policy.borrow_mut() = policy;
    }

    /// Has what the known requests at the beginning of `bytes` ask for fetched into the processor's caches, where that is worth it. How
    /// many bytes behind them this has not looked at.
    #[cold]
    fn look_ahead(&self, bytes: &[u8]) -> usize {
        if !self.read.is_worth_looking_ahead() {
            return 0;
        }
        let mut unseen = bytes;
        self.read.look_ahead(std::iter::from_fn(|| {
            let known = self.known.find(unseen)?;
            unseen = &unseen[known.length..];
            Some(known.key)
        }));
        unseen.len()
    }

    /// The key's hash where this request is one that is logged.
    fn sample(&self, key: &[u8]) -> Option<u64> {
        let access_log = self.policy.borrow().access_log();
        if access_log == 0 {
            return None;
        }
        let unlogged = self.unlogged.get() + 1;
        if unlogged < access_log {
            self.unlogged.set(unlogged);
            return None;
        }
        self.unlogged.set(0);
        Some(self.hash(key))
    }

    /// The key's hash, the same for this process.
    fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.settings.log_key.0, self.settings.log_key.1);
        hasher.write(key);
        hasher.finish()
    }
}

fn random_key() -> (u64, u64) {
    let mut key = [0; 16];
    // Without randomness the hashes are guessable, which is no reason not to serve.
    let _ = getrandom::fill(&mut key);
    let [low, high] = [0, 8].map(|at| {
        let mut half = [0; 8];
        half.copy_from_slice(&key[at..at + 8]);
        u64::from_ne_bytes(half)
    });
    (low, high)
}
