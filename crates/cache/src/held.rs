//! Fetches that wait for others of the same view of a key.
//!
//! A reader joins a fetch only if that was sent late enough for it. Where each needs what is true from its own time on, none
//! would join another, and a herd on a cold key would be as many fetches. So at most [`MOST_SENT`](crate::MOST_SENT) are on
//! their way and one more is *held*: whoever comes later joins that one, because it is not sent yet. It is sent when one of
//! those on their way has ended, and all that depends on when it was sent (its epoch, its stamp, its lease) is taken then.

use std::sync::Arc;

use crate::Cache;
use crate::fill::Fill;
use crate::flight::Flight;
use crate::moment::Moment;

/// How a held fill is sent, once it may be.
pub(crate) type Send<E> = Box<dyn FnOnce(Fill<E>) + std::marker::Send>;

/// A fill that may be sent from now on, and how, if that is known already.
pub(crate) type Released<E> = (Arc<Flight<E>>, Option<Send<E>>);

/// A fill on the register of its shard.
pub(crate) struct Registered<E> {
    pub(crate) flight: Arc<Flight<E>>,
    pub(crate) standing: FillState<E>,
}

/// What a fill on the register is good for.
pub(crate) enum FillState<E> {
    /// Its answer will be kept, if that is still right.
    Registered,
    /// Its key has changed meanwhile. It is on its way, and no more.
    Overtaken,
    /// It is not sent yet; once it may be, so.
    Held(Option<Send<E>>),
}

impl<E> Registered<E> {
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.standing, FillState::Held(_))
    }

    /// Whether a reader may join it, as far as it is not a matter of when it was sent.
    pub(crate) fn is_joined(&self, at: &Moment<'_>) -> bool {
        match self.standing {
            FillState::Registered => at.end_by_order(&self.flight.key, self.flight.epoch()).is_none(),
            FillState::Overtaken => false,
            FillState::Held(_) => true,
        }
    }

    /// When its fetch was sent, if it was.
    pub(crate) fn sent_ns(&self) -> Option<u64> {
        mutant::sent(self.flight.sent_ns(), self.is_held().then_some(self.flight.registered_ns))
    }

    pub(crate) fn is_like(&self, flight: &Flight<E>) -> bool {
        self.flight.hash == flight.hash
            && self.flight.key == flight.key
            && self.flight.view() == flight.view()
    }
}

/// A registered fetch that must not be sent yet. Its holder tells how to send it; dropped untold, it ends without an answer.
#[derive(Debug)]
#[must_use = "a held fill that nobody can send fails everyone who waits for it"]
pub struct Held<E>(Fill<E>);

impl<E> Held<E> {
    pub(crate) fn new(cache: Cache<E>, flight: Arc<Flight<E>>) -> Held<E> {
        Held(Fill::new(cache, flight))
    }

    /// Calls `send` with the fill as soon as it may be sent: perhaps now, else on the thread that ends one of those before
    /// it, with no lock held.
    pub fn send_with(self, send: impl FnOnce(Fill<E>) + std::marker::Send + 'static) {
        let send: Send<E> = Box::new(send); // before the lock
        let (cache, flight) = self.0.into_held();
        let due = cache.0.lock(flight.hash).leave(&flight, send);
        if let Some(send) = due {
            send(Fill::new(cache, flight));
        }
    }
}

impl<E> Cache<E> {
    /// A fetch has ended: one like it that was held is sent.
    pub(crate) fn send_held(&self, ended: &Flight<E>) {
        if !ended.is_followed() {
            return;
        }
        let released = {
            let mut shard = self.0.lock(ended.hash);
            let at = self.0.moment(0); // age does not matter here
            shard.release(ended, &at)
        };
        // Whoever has not said yet how to send it will find that it may be sent.
        if let Some((flight, Some(send))) = released {
            send(Fill::new(self.clone(), flight));
        }
    }
}
