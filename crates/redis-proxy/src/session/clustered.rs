//! Commands where a cluster is behind us: to clients it is one Redis, as far as one node can answer.
//!
//! A command goes to the node that has the slot of its keys, and home if it has none. What more than one node would have to answer is
//! refused in words. Nothing tells a client that there are nodes.

use std::task::Context;

use bytes::Bytes;
use command::{Command, Lane, PinReason, Slot, Slots};

use super::Session;
use super::busy::Heard;
use super::expect::Expect;
use super::plan::{Call, Plan, plan_again};
use super::replies::Via;
use super::reply::error;
use super::sessions::Sessions;
use super::ways::Ways;
use super::words::is;
use crate::lanes::{Destination, Pace, Request};

/// What Redis says itself to keys of several slots, and where it is no node of a cluster.
const CROSSES: &str = "CROSSSLOT Keys in request don't hash to the same slot";
const DISABLED: &str = "ERR This instance has cluster support disabled";

/// Where a command goes.
enum Route {
    /// To the node that has this slot, or home.
    To(Option<Slot>),
    /// Home, and what is said is looked into.
    Info,
    /// Nowhere, for this reason.
    Nowhere(Bytes),
}

/// Carries out the plan for a command. False if it must wait after all.
#[inline(never)]
pub(super) fn perform_in_cluster(
    session: &mut Session,
    plan: Plan,
    call: &Call<'_>,
    request: Request<'_>,
    cx: &mut Context<'_>,
) -> bool {
    let Session { ways, at_hand } = session;
    let slot = match ways.sessions.route(plan, call) {
        Route::To(slot) => slot,
        Route::Nowhere(why) => return refuse(ways, why),
        Route::Info if !ways.out.replies.is_empty() => return false,
        Route::Info => {
            let heard = Heard::Info { with_ours: plan == Plan::Info };
            return at_hand.hear(heard, request, true, ways, cx);
        }
    };
    // What is said through a tunnel is nobody's to look into.
    if plan == Plan::Tunnel {
        return refuse(ways, unsupported(call.name()));
    }
    let to = slot.map(|slot| ways.sessions.lanes.owner(slot.number()));
    let has_pin = ways.pin.is_held();
    let is_unsubscribe = matches!(call.lane, Lane::Pinned(PinReason::Unsubscribe(_)));
    if is_unsubscribe || to.is_none_or(|to| leads_to(ways, to)) {
        let is_let_go = has_pin && !ways.pin.is_held();
        let plan = if is_let_go { plan_again(call, session.standing()) } else { plan };
        return session.perform_at(slot, plan, call, request, cx);
    }
    match (plan, call.lane) {
        (Plan::Pin(Expect::Reply), Lane::Shared) => {
            ways.share_with_duty(call, Pace::Quick, request, slot, cx)
        }
        (Plan::Pin(Expect::Reply), Lane::Slow) => ways.share_with_duty(call, Pace::Slow, request, slot, cx),
        // It may be free then.
        _ if ways.pin.waiting() > 0 => false,
        _ => refuse(ways, unsupported(call.name())),
    }
}

/// Whether no pin is in the way of a command for the node `to`: there is none, or it leads there, or it was of no use and is let go of.
pub(super) fn leads_to(ways: &mut Ways, to: Destination) -> bool {
    if ways.pin.to().is_none_or(|at| at == to) {
        return true;
    }
    let is_unused = ways.pin.is_unused();
    if is_unused {
        ways.unpin(true);
    }
    is_unused
}

/// Refuses a command. False if it must wait: what its client's pin says is not ours to write into.
fn refuse(ways: &mut Ways, why: Bytes) -> bool {
    let may = ways.out.replies.owing() != Some(Via::Pin);
    if may {
        ways.say(&error(why));
    }
    may
}

impl Sessions {
    fn route(&self, plan: Plan, call: &Call<'_>) -> Route {
        let arguments = call.arguments;
        match plan {
            // These are about the client, and the proxy's.
            Plan::Answer(_) | Plan::Proxy | Plan::Refuse | Plan::Doom | Plan::Abort | Plan::Forgive => {
                return Route::To(None);
            }
            Plan::Info => return Route::Info,
            _ if is(arguments, b"INFO") => return Route::Info,
            _ => {}
        }
        // One that nobody knows, or that Redis refuses as it is.
        let Some(command) = call.command.filter(|command| command.takes(arguments.len())) else {
            return Route::To(None);
        };
        if is_of_clusters(command.name()) {
            return Route::Nowhere(Bytes::from_static(DISABLED.as_bytes()));
        }
        if is_for_all(command, call.lane) {
            return Route::Nowhere(unsupported(command.name()));
        }
        match command.slots(arguments, &mut self.keys.borrow_mut()) {
            Slots::NoKeys => Route::To(None),
            Slots::One(slot) => Route::To(Some(slot)),
            Slots::Several => Route::Nowhere(Bytes::from_static(CROSSES.as_bytes())),
        }
    }
}

/// What only a node of a cluster knows.
fn is_of_clusters(name: &str) -> bool {
    matches!(name, "asking" | "cluster" | "readonly" | "readwrite") || name.starts_with("cluster|")
}

/// Whether one node's answer would be a part of the answer, or what it does a part of what is to be done.
fn is_for_all(command: &Command, lane: Lane) -> bool {
    let name = command.name();
    match lane {
        Lane::Pinned(PinReason::Multi | PinReason::Watch | PinReason::Wait | PinReason::Tracking) => true,
        Lane::Pinned(PinReason::Feed) => name != "monitor",
        _ => {
            matches!(
                name,
                "acl|deluser"
                    | "acl|load"
                    | "acl|save"
                    | "acl|setuser"
                    | "client|pause"
                    | "client|unpause"
                    | "config|resetstat"
                    | "config|rewrite"
                    | "config|set"
                    | "dbsize"
                    | "flushall"
                    | "flushdb"
                    | "keys"
                    | "randomkey"
                    | "scan"
                    | "swapdb"
            ) || name.starts_with("function|")
                || name.starts_with("script|")
        }
    }
}

fn unsupported(name: &str) -> Bytes {
    let name = name.replace('|', " ").to_ascii_uppercase();
    format!("ERR proxy: {name} over a cluster is not supported yet").into()
}
