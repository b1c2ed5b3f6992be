//! Credentials that may change while the program runs: read anew at each attempt to connect.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sync::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::endpoint::{Account, Endpoint, Secret};

/// From one look at credentials to the next, while they are being changed.
const PAUSE: Duration = Duration::from_millis(50);
/// Redis and the file are not changed in one moment: so long an attempt to connect bears that they disagree.
const DISAGREEMENT: Duration = Duration::from_millis(500);
/// A read of a file that takes longer is not waited for: the last credentials are used.
const READ: Duration = Duration::from_millis(250);
/// The same of a command, and never more than half of an attempt.
const RUN: Duration = Duration::from_secs(5);
/// Threads that may hang in a read of a file.
const MOST_READS: usize = 64;
/// So long what a command has said is good for all who ask.
const SHARED: Duration = Duration::from_secs(1);

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
    /// The file that is read, where it is one.
    file: Option<PathBuf>,
    /// What is read where that is what somebody has [told](Source::tell_password).
    heard: Option<Arc<Mutex<Who>>>,
    /// What was read last.
    last: Mutex<Who>,
    /// How often that has been something else than before.
    changes: watch::Sender<u64>,
    /// Whether the operator was told that it cannot be read.
    told: AtomicBool,
    /// Reads that are under way: on a disk that is away they do not end.
    turns: Arc<Semaphore>,
    cost: Cost,
}

/// What it costs to read credentials.
enum Cost {
    /// Nothing: everybody reads for himself.
    File,
    /// A process: one at a time, and many share what it has said, which is kept here with the time.
    Command(Mutex<Option<(Instant, Result<Who, String>)>>),
}

impl Source {
    /// `first` is what `read` gave at the start. It may block, as files do; its error is for the operator and names no secret.
    pub fn of_file(
        first: Who,
        file: PathBuf,
        read: impl Fn() -> Result<Who, String> + Send + Sync + 'static,
    ) -> Self {
        Source::with(first, (Some(file), None), Box::new(read), MOST_READS, Cost::File)
    }

    /// The same of a command, which takes longer than a file: one run at a time, and who asks meanwhile or within a second is given what
    /// it says. A run that nobody waits for any more is ended by `run` itself, and what it says is taken.
    pub fn of_command(first: Who, run: impl Fn() -> Result<Who, String> + Send + Sync + 'static) -> Self {
        Source::with(first, (None, None), Box::new(run), 1, Cost::Command(Mutex::new(None)))
    }

    /// The same of what whoever reads it [tells](Self::tell_password), such as a password among settings that are read again.
    pub fn of_teller(first: Who) -> Self {
        let heard = Arc::new(Mutex::new(first.clone()));
        let read = {
            let heard = heard.clone();
            move || Ok(heard.lock().clone())
        };
        Source::with(first, (None, Some(heard)), Box::new(read), MOST_READS, Cost::File)
    }

    /// From now on the user has this password, where that is told.
    pub fn tell_password(&self, password: Option<Secret>) {
        if let Some(heard) = &self.0.heard {
            heard.lock().password = password;
        }
    }

    /// Whether it is what somebody tells.
    pub fn is_told(&self) -> bool {
        self.0.heard.is_some()
    }

    fn with(
        first: Who,
        (file, heard): (Option<PathBuf>, Option<Arc<Mutex<Who>>>),
        read: Box<dyn Fn() -> Result<Who, String> + Send + Sync>,
        most_reads: usize,
        cost: Cost,
    ) -> Self {
        let (last, turns) = (Mutex::new(first.clone()), Arc::new(Semaphore::new(most_reads)));
        let (told, changes) = (AtomicBool::new(false), watch::Sender::default());
        Source(Arc::new(Shared { read, first, file, heard, last, changes, told, turns, cost }))
    }

