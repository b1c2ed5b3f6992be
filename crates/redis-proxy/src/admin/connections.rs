//! The connections of the admin port: few at a time, and one that asks is never kept out by those that lie idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use sync::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::clock::now_ns;

/// Admin connections at the same time.
const MOST: usize = 64;

pub(super) struct Connections {
    permits: Arc<Semaphore>,
    /// Those that have not been told to end. At most [`MOST`].
    open: Mutex<Vec<Arc<Connection>>>,
    /// A connection has its answer, so it may be told to end.
    idled: Notify,
}

struct Connection {
    /// When it came, or had its last answer.
    idle_since_ns: AtomicU64,
    asking: AtomicUsize,
    end: Notify,
}

/// A connection's permit; given back when dropped.
pub(super) struct AdminPermit {
    connection: Arc<Connection>,
    all: Arc<Connections>,
    _permit: OwnedSemaphorePermit,
}

impl Connections {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Connections {
            permits: Arc::new(Semaphore::new(MOST)),
            open: Mutex::default(),
            idled: Notify::new(),
        })
    }

    /// A permit for one that has come. Where there is none, that which lies idle for longest ends; where all are
    /// being answered, it waits for the first answer.
    pub(super) async fn permit(self: &Arc<Self>) -> AdminPermit {
        loop {
            if let Ok(permit) = self.permits.clone().try_acquire_owned() {
                return self.take(permit);
            }
            self.end_idlest();
            tokio::select! {
                // The semaphore is never closed.
                Ok(permit) = self.permits.clone().acquire_owned() => return self.take(permit),
                () = self.idled.notified() => {}
            }
        }
    }

    fn take(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> AdminPermit {
        let connection = Arc::new(Connection {
            idle_since_ns: AtomicU64::new(now_ns()),
            asking: AtomicUsize::new(0),
            end: Notify::new(),
        });
        self.open.lock().push(connection.clone());
        AdminPermit { connection, all: self.clone(), _permit: permit }
    }

    fn end_idlest(&self) {
        let mut open = self.open.lock();
        let idle = open.iter().enumerate().filter(|(_, one)| one.asking.load(Ordering::Relaxed) == 0);
        let idlest = idle.min_by_key(|(_, one)| one.idle_since_ns.load(Ordering::Relaxed)).map(|(at, _)| at);
        if let Some(at) = idlest {
            open.swap_remove(at).end.notify_one();
        }
    }
}

impl AdminPermit {
    /// Returns when the connection is to make room for another.
    pub(super) async fn is_wanted(&self) {
        self.connection.end.notified().await;
    }

    /// While what it returns is there the connection is not idle.
    pub(super) fn asking(&self) -> AnswerGuard {
        self.connection.asking.fetch_add(1, Ordering::Relaxed);
        AnswerGuard { connection: self.connection.clone(), all: self.all.clone() }
    }

    /// What ends the connection, whatever is being written to it.
    pub(super) fn ending(&self) -> EndConnection {
        EndConnection(self.connection.clone())
    }
}

/// A request of a connection that is being answered.
pub(super) struct AnswerGuard {
    connection: Arc<Connection>,
    all: Arc<Connections>,
}

impl Drop for AnswerGuard {
    fn drop(&mut self) {
        self.connection.idle_since_ns.store(now_ns(), Ordering::Relaxed);
        self.connection.asking.fetch_sub(1, Ordering::Relaxed);
        self.all.idled.notify_one();
    }
}

/// A way to end a connection from elsewhere.
pub(super) struct EndConnection(Arc<Connection>);

impl EndConnection {
    pub(super) fn end(&self) {
        self.0.end.notify_one();
    }
}

impl Drop for AdminPermit {
    fn drop(&mut self) {
        self.all.open.lock().retain(|one| !Arc::ptr_eq(one, &self.connection));
    }
}
