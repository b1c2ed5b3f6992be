//! What the proxy tells Redis clients of its cache: a section at the end of INFO, and the command PROXY.

use std::fmt::Write;

use bytes::{Bytes, BytesMut};
use resp::{Arguments, Frame};

use super::client_state::ClientState;
use super::reply::{error, integer, simple};
use super::sessions::Sessions;
use crate::clock::now_ns;
use crate::readthrough::Question;

/// What PROXY HELP says.
const HELP: &[&str] = &[
    "PROXY <subcommand> [<arg> ...]. Subcommands are:",
    "STATS",
    "    Return the cache's counters, as at the end of INFO.",
    "CACHE GET <key>",
    "    Return what is cached of the value of a key, as this client sees it.",
    "CACHE FLUSH [<key>]",
    "    Drop what is cached of a key; without one, everything. Redis keeps what it has. RESP_PROXY_ADMIN says who may.",
    "HELP",
    "    Print this help.",
];

/// What a client is told that may not empty the cache.
const NOT_ADMIN: &str = "NOPERM proxy: this client may not empty the cache (RESP_PROXY_ADMIN)";

impl Sessions {
    /// The answer to PROXY, to this client.
    pub(super) fn proxy(&self, client: &ClientState, arguments: Arguments<'_>) -> Frame {
        let is = |at: usize, word: &str| {
            arguments.get(at).is_some_and(|argument| argument.eq_ignore_ascii_case(word.as_bytes()))
        };
        match arguments.len() {
            2 if is(1, "STATS") => {
                Frame::Verbatim { format: *b"txt", text: self.section().into_bytes().into() }
            }
            2 if is(1, "HELP") => Frame::Array(HELP.iter().map(|line| simple(line)).collect()),
            3 | 4 if is(1, "CACHE") && is(2, "FLUSH") && !client.is_admin => error(NOT_ADMIN),
            3 if is(1, "CACHE") && is(2, "FLUSH") => {
                self.readers.own().everything_written();
                simple("OK")
            }
            4 if is(1, "CACHE") && is(2, "FLUSH") => {
                let held = arguments.get(3).is_some_and(|key| self.readers.own().drop_key(key));
                integer(u64::from(held))
            }
            4 if is(1, "CACHE") && is(2, "GET") => self.cached(client, arguments.get(3).unwrap_or_default()),
            _ => error("ERR unknown subcommand or wrong number of arguments for 'proxy'. Try PROXY HELP."),
        }
    }

    /// What is known of a key's value, as pairs; nil if nothing is.
    fn cached(&self, client: &ClientState, key: &[u8]) -> Frame {
        // To ask what is known is no read, for which links would start.
        if !self.settings.cache || !self.readers.is_asked() {
            return Frame::Null;
        }
        let now_ns = now_ns();
        let reader = self.readers.of(client.key.identity.login(), client.proven_ns, client.key.db);
        let entry = reader.and_then(|reader| reader.peek(Question::value(key), now_ns));
        let Some(entry) = entry else { return Frame::Null };
        let ms = |since_ns: u64| integer(now_ns.saturating_sub(since_ns) / 1_000_000);
        let mut pairs = vec![
            (bulk("exists"), integer(u64::from(!entry.is_missing()))),
            (bulk("bytes"), integer(entry.value().len() as u64)),
            (bulk("age_ms"), ms(entry.sent_ns())),
            (bulk("proven_ms_ago"), ms(entry.proven_ns())),
        ];
        if let Some(left_ns) = entry.time_left_ns(now_ns) {
            pairs.push((bulk("ttl_ms"), integer(left_ns / 1_000_000)));
        }
        Frame::Map(pairs)
    }

    /// INFO's answer as it is told: of one Redis, whatever is behind it, and `with_ours` with a section of ours at its end.
    pub(super) fn info(&self, reply: &[u8], with_ours: bool) -> Bytes {
        let section = with_ours.then(|| self.section());
        let told = as_told(reply, self.in_cluster, section.as_deref());
        told.map_or_else(|| Bytes::copy_from_slice(reply), BytesMut::freeze)
    }

