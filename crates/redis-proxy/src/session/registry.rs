//! The RESP clients of the process, for CLIENT LIST, INFO, KILL and UNBLOCK: one entry a client, written by its worker and
//! read from any.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use resp::Protocol;
use sync::Mutex;

use super::pause::Pauses;
use crate::clock::now_ns;
use crate::lanes::Destination;

/// All RESP clients.
#[derive(Default)]
pub(crate) struct Registry {
    next_id: AtomicU64,
    pub(crate) pauses: Pauses,
    /// How often Redis has changed what users may do, as far as it was asked to here.
    pub(crate) rights_changed: Arc<AtomicU64>,
    /// How long a right is believed in that Redis has shown, in nanoseconds.
    pub(crate) rights_life_ns: AtomicU64,
    // Taken when a client comes or goes and by CLIENT commands; never across an await.
    clients: Mutex<BTreeMap<u64, Arc<Entry>>>,
}

/// Of [`Entry::wishes`]: others have ended it.
const KILLED: u64 = 1;
/// Redis has closed connections of its user, and would not have it again.
const THROWN_OUT: u64 = 2;
/// It will have no pin.
const PIN_REFUSED: u64 = 4;
/// One of the others needs it to have a pin, and to keep it. From here on they are counted.
const PIN: u64 = 8;

/// One client, as the others see it.
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) address: String,
    pub(crate) local_address: String,
    created_ns: u64,
    /// When it was last read from.
    last_ns: AtomicU64,
    /// Where its pin leads, and the id that it is known by there.
    pin: Mutex<Option<(Destination, i64)>>,
    /// What is wanted of it from outside, in one word: its own worker looks at it with each request.
    wishes: AtomicU64,
    /// Those who wait for its pin, or for it to go.
    pin_waiters: Mutex<Vec<Waker>>,
    gone: AtomicBool,
    waker: Mutex<Option<Waker>>,
    pub(crate) details: Mutex<Details>,
}

/// What a client has said of itself, and what state it is in.
#[derive(Clone)]
pub(crate) struct Details {
    pub(crate) name: Bytes,
    pub(crate) user: Bytes,
    /// When Redis let it in as that user; before there was a word of that, when it came.
    pub(crate) logged_in_ns: u64,
    pub(crate) db: u32,
    pub(crate) protocol: Protocol,
    pub(crate) command: String,
    /// Commands queued in its transaction.
    pub(crate) multi: Option<usize>,
    pub(crate) blocked: bool,
    pub(crate) tunnel: Option<Tunnel>,
    pub(crate) subscriptions: [i64; 3],
    /// The client that its invalidations go to, itself if 0; `None` if it does not track.
    pub(crate) redirect: Option<u64>,
}

/// What a client does whose bytes are not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tunnel {
    Monitor,
    Replica,
    /// What a client does, in a state that is not followed.
    Any,
}

impl Registry {
    /// Enters a client.
    pub(crate) fn enter(&self, [address, local_address]: [String; 2], user: Bytes) -> Arc<Entry> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed) + 1;
        let now_ns = now_ns();
        let entry = Arc::new(Entry {
            id,
            address,
            local_address,
            created_ns: now_ns,
            last_ns: AtomicU64::new(now_ns),
            pin: Mutex::new(None),
            wishes: AtomicU64::new(0),
            pin_waiters: Mutex::default(),
            gone: AtomicBool::new(false),
            waker: Mutex::new(None),
            details: Mutex::new(Details {
                name: Bytes::new(),
                user,
                logged_in_ns: now_ns,
                db: 0,
                protocol: Protocol::Resp2,
                command: String::new(),
                multi: None,
                blocked: false,
                tunnel: None,
                subscriptions: [0; 3],
                redirect: None,
            }),
        });
        self.clients.lock().insert(id, entry.clone());
        entry
    }

    pub(crate) fn leave(&self, entry: &Entry) {
        self.clients.lock().remove(&entry.id);
        entry.gone.store(true, Ordering::Relaxed);
        entry.refuse_pin();
    }

    /// Ends a client, which nobody sees any more from here on. It is gone once its own worker has looked at it.
    pub(crate) fn kill(&self, entry: &Entry) {
        self.clients.lock().remove(&entry.id);
        entry.kill();
    }

    /// Everybody, in the order of their coming.
    pub(crate) fn all(&self) -> Vec<Arc<Entry>> {
        self.clients.lock().values().cloned().collect()
    }

    /// Redis has closed the connection on which a user's clients read, at that instant, and would not have that user again. A client that it
    /// has let in since then has come by another password.
    pub(crate) fn throw_out(&self, user: &str, closed_ns: u64) {
        let clients = self.all();
        let is_of = |client: &&Arc<Entry>| {
            let details = client.details.lock();
            details.user == user.as_bytes() && details.logged_in_ns <= closed_ns
        };
        clients.iter().filter(is_of).for_each(|client| client.throw_out());
    }

    pub(crate) fn get(&self, id: u64) -> Option<Arc<Entry>> {
        self.clients.lock().get(&id).cloned()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.clients.lock().len()
    }
}

