//! Over which nodes of a cluster a command goes, and what is made of their replies: the tips `request_policy` and `response_policy` of
//! `COMMAND` (<https://redis.io/docs/latest/develop/reference/command-tips/>).
//!
//! Redis before 7 gives none: those of the table count there. Some commands have none in any version although one node's answer would be
//! a part of the answer ([`ADDED`]).

use std::fmt;

use resp::Arguments;

use crate::Command;
use crate::spec::{Begin, Find};

/// Which nodes a command is for, where that is not the one that has its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestPolicy {
    /// All, replicas too.
    AllNodes,
    /// All primaries.
    AllShards,
    /// Each that has some of its keys, with these.
    MultiShard,
    /// Which these are is said in words alone.
    Special,
}

/// What is made of the replies of several nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponsePolicy {
    /// The first that is no error.
    OneSucceeded,
    /// The first error, or else the first reply.
    AllSucceeded,
    /// 1 if all are, else 0; of arrays element by element.
    And,
    /// 1 if one is, else 0; of arrays element by element.
    Or,
    /// The least; of arrays element by element.
    Min,
    /// The largest; of arrays element by element.
    Max,
    /// The sum; of arrays element by element.
    Sum,
    /// What it is is said in words alone.
    Special,
}

/// The tips of a command. Without a response policy the replies are put together: those about keys in the order of the keys, others
/// one behind the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tips {
    /// Of its request.
    pub request: Option<RequestPolicy>,
    /// Of its replies.
    pub response: Option<ResponsePolicy>,
}

/// Where the keys stand along which a request can be cut: each with what belongs to it, its value perhaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPieces {
    /// The argument that is the first key; what stands before it belongs to every piece.
    pub first: usize,
    /// From one key to the next.
    pub step: usize,
    /// How many keys there are; what stands behind the last and what belongs to that belongs to every piece.
    pub count: usize,
}

const REQUESTS: &[(&str, RequestPolicy)] = &[
    ("all_nodes", RequestPolicy::AllNodes),
    ("all_shards", RequestPolicy::AllShards),
    ("multi_shard", RequestPolicy::MultiShard),
    ("special", RequestPolicy::Special),
];

const RESPONSES: &[(&str, ResponsePolicy)] = &[
    ("one_succeeded", ResponsePolicy::OneSucceeded),
    ("all_succeeded", ResponsePolicy::AllSucceeded),
    ("agg_logical_and", ResponsePolicy::And),
    ("agg_logical_or", ResponsePolicy::Or),
    ("agg_min", ResponsePolicy::Min),
    ("agg_max", ResponsePolicy::Max),
    ("agg_sum", ResponsePolicy::Sum),
    ("special", ResponsePolicy::Special),
];

/// Those without tips, of Redis up to 8.2, whose effect or answer is of all nodes: each is told to all, and all must have done it.
const ADDED: &[&str] = &[
    "acl|deluser",
    "acl|load",
    "acl|save",
    "acl|setuser",
    "client|pause",
    "client|unpause",
    "config|resetstat",
    "config|rewrite",
    "swapdb",
];

impl Tips {
    /// What a server says of the command `name`, as words of `COMMAND`. A policy that nobody knows is a special one.
    pub(crate) fn of<'a>(name: &str, words: impl Iterator<Item = &'a [u8]>) -> Tips {
        let mut tips = Tips::default();
        for word in words {
            if let Some(policy) = word.strip_prefix(b"request_policy:") {
                tips.request = named(REQUESTS, policy).or(Some(RequestPolicy::Special));
            } else if let Some(policy) = word.strip_prefix(b"response_policy:") {
                tips.response = named(RESPONSES, policy).or(Some(ResponsePolicy::Special));
            }
        }
        match tips.request {
            None if ADDED.contains(&name) => {
                let (request, response) = (RequestPolicy::AllNodes, ResponsePolicy::AllSucceeded);
                Tips { request: Some(request), response: Some(response) }
            }
            _ => tips,
        }
    }

    /// Reads what [`Display`](fmt::Display) writes.
    pub(crate) fn parse(text: &str) -> Option<Tips> {
        let (request, response) = text.strip_prefix("tips/")?.split_once('/')?;
        let tips = Tips {
            request: named(REQUESTS, request.as_bytes()),
            response: named(RESPONSES, response.as_bytes()),
        };
        (tips.to_string() == text).then_some(tips)
    }
}

