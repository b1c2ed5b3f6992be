//! Replies that the proxy makes itself.

use bytes::{Bytes, BytesMut};
use resp::{Frame, Protocol};

/// `+text`.
pub(crate) fn simple(text: &'static str) -> Frame {
    Frame::Simple(Bytes::from_static(text.as_bytes()))
}

/// `-text`; the text has its code first.
pub(crate) fn error(text: impl Into<Bytes>) -> Frame {
    Frame::Error(text.into())
}

pub(crate) fn integer(number: u64) -> Frame {
    Frame::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// As much of a word as C prints of it: Redis' error texts end it at a NUL.
pub(crate) fn c_text(word: &[u8]) -> &[u8] {
    word.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Appends `frame`, an error always on one line, as Redis does.
pub(crate) fn put(out: &mut Vec<u8>, frame: &Frame, protocol: Protocol) {
    match frame {
        Frame::Error(text) => {
            out.push(b'-');
            let space = |byte: &u8| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte };
            out.extend(text.iter().map(space));
            out.extend_from_slice(b"\r\n");
        }
        frame => {
            let mut bytes = BytesMut::new();
            frame.encode(&mut bytes, protocol);
            out.extend_from_slice(&bytes);
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "below ten")]
fn digit(digit: u16) -> u8 {
    b'0' + digit as u8
}

/// The line of an array, a map, a set or a bulk string.
#[inline]
pub(crate) fn header(out: &mut Vec<u8>, kind: u8, count: usize) -> Option<()> {
    // As most are.
    match u16::try_from(count) {
        Ok(few @ 0..=9) => out.extend_from_slice(&[kind, digit(few), b'\r', b'\n']),
        Ok(few @ 10..=99) => {
            out.extend_from_slice(&[kind, digit(few / 10), digit(few % 10), b'\r', b'\n']);
        }
        Ok(few @ 100..=999) => {
            let digits = [few / 100, few / 10 % 10, few % 10].map(digit);
            out.extend_from_slice(&[kind, digits[0], digits[1], digits[2], b'\r', b'\n']);
        }
        _ => {
            out.push(kind);
            out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
    Some(())
}
