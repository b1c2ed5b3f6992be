//! The model of a cluster of two: what each node holds and takes for its own, whom it tells of changes, and what is true.
//!
//! A node answers by what it knows (`getNodeByQuery`, cluster.c, 7.0.15): a key of its slots, `-ASK` for one that is missing while
//! its slot leaves, `-MOVED` for the slots of the other, `-CLUSTERDOWN` once it has given up. What is true is what the one holds who has the slot
//! by right. The other may not know that yet: what it says then is its *word*, which is noted beside.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use command::Slot;
use resp::{Frame, Protocol};
use tokio::sync::mpsc::UnboundedSender;
use upstream::{Address, SlotRange};

use crate::clock::now_ns;
use crate::readthrough::link::schedules::redis::{KEYS, KeyReign, bulk, hello};

/// How many there are; they are numbered from 0.
pub(super) const NODES: usize = 2;

/// What a connection to a node is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// It is told of changes.
    Link,
    Watch,
    Plain,
}

/// Where the node of this number is.
pub(super) fn address(node: usize) -> Address {
    Address::Tcp { host: "node".into(), port: u16::try_from(node + 1).expect("one of two") }
}

/// The slot of a key.
pub(super) fn slot_of(key: &str) -> u16 {
    Slot::of(key.as_bytes()).number()
}

/// Everything that they know, and what is true.
pub(super) struct ModelNodes {
    nodes: [Node; NODES],
    /// Who has a slot by right.
    owners: BTreeMap<u16, usize>,
    records: BTreeMap<&'static str, Record>,
    versions: u64,
    connections: u64,
}

#[derive(Default)]
struct Node {
    number: usize,
    peers: BTreeMap<Kind, Peer>,
    held: BTreeMap<&'static str, u64>,
    /// The slots that it takes for its own, those of them that are leaving, and those that are to come.
    has: BTreeSet<u16>,
    migrating: BTreeSet<u16>,
    importing: BTreeSet<u16>,
    /// Cut off for so long that it serves no key.
    has_given_up: bool,
}

struct Peer {
    number: u64,
    wire: UnboundedSender<Bytes>,
    tracked: BTreeSet<&'static str>,
    channels: Vec<String>,
    is_asking: bool,
}

/// What a key was.
#[derive(Clone)]
pub(super) struct Record {
    pub(super) reigns: Vec<KeyReign>,
    /// What a node said of it that did not have it any more.
    pub(super) words: Vec<KeyReign>,
}

impl ModelNodes {
    /// Of nodes that have these slots and hold nothing.
    pub(super) fn new(owners: BTreeMap<u16, usize>) -> ModelNodes {
        let mut nodes: [Node; NODES] = std::array::from_fn(|number| Node { number, ..Node::default() });
        for (slot, owner) in &owners {
            nodes[*owner].has.insert(*slot);
        }
        let record = Record { reigns: vec![reign(None, 0)], words: Vec::new() };
        let records = KEYS.into_iter().map(|key| (key, record.clone())).collect();
        ModelNodes { nodes, owners, records, versions: 0, connections: 0 }
    }

    /// Accepts a connection in the place of the one before, and tells its number.
    pub(super) fn accept(&mut self, node: usize, kind: Kind, wire: UnboundedSender<Bytes>) -> u64 {
        self.connections += 1;
        let number = self.connections;
        let (tracked, channels) = (BTreeSet::new(), Vec::new());
        let peer = Peer { number, wire, tracked, channels, is_asking: false };
        self.nodes[node].peers.insert(kind, peer);
        number
    }

