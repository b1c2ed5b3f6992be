use super::*;

const LIMITS: FrameLimits = FrameLimits {
    max_bulk_bytes: 1000,
    max_elements: 1000,
    max_depth: 20,
    max_line_bytes: 200,
    max_frame_bytes: 5000,
};

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn bulk(content: &str) -> Frame {
    Frame::Bulk(text(content))
}

/// All that `bytes` decode to, fed in pieces of `piece` bytes.
fn decode_in_pieces(limits: FrameLimits, bytes: &[u8], piece: usize) -> Result<Vec<Frame>, DecodeError> {
    let mut decoder = Decoder::new(limits);
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    for piece in bytes.chunks(piece) {
        buffer.extend_from_slice(piece);
        while let Some(frame) = decoder.decode(&mut buffer)? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

fn decode(bytes: &[u8]) -> Result<Vec<Frame>, DecodeError> {
    decode_in_pieces(LIMITS, bytes, usize::MAX)
}

fn refusal(bytes: &[u8]) -> DecodeError {
    decode(bytes).expect_err("to be refused")
}

/// What redis-server 7.0.15 sent (to DEBUG PROTOCOL, HELLO, ZRANGE WITHSCORES, LPOP, invalidations), and what the
/// protocol page adds to it.
fn samples() -> Vec<(&'static [u8], Frame)> {
    let ints = |range: std::ops::Range<i64>| range.map(Frame::Integer).collect::<Vec<_>>();
    vec![
        (b"+OK\r\n", Frame::Simple(text("OK"))),
        (b"+\r\n", Frame::Simple(Bytes::new())),
        (b"-ERR no such key\r\n", Frame::Error(text("ERR no such key"))),
        (b":12345\r\n", Frame::Integer(12345)),
        (b":-9223372036854775808\r\n", Frame::Integer(i64::MIN)),
        (b"$11\r\nHello World\r\n", bulk("Hello World")),
        (b"$0\r\n\r\n", bulk("")),
        (b"$4\r\n\r\n\r\n\r\n", bulk("\r\n\r\n")),
        (b"$-1\r\n", Frame::Null),
        (b"*-1\r\n", Frame::Null),
        (b"_\r\n", Frame::Null),
        (b"*0\r\n", Frame::Array(vec![])),
        (b"*3\r\n:0\r\n:1\r\n:2\r\n", Frame::Array(ints(0..3))),
        (b"*2\r\n$-1\r\n*1\r\n*0\r\n", Frame::Array(vec![Frame::Null, Frame::Array(vec![Frame::Array(vec![])])])),
        (b"~3\r\n:0\r\n:1\r\n:2\r\n", Frame::Set(ints(0..3))),
        (b"%0\r\n", Frame::Map(vec![])),
        (
            b"%2\r\n:0\r\n#f\r\n$5\r\nproto\r\n*1\r\n:3\r\n",
            Frame::Map(vec![
                (Frame::Integer(0), Frame::Boolean(false)),
                (bulk("proto"), Frame::Array(vec![Frame::Integer(3)])),
            ]),
        ),
        (b",3.141\r\n", Frame::Double(text("3.141"))),
        (b",1.0000000000000001e+300\r\n", Frame::Double(text("1.0000000000000001e+300"))),
        (b",-inf\r\n", Frame::Double(text("-inf"))),
        (b"#t\r\n", Frame::Boolean(true)),
        (b"#f\r\n", Frame::Boolean(false)),
        (b"(1234567999999999999999999999999999999\r\n", Frame::BigNumber(text("1234567999999999999999999999999999999"))),
        (
            b"=29\r\ntxt:This is a verbatim\nstring\r\n",
            Frame::Verbatim { format: *b"txt", text: text("This is a verbatim\nstring") },
        ),
        (b"!11\r\nSYNTAX\r\nbad\r\n", Frame::Error(text("SYNTAX\r\nbad"))),
        (
            b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nx\r\n",
            Frame::Push(vec![bulk("invalidate"), Frame::Array(vec![bulk("x")])]),
        ),
        (b">2\r\n$10\r\ninvalidate\r\n_\r\n", Frame::Push(vec![bulk("invalidate"), Frame::Null])),
        (
            b"*1\r\n>3\r\n$10\r\npsubscribe\r\n$2\r\na*\r\n:1\r\n",
            Frame::Array(vec![Frame::Push(vec![bulk("psubscribe"), bulk("a*"), Frame::Integer(1)])]),
        ),
        (
            b"|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n$39\r\nSome real reply following the attribute\r\n",
            bulk("Some real reply following the attribute"),
        ),
        (b"*3\r\n:1\r\n:2\r\n|1\r\n+ttl\r\n:3600\r\n:3\r\n", Frame::Array(ints(1..4))),
        (b"|0\r\n|1\r\n|1\r\n+a\r\n+b\r\n+c\r\n+d\r\n:7\r\n", Frame::Integer(7)),
    ]
}

#[test]
fn every_type_is_decoded() {
    for (bytes, frame) in samples() {
        assert_eq!(decode(bytes), Ok(vec![frame]), "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_stream_cut_anywhere_gives_the_same_frames() {
    let (stream, frames): (Vec<_>, Vec<_>) = samples().into_iter().unzip();
    let stream = stream.concat();
    for split in 0..=stream.len() {
        let mut decoder = Decoder::new(LIMITS);
        let mut buffer = BytesMut::from(&stream[..split]);
        let mut seen = Vec::new();
        while let Some(frame) = decoder.decode(&mut buffer).expect("valid") {
            seen.push(frame);
        }
        buffer.extend_from_slice(&stream[split..]);
        while let Some(frame) = decoder.decode(&mut buffer).expect("valid") {
            seen.push(frame);
        }
        assert_eq!(seen, frames, "cut at {split}");
        assert!(buffer.is_empty());
    }
    for piece in 1..9 {
        assert_eq!(decode_in_pieces(LIMITS, &stream, piece).as_ref(), Ok(&frames), "pieces of {piece}");
    }
}

#[test]
fn a_cut_reply_is_no_reply() {
    for (bytes, _) in samples() {
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end]), Ok(vec![]), "{} cut at {end}", bytes.escape_ascii());
        }
    }
}

