//! A request's head: found, checked strictly, understood.
//!
//! `httparse` does the grammar; what it forgives and two parsers could read differently is refused here (RFC 9112,
//! sections 2.2, 3, 5, 6; RFC 9110, section 7.2). Every refusal closes the connection, for after it nobody can say
//! where the next request begins.

use std::mem::MaybeUninit;
use std::net::Ipv6Addr;

use httparse::{Header, Request as Grammar};
use memchr::{memchr, memchr2, memrchr};

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
}

/// The verb of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `GET`.
    Get,
    /// `HEAD`.
    Head,
    /// Anything else: nothing is executed.
    Other,
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
#[derive(Debug)]
pub struct Head<'a> {
    /// The verb.
    pub method: Method,
    /// The request target, as written.
    pub target: &'a [u8],
    /// HTTP/1.0 instead of HTTP/1.1.
    pub http10: bool,
    /// Whether the connection stays open after the answer, as far as the client is concerned.
    pub keep_alive: bool,
    /// What follows.
    pub body: Body,
    /// `Expect: 100-continue`.
    pub expects_continue: bool,
    /// All `If-None-Match` fields, joined by commas where there are several.
    pub if_none_match: Option<Conditions<'a>>,
    /// `Cache-Control: no-cache` (RFC 9111, section 5.2.1.4).
    pub no_cache: bool,
}

/// The text of `If-None-Match`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conditions<'a> {
    /// One field.
    One(&'a [u8]),
    /// Several, joined (RFC 9110, section 5.3).
    Joined(Vec<u8>),
}

impl Conditions<'_> {
    /// The list as one text.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Conditions::One(text) => text,
            Conditions::Joined(text) => text,
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
pub fn parse<'a>(head: &'a [u8], limits: &HeadLimits) -> Result<Head<'a>, Refusal> {
    let mut room = [const { MaybeUninit::<Header<'_>>::uninit() }; MOST_HEADERS];
    let mut grammar = Grammar::new(&mut []);
    let parsed = grammar.parse_with_uninit_headers(head, &mut room[..limits.headers.min(MOST_HEADERS)]);
    match parsed {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(Refusal::Bad("the head is malformed")),
        Err(error) => return Err(refusal_of(error)),
    }
    let (Some(method), Some(target), Some(version)) = (grammar.method, grammar.path, grammar.version) else {
        return Err(Refusal::Bad("the head is malformed"));
    };
    // The grammar allows one blank on either side of the target, and a version of eight bytes.
    let line = method.len() + target.len() + b"  HTTP/1.1\r\n".len();
    if method.len() > limits.method_bytes {
        return Err(Refusal::Bad("the method is too long"));
    }
    if target.len() > limits.target_bytes {
        return Err(Refusal::TargetTooLong);
    }
    if head.len() - line > limits.head_bytes {
        return Err(Refusal::HeadTooLarge);
    }
    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        _ => Method::Other,
    };
    let http10 = version == 0;
    let fields = Fields::read(grammar.headers)?;
    let body = fields.body(http10)?;
    fields.check_host(http10)?;
    Ok(Head {
        method,
        target: target.as_bytes(),
        http10,
        keep_alive: !fields.close && (!http10 || fields.keep_alive),
        body,
        expects_continue: fields.expects_continue && !http10,
        if_none_match: fields.if_none_match,
        no_cache: fields.no_cache,
    })
}

fn refusal_of(error: httparse::Error) -> Refusal {
    Refusal::Bad(match error {
        httparse::Error::TooManyHeaders => return Refusal::TooManyHeaders,
        httparse::Error::HeaderName => "a header name is malformed",
        httparse::Error::HeaderValue => "a header value is malformed",
        httparse::Error::Version => "the version must be HTTP/1.0 or HTTP/1.1",
        _ => "the request line is malformed",
    })
}

/// The header fields that mean something to us.
#[derive(Default)]
struct Fields<'a> {
    hosts: usize,
    host: &'a [u8],
    close: bool,
    keep_alive: bool,
    length: Option<u64>,
    chunked: bool,
    expects_continue: bool,
    if_none_match: Option<Conditions<'a>>,
    no_cache: bool,
}

