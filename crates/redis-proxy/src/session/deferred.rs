//! Transactions in a cluster: one begins at the node of its first key, and has keys of one slot.
//!
//! MULTI is answered at once, and no connection is had for it. The command behind it gets one, at the node of its key or, without a
//! key, at any; there MULTI is asked first, and what it is answered stays here. A transaction that has no key yet moves when one comes:
//! it is dropped where it is, and what is queued in it is queued anew at the other node.
//!
//! Redis Cluster lets a transaction have keys of one slot (cluster.c, `getNodeByQuery`: all that EXEC would carry out), so another
//! slot is refused as it comes, whichever node has it. What is refused must spoil the transaction: EXEC then aborts it. So the node is sent
//! something that it refuses in its turn, and the client gets the error that is meant.

use std::task::Context;

use bytes::{Bytes, BytesMut};
use command::{Lane, Local, PinReason, Slot, Slots};
use resp::encode_command;

use super::Session;
use super::at_hand::AtHand;
use super::busy::Busy;
use super::clustered::{CROSSES, DISABLED, is_for_all, is_of_clusters, leads_to, refuse};
use super::expect::Expect;
use super::pin::later::Later;
use super::pin::{ReplyMeaning, answer_last};
use super::plan::{Call, Holding, Plan, in_multi, plan_again};
use super::reply::simple;
use super::sessions::Sessions;
use super::ways::Ways;
use super::words::{is, parsed};
use crate::lanes::{LaneKey, PinStream, Request};

const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
/// A mistake, which Redis refuses of whoever sends it before it looks at anything else.
const MISTAKE: &[u8] = b"*1\r\n$5\r\nWATCH\r\n";
/// More than this of what is queued before the first key is not kept: then the transaction stays where it is.
const MOST_KEYLESS_BYTES: usize = 64 * 1024;

/// A transaction whose client has no connection for it.
pub(crate) enum Unpinned {
    /// It gets one with the next command.
    Deferred,
    /// It gets none, for this reason.
    Doomed(Bytes),
}

impl Unpinned {
    pub(super) fn holding(&self) -> Holding {
        match self {
            Unpinned::Deferred => Holding::Deferred,
            Unpinned::Doomed(_) => Holding::Doomed,
        }
    }

    /// Why it gets no connection.
    pub(super) fn refusal(&self) -> Option<Bytes> {
        match self {
            Unpinned::Deferred => None,
            Unpinned::Doomed(text) => Some(text.clone()),
        }
    }
}

/// The requests of a transaction that has no key yet, in their order.
#[derive(Default)]
pub(crate) struct Keyless {
    requests: Vec<Bytes>,
    bytes: usize,
}

/// What a transaction does not do in a cluster.
pub(super) fn not_in_transactions(name: &str) -> Bytes {
    let name = name.replace('|', " ").to_ascii_uppercase();
    format!("ERR proxy: {name} in a transaction over a cluster is not supported").into()
}

/// Carries out the plan for a command that is about a transaction: begins one, watches for one, or is to be queued. `None` if it
/// is not; false if it must wait after all.
pub(super) fn perform_in_transaction(
    session: &mut Session,
    plan: Plan,
    call: &Call<'_>,
    request: Request<'_>,
    cx: &mut Context<'_>,
) -> Option<bool> {
    let Session { ways, at_hand } = session;
    if ways.pin.is_in_multi() {
        return Some(queue_in_cluster(session, plan, call, request, cx));
    }
    match (plan, call.lane) {
        (Plan::Begin, _) => {
            let slot = ways.sessions.slot_to_begin_at(call);
            Some(begin(at_hand, slot, Vec::new(), ways))
        }
        (Plan::GetPin(PinReason::Multi), _) => Some(defer(at_hand, ways)),
        // Silent or not: that its answers are not for the client is seen to here.
        (Plan::Pin(Expect::Multi) | Plan::Tunnel, Lane::Pinned(PinReason::Multi)) => {
            let pinned = ways.pin.pinned.as_ref()?;
            if pinned.is_unused() {
                ways.unpin(true);
                return Some(defer(at_hand, ways));
            }
            // Let go of, then.
            if pinned.slot.is_none() && pinned.state.is_transaction_alone() {
                return Some(false);
            }
            Some(session.perform_at(None, Plan::Pin(Expect::Multi), call, request, cx))
        }
        (Plan::Pin(Expect::Watch), _) => Some(watch_in_cluster(session, plan, call, request, cx)),
        (Plan::Pin(Expect::Unwatch), _) => {
            if let Some(pinned) = ways.pin.pinned.as_mut() {
                (pinned.slot, pinned.watched) = (None, None);
            }
            None
        }
        _ => None,
    }
}

