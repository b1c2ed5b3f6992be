//! Requests of clients, as they arrive: where each ends and where its arguments lie. Nothing is copied.
//!
//! The parser reads what redis-server 7.0.15 reads, to the byte (networking.c, `processInputBuffer` and below), because
//! a client must not notice who reads. That includes what the protocol page does not tell:
//!
//! - A line of a multibulk request ends at its first CR, and the byte after it is skipped whatever it is; so are the two
//!   bytes after a bulk string. An inline request ends at its first LF, a CR before it not counted.
//! - Redis searches lines with `strchr`, so a NUL hides all line ends behind it: such a request never ends, and is refused
//!   once 64 KiB of it are here.
//! - A `$` is looked for only when the whole line is here; a count of 0 or less and an empty line are no request at all.
//! - A number is `string2ll`'s (util.c): no sign but one `-`, no leading zero, no blank.
//!
//! One thing is not as in Redis: there, whether a line of more than 64 KiB is refused depends on how the bytes were cut,
//! because it is looked at only when its end is not here. Here it is always refused.
//!
//! A request may be forwarded as the bytes it came in only if it is strict ([`Form::Strict`]): another server, or another
//! version, could take a loose one for something else, and on a shared connection that would answer the wrong client.
//!
//! **Big requests.** A parser that waits for a whole request makes its caller hold it. So while a bulk string is on its way,
//! [`RequestParser::open_bulk`] tells which argument it is and how long, and [`RequestParser::stream`] switches, for this
//! one request, to [`Parsed::Part`]s: pieces to forward and forget. Only strings of [`STREAMED_BULK_BYTES`] and more are
//! cut; all other arguments lie whole within one part, so that a key after a big value is still seen.

use std::ops::Range;

use memchr::memchr2;

use crate::glance::{Glance, plain_get};
use crate::line;

mod error;
mod inline;

pub use error::RequestError;

/// Longest line: an inline request, a count or a length (`PROTO_INLINE_MAX_SIZE`, server.h).
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// Bulk strings at least this long may be cut into parts (`PROTO_MBULK_BIG_ARG`, server.h).
pub const STREAMED_BULK_BYTES: usize = 32 * 1024;

/// Most arguments before AUTH (networking.c, `processMultibulkBuffer`).
const MAX_UNAUTHENTICATED_ARGUMENTS: i64 = 10;

/// Longest argument before AUTH.
const MAX_UNAUTHENTICATED_BULK_BYTES: i64 = 16 * 1024;

/// What a client may announce. Announcing costs us nothing; what arrives is held by the caller, who limits that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLimits {
    /// Most arguments of one request, its command's name among them.
    pub max_arguments: usize,
    /// Longest argument: `proto-max-bulk-len`.
    pub max_bulk_bytes: usize,
}

impl RequestLimits {
    /// Those of redis-server 7.0.15 as it comes.
    pub const REDIS: Self = Self { max_arguments: i32::MAX as usize, max_bulk_bytes: 512 << 20 };
}

/// What the bytes at the front of the input are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// A whole request of `len` bytes. Its arguments: [`RequestParser::arguments`].
    Request {
        /// Bytes it took, to be dropped from the front of the input.
        len: usize,
        /// Whether these bytes may be passed on.
        form: Form,
    },
    /// `len` bytes that ask for nothing and get no answer: an empty line, a multibulk of no arguments.
    Nothing {
        /// Bytes to be dropped from the front of the input.
        len: usize,
    },
    /// The next `len` bytes of a request that is being streamed: to be passed on as they are.
    Part {
        /// Bytes to be dropped from the front of the input.
        len: usize,
        /// The index of the first of [`RequestParser::arguments`]: those that lie whole in this part.
        first: usize,
        /// Whether the request ends here.
        last: bool,
    },
    /// The request goes on in bytes that are not here yet.
    Partial {
        /// At least so many are missing. A hint for how much to reserve, as true as the client is: cap it.
        wanted: usize,
    },
}

/// How a request is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An array of bulk strings, as every server reads it.
    Strict,
    /// A multibulk request that Redis forgives, or an inline one: encode its arguments to pass it on.
    Loose,
}

