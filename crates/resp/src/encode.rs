//! Commands and frames to bytes.

use bytes::{BufMut, Bytes, BytesMut};

use crate::Frame;

/// The version of RESP that a connection speaks; `HELLO` chooses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Strings, errors, integers, arrays and nulls.
    Resp2,
    /// All frames.
    Resp3,
}

/// Appends a command: an array of bulk strings, the form Redis reads in both protocol versions.
///
/// Costs one reservation and the copies. `arguments` starts with the command's name and is not empty: Redis answers
/// nothing to an empty array, and every later answer would be taken for the wrong command's.
pub fn encode_command(out: &mut BytesMut, arguments: &[&[u8]]) {
    debug_assert!(!arguments.is_empty(), "an empty command has no answer");
    let payload: usize = arguments.iter().map(|argument| argument.len() + LENGTH_LINE).sum();
    out.reserve(payload + LENGTH_LINE);
    put_header(out, b'*', arguments.len());
    for argument in arguments {
        put_string(out, b'$', &[argument]);
    }
}

impl Frame {
    /// Appends this frame as `protocol` writes it.
    ///
    /// RESP3's own types become in RESP2 what Redis 7.0 makes of them where the conversion is mechanical (networking.c,
    /// the `addReply*` functions): a map a flat array, a set and a push an array, a boolean 1 or 0, a double, big number
    /// or verbatim string a bulk string, null `$-1`. Commands that answer in another *shape* in RESP2 (ZRANGE
    /// WITHSCORES, for one) are not helped by this.
    ///
    /// CR and LF in a line become spaces, as in Redis; in RESP3 an error that has them is sent as `!`. An oversized
    /// value, having no bytes, becomes an error that says so. Recurses as deep as the frame is.
    pub fn encode(&self, out: &mut BytesMut, protocol: Protocol) {
        let resp3 = protocol == Protocol::Resp3;
        match self {
            Self::Simple(text) => put_line(out, b'+', text),
            Self::Error(text) if resp3 && has_line_end(text) => put_string(out, b'!', &[text]),
            Self::Error(text) => put_line(out, b'-', text),
            Self::Integer(number) => put_line(out, b':', itoa::Buffer::new().format(*number).as_bytes()),
            Self::Bulk(text) => put_string(out, b'$', &[text]),
            Self::Null => out.put_slice(if resp3 { b"_\r\n" } else { b"$-1\r\n" }),
            Self::Array(items) => put_items(out, b'*', items, protocol),
            Self::Set(items) => put_items(out, if resp3 { b'~' } else { b'*' }, items, protocol),
            Self::Push(items) => put_items(out, if resp3 { b'>' } else { b'*' }, items, protocol),
            Self::Map(pairs) => {
                let (kind, count) = if resp3 { (b'%', pairs.len()) } else { (b'*', pairs.len() * 2) };
                put_header(out, kind, count);
                for (key, value) in pairs {
                    key.encode(out, protocol);
                    value.encode(out, protocol);
                }
            }
            Self::Boolean(true) => out.put_slice(if resp3 { b"#t\r\n" } else { b":1\r\n" }),
            Self::Boolean(false) => out.put_slice(if resp3 { b"#f\r\n" } else { b":0\r\n" }),
            Self::Double(text) if resp3 => put_line(out, b',', text),
            Self::BigNumber(text) if resp3 => put_line(out, b'(', text),
            Self::Double(text) | Self::BigNumber(text) => put_string(out, b'$', &[text]),
            Self::Verbatim { format, text } if resp3 => put_string(out, b'=', &[format, b":", text]),
            Self::Verbatim { text, .. } => put_string(out, b'$', &[text]),
            Self::Oversized { announced } => {
                let text = format!("ERR a reply of {announced} bytes is over the size limit");
                Self::Error(Bytes::from(text)).encode(out, protocol);
            }
        }
    }
}

/// Room for a type byte, twenty digits, CRLF, and the CRLF after a string.
const LENGTH_LINE: usize = 25;

fn put_header(out: &mut BytesMut, kind: u8, number: usize) {
    out.put_u8(kind);
    out.put_slice(itoa::Buffer::new().format(number).as_bytes());
    out.put_slice(b"\r\n");
}

