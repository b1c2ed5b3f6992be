//! From requests taken up to bytes in the output, in their order: at once, or by way of the queue.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tracing::info;

use super::{Connection, HELD_BEHIND_BYTES, LARGE_VALUE, MOST_WAITING};
use crate::clock::now_ns;
use crate::failure::Failure;
use crate::front::http::HttpFront;
use crate::front::http::answer::{Answer, AnswerContext, CacheStatus, Framing, encode, encode_hit, status};
use crate::front::http::conditional::{Conditions, KeptConditions};
use crate::readthrough::{Answered, Found, KnownAnswer, ReadOptions, ReadOutcome, Waiting};
use crate::slow_log::{SlowLog, TimeSpent, cut_arguments};

/// A request whose answer is not in the output yet.
pub(super) struct QueuedAnswer {
    state: QueuedState,
    framing: Framing,
    conditions: KeptConditions,
    started_ns: u64,
    /// The hash of its key, if this request is to be logged.
    logged: Option<u64>,
}

pub(super) enum QueuedState {
    Ready(Answer),
    Waiting {
        waiting: Waiting,
        no_cache: bool,
        key_hash: u64,
    },
    /// Asks once the requests before it are answered, one of which waits for the same key: asked now it might be
    /// answered from before that one.
    Behind {
        key: Box<[u8]>,
        no_cache: bool,
        key_hash: u64,
    },
}

impl QueuedAnswer {
    /// Whether a request for a key of this hash must not be answered from before this one.
    pub(super) fn is_before(&self, other: u64) -> bool {
        match self.state {
            QueuedState::Ready(_) => false,
            QueuedState::Waiting { key_hash, .. } | QueuedState::Behind { key_hash, .. } => key_hash == other,
        }
    }
}

impl Connection {
    pub(super) fn push(
        &mut self,
        state: QueuedState,
        framing: Framing,
        conditions: Conditions<'_>,
        logged: Option<u64>,
    ) {
        match state {
            QueuedState::Ready(answer)
                if self.replies.is_empty() && !self.output.is_full(self.front.output_bytes.get()) =>
            {
                self.encode(&answer, framing, conditions, self.turn_ns, self.turn_ns, logged);
            }
            state => self.replies.read(QueuedAnswer {
                state,
                framing,
                conditions: conditions.keep(),
                started_ns: self.turn_ns,
                logged,
            }),
        }
    }

    /// Moves finished answers from the queue to the output, in order. Whether any moved.
    pub(super) fn answer(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while !self.replies.is_empty() && !self.output.is_full(self.front.output_bytes.get()) {
            self.ask_behind();
            let Some(queued) = self.replies.read_at_head() else {
                break;
            };
            let mut fetched = false;
            if let QueuedState::Waiting { waiting, no_cache, key_hash } = &mut queued.state {
                let Poll::Ready(answered) = Pin::new(&mut *waiting).poll(cx) else {
                    break;
                };
                let now_ns = now_ns();
                if answered.may_be_newest(self.front.read.keeps_order()) {
                    self.seen.note(*key_hash, now_ns);
                }
                let redis_ns = now_ns.saturating_sub(queued.started_ns);
                if self.front.settings.slow_log.is_slow(redis_ns) {
                    keep_slow(&self.front.settings.slow_log, redis_ns, waiting.key());
                }
                queued.state = QueuedState::Ready(answer_of(answered, *no_cache));
                fetched = true;
            }
            self.let_go &= self.replies.len() > 1;
            let Some(QueuedAnswer {
                state: QueuedState::Ready(answer),
                framing,
                conditions,
                started_ns,
                logged,
            }) = self.replies.take_read()
            else {
                break;
            };
            let now_ns = now_ns();
            self.set_clock(now_ns);
            if fetched {
                self.front.stats.miss_latency.record(now_ns.saturating_sub(started_ns), 1);
            }
            let large = matches!(&answer, Answer::Value(entry, _) if entry.value().len() > LARGE_VALUE);
            self.window = if large || self.let_go { 1 } else { (self.window * 2).min(MOST_WAITING) };
            self.encode(&answer, framing, conditions.as_ref(), started_ns, now_ns, logged);
            moved = true;
        }
        if moved {
            self.front.read.released();
        }
        moved
    }

