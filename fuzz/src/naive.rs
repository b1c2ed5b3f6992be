//! A judge for the decoder: the protocol read by recursion over the whole input, as simply as the rules can be put.
//!
//! It shares no code with the decoder, keeps no state between calls, copies everything and recurses; only for depths
//! that a thread's stack can hold.

use bytes::Bytes;
use resp::{DecodeError, Frame, FrameLimits};

use crate::replies::Decoded;

/// Most values that an aggregate may announce.
const MAX_ANNOUNCED: u128 = 1 << 40;
/// Most levels that are passed over.
const DEEPEST: usize = 8_192;

/// What a stream that consists of `data` means.
pub(crate) fn decode(limits: FrameLimits, data: &[u8]) -> Decoded {
    let mut frames = Vec::new();
    let mut rest = data;
    loop {
        let mut reply = Reply { limits, rest, elements: 0, kept: 0, payload: 0, over: false, push: false };
        match reply.value(0, false) {
            Ok(_) if reply.over => frames.push(Frame::Oversized { announced: reply.payload }),
            Ok(frame) => frames.push(frame),
            Err(Stop::More) => return Decoded { frames, error: None },
            Err(Stop::Refused(error)) => return Decoded { frames, error: Some(error) },
        }
        rest = reply.rest;
    }
}

enum Stop {
    /// The input ends before the reply does.
    More,
    Refused(DecodeError),
}

struct Reply<'a> {
    limits: FrameLimits,
    rest: &'a [u8],
    elements: usize,
    kept: usize,
    payload: u64,
    over: bool,
    push: bool,
}

impl<'a> Reply<'a> {
    /// One value `depth` levels down.
    fn value(&mut self, depth: usize, in_attribute: bool) -> Result<Frame, Stop> {
        let (kind, text) = self.line()?;
        self.value_of(kind, text, depth, in_attribute)
    }

    /// The value that begins with this line.
    fn value_of(&mut self, kind: u8, text: &[u8], depth: usize, in_attribute: bool) -> Result<Frame, Stop> {
        self.elements += 1;
        if self.elements > self.limits.max_elements {
            self.drop_all(DecodeError::TooManyElements { limit: self.limits.max_elements })?;
        }
        match kind {
            b'+' => Ok(Frame::Simple(self.pay(text, in_attribute)?)),
            b'-' => Ok(Frame::Error(self.pay(text, in_attribute)?)),
            b',' if utf8(text).parse::<f64>().is_ok() => Ok(Frame::Double(self.pay(text, in_attribute)?)),
            b'(' if is_number(text) => Ok(Frame::BigNumber(self.pay(text, in_attribute)?)),
            b':' => match utf8(text).parse() {
                Ok(number) => Ok(Frame::Integer(number)),
                Err(_) => refuse(DecodeError::BadInteger),
            },
            b'_' if text.is_empty() => Ok(Frame::Null),
            b'#' if text == b"t" => Ok(Frame::Boolean(true)),
            b'#' if text == b"f" => Ok(Frame::Boolean(false)),
            b',' | b'(' | b'_' | b'#' => refuse(DecodeError::BadValue(kind)),
            b'$' | b'*' if text == b"-1" => Ok(Frame::Null),
            b'$' | b'!' | b'=' => self.string(kind, length(text)?, in_attribute),
            _ => self.aggregate(kind, length(text)?, depth, in_attribute),
        }
    }

    fn string(&mut self, kind: u8, length: u64, in_attribute: bool) -> Result<Frame, Stop> {
        let oversized = length > self.limits.max_bulk_bytes as u64;
        let kept =
            if oversized { self.count(length, in_attribute) } else { self.admit(length, in_attribute)? };
        let Some(text) = usize::try_from(length).ok().and_then(|length| self.rest.get(..length)) else {
            return Err(Stop::More);
        };
        let Some(end) = self.rest.get(text.len()..text.len() + 2) else { return Err(Stop::More) };
        if end != b"\r\n" {
            return refuse(DecodeError::BadLineEnd);
        }
        self.rest = &self.rest[text.len() + 2..];
        match (kind, text) {
            _ if !kept => Ok(Frame::Oversized { announced: length }),
            (b'$', text) => Ok(Frame::Bulk(Bytes::copy_from_slice(text))),
            (b'!', text) => Ok(Frame::Error(Bytes::copy_from_slice(text))),
            (_, [a, b, c, b':', text @ ..]) => {
                Ok(Frame::Verbatim { format: [*a, *b, *c], text: Bytes::copy_from_slice(text) })
            }
            _ => refuse(DecodeError::BadValue(kind)),
        }
    }