/// A bulk string whose end is not here yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenBulk {
    /// Which argument it is.
    pub index: usize,
    /// How many arguments the request announced.
    pub of: usize,
    /// How long it will be.
    pub announced: usize,
    /// How much of it is here.
    pub here: usize,
}

/// Reads the requests of one client.
///
/// ```
/// use resp::{Parsed, Form, RequestLimits, RequestParser};
///
/// let mut parser = RequestParser::new(RequestLimits::REDIS);
/// let input = b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\nPING\r\n";
/// assert_eq!(parser.parse(&input[..16]), Ok(Parsed::Partial { wanted: 1 }));
/// assert_eq!(parser.parse(input), Ok(Parsed::Request { len: 22, form: Form::Strict }));
/// assert!(parser.arguments(input).iter().eq([&b"GET"[..], b"key"]));
/// let rest = &input[22..];
/// assert_eq!(parser.parse(rest), Ok(Parsed::Request { len: 6, form: Form::Loose }));
/// assert_eq!(parser.arguments(rest).get(0), Some(&b"PING"[..]));
/// ```
#[derive(Debug)]
pub struct RequestParser {
    limits: RequestLimits,
    auth_required: bool,
    stage: Stage,
    /// Offset in the input of what `stage` says.
    at: usize,
    /// Bytes from `at` on that hold no line end.
    scanned: usize,
    /// Arguments announced.
    announced: usize,
    /// The index of the argument that is read next.
    index: usize,
    strict: bool,
    streaming: bool,
    /// The arguments, as offsets in the input, or in `unquoted`.
    arguments: Vec<Range<usize>>,
    /// The arguments of an inline request, their quotes taken off.
    unquoted: Vec<u8>,
    inline: bool,
    /// The last answer consumed bytes: what is kept of it goes with the next call.
    delivered: bool,
    /// Bytes of the open bulk string that are here; for [`OpenBulk`].
    here: usize,
}

/// What the next bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The first byte of a request.
    Start,
    /// The line of an inline request.
    Inline,
    /// `*` and the number of arguments.
    Count,
    /// `$` and the length of an argument.
    Length,
    /// An argument and its CRLF.
    Bulk { length: usize },
    /// The rest of an argument that was cut.
    Cut { length: usize, left: usize },
    /// The CRLF behind an argument that was cut.
    CutEnd,
}

/// The arguments of a request, the command's name first.
#[derive(Debug, Clone, Copy)]
pub struct Arguments<'a> {
    bytes: &'a [u8],
    ranges: &'a [Range<usize>],
}

impl RequestParser {
    /// A parser at the start of a client's stream. Allocates nothing.
    pub fn new(limits: RequestLimits) -> Self {
        Self {
            limits,
            auth_required: false,
            stage: Stage::Start,
            at: 0,
            scanned: 0,
            announced: 0,
            index: 0,
            strict: true,
            streaming: false,
            arguments: Vec::new(),
            unquoted: Vec::new(),
            inline: false,
            delivered: false,
            here: 0,
        }
    }

    /// Whether the client has yet to authenticate: until then at most 10 arguments of 16 KiB.
    pub fn set_auth_required(&mut self, required: bool) {
        self.auth_required = required;
    }

    /// What a client may announce from now on.
    pub fn set_limits(&mut self, limits: RequestLimits) {
        self.limits = limits;
    }

