//! Replies by which a node of a cluster sends a command to another node, or says that none carries it out now. No client is to
//! have one, whole or in parts: what it gets in their place names no address.

use super::key::Destination;

/// What becomes of a command that was answered so on a client's own connection.
pub(crate) struct Elsewhere {
    /// What its client is told, unless it is tried again.
    pub(crate) words: Vec<u8>,
    /// Where it may be, and whether behind ASKING.
    pub(crate) next: Option<(Destination, bool)>,
}

/// How they begin (Redis 6.2 to 8.2, cluster.c, `clusterRedirectClient`).
const BEGINNINGS: [&[u8]; 4] = [b"-MOVED ", b"-ASK ", b"-TRYAGAIN ", b"-CLUSTERDOWN "];
/// More than the longest of them: a host name has at most 255 bytes.
pub(super) const MOST_BYTES: usize = 1024;

/// Whether a reply may be one, as far as it is here.
pub(crate) fn may_be_elsewhere(reply: &[u8]) -> bool {
    BEGINNINGS.iter().any(|beginning| reply.starts_with(beginning) || beginning.starts_with(reply))
}

/// What a client gets in place of one that nobody can do more about. Both codes are ones that clients take for a reason to try again.
pub(super) fn in_words(reply: &[u8]) -> &'static [u8] {
    match reply.starts_with(b"-CLUSTERDOWN") {
        true => b"-CLUSTERDOWN proxy: no node of the cluster carries this out now\r\n",
        false => b"-TRYAGAIN proxy: the slot is on its way to another node of the cluster\r\n",
    }
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
