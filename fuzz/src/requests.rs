//! The parser of clients' requests, fed with anything in pieces of any size.

use resp::{MAX_LINE_BYTES, Parsed, RequestError, RequestLimits, RequestParser};

/// What requests are made of, and what they are broken by.
pub(crate) const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\r",
    b"\n",
    b"\0",
    b" ",
    b"\t",
    b"\x0b",
    b"*",
    b"$",
    b"-",
    b"0",
    b"1",
    b"9",
    b"*0\r\n",
    b"*-1\r\n",
    b"*1\r\n",
    b"*2\r\n",
    b"*3\r\n",
    b"*11\r\n",
    b"$0\r\n\r\n",
    b"$1\r\na\r\n",
    b"$4\r\nPING\r\n",
    b"$3\r\nGET\r\n",
    b"$20\r\n01234567890123456789\r\n",
    b"PING\r\n",
    b"GET a\n",
    b"\"",
    b"'",
    b"\\",
    b"\\x4",
    b"\\x4f",
    b"\\n",
    b"'a b'",
    b"\"a b\"",
];

/// Small enough that short inputs reach them.
const TIGHT: RequestLimits = RequestLimits { max_arguments: 12, max_bulk_bytes: 30 };

/// Takes `data` for what a client sent and checks that the requests found, and the error that ends them, do not depend on
/// how the bytes were cut, and are those that a reader of the whole finds who works as Redis does.
///
/// # Panics
/// One of these does not hold.
pub fn request_parser(data: &[u8]) {
    for auth_required in [false, true] {
        let judged = judge(data, auth_required);
        assert_eq!(parse(data, auth_required, |_| usize::MAX), judged, "in one piece");
        assert_eq!(parse(data, auth_required, |_| 1), judged, "a byte at a time");
        assert_eq!(parse(data, auth_required, |at| usize::from(data[at] % 32) + 1), judged, "in pieces");
    }
}

/// The requests of a stream, each with the offset where it ends, and the error behind them.
#[derive(Debug, PartialEq)]
struct Decoded {
    requests: Vec<(usize, Vec<Vec<u8>>)>,
    error: Option<RequestError>,
}

fn parse(data: &[u8], auth_required: bool, size: impl Fn(usize) -> usize) -> Decoded {
    let mut parser = RequestParser::new(TIGHT);
    parser.set_auth_required(auth_required);
    let (mut start, mut end, mut requests) = (0, 0, Vec::new());
    while end < data.len() {
        end = end.saturating_add(size(end)).min(data.len());
        loop {
            let input = &data[start..end];
            match parser.parse(input) {
                Ok(Parsed::Request { len, .. }) => {
                    let arguments = parser.arguments(input).iter().map(<[u8]>::to_vec).collect();
                    start += len;
                    requests.push((start, arguments));
                }
                Ok(Parsed::Nothing { len }) => start += len,
                Ok(Parsed::Partial { wanted }) => {
                    assert!(wanted > 0 && wanted <= TIGHT.max_bulk_bytes + 2, "wants {wanted}");
                    break;
                }
                Ok(part @ Parsed::Part { .. }) => panic!("nobody asked for {part:?}"),
                Err(error) => return Decoded { requests, error: Some(error) },
            }
        }
    }
    Decoded { requests, error: None }
}

/// Reads the whole as `processInputBuffer` of Redis does, without a thought for speed.
fn judge(data: &[u8], auth_required: bool) -> Decoded {
    let (mut rest, mut requests) = (data, Vec::new());
    let error = loop {
        let request = match rest.first() {
            None => break None,
            Some(b'*') => multibulk(&mut rest, auth_required),
            Some(_) => inline(&mut rest),
        };
        match request {
            Ok(request) if request.is_empty() => {}
            Ok(request) => requests.push((data.len() - rest.len(), request)),
            Err(error) => break error,
        }
    };
    Decoded { requests, error }
}

type Request = Result<Vec<Vec<u8>>, Option<RequestError>>;

