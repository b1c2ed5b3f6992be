//! What a node of a cluster says of itself and of others, less what clients of one Redis are not told.

use memchr::memchr;
use memchr::memmem::find;

/// Of a reply to ROLE: whoever follows the node has an address, and is nobody's.
pub(super) fn hide_replicas(reply: &[u8]) -> Vec<u8> {
    const PRIMARY: &[u8] = b"*3\r\n$6\r\nmaster\r\n:";
    let offset = reply.strip_prefix(PRIMARY).and_then(|rest| rest.get(..memchr(b'\r', rest)?));
    match offset {
        Some(offset) => [PRIMARY, offset, b"\r\n*0\r\n"].concat(),
        None => b"-CLUSTERDOWN proxy: the node that was asked is no primary\r\n".to_vec(),
    }
}

/// Where a node says that it is reached, and the same of ports.
const ADDRESSES: [&str; 4] =
    ["cluster-announce-ip", "cluster-announce-hostname", "replica-announce-ip", "slave-announce-ip"];
const PORTS: [&str; 6] = [
    "cluster-announce-port",
    "cluster-announce-tls-port",
    "cluster-announce-bus-port",
    "cluster-port",
    "replica-announce-port",
    "slave-announce-port",
];

/// Of a reply to CONFIG GET: to its clients a cluster is one Redis, and where its nodes are is not told.
pub(super) fn hide_cluster(reply: &[u8]) -> Vec<u8> {
    let hidden = ADDRESSES.map(|name| (name, "")).into_iter().chain(PORTS.map(|name| (name, "0")));
    let hidden = [("cluster-enabled", "no")].into_iter().chain(hidden);
    hidden.fold(reply.to_vec(), |reply, (name, value)| with_value(&reply, name, value).unwrap_or(reply))
}

/// A reply with another value of this name; none if it has none.
fn with_value(reply: &[u8], name: &str, value: &str) -> Option<Vec<u8>> {
    let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len()).into_bytes();
    let name = bulk(name);
    let (before, behind) = reply.split_at(find(reply, &name)? + name.len());
    let behind = behind.strip_prefix(b"$")?;
    let (length, rest) = behind.split_at(memchr(b'\n', behind)? + 1);
    let length: usize = std::str::from_utf8(length.strip_suffix(b"\r\n")?).ok()?.parse().ok()?;
    Some([before, &bulk(value), rest.get(length.checked_add(2)?..)?].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_primary_has_no_replicas_and_nobody_is_a_replica() {
        let told = b"*3\r\n$6\r\nmaster\r\n:77\r\n*1\r\n*3\r\n$8\r\n10.0.0.1\r\n$4\r\n6379\r\n$2\r\n77\r\n";
        assert_eq!(hide_replicas(told), b"*3\r\n$6\r\nmaster\r\n:77\r\n*0\r\n");
        let replica = b"*5\r\n$5\r\nslave\r\n$8\r\n10.0.0.1\r\n:6379\r\n$9\r\nconnected\r\n:77\r\n";
        assert!(hide_replicas(replica).starts_with(b"-CLUSTERDOWN proxy: "));
    }

    #[test]
    fn no_address_is_told_whatever_else_is() {
        let text = "$15\r\ncluster-enabled\r\n$3\r\nyes\r\n$19\r\ncluster-announce-ip\r\n$8\r\n10.0.0.1\r\n";
        let after = "$15\r\ncluster-enabled\r\n$2\r\nno\r\n$19\r\ncluster-announce-ip\r\n$0\r\n\r\n";
        for kind in ["*6", "%3"] {
            let rest = "$12\r\ncluster-port\r\n$4\r\n7000\r\n";
            let told = hide_cluster(format!("{kind}\r\n{text}{rest}").as_bytes());
            let expected = format!("{kind}\r\n{after}$12\r\ncluster-port\r\n$1\r\n0\r\n");
            assert_eq!(String::from_utf8_lossy(&told), expected);
        }
        for other in ["*0\r\n", "$15\r\ncluster-enabled\r\n", "$15\r\ncluster-enabled\r\n$9\r\nyes\r\n"] {
            assert_eq!(hide_cluster(other.as_bytes()), other.as_bytes());
        }
    }
}
