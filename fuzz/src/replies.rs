//! The decoder of Redis' replies, fed with anything in pieces of any size.

use bytes::BytesMut;
use resp::{DecodeError, Decoder, Frame, FrameLimits, Protocol};

use crate::naive;

/// What replies are made of, and what they are broken by.
pub(crate) const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\r",
    b"\n",
    b"+",
    b"-",
    b":",
    b"$",
    b"*",
    b"_\r\n",
    b"#t\r\n",
    b"#f",
    b",1.5\r\n",
    b",inf\r\n",
    b"(12\r\n",
    b"!",
    b"=",
    b"%",
    b"~",
    b">",
    b"|",
    b";",
    b".",
    b"?",
    b"0",
    b"1",
    b"2",
    b"9",
    b"-1",
    b"18446744073709551615",
    b"$0\r\n\r\n",
    b"$3\r\nabc\r\n",
    b"$-1\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"*1\r\n",
    b"*2\r\n",
    b"%1\r\n",
    b"~2\r\n",
    b">1\r\n",
    b"|1\r\n",
    b":7\r\n",
    b"+OK\r\n",
    b"-ERR\r\n",
    b"=7\r\ntxt:abc\r\n",
    b"$9\r\n012345678\r\n",
    b"!3\r\n\r\n\r\r\n",
];

/// Small enough that short inputs reach every one of them.
const TIGHT: FrameLimits = FrameLimits {
    max_bulk_bytes: 8,
    max_elements: 12,
    max_depth: 4,
    max_line_bytes: 20,
    max_frame_bytes: 12,
};

const WIDE: FrameLimits = FrameLimits {
    max_bulk_bytes: 1 << 20,
    max_elements: 1 << 16,
    max_depth: 64,
    max_line_bytes: 1 << 20,
    max_frame_bytes: 1 << 24,
};

/// Takes `data` for what a server sent and checks, with tight limits and with wide ones:
///
/// - what comes out does not depend on how the bytes were cut, and is what a naive parser of the whole input finds;
/// - nothing above the limits is kept in frames, in the buffer or asked for by `wanted`;
/// - an error is for ever;
/// - the frames survive encoding and decoding.
///
/// # Panics
/// One of these does not hold.
pub fn resp_decoder(data: &[u8]) {
    for limits in [TIGHT, WIDE] {
        let judged = naive::decode(limits, data);
        assert_eq!(decode(limits, data, |_| usize::MAX), judged, "in one piece");
        assert_eq!(decode(limits, data, |_| 1), judged, "a byte at a time");
        assert_eq!(decode(limits, data, |at| usize::from(data[at] % 32) + 1), judged, "in pieces");
        judged.frames.iter().for_each(survives_encoding);
    }
}

/// All that came out of a stream: its frames, and the error that ended it.
#[derive(Debug, PartialEq)]
pub(crate) struct Decoded {
    pub(crate) frames: Vec<Frame>,
    pub(crate) error: Option<DecodeError>,
}

/// Feeds `data` in pieces; `size` gives the length of the one that starts at an offset.
fn decode(limits: FrameLimits, data: &[u8], size: impl Fn(usize) -> usize) -> Decoded {
    let mut decoder = Decoder::new(limits);
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    let mut at = 0;
    while at < data.len() {
        let end = at.saturating_add(size(at)).min(data.len());
        buffer.extend_from_slice(&data[at..end]);
        at = end;
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(frame)) => {
                    let size = Size::of(&frame);
                    assert!(size.elements <= limits.max_elements, "{size:?}");
                    assert!(size.depth <= limits.max_depth, "{size:?}");
                    assert!(size.payload <= limits.max_frame_bytes, "{size:?}");
                    frames.push(frame);
                }
                Ok(None) => break,
                Err(error) => {
                    let mut fresh = BytesMut::from("+OK\r\n");
                    assert_eq!(decoder.decode(&mut fresh), Err(error), "an error is for ever");
                    return Decoded { frames, error: Some(error) };
                }
            }
        }
        let most = limits.max_bulk_bytes.max(limits.max_line_bytes) + 2;
        assert!(buffer.len() <= most, "{} bytes wait in the buffer", buffer.len());
        assert!(decoder.wanted() <= limits.max_bulk_bytes + 2, "wants {}", decoder.wanted());
    }
    Decoded { frames, error: None }
}

fn survives_encoding(frame: &Frame) {
    if Size::of(frame).oversized {
        return; // encoded as an error
    }
    let mut wire = BytesMut::new();
    frame.encode(&mut wire, Protocol::Resp3);
    let again = decode(WIDE, &wire, |_| usize::MAX);
    assert_eq!(again, Decoded { frames: vec![frame.clone()], error: None });
}

#[derive(Debug, Default)]
struct Size {
    elements: usize,
    depth: usize,
    payload: usize,
    oversized: bool,
}

impl Size {
    fn of(frame: &Frame) -> Self {
        let mut size = Self { elements: 1, ..Self::default() };
        match frame {
            Frame::Array(items) | Frame::Set(items) | Frame::Push(items) => size.aggregate(items.iter()),
            Frame::Map(pairs) => size.aggregate(pairs.iter().flat_map(|(key, value)| [key, value])),
            Frame::Simple(text) | Frame::Error(text) | Frame::Bulk(text) => size.payload = text.len(),
            Frame::Double(text) | Frame::BigNumber(text) => size.payload = text.len(),
            Frame::Verbatim { text, .. } => size.payload = text.len() + 4,
            Frame::Oversized { .. } => size.oversized = true,
            Frame::Integer(_) | Frame::Null | Frame::Boolean(_) => {}
        }
        size
    }

    fn aggregate<'a>(&mut self, items: impl Iterator<Item = &'a Frame>) {
        for item in items.map(Self::of) {
            self.elements += item.elements;
            self.depth = self.depth.max(item.depth);
            self.payload += item.payload;
            self.oversized |= item.oversized;
        }
        self.depth += 1;
    }
}
