//! The duty to answer a miss, and the wait for somebody else's.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::Cache;
use crate::absence::Absence;
use crate::commit;
use crate::entry::{Facts, Keep};
use crate::flight::{Flight, Outcome};
use crate::shard::short;
use crate::stats::Unkept;
use crate::view::View;

/// A registered fetch that its holder must answer: [`found`](Fill::found), [`missing`](Fill::missing) or
/// [`fail`](Fill::fail). Dropped unanswered it tells its waiters [`Outcome::Abandoned`].
///
/// The value is kept only while the fill is still registered: an invalidation of its key or a flush in the meantime
/// unregisters it, and the late value still answers those who waited.
#[must_use = "a fill dropped unanswered fails everyone who waits for it"]
pub struct Fill<E> {
    cache: Cache<E>,
    flight: Arc<Flight<E>>,
    /// Bytes that are kept free for what it brings.
    room: u32,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be fetched, or on its way.
    First,
    /// The same once more: there was no room for what had come.
    Second,
    Answered,
}

impl<E> Fill<E> {
    pub(crate) fn new(cache: Cache<E>, flight: Arc<Flight<E>>) -> Fill<E> {
        Fill { cache, flight, room: 0, state: State::First }
    }

    /// One that has waited for so much room and has it; `again`: it had been fetched before.
    pub(crate) fn with_room(cache: Cache<E>, flight: Arc<Flight<E>>, room: u32, again: bool) -> Fill<E> {
        let state = if again { State::Second } else { State::First };
        Fill { cache, flight, room, state }
    }

    /// The key to fetch.
    pub fn key(&self) -> &[u8] {
        &self.flight.key
    }

    /// What to fetch of it.
    pub fn view(&self) -> View<'_> {
        self.flight.view()
    }

    /// Notes that the fetch is handed to its connection now; expiry counts from here. A retry is stamped anew.
    pub fn stamp_sent(&mut self, now_ns: u64) {
        self.flight.stamp_sent(now_ns);
    }

    /// When the fetch was last stamped as sent.
    pub fn sent_ns(&self) -> Option<u64> {
        self.flight.sent_ns()
    }

    /// Takes room for what it may bring, as large as what came lately, until it is answered. `false`: there is none, and it
    /// is to [wait](Fill::wait_for_room). Without a byte budget there is always room.
    pub fn take_room(&mut self) -> bool {
        match self.cache.0.take_room() {
            Some(bytes) => {
                self.room = bytes;
                true
            }
            None => false,
        }
    }

    /// Calls `send` once there is room for `bytes`, or without a number for what may come: perhaps now, else on the thread
    /// that frees the last of it, with no lock held. With an error it is called if that has not happened by `until_ns`, or if
    /// too many wait already. First come, first served.
    pub fn wait_for_room(
        mut self,
        bytes: Option<usize>,
        until_ns: u64,
        send: impl FnOnce(Result<Fill<E>, Fill<E>>) + Send + 'static,
    ) {
        self.give_room_back();
        let (cache, flight) = self.into_held();
        cache.queue_for_room(flight, bytes, until_ns, Box::new(send));
    }

    /// Whether there is room for a value of so many bytes that has come. Without, it is to be dropped, and fetched
    /// [later](Fill::wait_for_room) unless it [was](Fill::is_second) already.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        self.cache.0.has_room_for(bytes)
    }

    /// Whether it had to be fetched again because there was no room for what had come.
    pub fn is_second(&self) -> bool {
        self.state == State::Second
    }

    /// When its first reader asked.
    pub fn registered_ns(&self) -> u64 {
        self.flight.registered_ns
    }

    /// Redis has `value`: answers the waiters with it, and keeps it if `keep` allows and it is still right.
    ///
    /// Cost: one copy of the value before any lock, one or two short locks, at capacity one eviction; see
    /// [`Cache`] for what a large value may have to evict.
    pub fn found(mut self, value: &[u8], facts: Facts, keep: Keep, now_ns: u64) {
        let (entry, stored) = self.cache.store(&self.flight, value, facts, keep, now_ns);
        self.answer(Outcome::Found { entry, stored });
    }

    /// Redis has no such key: an entry of it that was still held leaves. The knowledge is kept if a lease proves it;
    /// a missing key is never held for its age alone.
    pub fn missing(mut self, keep: Keep, now_ns: u64) {
        let stored = self.cache.store_missing(&self.flight, keep, now_ns);
        self.answer(Outcome::Missing { stored });
    }

    /// The answer to the question of the fill's view, which is not that of the key's value: as [`found`](Fill::found).
    pub fn replied(mut self, reply: &[u8], keep: Keep, now_ns: u64) {
        let (entry, stored) = self.cache.store_reply(&self.flight, reply, keep, now_ns);
        self.answer(Outcome::Found { entry, stored });
    }

    /// The answer to the question about a key that does not exist. That is what is kept, because it answers many questions; the reply itself
    /// answers those who wait.
    pub fn replied_missing(mut self, reply: &[u8], keep: Keep, now_ns: u64) {
        let entry = commit::reply_of(&self.flight, reply, Keep::Not);
        let stored = self.cache.store_missing(&self.flight, keep, now_ns);
        self.answer(Outcome::Found { entry, stored });
    }

    /// The fetch failed: nothing is stored, every waiter gets a clone of `error`.
    pub fn fail(mut self, error: E) {
        self.cache.settle_unkept(&self.flight, Unkept::Failed);
        self.answer(Outcome::Failed(error));
    }

    /// As [`fail`](Self::fail), and why nothing is held of the key from now on.
    pub fn fail_as(self, why: Absence, error: E) {
        let Flight { hash, partition, .. } = *self.flight;
        self.cache.0.lock(hash).absences.note(short(hash), partition, why);
        self.fail(error);
    }

    /// What a held one is made of; nobody is told of an end.
    pub(crate) fn into_held(mut self) -> (Cache<E>, Arc<Flight<E>>) {
        self.state = State::Answered;
        (self.cache.clone(), self.flight.clone())
    }

    fn answer(&mut self, outcome: Outcome<E>) {
        self.state = State::Answered;
        self.flight.complete(outcome);
        self.cache.send_held(&self.flight);
        self.give_room_back();
    }

    fn give_room_back(&mut self) {
        let bytes = std::mem::take(&mut self.room);
        if bytes > 0 {
            self.cache.give_room_back(bytes);
        }
    }
}

