//! The parts without which the program is not whole: its threads, and the tasks on them that must not end.
//!
//! A worker, a link or an acceptor that has died leaves a process that looks alive and does not serve. So the death of
//! any of them is the end of the process, which a supervisor can see and mend; until then `/livez` asks every thread.

use std::convert::Infallible;
use std::fmt::Display;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};
use tracing::error;

/// The most time a thread takes to say that it runs.
const PATIENCE: Duration = Duration::from_secs(1);

/// Rung by the first part that dies. The process's: so is its end.
static DEATH: Notify = Notify::const_new();
static IS_TOLD: AtomicBool = AtomicBool::new(false);
/// The threads that run. Changed when one starts or ends.
static THREADS: Mutex<Vec<Arc<Pulse>>> = Mutex::new(Vec::new());

/// Waits for the death of a part.
pub(crate) async fn death() {
    DEATH.notified().await;
}

/// Says that `part` has died, which ends the process.
pub(crate) fn lost(part: &str, why: impl Display) {
    // A thread that panics takes its tasks with it; the first one told is the cause.
    if !IS_TOLD.swap(true, Ordering::Relaxed) {
        error!(part, %why, "a part of the program has died, so the program ends");
    }
    DEATH.notify_one();
}

/// Starts a thread that the program cannot do without: one that panics or fails is [`lost`]. It is asked whether it runs from
/// now on, so what it is there for runs [within](Alive::during) what it is given.
///
/// # Errors
/// When the system has no thread to give.
pub(crate) fn spawn(
    name: String,
    body: impl FnOnce(Alive) -> io::Result<()> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let alive = Alive::new(&name);
    thread::Builder::new().name(name.clone()).spawn(move || {
        let _wake = Wake(&name);
        if let Err(error) = body(alive) {
            lost(&name, error);
        }
    })
}

/// Runs a task that its thread cannot do without: should it panic, it is [`lost`].
pub(crate) async fn task<T>(name: &'static str, body: impl Future<Output = T>) -> T {
    let _wake = Wake(name);
    body.await
}

/// Whether every thread runs.
///
/// # Errors
/// The name of one that does not, for the probe's reader.
pub(crate) async fn check() -> Result<(), String> {
    let asked: Vec<_> = threads().iter().map(|pulse| (pulse.name.clone(), pulse.ask())).collect();
    let deadline = Instant::now() + PATIENCE;
    for (name, mut heard) in asked {
        // A thread that ends meanwhile, as it was told to, ends the wait too.
        if timeout_at(deadline, heard.changed()).await.is_err() {
            return Err(format!("{name} does not answer"));
        }
    }
    Ok(())
}

fn threads() -> MutexGuard<'static, Vec<Arc<Pulse>>> {
    THREADS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a thread is asked whether it runs.
struct Pulse {
    name: String,
    asked: Notify,
    beats: watch::Sender<()>,
}

impl Pulse {
    fn ask(&self) -> watch::Receiver<()> {
        let heard = self.beats.subscribe();
        self.asked.notify_one();
        heard
    }

    async fn beat(&self) -> Infallible {
        loop {
            self.asked.notified().await;
            assert!(!is_to_die(&self.name), "as the test wishes");
            self.beats.send_replace(());
        }
    }
}

/// A thread among those that run, for as long as it does.
pub(crate) struct Alive(Arc<Pulse>);

impl Alive {
    pub(crate) fn new(name: &str) -> Self {
        let pulse = Pulse { name: name.into(), asked: Notify::new(), beats: watch::Sender::new(()) };
        let pulse = Arc::new(pulse);
        threads().push(pulse.clone());
        Alive(pulse)
    }

    /// Runs what the thread is there for, and answers [`check`] beside it.
    pub(crate) async fn during<T>(&self, life: impl Future<Output = T>) -> T {
        // Here too: the thread's own comes after the tasks that its runtime drops.
        let _wake = Wake(&self.0.name);
        tokio::select! {
            ended = life => ended,
            never = self.0.beat() => match never {},
        }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        threads().retain(|pulse| !Arc::ptr_eq(pulse, &self.0));
    }
}

/// Tells of the part if it is dropped by a panic.
struct Wake<'a>(&'a str);

impl Drop for Wake<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            lost(self.0, "it panicked");
        }
    }
}

/// Whether a test wants this thread to die: when it is asked for its pulse, or has written a line. In builds for tests alone.
pub(crate) fn is_to_die(name: &str) -> bool {
    cfg!(debug_assertions) && std::env::var("REDIS_PROXY_DIES").is_ok_and(|dies| dies == name)
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(future)
    }

    /// One test, as the bell is the process's.
    #[test]
    fn a_part_that_panics_or_fails_rings_and_one_that_ends_does_not() {
        let rung = || block_on(async { timeout(Duration::ZERO, death()).await }).is_ok();
        assert!(spawn("ends".into(), |_| Ok(())).unwrap().join().is_ok() && !rung());
        assert!(spawn("panics".into(), |_| panic!("as the test wishes")).unwrap().join().is_err() && rung());
        let fails = |_| Err(io::Error::other("as the test wishes"));
        assert!(spawn("fails".into(), fails).unwrap().join().is_ok() && rung());
        let run = |dies: bool| {
            block_on(async move {
                tokio::spawn(task("a task", async move { assert!(!dies, "as the test wishes") })).await
            })
        };
        assert!(run(false).is_ok() && !rung());
        assert!(run(true).is_err() && rung());
    }

    #[test]
    fn a_thread_that_stands_still_is_named_and_one_that_has_ended_is_not() {
        block_on(async {
            Alive::new("ended").during(async {}).await;
            assert_eq!(check().await, Ok(()));
            let stands = Alive::new("stands");
            assert_eq!(check().await, Err("stands does not answer".into()));
            let runs = tokio::spawn(async move { stands.during(std::future::pending::<()>()).await });
            assert_eq!(check().await, Ok(()));
            runs.abort();
        });
    }
}