impl<'a> Fields<'a> {
    fn read(headers: &[Header<'a>]) -> Result<Self, Refusal> {
        let mut fields = Fields::default();
        for Header { name, value } in headers {
            // By length first: most fields mean nothing to us and cost one comparison.
            match name.len() {
                4 if name.eq_ignore_ascii_case("host") => {
                    fields.hosts += 1;
                    fields.host = value;
                }
                6 if name.eq_ignore_ascii_case("expect") => {
                    fields.expects_continue |= value.eq_ignore_ascii_case(b"100-continue");
                }
                10 if name.eq_ignore_ascii_case("connection") => fields.connection(value),
                13 if name.eq_ignore_ascii_case("if-none-match") => fields.condition(value),
                13 if name.eq_ignore_ascii_case("cache-control") => {
                    let mut directives = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                    fields.no_cache |= directives.any(|word| word.eq_ignore_ascii_case(b"no-cache"));
                }
                14 if name.eq_ignore_ascii_case("content-length") => fields.length(value)?,
                17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                    if fields.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                        return Err(Refusal::Bad("Transfer-Encoding must be one 'chunked'"));
                    }
                    fields.chunked = true;
                }
                _ => {}
            }
        }
        Ok(fields)
    }

    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    fn condition(&mut self, value: &'a [u8]) {
        self.if_none_match = Some(match self.if_none_match.take() {
            None => Conditions::One(value),
            Some(earlier) => {
                let mut joined = earlier.as_bytes().to_vec();
                joined.extend_from_slice(b", ");
                joined.extend_from_slice(value);
                Conditions::Joined(joined)
            }
        });
    }

    fn length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.length.is_some() {
            return Err(Refusal::Bad("more than one Content-Length"));
        }
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(Refusal::Bad("Content-Length must be digits"));
        }
        let text = std::str::from_utf8(value).unwrap_or_default();
        self.length = Some(text.parse().map_err(|_| Refusal::Bad("Content-Length is too large"))?);
        Ok(())
    }

    fn body(&self, http10: bool) -> Result<Body, Refusal> {
        match (self.chunked, self.length) {
            (true, _) if http10 => Err(Refusal::Bad("Transfer-Encoding in HTTP/1.0")),
            (true, Some(_)) => Err(Refusal::Bad("both Content-Length and Transfer-Encoding")),
            (true, None) => Ok(Body::Chunked),
            (false, length) => Ok(Body::Length(length.unwrap_or(0))),
        }
    }

    /// RFC 9112, section 3.2: exactly one in HTTP/1.1, at most one before; `uri-host [":" port]`, may be empty.
    fn check_host(&self, http10: bool) -> Result<(), Refusal> {
        match self.hosts {
            0 if http10 => Ok(()),
            0 => Err(Refusal::Bad("Host is missing")),
            1 if is_authority(self.host) => Ok(()),
            1 => Err(Refusal::Bad("Host is malformed")),
            _ => Err(Refusal::Bad("more than one Host")),
        }
    }
}

/// Whether `text` is `uri-host [":" port]` (RFC 3986, section 3.2.2), the empty name included.
pub(super) fn is_authority(text: &[u8]) -> bool {
    let (host_ok, rest) = if let Some(literal) = text.strip_prefix(b"[") {
        let Some(end) = memchr(b']', literal) else {
            return false;
        };
        (is_ip_literal(&literal[..end]), &literal[end + 1..])
    } else {
        let end = memchr(b':', text).unwrap_or(text.len());
        (is_reg_name(&text[..end]), &text[end..])
    };
    let port_ok = match rest.strip_prefix(b":") {
        Some(port) => port.iter().all(u8::is_ascii_digit) && port.len() <= 5,
        None => rest.is_empty(),
    };
    host_ok && port_ok
}

/// What stands between the brackets: an IPv6 address, or `v1.` and what a later version may be written as.
fn is_ip_literal(text: &[u8]) -> bool {
    if let [b'v' | b'V', future @ ..] = text {
        let Some(dot) = memchr(b'.', future) else {
            return false;
        };
        let (version, address) = (&future[..dot], &future[dot + 1..]);
        return !version.is_empty()
            && version.iter().all(u8::is_ascii_hexdigit)
            && !address.is_empty()
            && address.iter().all(|byte| is_name_byte(*byte) || *byte == b':');
    }
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

fn is_reg_name(name: &[u8]) -> bool {
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        if *byte == b'%' {
            let pair = (bytes.next(), bytes.next());
            if !matches!(pair, (Some(h), Some(l)) if h.is_ascii_hexdigit() && l.is_ascii_hexdigit()) {
                return false;
            }
        } else if !is_name_byte(*byte) {
            return false;
        }
    }
    true
}

/// `unreserved` or `sub-delims` of RFC 3986.
fn is_name_byte(byte: u8) -> bool {
    NAME_BYTES[usize::from(byte)]
}

/// A table, since every byte of every Host is asked for.
const NAME_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128_u8 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut marks: &[u8] = b"-._~!$&'()*+,;=";
    while let [mark, rest @ ..] = marks {
        table[*mark as usize] = true;
        marks = rest;
    }
    table
};

#[cfg(test)]
mod tests;
