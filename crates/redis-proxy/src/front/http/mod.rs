//! The HTTP front: `GET /{key}` on the data port. The contract is `docs/http.md`.
//!
//! [`head`] finds and checks a request's head, [`target`] reads the key, [`known`] remembers what was checked, [`connection`] joins them
//! to readthrough, [`answer`] makes the bytes of the response, [`refuse`] turns a connection away.

mod answer;
mod conditional;
mod connection;
pub mod head;
mod known;
mod refuse;
mod tail;
pub mod target;

use std::cell::{Cell, RefCell};
use std::hash::Hasher;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use siphasher::sip::SipHasher13;

pub(crate) use connection::serve;
pub(crate) use refuse::refuse;

use self::answer::Caching;
use self::known::KnownEnds;
use self::tail::Tail;
use crate::buffer_pool::BufferPool;
use crate::clock::{Notice, nanos};
use crate::config::Settings;
use crate::front::client::Drain;
use crate::live::LiveReader;
use crate::readthrough::ReadThrough;
use crate::stats::WorkerStats;
use head::HeadLimits;

/// The settings of the front, in the types that the loop wants.
#[derive(Clone, Debug)]
pub(crate) struct HttpSettings {
    pub(crate) head: HeadLimits,
    max_key_bytes: usize,
    max_body_bytes: u64,
    output_bytes: usize,
    pub(crate) head_timeout: Duration,
    idle_timeout_ns: u64,
    write_timeout_ns: u64,
    /// As [`Caching`] has them: of what was fetched, and of a hit.
    caching: [Box<[u8]>; 2],
    /// Whether `Cache-Control: no-cache` of a request is heeded.
    honor_no_cache: bool,
    /// Random a process, so that logged hashes cannot be turned back by trying keys.
    log_key: (u64, u64),
    /// What all answers of the process have in common.
    notice: Arc<Notice>,
}

impl HttpSettings {
    /// To be called once a process: its workers share what is random and what is a clock.
    pub(crate) fn new(settings: &Settings, notice: Arc<Notice>) -> Self {
        HttpSettings {
            head: HeadLimits {
                method_bytes: settings.max_method_bytes,
                target_bytes: settings.max_target_bytes,
                head_bytes: settings.max_head_bytes,
                headers: settings.max_headers,
            },
            max_key_bytes: settings.max_key_bytes,
            max_body_bytes: settings.max_body_bytes as u64,
            output_bytes: settings.output_buffer_bytes,
            head_timeout: settings.head_timeout,
            idle_timeout_ns: nanos(settings.idle_timeout),
            write_timeout_ns: nanos(settings.write_timeout),
            caching: ["", "hit"].map(|status| {
                let control = &settings.http_cache_control;
                let text = format!("\r\nCache-Control: {control}\r\nCache-Status: redis-proxy; {status}");
                text.into_bytes().into()
            }),
            honor_no_cache: settings.coherence.honor_no_cache,
            log_key: random_key(),
            notice,
        }
    }

    fn caching(&self) -> Caching<'_> {
        let [fetched, hit] = &self.caching;
        Caching { fetched, hit }
    }

    fn tail(&self) -> Tail {
        Tail::new(self.notice.clone(), self.idle_timeout_ns)
    }
}

/// What all connections of one worker share. Lives on that worker's thread.
pub(crate) struct HttpFront {
    read: ReadThrough,
    stats: Arc<WorkerStats>,
    settings: HttpSettings,
    /// What may change meanwhile, and what it said of the access log at the beginning of this turn.
    live: RefCell<LiveReader>,
    access_log: Cell<u32>,
    tail: RefCell<Tail>,
    /// Buffers lent to the connection whose turn it is; taken and given back within one poll.
    buffers: Rc<BufferPool>,
    spare_key: Cell<Vec<u8>>,
    known: KnownEnds,
    /// The settings by which `known` was learnt.
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
        Rc::new(HttpFront {
            known: KnownEnds::new(&settings),
            generation: Cell::new(live.generation()),
            access_log: Cell::new(0),
            read,
            stats,
            tail: RefCell::new(settings.tail()),
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
        self.tail.borrow_mut().refresh(now_ns);
        let mut live = self.live.borrow_mut();
        self.access_log.set(live.now().access_log);
        if self.generation.replace(live.generation()) != live.generation() {
            self.known.forget();
        }
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
        let access_log = self.access_log.get();
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
