//! Whether a link carries the promise of its mode: the one state of a link, and the one place where it changes.

use std::sync::atomic::Ordering;

use sync::Mutex;
use sync::atomic::AtomicBool;

/// What a link's connection is good for. Only in force are entries kept and proven; else every read is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// There is no connection.
    Lost(String),
    /// The server is there and does not track what is read, or is not to be asked to.
    Untracked(String),
    /// It is a replica, which is told of changes late.
    Replica,
    /// A connection is up and tracked; whether invalidations arrive is being tried.
    Trying,
    /// What is read is tracked, and invalidations arrive.
    InForce,
    /// It tracks, and was found out not to tell of changes, or not all that is needed.
    Distrusted(String),
}

/// Why a link is not in force whose first attempt to connect has not ended.
const NOT_YET: &str = "there is no connection yet";

impl Promise {
    /// Of a link that has just begun.
    pub(super) fn not_yet() -> Promise {
        Promise::Lost(NOT_YET.into())
    }

    /// # Errors
    /// Why it is not in force, for an operator.
    pub(super) fn held(&self) -> Result<(), String> {
        match self {
            Promise::InForce => Ok(()),
            Promise::Trying => Err("delivery of invalidations is being tried".into()),
            Promise::Replica => Err("the server is a replica, not a primary".into()),
            Promise::Lost(why) | Promise::Untracked(why) | Promise::Distrusted(why) => Err(why.clone()),
        }
    }

    /// Whether it is too early to say.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Promise::Trying => true,
            Promise::Lost(why) => why == NOT_YET,
            _ => false,
        }
    }

    /// Whether there is a connection that was accepted for tracking.
    pub(super) fn is_tracked(&self) -> bool {
        matches!(self, Promise::Trying | Promise::InForce | Promise::Distrusted(_))
    }

    /// Whether there is a connection and what is read on it is kept.
    fn keeps(&self) -> bool {
        matches!(self, Promise::Trying | Promise::InForce)
    }

    /// Whether there is a connection and what is read on it is not to be kept.
    fn is_refused(&self) -> bool {
        matches!(self, Promise::Untracked(_) | Promise::Replica | Promise::Distrusted(_))
    }
}

/// The state of a link. It changes on the link's thread alone, and is read everywhere.
pub(super) struct LinkState {
    // A short lock, on the miss path and of those who report.
    now: Mutex<Now>,
    /// Whether it is in force, and whether it is refused, for those who only want to know that. Written under the lock;
    /// relaxed, because what they guard (a lease, a fill) is guarded by the order of the wire.
    in_force: AtomicBool,
    refused: AtomicBool,
    /// Whether what is fetched on it may come to be held.
    fetches: AtomicBool,
}

struct Now {
    /// Of the connection that is up, or was last.
    incarnation: u64,
    promise: Promise,
}

impl LinkState {
    pub(super) fn new() -> Self {
        let promise = Promise::not_yet();
        LinkState {
            now: Mutex::new(Now { incarnation: 0, promise }),
            in_force: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            fetches: AtomicBool::new(false),
        }
    }

    /// A connection has come, or the one that was there has gone.
    pub(super) fn changed(&self, incarnation: Option<u64>, promise: Promise) {
        let mut now = self.now.lock();
        now.incarnation = incarnation.unwrap_or(now.incarnation);
        self.enter(&mut now, promise);
    }

    /// Something was found out about the connection `incarnation`. It is worth nothing of another one, nor of one that is not
    /// tracked; whether it was taken.
    pub(super) fn found(&self, incarnation: u64, promise: Promise) -> bool {
        let mut now = self.now.lock();
        let taken = now.incarnation == incarnation && now.promise.is_tracked();
        if taken {
            self.enter(&mut now, promise);
        }
        taken
    }

    fn enter(&self, now: &mut Now, promise: Promise) {
        self.in_force.store(promise == Promise::InForce, Ordering::Relaxed);
        self.refused.store(promise.is_refused(), Ordering::Relaxed);
        self.fetches.store(promise.keeps(), Ordering::Relaxed);
        now.promise = promise;
    }

    /// The state at this moment.
    pub(super) fn promise(&self) -> Promise {
        self.now.lock().promise.clone()
    }

    /// The tracked connection, if there is one.
    pub(super) fn tracked(&self) -> Option<u64> {
        let now = self.now.lock();
        now.promise.is_tracked().then_some(now.incarnation)
    }

    pub(super) fn is_in_force(&self) -> bool {
        self.in_force.load(Ordering::Relaxed)
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// The same as [`keeps`](Self::keeps), as a hint for those who could ask elsewhere.
    pub(super) fn fetches(&self) -> bool {
        self.fetches.load(Ordering::Relaxed)
    }

    /// Whether what is read now may be kept; it is served once the promise is in force.
    pub(super) fn keeps(&self) -> bool {
        self.now.lock().promise.keeps()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_of_one_connection_says_nothing_of_the_next() {
        let standing = LinkState::new();
        assert!(standing.promise().is_open(), "nothing is told of a link that has just begun");
        standing.changed(Some(1), Promise::Trying);
        assert!(standing.found(1, Promise::InForce) && standing.is_in_force() && standing.keeps());
        standing.changed(None, Promise::Lost("gone".into()));
        assert!(!standing.promise().is_open());
        assert!(!standing.found(1, Promise::InForce) && !standing.is_in_force());
        standing.changed(Some(2), Promise::Untracked("no".into()));
        assert!(!standing.found(1, Promise::InForce) && !standing.found(2, Promise::InForce));
        assert_eq!(standing.promise(), Promise::Untracked("no".into()));
        standing.changed(Some(3), Promise::Trying);
        assert!(!standing.found(1, Promise::InForce) && standing.keeps() && !standing.is_in_force());
        assert!(standing.found(3, Promise::Distrusted("no".into())) && !standing.keeps());
        assert_eq!(standing.tracked(), Some(3));
        assert!(standing.found(3, Promise::InForce), "it may be found to deliver after all");
    }
}
