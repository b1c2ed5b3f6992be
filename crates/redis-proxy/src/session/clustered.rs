//! Commands where a cluster is behind us: to clients it is one Redis.
//!
//! A command goes to the node that has the slot of its keys, and home if it has none. One whose keys are at several nodes, or that is for all
//! of them, goes in pieces as its tips have it ([`Tips`](command::Tips)). Nothing tells a client that there are nodes.

use std::hash::BuildHasher;
use std::task::Context;

use bytes::{Bytes, BytesMut};
use command::{Command, Lane, Local, PinReason, RequestPolicy, Slot, Slots};
use resp::{Arguments, Frame, Protocol, encode_command};

use super::Session;
use super::busy::{Busy, Heard};
use super::channels;
use super::clients::unblock;
use super::deferred::perform_in_transaction;
use super::expect::Expect;
use super::hidden::{hide_cluster, hide_replicas};
use super::latencies;
use super::pause::Pause;
use super::plan::{Call, Plan, Stage, plan_again};
use super::reads::{ReadCall, TakenRead};
use super::registry::Registry;
use super::replies::Via;
use super::reply::error;
use super::scan::{ScanOrder, ScanStep};
use super::sessions::Sessions;
use super::spread::{Pieces, Spread, merge_of, send_pieces};
use super::totals;
use super::ways::Ways;
use super::words::{is, number, parsed};
use crate::clock::now_ns;
use crate::lanes::{AskedApart, Destination, Fold, InputRoom, Lanes, Merge, Pace, Request, ask_apart};

/// What Redis says itself to keys of several slots, and where it is no node of a cluster.
pub(super) const CROSSES: &str = "CROSSSLOT Keys in request don't hash to the same slot";
pub(super) const DISABLED: &str = "ERR This instance has cluster support disabled";
const BAD_CURSOR: &str = "ERR invalid cursor";
const NOBODY: &str = "CLUSTERDOWN proxy: it is not known yet which nodes the cluster has";

