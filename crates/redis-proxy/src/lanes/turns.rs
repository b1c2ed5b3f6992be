//! In which order clients of one worker that are about to block get connections of their own: as they have asked for them. Of two
//! that block on one list the first is served first, whichever connection was opened sooner.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Those who have asked and not been given one.
#[derive(Default)]
pub(super) struct Turns {
    waiting: RefCell<BTreeMap<u64, Option<Waker>>>,
}

/// A place among them, given up when dropped.
pub(super) struct Turn {
    number: u64,
    /// Whether anybody was before it.
    is_behind: bool,
    turns: Rc<Turns>,
}

impl Turns {
    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// The last place.
    pub(super) fn take(self: &Rc<Self>) -> Turn {
        let mut waiting = self.waiting.borrow_mut();
        let number = waiting.last_key_value().map_or(0, |(last, _)| last + 1);
        let is_behind = !waiting.is_empty();
        waiting.insert(number, None);
        Turn { number, is_behind, turns: self.clone() }
    }
}

impl Turn {
    /// Nobody is before it any more. Whether anybody was.
    pub(super) async fn come(&self) -> bool {
        poll_fn(|cx| {
            let mut waiting = self.turns.waiting.borrow_mut();
            if waiting.first_key_value().is_none_or(|(first, _)| *first == self.number) {
                return Poll::Ready(());
            }
            waiting.insert(self.number, Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
        self.is_behind
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut waiting = self.turns.waiting.borrow_mut();
        waiting.remove(&self.number);
        if let Some(mut first) = waiting.first_entry()
            && let Some(waker) = first.get_mut().take()
        {
            waker.wake();
        }
    }
}
