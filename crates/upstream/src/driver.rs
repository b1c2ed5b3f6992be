//! The task behind a handle: connects, serves, loses, waits, connects again, for as long as the program runs.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{Instrument, Span, debug, info, warn};

use crate::backend::Backend;
use crate::backoff::Backoff;
use crate::connection::Connection;
use crate::handshake::greet;
use crate::queue::{Awaited, ConnectionState, Outstanding, Shared, Upstream};
use crate::sink::{Incarnation, Loss, Sink};
use crate::stream::{Duplex, open};
use crate::tracking::Tracking;

/// While somebody waits, an attempt that has been silent for this long gets a fresh one beside it: what swallowed
/// the first one's bytes may be gone.
const FRESH_ATTEMPT: Duration = Duration::from_millis(150);

/// A connection that has stood for this long is no attempt any more.
const SETTLED: Duration = Duration::from_secs(1);

/// Incarnations are unique in the process, over all connections.
static INCARNATIONS: AtomicU64 = AtomicU64::new(1);

/// Makes a handle and the driver that must be run for it. Nothing is connected before [`Driver::run`].
pub fn connect<T>(backend: &Arc<Backend>) -> (Upstream<T>, Driver<T>) {
    let shared = Shared::new(backend.clone());
    (Upstream { shared: shared.clone() }, Driver { shared, backend: backend.clone() })
}

/// A stream at the point where commands may be sent.
pub(crate) struct Greeted {
    pub(crate) stream: Box<dyn Duplex>,
    /// The generation of the node that it leads to.
    pub(crate) generation: u64,
}

/// Owns the socket of one [`Upstream`].
pub struct Driver<T> {
    shared: Arc<Shared<T>>,
    backend: Arc<Backend>,
}

impl<T> Driver<T> {
    /// NodeDrivers the connection for ever; what is logged of it stands in `span`. Dropping the future closes the socket and leaves what
    /// was sent unanswered.
    ///
    /// The span is not entered while a connection serves: nothing is logged there, and each poll would cost 200 instructions more.
    pub async fn run<S: Sink<Ticket = T>>(self, span: Span, sink: S) {
        let endpoint = &self.backend.endpoint;
        let mut backoff = Backoff::new();
        let mut returns = self.backend.returns.subscribe();
        let mut reported = None;
        let mut silent = false;
        let mut useless = 0;
        loop {
            returns.mark_unchanged();
            let generation = endpoint.node.generation();
            let attempt = self.attempt(&sink, std::mem::take(&mut silent)).instrument(span.clone());
            let outcome = tokio::select! {
                outcome = attempt => outcome,
                () = endpoint.node.left(generation) => {
                    backoff.reset();
                    self.look_anew();
                    continue;
                }
            };
            let loss = match outcome {
                Ok((greeted, tracking)) => {
                    reported = None;
                    let since = Instant::now();
                    let (loss, useful) = self.serve(&span, &sink, greeted, &tracking).await;
                    if let Some(slots) = self.shared.drain_renewed() {
                        info!(parent: &span, redis = %endpoint.node.place(), "connection to redis made anew");
                        sink.disconnected(&loss);
                        self.tell_lost(&sink, slots, &loss);
                        continue;
                    }
                    // Worth an attempt at once, used or not: whoever cut it may have cut it among others. A server that only greets
                    // and closes is not, nor one that does so on every command.
                    let settled = useful || since.elapsed() >= SETTLED || loss == Loss::Departed;
                    useless = if settled { 0 } else { useless + 1 };
                    if useless <= 1 {
                        match loss {
                            Loss::Departed => {
                                info!(parent: &span, redis = %endpoint.node.place(), "redis is elsewhere")
                            }
                            _ => {
                                warn!(parent: &span, redis = %endpoint.node.place(), reason = %loss, "connection to redis lost")
                            }
                        }
                        backoff.reset();
                        silent = loss == Loss::Silent;
                        self.lose(&sink, ConnectionState::Connecting, &loss);
                        continue;
                    }
                    loss
                }
                Err(loss) => loss,
            };
            // The same reason is told once, not at each attempt.
            if reported.as_ref() == Some(&loss) {
                debug!(parent: &span, redis = %endpoint.node.place(), reason = %loss, "redis still unavailable");
            } else {
                warn!(parent: &span, redis = %endpoint.node.place(), reason = %loss, "redis unavailable");
                reported = Some(loss.clone());
            }
            self.lose(&sink, ConnectionState::Down(loss.clone()), &loss);
            if self.wait(&mut backoff, &mut returns, generation).await {
                backoff.reset();
                self.look_anew();
            }
        }
    }

