//! The answer to a read, made from what is cached about its key.
//!
//! What is cached is the key's value, the knowledge that there is no such key, or a whole reply. A reply that was kept for
//! this very command goes out as it is; from a value, from a missing key and from a HGETALL others can be made. What those
//! do not tell for certain, arguments with a mistake among them, is Redis' to answer: its words are the right ones.

use std::collections::HashMap;
use std::ops::Range;

use command::Read;
use resp::{Arguments, Protocol};

use super::reply::header;
use super::words::number;
use crate::readthrough::{Accepts, KnownAnswer};

/// Values above this are not copied into the output.
pub(crate) const LARGE_VALUE: usize = 16 * 1024;

/// A reply to HGETALL above this answers nothing else: to look for a field is to read it from its start.
const HASH_MAX_BYTES: usize = 16 * 1024;

/// What has been written of an answer.
pub(crate) enum Said {
    /// All of it.
    Whole,
    /// All but this part of the entry's value, and the line end behind it if there is one.
    UpToValue { part: Range<usize>, line: bool },
    /// So many of its elements; the output is full.
    Elements(usize),
    /// Nothing: the entry does not tell.
    Nothing,
}

/// Which answers to other questions will do for a read.
pub(crate) fn accepts(read: Read) -> Accepts {
    match read {
        Read::Get | Read::Mget | Read::Zrange | Read::Other => Accepts::Nothing,
        Read::Strlen | Read::Getrange | Read::Substr | Read::Getbit | Read::Exists | Read::Type => {
            Accepts::Value
        }
        // Whatever came with a lease came with its key's deadline.
        Read::Ttl | Read::Pttl => Accepts::Deadline,
        Read::Hget | Read::Hmget | Read::Hexists | Read::Hlen | Read::Hkeys | Read::Hvals | Read::Hstrlen => {
            Accepts::WholeHash { most_bytes: HASH_MAX_BYTES }
        }
        _ => Accepts::Missing,
    }
}

/// Writes the answer to a read of one key. Of one with many elements of its own, those from `first` on, until `out` has
/// `limit` bytes.
pub(crate) fn write(
    out: &mut Vec<u8>,
    read: Read,
    arguments: Arguments<'_>,
    entry: &KnownAnswer,
    protocol: Protocol,
    now_ns: u64,
    (first, limit): (usize, usize),
) -> Said {
    if entry.is_missing() {
        return write_missing(out, read, arguments, protocol, (first, limit));
    }
    let start = out.len();
    let written = match read {
        Read::Get | Read::Mget => return value(out, entry.value(), 0..entry.value().len()),
        Read::Ttl | Read::Pttl if entry.answers_ttl() => time_left(out, read, entry, now_ns),
        Read::Getrange | Read::Substr if entry.is_value() => {
            match range(entry.value().len(), signed(arguments.get(2)), signed(arguments.get(3))) {
                Some(part) => return value(out, entry.value(), part),
                None => None,
            }
        }
        _ if entry.is_value() => of_value(out, read, arguments, entry.value()),
        Read::Hmget if entry.is_whole_hash() => {
            let Some(pairs) = pairs(entry.value()) else { return Said::Nothing };
            let values: HashMap<&[u8], &[u8]> = pairs.collect();
            return elements(out, arguments, (first, limit), |out, field| {
                string(out, values.get(field).copied(), protocol);
            });
        }
        _ if read != Read::Hgetall && entry.is_whole_hash() => {
            of_hash(out, read, arguments, entry.value(), protocol)
        }
        _ => {
            let reply = entry.value();
            if reply.len() > LARGE_VALUE {
                return Said::UpToValue { part: 0..reply.len(), line: false };
            }
            out.extend_from_slice(reply);
            Some(())
        }
    };
    if written.is_none() {
        out.truncate(start);
        return Said::Nothing;
    }
    Said::Whole
}

/// A bulk string of a part of a value.
#[inline]
pub(super) fn value(out: &mut Vec<u8>, value: &[u8], part: Range<usize>) -> Said {
    if part.len() > LARGE_VALUE {
        header(out, b'$', part.len());
        return Said::UpToValue { part, line: true };
    }
    bulk(out, &value[part]);
    Said::Whole
}

/// An array with one element for each argument behind the key, from the element `first` on.
fn elements<'a>(
    out: &mut Vec<u8>,
    arguments: Arguments<'a>,
    (first, limit): (usize, usize),
    mut write: impl FnMut(&mut Vec<u8>, &'a [u8]),
) -> Said {
    if first == 0 {
        header(out, b'*', arguments.len() - 2);
    }
    for (at, argument) in arguments.iter().skip(2).enumerate().skip(first) {
        if out.len() >= limit {
            return Said::Elements(at);
        }
        write(out, argument);
    }
    Said::Whole
}

