//! Answers, from a value or a reason to the bytes of a response.
//!
//! Nothing of a request is ever copied into a header: keys and targets cannot inject.

use std::borrow::Cow;

use crate::failure::Failure;
use crate::readthrough::{Detail, KnownAnswer};

use super::conditional::{Conditions, Precondition};
use super::head::Refusal;
use super::policy::{AllowedOrigin, Policy};
use super::tail::Tail;

/// An ETag with its quotes: 128 bits in hex.
pub(super) const ETAG_LENGTH: usize = 34;
/// A value up to this many bytes is copied behind its head; a larger one is written from where it lies.
const INLINE_BYTES: usize = 16 * 1024;

/// What a request is answered with.
pub(super) enum Answer {
    /// The key's value.
    Value(KnownAnswer, CacheStatus),
    /// Redis has no such key.
    Missing(CacheStatus),
    /// The fetch failed.
    Failed(Failure, CacheStatus),
    /// The request is malformed or over a limit.
    Refused(Refusal),
    /// None of the verbs that are served.
    MethodNotAllowed,
    /// To OPTIONS: which these are.
    Verbs,
    /// The same to a browser that asks what a page may ask.
    Preflight,
    /// The rest of the request did not come in time.
    TimedOut,
    /// MAX_CLIENTS is reached, or MAX_CLIENTS_PER_PEER.
    Busy,
    /// ALLOWED_HOSTS has another name.
    Misdirected,
    /// No token, or one that is not known.
    Unauthorized,
    /// The token is not good for that.
    Forbidden,
    /// The key is not held any more; whether it was.
    Purged(bool),
    /// `/` without a key.
    NoKey,
    /// An interim answer: the client may send its body.
    Continue,
}

impl Answer {
    /// What memory holds of a key.
    #[inline]
    pub(super) fn found(entry: KnownAnswer, source: CacheStatus) -> Answer {
        if entry.is_missing() { Answer::Missing(source) } else { Answer::Value(entry, source) }
    }
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CacheStatus {
    /// Memory.
    Hit,
    /// Redis.
    Fetched {
        /// It is in the cache now.
        stored: bool,
        /// Somebody else had asked first.
        collapsed: bool,
        /// The client would take nothing from memory.
        no_cache: bool,
    },
}

impl CacheStatus {
    /// After `redis-proxy; ` (RFC 9211).
    fn cache_status(self) -> &'static [u8] {
        match self {
            CacheStatus::Hit => b"hit",
            CacheStatus::Fetched { stored: true, collapsed: false, no_cache: false } => {
                b"fwd=uri-miss; stored"
            }
            CacheStatus::Fetched { stored: true, collapsed: true, no_cache: false } => {
                b"fwd=uri-miss; stored; collapsed"
            }
            CacheStatus::Fetched { stored: false, collapsed: false, no_cache: false } => b"fwd=uri-miss",
            CacheStatus::Fetched { stored: false, collapsed: true, no_cache: false } => {
                b"fwd=uri-miss; collapsed"
            }
            CacheStatus::Fetched { stored: true, collapsed: false, no_cache: true } => b"fwd=request; stored",
            CacheStatus::Fetched { stored: true, collapsed: true, no_cache: true } => {
                b"fwd=request; stored; collapsed"
            }
            CacheStatus::Fetched { stored: false, collapsed: false, no_cache: true } => b"fwd=request",
            CacheStatus::Fetched { stored: false, collapsed: true, no_cache: true } => {
                b"fwd=request; collapsed"
            }
        }
    }
}

/// How the answer must look, whatever it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Framing {
    /// HEAD: the same header, no body.
    pub(super) head_only: bool,
    /// The request was HTTP/1.0, where an open connection must be said.
    pub(super) http10: bool,
    /// The connection ends after this answer.
    pub(super) close: bool,
    /// Whose page asks, if it is one that is allowed by name.
    pub(super) origin: Option<AllowedOrigin>,
}

/// What every answer of a moment shares.
pub(super) struct AnswerContext<'a> {
    pub(super) now_ns: u64,
    pub(super) tail: &'a Tail,
    pub(super) policy: &'a Policy,
    /// What `Cache-Status` says of the mode; nothing in `ttl`.
    pub(super) detail: Detail,
}

