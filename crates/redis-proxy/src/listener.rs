//! The data port's door: one acceptor, MAX_CLIENTS places, a bounded queue for those who come later.
//!
//! ```text
//!   accept -> a place is free        -> the worker with the fewest clients
//!          -> none, the queue has room -> waits in order, at most CLIENT_WAIT -> worker, or 503
//!          -> none, the queue is full  -> 503
//! ```

use std::future::poll_fn;
use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::front::http::{HttpSettings, refuse};
use crate::worker::Worker;

/// Connections that the kernel completes and keeps for us.
const BACKLOG: i32 = 4096;
/// Connections that are being told 503 at the same time; above it accepting waits.
pub(crate) const MOST_REFUSALS: usize = 256;
/// How long accepting rests when the system has no file or memory to give.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

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
            max_clients,
            max_waiting,
            client_wait,
        }
    }

    /// Clients that hold a place.
    pub(crate) fn clients(&self) -> usize {
        self.max_clients - self.places.available_permits()
    }

    /// Clients that wait for one.
    pub(crate) fn waiting(&self) -> usize {
        self.max_waiting - self.queue.available_permits()
    }

    /// Returns once every place is free. Nobody gets one afterwards.
    pub(crate) async fn all_left(&self) {
        let all = u32::try_from(self.max_clients).unwrap_or(u32::MAX);
        if let Ok(places) = self.places.acquire_many(all).await {
            places.forget();
        }
    }
}

/// Accepts until `stop` is ready, then takes what the kernel has completed already and returns.
pub(crate) async fn accept(
    listener: TcpListener,
    door: Arc<Door>,
    workers: Arc<[Worker]>,
    settings: Arc<HttpSettings>,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut stop = std::pin::pin!(stop);
    let mut warned = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                warned = false;
                // It moves to the worker's runtime, so it leaves this one.
                if let Ok(stream) = stream.into_std() {
                    admit(stream, &door, &workers, &settings).await;
                }
            }
            Err(error) if is_exhaustion(&error) => {
                if !warned {
                    warn!(%error, "cannot accept a connection");
                    warned = true;
                }
                sleep(EXHAUSTED_PAUSE).await;
            }
            // The client left between its connect and our accept (accept(2), ECONNABORTED and its kin).
            Err(_) => {}
        }
    }
    while let Some(Ok((stream, _))) = poll_fn(|cx| Poll::Ready(accepted_now(listener.poll_accept(cx)))).await
    {
        if let Ok(stream) = stream.into_std() {
            admit(stream, &door, &workers, &settings).await;
        }
    }
    Ok(())
}

fn accepted_now<T>(polled: Poll<T>) -> Option<T> {
    match polled {
        Poll::Ready(accepted) => Some(accepted),
        Poll::Pending => None,
    }
}

/// EMFILE, ENFILE, ENOBUFS, ENOMEM: the connection stays in the backlog and would be offered again at once.
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

async fn admit(stream: TcpStream, door: &Arc<Door>, workers: &Arc<[Worker]>, settings: &Arc<HttpSettings>) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    // Places go to the queue first: with anyone waiting, none is free here.
    if let Ok(place) = door.places.clone().try_acquire_owned() {
        return give(stream, place, workers);
    }
    let Ok(turn) = door.queue.clone().try_acquire_owned() else {
        return turn_away(stream, door, settings).await;
    };
    let (door, workers, settings) = (door.clone(), workers.clone(), settings.clone());
    tokio::spawn(async move {
        let place = timeout(door.client_wait, door.places.clone().acquire_owned()).await;
        drop(turn);
        match place {
            Ok(Ok(place)) => give(stream, place, &workers),
            _ => turn_away(stream, &door, &settings).await,
        }
    });
}

/// To the worker with the fewest clients; the first of equals.
fn give(stream: TcpStream, place: OwnedSemaphorePermit, workers: &[Worker]) {
    if let Some(worker) = workers.iter().min_by_key(|worker| worker.clients()) {
        worker.serve(stream, place);
    }
}

async fn turn_away(stream: TcpStream, door: &Door, settings: &Arc<HttpSettings>) {
    let Ok(refusal) = door.refusals.clone().acquire_owned().await else {
        return;
    };
    let settings = settings.clone();
    tokio::spawn(async move {
        if let Ok(stream) = tokio::net::TcpStream::from_std(stream) {
            refuse(stream, &settings).await;
        }
        drop(refusal);
    });
}