/// TTL in seconds rounded to the nearest, PTTL in milliseconds (Redis 7.0, expire.c, `ttlGenericCommand`).
fn time_left(out: &mut Vec<u8>, read: Read, entry: &KnownAnswer, now_ns: u64) -> Option<()> {
    let Some(left_ns) = entry.time_left_ns(now_ns) else {
        return integer(out, -1);
    };
    let left_ms = i64::try_from(left_ns / 1_000_000).ok()?;
    integer(out, if read == Read::Ttl { (left_ms + 500) / 1000 } else { left_ms })
}

/// Writes the answer to a read of a key that does not exist.
pub(crate) fn write_missing(
    out: &mut Vec<u8>,
    read: Read,
    arguments: Arguments<'_>,
    protocol: Protocol,
    from: (usize, usize),
) -> Said {
    let start = out.len();
    let written = match read {
        Read::Get | Read::Mget => nil(out, protocol),
        Read::Hmget | Read::Zmscore => {
            return elements(out, arguments, from, |out, _| {
                nil(out, protocol);
            });
        }
        Read::Smismember => {
            return elements(out, arguments, from, |out, _| {
                integer(out, 0);
            });
        }
        Read::Ttl | Read::Pttl => integer(out, -2),
        _ => of_missing(out, read, arguments, protocol),
    };
    if written.is_none() {
        out.truncate(start);
        return Said::Nothing;
    }
    Said::Whole
}

/// What Redis answers for a key that does not exist.
fn of_missing(out: &mut Vec<u8>, read: Read, arguments: Arguments<'_>, protocol: Protocol) -> Option<()> {
    let are_numbers = || signed(arguments.get(2)).is_some() && signed(arguments.get(3)).is_some();
    match read {
        Read::Strlen | Read::Exists | Read::Hexists | Read::Hlen | Read::Hstrlen | Read::Scard => {
            integer(out, 0)
        }
        Read::Sismember | Read::Llen | Read::Zcard => integer(out, 0),
        Read::Getbit => bit_offset(arguments).and_then(|_| integer(out, 0)),
        Read::Getrange | Read::Substr if are_numbers() => bulk(out, b""),
        Read::Lrange if are_numbers() => header(out, b'*', 0),
        Read::Lindex => signed(arguments.get(2)).and_then(|_| nil(out, protocol)),
        Read::Type => simple(out, b"none"),
        Read::Hget | Read::Zscore | Read::Zrank | Read::Zrevrank => nil(out, protocol),
        Read::Hkeys | Read::Hvals => header(out, b'*', 0),
        Read::Hgetall => header(out, if protocol == Protocol::Resp3 { b'%' } else { b'*' }, 0),
        Read::Smembers => header(out, if protocol == Protocol::Resp3 { b'~' } else { b'*' }, 0),
        _ => None,
    }
}

fn of_value(out: &mut Vec<u8>, read: Read, arguments: Arguments<'_>, value: &[u8]) -> Option<()> {
    match read {
        Read::Strlen => integer(out, i64::try_from(value.len()).ok()?),
        Read::Exists => integer(out, 1),
        Read::Type => simple(out, b"string"),
        Read::Getbit => {
            let offset = bit_offset(arguments)?;
            let byte = value.get(usize::try_from(offset >> 3).ok()?).copied().unwrap_or(0);
            integer(out, i64::from(byte >> (7 - (offset & 7)) & 1))
        }
        _ => None,
    }
}

/// The bytes from `start` to `end`, both included, negative ones counted from the end (Redis 7.0, t_string.c,
/// `getrangeCommand`). Of an end before the first byte versions differ: up to Redis 7 it is the first byte, then none.
fn range(len: usize, start: Option<i64>, end: Option<i64>) -> Option<Range<usize>> {
    let (len, start, end) = (i64::try_from(len).ok()?, start?, end?);
    if len > 0 && end < -len {
        return None;
    }
    let from_end = |at: i64| if at < 0 { (len + at).max(0) } else { at };
    let (start, end) = (from_end(start), from_end(end).min(len - 1));
    if start > end {
        return Some(0..0);
    }
    Some(usize::try_from(start).ok()?..usize::try_from(end).ok()? + 1)
}

/// A bit's place: below 4 GiB of bits (Redis 7.0, bitops.c, `getBitOffsetFromArgument`).
fn bit_offset(arguments: Arguments<'_>) -> Option<u32> {
    number::<u32>(arguments.get(2))
}

/// The fields and values of a whole hash.
fn pairs(reply: &[u8]) -> Option<impl Iterator<Item = (&[u8], &[u8])>> {
    let mut bulks = Bulks(reply.get(line_end(reply)?..)?);
    Some(std::iter::from_fn(move || Some((bulks.next()?, bulks.next()?))))
}

