//! The door of both data ports: an acceptor each, MAX_CLIENTS places together, a bounded queue for those who come later.
//!
//! ```text
//!   accept -> a place is free        -> the worker with the fewest clients
//!          -> none, the queue has room -> waits in order, at most CLIENT_WAIT -> worker, or 503
//!          -> none, the queue is full  -> 503
//! ```
//!
//! While somebody waits, idle HTTP connections give their places up ([`places`](crate::places)). Redis clients share the
//! places and queue only for one that is about to be given up: Redis tells them at once, so they do not expect to wait.
//!
//! Accepting waits for nobody: who is told 503 and sends no request is hurried when too many are being told.

use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::clock::now_ns;
use crate::front::{Refusals, Speaks};
use crate::live::LiveReader;
use crate::oldest_ends::OldestEnds;
use crate::peers::Peers;
use crate::places::{Place, Places};
use crate::socket::{Acceptor, ClientSocket, Listening};
use crate::worker::Worker;

/// Connections that the kernel completes and keeps for us.
const BACKLOG: i32 = 4096;
/// Connections that are being told 503 at the same time; above it the oldest is told without waiting for its request.
pub(crate) const MOST_REFUSALS: usize = 192;
/// How long a Redis client waits for a connection that was asked to give its place up.
const MAKING_ROOM: Duration = Duration::from_secs(1);
/// How long accepting rests when the system has no file or memory to give.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// It is told again only after this long without it: files come and go while they are short.
const EXHAUSTED_QUIET: Duration = Duration::from_secs(10);

/// Turns in the queue, above any MAX_WAITING.
const MOST_TURNS: u32 = 1 << 24;

/// Probes of a client that says nothing, before its connection ends.
const KEEPALIVE_PROBES: u32 = 3;

