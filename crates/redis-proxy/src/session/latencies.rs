//! What the nodes of a cluster say of what took long (SLOWLOG GET, LATENCY), as one Redis would.
//!
//! A node's own ids and times stay what they are: of two entries of one second it is not known which was first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use resp::{Arguments, Decoder, Frame, FrameLimits, Protocol};

use super::reply::put;
use super::words::number;
use crate::lanes::{Fold, Merge};

/// What is no such answer.
const UNLIKE: &[u8] = b"-ERR proxy: the nodes of the cluster answer in different ways\r\n";
/// So many entries SLOWLOG GET tells if it is not said (slowlog.c, `slowlogCommand`).
const ENTRIES: u64 = 10;
/// What a node says of its latencies is a few thousand values, and of its slow log at most what it is told to keep.
const LIMITS: FrameLimits = FrameLimits {
    max_bulk_bytes: 1 << 20,
    max_elements: 1 << 20,
    max_depth: 8,
    max_line_bytes: 1 << 16,
    max_frame_bytes: 64 << 20,
};

/// What is made of the replies of all nodes to one of these commands; none to anything else.
pub(super) fn merge_of(name: &str, arguments: Arguments<'_>, protocol: Protocol) -> Option<Merge> {
    let together = |merge: Box<dyn FnOnce(Vec<Frame>) -> Option<Frame>>| {
        Merge::Together(Box::new(move |replies| {
            let mut out = Vec::new();
            match frames(replies).and_then(merge) {
                Some(frame) => put(&mut out, &frame, protocol),
                None => out.extend_from_slice(UNLIKE),
            }
            out
        }))
    };
    Some(match name {
        "slowlog|get" => {
            // -1 is all; of a mistake nobody has answered anything.
            let most = arguments.get(2).map_or(Some(ENTRIES), |most| number(Some(most)));
            let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
            together(Box::new(move |replies| newest_first(replies, most)))
        }
        "latency|latest" => together(Box::new(latest)),
        "latency|history" => together(Box::new(history)),
        "latency|histogram" => together(Box::new(histogram)),
        "latency|reset" => Merge::Numbers(Fold::Sum),
        _ => return None,
    })
}

/// Replies that stand one behind the other.
fn frames(replies: &[u8]) -> Option<Vec<Frame>> {
    let (mut decoder, mut bytes) = (Decoder::new(LIMITS), BytesMut::from(replies));
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        frames.push(decoder.decode(&mut bytes).ok()??);
    }
    Some(frames)
}

/// Entries of a slow log: an id, a time, and what else there is.
fn newest_first(replies: Vec<Frame>, most: usize) -> Option<Frame> {
    let mut entries: Vec<Frame> = joined(replies)?;
    let times: Option<Vec<i64>> = entries.iter().map(|entry| integer(items(entry)?.get(1)?)).collect();
    let mut order: Vec<usize> = (0..entries.len()).collect();
    let times = times?;
    order.sort_by_key(|at| Reverse(times[*at]));
    order.truncate(most);
    Some(Frame::Array(order.into_iter().map(|at| std::mem::replace(&mut entries[at], Frame::Null)).collect()))
}

/// Of each event: when it was last, for how long then, and for how long at most.
fn latest(replies: Vec<Frame>) -> Option<Frame> {
    let mut events: BTreeMap<Bytes, [i64; 3]> = BTreeMap::new();
    for event in joined(replies)? {
        let [name, time, last, most] = items(&event)? else { return None };
        let (time, last, most) = (integer(time)?, integer(last)?, integer(most)?);
        let [known, known_last, known_most] = events.entry(text(name)?).or_insert([time, last, most]);
        if time > *known {
            (*known, *known_last) = (time, last);
        }
        *known_most = most.max(*known_most);
    }
    let told = events.into_iter().map(|(name, numbers)| {
        Frame::Array([Frame::Bulk(name)].into_iter().chain(numbers.map(Frame::Integer)).collect())
    });
    Some(Frame::Array(told.collect()))
}

/// Pairs of a time and how long, the oldest first.
fn history(replies: Vec<Frame>) -> Option<Frame> {
    let pair = |pair: Frame| match items(&pair)? {
        [time, long] => Some((integer(time)?, integer(long)?)),
        _ => None,
    };
    let mut pairs: Vec<_> = joined(replies)?.into_iter().map(pair).collect::<Option<_>>()?;
    pairs.sort_by_key(|(time, _)| *time);
    let told = pairs.into_iter().map(|(time, long)| Frame::Array([time, long].map(Frame::Integer).into()));
    Some(Frame::Array(told.collect()))
}

/// Calls, and how many of them took no longer than each bound.
type Histogram = (i64, BTreeMap<i64, i64>);

