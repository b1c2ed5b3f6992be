//! A cluster: its nodes, and which of them has which slot, as far as is known at this moment.
//!
//! What is known is a hint for where to ask, never a proof: a node that does not have a slot says so, and where it is
//! (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>, "Redirection and resharding").

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
// Not those of schedules: a hint and counters, whose order nothing rests on.
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use sync::Mutex;
use tokio::sync::watch;

use crate::endpoint::Address;
use crate::node::RedisNode;

/// The slots of a cluster; they are numbered from 0.
pub const SLOTS: u16 = 16_384;

/// Nodes that a process will ever know: whoever names more of them is not to fill the memory.
const MOST_NODES: usize = 4_096;

/// A node, by a number that is never another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeNumber(u16);

impl NodeNumber {
    /// The one node where there is no cluster; in a cluster one of its primaries, whichever: what is no matter of a key is asked there,
    /// and so is what nobody is known to have.
    pub const HOME: NodeNumber = NodeNumber(0);

    /// Its number, for those who show it.
    pub fn number(self) -> u16 {
        self.0
    }
}

/// A cluster, as all share it who connect there: a clone is the same one.
#[derive(Clone)]
pub struct Cluster(Arc<Shared>);

struct Shared {
    home: RedisNode,
    /// Where a node is reached that is announced so.
    reach: Box<dyn Fn(&Address) -> Address + Send + Sync>,
    /// Of each slot the node. Relaxed: each stands alone.
    owners: Box<[AtomicU16]>,
    /// All but home, by their numbers from 1.
    nodes: Mutex<Vec<(Address, RedisNode)>>,
    /// Who was heard last to know more than we do.
    knows_more: Mutex<Option<NodeNumber>>,
    /// Counts maps that were others.
    changes: watch::Sender<u64>,
    counts: ClusterCounts,
}

/// What a cluster's clients meet, counted.
#[derive(Debug, Default)]
pub struct ClusterCounts {
    /// Answers that named another node for good.
    pub moved: AtomicU64,
    /// Answers that named another node for this once.
    pub asked: AtomicU64,
    /// Answers that asked for a later try.
    pub later: AtomicU64,
    /// Slots that were found with another node than before.
    pub slots_moved: AtomicU64,
    /// Maps of slots that were read.
    pub refreshes: AtomicU64,
    /// Maps in which a node had all slots of another that had gone.
    pub failovers: AtomicU64,
}

/// What a node says that does not execute a command: it has changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotRedirection {
    /// This node has the slot.
    Moved(NodeNumber),
    /// This node has the key, if anybody, while its slot is on the way there: asked behind ASKING.
    Ask(NodeNumber),
    /// Nobody for now: to be asked again.
    Later,
}

/// A stretch of slots, both ends in it, and the primary that has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotRange {
    /// The first slot.
    pub first: u16,
    /// The last one.
    pub last: u16,
    /// Where we reach the primary.
    pub primary: Address,
}

impl Cluster {
    /// A cluster of which nothing is known but that `home` will lead to one of its primaries. `reach` says where a node is reached that
    /// announces itself so.
    pub fn new(home: RedisNode, reach: impl Fn(&Address) -> Address + Send + Sync + 'static) -> Cluster {
        Cluster(Arc::new(Shared {
            home,
            reach: Box::new(reach),
            owners: (0..SLOTS).map(|_| AtomicU16::new(0)).collect(),
            nodes: Mutex::default(),
            knows_more: Mutex::default(),
            changes: watch::Sender::new(0),
            counts: ClusterCounts::default(),
        }))
    }

    /// Whoever has `slot`, as far as is known; [`NodeNumber::HOME`] if nobody is known to. Costs one load.
    ///
    /// # Panics
    /// If there is no such slot.
    pub fn owner(&self, slot: u16) -> NodeNumber {
        NodeNumber(self.0.owners[usize::from(slot)].load(Ordering::Relaxed))
    }

