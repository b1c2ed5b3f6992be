//! Answers, from a value or a reason to the bytes of a response.
//!
//! Nothing of a request is ever copied into a header: keys and targets cannot inject.

use crate::failure::Failure;
use crate::readthrough::Entry;

use super::head::Refusal;

/// An ETag with its quotes: 128 bits in hex.
pub(super) const ETAG_LENGTH: usize = 34;
/// A value up to this many bytes is copied behind its head; a larger one is written from where it lies.
const INLINE_BYTES: usize = 16 * 1024;

/// What a request is answered with.
pub(super) enum Answer {
    /// The key's value.
    Value(Entry, Source),
    /// Redis has no such key.
    Missing(Source),
    /// The fetch failed.
    Failed(Failure, Source),
    /// The request is malformed or over a limit.
    Refused(Refusal),
    /// Not GET or HEAD.
    MethodNotAllowed,
    /// The rest of the request did not come in time.
    TimedOut,
    /// MAX_CLIENTS is reached.
    Busy,
    /// `/` without a key.
    Banner,
    /// An interim answer: the client may send its body.
    Continue,
}

impl Answer {
    /// What memory holds of a key.
    pub(super) fn found(entry: Entry, source: Source) -> Answer {
        if entry.is_missing() { Answer::Missing(source) } else { Answer::Value(entry, source) }
    }
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
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

impl Source {
    /// After `redis-proxy; ` (RFC 9211).
    fn cache_status(self) -> &'static [u8] {
        match self {
            Source::Hit => b"hit",
            Source::Fetched { stored: true, collapsed: false, no_cache: false } => b"fwd=uri-miss; stored",
            Source::Fetched { stored: true, collapsed: true, no_cache: false } => {
                b"fwd=uri-miss; stored; collapsed"
            }
            Source::Fetched { stored: false, collapsed: false, no_cache: false } => b"fwd=uri-miss",
            Source::Fetched { stored: false, collapsed: true, no_cache: false } => b"fwd=uri-miss; collapsed",
            Source::Fetched { stored: true, collapsed: false, no_cache: true } => b"fwd=request; stored",
            Source::Fetched { stored: true, collapsed: true, no_cache: true } => {
                b"fwd=request; stored; collapsed"
            }
            Source::Fetched { stored: false, collapsed: false, no_cache: true } => b"fwd=request",
            Source::Fetched { stored: false, collapsed: true, no_cache: true } => b"fwd=request; collapsed",
        }
    }
}

/// How the answer must look, whatever it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// HEAD: the same header, no body.
    pub(super) head_only: bool,
    /// The request was HTTP/1.0, where an open connection must be said.
    pub(super) http10: bool,
    /// The connection ends after this answer.
    pub(super) close: bool,
}

/// What every answer of a moment shares.
pub(super) struct Moment<'a> {
    pub(super) now_ns: u64,
    pub(super) date: &'a [u8; 29],
    /// HTTP_CACHE_CONTROL, of values.
    pub(super) cache_control: &'a [u8],
    /// What `Cache-Status` says of the mode; nothing in `ttl`.
    pub(super) detail: &'static [u8],
}

/// Appends the answer to `out`. A large value is not copied: it is given back, to be written behind `out`.
pub(super) fn encode(
    out: &mut Vec<u8>,
    answer: &Answer,
    form: Form,
    conditions: Option<&[u8]>,
    moment: &Moment<'_>,
) -> Option<Entry> {
    match answer {
        Answer::Value(entry, source) => return value(out, entry, *source, form, conditions, moment),
        Answer::Continue => out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n"),
        _ => text(out, &Text::of(answer), form, moment),
    }
    None
}

/// The status code of an answer; `conditions` as in [`encode`].
pub(super) fn status(answer: &Answer, conditions: Option<&[u8]>) -> u16 {
    match answer {
        Answer::Value(entry, _) if is_unmodified(entry, conditions) => 304,
        Answer::Value(..) => 200,
        Answer::Continue => 100,
        _ => Text::of(answer).status.0,
    }
}

fn is_unmodified(entry: &Entry, conditions: Option<&[u8]>) -> bool {
    conditions.is_some_and(|conditions| super::conditional::matches(conditions, &etag(entry)))
}

