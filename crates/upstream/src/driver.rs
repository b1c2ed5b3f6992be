//! The task behind a handle: connects, serves, loses, waits, connects again, for as long as the program runs.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};

use crate::backoff::Backoff;
use crate::connection::Connection;
use crate::endpoint::Endpoint;
use crate::handshake::greet;
use crate::queue::{Awaited, InFlight, Shared, Slot, State, Upstream};
use crate::sink::{Loss, Sink};
use crate::stream::{Duplex, open};

/// Incarnations are unique in the process, over all connections.
static INCARNATIONS: AtomicU64 = AtomicU64::new(1);

/// Makes a handle and the driver that must be run for it. Nothing is connected before [`Driver::run`].
pub fn connect<T>(endpoint: Arc<Endpoint>, in_flight: Arc<InFlight>) -> (Upstream<T>, Driver<T>) {
    let shared = Shared::new(in_flight);
    (Upstream { shared: shared.clone() }, Driver { shared, endpoint })
}

/// Owns the socket of one [`Upstream`].
pub struct Driver<T> {
    shared: Arc<Shared<T>>,
    endpoint: Arc<Endpoint>,
}

impl<T> Driver<T> {
    /// Drives the connection for ever. Dropping the future closes the socket and leaves what was sent unanswered.
    pub async fn run<S: Sink<Ticket = T>>(self, sink: S) {
        let mut backoff = Backoff::new();
        let mut reported = None;
        loop {
            let loss = match self.attempt().await {
                Ok(stream) => {
                    let incarnation = INCARNATIONS.fetch_add(1, Ordering::Relaxed);
                    info!(redis = %self.endpoint.address, incarnation, "connected to redis");
                    reported = None;
                    sink.connected(incarnation);
                    self.shared.queue.lock().state = State::Up;
                    let mut connection = Connection::new(stream, &self.shared, &sink, &self.endpoint);
                    let loss = connection.serve().await;
                    if connection.was_useful() {
                        drop(connection);
                        warn!(redis = %self.endpoint.address, reason = %loss, "connection to redis lost");
                        backoff.reset();
                        self.lose(&sink, State::Connecting, &loss);
                        continue;
                    }
                    loss
                }
                Err(loss) => loss,
            };
            // The same reason is told once, not at each attempt.
            if reported.as_ref() == Some(&loss) {
                debug!(redis = %self.endpoint.address, reason = %loss, "redis still unavailable");
            } else {
                warn!(redis = %self.endpoint.address, reason = %loss, "redis unavailable");
                reported = Some(loss.clone());
            }
            self.lose(&sink, State::Down(loss.clone()), &loss);
            self.wait(&mut backoff).await;
        }
    }

    async fn attempt(&self) -> Result<Box<dyn Duplex>, Loss> {
        let endpoint = &*self.endpoint;
        let connect = async {
            let mut stream =
                open(endpoint).await.map_err(|error| Loss::Unreachable(error.to_string().into()))?;
            greet(&mut *stream, endpoint).await?;
            Ok(stream)
        };
        match timeout(endpoint.connect_timeout, connect).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let why = format!("no connection within {:?}", endpoint.connect_timeout);
                Err(Loss::Unreachable(why.into()))
            }
        }
    }

    /// Moves to `state`, then tells everyone who waited; what they send again meets the new state.
    fn lose<S: Sink<Ticket = T>>(&self, sink: &S, state: State, loss: &Loss) {
        let slots: VecDeque<Slot<T>> = self.shared.drain_into(state);
        sink.disconnected(loss);
        for slot in slots {
            if let Awaited::Reply(ticket) = slot.awaited {
                sink.lost(ticket, loss);
            }
        }
    }

    /// Sleeps until the next attempt; somebody who asks meanwhile brings it nearer.
    async fn wait(&self, backoff: &mut Backoff) {
        let failed = Instant::now();
        let mut sleep = Box::pin(sleep_until(backoff.idle_deadline(failed)));
        let mut near = false;
        poll_fn(|cx| {
            {
                let mut queue = self.shared.queue.lock();
                queue.driver = Some(cx.waker().clone());
                if std::mem::take(&mut queue.wanted) && !near {
                    near = true;
                    let wanted = Backoff::wanted_deadline(failed);
                    if wanted < sleep.deadline() {
                        sleep.as_mut().reset(wanted);
                    }
                }
            }
            match std::future::Future::poll(sleep.as_mut(), cx) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
    }
}
