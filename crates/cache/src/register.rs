//! The register of fills: those of a shard's keys that are on their way, or held until they may be sent.

use std::sync::Arc;

use crate::MOST_SENT;
use crate::flight::Flight;
use crate::held::{FillState, Registered, Released, Send};
use crate::moment::Moment;
use crate::shard::Shard;
use crate::view::View;

impl<E> Shard<E> {
    /// A registered fill of a view of a key that a reader may join: not from before a flush, not sent so long ago that its value
    /// would be born expired, and not sent before `since_ns`. The newest, and one that is held only if there is no other.
    pub(crate) fn joinable(
        &self,
        key: &[u8],
        view: View<'_>,
        hash: u64,
        since_ns: u64,
        at: &Moment<'_>,
    ) -> Option<Arc<Flight<E>>> {
        let since_ns = mutant::joined_since(since_ns);
        let is_late = |sent: u64| sent >= since_ns && !at.is_over(sent);
        let fills = self.fills.iter_hash(hash).filter(|fill| {
            is_of(&fill.flight, key, hash)
                && fill.flight.view() == view
                && fill.is_joined(at)
                && fill.sent_ns().is_none_or(is_late)
        });
        let newest = fills.max_by_key(|fill| (!fill.is_held(), fill.flight.registered_ns));
        newest.map(|fill| fill.flight.clone())
    }

    /// Whether a fill like this may be sent now.
    pub(crate) fn has_room_for(&self, flight: &Flight<E>) -> bool {
        self.alike(flight).filter(|fill| !fill.is_held()).count() < MOST_SENT
    }

    /// Puts a fill on the register. `false` if it is held: it must not be sent before another like it has ended.
    pub(crate) fn register(&mut self, flight: Arc<Flight<E>>) -> bool {
        let is_sent = self.has_room_for(&flight);
        let standing = if is_sent {
            FillState::Registered
        } else {
            self.alike(&flight).for_each(|fill| fill.flight.set_followed());
            FillState::Held(None)
        };
        let fill = Registered { flight, standing };
        self.fills.insert_unique(fill.flight.hash, fill, |fill| fill.flight.hash);
        is_sent
    }

    /// Of the fills like this one the one that is held, if it may be sent now: it counts as sent from here on.
    pub(crate) fn release(&mut self, like: &Flight<E>, at: &Moment<'_>) -> Option<Released<E>> {
        if !self.has_room_for(like) {
            return None;
        }
        let mut held = self.fills.iter_hash_mut(like.hash).filter(|fill| fill.is_like(like));
        let fill = held.find(|fill| fill.is_held())?;
        let FillState::Held(send) = std::mem::replace(&mut fill.standing, FillState::Registered) else {
            return None;
        };
        fill.flight.set_epoch(at.epoch);
        Some((fill.flight.clone(), send))
    }

    /// Leaves with a held fill how it is to be sent; gives it back if it is not held any more.
    pub(crate) fn leave(&mut self, flight: &Arc<Flight<E>>, send: Send<E>) -> Option<Send<E>> {
        let fill = self.fills.find_mut(flight.hash, |fill| Arc::ptr_eq(&fill.flight, flight));
        match fill.map(|fill| &mut fill.standing) {
            Some(FillState::Held(place)) => {
                *place = Some(send);
                None
            }
            _ => Some(send),
        }
    }

    fn alike<'a>(&'a self, flight: &'a Flight<E>) -> impl Iterator<Item = &'a Registered<E>> {
        self.fills.iter_hash(flight.hash).filter(|fill| fill.is_like(flight))
    }

    /// Takes a fill that has ended off the register and tells whether its answer may be kept.
    pub(crate) fn unregister(&mut self, flight: &Arc<Flight<E>>) -> bool {
        let found = self.fills.find_entry(flight.hash, |fill| Arc::ptr_eq(&fill.flight, flight));
        found.is_ok_and(|found| matches!(found.remove().0.standing, FillState::Registered))
    }

    /// The answers of a key's fills that are on their way are not to be kept. One that is held will be sent later.
    pub(crate) fn unregister_key(&mut self, key: &[u8], hash: u64) {
        self.unregister_some(key, hash, |_| true);
    }

    /// As [`unregister_key`](Self::unregister_key), for the fills whose answers would be held under leases.
    pub(crate) fn unregister_leased(&mut self, key: &[u8], hash: u64) {
        self.unregister_some(key, hash, |fill| fill.partition.is_leased());
    }

    fn unregister_some(&mut self, key: &[u8], hash: u64, leaves: impl Fn(&Flight<E>) -> bool) {
        for fill in self.fills.iter_hash_mut(hash) {
            if !fill.is_held() && is_of(&fill.flight, key, hash) && leaves(&fill.flight) {
                fill.standing = FillState::Overtaken;
            }
        }
    }

    /// The answers of fills that are on their way and that a purge covers are not to be kept.
    pub(crate) fn overtake_purged(&mut self, at: &Moment<'_>) {
        for fill in &mut self.fills {
            if !fill.is_held() && at.end_by_order(&fill.flight.key, fill.flight.epoch()).is_some() {
                fill.standing = FillState::Overtaken;
            }
        }
    }

    /// Whether a fill of a partition's number is registered.
    pub(crate) fn has_fills_of(&self, number: u8) -> bool {
        self.fills.iter().any(|fill| fill.flight.partition.number() == number)
    }

    pub(crate) fn fills_in_flight(&self) -> usize {
        self.fills.len()
    }
}

fn is_of<E>(fill: &Flight<E>, key: &[u8], hash: u64) -> bool {
    fill.hash == hash && *fill.key == *key
}
