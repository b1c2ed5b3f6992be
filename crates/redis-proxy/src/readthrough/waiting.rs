//! The wait for an answer that is not in memory, or not proven yet.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use cache::{Entry, Lookup, Need, Outcome, Waiter};

use super::link::{Link, Round};
use crate::clock::now_ns;
use crate::failure::Failure;
use crate::stats::WorkerStats;

/// Ready once the answer is known. Dropping it cancels nothing: a fetch goes on for the others and for the cache.
pub(crate) struct Waiting(State);

enum State {
    Fill { waiter: Waiter<Failure>, collapsed: bool },
    Proof(Box<Proof>),
}

/// An entry is held and its lease is about to be renewed; then the key is looked up once more.
struct Proof {
    link: Arc<Link>,
    stats: Arc<WorkerStats>,
    key: Box<[u8]>,
    need: Need,
    round: Round,
}

/// How a wait ended.
pub(crate) struct Answered {
    pub(crate) outcome: Outcome<Failure>,
    /// From memory, after it was proven.
    pub(crate) hit: bool,
    /// Somebody else had asked first.
    pub(crate) collapsed: bool,
}

impl Waiting {
    /// For a fetch that this client's own request has started.
    pub(super) fn for_own(waiter: Waiter<Failure>) -> Self {
        Waiting(State::Fill { waiter, collapsed: false })
    }

    /// For somebody else's fetch.
    pub(super) fn for_another(waiter: Waiter<Failure>) -> Self {
        Waiting(State::Fill { waiter, collapsed: true })
    }

    /// For the next proof on the key's link.
    pub(super) fn for_proof(link: Arc<Link>, stats: Arc<WorkerStats>, key: &[u8], need: Need) -> Self {
        let round = link.prove();
        Waiting(State::Proof(Box::new(Proof { link, stats, key: key.into(), need, round })))
    }
}

impl Future for Waiting {
    type Output = Answered;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answered> {
        let waiting = self.get_mut();
        if let State::Proof(proof) = &mut waiting.0 {
            ready!(Pin::new(&mut proof.round).poll(cx));
            match proof.look_again() {
                Ok(entry) => return Poll::Ready(Answered::proven(entry)),
                Err(fetching) => *waiting = fetching,
            }
        }
        let State::Fill { waiter, collapsed } = &mut waiting.0 else {
            unreachable!("after the proof comes the answer or a fetch");
        };
        let outcome = ready!(Pin::new(waiter).poll(cx));
        Poll::Ready(Answered { outcome, hit: false, collapsed: *collapsed })
    }
}

impl Proof {
    /// The entry, if it is still there and proven now; else a fetch, for which the reader waits as after any miss.
    fn look_again(&self) -> Result<Entry, Waiting> {
        let now_ns = now_ns();
        let need = Need { waits: false, ..self.need };
        match self.link.store.lookup(&self.key, need, now_ns) {
            Lookup::Hit(entry) => Ok(entry),
            Lookup::Wait(waiter) => Err(Waiting::for_another(waiter)),
            Lookup::Miss(fill, waiter) => {
                self.link.fetch(fill, &self.stats, now_ns);
                Err(Waiting::for_own(waiter))
            }
            Lookup::Unproven(_) => unreachable!("this reader waits for no other proof"),
        }
    }
}

impl Answered {
    fn proven(entry: Entry) -> Self {
        let outcome = match entry.is_missing() {
            true => Outcome::Missing { stored: true },
            false => Outcome::Found { entry, stored: true },
        };
        Answered { outcome, hit: true, collapsed: false }
    }
}