/// Of each command its calls, and below each bound of time how many of them took no longer (latency.c, `fillCommandCDF`).
fn histogram(replies: Vec<Frame>) -> Option<Frame> {
    let is_map = matches!(replies.first()?, Frame::Map(_));
    let mut commands: BTreeMap<Bytes, Vec<Histogram>> = BTreeMap::new();
    for reply in replies {
        for (name, facts) in pairs(reply)? {
            let facts = pairs(facts)?;
            let fact =
                |name: &[u8]| facts.iter().find(|(known, _)| text(known).is_some_and(|known| known == name));
            let bounds = pairs(fact(b"histogram_usec")?.1.clone())?;
            let bounds = bounds.iter().map(|(bound, calls)| Some((integer(bound)?, integer(calls)?)));
            let of_node = (integer(&fact(b"calls")?.1)?, bounds.collect::<Option<_>>()?);
            commands.entry(text(&name)?).or_default().push(of_node);
        }
    }
    let map = |pairs: Vec<(Frame, Frame)>| match is_map {
        true => Frame::Map(pairs),
        false => Frame::Array(pairs.into_iter().flat_map(|(name, value)| [name, value]).collect()),
    };
    let told = commands.into_iter().map(|(name, nodes)| {
        let calls = nodes.iter().fold(0, |sum: i64, (calls, _)| sum.saturating_add(*calls));
        let bounds: BTreeSet<i64> = nodes.iter().flat_map(|(_, bounds)| bounds.keys().copied()).collect();
        let within = |bound: i64| {
            let of_node =
                |(_, bounds): &Histogram| bounds.range(..=bound).next_back().map_or(0, |(_, calls)| *calls);
            nodes.iter().map(of_node).fold(0, i64::saturating_add)
        };
        let bounds = bounds.into_iter().map(|bound| (Frame::Integer(bound), Frame::Integer(within(bound))));
        let facts = vec![
            (Frame::Bulk(Bytes::from_static(b"calls")), Frame::Integer(calls)),
            (Frame::Bulk(Bytes::from_static(b"histogram_usec")), map(bounds.collect())),
        ];
        (Frame::Bulk(name), map(facts))
    });
    Some(map(told.collect()))
}

/// The elements of all.
fn joined(replies: Vec<Frame>) -> Option<Vec<Frame>> {
    let mut all = Vec::new();
    for reply in replies {
        let Frame::Array(elements) = reply else { return None };
        all.extend(elements);
    }
    Some(all)
}

/// What a map has, or an array in its place.
fn pairs(frame: Frame) -> Option<Vec<(Frame, Frame)>> {
    match frame {
        Frame::Map(pairs) => Some(pairs),
        Frame::Array(elements) if elements.len() % 2 == 0 => {
            let mut elements = elements.into_iter();
            Some(std::iter::from_fn(|| elements.next().zip(elements.next())).collect())
        }
        _ => None,
    }
}

fn items(frame: &Frame) -> Option<&[Frame]> {
    match frame {
        Frame::Array(items) => Some(items),
        _ => None,
    }
}

fn integer(frame: &Frame) -> Option<i64> {
    match frame {
        Frame::Integer(number) => Some(*number),
        _ => None,
    }
}

fn text(frame: &Frame) -> Option<Bytes> {
    match frame {
        Frame::Bulk(text) | Frame::Simple(text) => Some(text.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of these nodes' replies, which are written as RESP with blanks for the ends of lines.
    #[track_caller]
    fn assert_told(merge: fn(Vec<Frame>) -> Option<Frame>, nodes: &[&str], expected: &str) {
        let bytes = |text: &str| text.split(' ').map(|line| format!("{line}\r\n")).collect::<String>();
        let replies = frames(bytes(&nodes.join(" ")).as_bytes()).unwrap();
        let mut told = Vec::new();
        put(&mut told, &merge(replies).unwrap(), Protocol::Resp3);
        assert_eq!(String::from_utf8(told).unwrap(), bytes(expected));
    }

    #[test]
    fn the_newest_entries_of_all_are_told_and_no_more_than_were_asked_for() {
        let nodes = ["*2 *3 :9 :50 +a *3 :8 :20 +b", "*0", "*2 *3 :9 :60 +c *3 :1 :20 +d"];
        let all = |replies| newest_first(replies, usize::MAX);
        assert_told(all, &nodes, "*4 *3 :9 :60 +c *3 :9 :50 +a *3 :8 :20 +b *3 :1 :20 +d");
        assert_told(|replies| newest_first(replies, 1), &nodes, "*1 *3 :9 :60 +c");
        assert_told(|replies| newest_first(replies, 0), &nodes, "*0");
    }

    #[test]
    fn events_are_told_once_with_what_was_last_and_what_was_most() {
        let nodes = ["*2 *4 $1 a :5 :1 :9 *4 $1 b :1 :1 :1", "*1 *4 $1 a :7 :2 :3"];
        assert_told(latest, &nodes, "*2 *4 $1 a :7 :2 :9 *4 $1 b :1 :1 :1");
        assert_told(history, &["*2 *2 :1 :10 *2 :5 :20", "*1 *2 :3 :30"], "*3 *2 :1 :10 *2 :3 :30 *2 :5 :20");
        assert_told(history, &["*0", "*0"], "*0");
    }

    /// Of three calls at one node one took at most 2, of one at the other it took at most 4.
    #[test]
    fn histograms_are_added_bound_by_bound() {
        let one = "*2 $3 get *4 $5 calls :3 $14 histogram_usec *4 :2 :1 :8 :3";
        let other = "*4 $3 get *4 $5 calls :1 $14 histogram_usec *2 :4 :1 $3 set *4 $5 calls :1 $14 histogram_usec *2 :1 :1";
        let sum = "*4 $3 get *4 $5 calls :4 $14 histogram_usec *6 :2 :1 :4 :2 :8 :4 $3 set *4 $5 calls :1 $14 histogram_usec *2 :1 :1";
        assert_told(histogram, &[one, "*0", other], sum);
        let one = "%1 $3 get %2 $5 calls :3 $14 histogram_usec %1 :2 :3";
        assert_told(histogram, &["%0", one], one);
    }

    #[test]
    fn what_is_something_else_is_no_trouble() {
        for merge in [latest, history, histogram, |replies| newest_first(replies, 1)] {
            for unlike in ["+OK\r\n", "*1\r\n:1\r\n", "*1\r\n*1\r\n$1\r\na\r\n", "*3\r\n+a\r\n+b\r\n+c\r\n"] {
                assert!(frames(unlike.as_bytes()).and_then(merge).is_none(), "{unlike}");
            }
        }
        assert!(frames(b"*1\r\n").is_none() && frames(b"?\r\n").is_none());
    }
}
