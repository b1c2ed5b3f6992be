//! Where a reply ends, without reading what it says: for replies that are passed on as they are.
//!
//! The scanner needs neither a stack nor a buffer. One number is enough to know where a reply ends: how many values are
//! still to come. A value takes one away, an aggregate adds its elements, an attribute adds its pairs and is no value. So
//! nothing is held of a reply however long or deep it is, and its bytes can leave as they arrive.
//!
//! What a line says (the digits of `:`, the truth of `#`) is not looked at: a wrong one is the reader's to find, and tells
//! nothing about where the next reply starts. Everything that does is refused, as [`crate::Decoder`] refuses it.

use memchr::memchr2;

use crate::{DecodeError, line};

/// How far a reply has been seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scanned {
    /// How many bytes at the front of the input belong to it.
    pub len: usize,
    /// Whether it ends behind them.
    pub whole: bool,
}

/// Finds the ends of the replies and pushes of one connection, of either protocol version.
///
/// ```
/// use resp::{ReplyScanner, Scanned};
///
/// let mut scanner = ReplyScanner::new();
/// assert_eq!(scanner.scan(b"*2\r\n:1\r\n$9\r\nhel"), Ok(Scanned { len: 15, whole: false }));
/// assert_eq!(scanner.scan(b"lo wor"), Ok(Scanned { len: 6, whole: false }));
/// assert_eq!(scanner.kind(), Some(b'*'));
/// assert_eq!(scanner.scan(b"\r\n+OK\r\n"), Ok(Scanned { len: 2, whole: true }));
/// assert_eq!(scanner.scan(b"+OK\r\n"), Ok(Scanned { len: 5, whole: true }));
/// assert_eq!(scanner.kind(), Some(b'+'));
/// ```
#[derive(Debug)]
pub struct ReplyScanner {
    /// Values to come before the reply is whole, the one at hand among them.
    left: u64,
    kind: Option<u8>,
    stage: Stage,
}

/// What the next byte is.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// A type.
    Kind,
    /// The text of a line.
    Text,
    /// A length or count, of which so much is known.
    Number { kind: u8, number: Option<u64> },
    /// The digit of RESP2's null, whose length is -1.
    Minus,
    /// The CR behind it.
    Null,
    /// The LF of a line that is a value.
    TextEnd,
    /// The LF of a length or count.
    NumberEnd { kind: u8, number: u64 },
    /// The payload of a string, so many bytes, and then its CR.
    Bulk { left: u64 },
    /// The LF of a string.
    BulkEnd,
}

impl Default for ReplyScanner {
    fn default() -> Self {
        Self::new()
    }
}

impl ReplyScanner {
    /// A scanner at the start of a stream.
    pub fn new() -> Self {
        Self { left: 1, kind: None, stage: Stage::Kind }
    }

    /// The type byte of the reply of which some bytes have been scanned: `>` is a push, `-` and `!` are errors. Known from its
    /// first byte on, and kept until the next reply is begun. Attributes (`|`) are part of the reply that they precede;
    /// while only they are here, this is `|`.
    pub fn kind(&self) -> Option<u8> {
        self.kind
    }

    /// Goes on in the reply at hand with `input`, the bytes behind those of the last answer, up to its end if it is there.
    ///
    /// # Errors
    /// It is unknown where the next reply starts: close the connection. A scanner that failed is not called again.
    pub fn scan(&mut self, input: &[u8]) -> Result<Scanned, DecodeError> {
        if self.left == 0 {
            *self = Self::new();
        }
        let mut at = 0;
        while self.left > 0 {
            let Some(here) = input.get(at..).filter(|here| !here.is_empty()) else {
                return Ok(Scanned { len: at, whole: false });
            };
            at += match self.stage {
                Stage::Kind => self.start(here)?,
                Stage::Text => self.text(here)?,
                Stage::Number { kind, number } => self.number(here[0], kind, number)?,
                Stage::Minus => self.byte(here, b'1', Stage::Null, DecodeError::BadLength)?,
                Stage::Null => self.byte(here, b'\r', Stage::TextEnd, DecodeError::BadLength)?,
                Stage::TextEnd | Stage::BulkEnd => {
                    self.left -= 1;
                    self.byte(here, b'\n', Stage::Kind, DecodeError::BadLineEnd)?
                }
                Stage::NumberEnd { kind, number } => {
                    self.byte(here, b'\n', Stage::Kind, DecodeError::BadLineEnd)?;
                    self.announced(kind, number)?;
                    1
                }
                Stage::Bulk { left } => self.bulk(here, left)?,
            };
        }
        Ok(Scanned { len: at, whole: true })
    }