    /// The node of a number, where it is.
    ///
    /// # Panics
    /// If the number is of another cluster.
    pub fn node(&self, id: NodeNumber) -> RedisNode {
        match id {
            NodeNumber::HOME => self.0.home.clone(),
            NodeNumber(number) => self.0.nodes.lock()[usize::from(number) - 1].1.clone(),
        }
    }

    /// The number of the node at `address`, as we reach it; a new one if it was not met before.
    pub fn id_of(&self, address: &Address) -> NodeNumber {
        let mut nodes = self.0.nodes.lock();
        let known = nodes.iter().position(|(at, _)| at == address);
        let index = known.unwrap_or_else(|| {
            if nodes.len() < MOST_NODES {
                nodes.push((address.clone(), self.0.home.beside(address.clone())));
            }
            nodes.len() - 1
        });
        // At most MOST_NODES.
        NodeNumber(u16::try_from(index + 1).unwrap_or(0))
    }

    /// The primaries, each with how many slots it has. Looks at all slots.
    pub fn primaries(&self) -> Vec<(NodeNumber, usize)> {
        let mut slots = vec![0; self.0.nodes.lock().len() + 1];
        for owner in &self.0.owners {
            if let Some(count) = slots.get_mut(usize::from(owner.load(Ordering::Relaxed))) {
                *count += 1;
            }
        }
        let ids = (0..).map(NodeNumber);
        ids.zip(slots).filter(|(id, count)| *id != NodeNumber::HOME && *count > 0).collect()
    }

    /// This is what one of the nodes says of all slots; what it leaves out nobody is known to have. How many are with another node
    /// than before. To be called by one task alone.
    pub fn adopt(&self, map: &[SlotRange]) -> usize {
        let mut owners = vec![NodeNumber::HOME; usize::from(SLOTS)];
        for range in map {
            let owner = self.id_of(&range.primary);
            let (first, last) = (usize::from(range.first), usize::from(range.last.min(SLOTS - 1)));
            owners.get_mut(first..=last).into_iter().flatten().for_each(|slot| *slot = owner);
        }
        let (mut moved, mut left) = (0, BTreeSet::new());
        let mut is_another = false;
        for (slot, owner) in self.0.owners.iter().zip(&owners) {
            let before = slot.swap(owner.0, Ordering::Relaxed);
            is_another |= before != owner.0;
            if before != owner.0 && before != 0 {
                moved += 1;
                left.insert(before);
            }
        }
        // A node that had slots and has none is one whose place was taken.
        let gone = left.iter().filter(|before| !owners.iter().any(|owner| owner.0 == **before));
        self.0.counts.failovers.fetch_add(gone.count() as u64, Ordering::Relaxed);
        self.0.counts.slots_moved.fetch_add(moved as u64, Ordering::Relaxed);
        self.0.counts.refreshes.fetch_add(1, Ordering::Relaxed);
        if is_another {
            self.0.changes.send_modify(|changes| *changes += 1);
        }
        moved
    }

    /// What the error `text` (without its dash) says that came from the node `by`, if it is of those by which nodes of a cluster send
    /// their clients on. What it tells of a slot's node is taken for known.
    pub fn redirect(&self, text: &[u8], by: NodeNumber) -> Option<SlotRedirection> {
        let counts = &self.0.counts;
        let (code, rest) = split(text);
        match code {
            b"MOVED" | b"ASK" => {
                let (slot, at) = split(rest);
                let slot =
                    std::str::from_utf8(slot).ok()?.parse::<u16>().ok().filter(|slot| *slot < SLOTS)?;
                let to = self.id_of(&self.announced(at, by)?);
                if code == b"ASK" {
                    counts.asked.fetch_add(1, Ordering::Relaxed);
                    return Some(SlotRedirection::Ask(to));
                }
                counts.moved.fetch_add(1, Ordering::Relaxed);
                self.moved(slot, to, by);
                Some(SlotRedirection::Moved(to))
            }
            b"TRYAGAIN" | b"CLUSTERDOWN" => {
                counts.later.fetch_add(1, Ordering::Relaxed);
                if code == b"CLUSTERDOWN" {
                    self.doubt(None);
                }
                Some(SlotRedirection::Later)
            }
            _ => None,
        }
    }

