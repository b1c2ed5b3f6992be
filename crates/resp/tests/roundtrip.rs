//! Random frames survive encoding, any cutting into pieces, and decoding.
//!
//! A failure prints the smallest case found; `PROPTEST_RNG_SEED` repeats a run and `PROPTEST_CASES` lengthens it.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use resp::{DecodeError, Decoder, Frame, FrameLimits, Protocol};

const LIMITS: FrameLimits = FrameLimits {
    max_bulk_bytes: 10_000,
    max_elements: 10_000,
    max_depth: 8,
    max_line_bytes: 1000,
    max_frame_bytes: 1_000_000,
};

fn payload() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        4 => vec(any::<u8>(), 0..40),
        2 => vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'$'), Just(b'1')], 0..10),
        1 => vec(any::<u8>(), 1000..5000),
    ]
    .prop_map(Bytes::from)
}

fn line() -> impl Strategy<Value = Bytes> {
    payload().prop_map(|text| text.into_iter().filter(|byte| !b"\r\n".contains(byte)).take(900).collect())
}

fn leaf() -> impl Strategy<Value = Frame> {
    prop_oneof![
        line().prop_map(Frame::Simple),
        line().prop_map(Frame::Error),
        payload().prop_map(Frame::Error),
        any::<i64>().prop_map(Frame::Integer),
        payload().prop_map(Frame::Bulk),
        Just(Frame::Null),
        any::<bool>().prop_map(Frame::Boolean),
        any::<f64>().prop_map(|number| Frame::Double(Bytes::from(number.to_string()))),
        "[+-]?[0-9]{1,50}".prop_map(|digits| Frame::BigNumber(Bytes::from(digits))),
        (any::<[u8; 3]>(), payload()).prop_map(|(format, text)| Frame::Verbatim { format, text }),
    ]
}

fn frame() -> impl Strategy<Value = Frame> {
    leaf().prop_recursive(6, 60, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Frame::Array),
            vec(inner.clone(), 0..6).prop_map(Frame::Set),
            vec(inner.clone(), 0..6).prop_map(Frame::Push),
            vec((inner.clone(), inner), 0..4).prop_map(Frame::Map),
        ]
    })
}

/// Feeds `stream` in pieces of the given sizes, over and over.
fn decode(stream: &[u8], sizes: &[usize]) -> Result<Vec<Frame>, DecodeError> {
    let mut decoder = Decoder::new(LIMITS);
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    let mut rest = stream;
    for size in sizes.iter().cycle() {
        let (piece, after) = rest.split_at(rest.len().min(*size));
        buffer.reserve(decoder.wanted().min(4096));
        buffer.extend_from_slice(piece);
        while let Some(frame) = decoder.decode(&mut buffer)? {
            frames.push(frame);
        }
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    Ok(frames)
}

fn encode(frames: &[Frame], protocol: Protocol) -> BytesMut {
    let mut out = BytesMut::new();
    for frame in frames {
        frame.encode(&mut out, protocol);
    }
    out
}

/// What RESP2 can say of a frame: the judge of the encoder's conversions.
fn as_resp2(frame: &Frame) -> Frame {
    let all = |items: &[Frame]| items.iter().map(as_resp2).collect();
    match frame {
        Frame::Array(items) | Frame::Set(items) | Frame::Push(items) => Frame::Array(all(items)),
        Frame::Map(pairs) => {
            Frame::Array(pairs.iter().flat_map(|(key, value)| [as_resp2(key), as_resp2(value)]).collect())
        }
        Frame::Boolean(truth) => Frame::Integer(i64::from(*truth)),
        Frame::Double(text) | Frame::BigNumber(text) | Frame::Verbatim { text, .. } => {
            Frame::Bulk(text.clone())
        }
        Frame::Error(text) => {
            Frame::Error(text.iter().map(|&byte| if b"\r\n".contains(&byte) { b' ' } else { byte }).collect())
        }
        other => other.clone(),
    }
}

/// Errors over the line limit only fit RESP3's `!`, and the encoder does not know the reader's limits.
fn fits_a_line(frame: &Frame) -> bool {
    match frame {
        Frame::Error(text) => text.len() <= LIMITS.max_line_bytes,
        Frame::Array(items) | Frame::Set(items) | Frame::Push(items) => items.iter().all(fits_a_line),
        Frame::Map(pairs) => pairs.iter().all(|(key, value)| fits_a_line(key) && fits_a_line(value)),
        _ => true,
    }
}

proptest! {
    #[test]
    fn frames_survive_resp3_in_any_pieces(
        frames in vec(frame().prop_filter("errors fit", fits_a_line), 1..5),
        sizes in vec(1usize..200, 1..20),
    ) {
        let stream = encode(&frames, Protocol::Resp3);
        prop_assert_eq!(decode(&stream, &sizes), Ok(frames));
    }

    #[test]
    fn frames_survive_resp2_as_far_as_it_can_say_them(
        frames in vec(frame().prop_filter("errors fit", fits_a_line), 1..5),
        sizes in vec(1usize..200, 1..20),
    ) {
        let stream = encode(&frames, Protocol::Resp2);
        prop_assert_eq!(decode(&stream, &sizes), Ok(frames.iter().map(as_resp2).collect()));
    }

    #[test]
    fn a_damaged_stream_is_judged_alike_in_any_pieces(
        frames in vec(frame(), 1..4),
        damage in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
        sizes in vec(1usize..50, 1..20),
    ) {
        let mut stream = encode(&frames, Protocol::Resp3);
        for (place, byte) in damage {
            let place = place.index(stream.len());
            stream[place] = byte;
        }
        let whole = decode(&stream, &[usize::MAX]);
        prop_assert_eq!(decode(&stream, &sizes), whole.clone());
        prop_assert!(whole.is_err() || whole.is_ok_and(|frames| frames.len() <= stream.len()));
    }
}
