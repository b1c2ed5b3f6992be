//! The scanner of replies, held against the decoder of them.

use bytes::BytesMut;
use resp::{DecodeError, Decoder, FrameLimits, MAX_DEPTH, ReplyScanner};

/// No limit that a short input reaches, but for the depth.
const NONE: FrameLimits = FrameLimits {
    max_bulk_bytes: 1 << 20,
    max_elements: usize::MAX,
    max_depth: MAX_DEPTH,
    max_line_bytes: 1 << 20,
    max_frame_bytes: 1 << 20,
};

/// Takes `data` for what a server sent and checks that the scanner finds the ends that the decoder finds, and refuses what
/// it refuses, however the bytes are cut. Where the decoder refuses what a line says, or how much a reply holds, they part.
///
/// # Panics
/// One of these does not hold.
pub fn reply_scanner(data: &[u8]) {
    let scanned = scan(data, |_| usize::MAX);
    assert_eq!(scan(data, |_| 1), scanned, "a byte at a time");
    assert_eq!(scan(data, |at| usize::from(data[at] % 32) + 1), scanned, "in pieces");
    let decoded = decode(data);
    match decoded.error {
        Some(
            DecodeError::BadInteger
            | DecodeError::BadValue(_)
            | DecodeError::TooDeep { .. }
            | DecodeError::TooManyElements { .. }
            | DecodeError::PushTooLarge { .. },
        ) => assert!(scanned.ends.starts_with(&decoded.ends), "{scanned:?} {decoded:?}"),
        Some(_) => {
            assert_eq!(scanned.ends, decoded.ends);
            assert!(scanned.error.is_some(), "{decoded:?}");
        }
        None => {
            assert_eq!(scanned.ends, decoded.ends);
            // The scanner does not wait for the end of a line that has gone wrong.
            let ended = decode(&[data, b"\r\n"].concat());
            assert!(scanned.error.is_none() || ended.error.is_some(), "{scanned:?} {ended:?}");
        }
    }
}

/// Where the replies of a stream end, of which type they are if that was looked at, and whether it is refused.
#[derive(Debug, PartialEq)]
struct Ends {
    ends: Vec<usize>,
    error: Option<DecodeError>,
}

fn scan(data: &[u8], size: impl Fn(usize) -> usize) -> Ends {
    let (mut scanner, mut ends) = (ReplyScanner::new(), Vec::new());
    let mut at = 0;
    while at < data.len() {
        let piece = &data[at..at.saturating_add(size(at)).min(data.len())];
        match scanner.scan(piece) {
            Ok(scanned) => {
                assert!(scanned.len > 0 && scanner.kind().is_some(), "it goes on");
                assert!(scanned.whole || scanned.len == piece.len(), "it takes all it can");
                at += scanned.len;
                if scanned.whole {
                    ends.push(at);
                }
            }
            Err(error) => return Ends { ends, error: Some(error) },
        }
    }
    Ends { ends, error: None }
}

fn decode(data: &[u8]) -> Ends {
    let (mut decoder, mut buffer, mut ends) = (Decoder::new(NONE), BytesMut::from(data), Vec::new());
    loop {
        match decoder.decode(&mut buffer) {
            Ok(Some(_)) => ends.push(data.len() - buffer.len()),
            Ok(None) => return Ends { ends, error: None },
            Err(error) => return Ends { ends, error: Some(error) },
        }
    }
}
