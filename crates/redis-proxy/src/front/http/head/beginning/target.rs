//! A request's target, a byte at a time, as [`key_of`](crate::front::http::target::key_of) will read the whole.

use super::authority::{Authority, Escape};
use crate::front::http::head::{Method, Refusal, refusal_of};
use crate::front::http::target::{BAD_AUTHORITY, BAD_ESCAPE, BAD_FORM, FRAGMENT, TWO_KEYS};

/// How far it has come.
#[derive(Debug)]
pub(super) struct Target {
    part: Part,
    /// Its first so many bytes are whole characters.
    whole: usize,
    /// `key=` was there.
    has_key: bool,
}

#[derive(Debug)]
enum Part {
    /// Nothing is here yet.
    Start(Method),
    /// Of a verb that reads nothing.
    Any,
    /// `*`, which is all.
    Asterisk,
    /// `http://`, as much of it as is here.
    Scheme,
    /// It begins with this byte.
    Authority(usize, Authority),
    /// The slash, and behind it so many bytes.
    Path(usize, Escape),
    /// A query that names nothing.
    Query,
    /// Of a pair in the query that may name the key: so many bytes, as in `key=`.
    Pair(usize),
    /// The rest of another pair.
    OtherPair,
    /// What `key=` says.
    Key(Escape),
}

const KEY: &[u8] = b"key=";

impl Target {
    pub(super) fn new(method: Method) -> Self {
        let part =
            if matches!(method, Method::Purge | Method::Other) { Part::Any } else { Part::Start(method) };
        Target { part, whole: 0, has_key: false }
    }

    /// The last byte of `seen`, which is all there is of it.
    ///
    /// # Errors
    /// No target begins so.
    pub(super) fn next(&mut self, seen: &[u8]) -> Result<(), Refusal> {
        let Some(byte) = seen.last().copied() else { return Ok(()) };
        self.character(seen)?;
        if byte == b'#' && !matches!(self.part, Part::Any) {
            return Err(FRAGMENT);
        }
        self.part = match &mut self.part {
            Part::Start(_) if byte == b'/' => Part::Path(0, Escape::None),
            Part::Start(Method::Options) if byte == b'*' => Part::Asterisk,
            Part::Start(_) | Part::Scheme => scheme(seen)?,
            Part::Authority(from, _) if matches!(byte, b'/' | b'?') => {
                let is_empty = *from + 1 == seen.len();
                return self.behind_authority(byte, is_empty);
            }
            Part::Authority(from, authority) => {
                return authority.next(&seen[*from..]).map_err(|()| BAD_AUTHORITY);
            }
            Part::Path(length, escape) if byte == b'?' => {
                escape.end().map_err(|()| BAD_ESCAPE)?;
                if *length == 0 { Part::Pair(0) } else { Part::Query }
            }
            Part::Path(length, escape) => {
                Part::Path(*length + 1, escape.next(byte).map_err(|()| BAD_ESCAPE)?)
            }
            Part::Key(escape) if byte == b'&' => {
                escape.end().map_err(|()| BAD_ESCAPE)?;
                Part::Pair(0)
            }
            Part::Key(escape) => Part::Key(escape.next(byte).map_err(|()| BAD_ESCAPE)?),
            Part::Pair(_) | Part::OtherPair if byte == b'&' => Part::Pair(0),
            Part::Pair(length) if KEY[*length] != byte => Part::OtherPair,
            Part::Pair(length) if *length + 1 < KEY.len() => Part::Pair(*length + 1),
            Part::Pair(_) if std::mem::replace(&mut self.has_key, true) => return Err(TWO_KEYS),
            Part::Pair(_) => Part::Key(Escape::None),
            Part::Asterisk => return Err(BAD_FORM),
            Part::Any | Part::Query | Part::OtherPair => return Ok(()),
        };
        Ok(())
    }

    fn behind_authority(&mut self, byte: u8, is_empty: bool) -> Result<(), Refusal> {
        if is_empty {
            return Err(BAD_AUTHORITY);
        }
        self.end_part()?;
        self.part = if byte == b'/' { Part::Path(0, Escape::None) } else { Part::Pair(0) };
        Ok(())
    }

    /// Text is UTF-8, and a character at most four bytes.
    fn character(&mut self, seen: &[u8]) -> Result<(), Refusal> {
        match std::str::from_utf8(&seen[self.whole..]) {
            Ok(_) => self.whole = seen.len(),
            Err(error) if error.error_len().is_some() => return Err(refusal_of(httparse::Error::Token)),
            Err(_) => {}
        }
        Ok(())
    }

    /// # Errors
    /// No target is these bytes.
    pub(super) fn end(&self, seen: &[u8]) -> Result<(), Refusal> {
        match self.part {
            Part::Authority(from, _) if from == seen.len() => Err(BAD_AUTHORITY),
            _ if self.whole < seen.len() => Err(refusal_of(httparse::Error::Token)),
            _ => self.end_part(),
        }
    }

    fn end_part(&self) -> Result<(), Refusal> {
        match &self.part {
            Part::Start(_) | Part::Scheme => Err(BAD_FORM),
            Part::Authority(_, authority) => authority.end().map_err(|()| BAD_AUTHORITY),
            Part::Path(_, escape) | Part::Key(escape) => escape.end().map_err(|()| BAD_ESCAPE),
            Part::Any | Part::Asterisk | Part::Query | Part::Pair(_) | Part::OtherPair => Ok(()),
        }
    }
}

/// From `seen` on: the rest of the scheme, or what is behind it.
fn scheme(seen: &[u8]) -> Result<Part, Refusal> {
    let begins =
        |scheme: &[u8]| scheme.get(..seen.len()).is_some_and(|start| seen.eq_ignore_ascii_case(start));
    match seen.len() {
        7 if begins(b"http://") => Ok(Part::Authority(7, Authority::Start)),
        8 if begins(b"https://") => Ok(Part::Authority(8, Authority::Start)),
        _ if begins(b"http://") || begins(b"https://") => Ok(Part::Scheme),
        _ => Err(BAD_FORM),
    }
}
