//! What sentinels and INFO say, read.

use std::collections::HashMap;

use resp::Frame;
use upstream::{Address, SLOTS, SlotRange};

/// More instances are not read, whoever lists them.
const MOST_LISTED: usize = 64;

/// The text of a frame, if it is one.
fn text(frame: &Frame) -> Option<String> {
    match frame {
        Frame::Bulk(bytes) | Frame::Simple(bytes) => String::from_utf8(bytes.to_vec()).ok(),
        _ => None,
    }
}

/// Names and values, as a map of RESP3 or an array of RESP2.
pub(super) fn fields(frame: &Frame) -> HashMap<String, String> {
    let pairs: Vec<(&Frame, &Frame)> = match frame {
        Frame::Map(pairs) => pairs.iter().map(|(name, value)| (name, value)).collect(),
        Frame::Array(items) => items.chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect(),
        _ => Vec::new(),
    };
    pairs.into_iter().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect()
}

/// Where the instance is that a sentinel tells of by these fields.
fn place(fields: &HashMap<String, String>) -> Option<Address> {
    address(fields.get("ip")?, fields.get("port")?)
}

fn address(host: &str, port: &str) -> Option<Address> {
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!host.is_empty()).then(|| Address::Tcp { host: host.into(), port })
}

/// The answer to SENTINEL GET-MASTER-ADDR-BY-NAME.
pub(super) fn primary(frame: &Frame) -> Option<Address> {
    match frame {
        Frame::Array(items) => match &items[..] {
            [host, port] => address(&text(host)?, &text(port)?),
            _ => None,
        },
        _ => None,
    }
}

/// The answer to SENTINEL REPLICAS or SENTINEL SENTINELS: where they are.
pub(super) fn places(frame: &Frame) -> Vec<Address> {
    match frame {
        Frame::Array(items) => {
            items.iter().take(MOST_LISTED).filter_map(|item| place(&fields(item))).collect()
        }
        _ => Vec::new(),
    }
}

