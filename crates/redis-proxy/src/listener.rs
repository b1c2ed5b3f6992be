//! The door of both data ports: an acceptor each, MAX_CLIENTS places together, a bounded queue for those who come later.
//!
//! ```text
//!   accept -> a place is free        -> the worker with the fewest clients
//!          -> none, the queue has room -> waits in order, at most CLIENT_WAIT -> worker, or 503
//!          -> none, the queue is full  -> 503
//! ```
//!
//! Redis clients share the places and never queue: Redis tells them at once, so they do not expect to wait.

use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::front::{Refusals, Speaks};
use crate::worker::Worker;

/// Connections that the kernel completes and keeps for us.
const BACKLOG: i32 = 4096;
/// Connections that are being told 503 at the same time; above it accepting waits.
pub(crate) const MOST_REFUSALS: usize = 256;
/// How long accepting rests when the system has no file or memory to give.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// It is told again only after this long without it: files come and go while they are short.
const EXHAUSTED_QUIET: Duration = Duration::from_secs(10);

/// Binds a listening socket.
///
/// # Errors
/// The name does not resolve, the address is in use or not ours.
pub(crate) fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        let bound =
            Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).and_then(|socket| {
                socket.set_reuse_address(true)?;
                socket.bind(&address.into())?;
                socket.listen(BACKLOG)?;
                socket.set_nonblocking(true)?;
                Ok(socket)
            });
        match bound {
            Ok(socket) => return Ok(socket.into()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The places of MAX_CLIENTS and the queue in front of them, shared by all data fronts.
pub(crate) struct Door {
    places: Arc<Semaphore>,
    queue: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    /// Clients in the queue. Beside its semaphore, whose permits are taken for good at the end.
    waiting: AtomicUsize,
    max_clients: usize,
    max_waiting: usize,
    client_wait: Duration,
}

impl Door {
    pub(crate) fn new(max_clients: usize, max_waiting: usize, client_wait: Duration) -> Self {
        Door {
            places: Arc::new(Semaphore::new(max_clients)),
            queue: Arc::new(Semaphore::new(max_waiting)),
            refusals: Arc::new(Semaphore::new(MOST_REFUSALS)),
            waiting: AtomicUsize::new(0),
            max_clients,
            max_waiting,
            client_wait,
        }
    }

    /// Clients that wait for one.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Returns once nobody waits, every place is free and nobody is being turned away. Nobody comes in afterwards.
    pub(crate) async fn all_left(&self) {
        // In the order of a client's way, so that nobody changes from one to another behind our back.
        let stations = [
            (&self.queue, self.max_waiting),
            (&self.places, self.max_clients),
            (&self.refusals, MOST_REFUSALS),
        ];
        for (station, size) in stations {
            let all = u32::try_from(size).unwrap_or(u32::MAX);
            if let Ok(permits) = station.acquire_many(all).await {
                permits.forget();
            }
        }
    }
}

/// Accepts until `stop` is ready, then takes what the kernel has completed already and returns.
pub(crate) async fn accept(
    listener: TcpListener,
    speaks: Speaks,
    door: Arc<Door>,
    workers: Arc<[Worker]>,
    refusals: Refusals,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut stop = std::pin::pin!(stop);
    let mut exhausted: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                // It moves to the worker's runtime, so it leaves this one.
                if let Ok(stream) = stream.into_std() {
                    admit(stream, speaks, &door, &workers, &refusals).await;
                }
            }
            Err(error) if is_exhaustion(&error) => {
                if exhausted.is_none_or(|last| last.elapsed() > EXHAUSTED_QUIET) {
                    warn!(%error, "cannot accept a connection");
                }
                exhausted = Some(Instant::now());
                sleep(EXHAUSTED_PAUSE).await;
            }
            // The client left between its connect and our accept (accept(2), ECONNABORTED and its kin).
            Err(_) => {}
        }
    }
    // Asked of the kernel itself: the runtime would look only after an event that it has seen already.
    let listener = listener.into_std()?;
    // As many as the kernel may have completed until now; the socket still listens.
    for _ in 0..BACKLOG {
        let Ok((stream, _)) = listener.accept() else {
            break;
        };
        if stream.set_nonblocking(true).is_ok() {
            admit(stream, speaks, &door, &workers, &refusals).await;
        }
    }
    Ok(())
}

/// EMFILE, ENFILE, ENOBUFS, ENOMEM: the connection stays in the backlog and would be offered again at once.
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

async fn admit(
    stream: TcpStream,
    speaks: Speaks,
    door: &Arc<Door>,
    workers: &Arc<[Worker]>,
    refusals: &Refusals,
) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    // A place that is free while somebody waits is on its way to him.
    if door.waiting() == 0
        && let Ok(place) = door.places.clone().try_acquire_owned()
    {
        return give(stream, speaks, place, workers);
    }
    let turn = match speaks {
        Speaks::Http => door.queue.clone().try_acquire_owned().ok(),
        // A Redis client is told at once, as Redis does.
        Speaks::Resp => None,
    };
    let Some(turn) = turn else {
        return turn_away(stream, speaks, door, refusals).await;
    };
    let (door, workers, refusals) = (door.clone(), workers.clone(), refusals.clone());
    door.waiting.fetch_add(1, Ordering::Relaxed);
    tokio::spawn(async move {
        let place = timeout(door.client_wait, door.places.clone().acquire_owned()).await;
        door.waiting.fetch_sub(1, Ordering::Relaxed);
        match place {
            Ok(Ok(place)) => give(stream, speaks, place, &workers),
            _ => turn_away(stream, speaks, &door, &refusals).await,
        }
        // Only now: those who wait to be told 503 are as many as MAX_WAITING allows, too.
        drop(turn);
    });
}

/// To the worker with the fewest clients that runs; the first of equals.
fn give(stream: TcpStream, speaks: Speaks, place: OwnedSemaphorePermit, workers: &[Worker]) {
    if let Some(worker) = workers.iter().filter(|worker| worker.runs()).min_by_key(|worker| worker.clients())
    {
        worker.serve(stream, speaks, place);
    }
}

async fn turn_away(stream: TcpStream, speaks: Speaks, door: &Door, refusals: &Refusals) {
    let Ok(refusal) = door.refusals.clone().acquire_owned().await else {
        return;
    };
    let refusals = refusals.clone();
    tokio::spawn(async move {
        if let Ok(stream) = tokio::net::TcpStream::from_std(stream) {
            refusals.refuse(stream, speaks).await;
        }
        drop(refusal);
    });
}