    /// The client does not take the answer at hand. Large values that have come for the requests behind it are memory:
    /// beyond a bound they are let go, and asked for once more when their turn comes.
    #[cold]
    pub(super) fn let_go(&mut self, cx: &mut Context<'_>) {
        let most = if self.front.read.is_crowded() { 0 } else { HELD_BEHIND_BYTES };
        let mut held = 0;
        for queued in self.replies.reads_mut() {
            if let QueuedState::Waiting { waiting, no_cache, key_hash } = &mut queued.state {
                let Poll::Ready(answered) = Pin::new(waiting).poll(cx) else { continue };
                if answered.may_be_newest(self.front.read.keeps_order()) {
                    self.seen.note(*key_hash, now_ns()); // as for an answer
                }
                self.front.stats.miss_latency.record(now_ns().saturating_sub(queued.started_ns), 1);
                queued.state = QueuedState::Ready(answer_of(answered, *no_cache));
            }
            let QueuedState::Ready(Answer::Value(entry, source)) = &queued.state else { continue };
            let bytes = entry.value().len();
            if bytes <= LARGE_VALUE {
                continue;
            }
            if held + bytes <= most {
                held += bytes;
                continue;
            }
            let no_cache = matches!(source, CacheStatus::Fetched { no_cache: true, .. });
            let (key, key_hash) = (entry.key().into(), self.front.hash(entry.key()));
            queued.state = QueuedState::Behind { key, no_cache, key_hash };
            (self.let_go, self.window) = (true, 1);
        }
        self.front.read.released();
    }

    /// The first request stands behind no other any more.
    fn ask_behind(&mut self) {
        let Some(queued) = self.replies.read_at_head() else { return };
        let QueuedState::Behind { key, no_cache, key_hash } = &queued.state else { return };
        let (no_cache, key_hash, arrived_ns) = (*no_cache, *key_hash, queued.started_ns);
        let min_sync_ns = self.seen.since_ns(|| key_hash);
        let options = ReadOptions { now_ns: now_ns(), arrived_ns, min_sync_ns, no_cache };
        queued.state = match self.front.read.get(key, options) {
            ReadOutcome::Hit(entry) => QueuedState::Ready(Answer::found(entry, CacheStatus::Hit)),
            ReadOutcome::Wait(waiting) => QueuedState::Waiting { waiting, no_cache, key_hash },
        };
    }

    /// A hit on a connection that stays, with nothing before it and nothing asked beside.
    #[inline]
    pub(super) fn say_hit(&mut self, front: &HttpFront, entry: KnownAnswer) {
        self.hits += 1;
        let detail = front.read.detail(self.turn_ns);
        let is_said = {
            let mut tail = front.tail.borrow_mut();
            let tail = tail.of_hits(detail.text);
            encode_hit(&mut self.output.bytes, &entry, detail, tail, self.turn_ns)
        };
        if !is_said {
            self.say_large(entry);
        }
    }

    #[cold]
    fn say_large(&mut self, entry: KnownAnswer) {
        let framing = Framing { head_only: false, http10: false, close: false, origin: None };
        self.push(
            QueuedState::Ready(Answer::found(entry, CacheStatus::Hit)),
            framing,
            Conditions::default(),
            None,
        );
    }

    fn encode(
        &mut self,
        answer: &Answer,
        framing: Framing,
        conditions: Conditions<'_>,
        started_ns: u64,
        now_ns: u64,
        logged: Option<u64>,
    ) {
        let front = &*self.front;
        let (tail, policy) = (front.tail.borrow(), front.policy.borrow());
        let context =
            AnswerContext { now_ns, tail: &tail, policy: &policy, detail: front.read.detail(now_ns) };
        if let Some(value) = encode(&mut self.output.bytes, answer, framing, conditions, &context) {
            self.output.attach(self.front.read.lend(value));
        }
        if let Some(key_hash) = logged {
            let status = status(answer, conditions);
            let hit = matches!(answer, Answer::Value(_, CacheStatus::Hit));
            let micros = now_ns.saturating_sub(started_ns) / 1_000;
            info!(target: "access", key_hash = format_args!("{key_hash:016x}"), status, hit, micros, "request");
        }
    }

    /// All of the output is with the kernel.
    pub(super) fn all_written(&mut self, was_blocked: bool) {
        if self.hits == 0 && !was_blocked {
            return;
        }
        let now_ns = now_ns();
        if self.hits > 0 {
            self.front.stats.hit_latency.record(now_ns.saturating_sub(self.turn_ns), self.hits);
            self.hits = 0;
        }
        if was_blocked {
            // The requests behind it are taken up now, and the client was not idle meanwhile.
            self.set_clock(now_ns);
        }
    }
}

/// Keeps a request that was slow. When its answer leaves is not measured.
#[cold]
fn keep_slow(log: &SlowLog, redis_ns: u64, key: &[u8]) {
    let spent = TimeSpent { queued_ns: 0, redis_ns, delivered_ns: None };
    log.keep(spent, "http".into(), None, cut_arguments([&b"GET"[..], key].into_iter(), 2));
}

fn answer_of(answered: Answered, no_cache: bool) -> Answer {
    let source = match answered.hit {
        true => CacheStatus::Hit,
        false => CacheStatus::Fetched { stored: answered.is_kept(), collapsed: answered.collapsed, no_cache },
    };
    match answered.found {
        Found::Answer(answer) => Answer::found(answer, source),
        Found::Missing => Answer::Missing(source),
        Found::Failed(failure) => Answer::Failed(failure, source),
        Found::Abandoned => Answer::Failed(Failure::Unavailable("the fetch was given up".into()), source),
    }
}
