//! The wait for an answer that is not in memory, or not proven yet.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use cache::{Entry, Lookup, Need, Outcome, Partition, View, Waiter};

use super::known::Answered;
use super::link::{Link, Round};
use super::question::{Accepts, Question};
use crate::clock::now_ns;
use crate::failure::Failure;
use crate::stats::WorkerStats;

/// Ready once the answer is known. Dropping it cancels nothing: a fetch goes on for the others and for the cache.
pub(crate) struct Waiting(State);

enum State {
    Fill {
        waiter: Waiter<Failure>,
        collapsed: bool,
        /// Of somebody else's fetch on a link: it may have been sent before this reader asked.
        again: Option<Box<Again>>,
    },
    Proof(Box<Proof>),
}

/// What it takes to look a key up once more.
pub(super) struct Again {
    link: Arc<Link>,
    stats: Arc<WorkerStats>,
    accepts: Accepts,
    need: Need,
    asked_ns: u64,
}

/// An entry is held and its lease is about to be renewed; then the key is looked up once more.
struct Proof {
    again: Again,
    key: Box<[u8]>,
    words: Box<[u8]>,
    partition: Partition,
    round: Round,
}

impl Waiting {
    /// What is waited for.
    pub(crate) fn key(&self) -> &[u8] {
        match &self.0 {
            State::Fill { waiter, .. } => waiter.key(),
            State::Proof(proof) => &proof.key,
        }
    }

    /// For a fetch that this client's own request has started.
    pub(super) fn for_own(waiter: Waiter<Failure>) -> Self {
        Waiting(State::Fill { waiter, collapsed: false, again: None })
    }

    /// For somebody else's fetch.
    pub(super) fn for_another(waiter: Waiter<Failure>) -> Self {
        Waiting(State::Fill { waiter, collapsed: true, again: None })
    }

    /// For somebody else's fetch on a link. The key may have expired between that fetch and this request: then it is
    /// looked up once more.
    pub(super) fn for_another_of(again: Again, waiter: Waiter<Failure>) -> Self {
        Waiting(State::Fill { waiter, collapsed: true, again: Some(Box::new(again)) })
    }

    /// For the first proof on the key's link that is late enough.
    pub(super) fn for_proof(again: Again, question: Question<'_>, partition: Partition) -> Self {
        let round = again.link.prove(again.need.since_ns);
        let (key, words) = (question.key.into(), question.view(partition).question.into());
        Waiting(State::Proof(Box::new(Proof { again, key, words, partition, round })))
    }
}

impl Future for Waiting {
    type Output = Answered;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answered> {
        let waiting = self.get_mut();
        loop {
            let looked_up = match &mut waiting.0 {
                State::Proof(proof) => {
                    ready!(Pin::new(&mut proof.round).poll(cx));
                    let view = View { partition: proof.partition, question: &proof.words };
                    proof.again.look_up(&proof.key, view)
                }
                State::Fill { waiter, collapsed, again } => {
                    let outcome = ready!(Pin::new(waiter).poll(cx));
                    match (again, &outcome) {
                        (Some(again), Outcome::Found { entry, stored })
                            if again.is_due(entry, stored.is_kept()) =>
                        {
                            again.look_up(entry.key(), entry.view())
                        }
                        _ => return Poll::Ready(Answered::fetched(outcome, *collapsed)),
                    }
                }
            };
            match looked_up {
                Ok(entry) => return Poll::Ready(Answered::proven(entry)),
                Err(fetching) => *waiting = fetching,
            }
        }
    }
}

impl Again {
    pub(super) fn new(
        link: &Arc<Link>,
        stats: &Arc<WorkerStats>,
        accepts: Accepts,
        need: Need,
        asked_ns: u64,
    ) -> Self {
        Again { link: link.clone(), stats: stats.clone(), accepts, need, asked_ns }
    }

    fn once_more(&self) -> Again {
        Again::new(&self.link, &self.stats, self.accepts, self.need, self.asked_ns)
    }

    /// Whether the key may have expired when this reader asked. What was fetched after that is right in any case. Of a
    /// value that changed while it was on its way the deadline is not known: PTTL may be from before the change.
    fn is_due(&self, entry: &Entry, stored: bool) -> bool {
        let had_passed = |deadline_ns| deadline_ns <= self.asked_ns;
        entry.sent_ns() < self.asked_ns && (!stored || entry.deadline_ns().is_some_and(had_passed))
    }

    /// The entry, if it is there and proven now; else a fetch, for which the reader waits as after any miss.
    fn look_up(&self, key: &[u8], view: View<'_>) -> Result<Entry, Waiting> {
        let now_ns = now_ns();
        let need = Need { waits: false, ..self.need };
        match self.link.store.lookup_view(key, view, |entry| self.accepts.fits(entry), need, now_ns) {
            Lookup::Hit(entry) => Ok(entry),
            Lookup::Wait(waiter) => Err(Waiting::for_another_of(self.once_more(), waiter)),
            Lookup::Miss(fill, waiter) => {
                self.link.fetch(fill, &self.stats, now_ns);
                Err(Waiting::for_own(waiter))
            }
            Lookup::Held(held, waiter) => {
                self.link.fetch_held(held);
                Err(Waiting::for_own(waiter))
            }
            Lookup::Unproven(_) => unreachable!("this reader waits for no other proof"),
        }
    }
}