/// Where a command goes.
enum Route {
    /// To the node that has this slot, or home.
    To(Option<Slot>),
    /// To all nodes, whose answers become one, and that is looked into.
    Info,
    /// To several nodes, or to one that its keys do not tell.
    Spread(Spread),
    /// To all nodes, on connections that nobody else uses meanwhile.
    Apart,
    /// Nowhere: this is the answer.
    Nowhere(Frame),
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
    if let Some(taken) = perform_in_transaction(session, plan, call, request, cx) {
        return taken;
    }
    let Session { ways, at_hand } = session;
    let slot = match ways.sessions.route(plan, call, ways.client.key.protocol) {
        Route::To(slot) => slot,
        Route::Nowhere(answer) => return say(ways, &answer),
        Route::Spread(spread) => return perform_spread(session, spread, plan, call, request, cx),
        Route::Info | Route::Apart if !ways.out.replies.is_empty() => return false,
        Route::Apart => {
            let asked = wait_at_all_nodes(call, request, ways);
            return match asked {
                Ok(asked) => {
                    at_hand.wait_for(Busy::Apart(asked));
                    true
                }
                Err(why) => refuse(ways, why),
            };
        }
        Route::Info => {
            let heard = Heard::Info { with_ours: plan == Plan::Info };
            let nodes = all_nodes(&ways.sessions.lanes);
            if nodes.is_empty() {
                return at_hand.hear(heard, request, true, ways, cx);
            }
            // What cannot be reached now is no reason to say nothing.
            let merge = Merge::OfSome(Box::new(totals::total));
            let spread = Spread { pieces: Pieces::ToAll(nodes), merge };
            return at_hand.hear_all(heard, spread, call, request, ways, cx);
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
        return match pace_beside_pin(&session.ways, slot, plan, call) {
            Some(pace) => session.ways.share_with_duty(call, pace, request, slot, cx),
            None => session.perform_at(slot, plan, call, request, cx),
        };
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

/// Along which shared lane a command with keys goes although its client has a pin, where it may: there it follows its slot, and on the pin it
/// would be told to try again.
fn pace_beside_pin(ways: &Ways, slot: Option<Slot>, plan: Plan, call: &Call<'_>) -> Option<Pace> {
    let pace = match (plan, call.lane) {
        (Plan::Pin(Expect::Reply), Lane::Shared) => Pace::Quick,
        (Plan::Pin(Expect::Reply), Lane::Slow) => Pace::Slow,
        _ => return None,
    };
    let is_free = || ways.pin.stage(ways.client.resp3()) == Some(Stage::Plain) && !ways.pin.awaits_block();
    (slot.is_some() && is_free() && !ways.sessions.is_paused()).then_some(pace)
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

/// Carries out the plan for a command that goes to several nodes. False if it must wait after all.
fn perform_spread(
    session: &mut Session,
    spread: Spread,
    plan: Plan,
    call: &Call<'_>,
    request: Request<'_>,
    cx: &mut Context<'_>,
) -> bool {
    let Session { ways, at_hand } = session;
    // Whether clients are paused already or not.
    let is_heard =
        matches!(plan, Plan::Pause(_) | Plan::GetPin(PinReason::Paused) | Plan::Pin(Expect::Pause(_)));
    if let Some(pause) = Pause::wanted(call.arguments).filter(|_| is_heard) {
        return at_hand.hear_all(Heard::Pause(pause), spread, call, request, ways, cx);
    }
    // What a node has sent on is on its way to another, and would be overtaken there: whether that is so the reply tells. Pieces by key
    // have the order of their keys.
    if !matches!(spread.pieces, Pieces::ByKey(_)) && !ways.out.replies.is_empty() {
        return false;
    }
    let pace = match (plan, call.lane) {
        (Plan::Wait, _) => return false,
        (Plan::Pin(_), _) if ways.pin.stage(ways.client.resp3()) == Some(Stage::Subscribed) => {
            return refuse(ways, in_subscription(call.name()));
        }
        (Plan::Pin(_), _) if ways.pin.waiting() > 0 => return false,
        (Plan::Read(read), _) => {
            let read = ReadCall { read, request, arguments: call.arguments };
            let Ways { reading, client, out, .. } = &mut *ways;
            let reader = reading.may_be_cached(read, client);
            if reader.is_none() {
                reading.note_passed(read, client);
            }
            match reader.map(|reader| reading.read(read, &reader, client, out)) {
                Some(TakenRead::Yes) => return true,
                Some(TakenRead::Wait) => return false,
                Some(TakenRead::ToLane) | None => Pace::Quick,
            }
        }
        (Plan::Pass(pace) | Plan::Change(pace), _) => pace,
        (Plan::Answer(Local::ClientUnblock), _) => Pace::Quick,
        // Reads may go on, and what ends the pause must not stand behind what it holds up.
        (Plan::GetPin(PinReason::Paused), _) if call.may_repeat() => Pace::Quick,
        (Plan::GetPin(PinReason::Paused), _) | (Plan::Pin(Expect::Reply), Lane::Slow) => Pace::Slow,
        (Plan::Pin(Expect::Reply), Lane::Shared) => Pace::Quick,
        _ => return refuse(ways, unsupported(call.name())),
    };
    send_pieces(ways, spread, call, pace, request, cx)
}

/// A WAIT, or one of its kin. It is about the writes of its own connection, of which there was none so far; and in a cluster what is published
/// goes to no replica (pubsub.c, `publishCommand`, 7.0.15), so that it is no write. So a key is set and deleted in one step before it, at
/// each node in one of its slots.
fn wait_at_all_nodes(call: &Call<'_>, request: Request<'_>, ways: &Ways) -> Result<AskedApart, Bytes> {
    let sessions = &ways.sessions;
    let from = sessions.hasher.hash_one(now_ns()) % u64::from(Slot::COUNT);
    let from = u16::try_from(from).unwrap_or(0);
    let at_node = |(node, _): (Destination, String)| {
        let slot = sessions.lanes.slot_at(node, from).and_then(Slot::new)?;
        let key = format!("redis-proxy:wait:{{{}}}", slot.tag());
        let words: [&[&[u8]]; 4] =
            [&[b"MULTI"], &[b"SET", key.as_bytes(), b""], &[b"DEL", key.as_bytes()], &[b"EXEC"]];
        let mut requests = BytesMut::new();
        words.iter().for_each(|words| encode_command(&mut requests, words));
        request.write(&mut requests);
        Some((ways.client.key.at(node), requests))
    };
    let requests: Vec<_> = sessions.lanes.primaries().into_iter().filter_map(at_node).collect();
    if requests.is_empty() {
        return Err(Bytes::from_static(NOBODY.as_bytes()));
    }
    let tips = call.command.map(Command::tips).unwrap_or_default();
    let merge = merge_of(tips, None).ok_or_else(|| unsupported(call.name()))?;
    sessions.stats.pinned_commands.add(requests.len() as u64);
    Ok(ask_apart(&sessions.lanes, requests, 5, merge))
}

/// What Redis says to a subscribed client of RESP2 (server.c, `processCommand`, 7.0.15). Asked, a node would say first that it does not have
/// all keys.
fn in_subscription(name: &str) -> Bytes {
    let allowed = "(P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET";
    format!("ERR Can't execute '{name}': only {allowed} are allowed in this context").into()
}

/// Refuses a command. False if it must wait.
pub(super) fn refuse(ways: &mut Ways, why: Bytes) -> bool {
    say(ways, &error(why))
}

/// Answers a command. False if it must wait: what its client's pin says is not ours to write into.
fn say(ways: &mut Ways, answer: &Frame) -> bool {
    let may = ways.out.replies.owing() != Some(Via::Pin);
    if may {
        ways.say(answer);
    }
    may
}

impl Sessions {
    fn route(&self, plan: Plan, call: &Call<'_>, protocol: Protocol) -> Route {
        let arguments = call.arguments;
        match plan {
            Plan::Answer(Local::ClientUnblock) => {
                return route_of_unblock(&self.registry, arguments).unwrap_or(Route::To(None));
            }
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
            return Route::Nowhere(error(Bytes::from_static(DISABLED.as_bytes())));
        }
        if call.lane == Lane::Pinned(PinReason::Wait) {
            return if matches!(plan, Plan::GetPin(_) | Plan::Probe) {
                Route::Apart
            } else {
                Route::To(None)
            };
        }
        if is_for_several_pins(call.lane) {
            return Route::Nowhere(error(unsupported(command.name())));
        }
        if let Some(route) = self.of_all_nodes(command, arguments, protocol) {
            return route;
        }
        match command.slots(arguments, &mut self.keys.borrow_mut()) {
            Slots::NoKeys => Route::To(None),
            Slots::One(slot) => Route::To(Some(slot)),
            Slots::Several => match split(command, arguments) {
                Some(spread) => Route::Spread(spread),
                None => Route::Nowhere(error(Bytes::from_static(CROSSES.as_bytes()))),
            },
        }
    }

    /// The pieces of a whole request whose keys are in several slots; none if it is no such one, or where there is no cluster.
    pub(super) fn spread_of(&self, request: &[u8]) -> Option<Spread> {
        if !self.in_cluster {
            return None;
        }
        let (parser, commands) = (parsed(request), self.commands.borrow());
        let arguments = parser.arguments(request);
        let command = commands.find(arguments)?;
        let slots = command.slots(arguments, &mut self.keys.borrow_mut());
        if slots == Slots::Several { split(command, arguments) } else { None }
    }

    /// Whether a request of which only the first arguments are here may have to go in pieces.
    pub(super) fn may_be_spread(&self, arguments: Arguments<'_>) -> bool {
        let commands = self.commands.borrow();
        self.in_cluster && commands.find(arguments).is_some_and(|command| command.tips().request.is_some())
    }

    /// More room for a request of which only the first arguments are here, and so many bytes: if it goes in pieces it must be whole, however
    /// large it is. False if it does not, or there is no more room.
    pub(crate) fn makes_room(
        &self,
        arguments: Arguments<'_>,
        bytes: usize,
        room: &mut Option<Box<InputRoom>>,
    ) -> bool {
        let wanted = bytes.saturating_mul(2).min(self.limits.unread_bytes.get());
        wanted > bytes
            && self.may_be_spread(arguments)
            && room.get_or_insert_with(|| Box::new(InputRoom::new(&self.bounds))).grow(wanted)
    }

    /// Where a command goes that is not for the node of its keys alone.
    fn of_all_nodes(&self, command: &Command, arguments: Arguments<'_>, protocol: Protocol) -> Option<Route> {
        let (name, tips) = (command.name(), command.tips());
        match name {
            "scan" => return Some(self.scan(arguments)),
            "config|get" => return Some(changed_at_home(hide_cluster)),
            "role" => return Some(changed_at_home(hide_replicas)),
            // Whichever node has heard it.
            "ping" => return None,
            _ => {}
        }
        let by_name = merge_of_channels(name).or_else(|| latencies::merge_of(name, arguments, protocol));
        let is_for_all = matches!(tips.request, Some(RequestPolicy::AllNodes | RequestPolicy::AllShards));
        if !is_for_all && by_name.is_none() {
            return None;
        }
        let mut nodes = all_nodes(&self.lanes);
        if nodes.is_empty() {
            return Some(Route::Nowhere(error(Bytes::from_static(NOBODY.as_bytes()))));
        }
        let merge = if name == "randomkey" {
            let from = self.hasher.hash_one(now_ns()) % nodes.len() as u64;
            nodes.rotate_left(usize::try_from(from).unwrap_or(0));
            Merge::FirstFound
        } else {
            by_name.or_else(|| merge_of(tips, None))?
        };
        Some(Route::Spread(Spread { pieces: Pieces::ToAll(nodes), merge }))
    }

    fn scan(&self, arguments: Arguments<'_>) -> Route {
        let Some(cursor) = number(arguments.get(1)) else {
            return Route::Nowhere(error(Bytes::from_static(BAD_CURSOR.as_bytes())));
        };
        let primaries = self.lanes.primaries();
        if primaries.is_empty() {
            return Route::Nowhere(error(Bytes::from_static(NOBODY.as_bytes())));
        }
        match ScanOrder::of(primaries).step(cursor) {
            ScanStep::Ask { node, own, part } => {
                let (mut request, own) = (BytesMut::new(), own.to_string());
                let words = arguments.iter().take(1).chain([own.as_bytes()]).chain(arguments.iter().skip(2));
                encode_command(&mut request, &words.collect::<Vec<_>>());
                let merge = Merge::Changed(Box::new(move |reply| part.reply(reply)));
                Route::Spread(Spread { pieces: Pieces::Instead(request, node), merge })
            }
            ScanStep::Over(cursor) => {
                let cursor = Frame::Bulk(cursor.to_string().into());
                Route::Nowhere(Frame::Array(vec![cursor, Frame::Array(Vec::new())]))
            }
        }
    }
}

/// The nodes of a command that is for all, first the one that is home.
fn all_nodes(lanes: &Lanes) -> Vec<Destination> {
    lanes.primaries().into_iter().map(|(node, _)| node).collect()
}

/// CLIENT UNBLOCK goes where the client has its pin, with the number by which it is known there. `None` if it has none, or of a
/// mistake.
fn route_of_unblock(registry: &Registry, arguments: Arguments<'_>) -> Option<Route> {
    let id = number::<u64>(arguments.get(2))?;
    let (at, known) = registry.get(id)?.pin()?;
    let pieces = Pieces::Instead(BytesMut::from(&unblock(arguments, known)[..]), at);
    Some(Route::Spread(Spread { pieces, merge: Merge::AllSucceeded }))
}

/// The pieces of a request whose keys are in several slots. `None` if none may be made: Redis' tip for MSETNX, which sets all or nothing, is not
/// followed.
fn split(command: &Command, arguments: Arguments<'_>) -> Option<Spread> {
    let tips = command.tips();
    if tips.request != Some(RequestPolicy::MultiShard) || command.name() == "msetnx" {
        return None;
    }
    let cut = command.key_pieces(arguments)?;
    Some(Spread { pieces: Pieces::ByKey(cut), merge: merge_of(tips, Some(cut.count))? })
}

/// What is made of the replies of all nodes to PUBSUB; none to anything else. A pattern that two nodes have counts twice.
fn merge_of_channels(name: &str) -> Option<Merge> {
    Some(match name {
        "pubsub|channels" | "pubsub|shardchannels" => Merge::Together(Box::new(channels::union)),
        "pubsub|numsub" | "pubsub|shardnumsub" => Merge::Together(Box::new(channels::sum)),
        "pubsub|numpat" => Merge::Numbers(Fold::Sum),
        _ => return None,
    })
}

/// The request at hand to any node, whose reply is told in other words.
fn changed_at_home(change: fn(&[u8]) -> Vec<u8>) -> Route {
    let pieces = Pieces::ToAll(vec![Destination::home()]);
    Route::Spread(Spread { pieces, merge: Merge::Changed(Box::new(change)) })
}

/// What only a node of a cluster knows.
pub(super) fn is_of_clusters(name: &str) -> bool {
    matches!(name, "asking" | "cluster" | "readonly" | "readwrite") || name.starts_with("cluster|")
}

/// Whether it goes to other nodes than that of its keys, or what it says of its node is not for clients of one Redis.
pub(super) fn is_for_all(command: &Command, lane: Lane) -> bool {
    let is_told =
        command.name() != "ping" && !matches!(command.tips().request, None | Some(RequestPolicy::MultiShard));
    let is_of_all =
        matches!(command.name(), "config|get" | "role") || merge_of_channels(command.name()).is_some();
    is_told || is_of_all || is_for_several_pins(lane)
}

/// What would need connections of the client's own to several nodes.
fn is_for_several_pins(lane: Lane) -> bool {
    // What a feed shows is of one node, and has addresses of others.
    matches!(lane, Lane::Pinned(PinReason::Tracking | PinReason::Feed))
}

fn unsupported(name: &str) -> Bytes {
    let name = name.replace('|', " ").to_ascii_uppercase();
    format!("ERR proxy: {name} over a cluster is not supported yet").into()
}
