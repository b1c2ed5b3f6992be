//! The slots of Redis Cluster: in which one a key is, and in which the keys of a request are.
//!
//! A cluster gives each primary some of its 16,384 slots. The CRC16 of a key says its slot; where the key has a hash tag, that of the
//! tag alone, so that keys of one tag are together (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>,
//! "Key distribution model" and "Hash tags"; cluster.c, `keyHashSlot`, 7.0.15).

use std::fmt;
use std::sync::OnceLock;

use resp::Arguments;

use crate::{Access, Command, Key};

/// One of the slots of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

/// In which slots the keys of a request are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    /// It names no key: any node will do, as far as keys go.
    NoKeys,
    /// All its keys are in this one.
    One(Slot),
    /// Its keys are in several, which no node of a cluster accepts (`CROSSSLOT`).
    Several,
}

impl Slot {
    /// How many there are; they are numbered from 0.
    pub const COUNT: u16 = 16_384;

    /// The slot of that number; `None` from [`COUNT`](Self::COUNT) on.
    pub fn new(number: u16) -> Option<Slot> {
        (number < Self::COUNT).then_some(Slot(number))
    }

    /// The slot that a key is in; that of a shard channel by its name. Costs some two nanoseconds a byte.
    pub fn of(key: &[u8]) -> Slot {
        Slot(crc16(hash_tag(key).unwrap_or(key)) % Self::COUNT)
    }

    /// Its number, below [`COUNT`](Self::COUNT).
    pub fn number(self) -> u16 {
        self.0
    }

    /// A text that is in this slot, of three letters and digits: for names of keys and channels that are to be there, as in
    /// `name:{tag}`. The first call finds those of all slots, which takes a millisecond or two.
    pub fn tag(self) -> &'static str {
        static TAGS: OnceLock<String> = OnceLock::new();
        let from = usize::from(self.0) * TAG_BYTES;
        &TAGS.get_or_init(tags)[from..from + TAG_BYTES]
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Command {
    /// In which slots the keys of a request of this command are: all that it names, read or written, and channels of a shard,
    /// which a cluster routes alike. `scratch` is for work, whatever is in it.
    ///
    /// Keys that nobody knows of do not count: arguments that fit no specification, which Redis refuses, or keys that a module does
    /// not tell of. The node that is asked then says if the key is elsewhere (`MOVED`).
    pub fn slots(&self, arguments: Arguments<'_>, scratch: &mut Vec<Key>) -> Slots {
        if self.has_one_key() {
            return arguments.get(1).map_or(Slots::NoKeys, |key| Slots::One(Slot::of(key)));
        }
        scratch.clear();
        // Whether these are all decides nothing here.
        self.keys(arguments, scratch);
        for spec in self.key_specs.iter().filter(|spec| spec.access.has(Access::NOT_KEY)) {
            let _ = spec.find(arguments, scratch);
        }
        let mut slots = scratch.iter().filter_map(|key| arguments.get(key.argument)).map(Slot::of);
        match slots.next() {
            None => Slots::NoKeys,
            Some(first) if slots.all(|slot| slot == first) => Slots::One(first),
            Some(_) => Slots::Several,
        }
    }
}

/// What stands between the first `{` and the first `}` behind it, if that is anything.
fn hash_tag(key: &[u8]) -> Option<&[u8]> {
    let (_, behind) = split(key, b'{')?;
    split(behind, b'}').map(|(tag, _)| tag).filter(|tag| !tag.is_empty())
}

/// What stands before and behind the first of these bytes.
fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = text.iter().position(|byte| *byte == at)?;
    Some((&text[..place], &text[place + 1..]))
}

/// CRC-16/XMODEM, as appendix A of the specification has it.
fn crc16(text: &[u8]) -> u16 {
    let (pairs, rest) = text.as_chunks::<2>();
    let crc = pairs.iter().fold(0, |crc: u16, [first, second]| {
        let [high, low] = crc.to_be_bytes();
        // What each of them leaves does not wait for the other.
        REMAINDERS_BEFORE[usize::from(high ^ first)] ^ REMAINDERS[usize::from(low ^ second)]
    });
    rest.iter().fold(crc, |crc, byte| {
        let [high, _] = crc.to_be_bytes();
        (crc << 8) ^ REMAINDERS[usize::from(high ^ byte)]
    })
}

/// What is left of each byte, with x^16 + x^12 + x^5 + 1 as the divisor.
static REMAINDERS: [u16; 256] = {
    let mut remainders = [0; 256];
    let mut byte: u16 = 0;
    while byte < 256 {
        let mut crc = byte << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        remainders[byte as usize] = crc;
        byte += 1;
    }
    remainders
};

/// The same with a byte of zeros behind it.
static REMAINDERS_BEFORE: [u16; 256] = {
    let mut remainders = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let crc = REMAINDERS[byte];
        remainders[byte] = (crc << 8) ^ REMAINDERS[(crc >> 8) as usize];
        byte += 1;
    }
    remainders
};

const TAG_BYTES: usize = 3;

