//! How a fill ends: its answer is kept, or it is not and for one named reason.

use std::sync::Arc;

use crate::Cache;
use crate::absence::Absence;
use crate::budget::charge;
use crate::entry::{Entry, Facts, Keep, Provenance};
use crate::flight::{Flight, Stored};
use crate::moment::{Death, Moment};
use crate::room::EXTRA_EVICTIONS;
use crate::shard::{Shard, short};
use crate::stats::Unkept;

impl<E> Cache<E> {
    /// Keeps the value of a fill if that is still right, and returns it in any case.
    pub(crate) fn store(
        &self,
        flight: &Arc<Flight<E>>,
        value: &[u8],
        facts: Facts,
        keep: Keep,
        now_ns: u64,
    ) -> (Entry, Stored) {
        let unwanted = self.unwanted(flight, value, &keep);
        let entry = Entry::new(&flight.key, value, facts, origin(flight, keep));
        let stored = self.commit(flight, &entry, unwanted, now_ns);
        (entry, stored)
    }

    /// Makes the answer to a question an entry, as [`store`](Self::store) does with a value.
    pub(crate) fn store_reply(
        &self,
        flight: &Arc<Flight<E>>,
        reply: &[u8],
        keep: Keep,
        now_ns: u64,
    ) -> (Entry, Stored) {
        let unwanted = self.unwanted(flight, reply, &keep);
        let entry = reply_of(flight, reply, keep);
        let stored = self.commit(flight, &entry, unwanted, now_ns);
        (entry, stored)
    }

    /// Ends a fill whose key is not in Redis; whether that knowledge is kept.
    pub(crate) fn store_missing(&self, flight: &Arc<Flight<E>>, keep: Keep, now_ns: u64) -> Stored {
        let unwanted = match keep {
            Keep::Leased { .. } if self.0.room.most_negatives() > 0 => None,
            _ => Some(Unkept::Missing),
        };
        let entry = Entry::missing(&flight.key, origin(flight, keep));
        let stored = self.commit(flight, &entry, unwanted, now_ns);
        self.0.drop_surplus_negatives(now_ns);
        stored
    }

    /// Ends a fill that brought no answer.
    pub(crate) fn settle_unkept(&self, flight: &Arc<Flight<E>>, why: Unkept) {
        let mut shard = self.0.lock(flight.hash);
        shard.unregister(flight);
        shard.count_unkept(flight, why);
    }

    /// Puts `entry` in the place of its key, unless its fill has been overtaken or it is `unwanted`. An entry that is
    /// not wanted still tells that an older one of its key is out of date.
    fn commit(
        &self,
        flight: &Arc<Flight<E>>,
        entry: &Entry,
        unwanted: Option<Unkept>,
        now_ns: u64,
    ) -> Stored {
        let inner = &*self.0;
        let kept = entry.clone();
        let mut shard = inner.lock(flight.hash);
        let at = inner.moment(now_ns);
        let before = shard.totals();
        let unwanted = at.death(entry).map(|_| Unkept::Expired).or(unwanted);
        let overtaken = shard.overtaken(flight, entry, &at);
        let old = match (overtaken, unwanted) {
            (None, None) => shard.insert(kept, flight.hash, &at),
            (None, Some(_)) => shard.take_view(entry, flight.hash, &at),
            (Some(_), _) => None,
        };
        let unkept = overtaken.or(unwanted);
        unkept.into_iter().for_each(|why| shard.count_unkept(flight, why));
        let change = shard.totals() - before;
        drop(shard);
        old.into_iter().for_each(|old| inner.follow(old));
        if unkept.is_some() {
            inner.follow_one(entry.clone());
        }
        inner.make_room(change, EXTRA_EVICTIONS, now_ns);
        match (overtaken, unwanted) {
            (None, None) => Stored::Yes,
            (None, Some(_)) => Stored::No,
            (Some(_), _) => Stored::Overtaken,
        }
    }

    /// Why an answer is not to be kept, whatever is held.
    fn unwanted(&self, flight: &Flight<E>, answer: &[u8], keep: &Keep) -> Option<Unkept> {
        let payload = flight.key.len() + flight.question.len() + answer.len();
        match keep {
            Keep::Not => Some(Unkept::Unproven),
            _ if answer.len() > self.0.entry_limits.max_value_bytes() => Some(Unkept::TooLarge),
            _ if charge(payload) > self.0.room.budget.effective() => Some(Unkept::TooLarge),
            _ => None,
        }
    }
}

impl<E> Shard<E> {
    fn count_unkept(&mut self, flight: &Flight<E>, why: Unkept) {
        self.stats.count_unkept(why);
        if let Some(why) = Absence::of_unkept(why) {
            self.absences.note(short(flight.hash), flight.partition, why);
        }
    }

    /// Takes a fill off the register and tells why its answer is worth less than what may be held by now, if so.
    fn overtaken(&mut self, flight: &Arc<Flight<E>>, entry: &Entry, at: &Moment<'_>) -> Option<Unkept> {
        if mutant::overtaken(!self.unregister(flight)) {
            Some(Unkept::Invalidated)
        } else if let Some(death) = at.end_by_order(&flight.key, flight.epoch()) {
            Some(if death == Death::Purged { Unkept::Invalidated } else { Unkept::Flushed })
        } else if self
            .peek(&flight.key, entry.view(), flight.hash, at)
            .is_some_and(|held| held.sent_ns() > entry.sent_ns())
        {
            // Two connections keep no order between them.
            Some(Unkept::Outdated)
        } else {
            None
        }
    }
}

/// The answer to a flight's question as an entry.
pub(crate) fn reply_of<E>(flight: &Flight<E>, reply: &[u8], keep: Keep) -> Entry {
    Entry::reply(&flight.key, &flight.question, reply, origin(flight, keep))
}

fn origin<E>(flight: &Flight<E>, keep: Keep) -> Provenance {
    let partition = flight.partition;
    Provenance {
        partition,
        sent_ns: flight.sent_ns().unwrap_or(flight.registered_ns),
        epoch: flight.epoch(),
        keep,
    }
}
