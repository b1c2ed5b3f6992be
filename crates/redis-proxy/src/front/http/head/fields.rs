//! The header fields that mean something to us, and when they are ambiguous.

use std::net::Ipv6Addr;

use httparse::Header;
use memchr::memchr;

use super::{Body, Refusal, Tags};

/// The header fields that mean something to us.
#[derive(Default)]
pub(super) struct Fields<'a> {
    hosts: usize,
    pub(super) host: &'a [u8],
    origins: usize,
    origin: &'a [u8],
    pub(super) asks_for_method: bool,
    authorizations: usize,
    authorization: &'a [u8],
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    length: Option<u64>,
    coding: Option<&'a [u8]>,
    pub(super) expects_continue: bool,
    /// On the heap: it is rare, and a head is moved.
    pub(super) if_match: Option<Box<Tags<'a>>>,
    pub(super) if_none_match: Option<Tags<'a>>,
    pub(super) no_cache: bool,
}

impl<'a> Fields<'a> {
    pub(super) fn read(headers: &[Header<'a>]) -> Result<Self, Refusal> {
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
                6 if name.eq_ignore_ascii_case("origin") => {
                    fields.origins += 1;
                    fields.origin = value;
                }
                29 if name.eq_ignore_ascii_case("access-control-request-method") => {
                    fields.asks_for_method = true;
                }
                10 if name.eq_ignore_ascii_case("connection") => fields.connection(value),
                8 if name.eq_ignore_ascii_case("if-match") => {
                    let earlier = fields.if_match.take().map(|tags| *tags);
                    fields.if_match = Some(Box::new(join(earlier, value)));
                }
                13 if name.eq_ignore_ascii_case("if-none-match") => {
                    fields.if_none_match = Some(join(fields.if_none_match.take(), value));
                }
                13 if name.eq_ignore_ascii_case("cache-control") => {
                    let mut directives = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                    fields.no_cache |= directives.any(takes_nothing_held);
                }
                13 if name.eq_ignore_ascii_case("authorization") => {
                    fields.authorizations += 1;
                    fields.authorization = value;
                }
                14 if name.eq_ignore_ascii_case("content-length") => fields.length(value)?,
                17 if name.eq_ignore_ascii_case("transfer-encoding") => fields.coding(value)?,
                _ => {}
            }
        }
        Ok(fields)
    }

    /// The one `Origin`.
    #[inline]
    pub(super) fn origin(&self) -> Option<&'a [u8]> {
        (self.origins == 1).then_some(self.origin)
    }

    /// The one `Authorization`: of two nobody can say which counts.
    #[inline]
    pub(super) fn authorization(&self) -> Option<&'a [u8]> {
        (self.authorizations == 1).then_some(self.authorization)
    }

    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    fn coding(&mut self, value: &'a [u8]) -> Result<(), Refusal> {
        match self.coding.replace(value) {
            None => Ok(()),
            Some(_) => Err(ONE_CHUNKED),
        }
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

    #[inline]
    pub(super) fn body(&self, http10: bool) -> Result<Body, Refusal> {
        match self.coding {
            None => Ok(Body::Length(self.length.unwrap_or(0))),
            Some(coding) => self.coded_body(coding, http10),
        }
    }

    #[cold]
    fn coded_body(&self, coding: &[u8], http10: bool) -> Result<Body, Refusal> {
        match self.length {
            _ if http10 => Err(Refusal::Bad("Transfer-Encoding in HTTP/1.0")),
            Some(_) => Err(Refusal::Bad("both Content-Length and Transfer-Encoding")),
            None if coding.eq_ignore_ascii_case(b"chunked") => Ok(Body::Chunked),
            None if is_another_coding(coding) => Err(Refusal::UnknownCoding),
            None => Err(ONE_CHUNKED),
        }
    }

    /// RFC 9112, section 3.2: exactly one in HTTP/1.1, at most one before; `uri-host [":" port]`, may be empty.
    pub(super) fn check_host(&self, http10: bool) -> Result<(), Refusal> {
        match self.hosts {
            0 if http10 => Ok(()),
            0 => Err(Refusal::Bad("Host is missing")),
            1 if is_authority(self.host) => Ok(()),
            1 => Err(Refusal::Bad("Host is malformed")),
            _ => Err(Refusal::Bad("more than one Host")),
        }
    }
}

pub(super) const ONE_CHUNKED: Refusal = Refusal::Bad("Transfer-Encoding must be one 'chunked'");

/// Several fields of a name are one list (RFC 9110, section 5.3).
fn join<'a>(earlier: Option<Tags<'a>>, value: &'a [u8]) -> Tags<'a> {
    match earlier {
        None => Tags::One(value),
        Some(earlier) => {
            let mut joined = earlier.as_bytes().to_vec();
            joined.extend_from_slice(b", ");
            joined.extend_from_slice(value);
            Tags::Joined(joined)
        }
    }
}

/// Whether a directive of `Cache-Control` asks for what Redis holds now: `no-cache`, or an age of nothing.
fn takes_nothing_held(directive: &[u8]) -> bool {
    const MAX_AGE: &[u8] = b"max-age=";
    if directive.eq_ignore_ascii_case(b"no-cache") {
        return true;
    }
    match directive.split_at_checked(MAX_AGE.len()) {
        Some((name, age)) if name.eq_ignore_ascii_case(MAX_AGE) => {
            // Quoted or not (RFC 9111, section 5.2).
            let age = age.strip_prefix(b"\"").and_then(|age| age.strip_suffix(b"\"")).unwrap_or(age);
            !age.is_empty() && age.iter().all(|digit| *digit == b'0')
        }
        _ => false,
    }
}

/// Whether `text` is one well-formed transfer coding (RFC 9112, section 7) that is not `chunked`.
pub(super) fn is_another_coding(text: &[u8]) -> bool {
    let (name, mut rest) = split_token(text);
    if name.is_empty() || name.eq_ignore_ascii_case(b"chunked") {
        return false;
    }
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return true;
        }
        let Some(parameter) = rest.strip_prefix(b";") else { return false };
        let (name, after) = split_token(parameter.trim_ascii_start());
        let Some(value) = after.trim_ascii_start().strip_prefix(b"=").map(<[u8]>::trim_ascii_start) else {
            return false;
        };
        let length = if value.starts_with(b"\"") { quoted_length(value) } else { split_token(value).0.len() };
        if name.is_empty() || length == 0 {
            return false;
        }
        rest = &value[length..];
    }
}

/// The token (RFC 9110, section 5.6.2) that `text` begins with, perhaps none, and what follows it.
fn split_token(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|byte| !is_token_byte(*byte)).unwrap_or(text.len()))
}

pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Of the quoted string that `text` begins with, quotes included; 0 if it does not end.
fn quoted_length(text: &[u8]) -> usize {
    let mut bytes = text.iter().enumerate().skip(1);
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return at + 1,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
    0
}

/// Whether `text` is `uri-host [":" port]` (RFC 3986, section 3.2.2), the empty name included.
pub(in crate::front::http) fn is_authority(text: &[u8]) -> bool {
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
pub(super) fn is_ip_literal(text: &[u8]) -> bool {
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
pub(super) fn is_name_byte(byte: u8) -> bool {
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
