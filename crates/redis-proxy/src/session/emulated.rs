//! What clients are told of clusters: of one behind us nothing, or that they are at a node of one, which is emulated.
//!
//! The emulated node has all slots, whatever is behind the proxy, so that a client that insists on a cluster sends everything here. Its answers
//! are those of a cluster of one node (Redis 7.0.15, cluster.c, `clusterCommand`).

use std::rc::Rc;
use std::task::Context;

use bytes::{Bytes, BytesMut};
use command::{Commands, Lane, Local, Slot};
use resp::{Arguments, Frame, FrameLimits, encode_command};

use super::Session;
use super::at_hand::AtHand;
use super::busy::{Busy, Heard};
use super::clustered::{is_of_clusters, perform_in_cluster};
use super::pin::later::Later;
use super::plan::{Call, Plan};
use super::reply::{error, integer, simple};
use super::sessions::Sessions;
use super::ways::Ways;
use super::words::is;
use crate::lanes::{InputRoom, LaneKey, Pace, Request};

/// As much of a walk through all keys as is asked for at once.
const SCAN_COUNT: &[u8] = b"1000";
/// Of one answer to that.
const SCAN_LIMITS: FrameLimits = FrameLimits {
    max_bulk_bytes: 512 * 1024 * 1024,
    max_elements: 1 << 20,
    max_depth: 4,
    max_line_bytes: 1 << 16,
    max_frame_bytes: 1 << 30,
};

/// What clients are told that they are at, beside what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disguise {
    /// Nothing else.
    None,
    /// One Redis, though it is a cluster.
    OneRedis,
    /// A node of a cluster, though it may be none.
    Node,
}

impl Disguise {
    pub(super) fn of(in_cluster: bool, emulates: bool) -> Disguise {
        match (in_cluster, emulates) {
            (_, true) => Disguise::Node,
            (true, false) => Disguise::OneRedis,
            (false, false) => Disguise::None,
        }
    }

    /// The mode in HELLO's answer, if it is not that of Redis.
    pub(super) fn mode(self) -> Option<Frame> {
        let mode: &[u8] = match self {
            Disguise::None => return None,
            Disguise::OneRedis => b"standalone",
            Disguise::Node => b"cluster",
        };
        Some(Frame::Bulk(Bytes::from_static(mode)))
    }
}

/// Carries out the plan for a command where clients are told of something else than there is. False if it must wait after all.
#[inline(never)]
pub(super) fn perform_in_disguise(
    session: &mut Session,
    plan: Plan,
    call: &Call<'_>,
    request: Request<'_>,
    cx: &mut Context<'_>,
) -> bool {
    let Session { ways, at_hand } = session;
    if ways.sessions.in_cluster {
        return perform_in_cluster(session, plan, call, request, cx);
    }
    if matches!(plan, Plan::Info | Plan::Change(_)) && is(call.arguments, b"INFO") {
        let heard = Heard::Info { with_ours: plan == Plan::Info };
        return ways.out.replies.is_empty() && at_hand.hear(heard, request, true, ways, cx);
    }
    session.perform_at(None, plan, call, request, cx)
}

/// The node of a cluster that clients are told of.
#[derive(Clone, Debug)]
pub(crate) struct EmulatedNode {
    /// Where it is reached; where each client came to if that is not said.
    announced: Option<(String, u16)>,
}

impl EmulatedNode {
    pub(super) fn new(announced: Option<(String, u16)>) -> EmulatedNode {
        EmulatedNode { announced }
    }

    /// As a client knows it that came to `address`.
    fn seen_from(&self, address: &str) -> Seen {
        // Only over TCP is nothing announced.
        let came = || {
            let (host, port) = address.rsplit_once(':').unwrap_or_default();
            (host.trim_matches(['[', ']']).to_owned(), port.parse().unwrap_or_default())
        };
        let (host, port) = self.announced.clone().unwrap_or_else(came);
        let id = id_of(&host, port);
        Seen { host, port, id }
    }
}

/// The emulated node, as a client is told of it.
struct Seen {
    host: String,
    port: u16,
    id: String,
}

/// The same of all proxies that announce the same address, and for each at any time: 40 hexadecimal digits of that address (FNV-1a).
fn id_of(host: &str, port: u16) -> String {
    let hash = |seed: u64| {
        let text = format!("{host}:{port}");
        text.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    };
    format!("{:016x}{:016x}{:08x}", hash(0), hash(1), hash(2) & 0xffff_ffff)
}

