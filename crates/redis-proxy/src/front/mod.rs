//! Fronts turn bytes into keys and values into bytes. They know `readthrough`, never the cache or Redis.
//!
//! Both serve their clients by the same loop, [`client`]; what is theirs is what requests mean and how they are written.

mod client;
mod handshakes;
pub mod http;
pub(crate) mod resp;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::{AbortHandle, spawn_local};

use self::client::Stream;
pub(crate) use self::handshakes::HandshakeSettings;
use self::handshakes::{Handshakes, refuse_tls};
use self::http::{HttpFront, HttpSettings};
use self::resp::RespFront;
use crate::buffer_pool::BufferPool;
use crate::live::LiveReader;
use crate::places::Place;
use crate::socket::ClientSocket;
use crate::stats::WorkerStats;
use crate::tls::PortName;

/// What the clients of a port speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http,
    Resp,
}

impl Speaks {
    /// Where that is spoken.
    pub(crate) fn port(self) -> PortName {
        match self {
            Speaks::Http => PortName::Http,
            Speaks::Resp => PortName::Resp,
        }
    }
}

/// The fronts of one worker.
#[derive(Clone)]
pub(crate) struct Fronts {
    http: Rc<HttpFront>,
    resp: Rc<RespFront>,
    handshakes: Rc<Handshakes>,
    /// Which ports speak TLS.
    live: Rc<RefCell<LiveReader>>,
}

impl Fronts {
    pub(crate) fn new(
        http: Rc<HttpFront>,
        resp: Rc<RespFront>,
        handshakes: HandshakeSettings,
        live: LiveReader,
        stats: Arc<WorkerStats>,
        buffers: Rc<BufferPool>,
    ) -> Fronts {
        let handshakes = Handshakes::new(handshakes, stats, buffers);
        Fronts { http, resp, handshakes, live: Rc::new(RefCell::new(live)) }
    }

    /// Starts a task that serves one client until either side ends it. What it holds, its place with it, is given back then, also by
    /// a panic.
    ///
    /// # Errors
    /// The system has no room to watch its socket.
    ///
    /// Cost: a task of one front has no room for what a client of the other is.
    pub(crate) fn serve(
        &self,
        socket: ClientSocket,
        speaks: Speaks,
        place: Place,
        holds: impl Sized + 'static,
    ) -> io::Result<AbortHandle> {
        let mut live = self.live.borrow_mut();
        let config = tls_of(&mut live, speaks);
        let head_timeout = Duration::from_nanos(live.now().timeouts.head_ns);
        let task = match (socket, config) {
            (ClientSocket::Tcp(socket), Some(config)) => {
                let socket = TcpStream::from_std(socket)?;
                spawn_local(self.clone().serve_tls(socket, config, speaks, head_timeout, (place, holds)))
            }
            (socket, _) => {
                let stream = Stream::plain(socket)?;
                match speaks {
                    Speaks::Http => spawn_local(http::serve(stream, self.http.clone(), place, holds)),
                    Speaks::Resp => spawn_local(resp::serve(stream, self.resp.clone(), (place, holds))),
                }
            }
        };
        Ok(task.abort_handle())
    }

    /// On the heap is what only a handshake needs, and what only one of the fronts does.
    async fn serve_tls(
        self,
        socket: TcpStream,
        config: Arc<ServerConfig>,
        speaks: Speaks,
        head_timeout: Duration,
        (place, holds): (Place, impl Sized + 'static),
    ) {
        let shaking = Box::pin(self.handshakes.shake(socket, config, speaks, head_timeout));
        let Some(stream) = shaking.await else { return };
        match speaks {
            Speaks::Http => Box::pin(http::serve(stream, self.http.clone(), place, holds)).await,
            Speaks::Resp => Box::pin(resp::serve(stream, self.resp.clone(), (place, holds))).await,
        }
    }

    /// What the fronts do beside serving clients. Never ends.
    pub(crate) async fn run(&self) {
        tokio::join!(self.resp.run(), self.follow());
    }

    /// Takes over how many handshakes there may be at a time. Never ends.
    async fn follow(&self) {
        let mut live = self.live.borrow().clone();
        loop {
            let a_turn = live.changed().await.handshakes_a_turn;
            self.handshakes.set_a_turn(a_turn).await;
        }
    }

    /// From now on clients are let go.
    pub(crate) fn start_draining(&self) {
        self.http.start_draining();
        self.resp.start_draining();
        self.handshakes.start_draining();
    }
}

/// How a client for whom there is no place is told.
#[derive(Clone)]
pub(crate) struct Refusals {
    pub(crate) http: Arc<HttpSettings>,
    pub(crate) live: LiveReader,
}

impl Refusals {
    /// Once `hurry` is ready nothing more is waited for.
    pub(crate) async fn refuse(
        mut self,
        socket: ClientSocket,
        speaks: Speaks,
        hurry: impl Future<Output = ()>,
    ) {
        match socket {
            ClientSocket::Tcp(socket) => {
                let speaks_tls = tls_of(&mut self.live, speaks).is_some();
                if let Ok(stream) = TcpStream::from_std(socket) {
                    self.tell(stream, speaks, speaks_tls, hurry).await;
                }
            }
            ClientSocket::Unix(socket) => {
                if let Ok(stream) = UnixStream::from_std(socket) {
                    self.tell(stream, speaks, false, hurry).await;
                }
            }
        }
    }

    async fn tell(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        speaks: Speaks,
        speaks_tls: bool,
        hurry: impl Future<Output = ()>,
    ) {
        if speaks == Speaks::Http && !speaks_tls {
            return http::refuse(stream, &self.http, self.live.clone().now(), hurry).await;
        }
        let told = async move {
            match speaks_tls {
                true => refuse_tls(stream).await,
                false => resp::refuse(stream).await,
            }
        };
        tokio::select! {
            biased;
            () = told => {}
            () = hurry => {}
        }
    }
}

/// What a handshake goes by where clients are spoken with so; none if they come in plain.
fn tls_of(live: &mut LiveReader, speaks: Speaks) -> Option<Arc<ServerConfig>> {
    live.now().tls.as_ref()?.of(speaks.port()).cloned()
}