impl fmt::Display for Tips {
    /// `tips/multi_shard/agg_sum`; `-` for none of its kind.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tips/{}/{}", name_of(REQUESTS, self.request), name_of(RESPONSES, self.response))
    }
}

impl Command {
    /// Over which nodes of a cluster it goes, and what is made of their replies.
    pub fn tips(&self) -> Tips {
        self.tips
    }

    /// Where a request can be cut into one for each key. `None` if it is not made of its keys, or ends in the midst of what belongs
    /// to one.
    pub fn key_pieces(&self, arguments: Arguments<'_>) -> Option<KeyPieces> {
        let [spec] = &self.key_specs[..] else { return None };
        let (Begin::Index(first), Find::Range { last, step, limit: 0 }) = (&spec.begin, &spec.find) else {
            return None;
        };
        let (behind, step) = (usize::try_from(-1 - *last).ok()?, usize::try_from(*step).ok()?);
        let length = arguments.len().checked_sub(first + behind)?;
        let is_whole = *first > 0 && length > 0 && length.checked_rem(step) == Some(0);
        is_whole.then(|| KeyPieces { first: *first, step, count: length / step })
    }
}

fn named<T: Copy>(names: &[(&str, T)], name: &[u8]) -> Option<T> {
    names.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, policy)| *policy)
}

fn name_of<T: PartialEq + Copy>(names: &[(&'static str, T)], policy: Option<T>) -> &'static str {
    names.iter().find(|(_, known)| Some(*known) == policy).map_or("-", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use resp::{RequestLimits, RequestParser};

    use super::*;
    use crate::Commands;

    fn with_command<R>(line: &str, look: impl FnOnce(&Command, Arguments<'_>) -> R) -> R {
        let input = format!("{line}\n").into_bytes();
        let mut parser = RequestParser::new(RequestLimits::REDIS);
        parser.parse(&input).expect("an inline request");
        let commands = Commands::built_in();
        let arguments = parser.arguments(&input);
        look(commands.find(arguments).expect("a command"), arguments)
    }

    #[test]
    fn tips_are_those_of_the_server_and_of_ours_where_it_has_none() {
        let tips = |line| with_command(line, |command, _| command.tips().to_string());
        for (line, expected) in [
            ("DEL k", "tips/multi_shard/agg_sum"),
            ("MGET k", "tips/multi_shard/-"),
            ("DBSIZE", "tips/all_shards/agg_sum"),
            ("SCRIPT EXISTS x", "tips/all_shards/agg_logical_and"),
            ("SCAN 0", "tips/special/-"),
            ("CONFIG REWRITE", "tips/all_nodes/all_succeeded"),
            ("GET k", "tips/-/-"),
        ] {
            assert_eq!(tips(line), expected, "{line}");
        }
        let words = [&b"nondeterministic_output"[..], b"request_policy:all_shards", b"response_policy:later"];
        let later = Tips::of("later", words.into_iter());
        assert_eq!(
            later,
            Tips { request: Some(RequestPolicy::AllShards), response: Some(ResponsePolicy::Special) }
        );
        for text in ["tips/all_nodes/agg_min", "tips/-/one_succeeded"] {
            assert_eq!(Tips::parse(text).map(|tips| tips.to_string()).as_deref(), Some(text));
        }
        assert_eq!((Tips::parse("tips/some/-"), Tips::parse("RO/index:1/range:0:1:0")), (None, None));
    }

    #[test]
    fn a_request_is_cut_between_its_keys_with_what_belongs_to_each() {
        let pieces = |line| with_command(line, |command, arguments| command.key_pieces(arguments));
        let cut = |first, step, count| Some(KeyPieces { first, step, count });
        for (line, expected) in [
            ("DEL a b c", cut(1, 1, 3)),
            ("MSET a 1 b 2", cut(1, 2, 2)),
            ("MSET a 1 b", None),
            ("DEL", None),
            ("BLPOP a b 0", cut(1, 1, 2)),
            ("GET a", cut(1, 1, 1)),
            ("RENAME a b", None),
            ("ZUNIONSTORE d 2 a b", None),
        ] {
            assert_eq!(pieces(line), expected.filter(|_| line != "GET a"), "{line}");
        }
    }
}
