//! What a server says of itself: the reply to HELLO, and from which version on its tracking can be relied on.
//!
//! <https://redis.io/docs/latest/commands/hello/>

use resp::Frame;

/// The reply to HELLO. What a server leaves out is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// The product: `redis`, `valkey`.
    pub server: String,
    /// Its version, such as `7.0.15`.
    pub version: String,
    /// The protocol version that the connection speaks from now on.
    pub proto: i64,
    /// `master`, `replica` (Redis 5 and later) or `slave`.
    pub role: String,
    /// `standalone`, `cluster` or `sentinel`.
    pub mode: String,
}

const OF_A_CLUSTER: &str = "redis is a node of a cluster, which holds a part of the keys: only a standalone primary can be served from";
const A_SENTINEL: &str =
    "redis is a sentinel, which holds no keys: the address must be that of the primary it watches";

const OF_NO_CLUSTER: &str =
    "redis is no node of a cluster: the address of a single one belongs into REDIS_URL or REDIS_HOST";

/// Why a server in this mode cannot be served from, for an operator; none if it can. `in_cluster` if it is to be a node of one; a mode
/// that is not told is any.
pub(crate) fn unfit(mode: &str, in_cluster: bool) -> Option<&'static str> {
    match (mode, in_cluster) {
        ("sentinel", _) => Some(A_SENTINEL),
        ("cluster", false) => Some(OF_A_CLUSTER),
        ("" | "cluster", _) | (_, false) => None,
        (_, true) => Some(OF_NO_CLUSTER),
    }
}

/// The mode of a server whose HELLO does not tell: by the reply to `INFO server`.
pub(crate) fn mode_by_info(info: &Frame) -> Option<String> {
    let info = text(info)?;
    info.lines().find_map(|line| line.strip_prefix("redis_mode:")).map(|mode| mode.trim().to_owned())
}

/// Why a server cannot be served from whose answer sends its reader to another node (the address is nobody's business), or to none.
pub fn sent_elsewhere(error: &[u8]) -> Option<&'static str> {
    let codes: [&[u8]; 3] = [b"MOVED ", b"ASK ", b"CLUSTERDOWN "];
    codes.iter().any(|code| error.starts_with(code)).then_some(OF_A_CLUSTER)
}

impl Hello {
    /// Reads the reply, a map or (RESP2) an array of pairs; none if it is neither.
    pub fn read(reply: &Frame) -> Option<Hello> {
        let pairs: Vec<(&Frame, &Frame)> = match reply {
            Frame::Map(pairs) => pairs.iter().map(|(key, value)| (key, value)).collect(),
            Frame::Array(items) => items.chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect(),
            _ => return None,
        };
        let mut hello = Hello::default();
        for (key, value) in pairs {
            match (text(key)?.as_str(), value) {
                ("server", value) => hello.server = text(value)?,
                ("version", value) => hello.version = text(value)?,
                ("role", value) => hello.role = text(value)?,
                ("mode", value) => hello.mode = text(value)?,
                ("proto", Frame::Integer(proto)) => hello.proto = *proto,
                _ => {}
            }
        }
        Some(hello)
    }

    /// Whether the server takes writes itself, so that what it tells is first-hand.
    pub fn is_primary(&self) -> bool {
        self.role == "master"
    }

    fn numbers(&self) -> [u32; 3] {
        let mut numbers = self.version.split(['.', '-']).map(|number| number.parse().unwrap_or(0));
        [0; 3].map(|_| numbers.next().unwrap_or(0))
    }

