//! The handle that commands go into, and the queue behind it that the driver empties.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use bytes::BytesMut;
use sync::Mutex;
use tokio::time::Instant;

use crate::backend::Backend;
use crate::raw::Credentials;
use crate::sink::Loss;

/// What a sender can expect of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// The first attempt since the start or since the last working connection: commands queue.
    Connecting,
    /// Commands are on their way at once.
    Up,
    /// The last attempt failed: commands are refused until a later one succeeds.
    Down(Loss),
}

/// A command that was not taken, with its ticket given back.
#[derive(Debug)]
pub struct Unsent<T> {
    /// The ticket, untouched.
    pub ticket: T,
    /// Why.
    pub loss: Loss,
}

/// What waits for a reply, in the order of the wire.
pub(crate) enum Awaited<T> {
    Reply(T),
    /// The first command of a pair: it counts with the second.
    Prelude(T),
    /// A subscription: a push confirms it, and only an error is a reply. It counts with none.
    Confirmed(T),
    /// A heartbeat of our own; its reply is dropped.
    Pong,
    /// A login of our own; its reply is noted and dropped.
    Login,
}

pub(crate) struct Outstanding<T> {
    pub(crate) awaited: Awaited<T>,
    pub(crate) sent: Instant,
}

pub(crate) struct Queue<T> {
    /// Encoded commands that the driver has not taken yet.
    pub(crate) out: BytesMut,
    /// One slot a command that has no reply yet, those in `out` included.
    pub(crate) slots: VecDeque<Outstanding<T>>,
    pub(crate) state: ConnectionState,
    /// The connection that is up is to be closed and made anew: so many slots, the first ones, are lost with it.
    pub(crate) renew: Option<usize>,
    /// The driver, when it has nothing to write.
    pub(crate) driver: Option<Waker>,
}

pub(crate) struct Shared<T> {
    // One short lock a command: the driver and the workers' tasks of one thread, readiness probes from others.
    pub(crate) queue: Mutex<Queue<T>>,
    pub(crate) backend: Arc<Backend>,
}

impl<T> Shared<T> {
    pub(crate) fn new(backend: Arc<Backend>) -> Arc<Self> {
        let queue = Queue {
            out: BytesMut::new(),
            slots: VecDeque::new(),
            state: ConnectionState::Connecting,
            renew: None,
            driver: None,
        };
        Arc::new(Shared { queue: Mutex::new(queue), backend })
    }

    /// Takes the oldest slot; the reply in hand is its own.
    pub(crate) fn pop(&self) -> Option<Outstanding<T>> {
        let slot = {
            let mut queue = self.queue.lock();
            queue.renew = queue.renew.map(|old| old.saturating_sub(1));
            queue.slots.pop_front()?
        };
        self.leave(&slot);
        Some(slot)
    }

    /// Moves to `state` and takes every slot and every unsent byte with it.
    pub(crate) fn drain_into(&self, state: ConnectionState) -> VecDeque<Outstanding<T>> {
        let slots = {
            let mut queue = self.queue.lock();
            queue.state = state;
            queue.renew = None;
            queue.out.clear();
            std::mem::take(&mut queue.slots)
        };
        slots.iter().for_each(|slot| self.leave(slot));
        slots
    }

    /// Takes the slots that are lost with a connection which was to be made anew; what was sent since stays for the next one.
    pub(crate) fn drain_renewed(&self) -> Option<VecDeque<Outstanding<T>>> {
        let slots = {
            let mut queue = self.queue.lock();
            let old = queue.renew.take()?.min(queue.slots.len());
            let newer = queue.slots.split_off(old);
            std::mem::replace(&mut queue.slots, newer)
        };
        slots.iter().for_each(|slot| self.leave(slot));
        Some(slots)
    }

    /// Queues a heartbeat: a PING, or what needs no right where this user may not `ping`.
    pub(crate) fn beat(&self, may_ping: bool) {
        let mut queue = self.queue.lock();
        resp::encode_command(&mut queue.out, &[if may_ping { b"PING" } else { b"HELLO" }]);
        queue.slots.push_back(Outstanding { awaited: Awaited::Pong, sent: Instant::now() });
    }

