//! A TCP proxy between the program and Redis that delays, cuts up, stalls, resets and refuses on demand.
//!
//! Each direction of a link has two threads: one reads and stamps what arrives, one writes it when the mode says so.
//! They meet in one state under one lock with one condition variable, so that a change of mode acts at once on
//! everything that waits. Reading goes on while writing is held back (up to a limit): that is how a delay adds latency
//! without taking throughput, and how a client that gives up on a stalled link is noticed.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

use crate::child::PATIENCE;
use crate::relay::{Direction, Relay, RelayMode};
use crate::wait_until;

/// How often a writer whose peer does not read looks whether its link still exists.
const WRITE_TIMEOUT: Duration = Duration::from_millis(50);

/// A TCP proxy on a port of its own, whose behaviour can be changed while connections live.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// `None` while new connections are refused.
    listener: Mutex<Option<Listener>>,
}

struct Listener {
    socket: Arc<TcpListener>,
    thread: JoinHandle<()>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    mode: RelayMode,
    target: SocketAddr,
    accepted: usize,
    /// The links that live, by the number of their acceptance. A thread whose link is gone from here ends.
    links: BTreeMap<usize, Relay>,
}

impl FaultProxy {
    /// Starts it in front of `target`; bytes pass.
    #[track_caller]
    pub fn start(target: impl ToSocketAddrs) -> FaultProxy {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let state =
            State { mode: RelayMode::Pass, target: resolve(target), accepted: 0, links: BTreeMap::new() };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let address = socket.local_addr().expect("a bound socket");
        let listener = Mutex::new(Some(Listener::start(socket, &shared)));
        FaultProxy { address, shared, listener }
    }

    /// Where clients connect; the same after [`refuse`](Self::refuse) and [`accept`](Self::accept).
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends new connections to this server; those there are stay where they are.
    #[track_caller]
    pub fn retarget(&self, target: impl ToSocketAddrs) {
        self.shared.lock().target = resolve(target);
    }

    /// Lets bytes pass, those held back first.
    pub fn pass(&self) {
        self.set_mode(RelayMode::Pass);
    }

    /// Lets bytes pass this long after they arrived, each way.
    pub fn delay(&self, delay: Duration) {
        self.set_mode(RelayMode::Delay(delay));
    }

    /// Lets bytes pass in their order, each piece after a time of its own up to `most`, each way.
    pub fn jitter(&self, most: Duration) {
        self.set_mode(RelayMode::Jitter(most));
    }

    /// Lets bytes pass in pieces of `bytes`, each way, with a short pause between (5,000 pieces a second at most).
    pub fn chunk(&self, bytes: usize) {
        assert_ne!(bytes, 0, "a chunk of no byte");
        self.set_mode(RelayMode::Chunk(bytes));
    }

    /// Holds everything back, each way; connections stay open, new ones are accepted and hear nothing.
    pub fn stall(&self) {
        self.set_mode(RelayMode::Stall);
    }

    /// Holds back what the server says; commands still arrive there.
    pub fn stall_replies(&self) {
        self.set_mode(RelayMode::StallReplies);
    }

    /// Holds back what the clients say; what the server says still arrives.
    pub fn stall_commands(&self) {
        self.set_mode(RelayMode::StallCommands);
    }

    /// Resets all connections, on both sides; what was held back is lost. The resets are sent when this returns.
    #[track_caller]
    pub fn reset(&self) {
        let mut sockets = Vec::new();
        for link in std::mem::take(&mut self.shared.lock().links).into_values() {
            for socket in [link.client, link.server] {
                // With this the last close sends a RST (socket(7)); a shutdown for reading sends nothing, and wakes
                // the reader.
                set_socket_linger(&*socket, Some(Duration::ZERO)).expect("SO_LINGER can be set");
                let _ = socket.shutdown(Shutdown::Read);
                sockets.push(Arc::downgrade(&socket));
            }
        }
        self.shared.changed.notify_all();
        wait_until(PATIENCE, "reset connections to be closed", || {
            sockets.iter().all(|socket| socket.strong_count() == 0)
        });
    }

    /// Refuses new connections, as a port does that nobody listens on; those there are live on.
    pub fn refuse(&self) {
        if let Some(Listener { socket, thread }) = self.listener.lock().unwrap().take() {
            // On Linux this ends the accept(2) that waits.
            rustix::net::shutdown(&*socket, rustix::net::Shutdown::Read).expect("a listening socket");
            drop(socket);
            thread.join().expect("the acceptor does not panic");
        }
    }

    /// Accepts new connections again, at the same address.
    #[track_caller]
    pub fn accept(&self) {
        let mut listener = self.listener.lock().unwrap();
        if listener.is_none() {
            let mut socket = None;
            wait_until(PATIENCE, "the fault proxy's port to be free", || {
                socket = TcpListener::bind(self.address).ok();
                socket.is_some()
            });
            *listener = socket.map(|socket| Listener::start(socket, &self.shared));
        }
    }

    /// The connections that clients have open.
    pub fn connections(&self) -> usize {
        self.shared.lock().connections()
    }

    /// The connections accepted since the start, also those the target then refused.
    pub fn accepted(&self) -> usize {
        self.shared.lock().accepted
    }