    /// What the front of `input` is.
    ///
    /// After an answer with a `len` the input of the next call begins so many bytes later; after [`Parsed::Partial`] it begins
    /// at the same byte, with more behind. Costs time linear in the bytes that are new.
    ///
    /// # Errors
    /// The client broke the protocol: answer it with the error ([`RequestError::encode`]) after the answers it is owed, and
    /// close. A parser that failed is not called again.
    pub fn parse(&mut self, input: &[u8]) -> Result<Parsed, RequestError> {
        if self.delivered {
            self.forget();
        }
        if self.stage == Stage::Start
            && !self.streaming
            && let Some(len) = self.small(input)
        {
            return Ok(self.deliver(Parsed::Request { len, form: Form::Strict }));
        }
        loop {
            let more = match self.stage {
                Stage::Start => match input.first() {
                    None => Some(1),
                    Some(b'*') => self.enter(Stage::Count, 0),
                    Some(_) => self.enter(Stage::Inline, 0),
                },
                Stage::Inline => return self.inline(input),
                Stage::Count => {
                    let Some(count) = self.number(input, b'*')? else {
                        return Ok(Parsed::Partial { wanted: 1 });
                    };
                    if count <= 0 {
                        return Ok(self.deliver(Parsed::Nothing { len: self.at }));
                    }
                    self.announced = self.check_count(count)?;
                    self.enter(Stage::Length, self.at)
                }
                Stage::Length => match self.number(input, b'$')? {
                    None => Some(1),
                    Some(length) => {
                        let length = self.check_length(length)?;
                        self.enter(Stage::Bulk { length }, self.at)
                    }
                },
                Stage::Bulk { length } => self.bulk(input, length),
                Stage::Cut { length, left } => self.cut(input, length, left),
                Stage::CutEnd => self.cut_end(input)?,
            };
            if self.streaming && !self.strict {
                return Err(RequestError::LooseWhileStreaming);
            }
            if let Some(wanted) = more {
                return Ok(match self.streaming && self.at > 0 {
                    true => self.part(false),
                    false => Parsed::Partial { wanted },
                });
            }
            if self.index == self.announced && self.announced > 0 {
                return Ok(match self.streaming {
                    true => self.part(true),
                    false => {
                        let form = if self.strict { Form::Strict } else { Form::Loose };
                        self.deliver(Parsed::Request { len: self.at, form })
                    }
                });
            }
        }
    }