    /// Queues a login, unless the connection is about to be made anew: then it logs in by that.
    pub(crate) fn log_in(&self, who: &Credentials) {
        let mut queue = self.queue.lock();
        if queue.state != ConnectionState::Up {
            return;
        }
        who.encode(&mut queue.out);
        queue.slots.push_back(Outstanding { awaited: Awaited::Login, sent: Instant::now() });
        let driver = queue.driver.take();
        drop(queue);
        wake(driver);
    }

    fn leave(&self, slot: &Outstanding<T>) {
        if matches!(slot.awaited, Awaited::Reply(_)) {
            self.backend.in_flight.leave();
        }
    }
}

impl<T> Drop for Shared<T> {
    /// A connection that ends for good may leave commands behind, which count with those of others.
    fn drop(&mut self) {
        self.drain_into(ConnectionState::Connecting);
    }
}

/// A command on its way out.
#[derive(Clone, Copy)]
pub enum Sendable<'a> {
    /// Its name and arguments.
    Arguments(&'a [&'a [u8]]),
    /// The bytes of exactly one whole command, as [`resp::encode_command`] writes them; what else they were would come to Redis.
    Encoded(&'a [u8]),
}

impl Sendable<'_> {
    fn encode(self, out: &mut BytesMut) {
        match self {
            Sendable::Arguments(arguments) => resp::encode_command(out, arguments),
            Sendable::Encoded(bytes) => out.extend_from_slice(bytes),
        }
    }
}

/// A handle to one connection; clones are the same connection. Usable from any thread.
pub struct Upstream<T> {
    pub(crate) shared: Arc<Shared<T>>,
}

impl<T> Clone for Upstream<T> {
    fn clone(&self) -> Self {
        Upstream { shared: self.shared.clone() }
    }
}

impl<T> Upstream<T> {
    /// Queues one command, by its arguments; its reply comes to the sink with `ticket`. Never waits: one lock, one copy of the
    /// arguments. Commands of one handle reach Redis in the order of the calls.
    ///
    /// # Errors
    /// [`Unsent`] while the connection is known to be down, or with [`Loss::Full`] at the limit of commands in
    /// flight. Asking while it is down brings the next attempt nearer.
    pub fn send(&self, arguments: &[&[u8]], ticket: T) -> Result<(), Unsent<T>> {
        self.send_after(None, Sendable::Arguments(arguments), ticket)
    }

