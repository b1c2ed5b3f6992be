//! The shared lanes that one client uses: those of its key, once they are used. In a cluster those of the nodes that have its slots.
//!
//! **Order in a cluster.** What a client asks of one slot is carried out in the order of its commands. So while a command of a slot is
//! on its way to one node, none of that slot goes to another, and none goes anywhere while one waits for its next try.

use std::collections::HashMap;
use std::rc::Rc;
use std::task::Context;

use command::Slot;

use super::sessions::Sessions;
use crate::lanes::{Destination, Duty, LaneHandle, LaneKey, Mailbox, Pace, Request};

/// A client's places on shared lanes. What they bring comes to one mailbox.
pub(super) struct ClientLanes {
    sessions: Rc<Sessions>,
    mailbox: Rc<Mailbox>,
    quick: Option<LaneHandle>,
    slow: Option<LaneHandle>,
    of_slots: Option<Box<SlotLanes>>,
}

/// Its lanes to the nodes of a cluster.
#[derive(Default)]
struct SlotLanes {
    lanes: HashMap<(Destination, Pace), LaneHandle>,
    /// Where commands of a slot have gone since nothing was on its way.
    gone: HashMap<Slot, Destination>,
}

impl ClientLanes {
    pub(super) fn new(sessions: Rc<Sessions>, mailbox: Rc<Mailbox>) -> Self {
        ClientLanes { sessions, mailbox, quick: None, slow: None, of_slots: None }
    }

    /// Sends a request on the lane of `key` with this pace, to the node that has `slot`, or home. `read` if it may be sent twice.
    /// False if there is no room, or if it would overtake another of its slot: the task of `cx` is woken when that is over.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a fact about the request that nobody else needs together"
    )]
    pub(super) fn send(
        &mut self,
        key: &LaneKey,
        slot: Option<Slot>,
        request: Request<'_>,
        pace: Pace,
        read: bool,
        duty: Option<Duty>,
        cx: &Context<'_>,
    ) -> bool {
        let ClientLanes { sessions, mailbox, quick, slow, of_slots } = self;
        let (place, counter) = match pace {
            Pace::Quick => (quick, &sessions.stats.shared),
            Pace::Slow => (slow, &sessions.stats.slow),
        };
        let lane = match slot {
            None => Some(&*place.get_or_insert_with(|| sessions.lanes.shared(key, pace, Some(mailbox)))),
            Some(slot) => of_slots.get_or_insert_default().lane(key, slot, pace, sessions, mailbox),
        };
        let Some(lane) = lane else { return false };
        if !lane.send(request, mailbox, read, || duty, &sessions.buffers, cx) {
            return false;
        }
        counter.add(1);
        true
    }

    /// The client's key is another one.
    pub(super) fn forget(&mut self) {
        (self.quick, self.slow, self.of_slots) = (None, None, None);
    }

    /// Whether one of them has a connection.
    pub(super) fn is_any_open(&self) -> bool {
        let of_slots = self.of_slots.iter().flat_map(|nodes| nodes.lanes.values());
        [&self.quick, &self.slow].into_iter().flatten().chain(of_slots).any(|lane| lane.is_open())
    }
}

impl SlotLanes {
    /// The lane to the node that has a slot; none while a command on its way would be overtaken.
    #[inline(never)]
    fn lane(
        &mut self,
        key: &LaneKey,
        slot: Slot,
        pace: Pace,
        sessions: &Sessions,
        mailbox: &Rc<Mailbox>,
    ) -> Option<&LaneHandle> {
        if mailbox.waiting() == 0 {
            self.gone.clear();
        }
        let to = sessions.lanes.owner(slot.number());
        if mailbox.is_detained() || *self.gone.entry(slot).or_insert(to) != to {
            return None;
        }
        let lane = self.lanes.entry((to, pace));
        Some(lane.or_insert_with(|| sessions.lanes.shared(&key.at(to), pace, Some(mailbox))))
    }
}
