//! `uri-host [":" port]`, a byte at a time.

use super::super::fields::{is_ip_literal, is_name_byte};

/// How far it has come.
#[derive(Debug, Default)]
pub(super) enum Authority {
    #[default]
    Start,
    Name(Escape),
    /// Between brackets.
    Literal(Literal),
    /// Behind them.
    Closed,
    /// So many digits of it.
    Port(u8),
}

/// The longest IPv6 address: an IPv4 address in six words.
const LONGEST_ADDRESS: usize = b"ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255".len();

impl Authority {
    /// The last byte of `seen`, which is all there is of it.
    ///
    /// # Errors
    /// No authority begins so.
    pub(super) fn next(&mut self, seen: &[u8]) -> Result<(), ()> {
        let Some(byte) = seen.last().copied() else { return Ok(()) };
        *self = match self {
            Authority::Start if byte == b'[' => Authority::Literal(Literal::Start),
            Authority::Start => Authority::Name(Escape::None).with(byte)?,
            Authority::Name(_) => std::mem::take(self).with(byte)?,
            Authority::Literal(_) if byte == b']' => {
                let is_whole = is_ip_literal(&seen[1..seen.len() - 1]);
                return is_whole.then(|| *self = Authority::Closed).ok_or(());
            }
            Authority::Literal(literal) => Authority::Literal(literal.next(&seen[1..])?),
            Authority::Closed if byte == b':' => Authority::Port(0),
            Authority::Port(digits @ 0..5) if byte.is_ascii_digit() => Authority::Port(*digits + 1),
            Authority::Closed | Authority::Port(_) => return Err(()),
        };
        Ok(())
    }

    /// A name, and behind it this byte.
    fn with(self, byte: u8) -> Result<Self, ()> {
        match self {
            Authority::Name(Escape::None) if byte == b':' => Ok(Authority::Port(0)),
            Authority::Name(Escape::None) if byte != b'%' && !is_name_byte(byte) => Err(()),
            Authority::Name(escape) => Ok(Authority::Name(escape.next(byte)?)),
            other => Ok(other),
        }
    }

    /// # Errors
    /// It does not end here.
    pub(super) fn end(&self) -> Result<(), ()> {
        match self {
            Authority::Literal(_) => Err(()),
            Authority::Name(escape) => escape.end(),
            Authority::Start | Authority::Closed | Authority::Port(_) => Ok(()),
        }
    }
}

/// What is between brackets, as far as it has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Literal {
    Start,
    /// Of IPv6.
    Address,
    /// Behind the `v` of a later one: so far none, or some digits.
    Version(bool),
    Future,
}

impl Literal {
    /// The last byte of `seen`, which is all there is of it.
    fn next(self, seen: &[u8]) -> Result<Self, ()> {
        match (self, seen.last().copied().unwrap_or_default()) {
            (Literal::Start, b'v' | b'V') => Ok(Literal::Version(false)),
            (Literal::Start | Literal::Address, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' | b':' | b'.')
                if seen.len() <= LONGEST_ADDRESS =>
            {
                Ok(Literal::Address)
            }
            (Literal::Version(true), b'.') => Ok(Literal::Future),
            (Literal::Version(_), digit) if digit.is_ascii_hexdigit() => Ok(Literal::Version(true)),
            (Literal::Future, byte) if byte == b':' || is_name_byte(byte) => Ok(Literal::Future),
            _ => Err(()),
        }
    }
}

/// How much of an escape, `%` and two digits, is here.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Escape {
    #[default]
    None,
    Sign,
    Digit,
}

impl Escape {
    /// # Errors
    /// The byte is no digit, where one must be.
    pub(super) fn next(self, byte: u8) -> Result<Self, ()> {
        match self {
            Escape::None if byte == b'%' => Ok(Escape::Sign),
            Escape::None => Ok(Escape::None),
            Escape::Sign if byte.is_ascii_hexdigit() => Ok(Escape::Digit),
            Escape::Digit if byte.is_ascii_hexdigit() => Ok(Escape::None),
            Escape::Sign | Escape::Digit => Err(()),
        }
    }

    /// # Errors
    /// A digit is missing.
    pub(super) fn end(self) -> Result<(), ()> {
        if matches!(self, Escape::None) { Ok(()) } else { Err(()) }
    }
}
