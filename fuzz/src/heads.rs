//! The head of a request, found in pieces of any size and held against a naive reading of the whole.

use std::net::Ipv6Addr;

use redis_proxy::front::http::head::{Beginning, Body, HeadLimits, Method, Refusal, find_end, parse};
use redis_proxy::front::http::target::key_of;

/// What heads are made of, and what they are broken by.
pub(crate) const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\r",
    b"\n",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b"\0",
    b":",
    b",",
    b"\xff",
    b"\xc3\xa9",
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"/k",
    b"/k?x=%41",
    b"/?key=",
    b"%zz",
    b"k",
    b"http://h",
    b"#",
    b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b" HTTP/1.2\r\n",
    b" HTTP/2.0\r\n",
    b"PRI * HTTP/2.0\r\n",
    b"OPTIONS ",
    b"GET / HTTP/1.1\r\n",
    b"Host: h\r\n",
    b"Host: [::1]:80\r\n",
    b"host:\r\n",
    b"Host: h i\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 5 \r\n",
    b"Host:",
    b"[v1.a]",
    b"Content-Length: 0005\r\n",
    b"Content-Length: +5\r\n",
    b"Content-Length: 18446744073709551616\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive, x\r\n",
    b"Expect: 100-continue\r\n",
    b"If-None-Match: \"a\", W/\"b\"\r\n",
    b"If-None-Match: *\r\n",
    b"If-Match: \"a\"\r\n",
    b"Cache-Control: max-age=0\r\n",
    b"X: y\r\n",
    b"X : y\r\n",
    b" folded\r\n",
    b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
];

/// Small enough that short inputs reach every one of them, and so large that none does.
const LIMITS: [HeadLimits; 2] = [
    HeadLimits { method_bytes: 6, target_bytes: 24, head_bytes: 60, headers: 3 },
    HeadLimits { method_bytes: 1 << 20, target_bytes: 1 << 20, head_bytes: 1 << 20, headers: 256 },
];

/// Finds and reads the head at the start of `data`.
///
/// # Panics
/// When the verdict hangs on how the bytes arrive, when a head is accepted or refused that a naive reading of RFC 9112
/// would not, or when it is understood otherwise; and when a beginning is refused of a head that is not, or the other way.
pub fn http_head(data: &[u8]) {
    for limits in &LIMITS {
        let whole = find_end(data, &mut 0, limits);
        let (pieces, is_possible) = in_pieces(data, limits);
        assert_eq!(pieces, whole.ok(), "found otherwise byte by byte");
        let Ok(Some(length)) = whole else {
            continue;
        };
        let head = &data[..length];
        if let Some(verdict) = verdict(head, limits) {
            assert_eq!(is_possible, verdict.is_ok(), "{verdict:?} is not what was said of its beginning");
        }
        let found = parse(head, limits).ok().map(|head| Understood {
            method: head.method,
            target: head.target.to_vec(),
            http10: head.http10,
            keep_alive: head.keep_alive,
            body: head.body,
            expects_continue: head.expects_continue,
            conditions: [head.if_match.map(|tags| *tags), head.if_none_match]
                .map(|tags| tags.map(|tags| tags.as_bytes().to_vec())),
            no_cache: head.no_cache,
        });
        assert_eq!(found, read(head, limits), "left the program, right the naive reading");
    }
}

/// Of a whole head and its target; none where half a head tells nothing of it: the empty line that may come before one, a
/// coding that is not known, a key that is too long.
fn verdict(head: &[u8], limits: &HeadLimits) -> Option<Result<(), Refusal>> {
    let judge = || {
        let head = parse(head, limits)?;
        match head.method {
            Method::Purge | Method::Other => Ok(()),
            Method::Options if head.target == b"*" => Ok(()),
            _ => key_of(head.target, usize::MAX, &mut Vec::new()).map(drop),
        }
    };
    let verdict = if head == b"\r\n" { Err(Refusal::UnknownCoding) } else { judge() };
    (verdict != Err(Refusal::UnknownCoding)).then_some(verdict)
}

/// As [`find_end`], with a byte more each time. Whether all beginnings were possible ones.
fn in_pieces(data: &[u8], limits: &HeadLimits) -> (Option<Option<usize>>, bool) {
    let mut scanned = 0;
    let (mut beginning, mut is_possible) = (Beginning::default(), true);
    for known in 0..=data.len() {
        match find_end(&data[..known], &mut scanned, limits) {
            Ok(Some(length)) => return (Some(Some(length)), is_possible),
            Ok(None) => {
                assert_eq!(scanned, known, "bytes are looked at twice");
                if is_possible {
                    is_possible = beginning.judge(&data[..known], limits).is_ok();
                    let at_once = Beginning::default().judge(&data[..known], limits);
                    assert_eq!(is_possible, at_once.is_ok(), "it hangs on how much comes at once");
                }
            }
            Err(_) => return (None, is_possible),
        }
    }
    (Some(None), is_possible)
}

