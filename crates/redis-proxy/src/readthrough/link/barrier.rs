//! The shared barrier: readers that need a proof from now on wait for one PING between them.
//!
//! At most one PING is under way. Whoever comes while it is waits for the next one, which is sent when it returns: so
//! each PING leaves after all who wait for it have asked, and their number costs Redis nothing.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use sync::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// Who waits for which PING.
#[derive(Default)]
pub(super) struct Barrier {
    // A short lock: joined by workers, ended by the link's reader.
    rounds: Mutex<Rounds>,
}

#[derive(Default)]
struct Rounds {
    /// Those who wait for the PING that is under way.
    under_way: Option<Arc<Notify>>,
    /// Those who wait for the one after it.
    next: Option<Arc<Notify>>,
}

/// The wait for one PING's end, well or badly: what has become of the proof is for the next lookup to say.
pub(crate) struct Round(Pin<Box<OwnedNotified>>);

impl Round {
    fn of(bell: &Arc<Notify>) -> Round {
        // Made before the bell can ring: `notify_waiters` reaches a future that was made but not polled.
        Round(Box::pin(bell.clone().notified_owned()))
    }
}

impl Future for Round {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl Barrier {
    /// Joins the next PING that is not sent yet; `true` if it must be sent now, by the caller.
    pub(super) fn join(&self) -> (Round, bool) {
        let mut rounds = self.rounds.lock();
        let (bell, send) = match &mut rounds.under_way {
            Some(_) => (rounds.next.get_or_insert_default(), false),
            none => (none.insert(Arc::default()), true),
        };
        (Round::of(bell), send)
    }

    /// The PING under way has ended: wakes those who waited for it. `true` if the next one must be sent now.
    pub(super) fn ended(&self) -> bool {
        let (ended, send) = {
            let mut rounds = self.rounds.lock();
            let next = rounds.next.take();
            let send = next.is_some();
            (std::mem::replace(&mut rounds.under_way, next), send)
        };
        if let Some(bell) = ended {
            bell.notify_waiters();
        }
        send
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn is_over(round: &mut Round) -> bool {
        Pin::new(round).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn those_who_come_while_a_ping_is_under_way_wait_for_the_next() {
        let barrier = Barrier::default();
        let (mut first, send) = barrier.join();
        assert!(send);
        let (mut second, send) = barrier.join();
        let (mut third, again) = barrier.join();
        assert!(!send && !again && !is_over(&mut first));
        assert!(barrier.ended(), "two wait for the next");
        assert!(is_over(&mut first) && !is_over(&mut second));
        assert!(!barrier.ended());
        assert!(is_over(&mut second) && is_over(&mut third));
        assert!(barrier.join().1, "nothing is under way");
    }
}