impl Entry {
    /// Seconds since it came.
    pub(crate) fn age_s(&self) -> u64 {
        now_ns().saturating_sub(self.created_ns) / 1_000_000_000
    }

    pub(crate) fn touch(&self, now_ns: u64) {
        self.last_ns.store(now_ns, Ordering::Relaxed);
    }

    /// It has this pin, or none.
    pub(crate) fn set_pin(&self, pin: Option<(Destination, i64)>) {
        *self.pin.lock() = pin;
        self.wake_pin_waiters();
    }

    /// From now on the client has a pin, whatever it does with it, for one more of the others.
    pub(crate) fn want_pin(&self) {
        self.wishes.fetch_and(!PIN_REFUSED, Ordering::Relaxed);
        // The lock of the pin orders it with the load in `give_up_pin`: whoever looks at the pin does so behind this.
        self.wishes.fetch_add(PIN, Ordering::Relaxed);
        self.wake();
    }

    /// One of them needs it no longer.
    pub(crate) fn release_pin(&self) {
        self.wishes.fetch_sub(PIN, Ordering::Relaxed);
        self.wake();
    }

    pub(crate) fn is_pin_wanted(&self) -> bool {
        let wishes = self.wishes.load(Ordering::Relaxed);
        wishes >= PIN && wishes & PIN_REFUSED == 0
    }

    /// Its pin is to serve another: it has none from here on. False if somebody wants it to have one by now, so that it keeps what it has:
    /// whoever asks meanwhile sees that it has none, or is seen here.
    pub(crate) fn give_up_pin(&self) -> bool {
        let pin = self.pin.lock().take();
        let is_given_up = self.wishes.load(Ordering::Relaxed) < PIN;
        if !is_given_up {
            self.set_pin(pin);
        }
        is_given_up
    }

    /// It has none, and will not get one.
    pub(crate) fn refuse_pin(&self) {
        self.wishes.fetch_or(PIN_REFUSED, Ordering::Relaxed);
        self.wake_pin_waiters();
    }

    /// Has its own worker look at it.
    fn wake(&self) {
        if let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }

    /// Ready once it has a pin, or will have none.
    pub(crate) fn poll_pin(&self, cx: &Context<'_>) -> Poll<bool> {
        self.pin_waiters.lock().push(cx.waker().clone());
        // Both are stored before the waiters are woken: what is not seen here is followed by a wake.
        match (self.pin(), self.is_pin_wanted()) {
            (Some(_), _) => Poll::Ready(true),
            (None, false) => Poll::Ready(false),
            (None, true) => Poll::Pending,
        }
    }

    /// Ready once its connections are closed.
    pub(crate) fn poll_gone(&self, cx: &Context<'_>) -> Poll<()> {
        self.pin_waiters.lock().push(cx.waker().clone());
        // Stored before the waiters are woken, too.
        match self.gone.load(Ordering::Relaxed) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    fn wake_pin_waiters(&self) {
        self.pin_waiters.lock().drain(..).for_each(Waker::wake);
    }

    /// Where its pin leads, and the id that it is known by there, which at another node is that of somebody else.
    pub(crate) fn pin(&self) -> Option<(Destination, i64)> {
        *self.pin.lock()
    }

    /// The task of `cx` is the one that a kill wakes.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        *self.waker.lock() = Some(cx.waker().clone());
    }

    /// Makes the client's own worker close it.
    fn kill(&self) {
        // The waker's lock orders this with the load in `is_killed`: a kill seen late is seen at the wake.
        self.wishes.fetch_or(KILLED, Ordering::Relaxed);
        self.wake();
    }

    /// Makes the client's own worker end it, unless it has a connection to Redis that goes on.
    fn throw_out(&self) {
        // Ordered as in `kill`.
        self.wishes.fetch_or(THROWN_OUT, Ordering::Relaxed);
        if let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }

    /// Whether that has been asked for since the last question.
    pub(crate) fn is_thrown_out(&self) -> bool {
        self.wishes.load(Ordering::Relaxed) & THROWN_OUT != 0
            && self.wishes.fetch_and(!THROWN_OUT, Ordering::Relaxed) & THROWN_OUT != 0
    }

    pub(crate) fn is_killed(&self) -> bool {
        self.wishes.load(Ordering::Relaxed) & KILLED != 0
    }

    /// Whether nobody wants anything of it.
    #[inline]
    pub(crate) fn is_let_alone(&self) -> bool {
        self.wishes.load(Ordering::Relaxed) & !PIN_REFUSED == 0
    }

