//! Every command that is known, with keys in one slot, in two and in none, through the program before a cluster and by a client that knows
//! the nodes of another one: the same answer, or a difference that has a name here.

use std::collections::{BTreeMap, BTreeSet};

use testkit::{Cluster, ClusterClient, RedisClient, Reply};

use crate::resp_cluster::before;

/// Commands that are not compared, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    ("asking", "clients of one Redis are told that there is no cluster"),
    ("bgrewriteaof", "what a server answers depends on what it is doing"),
    ("bgsave", "what a server answers depends on what it is doing"),
    ("client", "of the proxy's own clients"),
    ("cluster", "clients of one Redis are told that there is no cluster"),
    ("command", "`COMMAND GETKEYS` and its kin are of one node; COMMAND is large"),
    ("debug", "it may end the server"),
    ("exec", "transactions have tests of their own"),
    ("failover", "it changes who is the primary"),
    ("hello", "of the proxy's own clients"),
    ("info", "numbers of all nodes; it has tests of its own"),
    ("latency", "times of all nodes; it has tests of its own"),
    ("memory", "of one node, but for MEMORY USAGE and PURGE"),
    ("migrate", "it goes to another server"),
    ("module", "of one node"),
    ("monitor", "it does not end"),
    ("multi", "transactions have tests of their own"),
    ("psubscribe", "a subscription is more than an answer"),
    ("psync", "it does not end"),
    ("pubsub", "subscriptions have tests of their own"),
    ("punsubscribe", "a subscription is more than an answer"),
    ("quit", "it ends"),
    ("readonly", "clients of one Redis are told that there is no cluster"),
    ("readwrite", "clients of one Redis are told that there is no cluster"),
    ("replconf", "it is about replicas"),
    ("replicaof", "it changes who is the primary"),
    ("reset", "it ends what the client has begun"),
    ("role", "it tells of offsets"),
    ("shutdown", "it ends the server"),
    ("slaveof", "it changes who is the primary"),
    ("ssubscribe", "a subscription is more than an answer"),
    ("subscribe", "a subscription is more than an answer"),
    ("sunsubscribe", "a subscription is more than an answer"),
    ("sync", "it does not end"),
    ("unsubscribe", "a subscription is more than an answer"),
    ("unwatch", "transactions have tests of their own"),
    ("watch", "transactions have tests of their own"),
];

/// Answers that are others each time: only their kind is compared.
const CHANGING: &[&str] = &[
    "acl genpass",
    "acl log",
    "dump",
    "function dump",
    "hrandfield",
    "hscan",
    "lastsave",
    "object idletime",
    "randomkey",
    "scan",
    "slowlog get",
    "slowlog len",
    "spop",
    "srandmember",
    "sscan",
    "time",
    "xinfo stream",
    "zrandmember",
    "zscan",
];

/// Differences that there are, each with its reason.
const NAMED: &[(&str, &str)] = &[("scan", "a cursor that no node has given ends, whatever stands behind it")];

/// What a request is made of behind its keys.
const WORDS: [&[&str]; 4] = [&["1"], &["0", "1"], &["x", "1"], &["1", "1", "2", "x", "1"]];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Keys {
    None,
    OneSlot,
    TwoSlots,
}