    /// Waits until clients have exactly `count` connections open.
    ///
    /// # Panics
    /// When that is not so within `timeout`.
    #[track_caller]
    pub fn wait_connections(&self, count: usize, timeout: Duration) {
        let state = self.shared.lock();
        let (state, wait) = self
            .shared
            .changed
            .wait_timeout_while(state, timeout, |state| state.connections() != count)
            .unwrap();
        let found = state.connections();
        drop(state);
        assert!(!wait.timed_out(), "waited {timeout:?} in vain for {count} connections, there are {found}");
    }

    fn set_mode(&self, mode: RelayMode) {
        self.shared.lock().mode = mode;
        self.shared.changed.notify_all();
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.refuse();
        self.reset();
    }
}

impl Listener {
    fn start(socket: TcpListener, shared: &Arc<Shared>) -> Listener {
        let socket = Arc::new(socket);
        let thread = thread::spawn({
            let (socket, shared) = (Arc::clone(&socket), Arc::clone(shared));
            move || {
                while let Ok((client, _)) = socket.accept() {
                    shared.open(client);
                }
            }
        });
        Listener { socket, thread }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Links a new client to the target, or resets it if the target cannot be reached.
    fn open(self: &Arc<Shared>, client: TcpStream) {
        let target = self.lock().target;
        let server = TcpStream::connect_timeout(&target, PATIENCE);
        let mut state = self.lock();
        let number = state.accepted;
        state.accepted += 1;
        if let Ok(server) = server {
            for socket in [&client, &server] {
                socket.set_nodelay(true).expect("TCP_NODELAY can be set");
                socket.set_write_timeout(Some(WRITE_TIMEOUT)).expect("SO_SNDTIMEO can be set");
            }
            let (client, server) = (Arc::new(client), Arc::new(server));
            for (direction, from, to) in
                [(Direction::Commands, &client, &server), (Direction::Replies, &server, &client)]
            {
                let (shared, from) = (Arc::clone(self), Arc::clone(from));
                thread::spawn(move || shared.read(number, direction, &from));
                let (shared, to) = (Arc::clone(self), Arc::clone(to));
                thread::spawn(move || shared.write(number, direction, &to));
            }
            state.links.insert(number, Relay::new(client, server));
        } else {
            set_socket_linger(&client, Some(Duration::ZERO)).expect("SO_LINGER can be set");
        }
        self.changed.notify_all();
    }

    fn read(&self, link: usize, direction: Direction, mut from: &TcpStream) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            // A reset is the end too: the writers find out what is left of the link.
            let count = from.read(&mut buffer).unwrap_or(0);
            let mut state = self.lock();
            let Some(found) = state.links.get_mut(&link) else { return };
            found.pipe(direction).push(&buffer[..count]);
            if count == 0 && direction == Direction::Commands {
                found.client_is_open = false;
            }
            self.changed.notify_all();
            if count == 0 {
                return;
            }
            let is_full = |state: &mut State| {
                state.links.get_mut(&link).is_some_and(|link| link.pipe(direction).is_full())
            };
            drop(self.changed.wait_while(state, is_full).unwrap());
        }
    }

    fn write(&self, link: usize, direction: Direction, mut to: &TcpStream) {
        while let Some(mut piece) = self.next_piece(link, direction).as_deref() {
            if piece.is_empty() {
                let _ = to.shutdown(Shutdown::Write);
                return self.finish(link, direction);
            }
            while !piece.is_empty() {
                match to.write(piece) {
                    Ok(count) => piece = &piece[count..],
                    Err(error) if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind()) => {
                        if !self.lock().links.contains_key(&link) {
                            return;
                        }
                    }
                    Err(_) => return self.close(link),
                }
            }
        }
    }

    /// Waits until the mode lets something pass; `None` once the link is gone.
    fn next_piece(&self, link: usize, direction: Direction) -> Option<Vec<u8>> {
        let mut state = self.lock();
        loop {
            let mode = state.mode;
            let pipe = state.links.get_mut(&link)?.pipe(direction);
            let due = pipe.due(mode, direction);
            let wait = due.map(|due| due.saturating_duration_since(Instant::now()));
            state = match wait {
                Some(Duration::ZERO) => {
                    let piece = pipe.pop(mode);
                    self.changed.notify_all();
                    return piece;
                }
                Some(wait) => self.changed.wait_timeout(state, wait).unwrap().0,
                None => self.changed.wait(state).unwrap(),
            };
        }
    }

    /// Notes that the end was passed on in this direction; after both, the link is gone.
    fn finish(&self, link: usize, direction: Direction) {
        let mut state = self.lock();
        if let Some(found) = state.links.get_mut(&link) {
            found.pipe(direction).is_done = true;
            if found.commands.is_done && found.replies.is_done {
                state.links.remove(&link);
            }
        }
        self.changed.notify_all();
    }

    /// Ends a link one side of which is gone.
    fn close(&self, link: usize) {
        if let Some(link) = self.lock().links.remove(&link) {
            let _ = link.client.shutdown(Shutdown::Both);
            let _ = link.server.shutdown(Shutdown::Both);
        }
        self.changed.notify_all();
    }
}

impl State {
    fn connections(&self) -> usize {
        self.links.values().filter(|link| link.client_is_open).count()
    }
}

#[track_caller]
fn resolve(target: impl ToSocketAddrs) -> SocketAddr {
    target.to_socket_addrs().ok().and_then(|mut found| found.next()).expect("an address to connect to")
}