#[test]
fn what_redis_never_sends_is_refused() {
    use DecodeError::{BadInteger, BadLength, BadLineEnd, BadValue, Streamed, UnknownType};
    let cases: &[(&[u8], DecodeError)] = &[
        (b"HTTP/1.1 400 Bad Request\r\n", UnknownType(b'H')),
        (b"\x15\x03", UnknownType(0x15)),
        (b"\r\n", UnknownType(b'\r')),
        (b"*1\r\n\n", UnknownType(b'\n')),
        (b"$?\r\n", Streamed),
        (b"*?\r\n", Streamed),
        (b"%?\r\n", Streamed),
        (b";4\r\n", Streamed),
        (b".", Streamed),
        (b"$-2\r\n", BadLength),
        (b"$\r\n", BadLength),
        (b"$ 5\r\n", BadLength),
        (b"$5a\r\n", BadLength),
        (b"$18446744073709551616\r\n", BadLength),
        (b"*-2\r\n", BadLength),
        (b"*1.0\r\n", BadLength),
        (b"%-1\r\n", BadLength),
        (b"~-1\r\n", BadLength),
        (b">-1\r\n", BadLength),
        (b"|-1\r\n", BadLength),
        (b"!-1\r\n", BadLength),
        (b"=-1\r\n", BadLength),
        (b":\r\n", BadInteger),
        (b":1 \r\n", BadInteger),
        (b":9223372036854775808\r\n", BadInteger),
        (b"_x\r\n", BadValue(b'_')),
        (b"#\r\n", BadValue(b'#')),
        (b"#true\r\n", BadValue(b'#')),
        (b",one\r\n", BadValue(b',')),
        (b"(1.5\r\n", BadValue(b'(')),
        (b"=3\r\ntxt\r\n", BadValue(b'=')),
        (b"=4\r\ntxt \r\n", BadValue(b'=')),
        (b"+OK\n", BadLineEnd),
        (b"+O\rK\r\n", BadLineEnd),
        (b"$2\r\nabc\r\n", BadLineEnd),
        (b"$2\r\nab\n\r", BadLineEnd),
        (b"$2\r\n\r\n$1", BadLineEnd),
    ];
    for (bytes, error) in cases {
        let shown = bytes.escape_ascii();
        assert_eq!(decode(bytes), Err(*error), "{shown}");
        assert_eq!(decode_in_pieces(LIMITS, bytes, 1), Err(*error), "{shown}, a byte at a time");
        let nested = [b"*2\r\n:1\r\n", *bytes].concat();
        assert_eq!(decode(&nested), Err(*error), "{shown}, nested");
    }
}

