//! TLS handshakes of a worker's clients: bounded in time, in number, and in what they compute in one turn.
//!
//! A client has its place of MAX_CLIENTS before its handshake. All handshakes together hold at most half of the places: where another
//! begins, the oldest ends. Those who stall compute nothing, so they hold up nobody.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

use super::Speaks;
use super::client::{Drain, PATIENCE, Ready, Stream, TlsStream, linger};
use crate::buffer_pool::BufferPool;
use crate::oldest_ends::OldestEnds;
use crate::stats::{TlsOutcome, WorkerStats};
use crate::tls::{begins_tls, tell_refused, tell_that_it_is_tls};

/// Once the program is ending: how long a client that has just come may still take.
const GRACE: Duration = Duration::from_millis(500);

/// What all handshakes have in common.
#[derive(Clone)]
pub(crate) struct HandshakeSettings {
    /// Those that compute in one turn of a worker, at first.
    pub(crate) a_turn: usize,
    /// Those of all workers.
    pub(crate) all: Arc<OldestEnds>,
}

/// The handshakes of one worker.
pub(super) struct Handshakes {
    all: Arc<OldestEnds>,
    turns: Semaphore,
    /// How many turns there are.
    a_turn: Cell<usize>,
    stats: Arc<WorkerStats>,
    buffers: Rc<BufferPool>,
    drain: Drain,
}

impl Handshakes {
    pub(super) fn new(
        settings: HandshakeSettings,
        stats: Arc<WorkerStats>,
        buffers: Rc<BufferPool>,
    ) -> Rc<Self> {
        let HandshakeSettings { a_turn, all } = settings;
        let (turns, a_turn) = (Semaphore::new(a_turn), Cell::new(a_turn));
        Rc::new(Handshakes { all, turns, a_turn, stats, buffers, drain: Drain::default() })
    }

    /// From now on so many compute in one turn. Where they are fewer, those that do so now are waited for.
    pub(super) async fn set_a_turn(&self, a_turn: usize) {
        let before = self.a_turn.replace(a_turn);
        self.turns.add_permits(a_turn.saturating_sub(before));
        let fewer = u32::try_from(before.saturating_sub(a_turn)).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        if let Ok(turns) = self.turns.acquire_many(fewer).await {
            turns.forget();
        }
    }

    pub(super) fn start_draining(&self) {
        self.drain.start();
    }

    /// Makes the stream of a client that has just come; none if it is none, for which the socket is closed.
    pub(super) async fn shake(
        &self,
        mut socket: TcpStream,
        config: Arc<ServerConfig>,
        speaks: Speaks,
        head_timeout: Duration,
    ) -> Option<Stream> {
        let entered = self.all.enter();
        let drained = async {
            if self.drain.since_ns().is_none() {
                self.drain.told().await;
            }
            sleep(GRACE).await;
        };
        let outcome = tokio::select! {
            biased;
            done = timeout(head_timeout, self.negotiate(&socket, config)) => {
                done.unwrap_or(Err(Failed::Late))
            }
            () = entered.must_end() => Err(Failed::Crowded),
            () = drained => Err(Failed::Late),
        };
        let failed = match outcome {
            Ok(tls) => {
                self.stats.count_tls(TlsOutcome::Done);
                return Some(Stream::of_tls(TlsStream::new(socket, tls, self.buffers.clone())));
            }
            Err(failed) => failed,
        };
        self.stats.count_tls(failed.outcome());
        match failed {
            Failed::Plain => {
                let _ = socket.try_write(tell_that_it_is_tls(speaks.port()));
            }
            // With its alert on the way.
            Failed::Refused(error) => tell_refused(speaks.port(), &error),
            Failed::Left | Failed::Late | Failed::Crowded => return None,
        }
        // Until it has gone it counts as one of those that have not done.
        tokio::select! {
            () = linger(&mut socket) => {}
            () = entered.must_end() => {}
        }
        None
    }

    async fn negotiate(
        &self,
        socket: &TcpStream,
        config: Arc<ServerConfig>,
    ) -> Result<ServerConnection, Failed> {
        let mut first = [0];
        match socket.peek(&mut first).await {
            Ok(1) if !begins_tls(&first) => return Err(Failed::Plain),
            Ok(1) => {}
            _ => return Err(Failed::Left),
        }
        let mut tls = ServerConnection::new(config).map_err(Failed::Refused)?;
        // What ends the handshake may be ours to say, and tickets are.
        while tls.is_handshaking() || tls.wants_write() {
            if tls.wants_write() {
                socket.writable().await?;
                now(tls.write_tls(&mut Ready(socket)))?;
                continue;
            }
            socket.readable().await?;
            match now(tls.read_tls(&mut Ready(socket)))? {
                Some(0) => return Err(Failed::Left),
                Some(_) => {}
                None => continue,
            }
            // Others have their turn before the next ones compute. The semaphore is never closed.
            let turn = self.turns.acquire().await;
            yield_now().await;
            let processed = tls.process_new_packets();
            drop(turn);
            if let Err(error) = processed {
                let _ = tls.write_tls(&mut Ready(socket));
                return Err(Failed::Refused(error));
            }
        }
        Ok(tls)
    }
}

/// Why there is no stream.
enum Failed {
    /// What came is not TLS.
    Plain,
    Refused(rustls::Error),
    Left,
    Late,
    Crowded,
}

impl Failed {
    fn outcome(&self) -> TlsOutcome {
        match self {
            Failed::Plain => TlsOutcome::Plain,
            Failed::Refused(_) => TlsOutcome::Refused,
            Failed::Left => TlsOutcome::Left,
            Failed::Late => TlsOutcome::Late,
            Failed::Crowded => TlsOutcome::Crowded,
        }
    }
}

impl From<io::Error> for Failed {
    fn from(_: io::Error) -> Self {
        Failed::Left
    }
}

/// None if it must be waited for.
fn now(outcome: io::Result<usize>) -> io::Result<Option<usize>> {
    match outcome {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        outcome => outcome.map(Some),
    }
}

/// Tells a client of TLS for whom there is no place that it is not its fault, without a handshake: an alert, `internal_error` (RFC
/// 8446, section 6.2).
pub(super) async fn refuse_tls(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];
    if matches!(timeout(PATIENCE, stream.write_all(&ALERT)).await, Ok(Ok(()))) {
        linger(&mut stream).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test(flavor = "local")]
    async fn so_many_compute_in_one_turn_as_was_said_last() {
        let settings = HandshakeSettings { a_turn: 2, all: OldestEnds::new(10) };
        let handshakes = Handshakes::new(settings, Arc::default(), Rc::default());
        let free = || handshakes.turns.available_permits();
        handshakes.set_a_turn(5).await;
        assert_eq!(free(), 5);
        let held = handshakes.turns.acquire_many(4).await.expect("turns");
        {
            let mut fewer = std::pin::pin!(handshakes.set_a_turn(2));
            tokio::select! {
                biased;
                () = &mut fewer => panic!("four compute"),
                () = yield_now() => {}
            }
            drop(held);
            fewer.await;
        }
        assert_eq!(free(), 2);
    }
}