struct Known {
    name: String,
    arity: i64,
    /// First key, last key (negative from the end), step; or where the number of keys stands.
    keys: KeyPlaces,
    policies: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
enum KeyPlaces {
    No,
    Range(i64, i64, i64),
    Counted(usize),
}

/// What a server says of its commands; those of a command's subcommands beside it.
fn known(redis: &mut RedisClient) -> Vec<Known> {
    let Reply::Array(entries) = redis.command(&["COMMAND"]) else { panic!("the reply to COMMAND") };
    entries.iter().flat_map(of_entry).collect()
}

fn of_entry(entry: &Reply) -> Vec<Known> {
    let Reply::Array(fields) = entry else { panic!("an entry") };
    let number = |at: usize| match fields[at] {
        Reply::Integer(number) => number,
        ref other => panic!("a number: {other:?}"),
    };
    let name = text(&fields[0]).replace('|', " ");
    let policies = match &fields[7] {
        Reply::Array(tips) => tips.iter().map(text).filter(|tip| tip.contains("_policy:")).collect(),
        other => panic!("tips: {other:?}"),
    };
    let counted = counted(&name);
    let keys = match (number(3), counted) {
        (_, Some(at)) => KeyPlaces::Counted(at),
        (0, None) => KeyPlaces::No,
        (first, None) => KeyPlaces::Range(first, number(4), number(5)),
    };
    let whole = Known { name, arity: number(1), keys, policies };
    match &fields[9] {
        Reply::Array(subcommands) if !subcommands.is_empty() => {
            subcommands.iter().flat_map(of_entry).collect()
        }
        _ => vec![whole],
    }
}

/// Where the number of keys stands of those that have one.
fn counted(name: &str) -> Option<usize> {
    Some(match name {
        "eval" | "eval_ro" | "evalsha" | "evalsha_ro" | "fcall" | "fcall_ro" | "zunionstore"
        | "zinterstore" | "zdiffstore" | "blmpop" | "bzmpop" => 2,
        "zunion" | "zinter" | "zdiff" | "sintercard" | "zintercard" | "lmpop" | "zmpop" => 1,
        _ => return None,
    })
}

fn text(reply: &Reply) -> String {
    match reply {
        Reply::Simple(text) | Reply::Error(text) => text.clone(),
        Reply::Bulk(text) => String::from_utf8_lossy(text).into_owned(),
        other => panic!("a text: {other:?}"),
    }
}

fn place(number: i64) -> usize {
    usize::try_from(number).expect("a place")
}

impl Known {
    /// Requests of this command with such keys, and the keys in them by their places.
    fn requests(&self, keys: Keys) -> Vec<(Vec<String>, Vec<usize>)> {
        let names = match keys {
            Keys::None | Keys::OneSlot => ["{a}1", "{a}2", "{a}3"],
            Keys::TwoSlots => ["a", "b", "c"],
        };
        let mut found = Vec::new();
        for words in WORDS {
            for more in 0..4 {
                found.extend(self.request(keys, names, words, more));
            }
        }
        found.sort();
        found.dedup();
        found
    }

    fn request(
        &self,
        keys: Keys,
        names: [&str; 3],
        words: &[&str],
        more: usize,
    ) -> Option<(Vec<String>, Vec<usize>)> {
        let mut request: Vec<String> = self.name.split(' ').map(str::to_owned).collect();
        let least = place(self.arity.abs());
        let length = if self.arity < 0 { least + more } else { least }.max(request.len());
        if self.arity > 0 && more > 0 {
            return None;
        }
        while request.len() < length {
            request.push(words[request.len() % words.len()].to_owned());
        }
        let places: Vec<usize> = match (self.keys, keys) {
            (KeyPlaces::No, Keys::None) => Vec::new(),
            (KeyPlaces::Counted(at), _) => {
                let count = match keys {
                    Keys::None if at == 2 && self.name.starts_with(['e', 'f']) => 0,
                    Keys::None => return None,
                    Keys::OneSlot => 1,
                    Keys::TwoSlots => 2,
                };
                while request.len() < at + 1 + count {
                    request.push(words[0].to_owned());
                }
                request[at] = count.to_string();
                (at + 1..at + 1 + count).collect()
            }
            (KeyPlaces::Range(first, last, step), _) => {
                let length = request.len() as i64;
                let last = if last < 0 { length + last } else { last };
                (first..=last).step_by(place(step.max(1))).map(place).collect()
            }
            (KeyPlaces::No, _) => return None,
        };
        let is_meant = match keys {
            Keys::None => places.is_empty(),
            Keys::OneSlot => !places.is_empty(),
            Keys::TwoSlots => places.len() > 1,
        };
        if !is_meant || places.iter().any(|at| *at >= request.len()) {
            return None;
        }
        for (number, at) in places.iter().enumerate() {
            request[*at] = names[number % names.len()].to_owned();
        }
        // What stands before keys may be one: a destination.
        Some((request, places))
    }

    fn policy(&self, of: &str) -> Option<&str> {
        self.policies.iter().find_map(|policy| policy.strip_prefix(of))
    }
}

/// A client that knows the nodes, written from the words of the tips alone.
struct Direct<'a> {
    cluster: &'a Cluster,
    client: ClusterClient<'a>,
}

