//! Commands that a node of a cluster has not carried out because their slot is elsewhere, or on its way: they are sent on.
//!
//! A node that says so has changed nothing, so that a write is sent on as a read is
//! (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>, "Redirection and resharding"). A script may say
//! the same in words of its own after it has written: it is sent on once at most, and not to where it was.
//!
//! **Order.** What one client asks of one slot is carried out in the order of its commands. A lane hears of them in their order, and
//! sends them on in that order to one lane. Where one has to wait for its next try, no further command of its client is sent
//! ([`Numbers`](super::numbers::Numbers)); and it is not tried again if one of the same slot is on its way behind it already.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until};
use upstream::{Cluster, SlotRedirection};

use super::Lanes;
use super::bounds::Bounds;
use super::elsewhere::in_words;
use super::journal::Journal;
use super::key::{Destination, LaneKey, Pace};
use super::login::NoDuties;
use super::mailbox::{Mailbox, MailboxState};
use super::shared::SharedLane;
use crate::clock::{nanos, now_ns};
use crate::vital;

/// So often a command is sent on.
const MOST_TRIES: u32 = 5;
/// Before the first try that is not made at once; each later one waits twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// A command that no lane has any more.
pub(super) struct Stray {
    pub(super) mailbox: Rc<Mailbox>,
    pub(super) number: u64,
    pub(super) request: Bytes,
    /// Whether it may be sent twice.
    pub(super) reads: bool,
    pub(super) course: Course,
}

/// How far a command has come that was sent on.
#[derive(Clone, Copy, Default)]
pub(super) struct Course {
    tries: u32,
    /// When it was sent on first.
    since_ns: u64,
}

/// Tells the slot of a request's keys.
type SlotOf = Box<dyn Fn(&[u8]) -> Option<u16>>;

/// The commands of a worker's clients that wait for their next try.
pub(super) struct Detours {
    /// In the order in which they came: one that is to wait for longer holds up those behind it.
    waiting: RefCell<VecDeque<Detained>>,
    is_tended: Cell<bool>,
    slot_of: OnceCell<SlotOf>,
    /// Gets the replies to ASKING, and nobody hears them.
    asks: Rc<Mailbox>,
}

/// One of them.
struct Detained {
    due: Instant,
    stray: Stray,
    key: LaneKey,
    pace: Pace,
}

impl Detours {
    pub(super) fn new(bounds: &Bounds) -> Self {
        let asks = Mailbox::new(Rc::default(), bounds, Rc::new(NoDuties));
        asks.leave();
        Detours {
            waiting: RefCell::default(),
            is_tended: Cell::new(false),
            slot_of: OnceCell::new(),
            asks: Rc::new(asks),
        }
    }

    pub(super) fn tell_slots(&self, slot_of: SlotOf) {
        // Once is enough: it is the same table of commands.
        let _ = self.slot_of.set(slot_of);
    }

    fn slot_of(&self, request: &[u8]) -> Option<u16> {
        self.slot_of.get().and_then(|slot_of| slot_of(request))
    }
}

/// A node has said on `lane` that it does not carry out the command whose reply is at hand: its `reply`, whole.
pub(super) fn send_on(lanes: &Rc<Lanes>, reply: &[u8], lane: &SharedLane) {
    let Some(cluster) = &lanes.endpoint.cluster else { return };
    let Some(mut stray) = lane.with_journal(Journal::give_up) else { return };
    let (error, node) = (&reply[1..], lane.key.to.node());
    let is_script = runs_script(&stray.request);
    let redirection = match is_script {
        true => cluster.hearsay(error, node),
        false => cluster.redirect(error, node),
    };
    // What is not understood is no reason to show it to anybody.
    let redirection = redirection.unwrap_or(SlotRedirection::Later);
    let now_ns = now_ns();
    let Course { tries, since_ns } = stray.course;
    stray.course = Course { tries: tries + 1, since_ns: if tries == 0 { now_ns } else { since_ns } };
    let is_late = now_ns - stray.course.since_ns >= nanos(lanes.endpoint.limits.silence_timeout());
    if tries >= MOST_TRIES || is_late {
        return refuse(lanes, &stray, reply);
    }
    let is_free = !stray.mailbox.numbers().is_detained();
    if is_script && !(is_free && may_be_elsewhere(&redirection, lanes, &stray, lane)) {
        return refuse(lanes, &stray, reply);
    }
    let (node, asks) = match redirection {
        SlotRedirection::Moved(node) if is_free && tries == 0 => (node, None),
        // At once also behind MOVED: the owner would answer alike for as long as the slot is half way.
        SlotRedirection::Ask(node) if is_free => (node, Some(&lanes.detours.asks)),
        _ => return detain(lanes, stray, lane, reply),
    };
    let next = lanes.shared(&lane.key.at(Destination::of(node)), lane.pace, None);
    next.take_over(&stray, asks, &lanes.buffers);
    mutant::sent_on_once(|| {
        let unheard = &lanes.detours.asks;
        let again = Stray { mailbox: unheard.clone(), number: unheard.expect(None), ..stray };
        next.take_over(&again, asks, &lanes.buffers);
    });
}

