//! A worker: one thread, one single-threaded runtime, and the clients of both fronts that were given to it.
//!
//! A client stays on its worker, with its lanes and its pin. In mode `ttl` a miss travels on a connection of the worker's own,
//! so that no request crosses threads; in the coherent modes it travels on a link, whose thread wakes those who wait.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::spawn_local;
use tracing::error_span;
use upstream::Endpoint;

use crate::budget::Budget;
use crate::buffer_pool::BufferPool;
use crate::front::http::{HttpFront, HttpSettings};
use crate::front::resp::RespFront;
use crate::front::{Fronts, HandshakeSettings, Speaks};
use crate::lanes::{Anonymous, Bounds, Lanes};
use crate::live::LiveReader;
use crate::places::Place;
use crate::readthrough::{HttpReads, OwnConnections, PartitionTable, ReadThrough, Readers};
use crate::session::{Registry, SessionSettings, Sessions};
use crate::slow_log::SlowLog;
use crate::socket::ClientSocket;
use crate::stats::{LaneStats, WorkerStats};
use crate::store::Store;
use crate::vanished::Present;
use crate::vital;

/// What a worker is told. Bounded: each `Serve` carries a place of MAX_CLIENTS, the others come once.
enum Order {
    Serve(ClientSocket, Speaks, Place),
    Drain,
    End,
}

/// A running worker, as the other threads see it.
pub(crate) struct Worker {
    orders: UnboundedSender<Order>,
    /// Clients given to it and not yet gone.
    clients: Arc<AtomicUsize>,
    /// The worker's way to values, for the readiness probe.
    pub(crate) read: ReadThrough,
    pub(crate) stats: Arc<WorkerStats>,
    pub(crate) lane_stats: Arc<LaneStats>,
}

/// What the fronts of all workers are made from.
#[derive(Clone)]
pub(crate) struct FrontParts {
    pub(crate) live: LiveReader,
    pub(crate) http: HttpSettings,
    pub(crate) session: SessionSettings,
    pub(crate) handshakes: HandshakeSettings,
    /// Where lanes lead.
    pub(crate) endpoint: Endpoint,
    pub(crate) registry: Arc<Registry>,
    pub(crate) bounds: Bounds,
    pub(crate) slow_log: Arc<SlowLog>,
    /// Whether Redis lets in clients without a login.
    pub(crate) anonymous: Arc<Anonymous>,
    pub(crate) partitions: Arc<PartitionTable>,
    pub(crate) present: Arc<Present>,
}

impl FrontParts {
    fn fronts(&self, read: ReadThrough, stats: Arc<WorkerStats>, lane_stats: Arc<LaneStats>) -> Fronts {
        let buffers = Rc::new(BufferPool::default());
        let lanes = Lanes::new(
            self.endpoint.clone(),
            self.session.as_proxy,
            self.session.limits.lanes,
            self.bounds.clone(),
            self.anonymous.clone(),
            buffers.clone(),
            lane_stats.clone(),
        );
        let readers = Readers::new(self.partitions.clone(), read.clone());
        let sessions = Sessions::new(
            lanes,
            self.bounds.clone(),
            self.session.clone(),
            self.registry.clone(),
            buffers.clone(),
            lane_stats,
            readers,
        );
        let live = self.live.clone();
        Fronts::new(
            HttpFront::new(read, stats.clone(), self.http.clone(), live.clone(), buffers.clone()),
            RespFront::new(live.clone(), sessions),
            self.handshakes.clone(),
            live,
            stats,
            buffers,
        )
    }
}

impl Worker {
    /// Starts a worker's thread. It runs until [`end`](Worker::end); whoever holds the handle may wait for that.
    ///
    /// # Errors
    /// When the system has no thread or no epoll instance to give.
    pub(crate) fn start(
        number: usize,
        store: &Store,
        budget: Option<&Arc<Budget>>,
        reads: &HttpReads,
        parts: &FrontParts,
    ) -> io::Result<(Worker, JoinHandle<()>)> {
        let (stats, lane_stats) = (Arc::new(WorkerStats::default()), Arc::new(LaneStats::default()));
        let (read, own) = reads.of_worker(store, budget, &stats, parts.partitions.samples());
        let clients = Arc::new(AtomicUsize::new(0));
        let (orders, inbox) = unbounded_channel();
        let (started, outcome) = std::sync::mpsc::sync_channel(1);
        let thread = {
            let (read, stats, lane_stats) = (read.clone(), stats.clone(), lane_stats.clone());
            let parts = parts.clone();
            vital::spawn(format!("worker-{number}"), move |alive| {
                // Made on the thread it runs on: a local runtime does not move.
                let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
                let runtime = match runtime {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        // Whoever starts us waits for it.
                        let _ = started.send(Err(error));
                        return Ok(());
                    }
                };
                drop(started.send(Ok(())));
                let present = parts.present.clone();
                let fronts = parts.fronts(read, stats, lane_stats);
                runtime.block_on(alive.during(work(number, own, fronts, present, inbox)));
                // A name that is being looked up would hold us until the resolver gives up.
                runtime.shutdown_background();
                Ok(())
            })?
        };
        // A thread that ended without a word panicked, and said so.
        outcome.recv().unwrap_or_else(|_| Err(io::Error::other("a worker's thread ended at once")))?;
        Ok((Worker { orders, clients, read, stats, lane_stats }, thread))
    }

    /// Clients that it serves.
    pub(crate) fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// Whether it still takes clients.
    pub(crate) fn runs(&self) -> bool {
        !self.orders.is_closed()
    }

    /// Hands over a client and its place. One that has ended gives it back.
    pub(crate) fn serve(&self, socket: ClientSocket, speaks: Speaks, place: Place) {
        let _ = self.orders.send(Order::Serve(socket, speaks, place.on(&self.clients)));
    }

    /// Makes every answer from now on the last of its connection.
    pub(crate) fn drain(&self) {
        // A worker that is gone has nothing to drain.
        let _ = self.orders.send(Order::Drain);
    }

    /// Ends the thread: what is still open is closed, the connection to Redis too.
    pub(crate) fn end(&self) {
        let _ = self.orders.send(Order::End);
    }
}

/// Clients that hold a place, on all workers.
pub(crate) fn clients(workers: &[Worker]) -> usize {
    workers.iter().map(Worker::clients).sum()
}

async fn work(
    number: usize,
    own: Option<OwnConnections>,
    fronts: Fronts,
    present: Arc<Present>,
    mut inbox: UnboundedReceiver<Order>,
) {
    if let Some(connection) = own {
        let driving = connection.run(error_span!("worker", number));
        spawn_local(vital::task("a worker's connection to redis", driving));
    }
    let running = fronts.clone();
    spawn_local(vital::task("a front", async move { running.run().await }));
    while let Some(order) = inbox.recv().await {
        match order {
            Order::Drain => fronts.start_draining(),
            Order::End => return,
            Order::Serve(socket, speaks, place) => {
                let presence = present.name(&socket);
                let inode = presence.inode();
                // A socket that cannot be registered is closed; the client sees that.
                if let Ok(task) = fronts.serve(socket, speaks, place, presence) {
                    present.enter(inode, task, speaks);
                }
            }
        }
    }
}
