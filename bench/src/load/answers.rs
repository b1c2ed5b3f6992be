//! Answers, counted and checked as they arrive.

use memchr::memmem::Finder;

use crate::arguments::{LoadArguments, RequestKind};

const OK: &[u8] = b"HTTP/1.1 200";
/// The longest head of an answer.
const HEAD_BYTES: usize = 16 * 1024;

/// What an answer must be.
#[derive(Debug)]
pub(crate) enum ExpectedAnswer {
    /// Status 200 and a body of this length, all of it `v`.
    Http { head_end: Box<Finder<'static>>, value_bytes: usize },
    /// These bytes.
    Resp { reply: Vec<u8> },
}

/// How far a connection has been read.
#[derive(Debug, Default)]
pub(crate) struct ReadProgress {
    /// The beginning of a head whose end has not come.
    head: Vec<u8>,
    /// Of an answer over HTTP: bytes of the body to come. Of one over RESP: bytes that have come.
    body: usize,
    /// Whether its first answer said how long its body is, as expected. The next ones must be as long: each ends where one
    /// begins.
    is_measured: bool,
}

/// An answer that is not what was asked for: what came.
#[derive(Debug)]
pub(crate) struct UnexpectedAnswer(pub(crate) String);

impl ExpectedAnswer {
    pub(crate) fn new(arguments: &LoadArguments) -> Self {
        let value_bytes = arguments.value_bytes;
        match arguments.kind {
            RequestKind::Http { .. } => {
                ExpectedAnswer::Http { head_end: Box::new(Finder::new(b"\r\n\r\n")), value_bytes }
            }
            RequestKind::Get => {
                let reply = format!("${value_bytes}\r\n{}\r\n", "v".repeat(value_bytes));
                ExpectedAnswer::Resp { reply: reply.into_bytes() }
            }
            RequestKind::Set => ExpectedAnswer::Resp { reply: b"+OK\r\n".to_vec() },
        }
    }

    /// Takes what came on a connection; how many answers are whole with it.
    ///
    /// # Errors
    /// Where one of them is not what was expected.
    pub(crate) fn read(&self, progress: &mut ReadProgress, bytes: &[u8]) -> Result<usize, UnexpectedAnswer> {
        match self {
            ExpectedAnswer::Http { head_end, value_bytes } if progress.head.is_empty() => {
                http(head_end, *value_bytes, progress, bytes)
            }
            ExpectedAnswer::Http { head_end, value_bytes } => {
                let mut whole = std::mem::take(&mut progress.head);
                whole.extend_from_slice(bytes);
                http(head_end, *value_bytes, progress, &whole)
            }
            ExpectedAnswer::Resp { reply } => resp(reply, progress, bytes),
        }
    }
}

fn http(
    head_end: &Finder<'_>,
    value_bytes: usize,
    progress: &mut ReadProgress,
    mut bytes: &[u8],
) -> Result<usize, UnexpectedAnswer> {
    let mut count = 0;
    while !bytes.is_empty() {
        if progress.body == 0 {
            let Some(end) = head_end.find(bytes) else {
                if bytes.len() > HEAD_BYTES {
                    return Err(unexpected(bytes));
                }
                progress.head.extend_from_slice(bytes);
                return Ok(count);
            };
            let head = &bytes[..end];
            if !head.starts_with(OK) || !(progress.is_measured || says_length(head, value_bytes)) {
                return Err(unexpected(bytes));
            }
            progress.is_measured = true;
            progress.body = value_bytes;
            bytes = &bytes[end + 4..];
        }
        let here = progress.body.min(bytes.len());
        if here > 0 && (bytes[0], bytes[here - 1]) != (b'v', b'v') {
            return Err(unexpected(bytes));
        }
        bytes = &bytes[here..];
        progress.body -= here;
        count += usize::from(progress.body == 0);
    }
    Ok(count)
}

/// Whether the head says that the body has this length. Not cheap.
fn says_length(head: &[u8], length: usize) -> bool {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    head.lines().any(|line| line.strip_prefix("content-length: ") == Some(&length.to_string()))
}

fn resp(reply: &[u8], progress: &mut ReadProgress, mut bytes: &[u8]) -> Result<usize, UnexpectedAnswer> {
    let mut count = 0;
    while !bytes.is_empty() {
        let rest = &reply[progress.body..];
        let here = rest.len().min(bytes.len());
        if bytes[..here] != rest[..here] {
            return Err(unexpected(bytes));
        }
        bytes = &bytes[here..];
        progress.body += here;
        if progress.body == reply.len() {
            progress.body = 0;
            count += 1;
        }
    }
    Ok(count)
}

fn unexpected(bytes: &[u8]) -> UnexpectedAnswer {
    UnexpectedAnswer(String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::tests::arguments;

    const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nAge: 0\r\n\r\nvvvvv";

    /// Answers counted in `text` when it comes in pieces of this length.
    fn count(line: &str, text: &str, piece: usize) -> Result<usize, UnexpectedAnswer> {
        let expected = ExpectedAnswer::new(&arguments(line));
        let mut progress = ReadProgress::default();
        text.as_bytes().chunks(piece).map(|piece| expected.read(&mut progress, piece)).sum()
    }

    #[test]
    fn answers_are_counted_however_they_arrive() {
        let (http, resp) = (ANSWER.repeat(9), "$5\r\nvvvvv\r\n".repeat(9));
        for piece in 1..=http.len() {
            assert_eq!(count("7 --value-bytes 5", &http, piece).unwrap(), 9, "pieces of {piece}");
            assert_eq!(count("7 --protocol resp --value-bytes 5", &resp, piece).unwrap(), 9, "{piece}");
        }
        assert_eq!(count("7 --protocol resp --command set", "+OK\r\n+OK\r\n", 3).unwrap(), 2);
    }

    #[test]
    fn another_status_length_value_or_reply_is_an_error() {
        let second = |text: &str| format!("{ANSWER}{text}");
        for wrong in [
            ANSWER.replace("200", "404"),
            second(&ANSWER.replace("200", "503")),
            ANSWER.replace("length: 5", "length: 6"),
            second(&ANSWER.replace("vvvvv", "vvvvvv")) + ANSWER,
            ANSWER.replace("vvvvv", "wvvvv"),
            "x".repeat(HEAD_BYTES + 1),
        ] {
            assert!(count("7 --value-bytes 5", &wrong, wrong.len()).is_err(), "{wrong}");
        }
        for wrong in ["$-1\r\n", "-ERR no\r\n", "$5\r\nvvvvw\r\n", "$5\r\nvvvvv\r\n$4\r\nvvvv\r\n"] {
            assert!(count("7 --protocol resp --value-bytes 5", wrong, 4).is_err(), "{wrong}");
        }
    }
}