    /// The program ends.
    pub(super) fn hang_up(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.peers.clear());
    }

    /// Executes a command of connection number `number` and sends the reply; a connection that is gone gets none.
    pub(super) fn execute(&mut self, node: usize, kind: Kind, number: u64, command: &Frame) {
        let Frame::Array(words) = command else { panic!("not a command: {command:?}") };
        let word = |at: usize| match words.get(at) {
            Some(Frame::Bulk(bytes)) => std::str::from_utf8(bytes).expect("text"),
            _ => "",
        };
        let node = &mut self.nodes[node];
        let Some(peer) = node.peers.get_mut(&kind).filter(|peer| peer.number == number) else { return };
        let was_asking = std::mem::take(&mut peer.is_asking);
        let reply = match word(0) {
            "PING" => Frame::Simple("PONG".into()),
            "HELLO" => hello(),
            "ASKING" => {
                peer.is_asking = true;
                Frame::Simple("OK".into())
            }
            // Also by one that has given up (`cluster-allow-pubsubshard-when-down`).
            "SSUBSCRIBE" if node.has.contains(&slot_of(word(1))) => {
                peer.channels.push(word(1).into());
                let count = i64::try_from(peer.channels.len()).expect("a few");
                Frame::Push(vec![bulk("ssubscribe"), bulk(word(1)), Frame::Integer(count)])
            }
            "SSUBSCRIBE" => node.sends_to_other("MOVED", slot_of(word(1))),
            name => match node.refuses(word(1), was_asking) {
                Some(redirect) => redirect,
                None => node.read(name, word(1), kind),
            },
        };
        node.send(kind, &reply);
    }

    /// Another client sets a key or deletes it, at whoever has it. When.
    pub(super) fn write(&mut self, key: &'static str, exists: bool) -> u64 {
        let holder = self.holder(key);
        self.versions += 1;
        let node = &mut self.nodes[holder];
        match exists {
            true => drop(node.held.insert(key, self.versions)),
            false => drop(node.held.remove(key)),
        }
        node.invalidate(key);
        self.note()
    }

    /// Another client flushes a node.
    pub(super) fn flush(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.held.clear();
        if let Some(link) = node.peers.get_mut(&Kind::Link) {
            link.tracked.clear();
        }
        node.send(Kind::Link, &Frame::Push(vec![bulk("invalidate"), Frame::Null]));
        self.note();
    }

    /// What another client reads.
    pub(super) fn read(&self, key: &str) -> Option<u64> {
        self.nodes[self.holder(key)].held.get(key).copied()
    }

    /// What a key was, from the beginning of time on.
    pub(super) fn record(&self, key: &str) -> Record {
        self.records[key].clone()
    }

    /// Whether some node takes a slot for its own that is another's.
    pub(super) fn is_disputed(&self) -> bool {
        let claims = (0..NODES).flat_map(|node| self.nodes[node].has.iter().map(move |slot| (node, slot)));
        claims.into_iter().any(|(node, slot)| self.owners[slot] != node)
    }

    pub(super) fn owner(&self, slot: u16) -> usize {
        self.owners[&slot]
    }

    /// The slots that `node` has by right.
    pub(super) fn slots_of(&self, node: usize) -> Vec<u16> {
        self.owners.iter().filter(|(_, owner)| **owner == node).map(|(slot, _)| *slot).collect()
    }

    /// Which node has which slot, as `node` sees it.
    pub(super) fn map_of(&self, node: usize) -> Vec<SlotRange> {
        let owner = |slot: &u16| if self.nodes[node].has.contains(slot) { node } else { other(node) };
        let range = |slot: &u16| SlotRange { first: *slot, last: *slot, primary: address(owner(slot)) };
        self.owners.keys().map(range).collect()
    }

    /// A slot is to leave: who gets it is told first.
    pub(super) fn import(&mut self, slot: u16) {
        self.nodes[other(self.owners[&slot])].importing.insert(slot);
    }

    pub(super) fn begin_to_leave(&mut self, slot: u16) {
        self.nodes[self.owners[&slot]].migrating.insert(slot);
    }

    /// The keys of a slot go where that goes (MIGRATE).
    pub(super) fn move_keys(&mut self, slot: u16) {
        let from = self.owners[&slot];
        for key in KEYS.into_iter().filter(|key| slot_of(key) == slot) {
            if let Some(value) = self.nodes[from].held.remove(key) {
                self.nodes[other(from)].held.insert(key, value);
                self.nodes[from].invalidate(key);
            }
        }
        self.note();
    }

    /// Who gets a slot has it from now on.
    pub(super) fn arrive(&mut self, slot: u16) {
        let to = other(self.owners[&slot]);
        self.owners.insert(slot, to);
        self.nodes[to].importing.remove(&slot);
        self.nodes[to].has.insert(slot);
        self.note();
    }

    /// The other node claims a slot, and what it has of its keys is true from now on: perhaps something, by `copy`.
    pub(super) fn claim(&mut self, slot: u16, mut copy: impl FnMut() -> bool) {
        let by = other(self.owners[&slot]);
        for key in KEYS.into_iter().filter(|key| slot_of(key) == slot && copy()) {
            self.versions += 1;
            self.nodes[by].held.insert(key, self.versions);
        }
        self.arrive(slot);
    }

    /// A node that is cut off serves no key any more.
    pub(super) fn give_up(&mut self, node: usize) {
        self.nodes[node].has_given_up = true;
        self.note();
    }

    /// A node learns which of its slots are the other's by now: it drops them, and their keys without a word (7.0). Whoever watches them
    /// is told.
    pub(super) fn learn(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.has_given_up = false;
        let gone: Vec<u16> =
            node.has.iter().filter(|slot| self.owners[slot] != node.number).copied().collect();
        for slot in gone {
            node.has.remove(&slot);
            node.migrating.remove(&slot);
            node.held.retain(|key, _| slot_of(key) != slot);
            let Some(watch) = node.peers.get_mut(&Kind::Watch) else { continue };
            for channel in
                watch.channels.extract_if(.., |channel| slot_of(channel) == slot).collect::<Vec<_>>()
            {
                node.send(
                    Kind::Watch,
                    &Frame::Push(vec![bulk("sunsubscribe"), bulk(&channel), Frame::Integer(0)]),
                );
            }
        }
        self.note();
    }

    /// Who holds a key, or would.
    fn holder(&self, key: &str) -> usize {
        let (slot, owner) = (slot_of(key), self.owners[&slot_of(key)]);
        let is_there =
            self.nodes[owner].held.contains_key(key) || !self.nodes[owner].migrating.contains(&slot);
        if is_there { owner } else { other(owner) }
    }

    /// What a node says of a key that does not have it by right: nothing, as a rule.
    fn word(&self, key: &str) -> Option<Option<u64>> {
        let slot = slot_of(key);
        let node = &self.nodes[other(self.owners[&slot])];
        (node.has.contains(&slot) && node.refuses(key, false).is_none()).then(|| node.held.get(key).copied())
    }

    /// Something has happened: notes what is true, and what is said. When.
    fn note(&mut self) -> u64 {
        let now_ns = now_ns();
        for key in KEYS {
            let (truth, word) = (self.read(key), self.word(key));
            let Record { reigns, words } = self.records.get_mut(key).expect("one of each");
            if reigns.last().is_none_or(|last| last.value != truth) {
                end(reigns, now_ns);
                reigns.push(reign(truth, now_ns));
            }
            let is_said = |last: &&KeyReign| last.to_ns == u64::MAX;
            if words.last().filter(is_said).map(|last| last.value) != word {
                end(words, now_ns);
                words.extend(word.map(|value| reign(value, now_ns)));
            }
        }
        now_ns
    }
}