#[derive(Debug, PartialEq)]
struct Understood {
    method: Method,
    target: Vec<u8>,
    http10: bool,
    keep_alive: bool,
    body: Body,
    expects_continue: bool,
    conditions: [Option<Vec<u8>>; 2],
    no_cache: bool,
}

/// RFC 9112 read line by line; `None` is a refusal.
fn read(head: &[u8], limits: &HeadLimits) -> Option<Understood> {
    let (line, section) = split_once(head, b"\r\n")?;
    let parts: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = parts[..] else { return None };
    let is_visible = |byte: &u8| *byte > b' ' && *byte != 0x7f;
    let http10 = match version {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor] if minor.is_ascii_digit() => *minor == b'0',
        _ => return None,
    };
    if !is_token(method)
        || target.is_empty()
        || !target.iter().all(is_visible)
        || std::str::from_utf8(target).is_err()
        || method.len() > limits.method_bytes
        || target.len() > limits.target_bytes
        || section.len() > limits.head_bytes
    {
        return None;
    }
    let mut fields = Vec::new();
    let mut rest = section;
    while rest != b"\r\n" {
        let (field, after) = split_once(rest, b"\r\n")?;
        let (name, value) = split_once(field, b":")?;
        if !is_token(name) || value.iter().any(|byte| *byte != b'\t' && (*byte < b' ' || *byte == 0x7f)) {
            return None;
        }
        let is_blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
        let start = value.iter().position(|byte| !is_blank(byte)).unwrap_or(value.len());
        let end = value.iter().rposition(|byte| !is_blank(byte)).map_or(start, |last| last + 1);
        fields.push((name.to_ascii_lowercase(), value[start..end].to_vec()));
        rest = after;
    }
    if fields.len() > limits.headers {
        return None;
    }
    let all = |wanted: &[u8]| -> Vec<&[u8]> {
        fields.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.as_slice()).collect()
    };
    let hosts = all(b"host");
    if !(hosts.len() == 1 && is_authority(hosts[0]) || hosts.is_empty() && http10) {
        return None;
    }
    let body = match (&all(b"content-length")[..], &all(b"transfer-encoding")[..]) {
        ([], []) => Body::Length(0),
        ([], [coding]) if !http10 && coding.eq_ignore_ascii_case(b"chunked") => Body::Chunked,
        ([length], []) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
            Body::Length(std::str::from_utf8(length).ok()?.parse().ok()?)
        }
        _ => return None,
    };
    let options = all(b"connection").join(&b',').to_ascii_lowercase();
    let has = |wanted: &[u8]| options.split(|byte| *byte == b',').any(|option| option.trim_ascii() == wanted);
    let tags = |name: &[u8]| {
        let tags = all(name);
        (!tags.is_empty()).then(|| tags.join(&b", "[..]))
    };
    let caching = all(b"cache-control").join(&b',').to_ascii_lowercase();
    Some(Understood {
        method: match method {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"OPTIONS" => Method::Options,
            b"PURGE" => Method::Purge,
            _ => Method::Other,
        },
        target: target.to_vec(),
        http10,
        keep_alive: !has(b"close") && (!http10 || has(b"keep-alive")),
        body,
        expects_continue: !http10
            && all(b"expect").iter().any(|value| value.eq_ignore_ascii_case(b"100-continue")),
        conditions: [tags(b"if-match"), tags(b"if-none-match")],
        no_cache: caching
            .split(|byte| *byte == b',')
            .any(|word| [&b"no-cache"[..], b"max-age=0", b"max-age=\"0\""].contains(&word.trim_ascii())),
    })
}

fn split_once<'a>(text: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = text.windows(separator.len()).position(|window| window == separator)?;
    Some((&text[..at], &text[at + separator.len()..]))
}

/// RFC 9110, section 5.6.2.
fn is_token(text: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_part)
}

/// `uri-host [":" port]` of RFC 3986, the empty name included.
pub(crate) fn is_authority(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let is_port = |port: &str| port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((literal, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return is_literal(literal) && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port));
    }
    match text.split_once(':') {
        None => is_name(text),
        Some((name, port)) => is_name(name) && is_port(port),
    }
}

fn is_literal(text: &str) -> bool {
    let Some((version, address)) = text.strip_prefix(['v', 'V']).and_then(|rest| rest.split_once('.')) else {
        return text.parse::<Ipv6Addr>().is_ok();
    };
    let is_version = !version.is_empty() && version.chars().all(|digit| digit.is_ascii_hexdigit());
    is_version && !address.is_empty() && !address.contains('%') && is_name(&address.replace(':', ""))
}

/// Unreserved characters, sub-delimiters and escapes.
fn is_name(text: &str) -> bool {
    let mut parts = text.split('%');
    let is_plain = |part: &str| {
        part.chars().all(|letter| letter.is_ascii_alphanumeric() || "-._~!$&'()*+,;=".contains(letter))
    };
    parts.next().is_some_and(is_plain)
        && parts.all(|part| {
            let is_escape = |pair: &str| pair.bytes().all(|digit| digit.is_ascii_hexdigit());
            part.get(..2).is_some_and(is_escape) && part.get(2..).is_some_and(is_plain)
        })
}