/// The tags of all slots, one behind the other.
fn tags() -> String {
    let letters = || (b'0'..=b'9').chain(b'a'..=b'z').chain(b'A'..=b'Z');
    // A test says that each slot gets one.
    let mut tags = vec![[b'-'; TAG_BYTES]; usize::from(Slot::COUNT)];
    for first in letters() {
        for second in letters() {
            for third in letters() {
                let tag = [first, second, third];
                tags[usize::from(Slot::of(&tag).0)] = tag;
            }
        }
    }
    tags.iter().flatten().map(|letter| char::from(*letter)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use resp::{RequestLimits, RequestParser};

    use super::*;
    use crate::Commands;

    fn of(key: &str) -> u16 {
        Slot::of(key.as_bytes()).number()
    }

    #[test]
    fn the_crc_is_that_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(crc16(b""), 0);
        // By its definition, a bit at a time.
        let bits = |text: &[u8]| {
            let each = text.iter().flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1)));
            each.fold(0, |crc: u16, bit| if crc >> 15 == bit { crc << 1 } else { (crc << 1) ^ 0x1021 })
        };
        let text: Vec<u8> = (0..=255).collect();
        (0..text.len()).for_each(|from| assert_eq!(crc16(&text[from..]), bits(&text[from..]), "{from}"));
        assert_eq!(of("123456789"), 0x31c3);
        assert_eq!((of("foo"), of("bar"), of("")), (12_182, 5_061, 0));
    }

    #[test]
    fn a_hash_tag_stands_for_its_key_unless_it_is_empty_or_open() {
        for (key, hashed) in [
            ("{user1000}.following", "user1000"),
            ("foo{bar}{zap}", "bar"),
            ("foo{{bar}}zap", "{bar"),
            ("a}{b}", "b"),
            ("a}b{c}", "c"),
            ("{}{a}", "{}{a}"),
            ("foo{}{bar}", "foo{}{bar}"),
            ("{}", "{}"),
            ("{a", "{a"),
            ("{", "{"),
            ("}", "}"),
            ("a}b{", "a}b{"),
        ] {
            let hashed = crc16(hashed.as_bytes()) % Slot::COUNT;
            assert_eq!(of(key), hashed, "{key}");
        }
        assert_eq!(Slot::of(b"{\xff\x00}x").number(), crc16(b"\xff\x00") % Slot::COUNT);
    }

    #[test]
    fn each_slot_has_a_number_and_a_tag_of_its_own() {
        let all: Vec<Slot> = (0..=u16::MAX).filter_map(Slot::new).collect();
        assert_eq!(all.len(), usize::from(Slot::COUNT));
        let tags: BTreeSet<_> = all.iter().map(|slot| slot.tag()).collect();
        assert_eq!(tags.len(), all.len());
        for slot in all {
            let tag = slot.tag();
            assert!(tag.len() == TAG_BYTES && tag.bytes().all(|letter| letter.is_ascii_alphanumeric()));
            assert_eq!((of(tag), of(&format!("name:{{{tag}}}"))), (slot.number(), slot.number()), "{tag}");
        }
    }

    /// Of an inline request.
    fn slots(line: &str) -> Slots {
        let input = format!("{line}\n").into_bytes();
        let mut parser = RequestParser::new(RequestLimits::REDIS);
        parser.parse(&input).expect("an inline request");
        let arguments = parser.arguments(&input);
        let commands = Commands::built_in();
        let command = commands.find(arguments).expect("a command");
        let mut scratch = vec![Key::new(1, Access::RO); 2];
        command.slots(arguments, &mut scratch)
    }

    #[test]
    fn the_keys_of_a_request_are_in_no_slot_in_one_or_in_several() {
        for line in [
            "GET k",
            "SET k a EX 5",
            "MGET k {k}1 k",
            "MSET k v {k}2 w",
            "RENAME k {k}",
            "COPY k {k}1 DB 3",
            "SORT k BY w_* GET a STORE {k}1",
            "GEORADIUS k 1 2 3 m STORE {k}1 STOREDIST {k}2",
            "ZUNIONSTORE k 2 {k}1 {k}2 WEIGHTS 1 2",
            "BLPOP k {k}1 0",
            "XREADGROUP GROUP g c STREAMS k {k}1 > >",
            "EVAL script 2 k {k}1 a b",
            "FCALL f 1 k a",
            "OBJECT ENCODING k",
            "WATCH k {k}1",
            "SPUBLISH k m",
            "SSUBSCRIBE k {k}1",
            "SUNSUBSCRIBE k",
            "MIGRATE h 1 \"\" 0 5 KEYS k {k}1",
        ] {
            assert_eq!(slots(line), Slots::One(Slot::of(b"k")), "{line}");
        }
        for line in [
            "MGET k a",
            "MSET k v a w",
            "RENAME k a",
            "COPY k a",
            "SORT k STORE a",
            "GEORADIUS k 1 2 3 m STOREDIST a",
            "ZUNIONSTORE k 2 {k}1 a",
            "BLMOVE k a LEFT LEFT 0",
            "XREAD STREAMS k a 0 0",
            "EVAL script 2 k a",
            "WATCH k a",
            "SSUBSCRIBE k a",
            "MIGRATE h 1 \"\" 0 5 KEYS k a",
        ] {
            assert_eq!(slots(line), Slots::Several, "{line}");
        }
        for line in [
            "PING",
            "GET",
            "EVAL script 0 a b",
            "EVAL script many a b",
            "KEYS k*",
            "PUBLISH k m",
            "SUNSUBSCRIBE",
            "RANDOMKEY",
        ] {
            assert_eq!(slots(line), Slots::NoKeys, "{line}");
        }
    }
}
