//! What sentinels and INFO say, read.

use std::collections::HashMap;

use resp::Frame;
use upstream::Address;

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
