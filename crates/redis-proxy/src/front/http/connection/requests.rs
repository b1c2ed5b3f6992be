//! From a head to what is asked: a key, or an answer that needs none.

use super::Connection;
use super::answers::QueuedState;
use crate::front::http::HttpFront;
use crate::front::http::answer::{Answer, CacheStatus, Framing};
use crate::front::http::conditional::Conditions;
use crate::front::http::head::{Body, Head, Method, parse, parse_first};
use crate::front::http::known::KnownRequest;
use crate::front::http::target::{Asked, key_of};
use crate::readthrough::{ReadOptions, ReadOutcome};

impl Connection {
    /// A request that is here as a whole and has nothing wrong with it, as nearly all are: takes it up, and says how long its head is.
    /// `unseen` are bytes at the end at which nothing has looked ahead yet.
    #[inline]
    pub(super) fn fresh_request(&mut self, bytes: &[u8], unseen: &mut usize) -> Option<usize> {
        let front = self.front.clone();
        if self.habit.may_be_known()
            && let Some(known) = front.known.find(bytes)
        {
            if known.length < bytes.len() && bytes.len() <= *unseen {
                *unseen = front.look_ahead(bytes);
            }
            self.known_request(&front, known);
            return Some(known.length);
        }
        let (head, length) = parse_first(bytes, &front.sizes.get().head)?;
        self.understood(&front, &bytes[..length], &head);
        Some(length)
    }

    /// A request whose head but for the key was understood before.
    #[inline]
    fn known_request(&mut self, front: &HttpFront, known: KnownRequest<'_>) {
        let no_cache = known.no_cache && front.honor_no_cache.get();
        let close = front.drain.since_ns().is_some();
        self.tick_ns += 1;
        self.served_any = true;
        let framing = Framing { head_only: false, http10: false, close, origin: None };
        if no_cache || close || front.unusual.get() || !self.replies.is_empty() {
            self.closing = close;
            return self.asked(front, known.key, no_cache, framing, Conditions::default());
        }
        let options = self.options(front, known.key, false);
        match front.read.hit(known.key, options) {
            Some(entry) => self.say_hit(front, entry),
            None => {
                let state = self.state_of(front, front.read.get(known.key, options), known.key, false);
                self.push(state, framing, Conditions::default(), None);
            }
        }
    }

    /// One whole head: the answer goes to the output at once where it can, else to the queue.
    pub(super) fn request(&mut self, bytes: &[u8]) {
        let front = self.front.clone();
        match parse(bytes, &front.sizes.get().head) {
            Ok(head) => self.understood(&front, bytes, &head),
            Err(refusal) => self.refuse(Answer::Refused(refusal)),
        }
    }

    fn understood(&mut self, front: &HttpFront, bytes: &[u8], head: &Head<'_>) {
        let (refused, origin) = {
            let policy = front.policy.borrow();
            (policy.refuses(head), policy.origin_of(head))
        };
        // What is known is permitted, as long as the settings are those by which it was learnt, and answered as to all others.
        if refused.is_none() && origin.is_none() {
            self.habit.met(&front.known, bytes, head, |end| front.hash(end));
        }
        self.tick_ns += 1;
        self.served_any = true;
        let framing = Framing { origin, ..self.framing_of(head) };
        self.closing = framing.close;
        if head.expects_continue && self.body_left > 0 {
            self.push(QueuedState::Ready(Answer::Continue), framing, Conditions::default(), None);
        }
        if let Some(refused) = refused {
            return self.reject(refused, framing);
        }
        if !matches!(head.method, Method::Get | Method::Head) {
            return self.answer_verb(head, framing);
        }
        let mut scratch = front.spare_key.take();
        match key_of(head.target, front.sizes.get().key_bytes, &mut scratch) {
            Ok(Asked::Key(key)) => {
                let no_cache = head.no_cache && front.honor_no_cache.get();
                let conditions = Conditions::of(head.if_match.as_deref(), head.if_none_match.as_ref());
                self.asked(front, key, no_cache, framing, conditions);
            }
            Ok(Asked::Nothing) => self.reject(Answer::NoKey, framing),
            Err(refusal) => self.reject(Answer::Refused(refusal), framing),
        }
        front.spare_key.set(scratch);
    }