    /// [`redirect`](Self::redirect) of an error that whoever asked may have made up, as a script may return any: it leads to nodes that
    /// are known already, gives nobody a slot, and has the map asked for.
    pub fn hearsay(&self, text: &[u8], by: NodeNumber) -> Option<SlotRedirection> {
        let (code, rest) = split(text);
        if !matches!(code, b"MOVED" | b"ASK") {
            return self.redirect(text, by);
        }
        let address = self.announced(split(rest).1, by);
        let known = address.and_then(|address| self.known(&address));
        self.doubt(None);
        Some(match known {
            Some(to) if code == b"ASK" => SlotRedirection::Ask(to),
            Some(to) => SlotRedirection::Moved(to),
            None => SlotRedirection::Later,
        })
    }

    fn known(&self, address: &Address) -> Option<NodeNumber> {
        let nodes = self.0.nodes.lock();
        let index = nodes.iter().position(|(at, _)| at == address)?;
        u16::try_from(index + 1).ok().map(NodeNumber)
    }

    fn moved(&self, slot: u16, to: NodeNumber, by: NodeNumber) {
        let before = self.0.owners[usize::from(slot)].swap(to.0, Ordering::Relaxed);
        if before != to.0 {
            self.0.counts.slots_moved.fetch_add(u64::from(before != 0), Ordering::Relaxed);
            self.0.changes.send_modify(|changes| *changes += 1);
            self.doubt(Some(by));
        }
    }

    /// The map of slots may be another one by now; `knows` is who was heard to know more.
    pub fn doubt(&self, knows: Option<NodeNumber>) {
        if knows.is_some() {
            *self.0.knows_more.lock() = knows;
        }
        self.0.home.doubt();
    }

    /// Tells each time that the map is another one.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Who is to be asked first for the map, once.
    pub fn take_who_knows(&self) -> Option<NodeNumber> {
        self.0.knows_more.lock().take()
    }

    /// Where the node is reached that `by` names as `host:port`: an empty host is its own (`cluster-preferred-endpoint-type
    /// unknown-endpoint`), one that it does not know is none.
    fn announced(&self, at: &[u8], by: NodeNumber) -> Option<Address> {
        let (host, port) = std::str::from_utf8(at).ok()?.trim_end().rsplit_once(':')?;
        self.reached(host, port.parse().ok()?, by)
    }

    /// The same of a host and a port.
    pub fn reached(&self, host: &str, port: u16, by: NodeNumber) -> Option<Address> {
        let host = match host {
            "?" => return None,
            "" => match self.node(by).place().address {
                Ok(Address::Tcp { host, .. }) => host,
                _ => return None,
            },
            host => host.trim_start_matches('[').trim_end_matches(']').to_owned(),
        };
        (port != 0).then(|| (self.0.reach)(&Address::Tcp { host, port }))
    }

    /// What was counted.
    pub fn counts(&self) -> &ClusterCounts {
        &self.0.counts
    }
}