fn value(
    out: &mut Vec<u8>,
    entry: &Entry,
    source: Source,
    form: Form,
    conditions: Option<&[u8]>,
    moment: &Moment<'_>,
) -> Option<Entry> {
    let etag = etag(entry);
    let unmodified = conditions.is_some_and(|conditions| super::conditional::matches(conditions, &etag));
    let mut digits = itoa::Buffer::new();
    let body = entry.value();
    if unmodified {
        out.extend_from_slice(b"HTTP/1.1 304 Not Modified\r\nETag: ");
    } else {
        out.extend_from_slice(if entry.is_utf8() {
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ".as_slice()
        } else {
            b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: ".as_slice()
        });
        out.extend_from_slice(digits.format(body.len()).as_bytes());
        out.extend_from_slice(b"\r\nETag: ");
    }
    out.extend_from_slice(&etag);
    out.extend_from_slice(b"\r\nAge: ");
    let age = moment.now_ns.saturating_sub(entry.sent_ns()) / 1_000_000_000;
    out.extend_from_slice(digits.format(age).as_bytes());
    out.extend_from_slice(b"\r\nCache-Control: ");
    out.extend_from_slice(moment.cache_control);
    out.extend_from_slice(b"\r\nCache-Status: redis-proxy; ");
    out.extend_from_slice(source.cache_status());
    out.extend_from_slice(moment.detail);
    finish(out, form, moment);
    if unmodified || form.head_only {
        return None;
    }
    if body.len() > INLINE_BYTES {
        return Some(entry.clone());
    }
    out.extend_from_slice(body);
    None
}

/// What ends every header section.
fn finish(out: &mut Vec<u8>, form: Form, moment: &Moment<'_>) {
    out.extend_from_slice(b"\r\nX-Content-Type-Options: nosniff\r\nDate: ");
    out.extend_from_slice(moment.date);
    out.extend_from_slice(match (form.close, form.http10) {
        (true, _) => b"\r\nConnection: close\r\n\r\n".as_slice(),
        (false, true) => b"\r\nConnection: keep-alive\r\n\r\n",
        (false, false) => b"\r\n\r\n",
    });
}

/// `"` 32 hex digits `"`.
fn etag(entry: &Entry) -> [u8; ETAG_LENGTH] {
    let mut text = [b'"'; ETAG_LENGTH];
    for (pair, byte) in text[1..33].chunks_exact_mut(2).zip(entry.etag()) {
        pair.copy_from_slice(&HEX[usize::from(*byte)]);
    }
    text
}

/// Each byte as two hex digits.
const HEX: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    table
};

/// An answer that carries a sentence instead of a value.
struct Text {
    status: (u16, &'static str),
    /// Header lines of this answer alone, each with its CR LF.
    extra: &'static [u8],
    /// After `redis-proxy; ` (RFC 9211).
    cache_status: &'static [u8],
    body: String,
}

const BYPASS: &[u8] = b"fwd=bypass";
const RETRY: &[u8] = b"Retry-After: 1\r\n";

impl Text {
    fn of(answer: &Answer) -> Text {
        let plain = |code, reason, body: &str| Text {
            status: (code, reason),
            extra: b"",
            cache_status: BYPASS,
            body: body.to_owned(),
        };
        match answer {
            Answer::Missing(source) => {
                Text { cache_status: source.cache_status(), ..plain(404, "Not Found", "key not found") }
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
            Answer::MethodNotAllowed => Text {
                extra: b"Allow: GET, HEAD\r\n",
                ..plain(405, "Method Not Allowed", "only GET and HEAD are served here")
            },
            Answer::TimedOut => plain(408, "Request Timeout", "the request did not arrive in time"),
            Answer::Busy => Text { extra: RETRY, ..plain(503, "Service Unavailable", "too many clients") },
            Answer::Banner | Answer::Value(..) | Answer::Continue => plain(
                200,
                "OK",
                concat!(
                    "redis-proxy ",
                    env!("CARGO_PKG_VERSION"),
                    "\nGET /{key} answers with the value of that key in Redis, from memory when it can.\n",
                    "A key of any bytes is written with %XX escapes; /?key={key} names it too.\n",
                    "Documentation: README.md and docs/ of the source. Health and metrics: the admin port.\n"
                ),
            ),
        }
    }

    fn of_failure(failure: &Failure, source: Source) -> Text {
        let (status, extra): (_, &[u8]) = match failure {
            Failure::Unavailable(_) | Failure::Overloaded => ((503, "Service Unavailable"), RETRY),
            Failure::Silent => ((504, "Gateway Timeout"), b""),
            Failure::WrongType(_) => ((409, "Conflict"), b""),
            Failure::Redis(_) | Failure::Garbled(_) | Failure::TooLarge(_) => ((502, "Bad Gateway"), b""),
        };
        Text { status, extra, cache_status: source.cache_status(), body: failure.to_string() }
    }
}

fn text(out: &mut Vec<u8>, text: &Text, form: Form, moment: &Moment<'_>) {
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(digits.format(text.status.0).as_bytes());
    out.push(b' ');
    out.extend_from_slice(text.status.1.as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(text.extra);
    out.extend_from_slice(b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: ");
    out.extend_from_slice(digits.format(text.body.len()).as_bytes());
    out.extend_from_slice(b"\r\nCache-Control: no-store\r\nCache-Status: redis-proxy; ");
    out.extend_from_slice(text.cache_status);
    if text.cache_status != BYPASS {
        out.extend_from_slice(moment.detail);
    }
    finish(out, form, moment);
    if !form.head_only {
        out.extend_from_slice(text.body.as_bytes());
    }
}
