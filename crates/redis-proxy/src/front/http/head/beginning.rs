//! Half a head that no whole one begins with: its client speaks something else, and waits for an answer to it.
//!
//! A byte is judged once, when it comes, by the little that is kept of those before it: a head that comes byte by byte
//! costs no more than one that comes in two pieces. A part whose verdict hangs on all of it (an address in brackets, a
//! transfer coding) is looked at once more, where it ends.

mod authority;
mod target;

use self::authority::Authority;
use self::target::Target;
use super::fields::{ONE_CHUNKED, is_another_coding, is_token_byte};
use super::{HeadLimits, MOST_HEADERS, Method, Refusal, refusal_of, refusal_of_version};

/// How far half a head was judged, and what was found.
#[derive(Debug, Default)]
pub struct Beginning {
    judged: usize,
    part: Part,
    /// Where the part begins.
    start: usize,
    http10: bool,
    /// Header fields whose names are here.
    fields: usize,
    has_host: bool,
    has_length: bool,
    has_coding: bool,
}

/// What the next byte belongs to.
#[derive(Debug, Default)]
enum Part {
    #[default]
    Method,
    Target(Target),
    Version,
    /// Or the empty line, if it is the first byte of it.
    Name,
    Value(Value),
    /// A CR has come.
    LineEnd,
}

/// A header field's value, as far as one can be malformed.
#[derive(Debug)]
enum Value {
    Host(Authority),
    Length(u64),
    /// A coding, or the value of a field that means nothing to us.
    Coding,
    Any,
    /// There is nothing more to come but blanks, or this is the refusal.
    Over(Refusal),
}

