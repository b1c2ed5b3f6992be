//! The places of MAX_CLIENTS: who holds one, who waits for one, and which connections give theirs up to those who wait.
//!
//! A place is a permit of a semaphore that is fair: one that is given back goes to whoever has waited longest. While all
//! are taken and somebody waits, HTTP connections that have nothing to do are *asked* to go, the longest idle first. Only
//! the connection itself knows whether a request has just come, so it may decline. `due` is how many were asked and have
//! not yet led to a place: no more are asked than clients wait. All connections are looked at when those are used up that
//! the last look found, and not for each client.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Duration;

use sync::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::sleep;

use crate::clock::{Notice, now_ns};
use crate::peers::Peer;

/// A connection that was asked something this short a time ago is not idle: its client is about to ask again.
pub(crate) const IDLE_ENOUGH_NS: u64 = 500_000_000;
/// Connections that have given their place up and are still open for a moment, at most; those beyond keep theirs so long.
pub(crate) const MOST_FAREWELLS: usize = 64;
/// After a look at all connections that found none to ask: the next one, at the latest.
const LOOK_AGAIN_NS: u64 = 50_000_000;
/// After a look, by each connection that was looked at: it takes an acceptor a few percent of its time at most.
const LOOK_PAUSE_NS: u64 = 500;
/// In place of an instant: this connection has something to do.
pub(crate) const BUSY: u64 = u64::MAX;

/// All places, shared by the door and the fronts.
pub(crate) struct Places {
    free: Arc<Semaphore>,
    /// All of them, changed under the lock of the seats.
    max: AtomicUsize,
    /// Clients that wait for one.
    waiting: AtomicUsize,
    farewells: Arc<Semaphore>,
    /// A short lock, by connections that come and go and by those who wait.
    seats: Mutex<Seats>,
    /// Where it is told that nearly all are taken.
    notice: Arc<Notice>,
}

#[derive(Default)]
struct Seats {
    by_number: HashMap<u64, Arc<State>>,
    next: u64,
    due: usize,
    /// Places that are held beyond all there are, since there are fewer now: they go as they are given back.
    beyond: usize,
    /// Whether the program ends: then all places are waited for, and stay as many.
    is_over: bool,
    /// Those that the last look found idle and nobody has asked, the longest idle last, and since when each was.
    found: Vec<(u64, Arc<State>)>,
    /// No look before this.
    look_ns: u64,
}

/// What an HTTP connection tells those who look for a place.
struct State {
    /// Since when it has nothing to do, or [`BUSY`].
    idle_since_ns: AtomicU64,
    asked: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Places {
    pub(crate) fn new(max: usize, notice: Arc<Notice>) -> Arc<Self> {
        Arc::new(Places {
            free: Arc::new(Semaphore::new(max)),
            max: AtomicUsize::new(max),
            waiting: AtomicUsize::new(0),
            farewells: Arc::new(Semaphore::new(MOST_FAREWELLS)),
            seats: Mutex::default(),
            notice,
        })
    }

    /// From now on there are so many. If fewer, whoever has a place keeps it, and the next is free once fewer are held.
    pub(crate) fn resize(&self, max: usize) {
        let mut seats = self.seats.lock();
        let before = self.most();
        if seats.is_over || max == before {
            return;
        }
        self.max.store(max, Ordering::Relaxed);
        if max < before {
            seats.beyond += before - max - self.free.forget_permits(before - max);
        } else {
            let more = max - before;
            let held = more.min(seats.beyond);
            seats.beyond -= held;
            self.free.add_permits(more - held);
        }
        drop(seats);
        self.tell();
    }

    /// A place is given back.
    fn give_back(&self) {
        let mut seats = self.seats.lock();
        if seats.beyond > 0 {
            seats.beyond -= 1;
            // Whoever was asked to go for those who wait has gone for this.
            seats.due = seats.due.saturating_sub(1);
        } else {
            self.free.add_permits(1);
        }
        drop(seats);
        self.tell();
    }

    /// Clients that wait for a place.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Places, taken or not.
    pub(crate) fn most(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    /// Tells whether more than nine in ten are taken.
    fn tell(&self) {
        self.notice.crowd(|| self.free.available_permits() * 10 < self.most());
    }

    /// A place, if one is free that nobody waits for.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Place> {
        // One that is free while somebody waits is on its way to him.
        if self.waiting() > 0 {
            return None;
        }
        self.free.try_acquire().ok().map(|permit| Place::new(self.clone(), permit))
    }

    /// Joins those who wait.
    pub(crate) fn wait(self: &Arc<Self>) -> QueuedClient {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        QueuedClient { places: self.clone(), got: false }
    }

    /// Waits until nobody waits, every place is free and nobody is seen off. Nobody gets one afterwards.
    pub(crate) async fn all_left(&self) {
        self.seats.lock().is_over = true;
        for (station, size) in [(&self.free, self.most()), (&self.farewells, MOST_FAREWELLS)] {
            let all = u32::try_from(size).unwrap_or(u32::MAX);
            if let Ok(permits) = station.acquire_many(all).await {
                permits.forget();
            }
        }
    }
}

impl Seats {
    /// Asks the longest idle connections to go until as many are due as clients wait. Whether they are.
    fn make_room(&mut self, waiting: usize, now_ns: u64) -> bool {
        let wanted = waiting + self.beyond;
        while self.due < wanted {
            let Some((since_ns, state)) = self.next_found(now_ns) else { break };
            // Since it was found it may have been busy: then others are idle for longer, or it is gone.
            if state.idle_since_ns.load(Ordering::Relaxed) != since_ns {
                continue;
            }
            // The wake after it is what it is seen with.
            state.asked.store(true, Ordering::Relaxed);
            if let Some(waker) = &*state.waker.lock() {
                waker.wake_by_ref();
            }
            self.due += 1;
        }
        self.due >= wanted
    }