#[test]
fn an_error_poisons_the_decoder() {
    let mut decoder = Decoder::new(LIMITS);
    let mut buffer = BytesMut::from("*2\r\n$3\r\nabc\r\n:x\r\n");
    assert_eq!(decoder.decode(&mut buffer), Err(DecodeError::BadInteger));
    let mut fresh = BytesMut::from("+OK\r\n");
    assert_eq!(decoder.decode(&mut fresh), Err(DecodeError::BadInteger));
    assert_eq!(&fresh[..], b"+OK\r\n", "nothing is consumed any more");
}

#[test]
fn nothing_is_held_nor_wanted_after_an_error() {
    let mut decoder = Decoder::new(LIMITS);
    let mut buffer = BytesMut::with_capacity(100);
    buffer.extend_from_slice(b"*2\r\n$3\r\nabc\r\n$3\r\nab");
    let whole = buffer.capacity();
    assert_eq!(decoder.decode(&mut buffer), Ok(None));
    buffer.extend_from_slice(b"cde");
    assert_eq!(decoder.decode(&mut buffer), Err(DecodeError::BadLineEnd));
    assert_eq!(decoder.wanted(), 0);
    buffer.clear();
    assert!(buffer.try_reclaim(whole), "no slice of the buffer is alive");
}

#[test]
fn error_texts_name_the_limit() {
    assert_eq!(DecodeError::TooDeep { limit: 7 }.to_string(), "a reply is nested deeper than max_depth (7)");
    assert_eq!(
        DecodeError::UnknownType(0x15).to_string(),
        r"a frame starts with '\x15', which is no RESP type"
    );
}

/// Stands for a reply that was dropped, of which `payload` bytes were counted.
fn oversized(payload: u64) -> Frame {
    Frame::Oversized { announced: payload }
}

#[test]
fn a_reply_that_is_too_deep_is_dropped_and_the_next_is_right() {
    let limits = FrameLimits { max_depth: 3, ..LIMITS };
    let nested = |depth| [b"*1\r\n".repeat(depth), b"+a\r\n".to_vec()].concat();
    let then = |reply: &[u8]| [reply, b":7\r\n"].concat();
    for piece in [1, 5, 100] {
        let decoded = |bytes: &[u8]| decode_in_pieces(limits, &then(bytes), piece).expect("no push");
        assert!(!decoded(&nested(3)).contains(&oversized(1)));
        for (too_deep, payload) in [
            (&nested(4)[..], 1),
            (&nested(8_192), 1),
            (b"*1\r\n*1\r\n*1\r\n*0\r\n", 0),
            (b"*1\r\n*1\r\n*2\r\n%2\r\n+a\r\n*0\r\n+b\r\n|1\r\n+c\r\n~1\r\n+d\r\n_\r\n:1\r\n", 2),
            (b"*1\r\n*1\r\n*2\r\n|1\r\n+a\r\n*1\r\n+b\r\n:1\r\n:2\r\n", 0),
        ] {
            let frames = decoded(too_deep);
            assert_eq!(frames, [oversized(payload), Frame::Integer(7)], "{}", too_deep.escape_ascii());
        }
        let push = [b">1\r\n".to_vec(), nested(3)].concat();
        assert_eq!(decode_in_pieces(limits, &push, piece), Err(DecodeError::TooDeep { limit: 3 }));
        let within = b"*1\r\n*1\r\n*1\r\n*1\r\n>1\r\n:1\r\n";
        assert_eq!(
            decode_in_pieces(limits, within, piece),
            Err(DecodeError::PushTooLarge { limit: 5000 }),
            "a push is never dropped"
        );
    }
    let flat = FrameLimits { max_depth: 0, ..LIMITS };
    assert_eq!(decode_in_pieces(flat, b":1\r\n*0\r\n", 1), Ok(vec![Frame::Integer(1), oversized(0)]));
}