/// WATCH of a client with a pin. False if it must wait.
fn watch_in_cluster(
    session: &mut Session,
    plan: Plan,
    call: &Call<'_>,
    request: Request<'_>,
    cx: &mut Context<'_>,
) -> bool {
    let ways = &mut session.ways;
    let slot = match ways.sessions.slots(call) {
        Slots::One(slot) => slot,
        Slots::Several => return refuse(ways, CROSSES.into()),
        // A mistake.
        Slots::NoKeys => return session.perform_at(None, plan, call, request, cx),
    };
    let watched = ways.pin.pinned.as_ref().and_then(|pinned| pinned.slot);
    if watched.is_some_and(|watched| watched != slot) {
        return refuse(ways, CROSSES.into());
    }
    let to = ways.sessions.lanes.owner(slot.number());
    // What is watched already is, where it is: that its slot has moved is Redis' to say.
    if watched.is_none() && !leads_to(ways, to) {
        return ways.pin.waiting() == 0 && refuse(ways, beside_others());
    }
    if !ways.pin.is_held() {
        return session.perform_at(Some(slot), plan_again(call, session.standing()), call, request, cx);
    }
    let taken = session.perform_at(Some(slot), plan, call, request, cx);
    if taken && let Some(pinned) = session.ways.pin.pinned.as_mut() {
        pinned.slot = Some(slot);
        let key = || call.arguments.get(1).map(Bytes::copy_from_slice);
        pinned.watched = pinned.watched.take().or_else(key);
    }
    taken
}

/// A command within a transaction that is begun on the pin. False if it must wait.
fn queue_in_cluster(
    session: &mut Session,
    plan: Plan,
    call: &Call<'_>,
    request: Request<'_>,
    cx: &mut Context<'_>,
) -> bool {
    let Session { ways, at_hand } = session;
    let Some(pinned) = ways.pin.pinned.as_mut() else { return false };
    match plan {
        Plan::Pin(Expect::Exec | Expect::Discard) => {
            (pinned.slot, pinned.keyless) = (None, None);
            // Of a transaction with keys Redis looks itself whether their slot is there.
            let watched = pinned.watched.take().filter(|_| plan == Plan::Pin(Expect::Exec));
            if let Some(watched) = watched {
                queue_check(ways, &watched);
            }
            return session.perform_at(None, plan, call, request, cx);
        }
        Plan::Pin(_) | Plan::Queue => {}
        _ => return session.perform_at(None, plan, call, request, cx),
    }
    if let Some(words) = words_against(call) {
        return spoil(ways, words);
    }
    match ways.sessions.slots(call) {
        Slots::One(slot) => {
            let to = ways.sessions.lanes.owner(slot.number());
            match pinned.slot {
                Some(bound) if bound == slot => {}
                Some(_) => return spoil(ways, CROSSES.into()),
                None if pinned.key.to == to => {}
                None if pinned.keyless.is_none() => return spoil(ways, beside_others()),
                None if pinned.waiting() > 0 => return false,
                None => {
                    let keyless = pinned.keyless.take().unwrap_or_default();
                    ways.unpin(false);
                    return begin(at_hand, Some(slot), keyless.requests, ways);
                }
            }
            let taken = session.perform_at(Some(slot), plan, call, request, cx);
            if taken && let Some(pinned) = session.ways.pin.pinned.as_mut() {
                (pinned.slot, pinned.watched, pinned.keyless) = (Some(slot), None, None);
            }
            taken
        }
        // Redis refuses it.
        Slots::Several => session.perform_at(None, plan, call, request, cx),
        Slots::NoKeys => {
            let mut bytes = BytesMut::new();
            if pinned.keyless.is_some() {
                request.write(&mut bytes);
            }
            let taken = session.perform_at(None, plan, call, request, cx);
            if taken {
                note_keyless(&mut session.ways, bytes.freeze());
            }
            taken
        }
    }
}

/// A MULTI: its transaction begins with the command behind it.
fn defer(at_hand: &mut AtHand, ways: &mut Ways) -> bool {
    at_hand.begun = Some(Box::new(Unpinned::Deferred));
    ways.client.note(|details| details.multi = Some(0));
    ways.say(&simple("OK"));
    true
}

/// Has the client's transaction begin at the node that has `slot`, or home, and queue these requests first. The command at hand
/// waits.
pub(super) fn begin(at_hand: &mut AtHand, slot: Option<Slot>, requests: Vec<Bytes>, ways: &Ways) -> bool {
    let key = ways.sessions.key_at(slot, &ways.client.key);
    let opening = ways.pin.open(key.clone(), false);
    at_hand.wait_for(Busy::Begin(key, opening, requests));
    false
}

/// There is a connection for it.
pub(super) fn ask_multi(
    at_hand: &mut AtHand,
    stream: PinStream,
    key: &LaneKey,
    requests: Vec<Bytes>,
    ways: &mut Ways,
) {
    ways.pin.hold(stream, key.clone());
    ways.send_pinned(Request::Raw(MULTI), Expect::Begun.into(), None);
    if let Some(pinned) = ways.pin.pinned.as_mut() {
        answer_last(pinned);
    }
    at_hand.wait_for(Busy::Begun(requests));
}

