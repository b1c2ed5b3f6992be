//! The keys of a request.
//!
//! Most commands' keys follow from their specifications (`spec.rs`). Some have an order of arguments that no specification
//! can tell, and Redis has code for them (db.c, the `*GetKeys` functions); so have we. Where that code names the key that
//! the *last* of repeated options counts, and the specification the first, we name both: a key too many costs a fill, a
//! key too few a stale answer.

use resp::Arguments;

use crate::{Access, Command};

/// A key of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Which argument it is.
    pub argument: usize,
    /// How it is touched.
    pub access: Access,
}

impl Key {
    pub(crate) fn new(argument: usize, access: Access) -> Self {
        Self { argument, access }
    }

    /// Whether the command may change what the key holds.
    pub fn is_written(&self) -> bool {
        !self.access.has(Access::RO) && !self.access.has(Access::NOT_KEY)
    }
}

/// The arguments do not fit the specification, or it does not tell.
pub(crate) struct Unclear;

/// Finds the keys of a request where the specifications do not tell.
pub(crate) type Extractor = fn(Arguments<'_>, &mut Vec<Key>);

/// The code for the command of that name, if it has some.
pub(crate) fn extractor(name: &str) -> Option<Extractor> {
    Some(match name {
        "sort" => sort,
        "sort_ro" => sort_ro,
        "migrate" => migrate,
        "georadius" | "georadiusbymember" => georadius,
        "xread" | "xreadgroup" => xread,
        "set" => set,
        "bitfield" => bitfield,
        _ => return None,
    })
}

impl Command {
    /// Appends the keys of a request of this command, the arguments that are no keys (channels of a shard) left out. False
    /// if it may touch keys that are not among them: a script, or arguments that fit no specification (which Redis refuses
    /// in most cases).
    pub fn keys(&self, arguments: Arguments<'_>, keys: &mut Vec<Key>) -> bool {
        let complete = !self.flags.has(crate::Flags::NO_MANDATORY_KEYS);
        if let Some(extract) = self.extractor {
            extract(arguments, keys);
            return complete;
        }
        let start = keys.len();
        for spec in self.key_specs.iter().filter(|spec| !spec.access.has(Access::NOT_KEY)) {
            if let Err(Unclear) = spec.find(arguments, keys) {
                if !spec.access.has(Access::INCOMPLETE) {
                    keys.truncate(start);
                }
                return false;
            }
        }
        complete && (keys.len() > start || !self.flags.has(crate::Flags::MOVABLEKEYS))
    }
}

const READ: Access = Access::RO.with(Access::ACCESS);
const CHANGED: Access = Access::RW.with(Access::ACCESS).with(Access::UPDATE);
const OVERWRITTEN: Access = Access::OW.with(Access::UPDATE);
const MOVED: Access = Access::RW.with(Access::ACCESS).with(Access::DELETE);

/// A number as Redis reads arguments (`string2ll`).
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    let plain = matches!(text, b"0" | [b'1'..=b'9', ..] | [b'-', b'1'..=b'9', ..]);
    std::str::from_utf8(text).ok().filter(|_| plain)?.parse().ok()
}

fn is(argument: &[u8], word: &str) -> bool {
    argument.eq_ignore_ascii_case(word.as_bytes())
}

/// `SORT key [options]`. The keys that BY and GET name come from the data; Redis does not tell them either.
fn sort_ro(_: Arguments<'_>, keys: &mut Vec<Key>) {
    keys.push(Key::new(1, READ));
}

/// `SORT key [options] [STORE destination]`: the last STORE counts.
fn sort(arguments: Arguments<'_>, keys: &mut Vec<Key>) {
    sort_ro(arguments, keys);
    let (mut at, mut stored) = (2, None);
    while let Some(argument) = arguments.get(at) {
        at += match () {
            () if is(argument, "limit") => 3,
            () if is(argument, "get") || is(argument, "by") => 2,
            () => {
                if is(argument, "store") && at + 1 < arguments.len() {
                    stored = Some(at + 1);
                }
                1
            }
        };
    }
    keys.extend(stored.map(|at| Key::new(at, OVERWRITTEN)));
}

/// `MIGRATE host port key|"" db timeout [COPY] [REPLACE] [AUTH password | AUTH2 name password] [KEYS key ...]`.
fn migrate(arguments: Arguments<'_>, keys: &mut Vec<Key>) {
    let mut at = 6;
    while let Some(argument) = arguments.get(at) {
        if is(argument, "keys") {
            if arguments.get(3).is_some_and(<[u8]>::is_empty) {
                keys.extend((at + 1..arguments.len()).map(|at| Key::new(at, MOVED)));
            }
            return; // with a key as well it is a syntax error
        }
        at += match () {
            () if is(argument, "auth") => 2,
            () if is(argument, "auth2") => 3,
            () => 1,
        };
    }
    keys.push(Key::new(3, MOVED));
}

/// `GEORADIUS key ... [STORE key] [STOREDIST key]`: the last of both counts.
fn georadius(arguments: Arguments<'_>, keys: &mut Vec<Key>) {
    keys.push(Key::new(1, READ));
    let words = arguments.iter().enumerate().skip(5);
    let stores =
        words.filter(|(at, word)| at + 1 < arguments.len() && (is(word, "store") || is(word, "storedist")));
    keys.extend(stores.map(|(at, _)| Key::new(at + 1, OVERWRITTEN)));
}

/// `XREAD [COUNT n] [BLOCK ms] STREAMS key ... id ...`, `XREADGROUP GROUP group consumer ...`.
fn xread(arguments: Arguments<'_>, keys: &mut Vec<Key>) {
    let Some(streams) = xread_options(arguments).streams else { return };
    let count = arguments.len() - streams - 1;
    if count.is_multiple_of(2) {
        keys.extend((streams + 1..).take(count / 2).map(|at| Key::new(at, READ)));
    }
}

/// What the options of XREAD and XREADGROUP say.
pub(crate) struct XreadOptions {
    /// Where the word STREAMS stands.
    pub(crate) streams: Option<usize>,
    pub(crate) blocks: bool,
}

pub(crate) fn xread_options(arguments: Arguments<'_>) -> XreadOptions {
    let mut options = XreadOptions { streams: None, blocks: false };
    let mut at = 1;
    while let Some(argument) = arguments.get(at) {
        at += match () {
            () if is(argument, "block") => {
                options.blocks = true;
                2
            }
            () if is(argument, "count") => 2,
            () if is(argument, "group") => 3,
            () if is(argument, "noack") => 1,
            () => {
                options.streams = is(argument, "streams").then_some(at);
                break;
            }
        };
    }
    options
}

/// `SET key value [GET] ...`: GET reads what was there.
fn set(arguments: Arguments<'_>, keys: &mut Vec<Key>) {
    let gets = arguments.iter().skip(3).any(|argument| is(argument, "get"));
    keys.push(Key::new(1, if gets { CHANGED } else { OVERWRITTEN }));
}

/// `BITFIELD key [GET ...] [OVERFLOW ...] [SET ... | INCRBY ...]`: with GET alone it only reads.
fn bitfield(arguments: Arguments<'_>, keys: &mut Vec<Key>) {
    let mut at = 2;
    let reads = loop {
        let Some(argument) = arguments.get(at) else { break true };
        let left = arguments.len() - at - 1;
        at += match () {
            () if is(argument, "get") && left >= 2 => 3,
            () if is(argument, "overflow") && left >= 1 => 2,
            () => break false,
        };
    };
    keys.push(Key::new(1, if reads { READ } else { CHANGED }));
}