    /// Queues a command, behind another if there is a `prelude`: side by side, no other comes between them. Their replies come one
    /// after the other, the first with `prelude.1`. They count as one in flight.
    ///
    /// # Errors
    /// As [`send`](Upstream::send); the first ticket is dropped.
    pub fn send_after(
        &self,
        prelude: Option<(Sendable<'_>, T)>,
        command: Sendable<'_>,
        ticket: T,
    ) -> Result<(), Unsent<T>> {
        let mut queue = self.shared.queue.lock();
        if let ConnectionState::Down(loss) = &queue.state {
            let loss = loss.clone();
            drop(queue);
            self.shared.backend.demand.call();
            return Err(Unsent { ticket, loss });
        }
        if !self.shared.backend.in_flight.enter() {
            return Err(Unsent { ticket, loss: Loss::Full });
        }
        let sent = Instant::now();
        if let Some((command, ticket)) = prelude {
            command.encode(&mut queue.out);
            queue.slots.push_back(Outstanding { awaited: Awaited::Prelude(ticket), sent });
        }
        command.encode(&mut queue.out);
        queue.slots.push_back(Outstanding { awaited: Awaited::Reply(ticket), sent });
        let driver = queue.driver.take();
        drop(queue);
        wake(driver);
        Ok(())
    }

    /// Queues commands that belong together: no other comes between them, and all or none are taken. Each has a ticket of its
    /// own; they count as one in flight.
    ///
    /// # Errors
    /// As [`send`](Upstream::send); the tickets are dropped.
    pub fn send_all(&self, commands: Vec<(&[&[u8]], T)>) -> Result<(), Loss> {
        let mut queue = self.shared.queue.lock();
        if let ConnectionState::Down(loss) = &queue.state {
            return Err(loss.clone());
        }
        if !self.shared.backend.in_flight.enter() {
            return Err(Loss::Full);
        }
        let (sent, last) = (Instant::now(), commands.len().saturating_sub(1));
        for (number, (arguments, ticket)) in commands.into_iter().enumerate() {
            resp::encode_command(&mut queue.out, arguments);
            let awaited = if number == last { Awaited::Reply(ticket) } else { Awaited::Prelude(ticket) };
            queue.slots.push_back(Outstanding { awaited, sent });
        }
        let driver = queue.driver.take();
        drop(queue);
        wake(driver);
        Ok(())
    }

    /// Queues a subscription by its arguments, to one channel: what confirms it, a push of the kind that is the command's name in lower
    /// case, or the error that does not, comes to the sink as its reply.
    ///
    /// # Errors
    /// [`Unsent`] while the connection is known to be down.
    pub fn subscribe(&self, arguments: &[&[u8]], ticket: T) -> Result<(), Unsent<T>> {
        let mut queue = self.shared.queue.lock();
        if let ConnectionState::Down(loss) = &queue.state {
            let loss = loss.clone();
            return Err(Unsent { ticket, loss });
        }
        resp::encode_command(&mut queue.out, arguments);
        queue.slots.push_back(Outstanding { awaited: Awaited::Confirmed(ticket), sent: Instant::now() });
        let driver = queue.driver.take();
        drop(queue);
        wake(driver);
        Ok(())
    }

    /// How long Redis may be silent with answers due.
    pub fn silence_timeout(&self) -> Duration {
        self.shared.backend.endpoint.limits.silence_timeout()
    }

    /// Closes the connection that is up, if one is: what is sent from now on travels on a new one, wherever the address leads then.
    /// What is on its way is lost with it.
    pub fn renew(&self) {
        let mut queue = self.shared.queue.lock();
        if queue.state != ConnectionState::Up {
            return;
        }
        queue.renew = Some(queue.slots.len());
        // Nothing more goes to this one.
        queue.out.clear();
        queue.state = ConnectionState::Connecting;
        let driver = queue.driver.take();
        drop(queue);
        wake(driver);
    }

    /// The address that it leads to at this moment.
    pub fn place(&self) -> String {
        self.shared.backend.endpoint.node.place().to_string()
    }

    /// The connection's state at this moment.
    pub fn state(&self) -> ConnectionState {
        self.shared.queue.lock().state.clone()
    }
}

/// A handle that does not keep its connection's queue, for what may outlive it.
pub struct WeakUpstream<T>(Weak<Shared<T>>);

impl<T> Upstream<T> {
    /// A handle of that kind to this connection.
    pub fn downgrade(&self) -> WeakUpstream<T> {
        WeakUpstream(Arc::downgrade(&self.shared))
    }
}

impl<T> WeakUpstream<T> {
    /// The connection, if anybody has a handle to it.
    pub fn upgrade(&self) -> Option<Upstream<T>> {
        self.0.upgrade().map(|shared| Upstream { shared })
    }
}

fn wake(driver: Option<Waker>) {
    if let Some(waker) = driver {
        sync::wakes::wake(waker);
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Account, Address, ConnectionLimits, Endpoint, RedisNode, connect};

    #[test]
    fn commands_of_a_connection_that_has_ended_count_no_more() {
        let endpoint = Endpoint {
            node: RedisNode::at(Address::Unix("/nowhere".into())),
            cluster: None,
            tls: None,
            login: Account::default(),
            db: 0,
            limits: ConnectionLimits {
                connect_timeout: Duration::from_secs(1),
                silence_timeout: Duration::from_secs(1),
                ping_interval: Duration::from_secs(1),
                max_reply_bytes: 1,
            }
            .into(),
        };
        let backend = Backend::new(endpoint.clone(), 1);
        let (one, driver) = connect::<()>(&backend);
        let (two, _driver) = connect::<()>(&backend.beside(endpoint));
        assert!(one.send(&[b"PING"], ()).is_ok() && two.send(&[b"PING"], ()).is_err());
        drop((one, driver));
        assert!(two.send(&[b"PING"], ()).is_ok());
    }
}