/// Whether a script, or a function, of which a node seems to say that it is elsewhere may be run there. The words may be its own, said once
/// it has written: so it is never run twice by one node, and nowhere but where a slot of its keys can be. Where they were its own, no other
/// node has that slot, and says so.
fn may_be_elsewhere(to: &SlotRedirection, lanes: &Lanes, stray: &Stray, lane: &SharedLane) -> bool {
    let is_another = match to {
        SlotRedirection::Moved(node) | SlotRedirection::Ask(node) => *node != lane.key.to.node(),
        SlotRedirection::Later => false,
    };
    is_another && stray.course.tries == 1 && lanes.detours.slot_of(&stray.request).is_some()
}

/// Whether the request is one whose reply, also an error, may be in words of whoever asked.
pub(crate) fn runs_script(request: &[u8]) -> bool {
    let name = request.split(|byte| *byte == b'\n').nth(2).unwrap_or_default().trim_ascii_end();
    let is = |names: &[&str]| names.iter().any(|one| name.eq_ignore_ascii_case(one.as_bytes()));
    is(&["EVAL", "EVAL_RO", "EVALSHA", "EVALSHA_RO", "FCALL", "FCALL_RO"])
}

fn refuse(lanes: &Lanes, stray: &Stray, reply: &[u8]) {
    // What a script has said it may have said behind a write.
    if !runs_script(&stray.request) {
        stray.mailbox.refused(stray.number);
    }
    stray.mailbox.deliver(stray.number, in_words(reply), 1, false, &lanes.buffers);
}

/// It is tried again after a pause, if none of its slot is on its way behind it.
fn detain(lanes: &Rc<Lanes>, stray: Stray, lane: &SharedLane, reply: &[u8]) {
    let detours = &lanes.detours;
    let slot = detours.slot_of(&stray.request);
    let is_alike = |request: &[u8]| detours.slot_of(request) == slot;
    if lane.with_journal(|journal| journal.has_more(&stray.mailbox, is_alike)) {
        return refuse(lanes, &stray, reply);
    }
    let pause = FIRST_PAUSE * 2u32.pow(stray.course.tries.saturating_sub(1));
    stray.mailbox.numbers().detain(true);
    let detained = Detained { due: Instant::now() + pause, stray, key: lane.key.clone(), pace: lane.pace };
    detours.waiting.borrow_mut().push_back(detained);
    if !detours.is_tended.replace(true) {
        spawn_local(vital::task("the detours", tend(lanes.clone())));
    }
}

/// Sends those that wait one after the other, until none does.
async fn tend(lanes: Rc<Lanes>) {
    let detours = &lanes.detours;
    loop {
        let due = detours.waiting.borrow().front().map(|next| next.due);
        let Some(due) = due else {
            return detours.is_tended.set(false);
        };
        sleep_until(due).await;
        let Some(next) = detours.waiting.borrow_mut().pop_front() else { continue };
        let Detained { stray, key, pace, .. } = next;
        stray.mailbox.numbers().detain(false);
        if stray.mailbox.state() != MailboxState::Open {
            continue;
        }
        let to = owner_of(&lanes, &stray.request).unwrap_or(key.to);
        lanes.shared(&key.at(to), pace, None).take_over(&stray, None, &lanes.buffers);
    }
}

/// What waits on a lane without a connection goes to whoever has its slot by now. What is to be asked here stays: the owner would send it
/// here again.
pub(super) fn reroute(lanes: &Rc<Lanes>, lane: &SharedLane) {
    if !lanes.are_of_cluster() {
        return;
    }
    let mut asks = None;
    for stray in lane.with_journal(Journal::take_apart) {
        if Rc::ptr_eq(&stray.mailbox, &lanes.detours.asks) {
            asks = Some(&lanes.detours.asks);
            continue;
        }
        let asks = asks.take();
        if stray.mailbox.state() != MailboxState::Open {
            continue;
        }
        // A script may have been where its slot is known to be: whoever it was sent on to knows whether it is elsewhere.
        let stays = asks.is_some() || stray.course.tries > 0 && runs_script(&stray.request);
        match owner_of(lanes, &stray.request) {
            Some(to) if to != lane.key.to && !stays => {
                lanes.shared(&lane.key.at(to), lane.pace, None).take_over(&stray, None, &lanes.buffers);
            }
            _ => lane.take_over(&stray, asks, &lanes.buffers),
        }
    }
}

/// Whether the node of a lane has no slot any more, as after a failover. Looks at all slots.
pub(super) fn is_left(lanes: &Lanes, lane: &SharedLane) -> bool {
    let cluster = lanes.endpoint.cluster.as_ref();
    let has_slots = |cluster: &Cluster| {
        cluster.primaries().iter().any(|(primary, _)| Destination::of(*primary) == lane.key.to)
    };
    lane.key.to != Destination::home() && cluster.is_some_and(|cluster| !has_slots(cluster))
}

fn owner_of(lanes: &Lanes, request: &[u8]) -> Option<Destination> {
    lanes.detours.slot_of(request).map(|slot| lanes.owner(slot))
}
