//! A request's head: found, checked strictly, understood.
//!
//! `httparse` does the grammar; what it forgives and two parsers could read differently is refused here (RFC 9112,
//! sections 2.2, 3, 5, 6; RFC 9110, section 7.2). Every refusal closes the connection, for after it nobody can say
//! where the next request begins.

mod beginning;
mod fields;

use std::mem::MaybeUninit;

use httparse::{EMPTY_HEADER, Header, Request as Grammar, Status};
use memchr::{memchr, memchr2, memrchr};

pub use self::beginning::Beginning;
use self::fields::Fields;
pub(super) use self::fields::is_authority;

/// Ceiling of MAX_HEADERS: room for that many fields is on the stack, uninitialised.
pub const MOST_HEADERS: usize = 256;

/// Limits of a head, each a setting.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// MAX_METHOD_BYTES.
    pub method_bytes: usize,
    /// MAX_TARGET_BYTES.
    pub target_bytes: usize,
    /// MAX_HEAD_BYTES: the header section without the request line.
    pub head_bytes: usize,
    /// MAX_HEADERS, at most [`MOST_HEADERS`].
    pub headers: usize,
}

/// Why a head is refused, as the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 400 with this text.
    Bad(&'static str),
    /// 414.
    TargetTooLong,
    /// 431: the header section has too many bytes.
    HeadTooLarge,
    /// 431: too many header fields.
    TooManyHeaders,
    /// 501: the body is in a transfer coding that is not known here.
    UnknownCoding,
    /// 505: the beginning of HTTP/2.
    Version2,
}

/// The verb of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `GET`.
    Get,
    /// `HEAD`.
    Head,
    /// `OPTIONS`.
    Options,
    /// `PURGE`.
    Purge,
    /// Anything else: nothing is executed.
    Other,
}

impl Method {
    #[inline]
    fn of(name: &[u8]) -> Self {
        match name {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"OPTIONS" => Method::Options,
            b"PURGE" => Method::Purge,
            _ => Method::Other,
        }
    }
}

/// What follows the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// This many bytes, often 0.
    Length(u64),
    /// Chunks; we never read them, the connection closes after the answer.
    Chunked,
}

/// A request's head, borrowed from the bytes it was read from.
#[derive(Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// The verb.
    pub method: Method,
    /// The request target, as written.
    pub target: &'a [u8],
    /// HTTP/1.0 instead of HTTP/1.1 or a later 1.x, which is read as 1.1 (RFC 9110, section 2.5).
    pub http10: bool,
    /// Whether the connection stays open after the answer, as far as the client is concerned.
    pub keep_alive: bool,
    /// What follows.
    pub body: Body,
    /// `Expect: 100-continue`.
    pub expects_continue: bool,
    /// All `If-Match` fields, joined by commas where there are several.
    pub if_match: Option<Box<Tags<'a>>>,
    /// All `If-None-Match` fields, alike.
    pub if_none_match: Option<Tags<'a>>,
    /// `Cache-Control: no-cache`, or `max-age=0` (RFC 9111, sections 5.2.1.4 and 5.2.1.1).
    pub no_cache: bool,
    /// The one `Host`; empty where there is none, in HTTP/1.0.
    pub host: &'a [u8],
    /// The value of `Authorization`, if there is one such field.
    pub authorization: Option<&'a [u8]>,
    /// The value of `Origin`, if there is one such field.
    pub origin: Option<&'a [u8]>,
    /// Whether a browser asks first what it may ask (<https://fetch.spec.whatwg.org/#cors-preflight-request>).
    pub is_preflight: bool,
}

/// The text of `If-Match` or `If-None-Match`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tags<'a> {
    /// One field.
    One(&'a [u8]),
    /// Several, joined (RFC 9110, section 5.3).
    Joined(Vec<u8>),
}

impl Tags<'_> {
    /// The list as one text.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Tags::One(text) => text,
            Tags::Joined(text) => text,
        }
    }
}