    /// The file that is read; none of a command.
    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }

    /// Reads now, where it is known that something has changed: if they are other credentials, open connections log in again with them.
    pub async fn look(&self) {
        let _ = self.now(READ * 2).await;
    }

    /// Ready when other credentials have been read than before.
    pub(crate) async fn changed(&self) {
        // The sender lives as long as we do.
        let _ = self.0.changes.subscribe().changed().await;
    }

    /// What is read now, within `patience`.
    async fn read(&self, patience: Duration) -> Result<Who, String> {
        match timeout(patience, self.read_in_turn()).await {
            Ok(read) => read,
            Err(_) => Err(format!("they are not read after {patience:?}")),
        }
    }

    async fn read_in_turn(&self) -> Result<Who, String> {
        let shared = self.0.clone();
        let turn = match &shared.cost {
            Cost::File => shared.turns.clone().try_acquire_owned().ok(),
            Cost::Command(_) => shared.turns.clone().acquire_owned().await.ok(),
        };
        let Some(turn) = turn else { return Err("earlier attempts to read them have not ended".into()) };
        if let Cost::Command(said) = &shared.cost
            && let Some((at, read)) = &*said.lock()
            && at.elapsed() < SHARED
        {
            return read.clone();
        }
        let read = spawn_blocking(move || {
            let _turn = turn;
            shared.read()
        });
        read.await.unwrap_or_else(|_| Err("reading them panicked".into()))
    }

    /// What it says now, or said last where it cannot be read. An attempt to connect may take `attempt`.
    async fn now(&self, attempt: Duration) -> Who {
        let (patience, retry) = match self.0.cost {
            // It may be just being written.
            Cost::File => (READ, DISAGREEMENT / 2),
            Cost::Command(_) => (RUN.min(attempt / 2), Duration::ZERO),
        };
        let mut read = self.read(patience).await;
        let start = Instant::now();
        while read.is_err() && !self.0.told.load(Ordering::Relaxed) && start.elapsed() < retry {
            sleep(PAUSE).await;
            read = self.read(patience).await;
        }
        match read {
            Ok(_) => self.0.told.store(false, Ordering::Relaxed),
            Err(reason) => {
                if !self.0.told.swap(true, Ordering::Relaxed) {
                    warn!(reason, "the credentials for redis cannot be read: the last ones are used");
                }
            }
        }
        self.0.last.lock().clone()
    }

    /// What a command has said was turned down: the next one to ask has it run.
    fn forget(&self) {
        if let Cost::Command(said) = &self.0.cost {
            *said.lock() = None;
        }
    }
}

impl Shared {
    /// Reads, and keeps what is read, whether or not anybody still waits for it. Blocks.
    fn read(&self) -> Result<Who, String> {
        let read = (self.read)();
        if let Ok(who) = &read {
            let mut last = self.last.lock();
            if *last != *who {
                info!("the credentials for redis have changed");
                *last = who.clone();
                // Whoever is told finds them.
                drop(last);
                self.changes.send_modify(|changes| *changes += 1);
            }
        }
        if let Cost::Command(said) = &self.cost {
            *said.lock() = Some((Instant::now(), read.clone()));
        }
        read
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

impl Endpoint {
    /// Where its credentials are read; none if they stay as they are.
    pub(crate) fn own_source(&self) -> Option<&Source> {
        self.login.source.as_ref().filter(|source| source.0.first == self.who())
    }

    fn who(&self) -> Who {
        Who { username: self.login.username.clone(), password: self.login.password.clone() }
    }

    /// The endpoint with the credentials of this moment.
    pub(crate) async fn as_of_now(&self) -> Cow<'_, Endpoint> {
        if let Some(proven) = &self.login.proven {
            return Cow::Owned(self.with_password(proven.first()));
        }
        match self.own_source() {
            Some(source) => {
                let Who { username, password } = source.now(self.limits.connect_timeout()).await;
                let login = Account { username, password, ..self.login.clone() };
                Cow::Owned(Endpoint { login, ..self.clone() })
            }
            None => Cow::Borrowed(self),
        }
    }

    /// Redis has turned down what clients have proven last: as who `used`, with what one had proven before, if there is such.
    pub(crate) fn proven_before(&self, used: &Endpoint) -> Option<Cow<'static, Endpoint>> {
        let password = self.login.proven.as_ref()?.next(used.login.password.as_ref())?;
        Some(Cow::Owned(self.with_password(password)))
    }