/// Of INFO: the lines `name:value`.
pub(super) fn info(frame: &Frame) -> Option<HashMap<String, String>> {
    let text = match frame {
        Frame::Verbatim { text, .. } => String::from_utf8_lossy(text).into_owned(),
        other => text(other)?,
    };
    let lines = text.lines().filter_map(|line| line.trim_end().split_once(':'));
    Some(lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// Of INFO replication: where the replicas are, `slave0:ip=10.0.0.2,port=6379,state=online,offset=42,lag=0`.
pub(super) fn replicas(info: &HashMap<String, String>) -> Vec<Address> {
    let is_replica = |name: &str| {
        name.strip_prefix("slave").is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let replica = |value: &String| {
        let field =
            |name: &str| value.split(',').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        address(field("ip")?, field("port")?)
    };
    let mut lines: Vec<_> = info.iter().filter(|(name, _)| is_replica(name)).collect();
    lines.sort();
    lines.into_iter().take(MOST_LISTED).filter_map(|(_, value)| replica(value)).collect()
}

/// The answer to CLUSTER SLOTS: who has which slots; `reach` says where a node is reached that is announced by this host and port, if it is.
/// A host is a name, an address, nothing or null (that of the node that says so), or `?` where a name is preferred and not
/// set, and then an address stands behind it, or nobody knows.
///
/// # Errors
/// It is none, or names what cannot be: in words.
pub(super) fn slots(
    frame: &Frame,
    reach: impl Fn(&str, u16) -> Option<Address>,
) -> Result<Vec<SlotRange>, String> {
    let ranges = match frame {
        Frame::Array(ranges) => ranges,
        Frame::Error(text) => return Err(String::from_utf8_lossy(text).into_owned()),
        _ => return Err("its answer to CLUSTER SLOTS is none".into()),
    };
    ranges.iter().filter_map(|range| range_of(range, &reach).transpose()).collect()
}

/// None if the node that has them is nowhere to be reached.
fn range_of(
    frame: &Frame,
    reach: &impl Fn(&str, u16) -> Option<Address>,
) -> Result<Option<SlotRange>, String> {
    let bad = || "its answer to CLUSTER SLOTS is not understood".to_owned();
    let Frame::Array(items) = frame else { return Err(bad()) };
    let [Frame::Integer(first), Frame::Integer(last), Frame::Array(node), ..] = &items[..] else {
        return Err(bad());
    };
    let slot = |number: i64| u16::try_from(number).ok().filter(|slot| *slot < SLOTS);
    let (Some(first), Some(last)) = (slot(*first), slot(*last)) else { return Err(bad()) };
    let [host, Frame::Integer(port), about @ ..] = &node[..] else { return Err(bad()) };
    let host = match host {
        Frame::Null => String::new(),
        host => text(host).ok_or_else(bad)?,
    };
    let host = match &host[..] {
        "?" => about.iter().find_map(|about| fields(about).remove("ip")).unwrap_or(host),
        _ => host,
    };
    if last < first {
        return Err(bad());
    }
    let primary = u16::try_from(*port).ok().and_then(|port| reach(&host, port));
    Ok(primary.map(|primary| SlotRange { first, last, primary }))
}

/// Whether what was heard is a message on one of the channels that a sentinel tells of failovers.
pub(super) fn is_message(said: &[Frame]) -> bool {
    said.first().and_then(text).is_some_and(|kind| kind == "message")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Frame {
        Frame::Bulk(text.to_owned().into())
    }

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.into(), port }
    }

    #[test]
    fn an_address_is_a_host_and_a_port_and_nothing_else_is_one() {
        let answer = |parts: &[&str]| primary(&Frame::Array(parts.iter().map(|part| bulk(part)).collect()));
        assert_eq!(answer(&["10.0.0.1", "6379"]), Some(tcp("10.0.0.1", 6379)));
        for bad in [&["10.0.0.1"][..], &["", "6379"], &["h", "0"], &["h", "70000"], &["h", "1", "2"]] {
            assert_eq!(answer(bad), None, "{bad:?}");
        }
        assert_eq!(primary(&Frame::Null), None);
    }

    #[test]
    fn instances_are_read_as_maps_and_as_arrays() {
        let of = |ip: &str, port: &str| {
            [("name", "x"), ("ip", ip), ("port", port)].map(|(a, b)| (bulk(a), bulk(b)))
        };
        let map = Frame::Map(of("::1", "1").to_vec());
        let flat = Frame::Array(of("h", "2").into_iter().flat_map(|(a, b)| [a, b]).collect());
        let broken = Frame::Map(of("h", "x").to_vec());
        assert_eq!(places(&Frame::Array(vec![map, flat, broken])), [tcp("::1", 1), tcp("h", 2)]);
        assert_eq!(places(&Frame::Error("ERR".into())), []);
    }

    #[test]
    fn slots_are_read_whatever_a_node_calls_its_host() {
        let node = |host: Frame, port: i64, about: Vec<Frame>| {
            Frame::Array([vec![host, Frame::Integer(port), bulk("id")], about].concat())
        };
        let range = |first: i64, last: i64, node: Frame| {
            let replica = Frame::Array(vec![bulk("r"), Frame::Integer(9)]);
            Frame::Array(vec![Frame::Integer(first), Frame::Integer(last), node, replica])
        };
        let ip = Frame::Array(vec![bulk("ip"), bulk("10.0.0.3")]);
        let answer = Frame::Array(vec![
            range(0, 1, node(bulk("h"), 1, vec![])),
            range(2, 2, node(bulk(""), 2, vec![])),
            range(3, 4, node(Frame::Null, 3, vec![])),
            range(5, 5, node(bulk("?"), 4, vec![ip])),
            range(6, 6, node(bulk("?"), 5, vec![])),
            range(7, 16_383, node(bulk("::1"), 6, vec![])),
        ]);
        let reach = |host: &str, port: u16| match host {
            "" => Some(tcp("itself", port)),
            "?" => None,
            host => Some(tcp(host, port)),
        };
        let read = slots(&answer, reach).unwrap();
        let read: Vec<_> =
            read.iter().map(|range| (range.first, range.last, range.primary.to_string())).collect();
        let expected = [
            (0, 1, "h:1"),
            (2, 2, "itself:2"),
            (3, 4, "itself:3"),
            (5, 5, "10.0.0.3:4"),
            (7, 16_383, "[::1]:6"),
        ];
        assert_eq!(read, expected.map(|(first, last, at)| (first, last, at.to_owned())));
        assert_eq!(slots(&Frame::Array(vec![]), reach), Ok(vec![]), "a node that knows nobody");
        for bad in [
            Frame::Null,
            Frame::Error("ERR This instance has cluster support disabled".into()),
            Frame::Array(vec![Frame::Integer(1)]),
            Frame::Array(vec![range(2, 1, node(bulk("h"), 1, vec![]))]),
            Frame::Array(vec![range(0, 16_384, node(bulk("h"), 1, vec![]))]),
            Frame::Array(vec![range(-1, 5, node(bulk("h"), 1, vec![]))]),
            Frame::Array(vec![range(0, 1, Frame::Array(vec![bulk("h")]))]),
        ] {
            assert!(slots(&bad, reach).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn replicas_are_the_numbered_lines_of_info() {
        let text = "# Replication\r\nrole:master\r\nconnected_slaves:2\r\n\
                    slave0:ip=10.0.0.2,port=6379,state=online,offset=1,lag=0\r\n\
                    slave1:ip=db.test,port=7000,state=wait_bgsave,offset=0,lag=0\r\nslave_x:ip=no,port=1\r\n";
        let read = info(&bulk(text)).unwrap();
        assert_eq!(read.get("role").map(String::as_str), Some("master"));
        assert_eq!(replicas(&read), [tcp("10.0.0.2", 6379), tcp("db.test", 7000)]);
        assert_eq!(info(&Frame::Error("NOPERM".into())), None);
    }
}