fn string(out: &mut Vec<u8>, text: Option<&[u8]>, protocol: Protocol) -> Option<()> {
    match text {
        Some(text) => bulk(out, text),
        None => nil(out, protocol),
    }
}

/// From the fields and values of a whole hash.
fn of_hash(
    out: &mut Vec<u8>,
    read: Read,
    arguments: Arguments<'_>,
    reply: &[u8],
    protocol: Protocol,
) -> Option<()> {
    let pairs = || pairs(reply);
    let of = |field: &[u8]| Some(pairs()?.find(|(name, _)| *name == field).map(|(_, value)| value));
    match read {
        Read::Hlen => integer(out, i64::try_from(pairs()?.count()).ok()?),
        Read::Hget => string(out, of(arguments.get(2)?)?, protocol),
        Read::Hexists => integer(out, i64::from(of(arguments.get(2)?)?.is_some())),
        Read::Hstrlen => {
            let len = of(arguments.get(2)?)?.map_or(0, <[u8]>::len);
            integer(out, i64::try_from(len).ok()?)
        }
        Read::Hkeys => {
            header(out, b'*', pairs()?.count())?;
            pairs()?.try_for_each(|(field, _)| bulk(out, field))
        }
        Read::Hvals => {
            header(out, b'*', pairs()?.count())?;
            pairs()?.try_for_each(|(_, value)| bulk(out, value))
        }
        _ => None,
    }
}

/// The bulk strings of an encoded array or map.
struct Bulks<'a>(&'a [u8]);

impl<'a> Iterator for Bulks<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let start = line_end(self.0)?;
        let length: usize = std::str::from_utf8(self.0.get(1..start - 2)?).ok()?.parse().ok()?;
        let text = self.0.get(start..start + length)?;
        self.0 = self.0.get(start + length + 2..)?;
        Some(text)
    }
}

/// Where the first line is over.
fn line_end(bytes: &[u8]) -> Option<usize> {
    memchr::memchr(b'\n', bytes).map(|at| at + 1)
}

/// An integer as Redis reads it, with a sign.
pub(crate) fn signed(word: Option<&[u8]>) -> Option<i64> {
    match word?.strip_prefix(b"-") {
        Some(digits) => number::<i64>(Some(digits)).filter(|number| *number > 0).map(|number| -number),
        None => number::<i64>(word),
    }
}

fn nil(out: &mut Vec<u8>, protocol: Protocol) -> Option<()> {
    out.extend_from_slice(if protocol == Protocol::Resp3 { b"_\r\n" } else { b"$-1\r\n" });
    Some(())
}

fn simple(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    out.push(b'+');
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
    Some(())
}

fn integer(out: &mut Vec<u8>, number: i64) -> Option<()> {
    out.push(b':');
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b"\r\n");
    Some(())
}

#[inline]
fn bulk(out: &mut Vec<u8>, text: &[u8]) -> Option<()> {
    out.reserve(text.len() + 32);
    header(out, b'$', text.len());
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_as_redis_cuts_it() {
        // redis-server 7.0.15 to GETRANGE of "This is a string".
        let value = b"This is a string";
        let cases: [(i64, i64, &[u8]); 10] = [
            (0, 3, b"This"),
            (-3, -1, b"ing"),
            (0, -1, value),
            (10, 100, b"string"),
            (5, 3, b""),
            (-1, -3, b""),
            (-100, 1, b"Th"),
            (16, 20, b""),
            (-100, -16, b"T"),
            (3, -14, b""),
        ];
        for (start, end, expected) in cases {
            let part = range(value.len(), Some(start), Some(end)).map(|part| &value[part]);
            assert_eq!(part, Some(expected), "{start} {end}");
        }
        assert_eq!((range(0, Some(0), Some(-1)), range(0, Some(-2), Some(-3))), (Some(0..0), Some(0..0)));
        assert_eq!(range(value.len(), Some(-100), Some(-17)), None, "versions differ");
    }

    #[test]
    fn the_strings_of_a_reply_are_found_whatever_is_in_them() {
        let reply = b"%2\r\n$1\r\na\r\n$4\r\n\r\n$1\r\n$0\r\n\r\n$2\r\nzz\r\n";
        let bulks: Vec<&[u8]> = Bulks(&reply[4..]).collect();
        assert_eq!(bulks, [&b"a"[..], b"\r\n$1", b"", b"zz"]);
    }

    #[test]
    fn numbers_are_read_with_a_sign_and_without_ornament() {
        let read = |word: &str| signed(Some(word.as_bytes()));
        assert_eq!((read("7"), read("-7"), read("0")), (Some(7), Some(-7), Some(0)));
        for word in ["", "-", "-0", "+7", "07", "7 ", "x"] {
            assert_eq!(read(word), None, "{word}");
        }
    }
}