fn split(text: &[u8]) -> (&[u8], &[u8]) {
    match text.iter().position(|byte| *byte == b' ') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, b""),
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.nodes.lock().iter().map(|(at, _)| at.to_string())).finish()
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.into(), port }
    }

    fn range(first: u16, last: u16, port: u16) -> SlotRange {
        SlotRange { first, last, primary: at("h", port) }
    }

    fn cluster() -> Cluster {
        Cluster::new(RedisNode::at(at("seed", 1)), |announced| match announced {
            Address::Tcp { host, port } if host == "inside" => at("outside", *port),
            other => other.clone(),
        })
    }

    #[test]
    fn a_slot_is_with_whoever_the_map_names_and_with_home_if_nobody() {
        let cluster = cluster();
        assert_eq!((cluster.owner(0), cluster.owner(SLOTS - 1)), (NodeNumber::HOME, NodeNumber::HOME));
        assert_eq!(cluster.adopt(&[range(0, 99, 1), range(200, 299, 2)]), 0);
        let (one, two) = (cluster.id_of(&at("h", 1)), cluster.id_of(&at("h", 2)));
        assert_eq!(
            [0, 99, 100, 200, 300].map(|slot| cluster.owner(slot)),
            [one, one, NodeNumber::HOME, two, NodeNumber::HOME]
        );
        assert_eq!(cluster.primaries(), [(one, 100), (two, 100)]);
        // One took over all that another had, and a stranger all that is left.
        assert_eq!(cluster.adopt(&[range(0, 299, 1), range(300, SLOTS - 1, 3)]), 100);
        assert_eq!(cluster.owner(250), one);
        assert_eq!(cluster.counts().failovers.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn who_says_that_a_slot_has_moved_is_believed_and_asked_for_the_rest() {
        let cluster = cluster();
        cluster.adopt(&[range(0, SLOTS - 1, 1)]);
        let one = cluster.id_of(&at("h", 1));
        let moved = cluster.redirect(b"MOVED 7 inside:5", one);
        let five = cluster.id_of(&at("outside", 5));
        assert_eq!(
            (moved, cluster.owner(7), cluster.owner(8)),
            (Some(SlotRedirection::Moved(five)), five, one)
        );
        assert_eq!((cluster.take_who_knows(), cluster.take_who_knows()), (Some(one), None));
        // For this once only.
        assert_eq!(
            cluster.redirect(b"ASK 8 [::1]:6", one),
            Some(SlotRedirection::Ask(cluster.id_of(&at("::1", 6))))
        );
        assert_eq!(cluster.owner(8), one);
        // Its own host.
        assert_eq!(
            cluster.redirect(b"MOVED 9 :7", one),
            Some(SlotRedirection::Moved(cluster.id_of(&at("h", 7))))
        );
        for later in [&b"TRYAGAIN Multiple keys"[..], b"CLUSTERDOWN The cluster is down"] {
            assert_eq!(cluster.redirect(later, one), Some(SlotRedirection::Later));
        }
    }

    #[test]
    fn what_may_be_made_up_gives_nobody_a_slot_and_makes_no_node_known() {
        let cluster = cluster();
        cluster.adopt(&[range(0, 99, 1), range(100, SLOTS - 1, 2)]);
        let (one, two) = (cluster.id_of(&at("h", 1)), cluster.id_of(&at("h", 2)));
        let nodes = cluster.0.nodes.lock().len();
        for text in [&b"MOVED 7 evil:6379"[..], b"ASK 7 evil:6379", b"MOVED 7", b"MOVED x h:2x"] {
            assert_eq!(cluster.hearsay(text, one), Some(SlotRedirection::Later));
        }
        assert_eq!(cluster.hearsay(b"MOVED 7 h:2", one), Some(SlotRedirection::Moved(two)));
        assert_eq!(cluster.hearsay(b"ASK 7 h:2", one), Some(SlotRedirection::Ask(two)));
        assert_eq!(cluster.hearsay(b"TRYAGAIN so", one), Some(SlotRedirection::Later));
        assert_eq!(cluster.hearsay(b"ERR so", one), None);
        assert_eq!((cluster.owner(7), cluster.0.nodes.lock().len()), (one, nodes));
    }

    #[test]
    fn what_is_no_redirect_is_none() {
        let cluster = cluster();
        for text in [
            "",
            "MOVED",
            "MOVED 1",
            "MOVED x h:1",
            "MOVED 16384 h:1",
            "MOVED 1 ?:1",
            "MOVED 1 h",
            "MOVED 1 h:x",
            "MOVEDX 1 h:1",
            "ERR MOVED 1 h:1",
        ] {
            assert_eq!(cluster.redirect(text.as_bytes(), NodeNumber::HOME), None, "{text}");
        }
    }

    #[test]
    fn no_more_nodes_are_known_than_are_bearable() {
        let cluster = cluster();
        let ports = 1..=u16::try_from(MOST_NODES).unwrap() + 9;
        let ids: Vec<_> = ports.map(|port| cluster.id_of(&at("h", port))).collect();
        let last = ids.last().copied();
        assert_eq!(last, Some(NodeNumber(u16::try_from(MOST_NODES).unwrap())));
        cluster.node(last.unwrap());
    }
}