    /// Its kind, as `CLIENT LIST TYPE` has it.
    pub(crate) fn kind(&self) -> &'static str {
        let details = self.details.lock();
        match details.tunnel {
            Some(Tunnel::Replica) => "replica",
            _ if details.subscriptions != [0; 3] => "pubsub",
            _ => "normal",
        }
    }

    /// Its line in CLIENT LIST, in the form of Redis 7.0 (networking.c, `catClientInfoString`). Figures that the proxy does
    /// not have are 0; `unread` is what is held of its requests.
    pub(crate) fn line(&self, unread: usize) -> Vec<u8> {
        let now_ns = now_ns();
        let seconds = |since: u64| now_ns.saturating_sub(since) / 1_000_000_000;
        let details = self.details.lock().clone();
        let mut flags = String::new();
        for (flag, set) in [
            ('O', details.tunnel == Some(Tunnel::Monitor)),
            ('S', details.tunnel == Some(Tunnel::Replica)),
            ('P', details.subscriptions != [0; 3]),
            ('x', details.multi.is_some()),
            ('b', details.blocked),
            ('t', details.redirect.is_some()),
        ] {
            if set {
                flags.push(flag);
            }
        }
        if flags.is_empty() {
            flags.push('N');
        }
        let mut line =
            format!("id={} addr={} laddr={} fd=0 name=", self.id, self.address, self.local_address)
                .into_bytes();
        line.extend_from_slice(&details.name);
        let mut rest = String::new();
        let [channels, patterns, shards] = details.subscriptions;
        let _ = write!(
            rest,
            " age={} idle={} flags={flags} db={} sub={channels} psub={patterns} ssub={shards} multi={} qbuf={unread} \
             qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd={} user=",
            seconds(self.created_ns),
            seconds(self.last_ns.load(Ordering::Relaxed)),
            details.db,
            details.multi.map_or(-1, |queued| i64::try_from(queued).unwrap_or(i64::MAX)),
            if details.command.is_empty() { "NULL" } else { &details.command },
        );
        line.extend_from_slice(rest.as_bytes());
        line.extend_from_slice(&details.user);
        let version = if details.protocol == Protocol::Resp3 { 3 } else { 2 };
        let redirect = details.redirect.map_or(-1, |id| i64::try_from(id).unwrap_or(i64::MAX));
        line.extend_from_slice(format!(" redir={redirect} resp={version}\n").as_bytes());
        line
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::{hint, thread};

    use super::*;

    const ROUNDS: usize = 1 << 16;

    #[test]
    fn each_wish_of_others_is_seen_and_none_is_taken_for_another() {
        let registry = Registry::default();
        let entry = registry.enter(["127.0.0.1:1", "127.0.0.1:2"].map(String::from), Bytes::new());
        let seen = || (entry.is_let_alone(), entry.is_pin_wanted(), entry.is_killed());
        assert_eq!(seen(), (true, false, false));
        entry.want_pin();
        entry.want_pin();
        entry.release_pin();
        assert_eq!(seen(), (false, true, false));
        entry.refuse_pin();
        assert_eq!(seen(), (false, false, false), "it is wanted and refused: somebody waits");
        entry.want_pin();
        assert_eq!(seen(), (false, true, false));
        entry.throw_out();
        assert_eq!((entry.is_thrown_out(), entry.is_thrown_out()), (true, false), "told once");
        entry.release_pin();
        entry.release_pin();
        assert_eq!(seen(), (true, false, false));
        registry.kill(&entry);
        assert_eq!(seen(), (false, false, true));
        entry.refuse_pin();
        assert_eq!(seen(), (false, false, true));
    }

    #[test]
    fn a_pin_that_another_has_seen_is_not_given_up() {
        let registry = Registry::default();
        let entry = registry.enter(["127.0.0.1:1", "127.0.0.1:2"].map(String::from), Bytes::new());
        let turns = Barrier::new(2);
        let given_up = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..ROUNDS {
                    turns.wait();
                    (0..round % 256).for_each(|_| hint::spin_loop());
                    given_up.store(entry.give_up_pin(), Ordering::Relaxed);
                    turns.wait();
                }
            });
            let mut taken = 0;
            for round in 0..ROUNDS {
                entry.set_pin(Some((Destination::home(), 7)));
                turns.wait();
                // One is ahead of the other by more or by less.
                (0..round / 256 % 256).for_each(|_| hint::spin_loop());
                entry.want_pin();
                let seen = entry.pin();
                turns.wait();
                taken += usize::from(seen.is_some() && given_up.load(Ordering::Relaxed));
                entry.release_pin();
            }
            assert_eq!(taken, 0, "what was seen is another's");
        });
    }
}