    /// The node is at another place: those who ask need not be refused before that has been tried.
    fn look_anew(&self) {
        self.shared.queue.lock().state = ConnectionState::Connecting;
    }

    /// One attempt, and beside it, while somebody waits and it is silent, a second one that is made anew now and
    /// then. The first stays: on a slow link it is the one that gets there.
    ///
    /// After a connection that fell `silent` commands are refused as soon as the attempt is silent as well.
    async fn attempt<S: Sink<Ticket = T>>(
        &self,
        sink: &S,
        mut silent: bool,
    ) -> Result<(Greeted, Tracking), Loss> {
        let resolved = AtomicBool::new(false);
        let mut first = pin!(self.connect(&resolved));
        let mut second: Option<Pin<Box<_>>> = None;
        loop {
            tokio::select! {
                outcome = &mut first => return outcome,
                outcome = async {
                    match second.as_mut() {
                        Some(second) => second.await,
                        None => pending().await,
                    }
                } => return outcome,
                () = sleep(FRESH_ATTEMPT) => {
                    if std::mem::take(&mut silent) {
                        let loss = Loss::Unreachable("it does not answer".into());
                        self.refuse(sink, ConnectionState::Down(loss.clone()), &loss);
                    }
                    // A look-up occupies a thread until the resolver gives up: never two of them.
                    if self.somebody_waits() && resolved.swap(false, Ordering::Relaxed) {
                        second = Some(Box::pin(self.connect(&resolved)));
                    }
                }
            }
        }
    }