    fn aggregate(&mut self, kind: u8, count: u64, depth: usize, in_attribute: bool) -> Result<Frame, Stop> {
        let values = if matches!(kind, b'%' | b'|') { u128::from(count) * 2 } else { u128::from(count) };
        if values > MAX_ANNOUNCED {
            return refuse(DecodeError::TooManyElements { limit: usize::MAX });
        }
        if kind == b'>' {
            if in_attribute || self.over {
                return refuse(DecodeError::PushTooLarge { limit: self.limits.max_frame_bytes });
            }
            self.push = true;
        }
        let too_deep = depth >= self.limits.max_depth;
        if too_deep {
            self.drop_all(DecodeError::TooDeep { limit: self.limits.max_depth })?;
        }
        if values + self.elements as u128 > self.limits.max_elements as u128 {
            self.drop_all(DecodeError::TooManyElements { limit: self.limits.max_elements })?;
        }
        let mut items = Vec::new();
        if too_deep {
            self.pass_over(depth, values, in_attribute || kind == b'|')?;
        } else {
            for _ in 0..values {
                items.push(self.value(depth + 1, in_attribute || kind == b'|')?);
            }
        }
        match kind {
            b'|' => self.value(depth, in_attribute), // the attribute is dropped; its value follows
            b'~' => Ok(Frame::Set(items)),
            b'>' => Ok(Frame::Push(items)),
            b'%' => Ok(Frame::Map(items.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())),
            _ => Ok(Frame::Array(items)),
        }
    }

    /// The values of an aggregate that lies too deep, without recursion.
    fn pass_over(&mut self, depth: usize, values: u128, in_attribute: bool) -> Result<(), Stop> {
        let mut levels = vec![(values, in_attribute)];
        while let Some((left, in_attribute)) = levels.last_mut() {
            if *left == 0 {
                levels.pop();
                continue;
            }
            let in_attribute = *in_attribute;
            let (kind, text) = self.line()?;
            *left -= u128::from(kind != b'|');
            if !b"*%~>|".contains(&kind) || text == b"-1" {
                self.value_of(kind, text, usize::MAX, in_attribute)?;
                continue;
            }
            self.elements += 1;
            let values = u128::from(length(text)?) * if matches!(kind, b'%' | b'|') { 2 } else { 1 };
            if values > MAX_ANNOUNCED {
                return refuse(DecodeError::TooManyElements { limit: usize::MAX });
            }
            if kind == b'>' {
                return refuse(DecodeError::PushTooLarge { limit: self.limits.max_frame_bytes });
            }
            if depth + levels.len() >= DEEPEST {
                return refuse(DecodeError::TooDeep { limit: self.limits.max_depth });
            }
            levels.push((values, in_attribute || kind == b'|'));
        }
        Ok(())
    }

    /// The type and text of the next line.
    fn line(&mut self) -> Result<(u8, &'a [u8]), Stop> {
        let Some((&kind, rest)) = self.rest.split_first() else { return Err(Stop::More) };
        if b";.".contains(&kind) {
            return refuse(DecodeError::Streamed);
        }
        if !b"+-:$*_#,(!=%~>|".contains(&kind) {
            return refuse(DecodeError::UnknownType(kind));
        }
        let limit = self.limits.max_line_bytes;
        let length = rest.iter().take_while(|byte| !b"\r\n".contains(byte)).count();
        if length > limit {
            return refuse(DecodeError::LineTooLong { limit });
        }
        match rest[length..] {
            [] | [b'\r'] => Err(Stop::More),
            [b'\r', b'\n', ..] => {
                self.rest = &rest[length + 2..];
                Ok((kind, &rest[..length]))
            }
            _ => refuse(DecodeError::BadLineEnd),
        }
    }

    fn pay(&mut self, text: &[u8], in_attribute: bool) -> Result<Bytes, Stop> {
        self.admit(text.len() as u64, in_attribute)?;
        Ok(Bytes::copy_from_slice(text))
    }

    /// Whether `length` bytes are kept.
    fn admit(&mut self, length: u64, in_attribute: bool) -> Result<bool, Stop> {
        self.count(length, in_attribute);
        if in_attribute || self.over {
            return Ok(false);
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        self.kept = self.kept.saturating_add(length);
        if self.kept > self.limits.max_frame_bytes {
            self.drop_all(DecodeError::PushTooLarge { limit: self.limits.max_frame_bytes })?;
        }
        Ok(!self.over)
    }

    fn drop_all(&mut self, refusal: DecodeError) -> Result<(), Stop> {
        if self.push {
            return refuse(refusal);
        }
        self.over = true;
        Ok(())
    }

    fn count(&mut self, length: u64, in_attribute: bool) -> bool {
        if !in_attribute {
            self.payload = self.payload.saturating_add(length);
        }
        false
    }
}

fn refuse<T>(error: DecodeError) -> Result<T, Stop> {
    Err(Stop::Refused(error))
}

/// Bytes that are not UTF-8 are no number either.
fn utf8(text: &[u8]) -> &str {
    std::str::from_utf8(text).unwrap_or("")
}

fn is_number(text: &[u8]) -> bool {
    let text = utf8(text);
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    !digits.is_empty() && digits.chars().all(|digit| digit.is_ascii_digit())
}

fn length(text: &[u8]) -> Result<u64, Stop> {
    if text == b"?" {
        return refuse(DecodeError::Streamed);
    }
    match utf8(text).parse() {
        Ok(length) if text[0] != b'+' => Ok(length),
        _ => refuse(DecodeError::BadLength),
    }
}