impl Direct<'_> {
    fn ask(&mut self, command: &Known, request: &[String], keys: &[usize]) -> Reply {
        let slots: BTreeSet<u16> = keys.iter().map(|at| self.cluster.slot_of(&request[*at])).collect();
        let response = command.policy("response_policy:");
        let is_split = slots.len() > 1 && command.policy("request_policy:") == Some("multi_shard");
        let KeyPlaces::Range(first, _, step) = command.keys else {
            return self.ask_whole(command, request, keys);
        };
        if is_split && command.name != "msetnx" && (request.len() as i64 - first) % step == 0 {
            let parts = keys.iter().map(|at| {
                let part = [&request[..place(first)], &request[*at..*at + place(step)]].concat();
                self.client.command(&part)
            });
            let parts: Vec<Reply> = parts.collect();
            return merged(response, parts);
        }
        self.ask_whole(command, request, keys)
    }

    fn ask_whole(&mut self, command: &Known, request: &[String], keys: &[usize]) -> Reply {
        let response = command.policy("response_policy:");
        let for_all = ["request_policy:all_nodes", "request_policy:all_shards"];
        let ours = [
            "acl deluser",
            "acl load",
            "acl save",
            "acl setuser",
            "config resetstat",
            "config rewrite",
            "swapdb",
        ];
        let is_ours = ours.contains(&command.name.as_str());
        let is_for_all = for_all.iter().any(|policy| command.policies.iter().any(|known| known == policy));
        let is_in_words = response == Some("special") || command.name == "ping";
        if is_ours || is_for_all && !is_in_words {
            let parts = self.cluster.nodes().iter().map(|node| node.client().command(request)).collect();
            return merged(if is_ours { Some("all_succeeded") } else { response }, parts);
        }
        match keys.is_empty() {
            true => self.cluster.nodes()[0].client().command(request),
            false => self.client.command(request),
        }
    }
}

/// What is made of the answers of several nodes.
fn merged(response: Option<&str>, parts: Vec<Reply>) -> Reply {
    let is_error = |reply: &&Reply| matches!(reply, Reply::Error(_));
    if response == Some("one_succeeded") {
        let succeeded = parts.iter().find(|reply| !is_error(reply));
        return succeeded.unwrap_or(&parts[0]).clone();
    }
    if let Some(error) = parts.iter().find(is_error) {
        return error.clone();
    }
    let number = |reply: &Reply| match reply {
        Reply::Integer(number) => *number,
        other => panic!("a number: {other:?}"),
    };
    match response {
        Some("agg_min") => Reply::Integer(parts.iter().map(number).min().unwrap_or_default()),
        Some("agg_sum") => Reply::Integer(parts.iter().map(number).sum()),
        Some("agg_logical_and") => match &parts[0] {
            Reply::Array(first) => Reply::Array(
                (0..first.len())
                    .map(|at| {
                        let all = parts
                            .iter()
                            .all(|part| matches!(part, Reply::Array(all) if all[at] == Reply::Integer(1)));
                        Reply::Integer(i64::from(all))
                    })
                    .collect(),
            ),
            other => panic!("an array: {other:?}"),
        },
        None if parts.iter().all(|part| matches!(part, Reply::Array(_))) => {
            let all = parts.into_iter().flat_map(|part| match part {
                Reply::Array(all) => all,
                other => vec![other],
            });
            Reply::Array(all.collect())
        }
        _ => parts[0].clone(),
    }
}

/// What a cluster holds.
struct Side<'a> {
    nodes: Vec<RedisClient>,
    client: ClusterClient<'a>,
}