    /// The GET that `input` begins with, if it is one that [`parse`](Self::parse) would tell as a strict request, and it is written as
    /// most clients write it. To be asked in place of `parse`, and where it tells something, the input of the next call begins behind
    /// that.
    #[inline]
    pub fn plain_get<'a>(&self, input: &'a [u8]) -> Option<Glance<'a>> {
        let is_between = self.stage == Stage::Start && !self.streaming;
        let fits = |get: &Glance<'_>| {
            // Its name has 3.
            self.limits.max_arguments >= 2 && get.key.len().max(3) <= self.limits.max_bulk_bytes
        };
        if is_between { plain_get(input).filter(fits) } else { None }
    }

    /// The arguments of the request or part that [`parse`](Self::parse) just told, or those known so far of a partial one.
    ///
    /// `input` is what was given to `parse`.
    pub fn arguments<'a>(&'a self, input: &'a [u8]) -> Arguments<'a> {
        let bytes = if self.inline { &self.unquoted } else { input };
        Arguments { bytes, ranges: &self.arguments }
    }

    /// After [`Parsed::Partial`]: the bulk string that is on its way, if its length is known.
    pub fn open_bulk(&self) -> Option<OpenBulk> {
        let (Stage::Bulk { length } | Stage::Cut { length, .. }) = self.stage else { return None };
        Some(OpenBulk { index: self.index, of: self.announced, announced: length, here: self.here })
    }

    /// After [`Parsed::Partial`]: from here to the end of this request, answer parts. Call [`parse`](Self::parse) again with
    /// the same input for the first of them, which holds all that is here. False, and no change, if the request is not one to
    /// pass on as it is: then it must be awaited whole.
    pub fn stream(&mut self) -> bool {
        self.streaming = self.strict && matches!(self.stage, Stage::Length | Stage::Bulk { .. });
        self.streaming
    }

    /// The length of the request at the beginning of `input`, and its arguments, if it is strict, whole and small, as nearly all
    /// are: read in one pass, without a state to be kept. None says nothing.
    #[inline]
    fn small(&mut self, input: &[u8]) -> Option<usize> {
        let [b'*', count @ b'1'..=b'9', b'\r', b'\n', ..] = input else { return None };
        let count = usize::from(count - b'0');
        if count > self.limits.max_arguments {
            return None;
        }
        let mut at = 4;
        for _ in 0..count {
            let Some(argument) =
                small_bulk(input, at).filter(|bulk| bulk.len() <= self.limits.max_bulk_bytes)
            else {
                self.arguments.clear();
                return None;
            };
            at = argument.end + 2;
            self.arguments.push(argument);
        }
        Some(at)
    }

    fn enter(&mut self, stage: Stage, at: usize) -> Option<usize> {
        self.stage = stage;
        self.at = at;
        self.scanned = 0;
        None
    }

    /// Lets go of the last request, and of room that only an unusual one needs.
    fn forget(&mut self) {
        self.arguments.clear();
        self.arguments.shrink_to(KEPT_ARGUMENTS);
        self.delivered = false;
        if !self.streaming {
            self.inline = false;
            self.unquoted.clear();
            self.unquoted.shrink_to(KEPT_UNQUOTED_BYTES);
        }
    }

    /// Ends the request.
    fn deliver(&mut self, parsed: Parsed) -> Parsed {
        self.enter(Stage::Start, 0);
        self.announced = 0;
        self.index = 0;
        self.strict = true;
        self.streaming = false;
        self.delivered = true;
        parsed
    }

    /// All that is here up to `at`, as one part.
    fn part(&mut self, last: bool) -> Parsed {
        let part = Parsed::Part { len: self.at, first: self.index - self.arguments.len(), last };
        if last {
            return self.deliver(part);
        }
        self.at = 0;
        self.delivered = true;
        part
    }

    /// The line of an inline request, split into its arguments.
    fn inline(&mut self, input: &[u8]) -> Result<Parsed, RequestError> {
        let Some(end) = self.line_end(input, b'\n').map_err(|TooLong| RequestError::TooBigInline)? else {
            return Ok(Parsed::Partial { wanted: 1 });
        };
        let line = &input[..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        inline::split(line, &mut self.unquoted, &mut self.arguments).ok_or(RequestError::UnbalancedQuotes)?;
        let len = end + 1;
        Ok(if self.arguments.is_empty() {
            self.deliver(Parsed::Nothing { len })
        } else {
            self.inline = true;
            self.deliver(Parsed::Request { len, form: Form::Loose })
        })
    }

    /// The number of the line at `at`, which starts with `kind`; `None` while its end is not here.
    fn number(&mut self, input: &[u8], kind: u8) -> Result<Option<i64>, RequestError> {
        if input.get(self.at) == Some(&kind)
            && let Some((number, len)) = line::plain_number(&input[self.at + 1..])
        {
            self.at += 1 + len;
            return Ok(Some(number.cast_signed())); // of nine digits at most
        }
        let count = kind == b'*';
        let too_long = if count { RequestError::TooBigCount } else { RequestError::TooBigLength };
        let Some(end) = self.line_end(input, b'\r').map_err(|TooLong| too_long)? else { return Ok(None) };
        let Some(&behind) = input.get(end + 1) else {
            self.scanned = end - self.at;
            return Ok(None);
        };
        if input[self.at] != kind {
            return Err(RequestError::NoBulk(input[self.at]));
        }
        let invalid = if count { RequestError::InvalidCount } else { RequestError::InvalidLength };
        let number = decimal(&input[self.at + 1..end]).ok_or(invalid)?;
        self.strict &= behind == b'\n';
        self.at = end + 2;
        Ok(Some(number))
    }

    /// Where the line at `at` has its `end`, once it is here.
    fn line_end(&mut self, input: &[u8], end: u8) -> Result<Option<usize>, TooLong> {
        let reach = input.len().min(self.at + MAX_LINE_BYTES + 1);
        let from = self.at + self.scanned;
        let found =
            input.get(from..reach).and_then(|line| memchr2(end, b'\0', line)).map(|found| from + found);
        if let Some(found) = found.filter(|found| input[*found] == end) {
            return Ok(Some(found));
        }
        if input.len() - self.at > MAX_LINE_BYTES {
            return Err(TooLong);
        }
        self.scanned = found.unwrap_or(reach) - self.at; // at a NUL the search stands still
        Ok(None)
    }

    fn check_count(&self, count: i64) -> Result<usize, RequestError> {
        match usize::try_from(count) {
            Ok(count) if count > self.limits.max_arguments => Err(RequestError::InvalidCount),
            Err(_) => Err(RequestError::InvalidCount),
            Ok(_) if self.auth_required && count > MAX_UNAUTHENTICATED_ARGUMENTS => {
                Err(RequestError::UnauthenticatedCount)
            }
            Ok(count) => Ok(count),
        }
    }

    fn check_length(&self, length: i64) -> Result<usize, RequestError> {
        match usize::try_from(length) {
            Ok(length) if length > self.limits.max_bulk_bytes => Err(RequestError::InvalidLength),
            Err(_) => Err(RequestError::InvalidLength),
            Ok(_) if self.auth_required && length > MAX_UNAUTHENTICATED_BULK_BYTES => {
                Err(RequestError::UnauthenticatedLength)
            }
            Ok(length) => Ok(length),
        }
    }

    /// An argument of which all, some or nothing is here. Answers how many bytes are missing, if any.
    fn bulk(&mut self, input: &[u8], length: usize) -> Option<usize> {
        let end = self.at + length;
        let Some(behind) = input.get(end..end + 2) else {
            if self.streaming && length >= STREAMED_BULK_BYTES {
                return self.enter(Stage::Cut { length, left: length }, self.at);
            }
            self.here = length.min(input.len() - self.at);
            return Some(end + 2 - input.len());
        };
        self.strict &= behind == b"\r\n";
        self.arguments.push(self.at..end);
        self.index += 1;
        self.enter(Stage::Length, end + 2)
    }

    /// What is here of an argument that is cut.
    fn cut(&mut self, input: &[u8], length: usize, left: usize) -> Option<usize> {
        let here = left.min(input.len() - self.at);
        let left = left - here;
        self.here = length - left;
        let next = if left == 0 { Stage::CutEnd } else { Stage::Cut { length, left } };
        self.enter(next, self.at + here);
        (left > 0).then_some(left + 2)
    }

    /// The CRLF behind an argument that was cut: its request is being passed on, so nothing else will do.
    fn cut_end(&mut self, input: &[u8]) -> Result<Option<usize>, RequestError> {
        let Some(end) = input.get(self.at..self.at + 2) else { return Ok(Some(self.at + 2 - input.len())) };
        if end != b"\r\n" {
            return Err(RequestError::LooseWhileStreaming);
        }
        self.index += 1;
        Ok(self.enter(Stage::Length, self.at + 2))
    }
}