/// Appends the answer to `out`. A large value is not copied: it is given back, to be written behind `out`.
pub(super) fn encode(
    out: &mut Vec<u8>,
    answer: &Answer,
    framing: Framing,
    conditions: Conditions<'_>,
    context: &AnswerContext<'_>,
) -> Option<KnownAnswer> {
    match answer {
        Answer::Value(entry, source) => return value(out, entry, *source, framing, conditions, context),
        Answer::Continue => out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n"),
        _ => text(out, &Text::of(answer), framing, context),
    }
    None
}

/// The status code of an answer; `conditions` as in [`encode`].
pub(super) fn status(answer: &Answer, conditions: Conditions<'_>) -> u16 {
    match answer {
        Answer::Value(entry, _) => match conditions.judge(tag_of(&tag_lines(entry))) {
            Precondition::Send => 200,
            Precondition::Unmodified => 304,
            Precondition::Failed => 412,
        },
        Answer::Continue => 100,
        _ => Text::of(answer).status.0,
    }
}

fn value(
    out: &mut Vec<u8>,
    entry: &KnownAnswer,
    source: CacheStatus,
    framing: Framing,
    conditions: Conditions<'_>,
    context: &AnswerContext<'_>,
) -> Option<KnownAnswer> {
    let tag = tag_lines(entry);
    let verdict = conditions.judge(tag_of(&tag));
    let mut digits = itoa::Buffer::new();
    let body = entry.value();
    match verdict {
        Precondition::Failed => {
            text(out, &Text::failed(tag_of(&tag), source), framing, context);
            return None;
        }
        Precondition::Unmodified => out.extend_from_slice(b"HTTP/1.1 304 Not Modified"),
        Precondition::Send => {
            out.extend_from_slice(context.policy.status_lines.as_deref().unwrap_or(status_lines(entry)));
            out.extend_from_slice(digits.format(body.len()).as_bytes());
        }
    }
    out.extend_from_slice(&tag);
    let is_hit = source == CacheStatus::Hit;
    let age = age(entry, is_hit, context.detail, context.now_ns);
    out.extend_from_slice(digits.format(age).as_bytes());
    if is_hit {
        out.extend_from_slice(&context.policy.hit);
    } else {
        out.extend_from_slice(&context.policy.fetched);
        out.extend_from_slice(source.cache_status());
    }
    out.extend_from_slice(context.detail.text);
    finish(out, framing, context);
    if verdict == Precondition::Unmodified || framing.head_only {
        return None;
    }
    if body.len() > INLINE_BYTES {
        return Some(entry.clone());
    }
    out.extend_from_slice(body);
    None
}

/// Appends a hit that is sent whole on a connection that stays; `tail` as [`Tail::of_hits`] has it. False, and nothing is appended,
/// if the value is too large to copy.
#[inline]
pub(super) fn encode_hit(
    out: &mut Vec<u8>,
    entry: &KnownAnswer,
    detail: Detail,
    tail: &[u8],
    now_ns: u64,
) -> bool {
    let body = entry.value();
    if body.len() > INLINE_BYTES {
        return false;
    }
    let mut head = [0; HIT_HEAD_BYTES];
    let mut at = put(&mut head, 0, status_lines(entry));
    at = put_decimal(&mut head, at, body.len() as u64);
    at = put(&mut head, at, &tag_lines(entry));
    at = put_decimal(&mut head, at, age(entry, true, detail, now_ns));
    out.reserve(at + tail.len() + body.len());
    out.extend_from_slice(&head[..at]);
    out.extend_from_slice(tail);
    out.extend_from_slice(body);
    true
}

/// Up to where a value's length is told.
#[inline]
fn status_lines(entry: &KnownAnswer) -> &'static [u8] {
    match entry.is_utf8() {
        true => b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ",
        false => b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: ",
    }
}

const SECOND_NS: u64 = 1_000_000_000;

/// Seconds since it was true.
#[inline]
fn age(entry: &KnownAnswer, is_hit: bool, detail: Detail, now_ns: u64) -> u64 {
    // What was proven a moment ago is as fresh as if it had been fetched then (RFC 9111, section 4.2.3: validation).
    let true_ns = match is_hit && detail.in_force {
        true => entry.proven_if_since(now_ns.saturating_sub(SECOND_NS - 1)),
        false => entry.sent_ns(),
    };
    now_ns.saturating_sub(true_ns) / SECOND_NS
}