    /// Why the tracking of a server of this name and version cannot be relied on, if so.
    ///
    /// Redis before 6.2.11 and 7.0.9 loses or misorders invalidations in ways that were mended there (release notes of
    /// both); no Redis has a version of 6.3 to 6.x or 7.1.
    pub fn unfit_to_track(&self) -> Option<String> {
        let fit = match (self.server.to_ascii_lowercase().as_str(), self.numbers()) {
            ("valkey", _) => true,
            ("redis", [6, 2, patch]) => patch >= 11,
            ("redis", [7, 0, patch]) => patch >= 9,
            ("redis", [7, minor, _]) => minor >= 2,
            ("redis", [major, ..]) => major >= 8,
            _ => false,
        };
        (!fit).then(|| {
            format!(
                "{} {} cannot track reliably: expected Redis 6.2.11, 7.0.9, 7.2 or later, or Valkey",
                or_unknown(&self.server),
                or_unknown(&self.version)
            )
        })
    }
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { "(unknown)" } else { text }
}

/// The text of a string of whatever kind.
pub(crate) fn text(frame: &Frame) -> Option<String> {
    match frame {
        Frame::Bulk(bytes) | Frame::Simple(bytes) | Frame::Verbatim { text: bytes, .. } => {
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &'static str) -> Frame {
        Frame::Bulk(text.as_bytes().into())
    }

    #[test]
    fn a_reply_is_read_from_a_map_and_from_pairs() {
        let pairs = [
            (bulk("server"), bulk("redis")),
            (bulk("version"), bulk("7.0.15")),
            (bulk("proto"), Frame::Integer(3)),
            (bulk("id"), Frame::Integer(7)),
            (bulk("mode"), bulk("standalone")),
            (bulk("role"), bulk("master")),
            (bulk("modules"), Frame::Array(vec![])),
        ];
        let expected = Hello {
            server: "redis".into(),
            version: "7.0.15".into(),
            proto: 3,
            role: "master".into(),
            mode: "standalone".into(),
        };
        let flat = pairs.iter().flat_map(|(key, value)| [key.clone(), value.clone()]).collect();
        assert_eq!(Hello::read(&Frame::Map(pairs.to_vec())), Some(expected.clone()));
        assert_eq!(Hello::read(&Frame::Array(flat)), Some(expected));
        assert_eq!(Hello::read(&Frame::Simple("OK".into())), None);
    }

    #[test]
    fn a_node_of_a_cluster_and_a_sentinel_are_told_by_whatever_they_say() {
        assert!(unfit("cluster", false).is_some() && unfit("sentinel", false).is_some());
        assert!(unfit("standalone", false).is_none() && unfit("", false).is_none());
        assert!(unfit("cluster", true).is_none() && unfit("", true).is_none());
        assert!(unfit("standalone", true).is_some() && unfit("sentinel", true).is_some());
        let info = |mode: &str| Frame::Bulk(format!("# Server\r\nredis_mode:{mode}\r\nos:x\r\n").into());
        assert_eq!(mode_by_info(&info("cluster")).as_deref(), Some("cluster"));
        assert_eq!(mode_by_info(&Frame::Error("NOPERM".into())), None);
        assert!(sent_elsewhere(b"MOVED 1 10.0.0.1:1").is_some() && sent_elsewhere(b"ASK 1 h:1").is_some());
        assert!(sent_elsewhere(b"CLUSTERDOWN Hash slot not served").is_some());
        assert!(sent_elsewhere(b"ASKING").is_none() && sent_elsewhere(b"ERR MOVED ").is_none());
    }

    #[test]
    fn versions_from_the_mended_ones_on_are_fit() {
        let unfit = |server: &str, version: &str| {
            Hello { server: server.into(), version: version.into(), ..Hello::default() }.unfit_to_track()
        };
        for version in ["6.2.11", "6.2.14", "7.0.9", "7.0.15", "7.2.0", "7.4.1", "8.0.0", "8.2.1-rc1"] {
            assert_eq!(unfit("redis", version), None, "{version}");
        }
        for version in ["6.0.16", "6.2.10", "6.3.4", "7.0.8", "7.1.0", "5.0.0", "", "x.y"] {
            assert!(unfit("redis", version).is_some(), "{version}");
        }
        assert_eq!(unfit("valkey", "9.1.2"), None);
        assert!(unfit("dragonfly", "1.2.3").is_some() && unfit("", "").is_some());
    }
}