    /// The longest idle of those that the last look found, or another look finds. Whoever was not idle at a look is so for a
    /// shorter time than all that were, so that one look serves as many clients as it finds connections.
    fn next_found(&mut self, now_ns: u64) -> Option<(u64, Arc<State>)> {
        if self.found.is_empty() && now_ns >= self.look_ns {
            self.look(now_ns);
        }
        self.found.pop()
    }

    /// Looks at all connections.
    fn look(&mut self, now_ns: u64) {
        let idle_since = |state: &Arc<State>| (state.idle_since_ns.load(Ordering::Relaxed), state.clone());
        let unasked = self.by_number.values().filter(|state| !state.asked.load(Ordering::Relaxed));
        let is_idle = |(since_ns, _): &(u64, _)| since_ns.saturating_add(IDLE_ENOUGH_NS) <= now_ns;
        self.found = unasked.map(idle_since).filter(is_idle).collect();
        self.found.sort_unstable_by_key(|(since_ns, _)| Reverse(*since_ns));
        let pause_ns =
            if self.found.is_empty() { LOOK_AGAIN_NS } else { LOOK_PAUSE_NS * self.by_number.len() as u64 };
        self.look_ns = now_ns + pause_ns;
    }
}

/// A client that waits for a place.
pub(crate) struct QueuedClient {
    places: Arc<Places>,
    got: bool,
}

impl QueuedClient {
    /// Ready when a place is its own, in the order of those who asked; for its sake idle connections are asked to go. None
    /// if `or_none` and there are not enough of them.
    pub(crate) async fn place(mut self, or_none: bool) -> Option<Place> {
        let free = self.places.free.clone();
        let mut permit = pin!(free.acquire());
        loop {
            if !self.make_room(now_ns()) && or_none {
                return None;
            }
            tokio::select! {
                biased;
                permit = &mut permit => {
                    self.got = true;
                    return permit.ok().map(|permit| Place::new(self.places.clone(), permit));
                }
                () = sleep(Duration::from_nanos(LOOK_AGAIN_NS)) => {}
            }
        }
    }

    /// Asks idle connections to go, as many as are needed for all who wait. Whether there were enough of them.
    pub(crate) fn make_room(&self, now_ns: u64) -> bool {
        let waiting = self.places.waiting();
        self.places.seats.lock().make_room(waiting, now_ns)
    }
}

impl Drop for QueuedClient {
    fn drop(&mut self) {
        let mut seats = self.places.seats.lock();
        let others = self.places.waiting.fetch_sub(1, Ordering::Relaxed) - 1;
        seats.due = if others == 0 { 0 } else { seats.due.saturating_sub(usize::from(self.got)) };
    }
}

/// A place that is taken, until it is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    /// The number of clients of the worker that serves its holder.
    worker: Option<Arc<AtomicUsize>>,
    /// Where its holder's address is bounded.
    _peer: Option<Box<Peer>>,
}

impl Place {
    fn new(places: Arc<Places>, permit: SemaphorePermit<'_>) -> Self {
        // It comes back with the place. To hold it would take 16 bytes more of each client.
        permit.forget();
        places.tell();
        Place { places, worker: None, _peer: None }
    }

    /// Its holder is served by a worker with so many clients, of whom it is one from now on.
    pub(crate) fn on(mut self, clients: &Arc<AtomicUsize>) -> Place {
        clients.fetch_add(1, Ordering::Relaxed);
        self.worker = Some(clients.clone());
        self
    }

    /// Its holder is counted for its address.
    pub(crate) fn of(mut self, peer: Option<Peer>) -> Place {
        self._peer = peer.map(Box::new);
        self
    }