    fn asked(
        &mut self,
        front: &HttpFront,
        key: &[u8],
        no_cache: bool,
        framing: Framing,
        conditions: Conditions<'_>,
    ) {
        let logged = front.sample(key);
        let state = if front.read.keeps_order() && self.is_behind(key) {
            QueuedState::Behind { key: key.into(), no_cache, key_hash: front.hash(key) }
        } else {
            self.state_of(front, front.read.get(key, self.options(front, key, no_cache)), key, no_cache)
        };
        self.push(state, framing, conditions, logged);
    }

    fn state_of(
        &mut self,
        front: &HttpFront,
        outcome: ReadOutcome,
        key: &[u8],
        no_cache: bool,
    ) -> QueuedState {
        match outcome {
            ReadOutcome::Hit(entry) => {
                self.hits += 1;
                QueuedState::Ready(Answer::found(entry, CacheStatus::Hit))
            }
            ReadOutcome::Wait(waiting) => {
                QueuedState::Waiting { waiting, no_cache, key_hash: front.hash(key) }
            }
        }
    }

    #[inline]
    fn options(&self, front: &HttpFront, key: &[u8], no_cache: bool) -> ReadOptions {
        let min_sync_ns = self.seen.since_ns(|| front.hash(key));
        ReadOptions { now_ns: self.tick_ns, arrived_ns: self.turn_ns, min_sync_ns, no_cache }
    }

    /// To a verb that reads nothing.
    #[cold]
    fn answer_verb(&mut self, head: &Head<'_>, framing: Framing) {
        let answer = match head.method {
            Method::Purge => {
                let line = self.front.policy.borrow().purger(head);
                line.map_or(Answer::MethodNotAllowed, |line| purge(&self.front, head, line))
            }
            Method::Options if head.is_preflight && self.front.policy.borrow().lets_pages(framing.origin) => {
                Answer::Preflight
            }
            Method::Options if head.target == b"*" => Answer::Verbs,
            Method::Options => {
                let key = key_of(head.target, self.front.sizes.get().key_bytes, &mut Vec::new()).map(drop);
                key.map_or_else(Answer::Refused, |()| Answer::Verbs)
            }
            _ => Answer::MethodNotAllowed,
        };
        match answer {
            Answer::Purged(_) => self.push(QueuedState::Ready(answer), framing, Conditions::default(), None),
            _ => self.reject(answer, framing),
        }
    }

    /// Whether a request before waits for the same key.
    fn is_behind(&self, key: &[u8]) -> bool {
        !self.replies.is_empty() && {
            let key_hash = self.front.hash(key);
            self.replies.reads().any(|queued| queued.is_before(key_hash))
        }
    }

    /// Decides whether the connection survives the request, and how many bytes of body are to be dropped.
    fn framing_of(&mut self, head: &Head<'_>) -> Framing {
        let body_fits = match head.body {
            Body::Length(length) if length <= self.front.sizes.get().body_bytes => {
                self.body_left = length;
                true
            }
            Body::Length(_) | Body::Chunked => false,
        };
        let draining = self.front.drain.since_ns().is_some();
        Framing {
            head_only: head.method == Method::Head,
            http10: head.http10,
            close: !head.keep_alive || !body_fits || draining,
            origin: None,
        }
    }

    /// An answer after which nobody can say where the next request begins.
    pub(super) fn refuse(&mut self, answer: Answer) {
        self.closing = true;
        self.served_any = true;
        self.reject(answer, Framing { head_only: false, http10: false, close: true, origin: None });
    }

    fn reject(&mut self, answer: Answer, framing: Framing) {
        self.front.stats.rejected.add(1);
        self.push(QueuedState::Ready(answer), framing, Conditions::default(), None);
    }
}

/// What is held of its key leaves, by the right of the token on that line.
fn purge(front: &HttpFront, head: &Head<'_>, line: u32) -> Answer {
    match key_of(head.target, front.sizes.get().key_bytes, &mut Vec::new()) {
        Ok(Asked::Key(key)) => {
            let held = front.read.purger().key(key, &format!("READ_TOKENS_FILE:{line}"));
            Answer::Purged(held)
        }
        Ok(Asked::Nothing) => Answer::NoKey,
        Err(refusal) => Answer::Refused(refusal),
    }
}