/// Binds a listening socket, whose clients are asked after a silence of `keepalive` whether they are there.
///
/// # Errors
/// The name does not resolve, the address is in use or not ours.
pub(crate) fn bind(host: &str, port: u16, keepalive: Duration) -> io::Result<TcpListener> {
    let keepalive = tcp_keepalive(keepalive);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        let bound =
            Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).and_then(|socket| {
                socket.set_reuse_address(true)?;
                // What it accepts inherits it.
                socket.set_tcp_keepalive(&keepalive)?;
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

/// The same for a socket that was bound elsewhere.
///
/// # Errors
/// The system refuses.
pub(crate) fn keep_asking(socket: &Listening, keepalive: Duration) -> io::Result<()> {
    match socket {
        Listening::Tcp(listener) => SockRef::from(listener).set_tcp_keepalive(&tcp_keepalive(keepalive)),
        Listening::Unix(..) => Ok(()),
    }
}

/// CLIENT_KEEPALIVE, as those follow it who accept.
pub(crate) struct Keepalive {
    live: LiveReader,
    silence: Duration,
}

impl Keepalive {
    /// As of now.
    pub(crate) fn new(live: LiveReader) -> Keepalive {
        let mut live = live;
        let silence = live.now().client_keepalive;
        Keepalive { live, silence }
    }

    /// Waits until it is another one.
    pub(crate) async fn changed(&mut self) -> Duration {
        loop {
            let silence = self.live.changed().await.client_keepalive;
            if silence != self.silence {
                self.silence = silence;
                return silence;
            }
        }
    }
}

/// The clients that are accepted from now on are asked after a silence of `keepalive`.
pub(crate) fn keep_asking_from_now_on(listener: &Acceptor, keepalive: Duration) {
    if let Acceptor::Tcp(listener) = listener
        && let Err(error) = SockRef::from(listener).set_tcp_keepalive(&tcp_keepalive(keepalive))
    {
        warn!(%error, "CLIENT_KEEPALIVE is not taken over");
    }
}

fn tcp_keepalive(silence: Duration) -> TcpKeepalive {
    // The kernel counts in whole seconds.
    let pause = (silence / KEEPALIVE_PROBES).max(Duration::from_secs(1));
    TcpKeepalive::new().with_time(silence).with_interval(pause).with_retries(KEEPALIVE_PROBES)
}

/// The way to a place of MAX_CLIENTS, shared by all data fronts.
pub(crate) struct Door {
    places: Arc<Places>,
    /// A turn of those who wait, each; how many there may be is a setting.
    queue: Arc<Semaphore>,
    /// Those who are being told that there is no place.
    turned_away: Arc<OldestEnds>,
    peers: Arc<Peers>,
}

impl Door {
    pub(crate) fn new(places: Arc<Places>) -> Self {
        Door {
            places,
            queue: Arc::new(Semaphore::new(MOST_TURNS as usize)),
            turned_away: OldestEnds::new(MOST_REFUSALS),
            peers: Arc::default(),
        }
    }

    /// A turn in the queue, where fewer than `most` have one. All acceptors are on one thread, so that two do not take the last.
    fn turn(&self, most: usize) -> Option<OwnedSemaphorePermit> {
        let has_room = MOST_TURNS as usize - self.queue.available_permits() < most;
        self.queue.clone().try_acquire_owned().ok().filter(|_| has_room)
    }

    /// Clients that wait for one.
    pub(crate) fn waiting(&self) -> usize {
        self.places.waiting()
    }

    /// Clients that have one at most: MAX_CLIENTS, or as many as the limit of open files leaves.
    pub(crate) fn most(&self) -> usize {
        self.places.most()
    }

    /// Returns once nobody waits, every place is free and nobody is being turned away. Nobody comes in afterwards.
    pub(crate) async fn all_left(&self) {
        // In the order of a client's way, so that nobody changes from one to another behind our back.
        if let Ok(turns) = self.queue.acquire_many(MOST_TURNS).await {
            turns.forget();
        }
        self.places.all_left().await;
        self.turned_away.all_left().await;
    }
}

/// Accepts until `stop` is ready, then takes what the kernel has completed already and returns.
pub(crate) async fn accept(
    listener: Listening,
    speaks: Speaks,
    door: Arc<Door>,
    workers: Arc<[Worker]>,
    mut refusals: Refusals,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let listener = listener.watched()?;
    let mut stop = std::pin::pin!(stop);
    let mut exhausted: Option<Instant> = None;
    let mut keepalive = Keepalive::new(refusals.live.clone());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            silence = keepalive.changed() => {
                keep_asking_from_now_on(&listener, silence);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(socket) => {
                if admit(socket, speaks, &door, &workers, &mut refusals) {
                    // Its file is free after that.
                    yield_now().await;
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
    let listener = listener.unwatched()?;
    // As many as the kernel may have completed until now; the socket still listens.
    for _ in 0..BACKLOG {
        let Ok(socket) = listener.accept() else {
            break;
        };
        admit(socket, speaks, &door, &workers, &mut refusals);
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

/// Finds the client a place, a turn in the queue, or somebody to tell it that there is none. Never waits: whoever comes
/// next is not held up by it. Whether one of those who are being told must be hurried for it.
fn admit(
    stream: ClientSocket,
    speaks: Speaks,
    door: &Arc<Door>,
    workers: &Arc<[Worker]>,
    refusals: &mut Refusals,
) -> bool {
    if stream.set_nodelay().is_err() {
        return false;
    }
    // They are counted without a limit too: a reload may set one.
    let most = refusals.live.now().access.clients_per_peer.unwrap_or(usize::MAX);
    let peer = match stream.peer_ip() {
        // What comes by a unix socket is bounded by who may connect to that.
        Ok(None) => None,
        Ok(Some(from)) => match door.peers.enter(from, most) {
            None => return turn_away(stream, speaks, door, refusals),
            counted => counted,
        },
        // It has left.
        Err(_) => return false,
    };
    if let Some(place) = door.places.take() {
        give(stream, speaks, place.of(peer), workers);
        return false;
    }
    let (max_waiting, client_wait) = {
        let live = refusals.live.now();
        (live.files.max_waiting, live.client_wait)
    };
    let Some(turn) = door.turn(max_waiting) else {
        return turn_away(stream, speaks, door, refusals);
    };
    let waiting = door.places.wait();
    let patience = match speaks {
        Speaks::Http => client_wait,
        // A Redis client is told at once, as Redis does, unless a place is about to be free.
        Speaks::Resp if !waiting.make_room(now_ns()) => {
            drop(waiting);
            return turn_away(stream, speaks, door, refusals);
        }
        Speaks::Resp => MAKING_ROOM,
    };
    let (door, workers, refusals) = (door.clone(), workers.clone(), refusals.clone());
    tokio::spawn(async move {
        match timeout(patience, waiting.place(speaks == Speaks::Resp)).await {
            Ok(Some(place)) => give(stream, speaks, place.of(peer), &workers),
            _ => drop(turn_away(stream, speaks, &door, &refusals)),
        }
        drop(turn);
    });
    false
}

/// To the worker with the fewest clients that runs; the first of equals.
fn give(stream: ClientSocket, speaks: Speaks, place: Place, workers: &[Worker]) {
    if let Some(worker) = workers.iter().filter(|worker| worker.runs()).min_by_key(|worker| worker.clients())
    {
        worker.serve(stream, speaks, place);
    }
}

/// Starts to tell the client that there is no place. Whether another must be hurried for it.
fn turn_away(stream: ClientSocket, speaks: Speaks, door: &Door, refusals: &Refusals) -> bool {
    let (told, refusals) = (door.turned_away.enter(), refusals.clone());
    let hurries = told.ends_another;
    tokio::spawn(async move { refusals.refuse(stream, speaks, told.must_end()).await });
    hurries
}