impl Node {
    /// What it says instead of an answer, if it does.
    fn refuses(&self, key: &str, is_asking: bool) -> Option<Frame> {
        let slot = slot_of(key);
        if self.has_given_up {
            return Some(Frame::Error("CLUSTERDOWN The cluster is down".into()));
        }
        match (self.has.contains(&slot), self.migrating.contains(&slot)) {
            (true, true) if !self.held.contains_key(key) => Some(self.sends_to_other("ASK", slot)),
            (true, _) => None,
            (false, _) if is_asking && self.importing.contains(&slot) => None,
            (false, _) => Some(self.sends_to_other("MOVED", slot)),
        }
    }

    fn sends_to_other(&self, code: &str, slot: u16) -> Frame {
        Frame::Error(format!("{code} {slot} {}", address(other(self.number))).into())
    }

    /// The answer of a node that gives one.
    fn read(&mut self, name: &str, key: &str, kind: Kind) -> Frame {
        let value = self.held.get(key).copied();
        let reply = match name {
            "GET" => value.map_or(Frame::Null, |value| Frame::Bulk(value.to_string().into())),
            "PTTL" => Frame::Integer(if value.is_some() { -1 } else { -2 }),
            "EXISTS" => Frame::Integer(i64::from(value.is_some())),
            name => panic!("the model knows no {name}"),
        };
        if kind == Kind::Link
            && let Some(link) = self.peers.get_mut(&kind)
        {
            link.tracked.extend(KEYS.into_iter().find(|known| *known == key));
        }
        reply
    }

    fn invalidate(&mut self, key: &str) {
        let link = self.peers.get_mut(&Kind::Link);
        if link.is_some_and(|link| link.tracked.remove(key)) {
            self.send(Kind::Link, &Frame::Push(vec![bulk("invalidate"), Frame::Array(vec![bulk(key)])]));
        }
    }

    fn send(&self, kind: Kind, frame: &Frame) {
        let mut bytes = BytesMut::new();
        frame.encode(&mut bytes, Protocol::Resp3);
        if let Some(peer) = self.peers.get(&kind) {
            // A wire that is cut takes nothing.
            let _ = peer.wire.send(bytes.freeze());
        }
    }
}

fn other(node: usize) -> usize {
    1 - node
}

fn reign(value: Option<u64>, from_ns: u64) -> KeyReign {
    KeyReign { from_ns, to_ns: u64::MAX, value, deadline_ns: u64::MAX }
}

/// The last one is over, if it was not.
fn end(reigns: &mut [KeyReign], now_ns: u64) {
    if let Some(last) = reigns.last_mut() {
        last.to_ns = last.to_ns.min(now_ns);
    }
}
