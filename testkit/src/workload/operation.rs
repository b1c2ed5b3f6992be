//! The ways to change a key, and what each leaves behind.

use crate::history::Deadline;
use crate::workload::keyspace::{FIELD, Keyspace};
use crate::workload::value::encode;
use crate::{Random, Reply};

/// What a writer knows of a key that it alone writes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// The last number used.
    pub(super) last: u64,
    /// What it holds, unless its deadline has passed.
    pub(super) value: Option<u64>,
    pub(super) deadline: Option<Deadline>,
    /// A write had no answer: only what does not depend on the key's state may follow.
    pub(super) is_doubtful: bool,
}

/// Commands, and what the last of them does to keys. Those before it touch nothing that is read.
pub(super) struct Operation {
    pub(super) prepare: Vec<Vec<Vec<u8>>>,
    pub(super) act: Vec<Vec<u8>>,
    pub(super) effects: Vec<(usize, Effect)>,
    /// Whether its arguments say which keys it changes.
    pub(super) is_declared: bool,
}

/// What a command does to a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Effect {
    /// A new number, and a time to live in milliseconds.
    Value(u64, Option<u64>),
    /// A new number, with the deadline that is there.
    KeepTtl(u64),
    /// A new number in a field of a hash, whose reply counts the fields that were not there.
    Field(u64),
    Delete,
    /// Another deadline for what is there.
    Expire(u64),
    Persist,
}

impl Operation {
    /// Any operation that these keys allow: the first is changed, the second maybe. In a cluster the second only by clients of the
    /// program, which `is_through` says this is.
    pub(super) fn draw(
        random: &mut Random,
        keyspace: Keyspace,
        scratch: &str,
        keys: [usize; 2],
        known: [&Known; 2],
        is_through: bool,
    ) -> Operation {
        if keyspace.is_hash(keys[0]) {
            return Operation::draw_of_hash(random, keyspace, scratch, keys[0], known[0]);
        }
        let [(key, before), (other, before_other)] = [(keys[0], known[0]), (keys[1], known[1])];
        let (name, number) = (keyspace.name(key), before.last + 1);
        let value = encode(key, number);
        let px = u64::try_from(random.between(15, 400)).unwrap_or(15);
        let px_text = px.to_string();
        let set = Effect::Value(number, None);
        let set_px = Effect::Value(number, Some(px));
        let one = |act: Vec<&[u8]>, effect| Operation::one(key, act, effect);
        let (n, v, p) = (name.as_bytes(), value.as_slice(), px_text.as_bytes());
        let is_there = before.value.is_some() && !before.is_doubtful;
        let has_ttl = is_there && before.deadline.is_some();
        // From 75 on they name two keys, or none that they change.
        let most = match (keyspace.is_of_slots, is_through) {
            (true, false) => 75,
            (true, true) | (false, _) => 100,
        };
        match random.below(most) {
            0..20 => one(vec![b"SET", n, v], set),
            20..32 => one(vec![b"SET", n, v, b"PX", p], set_px),
            32..36 => one(vec![b"PSETEX", n, p, v], set_px),
            36..40 => one(vec![b"GETSET", n, v], set),
            40..44 => one(vec![b"DEL", n], Effect::Delete),
            44..47 => one(vec![b"UNLINK", n], Effect::Delete),
            47..49 => one(vec![b"GETDEL", n], Effect::Delete),
            49..55 if is_there => one(vec![b"PEXPIRE", n, p], Effect::Expire(px)),
            55..58 if is_there => one(vec![b"GETEX", n, b"PX", p], Effect::Expire(px)),
            58..60 if is_there => one(vec![b"PEXPIRE", n, b"-1"], Effect::Delete),
            60..66 if has_ttl => one(vec![b"PERSIST", n], Effect::Persist),
            66..69 if has_ttl => one(vec![b"SET", n, v, b"KEEPTTL", b"GET"], Effect::KeepTtl(number)),
            69..75 => one(vec![b"EVAL", b"return redis.call('SET', KEYS[1], ARGV[1])", b"1", n, v], set),
            75.. if keyspace.is_of_slots => {
                let (key, other) = ((key, number), (other, before_other.last + 1));
                Operation::of_slots(random, keyspace, key, other)
            }
            75..81 => {
                let mut renamed = one(vec![b"RENAME", scratch.as_bytes(), n], set);
                renamed.prepare.push(vec![b"SET".to_vec(), scratch.into(), value]);
                renamed
            }
            81..84 if is_there && before.deadline.is_none() => {
                one(vec![b"RENAME", n, scratch.as_bytes()], Effect::Delete)
            }
            84..92 if key != other && !keyspace.is_hash(other) => {
                let (other_name, other_number) = (keyspace.name(other), before_other.last + 1);
                let other_value = encode(other, other_number);
                let is_atomic = random.percent(50);
                let sets = [vec![n, v], vec![other_name.as_bytes(), &other_value]];
                let mut both = match is_atomic {
                    true => one([vec![b"MSET".as_slice()], sets.concat()].concat(), set),
                    false => {
                        let mut exec = one(vec![b"EXEC"], set);
                        exec.prepare.push(vec![b"MULTI".to_vec()]);
                        for set in sets {
                            let command = [vec![b"SET".as_slice()], set].concat();
                            exec.prepare.push(command.into_iter().map(<[u8]>::to_vec).collect());
                        }
                        exec
                    }
                };
                both.effects.push((other, Effect::Value(other_number, None)));
                both
            }
            92..95 => {
                let mut copied = one(vec![b"COPY", scratch.as_bytes(), n, b"REPLACE"], set);
                copied.prepare.push(vec![b"SET".to_vec(), scratch.into(), value]);
                copied
            }
            95..98 => Operation::undeclared(key, &name, "'SET', '{}', ARGV[1]", v, set),
            _ => one(vec![b"SET", n, v], set),
        }
    }

