//! What Redis clients ask, and what its answer shows.

use crate::history::SeenValue;
use crate::redis_client::encode_command;
use crate::workload::Workload;
use crate::workload::keyspace::{FIELD, Keyspace};
use crate::workload::value::{decode, decode_start};
use crate::{Random, Reply};

/// The end of the part of a value that GETRANGE asks for.
const RANGE_END: usize = 40;

/// A read of one key, or of several.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Get(usize),
    Mget(Vec<usize>),
    /// The start of a value, which is made from the whole if that is known.
    Range(usize),
    Hget(usize),
    Hgetall(usize),
    /// By a script, which is Redis' alone to run: of a string, of a hash.
    Script(usize),
    HashScript(usize),
}

impl Ask {
    /// Any read that starts at this key, one of `keys`, which are those of its database.
    pub(super) fn draw(workload: &Workload, random: &mut Random, key: usize, keys: &[usize]) -> Ask {
        let keyspace = Keyspace::of(workload);
        let passes = random.percent(workload.script_percent);
        if keyspace.is_hash(key) {
            return match random.below(2) {
                _ if passes => Ask::HashScript(key),
                0 => Ask::Hget(key),
                _ if keyspace.is_of_slots => Ask::Hget(key),
                _ => Ask::Hgetall(key),
            };
        }
        match random.below(10) {
            _ if passes => Ask::Script(key),
            0..2 => Ask::Range(key),
            2..4 => {
                let others = (0..random.between(1, 3)).map(|_| keys[random.below(keys.len())]);
                let strings = others.filter(|&other| !keyspace.is_hash(other));
                let all: Vec<usize> = [key].into_iter().chain(strings).collect();
                // Of one slot it would be refused while that is half way to another node.
                let is_split = all.iter().any(|other| keyspace.are_apart(key, *other));
                if keyspace.is_of_slots && !is_split { Ask::Get(key) } else { Ask::Mget(all) }
            }
            _ => Ask::Get(key),
        }
    }

    /// Appends the command.
    pub(super) fn encode(&self, keyspace: Keyspace, out: &mut Vec<u8>) {
        let name = |key: &usize| keyspace.name(*key).into_bytes();
        let end = RANGE_END.to_string().into_bytes();
        let words: Vec<Vec<u8>> = match self {
            Ask::Get(key) => vec![b"GET".to_vec(), name(key)],
            Ask::Mget(keys) => [b"MGET".to_vec()].into_iter().chain(keys.iter().map(name)).collect(),
            Ask::Range(key) => vec![b"GETRANGE".to_vec(), name(key), b"0".to_vec(), end],
            Ask::Hget(key) => vec![b"HGET".to_vec(), name(key), FIELD.to_vec()],
            Ask::Hgetall(key) => vec![b"HGETALL".to_vec(), name(key)],
            Ask::Script(key) | Ask::HashScript(key) => {
                let script = match self {
                    Ask::Script(_) => "return redis.call('GET', KEYS[1])",
                    _ => "return redis.call('HGET', KEYS[1], 'v')",
                };
                vec![b"EVAL_RO".to_vec(), script.into(), b"1".to_vec(), name(key)]
            }
        };
        encode_command(out, &words);
    }

    /// What the reply shows of each key.
    ///
    /// # Errors
    /// A refusal: its code.
    pub(super) fn seen(&self, reply: &Reply) -> Result<Vec<(usize, SeenValue)>, String> {
        let whole = |key: usize, reply: &Reply| match reply {
            Reply::Nil => SeenValue::Nothing,
            Reply::Bulk(value) => decode(key, value),
            _ => SeenValue::Foreign,
        };
        if let Reply::Error(text) = reply {
            return Err(text.split(' ').next().unwrap_or_default().to_owned());
        }
        Ok(match (self, reply) {
            (Ask::Mget(keys), Reply::Array(replies)) if replies.len() == keys.len() => {
                keys.iter().zip(replies).map(|(&key, reply)| (key, whole(key, reply))).collect()
            }
            (Ask::Mget(keys), _) => vec![(keys[0], SeenValue::Foreign)],
            (Ask::Range(key), Reply::Bulk(value)) if value.is_empty() => vec![(*key, SeenValue::Nothing)],
            (Ask::Range(key), Reply::Bulk(value)) => vec![(*key, decode_start(*key, value, RANGE_END + 1))],
            (Ask::Hgetall(key), Reply::Array(fields)) => match &fields[..] {
                [] => vec![(*key, SeenValue::Nothing)],
                [Reply::Bulk(field), value] if field == FIELD => vec![(*key, whole(*key, value))],
                _ => vec![(*key, SeenValue::Foreign)],
            },
            (Ask::Range(key) | Ask::Hgetall(key), _) => vec![(*key, SeenValue::Foreign)],
            (Ask::Get(key) | Ask::Hget(key) | Ask::Script(key) | Ask::HashScript(key), reply) => {
                vec![(*key, whole(*key, reply))]
            }
        })
    }
}