/// Looks for the end of the head in `bytes`, of which the first `scanned` were looked at before.
///
/// Returns the head's length, its empty line included, or `None` with `scanned` moved on: a head that comes byte by
/// byte is looked at once. Bare CR, bare LF and heads over the limits are refused as soon as they are seen.
///
/// # Errors
/// [`Refusal`].
pub fn find_end(bytes: &[u8], scanned: &mut usize, limits: &HeadLimits) -> Result<Option<usize>, Refusal> {
    let mut line_start = memrchr(b'\n', &bytes[..*scanned]).map_or(0, |end| end + 1);
    // Looked for once a call and not once a line: a head of many lines is read in linear time.
    let mut request_line = memchr(b'\n', &bytes[..*scanned]).map(|end| end + 1);
    // A CR at the end is understood with what follows it.
    let mut at = *scanned - usize::from(bytes[..*scanned].ends_with(b"\r"));
    while let Some(length) = memchr2(b'\r', b'\n', &bytes[at..]) {
        let end = at + length;
        match bytes[end..] {
            [b'\r', b'\n', ..] => {}
            [b'\r'] => break,
            [b'\r', ..] => return Err(Refusal::Bad("a CR must be followed by LF")),
            _ => return Err(Refusal::Bad("a line must end with CR LF")),
        }
        let is_empty = end == line_start;
        line_start = end + 2;
        at = line_start;
        request_line.get_or_insert(line_start);
        check_size(bytes, line_start, request_line, limits)?;
        if is_empty {
            *scanned = at;
            return Ok(Some(line_start));
        }
    }
    *scanned = bytes.len();
    check_size(bytes, bytes.len(), request_line, limits)?;
    Ok(None)
}

/// Refuses a head whose first `length` bytes are over a limit already, although its end is not here yet; of these,
/// `request_line` are the request line, if that is whole.
fn check_size(
    bytes: &[u8],
    length: usize,
    request_line: Option<usize>,
    limits: &HeadLimits,
) -> Result<(), Refusal> {
    let line_limit = limits.method_bytes + limits.target_bytes + b"  HTTP/1.1\r\n".len();
    let line = request_line.unwrap_or(length);
    if line > line_limit {
        // One of its two parts is too long; the first ends at a blank.
        return Err(match memchr(b' ', &bytes[..=limits.method_bytes]) {
            Some(_) => Refusal::TargetTooLong,
            None => Refusal::Bad("the method is too long"),
        });
    }
    if request_line.is_some() && length - line > limits.head_bytes {
        return Err(Refusal::HeadTooLarge);
    }
    Ok(())
}

/// Understands a whole head (as [`find_end`] delimits it, without a leading empty line).
///
/// # Errors
/// [`Refusal`]; the connection must be closed after telling the client.
#[inline]
pub fn parse<'a>(head: &'a [u8], limits: &HeadLimits) -> Result<Head<'a>, Refusal> {
    let mut room = [const { MaybeUninit::<Header<'_>>::uninit() }; MOST_HEADERS];
    let mut grammar = Grammar::new(&mut []);
    let parsed = grammar.parse_with_uninit_headers(head, &mut room[..limits.headers.min(MOST_HEADERS)]);
    match parsed {
        Ok(Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(MALFORMED),
        Err(httparse::Error::Version) => return parse_later_version(head, limits),
        Err(error) => return Err(refusal_of(error)),
    }
    let (Some(method), Some(target), Some(version)) = (grammar.method, grammar.path, grammar.version) else {
        return Err(MALFORMED);
    };
    let line = RequestLine { method: method.as_bytes(), target: target.as_bytes(), http10: version == 0 };
    understand(head.len(), line, grammar.headers, limits)
}

/// Understands the head at the beginning of `bytes` in one pass, and says how many bytes it has. `None` if it is not here as a whole, or
/// if anything is wrong with it: [`find_end`] and [`parse`] say what.
#[inline]
pub fn parse_first<'a>(bytes: &'a [u8], limits: &HeadLimits) -> Option<(Head<'a>, usize)> {
    // The grammar would pass over empty lines.
    if matches!(bytes, [b'\r' | b'\n', ..]) {
        return None;
    }
    let mut room = [const { MaybeUninit::<Header<'_>>::uninit() }; MOST_HEADERS];
    let mut grammar = Grammar::new(&mut []);
    let parsed = grammar.parse_with_uninit_headers(bytes, &mut room[..limits.headers.min(MOST_HEADERS)]);
    let Ok(Status::Complete(length)) = parsed else { return None };
    let (method, target, version) = (grammar.method?, grammar.path?, grammar.version?);
    let head = &bytes[..length];
    // It lets a line end with LF alone: each field must begin behind a CR LF, and so must what follows the head.
    let begins_well = |field: &Header<'_>| {
        let at = field.name.as_ptr().addr().checked_sub(bytes.as_ptr().addr());
        at.and_then(|at| head.get(..at)).is_some_and(|before| before.ends_with(b"\r\n"))
    };
    if !head.ends_with(b"\r\n\r\n") || !grammar.headers.iter().all(begins_well) {
        return None;
    }
    let line = RequestLine { method: method.as_bytes(), target: target.as_bytes(), http10: version == 0 };
    let head = understand(length, line, grammar.headers, limits).ok()?;
    Some((head, length))
}

/// A head whose version the grammar does not know.
#[cold]
fn parse_later_version<'a>(head: &'a [u8], limits: &HeadLimits) -> Result<Head<'a>, Refusal> {
    let Some((line, [b'\r', b'\n', section @ ..])) = memchr(b'\r', head).map(|end| head.split_at(end)) else {
        return Err(MALFORMED);
    };
    let Some(known) = as_1_1(line) else {
        return Err(refusal_of_version(line));
    };
    let mut grammar = Grammar::new(&mut []);
    grammar.parse(&known).map_err(refusal_of)?;
    let (method, target) = (grammar.method.unwrap_or_default(), grammar.path.unwrap_or_default());
    let line = RequestLine {
        method: &line[..method.len()],
        target: &line[method.len() + 1..][..target.len()],
        http10: false,
    };
    let mut room = [EMPTY_HEADER; MOST_HEADERS];
    match httparse::parse_headers(section, &mut room[..limits.headers.min(MOST_HEADERS)]) {
        Ok(Status::Complete((length, headers))) if length == section.len() => {
            understand(head.len(), line, headers, limits)
        }
        Ok(_) => Err(MALFORMED),
        Err(error) => Err(refusal_of(error)),
    }
}