    /// The section of the whole process, in INFO's form.
    fn section(&self) -> String {
        let mut text = String::from("# Proxy\r\n");
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            let _ = write!(text, "{name}:{value}\r\n");
        };
        line("proxy_version", &env!("CARGO_PKG_VERSION"));
        line("proxy_clients", &self.registry.len());
        // Of readers who are promised nothing that takes a proof, the mode is all there is to say.
        let standing = self.readers.standing(now_ns());
        line("proxy_redis_clients", &standing.as_deref().unwrap_or(self.settings.coherence));
        for (name, value) in self.readers.report(now_ns()) {
            line(name, &value);
        }
        text
    }
}

fn bulk(text: &'static str) -> Frame {
    Frame::Bulk(Bytes::from_static(text.as_bytes()))
}

/// What INFO says of a node of a cluster, and what of a Redis by itself (Redis 7.0; Valkey 8.1).
const OF_A_NODE: &[(&[u8], &[u8])] = &[
    (b"redis_mode:cluster\r\n", b"redis_mode:standalone\r\n"),
    (b"server_mode:cluster\r\n", b"server_mode:standalone\r\n"),
    (b"cluster_enabled:1\r\n", b"cluster_enabled:0\r\n"),
];

/// INFO's answer, a bulk string or a verbatim one, with a section at its end; `as_one` if it is to tell of one Redis though it is a
/// node's. None if it is something else.
fn as_told(reply: &[u8], as_one: bool, section: Option<&str>) -> Option<BytesMut> {
    let start = memchr::memchr(b'\n', reply)? + 1;
    let mut text = reply.get(start..)?.strip_suffix(b"\r\n")?.to_vec();
    if as_one {
        for (of_a_node, instead) in OF_A_NODE {
            if let Some(at) = memchr::memmem::find(&text, of_a_node) {
                text.splice(at..at + of_a_node.len(), instead.iter().copied());
            }
        }
    }
    if let Some(section) = section {
        let blank: &[u8] = if text.is_empty() || text == b"txt:" { b"" } else { b"\r\n" };
        text.extend_from_slice(blank);
        text.extend_from_slice(section.as_bytes());
    }
    let kind = *reply.first().filter(|kind| matches!(kind, b'$' | b'='))?;
    let mut out = BytesMut::new();
    out.extend_from_slice(&[kind]);
    out.extend_from_slice(itoa::Buffer::new().format(text.len()).as_bytes());
    for piece in [&b"\r\n"[..], &text, b"\r\n"] {
        out.extend_from_slice(piece);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_added_to_either_kind_of_string_and_to_no_error() {
        let told = |reply: &[u8]| as_told(reply, false, Some("# P\r\n")).map(BytesMut::freeze);
        let expect = |bytes: &'static [u8]| Some(Bytes::from_static(bytes));
        assert_eq!(told(b"$5\r\na:1\r\n\r\n"), expect(b"$12\r\na:1\r\n\r\n# P\r\n\r\n"));
        assert_eq!(told(b"=9\r\ntxt:a:1\r\n\r\n"), expect(b"=16\r\ntxt:a:1\r\n\r\n# P\r\n\r\n"));
        assert_eq!(told(b"$0\r\n\r\n"), expect(b"$5\r\n# P\r\n\r\n"));
        assert_eq!(told(b"-NOPERM no\r\n"), None);
    }

    #[test]
    fn a_node_of_a_cluster_is_told_of_as_one_redis() {
        let told = |reply: &[u8]| as_told(reply, true, None).map(BytesMut::freeze);
        let node = b"=43\r\ntxt:redis_mode:cluster\r\ncluster_enabled:1\r\n\r\n";
        let one = &b"=46\r\ntxt:redis_mode:standalone\r\ncluster_enabled:0\r\n\r\n"[..];
        assert_eq!(told(node).as_deref(), Some(one));
        assert_eq!(told(b"$3\r\na:1\r\n").as_deref(), Some(&b"$3\r\na:1\r\n"[..]));
    }
}