#[test]
fn nesting_of_any_kind_and_size_cannot_overflow_the_stack() {
    for header in [&b"*1\r\n"[..], b"~1\r\n", b"%1\r\n:1\r\n", b"|1\r\n:1\r\n"] {
        let boundless = FrameLimits { max_depth: usize::MAX, max_elements: usize::MAX, ..LIMITS };
        for limits in [LIMITS, boundless] {
            let whole = [header.repeat(8_000), b":1\r\n".repeat(8_001)].concat();
            let frames = decode_in_pieces(limits, &whole, 4096).expect("no server sends more");
            assert_eq!(frames[0], oversized(0), "{}", header.escape_ascii());
            let refused = decode_in_pieces(limits, &header.repeat(10_000), 4096);
            assert_eq!(refused, Err(DecodeError::TooDeep { limit: limits.max_depth.min(MAX_DEPTH) }));
        }
    }
    assert_eq!(refusal(&b">1\r\n".repeat(10_000)), DecodeError::TooDeep { limit: 20 });
}

#[test]
fn the_deepest_frame_can_be_dropped_compared_printed_and_encoded() {
    let limits = FrameLimits { max_depth: MAX_DEPTH, ..LIMITS };
    let bytes = [b"%1\r\n:1\r\n".repeat(MAX_DEPTH), b":1\r\n".to_vec()].concat();
    let frames = decode_in_pieces(FrameLimits { max_elements: 2000, ..limits }, &bytes, 100)
        .expect("within the limits");
    assert_eq!(frames, frames.clone());
    assert!(format!("{frames:?}").len() > MAX_DEPTH);
    let mut again = BytesMut::new();
    frames[0].encode(&mut again, crate::Protocol::Resp3);
    assert_eq!(&again[..], &bytes[..]);
}

#[test]
fn a_reply_with_too_many_elements_is_dropped_and_the_next_is_right() {
    let limits = FrameLimits { max_elements: 5, ..LIMITS };
    let whole = b"*2\r\n*1\r\n:1\r\n*0\r\n*1\r\n:1\r\n";
    let many = [b"*1000\r\n".to_vec(), b"+ab\r\n".repeat(1000)].concat();
    let attributes = [b"|0\r\n".repeat(6), b"+abc\r\n".to_vec()].concat();
    for piece in [1, 7, 100_000] {
        let decoded =
            |bytes: &[u8]| decode_in_pieces(limits, &[bytes, b":7\r\n"].concat(), piece).expect("no push");
        assert_eq!(decoded(whole).len(), 3, "counted for each reply");
        for (bytes, payload) in [
            (&b"*2\r\n*2\r\n+a\r\n+b\r\n*1\r\n+c\r\n"[..], 3),
            (b"*5\r\n:1\r\n:2\r\n:3\r\n:4\r\n$1\r\na\r\n", 1),
            (b"%3\r\n:1\r\n:2\r\n:3\r\n:4\r\n:5\r\n:6\r\n", 0),
            (&many, 2000),
            (&attributes, 3),
        ] {
            assert_eq!(decoded(bytes), [oversized(payload), Frame::Integer(7)]);
        }
        let too_many = Err(DecodeError::TooManyElements { limit: 5 });
        assert_eq!(decode_in_pieces(limits, b">5\r\n", piece), too_many, "a push is never dropped");
        assert_eq!(decode_in_pieces(limits, b"*2\r\n>1\r\n:1\r\n*2\r\n", piece), too_many);
    }
    assert_eq!(decode_in_pieces(limits, &b"*0\r\n".repeat(6), 100).map(|frames| frames.len()), Ok(6));
}

#[test]
fn a_count_that_no_server_holds_is_refused() {
    for bytes in [&b"*18446744073709551615\r\n"[..], b"%9223372036854775807\r\n", b"~1099511627777\r\n"] {
        assert_eq!(refusal(bytes), DecodeError::TooManyElements { limit: usize::MAX });
    }
    assert_eq!(decode(b"*1099511627776\r\n"), Ok(vec![]));
}

#[test]
fn a_line_without_end_is_refused() {
    let limits = FrameLimits { max_line_bytes: 10, ..LIMITS };
    for piece in [1, 7, 1000] {
        let refused = decode_in_pieces(limits, &[b"+".to_vec(), b"x".repeat(1000)].concat(), piece);
        assert_eq!(refused, Err(DecodeError::LineTooLong { limit: 10 }));
        assert!(decode_in_pieces(limits, b"+0123456789\r\n:1\r\n", piece).is_ok());
    }
}