impl<'a> Side<'a> {
    fn new(cluster: &'a Cluster) -> Side<'a> {
        let nodes = cluster.nodes().iter().map(testkit::RedisServer::client).collect();
        Side { nodes, client: cluster.client() }
    }

    /// These keys and no others, of a kind.
    fn fill(&mut self, kind: &str) {
        self.nodes.iter_mut().for_each(RedisClient::flushall);
        for key in ["{a}1", "{a}2", "a", "b"] {
            let words: &[&str] = match kind {
                "string" => &["SET", key, "1"],
                "list" => &["RPUSH", key, "1", "2", "x"],
                "hash" => &["HSET", key, "1", "1", "x", "2"],
                "set" => &["SADD", key, "1", "2", "x"],
                "zset" => &["ZADD", key, "1", "1", "2", "x"],
                "stream" => &["XADD", key, "1-1", "1", "x"],
                _ => return,
            };
            self.client.command(words);
        }
    }
}

/// What two answers are compared by.
fn normal(name: &str, reply: &Reply) -> String {
    if CHANGING.contains(&name) {
        return match reply {
            Reply::Simple(_) => "simple".into(),
            Reply::Error(text) => text.clone(),
            Reply::Integer(_) => "integer".into(),
            Reply::Bulk(_) | Reply::Nil => "bulk".into(),
            Reply::Array(_) => "array".into(),
        };
    }
    match reply {
        // In no order.
        Reply::Array(all)
            if [
                "keys",
                "smembers",
                "sunion",
                "sinter",
                "sdiff",
                "hgetall",
                "hkeys",
                "hvals",
                "acl users",
            ]
            .contains(&name) =>
        {
            let mut all: Vec<String> = all.iter().map(|one| format!("{one:?}")).collect();
            all.sort();
            format!("{all:?}")
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn every_command_answers_as_the_nodes_do_or_differs_by_name() {
    compare("tracking", &["none", "string", "list", "hash", "set", "zset", "stream"]);
}

#[test]
fn every_command_does_so_without_a_cache() {
    compare("off", &["string"]);
}

/// Compares what both say about keys of these kinds.
fn compare(coherence: &str, kinds: &[&str]) {
    let (ours, theirs) = (Cluster::start(), Cluster::start());
    let proxy = before(&ours, &[("RESP_COHERENCE", coherence)]);
    // Both clusters and all else are on one machine.
    ["connection to redis lost", "redis does not answer"].iter().for_each(|text| proxy.allow_warning(text));
    let commands = known(&mut theirs.nodes()[0].client());
    assert!(commands.len() > 300, "{}", commands.len());
    let mut sides = [&ours, &theirs].map(Side::new);
    let mut direct = Direct { cluster: &theirs, client: theirs.client() };
    let (mut differences, mut counts) = (BTreeMap::<String, Vec<String>>::new(), BTreeMap::new());
    for &kind in kinds {
        sides.iter_mut().for_each(|side| side.fill(kind));
        let mut client = proxy.redis_client();
        for command in &commands {
            let first = command.name.split(' ').next().unwrap_or_default();
            if LEFT_OUT.iter().any(|(name, _)| *name == first) {
                continue;
            }
            for keys in [Keys::None, Keys::OneSlot, Keys::TwoSlots] {
                if keys == Keys::None && kind != "string" {
                    continue;
                }
                for (request, places) in command.requests(keys) {
                    // Nobody waits for what does not come.
                    let blocks = ["blpop", "brpop", "blmove", "brpoplpush", "bzpopmin", "bzpopmax", "wait"];
                    let is_endless = request.last().is_some_and(|last| last == "0");
                    if blocks.contains(&first) && (kind == "none" || is_endless) {
                        continue;
                    }
                    let expected = direct.ask(command, &request, &places);
                    let answered = match client.try_command(&request) {
                        Ok(reply) => reply,
                        Err(error) => panic!("{request:?}: {error}, {expected:?}"),
                    };
                    *counts.entry(keys).or_insert(0) += 1;
                    let [one, other] = [&answered, &expected].map(|reply| normal(&command.name, reply));
                    if one != other {
                        let told = format!("{kind} {request:?}: {one} and {other}");
                        differences.entry(command.name.clone()).or_default().push(told);
                    }
                }
            }
            sides.iter_mut().for_each(|side| side.fill(kind));
        }
    }
    println!("{counts:?}");
    let named: BTreeSet<&str> = NAMED.iter().map(|(name, _)| *name).collect();
    let found: BTreeSet<&str> = differences.keys().map(String::as_str).collect();
    for (name, told) in &differences {
        if !named.contains(name.as_str()) {
            println!("{name}: {} differences, such as {}", told.len(), told[0]);
        }
    }
    assert_eq!(found, named);
    assert!(
        counts[&Keys::OneSlot] > 1000 && counts[&Keys::TwoSlots] > 200 && counts[&Keys::None] > 400,
        "{counts:?}"
    );
}
