//! SCAN over all primaries of a cluster, one after the other.
//!
//! **The cursor** is the node's own with the node's number in its last 15 bits, and stays below 2^53 while the node's own stays below
//! 2^38, which is a table of 270 thousand million keys. A node's number follows from its address, so that every proxy of a cluster
//! gives it the same and it stays when others come and go; two of one number are told apart in the order of their addresses. A node that
//! has gone, or that never was, ends its part: the next one by number goes on, and behind the last the cursor is 0.

use std::collections::BTreeMap;

use command::Slot;

use super::words::number;
use crate::lanes::Destination;

/// Bits of a cursor that are the number of a node.
const NODE_BITS: u32 = 15;
const NODE_MASK: u64 = (1 << NODE_BITS) - 1;
/// Numbers of nodes are from 1 on, up to this.
const MOST_NODES: u64 = Slot::COUNT as u64;

/// The nodes by their numbers.
pub(super) struct ScanOrder(BTreeMap<u64, Destination>);

/// What becomes of a SCAN with some cursor.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ScanStep {
    /// This node is asked with its own cursor.
    Ask { node: Destination, own: u64, part: ScanPart },
    /// Nothing was found; it goes on with this cursor.
    Over(u64),
}

/// What is made of a node's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ScanPart {
    /// The number of the node.
    node: u64,
    /// The cursor behind its part.
    next: u64,
}

impl ScanOrder {
    /// Of these primaries, each with its address. There are no more than slots.
    pub(super) fn of(mut primaries: Vec<(Destination, String)>) -> ScanOrder {
        primaries.sort_by(|(_, one), (_, other)| one.cmp(other));
        let mut nodes = BTreeMap::new();
        for (node, address) in primaries {
            let mut number = u64::from(Slot::of(address.as_bytes()).number()) + 1;
            while nodes.contains_key(&number) && nodes.len() < Slot::COUNT.into() {
                number = number % MOST_NODES + 1;
            }
            nodes.insert(number, node);
        }
        ScanOrder(nodes)
    }

    /// What becomes of a SCAN with this cursor.
    pub(super) fn step(&self, cursor: u64) -> ScanStep {
        let (own, number) = (cursor >> NODE_BITS, cursor & NODE_MASK);
        let number = if cursor == 0 { self.behind(0) } else { number };
        let next = self.behind(number);
        match self.0.get(&number) {
            Some(node) => ScanStep::Ask { node: *node, own, part: ScanPart { node: number, next } },
            None => ScanStep::Over(next),
        }
    }

    /// The cursor with which the next node begins; 0 behind the last.
    fn behind(&self, number: u64) -> u64 {
        self.0.range(number + 1..).next().map_or(0, |(number, _)| *number)
    }
}

impl ScanPart {
    /// The reply of the node with our cursor in the place of its own.
    pub(super) fn reply(self, reply: &[u8]) -> Vec<u8> {
        let own = own_cursor(reply).and_then(|(own, rest)| Some((self.cursor(own)?, rest)));
        let Some((cursor, rest)) = own else {
            return b"-ERR proxy: a node of the cluster gives a cursor that is too large\r\n".to_vec();
        };
        let cursor = cursor.to_string();
        [format!("*2\r\n${}\r\n{cursor}", cursor.len()).as_bytes(), rest].concat()
    }

    fn cursor(self, own: u64) -> Option<u64> {
        match own {
            0 => Some(self.next),
            own => (own <= u64::MAX >> NODE_BITS).then_some(own << NODE_BITS | self.node),
        }
    }
}

/// The cursor in a reply to SCAN, and what stands behind it.
fn own_cursor(reply: &[u8]) -> Option<(u64, &[u8])> {
    let text = reply.strip_prefix(b"*2\r\n$")?;
    let start = memchr::memchr(b'\n', text)? + 1;
    let cursor = &text[start..];
    let (cursor, rest) = cursor.split_at(memchr::memchr(b'\r', cursor)?);
    Some((number(Some(cursor))?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes of these names; all are at home here, and told apart by their numbers.
    fn order(names: &[&str]) -> ScanOrder {
        ScanOrder::of(names.iter().map(|name| (Destination::home(), (*name).to_owned())).collect())
    }

    fn asked(order: &ScanOrder, cursor: u64) -> (u64, ScanPart) {
        match order.step(cursor) {
            ScanStep::Ask { own, part, .. } => (own, part),
            over @ ScanStep::Over(_) => panic!("{cursor}: {over:?}"),
        }
    }

    #[test]
    fn each_node_is_asked_from_its_beginning_to_its_end() {
        let order = order(&["a:1", "b:1", "c:1"]);
        let (mut cursor, mut nodes) = (0, Vec::new());
        loop {
            let (own, part) = asked(&order, cursor);
            assert_eq!(own, 0);
            nodes.push(part.node);
            cursor = part.cursor(77).unwrap();
            assert!(cursor < 1 << 53);
            assert_eq!(asked(&order, cursor), (77, part));
            cursor = part.cursor(0).unwrap();
            if cursor == 0 {
                break;
            }
        }
        nodes.dedup();
        assert_eq!(nodes.len(), 3);
        assert!(nodes.is_sorted());
    }

    #[test]
    fn a_number_is_its_nodes_whoever_else_is_there() {
        let number = |order: &ScanOrder, at: usize| *order.0.keys().nth(at).unwrap();
        let alone = number(&order(&["b:1"]), 0);
        assert!(order(&["c:1", "a:1", "b:1", "d:1"]).0.contains_key(&alone));
        // Two of one number.
        let twins = order(&["b:1", "b:1"]);
        assert_eq!((twins.0.len(), number(&twins, 1) - number(&twins, 0)), (2, 1));
        let all: Vec<String> = (0..2000).map(|number| format!("10.0.0.1:{number}")).collect();
        let all = order(&all.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(all.0.len() == 2000 && all.0.keys().all(|number| (1..=MOST_NODES).contains(number)));
    }

    #[test]
    fn a_node_that_has_gone_ends_its_part_and_an_unknown_cursor_ends() {
        let all = order(&["a:1", "b:1", "c:1"]);
        let numbers: Vec<u64> = all.0.keys().copied().collect();
        let mut left = order(&["a:1", "b:1", "c:1"]);
        left.0.remove(&numbers[1]);
        let cursor = asked(&all, numbers[1]).1.cursor(5).unwrap();
        assert_eq!(left.step(cursor), ScanStep::Over(numbers[2]));
        left.0.remove(&numbers[2]);
        assert_eq!(left.step(cursor), ScanStep::Over(0));
        assert_eq!(all.step(NODE_MASK), ScanStep::Over(0));
        assert_eq!(all.step(u64::MAX), ScanStep::Over(0));
        assert_eq!(order(&[]).step(0), ScanStep::Over(0));
    }

    #[test]
    fn the_reply_has_our_cursor_and_all_else_of_the_node() {
        let part = ScanPart { node: 3, next: 9 };
        let reply = |own: &str| {
            let reply = format!("*2\r\n${}\r\n{own}\r\n*1\r\n$1\r\n\r\r\n", own.len());
            String::from_utf8(part.reply(reply.as_bytes())).unwrap()
        };
        let ours = |cursor: &str| format!("*2\r\n${}\r\n{cursor}\r\n*1\r\n$1\r\n\r\r\n", cursor.len());
        assert_eq!((reply("0"), reply("2")), (ours("9"), ours(&((2 << 15) + 3).to_string())));
        for own in [&u64::MAX.to_string(), &(1u64 << 49).to_string(), "", "x"] {
            assert!(reply(own).starts_with("-ERR proxy: "), "{own}");
        }
    }
}