/// A string with its length in front, given in pieces.
fn put_string(out: &mut BytesMut, kind: u8, pieces: &[&[u8]]) {
    put_header(out, kind, pieces.iter().map(|piece| piece.len()).sum());
    for piece in pieces {
        out.put_slice(piece);
    }
    out.put_slice(b"\r\n");
}

fn put_items(out: &mut BytesMut, kind: u8, items: &[Frame], protocol: Protocol) {
    put_header(out, kind, items.len());
    for item in items {
        item.encode(out, protocol);
    }
}

/// A line must stay one line, or its text could pass for the next frame.
fn put_line(out: &mut BytesMut, kind: u8, text: &[u8]) {
    out.put_u8(kind);
    if has_line_end(text) {
        out.extend(text.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
    } else {
        out.put_slice(text);
    }
    out.put_slice(b"\r\n");
}

fn has_line_end(text: &[u8]) -> bool {
    memchr::memchr2(b'\r', b'\n', text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(frame: &Frame, protocol: Protocol) -> String {
        let mut out = BytesMut::new();
        frame.encode(&mut out, protocol);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        let mut out = BytesMut::new();
        encode_command(&mut out, &[b"SET", b"k\r\n", b""]);
        encode_command(&mut out, &[b"PING"]);
        assert_eq!(&out[..], b"*3\r\n$3\r\nSET\r\n$3\r\nk\r\n\r\n$0\r\n\r\n*1\r\n$4\r\nPING\r\n");
    }

    #[test]
    fn a_command_grows_its_buffer_once() {
        let mut out = BytesMut::new();
        let argument = [b'x'; 1000];
        let arguments: Vec<&[u8]> = vec![&argument; 100];
        out.reserve(100 * (1000 + LENGTH_LINE) + LENGTH_LINE);
        let capacity = out.capacity();
        encode_command(&mut out, &arguments);
        assert_eq!(out.capacity(), capacity);
    }

    #[test]
    fn resp3_types_become_in_resp2_what_redis_makes_of_them() {
        // redis-server 7.0.15 to DEBUG PROTOCOL, on a RESP2 and a RESP3 connection.
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        let cases = [
            (Frame::Double(bytes("3.141")), "$5\r\n3.141\r\n", ",3.141\r\n"),
            (Frame::Null, "$-1\r\n", "_\r\n"),
            (
                Frame::Set(vec![Frame::Integer(0), Frame::Integer(1)]),
                "*2\r\n:0\r\n:1\r\n",
                "~2\r\n:0\r\n:1\r\n",
            ),
            (
                Frame::Map(vec![(Frame::Integer(1), Frame::Boolean(true))]),
                "*2\r\n:1\r\n:1\r\n",
                "%1\r\n:1\r\n#t\r\n",
            ),
            (Frame::Push(vec![Frame::Integer(42)]), "*1\r\n:42\r\n", ">1\r\n:42\r\n"),
            (
                Frame::Verbatim { format: *b"txt", text: bytes("a\nb") },
                "$3\r\na\nb\r\n",
                "=7\r\ntxt:a\nb\r\n",
            ),
            (Frame::Boolean(false), ":0\r\n", "#f\r\n"),
            (Frame::BigNumber(bytes("123")), "$3\r\n123\r\n", "(123\r\n"),
        ];
        for (frame, resp2, resp3) in cases {
            assert_eq!(encoded(&frame, Protocol::Resp2), resp2);
            assert_eq!(encoded(&frame, Protocol::Resp3), resp3);
        }
    }

    #[test]
    fn a_line_end_in_a_text_cannot_start_a_frame_of_its_own() {
        let text = Bytes::from_static(b"a\r\n+b");
        assert_eq!(encoded(&Frame::Simple(text.clone()), Protocol::Resp3), "+a  +b\r\n");
        assert_eq!(encoded(&Frame::Error(text.clone()), Protocol::Resp2), "-a  +b\r\n");
        assert_eq!(encoded(&Frame::Error(text), Protocol::Resp3), "!5\r\na\r\n+b\r\n");
    }

    #[test]
    fn an_oversized_value_says_so() {
        let error = "-ERR a reply of 7 bytes is over the size limit\r\n";
        assert_eq!(encoded(&Frame::Oversized { announced: 7 }, Protocol::Resp2), error);
    }
}
