//! The shared barrier: readers that need a proof from now on wait for one PING between them.
//!
//! At most one PING is under way. Whoever comes while it is waits for the next one, which is sent when it returns, unless it
//! asked before the one under way was sent, as with the requests of one packet: so each PING leaves after all who wait for it
//! have asked, and their number costs Redis nothing.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use sync::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// Who waits for which PING.
#[derive(Default)]
pub(in crate::readthrough) struct Barrier {
    // A short lock: joined by workers, ended by the link's reader.
    rounds: Mutex<Rounds>,
}

#[derive(Default)]
struct Rounds {
    /// The PING that is under way, and those who wait for it.
    under_way: Option<(BarrierPing, Arc<Notify>)>,
    /// Those who wait for the one after it.
    next: Option<Arc<Notify>>,
}

/// One that the caller must send now.
#[derive(Clone, Copy, Debug)]
pub(in crate::readthrough) struct BarrierPing {
    /// Not after it leaves: what its reply proves is proven from then on.
    pub(in crate::readthrough) sent_ns: u64,
}

/// The wait for one PING's end, well or badly: what has become of the proof is for the next lookup to say.
///
/// Of two, both of them.
pub(crate) struct Round(Pin<Box<OwnedNotified>>, Option<Box<Round>>);

impl Round {
    fn of(bell: &Arc<Notify>) -> Round {
        // Made before the bell can ring: `notify_waiters` reaches a future that was made but not polled.
        Round(Box::pin(bell.clone().notified_owned()), None)
    }

    /// Over once `other` is as well.
    pub(in crate::readthrough) fn and(self, other: Round) -> Round {
        Round(self.0, Some(Box::new(other)))
    }
}

impl Future for Round {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(other) = &mut self.1 {
            ready!(Pin::new(&mut **other).poll(cx));
            self.1 = None;
        }
        self.0.as_mut().poll(cx)
    }
}

impl Barrier {
    /// Joins the first PING that is sent at `since_ns` or later. With it the one to be sent now, if there is one; `clock` says when.
    pub(in crate::readthrough) fn join(
        &self,
        since_ns: u64,
        clock: impl FnOnce() -> u64,
    ) -> (Round, Option<BarrierPing>) {
        let mut rounds = self.rounds.lock();
        let rounds = &mut *rounds;
        match &rounds.under_way {
            Some((ping, bell)) if ping.sent_ns >= since_ns => (Round::of(bell), None),
            Some(_) => (Round::of(rounds.next.get_or_insert_default()), None),
            None => {
                let (ping, bell) =
                    rounds.under_way.insert((BarrierPing { sent_ns: clock() }, Arc::default()));
                (Round::of(bell), Some(*ping))
            }
        }
    }

    /// The PING under way has ended: wakes those who waited for it. The next one, if it must be sent now.
    pub(in crate::readthrough) fn ended(&self, clock: impl FnOnce() -> u64) -> Option<BarrierPing> {
        let (ended, next) = {
            let mut rounds = self.rounds.lock();
            let next = rounds.next.take().map(|bell| (BarrierPing { sent_ns: clock() }, bell));
            let ping = next.as_ref().map(|(ping, _)| *ping);
            (std::mem::replace(&mut rounds.under_way, next), ping)
        };
        if let Some((_, bell)) = ended {
            bell.notify_waiters();
        }
        next
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
        let (mut first, ping) = barrier.join(10, || 11);
        assert_eq!(ping.map(|ping| ping.sent_ns), Some(11));
        let (mut second, ping) = barrier.join(12, || 13);
        let (mut third, another) = barrier.join(14, || 15);
        assert!(ping.is_none() && another.is_none() && !is_over(&mut first));
        assert_eq!(barrier.ended(|| 16).map(|ping| ping.sent_ns), Some(16), "two wait for the next");
        assert!(is_over(&mut first) && !is_over(&mut second));
        assert!(barrier.ended(|| 17).is_none());
        assert!(is_over(&mut second) && is_over(&mut third));
        assert!(barrier.join(18, || 19).1.is_some(), "nothing is under way");
    }

    #[test]
    fn those_who_asked_before_it_was_sent_share_the_ping_under_way() {
        let barrier = Barrier::default();
        let (_first, ping) = barrier.join(10, || 12);
        assert!(ping.is_some());
        let (mut second, ping) = barrier.join(10, || 13);
        let (mut third, another) = barrier.join(12, || 14);
        let (mut too_late, none) = barrier.join(13, || 15);
        assert!(ping.is_none() && another.is_none() && none.is_none());
        assert!(barrier.ended(|| 16).is_some(), "one was too late");
        assert!(is_over(&mut second) && is_over(&mut third) && !is_over(&mut too_late));
    }
}