    /// From now on its holder may be asked to give it up.
    pub(crate) fn seat(&self) -> Seat {
        let state = Arc::new(State {
            idle_since_ns: AtomicU64::new(BUSY),
            asked: AtomicBool::new(false),
            waker: Mutex::new(None),
        });
        let mut seats = self.places.seats.lock();
        let number = seats.next;
        seats.next += 1;
        seats.by_number.insert(number, state.clone());
        Seat { places: self.places.clone(), number, state }
    }

    /// Lets another client in, although the connection is open for a moment still, as long as the farewell lives.
    pub(crate) fn give_up(self) -> Farewell {
        match self.places.farewells.clone().try_acquire_owned() {
            Ok(permit) => Farewell { _place: None, _permit: Some(permit) },
            Err(_) => Farewell { _place: Some(self), _permit: None },
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(clients) = &self.worker {
            clients.fetch_sub(1, Ordering::Relaxed);
        }
        self.places.give_back();
    }
}

/// A file that a connection without a place still takes.
pub(crate) struct Farewell {
    _place: Option<Place>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// An HTTP connection among those that may be asked to go.
pub(crate) struct Seat {
    places: Arc<Places>,
    number: u64,
    state: Arc<State>,
}

impl Seat {
    /// Whom to wake when it is asked.
    pub(crate) fn wakes(&self, waker: &Waker) {
        *self.state.waker.lock() = Some(waker.clone());
    }

    /// Tells that it has nothing to do since `since_ns`, or is [`BUSY`]. Whether it is asked to go.
    #[inline]
    pub(crate) fn is_asked(&self, since_ns: u64) -> bool {
        self.state.idle_since_ns.store(since_ns, Ordering::Relaxed);
        self.state.asked.load(Ordering::Relaxed)
    }

    /// It is ending by itself.
    pub(crate) fn is_busy(&self) {
        self.state.idle_since_ns.store(BUSY, Ordering::Relaxed);
    }

