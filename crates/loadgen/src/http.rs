//! HTTP as the generator speaks it: the bytes of a GET, and the answers in what a connection reads.

use std::io::Write;

use crate::options::Options;

/// The longest head of an answer.
const HEAD_BYTES: usize = 16 * 1024;
/// The most header fields of an answer.
const HEADERS: usize = 64;

/// Makes requests. All are equally long, so that a server that only counts bytes can be measured as well.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    before: Vec<u8>,
    digits: usize,
    after: Vec<u8>,
}

impl Requests {
    pub(crate) fn new(options: &Options) -> Self {
        Requests {
            before: format!("GET /{}", options.key_prefix).into_bytes(),
            digits: options.digits(),
            after: format!(" HTTP/1.1\r\nHost: {}\r\n\r\n", options.authority).into_bytes(),
        }
    }

    /// Appends the GET of the key with this number.
    pub(crate) fn push(&self, out: &mut Vec<u8>, number: u64) {
        out.extend_from_slice(&self.before);
        let digits = self.digits;
        // A Vec takes all that is written to it.
        let _ = write!(out, "{number:0digits$}");
        out.extend_from_slice(&self.after);
    }

    /// The length of a request.
    pub(crate) fn bytes(&self) -> usize {
        self.before.len() + self.digits + self.after.len()
    }
}

/// A whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    /// What it says of its origin: a cache's memory or not; `None` where it says nothing.
    pub(crate) hit: Option<bool>,
    pub(crate) body_bytes: u64,
    /// The server closes the connection behind it.
    pub(crate) is_last: bool,
}

/// What arrived is not an answer, or one whose end cannot be found: chunked, or without a length.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Garbled;

/// Takes answers apart, however they arrive. Bodies are counted and dropped.
#[derive(Debug, Default)]
pub(crate) struct ResponseReader {
    /// The beginning of a head whose end has not come.
    head: Vec<u8>,
    /// An answer whose body is on its way, and what is missing of it.
    body: Option<(ResponseHead, u64)>,
}

impl ResponseReader {
    /// Reads `bytes` and tells every answer that is whole with them.
    pub(crate) fn read(
        &mut self,
        mut bytes: &[u8],
        mut tell: impl FnMut(ResponseHead),
    ) -> Result<(), Garbled> {
        while !bytes.is_empty() {
            let (answer, left) = match self.body.take() {
                Some(body) => body,
                None => match self.head(&mut bytes)? {
                    Some(answer) => (answer, answer.body_bytes),
                    None => return Ok(()),
                },
            };
            let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            bytes = &bytes[here..];
            let left = left - here as u64;
            if left == 0 {
                tell(answer);
            } else {
                self.body = Some((answer, left));
            }
        }
        Ok(())
    }

    /// Whether half an answer has been read.
    pub(crate) fn is_within(&self) -> bool {
        self.body.is_some() || !self.head.is_empty()
    }

    /// Takes a head off `bytes`, or keeps its beginning.
    fn head(&mut self, bytes: &mut &[u8]) -> Result<Option<ResponseHead>, Garbled> {
        if self.head.is_empty() {
            if let Some((answer, length)) = parse(bytes)? {
                *bytes = &bytes[length..];
                return Ok(Some(answer));
            }
            self.head.extend_from_slice(bytes);
        } else {
            let before = self.head.len();
            let room = HEAD_BYTES.saturating_sub(before).min(bytes.len());
            self.head.extend_from_slice(&bytes[..room]);
            if let Some((answer, length)) = parse(&self.head)? {
                self.head.clear();
                *bytes = &bytes[length - before..];
                return Ok(Some(answer));
            }
        }
        *bytes = &[];
        if self.head.len() < HEAD_BYTES { Ok(None) } else { Err(Garbled) }
    }
}

/// The answer that a head announces, and the head's length; `None` where its end has not come.
fn parse(bytes: &[u8]) -> Result<Option<(ResponseHead, usize)>, Garbled> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(bytes).map_err(|_| Garbled)? else {
        return Ok(None);
    };
    let status = response.code.ok_or(Garbled)?;
    let mut is_last = response.version == Some(0);
    let mut body_bytes = (status == 204 || status == 304).then_some(0);
    let mut hit = None;
    for header in response.headers {
        let (name, value) = (header.name, header.value);
        if name.eq_ignore_ascii_case("content-length") && body_bytes.is_none() {
            let text = std::str::from_utf8(value).map_err(|_| Garbled)?;
            body_bytes = Some(text.trim().parse().map_err(|_| Garbled)?);
        } else if name.eq_ignore_ascii_case("connection") {
            is_last = if is_last { !has_word(value, b"keep-alive") } else { has_word(value, b"close") };
        } else if name.eq_ignore_ascii_case("cache-status") || name.eq_ignore_ascii_case("x-cache") {
            hit = Some(has_word(value, b"hit"));
        }
    }
    Ok(Some((ResponseHead { status, hit, body_bytes: body_bytes.ok_or(Garbled)?, is_last }, length)))
}

/// Whether `word` is one of the words of a field: `redis-proxy; hit`, `HIT from cache`, `keep-alive, x`.
fn has_word(value: &[u8], word: &[u8]) -> bool {
    value.split(|byte| b" ,;".contains(byte)).any(|part| part.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERS: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nCache-Status: redis-proxy; hit\r\n\r\nhello\
        HTTP/1.1 200 OK\r\ncontent-length: 0\r\ncache-status: redis-proxy; fwd=uri-miss; stored\r\n\r\n\
        HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n\
        HTTP/1.0 404 Not Found\r\nX-Cache: HIT\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nno\
        HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 1\r\n\r\n!";

    fn answer(status: u16, hit: Option<bool>, body_bytes: u64, is_last: bool) -> ResponseHead {
        ResponseHead { status, hit, body_bytes, is_last }
    }

    #[test]
    fn answers_are_the_same_however_they_arrive() {
        for size in 1..=ANSWERS.len() {
            let mut reader = ResponseReader::default();
            let mut told = Vec::new();
            for piece in ANSWERS.chunks(size) {
                reader.read(piece, |answer| told.push(answer)).unwrap();
            }
            let expected = [
                answer(200, Some(true), 5, false),
                answer(200, Some(false), 0, false),
                answer(304, None, 0, false),
                answer(404, Some(true), 2, false),
                answer(503, None, 1, true),
            ];
            assert_eq!(told, expected, "in pieces of {size}");
            assert!(!reader.is_within());
        }
    }

    #[test]
    fn half_an_answer_is_seen() {
        for half in [&b"HTTP/1.1 200"[..], b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"] {
            let mut reader = ResponseReader::default();
            reader.read(half, |answer| panic!("{answer:?}")).unwrap();
            assert!(reader.is_within());
        }
    }

    #[test]
    fn what_has_no_end_to_be_found_is_garbled() {
        let endless = [&b"HTTP/1.1 200 OK\r\nX: "[..], &[b'x'; HEAD_BYTES]].concat();
        let wrong: [&[u8]; 5] = [
            b"+PONG\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
            &endless,
        ];
        for bytes in wrong {
            assert_eq!(ResponseReader::default().read(bytes, |answer| panic!("{answer:?}")), Err(Garbled));
        }
    }
}