    /// One that only clients of the program may do in a cluster, with a second key where that fits; each with its next number.
    fn of_slots(
        random: &mut Random,
        keyspace: Keyspace,
        key: (usize, u64),
        other: (usize, u64),
    ) -> Operation {
        let is_other = key.0 != other.0 && !keyspace.is_hash(other.0);
        match keyspace.are_apart(key.0, other.0) {
            true if is_other && random.percent(60) => Operation::split(random, keyspace, [key, other]),
            are_apart => {
                Operation::transaction(keyspace, key, Some(other).filter(|_| is_other && !are_apart))
            }
        }
    }

    /// These keys are set to their next numbers by one EXEC, or none of them is.
    fn transaction(keyspace: Keyspace, key: (usize, u64), other: Option<(usize, u64)>) -> Operation {
        let (mut prepare, mut effects) = (vec![vec![b"MULTI".to_vec()]], Vec::new());
        for (key, number) in [Some(key), other].into_iter().flatten() {
            prepare.push(vec![b"SET".to_vec(), keyspace.name(key).into_bytes(), encode(key, number)]);
            effects.push((key, Effect::Value(number, None)));
        }
        Operation { prepare, act: vec![b"EXEC".to_vec()], effects, is_declared: true }
    }

    /// One that a cluster's nodes carry out together, each its part: of keys with their next numbers.
    fn split(random: &mut Random, keyspace: Keyspace, keys: [(usize, u64); 2]) -> Operation {
        let is_set = random.percent(60);
        let name = match (is_set, random.percent(50)) {
            (true, _) => "MSET",
            (false, true) => "DEL",
            (false, false) => "UNLINK",
        };
        let (mut act, mut effects) = (vec![name.into()], Vec::new());
        for (key, number) in keys {
            act.push(keyspace.name(key).into_bytes());
            if is_set {
                act.push(encode(key, number));
            }
            effects.push((key, if is_set { Effect::Value(number, None) } else { Effect::Delete }));
        }
        Operation { prepare: Vec::new(), act, effects, is_declared: true }
    }

    /// Any operation that a hash allows.
    fn draw_of_hash(
        random: &mut Random,
        keyspace: Keyspace,
        scratch: &str,
        key: usize,
        before: &Known,
    ) -> Operation {
        let (name, number) = (keyspace.name(key), before.last + 1);
        let value = encode(key, number);
        let px = u64::try_from(random.between(15, 400)).unwrap_or(15);
        let px_text = px.to_string();
        let (n, v) = (name.as_bytes(), value.as_slice());
        let is_there = before.value.is_some() && !before.is_doubtful;
        let one = |act: Vec<&[u8]>, effect| Operation::one(key, act, effect);
        // What HSET leaves depends on what is there.
        match random.below(if before.is_doubtful { 10 } else { 100 }) {
            0..10 => one(vec![b"DEL", n], Effect::Delete),
            10..20 => one(vec![b"HDEL", n, FIELD], Effect::Delete),
            20..30 if is_there => one(vec![b"PEXPIRE", n, px_text.as_bytes()], Effect::Expire(px)),
            30..36 if is_there && before.deadline.is_some() => one(vec![b"PERSIST", n], Effect::Persist),
            36..48 if !keyspace.is_of_slots => {
                let set = Effect::Value(number, None);
                let mut renamed = one(vec![b"RENAME", scratch.as_bytes(), n], set);
                // Something of a transaction before it may have left another.
                renamed.prepare.push(vec![b"DEL".to_vec(), scratch.into()]);
                renamed.prepare.push(vec![b"HSET".to_vec(), scratch.into(), FIELD.to_vec(), value]);
                renamed
            }
            48..54 if !keyspace.is_of_slots => {
                Operation::undeclared(key, &name, "'HSET', '{}', 'v', ARGV[1]", v, Effect::Field(number))
            }
            _ => one(vec![b"HSET", n, FIELD, v], Effect::Field(number)),
        }
    }

