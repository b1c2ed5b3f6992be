//! What a node says of its cluster; `None` everywhere if it has died by now.

use std::collections::BTreeMap;

use super::SLOTS;
use crate::{RedisServer, Reply};

/// Neighbouring slots of one primary.
pub(super) struct OwnedRange {
    pub(super) first: u16,
    last: u16,
    /// Its port.
    pub(super) primary: u16,
    /// Theirs.
    pub(super) replicas: Vec<u16>,
}

/// Who has which slot.
pub(super) fn ranges(node: &RedisServer) -> Option<Vec<OwnedRange>> {
    let reply = ask(node, &["CLUSTER", "SLOTS"])?;
    Some(array(&reply).iter().map(|range| slot_range(array(range))).collect())
}

/// The port of the primary that has the slot.
pub(super) fn owner(ranges: &[OwnedRange], slot: u16) -> Option<u16> {
    ranges.iter().find(|range| (range.first..=range.last).contains(&slot)).map(|range| range.primary)
}

/// The same of all slots.
pub(super) fn owners(ranges: &[OwnedRange]) -> Vec<Option<u16>> {
    let mut owners = vec![None; usize::from(SLOTS)];
    for range in ranges {
        owners[usize::from(range.first)..=usize::from(range.last)].fill(Some(range.primary));
    }
    owners
}

/// The lines of CLUSTER INFO.
pub(super) fn info(node: &RedisServer) -> Option<BTreeMap<String, String>> {
    Some(lines(&ask(node, &["CLUSTER", "INFO"])?))
}

/// Of a replica, whether it is connected to its primary.
pub(super) fn replica_link(node: &RedisServer) -> Option<bool> {
    let info = lines(&ask(node, &["INFO", "replication"])?);
    info.get("master_link_status").map(|status| status == "up")
}

/// `first last [host port ...] [host port ...]...`, the primary before its replicas.
fn slot_range(parts: &[Reply]) -> OwnedRange {
    let port = |node: &Reply| number(&array(node)[1]);
    OwnedRange {
        first: number(&parts[0]),
        last: number(&parts[1]),
        primary: port(&parts[2]),
        replicas: parts[3..].iter().map(port).collect(),
    }
}

fn ask(node: &RedisServer, words: &[&str]) -> Option<Reply> {
    node.try_client().ok()?.try_command(words).ok()
}

fn array(reply: &Reply) -> &[Reply] {
    match reply {
        Reply::Array(parts) => parts,
        other => panic!("a node says {other:?}"),
    }
}

fn number(reply: &Reply) -> u16 {
    match reply {
        Reply::Integer(number) => u16::try_from(*number).expect("a slot or a port"),
        other => panic!("a node says {other:?}"),
    }
}

pub(super) fn text(reply: &Reply) -> String {
    match reply {
        Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => panic!("a node says {other:?}"),
    }
}

/// Names and values with a colon between.
fn lines(reply: &Reply) -> BTreeMap<String, String> {
    let text = text(reply);
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