    fn with_password(&self, password: Option<Secret>) -> Endpoint {
        let login = Account { password, ..self.login.clone() };
        Endpoint { login, ..self.clone() }
    }

    /// An attempt that began at `start` was turned down for its credentials, or cut: whether it is worth another look at them. Waits
    /// for a moment if so.
    pub(crate) async fn may_disagree(&self, start: Instant) -> bool {
        let patience = DISAGREEMENT.min(self.limits.connect_timeout() / 2);
        let source = self.login.source.as_ref().filter(|_| start.elapsed() < patience);
        if let Some(source) = source {
            sleep(PAUSE).await;
            source.forget();
        }
        source.is_some()
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use tokio::time::advance;

    use super::*;

    const ATTEMPT: Duration = Duration::from_secs(2);

    fn who(run: usize) -> Who {
        Who { username: None, password: Some(Secret::new(format!("password-{run}"))) }
    }

    /// A command whose runs are counted, and under way one at a time; `then` is what a run does, by its number from 1.
    fn command(
        then: impl Fn(usize) -> Result<Who, String> + Send + Sync + 'static,
    ) -> (Source, Arc<AtomicUsize>) {
        let runs = Arc::new(AtomicUsize::new(0));
        let (counted, under_way) = (runs.clone(), AtomicBool::new(false));
        let source = Source::of_command(who(0), move || {
            assert!(!under_way.swap(true, Ordering::SeqCst), "one run at a time");
            let said = then(counted.fetch_add(1, Ordering::SeqCst) + 1);
            under_way.store(false, Ordering::SeqCst);
            said
        });
        (source, runs)
    }

    /// Gives time to threads; that of tokio stands still.
    fn pass(time: Duration) {
        thread::sleep(time);
    }

    #[tokio::test]
    async fn many_who_ask_at_once_share_a_run() {
        let (source, runs) = command(|run| {
            pass(Duration::from_millis(50));
            Ok(who(run))
        });
        let asking: Vec<_> = (0..50)
            .map(|_| {
                tokio::spawn({
                    let source = source.clone();
                    async move { source.now(ATTEMPT).await }
                })
            })
            .collect();
        for asked in asking {
            assert_eq!(asked.await.expect("no panic"), who(1));
        }
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_command_says_is_good_for_a_second() {
        let (source, _) = command(|run| Ok(who(run)));
        assert_eq!(source.now(ATTEMPT).await, who(1));
        advance(SHARED - Duration::from_millis(1)).await;
        assert_eq!(source.now(ATTEMPT).await, who(1));
        advance(Duration::from_millis(1)).await;
        assert_eq!(source.now(ATTEMPT).await, who(2));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_turned_down_is_asked_for_anew() {
        let (source, _) = command(|run| Ok(who(run)));
        assert_eq!(source.now(ATTEMPT).await, who(1));
        source.forget();
        assert_eq!(source.now(ATTEMPT).await, who(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_that_fails_leaves_the_last_password_and_is_not_run_again_at_once() {
        let (source, runs) = command(|run| match run {
            2 => Err("ended with exit status: 1".into()),
            _ => Ok(who(run)),
        });
        assert_eq!(source.now(ATTEMPT).await, who(1));
        advance(SHARED).await;
        assert_eq!(source.now(ATTEMPT).await, who(1));
        assert_eq!(source.now(ATTEMPT).await, who(1));
        assert_eq!((runs.load(Ordering::SeqCst), source.0.told.load(Ordering::SeqCst)), (2, true));
        advance(SHARED).await;
        assert_eq!(source.now(ATTEMPT).await, who(3));
        assert!(!source.0.told.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn a_slow_command_holds_nobody_up_and_what_it_says_in_the_end_is_taken() {
        let (source, runs) = command(|run| {
            pass(Duration::from_millis(300));
            Ok(who(run))
        });
        let start = Instant::now();
        let attempt = Duration::from_millis(100);
        assert_eq!((source.now(attempt).await, source.now(attempt).await), (who(0), who(0)));
        assert!(start.elapsed() < Duration::from_millis(290), "{:?}", start.elapsed());
        assert_eq!(source.now(ATTEMPT).await, who(1));
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    }
}