/// Room for a hit's head up to its age, with two numbers of 20 digits.
const HIT_HEAD_BYTES: usize = 168;

#[inline]
fn put(out: &mut [u8; HIT_HEAD_BYTES], at: usize, bytes: &[u8]) -> usize {
    let end = at + bytes.len();
    out[at..end].copy_from_slice(bytes);
    end
}

/// Appends a number; most have one digit, or a few.
#[inline]
fn put_decimal(out: &mut [u8; HIT_HEAD_BYTES], at: usize, number: u64) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "a digit")]
    let digit = |number: u16| b'0' + number as u8;
    match u16::try_from(number) {
        Ok(few @ 0..=9) => {
            out[at] = digit(few);
            at + 1
        }
        Ok(few @ 100..=999) => put(out, at, &[few / 100, few / 10 % 10, few % 10].map(digit)),
        _ => put(out, at, itoa::Buffer::new().format(number).as_bytes()),
    }
}

/// What ends every header section.
#[inline]
fn finish(out: &mut Vec<u8>, framing: Framing, context: &AnswerContext<'_>) {
    if let Some(origin) = framing.origin {
        out.extend_from_slice(context.policy.lines_of(origin));
    }
    match (framing.close, framing.http10) {
        (false, false) => out.extend_from_slice(context.tail.stays()),
        (false, true) => {
            context.tail.says_that_it_stays().into_iter().for_each(|part| out.extend_from_slice(part));
        }
        (true, _) => context.tail.ends().into_iter().for_each(|part| out.extend_from_slice(part)),
    }
}

/// The header lines of a value from the CR LF before its tag to where its age begins: in one piece, since a piece costs
/// more than its bytes.
const TAG_LINES: [u8; 49] = *b"\r\nETag: \"________________________________\"\r\nAge: ";
/// Of these lines: where the tag begins, quotes included.
const TAG_AT: usize = 8;

fn tag_lines(entry: &KnownAnswer) -> [u8; TAG_LINES.len()] {
    let mut lines = TAG_LINES;
    for (pair, byte) in lines[TAG_AT + 1..][..32].as_chunks_mut::<2>().0.iter_mut().zip(entry.etag()) {
        *pair = [hex_digit(byte >> 4), hex_digit(byte & 15)];
    }
    lines
}

fn tag_of(lines: &[u8; TAG_LINES.len()]) -> &[u8] {
    &lines[TAG_AT..TAG_AT + ETAG_LENGTH]
}

/// By arithmetic and not from a table: so all of them are made side by side.
#[inline]
fn hex_digit(nibble: u8) -> u8 {
    nibble + if nibble > 9 { b'a' - 10 } else { b'0' }
}

