//! The RESP front: Redis clients, unmodified, on a port of their own. The contract is `docs/resp.md`.
//!
//! Bytes, limits and clocks are here ([`dialect`]); what a command means for its client, and what is due for it, is its
//! [`Session`](crate::session::Session)'s.

mod dialect;

use std::cell::Cell;
use std::rc::Rc;

use resp::glance;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

pub(in crate::front) use self::dialect::serve;

use crate::front::client::{Drain, PATIENCE, linger};
use crate::live::{ClientTimeouts, LiveReader};
use crate::session::Sessions;

/// What all RESP connections of one worker share. Lives on that worker's thread.
pub(crate) struct RespFront {
    sessions: Rc<Sessions>,
    /// As of the last reload, which [`run`](Self::run) follows.
    timeouts: Cell<ClientTimeouts>,
    live: LiveReader,
    drain: Drain,
    /// Clients whose end is waited for, without a place.
    farewells: Cell<usize>,
}

impl RespFront {
    pub(crate) fn new(live: LiveReader, sessions: Rc<Sessions>) -> Rc<Self> {
        let mut live = live;
        let timeouts = Cell::new(live.now().timeouts);
        Rc::new(RespFront { sessions, timeouts, live, drain: Drain::default(), farewells: Cell::new(0) })
    }

    /// What is done beside serving clients. Never ends.
    pub(crate) async fn run(&self) {
        tokio::join!(self.sessions.learn(), self.sessions.tend_readers(), self.follow());
    }

    async fn follow(&self) {
        let mut live = self.live.clone();
        loop {
            let now = live.changed().await;
            self.timeouts.set(now.timeouts);
            self.sessions.sizes.set(now.sizes);
            self.sessions.limits.set(now.sessions);
        }
    }

    /// How long clients are waited for.
    fn timeouts(&self) -> ClientTimeouts {
        self.timeouts.get()
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
pub(crate) async fn refuse(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let text = b"-ERR max number of clients reached\r\n";
    if matches!(timeout(PATIENCE, stream.write_all(text)).await, Ok(Ok(()))) {
        linger(&mut stream).await;
    }
}