impl Seen {
    /// What CLUSTER and its kin are answered at once; `None` if that takes a look at keys. The number of arguments is right.
    fn answer(&self, arguments: Arguments<'_>) -> Option<Frame> {
        if !is(arguments, b"CLUSTER") {
            return Some(simple("OK"));
        }
        let word = arguments.get(1).unwrap_or_default().to_ascii_lowercase();
        let id = || bulk(&self.id);
        Some(match &word[..] {
            b"slots" => Frame::Array(vec![Frame::Array(vec![
                Frame::Integer(0),
                Frame::Integer(LAST_SLOT),
                Frame::Array(vec![
                    bulk(&self.host),
                    Frame::Integer(self.port.into()),
                    id(),
                    Frame::Map(Vec::new()),
                ]),
            ])]),
            b"shards" => Frame::Array(vec![Frame::Map(vec![
                (bulk("slots"), Frame::Array(vec![Frame::Integer(0), Frame::Integer(LAST_SLOT)])),
                (bulk("nodes"), Frame::Array(vec![self.details()])),
            ])]),
            b"nodes" => text(self.line() + "\n"),
            b"info" => text(INFO.replace('\n', "\r\n")),
            b"myid" | b"myshardid" => id(),
            b"links" => Frame::Array(Vec::new()),
            b"keyslot" => integer(Slot::of(arguments.get(2)?).number().into()),
            b"replicas" | b"slaves" | b"count-failure-reports" => {
                match arguments.get(2) == Some(self.id.as_bytes()) {
                    true if word == b"count-failure-reports" => Frame::Integer(0),
                    true => Frame::Array(Vec::new()),
                    false => {
                        let named = String::from_utf8_lossy(arguments.get(2)?).into_owned();
                        error(format!("ERR Unknown node {named}"))
                    }
                }
            }
            b"countkeysinslot" | b"getkeysinslot" => return wanted(arguments).err(),
            b"help" => Frame::Array(HELP.iter().map(|line| simple(line)).collect()),
            other => {
                let name = String::from_utf8_lossy(other).to_ascii_uppercase();
                error(format!("ERR proxy: CLUSTER {name} is not for clients of an emulated node"))
            }
        })
    }

    fn details(&self) -> Frame {
        Frame::Map(vec![
            (bulk("id"), bulk(&self.id)),
            (bulk("port"), Frame::Integer(self.port.into())),
            (bulk("ip"), bulk(&self.host)),
            (bulk("endpoint"), bulk(&self.host)),
            (bulk("role"), bulk("master")),
            (bulk("replication-offset"), Frame::Integer(0)),
            (bulk("health"), bulk("online")),
        ])
    }

    /// As CLUSTER NODES has it.
    fn line(&self) -> String {
        let Seen { host, port, id } = self;
        let bus = port.checked_add(BUS).unwrap_or(0);
        format!("{id} {host}:{port}@{bus} myself,master - 0 0 0 connected 0-{LAST_SLOT}")
    }
}

const LAST_SLOT: i64 = 16_383;
/// How far above its port a node speaks to others, unless it is told otherwise.
const BUS: u16 = 10_000;
const INFO: &str = "\
cluster_state:ok
cluster_slots_assigned:16384
cluster_slots_ok:16384
cluster_slots_pfail:0
cluster_slots_fail:0
cluster_known_nodes:1
cluster_size:1
cluster_current_epoch:0
cluster_my_epoch:0
cluster_stats_messages_sent:0
cluster_stats_messages_received:0
total_cluster_links_buffer_limit_exceeded:0
";
const HELP: [&str; 11] = [
    "CLUSTER <subcommand> [<arg> [value] [opt] ...]. Subcommands of an emulated node are:",
    "COUNTKEYSINSLOT <slot>",
    "GETKEYSINSLOT <slot> <count>",
    "INFO",
    "KEYSLOT <key>",
    "LINKS",
    "MYID",
    "NODES",
    "SHARDS",
    "SLOTS",
    "HELP",
];

/// The slot whose keys are wanted, and at most how many of them: all are counted if that is not said.
fn wanted(arguments: Arguments<'_>) -> Result<(Slot, Option<usize>), Frame> {
    let word = |at: usize| {
        let text = std::str::from_utf8(arguments.get(at).unwrap_or_default()).ok();
        let number = text.and_then(|text| text.parse::<i64>().ok());
        number.ok_or_else(|| error("ERR value is not an integer or out of range"))
    };
    let (slot, most) = (word(2)?, if arguments.len() > 3 { Some(word(3)?) } else { None });
    let slot = u16::try_from(slot).ok().and_then(Slot::new);
    match (slot, most.map(usize::try_from)) {
        (Some(slot), None) => Ok((slot, None)),
        (Some(slot), Some(Ok(most))) => Ok((slot, Some(most))),
        (_, None) => Err(error("ERR Invalid slot")),
        (_, Some(_)) => Err(error("ERR Invalid slot or number of keys")),
    }
}