    /// The type of a value; and the number behind it, if that is here and simple.
    fn start(&mut self, here: &[u8]) -> Result<usize, DecodeError> {
        let kind = here[0];
        if self.left == 1 && matches!(self.kind, None | Some(b'|')) {
            self.kind = Some(kind);
        }
        match kind {
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => {
                self.stage = Stage::Text;
                Ok(1)
            }
            b'$' | b'*' | b'%' | b'~' | b'>' | b'|' | b'!' | b'=' => {
                if let Some((number, len)) = line::plain_number(&here[1..]) {
                    self.announced(kind, number)?;
                    return Ok(1 + len);
                }
                self.stage = Stage::Number { kind, number: None };
                Ok(1)
            }
            b';' | b'.' => Err(DecodeError::Streamed),
            _ => Err(DecodeError::UnknownType(kind)),
        }
    }

    /// What is here of a line's text, and its end.
    fn text(&mut self, here: &[u8]) -> Result<usize, DecodeError> {
        match memchr2(b'\r', b'\n', here) {
            None => Ok(here.len()),
            Some(end) if here[end] == b'\r' => {
                self.stage = Stage::TextEnd;
                Ok(end + 1)
            }
            Some(_) => Err(DecodeError::BadLineEnd),
        }
    }

    /// One more byte of a length or count.
    fn number(&mut self, byte: u8, kind: u8, number: Option<u64>) -> Result<usize, DecodeError> {
        self.stage = match (byte, number) {
            (b'0'..=b'9', _) => {
                let digit = u64::from(byte - b'0');
                let number = number.unwrap_or(0).checked_mul(10).and_then(|number| number.checked_add(digit));
                Stage::Number { kind, number: Some(number.ok_or(DecodeError::BadLength)?) }
            }
            (b'\r', Some(number)) => Stage::NumberEnd { kind, number },
            (b'-', None) if matches!(kind, b'$' | b'*') => Stage::Minus,
            (b'?', None) => return Err(DecodeError::Streamed),
            _ => return Err(DecodeError::BadLength),
        };
        Ok(1)
    }

    /// What follows a length or count.
    fn announced(&mut self, kind: u8, number: u64) -> Result<(), DecodeError> {
        if matches!(kind, b'$' | b'!' | b'=') {
            self.stage = Stage::Bulk { left: number };
            return Ok(());
        }
        let values = if matches!(kind, b'%' | b'|') { number.checked_mul(2) } else { Some(number) };
        let itself = u64::from(kind != b'|'); // the value of an attribute is yet to come
        let left = values.and_then(|values| (self.left - itself).checked_add(values));
        self.left = left.ok_or(DecodeError::TooManyElements { limit: usize::MAX })?;
        self.stage = Stage::Kind;
        Ok(())
    }

    /// What is here of a string, and its end.
    fn bulk(&mut self, here: &[u8], left: u64) -> Result<usize, DecodeError> {
        let payload = usize::try_from(left).map_or(here.len(), |left| left.min(here.len()));
        match here[payload..] {
            [] => {
                self.stage = Stage::Bulk { left: left - payload as u64 };
                Ok(payload)
            }
            [b'\r', b'\n', ..] => {
                self.stage = Stage::Kind;
                self.left -= 1;
                Ok(payload + 2)
            }
            [b'\r'] => {
                self.stage = Stage::BulkEnd;
                Ok(payload + 1)
            }
            _ => Err(DecodeError::BadLineEnd),
        }
    }

