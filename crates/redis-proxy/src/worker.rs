//! A worker: one thread, one single-threaded runtime, one connection to Redis, and the clients given to it.
//!
//! A client stays on its worker, and a miss travels on that worker's connection: no request crosses threads.

use std::io;
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::spawn_local;
use tracing::{Instrument, error, error_span};
use upstream::{Driver, Target};

use crate::budget::Budget;
use crate::front::Spare;
use crate::front::http::{HttpFront, HttpSettings, serve};
use crate::readthrough::{FillSink, Link, ReadThrough, Store, Ticket};
use crate::stats::WorkerStats;

/// What a worker is told. Bounded: each `Serve` carries a place of MAX_CLIENTS, the others come once.
enum Order {
    Serve(TcpStream, OwnedSemaphorePermit),
    Drain,
    End,
}

/// How workers reach Redis.
pub(crate) enum Way {
    /// Mode `ttl`: each by a connection of its own.
    Own(Arc<Target>),
    /// Modes `tracking` and `strict`: all by the same links.
    Linked(Arc<[Arc<Link>]>),
}

/// A running worker, as the other threads see it.
pub(crate) struct Worker {
    orders: UnboundedSender<Order>,
    /// Clients given to it and not yet gone.
    clients: Arc<AtomicUsize>,
    /// The worker's way to values, for the readiness probe.
    pub(crate) read: ReadThrough,
    pub(crate) stats: Arc<WorkerStats>,
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
        way: &Way,
        settings: &HttpSettings,
    ) -> io::Result<(Worker, JoinHandle<()>)> {
        let stats = Arc::new(WorkerStats::default());
        let (read, own) = match way {
            Way::Own(redis) => {
                let (upstream, driver) = upstream::connect(redis);
                let sink = ReadThrough::sink(&upstream, &stats, budget.cloned());
                (ReadThrough::aging(store.clone(), upstream, stats.clone()), Some((driver, sink)))
            }
            Way::Linked(links) => (ReadThrough::linked(store.clone(), links.clone(), stats.clone()), None),
        };
        let clients = Arc::new(AtomicUsize::new(0));
        let (orders, inbox) = unbounded_channel();
        let (started, outcome) = std::sync::mpsc::sync_channel(1);
        let thread = {
            let (read, stats, clients, settings) =
                (read.clone(), stats.clone(), clients.clone(), settings.clone());
            thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                // Made on the thread it runs on: a local runtime does not move.
                let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
                let runtime = match runtime {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(started.send(Err(error))),
                };
                drop(started.send(Ok(())));
                let front = HttpFront::new(read, stats, settings, Rc::new(Spare::default()));
                runtime.block_on(work(number, own, front, inbox, clients));
                // A name that is being looked up would hold us until the resolver gives up.
                runtime.shutdown_background();
            })?
        };
        // A thread that ended without a word panicked, and said so.
        outcome.recv().unwrap_or_else(|_| Err(io::Error::other("a worker's thread ended at once")))?;
        Ok((Worker { orders, clients, read, stats }, thread))
    }

    /// Clients that it serves.
    pub(crate) fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// Whether it still takes clients.
    pub(crate) fn runs(&self) -> bool {
        !self.orders.is_closed()
    }

    /// Hands over a client and its place.
    pub(crate) fn serve(&self, stream: TcpStream, place: OwnedSemaphorePermit) {
        self.clients.fetch_add(1, Ordering::Relaxed);
        if self.orders.send(Order::Serve(stream, place)).is_err() {
            self.clients.fetch_sub(1, Ordering::Relaxed);
        }
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
    own: Option<(Driver<Ticket>, FillSink)>,
    front: Rc<HttpFront>,
    mut inbox: UnboundedReceiver<Order>,
    clients: Arc<AtomicUsize>,
) {
    let mut driver = spawn_local(async move {
        match own {
            Some((driver, sink)) => driver.run(sink).instrument(error_span!("worker", number)).await,
            None => std::future::pending().await,
        }
    });
    loop {
        let order = tokio::select! {
            order = inbox.recv() => order,
            // It runs for ever, unless it panics: then its clients wait for nothing, and go elsewhere.
            _ = &mut driver => {
                error!(worker = number, "the connection to redis ended by a fault: so does its worker");
                return;
            }
        };
        let Some(order) = order else {
            return;
        };
        match order {
            Order::Drain => front.start_draining(),
            Order::End => return,
            Order::Serve(stream, place) => {
                let leaving = Leaving { clients: clients.clone(), _place: place };
                // A socket that cannot be registered is closed; the client sees that.
                if let Ok(stream) = tokio::net::TcpStream::from_std(stream) {
                    let front = front.clone();
                    spawn_local(async move {
                        let _leaving = leaving;
                        serve(stream, front).await;
                    });
                }
            }
        }
    }
}

/// Gives the place back when the client's task ends, also by a panic.
struct Leaving {
    clients: Arc<AtomicUsize>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.clients.fetch_sub(1, Ordering::Relaxed);
    }
}
