//! Reads whose answers may be kept: those of one key, or of several by GET, that depend on nothing but what the key holds.
//!
//! They are the commands that client libraries with a cache of their own treat so. Left out are those whose answer changes
//! with every call (SRANDMEMBER), with the clock (OBJECT IDLETIME), or with another key (SORT_RO with BY).

use resp::Arguments;

use crate::Command;

/// A read that may be answered from memory. One of which others tell has a variant of its own: the right to it is its own, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the command of its name")]
pub enum Read {
    Get,
    /// As many GETs, one a key.
    Mget,
    Strlen,
    Getrange,
    Substr,
    Getbit,
    /// Of one key.
    Exists,
    Type,
    Ttl,
    Pttl,
    Hgetall,
    Hget,
    Hmget,
    Hexists,
    Hlen,
    Hkeys,
    Hvals,
    Hstrlen,
    Smembers,
    Scard,
    Sismember,
    Smismember,
    Llen,
    Lindex,
    Lrange,
    Zcard,
    Zscore,
    Zmscore,
    Zrank,
    Zrevrank,
    /// ZRANGE and its like.
    Zrange,
    /// Any other whose reply is kept as it came.
    Other,
}

/// The commands, their keys at the first argument.
const READS: &[(&str, Read)] = &[
    ("get", Read::Get),
    ("mget", Read::Mget),
    ("strlen", Read::Strlen),
    ("getrange", Read::Getrange),
    ("substr", Read::Substr),
    ("getbit", Read::Getbit),
    ("bitcount", Read::Other),
    ("bitpos", Read::Other),
    ("exists", Read::Exists),
    ("type", Read::Type),
    ("ttl", Read::Ttl),
    ("pttl", Read::Pttl),
    ("expiretime", Read::Other),
    ("pexpiretime", Read::Other),
    ("hget", Read::Hget),
    ("hmget", Read::Hmget),
    ("hgetall", Read::Hgetall),
    ("hexists", Read::Hexists),
    ("hlen", Read::Hlen),
    ("hkeys", Read::Hkeys),
    ("hvals", Read::Hvals),
    ("hstrlen", Read::Hstrlen),
    ("scard", Read::Scard),
    ("sismember", Read::Sismember),
    ("smismember", Read::Smismember),
    ("smembers", Read::Smembers),
    ("llen", Read::Llen),
    ("lindex", Read::Lindex),
    ("lrange", Read::Lrange),
    ("lpos", Read::Other),
    ("zscore", Read::Zscore),
    ("zmscore", Read::Zmscore),
    ("zrank", Read::Zrank),
    ("zrevrank", Read::Zrevrank),
    ("zcard", Read::Zcard),
    ("zcount", Read::Other),
    ("zlexcount", Read::Other),
    ("zrange", Read::Zrange),
    ("zrangebyscore", Read::Zrange),
    ("zrangebylex", Read::Zrange),
    ("zrevrange", Read::Zrange),
    ("zrevrangebyscore", Read::Zrange),
    ("zrevrangebylex", Read::Zrange),
];

impl Read {
    pub(crate) fn of(name: &str) -> Option<Read> {
        READS.iter().find(|(known, _)| *known == name).map(|(_, read)| *read)
    }

    /// Whether it reads a hash, whose fields may expire by themselves on servers that know such fields.
    pub fn is_of_hash(self) -> bool {
        matches!(
            self,
            Read::Hgetall
                | Read::Hget
                | Read::Hmget
                | Read::Hexists
                | Read::Hlen
                | Read::Hkeys
                | Read::Hvals
                | Read::Hstrlen
        )
    }

    /// Whether it can be answered from a string alone, without knowing when that expires.
    pub fn is_of_string(self) -> bool {
        matches!(
            self,
            Read::Get
                | Read::Mget
                | Read::Strlen
                | Read::Getrange
                | Read::Substr
                | Read::Getbit
                | Read::Exists
                | Read::Type
        )
    }

    /// Whether answers to other commands may answer it.
    #[inline]
    pub fn is_derived(self) -> bool {
        !matches!(self, Read::Get | Read::Zrange | Read::Other)
    }
}

impl Command {
    /// The read that a request of this command is, if its answer may be kept.
    pub fn read(&self, arguments: Arguments<'_>) -> Option<Read> {
        let read = self.read?;
        let plain = match read {
            Read::Exists => arguments.len() == 2,
            // With WITHSCORE (Redis 7.2) RESP2's nil is another.
            Read::Zrank | Read::Zrevrank => arguments.len() == 3,
            _ => self.takes(arguments.len()),
        };
        plain.then_some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Commands, Flags};

    #[test]
    fn each_is_a_command_that_only_reads_one_key_or_is_mget() {
        let commands = Commands::built_in();
        for (name, read) in READS {
            let input = format!("{name} key\n").into_bytes();
            let mut parser = resp::RequestParser::new(resp::RequestLimits::REDIS);
            parser.parse(&input).expect("an inline request");
            let command = commands.find(parser.arguments(&input)).expect("a command of 7.0.15");
            assert!(command.flags().has(Flags::READONLY), "{name}");
            let mut keys = Vec::new();
            assert!(command.keys(parser.arguments(&input), &mut keys), "{name}");
            assert_eq!(keys.iter().map(|key| key.argument).collect::<Vec<_>>(), [1], "{name}");
            assert_eq!(command.read, Some(*read), "{name}");
        }
    }
}
