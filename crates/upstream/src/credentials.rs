//! Credentials that may change while the program runs: read anew at each attempt to connect.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sync::Mutex;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::endpoint::{Endpoint, Secret};

/// From one look at credentials to the next, while they are being changed.
const PAUSE: Duration = Duration::from_millis(50);
/// Redis and the file are not changed in one moment: so long an attempt to connect bears that they disagree.
const DISAGREEMENT: Duration = Duration::from_millis(500);
/// A read that takes longer is not waited for: the last credentials are used.
const READ: Duration = Duration::from_millis(250);
/// Threads that may hang in a read.
const MOST_READS: usize = 64;

/// A user and its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The ACL user; `None` is Redis' `default` user.
    pub username: Option<String>,
    /// The password; without one no AUTH is sent.
    pub password: Option<Secret>,
}

/// Where credentials are read, shared by all connections that use them.
#[derive(Clone)]
pub struct Source(Arc<Shared>);

struct Shared {
    read: Box<dyn Fn() -> Result<Who, String> + Send + Sync>,
    /// What was read at the start. An endpoint with other credentials than these is somebody else's.
    first: Who,
    /// What was read last.
    last: Mutex<Who>,
    /// Whether the operator was told that it cannot be read.
    told: AtomicBool,
    /// Reads that are under way: on a disk that is away they do not end.
    turns: Arc<Semaphore>,
}

impl Source {
    /// `first` is what `read` gave at the start. It may block, as files do; its error is for the operator and names no secret.
    pub fn new(first: Who, read: impl Fn() -> Result<Who, String> + Send + Sync + 'static) -> Self {
        let (read, last) = (Box::new(read), Mutex::new(first.clone()));
        let turns = Arc::new(Semaphore::new(MOST_READS));
        Source(Arc::new(Shared { read, first, last, told: AtomicBool::new(false), turns }))
    }

    async fn read(&self) -> Result<Who, String> {
        let shared = self.0.clone();
        let Ok(turn) = shared.turns.clone().try_acquire_owned() else {
            return Err("earlier attempts to read them have not ended".into());
        };
        let read = spawn_blocking(move || {
            let _turn = turn;
            (shared.read)()
        });
        match timeout(READ, read).await {
            Ok(Ok(read)) => read,
            Ok(Err(_)) => Err("reading them panicked".into()),
            Err(_) => Err(format!("they are not read after {READ:?}")),
        }
    }

    /// What it says now, or said last where it cannot be read.
    async fn now(&self) -> Who {
        let mut read = self.read().await;
        let start = Instant::now();
        // It may be just being written.
        while read.is_err() && !self.0.told.load(Ordering::Relaxed) && start.elapsed() < DISAGREEMENT / 2 {
            sleep(PAUSE).await;
            read = self.read().await;
        }
        let mut last = self.0.last.lock();
        match read {
            Ok(who) => {
                self.0.told.store(false, Ordering::Relaxed);
                if *last != who {
                    info!("the credentials for redis have changed");
                    *last = who;
                }
            }
            Err(reason) => {
                if !self.0.told.swap(true, Ordering::Relaxed) {
                    warn!(reason, "the credentials for redis cannot be read: the last ones are used");
                }
            }
        }
        last.clone()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

impl Endpoint {
    fn who(&self) -> Who {
        Who { username: self.username.clone(), password: self.password.clone() }
    }

    /// The endpoint with the credentials of this moment.
    pub(crate) async fn as_of_now(&self) -> Cow<'_, Endpoint> {
        if let Some(proven) = &self.proven {
            return Cow::Owned(Endpoint { password: proven.first(), ..self.clone() });
        }
        match &self.source {
            Some(source) if source.0.first == self.who() => {
                let Who { username, password } = source.now().await;
                Cow::Owned(Endpoint { username, password, ..self.clone() })
            }
            _ => Cow::Borrowed(self),
        }
    }

    /// Redis has turned down what clients have proven last: as who `used`, with what one had proven before, if there is such.
    pub(crate) fn proven_before(&self, used: &Endpoint) -> Option<Cow<'static, Endpoint>> {
        let password = self.proven.as_ref()?.next(used.password.as_ref())?;
        Some(Cow::Owned(Endpoint { password, ..self.clone() }))
    }

    /// An attempt that began at `start` was turned down for its credentials, or cut: whether it is worth another look at them. Waits
    /// for a moment if so.
    pub(crate) async fn may_disagree(&self, start: Instant) -> bool {
        let patience = DISAGREEMENT.min(self.connect_timeout / 2);
        let again = self.source.is_some() && start.elapsed() < patience;
        if again {
            sleep(PAUSE).await;
        }
        again
    }
}
