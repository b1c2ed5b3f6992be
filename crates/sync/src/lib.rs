//! The locks, atomics and wakes of what must hold in every schedule: the cache, the queue of a connection, the link.
//!
//! They are parking_lot's and the standard library's, under their own names and at no cost. With the feature `shuttle`
//! they are those of [shuttle](https://docs.rs/shuttle), which takes the processor away at each of them and so explores
//! the orders in which threads can meet, under a seed. Then they work in its schedules alone, and what lies between two
//! of them is one step: memory orderings weaker than `SeqCst` are not explored.

#[cfg(feature = "shuttle")]
mod explored;
#[cfg(not(feature = "shuttle"))]
pub mod wakes;

/// In explored schedules all threads are tasks of one, and everybody is woken at once.
#[cfg(feature = "shuttle")]
pub mod wakes {
    /// Does `work`.
    pub fn together<R>(work: impl FnOnce() -> R) -> R {
        work()
    }

    /// Wakes at once.
    pub fn wake(waker: std::task::Waker) {
        waker.wake();
    }
}

#[cfg(feature = "shuttle")]
pub use explored::{Mutex, MutexGuard};
#[cfg(not(feature = "shuttle"))]
pub use parking_lot::{Mutex, MutexGuard};
#[cfg(feature = "shuttle")]
pub use shuttle;

/// Atomics, with the ordering that goes with them.
pub mod atomic {
    #[cfg(feature = "shuttle")]
    pub use shuttle::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize};
    pub use std::sync::atomic::Ordering;
    #[cfg(not(feature = "shuttle"))]
    pub use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize};
}

/// Lets the others go on for a while: about a millisecond, or some of their steps.
pub fn pause() {
    #[cfg(not(feature = "shuttle"))]
    std::thread::sleep(std::time::Duration::from_millis(1));
    #[cfg(feature = "shuttle")]
    for _ in 0..PAUSE_STEPS {
        shuttle::thread::yield_now();
    }
}

/// Does `work` on a thread of its own after a [`pause`].
pub fn later(work: impl FnOnce() + Send + 'static) {
    #[cfg(feature = "shuttle")]
    use shuttle::thread::spawn;
    #[cfg(not(feature = "shuttle"))]
    use std::thread::spawn;
    spawn(move || {
        pause();
        work();
    });
}

/// What a pause is there for takes some steps of others: a command sent, executed, and its reply applied.
#[cfg(feature = "shuttle")]
const PAUSE_STEPS: usize = 32;