/// Redis has answered its MULTI, with this refusal or none.
pub(super) fn begun(at_hand: &mut AtHand, refusal: Option<Bytes>, ways: &mut Ways) {
    let requests = at_hand.take_begun();
    if let Some(text) = refusal {
        ways.unpin(true);
        return doom(at_hand, text, ways);
    }
    at_hand.begun = None;
    let mut keyless = Keyless::default();
    for request in requests {
        queue_again(at_hand, &request, ways);
        keyless.bytes += request.len();
        keyless.requests.push(request);
    }
    if let Some(pinned) = ways.pin.pinned.as_mut() {
        pinned.keyless = Some(Box::new(keyless));
    }
}

/// It is not begun: that is what its commands are told.
pub(super) fn doom(at_hand: &mut AtHand, why: Bytes, ways: &Ways) {
    at_hand.begun = Some(Box::new(Unpinned::Doomed(why)));
    ways.client.note(|details| details.multi = None);
}

/// A request that was queued at another node, and whose client has its answer.
fn queue_again(at_hand: &mut AtHand, request: &Bytes, ways: &mut Ways) {
    let sessions = ways.sessions.clone();
    let commands = sessions.commands.borrow();
    let parser = parsed(request);
    let call = sessions.call(&commands, parser.arguments(request));
    let request = Request::Raw(request);
    let _ = match in_multi(&call) {
        Plan::Pin(expect) => at_hand.send_pinned(expect, &call, request, ways),
        _ => ways.queue(&call, request),
    };
    if let Some(pinned) = ways.pin.pinned.as_mut() {
        answer_last(pinned);
    }
}

/// Has a transaction without keys fail where the slot of what it watches has moved: Redis tells of a change to a key that is here,
/// and of none to one that is elsewhere by then (cluster.c, `getNodeByQuery`, does not look at what is watched).
fn queue_check(ways: &mut Ways, watched: &Bytes) {
    let mut exists = BytesMut::new();
    encode_command(&mut exists, &[b"EXISTS", watched]);
    ways.send_pinned(Request::Raw(&exists), ReplyMeaning::Queued(Box::new(Later::Unseen)), None);
    if let Some(pinned) = ways.pin.pinned.as_mut() {
        answer_last(pinned);
    }
}

/// Refuses a command in a transaction, so that EXEC aborts that.
pub(super) fn spoil(ways: &mut Ways, words: Bytes) -> bool {
    ways.send_pinned(Request::Raw(MISTAKE), ReplyMeaning::Spoiled(words), None);
    note_keyless(ways, Bytes::from_static(MISTAKE));
    true
}

/// A request without keys has been sent to be queued.
fn note_keyless(ways: &mut Ways, request: Bytes) {
    let Some(pinned) = ways.pin.pinned.as_mut() else { return };
    let Some(keyless) = &mut pinned.keyless else { return };
    keyless.bytes += request.len();
    keyless.requests.push(request);
    if keyless.bytes > MOST_KEYLESS_BYTES {
        pinned.keyless = None;
    }
}

impl Sessions {
    /// The slots of a command's keys, as Redis would look for them.
    pub(super) fn slots(&self, call: &Call<'_>) -> Slots {
        let command = call.command.filter(|command| command.takes(call.arguments.len()));
        command.map_or(Slots::NoKeys, |command| command.slots(call.arguments, &mut self.keys.borrow_mut()))
    }

    /// Where the transaction begins that this command is the first of.
    fn slot_to_begin_at(&self, call: &Call<'_>) -> Option<Slot> {
        match self.slots(call) {
            Slots::One(slot) => Some(slot),
            Slots::NoKeys | Slots::Several => None,
        }
    }
}

/// Why a command is not to be queued, if it is not.
fn words_against(call: &Call<'_>) -> Option<Bytes> {
    let name = call.command.filter(|command| command.takes(call.arguments.len()))?.name();
    match call.lane {
        // The emulated node's to answer.
        Lane::Local(Local::Cluster) => None,
        _ if is_of_clusters(name) => Some(DISABLED.into()),
        // Redis refuses these by itself.
        Lane::Pinned(PinReason::Multi | PinReason::Watch | PinReason::Wait) => None,
        // What it says of itself is not for clients of one Redis.
        _ if is(call.arguments, b"INFO") => Some(not_in_transactions(name)),
        lane => is_for_all(call.command?, lane).then(|| not_in_transactions(name)),
    }
}

/// What a transaction cannot be beside.
fn beside_others() -> Bytes {
    Bytes::from_static(
        b"ERR proxy: the connection is in use at another node of the cluster, by a subscription or a transaction",
    )
}