/// A whole head with this request line, of a version `HTTP/1.2` to `HTTP/1.9`, written as HTTP/1.1. None for any other.
fn as_1_1(line: &[u8]) -> Option<Vec<u8>> {
    let (b'2'..=b'9', rest) = line.split_last()? else { return None };
    rest.ends_with(b" HTTP/1.").then(|| [rest, b"1\r\n\r\n"].concat())
}

/// Of a request line whose version is none of ours.
fn refusal_of_version(line: &[u8]) -> Refusal {
    // RFC 9113, section 3.4.
    if line.starts_with(b"PRI * HTTP/2") { Refusal::Version2 } else { refusal_of(httparse::Error::Version) }
}

struct RequestLine<'a> {
    method: &'a [u8],
    target: &'a [u8],
    http10: bool,
}

// Into `parse`, and with it into the loop: a head is large, and would be copied on its way.
#[inline(always)]
fn understand<'a>(
    length: usize,
    line: RequestLine<'a>,
    headers: &[Header<'a>],
    limits: &HeadLimits,
) -> Result<Head<'a>, Refusal> {
    let RequestLine { method, target, http10 } = line;
    // The grammar allows one blank on either side of the target, and a version of eight bytes.
    let line = method.len() + target.len() + b"  HTTP/1.1\r\n".len();
    if method.len() > limits.method_bytes {
        return Err(Refusal::Bad("the method is too long"));
    }
    if target.len() > limits.target_bytes {
        return Err(Refusal::TargetTooLong);
    }
    if length - line > limits.head_bytes {
        return Err(Refusal::HeadTooLarge);
    }
    let method = Method::of(method);
    let fields = Fields::read(headers)?;
    fields.check_host(http10)?;
    // Last: a coding that is not known is told only where all else is well.
    let body = fields.body(http10)?;
    let (authorization, origin) = (fields.authorization(), fields.origin());
    Ok(Head {
        method,
        target,
        http10,
        keep_alive: !fields.close && (!http10 || fields.keep_alive),
        body,
        expects_continue: fields.expects_continue && !http10,
        if_match: fields.if_match,
        if_none_match: fields.if_none_match,
        no_cache: fields.no_cache,
        host: fields.host,
        authorization,
        origin,
        is_preflight: method == Method::Options && origin.is_some() && fields.asks_for_method,
    })
}

const MALFORMED: Refusal = Refusal::Bad("the head is malformed");

fn refusal_of(error: httparse::Error) -> Refusal {
    Refusal::Bad(match error {
        httparse::Error::TooManyHeaders => return Refusal::TooManyHeaders,
        httparse::Error::HeaderName => "a header name is malformed",
        httparse::Error::HeaderValue => "a header value is malformed",
        httparse::Error::Version => "the version must be HTTP/1.0 or HTTP/1.1",
        _ => "the request line is malformed",
    })
}

#[cfg(test)]
mod tests;