    /// It has something to do after all.
    pub(crate) fn declines(&self) {
        let mut seats = self.places.seats.lock();
        if self.state.asked.swap(false, Ordering::Relaxed) {
            seats.due = seats.due.saturating_sub(1);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // It may be among those that were found.
        self.is_busy();
        self.places.seats.lock().by_number.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG_AFTER: u64 = 10 * IDLE_ENOUGH_NS;

    fn full(max: usize) -> (Arc<Places>, Vec<(Place, Seat)>) {
        let places = Places::new(max, Arc::default());
        let holders = (0..max).map(|_| {
            let place = places.take().unwrap();
            let seat = place.seat();
            (place, seat)
        });
        let holders = holders.collect();
        (places, holders)
    }

    #[test]
    fn the_longest_idle_is_asked_and_no_more_than_wait() {
        let (places, holders) = full(4);
        holders[0].1.is_asked(3);
        holders[1].1.is_asked(1);
        holders[2].1.is_asked(BUSY);
        holders[3].1.is_asked(LONG_AFTER - IDLE_ENOUGH_NS + 1);
        let asked = || -> Vec<_> {
            holders.iter().map(|(_, seat)| seat.state.asked.load(Ordering::Relaxed)).collect()
        };
        let first = places.wait();
        assert!(first.make_room(LONG_AFTER) && first.make_room(LONG_AFTER));
        assert_eq!(asked(), [false, true, false, false]);
        let second = places.wait();
        assert!(second.make_room(LONG_AFTER));
        assert_eq!(asked(), [true, true, false, false]);
        let third = places.wait();
        assert!(!third.make_room(LONG_AFTER), "one is busy, one was asked a moment ago");
        // One that declines is no longer due: another is asked, once there is one.
        holders[0].1.declines();
        holders[0].1.is_asked(LONG_AFTER);
        drop(third);
        assert!(!second.make_room(LONG_AFTER));
        assert!(second.make_room(LONG_AFTER + LOOK_AGAIN_NS));
        assert_eq!(asked(), [false, true, false, true]);
    }

    #[test]
    fn one_look_serves_as_many_clients_as_it_finds_connections() {
        const MANY: usize = 10_000;
        let (places, holders) = full(MANY);
        for ((_, seat), number) in holders.iter().zip(0..) {
            seat.is_asked(number);
        }
        let asked = |number: usize| holders[number].1.state.asked.load(Ordering::Relaxed);
        let left = || places.seats.lock().found.len();
        let mut waits: Vec<_> = (0..100).map(|_| places.wait()).collect();
        assert!(waits[0].make_room(LONG_AFTER) && asked(99) && !asked(100));
        // From here on nobody is looked at again: of those who have come to be idle since, none has been for longer.
        holders[200].1.is_asked(LONG_AFTER);
        for _ in 100..MANY - 1 {
            waits.push(places.wait());
            assert!(waits[0].make_room(LONG_AFTER));
            assert_eq!(left(), MANY - waits.len() - usize::from(waits.len() > 200), "{}", waits.len());
        }
        assert!(!asked(200) && asked(MANY - 1));
        waits.push(places.wait());
        assert!(!waits[0].make_room(LONG_AFTER + LOOK_PAUSE_NS * 9_999), "too soon after the last look");
        assert!(!waits[0].make_room(LONG_AFTER + LOOK_PAUSE_NS * 10_000));
        assert!(waits[0].make_room(LONG_AFTER + IDLE_ENOUGH_NS + LOOK_AGAIN_NS) && asked(200));
    }

    #[test]
    fn one_that_is_found_and_leaves_is_not_asked() {
        let (places, mut holders) = full(2);
        holders.iter().zip([2, 1]).for_each(|((_, seat), since_ns)| assert!(!seat.is_asked(since_ns)));
        let first = places.wait();
        assert!(first.make_room(LONG_AFTER));
        drop(holders.remove(0));
        let second = places.wait();
        assert!(!second.make_room(LONG_AFTER), "nobody is left");
    }

    #[test]
    fn what_is_due_ends_with_those_who_wait() {
        let (places, holders) = full(2);
        holders.iter().for_each(|(_, seat)| assert!(!seat.is_asked(0)));
        let waits = places.wait();
        assert!(waits.make_room(LONG_AFTER));
        drop(waits);
        assert_eq!(places.waiting(), 0);
        // The one that was asked may still go; the next who waits asks the other.
        let waits = places.wait();
        assert!(waits.make_room(LONG_AFTER));
        assert!(holders.iter().all(|(_, seat)| seat.is_asked(0)));
    }

    #[test]
    fn fewer_places_cut_nobody_and_let_nobody_in_before_fewer_are_held() {
        let (places, mut holders) = full(4);
        places.resize(2);
        assert!(places.take().is_none());
        holders.truncate(2);
        assert!(places.take().is_none(), "as many are held as there are");
        holders.truncate(1);
        holders.extend(places.take().map(|place| {
            let seat = place.seat();
            (place, seat)
        }));
        assert!(holders.len() == 2 && places.take().is_none());
        // Fewer and more again, before anybody has gone.
        places.resize(1);
        places.resize(3);
        let third = places.take();
        assert!(third.is_some() && places.take().is_none());
        drop((holders, third));
        assert_eq!(places.free.available_permits(), 3);
    }

    #[test]
    fn for_one_who_waits_as_many_are_asked_to_go_as_are_held_beyond() {
        let (places, mut holders) = full(3);
        holders.iter().for_each(|(_, seat)| assert!(!seat.is_asked(0)));
        places.resize(2);
        let waits = places.wait();
        assert!(waits.make_room(LONG_AFTER));
        let asked = |holders: &[(Place, Seat)]| {
            holders.iter().filter(|(_, seat)| seat.state.asked.load(Ordering::Relaxed)).count()
        };
        assert_eq!(asked(&holders), 2);
        let gone = holders.iter().position(|(_, seat)| seat.state.asked.load(Ordering::Relaxed)).unwrap();
        drop(holders.remove(gone));
        assert!(waits.make_room(LONG_AFTER) && asked(&holders) == 1 && places.free.available_permits() == 0);
        let gone = holders.iter().position(|(_, seat)| seat.state.asked.load(Ordering::Relaxed)).unwrap();
        drop(holders.remove(gone));
        assert_eq!((asked(&holders), places.free.available_permits()), (0, 1));
    }

    #[tokio::test]
    async fn at_the_end_there_are_as_many_places_as_when_it_began() {
        let (places, holders) = full(2);
        places.resize(1);
        let mut left = pin!(places.all_left());
        assert!(futures_pending(&mut left).await);
        places.resize(5);
        drop(holders);
        left.await;
        assert!(places.take().is_none());
    }

    async fn futures_pending(future: &mut (impl Future<Output = ()> + Unpin)) -> bool {
        tokio::time::timeout(Duration::ZERO, future).await.is_err()
    }

    #[test]
    fn a_farewell_beyond_the_limit_keeps_its_place() {
        let (places, holders) = full(MOST_FAREWELLS + 1);
        let farewells: Vec<_> = holders.into_iter().map(|(place, _)| place.give_up()).collect();
        assert_eq!(places.free.available_permits(), MOST_FAREWELLS);
        drop(farewells);
        assert_eq!(places.free.available_permits(), MOST_FAREWELLS + 1);
        assert_eq!(places.farewells.available_permits(), MOST_FAREWELLS);
    }
}