    /// A byte that can only be `wanted`.
    fn byte(
        &mut self,
        here: &[u8],
        wanted: u8,
        next: Stage,
        error: DecodeError,
    ) -> Result<usize, DecodeError> {
        self.stage = next;
        if here[0] == wanted { Ok(1) } else { Err(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The replies of `input`, scanned in pieces of `size`: their types and lengths.
    fn replies(input: &[u8], size: usize) -> Result<Vec<(u8, usize)>, DecodeError> {
        let (mut scanner, mut replies, mut len) = (ReplyScanner::new(), Vec::new(), 0);
        for mut piece in input.chunks(size) {
            while !piece.is_empty() {
                let scanned = scanner.scan(piece)?;
                len += scanned.len;
                piece = &piece[scanned.len..];
                if scanned.whole {
                    replies.push((scanner.kind().expect("a type"), len));
                    len = 0;
                }
            }
        }
        Ok(replies)
    }

    #[test]
    fn every_type_ends_where_it_ends() {
        let cases: [&[u8]; 17] = [
            b"+OK\r\n",
            b"-ERR no\r\n",
            b":-1\r\n",
            b"$-1\r\n",
            b"*-1\r\n",
            b"$0\r\n\r\n",
            b"$7\r\na\r\n+b\r\n\r\n",
            b"_\r\n",
            b"#t\r\n",
            b",1.5\r\n",
            b"(123\r\n",
            b"!4\r\n\r\n\r\n\r\n",
            b"=5\r\ntxt:a\r\n",
            b"*2\r\n*0\r\n*1\r\n*1\r\n:1\r\n",
            b"%1\r\n+k\r\n~2\r\n:1\r\n:2\r\n",
            b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n",
            b"*007\r\n:1\r\n:2\r\n:3\r\n:4\r\n:5\r\n:6\r\n$-1\r\n",
        ];
        let all = cases.concat();
        let expected: Vec<_> = cases.iter().map(|case| (case[0], case.len())).collect();
        for size in [1, 2, 3, 5, 8, usize::MAX] {
            assert_eq!(replies(&all, size), Ok(expected.clone()), "by {size}");
        }
    }

    #[test]
    fn an_attribute_is_part_of_the_reply_behind_it() {
        let input = b"|1\r\n+k\r\n*1\r\n:1\r\n|0\r\n$1\r\na\r\n*1\r\n|1\r\n:1\r\n:2\r\n+x\r\n";
        assert_eq!(replies(input, usize::MAX), Ok(vec![(b'$', 27), (b'*', 20)]));
        let mut scanner = ReplyScanner::new();
        scanner.scan(&input[..9]).expect("well formed");
        assert_eq!(scanner.kind(), Some(b'|'));
    }

    #[test]
    fn what_leaves_the_end_in_doubt_is_refused() {
        let cases: [(&[u8], DecodeError); 14] = [
            (b"x", DecodeError::UnknownType(b'x')),
            (b"\r", DecodeError::UnknownType(b'\r')),
            (b".\r\n", DecodeError::Streamed),
            (b"$?\r\n", DecodeError::Streamed),
            (b"$\r\n", DecodeError::BadLength),
            (b"$1x", DecodeError::BadLength),
            (b"$-2", DecodeError::BadLength),
            (b"$-1x", DecodeError::BadLength),
            (b"%-1", DecodeError::BadLength),
            (b"$18446744073709551616", DecodeError::BadLength),
            (b"$1\r\naxx", DecodeError::BadLineEnd),
            (b"+a\n", DecodeError::BadLineEnd),
            (b"+a\rb", DecodeError::BadLineEnd),
            (b"%9223372036854775808\r\n", DecodeError::TooManyElements { limit: usize::MAX }),
        ];
        for (input, error) in cases {
            assert_eq!(replies(input, usize::MAX), Err(error), "{}", input.escape_ascii());
            assert_eq!(replies(input, 1), Err(error), "{}", input.escape_ascii());
        }
    }
}