#[test]
fn an_announced_length_allocates_nothing() {
    let limits = FrameLimits { max_bulk_bytes: 1 << 30, max_frame_bytes: 1 << 30, ..LIMITS };
    let mut decoder = Decoder::new(limits);
    let mut buffer = BytesMut::from("$536870912\r\nabc");
    assert_eq!(decoder.decode(&mut buffer), Ok(None));
    assert!(buffer.capacity() < 100, "{}", buffer.capacity());
    assert_eq!(decoder.wanted(), 536_870_912 + 2 - 3);
    let boundless = FrameLimits { max_bulk_bytes: usize::MAX, max_frame_bytes: usize::MAX, ..LIMITS };
    let mut decoder = Decoder::new(boundless);
    for announced in ["$18446744073709551615\r\nabc", "def"] {
        buffer.clear();
        buffer.extend_from_slice(announced.as_bytes());
        assert_eq!(decoder.decode(&mut buffer), Ok(None));
        assert!(buffer.capacity() < 100);
    }
}

#[test]
fn an_announced_count_allocates_nothing() {
    let mut reply = PartialReply::new(FrameLimits { max_elements: usize::MAX, ..LIMITS });
    for kind in *b"*%~>" {
        assert_eq!(reply.open(kind, 1 << 38), Ok(None), "with_capacity would have aborted");
    }
}

#[test]
fn wanted_tells_what_a_string_lacks() {
    let mut decoder = Decoder::new(LIMITS);
    let mut buffer = BytesMut::from("*2\r\n$10");
    assert_eq!(decoder.decode(&mut buffer), Ok(None));
    assert_eq!(decoder.wanted(), 0);
    buffer.extend_from_slice(b"\r\n012345");
    assert_eq!(decoder.decode(&mut buffer), Ok(None));
    assert_eq!(decoder.wanted(), 6);
    buffer.extend_from_slice(b"6789\r");
    assert_eq!(decoder.decode(&mut buffer), Ok(None));
    assert_eq!(decoder.wanted(), 1);
    buffer.extend_from_slice(b"\n");
    assert_eq!(decoder.decode(&mut buffer), Ok(None));
    assert_eq!(decoder.wanted(), 0);
}

#[test]
fn an_oversized_string_is_dropped_as_it_arrives_and_the_next_reply_is_right() {
    for (kind, length) in [('$', 1001), ('=', 1001), ('!', 1001), ('$', 100_000)] {
        let mut decoder = Decoder::new(LIMITS);
        let mut buffer = BytesMut::from(format!("*2\r\n${}\r\n", 3).as_bytes());
        buffer.extend_from_slice(b"abc\r\n");
        buffer.extend_from_slice(format!("{kind}{length}\r\n").as_bytes());
        let mut left = length;
        while left > 0 {
            let piece = left.min(333);
            left -= piece;
            buffer.extend_from_slice(&b"\r".repeat(piece));
            assert_eq!(decoder.decode(&mut buffer), Ok(None));
            assert!(buffer.is_empty(), "dropped at once");
            assert_eq!(decoder.wanted(), 0, "nothing to make room for");
        }
        buffer.extend_from_slice(b"\r");
        assert_eq!(decoder.decode(&mut buffer), Ok(None));
        buffer.extend_from_slice(b"\n+next\r\n");
        let announced = length as u64;
        let whole = Frame::Array(vec![bulk("abc"), Frame::Oversized { announced }]);
        assert_eq!(decoder.decode(&mut buffer), Ok(Some(whole)));
        assert_eq!(decoder.decode(&mut buffer), Ok(Some(Frame::Simple(text("next")))));
    }
    let at_the_limit = [b"$1000\r\n".to_vec(), b"x".repeat(1000), b"\r\n".to_vec()].concat();
    assert_eq!(decode(&at_the_limit), Ok(vec![bulk(&"x".repeat(1000))]));
    assert_eq!(refusal(&[b"$1001\r\n".to_vec(), b"x".repeat(1003)].concat()), DecodeError::BadLineEnd);
}

