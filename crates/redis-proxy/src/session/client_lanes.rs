//! The shared lanes that one client uses: those of its key, once they are used. In a cluster those of the nodes that have its slots.
//!
//! **Order in a cluster.** What a client asks of one slot is carried out in the order of its commands. So while a command of a slot is
//! on its way to one node, none of that slot goes to another, and none goes anywhere while one waits for its next try.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::task::Context;

use bytes::BytesMut;
use command::Slot;

use super::sessions::Sessions;
use super::spread::{PieceTarget, Spread, UnsentPieces};
use crate::lanes::{Destination, Duty, InputRoom, LaneHandle, LaneKey, Mailbox, Pace, Request};

/// A client's places on shared lanes. What they bring comes to one mailbox.
pub(super) struct ClientLanes {
    sessions: Rc<Sessions>,
    mailbox: Rc<Mailbox>,
    quick: Option<LaneHandle>,
    slow: Option<LaneHandle>,
    of_slots: Option<Box<SlotLanes>>,
    /// What is still to be sent of a command that goes in pieces: nothing passes it.
    unsent: Option<Box<UnsentPieces>>,
}

/// Its lanes to the nodes of a cluster.
#[derive(Default)]
struct SlotLanes {
    /// Sorted.
    lanes: Vec<((Destination, Pace), LaneHandle)>,
    /// Where commands of a slot have gone since nothing was on its way.
    gone: HashMap<Slot, Destination, BuildHasherDefault<SlotHasher>>,
}

/// Hashes the number of a slot. There are few of them, so nobody gains by choosing some: a multiplication does.
#[derive(Default)]
struct SlotHasher(u64);

impl Hasher for SlotHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u16(u16::from(*byte)));
    }

    #[inline]
    fn write_u16(&mut self, number: u16) {
        // The odd number next to 2^64 divided by the golden ratio: the table takes both ends of the product.
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl ClientLanes {
    pub(super) fn new(sessions: Rc<Sessions>, mailbox: Rc<Mailbox>) -> Self {
        ClientLanes { sessions, mailbox, quick: None, slow: None, of_slots: None, unsent: None }
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
        let ClientLanes { sessions, mailbox, quick, slow, of_slots, unsent } = self;
        if unsent.is_some() {
            return false;
        }
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

    /// Sends a request in pieces: at once as many as there is room for, and the others as [`go_on`](Self::go_on) finds some. False if
    /// another is not sent yet.
    #[expect(clippy::too_many_arguments, reason = "as of `send`")]
    pub(super) fn spread(
        &mut self,
        key: &LaneKey,
        spread: Spread,
        request: Request<'_>,
        pace: Pace,
        read: bool,
        duty: Option<Duty>,
        cx: &Context<'_>,
    ) -> bool {
        if self.unsent.is_some() {
            return false;
        }
        self.mailbox.begin_spread(spread.merge, duty);
        self.unsent = Some(Box::new(UnsentPieces::new(request, spread.pieces, key, pace, read)));
        self.go_on(cx);
        true
    }

    /// What counts the request of which pieces are still to be sent as unread, if there is one.
    pub(super) fn hold(&mut self, room: Box<InputRoom>) {
        if let Some(unsent) = &mut self.unsent {
            unsent.hold(room);
        }
    }

    /// Whether not all of a command is sent.
    #[inline]
    pub(super) fn is_spreading(&self) -> bool {
        self.unsent.is_some()
    }

    /// Sends what is still to be sent of a command, as far as there is room: the task of `cx` is woken when there is more.
    pub(super) fn go_on(&mut self, cx: &Context<'_>) {
        let Some(mut unsent) = self.unsent.take() else { return };
        let ClientLanes { sessions, mailbox, of_slots, .. } = self;
        let lanes = of_slots.get_or_insert_default();
        let counter = match unsent.pace {
            Pace::Quick => &sessions.stats.shared,
            Pace::Slow => &sessions.stats.slow,
        };
        let mut room = BytesMut::new();
        while let Some((target, piece)) = unsent.next(&mut room) {
            let lane = match target {
                _ if !mailbox.numbers().takes_piece() => None,
                PieceTarget::Slot(slot) => lanes.lane(&unsent.key, slot, unsent.pace, sessions, mailbox),
                PieceTarget::Node(to) => Some(lanes.lane_to(&unsent.key, to, unsent.pace, sessions, mailbox)),
            };
            let sent = lane.is_some_and(|lane| {
                lane.send(Request::Raw(piece), mailbox, unsent.reads, || None, &sessions.buffers, cx)
            });
            if !sent {
                mailbox.register(cx);
                self.unsent = Some(unsent);
                return;
            }
            unsent.went();
        }
        counter.add(1);
        mailbox.end_spread(&sessions.buffers);
    }

    /// The client's key is another one.
    pub(super) fn forget(&mut self) {
        (self.quick, self.slow, self.of_slots) = (None, None, None);
    }

    /// Whether one of them has a connection.
    pub(super) fn is_any_open(&self) -> bool {
        let of_slots = self.of_slots.iter().flat_map(|nodes| nodes.lanes.iter().map(|(_, lane)| lane));
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
        if mailbox.numbers().is_idle() {
            self.gone.clear();
        }
        let to = sessions.lanes.owner(slot.number());
        if mailbox.numbers().is_detained() || *self.gone.entry(slot).or_insert(to) != to {
            return None;
        }
        Some(self.lane_to(key, to, pace, sessions, mailbox))
    }

    /// The lane to a node.
    fn lane_to(
        &mut self,
        key: &LaneKey,
        to: Destination,
        pace: Pace,
        sessions: &Sessions,
        mailbox: &Rc<Mailbox>,
    ) -> &LaneHandle {
        let place = self.lanes.binary_search_by_key(&(to, pace), |(name, _)| *name);
        let place = place.unwrap_or_else(|place| {
            let lane = sessions.lanes.shared(&key.at(to), pace, Some(mailbox));
            self.lanes.insert(place, ((to, pace), lane));
            place
        });
        &self.lanes[place].1
    }
}