    /// Opens and greets, within the connect time-out; `resolved` is set once the name has been.
    async fn connect(&self, resolved: &AtomicBool) -> Result<(Greeted, Tracking), Loss> {
        let endpoint = &self.backend.endpoint;
        let connect = async {
            let start = Instant::now();
            let mut who = endpoint.as_of_now().await;
            loop {
                let (mut stream, generation) = open(&who, resolved)
                    .await
                    .map_err(|error| Loss::Unreachable(error.to_string().into()))?;
                let loss = match greet(&mut *stream, &self.backend, &who).await {
                    Ok(tracking) => return Ok((Greeted { stream, generation }, tracking)),
                    Err(loss) => loss,
                };
                let passing = matches!(loss, Loss::Refused(_) | Loss::Unreachable(_));
                let older = endpoint.proven_before(&who).filter(|_| matches!(loss, Loss::Refused(_)));
                if older.is_none() && (!passing || !endpoint.may_disagree(start).await) {
                    return Err(loss);
                }
                who = match older {
                    Some(older) => older,
                    None => endpoint.as_of_now().await,
                };
            }
        };
        match timeout(endpoint.limits.connect_timeout(), connect).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Loss::Unreachable(endpoint.too_late().into())),
        }
    }

    /// Serves one connection over a stream that has been greeted, until it is lost. Why, and whether a command was ever
    /// answered.
    async fn serve<S: Sink<Ticket = T>>(
        &self,
        span: &Span,
        sink: &S,
        greeted: Greeted,
        tracking: &Tracking,
    ) -> (Loss, bool) {
        let endpoint = &self.backend.endpoint;
        let number = INCARNATIONS.fetch_add(1, Ordering::Relaxed);
        let incarnation = Incarnation { number, generation: greeted.generation };
        info!(parent: span, redis = %endpoint.node.place(), incarnation = number, "connected to redis");
        self.backend.returns.send_modify(|count| *count += 1);
        sink.connected(incarnation, tracking);
        self.shared.queue.lock().state = ConnectionState::Up;
        let mut connection = Connection::new(greeted, &self.shared, sink, endpoint);
        let loss = match endpoint.login.reauth {
            None => connection.serve().await,
            Some(_) => tokio::select! {
                biased;
                loss = connection.serve() => loss,
                never = self.shared.log_in_again(endpoint) => match never {},
            },
        };
        (loss, connection.was_useful())
    }

    fn somebody_waits(&self) -> bool {
        self.backend.demand.is_there() || self.awaits_replies()
    }

    fn awaits_replies(&self) -> bool {
        !self.shared.queue.lock().slots.is_empty()
    }

    /// Notes that a connection or an attempt ended.
    fn lose<S: Sink<Ticket = T>>(&self, sink: &S, state: ConnectionState, loss: &Loss) {
        if *loss != Loss::Departed {
            self.backend.endpoint.node.doubt();
        }
        sink.disconnected(loss);
        self.refuse(sink, state, loss);
    }

    /// Moves to `state`, then tells everyone who waited; what they send again meets the new state.
    fn refuse<S: Sink<Ticket = T>>(&self, sink: &S, state: ConnectionState, loss: &Loss) {
        let slots = self.shared.drain_into(state);
        self.tell_lost(sink, slots, loss);
    }

    fn tell_lost<S: Sink<Ticket = T>>(&self, sink: &S, slots: VecDeque<Outstanding<T>>, loss: &Loss) {
        for slot in slots {
            if let Awaited::Reply(ticket) | Awaited::Prelude(ticket) | Awaited::Confirmed(ticket) =
                slot.awaited
            {
                sink.lost(ticket, loss);
            }
        }
    }

    /// Sleeps until the next attempt. Somebody who asks meanwhile brings it nearer, on whichever connection; one that
    /// got through brings it about. Whether the node has moved, which does as well.
    async fn wait(&self, backoff: &mut Backoff, returns: &mut watch::Receiver<u64>, generation: u64) -> bool {
        let failed = Instant::now();
        let idle = backoff.idle_deadline(failed);
        let wanted = Backoff::wanted_deadline(failed).min(idle);
        let called = self.backend.demand.called();
        let deadline = if self.backend.demand.is_there() { wanted } else { idle };
        tokio::select! {
            () = sleep_until(deadline) => false,
            () = async {
                called.await;
                sleep_until(wanted).await;
            } => false,
            // Not with an error: we hold a sender.
            _ = returns.changed() => false,
            () = self.backend.endpoint.node.left(generation) => true,
        }
    }
}

/// The steps of [`run`](Driver::run) one by one, for schedules: there the test makes the streams and says when they break.
#[cfg(feature = "shuttle")]
impl<T> Driver<T> {
    /// Serves a tracked connection over `stream`, which counts as greeted and leads to this `generation` of the node, until it is
    /// lost.
    pub async fn serve_tracked<S: Sink<Ticket = T>>(
        &self,
        sink: &S,
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
        generation: u64,
    ) -> Loss {
        let greeted = Greeted { stream: Box::new(stream), generation };
        self.serve(&Span::none(), sink, greeted, &Tracking::On { fields_expire: false }).await.0
    }

    /// Notes that the connection ended. With `down` the attempt after it is taken for failed, and commands are refused.
    pub fn lose_connection<S: Sink<Ticket = T>>(&self, sink: &S, loss: &Loss, down: bool) {
        self.lose(
            sink,
            if down { ConnectionState::Down(loss.clone()) } else { ConnectionState::Connecting },
            loss,
        );
    }
}
