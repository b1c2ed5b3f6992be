//! Replies by which a node of a cluster sends a command to another node, or says that none carries it out now. No client is to
//! have one, whole or in parts.

/// How they begin (Redis 6.2 to 8.2, cluster.c, `clusterRedirectClient`).
const BEGINNINGS: [&[u8]; 4] = [b"-MOVED ", b"-ASK ", b"-TRYAGAIN ", b"-CLUSTERDOWN "];
/// More than the longest of them: a host name has at most 255 bytes.
pub(super) const MOST_BYTES: usize = 1024;

/// Whether a reply may be one, as far as it is here.
pub(super) fn may_be_elsewhere(reply: &[u8]) -> bool {
    BEGINNINGS.iter().any(|beginning| reply.starts_with(beginning) || beginning.starts_with(reply))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_may_send_elsewhere_until_it_is_known_that_it_does_not() {
        for may in [&b"-"[..], b"-M", b"-MOVED", b"-MOVED 1 h:1\r\n", b"-ASK 1 :1\r\n+OK\r\n", b"-TRYAGAIN x"]
        {
            assert!(may_be_elsewhere(may), "{may:?}");
        }
        for other in [&b"-ERR"[..], b"-MOVE ", b"-ASKING", b"+MOVED 1", b"-\r\n", b"-CLUSTERDOWNS "] {
            assert!(!may_be_elsewhere(other), "{other:?}");
        }
    }
}