    /// By a script that does not say which key it changes.
    fn undeclared(key: usize, name: &str, call: &str, value: &[u8], effect: Effect) -> Operation {
        let script = format!("return redis.call({})", call.replace("{}", name));
        let act = vec![b"EVAL".as_slice(), script.as_bytes(), b"0", value];
        Operation { is_declared: false, ..Operation::one(key, act, effect) }
    }

    /// A value with a short time to live.
    pub(super) fn set_px(random: &mut Random, keyspace: Keyspace, key: usize, known: &Known) -> Operation {
        let (number, px) = (known.last + 1, u64::try_from(random.between(15, 60)).unwrap_or(15));
        let (name, value, text) = (keyspace.name(key), encode(key, number), px.to_string());
        let act = vec![b"SET".as_slice(), name.as_bytes(), &value, b"PX", text.as_bytes()];
        Operation::one(key, act, Effect::Value(number, Some(px)))
    }

    fn one(key: usize, act: Vec<&[u8]>, effect: Effect) -> Operation {
        let act = act.into_iter().map(<[u8]>::to_vec).collect();
        Operation { prepare: Vec::new(), act, effects: vec![(key, effect)], is_declared: true }
    }
}

impl Effect {
    /// The number that it brings.
    pub(super) fn number(self) -> Option<u64> {
        match self {
            Effect::Value(number, _) | Effect::KeepTtl(number) | Effect::Field(number) => Some(number),
            Effect::Delete | Effect::Expire(_) | Effect::Persist => None,
        }
    }

    /// What the key holds after a command that was sent at `begin` and answered by `end`; without a reply, if it was
    /// executed at all.
    pub(super) fn apply(self, before: &Known, reply: Option<&Reply>, begin: u64, end: u64) -> Known {
        let deadline = |px: u64| {
            let px = px * 1_000_000;
            Some(Deadline { earliest: begin + px, latest: end.saturating_add(px) })
        };
        let was_missing = match self {
            Effect::Field(_) => reply == Some(&Reply::Integer(1)),
            _ => matches!(reply, Some(Reply::Integer(0) | Reply::Nil)),
        };
        let last = self.number().unwrap_or(before.last);
        let (value, deadline) = match self {
            Effect::Value(number, px) => (Some(number), px.and_then(deadline)),
            Effect::KeepTtl(number) | Effect::Field(number) if was_missing => (Some(number), None),
            Effect::KeepTtl(number) | Effect::Field(number) => {
                // Unanswered, it may have found nothing and kept no deadline.
                let kept = |kept: Deadline| match reply {
                    Some(_) => kept,
                    None => Deadline { latest: u64::MAX, ..kept },
                };
                (Some(number), before.deadline.map(kept))
            }
            Effect::Delete => (None, None),
            Effect::Expire(_) | Effect::Persist if was_missing => (None, None),
            Effect::Expire(px) => (before.value, deadline(px)),
            Effect::Persist => (before.value, None),
        };
        Known { last, value, deadline, is_doubtful: reply.is_none() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn known(value: u64, px: u64) -> Known {
        Effect::Value(value, Some(px)).apply(&Known::default(), Some(&Reply::Nil), 10 * MS, 11 * MS)
    }

    #[test]
    fn a_deadline_counts_from_both_ends_of_its_command() {
        assert_eq!(known(1, 5).deadline, Some(Deadline { earliest: 15 * MS, latest: 16 * MS }));
    }

    #[test]
    fn the_reply_tells_whether_the_key_was_still_there() {
        let before = known(1, 5);
        let after =
            |effect: Effect, reply: &Reply| effect.apply(&before, Some(reply), 20 * MS, 21 * MS).value;
        assert_eq!(after(Effect::Persist, &Reply::Integer(1)), Some(1));
        assert_eq!(after(Effect::Persist, &Reply::Integer(0)), None);
        assert_eq!(after(Effect::Expire(5), &Reply::Nil), None);
        assert_eq!(after(Effect::Delete, &Reply::Integer(0)), None);
        let kept = Effect::KeepTtl(2).apply(&before, Some(&Reply::Nil), 20 * MS, 21 * MS);
        assert_eq!((kept.value, kept.deadline), (Some(2), None));
    }

    #[test]
    fn without_a_reply_the_key_is_doubtful_and_a_kept_deadline_open() {
        let after = Effect::KeepTtl(2).apply(&known(1, 5), None, 20 * MS, 21 * MS);
        assert!(after.is_doubtful);
        assert_eq!(after.deadline, Some(Deadline { earliest: 15 * MS, latest: u64::MAX }));
    }
}