impl Beginning {
    /// Whether `bytes` can still become a head. They are those of the call before and more, and
    /// [`find_end`](super::find_end) has found no end in them.
    ///
    /// # Errors
    /// [`Refusal`], of every head that begins so.
    #[cold]
    pub fn judge(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<(), Refusal> {
        while self.judged < bytes.len() {
            self.judged += 1;
            self.next(&bytes[..self.judged], limits)?;
        }
        Ok(())
    }

    /// The last byte of `seen`.
    fn next(&mut self, seen: &[u8], limits: &HeadLimits) -> Result<(), Refusal> {
        let Some((byte, before)) = seen[self.start..].split_last() else { return Ok(()) };
        let next = match &mut self.part {
            Part::Method => in_method(*byte, before, limits)?,
            Part::Target(target) => in_target(target, *byte, &seen[self.start..], limits)?,
            Part::Version => match (before.len(), *byte) {
                (0..=6, byte) if byte == b"HTTP/1."[before.len()] => None,
                (7, minor @ b'0'..=b'9') => {
                    self.http10 = minor == b'0';
                    None
                }
                (8, b'\r') => Some(Part::LineEnd),
                _ => return Err(refusal_of_version(seen)),
            },
            Part::LineEnd => Some(Part::Name),
            Part::Name => self.in_name(*byte, before, limits)?,
            // Blanks before it are not part of it.
            Part::Value(_) if matches!(byte, b' ' | b'\t') && before.is_empty() => {
                self.start += 1;
                None
            }
            Part::Value(value) => in_value(value, *byte, &seen[self.start..])?,
        };
        if let Some(part) = next {
            self.part = part;
            self.start = seen.len();
        }
        Ok(())
    }

    fn in_name(&mut self, byte: u8, before: &[u8], limits: &HeadLimits) -> Result<Option<Part>, Refusal> {
        match byte {
            b'\r' if before.is_empty() => self.check_all().map(|()| Some(Part::LineEnd)),
            _ if before.is_empty() && self.fields >= limits.headers.min(MOST_HEADERS) => {
                Err(Refusal::TooManyHeaders)
            }
            b':' if !before.is_empty() => self.named(before).map(|value| Some(Part::Value(value))),
            _ if !is_token_byte(byte) => Err(refusal_of(httparse::Error::HeaderName)),
            _ => Ok(None),
        }
    }

    /// A field of this name has come: what its value may be.
    fn named(&mut self, name: &[u8]) -> Result<Value, Refusal> {
        self.fields += 1;
        if name.eq_ignore_ascii_case(b"host") {
            return match std::mem::replace(&mut self.has_host, true) {
                false => Ok(Value::Host(Authority::default())),
                true => Err(Refusal::Bad("more than one Host")),
            };
        }
        let is_length = name.eq_ignore_ascii_case(b"content-length");
        if !is_length && !name.eq_ignore_ascii_case(b"transfer-encoding") {
            return Ok(Value::Any);
        }
        match (is_length, self.has_length, self.has_coding) {
            (true, true, _) => return Err(Refusal::Bad("more than one Content-Length")),
            (false, _, true) => return Err(ONE_CHUNKED),
            (false, _, _) if self.http10 => return Err(Refusal::Bad("Transfer-Encoding in HTTP/1.0")),
            (true, _, true) | (false, true, _) => {
                return Err(Refusal::Bad("both Content-Length and Transfer-Encoding"));
            }
            (true, false, false) => self.has_length = true,
            (false, false, false) => self.has_coding = true,
        }
        Ok(if is_length { Value::Length(0) } else { Value::Coding })
    }

    /// The empty line has begun.
    fn check_all(&self) -> Result<(), Refusal> {
        if self.has_host || self.http10 { Ok(()) } else { Err(Refusal::Bad("Host is missing")) }
    }
}

/// A byte of the verb behind `before`, and what comes next if it is the last.
fn in_method(byte: u8, before: &[u8], limits: &HeadLimits) -> Result<Option<Part>, Refusal> {
    match byte {
        b' ' if !before.is_empty() => Ok(Some(Part::Target(Target::new(Method::of(before))))),
        // The empty line that may come before a request.
        b'\r' if before.is_empty() => Ok(Some(Part::LineEnd)),
        _ if !is_token_byte(byte) => Err(refusal_of(httparse::Error::Token)),
        _ if before.len() >= limits.method_bytes => Err(Refusal::Bad("the method is too long")),
        _ => Ok(None),
    }
}

/// A byte of the target, and what comes next if it is the last; `seen` ends with the byte.
fn in_target(
    target: &mut Target,
    byte: u8,
    seen: &[u8],
    limits: &HeadLimits,
) -> Result<Option<Part>, Refusal> {
    match byte {
        b' ' if seen.len() > 1 => target.end(&seen[..seen.len() - 1]).map(|()| Some(Part::Version)),
        ..=b' ' | 0x7f => Err(refusal_of(httparse::Error::Token)),
        _ if seen.len() > limits.target_bytes => Err(Refusal::TargetTooLong),
        _ => target.next(seen).map(|()| None),
    }
}

/// A byte of a field's value, and what comes next if it is the last.
fn in_value(value: &mut Value, byte: u8, seen: &[u8]) -> Result<Option<Part>, Refusal> {
    let before = &seen[..seen.len() - 1];
    match byte {
        b'\r' => value.end(before).map(|()| Some(Part::LineEnd)),
        b' ' | b'\t' => value.blank(before).map(|()| None),
        ..b' ' | 0x7f => Err(refusal_of(httparse::Error::HeaderValue)),
        _ => value.next(seen).map(|()| None),
    }
}

impl Value {
    /// The last byte of `seen`, which is not blank.
    fn next(&mut self, seen: &[u8]) -> Result<(), Refusal> {
        let Some(byte) = seen.last() else { return Ok(()) };
        match self {
            Value::Host(host) => host.next(seen).map_err(|()| BAD_HOST),
            Value::Length(length) => {
                let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0')).ok_or(BAD_LENGTH)?;
                let longer = length.checked_mul(10).and_then(|tens| tens.checked_add(digit));
                *length = longer.ok_or(Refusal::Bad("Content-Length is too large"))?;
                Ok(())
            }
            Value::Over(refusal) => Err(*refusal),
            Value::Coding | Value::Any => Ok(()),
        }
    }

    /// A blank behind `value`.
    fn blank(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let refusal = match self {
            Value::Host(_) => BAD_HOST,
            Value::Length(_) => BAD_LENGTH,
            Value::Coding | Value::Any | Value::Over(_) => return Ok(()),
        };
        self.end(value)?;
        *self = Value::Over(refusal);
        Ok(())
    }

    /// Of the field with this value, blanks behind it included.
    fn end(&self, value: &[u8]) -> Result<(), Refusal> {
        match self {
            Value::Host(host) => host.end().map_err(|()| BAD_HOST),
            Value::Length(_) if value.is_empty() => Err(BAD_LENGTH),
            Value::Coding => {
                let coding = value.trim_ascii_end();
                let is_one = coding.eq_ignore_ascii_case(b"chunked") || is_another_coding(coding);
                if is_one { Ok(()) } else { Err(ONE_CHUNKED) }
            }
            Value::Length(_) | Value::Any | Value::Over(_) => Ok(()),
        }
    }
}

const BAD_HOST: Refusal = Refusal::Bad("Host is malformed");
const BAD_LENGTH: Refusal = Refusal::Bad("Content-Length must be digits");
