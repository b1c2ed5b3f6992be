//! A crowd of bounded size that never says no: for whoever comes when it is full, the oldest is told to end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use sync::Mutex;
use tokio::sync::Notify;

/// At most so many at a time; those who were told are no longer counted.
pub(crate) struct OldestEnds {
    most: AtomicUsize,
    /// By the order in which they came.
    inside: Mutex<BTreeMap<u64, Arc<Notify>>>,
    next: AtomicU64,
    left: Notify,
}

/// One of them, until it is dropped.
pub(crate) struct Entered {
    crowd: Arc<OldestEnds>,
    number: u64,
    told: Arc<Notify>,
    /// Whether another was told to end for it.
    pub(crate) ends_another: bool,
}

impl OldestEnds {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        let (most, next) = (AtomicUsize::new(most), AtomicU64::new(0));
        Arc::new(OldestEnds { most, inside: Mutex::default(), next, left: Notify::new() })
    }

    /// So many from now on: if fewer, they end as others come.
    pub(crate) fn set_most(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    pub(crate) fn enter(self: &Arc<Self>) -> Entered {
        let told = Arc::new(Notify::new());
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut inside = self.inside.lock();
        inside.insert(number, told.clone());
        let mut ends_another = false;
        while inside.len() > self.most.load(Ordering::Relaxed) {
            let Some((_, oldest)) = inside.pop_first() else { break };
            oldest.notify_one();
            ends_another = true;
        }
        Entered { crowd: self.clone(), number, told, ends_another }
    }

    /// Returns once nobody is inside but those who were told to end.
    pub(crate) async fn all_left(&self) {
        loop {
            let left = self.left.notified();
            if self.inside.lock().is_empty() {
                return;
            }
            left.await;
        }
    }
}

impl Entered {
    /// Ready when it is told to end.
    pub(crate) fn must_end(&self) -> impl Future<Output = ()> + '_ {
        self.told.notified()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.crowd.inside.lock().remove(&self.number);
        self.crowd.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_is_told_when_one_more_comes_than_fit() {
        let crowd = OldestEnds::new(2);
        let (first, second) = (crowd.enter(), crowd.enter());
        assert!(!first.ends_another && !second.ends_another);
        drop(second);
        let third = crowd.enter();
        assert!(!third.ends_another, "one had left");
        let fourth = crowd.enter();
        assert!(fourth.ends_another);
        first.must_end().await;
        drop(first);
        assert!(tokio::time::timeout(std::time::Duration::ZERO, third.must_end()).await.is_err());
        crowd.set_most(1);
        let fifth = crowd.enter();
        third.must_end().await;
        fourth.must_end().await;
        drop((third, fourth, fifth));
        crowd.all_left().await;
    }
}
