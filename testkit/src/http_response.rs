//! A response, checked as it is read: a server under test is given no benefit of the doubt.

use std::fmt;

/// A response of the program.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    /// 200, 404, ...
    pub status: u16,
    /// The text after the status.
    pub reason: String,
    /// Names and values in the order they came.
    pub headers: Vec<(String, String)>,
    /// Exactly Content-Length bytes; empty for HEAD, 1xx, 204 and 304.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header, whatever its case; the first if there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header_values(name).next()
    }

    /// All values of a header, whatever its case.
    pub fn header_values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    ///
    /// # Panics
    /// When it is not UTF-8.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of text")
    }

    /// Reads a head, from the status line up to and with the empty line.
    ///
    /// # Errors
    /// Says what RFC 9112 does not allow.
    pub(crate) fn parse_head(head: &[u8]) -> Result<Response, String> {
        let head = std::str::from_utf8(head).map_err(|_| "a head that is not text")?;
        if head.replace("\r\n", "").contains(['\r', '\n']) {
            return Err("a bare CR or LF in the head".to_owned());
        }
        let head = head.strip_suffix("\r\n\r\n").ok_or("a head without an empty line")?;
        let mut lines = head.split("\r\n");
        let (status, reason) = parse_status_line(lines.next().unwrap_or_default())?;
        let headers = lines.map(parse_header).collect::<Result<_, _>>()?;
        Ok(Response { status, reason, headers, body: Vec::new() })
    }

    /// The number of body bytes that follow the head; `to_head` if it answers HEAD.
    ///
    /// # Errors
    /// Says what is wrong with the framing.
    pub(crate) fn body_length(&self, to_head: bool) -> Result<usize, String> {
        if self.header("transfer-encoding").is_some() {
            return Err("Transfer-Encoding, where Content-Length is expected".to_owned());
        }
        let lengths: Vec<&str> = self.header_values("content-length").collect();
        // RFC 9110, section 8.6: no Content-Length in 1xx and 204.
        let length = match (self.status, lengths.as_slice()) {
            (100..200 | 204, []) | (304, []) => return Ok(0),
            (100..200 | 204, _) => return Err("a Content-Length in a response that has no body".to_owned()),
            (_, [length]) => length,
            (_, []) => return Err("no Content-Length".to_owned()),
            (_, _) => return Err("more than one Content-Length".to_owned()),
        };
        if !length.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!("a Content-Length of {length:?}"));
        }
        let length = length.parse().map_err(|_| format!("a Content-Length of {length:?}"))?;
        Ok(if to_head || self.status == 304 { 0 } else { length })
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Response { status, reason, headers, body } = self;
        write!(f, "{status} {reason} {headers:?} ")?;
        match body.get(..200) {
            Some(start) => write!(f, "\"{}\"... ({} bytes)", start.escape_ascii(), body.len()),
            None => write!(f, "\"{}\"", body.escape_ascii()),
        }
    }
}

fn parse_status_line(line: &str) -> Result<(u16, String), String> {
    let wrong = || format!("the status line {line:?}");
    let rest = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 ")).ok_or_else(wrong)?;
    let (status, reason) = rest.split_once(' ').ok_or_else(wrong)?;
    let is_status = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit());
    if !is_status || !reason.bytes().all(is_text) {
        return Err(wrong());
    }
    Ok((status.parse().map_err(|_| wrong())?, reason.to_owned()))
}

fn parse_header(line: &str) -> Result<(String, String), String> {
    let wrong = || format!("the header line {line:?}");
    let (name, value) = line.split_once(':').ok_or_else(wrong)?;
    if name.is_empty()
        || !name.bytes().all(is_token)
        || !value.bytes().all(|byte| is_text(byte) || byte >= 0x80)
    {
        return Err(wrong());
    }
    Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}

fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~')
}

/// `tchar` of RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(head: &str, to_head: bool) -> Result<usize, String> {
        Response::parse_head(head.as_bytes()).and_then(|response| response.body_length(to_head))
    }

    #[test]
    fn a_head_is_read_in_order_and_found_whatever_the_case() {
        let head =
            b"HTTP/1.1 404 Not Found\r\nETag: \"a\"\r\nX-Y:\r\netag: \"b\" \r\nContent-Length: 3\r\n\r\n";
        let response = Response::parse_head(head).unwrap();
        assert_eq!((response.status, response.reason.as_str()), (404, "Not Found"));
        assert_eq!(response.headers[1], ("X-Y".to_owned(), String::new()));
        assert_eq!(response.header("etag"), Some("\"a\""));
        assert_eq!(response.header_values("ETAG").collect::<Vec<_>>(), ["\"a\"", "\"b\""]);
        assert_eq!(response.body_length(false), Ok(3));
    }

    #[test]
    fn a_body_is_as_long_as_the_status_and_the_method_say() {
        assert_eq!(length("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", false), Ok(7));
        assert_eq!(length("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", true), Ok(0));
        assert_eq!(length("HTTP/1.1 304 Not Modified\r\n\r\n", false), Ok(0));
        assert_eq!(length("HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", false), Ok(0));
        assert_eq!(length("HTTP/1.1 100 Continue\r\n\r\n", false), Ok(0));
    }

    #[test]
    fn what_rfc_9112_does_not_allow_is_refused() {
        let heads = [
            "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\n\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 O\x01K\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n: 0\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\x00\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        ];
        for head in heads {
            assert!(length(head, false).is_err(), "{head:?}");
        }
    }
}
