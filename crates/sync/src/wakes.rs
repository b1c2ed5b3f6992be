//! Wakes the task of another thread once for many things, and not for each: that costs a system call, and then the other thread goes on
//! with the first of them while the next ones are made.

use std::cell::{Cell, RefCell};
use std::task::Waker;

thread_local! {
    /// How many [`together`] are under way on this thread, one within the other.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static HAS_HELD: Cell<bool> = const { Cell::new(false) };
    /// Who is to be woken first, most often alone.
    static FIRST: Cell<Option<Waker>> = const { Cell::new(None) };
    static OTHERS: RefCell<Vec<Waker>> = const { RefCell::new(Vec::new()) };
}

/// Does `work`; who was to be [woken](wake) within it is woken at its end, also where it panics.
///
/// Cost: some instructions where nobody was.
#[inline]
pub fn together<R>(work: impl FnOnce() -> R) -> R {
    struct End;
    impl Drop for End {
        #[inline]
        fn drop(&mut self) {
            let depth = DEPTH.get() - 1;
            DEPTH.set(depth);
            if depth == 0 && HAS_HELD.get() {
                wake_held();
            }
        }
    }
    DEPTH.set(DEPTH.get() + 1);
    let _end = End;
    work()
}

/// Wakes at once, or at the end of the [`together`] that is under way on this thread.
pub fn wake(waker: Waker) {
    if DEPTH.get() == 0 {
        return waker.wake();
    }
    if !HAS_HELD.replace(true) {
        return FIRST.set(Some(waker));
    }
    // A task that waits for many things is woken once.
    let first = FIRST.take();
    let is_first = first.as_ref().is_some_and(|first| first.will_wake(&waker));
    FIRST.set(first);
    if !is_first {
        OTHERS.with_borrow_mut(|others| match others.last() {
            Some(last) if last.will_wake(&waker) => {}
            _ => others.push(waker),
        });
    }
}

#[cold]
fn wake_held() {
    HAS_HELD.set(false);
    if let Some(waker) = FIRST.take() {
        waker.wake();
    }
    // Nothing is woken while they are borrowed: whoever is woken may hold others.
    while let Some(waker) = OTHERS.with_borrow_mut(Vec::pop) {
        waker.wake();
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Woken {
        fn times(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn who_is_to_be_woken_often_is_woken_once_at_the_end() {
        let (one, other) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
        wake(one.clone().into());
        assert_eq!(one.times(), 1, "at once where nothing is done together");
        together(|| {
            together(|| (0..3).for_each(|_| wake(one.clone().into())));
            wake(other.clone().into());
            assert_eq!((one.times(), other.times()), (1, 0), "not at the end of the inner one");
        });
        assert_eq!((one.times(), other.times()), (2, 1));
    }

    #[test]
    fn a_panic_wakes_too() {
        let woken = Arc::new(Woken::default());
        let work = || {
            together(|| {
                wake(woken.clone().into());
                panic!("on purpose");
            });
        };
        assert!(catch_unwind(AssertUnwindSafe(work)).is_err());
        assert_eq!(woken.times(), 1);
        wake(woken.clone().into());
        assert_eq!(woken.times(), 2);
    }
}
