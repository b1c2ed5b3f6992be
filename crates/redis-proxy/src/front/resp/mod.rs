//! The RESP front: Redis clients, unmodified, on a port of their own. The contract is `docs/resp.md`.
//!
//! Bytes, limits and clocks are here ([`dialect`]); what a command means for its client, and what is due for it, is its
//! [`Session`](crate::session::Session)'s.

mod dialect;

use std::cell::Cell;
use std::rc::Rc;

use resp::glance;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

pub(crate) use self::dialect::serve;

use crate::clock::nanos;
use crate::config::{ProxyAdmin, Settings};
use crate::front::client::{Drain, PATIENCE, linger};
use crate::session::{SessionSettings, Sessions};

/// The settings of the front, in the types that the loop wants.
#[derive(Clone, Debug)]
pub(crate) struct RespSettings {
    pub(crate) session: SessionSettings,
    /// A request that must be whole before it is understood ends its connection above this.
    query_buffer_bytes: usize,
    idle_timeout_ns: u64,
    write_timeout_ns: u64,
    /// Which clients may empty the cache.
    admin: ProxyAdmin,
}

impl RespSettings {
    pub(crate) fn new(settings: &Settings) -> Self {
        RespSettings {
            session: SessionSettings::new(settings),
            query_buffer_bytes: settings.resp_query_buffer_bytes,
            idle_timeout_ns: match nanos(settings.resp_idle_timeout) {
                0 => u64::MAX,
                idle => idle,
            },
            write_timeout_ns: nanos(settings.write_timeout),
            admin: settings.resp_proxy_admin,
        }
    }
}

/// What all RESP connections of one worker share. Lives on that worker's thread.
pub(crate) struct RespFront {
    sessions: Rc<Sessions>,
    settings: RespSettings,
    drain: Drain,
    /// Clients whose end is waited for, without a place.
    farewells: Cell<usize>,
}

impl RespFront {
    pub(crate) fn new(settings: RespSettings, sessions: Rc<Sessions>) -> Rc<Self> {
        Rc::new(RespFront { sessions, settings, drain: Drain::default(), farewells: Cell::new(0) })
    }

    /// What sessions need done beside serving their clients. Never ends.
    pub(crate) async fn run(&self) {
        tokio::join!(self.sessions.learn(), self.sessions.tend_readers());
    }

    /// From now on a connection ends once all it was asked is answered.
    pub(crate) fn start_draining(&self) {
        self.drain.start();
    }

    /// Has what the small requests at the beginning of `bytes` are about fetched into the processor's caches, where that is worth it. How
    /// many bytes behind them this has not looked at.
    #[cold]
    fn look_ahead(&self, bytes: &[u8]) -> usize {
        if !self.sessions.is_worth_looking_ahead() {
            return 0;
        }
        let mut unseen = bytes;
        self.sessions.look_ahead(std::iter::from_fn(|| {
            let request = glance(unseen)?;
            unseen = &unseen[request.len..];
            Some(request.key)
        }));
        unseen.len()
    }
}

/// Tells a client above MAX_CLIENTS so and closes, as Redis does: at once, with its words.
pub(crate) async fn refuse(mut stream: TcpStream) {
    let text = b"-ERR max number of clients reached\r\n";
    if matches!(timeout(PATIENCE, stream.write_all(text)).await, Ok(Ok(()))) {
        linger(&mut stream).await;
    }
}