/// `strchr`, and the limit of a line.
fn find(text: &[u8], byte: u8, too_long: RequestError) -> Result<usize, Option<RequestError>> {
    let visible = text.split(|byte| *byte == 0).next().expect("split gives one at least");
    match visible.iter().position(|found| *found == byte) {
        Some(end) if end <= MAX_LINE_BYTES => Ok(end),
        _ if text.len() > MAX_LINE_BYTES => Err(Some(too_long)),
        _ => Err(None),
    }
}

fn line<'a>(rest: &mut &'a [u8], too_long: RequestError) -> Result<&'a [u8], Option<RequestError>> {
    let end = find(rest, b'\r', too_long)?;
    let line = &rest[..end];
    *rest = rest.get(end + 2..).ok_or(None)?;
    Ok(line)
}

fn number(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number) // so no plus sign, no leading zero
}

fn multibulk(rest: &mut &[u8], auth_required: bool) -> Request {
    let count = number(&line(rest, RequestError::TooBigCount)?[1..]).ok_or(RequestError::InvalidCount)?;
    if count > TIGHT.max_arguments as i64 {
        return Err(Some(RequestError::InvalidCount));
    }
    if count > 10 && auth_required {
        return Err(Some(RequestError::UnauthenticatedCount));
    }
    let mut request = Vec::new();
    for _ in 0..count {
        let text = line(rest, RequestError::TooBigLength)?;
        match text.first() {
            Some(b'$') => {}
            Some(byte) => return Err(Some(RequestError::NoBulk(*byte))),
            None => return Err(Some(RequestError::NoBulk(b'\r'))),
        }
        let length = number(&text[1..]).and_then(|length| usize::try_from(length).ok());
        let length = length.filter(|length| *length <= TIGHT.max_bulk_bytes);
        let length = length.ok_or(RequestError::InvalidLength)?;
        request.push(rest.get(..length).ok_or(None)?.to_vec());
        *rest = rest.get(length + 2..).ok_or(None)?;
    }
    Ok(request)
}

fn inline(rest: &mut &[u8]) -> Request {
    let end = find(rest, b'\n', RequestError::TooBigInline)?;
    let mut line = rest[..end].to_vec();
    *rest = &rest[end + 1..];
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    line.extend_from_slice(&[0; 4]); // C's end of a string, so that looking ahead is always possible
    words(&line).ok_or(Some(RequestError::UnbalancedQuotes))
}

/// `sdssplitargs`, its state as in C.
fn words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let is_space = |byte: u8| b" \t\n\x0b\x0c\r".contains(&byte);
    let (mut at, mut words) = (0, Vec::new());
    loop {
        while is_space(line[at]) {
            at += 1;
        }
        if line[at] == 0 {
            return Some(words);
        }
        let (mut word, mut quote) = (Vec::new(), None);
        loop {
            let (byte, next) = (line[at], line[at + 1]);
            match (quote, byte) {
                (None, b' ' | b'\n' | b'\r' | b'\t' | 0) => break,
                (None, b'"' | b'\'') => quote = Some(byte),
                (Some(_), 0) => return None,
                (Some(b'\''), b'\\') if next == b'\'' => {
                    word.push(next);
                    at += 1;
                }
                (Some(b'"'), b'\\') if next != 0 => {
                    let hex = std::str::from_utf8(&line[at + 2..at + 4]).ok();
                    let hex = hex.filter(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit()));
                    match hex.filter(|_| next == b'x') {
                        Some(hex) => {
                            word.push(u8::from_str_radix(hex, 16).ok()?);
                            at += 3;
                        }
                        None => {
                            let escapes = b"n\nr\rt\tb\x08a\x07".chunks(2);
                            let known = escapes.filter(|pair| pair[0] == next).map(|pair| pair[1]).next();
                            word.push(known.unwrap_or(next));
                            at += 1;
                        }
                    }
                }
                (Some(open), _) if open == byte => {
                    if next != 0 && !is_space(next) {
                        return None;
                    }
                    at += 1;
                    break;
                }
                _ => word.push(byte),
            }
            at += 1;
        }
        words.push(word);
    }
}