#[test]
fn a_reply_over_the_limit_as_a_whole_is_dropped_and_the_next_is_right() {
    let limits = FrameLimits { max_frame_bytes: 10, max_bulk_bytes: 12, ..LIMITS };
    let next = Frame::Simple(text("0123456789"));
    let cases: &[(&[u8], u64)] = &[
        (b"$11\r\n01234567890\r\n", 11),
        (b"+01234567890\r\n", 11),
        (b"*3\r\n$6\r\n012345\r\n*2\r\n$5\r\n01234\r\n%1\r\n+a\r\n#t\r\n(1\r\n", 13),
        (b"*3\r\n$13\r\n0123456789abc\r\n$9\r\n012345678\r\n+ab\r\n", 24),
        (b"%1\r\n$6\r\n012345\r\n*2\r\n,1.23\r\n-ERR\r\n", 13),
        (b"*2\r\n$8\r\n01234567\r\n|1\r\n+attribute\r\n+attribute\r\n+abc\r\n", 11),
    ];
    for (bytes, announced) in cases {
        let stream = [*bytes, b"+0123456789\r\n", *bytes].concat();
        for piece in [1, 3, 1000] {
            let over = Frame::Oversized { announced: *announced };
            let expected = Ok(vec![over.clone(), next.clone(), over]);
            assert_eq!(decode_in_pieces(limits, &stream, piece), expected, "{}", bytes.escape_ascii());
        }
    }
    let attribute = b"|1\r\n+attribute\r\n$9\r\nattribute\r\n+0123456789\r\n";
    assert_eq!(
        decode_in_pieces(limits, attribute, 1),
        Ok(vec![next]),
        "attributes are not kept, so not counted"
    );
}

#[test]
fn nothing_is_held_of_a_reply_once_it_is_over_the_limit() {
    let mut decoder = Decoder::new(FrameLimits { max_frame_bytes: 10, ..LIMITS });
    let mut buffer = BytesMut::from("*3\r\n$6\r\n012345\r\n$6\r\n");
    let whole = buffer.capacity();
    assert_eq!(decoder.decode(&mut buffer), Ok(None));
    assert!(buffer.try_reclaim(whole), "no slice of the buffer is alive");
}

#[test]
fn a_push_is_never_dropped() {
    let limits = FrameLimits { max_frame_bytes: 15, ..LIMITS };
    let too_large = Err(DecodeError::PushTooLarge { limit: 15 });
    let long = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$6\r\n012345\r\n";
    assert_eq!(decode_in_pieces(limits, long, 1), too_large);
    let nested_first = b"*2\r\n>1\r\n$6\r\n012345\r\n$10\r\n0123456789\r\n";
    assert_eq!(decode_in_pieces(limits, nested_first, 1), too_large);
    let nested_last = b"*2\r\n$16\r\n0123456789abcdef\r\n>1\r\n:1\r\n";
    assert_eq!(decode_in_pieces(limits, nested_last, 1), too_large);
    assert_eq!(decode_in_pieces(limits, b"|1\r\n:1\r\n>1\r\n:1\r\n:1\r\n", 1), too_large);
    let after_a_push = b">1\r\n:1\r\n$16\r\n0123456789abcdef\r\n";
    let frames = vec![Frame::Push(vec![Frame::Integer(1)]), Frame::Oversized { announced: 16 }];
    assert_eq!(decode_in_pieces(limits, after_a_push, 1), Ok(frames));
}

#[test]
fn a_payload_is_a_slice_of_the_read_buffer() {
    let mut buffer = BytesMut::from("$5\r\nhello\r\n+OK\r\n");
    let start = buffer.as_ptr();
    let Ok(Some(Frame::Bulk(value))) = Decoder::new(LIMITS).decode(&mut buffer) else { panic!("a bulk") };
    assert_eq!(value.as_ptr(), start.wrapping_add(4));
}

#[test]
fn a_byte_at_a_time_costs_no_more_searching_than_all_at_once() {
    let length = 2_000_000;
    let limits =
        FrameLimits { max_line_bytes: length, max_bulk_bytes: length, max_frame_bytes: 3 * length, ..LIMITS };
    let line = [b"+".to_vec(), b"x".repeat(length), b"\r\n".to_vec()].concat();
    let string = [format!("${length}\r\n").into_bytes(), b"x".repeat(length), b"\r\n".to_vec()].concat();
    let many = [b"*999\r\n".to_vec(), b"$4\r\nabcd\r\n".repeat(999)].concat().repeat(200);
    for (stream, frames) in [(line, 1), (string, 1), (many, 200)] {
        let begun = std::time::Instant::now();
        assert_eq!(decode_in_pieces(limits, &stream, 1).map(|frames| frames.len()), Ok(frames));
        // A search from the start at every byte looks at 2 * 10^12 bytes, minutes at memory speed.
        assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    }
}