impl Sessions {
    /// A request, as the Redis at hand and the node that may be emulated know it.
    #[inline]
    pub(super) fn call<'a>(&self, commands: &'a Commands, arguments: Arguments<'a>) -> Call<'a> {
        let call = Call::new(commands, self.is_live.get(), arguments);
        match self.disguise {
            Disguise::Node => emulated(call),
            Disguise::None | Disguise::OneRedis => call,
        }
    }

    /// What the emulated node answers at once to a client that came to `address`.
    fn emulated_answer(&self, address: &str, arguments: Arguments<'_>) -> Option<Frame> {
        self.settings.emulated.as_ref()?.seen_from(address).answer(arguments)
    }
}

/// The same where a node is emulated.
fn emulated(call: Call<'_>) -> Call<'_> {
    let is_its = call
        .command
        .is_some_and(|command| is_of_clusters(command.name()) && command.takes(call.arguments.len()));
    match is_its {
        true => Call { lane: Lane::Local(Local::Cluster), ..call },
        false => call,
    }
}

/// Answers for the emulated node. False if it must be tried again.
pub(super) fn emulate(
    at_hand: &mut AtHand,
    arguments: Arguments<'_>,
    request: Request<'_>,
    ways: &mut Ways,
    cx: &mut Context<'_>,
) -> bool {
    let address = &ways.client.entry.local_address;
    if let Some(answer) = ways.sessions.emulated_answer(address, arguments) {
        ways.say(&answer);
        return true;
    }
    let Ok((slot, most)) = wanted(arguments) else { return true };
    if ways.sessions.in_cluster {
        // Whoever has the slot knows.
        return ways.share(request, Pace::Quick, Some(slot), true, None, cx);
    }
    let counting = keys_of(ways.sessions.clone(), ways.client.key.clone(), slot, most);
    at_hand.wait_for(Busy::Later(Box::pin(counting)));
    true
}

/// What follows from a queued command that is the emulated node's to answer, and what Redis is to queue in its place.
pub(super) fn emulated_later(ways: &Ways, call: &Call<'_>) -> Option<(Later, Option<Bytes>)> {
    if call.lane != Lane::Local(Local::Cluster) {
        return None;
    }
    let answer = ways.sessions.emulated_answer(&ways.client.entry.local_address, call.arguments)?;
    let mut ping = BytesMut::new();
    encode_command(&mut ping, &[b"PING"]);
    Some((Later::Said(answer), Some(ping.freeze())))
}

/// The keys of a slot at a Redis that has no slots, at most so many, or their number: by a walk through all keys, on a connection of its
/// own.
async fn keys_of(sessions: Rc<Sessions>, key: LaneKey, slot: Slot, most: Option<usize>) -> Frame {
    let mut stream = match sessions.lanes.clone().prove(key.clone()).await {
        Ok(stream) => stream,
        Err(why) => return error(why.text()),
    };
    let (mut cursor, mut count, mut found) = (Bytes::from_static(b"0"), 0, Vec::new());
    let mut room = InputRoom::new(&sessions.bounds);
    loop {
        let said = stream.ask(&[b"SCAN", &cursor, b"COUNT", SCAN_COUNT], SCAN_LIMITS).await;
        let (next, keys) = match said {
            Some(Frame::Array(said)) => match <[Frame; 2]>::try_from(said) {
                Ok([Frame::Bulk(next), Frame::Array(keys)]) => (next, keys),
                _ => return error("ERR proxy: redis has answered SCAN with something else"),
            },
            Some(refusal @ Frame::Error(_)) => return refusal,
            _ => return error("ERR proxy: redis has not answered SCAN"),
        };
        let of_slot = |key: &Frame| matches!(key, Frame::Bulk(key) if Slot::of(key) == slot);
        let keys = keys.into_iter().filter(of_slot);
        match most {
            None => count += keys.count(),
            Some(most) => found.extend(keys.take(most.saturating_sub(found.len()))),
        }
        if !room.grow(held_by(&found)) {
            return error("ERR proxy: these keys are more than a client may leave unread: ask for fewer");
        }
        if next == b"0"[..] || most.is_some_and(|most| found.len() >= most) {
            sessions.lanes.unpin(&key, stream);
            return if most.is_some() { Frame::Array(found) } else { integer(count as u64) };
        }
        cursor = next;
    }
}

/// What gathered keys take, about.
fn held_by(keys: &[Frame]) -> usize {
    let bytes = |key: &Frame| if let Frame::Bulk(key) = key { key.len() } else { 0 };
    keys.iter().map(|key| size_of::<Frame>() + bytes(key)).sum()
}

fn bulk(text: &str) -> Frame {
    Frame::Bulk(Bytes::copy_from_slice(text.as_bytes()))
}

fn text(text: String) -> Frame {
    Frame::Verbatim { format: *b"txt", text: text.into() }
}