impl<E> Drop for Fill<E> {
    fn drop(&mut self) {
        if self.state != State::Answered {
            self.cache.settle_unkept(&self.flight, Unkept::Abandoned);
            self.answer(Outcome::Abandoned);
        }
    }
}

impl<E> fmt::Debug for Fill<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key().escape_ascii().to_string();
        f.debug_struct("Fill").field("key", &key).field("sent_ns", &self.sent_ns()).finish_non_exhaustive()
    }
}

/// The wait for a fill, as a future. Dropping it cancels nothing: the fill goes on for the others and for the cache.
///
/// Cancel-safe, runtime-agnostic; may be polled, moved and dropped on any thread. It holds at most one waker.
#[must_use = "a waiter does nothing unless polled or asked for its outcome"]
pub struct Waiter<E> {
    flight: Arc<Flight<E>>,
    place: Option<usize>,
}

impl<E> Waiter<E> {
    pub(crate) fn new(flight: Arc<Flight<E>>) -> Waiter<E> {
        Waiter { flight, place: None }
    }

    /// The key that is fetched.
    pub fn key(&self) -> &[u8] {
        &self.flight.key
    }
}

impl<E: Clone> Waiter<E> {
    /// How the fill ended, if it has, without waiting.
    pub fn try_outcome(&self) -> Option<Outcome<E>> {
        self.flight.outcome()
    }
}

impl<E: Clone> Future for Waiter<E> {
    type Output = Outcome<E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome<E>> {
        let waiter = self.get_mut();
        match waiter.flight.poll(&mut waiter.place, context.waker()) {
            Some(outcome) => Poll::Ready(outcome),
            None => Poll::Pending,
        }
    }
}

impl<E> Drop for Waiter<E> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.flight.forget(place);
        }
    }
}

impl<E> fmt::Debug for Waiter<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.flight.key.escape_ascii().to_string();
        f.debug_struct("Waiter").field("key", &key).finish_non_exhaustive()
    }
}