/// An answer that carries a sentence instead of a value.
struct Text {
    status: (u16, &'static str),
    /// Header lines of this answer alone, each with its CR LF.
    extra: Cow<'static, [u8]>,
    /// Where the answer came from, if the cache had a say in it.
    source: Option<CacheStatus>,
    /// None: there is nothing to read, as in a 204.
    body: Option<String>,
}

const RETRY: &[u8] = b"Retry-After: 1\r\n";
/// What a page of another origin may ask, and for how long its browser need not ask that again: two hours, the most that Chromium keeps it.
const PREFLIGHT: &[u8] = b"Allow: GET, HEAD, OPTIONS\r\nAccess-Control-Allow-Methods: GET, HEAD\r\n\
    Access-Control-Allow-Headers: Authorization, If-None-Match, Cache-Control\r\nAccess-Control-Max-Age: 7200\r\n";
const ALLOW: &[u8] = b"Allow: GET, HEAD, OPTIONS\r\n";

impl Text {
    fn of(answer: &Answer) -> Text {
        let plain = |code, reason, body: &str| Text {
            status: (code, reason),
            extra: Cow::Borrowed(b""),
            source: None,
            body: Some(body.to_owned()),
        };
        match answer {
            Answer::Missing(source) => {
                Text { source: Some(*source), ..plain(404, "Not Found", "key not found") }
            }
            Answer::Failed(failure, source) => Self::of_failure(failure, *source),
            Answer::Refused(Refusal::Bad(why)) => plain(400, "Bad Request", why),
            Answer::Refused(Refusal::TargetTooLong) => {
                plain(414, "URI Too Long", "the target or the key is too long")
            }
            Answer::Refused(Refusal::HeadTooLarge) => {
                plain(431, "Request Header Fields Too Large", "the header section is too large")
            }
            Answer::Refused(Refusal::TooManyHeaders) => {
                plain(431, "Request Header Fields Too Large", "too many header fields")
            }
            Answer::Refused(Refusal::UnknownCoding) => {
                plain(501, "Not Implemented", "the only transfer coding that is known here is 'chunked'")
            }
            Answer::Refused(Refusal::Version2) => {
                plain(505, "HTTP Version Not Supported", "HTTP/1.1 and HTTP/1.0 are served here")
            }
            Answer::MethodNotAllowed => Text {
                extra: ALLOW.into(),
                ..plain(405, "Method Not Allowed", "only GET, HEAD and OPTIONS are served here")
            },
            Answer::Verbs => {
                Text { status: (204, "No Content"), extra: ALLOW.into(), source: None, body: None }
            }
            Answer::Misdirected => plain(
                421,
                "Misdirected Request",
                "this is not a name that the program is called by here: ALLOWED_HOSTS says which are\n",
            ),
            Answer::Unauthorized => Text {
                extra: b"WWW-Authenticate: Bearer\r\n".into(),
                ..plain(
                    401,
                    "Unauthorized",
                    "a token is needed that is known here: Authorization: Bearer <token>\n",
                )
            },
            Answer::Forbidden => Text {
                extra: b"WWW-Authenticate: Bearer error=\"insufficient_scope\"\r\n".into(),
                ..plain(403, "Forbidden", "the token is not good for this\n")
            },
            Answer::Purged(held) => plain(200, "OK", if *held { "purged: 1\n" } else { "purged: 0\n" }),
            Answer::Preflight => {
                Text { status: (204, "No Content"), extra: PREFLIGHT.into(), source: None, body: None }
            }
            Answer::TimedOut => plain(408, "Request Timeout", "the request did not arrive in time"),
            Answer::Busy => {
                Text { extra: RETRY.into(), ..plain(503, "Service Unavailable", "too many clients") }
            }
            // Values and interim answers have no text.
            Answer::NoKey | Answer::Value(..) | Answer::Continue => plain(
                404,
                "Not Found",
                "no key: GET /{key} answers with the value of that key in Redis.\n\
                 Clients make '/' of the keys '.' and '..' and of the empty one: ask for these with /?key=\n",
            ),
        }
    }

    /// The value's tag is none of those that the client wants.
    #[cold]
    fn failed(tag: &[u8], source: CacheStatus) -> Text {
        Text {
            status: (412, "Precondition Failed"),
            extra: [b"ETag: ", tag, b"\r\n"].concat().into(),
            source: Some(source),
            body: Some("the value has another ETag".to_owned()),
        }
    }

    fn of_failure(failure: &Failure, source: CacheStatus) -> Text {
        let (status, extra): (_, &'static [u8]) = match failure {
            Failure::Unavailable(_) | Failure::Overloaded => ((503, "Service Unavailable"), RETRY),
            Failure::Silent => ((504, "Gateway Timeout"), b""),
            Failure::WrongType(_) => ((409, "Conflict"), b""),
            Failure::Redis(_) | Failure::Garbled(_) | Failure::TooLarge(_) => ((502, "Bad Gateway"), b""),
        };
        Text { status, extra: extra.into(), source: Some(source), body: Some(failure.to_string()) }
    }
}

fn text(out: &mut Vec<u8>, text: &Text, framing: Framing, context: &AnswerContext<'_>) {
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(digits.format(text.status.0).as_bytes());
    out.push(b' ');
    out.extend_from_slice(text.status.1.as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&text.extra);
    if let Some(body) = &text.body {
        out.extend_from_slice(b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: ");
        out.extend_from_slice(digits.format(body.len()).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"Cache-Control: no-store");
    if let Some(source) = text.source {
        out.extend_from_slice(b"\r\nCache-Status: redis-proxy; ");
        out.extend_from_slice(source.cache_status());
        out.extend_from_slice(context.detail.text);
    }
    finish(out, framing, context);
    if let Some(body) = text.body.as_ref().filter(|_| !framing.head_only) {
        out.extend_from_slice(body.as_bytes());
    }
}
