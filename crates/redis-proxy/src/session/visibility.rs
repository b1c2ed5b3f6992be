//! What the proxy tells Redis clients of its cache: a section at the end of INFO, and the command PROXY.

use std::fmt::Write;

use bytes::{Bytes, BytesMut};
use resp::{Arguments, Frame};

use super::busy::LaterAnswer;
use super::client_state::ClientState;
use super::emulated::Disguise;
use super::reply::{error, integer, simple};
use super::sessions::Sessions;
use super::shown_lists::ShownList;
use super::shown_slow::slow_log;
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
    "CACHE FLUSH PREFIX <prefix>",
    "    Drop what is cached of all keys that begin so.",
    "HOTKEYS [<count>]",
    "    Return the keys of this client's user and database that are read most. RESP_PROXY_ADMIN says who may see lists.",
    "MISSES [<count>]",
    "    Return the keys that the cache answers least, and why.",
    "PREFIXES [<count>]",
    "    Return the beginnings of keys, up to the first colon, that are read most.",
    "BIGKEYS [<count>]",
    "    Return the keys that take most of the cache.",
    "SLOWLOG GET [<count>] | LEN | RESET",
    "    Return commands of this user that took longer than SLOWLOG_THRESHOLD, how many there are, or forget them.",
    "HELP",
    "    Print this help.",
];

/// What PROXY says to anything else.
const UNKNOWN: &str = "ERR unknown subcommand or wrong number of arguments for 'proxy'. Try PROXY HELP.";

/// What a client is told that may not empty the cache.
const NOT_ADMIN: &str = "NOPERM proxy: this client may not empty the cache (RESP_PROXY_ADMIN)";

impl Sessions {
    /// The answer to PROXY, to this client; what is to be waited for where it takes its time.
    pub(super) fn proxy(&self, client: &ClientState, arguments: Arguments<'_>) -> Result<Frame, LaterAnswer> {
        let is = |at: usize, word: &str| {
            arguments.get(at).is_some_and(|argument| argument.eq_ignore_ascii_case(word.as_bytes()))
        };
        let answer = match arguments.len() {
            2 if is(1, "STATS") => {
                Frame::Verbatim { format: *b"txt", text: self.section().into_bytes().into() }
            }
            2 if is(1, "HELP") => Frame::Array(HELP.iter().map(|line| simple(line)).collect()),
            3..=5 if is(1, "CACHE") && is(2, "FLUSH") && !client.is_admin(self.limits.get()) => {
                error(NOT_ADMIN)
            }
            3 if is(1, "CACHE") && is(2, "FLUSH") => {
                self.readers.own().purger().all(&client.entry.address);
                simple("OK")
            }
            4 if is(1, "CACHE") && is(2, "FLUSH") => {
                let key = arguments.get(3).unwrap_or_default();
                integer(u64::from(self.readers.own().purger().key(key, &client.entry.address)))
            }
            5 if is(1, "CACHE") && is(2, "FLUSH") && is(3, "PREFIX") => {
                let prefix = arguments.get(4).unwrap_or_default();
                return self.purge_prefix(client, prefix);
            }
            2 | 3 if let Some(list) = arguments.get(1).and_then(ShownList::of) => {
                return self.list(list, client, arguments);
            }
            3..=4 if is(1, "SLOWLOG") => slow_log(self, client, arguments).unwrap_or_else(|| error(UNKNOWN)),
            4 if is(1, "CACHE") && is(2, "GET") => self.cached(client, arguments.get(3).unwrap_or_default()),
            _ => error(UNKNOWN),
        };
        Ok(answer)
    }

    fn purge_prefix(&self, client: &ClientState, prefix: &[u8]) -> Result<Frame, LaterAnswer> {
        if prefix.is_empty() {
            return Ok(error("ERR proxy: an empty prefix is everything: PROXY CACHE FLUSH"));
        }
        let purger = self.readers.own().purger();
        if purger.prefix_at_once(prefix, &client.entry.address) {
            return Ok(simple("OK"));
        }
        let (prefix, who) = (Bytes::copy_from_slice(prefix), client.entry.address.clone());
        Err(Box::pin(async move {
            match purger.prefix(&prefix, &who).await {
                true => simple("OK"),
                false => error("ERR proxy: too many purges"),
            }
        }))
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
        let told = as_told(reply, self.disguise, section.as_deref());
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

/// INFO's answer, a bulk string or a verbatim one, in disguise and with a section at its end. None if it is something else.
fn as_told(reply: &[u8], disguise: Disguise, section: Option<&str>) -> Option<BytesMut> {
    let start = memchr::memchr(b'\n', reply)? + 1;
    let mut text = reply.get(start..)?.strip_suffix(b"\r\n")?.to_vec();
    for (of_a_node, of_one) in OF_A_NODE {
        let (found, instead) = match disguise {
            Disguise::None => break,
            Disguise::OneRedis => (of_a_node, of_one),
            Disguise::Node => (of_one, of_a_node),
        };
        if let Some(at) = memchr::memmem::find(&text, found) {
            text.splice(at..at + found.len(), instead.iter().copied());
        }
    }
    if disguise != Disguise::None {
        text = without_replicas(&text);
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

/// INFO without the lines that tell where a node's replicas are (`slave0:ip=...`).
fn without_replicas(text: &[u8]) -> Vec<u8> {
    let tells = |line: &&[u8]| {
        line.strip_prefix(b"slave").and_then(|rest| rest.first()).is_some_and(u8::is_ascii_digit)
    };
    text.split_inclusive(|byte| *byte == b'\n').filter(|line| !tells(line)).flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_added_to_either_kind_of_string_and_to_no_error() {
        let told = |reply: &[u8]| as_told(reply, Disguise::None, Some("# P\r\n")).map(BytesMut::freeze);
        let expect = |bytes: &'static [u8]| Some(Bytes::from_static(bytes));
        assert_eq!(told(b"$5\r\na:1\r\n\r\n"), expect(b"$12\r\na:1\r\n\r\n# P\r\n\r\n"));
        assert_eq!(told(b"=9\r\ntxt:a:1\r\n\r\n"), expect(b"=16\r\ntxt:a:1\r\n\r\n# P\r\n\r\n"));
        assert_eq!(told(b"$0\r\n\r\n"), expect(b"$5\r\n# P\r\n\r\n"));
        assert_eq!(told(b"-NOPERM no\r\n"), None);
    }

    #[test]
    fn a_node_of_a_cluster_is_told_of_as_one_redis() {
        let told = |reply: &[u8]| as_told(reply, Disguise::OneRedis, None).map(BytesMut::freeze);
        let node = b"=43\r\ntxt:redis_mode:cluster\r\ncluster_enabled:1\r\n\r\n";
        let one = &b"=46\r\ntxt:redis_mode:standalone\r\ncluster_enabled:0\r\n\r\n"[..];
        assert_eq!(told(node).as_deref(), Some(one));
        let in_turn = as_told(one, Disguise::Node, None).map(BytesMut::freeze);
        assert_eq!(in_turn.as_deref(), Some(&node[..]));
        assert_eq!(told(b"$3\r\na:1\r\n").as_deref(), Some(&b"$3\r\na:1\r\n"[..]));
        let replicas = b"$61\r\nslave_repl_offset:7\r\nslave0:ip=10.0.0.1,port=1\r\nslave12:x\r\n\r\n";
        assert_eq!(told(replicas).as_deref(), Some(&b"$21\r\nslave_repl_offset:7\r\n\r\n"[..]));
    }
}
