//! The state that one fill and those who wait for it share: who asked, when it was sent, how it ended.

use std::sync::Arc;
use std::task::Waker;
use sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use sync::Mutex;

use crate::entry::Entry;
use crate::view::{Partition, View};

/// How a fill ended, as its waiters see it.
#[derive(Clone, Debug)]
pub enum Outcome<E> {
    /// Redis has the key.
    Found {
        /// The value, readable whether it was kept or not.
        entry: Entry,
        /// Whether the cache keeps it.
        stored: Stored,
    },
    /// Redis has no such key.
    Missing {
        /// Whether the cache keeps that knowledge.
        stored: Stored,
    },
    /// The fetch failed.
    Failed(E),
    /// The fill was dropped without an answer.
    Abandoned,
}

/// Whether the cache keeps what a fill has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It does.
    Yes,
    /// It does not, by what it is: too large, not to be proven, over already. What was held in its place has left.
    No,
    /// It was invalidated, flushed or outdated in flight. It may be newer than what is held of its key.
    Overtaken,
}

impl Stored {
    /// Whether it is kept.
    pub fn is_kept(self) -> bool {
        self == Stored::Yes
    }
}

/// One fetch of one key. The cache registers it, the [`Fill`](crate::Fill) ends it, the waiters watch it.
pub(crate) struct Flight<E> {
    pub(crate) key: Box<[u8]>,
    pub(crate) partition: Partition,
    /// What is asked of the key; empty for its value.
    pub(crate) question: Box<[u8]>,
    pub(crate) hash: u64,
    /// The flush epoch at registration, or when it ceased to be held: after a flush the value is neither stored nor joined.
    /// Changed under the shard's lock, before anybody can answer it.
    epoch: AtomicU32,
    /// Whether another fetch is held until one like this has ended. Set under the shard's lock.
    has_followers: AtomicBool,
    /// When the first reader asked. A value whose fill was never stamped ages from here.
    pub(crate) registered_ns: u64,
    /// [`NOT_SENT`] until stamped. Whoever sees that knows that no byte of the fetch is on its way yet, and joins as if
    /// it were sent later: so the stamp is out before the first byte is (SeqCst, followed by the queue's lock).
    sent_ns: AtomicU64,
    /// Taken with no shard lock held, so the order of the two kinds of lock never matters.
    state: Mutex<State<E>>,
}

const NOT_SENT: u64 = u64::MAX;

enum State<E> {
    Pending(Wakers),
    Done(Outcome<E>),
}

impl<E> Flight<E> {
    pub(crate) fn new(
        key: &[u8],
        view: View<'_>,
        hash: u64,
        epoch: u32,
        registered_ns: u64,
    ) -> Arc<Flight<E>> {
        Arc::new(Flight {
            key: key.into(),
            partition: view.partition,
            question: view.question.into(),
            hash,
            epoch: AtomicU32::new(epoch),
            has_followers: AtomicBool::new(false),
            registered_ns,
            sent_ns: AtomicU64::new(NOT_SENT),
            state: Mutex::new(State::Pending(Wakers::default())),
        })
    }

    pub(crate) fn view(&self) -> View<'_> {
        View { partition: self.partition, question: &self.question }
    }

    // Relaxed, here and below: the shard's lock orders them.
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Relaxed)
    }

    pub(crate) fn set_epoch(&self, epoch: u32) {
        self.epoch.store(epoch, Ordering::Relaxed);
    }

    /// Another fetch waits for the end of this one.
    pub(crate) fn is_followed(&self) -> bool {
        self.has_followers.load(Ordering::Relaxed)
    }

    pub(crate) fn set_followed(&self) {
        self.has_followers.store(true, Ordering::Relaxed);
    }

    pub(crate) fn stamp_sent(&self, now_ns: u64) {
        self.sent_ns.store(now_ns.min(NOT_SENT - 1), Ordering::SeqCst);
    }

    pub(crate) fn sent_ns(&self) -> Option<u64> {
        Some(self.sent_ns.load(Ordering::SeqCst)).filter(|sent| *sent != NOT_SENT)
    }

    /// Publishes how the fill ended and wakes those who wait, in that order and outside every lock.
    pub(crate) fn complete(&self, outcome: Outcome<E>) {
        let before = std::mem::replace(&mut *self.state.lock(), State::Done(outcome));
        if let State::Pending(wakers) = before {
            wakers.wake_all();
        }
    }
}

impl<E: Clone> Flight<E> {
    pub(crate) fn outcome(&self) -> Option<Outcome<E>> {
        match &*self.state.lock() {
            State::Pending(_) => None,
            State::Done(outcome) => Some(outcome.clone()),
        }
    }

    /// The outcome, or none after leaving `waker` in the waiter's place, which is taken at its first call.
    pub(crate) fn poll(&self, place: &mut Option<usize>, waker: &Waker) -> Option<Outcome<E>> {
        match &mut *self.state.lock() {
            State::Done(outcome) => Some(outcome.clone()),
            State::Pending(wakers) => {
                wakers.leave(place, waker);
                None
            }
        }
    }
}

impl<E> Flight<E> {
    /// Gives back the place of a waiter that goes away.
    pub(crate) fn forget(&self, place: usize) {
        let waker = match &mut *self.state.lock() {
            State::Pending(wakers) => wakers.forget(place),
            State::Done(_) => None,
        };
        drop(waker); // after the lock: a waker's drop is foreign code
    }
}

/// Wakers by place, so that polling again replaces and a dropped waiter frees: never more places than waiters.
#[derive(Default)]
struct Wakers {
    places: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Wakers {
    fn leave(&mut self, place: &mut Option<usize>, waker: &Waker) {
        let at = *place.get_or_insert_with(|| {
            self.free.pop().unwrap_or_else(|| {
                self.places.push(None);
                self.places.len() - 1
            })
        });
        match &mut self.places[at] {
            Some(old) => old.clone_from(waker), // clones only if it would wake another task
            empty => *empty = Some(waker.clone()),
        }
    }

    fn forget(&mut self, place: usize) -> Option<Waker> {
        self.free.push(place);
        self.places[place].take()
    }

    fn wake_all(self) {
        self.places.into_iter().flatten().for_each(sync::wakes::wake);
    }
}