/// Where the bulk string at `at` lies, if it is whole, strict and of less than 1,000 bytes.
#[inline]
pub(crate) fn small_bulk(input: &[u8], at: usize) -> Option<Range<usize>> {
    let digit = |byte: u8| usize::from(byte - b'0');
    let (length, line) = match input.get(at..)? {
        [b'$', a @ b'0'..=b'9', b'\r', b'\n', ..] => (digit(*a), 4),
        [b'$', a @ b'1'..=b'9', b @ b'0'..=b'9', b'\r', b'\n', ..] => (digit(*a) * 10 + digit(*b), 5),
        [b'$', a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', b'\r', b'\n', ..] => {
            (digit(*a) * 100 + digit(*b) * 10 + digit(*c), 6)
        }
        _ => return None,
    };
    let (start, end) = (at + line, at + line + length);
    (input.get(end..end + 2)? == b"\r\n").then_some(start..end)
}

/// Room for arguments that a parser keeps between requests, in case its next request is like its last.
const KEPT_ARGUMENTS: usize = 8;

/// Room for an inline request's text that a parser keeps.
const KEPT_UNQUOTED_BYTES: usize = 64;

struct TooLong;

impl<'a> Arguments<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether there are none, as in a part without the end of a small argument.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// One of them.
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.ranges.get(index).map(|range| &self.bytes[range.clone()])
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone + use<'a> {
        let bytes = self.bytes;
        self.ranges.iter().map(move |range| &bytes[range.clone()])
    }

    /// Where they lie: in the input, or in a text of the parser's own if the request is inline.
    pub fn ranges(&self) -> &'a [Range<usize>] {
        self.ranges
    }
}

/// A number as `string2ll` reads it.
fn decimal(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    match digits {
        b"0" if digits.len() == text.len() => Some(0),
        [b'1'..=b'9', rest @ ..] if text.len() < 21 && rest.iter().all(u8::is_ascii_digit) => {
            std::str::from_utf8(text).ok()?.parse().ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
